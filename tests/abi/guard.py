#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares the plugin ABI of the headers with that of a release: structs by abidiff (libabigail), constants by their values.

tests/abi/guard.py check [--include FOLDER] [RELEASE...]   what a plugin of the release would stumble over; nothing: exit status 0
tests/abi/guard.py dump [--include FOLDER] FOLDER          write FOLDER/plugin.abi and FOLDER/constants

A struct that begins with struct_size, and a row of a table whose size a plugin tells, may get members at its end.  Everything else
that changes a size, an offset, a type, a name or an order is a breach, and so is a constant that has another value or is gone.  What was
reserved may get a name.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
CC = shlex.split(os.environ.get("CC") or "cc")

# they begin without struct_size, but come in tables, whose rows are option_size and metric_size bytes apart
ROWS = ["ss_option", "ss_metric"]


def headers(include):
    """The headers that plugin_abi.c includes: those of the ABI."""
    names = re.findall(r"#include <(semstreams/\S+)>", (HERE / "plugin_abi.c").read_text())
    return [include / name for name in names]


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def structs(include):
    """{name: does it begin with struct_size?} of those that are defined."""
    text = " ".join(without_comments(h.read_text()) for h in headers(include))
    return {name: first == "struct_size" for name, first in re.findall(r"struct (ss_\w+) \{\s*[^;]*?\b(\w+)\s*[,;\[)]", text)}


def constants(include):
    """{name: value as text} of enums, and of macros that are texts or numbers."""
    found = []
    for header in headers(include):
        text = without_comments(header.read_text())
        for values in re.findall(r"\benum\b[^{;]*\{(.*?)\}", text, re.S):
            found += [(v.strip().split("=")[0].strip(), "%lld") for v in values.split(",") if v.strip()]
        found += [(name, "%s" if value[0] == '"' else "%lld")
                  for name, value in re.findall(r'^#define (SS_\w+)[ \t]+("[^"\n]*"|\w+)[ \t]*$', text, re.M) if not value.startswith("__")]
    lines = [f'printf("{n} {f}\\n", {"" if f == "%s" else "(long long)"}{n});' for n, f in found]
    source = "#include <stdio.h>\n" + "".join(f"#include <{h.relative_to(include)}>\n" for h in headers(include))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "constants"
        subprocess.run([*CC, "-std=gnu11", "-I", include, "-x", "c", "-", "-o", program], check=True, text=True,
                       input=source + "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in said.splitlines())


def shared_object(include, target):
    subprocess.run([*CC, "-std=gnu11", "-g", "-O0", "-fvisibility=hidden", "-shared", "-fPIC", f"-ffile-prefix-map={TREE}=.",
                    "-I", include, HERE / "plugin_abi.c", "-o", target], check=True)


def write_abi(include, target):
    with tempfile.TemporaryDirectory() as work:
        shared_object(include, Path(work) / "plugin_abi.so")
        subprocess.run(["abidw", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--out-file", target,
                        Path(work) / "plugin_abi.so"], check=True)


def dump(include, folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_abi(include, folder / "plugin.abi")
    text = (folder / "plugin.abi").read_text()
    lacking = [name for name in structs(include) if f"class-decl name='{name}'" not in text]
    if lacking:
        raise SystemExit(f"tests/abi/plugin_abi.c does not name {', '.join(lacking)}")
    (folder / "constants").write_text("".join(f"{n} {v}\n" for n, v in sorted(constants(include).items())))


def shrink(new, old, growing):
    """Take from the structs of a dump what they have at their ends and an older one has not, where they may grow."""
    tree = ElementTree.parse(new)
    known = {c.get("name"): c for c in ElementTree.parse(old).iter("class-decl")}
    for struct in tree.iter("class-decl"):
        before = known.get(struct.get("name"))
        if before is None or struct.get("name") not in growing:
            continue
        size = int(before.get("size-in-bits", "0"))
        for member in [m for m in struct.iter("data-member") if int(m.get("layout-offset-in-bits")) >= size > 0]:
            struct.remove(member)
            struct.set("size-in-bits", str(size))
    tree.write(new)


def members(abi):
    """{struct: {member: offset in bits}} of a dump."""
    return {struct.get("name"): {m.find("var-decl").get("name"): int(m.get("layout-offset-in-bits")) for m in struct.iter("data-member")}
            for struct in ElementTree.parse(abi).iter("class-decl")}


def moved(old, new):
    """What abidiff takes for a mere change of names."""
    now = members(new)
    for struct, before in members(old).items():
        for name, offset in before.items():
            if name != "reserved" and now.get(struct, {}).get(name) != offset:
                yield f"{struct}.{name} is not where it was"


def check(include, release):
    """Lines about what is not as it was."""
    growing = ROWS + [name for name, grows in structs(include).items() if grows]
    with tempfile.TemporaryDirectory() as work:
        new = Path(work) / "plugin.abi"
        write_abi(include, new)
        shrink(new, release / "plugin.abi", growing)
        done = subprocess.run(["abidiff", "--no-show-locs", "--no-architecture", release / "plugin.abi", new], capture_output=True, text=True)
        if done.returncode & 3:
            raise SystemExit(f"abidiff: {done.stderr or done.stdout}")
        if done.returncode:
            yield from done.stdout.splitlines() or ["abidiff says that something has changed"]
        yield from moved(release / "plugin.abi", new)
    now = constants(include)
    for line in (release / "constants").read_text().splitlines():
        name, value = line.split(" ", 1)
        if now.get(name) != value:
            yield f"{name} was {value} and is {now.get(name, 'gone')}"


def releases():
    return sorted(f for f in HERE.iterdir() if (f / "plugin.abi").exists())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["check", "dump"])
    parser.add_argument("--include", type=Path, default=TREE / "sdk" / "include")
    parser.add_argument("folder", nargs="*", type=Path)
    args = parser.parse_intermixed_args()
    if args.verb == "dump":
        for folder in args.folder:
            dump(args.include, folder)
        return 0
    bad = 0
    for release in args.folder or releases():
        for line in check(args.include, release):
            bad += 1
            print(f"{release.name}: {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
