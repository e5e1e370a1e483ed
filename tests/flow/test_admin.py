# SPDX-License-Identifier: MIT
"""The admin port of the running program: its pages, what promtool says to them, ready or not."""

import http.client
import json
import re
import shutil
import socket
import subprocess

import pytest
from conftest import PATIENCE, assert_conserved
from flowlib import (at_rest, balance, fill, generate, half, pipeline, queue, small_disk, sockets, storage, tools, udp,
                     udp_port)

FIXTURES = (generate, small_disk, tools)  # used by name
PAGES = ["/metrics", "/livez", "/readyz", "/health"]


@pytest.fixture
def ask():
    """ask(program, method, path, body=None, headers={}) -> (status, headers, text)"""

    def request(program, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(program.admin, timeout=PATIENCE)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    return request


def test_promtool(start, generate):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    config = pipeline(udp(), half() | {"inputs": [queue("drop_oldest", events=2)]}, storage(), half("nobody"))
    config["components"][3]["inputs"] = ["half.rest"]
    program = start(config)
    generate(udp_port(program), 1000)
    metrics = at_rest(program, 1000)
    balance(metrics, config)
    status, text = program.get("/metrics")
    assert status == 200
    said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    # the samples of one name stand together, each name once with help and type
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert names == [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]


def test_names_that_hold(start):
    program = start(pipeline(udp(), half(), storage()))
    m = program.metrics()
    for component in ("udp", "half", "file"):
        for name in ("in_total", "out_total", "filtered_total", "held"):
            assert m.select(f"semstreams_events_{name}", component=component)
        assert m.select("semstreams_events_dropped_total", component=component)
    for name in ("semstreams_queue_events", "semstreams_queue_capacity_events"):
        assert m.select(name, **{"from": "udp", "to": "half"}) and m.select(name, **{"from": "half", "to": "file"})
    for name in ("semstreams_udp_kernel_dropped_total", "semstreams_udp_truncated_total", "semstreams_build_info",
                 "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds",
                 "process_start_time_seconds"):
        assert m.select(name), name
    assert_conserved(m)


def test_pages(start, ask):
    program = start(pipeline(udp(), storage()))
    for page in PAGES:
        status, headers, text = ask(program, "GET", page)
        assert status == 200 and text.endswith("\n")
        assert int(headers["Content-Length"]) == len(text)
        kind = "text/plain; version=0.0.4; charset=utf-8" if page == "/metrics" else "application/json"
        assert headers["Content-Type"] == kind
        if page != "/metrics":
            json.loads(text)
        status, head, nothing = ask(program, "HEAD", page)
        assert (status, nothing, head["Content-Type"]) == (200, "", kind)
        assert int(head["Content-Length"]) > 0
    assert json.loads(program.get("/livez")[1]) == {"status": "ok"}
    ready = json.loads(program.get("/readyz")[1])
    assert (ready["status"], ready["reasons"]) == ("ready", [])


def test_what_is_not_served(start, ask):
    program = start(pipeline(udp(), storage()))
    for page in ("/index.html", "/metric", "/metrics/", "/livez/../metrics", "//metrics", "/%6detrics2"):
        assert ask(program, "GET", page)[0] == 404, page
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        for body in (None, "x" * 1000):
            status, headers, _ = ask(program, method, "/metrics", body)
            assert (status, headers["Allow"]) == (405, "GET, HEAD"), method
    assert ask(program, "GET", "/metrics?name=x")[0] == 200
    assert ask(program, "GET", "/metrics", headers={"Host": "evil.example"})[0] == 403
    for target, status in [("http://localhost/metrics", 200), ("HTTP://127.0.0.1:1/metrics", 200), ("http://localhost", 200),
                           ("http://evil.example/metrics", 404), ("http:///metrics", 404)]:
        assert ask(program, "GET", target, headers={"Host": "localhost"})[0] == status, target
    assert program.terminate() == 0


def test_ready_or_not(start, generate, small_disk, ask):
    """A full disk, and then one with room again."""
    config = pipeline(udp(), storage(path=str(small_disk / "file.jsonl")))
    program = start(config)
    port = udp_port(program)
    assert ask(program, "GET", "/readyz")[0] == 200
    filler = fill(small_disk)
    sent = 0
    while program.get("/readyz")[0] == 200:
        generate(port, 100, sent)
        sent += 100
        program.wait_metric("semstreams_udp_datagrams_total", sent)
    for page in ("/readyz", "/health"):
        status, headers, text = ask(program, "GET", page)
        assert status == 503 and headers["Content-Type"] == "application/json"
        document = json.loads(text)
        assert document["status"] == "not ready"
        (reason,) = document["reasons"]
        assert reason["component"] == "file"
        assert "file.jsonl" in reason["reason"] and "No space left on device" in reason["reason"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reason["since"])
        assert ask(program, "HEAD", page)[0] == 503
    assert program.get("/livez")[0] == 200
    metrics = program.metrics()
    assert metrics.sum("semstreams_storage_blocked", component="file") == 1
    assert_conserved(metrics)
    filler.unlink()
    program.wait_for(lambda: program.get("/readyz")[0] == 200, what="ready again")
    balance(at_rest(program, sent), config)
    assert json.loads(program.get("/readyz")[1])["reasons"] == []
    assert program.terminate() == 0
    assert program.stopped("file")["out"] == sent


def listening(program):
    """Addresses of the TCP sockets it listens on."""
    return [row[1] for row in sockets(program, "tcp", "tcp6") if row[3] == "0A"]


def test_off(start, send, udp_port, lines):
    program = start(pipeline(udp(port=udp_port), storage(), admin={"listen": "off"}))
    assert listening(program) == []
    assert "admin=off" in program.log()
    send(udp_port, "1", "2")
    program.wait_for(lambda: lines(program.folder / "file.jsonl") == ["1", "2"], what="stored")
    assert program.terminate() == 0


def test_listens_where_it_is_told(start, tcp_port):
    program = start(pipeline(udp(), storage(), admin={"listen": f"127.0.0.1:{tcp_port}"}))
    assert listening(program) == [f"0100007F:{tcp_port:04X}"]
    assert program.get("/livez")[0] == 200


def test_unix_socket(start, tmp_path):
    path = tmp_path / "admin"
    program = start(pipeline(udp(), storage(), admin={"listen": f"unix:{path}"}))
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(str(path))
        s.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        answer = b""
        while more := s.recv(4096):
            answer += more
    assert answer.startswith(b"HTTP/1.") and b" 200 OK\r\n" in answer and answer.endswith(b'{"status":"ok"}\n')
    assert program.terminate() == 0


def test_port_in_use(start, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        address = "127.0.0.1:%d" % s.getsockname()[1]
        program = start(pipeline(udp(), storage(), admin={"listen": address}), ready=False)
        assert program.wait() == 1
    (line,) = [line for line in program.log().splitlines() if " ERROR " in line]
    assert "Cannot open the admin port" in line and address in line and "Address already in use" in line
    assert not (tmp_path / "file.jsonl").exists()
    assert not any("READY" in line for line in program.notified)


def test_connections_that_ask_for_nothing(start, generate):
    """They keep neither others out nor the program from ending."""
    program = start(pipeline(udp(), storage()))
    host, port = program.admin.split(":")
    idle = []
    for _ in range(20):
        s = socket.create_connection((host, int(port)), PATIENCE)
        s.sendall(b"GET /met")
        idle.append(s)
    generate(udp_port(program), 2000)
    at_rest(program, 2000)
    assert program.get("/readyz")[0] == 200
    assert program.terminate() == 0
    for s in idle:
        s.close()
