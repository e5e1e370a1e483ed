# SPDX-License-Identifier: MIT
"""Many edges on one listener: the short form of tests/bench/fanin.py, which measures; here only what is exact counts."""

import json
import os
import subprocess
import sys

from conftest import PATIENCE, TREE


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
