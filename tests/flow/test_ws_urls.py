# SPDX-License-Identifier: MIT
"""The url option: one parser for check and start; what is secret in it stays out of everything that is printed; addresses
with zones; servers that send a dialer elsewhere."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import PATIENCE
from wslib import hub, intake

SECRET = "hush-4711"


def dialer(target, file, **options):
    """websocket_input that dials, to storage."""
    config = intake(0, file)
    config["components"][0]["config"] = {"url": target, "retry_min": "10ms", "retry_max": "50ms", "down_after": "1s", **options}
    return config


# ---- refused


@pytest.mark.parametrize("target, why", [
    ("ws://ho st/x", "no host name has"), ("ws://:9/x", "host is missing"), ("ws://h/x#frag", "fragment"),
    (f"ws://user:{SECRET}@h/x", "no user name and password"), ("ws://[::1:9", "not closed"),
    (f"ws://{'a' * 60}.{'b' * 59}/x", "longer than 110 bytes"), ("ws://[fe80::1]/x", "zone"), ("ws://h:0/", "port"),
    ("ws://h:65536/", "65535"), ("ws://h:x/", "port"), ("ws://10.0.0.256/", "IPv4"), ("ws://h/%zz", "hexadecimal"),
    ("http://h/", "expected ws://"), ("ws://", "host is missing"), ("ws://bücher.example/", "punycode"),
    (f"ws://h:80{SECRET}/", "not a number"), ("", "expected ws://")])
@pytest.mark.parametrize("kind", ["websocket_input", "websocket_output"])
def test_check_finds_what_start_would_refuse(kind, target, why, command, tmp_path):
    if kind == "websocket_input":
        config, at = dialer(target, tmp_path / "out"), 0
    else:
        config, at = hub(0, 0), 1
        config["components"][1]["config"] = {"url": target}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    for words in ["check", str(file)], ["run", "-c", str(file)]:
        done = command(*words)
        said = done.stdout + done.stderr
        assert done.returncode == 78, said
        assert f"/components/{at}/config/url" in said and why in said
        assert SECRET not in said


@pytest.mark.parametrize("target", ["WS://localhost/x", "ws://localhost:/x", "ws://localhost.:9/", "ws://[fe80::1%25eth0]:9/",
                                    "ws://[::1]?q", "ws://my_host/%20", f"ws://{'a' * 55}.{'b' * 54}/"])
def test_check_takes(target, command, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(dialer(target, tmp_path / "out")))
    done = command("check", str(file))
    assert done.returncode == 0, done.stderr


# ---- secrets


def everything(program):
    """All that an operator can read."""
    pages = [program.get(path) for path in ("/status", "/peers", "/metrics", "/health", "/readyz", "/graph", "/config")]
    return "\n".join([program.log(), *(str(page) for page in pages)])


@contextlib.contextmanager
def answering(answer):
    """A server that gives each request the same answer and hangs up; yields (port, requests)."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = server.accept()
                    with c:
                        c.settimeout(PATIENCE)
                        head = b""
                        while b"\r\n\r\n" not in head and (part := c.recv(4096)):
                            head += part
                        requests.append(head)
                        c.sendall(answer)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], requests
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_query_is_sent_and_never_shown(start, tmp_path):
    """From a file, as secrets are; while nobody listens, while it is refused, while it is down for long."""
    with answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as (port, requests):
        (tmp_path / "token").write_text(f"ws://127.0.0.1:{port}/live?token={SECRET}\n")
        (tmp_path / "token").chmod(0o600)
        program = start(dialer({"file": str(tmp_path / "token")}, tmp_path / "out"), ready=False)
        program.wait_log(r"answers 403 .*url=ws://127\.0\.0\.1:\d+/live\?\.\.\. peer=127\.0\.0\.1")
        program.wait_for(lambda: f"no connection to ws://127.0.0.1:{port}/live?... for" in program.get("/readyz")[1],
                         what="the component degraded")
        assert requests[0].startswith(f"GET /live?token={SECRET} HTTP/1.1\r\n".encode())
        assert SECRET not in everything(program)
    program.wait_log("Connection failed: connection refused")
    assert SECRET not in everything(program)


@pytest.mark.parametrize("then", [b"Sun, 06 Nov 1994 09:49:37 GMT", b"Sunday, 06-Nov-94 09:49:37 GMT", b"Sun Nov  6 09:49:37 1994"])
def test_a_date_to_come_again(then, start, tmp_path):
    """Retry-After as a date, of which the server's own Date is taken off: nobody comes before."""
    answer = b"HTTP/1.1 503 Busy\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: " + then + b"\r\nContent-Length: 0\r\n\r\n"
    with answering(answer) as (port, requests):
        program = start(dialer(f"ws://127.0.0.1:{port}/live", tmp_path / "out"), ready=False)
        program.wait_log("answers 503 instead of upgrading, and asks to come again after 3600 s")
        # it would have come some times meanwhile
        program.wait_for(lambda: "no connection to" in program.get("/readyz")[1], what="the component degraded")
        assert len(requests) == 1


# ---- elsewhere


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_named_and_not_followed(status, start, tmp_path):
    location = f"https://user:{SECRET}@other.example:8443/stream?key={SECRET}"
    answer = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(answer) as (port, _):
        program = start(dialer(f"ws://127.0.0.1:{port}/live", tmp_path / "out"), ready=False)
        program.wait_log(rf"answers {status}, go to wss://other\.example:8443/stream\?\.\.\.: set url")
        assert SECRET not in everything(program)


@pytest.mark.parametrize("location, target", [
    (f"/other?t={SECRET}", "ws://127.0.0.1:{port}/other?..."), ("other", "ws://127.0.0.1:{port}/a/other"),
    (f"//u:{SECRET}@h2/x", "ws://h2/x"), (f"HTTP://h3/#{SECRET}", "ws://h3/?...")])
def test_a_relative_redirection_is_named_whole(location, target, start, tmp_path):
    """As the url would have to be written (RFC 9110, 10.2.2)."""
    answer = f"HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(answer) as (port, _):
        program = start(dialer(f"ws://127.0.0.1:{port}/a/live?k=1", tmp_path / "out"), ready=False)
        program.wait_log(rf"answers 301, go to {re.escape(target.format(port=port))}: set url")
        assert SECRET not in everything(program)


@pytest.mark.parametrize("head, told", [
    ("301 Moved", "301, go to another place it does not name"), ("304 Not Modified", "304 instead of upgrading"),
    (f"301 Moved\r\nLocation: ws://h/{'x' * 3000}", "301, go to a place too long to show")])
def test_a_redirection_to_nowhere(head, told, start, tmp_path):
    with answering(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode()) as (port, _):
        program = start(dialer(f"ws://127.0.0.1:{port}/live", tmp_path / "out"), ready=False)
        program.wait_log(f"answers {told}")


# ---- zones


def link_local():
    """(address, interface) of this host, or None."""
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as f:
        for line in f:
            digits, _, _, _, flags, name = line.split()
            if digits.startswith("fe80") and not int(flags, 16) & 0x48:  # duplicate or tentative
                return re.sub("(....)(?!$)", r"\1:", digits), name
    return None


@pytest.mark.parametrize("percent", ["%25", "%"])
def test_a_link_local_address_with_its_zone(percent, start, send, udp_port, tcp_port, tmp_path):
    if not (here := link_local()):
        pytest.skip("no interface has a link-local address")
    address, interface = here
    (tmp_path / "hub").mkdir()
    start(hub(udp_port, tcp_port, bind=f"{address}%{interface}"), folder=tmp_path / "hub")
    file = tmp_path / "out"
    taker = start(dialer(f"ws://[{address}{percent}{interface}]:{tcp_port}/live", file))
    taker.wait_metric("semstreams_link_up", 1)
    send(udp_port, b'{"n":1}')
    taker.wait_for(lambda: file.exists() and file.read_bytes() == b'{"n":1}\n', what="the event")


def test_the_zone_of_no_interface(start, tmp_path):
    program = start(dialer("ws://[fe80::1%25nowhere0]:9/live", tmp_path / "out"), ready=False)
    program.wait_log(r"zone in the url is no network interface of this host: nowhere0 url=ws://\[fe80::1%25nowhere0\]:9/live")


def test_multicast_without_a_route(semstreams, tmp_path):
    """In a network namespace where there is no route at all."""
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs network namespaces")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 9, "multicast": ["239.1.2.3"]}},
        {"id": "file", "type": "storage", "config": {"path": str(tmp_path / "out")}}]}))
    done = subprocess.run([*unshare, semstreams, "run", "-c", str(file)], check=False, capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 1
    assert re.search(r'multicast: no route .* \(set interface\) "239\.1\.2\.3": No such device', done.stdout + done.stderr)
