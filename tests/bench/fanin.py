#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Many edges dial one hub: what it costs, what 10,000 idle links take, what kills and hostile edges do to it.

    tests/bench/fanin.py [rate] [idle] [kill] [hostile] [--semstreams PATH] [--edges N] [--rate EVENTS/S] [--json FILE] ...

rate     --edges with client certificates, --rate events a second each, beside one sender at the same total rate: CPU of the
         hub per event, its memory per edge over a hub without any, its threads, time from event to acknowledgement
idle     --idle-edges links that send nothing: with mTLS, without TLS, and plain peers: memory, descriptors and threads
kill     kill -9 of the hub --kills times while all edges send, --early of 100 times before all are back from the last one: when
         all were back, handshakes a second beside openssl s_time's
hostile  the same edges alone, and beside so many others that --hostile percent of all are: these send beyond their windows,
         never read, stay half-open or silent, or cut off their connections all the time

After each: every event that was acknowledged is in the hub's file once, and none twice; else it ends with 1.  The edges are
one C program (fanin.c); each has an address of its own (127.1.x.y), as the limits of the hub are per address.
"""
import argparse
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import run as bench  # noqa: E402
from fanout import free_tcp  # noqa: E402
from pki import Pki  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
SOURCES = [*(f"tests/bench/{name}.c" for name in ("fanin", "fanin_certs", "fanin_edge", "fanin_wire")),
           *(f"core/fields/{name}.c" for name in ("fields_number", "fields_path", "fields_scan")),
           *(f"plugins/websocket/{name}.c" for name in ("link/link_proto", "link/link_session", "transport/ws_frames")),
           *(f"sdk/base/{name}.c" for name in ("attribute_block", "crc32c", "ring", "strbuf", "utf8"))]


def build(folder):
    cc = [*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-I.", "-Isdk/include"]
    subprocess.run([*cc, "-o", f"{folder}/fanin", *SOURCES, "-lssl", "-lcrypto", "-lev", "-lm"], check=True, cwd=TOP)
    subprocess.run([*cc, "-o", f"{folder}/fanin_check", "tests/bench/fanin_check.c"], check=True, cwd=TOP)


class Hub:
    """One websocket_input into one storage."""

    def __init__(self, args, folder, pki, tls=True, clients=1000):
        self.args, self.folder, self.port, self.process = args, Path(folder), free_tcp(), None
        self.out, self.ready_s = self.folder / "out.jsonl", 0
        listen = {"port": self.port, "bind": "127.0.0.1", "path": "/fan-in", "max_clients": clients + 100, **args.option}
        config = {"admin": {"listen": "off"}, "log": {"level": args.log}, "components": [
            {"id": "edges", "type": "websocket_input", "config": listen},
            {"id": "file", "type": "storage", "config": {"path": str(self.out), "sync": args.sync}}]}
        if tls:
            mutual = {"enabled": True, "client_ca_files": [pki.ca_file]}
            config["security"] = {"tls": {"server": {"enabled": True, "mode": "manual", **pki.hub.settings(), "mtls": mutual}}}
        self.config = self.folder / "hub.json"
        self.config.write_text(json.dumps(config))

    def start(self):
        started = time.monotonic()
        with open(self.folder / "hub.log", "ab") as log:
            self.process = subprocess.Popen([self.args.semstreams, "--config", str(self.config)], stdout=log, stderr=log)
        while not self.listens():
            if self.process.poll() is not None or time.monotonic() > started + 60:
                raise RuntimeError(f"the hub does not start: {(self.folder / 'hub.log').read_text()[-2000:]}")
            time.sleep(0.005)
        self.ready_s = time.monotonic() - started
        return self

    def listens(self):
        with open("/proc/net/tcp") as f:
            return any(f":{self.port:04X} 00000000:0000 0A" in line for line in f)

    def cpu(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def status(self, field):
        """A number of /proc/.../status: memory in KiB, threads."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self, number=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Edges:
    """The load program."""

    def __init__(self, tools, hub, pki, n, rate, tls=True, **options):
        self.tools, self.hub, self.n = tools, hub, n
        options = {"port": hub.port, "edges": n, "rate": rate, "size": hub.args.size, **options}
        if tls:
            options.update({"ca-cert": pki.edge_ca.crt, "ca-key": pki.edge_ca.key.path, "trust": pki.ca_file})
        words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen([f"{tools}/fanin", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the load program ended")
        return json.loads(line)

    def wait_back(self, patience):
        answer = self.ask("wait", "back", int(patience))
        if not answer["done"]:
            stats = self.ask("stats")
            raise RuntimeError(f"only {answer['n']} of {answer['of']} edges are connected after {patience:.0f} s: {stats}")
        return answer

    def settle(self, patience):
        """Stop, and wait until all is acknowledged; the last statistics."""
        self.ask("stop")
        answer = self.ask("wait", "acked", int(patience))
        stats = self.ask("stats")
        if not answer["done"]:
            raise RuntimeError(f"not everything was acknowledged within {patience:.0f} s: {stats}")
        return stats

    def check(self):
        """What fanin_check says of the hub's file."""
        report = self.hub.folder / "report"
        self.ask("report", report)
        self.hub.end()
        done = subprocess.run([f"{self.tools}/fanin_check", report, self.hub.out], check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError("fanin_check failed")
        return json.loads(done.stdout)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.n, self.results, self.good = args, folder, 0, {}, True
        self.tools = args.tools or folder
        if not (Path(self.tools) / "fanin_check").exists():
            build(self.tools)
        self.pki = Pki(Path(folder) / "pki")
        self.pki.edge_ca = self.pki.location("edges")
        self.pki.hub = self.pki.root.leaf("localhost")  # signed by the root: s_time sends no chain

    def hub(self, **options):
        self.n += 1
        folder = Path(self.folder) / f"hub-{self.n}"
        folder.mkdir()
        return Hub(self.args, folder, self.pki, **options)

    def edges(self, hub, n, rate, **options):
        options = {"flush-ms": self.args.flush_ms, "retry-max-ms": self.args.retry_max_ms, **options}
        return Edges(self.tools, hub, self.pki, n, rate, **options)

    def verdict(self, found):
        exact = not (found["missing"] or found["twice"] or found["foreign"])
        self.good &= exact
        return [str(found["lines"]), str(found["missing"]), str(found["twice"] + found["foreign"])]

    def sample(self, n, rate, least=0.0, **options):
        """One hub's life with n edges that send for a while: longer, if less than this share of what they made is acknowledged in it,
        as a disk that stands still for a moment is no rate."""
        hub = self.hub(clients=n).start()
        try:
            edges = self.edges(hub, n, rate, **{"spread-ms": min(n, 2000), **options})
            try:
                up = edges.wait_back(self.args.patience)
                edges.ask("start")
                time.sleep(self.args.warm)
                first, cpu = edges.ask("stats"), hub.cpu()
                for _ in range(10):
                    time.sleep(self.args.seconds)
                    last = edges.ask("stats")
                    if last["acked"] - first["acked"] >= least * (last["made"] - first["made"]):
                        break
                cpu = hub.cpu() - cpu
                memory = {field: hub.status(field) for field in ("VmRSS", "VmHWM", "Threads")}
                end = edges.settle(self.args.patience)
                found = edges.check()
            finally:
                edges.close()
        finally:
            hub.end(signal.SIGKILL)
        os.unlink(hub.out)
        took = last["t"] - first["t"]
        events = last["acked"] - first["acked"] + last["hostile_acked"] - first["hostile_acked"]
        messages = last["messages"] - first["messages"]
        return {"edges": n, "seconds": took, "events_per_s": (last["acked"] - first["acked"]) / took,
                "offered_per_s": (last["made"] - first["made"]) / took,
                "cpu_us_per_event": cpu / events * 1e6 if events else 0, "cpu_share": cpu / took,
                "events_per_message": events / messages if messages else 0, "rss_kib": memory["VmRSS"],
                "peak_kib": memory["VmHWM"], "threads": memory["Threads"], "ack_ms": last["ack_ms"], "up_s": up["seconds"],
                "ends": end["ends"], "why": end["why"], "found": found}

    def empty(self):
        """Memory and threads of a hub that nobody has connected to."""
        hub = self.hub(clients=self.args.edges).start()
        time.sleep(0.5)
        try:
            return hub.status("VmRSS"), hub.status("Threads")
        finally:
            hub.end()

    # ---- the tables

    def rate(self):
        args = self.args
        empty, threads = self.empty()
        total = args.edges * args.rate
        rows, runs = [], {1: [], args.edges: []}
        for _ in range(args.rounds):
            for n, own in ((args.edges, args.rate), (1, total)):
                runs[n].append(self.sample(n, own))
        middle = lambda n, key: bench.median([r[key] for r in runs[n]])
        for n, of_n in runs.items():
            lines, missing, twice = zip(*(self.verdict(r["found"]) for r in of_n))
            rows.append([str(n), f"{middle(n, 'events_per_s'):.0f}", f"{middle(n, 'events_per_message'):.1f}",
                         f"{middle(n, 'cpu_us_per_event'):.2f}",
                         f"{middle(n, 'cpu_us_per_event') / middle(1, 'cpu_us_per_event'):.2f}",
                         f"{(middle(n, 'rss_kib') - empty) / n:.1f}", f"{middle(n, 'threads'):.0f}",
                         *(f"{bench.median([r['ack_ms'][p] for r in of_n]):.1f}" for p in ("p50", "p99", "max")),
                         *(str(sum(map(int, column))) for column in (lines, missing, twice))])
        bench.table(f"{args.edges} edges at {args.rate:g} events/s of {args.size} B with mTLS, beside one sender; an empty hub has "
                    f"{empty} KiB and {threads} threads",
                    ["edges", "events/s", "per message", "CPU us/event", "times", "KiB/edge", "threads", "ack p50 ms", "p99", "max",
                     "lines", "missing", "twice"], rows)
        return {"empty_kib": empty, "empty_threads": threads, "runs": [r for of_n in runs.values() for r in of_n]}

    def idle(self):
        rows, out = [], []
        for name, tls, options in (("mTLS link", True, {}), ("link", False, {"streams": True}), ("plain peer", False, {"plain": True})):
            n = self.args.idle_edges
            hub = self.hub(tls=tls, clients=n).start()
            empty, threads, descriptors = hub.status("VmRSS"), hub.status("Threads"), hub.descriptors()
            try:
                pace = {"spread-ms": (4 if tls else 1) * n, "retry-max-ms": max(self.args.retry_max_ms, 3 * n)}
                edges = self.edges(hub, n, 0, tls=tls, **pace, **options)
                try:
                    up = edges.wait_back(self.args.patience)
                    cpu = hub.cpu()
                    time.sleep(self.args.seconds)
                    cpu, stats = hub.cpu() - cpu, edges.ask("stats")
                    one = {"kind": name, "edges": n, "live": stats["live"], "up_s": up["seconds"], "ends": stats["ends"],
                           "kib_per_edge": (hub.status("VmRSS") - empty) / n, "threads": hub.status("Threads"),
                           "threads_before": threads, "descriptors": hub.descriptors(), "descriptors_before": descriptors,
                           "cpu_share": cpu / self.args.seconds}
                finally:
                    edges.close()
            finally:
                hub.end(signal.SIGKILL)
            self.good &= one["live"] == n
            out.append(one)
            rows.append([name, str(n), str(one["live"]), f"{one['up_s']:.1f}", f"{one['kib_per_edge']:.1f}",
                         f"{threads} to {one['threads']}", f"{descriptors} to {one['descriptors']}", f"{100 * one['cpu_share']:.1f}"])
        bench.table("Idle", ["kind", "edges", "live", "up after s", "KiB each", "threads", "descriptors", "CPU %"], rows)
        return out

    def s_time(self, port):
        """Full handshakes a second that openssl s_time gets, one after the other."""
        leaf = self.pki.hub
        done = subprocess.run(["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", "3", "-cert", leaf.cert, "-key",
                               leaf.key, "-CAfile", self.pki.ca_file], check=False, capture_output=True, text=True)
        found = re.findall(r"(\d+) connections in ([\d.]+) ?(?:s;|real)", done.stdout)
        if not found:
            raise RuntimeError(f"openssl s_time: {done.stdout}{done.stderr}")
        return int(found[-1][0]) / max(1.0, float(found[-1][1]))

    def yardstick(self):
        """s_time's figure with openssl s_server."""
        leaf, port = self.pki.hub, free_tcp()
        server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", leaf.cert, "-key", leaf.key,
                                   "-CAfile", self.pki.ca_file, "-Verify", "3", "-quiet"], stdin=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while f":{port:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
                if time.monotonic() > deadline:
                    raise RuntimeError("openssl s_server does not listen")
                time.sleep(0.01)
            return self.s_time(port)
        finally:
            server.kill()
            server.wait()
            server.stdin.close()

    def one_kill(self, hub, edges):
        hub.end(signal.SIGKILL)
        edges.ask("mark")
        hub.start()
        if random.uniform(0, 100) < self.args.early:
            time.sleep(random.uniform(0, self.args.between))
            return None
        back = edges.wait_back(self.args.patience)
        return {"back_s": back["seconds"], "cpu_ms": 1000 * hub.cpu() / max(back["handshakes"], 1),
                "ready_s": hub.ready_s, "handshakes": back["handshakes"],
                "handshakes_per_s": back["handshakes"] / max(back["handshake_seconds"], 1e-3), "rss_kib": hub.status("VmRSS")}

    def kill(self):
        args = self.args
        hub, restarts, early = self.hub(clients=args.edges).start(), [], 0
        openssl, alone = self.yardstick(), self.s_time(hub.port)
        try:
            edges = self.edges(hub, args.edges, args.rate, **{"spread-ms": min(args.edges, 2000)})
            try:
                edges.wait_back(args.patience)
                edges.ask("start")
                r = {}
                for number in range(args.kills):
                    if r:
                        time.sleep(random.uniform(0, 2 * args.between))
                    r = self.one_kill(hub, edges)
                    if not r:
                        early += 1
                        continue
                    restarts.append(r)
                    print(f"restart {number + 1}: listening after {r['ready_s']:.2f} s, all back after {r['back_s']:.2f} s, "
                          f"{r['handshakes']} handshakes, {r['handshakes_per_s']:.0f}/s", flush=True)
                if not r:
                    edges.wait_back(args.patience)
                end = edges.settle(args.patience)
                found = edges.check()
            finally:
                edges.close()
        finally:
            hub.end(signal.SIGKILL)
        back = sorted(r["back_s"] for r in restarts) or [0.0]
        late = sum(b > args.back_within for b in back)
        lines, missing, twice = self.verdict(found)
        bench.table(f"{args.kills} kills of the hub while {args.edges} edges send {args.rate:g} events/s each (waits of a dialer: "
                    f"500 ms to {args.retry_max_ms} ms)",
                    ["restarts", "back p50 s", "max s", f"over {args.back_within:g} s", "handshakes/s",
                     "hub's CPU ms each", "s_time, hub", "s_time, s_server",
                     "lines", "missing", "twice"],
                    [[str(len(restarts)), f"{bench.median(back):.2f}", f"{back[-1]:.2f}", str(late),
                      f"{bench.median([r['handshakes_per_s'] for r in restarts] or [0]):.0f}",
                      f"{bench.median([r['cpu_ms'] for r in restarts] or [0]):.2f}", f"{alone:.0f}", f"{openssl:.0f}", lines, missing,
                      twice]])
        return {"restarts": restarts, "early": early, "s_time_hub": alone, "s_time_s_server": openssl, "late": late, "ends": end["ends"],
                "why": end["why"], "found": found}

    def hostile(self):
        args = self.args
        good = args.edges * (100 - args.hostile) // 100
        runs = [self.sample(good, args.rate, args.least), self.sample(args.edges, args.rate, args.least, hostile=args.hostile)]
        rows = []
        for name, r in zip(("alone", f"beside {args.edges - good} hostile"), runs):
            rows.append([f"{good} {name}", f"{r['offered_per_s']:.0f}", f"{r['events_per_s']:.0f}",
                         f"{100 * r['events_per_s'] / r['offered_per_s']:.1f}" if r["offered_per_s"] else "-",
                         f"{r['ack_ms']['p50']:.1f}", f"{r['ack_ms']['p99']:.1f}", f"{100 * r['cpu_share']:.0f}",
                         f"{r['rss_kib'] / 1024:.1f}", f"{r['peak_kib'] / 1024:.1f}", str(r["threads"]), *self.verdict(r["found"])])
        bench.table(f"Hostile edges; the good ones send {args.rate:g} events/s each",
                    ["edges", "offered/s", "acknowledged/s", "%", "ack p50 ms", "p99", "CPU %", "RSS MiB", "peak", "threads", "lines",
                     "missing", "twice"], rows)
        return runs


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--edges", type=int, default=1000)
    parser.add_argument("--idle-edges", type=int, default=10000)
    parser.add_argument("--rate", type=float, default=10, help="events/s of an edge")
    parser.add_argument("--size", type=int, default=100, help="bytes of an event")
    parser.add_argument("--seconds", type=float, default=10, help="length of one trial")
    parser.add_argument("--warm", type=float, default=2, help="seconds before it")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--early", type=float, default=0, help="percent of kills that come before all edges are back")
    parser.add_argument("--between", type=float, default=2, help="seconds from \"all back\" to the next kill, on average")
    parser.add_argument("--back-within", type=float, default=15)
    parser.add_argument("--retry-max-ms", type=int, default=5000,
                        help="longest wait of a dialer; links that live less than 60 s do not set it back to 500 ms")
    parser.add_argument("--flush-ms", type=int, default=1, help="an edge sends what is due at most once in so long")
    parser.add_argument("--hostile", type=int, default=30, help="percent")
    parser.add_argument("--least", type=float, default=0,
                        help="hostile: a trial goes on, up to ten times as long, until this share is acknowledged")
    parser.add_argument("--sync", choices=["always", "relaxed"], default="always")
    parser.add_argument("--option", type=json.loads, default={}, help="JSON: more options of the hub's websocket_input")
    parser.add_argument("--log", default="error", help="level of the hub's log")
    parser.add_argument("--patience", type=float, default=120, help="seconds after which a wait is given up")
    parser.add_argument("--dir", help="a real disk, for fsync to mean something; the default is the temporary folder")
    parser.add_argument("--tools", help="a folder where fanin and fanin_check are, or are built")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    parser.add_argument("--json", help="write all figures to this file")
    return parser


def run(parser, args, tables):
    """The figures of these tables by name, and whether each event was there once."""
    if not args.semstreams:
        parser.error("no semstreams: give --semstreams or set SEMSTREAMS")
    folder = tempfile.mkdtemp(prefix="semstreams-fanin-", dir=args.dir)
    try:
        b = Bench(args, folder)
        for name in tables:
            b.results[name] = getattr(b, name)()
            if args.json:
                Path(args.json).write_text(json.dumps(b.results, indent=1))
    finally:
        if args.keep:
            print(f"files are in {folder}")
        else:
            shutil.rmtree(folder)
    return b.results, b.good


def main():
    parser = arguments()
    parser.add_argument("bench", nargs="*", choices=[[], "rate", "idle", "kill", "hostile"], help="which tables; all if none is named")
    args = parser.parse_args()
    _, good = run(parser, args, args.bench or ("rate", "idle", "kill", "hostile"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
