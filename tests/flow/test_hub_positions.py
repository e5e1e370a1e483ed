# SPDX-License-Identifier: MIT
"""Many senders at one listener: whatever is killed, what each of them was told is durable is there once, in the file, in the
spool and in the aggregate's groups; and the positions of thousands of streams.

Environment: HUB_KILLS = how many kills (12), HUB_SEED = the seed of a run to repeat.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import websockets

import link_peer
from conftest import unused_port
from test_exactly_once import acked, kill_at_random, pipeline, replay, run, sink, stored as stored_by  # noqa: F401
from test_link_tls import CNS, context, federation  # noqa: F401
from test_link_trust import dial, send_all, stored

KILLS = int(os.environ.get("HUB_KILLS", "12"))
SEED = int(os.environ.get("HUB_SEED", "12"))
BASE_MS = 1735689600000


def event(who, n, ms=BASE_MS):
    return json.dumps({"who": who, "n": n, "t": ms + n}, separators=(",", ":")).encode()


class Edge(threading.Thread):
    """A sender with a certificate of its own, that comes back until everything is acknowledged; its log is in memory."""

    def __init__(self, name, port, tls):
        super().__init__(daemon=True)
        self.who, self.port, self.tls = name, port, tls
        self.sender, self.feeding, self.ending = link_peer.Sender(), True, False
        self.start()

    def run(self):
        asyncio.run(self.work())

    async def feed(self):
        while self.feeding:
            for _ in range(5):
                self.sender.append(event(self.who, self.sender.log["next"]))
            await asyncio.sleep(0.003)

    async def work(self):
        feeding = asyncio.create_task(self.feed())
        while not self.ending:
            try:
                async with dial(self.port, self.tls) as ws:
                    running = asyncio.create_task(self.sender.run(ws))
                    while not self.ending and not running.done():
                        await asyncio.wait({running}, timeout=0.05)
                    await ws.close()
                    await running
            except (OSError, asyncio.TimeoutError, websockets.WebSocketException):
                await asyncio.sleep(0.02)  # the hub is not there
        await feeding


@pytest.fixture
def edges():
    all_of_them = {}
    yield all_of_them
    for edge in all_of_them.values():
        edge.feeding, edge.ending = False, True
    for edge in all_of_them.values():
        edge.join(10)


def hub(federation, port, out_port):
    return {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data"}},
        {"id": "file", "type": "storage", "inputs": ["in"], "config": {"path": "out.jsonl"}},
        {"id": "onward", "type": "websocket_output", "inputs": ["in"],
         "config": {"port": out_port, "path": "/data", "bind": "127.0.0.1", "spool": {"path": "spool"}}},
        {"id": "counts", "type": "aggregate", "inputs": ["in"], "config": {
            "window": {"type": "tumbling", "size": "1000000s"}, "group_by": "who", "time": {"field": "t", "format": "ms"},
            "functions": {"count": "count", "sum": "sum(n)"}, "checkpoint": {"path": "counts.state", "interval": "20ms"}}},
        {"id": "results", "type": "storage", "inputs": ["counts"], "config": {"path": "results.jsonl"}}],
        "security": {"tls": {"server": federation.server("a", "abc")}}}


def by_sender(lines):
    numbers = {}
    for line in lines:
        e = json.loads(line)
        numbers.setdefault(e["who"], []).append(e["n"])
    return numbers


def spooled(federation, port, count):
    receiver = link_peer.Receiver(consumer="test")

    async def run():
        async with dial(port, context(federation, federation.leaves["b"])) as ws:
            await receiver.run(ws, count=count)
    asyncio.run(asyncio.wait_for(run(), 30))
    return [data for _, _, data in receiver.stored]


def test_each_sender_is_exact_through_kills(start, tmp_path, federation, edges):
    port, out_port, rng = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_STREAM), random.Random(SEED)
    config, folder = hub(federation, port, out_port), tmp_path / "hub"
    folder.mkdir()
    for name in "abc":
        edges[name] = Edge(name, port, context(federation, federation.leaves[name]))
    for _ in range(KILLS):
        program = start(config, folder=folder)
        before = {name: edge.sender.log["cursor"] for name, edge in edges.items()}
        program.wait_for(lambda: all(edge.sender.log["cursor"] > before[name] for name, edge in edges.items()),
                         what="acknowledgements for each")
        moment = time.monotonic() + rng.random() * 0.1
        program.wait_for(lambda: time.monotonic() >= moment, what="the moment")
        program.signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
        assert "Events lost" not in program.log()
        (folder / "log").unlink()
    for edge in edges.values():
        edge.feeding = False
    program = start(config, folder=folder)
    program.wait_for(lambda: all(edge.sender.all_acked() for edge in edges.values()), what="the last acknowledgements")
    sent = {name: list(range(1, edge.sender.log["next"])) for name, edge in edges.items()}
    closing = edges["a"].sender
    closing.append(event("end", closing.log["next"], BASE_MS + 2 * 10**9))
    program.wait_for(lambda: len(stored(folder / "results.jsonl")) >= 3, what="the results")

    lines = [line for line in stored(folder / "out.jsonl") if '"end"' not in line]
    assert by_sender(lines) == sent, "in the file, each once and in order"
    results = {r["who"]: (r["count"], r["sum"]) for r in map(json.loads, stored(folder / "results.jsonl"))}
    assert results == {name: (len(n), sum(n)) for name, n in sent.items()}, "in the groups"
    total = sum(map(len, sent.values())) + 1
    assert by_sender(line for line in spooled(federation, out_port, total) if b'"end"' not in line) == sent, "in the spool"
    assert program.metrics().sum("semstreams_link_lost_total") == 0
    assert "Events lost" not in program.log()


def test_an_older_store_is_reported_for_each_sender(start, tmp_path, federation):
    port, folder = unused_port(socket.SOCK_STREAM), tmp_path / "hub"
    folder.mkdir()
    out = folder / "out.jsonl"
    config = {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data"}},
        {"id": "file", "type": "storage", "config": {"path": str(out)}}],
        "security": {"tls": {"server": federation.server("a", "abc")}}}
    tls = {name: context(federation, federation.leaves[name]) for name in "abc"}
    senders = {name: link_peer.Sender() for name in "abc"}

    def run(**more):
        """A run of the hub in which these send so many more."""
        (folder / "log").unlink(missing_ok=True)
        program = start(config, folder=folder)
        for name, count in more.items():
            log = senders[name].log
            for _ in range(count):
                senders[name].append(event(name, log["next"]))
            send_all(senders[name], port, tls[name], program, out, 0)
            assert senders[name].all_acked()
        return program

    assert run(a=10, b=20, c=30).terminate() == 0
    shutil.copytree(folder, tmp_path / "backup")
    assert run(a=1, b=5).terminate() == 0
    shutil.rmtree(folder)
    (tmp_path / "backup").rename(folder)
    program = run(a=1, b=2, c=3)
    for name, first, last in ("a", 11, 11), ("b", 21, 25):
        program.wait_log(f"ERROR Events lost: .*restored from an older copy.* from={first} to={last} peer={CNS[name]}")
    for name, at, after in ("a", 10, 12), ("b", 20, 26), ("c", 30, 31):
        program.wait_log(f"Link up stored={at} next={after} peer={CNS[name]}")
    assert program.metrics().sum("semstreams_link_lost_total") == 6
    assert program.log().count("Events lost") == 2
    assert by_sender(stored(out)) == {"a": [*range(1, 11), 12], "b": [*range(1, 21), 26, 27], "c": list(range(1, 34))}


def test_a_sender_is_told_of_its_own_position_only(start, tmp_path, federation):
    """After a restart as well."""
    port, folder = unused_port(socket.SOCK_STREAM), tmp_path / "hub"
    folder.mkdir()
    config = {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data"}},
        {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}],
        "security": {"tls": {"server": federation.server("a", "abc")}}}
    tls = {name: context(federation, federation.leaves[name]) for name in "abc"}
    senders = {name: link_peer.Sender([event(name, 1 + n) for n in range(count)]) for name, count in (("b", 3), ("c", 4))}

    async def greeting(name):
        async with dial(port, tls[name]) as ws:
            return json.loads(await asyncio.wait_for(ws.recv(), 10)).get("resume")

    program = start(config, folder=folder)
    for name, sender in senders.items():
        send_all(sender, port, tls[name], program, folder / "out.jsonl", 0)
    for end in "in this process", "after a restart":
        told = {name: asyncio.run(greeting(name)) for name in "abc"}
        assert told == {"a": None, **{name: {"epoch": s.log["epoch"], "seq": s.log["cursor"]} for name, s in senders.items()}}, end
        program.signal(signal.SIGKILL)
        program.wait()
        program.log_file.unlink()
        program = start(config, folder=folder)


# ---- more streams than a snapshot holds -----------------------------------------------------------------------


STREAMS = 3000
WINDOW = 10000  # numbers


def many(replay, port):
    """A source of so many streams, into everything that saves positions."""
    return pipeline(
        replay, {"id": "in", "type": "replay", "config": {"acked": "../in.acked", "streams": STREAMS}},
        sink("out", "in"),
        {"id": "onward", "type": "websocket_output", "inputs": ["in"],
         "config": {"port": port, "path": "/data", "bind": "127.0.0.1", "spool": {"path": "../spool"}}},
        {"id": "counts", "type": "aggregate", "inputs": ["in"], "config": {
            "window": {"type": "tumbling", "size": f"{WINDOW}ms"}, "time": {"field": "n", "format": "ms"},
            "functions": {"count": "count"}, "checkpoint": {"path": "../counts.state", "interval": "20ms"}}},
        sink("results", "counts"),
        positions={"max_streams": 10000})


def positions_files(folder):
    return sorted([*folder.glob("out/.out.positions.*"), *folder.glob("counts.state.positions.*"),
                   *folder.glob("spool/positions.*")])


def test_thousands_of_streams_are_exact_through_kills(replay, run, tmp_path):
    port, rng, before = unused_port(socket.SOCK_STREAM), random.Random(SEED), 0
    config = many(replay, port)
    for _ in range(KILLS):
        log = kill_at_random(run, config, rng, 1).log()
        assert "ERROR" not in log
        assert acked(tmp_path, "in") >= before
        before = acked(tmp_path, "in")
    while acked(tmp_path, "in") < 16 * 2 * STREAMS:  # each of them has come twice
        log = kill_at_random(run, config, rng, 5).log()
    program = run(config)
    program.wait_metric("semstreams_positions_streams", STREAMS, component="out")
    assert program.metrics().sum("semstreams_positions_retired_total") == 0
    assert program.terminate() == 0
    files = positions_files(tmp_path)
    assert {file.name.rpartition(".")[0] for file in files} == {".out.positions", "counts.state.positions", "positions"}
    assert len(files) <= 6 and all(file.stat().st_size < 2 << 20 for file in files)
    last = acked(tmp_path, "in")
    numbers = stored_by(tmp_path, "out")["in"]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= last
    results = [json.loads(line)["count"] for line in stored(tmp_path / "results" / "data.jsonl")]
    assert results == [WINDOW - 1] + [WINDOW] * (len(results) - 1) and len(results) >= last // WINDOW - 1


def damage(file):
    with file.open("r+b") as f:
        f.seek(file.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 4]))


def test_damaged_positions_are_reported_and_nothing_is_cut(replay, run, tmp_path):
    config = many(replay, unused_port(socket.SOCK_STREAM))
    program = run(config)
    program.wait_for(lambda: acked(tmp_path, "in") > 16 * 100, what="a hundred streams")
    program.signal(signal.SIGKILL)
    program.wait()
    was_acked = acked(tmp_path, "in")
    for file in positions_files(tmp_path):
        damage(file)
    config["components"] = config["components"][:-2]
    program = run(config)
    program.wait_log("ERROR The positions beside the commit record are damaged or gone: .* component=out")
    program.wait_log("ERROR The positions beside the spool are damaged or gone: .* component=onward")
    program.wait_for(lambda: acked(tmp_path, "in") > was_acked + 1000, what="more to be stored")
    assert program.terminate() == 0
    assert set(stored_by(tmp_path, "out")["in"]) >= set(range(1, was_acked + 1))
    # and once more, with the positions of a file that was begun anew
    program = run(config)
    program.wait_for(lambda: acked(tmp_path, "in") > was_acked + 2000, what="more to be stored")
    assert "are damaged" not in program.log()
    assert program.terminate() == 0


def test_an_aggregate_needs_its_positions(replay, run, tmp_path):
    config = many(replay, unused_port(socket.SOCK_STREAM))
    program = run(config)
    program.wait_for(lambda: acked(tmp_path, "in") > 16 * 100, what="a hundred streams")
    assert program.terminate() == 0
    for file in tmp_path.glob("counts.state.positions.*"):
        file.unlink()
    program = run(config, ready=False)
    assert program.wait() != 0
    program.wait_log("The checkpoint cannot be used .*the positions beside it .* are damaged or gone")


@pytest.mark.parametrize("text, says", [
    ({"max_streams": 10}, "/positions/max_streams"), ({"forget_after": "soon"}, "/positions/forget_after"),
    ({"max_stream": 5000}, 'did you mean "max_streams"'), (7, "/positions")])
def test_limits_are_checked(semstreams, replay, tmp_path, text, says):
    config = {**many(replay, 1), "positions": text}
    (tmp_path / "c.json").write_text(json.dumps(config))
    done = subprocess.run([semstreams, "check", tmp_path / "c.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 78 and says in done.stdout + done.stderr
