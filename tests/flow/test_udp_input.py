# SPDX-License-Identifier: MIT
"""Datagrams into files: what was sent is stored or counted, also under overload and when the program ends."""

import errno
import json
import socket
import threading

import pytest

SOL_UDP, UDP_SEGMENT, IP_RECVERR = 17, 103, 11  # linux/in.h, linux/udp.h


@pytest.fixture
def udp(start):
    """udp({options}, {options of storage}) -> Program from UDP to data.jsonl, with its port in .udp_port"""

    def run(options=None, storage=None, **more):
        source = {"port": 0, "bind": "127.0.0.1", **(options or {})}
        sink = {"path": "data.jsonl", "sync": "relaxed", **(storage or {})}
        program = start({"components": [{"id": "udp", "type": "udp_input", "config": source},
                                        {"id": "file", "type": "storage", "config": sink}], **more})
        program.data = program.folder / sink["path"]
        program.udp_port = int(program.wait_log(r"UDP input listening .*\bport=(\d+)")[1])
        return program

    return run


def stored(program, n):
    """Wait until n events are in the file; the scrape."""
    return program.wait_metric("semstreams_events_out_total", n, component="file")


def lost(metrics):
    return int(metrics.sum("semstreams_udp_kernel_dropped_total"))


def test_each_datagram_is_a_line(udp, send, lines, conserved):
    program = udp()
    payloads = [json.dumps({"seq": i, "text": "x" * (i % 1500)}) for i in range(3000)]
    for i in range(0, 3000, 100):
        send(program.udp_port, *payloads[i:i + 100])
        stored(program, i + 100)
    metrics = program.metrics()
    assert metrics.sum("semstreams_udp_datagrams_total") == 3000
    assert metrics.sum("semstreams_udp_bytes_total") == sum(map(len, payloads))
    assert metrics.sum("semstreams_udp_local_port", component="udp") == program.udp_port
    conserved(metrics)
    assert program.terminate() == 0
    assert lines(program.data) == payloads


def test_both_kinds_of_addresses(udp, send, lines):
    program = udp({"bind": "::"})
    send(("127.0.0.1", program.udp_port), "four")
    stored(program, 1)
    if "address=::" in program.log():
        send(("::1", program.udp_port), "six")
        stored(program, 2)
    assert program.terminate() == 0
    assert lines(program.data) in (["four"], ["four", "six"])


def test_lines_of_a_datagram(udp, send, lines, conserved):
    program = udp({"split": "lines"})
    send(program.udp_port, "one\ntwo\r\n\nthree", "\n", "four\n")
    conserved(stored(program, 4))
    assert program.terminate() == 0
    assert lines(program.data) == ["one", "two", "three", "four"]
    assert program.stopped("udp")["dropped"] == 1


def test_too_long_empty_and_not_allowed(udp, send, lines, conserved):
    program = udp({"max_datagram": 10, "allow": ["127.0.0.0/30"]})
    send(program.udp_port, "0123456789", "0123456789a", b"", "end")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.77", 0))
        stranger.sendto(b"no", ("127.0.0.1", program.udp_port))
    metrics = program.wait_metric("semstreams_udp_datagrams_total", 5)
    metrics = stored(program, 2)
    for reason in ("truncated", "empty", "not_allowed"):
        assert metrics.sum("semstreams_events_dropped_total", component="udp", reason=reason) == 1
    assert metrics.sum("semstreams_udp_truncated_total") == 1
    conserved(metrics)
    assert program.terminate() == 0
    assert lines(program.data) == ["0123456789", "end"]


def test_segmented_datagrams_are_split(udp, lines):
    program = udp()
    payload = b"".join(b'{"n":%05d}' % i for i in range(60))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", program.udp_port))
        try:
            s.setsockopt(SOL_UDP, UDP_SEGMENT, 11)
        except OSError:
            pytest.skip("no UDP_SEGMENT here")
        for i in range(10):
            s.send(payload)
    stored(program, 600)
    assert program.terminate() == 0
    assert lines(program.data) == ['{"n":%05d}' % i for i in range(60)] * 10


def test_overload_loses_only_what_is_counted(udp, lines, conserved):
    program = udp({"receive_buffer": "16KiB"})
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", program.udp_port))
        while not lost(program.metrics()):
            for _ in range(5000):
                s.send(b"%08d" % sent)
                sent += 1

    def accounted_for():
        m = program.metrics()
        return m if m.sum("semstreams_events_out_total", component="file") + lost(m) >= sent else None

    metrics = program.wait_for(accounted_for, what="everything sent accounted for")
    conserved(metrics)
    assert program.terminate() == 0
    data = lines(program.data)
    assert len(data) + lost(metrics) == sent
    assert data == sorted(set(data))
    assert "Kernel dropped UDP datagrams" in program.log()


class Flood(threading.Thread):
    """Sends numbers until it is refused; then .accepted of them were taken."""

    def __init__(self, port):
        super().__init__()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self.socket.connect(("127.0.0.1", port))
        self.accepted = 0

    def run(self):
        try:
            while True:
                self.socket.send(b"%09d" % self.accepted)
                self.accepted += 1
        except ConnectionRefusedError:
            pass
        try:
            while True:
                self.socket.recvmsg(1, 1024, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
                self.accepted -= 1
        except OSError as e:
            assert e.errno == errno.EAGAIN
        self.socket.close()


@pytest.mark.parametrize("receive_buffer", ["16KiB", "8MiB"])
def test_ended_in_mid_stream(udp, lines, receive_buffer):
    program = udp({"receive_buffer": receive_buffer})
    flood = Flood(program.udp_port)
    flood.start()
    stored(program, 20000)
    assert program.terminate() == 0
    flood.join()
    last = program.stopped("udp")
    data = lines(program.data)
    assert len(data) == program.stopped("file")["out"] == last["out"]
    assert len(data) + last.get("udp_kernel_dropped", 0) + last["dropped"] == flood.accepted
    assert data == sorted(set(data))


def test_port_in_use(udp, start, tmp_path):
    program = udp()
    (tmp_path / "second").mkdir()
    second = start({"components": [{"id": "udp", "type": "udp_input",
                                    "config": {"port": program.udp_port, "bind": "127.0.0.1"}}]},
                   folder=tmp_path / "second", ready=False)
    assert second.wait() == 1
    assert f'cannot listen on port {program.udp_port} of bind "127.0.0.1": Address already in use' in second.log()


@pytest.mark.parametrize("options, expected", [
    ({"bind": "localhost"}, ["/components/0/config/bind", '"localhost" is not a numeric']),
    ({"allow": ["10.0.0.0/33", "::1", 7]}, ["/components/0/config/allow/0", "/components/0/config/allow/2"]),
    ({"multicast": "10.0.0.1"}, ["/components/0/config/multicast", "not a multicast address"]),
    ({"multicast": ["239.0.0.1"], "sockets": 2}, ["/components/0/config/sockets"]),
    ({"sockets": 17}, ["/components/0/config/sockets"]),
    ({"max_datagram": 0}, ["/components/0/config/max_datagram"]),
])
def test_wrong_options(command, tmp_path, options, expected):
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"components": [{"id": "udp", "type": "udp_input", "config": options}]}))
    done = command("check", "-c", file)
    assert done.returncode == 78
    for text in expected:
        assert text in done.stdout + done.stderr
