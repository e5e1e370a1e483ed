# SPDX-License-Identifier: MIT
"""security.tls of the running program: what check and start say, files that change, metrics.  No connection is made."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from pki import Key, Pki

UDP = {"id": "udp", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def location(pki):
    return pki.location("a")


def server(leaf, pki, **more):
    mtls = {"enabled": True, "client_ca_files": [pki.ca_file], "require_client_cert": True,
            "allowed_client_cns": ["semstreams-b.local"]}
    return {"tls": {"server": {"enabled": True, "mode": "manual", **leaf.settings(), "mtls": mtls, **more}}}


def config(security):
    return {"components": [UDP], "security": security, "admin": {"listen": "127.0.0.1:0"}}


def copy(leaf, folder):
    """The leaf's files, for changing; a certificate with their paths."""
    folder.joinpath("s.crt").write_bytes(leaf.cert.read_bytes())
    key = folder / "s.key"
    key.write_bytes(leaf.key.read_bytes())
    key.chmod(0o600)


def test_pki_is_good(pki, location):
    """What openssl thinks of the certificates of these tests."""
    leaf = location.leaf("semstreams-a.local")
    for purpose in "sslserver", "sslclient":
        subprocess.run(["openssl", "verify", "-purpose", purpose, "-CAfile", pki.ca_file, "-untrusted", location.crt,
                        leaf.cert], check=True)
    old = location.leaf("old", days=(-10, -3))
    done = subprocess.run(["openssl", "verify", "-CAfile", pki.ca_file, "-untrusted", location.crt, old.cert],
                          stderr=subprocess.PIPE, text=True)
    assert "certificate has expired" in done.stderr
    for what, leaf in pki.hostile(location, "good.local").items():
        assert subprocess.run(["openssl", "verify", "-CAfile", pki.ca_file, "-untrusted", location.crt,
                               leaf.cert]).returncode == 0, what


def test_check(command, tmp_path, pki, location):
    leaf = location.leaf("semstreams-a.local")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(server(leaf, pki))))
    done = command("check", file)
    assert (done.returncode, "security" in done.stderr) == (0, False), done.stderr

    file.write_text(json.dumps(config(server(leaf, pki, min_version="1.0"))))
    done = command("check", file)
    assert done.returncode == 78
    assert "/security/tls/server/min_version  TLS below 1.2" in done.stderr
    file.write_text(json.dumps(config(server(leaf, pki))))
    os.chmod(leaf.key, 0o640)
    done = command("check", file)
    os.chmod(leaf.key, 0o600)
    assert done.returncode == 78
    assert f'/security/tls/server/key_file  key file "{leaf.key}" is open to group or others' in done.stderr


def test_provider_is_not_there(command, tmp_path, pki, location):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(server(location.leaf("a"), pki, mode="vault"))))
    done = command("check", file)
    assert done.returncode == 78
    assert '/security/tls/server/mode  mode "vault" needs the plugin vault_tls, which was not found; known: manual' in done.stderr


def test_warnings(start, pki, location):
    security = server(location.leaf("old", days=(-10, -3)), pki)
    security["tls"]["server"]["mtls"]["require_client_cert"] = False
    security["tls"]["client"] = {"insecure_skip_verify": True}
    program = start(config(security))
    for pointer, text in (("server/cert_file", "certificate 'old' in .* expired .*Z; it is used, but peers will reject it"),
                          ("server/mtls/require_client_cert", "clients without a certificate are accepted"),
                          ("client/insecure_skip_verify", "servers are not verified")):
        program.wait_log(rf"WARN Configuration warning .*pointer=/security/tls/{pointer} reason=.*{text}")
    metrics = program.metrics()
    assert metrics.sum("semstreams_tls_insecure_skip_verify") == 1
    assert metrics.sum("semstreams_certificate_expiry_seconds", role="server") < -2 * 86400


def test_near_its_end_and_behind(start, command, tmp_path, pki, location):
    """A certificate with less than a tenth of its life left: check warns, /readyz is degraded; behind its end it is 503."""
    near, old = location.leaf("near", days=(-10, 1 / 24)), location.leaf("old", days=(-10, -3))
    copy(near, tmp_path)
    security = server(near, pki, cert_file="s.crt", key_file="s.key")
    (tmp_path / "near.json").write_text(json.dumps(config(security)))
    done = command("check", tmp_path / "near.json")
    assert done.returncode == 0
    assert re.search(r"/server/cert_file  certificate 'near' in .* expires .*: less than a tenth of its life is left", done.stderr)
    program = start(config(security))

    def ready():
        status, text = program.get("/readyz")
        page = json.loads(text)
        return status, *({each["component"]: each["reason"] for each in page[key]} for key in ("reasons", "degraded"))

    status, reasons, degraded = ready()
    assert (status, reasons, list(degraded)) == (200, {}, ["tls.server"])
    assert "certificate 'near' expires " in degraded["tls.server"]
    copy(old, tmp_path)
    program.signal(signal.SIGHUP)
    program.wait_for(lambda: ready()[0] == 503, what="not ready")
    assert "expired" in ready()[1]["tls.server"]


def test_change(start, tmp_path, pki, location):
    """Two files change by and by: nothing is taken before both fit."""
    one, two = location.leaf("one", days=(-1, 1)), location.leaf("two", days=(-1, 9))
    copy(one, tmp_path)
    security = server(one, pki, cert_file="s.crt", key_file="s.key")
    program = start(config(security))

    def left(m):
        return m.sum("semstreams_certificate_expiry_timestamp_seconds", role="server") - time.time()

    m = program.metrics()
    assert 0.9 * 86400 < left(m) < 1.1 * 86400
    assert abs(m.sum("semstreams_certificate_expiry_seconds") - left(m)) < 5
    reasons = {dict(labels)["reason"] for name, labels in m.select("semstreams_mtls_handshake_failures_total")}
    assert reasons == {"no_certificate", "unknown_ca", "expired", "not_yet_valid", "purpose", "name", "version", "other",
                       "revoked", "crl_expired"}

    tmp_path.joinpath("s.crt").write_bytes(two.cert.read_bytes())
    program.wait_log(r"ERROR Changed certificate files cannot be used, keeping the old ones role=server error=.*s.key.* "
                     r"does not match the certificate in")
    m = program.wait_metric("semstreams_tls_reload_failures_total", 1)
    assert left(m) < 2 * 86400 and m.sum("semstreams_tls_reloads_total") == 0
    copy(two, tmp_path)
    program.wait_log(r"INFO Hot-reloaded certificate without downtime path=\S*s.crt role=server subject='two' expiry=\S+Z")
    m = program.metrics()
    assert left(m) > 8 * 86400 and m.sum("semstreams_tls_reloads_total") == 1

    # at once on SIGHUP
    copy(one, tmp_path)
    program.signal(signal.SIGHUP)
    program.wait_log(r"INFO Hot-reloaded certificate .*subject='one'")
    assert m.sum("semstreams_tls_reload_failures_total") == 1
    assert program.terminate() == 0


@pytest.mark.parametrize("algorithm", [("-algorithm", "ED25519"), ("-algorithm", "RSA"),
                                       ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp384r1")])
def test_keys_of_openssl(command, tmp_path, pki, location, algorithm):
    leaf = location.leaf("a", key=Key(tmp_path / "a.key", *algorithm))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(server(leaf, pki))))
    done = command("check", file)
    assert done.returncode == 0, done.stderr
