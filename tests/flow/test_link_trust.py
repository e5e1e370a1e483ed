# SPDX-License-Identifier: MIT
"""Trust between linked peers: streams belong to their senders, names to their certificates, and what one receiver
acknowledged in another's name is reported as lost."""

import asyncio
import json
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import websockets

import link_peer
from conftest import unused_port, whole_lines
from pki import Pki
from test_link_tls import CNS, context, federation  # noqa: F401

OPTIONS = {"subprotocols": [link_peer.SUBPROTOCOL], "compression": None, "max_size": link_peer.SIZE_MAX}


def dial(port, tls=None):
    scheme = "wss" if tls else "ws"
    return websockets.connect(f"{scheme}://localhost:{port}/data", ssl=tls, **OPTIONS)


def ready(program):
    status, body = program.get("/readyz")[:2]
    return status, body.decode() if isinstance(body, bytes) else body


def hello(consumer, resume=None):
    message = {"t": "hello", "v": 1, "stream": "", "consumer": consumer, "window": {"records": 100, "bytes": 1 << 20},
               "max_frame": 65536, "max_record": 65000}
    if resume:
        message["resume"] = resume
    return json.dumps(message)


async def answer(port, text, tls=None):
    """The answer to one message: a control message, or the close code."""
    async with dial(port, tls) as ws:
        await ws.send(text)
        try:
            return json.loads(await asyncio.wait_for(ws.recv(), 10))
        except websockets.ConnectionClosed:
            return ws.close_code


# ---- a stream belongs to its sender ---------------------------------------------------------------------------


class Thief(link_peer.Sender):
    """Continues the stream that HELLO tells of, ten records further on."""

    async def run(self, ws, peer=None, finish=False):
        self.hello = json.loads(await ws.recv())
        epoch = self.stolen or self.hello["resume"]["epoch"]
        await ws.send(json.dumps({"t": "welcome", "v": 1, "epoch": epoch, "first": 16, "next": 16, "max_frame": 65536,
                                  "max_record": 65000, "hb_ms": 20000}))
        await asyncio.sleep(0)
        ack = json.loads(await asyncio.wait_for(ws.recv(), 2))
        await ws.close()
        return ack


def listening(port, out, **options):
    return {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data", **options}},
        {"id": "file", "type": "storage", "config": {"path": str(out)}}]}


def dialling(port, out):
    config = listening(port, out)
    config["components"][0]["config"] = {"url": f"ws://127.0.0.1:{port}/data", "consumer": "hub"}
    return config


def listening_storage(federation, port, out):
    return {**listening(port, out), "security": {"tls": {"server": federation.server("a")}}}


def stored(out):
    return whole_lines(out)


def send_all(sender, port, tls, program, out, n):
    async def run():
        async with dial(port, tls) as ws:
            return await sender.run(ws, finish=True)
    asyncio.run(asyncio.wait_for(run(), 30))
    program.wait_for(lambda: len(stored(out)) >= n, what=f"{n} lines")


def test_no_sender_takes_over_the_stream_of_another(start, tmp_path, federation):
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(listening_storage(federation, port, out))
    b, c = (context(federation, federation.leaves[name]) for name in "bc")
    sender = link_peer.Sender([b'{"n":%d}' % n for n in range(5)])
    send_all(sender, port, b, program, out, 5)

    async def steal():
        thief = Thief()
        thief.stolen = sender.log["epoch"]
        async with dial(port, c) as ws:
            await thief.run(ws)
        return thief.hello
    try:
        seen = asyncio.run(asyncio.wait_for(steal(), 30))
        assert "resume" not in seen and sender.log["epoch"] not in json.dumps(seen), "what b gave is not told to c"
    except (asyncio.TimeoutError, websockets.ConnectionClosed):
        pass
    for n in range(5, 15):
        sender.append(b'{"n":%d}' % n)
    send_all(sender, port, b, program, out, 15)
    assert stored(out) == [json.dumps({"n": n}, separators=(",", ":")) for n in range(15)]
    assert program.metrics().sum("semstreams_link_lost_total") == 0

    # after a restart b is recognized, nothing comes twice, and nobody is told of its epoch
    program.signal(signal.SIGKILL)
    program.wait()
    program.log_file.unlink()
    program = start(listening_storage(federation, port, out))
    sender.log["cursor"] = 10
    send_all(sender, port, b, program, out, 15)
    sender.append(b'{"n":15}')
    send_all(sender, port, b, program, out, 16)
    assert stored(out) == [json.dumps({"n": n}, separators=(",", ":")) for n in range(16)]


# ---- two receivers with one name ---------------------------------------------------------------------------


def test_what_another_receiver_acknowledged_is_reported(start, tmp_path):
    """Another receiver of the name was there in between: first 601 for 301."""
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(listening(port, out, consumer="twin"))
    sender = link_peer.Sender([b"%d" % n for n in range(300)])
    send_all(sender, port, None, program, out, 300)
    assert ready(program)[0] == 200
    for n in range(300, 610):
        sender.append(b"%d" % n)
    sender.log["cursor"] = 600  # acknowledged by somebody else
    send_all(sender, port, None, program, out, 310)
    program.wait_log('ERROR Events lost: .*another receiver uses the name \\\\?"twin\\\\?".* from=301 to=600')
    program.wait_log("Link up stored=300 next=601")
    assert program.metrics().sum("semstreams_link_lost_total") == 300
    status, body = ready(program)
    assert "events 301 to 600 were lost" in body, (status, body)


def test_a_store_that_was_restored_is_reported(start, tmp_path):
    """File and commit record of an older day: what was acknowledged since will not come again, and both ends say so."""
    folders = {name: tmp_path / name for name in ("sender", "receiver", "backup")}
    folders["sender"].mkdir()
    folders["receiver"].mkdir()
    port, udp, out = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM), folders["receiver"] / "out.jsonl"
    sender = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data"}}]}, folder=folders["sender"])
    to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to.connect(("127.0.0.1", udp))

    def receive(first, last):
        """Of a receiver that is started, and stopped when these are acknowledged."""
        (folders["receiver"] / "log").unlink(missing_ok=True)
        receiver = start(dialling(port, out),
                         folder=folders["receiver"])
        receiver.wait_metric("semstreams_link_up", 1)
        for n in range(first, last + 1):
            to.send(b"%d" % n)
        receiver.wait_for(lambda: stored(out)[-1:] == [str(last)], what=f"line {last}")
        sender.wait_for(lambda: sender.metrics().sum("semstreams_link_unacked_events") == 0, what="the acknowledgement")
        return receiver

    assert receive(1, 300).terminate() == 0
    shutil.copytree(folders["receiver"], folders["backup"])
    assert receive(301, 600).terminate() == 0
    shutil.rmtree(folders["receiver"])
    folders["backup"].rename(folders["receiver"])
    receiver = receive(601, 610)
    receiver.wait_log("ERROR Events lost: .*or this store was restored from an older copy.* from=301 to=600")
    receiver.wait_log("Link up stored=300 next=601")
    sender.wait_log("ERROR Events lost: .*or its store was restored from an older copy.* from=301 to=600")
    for program in sender, receiver:
        assert program.metrics().sum("semstreams_link_lost_total") == 300
        assert "events 301 to 600 were lost" in degraded(program)
    assert stored(out) == [str(n) for n in [*range(1, 301), *range(601, 611)]]


def test_the_sender_reports_it_as_well(start):
    port, udp = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM)
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data"}}]})
    to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to.connect(("127.0.0.1", udp))

    def take(receiver, n):
        async def run():
            async with dial(port) as ws:
                return await receiver.run(ws, count=receiver.total + n)
        task = asyncio.wait_for(run(), 30)
        return asyncio.run(task)

    first, second = link_peer.Receiver(consumer="twin"), link_peer.Receiver(consumer="twin")

    async def known():
        async with dial(port) as ws:
            await ws.send(hello("twin"))
            await ws.recv()
    asyncio.run(known())
    for receiver, n in ((first, 5), (second, 4), (first, 3)):
        for i in range(n):
            to.send(b"%d" % i)
        take(receiver, n)
    assert program.metrics().sum("semstreams_link_lost_total") == 4
    program.wait_log("ERROR Events lost: .*two receivers use this name.* from=6 to=9")
    assert "events 6 to 9 were lost" in ready(program)[1]


def test_who_is_displaced_stays_away_longer_each_time(start):
    """Two receivers of one name must not displace each other all the time."""
    port, times = unused_port(socket.SOCK_STREAM), []

    async def run():
        over = asyncio.get_running_loop().create_future()

        async def serve(ws):
            times.append(time.monotonic())
            await ws.recv()
            await ws.close(4409, "a newer connection of the same consumer")
            if len(times) == 3:
                over.set_result(None)

        async with websockets.serve(serve, "127.0.0.1", port, **OPTIONS):
            program = start({"components": [
                {"id": "in", "type": "websocket_input",
                 "config": {"url": f"ws://127.0.0.1:{port}/data", "consumer": "twin", "retry_min": "10ms",
                            "retry_max": "1s"}}]})
            await asyncio.wait_for(over, 30)
            return program

    program = asyncio.run(run())
    assert times[1] - times[0] >= 0.9 and times[2] - times[1] >= 1.9, times
    program.wait_log('ERROR Another receiver uses the name .*twin.* and took over the link')
    assert "took over the link" in ready(program)[1]


# ---- names and room ---------------------------------------------------------------------------------------------


def optional(federation, port, folder, **more):
    server = federation.server("a", "b")
    server["mtls"]["require_client_cert"] = False
    return {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output",
         "config": {"port": port, "path": "/data", "spool": {"path": str(folder / "spool")}, **more}}],
        "security": {"tls": {"server": server}}}


def test_a_name_needs_its_certificate(start, tmp_path, federation):
    port = unused_port(socket.SOCK_STREAM)
    program = start(optional(federation, port, tmp_path))
    assert asyncio.run(answer(port, hello(CNS["b"]), context(federation))) == 4403
    program.wait_log(f"Consumer refused: this name needs its certificate.* consumer={CNS['b']}")
    assert program.metrics().sum("semstreams_link_refused_total") == 1
    assert asyncio.run(answer(port, hello("stranger"), context(federation)))["t"] == "welcome"
    with_cert = context(federation, federation.leaves["b"])
    assert asyncio.run(answer(port, hello("anything"), with_cert))["t"] == "welcome"


def test_a_name_that_was_used_with_a_certificate_needs_it(start, tmp_path, federation):
    """Without a list of names, and after a restart."""
    port = unused_port(socket.SOCK_STREAM)
    config = optional(federation, port, tmp_path)
    del config["security"]["tls"]["server"]["mtls"]["allowed_client_cns"]
    program = start(config)
    anybody, with_cert = context(federation), context(federation, federation.leaves["b"])
    assert asyncio.run(answer(port, hello("stranger"), anybody))["t"] == "welcome"
    assert asyncio.run(answer(port, hello("anything"), with_cert))["t"] == "welcome"
    assert asyncio.run(answer(port, hello(CNS["b"]), anybody)) == 4403
    assert program.terminate() == 0
    program.log_file.unlink()
    program = start(config)
    assert asyncio.run(answer(port, hello(CNS["b"]), anybody)) == 4403
    program.wait_log(f"Consumer refused: this name needs its certificate.* consumer={CNS['b']}")
    assert asyncio.run(answer(port, hello("stranger"), anybody))["t"] == "welcome"


def test_the_consumer_after_the_last_is_refused(start):
    """The default limit, without certificates: one more hears so instead of losing what it acknowledges."""
    port = unused_port(socket.SOCK_STREAM)
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data"}}]})

    async def run():
        return [await answer(port, hello(f"c{n}")) for n in range(129)]
    answers = asyncio.run(asyncio.wait_for(run(), 60))
    assert {each["t"] for each in answers[:128]} == {"welcome"} and answers[128] == 1013
    program.wait_log("Consumer refused: no room for another name, see max_consumers.* consumer=c128")
    assert asyncio.run(answer(port, hello("c0")))["t"] == "welcome", "who is known has its room"


def test_room_for_consumers(start, tmp_path, federation):
    port = unused_port(socket.SOCK_STREAM)
    program = start(optional(federation, port, tmp_path, max_consumers=4))
    anybody = context(federation)
    assert asyncio.run(answer(port, hello("x1"), anybody))["t"] == "welcome"
    assert asyncio.run(answer(port, hello("x2"), anybody))["t"] == "welcome"
    assert asyncio.run(answer(port, hello("x3"), anybody)) == 1013, "before WELCOME"
    program.wait_log("Consumer refused: no room for another name, see max_consumers.* consumer=x3")
    assert program.metrics().sum("semstreams_link_refused_total") == 1
    with_cert = context(federation, federation.leaves["b"])
    assert asyncio.run(answer(port, hello(""), with_cert))["t"] == "welcome", "its room is not used up by strangers"


# ---- trust that ends ---------------------------------------------------------------------------------------------


def test_a_peer_that_is_not_allowed_any_more_is_cut(start, tmp_path, federation):
    port = unused_port(socket.SOCK_STREAM)
    config = {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data"}}],
        "security": {"tls": {"server": federation.server("a", "bc")}}}
    program = start(config)

    async def run():
        async with dial(port, context(federation, federation.leaves["b"])) as b, \
                dial(port, context(federation, federation.leaves["c"])) as c:
            for ws in (b, c):
                await ws.send(hello(""))
                assert json.loads(await ws.recv())["t"] == "welcome"
            changed = json.loads(program.config_file.read_text())
            changed["security"]["tls"]["server"] = federation.server("a", "b")
            program.config_file.write_text(json.dumps(changed))
            program.signal(signal.SIGHUP)
            began = time.monotonic()
            await asyncio.wait_for(c.wait_closed(), 10)
            assert c.close_code == 1008 and time.monotonic() - began < 10
            assert b.open
    asyncio.run(run())
    program.wait_log(f"connection cut off, the peer is no longer trusted: .* peer={CNS['c']}")


def pair_over_tls(start, tmp_path, server, client, **options):
    """(sender, receiver), linked or about to be."""
    port = unused_port(socket.SOCK_STREAM)
    folders = [tmp_path / f"{which}-{port}" for which in ("sender", "receiver")]
    for folder in folders:
        folder.mkdir()
    sender = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data", "bind": "127.0.0.1"}}],
        "security": {"tls": {"server": server}}}, folder=folders[0])
    receiver = start({"components": [
        {"id": "in", "type": "websocket_input",
         "config": {"url": f"wss://localhost:{port}/data", "retry_max": "500ms", **options}},
        {"id": "file", "type": "storage", "config": {"path": str(folders[1] / "out.jsonl")}}],
        "security": {"tls": {"client": client}}}, folder=folders[1])
    return sender, receiver


CUT = "connection cut off, the peer is no longer trusted: .*"


@pytest.mark.parametrize("expires, role", [("b", "server"), ("a", "client")])
def test_a_link_is_cut_when_a_certificate_expires(start, tmp_path, federation, expires, role):
    """A certificate of a few seconds, in use on a link that is up: who checked it cuts the link, and says so."""
    for life in 4, 12, 40:  # a busy machine may need more to get the link up
        until = time.time() + life
        leaf = federation.leaf(expires, days=(-1, life / 86400), file=f"short-{role}-{life}")
        settings = {"a": {}, "b": {}, expires: leaf.settings()}
        sender, receiver = pair_over_tls(start, tmp_path, federation.server("a", "b", **settings["a"]),
                                         federation.client("b", **settings["b"]))
        checks = {"server": sender, "client": receiver}[role]
        checks.wait_for(lambda: checks.metrics().sum("semstreams_link_up") == 1 or time.time() > until + 2, what="the link")
        if checks.metrics().sum("semstreams_ws_connected_total"):
            break
        sender.terminate()
        receiver.terminate()
    checks.wait_log(CUT + f"expired.* peer={CNS[expires]}" if role == "server" else CUT + "expired")
    assert time.time() >= until - 1, "not before"
    assert checks.metrics().sum("semstreams_tls_revoked_peers_total", role=role, reason="expired") == 1
    checks.wait_for(lambda: checks.metrics().sum("semstreams_link_up") == 0, what="the end of the link")
    checks.wait_for(lambda: checks.metrics().sum("semstreams_mtls_handshake_failures_total", role=role, reason="expired") >= 1,
                    what="a new link to be refused")


def test_a_link_is_cut_when_the_receiver_trusts_another_ca(start, tmp_path, federation):
    """The CA of the sender is taken out of the receiver's file while they are linked."""
    ca = tmp_path / "ca.crt"
    ca.write_bytes(Path(federation.pki.ca_file).read_bytes())
    sender, receiver = pair_over_tls(start, tmp_path, federation.server("a", "b"), federation.client("b", ca_files=[str(ca)]))
    receiver.wait_metric("semstreams_link_up", 1)
    new = tmp_path / "new.crt"
    new.write_bytes(Path(Pki(tmp_path / "other", "Another Root CA").ca_file).read_bytes())
    new.rename(ca)
    receiver.signal(signal.SIGHUP)
    receiver.wait_log(CUT)
    assert receiver.metrics().sum("semstreams_tls_revoked_peers_total", role="client") == 1
    receiver.wait_for(lambda: receiver.metrics().sum("semstreams_link_up") == 0, what="the end of the link")
    receiver.wait_for(lambda: receiver.metrics().sum("semstreams_mtls_handshake_failures_total", role="client") >= 1,
                      what="a new link to be refused")
    ca.write_bytes(ca.read_bytes() + Path(federation.pki.ca_file).read_bytes())
    receiver.signal(signal.SIGHUP)
    receiver.wait_metric("semstreams_link_up", 1)
    assert sender.terminate() == receiver.terminate() == 0


def degraded(program):
    """Its reasons, while it is ready: whoever asks for readiness must not keep peers from coming back."""
    status, body = ready(program)
    assert status == 200
    return " ".join(entry["reason"] for entry in json.loads(body)["degraded"])


def test_readiness_knows_a_link_that_never_came_up(start):
    port = unused_port(socket.SOCK_STREAM)
    program = start({"components": [
        {"id": "in", "type": "websocket_input",
         "config": {"url": f"ws://127.0.0.1:{port}/data", "down_after": "1s", "retry_max": "500ms"}}]})
    program.wait_for(lambda: re.search("no connection to ws://127.0.0.1:.*connection refused", degraded(program)),
                     what="the reason in /readyz")


@pytest.mark.parametrize("what, reason", [("ca", "certificate .*(unknown|issuer|not trusted|CA)"),
                                          ("name", "is valid for 'elsewhere.example', not 'localhost'")])
def test_readiness_knows_a_server_that_is_not_trusted(start, tmp_path, federation, what, reason):
    """A wrong CA, and a certificate that does not have the host of the URL."""
    client = federation.client("b")
    server = federation.server("a", "b")
    if what == "ca":
        client["ca_files"] = [str(Pki(tmp_path / "other", "Another Root CA").ca_file)]
    else:
        server.update(federation.locations["a"].leaf("elsewhere.example", sans=["elsewhere.example"]).settings())
    _, receiver = pair_over_tls(start, tmp_path, server, client, down_after="1s")
    receiver.wait_for(lambda: re.search(f"no connection to wss://localhost:.*({reason})", degraded(receiver)),
                      what="the reason in /readyz")


def test_readiness_knows_a_consumer_that_stays_away(start):
    port = unused_port(socket.SOCK_STREAM)
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data", "down_after": "2s"}}]})
    assert asyncio.run(answer(port, hello("hub")))["t"] == "welcome"
    program.wait_for(lambda: "'hub' has not been connected for" in degraded(program), what="the reason in /readyz")

    async def back():
        async with dial(port) as ws:
            await ws.send(hello("hub"))
            await ws.recv()
            while degraded(program):
                await asyncio.sleep(0.1)
    asyncio.run(asyncio.wait_for(back(), 20))


# ---- without links ------------------------------------------------------------------------------------------------


def test_without_links_nothing_is_kept(start):
    port, udp = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM)
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
        {"id": "page", "type": "websocket_output", "config": {"port": port, "path": "/data", "links": False}}]})
    to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to.connect(("127.0.0.1", udp))
    for i in range(100):
        to.send(b"x" * 1000)
    program.wait_metric("semstreams_events_dropped_total", 100, component="page", reason="no_consumer")
    assert program.metrics().sum("semstreams_spool_bytes", component="page") == 0

    async def subscribe():
        async with websockets.connect(f"ws://127.0.0.1:{port}/data", subprotocols=[link_peer.SUBPROTOCOL]) as ws:
            assert ws.subprotocol is None
            to.send(b"hello")
            assert await asyncio.wait_for(ws.recv(), 10) == "hello"
            ws.transport.abort()  # a closed tab
    asyncio.run(subscribe())
    program.wait_log("Connection closed code=1006")
    assert "WARN" not in program.log()
