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
        lists.append([re.sub(r"^usr/(lib/\*/)?", lambda m: "lib/" if m[1] else "", line.split()[0]) for line in lines
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
