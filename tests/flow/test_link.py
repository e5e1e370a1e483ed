# SPDX-License-Identifier: MIT
"""Three locations, A to B to C, linked over WebSocket: every event arrives in C's file once, whatever is killed."""

import json
import random
import re
import signal
import socket

import pytest

from conftest import Program, unused_port


class Chain:
    """A (UDP in) -> B -> C (file), each a process with a folder of its own; B dials A, C dials B."""

    def __init__(self, binary, folder, tls=None):
        self.binary, self.folder, self.tls = binary, folder, tls or {}
        self.udp = unused_port(socket.SOCK_DGRAM)
        self.ports = {name: unused_port(socket.SOCK_STREAM) for name in "ab"}
        self.programs, self.starts = {}, 0
        self.out = folder / "c" / "out.jsonl"
        scheme = "wss" if tls else "ws"
        spool = lambda name: {"path": str(folder / name / "spool")}
        dial = lambda name: {"url": f"{scheme}://localhost:{self.ports[name]}/data", "retry_min": "50ms",
                             "retry_max": "200ms"}
        listen = lambda name: {"port": self.ports[name], "path": "/data", "spool": spool(name)}
        self.components = {
            "a": [{"id": "udp", "type": "udp_input", "config": {"port": self.udp, "bind": "127.0.0.1"}},
                  {"id": "edge", "type": "websocket_output", "config": listen("a")}],
            "b": [{"id": "from-a", "type": "websocket_input", "config": dial("a")},
                  {"id": "hub", "type": "websocket_output", "config": listen("b")}],
            "c": [{"id": "from-b", "type": "websocket_input", "config": dial("b")},
                  {"id": "file", "type": "storage", "config": {"path": str(self.out)}}],
        }

    def start(self, name):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        if name in self.programs:
            self.programs[name].close()
            (folder / "log").rename(folder / f"log.{self.starts}")  # the admin port is read from the log
        self.starts += 1
        config = {"components": self.components[name]}
        if name in self.tls:
            config["security"] = {"tls": self.tls[name]}
        self.programs[name] = self.run(name, folder, config).wait_ready()

    def run(self, name, folder, config):
        return Program(self.binary, folder, config)

    def kill(self, name):
        self.programs[name].signal(signal.SIGKILL)
        self.programs[name].wait()

    def close(self):
        for program in self.programs.values():
            program.close()

    def seqs(self):
        try:
            return [json.loads(line)["seq"] for line in self.out.read_text().splitlines(keepends=True)
                    if line.endswith("\n")]
        except FileNotFoundError:
            return []


@pytest.fixture
def chain(semstreams, tmp_path):
    c = Chain(semstreams, tmp_path)
    yield c
    c.close()


class Sender:
    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.sent = 0

    def send(self, n):
        for _ in range(n):
            try:
                self.socket.send(b'{"seq": %d, "sensor": "temperature", "value": 72.5}' % self.sent)
            except ConnectionRefusedError:
                pass
            self.sent += 1


def test_each_datagram_arrives_once(chain):
    for name in "cba":  # in the wrong order on purpose
        chain.start(name)
    sender = Sender(chain.udp)
    for _ in range(20):
        sender.send(500)
        chain.programs["a"].wait_metric("semstreams_events_in_total", sender.sent, component="udp")
    chain.programs["c"].wait_for(lambda: len(chain.seqs()) >= sender.sent, what="all events in C's file")
    assert chain.seqs() == list(range(sender.sent))
    for name in "abc":
        chain.programs[name].terminate()
        assert re.search("Stopped drained=true", chain.programs[name].log())


@pytest.mark.parametrize("victims", ["a", "b", "c", "abc"])
def test_kills_lose_and_double_nothing(chain, victims):
    """What A's spool took is in C's file exactly once, through kill -9 of anybody at any moment."""
    rng = random.Random(victims)
    for name in "abc":
        chain.start(name)
    sender = Sender(chain.udp)
    safe = set()  # numbers that A had taken into its spool
    for _ in range(12):
        a, first, victim = chain.programs["a"], sender.sent, rng.choice(victims)
        kept = a.metrics().sum("semstreams_events_out_total", component="edge")
        sender.send(200)
        if victim != "a" or rng.random() < 0.5:  # else A dies with them half taken in
            a.wait_metric("semstreams_events_out_total", kept + 200, component="edge")
            safe.update(range(first, sender.sent))
        chain.kill(victim)
        chain.start(victim)
    chain.programs["c"].wait_for(lambda: safe <= set(chain.seqs()), timeout=60, what="all that is safe in C's file")
    seqs = chain.seqs()
    assert len(seqs) == len(set(seqs)), "nothing twice"
