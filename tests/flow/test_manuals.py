# SPDX-License-Identifier: MIT
"""The manual pages and completions in the tree: what the program says of itself, and without a fault in their form."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def pages(semstreams):
    """The installed manual pages by file name."""
    folder = Path(semstreams).resolve().parents[1] / "share" / "man"
    found = {p.name: p for p in folder.glob("man?/semstreams*")}
    if not found:
        pytest.skip(f"no manual pages in {folder}")
    return found


def shown(page):
    """As a reader sees it, blanks joined."""
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is missing; on Debian: apt-get install mandoc")
    text = subprocess.run(["mandoc", "-Tutf8", "-Owidth=1000", page], check=True, capture_output=True, text=True).stdout
    return " ".join(re.sub(".\b", "", text).split())


def generate(tree, program, *more):
    return subprocess.run(["/usr/bin/python3", "-B", tree / "docs" / "generate.py", program, *more], capture_output=True,
                          text=True, timeout=120)


def all_plugins(tree, command):
    types = {p["type"] for p in json.loads(command("plugins", "list", "--json").stdout)}
    if not {p.parent.name for p in tree.glob("plugins/*/*.md") if p.stem == p.parent.name} <= types:
        pytest.skip("not all plugins are built")


def test_tree_has_what_the_program_says(tree, semstreams, command):
    all_plugins(tree, command)
    done = generate(tree, semstreams, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_stale_pages_are_found_and_made_anew(tree, semstreams, command, tmp_path):
    all_plugins(tree, command)
    copy = tmp_path / "tree"
    for name in "docs", "packaging", "plugins", "examples":
        shutil.copytree(tree / name, copy / name, ignore=shutil.ignore_patterns("*.c", "*.h", "tests"))
    stale = [copy / "docs" / "man" / "semstreams.1", copy / "plugins" / "filter" / "semstreams-filter.5",
             copy / "packaging" / "completion" / "_semstreams"]
    before = [f.read_text() for f in stale]
    stale[0].write_text(before[0].replace(".B graph\n", ".B grave\n"))
    stale[1].unlink()
    stale[2].write_text(before[2] + "# more\n")
    done = generate(copy, semstreams, "--check")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(f.relative_to(copy)) for f in stale]
    assert generate(copy, semstreams).returncode == 0
    assert [f.read_text() for f in stale] == before


def test_form(pages):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is missing; on Debian: apt-get install mandoc")
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", *pages.values()], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_fault_is_found(pages, tmp_path):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is missing; on Debian: apt-get install mandoc")
    bad = tmp_path / "bad.1"
    bad.write_text(pages["semstreams.1"].read_text() + ".NOSUCH\n")
    assert subprocess.run(["mandoc", "-Tlint", "-W", "warning", bad], capture_output=True).returncode != 0


def test_pages_refer_to_pages(pages):
    assert {"semstreams.1", "semstreams-pki.1", "semstreams.json.5"} <= set(pages)
    for name, page in pages.items():
        for other, section in re.findall(r"^\.BR ([\w.\\-]+) \((\d)\)", page.read_text(), re.M):
            assert f"{other}.{section}".replace("\\-", "-") in pages, (name, other)


def test_each_option_of_each_plugin_is_in_its_page(pages, command):
    for plugin in json.loads(command("plugins", "list", "--json").stdout):
        described = json.loads(command("plugins", "describe", plugin["type"], "--json").stdout)
        text = shown(pages[f"semstreams-{plugin['type']}.5"])
        assert described["options"]
        for option in described["options"]:
            says = " ".join(option["help"].rstrip(".").split())
            assert f" {option['key']} {says}." in text, option["key"]
        for metric in described["metrics"]:
            assert metric["name"] in text, metric
        for reason in described["drop_reasons"]:
            assert reason in text, reason


def paths(schema, of, where=""):
    for name, value in schema.get("properties", {}).items():
        path = f"{where}.{name}" if where else name
        yield path
        if "settings_of" not in value.get("$ref", ""):
            target = of[value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else value
            yield from paths(target, of, path)
            item = target.get("items", {})
            yield from paths(of[item["$ref"].rsplit("/", 1)[1]] if "$ref" in item else item, of, path + "[]")


def test_each_key_of_the_configuration_is_in_its_page(pages, command):
    schema = json.loads(command("schema").stdout)
    text = shown(pages["semstreams.json.5"])
    known = list(paths(schema, schema["$defs"]))
    assert {"components[].queue.overflow", "security.tls.server.mtls.client_ca_files", "log.level"} <= set(known)
    for path in known:
        assert f" {path} " in text, path
    assert '"id": "hot"' in text
