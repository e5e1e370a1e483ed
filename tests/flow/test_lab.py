# SPDX-License-Identifier: MIT
"""The laboratory itself: what tests of certificates stand on.  Its clients are others' programs."""

import json
import socket
import subprocess

import ca_proxy
import pytest
from acmelib import Caddy, StepCa, Uacme, cas, hosts, pki  # noqa: F401
from ca_proxy import CaProxy
from conftest import unused_port


def subject(pem):
    return subprocess.run(["openssl", "x509", "-noout", "-subject", "-issuer", "-ext", "subjectAltName"], input=pem,
                          check=True, text=True, stdout=subprocess.PIPE).stdout


@pytest.fixture
def client(hosts, pki, tmp_path):
    """uacme on the host semstreams-a.local."""
    host = hosts.add("semstreams-a.local", mounts=Uacme.trusting(pki.ca_file, tmp_path))
    try:
        uacme = Uacme(host, tmp_path / "uacme")
    except Exception as missing:
        pytest.skip(str(missing))
    yield uacme
    uacme.close()


def test_hosts_are_apart(hosts, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("a's")
    a = hosts.add("a.local", mounts={"/data": tmp_path / "data"})
    b = hosts.add("b.local")
    assert a.run("cat", "/data/mine", check=True).stdout == "a's"
    assert b.run("test", "-e", "/data/mine").returncode == 1
    assert a.run("hostname", check=True).stdout == "a.local\n"
    assert "SSL_CERT_FILE" not in a.run("env", check=True).stdout

    with a.socket() as listener, b.socket() as client:
        listener.bind((a.address, 8080))
        listener.listen()
        client.connect((a.address, 8080))
        served, peer = listener.accept()
        with served:
            assert peer[0] == b.address
    a.cut()
    with a.socket(socket.SOCK_DGRAM) as one, b.socket(socket.SOCK_DGRAM) as two:
        one.bind((a.address, 5000))
        one.setblocking(False)
        two.sendto(b"lost", (a.address, 5000))
        a.plug()
        with pytest.raises(BlockingIOError):
            one.recv(10)
    with pytest.raises(OSError), a.socket() as out:
        out.connect(("192.0.2.1", 80))


@pytest.mark.parametrize("kind", [StepCa, Caddy])
def test_location(hosts, cas, client, kind):
    """The CA of a location issues under the root that is offline."""
    ca = cas.location(kind, hosts.add("step-ca-a.local"))
    chain = client.issue(ca.url, "semstreams-a.local")
    text = subject(chain)
    assert "DNS:semstreams-a.local" in text and "CN = Location A Intermediate CA" in text
    assert chain.count("BEGIN CERTIFICATE") == 2
    proof = client.folder / "chain.pem"
    proof.write_text(chain)
    subprocess.run(["openssl", "verify", "-CAfile", cas.pki.ca_file, "-untrusted", proof, proof], check=True)


def test_step_ca_provisioners(hosts, cas, client):
    ca = cas.step_ca(hosts.add("step-ca-a.local"), lives={"acme": "24h", "acme-short": "60s"})
    chain = client.issue(ca.directory("acme-short"), "semstreams-a.local")
    assert subprocess.run(["openssl", "x509", "-noout", "-checkend", "61"], input=chain, text=True).returncode == 1


def test_pebble_on_a_host(hosts, cas, client):
    pebble = cas.pebble(hosts.add("pebble.local"), http_port=80)
    assert "Pebble Intermediate" in subject(client.issue(pebble.url, "semstreams-a.local"))


def curl(url, root, *args):
    return subprocess.run(["curl", "-s", "--cacert", root, *args, url], stdout=subprocess.PIPE, text=True, check=False)


def test_proxy_and_faults(cas):
    """Here curl is the client: what it sees is the proxy's, what is changed is what was asked for."""
    pebble = cas.pebble()
    with CaProxy(cas.https("localhost"), pebble.roots, ("127.0.0.1", pebble.port), pebble.path) as proxy:
        root = pebble.roots
        directory = json.loads(curl(proxy.url, root).stdout)
        assert all(url.startswith(proxy.origin + "/") for url in directory.values() if isinstance(url, str))
        assert "eplay-" in curl(directory["newNonce"], root, "-I").stdout

        proxy.harm("newNonce", ca_proxy.status(503, retry_after=7), times=1)
        answers = [curl(directory["newNonce"], root, "-I").stdout for _ in range(2)]
        assert "503" in answers[0] and "Retry-After: 7" in answers[0] and " 200 " in answers[1]
        proxy.harm("directory", ca_proxy.reset_before, times=1)
        assert curl(proxy.url, root).returncode in (35, 52, 56)
        proxy.harm("directory", ca_proxy.cut_short, times=1)
        assert curl(proxy.url, root).returncode in (18, 56)
        proxy.harm("directory", ca_proxy.silent, times=1)
        assert curl(proxy.url, root, "--max-time", "0.2").returncode == 28
        proxy.harm("directory", ca_proxy.trickle, times=1)
        assert curl(proxy.url, root, "--max-time", "2.5").returncode == 28
        proxy.harm("directory", ca_proxy.document(lambda d: d.pop("newOrder") and d), times=1)
        assert "newOrder" not in json.loads(curl(proxy.url, root).stdout)
        proxy.harm("directory", ca_proxy.problem("rateLimited", 429, retry_after="x"), times=1)
        assert json.loads(curl(proxy.url, root).stdout)["type"].endswith(":rateLimited")
        assert json.loads(curl(proxy.url, root).stdout) == directory
        assert proxy.kinds().count("newNonce") == 3 and proxy.kinds().count("directory") == 8


@pytest.mark.parametrize("which", ["pebble", "step_ca"])
def test_client_through_proxy(hosts, cas, client, which):
    """A whole issue passes through, each request known for what it is."""
    host = hosts.add("ca.local")
    ca = cas.pebble(host, http_port=80) if which == "pebble" else cas.step_ca(host)
    with CaProxy(cas.https("ca.local"), ca.roots, (host.address, ca.port), ca.path, host=host, name="ca.local",
                 port=unused_port(socket.SOCK_STREAM)) as proxy:
        proxy.harm("newOrder", ca_proxy.problem("badNonce"), times=2)
        client.issue(proxy.url, "semstreams-a.local")
        kinds = proxy.kinds()
        assert "other" not in kinds
        assert {"directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "finalize", "certificate"} <= set(kinds)
        assert kinds.count("newOrder") == 3
