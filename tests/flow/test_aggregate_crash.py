# SPDX-License-Identifier: MIT
"""Aggregates in the middle of a federation, A to B to C: whoever is killed at whatever moment, what arrives in C's file are the
results of a run that nobody disturbed, each once.

A has a file of events and a spool, B aggregates with checkpoints and has a spool, C has storage.  The events say themselves
when they happened, out of order; so the results are known: from a run in one process, and for what is simple from a few
lines of Python.

Then what else can happen to checkpoints: a full disk, an end in the midst of it, a place where none can be.

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

from conftest import PATIENCE, Program, unused_port, whole_lines
from flowlib import fill, small_disk  # noqa: F401
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
    """Five aggregates, one of them behind a filter, one with so many groups that events come while they are saved."""
    interval = (lambda text: text) if keep else (lambda text: None)
    return [
        # it lets none through for long, so what is behind it keeps a position that all others are far beyond
        {"id": "some", "type": "filter", "inputs": [source], "config": {"where": {"or": [
            {"field": "n", "op": "lt", "value": 5 * EACH}, {"field": "k", "op": "eq", "value": "end"}]}}},
        aggregate("tumbling", source, {"type": "tumbling", "size": f"{TUMBLING_MS}ms"}, "k", interval("20ms"),
                  time={**TIME, "late": "emit"}),
        aggregate("sliding", source, {"type": "sliding", "size": "10s", "every": "2500ms"}, ["k"], interval("100ms"),
                  output="window"),
        aggregate("session", source, {"type": "session", "gap": "1500ms"}, ["who"], interval("1s")),
        aggregate("filtered", "some", {"type": "tumbling", "size": "7s", "offset": "1s"}, ["s", "k"], interval("300ms")),
        aggregate("many", source, {"type": "tumbling", "size": "100s"}, ["who", "k"], interval("10ms")),
    ]


RESULTS = ["tumbling.result", "tumbling.late", "sliding", "session", "filtered", "many"]


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
        return {"id": "lines", "type": "linelog", "config": {"path": str(self.events), "acked": "acked", "rate": self.rate}}

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

    def kill(self, name, number=signal.SIGKILL):
        self.programs[name].signal(number)
        wanted = 0 if number == signal.SIGTERM else -number
        assert self.programs[name].wait() == wanted, self.programs[name].log()

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
            {"id": "lines", "type": "linelog", "config": {"path": str(self.events), "acked": "acked"}}, *hub("lines", keep=False),
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
        return whole_lines(self.out)


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
                f.kill(victim, rng.choice([signal.SIGKILL] * 7 + [signal.SIGTERM]))
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
def linelog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linelog")
    build(Path(__file__).parent / "plugins" / "linelog.c", folder / "linelog.so")
    return folder


def test_results_are_those_of_an_undisturbed_run(semstreams, linelog, tmp_path):
    seed = int(os.environ.get("AGGREGATE_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    print(attempt(semstreams, tmp_path, linelog, seed, KILLS))


# ---- files -------------------------------------------------------------------------------------------------


class Line:
    """One process: lines, an aggregate with a checkpoint, storage."""

    def __init__(self, start, plugin, folder, state, count=4000):
        self.start, self.plugin, self.folder, self.state = start, plugin, folder, state
        self.events = folder / "events.jsonl"
        self.events.write_text("".join(f'{{"t":{BASE_MS + 10 * n},"n":{n},"k":{n % 7}}}\n' for n in range(count)))
        self.windows = (10 * count - 1) // 1000
        self.runs = 0

    def run(self, out="../out.jsonl", **kwargs):
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        return self.start({"plugins": {"paths": [str(self.plugin)]}, "components": [
            {"id": "lines", "type": "linelog", "config": {"path": str(self.events), "acked": "../acked", "rate": 2000}},
            {"id": "sums", "type": "aggregate", "config": {
                "window": {"type": "tumbling", "size": "1s"}, "time": {"field": "t", "format": "ms"},
                "functions": {"n": "count", "sum": "sum(n)"}, "checkpoint": {"path": str(self.state), "interval": "50ms"}}},
            {"id": "file", "type": "storage", "config": {"path": out}}]}, folder=folder, **kwargs)

    def check(self, program):
        """All windows but the last, which is open, are there once."""
        out = self.folder / "out.jsonl"
        program.wait_for(lambda: len(whole_lines(out)) >= self.windows, what="all windows")
        assert program.terminate() == 0, program.log()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [(row["n"], row["sum"]) for row in rows] == [(100, sum(range(100 * i, 100 * i + 100))) for i in range(self.windows)]


def test_a_full_disk_is_waited_for(start, linelog, tmp_path, small_disk):  # noqa: F811
    line = Line(start, linelog, tmp_path, small_disk / "state")
    program = line.run()
    program.wait_metric("semstreams_aggregate_checkpoints_total", 3)
    filler = fill(small_disk)
    program.wait_log(r"ERROR .*The checkpoint cannot be written.*No space left on device")
    assert program.get("/readyz")[0] == 503
    passed_on, stored = ({"component": name} for name in ("sums", "file"))

    def at_rest():
        m = program.metrics()
        return m if m.sum("semstreams_events_out_total", **passed_on) == m.sum("semstreams_events_out_total", **stored) else None

    before = program.wait_for(at_rest, what="durable rows in the file").sum("semstreams_events_out_total", **stored)
    # an end that does not come, as what was taken in is not durable; a second signal does not wait
    program.signal(signal.SIGTERM)
    program.wait_log("Shutting down")
    program.wait_metric("semstreams_aggregate_checkpoint_errors_total", 3)
    program.stop_at_once()
    program.wait_log("Second signal")
    program.wait()
    # nothing left that was not durable
    assert program.stopped("file")["out"] == before
    program = line.run()
    program.wait_log(r"ERROR .*The checkpoint cannot be written.*No space left on device")
    filler.unlink()
    program.wait_log("The checkpoint can be written again")
    program.wait_for(lambda: program.get("/readyz")[0] == 200, what="ready")
    line.check(program)


def test_a_file_that_cannot_be_used_stops_the_start(start, linelog, tmp_path):
    line = Line(start, linelog, tmp_path, tmp_path / "state", 500)
    program = line.run()
    program.wait_metric("semstreams_aggregate_checkpoints_total", 3)
    other = line.run("other.jsonl", ready=False)
    assert other.wait() == 1
    assert "another component or process has it; each needs a file of its own" in other.log()
    program.signal(signal.SIGKILL)
    program.wait()
    state = line.state.read_bytes()
    line.state.write_bytes(state[:-1])
    program = line.run(ready=False)
    assert program.wait() == 1
    assert "it is damaged; restore it, or remove it to begin anew" in program.log()
    line.state.write_bytes(state)
    line.check(line.run())

    line.state = tmp_path / "missing" / "state"
    program = line.run(ready=False)
    assert program.wait() == 1
    assert "its folder does not exist; create it" in program.log()


def test_check_says_what_a_crash_loses(command, tmp_path):
    config = {"components": [
        {"id": "in", "type": "udp_input", "config": {"port": 0}},
        {"id": "sums", "type": "aggregate", "config": {"window": {"type": "tumbling", "size": "1s"}, "functions": {"n": "count"}}},
        {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}]}
    said = 'INFO Without "checkpoint" a crash loses the contents of open windows component=sums'
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    done = command("check", "-c", file)
    assert done.returncode == 0 and said in done.stderr
    config["components"][1]["config"]["checkpoint"] = {"path": "sums.state"}
    file.write_text(json.dumps(config))
    done = command("check", "-c", file)
    assert done.returncode == 0 and said not in done.stderr
    assert not (tmp_path / "sums.state").exists()
