# SPDX-License-Identifier: MIT
"""Numbered loads, disks that are full on demand, and books that have to balance to the last event."""

import http.client
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, TREE, Metrics, assert_conserved

SIZE = 100  # bytes of an event
BASE = 10**9  # sequence numbers have ten digits: with fewer they would not be JSON
SOL_UDP, UDP_SEGMENT, SEGMENTS = 17, 103, 64  # linux/udp.h; datagrams in one send


# ---- configurations ----------------------------------------------------------------------------------------


def udp(name="udp", worker=None, **options):
    component = {"id": name, "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1", **options}}
    return {**component, "worker": worker} if worker else component


def half(name="half", worker=None):
    """A filter that lets the odd numbers through."""
    component = {"id": name, "type": "filter",
                 "config": {"where": {"field": "sensor", "op": "eq", "value": "temperature"}}}
    return {**component, "worker": worker} if worker else component


def storage(name="file", inputs=None, worker=None, **options):
    component = {"id": name, "type": "storage", "config": {"path": f"{name}.jsonl", "sync": "relaxed", **options}}
    if inputs is not None:
        component["inputs"] = inputs
    return {**component, "worker": worker} if worker else component


def queue(overflow="block", source="udp", events=64, size="64KiB"):
    return {"from": source, "queue": {"events": events, "bytes": size, "overflow": overflow}}


def pipeline(*components, **more):
    return {"components": list(components), **more}


def producers(config):
    """{id: [what it reads from, an id or id.port]}"""
    wired, before = {}, None
    for component in config["components"]:
        inputs = component.get("inputs", [before] if before and component["type"] != "udp_input" else [])
        wired[component["id"]] = [i if isinstance(i, str) else i["from"] for i in inputs]
        before = component["id"]
    return wired


# ---- sending -----------------------------------------------------------------------------------------------


def event(n, size=SIZE):
    """Number n, as tests/bench/udp_gen.c sends it."""
    seq = BASE + n
    sensor = "temperature" if seq % 2 else "atmospheric"
    text = f'{{"seq":{seq},"sensor":"{sensor}","value":{seq % 90 + 10:02d}.5,"pad":"'
    return (text + "x" * (size - len(text) - 2) + '"}').encode()


class Sender:
    """Sends numbered events from a thread until it is stopped; .sent of them were taken by the kernel.

    segmented: SEGMENTS of them with each system call; they travel as one packet to a receiver with gro.
    """

    def __init__(self, port, first=0, segmented=False):
        self.sent = 0
        self.error = None
        self._first = first
        self._each = SEGMENTS if segmented else 1
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        if segmented:
            self._socket.setsockopt(SOL_UDP, UDP_SEGMENT, SIZE)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def _run(self):
        try:
            while not self._stop.is_set():
                seq = self._first + self.sent
                self._socket.send(b"".join(event(seq + i) for i in range(self._each)))
                self.sent += self._each
        except OSError as e:
            self.error = e

    def stop(self):
        """Number sent.  Nobody may have refused one: it would be missing in the books."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        assert self.error is None
        return self.sent


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """udp_gen and seq_check, compiled: {name: file}"""
    folder = tmp_path_factory.mktemp("tools")
    cc = shlex.split(os.environ.get("CC", "cc"))
    built = {}
    for name in ("udp_gen", "seq_check"):
        built[name] = folder / name
        subprocess.run([*cc, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", built[name],
                        TREE / "tests" / "bench" / f"{name}.c"], check=True)
    return built


@pytest.fixture
def generate(tools):
    """generate(port, count, first=0, rate=1e6): count events of udp_gen"""

    def run(port, count, first=0, rate=1e6):
        done = subprocess.run([tools["udp_gen"], str(port), str(rate), str(count), str(SIZE), str(BASE + first)],
                              check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
        assert int(done.stdout.split()[0]) == count

    return run


@pytest.fixture
def check_numbers(tools):
    """check_numbers(file, first, count, step=1): how many of these numbers its lines hold; anything else fails."""

    def run(file, first, count, step=1):
        if not Path(file).exists():
            return 0
        done = subprocess.run([tools["seq_check"], str(file), "0", str(BASE + first), str(count), str(step)],
                              check=True, stdout=subprocess.PIPE, text=True)
        found, twice, other, end = map(int, done.stdout.split())
        assert (twice, other) == (0, 0)
        assert end == Path(file).stat().st_size, "the last line is not whole"
        return found

    return run


# ---- watching ----------------------------------------------------------------------------------------------


def open_files(program):
    """What the program's descriptors lead to, all at one moment: it is stopped meanwhile."""
    def stopped():
        try:
            return all(Path(task, "stat").read_text().rpartition(")")[2].split()[0] == "T"
                       for task in Path(f"/proc/{program.pid}/task").iterdir())
        except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            return False

    program.signal(signal.SIGSTOP)
    try:
        program.wait_for(stopped, what="all threads stopped")
        return [os.readlink(fd) for fd in Path(f"/proc/{program.pid}/fd").iterdir()]
    finally:
        program.signal(signal.SIGCONT)


def sockets(program, *tables):
    """Rows of these tables of /proc/net that are sockets of the program."""
    mine = set()
    for fd in os.listdir(f"/proc/{program.pid}/fd"):
        try:
            mine.add(os.readlink(f"/proc/{program.pid}/fd/{fd}"))
        except FileNotFoundError:  # closed by now
            pass
    rows = []
    for table in map(Path(f"/proc/{program.pid}/net").joinpath, tables):
        if table.exists():  # there may be no IPv6
            rows += [row.split() for row in table.read_text().splitlines()[1:]]
    return [row for row in rows if f"socket:[{row[9]}]" in mine]


class Scraper:
    """Scrapes over one connection that is kept."""

    def __init__(self, program):
        self._connection = http.client.HTTPConnection(program.admin, timeout=PATIENCE)

    def __call__(self):
        self._connection.request("GET", "/metrics")
        answer = self._connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200
        return Metrics(text)

    def close(self):
        self._connection.close()


def udp_port(program, component="udp"):
    """The port a udp_input with port 0 got."""
    return int(program.metrics().sum("semstreams_udp_local_port", component=component))


def kernel_dropped(metrics):
    return int(metrics.sum("semstreams_udp_kernel_dropped_total"))


def held(metrics):
    return int(metrics.sum("semstreams_events_held"))


def at_rest(program, sent, per_packet=1, timeout=PATIENCE):
    """Wait until whatever was sent has come to its end; the scrape.  The kernel's drops are looked up each second.

    per_packet: datagrams that the kernel counts as one when it drops them.
    """
    scrape = Scraper(program)

    def done():
        m = scrape()
        came = m.sum("semstreams_udp_datagrams_total") + per_packet * kernel_dropped(m)
        assert came <= sent, "more than was sent"
        return m if came == sent and held(m) == 0 else None

    try:
        return program.wait_for(done, timeout, f"all {sent} accounted for")
    finally:
        scrape.close()


def send_lossless(program, generate, port, count, first=0):
    """Send in portions that the kernel's receive buffer holds in any case."""
    scrape = Scraper(program)
    before = scrape()
    room = int(before.sum("semstreams_udp_receive_buffer_bytes") * 2 / 1500)
    came = before.sum("semstreams_udp_datagrams_total")
    sent = 0
    while sent < count:
        n = min(room, count - sent)
        generate(port, n, first + sent)
        sent += n
        program.wait_for(lambda: scrape().sum("semstreams_udp_datagrams_total") >= came + sent, what="portion read")
    scrape.close()


def assert_balanced(books, config):
    """What one component gave is what those behind it got; books: {id: {"in", "out", "filtered", "dropped", ...}}"""
    for component, b in books.items():
        gone = b["out"] + b["filtered"] + b["dropped"] + b.get("held", 0)
        assert b["in"] + b.get("created", 0) == gone, (component, b)
    wired = producers(config)
    split = {source.split(".")[0] for sources in wired.values() for source in sources if "." in source}
    for component, sources in wired.items():
        if sources and not split & {source.split(".")[0] for source in sources}:
            assert books[component]["in"] == sum(books[source]["out"] for source in sources), (component, books)


def balance(metrics, config):
    """Check a scrape taken at rest; the books by component."""
    assert_conserved(metrics)
    books = {name: metrics.books(name) for name in metrics.components()}
    assert_balanced(books, config)
    return books


def last_words(program, config):
    """Check the last log lines against each other; them by component."""
    books = {c["id"]: program.stopped(c["id"]) for c in config["components"]}
    assert_balanced(books, config)
    return books


# ---- full disks --------------------------------------------------------------------------------------------


def stop_disk(program, file):
    """From now on no file of the program can be longer than this one is: for storage, a full disk."""
    size = max(Path(file).stat().st_size, 1 << 14)  # the log has to go on
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def free_disk(program):
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(folder)], check=False,
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Leave no room; remove the file that is returned to give it back."""
    free = os.statvfs(folder)
    filler = Path(folder) / "filler"
    filler.write_bytes(b"\0" * (free.f_bavail * free.f_frsize))
    return filler


def seqs(file):
    """The numbers in a file's lines, all of them whole."""
    text = Path(file).read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line)["seq"] - BASE for line in text.split("\n")[:-1]]


def is_sanitized(binary):
    """Memory means nothing then: what is freed is kept for a while."""
    with open(binary, "rb") as f:
        return b"__asan_init" in f.read()
