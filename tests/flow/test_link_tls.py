# SPDX-License-Identifier: MIT
"""The link with mutual TLS: certificates of three locations under one root, who is let in, and files that change.

The clients are those of others: the openssl program, curl, and Python's ssl.
"""

import os
import re
import socket
import ssl
import subprocess
import threading

import pytest

from conftest import PATIENCE, assert_conserved, unused_port
from pki import CLIENT, CODE_SIGNING, SERVER, Pki
from test_link import Chain, Sender

CNS = {name: f"semstreams-{name}.local" for name in "abc"}
FAILURES = "semstreams_mtls_handshake_failures_total"


class Federation:
    """A root, an intermediate per location, and a leaf of each; what "security.tls" says of each."""

    def __init__(self, folder):
        self.pki = Pki(folder / "pki")
        self.locations = {name: self.pki.location(name) for name in "abc"}
        self.leaves = {name: self.leaf(name, file=f"host-{name}") for name in "abc"}

    def leaf(self, name, **options):
        return self.locations[name].leaf(CNS[name], sans=[CNS[name], "localhost", "127.0.0.1"], **options)

    def server(self, name, allowed="bc", **more):
        return {"enabled": True, "mode": "manual", "min_version": "1.2", **self.leaves[name].settings(),
                "mtls": {"enabled": True, "client_ca_files": [self.pki.ca_file], "require_client_cert": True,
                         "allowed_client_cns": [CNS[other] for other in allowed]}, **more}

    def client(self, name, **more):
        return {"mode": "manual", "ca_files": [self.pki.ca_file], **self.leaves[name].settings(), **more}

    def chain(self):
        """A lets B and C in, B only C; B's client shows its certificate as the seeds' "mtls" has it."""
        pair = self.leaves["b"].settings()
        in_mtls = {"mode": "manual", "ca_files": [self.pki.ca_file], "mtls": {"enabled": True, **pair}}
        return {"a": {"server": self.server("a")}, "b": {"server": self.server("b", "c"), "client": in_mtls},
                "c": {"client": self.client("c")}}


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    return Federation(tmp_path_factory.mktemp("federation"))


@pytest.fixture
def chain(semstreams, tmp_path):
    """The chain over mutual TLS, with certificates that a test may change."""
    c = Chain(semstreams, tmp_path, Federation(tmp_path).chain())
    yield c
    c.close()


# ---- clients of others -------------------------------------------------------------------------------------


def context(federation, issued=None, **attributes):
    c = ssl.create_default_context(cafile=federation.pki.ca_file)
    if issued:
        c.load_cert_chain(issued.cert, issued.key)
    for name, value in attributes.items():
        setattr(c, name, value)
    return c


UPGRADE = (b"GET /data HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def upgrade(port, tls, session=None, keep=None):
    """The status line of the answer to an upgrade; raises if TLS refuses us.  keep gets the open socket."""
    with socket.create_connection(("localhost", port), timeout=PATIENCE) as tcp:
        s = tls.wrap_socket(tcp, server_hostname="localhost", session=session)
        try:
            s.sendall(UPGRADE)
            answer = s.recv(4096)
            if not answer:
                raise ConnectionResetError("closed without an answer")
            if keep:
                keep(s)
            return answer.split(b"\r\n")[0].decode()
        finally:
            s.close()


def refused(port, tls):
    """How TLS refuses us.  Nothing is sent after the handshake: a server that closes over it loses its alert."""
    with socket.create_connection(("localhost", port), timeout=PATIENCE) as tcp:
        with pytest.raises((ssl.SSLError, ConnectionError)) as error:
            with tls.wrap_socket(tcp, server_hostname="localhost") as s:
                s.recv(1)
                pytest.fail("the handshake was a good one")
    return str(error.value)


def s_client(port, *args, data=b""):
    """What openssl s_client prints."""
    return subprocess.run(["openssl", "s_client", "-connect", f"localhost:{port}", "-servername", "localhost",
                           *map(str, args)], input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=PATIENCE).stdout.decode(errors="replace")


def serial(port, pair, ca):
    """Serial number of the certificate that the server shows."""
    shown = s_client(port, "-CAfile", ca, "-cert", pair.cert, "-key", pair.key)
    leaf = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.S)[0]
    text = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=leaf.encode(), check=True,
                          stdout=subprocess.PIPE).stdout
    return text.decode().strip()


# ---- one server, many visitors -----------------------------------------------------------------------------


class Server:
    """A host that listens with mutual TLS, counted against."""

    def __init__(self, program, port):
        self.program, self.port = program, port

    def count(self, reason):
        return self.program.metrics().sum(FAILURES, role="server", reason=reason)

    def total(self):
        return self.program.metrics().sum(FAILURES)

    def assert_refused(self, tls, reason, why):
        """Refused in the handshake, counted once under the reason, with the reason in the log."""
        before, total, log = self.count(reason), self.total(), len(self.program.log())
        told = refused(self.port, tls)
        self.program.wait_for(lambda: self.count(reason) > before, what=f"{reason} counted; client saw {told}")
        self.program.wait_for(lambda: re.search(why, self.program.log()[log:]), what=f"{why!r} in the log")
        assert (self.count(reason), self.total()) == (before + 1, total + 1)
        return told


@pytest.fixture
def serve(start, tmp_path, federation):
    """serve(**of security.tls.server) -> Server: location A, letting B and C in"""

    def run(**more):
        port = unused_port(socket.SOCK_STREAM)
        folder = tmp_path / "a"
        folder.mkdir(exist_ok=True)
        config = {"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
            {"id": "edge", "type": "websocket_output",
             "config": {"port": port, "path": "/data", "spool": {"path": str(folder / "spool")}}}],
            "security": {"tls": {"server": federation.server("a", **more)}}}
        return Server(start(config, folder=folder), port)

    return run


def leaf_of(federation, **options):
    return federation.locations["b"].leaf(CNS["b"], **options)


STRANGERS = {
    "no certificate": (lambda f, d: None, "no_certificate", "peer did not return a certificate"),
    "wrong CA": (lambda f, d: Pki(d / "other").location("b").leaf(CNS["b"]), "unknown_ca",
                 "certificate signed by unknown authority"),
    "self-signed": (lambda f, d: self_signed(d), "unknown_ca", "certificate signed by unknown authority"),
    "expired": (lambda f, d: leaf_of(f, days=(-10, -3)), "expired",
                r"certificate .* expired 20\d\d-.*Z \(3 days ago\)"),
    "not yet valid": (lambda f, d: leaf_of(f, days=(2, 9)), "not_yet_valid", "certificate .* is not yet valid until"),
    "for code signing": (lambda f, d: leaf_of(f, uses=[CODE_SIGNING]), "purpose", "clientAuth|not valid for this purpose"),
    "for servers": (lambda f, d: leaf_of(f, uses=[SERVER]), "purpose", "clientAuth|not valid for this purpose"),
    "CN not listed": (lambda f, d: f.locations["b"].leaf("semstreams-x.local", uses=[CLIENT]), "name",
                      "client certificate CN 'semstreams-x.local' not in allowed list"),
    "the server's own": (lambda f, d: f.leaves["a"], "name", "CN 'semstreams-a.local' not in allowed list"),
    "intermediate left out": (lambda f, d: without_intermediate(leaf_of(f), d), "unknown_ca",
                              "certificate signed by unknown authority"),
}


def self_signed(folder):
    pki = Pki(folder / "self", cn=CNS["b"])
    return type("Pair", (), {"cert": pki.root.crt, "key": pki.root.key.path})


def without_intermediate(issued, folder):
    first, end, _ = issued.cert.read_text().partition("-----END CERTIFICATE-----\n")
    file = folder / "alone.crt"
    file.write_text(first + end)
    return type("Pair", (), {"cert": file, "key": issued.key})


def test_strangers_are_refused_in_the_handshake(serve, federation, tmp_path):
    server = serve()
    for what, (make, reason, why) in STRANGERS.items():
        told = server.assert_refused(context(federation, make(federation, tmp_path)), reason, why)
        print(f"{what}: {told}")
        if reason == "name":
            assert "ALERT_BAD_CERTIFICATE" in told
    assert upgrade(server.port, context(federation, federation.leaves["b"])) == "HTTP/1.1 101 Switching Protocols"
    metrics = server.program.wait_metric("semstreams_ws_connected_total", 1)
    assert metrics.sum("semstreams_ws_connected_total") == 1, "none of them was connected"


def test_names_that_only_look_like_one_that_is_listed(serve, federation):
    server = serve()
    for what, issued in federation.pki.hostile(federation.locations["b"], CNS["b"]).items():
        told = server.assert_refused(context(federation, issued), "name", "not in allowed list|NUL or control byte")
        print(f"{what}: {told}")
        assert "ALERT_BAD_CERTIFICATE" in told
    assert server.program.metrics().sum("semstreams_ws_connected_total") == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("least,most", [("1.2", "TLSv1_1"), ("1.3", "TLSv1_2")])
def test_older_versions_of_tls_are_refused(serve, federation, least, most):
    server = serve(min_version=least)
    old = context(federation, federation.leaves["b"])
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion[most]
    server.assert_refused(old, "version", "TLS version|offers no TLS version")
    assert upgrade(server.port, context(federation, federation.leaves["b"])).startswith("HTTP/1.1 101")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_no_session_is_resumed(serve, federation, tmp_path, version):
    server = serve()
    tls = context(federation, federation.leaves["b"], minimum_version=ssl.TLSVersion[version],
                  maximum_version=ssl.TLSVersion[version])
    seen = []
    upgrade(server.port, tls, keep=lambda s: seen.append((s.session, s.session_reused)))
    upgrade(server.port, tls, session=seen[0][0], keep=lambda s: seen.append((s.session, s.session_reused)))
    assert [reused for _, reused in seen] == [False, False]
    assert not seen[0][0] or not seen[0][0].has_ticket

    flag = "-" + version.lower().replace("v1_", "1_")
    pair = federation.leaves["b"]
    saved = tmp_path / "session"
    shown = s_client(server.port, flag, "-cert", pair.cert, "-key", pair.key, "-sess_out", saved, "-reconnect")
    assert "New, TLSv1" in shown and "Reused" not in shown
    assert not saved.exists(), "nothing to resume is ever handed out"


def test_openssl_is_content_with_the_chain(serve, federation):
    server = serve()
    pair = federation.leaves["b"]
    shown = s_client(server.port, "-CAfile", federation.pki.ca_file, "-cert", pair.cert, "-key", pair.key, "-showcerts",
                     "-verify_hostname", "localhost")
    assert shown.count("-----BEGIN CERTIFICATE-----") == 2, "the leaf and its intermediate"
    assert "Verify return code: 0 (ok)" in shown
    subjects = re.findall(r"^ *\d s:(.*)$", shown, re.M)
    assert CNS["a"] in subjects[0] and "Location A Intermediate CA" in subjects[1]


def test_health_over_mutual_tls(serve, federation):
    server = serve()
    pair = federation.leaves["c"]

    def curl(*args):
        return subprocess.run(["curl", "-sS", "--cacert", federation.pki.ca_file, *map(str, args),
                               f"https://localhost:{server.port}/health"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE)

    mine = ("--cert", pair.cert, "--key", pair.key)
    done = curl("-w", "\n%{http_code}", *mine)
    body, _, status = done.stdout.rpartition("\n")
    assert (done.returncode, status) == (0, "200"), done.stderr
    assert '"status":"ok"' in body
    head = curl("-I", *mine)
    assert head.stdout.startswith("HTTP/1.1 200") and "json" in head.stdout
    assert curl().returncode != 0, "nobody without a certificate"


# ---- dialling ----------------------------------------------------------------------------------------------


@pytest.fixture
def dial(start, tmp_path, federation):
    """dial(port, **of security.tls.client) -> Program: location B, which dials the port"""

    def run(port, host="localhost", **more):
        folder = tmp_path / "b"
        folder.mkdir(exist_ok=True)
        config = {"components": [
            {"id": "from-a", "type": "websocket_input",
             "config": {"url": f"wss://{host}:{port}/data", "retry_min": "50ms", "retry_max": "200ms"}},
            {"id": "file", "type": "storage", "config": {"path": str(folder / "out.jsonl")}}],
            "security": {"tls": {"client": federation.client("b", **more)}}}
        return start(config, folder=folder)

    return run


def test_a_server_with_another_name_is_not_trusted(serve, dial, federation):
    named = federation.locations["a"].leaf(CNS["a"], sans=[CNS["a"]])
    server = serve(**named.settings())
    program = dial(server.port)
    program.wait_log(r"certificate is valid for '?semstreams-a\.local'?, not '?localhost")
    program.wait_metric(FAILURES, 1, role="client", reason="name")
    assert program.metrics().sum("semstreams_ws_connected_total") == 0


def test_a_server_of_an_unknown_authority_is_not_trusted(serve, dial, tmp_path):
    other = Pki(tmp_path / "other")
    server = serve()
    program = dial(server.port, ca_files=[other.ca_file])
    program.wait_log("certificate signed by unknown authority")
    program.wait_metric(FAILURES, 1, role="client", reason="unknown_ca")
    assert program.metrics().sum("semstreams_ws_connected_total") == 0


def test_an_expired_server_is_not_trusted(serve, dial, federation):
    old = federation.leaf("a", days=(-9, -2))
    server = serve(**old.settings())
    program = dial(server.port)
    program.wait_log(r"certificate .* expired 20\d\d-.*Z \(2 days ago\)")
    program.wait_metric(FAILURES, 1, role="client", reason="expired")


def test_without_verification_there_is_a_warning(serve, dial, federation, tmp_path):
    stranger = Pki(tmp_path / "other").location("a").leaf("nobody")
    server = serve(**stranger.settings())
    program = dial(server.port, insecure_skip_verify=True)
    program.wait_metric("semstreams_link_up", 1)
    assert program.metrics().sum("semstreams_tls_insecure_skip_verify") == 1
    assert re.search("servers are not verified", program.log())


def test_who_was_refused_is_let_in_once_it_is_listed(serve, dial, start, federation):
    server = serve(allowed="c")
    program = dial(server.port)
    server.program.wait_log(f"client certificate CN '{CNS['b']}' not in allowed list")
    program.wait_metric("semstreams_ws_failed_total", 1)
    server.program.terminate()
    text = server.program.config_file.read_text().replace(f'"{CNS["c"]}"', f'"{CNS["b"]}", "{CNS["c"]}"')
    server.program.log_file.unlink()
    start(text, folder=server.program.folder)
    program.wait_metric("semstreams_link_up", 1)


# ---- three locations ---------------------------------------------------------------------------------------


def all_there(chain, n):
    chain.programs["c"].wait_for(lambda: len(chain.seqs()) >= n, what="all events in C's file")
    assert chain.seqs() == list(range(n))


def test_each_datagram_arrives_once(chain):
    for name in "abc":
        chain.start(name)
    sender = Sender(chain.udp)
    for _ in range(10):
        sender.send(500)
        chain.programs["a"].wait_metric("semstreams_events_in_total", sender.sent, component="udp")
    all_there(chain, sender.sent)
    assert f"consumer={CNS['b']} stored=0 next=1" in chain.programs["a"].log(), "known by its certificate"
    assert f"consumer={CNS['c']} stored=0 next=1" in chain.programs["b"].log()
    for program in chain.programs.values():
        assert_conserved(program.metrics())
        assert program.metrics().sum(FAILURES) == 0


def test_kills_lose_and_double_nothing(chain):
    for name in "abc":
        chain.start(name)
    sender = Sender(chain.udp)
    for victim in "bcabca":
        kept = chain.programs["a"].metrics().sum("semstreams_events_out_total", component="edge")
        sender.send(200)
        chain.programs["a"].wait_metric("semstreams_events_out_total", kept + 200, component="edge")
        chain.kill(victim)
        chain.start(victim)
    all_there(chain, sender.sent)


class Load:
    """Events from a thread until it is stopped, at most as many ahead of A as its socket holds."""

    def __init__(self, chain):
        self.sender, self._chain, self._stop = Sender(chain.udp), chain, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._stop.wait(0.01):
            self.sender.send(20)

    def __enter__(self):
        self._thread.start()
        return self.sender

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()


def swap(old, new):
    """New files in the place of old ones, as a renewal does it."""
    for name in ("key", "cert"):
        os.replace(getattr(new, name), getattr(old, name))


def test_certificates_change_under_load_and_nothing_drops(semstreams, tmp_path):
    federation = Federation(tmp_path)
    chain = Chain(semstreams, tmp_path, federation.chain())
    ca, leaves = federation.pki.ca_file, federation.leaves
    try:
        for name in "abc":
            chain.start(name)
        a, b, c = (chain.programs[name] for name in "abc")
        for program in (b, c):
            program.wait_metric("semstreams_link_up", 1)
        with Load(chain) as sender:
            for n in (1, 2, 3):
                before = serial(chain.ports["a"], leaves["c"], ca)
                swap(leaves["a"], federation.leaf("a"))
                swap(leaves["b"], federation.leaf("b"))
                a.wait_metric("semstreams_tls_reloads_total", n)
                b.wait_metric("semstreams_tls_reloads_total", 2 * n)  # as server and as client
                assert serial(chain.ports["a"], leaves["c"], ca) != before
            assert "Hot-reloaded certificate without downtime" in a.log()

            good = serial(chain.ports["a"], leaves["c"], ca)
            os.replace(federation.leaf("a").cert, leaves["a"].cert)  # its key is another
            a.wait_metric("semstreams_tls_reload_failures_total", 1)
            a.wait_log("Changed certificate files cannot be used, keeping the old ones")
            assert serial(chain.ports["a"], leaves["c"], ca) == good
            leaves["a"].cert.write_text("-----BEGIN CERTIFICATE-----\nnone\n")
            a.wait_metric("semstreams_tls_reload_failures_total", 2)
            assert serial(chain.ports["a"], leaves["c"], ca) == good

            swap(leaves["a"], federation.leaf("a"))  # and back to what is good
            a.wait_metric("semstreams_tls_reloads_total", 4)
            assert serial(chain.ports["a"], leaves["c"], ca) != good
        all_there(chain, sender.sent)
        for program, component in ((b, "from-a"), (c, "from-b")):
            metrics = program.metrics()
            assert metrics.sum("semstreams_ws_connected_total", component=component) == 1, "the first connection"
            assert metrics.sum("semstreams_link_up", component=component) == 1
        chain.kill("a")  # and B is let in with its new one
        chain.start("a")
        b.wait_metric("semstreams_ws_connected_total", 2, component="from-a")
    finally:
        chain.close()
