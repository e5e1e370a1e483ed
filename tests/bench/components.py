#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A host of many components: what it takes while nothing happens, and how long its pages take.

    tests/bench/components.py [--components N] [--seconds S] [--requests N] [--semstreams PATH]

200 components, in chains of udp_input, filter, aggregate and storage that get no event.  Printed: CPU share of one core, memory, threads;
and for a scrape of /metrics, /api/v1/status and the command "semstreams status" the median and the longest of --requests.  The exit code
is 1 if the host takes 1 % of a core or a median 20 ms.
"""
import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import run as bench
from fanout import free_tcp

CPU_SHARE, LONGEST_MS = 0.01, 20
CHAIN = 4


def configuration(n, folder, port):
    components = []
    for i in range(n // CHAIN):
        components += [
            {"id": f"udp-{i}", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
            {"id": f"hot-{i}", "type": "filter", "config": {"where": {"field": "value", "op": "gt", "value": 90}}},
            {"id": f"mean-{i}", "type": "aggregate", "config": {
                "group_by": ["sensor"], "window": {"type": "tumbling", "size": "1m"}, "functions": {"mean": {"fn": "mean", "field": "value"}}}},
            {"id": f"file-{i}", "type": "storage", "config": {"path": os.path.join(folder, f"{i}.jsonl")}}]
    for number, component in enumerate(components):
        if number % CHAIN:
            component["inputs"] = [components[number - 1]["id"]]
    return {"components": components, "admin": {"listen": f"127.0.0.1:{port}"}, "log": {"level": "warn"}}


def fetch(port, path):
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status}")
    return (time.perf_counter() - started) * 1000


def command(program, port):
    started = time.perf_counter()
    subprocess.run([program, "status", "--admin", f"127.0.0.1:{port}"], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def cpu(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def field(pid, name):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name))


def wait_ready(process, port):
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the host does not become ready")
        try:
            fetch(port, "/readyz")
            return
        except (OSError, RuntimeError):
            time.sleep(0.05)


def measure(args, folder):
    port = free_tcp()
    path = os.path.join(folder, "many.json")
    with open(path, "w") as f:
        json.dump(configuration(args.components, folder, port), f)
    process = subprocess.Popen([args.semstreams, "--config", path])
    try:
        wait_ready(process, port)
        before, started = cpu(process.pid), time.monotonic()
        time.sleep(args.seconds)
        share = (cpu(process.pid) - before) / (time.monotonic() - started)
        times = {"/metrics": [fetch(port, "/metrics") for _ in range(args.requests)],
                 "/api/v1/status": [fetch(port, "/api/v1/status") for _ in range(args.requests)],
                 "semstreams status": [command(args.semstreams, port) for _ in range(args.requests)]}
        return share, field(process.pid, "VmRSS") / 1024, field(process.pid, "Threads"), times
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    args = parser.parse_args()
    if not args.semstreams:
        parser.error("no semstreams on the PATH: name it with --semstreams")
    with tempfile.TemporaryDirectory(prefix="semstreams-bench-") as folder:
        share, rss, threads, times = measure(args, folder)
    bench.table(f"{args.components} components without events", ["CPU % of a core", "RSS MiB", "threads"],
                [[f"{100 * share:.2f}", f"{rss:.1f}", str(threads)]])
    bench.table(f"Times of {args.requests} requests", ["what", "median ms", "longest ms"],
                [[what, f"{statistics.median(t):.1f}", f"{max(t):.1f}"] for what, t in times.items()])
    slow = [what for what, t in times.items() if statistics.median(t) > LONGEST_MS]
    if share >= CPU_SHARE or slow:
        print(f"missed: {', '.join(slow + ['CPU'] * (share >= CPU_SHARE))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
