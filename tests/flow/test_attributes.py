# SPDX-License-Identifier: MIT
"""Attributes of events: who sent them, by which way, as hosts have verified it, whatever payloads and peers say."""

import asyncio
import json
import signal
import socket
import ssl
import time

import pytest
import websockets

import link_peer
from conftest import unused_port, whole_lines
from flowlib import udp_port
from pki import Pki

ALL = {"peer": "@peer", "origin": "@origin", "path": "@path", "address": "@address", "input": "@input", "received": "@received"}
FORGED = {"peer": "x", "origin": "x", "path": "x", "address": "x", "input": "x", "received": 0,
          "@peer": "x", "@origin": "x", "@path": "x", "@address": "x", "@input": "x"}


def event(n, **more):
    return json.dumps({"n": n, **FORGED, **more}).encode()


def reveal(source, name="reveal", **more):
    """A filter that writes the attributes into the payload."""
    return {"id": name, "type": "filter", "inputs": [source], "config": {"fields": {"set": ALL}, **more}}


def store(out, source="reveal", name="file"):
    return {"id": name, "type": "storage", "inputs": [source], "config": {"path": str(out)}}


def udp(name="udp"):
    return {"id": name, "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}}


def rows(out):
    return [json.loads(line) for line in whole_lines(out)]


def arrived(program, out, n):
    program.wait_for(lambda: len(rows(out)) >= n, what=f"{n} events")
    return sorted(rows(out), key=lambda row: row["n"])


def folder(tmp_path, name):
    path = tmp_path / f"host-{name}"
    path.mkdir(exist_ok=True)
    return path


def context(pki, leaf):
    tls = ssl.create_default_context(cafile=pki.ca_file)
    tls.load_cert_chain(leaf.cert, leaf.key)
    return tls


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


class Senders:
    """UDP sockets, each with an address of its own."""

    def __init__(self, port, n=3):
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(n)]
        for s in self.sockets:
            s.connect(("127.0.0.1", port))
        self.addresses = ["%s:%d" % s.getsockname() for s in self.sockets]

    def send(self, first, count):
        for n in range(first, first + count):
            self.sockets[n % len(self.sockets)].send(event(n))

    def close(self):
        for s in self.sockets:
            s.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def leaves(pki):
    authority = pki.location("x")
    return {name: authority.leaf(f"{name}.example", sans=[f"{name}.example", "localhost", "127.0.0.1"]) for name in ("edge", "relay", "hub")}


def security(pki, leaf, server=None):
    """The TLS of a host; server: whom it lets in."""
    tls = {"client": {"mode": "manual", "ca_files": [pki.ca_file], **leaf.settings()}}
    if server is not None:
        tls["server"] = {"enabled": True, "mode": "manual", **leaf.settings(),
                         "mtls": {"enabled": True, "client_ca_files": [pki.ca_file], "require_client_cert": True,
                                  "allowed_client_cns": [f"{name}.example" for name in server]}}
    return {"tls": tls}


# ---- one host ----------------------------------------------------------------------------------------------


def test_datagrams(start, tmp_path):
    out, began = tmp_path / "out.jsonl", time.time() * 1000
    program = start({"components": [udp(), reveal("udp"), store(out)]})
    senders = Senders(udp_port(program))
    senders.send(0, 30)
    for row in arrived(program, out, 30):
        assert row["address"] == senders.addresses[row["n"] % 3]
        assert row["input"] == "udp"
        assert row["peer"] is row["origin"] is row["path"] is None
        assert began - 1000 <= row["received"] <= time.time() * 1000
        assert row["@origin"] == "x", "the payload's own members stay"
    senders.close()


def test_conditions_and_groups(start, tmp_path):
    out, counts = tmp_path / "out.jsonl", tmp_path / "counts.jsonl"
    port = unused_port(socket.SOCK_DGRAM)
    first = {**udp("first"), "config": {"port": port, "bind": "127.0.0.1"}}
    program = start({"components": [
        first, udp("second"),
        {"id": "only", "type": "filter", "inputs": ["first", "second"],
         "config": {"where": {"field": "@input", "op": "eq", "value": "first"}}},
        reveal("only"), store(out),
        {"id": "count", "type": "aggregate", "inputs": ["first", "second"],
         "config": {"window": {"type": "tumbling", "size": "1h"}, "group_by": ["@input", "@address"],
                    "functions": {"events": "count"}}},
        store(counts, "count", "counts")]})
    one, other = Senders(port, 1), Senders(udp_port(program, "second"), 2)
    other.send(0, 10)
    one.send(10, 5)
    assert [row["n"] for row in arrived(program, out, 5)] == list(range(10, 15))
    program.wait_for(lambda: program.metrics().sum("semstreams_events_in_total", component="count") == 15)
    assert program.terminate() == 0
    assert sorted((row["@input"], row["@address"], row["events"]) for row in rows(counts)) == sorted(
        [("first", one.addresses[0], 5), ("second", other.addresses[0], 5), ("second", other.addresses[1], 5)])
    one.close(), other.close()


def test_plain_peers_of_a_listener(start, tmp_path, pki, leaves):
    out, clear, port, open_port = tmp_path / "out.jsonl", tmp_path / "clear.jsonl", unused_port(), unused_port()
    program = start({"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "bind": "127.0.0.1", "trust_origin": ["edge.example"]}},
        reveal("in"), store(out)], "security": security(pki, leaves["hub"], ["edge", "relay"])})
    other = start({"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": open_port, "bind": "127.0.0.1", "format": "envelope"}},
        reveal("in"), store(clear)]}, folder=folder(tmp_path, "clear"))

    async def work():
        own = {}
        for n, name in enumerate(("edge", "relay")):
            async with websockets.connect(f"wss://127.0.0.1:{port}/", ssl=context(pki, leaves[name])) as ws:
                own[name] = "%s:%d" % ws.local_address[:2]
                await ws.send(event(n))
                await asyncio.to_thread(arrived, program, out, n + 1)
        async with websockets.connect(f"ws://127.0.0.1:{open_port}/") as ws:
            own["clear"] = "%s:%d" % ws.local_address[:2]
            await ws.send(json.dumps({"type": "data", "id": "1", "payload": {"n": 0}, "attributes": FORGED}))
            await asyncio.to_thread(arrived, other, clear, 1)
        return own
    own = run(work())
    for row, name in zip(arrived(program, out, 2), ("edge", "relay")):
        assert row["peer"] == row["origin"] == row["path"] == f"{name}.example"
        assert (row["address"], row["input"]) == (own[name], "in")
    row, = rows(clear)
    assert row["peer"] == "unverified:in" and row["origin"] is row["path"] is None
    assert (row["address"], row["input"]) == (own["clear"], "in")


def test_envelopes(start, tmp_path, pki, leaves):
    port, bare = unused_port(), unused_port()
    envelope = {"type": "websocket_output", "inputs": ["udp"]}
    program = start({"components": [
        udp(),
        {**envelope, "id": "out", "config": {"port": port, "bind": "127.0.0.1", "format": "envelope"}},
        {**envelope, "id": "bare", "config": {"port": bare, "bind": "127.0.0.1", "format": "envelope", "attributes": False}}]})
    senders = Senders(udp_port(program), 1)

    async def work():
        async with websockets.connect(f"ws://127.0.0.1:{port}/") as ws, websockets.connect(f"ws://127.0.0.1:{bare}/") as other:
            senders.send(7, 1)
            return json.loads(await ws.recv()), json.loads(await other.recv())
    message, other = run(work())
    assert message["attributes"] == {"address": senders.addresses[0], "input": "udp"}
    assert message["payload"]["n"] == other["payload"]["n"] == 7
    assert "attributes" not in other
    senders.close()


def test_names_that_are_no_attributes(command, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"components": [udp(), {
        "id": "f", "type": "filter", "inputs": ["udp"], "config": {"where": {"field": "@orign", "op": "exists"}}},
        store(tmp_path / "out", "f"),
        {"id": "in", "type": "websocket_input", "config": {"port": 1, "trust_origin": ["", 1]}}, store(tmp_path / "o2", "in", "o2")]}))
    result = command("check", str(config))
    assert result.returncode == 78
    assert '"@orign" is no attribute; there are @peer, @origin,' in result.stderr
    assert "must be a list of at most 10000 names of certificates" in result.stderr


# ---- over links --------------------------------------------------------------------------------------------


def dialer(port, source, **options):
    return {"id": "up", "type": "websocket_output", "inputs": [source],
            "config": {"url": f"wss://localhost:{port}/data", "retry_min": "50ms", "retry_max": "200ms", **options}}


def listener(port, **options):
    return {"id": "down", "type": "websocket_input", "config": {"port": port, "bind": "127.0.0.1", "path": "/data", **options}}


class Hops:
    """edge (UDP) to relay to hub, each with a certificate; the hub stores what it knows of each event."""

    def __init__(self, start, tmp_path, pki, leaves, trusts=("edge", "relay"), spool=True):
        self.run, self.tmp_path, self.out, self.n = start, tmp_path, tmp_path / "out.jsonl", 0
        at_relay, at_hub = unused_port(), unused_port()
        trust = [{"trust_origin": [f"{name}.example" for name in names]} for names in (trusts[:1], trusts[1:])]

        def kept(name):
            return {"spool": {"path": str(tmp_path / f"spool-{name}")}} if spool else {"overflow": "block"}
        self.configs = {
            "edge": {"components": [{**udp("sensors"), "config": {"port": unused_port(socket.SOCK_DGRAM), "bind": "127.0.0.1"}},
                                    dialer(at_relay, "sensors", **kept("edge"))],
                     "security": security(pki, leaves["edge"])},
            "relay": {"components": [listener(at_relay, **trust[0]), dialer(at_hub, "down", **kept("relay"))],
                      "security": security(pki, leaves["relay"], ["edge"])},
            "hub": {"components": [listener(at_hub, **trust[1]), reveal("down"), store(self.out)],
                    "security": security(pki, leaves["hub"], ["relay"])}}
        self.programs = {}
        for name in ("hub", "relay", "edge"):
            self.begin(name)
        self.senders = Senders(self.configs["edge"]["components"][0]["config"]["port"])

    def begin(self, name):
        self.programs[name] = self.run(self.configs[name], folder=folder(self.tmp_path, name))

    def send(self, count):
        self.senders.send(self.n, count)
        self.n += count

    def kill(self, name):
        self.programs[name].signal(signal.SIGKILL)
        self.programs[name].wait()

    def received(self):
        return arrived(self.programs["hub"], self.out, self.n)

    def spooled(self, name, count):
        self.programs[name].wait_for(
            lambda: self.programs[name].metrics().sum("semstreams_events_out_total", component="up") >= count, what="spooled")

    def close(self):
        self.senders.close()


@pytest.fixture
def hops(start, tmp_path, pki, leaves):
    made = []

    def make(**options):
        made.append(Hops(start, tmp_path, pki, leaves, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def assert_from_edge(hops, row):
    assert row["peer"] == "relay.example"
    assert row["origin"] == "edge.example"
    assert row["path"] == "edge.example/relay.example"
    assert row["address"] == hops.senders.addresses[row["n"] % 3]
    assert row["input"] == "sensors"
    assert row["@origin"] == row["@peer"] == "x", "what the payload says of itself is the payload's"


@pytest.mark.parametrize("spool", [True, False], ids=["spool", "memory"])
def test_three_hops(hops, spool):
    chain, began = hops(spool=spool), time.time() * 1000
    chain.send(300)
    rows = chain.received()
    assert [row["n"] for row in rows] == list(range(300))
    for row in rows:
        assert_from_edge(chain, row)
        assert began - 1000 <= row["received"] <= time.time() * 1000


def test_three_hops_with_kills(hops):
    """What waits in a spool keeps its attributes, whoever is killed meanwhile."""
    chain = hops()
    chain.send(30)
    chain.received()
    chain.kill("hub")
    chain.send(60)
    chain.spooled("relay", 90)
    chain.kill("relay")
    chain.send(60)
    chain.spooled("edge", 150)
    chain.kill("edge")
    for name in ("edge", "relay", "hub"):
        chain.begin(name)
    chain.send(30)
    rows = chain.received()
    assert [row["n"] for row in rows] == list(range(180)), "each once"
    for row in rows:
        assert_from_edge(chain, row)


def test_who_is_not_believed(hops):
    """The hub does not take the relay's word: what comes from it is its own."""
    chain = hops(trusts=("edge",))
    chain.send(30)
    for row in chain.received():
        assert row["peer"] == row["origin"] == row["path"] == "relay.example"
        assert row["input"] == "down"
        assert row["address"] not in chain.senders.addresses and row["address"].startswith("127.0.0.1:")
    hub = chain.programs["hub"].metrics()
    assert hub.sum("semstreams_link_untrusted_origins_total") == 0, "nobody was asked, so nobody said"


LIE = {"peer": "lie", "origin": "relay.example", "path": "other/relay.example", "address": "192.0.2.1:1", "input": "lie", "verified": True}


async def deliver(port, sender, pki, leaf):
    async with websockets.connect(f"wss://localhost:{port}/data", ssl=context(pki, leaf), subprotocols=[link_peer.SUBPROTOCOL],
                                  compression=None) as ws:
        return await sender.run(ws, finish=True)


def test_an_edge_that_lies_changes_nothing(start, tmp_path, pki, leaves):
    out, port = tmp_path / "out.jsonl", unused_port()
    program = start({"components": [listener(port, trust_origin=["relay.example"]), reveal("down"), store(out)],
                     "security": security(pki, leaves["hub"], ["edge", "relay"])})
    # an edge that is not believed: what it says, asked or not, is left out and counted
    lying = link_peer.Sender([event(n) for n in range(5)], attributes=LIE, unasked=True)
    assert run(deliver(port, lying, pki, leaves["edge"])) == 1000
    for row in arrived(program, out, 5):
        assert row["peer"] == row["origin"] == row["path"] == "edge.example"
        assert row["input"] == "down" and row["address"].startswith("127.0.0.1:")
    assert program.metrics().sum("semstreams_link_untrusted_origins_total") == 5
    # the same words of a relay that is believed
    relay = link_peer.Sender([event(5)], attributes={**LIE, "origin": "far.example", "path": "far.example/near"})
    assert run(deliver(port, relay, pki, leaves["relay"])) == 1000
    row = arrived(program, out, 6)[5]
    assert (row["peer"], row["origin"], row["path"]) == ("relay.example", "far.example", "far.example/near/relay.example")
    assert (row["address"], row["input"]) == ("192.0.2.1:1", "lie")
    # and of one that says nothing: the origin is the relay
    silent = link_peer.Sender([event(6)])
    assert run(deliver(port, silent, pki, leaves["relay"])) == 1000
    row = arrived(program, out, 7)[6]
    assert row["peer"] == row["origin"] == row["path"] == "relay.example"
    assert program.metrics().sum("semstreams_link_untrusted_origins_total") == 5


def test_attributes_that_are_damaged_end_the_link(start, tmp_path, pki, leaves):
    out, port = tmp_path / "out.jsonl", unused_port()
    program = start({"components": [listener(port, trust_origin=["relay.example"]), reveal("down"), store(out)],
                     "security": security(pki, leaves["hub"], ["relay"])})
    bad = [{"origin": "a\nb"}, {"origin": "a" * 256}, {"path": "a" * 1024}, {"origin": "\x9b"}]
    for attributes in bad:
        sender = link_peer.Sender([event(0)], attributes=attributes)
        assert run(deliver(port, sender, pki, leaves["relay"])) == 4400, attributes
    assert rows(out) == []
    assert program.metrics().sum("semstreams_ws_bad_messages_total") == len(bad)


def test_a_receiver_that_asks(start, tmp_path):
    """Attributes come to who asks for them, each set once for a run of events."""
    port = unused_port()
    program = start({"components": [udp(), {"id": "out", "type": "websocket_output", "inputs": ["udp"],
                                            "config": {"port": port, "bind": "127.0.0.1", "path": "/data"}}]})
    senders = Senders(udp_port(program), 2)

    async def receive(receiver, count):
        async with websockets.connect(f"ws://127.0.0.1:{port}/data", subprotocols=[link_peer.SUBPROTOCOL], compression=None) as ws:
            return await receiver.run(ws, count=count)

    async def work():
        asks = link_peer.Receiver(consumer="asks", attributes=True)
        quiet = link_peer.Receiver(consumer="quiet")
        both = asyncio.gather(receive(asks, 20), receive(quiet, 20))
        await asyncio.to_thread(program.wait_for, lambda: program.metrics().sum("semstreams_link_up") == 2)
        senders.send(0, 20)
        assert await both == [1000, 1000]
        return asks, quiet
    asks, quiet = run(work())
    assert quiet.attributes == [None] * 20
    assert asks.attributes == [{"address": senders.addresses[n % 2], "input": "udp", "verified": False} for n in range(20)]
    assert [data for _, _, data in asks.stored] == [data for _, _, data in quiet.stored]
    senders.close()
