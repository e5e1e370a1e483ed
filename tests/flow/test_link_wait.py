# SPDX-License-Identifier: MIT
"""A link whose receiver cannot pass anything on: it waits, and is not taken for dead."""

import time

import pytest

from test_link import Chain, Sender

DEAD_AFTER = 2


@pytest.fixture
def chain(semstreams, tmp_path):
    c = Chain(semstreams, tmp_path)
    quick = {"ping_interval": "1s", "dead_after": f"{DEAD_AFTER}s"}
    for component in c.components["a"][1:] + c.components["b"]:
        component["config"].update(quick)
    yield c
    c.close()


@pytest.mark.parametrize("window", [300, 65536])
def test_a_full_receiver_keeps_its_link(chain, window):
    """B keeps only a little for C, which is not there: what A has more waits in A, or, within B's window, in B."""
    source, hub = chain.components["b"]
    source["config"]["window_records"] = window
    del hub["config"]["spool"]
    hub["config"].update(buffer="64KiB", overflow="block")
    hub["inputs"] = [{"from": "from-a", "queue": {"events": 100}}]
    for name in "ab":
        chain.start(name)
    a, b = chain.programs["a"], chain.programs["b"]
    a.wait_metric("semstreams_link_up", 1)
    sender = Sender(chain.udp)
    for _ in range(20):
        sender.send(250)
        a.wait_metric("semstreams_events_out_total", sender.sent, component="edge")
    b.wait_metric("semstreams_link_unacked_events", 100)
    end = time.monotonic() + 2.5 * DEAD_AFTER
    b.wait_for(lambda: time.monotonic() > end, what="the end of a time in which nothing happens")
    for program in (a, b):
        assert program.metrics().sum("semstreams_ws_connected_total") == 1, program.log()
        assert program.metrics().sum("semstreams_link_up") == 1
    chain.start("c")
    chain.programs["c"].wait_for(lambda: len(chain.seqs()) >= sender.sent, what="all events in C's file")
    assert chain.seqs() == list(range(sender.sent))
