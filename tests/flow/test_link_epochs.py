# SPDX-License-Identifier: MIT
"""Logs that are not what they were: set back, copied, restored; and consumers that never come back."""

import random
import re
import shutil
import subprocess

import pytest

from conftest import Program
from link_faults import Disk, build_shim
from test_link import Chain, Sender


class Cast:
    """The chain, A's spool of which is put back to what it was."""

    def __init__(self, binary, folder):
        self.chain = Chain(binary, folder)
        self.spool, self.backup = folder / "a" / "spool", folder / "backup"
        for name in "abc":
            self.chain.start(name)
        self.sender = Sender(self.chain.udp)

    @property
    def a(self):
        return self.chain.programs["a"]

    def send(self, n):
        before = self.a.metrics().sum("semstreams_events_out_total", component="edge")
        self.sender.send(n)
        self.a.wait_metric("semstreams_events_out_total", before + n, component="edge")

    def arrived(self, wanted):
        self.chain.programs["c"].wait_for(lambda: set(wanted) <= set(self.chain.seqs()), what="all in C's file")
        return self.chain.seqs()

    def acknowledged(self, seq):
        """B's acknowledgement is on A's disk."""
        self.a.wait_for(lambda: f"consumer  from-a  acked {seq}  behind 0  " in self.ls(), what="the cursor on disk")

    def ls(self):
        done = subprocess.run([self.chain.binary, "spool", "ls", self.spool], capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.stdout

    def stop(self):
        assert self.a.terminate() == 0


@pytest.fixture
def cast(semstreams, tmp_path):
    c = Cast(semstreams, tmp_path)
    yield c
    c.chain.close()


def set_back(cast):
    """200 events, of which A's spool knows 100 after it; the spool is A's again, A is not running."""
    cast.send(100)
    cast.arrived(range(100))
    cast.acknowledged(100)
    cast.stop()
    shutil.copytree(cast.spool, cast.backup)
    cast.chain.start("a")
    cast.send(100)
    cast.arrived(range(200))
    cast.acknowledged(200)
    cast.stop()


def test_a_restored_spool_gives_no_number_twice(cast):
    """While B is away A takes more than B has of the log's former life: all of it arrives, and nothing twice."""
    set_back(cast)
    shutil.rmtree(cast.spool)
    shutil.copytree(cast.backup, cast.spool)
    cast.chain.kill("b")
    cast.chain.start("a")
    cast.send(300)
    cast.chain.start("b")
    seqs = cast.arrived(range(500))
    assert seqs == list(range(500))
    assert "The spool gets a new epoch: it is a copy" in cast.a.log()
    assert cast.a.metrics().sum("semstreams_spool_renewals_total") == 1
    assert cast.chain.programs["b"].metrics().sum("semstreams_link_restarts_total") == 1, "B had more than there is"


def test_a_log_set_back_behind_its_back_is_found_out_by_the_consumer(cast):
    """The files are the same files with older content, as after a snapshot: only B can tell."""
    set_back(cast)
    for file in cast.spool.iterdir():
        if not (cast.backup / file.name).exists():
            file.unlink()
    for file in cast.backup.iterdir():
        with open(cast.spool / file.name, "r+b") as f:
            f.write(file.read_bytes())
    cast.chain.start("a")
    cast.a.wait_metric("semstreams_spool_renewals_total", 1)
    cast.a.wait_log("Consumer is ahead of the send log.* consumer=from-a component=edge$")
    cast.send(300)
    seqs = cast.arrived(range(500))
    assert [n for n in seqs if n >= 200] == list(range(200, 500)), "new ones come once"
    cast.stop()
    cast.chain.start("a")
    assert "new epoch" not in cast.a.log(), "it is on disk"
    cast.send(100)
    cast.arrived(range(600))


def test_a_copy_that_lost_nothing_doubles_nothing(cast):
    """A spool moved to another place while B is away: what B has counts under the new epoch."""
    cast.send(100)
    cast.arrived(range(100))
    cast.chain.kill("b")
    cast.send(50)
    cast.chain.kill("a")
    cast.spool.rename(cast.backup)
    shutil.copytree(cast.backup, cast.spool)
    cast.chain.start("a")
    cast.send(50)
    cast.chain.start("b")
    assert cast.arrived(range(200)) == list(range(200))
    assert cast.chain.programs["b"].metrics().sum("semstreams_link_restarts_total") == 0
    cast.chain.kill("b")
    cast.chain.start("b")
    cast.send(10)
    assert cast.arrived(range(210)) == list(range(210))


class Forgetful(Chain):
    """A's disk forgets what was not synced when the power fails."""

    def __init__(self, binary, folder, **how):
        super().__init__(binary, folder)
        self.disk = Disk(folder / "a", build_shim(folder), **how)

    def run(self, name, folder, config):
        if name != "a":
            return Program(self.binary, folder, config)
        # what is deleted is kept beside the folder
        return Program(self.binary, folder, {**config, "sandbox": "off"}, env=self.disk.env)


def test_a_relaxed_spool_may_lose_but_new_events_are_new(semstreams, tmp_path):
    """A loses power and what B has already, and gives out its numbers again: nothing new is taken for what B has."""
    chain, rng = Forgetful(semstreams, tmp_path), random.Random(7)
    chain.components["a"][1]["config"]["spool"]["sync"] = "relaxed"
    try:
        for name in "abc":
            chain.start(name)
        sender, wanted, lost = Sender(chain.udp), set(), 0
        for _ in range(8):
            first = sender.sent
            for _ in range(5):
                sender.send(40)
                chain.programs["a"].wait_metric("semstreams_events_out_total", sender.sent - first, component="edge")
            wanted.update(range(first, sender.sent))
            chain.programs["c"].wait_for(lambda: wanted <= set(chain.seqs()), what="all of this life in C's file")
            chain.kill("a")
            chain.disk.cut(rng)
            chain.start("a")
            lost += chain.programs["a"].metrics().sum("semstreams_spool_renewals_total")
        assert lost == 8, "each time a new epoch"
        assert chain.programs["b"].metrics().sum("semstreams_link_restarts_total") > 0, "B had more than A's disk"
        seqs = chain.seqs()
        assert len(seqs) == len(set(seqs)), "nothing twice"
    finally:
        chain.close()


class Worst(random.Random):
    """Nothing that was not synced is left."""

    def choice(self, of):
        return of[0]


def test_what_a_killed_process_had_not_synced_its_successor_does(semstreams, tmp_path):
    """A is killed before its first segment's name is on disk; the next A writes into it, and loses its power."""
    for i in range(4):
        folder = tmp_path / str(i)
        folder.mkdir()
        chain = Forgetful(semstreams, folder, slow_us=600000)
        try:
            chain.start("a")
            sender = Sender(chain.udp)
            sender.send(10)
            a, spool = chain.programs["a"], folder / "a" / "spool"
            a.wait_for(lambda s=spool: list(s.glob("*.seg")), what="a segment")
            chain.kill("a")
            chain.start("a")
            sender.send(10)
            chain.programs["a"].wait_metric("semstreams_events_out_total", 10, component="edge")
            chain.kill("a")
            chain.disk.cut(Worst())
            done = subprocess.run([semstreams, "spool", "check", spool], capture_output=True, text=True, check=False)
            assert done.returncode == 0 and int(re.search(r"^records +(\d+)", done.stdout, re.M)[1]) >= 10, done.stdout
        finally:
            chain.close()


def test_a_consumer_that_stays_away_is_forgotten(cast):
    """B is away for longer than forget_after: it is forgotten, and is new when it comes after all."""
    cast.stop()
    cast.chain.components["a"][1]["config"]["spool"]["forget_after"] = "3s"
    cast.chain.start("a")
    cast.send(100)
    cast.arrived(range(100))
    cast.acknowledged(100)
    cast.chain.kill("b")
    cast.send(50)
    assert "from-a" in cast.ls()
    cast.a.wait_metric("semstreams_link_forgotten_total", 1)
    cast.a.wait_log("Consumer forgotten: it was away .*consumer=from-a acked=100")
    cast.a.wait_for(lambda: "from-a" not in cast.ls(), what="gone from disk")
    cast.chain.start("b")
    cast.send(50)
    assert cast.arrived(range(200)) == list(range(200))
    assert cast.a.metrics().sum("semstreams_link_lost_total") == 0


def test_damage_counts_as_long_as_somebody_lacks_the_record(cast):
    def check():
        return subprocess.run([cast.chain.binary, "spool", "check", cast.spool], capture_output=True, text=True,
                              check=False)

    cast.chain.kill("b")
    cast.send(20)
    cast.stop()
    assert check().returncode == 0
    file = next(cast.spool.glob("*.seg"))
    data = file.read_bytes()
    at = data.index(b'{"seq": 7,')
    with open(file, "r+b") as f:
        f.seek(at + 2)
        f.write(b"S")
    done = check()
    assert done.returncode == 1 and "damaged: 8 to 8\n" in done.stdout and "bad: 1 damaged, 0 missing" in done.stdout
    cast.chain.start("a")
    cast.chain.start("b")
    cast.arrived(set(range(20)) - {7})
    cast.chain.programs["b"].wait_log("Events lost by the sender .*from=8 to=8")
    cast.acknowledged(20)
    cast.stop()
    assert check().returncode == 0, "everybody has what there was"


def test_when_a_consumer_was_seen_last_is_shown(cast):
    cast.send(10)
    cast.arrived(range(10))
    cast.acknowledged(10)
    cast.stop()
    shown = cast.ls()
    assert re.search(r"^consumer  from-a  acked 10  behind 0  seen 20\d\d-\d\d-\d\dT[\d:]+Z, \d+m?s ago$", shown, re.M), shown
    assert re.search("^epoch     [0-9a-f]{32}$", shown, re.M), shown
