# SPDX-License-Identifier: MIT
"""The end: signals, draining in time or not, what the service manager is told, and standard error that nobody reads."""

import json
import re
import os
import shlex
import signal
import socket
import time
import urllib.request

import pytest
from conftest import PATIENCE, Program, unused_port
from flowlib import (at_rest, check_numbers, fill, free_disk, generate, half, held, last_words, pipeline, seqs,
                      small_disk, stop_disk, storage, tools, udp, udp_port)

FIXTURES = (check_numbers, generate, small_disk, tools)  # used by name
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def holding(start, generate, *args, **more):
    """A program whose disk is full and that holds events: (program, config, number sent)"""
    config = pipeline(udp(), half(), storage(inputs=["half"]), **more)
    program = start(config, *args)
    port = udp_port(program)
    generate(port, 100)
    at_rest(program, 100)
    stop_disk(program, program.folder / "file.jsonl")
    sent = 100
    while "Cannot write" not in program.log():
        generate(port, 100, sent)
        sent += 100
        program.wait_metric("semstreams_events_in_total", sent, component="half")
    generate(port, 500, sent)
    sent += 500
    program.wait_metric("semstreams_events_in_total", sent, component="half")
    return program, config, sent


@pytest.mark.parametrize("number", SIGNALS)
def test_drains(start, generate, check_numbers, number):
    """What is held is stored before the end, however long the disk makes it wait within the time."""
    program, config, sent = holding(start, generate)
    assert held(program.metrics()) > 0
    program.signal(number)
    program.wait_log(rf"INFO Shutting down signal={number.name[3:]}$")
    assert program.process.poll() is None
    free_disk(program)
    assert program.wait() == 0
    last = last_words(program, config)
    assert last["file"]["out"] == check_numbers(program.folder / "file.jsonl", 1, sent // 2, 2) == sent // 2
    assert "Stopped drained=true" in program.log()
    assert "WARN" not in program.log().partition("Shutting down")[2]


@pytest.mark.parametrize("number", SIGNALS)
def test_drains_at_once_when_idle(start, number):
    program = start(pipeline(udp(), half(), storage()))
    before = time.monotonic()
    program.signal(number)
    assert program.wait() == 0
    assert time.monotonic() - before < 10
    assert "Stopped drained=true" in program.log()


def test_cannot_drain(start, generate, check_numbers, small_disk):
    """The disk stays full: the time given is kept, and what is lost is told."""
    file = small_disk / "file.jsonl"
    config = pipeline(udp(), half(), storage(path=str(file)))
    program = start(config, "--shutdown-timeout", "1500ms")
    port = udp_port(program)
    generate(port, 100)
    at_rest(program, 100)
    fill(small_disk)
    sent = 100
    while "No space left on device" not in program.log():
        generate(port, 100, sent)
        sent += 100
        program.wait_metric("semstreams_events_in_total", sent, component="half")
    before = time.monotonic()
    assert program.terminate() == 1
    took = time.monotonic() - before
    assert 1.5 <= took < 10
    assert re.search(r"WARN Not drained within the shutdown timeout waits_for=.* events_held=[1-9]\d* events_queued=\d+ "
                     r"oldest_s=\d.* reason=.*No space left on device.* component=file$", program.log(), re.M)
    assert "Stopped drained=false" in program.log()
    last = last_words(program, config)
    stored = check_numbers(file, 1, sent // 2, 2)
    assert last["file"]["in"] == sent // 2
    assert last["file"]["out"] == stored
    assert last["file"].get("dropped_shutdown", 0) == last["file"]["dropped"] == sent // 2 - stored > 0
    assert re.search(r"WARN Component stopped .*component=file\b", program.log())


@pytest.mark.parametrize("second", SIGNALS)
def test_second_signal_ends_at_once(start, generate, check_numbers, second):
    program, config, sent = holding(start, generate, "--shutdown-timeout", "1h")
    program.signal(signal.SIGTERM)
    program.wait_log("Shutting down signal=TERM")
    first = time.monotonic()
    while time.monotonic() < first + 0.5:  # what comes so soon is a repetition
        program.signal(signal.SIGTERM)
        assert "Second signal" not in program.log()
    program.stop_at_once(second)
    before = time.monotonic()
    assert program.wait() == 1
    assert time.monotonic() - before < 10
    assert f"WARN Second signal, stopping at once signal={second.name[3:]}" in program.log()
    last = last_words(program, config)
    stored = check_numbers(program.folder / "file.jsonl", 1, sent // 2, 2)
    assert last["file"]["out"] == stored
    assert last["file"]["dropped"] == sent // 2 - stored > 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_of_habit_do_not_kill(start, generate, number):
    program = start(pipeline(udp(), storage()), ready=False)
    program.wait_log("Starting semstreams")
    program.signal(number)
    program.wait_ready()
    program.signal(number)
    generate(udp_port(program), 10)
    at_rest(program, 10)
    assert program.terminate() == 0


def test_no_time_to_drain(start, generate, check_numbers):
    program, config, sent = holding(start, generate, "--shutdown-timeout", "1ms")
    assert program.terminate() == 1
    assert last_words(program, config)["file"]["dropped"] > 0


def test_signal_while_starting(start):
    """Whenever it comes, the program ends as it should."""
    for _ in range(20):
        program = start(pipeline(udp(), storage()), ready=False)
        program.wait_log("Starting semstreams")
        program.signal(signal.SIGTERM)
        code = program.wait()
        assert code in (0, -signal.SIGTERM)
        program.log_file.unlink()


def test_sigpipe_and_others_do_no_harm(start, generate):
    program = start(pipeline(udp(), storage()))
    program.signal(signal.SIGPIPE)
    generate(udp_port(program), 10)
    at_rest(program, 10)
    assert program.terminate() == 0


# ---- standard error ----------------------------------------------------------------------------------------


@pytest.fixture
def launch(semstreams, tmp_path):
    """launch(shell redirection, config) -> Program whose standard error goes there, with .address of its admin port"""
    programs = []

    def run(redirection, config, *args):
        script = tmp_path / "launch"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(semstreams)} "$@" {redirection}\n')
        script.chmod(0o755)
        address = f"127.0.0.1:{unused_port(socket.SOCK_STREAM)}"
        programs.append(Program(str(script), tmp_path, {**config, "admin": {"listen": address}}, args))
        programs[-1].address = address
        return programs[-1].wait_ready()

    yield run
    for program in programs:
        program.close()


def stored(program, n):
    with urllib.request.urlopen(f"http://{program.address}/metrics") as answer:
        return f'semstreams_events_out_total{{component="file"}} {n}\n' in answer.read().decode()


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_standard_error_cannot_be_written(launch, generate, redirection):
    port = unused_port(socket.SOCK_DGRAM)
    program = launch(redirection, pipeline(udp(port=port), storage()), "--log-level", "debug")
    generate(port, 100)
    program.wait_for(lambda: stored(program, 100), what="stored")
    assert program.terminate() == 0
    # and what was opened in its place is not written to
    assert seqs(program.folder / "file.jsonl") == list(range(100))


def test_nobody_reads_standard_error(launch, generate, tmp_path):
    """A full pipe takes no lines: the program goes on, and tells later how many were lost."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    port = unused_port(socket.SOCK_DGRAM)
    program = launch(f"2>{fifo}", pipeline(udp(port=port), storage()))
    try:
        while True:
            os.write(reader, b"x" * 64)
    except BlockingIOError:
        pass
    generate(port, 100)
    program.wait_for(lambda: stored(program, 100), what="stored")
    for _ in range(20):
        program.signal(signal.SIGHUP)  # each is a line
        with urllib.request.urlopen(f"http://{program.address}/livez", timeout=PATIENCE) as answer:
            assert answer.status == 200
    while True:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            break
    before = time.monotonic()
    assert program.terminate() == 0
    assert time.monotonic() - before < 10
    text = os.read(reader, 65536).decode()
    os.close(reader)
    assert "WARN Log lines lost, standard error was not read lines=" in text
    assert "Stopped drained=true" in text


def test_ends_though_nobody_reads_standard_error(launch, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    program = launch(f"2>{fifo}", pipeline(udp(), storage()))
    try:
        while True:
            os.write(reader, b"x" * 64)
    except BlockingIOError:
        pass
    before = time.monotonic()
    assert program.terminate() == 0
    assert time.monotonic() - before < 10
    os.close(reader)


# ---- the service manager -----------------------------------------------------------------------------------


def next_notification(program, line):
    """Wait for one more of these."""
    wanted = program.notified.count(line) + 1
    deadline = time.monotonic() + PATIENCE
    while program.notified.count(line) < wanted:
        assert program._next_notification(deadline)


def test_service_manager_is_told(start, generate):
    program = start(pipeline(udp(), storage()), env={"WATCHDOG_USEC": "100000"})
    assert program.notified[:2] == ["READY=1", "STATUS=running"]
    generate(udp_port(program), 1)  # ready means ready
    at_rest(program, 1)
    began = time.monotonic()
    for _ in range(5):
        next_notification(program, "WATCHDOG=1")
    assert time.monotonic() - began < PATIENCE
    assert "STOPPING=1" not in program.notified
    assert program.terminate() == 0
    program.wait_notified("STOPPING=1")


def test_alive_but_not_ready_while_draining(start, generate):
    program, _, _ = holding(lambda config: start(config, env={"WATCHDOG_USEC": "100000"}), generate)
    program.signal(signal.SIGTERM)
    program.wait_notified("STOPPING=1")
    next_notification(program, "WATCHDOG=1")
    assert program.get("/livez")[0] == 200
    status, text = program.get("/readyz")
    assert status == 503
    assert "shutting down" in [reason["reason"] for reason in json.loads(text)["reasons"]]
    free_disk(program)
    assert program.wait() == 0
