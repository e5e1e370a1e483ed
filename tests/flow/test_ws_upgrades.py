# SPDX-License-Identifier: MIT
"""Requests to upgrade in every form that HTTP allows, up to the limit of their length, and those that are refused: with
a page of ours that says why.  Close codes and first frames, the same at both ends."""

import base64
import contextlib
import hashlib
import socket
import ssl
import struct

import pytest

from conftest import PATIENCE
from pki import Pki
from wslib import BINARY, CLOSE, PATH, PING, PONG, TEXT, RawPeer, frame, hub, intake

LINK = "semstreams.link.v1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HEAD_MAX = 8192
FIELDS = {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
          "Sec-WebSocket-Key": KEY}


def request(target=PATH, line=None, **fields):
    """The head of a request to upgrade; None leaves a field out, a list has a line each."""
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"{k}: {v}" for k, values in fields.items() if values is not None
             for v in (values if isinstance(values, list) else [values])]
    return "\r\n".join([line or f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


def answer(port, data, ca_file=None):
    """(status, headers, page) of what comes back; page is None behind a 101."""
    with RawPeer(port, ca_file) as peer:
        peer.send(data)
        line, *fields = peer.head().split("\r\n")[:-2]
        status = int(line.split()[1])
        headers = {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}
        if status == 101:
            return status, headers, None
        page = b""
        with contextlib.suppress(EOFError):
            while True:
                page += peer._take(1)
        assert len(page) == int(headers["content-length"])
        return status, headers, page.decode()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def leaf(request, tmp_path):
    if not request.param:
        return None
    pki = Pki(tmp_path / "pki")
    leaf = pki.location("a").leaf("localhost", sans=["localhost"])
    leaf.ca_file = pki.ca_file
    return leaf


def ca(leaf):
    return leaf.ca_file if leaf else None


# ---- the length of things


MANY = ", ".join(f"protocol-{n:04}.example" for n in range(90))
LONG = {
    "a list of protocols that are unknown": ({"Sec_WebSocket_Protocol": MANY}, None),
    "ours at its end": ({"Sec_WebSocket_Protocol": f"{MANY}, {LINK}"}, LINK),
    "ours at its beginning": ({"Sec_WebSocket_Protocol": f"{LINK}, {MANY}"}, LINK),
    "a list in many lines": ({"Sec_WebSocket_Protocol": [*MANY.split(", "), LINK]}, LINK),
    "one long name": ({"Sec_WebSocket_Protocol": "p" * 3000}, None),
    "a name that begins like ours": ({"Sec_WebSocket_Protocol": LINK + "0" * 200}, None),
    "a list of upgrades": ({"Upgrade": ", ".join(f"proto{n}/1.0" for n in range(200)) + ", websocket"}, None),
    "upgrades in two lines": ({"Upgrade": ["foo", "WebSocket"]}, None),
    "a list of connection options": ({"Connection": ", ".join(f"X-Hop-{n}" for n in range(300)) + ", UPGRADE"}, None),
    "connection options in two lines": ({"Connection": ["keep-alive", "Upgrade"]}, None),
    "a long query": ({"target": PATH + "?" + "q" * 5000}, None),
    "a long Host": ({"Host": "h" * 5000 + ":80"}, None),
    "a long Origin": ({"Origin": "panel://" + "o" * 5000}, None),
    "long cookies": ({"Cookie": "c" * 7500}, None),
    "many fields": ({f"X-{n}": "y" for n in range(700)}, None),
}


def test_nothing_is_cut_within_the_limit(leaf, start, udp_port, tcp_port):
    start(hub(udp_port, tcp_port, leaf, allowed_origins=["panel://" + "o" * 5000]))
    wrong = {}
    for name, (fields, chosen) in LONG.items():
        status, headers, page = answer(tcp_port, request(**fields), ca(leaf))
        if status != 101 or headers.get("sec-websocket-protocol") != chosen:
            wrong[name] = status, headers, page
    assert wrong == {}
    assert answer(tcp_port, request(Origin="panel://" + "o" * 4999), ca(leaf))[0] == 403
    assert answer(tcp_port, request(Origin="panel://" + "o" * 5001), ca(leaf))[0] == 403


def test_the_limit_of_a_header(leaf, start, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf))
    pad = "x" * (HEAD_MAX - len(request(Pad="")))
    assert len(request(Pad=pad)) == HEAD_MAX
    assert answer(tcp_port, request(Pad=pad), ca(leaf))[0] == 101
    for data in [request(Pad=pad + "x"), request(Pad=pad * 5), request(PATH + "?" + "y" * 9000),
                 b"GET /" + b"a" * 9000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000]:
        status, headers, page = answer(tcp_port, data, ca(leaf))
        assert status == 431 and headers["content-type"].startswith("text/plain") and "8 KiB" in page, (data[:60], page)
    program.wait_log("longer than 8 KiB peer=127.0.0.1")


def test_a_long_path(start, udp_port, tcp_port):
    path = "/" + "p" * 3000
    program = start(hub(udp_port, tcp_port, path=path))
    assert answer(tcp_port, request(path))[0] == 101
    assert answer(tcp_port, request(path + "p"))[0] == 404
    assert answer(tcp_port, request(path[:-1]))[0] == 404
    program.wait_log(r"the path served is /ppp")


def test_a_head_in_pieces(leaf, start, udp_port, tcp_port):
    """Byte by byte, with empty lines in front, with bare line feeds."""
    start(hub(udp_port, tcp_port, leaf))
    for data in request(), b"\r\n\r\n" + request(), request().replace(b"\r\n", b"\n"):
        with RawPeer(tcp_port, ca(leaf)) as peer:
            for n in range(len(data)):
                peer.send(data[n:n + 1])
            assert peer.head().startswith("HTTP/1.1 101 ")


# ---- forms


@pytest.mark.parametrize("target", ["http://localhost/live", "http://elsewhere.example:81/live?a=b", "https://[::1]:9/live",
                                    "HTTP://h/live", "ws://h/live", "wss://h/live", "/live?", "/l%69ve", "/live?a=/b#c"])
def test_forms_of_a_target(target, start, udp_port, tcp_port):
    start(hub(udp_port, tcp_port))
    assert answer(tcp_port, request(target))[0] == 101
    status, _, page = answer(tcp_port, request(target, Upgrade=None))
    assert status == 426
    assert answer(tcp_port, f"GET {target.replace('/live', '/health')} HTTP/1.1\r\nHost: x\r\n\r\n".replace(
        "l%69ve", "health").encode())[0] == 200


REFUSED = {
    "no Host": (request(Host=None), 400, "no Host"),
    "no Host, absolute": (request("http://localhost/live", Host=None), 400, "no Host"),
    "two of Host": (request(Host=["a", "b"]), 400, "twice"),
    "Host with a blank": (request(Host="a b"), 400, "Host"),
    "a query without a path": (request("?live"), 400, "no path"),
    "no host in the URL": (request("http:///live"), 400, "no host"),
    "folded": (request(Cookie="a\r\n b"), 400, "no field"),
    "a NUL": (request(Cookie="a\0b"), 400, "no HTTP request"),
    "a bare CR": (request(Cookie="a\rb"), 400, "no HTTP request"),
    "blank before the colon": (request(line="GET /live HTTP/1.1\r\nCookie : a"), 400, "no field"),
    "TLS to a plain port": (bytes.fromhex("1603010200010001fc0303"), 400, "TLS"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"),
    "version 8": (request(Sec_WebSocket_Version="8"), 426, "another version of WebSocket"),
    "no version": (request(Sec_WebSocket_Version=None), 426, "another version of WebSocket"),
    "two versions": (request(Sec_WebSocket_Version=["13", "8"]), 400, "twice"),
    "no key": (request(Sec_WebSocket_Key=None), 400, "Sec-WebSocket-Key"),
    "a short key": (request(Sec_WebSocket_Key="short"), 400, "Sec-WebSocket-Key"),
    "a key of other characters": (request(Sec_WebSocket_Key="*" * 22 + "=="), 400, "Sec-WebSocket-Key"),
    "a body of five bytes": (request(Content_Length="5") + b"hello", 400, "with a body"),
    "a length that is none": (request(Content_Length="-1"), 400, "with a body"),
    "a chunked body": (request(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "with a body"),
    "a frame as the body": (request(Content_Length="8") + frame(TEXT, b"{}"), 400, "with a body"),
    "a fragment": (request("/live#x"), 400, "fragment"),
    "a slash in disguise": (request("%2Flive"), 404, "the path served is /live"),
    "POST": (request(line="POST /live HTTP/1.1"), 405, "another method"),
    "CONNECT": (request(line="CONNECT localhost:80 HTTP/1.1", Upgrade=None), 405, "another method"),
    "HTTP/1.0": (request(line="GET /live HTTP/1.0"), 426, "does not upgrade"),
    "Upgrade without Connection": (request(Connection="keep-alive"), 426, "does not upgrade"),
    "Connection without Upgrade": (request(Upgrade=None), 426, "does not upgrade"),
    "Upgrade to h2c": (request(Upgrade="h2c", Connection="Upgrade, HTTP2-Settings"), 426, "does not upgrade"),
    "Upgrade to something alike": (request(Upgrade="websockets"), 426, "does not upgrade"),
    "an Origin": (request(Origin="https://evil.example"), 403, "allowed_origins"),
    "another path": (request("/elsewhere?token=hush"), 404, "/elsewhere, the path served is /live"),
    "another path, absolute": (request("http://u/elsewhere"), 404, "/elsewhere, the path served is /live"),
    "another path, plain": (b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/x, the path served is /live"),
    "a path with control characters in it": (request("/a%0d%0aX:%20y"), 404, "/a%0d%0aX:%20y, the path served is /live"),
    "a long other path": (request("/" + "z" * 6000), 404, "zzz..., the path served is /live"),
}


def test_refusals_say_why(leaf, start, udp_port, tcp_port):
    """To the client, on a page of ours, and in the log; each is counted."""
    program = start(hub(udp_port, tcp_port, leaf))
    wrong = {}
    for n, (name, (data, expected, why)) in enumerate(REFUSED.items()):
        status, headers, page = answer(tcp_port, data, ca(leaf))
        if status != expected or why not in page or headers["content-type"] != "text/plain; charset=utf-8":
            wrong[name] = status, page
        program.wait_metric("semstreams_ws_failed_total", n + 1, component="hub")
    assert wrong == {}
    assert program.metrics().sum("semstreams_ws_failed_total", component="hub") == len(REFUSED)
    assert "hush" not in program.log()
    program.wait_log("request to upgrade /elsewhere, the path served is /live peer=127.0.0.1")


# ---- close codes and first frames


VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 32768, 65535]


def expected(code):
    return code if code in VALID else 1002


@pytest.mark.parametrize("subprotocol", [None, LINK])
def test_close_codes_to_a_listener(subprotocol, leaf, start, tcp_port, tmp_path):
    program, wrong = start(intake(tcp_port, tmp_path / "out", leaf)), {}
    for code in VALID + INVALID:
        with RawPeer(tcp_port, ca(leaf)).upgrade(Sec_WebSocket_Protocol=subprotocol) as peer:
            peer.send(frame(CLOSE, struct.pack(">H", code) + b"why"))
            if (got := peer.end()) != expected(code):
                wrong[code] = got
    assert wrong == {}
    program.wait_for(lambda: program.metrics().sum("semstreams_ws_close_total") == len(VALID + INVALID), what="all closed")


@pytest.mark.parametrize("code", [*VALID, *INVALID])
def test_close_frames_behind_the_request(code, start, tcp_port, tmp_path):
    """In the same segment: they wait until the connection is open, and are read like others."""
    start(intake(tcp_port, tmp_path / "out"))
    with RawPeer(tcp_port) as peer:
        peer.send(request() + frame(CLOSE, struct.pack(">H", code)))
        assert peer.head().startswith("HTTP/1.1 101 ")
        assert peer.end() == expected(code)


def test_frames_behind_the_request(leaf, start, tcp_port, tmp_path):
    file = tmp_path / "out"
    program = start(intake(tcp_port, file, leaf, max_message=100000))
    with RawPeer(tcp_port, ca(leaf)) as peer:
        peer.send(request() + frame(TEXT, b"one") + frame(PING, b"p") + frame(BINARY, b"z" * 50000) + frame(TEXT, b"two"))
        assert peer.head().startswith("HTTP/1.1 101 ")
        assert peer.frame() == (PONG, b"p")
        program.wait_for(lambda: file.exists() and file.read_bytes() == b"one\n" + b"z" * 50000 + b"\ntwo\n", what="all three")
    with RawPeer(tcp_port, ca(leaf)) as peer:
        peer.send(request() + frame(TEXT, b"no", masked=False))
        assert peer.head().startswith("HTTP/1.1 101 ")
        assert peer.end() == 1002
    assert program.terminate() == 0
    assert b"no\n" not in file.read_bytes()


def test_what_is_not_masked_is_refused_in_any_place(leaf, start, tcp_port, tmp_path):
    file = tmp_path / "out"
    program = start(intake(tcp_port, file, leaf))
    before = {"first": b"", "second": frame(TEXT, b"x"), "continuation": frame(TEXT, b"y", fin=False)}
    for name, data in before.items():
        for opcode in [0] if name == "continuation" else [TEXT, BINARY, PING, PONG, CLOSE]:
            with RawPeer(tcp_port, ca(leaf)).upgrade() as peer:
                peer.send(data + frame(opcode, b"\3\350", masked=False))
                assert peer.end() == 1002, (name, opcode)
    assert program.terminate() == 0
    assert set(file.read_bytes().splitlines()) == {b"x"}


class Server:
    """Each client is answered with a 101 and, in the same segment, with more."""

    def __init__(self, leaf=None):
        self.context = leaf and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if leaf:
            self.context.load_cert_chain(leaf.cert, leaf.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.close()

    def serve(self, more=b"", fields=b"Upgrade: websocket\r\nConnection: Upgrade\r\n", accept=None):
        """The close code that the client sends; None if it just ends."""
        c, _ = self.listener.accept()
        c.settimeout(PATIENCE)
        if self.context:
            c = self.context.wrap_socket(c, server_side=True)
        with c:
            head = b""
            while b"\r\n\r\n" not in head:
                head += c.recv(4096)
            key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
            accept = accept or base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            c.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + more)
            data = b""
            with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
                while not (data[:1] == b"\x88" and len(data) >= 6 + (data[1] & 0x7f)) and (part := c.recv(4096)):
                    data += part
            if data[:1] != b"\x88" or data[1] & 0x7f < 2:
                return None
            return (data[6] ^ data[2]) << 8 | (data[7] ^ data[3])


@pytest.fixture
def dialed(leaf, start, tmp_path):
    """(a server, the program that dials it)"""
    with Server(leaf) as server:
        config = intake(0, tmp_path / "out")
        config["components"][0]["config"] = {"url": f"ws{'s' if leaf else ''}://localhost:{server.port}{PATH}",
                                             "retry_min": "1ms", "retry_max": "2ms", "max_message": 100000}
        if leaf:
            config["security"] = {"tls": {"client": {"mode": "manual", "ca_files": [leaf.ca_file]}}}
        yield server, start(config, ready=False)


def test_close_codes_to_a_dialer_with_the_answer(dialed):
    server, _ = dialed
    wrong = {}
    for code in VALID + INVALID:
        if (got := server.serve(frame(CLOSE, struct.pack(">H", code), masked=False))) != expected(code):
            wrong[code] = got
    assert wrong == {}


def test_first_frames_to_a_dialer_with_the_answer(dialed, tmp_path):
    server, program = dialed
    file = tmp_path / "out"
    assert server.serve(frame(TEXT, b"masked")) == 1002
    assert server.serve(frame(TEXT, b"good", masked=False) + frame(TEXT, b"masked too")) == 1002
    bye = frame(CLOSE, b"\3\350", masked=False)
    assert server.serve(frame(BINARY, b"z" * 70000, masked=False) + frame(TEXT, b"last", masked=False) + bye) == 1000
    program.wait_for(lambda: file.exists() and file.read_bytes() == b"good\n" + b"z" * 70000 + b"\nlast\n", what="all three")


def test_answers_that_are_none(dialed):
    """Each is refused with its reason; what HTTP allows is taken."""
    server, program = dialed
    bye = frame(CLOSE, b"\3\350", masked=False)
    assert server.serve(bye, b"UPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\n") == 1000
    right = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    for fields, accept in [(b"Connection: Upgrade\r\n", None), (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", None),
                           (b"Upgrade: websocket\r\n", None), (right, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                           (right + b"Sec-WebSocket-Protocol: other\r\n", None),
                           (right + b"Sec-WebSocket-Protocol: " + b"x" * 3000 + b"\r\n", None),
                           (right + b"Content-Length: 4\r\n", None), (right + b"Transfer-Encoding: chunked\r\n", None)]:
        assert server.serve(bye, fields, accept) is None, fields
    assert server.serve(bye) == 1000
    program.wait_log("the server's answer claims to have a body")
