# SPDX-License-Identifier: MIT
"""An oracle over the link: whatever happens to hosts and lines, what A's spool took is in C's file exactly once, or was
reported lost by a limit.

UDP promises nothing, so an event is owed from the moment A counts it out (events_out_total of its websocket_output
with a spool).  Faults come at random: hosts are killed or stopped, lose their power and what their disks had not
synced, lines are reset, cut, slowed to a byte a second, or swallow everything.  Then a final phase without faults: every
event owed is there once, whole and in order, a fresh one passes, and the books of all hosts balance.

Five kinds of chain, that run at the same time: plain, mtls and reverse (the senders dial) over lines that are TCP proxies, power
with disks that forget, and netns with a network namespace for each host and cables that are pulled out.

Environment: LINK_FAULTS = how many faults each (80), LINK_SEED = the seed of a run to repeat.  tests/soak/link runs many more.
"""

import collections
import concurrent.futures
import heapq
import json
import os
import random
import re
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import PATIENCE, Program, assert_conserved
from link_faults import Disk, Network, build_shim, inside
from test_link import Chain
from test_link_tls import Federation

pytestmark = pytest.mark.xdist_group("link_oracle")  # trials are made once

FAULTS = int(os.environ.get("LINK_FAULTS", "80"))
RATE = 500  # events a second
PORTION = 1 << 16


# ---- the line between two hosts ----------------------------------------------------------------------------


class Pair:
    """A connection through the line: both sockets, what is on its way, and how it is treated."""

    def __init__(self, near, far):
        self.ends, self.waiting = (near, far), {near: b"", far: b""}  # what is to be written to each
        self.silent, self.slow = False, False
        self.next_byte = 0.0

    def other(self, s):
        return self.ends[s is self.ends[0]]


class Line:
    """Carries TCP connections to a port of 127.0.0.1, from a port of its own and in a thread of its own, and can do to
    them what networks do."""

    def __init__(self, to):
        self.to = to
        self.listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.pairs, self.cut_off = set(), False
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._commands, self._ended = collections.deque(), False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # what tests ask for, done by the thread

    def _ask(self, command):
        self._commands.append(command)
        self._wake_write.send(b"x")

    def reset(self):
        """RST to both ends of every connection."""
        self._ask(lambda: [self._drop(p) for p in list(self.pairs)])

    def swallow(self):
        """From now on nothing comes through the connections there are, and nobody is told."""
        self._ask(lambda: [self._silence(p) for p in self.pairs])

    def cut(self, off):
        """Reset every connection and refuse new ones, or let them through again."""

        def do():
            self.cut_off = off
            if off:
                for p in list(self.pairs):
                    self._drop(p)

        self._ask(do)

    def slow(self, on):
        """A byte a second each way, for the connections there are."""

        def do():
            for p in self.pairs:
                p.slow = on
                self._watch(p)

        self._ask(do)

    def close(self):
        self._ended = True
        self._wake_write.send(b"x")
        self._thread.join()
        for p in list(self.pairs):
            self._drop(p)
        for s in (self.listener, self._wake_read, self._wake_write):
            s.close()
        self._selector.close()

    # the thread

    def _silence(self, pair):
        pair.silent = True
        self._watch(pair)

    def _drop(self, pair):
        self.pairs.discard(pair)
        for s in pair.ends:
            try:
                self._selector.unregister(s)
            except KeyError:
                pass
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            if self.cut_off:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self.to), timeout=PATIENCE)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.close()
            return
        pair = Pair(near, far)
        self.pairs.add(pair)
        for s in pair.ends:
            s.setblocking(False)
        self._watch(pair)

    def _watch(self, pair):
        """Read from an end while little waits for the other; a silent or slow connection is not watched for writing."""
        for s in pair.ends:
            events = 0
            if not pair.silent:
                events |= selectors.EVENT_READ if len(pair.waiting[pair.other(s)]) < PORTION else 0
                events |= selectors.EVENT_WRITE if pair.waiting[s] and not pair.slow else 0
            known = s in self._selector.get_map()
            if events and known:
                self._selector.modify(s, events, pair)
            elif events:
                self._selector.register(s, events, pair)
            elif known:
                self._selector.unregister(s)

    def _write(self, pair, s, most=PORTION):
        n = s.send(pair.waiting[s][:most])
        pair.waiting[s] = pair.waiting[s][n:]

    def _serve(self, pair, s, events):
        if events & selectors.EVENT_READ:
            data = s.recv(PORTION)
            if not data:  # whatever waits for the other is lost as on a line: the ends have their own closing
                raise ConnectionResetError
            pair.waiting[pair.other(s)] += data
        if events & selectors.EVENT_WRITE:
            self._write(pair, s)

    def _trickle(self):
        """The bytes that are due on slow connections; seconds until the next."""
        now, due = time.monotonic(), None
        for pair in list(self.pairs):
            if not pair.slow or pair.silent:
                continue
            if pair.next_byte <= now:
                pair.next_byte = now + 1
                try:
                    for s in pair.ends:
                        if pair.waiting[s]:
                            self._write(pair, s, 1)
                except BlockingIOError:
                    pass
                except OSError:
                    self._drop(pair)
                    continue
                self._watch(pair)
            due = min(due or pair.next_byte, pair.next_byte)
        return None if due is None else max(0, due - now)

    def _run(self):
        while not self._ended:
            for key, events in self._selector.select(self._trickle()):
                if key.fileobj is self._wake_read:
                    self._wake_read.recv(4096)
                elif key.fileobj is self.listener:
                    self._accept()
                elif key.data in self.pairs:  # not dropped just now
                    try:
                        self._serve(key.data, key.fileobj, events)
                        self._watch(key.data)
                    except BlockingIOError:
                        pass
                    except OSError:
                        self._drop(key.data)
            while self._commands:
                self._commands.popleft()()


# ---- the load ----------------------------------------------------------------------------------------------


def payload(n):
    """Number n; of many lengths, some longer than a frame."""
    size = 20000 if n % 997 == 0 else n * 7919 % 600
    return b'{"seq": %d, "pad": "%s"}' % (n, b"x" * size)


class Load:
    """Sends numbered events from a thread, except while it is paused, and keeps account of what A owes.

    What one life of A counts out are the first of those that were sent to it: nothing overtakes on the way.
    """

    def __init__(self, port, namespace=None):
        self.sent, self.life, self.owed = 0, [], set()
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self.lock, self._stop = threading.Lock(), threading.Event()
        self._paused = True
        self._out = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.02):
            with self.lock:
                # not more than A's socket holds while it is stopped
                if not self._paused and len(self.life) - self._out < RATE:
                    self.send(RATE // 50)

    def send(self, n):
        for _ in range(n):
            try:
                self._socket.send(payload(self.sent))
                self.life.append(self.sent)
            except ConnectionRefusedError:
                pass
            self.sent += 1

    def counted(self, out):
        """A has counted out so many in this life."""
        with self.lock:  # what was sent is in the account
            assert out <= len(self.life)
            self.owed.update(self.life[self._out:out])
            self._out = max(self._out, out)

    def pause(self):
        with self.lock:
            self._paused = True

    def new_life(self, paused=False):
        with self.lock:
            self.life, self._out, self._paused = [], 0, paused

    def close(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()


# ---- the oracle --------------------------------------------------------------------------------------------


class Inside(Program):
    """A host in a network namespace."""

    def __init__(self, namespace, *args):
        self._namespace = namespace
        with inside(namespace):
            super().__init__(*args)

    def get(self, path):
        with inside(self._namespace):
            return super().get(path)


class Hosts(Chain):
    """The chain, with a network of its own and disks that forget, if there are any."""

    def __init__(self, binary, folder, tls, network, disks):
        super().__init__(binary, folder, tls)
        self.network, self.disks = network, disks

    def run(self, name, folder, config):
        env = self.disks[name].env if self.disks else None
        if self.disks:  # what is deleted is kept beside the folder
            config = {**config, "sandbox": "off"}
        return Inside(self.network and self.network.hosts[name], self.binary, folder, config, (), env)


class Cable:
    """What joins a host to the switch, with the faults of a Line."""

    def __init__(self, network, name):
        self._network, self._name = network, name

    def cut(self, off):
        self._network.cut(self._name, off)

    def slow(self, on):
        self._network.slow(self._name, on)

    def reset(self):
        self._network.reset(self._name)

    def close(self):
        pass


KINDS = ("plain", "mtls", "reverse", "power", "netns")
LINE_FAULTS = {"kill": 6, "stop": 3, "reset": 3, "swallow": 2, "cut": 2, "slow": 1}
CABLE_FAULTS = {"kill": 5, "stop": 3, "reset": 3, "half_open": 2, "cut": 4, "slow": 1}
POWER_FAULTS = {"power": 12, "kill": 4, "stop": 2, "reset": 1, "swallow": 1, "cut": 1}


class Trial:
    """The chain with a line between each two hosts."""

    def __init__(self, binary, folder, seed, kind="plain"):
        self.rng = random.Random(f"{kind} {seed}")
        self.later, self.stopped, self.happened = [], set(), collections.Counter()
        self.story, self.loaded, self.lines, self.load, self.network, self.chain = [], True, {}, None, None, None
        try:
            self._build(binary, folder, kind)
        except BaseException:
            self.close()
            raise

    def _build(self, binary, folder, kind):
        tls = Federation(folder).chain() if kind == "mtls" else None
        self.network = Network() if kind == "netns" else None
        shim = build_shim(folder) if kind == "power" else None
        self.disks = {name: Disk(folder / name, shim) for name in "abc"} if shim else None
        self.faults = {"netns": CABLE_FAULTS, "power": POWER_FAULTS}.get(kind, LINE_FAULTS)
        self.chain = Hosts(binary, folder, tls, self.network, self.disks)
        if self.network:
            self.lines = {name: Cable(self.network, name) for name in "abc"}
        else:
            self.lines = {name: Line(self.chain.ports[name]) for name in "ab"}  # A to B, B to C
        self._configure(tls, reverse=kind == "reverse")
        self.load = Load(self.chain.udp, self.network and self.network.hosts["a"])

    def _configure(self, tls, reverse):
        """reverse: the senders dial, else the receivers."""
        quick = {"ping_interval": "1s", "dead_after": "2s", "handshake_timeout": "2s", "close_timeout": "1s"}
        scheme = "wss" if tls else "ws"
        for receiver, sender in (("b", "a"), ("c", "b")):
            takes, gives = self.chain.components[receiver][0]["config"], self.chain.components[sender][1]["config"]
            dials, listens = (gives, takes) if reverse else (takes, gives)
            for config in (takes, gives):
                for option in ("url", "port", "path", "retry_min", "retry_max"):
                    config.pop(option, None)
                config.update(quick)
            where = (f"{self.network.address[sender]}:{self.chain.ports[sender]}" if self.network
                     else f"localhost:{self.lines[sender].port}")
            dials.update(url=f"{scheme}://{where}/data", retry_min="50ms", retry_max="200ms")
            listens.update(port=self.chain.ports[sender], path="/data")
        # durable long after it came: what is acknowledged too early is lost
        self.chain.components["c"][1]["config"].update(sync="interval", sync_interval="200ms")
        if self.disks:  # small files, so that many come and go
            for name in "ab":
                self.chain.components[name][1]["config"]["spool"]["max_bytes"] = "3MiB"

    def start(self, name):
        self.chain.start(name)
        if name == "a":
            self.load.new_life(paused=not self.loaded)

    def close(self):
        for name in list(self.stopped):
            self.resume(name)
        for part in (self.load, self.chain, *self.lines.values(), self.network):
            if part:
                part.close()

    def look(self):
        """What A owes by now; a stopped A tells nothing."""
        if "a" in self.stopped:
            return
        metrics = self.chain.programs["a"].metrics()
        assert metrics.sum("semstreams_udp_kernel_dropped_total") == 0, "this machine is too slow for the load"
        self.load.counted(int(metrics.sum("semstreams_events_out_total", component="edge")))

    def look_closely(self):
        """Until A owes a part of what was sent just now: what it counts too early is lost if it dies at once."""
        self.look()
        with self.load.lock:
            self.load.send(50)
        owed, end = len(self.load.owed), time.monotonic() + 0.1
        while len(self.load.owed) == owed and "a" not in self.stopped and time.monotonic() < end:
            self.look()

    # faults

    def kill(self, name, meanwhile=lambda: None):
        if name == "a":
            self.look_closely()
        self.chain.kill(name)
        self.stopped.discard(name)
        if name == "a":
            self.load.pause()
        meanwhile()
        self.start(name)

    def power(self, name):
        """The power fails, often while nobody but this disk has the newest; what it has makes a spool without holes."""

        def fail():
            self.disks[name].cut(self.rng)
            spool = self.chain.folder / name / "spool"
            if list(spool.glob("*.seg")):
                done = subprocess.run([self.chain.binary, "spool", "check", str(spool)], capture_output=True, text=True,
                                      check=False)
                assert done.returncode == 0 or "there is no spool" in done.stderr, done.stdout + done.stderr

        if name in self.lines and self.rng.random() < 0.6:
            self.lines[name].cut(True)
            self.pass_time(0.1)
            self.after(0.3, lambda: self.lines[name].cut(False))
        self.kill(name, fail)

    def half_open(self, name):
        """A host goes, and comes again, while the cable is out: nobody tells the other end."""
        self.lines[name].cut(True)
        self.kill(name)
        self.after(self.rng.uniform(0, 1), lambda: self.lines[name].cut(False))

    def stop(self, name):
        self.chain.programs[name].signal(signal.SIGSTOP)
        self.stopped.add(name)
        program = self.chain.programs[name]
        self.after(self.rng.choice((0.05, 0.3, 1, 3)), lambda: self.resume(name, program))

    def resume(self, name, program=None):
        """program: the life that was stopped; it may be over."""
        if program in (None, self.chain.programs[name]):
            self.chain.programs[name].signal(signal.SIGCONT)
            self.stopped.discard(name)

    def cut(self, name):
        self.lines[name].cut(True)
        self.after(self.rng.uniform(0, 2), lambda: self.lines[name].cut(False))

    def slow(self, name):
        self.lines[name].slow(True)
        self.after(self.rng.uniform(0.5, 4), lambda: self.lines[name].slow(False))

    def after(self, seconds, do):
        heapq.heappush(self.later, (time.monotonic() + seconds, len(self.story), do))

    def fault(self):
        kind = self.rng.choices(list(self.faults), list(self.faults.values()))[0]
        of_hosts = kind in ("kill", "stop", "power", "half_open")
        target = self.rng.choice("abc" if of_hosts else sorted(self.lines))
        act = {"reset": lambda n: self.lines[n].reset(), "swallow": lambda n: self.lines[n].swallow(),
               }.get(kind) or getattr(self, kind)
        self.story.append((round(time.monotonic() - self.began, 2), kind, target))
        self.happened[kind] += 1
        act(target)

    def pass_time(self, seconds):
        """Do what is due, watching what A takes."""
        end = time.monotonic() + seconds
        while True:
            while self.later and self.later[0][0] <= time.monotonic():
                heapq.heappop(self.later)[2]()
            self.look()
            left = end - time.monotonic()
            if left <= 0:
                return
            threading.Event().wait(min(left, 0.05, max(0, self.later[0][0] - time.monotonic()) if self.later else 1))

    def run(self, faults, tell=lambda n: None):
        for name in "abc":
            self.start(name)
        self.began = time.monotonic()
        for f in range(1, faults + 1):
            self.pass_time(self.rng.choice((0, 0.1, 0.3, 0.6, 1)))
            self.fault()
            tell(f)

    # the final phase

    def heal(self):
        while self.later:
            heapq.heappop(self.later)[2]()
        for name in list(self.stopped):
            self.resume(name)
        for line in self.lines.values():
            line.cut(False)
            line.slow(False)

    def rest(self, patience):
        """No more is sent: until A has taken all that was, and the last event is in C's file."""
        self.load.pause()
        a, c = (self.chain.programs[name] for name in "ac")
        with self.load.lock:
            self.load.send(1)  # the fresh one
            n = len(self.load.life)
        a.wait_metric("semstreams_events_out_total", n, timeout=patience, component="edge")
        self.look()
        last = payload(self.load.sent - 1) + b"\n"

        def arrived():
            with open(self.chain.out, "rb") as f:
                f.seek(max(0, f.seek(0, os.SEEK_END) - len(last)))
                return f.read() == last

        began = time.monotonic()
        c.wait_for(arrived, timeout=patience, what="the fresh event in C's file")
        return time.monotonic() - began

    def stored(self):
        """The numbers in C's file: each whole, none twice, in order, and none that was not sent."""
        numbers = []
        with open(self.chain.out, "rb") as f:
            for line in f:
                n = json.loads(line)["seq"]
                assert line == payload(n) + b"\n", f"number {n} is not as it was sent"
                numbers.append(n)
        twice = [n for n, times in collections.Counter(numbers).items() if times > 1]
        assert not twice, f"{len(twice)} are there twice: {ranges(sorted(twice))}"
        assert numbers == sorted(numbers), "out of order"
        assert max(numbers) < self.load.sent
        return numbers

    def judge(self):
        """Every event owed is there; how many are."""
        numbers = self.stored()
        missing = sorted(self.load.owed - set(numbers))
        assert not missing, f"{len(missing)} owed are missing: {ranges(missing)}"
        return len(numbers)

    def settle(self):
        """Every host has told its source of all it keeps; its books balance."""

        def settled(program):
            metrics = program.metrics()
            return metrics if not metrics.sum("semstreams_link_unacked_events") and not metrics.sum(
                "semstreams_events_held") else None

        for name, program in self.chain.programs.items():
            metrics = program.wait_for(lambda p=program: settled(p), what=f"{name} at rest")
            assert_conserved(metrics)
            assert metrics.sum("semstreams_link_lost_total") == 0, "no limit was reached"
            assert metrics.sum("semstreams_link_restarts_total") == 0, "no log began anew"
        for file in self.chain.folder.glob("[abc]/log*"):
            told = re.search(".*(?:Events lost|epoch changed|ahead of the send log).*", file.read_text())
            assert not told, f"{file}: {told[0]}"


def ranges(numbers):
    """3, 7-9, ..."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in runs[:20]) + (", ..." if len(runs) > 20 else "")


def attempt(binary, folder, kind, seed, faults, tell=lambda n: None):
    """A whole trial; what is to be said of it."""
    trial = Trial(binary, folder, seed, kind)
    try:
        trial.run(faults, tell)
        trial.heal()
        took = trial.rest(patience=2 * PATIENCE)
        there = trial.judge()
        trial.settle()
        undone = collections.Counter()
        for disk in (trial.disks or {}).values():
            undone.update(disk.undone)
        return (f"{kind}: {dict(trial.happened)}{f', undone on disks {dict(undone)}' if undone else ''}; "
                f"sent {trial.load.sent}, owed {len(trial.load.owed)}, in C's file {there}; "
                f"the fresh one took {took:.2f} s")
    except BaseException:
        print(f"{kind} LINK_SEED={seed} LINK_FAULTS={faults}\n{trial.story}")
        raise
    finally:
        trial.close()


@pytest.fixture(scope="module")
def trials(request, semstreams, tmp_path_factory):
    """{kind: future of its trial}, of those kinds that were asked for; they run at the same time."""
    kinds = {item.callspec.params["kind"] for item in request.session.items
             if item.name.startswith("test_whatever_happens") and item.path == request.path}
    seed = int(os.environ.get("LINK_SEED", random.randrange(2**32)))
    with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
        yield {kind: pool.submit(attempt, semstreams, tmp_path_factory.mktemp(kind), kind, seed, FAULTS)
               for kind in sorted(kinds)}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_what_was_taken_arrives_once(trials, kind):
    print(trials[kind].result())


# ---- limits ------------------------------------------------------------------------------------------------


@pytest.fixture
def trial(semstreams, tmp_path):
    t = Trial(semstreams, tmp_path, 0)
    t.loaded = False  # these send by themselves
    yield t
    t.close()


def link_up(trial, listener, up):
    program = trial.chain.programs[listener]
    program.wait_for(lambda: program.metrics().sum("semstreams_link_up", component="edge") == up, what=f"link up {up}")


def test_what_a_limit_took_is_reported_lost(trial):
    """A's spool lets go of the oldest while its line is cut, and across a kill: B is told of exactly these."""
    trial.chain.components["a"][1]["config"]["spool"].update(max_bytes="1MiB", overflow="drop_oldest")
    for name in "abc":
        trial.start(name)
    a, b = (trial.chain.programs[name] for name in "ab")

    def send(portions):
        for _ in range(portions):
            trial.load.send(100)
            trial.chain.programs["a"].wait_metric("semstreams_events_out_total", len(trial.load.life), component="edge")
        trial.look()

    link_up(trial, "a", 1)
    send(5)
    b.wait_metric("semstreams_events_in_total", len(trial.load.owed), component="hub")
    trial.lines["a"].cut(True)
    link_up(trial, "a", 0)
    send(60)
    trial.chain.kill("a")
    trial.start("a")
    send(20)
    trial.lines["a"].cut(False)
    trial.rest(PATIENCE)
    missing = trial.load.owed - set(trial.stored())
    assert len(missing) > 1000, "far more than the spool holds was sent"
    assert b.metrics().sum("semstreams_link_lost_total", component="from-a") == len(missing)
    assert missing == set(range(min(missing), max(missing) + 1)), "the oldest, and none between"
    b.wait_log(f"Events lost by the sender .*from={min(missing) + 1} to={max(missing) + 1}")


def test_a_full_spool_that_blocks_loses_nothing(trial):
    """With the line cut A's spool fills up to its limit; what it did not take it did not count, the rest arrives."""
    trial.chain.components["a"][1]["config"]["spool"].update(max_bytes="1MiB", overflow="block")
    for name in "abc":
        trial.start(name)
    a, b = (trial.chain.programs[name] for name in "ab")
    link_up(trial, "a", 1)
    trial.lines["a"].cut(True)
    link_up(trial, "a", 0)

    def taken():
        return a.metrics().sum("semstreams_events_out_total", component="edge")

    quiet = 0
    while quiet < 3:  # nobody says that it is full: it takes no more, three times
        before = taken()
        trial.load.send(100)
        try:
            a.wait_metric("semstreams_events_out_total", before + 1, timeout=0.5, component="edge")
            quiet = 0
        except AssertionError:
            quiet += 1
        assert trial.load.sent < 50000, "the spool has no limit"
    size = sum(file.stat().st_size for file in (trial.chain.folder / "a" / "spool").rglob("*"))
    assert size <= 2 << 20, f"{size} bytes on disk"
    trial.lines["a"].cut(False)
    came = int(trial.load.sent - a.metrics().sum("semstreams_udp_kernel_dropped_total"))
    a.wait_metric("semstreams_events_out_total", came, component="edge")
    c = trial.chain.programs["c"]
    c.wait_metric("semstreams_events_out_total", came, component="file")
    assert len(trial.stored()) == came
    trial.settle()
