# SPDX-License-Identifier: MIT
"""Sent = stored + filtered + counted drops, to the last event: at rest, in overload, when ended, in each scrape."""

import signal

import pytest
from conftest import assert_conserved
from flowlib import (SEGMENTS, Scraper, Sender, at_rest, balance, check_numbers, free_disk, generate, half, held,
                     kernel_dropped, last_words, pipeline, queue, send_lossless, seqs, stop_disk, storage, tools, udp,
                     udp_port)

FIXTURES = (check_numbers, generate, tools)  # used by name
POLICIES = ["block", "drop_newest", "drop_oldest"]

# ---- at rest -----------------------------------------------------------------------------------------------

# configuration, and in which of the numbers sent each file has them: (first, step)
SHAPES = {
    "plain": (pipeline(udp(), storage()), {"file": (0, 1)}),
    "gro off": (pipeline(udp(gro=False), storage()), {"file": (0, 1)}),
    "synced": (pipeline(udp(), storage(sync="always")), {"file": (0, 1)}),
    "filter": (pipeline(udp(), half(), storage()), {"file": (1, 2)}),
    "filter, rest": (pipeline(udp(), half(), storage("odd"), storage("even", ["half.rest"])),
                     {"odd": (1, 2), "even": (0, 2)}),
    "fan-out": (pipeline(udp(), storage("one"), storage("two", ["udp"]), half() | {"inputs": ["udp"]}, storage("odd")),
                {"one": (0, 1), "two": (0, 1), "odd": (1, 2)}),
    "a thread each": (pipeline(udp(worker="a"), half(worker="b"), storage(worker="c")), {"file": (1, 2)}),
    "one worker": (pipeline(udp(worker="w"), half(worker="w"), storage(worker="w")), {"file": (1, 2)}),
    "two workers": (pipeline(udp(worker="w"), half(worker="w"), storage("odd", worker="v"),
                             storage("all", ["udp"], worker="v")), {"odd": (1, 2), "all": (0, 1)}),
    "sockets": (pipeline(udp(sockets=4), storage()), {"file": (0, 1)}),
    "tiny queues": (pipeline(udp(), half() | {"inputs": [queue()]}, storage(inputs=[queue(source="half", events=2)])),
                    {"file": (1, 2)}),
    "a thread each, tiny queues": (pipeline(udp(worker="a"), half(worker="b") | {"inputs": [queue()]},
                                            storage(worker="c", inputs=[queue(source="half", events=2)])),
                                   {"file": (1, 2)}),
    "one worker, tiny queues": (pipeline(udp(worker="w"), half(worker="w") | {"inputs": [queue()]},
                                         storage(worker="w", inputs=[queue(source="half", events=2)])),
                                {"file": (1, 2)}),
}


def expect_files(program, files, sent, check):
    for name, (first, step) in files.items():
        numbers = len(range(first, sent, step))
        assert check(program.folder / f"{name}.jsonl", first, numbers, step) == numbers


@pytest.mark.parametrize("shape", SHAPES)
def test_at_rest(start, generate, check_numbers, shape):
    config, files = SHAPES[shape]
    program = start(config)
    port = udp_port(program)
    sent = 0
    for total in (1, 1000, 200000):
        send_lossless(program, generate, port, total - sent, sent)
        sent = total
        metrics = at_rest(program, sent)
        assert kernel_dropped(metrics) == 0
        books = balance(metrics, config)
        assert books["udp"]["out"] == sent
        assert sum(b["dropped"] for b in books.values()) == 0
        expect_files(program, files, sent, check_numbers)
    assert program.terminate() == 0
    last = last_words(program, config)
    for name, (first, step) in files.items():
        assert last[name]["out"] == len(range(first, sent, step))


def test_fan_in(start, check_numbers):
    config = pipeline(udp("left"), udp("right"), storage(inputs=["left", "right"]))
    program = start(config)
    far = 10**9
    with Sender(udp_port(program, "left")) as left, Sender(udp_port(program, "right"), far) as right:
        program.wait_metric("semstreams_events_out_total", 20000, component="left")
        program.wait_metric("semstreams_events_out_total", 20000, component="right")
    metrics = at_rest(program, left.sent + right.sent)
    assert kernel_dropped(metrics) == 0
    books = balance(metrics, config)
    assert (books["left"]["out"], books["right"]["out"]) == (left.sent, right.sent)
    assert program.terminate() == 0
    numbers = seqs(program.folder / "file.jsonl")
    assert [n for n in numbers if n < far] == list(range(left.sent))
    assert [n for n in numbers if n >= far] == list(range(far, far + right.sent))
    last_words(program, config)


# ---- overload ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gro", [False, True], ids=["gro off", "gro"])
def test_receive_buffer_too_small(start, check_numbers, gro):
    config = pipeline(udp(receive_buffer=4096, gro=gro), half(), storage(sync="always"))
    program = start(config)
    port = udp_port(program)
    with Sender(port, segmented=True) as sender:
        program.wait_for(lambda: kernel_dropped(program.metrics()) > 100, what="losses in the kernel")
    metrics = at_rest(program, sender.sent, per_packet=SEGMENTS if gro else 1)
    books = balance(metrics, config)
    lost = kernel_dropped(metrics) * (SEGMENTS if gro else 1)
    assert lost + books["half"]["filtered"] + books["file"]["out"] == sender.sent
    assert program.terminate() == 0
    assert check_numbers(program.folder / "file.jsonl", 1, sender.sent // 2, 2) == books["file"]["out"]
    assert last_words(program, config)["udp"]["udp_kernel_dropped"] == kernel_dropped(metrics)


def queue_full(metrics):
    return int(metrics.sum("semstreams_events_dropped_total", reason="queue_full"))


@pytest.mark.parametrize("policy", POLICIES)
def test_slow_disk(start, check_numbers, policy):
    """A tiny queue before a disk that is synced for each batch, against a flood."""
    config = pipeline(udp(receive_buffer="64KiB", gro=False),
                      storage(inputs=[queue(policy, events=8)], sync="always", max_pending="1MiB"))
    program = start(config)
    with Sender(udp_port(program), segmented=True) as sender:
        lost = kernel_dropped if policy == "block" else queue_full
        program.wait_for(lambda: lost(program.metrics()) > 1000, what="losses")
    metrics = at_rest(program, sender.sent)
    books = balance(metrics, config)
    assert books["file"]["dropped"] == queue_full(metrics)
    assert (queue_full(metrics) > 0) == (policy != "block")
    assert books["file"]["out"] + queue_full(metrics) + kernel_dropped(metrics) == sender.sent
    assert program.terminate() == 0
    assert check_numbers(program.folder / "file.jsonl", 0, sender.sent) == books["file"]["out"]
    last_words(program, config)


def stop_the_sink(program, port, generate, first=0):
    """Make the disk full and have storage notice; how many were sent."""
    sent = 500
    send_lossless(program, generate, port, sent, first)
    at_rest(program, sent)
    stop_disk(program, program.folder / "file.jsonl")
    while "Cannot write" not in program.log():
        before = program.metrics().sum("semstreams_udp_datagrams_total")
        generate(port, 10, first + sent)
        sent += 10
        program.wait_for(lambda: program.metrics().sum("semstreams_udp_datagrams_total") > before, what="some read")
    return sent


def stopped_pipeline(policy, **source):
    return pipeline(udp(gro=False, **source),
                    storage(inputs=[queue(policy)], max_pending="1MiB", write_buffer="4KiB"))


@pytest.mark.parametrize("policy", POLICIES)
def test_stopped_disk(start, generate, check_numbers, policy):
    """What the queue has no room for waits or is dropped, from the right end."""
    config = stopped_pipeline(policy)
    program = start(config)
    port = udp_port(program)
    sent = stop_the_sink(program, port, generate)
    if policy == "block":
        generate(port, 2000, sent)
        sent += 2000
        assert program.metrics().sum("semstreams_udp_datagrams_total") < sent  # they wait in the kernel
    else:
        program.wait_metric("semstreams_events_in_total", sent, component="file")
        stopped, before = sent, sent - queue_full(program.metrics())  # of those, so many are in the queue or beyond
        while queue_full(program.metrics()) < stopped - before + 1500:
            generate(port, 100, sent)
            sent += 100
            program.wait_metric("semstreams_udp_datagrams_total", sent)
    assert_conserved(program.metrics())
    free_disk(program)
    metrics = at_rest(program, sent)
    books = balance(metrics, config)
    assert kernel_dropped(metrics) == 0
    file = program.folder / "file.jsonl"
    assert check_numbers(file, 0, sent) == books["file"]["out"] == sent - queue_full(metrics)
    numbers = seqs(file)
    if policy == "block":
        assert numbers == list(range(sent))
    if policy == "drop_newest":
        assert sum(n < stopped for n in numbers) == before
    if policy == "drop_oldest":
        assert numbers[-1] == sent - 1
    assert program.terminate() == 0
    last_words(program, config)


def test_one_full_output_leaves_the_other_alone(start, generate, check_numbers, tmp_path):
    config = pipeline(udp(), storage(inputs=[queue("drop_newest")], max_pending="1MiB"), storage("other", ["udp"]))
    (tmp_path / "file.jsonl").write_text("{}\n" * 2**20)  # the other one stays shorter than the limit
    program = start(config)
    port = udp_port(program)
    sent = stop_the_sink(program, port, generate)
    while queue_full(program.metrics()) < 4000:
        generate(port, 500, sent)
        sent += 500
        program.wait_metric("semstreams_events_out_total", sent, component="other")
    assert program.get("/readyz")[0] == 503
    free_disk(program)
    balance(at_rest(program, sent), config)
    assert check_numbers(program.folder / "other.jsonl", 0, sent) == sent
    assert program.terminate() == 0


# ---- ended in mid-stream -----------------------------------------------------------------------------------


def expect_all_told(program, config, sent, check):
    last = last_words(program, config)
    source, sink = last["udp"], last["file"]
    assert sent == source["in"] + source.get("udp_kernel_dropped", 0)
    assert check(program.folder / "file.jsonl", 0, sent) == sink["out"]
    return last


@pytest.mark.parametrize("policy", POLICIES)
def test_sigterm_with_full_queues(start, generate, check_numbers, policy):
    """The stream goes on while the program is told to end and cannot yet."""
    config = stopped_pipeline(policy, receive_buffer="16KiB")
    program = start(config)
    port = udp_port(program)
    first = stop_the_sink(program, port, generate)
    lost = kernel_dropped if policy == "block" else queue_full
    with Sender(port, first) as sender:
        program.wait_for(lambda: lost(program.metrics()) > 100, what="losses")
        program.signal(signal.SIGTERM)
        program.wait_log("Shutting down")
        before = sender.sent
        program.wait_for(lambda: sender.sent > before + 2000, what="more sent")
    free_disk(program)
    assert program.wait() == 0
    last = expect_all_told(program, config, first + sender.sent, check_numbers)
    assert last["udp"]["udp_kernel_dropped"] > 0
    assert last["udp"]["dropped"] == 0
    assert last["file"]["dropped"] == last["file"].get("dropped_queue_full", 0)


@pytest.mark.parametrize("receive_buffer", ["16KiB", "2MiB"])
def test_sigterm_with_full_receive_buffer(start, check_numbers, receive_buffer):
    """What the kernel holds when the program ends is stored like everything else."""
    config = pipeline(udp(receive_buffer=receive_buffer), storage(sync="always", inputs=[queue()]))
    program = start(config)
    port = udp_port(program)
    with Sender(port) as sender:
        program.wait_metric("semstreams_events_out_total", 5000, component="file")
        program.signal(signal.SIGSTOP)
        before = sender.sent
        program.wait_for(lambda: sender.sent > before + 10000, what="more sent")
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGCONT)
    assert program.wait() == 0
    last = expect_all_told(program, config, sender.sent, check_numbers)
    assert last["file"]["dropped"] == last["udp"]["dropped"] == 0
    assert receive_buffer != "16KiB" or last["udp"]["udp_kernel_dropped"] > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_ended_at_once(start, generate, check_numbers, policy):
    """Not drained at all: what is not stored is told all the same."""
    config = stopped_pipeline(policy, receive_buffer="64KiB")
    program = start(config)
    port = udp_port(program)
    sent = stop_the_sink(program, port, generate)
    with Sender(port, sent) as sender:
        program.wait_for(lambda: sender.sent > 20000, what="sent")
    program.signal(signal.SIGTERM)
    program.stop_at_once()
    assert program.wait() == 1
    last = expect_all_told(program, config, sent + sender.sent, check_numbers)
    assert last["file"]["dropped_shutdown"] > 0
    assert last["file"]["dropped"] == last["file"]["dropped_shutdown"] + last["file"].get("dropped_queue_full", 0)


# ---- at every scrape ---------------------------------------------------------------------------------------


class Auditor:
    """Scrapes one after the other; each has to balance, and no counter may go back."""

    def __init__(self, program):
        self._scrape = Scraper(program)
        self._before = {}
        self.scrapes = 0

    def __call__(self):
        m = self._scrape()
        assert_conserved(m)
        for key, value in m.items():
            assert value >= 0, (key, value)
            if key[0].endswith("_total"):
                assert value >= self._before.get(key, 0), (key, value)
        assert self._before.keys() <= m.keys()
        self._before = m
        self.scrapes += 1
        return m


@pytest.mark.parametrize("worker", [None, "w"], ids=["threads", "one worker"])
def test_every_scrape(start, check_numbers, worker):
    config = pipeline(udp(worker=worker, receive_buffer="1MiB"),
                      half(worker=worker) | {"inputs": [queue("drop_oldest", events=128)]},
                      storage(worker=worker, inputs=[queue("drop_newest", "half", events=16)], sync="always"),
                      storage("all", [queue("block", events=256)], worker, max_pending="1MiB"))
    program = start(config)
    audit = Auditor(program)
    with Sender(udp_port(program), segmented=True) as sender:
        busy = 0
        while audit.scrapes < 300 or busy < 50:
            busy += held(audit()) > 0
        # the disk fills and empties under load
        stop_disk(program, program.folder / "file.jsonl")
        program.wait_for(lambda: audit() and "Cannot write" in program.log(), what="full disk")
        free_disk(program)
        program.wait_for(lambda: audit() and "Writing again" in program.log(), what="disk freed")
    at_rest(program, sender.sent, SEGMENTS)
    balance(audit(), config)
    assert program.terminate() == 0
    last = last_words(program, config)
    assert check_numbers(program.folder / "all.jsonl", 0, sender.sent) == last["all"]["out"]


def test_every_scrape_while_draining(start, check_numbers):
    config = stopped_pipeline("block", receive_buffer="64KiB")
    program = start(config)
    audit = Auditor(program)
    with Sender(udp_port(program)) as sender:
        program.wait_metric("semstreams_events_out_total", 1000, component="file")
        stop_disk(program, program.folder / "file.jsonl")
        program.wait_for(lambda: audit() and "Cannot write" in program.log(), what="full disk")
        program.signal(signal.SIGTERM)
        program.wait_log("Shutting down")
        for _ in range(50):
            assert held(audit()) > 0
    free_disk(program)
    assert program.wait() == 0
    expect_all_told(program, config, sender.sent, check_numbers)
