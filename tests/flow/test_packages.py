# SPDX-License-Identifier: MIT
"""The lists of the packages against what is installed: nothing is left out, nothing is in both, no line is for nothing."""

import os
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

RPM = {"_bindir": "bin", "_libdir": "lib", "_libexecdir": "libexec", "_mandir": "share/man", "_datadir": "share",
       "_docdir": "share/doc", "_includedir": "include", "name": "semstreams"}
# each package has the licence under a name of its own
LICENCE = "share/doc/semstreams/COPYING"
# installed where configure was told to only, and what a package has of its own
ELSEWHERE = r"%license |(%\{_(unit|sysusers|tmpfiles)dir\}|lib/systemd|usr/lib/(sysusers|tmpfiles)\.d)/"


@pytest.fixture
def installed(semstreams):
    prefix = Path(semstreams).parents[1]
    if len(list((prefix / "bin").iterdir())) > 1:
        pytest.skip("other programs are installed there as well")
    return sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*")
                  if not path.is_dir() and str(path.relative_to(prefix)) != LICENCE)


def rpm_lists(tree):
    """The patterns of each package by its name, as paths below the prefix."""
    spec = (tree / "packaging" / "rpm" / "semstreams.spec").read_text()
    lists = {}
    for name, section in re.findall(r"^%files *(.*)\n((?:(?!%changelog|%files).*\n)+)", spec, re.M):
        lines = [line for line in section.split("\n") if line and not re.match(ELSEWHERE, line)]
        lists[name] = [re.sub(r"%\{(\w+)\}", lambda m: RPM[m[1]], line.split()[-1]) for line in lines
                       if not line.startswith("%dir")]
    return lists


def debian_lists(tree):
    lists = {}
    for file in (tree / "packaging" / "debian").glob("*.install"):
        lists[file.stem.replace("-dev", "-devel").removeprefix("semstreams").lstrip("-")] = [
            re.sub(r"^usr/(lib/\*/)?", lambda m: "lib/" if m[1] else "", line.split()[0])
            for line in file.read_text().split("\n") if line and not re.match(ELSEWHERE, line)]
    return lists


def takes(pattern, path):
    pattern = pattern.rstrip("/")
    return any(fnmatchcase(part, pattern) for part in (path, *map(str, Path(path).parents)))


@pytest.mark.parametrize("read", [rpm_lists, debian_lists])
def test_lists_are_what_is_installed(installed, tree, read):
    lists = read(tree)
    assert len(lists) > 1 and all(lists.values())
    for path in installed:
        assert sum(any(takes(pattern, path) for pattern in patterns) for patterns in lists.values()) == 1, path
    for pattern in sum(lists.values(), []):
        assert any(takes(pattern, path) for path in installed), pattern


def test_both_split_alike(installed, tree):
    """Who goes from one distribution to another finds a file in the package of the same name."""
    rpm, debian = rpm_lists(tree), debian_lists(tree)
    assert set(rpm) == set(debian)
    for path in installed:
        for name, patterns in rpm.items():
            assert any(takes(p, path) for p in patterns) == any(takes(p, path) for p in debian[name]), (name, path)


def test_control_names_each_package(tree):
    control = (tree / "packaging" / "debian" / "control").read_text()
    named = re.findall(r"^Package: (.*)", control, re.M)
    assert sorted(named) == sorted(file.stem for file in (tree / "packaging" / "debian").glob("*.install"))


PURGED = """
set -e
mount -t tmpfs none /var/lib
mkdir -p /var/lib/semstreams/spool
mount --bind "$1" /etc
sh "$2" purge
test ! -e /var/lib/semstreams
if grep semstreams /etc/passwd; then exit 1; fi
ls /etc/semstreams 2>/dev/null || :
"""


@pytest.mark.parametrize("left", [[], ["config.json"]])
def test_purge(tree, tmp_path, left):
    """The state and the user go with the Debian package; of the configuration only what is not the operator's."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "userdel"))):
        pytest.skip("not root, or no userdel")
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nsemstreams:x:998:998::/var/lib/semstreams:/bin/false\n")
    (tmp_path / "group").write_text("root:x:0:\nsemstreams:x:998:\n")
    (tmp_path / "semstreams").mkdir()
    for name in left:
        (tmp_path / "semstreams" / name).touch()
    run = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*run, "mount -t tmpfs none /var/lib"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    script = tree / "packaging" / "debian" / "semstreams.postrm"
    done = subprocess.run([*run, PURGED, "sh", tmp_path, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == left
    assert (tmp_path / "semstreams").exists() == bool(left)
