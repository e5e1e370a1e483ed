#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Datagram-to-file benchmarks: semstreams beside a bare receiver and other programs, interleaved in one run.

    tests/bench/run.py [rate] [fixed] [latency] [idle] [fields] [filter] [aggregate] [checkpoint] [queue]
                       [--rounds N] [--semstreams PATH] [--only PEER,...] [--build FOLDER]
    tests/bench/run.py --old PATH/semstreams --new PATH/semstreams [rate] [fixed] [latency] [idle]
    tests/bench/run.py --old PATH/semstreams --new PATH/semstreams pairs [--pairs N]

With --old and --new two installed programs take turns, with the same options, and a table of new/old follows each table.
"pairs" tells differences of a few percent: both programs are up at once and get their events in turns of a second, so what
changes from minute to minute is in both figures of a pair; the ratio is the median over the pairs, with the interval that
holds the true one in 95 of 100 runs.
Every figure is the median over the rounds; in each round every peer has its turn, so what else the machine does hits all
alike.  Trust the ratios.  All peers get the same receive buffer (8 MiB); sequence numbers are checked; a rate counts
only if less than 0.1 % was lost.
"""
import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import peers as kinds

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
LOSS = 0.001


def build_tools(directory):
    tools = {}
    for name in ("udp_gen", "udp_limit", "seq_check", "udp_latency"):
        tools[name] = os.path.join(directory, name)
        subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", tools[name],
                        os.path.join(HERE, name + ".c"), "-lpthread"], check=True)
    return tools


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def bound(port):
    want = f":{port:04X} "
    with open("/proc/net/udp") as a, open("/proc/net/udp6") as b:
        return any(want in line.split(" rem")[0][:40] for line in a.readlines()[1:] + b.readlines()[1:])


class Running:
    """A peer that is up and receives."""

    def __init__(self, peer, directory, keep=False):
        self.port, self.keep = free_port(), keep
        self.out = os.path.join(directory, peer.name.replace(" ", "-").replace(",", "") + ".out")
        open(self.out, "w").close()
        env = dict(os.environ, **getattr(peer, "environment", dict)())
        started = time.perf_counter()
        self.log = open(os.path.join(peer.dir, "log"), "w")
        self.process = subprocess.Popen(peer.command(self.port, self.out, keep), env=env, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        while not bound(self.port):
            if self.process.poll() is not None:
                raise RuntimeError(f"{peer.name} ended: {open(self.log.name).read()}")
            if time.perf_counter() - started > 20:
                raise RuntimeError(f"{peer.name} does not listen")
        self.ready_ms = (time.perf_counter() - started) * 1e3
        self.offset, self.next_seq = 0, 1000000000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        os.unlink(self.out)

    def cpu(self):
        """Seconds of CPU so far, to the nanosecond."""
        total = 0
        base = f"/proc/{self.process.pid}/task"
        for task in os.listdir(base):
            with open(f"{base}/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def memory(self, field):
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                if line.startswith(field):
                    return int(line.split()[1]) / 1024
        return 0.0

    def settle(self):
        """Until the file has stopped growing and the CPU time stands still."""
        last, quiet = None, 0
        while quiet < 4:
            state = (os.path.getsize(self.out), round(self.cpu(), 3))
            quiet = quiet + 1 if state == last else 0
            last = state
            time.sleep(0.05)

    def trial(self, tools, rate, size, seconds):
        """Send at a rate; (events/s really sent, share lost, CPU seconds per million)."""
        count = max(1000, int(rate * seconds))
        first = self.next_seq + self.next_seq % 2  # even
        before = self.cpu()
        sent = subprocess.run([tools["udp_gen"], str(self.port), str(rate), str(count), str(size), str(first)],
                              check=True, capture_output=True, text=True).stdout.split()
        self.settle()
        cpu = self.cpu() - before
        step, expected, start = (2, count // 2, first + 1) if self.keep else (1, count, first)
        found, twice, other, offset = map(int, subprocess.run(
            [tools["seq_check"], self.out, str(self.offset), str(start), str(expected), str(step)],
            check=True, capture_output=True, text=True).stdout.split())
        if twice or other:
            raise RuntimeError(f"{twice} lines twice, {other} not of ours")
        self.offset, self.next_seq = offset, first + count
        if offset > 2 << 30:
            os.truncate(self.out, 0)
            self.offset = 0
        return int(sent[0]) / float(sent[1]), 1 - found / expected, cpu / count * 1e6


def highest(running, tools, size, guess, seconds):
    """The highest rate with hardly any loss: bracket by factors, then halve the bracket in steps of 4 %."""
    good, low, high, rate = None, 0, None, guess
    for _ in range(14):
        real, loss, cpu = running.trial(tools, rate, size, seconds)
        if loss <= LOSS and real > 0.93 * rate:
            good, low = (real, loss, cpu), rate
        else:
            high = rate
        if high is None:
            rate *= 1.35
        elif low == 0:
            rate *= 0.7
        elif high / low < 1.05:
            break
        else:
            rate = (high * low) ** 0.5
    return good or (0, 1, 0)


def table(title, head, rows):
    widths = [max(len(str(r[i])) for r in [head] + rows) for i in range(len(head))]
    print(f"\n## {title}\n")
    for row in [head, ["-" * w for w in widths]] + rows:
        print("| " + " | ".join(str(c).ljust(w) for c, w in zip(row, widths)) + " |")
    sys.stdout.flush()


def median(values):
    return statistics.median(values) if values else 0


def ratios(results, column):
    base = median([r[column] for r in results["limit"]]) if "limit" in results else 0
    return {name: median([r[column] for r in rs]) / base if base else 0 for name, rs in results.items()}


def compare(title, results, columns):
    """new/old of medians for each way to run the program; columns: (heading, index)."""
    rows = []
    for name in results:
        new = name.replace("old", "new", 1)
        if not name.startswith("old") or new not in results:
            continue
        row = [name[3:].strip() or "shared worker"]
        for _, i in columns:
            before, after = (median([r[i] for r in results[n]]) for n in (name, new))
            row += [f"{before:.2f}", f"{after:.2f}", f"{after / before:.3f}" if before else "-"]
        rows.append(row)
    if rows:
        head = ["new beside old"]
        for heading, _ in columns:
            head += [f"{heading}, old", "new", "new/old"]
        table(f"{title}: new beside old", head, rows)


def run_rounds(peers, rounds, measure):
    results = {p.name: [] for p in peers}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else peers[::-1]:
            results[peer.name].append(measure(peer))
            print(f"  round {number + 1} {peer.name}: {results[peer.name][-1]}", file=sys.stderr)
    return results


def bench_rate(peers, directory, tools, args):
    for size in args.sizes:
        for keep in (False, True):
            guesses = {}

            def measure(peer):
                with Running(peer, directory, keep) as r:
                    r.trial(tools, 20000, size, 0.2)
                    best = highest(r, tools, size, guesses.get(peer.name, 300000), args.seconds)
                    guesses[peer.name] = best[0] or 50000
                    return (*best, r.memory("VmHWM"))

            results = run_rounds(peers, args.rounds, measure)
            rate, cpu = ratios(results, 0), ratios(results, 2)
            rows = [[n, f"{median([r[0] for r in rs]):.0f}", f"{rate[n]:.2f}",
                     f"{min(r[0] for r in rs):.0f}..{max(r[0] for r in rs):.0f}",
                     f"{max(r[1] for r in rs):.5f}", f"{median([r[2] for r in rs]):.2f}", f"{cpu[n]:.2f}",
                     f"{max(r[3] for r in rs):.1f}"] for n, rs in results.items()]
            title = f"Highest rate, {'JSON filter keeping half' if keep else 'no filter'}, {size} B"
            table(title, ["peer", "events/s", "ratio", "range", "worst loss", "CPU s/M", "ratio", "peak RSS MiB"], rows)
            compare(title, results, [("events/s", 0), ("CPU s/M", 2)])


def bench_fixed(peers, directory, tools, args):
    for size in args.sizes:
        rate = 50000 if size < 500 else 15000
        for keep in (False, True):

            def measure(peer):
                with Running(peer, directory, keep) as r:
                    r.trial(tools, 20000, size, 0.2)
                    return r.trial(tools, rate, size, 2 * args.seconds)

            results = run_rounds(peers, args.rounds, measure)
            cpu = ratios(results, 2)
            rows = [[n, f"{median([r[0] for r in rs]):.0f}", f"{max(r[1] for r in rs):.5f}",
                     f"{median([r[2] for r in rs]):.2f}", f"{cpu[n]:.2f}"] for n, rs in results.items()]
            title = f"CPU at {rate}/s, {'JSON filter keeping half' if keep else 'no filter'}, {size} B"
            table(title, ["peer", "events/s", "worst loss", "CPU s/M", "ratio"], rows)
            compare(title, results, [("events/s", 0), ("CPU s/M", 2)])


def paired(pairs):
    """Of (before, after): their medians, the median of after/before, and the bounds of its 95 % interval, by order statistics."""
    quotients = sorted(after / before for before, after in pairs)
    n = len(quotients)
    below = max(0, int(n / 2 - 0.98 * n ** 0.5))
    return (median([p[0] for p in pairs]), median([p[1] for p in pairs]), median(quotients), quotients[below],
            quotients[n - 1 - below])


def in_pairs(one, other, n, trial):
    """n pairs of trial(one), trial(other), each pair in the other order than the last."""
    pairs = []
    for number in range(n):
        first, second = (one, other) if number % 2 == 0 else (other, one)
        got = {first: trial(first), second: trial(second)}
        pairs.append((got[one], got[other]))
    return pairs


PAIRS_HEAD = ["CPU s/M, old", "new", "new/old", "95 % of"]


def pairs_row(pairs):
    before, after, ratio, low, high = paired(pairs)
    return [f"{before:.3f}", f"{after:.3f}", f"{ratio:.3f}", f"{low:.3f}..{high:.3f}"]


def bench_pairs(peers, directory, tools, args):
    by_name = {p.name: p for p in peers}
    rows = []
    for size in args.sizes:
        rate = 50000 if size < 500 else 15000
        for keep in (False, True):
            for name, old in by_name.items():
                new = by_name.get(name.replace("old", "new", 1))
                if not name.startswith("old") or not new:
                    continue
                with Running(old, directory, keep) as one, Running(new, directory, keep) as other:
                    trial = lambda running: running.trial(tools, rate, size, args.seconds)[2]
                    in_pairs(one, other, 2, trial)
                    pairs = in_pairs(one, other, args.pairs, trial)
                rows.append(["filter" if keep else "to file", f"{size} B", name[3:].strip() or "shared worker", *pairs_row(pairs)])
    table(f"{args.pairs} pairs of {args.seconds:g} s", ["UDP", "size", "threads", *PAIRS_HEAD], rows)


def bench_latency(peers, directory, tools, args):
    def measure(peer):
        with Running(peer, directory) as r:
            r.trial(tools, 10000, 100, 0.2)
            out = subprocess.run([tools["udp_latency"], str(r.port), r.out, "10000", str(int(20000 * args.seconds))],
                                 check=True, capture_output=True, text=True).stdout.split()
            return tuple(map(float, out))

    results = run_rounds(peers, args.rounds, measure)
    rows = [[n] + [f"{median([r[i] for r in rs]):.0f}" for i in range(5)] for n, rs in results.items()]
    table("Latency datagram to line in the file at 10000/s, microseconds",
          ["peer", "p50", "p90", "p99", "p99.9", "max"], rows)
    compare("Latency", results, [("p50", 0), ("p99", 2)])


def bench_idle(peers, directory, tools, args):
    def measure(peer):
        with Running(peer, directory) as r:
            r.settle()
            before = r.cpu()
            time.sleep(args.seconds)
            return r.ready_ms, r.memory("VmRSS"), 100 * (r.cpu() - before) / args.seconds

    results = run_rounds(peers, max(args.rounds, 5), measure)
    rows = [[n] + [f"{median([r[i] for r in rs]):.{d}f}" for i, d in ((0, 1), (1, 1), (2, 2))]
            for n, rs in results.items()]
    table("Idle", ["peer", "listening after ms", "RSS MiB", "CPU %"], rows)
    compare("Idle", results, [("listening after ms", 0), ("RSS MiB", 1)])


def bench_of_part(name, title):
    """A benchmark program of one part, from the build folder; it prints its own table."""

    def bench(peers, directory, tools, args):
        program = os.path.join("tests", "bench", name)
        if not args.build:
            raise SystemExit(f"{program} is built by make: name a configured build folder with --build")
        subprocess.run(["make", "-C", args.build, "--no-print-directory", program], check=True, stdout=sys.stderr)
        print(f"\n## {title}\n", flush=True)
        subprocess.run([os.path.join(args.build, program)], check=True)

    return bench


bench_fields = bench_of_part("fields_bench", "The field reader")
bench_filter = bench_of_part("filter_bench", "A filter")
bench_aggregate = bench_of_part("aggregate_bench", "An aggregate")
bench_checkpoint = bench_of_part("aggregate_checkpoint", "Checkpoints of an aggregate")
bench_queue = bench_of_part("queue_bench", "A hop over a ring")

BENCHES = {"rate": bench_rate, "fixed": bench_fixed, "latency": bench_latency, "idle": bench_idle, "pairs": bench_pairs,
           "fields": bench_fields, "filter": bench_filter, "aggregate": bench_aggregate, "checkpoint": bench_checkpoint,
           "queue": bench_queue}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="*", choices=[[], *BENCHES], help="which tables; all if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one trial")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--sizes", type=lambda s: [int(x) for x in s.split(",")], default=[100, 1000])
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--dir", help="where files are written; /dev/shm if there is room, so that no disk disturbs")
    parser.add_argument("--old", help="a semstreams to compare --new with")
    parser.add_argument("--new", help="the other one")
    parser.add_argument("--build", default=next((d for d in (os.getcwd(), os.path.join(TOP, "build"))
                                                 if os.path.exists(os.path.join(d, "config.status"))), None),
                        help="a configured build folder, for the benchmarks of parts")
    parser.add_argument("--only", type=lambda s: s.split(","), help="names of peers")
    args = parser.parse_args()
    if bool(args.old) != bool(args.new):
        parser.error("--old and --new go together")
    if not args.semstreams and not args.old:
        parser.error("no semstreams on the PATH: name it with --semstreams")

    where = args.dir or ("/dev/shm" if shutil.disk_usage("/dev/shm").free > 8 << 30 else None)
    with tempfile.TemporaryDirectory(prefix="semstreams-bench-", dir=where) as directory:
        tools = build_tools(directory)
        make = lambda cls, name, *rest: cls(name, os.path.join(directory, name.replace(" ", "-")), tools, *rest)
        programs = [("old", args.old), ("new", args.new)] if args.old else [("semstreams", args.semstreams)]
        candidates = [make(kinds.Limit, "limit")]
        for suffix, options, shared in (("", {"gro": False}, True), (" default", {"gro": False}, False), (" gro", {}, True)):
            for name, path in programs:
                candidates.append(make(kinds.Semstreams, name + suffix, path, options, shared))
        if not args.old:
            candidates += [make(kinds.Rsyslog, "rsyslog"), make(kinds.SyslogNg, "syslog-ng")]
        chosen = [p for p in candidates if not args.only or p.name in args.only]
        for p in [p for p in chosen if not p.available()]:
            print(f"{p.name}: not installed, left out", file=sys.stderr)
        chosen = [p for p in chosen if p.available()]
        print(f"{os.uname().release}, {os.cpu_count()} CPUs, {args.rounds} rounds, medians; files in {directory}")
        of_both = ["rate", "fixed", "latency", "idle"]
        for name in args.bench or (of_both if args.old else [b for b in BENCHES if b != "pairs"]):
            BENCHES[name](chosen, directory, tools, args)


if __name__ == "__main__":
    main()
