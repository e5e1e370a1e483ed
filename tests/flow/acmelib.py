# SPDX-License-Identifier: MIT
"""Fixtures: hosts on one machine, real CAs on them, and uacme, a client of others.

What a machine does not have makes a test be skipped, with the name of what is missing.
"""

import contextlib
import http.client
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, Program
from pki import SERVER, Pki

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lab import hosts as lab_hosts  # noqa: E402
from lab import servers  # noqa: E402
from lab.servers import Caddy, Missing, Pebble, StepCa  # noqa: E402

SYSTEM_POOL = "/etc/ssl/certs/ca-certificates.crt"


def until(condition, what, patience=PATIENCE):
    """Wait until condition() is true, where there is nothing that would wake us; its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"gave up waiting for {what}"
        time.sleep(0.02)
    return value


@pytest.fixture
def hosts(tmp_path):
    reason = lab_hosts.reason_not()
    if reason:
        pytest.skip(reason)
    with lab_hosts.Hosts(tmp_path / "hosts") as made:
        yield made


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def cas(tmp_path, pki):
    """A Cas; its CAs are stopped at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield Cas(tmp_path / "cas", pki, stack)


class Cas:
    """Makes CAs and starts them."""

    def __init__(self, folder, pki, stack):
        self.folder, self.pki, self._stack, self._n = folder, pki, stack, 0

    def _place(self):
        self._n += 1
        return self.folder / str(self._n)

    def _start(self, make):
        try:
            server = make()
        except Missing as missing:
            pytest.skip(str(missing))
        self._stack.callback(server.stop)
        return server.start()

    def location(self, kind, host, letter="a", pki=None, **options):
        """A StepCa or Caddy with the intermediate of a location."""
        pki = pki or self.pki
        intermediate = pki.location(letter)
        return self._start(lambda: kind(self._place(), host, pki.ca_file, intermediate.crt, intermediate.key.path,
                                        **options))

    def step_ca(self, host, letter="a", **options):
        return self.location(StepCa, host, letter, **options)

    def caddy(self, host, letter="a", **options):
        return self.location(Caddy, host, letter, **options)

    def pebble(self, host=None, **options):
        """A Pebble for https://localhost:port, or on a host."""
        leaf = self.https(host.name if host else "localhost")
        return self._start(lambda: Pebble(self._place(), leaf, self.pki.ca_file, host, **options))

    def https(self, name):
        """A certificate for somebody's HTTPS."""
        return self.pki.location(f"of {name}").leaf(name, uses=[SERVER])


class HostProgram(Program):
    """semstreams on a Host; its admin port is reached from here."""

    def __init__(self, host, *args, **kwargs):
        self.host = host
        super().__init__(*args, **kwargs)

    def _spawn(self, command, env, log):
        return self.host.popen(*command, cwd=self.folder, env=env, stdout=log, stderr=log)

    def get(self, path):
        address, port = self.admin.rsplit(":", 1)
        connection = http.client.HTTPConnection(address, int(port), timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.sock = self.host.socket()
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect((address, int(port)))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


class Uacme:
    """uacme on a host that trusts the roots given to trusting(), and a web server for its answers."""

    def __init__(self, host, folder):
        self.host, self.folder, self.web = host, Path(folder), Path(folder) / "web"
        (self.web / ".well-known" / "acme-challenge").mkdir(parents=True)
        self.program = servers.program("uacme", "uacme")
        self._server = host.popen(sys.executable, "-m", "http.server", "-d", self.web, "80", stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)

    @staticmethod
    def trusting(roots):
        """Mounts for its host: uacme knows the system's pool only."""
        return {SYSTEM_POOL: roots}

    def issue(self, url, name):
        """The chain, as PEM."""
        env = {"UACME_CHALLENGE_PATH": str(self.web / ".well-known" / "acme-challenge")}
        command = [self.program, "-y", "-a", url, "-c", self.folder / "state", "-t", "EC"]
        self.host.run(*command, "new", check=True)
        self.host.run(*command, "-h", "/usr/share/uacme/uacme.sh", "issue", name, env=env, check=True)
        return (self.folder / "state" / name / "cert.pem").read_text()

    def close(self):
        self._server.kill()
        self._server.wait()
