# SPDX-License-Identifier: MIT
"""semstreams doctor and check --connect: what each finds, that neither hangs, and that nothing is taken or changed."""

import contextlib
import datetime
import email.utils
import json
import os
import re
import socket
import ssl
import subprocess
import threading

import pytest
from conftest import PATIENCE, shared_library, unused_port
from flowlib import fill, pipeline, small_disk, storage, udp
from pki import Pki

FIXTURES = (small_disk,)  # used by name
DAY = 86400


def source(url, name="in"):
    return {"id": name, "type": "websocket_input", "config": {"url": url}}


def dialer(url, **client):
    """A host that dials url, with this security.tls.client."""
    config = pipeline(source(url), storage(), admin={"listen": "off"})
    if client:
        config["security"] = {"tls": {"client": client}}
    return config


def acme(url, folder, ca):
    """A host that asks a CA for its certificate."""
    options = {"enabled": True, "directory_url": url, "email": "admin@example.com", "domains": ["host.example"],
               "storage_path": str(folder / "acme"), "ca_bundle": str(ca), "challenge_port": unused_port(socket.SOCK_STREAM)}
    return pipeline(udp(), {"id": "out", "type": "websocket_output", "config": {"port": 0}}, admin={"listen": "off"},
                    security={"tls": {"server": {"enabled": True, "mode": "acme", "acme": options}}})


@pytest.fixture
def doctor(command, tmp_path):
    """doctor(config, *args) -> (exit code, findings)"""

    def run(config, *args, **kwargs):
        file = tmp_path / "config.json"
        if config is not None:
            file.write_text(json.dumps(config))
        done = command("doctor", "--json", *args, file, **kwargs)
        assert done.stderr == ""
        document = json.loads(done.stdout)
        problems = [f for f in document["findings"] if f["level"] == "problem"]
        assert document["ok"] == (not problems) and document["problems"] == len(problems)
        assert done.returncode == (1 if problems else 0)
        return done.returncode, document["findings"]

    return run


def found(findings, check, level="problem"):
    """The text of the only finding of that kind and level, with its remedy."""
    matching = [f for f in findings if f["check"] == check and f["level"] == level]
    assert len(matching) == 1, findings
    return f"{matching[0]['subject']}: {matching[0]['text']} -> {matching[0]['remedy']}"


def levels(findings):
    return {(f["check"], f["level"]) for f in findings if f["check"] != "clock"}


# ---- servers -----------------------------------------------------------------------------------------------


class Peer:
    """A server that answers each connection with bytes, or what makes them then; with None it says nothing."""

    def __init__(self, answer, context=None):
        self.answer, self.context, self.requests, self._held = answer, context, [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        if self.answer is None:
            self._held.append(connection)
            return
        with contextlib.suppress(OSError), connection:
            connection.settimeout(PATIENCE)
            stream = self.context.wrap_socket(connection, server_side=True) if self.context else connection
            with stream:
                self.requests.append(stream.recv(4096))
                stream.sendall(self.answer() if callable(self.answer) else self.answer)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()


@pytest.fixture
def peer():
    """peer(answer, context=None) -> Peer"""
    with contextlib.ExitStack() as stack:
        def make(answer, context=None):
            return stack.enter_context(contextlib.closing(Peer(answer, context)))

        yield make


def http(status=200, skew=0, body=b"{}"):
    """Makes an answer whose clock is off by so many seconds."""

    def answer():
        date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=skew)
        return (f"HTTP/1.1 {status} Something\r\nDate: {email.utils.format_datetime(date, usegmt=True)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    return answer


def tls(leaf, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.cert, leaf.key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


# ---- this machine ------------------------------------------------------------------------------------------


def test_all_is_well(doctor, command, tmp_path, tcp_port):
    config = pipeline(udp(port=unused_port(socket.SOCK_DGRAM)), storage(path="data/%Y/x.jsonl"),
                      admin={"listen": f"127.0.0.1:{tcp_port}"})
    code, findings = doctor(config)
    assert code == 0
    assert {f["check"] for f in findings} == {"user", "config", "clock", "port", "storage", "limits"}
    assert {("user", "ok"), ("config", "ok"), ("port", "ok"), ("limits", "ok")} <= levels(findings)
    assert f"TCP port {tcp_port} of 127.0.0.1" in {f["subject"] for f in findings}
    assert not (tmp_path / "data").exists() and os.listdir(tmp_path) == ["config.json"]
    text = command("doctor", "config.json")
    assert text.returncode == 0 and re.search(r"^0 problems, \d warnings?$", text.stdout, re.M)
    assert len([line for line in text.stdout.splitlines() if line.startswith("ok ")]) >= 5


def test_errors_of_the_configuration(doctor, tmp_path):
    config = pipeline(udp(port=99999), storage())
    code, findings = doctor(config)
    assert code == 1
    assert "/components/0/config/port" in found(findings, "config")
    assert ("storage", "ok") in levels(findings), "what can be examined is examined all the same"
    (tmp_path / "config.json").write_text("{")
    code, findings = doctor(None)
    assert code == 1 and "config.json:1:2" in found(findings, "config")


def test_ports(doctor, start, udp_port, tcp_port):
    config = pipeline(udp(port=udp_port), storage(), admin={"listen": f"127.0.0.1:{tcp_port}"})
    other = socket.create_server(("127.0.0.1", tcp_port))
    with other:
        code, findings = doctor(config)
        assert code == 1
        assert re.search(rf'TCP port {tcp_port} of 127.0.0.1: "admin" needs it, and it is in use by \S+, process {os.getpid()} ->'
                         ' end that program', found(findings, "port"))
    start(config).wait_ready()
    code, findings = doctor(None)
    assert code == 0, "the host itself may run"
    assert sum("the host that runs this configuration" in f["text"] for f in findings) == 2
    config["components"][0]["config"]["bind"] = "192.0.2.77"
    code, findings = doctor({**config, "admin": {"listen": "off"}})
    assert code == 1 and "no address 192.0.2.77" in found(findings, "port")


def test_no_permission(semstreams, tmp_path):
    """As a user whose files they are not: a folder to write to, and a low port."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(pipeline(udp(port=1), storage(path=str(folder / "x.jsonl")), admin={"listen": "off"})))
    argv = [semstreams, "doctor", "--json", str(config)]
    if os.geteuid() == 0:
        argv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-net_bind_service", *argv]
        os.chown(folder, 65534, 65534)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 1
    assert re.search(r"may not write to \S+/data, which belongs to user id \d+ and has mode 0500 -> install -d",
                     found(findings, "storage"))
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) > 1:
            assert "CAP_NET_BIND_SERVICE" in found(findings, "port")


def test_disk_full(doctor, small_disk):
    config = pipeline(udp(), storage(path=str(small_disk / "x.jsonl")), admin={"listen": "off"})
    code, findings = doctor(config)
    assert code == 0 and "MiB are left" in found(findings, "storage", "warning")
    fill(small_disk)
    code, findings = doctor(config)
    assert code == 1 and "the disk is full" in found(findings, "storage")


def test_slow_disk(doctor, tmp_path, tmp_path_factory):
    """A sync that takes seconds is told, and one that does not end holds nobody up."""
    library = shared_library("slow_fsync", tmp_path_factory.mktemp("preload"))
    config = pipeline(udp(), storage(), admin={"listen": "off"})

    def with_sync(ms, *args):
        return doctor(config, *args, env={**os.environ, "LD_PRELOAD": str(library), "SLOW_FSYNC_MS": str(ms),
                                                         "SLOW_FSYNC_FILES": "1"})

    code, findings = with_sync(1500)
    slow = [f for f in findings if re.fullmatch(r"a sync of 64 KiB takes \d{4,} ms", f["text"])]
    assert code == 0 and [(f["level"], f["remedy"].split(",")[0]) for f in slow] == [("warning", "a faster disk")]
    code, findings = with_sync(600_000, "--timeout", "1s")
    assert code == 1 and "the sync of 64 KiB takes longer than 1000 ms" in found(findings, "storage")


def test_keys(doctor, pki, tmp_path):
    leaf = pki.root.leaf("host.example")
    copy = tmp_path / "host.key"
    copy.write_bytes(leaf.key.read_bytes())
    copy.chmod(0o600)
    server = {"enabled": True, "cert_file": str(leaf.cert), "key_file": str(copy)}
    config = pipeline(udp(), {"id": "out", "type": "websocket_output", "config": {"port": 0}}, admin={"listen": "off"},
                      security={"tls": {"server": server}})
    code, findings = doctor(config)
    assert code == 0 and ("key", "ok") in levels(findings)
    copy.chmod(0o644)
    code, findings = doctor(config)
    assert code == 1 and f"mode is 0644 -> chmod 600 {copy}" in found(findings, "key")


def test_clock_behind(doctor, tmp_path):
    """A file from tomorrow: today's clock is wrong."""
    doctor(pipeline(udp(), storage(), admin={"listen": "off"}))
    tomorrow = (tmp_path / "config.json").stat().st_mtime + DAY
    os.utime(tmp_path / "config.json", (tomorrow, tomorrow))
    code, findings = doctor(None)
    assert code == 1 and "it is behind" in found(findings, "clock")


# ---- peers and CAs -----------------------------------------------------------------------------------------


def test_peers(doctor, command, start, tcp_port):
    """A link that runs stays as it is, whoever is examined."""
    hub = start(pipeline(udp(), {"id": "out", "type": "websocket_output",
                                 "config": {"port": tcp_port, "bind": "127.0.0.1", "path": "/s"}})).wait_ready()
    code, findings = doctor(dialer(f"ws://localhost:{tcp_port}/s?key=secret"))
    assert "takes nothing (status 426)" in found(findings, "answer", "ok")
    assert code == 0, findings
    assert "secret" not in json.dumps(findings)
    assert hub.metrics().sum("semstreams_link_connections") == 0
    wrong = dialer(f"ws://127.0.0.1:{tcp_port}/elsewhere")
    assert "the path of the URL" in found(doctor(wrong)[1], "answer")
    done = command("check", "--connect", "config.json")
    assert done.returncode == 1 and done.stdout.startswith("ok: 2 components")
    assert "\nproblem  answer   ws://127.0.0.1" in done.stdout and done.stdout.endswith("\n1 problem, 0 warnings\n")
    assert command("check", "config.json").returncode == 0, "without --connect nobody is asked"
    free = unused_port(socket.SOCK_STREAM)
    assert f"127.0.0.1:{free} refuses the connection: nothing listens there" in \
        found(doctor(dialer(f"ws://127.0.0.1:{free}/"))[1], "connect")
    assert "no.such.invalid" in found(doctor(dialer("ws://no.such.invalid/"))[1], "dns")


def test_check_connect_of_errors(command, tmp_path):
    """What cannot start reaches nobody."""
    (tmp_path / "config.json").write_text(json.dumps(pipeline(source("ws://127.0.0.1:1/"), storage(nonsense=1))))
    done = command("check", "--connect", "config.json")
    assert done.returncode == 78 and "connect" not in done.stdout


def test_silence(doctor, peer, tmp_path_factory):
    """Whoever hangs is named when time is up: a peer, with TLS and without, and a name server."""
    silent = peer(None)
    for scheme in ("ws", "wss"):
        more = {"insecure_skip_verify": True} if scheme == "wss" else {}
        code, findings = doctor(dialer(f"{scheme}://127.0.0.1:{silent.port}/", **more), "--timeout", "1s")
        assert code == 1 and "nothing came in time" in found(findings, "answer" if scheme == "ws" else "tls")
    library = shared_library("hang_lookup", tmp_path_factory.mktemp("preload"))
    code, findings = doctor(dialer("ws://hub.example/"), "--timeout", "1s", env={**os.environ, "LD_PRELOAD": str(library)})
    assert code == 1 and "looking up the name takes longer than 1000 ms" in found(findings, "connect")


def test_another_service(doctor, peer):
    port = peer(b"SSH-2.0-OpenSSH_9.2\r\n").port
    assert "speaks no HTTP" in found(doctor(dialer(f"ws://127.0.0.1:{port}/"))[1], "answer")
    assert "speaks no TLS" in found(doctor(dialer(f"wss://127.0.0.1:{port}/", insecure_skip_verify=True))[1], "tls")


def test_verdicts(doctor, peer, pki, tmp_path):
    """The certificate of a peer: good, of another CA, expired, not yet valid, for another name."""
    def verdict(leaf, check, level="problem", host="localhost"):
        url = f"wss://{host}:{peer(http(426), tls(leaf)).port}/s"
        return found(doctor(dialer(url, ca_files=[pki.ca_file]))[1], check, level)

    good = pki.root.leaf("localhost", sans=["localhost", "127.0.0.1"])
    assert "good for localhost until" in verdict(good, "tls", "ok")
    assert "good for 127.0.0.1 until" in verdict(good, "tls", "ok", "127.0.0.1")
    other = Pki(tmp_path / "other", "Another Root").root.leaf("localhost")
    assert "whom nothing here vouches for" in verdict(other, "tls")
    assert "has expired at" in verdict(pki.root.leaf("localhost", days=(-3, -1)), "tls")
    assert "not for the name localhost" in verdict(pki.root.leaf("hub.example"), "tls")
    assert re.search("is not valid before.*`date -u`", verdict(pki.root.leaf("localhost", days=(1, 3)), "clock"))


def test_refused_by_a_peer(doctor, peer, pki, tmp_path):
    """The peer wants a certificate of ours."""
    leaf = pki.root.leaf("localhost")
    url = f"wss://localhost:{peer(http(426), tls(leaf, pki.ca_file)).port}/"
    assert "it refuses our certificate" in found(doctor(dialer(url, ca_files=[pki.ca_file]))[1], "answer")
    ours = pki.root.leaf("us.example")
    code, findings = doctor(dialer(url, ca_files=[pki.ca_file], **ours.settings()))
    assert code == 0 and ("answer", "ok") in levels(findings), json.dumps(findings)
    stranger = Pki(tmp_path / "other", "Another Root").root.leaf("us.example")
    assert "it refuses our certificate" in found(doctor(dialer(url, ca_files=[pki.ca_file], **stranger.settings()))[1], "answer")


def test_ca(doctor, peer, pki, tmp_path):
    """A CA is asked for its directory and nothing else; its clock is compared."""
    context = tls(pki.root.leaf("localhost"))

    def ask(answer, ca=pki.ca_file):
        server = peer(answer, context)
        return server, doctor(acme(f"https://localhost:{server.port}/directory", tmp_path, ca))

    server, (code, findings) = ask(http())
    assert code == 0 and {("answer", "ok"), ("tls", "ok"), ("port", "ok")} <= levels(findings)
    assert [r.split(b"\r\n")[0] for r in server.requests] == [b"GET /directory HTTP/1.1"]
    assert any(f["check"] == "clock" and "agree" in f["text"] for f in findings)
    for skew, side in ((DAY, "behind"), (-DAY, "ahead of")):
        text = found(ask(http(skew=skew))[1][1], "clock")
        assert re.search(rf"the clock of this machine is (24:00|23:59):\d\d hours {side} that of the peer", text)
    assert "it answers with status 404" in found(ask(http(404))[1][1], "answer")
    _, (code, findings) = ask(http(), tmp_path / "missing.crt")
    assert code == 1 and "missing.crt cannot be used: No such file or directory" in json.dumps(findings)
    port = unused_port(socket.SOCK_STREAM)
    assert "nothing listens there" in found(doctor(acme(f"https://localhost:{port}/", tmp_path, pki.ca_file))[1], "connect")
