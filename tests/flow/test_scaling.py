# SPDX-License-Identifier: MIT
"""docs/scaling.md: its plan is that of its constants, and each constant that is measured names a command that is there."""

import re
import subprocess
import sys


def test_plan_follows_from_the_constants(tree):
    done = subprocess.run([sys.executable, tree / "tests/bench/scaling.py", "check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_of_constants_are_there(tree):
    text = (tree / "docs/scaling.md").read_text()
    rows = re.findall(r"^\| `\w+` \| [0-9.]+ \| .* \| (measured|assumed) \|(.*)\|$", text, re.M)
    assert len(rows) == len(re.findall(r"^\| `\w+` \| [0-9.]+ ", text, re.M)) > 10
    for state, command in rows:
        assert state == "assumed" or command.strip(), "a measured figure without its command"
        for script in re.findall(r"`(tests/bench/\S+\.py)", command):
            assert (tree / script).exists(), script
