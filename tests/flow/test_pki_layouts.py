# SPDX-License-Identifier: MIT
"""Trees of semstreams pki, by layout: what is in them, and that one certificate is replaced without touching the others."""

import json
import re
import shutil
import signal
import socket
import subprocess

import pytest

from conftest import PATIENCE, unused_port
from test_pki import DAY, life, mode, pki, serial, tool  # noqa: F401

SERVICES = ["keycloak", "vaultwarden", "vault", "temporal", "postgres", "grafana", "prometheus", "nats"]
FAST = ["--key-type", "p256"]


def files(folder):
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def serials(folder):
    return {name: serial(folder / name) for name in files(folder) if name.endswith((".crt", "-cert.pem"))}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def path_length(pki, crt):  # noqa: F811
    return int(re.search(r"CA:TRUE, pathlen:(\d)", pki.text(crt))[1])


def opens(key, password):
    return subprocess.run(["openssl", "pkey", "-in", key, "-passin", f"pass:{password}", "-noout"], check=False,
                          stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


# ---- a federation

def test_federation(pki):  # noqa: F811
    pki("init", "--layout", "federation", *FAST)
    folder = pki.path("pki")
    names = ["federation-root-ca", *(f"location-{letter}-intermediate-ca" for letter in "abc")]
    assert files(folder) == {"metadata.json", "federation-root-ca.index"} | {name + end for name in names for end in (".crt", "-key.pem")}
    for name, days, length in zip(names, (1825, 365, 365, 365), (2, 0, 0, 0)):
        text = pki.text(f"pki/{name}.crt")
        assert abs(life(text) - days * DAY) < DAY and path_length(pki, f"pki/{name}.crt") == length
        assert (folder / f"{name}.crt").read_text().count("BEGIN") == 1
        assert mode(folder / f"{name}-key.pem") == 0o600 and mode(folder / f"{name}.crt") == 0o644
        tool("openssl", "verify", "-CAfile", folder / f"{names[0]}.crt", folder / f"{name}.crt")
    assert "CN = Location B Intermediate CA" in pki.text("pki/location-b-intermediate-ca.crt")
    known = json.loads((folder / "metadata.json").read_text())
    assert known["layout"] == "federation" and [c["file"] for c in known["certificates"]] == [f"{n}.crt" for n in names]
    assert pki("verify").stdout.splitlines()[-1] == "All checks passed!"
    before = {f: (folder / f).read_bytes() for f in files(folder)}
    assert "is there already" in pki("init", "--layout", "federation", status=1).stderr
    assert "is there already" in pki("init", "--layout", "federation", "--location", "b", status=1).stderr
    for wrong in ("../x", "A", "", "-a"):
        pki("init", "--layout", "federation", f"--location={wrong}", status=2)
    assert before == {f: (folder / f).read_bytes() for f in files(folder)}


def test_another_location(pki):  # noqa: F811
    pki("init", "fed", "--layout", "federation", "--location", "factory-a", *FAST)
    folder = pki.path("fed")
    before = serials(folder)
    assert len(before) == 2
    pki("init", "fed", "--layout", "federation", "--location", "d", *FAST)
    after = serials(folder)
    assert not changed(before, after) and set(after) - set(before) == {"location-d-intermediate-ca.crt"}
    assert len(pki("verify", "fed").stdout.splitlines()) == 4


def test_federation_rotation(pki):  # noqa: F811
    """The next intermediate of one location stands beside the present one, until that is taken away."""
    pki("init", "--layout", "federation", *FAST)
    folder = pki.path("pki")
    before = serials(folder)
    pki("rotate", "a")
    after = serials(folder)
    new = "location-a-intermediate-ca-new"
    assert not changed(before, after) and set(after) - set(before) == {f"{new}.crt"}
    assert path_length(pki, f"pki/{new}.crt") == 0 and mode(folder / f"{new}-key.pem") == 0o600
    tool("openssl", "verify", "-CAfile", folder / "federation-root-ca.crt", folder / f"{new}.crt")
    keys = [tool("openssl", "pkey", "-pubout", "-in", folder / f"location-a-intermediate-ca{part}-key.pem") for part in ("", "-new")]
    assert keys[0] != keys[1]
    assert "is there already" in pki("rotate", "a", status=1).stderr
    assert 'no "x"' in pki("rotate", "x", status=1).stderr
    pki("verify")
    for end in (".crt", "-key.pem"):
        (folder / (new + end)).rename(folder / ("location-a-intermediate-ca" + end))
    assert pki("verify").stdout.endswith("All checks passed!\n")
    assert changed(before, serials(folder)) == {"location-a-intermediate-ca.crt"}


def test_federation_with_a_passphrase(pki):  # noqa: F811
    """The root's key is encrypted; those of the locations are for other machines, and are not."""
    for name, text in (("pass", "correct horse"), ("wrong", "battery")):
        pki.path(name).write_text(text)
        pki.path(name).chmod(0o600)
    pki("init", "--layout", "federation", "--location", "a", "--passphrase-file", "pass", *FAST)
    folder = pki.path("pki")
    assert opens(folder / "federation-root-ca-key.pem", "correct horse")
    assert "BEGIN PRIVATE KEY" in (folder / "location-a-intermediate-ca-key.pem").read_text()
    wrong = pki("init", "--layout", "federation", "--location", "b", "--passphrase-file", "wrong", *FAST, status=1)
    assert "the passphrase (wrong) is wrong" in wrong.stderr and len(serials(folder)) == 2
    pki("init", "--layout", "federation", "--location", "b", "--passphrase-file", "pass", *FAST)
    pki("rotate", "b", "--ca-passphrase-file", "pass")
    (folder / "federation-root-ca-key.pem").rename(pki.path("usb.pem"))
    assert "All checks passed!" in pki("verify").stdout
    assert "--ca-key" in pki("rotate", "a", status=1).stderr
    pki("rotate", "a", "--ca-key", "usb.pem", "--ca-passphrase-file", "pass")


# ---- a provider

def test_provider(pki):  # noqa: F811
    """Root, intermediate and tenants; once the root's key is away the CA still signs, and its tenants no further CAs."""
    told = pki("init", "--layout", "provider", env={"STEP_CA_PASSWORD": "sesame"}).stdout
    folder = pki.path("pki")
    assert {"certs/root_ca.crt", "certs/intermediate_ca.crt", "secrets/root_ca_key", "secrets/intermediate_ca_key",
            "secrets/password", "config/ca.json", "config/defaults.json", "templates/device-leaf.tpl",
            "templates/service-leaf.tpl", "metadata.json"} <= files(folder)
    assert "sesame" not in told and f"STEP_CA_FINGERPRINT={pki('fingerprint', 'pki/certs/root_ca.crt').stdout}" in told
    for name, days, length in (("root", 3650, 2), ("intermediate", 1825, 1)):
        assert abs(life(pki.text(f"pki/certs/{name}_ca.crt")) - days * DAY) < DAY
        assert path_length(pki, f"pki/certs/{name}_ca.crt") == length
        assert opens(folder / f"secrets/{name}_ca_key", "sesame") and not opens(folder / f"secrets/{name}_ca_key", "open")
    assert mode(folder / "secrets") == 0o700 and mode(folder / "secrets/password") == 0o600
    assert "take it offline" in pki("verify").stdout
    (folder / "secrets/root_ca_key").rename(pki.path("usb_key"))
    said = pki("verify").stdout
    assert "take it offline" not in said and said.endswith("All checks passed!\n")
    pki("csr", "Tenant A", "a.csr", "a.key")
    ca = ["--ca", folder / "certs/intermediate_ca.crt", "--ca-key", folder / "secrets/intermediate_ca_key",
          "--ca-passphrase-file", folder / "secrets/password"]
    pki("sign", "a.csr", "a.crt", "--profile", "sub-ca", *ca)
    assert path_length(pki, "a.crt") == 0 and abs(life(pki.text("a.crt")) - 730 * DAY) < DAY
    pki("leaf", "device-1", "d.crt", "d.key", "--profile", "device-leaf", "--ca", "a.crt", "--ca-key", "a.key")
    pki("bundle", "chain.pem", "d.crt", "a.crt", "pki/certs/intermediate_ca.crt")
    tool("openssl", "verify", "-CAfile", "pki/certs/root_ca.crt", "-untrusted", "chain.pem", "d.crt", cwd=pki.folder)
    below = pki("intermediate", "Below", "x.crt", "x.key", "--ca", "a.crt", "--ca-key", "a.key", status=1)
    assert "path length is 0" in below.stderr


def test_provider_rotation(pki):  # noqa: F811
    """The intermediate is replaced with the root's key, wherever it is; what the old one signed stays good with its chain."""
    pki("init", "--layout", "provider", "--key-type", "p384")
    folder = pki.path("pki")
    (folder / "secrets/root_ca_key").rename(pki.path("usb_key"))
    before = serials(folder)
    assert "--ca-key" in pki("rotate", "intermediate", status=1).stderr
    pki("rotate", "intermediate", "--ca-key", "usb_key")
    assert changed(before, serials(folder)) == {"certs/intermediate_ca.crt"}
    text = pki.text("pki/certs/intermediate_ca.crt")
    assert "pathlen:1" in text and "P-384" in text and abs(life(text) - 1825 * DAY) < DAY
    assert opens(folder / "secrets/intermediate_ca_key", (folder / "secrets/password").read_text().strip())
    assert pki("verify").stdout.endswith("All checks passed!\n")
    assert 'no "root"' in pki("rotate", "root", status=1).stderr
    assert "makes a new key" in pki("rotate", "intermediate", "--reuse-key", status=1).stderr


def test_fingerprint_that_was_told(pki):  # noqa: F811
    pki("init", "--layout", "provider")
    told = tool("openssl", "x509", "-in", "pki/certs/root_ca.crt", "-noout", "-fingerprint", "-sha256", cwd=pki.folder)
    told = told.strip().split("=")[1]
    pki("verify", env={"STEP_CA_FINGERPRINT": told})
    pki("verify", env={"STEP_CA_FINGERPRINT": told.replace(":", "").lower()})
    for wrong in (told[:-1] + ("0" if told[-1] != "0" else "1"), told[:-3], told + ":00"):
        said = pki("verify", env={"STEP_CA_FINGERPRINT": wrong}, status=1).stdout
        assert "certs/root_ca.crt: WRONG: its fingerprint is" in said and "All checks" not in said


# ---- a step-ca for services

@pytest.fixture
def place(pki):  # noqa: F811
    """A folder under git with a tree of layout step-ca."""
    tool("git", "init", "-q", pki.folder)
    pki.told = pki("init", "--layout", "step-ca").stdout
    return pki


def test_step_ca_tree(place):
    home = place.path("config/step-ca")
    assert "Step-CA initialization complete!" in place.told
    assert files(home) == {"ca.json", "defaults.json", ".gitignore", "README.md", "metadata.json", "pki/root_ca.crt", "pki/root_ca.index",
                           "pki/intermediate_ca.crt", "pki/intermediate_ca_key", "secrets/password.txt", "secrets/root_ca_key",
                           "secrets/provisioner.pub.json", "secrets/provisioner.key.json"} and (home / "db").is_dir()
    for name, days in (("root", 3650), ("intermediate", 1825)):
        assert abs(life(place.text(f"config/step-ca/pki/{name}_ca.crt")) - days * DAY) < DAY
    password = (home / "secrets/password.txt").read_text().strip()
    assert len(password) >= 32 and password not in place.told
    for key in ("pki/intermediate_ca_key", "secrets/root_ca_key"):
        assert "ENCRYPTED" in (home / key).read_text() and opens(home / key, password) and mode(home / key) == 0o600
    assert all(mode(home / f"secrets/{name}") == 0o600 for name in ("password.txt", "provisioner.key.json"))
    config = json.loads((home / "ca.json").read_text())
    assert config["authority"]["claims"] == {"minTLSCertDuration": "5m", "defaultTLSCertDuration": "8760h",
                                             "maxTLSCertDuration": "87600h"}
    admin, acme = config["authority"]["provisioners"]
    assert (admin["type"], admin["name"], acme["type"], acme["name"]) == ("JWK", "admin", "ACME", "acme")
    assert admin["key"] == json.loads((home / "secrets/provisioner.pub.json").read_text()) and "d" not in admin["key"]
    assert config["tls"]["minVersion"] == 1.2 and config["tls"]["maxVersion"] == 1.3 and len(config["tls"]["cipherSuites"]) == 2
    defaults = json.loads((home / "defaults.json").read_text())
    assert defaults["fingerprint"] == place("fingerprint", "config/step-ca/pki/root_ca.crt").stdout.strip()
    for name in ("pki", "secrets", "db", "pki/root_ca.crt", "secrets/password.txt"):
        tool("git", "check-ignore", f"config/step-ca/{name}", cwd=place.folder)
    tool("git", "check-ignore", "config/step-ca/ca.json", cwd=place.folder, status=1)
    (home / ".gitignore").write_text("pki\nsecrets\ndb\nours\n")
    assert "is there already" in place("init", "--layout", "step-ca", status=1).stderr
    assert "ours" in (home / ".gitignore").read_text()
    before = password, serials(home)
    place("init", "--layout", "step-ca", "--force")
    after = (home / "secrets/password.txt").read_text().strip(), serials(home)
    assert after[0] != before[0] and changed(before[1], after[1]) == set(before[1])
    assert place("verify").stdout.endswith("All checks passed!\n")


def test_step_ca_settings(pki):  # noqa: F811
    pki("init", "x", "--layout", "step-ca", "--address", "127.0.0.1:9443", "--san", "ca.example", env={"STEP_CA_PASSWORD": "sesame"})
    home = pki.path("x/config/step-ca")
    assert (home / "secrets/password.txt").read_text() == "sesame\n" and opens(home / "pki/intermediate_ca_key", "sesame")
    config = json.loads((home / "ca.json").read_text())
    assert config["address"] == "127.0.0.1:9443" and config["dnsNames"][0] == "ca.example"
    assert json.loads((home / "defaults.json").read_text())["ca-url"] == "https://localhost:9443"
    pki("init", "--layout", "step-ca", env={"PKI_DIR": "y", "STEP_CA_PASSWORD": ""})
    assert len((pki.path("y/config/step-ca/secrets/password.txt")).read_text()) > 32
    pki("verify", env={"PKI_DIR": "y"})


def test_step_ca_services(place):
    assert "All service certificates generated!" in place("services").stdout
    certs = place.path("data/certs")
    assert {f for f in files(certs) if f != ".gitignore"} == {f"{s}/{s}.{end}" for s in SERVICES for end in ("crt", "key")}
    for service in SERVICES:
        crt, key = certs / service / f"{service}.crt", certs / service / f"{service}.key"
        text = place.text(crt)
        assert abs(life(text) - 365 * DAY) < DAY and "TLS Web Server Authentication, TLS Web Client Authentication" in text
        assert f"DNS:{service}, DNS:localhost, IP Address:127.0.0.1" in text and mode(key) == 0o600
        tool("openssl", "verify", "-CAfile", place.path("config/step-ca/pki/root_ca.crt"), "-untrusted", crt, crt)
        tool("git", "check-ignore", key, cwd=place.folder)
    before = serials(certs)
    assert "kept" in place("services").stdout and not changed(before, serials(certs))
    place("rotate", "vault")
    assert changed(before, serials(certs)) == {"vault/vault.crt"}
    assert (certs / "vault/vault.crt").read_text().count("BEGIN CERT") == 2
    place("rotate", "intermediate")
    assert changed(before, serials(certs)) == {"vault/vault.crt"}
    assert place("verify").stdout.endswith("All checks passed!\n")
    place("renew", env={"RENEW_DAYS": "400"})
    assert changed(before, serials(certs)) == set(before)
    place("services", "--force", env={"VALIDITY_DAYS": "90"})
    assert abs(life(place.text(certs / "nats/nats.crt")) - 90 * DAY) < DAY
    shutil.rmtree(certs / "nats")
    assert "data/certs/nats/nats.crt: WRONG: it is missing" in place("verify", status=1).stdout
    place("services")
    place("verify")


def test_verify_before(pki):  # noqa: F811
    said = pki("verify", status=1).stdout
    assert "Root CA not initialized. Run: semstreams pki init --layout" in said and "All checks" not in said
    said = pki("verify", "--layout", "step-ca", status=1).stdout
    assert said.startswith("config/step-ca/pki/root_ca.crt: WRONG: Root CA not initialized. Run: semstreams pki init --layout step-ca")
    for verb in (["services"], ["renew"], ["rotate", "vault"]):
        said = pki(*verb, "--layout", "step-ca", status=1)
        assert "Root CA not initialized" in said.stderr and not said.stdout
    pki("init", "--layout", "internal", *FAST)
    assert 'of layout "internal" has no services' in pki("services", status=1).stderr


@pytest.mark.parametrize("layout, root", [("internal", "pki/ca/ca-cert.pem"), ("federation", "pki/federation-root-ca.crt"),
                                          ("provider", "pki/certs/root_ca.crt"), ("step-ca", "config/step-ca/pki/root_ca.crt")])
def test_unreadable_root(pki, layout, root):  # noqa: F811
    pki("init", "--layout", layout, *FAST)
    assert pki("verify").stdout.endswith("All checks passed!\n")
    whole = pki.path(root).read_text()
    for text in ("", "nothing\n", whole[:200]):
        pki.path(root).write_text(text)
        said = pki("verify", status=1).stdout
        assert root.removeprefix("pki/") in said.splitlines()[0] and "WRONG" in said and "All checks" not in said
    pki.path(root).write_text(whole)
    pki("verify")


def test_step_ca_findings(place):
    home = place.path("config/step-ca")

    def finding(file, change, text):
        before = (home / file).read_bytes(), mode(home / file)
        change(home / file)
        said = place("verify", status=1).stdout
        assert re.search(rf"{file}: WRONG: .*{text}", said), said
        (home / file).write_bytes(before[0])
        (home / file).chmod(before[1])
        place("verify")

    finding("secrets/password.txt", lambda f: f.chmod(0o644), "others may read it")
    finding("secrets/provisioner.key.json", lambda f: f.chmod(0o640), "others may read it")
    finding("pki/intermediate_ca.crt", lambda f: f.write_bytes((home / "pki/root_ca.crt").read_bytes()), "is the key of another")
    finding("ca.json", lambda f: f.write_text("{"), "it cannot be read")
    finding("ca.json", lambda f: f.write_text(f.read_text().replace("pki/intermediate_ca_key", "pki/other")), '"key" names no file')
    finding("defaults.json", lambda f: f.write_text("{}"), "fingerprint")
    finding(".gitignore", lambda f: f.unlink(), "git would keep secrets")
    (home / "secrets/password.txt").write_text("wrong\n")
    assert "is wrong, or the key is damaged" in place("verify", status=1).stdout
    (home / "secrets/password.txt").unlink()
    assert "was not compared" in place("verify").stdout


def test_killed_while_it_is_made(pki, semstreams):
    """Whatever is there then, verify does not take it for a whole tree, and init --force makes one of it."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    kills = 0
    for number in range(1, 60, 4):
        done = subprocess.run(["strace", "-f", "-o", "trace", "-e", "trace=rename,renameat2", "-e",
                               f"inject=rename,renameat2:signal=KILL:when={number}", semstreams, "pki", "init", "x", "--layout",
                               "step-ca"], cwd=pki.folder, check=False, capture_output=True, timeout=PATIENCE)
        if done.returncode == 0:
            break
        kills += 1
        assert "All checks passed!" not in pki("verify", "x", "--layout", "step-ca", status=1).stdout, number
        home = pki.path("x/config/step-ca")
        assert all(mode(f) == 0o600 for f in home.rglob("*key*") if f.is_file() and not f.is_symlink()), number
        if number % 8 == 1:
            pki("init", "x", "--layout", "step-ca", "--force")
            pki("verify", "x")
        shutil.rmtree(pki.path("x"))
    assert kills > 2


# ---- tenants and their links

class Tenant:
    """A CA of its own below the provider's, which signs a device; files in a folder of its own."""

    def __init__(self, pki, letter, ca):  # noqa: F811
        self.pki, self.letter, self.ca = pki, letter, ca
        self.folder = pki.path(f"tenant-{letter}")
        self.folder.mkdir()
        self.make()

    def file(self, name):
        return self.folder / name

    def make(self, *more):
        """Its key is made here; the provider has the request only.  As new: a second CA, a second certificate for the device."""
        f, pki = self.file, self.pki  # noqa: F811
        pki("csr", f"Tenant {self.letter}", f("ca.csr"), f("ca.key"), *more)
        pki("sign", f("ca.csr"), f("ca.crt"), "--profile", "sub-ca", *self.ca, *more)
        pki("leaf", f"device-{self.letter}", f("device.crt"), f("device.key"), "--profile", "device-leaf", "--ca", f("ca.crt"),
            "--ca-key", f("ca.key"), *more)
        pki("bundle", f("chain.pem"), f("device.crt"), f("ca.crt"), self.ca[1], *more)

    def edge(self, port, udp):
        client = {"mode": "manual", "ca_files": [str(self.ca[1].with_name("root_ca.crt"))], "cert_file": str(self.file("chain.pem")),
                  "key_file": str(self.file("device.key"))}
        return {"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
            {"id": "up", "type": "websocket_output", "config": {"url": f"wss://localhost:{port}/data"}}],
            "security": {"tls": {"client": client}}}


def test_a_tenant_is_rotated(pki, start, send, tmp_path):  # noqa: F811
    """A tenant's CA is replaced under way: its device comes back with the new one; the other's link is never broken."""
    pki("init", "--layout", "provider")
    home = pki.path("pki")
    ca = ["--ca", home / "certs/intermediate_ca.crt", "--ca-key", home / "secrets/intermediate_ca_key",
          "--ca-passphrase-file", home / "secrets/password"]
    pki("leaf", "hub.local", "hub.crt", "hub.key", "--san", "localhost", *ca)
    pki("bundle", "hub.pem", "hub.crt", ca[1])
    tenants = {letter: Tenant(pki, letter, ca) for letter in "ab"}
    port, udp = unused_port(), {letter: unused_port(socket.SOCK_DGRAM) for letter in "ab"}
    server = {"enabled": True, "mode": "manual", "cert_file": str(pki.path("hub.pem")), "key_file": str(pki.path("hub.key")),
              "mtls": {"enabled": True, "client_ca_files": [str(home / "certs/root_ca.crt")], "require_client_cert": True,
                       "allowed_client_cns": ["device-a", "device-b"]}}
    hub = start({"components": [
        {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/data", "bind": "127.0.0.1"}},
        {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}], "security": {"tls": {"server": server}}})
    edges = {letter: start(tenants[letter].edge(port, udp[letter]), folder=tenants[letter].folder) for letter in "ab"}
    for edge in edges.values():
        edge.wait_metric("semstreams_link_up", 1)

    def arrives(letter, n):
        send(udp[letter], b'{"from": "%s", "n": %d}' % (letter.encode(), n))
        line = '{"from": "%s", "n": %d}' % (letter, n)
        hub.wait_for(lambda: line in (tmp_path / "out.jsonl").read_text(), what=line)

    def connected(letter):
        return edges[letter].metrics().sum("semstreams_ws_connected_total")

    arrives("a", 1)
    arrives("b", 1)
    before = {letter: (serial(tenants[letter].file("ca.crt")), connected(letter)) for letter in "ab"}
    tenants["a"].make("--force")
    edges["a"].signal(signal.SIGTERM)
    edges["a"].wait()
    edges["a"] = start(tenants["a"].edge(port, udp["a"]), folder=tenants["a"].folder)
    arrives("a", 2)
    arrives("b", 2)
    assert serial(tenants["a"].file("ca.crt")) != before["a"][0]
    assert (serial(tenants["b"].file("ca.crt")), connected("b")) == before["b"]
    assert edges["b"].metrics().sum("semstreams_link_up") == 1
