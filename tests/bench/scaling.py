#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The figures of docs/scaling.md: measures constants, and makes the plan of them.

    tests/bench/scaling.py check           does the plan follow from the table of constants?
    tests/bench/scaling.py update          make it anew
    tests/bench/scaling.py measure [NAME ...] [--semstreams PATH]
                                           run the commands of these constants (all that have a figure to read) on this machine, and update
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PAGE = TOP / "docs/scaling.md"
RATE, SUMMED, EVENT, MOST_EDGES = 10, 60, 100, 5000
FLEETS = (1000, 10000, 100000)
ROW = re.compile(r"^\| `(\w+)` \| ([0-9.]+) \| (.*) \| (measured|assumed) \|(.*)\|$", re.M)


def constants(text):
    return {name: float(value) for name, value, *_ in ROW.findall(text)}


def number(x):
    if x >= 10:
        return f"{round(x):,}"
    return f"{x:.2g}"


def column(c, edges):
    events = edges * RATE
    loop = events * c["hub_us"] * c["loop_percent"] / 100 / 1e6
    hubs = max(math.ceil(loop / 0.5 - 1e-9), math.ceil(edges / MOST_EDGES))
    summed = events / SUMMED

    def streams(rate):
        return max(math.ceil(rate / c["stream_rate"]), hubs)

    def servers(rate):
        return max(3, math.ceil(3 * rate * c["message_bytes"] / 1e6 / c["server_mb"]))
    one = hubs == 1
    return {
        "events a second": number(events),
        "hubs": number(hubs),
        "edges of a hub": number(edges / hubs),
        "cores of all hubs": number(events * c["hub_us"] / 1e6),
        "memory of a hub for its edges, MiB": number(edges / hubs * c["edge_kib"] / 1024),
        "seconds until all edges of a hub are back": number(edges / hubs / c["handshakes"]),
        "line of a hub, Mbit/s": number(events / hubs * c["link_bytes"] * 8 / 1e6),
        "spool of an edge for an hour, MiB": number(RATE * 3600 * (EVENT + 24) / 2**20),
        "raw events: streams": "none" if one else number(streams(events)),
        "raw events: NATS servers, by what they write": "none" if one else number(servers(events)),
        "raw events: cores of nats_output and of readers":
            "none" if one else f"{number(events * c['nats_output_us'] / 1e6)} and {number(events * c['nats_input_us'] / 1e6)}",
        "summed up: events a second": number(summed),
        "summed up: streams": "none" if one else number(streams(summed)),
        "summed up: NATS servers": "none" if one else number(servers(summed)),
        "summed up: cores of readers": "none" if one else number(summed * c["nats_input_us"] / 1e6),
    }


def plan(text):
    columns = [column(constants(text), edges) for edges in FLEETS]
    head = "| |" + "".join(f" {edges:,} edges |" for edges in FLEETS) + "\n|---|" + "---|" * len(FLEETS) + "\n"
    rows = "".join(f"| {name} |" + "".join(f" {c[name]} |" for c in columns) + "\n" for name in columns[0])
    return head + rows


def with_plan(text):
    return re.sub(r"(<!-- plan -->\n).*?(<!-- end -->)", lambda m: m[1] + plan(text) + m[2], text, flags=re.S)


# ---- measuring: (script and arguments, which figure of what it leaves in --json FILE)


def of_fanin(n, figure):
    def read(found):
        values = sorted(r[figure] for r in found["rate"]["runs"] if r["edges"] == n)
        return values[len(values) // 2]
    return read


def kib_of_edge(found):
    return (of_fanin(1000, "rss_kib")(found) - found["rate"]["empty_kib"]) / 1000


FANIN = ["fanin.py", "rate", "--edges", "1000", "--rate", "10"]
MEASURED = {
    "hub_us": (FANIN, of_fanin(1000, "cpu_us_per_event")),
    "hub_one_us": (FANIN, of_fanin(1, "cpu_us_per_event")),
    "edge_kib": (FANIN, kib_of_edge),
    "nats_output_us": (["nats.py", "publish"], lambda found: found["nats_output"]["cpu_s_per_million"]),
    "nats_input_us": (["nats.py", "consume"], lambda found: found["1 in order"]["cpu_s_per_million"]),
}


def measure(names, binary):
    results = {}
    for name in names:
        command, read = MEASURED[name]
        key = tuple(command)
        if key not in results:
            with tempfile.NamedTemporaryFile(suffix=".json") as out:
                argv = [sys.executable, str(TOP / "tests/bench" / command[0]), *command[1:], "--json", out.name]
                subprocess.run([*argv, *(["--semstreams", binary] if binary else [])], check=True)
                results[key] = json.loads(Path(out.name).read_text())
        value = read(results[key])
        print(f"{name} {value:.3g}")
        text = PAGE.read_text()
        PAGE.write_text(re.sub(rf"^\| `{name}` \| [0-9.]+ \| (.*) \| (?:measured|assumed) \|", rf"| `{name}` | {value:.3g} | \1 | measured |",
                               text, flags=re.M))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "update", "measure"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURED)}")
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS"))
    args = parser.parse_args()
    unknown = set(args.names) - set(MEASURED)
    if unknown:
        parser.error(f"no figure is read for {', '.join(sorted(unknown))}; only for {', '.join(MEASURED)}")
    if args.what == "measure":
        measure(args.names or list(MEASURED), args.semstreams)
    text = PAGE.read_text()
    new = with_plan(text)
    if args.what == "check":
        sys.exit(f"{PAGE}: the plan is not that of the constants; run tests/bench/scaling.py update" if new != text else 0)
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
