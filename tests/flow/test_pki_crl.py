# SPDX-License-Identifier: MIT
"""semstreams pki revoke, crl and verify --crl, against openssl, certtool, SoftHSM and the host."""

import asyncio
import concurrent.futures
import fcntl
import json
import os
import re
import socket
import ssl
import time
from pathlib import Path

import pytest

from conftest import PATIENCE, unused_port
from test_crl import put
from test_link_trust import CUT, dial, hello
from test_pki import cas, pki, serial, tool  # noqa: F401

CA = ["--ca", "ca.crt"]
KEY = ["--ca-key", "ca.key"]


def text_of(pki, crl="ca.crl"):
    return tool("openssl", "crl", "-in", crl, "-noout", "-text", cwd=pki.folder)


def number_of(pki, crl="ca.crl"):
    return int(tool("openssl", "crl", "-in", crl, "-noout", "-crlnumber", cwd=pki.folder).split("=0x")[1], 16)


def crl(pki, *more, **kwargs):
    return pki("crl", "ca.crl", *CA, *KEY, *more, **kwargs)


def hex_of(pki, name):
    return serial(pki.path(f"{name}.crt")).strip().split("=")[1]


# ---- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "p256", "p384", "ed25519"])
def test_lists_of_all_keys(pki, kind):
    """Others read and verify it, empty and with entries; the reason is in it."""
    pki("root", "R", "ca.crt", "ca.key", "--key-type", kind)
    pki.leaf("a")
    crl(pki)
    assert "No Revoked Certificates" in text_of(pki)
    assert "verify OK" in tool("openssl", "crl", "-in", "ca.crl", "-noout", "-CAfile", "ca.crt", cwd=pki.folder)
    pki("revoke", "a.crt", *CA, "--reason", "keyCompromise")
    crl(pki)
    text = text_of(pki)
    assert "Version 2" in text and f"Serial Number: {hex_of(pki, 'a')}" in text and "Key Compromise" in text
    assert "X509v3 Authority Key Identifier" in text
    assert "verify OK" in tool("openssl", "crl", "-in", "ca.crl", "-noout", "-CAfile", "ca.crt", cwd=pki.folder)
    if kind != "ed25519":  # GnuTLS 3.7's certtool wants another flag for it
        assert "Verified" in tool("certtool", "--verify-crl", "--load-ca-certificate", "ca.crt", "--infile", "ca.crl", cwd=pki.folder)
    pki.path("all.pem").write_text(pki.path("ca.crl").read_text() + pki.path("ca.crt").read_text())
    assert "certificate revoked" in tool("openssl", "verify", "-crl_check", "-CAfile", "all.pem", "a.crt", cwd=pki.folder, status=2)
    assert pki.path("ca.crl").stat().st_mode & 0o777 == 0o644


def test_next_update(cas):
    crl(cas)
    assert "validity" in cas("crl", "--help").stdout

    def days():
        text = tool("openssl", "crl", "-in", "ca.crl", "-noout", "-lastupdate", "-nextupdate", cwd=cas.folder)
        times = [time.mktime(time.strptime(t, "%b %d %H:%M:%S %Y GMT")) for t in re.findall(r"Update=(.*)", text)]
        return (times[1] - times[0]) / 86400
    assert abs(days() - 7) < 0.1
    crl(cas, "--validity", "30d")
    assert abs(days() - 30) < 0.1
    assert "the CA ends before the next list is due" in crl(cas, "--validity", "9999d").stderr


def test_the_number_only_grows(cas):
    for n in 1, 2, 3:
        assert f"number {n}," in crl(cas).stdout and number_of(cas) == n
    cas.path("ca.index").unlink()
    crl(cas)
    assert number_of(cas) == 4, "the index was lost, the list not"
    cas.path("ca.crl").unlink()
    crl(cas)
    assert number_of(cas) == 5, "the list was lost, the index not"


def test_numbers_of_many_at_once(cas):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: cas("crl", f"{n}.crl", *CA, *KEY, "--json"), range(8)))
    assert sorted(json.loads(d.stdout)["number"] for d in done) == list(range(1, 9))


def test_a_list_of_another_ca_is_not_replaced(cas):
    cas("crl", "ca.crl", "--ca", "root.crt", "--ca-key", "root.key")
    before = cas.path("ca.crl").read_bytes()
    assert "is the revocation list of another CA" in crl(cas, status=1).stderr
    cas.path("ca.crl").write_text("hello")
    assert "there is no revocation list in it" in crl(cas, status=1).stderr
    assert before and cas.path("ca.crl").read_text() == "hello"


def test_who_may_sign(cas):
    cas.leaf("a")
    wrong = cas("crl", "x.crl", "--ca", "a.crt", "--ca-key", "a.key", status=1)
    assert '"a" is no CA' in wrong.stderr
    wrong = cas("crl", "x.crl", "--ca", "ca.crt", "--ca-key", "root.key", status=1)
    assert "the key is not that of" in wrong.stderr and not cas.path("x.crl").exists()
    assert "--ca-key is needed" in cas("crl", "x.crl", *CA, status=2).stderr
    assert "--ca is needed" in cas("crl", status=2).stderr


def test_json(cas):
    cas.leaf("a")
    revoked = json.loads(cas("revoke", "a.crt", *CA, "--reason", "superseded", "--json").stdout)
    assert revoked == {"serial_number": hex_of(cas, "a").lower(), "subject": "a", "revoked": True, "reason": "superseded"}
    made = json.loads(crl(cas, "--json").stdout)
    assert made["number"] == 1 and made["revoked"] == 1 and made["crl"] == "ca.crl"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["next_update"])
    shown = json.loads(cas("crl", *CA, "--json").stdout)
    assert shown["number"] == 1 and [(e["subject"], e["reason"]) for e in shown["revoked"]] == [("a", "superseded")]
    assert hex_of(cas, "a").lower() in cas("crl", *CA).stdout


# ---- who is revoked ------------------------------------------------------------------------------------------------


def spellings(value):
    n = int(value, 16)
    pairs = re.findall("..", value)
    return {"hex": value, "lower": value.lower(), "prefix": f"0x{value}", "colons": ":".join(pairs), "decimal": str(n)}


@pytest.mark.parametrize("how", ["hex", "lower", "prefix", "colons", "decimal", "file"])
def test_ways_to_name_it(cas, how):
    cas.leaf("a")
    cas.leaf("b")
    value = hex_of(cas, "a")
    done = cas("revoke", "a.crt" if how == "file" else spellings(value)[how], *CA)
    assert '"a" is revoked' in done.stdout
    crl(cas)
    assert value in text_of(cas) and hex_of(cas, "b") not in text_of(cas)


def test_an_unknown_serial_is_an_error(cas):
    cas.leaf("a")
    for word in "1234", "0xabcdef", "12:34", str(1 << 100):
        wrong = cas("revoke", word, *CA, status=1)
        assert "is not known: this CA has issued no such certificate, says ca.index" in wrong.stderr
    for word in "hello", "0x", "12g4", "9" * 400:
        assert "is neither a file nor a serial in hex or decimal" in cas("revoke", word, *CA, status=1).stderr
    cas("revoke", "0xabcdef", *CA, "--force")
    cas("revoke", "128", *CA, "--force")
    crl(cas)
    assert "Serial Number: ABCDEF" in text_of(cas) and "Serial Number: 80" in text_of(cas)


def test_a_certificate_of_another_ca(cas):
    cas.leaf("a")
    wrong = cas("revoke", "a.crt", "--ca", "root.crt", status=1)
    assert '"a" has not been issued by "Test Root"' in wrong.stderr
    assert "unknown reason" in cas("revoke", "a.crt", *CA, "--reason", "keyCompromised", status=2).stderr


def test_twice_and_back(cas):
    cas.leaf("a")
    assert "is not revoked" in cas("revoke", "a.crt", *CA, "--reinstate", status=1).stderr
    cas("revoke", "a.crt", *CA, "--reason", "certificateHold")
    assert "is revoked already" in cas("revoke", "a.crt", *CA, "--reason", "certificateHold", status=1).stderr
    crl(cas)
    assert "Certificate Hold" in text_of(cas)
    cas("revoke", "a.crt", *CA, "--reinstate")
    crl(cas)
    assert "No Revoked" in text_of(cas)
    cas("revoke", "a.crt", *CA, "--reason", "keyCompromise")
    assert "is revoked for good (keyCompromise)" in cas("revoke", "a.crt", *CA, "--reinstate", status=1).stderr
    cas("revoke", "a.crt", *CA, "--reinstate", "--force")


def test_what_signs_is_recorded(cas):
    """Leaves, CAs and what others ask for."""
    cas.leaf("a")
    cas("csr", "b", "b.csr", "b.key")
    cas.sign("b.csr", "--profile", "service-leaf")
    lines = [line.split("\t") for line in cas.path("ca.index").read_text().splitlines()]
    assert [(w[0], w[3]) for w in lines if w[0] == "issued"] == [("issued", "a"), ("issued", "b")]
    cas("revoke", str(int(serial(cas.path("out.crt")).split("=")[1], 16)), *CA)
    cas("revoke", hex_of(cas, "ca"), "--ca", "root.crt")


def test_a_line_that_was_cut_off(cas):
    """What a crash left of a line is not a certificate, and what follows is not lost."""
    cas.leaf("a")
    cas.leaf("b")
    index, value = cas.path("ca.index"), hex_of(cas, "a").lower()
    with open(index, "a") as f:
        f.write(f"revoked\t{value}\t2026-01-01T00:00:00Z\tkeyCompr")
    cas("revoke", "b.crt", *CA)
    shown = cas("crl", *CA).stdout
    assert value not in shown and hex_of(cas, "b").lower() in shown


def test_a_new_ca_in_its_place(cas):
    """The index of the old one is put aside, and says nothing of the new one's certificates."""
    cas.leaf("a")
    cas("revoke", "a.crt", *CA)
    cas.intermediate("--force")
    assert cas("crl", *CA).stdout == ""
    cas.leaf("b")
    crl(cas)
    assert "No Revoked" in text_of(cas) and cas.path("ca.index.old").exists()
    cas("revoke", "b.crt", *CA)
    first, second = cas.path("ca.index.old").read_text(), cas.path("ca.index").read_text()
    cas.intermediate("--force")
    cas.leaf("c")
    assert [cas.path(f"ca.index{end}").read_text() for end in (".old", ".old.2")] == [first, second]


def test_an_index_that_is_moved_away_meanwhile(cas):
    """Who waits for its lock records nothing in a file that nobody reads."""
    cas.leaf("a")
    index, old = cas.path("ca.index"), cas.path("ca.index.old")
    with open(index) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        inode, before = os.fstat(held.fileno()).st_ino, index.read_text()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            leaf = pool.submit(cas.leaf, "b")
            deadline = time.monotonic() + PATIENCE
            while not re.search(rf"-> FLOCK .*:{inode} ", Path("/proc/locks").read_text()):
                assert time.monotonic() < deadline and not leaf.done()
            index.rename(old)
            fcntl.flock(held, fcntl.LOCK_UN)
            leaf.result()
    assert old.read_text() == before
    assert hex_of(cas, "b").lower() in index.read_text()


def test_an_index_that_cannot_be_written(cas):
    """A leaf is made all the same, and its file revokes it later."""
    cas.path("ca.index").mkdir()
    assert "the certificate is not recorded" in cas.leaf("a").stderr
    assert "ca.index" in cas("revoke", "a.crt", *CA, status=1).stderr
    cas.path("ca.index").rmdir()
    cas("revoke", "a.crt", *CA)


def test_what_has_ended_is_left_out(cas):
    """Once a list has had it after its end, so that lists do not grow for ever."""
    cas.leaf("a", "--validity", "1s")
    cas("revoke", "a.crt", *CA)
    crl(cas)
    assert hex_of(cas, "a") in text_of(cas), "still in it"
    deadline = time.monotonic() + PATIENCE
    while json.loads(crl(cas, "--validity", "1s", "--json").stdout)["revoked"]:
        assert time.monotonic() < deadline


def test_a_hundred_thousand(cas):
    """Made, listed and read again."""
    cas.leaf("a")
    with open(cas.path("ca.index"), "a") as f:
        for n in range(100_000):
            f.write(f"revoked\t{(1 << 126) + n * 2654435761:032x}\t2026-01-01T00:00:00Z\tsuperseded\t-\tx\t.\n")
    cas("revoke", "a.crt", *CA)
    assert json.loads(crl(cas, "--json").stdout)["revoked"] == 100_001
    assert '"a" is revoked' in cas("verify", "a.crt", "--roots", "root.crt", "--intermediate", "ca.crt", "--crl", "ca.crl", status=1).stdout


def test_a_key_on_a_token(pki, tmp_path):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    module = next(iter(Path("/usr/lib").rglob("libsofthsm2.so")), None)
    if not module:
        pytest.skip("softhsm2 is missing")
    env = {"SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}
    tool("softhsm2-util", "--init-token", "--free", "--label", "HSM", "--so-pin", "12345678", "--pin", "4321",
         env={**os.environ, **env})
    for n, kind in enumerate((["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
                              ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), 1):
        tool("openssl", "genpkey", *kind, "-out", "k.pem", cwd=tmp_path)
        tool("softhsm2-util", "--import", "k.pem", "--token", "HSM", "--label", f"key-{n}", "--id", f"0{n}", "--pin", "4321",
             cwd=tmp_path, env={**os.environ, **env})
        pki.path("pin").write_text("4321")
        pki.path("pin").chmod(0o600)
        uri, token = f"pkcs11:token=HSM;object=key-{n};type=private", ["--pkcs11-module", module]
        pki("root", "HSM Root", f"r{n}.crt", uri, "--passphrase-file", "pin", *token, env=env)
        signer = ["--ca", f"r{n}.crt", "--ca-key", uri, "--ca-passphrase-file", "pin", *token]
        pki("leaf", "a", f"a{n}.crt", f"a{n}.key", *signer, env=env)
        pki("revoke", f"a{n}.crt", "--ca", f"r{n}.crt")
        pki("crl", f"r{n}.crl", *signer, env=env)
        assert "verify OK" in tool("openssl", "crl", "-in", f"r{n}.crl", "-noout", "-CAfile", f"r{n}.crt", cwd=tmp_path)


# ---- verify --crl --------------------------------------------------------------------------------------------------


def test_verify(cas):
    cas.leaf("a")
    cas.leaf("b")
    cas("revoke", "a.crt", *CA)
    crl(cas)
    cas("crl", "root.crl", "--ca", "root.crt", "--ca-key", "root.key")
    chain = ["--roots", "root.crt", "--intermediate", "ca.crt"]
    lists = ["--crl", "ca.crl", "--crl", "root.crl"]
    assert 'WRONG: "a" is revoked, says ca.crl' in cas("verify", "a.crt", *chain, *lists, status=1).stdout
    cas("verify", "b.crt", *chain, *lists)
    told = json.loads(cas("verify", "a.crt", *chain, *lists, "--json", status=1).stdout)
    assert told["wrong"] == ['"a" is revoked, says ca.crl']
    tool("openssl", "crl", "-in", "ca.crl", "-outform", "DER", "-out", "ca.der", cwd=cas.folder)
    assert "is revoked" in cas("verify", "a.crt", *chain, "--crl", "ca.der", status=1).stdout
    cas("revoke", "ca.crt", "--ca", "root.crt", "--reason", "cACompromise")
    cas("crl", "root.crl", "--ca", "root.crt", "--ca-key", "root.key")
    assert 'WRONG: its CA "Test CA" is revoked, says root.crl' in cas("verify", "b.crt", *chain, *lists, status=1).stdout


def test_verify_with_a_wrong_list(cas):
    cas.leaf("a")
    chain = ["a.crt", "--roots", "root.crt", "--intermediate", "ca.crt"]
    cas("root", "Other", "other.crt", "other.key", "--key-type", "p256")
    cas("crl", "other.crl", "--ca", "other.crt", "--ca-key", "other.key")
    assert "is of none of its CAs" in cas("verify", *chain, "--crl", "other.crl", status=1).stdout
    assert "no revocation list in it" in cas("verify", *chain, "--crl", "a.crt", status=1).stderr
    assert "cannot be read" in cas("verify", *chain, "--crl", "nothing", status=1).stderr
    crl(cas)
    good = cas.path("ca.crl").read_text()
    cas.path("half.crl").write_text(good + good[:len(good) // 2])
    assert "or a damaged one" in cas("verify", *chain, "--crl", "half.crl", status=1).stderr
    assert "--crl goes with --roots" in cas("verify", "--crl", "other.crl", status=2).stderr
    crl(cas, "--validity", "1s")
    deadline = time.monotonic() + PATIENCE
    while "expired at" not in (told := cas.command("pki", "verify", *chain, "--crl", "ca.crl").stdout):
        assert time.monotonic() < deadline, told


# ---- with the host -------------------------------------------------------------------------------------------------


def test_a_provider_revokes_a_tenant(cas, start, tmp_path):
    """Two tenants below a provider; the list of the provider cuts off the devices of one."""
    for tenant in "one", "two":
        cas("intermediate", f"Tenant {tenant}", f"{tenant}.crt", f"{tenant}.key", "--profile", "sub-ca", *CA, *KEY)
        device = f"device-{tenant}"
        cas("leaf", device, f"{device}.crt", f"{device}.key", "--profile", "device-leaf", "--ca", f"{tenant}.crt", "--ca-key",
            f"{tenant}.key")
        cas("bundle", f"{device}.pem", f"{device}.crt", f"{tenant}.crt", "ca.crt")
    cas.leaf("hub", "--san", "localhost")
    cas("bundle", "hub.pem", "hub.crt", "ca.crt")
    crl(cas)
    published, port = tmp_path / "published.crl", unused_port(socket.SOCK_STREAM)

    def publish():
        put(published, cas.path("ca.crl").read_bytes() + cas.path("ca.crt").read_bytes())
    publish()
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data", "bind": "127.0.0.1"}}],
        "security": {"tls": {"server": {
            "enabled": True, "cert_file": "hub.pem", "key_file": "hub.key",
            "mtls": {"enabled": True, "client_ca_files": ["root.crt"], "allowed_client_cns": ["device-one", "device-two"],
                     "crl_files": [str(published)]}}}}})

    async def connect(tenant):
        context = ssl.create_default_context(cafile=cas.path("root.crt"))
        context.load_cert_chain(cas.path(f"device-{tenant}.pem"), cas.path(f"device-{tenant}.key"))
        ws = await dial(port, context)
        await ws.send(hello(""))
        assert json.loads(await asyncio.wait_for(ws.recv(), PATIENCE))["t"] == "welcome"
        return ws

    async def run():
        one, two = await connect("one"), await connect("two")
        cas("revoke", "one.crt", *CA, "--reason", "cACompromise")
        crl(cas)
        publish()
        await asyncio.wait_for(one.wait_closed(), PATIENCE)
        assert one.close_code == 1008
        await asyncio.wait_for(await two.ping(), PATIENCE)
        await two.close()
    asyncio.run(run())
    program.wait_log(CUT + r"certificate 'Tenant one' was revoked by CA 'Test CA' at \S+Z \(cACompromise\)")
