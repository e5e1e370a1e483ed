#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Alarms beside an hour of backlog on a thin line: latency from datagram to line in the hub's file.

    tests/bench/shaping.py [--semstreams PATH] [--line KBIT/S] [--backlog SECONDS] [--seconds S] [--gap S]

Two hosts in network namespaces of their own, the line between them limited by tc to --line (64).  The edge has one output with a backlog
that takes the line for --backlog seconds (3600), and one with alarms, one each --gap seconds (0.5).  Measured three ways: both with
nine tenths of the line as max_rate, in one rate_group, alarms first; the same without priority; and without limits.  Each
event of the backlog that arrived in --seconds (60) has to be there once, in order, and each alarm.  Needs root and iproute2.
"""
import argparse
import json
import os
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


class Line:
    """Two namespaces and a cable that is as fast as it is told to be."""

    def __init__(self, kbit):
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


def numbers(file):
    try:
        with open(file) as f:
            return [json.loads(line)["n"] for line in f if line.endswith("\n")]
    except FileNotFoundError:
        return []


def fill(namespace, folder, count, size):
    """The backlog, before the hub is there; as fast as the spool takes it in."""
    with inside(namespace):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.1", 9001))
    for i in range(count):
        s.send(json.dumps({"n": i, "pad": "x" * (size - 30)}).encode())
        if i % 100 == 99:
            time.sleep(0.002)


def watch(file, seen, stop):
    """When the line with each number was there."""
    at, rest = 0, b""
    while not stop.is_set():
        try:
            with open(file, "rb") as f:
                f.seek(at)
                data = f.read()
        except FileNotFoundError:
            data = b""
        at += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            seen.append((json.loads(line)["n"], time.monotonic()))
        time.sleep(0.001)


def measure(way, args, directory):
    rate, size = args.line * 1000 // 8 * 9 // 10, 500
    count = args.line * 1000 // 8 * args.backlog // size
    line, hosts = Line(args.line), []
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        try:
            hosts.append(Host(args.semstreams, line.names[1], folder, "edge", edge_components(folder, way, rate)))
            while not (bound(line.names[1], 9001) and bound(line.names[1], 9002)):
                time.sleep(0.01)
            fill(line.names[1], folder, count, size)
            hosts.append(Host(args.semstreams, line.names[0], folder, "hub", hub_components(folder)))
            return alarms(line, folder, args, count)
        finally:
            for host in hosts:
                host.kill()
            line.close()


def alarms(line, folder, args, count):
    history, seen, stop, sent = os.path.join(folder, "hub", "history.jsonl"), [], threading.Event(), []
    watcher = threading.Thread(target=watch, args=(os.path.join(folder, "hub", "alarms.jsonl"), seen, stop))
    while len(numbers(history)) < 20:
        time.sleep(0.05)
    watcher.start()
    with inside(line.names[1]):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("127.0.0.1", 9002))
    before, began = len(numbers(history)), time.monotonic()
    ends = began + args.seconds
    while time.monotonic() < ends:
        sent.append(time.monotonic())
        s.send(b'{"n": %d, "alarm": "door open"}' % (len(sent) - 1))
        time.sleep(args.gap)
    drained = (len(numbers(history)) - before) * 500 / (time.monotonic() - began) / 125
    late = time.monotonic() + 60
    while len(seen) < len(sent) and time.monotonic() < late:
        time.sleep(0.01)
    stop.set()
    watcher.join()
    arrived = numbers(history)
    if arrived != list(range(len(arrived))):
        raise RuntimeError("the backlog is not there once, in order")
    if [n for n, _ in seen] != list(range(len(seen))):
        raise RuntimeError("alarms are not there once, in order")
    if len(arrived) >= count:
        raise RuntimeError("the backlog was gone before the end; make it longer")
    waited = sorted(at - sent[n] for n, at in seen)
    never = len(sent) - len(seen)
    pick = lambda share: f"{waited[min(len(waited) - 1, int(len(waited) * share))]:.2f}" if waited else "-"
    return [len(sent), never, pick(0.5), pick(0.99), pick(1), f"{drained:.1f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--line", type=int, default=64)
    parser.add_argument("--backlog", type=int, default=3600)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gap", type=float, default=0.5)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="semstreams-shaping-") as directory:
        for way in ("alarms first", "equal", "no limits"):
            rows.append([way, *measure(way, args, directory)])
    bench.table(f"Alarms beside a backlog of {args.backlog} s on {args.line} kbit/s; seconds from datagram to line",
                ["outputs", "alarms", "not within 60 s", "p50", "p99", "max", "backlog kbit/s"], rows)


if __name__ == "__main__":
    main()
