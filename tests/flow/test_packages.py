# SPDX-License-Identifier: MIT
"""The lists of the packages against what is installed: nothing is left out, nothing is in both, no line is for nothing."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

RPM = {"_bindir": "bin", "_libdir": "lib", "_libexecdir": "libexec", "_mandir": "share/man", "_datadir": "share",
       "_docdir": "share/doc", "_includedir": "include", "name": "semstreams"}
# installed where configure was told to only, and what a package has of its own
ELSEWHERE = r"%license |(%\{_(unit|sysusers|tmpfiles)dir\}|lib/systemd|usr/lib/(sysusers|tmpfiles)\.d)/"


@pytest.fixture
def installed(semstreams):
    prefix = Path(semstreams).parents[1]
    if len(list((prefix / "bin").iterdir())) > 1:
        pytest.skip("other programs are installed there as well")
    return sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*") if not path.is_dir())


def rpm_lists(tree):
    """The patterns of each package, as paths below the prefix."""
    spec = (tree / "packaging" / "rpm" / "semstreams.spec").read_text()
    lists = []
    for section in re.findall(r"^%files.*\n((?:(?!%changelog|%files).*\n)+)", spec, re.M):
        lines = [line for line in section.split("\n") if line and not re.match(ELSEWHERE, line)]
        lists.append([re.sub(r"%\{(\w+)\}", lambda m: RPM[m[1]], line.split()[-1]) for line in lines
                      if not line.startswith("%dir")])
    return lists


def debian_lists(tree):
    lists = []
    for name in "semstreams", "semstreams-dev":
        lines = (tree / "packaging" / "debian" / f"{name}.install").read_text().split("\n")
        lists.append([re.sub(r"^usr/(lib/\*/)?", lambda m: "lib/" if m[1] else "", line) for line in lines
                      if line and not re.match(ELSEWHERE, line)])
    return lists


def takes(pattern, path):
    pattern = pattern.rstrip("/")
    return any(fnmatchcase(part, pattern) for part in (path, *map(str, Path(path).parents)))


@pytest.mark.parametrize("read", [rpm_lists, debian_lists])
def test_lists_are_what_is_installed(installed, tree, read):
    lists = read(tree)
    assert len(lists) == 2 and all(lists)
    for path in installed:
        assert sum(any(takes(pattern, path) for pattern in patterns) for patterns in lists) == 1, path
    for pattern in sum(lists, []):
        assert any(takes(pattern, path) for path in installed), pattern
