# SPDX-License-Identifier: MIT
"""The federation of the guide: three locations, a CA at each, one root; what its procedures promise."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
from acmelib import Caddy, StepCa, cas, hosts, pki, servers, stored, until, verified  # noqa: F401
from conftest import PATIENCE, TREE
from federation import (ROLES, ROOT, STORES, Federation, Traffic, Visitors, example, guide, reading,
                        with_provisioner)
from pki import Pki

SUCCESS, FAILURE = "semstreams_acme_renewal_success_total", "semstreams_acme_renewal_failure_total"


@pytest.fixture
def federation(hosts, cas, semstreams, tmp_path):
    """federation(kind=StepCa, ...) -> Federation with its CAs up."""
    made = []

    def make(kind=StepCa, **options):
        made.append(Federation(hosts, cas, semstreams, tmp_path / "locations", kind, **options))
        return made[-1]

    yield make
    for f in made:
        f.close()


def test_guide_configurations_verbatim(federation):
    """The guide's three files as they stand there: certificates, links, and what the guide's commands show."""
    f = federation()
    for letter in "abc":
        f.start(letter, guide(letter))
    f.wait_certificates()
    f.wait_links()
    for letter in "abc":
        for which in range(len(STORES[letter])):
            certificate = stored(f.store(letter, which))
            assert certificate.cn == f"semstreams-{letter}.local"
            assert certificate.issuer == f"Location {letter.upper()} Intermediate CA"
            assert verified(certificate, f.pki.ca_file, f.folder)[0]
            assert 0 < certificate.end - time.time() <= 86400
    # the guide's commands, at B
    b = f.hosts["b"]
    with f.pair("b") as (crt, key):
        pair = ["--cacert", f"/certs/{ROOT}", "--cert", crt, "--key", key]
        health = b.run("curl", "-sI", *pair, "https://semstreams-a.local:8080/health").stdout
        assert re.match(r"HTTP/1\.1 200\b", health)
        upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
                   "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        assert "101 Switching Protocols" in b.run("curl", "-si", "--max-time", "1", *pair, *upgrade,
                                                  "https://semstreams-a.local:8080/edge-data").stdout
        shown = b.run("openssl", "s_client", "-connect", "semstreams-a.local:8080", "-CAfile", f"/certs/{ROOT}", "-cert", crt,
                      "-key", key, "-showcerts")
        said = shown.stdout + shown.stderr
        assert "Verify return code: 0 (ok)" in said
        assert re.search(r"depth=2 .*CN = SemStreams Federation Root CA", said)
        assert re.search(r"depth=1 .*CN = Location A Intermediate CA", said)
        assert re.search(r"depth=0 CN = semstreams-a\.local", said)
    # nobody without a certificate, nobody who is not on the list: B lets C in only
    assert b.run("curl", "-sI", "--cacert", f"/certs/{ROOT}", "https://semstreams-a.local:8080/health").returncode != 0
    with pytest.raises(OSError):
        f.seen_by("a", "b")
    assert f.programs["b"].metrics().sum("semstreams_mtls_handshake_failures_total", reason="name") == 1


def test_examples_keep_the_guide():
    """The example's files are the guide's with more in them, nothing changed."""

    def within(part, whole):
        if isinstance(part, dict):
            return isinstance(whole, dict) and all(key in whole and within(part[key], whole[key]) for key in part)
        return part == whole

    for letter in "abc":
        ours, theirs = json.loads(example(letter)), json.loads(guide(letter))
        assert ours["security"] == theirs["security"]
        components = {component["id"]: component for component in ours["components"]}
        for component in theirs["components"]:
            assert within(component, components[component["id"]])
        # character for character, too
        security = guide(letter)[guide(letter).index('"security"'):].rstrip().removesuffix("}").rstrip()
        assert security in example(letter)


@pytest.mark.parametrize("kind", [StepCa, Caddy])
def test_example_readings(federation, kind):
    """A reading to A's port is in C's file; a second start goes on where the first was."""
    f = federation(kind)
    for letter in "cba":  # in the wrong order on purpose
        f.start(letter, example(letter))
    f.wait_links()
    with f.hosts["a"].socket(socket.SOCK_DGRAM) as s:
        s.connect((f.hosts["a"].address, 14550))
        for n in range(100):
            s.send(reading(n))
        s.send(b'{"sensor": "temperature", "value": 12.5}')  # not worth sending
        f.wait_readings(100)
        serials = f.serials()
        for letter in "abc":
            assert f.programs[letter].terminate() == 0
            f.start(letter, example(letter))
        f.wait_links()
        for n in range(100, 200):
            s.send(reading(n))
        f.wait_readings(200)
    assert f.serials() == serials


def renewals(f, seconds, wanted, rate):
    """Let short certificates be renewed under traffic until there have been so many; nothing may fail, nothing be lost."""
    connected, refused, count = f.connected(), f.refusals(), lambda: {letter: p.metrics().sum(SUCCESS) for letter, p in f.programs.items()}
    first = count()

    def enough():
        more = {letter: n - first[letter] for letter, n in count().items()}
        return sum(more.values()) >= wanted and more["a"] >= 1 and more["b"] >= 2

    with Traffic(f.hosts["a"], rate) as traffic, Visitors(f, "c", "a") as at_a, Visitors(f, "c", "b") as at_b:
        until(enough, f"{wanted} renewals", seconds)
        until(lambda: len(set(at_a.serials)) > 1 and len(set(at_b.serials)) > 1, "visitors to see new certificates")
    f.wait_readings(traffic.sent, 60)
    assert (at_a.errors, at_b.errors) == ([], [])
    assert sum(p.metrics().sum(FAILURE) for p in f.programs.values()) == 0
    assert f.refusals() == refused and f.connected() == connected
    return traffic.sent, len(at_a.serials) + len(at_b.serials)


def test_short_certificates_under_traffic(federation):
    """Certificates of 20 seconds: renewed in time, links stay, each reading arrives once.

    tests/soak/renewals asks for more of them, and for other lives."""
    wanted, life = int(os.environ.get("RENEWALS", "4")), os.environ.get("CERTIFICATE_LIFE", "20s")
    f = federation(lives={"acme": "24h", "acme-short": life})
    for letter in "abc":
        f.start(letter, with_provisioner(example(letter), "acme-short"))
    f.wait_links()
    sent, visits = renewals(f, 60 + wanted * int(life[:-1]), wanted, 500)
    print(f"{wanted} renewals of certificates of {life}: {sent} readings, {visits} new handshakes")


def test_new_intermediate(federation):
    """The guide's rotation: the CA gets another intermediate, the next certificate chains to it, nothing is configured."""
    f = federation(letters="ab")
    for letter in "ab":
        f.start(letter, guide(letter))
    f.wait_links()
    old = stored(f.store("a")).chain[1]
    intermediate = f.pki.location("a")  # the same name, another key
    ca = f.cas["a"]
    ca.stop()
    ca.configure(intermediate.crt, intermediate.key.path)
    ca.start()
    renew(f, "a")
    new = stored(f.store("a"))
    assert new.chain[1] != old and verified(new, f.pki.ca_file, f.folder)[0]
    f.programs["a"].wait_log("Hot-reloaded certificate")
    until(lambda: f.seen_by("b", "a").serial == new.serial, "the new certificate to be shown")
    # a link that is made anew verifies it
    f.start("b", guide("b"))
    f.wait_links()


def renew(f, letter):
    for role in ROLES[letter]:
        done = f.hosts[letter].run(f.binary, "cert", "renew", "--force", "--role", role, "--config",
                                   f.programs[letter].config_file)
        assert done.returncode == 0, done.stderr


def test_dual_root(federation, hosts, cas, tmp_path):
    """A new root: all trust both, then A's CA changes over, then B's; links come up in every state between."""
    f = federation(letters="ab")
    new_pki = Pki(tmp_path / "new", cn="SemStreams Federation Root CA 2")
    both = (tmp_path / "both.crt")
    both.write_text(open(f.pki.ca_file).read() + open(new_pki.ca_file).read())
    for letter in "ab":
        shutil.copy(both, f.folder / letter / "certs" / ROOT)
        f.start(letter, guide(letter))
    f.wait_links()
    for letter in "ab":
        intermediate = new_pki.location(letter)
        ca = f.cas[letter]
        ca.stop()
        ca.roots = new_pki.root.crt
        ca.configure(intermediate.crt, intermediate.key.path)
        ca.start()
        renew(f, letter)
        assert verified(stored(f.store(letter)), new_pki.ca_file, f.folder)[0]
        for again in "ab":
            f.start(again, guide(again))
        f.wait_links()
    # the old root goes
    for letter in "ab":
        shutil.copy(new_pki.ca_file, f.folder / letter / "certs" / ROOT)
        f.start(letter, guide(letter))
    f.wait_links()


def test_location_without_its_ca(federation):
    """A's CA is gone: A serves what it has, the federation does not notice."""
    f = federation(letters="ab")
    for letter in "ab":
        f.start(letter, guide(letter))
    f.wait_links()
    serial = stored(f.store("a")).serial
    f.cas["a"].stop()
    f.ca_hosts["a"].cut()
    f.start("a", guide("a"))
    f.programs["a"].wait_log("INFO TLS server started with ACME certificate")
    f.wait_links()
    assert f.seen_by("b", "a").serial == serial


def test_forced_by_removing_files(federation):
    """The guide's way to force a renewal: remove the files, restart."""
    f = federation(letters="ab")
    for letter in "ab":
        f.start(letter, guide(letter))
    f.wait_links()
    before = f.serials()
    f.programs["b"].terminate()
    for which in range(2):
        shutil.rmtree(f.store("b", which))
    f.start("b", guide("b"))
    f.wait_certificates()
    f.wait_links()
    after = f.serials()
    assert after["b", 0] != before["b", 0] and after["b", 1] != before["b", 1] and after["a", 0] == before["a", 0]


@pytest.mark.parametrize("ca, network", [("step-ca", "namespaces"), ("caddy", "namespaces"), ("step-ca", "loopback")])
def test_run(hosts, semstreams, tmp_path, ca, network):
    """examples/federation/run, and nothing of it is left afterwards."""
    try:
        servers.step_ca() if ca == "step-ca" else servers.program("caddy", "caddy")
    except servers.Missing as missing:
        pytest.skip(str(missing))
    run = [TREE / "examples/federation/run", "--no-install", "--ca", ca, "--folder", tmp_path / "fed"]
    if network == "loopback":  # whose ports somebody may have here
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        run = ["unshare", *user, "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *run, "--loopback"]
    done = subprocess.run(run, env={**os.environ, "SEMSTREAMS": semstreams}, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"readings: (\d+) sent, \1 in C's file, 0 lost, 0 twice", done.stdout)
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "fed")], stdout=subprocess.PIPE, text=True).stdout
    assert left == ""


def test_run_stays(hosts, semstreams, tmp_path):
    """--stay leaves it up; "run in" looks into it; SIGTERM ends it."""
    try:
        servers.program("caddy", "caddy")
    except servers.Missing as missing:
        pytest.skip(str(missing))
    run, folder = TREE / "examples/federation/run", tmp_path / "fed"
    env = {**os.environ, "SEMSTREAMS": semstreams}
    with open(tmp_path / "out", "wb") as out:
        up = subprocess.Popen([run, "--no-install", "--ca", "caddy", "--stay", "--folder", folder], env=env,
                              stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until(lambda: "It stays up" in (tmp_path / "out").read_text() or up.poll() is not None, "the end of the show", 120)
        inside = lambda *args: subprocess.run([run, "--folder", folder, "in", *args], env=env, check=True, text=True,
                                              stdout=subprocess.PIPE, timeout=PATIENCE).stdout
        assert "semstreams_build_info" in inside("a", "curl", "-s", "localhost:9600/metrics")
        assert inside("step-ca-b", "hostname") == "step-ca-b.local\n"
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0, (tmp_path / "out").read_text()
