# SPDX-License-Identifier: MIT
"""Events as datagrams: what comes in by UDP leaves by UDP as it came, or is counted."""

import json
import select
import signal
import socket

import pytest


class Station:
    """Who takes the datagrams in."""

    def __init__(self, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]

    def take(self, n, timeout=60):
        """The next n datagrams; fewer if they do not come."""
        got = []
        while len(got) < n and select.select([self.socket], [], [], timeout)[0]:
            got.append(self.socket.recv(65536))
        return got

    def nothing(self):
        return not select.select([self.socket], [], [], 0)[0]

    def close(self):
        self.socket.close()


@pytest.fixture
def station():
    station = Station()
    yield station
    station.close()


@pytest.fixture
def relay(start):
    """relay(port, {options}) -> Program from UDP to UDP, with its port in .udp_port"""

    def run(port, options=None, **more):
        program = start({"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
            {"id": "station", "type": "udp_output", "config": {"address": "127.0.0.1", "port": port, **(options or {})}}], **more})
        program.udp_port = int(program.wait_log(r"UDP input listening .*\bport=(\d+)")[1])
        return program

    return run


def test_each_event_is_a_datagram(relay, station, send, conserved):
    program = relay(station.port)
    payloads = [bytes([i % 256]) * (1 + i * 7 % 1400) for i in range(2000)]
    got = []
    for i in range(0, 2000, 100):
        send(program.udp_port, *payloads[i:i + 100])
        got += station.take(100)
    assert got == payloads
    metrics = program.wait_metric("semstreams_events_out_total", 2000, component="station")
    assert metrics.sum("semstreams_udp_sent_datagrams_total") == 2000
    assert metrics.sum("semstreams_udp_sent_bytes_total") == sum(map(len, payloads))
    conserved(metrics)
    assert program.terminate() == 0
    assert station.nothing()
    assert program.stopped("station")["dropped"] == 0


def test_too_long(relay, station, send, conserved):
    program = relay(station.port, {"max_datagram": 10})
    send(program.udp_port, "0123456789", "0123456789a", "end")
    assert station.take(2) == [b"0123456789", b"end"]
    metrics = program.wait_metric("semstreams_events_dropped_total", 1, component="station", reason="too_long")
    conserved(metrics)


def test_nobody_listens_until_somebody_does(relay, send, conserved, udp_port):
    station = Station(udp_port)
    program = relay(station.port)
    station.close()

    def refused():
        send(program.udp_port, "lost")
        return program.metrics().sum("semstreams_udp_refused_total") >= 2

    program.wait_for(refused, what="refusals")
    ready = json.loads(program.get("/readyz")[1])
    assert "nobody listens" in json.dumps(ready["degraded"]), ready
    station = Station(station.port)

    def recovered():
        send(program.udp_port, "heard")
        return "UDP output sends again" in program.log()

    program.wait_for(recovered, what="recovery")
    # the last that was refused is sent again
    while (came := station.take(1)) == [b"lost"]:
        pass
    assert came == [b"heard"]
    metrics = program.metrics()
    assert metrics.sum("semstreams_events_dropped_total", component="station") == 0
    conserved(metrics)
    assert program.log().count("nobody listens") == 1
    station.close()


def test_all_that_was_taken_in_leaves_before_the_end(relay, station, send):
    program = relay(station.port)
    send(program.udp_port, *(f"{i}" for i in range(500)))
    assert program.terminate() == 0
    assert station.take(500) == [f"{i}".encode() for i in range(500)]


def test_source_address(relay, station, send):
    program = relay(station.port, {"bind": "127.0.0.5"})
    port = int(program.wait_log(r"UDP output sending .* from=127\.0\.0\.5:(\d+)")[1])
    send(program.udp_port, "x")
    assert select.select([station.socket], [], [], 60)[0]
    assert station.socket.recvfrom(10) == (b"x", ("127.0.0.5", port))


@pytest.mark.parametrize("own_port", [False, True])
def test_another_address_by_reload(relay, station, send, udp_port, own_port):
    """Also from a port that stays the same."""
    program = relay(station.port, {"bind_port": udp_port} if own_port else {})
    send(program.udp_port, "one")
    assert station.take(1) == [b"one"]
    other = Station()
    config = json.loads(program.config_file.read_text())
    config["components"][1]["config"]["port"] = other.port
    program.config_file.write_text(json.dumps(config))
    program.notified.clear()
    program.signal(signal.SIGHUP)
    program.wait_notified("READY=1")
    send(program.udp_port, "two")
    assert select.select([other.socket], [], [], 60)[0]
    data, source = other.socket.recvfrom(100)
    assert data == b"two" and (source[1] == udp_port or not own_port)
    assert station.nothing()
    other.close()


@pytest.mark.parametrize("options, expected", [
    ({"address": "station.example"}, ["/components/1/config/address", "station.example"]),
    ({"address": "::"}, ["/components/1/config/address", "nobody's to send to"]),
    ({"bind": "::1"}, ["/components/1/config/bind", "both be IPv4"]),
    ({"interface": "lo"}, ["/components/1/config/interface", "multicast"]),
    ({"port": 0}, ["/components/1/config/port"]),
    ({"ttl": 256}, ["/components/1/config/ttl"]),
])
def test_wrong_options(command, tmp_path, options, expected):
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0}},
        {"id": "out", "type": "udp_output", "config": {"address": "127.0.0.1", "port": 14550, **options}}]}))
    done = command("check", "-c", file)
    assert done.returncode == 78
    for text in expected:
        assert text in done.stdout + done.stderr


def test_two_components_cannot_send_from_one_port(command, tmp_path):
    file = tmp_path / "two.json"
    sink = {"address": "127.0.0.1", "port": 14550, "bind_port": 14551}
    file.write_text(json.dumps({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 14551}},
        {"id": "out", "type": "udp_output", "config": sink}]}))
    done = command("check", "-c", file)
    assert done.returncode == 78
    assert "/components/1/config/bind_port" in done.stdout + done.stderr


def test_broadcast_is_refused_unless_allowed(start, command, tmp_path):
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "out", "type": "udp_output", "config": {"address": "127.255.255.255", "port": 14550}}]}, ready=False)
    assert program.wait() != 0
    assert "set broadcast to true" in program.log()
