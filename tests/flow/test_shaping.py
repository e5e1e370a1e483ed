# SPDX-License-Identifier: MIT
"""Limits on bytes per second: they hold, nothing is lost by them, and what is urgent passes what has time."""

import json
import socket
import subprocess
import time

import pytest

from conftest import PATIENCE, TREE, Program, unused_port, whole_lines


class Line:
    """A host with outputs that share a line to a hub, which stores what each of them brings in a file of its own."""

    def __init__(self, binary, folder, outputs):
        self.folder, self.names = folder, list(outputs)
        self.udp = {name: unused_port(socket.SOCK_DGRAM) for name in outputs}
        ports = {name: unused_port(socket.SOCK_STREAM) for name in outputs}
        hub, edge = [], []
        for name, options in outputs.items():
            hub += [{"id": f"in-{name}", "type": "websocket_input", "config": {"port": ports[name], "path": "/data"}},
                    {"id": f"file-{name}", "type": "storage", "inputs": [f"in-{name}"],
                     "config": {"path": str(folder / "hub" / f"{name}.jsonl"), "sync": "relaxed"}}]
            edge += [{"id": f"udp-{name}", "type": "udp_input", "config": {"port": self.udp[name], "bind": "127.0.0.1"}},
                     {"id": name, "type": "websocket_output", "inputs": [f"udp-{name}"],
                      "config": {"url": f"ws://localhost:{ports[name]}/data", "retry_min": "50ms", "retry_max": "200ms",
                                 "spool": {"path": str(folder / "edge" / name), "sync": "relaxed"}, **options}}]
        self.programs = []
        self.edge_config = edge
        self.binary = binary
        self.hub = self.run("hub", hub)

    def start_edge(self):
        self.edge = self.run("edge", self.edge_config)

    def run(self, name, components):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        program = Program(self.binary, folder, {"components": components})
        self.programs.append(program)
        return program.wait_ready()

    def send(self, name, numbers, size=1000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.1", self.udp[name]))
            for i in numbers:
                s.send(json.dumps({"n": i, "pad": "x" * (size - 30)}).encode())
                if i % 50 == 49:
                    self.edge.wait_metric("semstreams_events_in_total", i + 1, component=f"udp-{name}")

    def arrived(self, name):
        try:
            text = (self.folder / "hub" / f"{name}.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line)["n"] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def close(self):
        for program in self.programs:
            program.close()


@pytest.fixture
def line(semstreams, tmp_path):
    lines = []

    def make(outputs):
        lines.append(Line(semstreams, tmp_path, outputs))
        lines[0].start_edge()
        return lines[0]

    yield make
    for one in lines:
        one.close()


def test_the_rate_holds_and_everything_arrives(line):
    """Bytes on links never exceed the rate over the time, and one message more; each event comes once, in order."""
    rate, burst, count = 100 << 10, 8 << 10, 400
    a = line({"history": {"max_rate": rate, "burst": burst}})
    started = time.monotonic()
    a.send("history", range(count))

    def all_is_there():
        sent = a.edge.metrics().sum("semstreams_ws_sent_bytes_total")
        # the scrape is older than the clock that is read after it
        assert sent <= rate * (time.monotonic() - started) + burst + burst + 1200
        return len(a.arrived("history")) >= count

    a.edge.wait_for(all_is_there, what="the backlog")
    assert a.arrived("history") == list(range(count))
    assert a.edge.metrics().sum("semstreams_link_rate_waits_total") > 10
    assert a.edge.terminate() == 0


def test_alarms_pass_history(line):
    """While a backlog drains, each alarm is stored before it has drained; the backlog loses nothing."""
    shared = {"max_rate": "64KiB", "burst": "4KiB", "rate_group": "wan"}
    a = line({"history": {**shared, "priority": 0}, "alarms": {**shared, "priority": 5}})
    a.send("history", range(400))
    for i in range(10):
        a.send("alarms", [i], size=200)
        a.hub.wait_for(lambda n=i: a.arrived("alarms") == list(range(n + 1)), what=f"alarm {i}")
        assert len(a.arrived("history")) < 400, "the backlog was too short to show anything"
    a.hub.wait_for(lambda: len(a.arrived("history")) >= 400, what="the backlog")
    assert a.arrived("history") == list(range(400))


def test_equals_share(line):
    """Two outputs of one priority: when the first has brought its backlog, the other is not far behind."""
    shared = {"max_rate": "128KiB", "burst": "4KiB", "rate_group": "wan"}
    a = line({"one": shared, "two": shared})
    a.send("one", range(200))
    a.send("two", range(200))
    a.hub.wait_for(lambda: len(a.arrived("two")) >= 200, what="the second backlog")
    a.hub.wait_for(lambda: len(a.arrived("one")) >= 200, what="the first backlog")
    assert a.arrived("one") == a.arrived("two") == list(range(200))


def test_links_of_one_output_take_turns(semstreams, tmp_path):
    """One listening output, two consumers that come back: neither waits until the other has everything."""
    port, udp = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM)
    names, programs = ("one", "two"), {}

    def run(name, components):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        programs[name] = Program(semstreams, folder, {"components": components})
        return programs[name].wait_ready()

    def run_consumers():
        for name in names:
            run(name, [{"id": name, "type": "websocket_input", "config": {"url": f"ws://localhost:{port}/data"}},
                       {"id": "file", "type": "storage",
                        "config": {"path": str(tmp_path / name / "out.jsonl"), "sync": "relaxed"}}])

    def stored(name):
        file = tmp_path / name / "out.jsonl"
        return len(whole_lines(file))

    try:
        edge = run("edge", [
            {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
            {"id": "out", "type": "websocket_output",
             "config": {"port": port, "path": "/data", "max_rate": "50KiB", "burst": "4KiB",
                        "spool": {"path": str(tmp_path / "edge" / "spool"), "sync": "relaxed"}}}])
        run_consumers()
        edge.wait_metric("semstreams_link_up", 2)
        for name in names:
            programs[name].terminate()
            programs[name].close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for i in range(300):
                s.sendto(b'{"n": %d, "pad": "%s"}' % (i, b"x" * 900), ("127.0.0.1", udp))
                if i % 50 == 49:
                    edge.wait_metric("semstreams_events_in_total", i + 1, component="udp")
        run_consumers()
        # the second has a part before the first has all
        edge.wait_for(lambda: stored("two") > 20 or stored("one") == 300, what="records at the second")
        assert stored("one") < 300
        edge.wait_for(lambda: stored("one") == 300 and stored("two") == 300, what="all records at both")
    finally:
        for program in programs.values():
            program.close()


def test_alarms_on_a_thin_line(semstreams, tmp_path):
    """64 kbit/s and a backlog: the short form of tests/soak/line.  Two seconds of the line are what may pass an alarm: a measure
    that does not depend on how fast the machine is."""
    figures = tmp_path / "figures.json"
    done = subprocess.run([TREE / "tests" / "soak" / "line", "--semstreams", semstreams, "--backlog", "15", "--gap", "0.25", "--within",
                           str(PATIENCE), "--json", figures], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=20 * PATIENCE)
    if done.returncode == 77:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout
    found = json.loads(figures.read_text())
    assert found["backlog"] == 15 * 8000 // 500
    assert found["alarms"] > 10
    assert found["passed_p99"] * 500 < 2 * 8000


@pytest.mark.parametrize("options, pointer, text", [
    ({"burst": "1KiB"}, "max_rate", "need a max_rate"),
    ({"priority": 3}, "max_rate", "need a max_rate"),
    ({"max_rate": 1000, "links": False}, "max_rate", "links is false"),
    ({"max_rate": 1000, "priority": 8}, "priority", "from 0 to 7"),
    ({"max_rate": 2000, "rate_group": "wan"}, "rate_group", "has another max_rate or burst"),
    ({"max_rate": 1000, "rate_group": "wan", "burst": 10}, "rate_group", "has another max_rate or burst"),
])
def test_check(command, tmp_path, options, pointer, text):
    components = [{"id": "udp", "type": "udp_input", "config": {"port": 0}},
                  {"id": "first", "type": "websocket_output", "inputs": ["udp"],
                   "config": {"port": 0, "max_rate": 1000, "rate_group": "wan"}},
                  {"id": "second", "type": "websocket_output", "inputs": ["udp"], "config": {"port": 0, **options}}]
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"components": components}))
    result = command("check", "--config", file)
    assert result.returncode == 78
    assert text in result.stdout + result.stderr
    assert pointer in result.stdout + result.stderr
