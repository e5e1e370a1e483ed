# SPDX-License-Identifier: MIT
"""The whole way over NATS: edge -> link -> hub with nats_output -> JetStream -> nats_input -> file, through kills and cuts.

Events with numbers go by UDP into an edge that is never hurt.  Meanwhile the hub, the reader and the servers are killed with
kill -9, servers are cut off, the stream is purged of what was read, and somebody else writes to it.  In the end each number
is in the file once, in order.  tests/soak/nats runs the same with many more faults.

Kinds: one (one server), cluster (three on loopback, those that are cut off are stopped meanwhile), netns (three on hosts of
their own, whose cables are pulled).
"""

import http.client
import json
import random
import signal
import socket
import time

import pytest
from conftest import PATIENCE, Metrics, Program, unused_port, whole_lines
from lab.hosts import Hosts, reason_not
from natslib import Cluster, Nats, until

FAULTS = {"hub": 5, "reader": 5, "server": 3, "cut": 2, "purge": 1, "writer": 1}  # and how often they come
BURST = 100  # datagrams, which the kernel's buffer holds in any case


class HostProgram(Program):
    """A program on a host of lab.hosts."""

    def __init__(self, host, *args, **kwargs):
        self.host = host
        super().__init__(*args, **kwargs)

    def _spawn(self, command, env, log):
        return self.host.popen(*command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def get(self, path):
        name, port = self.admin.rsplit(":", 1)
        connection = http.client.HTTPConnection(name, int(port), timeout=PATIENCE)
        connection.sock = self.host.socket()
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect((name, int(port)))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Chain:
    """All of it, in a folder."""

    def __init__(self, binary, folder, kind, seed):
        self.binary, self.folder, self.kind, self.random = binary, folder, kind, random.Random(seed)
        self.sent = self.foreign = self.lives = 0
        self.programs, self.hosts, self.us = {}, None, None
        self.out = folder / "reader" / "out.jsonl"
        if kind == "netns":
            self.hosts = Hosts(folder / "hosts")
            self.us = self.hosts.add("us")
            self.place = Cluster(folder / "nats", [self.hosts.add(f"n{i}") for i in (1, 2, 3)])
        elif kind == "cluster":
            self.place = Cluster(folder / "nats")
        else:
            self.place = Nats(folder / "nats")
        self.servers = getattr(self.place, "servers", [self.place])

    def __enter__(self):
        try:
            self.place.__enter__()
            with self.place.client() as js:
                js.add_stream("EVENTS", ["events.>"], replicas=len(self.servers))
            for name in ("edge", "hub", "reader"):
                self.start(name)
            self.udp = int(self.metrics("edge").sum("semstreams_udp_local_port"))
            self.socket = self.us.socket(socket.SOCK_DGRAM) if self.us else socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        for program in self.programs.values():
            program.close()
        for server in self.servers:
            if server.running:
                server.signal(signal.SIGCONT)
        self.place.__exit__()
        if self.hosts:
            self.hosts.close()

    # ---- programs

    def config(self, name):
        port = self.__dict__.setdefault("port", unused_port())
        urls = [server.url for server in self.servers]
        to_nats = {"servers": urls, "stream": "EVENTS", "timeout": "3s", "retry_max": "1s"}
        durability = "replicated" if len(self.servers) == 3 else "relaxed"
        return {"components": {
            "edge": [{"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
                     {"id": "link", "type": "websocket_output",
                      "config": {"port": port, "bind": "127.0.0.1", "path": "/events", "spool": {"path": "spool", "sync": "relaxed"}}}],
            "hub": [{"id": "edges", "type": "websocket_input",
                     "config": {"url": f"ws://127.0.0.1:{port}/events", "retry_min": "20ms", "retry_max": "200ms"}},
                    {"id": "work", "type": "nats_output",
                     "config": {**to_nats, "subject": "events.all", "durability": durability}}],
            "reader": [{"id": "in", "type": "nats_input", "config": {**to_nats, "durable": "archive", "batch": 64}},
                       {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}]}[name]}

    def start(self, name):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        if name in self.programs:
            self.programs.pop(name).close()
            self.lives += 1
            (folder / "log").rename(folder / f"log.{self.lives}")  # where a program listens is the first thing in its log
        args = (self.binary, folder, self.config(name))
        program = self.programs[name] = HostProgram(self.us, *args) if self.us else Program(*args)
        program.wait_ready()

    def metrics(self, name):
        status, text = self.programs[name].get("/metrics")
        assert status == 200
        return Metrics(text)

    def wait(self, condition, what, patience=3 * PATIENCE):
        def checked():
            for name, program in self.programs.items():
                assert program.process.poll() is None, f"{name} has ended; log:\n{program.log()[-8000:]}"
            return condition()
        try:
            return until(checked, what, patience)
        except AssertionError as e:
            logs = "".join(f"\n---- {name}\n{program.log()[-6000:]}" for name, program in self.programs.items())
            raise AssertionError(f"{e}{logs}") from None

    # ---- events

    def send(self, count):
        for _ in range(0, count, BURST):
            for _ in range(BURST):
                self.socket.sendto(b'{"n": %d, "pad": "%s"}' % (self.sent, b"x" * 60), ("127.0.0.1", self.udp))
                self.sent += 1
            self.wait(lambda: self.metrics("edge").sum("semstreams_udp_datagrams_total") == self.sent, "the edge to read all")

    def lines(self):
        return [line for line in whole_lines(self.out) if '"foreign"' not in line]

    def settle(self):
        """Until all is in the file, and the server knows."""
        self.wait(lambda: len(self.lines()) >= self.sent, f"{self.sent} lines")

        def over():
            with self.place.client(1) if len(self.servers) == 3 else self.place.client() as js:
                info = js.consumer("EVENTS", "archive")
                return info["num_pending"] == 0 and info["num_ack_pending"] == 0
        self.wait(over, "the last acknowledgement")

    def judge(self):
        self.settle()
        found = [json.loads(line)["n"] for line in self.lines()]
        if found != list(range(self.sent)):
            twice = len(found) - len(set(found))
            raise AssertionError(f"of {self.sent} events {len(set(range(self.sent)) - set(found))} are missing, {twice} are there "
                                 f"twice, in order: {found == sorted(found)}; {self.folder}")
        assert len(whole_lines(self.out)) - len(found) == self.foreign

    # ---- faults

    def pick(self):
        return self.random.choice(self.servers)

    def fault(self, what):
        getattr(self, f"do_{what}")()

    def kill(self, name):
        self.programs[name].process.kill()
        self.programs[name].process.wait()
        self.start(name)

    def do_hub(self):
        self.kill("hub")

    def do_reader(self):
        self.kill("reader")

    def do_server(self):
        leads = self.place.leader("EVENTS") if len(self.servers) == 3 and self.random.random() < 0.5 else None
        server = leads or self.pick()
        server.kill()
        self.send(BURST)
        server.start()
        self.recover()

    def do_cut(self):
        server = self.pick()
        cut, heal = (server.host.cut, server.host.plug) if server.host else \
            (lambda: server.signal(signal.SIGSTOP), lambda: server.signal(signal.SIGCONT))
        cut()
        try:
            self.send(BURST)
            time.sleep(self.random.uniform(0, 4))  # how long it lasts, not a wait for something
        finally:
            heal()
        self.recover()

    def recover(self):
        """With two of three away nothing would be stored, so a cluster is whole again before the next fault."""
        if len(self.servers) == 3:
            self.place.wait_current("EVENTS")

    def do_purge(self):
        """Of what was read: nothing may be missing."""
        self.settle()
        with self.place.client() as js:
            js.purge("EVENTS")

    def do_writer(self):
        """Somebody else writes where only one may: the hub waits until that has stopped, and goes on behind it."""
        with self.place.client() as js:
            js.publish("events.other", b'{"foreign": 1}')
        self.foreign += 1
        self.send(BURST)
        self.settle()


def attempt(binary, folder, kind, seed, faults, tell=lambda what: None, only=FAULTS):
    """As many faults, then judge; the events that were sent."""
    with Chain(binary, folder, kind, seed) as chain:
        for _ in range(faults):
            chain.send(BURST * chain.random.randint(1, 5))
            what = chain.random.choices(list(only), [FAULTS[name] for name in only])[0]
            chain.fault(what)
            tell(what)
        chain.judge()
        return f"{faults} faults, {chain.sent} events, each stored once"


@pytest.mark.parametrize("kind, faults", [("one", ("hub", "reader", "server", "cut", "purge")), ("cluster", ("server",))])
def test_each_event_is_stored_once(semstreams, tmp_path, kind, faults):
    with Chain(semstreams, tmp_path, kind, 1) as chain:
        for what in faults:
            chain.send(3 * BURST)
            chain.fault(what)
        chain.send(BURST)
        chain.judge()


@pytest.mark.slow
def test_cables_are_pulled(semstreams, tmp_path):
    if reason_not():
        pytest.skip(reason_not())
    with Chain(semstreams, tmp_path, "netns", 2) as chain:
        for what in ("cut",):
            chain.send(2 * BURST)
            chain.fault(what)
        chain.judge()


@pytest.mark.slow
def test_second_writer_is_fenced_and_passed(semstreams, tmp_path):
    with Chain(semstreams, tmp_path, "one", 3) as chain:
        chain.send(BURST)
        chain.settle()
        chain.fault("writer")
        assert "another writer publishes" in chain.programs["hub"].log()
        chain.judge()
