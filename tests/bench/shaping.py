#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Alarms beside an hour of backlog on a thin line: latency from datagram to line in the hub's file.

    tests/bench/shaping.py [--semstreams PATH] [--line KBIT/S] [--backlog SECONDS] [--seconds S] [--gap S]

Two hosts in network namespaces of their own, the line between them limited by tc to --line (64).  The edge has one output with a backlog
that takes the line for --backlog seconds (3600), and one with alarms, one each --gap seconds (0.5).  Measured three ways: both with
nine tenths of the line as max_rate, in one rate_group, alarms first; the same without priority; and without limits.  Each
event of the backlog that arrived in --seconds (60) has to be there once, in order, and each alarm.  Needs root and iproute2.
tests/soak/line judges the first way, through the whole backlog.
"""
import argparse
import bisect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import run as bench  # noqa: E402
from link_faults import inside  # noqa: E402

HUB, EDGE = "10.78.0.1", "10.78.0.2"
SIZE = 500  # bytes of an event of the backlog
LATE = 60  # seconds after which an alarm is given up


class Line:
    """Two namespaces and a cable that is as fast as it is told to be."""

    def __init__(self, kbit):
        self.remove_left_over()
        self.names = [f"ssline-{os.getpid()}-{end}" for end in ("hub", "edge")]
        for name in self.names:
            self.ip("netns", "add", name)
        self.ip("link", "add", "ss0", "netns", self.names[0], "type", "veth", "peer", "name", "ss0", "netns", self.names[1])
        for name, address in zip(self.names, (HUB, EDGE)):
            self.ip("-n", name, "address", "add", f"{address}/24", "dev", "ss0")
            for device in ("lo", "ss0"):
                self.ip("-n", name, "link", "set", device, "up")
            # as a modem: what comes faster waits, for up to two seconds
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "ss0", "root", "tbf", "rate", f"{kbit}kbit",
                            "burst", "1600", "limit", str(kbit * 250)], check=True)

    @staticmethod
    def ip(*args):
        subprocess.run(["ip", *args], check=True)

    @staticmethod
    def remove_left_over():
        """Those of runs that were killed."""
        names = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        for name in names:
            made_by = re.fullmatch(r"ssline-(\d+)-\w+", name)
            if made_by and not os.path.exists(f"/proc/{made_by[1]}"):
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Host:
    def __init__(self, binary, namespace, folder, name, components):
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder, exist_ok=True)
        file = os.path.join(self.folder, "config.json")
        with open(file, "w") as f:
            json.dump({"components": components, "admin": {"listen": "off"}, "log": {"level": "warn"}}, f)
        with open(os.path.join(self.folder, "log"), "a") as log:
            self.process = subprocess.Popen(["ip", "netns", "exec", namespace, binary, "--config", file], stdout=log, stderr=log)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def outputs(way, rate):
    if way == "no limits":
        return {}, {}
    shared = {"max_rate": rate, "burst": max(1, rate // 10), "rate_group": "line"}
    return shared, {**shared, "priority": 5 if way == "alarms first" else 0}


def edge_components(folder, way, rate):
    spool = lambda name: {"path": os.path.join(folder, "edge", name), "max_bytes": "4GiB", "sync": "relaxed"}
    components = []
    for name, port, options in zip(("history", "alarms"), (9001, 9002), outputs(way, rate)):
        components += [{"id": f"udp-{name}", "type": "udp_input", "config": {"port": port, "bind": "127.0.0.1"}},
                       {"id": name, "type": "websocket_output", "inputs": [f"udp-{name}"],
                        "config": {"url": f"ws://{HUB}:{port}/data", "spool": spool(name), "retry_max": "1s", **options}}]
    return components


def hub_components(folder):
    components = []
    for name, port in (("history", 9001), ("alarms", 9002)):
        components += [{"id": f"from-{name}", "type": "websocket_input", "config": {"port": port, "bind": HUB, "path": "/data"}},
                       {"id": f"file-{name}", "type": "storage", "inputs": [f"from-{name}"],
                        "config": {"path": os.path.join(folder, "hub", f"{name}.jsonl"), "sync": "relaxed"}}]
    return components


def bound(namespace, port):
    with inside(namespace):
        return bench.bound(port)


def fill(namespace, folder, count, size):
    """The backlog, before the hub is there; as fast as the spool takes it in."""
    with inside(namespace):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.1", 9001))
    for i in range(count):
        s.send(json.dumps({"n": i, "pad": "x" * (size - 30)}).encode())
        if i % 100 == 99:
            time.sleep(0.002)


class Watch:
    """When each line was in the hub's files: a thread that reads what is new in them, alarms first."""

    def __init__(self, folder):
        self.seen = {name: [] for name in ("alarms", "history")}  # [(number, when)]
        self.files = {name: os.path.join(folder, "hub", f"{name}.jsonl") for name in self.seen}
        self.at, self.rest = dict.fromkeys(self.seen, 0), dict.fromkeys(self.seen, b"")
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.wait(0.001):
            for name in self.seen:
                self.look(name)

    def look(self, name):
        try:
            with open(self.files[name], "rb") as f:
                f.seek(self.at[name])
                data = f.read()
        except FileNotFoundError:
            return
        self.at[name] += len(data)
        *lines, self.rest[name] = (self.rest[name] + data).split(b"\n")
        now = time.monotonic()
        self.seen[name] += [(json.loads(line)["n"], now) for line in lines]

    def close(self):
        self.stop.set()
        self.thread.join()


def measure(way, args, directory, whole=False):
    """Figures of one way; whole: until all of the backlog is there."""
    rate, size = args.line * 1000 // 8 * 9 // 10, SIZE
    count = args.line * 1000 // 8 * args.backlog // size
    line, hosts, watch = Line(args.line), [], None
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        try:
            hosts.append(Host(args.semstreams, line.names[1], folder, "edge", edge_components(folder, way, rate)))
            while not (bound(line.names[1], 9001) and bound(line.names[1], 9002)):
                time.sleep(0.01)
            fill(line.names[1], folder, count, size)
            watch = Watch(folder)
            hosts.append(Host(args.semstreams, line.names[0], folder, "hub", hub_components(folder)))
            return judge(watch, *alarms(line, watch, args, count, whole), count, whole)
        finally:
            for host in hosts:
                host.kill()
            if watch:
                watch.close()
            line.close()


def alarms(line, watch, args, count, whole):
    """Send them; when each was sent, and how fast the backlog went meanwhile, in kbit/s."""
    history, sent = watch.seen["history"], []
    late = time.monotonic() + LATE
    while len(history) < min(20, count // 2):
        if time.monotonic() > late:
            raise RuntimeError("nothing of the backlog arrives")
        time.sleep(0.05)
    with inside(line.names[1]):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.1", 9002))
    before, began = len(history), time.monotonic()
    slowest = began + 10 * args.backlog + LATE
    while len(history) < count if whole else time.monotonic() < began + args.seconds:
        if time.monotonic() > slowest:
            raise RuntimeError(f"only {len(history)} of {count} events of the backlog arrived")
        sent.append(time.monotonic())
        s.send(b'{"n": %d, "alarm": "door open"}' % (len(sent) - 1))
        time.sleep(args.gap)
    drained = (len(history) - before) * SIZE / (time.monotonic() - began) / 125
    late = time.monotonic() + LATE
    while len(watch.seen["alarms"]) < len(sent) and time.monotonic() < late:
        time.sleep(0.01)
    return sent, drained


def judge(watch, sent, drained, count, whole):
    watch.close()
    history, seen = watch.seen["history"], watch.seen["alarms"]
    if [n for n, _ in history] != list(range(len(history))):
        raise RuntimeError("the backlog is not there once, in order")
    if [n for n, _ in seen] != list(range(len(seen))):
        raise RuntimeError("alarms are not there once, in order")
    if (len(history) >= count) != whole:
        raise RuntimeError("the backlog was gone before the end; make it longer")
    came = [at for _, at in history]
    waited = sorted(at - sent[n] for n, at in seen)
    # of the backlog between an alarm and its line: a measure that does not depend on how fast the machine is
    passed = sorted(bisect.bisect(came, at) - bisect.bisect(came, sent[n]) for n, at in seen)
    pick = lambda of, share: of[min(len(of) - 1, int(len(of) * share))] if of else None
    return {"alarms": len(sent), "never": len(sent) - len(seen), "p50": pick(waited, 0.5), "p99": pick(waited, 0.99),
            "max": pick(waited, 1), "passed_p99": pick(passed, 0.99), "backlog": len(history), "kbit": drained}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--line", type=int, default=64)
    parser.add_argument("--backlog", type=int, default=3600)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gap", type=float, default=0.5)
    return parser


def main():
    args = arguments().parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="semstreams-shaping-") as directory:
        for way in ("alarms first", "equal", "no limits"):
            r = measure(way, args, directory)
            rows.append([way, str(r["alarms"]), str(r["never"]),
                         *("-" if r[name] is None else f"{r[name]:.2f}" for name in ("p50", "p99", "max")), f"{r['kbit']:.1f}"])
    bench.table(f"Alarms beside a backlog of {args.backlog} s on {args.line} kbit/s; seconds from datagram to line",
                ["outputs", "alarms", f"not within {LATE} s", "p50", "p99", "max", "backlog kbit/s"], rows)


if __name__ == "__main__":
    main()
