# SPDX-License-Identifier: MIT
"""Many senders on one listener: each stream by itself, limits, and who is forgotten."""

import asyncio
import json
import socket
import subprocess

import pytest
import websockets

import link_peer
from conftest import unused_port, whole_lines
from test_link_tls import context, federation  # noqa: F401

OPTIONS = {"subprotocols": [link_peer.SUBPROTOCOL], "compression": None, "max_size": link_peer.SIZE_MAX, "open_timeout": 60}


def dial(port, stream=None, tls=None):
    scheme = "wss" if tls else "ws"
    headers = {"Semstreams-Stream": stream} if stream else {}
    return websockets.connect(f"{scheme}://localhost:{port}/data", ssl=tls, extra_headers=headers, **OPTIONS)


def hub(port, out, federation=None, **options):  # noqa: F811
    config = {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data", **options}},
        {"id": "file", "type": "storage", "config": {"path": str(out)}}]}
    return {**config, "security": {"tls": {"server": federation.server("a", "b")}}} if federation else config


def stored(out):
    return [json.loads(line) for line in whole_lines(out)]


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


async def send(port, sender, stream, tls=None):
    async with dial(port, stream, tls) as ws:
        return await sender.run(ws, finish=True)


def test_each_stream_is_by_itself(start, tmp_path):
    port, out, streams, events = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", 30, 40
    program = start(hub(port, out))
    senders = [link_peer.Sender([b'{"s":%d,"n":%d}' % (s, n) for n in range(events)]) for s in range(streams)]

    async def work():
        codes = await asyncio.gather(*(send(port, sender, f"stream {i}") for i, sender in enumerate(senders)))
        assert codes == [1000] * streams
    run(work())
    rows = stored(out)
    assert sorted((row["s"], row["n"]) for row in rows) == [(s, n) for s in range(streams) for n in range(events)]
    for s in range(streams):
        assert [row["n"] for row in rows if row["s"] == s] == list(range(events)), "in order"
    metrics = program.metrics()
    assert metrics.sum("semstreams_link_senders") == streams
    assert metrics.sum("semstreams_link_restarts_total") == 0


def test_the_newest_of_one_stream_wins(start, tmp_path):
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    start(hub(port, out))
    old, other, new = (link_peer.Sender([b'{"n":%d}' % n]) for n in range(3))

    async def work():
        async with dial(port, "one") as first, dial(port, "two") as second:
            await first.recv(), await second.recv()
            assert await send(port, new, "one") == 1000
            await first.wait_closed()
            assert first.close_code == 4409
            assert second.open, "another stream is left alone"
        assert await send(port, other, "two") == 1000
        assert await send(port, old, "three") == 1000
    run(work())
    assert sorted(row["n"] for row in stored(out)) == [0, 1, 2]


def test_outputs_of_one_host_are_streams(start, tmp_path):
    port, out, folder = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", tmp_path / "edge"
    program = start(hub(port, out))
    folder.mkdir()
    url = f"ws://127.0.0.1:{port}/data"
    edge = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "first", "type": "websocket_output", "config": {"url": url}, "inputs": ["udp"]},
        {"id": "second", "type": "websocket_output", "config": {"url": url, "stream": "name"}, "inputs": ["udp"]}]},
        folder=folder)
    program.wait_for(lambda: program.metrics().sum("semstreams_link_up") == 2, what="two links")
    assert edge.metrics().sum("semstreams_link_up") == 2
    assert program.metrics().sum("semstreams_link_senders") == 2


def test_a_name_has_so_many_streams(start, tmp_path, federation):  # noqa: F811
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(hub(port, out, federation, max_streams=2))
    tls = context(federation, federation.leaves["b"])

    async def work():
        first, second, third = (link_peer.Sender([b'{"n":%d}' % n]) for n in range(3))
        async with dial(port, "one", tls) as held:
            await held.recv()
            assert await send(port, second, "two", tls) == 1000
            async with dial(port, "two", tls) as also:
                await also.recv()
                assert await send(port, third, "three", tls) == 1013
                assert held.open and also.open
        # nobody is connected: the one that has sent and was away for longest gives way
        assert await send(port, third, "three", tls) == 1000
        assert await send(port, first, "one", tls) == 1000
    run(work())
    metrics = program.metrics()
    assert metrics.sum("semstreams_link_senders_refused_total") == 1
    assert metrics.sum("semstreams_link_senders_forgotten_total") == 1
    assert metrics.sum("semstreams_link_senders") == 2
    program.wait_log("ERROR Link refused: no room for another sender, its name has as many streams as max_streams allows")
    assert sorted(row["n"] for row in stored(out)) == [0, 1, 2]


def test_who_finds_no_room_comes_again(start, tmp_path):
    """Told when to come again, a dialer does not come before; the hub says that it turns clients away."""
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(hub(port, out, max_clients=1))

    async def work():
        async with dial(port, "one") as first:
            await first.recv()
            with pytest.raises(websockets.exceptions.InvalidStatusCode) as refused:
                await dial(port, "two")
            assert refused.value.status_code == 503
            assert 5 <= int(refused.value.headers["Retry-After"]) <= 15
            folder = tmp_path / "edge"
            folder.mkdir()
            edge = start({"components": [
                {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
                {"id": "up", "type": "websocket_output",
                 "config": {"url": f"ws://127.0.0.1:{port}/data", "retry_min": "10ms", "retry_max": "20ms"}}]}, folder=folder)
            edge.wait_log(r"the server answers 503 instead of upgrading, and asks to come again after \d+ s")
            return edge
    edge = run(work())
    status, page = program.get("/readyz")
    assert status == 200 and "clients are turned away: 1 are connected (max_clients)" in page
    program.wait_log(r"WARN Connection failed: \d connections refused: 1 clients are connected already \(max_clients\)")
    # it would have come some hundred times before
    program.wait_for(lambda: edge.metrics().sum("semstreams_link_up") == 1, what="the edge")
    assert edge.metrics().sum("semstreams_ws_failed_total") == 1
    assert program.metrics().sum("semstreams_ws_refused_total", reason="max_clients") == 2


def test_a_storm_is_let_in_one_after_the_other(start, tmp_path, federation):  # noqa: F811
    """More edges come at once than may shake hands at once: all get in, none is turned away."""
    port, out, edges = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", 60
    program = start(hub(port, out, federation, max_handshakes=4, max_streams=edges, handshake_timeout="60s"))
    tls = context(federation, federation.leaves["b"])
    senders = [link_peer.Sender([b'{"n":%d}' % n]) for n in range(edges)]

    async def work():
        assert await asyncio.gather(*(send(port, s, f"s{i}", tls) for i, s in enumerate(senders))) == [1000] * edges
    run(work())
    assert sorted(row["n"] for row in stored(out)) == list(range(edges))
    assert program.metrics().sum("semstreams_ws_connected_total") == edges


def test_the_sender_away_for_longest_is_forgotten(start, tmp_path):
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(hub(port, out, max_senders=3))
    senders = [link_peer.Sender([b'{"n":%d}' % n]) for n in range(5)]

    async def work():
        for i, sender in enumerate(senders):
            assert await send(port, sender, f"s{i}") == 1000
        # what a sender that is known has is told to it; one that was forgotten hears of nothing
        for i, known in (4, True), (0, False):
            async with dial(port, f"s{i}") as ws:
                hello = json.loads(await ws.recv())
                assert (hello.get("resume") is not None) == known
    run(work())
    metrics = program.metrics()
    assert metrics.sum("semstreams_link_senders_forgotten_total") == 3
    assert metrics.sum("semstreams_link_senders") == 2, "who was never live leaves no trace"
    assert sorted(row["n"] for row in stored(out)) == list(range(5))


MEMORY = 1 << 20


async def hello_of(ws):
    return json.loads(await ws.recv())["window"]["bytes"]


def test_windows_share_the_memory(start, tmp_path):
    """However many senders connect, what they may send together is not more, and each may send something."""
    port, out, n = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", 128
    program = start(hub(port, out, memory=MEMORY, max_senders=n, max_message=65536))

    async def work():
        links = [await dial(port, f"s{i}") for i in range(n)]
        windows = [await hello_of(ws) for ws in links]
        assert windows[0] > MEMORY // 8 and min(windows) >= MEMORY // 2 // n
        assert MEMORY // 2 < sum(windows) <= MEMORY
        await asyncio.to_thread(program.wait_metric, "semstreams_link_memory_bytes", sum(windows))
        assert program.metrics().sum("semstreams_link_memory_bytes") <= MEMORY
        for ws in links:
            await ws.close()
    run(work())
    program.wait_for(lambda: program.metrics().sum("semstreams_link_memory_bytes") == 0, what="the memory is free")


def test_memory_for_so_many(semstreams, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(hub(8080, tmp_path / "out", memory="1MiB", max_senders=129)))
    done = subprocess.run([semstreams, "check", str(file)], capture_output=True, text=True)
    assert done.returncode == 78
    assert "/components/0/config/memory" in done.stderr
    assert "must be at least 8KiB for each of max_senders (129)" in done.stderr


def test_fast_ones_leave_room(start, tmp_path):
    """Senders that send as fast as they may get larger windows, and one that says little is not kept waiting."""
    port, out, events = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", 4000
    program = start(hub(port, out, memory=MEMORY, max_senders=16, max_message=65536))
    seen = []

    async def watch():
        while True:
            seen.append((await asyncio.to_thread(program.metrics)).sum("semstreams_link_memory_bytes"))

    async def work():
        watcher = asyncio.ensure_future(watch())
        fast = [asyncio.ensure_future(send(port, link_peer.Sender([b'{"fast":%d,"text":"%s"}' % (i, b"x" * 900)] * events), f"f{i}"))
                for i in range(3)]
        for i in range(5):
            assert await send(port, link_peer.Sender([b'{"slow":%d}' % i]), f"s{i}") == 1000
        assert await asyncio.gather(*fast) == [1000] * 3
        watcher.cancel()
    run(work())
    assert len(stored(out)) == 3 * events + 5
    assert seen and max(seen) <= MEMORY


async def welcome(ws, hb_ms):
    """Answer HELLO for a stream that has nothing yet; the window."""
    window = await hello_of(ws)
    await ws.send(json.dumps({"t": "welcome", "v": 1, "epoch": "0a" * 16, "first": 1, "next": 1, "max_frame": 65536,
                              "max_record": 60000, "hb_ms": hb_ms}))
    return window


def test_a_silent_sender_gives_its_window_up(start, tmp_path):
    """It is told of a smaller window; later data beyond that ends the link, and is counted."""
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(hub(port, out, memory=MEMORY, max_senders=128, max_message=65536))
    part, idle = MEMORY // 256, MEMORY // 256 + MEMORY // 4 // 16

    async def work():
        async with dial(port, "silent") as ws:
            assert await welcome(ws, 10000) == part + MEMORY // 8

            async def beat():
                while True:
                    await ws.send('{"t":"hb"}')
                    await asyncio.sleep(0.5)
            beats = asyncio.ensure_future(beat())
            others = [await dial(port, f"s{i}") for i in range(15)]
            for other in others:
                await welcome(other, 3600000)
            window = MEMORY
            while window > idle:
                message = json.loads(await ws.recv())
                window = message["window"]["bytes"] if message["t"] == "ack" else window
            assert window == idle
            # what was granted before is given up when the sender must have heard of it
            await asyncio.to_thread(program.wait_metric, "semstreams_link_memory_bytes", 16 * idle + 1)
            await asyncio.to_thread(program.wait_for, lambda: program.metrics().sum("semstreams_link_memory_bytes") <= 16 * idle)
            await ws.send(link_peer.pack(1, [(0, b"x" * 60000)]))
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                while True:
                    await ws.recv()
            assert ws.close_code == 4402
            beats.cancel()
            for other in others:
                await other.close()
    run(work())
    program.wait_for(lambda: program.metrics().sum("semstreams_ws_close_total", code="4402") == 1, what="counted")


def test_a_record_that_the_window_does_not_hold(start, tmp_path):
    """Its sender says so, and gets a larger window for it."""
    port, udp, out, folder = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM), tmp_path / "out.jsonl", tmp_path / "edge"
    program = start(hub(port, out, memory=MEMORY // 4, max_senders=16))
    folder.mkdir()

    async def work():
        others = [await dial(port, f"s{i}") for i in range(2)]
        edge = start({"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
            {"id": "up", "type": "websocket_output", "config": {"url": f"ws://127.0.0.1:{port}/data"}}]}, folder=folder)
        await asyncio.to_thread(edge.wait_metric, "semstreams_link_up", 1)
        text = json.dumps({"n": 1, "text": "x" * 50000}).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(text, ("127.0.0.1", udp))
        await asyncio.to_thread(program.wait_for, lambda: len(stored(out)) == 1, what="the long record")
        assert program.metrics().sum("semstreams_link_memory_bytes") <= MEMORY // 4
        for ws in others:
            await ws.close()
    run(work())
