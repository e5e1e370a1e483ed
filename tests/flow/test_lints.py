# SPDX-License-Identifier: MIT
"""What "check" says of settings of security.tls that are allowed and unwise: one line each, with the place and why."""

import json
import re

import pytest

from pki import Pki


@pytest.fixture
def place(tmp_path):
    pki = Pki(tmp_path / "pki")
    leaf = pki.location("a").leaf("a.local")
    stored = tmp_path / "stored"
    stored.mkdir(mode=0o700)
    half_a_day = pki.location("b").leaf("a.local", days=(-0.01, 0.49))
    (stored / "certificate.pem").write_bytes(half_a_day.cert.read_bytes())
    (stored / "certificate.key").write_bytes(half_a_day.key.read_bytes())
    (stored / "certificate.key").chmod(0o600)
    return {"pki": pki, "leaf": leaf, "stored": stored, "folder": tmp_path}


def good(place):
    return {"server": {"enabled": True, "mode": "manual", "min_version": "1.2", **place["leaf"].settings(),
                       "mtls": {"enabled": True, "client_ca_files": [place["pki"].ca_file], "require_client_cert": True,
                                "allowed_client_cns": ["b.local"]}},
            "client": {"ca_files": [place["pki"].ca_file]}}


def acme(place, renew_before):
    return {"enabled": True, "directory_url": "https://ca.local:9000/acme/acme/directory", "email": "a@b.example",
            "domains": ["a.local"], "storage_path": str(place["stored"]), "renew_before": renew_before}


def check(command, place, tls):
    """(status, the lines that say something)."""
    file = place["folder"] / "config.json"
    file.write_text(json.dumps({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0}},
        {"id": "edge", "type": "websocket_output", "config": {"port": 8443, "path": "/data"}}], "security": {"tls": tls}}))
    done = command("check", file)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in lines if re.match(r"(\S+Z )?(warning|error|WARN) ", line)]


SERVER, MTLS, CLIENT = ("server",), ("server", "mtls"), ("client",)
LINTS = {
    "no certificate needed": (MTLS, {"require_client_cert": False}, "/security/tls/server/mtls/require_client_cert",
                              "clients without a certificate are accepted"),
    "no names": (MTLS, {"allowed_client_cns": []}, "/security/tls/server/mtls/allowed_client_cns",
                 "every client with a certificate of these CAs is accepted"),
    "no list": (MTLS, {"allowed_client_cns": None}, "/security/tls/server/mtls",
                "every client with a certificate of these CAs is accepted"),
    "star": (MTLS, {"allowed_client_cns": ["*"]}, "/security/tls/server/mtls/allowed_client_cns/0", "'*' is not a wildcard"),
    "star in a name": (MTLS, {"allowed_client_cns": ["b.local", "*.local"]},
                       "/security/tls/server/mtls/allowed_client_cns/1", "no certificate will match"),
    "not verified": (CLIENT, {"insecure_skip_verify": True}, "/security/tls/client/insecure_skip_verify",
                     "servers are not verified: anybody on the network path can read and change the data"),
    "old version": (SERVER, {"min_version": "1.1"}, "/security/tls/server/min_version", "TLS below 1.2 is insecure"),
    "old version of a client": (CLIENT, {"min_version": "1.0"}, "/security/tls/client/min_version", "TLS below 1.2 is insecure"),
}


@pytest.mark.parametrize("lint", LINTS)
def test_lint(command, place, lint):
    where, change, pointer, why = LINTS[lint]
    tls = good(place)
    assert check(command, place, tls) == (0, [])
    section = tls
    for name in where:
        section = section[name]
    section.update(change)
    if change.get("allowed_client_cns", 0) is None:
        del section["allowed_client_cns"]
    status, lines = check(command, place, tls)
    assert len(lines) == 1 and why in lines[0] and re.search(rf"config\.json:\d+:\d+ {pointer} ", lines[0]), lines
    assert status == (78 if "version" in lint else 0)


def test_renewal_in_the_first_half(command, place):
    """Of the certificate that is stored: 12 hours."""
    tls = good(place)
    tls["server"].update(mode="acme", acme=acme(place, "4h"))
    assert check(command, place, tls) == (0, [])
    tls["server"]["acme"] = acme(place, "8h")
    status, lines = check(command, place, tls)
    assert status == 0 and len(lines) == 1, lines
    assert "renew_before is more than half of the certificate's lifetime, using half of it" in lines[0], lines
