#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a tap costs the stream: datagrams to a file, untapped and tapped, interleaved in one run.

    tests/bench/tap.py [--rounds N] [--seconds S] [--rate EVENTS/S] [--semstreams PATH]

At --rate (500000) and at the highest rate with hardly any loss, 100 B events: how many a second arrive in the file, and the
host's CPU per million, without a tap, with one, with one that has a condition, and with eight.  A tap may cost 3 %: the
ratios of arrived events are judged, and the exit code is 1 if a median is below 0.97.  Each reader writes to /dev/null.  Where fewer
cores than two more than the host's threads are free, readers and host take them from each other: that is no cost of a tap's copies.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import peers as kinds
import run as bench

SIZE = 100
ALLOWED = 0.97
RARE = '{"field": "value", "op": "gt", "value": 1000}'


class Tapped(kinds.Semstreams):
    def __init__(self, *args, taps=()):
        super().__init__(*args, {"gro": False}, True)
        self.taps, self.socket = taps, os.path.join(self.dir, "admin")

    def write(self, name, text):
        return super().write(name, text.replace('"listen": "127.0.0.1:0"', f'"listen": "off", "socket": "{self.socket}"'))


class Readers:
    """semstreams tap, as often as the peer has it, all of them open."""

    def __init__(self, peer):
        self.children = [subprocess.Popen([peer.program, "tap", *args, "--admin", peer.socket], stdout=subprocess.DEVNULL,
                                          stderr=subprocess.PIPE, text=True) for args in peer.taps]
        for child in self.children:
            said = child.stderr.readline()
            if "tapping" not in said:
                raise RuntimeError(f"a tap was not opened: {said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.communicate()


def measure(peer, directory, tools, args, guesses):
    """Events/s that arrived at the rate, CPU s/M then; the highest rate, CPU s/M then."""
    with bench.Running(peer, directory) as running, Readers(peer):
        running.trial(tools, 20000, SIZE, 0.2)
        sent, loss, cpu = running.trial(tools, args.rate, SIZE, 2 * args.seconds)
        best = bench.highest(running, tools, SIZE, guesses.get(peer.name, 300000), args.seconds)
        guesses[peer.name] = best[0] or 50000
        return sent * (1 - loss), cpu, best[0] * (1 - best[1]), best[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=500000)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    args = parser.parse_args()
    if not args.semstreams:
        parser.error("no semstreams on the PATH: name it with --semstreams")
    where = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 8 << 30 else None
    with tempfile.TemporaryDirectory(prefix="ss-tap-", dir=where) as directory:
        tools = bench.build_tools(directory)
        ways = {"untapped": [], "tap udp": [["udp"]], "tap --where": [["udp", "--where", RARE]], "8 taps": [["udp"], ["file:in"]] * 4}
        chosen = [Tapped(name, os.path.join(directory, str(i)), tools, args.semstreams, taps=taps)
                  for i, (name, taps) in enumerate(ways.items())]
        guesses = {}
        print(f"{os.uname().release}, {os.cpu_count()} CPUs, {args.rounds} rounds, medians")
        results = bench.run_rounds(chosen, args.rounds, lambda peer: measure(peer, directory, tools, args, guesses))
    rows, bad = [], []
    middle = {name: [statistics.median(r[i] for r in rs) for i in range(4)] for name, rs in results.items()}
    for name, (at_rate, cpu, highest, highest_cpu) in middle.items():
        ratios = [at_rate / middle["untapped"][0], highest / middle["untapped"][2] if middle["untapped"][2] else 0]
        rows.append([name, f"{at_rate:.0f}", f"{ratios[0]:.3f}", f"{cpu:.2f}", f"{highest:.0f}", f"{ratios[1]:.3f}", f"{highest_cpu:.2f}"])
        bad += [name] if ratios[0] < ALLOWED else []
    bench.table(f"A tap, {SIZE} B events", ["", f"arrived of {args.rate:.0f}/s", "ratio", "CPU s/M", "highest events/s", "ratio",
                                            "CPU s/M"], rows)
    if bad:
        sys.exit(f"below {ALLOWED} of untapped: {', '.join(bad)}")


if __name__ == "__main__":
    main()
