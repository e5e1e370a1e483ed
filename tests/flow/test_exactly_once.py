# SPDX-License-Identifier: MIT
"""storage behind sources that can resume: killed at any moment, each event is in the files once."""

import json
import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest
from test_sdk import build

KILLS = int(os.environ.get("TEST_KILLS", "100"))


@pytest.fixture(scope="session")
def replay(tmp_path_factory):
    """A folder with the plugin replay, as a stranger would build it."""
    folder = tmp_path_factory.mktemp("replay")
    build(Path(__file__).parent / "plugins" / "replay.c", folder / "replay.so")
    return folder


@pytest.fixture
def run(start, tmp_path):
    """start(), each time in a folder and with a log of its own."""
    runs = 0

    def anew(config, **more):
        nonlocal runs
        runs += 1
        folder = tmp_path / f"run{runs}"
        folder.mkdir()
        return start(config, folder=folder, **more)

    return anew


def source(name):
    return {"id": name, "type": "replay", "config": {"acked": f"../{name}.acked"}}


def sink(name, *inputs, **options):
    return {"id": name, "type": "storage", "inputs": list(inputs),
            "config": {"path": f"../{name}/data.jsonl", **options}}


def pipeline(replay, *components, **more):
    return {"plugins": {"paths": [str(replay)]}, "components": list(components), **more}


def acked(folder, name):
    """The last number of a source that was acknowledged."""
    try:
        return struct.unpack("=Q", (folder / f"{name}.acked").read_bytes())[0]
    except (FileNotFoundError, struct.error):
        return 0


def stored(folder, name):
    """{source: [numbers in the order they stand in the files]}"""
    files = sorted((folder / name).glob("data.jsonl.*")) + [folder / name / "data.jsonl"]
    numbers = {}
    for file in files:
        assert file.suffix != ".torn"
        for line in file.read_text().splitlines():
            event = json.loads(line)
            numbers.setdefault(event["from"], []).append(event["n"])
    return numbers


def kill_at_random(run, config, rng, longest=0.15):
    program = run(config)
    deadline = time.monotonic() + rng.random() * longest
    # a moment that has nothing to do with what it does
    program.wait_for(lambda: time.monotonic() >= deadline, what="the moment")
    program.signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    return program


def test_killed_under_load(replay, run, tmp_path, conserved):
    """Two sources, two ways and two checkpointers of one of them, files that are rotated all the time."""
    config = pipeline(
        replay, source("one"), source("two"),
        {"id": "some", "type": "filter", "inputs": ["one"],
         "config": {"where": {"field": "keep", "op": "eq", "value": True}}},
        sink("out", "some", "two", rotate_size="50KiB"),
        sink("copy", "one", sync="interval", sync_interval="5ms"))
    rng = random.Random(7)
    before = 0
    log = ""
    for _ in range(KILLS):
        log += kill_at_random(run, config, rng).log()
        assert acked(tmp_path, "one") >= before
        before = acked(tmp_path, "one")
    assert before > 0, "nothing was acknowledged in all these runs"
    program = run(config)
    conserved(program.wait_metric("semstreams_events_out_total", 5000, component="out"))
    assert program.terminate() == 0

    one, two = acked(tmp_path, "one"), acked(tmp_path, "two")
    out, copy = stored(tmp_path, "out"), stored(tmp_path, "copy")
    assert out["two"] == list(range(1, two + 1))
    assert out["one"] == [n for n in range(1, one + 1) if n % 3]
    assert copy == {"one": list(range(1, one + 1))}
    log += program.log()
    assert "Truncated uncommitted data" in log
    assert "Repaired" not in log


def test_resumes_behind_what_is_kept(replay, run, tmp_path):
    config = pipeline(replay, source("one"), sink("out", "one"))
    program = run(config)
    program.wait_metric("semstreams_events_out_total", 1000, component="out")
    assert program.terminate() == 0
    last = acked(tmp_path, "one")
    program = run(config)
    program.wait_log(rf"Replaying .*from={last + 1} kept={last} acked={last}\b")
    program.wait_metric("semstreams_events_out_total", 1000, component="out")
    # what the source had noted is lost: it would begin anew, but for the positions
    program.signal(signal.SIGKILL)
    program.wait()
    (tmp_path / "one.acked").unlink()
    program = run(config)
    program.wait_log(r"Replaying .*from=\d+ kept=\d+ acked=0\b")
    program.wait_metric("semstreams_events_out_total", 1000, component="out")
    assert program.terminate() == 0
    numbers = stored(tmp_path, "out")["one"]
    assert numbers == list(range(1, numbers[-1] + 1))


def test_second_checkpointer_is_new(replay, run, tmp_path):
    """One checkpointer has nothing: all is sent again that there is, and the other one drops it."""
    config = pipeline(replay, source("one"), sink("out", "one"))
    program = run(config)
    program.wait_metric("semstreams_events_out_total", 1000, component="out")
    program.signal(signal.SIGKILL)
    program.wait()
    before = len(stored(tmp_path, "out")["one"])
    (tmp_path / "one.acked").unlink()
    config["components"].append(sink("copy", "one"))
    program = run(config)
    program.wait_log(r"Replaying .*from=1 kept=-1 ")
    metrics = program.wait_metric("semstreams_events_out_total", before + 1000, component="copy")
    assert metrics.sum("semstreams_events_dropped_total", component="out", reason="duplicate") > 0
    assert program.terminate() == 0
    out, copy = stored(tmp_path, "out"), stored(tmp_path, "copy")
    assert out == copy == {"one": list(range(1, acked(tmp_path, "one") + 1))}


def test_a_stream_that_merges_is_not_resumed(replay, run, tmp_path):
    """By two ways to one input: nothing of it may be taken for a duplicate."""

    def half(name, keep):
        return {"id": name, "type": "filter", "inputs": ["one"],
                "config": {"where": {"field": "keep", "op": "eq", "value": keep}}}

    config = pipeline(
        replay, source("one"), half("left", True), half("right", False),
        {"id": "both", "type": "filter", "inputs": ["left", "right"],
         "config": {"where": {"field": "n", "op": "gt", "value": 0}}},
        sink("out", "both"))
    program = run(config)
    program.wait_metric("semstreams_events_out_total", 3000, component="out")
    assert program.terminate() == 0
    numbers = stored(tmp_path, "out")["one"]
    assert sorted(numbers) == list(range(1, acked(tmp_path, "one") + 1))
    assert not (tmp_path / "out" / ".out.commit").exists()
