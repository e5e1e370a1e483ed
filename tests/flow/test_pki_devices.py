# SPDX-License-Identifier: MIT
"""Certificates of devices: from a tenant's CA by files, from its step-ca by one-time tokens; revoked there."""

import base64
import json
import os
import time

import pytest

from joinlib import join_by_files, pki, provider, provider_files, recording, running, tool  # noqa: F401

BY_PASSWORD = ["--ca-passphrase-file", "tenant-password"]


@pytest.fixture
def tenant(provider_files):
    """Files of a tenant's CA."""
    join_by_files(provider_files, "tenant-a")
    provider_files.secret("tenant-password", "tr0ub4dor\n")
    return provider_files


@pytest.fixture
def tenant_ca(tenant):
    """The tenant's step-ca."""
    with running(tenant.folder / "tenant-ca", tenant.path("root.crt"), tenant.path("tenant-a.crt"), tenant.path("tenant-a.key"),
                 "tr0ub4dor") as ca:
        yield ca


def token(pki, ca, name, *more, file=None, status=0):
    return pki("token", name, file or f"{name}.token", "--ca", ca.origin, "--roots", "root.crt", *BY_PASSWORD, *more,
               status=status)


def device(pki, ca, name, *more, status=0, token_file=None):
    return pki("device", name, f"{name}.crt", f"{name}.key", "--ca", ca.origin, "--token-file", token_file or f"{name}.token",
               "--fingerprint", pki.fingerprint(), *more, status=status)


def verify(pki, name, purpose, status=0):
    return tool("openssl", "verify", "-purpose", purpose, "-CAfile", "root.crt", "-untrusted", f"{name}.crt", f"{name}.crt",
                cwd=pki.folder, status=status)


def blocks(pki, name):
    return pki.path(name).read_text().count("BEGIN CERTIFICATE")


def check_device(pki, name):
    """Device, tenant's CA, provider's CA below the root; a client and nothing else."""
    assert blocks(pki, f"{name}.crt") == 3
    verify(pki, name, "sslclient")
    verify(pki, name, "sslserver", status=2)
    text = tool("openssl", "x509", "-in", pki.path(f"{name}.crt"), "-noout", "-text")
    assert f"Subject: CN = {name}" in text and f"DNS:{name}\n" in text and "CA:TRUE" not in text
    assert "Digital Signature\n" in text and "TLS Web Server" not in text
    assert pki.path(f"{name}.key").stat().st_mode & 0o777 == 0o600


def test_by_files(tenant):
    ca = ["--ca", "tenant-a.crt", "--ca-key", "tenant-a.key"]
    tenant("device", "device-1", "device-1.crt", "device-1.key", *ca)
    check_device(tenant, "device-1")
    tenant("leaf", "svc.local", "svc.crt", "svc.key", "--san", "10.1.100.5", *ca)
    tenant("bundle", "svc.local.crt", "svc.crt", "tenant-a.crt")
    assert blocks(tenant, "svc.local.crt") == 3
    verify(tenant, "svc.local", "sslserver")
    verify(tenant, "svc.local", "sslclient")
    below = tenant("intermediate", "Too deep", "x.crt", "x.key", *ca, status=1)
    assert "path length is 0" in below.stderr


def test_by_a_token(tenant, tenant_ca):
    token(tenant, tenant_ca, "device-1")
    device(tenant, tenant_ca, "device-1")
    check_device(tenant, "device-1")
    before = tenant.files()
    used = tenant("device", "device-1", "again.crt", "again.key", "--ca", tenant_ca.origin, "--token-file", "device-1.token",
                  "--roots", "root.crt", status=1)
    assert "used already" in used.stderr and "401" in used.stderr and tenant.files() == before


def test_a_token_says_where_and_whom_to_trust(tenant, tenant_ca):
    """It came from elsewhere, and so did what it says."""
    token(tenant, tenant_ca, "device-2")
    tenant("device", "device-2", "device-2.crt", "device-2.key", "--token-env", "TOKEN",
           env={"TOKEN": tenant.path("device-2.token").read_text()})
    check_device(tenant, "device-2")


def test_a_service_by_a_token(tenant, tenant_ca):
    token(tenant, tenant_ca, "svc.local", "--profile", "service-leaf", "--san", "svc.local", "--san", "10.1.100.5")
    argv = ["leaf", "svc.local", "svc.local.crt", "svc.local.key", "--token-file", "svc.local.token"]
    other = tenant(*argv, "--san", "bank.example", status=1)
    assert "403" in other.stderr and not tenant.path("svc.local.key").exists()
    token(tenant, tenant_ca, "svc.local", "--profile", "service-leaf", "--san", "svc.local", "--san", "10.1.100.5", "--force")
    tenant(*argv, "--san", "10.1.100.5")
    verify(tenant, "svc.local", "sslserver")
    text = tool("openssl", "x509", "-in", tenant.path("svc.local.crt"), "-noout", "-text")
    assert "DNS:svc.local" in text and "IP Address:10.1.100.5" in text


def test_tokens_that_are_refused(tenant, tenant_ca):
    before = tenant.files()
    assert "a token is for" in token(tenant, tenant_ca, "device-1", "--profile", "root-ca", status=2).stderr
    tenant.secret("other", "wrong\n")
    assert "is wrong" in tenant("token", "device-1", "t", "--ca", tenant_ca.origin, "--roots", "root.crt",
                                "--ca-passphrase-file", "other", status=1).stderr
    os.unlink(tenant.path("other"))
    assert tenant.files() == before
    token(tenant, tenant_ca, "device-1")
    said = device(tenant, tenant_ca, "device-2", token_file="device-1.token", status=1)
    assert 'the token is for "device-1", not for "device-2"' in said.stderr
    # a tenant's CA signs no CA, and its template says so before the path length would
    token(tenant, tenant_ca, "device-3", "--profile", "sub-ca")
    said = device(tenant, tenant_ca, "device-3", status=1)
    assert "the CA" in said.stderr and not tenant.path("device-3.key").exists()
    for name, text, why in (("empty", "", "it is no token"), ("text", "a.b.c", "it is no token"),
                            ("long", "a" * 100000, "it is no token")):
        tenant.path(f"{name}.token").write_text(text)
        assert why in device(tenant, tenant_ca, name, status=1).stderr and not tenant.path(f"{name}.crt").exists()
    assert "--token-file or --token-env" in tenant("device", "d", "d.crt", "d.key", "--ca", tenant_ca.origin, status=1).stderr


def claims_of(file):
    payload = file.read_text().split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_tokens_and_their_time(tenant, tenant_ca):
    token(tenant, tenant_ca, "device-1", "--validity", "90s")
    claims = claims_of(tenant.path("device-1.token"))
    assert claims["exp"] - claims["iat"] == 90 and claims["sans"] == ["device-1"] and claims["profile"] == "device-leaf"
    assert claims["sha"] == tenant.fingerprint() and claims["aud"] == f"{tenant_ca.origin}/1.0/sign"
    now = int(time.time())
    for name, times, why in (("old", {"iat": now - 900, "nbf": now - 900, "exp": now - 600}, "the token expired"),
                             ("new", {"nbf": now + 600, "exp": now + 900}, "not valid before")):
        tenant.path(f"{name}.token").write_text(tenant_ca.token(name, **times))
        said = device(tenant, tenant_ca, name, status=1)
        assert why in said.stderr and "401" in said.stderr and not tenant.path(f"{name}.key").exists()
    # one that others have made
    tenant.path("device-3.token").write_text(tenant_ca.token("device-3") + "\n")
    device(tenant, tenant_ca, "device-3")
    check_device(tenant, "device-3")


# ---- revocation at step-ca: it renews no more

def renewal(pki, ca, name):
    """The HTTP status."""
    return ca.post("/1.0/renew", {}, (pki.path(f"{name}.crt"), pki.path(f"{name}.key")))[0]


def serial(pki, name):
    return int(tool("openssl", "x509", "-in", pki.path(f"{name}.crt"), "-noout", "-serial").strip().split("=")[1], 16)


@pytest.mark.parametrize("how", [["--key", "device-1.key"], BY_PASSWORD], ids=["key", "password"])
def test_revocation(tenant, tenant_ca, how):
    for name in ("device-1", "device-2"):
        token(tenant, tenant_ca, name)
        device(tenant, tenant_ca, name)
        assert renewal(tenant, tenant_ca, name) == 201
    # with its own key the connection is the device's; what goes by can be read where it is not
    if how == BY_PASSWORD:
        with recording(tenant, tenant_ca.port) as between:
            between_ca = ["--ca", between.url]
            said = tenant("revoke", "device-1.crt", *between_ca, "--roots", "root.crt", *how, status=1)
            assert "this CA has not signed" in said.stderr  # it is the provider's certificate that it shows
    tenant("revoke", "device-1.crt", "--ca", tenant_ca.origin, "--roots", "root.crt", "--reason", "keyCompromise", *how)
    assert b'"ReasonCode":1,"Reason":"keyCompromise"' in (tenant_ca.folder / "db").read_bytes()
    assert str(serial(tenant, "device-1")).encode() in (tenant_ca.folder / "db").read_bytes()
    assert renewal(tenant, tenant_ca, "device-1") == 401
    assert renewal(tenant, tenant_ca, "device-2") == 201
    again = tenant("revoke", "device-1.crt", "--ca", tenant_ca.origin, "--roots", "root.crt", *how, status=1)
    assert "revoked" in again.stderr


def test_revocations_that_are_refused(tenant, tenant_ca, provider):
    ca = ["--ca", tenant_ca.origin, "--roots", "root.crt", *BY_PASSWORD]
    for unknown in ("1234567890", "0x4d2", "4D:2F"):
        said = tenant("revoke", unknown, *ca, status=2)
        assert "any serial number" in said.stderr
    assert "takes no revocation back" in tenant("revoke", "tenant-a.crt", *ca, "--reinstate", status=2).stderr
    join_by_files(tenant, "tenant-b")
    tenant("device", "foreign", "foreign.crt", "foreign.key", "--ca", "tenant-b.crt", "--ca-key", "tenant-b.key")
    said = tenant("revoke", "foreign.crt", *ca, status=1)
    assert 'this CA has not signed "foreign"' in said.stderr
    # not even its own certificate
    assert 'has not signed "tenant-a"' in tenant("revoke", "tenant-a.crt", *ca, status=1).stderr
    # the provider's does, which takes the reply that it gave, too
    at = ["--ca", provider.origin, "--roots", "root.crt", "--ca-passphrase-file", "password"]
    tenant("revoke", "tenant-a.json", *at)
    assert "revoked" in tenant("revoke", "tenant-a.crt", *at, status=1).stderr
