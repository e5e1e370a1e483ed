# SPDX-License-Identifier: MIT
"""The files of admin.tls while the program runs: renewed certificates, client CAs that go, files that do not fit, and the
connections that are open meanwhile."""

import http.client
import json
import os
import signal
import ssl
from pathlib import Path

import pytest

from acmelib import until
from conftest import PATIENCE
from flowlib import pipeline, storage, udp
from pki import CLIENT, Pki
from test_shutdown import next_notification

TAKEN = "INFO Reloaded the certificate of the admin port without downtime path="


class Port:
    """A program whose admin port has certificates, and clients of it."""

    def __init__(self, start, folder):
        self.pki, self.second = Pki(folder / "pki"), Pki(folder / "second", "Second Root CA")
        self.place = self.pki.location("a")
        self.clients = {"first": self.place.leaf("first.example", uses=(CLIENT,)),
                        "second": self.second.location("b").leaf("second.example", uses=(CLIENT,))}
        self.files = {name: folder / f"admin-{name}.pem" for name in ("cert", "key", "ca")}
        self.give(self.leaf())
        self.trust(self.pki, self.second)
        tls = {"cert_file": str(self.files["cert"]), "key_file": str(self.files["key"]), "client_ca_file": str(self.files["ca"]),
               "writers": ["first.example"]}
        self.program = start(pipeline(udp(), storage(), admin={"listen": "127.0.0.1:0", "tls": tls}))
        self.number = int(self.program.admin.split(":")[1])

    def leaf(self):
        return self.place.leaf("localhost", sans=["localhost"])

    def put(self, name, content):
        new = self.files[name].with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o600)
        os.rename(new, self.files[name])

    def give(self, leaf):
        self.put("key", Path(leaf.key).read_bytes())
        self.put("cert", Path(leaf.cert).read_bytes())

    def trust(self, *pkis):
        self.put("ca", b"".join(Path(pki.ca_file).read_bytes() for pki in pkis))

    def connect(self, client="first"):
        context = ssl.create_default_context(cafile=self.pki.ca_file)
        context.load_cert_chain(self.clients[client].cert, self.clients[client].key)
        connection = http.client.HTTPSConnection("localhost", self.number, context=context, timeout=PATIENCE)
        connection.connect()
        return connection

    def shows(self):
        """The certificate that a new connection gets."""
        connection = self.connect()
        try:
            return connection.sock.getpeercert(binary_form=True)
        finally:
            connection.close()

    def log(self, text):
        until(lambda: text in self.program.log(), what=text)

    def reload(self):
        self.program.signal(signal.SIGHUP)
        next_notification(self.program, "READY=1")


def ask(connection, path="/livez", method="GET", body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def stream(connection):
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def next_state(answer):
    """Read on until one more has begun."""
    while not answer.readline().startswith(b"event: state"):
        assert not answer.isclosed()


@pytest.fixture
def port(start, tmp_path):
    return Port(start, tmp_path)


def test_a_renewed_certificate(port):
    """New connections get it, those that are open go on: one between two requests, and a stream."""
    before, kept, live = port.shows(), port.connect(), stream(port.connect())
    assert ask(kept) == 200
    next_state(live)
    port.give(port.leaf())
    port.reload()
    port.log(TAKEN)
    assert ask(kept) == 200, "the same connection, which has the old one"
    assert port.shows() != before
    assert ask(port.connect(), "/api/v1/log", "POST", json.dumps({"level": "info"})) == 200, "writers are known as before"
    next_state(live)
    next_state(live)


def test_files_are_found_changed(port):
    """Without a reload, and once more while somebody is still served with those before."""
    live, shown = stream(port.connect()), [port.shows()]
    port.give(port.leaf())
    port.log(TAKEN)
    shown.append(port.shows())
    port.give(port.leaf())
    port.reload()
    shown.append(port.shows())
    assert len(set(shown)) == 3
    while live.readline():  # of the files before the last ones: it ends, and whoever reads it connects anew
        pass
    assert port.program.terminate() == 0


def test_a_client_ca_is_removed(port):
    """Its clients are cut off and stay out, in the midst of a stream too; the others are not."""
    connections = {name: port.connect(name) for name in port.clients}
    streams = {name: stream(port.connect(name)) for name in port.clients}
    for name in port.clients:
        assert ask(connections[name]) == 200
        next_state(streams[name])
    port.trust(port.pki)
    port.reload()
    port.log("INFO Reloaded client CAs of the admin port without downtime")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(connections["second"])
    assert ask(connections["first"]) == 200
    with pytest.raises((OSError, http.client.HTTPException, AssertionError)):
        while streams["second"].readline():
            pass
        raise http.client.IncompleteRead(b"")
    next_state(streams["first"])
    try:  # refused by the page, or by the handshake already
        assert ask(port.connect("second")) == 403
    except (ssl.SSLError, OSError):
        pass
    port.trust(port.pki, port.second)
    port.reload()
    assert ask(port.connect("second")) == 200


def test_files_that_do_not_fit_are_not_taken(port):
    before = port.shows()
    for name, content, why in (("cert", Path(port.leaf().cert).read_bytes(), "admin-cert.pem and .*admin-key.pem: "),
                               ("ca", b"nothing", "admin-ca.pem: holds no CA"), ("key", None, "admin-key.pem: No such file")):
        old = port.files[name].read_bytes()
        if content is None:
            port.files[name].unlink()
        else:
            port.put(name, content)
        port.reload()
        port.program.wait_log(rf"ERROR Changed certificate files of the admin port cannot be used, keeping the old ones error=.*{why}")
        assert port.shows() == before
        connection = port.connect()
        connection.request("GET", "/readyz")
        answer = json.loads(connection.getresponse().read())
        assert "admin.tls" in [entry["component"] for entry in answer["degraded"]], answer
        port.put(name, old)
        port.reload()
    connection = port.connect()
    connection.request("GET", "/readyz")
    assert json.loads(connection.getresponse().read())["degraded"] == []


def test_a_reload_that_was_asked_for_over_it(port):
    """Its certificate is renewed with that very reload: the answer comes on the connection with the old one."""
    for _ in range(3):
        before, asking = port.shows(), port.connect()
        port.give(port.leaf())
        assert ask(asking, "/api/v1/reload", "POST", "") == 200
        assert port.shows() != before
        assert ask(asking) == 200
