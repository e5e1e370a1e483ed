#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""NATS JetStream: nats_output beside a bare publisher of libnats, and readers that share a stream.

    tests/bench/nats.py [publish] [consume] [--semstreams PATH] [--rounds N] [--events N] [--size BYTES] [--readers 1,2,4] [--json FILE]

publish   A hub takes events that wait in an edge's spool over a link and stores them in a stream: events/s from the first to
          the last that is stored, and CPU of the hub alone.  Beside it in each round nats_publish.c, a bare publisher with as
          many messages under way, and the same in portions that are waited for, as `nats bench --js` does.
consume   A full stream read by one nats_input in order, and by so many programs that share a durable, into files: events/s until
          all is acknowledged, CPU of the readers together, and events a second of CPU, which is the rate per core.

A real nats-server 2.9, unpacked by tests/lab/unpack.  Every figure is the median over the rounds; in each round everything has its
turn.  Trust the ratios.  What was stored is counted: each event once, else it ends with 1.
"""
import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "flow"))
import run as bench  # noqa: E402
from conftest import Program, whole_lines  # noqa: E402
from fanout import free_tcp  # noqa: E402
from natslib import Nats, until  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
PENDING = 4096
LONG = 600  # seconds after which something hangs


def build(folder):
    cc = [*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-O2", "-o", f"{folder}/nats_publish",
          str(TOP / "tests/bench/nats_publish.c")]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libnats"], check=True, capture_output=True, text=True).stdout.split()
    subprocess.run([*cc, *flags], check=True)
    return {**bench.build_tools(folder), "nats_publish": f"{folder}/nats_publish"}


def cpu(program):
    """CPU seconds of all its threads, those that have ended included."""
    fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, Path(folder)
        self.tools = build(folder)
        self.server = Nats(self.folder / "nats")
        self.results, self.wrong = {}, []

    def note(self, name, events, seconds, cpu_seconds):
        self.results.setdefault(name, []).append((events / seconds, cpu_seconds / events * 1e6))

    def fresh(self, js):
        """An empty stream."""
        if "EVENTS" in (js.api("STREAM.NAMES").get("streams") or []):
            js.delete_stream("EVENTS")
        js.add_stream("EVENTS", ["events.>"])

    def place(self, name):
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name

    # ---- publishing

    def bare(self, js, *loop):
        self.fresh(js)
        done = subprocess.run([self.tools["nats_publish"], *loop, self.server.url, "events.all", str(self.args.events),
                               str(self.args.size), str(PENDING)], check=True, capture_output=True, text=True, timeout=LONG)
        self.note("bare libnats, in portions" if loop else "bare libnats", *map(float, done.stdout.split()))

    def fill_spool(self, edge):
        udp = int(edge.metrics().sum("semstreams_udp_local_port"))
        sent = 0
        while sent < self.args.events:
            n = min(1000, self.args.events - sent)
            subprocess.run([self.tools["udp_gen"], str(udp), "500000", str(n), str(self.args.size), str(10**9 + sent)], check=True,
                           capture_output=True)
            sent += n
            until(lambda: edge.metrics().sum("semstreams_udp_datagrams_total") >= sent, "the edge to read all", LONG)

    def output(self, js):
        self.fresh(js)
        port, count = free_tcp(), self.args.events
        edge = Program(self.args.semstreams, self.place("edge"), {"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1", "receive_buffer": "8MiB"}},
            {"id": "link", "type": "websocket_output",
             "config": {"port": port, "bind": "127.0.0.1", "spool": {"path": "spool", "sync": "relaxed", "max_bytes": "4GiB"}}}]})
        hub = None
        try:
            edge.wait_ready()
            self.fill_spool(edge)
            hub = Program(self.args.semstreams, self.place("hub"), {"components": [
                {"id": "edges", "type": "websocket_input", "config": {"url": f"ws://127.0.0.1:{port}/"}},
                {"id": "work", "type": "nats_output", "config": {
                    "servers": self.server.url, "stream": "EVENTS", "subject": "events.all", "durability": "relaxed",
                    "max_pending": PENDING}}]})
            hub.wait_ready()
            until(lambda: js.state("EVENTS")["messages"] > 0, "the first message", LONG)
            first, used, began = js.state("EVENTS")["messages"], cpu(hub), time.monotonic()
            until(lambda: js.state("EVENTS")["messages"] >= count, "all messages", LONG)
            self.note("nats_output", count - first, time.monotonic() - began, cpu(hub) - used)
            if js.state("EVENTS")["messages"] != count:
                self.wrong.append(f"nats_output stored {js.state('EVENTS')['messages']} of {count}")
        finally:
            edge.close()
            if hub:
                hub.close()

    # ---- reading

    def readers(self, js, n, kind):
        try:
            js.delete_consumer("EVENTS", "work")
        except RuntimeError:  # there was none
            pass
        if kind == "many":
            js.add_consumer("EVENTS", "work", max_ack_pending=-1)
        config = {"components": [
            {"id": "in", "type": "nats_input", "config": {"servers": self.server.url, "stream": "EVENTS", "durable": "work",
                                                          "readers": kind}},
            {"id": "file", "type": "storage", "config": {"path": "out.jsonl", "sync": "relaxed"}}]}
        folders = [self.place(f"reader-{i}") for i in range(n)]
        began, programs = time.monotonic(), []
        try:
            programs = [Program(self.args.semstreams, folder, config) for folder in folders]

            def over():
                info = js.consumer("EVENTS", "work")
                return info["num_pending"] == 0 and info["num_ack_pending"] == 0
            until(over, "all to be acknowledged", LONG)
            seconds, used = time.monotonic() - began, sum(map(cpu, programs))
        finally:
            for program in programs:
                program.close()
        stored = sum(len(whole_lines(folder / "out.jsonl")) for folder in folders)
        if stored != self.args.events:
            self.wrong.append(f"{n} readers stored {stored} of {self.args.events}")
        self.note(f"{n} sharing" if kind == "many" else "1 in order", self.args.events, seconds, used)

    # ---- all of it

    def run(self):
        with self.server, self.server.client() as js:
            for _ in range(self.args.rounds):
                if "publish" in self.args.what:
                    self.bare(js)
                    self.output(js)
                    self.bare(js, "--loop")
                if "consume" in self.args.what:
                    self.bare(js)
                    self.readers(js, 1, "one")
                    for n in map(int, self.args.readers.split(",")):
                        self.readers(js, n, "many")

    def show(self):
        base = statistics.median(rate for rate, _ in self.results["bare libnats"])
        print(f"{self.args.events} events of {self.args.size} bytes, {self.args.rounds} rounds, {os.cpu_count()} cores\n")
        print("| | events/s | of bare libnats | CPU s per million | events/s per core |\n|---|---|---|---|---|")
        table = {}
        for name, found in self.results.items():
            rate, cost = (statistics.median(values) for values in zip(*found))
            per_core = 1e6 / cost if cost else 0
            table[name] = {"rate": rate, "cpu_s_per_million": cost, "rate_per_core": per_core}
            print(f"| {name} | {rate:,.0f} | {rate / base:.2f} | {cost:.2f} | {per_core:,.0f} |")
        if self.args.json:
            Path(self.args.json).write_text(json.dumps(table, indent=1))
        for text in self.wrong:
            print("WRONG:", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="publish, consume; both if not given")
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=300000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--readers", default="1,2,4")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    args.what = args.what or ["publish", "consume"]
    if not args.semstreams:
        parser.error("set SEMSTREAMS, or --semstreams, to the program to measure")
    with tempfile.TemporaryDirectory(prefix="nats-bench-") as folder:
        b = Bench(args, folder)
        b.run()
        b.show()
    sys.exit(1 if b.wrong else 0)


if __name__ == "__main__":
    main()
