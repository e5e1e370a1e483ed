# SPDX-License-Identifier: MIT
"""Three locations on hosts of their own, with the guide's configurations, real CAs, and readings that are counted."""

import contextlib
import json
import re
import shutil
import socket
import threading
import time
from pathlib import Path

from acmelib import HostProgram, served, stored
from conftest import PATIENCE, TREE

ROOT = "federation-root-ca.crt"
GUIDE = Path(__file__).with_name("guide")
EXAMPLES = TREE / "examples" / "federation"
STORES = {"a": ["acme-certs"], "b": ["acme-certs", "acme-certs-client"], "c": ["acme-certs"]}
ROLES = {"a": ["server"], "b": ["server", "client"], "c": ["client"]}
PORTS = {"a": 8080, "b": 8081}
LINKS = {"b": "receive-from-location-a", "c": "receive-aggregated-data"}


def guide(letter):
    """The guide's configuration of a location, as it stands there."""
    return (GUIDE / f"location-{letter}-config.json").read_text()


def example(letter):
    """The example's: the guide's with wiring, filter and storage."""
    return (EXAMPLES / f"{letter}.json").read_text()


def reading(n):
    return b'{"sensor": "temperature", "value": 72.5, "n": %d}' % n


class Federation:
    """.hosts[letter], .cas[letter], .programs[letter]; each location's /data and /certs are folder/a/data and so on."""

    def __init__(self, hosts, cas, binary, folder, kind, letters="abc", **options):
        self.folder, self.binary, self.pki, self._cas = folder, binary, cas.pki, cas
        self.hosts, self.ca_hosts, self.cas, self.programs = {}, {}, {}, {}
        for letter in letters:
            for name in ("data", "certs"):
                (folder / letter / name).mkdir(parents=True)
            shutil.copy(cas.pki.ca_file, folder / letter / "certs" / ROOT)
            self.hosts[letter] = hosts.add(f"semstreams-{letter}.local", mounts={
                "/data": folder / letter / "data", "/certs": folder / letter / "certs"})
            self.ca_hosts[letter] = hosts.add(f"step-ca-{letter}.local")
            self.cas[letter] = cas.location(kind, self.ca_hosts[letter], letter, **options)

    def close(self):
        for program in self.programs.values():
            program.close()

    def start(self, letter, config):
        folder = self.folder / letter
        log = folder / "log"
        if log.exists():
            log.rename(folder / f"log.{time.monotonic_ns()}")
        if letter in self.programs:
            self.programs[letter].close()
        self.programs[letter] = HostProgram(self.hosts[letter], self.binary, folder, config)
        return self.programs[letter]

    def store(self, letter, which=0):
        return self.folder / letter / "data" / STORES[letter][which]

    def serials(self):
        return {(letter, which): stored(self.store(letter, which)).serial
                for letter in self.hosts for which in range(len(STORES[letter]))}

    def wait_certificates(self):
        for letter in self.hosts:
            for which in range(len(STORES[letter])):
                folder = self.store(letter, which)
                self.programs[letter].wait_for(lambda folder=folder: (folder / "certificate.pem").exists(), what=str(folder))

    def wait_links(self, patience=PATIENCE):
        for letter, component in LINKS.items():
            if letter in self.programs:
                self.programs[letter].wait_metric("semstreams_link_up", 1, patience, component=component)

    def connected(self):
        return {letter: self.programs[letter].metrics().sum("semstreams_ws_connected_total", component=component)
                for letter, component in LINKS.items() if letter in self.programs}

    def seen_by(self, peer, letter):
        """The certificate that location `letter` shows to `peer`, who shows his own."""
        host, port = self.hosts[letter], PORTS[letter]

        def connect():
            tcp = self.hosts[peer].socket()
            tcp.settimeout(PATIENCE)
            tcp.connect((host.address, port))
            return tcp

        with self.pair(peer) as pair:
            return served(connect, host.name, self.folder / peer / "certs" / ROOT, pair)

    @contextlib.contextmanager
    def pair(self, letter, which=-1):
        """Copies of a location's certificate and key that belong together."""
        folder = self.store(letter, which)
        copy = self.folder / f"pair-{letter}-{threading.get_ident()}"
        copy.mkdir(exist_ok=True)
        for _ in range(100):
            for name in ("certificate.pem", "certificate.key"):
                (copy / name).write_bytes((folder / name).read_bytes())
            (copy / "account.key").touch(0o600)
            (copy / "certificate.key").chmod(0o600)
            try:
                stored(copy)
                break
            except AssertionError:  # renewed between the two
                continue
        yield copy / "certificate.pem", copy / "certificate.key"

    @property
    def records(self):
        return self.folder / "c" / "data" / "output" / "data.jsonl"

    def numbers(self):
        """The numbers of the readings in C's file."""
        if not self.records.exists():
            return []
        return [json.loads(line)["n"] for line in self.records.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_readings(self, count, patience=PATIENCE):
        """Until all are in C's file, each once, in order."""
        self.programs["c"].wait_for(lambda: len(self.numbers()) >= count, patience, f"{count} readings in C's file")
        assert self.numbers() == list(range(count))

    def drops(self):
        return {letter: program.metrics().sum("semstreams_events_dropped_total") for letter, program in self.programs.items()}

    def refusals(self):
        return sum(p.metrics().sum("semstreams_mtls_handshake_failures_total") for p in self.programs.values())


class Traffic:
    """Readings to A's port, a steady stream, from a thread."""

    def __init__(self, host, rate=1000, first=0):
        self._socket, self._rate, self._first = host.socket(socket.SOCK_DGRAM), rate, first
        self._socket.connect((host.address, 14550))
        self._end, self._thread, self.sent = threading.Event(), threading.Thread(target=self._run), 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _run(self):
        began = time.monotonic()
        while not self._end.wait(0.01):
            for n in range(self.sent, int((time.monotonic() - began) * self._rate)):
                self._socket.send(reading(self._first + n))
                self.sent = n + 1


class Visitors:
    """New handshakes with a location, one after the other, from a thread; each must be a good one."""

    def __init__(self, federation, peer, letter, pause=0.1):
        self._visit, self._pause = lambda: federation.seen_by(peer, letter), pause
        self._end, self._thread = threading.Event(), threading.Thread(target=self._run)
        self.serials, self.errors = [], []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._end.set()
        self._thread.join()

    def _run(self):
        while not self._end.wait(self._pause):
            try:
                self.serials.append(self._visit().serial)
            except Exception as error:  # whatever it is, it is a visit that failed
                self.errors.append(repr(error))


def with_provisioner(text, provisioner):
    """A configuration for another provisioner of the same CA."""
    return re.sub(r"/acme/acme/directory", f"/acme/{provisioner}/directory", text)

