# SPDX-License-Identifier: MIT
"""Certificates, keys and CAs that one TLS library reads and the other will not use: refused before they are in use, with
the reason and the place, and the old ones stay."""

import json
import shutil
import signal
import ssl

import pytest
from pki import openssl
from test_tls_provider import Toy, plugins, ready, shown  # noqa: F401

EC = ["-algorithm", "EC", "-pkeyopt"]


def named(curve):
    return [*EC, f"ec_paramgen_curve:{curve}", "-pkeyopt", "ec_param_enc:named_curve"]


RSA = ["-algorithm", "RSA", "-pkeyopt"]
P256 = named("P-256")


class Made:
    """A certificate in .cert, with its issuers behind it, and its key in .key."""

    def __init__(self, folder, name, algorithm=None, digest="sha256", issuer=None, ca=False, key=None):
        self.name, self.issuer = name, issuer
        self.key, self.cert, self.own = (folder / f"{name}.{what}" for what in ("key", "crt", "own"))
        self.key.write_bytes(key or openssl("genpkey", *(algorithm or P256)))
        self.key.chmod(0o600)
        signer = ["-key", self.key]
        request = openssl("req", "-new", "-key", self.key, "-subj", f"/CN={name}")
        extensions = folder / "extensions"
        extensions.write_text("basicConstraints=critical,CA:TRUE\n" if ca else
                              "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signer = ["-signkey", self.key] if issuer is None else ["-CA", issuer.own, "-CAkey", issuer.key, "-CAcreateserial"]
        self.own.write_bytes(openssl("x509", "-req", *signer, f"-{digest}", "-days", "2", "-extfile", extensions,
                                     data=request))
        chain, at = self.own.read_bytes(), issuer
        while at and at.issuer:
            chain, at = chain + at.own.read_bytes(), at.issuer
        self.cert.write_bytes(chain)

    def settings(self):
        return {"cert_file": str(self.cert), "key_file": str(self.key)}

    def replace(self, other):
        """This one's files, with the other's content."""
        shutil.copyfile(other.key, self.key)
        shutil.copyfile(other.cert, self.cert)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")

    def make(name, *args, **options):
        return Made(folder, name, *args, **options)

    return make


@pytest.fixture(scope="module")
def root(made):
    return made("root", ca=True)


def dsa(folder):
    parameters = folder / "dsa"
    parameters.write_bytes(openssl("genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:2048"))
    return ["-paramfile", parameters]


def by_sha1(made, root, name):
    return made(name, digest="sha1", issuer=root)


def under_sha1(made, root, name):
    return made(name, issuer=made(name + "-ca", digest="sha1", issuer=root, ca=True))


def under_weak(made, root, name):
    return made(name, issuer=made(name + "-ca", [*RSA, "rsa_keygen_bits:1024"], issuer=root, ca=True))


def of(*algorithm):
    return lambda made, root, name: made(name, list(algorithm), issuer=root)


def of_dsa(made, root, name):
    return made(name, dsa(root.key.parent), issuer=root)


UNUSABLE = {
    "sha1": (by_sha1, "cert_file", "certificate 1, 'sha1', is signed with SHA-1"),
    "under-sha1": (under_sha1, "cert_file", "certificate 2, 'under-sha1-ca', is signed with SHA-1"),
    "under-weak": (under_weak, "cert_file", "certificate 2, 'under-weak-ca', has an RSA key of 1024 bits"),
    "rsa1024": (of(*RSA, "rsa_keygen_bits:1024"), "cert_file", "certificate 1, 'rsa1024', has an RSA key of 1024 bits"),
    "p192": (of(*named("P-192")), "cert_file", "an EC key on curve prime192v1"),
    "p224": (of(*named("P-224")), "cert_file", "an EC key on curve secp224r1"),
    "dsa": (of_dsa, "cert_file", "a DSA key of 2048 bits"),
    "k256": (of(*named("secp256k1")), "key_file", "an EC key on curve secp256k1, which is not supported"),
    "brainpool": (of(*named("brainpoolP256r1")), "key_file", "an EC key on curve brainpoolP256r1, which is not supported"),
    "explicit": (of(*EC, "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"), "key_file",
                 "has explicit curve parameters"),
}


@pytest.fixture
def check(command, tmp_path):
    """check(tls): its exit status and what it printed."""

    def run(tls):
        file = tmp_path / "check.json"
        udp = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
        file.write_text(json.dumps({"components": [udp], "security": {"tls": tls}}))
        done = command("check", file)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_identity(check, made, root, name):
    make, where, why = UNUSABLE[name]
    bad = make(made, root, name)
    for role, tls in (("server", {"enabled": True, **bad.settings()}), ("client", bad.settings())):
        status, told = check({role: tls})
        assert status == 78, told
        assert f"/security/tls/{role}/{where}" in told and why in told, told


@pytest.mark.parametrize("algorithm", [["-algorithm", "RSA"], ["-algorithm", "RSA-PSS"], named("P-384"), named("P-521"),
                                       ["-algorithm", "ED25519"], ["-algorithm", "ED448"]], ids=lambda a: a[-1][-12:])
def test_usable_identity(check, made, root, algorithm):
    good = made("good", algorithm, issuer=made("intermediate", issuer=root, ca=True))
    status, told = check({"server": {"enabled": True, "min_version": "1.3", **good.settings()}, "client": good.settings()})
    assert status == 0, told


def test_unusable_ca(check, made, root):
    weak = made("weak", [*RSA, "rsa_keygen_bits:1024"], ca=True)
    foreign = made("foreign", named("brainpoolP384r1"), ca=True)
    good = made("serves", issuer=root)

    def tls(*cas):
        cas = [str(ca) for ca in cas]
        mtls = {"enabled": True, "client_ca_files": cas, "allowed_client_cns": ["a"]}
        return {"server": {"enabled": True, **good.settings(), "mtls": mtls}, "client": {"ca_files": cas}}

    for ca, why in (weak, "has an RSA key of 1024 bits"), (foreign, "has an EC key on curve brainpoolP384r1"):
        status, told = check(tls(root.own, ca.own))
        assert status == 78 and "client_ca_files/1" in told and "client/ca_files/1" in told, told
        assert told.count(f"holds no CA that can be used: CA '{ca.name}' {why}") == 2, told
    # an old one in a bundle does no harm
    bundle = root.own.with_name("bundle")
    bundle.write_bytes(weak.own.read_bytes() + root.own.read_bytes())
    status, told = check(tls(bundle))
    assert status == 0 and "CA 'weak' in" in told and "what it signed will not verify" in told, told
    # whoever is trusted is not asked who signed it
    assert check(tls(made("old", digest="sha1", issuer=root, ca=True).own))[0] == 0


def listener(tls, folder=None):
    hub = {"id": "hub", "type": "websocket_output", "config": {"bind": "127.0.0.1", "port": 0, "path": "/"}}
    udp = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}
    return {"components": [udp, hub], "security": {"tls": tls}, "admin": {"listen": "127.0.0.1:0"},
            "plugins": {"paths": [folder] if folder else []}}


class Ca:
    def __init__(self, root):
        self.ca_file = str(root.own)


def der(made_one):
    return ssl.PEM_cert_to_DER_cert(made_one.own.read_text())


@pytest.mark.parametrize("name", ["sha1", "under-sha1", "p224"])
def test_unusable_change(start, made, root, name):
    """Files that change into what cannot be used: the old ones go on, and it shows."""
    make, _, why = UNUSABLE[name]
    one, two, bad = made("one", issuer=root), made("two", issuer=root), make(made, root, name)
    files = made("files", issuer=root)
    files.replace(one)
    program = start(listener({"server": {"enabled": True, **files.settings()}}))
    port = int(program.wait_log(r"INFO TLS server started .*port=(\d+)")[1])
    assert shown(port, Ca(root)) == der(one)

    files.replace(bad)
    program.signal(signal.SIGHUP)
    line = program.wait_log(r"ERROR Changed certificate files cannot be used, keeping the old ones role=server error=.*")[0]
    assert why in line
    program.wait_for(lambda: "tls.server" in ready(program)[2])
    status, _, degraded = ready(program)
    assert status == 200 and why in degraded["tls.server"]
    assert shown(port, Ca(root)) == der(one)
    assert program.metrics().sum("semstreams_tls_reload_failures_total") == 1

    files.replace(two)
    program.signal(signal.SIGHUP)
    program.wait_log("INFO Hot-reloaded certificate without downtime .*subject='two'")
    program.wait_for(lambda: ready(program) == (200, {}, {}))
    assert shown(port, Ca(root)) == der(two)


def test_unusable_ca_change(start, made, root):
    weak, files = made("weak", [*RSA, "rsa_keygen_bits:1024"], ca=True), made("trusted", ca=True)
    program = start(listener({"client": {"ca_files": [str(files.cert)]}}))
    files.replace(weak)
    program.signal(signal.SIGHUP)
    program.wait_log(r"ERROR Changed certificate files .*role=client error=.*holds no CA that can be used: CA 'weak'")
    program.wait_for(lambda: "tls.client" in ready(program)[2])


@pytest.mark.parametrize("name", ["sha1", "dsa"])
def test_unusable_from_provider(start, tmp_path, made, root, plugins, name):  # noqa: F811
    make, _, why = UNUSABLE[name]
    one, bad = made("one", issuer=root), make(made, root, name)
    toy = {"storage_path": "one", "control": "control", "cert": str(one.cert), "key": str(one.key)}
    program = start(listener({"server": {"enabled": True, "mode": "toy", "toy": toy}}, plugins))
    port = int(program.wait_log(r"INFO TLS server started .*port=(\d+)")[1])
    Toy(tmp_path).publish(bad)
    assert why in program.wait_log(r"Toy published result=-22 why=.*")[0]
    assert shown(port, Ca(root)) == der(one)


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("pkcs8", [False, True], ids=["SEC1", "PKCS8"])
def test_key_without_public_part(check, made, root, curve, pkcs8):
    one, other = made("whole", named(curve), issuer=root), made("other", named(curve), issuer=root)
    key = openssl("ec", "-in", one.key, "-no_public")
    if pkcs8:
        key = openssl("pkcs8", "-topk8", "-nocrypt", data=key)
    one.key.write_bytes(key)
    status, told = check({"server": {"enabled": True, **one.settings()}})
    assert status == 0, told
    # it is still known whose it is
    other.key.write_bytes(key)
    status, told = check({"server": {"enabled": True, **other.settings()}})
    assert status == 78 and "does not match the certificate" in told, told


@pytest.mark.parametrize("curve", ["P-256", "P-521"])
def test_key_without_public_part_serves(start, made, root, curve):
    one = made("serving", named(curve), issuer=root)
    one.key.write_bytes(openssl("ec", "-in", one.key, "-no_public"))
    program = start(listener({"server": {"enabled": True, **one.settings()}}))
    port = int(program.wait_log(r"INFO TLS server started .*port=(\d+)")[1])
    assert shown(port, Ca(root)) == der(one)


def test_key_of_another_kind(check, made, root):
    good = made("kinds", issuer=root)
    for key, why in ((openssl("genpkey", "-algorithm", "X25519"), "does not match the certificate"),
                     (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "ssh-keygen -p -m"),
                     (b"-----BEGIN EC PRIVATE KEY-----\nMAMCAQE=\n-----END EC PRIVATE KEY-----\n", "cannot be read")):
        good.key.write_bytes(key)
        status, told = check({"server": {"enabled": True, **good.settings()}})
        assert status == 78 and "/security/tls/server/key_file" in told and why in told, told
