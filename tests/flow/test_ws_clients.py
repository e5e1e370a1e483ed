# SPDX-License-Identifier: MIT
"""Programs that others wrote, against both WebSocket plugins, plain and over TLS: each gets each event, in order."""

import base64
import hashlib
import http.server
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

from conftest import PATIENCE
from pki import Pki, openssl
from wslib import TEXT, BINARY, PATH, RawPeer, hub, intake, url

EVENTS = [b'{"n":0}', "grüße, \u20ac, \U0001f600".encode(), b"\xff\xfe not text", b"\xed\xa0\x80", b"a" * 125, b"b" * 126,
          b"c" * 8192, b"\x80" * 4000, b"d" * 60000, b'{"n":"last"}']

# A client speaks lines of JSON.  Out: {"open": true}, {"text": ..}, {"binary": base64}, {"close": code}, {"error": ..};
# in: what it is to send, {"text": ..} or {"binary": base64}.
NODE = """
const WebSocket = require('ws'), fs = require('fs');
const [url, ca, origin] = process.argv.slice(2);
const say = what => console.log(JSON.stringify(what));
const w = new WebSocket(url, {...(ca ? {ca: fs.readFileSync(ca)} : {}), ...(origin ? {origin} : {})});
w.on('open', () => {
  say({open: true});
  require('readline').createInterface({input: process.stdin}).on('line', line => {
    const what = JSON.parse(line);
    w.send('text' in what ? what.text : Buffer.from(what.binary, 'base64'));
  });
});
w.on('message', (data, binary) => say(binary ? {binary: data.toString('base64')} : {text: data.toString()}));
w.on('close', code => { say({close: code}); process.exit(); });
w.on('error', e => say({error: e.message}));
"""

PYTHON = """
import asyncio, base64, json, ssl, sys, websockets
url, ca, origin = sys.argv[1:]
def say(**what): print(json.dumps(what), flush=True)
async def forward(w):
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        what = json.loads(line)
        await w.send(what["text"] if "text" in what else base64.b64decode(what["binary"]))
async def main():
    try:
        async with websockets.connect(url, ssl=ssl.create_default_context(cafile=ca) if ca else None,
                                      origin=origin or None) as w:
            say(open=True)
            task = asyncio.create_task(forward(w))
            try:
                async for m in w:
                    say(text=m) if isinstance(m, str) else say(binary=base64.b64encode(m).decode())
            except websockets.ConnectionClosed:
                pass
            say(close=w.close_code)
    except websockets.InvalidHandshake as e:
        say(error=str(e))
asyncio.run(main())
"""

PAGE = """<!doctype html><title>client</title><script>
const options = OPTIONS;
let sent = Promise.resolve();
const say = what => { sent = sent.then(() => fetch('/said', {method: 'POST', body: JSON.stringify(what)})); };
const base64 = data => { let s = ''; for (const b of new Uint8Array(data)) s += String.fromCharCode(b); return btoa(s); };
const w = new WebSocket(options.url);
w.binaryType = 'arraybuffer';
w.onopen = () => {
  say({open: true});
  for (const what of options.send)
    w.send('text' in what ? what.text : Uint8Array.from(atob(what.binary), c => c.charCodeAt(0)));
};
w.onmessage = m => say(typeof m.data == 'string' ? {text: m.data} : {binary: base64(m.data)});
w.onclose = e => say({close: e.code});
w.onerror = () => say({error: 'refused'});
</script>"""


class Client:
    """What it said comes from next(); decoded: (opcode, payload) for messages."""

    def __init__(self):
        self.said = queue.Queue()

    def next(self):
        what = self.said.get(timeout=PATIENCE)
        if "text" in what:
            return TEXT, what["text"].encode()
        if "binary" in what:
            return BINARY, base64.b64decode(what["binary"])
        return what

    def opened(self):
        assert self.next() == {"open": True}
        return self

    def messages(self, n):
        return [self.next() for _ in range(n)]


class Command(Client):
    def __init__(self, *command, env=None):
        super().__init__()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def send(self, opcode, payload):
        what = {"text": payload.decode()} if opcode == TEXT else {"binary": base64.b64encode(payload).decode()}
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.wait()


class Browser(Client):
    """A page in Chromium, served from .origin; what it has to send is known from the beginning."""

    FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]

    def __init__(self, folder):
        super().__init__()
        browser = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def _answer(self, status, text=""):
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                page = PAGE.replace("OPTIONS", json.dumps(browser.options))
                self._answer(*((200, page) if self.path == "/" else (404,)))

            def do_POST(self):
                browser.said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(200)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.folder, self.process = folder, None
        self.temporary = tempfile.TemporaryDirectory()  # with a short name, as its socket's cannot be long

    def visit(self, to, leaf=None, send=()):
        flags = list(self.FLAGS)
        if leaf:  # trust this one key; the system's list of CAs is left alone
            spki = hashlib.sha256(openssl("pkey", "-in", leaf.key, "-pubout", "-outform", "DER")).digest()
            flags.append("--ignore-certificate-errors-spki-list=" + base64.b64encode(spki).decode())
        self.options = {"url": to, "send": [
            {"text": p.decode()} if o == TEXT else {"binary": base64.b64encode(p).decode()} for o, p in send]}
        self.process = subprocess.Popen([shutil.which("chromium"), *flags, f"--user-data-dir={self.folder}",
                                         self.origin + "/"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True,
                                        env={**os.environ, "TMPDIR": self.temporary.name})
        return self

    def close(self):
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.temporary.cleanup()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="session")
def node_client(tmp_path_factory):
    """The file of a client with node's package ws."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    try:
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, "ws@8"], timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not get the package ws")
    if done.returncode:
        pytest.skip(f"npm cannot install the package ws: {done.stdout[-200:]}")
    (folder / "client.js").write_text(NODE)
    return folder / "client.js"


@pytest.fixture
def client(request):
    """client(kind, url, ca="", origin="") -> Command"""
    clients = []

    def run(kind, to, ca="", origin=""):
        if kind == "node":
            command = ["node", request.getfixturevalue("node_client")]
        else:
            pytest.importorskip("websockets")
            command = [sys.executable, "-c", PYTHON]
        clients.append(Command(*command, to, str(ca), origin))
        return clients[-1]

    yield run
    for c in clients:
        c.close()


@pytest.fixture
def browser(tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("needs chromium")
    b = Browser(tmp_path / "profile")
    yield b
    b.close()


@pytest.fixture(params=["plain", "tls"])
def leaf(request, tmp_path):
    """A server's certificate, or None."""
    if request.param == "plain":
        return None
    pki = Pki(tmp_path / "pki")
    made = pki.location("a").leaf("localhost", sans=["localhost", "127.0.0.1"])
    made.ca_file = pki.ca_file
    return made


def ca(leaf):
    return leaf.ca_file if leaf else ""


def is_text(event):
    try:
        event.decode()
        return True
    except UnicodeDecodeError:
        return False


def as_messages(events):
    return [(TEXT if is_text(e) else BINARY, e) for e in events]


def send_all(program, send, port, events):
    """One after the other, so that no socket overflows; what was sent is behind the first stage."""
    for event in events:
        before = program.metrics().sum("semstreams_events_in_total", component="udp")
        send(port, event)
        program.wait_metric("semstreams_events_in_total", before + 1, component="hub")


# ---- events out


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_client_gets_each_event_from_its_connection_on(kind, leaf, start, client, send, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf))
    send_all(program, send, udp_port, [b"before anybody was there"])
    first = client(kind, url(tcp_port, leaf), ca(leaf)).opened()
    send_all(program, send, udp_port, EVENTS)
    assert first.messages(len(EVENTS)) == as_messages(EVENTS)
    second = client(kind, url(tcp_port, leaf), ca(leaf)).opened()
    send_all(program, send, udp_port, [b"for two"])
    assert first.next() == second.next() == (TEXT, b"for two")
    assert program.terminate() == 0
    assert first.next() == second.next() == {"close": 1001}


@pytest.mark.parametrize("kind", ["python", "node"])
def test_envelopes(kind, leaf, start, client, send, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf, format="envelope"))
    c = client(kind, url(tcp_port, leaf), ca(leaf)).opened()
    events = [b'{"n":0,"s":"\xc3\xbc"}', b'not json "\x01\\\xc3\xbc\n', b'[1, 2]', b'"text"', b"\xff neither", b'{"s":"\xff"}', b'{"n":1}']
    send_all(program, send, udp_port, events)
    expected = [{"n": 0, "s": "ü"}, {"type": "raw_data", "data": 'not json "\x01\\ü\n'}, [1, 2], "text", {"n": 1}]
    ids = set()
    for payload in expected:
        opcode, text = c.next()
        envelope = json.loads(text)
        assert opcode == TEXT and envelope.pop("type") == "data" and envelope["payload"] == payload
        ms = envelope.pop("timestamp")
        assert re.fullmatch(rf"msg-{ms}-\d+", envelope["id"])
        ids.add(envelope["id"])
    assert len(ids) == len(expected)
    program.wait_log(r"neither JSON nor UTF-8 are not sent to plain peers.* offset=0 reason=\"not UTF-8\" start=\"\\xff neither\"")


def test_a_browser_gets_events_if_its_origin_is_listed(leaf, start, send, browser, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf, allowed_origins=["https://else.example", browser.origin]))
    browser.visit(url(tcp_port, leaf), leaf).opened()
    send_all(program, send, udp_port, EVENTS)
    assert browser.messages(len(EVENTS)) == as_messages(EVENTS)
    assert program.terminate() == 0
    assert browser.next() == {"close": 1001}


def test_a_browser_is_refused_if_its_origin_is_not_listed(leaf, start, browser, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf, allowed_origins=["https://else.example"]))
    browser.visit(url(tcp_port, leaf), leaf)
    assert browser.next() == {"error": "refused"}
    assert browser.next() == {"close": 1006}
    metrics = program.wait_metric("semstreams_ws_failed_total", 1, component="hub")
    assert metrics.sum("semstreams_ws_connected_total", component="hub") == 0
    program.wait_log("Origin that is not in allowed_origins")


@pytest.mark.parametrize("kind", ["python", "node"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://good.example.evil", "http://good.example:81"])
def test_other_origins_are_refused(kind, origin, start, client, udp_port, tcp_port):
    start(hub(udp_port, tcp_port, allowed_origins=["http://good.example"]))
    assert "403" in client(kind, url(tcp_port), origin=origin).next()["error"]
    client(kind, url(tcp_port), origin="http://good.example").opened()


# ---- events in


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_client_sends_events(kind, leaf, start, client, tcp_port, tmp_path):
    file = tmp_path / "out"
    program = start(intake(tcp_port, file, leaf))
    c = client(kind, url(tcp_port, leaf), ca(leaf)).opened()
    for opcode, event in as_messages(EVENTS):
        c.send(opcode, event)
    program.wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") == len(EVENTS), what="all in the file")
    assert file.read_bytes() == b"".join(e + b"\n" for e in EVENTS)


def test_a_browser_sends_events(leaf, start, browser, tcp_port, tmp_path):
    file = tmp_path / "out"
    program = start(intake(tcp_port, file, leaf, allowed_origins=[browser.origin]))
    browser.visit(url(tcp_port, leaf), leaf, as_messages(EVENTS)).opened()
    program.wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") == len(EVENTS), what="all in the file")
    assert file.read_bytes() == b"".join(e + b"\n" for e in EVENTS)


@pytest.mark.parametrize("kind", ["python", "node"])
def test_envelopes_are_acknowledged(kind, leaf, start, client, tcp_port, tmp_path):
    file = tmp_path / "out"
    program = start(intake(tcp_port, file, leaf, format="envelope"))
    c = client(kind, url(tcp_port, leaf), ca(leaf)).opened()
    for n, payload in enumerate(['{"a": [1, "ü"]}', '"text"', "17", "null"]):
        c.send(TEXT, f'{{"type":"data","id":"msg-{n}","timestamp":1,"payload":{payload}}}'.encode())
        opcode, text = c.next()
        assert opcode == TEXT and json.loads(text)["type"] == "ack" and json.loads(text)["id"] == f"msg-{n}"
    for nonsense in ("{", '{"type":1}', "[]", '{"type":"data","id":"x"}'):
        c.send(TEXT, nonsense.encode())
    c.send(TEXT, b'{"type":"data","id":"end","payload":{"last":true}}')
    assert json.loads(c.next()[1])["id"] == "end"
    program.wait_for(lambda: file.exists() and file.read_text().endswith('{"last":true}\n'), what="the last event")
    assert file.read_text() == '{"a": [1, "ü"]}\n"text"\n17\nnull\n{"last":true}\n'
    assert program.metrics().sum("semstreams_events_dropped_total", component="in", reason="not_an_envelope") == 4
    told = [line.partition("are dropped: ")[2] for line in program.log().splitlines() if "that are no envelopes" in line]
    assert 'not valid JSON peer=- offset=1 reason="it ends too early" start="{" component=in' in told, told
    assert len(told) <= 4


# ---- HTTP


def curl(leaf, port, path, *options):
    """(status line, headers, body)"""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    done = subprocess.run(["curl", "-sS", "-i", *options, *(["--cacert", leaf.ca_file] if leaf else []),
                           f"http{'s' if leaf else ''}://localhost:{port}{path}"], check=True, stdout=subprocess.PIPE,
                          timeout=PATIENCE)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    return int(line.split()[1]), {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}, body


@pytest.mark.parametrize("which", ["hub", "in"])
def test_what_curl_sees(which, leaf, start, udp_port, tcp_port, tmp_path):
    start(hub(udp_port, tcp_port, leaf) if which == "hub" else intake(tcp_port, tmp_path / "out", leaf))
    status, headers, body = curl(leaf, tcp_port, "/health")
    assert status == 200 and headers["content-type"] == "application/json" and json.loads(body)["status"] == "ok"
    length = headers["content-length"]
    status, headers, body = curl(leaf, tcp_port, "/health", "-I")
    assert (status, headers["content-length"], body) == (200, length, "")
    for head in [], ["-I"]:
        status, headers, _ = curl(leaf, tcp_port, PATH, *head)
        assert status == 426 and headers["upgrade"] == "websocket" and headers["sec-websocket-version"] == "13"
        assert curl(leaf, tcp_port, "/elsewhere", *head)[0] == 404
        assert curl(leaf, tcp_port, PATH + "/", *head)[0] == 404
        assert curl(leaf, tcp_port, "/", *head)[0] == 404
    assert curl(leaf, tcp_port, PATH, "-X", "POST", "-d", "x" * 1000)[0] == 405


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_clients_that_are_refused_hear_the_alert(version, start, udp_port, tcp_port, tmp_path):
    """Also those that have sent their request before they hear it."""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    pki = Pki(tmp_path / "pki")
    location = pki.location("a")
    good, bad = location.leaf("good"), location.leaf("bad")
    config = hub(udp_port, tcp_port, location.leaf("localhost"))
    config["security"]["tls"]["server"].update(
        min_version=version, mtls={"enabled": True, "client_ca_files": [pki.ca_file], "allowed_client_cns": ["good"]})
    program = start(config)
    command = ["curl", "-sS", "--cacert", pki.ca_file, "--tls-max", version, f"https://localhost:{tcp_port}/health"]
    for _ in range(20):
        done = subprocess.run([*command, "--cert", str(bad.cert), "--key", str(bad.key)], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        assert "alert bad certificate" in done.stderr
    done = subprocess.run([*command, "--cert", str(good.cert), "--key", str(good.key)], capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "ok", done.stderr
    program.wait_metric("semstreams_ws_failed_total", 20, component="hub")


# ---- many, and a slow one


def test_a_slow_subscriber_is_cut_off_and_nobody_else(leaf, start, send, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf, backlog="64KiB", close_timeout="10s"))
    event = [b"%06d" % n + b"x" * 40000 for n in range(400)]
    got, errors = [[] for _ in range(3)], []

    def read(peer, into):
        try:
            while len(into) < len(event):
                into.append(peer.message())
        except Exception as e:  # noqa: BLE001 - told below
            errors.append(e)

    with RawPeer(tcp_port, ca(leaf), receive_buffer=4096).upgrade() as slow:
        fast = [RawPeer(tcp_port, ca(leaf)).upgrade() for _ in got]
        threads = [threading.Thread(target=read, args=pair) for pair in zip(fast, got)]
        for thread in threads:
            thread.start()
        for n, payload in enumerate(event):
            send(udp_port, payload)  # each waits for the fast ones: only the slow one may fall behind
            program.wait_for(lambda: errors or all(len(g) > n for g in got), what="the fast ones")
            assert not errors
        for thread in threads:
            thread.join()
        assert all(g == as_messages(event) for g in got)
        program.wait_metric("semstreams_ws_slow_peers_total", 1, component="hub")
        assert slow.end() == 1013
        metrics = program.wait_metric("semstreams_ws_close_total", 1, component="hub", code="1013")
        assert metrics.sum("semstreams_ws_slow_peers_total") == 1
        assert metrics.sum("semstreams_ws_connections", component="hub") == len(fast)
        for peer in fast:
            peer.socket.close()


def test_two_hundred_subscribers(leaf, start, send, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, leaf))
    peers = [RawPeer(tcp_port, ca(leaf)).upgrade() for _ in range(200)]
    program.wait_metric("semstreams_ws_connections", 200, component="hub")
    events = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * (n % 300)) for n in range(500)]
    for i in range(0, len(events), 50):
        send(udp_port, *events[i:i + 50])
        program.wait_metric("semstreams_events_in_total", i + 50, component="hub")
    for peer in peers:
        assert [peer.message() for _ in events] == as_messages(events)
    assert program.metrics().sum("semstreams_ws_slow_peers_total") == 0
    for peer in peers:
        peer.socket.close()
    program.wait_for(lambda: program.metrics().sum("semstreams_ws_connections") == 0, what="all gone")


def data_segments(peer):
    """TCP segments with data that came: writes of the other side, which sends without delay."""
    info = peer.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156)
    return int.from_bytes(info[152:156], sys.byteorder)


@pytest.mark.parametrize("gather", ["0s", "10s"])
def test_messages_gather_between_writes(gather, start, send, udp_port, tcp_port):
    program = start(hub(udp_port, tcp_port, gather=gather))
    peers = [RawPeer(tcp_port).upgrade() for _ in range(200)]
    program.wait_metric("semstreams_ws_connections", 200, component="hub")
    before, events = data_segments(peers[0]), [b"%d" % n for n in range(60)]
    if gather == "0s":
        for event in events:
            send(udp_port, event)
            assert peers[0].message() == (TEXT, event)
        assert data_segments(peers[0]) - before == len(events)
        return
    send_all(program, send, udp_port, events)
    assert peers[0].message() == (TEXT, b"0")  # at once; what has gathered by the end goes before the close frame
    assert program.terminate() == 0
    for peer in peers:
        assert [peer.message() for _ in events[peer is peers[0]:]] == as_messages(events[peer is peers[0]:])
        assert peer.end() == 1001
    assert data_segments(peers[0]) - before < 40
