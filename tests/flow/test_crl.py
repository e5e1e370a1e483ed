# SPDX-License-Identifier: MIT
"""Revocation lists that the host honours: who is revoked is cut off and stays out, and nobody else; lists that are wrong,
missing or out of date."""

import asyncio
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
import websockets

from conftest import unused_port
from pki import CERT_SIGN, Key, Pki, crl_pem, sequence, tlv
from test_link_tls import CNS, Federation, context
from test_link_trust import CUT, answer, dial, hello, ready

DELTA, DISTRIBUTION = "2.5.29.27", "2.5.29.28"
FAILURES, REVOKED = "semstreams_mtls_handshake_failures_total", "semstreams_tls_revoked_peers_total"


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path)


def put(path, content):
    """Replace a file in one moment, as tools that publish lists do."""
    new = Path(f"{path}.new")
    new.write_bytes(content)
    os.rename(new, path)


def hub(federation, port, crl_files, **more):
    """The configuration of a listener that lets the locations B and C in."""
    server = federation.server("a", "bc")
    server["mtls"].update(crl_files=[str(f) for f in crl_files], **more)
    return {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data", "bind": "127.0.0.1"}}],
        "security": {"tls": {"server": server}}}


async def connect(port, federation, name):
    ws = await dial(port, context(federation, federation.leaves[name]))
    await ws.send(hello(""))
    assert json.loads(await asyncio.wait_for(ws.recv(), 30))["t"] == "welcome"
    return ws


def refused(port, federation, name):
    """Why the listener refuses the certificate, in the words of the client's TLS library."""
    async def run():
        with pytest.raises((OSError, websockets.InvalidMessage)) as caught:
            await answer(port, hello(""), context(federation, federation.leaves[name]))
        return f"{caught.value} {caught.value.__cause__}"
    return asyncio.run(run())


def is_welcome(port, federation, name):
    return asyncio.run(answer(port, hello(""), context(federation, federation.leaves[name])))["t"] == "welcome"


def cut_off(federation, port, change, who="b", stays="c"):
    """Both are connected; change() revokes one of them, which is cut off, and the other is not."""
    async def run():
        gone, other = await connect(port, federation, who), await connect(port, federation, stays)
        change()
        await asyncio.wait_for(gone.wait_closed(), 30)
        assert gone.close_code == 1008
        pong = await other.ping()
        await asyncio.wait_for(pong, 30)
        assert other.open
        await other.close()
    asyncio.run(run())


# ---- who is revoked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pem", "der"])
def test_a_revoked_leaf_is_cut_off(start, tmp_path, federation, form):
    """By a list of its intermediate, whose certificate stands beside the list or among the CAs."""
    port, crl, b = unused_port(socket.SOCK_STREAM), tmp_path / "b.crl", federation.locations["b"]
    config = hub(federation, port, [crl])
    if form == "der":
        config["security"]["tls"]["server"]["mtls"]["client_ca_files"].append(str(b.crt))

    def content(*revoked):
        der = b.crl(*revoked, entry_extra=[("2.5.29.21", tlv(0x0a, b"\x01"))])
        return der if form == "der" else crl_pem(der) + b.crt.read_bytes()
    put(crl, content())
    program = start(config)
    cut_off(federation, port, lambda: put(crl, content(4711, federation.leaves["b"], 1 << 120)))
    program.wait_log(CUT + rf"certificate '{CNS['b']}' was revoked by CA 'Location B Intermediate CA' at \S+Z \(keyCompromise\)"
                     rf".* peer={CNS['b']}")
    program.wait_log("INFO Reloaded revocation lists without downtime role=server lists=1")
    assert program.metrics().sum(REVOKED, role="server", reason="revoked") == 1
    assert program.metrics().sum("semstreams_crl_revoked_certificates", role="server") == 3
    left = program.metrics().sum("semstreams_crl_expiry_timestamp_seconds", role="server") - time.time()
    assert 0.9 * 86400 < left < 1.1 * 86400
    assert "revoked" in refused(port, federation, "b")
    program.wait_metric(FAILURES, 1, role="server", reason="revoked")
    program.wait_for(lambda: "a peer was disconnected" in ready(program)[1], what="the reason in /readyz")
    status, body = ready(program)
    assert status == 200 and f"certificate '{CNS['b']}' was revoked" in body
    put(crl, content())
    program.wait_for(lambda: program.metrics().sum("semstreams_tls_reloads_total") == 2, what="the new list")
    assert is_welcome(port, federation, "b"), "taken out of the list again"


def test_a_tenant_is_revoked(start, tmp_path, federation):
    """The provider's list has the CA of a tenant: all it issued are out, the other tenant's links stay."""
    port, crl = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl"
    put(crl, crl_pem(federation.pki.root.crl()))
    program = start(hub(federation, port, [crl]))
    cut_off(federation, port, lambda: put(crl, crl_pem(federation.pki.root.crl(federation.locations["b"]))))
    program.wait_log(CUT + "certificate 'Location B Intermediate CA' was revoked by CA 'SemStreams Federation Root CA'")
    assert "revoked" in refused(port, federation, "b")
    assert is_welcome(port, federation, "c")
    assert program.metrics().sum(REVOKED) == 1


def test_a_ca_that_is_trusted_itself_is_revoked(start, tmp_path, federation):
    """The peer need not show the certificate that is revoked."""
    port, crl, leaf = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.leaves["b"]
    put(crl, crl_pem(federation.pki.root.crl(federation.locations["b"])))
    config = hub(federation, port, [crl])
    config["security"]["tls"]["server"]["mtls"]["client_ca_files"] += [
        str(federation.locations[name].crt) for name in "bc"]
    leaf.cert.write_bytes(leaf.cert.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    start(config)
    assert "revoked" in refused(port, federation, "b")
    assert is_welcome(port, federation, "c")


def test_serials_are_those_of_one_ca(start, tmp_path, federation):
    """A list of B's CA says nothing of a certificate of C's with the same serial."""
    port, crl, b = unused_port(socket.SOCK_STREAM), tmp_path / "b.crl", federation.locations["b"]
    put(crl, crl_pem(b.crl(federation.leaves["c"])) + b.crt.read_bytes())
    start(hub(federation, port, [crl]))
    assert is_welcome(port, federation, "c") and is_welcome(port, federation, "b")


@pytest.mark.parametrize("where", ["client", "mtls"])
def test_a_client_cuts_a_revoked_server(start, tmp_path, federation, where):
    port, crl, a = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.locations["a"]
    put(crl, crl_pem(federation.pki.root.crl()))
    client = federation.client("b")
    if where == "client":
        client["crl_files"] = [str(crl)]
    else:
        pair = {key: client.pop(key) for key in ("cert_file", "key_file")}
        client["mtls"] = {"enabled": True, **pair, "crl_files": [str(crl)]}
    config = hub(federation, port, [])
    del config["security"]["tls"]["server"]["mtls"]["crl_files"]
    folders = [tmp_path / name for name in ("sender", "receiver")]
    for folder in folders:
        folder.mkdir()
    start(config, folder=folders[0])
    receiver = start({"components": [
        {"id": "in", "type": "websocket_input",
         "config": {"url": f"wss://localhost:{port}/data", "retry_max": "500ms", "down_after": "1s"}},
        {"id": "file", "type": "storage", "config": {"path": str(folders[1] / "out.jsonl")}}],
        "security": {"tls": {"client": client}}}, folder=folders[1])
    receiver.wait_metric("semstreams_link_up", 1)
    put(crl, crl_pem(federation.pki.root.crl(a)))
    receiver.wait_log(CUT + "certificate 'Location A Intermediate CA' was revoked by CA")
    receiver.wait_for(lambda: receiver.metrics().sum(FAILURES, role="client", reason="revoked") >= 1, what="a new link to be refused")
    receiver.wait_for(lambda: re.search("no connection to wss://localhost:.*was revoked", ready(receiver)[1]),
                      what="the reason in /readyz")
    put(crl, crl_pem(federation.pki.root.crl()))
    receiver.wait_metric("semstreams_link_up", 1)


# ---- time --------------------------------------------------------------------------------------------------------


def test_a_list_that_is_out_of_date(start, tmp_path, federation):
    """hard_fail: peers of its CA are refused, others are not; a new list lets them in again."""
    port, crl, b = unused_port(socket.SOCK_STREAM), tmp_path / "b.crl", federation.locations["b"]
    other = tmp_path / "root.crl"
    put(other, crl_pem(federation.pki.root.crl()))
    put(crl, crl_pem(b.crl(days=(-3, -1))) + b.crt.read_bytes())
    program = start(hub(federation, port, [crl, other]))
    program.wait_log("WARN .*the revocation list of CA 'Location B Intermediate CA' expired .*peers .* are refused")
    refused(port, federation, "b")
    program.wait_metric(FAILURES, 1, role="server", reason="crl_expired")
    assert is_welcome(port, federation, "c")
    status, body = ready(program)
    assert status == 200 and "the revocation list of CA 'Location B Intermediate CA' expired" in body
    put(crl, crl_pem(b.crl()) + b.crt.read_bytes())
    program.wait_metric("semstreams_tls_reloads_total", 1)
    assert is_welcome(port, federation, "b")
    program.wait_for(lambda: "revocation" not in ready(program)[1], what="the end of the warning")


def test_no_list_is_up_to_date(start, tmp_path, federation):
    port, crl = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl"
    put(crl, crl_pem(federation.pki.root.crl(days=(-3, -1))))
    program = start(hub(federation, port, [crl]))
    refused(port, federation, "b")
    assert ready(program)[0] == 503


def test_soft_fail(start, tmp_path, federation):
    """A list that is out of date still counts for those that are in it; a missing one is warned about."""
    port, crl, missing = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", tmp_path / "missing.crl"
    put(crl, crl_pem(federation.pki.root.crl(federation.locations["b"], days=(-3, -1))))
    program = start(hub(federation, port, [crl, missing], crl_policy="soft_fail"))
    assert is_welcome(port, federation, "c")
    assert "revoked" in refused(port, federation, "b")
    status, body = ready(program)
    assert status == 200
    assert "expired" in body and "it is used all the same" in body and "missing.crl" in body
    program.wait_log("WARN .*No such file or directory reading revocation list file .*missing.crl")
    put(missing, crl_pem(federation.locations["c"].crl(federation.leaves["c"])) + federation.locations["c"].crt.read_bytes())
    program.wait_metric("semstreams_crl_revoked_certificates", 2)
    assert "revoked" in refused(port, federation, "c")


def test_peers_are_cut_when_the_list_expires(start, tmp_path, federation):
    """A list of a few seconds, under which a peer is connected."""
    crl = tmp_path / "root.crl"
    for life in 3, 12, 40:  # a busy machine may need more to get the peer connected
        port, until_s = unused_port(socket.SOCK_STREAM), time.time() + life
        put(crl, crl_pem(federation.pki.root.crl(days=(-1, life / 86400))))
        program = start(hub(federation, port, [crl]), folder=tmp_path)

        async def run():
            ws = await connect(port, federation, "b")
            await asyncio.wait_for(ws.wait_closed(), life + 30)
            return ws.close_code
        try:
            code = asyncio.run(run())
            break
        except (OSError, websockets.InvalidMessage, websockets.ConnectionClosed):  # it ended before
            program.terminate()
    assert code == 1008 and time.time() >= until_s - 1
    program.wait_log(CUT + "whether certificate .* is revoked cannot be told: the revocation list of CA 'SemStreams Federation "
                     "Root CA' expired")
    program.wait_log("ERROR Revocation list has expired, peers with certificates of its CA are refused role=server")


# ---- files that cannot be used -----------------------------------------------------------------------------------


def wrong_lists(federation, folder):
    """What is in the file, and what the error says."""
    root, b = federation.pki.root, federation.locations["b"]
    stranger = Pki(folder / "other", "Stranger").root
    mute = federation.pki.location("mute", usage=CERT_SIGN)
    partial = sequence(tlv(0x81, b"\xff"))  # onlyContainsUserCerts
    return {
        "missing": (None, "No such file or directory reading"),
        "garbage": (b"hello", "holds no revocation list"),
        "certificate": (b.crt.read_bytes(), "holds no revocation list"),
        "cut_off": (crl_pem(root.crl())[:-20], "is cut off"),
        "damaged": (root.crl()[:-9], "cannot be read"),
        "wrong_issuer": (crl_pem(stranger.crl()), "the list is of CA 'Stranger', which is not among the trusted CAs"),
        "forged": (crl_pem(root.crl(key=Key(folder / "forger.key"))), "the signature of the list is not that of its CA"),
        "no_right": (crl_pem(mute.crl()) + mute.crt.read_bytes(), "may not sign lists: its key usage lacks cRLSign"),
        "critical": (crl_pem(root.crl(extra=[("1.2.3.4", b"\x05\0", True)])), "unknown critical extension: 1.2.3.4"),
        "critical_entry": (crl_pem(root.crl(7, entry_extra=[("2.5.29.29", sequence(), True)])),
                           "unknown critical extension of an entry: X509v3 Certificate Issuer"),
        "delta": (crl_pem(root.crl(extra=[(DELTA, b"\x02\x01\x01", True)])), "is a delta"),
        "partial": (crl_pem(root.crl(extra=[(DISTRIBUTION, partial, True)])), "is partial or indirect"),
    }


WRONG = ["missing", "garbage", "certificate", "cut_off", "damaged", "wrong_issuer", "forged", "no_right", "critical",
         "critical_entry", "delta", "partial"]


def test_wrong_lists_are_refused(command, tmp_path, federation):
    """By check, with the place in the configuration, the file and the reason."""
    lists = wrong_lists(federation, tmp_path)
    assert sorted(lists) == sorted(WRONG)
    for name, (content, why) in lists.items():
        crl, config = tmp_path / f"{name}.crl", tmp_path / f"{name}.json"
        if content is not None:
            crl.write_bytes(content)
        config.write_text(json.dumps(hub(federation, 8443, [crl])))
        done = command("check", config)
        assert done.returncode == 78, name
        assert re.search(rf"{name}.json:\d+:\d+ .*{name}\.crl\".*" if content is not None else f"{name}.crl", done.stderr), done.stderr
        assert why in done.stderr, (name, done.stderr)


def test_a_full_distribution_point_is_taken(start, tmp_path, federation):
    """As many CAs write it, critical: it only says where the whole list is."""
    port, crl = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl"
    where = sequence(tlv(0xa0, tlv(0xa0, tlv(0x86, b"http://ca.example/root.crl"))))
    put(crl, crl_pem(federation.pki.root.crl(federation.locations["b"], extra=[(DISTRIBUTION, where, True)])))
    start(hub(federation, port, [crl]))
    assert "revoked" in refused(port, federation, "b")


@pytest.mark.parametrize("how", ["missing", "forged"])
def test_a_bad_file_leaves_the_old_list_in_use(start, tmp_path, federation, how):
    port, crl, root = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.pki.root
    put(crl, crl_pem(root.crl(federation.locations["b"])))
    program = start(hub(federation, port, [crl]))
    if how == "missing":
        crl.unlink()
    else:
        put(crl, crl_pem(root.crl(key=Key(tmp_path / "forger.key"))))
    program.wait_log("ERROR Changed revocation lists cannot be used, keeping the old ones role=server error=.*root.crl")
    assert program.metrics().sum("semstreams_tls_reload_failures_total") == 1
    assert "revoked" in refused(port, federation, "b")
    status, body = ready(program)
    assert status == 200 and "root.crl" in body
    program.signal(signal.SIGHUP)
    program.wait_log("INFO Configuration reloaded")
    assert "revoked" in refused(port, federation, "b")
    put(crl, crl_pem(root.crl(federation.locations["c"])))
    program.signal(signal.SIGHUP)
    program.wait_for(lambda: "root.crl" not in ready(program)[1], what="the end of the warning")
    assert "revoked" in refused(port, federation, "c")
    assert is_welcome(port, federation, "b")


def test_an_older_list_is_not_taken(start, tmp_path, federation):
    """It is signed as well: whoever carries lists would let in again whom a newer one has revoked."""
    port, crl, root = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.pki.root
    put(crl, crl_pem(root.crl(federation.locations["b"])))
    program = start(hub(federation, port, [crl]))
    put(crl, crl_pem(root.crl(days=(-2, 1))))
    program.wait_log("ERROR Changed revocation lists cannot be used, keeping the old ones role=server error=.*the revocation list "
                     "of CA 'SemStreams Federation Root CA' is of .*, older than the one in use")
    assert "revoked" in refused(port, federation, "b")
    assert is_welcome(port, federation, "c")
    assert "older than the one in use" in ready(program)[1]
    put(crl, crl_pem(root.crl()))
    program.wait_for(lambda: "older" not in ready(program)[1], what="the end of the warning")
    assert is_welcome(port, federation, "b")


def test_a_list_that_is_gone(start, tmp_path, federation):
    """A list of another CA took its place: who was revoked comes in again, and the log says so."""
    port, crl, c = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.locations["c"]
    put(crl, crl_pem(federation.pki.root.crl(federation.locations["b"])))
    program = start(hub(federation, port, [crl]))
    assert "revoked" in refused(port, federation, "b")
    put(crl, crl_pem(c.crl()) + c.crt.read_bytes())
    program.wait_log("WARN Certificate warning role=server reason=.*no file has the revocation list of CA 'SemStreams Federation "
                     "Root CA' any more")
    assert is_welcome(port, federation, "b")


def test_a_certificate_in_the_making_does_not_keep_the_list_back(start, tmp_path, federation):
    port, crl, root = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.pki.root
    put(crl, crl_pem(root.crl()))
    program = start(hub(federation, port, [crl]))
    federation.leaves["a"].key.write_bytes(federation.leaves["c"].key.read_bytes())
    put(crl, crl_pem(root.crl(federation.locations["b"])))
    program.wait_metric("semstreams_crl_revoked_certificates", 1)
    assert "revoked" in refused(port, federation, "b")


# ---- size --------------------------------------------------------------------------------------------------------


def test_a_list_of_a_hundred_thousand(start, tmp_path, federation):
    """It is read while events pass, and finds the one among them."""
    port, crl, root = unused_port(socket.SOCK_STREAM), tmp_path / "root.crl", federation.pki.root
    put(crl, crl_pem(root.crl()))
    program = start(hub(federation, port, [crl]))
    many = [(n * 2654435761) % (1 << 64) << 64 | n for n in range(1, 100_001)]
    big = crl_pem(root.crl(*many[:50_000], federation.locations["b"], *many[50_000:]))
    cut_off(federation, port, lambda: put(crl, big))
    program.wait_metric("semstreams_crl_revoked_certificates", 100_001)
    assert "revoked" in refused(port, federation, "b")
    assert is_welcome(port, federation, "c")


# ---- configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, why", [
    ({"crl_policy": "maybe"}, 'expected "hard_fail" or "soft_fail", got "maybe"'),
    ({"crl_files": []}, "an empty list; leave the key out if there are no revocation lists"),
    ({"crl_files": "x.crl"}, 'expected an array, got "x.crl"'),
])
def test_settings(command, tmp_path, federation, change, why):
    config = hub(federation, 8443, [])
    config["security"]["tls"]["server"]["mtls"].update(change)
    if "crl_files" not in change:
        del config["security"]["tls"]["server"]["mtls"]["crl_files"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    done = command("check", file)
    assert done.returncode == 78 and re.search(rf"config.json:\d+:\d+ .*{re.escape(why)}", done.stderr), done.stderr


def test_two_lists_of_a_client(command, tmp_path, federation):
    crl, file = tmp_path / "root.crl", tmp_path / "config.json"
    put(crl, crl_pem(federation.pki.root.crl()))
    client = {**federation.client("b"), "crl_files": [str(crl)], "mtls": {"enabled": False, "crl_files": [str(crl)]}}
    file.write_text(json.dumps({"components": [
        {"id": "in", "type": "websocket_input", "config": {"url": "wss://localhost:1/data"}}], "security": {"tls": {"client": client}}}))
    done = command("check", file)
    assert done.returncode == 78 and 'a second list: section "client" already has crl_files' in done.stderr
