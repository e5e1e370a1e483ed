# SPDX-License-Identifier: MIT
"""The plugin ABI is that of the releases, by tests/abi/guard.py, which lets structs grow where they may and finds everything else."""

import re
import shutil
import struct
import subprocess

import pytest

pytestmark = pytest.mark.skipif(struct.calcsize("P") != 8, reason="the dumps are of 64-bit machines")


@pytest.fixture(autouse=True)
def tools():
    for tool, package in (("cc", "gcc"), ("abidw", "abigail-tools"), ("abidiff", "abigail-tools")):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing; on Debian: apt-get install {package}")


def guard(tree, *args):
    done = subprocess.run(["/usr/bin/python3", "-B", tree / "tests" / "abi" / "guard.py", *args], capture_output=True, text=True,
                          timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_abi_is_that_of_the_releases(tree):
    done = guard(tree, "check")
    assert (done.returncode, done.stdout) == (0, "")


def test_each_release_is_stored(tree):
    news = (tree / "NEWS").read_text()
    told = re.findall(r"^semstreams (\d+\.\d+\.\d+)$", news, re.M)
    assert told
    for version in told:
        assert (tree / "tests" / "abi" / version / "plugin.abi").exists(), version


# header, what changes there, what the guard says: None, it is compatible
CHANGES = [
    ("a member at the end", "plugin.h", r"(\n\tint32_t \(\*output_read\)\(const struct ss_host \*, uint32_t port\);)",
     r"\1\n\tvoid (*newer)(const struct ss_host *);", None),
    ("a member at the end of a row", "plugin.h", r"int64_t min, max;", "int64_t min, max, step;", None),
    ("a member for a reserved one", "plugin.h", r"uint32_t reserved;( +/\* 0 \*/\n\tvoid \*impl;)", r"uint32_t hue;\1", None),
    ("a comment", "plugin.h", r"/\* One event: ", "/* An event: ", None),
    ("one more value", "plugin.h", r"SS_LOG_DEBUG = 30", "SS_LOG_DEBUG = 30, SS_LOG_TRACE = 40", None),
    ("a member in the middle", "plugin.h", r"\n\tvoid \*impl;", "\n\tuint64_t more;\n\tvoid *impl;", "ss_host.id is not where it was"),
    ("a larger type", "plugin.h", r"\n\tuint16_t flags;", "\n\tuint32_t flags;", "ss_event"),
    ("a type without a sign", "ext/tls.h", r"\n\tuint32_t role;", "\n\tint32_t role;", "ss_tls_material"),
    ("a member that is gone", "plugin.h", r"\n\tvoid \(\*metric_set\)\([^;]*;", "", "metric_set"),
    ("two in the other order", "plugin.h", r"(?s)\(\*batch_ref\)(.*?)\(\*batch_unref\)", r"(*batch_unref)\1(*batch_ref)",
     "ss_host.batch_ref is not where it was"),
    ("a member at the end of what may not grow", "plugin.h", r"(\n\tuint64_t seq; +/\* of the newest event \*/)",
     r"\1\n\tuint64_t more;", "ss_position"),
    ("a parameter of another type", "plugin.h", r"uint32_t reason, uint64_t n\)", "uint32_t reason, uint32_t n)", "drop"),
    ("a parameter more", "ext/loop.h", r"\(\*now\)\(void \*self\)", "(*now)(void *self, int32_t clock)", "now"),
    ("another result", "plugin.h", r"void \(\*drop\)", "int32_t (*drop)", "drop"),
    ("another value", "plugin.h", r"SS_BUSY = 2", "SS_BUSY = 3", "SS_BUSY was 2 and is 3"),
    ("a value in front", "ext/tls.h", r"\n\tSS_TLS_FAIL_EXPIRED,", "\n\tSS_TLS_FAIL_NEW,\n\tSS_TLS_FAIL_EXPIRED,",
     "SS_TLS_FAIL_EXPIRED was 2 and is 3"),
    ("a value that is gone", "plugin.h", r"SS_OPT_SECRET = 2,", "", "SS_OPT_SECRET was 2 and is gone"),
    ("another id of a service", "ext/loop.h", r"semstreams\.loop/1", "semstreams.loop/2",
     "SS_LOOP was semstreams.loop/1 and is semstreams.loop/2"),
]


@pytest.mark.parametrize("header, old, new, says", [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_change_is_judged(tree, tmp_path, header, old, new, says):
    include = tmp_path / "include"
    shutil.copytree(tree / "sdk" / "include", include)
    file = include / "semstreams" / header
    text, count = re.subn(old, new, file.read_text(), count=1)
    assert count == 1 and text != file.read_text()
    file.write_text(text)
    if "SS_OPT_SECRET" in old:  # of headers that use it
        assert "SS_OPT_SECRET" not in re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    done = guard(tree, "check", "--include", include, tree / "tests" / "abi" / "0.1.0")
    if says is None:
        assert (done.returncode, done.stdout) == (0, "")
    else:
        assert done.returncode == 1 and says in done.stdout, done.stdout + done.stderr


def test_a_dump_lacks_no_struct(tree, tmp_path):
    include = tmp_path / "include"
    shutil.copytree(tree / "sdk" / "include", include)
    file = include / "semstreams" / "ext" / "rate.h"
    file.write_text(file.read_text().replace("\nstruct ss_rate {", "\nstruct ss_rate_more {\n\tuint32_t struct_size;\n};\nstruct ss_rate {"))
    done = guard(tree, "dump", "--include", include, tmp_path / "dump")
    assert done.returncode == 1 and "does not name ss_rate_more" in done.stderr


def test_every_header_of_the_abi_is_in_the_dump(tree):
    named = set(re.findall(r"#include <semstreams/(\S+)>", (tree / "tests" / "abi" / "plugin_abi.c").read_text()))
    folder = tree / "sdk" / "include" / "semstreams"
    services = {f"ext/{h.name}" for h in (folder / "ext").glob("*.h") if not re.search(r"Not\s+(\*\s+)?installed", h.read_text())}
    assert named == services | {"plugin.h"}
