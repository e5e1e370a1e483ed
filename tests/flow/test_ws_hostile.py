# SPDX-License-Identifier: MIT
"""Peers that break the rules of WebSocket, HTTP and TLS: they are turned away, memory is bounded, and healthy peers notice
nothing.  A crash, also one a sanitizer finds, ends the program and so the test."""

import contextlib
import os
import random
import resource
import select
import socket
import ssl
import struct
import threading
import time

import pytest

from conftest import PATIENCE, Program, readable, unused_port
from flowlib import is_sanitized
from pki import Pki
from wslib import BINARY, CLOSE, PING, TEXT, RawPeer, frame, hub, intake, resident, url

GONE = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
LINK = "semstreams.link.v1"
MAX = 65536  # max_message in these tests


class Site:
    """A hub with a subscriber, and with a link to a second program that stores; both have to get every event."""

    def __init__(self, binary, folder, tls, options, files):
        self.ca = tls.ca_file if tls else None
        self.udp, self.port, self.sent = unused_port(socket.SOCK_DGRAM), unused_port(socket.SOCK_STREAM), 0
        self.intake_port = unused_port(socket.SOCK_STREAM)
        self.file, self.taken, self.sanitized = folder / "linked", folder / "taken", is_sanitized(binary)
        self.programs = []
        try:
            config = hub(self.udp, self.port, tls, max_message=MAX, **options)
            config["components"] += intake(self.intake_port, self.taken, max_message=MAX, **options)["components"]
            config["components"][-1]["inputs"] = ["in"]
            self.program = self.run(binary, folder / "hub", config, files)
            linked = intake(0, self.file)
            linked["components"][0]["config"] = {"url": url(self.port, tls), "retry_max": "1s"}
            if tls:
                linked["security"] = {"tls": {"client": {"mode": "manual", "ca_files": [tls.ca_file]}}}
            self.linked = self.run(binary, folder / "linked-to", linked, files)
            self.program.wait_metric("semstreams_link_up", 1, component="hub")
            self.subscriber = RawPeer(self.port, self.ca).upgrade()
            self.still_well()
            self.before = resident(self.program)
        except BaseException:
            self.close()
            raise

    def run(self, binary, folder, config, files):
        folder.mkdir()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
        try:
            self.programs.append(Program(binary, folder, config))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return self.programs[-1].wait_ready()

    def peer(self, **options):
        return RawPeer(self.port, self.ca, **options)

    def still_well(self):
        """An event goes to the subscriber and over the link."""
        self.sent += 1
        event = b'{"n":%d}' % self.sent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(event, ("127.0.0.1", self.udp))
        assert self.subscriber.message() == (TEXT, event)
        self.linked.wait_for(lambda: self.file.exists() and self.file.read_bytes().count(b"\n") == self.sent,
                             what="the event behind the link")

    def grown(self):
        """KiB more than at the beginning."""
        return 0 if self.sanitized else resident(self.program) - self.before

    def metric(self, name, **labels):
        return self.program.metrics().sum(name, **labels)

    def only_healthy(self):
        """Until the healthy ones are alone again."""
        self.program.wait_for(lambda: self.metric("semstreams_ws_connections") == 2, what="the others gone")
        assert self.metric("semstreams_link_up", component="hub") == 1

    def end(self):
        self.still_well()
        self.only_healthy()
        assert self.linked.metrics().sum("semstreams_ws_connected_total") == 1, "the link was never down"
        assert self.program.terminate() == 0
        assert "Sanitizer" not in self.program.log()

    def close(self):
        for program in self.programs:
            program.close()


@pytest.fixture
def site(semstreams, tmp_path):
    """site(tls=False, files=1024, **options of the endpoints); healthy at the end."""
    with contextlib.ExitStack() as stack:

        def make(tls=False, files=1024, **options):
            leaf = None
            options.setdefault("dead_after", "10m")  # a subscriber that waits for hostile ones to be opened hears no ping
            if tls:
                pki = Pki(tmp_path / "pki")
                leaf = pki.location("a").leaf("localhost", sans=["localhost", "127.0.0.1"])
                leaf.ca_file = pki.ca_file
            s = Site(semstreams, tmp_path, leaf, options, files)
            stack.callback(s.close)
            return s

        yield make


# ---- frames


HARD = (None, 1002, 1009)  # libwebsockets hangs up without a word, which is allowed
BROKEN = {
    "rsv1": (frame(TEXT, b"x", rsv=4), 1002),
    "rsv2": (frame(TEXT, b"x", rsv=2), 1002),
    "rsv3": (frame(BINARY, b"x", rsv=1), 1002),
    "rsv on a ping": (frame(PING, b"x", rsv=4), 1002),
    **{f"opcode {n}": (frame(n, b"x"), 1002) for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "2^63 bytes": (frame(BINARY, b"x", length=1 << 63), HARD),
    "2^64-1 bytes": (frame(BINARY, b"x", length=(1 << 64) - 1), HARD),
    "2^63-1 bytes": (frame(BINARY, b"x" * (2 * MAX), length=(1 << 63) - 1), 1009),
    "2^32+1 bytes": (frame(TEXT, b"x" * (2 * MAX), length=(1 << 32) + 1), 1009),
    "one byte too long": (frame(BINARY, b"x" * (MAX + 1)), 1009),
    "too long in parts": (frame(BINARY, b"x" * MAX, fin=False) + frame(0, b"x"), 1009),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "fragmented close": (frame(CLOSE, b"\3\350", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), HARD),
    "long close": (frame(CLOSE, b"\3\350" + b"x" * 124), HARD),
    "nothing to continue": (frame(0, b"x"), 1002),
    "nothing to end": (frame(TEXT, b"x") + frame(0, b"x", fin=False), 1002),
    "text in a text": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "binary in a text": (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False), 1002),
    "text not UTF-8": (frame(TEXT, b"ok \xff"), 1007),
    "overlong": (frame(TEXT, b"\xc0\xaf"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "text that ends in a character": (frame(TEXT, b"x\xe2\x82"), 1007),
    "not UTF-8 across parts": (frame(TEXT, b"\xe2", fin=False) + frame(0, b"\x82", fin=False) + frame(0, b"x"), 1007),
    "close of one byte": (frame(CLOSE, b"\3"), 1002),
    "close, reason not UTF-8": (frame(CLOSE, b"\3\350\xff"), 1007),
    **{f"close {code}": (frame(CLOSE, struct.pack(">H", code)), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999)},
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_broken_frames_end_their_connection(site, tls):
    s = site(tls)
    wrong = {}
    for which, ports in {"hub": s.port, "in": s.intake_port}.items():
        for name, (data, codes) in BROKEN.items():
            with RawPeer(ports, s.ca).upgrade() as peer:
                peer.socket.settimeout(PATIENCE / 5)
                try:
                    with contextlib.suppress(*GONE):
                        peer.send(data)
                    code = peer.end()
                except TimeoutError:
                    code = "no end"
                if code not in (codes if isinstance(codes, tuple) else (codes,)):
                    wrong[which, name] = code
    assert wrong == {}, "\n".join(map(str, wrong.items()))
    assert s.metric("semstreams_ws_bad_messages_total") == 0
    # of all that only what was whole before it broke
    s.program.wait_for(lambda: s.taken.exists() and s.taken.read_bytes(), what="the text of \"nothing to end\"")
    assert s.taken.read_bytes() == b"x\n"
    assert s.grown() < 4096
    s.end()


@pytest.mark.parametrize("opcode", [TEXT, PING])
def test_frames_that_are_not_masked(site, opcode):
    s = site()
    with s.peer().upgrade() as peer:
        peer.send(frame(opcode, b"x", masked=False) + frame(CLOSE, b"\3\350"))
        assert peer.end() == 1002


def test_what_is_allowed_is_taken(site):
    """Fragments, with pings between them; characters cut anywhere; the longest message there may be."""
    s = site()
    text = "grüße \U0001f600".encode()
    with RawPeer(s.intake_port, s.ca).upgrade() as peer:
        for cut in range(1, len(text)):
            peer.send(frame(TEXT, text[:cut], fin=False) + frame(PING, b"now") + frame(0, text[cut:]))
            assert peer.frame()[1] == b"now"
        peer.send(frame(BINARY, b"y" * MAX) + frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) + frame(0, b"z"))
        expected = (text + b"\n") * (len(text) - 1) + b"y" * MAX + b"\nz\n"
        s.program.wait_for(lambda: s.taken.exists() and s.taken.stat().st_size >= len(expected), what="all events")
        assert s.taken.read_bytes() == expected
        peer.send(frame(CLOSE, struct.pack(">H", 3000) + b"bye"))
        assert peer.end() == 3000
    s.end()


@pytest.mark.parametrize("what", ["empty", "bytes", "pings", "pongs", "closes"])
def test_floods(site, what):
    s = site()
    flood = {"empty": frame(0, b"", fin=False), "bytes": frame(0, b"x", fin=False), "pings": frame(PING, b"x" * 125),
             "pongs": frame(10, b"x" * 125), "closes": frame(CLOSE, b"\3\350")}[what] * 2000
    for port in s.port, s.intake_port:
        with RawPeer(port, s.ca, receive_buffer=4096).upgrade() as peer:
            peer.send(frame(TEXT, b"", fin=False))
            peer.socket.setblocking(False)
            at, rounds = 0, 0
            with contextlib.suppress(*GONE):
                while rounds < 100 and select.select([], [peer], [], 1)[1]:  # pings: until it does not read on
                    at += peer.socket.send(flood[at:])
                    if at == len(flood):
                        at, rounds = 0, rounds + 1
            s.still_well()
            assert s.grown() < 4096
    s.end()


def test_begun_messages_of_many(site):
    s = site(max_clients=300)
    begun = [RawPeer(s.intake_port, s.ca).upgrade() for _ in range(250)]
    for peer in begun:
        peer.send(frame(BINARY, b"x" * (MAX - 1), fin=False))
    s.still_well()
    assert s.grown() < 250 * (MAX + 16384) // 1024 + 4096
    for peer in begun:
        peer.socket.close()
    s.only_healthy()
    s.end()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_random_frames(site, tls):
    s, rng = site(tls), random.Random(7)
    for n in range(150):
        out = b""
        for _ in range(rng.randrange(1, 8)):
            f = bytearray(frame(rng.choice([0, 1, 2, 8, 9, 10]), rng.randbytes(rng.choice([0, 1, 5, 125, 126, 3000])),
                                fin=rng.random() < 0.6))
            for _ in range(rng.randrange(3)):
                f[rng.randrange(min(16, len(f)))] = rng.randrange(256)
            out += f
        headers = {"Sec_WebSocket_Protocol": LINK} if n % 3 == 0 else {}
        with RawPeer(s.port if n % 2 else s.intake_port, s.ca).upgrade(**headers) as peer:
            with contextlib.suppress(*GONE):
                peer.send(out)
                if rng.random() < 0.5:
                    peer.send(frame(CLOSE, b"\3\350"))
                    peer.socket.settimeout(0.05)
                    with contextlib.suppress(socket.timeout):
                        peer.end()
        if n % 25 == 0:
            s.still_well()
    assert s.grown() < 8192
    s.end()


HELLO = b'{"type":"hello","v":1,"stream":"s","consumer":"c","credit":{"records":10,"bytes":65536}}'
NOT_LINK = [b"", b"{", b"null", b"[]", b"{}", b'{"type":1}', b'{"type":"unheard of"}', b"[" * 4000, b'{"type":"hello"}',
            b'{"type":"hello","v":99}', HELLO[:-1], HELLO.replace(b"10", b"-1"), HELLO.replace(b"10", b"1e999"),
            HELLO.replace(b'"c"', b'"' + b"c" * 3000 + b'"'), b'{"type":"ack","seq":18446744073709551615}',
            b'{"type":"welcome"}', b'{"type":"lost","from":9,"to":1}', b'{"type":"bye","retry_ms":-5}', b"x" * MAX]


def test_what_is_no_link_message(site):
    """From strangers who ask for the link protocol, at both ends; the link that is up stays up."""
    s, rng = site(), random.Random(3)
    messages = [frame(TEXT, m) for m in NOT_LINK]
    messages += [frame(BINARY, rng.randbytes(n)) for n in (0, 1, 19, 20, 24, 100, 5000)]
    for port in s.port, s.intake_port:
        for message in messages:
            with RawPeer(port, s.ca).upgrade(Sec_WebSocket_Protocol=LINK) as peer:
                peer.send(message + frame(CLOSE, b"\3\350"))
                code = peer.end()
                assert code is None or code in (1000, 1002) or 4400 <= code < 4500, (message[:100], code)
    assert s.metric("semstreams_ws_bad_messages_total") > 0
    assert s.grown() < 4096
    s.end()


# ---- before there are frames


def hung_up(connection):
    """Closed by the other end, whatever it says before."""
    connection.settimeout(PATIENCE)
    try:
        while connection.recv(65536):
            pass
    except GONE:
        pass
    return True


TLS_HELLO = bytes.fromhex("1603010200010001fc0303")  # a ClientHello of 512 bytes, begun
GARBAGE = [
    b"\r\n\r\n", b"\0" * 5000, b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"HELO there\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
    b"GET / HTTP/1.1\r\nCookie: " + b"c" * 500000 + b"\r\n\r\n", b"GET /\0live HTTP/1.1\r\n\r\n",
    b"POST /live HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST /live HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\n\r\n", b"GET /%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n" * 200,
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: short\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    TLS_HELLO, TLS_HELLO + b"\xff" * 600, b"\x16\x03\x01\xff\xff" + b"\1" * 70000, b"\x80\x2e\1\0\2" + b"\0" * 60,
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_garbage_instead_of_http(site, tls):
    s, rng = site(tls, handshake_timeout="2s"), random.Random(11)
    garbage = GARBAGE + [rng.randbytes(rng.randrange(1, 3000)) for _ in range(60)]
    sockets = []
    for inside in ([False, True] if tls else [False]):
        for data in garbage:
            c = RawPeer(s.port, s.ca if inside else None).socket
            with contextlib.suppress(*GONE):
                c.sendall(data)
            sockets.append((data, c))
    s.still_well()
    for data, c in sockets:
        assert hung_up(c), data[:100]
        c.close()
    assert s.metric("semstreams_ws_connected_total", component="hub") == 2
    assert s.grown() < 8192
    s.end()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_slow_handshakes(site, tls):
    """A byte now and then, or none: after handshake_timeout it is over, however many there are."""
    s = site(tls, handshake_timeout="2s")
    begin = [b"GET /", b"GET /live HTTP/1.1\r\nHost: x\r\n", b""]
    slow = []
    for n in range(100):
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(([TLS_HELLO, TLS_HELLO[:-2], b""] if tls else begin)[n % 3])
        slow.append(c)
    if tls:  # TLS is done, HTTP is slow
        for n in range(100, 120):
            peer = RawPeer(s.port, s.ca)
            if begin[n % 3]:
                peer.send(begin[n % 3])
            slow.append(peer.socket)
    started, left, silent = time.monotonic(), set(slow), set(slow[2::3])
    while left:
        for c in readable(left, 0.1):
            with contextlib.suppress(*GONE):
                if c.recv(1000):
                    continue
            left.discard(c)
        for c in left - silent:
            with contextlib.suppress(*GONE):
                c.sendall(b"a")
        assert time.monotonic() < started + PATIENCE, f"{len(left)} still there"
    s.still_well()
    for c in slow:
        c.close()
    s.program.wait_for(lambda: s.metric("semstreams_ws_failed_total", component="hub") >= len(slow), what="counted")
    assert s.grown() < 8192
    s.end()


# ---- many


@pytest.fixture
def many_files():
    """12,000 descriptors for the test itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12000:
        pytest.skip("needs 12,000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12000, hard))
    yield 12000
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_five_thousand_connections_are_too_many(site, many_files, tls):
    s = site(tls, files=many_files, max_clients=1000, handshake_timeout="10s")
    with contextlib.ExitStack() as sockets:
        for _ in range(5000):
            sockets.enter_context(socket.create_connection(("127.0.0.1", s.port)))
        s.program.wait_for(lambda: s.metric("semstreams_ws_failed_total", component="hub") >= 4000, what="refusals", timeout=120)
        s.still_well()
        assert s.grown() < 32768  # not that of thousands: who has to give way is gone before the next are let in
    with s.peer() as peer:  # there is room again
        s.program.wait_for(lambda: "\"status\":\"ok\"" in http_health(s), what="room")
        peer.upgrade()
    s.end()


class Flood:
    """Half-open connections of several kinds from forty addresses; what the other end gives up is opened anew, by a thread."""

    def __init__(self, s, count):
        self._port, self._count, self._end = s.port, count, threading.Event()
        self._context = ssl.create_default_context(cafile=s.ca) if s.ca else None
        self._begun = [b"", TLS_HELLO, TLS_HELLO[:-2]] if s.ca else [b"", b"GET /", b"GET /live HTTP/1.1\r\n"]
        self._poll, self._sockets = select.poll(), {}
        self.opened = self.standing = 0  # since the beginning; not hung up
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._end.set()
        self._thread.join()
        for c in self._sockets.values():
            c.close()

    def _open(self):
        c = socket.socket()
        c.settimeout(PATIENCE)
        c.bind((f"127.0.0.{2 + self.opened % 40}", 0))
        with contextlib.suppress(OSError):
            c.connect(("127.0.0.1", self._port))
            if self._context and self.opened % 20 == 0:  # TLS is done, HTTP has begun
                c = self._context.wrap_socket(c, server_hostname="localhost")
                c.sendall(b"GET /live HTTP/1.1\r\n")
            else:
                c.sendall(self._begun[self.opened % 3])
        self.opened += 1
        if c.fileno() >= 0:
            c.setblocking(False)
            self._sockets[c.fileno()] = c
            self._poll.register(c, select.POLLIN)

    def _gone(self):
        for fd, _ in self._poll.poll(10):
            with contextlib.suppress(BlockingIOError):
                try:
                    if os.read(fd, 65536):
                        continue
                except ConnectionError:
                    pass
                yield fd

    def _run(self):
        """Twenty at a time, so that this process has time for others."""
        while not self._end.is_set():
            gone = list(self._gone())
            self.standing = len(self._sockets) - len(gone)
            for fd in gone[:20]:
                self._poll.unregister(fd)
                self._sockets.pop(fd).close()
            for _ in range(min(20, self._count - len(self._sockets))):
                self._open()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_half_open_connections_lock_nobody_out(site, many_files, tls):
    """Two thousand that do not finish their handshake, and more for each that gives way: who means well gets in."""
    s = site(tls, max_clients=100, handshake_timeout="5m")
    with Flood(s, 2000) as flood:
        s.program.wait_for(lambda: flood.opened >= 2000 and flood.standing >= 200, what="the flood")
        for _ in range(5):
            before, got_in = flood.opened, []

            def get_in(got_in=got_in):
                with contextlib.suppress(OSError, EOFError):
                    with s.peer() as peer:
                        peer.upgrade()
                        got_in.append(peer)
                return got_in

            s.program.wait_for(get_in, what="a newcomer")
            s.still_well()
            s.program.wait_for(lambda before=before: flood.opened > before and flood.standing >= 200, what="the flood goes on")
    s.end()


def http_health(s):
    try:
        with s.peer() as peer:
            peer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while part := peer.socket.recv(4096):
                data += part
            return data.decode()
    except OSError:
        return ""


def test_five_thousand_subscribers(site, many_files):
    s = site(files=many_files, max_clients=6000)
    peers = [s.peer().upgrade() for _ in range(5000)]
    for _ in range(3):
        s.still_well()
        for peer in peers:
            assert peer.message() == (TEXT, b'{"n":%d}' % s.sent)
    assert s.grown() < 5000 * 32
    for peer in peers:
        peer.socket.close()
    s.end()


def test_out_of_descriptors(site):
    """More connections than the system gives descriptors for: the program waits until there are some again."""
    s = site()
    resource.prlimit(s.program.pid, resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    sockets = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(300)]
    s.program.wait_log("cannot accept connections")
    s.still_well()
    for c in sockets:
        c.close()
    s.program.wait_for(lambda: "\"status\":\"ok\"" in http_health(s), what="descriptors")
    s.end()
