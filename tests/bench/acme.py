#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Certificates by ACME beside uacme, from the same step-ca, in turns: seconds from the start of the command to the
certificate on disk, CPU seconds, and memory; then what a whole host keeps resident.

    tests/bench/acme.py [--semstreams PATH] [--rounds N]

cold: nothing is there (account key, account, certificate key, order); warm: the account is, one more certificate.  uacme's
cold is its two commands "new" and "issue"; its answers are served by a web server that runs already and its hook is the one
that comes with it.  Both use http-01 and keys on P-256.
"""
import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "flow"), str(HERE)]
from acmelib import Uacme, acme, hub  # noqa: E402
from lab import servers  # noqa: E402
from lab.hosts import Hosts, environment  # noqa: E402
from pki import Pki  # noqa: E402
import run as bench  # noqa: E402

NAME, OTHER = "semstreams-a.local", "uacme.local"  # each has its port 80


def timed(host, *commands, env=None):
    """Seconds, CPU seconds and the largest process's KiB of commands one after the other."""
    wall, cpu, memory = 0.0, 0.0, 0
    for command in commands:
        report = host.folder / "time"
        began = time.monotonic()
        done = host.run("/usr/bin/env", "-i", *[f"{k}={v}" for k, v in environment(host.folder, env).items()],
                        "python3", "-c", MEASURE, report, *command)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        seconds, used, kib = json.loads(report.read_text())
        assert seconds <= time.monotonic() - began
        wall, cpu, memory = wall + seconds, cpu + used, max(memory, kib)
    return wall, cpu, memory


# in the host: only the command itself is timed, not the way in; its memory is that of it and its children
MEASURE = """
import json, os, resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL)
spent = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(json.dumps([time.monotonic() - began, spent.ru_utime + spent.ru_stime, spent.ru_maxrss]))
sys.exit(code)
"""


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def rounds(host, other, ca, uacme, binary, folder, n):
    results = {}
    for i in range(n):
        mine, others = folder / f"acme-{i}", folder / f"uacme-{i}"
        config = folder / f"{i}.json"
        config.write_text(json.dumps(hub(acme(ca, mine), 8080)))
        ours = [binary, "cert", "issue", "--config", config]
        theirs = [uacme.program, "-y", "-a", ca.url, "-c", others, "-t", "EC"]
        issue = [*theirs, "-h", "/usr/share/uacme/uacme.sh", "issue", OTHER]
        env = {"UACME_CHALLENGE_PATH": str(uacme.web / ".well-known" / "acme-challenge")}
        steps = {("semstreams", "cold"): (host, [ours], None), ("uacme", "cold"): (other, [[*theirs, "new"], issue], env)}
        for key, (where, commands, more) in steps.items():
            results.setdefault(key, []).append(timed(where, *commands, env=more))
        renew = [binary, "cert", "renew", "--force", "--config", config]
        again = [*issue[:-2], "-f", *issue[-2:]]
        time.sleep(1.1)  # uacme cannot issue twice within a second
        steps = {("semstreams", "warm"): (host, [renew], None), ("uacme", "warm"): (other, [again], env)}
        for key, (where, commands, more) in steps.items():
            results.setdefault(key, []).append(timed(where, *commands, env=more))
    return results


def idle(host, binary, folder, n):
    """KiB of a host with acme_tls and a websocket_output, its certificate stored."""
    config = json.loads((folder / f"{n}.json").read_text())
    config["components"] = [c for c in config["components"] if c["type"] == "websocket_output"]
    config["admin"] = {"listen": "127.0.0.1:9600"}
    file = folder / "idle.json"
    file.write_text(json.dumps(config))
    process = host.popen(binary, "--config", file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "renewal loop started" in line:
                break
        last = None
        while last != resident(process.pid):  # until it has settled
            last = resident(process.pid)
            time.sleep(1)
        return last
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semstreams", default=os.environ.get("SEMSTREAMS") or shutil.which("semstreams"))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="semstreams-acme-")))
        (folder / "pki").mkdir()
        pki = Pki(folder / "pki")
        location = pki.location("a")
        hosts = stack.enter_context(Hosts(folder / "hosts"))
        host, other = hosts.add(NAME), hosts.add(OTHER, mounts=Uacme.trusting(pki.ca_file, folder))
        ca = servers.StepCa(folder / "ca", hosts.add("step-ca-a.local"), pki.ca_file, location.crt, location.key.path)
        ca.start()
        stack.callback(ca.stop)
        uacme = Uacme(other, folder / "uacme")
        stack.callback(uacme.close)
        results = rounds(host, other, ca, uacme, args.semstreams, folder, args.rounds)
        kib = idle(host, args.semstreams, folder, 0)
    rows = []
    for (who, what), values in sorted(results.items(), key=lambda item: item[0][1]):
        walls = [v[0] for v in values]
        rows.append([what, who, f"{statistics.median(walls) * 1000:.0f}", f"{min(walls) * 1000:.0f}", f"{max(walls) * 1000:.0f}",
                     f"{statistics.median(v[1] for v in values) * 1000:.0f}", f"{max(v[2] for v in values) / 1024:.1f}"])
    bench.table(f"A certificate from step-ca, http-01, {args.rounds} rounds in turns",
                ["", "client", "median ms", "least", "most", "CPU ms", "largest process MiB"], rows)
    print(f"\nA host with acme_tls and websocket_output, idle: {kib} KiB resident ({kib / 1024:.2f} MiB; limit 12)")


if __name__ == "__main__":
    main()
