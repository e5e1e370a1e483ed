# SPDX-License-Identifier: MIT
"""Many edges on one listener: the short form of tests/bench/fanin.py, which measures; here only what is exact counts."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from conftest import PATIENCE, TREE
from lab.ports import unused_port


def fan_in(semstreams, tmp_path, *words):
    """Run it; its figures.  It fails if an acknowledged event is missing, or one is there twice."""
    figures = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, "-B", TREE / "tests" / "bench" / "fanin.py", *words, "--semstreams", semstreams, "--json", figures,
                           "--dir", tmp_path, "--edges", "20", "--seconds", "1", "--warm", "0.5", "--patience", str(int(PATIENCE))],
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=20 * PATIENCE)
    assert done.returncode == 0, done.stdout
    return json.loads(figures.read_text())


def test_hostile_edges_change_nothing_for_the_others(semstreams, tmp_path):
    """30 percent ignore windows, never read, stay half-open or silent, or cut off their connections."""
    options = json.dumps({"window_bytes": "64KiB", "max_message": "32KiB"})
    alone, beside = fan_in(semstreams, tmp_path, "hostile", "--rate", "50", "--option", options)["hostile"]
    for run in (alone, beside):
        assert run["edges"] in (14, 20)
        assert run["found"]["acked"] >= 14 * 50
        assert run["ends"] == {}, "a good edge was cut off"
        assert run["threads"] == alone["threads"]
    assert beside["found"]["lines"] > alone["found"]["lines"], "the hostile ones sent nothing"


def test_kills_of_the_hub(semstreams, tmp_path):
    """Each time all edges come back, and what they sent is there once: each has a position of its own in the store."""
    kill = fan_in(semstreams, tmp_path, "kill", "--rate", "50", "--kills", "3", "--between", "0.5", "--retry-max-ms", "500")["kill"]
    assert len(kill["restarts"]) == 3
    assert all(r["handshakes"] >= 20 for r in kill["restarts"])
    assert kill["found"]["lines"] == kill["found"]["acked"] > 20 * 50
    assert kill["s_time_hub"] > 0 and kill["s_time_s_server"] > 0


def run_example(semstreams, tmp_path, *words):
    return [TREE / "examples" / "fan-in" / "run", "--no-install", "--folder", tmp_path / "fan", "--port", str(unused_port(socket.SOCK_STREAM)),
            *words], {**os.environ, "SEMSTREAMS": semstreams}


def left(tmp_path):
    """Processes of the example that are still there: each runs in a folder of its own."""
    here = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(f"{tmp_path}/fan/"):
                here.append((process / "comm").read_text())
        except OSError:  # it has ended, or is another user's
            pass
    return here


def test_example(semstreams, tmp_path):
    """examples/fan-in/run, twice in one folder, and nothing of it is left afterwards."""
    command, env = run_example(semstreams, tmp_path, "--edges", "6")
    for _ in range(2):
        done = subprocess.run(command, env=env, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=20 * PATIENCE)
        assert done.returncode == 0, done.stdout
        assert "readings: 60 sent, 60 in the hub's files, 0 lost, 0 twice" in done.stdout
        assert not left(tmp_path)


def test_example_stays(semstreams, tmp_path):
    """--stay leaves it up, alone in its folder; SIGTERM ends it and all it started."""
    command, env = run_example(semstreams, tmp_path, "--edges", "2", "--readings", "2", "--stay")
    up = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = ""
        while "It stays up" not in said:
            line = up.stdout.readline()
            assert line, said
            said += line
        second = subprocess.run(command, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
        assert second.returncode == 1 and "another one runs" in second.stdout
        assert left(tmp_path).count("semstreams\n") == 3
    finally:
        up.send_signal(signal.SIGTERM)
        said += up.communicate(timeout=2 * PATIENCE)[0]
    assert up.returncode == 0, said
    assert not left(tmp_path)
