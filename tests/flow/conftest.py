# SPDX-License-Identifier: MIT
"""What the system tests share: the installed program, running in a folder of its own, waited for without sleeping.

Environment: SEMSTREAMS = the program to test (else the one in PATH); TEST_SLOW_FSYNC = milliseconds that each fsync of a
folder takes longer, TEST_SLOW_CLOCK = how many times slower the clock of timers runs in programs, TEST_BUSY_CORES = how many
cores are kept busy meanwhile: for runs that look for fragile tests.
"""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lab.ports import unused_port  # noqa: E402
from lab.servers import Pebble  # noqa: E402

TREE = Path(__file__).resolve().parents[2]
PATIENCE = float(os.environ.get("TEST_PATIENCE", "60"))  # seconds until a wait is given up


SLOW = {"test_acme_faults.py", "test_aggregate_crash.py", "test_deployment.py", "test_federation.py", "test_link_oracle.py",
        "test_new_plugin.py"}


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; left out by tests/run --quick")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """As pytest's own, but a test that fails with a Pebble that has locked itself up is run again: it shows nothing."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    lockups = len(Pebble.lockups)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if len(Pebble.lockups) > lockups and any(report.failed for report in reports):
        item._initrequest()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_report_header(config):
    return f"semstreams: {find_binary()}"


def find_binary():
    return os.environ.get("SEMSTREAMS") or shutil.which("semstreams")


def shared_library(source, folder):
    """Compile a source of this folder, to be preloaded; its path."""
    library = Path(folder) / f"{source}.so"
    try:
        subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library,
                        Path(__file__).with_name(f"{source}.c"), "-ldl"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


@pytest.fixture(scope="session", autouse=True)
def slow_machine(tmp_path_factory):
    """For the whole run: a slow disk, a slow clock and busy cores, where the environment says so."""
    busy, preload = int(os.environ.get("TEST_BUSY_CORES", "0")), []
    for test, variable, source in (("TEST_SLOW_FSYNC", "SLOW_FSYNC_MS", "slow_fsync"),
                                   ("TEST_SLOW_CLOCK", "SLOW_CLOCK", "slow_clock")):
        if test in os.environ:
            os.environ[variable] = os.environ[test]
            preload.append(str(shared_library(source, tmp_path_factory.mktemp("preload"))))
    if preload:
        os.environ["LD_PRELOAD"] = " ".join(preload)
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    yield
    for spinner in spinners:
        spinner.kill()
        spinner.wait()


@pytest.fixture(scope="session")
def semstreams():
    """Path of the program under test."""
    binary = find_binary()
    if not binary:
        pytest.skip("set SEMSTREAMS to the program to test")
    return binary


@pytest.fixture(scope="session")
def tree():
    """The source tree."""
    return TREE


@pytest.fixture
def command(semstreams, tmp_path):
    """Run the program to its end: command("check", "-c", file) -> CompletedProcess with text in stdout and stderr."""

    def run(*args, **kwargs):
        kwargs.setdefault("cwd", tmp_path)
        kwargs.setdefault("timeout", PATIENCE)
        if "input" not in kwargs:
            kwargs["stdin"] = subprocess.DEVNULL
        return subprocess.run([semstreams, *map(str, args)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="backslashreplace", **kwargs)

    return run


@pytest.fixture
def udp_port():
    """A UDP port of 127.0.0.1 that nobody uses."""
    return unused_port(socket.SOCK_DGRAM)


@pytest.fixture
def tcp_port():
    """A TCP port of 127.0.0.1 that nobody uses."""
    return unused_port(socket.SOCK_STREAM)


class Metrics(dict):
    """A scrape: {(name, ((label, value), ...)): number}, labels sorted by name."""

    LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            m = self.LINE.match(line)
            assert m, f"not a sample: {line!r}"
            labels = tuple(sorted(self.LABEL.findall(m[2] or "")))
            assert (m[1], labels) not in self, f"twice: {line!r}"
            self[m[1], labels] = float(m[3])

    def select(self, name, **labels):
        wanted = set(labels.items())
        return {key: value for key, value in self.items() if key[0] == name and wanted <= set(key[1])}

    def sum(self, name, **labels):
        """Sum of the samples of that name with at least these labels; 0 if there are none."""
        return sum(self.select(name, **labels).values())

    def components(self):
        return sorted({dict(labels)["component"] for name, labels in self if name == "semstreams_events_in_total"})

    def books(self, component):
        """One component's events by fate."""

        def count(what):
            return int(self.sum(f"semstreams_events_{what}", component=component))

        return {"in": count("in_total"), "created": count("created_total"), "out": count("out_total"),
                "filtered": count("filtered_total"), "dropped": count("dropped_total"), "held": count("held")}


def assert_conserved(metrics):
    """No event came from nowhere and none vanished, in any component."""
    for component in metrics.components():
        b = metrics.books(component)
        assert b["in"] + b["created"] == b["out"] + b["filtered"] + b["dropped"] + b["held"], (component, b)


@pytest.fixture
def conserved():
    return assert_conserved


def readable(files, timeout):
    """Those of the files that can be read within the timeout, in seconds; their numbers may be above 1,023."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    events = {fd for fd, _ in poll.poll(timeout * 1000)}
    return [file for file in files if (file if isinstance(file, int) else file.fileno()) in events]


class Program:
    """A running semstreams.  Its log is in .log_file, its folder .folder is its working directory."""

    def __init__(self, binary, folder, config, args=(), env=None, name="config.json"):
        self.folder = Path(folder)
        self.config_file = self.folder / name
        if isinstance(config, dict):
            config = dict(config)
            config.setdefault("admin", {"listen": "127.0.0.1:0"})
            config = json.dumps(config, indent=2)
        if config is not None:
            self.config_file.write_text(config)
        self.log_file = self.folder / "log"
        self._notify_folder = tempfile.mkdtemp(prefix="ss-")  # socket paths are short
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notify.bind(f"{self._notify_folder}/notify")
        self.notified = []
        with open(self.log_file, "ab") as log:
            self.process = self._spawn([binary, "--config", str(self.config_file), *map(str, args)],
                                       {"NOTIFY_SOCKET": f"{self._notify_folder}/notify", **(env or {})}, log)
        self._pidfd = os.pidfd_open(self.process.pid)

    def _spawn(self, command, env, log):
        return subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env={**os.environ, **env})

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="backslashreplace")

    def _next_notification(self, deadline):
        """Wait for a message or the end of the process; False if it ended."""
        ready = readable([self._notify, self._pidfd], max(0, deadline - time.monotonic()))
        if self._notify in ready:
            self.notified += self._notify.recv(4096).decode().splitlines()
            return True
        assert ready, f"gave up waiting; told so far: {self.notified}; log:\n{self.log()}"
        return False

    def read_notifications(self):
        """Those that there are: a program waits for room to tell more."""
        while self._notify in readable([self._notify], 0):
            self._next_notification(time.monotonic())

    def wait_notified(self, line, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while line not in self.notified:
            assert self._next_notification(deadline), f"ended with {self.process.wait()}; log:\n{self.log()}"

    def wait_ready(self, timeout=PATIENCE):
        self.wait_notified("READY=1", timeout)
        return self

    def wait_for(self, condition, timeout=PATIENCE, what=None):
        """Until condition() is true, or the process has ended; its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            ended = readable([self._pidfd], 0.005)
            if ended:
                value = condition()
                assert value, f"ended with {self.process.wait()} waiting for {what or condition}; log:\n{self.log()}"
                return value
            assert time.monotonic() < deadline, f"gave up waiting for {what or condition}; log:\n{self.log()}"

    def wait_log(self, pattern, timeout=PATIENCE):
        """Until the log matches; the match."""
        return self.wait_for(lambda: re.search(pattern, self.log(), re.M), timeout, f"log line {pattern!r}")

    @property
    def admin(self):
        """host:port of the admin port."""
        return self.wait_log(r"\badmin=(\S+:\d+)")[1]

    def get(self, path):
        """GET from the admin port: (status, text)."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200
        return Metrics(text)

    def wait_metric(self, name, value, timeout=PATIENCE, **labels):
        """Until the sum of these samples is at least value; the scrape."""

        def reached():
            m = self.metrics()
            return m if m.sum(name, **labels) >= value else None

        return self.wait_for(reached, timeout, f"{name}{labels} >= {value}")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=PATIENCE):
        """Its exit code; -N if signal N ended it."""
        return self.process.wait(timeout)

    def stop_at_once(self, number=None):
        """Signals until one comes late enough not to be taken for a repetition of the first."""
        self.wait_log("Shutting down")

        def again():
            self.signal(number or signal.SIGTERM)
            return "Second signal" in self.log()

        self.wait_for(again, what="the second signal to count")

    def terminate(self, timeout=PATIENCE):
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def stopped(self, component):
        """What the log says about a component at the end: {"in": 3, "out": 3, ...}."""
        lines = [line for line in self.log().splitlines()
                 if "Component stopped" in line and re.search(rf"\bcomponent={re.escape(component)}( |$)", line)]
        assert lines, f"no last word about {component}; log:\n{self.log()}"
        return {key: int(value) for key, value in re.findall(r"\b(\w+)=(\d+)\b", lines[-1])}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._pidfd)
        self._notify.close()
        shutil.rmtree(self._notify_folder, ignore_errors=True)


@pytest.fixture
def start(semstreams, tmp_path):
    """start(config, *args, ready=True, env=None, folder=None) -> Program; killed at the end of the test.

    config is a dict, the text of a file, or None to use <folder>/config.json as it is.  A dict without "admin" gets an
    admin port of its own.
    """
    with contextlib.ExitStack() as stack:

        def run(config, *args, ready=True, env=None, folder=None):
            program = Program(semstreams, folder or tmp_path, config, args, env)
            stack.callback(program.close)
            return program.wait_ready() if ready else program

        yield run


@pytest.fixture
def send():
    """send(port, payload, ...) or send((host, port), payload, ...): one datagram each, from one socket."""

    def datagrams(to, *payloads):
        address = to if isinstance(to, tuple) else ("127.0.0.1", to)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.connect(address)
            for payload in payloads:
                s.send(payload.encode() if isinstance(payload, str) else payload)

    return datagrams


def whole_lines(file):
    """The lines of a file, without their ends and without one that is being written; [] if there is no file yet."""
    try:
        return Path(file).read_text(errors="surrogateescape").split("\n")[:-1]
    except FileNotFoundError:
        return []


@pytest.fixture
def lines():
    """lines(file): whole_lines()"""
    return whole_lines
