# SPDX-License-Identifier: MIT
"""The packages of examples/plugin that have a Makefile alone, built outside the tree against the installed SDK: a source in C++,
a processor in Rust, a provider whose key is in a PKCS#11 token; and all of them in one federation.  mavlink: test_mavlink.py.

Environment: TEST_EVERY_PACKAGE = each package passes its distcheck, not only the first.
"""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import assert_conserved, unused_port, whole_lines
from pki import Key, Pki
from releaselib import releases, unpack
from test_plugins_new import STRICT, installed, rustc
from test_tls_provider import shown

pytestmark = pytest.mark.xdist_group("example_plugins")  # built once

PIN = "no-port-and-no-time"
TYPES = {"file-input": "file_input", "nmea": "nmea", "pkcs11-tls": "pkcs11_tls"}
LANGUAGES = {"nmea": "rust"}
# options of "semstreams plugins check"; Rust's standard library ends the process where memory is short
RULES = {"file-input": ["--option", "path=README.md"], "nmea": ["--except", "allocation-crash"],
         "pkcs11-tls": ["--option", "key=pkcs11:object=key"]}


@pytest.fixture(scope="module")
def make(semstreams, tree, tmp_path_factory):
    """make(name, target...) in a copy of the package, without a warning; what it said."""
    if subprocess.run(["pkg-config", "--exists", "gnutls"]).returncode:
        pytest.skip("pkg-config does not find gnutls")
    folder = tmp_path_factory.mktemp("strangers")

    def run(name, *targets):
        if not (folder / name).exists():
            shutil.copytree(tree / "examples" / "plugin" / name, folder / name)
        # Rust without -O looks for overflows, too
        done = subprocess.run(["make", rustc(LANGUAGES.get(name)), f"CFLAGS={STRICT} -Wshadow", f"CXXFLAGS={STRICT} -Wshadow",
                               "RUSTFLAGS=-g -D warnings", *targets], cwd=folder / name, env=installed(semstreams),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def plugins(make, tmp_path_factory):
    """The folder of all of them."""
    folder = tmp_path_factory.mktemp("plugins")
    folder.chmod(0o755)
    for name, type_ in TYPES.items():
        make(name, "all")
        shutil.copy(make.folder / name / f"{type_}.so", folder)
    return folder


# ---- the packages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_its_own_tests_pass(make, name):
    said = make(name, "check")
    assert len(re.findall(r"^ok \d", said, re.M)) >= 5 and "not ok" not in said, said
    assert "skipped:" not in said, said
    assert name != "nmea" or re.search(r"test result: ok\. [1-9]", said), said


@pytest.mark.parametrize("name", TYPES if "TEST_EVERY_PACKAGE" in os.environ else list(TYPES)[:1])
def test_what_it_packs_is_whole(make, name):
    make(name, "distcheck")


def test_they_are_listed_and_export_one_symbol(plugins, command):
    listed = command("plugins", "list", "--plugins", plugins)
    assert listed.stderr == ""
    for type_ in TYPES.values():
        assert re.search(rf"^{type_} .*{re.escape(str(plugins))}/{type_}\.so", listed.stdout, re.M), listed.stdout
        assert command("plugins", "describe", type_, "--plugins", plugins).returncode == 0
        symbols = subprocess.run(["nm", "-D", "--defined-only", plugins / f"{type_}.so"], check=True, capture_output=True, text=True)
        assert [line.split()[-1] for line in symbols.stdout.splitlines()] == ["semstreams_entry_v1"]


@pytest.mark.parametrize("name", RULES)
def test_it_keeps_to_the_rules(make, name, plugins, command):
    done = command("plugins", "check", plugins / f"{TYPES[name]}.so", *RULES[name], cwd=make.folder / name)
    assert (done.returncode, done.stderr) == (0, "") and "ok, 0 breaches" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", TYPES)
def test_configurations_of_the_page(make, name, plugins, command, tmp_path):
    """Each block of its README is a component, or a section of TLS, that `check` takes."""
    page = (make.folder / name / "README.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", page, re.S)
    assert blocks
    for block in blocks:
        sink = {"id": "out", "type": "websocket_output", "config": {"bind": "127.0.0.1", "port": 0, "path": "/"}}
        source = {"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
        if block.startswith('"security"'):
            config = {"components": [source, sink], **json.loads("{" + block + "}")}
        else:
            component = json.loads(block)
            config = {"components": [component] if component["type"] == "file_input" else [source, component]}
            config["components"].append({**sink, "inputs": [component["id"] + (".json" if name == "nmea" else "")]})
        file = tmp_path / "page.json"
        file.write_text(json.dumps({**config, "plugins": {"paths": [str(plugins)]}}))
        done = command("check", file)
        assert done.returncode == 0, done.stdout + done.stderr


def test_two_sources_cannot_share_a_state(plugins, command, tmp_path):
    sources = [{"id": name, "type": "file_input", "config": {"path": f"{name}.log", "state": "state"}} for name in "ab"]
    out = {"id": "out", "type": "storage", "inputs": ["a", "b"], "config": {"path": "out.jsonl"}}
    (tmp_path / "two.json").write_text(json.dumps({"plugins": {"paths": [str(plugins)]}, "components": [*sources, out]}))
    done = command("check", "two.json")
    assert done.returncode == 78 and "/components/1/config/state" in done.stderr, done.stderr


# ---- keys in a token ---------------------------------------------------------------------------------------


class Token:
    """A token of SoftHSM in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        tokens = folder / "tokens"
        tokens.mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
        self.env = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
        self.module = next(f for f in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
                                       f"/usr/lib/{platform.machine()}-linux-gnu/softhsm/libsofthsm2.so") if os.path.exists(f))
        pin = folder / "pin"
        pin.touch(0o600)
        pin.write_text(f"{PIN}\n")
        self.tool("--init-token", "--free", "--label", "semstreams", "--so-pin", "12345678")

    def tool(self, *args):
        subprocess.run(["softhsm2-util", *args, "--pin", PIN], env={**os.environ, **self.env}, check=True, capture_output=True)

    def take(self, label, key):
        """Move a key from its file into the token."""
        self.tool("--import", str(key.path), "--token", "semstreams", "--label", label, "--id", label.encode().hex())
        key.path.unlink()

    def settings(self, label, cert):
        return {"mode": "pkcs11", "pkcs11": {
            "module": self.module, "key": f"pkcs11:token=semstreams;object={label};type=private",
            "pin_file": str(self.folder / "pin"), "cert_file": str(cert), "interval": "50ms"}}


@pytest.fixture
def token(tmp_path):
    if not shutil.which("softhsm2-util"):
        pytest.skip("softhsm2-util is missing; on Debian: apt-get install softhsm2")
    return Token(tmp_path / "token")


@pytest.fixture
def location(tmp_path):
    return Pki(tmp_path / "pki").location("a")


def identity(location, token, name, *algorithm):
    """(key, certificate) of a leaf whose key is in the token."""
    key = Key(location.pki.folder / f"{name}.key", *algorithm)
    leaf = location.leaf(f"{name}.test", sans=[f"{name}.test", "localhost"], key=key, file=f"{name}-1")
    token.take(name, key)
    return key, leaf


def listener(port, **more):
    return {"components": [{"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}},
                           {"id": "hub", "type": "websocket_output", "config": {"bind": "127.0.0.1", "port": port, "path": "/"}}], **more}


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_many_handshakes_at_once(start, plugins, token, location, tcp_port, curve):
    _, leaf = identity(location, token, "hub", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}")
    program = start(listener(tcp_port, plugins={"paths": [str(plugins)]},
                             security={"tls": {"server": {"enabled": True, **token.settings("hub", leaf.cert)}}}), env=token.env)
    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(lambda _: shown(tcp_port, location.pki), range(16))) == {leaf.der}
    assert program.terminate() == 0
    assert PIN not in program.log()


def test_an_older_plugin_has_no_certificate(start, plugins, token, location, tcp_port, tmp_path):
    """The listener of a release that knows of no such keys: handshakes fail, the log says who and why, nothing else happens."""
    archives = [folder / f"{platform.machine()}.txz" for folder in releases() if folder.name == "0.1.0"]
    if not archives or not archives[0].exists():
        pytest.skip(f"no binaries of 0.1.0 for {platform.machine()}")
    folder = unpack(archives[0], tmp_path / "old") / "plugins"
    old = tmp_path / "listener"
    old.mkdir(mode=0o755)
    shutil.copy(folder / "websocket_output.so", old)
    if "not found" in subprocess.run(["ldd", old / "websocket_output.so"], capture_output=True, text=True).stdout:
        pytest.skip("the plugin of 0.1.0 needs libraries that are not here")
    _, leaf = identity(location, token, "hub")
    program = start(listener(tcp_port, plugins={"paths": [str(old), str(plugins)]},
                             security={"tls": {"server": {"enabled": True, **token.settings("hub", leaf.cert)}}}), env=token.env)
    assert shown(tcp_port, location.pki) is None
    program.wait_log(r"Component has no certificate: the key signs elsewhere, which its plugin cannot use.*\bcomponent=hub\b")
    assert program.terminate() == 0
    assert program.log().count("Component has no certificate") == 1


# ---- the federation ----------------------------------------------------------------------------------------


def sentence(n):
    body = f"GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,{n},M,46.9,M,,"
    checksum = 0
    for byte in body.encode():
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n"


class Federation:
    """An edge that follows a receiver's log, a hub that stores; both keys of the link between them are in tokens."""

    def __init__(self, start, plugins, token, location, folder):
        self.start, self.token, self.location, self.folder = start, token, location, folder
        self.port = unused_port(socket.SOCK_STREAM)
        self.keys, self.certs = {}, {}
        for name in ("edge", "hub"):
            (folder / name).mkdir()
            self.keys[name], leaf = identity(location, token, name)
            self.certs[name] = folder / name / "cert.pem"
            shutil.copy(leaf.cert, self.certs[name])
        self.log = folder / "edge" / "nmea.log"
        self.paths = {"paths": [str(plugins)]}
        self.n = 0

    def start_again(self, name, config):
        """With a log of its own, so that what is looked for there is of this run."""
        (self.folder / name / "log").unlink(missing_ok=True)
        return self.start(config, folder=self.folder / name, env=self.token.env)

    def start_hub(self):
        server = {"enabled": True, **self.token.settings("hub", self.certs["hub"]),
                  "mtls": {"enabled": True, "client_ca_files": [self.location.pki.ca_file], "require_client_cert": True,
                           "allowed_client_cns": ["edge.test"]}}
        self.hub = self.start_again("hub", {
            "plugins": self.paths, "security": {"tls": {"server": server}},
            "components": [
                {"id": "from-edge", "type": "websocket_input", "config": {"bind": "127.0.0.1", "port": self.port, "path": "/gps"}},
                {"id": "out", "type": "storage", "config": {"path": "positions.jsonl"}},
            ]})

    def start_edge(self):
        client = {**self.token.settings("edge", self.certs["edge"]), "ca_files": [self.location.pki.ca_file]}
        self.edge = self.start_again("edge", {
            "plugins": self.paths, "security": {"tls": {"client": client}},
            "components": [
                {"id": "log", "type": "file_input",
                 "config": {"path": "nmea.log", "state": "nmea.state", "interval": "20ms", "grace": "100ms"}},
                {"id": "gps", "type": "nmea"},
                {"id": "to-hub", "type": "websocket_output", "inputs": ["gps.json"], "config": {
                    "url": f"wss://localhost:{self.port}/gps", "retry_min": "50ms", "retry_max": "200ms", "spool": {"path": "spool"}}},
                {"id": "refused", "type": "storage", "inputs": ["gps.error"],
                 "config": {"path": "refused.jsonl", "format": "envelope"}},
            ]})

    def write(self, count, end=None):
        """So many sentences, noise and one of another type among them; of the last one perhaps only a part."""
        text = "".join(sentence(self.n + i) + ("$GPGSV,1,1,00*79\r\n" if i % 50 == 0 else "") for i in range(count))
        self.n += count
        with self.log.open("a", newline="") as f:
            f.write(text[:end])
        return text[end:] if end else ""

    def arrived(self):
        return [json.loads(line)["altitude_m"] for line in whole_lines(self.folder / "hub" / "positions.jsonl")]

    def wait_arrived(self, count):
        self.hub.wait_for(lambda: len(self.arrived()) >= count, what=f"{count} positions")

    def kill(self, program):
        program.process.kill()
        program.wait()

    def renew(self, name):
        leaf = self.location.leaf(f"{name}.test", sans=[f"{name}.test", "localhost"], key=self.keys[name], file=f"{name}-2")
        fresh = self.certs[name].with_suffix(".new")
        shutil.copy(leaf.cert, fresh)
        fresh.rename(self.certs[name])


def test_from_the_file_to_the_hub_once_whatever_happens(start, plugins, token, location, tmp_path):
    """Killed at both ends, rotated both ways, with a line cut in two, and certificates swapped meanwhile."""
    f = Federation(start, plugins, token, location, tmp_path)
    rest = f.write(200, end=-20)
    f.start_hub()
    f.start_edge()
    f.wait_arrived(199)
    assert len(f.arrived()) == 199  # the last line is not whole
    with f.log.open("a", newline="") as log:
        log.write(rest + "noise\r\n")

    f.write(2000)
    f.wait_arrived(300)
    f.kill(f.edge)  # with lines on their way
    f.write(100)
    f.log.rename(f.log.with_name("nmea.log.1"))
    f.write(100)
    f.start_edge()
    f.wait_arrived(2400)

    f.write(1000)
    f.wait_arrived(2410)
    f.kill(f.hub)
    f.write(10)
    f.start_hub()
    f.wait_arrived(3410)

    os.truncate(f.log, 0)
    f.write(100)
    f.wait_arrived(3510)

    for name, role, program in (("hub", "server", f.hub), ("edge", "client", f.edge)):
        f.renew(name)
        program.wait_log(rf"Hot-reloaded certificate without downtime role={role} source=pkcs11")
    f.write(10)
    f.wait_arrived(3520)  # by the connection that is open
    f.kill(f.edge)
    f.start_edge()  # shakes hands with both new certificates
    f.write(10)
    f.wait_arrived(3530)

    f.edge.wait_for(lambda: whole_lines(f.folder / "edge" / "refused.jsonl"), what="the refused line")
    for program in (f.edge, f.hub):
        assert_conserved(program.metrics())
        assert program.terminate() == 0
    assert f.arrived() == list(range(f.n))
    (letter,) = [json.loads(line) for line in whole_lines(f.folder / "edge" / "refused.jsonl")]
    assert letter["attributes"]["error"] == "malformed" and letter["attributes"]["component"] == "gps"
