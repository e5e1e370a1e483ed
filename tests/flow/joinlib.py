# SPDX-License-Identifier: MIT
"""Providers and tenants: "semstreams pki" in a folder, step-cas with a JWK provisioner, and who listens between them."""

import base64
import contextlib
import hashlib
import json
import os
import secrets
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from lab.ports import unused_port
from lab.servers import Missing, StepCa
from conftest import PATIENCE

pytest.importorskip("cryptography", reason="python3-cryptography is missing")
from cryptography.hazmat.primitives import hashes, keywrap, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402

DEVICE = ('{{- if eq .Token.profile "device-leaf" -}} {"subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}, '
          '"keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]} '
          '{{- else if eq .Token.profile "service-leaf" -}} {"subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}, '
          '"keyUsage": ["digitalSignature", "keyEncipherment"], "extKeyUsage": ["serverAuth", "clientAuth"]} ')
CA = ('{{- else if eq .Token.profile "intermediate-ca" -}} {"subject": {{ toJson .Subject }}, '
      '"keyUsage": ["certSign", "crlSign"], "basicConstraints": {"isCA": true, "maxPathLen": 0}} ')
END = '{{- else }}{{ fail "the token names no profile that is known here" }}{{ end }}'


def tool(*argv, status=0, **kwargs):
    """Run a program of others; its output."""
    if not shutil.which(argv[0]):
        pytest.skip(f"{argv[0]} is missing")
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=PATIENCE, check=False, **kwargs)
    assert done.returncode == status, done.stdout
    return done.stdout


class Pki:
    """semstreams pki in a folder."""

    def __init__(self, command, folder):
        self.command, self.folder = command, folder

    def __call__(self, *argv, status=0, env=(), **kwargs):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PKI_", "STEP_CA_")) and k != "VALIDITY_DAYS"}
        done = self.command("pki", *argv, env={**clean, **dict(env)}, **kwargs)
        assert done.returncode == status, (argv, done.stdout, done.stderr)
        return done

    def path(self, name):
        return self.folder / name

    def secret(self, name, text):
        self.path(name).write_text(text)
        self.path(name).chmod(0o600)

    def fingerprint(self, name="root.crt"):
        return self("fingerprint", name).stdout.strip()

    def files(self):
        return sorted(f.name for f in self.folder.iterdir() if f.is_file())


# ---- a provisioner's key, encrypted by others than us

def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n):
    return b64(n.to_bytes(32, "big"))


def provisioner(password, name="iot-bridge", rounds=100000, template=None, alg="PBES2-HS256+A128KW", kid=None):
    """A JWK provisioner as in ca.json, and its key, which is made up."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = private.private_numbers()
    point = key.public_numbers
    public = {"use": "sig", "kty": "EC", "kid": kid or secrets.token_hex(16), "crv": "P-256", "alg": "ES256",
              "x": number(point.x), "y": number(point.y)}
    salt, content, nonce = secrets.token_bytes(16), secrets.token_bytes(32), secrets.token_bytes(12)
    header = b64(json.dumps({"alg": alg, "enc": "A256GCM", "cty": "jwk+json", "p2s": b64(salt), "p2c": rounds}).encode())
    digest, length = {"PBES2-HS256+A128KW": ("sha256", 16), "PBES2-HS512+A256KW": ("sha512", 32)}[alg]
    by_password = hashlib.pbkdf2_hmac(digest, password.encode(), alg.encode() + b"\0" + salt, min(max(rounds, 1), 100000),
                                      length)
    sealed = AESGCM(content).encrypt(nonce, json.dumps({**public, "d": number(key.private_value)}).encode(), header.encode())
    jwe = ".".join([header, b64(keywrap.aes_key_wrap(by_password, content)), b64(nonce), b64(sealed[:-16]), b64(sealed[-16:])])
    made = {"type": "JWK", "name": name, "key": public, "encryptedKey": jwe}
    if template:
        made["options"] = {"x509": {"templateFile": str(template)}}
    return made, private


class TokenCa(StepCa):
    """A step-ca that signs for tokens of its provisioner "iot-bridge", whose password is in the file given.  cas: may
    it sign CAs?"""

    def __init__(self, folder, root, crt, key, password, cas=False, **options):
        folder.mkdir()
        template = folder / "iot-bridge.tpl"
        template.write_text(DEVICE + (CA if cas else "") + END)
        made, self.signer = provisioner(password, template=template, **options)
        self.provisioner = {**made, "claims": {
            "defaultTLSCertDuration": "1h", "maxTLSCertDuration": "17521h" if cas else "24h"}}
        super().__init__(folder, None, root, crt, key)

    def configure(self, crt, key):
        super().configure(crt, key)
        config = self.folder / "ca.json"
        settings = json.loads(config.read_text())
        settings["authority"]["provisioners"].append(self.provisioner)
        settings["authority"]["claims"]["maxTLSCertDuration"] = "17521h"
        config.write_text(json.dumps(settings))

    def token(self, name, **claims):
        """A token as others make them."""
        now = int(time.time())
        claims = {"iss": "iot-bridge", "aud": f"{self.origin}/1.0/sign", "sub": name, "sans": [name], "iat": now, "nbf": now,
                  "exp": now + 300, "jti": secrets.token_hex(16), "profile": "device-leaf", **claims}
        header = {"alg": "ES256", "kid": self.provisioner["key"]["kid"], "typ": "JWT"}
        text = ".".join(b64(json.dumps(part).encode()) for part in (header, claims))
        r, s = utils.decode_dss_signature(self.signer.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def post(self, path, document, pair=None):
        """(HTTP status, answer) of a request of curl's."""
        client = ["--cert", pair[0], "--key", pair[1]] if pair else []
        out = tool("curl", "-sS", "--http1.1", "--cacert", self.roots, *client, "-w", "\n%{http_code}", "-d", json.dumps(document),
                   self.origin + path)
        body, _, status = out.rpartition("\n")
        return int(status), json.loads(body)


@contextlib.contextmanager
def running(*args, **kwargs):
    try:
        server = TokenCa(*args, **kwargs)
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        yield server.start()
    finally:
        server.stop()


class Recorder:
    """Stands between a client and a server with a certificate that clients trust, and keeps all that goes by."""

    def __init__(self, chain, key, root, server_port):
        self.port, self.server_port, self.bytes = unused_port(), server_port, bytearray()
        self._own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._own.load_cert_chain(chain, key)
        self._onward = ssl.create_default_context(cafile=root)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=[client], daemon=True).start()

    def _pass_on(self, client):
        """One thread for both directions, as no TLS connection may be used by two."""
        with contextlib.suppress(OSError), self._own.wrap_socket(client, server_side=True) as inner, \
                socket.create_connection(("127.0.0.1", self.server_port), PATIENCE) as onward, \
                self._onward.wrap_socket(onward, server_hostname="localhost") as outer:
            pairs = {inner: outer, outer: inner}
            while True:
                ready = [s for s in pairs if s.pending()] or select.select(list(pairs), [], [], PATIENCE)[0]
                for source in ready:
                    source.settimeout(0)
                    try:
                        data = source.recv(65536)
                    except ssl.SSLWantReadError:
                        continue  # a record of TLS' own
                    self.bytes += data
                    if not data:
                        return
                    pairs[source].settimeout(PATIENCE)
                    pairs[source].sendall(data)
                if not ready:
                    return

    def close(self):
        self._listener.close()

    def has_no_key(self, *files):
        """Nothing of these private keys went by, in any form that it could have."""
        seen = bytes(self.bytes)
        assert b"PRIVATE KEY" not in seen
        for file in files:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
            secret = key.private_numbers().private_value.to_bytes(32, "big")
            der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            body = "".join(file.read_text().splitlines()[1:-1]).encode()
            for form in (secret, secret.hex().encode(), b64(secret).encode(), der, body, body[40:80]):
                assert form not in seen


# ---- a provider and a tenant

@pytest.fixture
def pki(command, tmp_path):
    return Pki(command, tmp_path)


@pytest.fixture
def provider_files(pki):
    """root.crt, provider.crt and their keys; "password" of the provisioners."""
    pki("root", "Platform Root CA", "root.crt", "root.key", "--key-type", "p256")
    pki("intermediate", "Provider CA", "provider.crt", "provider.key", "--key-type", "p256", "--validity", "1825d", "--ca",
        "root.crt", "--ca-key", "root.key")
    pki.secret("password", "correct horse\n")
    return pki


@pytest.fixture
def provider(provider_files):
    """Its step-ca, which signs tenants' CAs."""
    p = provider_files
    with running(p.folder / "provider-ca", p.path("root.crt"), p.path("provider.crt"), p.path("provider.key"), "correct horse",
                 cas=True) as ca:
        yield ca


@pytest.fixture
def recorder(provider_files, provider):
    """In front of the provider's step-ca."""
    with recording(provider_files, provider.port) as between:
        yield between


@contextlib.contextmanager
def recording(pki, port, name="recorder"):
    pki("leaf", "localhost", f"{name}.crt", f"{name}.key", "--ca", "provider.crt", "--ca-key", "provider.key", "--force")
    pki("bundle", f"{name}.pem", f"{name}.crt", "provider.crt", "--force")
    between = Recorder(pki.path(f"{name}.pem"), pki.path(f"{name}.key"), pki.path("root.crt"), port)
    try:
        yield between
    finally:
        between.close()


def join_by_files(pki, tenant):
    """The tenant's CA in tenant.crt, with its chain, and tenant.key."""
    pki("join-request", tenant, f"{tenant}.csr", f"{tenant}.key")
    pki("approve", f"{tenant}.csr", f"{tenant}.json", "--ca", "provider.crt", "--ca-key", "provider.key", "--roots", "root.crt")
    pki("join", f"{tenant}.json", f"{tenant}.crt", f"{tenant}-root.crt", "--key", f"{tenant}.key", "--fingerprint",
        pki.fingerprint())
