# SPDX-License-Identifier: MIT
"""What happens to hosts besides kills: networks of their own that can be cut, and disks that forget when the power fails."""

import contextlib
import ctypes
import itertools
import os
import re
import struct
import subprocess
import threading
import uuid
from pathlib import Path

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


# ---- networks ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def inside(namespace):
    """This thread, and what it starts, is in that network namespace; None: where it is."""
    if namespace is None:
        yield
        return
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            _enter(back)
    finally:
        os.close(back)


def _enter(where):
    fd = where if isinstance(where, int) else os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if LIBC.setns(fd, CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        if fd != where:
            os.close(fd)


class Network:
    """Hosts a, b, c, each in a network namespace, on a switch in another."""

    _number = itertools.count()
    _lock = threading.Lock()

    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("network namespaces need root")
        self._remove_left_over()
        with self._lock:
            prefix = f"sslink-{os.getpid()}-{next(self._number)}"
        self.switch = f"{prefix}-switch"
        self.hosts = {name: f"{prefix}-{name}" for name in "abc"}
        self.address = {name: f"10.77.0.{i}" for i, name in enumerate("abc", 1)}
        try:
            self._make()
        except subprocess.CalledProcessError as e:
            self.close()
            pytest.skip(f"cannot make network namespaces: {e.stderr.decode().strip()}")
        except FileNotFoundError:
            pytest.skip("no ip command: install iproute2")

    def _remove_left_over(self):
        """Those of runs that were killed."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir("/run/netns"):
                made_by = re.fullmatch(r"sslink-(\d+)-\d+-\w+", name)
                if made_by and not os.path.exists(f"/proc/{made_by[1]}"):
                    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def _ip(self, *args):
        subprocess.run(["ip", *args], check=True, capture_output=True)

    def _make(self):
        for namespace in (self.switch, *self.hosts.values()):
            self._ip("netns", "add", namespace)
        self._ip("-n", self.switch, "link", "add", "switch0", "type", "bridge")
        self._ip("-n", self.switch, "link", "set", "switch0", "up")
        for name, host in self.hosts.items():
            self._ip("-n", self.switch, "link", "add", f"port-{name}", "type", "veth", "peer", "name", "eth0", "netns", host)
            self._ip("-n", self.switch, "link", "set", f"port-{name}", "master", "switch0", "up")
            self._ip("-n", host, "address", "add", f"{self.address[name]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._ip("-n", host, "link", "set", device, "up")

    def cut(self, name, off):
        """The cable of a host is pulled out at the switch, or put in again."""
        self._ip("-n", self.switch, "link", "set", f"port-{name}", "down" if off else "up")

    def slow(self, name, on):
        """Hardly anything comes through to the host: a byte a second after one packet."""
        tc = ["ip", "netns", "exec", self.switch, "tc", "qdisc", "replace" if on else "delete", "dev", f"port-{name}",
              "root"]
        subprocess.run(tc + (["tbf", "rate", "8bit", "burst", "1600", "limit", "3000"] if on else []),
                       check=on, capture_output=True)

    def reset(self, name):
        """RST to both ends of every connection between this host and the others."""
        subprocess.run(["ip", "netns", "exec", self.hosts[name], "ss", "-K", "-t", "state", "established", "dst",
                        "10.77.0.0/24"], check=False, capture_output=True)

    def close(self):
        for namespace in (*self.hosts.values(), self.switch):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


# ---- power -------------------------------------------------------------------------------------------------


class Disk:
    """The disk of a host: what it has not synced is lost in parts when the power is cut.

    The host runs with power_cut.c preloaded, which notes how to undo each write.  A cut undoes for each file any number of
    the newest of what was not synced, sector by sector and the size by itself; and for each folder the
    newest changes of names, in order, as journalling file systems do.
    """

    ENTRY = struct.Struct("<IIQQQQ")  # kind, len, inode, at, n, size
    SECTOR = 512

    def __init__(self, folder, shim, slow_us=8000):
        self.root, self.trace = Path(folder), Path(f"{folder}.trace")
        self.root.mkdir(exist_ok=True)
        self.boot = Path(f"{folder}.boot_id")
        self.undone = {"files": 0, "names": 0}
        self._start()
        self.env = {"LD_PRELOAD": str(shim), "POWER_ROOT": f"{self.root}/", "POWER_TRACE": str(self.trace),
                    "POWER_BOOT": str(self.boot), "POWER_SYNC_US": str(slow_us)}

    def _start(self):
        self.boot.write_text(f"{uuid.uuid4()}\n")
        self.trace.write_bytes(b"")
        for kept in self.trace.parent.glob(f"{self.trace.name}.*"):
            kept.unlink()

    def _unsynced(self):
        """{inode: entries that no sync covers}, in order."""
        data, at, pending = self.trace.read_bytes(), 0, {}
        while at + self.ENTRY.size <= len(data):
            kind, length, inode, place, n, size = self.ENTRY.unpack_from(data, at)
            payload = data[at + self.ENTRY.size:at + self.ENTRY.size + length]
            if len(payload) < length:
                break
            if chr(kind) == "S":
                pending[inode] = [e for e in pending.get(inode, []) if e[0] >= place]
            else:
                pending.setdefault(inode, []).append((at, chr(kind), place, n, size, payload))
            at += self.ENTRY.size + length
        return pending

    def cut(self, rng):
        """The power fails, and is there again; the host must not run."""
        pending = {inode: entries for inode, entries in self._unsynced().items() if entries}
        for entries in pending.values():
            if entries[0][1] in "CRUL":
                self._undo_names(entries[rng.choice((0, len(entries), rng.randint(0, len(entries)))):])
        files = {path.stat().st_ino: path for path in self.root.rglob("*") if path.is_file()}
        for inode, entries in pending.items():
            if entries[0][1] in "WT" and inode in files:
                self._undo_writes(files[inode], entries, rng)
        self._start()

    def _undo_names(self, entries):
        self.undone["names"] += len(entries)
        for _, kind, number, _, _, payload in reversed(entries):
            names = [Path(os.fsdecode(name)) for name in payload.split(b"\0")[:-1]]
            kept = Path(f"{self.trace}.{number}")
            if kind in "CL":
                names[0].unlink(missing_ok=True)
            elif kind == "R" and not names[1].exists():
                names[0].rename(names[1])
                if number:
                    os.link(kept, names[0])
            elif kind == "U" and not names[0].exists():
                os.link(kept, names[0])

    def _undo_writes(self, path, entries, rng):
        self.undone["files"] += 1
        now = bytearray(path.read_bytes())
        sizes = [e[4] for e in entries] + [len(now)]  # before each, and at last
        now.extend(bytes(max(0, max(sizes) - len(now))))
        how = rng.choice(("none", "all", "some", "some"))
        touched = {}  # sector: entries
        for i, (_, kind, at, n, size, payload) in enumerate(entries):
            begin, end = (at, at + n) if kind == "W" else (min(at, size), min(at, size) + len(payload))
            for sector in range(begin // self.SECTOR, -(-end // self.SECTOR)):
                touched.setdefault(sector, []).append(i)
        for sector, which in touched.items():
            # how many of the writes to it arrived
            arrived = {"none": 0, "all": len(which)}.get(how, rng.choice((0, len(which), rng.randint(0, len(which)))))
            for i in reversed(which[arrived:]):
                _, kind, at, n, size, payload = entries[i]
                at, n = (at, n) if kind == "W" else (min(at, size), len(payload))
                low = max(at, sector * self.SECTOR)
                high = min(at + n, (sector + 1) * self.SECTOR)
                old = payload[low - at:high - at]
                now[low:high] = old + bytes(high - low - len(old))
        size = {"none": sizes[0], "all": sizes[-1]}.get(how, rng.choice(sizes))
        with open(path, "r+b") as f:
            f.write(now[:size])
            f.truncate(size)


def build_shim(folder):
    """Compile power_cut.c."""
    source, shim = Path(__file__).with_name("power_cut.c"), folder / "power_cut.so"
    try:
        subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", str(shim), str(source),
                        "-ldl"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return shim
