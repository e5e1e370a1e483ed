# SPDX-License-Identifier: MIT
"""Between an ACME client and a real CA: passes everything on, and does harm where a test wants it.

    proxy = CaProxy(leaf, ca_root, ("127.0.0.1", pebble.port), "/dir")
    proxy.harm("newOrder", status(503, retry_after=2), times=3)
    ...
    assert len(proxy.seen("newOrder")) == 4

The CA makes its links from the Host field that the client sent, so the client sees the proxy only.  What a request is
about ("newOrder", "authz", ...) is learnt from the CA's own answers.  A fault is a function of the Exchange: it answers as
it likes, before or after the CA has been asked.
"""

import base64
import http.client
import http.server
import json
import socket
import ssl
import struct
import threading
import time

from conftest import PATIENCE

PROBLEM = "application/problem+json"
ERROR = "urn:ietf:params:acme:error:"


class Reply:
    """An answer; headers is a list of pairs."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, list(headers), body

    def get(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def set(self, name, value):
        """Replace a field; None removes it."""
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))
        return self

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @json.setter
    def json(self, document):
        self.body = json.dumps(document).encode()


class Exchange:
    """One request and what is done about it."""

    def __init__(self, proxy, handler, body):
        self.proxy, self.handler, self.body = proxy, handler, body
        self.method, self.path, self.time = handler.command, handler.path, time.monotonic()
        self.kind, self.status, self.answered = proxy.kind(self.method, self.path), None, None

    @property
    def payload(self):
        """What the client has signed; None for POST-as-GET and for what is not signed."""
        try:
            text = json.loads(self.body)["payload"]
            return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) if text else None
        except (ValueError, KeyError):
            return None

    def forward(self):
        """What the CA says."""
        return self.proxy.ask(self)

    def send(self, reply):
        """Answer with reply."""
        self.begin(reply)
        if self.method != "HEAD":
            self.handler.wfile.write(reply.body)

    def begin(self, reply, length=None):
        """The answer's head; its body is the caller's."""
        self.status, self.answered = reply.status, time.monotonic()
        h = self.handler
        h.send_response_only(reply.status)
        for key, value in reply.headers:
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                h.send_header(key, value)
        h.send_header("Content-Length", str(len(reply.body) if length is None else length))
        h.end_headers()

    def nonce(self):
        """One that the CA would take."""
        return self.proxy.nonce()

    def reset(self):
        """Break the connection as if the machine had been switched off."""
        tcp = self.handler.tcp
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.close_connection = True
        self.handler.broken = True


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    broken = False

    def setup(self):
        self.tcp = self.request
        self.tcp.settimeout(PATIENCE)
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = self.server.tls.wrap_socket(self.tcp, server_side=True)
        super().setup()

    def handle(self):
        try:
            super().handle()
        except OSError:  # clients may go away
            pass

    def finish(self):
        try:
            super().finish()
        except OSError:
            pass
        if self.broken:
            self.request.detach()  # no farewell of TLS
            self.tcp.close()
        else:
            self.request.close()

    def log_message(self, *args):
        pass

    def exchange(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.proxy.serve(Exchange(self.server.proxy, self, body))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = exchange


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy, sock, tls):
        super().__init__(sock.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.proxy, self.tls = sock, proxy, tls
        self.server_activate()

    def handle_error(self, request, client_address):
        pass  # a client that does not like our certificate

    def shutdown_request(self, request):
        pass  # Handler.finish has


class CaProxy:
    """leaf: the proxy's own certificate (.cert, .key); ca_root: what the CA's is verified by, for the name it is asked for;
    upstream: the CA's address; directory: its path.  host: the Host to live on, else this machine."""

    def __init__(self, leaf, ca_root, upstream, directory, host=None, name="localhost", port=0):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(leaf.cert, leaf.key)
        self._socket = host.socket if host else lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._upstream, self._ca_tls = upstream, ssl.create_default_context(cafile=str(ca_root))
        sock = self._socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0" if host else "127.0.0.1", port))
        self.name, self.port = name, sock.getsockname()[1]
        self.origin = f"https://{name}:{self.port}"
        self.url = self.origin + directory
        self.exchanges, self._lock = [], threading.Lock()
        self._kinds, self._faults = {directory: "directory"}, []
        self._listener = Listener(self, sock, tls)
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    # ---- what tests say and ask

    def harm(self, kind, fault, times=None, after=0, method=None):
        """From now on fault(exchange) answers requests of this kind ("*": any): times of them (None: for ever), not the
        first `after`.  The newest harm counts."""
        with self._lock:
            self._faults.insert(0, {"kind": kind, "fault": fault, "times": times, "after": after, "method": method})

    def heal(self):
        with self._lock:
            self._faults.clear()

    def seen(self, kind=None, since=0.0):
        """The exchanges so far."""
        with self._lock:
            return [x for x in self.exchanges if (kind is None or x.kind == kind) and x.time >= since]

    def kinds(self):
        return [x.kind for x in self.seen()]

    # ---- for exchanges

    def kind(self, method, path):
        with self._lock:
            known = self._kinds.get(path)
        if known == "newNonce" or (known is None and method == "HEAD"):
            return "newNonce"
        if known is None and "/renewal" in path.lower():
            return "renewalInfo"
        return known or "other"

    def serve(self, exchange):
        with self._lock:
            self.exchanges.append(exchange)
            fault = self._next_fault(exchange)
        if fault:
            fault(exchange)
        else:
            exchange.send(exchange.forward())

    def _next_fault(self, exchange):
        for f in self._faults:
            if f["kind"] not in (exchange.kind, "*") or (f["method"] and f["method"] != exchange.method):
                continue
            if f["after"] > 0:
                f["after"] -= 1
            elif f["times"] is None or f["times"] > 0:
                f["times"] = None if f["times"] is None else f["times"] - 1
                return f["fault"]
        return None

    def _connect(self):
        connection = http.client.HTTPSConnection(self.name, context=self._ca_tls)
        tcp = self._socket()
        tcp.settimeout(PATIENCE)
        tcp.connect(self._upstream)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = self._ca_tls.wrap_socket(tcp, server_hostname=self.name)
        return connection

    def ask(self, exchange):
        headers = {key: value for key, value in exchange.handler.headers.items() if key.lower() != "connection"}
        connection = self._connect()
        try:
            connection.request(exchange.method, exchange.path, exchange.body or None, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            reply = Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()
        self._learn(exchange, reply)
        return reply

    def nonce(self):
        with self._lock:
            path = next(path for path, kind in self._kinds.items() if kind == "newNonce")
        connection = self._connect()
        try:
            connection.request("HEAD", path, headers={"Host": f"{self.name}:{self.port}", "Connection": "close"})
            return connection.getresponse().getheader("Replay-Nonce")
        finally:
            connection.close()

    def _learn(self, exchange, reply):
        document = reply.json if isinstance(reply.json, dict) else {}
        with self._lock:
            name = lambda url, kind: isinstance(url, str) and self._kinds.setdefault(url.removeprefix(self.origin), kind)
            if exchange.kind == "directory":
                for key, url in document.items():
                    name(url, key)
            if exchange.kind == "newAccount":
                name(reply.get("Location"), "account")
            if exchange.kind == "newOrder":
                name(reply.get("Location"), "order")
            name(document.get("finalize"), "finalize")
            name(document.get("certificate"), "certificate")
            for url in document.get("authorizations") or []:
                name(url, "authz")
            for challenge in document.get("challenges") or []:
                name(challenge.get("url"), "challenge")


# ---- faults ------------------------------------------------------------------------------------------------


def problem(kind, code=400, detail="of the test's making", nonce=True, **fields):
    """A problem document, without asking the CA.  fields: of the head, as retry_after=3."""

    def fault(x):
        reply = Reply(code, [("Content-Type", PROBLEM)], b"")
        reply.json = {"type": ERROR + kind, "detail": detail, "status": code}
        if nonce:
            reply.set("Replay-Nonce", x.nonce())
        for name, value in fields.items():
            reply.set(name.replace("_", "-").title(), str(value))
        x.send(reply)

    return fault


def status(code, body=b"<html>the test's error</html>", content_type="text/html", **fields):
    """An answer of something in between that knows nothing of ACME."""

    def fault(x):
        x.send(Reply(code, [("Content-Type", content_type), *((name.replace("_", "-").title(), str(value))
                                                             for name, value in fields.items())], body))

    return fault


def field(name, value):
    """The CA's answer with one field changed; value None: without it; a function: of the old value."""

    def fault(x):
        reply = x.forward()
        x.send(reply.set(name, value(reply.get(name)) if callable(value) else value))

    return fault


def body(change, kind=None):
    """The CA's answer with change(bytes) in place of its body."""

    def fault(x):
        reply = x.forward()
        reply.body = change(reply.body)
        if kind:
            reply.set("Content-Type", kind)
        x.send(reply)

    return fault


def document(change):
    """The CA's answer with its JSON changed by change(dict), if there is any and it is no error."""

    def fault(x):
        reply = x.forward()
        got = reply.json
        if reply.status < 300 and isinstance(got, dict):
            reply.json = change(got) or got
        x.send(reply)

    return fault


def reset_before(x):
    """The connection breaks before the CA has seen the request."""
    x.reset()


def reset_after(x):
    """The connection breaks when the CA has done what it was asked."""
    x.forward()
    x.reset()


def cut_short(x):
    """The connection ends in the middle of the body."""
    reply = x.forward()
    x.begin(reply, len(reply.body) + 100)
    x.handler.wfile.write(reply.body)
    x.handler.wfile.flush()
    x.reset()


def silent(x):
    """No answer, as long as the client waits."""
    try:
        x.handler.request.recv(1)
    except OSError:
        pass
    x.reset()


def endless(size):
    """A body that does not end before size bytes."""

    def fault(x):
        x.begin(Reply(200, [("Content-Type", "application/json")], b""), size)
        piece = b" " * (1 << 16)
        for _ in range(0, size, len(piece)):
            x.handler.wfile.write(piece)

    return fault


def trickle(x):
    """One byte a second until the client has had enough."""
    reply = x.forward()
    x.begin(reply, 1 << 20)
    gone = threading.Event()
    while not gone.wait(1):
        x.handler.wfile.write(b" ")
        x.handler.wfile.flush()
