# SPDX-License-Identifier: MIT
"""NATS with JetStream: real servers, one or a cluster, and a small client of the wire protocol to prepare and to judge with.

    with Nats(folder) as nats:                       # or Nats(folder, tls=leaf.settings(ca_file=...)), Cluster(folder)
        with nats.client() as js:
            js.add_stream("EVENTS", ["events.>"])
            js.publish("events.a", b"1", {"Nats-Msg-Id": "1"})
            js.messages("EVENTS")                    # [Message(seq, subject, headers, data)]
        nats.kill(), nats.start()

The server is Debian's nats-server, unpacked by tests/lab/unpack or installed.
"""

import base64
import collections
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from lab.hosts import WITH_US, environment
from lab.ports import unused_port
from lab.servers import Missing, program

PATIENCE = float(os.environ.get("TEST_PATIENCE", "60"))

Message = collections.namedtuple("Message", "seq subject headers data")


class ApiError(RuntimeError):
    """JetStream says no; .code is its err_code."""

    def __init__(self, subject, error):
        super().__init__(f"{subject}: {error}")
        self.code = error.get("err_code")


def until(condition, what, timeout=PATIENCE):
    """The first value of condition() that is true; errors of connections count as false."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = condition()
        except (OSError, ApiError) as e:
            value, what = None, f"{what} ({e})"[:400]
        if value:
            return value
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.02)


def encode_headers(headers):
    return b"NATS/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers.items()) + b"\r\n"


def decode_headers(block):
    lines = block.decode().split("\r\n")
    return dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines[1:] if line)


class Client:
    """One connection.  Requests are answered in the order they are made."""

    def __init__(self, plug, context=None, name="127.0.0.1"):
        self._socket, self._buffer, self._inbox = plug, b"", f"_INBOX.t{os.getpid()}x{id(self):x}"
        self._socket.settimeout(PATIENCE)
        self.info = json.loads(self._line().split(b" ", 1)[1])
        if context:
            self._socket = context.wrap_socket(self._socket, server_hostname=name)
        hello = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "test", "version": "1"}
        self._send(f"CONNECT {json.dumps(hello)}\r\nSUB {self._inbox}.* 1\r\nPING\r\n".encode())
        while self._line() != b"PONG":
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self._socket.close()

    def probe(self, patience=PATIENCE):
        """Does JetStream answer?  Without a leader nobody would, for as long as one waits; patience: of later requests."""
        self._socket.settimeout(1)
        self.api("INFO")
        self._socket.settimeout(patience)
        return True

    def _send(self, data):
        self._socket.sendall(data)

    def _more(self):
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._buffer += data

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._more()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        if line.startswith(b"-ERR"):
            raise ConnectionError(line.decode())
        return line

    def _next(self):
        """(subject, header block or None, data) of the next message; pings are answered."""
        while True:
            line = self._line()
            if line == b"PING":
                self._send(b"PONG\r\n")
                continue
            words = line.split()
            if not words or words[0] not in (b"MSG", b"HMSG"):
                continue
            size = int(words[-1])
            while len(self._buffer) < size + 2:
                self._more()
            body, self._buffer = self._buffer[:size], self._buffer[size + 2:]
            head = int(words[-2]) if words[0] == b"HMSG" else 0
            return words[1].decode(), body[:head] or None, body[head:]

    def post(self, subject, data=b"", headers=None, reply=""):
        """Publish without waiting."""
        reply = f"{reply} " if reply else ""
        if headers is None:
            self._send(f"PUB {subject} {reply}{len(data)}\r\n".encode() + data + b"\r\n")
        else:
            block = encode_headers(headers)
            self._send(f"HPUB {subject} {reply}{len(block)} {len(block) + len(data)}\r\n".encode() + block + data + b"\r\n")

    def requests(self, asked, window=128):
        """Answers to (subject, data, headers), in order, with that many on their way."""
        asked, waiting, answers, sent = list(asked), set(), {}, 0
        while len(answers) < len(asked):
            while sent < len(asked) and len(waiting) < window:
                subject, data, headers = asked[sent]
                self.post(subject, data, headers, f"{self._inbox}.{sent}")
                waiting.add(sent)
                sent += 1
            subject, head, body = self._next()
            number = int(subject.rsplit(".", 1)[1])
            if number not in waiting:  # of a request that was given up
                continue
            if head and b" 503" in head.split(b"\r\n", 1)[0]:
                raise ConnectionError(f"nobody answers {asked[number][0]}: JetStream is not there now")
            waiting.remove(number)
            answers[number] = json.loads(body)
        return [answers[i] for i in range(len(asked))]

    def api(self, subject, body=None):
        """Ask $JS.API.<subject>; its answer."""
        answer, = self.requests([(f"$JS.API.{subject}", json.dumps(body).encode() if body is not None else b"", None)])
        if "error" in answer:
            raise ApiError(subject, answer["error"])
        return answer

    # ---- streams

    def add_stream(self, name, subjects, replicas=1, **more):
        return self.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": subjects, "retention": "limits", "storage": "file",
                                                  "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "discard": "new",
                                                  "num_replicas": replicas, "duplicate_window": 120 * 10**9, **more})

    def stream(self, name):
        return self.api(f"STREAM.INFO.{name}")

    def state(self, name):
        """messages, first_seq, last_seq, ..."""
        return self.stream(name)["state"]

    def purge(self, name, **more):
        return self.api(f"STREAM.PURGE.{name}", more)

    def delete_stream(self, name):
        return self.api(f"STREAM.DELETE.{name}")

    def publish_many(self, messages, window=128):
        """Publish (subject, data, headers), in this order; the acknowledgements."""
        answers = self.requests(messages, window)
        for answer in answers:
            if "error" in answer:
                raise ApiError("publish", answer["error"])
        return answers

    def publish(self, subject, data, headers=None):
        """Publish one; its acknowledgement: {"stream", "seq"}."""
        return self.publish_many([(subject, data, headers)])[0]

    def messages(self, stream):
        """All that the stream holds, in order."""
        state, out = self.state(stream), []
        asked = [(f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps({"seq": n}).encode(), None)
                 for n in range(state["first_seq"], state["last_seq"] + 1)]
        for answer in self.requests(asked):
            if "error" in answer:
                if answer["error"].get("err_code") == 10037:  # no message: it was deleted
                    continue
                raise ApiError("STREAM.MSG.GET", answer["error"])
            m = answer["message"]
            out.append(Message(m["seq"], m["subject"], decode_headers(base64.b64decode(m["hdrs"])) if "hdrs" in m else {},
                               base64.b64decode(m.get("data", ""))))
        return out

    # ---- consumers

    def add_consumer(self, stream, durable, **more):
        config = {"durable_name": durable, "ack_policy": "explicit", "deliver_policy": "all", "replay_policy": "instant", **more}
        return self.api(f"CONSUMER.DURABLE.CREATE.{stream}.{durable}", {"stream_name": stream, "config": config})

    def consumer(self, stream, durable):
        return self.api(f"CONSUMER.INFO.{stream}.{durable}")

    def delete_consumer(self, stream, durable):
        return self.api(f"CONSUMER.DELETE.{stream}.{durable}")


class Nats:
    """A nats-server with JetStream on a free port, or on a host of lab.hosts at its usual ones.

    tls: {"cert_file", "key_file", "ca_file"}; clients then have to show a certificate of that CA.  client_tls: the same for
    client().  settings: further lines of its configuration.
    """

    def __init__(self, folder, tls=None, client_tls=None, host=None, name="n1", settings=""):
        self.folder, self.host, self.name = Path(folder), host, name
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.program = program("nats-server", "nats-server")
        except Missing as e:
            pytest.skip(str(e))
        self.address = host.address if host else "127.0.0.1"
        self.port = 4222 if host else unused_port()
        self.route_port = 6222 if host else unused_port()
        self.tls, self.client_tls, self.settings = tls, client_tls or tls, settings
        self.config, self.log, self.process = self.folder / "nats.conf", self.folder / "nats.log", None
        self.configure()

    def configure(self, routes=(), settings=None):
        """Write its configuration, which it reads at its next start."""
        self.settings = self.settings if settings is None else settings
        tls = ""
        if self.tls:
            tls = "tls {{\n  cert_file: \"{cert_file}\"\n  key_file: \"{key_file}\"\n  ca_file: \"{ca_file}\"\n" \
                  "  verify: true\n}}\n".format(**self.tls)
        cluster = ""
        if routes:
            cluster = f"cluster {{\n  name: lab\n  listen: \"{self.address}:{self.route_port}\"\n  routes: {json.dumps(routes)}\n}}\n"
        self.config.write_text(f"server_name: {self.name}\nlisten: \"{self.address}:{self.port}\"\n"
                               f"jetstream {{\n  store_dir: \"{self.folder / 'js'}\"\n  max_mem: 64MB\n  max_file: 4GB\n}}\n"
                               f"lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"10s\"\n{tls}{cluster}{self.settings}\n")

    @property
    def url(self):
        return f"{'tls' if self.tls else 'nats'}://{self.address}:{self.port}"

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.kill()

    def start(self, wait=True):
        assert not self.running
        argv = [self.program, "-c", self.config]
        with open(self.log, "ab") as log:
            kwargs = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": self.folder}
            if self.host:
                self.process = self.host.popen(*argv, **kwargs)
            else:
                self.process = subprocess.Popen([*WITH_US, *map(str, argv)], env=environment(self.folder),
                                                start_new_session=True, **kwargs)
        if wait:
            self.wait_up()
        return self

    def wait_up(self):
        """Until JetStream answers."""
        def answers():
            assert self.running, f"nats-server has ended; its log:\n{self.log.read_text()}"
            with self.client() as client:
                return client.probe()
        until(answers, f"nats-server at {self.url}")

    def plug(self):
        """A connected socket."""
        if not self.host:
            return socket.create_connection((self.address, self.port), timeout=PATIENCE)
        made = self.host.socket()
        made.settimeout(PATIENCE)
        try:
            made.connect((self.address, self.port))
        except OSError:
            made.close()
            raise
        return made

    def client(self):
        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=self.client_tls["ca_file"])
            context.load_cert_chain(self.client_tls["cert_file"], self.client_tls["key_file"])
            context.check_hostname = False
        plug = self.plug()
        try:
            return Client(plug, context, self.address)
        except BaseException:
            plug.close()
            raise

    def signal(self, number):
        self.process.send_signal(number)

    def lame_duck(self):
        """It tells its clients to go elsewhere, and ends some time later."""
        self.signal(signal.SIGUSR2)

    def kill(self):
        """kill -9; its files stay."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        """An orderly end."""
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def lose_disk(self):
        """Begin from nothing at the next start."""
        assert not self.running
        subprocess.run(["rm", "-rf", str(self.folder / "js")], check=True)


class Cluster:
    """Three servers that replicate; on hosts of lab.hosts if three are given, whose cables can be pulled, else on loopback."""

    def __init__(self, folder, hosts=None, **kwargs):
        self.servers = [Nats(Path(folder) / f"n{i + 1}", host=hosts[i] if hosts else None, name=f"n{i + 1}", **kwargs)
                        for i in range(3)]
        routes = [f"nats-route://{s.address}:{s.route_port}" for s in self.servers]
        for server in self.servers:
            server.configure(routes)

    def __enter__(self):
        for server in self.servers:
            server.start(wait=False)
        self.wait_up()
        return self

    def __exit__(self, *exc):
        for server in self.servers:
            server.kill()

    @property
    def urls(self):
        return [server.url for server in self.servers]

    def client(self, patience=PATIENCE):
        """To the first that answers and knows of a leader of JetStream; patience: seconds of each request."""
        error = ConnectionError("no server runs")
        for server in self.servers:
            if not server.running:
                continue
            try:
                client = server.client()
            except OSError as e:
                error = e
                continue
            try:
                client.probe(patience)
                return client
            except (OSError, ApiError) as e:
                client.close()
                error = e
        raise error

    def wait_up(self):
        """Until the cluster has a leader of JetStream that knows all three."""
        def answers():
            with self.client(1) as client:
                client.add_stream("probe", ["probe.>"], replicas=3)
                return client.delete_stream("probe")
        until(answers, "a leader of the cluster")

    def leader(self, stream):
        """The server that leads the stream; None while there is none."""
        with self.client(1) as client:
            name = client.stream(stream).get("cluster", {}).get("leader")
        return next((server for server in self.servers if server.name == name), None)

    def wait_current(self, stream):
        """Until all running servers have what the stream's leader has."""
        def current():
            with self.client(1) as client:
                cluster = client.stream(stream)["cluster"]
            return cluster.get("leader") and all(r.get("current") for r in cluster.get("replicas", []) if not r.get("offline"))
        until(current, f"the replicas of {stream}")


@pytest.fixture
def nats(tmp_path):
    """A running server."""
    with Nats(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def start_nats(tmp_path):
    """start_nats(**kwargs) -> a running Nats; ended with the test."""
    with contextlib.ExitStack() as stack:
        def run(name="nats", **kwargs):
            return stack.enter_context(Nats(tmp_path / name, **kwargs))
        yield run


@pytest.fixture
def cluster(tmp_path):
    """Three running servers on loopback."""
    with Cluster(tmp_path / "cluster") as servers:
        yield servers
