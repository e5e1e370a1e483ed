# SPDX-License-Identifier: MIT
"""The show of examples/federation/run: three locations on hosts of their own, shown at work, then stopped.

Run by "run", which has built everything.  Each location has two hosts, semstreams-a.local and step-ca-a.local, with all
ports; what they write lies in FOLDER/a and so on.  Where namespaces are not allowed all is on this machine, and ports tell
the locations apart.
"""

import argparse
import contextlib
import datetime
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from lab import hosts, loopback, servers  # noqa: E402

PATIENCE = float(os.environ.get("TEST_PATIENCE", "60"))
LOCATIONS = {"a": "factory edge", "b": "regional hub", "c": "cloud core"}
ROLES = {"a": {"server": "acme-certs"}, "b": {"server": "acme-certs", "client": "acme-certs-client"},
         "c": {"client": "acme-certs"}}  # who has which certificates, and where below /data
LINKS = {"b": "receive-from-location-a", "c": "receive-aggregated-data"}
RATE = 4000  # readings a second while certificates are renewed
ROOT = "federation-root-ca.crt"


class Failed(Exception):
    """What did not work, for the reader."""


def say(text=""):
    print(text, flush=True)


class Steps:
    """Numbered headlines with what came out below."""

    def __init__(self):
        self.n, self.began = 0, time.monotonic()

    def step(self, text):
        self.n += 1
        say(f"\n{self.n:2}  {text}")

    @staticmethod
    def note(text):
        say(f"      {text}")


def near(path):
    """A path as one would type it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def openssl(*args, data=None):
    return subprocess.run(["openssl", *map(str, args)], input=data, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


class Certificate:
    """What openssl says of a file's first certificate."""

    def __init__(self, pem):
        text = openssl("x509", "-noout", "-subject", "-issuer", "-serial", "-enddate", "-nameopt", "multiline", data=pem)
        names = re.findall(r"commonName\s*= (.*)", text)
        self.subject, self.issuer = names[0], names[-1]
        self.serial = re.search(r"serial=(\w+)", text)[1]
        end = datetime.datetime.strptime(re.search(r"notAfter=(.*) GMT", text)[1], "%b %d %H:%M:%S %Y")
        self.end = end.strftime("%Y-%m-%dT%H:%MZ")


class Location:
    """One of the three: its hosts, its CA, its semstreams."""

    def __init__(self, letter, folder, net, program):
        self.letter, self.folder, self.program = letter, folder / letter, program
        self.config = HERE / f"{letter}.json"
        self.log = self.folder / "log"
        self.data, self.certs = self.folder / "data", self.folder / "certs"
        for made in (self.data, self.certs):
            made.mkdir(parents=True)
        self.host = net.add(f"semstreams-{letter}.local", mounts={"/data": self.data, "/certs": self.certs})
        self.ca_host = net.add(f"step-ca-{letter}.local")
        self.process, self.ca, self.started = None, None, None

    @property
    def name(self):
        return self.letter.upper()

    def trust(self, root):
        shutil.copyfile(root, self.certs / ROOT)

    def settle(self, locations):
        """Write a configuration for this machine's name, ports and paths."""
        text = self.config.read_text()
        for other in locations:
            text = text.replace(f"semstreams-{other.letter}.local", "localhost")
            text = text.replace(f"step-ca-{other.letter}.local:9000", f"localhost:{9000 + other.ca_host.shift}")
        config = json.loads(text.replace('"/data/', f'"{self.data}/').replace('"/certs/', f'"{self.certs}/'))
        for component in config["components"]:
            if "port" in component["config"]:
                component["config"]["bind"] = self.host.address
        for name, side in config["security"]["tls"].items():
            side["acme"]["challenge_address"] = self.host.address
            if name == "server":
                side["mtls"]["allowed_client_cns"] = ["localhost"]
        config["admin"]["listen"] = f"{self.host.address}:{self.admin[1]}"
        self.config = self.folder / "config.json"
        self.config.write_text(json.dumps(config, indent=2))

    @property
    def admin(self):
        return "127.0.0.1", 9600 + self.host.shift

    @property
    def subject(self):
        return self.certificates()["client"].subject

    @property
    def identity(self):
        """Folder of the certificate that is shown to those we dial."""
        return self.data / list(ROLES[self.letter].values())[-1]

    def start(self):
        self.started = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = self.host.popen(self.program, "--config", self.config, cwd=self.folder, stdout=log, stderr=log)

    def certificates(self):
        """{role: Certificate} of those that are there."""
        files = {role: self.data / path / "certificate.pem" for role, path in ROLES[self.letter].items()}
        return {role: Certificate(file.read_text()) for role, file in files.items() if file.exists()}

    def get(self, path):
        """GET from the admin port: (status, text)."""
        connection = http.client.HTTPConnection(*self.admin, timeout=10)
        with contextlib.closing(connection):
            connection.sock = self.host.socket()
            connection.sock.settimeout(10)
            connection.sock.connect(self.admin)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metrics(self):
        """{name: {labels: value}}"""
        out = {}
        for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", self.get("/metrics")[1], re.M):
            out.setdefault(name, {})[labels] = float(value)
        return out

    def count(self, name, labels=""):
        """Sum of the samples that have these labels in them; 0 without an answer."""
        try:
            return sum(value for have, value in self.metrics().get(name, {}).items() if labels in have)
        except OSError:
            return 0

    def until(self, condition, what):
        """Wait for condition(); Failed with the log's last words if it never comes true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                raise Failed(f"{self.name}: semstreams ended with {self.process.returncode}, waiting for {what}\n"
                             f"{self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: gave up waiting for {what}\n{self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines()
        worst = [line for line in lines if re.search(r"\b(WARN|ERROR)\b", line)][-6:]
        return "\n".join(f"    {line}" for line in worst or lines[-6:]) + f"\n    (all of it: {near(self.log)})"

    def stop(self):
        """SIGTERM; what has been taken in is brought to its end first."""
        if not self.process or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Load(threading.Thread):
    """Sends numbered readings to A's UDP port until stopped."""

    def __init__(self, host, first):
        super().__init__()
        self._socket, self._first, self._end, self.sent = host.socket(socket.SOCK_DGRAM), first, threading.Event(), 0
        self._socket.connect((host.address, 14550))

    def run(self):
        began = time.monotonic()
        while not self._end.wait(0.005):
            due = int((time.monotonic() - began) * RATE)
            for n in range(self.sent, due):
                self._socket.send(b'{"sensor": "temperature", "value": 72.5, "n": %d}' % (self._first + n))
            self.sent = max(self.sent, due)

    def stop(self):
        self._end.set()
        self.join()
        self._socket.close()
        return self.sent


class Federation:
    """All of it."""

    def __init__(self, options, stack):
        self.options, self.folder, self.steps = options, Path(options.folder), Steps()
        self.pki = self.folder / "pki"
        for old in (*LOCATIONS, "hosts", "ca"):
            if (self.folder / old).exists():
                shutil.rmtree(self.folder / old)
        (self.folder / "ca").mkdir()
        self.net = stack.enter_context(self.network())
        self.locations = {}
        for letter in LOCATIONS:
            location = Location(letter, self.folder, self.net, options.semstreams)
            self.locations[letter] = location
            stack.callback(lambda location=location: location.ca and location.ca.stop())
            stack.callback(location.stop)
        self.a, self.b, self.c = self.locations.values()
        self.records = self.c.data / "output" / "data.jsonl"
        for host in [h for location in self.locations.values() for h in (location.host, location.ca_host)]:
            (host.folder / "pid").write_text(f"{host.pid}\n")
        if isinstance(self.net, loopback.Loopback):
            for location in self.locations.values():
                location.settle(self.locations.values())

    def network(self):
        reason = "as asked for" if self.options.loopback else hosts.reason_not()
        if not reason:
            say("hosts: network namespaces, each with its name, its folders and all ports")
            return hosts.Hosts(self.folder / "hosts")
        say(f"hosts: this machine, with other ports for each location ({reason})")
        if loopback.reason_not():
            raise Failed(f"{loopback.reason_not()}.  CAs ask back at port 80: run it as root, or allow the port with\n"
                         "    sysctl -w net.ipv4.ip_unprivileged_port_start=80")
        return loopback.Loopback(self.folder / "hosts")

    # ---- the show

    def make_pki(self):
        self.steps.step("An offline root, an intermediate CA for each location (./pki)")
        script = HERE / "pki"
        env = {**os.environ, "SEMSTREAMS": str(Path(self.options.semstreams).resolve())}
        run = lambda *args: subprocess.run([script, *args], check=True, stdin=subprocess.DEVNULL, env=env)
        root = self.pki / ROOT
        if root.exists() and not self.fresh():
            shutil.rmtree(self.pki)
        if not root.exists():
            run("root", self.pki)
        for letter in LOCATIONS:
            if not (self.pki / f"location-{letter}-intermediate-ca.crt").exists():
                run("location", self.pki, letter)
        self.steps.note(f"{near(self.pki)}/  {Certificate(root.read_text()).subject}; its key stays there, nobody else needs it")
        for location in self.locations.values():
            location.trust(root)

    def fresh(self):
        """Will its certificates live for a week?"""
        return all(subprocess.run(["openssl", "x509", "-noout", "-checkend", "604800", "-in", crt],
                                  stdout=subprocess.DEVNULL).returncode == 0 for crt in self.pki.glob("*.crt"))

    def start_cas(self):
        kind = {"step-ca": servers.StepCa, "caddy": servers.Caddy}[self.options.ca]
        what = {"step-ca": "step-ca, built from Debian's packages of its source; certificates live 24 h",
                "caddy": "Caddy's acme_server, which is step-ca's code; certificates live 12 h.  "
                         "\"--ca step-ca\" takes step-ca itself"}[self.options.ca]
        self.steps.step("A CA for each location")
        self.steps.note(what)
        for letter, location in self.locations.items():
            base = self.pki / f"location-{letter}-intermediate-ca"
            location.ca = kind(self.folder / "ca" / letter, location.ca_host, self.pki / ROOT, f"{base}.crt", f"{base}-key.pem")
            location.ca.start()
            self.steps.note(f"{location.name}  {location.ca.url}")

    def start_locations(self):
        self.steps.step("semstreams at A, B and C: each gets its certificates by ACME, http-01 at port 80")
        for location in self.locations.values():
            location.start()
        for location in self.locations.values():
            location.until(lambda location=location: location.certificates().keys() == ROLES[location.letter].keys(),
                           "its certificates")
            for role, certificate in location.certificates().items():
                self.steps.note(f"{location.name}  {certificate.subject} ({role}) by {certificate.issuer}, until {certificate.end}")
        self.steps.note(f"all of them {max(self.issue_time(l) for l in self.locations.values()):.1f} s after the start")

    @staticmethod
    def issue_time(location):
        """Seconds from start to the last certificate, by the clock of files."""
        last = max((location.data / path / "certificate.pem").stat().st_mtime for path in ROLES[location.letter].values())
        return last - (time.time() - (time.monotonic() - location.started))

    def links_up(self):
        self.steps.step("Links up, mutual TLS on every hop")
        for letter, component in LINKS.items():
            location = self.locations[letter]
            location.until(lambda: location.count("semstreams_link_up", f'component="{component}"') == 1, "its link")
        self.steps.note(f"A :8080/edge-data  <==  B  dials, shows {self.b.subject}, is on A's list of clients")
        self.steps.note(f"B :8081/regional-aggregate  <==  C  dials, shows {self.c.subject}, is on B's")
        stranger = self.b.host.run("curl", "-sS", "--cacert", self.b.certs / ROOT, f"https://{self.a.host.name}:8080/health",
                                   timeout=PATIENCE)
        if stranger.returncode == 0:
            raise Failed("A let somebody in who has no certificate")
        self.steps.note("a visitor without a certificate is refused in the handshake")

    def one_reading(self):
        reading = '{"sensor": "temperature", "value": 72.5}'
        self.steps.step(f"A reading: echo '{reading}' | nc -u -q0 {self.a.host.name} 14550")
        began = time.monotonic()
        with self.a.host.socket(socket.SOCK_DGRAM) as s:
            s.sendto((reading + "\n").encode(), (self.a.host.address, 14550))
        self.c.until(lambda: self.records.exists() and self.records.read_text() == reading + "\n", "the reading in its file")
        self.steps.note(f"in C's file {(time.monotonic() - began) * 1000:.0f} ms later, on disk there: {near(self.records)}")

    def renew_under_load(self):
        self.steps.step(f"All certificates renewed by force, while {RATE} readings a second go from A to C")
        before = {letter: l.certificates() for letter, l in self.locations.items()}
        connected = self.connections()
        load = Load(self.a.host, 0)
        load.start()
        try:
            self.a.until(lambda: load.sent > RATE // 2, "load")
            for letter, location in self.locations.items():
                self.renew(location)
            for letter, location in self.locations.items():
                self.renewed(location, before[letter])
            middle = load.sent
            self.a.until(lambda: load.sent > middle + RATE // 2, "load")
        finally:
            sent = load.stop()
        self.account(sent)
        if self.connections() != connected:
            raise Failed("a link was made anew")
        self.steps.note("links: the same connections as before; new ones get the new certificates")
        return sent

    def renew(self, location):
        for role in ROLES[location.letter]:
            done = location.host.run(location.program, "cert", "renew", "--force", "--role", role, "--config",
                                     location.config, cwd=location.folder, timeout=PATIENCE)
            if done.returncode:
                raise Failed(f"{location.name}: semstreams cert renew ended with {done.returncode}: {done.stderr.strip()}")

    def renewed(self, location, before):
        """Other certificates on disk, and in use."""
        for role, old in before.items():
            location.until(lambda role=role, old=old: location.certificates()[role].serial != old.serial,
                           f"a new {role} certificate")
            new = location.certificates()[role]
            self.steps.note(f"{location.name}  {role}: serial {old.serial[:12]}... -> {new.serial[:12]}...")
        location.until(lambda: location.log.read_text().count("Hot-reloaded certificate") >= len(before),
                       "its new certificates to be in use")
        port = {"a": 8080, "b": 8081}.get(location.letter)
        if port:
            peer = self.c  # both let C in
            location.until(lambda: self.served(peer, location, port) == location.certificates()["server"].serial,
                           "the new certificate to be shown")

    def served(self, peer, location, port):
        """Serial number of the certificate that a newcomer is shown."""
        crt, key = peer.identity / "certificate.pem", peer.identity / "certificate.key"
        said = peer.host.run("openssl", "s_client", "-connect", f"{location.host.name}:{port}", "-CAfile", peer.certs / ROOT,
                             "-cert", crt, "-cert_chain", crt, "-key", key, "-verify_return_error", timeout=PATIENCE)
        pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said.stdout, re.S)
        return Certificate(pem[0]).serial if pem else None

    def connections(self):
        return {letter: self.locations[letter].count("semstreams_ws_connected_total", f'component="{component}"')
                for letter, component in LINKS.items()}

    def account(self, sent):
        """Each reading in C's file, once."""
        numbers = lambda: [json.loads(line).get("n") for line in self.records.read_text().splitlines()][1:]
        deadline = time.monotonic() + PATIENCE
        got = numbers()
        while len(got) < sent and time.monotonic() < deadline:
            time.sleep(0.1)
            got = numbers()
        missing, twice = sent - len(set(got)), len(got) - len(set(got))
        self.steps.note(f"readings: {sent} sent, {len(got)} in C's file, {missing} lost, {twice} twice")
        if missing or twice:
            dropped = self.a.count("semstreams_udp_kernel_dropped_total")
            raise Failed(f"readings are missing or doubled ({dropped:.0f} dropped by the kernel at A's UDP port)")

    def summaries(self, sent):
        """The hub's seconds hold each reading once; a second is over when a reading of a later one has come."""
        self.steps.step("What the hub makes of them: each second's count, mean, least and greatest by sensor")
        file, lines = self.c.data / "output" / "analytics.jsonl", []
        counted = lambda: sum(line["n"] for line in lines if "mean" in line)
        deadline = time.monotonic() + PATIENCE
        with self.a.host.socket(socket.SOCK_DGRAM) as s:
            while counted() < sent and time.monotonic() < deadline:
                s.sendto(b'{"sensor": "clock", "value": 99}', (self.a.host.address, 14550))
                time.sleep(0.2)
                text = file.read_text() if file.exists() else ""
                lines = [json.loads(line) for line in text.splitlines() if '"clock"' not in line]
        self.steps.note(f"{counted()} of {sent} readings in {len(lines)} lines, as: {json.dumps(lines[-1]) if lines else 'none'}")
        self.steps.note(f"in C's file {near(file)}, with C's own minutes over them")
        if counted() != sent:
            raise Failed("the hub's summaries do not hold each reading once")

    def show_metrics(self):
        self.steps.step("What metrics say of it (curl localhost:9600/metrics on each host)")
        for name in ("semstreams_acme_renewal_success_total", "semstreams_acme_renewal_failure_total",
                     "semstreams_mtls_handshake_failures_total"):
            row = "  ".join(f"{l.name} {l.count(name):.0f}" for l in self.locations.values())
            self.steps.note(f"{name:50} {row}")
        name = "semstreams_certificate_expiry_timestamp_seconds"
        row = "  ".join(f"{l.name} {min(l.metrics()[name].values()):.0f}" for l in self.locations.values())
        self.steps.note(f"{name:50} {row}")
        for location in self.locations.values():
            status, text = location.get("/readyz")
            if status != 200:
                raise Failed(f"{location.name}: /readyz says {status}: {text.strip()}")
        self.steps.note("/readyz: 200 at A, B and C")

    def run(self):
        self.make_pki()
        self.start_cas()
        self.start_locations()
        self.links_up()
        self.one_reading()
        sent = self.renew_under_load()
        self.summaries(sent + 1)
        self.show_metrics()
        say(f"\nAll of it works; took {time.monotonic() - self.steps.began:.0f} s.  To look at:")
        for letter, location in self.locations.items():
            say(f"    {location.name}  config {near(location.config)}  log {near(location.log)}  data {near(location.data)}")
        say(f"    CAs {near(self.folder / 'ca')}/  records {near(self.records)}")


def stay(show):
    run, a, b = near(HERE / "run"), show.a, show.b
    say("\nIt stays up until Ctrl-C.  From another terminal:")
    if isinstance(show.net, loopback.Loopback):
        say(f"    curl -s localhost:{a.admin[1]}/metrics")
        say("    echo '{\"value\": 99}' | nc -u -q0 127.0.0.1 14550")
        inside = ""
    else:
        say(f"    {run} in a                                             # a shell on semstreams-a.local; b, c, step-ca-a, ...")
        say(f"    {run} in a curl -s localhost:9600/metrics")
        say(f"    {run} in a bash -c 'echo \"{{\\\"value\\\": 99}}\" > /dev/udp/localhost/14550'")
        inside = f"{run} in b "
    say(f"    {inside}curl -si --cacert {b.certs / ROOT} --cert {b.identity}/certificate.pem \\\n"
        f"        --key {b.identity}/certificate.key https://{a.host.name}:8080/health")
    say(f"    tail -f {near(show.records)}")
    signal.pause()


def interrupted(number, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--semstreams", required=True)
    parser.add_argument("--ca", choices=["step-ca", "caddy"], required=True)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--loopback", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    with open(Path(options.folder) / "lock", "w") as lock, contextlib.ExitStack() as stack:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another one runs in {near(options.folder)}")
            return 1
        say(f"semstreams federation: three locations on this machine, files in {near(options.folder)}/")
        try:
            show = Federation(options, stack)
            show.run()
            if options.stay:
                stay(show)
            code = 0
        except Failed as failed:
            say(f"\nFAILED: {failed}")
            code = 1
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            say(f"\nFAILED: {type(error).__name__}: {error}")
            code = 1
        except KeyboardInterrupt:
            code = 0 if options.stay else 130
        say("\nStopping what was started.")
    return code


sys.exit(main())
