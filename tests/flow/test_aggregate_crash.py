# SPDX-License-Identifier: MIT
"""Aggregates in the middle of a federation, A to B to C: whoever is killed at whatever moment, what arrives in C's file are the
results of a run that nobody disturbed, each once.

A has a file of events and a spool, B aggregates with check-points and has a spool, C has storage.  The events say themselves
when they happened, out of order; so the results are known: from a run in one process, and for what is simple from a few
lines of Python.

Environment: AGGREGATE_KILLS = how many kills (25), AGGREGATE_SEED = the seed of a run to repeat.  tests/soak/aggregate does more.
"""

import collections
import json
import os
import random
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from conftest import PATIENCE, Program
from conftest import unused_port
from test_sdk import build

KILLS = int(os.environ.get("AGGREGATE_KILLS", "25"))
RATE = 1500  # events a second
EACH = 1000  # events for each kill, and then some: the load outlasts the kills
BASE_MS = 1735689600000  # 2025-01-01T00:00:00Z
LATENESS_MS = 400
TUMBLING_MS = 5000

FUNCTIONS = {
    "n": "count", "sum": "sum(v)", "min": "min(x)", "max": "max(x)", "mean": "mean(x)", "dev": "stddev(x)",
    "first": "first(n)", "last": "last(n)", "p": {"fn": "percentiles", "field": "v", "p": [50, 90, 95, 99]},
    "kinds": "distinct(s)", "spread": {"fn": "histogram", "field": "x", "bounds": [0, 10, 100]},
    "top": {"fn": "top", "field": "s", "k": 3}, "rate": "rate",
}
TIME = {"field": "t", "format": "ms", "lateness": f"{LATENESS_MS}ms"}


# ---- the events --------------------------------------------------------------------------------------------


def make_events(rng, count):
    """Events 10 ms apart, out of order, some of them too late; the last one ends all windows."""
    events = []
    for n in range(count):
        back = rng.choice((0, 0, 0, rng.randrange(LATENESS_MS), rng.randrange(20 * TUMBLING_MS) if n % 50 == 0 else 0))
        events.append({"t": BASE_MS + 10 * n - back, "n": n, "k": f"device-{rng.randrange(20)}", "v": rng.randrange(-10**15, 10**15),
                       "x": rng.choice((rng.random() * 200 - 50, rng.randrange(100), 1e300, 0.1)),
                       "s": f"kind-{min(rng.randrange(1, 40), rng.randrange(1, 40))}",
                       "who": f"user-{rng.randrange(300)}"})
    events.append({"t": BASE_MS + 10 * count + 86400000, "n": count, "k": "end", "who": "end"})
    return events


def by_hand(events):
    """What the tumbling windows say, as far as it is simple: {(window start ms, device): (n, sum, first, last)}, events too late"""
    windows, late, newest = {}, 0, 0
    for e in events[:-1]:
        newest = max(newest, e["t"])
        start = e["t"] - e["t"] % TUMBLING_MS
        if start + TUMBLING_MS <= newest - LATENESS_MS:
            late += 1
            continue
        n, total, first, last = windows.get((start, e["k"]), (0, 0, None, None))
        first = e if first is None or e["t"] < first["t"] else first
        last = e if last is None or e["t"] >= last["t"] else last
        windows[start, e["k"]] = n + 1, total + e["v"], first, last
    return {key: (n, total, first["n"], last["n"]) for key, (n, total, first, last) in windows.items()}, late


# ---- what runs ---------------------------------------------------------------------------------------------


def aggregate(name, source, window, by, interval, **options):
    config = {"window": window, "group_by": by, "functions": FUNCTIONS, "time": TIME, **options}
    if interval:
        config["checkpoint"] = {"path": f"{name}.state", "interval": interval}
    return {"id": name, "type": "aggregate", "inputs": [source], "config": config}


def hub(source, keep=True):
    """Four aggregates, one of them behind a filter."""
    interval = (lambda text: text) if keep else (lambda text: None)
    return [
        {"id": "some", "type": "filter", "inputs": [source], "config": {"where": {"field": "n", "op": "gt", "value": 100}}},
        aggregate("tumbling", source, {"type": "tumbling", "size": f"{TUMBLING_MS}ms"}, "k", interval("20ms"),
                  time={**TIME, "late": "emit"}),
        aggregate("sliding", source, {"type": "sliding", "size": "10s", "every": "2500ms"}, ["k"], interval("100ms"),
                  output="window"),
        aggregate("session", source, {"type": "session", "gap": "1500ms"}, ["who"], interval("1s")),
        aggregate("filtered", "some", {"type": "tumbling", "size": "7s", "offset": "1s"}, ["s", "k"], interval("300ms")),
    ]


RESULTS = ["tumbling.result", "tumbling.late", "sliding", "session", "filtered"]


class Federation:
    def __init__(self, binary, folder, plugin, events):
        self.binary, self.folder, self.plugin, self.starts = binary, Path(folder), plugin, 0
        self.ports = {name: unused_port(socket.SOCK_STREAM) for name in "ab"}
        self.programs = {}
        self.out = self.folder / "c" / "out.jsonl"
        self.events = self.folder / "events.jsonl"
        self.events.write_text("".join(json.dumps(e) + "\n" for e in events))
        self.rate = RATE
        for name in "abc":
            (self.folder / name).mkdir()

    def lines(self):
        return {"id": "lines", "type": "lines", "config": {"path": str(self.events), "acked": "acked", "rate": self.rate}}

    def components(self, name):
        dial = lambda to: {"url": f"ws://localhost:{self.ports[to]}/data", "retry_min": "20ms", "retry_max": "100ms"}
        listen = {"port": self.ports.get(name), "path": "/data", "spool": {"path": "spool"}}
        if name == "a":
            return [self.lines(), {"id": "edge", "type": "websocket_output", "inputs": ["lines"], "config": listen}]
        if name == "b":
            return [{"id": "from-a", "type": "websocket_input", "config": dial("a")}, *hub("from-a"),
                    {"id": "hub", "type": "websocket_output", "inputs": RESULTS, "config": listen}]
        return [{"id": "from-b", "type": "websocket_input", "config": dial("b")},
                {"id": "file", "type": "storage", "inputs": ["from-b"], "config": {"path": "out.jsonl"}}]

    def start(self, name):
        folder = self.folder / name
        if name in self.programs:
            self.programs[name].close()
            (folder / "log").rename(folder / f"log.{self.starts}")
        self.starts += 1
        config = {"plugins": {"paths": [str(self.plugin)]}, "components": self.components(name)}
        self.programs[name] = Program(self.binary, folder, config).wait_ready()

    def kill(self, name):
        self.programs[name].signal(signal.SIGKILL)
        assert self.programs[name].wait() == -signal.SIGKILL, self.programs[name].log()

    def close(self):
        for program in self.programs.values():
            program.close()

    def acked(self):
        try:
            return struct.unpack("=Q", (self.folder / "a" / "acked").read_bytes())[0]
        except (FileNotFoundError, struct.error):
            return 0

    def undisturbed(self):
        """The lines of a run in one process that nobody kills."""
        folder = self.folder / "reference"
        folder.mkdir()
        config = {"plugins": {"paths": [str(self.plugin)]}, "components": [
            {"id": "lines", "type": "lines", "config": {"path": str(self.events), "acked": "acked"}}, *hub("lines", keep=False),
            {"id": "file", "type": "storage", "inputs": RESULTS, "config": {"path": "out.jsonl"}}]}
        program = Program(self.binary, folder, config).wait_ready()
        count = sum(1 for _ in self.events.open())
        program.wait_metric("semstreams_events_out_total", count, timeout=PATIENCE + count / 10000, component="lines")
        assert program.terminate() == 0, program.log()
        program.close()
        lines = (folder / "out.jsonl").read_text().splitlines()
        # what the last event began had not ended
        return [line for line in lines if '"partial":true' not in line]

    def stored(self):
        try:
            text = self.out.read_text()
        except FileNotFoundError:
            return []
        return text[:text.rfind("\n") + 1].splitlines()


def check_by_hand(lines, events):
    wanted, late = by_hand(events)
    found, found_late = {}, 0
    for line in map(json.loads, lines):
        if "window_start" not in line:
            found_late += 1
            continue
        span = [time.strptime(line[end].split(".")[0].rstrip("Z"), "%Y-%m-%dT%H:%M:%S") for end in ("window_start", "window_end")]
        start, end = (1000 * int(time.mktime(t) - time.timezone) for t in span)
        if "k" in line and "s" not in line and end - start == TUMBLING_MS:
            found[start, line["k"]] = line["n"], line["sum"], line["first"], line["last"]
    assert found == wanted
    assert found_late == late > 0


def compare(found, wanted):
    """The same lines, each as often."""
    found, wanted = collections.Counter(found), collections.Counter(wanted)
    missing, odd = wanted - found, found - wanted
    assert not missing and not odd, (f"{missing.total()} of {wanted.total()} results missing, such as {list(missing)[:3]}; "
                                     f"{odd.total()} that should not be, such as {list(odd)[:3]}")


def attempt(binary, folder, plugin, seed, kills, tell=lambda n: None):
    """A whole run: what is to be said of it."""
    rng = random.Random(seed)
    events = make_events(rng, EACH * kills)
    f = Federation(binary, folder, plugin, events)
    try:
        wanted = f.undisturbed()
        check_by_hand(wanted, events)
        for name in rng.sample("abc", 3):
            f.start(name)
        while_loaded = 0
        for n in range(kills):
            # the hub mostly; at a moment that has nothing to do with what it does
            victims = rng.choice(("b", "b", "b", "b", "b", "ab", "bc", "a", "c", "abc"))
            deadline = time.monotonic() + rng.random() * rng.choice((0.1, 0.3, 1.0))
            f.programs["b"].wait_for(lambda: time.monotonic() >= deadline, what="the moment")
            while_loaded += f.acked() < len(events)
            for victim in victims:
                f.kill(victim)
            for victim in rng.sample(victims, len(victims)):
                f.start(victim)
            tell(n)
        # the rest at once
        f.kill("a")
        f.rate = 0
        f.start("a")
        f.programs["c"].wait_for(lambda: len(f.stored()) >= len(wanted), PATIENCE + len(events) / 1000, "all results")
        compare(f.stored(), wanted)
        # nothing more comes
        for name in "abc":
            assert f.programs[name].terminate() == 0, f.programs[name].log()
            assert "Stopped drained=true" in f.programs[name].log()
        compare(f.stored(), wanted)
        for name in "abc":
            f.start(name)
        for name in "abc":
            assert f.programs[name].terminate() == 0, f.programs[name].log()
        compare(f.stored(), wanted)
        assert while_loaded > kills / 2, "the load did not last"
        return f"seed {seed}: {kills} kills, {while_loaded} of them under load, {len(events)} events, {len(wanted)} results"
    finally:
        f.close()


@pytest.fixture(scope="session")
def lines_plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    build(Path(__file__).parent / "plugins" / "lines.c", folder / "lines.so")
    return folder


def test_results_are_those_of_an_undisturbed_run(semstreams, lines_plugin, tmp_path):
    seed = int(os.environ.get("AGGREGATE_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    print(attempt(semstreams, tmp_path, lines_plugin, seed, KILLS))
