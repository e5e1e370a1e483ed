# SPDX-License-Identifier: MIT
"""semstreams pki against the programs of others: openssl, certtool, step-ca, SoftHSM, Redis, Python's TLS."""

import datetime
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lab.ports import unused_port
from lab.servers import Missing, StepCa
from conftest import PATIENCE, TREE

DAY = datetime.timedelta(days=1)


def tool(*argv, status=0, **kwargs):
    """Run a program of others; its output."""
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is missing")
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=PATIENCE, check=False, **kwargs)
    assert done.returncode == status, done.stdout
    return done.stdout


class Pki:
    """semstreams pki in a folder; keys of P-256 where a test does not say otherwise, which is fast."""

    def __init__(self, command, folder):
        self.command, self.folder = command, folder

    def __call__(self, *argv, status=0, env=(), **kwargs):
        ours = ("PKI_DIR", "VALIDITY_DAYS", "RENEW_DAYS", "STEP_CA_PASSWORD", "STEP_CA_FINGERPRINT")
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        done = self.command("pki", *argv, env={**clean, **dict(env)}, **kwargs)
        assert done.returncode == status, (argv, done.stdout, done.stderr)
        return done

    def root(self, *more):
        return self("root", "Test Root", "root.crt", "root.key", "--key-type", "p256", *more)

    def intermediate(self, *more):
        return self("intermediate", "Test CA", "ca.crt", "ca.key", "--key-type", "p256", "--ca", "root.crt", "--ca-key",
                    "root.key", *more)

    def leaf(self, name, *more, ca="ca", **kwargs):
        return self("leaf", name, f"{name}.crt", f"{name}.key", "--ca", f"{ca}.crt", "--ca-key", f"{ca}.key", *more, **kwargs)

    def sign(self, csr, *more, ca="ca", **kwargs):
        return self("sign", csr, "out.crt", "--ca", f"{ca}.crt", "--ca-key", f"{ca}.key", *more, **kwargs)

    def text(self, crt):
        return tool("openssl", "x509", "-in", self.folder / crt, "-noout", "-text")

    def path(self, name):
        return self.folder / name


@pytest.fixture
def pki(command, tmp_path):
    return Pki(command, tmp_path)


@pytest.fixture
def cas(pki):
    pki.root()
    pki.intermediate()
    return pki


def life(text):
    """Of a certificate, as openssl prints it."""
    times = [datetime.datetime.strptime(t, "%b %d %H:%M:%S %Y GMT")
             for t in re.findall(r"Not (?:Before|After ?): ?(.*)", text)]
    return times[1] - times[0]


def mode(path):
    return path.stat().st_mode & 0o777


def serial(path):
    return tool("openssl", "x509", "-in", path, "-noout", "-serial")


# ---- roots, CAs, leaves

def test_root_as_documented(pki):
    pki("root", "SemStreams Federation Root CA", "root.crt", "root.key")
    text = pki.text("root.crt")
    assert "Public-Key: (4096 bit)" in text and "CA:TRUE, pathlen:2" in text
    assert re.search(r"Key Usage: critical\s+Certificate Sign, CRL Sign\n", text)
    assert abs(life(text) - 1825 * DAY) < DAY
    shown = pki("inspect", "root.crt").stdout
    assert "CN=SemStreams Federation Root CA" in shown and "certificate sign, crl sign" in shown


def test_chain_and_path_lengths(cas):
    cas.intermediate("--force", "--validity", "1460d")
    cas("intermediate", "Tenant", "sub.crt", "sub.key", "--profile", "sub-ca", "--ca", "ca.crt", "--ca-key", "ca.key")
    text = cas.text("sub.crt")
    assert "CA:TRUE, pathlen:0" in text and abs(life(text) - 730 * DAY) < DAY
    assert cas.text("ca.crt").count("pathlen:1") == 1
    cas.leaf("a.local", ca="sub")
    cas("bundle", "chain.pem", "a.local.crt", "sub.crt", "ca.crt")
    assert "OK" in tool("openssl", "verify", "-CAfile", "root.crt", "-untrusted", "chain.pem", "a.local.crt", cwd=cas.folder)
    below = cas("intermediate", "Too deep", "x.crt", "x.key", "--ca", "sub.crt", "--ca-key", "sub.key", status=1)
    assert "path length is 0" in below.stderr and not cas.path("x.key").exists()
    swapped = cas("bundle", "bad.pem", "sub.crt", "a.local.crt", status=1)
    assert "from the leaf up" in swapped.stderr and not cas.path("bad.pem").exists()
    again = cas("leaf", "b", "b.crt", "b.key", "--ca", "a.local.crt", "--ca-key", "a.local.key", status=1)
    assert "is no CA" in again.stderr
    other = cas("leaf", "b", "b.crt", "b.key", "--ca", "ca.crt", "--ca-key", "root.key", status=1)
    assert "the key is not that of" in other.stderr


def test_nothing_is_overwritten(pki):
    pki.root()
    before = [pki.path(f).read_bytes() for f in ("root.crt", "root.key")]
    said = pki("root", "Other", "root.crt", "root.key", "--key-type", "p256", status=1)
    assert "is there already" in said.stderr and "--force" in said.stderr
    assert before == [pki.path(f).read_bytes() for f in ("root.crt", "root.key")]
    pki.root("--force")
    after = [pki.path(f).read_bytes() for f in ("root.crt", "root.key")]
    assert not set(before) & set(after)
    assert (mode(pki.path("root.key")), mode(pki.path("root.crt"))) == (0o600, 0o644)
    assert sorted(f.name for f in pki.folder.iterdir()) == ["root.crt", "root.key"]


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "ed25519"])
def test_key_types(pki, kind):
    pki("root", "R", "root.crt", "root.key", "--key-type", kind)
    pki.intermediate()
    pki("leaf", "a", "a.crt", "a.key", "--key-type", kind, "--ca", "ca.crt", "--ca-key", "ca.key")
    pki("bundle", "chain.pem", "a.crt", "ca.crt")
    out = tool("certtool", "--verify", "--load-ca-certificate", "root.crt", "--infile", "chain.pem", cwd=pki.folder)
    assert "Chain verification output: Verified" in out, out


def test_passphrase_from_a_file(pki):
    for name, text in (("pass", "correct horse\n"), ("wrong", "battery\n")):
        pki.path(name).write_text(text)
        pki.path(name).chmod(0o600)
    pki.root("--passphrase-file", "pass")
    assert "BEGIN ENCRYPTED PRIVATE KEY" in pki.path("root.key").read_text()
    tool("openssl", "pkey", "-in", "root.key", "-passin", "file:pass", "-noout", cwd=pki.folder)
    wrong = pki("leaf", "a", "a.crt", "a.key", "--ca", "root.crt", "--ca-key", "root.key", "--ca-passphrase-file", "wrong",
                status=1)
    assert "the passphrase (wrong) is wrong" in wrong.stderr and not pki.path("a.crt").exists()
    none = pki("leaf", "a", "a.crt", "a.key", "--ca", "root.crt", "--ca-key", "root.key", status=1)
    assert "--ca-passphrase-file" in none.stderr
    pki("leaf", "a", "a.crt", "a.key", "--ca", "root.crt", "--ca-key", "root.key", "--ca-passphrase-env", "PHRASE",
        env={"PHRASE": "correct horse"})
    tool("openssl", "verify", "-CAfile", "root.crt", "a.crt", cwd=pki.folder)


def test_no_secret_on_the_command_line(pki):
    for verb in ("root", "leaf", "csr", "sign", "renew", "verify", "init"):
        for option in re.findall(r"(--\S*passphrase\S*) ?(\S*)", pki("help", verb).stdout):
            assert option in [(f"--{ca}passphrase-{how}", value) for ca in ("", "ca-")
                              for how, value in (("file", "FILE"), ("env", "NAME"), ("prompt", ""))], option
    said = pki("leaf", "a", "a.crt", "a.key", "--ca", "c", "--ca-key", "pkcs11:token=x;pin-value=1234", status=2)
    assert "does not belong on the command line" in said.stderr and "1234" not in said.stderr


def test_step_ca_starts_with_an_encrypted_key(cas, tmp_path):
    cas.path("pass").write_text("tr0ub4dor\n")
    cas("intermediate", "Step CA", "step.crt", "step.key", "--key-type", "p256", "--path-length", "0", "--ca", "root.crt",
        "--ca-key", "root.key", "--passphrase-file", "pass")

    class Sealed(StepCa):
        def configure(self, crt, key):
            super().configure(crt, key)
            config = self.folder / "ca.json"
            config.write_text(json.dumps({**json.loads(config.read_text()), "password": "tr0ub4dor"}))

    try:
        server = Sealed(tmp_path / "step-ca", None, tmp_path / "root.crt", tmp_path / "step.crt", tmp_path / "step.key")
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        server.start()
        assert '"ok"' in server.get(f"{server.origin}/health")
    finally:
        server.stop()


# ---- requests

def test_request(pki):
    pki("csr", "svc.local", "svc.csr", "svc.key", "--san", "svc.local", "--san", "10.1.100.5", "--san", "DNS:10.1.100.6")
    out = tool("openssl", "req", "-in", "svc.csr", "-verify", "-noout", "-text", cwd=pki.folder)
    assert "verify OK" in out and "DNS:svc.local, IP Address:10.1.100.5, IP Address:10.1.100.6" in out
    assert mode(pki.path("svc.key")) == 0o600


def test_leaf_profiles(cas):
    cas("csr", "device-1", "device.csr", "device.key")
    cas.sign("device.csr", "--profile", "device-leaf")
    text = cas.text("out.crt")
    assert re.search(r"X509v3 Key Usage: critical\s+Digital Signature\n", text)
    assert re.search(r"Extended Key Usage: (critical)?\s+TLS Web Client Authentication\n", text)
    assert re.search(r"Alternative Name: \s+DNS:device-1\n", text) and "CA:TRUE" not in text
    cas.leaf("svc.local", "--san", "10.1.100.5")
    text = cas.text("svc.local.crt")
    assert re.search(r"X509v3 Key Usage: critical\s+Digital Signature, Key Encipherment\n", text)
    assert re.search(r"Extended Key Usage: (critical)?\s+TLS Web Server Authentication, TLS Web Client Authentication\n", text)
    assert "IP Address:10.1.100.5" in text and "DNS:svc.local" in text and "CA:TRUE" not in text
    tool("openssl", "verify", "-purpose", "sslserver", "-CAfile", "root.crt", "-untrusted", "ca.crt", "out.crt", status=2,
         cwd=cas.folder)


def openssl_request(folder, *more, key="rsa:2048"):
    tool("openssl", "req", "-new", "-newkey", key, "-nodes", "-subj", "/CN=svc.local", "-keyout", "r.key", "-out", "r.csr",
         *more, cwd=folder)


@pytest.mark.parametrize("more, key, why", [
    (["-addext", "basicConstraints=critical,CA:TRUE"], "rsa:2048", "asks to be a CA"),
    (["-addext", "keyUsage=keyCertSign"], "rsa:2048", "asks to be a CA"),
    (["-addext", "subjectAltName=DNS:svc.local,DNS:bank.example"], "rsa:2048", 'asks for the name "bank.example"'),
    ([], "rsa:1024", "1024 bits is too short")], ids=["ca", "usage", "san", "rsa1024"])
def test_requests_that_are_refused(cas, more, key, why):
    openssl_request(cas.folder, *more, key=key)
    said = cas.sign("r.csr", "--profile", "service-leaf", status=1)
    assert why in said.stderr and "r.csr" in said.stderr and not cas.path("out.crt").exists()


def test_a_request_with_a_bad_signature_is_refused(cas):
    openssl_request(cas.folder, "-outform", "DER")
    der = bytearray(cas.path("r.csr").read_bytes())
    der[-1] ^= 1
    cas.path("r.csr").write_bytes(der)
    assert "signature is wrong" in cas.sign("r.csr", "--profile", "service-leaf", status=1).stderr
    der[-1] ^= 1
    cas.path("r.csr").write_bytes(der)
    cas.sign("r.csr", "--profile", "service-leaf")
    openssl_request(cas.folder, "-addext", "subjectAltName=DNS:svc.local,DNS:other.local")
    cas.sign("r.csr", "--profile", "service-leaf", "--san", "other.local", "--force")
    assert "DNS:svc.local, DNS:other.local" in cas.text("out.crt")


# ---- looking

def test_inspect_and_fingerprint(cas):
    cas.leaf("a.local")
    shown = json.loads(cas("inspect", "a.local.crt", "--json").stdout)
    end = datetime.datetime.strptime(shown["validity"]["end"], "%Y-%m-%dT%H:%M:%SZ")
    told = tool("openssl", "x509", "-in", "a.local.crt", "-noout", "-enddate", cwd=cas.folder).strip()
    assert end == datetime.datetime.strptime(told, "notAfter=%b %d %H:%M:%S %Y GMT")
    assert shown["subject"]["common_name"] == ["a.local"]
    assert shown["extensions"]["subject_alt_name"]["dns_names"] == ["a.local"]
    told = tool("openssl", "x509", "-in", "a.local.crt", "-noout", "-fingerprint", "-sha256", cwd=cas.folder)
    assert told.strip().split("=")[1].replace(":", "").lower() == cas("fingerprint", "a.local.crt").stdout.strip()


def test_mistakes_are_explained(pki):
    assert 'did you mean "intermediate"' in pki("intermediat", status=2).stderr
    assert 'did you mean "--profile"' in pki("leaf", "--profil", "x", status=2).stderr
    assert 'did you mean "device-leaf"' in pki("leaf", "--profile", "device-leef", status=2).stderr
    assert "needs SUBJECT CRT KEY" in pki("root", "x", "y", status=2).stderr
    assert "does not go with" in pki("root", "--ca-key", "x", status=2).stderr
    assert "none.crt: the certificate cannot be read" in pki("inspect", "none.crt", status=1).stderr
    assert ("root intermediate leaf device csr sign inspect fingerprint bundle verify renew rotate token join-request approve join "
            "join-serve revoke crl init services").split() == \
        re.findall(r"^  semstreams pki ([\w-]+) [^C\n]*[A-Z]", pki("--help").stdout.split("help COMMAND")[0], re.M)


# ---- one of both, whatever kills us

def test_killed_while_writing(pki, semstreams, tmp_path):
    """At every system call that puts a file or a folder in its place: the old pair or the new one."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    pki.root()
    kills = 0
    for call in ("mkdir", "symlink", "linkat", "rename"):
        for number in range(1, 20):
            done = subprocess.run(["strace", "-f", "-o", "trace", "-e", f"trace={call}", "-e",
                                   f"inject={call}:signal=KILL:when={number}", semstreams, "pki", "root", f"{call} {number}",
                                   "root.crt", "root.key", "--key-type", "p256", "--force"], cwd=tmp_path, check=False,
                                  capture_output=True, timeout=PATIENCE)
            public = tool("openssl", "x509", "-in", "root.crt", "-noout", "-pubkey", cwd=tmp_path)
            assert public == tool("openssl", "pkey", "-in", "root.key", "-pubout", cwd=tmp_path), (call, number)
            assert mode(pki.path("root.key")) == 0o600
            if done.returncode == 0:
                break
            kills += done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert kills > 10
    pki.root("--force")
    assert not [f.name for f in tmp_path.iterdir() if f.name.startswith(".")]


# ---- a key that never leaves its token

def test_key_on_a_token(pki, tmp_path):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    module = next(iter(Path("/usr/lib").rglob("libsofthsm2.so")), None)
    if not module:
        pytest.skip("softhsm2 is missing")
    env = {"SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}
    tool("softhsm2-util", "--init-token", "--free", "--label", "HSM", "--so-pin", "12345678", "--pin", "4321",
         env={**os.environ, **env})
    tool("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "k.pem", cwd=tmp_path)
    tool("softhsm2-util", "--import", "k.pem", "--token", "HSM", "--label", "ca-key", "--id", "01", "--pin", "4321",
         cwd=tmp_path, env={**os.environ, **env})
    uri = "pkcs11:token=HSM;object=ca-key;type=private"
    for name, pin in (("pin", "4321"), ("wrong", "1111")):
        pki.path(name).write_text(pin)
        pki.path(name).chmod(0o600)
    token = ["--pkcs11-module", module]
    pki("root", "HSM Root", "root.crt", uri, "--passphrase-file", "pin", *token, env=env)
    pki("leaf", "a", "a.crt", "a.key", "--ca", "root.crt", "--ca-key", uri, "--ca-passphrase-file", "pin", *token, env=env)
    assert "OK" in tool("openssl", "verify", "-CAfile", "root.crt", "a.crt", cwd=tmp_path)
    wrong = pki("leaf", "b", "b.crt", "b.key", "--ca", "root.crt", "--ca-key", uri, "--ca-passphrase-file", "wrong", *token,
                env=env, status=1)
    assert "the PIN is wrong" in wrong.stderr and not pki.path("b.crt").exists()


# ---- the layout "internal"

@pytest.fixture
def tree(pki):
    pki("init", "--layout", "internal", "--key-type", "p256")
    return pki


def test_internal_tree(tree):
    pki = tree.path("pki")
    files = sorted(str(f.relative_to(pki)) for f in pki.rglob("*") if f.is_file())
    assert files == ["api/api-bundle.pem", "api/api-cert.pem", "api/api-key.pem", "api/api.cnf", "api/api.csr",
                     "ca/ca-cert.index", "ca/ca-cert.pem", "ca/ca-cert.srl", "ca/ca-key.pem", "certs/metadata.json",
                     "redis/redis-bundle.pem", "redis/redis-cert.pem", "redis/redis-key.pem", "redis/redis.cnf",
                     "redis/redis.csr", "workers/worker-bundle.pem", "workers/worker-cert.pem", "workers/worker-key.pem",
                     "workers/worker.csr"]
    for path in pki.rglob("*.pem"):
        assert mode(path) == (0o600 if path.name.endswith("-key.pem") else 0o644), path
    known = json.loads((pki / "certs/metadata.json").read_text())
    assert known["layout"] == "internal" and len(known["certificates"]) == 4
    assert abs(life(tree.text("pki/api/api-cert.pem")) - 3650 * DAY) < DAY
    for name in ("redis/redis", "workers/worker", "api/api"):
        tool("openssl", "verify", "-CAfile", pki / "ca/ca-cert.pem", pki / f"{name}-cert.pem")
        assert (pki / f"{name}-bundle.pem").read_text().count("BEGIN CERT") == 2
    tool("openssl", "req", "-new", "-config", pki / "api/api.cnf", "-key", pki / "api/api-key.pem", "-out", pki / "x.csr")
    assert "is there already" in tree("init", "--layout", "internal", status=1).stderr


@pytest.mark.parametrize("damage, why", [
    (lambda text: text.replace("[", "{", 1), r"metadata\.json:\d+: .* near"),
    (lambda text: "[]", r'metadata\.json:1: it has no list "certificates"'),
    (lambda text: "", r"metadata\.json:\d+: ")])
def test_a_damaged_record_of_a_tree(tree, damage, why):
    """It is not written anew without what it said, and nothing is renewed."""
    file, leaf = tree.path("pki/certs/metadata.json"), tree.path("pki/api/api-cert.pem")
    file.write_text(damage(file.read_text()))
    before = file.read_text(), leaf.read_text()
    assert re.search(why + ".*: mend it, or move it away", tree("renew", "--force", status=1).stderr)
    assert (file.read_text(), leaf.read_text()) == before
    file.unlink()
    tree("renew", "--force")
    assert len(json.loads(file.read_text())["certificates"]) == 3 and leaf.read_text() != before[1]


def test_tree_by_environment(pki):
    env = {"PKI_DIR": str(pki.path("opt")), "VALIDITY_DAYS": "365"}
    pki("init", "--layout", "internal", "--key-type", "p256", env=env)
    assert abs(life(pki.text("opt/ca/ca-cert.pem")) - 365 * DAY) < DAY
    *out, end = pki("verify", env=env).stdout.splitlines()
    assert end == "All checks passed!" and len(out) == 4 and all(re.search(r"ok: 36\d days left", line) for line in out), out
    assert "VALIDITY_DAYS" in pki("verify", env={"VALIDITY_DAYS": "ten"}, status=1).stderr


def test_expiring(pki, semstreams):
    pki("init", "--layout", "internal", "--key-type", "p256", env={"VALIDITY_DAYS": "365"})
    if not shutil.which("faketime"):
        pytest.skip("faketime is missing")
    # the cron line of the document
    later = tool("sh", "-c", 'faketime -f +340d "$0" pki verify | grep "EXPIRING"', semstreams, cwd=pki.folder)
    assert len(later.splitlines()) == 4 and all("EXPIRING: 2" in line for line in later.splitlines()), later
    pki("verify", env={"RENEW_DAYS": "400"}, status=1)


def test_renew(tree):
    files = {name: tree.path(f"pki/{name}-cert.pem") for name in ("ca/ca", "redis/redis", "workers/worker", "api/api")}
    before = {name: serial(path) for name, path in files.items()}
    assert "nothing is due" in tree("renew").stdout
    assert before == {name: serial(path) for name, path in files.items()}
    tree("renew", "--exec", 'echo "$PKI_NAME" >>renewed', env={"RENEW_DAYS": "4000"})
    after = {name: serial(path) for name, path in files.items()}
    assert [name for name in files if before[name] == after[name]] == ["ca/ca"]
    assert len(tree.path("renewed").read_text().splitlines()) == 3
    tree("verify")
    cnf = tree.path("pki/api/api.cnf")
    cnf.write_text(cnf.read_text() + "DNS.3 = 10.1.100.5\nDNS.4 = api.example\n")
    assert "its names are not those" in tree("verify", status=1).stdout
    assert "api.cnf:17: an address is no DNS name" in tree("renew").stderr
    assert "DNS:api.example" in tree.text("pki/api/api-cert.pem")
    assert "IP Address:10.1.100.5" in tree.text("pki/api/api-cert.pem")
    tree("verify")
    assert "its --exec command failed (status 3)" in tree("renew", "--force", "--exec", "exit 3", status=1).stderr


def test_one_that_cannot_be_renewed(tree):
    """The others are; what fails for all of them alike is said once."""
    bad, good = tree.path("pki/api/api-cert.pem"), [tree.path(f"pki/{n}-cert.pem") for n in ("redis/redis", "workers/worker")]
    before = [path.read_text() for path in good]
    bad.write_text("damaged\n")
    done = tree("renew", "--force", status=1)
    assert done.stderr.count("api-cert.pem: there is no certificate in PEM in it") == 1
    assert all(path.read_text() != old for path, old in zip(good, before))
    tree.path("pki/ca/ca-key.pem").unlink()
    assert tree("renew", "--force", status=1).stderr.count("ca-key.pem") == 1


def test_findings(tree):
    tree.path("pki/redis/redis-key.pem").chmod(0o644)
    shutil.copy(tree.path("pki/api/api-key.pem"), tree.path("pki/workers/worker-key.pem"))
    out = tree("verify", status=1).stdout
    assert "redis-cert.pem: WRONG: others may read its key" in out
    assert "worker-cert.pem: WRONG: pki/workers/worker-key.pem is the key of another certificate" in out
    tree("init", "other", "--layout", "internal", "--key-type", "p256")
    for suffix in ("cert", "key"):
        shutil.copy(tree.path(f"other/redis/redis-{suffix}.pem"), tree.path(f"pki/redis/redis-{suffix}.pem"))
        shutil.copy(tree.path(f"pki/redis/redis-{suffix}.pem"), tree.path(f"pki/redis/redis-{suffix}.pem.bak"))
    assert "redis-cert.pem: WRONG: no CA in pki/ca/ca-cert.pem has signed it" in tree("verify", status=1).stdout
    ca = ["--ca", "pki/ca/ca-cert.pem", "--ca-key", "pki/ca/ca-key.pem", "--force"]
    tree("leaf", "stranger", "pki/api/api-cert.pem", "pki/api/api-key.pem", *ca)
    out = tree("verify", status=1).stdout
    assert 'api-cert.pem: WRONG: it is for "stranger", not for "api-server"' in out
    assert "its names are not those that it should have" in out
    tree.path("pki/api/api-cert.pem").unlink()
    assert "api/api-cert.pem: WRONG: it is missing" in tree("verify", status=1).stdout
    tree.path("pki/redis/redis-cert.pem").write_text("nothing\n")
    states = {c["certificate"]: c["state"] for c in json.loads(tree("verify", "--json", status=1).stdout)}
    assert states == {"ca/ca-cert.pem": "ok", "redis/redis-cert.pem": "WRONG", "workers/worker-cert.pem": "WRONG",
                      "api/api-cert.pem": "WRONG"}


class Redis:
    """A server on the document's configuration."""

    def __init__(self, folder, tree, ca=None):
        if not shutil.which("redis-server"):
            pytest.skip("redis-server is missing")
        self.tree, self.port, self.ca = tree, unused_port(), ca or tree / "ca/ca-cert.pem"
        (folder / "redis.conf").write_text(
            f"port 0\ntls-port {self.port}\nbind 127.0.0.1\ntls-cert-file {tree}/redis/redis-cert.pem\n"
            f"tls-key-file {tree}/redis/redis-key.pem\ntls-ca-cert-file {self.ca}\ntls-auth-clients yes\n"
            f"requirepass secret\ndir {folder}\nsave \"\"\n")
        self.process = subprocess.Popen(["redis-server", folder / "redis.conf"], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return
        raise RuntimeError("redis-server does not start")

    def cli(self, *words, pair=None, ca=None):
        certificate = [f"--cert {pair}-cert.pem", f"--key {pair}-key.pem"] if pair else []
        return " ".join([f"redis-cli -h localhost -p {self.port} --tls", *certificate, f"--cacert {ca or self.ca}",
                         "-a secret --no-auth-warning", *words])

    def ask(self, *words, **kwargs):
        return subprocess.run(["sh", "-c", self.cli(*words, **kwargs)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, check=False).stdout.strip()

    def serial(self):
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=done.stdout, capture_output=True, text=True,
                              check=True).stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_redis(tree, tmp_path):
    pki = tmp_path / "pki"
    with Redis(tmp_path, pki) as redis:
        assert redis.ask("ping", pair=pki / "workers/worker") == "PONG"
        assert "PONG" not in redis.ask("ping")
        before = redis.serial()
        command = redis.cli("config set tls-cert-file $PKI_CERT tls-key-file $PKI_KEY", pair=pki / "workers/worker")
        tree("renew", pki, "--force", "--exec", f'case $PKI_NAME in redis/*) {command};; esac')
        assert redis.serial() != before and redis.serial() == serial(pki / "redis/redis-cert.pem")
        assert redis.ask("ping", pair=pki / "workers/worker") == "PONG"
        ca = ["--ca", "pki/ca/ca-cert.pem", "--ca-key", "pki/ca/ca-key.pem", "--profile", "device-leaf", "--validity", "365d"]
        tree("leaf", "worker-2", "pki/workers/worker-2-cert.pem", "pki/workers/worker-2-key.pem", *ca)
        assert redis.ask("ping", pair=pki / "workers/worker-2") == "PONG"
    assert re.search(r"workers/worker-2-cert.pem: ok: 36[45] days left", tree("verify").stdout)
    tree("init", "b", "--layout", "internal", "--key-type", "p256")
    tree("bundle", "both.pem", "pki/ca/ca-cert.pem", "b/ca/ca-cert.pem")
    with Redis(tmp_path, pki, ca=tmp_path / "both.pem") as redis:
        assert redis.ask("ping", pair=tmp_path / "b/workers/worker") == "PONG"
        assert redis.ask("ping", pair=pki / "workers/worker") == "PONG"


def test_https_api(tree, tmp_path):
    pki = tmp_path / "pki"

    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "api/api-cert.pem", pki / "api/api-key.pem")
    context.load_verify_locations(pki / "ca/ca-cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = ssl.create_default_context(cafile=pki / "ca/ca-cert.pem")
    url = f"https://localhost:{server.server_port}/"
    try:
        with pytest.raises((urllib.error.URLError, OSError)):
            urllib.request.urlopen(url, context=client, timeout=PATIENCE).close()
        client.load_cert_chain(pki / "workers/worker-cert.pem", pki / "workers/worker-key.pem")
        with urllib.request.urlopen(url, context=client, timeout=PATIENCE) as answer:
            assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()


def test_documented_commands(semstreams, tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```", (TREE / "docs" / "pki.md").read_text(), re.M | re.S)
    lines = "".join(blocks).splitlines()
    assert len(lines) > 10 and all(line.startswith("semstreams pki ") for line in lines)
    for line in lines:
        done = subprocess.run(["sh", "-ec", line.replace("semstreams ", '"$0" ', 1), semstreams], cwd=tmp_path, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
