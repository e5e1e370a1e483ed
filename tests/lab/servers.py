# SPDX-License-Identifier: MIT
"""Real ACME servers, each a process with a folder of its own: StepCa, Caddy (whose acme_server is step-ca's code), Pebble.

A server runs on a Host, or on the machine itself with host=None.  .url is the directory, .roots the file with the root to
trust for its own HTTPS.  Programs come from Debian's packages; what is missing is an error that names the package.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

from .hosts import PATH, WITH_US, environment
from .ports import unused_port

TREE = Path(__file__).resolve().parents[2]
PATIENCE = float(os.environ.get("TEST_PATIENCE", "30"))
GO_SOURCES = Path("/usr/share/gocode")


class Missing(RuntimeError):
    """A program is not here; the text says which package has it."""


def cache():
    """Where programs are kept that are built or unpacked once."""
    return Path(os.environ.get("LAB_CACHE") or TREE / "build" / "lab")


def program(name, package):
    """The program's path: unpacked below cache() by "unpack", or installed."""
    for path in (f"{cache() / package}/usr/bin:{cache() / package}/usr/sbin", PATH):
        found = shutil.which(name, path=path)
        if found:
            return found
    raise Missing(f"the program {name} is missing; on Debian it is in the package {package}")


def has_step_ca():
    """Are Debian's packages of step-ca's source here?"""
    return bool(shutil.which("go", path=PATH)) and (GO_SOURCES / "src/github.com/smallstep/certificates").is_dir()


def step_ca():
    """step-ca's path; it is built when it is not there yet (about 30 s, later nothing)."""
    if not has_step_ca():
        raise Missing("step-ca cannot be built; on Debian: apt-get install --no-install-recommends golang-go "
                      "golang-github-smallstep-certificates-dev")
    source = Path(__file__).with_name("stepca") / "main.go"
    binary = cache() / f"step-ca-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    binary.parent.mkdir(parents=True, exist_ok=True)
    with open(binary.with_suffix(".lock"), "w", encoding="ascii") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            build_step_ca(source, binary)
    return str(binary)


def build_step_ca(source, binary):
    new = binary.with_suffix(f".{os.getpid()}")
    env = {"PATH": PATH, "HOME": str(Path.home()), "GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOPROXY": "off",
           "GOFLAGS": "-trimpath", "GOCACHE": str(cache() / "go"), "CGO_ENABLED": "0"}
    done = subprocess.run(["go", "build", "-o", str(new), str(source)], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"step-ca does not build:\n{done.stderr}")
    new.rename(binary)


class Server:
    """A server that start() starts and stop() stops; log in .log.  Its process may be changed with signal()."""

    path = "/"
    env = {}

    def __init__(self, folder, host, name):
        self.folder, self.host = Path(folder), host
        self.name, self.bind = name or (host.name if host else "localhost"), host.bind if host else "127.0.0.1"
        self.port = 9000 + host.shift if host else unused_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log, self.process = self.folder / "log", None
        self.roots = None

    @property
    def origin(self):
        return f"https://{self.name}:{self.port}"

    @property
    def url(self):
        return self.origin + self.path

    def argv(self):
        raise NotImplementedError

    def popen(self, *argv, **kwargs):
        kwargs = {"cwd": self.folder, "stdin": subprocess.DEVNULL, "start_new_session": True, **kwargs}
        if self.host:
            return self.host.popen(*argv, env=self.env, **kwargs)
        return subprocess.Popen([*WITH_US, *map(str, argv)], env=environment(self.folder, self.env), **kwargs)

    def get(self, url, **kwargs):
        """The body of an answer 200; None for anything else."""
        resolve = [] if self.host else ["--resolve", f"{self.name}:{urllib.parse.urlsplit(url).port}:127.0.0.1"]
        with self.popen("curl", "-sf", "--cacert", self.roots, *resolve, url, stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL, text=True, **kwargs) as curl:
            body = curl.communicate(timeout=PATIENCE)[0]
        return body if curl.returncode == 0 else None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = self.popen(*self.argv(), stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while self.get(self.url) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{type(self).__name__} does not answer at {self.url}; its log:\n{self.log.read_text()}")
            time.sleep(0.01)
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, patience=5):
        """A server that takes its time is killed."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None


class StepCa(Server):
    """step-ca with an intermediate of ours.  lives: {provisioner: life of its certificates}.  Its own certificates are
    for its name.  It asks back at ports 80 and 443, always."""

    path = "/acme/acme/directory"

    def __init__(self, folder, host, root, crt, key, lives=None, name=None):
        super().__init__(folder, host, name)
        self.program, self.roots = step_ca(), Path(root)
        self.env = {"STEPPATH": str(self.folder / "step")}
        self.lives = lives or {"acme": "24h"}
        self.configure(crt, key)

    def configure(self, crt, key):
        """Write ca.json; of use to a server that runs after signal(SIGHUP) or a restart."""
        provisioners = [{"type": "ACME", "name": name, "claims": {"defaultTLSCertDuration": life,
                                                                 "maxTLSCertDuration": max(life, "24h", key=seconds)}}
                        for name, life in self.lives.items()]
        claims = {"minTLSCertDuration": "5s", "defaultTLSCertDuration": "24h", "maxTLSCertDuration": "48h"}
        (self.folder / "ca.json").write_text(json.dumps({
            "root": str(self.roots), "crt": str(crt), "key": str(key), "address": f"{self.bind}:{self.port}",
            "dnsNames": [self.name], "logger": {"format": "text"},
            "db": {"type": "bbolt", "dataSource": str(self.folder / "db")},
            "authority": {"claims": claims, "provisioners": provisioners},
            "tls": {"minVersion": 1.2, "maxVersion": 1.3}}, indent=2))

    def directory(self, provisioner):
        return f"{self.origin}/acme/{provisioner}/directory"

    def argv(self):
        return [self.program, self.folder / "ca.json"]


def seconds(duration):
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


class Caddy(Server):
    """Caddy's acme_server with an intermediate of ours; certificates live 12 h.  Asks back at ports 80 and 443, always."""

    path = "/acme/acme/directory"

    def __init__(self, folder, host, root, crt, key, name=None):
        super().__init__(folder, host, name)
        self.program, self.roots = program("caddy", "caddy"), Path(root)
        self.env = {"XDG_DATA_HOME": str(self.folder / "data"), "XDG_CONFIG_HOME": str(self.folder / "data")}
        self.configure(crt, key)

    def configure(self, crt, key):
        # the root's key stays offline, but caddy wants to read one: any will do
        idle = self.folder / "not-the-root.key"
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(idle)],
                       check=True, stdin=subprocess.DEVNULL, capture_output=True)
        pair = lambda crt, key: {"certificate": str(crt), "private_key": str(key), "format": "pem_file"}
        authority = {"name": self.name, "install_trust": False, "root": pair(self.roots, idle), "intermediate": pair(crt, key)}
        own = {"subjects": [self.name], "issuers": [{"module": "internal", "ca": "acme"}]}
        acme = {"handler": "acme_server", "ca": "acme", "path_prefix": "/acme/"}
        (self.folder / "caddy.json").write_text(json.dumps({
            "admin": {"disabled": True, "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(self.folder / "data")},
            "apps": {"pki": {"certificate_authorities": {"acme": authority}},
                     "tls": {"automation": {"policies": [own]}},
                     "http": {"servers": {"acme": {
                         "listen": [f"{self.bind}:{self.port}"], "automatic_https": {"disable_redirects": True},
                         "routes": [{"match": [{"host": [self.name]}], "terminal": True, "handle": [acme]}],
                         "tls_connection_policies": [{}]}}}}}, indent=2))

    def argv(self):
        return [self.program, "run", "--config", self.folder / "caddy.json"]


class Pebble(Server):
    """Pebble, the tests' CA of Let's Encrypt: makes up root and intermediate at each start and forgets all at its end.

    leaf: certificate and key for its own HTTPS (.cert, .key), issued by the root in file roots.  It asks back at
    http_port and tls_port; behind=port: it is reached by a proxy there.  resolver: "host:port" of its DNS server; with
    host=None one is started that knows every name as 127.0.0.1.  nonces: percent of the good ones that it refuses;
    reuse: percent of valid authorizations that it uses again.  life: of its certificates, seconds.

    Pebble takes the locks of an authorization and of its challenge in both orders, so that some of its threads may wait for
    each other for ever, and then whoever asks it, too; rare, but more often where cores are busy.  stop() has it print what
    its threads wait for, and adds such a one to lockups.
    """

    path = "/dir"
    lockups = []

    def __init__(self, folder, leaf, roots, host=None, name=None, http_port=None, tls_port=None, nonces=0, reuse=0,
                 sleep=0, life=86400, eab=None, strict=False, chain=1, alternates=0):
        super().__init__(folder, host, name)
        self.program, self.roots, self.strict = program("pebble", "pebble"), Path(roots), strict
        self.port, self.management = unused_port(), unused_port()
        self.http_port, self.tls_port = http_port or unused_port(), tls_port or unused_port()
        self.env = {"PEBBLE_WFE_NONCEREJECT": str(nonces), "PEBBLE_AUTHZREUSE": str(reuse),
                    "PEBBLE_CHAIN_LENGTH": str(chain), "PEBBLE_ALTERNATE_ROOTS": str(alternates),
                    **({"PEBBLE_VA_SLEEPTIME": str(sleep)} if sleep else {"PEBBLE_VA_NOSLEEP": "1"})}
        self._dns, self._resolver = None, None if host else f"127.0.0.1:{unused_port(socket.SOCK_DGRAM)}"
        self._dns_management = f"127.0.0.1:{unused_port()}"
        address = self.bind or "0.0.0.0"
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": {
            "listenAddress": f"{address}:{self.port}", "managementListenAddress": f"{address}:{self.management}",
            "certificate": str(leaf.cert), "privateKey": str(leaf.key), "httpPort": self.http_port,
            "tlsPort": self.tls_port, "ocspResponderURL": "", "externalAccountBindingRequired": bool(eab),
            **({"externalAccountMACKeys": eab} if eab else {}),
            "certificateValidityPeriod": life}}, indent=2))

    def argv(self):
        return [self.program, "-config", self.folder / "pebble.json", *(["-strict"] if self.strict else []),
                *(["-dnsserver", self._resolver] if self._resolver else [])]

    def start(self):
        if self._resolver:
            with open(self.folder / "dns.log", "ab") as log:
                self._dns = self.popen(
                    program("pebble-challtestsrv", "pebble"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01",
                    self._resolver, "-http01", "", "-https01", "", "-tlsalpn01", "", "-management",
                    self._dns_management, stdout=log, stderr=log)
        return super().start()

    def know(self, name, address):
        """From now on its DNS server has this address for a name, not 127.0.0.1."""
        record = json.dumps({"host": f"{name}.", "addresses": [address]}).encode()
        with urllib.request.urlopen(f"http://{self._dns_management}/add-a", record, PATIENCE):
            pass

    def issuer_root(self, number=0):
        """PEM of the root that it made up."""
        return self.get(f"https://{self.name}:{self.management}/roots/{number}")

    def status(self, serial):
        """What it says of a certificate, by serial number in hex."""
        return json.loads(self.get(f"https://{self.name}:{self.management}/cert-status-by-serial/{serial}"))

    def stop(self, patience=5):
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGQUIT)  # as SIGTERM, with the stack of each goroutine
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
            stacks = self.log.read_text(errors="backslashreplace").split("\n\n")
            if sum("[semacquire" in stack and "sync.(*RWMutex)" in stack for stack in stacks) > 1:
                self.lockups.append(self)
        super().stop(patience)
        if self._dns:
            self._dns.kill()
            self._dns.wait()
            self._dns = None
