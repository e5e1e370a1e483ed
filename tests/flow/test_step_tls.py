# SPDX-License-Identifier: MIT
"""Certificates of step-ca by one-time tokens: what is asked for, kept and used, and what is said when it cannot be."""

import json
import re
import signal
import socket
import subprocess
import time

import pytest
from acmelib import (NAME, HostProgram, acme, cas, hosts, line, local, pki,  # noqa: F401
                     served, stored, until, verified)
from conftest import assert_conserved
from steplib import Gap, Provisioner, TokenCa
from flowlib import fill, small_disk, udp_port  # noqa: F401
from wslib import PATH, RawPeer

SUCCESS, FAILURE = "semstreams_step_renewal_success_total", "semstreams_step_renewal_failure_total"
REQUESTS = "semstreams_step_requests_total"
EXPIRY = "semstreams_certificate_expiry_timestamp_seconds"
DEVICE = "localhost"


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "identity"


@pytest.fixture
def token_file(tmp_path):
    return tmp_path / "token"


@pytest.fixture
def step_ca(cas, tmp_path):
    """step_ca(life) -> a TokenCa that runs, on this machine or on a host."""
    return lambda host=None, **options: cas.location(TokenCa, host, provisioner=Provisioner(tmp_path / "provisioner"),
                                                     **options)


def step(ca, storage, token_file, names=(DEVICE,), **more):
    return {"ca_url": ca.origin, "ca_bundle": str(ca.roots), "token_file": str(token_file), "domains": list(names),
            "storage_path": str(storage), **more}


def edge(options, port, **server):
    return {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": PATH}}],
        "security": {"tls": {"server": {"enabled": True, "mode": "step", "step": options, **server}}},
        "admin": {"listen": "127.0.0.1:0"}}


def obtained(program, name=DEVICE):
    return program.wait_log(line("INFO", "Certificate obtained successfully", rf"domain={re.escape(name)} expiry=\S+Z"))


def fingerprint(file):
    shown = subprocess.run(["openssl", "x509", "-in", file, "-noout", "-fingerprint", "-sha256"], check=True, text=True,
                           capture_output=True).stdout
    return shown.strip().split("=")[1]


def refused(start, config, words):
    """A host that gets no certificate, and why."""
    program = start(config, ready=False)
    why = program.wait_log(line("ERROR", "failed to obtain certificate from step-ca, retry in (\\S+)", r'failures=\d+ error="(.*)"'))
    assert re.search(words, why[0]), why[0]
    until(lambda: program.get("/readyz")[0] == 503, "/readyz to be 503")
    return program, why


# ---- the first one -----------------------------------------------------------------------------------------


def test_first_certificate(step_ca, start, command, storage, token_file, tcp_port, tmp_path):
    """From the token to the handshake: files, log, metrics, status; the next start needs neither the token nor the CA."""
    ca = step_ca()
    token_file.write_text(ca.token(DEVICE) + "\n")
    config = edge(step(ca, storage, token_file), tcp_port)
    program = start(config, ready=False)
    obtained(program)
    for text, fields in (("Initializing step-ca client", f"url={re.escape(ca.origin)}"),
                         ("Starting certificate obtainment", rf'domains=\["{DEVICE}"\]'),
                         ("One-time token was used and can be removed", f"path={re.escape(str(token_file))}"),
                         ("Certificate saved to storage", f"path={re.escape(str(storage))}/certificate\\.pem")):
        program.wait_log(line("INFO", text, fields))
    certificate = stored(storage)
    assert (certificate.cn, certificate.names, len(certificate.chain)) == (DEVICE, [DEVICE], 2)
    assert verified(certificate, ca.roots, tmp_path)[0]
    assert storage.stat().st_mode & 0o077 == 0
    until(lambda: program.get("/readyz")[0] == 200, "/readyz to be 200")
    assert served(local(tcp_port), DEVICE, ca.roots).serial == certificate.serial
    m = program.metrics()
    assert m.sum(EXPIRY, role="server") == certificate.end
    assert (m.sum(SUCCESS), m.sum(FAILURE)) == (1, 0)
    assert (m.sum(REQUESTS, request="sign"), m.sum(REQUESTS, request="renew")) == (1, 0)
    assert ca.token(DEVICE).split(".")[0] not in program.log()
    status = command("cert", "status", "--config", program.config_file)
    assert status.returncode == 0 and "certificate   good" in status.stdout and ca.origin in status.stdout
    status = json.loads(command("cert", "status", "--json", "--config", program.config_file).stdout)["server"]
    assert status["good"] and status["domains"] == [DEVICE] and status["ca_url"] == ca.origin
    assert int(status["certificate"]["serial"], 16) == int(certificate.serial, 16)

    assert program.terminate() == 0
    program.log_file.unlink()
    token_file.unlink()
    ca.stop()
    program = start(config)
    program.wait_log(line("INFO", "Certificate valid, no renewal needed", r"expiry=\S+Z remaining=\d+h\S*"))
    assert served(local(tcp_port), DEVICE, ca.roots).serial == certificate.serial
    assert program.metrics().sum(FAILURE) == 0


def test_fingerprint(step_ca, pki, start, storage, token_file, tcp_port, tmp_path):
    """Nothing is trusted before, but the fingerprint of the root; with a wrong one no token leaves this machine."""
    ca = step_ca()
    token_file.write_text(ca.token(DEVICE))
    options = step(ca, storage, token_file, fingerprint="00" * 32)
    del options["ca_bundle"]
    program, _ = refused(start, edge(options, tcp_port), "has no root with this fingerprint .HTTP status 404.*nothing was taken over")
    assert ca.answers("/1.0/sign") == 0
    program.terminate()
    program.log_file.unlink()
    options["fingerprint"] = fingerprint(ca.roots)
    program = start(edge(options, tcp_port), ready=False)
    obtained(program)
    assert verified(stored(storage), pki.ca_file, tmp_path)[0]
    assert program.metrics().sum(REQUESTS, request="root") == 1


def test_no_room(step_ca, start, command, token_file, tcp_port, small_disk):
    """The token is not spent on a certificate that cannot be kept."""
    storage, ca = small_disk / "identity", step_ca()
    token_file.write_text(ca.token(DEVICE))
    storage.mkdir(mode=0o700)
    filler = fill(small_disk)
    config = edge(step(ca, storage, token_file), tcp_port)
    program, _ = refused(start, config, "there is no room for a certificate in .*: No space left on device")
    done = command("cert", "issue", "--config", program.config_file)
    assert done.returncode == 1 and "there is no room for a certificate" in done.stderr
    assert ca.answers("/1.0/sign") == 0
    filler.unlink()
    program.signal(signal.SIGHUP)
    obtained(program)
    assert stored(storage).names == [DEVICE]


def test_another_ca(step_ca, pki, start, storage, token_file, tcp_port, tmp_path):
    """Whoever answers with a certificate of another root gets no token."""
    ca, other = step_ca(), type(pki)(tmp_path / "other")
    token_file.write_text(ca.token(DEVICE))
    refused(start, edge(step(ca, storage, token_file, ca_bundle=other.ca_file), tcp_port), "signed by unknown authority: .*ca_bundle")
    assert ca.answers("/1.0/sign") == 0


@pytest.mark.parametrize("what, claims, words", [
    ("expired", {"exp": 120}, r"the token expired \S+Z, and the clock of this machine says \S+Z: get a new one.*HTTP status 401"),
    ("early", {"nbf": -600, "exp": -1200}, r"the token is not valid before \S+Z.*set the clocks right"),
    ("audience", {"aud": "https://elsewhere.example/1.0/sign"}, "the token is for https://elsewhere.example/1.0/sign: set ca_url"),
    ("start", {"iat": 86400}, r"or was made \S+Z before the CA was last started, .*get a new one"),
    ("names", {"sans": ["other.example"]}, "HTTP status 403: .*the token has to be for exactly these names"),
    ("signature", {}, "or by none of its provisioners: get a new one"),
    ("text", None, "not a JSON Web Token"),
    ("nothing", None, "put a new one-time token into .* and send SIGHUP"),
])
def test_token(step_ca, start, storage, token_file, tcp_port, what, claims, words):
    """Each reason why there is no certificate for a token, in words that say what to do.  Times are seconds ago."""
    ca = step_ca()
    claims = {key: int(time.time()) - value if isinstance(value, int) else value for key, value in (claims or {}).items()}
    token = "a token" if what == "text" else ca.token(DEVICE, **claims)
    if what == "signature":
        token = token[:-20] + "A" * 20
    if what != "nothing":
        token_file.write_text(token)
    program, why = refused(start, edge(step(ca, storage, token_file), tcp_port), words)
    assert re.fullmatch(r"5m|[234]m\d*s?", why[1]), why[1]  # somebody has to do something: tried rarely
    assert not storage.exists() or stored(storage) is None
    assert token not in program.log()


def test_token_twice(step_ca, start, command, storage, token_file, tcp_port, tmp_path):
    """A token that somebody else has used is named as used; with a new one SIGHUP gets a certificate at once."""
    ca = step_ca()
    token_file.write_text(ca.token(DEVICE))
    first = tmp_path / "first.json"
    first.write_text(json.dumps(edge(step(ca, tmp_path / "first", token_file), tcp_port)))
    assert command("cert", "issue", "--config", first).returncode == 0
    program, _ = refused(start, edge(step(ca, storage, token_file), tcp_port),
                         "the one-time token was used already, .*get a new one.*HTTP status 401")
    text = program.get("/readyz")[1]
    assert "used already" in text
    status = command("cert", "status", "--config", program.config_file)
    assert status.returncode == 1 and "used already" in status.stdout
    token_file.write_text(ca.token(DEVICE))
    program.signal(signal.SIGHUP)
    obtained(program)
    until(lambda: program.get("/readyz")[0] == 200, "/readyz to be 200")
    assert stored(storage).serial != stored(tmp_path / "first").serial


def test_secret(step_ca, start, storage, token_file, tcp_port):
    """The token as a secret of the configuration, from the environment."""
    ca = step_ca()
    options = step(ca, storage, token_file, token="${env:DEVICE_TOKEN}", lifetime="2h")
    del options["token_file"]
    token = ca.token(DEVICE)
    program = start(edge(options, tcp_port), ready=False, env={"DEVICE_TOKEN": token})
    obtained(program)
    assert 7000 < stored(storage).end - time.time() < 7300
    assert token not in program.log()


def test_wrong_settings(command, storage, token_file, tmp_path, tcp_port):
    """Each with its place and what to write."""
    file = tmp_path / "config.json"

    def said(**more):
        options = {"ca_url": "https://ca.example:9000", "domains": [DEVICE], "storage_path": str(storage), **more}
        file.write_text(json.dumps(edge(options, tcp_port), indent=2))
        done = command("check", file)
        return done.returncode, done.stdout + done.stderr

    assert said()[0] == 0
    for more, words in (({"ca_url": "http://ca.example"}, "ca_url +must be https"),
                        ({"ca_url": "https://ca.example/acme/acme/directory"}, "is an ACME directory.*\"mode\": \"acme\""),
                        ({"ca_url": "https://ca.example:99999"}, "ports are 1 to 65535"),
                        ({"fingerprint": "abc"}, "is not the SHA-256 of a certificate"),
                        ({"fingerprint": "0" * 64, "ca_bundle": "/ca.pem"}, "cannot be used with ca_bundle"),
                        ({"token": "x.y.z", "token_file": "/token"}, "cannot be used with token_file"),
                        ({"renew_after": 40}, "renew_after.*50"),
                        ({"domains": ["*.example"]}, "wildcard"),
                        ({"domain": ["x"]}, "domains")):
        code, text = said(**more)
        assert code == 78 and re.search(words, text), text


# ---- renewal -----------------------------------------------------------------------------------------------


def test_renewal(step_ca, start, send, storage, token_file, tcp_port, conserved):
    """At two thirds of its life, with itself, the token long gone; a peer stays and misses no event."""
    ca = step_ca(life="24s")
    token_file.write_text(ca.token(DEVICE))
    program = start(edge(step(ca, storage, token_file), tcp_port), ready=False)
    obtained(program)
    token_file.unlink()
    one, port = stored(storage), udp_port(program)
    until(lambda: served(local(tcp_port), DEVICE, ca.roots).serial == one.serial, "a handshake")
    with RawPeer(tcp_port, ca.roots).upgrade() as peer:
        sent = 0

        def renewed():
            nonlocal sent
            send(("127.0.0.1", port), b'{"n": %d}' % sent)
            assert json.loads(peer.message()[1])["n"] == sent
            sent += 1
            return served(local(tcp_port), DEVICE, ca.roots).serial != one.serial

        until(renewed, "another certificate", 60)
        assert not renewed() is None and sent > 1
    two = stored(storage)
    assert two.serial != one.serial and two.public == one.public and two.end - one.end > 24 / 2
    program.wait_log(line("INFO", "Certificate renewed successfully", rf"domain={DEVICE} expiry=\S+Z new_expiry=\S+Z"))
    program.wait_log(r"INFO Hot-reloaded certificate without downtime( |$)")
    m = program.metrics()
    assert m.sum(REQUESTS, request="renew") >= 1 and m.sum(REQUESTS, request="sign") == 1 and m.sum(FAILURE) == 0
    assert_conserved(m)


def test_command_beside_a_host(step_ca, start, command, storage, token_file, tcp_port):
    """ "cert renew" renews beside a running host, which takes the new one over within a second or so."""
    ca = step_ca()
    token_file.write_text(ca.token(DEVICE))
    program = start(edge(step(ca, storage, token_file), tcp_port), ready=False)
    obtained(program)
    one, second = stored(storage), int(time.time())
    until(lambda: int(time.time()) > second, "another second, by which renewals are told apart")
    done = command("cert", "renew", "--config", program.config_file)
    assert done.returncode == 0 and "Renewal is due" in done.stdout
    done = command("cert", "renew", "--force", "--config", program.config_file)
    assert done.returncode == 0, done.stderr
    two = stored(storage)
    assert two.serial != one.serial
    until(lambda: served(local(tcp_port), DEVICE, ca.roots).serial == two.serial, "the new one to be shown")
    program.wait_metric(SUCCESS, 2)
    done = command("cert", "rennew", "--config", program.config_file)
    assert done.returncode == 2 and "did you mean 'renew'" in done.stderr


def test_ca_down(step_ca, start, storage, token_file, tcp_port):
    """A CA that is away: the certificate in use stays, the end that comes near is degraded, SIGHUP tries at once; the CA is
    back: renewed without a token."""
    ca = step_ca(life="60s")
    token_file.write_text(ca.token(DEVICE))
    program = start(edge(step(ca, storage, token_file), tcp_port), ready=False)
    obtained(program)
    token_file.unlink()
    one = stored(storage)
    ca.stop()
    program.wait_log(line("ERROR", r"Certificate renewal failed, retry in \S+",
                          r'failures=1 expiry=\S+ remaining=\S+ error=".*connection refused"'), 90)
    assert served(local(tcp_port), DEVICE, ca.roots).serial == one.serial
    ca.start()
    program.signal(signal.SIGHUP)
    program.wait_log(line("INFO", "Certificate renewed successfully", f"domain={DEVICE}"))
    assert stored(storage).serial != one.serial


def test_expired(step_ca, start, storage, token_file, tcp_port):
    """A certificate that has expired is renewed by no step-ca: a new token is asked for, and used at SIGHUP."""
    ca = step_ca(life="30s")
    token_file.write_text(ca.token(DEVICE))
    program = start(edge(step(ca, storage, token_file), tcp_port), ready=False)
    obtained(program)
    token_file.unlink()
    until(lambda: program.get("/readyz")[0] == 200, "/readyz to be 200")
    ca.stop()
    until(lambda: "expires soon" in program.get("/readyz")[1] or program.get("/readyz")[0] == 503, "to be degraded", 120)
    until(lambda: program.get("/readyz")[0] == 503, "/readyz to be 503", 120)
    ca.start()
    program.signal(signal.SIGHUP)
    program.wait_log(r"the certificate expired \S+Z, and step-ca renews none that has: put a new one-time token into \S+/token and send")
    token_file.write_text(ca.token(DEVICE))
    program.signal(signal.SIGHUP)
    until(lambda: program.get("/readyz")[0] == 200, "/readyz to be 200")
    program.wait_metric(SUCCESS, 2)


def test_revoked(step_ca, command, storage, token_file, tmp_path, tcp_port):
    """What the CA has revoked it renews no more, and says so; a new token helps."""
    ca = step_ca()
    token_file.write_text(ca.token(DEVICE))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(edge(step(ca, storage, token_file), tcp_port)))

    def cert(*args):
        return command("cert", *args, "--config", file)

    assert cert("issue").returncode == 0
    one = stored(storage)
    token_file.unlink()
    body = json.dumps({"serial": str(int(one.serial, 16)), "passive": True, "reasonCode": 1, "reason": "lost"})
    subprocess.run(["curl", "-sSf", "--cacert", ca.roots, "--cert", storage / "certificate.pem", "--key",
                    storage / "certificate.key", "-d", body, f"{ca.origin}/1.0/revoke"], check=True, capture_output=True)
    done = cert("renew", "--force")
    assert done.returncode == 1 and re.search("the CA does not renew this certificate .HTTP status 401.*put a new one-time token", done.stderr)
    assert stored(storage).serial == one.serial
    token_file.write_text(ca.token(DEVICE))
    assert cert("renew", "--force").returncode == 0
    assert stored(storage).serial != one.serial


def test_silent_ca(pki, start, storage, token_file, tcp_port):
    """A CA that takes the connection and says nothing holds up neither the start of the rest nor the end."""
    token_file.write_text("a.b.c")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"ca_url": f"https://localhost:{silent.getsockname()[1]}", "ca_bundle": pki.ca_file, "timeout": "10m",
                   "token_file": str(token_file), "domains": [DEVICE], "storage_path": str(storage)}
        program = start(edge(options, tcp_port), ready=False)
        peer = silent.accept()[0]
        program.wait_log("INFO UDP input listening")
        assert program.get("/livez")[0] == 200
        assert program.terminate() == 0
        peer.close()
    assert stored(storage) is None


# ---- kill -9 -----------------------------------------------------------------------------------------------


@pytest.fixture
def gap(step_ca):
    ca = step_ca()
    between = Gap(ca)
    yield ca, between
    between.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("path", ["/1.0/sign", "/1.0/renew"])
def test_killed_at(gap, command, semstreams, storage, token_file, tmp_path, tcp_port, path, when):
    """kill -9 before the CA has done it, or after: never half a pair, and the next attempt knows what to do."""
    ca, between = gap
    token_file.write_text(ca.token(DEVICE))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(edge(step(ca, storage, token_file, ca_url=f"https://localhost:{between.port}"), tcp_port)))
    renews = path.endswith("renew")
    if renews:
        assert command("cert", "issue", "--config", file).returncode == 0
    before = stored(storage) if storage.exists() else None
    args = ["cert", *(["renew", "--force"] if renews else ["issue"]), "--config", str(file)]
    with subprocess.Popen([semstreams, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as one:
        between.kill(when, path, one.kill)
        one.communicate(timeout=60)
    assert one.returncode == -signal.SIGKILL
    now = stored(storage)
    assert (now and now.serial) == (before and before.serial)
    done = command(*args)
    if when == "after" and not renews:  # the CA has spent the token, and the certificate never arrived
        assert done.returncode == 1 and "used already" in done.stderr
        token_file.write_text(ca.token(DEVICE))
        done = command(*args)
    assert done.returncode == 0, done.stderr
    assert stored(storage).serial != (before and before.serial)


# ---- two providers, one root -------------------------------------------------------------------------------


def test_beside_acme(cas, hosts, step_ca, semstreams, send, tmp_path, lines):
    """An edge whose identity is from a token, a hub whose identity is from ACME, of one root: their link is mutual TLS,
    goes on through a renewal of each, and is the same connection."""
    ca = step_ca(hosts.add("ca.local"))
    hub_host, edge_host = hosts.add("hub.local"), hosts.add("edge.local")
    token_file, file = tmp_path / "token", tmp_path / "hub" / "events.jsonl"
    token_file.write_text(ca.token("edge.local"))
    for name in ("hub", "edge"):
        (tmp_path / name).mkdir()
    hub = {"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": 8080, "path": "/edge-data"}},
        {"id": "file", "type": "storage", "inputs": ["in"], "config": {"path": str(file)}}],
        "security": {"tls": {"server": {
            "enabled": True, "mode": "acme", "acme": acme(ca, tmp_path / "hub" / "acme", ["hub.local"]),
            "mtls": {"enabled": True, "client_ca_files": [str(ca.roots)], "allowed_client_cns": ["edge.local"]}}}},
        "admin": {"listen": "127.0.0.1:0"}}
    sender = {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 14550, "bind": "127.0.0.1"}},
        {"id": "out", "type": "websocket_output", "config": {"url": "wss://hub.local:8080/edge-data"}}],
        "security": {"tls": {"client": {"mode": "step", "ca_files": [str(ca.roots)], "mtls": {"enabled": True},
                                        "step": step(ca, tmp_path / "edge" / "step", token_file, ["edge.local"])}}},
        "admin": {"listen": "127.0.0.1:0"}}
    programs = []
    try:
        programs.append(HostProgram(hub_host, semstreams, tmp_path / "hub", hub))
        programs.append(HostProgram(edge_host, semstreams, tmp_path / "edge", sender))
        obtained(programs[0], "hub.local")
        obtained(programs[1], "edge.local")
        token_file.unlink()
        n = 0

        def through():
            nonlocal n
            with edge_host.socket(2) as s:
                s.sendto(b'{"n": %d}' % n, ("127.0.0.1", 14550))
            until(lambda: file.exists() and len(lines(file)) == n + 1, f"event {n}")
            n += 1

        through()
        for host, program, folder in ((edge_host, programs[1], tmp_path / "edge" / "step"),
                                      (hub_host, programs[0], tmp_path / "hub" / "acme")):
            one = stored(folder)
            done = host.run(semstreams, "cert", "renew", "--force", "--config", program.config_file)
            assert done.returncode == 0, done.stderr
            assert stored(folder).serial != one.serial
            program.wait_log(r"INFO Hot-reloaded certificate without downtime")
            through()
        assert [json.loads(x)["n"] for x in lines(file)] == [0, 1, 2]
        # from here on with what was renewed
        programs[1].terminate()
        programs[1].close()
        programs[1] = HostProgram(edge_host, semstreams, tmp_path / "edge", sender)
        programs[1].wait_ready()
        through()
    finally:
        for program in programs:
            program.close()
