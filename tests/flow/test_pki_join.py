# SPDX-License-Identifier: MIT
"""A tenant gets a CA of its own from a provider: by a token, by approval over HTTPS, by files; its key stays with it."""

import contextlib
import http.server
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from acmelib import until
from conftest import PATIENCE, TREE
from lab.ports import unused_port
from test_pki_step_ca import Home
from joinlib import join_by_files, pki, provider, provider_files, provisioner, recorder, recording, running, tool  # noqa: F401

BY_PASSWORD = ["--ca-passphrase-file", "password"]


def check_tenant(pki, tenant):
    """A CA that may sign leaves only, for two years, below the provider's."""
    text = tool("openssl", "x509", "-in", pki.path(f"{tenant}.crt"), "-noout", "-text")
    assert "CA:TRUE, pathlen:0" in text and f"Subject: CN = {tenant}" in text
    assert re.search(r"X509v3 Key Usage: critical\s+Certificate Sign, CRL Sign\n", text)
    out = tool("openssl", "verify", "-CAfile", f"{tenant}-root.crt", "-untrusted", f"{tenant}.crt", f"{tenant}.crt",
               cwd=pki.folder)
    assert "OK" in out
    days = json.loads(pki("inspect", f"{tenant}.crt", "--json").stdout)["validity"]["length"] / 86400
    assert 729 < days < 731
    assert pki.path(f"{tenant}-root.crt").read_bytes() == pki.path("root.crt").read_bytes()
    assert pki.path(f"{tenant}.key").stat().st_mode & 0o777 == 0o600


# ---- the root

def test_root_by_its_fingerprint(provider_files, provider):
    pki = provider_files
    good = pki.fingerprint()
    pki("root", "fetched.crt", "--ca", provider.origin, "--fingerprint", good)
    assert pki.path("fetched.crt").read_bytes() == pki.path("root.crt").read_bytes()
    told = tool("openssl", "x509", "-in", pki.path("root.crt"), "-noout", "-fingerprint", "-sha256").strip().split("=")[1]
    pki("root", "colons.crt", "--ca", provider.origin, "--fingerprint", told)
    pki("root", "env.crt", "--ca", provider.origin, env={"STEP_CA_FINGERPRINT": good})
    again = pki("root", "fetched.crt", "--ca", provider.origin, "--fingerprint", good, status=1)
    assert "is there already" in again.stderr
    before = pki.files()
    wrong = pki("root", "wrong.crt", "--ca", provider.origin, "--fingerprint", good[:-1] + ("0" if good[-1] != "0" else "1"),
                status=1)
    assert "no root with this fingerprint" in wrong.stderr and pki.files() == before
    none = pki("root", "wrong.crt", "--ca", provider.origin, status=1)
    assert "--fingerprint or STEP_CA_FINGERPRINT" in none.stderr
    usage = pki("root", "Name", "a.crt", "a.key", "--fingerprint", good, status=2)
    assert "a root signs itself" in usage.stderr and pki.files() == before


class Impostor(http.server.BaseHTTPRequestHandler):
    """Answers each request with the server's .answers, by path."""

    def do_GET(self):
        body = json.dumps(self.server.answers[self.path.split("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def impostor(pki, answers):
    """A server with a certificate of the provider that says what it likes; its URL."""
    pki("leaf", "localhost", "imp.crt", "imp.key", "--ca", "provider.crt", "--ca-key", "provider.key")
    pki("bundle", "imp.pem", "imp.crt", "provider.crt")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impostor)
    server.answers = answers
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.path("imp.pem"), pki.path("imp.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_impostor_with_another_root(provider_files):
    pki = provider_files
    pki("root", "Other", "other.crt", "other.key", "--key-type", "p256")
    wanted, before = pki.fingerprint(), None
    with impostor(pki, {f"/root/{wanted}": {"ca": pki.path("other.crt").read_text()}}) as url:
        before = pki.files()
        said = pki("root", "got.crt", "--ca", url, "--fingerprint", wanted, status=1)
    assert "fingerprint" in said.stderr and pki.files() == before


# ---- the three ways

def test_join_by_a_token(provider_files, provider, recorder):
    pki, fingerprint = provider_files, provider_files.fingerprint()
    pki("token", "tenant-a", "tenant-a.token", "--profile", "sub-ca", "--ca", provider.origin, "--roots", "root.crt",
        *BY_PASSWORD)
    assert pki.path("tenant-a.token").stat().st_mode & 0o777 == 0o600
    send = ["join-request", "tenant-a", "tenant-a.csr", "tenant-a.key", "tenant-a.json", "--ca", recorder.url,
            "--token-file", "tenant-a.token", "--fingerprint"]
    # by mistake at first: key and request remain, and are sent again
    pki(*send, "0" * 64, status=1)
    made = pki.path("tenant-a.key").read_bytes()
    pki(*send, fingerprint)
    assert pki.path("tenant-a.key").read_bytes() == made
    reply = json.loads(pki.path("tenant-a.json").read_text())
    assert sorted(reply) == ["root_ca_cert", "sub_ca_cert"]
    assert reply["sub_ca_cert"].count("BEGIN CERTIFICATE") == 2 and reply["root_ca_cert"] == pki.path("root.crt").read_text()
    pki("join", "tenant-a.json", "tenant-a.crt", "tenant-a-root.crt", "--key", "tenant-a.key", "--fingerprint", fingerprint)
    check_tenant(pki, "tenant-a")
    assert b"CERTIFICATE REQUEST-----" in recorder.bytes and b"/1.0/sign" in recorder.bytes
    recorder.has_no_key(pki.path("tenant-a.key"))
    used = pki("join-request", "tenant-a", "b.csr", "b.key", "b.json", *send[5:], fingerprint, status=1)
    assert "used already" in used.stderr and "401" in used.stderr and not pki.path("b.json").exists()


@contextlib.contextmanager
def join_server(pki, semstreams):
    """The provider's responder, without any CA's key; its URL, and its process."""
    pki.path("requests").mkdir()
    pki("leaf", "localhost", "serve.crt", "serve.key", "--ca", "provider.crt", "--ca-key", "provider.key")
    pki("bundle", "serve.pem", "serve.crt", "provider.crt")
    argv = [semstreams, "pki", "join-serve", "requests", "serve.pem", "serve.key", "--roots", "root.crt", "--listen",
            "127.0.0.1:0"]
    with open(pki.path("serve.log"), "w") as log, \
            subprocess.Popen(argv, cwd=pki.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                             text=True) as server:
        try:
            url = server.stdout.readline().strip()
            assert url.startswith("https://127.0.0.1:"), pki.path("serve.log").read_text()
            yield url.replace("127.0.0.1", "localhost"), server
        finally:
            server.terminate()
            assert server.wait(PATIENCE) == 0


def test_lists_are_published(provider_files, semstreams):
    """Any file NAME.crl of the folder, and no other."""
    pki = provider_files
    with join_server(pki, semstreams) as (url, _):
        pki("crl", "requests/provider.crl", "--ca", "provider.crt", "--ca-key", "provider.key")
        pki.path("requests/key.pem").write_text("secret")
        trust = ssl.create_default_context(cafile=pki.path("root.crt"))
        with urllib.request.urlopen(f"{url}/crl/provider.crl", context=trust, timeout=PATIENCE) as answer:
            assert answer.read() == pki.path("requests/provider.crl").read_bytes()
            assert answer.headers["Content-Type"] == "application/pkix-crl"
        for name in "other.crl", "key.pem", ".crl", "..%2Fserve.key", "../serve.key":
            with pytest.raises(urllib.error.HTTPError) as wrong:
                urllib.request.urlopen(f"{url}/crl/{name}", context=trust, timeout=PATIENCE)
            assert wrong.value.code == 404 and b"secret" not in wrong.value.read()


def waiting(pki):
    return sorted(f.name for f in pki.path("requests").iterdir() if f.suffix == ".csr")


def test_join_by_approval(provider_files, provider, semstreams):
    pki, fingerprint = provider_files, provider_files.fingerprint()
    with join_server(pki, semstreams) as (url, server), recording(pki, int(url.rpartition(":")[2])) as between:
        argv = [semstreams, "pki", "join-request", "tenant-a", "tenant-a.csr", "tenant-a.key", "tenant-a.json", "--provider",
                between.url, "--fingerprint", fingerprint]
        with subprocess.Popen(argv, cwd=pki.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as tenant:
            try:
                until(lambda: waiting(pki), "the request to arrive")
                [csr] = waiting(pki)
                told = server.stdout.readline()
                key = re.search(r"SHA-256 ([0-9a-f]{64})", told)[1]
                assert "tenant-a" in told and key in tenant.stdout.readline() and csr == f"tenant-a-{key[:16]}.csr"
                approved = pki("approve", f"requests/{csr}", f"requests/{csr[:-4]}.json", "--ca", provider.origin, "--roots",
                               "root.crt", *BY_PASSWORD)
                assert key in approved.stdout
                assert tenant.wait(PATIENCE) == 0
            finally:
                tenant.kill()
        between.has_no_key(pki.path("tenant-a.key"))
        assert b"POST /admin/tenants/tenant-a/join-request" in between.bytes and b"sub_ca_csr" in between.bytes
    pki("join", "tenant-a.json", "tenant-a.crt", "tenant-a-root.crt", "--key", "tenant-a.key", "--roots", "root.crt")
    check_tenant(pki, "tenant-a")


def test_join_later(provider_files, semstreams):
    """A tenant that does not wait comes again with the same request."""
    pki, fingerprint = provider_files, provider_files.fingerprint()
    with join_server(pki, semstreams) as (url, _):
        send = ["join-request", "tenant-b", "tenant-b.csr", "tenant-b.key", "tenant-b.json", "--provider", url, "--fingerprint",
                fingerprint, "--wait", "0s"]
        for _ in range(2):
            said = pki(*send, status=1)
            assert "run this again" in said.stderr and len(waiting(pki)) == 1 and not pki.path("tenant-b.json").exists()
        made = pki.path("tenant-b.key").read_bytes()
        name = waiting(pki)[0][:-4]
        pki("approve", f"requests/{name}.csr", f"requests/{name}.json", "--ca", "provider.crt", "--ca-key", "provider.key",
            "--roots", "root.crt")
        pki(*send)
    assert pki.path("tenant-b.key").read_bytes() == made
    pki("join", "tenant-b.json", "tenant-b.crt", "tenant-b-root.crt", "--key", "tenant-b.key", "--fingerprint", fingerprint)
    check_tenant(pki, "tenant-b")


def test_a_renewed_pair_is_served_without_a_restart(provider_files, semstreams):
    pki = provider_files
    with join_server(pki, semstreams) as (url, server):
        def shown():
            return ssl.get_server_certificate(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE)

        before = shown()
        good = pki.path("serve.key").read_bytes()
        pki.path("serve.key").write_bytes(pki.path("root.key").read_bytes())
        server.send_signal(signal.SIGHUP)
        until(lambda: "another key" in pki.path("serve.log").read_text(), "the wrong key to be named")
        assert shown() == before
        pki.path("serve.key").write_bytes(good)
        pki("leaf", "localhost", "serve.crt", "serve.key", "--ca", "provider.crt", "--ca-key", "provider.key", "--force")
        pki("bundle", "serve.pem", "serve.crt", "provider.crt", "--force")
        server.send_signal(signal.SIGHUP)
        assert "served from now on" in server.stdout.readline()
        assert shown() != before and ask(url, "/health", pki)[0] == 200


def test_join_by_files(provider_files):
    pki = provider_files
    join_by_files(pki, "tenant-a")
    check_tenant(pki, "tenant-a")
    assert b"PRIVATE" not in pki.path("tenant-a.csr").read_bytes() + pki.path("tenant-a.json").read_bytes()
    before = {name: pki.path(f"{name}").read_bytes() for name in ("tenant-a.crt", "tenant-a.key")}
    join_by_files(pki, "tenant-b")
    # a tenant's CA is replaced by joining again, which the other does not notice
    again = ["--force", "--ca", "provider.crt", "--ca-key", "provider.key", "--roots", "root.crt"]
    serial = json.loads(pki("inspect", "tenant-b.crt", "--json").stdout)["serial_number"]
    pki("join-request", "tenant-b", "tenant-b.csr", "tenant-b.key", "--force")
    pki("approve", "tenant-b.csr", "tenant-b.json", *again)
    pki("join", "tenant-b.json", "tenant-b.crt", "tenant-b-root.crt", "--key", "tenant-b.key", "--roots", "root.crt", "--force")
    assert json.loads(pki("inspect", "tenant-b.crt", "--json").stdout)["serial_number"] != serial
    assert before == {name: pki.path(name).read_bytes() for name in before}


def test_a_tenant_s_step_ca_runs_on_what_it_got(provider_files):
    pki = provider_files
    join_by_files(pki, "tenant-a")
    with running(pki.folder / "tenant-ca", pki.path("tenant-a-root.crt"), pki.path("tenant-a.crt"), pki.path("tenant-a.key"),
                 "tr0ub4dor") as ca:
        assert '"ok"' in ca.get(f"{ca.origin}/health")


# ---- what is refused

def test_replies_that_are_refused(provider_files):
    pki, fingerprint = provider_files, provider_files.fingerprint()
    for tenant in ("tenant-a", "tenant-b"):
        join_by_files(pki, tenant)
    reply = json.loads(pki.path("tenant-a.json").read_text())
    pki("root", "Other", "other.crt", "other.key", "--key-type", "p256")
    pki("leaf", "leaf", "leaf.crt", "tenant-leaf.key", "--ca", "provider.crt", "--ca-key", "provider.key")
    blocks = reply["sub_ca_cert"].split("-----BEGIN")[1:]
    cases = {
        "for another key": (reply, ["--key", "tenant-b.key", "--fingerprint", fingerprint]),
        "of another provider": (reply, ["--key", "tenant-a.key", "--fingerprint", pki.fingerprint("other.crt")]),
        "is not in other.crt": (reply, ["--key", "tenant-a.key", "--roots", "other.crt"]),
        "whom is to be trusted": (reply, ["--key", "tenant-a.key"]),
        'no text "root_ca_cert"': ({"sub_ca_cert": reply["sub_ca_cert"]}, ["--key", "tenant-a.key", "--fingerprint", fingerprint]),
        "no object in JSON": ([], ["--key", "tenant-a.key", "--fingerprint", fingerprint]),
        "does not lead to the root": ({**reply, "sub_ca_cert": "-----BEGIN" + blocks[0]},
                                      ["--key", "tenant-a.key", "--fingerprint", fingerprint]),
        "is no CA": ({**reply, "sub_ca_cert": pki.path("leaf.crt").read_text() + pki.path("provider.crt").read_text()},
                     ["--key", "tenant-leaf.key", "--fingerprint", fingerprint])}
    for why, (text, options) in cases.items():
        pki.path("case.json").write_text(json.dumps(text))
        said = pki("join", "case.json", "case.crt", "case-root.crt", *options, status=1)
        assert why in said.stderr, (why, said.stderr)
        assert not pki.path("case.crt").exists() and not pki.path("case-root.crt").exists()


def test_requests_that_are_refused(provider_files, provider):
    pki = provider_files
    here = ["--ca", "provider.crt", "--ca-key", "provider.key", "--roots", "root.crt"]
    there = ["--ca", provider.origin, "--roots", "root.crt", *BY_PASSWORD]
    bad = pki("join-request", "../evil", "x.csr", "x.key", status=2)
    assert "letters, digits" in bad.stderr
    pki("csr", "Tenant with blanks", "blanks.csr", "blanks.key")
    tool("openssl", "req", "-new", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=tenant-a", "-keyout", "r.key", "-out",
         "weak.csr", cwd=pki.folder)
    pki.path("garbage.csr").write_text("no request at all")
    for options in (here, there):
        for name, why in (("blanks", "no name of a tenant"), ("weak", "1024 bits is too short"), ("garbage", "garbage.csr")):
            said = pki("approve", f"{name}.csr", f"{name}.json", *options, status=1)
            assert why in said.stderr and not pki.path(f"{name}.json").exists()
    pki("join-request", "tenant-a", "tenant-a.csr", "tenant-a.key")
    pki.secret("wrong", "battery staple\n")
    for options, why in ((["--ca-passphrase-file", "wrong"], "(password wrong)"),
                         (["--provisioner", "nobody", *BY_PASSWORD], 'no JWK provisioner "nobody"'),
                         ([], "give it by --ca-passphrase-file")):
        said = pki("approve", "tenant-a.csr", "a.json", *there[:4], *options, status=1)
        assert why in said.stderr and not pki.path("a.json").exists()


def test_a_key_that_would_take_forever_is_refused_at_once(provider_files):
    """2^31 rounds of PBKDF2 are half an hour of computing."""
    pki = provider_files
    for rounds in (2 ** 31, 2 ** 31 - 1, 2 ** 63 - 1, 0, -1):
        entry, _ = provisioner("correct horse", rounds=rounds)
        with impostor(pki, {"/provisioners": {"provisioners": [entry], "nextCursor": ""}}) as url:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            said = pki("token", "tenant-a", "t", "--profile", "sub-ca", "--ca", url, "--roots", "root.crt", *BY_PASSWORD,
                       status=1)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "rounds of PBKDF2" in said.stderr and not pki.path("t").exists()
        assert after.ru_utime - before.ru_utime < 5
        for name in ("imp.crt", "imp.key", "imp.pem"):
            os.unlink(pki.path(name))


@pytest.mark.parametrize("alg, rounds", [("PBES2-HS256+A128KW", 1000), ("PBES2-HS512+A256KW", 100000)])
def test_keys_as_others_encrypt_them(provider_files, alg, rounds):
    pki = provider_files
    entry, _ = provisioner("correct horse", rounds=rounds, alg=alg)
    with impostor(pki, {"/provisioners": {"provisioners": [entry]}}) as url:
        pki("token", "tenant-a", "t", "--profile", "sub-ca", "--ca", url, "--roots", "root.crt", *BY_PASSWORD)
    assert pki.path("t").read_text().count(".") == 2


# ---- the responder and strangers

def ask(url, path, pki, body=None, method=None):
    """(status, answer) of the responder."""
    context = ssl.create_default_context(cafile=pki.path("root.crt"))
    request = urllib.request.Request(url + path, body, method=method)
    try:
        with urllib.request.urlopen(request, context=context, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.load(e)


def test_the_responder_and_strangers(provider_files, semstreams):
    pki = provider_files
    pki("join-request", "tenant-a", "a.csr", "a.key")
    csr = pki.path("a.csr").read_text()
    body = json.dumps({"sub_ca_csr": csr}).encode()
    join = "/admin/tenants/tenant-a/join-request"
    with join_server(pki, semstreams) as (url, _):
        assert ask(url, "/health", pki) == (200, {"status": "ok"})
        assert ask(url, f"/root/{pki.fingerprint()}", pki)[1]["ca"] == pki.path("root.crt").read_text()
        for path, data, method, status in (
                ("/root/" + "0" * 64, None, None, 404), ("/", None, None, 404), (join, None, None, 405),
                ("/health", b"x", None, 405), ("/health", None, "DELETE", 405),
                ("/admin/tenants/tenant-b/join-request", body, None, 400),
                ("/admin/tenants/..%2f..%2fx/join-request", body, None, 404),
                ("/admin/tenants/../join-request", body, None, 404),
                (join, b"{", None, 400), (join, b'{"sub_ca_csr": 1}', None, 400),
                (join, json.dumps({"sub_ca_csr": "nothing"}).encode(), None, 400),
                (join, b"x" * 65537, None, 413), ("/health?" + "x" * 9000, None, None, 431)):
            got, answer = ask(url, path, pki, data, method)
            assert got == status == answer["status"] and answer["message"], (path, method, got, answer)
        assert waiting(pki) == []
        assert ask(url, join, pki, body)[0] == 202
        # those who connect and say nothing hold nobody up
        port = int(url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        assert ask(url, join, pki, body)[0] == 202 and len(waiting(pki)) == 1
        for s in silent:
            s.close()
        # a stranger can neither fill the folder nor replace what waits
        for n in range(6):
            pki("join-request", "tenant-a", f"{n}.csr", f"{n}.key")
        codes = [ask(url, join, pki, json.dumps({"sub_ca_csr": pki.path(f"{n}.csr").read_text()}).encode())[0]
                 for n in range(6)]
        assert codes == [202] * 3 + [429] * 3 and len(waiting(pki)) == 4
        assert ask(url, join, pki, body)[0] == 202
        assert csr in [pki.path(f"requests/{name}").read_text() for name in waiting(pki)]


def test_the_layout_of_a_provider(pki):  # noqa: F811
    """What "init --layout provider" makes is a step-ca that signs tenants' CAs, with the root's key away."""
    port = unused_port()
    pki("init", "--layout", "provider", "--san", "localhost", "--address", f"127.0.0.1:{port}", "--key-type", "p256",
        env={"STEP_CA_PASSWORD": "sesame"})
    (pki.path("pki") / "secrets/root_ca_key").rename(pki.path("usb_key"))
    with Home(pki.path("pki"), "config/ca.json", "certs/root_ca.crt", "secrets/password", port):
        there = ["--ca", f"https://localhost:{port}", "--fingerprint", pki.fingerprint("pki/certs/root_ca.crt"),
                 "--ca-passphrase-file", "pki/secrets/password"]
        pki("root", "root.crt", *there[:4])
        pki("join-request", "tenant-a", "tenant-a.csr", "tenant-a.key")
        pki("approve", "tenant-a.csr", "tenant-a.json", *there)
        pki("join", "tenant-a.json", "tenant-a.crt", "tenant-a-root.crt", "--key", "tenant-a.key", "--roots", "root.crt")
        check_tenant(pki, "tenant-a")
    pki("device", "device-1", "device-1.crt", "device-1.key", "--ca", "tenant-a.crt", "--ca-key", "tenant-a.key")
    tool("openssl", "verify", "-purpose", "sslclient", "-CAfile", "root.crt", "-untrusted", "device-1.crt", "device-1.crt",
         cwd=pki.folder)


# ---- docs/pki.md

def test_documented_commands(provider_files, provider, semstreams):
    """Those that ask a CA: with our servers in the place of theirs."""
    pki = provider_files
    page = (TREE / "docs" / "pki.md").read_text()
    lines = "".join(re.findall(r"^```console\n(.*?)^```", page, re.M | re.S)).splitlines()
    assert len(lines) > 12 and all(line.startswith("semstreams pki ") for line in lines)
    join_by_files(pki, "tenant-a")
    pki.secret("tenant-password", "tr0ub4dor\n")
    with running(pki.folder / "tenant-ca", pki.path("root.crt"), pki.path("tenant-a.crt"), pki.path("tenant-a.key"),
                 "tr0ub4dor") as tenant, join_server(pki, semstreams) as (url, _), contextlib.ExitStack() as stack:
        begun = []
        for line in lines:
            for name, there in (("https://provider.example:9000", provider.origin), ("https://tenant.example:9000", tenant.origin),
                                ("https://provider.example:9443", url), ("FINGERPRINT", pki.fingerprint())):
                line = line.replace(name, there)
            argv = ["sh", "-ec", line.removesuffix("&").replace("semstreams ", 'exec "$0" ', 1), semstreams]
            if " join-serve " in line:
                continue  # it runs already
            if line.endswith("&"):
                begun.append(stack.enter_context(subprocess.Popen(argv, cwd=pki.folder, stdin=subprocess.DEVNULL)))
                until(lambda: waiting(pki), "the request to arrive")
                continue
            if "tenant-c.json" in line:
                assert begun[0].wait(PATIENCE) == 0
            done = subprocess.run(argv, cwd=pki.folder, text=True, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=PATIENCE, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
