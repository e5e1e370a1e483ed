# SPDX-License-Identifier: MIT
"""The JSON API of the admin port and its unix socket: what it says, against its schema and /metrics; who may do what."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile

import jsonschema
import pytest

from conftest import PATIENCE, TREE
from flowlib import (at_rest, balance, free_disk, generate, half, pipeline, queue, stop_disk, storage, tools, udp,
                     udp_port)
from pki import CLIENT, Pki

FIXTURES = (generate, tools)  # used by name
SCHEMA = json.loads((TREE / "docs" / "admin-api.schema.json").read_text())
PATHS = sorted(SCHEMA["properties"])


def valid(path, document):
    jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], **SCHEMA["properties"][path]}).validate(document)
    return document


def get(program, path):
    status, text = program.get(path)
    assert status == 200, text
    return valid(path.partition("?")[0], json.loads(text))


class Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def ask(connection, method, path, body=None, headers=None):
    """(status, headers, text)"""
    with contextlib.closing(connection):
        try:
            connection.request(method, path, body, headers or {})
        except BrokenPipeError:  # who refuses need not hear it out
            pass
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def tcp(program):
    return http.client.HTTPConnection(program.admin, timeout=PATIENCE)


LEVEL = ("POST", "/api/v1/log", '{"level":"debug"}')


# ---- what it says


def test_every_path_is_documented_and_has_its_schema(start):
    program = start(pipeline(udp(), half(), storage()))
    served = set(program.get("/nothing")[1].split("Pages:")[1].split())
    page = (TREE / "docs" / "admin-api.md").read_text()
    documented = set(re.findall(r"^\| (?:`(/[\w/]+)`,? ?)(?:`(/[\w/]+)`,? ?)?(?:`(/[\w/]+)`)?", page, re.M))
    documented = {path for row in documented for path in row if path}
    assert documented - served == set()
    assert {path for path in served if path.startswith("/api/")} == {p for p in documented if p.startswith("/api/")}
    assert {p for p in served if p.startswith("/api/")} - set(PATHS) == {"/api/v1/events", "/api/v1/reload", "/api/v1/tap"}
    for path in PATHS:
        get(program, path)
    for bad in ("/api/v1/queues?x=1", "/api/v1/log?after=x", "/api/v1/config?effective=maybe", "/api/v1/links?limit=0"):
        status, text = program.get(bad)
        assert status == 400 and json.loads(text)["error"], bad


def test_the_numbers_are_those_of_metrics(start, generate):
    config = pipeline(udp(), half() | {"inputs": [queue("drop_oldest", events=2)]}, storage())
    program = start(config)
    generate(udp_port(program), 3000)
    metrics = at_rest(program, 3000)
    balance(metrics, config)
    status = get(program, "/api/v1/status")
    assert status["components"] == get(program, "/api/v1/components")["components"]
    assert status["queues"] == get(program, "/api/v1/queues")["queues"]
    assert [c["id"] for c in status["components"]] == ["udp", "half", "file"]
    for c in status["components"]:
        books = metrics.books(c["id"])
        assert {key: c[key] for key in books} == books
        assert sum(c["dropped_by_reason"].values()) == c["dropped"]
        assert c["in"] + c["created"] == c["out"] + c["filtered"] + c["dropped"] + c["held"]
    for q in status["queues"]:
        ends = {"from": q["from"], "to": q["to"]}
        assert q["events"] == metrics.sum("semstreams_queue_events", **ends) == 0
        assert q["capacity_events"] == metrics.sum("semstreams_queue_capacity_events", **ends)
        assert q["capacity_bytes"] == metrics.sum("semstreams_queue_capacity_bytes", **ends)
    assert status["queues"][0]["overflow"] == "drop_oldest"
    (files,) = status["storage"]
    assert files["component"] == "file" and status["spools"] == []
    assert files["written_bytes_total"] == metrics.sum("semstreams_storage_written_bytes_total")
    assert get(program, "/api/v1/pipeline")["queues"] == [
        {"from": "udp", "output": None, "to": "half"}, {"from": "half", "output": "match", "to": "file"}]


def test_who_holds_up_whom(start, generate, tmp_path):
    """The consumer of a full queue is named by who waits for it."""
    config = pipeline(udp(worker="a"), half(worker="b") | {"inputs": [queue(events=64)]},
                      storage(worker="c", path=str(tmp_path / "small" / "f.jsonl")) | {
                          "inputs": [queue(source="half", events=64)]})
    program = start(config)
    folder = tmp_path / "small"
    generate(udp_port(program), 10)
    program.wait_metric("semstreams_events_out_total", 1, component="file")
    stop_disk(program, folder / "f.jsonl")
    try:
        sent = 10

        def stuck():
            nonlocal sent
            generate(udp_port(program), 200, sent)
            sent += 200
            c = {c["id"]: c for c in get(program, "/api/v1/components")["components"]}
            return c if c["half"]["held_up_by"] else None

        c = program.wait_for(stuck, what="the filter to wait for the disk")
        assert c["half"]["held_up_by"] == ["file"]
        assert c["file"]["refuses_input_seconds"] > 0 and c["file"]["held_up_by"] == []
        program.wait_for(lambda: {c["id"]: c for c in get(program, "/api/v1/components")["components"]}["file"]["trouble"],
                         what="the reason")
    finally:
        free_disk(program)
    program.wait_for(lambda: not any(c["held_up_by"] for c in get(program, "/api/v1/components")["components"]))


def test_log_tail(start):
    program = start(pipeline(udp(), storage()))
    page = get(program, "/api/v1/log")
    assert any(line["message"] == "Pipeline running" and line["components"] == 2 for line in page["lines"])
    numbers = [line["number"] for line in page["lines"]]
    assert numbers == sorted(numbers) and page["newest"] == numbers[-1]
    assert get(program, f"/api/v1/log?after={numbers[-3]}")["lines"] == page["lines"][-2:]
    assert get(program, f"/api/v1/log?after={page['newest']}")["lines"] == []
    assert get(program, "/api/v1/log?after=99999999")["lines"] == []
    assert page["level"] == "info"


def test_effective_configuration(start, tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", "elsewhere-with-a-name")
    config = pipeline(udp(), half(), storage(path="${env:PLACE}.jsonl"))
    program = start(config)
    shown = get(program, "/api/v1/config")
    by_id = {c["id"]: c for c in shown["components"]}
    assert by_id["file"]["config"]["path"] == "${env:PLACE}.jsonl" and by_id["file"]["config"]["sync"] == "relaxed"
    assert by_id["udp"]["config"]["gro"] is True and by_id["udp"]["config"]["bind"] == "127.0.0.1"
    assert by_id["file"]["inputs"][0]["from"] == "half.match"
    assert shown["admin"]["watchdog"] == "5s" and shown["log"]["level"] == "info"
    written = get(program, "/api/v1/config?effective=false")
    assert written == json.loads(program.config_file.read_text())


# ---- who may do what


@pytest.fixture
def place():
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        yield folder


def test_only_the_socket_takes_changes(start, place):
    path = f"{place}/admin"
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "socket": path}))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    status, _, text = ask(tcp(program), *LEVEL)
    assert status == 403 and "unix socket" in text
    assert get(program, "/api/v1/log")["level"] == "info"
    status, _, text = ask(Unix(path), *LEVEL)
    assert (status, json.loads(text)) == (200, {"level": "debug"})
    assert get(program, "/api/v1/log")["level"] == "debug"
    for body in ("", "{}", '{"level":"loud"}', '{"level":1}', '{"level":"info","x":1}', "[" * 1000):
        status, _, text = ask(Unix(path), "POST", "/api/v1/log", body)
        assert status == 400 and json.loads(text)["error"], body
    status, headers, _ = ask(Unix(path), "POST", "/api/v1/queues", "{}")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    try:  # told before all of it is sent, and then the connection is closed
        assert ask(Unix(path), "POST", "/api/v1/log", "x" * 70000)[0] == 413
    except OSError:
        pass
    assert ask(Unix(path), "GET", "/api/v1/status")[0] == 200
    assert program.terminate() == 0
    assert not os.path.exists(path)


AS_NOBODY = """
import http.client, os, socket, sys
os.setgroups([int(g) for g in sys.argv[2:]])
os.setgid(65533)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except PermissionError:
    print("cannot connect")
    sys.exit()
c = http.client.HTTPConnection("localhost")
c.sock = s
c.request("POST", "/api/v1/log", '{"level":"debug"}')
print(c.getresponse().status)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="other users are made by root")
def test_credentials_decide(start, place):
    os.chmod(place, 0o755)
    path = f"{place}/admin"
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "socket": path, "socket_group": "4711"}))

    def nobody(*groups):
        return subprocess.run([sys.executable, "-c", AS_NOBODY, path, *groups], capture_output=True, text=True, timeout=PATIENCE,
                              check=True).stdout.strip()

    info = os.stat(path)
    assert (stat.S_IMODE(info.st_mode), info.st_gid) == (0o660, 4711)
    assert nobody() == "cannot connect"
    assert nobody("4711") == "200"
    os.chmod(path, 0o666)  # whoever gets in by mistake still may not
    assert nobody() == "403"
    assert nobody("4712", "4711") == "200"
    assert get(program, "/api/v1/log")["level"] == "debug"


def test_a_group_that_does_not_exist(start, place):
    program = start(pipeline(udp(), storage(), admin={"socket": f"{place}/admin", "socket_group": "no-such-group", "listen": "off"}),
                    ready=False)
    assert program.wait() == 1
    assert 'no such group' in program.log() and not os.path.exists(f"{place}/admin")


def test_sockets_of_the_dead_and_of_the_living(start, place, tmp_path):
    path = f"{place}/admin"
    config = pipeline(udp(), storage(), admin={"listen": "off", "socket": path})
    program = start(config)
    program.signal(signal.SIGKILL)
    program.wait()
    assert os.path.exists(path)
    first = start(config)
    assert ask(Unix(path), "GET", "/livez")[0] == 200
    (tmp_path / "second").mkdir()
    second = start(config, folder=tmp_path / "second", ready=False)
    assert second.wait() == 1
    assert "Cannot open the admin socket" in second.log() and "Address already in use" in second.log()
    assert ask(Unix(path), "GET", "/livez")[0] == 200
    assert first.terminate() == 0


def test_default_socket(start, place, tmp_path):
    config = pipeline(udp(), storage())
    program = start(config, env={"RUNTIME_DIRECTORY": place})
    assert ask(Unix(f"{place}/admin.sock"), *LEVEL)[0] == 200
    (tmp_path / "second").mkdir()
    second = start(config, folder=tmp_path / "second", env={"RUNTIME_DIRECTORY": place})  # runs without
    assert "commands cannot reach this host" in second.log()
    assert second.terminate() == 0
    assert ask(Unix(f"{place}/admin.sock"), "GET", "/livez")[0] == 200
    assert program.terminate() == 0


def test_origin(start, place):
    path = f"{place}/admin"
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "socket": path}))
    for origin, status in ((f"http://{program.admin}", 200), ("http://evil.example", 403), ("null", 403),
                           (f"https://{program.admin}", 403), (f"http://{program.admin}.evil.example", 403)):
        assert ask(tcp(program), "GET", "/api/v1/status", headers={"Origin": origin})[0] == status, origin
    assert ask(Unix(path), *LEVEL, {"Origin": "http://evil.example"})[0] == 403
    assert ask(tcp(program), "GET", "/api/v1/status", headers={"Host": "evil.example"})[0] == 403


def test_tls(start, tmp_path):
    pki = Pki(tmp_path / "pki")
    place, other = pki.location("a"), Pki(tmp_path / "other", cn="Another Root").location("b")
    server = place.leaf("localhost", sans=["localhost"])
    clients = {name: place.leaf(name, sans=sans, uses=(CLIENT,)) for name, sans in
               (("ops.example", ["ops.example"]), ("reader.example", None), ("cn-only.example", None))}
    clients["ops.example of another CA"] = other.leaf("ops.example", sans=["ops.example"], uses=(CLIENT,))
    clients["ops.example as a CN beside a name"] = place.leaf("ops.example", sans=["x.example"], uses=(CLIENT,))
    tls = {"cert_file": str(server.cert), "key_file": str(server.key), "client_ca_file": str(pki.ca_file),
           "writers": ["OPS.example", "cn-only.example"]}
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "tls": tls}))
    port = int(program.admin.split(":")[1])

    def status(method, path, body=None, client=None):
        context = ssl.create_default_context(cafile=pki.ca_file)
        if client:
            context.load_cert_chain(clients[client].cert, clients[client].key)
        return ask(http.client.HTTPSConnection("localhost", port, context=context, timeout=PATIENCE), method, path, body)[0]

    assert status("GET", "/api/v1/status", client="reader.example") == 200
    assert status(*LEVEL, client="reader.example") == 403
    assert status(*LEVEL, client="ops.example") == 200
    assert status(*LEVEL, client="cn-only.example") == 200
    assert status(*LEVEL, client="ops.example as a CN beside a name") == 403
    assert status("GET", "/api/v1/status") == 403
    for method, path, body in (("GET", "/api/v1/status", None), LEVEL):
        try:  # refused by the page, or by the handshake already
            assert status(method, path, body, client="ops.example of another CA") == 403
        except (ssl.SSLError, OSError):
            pass
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE), "GET", "/livez")
    assert program.terminate() == 0


@pytest.mark.parametrize("admin, where, message", [
    ({"socket": "relative"}, "/admin/socket", "path of a socket"),
    ({"socket": "/" + "x" * 107}, "/admin/socket", "107 bytes"),
    ({"max_streams": 25}, "/admin/max_streams", "from 0 to 24"),
    ({"tls": {"cert_file": "c"}}, "/admin/tls", '"key_file" is missing'),
    ({"tls": {"cert_file": "c", "key_file": "k", "writers": ["a"]}}, "/admin/tls/writers", '"client_ca_file" is missing'),
    ({"tls": {"cert_file": "c", "key_file": "k", "client_ca_file": "f", "writers": "a"}}, "/admin/tls/writers", "an array of names"),
    ({"tls": {"cert_file": "c", "key_file": "k", "client_ca_file": "f", "writers": [1]}}, "/admin/tls/writers/0", "name of a client"),
    ({"tls": {"cert_file": "c", "key_file": "k"}, "listen": "off"}, "/admin/tls", "no such port"),
    ({"tls": {"certfile": "c"}}, "/admin/tls/certfile", "cert_file"),
])
def test_wrong_settings(command, tmp_path, admin, where, message):
    (tmp_path / "c.json").write_text(json.dumps(pipeline(udp(), storage(), admin=admin)))
    done = command("check", "c.json")
    assert done.returncode == 78
    assert re.search(rf"c\.json:\d+:\d+ {re.escape(where)} .*{re.escape(message)}", done.stderr), done.stderr


# ---- the live stream


class Events:
    """Server-sent events of a program: (event, data), as they come."""

    def __init__(self, program):
        self.connection = tcp(program)
        self.connection.request("GET", "/api/v1/events")
        self.answer = self.connection.getresponse()
        self.status = self.answer.status

    def next(self):
        event = {}
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line == "\n" and "data" in event:
                return event["event"], json.loads(event["data"])
            key, _, value = line.rstrip("\n").partition(": ")
            event[key] = value

    def wait(self, kind, condition=lambda data: True):
        while True:
            event, data = self.next()
            if event == kind and condition(data):
                return data

    def close(self):
        self.answer.close()
        self.connection.close()


def test_live(start, generate, place):
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "socket": f"{place}/admin", "max_streams": 2}))
    events = Events(program)
    assert events.status == 200 and events.answer.headers["Content-Type"] == "text/event-stream"
    valid("/api/v1/status", events.wait("state"))
    assert any(line["message"] == "Pipeline running" for line in events.wait("log"))
    generate(udp_port(program), 500)
    events.wait("state", lambda state: {c["id"]: c["out"] for c in state["components"]}["file"] == 500)
    assert ask(Unix(f"{place}/admin"), *LEVEL)[0] == 200
    events.wait("log", lambda lines: any("Log level changed" in line["message"] for line in lines))
    second = Events(program)
    assert second.status == 200
    third = Events(program)
    assert third.status == 503 and b"max_streams" in third.answer.read()
    third.close()
    second.close()

    def again():
        more = Events(program)
        more.close()
        return more.status == 200

    program.wait_for(again, what="room for another stream")
    assert program.terminate() == 0  # an open stream holds nobody up
    with pytest.raises((AssertionError, OSError, http.client.HTTPException)):
        while True:
            events.next()
    events.close()


def test_a_reader_that_does_not_read(start):
    """It costs a bounded buffer, and nobody else waits."""
    program = start(pipeline(udp(), storage()))
    asleep = Events(program)
    awake = Events(program)
    for _ in range(3):
        valid("/api/v1/status", awake.wait("state"))
    asleep.close()
    awake.close()
    assert program.get("/livez")[0] == 200
    assert program.terminate() == 0


# ---- the page of the manual


def test_the_manual_is_true(start, command, place, tmp_path):
    """Its settings are settings, and its commands print what it shows."""
    page = (TREE / "docs" / "admin-api.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", page, re.S)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "c.json").write_text(json.dumps(pipeline(udp(), storage(), **json.loads("{" + block + "}"))))
        done = command("check", "c.json")
        assert done.returncode == 0, done.stderr
    path = f"{place}/admin"
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "socket": path}))
    (console,) = re.findall(r"```console\n(.*?)```", page, re.S)
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", console, re.M)
    assert len(commands) == 2
    for line, shown in commands:
        line = line.replace("127.0.0.1:9600", program.admin).replace("/run/semstreams/admin.sock", path)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert json.loads(done.stdout)
        if shown:
            assert done.stdout == shown


def test_a_key_that_others_may_read(start, tmp_path):
    pki = Pki(tmp_path / "pki")
    server = pki.location("a").leaf("localhost", sans=["localhost"])
    os.chmod(server.key, 0o644)
    tls = {"cert_file": str(server.cert), "key_file": str(server.key)}
    program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "tls": tls}), ready=False)
    assert program.wait() == 1
    assert "others may read or write this key (mode 0644); chmod 600 it" in program.log()
