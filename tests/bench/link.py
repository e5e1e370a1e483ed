#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The whole way UDP -> A -> B -> C -> file over two links: events/s and the CPU of all three hosts together.

    tests/bench/link.py [--semstreams PATH] [--rounds N] [--seconds S] [--rate EVENTS/S] [--sizes 100,1000]
    tests/bench/link.py --old PATH/semstreams --new PATH/semstreams [--pairs N] ...

Plain and mutual TLS, durable (spools and storage synced before they acknowledge) and relaxed (written); sequence numbers are
checked: each event once.  Below the table: latency from datagram to line at 1,000/s.
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
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import run as bench  # noqa: E402
from pki import Pki  # noqa: E402


def free_tcp():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Chain:
    def __init__(self, binary, folder, tls, relaxed):
        self.folder, self.udp, self.out = folder, bench.free_port(), os.path.join(folder, "out.jsonl")
        open(self.out, "w").close()
        ports = [free_tcp(), free_tcp()]
        scheme = "wss" if tls else "ws"
        sync = "relaxed" if relaxed else "always"
        spool = lambda name: {"path": os.path.join(folder, name), "max_bytes": "4GiB", "sync": sync}
        dial = lambda port: {"url": f"{scheme}://localhost:{port}/data", "retry_min": "20ms", "retry_max": "100ms"}
        listen = lambda port, name: {"port": port, "path": "/data", "spool": spool(name)}
        components = {
            "a": [{"id": "udp", "type": "udp_input", "config": {"port": self.udp, "bind": "127.0.0.1", "gro": False}},
                  {"id": "edge", "type": "websocket_output", "config": listen(ports[0], "a-spool")}],
            "b": [{"id": "from-a", "type": "websocket_input", "config": dial(ports[0])},
                  {"id": "hub", "type": "websocket_output", "config": listen(ports[1], "b-spool")}],
            "c": [{"id": "from-b", "type": "websocket_input", "config": dial(ports[1])},
                  {"id": "file", "type": "storage", "config": {"path": self.out, "sync": sync}}],
        }
        self.processes = []
        for name in "abc":
            config = {"components": components[name], "admin": {"listen": "off"}, "log": {"level": "warn"}}
            if tls:
                config["security"] = {"tls": tls}
            file = os.path.join(folder, name + ".json")
            with open(file, "w") as f:
                json.dump(config, f)
            log = open(os.path.join(folder, name + ".log"), "w")
            self.processes.append(subprocess.Popen([binary, "--config", file], stdout=log, stderr=log))
        while not bench.bound(self.udp):
            if any(p.poll() is not None for p in self.processes):
                raise RuntimeError("a host has ended; see its log: " + folder)
            time.sleep(0.01)
        self.next_seq, self.offset = 1000000000, 0

    def cpu(self):
        total = 0
        for p in self.processes:
            for task in os.listdir(f"/proc/{p.pid}/task"):
                try:
                    with open(f"/proc/{p.pid}/task/{task}/schedstat") as f:
                        total += int(f.read().split()[0])
                except FileNotFoundError:
                    pass  # a name was looked up
        return total / 1e9

    def trial(self, tools, rate, size, seconds):
        count = int(rate * seconds)
        before, started = self.cpu(), time.monotonic()
        subprocess.run([tools["udp_gen"], str(self.udp), str(rate), str(count), str(size), str(self.next_seq)], check=True,
                       capture_output=True)
        last, quiet = None, 0
        while quiet < 20:
            state = os.path.getsize(self.out)
            quiet = quiet + 1 if state == last else 0
            if quiet == 0:
                done = time.monotonic()
            last = state
            time.sleep(0.02)
        cpu = self.cpu() - before
        found, twice, other, offset = map(int, subprocess.run(
            [tools["seq_check"], self.out, str(self.offset), str(self.next_seq), str(count), "1"], check=True,
            capture_output=True, text=True).stdout.split())
        if twice or other:
            raise RuntimeError(f"{twice} lines twice, {other} not of ours")
        self.offset, self.next_seq = offset, self.next_seq + count
        return found / (done - started), 1 - found / count, cpu / found * 1e6 if found else 0

    def close(self):
        for p in self.processes:
            p.send_signal(signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def identity(folder):
    from pathlib import Path
    where = Path(folder) / "pki"
    where.mkdir()
    pki = Pki(where)
    leaf = pki.location("a").leaf("localhost")
    root = str(pki.root.crt)
    pair = {"cert_file": str(leaf.cert), "key_file": str(leaf.key)}
    return {"server": {"enabled": True, "mode": "manual", **pair,
                       "mtls": {"enabled": True, "client_ca_files": [root], "require_client_cert": True,
                                "allowed_client_cns": ["localhost"]}},
            "client": {"mode": "manual", "ca_files": [root], "mtls": {"enabled": True, **pair}}}


def measure(program, directory, tools, security, relaxed, size, args):
    """One chain's life: (events/s, loss, CPU) and, for the first size, a list of latencies."""
    times = []
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        chain = Chain(program, folder, security, relaxed)
        try:
            chain.trial(tools, 5000, size, 0.5)
            result = chain.trial(tools, args.rate if size < 500 else args.rate / 4, size, args.seconds)
            if size == args.sizes[0]:
                times.append([float(x) for x in subprocess.run(
                    [tools["udp_latency"], str(chain.udp), chain.out, "1000", str(int(1000 * args.seconds))], check=True,
                    capture_output=True, text=True).stdout.split()])
        finally:
            chain.close()
    return result, times


def in_pairs(programs, directory, tools, security, relaxed, size, args):
    """Both chains are up at once and get their events in turns: CPU s/M of (old, new), as run.py's "pairs" does."""
    chains = {}
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        try:
            for name, program in programs.items():
                os.mkdir(os.path.join(folder, name))
                chains[name] = Chain(program, os.path.join(folder, name), security, relaxed)
            trial = lambda chain: chain.trial(tools, args.rate if size < 500 else args.rate / 4, size, args.seconds)[2]
            bench.in_pairs(chains["old"], chains["new"], 2, trial)
            return bench.in_pairs(chains["old"], chains["new"], args.pairs, trial)
        finally:
            for chain in chains.values():
                chain.close()


def figures(results):
    rate, loss, cpu = zip(*results)
    return [f"{bench.median(rate):.0f}", f"{max(loss):.5f}", f"{bench.median(cpu):.2f}"]


def quotients(results):
    """new/old of the medians: rate and CPU."""
    old, new = ([bench.median(column) for column in zip(*results[p])] for p in ("old", "new"))
    return [f"{new[0] / old[0]:.3f}" if old[0] else "-", "", f"{new[2] / old[2]:.3f}" if old[2] else "-"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--old", help="a semstreams to compare --new with; both take turns")
    parser.add_argument("--new", help="the other one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, help="with --old and --new: only the ratio of their CPU, as run.py's pairs")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=100000)
    parser.add_argument("--sizes", type=lambda s: [int(x) for x in s.split(",")], default=[100, 1000])
    parser.add_argument("--dir", help="a real disk, for fsync to mean something; the default is the temporary folder")
    args = parser.parse_args()
    if bool(args.old) != bool(args.new):
        parser.error("--old and --new go together")
    programs = {"old": args.old, "new": args.new} if args.old else {"semstreams": args.semstreams}
    if args.pairs and not args.old:
        parser.error("--pairs needs --old and --new")
    rows, latency = [], []
    with tempfile.TemporaryDirectory(prefix="semstreams-link-", dir=args.dir) as directory:
        tools = bench.build_tools(directory)
        tls = identity(directory)
        for size in args.sizes:
            for name, security in (("plain", None), ("mTLS", tls)):
                for relaxed in (False, True):
                    kind = "relaxed" if relaxed else "durable"
                    if args.pairs:
                        pairs = in_pairs(programs, directory, tools, security, relaxed, size, args)
                        rows.append([name, kind, f"{size} B", *bench.pairs_row(pairs)])
                        continue
                    results = {program: [] for program in programs}
                    times = {program: [] for program in programs}
                    for number in range(args.rounds):
                        for program in list(programs) if number % 2 == 0 else reversed(programs):
                            measured, waited = measure(programs[program], directory, tools, security, relaxed, size, args)
                            results[program].append(measured)
                            times[program] += waited
                    for program in programs:
                        rows.append([program, name, kind, f"{size} B", *figures(results[program])])
                        if times[program]:
                            latency.append([program, name, kind] + [
                                f"{bench.median([t[i] for t in times[program]]) / 1000:.2f}" for i in range(5)])
                    if args.old:
                        rows.append(["new/old", name, kind, f"{size} B", *quotients(results)])
    if args.pairs:
        bench.table(f"UDP -> A -> B -> C -> file, {args.pairs} pairs of {args.seconds:g} s",
                    ["link", "acks", "size", *bench.PAIRS_HEAD], rows)
        return
    bench.table("UDP -> A -> B -> C -> file",
                ["program", "link", "acks", "size", "events/s", "worst loss", "CPU s/M, all hosts"], rows)
    bench.table("Latency datagram to line in C's file at 1000/s, ms",
                ["program", "link", "acks", "p50", "p90", "p99", "p99.9", "max"], latency)


if __name__ == "__main__":
    main()
