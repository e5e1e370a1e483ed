# SPDX-License-Identifier: MIT
"""Names in certificates that are written in unusual ways, and what a message tells the operator to add."""

import base64
import json
import os
import re
import socket
import ssl
from pathlib import Path

import pki as pki_module
import pytest
from conftest import PATIENCE, unused_port
from pki import CLIENT, Pki, openssl
from test_tls_usable import listener

BMP, T61, UNIVERSAL, UTF8, VISIBLE, BITS = 0x1e, 0x14, 0x1c, 0x0c, 0x1a, 0x03
NAME = "Sensor Münster"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def location(pki):
    return pki.location("a")


@pytest.fixture
def serve(start, pki, location):
    """serve(*names): a listener that lets in who has one of these names, and its port."""

    def run(*names, cas=None):
        mtls = {"enabled": True, "client_ca_files": cas or [pki.ca_file], "allowed_client_cns": list(names)}
        leaf = location.leaf("localhost")
        program = start(listener({"server": {"enabled": True, **leaf.settings(), "mtls": mtls}}))
        return program, int(program.wait_log(r"INFO TLS server started .*port=(\d+)")[1])

    return run


def knock(port, pki, cert, key):
    """Is whoever has this certificate let in?"""
    context = ssl.create_default_context(cafile=pki.ca_file)
    context.load_cert_chain(cert, key)
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            return s.recv(100).startswith(b"HTTP/1.1 101")
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.parametrize("tag, encoding", [(BMP, "utf-16-be"), (T61, "latin-1"), (UNIVERSAL, "utf-32-be"), (UTF8, "utf-8")])
def test_encodings_of_a_common_name(serve, pki, location, tag, encoding):
    program, port = serve(NAME)
    good = location.leaf(None, subject=[("CN", NAME.encode(encoding), tag)], sans=[], uses=[CLIENT])
    assert knock(port, pki, good.cert, good.key)
    # a NUL is one in whatever encoding, and a look-alike is none
    for text in "Sensor Münster\0.evil", "Sensor Munster":
        bad = location.leaf(None, subject=[("CN", text.encode(encoding), tag)], sans=[], uses=[CLIENT])
        assert not knock(port, pki, bad.cert, bad.key)
    program.wait_log(r"certificate with a NUL or control byte in its name")
    program.wait_log(r"client certificate CN 'Sensor Munster' not in allowed list")


def test_unknown_encoding_is_named(serve, pki, location):
    """One that the TLS library lets pass; what others come to is in the unit tests."""
    program, port = serve("Sensor")
    leaf = location.leaf(None, subject=[("CN", b"\0Sensor", BITS)], sans=[], uses=[CLIENT])
    assert not knock(port, pki, leaf.cert, leaf.key)
    program.wait_log(r"client certificate CN \(of ASN.1 type 3, which cannot be decoded\) not in allowed list")


@pytest.fixture
def odd_pem(monkeypatch):
    """As the openssl program would not write it."""
    monkeypatch.setattr(pki_module, "pem", lambda der: b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) +
                        b"-----END CERTIFICATE-----\n")


ENCODINGS = [(BMP, "utf-16-be"), (T61, "latin-1"), (UNIVERSAL, "utf-32-be"), (UTF8, "utf-8")]


@pytest.mark.parametrize("tag, encoding", ENCODINGS)
def test_encodings_at_a_server(call, command, pki, location, tmp_path, tag, encoding):
    """Of its name (without a DNS name that is the CN), of its CA's, and what cert status shows of both."""
    cn = ("CN", NAME.encode(encoding), tag)
    leaf = location.leaf(None, subject=[cn, ("O", "Größe".encode(encoding), tag)], sans=["127.0.0.1"])
    program = call(leaf.cert, leaf.key, pki.ca_file, "127.0.0.1")
    program.wait_ready()
    program.wait_log(f"Link up .*peer=\"?{NAME}")
    # a CA that nobody trusts is told by its name
    issuer = location.leaf(None, subject=[cn], sans=[], ca=True)
    call(issuer.cert, issuer.key, location.leaf("other", ca=True).cert, "127.0.0.1").wait_log(f"certificate '{NAME}'")
    (tmp_path / "c.json").write_text(json.dumps(listener({"server": {"enabled": True, **leaf.settings()}})))
    done = command("cert", "status", "-c", "c.json")
    assert f"O=Größe,CN={NAME}" in done.stdout, done.stdout + done.stderr
    done = command("cert", "status", "--json", "-c", "c.json")
    assert json.loads(done.stdout)["server"]["certificate"]["subject"] == f"O=Größe,CN={NAME}"


@pytest.mark.parametrize("tag, encoding", ENCODINGS)
def test_encodings_of_a_ca(call, command, pki, location, tmp_path, tag, encoding):
    expired = location.leaf(None, subject=[("CN", NAME.encode(encoding), tag)], sans=[], ca=True, days=(-9, -1))
    bundle = tmp_path / "cas.pem"
    bundle.write_bytes(expired.cert.read_bytes() + Path(pki.ca_file).read_bytes())
    (tmp_path / "c.json").write_text(json.dumps(listener({"client": {"ca_files": [str(bundle)]}})))
    done = command("check", "c.json")
    assert done.returncode == 0 and f"'{NAME}'" in done.stderr and "expired" in done.stderr, done.stderr


@pytest.mark.parametrize("bytes_, tag, shown", [(b"CA \xff\xfe", UTF8, r"CA \\xff\\xfe"), (b"CA", VISIBLE, "CA"),
                                                (b"\xd8\0\0a", BMP, None), (b"abc", BMP, None)])
def test_a_ca_that_openssl_does_not_read(odd_pem, call, command, pki, location, tmp_path, bytes_, tag, shown):
    """GnuTLS reads it.  It is named and left out, and the others in its file count."""
    odd = location.leaf(None, subject=[("CN", bytes_, tag)], sans=[], ca=True)
    bundle = tmp_path / "cas.pem"
    bundle.write_bytes(odd.cert.read_bytes().split(b"-----BEGIN")[1].join([b"-----BEGIN", b""]) + Path(pki.ca_file).read_bytes())
    leaf = location.leaf("localhost")
    (tmp_path / "c.json").write_text(json.dumps(listener({"client": {"ca_files": [str(bundle)]}})))
    done = command("check", "c.json")
    what = f"CA '{shown}'" if shown else "CA \\(of ASN.1 type 30, which cannot be decoded\\)"
    assert done.returncode == 0, done.stderr
    assert re.search(what + ".* has a name in an encoding that OpenSSL does not read", done.stderr), done.stderr
    call(leaf.cert, leaf.key, bundle, "localhost").wait_ready()
    # as an identity it is of no use, and the reason is not that it were no PEM
    (tmp_path / "c.json").write_text(json.dumps(listener({"server": {"enabled": True, **odd.settings()}})))
    done = command("check", "c.json")
    assert done.returncode == 78 and "has a name in an encoding that OpenSSL does not read" in done.stderr, done.stderr


# ---- what is missing is said --------------------------------------------------------------------------------


@pytest.fixture
def call(start, serve_plain, tmp_path_factory):
    """call(cert, key, ca, url): the log of one who dials a server with this certificate."""

    def run(cert, key, ca, host):
        port = serve_plain(cert, key)
        dialler = {"id": "in", "type": "websocket_input", "config": {"url": f"wss://{host}:{port}/"}}
        file = {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}
        return start({"components": [dialler, file], "security": {"tls": {"client": {"ca_files": [str(ca)]}}},
                      "admin": {"listen": "127.0.0.1:0"}}, ready=False, folder=tmp_path_factory.mktemp("dialler"))

    return run


@pytest.fixture
def serve_plain(start, tmp_path_factory):
    def run(cert, key):
        program = start(listener({"server": {"enabled": True, "cert_file": str(cert), "key_file": str(key)}}),
                        folder=tmp_path_factory.mktemp("server"))
        return int(program.wait_log(r"INFO TLS server started .*port=(\d+)")[1])

    return run


def test_kinds_of_alternative_names(call, pki, location):
    leaf = location.leaf("wrong kind", sans=[b"127.0.0.1"])
    call(leaf.cert, leaf.key, pki.ca_file, "127.0.0.1").wait_log(
        r"certificate is valid for DNS name '127.0.0.1', not address '127.0.0.1'; .* add IP:127.0.0.1")
    leaf = location.leaf("addresses only", sans=["127.0.0.1"])
    call(leaf.cert, leaf.key, pki.ca_file, "localhost").wait_log(
        r"valid for no DNS name, only for address 127.0.0.1, not 'localhost'; .* add DNS:localhost")
    leaf = location.leaf("localhost", sans=[])
    call(leaf.cert, leaf.key, pki.ca_file, "localhost").wait_log(
        r"valid for no DNS name, not 'localhost'; its CN is ignored, .* add DNS:localhost")


@pytest.mark.parametrize("san", [b"localhost.", b"localhost:8443", b"https://localhost", b" localhost"])
def test_a_name_that_no_host_has(call, pki, location, san):
    leaf = location.leaf("odd", sans=[san])
    call(leaf.cert, leaf.key, pki.ca_file, "localhost").wait_log(
        rf"valid for '{san.decode()}', not 'localhost'; .* without scheme, port, blank or a dot at its end: add DNS:localhost")


@pytest.mark.parametrize("tag, value, host, told", [
    (0x86, b"https://localhost", "localhost", r"no DNS name \(URI 'https://localhost' does not count\), .* add DNS:localhost"),
    (0x86, b"https://127.0.0.1/", "127.0.0.1", r"no address \(URI 'https://127.0.0.1/' does not count\), .* add IP:127.0.0.1"),
    (0x81, b"a@localhost", "localhost", r"no DNS name \(mail address 'a@localhost' does not count\), .* add DNS:localhost"),
    (0x87, b"\x7f\0\0\1\xff\xff\xff\xff", "127.0.0.1", "address of 8 bytes, .* add IP:127.0.0.1")])
def test_names_of_other_kinds(call, pki, location, monkeypatch, tag, value, host, told):
    with monkeypatch.context() as odd:
        odd.setattr(pki_module, "general_name", lambda _: pki_module.tlv(tag, value))
        leaf = location.leaf("other kind", sans=[host])
    call(leaf.cert, leaf.key, pki.ca_file, host).wait_log(f"certificate is valid for {told}")


def test_a_host_with_a_dot_at_its_end(call, pki, location):
    """The certificate is compared without it, and /etc/hosts, which does not know it, is asked without it as well."""
    leaf = location.leaf("localhost")
    call(leaf.cert, leaf.key, pki.ca_file, "localhost.").wait_ready()


def self_made(folder, name, *more):
    """As openssl req -x509 makes it by default: a CA's, of no particular use."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-subj", f"/CN={name}", *more)
    key.chmod(0o600)
    return cert, key


def test_pinned_server(call, tmp_path):
    cert, key = self_made(tmp_path, "bare")
    call(cert, key, cert, "localhost").wait_log(r"valid for no DNS name, not 'localhost'; .* add DNS:localhost")
    cert, key = self_made(tmp_path, "named", "-addext", "subjectAltName=DNS:localhost")
    program = call(cert, key, cert, "localhost")
    program.wait_ready()
    assert program.metrics().sum("semstreams_tls_revoked_peers_total") == 0
    cert, key = self_made(tmp_path, "leaf", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE")
    program = call(cert, key, cert, "localhost")
    program.wait_ready()
    assert "is not a CA certificate: only a peer that shows this very certificate will verify" in program.log()


def test_pinned_client(serve, pki, location, tmp_path):
    cert, key = self_made(tmp_path, "sensor")
    program, port = serve("sensor", "Location A Intermediate CA", cas=[str(cert), str(location.crt)])
    assert knock(port, pki, cert, key)
    # a CA that is not pinned by itself is nobody's identity
    other = location.leaf("sensor", ca=True)
    assert not knock(port, pki, other.cert, other.key)
    program.wait_log(r"certificate 'sensor' is a CA certificate and cannot identify a peer")


# ---- who else may read a key --------------------------------------------------------------------------------


@pytest.fixture
def check_key(command, tmp_path, location):
    def run(mode, owner=None, **more):
        leaf = location.leaf("localhost")
        leaf.key.chmod(mode)
        if owner is not None:
            os.chown(leaf.key, owner, -1)
        udp = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
        tls = {"server": {"enabled": True, **leaf.settings(), **more}, "client": {**leaf.settings(), **more}}
        (tmp_path / "c.json").write_text(json.dumps({"components": [udp], "security": {"tls": tls}}))
        done = command("check", "c.json")
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of several users")
def test_open_keys(check_key):
    for mode, owner in (0o666, 65534), (0o640, 65534), (0o440, 65534), (0o644, 0), (0o444, 0), (0o460, 0):
        status, told = check_key(mode, owner)
        assert status == 78 and told.count(f"is open to group or others (mode {mode:04o})") == 2, told
        status, told = check_key(mode, owner, allow_open_key_file=True)
        assert status == 0 and told.count("the mode of key_file is not looked at") == 2, told
    # what root gave to a group, as systemd and Kubernetes do
    status, told = check_key(0o440, 0)
    assert status == 0, told


def test_secret_that_others_can_read(command, tmp_path):
    """A secret in a file of its own is the operator's to guard, like one in the configuration: a warning."""
    mac = tmp_path / "mac"
    mac.write_text("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U\n")
    acme = {"enabled": True, "directory_url": "https://ca.test/directory", "email": "a@ca.test", "domains": ["a.test"],
            "storage_path": "acme", "eab_kid": "kid", "eab_hmac": {"file": "mac"}}
    udp = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
    (tmp_path / "c.json").write_text(json.dumps(
        {"components": [udp], "security": {"tls": {"server": {"enabled": True, "mode": "acme", "acme": acme}}}}))
    for mode, warned in (0o644, True), (0o666, True), (0o600, False):
        mac.chmod(mode)
        done = command("check", "c.json")
        told = done.stdout + done.stderr
        assert done.returncode == 0 and ("holds a secret and is open to group or others" in told) == warned, told
        assert "c2VjcmV0" not in told


def test_every_secret_that_others_can_read(command, start, tmp_path):
    """Each file once, with its mode and the remedy: by check, by doctor and at start."""
    own = Pki(tmp_path / "own")
    leaf = own.location("a").leaf("localhost", sans=["localhost"])
    files = {"token": tmp_path / "token", "mac": tmp_path / "mac", "admin": leaf.key}
    files["token"].write_text("one-time\n")
    files["mac"].write_text("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U\n")
    acme = {"enabled": True, "directory_url": "https://127.0.0.1:9/directory", "email": "a@ca.test", "domains": ["a.test"],
            "storage_path": "acme", "eab_kid": "kid", "eab_hmac": {"file": str(files["mac"])},
            "challenge_port": unused_port(socket.SOCK_STREAM)}
    step = {"enabled": True, "ca_url": "https://127.0.0.1:9", "token_file": str(files["token"]), "domains": ["a.test"],
            "storage_path": "step"}
    config = {"components": [{"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}},
                             {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}],
              "admin": {"listen": "127.0.0.1:0", "tls": {"cert_file": str(leaf.cert), "key_file": str(leaf.key)}},
              "security": {"tls": {"server": {"enabled": True, "mode": "acme", "acme": acme},
                                   "client": {"mode": "step", "step": step, "ca_files": [own.ca_file]}}}}
    (tmp_path / "c.json").write_text(json.dumps(config))

    def warnings(told):
        return re.findall(r'"?([^"\\ ]*)\\?" holds a secret and is open to group or others \(mode (\d+)\); run chmod 600 (\S+),', told)
    for mode in 0o640, 0o600:
        for file in files.values():
            file.chmod(mode)
        wanted = sorted((str(file), f"{mode:04o}", str(file)) for file in files.values()) if mode == 0o640 else []
        for what in ["check"], ["doctor", "--timeout", "1s"]:
            done = command(*what, "-c", "c.json") if what[0] == "doctor" else command(*what, "c.json")
            assert sorted(warnings(done.stdout + done.stderr)) == wanted, done.stdout + done.stderr
    for file in files.values():
        file.chmod(0o640)
    program = start(config)
    program.wait_for(lambda: len(warnings(program.log())) == 3, what="a line of each")
