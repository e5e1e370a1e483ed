# SPDX-License-Identifier: MIT
"""nats_input against real servers: what is in a stream is stored once by one reader, and shared by many."""

import json
import re

import pytest
from conftest import PATIENCE, whole_lines
from natslib import Cluster, Nats, nats, start_nats, until  # noqa: F401
from pki import Pki


def reader(server, name="in", stream="EVENTS", durable="work", **options):
    servers = server if isinstance(server, (str, list)) else server.url
    return {"id": name, "type": "nats_input",
            "config": {"servers": servers, "stream": stream, "durable": durable, "timeout": "2s", "retry_max": "500ms", **options}}


def keeps(name="file", **options):
    return {"id": name, "type": "storage", "config": {"path": f"{name}.jsonl", **options}}


def pipeline(*components, **more):
    return {"components": list(components), **more}


def fill(js, first, count, subject="events.a", stream="EVENTS"):
    js.publish_many([(subject, json.dumps({"n": n}).encode(), None) for n in range(first, first + count)])


def numbers(*files):
    return [json.loads(line)["n"] for file in files for line in whole_lines(file)]


def stored(program, file, count):
    """Wait until so many lines are there; the numbers."""
    program.wait_for(lambda: len(whole_lines(file)) >= count, what=f"{count} lines in {file}")
    return numbers(file)


def acknowledged(js, program, durable="work", stream="EVENTS", pending=0):
    """Wait until the server knows that all is over."""
    def over():
        info = js.consumer(stream, durable)
        return info["num_pending"] == pending and info["num_ack_pending"] == 0 and info
    return program.wait_for(over, what="all acknowledged")


@pytest.fixture
def js(nats):  # noqa: F811
    with nats.client() as client:
        client.add_stream("EVENTS", ["events.>"])
        yield client


# ---- one reader


def test_one_reader_stores_the_stream_in_order(js, nats, start, tmp_path):  # noqa: F811
    fill(js, 0, 2000)
    program = start(pipeline(reader(nats), keeps()))
    assert stored(program, tmp_path / "file.jsonl", 2000) == list(range(2000))
    acknowledged(js, program)
    fill(js, 2000, 10)
    assert stored(program, tmp_path / "file.jsonl", 2010) == list(range(2010))
    acknowledged(js, program)
    assert program.metrics().sum("semstreams_nats_received_messages_total") == 2010
    assert program.terminate() == 0


def test_killed_reader_goes_on_behind_what_is_stored(js, nats, start, tmp_path):  # noqa: F811
    """Each kill comes while events are stored; nothing is missing and nothing is there twice."""
    config = pipeline(reader(nats, batch=50), keeps())
    total = 0
    for _ in range(6):
        fill(js, total, 500)
        total += 500
        program = start(config)
        program.wait_for(lambda: len(whole_lines(tmp_path / "file.jsonl")) > total - 400, what="some lines")
        program.process.kill()
        program.process.wait()
    program = start(config)
    assert stored(program, tmp_path / "file.jsonl", total) == list(range(total))
    assert program.terminate() == 0


def test_killed_server_goes_on(js, nats, start, tmp_path):  # noqa: F811
    program = start(pipeline(reader(nats, batch=20), keeps()))
    total = 0
    for _ in range(3):
        with nats.client() as client:
            fill(client, total, 300)
        total += 300
        program.wait_for(lambda: len(whole_lines(tmp_path / "file.jsonl")) > total - 300, what="some lines")
        nats.kill()
        nats.start()
    assert stored(program, tmp_path / "file.jsonl", total) == list(range(total))
    assert program.terminate() == 0
    assert numbers(tmp_path / "file.jsonl") == list(range(total))


def test_without_positions_it_goes_on_behind_what_was_acknowledged(js, nats, start, tmp_path, udp_port):  # noqa: F811
    """udp_output keeps no positions: the durable tells where to begin."""
    config = pipeline(reader(nats), {"id": "out", "type": "udp_output", "config": {"address": "127.0.0.1", "port": udp_port}})
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", udp_port))
        sink.settimeout(PATIENCE)
        for first in (0, 10):
            fill(js, first, 10)
            program = start(config)
            assert [json.loads(sink.recv(100))["n"] for _ in range(10)] == list(range(first, first + 10))
            acknowledged(js, program)
            assert program.terminate() == 0


def test_second_reader_of_the_same_durable_is_noticed(js, nats, start, tmp_path):  # noqa: F811
    """Both store all, each in order, and at least one says what is wrong."""
    folders = [tmp_path / "a", tmp_path / "b"]
    programs = []
    for folder in folders:
        folder.mkdir()
        programs.append(start(pipeline(reader(nats, batch=10), keeps()), folder=folder))
    for program in programs:  # who has no position yet begins where the durable is
        program.wait_log("Reading stream=EVENTS")
    fill(js, 0, 500)
    for program, folder in zip(programs, folders):
        assert stored(program, folder / "file.jsonl", 500) == list(range(500))
    assert any(re.search("durable was deleted or made anew|Another host reads|durable was deleted by", p.log()) for p in programs)


def test_purged_stream_is_said(js, nats, start, tmp_path):  # noqa: F811
    """What was purged before it was read is named, and what came after it is stored."""
    fill(js, 0, 10)
    program = start(pipeline(reader(nats), keeps()))
    stored(program, tmp_path / "file.jsonl", 10)
    acknowledged(js, program)
    assert program.terminate() == 0
    fill(js, 10, 20)
    js.purge("EVENTS")
    fill(js, 30, 5)
    program = start(pipeline(reader(nats), keeps()))
    assert stored(program, tmp_path / "file.jsonl", 15) == [*range(10), *range(30, 35)]
    program.wait_log(r"removed from the stream before they were read.* from=11 to=30")
    assert program.terminate() == 0
    assert program.stopped("in")["nats_lost"] == 20


def test_stream_made_anew_is_read_from_its_beginning(js, nats, start, tmp_path):  # noqa: F811
    """The same numbers are no duplicates then, in a program that runs and in one that was away."""
    fill(js, 0, 20)
    program = start(pipeline(reader(nats), keeps()))
    stored(program, tmp_path / "file.jsonl", 20)
    js.delete_stream("EVENTS")
    js.add_stream("EVENTS", ["events.>"])
    fill(js, 100, 5)
    assert stored(program, tmp_path / "file.jsonl", 25) == [*range(20), *range(100, 105)]
    program.wait_log("was deleted and made anew; it is read from its beginning")
    assert program.terminate() == 0
    js.delete_stream("EVENTS")
    js.add_stream("EVENTS", ["events.>"])
    fill(js, 200, 5)
    program = start(pipeline(reader(nats), keeps()))
    assert stored(program, tmp_path / "file.jsonl", 30) == [*range(20), *range(100, 105), *range(200, 205)]


def copy_store(server, to, back=False):
    """As a power cut that takes what was not synced: the files of an earlier moment."""
    import shutil
    source, target = (to, server.folder / "js") if back else (server.folder / "js", to)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


@pytest.mark.parametrize("running", [True, False])
def test_server_that_lost_messages_is_noticed(js, nats, start, tmp_path, running):  # noqa: F811
    """It gives their numbers to other messages, which are no duplicates."""
    config = pipeline(reader(nats), keeps())
    fill(js, 0, 10)
    nats.stop()
    copy_store(nats, tmp_path / "saved")
    nats.start()
    program = start(config)
    with nats.client() as client:
        fill(client, 10, 10)
    stored(program, tmp_path / "file.jsonl", 20)
    if not running:
        assert program.terminate() == 0
    nats.kill()
    copy_store(nats, tmp_path / "saved", back=True)
    nats.start()
    with nats.client() as client:
        assert client.state("EVENTS")["last_seq"] == 10
        fill(client, 100, 15 if running else 5)
    if not running:
        program = start(config)
        found = stored(program, tmp_path / "file.jsonl", 35)
        assert found == [*range(20), *range(10), *range(100, 105)]  # since when is not known: all comes again
    else:
        assert stored(program, tmp_path / "file.jsonl", 35) == [*range(20), *range(100, 115)]
    program.wait_log("The stream went back: the server lost messages")


def test_what_is_missing_is_said(nats, start, tmp_path):  # noqa: F811
    program = start(pipeline(reader(nats), keeps()))
    program.wait_log('There is no stream "EVENTS"; it is not made here: nats stream add EVENTS')
    assert "nats stream add" in program.get("/readyz")[1]
    with nats.client() as client:
        client.add_stream("EVENTS", ["events.>"], retention="workqueue")
        program.wait_log('set readers to "many"')
        client.delete_stream("EVENTS")
        client.add_stream("EVENTS", ["events.>"])
        fill(client, 0, 3)
    assert stored(program, tmp_path / "file.jsonl", 3) == [0, 1, 2]
    assert "degraded" not in program.get("/readyz")[1] or '"degraded":[]' in program.get("/readyz")[1].replace(" ", "")


def test_full_disk_stops_asking_and_loses_nothing(js, nats, start, tmp_path):  # noqa: F811
    """While storage cannot write, at most max_pending messages are taken out of the stream."""
    from flowlib import free_disk, stop_disk
    program = start(pipeline(reader(nats, max_pending=100, batch=50), keeps()))
    fill(js, 0, 10)
    stored(program, tmp_path / "file.jsonl", 10)
    stop_disk(program, tmp_path / "file.jsonl")
    fill(js, 10, 3000)
    program.wait_metric("semstreams_nats_unacked_messages", 50)
    program.wait_for(lambda: js.consumer("EVENTS", "work")["num_ack_pending"] >= 100, what="all that may be")
    assert js.consumer("EVENTS", "work")["num_ack_pending"] <= 1200  # what fits into the file, and max_pending
    free_disk(program)
    assert stored(program, tmp_path / "file.jsonl", 3010) == list(range(3010))


def test_mutual_tls(start, start_nats, tmp_path):  # noqa: F811
    place = Pki(tmp_path).location("a")
    server = place.leaf("127.0.0.1", sans=["127.0.0.1"])
    client = place.leaf("reader.example")
    ca = place.pki.ca_file
    server = start_nats(tls=server.settings(ca_file=ca), client_tls=client.settings(ca_file=ca))
    with server.client() as js:
        js.add_stream("EVENTS", ["events.>"])
        fill(js, 0, 100)
    tls = {"client": {**client.settings(), "ca_files": [ca]}}
    program = start(pipeline(reader(server), keeps(), security={"tls": tls}))
    assert stored(program, tmp_path / "file.jsonl", 100) == list(range(100))


# ---- attributes


@pytest.mark.parametrize("trusted", [False, True])
def test_headers_are_believed_where_trusted(js, nats, start, tmp_path, trusted):  # noqa: F811
    headers = {"Semstreams-Origin": "edge%207.example", "Semstreams-Path": "edge/relay", "Semstreams-Peer": "relay",
               "Semstreams-Verified": "peer,origin", "Semstreams-Received": "1700000000123000000"}
    js.publish("events.a", b"x", headers)
    program = start(pipeline(reader(nats, trust_origin=trusted), keeps(format="envelope")))
    program.wait_for(lambda: whole_lines(tmp_path / "file.jsonl"), what="a line")
    event = json.loads(whole_lines(tmp_path / "file.jsonl")[0])
    if trusted:
        assert event["attributes"] == {"origin": "edge 7.example", "path": "edge/relay", "peer": "relay", "input": "in"}
        assert event["received"] == "2023-11-14T22:13:20.123Z"
    else:
        assert event["attributes"] == {"peer": "unverified:in", "input": "in"}
        assert event["received"] > "2024"


# ---- many readers


def test_two_hosts_share_one_killed(js, nats, start, tmp_path):  # noqa: F811
    """Both get some; what the killed one had, the other gets; each message is stored, doubles are few."""
    folders = [tmp_path / "a", tmp_path / "b"]
    programs = []
    for folder in folders:
        folder.mkdir()
        programs.append(start(pipeline(reader(nats, readers="many", batch=20, max_pending=200, ack_wait="2s"), keeps()),
                              folder=folder))
    for program in programs:
        program.wait_metric("semstreams_nats_reading", 1)
    fill(js, 0, 2000)
    programs[1].wait_for(lambda: all(whole_lines(f / "file.jsonl") for f in folders), what="both to have some")
    fill(js, 2000, 2000)
    programs[0].process.kill()
    programs[0].process.wait()
    fill(js, 4000, 100)
    files = [folder / "file.jsonl" for folder in folders]
    programs[1].wait_for(lambda: set(numbers(*files)) == set(range(4100)), what="all messages")
    acknowledged(js, programs[1])
    twice = len(numbers(*files)) - 4100
    assert twice <= 200, "more doubles than the killed one can have had"
    assert programs[1].terminate() == 0


def test_orderly_end_leaves_nothing_for_later(js, nats, start, tmp_path):  # noqa: F811
    """A host that ends acknowledges what it stored: the next one gets neither that nor has to wait for the rest."""
    fill(js, 0, 3000)
    config = pipeline(reader(nats, readers="many", batch=50, ack_wait="1h"), keeps())
    program = start(config)
    program.wait_for(lambda: len(whole_lines(tmp_path / "file.jsonl")) > 100, what="some lines")
    assert program.terminate() == 0
    program = start(config)
    program.wait_for(lambda: set(numbers(tmp_path / "file.jsonl")) == set(range(3000)), what="all messages")
    acknowledged(js, program)


@pytest.mark.parametrize("kept", [False, True])
def test_message_that_comes_too_often_is_given_up(js, nats, start, tmp_path, kept):  # noqa: F811
    """Nobody says what becomes of the first message, as a host that it ends each time; others are stored."""
    js.add_consumer("EVENTS", "work", ack_wait=200 * 10**6)
    fill(js, 0, 1)
    fetch = json.dumps({"batch": 1, "no_wait": True}).encode()
    for _ in range(2):
        until(lambda: js.consumer("EVENTS", "work")["num_redelivered"] >= 0 and fetched(js, fetch), "a delivery")
    fill(js, 1, 5)
    letters = [{**keeps("letters", format="envelope"), "inputs": ["in.error"]}] if kept else []
    program = start(pipeline(reader(nats, readers="many", max_deliver=2), {**keeps(), "inputs": ["in"]}, *letters))
    assert sorted(stored(program, tmp_path / "file.jsonl", 5)) == [1, 2, 3, 4, 5]
    acknowledged(js, program)
    if kept:
        letter = json.loads(program.wait_for(lambda: whole_lines(tmp_path / "letters.jsonl"), what="the letter")[0])
        assert letter["text"] == '{"n": 0}'
        assert letter["attributes"]["error"].startswith("undeliverable: it failed 2 times")
        assert letter["attributes"]["component"] == "in"
    else:
        program.wait_log("A message was given up")
        assert program.metrics().sum("semstreams_events_dropped_total", component="in", reason="undeliverable") == 1


def fetched(js, request):
    """Was a message delivered to a reader that then says nothing?"""
    js.post("$JS.API.CONSUMER.MSG.NEXT.EVENTS.work", request, reply=f"{js._inbox}.fetch")
    return js._next()[0].startswith("events.")


def test_durable_that_does_not_fit_is_refused(js, nats, start):  # noqa: F811
    js.add_consumer("EVENTS", "work", ack_policy="all")
    program = start(pipeline(reader(nats, readers="many"), keeps()))
    program.wait_log("does not take each message's acknowledgement")
    js.delete_consumer("EVENTS", "work")
    program.wait_log("Reading stream=EVENTS durable=work")


@pytest.mark.parametrize("options, place", [({"stream": "a.b"}, "stream"), ({"durable": "x y"}, "durable"), ({"filter": ""}, "filter"),
                                            ({"servers": "http://x"}, "servers")])
def test_wrong_configurations(command, tmp_path, options, place):
    (tmp_path / "c.json").write_text(json.dumps(pipeline({**reader("nats://127.0.0.1:1", **options)}, keeps()), indent=1))
    done = command("check", "-c", "c.json")
    assert done.returncode == 78 and f"/components/0/config/{place}" in done.stderr
    assert re.search(r"c\.json:\d+:\d+", done.stderr)


# ---- a cluster


def test_lame_duck(start, tmp_path):
    """A server that goes away says so: reading goes on with another one, in order and without a double."""
    with Cluster(tmp_path / "cluster") as servers:
        with servers.client() as js:
            js.add_stream("EVENTS", ["events.>"], replicas=3)
            fill(js, 0, 100)
        program = start(pipeline(reader(servers.urls, batch=10), keeps()))
        stored(program, tmp_path / "file.jsonl", 100)
        connected = re.findall(r"NATS connected server=\S*?:(\d+)", program.log())[-1]
        next(s for s in servers.servers if s.port == int(connected)).lame_duck()
        program.wait_log("lame duck")
        until(lambda: fill_again(servers, 100, 100), "the stream to take messages")
        assert stored(program, tmp_path / "file.jsonl", 200) == list(range(200))


def fill_again(servers, first, count):
    """Where there is a leader; nothing is stored twice, as each number is the id of its message."""
    with servers.client(2) as js:
        js.publish_many([("events.a", json.dumps({"n": n}).encode(), {"Nats-Msg-Id": str(n)}) for n in range(first, first + count)],
                        window=1)
    return True


def test_nobody_is_there_at_first(start, tmp_path):
    server = Nats(tmp_path / "nats")
    program = start(pipeline(reader(server), keeps()))
    program.wait_log("Cannot connect to NATS")
    assert "no connection to NATS" in program.get("/readyz")[1]
    with server:
        with server.client() as js:
            js.add_stream("EVENTS", ["events.>"])
            fill(js, 0, 3)
        assert stored(program, tmp_path / "file.jsonl", 3) == [0, 1, 2]
