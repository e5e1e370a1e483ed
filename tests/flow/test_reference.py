# SPDX-License-Identifier: MIT
"""The reference of the SDK: what docs/sdk.py demands of a header, what it makes of it, and that an author finds it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HEADER = """\
/* SPDX-License-Identifier: MIT */
/* semstreams/good.h - a header in which nothing is missing.  Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_GOOD_H
#define SEMSTREAMS_GOOD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How many there are at most. */
#define SS_GOOD_MAX 16

/* Flags, combined by |. */
enum {
	SS_GOOD_FAST = 1, /* at once */
	SS_GOOD_SAFE = 2  /* durably */
};

struct ss_thing; /* opaque: a thing */

/* What a thing is made of. */
struct ss_good {
	uint32_t struct_size;
	uint32_t flags;    /* SS_GOOD_... */
	const char *name;  /* borrowed as long as the thing lives */
	uint64_t timeout;  /* ns until it gives up */
	/* [inst] Have fn(arg) called, [inst], when it is ready.  0; -ENOMEM. */
	int32_t (*when)(void *self, void (*fn)(void *arg), void *arg);
};

/* [ctl] Make a thing, which the caller owns: ss_good_free().  0; -ENOMEM. */
int32_t ss_good_new(const struct ss_good *, struct ss_thing **out);
/* [ctl] Free it.  NULL is allowed. */
void ss_good_free(struct ss_thing *);
/* [any] Its name, valid as long as the thing. */
static inline const char *ss_good_name(const struct ss_thing *thing)
{
	return thing ? "good;" /* } */ : "bad {";
}

#ifdef __cplusplus
}
#endif
#endif
"""

FAULTS = [
    ("/* How many there are at most. */\n", "", "SS_GOOD_MAX has no comment"),
    ("/* Flags, combined by |. */\n", "", "enum of SS_GOOD_FAST has no comment"),
    (" /* at once */", "", "SS_GOOD_FAST has no comment"),
    (" /* opaque: a thing */", "", "ss_thing has no comment"),
    ("/* What a thing is made of. */\n", "", "ss_good has no comment"),
    ("    /* SS_GOOD_... */", "", "ss_good.flags has no comment"),
    ("borrowed as long as the thing lives", "what it is called", "ss_good.name does not say whose it is, or how long it is valid"),
    ("ns until it gives up", "when it gives up", "ss_good.timeout does not say its unit"),
    ("	/* [inst] Have fn(arg) called, [inst], when it is ready.  0; -ENOMEM. */\n", "", "ss_good.when has no comment"),
    ("[inst] Have fn(arg) called, [inst], when", "[inst] Take fn(arg) for when", "ss_good.when does not say where fn is called"),
    ("/* [inst] Have fn", "/* Have fn", "ss_good.when has no domain: begin its comment with [ctl], [inst] or [any]"),
    ("when it is ready.  0; -ENOMEM.", "when it is ready.",
     "ss_good.when does not say which values it returns, and on which errors"),
    ("/* [ctl] Make a thing", "/* Make a thing", "ss_good_new has no domain: begin its comment with [ctl], [inst] or [any]"),
    ("Make a thing, which the caller owns: ss_good_free().", "Make a thing.",
     "ss_good_new does not say whose *out is, or how long it is valid"),
    ("ss_good_free().  0; -ENOMEM.", "ss_good_free().", "ss_good_new does not say which values it returns, and on which errors"),
    ("/* [ctl] Free it.  NULL is allowed. */\n", "", "ss_good_free has no comment"),
    ("Free it.  NULL is allowed.", "", "ss_good_free does not say what it does"),
    ("Its name, valid as long as the thing.", "Its name.", "ss_good_name does not say whose its result is, or how long it is valid"),
    ("  Tags and rules are those of semstreams/plugin.h.", "",
     "good.h states no rules: end its head with 'Tags and rules are those of semstreams/plugin.h.'"),
]

NOT_UNDERSTOOD = [
    ("struct ss_thing; /*", "typedef struct ss_thing ss_thing; /*"),
    ("#define SS_GOOD_MAX 16", "#undef SS_GOOD_MAX"),
    ("int32_t ss_good_new(const struct ss_good *,", "int32_t ss_good_new(const struct ss_good *[restrict],"),
    ("	uint64_t timeout; ", "	uint64_t timeout : 3; "),
    ("	SS_GOOD_FAST = 1, ", "	SS_GOOD_FAST 1, "),
    ("/* semstreams/good.h - a header", "/* good.h - a header"),
    ("/* [ctl] Free it.  NULL is allowed. */\nvoid ss_good_free(struct ss_thing *);",
     "/* [ctl] Free it. */\nvoid ss_good_free(struct ss_thing *); /* NULL is allowed. */"),
    ("#endif\n#endif\n", "#endif\nint32_t lost(void)\n#endif\n"),
]


def judge(tree, folder, text):
    file = folder / "good.h"
    file.write_text(text)
    done = subprocess.run(["/usr/bin/python3", "-B", tree / "docs" / "sdk.py", "--check", file], capture_output=True, text=True,
                          timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return file, done


def test_a_whole_header_is_taken(tree, tmp_path):
    _, done = judge(tree, tmp_path, HEADER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("old, new, says", FAULTS, ids=[says.split(":")[0] for _, _, says in FAULTS])
def test_what_a_comment_lacks_is_named(tree, tmp_path, old, new, says):
    assert HEADER.count(old) == 1
    file, done = judge(tree, tmp_path, HEADER.replace(old, new))
    assert done.returncode == 1
    found = [line.removeprefix(f"{file}:").split(": ", 1) for line in done.stdout.splitlines()]
    assert says in [text for _, text in found], done.stdout
    assert all(number.isdigit() for number, _ in found)


@pytest.mark.parametrize("old, new", NOT_UNDERSTOOD, ids=[new[:24].strip() for _, new in NOT_UNDERSTOOD])
def test_what_it_does_not_understand_it_refuses(tree, tmp_path, old, new):
    assert HEADER.count(old) == 1
    file, done = judge(tree, tmp_path, HEADER.replace(old, new))
    assert done.returncode == 1 and done.stdout == ""
    assert re.match(rf"{re.escape(str(file))}:\d+: .*", done.stderr)


def copy_of(tree, folder):
    for name in "docs", "packaging/debian", "sdk/include":
        shutil.copytree(tree / name, folder / name)
    shutil.copy(tree / "sdk" / "Makefile.inc", folder / "sdk")
    return folder


def run(tree, *args):
    return subprocess.run(["/usr/bin/python3", "-B", tree / "docs" / "sdk.py", *args], capture_output=True, text=True, timeout=60)


def test_the_reference_is_that_of_the_headers(tree):
    done = run(tree, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_stale_or_left_over_is_found_and_mended(tree, tmp_path):
    copy = copy_of(tree, tmp_path / "tree")
    page, manual = copy / "docs" / "sdk" / "base-ring.md", copy / "docs" / "man" / "man3" / "semstreams_ring.3"
    before = page.read_text(), manual.read_text()
    page.write_text(before[0] + "more\n")
    manual.unlink()
    extra = copy / "docs" / "man" / "man3" / "semstreams_gone.3"
    extra.write_text("")
    done = run(copy, "--check")
    assert done.returncode == 1
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == sorted(
        str(f.relative_to(copy)) for f in (page, manual, extra))
    assert run(copy).returncode == 0
    assert (page.read_text(), manual.read_text()) == before and not extra.exists()


def declared(header):
    """Functions and structs with members of a header, as another reader finds them: by the compiler."""
    done = subprocess.run(["cc", "-fsyntax-only", "-aux-info", "/dev/stdout", "-x", "c", header, "-I",
                           header.parents[[p.name for p in header.parents].index("semstreams") + 1]],
                          capture_output=True, text=True)
    return set(re.findall(rf"/\* {re.escape(str(header))}:.*?\b(ss_\w+) \(", done.stdout))


def test_each_function_is_in_its_page(tree):
    if not shutil.which("cc"):
        pytest.skip("no compiler")
    total = 0
    for header in sorted((tree / "sdk" / "include" / "semstreams").rglob("*.h")):
        page = tree / "docs" / "sdk" / (str(header.relative_to(tree / "sdk/include/semstreams")).replace("/", "-")[:-2] + ".md")
        if not page.exists():
            assert "Not\n * installed" in header.read_text() or "Not installed" in header.read_text(), header
            continue
        for name in declared(header):
            assert f"\n## {name}\n" in page.read_text(), (header, name)
            total += 1
    assert total > 100


def test_what_has_a_meaning_in_markdown_is_escaped(tree):
    pages = {p.name: p.read_text() for p in (tree / "docs" / "sdk").glob("*.md")}
    assert "names that end in \\_size: bytes" in pages["plugin.md"]
    assert "so `return ss_config_error(...)` ends `create()`." in pages["sugar.md"]
    assert "rows\\[0..n)" in pages["sugar.md"]
    assert "| `SS_ATTR_..._VERIFIED`, combined by \\| |" in pages["ext-attributes.md"]
    assert "\n**Component types**\n" in pages["plugin.md"]
    assert not re.search(r"^-{4} ", "\n".join(pages.values()), re.M)


def test_an_author_finds_a_function_in_the_manual(semstreams):
    if not shutil.which("man"):
        pytest.skip("man is missing")
    pages = Path(semstreams).resolve().parents[1] / "share" / "man"
    if not (pages / "man3").exists():
        pytest.skip(f"no manual pages in {pages}")
    text = subprocess.run(["mandoc", "-Tutf8", "-Owidth=200", pages / "man3" / "semstreams_ring.3"], capture_output=True,
                          text=True).stdout
    text = " ".join(re.sub(".\b", "", text).split())
    assert "semstreams_ring, ss_ring, ss_ring_push, ss_ring_count" in text
    assert "void *ss_ring_push(struct ss_ring *); [any] A zeroed value at the end" in text
