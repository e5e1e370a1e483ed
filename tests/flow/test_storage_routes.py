# SPDX-License-Identifier: MIT
"""One storage with many files, by attributes of events, in the real program: whose file it is, limits, and kills.

Environment: TEST_KILLS = how many kills (20 here at most).
"""

import json
import os
import random
import signal
import socket

import pytest

import link_peer
from conftest import unused_port
from flowlib import open_files
from test_exactly_once import acked, kill_at_random, pipeline, replay, run  # noqa: F401
from test_link_tls import CNS, context, federation  # noqa: F401
from test_link_trust import send_all, stored

KILLS = min(20, int(os.environ.get("TEST_KILLS", "20")))
ORIGINS = 100


def routed(path, *inputs, **options):
    return {"id": "out", "type": "storage", "inputs": list(inputs), "config": {"path": path, **options}}


def by_origin(folder):
    """{number: [origins whose files have it]}; within a file they are in order, and all of its own origin."""
    found = {}
    for file in folder.rglob("*.jsonl*"):
        assert file.suffix != ".torn"
        text, before = file.read_text(), 0
        assert not text or text.endswith("\n")
        for event in map(json.loads, text.splitlines()):
            assert event["origin"] == file.name.split(".")[0]
            assert event["n"] > before
            before = event["n"]
            found.setdefault(event["n"], []).append(event["origin"])
    return found


def replaying(origins=ORIGINS):
    return {"id": "one", "type": "replay", "config": {"acked": "../one.acked", "origins": origins}}


@pytest.mark.parametrize("options", [
    {},
    {"max_open_files": 30},  # less than there are
    {"max_open_files": 8, "rotate_size": "20KiB"},  # less than one batch needs
    {"sync": "interval", "sync_interval": "5ms"},
], ids=["all open", "some open", "few open", "interval"])
def test_killed_under_load(replay, run, tmp_path, conserved, options):  # noqa: F811
    """kill -9 in the middle: of 100 origins each event is in the file of its own, once, and none that was acknowledged is gone."""
    config = pipeline(replay, replaying(), routed("../data/{origin}.jsonl", "one", **options))
    rng, before, log, longest = random.Random(11), 0, "", 0.3
    for _ in range(KILLS):
        log += kill_at_random(run, config, rng, longest).log()
        assert acked(tmp_path, "one") >= before
        before = acked(tmp_path, "one")
        if not before:  # where syncs are slow a life that makes 100 files is longer
            longest = min(1.5 * longest, 20)
    assert before > 0, "nothing was acknowledged in all these runs"
    program = run(config)
    conserved(program.wait_metric("semstreams_events_out_total", 3000, component="out"))
    assert program.terminate() == 0
    found, last = by_origin(tmp_path / "data"), acked(tmp_path, "one")
    assert found == {n: [f"o{n // 3 % ORIGINS}"] for n in range(1, last + 1)}
    log += program.log()
    assert "Truncated uncommitted data" in log
    for word in ("ERROR", "damaged"):
        assert word not in log
    assert len(list((tmp_path / "data").glob(".out.files.*"))) == 1


def test_open_files_are_bounded_and_counted(replay, run, tmp_path):  # noqa: F811
    config = pipeline(replay, replaying(), routed("../data/{origin}/%Y.jsonl", "one", max_open_files=10))
    program = run(config)
    for _ in range(3):
        metrics = program.wait_metric("semstreams_storage_evicted_total",
                                      100 + program.metrics().sum("semstreams_storage_evicted_total"), component="out")
        assert metrics.sum("semstreams_storage_open_files", component="out") <= 10
        assert sum(link.endswith(".jsonl") for link in open_files(program)) <= 10
    assert program.terminate() == 0
    assert sorted(p.name for p in (tmp_path / "data").glob("o*")) == sorted(f"o{i}" for i in range(ORIGINS))


def test_no_more_files_than_allowed(replay, run, tmp_path):  # noqa: F811
    """What gets no file of its own is in %other: nothing is lost, also over restarts."""
    config = pipeline(replay, replaying(), routed("../data/{origin}.jsonl", "one", max_files=40, max_peer_files=40))
    for _ in range(2):
        program = run(config)
        program.wait_metric("semstreams_events_out_total", 2000, component="out")
        program.wait_metric("semstreams_storage_other_events_total", 500, component="out")
        program.wait_log("WARN There are as many files as max_files allows")
        program.signal(signal.SIGKILL)
        program.wait()
    assert run(config).terminate() == 0
    files = {p.name: [json.loads(line) for line in p.read_text().splitlines()] for p in (tmp_path / "data").glob("*.jsonl")}
    assert len(files) == 41 and "%other.jsonl" in files
    owners = {name.split(".")[0] for name in files}
    assert all(e["origin"] not in owners for e in files["%other.jsonl"])
    numbers = sorted(e["n"] for events in files.values() for e in events)
    assert numbers == list(range(1, acked(tmp_path, "one") + 1))


def test_a_file_that_cannot_be_opened_stops_no_other(replay, run, tmp_path):  # noqa: F811
    """Its events are in %other, each once, over a kill, too; the program says so."""
    (tmp_path / "data" / "o7.jsonl").mkdir(parents=True)
    config = pipeline(replay, replaying(), routed("../data/{origin}.jsonl", "one"))
    for _ in range(2):
        program = run(config)
        program.wait_metric("semstreams_storage_other_events_total", 10, component="out")
        metrics = program.wait_metric("semstreams_events_out_total", 1000, component="out")
        assert metrics.sum("semstreams_storage_blocked", component="out") == 0
        program.wait_log("ERROR Cannot open the file; its events go to the file named %other")
        program.wait_for(lambda p=program: "o7.jsonl: is a directory" in p.get("/readyz")[1], what="degraded")
        program.signal(signal.SIGKILL)
        program.wait()
    assert run(config).terminate() == 0
    files = {p.name: [json.loads(line) for line in p.read_text().splitlines()] for p in (tmp_path / "data").glob("*.jsonl") if p.is_file()}
    assert {e["origin"] for e in files["%other.jsonl"]} == {"o7"}
    numbers = sorted(e["n"] for events in files.values() for e in events)
    assert numbers == list(range(1, acked(tmp_path, "one") + 1))


def test_by_certificate(start, tmp_path, federation):  # noqa: F811
    """Each peer's events are in the file of the name in its certificate, whatever they say; kill -9 between."""
    port = unused_port(socket.SOCK_STREAM)
    config = {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data"}},
        routed("data/{origin}/{input}.jsonl", "in")],
        "security": {"tls": {"server": federation.server("a", "abc")}}}
    senders = {name: link_peer.Sender() for name in "abc"}
    files = {name: tmp_path / "data" / CNS[name] / "in.jsonl" for name in "abc"}
    program = start(config)
    for round_ in range(1, 4):
        for name, sender in senders.items():
            sender.append(b'{"@origin":"../../x","origin":"%s","n":%d}' % (CNS["a"].encode(), round_))
            send_all(sender, port, context(federation, federation.leaves[name]), program, files[name], round_)
            assert sender.all_acked()
        program.signal(signal.SIGKILL)
        program.wait()
        program.log_file.unlink()
        program = start(config)
    for file in files.values():
        assert [json.loads(line)["n"] for line in stored(file)] == [1, 2, 3]
    assert sorted((tmp_path / "data").rglob("*.jsonl")) == sorted(files.values())
    assert program.terminate() == 0


def test_udp_by_address_and_input(start, send, udp_port, tmp_path):
    """The port of an address makes no file of its own; an event without the attribute has a name for that."""
    config = {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp_port, "bind": "127.0.0.1"}},
        routed("data/{input}_{address}_{origin}.jsonl", "udp")]}
    program = start(config)
    for n in range(3):
        send(udp_port, f'{{"n":{n}}}')
    program.wait_metric("semstreams_events_out_total", 3, component="out")
    assert program.terminate() == 0
    (file,) = (tmp_path / "data").iterdir()
    assert file.name == "udp_127.0.0.1_%none.jsonl"
    assert file.read_text() == '{"n":0}\n{"n":1}\n{"n":2}\n'


@pytest.mark.parametrize("path, why", [
    ("data/{peer}", "needs an ending"),
    ("data/{peer}{input}.jsonl", "needs a character"),
    ("data/{sender}.jsonl", "{sender} is unknown"),
    ("{peer}.jsonl", "fixed directory"),
])
def test_paths_that_check_refuses(command, tmp_path, path, why):
    config = {"components": [{"id": "udp", "type": "udp_input"}, routed(path, "udp")]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = command("check", "config.json")
    assert done.returncode == 78
    assert "/components/1/config/path" in done.stdout + done.stderr and why in done.stdout + done.stderr


def test_descriptors_are_claimed(command, tmp_path):
    """More files than the process may open are an answer of check, not of the first busy day."""
    config = {"components": [{"id": "udp", "type": "udp_input"},
                             routed("data/{peer}.jsonl", "udp", max_open_files=1000000)]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = command("check", "config.json")
    assert "/components/1/config/max_open_files" in done.stdout + done.stderr
