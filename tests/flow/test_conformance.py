# SPDX-License-Identifier: MIT
"""docs/conformance.md is complete, and what it refers to exists; what the guides offer as alerts can be read."""

import re
import shutil
import subprocess

import pytest
from conftest import TREE

ITEMS = {"A": 33, "B": 15, "C": 14, "D": 22, "E": 9, "F": 10, "G": 8, "H": 9, "I": 5, "J": 9, "K": 7, "L": 10}


def rows():
    text = (TREE / "docs" / "conformance.md").read_text()
    return re.findall(r"^\| ([A-L]\d+) \| (.*?) \| (.*?) \|$", text, re.M)


def test_each_item_has_a_row():
    assert [item for item, _, _ in rows()] == [f"{letter}{n + 1}" for letter, count in ITEMS.items() for n in range(count)]


def test_each_reference_exists():
    sources = {f.name: f for folder in ("tests/flow", "tests/unit", "plugins") for f in (TREE / folder).rglob("test_*")
               if f.suffix in (".py", ".c")}
    for item, _, where in rows():
        assert where.strip()
        for file, test in re.findall(r"`(test_\w+\.(?:py|c))(?:::(\w+))?`", where):
            assert file in sources, (item, file)
            assert not test or f"def {test}(" in sources[file].read_text(), (item, file, test)
        for page in re.findall(r"\]\((\w+\.md)", where):
            assert (TREE / "docs" / page).exists(), (item, page)


def test_share_of_renewals(tmp_path):
    """The query of docs/acme.md is what Prometheus reads."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing; on Debian it is in the package prometheus")
    text = (TREE / "docs" / "acme.md").read_text()
    share = re.search(r"`(sum\(rate\(.*?)`", text, re.S)[1].replace("\n", " ")
    file = tmp_path / "rules.yml"
    file.write_text(f"groups:\n- name: semstreams\n  rules:\n  - record: share\n    expr: {share}\n")
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0 and "1 rules found" in done.stdout, done.stdout + done.stderr
