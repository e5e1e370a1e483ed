# SPDX-License-Identifier: MIT
"""A spool that fills up: who is behind is said at 80 % and at the limit, in the log, /readyz, /health and the metrics."""

import json
import re
import time
import urllib.error
import urllib.request

import pytest

from conftest import PATIENCE, Program, assert_conserved, whole_lines
from test_link import Chain, Sender


class Pair(Chain):
    """A with a small spool, and B, which consumes it, stores nothing, and then goes away."""

    def __init__(self, binary, folder, overflow, args=()):
        super().__init__(binary, folder)
        self.args = args
        spool = self.components["a"][1]["config"]["spool"]
        spool.update(max_bytes="1MiB", overflow=overflow)
        self.components["b"][1] = {"id": "file", "type": "storage", "config": {"path": str(folder / "b" / "out.jsonl")}}
        self.start("a")
        self.start("b")
        self.a = self.programs["a"]
        self.sender = Sender(self.udp)
        self.sender.send(50)
        self.programs["b"].wait_metric("semstreams_events_out_total", 50, component="file")
        self.programs["b"].terminate()
        self.a.wait_for(lambda: self.a.metrics().sum("semstreams_link_up") == 0, what="B gone")

    def run(self, name, folder, config):
        return Program(self.binary, folder, config, self.args)

    def health(self):
        """Of the stage, on its own port: (status, document)"""
        try:
            with urllib.request.urlopen(f"http://localhost:{self.ports['a']}/health", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def stored(self):
        return whole_lines(self.folder / "b" / "out.jsonl")

    def send_until(self, condition):
        """Some at a time, as fast as A takes them in."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.a.log()
            before = self.a.metrics().sum("semstreams_events_in_total", component="udp")
            self.sender.send(200)
            try:
                self.a.wait_metric("semstreams_events_in_total", before + 200, timeout=0.5, component="udp")
            except AssertionError:
                pass  # it is full


@pytest.fixture
def pair(semstreams, tmp_path):
    pairs = []

    def make(*args):
        pairs.append(Pair(semstreams, tmp_path, *args))
        return pairs[0]

    yield make
    for one in pairs:
        one.close()


def test_full(pair):
    """Input stops: ERROR, /readyz and /health with the same reason, after a WARN at 80 %; and the end says what it means."""
    p = pair("block", ("--shutdown-timeout", "500ms"))
    assert p.health()[0] == 200
    p.a.wait_metric("semstreams_spool_limit_bytes", 1 << 19)
    assert p.a.metrics().sum("semstreams_spool_used_bytes") * 5 < p.a.metrics().sum("semstreams_spool_limit_bytes")
    p.send_until(lambda: "The spool is full" in p.a.log())
    log = p.a.log()
    reason = r"consumer '([^']+)' has not been here for (\d+s|\d+m\d*s?): (\d+) events"
    warned = re.search(rf"WARN The spool is (\d+) % full, at the limit input stops: {reason}", log)
    assert warned and 80 <= int(warned[1]) < 100
    full = re.search(rf"ERROR The spool is full and input stops: {reason}; connect the consumer, raise max_bytes or set "
                     rf"forget_after path=.*max_bytes=1MiB.* component=edge", log)
    assert full and full[1] == warned[2] and int(full[3]) >= int(warned[4])
    metrics = p.a.metrics()
    assert int(full[3]) <= metrics.sum("semstreams_link_unacked_events")
    assert metrics.sum("semstreams_spool_used_bytes") > 0.9 * metrics.sum("semstreams_spool_limit_bytes")
    assert_conserved(metrics)
    status, document = p.health()
    assert status == 503 and document["status"] == "not ready"
    assert re.fullmatch(f"spool full: {reason}", document["reason"])
    status, text = p.a.get("/readyz")
    assert status == 503
    assert re.search(f"spool full: {reason}", json.dumps(json.loads(text)).encode().decode("unicode_escape"))
    # it comes back
    p.start("b")
    p.a.wait_for(lambda: p.health()[0] == 200, what="health")
    p.a.wait_log("INFO The spool has room again, input goes on")
    assert p.a.get("/readyz")[0] == 200
    # and when it is full the end says why it is one with a loss
    p.programs["b"].terminate()
    p.a.wait_for(lambda: p.a.metrics().sum("semstreams_link_up") == 0, what="B gone")
    lines = p.a.log().count("The spool is full")
    p.send_until(lambda: p.a.log().count("The spool is full") > lines)
    p.a.signal(15)
    assert p.a.wait() == 1
    assert re.search(rf"ERROR Stopped with a full spool, so events that waited for it could not be stored: {reason}; a source "
                     rf"that can resume sends them again, events of any other source are lost", p.a.log())


def test_drops_oldest(pair):
    """Each event that goes is counted then, once, by reason; the log says so and the consumer misses exactly these."""
    p = pair("drop_oldest")

    def lost(reason=None):
        labels = {"reason": reason} if reason else {}
        return p.a.metrics().sum("semstreams_spool_lost_events_total", component="edge", **labels)

    p.send_until(lambda: lost() > 2000)
    log = p.a.wait_log(r"WARN Events lost: dropped to make room before every consumer acknowledged them; consumer '[^']+' (has "
                       r"not been here for|does not keep up).* events=\d+ from=51 to=\d+ reason=full")
    assert log and "The spool is full" not in p.a.log()
    assert p.health()[0] == 200
    taken = p.a.metrics().sum("semstreams_events_out_total", component="edge")
    p.a.wait_for(lambda: p.a.metrics().sum("semstreams_events_out_total", component="edge") == p.sender.sent -
                 p.a.metrics().sum("semstreams_udp_kernel_dropped_total"), what="all stored")
    assert lost() == lost("full") >= 2000 and taken
    p.start("b")
    came = int(p.a.metrics().sum("semstreams_events_out_total", component="edge"))
    p.a.wait_for(lambda: len(p.stored()) >= came - lost(), what="the rest at B")
    p.programs["b"].terminate()
    stored = p.stored()
    assert len(stored) == came - lost(), "what was counted is what is missing"
    assert p.a.metrics().sum("semstreams_link_lost_total", component="edge") == lost()
    told = [int(n) for n in re.findall(r"Events lost.* events=(\d+)", p.a.log())]
    p.a.terminate()
    told = [int(n) for n in re.findall(r"Events lost.* events=(\d+)", p.a.log())]
    assert sum(told) == came - len(stored)
