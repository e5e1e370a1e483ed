# SPDX-License-Identifier: MIT
"""step-ca on the trees of semstreams pki, and servers of others on its certificates."""

import base64
import hashlib
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lab import servers
from lab.ports import unused_port
from acmelib import until
from conftest import PATIENCE
from test_pki import DAY, life, pki, tool  # noqa: F401

pytest.importorskip("cryptography", reason="python3-cryptography is missing")
from cryptography.hazmat.primitives import hashes, keywrap  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402


# ---- step-ca

class Home:
    """step-ca on a tree, started as its README says; over HTTPS with nothing trusted but the tree's root."""

    def __init__(self, folder, config, root, password, port):
        try:
            program = servers.step_ca()
        except servers.Missing as missing:
            pytest.skip(str(missing))
        self.folder, self.port, self.root = folder, port, folder / root
        self.argv = [program, config, "--password-file", password]
        self.password = (folder / password).read_text().strip()
        self.context = ssl.create_default_context(cafile=self.root)

    def __enter__(self):
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(self.argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, "STEPPATH": str(self.folder)})
        until(self.is_up, "step-ca")
        return self

    def is_up(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return self.get("/health") == {"status": "ok"}
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def get(self, path, body=None):
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self.context, timeout=PATIENCE) as answer:
            return json.load(answer)

    def provisioner(self, name):
        return next(p for p in self.get("/provisioners?limit=100")["provisioners"] if p["name"] == name)

    def token(self, provisioner, subject, **claims):
        key = decrypt(self.provisioner(provisioner)["encryptedKey"], self.password)
        now = int(time.time())
        return sign_token(key, {"iss": provisioner, "aud": f"{self.url}/1.0/sign", "sub": subject, "sans": [subject], "iat": now,
                                "nbf": now, "exp": now + 300, "jti": secrets.token_hex(16), **claims})

    def order(self, provisioner, csr, subject, out, **claims):
        """A certificate by a one-time token, into a file with its chain; the status of the answer."""
        try:
            answer = self.get("/1.0/sign", {"csr": csr.read_text(), "ott": self.token(provisioner, subject, **claims)})
        except urllib.error.HTTPError as refused:
            return refused.code
        out.write_text("".join(answer["certChain"]))
        return 201


def unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decrypt(jwe, password):
    """A JWK out of PBES2-HS256+A128KW and A256GCM, by RFC 7516 and 7518."""
    header, wrapped, iv, text, tag = jwe.split(".")
    said = json.loads(unbase64(header))
    assert (said["alg"], said["enc"]) == ("PBES2-HS256+A128KW", "A256GCM") and 100000 <= said["p2c"] <= 1000000
    salt = said["alg"].encode() + b"\0" + unbase64(said["p2s"])
    key = keywrap.aes_key_unwrap(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, said["p2c"], 16), unbase64(wrapped))
    return json.loads(AESGCM(key).decrypt(unbase64(iv), unbase64(text) + unbase64(tag), header.encode()))


def private_key(jwk):
    assert all(len(unbase64(jwk[name])) == 32 for name in "dxy")
    d, x, y = (int.from_bytes(unbase64(jwk[name]), "big") for name in "dxy")
    return ec.EllipticCurvePrivateNumbers(d, ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1())).private_key()


def sign_token(jwk, claims):
    text = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": jwk["kid"], "typ": "JWT"}, claims))
    r, s = utils.decode_dss_signature(private_key(jwk).sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return text + "." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_step_ca(pki):  # noqa: F811
    """It starts on the tree; its provisioner's key is encrypted with the password, and orders certificates."""
    port = unused_port()
    pki("init", "--layout", "step-ca", "--address", f"127.0.0.1:{port}")
    home = pki.path("config/step-ca")
    with Home(home, "ca.json", "pki/root_ca.crt", "secrets/password.txt", port) as ca:
        admin = ca.provisioner("admin")
        jwk = decrypt(admin["encryptedKey"], ca.password)
        assert {k: v for k, v in jwk.items() if k != "d"} == admin["key"]
        assert jwk["kid"] == base64url(hashlib.sha256(json.dumps({k: jwk[k] for k in ("crv", "kty", "x", "y")}, sort_keys=True,
                                                                 separators=(",", ":")).encode()).digest())
        with pytest.raises(keywrap.InvalidUnwrap):
            decrypt(admin["encryptedKey"], ca.password + "x")
        kept = json.loads((home / "secrets/provisioner.key.json").read_text())
        parts = [kept[name] for name in ("protected", "encrypted_key", "iv", "ciphertext", "tag")]
        assert ".".join(parts) == admin["encryptedKey"]
        pki("csr", "a.local", "a.csr", "a.key")
        assert ca.order("admin", pki.path("a.csr"), "a.local", pki.path("a.crt")) == 201
        assert "newOrder" in ca.get("/acme/acme/directory")
    tool("openssl", "verify", "-CAfile", home / "pki/root_ca.crt", "-untrusted", "a.crt", "a.crt", cwd=pki.folder)
    assert abs(life(pki.text("a.crt")) - 365 * DAY) < DAY
    pki("services")
    assert pki("verify").stdout.endswith("All checks passed!\n")
    pki("rotate", "intermediate")
    with Home(home, "ca.json", "pki/root_ca.crt", "secrets/password.txt", port) as ca:
        assert ca.order("admin", pki.path("a.csr"), "a.local", pki.path("b.crt")) == 201
    tool("openssl", "verify", "-CAfile", home / "pki/root_ca.crt", "-untrusted", "b.crt", "b.crt", cwd=pki.folder)


def test_provider(pki):  # noqa: F811
    """Without the root's key: it signs the CAs of tenants, and services, and nothing that its template does not know."""
    port = unused_port()
    pki("init", "--layout", "provider", "--address", f"127.0.0.1:{port}", env={"STEP_CA_PASSWORD": "sesame"})
    home = pki.path("pki")
    (home / "secrets/root_ca_key").unlink()
    pki("csr", "Tenant A", "a.csr", "a.key")
    pki("csr", "hub.local", "hub.csr", "hub.key")
    with Home(home, "config/ca.json", "certs/root_ca.crt", "secrets/password", port) as ca:
        assert ca.password == "sesame"
        out = [pki.path(f"{name}.crt") for name in ("a", "hub", "none")]
        assert ca.order("iot-bridge", pki.path("a.csr"), "Tenant A", out[0], profile="intermediate-ca") == 201
        assert ca.order("iot-bridge", pki.path("hub.csr"), "hub.local", out[1], profile="service-leaf") == 201
        for claims in ({}, {"profile": "device-leaf"}, {"profile": "root-ca"}):
            assert ca.order("iot-bridge", pki.path("hub.csr"), "hub.local", out[2], **claims) >= 400
        assert ca.order("iot-bridge", pki.path("hub.csr"), "a.local", out[2], profile="service-leaf") >= 400
        assert "newOrder" in ca.get("/acme/acme/directory")
        pki("join-request", "tenant-b", "b.csr", "b.key")
        pki("approve", "b.csr", "b.json", "--ca", ca.url, "--roots", ca.root, "--ca-passphrase-file", home / "secrets/password")
        pki("join", "b.json", "b.crt", "b-root.crt", "--key", "b.key", "--roots", ca.root)
    assert "CA:TRUE, pathlen:0" in pki.text("b.crt")
    text = pki.text("a.crt")
    assert "CA:TRUE, pathlen:0" in text and abs(life(text) - 730 * DAY) < DAY
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in pki.text("hub.crt")
    pki("leaf", "device-1", "d.crt", "d.key", "--profile", "device-leaf", "--ca", "a.crt", "--ca-key", "a.key")
    tool("openssl", "verify", "-CAfile", home / "certs/root_ca.crt", "-untrusted", "a.crt", "-purpose", "sslclient", "d.crt",
         cwd=pki.folder)
    tool("openssl", "verify", "-CAfile", home / "certs/root_ca.crt", "-untrusted", "a.crt", "-purpose", "sslserver", "d.crt",
         cwd=pki.folder, status=2)


def test_tenant(pki):  # noqa: F811
    """A tenant's step-ca on a CA that the provider's signed, with the provider's template for tenants: devices, services, no CAs."""
    port = unused_port()
    pki("init", "--layout", "provider", "--address", f"127.0.0.1:{port}")
    home, tenant = pki.path("pki"), pki.path("tenant")
    tenant.mkdir()
    pki("csr", "Tenant A", tenant / "ca.csr", tenant / "ca.key")
    pki("sign", tenant / "ca.csr", tenant / "ca.crt", "--profile", "sub-ca", "--ca", home / "certs/intermediate_ca.crt", "--ca-key",
        home / "secrets/intermediate_ca_key", "--ca-passphrase-file", home / "secrets/password")
    pki("bundle", tenant / "chain.crt", tenant / "ca.crt", home / "certs/intermediate_ca.crt")
    for name, place in (("root.crt", "certs/root_ca.crt"), ("tenant.tpl", "templates/tenant.tpl"), ("password", "secrets/password")):
        shutil.copy(home / place, tenant / name)
    config = json.loads((home / "config/ca.json").read_text())
    config.update(root="root.crt", crt="chain.crt", key="ca.key")
    bridge = config["authority"]["provisioners"][0]
    bridge["options"]["x509"]["templateFile"] = "tenant.tpl"
    config["authority"]["provisioners"] = [bridge]
    (tenant / "ca.json").write_text(json.dumps(config))
    with Home(tenant, "ca.json", "root.crt", "password", port) as ca:
        where = ["--ca", ca.url, "--roots", ca.root]
        pki("token", "device-1", "d.token", *where, "--ca-passphrase-file", tenant / "password")
        pki("device", "device-1", "d.crt", "d.key", *where, "--token-file", "d.token")
        pki("csr", "hub.local", "hub.csr", "hub.key")
        assert ca.order("iot-bridge", pki.path("hub.csr"), "hub.local", pki.path("hub.crt"), profile="service-leaf") == 201
        for claims in ({"profile": "intermediate-ca"}, {}):
            assert ca.order("iot-bridge", pki.path("hub.csr"), "hub.local", pki.path("none.crt"), **claims) >= 400
    verify = ["openssl", "verify", "-CAfile", home / "certs/root_ca.crt", "-untrusted"]
    tool(*verify, "d.crt", "-purpose", "sslclient", "d.crt", cwd=pki.folder)
    tool(*verify, "d.crt", "-purpose", "sslserver", "d.crt", cwd=pki.folder, status=2)
    tool(*verify, "hub.crt", "-purpose", "sslserver", "hub.crt", cwd=pki.folder)


def test_services_by_token(pki):  # noqa: F811
    """The running CA issues them, and knows them afterwards; without it the tree's key signs, unless the CA was asked for."""
    port = unused_port()
    pki("init", "--layout", "step-ca", "--address", f"127.0.0.1:{port}")
    home = pki.path("config/step-ca")
    url = f"https://localhost:{port}"
    none = pki("services", "--ca", url, status=1)
    assert url in none.stderr and not pki.path("data/certs/nats").exists()
    assert "URL of the tree's step-ca" in pki("services", "--ca", "x.crt", status=1).stderr
    with Home(home, "ca.json", "pki/root_ca.crt", "secrets/password.txt", port) as ca:
        done = pki("services", "--san", "nats.example")
        assert "All service certificates generated!" in done.stdout and not done.stderr
        assert pki("verify").stdout.endswith("All checks passed!\n")
        text = pki.text("data/certs/nats/nats.crt")
        assert abs(life(text) - 365 * DAY) < DAY and "DNS:nats, DNS:localhost, DNS:nats.example, IP Address:127.0.0.1" in text
        ca.context.load_cert_chain(pki.path("data/certs/nats/nats.crt"), pki.path("data/certs/nats/nats.key"))
        assert len(ca.get("/1.0/renew", {})["certChain"]) == 2
        log = (home / "log").read_text()
        assert log.count("path=/1.0/sign") == 8 and log.count("status=201") >= 8
        other = pki.path("other")
        pki("init", other, "--layout", "step-ca", "--address", f"127.0.0.1:{port}")
        assert "note: the key of the tree's intermediate signs" in pki("services", other).stderr
        assert url in pki("services", other, "--force", "--ca", url, status=1).stderr
        pki("verify", other)
    done = pki("services", "--force")
    assert "note: the key of the tree's intermediate signs" in done.stderr and url in done.stderr
    pki("verify")


# ---- servers on the certificates of "services"

@pytest.fixture
def place(pki):  # noqa: F811
    """A tree with services, a stranger's certificate of the same name by another CA, and where all of them are."""
    pki("init", "--layout", "step-ca")
    pki("services")
    pki.root()
    pki("leaf", "grafana", "stranger.crt", "stranger.key", "--ca", "root.crt", "--ca-key", "root.key")
    pki.ca = pki.path("config/step-ca/pki/root_ca.crt")
    pki.pair = lambda name: (pki.path(f"data/certs/{name}/{name}.crt"), pki.path(f"data/certs/{name}/{name}.key"))
    pki.stranger = pki.path("stranger.crt"), pki.path("stranger.key")
    return pki


class Daemon:
    """A server of others, until the block ends; its log in .log."""

    def __init__(self, folder, *argv, **kwargs):
        self.log, self.argv, self.kwargs = folder / "daemon.log", [str(a) for a in argv], kwargs

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.kwargs)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def until(self, condition):
        def answered():
            assert self.process.poll() is None, self.log.read_text()
            return condition()

        until(answered, f"{self.argv[0]}; its log:\n{self.log.read_text()}")


def client(place, pair):
    context = ssl.create_default_context(cafile=place.ca)
    if pair:
        context.load_cert_chain(*pair)
    return context


def test_prometheus(place, tmp_path):
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is missing")
    crt, key = place.pair("prometheus")
    port = unused_port()
    (tmp_path / "prometheus.yml").write_text("{}\n")
    (tmp_path / "web.yml").write_text(f"tls_server_config:\n  cert_file: {crt}\n  key_file: {key}\n"
                                      f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {place.ca}\n")

    def ready(pair):
        try:
            with urllib.request.urlopen(f"https://localhost:{port}/-/ready", context=client(place, pair), timeout=PATIENCE) as answer:
                return answer.status == 200
        except OSError:
            return False

    with Daemon(tmp_path, "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--web.config.file={tmp_path}/web.yml",
                f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/tsdb") as daemon:
        daemon.until(lambda: ready(place.pair("grafana")))
        assert not ready(None) and not ready(place.stranger)
        assert ready(place.pair("grafana"))


def test_nats(place, tmp_path):
    try:
        program = servers.program("nats-server", "nats-server")
    except servers.Missing as missing:
        pytest.skip(str(missing))
    crt, key = place.pair("nats")
    port = unused_port()
    (tmp_path / "nats.conf").write_text(f'host: 127.0.0.1\nport: {port}\ntls {{\n  cert_file: "{crt}"\n  key_file: "{key}"\n'
                                        f'  ca_file: "{place.ca}"\n  verify: true\n}}\n')

    def ping(pair):
        """As clients do: INFO in the clear, then TLS."""
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as tcp:
                info = b""
                while not info.endswith(b"\r\n"):
                    info += tcp.recv(1)
                assert json.loads(info.removeprefix(b"INFO "))["tls_verify"] is True
                with client(place, pair).wrap_socket(tcp, server_hostname="localhost") as tls:
                    tls.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
                    return tls.recv(100).startswith(b"PONG")
        except OSError:
            return False

    with Daemon(tmp_path, program, "-c", tmp_path / "nats.conf") as daemon:
        daemon.until(lambda: ping(place.pair("temporal")))
        assert not ping(None) and not ping(place.stranger)
        assert ping(place.pair("temporal"))


def postgresql(name):
    """One of its programs, unpacked or installed."""
    places = [*servers.cache().glob("postgresql-*/usr/lib/postgresql/*/bin"), *Path("/usr/lib/postgresql").glob("*/bin")]
    found = next((place / name for place in places if (place / name).exists()), None)
    if not found:
        pytest.skip(f"{name} is missing; on Debian it is in postgresql-15 or postgresql-client-15")
    return found


def test_postgresql(place, tmp_path):
    """With "cert" it takes the certificate's name for the user's."""
    postgres, initdb, psql = (postgresql(name) for name in ("postgres", "initdb", "psql"))
    # it does not run as root; whose the files are stays as it is
    somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    if somebody and subprocess.run([*somebody, "true"], check=False, capture_output=True).returncode:
        pytest.skip("there are no user namespaces here, and postgresql does not run as root")
    data, port = tmp_path / "cluster", unused_port()
    tool(*somebody, initdb, "-D", data, "-U", "grafana", "--no-sync", "--no-locale", "-E", "UTF8", "-A", "reject")
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 cert\n")
    crt, key = place.pair("postgres")
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "ssl": "on", "ssl_cert_file": crt,
                "ssl_key_file": key, "ssl_ca_file": place.ca, "fsync": "off"}

    def ask(pair, user="grafana"):
        where = f"host=localhost port={port} dbname=postgres user={user} sslmode=verify-full sslrootcert={place.ca}"
        shown = f"sslcert={pair[0]} sslkey={pair[1]}" if pair else "sslcert=/nowhere sslkey=/nowhere"
        done = subprocess.run([psql, "-w", "-At", "-c", "select 40 + 2", f"{where} {shown}"], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=PATIENCE, check=False)
        return done.stdout.strip() == "42"

    with Daemon(tmp_path, *somebody, postgres, "-D", data, *(word for k, v in settings.items() for word in ("-c", f"{k}={v}"))) as d:
        d.until(lambda: ask(place.pair("grafana")))
        assert not ask(None) and not ask(place.stranger) and not ask(place.pair("vault"))
        assert ask(place.pair("grafana"))
