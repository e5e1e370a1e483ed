# SPDX-License-Identifier: MIT
"""semstreams pki renew --ca URL: certificates renewed by a real step-ca, to which they show themselves."""

import re

import pytest

from lab.ports import unused_port
from test_pki import pki, tool  # noqa: F401
from test_pki_step_ca import Home


@pytest.fixture
def home(pki):  # noqa: F811
    """A step-ca that runs on a tree with services, and what the tree is."""
    port = unused_port()
    pki("init", "--layout", "step-ca", "--address", f"127.0.0.1:{port}")
    pki("services")
    with Home(pki.path("config/step-ca"), "ca.json", "pki/root_ca.crt", "secrets/password.txt", port) as ca:
        yield ca


def pairs(pki):  # noqa: F811
    """Serial number and public key of each service."""
    found = {}
    for crt in sorted(pki.path("data/certs").glob("*/*.crt")):
        if crt.with_suffix(".key").exists():
            text = tool("openssl", "x509", "-in", crt, "-noout", "-serial", "-pubkey")
            found[crt.parent.name] = (re.search("serial=(.*)", text)[1], re.search("BEGIN.*", text, re.S)[0])
    return found


def test_services(pki, home):  # noqa: F811
    """Each service has a new serial number, the same key, and the tree is as it should be; nothing is due twice."""
    before = pairs(pki)
    assert len(before) == 8
    assert "nothing is due" in pki("renew", "--ca", home.url).stdout
    assert pairs(pki) == before
    pki("renew", "--force", "--ca", home.url)
    after = pairs(pki)
    assert after.keys() == before.keys()
    for name, (serial, key) in after.items():
        assert serial != before[name][0] and key == before[name][1], name
    assert pki("verify").stdout.endswith("All checks passed!\n")


def test_one(pki, home, tmp_path):  # noqa: F811
    """A certificate outside of a tree, and what is refused: nothing of it is changed then."""
    pki("csr", "a.local", "a.csr", "a.key")
    assert home.order("admin", pki.path("a.csr"), "a.local", pki.path("a.crt")) == 201
    first = pki.path("a.crt").read_text()
    root = str(home.root)

    def serial():
        return tool("openssl", "x509", "-in", pki.path("a.crt"), "-noout", "-serial")

    one = serial()
    assert "not due" in pki("renew", "a.crt", "a.key", "--ca", home.url, "--roots", root).stdout
    assert serial() == one
    pki("renew", "a.crt", "a.key", "--ca", home.url, "--roots", root, "--force")
    two = serial()
    assert two != one and pki.path("a.crt").read_text().count("BEGIN") == first.count("BEGIN") == 2
    tool("openssl", "verify", "-CAfile", root, "-untrusted", pki.path("a.crt"), pki.path("a.crt"))
    pki("renew", "a.crt", "a.key", "--ca", home.url, "--force", env={"STEP_CA_FINGERPRINT": pki("fingerprint", root).stdout.strip()})
    three = serial()
    assert three not in (one, two)
    # of another CA, by another root, without its key
    pki("root", "Other Root", "other.crt", "other.key", "--key-type", "p256")
    pki("leaf", "b.local", "b.crt", "b.key", "--ca", "other.crt", "--ca-key", "other.key")
    before = pki.path("b.crt").read_text()
    said = pki("renew", "b.crt", "b.key", "--ca", home.url, "--roots", root, "--force", status=1).stderr
    assert "the CA does not accept our certificate" in said and pki.path("b.crt").read_text() == before
    said = pki("renew", "a.crt", "a.key", "--ca", home.url, "--roots", "other.crt", "--force", status=1).stderr
    assert "signed by unknown authority" in said
    said = pki("renew", "a.crt", "b.key", "--ca", home.url, "--roots", root, "--force", status=1).stderr
    assert "cannot be used" in said and serial() == three
    assert "--ca with the URL" in pki("renew", "a.crt", "a.key", status=2).stderr
