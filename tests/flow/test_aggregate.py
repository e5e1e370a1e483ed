# SPDX-License-Identifier: MIT
"""aggregate against an independent reference: random events, out of order and late, through windows of each kind.

Environment: TEST_AGGREGATE_EVENTS = how many for each kind of window (1000000).
"""

import bisect
import json
import math
import os
import random
import re
import time
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import PATIENCE, whole_lines
from test_sdk import build

EVENTS = int(os.environ.get("TEST_AGGREGATE_EVENTS", "1000000"))
MS = 10**6
START = 1763892000 * 1000  # 2025-11-23T10:00:00Z, in ms, as the events have it
LATENESS = 1500
KEYS = 20


# ---- events ------------------------------------------------------------------------------------------------


class Events:
    """Columns of random events, in the order they are sent; time moves on unevenly, and they are behind it by up to 0.3 s,
    2 s or, a few, 30 s."""

    def __init__(self, seed, n, pauses=False):
        rng = random.Random(seed)
        rand, bits = rng.random, rng.getrandbits
        now = 0.0
        self.t, self.k, self.i, self.v, self.vtext, self.s = [], [], [], [], [], []
        pace = 500 / 20  # ms from one event to the next: 20 keys, each twice a second
        for _ in range(n):
            now += rand() * 2 * pace
            if pauses and rand() < 0.002:
                now += rand() * 6000
            b = bits(64)
            behind = 30000 if b & 63 == 0 else 2000 if b & 7 == 0 else 300
            self.t.append(START + int(now - rand() * behind))
            self.k.append(b >> 3 & 0xff)
            i = b - (1 << 63) if b & 0x800 else (b >> 20) % 2001 - 1000
            self.i.append(i)
            v = (b >> 12) % 2000003 - 700000
            text = f"{v // 1000}.{v % 1000:03d}" if v >= 0 else f"-{-v // 1000}.{-v % 1000:03d}"
            self.vtext.append(text)
            self.v.append(float(text))
            self.s.append(b >> 40 & 0x3f)
        self.k = [k % KEYS for k in self.k]

    def write(self, file):
        with open(file, "w") as f:
            f.writelines(f'{{"t":{t},"k":"k{k}","i":{i},"v":{v},"s":"{s}"}}\n'
                         for t, k, i, v, s in zip(self.t, self.k, self.i, self.vtext, self.s))


# ---- which events are in which window: decided one by one, from the definitions ----------------------------


def tumbling(events, size):
    """[(start, end, key, [numbers of events])], [numbers of late ones]"""
    groups, late, newest = defaultdict(list), [], -1 << 62
    for n, (t, k) in enumerate(zip(events.t, events.k)):
        start = t - t % size
        if start + size <= newest - LATENESS:
            late.append(n)
            continue
        groups[start, k].append(n)
        if t > newest:
            newest = t
    return [(start, start + size, k, members) for (start, k), members in groups.items()], late


def sliding(events, size, every):
    groups, late, newest = defaultdict(list), [], -1 << 62
    for n, (t, k) in enumerate(zip(events.t, events.k)):
        start, taken = t - t % every, False
        while start > t - size:
            if start + size > newest - LATENESS:
                groups[start, k].append(n)
                taken = True
            start -= every
        if not taken:
            late.append(n)
        elif t > newest:
            newest = t
    return [(start, start + size, k, members) for (start, k), members in groups.items()], late


def session(events, gap):
    opened, closed, late, newest = defaultdict(list), [], [], -1 << 62
    for n, (t, k) in enumerate(zip(events.t, events.k)):
        mark = newest - LATENESS
        mine = opened[k]
        over = [s for s in mine if s[1] <= mark]
        if over:
            closed += [(s[0], s[1], k, s[2]) for s in over]
            mine[:] = [s for s in mine if s[1] > mark]
        near = [s for s in mine if s[0] < t + gap and t < s[1]]
        if not near and t + gap <= mark:
            late.append(n)
            continue
        merged = [min([t] + [s[0] for s in near]), max([t + gap] + [s[1] for s in near]),
                  sum([s[2] for s in near], []) + [n]]
        if len(near) > 1:
            merged[2].sort()
        mine[:] = [s for s in mine if s not in near] + [merged]
        if t > newest:
            newest = t
    return closed + [(s[0], s[1], k, s[2]) for k, sessions in opened.items() for s in sessions], late


# ---- what a window's events come to ------------------------------------------------------------------------

FUNCTIONS = {
    "n": "count", "isum": "sum(i)", "imin": "min(i)", "imax": "max(i)", "imean": "mean(i)", "idev": "stddev(i)",
    "vsum": "sum(v)", "vmin": "min(v)", "vmax": "max(v)", "vmean": "mean(v)",
    "vdev": {"fn": "stddev", "field": "v", "population": True}, "first": "first(v)", "last": "last(v)", "rate": "rate",
    "p": {"fn": "percentiles", "field": "v", "p": [0, 25, 50, 90, 99, 99.9, 100]}, "kinds": "distinct(s)",
    "top": {"fn": "top", "field": "s", "k": 3}, "h": {"fn": "histogram", "field": "v", "bounds": [-100, 0, 500.5]},
}
PERCENTS = [("p0", 0), ("p25", 25), ("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", Fraction(999, 10)), ("p100", 100)]
SCALE = 1 << 60  # doubles of three decimals times that are whole


def ulps(got, want, most):
    """want is a Fraction"""
    return abs(Fraction(got) - want) <= most * Fraction(math.ulp(float(want)))


def deviation(numbers, n):
    """Of exact whole numbers: the square root of sum((x - mean)^2) / n, rounded once or twice."""
    total = sum(numbers)
    squares = len(numbers) * sum(x * x for x in numbers) - total * total
    return math.sqrt(Fraction(squares, len(numbers) * n)) if n else None


def close(got, want, relative):
    return got == want or (None not in (got, want) and abs(got - want) <= relative * abs(want))


def check_group(e, start, end, members, got):
    """got: the result as text is read by json, numbers with a fraction as text."""
    n = len(members)
    i, v = [e.i[m] for m in members], sorted([e.v[m] for m in members])
    assert got["n"] == n
    assert (got["isum"], got["imin"], got["imax"]) == (sum(i), min(i), max(i))
    assert ulps(float(got["imean"]), Fraction(sum(i), n), 1), (got["imean"], sum(i), n)
    if n > 1:
        low = min(i)
        assert close(float(got["idev"]), deviation([x - low for x in i], n - 1), 1e-9)
    else:
        assert got["idev"] is None
    whole = [int(math.ldexp(x, 60)) for x in v]
    exact = Fraction(sum(whole), SCALE)
    assert ulps(float(got["vsum"]), exact, 1), (got["vsum"], float(exact))
    assert ulps(float(got["vmean"]), exact / n, 1), (got["vmean"], float(exact / n))
    assert close(float(got["vdev"]), deviation(whole, n) / SCALE, 1e-9)
    assert float(got["vmin"]) == v[0] and float(got["vmax"]) == v[-1]
    first = min(members, key=lambda m: (e.t[m], m))
    last = max(members, key=lambda m: (e.t[m], m))
    texts = {e.vtext[first], e.vtext[last]}
    assert (got["first"], got["last"]) == (e.vtext[first], e.vtext[last]), texts
    assert close(float(got["rate"]), n / ((end - start) / 1000), 1e-15)
    for name, p in PERCENTS:
        want = v[int(p * (n - 1) / 100)]
        assert close(float(got["p"][name]), want, 0.01 if 0 < p < 100 else 0), (name, got["p"], want)
    kinds = Counter(e.s[m] for m in members)
    assert got["kinds"] == len(kinds)
    top = sorted(((-count, f'"{s}"', s) for s, count in kinds.items()))[:3]
    assert got["top"] == [{"value": str(s), "count": -count} for count, _, s in top]
    a, b, c = (bisect.bisect_right(v, bound) for bound in (-100, 0, 500.5))
    assert [h["count"] for h in got["h"]] == [a, b - a, c - b, n - c]


# ---- the program -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def feed_plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feed")
    build(Path(__file__).parent / "plugins" / "feed.c", folder / "feed.so")
    return folder


@pytest.fixture
def aggregated(feed_plugin, start, tmp_path, conserved):
    """aggregated(events file, {name: aggregate's config}) -> {name: (results, late lines)}"""

    def run(n, configs):
        components = [{"id": "feed", "type": "feed", "config": {"path": "events"}}]
        for name, config in configs.items():
            components += [
                {"id": name, "type": "aggregate", "inputs": ["feed"], "config": config},
                {"id": f"{name}-out", "type": "storage", "inputs": [name],
                 "config": {"path": f"{name}.jsonl", "sync": "relaxed"}},
                {"id": f"{name}-late", "type": "storage", "inputs": [f"{name}.late"],
                 "config": {"path": f"{name}.late.jsonl", "sync": "relaxed"}}]
        program = start({"plugins": {"paths": [str(feed_plugin)]}, "components": components})
        program.wait_log(rf"All lines are sent .*\bn={n}\b", 4 * PATIENCE)
        for name in configs:
            program.wait_metric("semstreams_events_in_total", n, component=name)
        conserved(program.metrics())
        assert program.terminate() == 0

        def read(file):
            return whole_lines(tmp_path / file)

        return {name: (read(f"{name}.jsonl"), read(f"{name}.late.jsonl")) for name in configs}

    return run


def moment(ms):
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000))
    return f"{text}.{ms % 1000:03d}Z" if ms % 1000 else f"{text}Z"


WINDOWS = {
    "tumbling": ({"size": "10s"}, lambda e: tumbling(e, 10000)),
    "sliding": ({"size": "12s", "every": "4s"}, lambda e: sliding(e, 12000, 4000)),
    "session": ({"gap": "1700ms"}, lambda e: session(e, 1700)),
}


@pytest.mark.parametrize("kind", WINDOWS)
def test_against_reference(kind, aggregated, tmp_path):
    options, reference = WINDOWS[kind]
    events = Events(kind, EVENTS, pauses=kind == "session")
    events.write(tmp_path / "events")
    results, late_lines = aggregated(EVENTS, {kind: {
        "window": {"type": kind, **options}, "group_by": "k", "functions": FUNCTIONS,
        "time": {"field": "t", "format": "ms", "lateness": f"{LATENESS}ms", "idle": "0s", "late": "emit"}}})[kind]

    groups, late = reference(events)
    assert [(e["t"], e["i"]) for e in map(json.loads, late_lines)] == [(events.t[n], events.i[n]) for n in late]
    assert len(late) > EVENTS / 2000, "nothing much is late in this test"
    assert len(results) == len(groups) > EVENTS / 1000
    got = {}
    for line in results:
        result = json.loads(line, parse_float=str)
        name = result["window_start"], result["window_end"], result["k"]
        assert name not in got, "twice"
        got[name] = result
    partial = 0
    moments = {t: moment(t) for group in groups for t in group[:2]}
    for begin, end, key, members in groups:
        result = got[moments[begin], moments[end], f"k{key}"]
        partial += "partial" in result
        check_group(events, begin, end, members, result)
    assert 0 < partial <= 10 * KEYS


def test_many_values(aggregated, tmp_path):
    """distinct, top and percentiles where they are estimates: 200,000 events a window, of as many values."""
    rng = random.Random(9)
    n, windows = 200000, 3
    values = [[rng.randrange(1 << 48) % (300000 << w) for _ in range(n)] for w in range(windows)]
    skewed = [[int(rng.paretovariate(0.7)) for _ in range(n)] for _ in range(windows)]
    with open(tmp_path / "events", "w") as f:
        for w in range(windows):
            f.writelines(f'{{"t":{w * 60 + 1},"a":{a},"b":{b}}}\n' for a, b in zip(values[w], skewed[w]))
    results, _ = aggregated(n * windows, {"big": {
        "window": {"type": "tumbling", "size": "1m"},
        "functions": {"d": "distinct(a)", "top": {"fn": "top", "field": "b", "k": 10},
                      "p": {"fn": "percentiles", "field": "b", "p": [1, 50, 99.99], "accuracy": 0.002},
                      "q": "p99(a)"},
        "time": {"field": "t", "format": "s"}}})["big"]
    assert len(results) == windows
    for line, a, b in zip(results, values, skewed):
        got = json.loads(line)
        want = len(set(a))
        assert abs(got["d"] / want - 1) < 5 * 0.0081, (got["d"], want)
        real = Counter(b)
        for seen in got["top"]:  # 100 counters
            assert real[seen["value"]] <= seen["count"] <= real[seen["value"]] + n / 100
        b.sort()
        for name, p in ("p1", 1), ("p50", 50), ("p99.99", 99.99):
            want = b[int(p * (n - 1) / 100)]
            assert abs(got["p"][name] - want) <= 0.002 * want * (1 + 1e-9)
        want = sorted(a)[99 * (n - 1) // 100]
        assert abs(got["q"] - want) <= 0.01 * want * (1 + 1e-9)


def test_one_result_per_window(aggregated, tmp_path):
    events = Events(3, 20000)
    events.write(tmp_path / "events")
    config = {"window": {"type": "tumbling", "size": "1m", "offset": "7s"}, "functions": {"n": "count", "sum": "sum(i)"},
              "group_by": ["k", "s"], "time": {"field": "t", "format": "ms", "lateness": "1m", "idle": "0s"}}
    out = aggregated(len(events.t), {"each": config, "all": {**config, "output": "window"}})
    each, whole = ([json.loads(line) for line in out[name][0]] for name in ("each", "all"))
    assert sum(result["n"] for result in each) == len(events.t)
    flat = [{"window_start": w["window_start"], "window_end": w["window_end"], **group,
             **({"partial": True} if "partial" in w else {})} for w in whole for group in w["groups"]]
    assert flat == each and len(whole) == len({w["window_start"] for w in each})
    assert all(w["window_start"].endswith(":07Z") for w in whole)


# ---- configurations ----------------------------------------------------------------------------------------


def test_errors_name_their_place(command, tmp_path):
    """`check` tells all of them, with line and column."""
    (tmp_path / "config.json").write_text("""{"components": [
  {"id": "udp", "type": "udp_input", "config": {"port": 14550}},
  {"id": "sums", "type": "aggregate", "config": {
    "window": {"type": "tumbling",
      "sizze": "10s"},
    "group_by": ["sensor",
      7],
    "time": {"field": "ts",
      "formatt": "ms",
      "lateness": 5,
      "late": "never"},
    "functions": {
      "a": "maen(v)",
      "b": {"fn": "percentiles", "field": "v",
        "p": [101]},
      "c": {"fn": "top", "field": "v",
        "kk": 5},
      "d": "sum(a..b)"},
    "checkpoint": {"path": "x",
      "intervall": "1s"}}},
  {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}
]}
""")
    result = command("check", "--config", "config.json")
    assert result.returncode == 78
    said = result.stdout + result.stderr
    for line, what in [(5, 'did you mean "size"'), (7, "must be a string, the path of a field"), (9, 'did you mean "format"'),
                       (10, "expected a duration"), (11, '"drop" or "emit"'), (13, 'did you mean "mean"'),
                       (15, "from 0 to 100"), (17, "unknown key"), (18, '"a..b" is not a path'),
                       (20, 'did you mean "interval"')]:
        assert re.search(rf"config\.json:{line}:\d+.*{re.escape(what)}", said), (line, what, said)


@pytest.mark.parametrize("option, what", [
    ({"windoww": {}}, 'did you mean "window"'),
    ({"output": "groups"}, "output"),
    ({"when_full": "newest"}, "when_full"),
    ({"max_groups": 0}, "max_groups"),
    ({"early": "often"}, "early"),
])
def test_wrong_options(option, what, command, tmp_path):
    config = {"window": {"type": "tumbling", "size": "1s"}, "functions": {"n": "count"}, **option}
    (tmp_path / "config.json").write_text(json.dumps({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 14550}},
        {"id": "sums", "type": "aggregate", "config": config},
        {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}]}))
    result = command("check", "--config", "config.json")
    assert result.returncode == 78
    assert what in result.stdout + result.stderr
