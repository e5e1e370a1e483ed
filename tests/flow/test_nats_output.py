# SPDX-License-Identifier: MIT
"""nats_output with real servers: each event is in the stream once, whoever is killed, or what went wrong is said."""

import json
import os
import random
import re
import signal
import socket
import threading

import pytest
from natslib import cluster, nats, start_nats, until  # noqa: F401
from pki import Pki
from test_exactly_once import acked, kill_at_random, pipeline, replay, run, source  # noqa: F401

KILLS = int(os.environ.get("TEST_KILLS", "8"))
STREAM = "EVENTS"


def output(server, *inputs, **options):
    return {"id": "out", "type": "nats_output", "inputs": list(inputs),
            "config": {"servers": server if isinstance(server, str) else server.url, "stream": STREAM, "subject": "events.{component}",
                       "durability": "relaxed", **options}}


def udp_to(server, udp_port, *, security=None, **options):
    config = {"components": [{"id": "udp", "type": "udp_input", "config": {"port": udp_port, "bind": "127.0.0.1"}},
                             output(server, "udp", **options)]}
    return {**config, "security": security} if security else config


def create(server, subjects=("events.>",), **more):
    with server.client() as js:
        js.add_stream(STREAM, list(subjects), **more)


def messages(server):
    with server.client() as js:
        return js.messages(STREAM)


def numbers(server):
    return [json.loads(m.data)["n"] for m in messages(server)]


def count(server):
    with server.client() as js:
        return js.state(STREAM)["messages"]


def degraded(program):
    return json.dumps(json.loads(program.get("/readyz")[1]).get("degraded") or "")


def assert_once(server, folder):
    """All that was acknowledged is there, each once and in order; beyond, at most what was under way."""
    found, last = numbers(server), acked(folder, "one")
    assert found == list(range(1, len(found) + 1)), "a hole, or a double"
    assert len(found) >= last > 0


def test_message(nats, start, send, udp_port):
    """An event's bytes are the message, its attributes the headers."""
    create(nats)
    program = start(udp_to(nats, udp_port))
    send(udp_port, b"\x00one", b"two")
    program.wait_metric("semstreams_nats_stored_total", 2, component="out")
    one, two = messages(nats)
    assert (one.subject, one.data, two.data) == ("events.out", b"\x00one", b"two")
    assert one.headers["Semstreams-Input"] == "udp"
    assert one.headers["Semstreams-Address"].startswith("127.0.0.1:")
    assert int(one.headers["Semstreams-Received"]) > 10**18
    assert two.headers["Nats-Expected-Last-Sequence"] == "1"
    assert program.terminate() == 0


def test_ours_killed(replay, run, nats, tmp_path):  # noqa: F811
    create(nats)
    config = pipeline(replay, source("one"), output(nats, "one"))
    rng = random.Random(11)
    for _ in range(KILLS):
        kill_at_random(run, config, rng, longest=0.4)
    program = run(config)
    program.wait_metric("semstreams_nats_stored_total", 500, component="out")
    assert program.terminate() == 0
    assert_once(nats, tmp_path)


def test_server_killed(replay, run, nats, tmp_path, conserved):  # noqa: F811
    create(nats)
    program = run(pipeline(replay, source("one"), output(nats, "one", retry_max="200ms")))
    for n in range(4):
        program.wait_metric("semstreams_nats_stored_total", 500 * (n + 1), component="out")
        nats.kill()
        program.wait_metric("semstreams_nats_connected", 0, component="out") if n else None
        nats.start()
    before = program.metrics().sum("semstreams_nats_stored_total")
    conserved(program.wait_metric("semstreams_nats_stored_total", before + 500, component="out"))
    assert program.terminate() == 0
    assert "connecting anew" in program.log()
    assert_once(nats, tmp_path)


@pytest.mark.slow
def test_another_writer(replay, run, nats, tmp_path):  # noqa: F811
    """It is noticed, said, and waited for; nothing of ours is missing or comes twice."""
    create(nats)
    program = run(pipeline(replay, source("one"), output(nats, "one")))
    program.wait_metric("semstreams_nats_stored_total", 300, component="out")
    with nats.client() as js:
        for _ in range(3):
            js.publish("events.foreign", b"{}")
    program.wait_log("another writer publishes to stream")
    assert "another writer" in degraded(program)
    assert program.metrics().sum("semstreams_nats_fenced_total") >= 1
    before = program.metrics().sum("semstreams_nats_stored_total")
    program.wait_log("The other writer has stopped")
    program.wait_metric("semstreams_nats_stored_total", before + 300, component="out")
    assert program.terminate() == 0
    found = [json.loads(m.data)["n"] for m in messages(nats) if m.subject == "events.out"]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acked(tmp_path, "one")


def test_no_stream(nats, start, send, udp_port):
    """It is not created: what does so is said, and events wait."""
    program = start(udp_to(nats, udp_port))
    send(udp_port, b"one")
    program.wait_log("nats stream add EVENTS")
    assert "there is no stream" in degraded(program)
    create(nats)
    program.wait_metric("semstreams_nats_stored_total", 1, component="out")
    until(lambda: degraded(program) == '""', "no trouble")
    assert program.terminate() == 0
    assert [m.data for m in messages(nats)] == [b"one"]


def test_purged_and_created_anew(replay, run, nats, tmp_path):  # noqa: F811
    create(nats)
    program = run(pipeline(replay, source("one"), output(nats, "one", retry_max="500ms")))
    program.wait_metric("semstreams_nats_stored_total", 300, component="out")
    with nats.client() as js:
        js.purge(STREAM)
    before = program.metrics().sum("semstreams_nats_stored_total")
    program.wait_metric("semstreams_nats_stored_total", before + 300, component="out")
    found = numbers(nats)
    assert found == list(range(found[0], found[0] + len(found))), "a purge makes no hole behind it"
    with nats.client() as js:
        js.delete_stream(STREAM)
    program.wait_log("there is no stream")
    create(nats)
    program.wait_log("The stream was deleted and created anew: messages that were acknowledged are gone.*lost=[1-9]")
    before = program.metrics().sum("semstreams_nats_stored_total")
    program.wait_metric("semstreams_nats_stored_total", before + 300, component="out")
    assert program.metrics().sum("semstreams_nats_lost_total") > 0
    assert program.terminate() == 0
    found = numbers(nats)
    assert found == list(range(found[0], found[0] + len(found)))


def test_full(replay, run, nats, tmp_path):  # noqa: F811
    create(nats, max_msgs=200)
    program = run(pipeline(replay, source("one"), output(nats, "one")))
    program.wait_log("does not take events: maximum messages exceeded")
    assert count(nats) == 200
    assert "does not take events" in degraded(program)
    with nats.client() as js:
        config = js.stream(STREAM)["config"]
        js.api(f"STREAM.UPDATE.{STREAM}", {**config, "max_msgs": -1})
    program.wait_metric("semstreams_nats_stored_total", 500, component="out")
    until(lambda: degraded(program) == '""', "no trouble")
    assert program.terminate() == 0
    assert_once(nats, tmp_path)


@pytest.mark.parametrize("durability,said", [("durable", "syncs|acknowledges before it syncs to disk"),
                                             ("replicated", "fewer than 3 replicas")])
def test_durability(nats, start, send, udp_port, durability, said):
    """What the server cannot keep is refused, and nothing is published."""
    create(nats)
    program = start(udp_to(nats, udp_port, durability=durability))
    send(udp_port, b"one")
    program.wait_log(said)
    until(lambda: program.get("/readyz")[0] == 503, "a program that is not ready")
    assert count(nats) == 0
    program.signal(signal.SIGTERM)
    program.stop_at_once()
    program.wait()


def into_cluster(replay, cluster):
    with cluster.client() as js:
        js.add_stream(STREAM, ["events.>"], replicas=3)
    out = output(cluster.urls[0], "one", servers=cluster.urls, durability="replicated", retry_max="500ms", timeout="2s")
    return pipeline(replay, source("one"), out)


def store_more(program):
    before = program.metrics().sum("semstreams_nats_stored_total")
    program.wait_metric("semstreams_nats_stored_total", before + 200, component="out")


@pytest.mark.slow
def test_leader_killed(replay, run, cluster, tmp_path):  # noqa: F811
    """Of three replicas; the two that are left have all that was acknowledged, and go on."""
    program = run(into_cluster(replay, cluster))
    store_more(program)
    killed = until(lambda: cluster.leader(STREAM), "a leader")
    killed.kill()
    store_more(program)
    assert program.terminate() == 0
    killed.start(wait=False)
    cluster.wait_current(STREAM)
    assert_once(cluster, tmp_path)


@pytest.mark.slow
def test_lame_duck(replay, run, cluster, tmp_path):  # noqa: F811
    """A server that goes away says so, and another one of the three is taken."""
    program = run(into_cluster(replay, cluster))
    store_more(program)
    connected, = re.findall(r"NATS connected server=(\S+)", program.log())
    next(s for s in cluster.servers if s.url == connected).lame_duck()
    # it is told, or hears it from JetStream there, which ends at once
    program.wait_log(f"connecting anew server={re.escape(connected)} error=.*(lame duck|nobody takes)")
    store_more(program)
    assert program.terminate() == 0
    assert_once(cluster, tmp_path)


def test_check_connect(nats, command, udp_port, tmp_path):
    """What start would refuse, check --connect says before, and what does not speak NATS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for options, code, said in (({"durability": "durable"}, 1, "acknowledge before they sync"),
                                    ({}, 0, "NATS 2.* with JetStream"),
                                    ({"servers": f"nats://127.0.0.1:{listener.getsockname()[1]}"}, 1, "nothing came in time")):
            (tmp_path / "config.json").write_text(json.dumps(udp_to(nats, udp_port, **options)))
            done = command("check", "--connect", "--timeout", "2s", "config.json")
            assert re.search(said, done.stdout + done.stderr), done.stdout + done.stderr
            assert (done.returncode != 0) == code


def test_many_writers(replay, run, nats, tmp_path):  # noqa: F811
    """At least once; within the window what is sent again is known by its id."""
    create(nats)
    config = pipeline(replay, source("one"), output(nats, "one", writers="many"))
    rng = random.Random(3)
    for _ in range(4):
        kill_at_random(run, config, rng, longest=0.4)
    program = run(config)
    program.wait_metric("semstreams_nats_stored_total", 300, component="out")
    with nats.client() as js:
        js.publish("events.foreign", b'{"n": 0}')
    before = program.metrics().sum("semstreams_nats_stored_total")
    program.wait_metric("semstreams_nats_stored_total", before + 300, component="out")
    assert program.terminate() == 0
    found = [n for n in numbers(nats) if n]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acked(tmp_path, "one")


def test_subjects(nats, run, send, udp_port):  # noqa: F811
    """Values make no wildcards and no further parts; what has no subject goes where it is told, or is counted."""
    create(nats, ["events.*.*", "refused"])
    program = run(udp_to(nats, udp_port, subject="events.{input}.{/sensor/id}", refused_subject="refused"))
    send(udp_port, b'{"sensor": {"id": "a.b *>"}}', b'{"sensor": {"id": 7}}', b"no JSON", b'{"sensor": {}}')
    program.wait_metric("semstreams_nats_stored_total", 4, component="out")
    assert [m.subject for m in messages(nats)] == ["events.udp.a%2Eb%20%2A%3E", "events.udp.7", "refused", "refused"]
    assert [m.headers.get("Semstreams-Refused") for m in messages(nats)] == [None, None, "not_json", "no_field"]
    assert program.terminate() == 0
    program = run(udp_to(nats, udp_port, subject="events.{input}.{/sensor/id}"))
    send(udp_port, b'{"sensor": {}}', b'{"sensor": {"id": 8}}')
    program.wait_metric("semstreams_nats_stored_total", 1, component="out")
    assert program.metrics().sum("semstreams_events_dropped_total", component="out", reason="no_subject") == 1
    assert program.terminate() == 0


def test_mutual_tls(start_nats, run, send, udp_port, tmp_path):  # noqa: F811
    """The identity of security.tls, in memory; a server that another CA vouches for, or by another name, gets nothing."""
    pki, other = Pki(tmp_path / "pki"), Pki(tmp_path / "other", cn="Another Root CA")
    leaf = pki.location("hub").leaf("hub", sans=["127.0.0.1", "localhost"])
    edge = pki.location("edge").leaf("edge")
    trusted = {"ca_files": [pki.ca_file]}
    server = start_nats(tls=leaf.settings(ca_file=pki.ca_file), client_tls=edge.settings(ca_file=pki.ca_file))
    create(server)
    program = run(udp_to(server, udp_port, security={"tls": {"client": {**edge.settings(), **trusted}}}))
    send(udp_port, b"one")
    program.wait_metric("semstreams_nats_stored_total", 1, component="out")
    assert program.terminate() == 0
    for client, url, said in (({**edge.settings(), "ca_files": [other.ca_file]}, server.url, "certificate"),
                              (trusted, server.url, "Cannot connect to NATS"),
                              ({**edge.settings(), **trusted}, f"tls://127.0.0.2:{server.port}", "Cannot connect to NATS")):
        program = run(udp_to(url, udp_port, security={"tls": {"client": client}}, retry_max="200ms"))
        program.wait_log(said)
        send(udp_port, b"two")
        assert program.metrics().sum("semstreams_nats_connected") == 0
        program.signal(signal.SIGTERM)
        program.stop_at_once()
        program.wait()
    assert [m.data for m in messages(server)] == [b"one"]


def test_handshake_without_end(nats, run, send, udp_port, tcp_port):  # noqa: F811
    """A server that says it wants TLS and then nothing any more does not keep it from the next one."""
    create(nats)
    info = b'INFO {"server_id":"x","version":"2.9.0","tls_required":true,"max_payload":1048576,"proto":1,"headers":true}\r\n'
    plugs = []
    with socket.create_server(("127.0.0.1", tcp_port)) as listener:
        def serve():
            try:
                while True:
                    plug, _ = listener.accept()
                    plug.sendall(info)
                    plugs.append(plug)
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        stalled = f"nats://127.0.0.1:{tcp_port}"
        program = run(udp_to(stalled, udp_port, timeout="1s", retry_max="200ms"))
        program.wait_log(f"Cannot connect to NATS, trying again server={stalled}")
        until(lambda: len(plugs) > 1, "another attempt")
        assert program.terminate() == 0
        program = run(udp_to(nats, udp_port, servers=[stalled, nats.url], timeout="1s", retry_max="200ms"))
        send(udp_port, b"one")
        program.wait_metric("semstreams_nats_stored_total", 1, component="out")
        assert program.terminate() == 0
    for plug in plugs:
        plug.close()
    assert [m.data for m in messages(nats)] == [b"one"]
