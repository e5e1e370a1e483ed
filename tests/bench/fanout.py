#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fan-out: events of 100 B to many plain WebSocket subscribers, semstreams beside node's ws.send in the same run.

    tests/bench/fanout.py [--semstreams PATH] [--rounds N] [--subscribers 1,100,1000] [--links plain,TLS,mTLS] [--size BYTES]
                          [--messages 20000,50000,100000] [--gather DURATION]

CPU is the server's alone (all its threads, user and system), per event and subscriber; the subscribers are one C program that
reads and counts.  Loads: steady, as many messages a second to all subscribers together as --messages says (one subscriber: at
most 20,000), where node writes each on its own; and bursts, faster than either sends them on.  Each subscriber must get every
byte, else the run fails.
Resident memory of a subscriber: what the server's RSS grew by when they had connected, and after they got events, divided by
their number.  node's package ws is taken from the folder in $WS_MODULES (that has node_modules/ws) or installed by npm.
"""
import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import run as bench  # noqa: E402
from pki import Pki  # noqa: E402

HERE = Path(__file__).resolve().parent
PATH = "/live"
TICKS = os.sysconf("SC_CLK_TCK")


def free_tcp():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A program that sends what comes by UDP to its subscribers."""

    def __init__(self, folder, leaf, mutual):
        self.folder, self.leaf, self.mutual = folder, leaf, mutual
        self.udp, self.tcp = bench.free_port(), free_tcp()
        self.log = open(os.path.join(folder, "log"), "wb")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, env=self.environment())
        deadline = time.monotonic() + 20
        while not (bench.bound(self.udp) and self.listening()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: {Path(folder, 'log').read_text()}")
            time.sleep(0.01)

    def environment(self):
        return os.environ

    def listening(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.tcp)) == 0

    def cpu(self):
        """Seconds, with those of threads that have ended."""
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        exact = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                exact += int(f.read().split()[0])
        return max(exact / 1e9, (int(fields[11]) + int(fields[12]) - 2) / TICKS)

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Semstreams(Server):
    name = "semstreams"
    options = {}

    def command(self):
        config = {"admin": {"listen": "off"}, "log": {"level": "warn"}, "components": [
            {"id": "udp", "type": "udp_input", "config": {"port": self.udp, "bind": "127.0.0.1", "gro": False}},
            {"id": "hub", "type": "websocket_output",
             "config": {"port": self.tcp, "bind": "127.0.0.1", "path": PATH, "max_clients": 20000, "buffer": "1MiB", **self.options}}]}
        if self.leaf:
            mutual = {"enabled": True, "client_ca_files": [self.ca], "allowed_client_cns": ["localhost"]}
            config["security"] = {"tls": {"server": {"enabled": True, "mode": "manual", **self.leaf.settings(),
                                                     **({"mtls": mutual} if self.mutual else {})}}}
        file = os.path.join(self.folder, "config.json")
        with open(file, "w") as f:
            json.dump(config, f)
        return [self.binary, "--config", file]


class Node(Server):
    name = "node ws"

    def command(self):
        return ["node", str(HERE / "ws_node.js"), str(self.udp), str(self.tcp), PATH,
                *([str(self.leaf.cert), str(self.leaf.key)] if self.leaf else []),
                *([self.ca] if self.mutual else [])]

    def environment(self):
        return {**os.environ, "NODE_PATH": os.path.join(self.modules, "node_modules")}


class Subscribers:
    def __init__(self, tool, server, n):
        self.server = server
        self.process = subprocess.Popen([tool, str(server.tcp), PATH, str(n), *(["tls"] if server.leaf else []),
                                         *([str(server.leaf.cert), str(server.leaf.key)] if server.mutual else [])],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def expect(self, word):
        said = self.process.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"{self.server.name}: a subscriber did not get everything: {said or 'it is gone'}\n"
                               + Path(self.server.folder, "log").read_text())

    def read(self, size):
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def send(tools, server, subscribers, events, rate, size):
    """CPU seconds of the server for these events."""
    before = server.cpu()
    subscribers.read(events * (size + 2 if size < 126 else size + 4))
    subprocess.run([tools["udp_gen"], str(server.udp), str(rate), str(events), str(size), "1000000000"], check=True,
                   stdout=subprocess.DEVNULL)
    subscribers.expect("done")
    return server.cpu() - before


def trial(kind, tools, leaf, mutual, n, rate, events, size):
    """(CPU microseconds per event and subscriber, KiB per subscriber connected, KiB after events)"""
    with tempfile.TemporaryDirectory(prefix="fanout-") as folder:
        server = kind(folder, leaf, mutual)
        try:
            warm = Subscribers(tools["ws_sink"], server, 1)
            send(tools, server, warm, min(events, 2000), min(rate, 5000), size)
            warm.close()
            empty = server.resident()
            subscribers = Subscribers(tools["ws_sink"], server, n)
            try:
                connected = (server.resident() - empty) / n
                send(tools, server, subscribers, max(10, events // 10), rate, size)
                cpu = send(tools, server, subscribers, events, rate, size)
                return cpu / events / n * 1e6, connected, (server.resident() - empty) / n
            finally:
                subscribers.close()
        finally:
            server.close()


def modules(folder):
    """A folder with node's package ws, or None."""
    given = os.environ.get("WS_MODULES")
    if given:
        return given
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "ws@8"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return folder if done.returncode == 0 else None


def loads(n, args):
    """(name, events/s, events)"""
    rates = sorted({min(20000.0, max(10.0, m / n)) for m in args.messages})
    return ([(f"{rate:.0f}/s", rate, max(20, int(rate * args.seconds))) for rate in rates]
            # what of a burst waits has to fit into the receive buffer and the backlog of a subscriber
            + [("burst", args.burst_rate, max(50, min(5000, args.burst // n)))])


def row(link, n, load, middle):
    """Of the table; middle is what each kind's trials came to."""
    ours, node = middle[Semstreams], middle.get(Node)
    memory = [f"{kind[1]:.1f} {kind[2]:.1f}" if kind else "" for kind in (ours, node)]
    return [link, str(n), load, f"{ours[0]:.3f}", *([f"{node[0]:.3f}", f"{node[0] / ours[0]:.1f}"] if node else ["", ""]),
            *memory]


def comma_list(kind):
    return lambda text: [kind(x) for x in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subscribers", type=comma_list(int), default=[1, 100, 1000])
    parser.add_argument("--links", type=comma_list(str), default=["plain", "TLS", "mTLS"])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--messages", type=comma_list(float), default=[20000, 50000, 100000],
                        help="steady: messages a second to all subscribers together")
    parser.add_argument("--gather", help="option of websocket_output [its default]")
    parser.add_argument("--burst", type=int, default=200000, help="messages of a burst, to all subscribers together")
    parser.add_argument("--burst-rate", type=float, default=50000, help="events a second in a burst")
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    if not args.semstreams:
        parser.error("no semstreams: give --semstreams or set SEMSTREAMS")
    rows = []
    with tempfile.TemporaryDirectory(prefix="semstreams-fanout-") as folder:
        tools = bench.build_tools(folder)
        tools["ws_sink"] = os.path.join(folder, "ws_sink")
        subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", tools["ws_sink"], HERE / "ws_sink.c", "-lssl",
                        "-lcrypto"], check=True)
        Semstreams.binary, Node.modules = args.semstreams, modules(os.path.join(folder, "npm"))
        if args.gather:
            Semstreams.options = {"gather": args.gather}
        kinds = [Semstreams] + ([Node] if Node.modules else [])
        if not Node.modules:
            print("node's package ws: not here and npm cannot install it; left out")
        pki = Pki(Path(folder) / "pki")
        leaf, Server.ca = pki.location("a").leaf("localhost"), pki.ca_file
        for link in args.links:
            for n in args.subscribers:
                for load, rate, events in loads(n, args):
                    results = {kind: [] for kind in kinds}
                    for _ in range(args.rounds):
                        for kind in kinds:
                            results[kind].append(trial(kind, tools, None if link == "plain" else leaf, link == "mTLS", n, rate,
                                                       events, args.size))
                    rows.append(row(link, n, load, {kind: [bench.median([r[i] for r in results[kind]]) for i in range(3)]
                                                    for kind in kinds}))
    bench.table(f"UDP -> n WebSocket subscribers, {args.size} B: CPU us per event and subscriber; KiB RSS per subscriber, "
                "connected and after events", ["link", "n", "load", "semstreams", "node ws", "times", "KiB", "KiB node"], rows)


if __name__ == "__main__":
    main()
