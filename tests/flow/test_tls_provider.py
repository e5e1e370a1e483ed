# SPDX-License-Identifier: MIT
"""Certificates from a provider: the plugin toy_tls as "mode": "toy", which does what the tests tell it to."""

import hashlib
import json
import re
import socket
import ssl
from pathlib import Path

import pytest
from conftest import PATIENCE
from pki import Pki
from test_sdk import build

@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """A folder with the provider, as a stranger would build it."""
    folder = tmp_path_factory.mktemp("toy")
    folder.chmod(0o755)
    build(Path(__file__).parent / "plugins" / "toy_tls.c", folder / "toy_tls.so")
    return str(folder)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def location(pki):
    return pki.location("a")


@pytest.fixture
def leaf(location):
    def issue(name, **options):
        return location.leaf(name, sans=["localhost", "127.0.0.1", name], **options)

    return issue


@pytest.fixture
def document(plugins):
    """document(server=..., client=...): a configuration with a listener."""

    def make(port=0, **tls):
        hub = {"id": "hub", "type": "websocket_output", "config": {"bind": "127.0.0.1", "port": port, "path": "/"}}
        udp = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
        return {"components": [udp, hub], "plugins": {"paths": [plugins]}, "security": {"tls": tls},
                "admin": {"listen": "127.0.0.1:0"}}

    return make


def server(**toy):
    return {"enabled": True, "mode": "toy", "toy": {"storage_path": "one", **toy}}


def client(**toy):
    return {"mode": "toy", "toy": {"storage_path": "one", **toy}}


class Toy:
    """What tells the provider what to do; its socket is in the program's folder."""

    def __init__(self, folder, name="control"):
        self.path = str(folder / name)

    def __call__(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(self.path)
            s.send(text.encode())

    def publish(self, leaf):
        self(f"publish {leaf.cert} {leaf.key}")


def shown(port, pki):
    """DER of the certificate that the listener shows to one who checks it; None if the handshake fails."""
    context = ssl.create_default_context(cafile=pki.ca_file)
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as s:
            return s.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionError):
        return None


def ready(program):
    status, text = program.get("/readyz")
    page = json.loads(text)
    assert (status == 200) == (page["status"] == "ready")
    return status, {r["component"]: r["reason"] for r in page["reasons"]}, \
        {r["component"]: r["reason"] for r in page["degraded"]}


# ---- what check says ---------------------------------------------------------------------------------------


def check(command, tmp_path, document):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    return command("check", "config.json")


WRONG = [
    ({"server": {"enabled": True, "mode": "toy", "toy": {"storage_pth": "x"}}},
     r'/security/tls/server/toy  "storage_path" is missing: its identity\n.*'
     r'/security/tls/server/toy/storage_pth  unknown key "storage_pth"; did you mean "storage_path"\?'),
    ({"server": {"enabled": True, "mode": "toy"}},
     r'/security/tls/server  "toy" is missing: the settings of mode "toy"'),
    ({"client": {"mode": "tyo"}},
     r'/security/tls/client/mode  mode "tyo" needs the plugin tyo_tls, which was not found; did you mean "toy"\?'),
    # by the provider itself
    ({"client": client(storage_path="/wrong")}, r"/security/tls/client/toy/storage_path  no place for an identity"),
    ({"server": server(size="2KiB"), "client": client()},
     r'/security/tls/client/toy  the identity "one" is that of /security/tls/server/toy too, so all settings have to be '
     r'the same, but "size" differs'),
    ({"server": server(names=["a", 1]), "client": client(names=["a", 2])},
     r'/security/tls/client/toy/names  the identity "one" is .* but "names" differs'),
    ({"server": {**server(), "cert_file": "nowhere.crt", "key_file": "nowhere.key"}},
     r'/security/tls/server/cert_file  No such file or directory reading certificate file "nowhere.crt"'),
    ({"server": {**server(), "cert_file": "nowhere.crt"}}, r'/security/tls/server  "key_file" is missing'),
    ({"server": server(enabled=False)}, r'/security/tls/server  "cert_file" is missing'),
]


@pytest.mark.parametrize("tls, told", WRONG, ids=range(len(WRONG)))
def test_wrong(command, tmp_path, document, tls, told):
    done = check(command, tmp_path, document(**tls))
    assert done.returncode == 78
    assert re.search(rf"^error config\.json:\d+:\d+ {told}", done.stderr, re.M), done.stderr
    # start says the same
    done = command("run", "-c", "config.json")
    assert done.returncode == 78 and re.search(told, done.stderr), done.stderr


def test_all_at_once(command, tmp_path, document):
    """Errors of the provider stand beside those of others."""
    wrong = document(server={**server(storage_path=5), "min_version": "1.1"})
    wrong["components"][0]["config"]["port"] = -1
    done = check(command, tmp_path, wrong)
    assert "/security/tls/server/toy/storage_path  expected a string, got 5" in done.stderr
    assert "/security/tls/server/min_version  TLS below 1.2" in done.stderr
    assert "/components/0/config/port" in done.stderr
    assert done.stdout.startswith("3 errors")


def test_right(command, tmp_path, document, leaf):
    pair = leaf("spare").settings()
    for tls in (
            {"server": server()}, {"client": client()}, {"server": server(), "client": client()},
            {"server": server(size=1024, names=[{"a": [1, 2]}]), "client": client(names=[{"a": [1,   2]}])},
            {"server": server(), "client": client(storage_path="two", size=5)},
            {"server": {**server(), **pair}}, {"server": {**server(enabled=False), **pair}},
            {"server": {"enabled": True, **pair, "toy": {"whatever": 1}}},
            {"server": {"enabled": False, "mode": "toy"}}):
        done = check(command, tmp_path, document(**tls))
        assert done.returncode == 0, done.stderr
    (tmp_path / "config.json").write_text(json.dumps(document(server={**server(enabled=False), **pair})))
    assert 'mode "toy" is disabled: only cert_file and key_file are used' in command("check", "config.json").stderr


def test_not_a_component(command, tmp_path, document):
    wrong = document(server=server())
    wrong["components"].append({"id": "t", "type": "toy_tls", "config": {"storage_path": "x"}})
    wrong["components"].append({"id": "tls.server", "type": "storage", "inputs": ["udp"], "config": {"path": "x"}})
    done = check(command, tmp_path, wrong)
    assert '/components/2/type  "toy_tls" provides TLS certificates; it is started by "mode": "toy"' in done.stderr
    assert '/components/3/id  the id "tls.server" is reserved for the provider' in done.stderr
    assert "tls" not in command("graph", "-c", "config.json").stdout


def test_schema(command, plugins, document, leaf):
    jsonschema = pytest.importorskip("jsonschema")
    done = command("schema", "--plugins", plugins)
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    sections = schema["properties"]["security"]["properties"]["tls"]["properties"]
    assert sections["server"]["properties"]["toy"] == {"$ref": "#/$defs/settings_of_toy"}
    options = schema["$defs"]["settings_of_toy"]["properties"]
    assert options["storage_path"]["description"] == "its identity" and options["size"]["default"] == "1KiB"
    types = schema["$defs"]["component"]["properties"]["type"]["anyOf"]
    assert "toy_tls" not in [t.get("const") for t in types]
    for tls in ({"server": server()}, {"client": client()}, {"client": {"mode": "toy", "toy": {"enabled": False}}},
                {"client": {"toy": {}}}, {"server": {"enabled": False, "mode": "toy"}}):
        assert not list(validator.iter_errors(document(**tls))), tls
    for tls in ({"client": {"mode": "toy"}}, {"server": {"enabled": True, "mode": "toy", "toy": {}}},
                {"client": client(siez=1)}, {"client": client(size=-1)}):
        assert list(validator.iter_errors(document(**tls))), tls


# ---- running -----------------------------------------------------------------------------------------------


def test_life(start, tmp_path, document, pki, leaf):
    """At start, renewed, without one, with one again."""
    one, two = leaf("one"), leaf("two")
    toy = Toy(tmp_path)
    program = start(document(server=server(control="control", cert=str(one.cert), key=str(one.key)),
                             client={"ca_files": [pki.ca_file]}))
    port = int(program.wait_log(r"INFO TLS server started with Toy certificate port=(\d+) component=hub$")[1])
    assert program.log().index("Toy starts first_ca=- component=tls.server") < program.log().index("component=hub")
    assert shown(port, pki) == one.der
    assert ready(program) == (200, {}, {})
    assert "Hot-reloaded" not in program.log()
    m = program.wait_metric("semstreams_toy_published_total", 1, component="tls.server")
    assert m.sum("semstreams_tls_fallback", role="server") == 0
    assert not m.select("semstreams_tls_fallback", role="client")
    assert "tls.server" not in m.components()

    toy.publish(two)
    program.wait_log(r"INFO Hot-reloaded certificate without downtime role=server source=Toy subject='two' expiry=\S+Z$")
    program.wait_for(lambda: shown(port, pki) == two.der)
    old = leaf("old", days=(-9, -1))
    toy.publish(old)
    program.wait_log(r"Toy published result=-22 why=\"certificate 'old' expired ")
    assert shown(port, pki) == two.der

    toy("unavailable the CA is down")
    program.wait_log(r"ERROR No TLS certificate and no fallback, handshakes fail role=server reason=\"?the CA is down\"?$")
    program.wait_for(lambda: shown(port, pki) is None)
    assert ready(program) == (503, {"tls.server": "no certificate: the CA is down"}, {})
    assert not program.metrics().select("semstreams_certificate_expiry_seconds", role="server")

    toy.publish(one)
    program.wait_log(r"INFO Certificate available again role=server source=Toy subject='one'")
    program.wait_for(lambda: shown(port, pki) == one.der)
    assert ready(program) == (200, {}, {})
    # what the plugin itself complains about is another matter
    toy("unready")
    program.wait_for(lambda: ready(program) == (503, {"tls.server provider": "toy broken"}, {}))
    toy("well")
    program.wait_for(lambda: ready(program)[0] == 200)
    assert program.log().count("Hot-reloaded") == 1
    assert program.log().count("TLS server started") == 1
    assert program.terminate() == 0
    # the listener has gone by then
    stopped = program.log().index("Toy stops component=tls.server")
    assert program.log().index("Shutting down") < stopped < program.log().index("Component stopped")


def test_first_certificate_comes_late(start, tmp_path, document, pki, leaf):
    one = leaf("one")
    program = start(document(server=server(control="control")))
    assert ready(program) == (503, {"tls.server": 'waiting for the first certificate from mode "toy"'}, {})
    assert "TLS server started" not in program.log()
    Toy(tmp_path).publish(one)
    port = int(program.wait_log(r"INFO TLS server started with Toy certificate port=(\d+) component=hub$")[1])
    program.wait_for(lambda: shown(port, pki) == one.der)
    assert ready(program) == (200, {}, {})
    assert "Hot-reloaded" not in program.log()


def test_fallback(start, tmp_path, document, pki, leaf):
    one, spare = leaf("one"), leaf("spare")
    toy = Toy(tmp_path)
    program = start(document(server={**server(control="control"), **spare.settings()}))
    assert ready(program)[0] == 503
    toy("unavailable nobody answers")
    program.wait_log(r"WARN Operating in fallback mode, using cert_file role=server reason=\"?nobody answers\"? "
                     rf"path={spare.cert} subject='spare' expiry=\S+Z$")
    port = int(program.wait_log(r"INFO TLS server started with fallback certificate port=(\d+) component=hub$")[1])
    program.wait_for(lambda: shown(port, pki) == spare.der)
    assert ready(program) == (200, {}, {"tls.server": "fallback certificate in use: nobody answers"})
    m = program.metrics()
    assert m.sum("semstreams_tls_fallback", role="server") == 1
    assert m.sum("semstreams_certificate_expiry_seconds", role="server") > 80000

    toy.publish(one)
    program.wait_log(r"INFO Certificate available again role=server source=Toy subject='one'")
    program.wait_log(r"INFO Hot-reloaded certificate without downtime role=server source=Toy subject='one'")
    program.wait_for(lambda: shown(port, pki) == one.der)
    assert ready(program) == (200, {}, {})
    assert program.metrics().sum("semstreams_tls_fallback", role="server") == 0
    assert program.terminate() == 0


def test_manual(start, document, leaf):
    program = start(document(server={"enabled": True, **leaf("one").settings()}))
    program.wait_log(r"INFO TLS server started with manual certificate port=\d+ component=hub$")


def test_shared(start, tmp_path, document, pki, leaf):
    """Sections with one identity have one provider."""
    one, two = leaf("one"), leaf("two")
    same = {"control": "control", "cert": str(one.cert), "key": str(one.key)}
    program = start(document(server=server(**same), client={**client(**same), "ca_files": [pki.ca_file]}))
    assert re.findall(r"Toy starts .*", program.log()) == [f"Toy starts first_ca={pki.ca_file} component=tls"]
    m = program.metrics()
    assert {dict(labels)["component"] for _, labels in m.select("semstreams_toy_published_total")} == {"tls"}
    assert m.sum("semstreams_certificate_expiry_seconds", role="server") > 80000
    assert m.sum("semstreams_certificate_expiry_seconds", role="client") > 80000
    Toy(tmp_path).publish(two)
    program.wait_log(r"Hot-reloaded certificate without downtime role=server,client source=Toy subject='two'")
    assert program.log().count("Hot-reloaded") == 1
    assert program.terminate() == 0


def test_two(start, tmp_path, document, pki, leaf):
    """Sections with identities of their own: each hears of its own provider only."""
    one, two = leaf("one"), leaf("two")
    program = start(document(
        server=server(control="server"),
        client={**client(storage_path="two", control="client"), "ca_files": [pki.ca_file]}))
    assert f"Toy starts first_ca={pki.ca_file} component=tls.client" in program.log()
    assert "Toy starts first_ca=- component=tls.server" in program.log()
    Toy(tmp_path, "server").publish(one)
    program.wait_for(lambda: set(ready(program)[1]) == {"tls.client"})
    Toy(tmp_path, "client").publish(two)
    program.wait_for(lambda: ready(program)[0] == 200)
    assert program.terminate() == 0


def test_start_fails(start, document):
    program = start(document(server=server(control="/nowhere/control")), ready=False)
    assert program.wait() == 1
    assert "ERROR Component failed to start error=" in program.log()


# ---- semstreams cert ---------------------------------------------------------------------------------------


@pytest.fixture
def cert(command, tmp_path, document):
    """cert(tls, word, ...)"""

    def run(tls, *words):
        file = tmp_path / "config.json"
        file.write_text(json.dumps(document(**tls)))
        return command("cert", "-c", "config.json", *words)

    return run


def test_cert_by_provider(cert):
    one = {"server": server()}
    done = cert(one, "renew", "--force", "now", "-x", "--json")
    assert (done.returncode, done.stdout) == (0, "one renew --force now -x --json\n"), done.stderr
    done = cert(one, "fail")
    assert done.returncode == 7 and "ERROR Toy fails" in done.stderr
    both = {"server": server(), "client": client(storage_path="two")}
    done = cert(both, "renew")
    assert done.returncode == 2 and "add --role server or --role client" in done.stderr
    assert cert(both, "--role", "client", "renew").stdout == "two renew\n"
    assert cert(both, "renew", "--role=server").stdout == "one renew\n"
    assert cert(both, "status").stdout == 'server, mode "toy"\none status\nclient, mode "toy"\ntwo status\n'
    shared = {"server": server(), "client": client()}
    assert cert(shared, "renew").stdout == "one renew\n"
    assert cert(shared, "status").stdout == 'server and client, mode "toy"\none status\n'
    assert cert(shared, "--role", "client", "status").stdout == 'client, mode "toy"\none status\n'
    assert cert({"server": server(storage_path="/wrong")}, "renew").returncode == 78


def test_cert_status_of_files(cert, leaf, pki):
    one = leaf("one")
    tls = {"server": {"enabled": True, **one.settings()}, "client": {"ca_files": [pki.ca_file]}}
    done = cert(tls, "status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('server, mode "manual"\n')
    assert done.stdout.endswith('client, mode "manual"\n  no certificate\n')
    rows = dict(line.strip().split("  ", 1) for line in done.stdout.splitlines() if line.count("  ") > 1)
    rows = {key: value.strip() for key, value in rows.items()}
    assert rows["file"] == str(one.cert)
    assert rows["subject"] == "CN=one"
    assert rows["names"] == "localhost, 127.0.0.1, one"
    assert rows["issuer"] == "CN=Location A Intermediate CA,O=SemStreams"
    assert re.fullmatch(r"\S+Z \(2[34]h\d+m left\)", rows["valid until"])
    assert rows["chain"] == "2 certificates"
    assert rows["SHA-256"].replace(":", "").lower() == hashlib.sha256(one.der).hexdigest()

    done = cert(tls, "renew")
    assert done.returncode == 1 and "there is nothing to renew" in done.stderr
    done = cert(tls, "stauts")
    assert done.returncode == 2 and "unknown verb 'stauts' (did you mean 'status'?)" in done.stderr
    done = cert({"server": {"enabled": True, **leaf("old", days=(-9, -2.5)).settings()}}, "status")
    assert done.returncode == 1 and "expired 2 days ago" in done.stdout and "warning: certificate 'old'" in done.stderr
    done = cert({"server": {"enabled": True, "cert_file": "none", "key_file": "none"}}, "status")
    assert done.returncode == 1 and "error: No such file or directory reading certificate file" in done.stderr
    done = cert({"server": {**server(), **one.settings()}}, "status")
    assert "one status\nserver, fallback\n" in done.stdout and "subject      CN=one" in done.stdout


def test_cert_status_is_json_in_every_mode(cert, leaf, pki):
    """One document, whatever the modes: files, a provider, both, none, and files that are broken."""

    def status(tls, *words):
        done = cert(tls, *words, "status", "--json")
        return done.returncode, json.loads(done.stdout)

    one = leaf("one")
    files = {"server": {"enabled": True, **one.settings()}, "client": {"ca_files": [pki.ca_file]}}
    code, told = status(files)
    assert code == 0 and list(told) == ["server", "client"]
    assert told["client"] == {"mode": "manual", "certificate": None}
    assert told["server"]["mode"] == "manual" and told["server"]["good"] is True and told["server"]["file"] == str(one.cert)
    certificate = told["server"]["certificate"]
    assert certificate["names"] == ["localhost", "127.0.0.1", "one"] and certificate["subject"] == "CN=one"
    assert certificate["sha256"] == hashlib.sha256(one.der).hexdigest() and 0 < certificate["remaining_seconds"] <= 86400
    assert certificate["chain"] == 2 and certificate["not_after"].endswith("Z")
    assert list(status(files, "--role", "client")[1]) == ["client"]
    code, told = status({"server": {"enabled": True, **leaf("old", days=(-9, -2.5)).settings()}})
    assert code == 1 and told["server"]["good"] is False and told["server"]["certificate"]["remaining_seconds"] < 0
    code, told = status({"server": {"enabled": True, "cert_file": "none", "key_file": "none"}})
    assert code == 1 and told["server"]["good"] is False and told["server"]["certificate"] is None
    shared = {"server": {**server(), **one.settings()}, "client": client()}
    code, told = status(shared)
    assert code == 0 and told["client"] == {"mode": "toy", "text": "one status --json\n"}
    assert told["server"]["text"] == "one status --json\n" and told["server"]["fallback"]["good"] is True


def test_cert_usage(command, cert):
    for words, told in (([], "cert needs a verb"), (["--role", "x", "status"], "--role is server or client"),
                        (["--force", "renew"], "unknown option '--force'")):
        done = command("cert", *words)
        assert done.returncode == 2 and told in done.stderr
    assert command("run", "--role", "server").returncode == 2
    assert "VERB" in command("cert", "--help").stdout
    assert command("help", "cert").stdout == command("cert", "status", "--help").stdout
    done = cert({}, "status")
    assert done.returncode == 1 and "uses no TLS" in done.stderr
    done = cert({"server": {"enabled": False}, "client": {}}, "--role", "server", "status")
    assert done.returncode == 1 and "uses no TLS as server" in done.stderr
