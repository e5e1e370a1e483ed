# SPDX-License-Identifier: MIT
"""Certificates by ACME from one CA: what is asked for, what is kept, what is used, and what happens when things fail."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from acmelib import (NAME, Caddy, HostProgram, Shown, StepCa, acme, cas, hosts, hub, line, local, pki,  # noqa: F401
                     served, stored, until, verified)
from ca_proxy import CaProxy, status
from conftest import shared_library
from flowlib import fill, small_disk  # noqa: F401

SUCCESS, FAILURE = "semstreams_acme_renewal_success_total", "semstreams_acme_renewal_failure_total"
EXPIRY = "semstreams_certificate_expiry_timestamp_seconds"
EAB = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


def obtained(program, name=NAME):
    return program.wait_log(line("INFO", "Certificate obtained successfully", rf"domain={re.escape(name)} expiry=\S+Z"))


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "acme-certs"


@pytest.fixture
def proxied(cas):
    """proxied(pebble) -> a CaProxy before it."""
    open_ones = []

    def make(ca):
        proxy = CaProxy(cas.https("localhost"), ca.roots, ("127.0.0.1", ca.port), ca.path)
        proxy.roots = ca.roots
        open_ones.append(proxy)
        return proxy

    yield make
    for proxy in open_ones:
        proxy.close()


def through(proxy, pebble, storage, **more):
    """acme() for a Pebble behind a proxy."""
    return acme(proxy, storage, challenge_port=pebble.http_port, challenge_address="127.0.0.1", **more)


# ---- getting one -------------------------------------------------------------------------------------------


def test_first_certificate(cas, start, command, storage, tcp_port):
    """What the guides promise of the first start: the files, the log's lines, the metrics, the handshake."""
    pebble = cas.pebble()
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    obtained(program)
    for text, fields in (
            ("Initializing ACME client", f"directory={re.escape(pebble.url)}"),
            ("ACME account created", r"email=admin@location-a\.example\.com account_url=https://\S+"),
            ("Starting certificate obtainment", r'domains=\["semstreams-a\.local"\]'),
            ("HTTP-01 challenge server started", f"port={pebble.http_port}"),
            ("Waiting for ACME validation", ""),
            ("Certificate saved to storage", f"path={re.escape(str(storage))}/certificate\\.pem"),
            ("TLS server started with ACME certificate", f"port={tcp_port}"),
            ("Background renewal loop started", "check_interval=1h")):
        program.wait_log(line("INFO", text, fields))
    certificate = stored(storage)
    assert (certificate.cn, certificate.names) == (NAME, [NAME])
    assert served(local(tcp_port)).serial == certificate.serial
    account = json.loads((storage / "account.json").read_text())
    assert account["email"] == "admin@location-a.example.com"
    assert account["registration"]["uri"].startswith(pebble.origin) and isinstance(account["registration"]["body"], dict)
    assert {"account.json", "account.key", "certificate.pem", "certificate.key"} <= set(os.listdir(storage))
    assert storage.stat().st_mode & 0o077 == 0
    m = program.metrics()
    assert m.sum(EXPIRY, role="server") == certificate.end
    assert program.get("/readyz")[0] == 200

    # the next start finds it
    assert program.terminate() == 0
    pebble.stop()
    program = start(hub(acme(pebble, storage), tcp_port))
    for text, fields in (("ACME account loaded from storage", r"email=admin@location-a\.example\.com"),
                         ("Checking existing certificate", f"domain={re.escape(NAME)}"),
                         ("Certificate valid, no renewal needed", r"expiry=\S+Z remaining=\d+h\S*"),
                         ("TLS server started with ACME certificate", f"port={tcp_port}")):
        program.wait_log(line("INFO", text, fields))
    assert served(local(tcp_port)).serial == certificate.serial


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
@pytest.mark.parametrize("kind", ["step-ca", "caddy", "pebble"])
def test_challenges(cas, hosts, semstreams, storage, tmp_path, kind, challenge):
    """Each CA by each challenge, at its own ports; two names in one certificate, the first its common name."""
    ca_host, names = hosts.add("ca.local"), [NAME, "www.semstreams-a.local"]
    host = hosts.add(*names)
    if kind == "pebble":
        ca = cas.pebble(ca_host, http_port=80, tls_port=443)
    else:
        ca = cas.location(StepCa if kind == "step-ca" else Caddy, ca_host)
    program = HostProgram(host, semstreams, tmp_path, hub(acme(ca, storage, names, challenge_type=challenge), 8080))
    try:
        obtained(program)
        certificate = stored(storage)
        assert (certificate.cn, sorted(certificate.names)) == (NAME, sorted(names))
        if kind != "pebble":
            assert certificate.issuer == "Location A Intermediate CA"
            assert verified(certificate, cas.pki.ca_file, tmp_path)[0]
        # the port is only open while there is something to answer
        until(lambda: not re.search(r":(80|443)\b", host.run("ss", "-ltnH").stdout), "the challenge's port to be closed")
    finally:
        program.close()


def test_ca_without_its_database(cas, hosts, semstreams, storage, tmp_path):
    """step-ca restored without its database answers "500 not found" for an account that it forgot: the key is registered
    again, and said so."""
    ca, host = cas.step_ca(hosts.add("ca.local")), hosts.add(NAME)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(hub(acme(ca, storage), 8080)))

    def cert(*args):
        done = host.run(semstreams, "cert", *args, "--config", file)
        assert done.returncode == 0, done.stderr
        return done.stderr

    cert("issue")
    before, key = stored(storage), (storage / "account.key").read_text()
    ca.stop()
    (ca.folder / "db").unlink()
    ca.start()
    said = cert("renew", "--force")
    assert re.search(line("WARN", "ACME server no longer knows the account, registering its key again",
                          r"account_url=https://ca.local\S+"), said, re.M)
    assert re.search(line("INFO", "ACME account created", r"email=admin@location-a\.example\.com account_url=\S+"), said, re.M)
    assert stored(storage).serial != before.serial
    assert (storage / "account.key").read_text() == key


def test_address(cas, hosts, semstreams, storage, tmp_path):
    """A certificate for an address (RFC 8738)."""
    ca, host = cas.step_ca(hosts.add("ca.local")), hosts.add(NAME)
    program = HostProgram(host, semstreams, tmp_path, hub(acme(ca, storage, [NAME, host.address]), 8080))
    try:
        obtained(program)
        assert stored(storage).names == [NAME, host.address]
    finally:
        program.close()


@pytest.mark.parametrize("reuse", [0, 50, 100])
def test_nonces_and_old_authorizations(cas, start, command, storage, tcp_port, reuse):
    """A third of the good nonces is refused, some authorizations are there already."""
    pebble = cas.pebble(nonces=33, reuse=reuse, strict=True)
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    obtained(program)
    for _ in range(3):
        before = stored(storage).serial
        done = command("cert", "renew", "--force", "--config", program.config_file)
        assert done.returncode == 0, done.stderr
        assert stored(storage).serial != before
    assert " ERROR " not in program.log()


def test_slow_validation(cas, start, storage, tcp_port):
    pebble = cas.pebble(sleep=3)
    obtained(start(hub(acme(pebble, storage), tcp_port), ready=False))


def test_external_account_binding(cas, start, storage, tcp_port, tmp_path):
    pebble = cas.pebble(eab=EAB)
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    program.wait_log(r"(WARN|ERROR) .*account registration failed")
    program.terminate()
    (tmp_path / "log").unlink()
    secret = tmp_path / "mac"
    secret.write_text(EAB["kid-1"] + "\n")
    bound = acme(pebble, storage, eab_kid="kid-1", eab_hmac={"file": str(secret)})
    obtained(start(hub(bound, tcp_port), ready=False))


def test_preferred_chain(cas, start, storage, tcp_port, tmp_path):
    pebble = cas.pebble(alternates=2, chain=2)
    roots = [pebble.issuer_root(n) for n in range(3)]
    for n in (2, 1):
        (tmp_path / "root.pem").write_text(roots[n])
        cn = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline"], input=roots[n], text=True,
                            check=True, stdout=subprocess.PIPE).stdout.split("= ")[-1].strip()
        folder = tmp_path / f"acme-{n}"
        program = start(hub(acme(pebble, folder, preferred_chain=cn), tcp_port), ready=False)
        obtained(program)
        certificate = stored(folder)
        assert len(certificate.chain) >= 3 and verified(certificate, tmp_path / "root.pem", tmp_path)[0]
        program.terminate()
        (tmp_path / "log").unlink()


# ---- commands ----------------------------------------------------------------------------------------------


def test_commands_beside_a_running_host(cas, start, command, storage, tcp_port):
    """renew, rollover and revoke on the storage of a host that runs; it takes what is new into use."""
    pebble = cas.pebble()
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    obtained(program)
    file = program.config_file

    def run(*args):
        done = command("cert", *args, "--config", file)
        assert done.returncode == 0, done.stderr
        return done.stdout

    one, key = stored(storage), (storage / "certificate.key").read_text()
    assert NAME in run("status")
    run("renew", "--force")
    two = stored(storage)
    assert two.serial != one.serial and (storage / "certificate.key").read_text() != key
    program.wait_log(rf"INFO Hot-reloaded certificate.* path={re.escape(str(storage))}/certificate\.pem")
    until(lambda: served(local(tcp_port)).serial == two.serial, "the new certificate to be shown")

    account, uri = (storage / "account.key").read_text(), json.loads((storage / "account.json").read_text())
    run("rollover")
    assert (storage / "account.key").read_text() != account
    assert json.loads((storage / "account.json").read_text())["registration"]["uri"] == uri["registration"]["uri"]
    run("renew", "--force")
    three = stored(storage)
    assert three.serial != two.serial

    run("revoke", "--reason", "superseded")
    assert pebble.status(three.serial)["Status"] == "Revoked"
    four = stored(storage)
    assert four.serial != three.serial
    until(lambda: served(local(tcp_port)).serial == four.serial, "the one in place of the revoked one to be shown")
    assert program.metrics().sum(FAILURE) == 0


def test_status_without_a_host(cas, command, storage, tmp_path, tcp_port):
    """The command line alone: nothing there, issue, status."""
    pebble = cas.pebble()
    file = tmp_path / "config.json"
    file.write_text(json.dumps(hub(acme(pebble, storage), tcp_port)))
    done = command("cert", "status", "--config", file)
    assert done.returncode == 1 and "nothing has been obtained" in done.stdout
    done = command("cert", "issue", "--config", file)
    assert done.returncode == 0, done.stderr
    certificate = stored(storage)
    done = command("cert", "status", "--config", file)
    assert done.returncode == 0 and time.strftime("%Y-%m-%d", time.gmtime(certificate.end)) in done.stdout


def test_renewal(cas, start, storage, tcp_port):
    """A certificate of half a minute is renewed by itself, with the guide's lines; a connection that is open stays."""
    pebble = cas.pebble(life=24)
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    obtained(program)
    program.wait_log(line("WARN", "renew_before is more than half of the certificate's lifetime, using half of it",
                          r"renew_before=8h lifetime=\d+s used=\d+s"))
    one = stored(storage)
    until(lambda: served(local(tcp_port)).serial == one.serial, "a handshake")
    for text, fields in (("Certificate renewal check starting", ""),
                         ("Certificate eligible for renewal", r"remaining=\d+s renew_before=\S+.*"),
                         ("Starting certificate renewal", f"domain={re.escape(NAME)}"),
                         ("Certificate renewed successfully", rf"domain={re.escape(NAME)} expiry=\S+Z new_expiry=\S+Z"),
                         ("Certificate saved to storage", f"path={re.escape(str(storage))}/certificate\\.pem"),
                         ("Certificate renewal complete", r"next_check=\S+")):
        program.wait_log(line("INFO", text, fields))
    # both wordings of the guides
    program.wait_log(r"INFO Hot-reloaded certificate without downtime( |$)")
    program.wait_log(rf"INFO Hot-reloaded certificate.* path={re.escape(str(storage))}/certificate\.pem")
    until(lambda: served(local(tcp_port)).serial == stored(storage).serial != one.serial, "the new one to be shown")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert [x for x in program.log().splitlines() if "Certificate renewed successfully" in x and today in x]
    m = program.metrics()
    assert m.sum(SUCCESS) >= 2 and m.sum(FAILURE) == 0
    # no loop: not more than one renewal for each eighth of a life
    assert program.log().count("Starting certificate renewal") <= 3


def test_pair_on_a_slow_disk(cas, start, command, storage, tmp_path, tcp_port):
    """Nobody sees half a pair while it is written, who resolves "current" once; links to nothing yet are no half."""
    slow = {**os.environ, "LD_PRELOAD": str(shared_library("slow_fsync", tmp_path)), "SLOW_FSYNC_MS": "150"}
    pebble = cas.pebble()
    program = start(hub(acme(pebble, storage), tcp_port), ready=False, env=slow)
    looks = 0

    def first():
        nonlocal looks
        looks += storage.exists()
        return storage.exists() and stored(storage)

    one = until(first, "a certificate", 120)
    assert looks > 10, "it was not slow"
    with subprocess.Popen([program.process.args[0], "cert", "renew", "--force", "--config", str(program.config_file)],
                          env=slow, stdout=subprocess.DEVNULL) as renewal:
        seen = set()
        while renewal.poll() is None:
            generation = (storage / "current").resolve(strict=True)
            public = subprocess.run(["openssl", "pkey", "-in", generation / "certificate.key", "-pubout"], check=True,
                                    text=True, stdout=subprocess.PIPE).stdout
            certificate = Shown((generation / "certificate.pem").read_text())
            assert certificate.public == public
            seen.add(certificate.serial)
    assert renewal.returncode == 0 and one.serial in seen and stored(storage).serial != one.serial


# ---- the CA is not there -----------------------------------------------------------------------------------


def test_nothing_at_all(cas, start, storage, tcp_port):
    """No CA, nothing stored: says why, is not ready, keeps trying, comes up by itself."""
    pebble = cas.pebble()
    pebble.stop()
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    program.wait_log(r"(WARN|ERROR) .*failed to obtain certificate from ACME server")
    assert re.search(r"failed to connect to ACME server", program.log())
    status, text = until(lambda: (lambda a: a if a[0] == 503 else None)(program.get("/readyz")), "/readyz to be 503")
    assert "failed to connect to ACME server" in text and pebble.url in text
    assert program.get("/livez")[0] == 200
    pebble.start()
    obtained(program)
    until(lambda: program.get("/readyz")[0] == 200, "/readyz to be 200")
    assert served(local(tcp_port)).serial == stored(storage).serial


def test_cause_mended(cas, start, proxied, storage, tcp_port):
    """No certificate for a reason that only people can mend: tried at once after SIGHUP and after a restart."""
    pebble = cas.pebble()
    proxy = proxied(pebble)
    config = hub(through(proxy, pebble, storage), tcp_port)

    def fails():
        proxy.harm("directory", status(404))
        program = start(config, ready=False)
        wait = program.wait_log(line("ERROR", "failed to obtain certificate from ACME server, retry in (\\S+)", "failures=.*"))
        assert re.fullmatch(r"5m|[234]m\d*s?", wait[1]), wait
        proxy.heal()
        return program

    program = fails()
    program.process.send_signal(signal.SIGHUP)
    obtained(program)
    program.terminate()
    for file in storage.iterdir():
        file.unlink() if not file.is_dir() or file.is_symlink() else None
    fails().terminate()
    obtained(start(config, ready=False))


def test_fallback_pair(cas, pki, start, storage, tcp_port):
    """No CA, but files: they are served, with a warning, until the CA is back."""
    leaf = pki.location("a").leaf(NAME)
    pebble = cas.pebble()
    pebble.stop()
    program = start(hub(acme(pebble, storage), tcp_port, **leaf.settings()), ready=False)
    program.wait_log(r"WARN .*fallback")
    until(lambda: program.get("/readyz")[0] in (200, 503), "an answer")
    assert served(local(tcp_port), roots=pki.ca_file).cn == NAME
    pebble.start()
    obtained(program)
    until(lambda: served(local(tcp_port)).serial == stored(storage).serial, "the CA's certificate to be shown")


def test_stored_but_renewal_fails(cas, start, command, storage, tcp_port):
    """What is there is kept when a renewal fails."""
    pebble = cas.pebble(life=30)
    program = start(hub(acme(pebble, storage), tcp_port), ready=False)
    obtained(program)
    serial = stored(storage).serial
    pebble.stop()
    program.wait_metric(FAILURE, 1, timeout=60)
    program.wait_log(r"(WARN|ERROR) .*renewal failed")
    assert stored(storage).serial == serial == served(local(tcp_port)).serial
    pebble.start()  # it knows of no account any more
    until(lambda: stored(storage).serial != serial, "a renewal after all", 60)


def test_unwritable_storage(cas, start, command, tmp_path, tcp_port):
    """Nothing is ordered that could not be kept."""
    pebble = cas.pebble()
    (tmp_path / "file").write_text("")
    program = start(hub(acme(pebble, tmp_path / "file" / "acme"), tcp_port), ready=False)
    program.wait_log(rf"(WARN|ERROR) .*storage_path {re.escape(str(tmp_path))}/file/acme")
    assert "Starting certificate obtainment" not in program.log()


# ---- kill -9 and full disks --------------------------------------------------------------------------------

STEPS = ["directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "finalize", "certificate"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at(cas, proxied, start, storage, tcp_port, tmp_path, step, when):
    """kill -9 at each step, before or after the CA has done it: the next start gets its certificate, at most one order
    and one account more are made."""
    pebble = cas.pebble()
    proxy = proxied(pebble)
    config = hub(through(proxy, pebble, storage), tcp_port)
    program = start(config, ready=False)

    def kill(x):
        if when == "after":
            x.forward()
        program.signal(signal.SIGKILL)
        x.reset()

    proxy.harm(step, kill, times=1)
    program.wait()
    stored(storage) if storage.exists() else None
    (tmp_path / "log").unlink()
    program = start(config, ready=False)
    until(lambda: storage.exists() and stored(storage), "a certificate")
    program.wait_log("TLS server started with ACME certificate")
    assert len(proxy.seen("newOrder")) <= 2 and len(proxy.seen("newAccount")) <= 2
    assert served(local(tcp_port)).serial == stored(storage).serial


@pytest.mark.parametrize("step", STEPS)
def test_disk_full_at(cas, proxied, start, command, small_disk, tcp_port, step):
    """No room from this step on: nothing half is left, and it goes on when there is room again (by itself within a
    minute; here the command does not wait)."""
    pebble = cas.pebble()
    proxy = proxied(pebble)
    storage = small_disk / "acme"
    fillers = []

    def full(x):
        fillers.append(fill(small_disk))
        x.send(x.forward())

    proxy.harm(step, full, times=1)
    program = start(hub(through(proxy, pebble, storage), tcp_port), ready=False)
    program.wait_for(lambda: fillers, what="the disk to be full")
    program.wait_for(lambda: re.search(r"(WARN|ERROR) ", program.log()) or stored(storage), what="a failure, or none")
    if storage.exists():
        stored(storage)
    fillers[0].unlink()
    done = command("cert", "issue", "--config", program.config_file)
    assert done.returncode == 0 and stored(storage), done.stderr
    program.wait_log("TLS server started with ACME certificate")
    assert served(local(tcp_port)).serial == stored(storage).serial
    assert len(proxy.seen("newOrder")) <= 3
