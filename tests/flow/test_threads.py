# SPDX-License-Identifier: MIT
"""Which thread runs what, and that a slow disk does not keep the socket from being read."""

import re
from pathlib import Path

import pytest
from conftest import shared_library
from flowlib import (at_rest, check_numbers, generate, half, kernel_dropped, pipeline, queue, storage, tools, udp,
                      udp_port)

FIXTURES = (check_numbers, generate, tools)  # used by name

SHAPES = {
    "chain": (pipeline(udp(), half(), storage()), {"udp"}),
    "fan-out": (pipeline(udp(), half(), storage("odd"), storage("even", ["half.rest"])), {"udp", "odd", "even"}),
    "fan-in": (pipeline(udp("a"), udp("b"), half() | {"inputs": ["a", "b"]}, storage()), {"a", "b", "half"}),
    "may drop": (pipeline(udp(), half() | {"inputs": [queue("drop_oldest")]}, storage()), {"udp", "half"}),
    "named": (pipeline(udp(), half(), storage(worker="disk")), {"udp", "disk"}),
    "all named": (pipeline(udp(worker="a"), half(worker="b"), storage(worker="a")), {"a", "b"}),
}

def loops(program):
    """Names of the threads that run loops."""
    names = {Path(task, "comm").read_text().strip() for task in Path(f"/proc/{program.pid}/task").iterdir()}
    return names - {"semstreams", "storage-sync", "storage-retain"}


@pytest.mark.parametrize("shape", SHAPES)
def test_threads(start, command, shape):
    config, expected = SHAPES[shape]
    program = start(config, "--log-level", "debug")
    assert loops(program) == expected
    assert f"threads={len(expected)} " in program.log()
    placed = dict(reversed(pair) for pair in re.findall(r"Component placed loop=(\S+) component=(\S+)", program.log()))
    # the same is printed without starting anything
    printed = dict(re.findall(r"(\w+) \(\w+, worker (\w+)\)", command("graph", program.config_file).stdout))
    assert placed == printed
    assert set(placed.values()) == expected
    assert program.terminate() == 0


@pytest.fixture
def slow_disk(tmp_path):
    return {"LD_PRELOAD": str(shared_library("slow_write", tmp_path))}


def test_slow_disk_does_not_stop_the_reading(start, slow_disk, generate, check_numbers):
    """Storage begins on the loop of the socket and gets one of its own once its writes turn out to block."""
    config = pipeline(udp(gro=False), storage())
    program = start(config, env=slow_disk)
    assert loops(program) == {"udp"}
    sent = 60000
    generate(udp_port(program), sent, rate=20000)
    metrics = at_rest(program, sent)
    assert kernel_dropped(metrics) == 0
    assert check_numbers(program.folder / "file.jsonl", 0, sent) == sent
    assert re.search(r"INFO Component is slow and runs on a loop of its own now .*component=file$", program.log(), re.M)
    assert loops(program) == {"udp", "file"}
    assert program.terminate() == 0
