# SPDX-License-Identifier: MIT
"""Many edges on one listener: the short form of tests/soak/hub."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from conftest import PATIENCE, TREE
from flowlib import is_sanitized
from lab.ports import unused_port


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The load program is built once."""
    return tmp_path_factory.mktemp("tools")


@pytest.fixture
def hub(semstreams, tmp_path, tools):
    """hub(words...): run it; its figures.  It fails if an acknowledged event is missing or there twice, or a limit is not kept."""

    def run(*words):
        figures, long = tmp_path / "figures.json", str(int(2 * PATIENCE))
        done = subprocess.run([TREE / "tests" / "soak" / "hub", *words, "--semstreams", semstreams, "--json", figures, "--dir", tmp_path,
                               "--tools", tools, "--seconds", "2", "--warm", "0.5", "--patience", long, "--back-within", long],
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20 * PATIENCE)
        assert done.returncode == 0, done.stdout
        return json.loads(figures.read_text())

    return run


def memory(semstreams, name, limit):
    """The option; a sanitizer's memory says nothing."""
    return [name, str(1 << 20 if is_sanitized(semstreams) else limit)]


def test_hostile_edges_change_nothing_for_the_others(hub, semstreams):
    """30 percent ignore windows, never read, stay half-open or silent, or cut off their connections: the others keep their rate, and
    memory is bounded by the windows."""
    options = json.dumps({"window_bytes": "64KiB", "max_message": "32KiB"})
    alone, beside = hub("hostile", "--edges", "40", "--rate", "25", "--option", options,
                        *memory(semstreams, "--hostile-mib", 32))["hostile"]
    assert (alone["edges"], beside["edges"]) == (28, 40)
    assert beside["found"]["lines"] > alone["found"]["lines"], "the hostile ones sent nothing"


def test_kills_of_the_hub(hub):
    """Each time all edges come back, and what they sent is there once: each has a position of its own in the store."""
    kill = hub("kill", "--edges", "40", "--rate", "25", "--kills", "4", "--between", "0.5", "--retry-max-ms", "500")["kill"]
    assert len(kill["restarts"]) + kill["early"] == 4
    assert all(r["handshakes"] >= 40 for r in kill["restarts"])
    assert kill["found"]["lines"] == kill["found"]["acked"] > 0
    assert kill["s_time_hub"] > 0 and kill["s_time_s_server"] > 0


def test_kills_before_all_are_back(hub):
    """The next kill comes in the middle of the storm of the last one."""
    kill = hub("kill", "--edges", "20", "--rate", "25", "--kills", "4", "--early", "100", "--between", "0.3")["kill"]
    assert kill["early"] == 4
    assert kill["found"]["lines"] == kill["found"]["acked"] > 0


def test_idle_links(hub, semstreams):
    """1,000 links on one listener: a descriptor and a little memory each, and no thread more."""
    kinds = hub("idle", "--idle-edges", "1000", *memory(semstreams, "--idle-kib", 64))["idle"]
    assert [(one["kind"], one["live"]) for one in kinds] == [("mTLS link", 1000), ("link", 1000), ("plain peer", 1000)]


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
