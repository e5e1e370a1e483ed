# SPDX-License-Identifier: MIT
"""A plugin that joins the tree touches three lines outside its own folder; here the template does."""

import os
import shlex
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.xdist_group("new_plugin")  # built once

MAKEFILE_INC = """\
# how to build the plugin sample
nobase_dist_doc_DATA += %D%/sample.md
if PLUGIN_SAMPLE
noinst_LTLIBRARIES += %D%/libsample.la
%C%_libsample_la_SOURCES = %D%/sample.c
%C%_libsample_la_LDFLAGS =
pluginexec_LTLIBRARIES += %D%/sample.la
%C%_sample_la_SOURCES =
%C%_sample_la_LDFLAGS = $(PLUGIN_LDFLAGS)
%C%_sample_la_LIBADD = %D%/libsample.la libssbase.la
check_PROGRAMS += %D%/tests/test_sample
%C%_tests_test_sample_SOURCES = %D%/tests/test_sample.c %D%/tests/check.h
%C%_tests_test_sample_LDADD = %D%/libsample.la $(TEST_HOST_LIBS)
endif
"""
PAGE = """\
# sample

Passes on one event in so many.

<!-- options -->
<!-- end -->
"""
OUTSIDE = {
    "configure.ac": ("SS_PLUGIN([udp-input]", "SS_PLUGIN([sample], [one event in so many])\n"),
    "Makefile.am": ("include plugins/storage/Makefile.inc", "include plugins/sample/Makefile.inc\n"),
}


def join(top, semstreams):
    """What `plugins new` makes as plugins/sample, and the lines outside."""
    folder = top / "plugins" / "sample"
    (folder / "tests").mkdir(parents=True)
    subprocess.run([semstreams, "plugins", "new", "sample", "--kind", "processor", "--dir", top.parent], check=True,
                   capture_output=True)
    made = top.parent / "sample"
    shutil.copy(made / "sample.c", folder)
    for name in ("test_sample.c", "check.h"):
        shutil.copy(made / name, folder / "tests")
    (folder / "Makefile.inc").write_text(MAKEFILE_INC)
    (folder / "sample.md").write_text(PAGE)
    for name, (before, line) in OUTSIDE.items():
        text = (top / name).read_text()
        assert text.count(before) == 1, name
        (top / name).write_text(text.replace(before, line + before))


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory, semstreams):
    for tool in ("autoreconf", "libtoolize", "make"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("joined")
    top = folder / "src"
    shutil.copytree(tree, top, ignore=lambda folder, names: {
        n for n in names if n in (".git", "autom4te.cache", "__pycache__")
        or folder == str(tree) and (n == "build" or n.startswith("build-"))})
    join(top, semstreams)
    subprocess.run(["autoreconf", "-fi"], cwd=top, check=True, capture_output=True)
    others = sorted(p.name.replace("_", "-") for p in (top / "plugins").iterdir()
                    if p.is_dir() and (p / f"{p.name}.md").exists() and p.name != "sample")
    build = folder / "build"
    build.mkdir()
    cc = os.environ.get("CC") or ("ccache gcc" if shutil.which("ccache") else "cc")
    subprocess.run([top / "configure", "-q", f"--prefix={folder}/inst", f"CC={cc}", "CFLAGS=-O0",
                    *(f"--disable-plugin-{name}" for name in others)], cwd=build, check=True)
    # the make that runs these tests is none of our business
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}

    def make(*args, check=True):
        return subprocess.run(["make", "-j2", *args], cwd=build, env=env, check=check, capture_output=True, text=True)

    make()
    return top, build, folder / "inst", make


def test_lines_outside_its_folder(tree, built):
    """Nothing but what join() wrote differs, so nothing else was needed for all that follows."""
    assert sum(line.count("\n") for _, line in OUTSIDE.values()) <= 3
    top, _, _, _ = built
    said = subprocess.run(["diff", "-rq", "--exclude=.git", "--exclude=autom4te.cache", "--exclude=sample", "--exclude=*~",
                           "--exclude=configure", "--exclude=Makefile.in", "--exclude=aclocal.m4", "--exclude=build*",
                           "--exclude=__pycache__", "--exclude=config.h.in", tree, top], capture_output=True, text=True)
    changed = [shlex.split(line)[1] for line in said.stdout.splitlines() if line.startswith("Files ")]
    assert sorted(os.path.relpath(path, tree) for path in changed) == sorted(OUTSIDE), said.stdout


def test_it_is_tested_and_documented(built):
    _, build, _, make = built
    make("docs")  # its page gets its table
    ran = make("check", "TESTS=plugins/sample/tests/test_sample docs/tables.test tests/abi/exports.test",
               "check_PROGRAMS=plugins/sample/tests/test_sample", check=False)
    assert ran.returncode == 0, ran.stdout
    assert "plugins/sample/sample.md agrees with what the program says of itself" in (build / "docs" / "tables.log").read_text()
    assert "plugins/sample/.libs/sample.so" in (build / "tests" / "abi" / "exports.log").read_text()


def test_it_is_distributed_and_installed(built):
    top, build, inst, make = built
    make("install")
    listed = subprocess.run([inst / "bin" / "semstreams", "plugins", "list"], check=True, capture_output=True, text=True)
    assert "sample" in listed.stdout
    assert (inst / "share" / "doc" / "semstreams" / "plugins" / "sample" / "sample.md").exists()
    said = subprocess.run(["make", "-n", "distdir"], cwd=build, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    make("distdir")
    (dist,) = build.glob("semstreams-*")
    for name in ("sample.c", "sample.md", "Makefile.inc", "tests/test_sample.c"):
        assert (dist / "plugins" / "sample" / name).exists(), name
    shutil.rmtree(dist)


def test_packages_take_it(tree):
    """What is of every plugin, the lists of the packages take by patterns; test_packages sees to it that each is in one."""
    for path in (tree / "packaging").rglob("*"):
        if path.is_file():
            text = path.read_text()
            for name in ("udp-input", "udp_input.so", "udp_input.md", "websocket_output.so"):
                assert name not in text, path
