# SPDX-License-Identifier: MIT
"""Fixtures: hosts on one machine, real CAs on them, and uacme, a client of others.

What a machine does not have makes a test be skipped, with the name of what is missing.
"""

import contextlib
import http.client
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, Program
from pki import SERVER, Pki

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lab import hosts as lab_hosts  # noqa: E402
from lab import servers  # noqa: E402
from lab.servers import Caddy, Missing, Pebble, StepCa  # noqa: E402

SYSTEM_POOL = "/etc/ssl/certs/ca-certificates.crt"


def line(level, text, fields=""):
    """A pattern for a line of the log: the message, and its fields in this order behind the component's."""
    return rf"^\d{{4}}-\d\d-\d\dT[\d:.]+Z {level} {text}(?: component=\S+)?{' ' + fields if fields else ''}( |$)"


def until(condition, what, patience=PATIENCE):
    """Wait until condition() is true, where there is nothing that would wake us; its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.02)
    return value


@pytest.fixture
def hosts(tmp_path):
    reason = lab_hosts.reason_not()
    if reason:
        pytest.skip(reason)
    with lab_hosts.Hosts(tmp_path / "hosts") as made:
        yield made


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def cas(tmp_path, pki):
    """A Cas; its CAs are stopped at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield Cas(tmp_path / "cas", pki, stack)


class Cas:
    """Makes CAs and starts them."""

    def __init__(self, folder, pki, stack):
        self.folder, self.pki, self._stack, self._n = folder, pki, stack, 0

    def _place(self):
        self._n += 1
        return self.folder / str(self._n)

    def _start(self, make):
        try:
            server = make()
        except Missing as missing:
            pytest.skip(str(missing))
        self._stack.callback(server.stop)
        return server.start()

    def location(self, kind, host, letter="a", pki=None, **options):
        """A StepCa or Caddy with the intermediate of a location."""
        pki = pki or self.pki
        intermediate = pki.location(letter)
        return self._start(lambda: kind(self._place(), host, pki.ca_file, intermediate.crt, intermediate.key.path,
                                        **options))

    def step_ca(self, host, letter="a", **options):
        return self.location(StepCa, host, letter, **options)

    def caddy(self, host, letter="a", **options):
        return self.location(Caddy, host, letter, **options)

    def pebble(self, host=None, **options):
        """A Pebble for https://localhost:port, or on a host."""
        leaf = self.https(host.name if host else "localhost")
        return self._start(lambda: Pebble(self._place(), leaf, self.pki.ca_file, host, **options))

    def https(self, name):
        """A certificate for somebody's HTTPS."""
        return self.pki.location(f"of {name}").leaf(name, uses=[SERVER])


class HostProgram(Program):
    """semstreams on a Host; its admin port is reached from here."""

    def __init__(self, host, *args, **kwargs):
        self.host = host
        super().__init__(*args, **kwargs)

    def _spawn(self, command, env, log):
        return self.host.popen(*command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def get(self, path):
        address, port = self.admin.rsplit(":", 1)
        connection = http.client.HTTPConnection(address, int(port), timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.sock = self.host.socket()
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect((address, int(port)))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


class Uacme:
    """uacme on a host that trusts the roots given to trusting(), and a web server for its answers."""

    def __init__(self, host, folder):
        self.host, self.folder, self.web = host, Path(folder), Path(folder) / "web"
        (self.web / ".well-known" / "acme-challenge").mkdir(parents=True)
        self.program = servers.program("uacme", "uacme")
        self._server = host.popen(sys.executable, "-m", "http.server", "-d", self.web, "80", stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)

    @staticmethod
    def trusting(roots, folder):
        """Mounts for its host: uacme knows the system's pool only.  It is a copy: machines may add to their pools."""
        return {SYSTEM_POOL: shutil.copy(roots, folder / "pool.crt")}

    def issue(self, url, name):
        """The chain, as PEM."""
        env = {"UACME_CHALLENGE_PATH": str(self.web / ".well-known" / "acme-challenge")}
        command = [self.program, "-y", "-a", url, "-c", self.folder / "state", "-t", "EC"]
        self.host.run(*command, "new", check=True)
        self.host.run(*command, "-h", "/usr/share/uacme/uacme.sh", "issue", name, env=env, check=True)
        return (self.folder / "state" / name / "cert.pem").read_text()

    def close(self):
        self._server.kill()
        self._server.wait()


# ---- configurations and what comes of them -----------------------------------------------------------------

NAME = "semstreams-a.local"


def acme(ca, storage, names=(NAME,), **more):
    """The acme object for a CA (or a proxy before it); what challenges Pebble asks for is answered where it asks."""
    options = {"enabled": True, "directory_url": ca.url, "email": "admin@location-a.example.com", "domains": list(names),
               "storage_path": str(storage), "ca_bundle": str(ca.roots), **more}
    if isinstance(ca, Pebble) and not ca.host:
        port = ca.tls_port if more.get("challenge_type") == "tls-alpn-01" else ca.http_port
        options.setdefault("challenge_port", port)
        options.setdefault("challenge_address", "127.0.0.1")
    return options


def hub(options, port, **server):
    """A host that listens at port with a certificate by ACME."""
    return {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/edge-data"}}],
        "security": {"tls": {"server": {"enabled": True, "mode": "acme", "acme": options, **server}}},
        "admin": {"listen": "127.0.0.1:0"}}


class Shown:
    """A certificate as the openssl program reads it; the first of pem."""

    def __init__(self, pem):
        self.pem = pem
        text = self._openssl("x509", "-noout", "-subject", "-issuer", "-serial", "-enddate", "-nameopt", "multiline",
                             "-ext", "subjectAltName")
        names = dict(re.findall(r"^(subject|issuer)=.*?commonName\s*= ([^\n]*)", text, re.S | re.M))
        self.cn, self.issuer = names.get("subject"), names.get("issuer")
        self.serial = re.search(r"serial=(\w+)", text)[1]
        self.names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)
        self.public = self._openssl("x509", "-noout", "-pubkey")
        self.chain = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", pem, re.S)
        self.end = ssl.cert_time_to_seconds(re.search(r"notAfter=(.*)", text)[1])

    def _openssl(self, *args):
        return subprocess.run(["openssl", *args], input=self.pem, check=True, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE).stdout


def stored(folder):
    """The certificate in a storage_path, after a look whether all there is as it should be; None if there is none."""
    folder = Path(folder)

    def pair():
        """Both files, or None twice; nothing where only one is there or they are exchanged just now."""
        chain, key = ((folder / name).resolve() for name in ("certificate.pem", "certificate.key"))
        if not chain.exists() and not key.exists():  # links to nothing yet are no half
            return None, None
        return (chain, key) if chain.parent == key.parent and chain.exists() and key.exists() else ()

    chain, key = until(pair, "both halves of a pair")
    if not chain:
        return None
    certificate = Shown(chain.read_text())
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, text=True, stdout=subprocess.PIPE).stdout
    assert public == certificate.public, "the key of another certificate"
    for secret in filter(Path.exists, (key, folder / "account.key")):
        assert secret.stat().st_mode & 0o777 == 0o600, secret
    return certificate


def verified(certificate, root, folder):
    """openssl's opinion of a chain."""
    file = Path(folder) / "chain-to-verify.pem"
    file.write_text(certificate.pem)
    done = subprocess.run(["openssl", "verify", "-CAfile", root, "-untrusted", file, file], text=True, capture_output=True)
    return done.returncode == 0, done.stdout + done.stderr


def served(connect, name=NAME, roots=None, pair=None):
    """The certificate that a TLS server shows; connect() gives the socket.  Raises when it refuses us."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots:
        tls.load_verify_locations(roots)
    else:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if pair:
        tls.load_cert_chain(*pair)
    with connect() as tcp:
        tcp.settimeout(PATIENCE)
        with tls.wrap_socket(tcp, server_hostname=name) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % name.encode())
            if not s.recv(1):  # a refusal comes after the handshake
                raise ConnectionResetError("closed without an answer")
            return Shown(ssl.DER_cert_to_PEM_cert(s.getpeercert(True)))


def local(port):
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
