# SPDX-License-Identifier: MIT
"""`semstreams plugins check` finds nothing in the plugins of the tree that need no peer, and sees all of their options."""

import json
import subprocess

import pytest
from conftest import PATIENCE

WINDOW = ["--option", 'window={"type": "tumbling", "size": "1s"}', "--option", 'functions={"n": "count", "mean": "mean(value)"}']
# type, options
LIBRARY = ["--except", "allocation-crash", "--except", "allocation-leak"]  # libwebsockets loses memory when it is short
PLUGINS = [
    ("udp_input", []),
    ("udp_input", ["--option", "split=lines", "--option", "gro=false"]),
    ("udp_output", []),
    ("filter", []),
    ("filter", ["--option", 'where={"field": "value", "op": ">", "value": 30}', "--option", 'fields={"remove": ["ok"], "rename": {"id": "n"}}']),
    ("filter", ["--option", 'rate_limit={"key": "id", "events": 2, "per": "1s"}']),
    ("aggregate", WINDOW),
    ("aggregate", [*WINDOW, "--option", 'group_by=["id"]']),
    ("storage", []),
    ("websocket_input", ["--rule", "crash", "--rule", "hang", "--rule", "batch-leak", "--rule", "stdout"]),  # a life, not a thousand
    ("websocket_output", LIBRARY),
    ("storage", ["--option", "rotate_size=64KiB", "--option", "compress=gzip", "--option", "sync=interval"]),
]


@pytest.fixture
def check(semstreams, tmp_path):
    """check(argument, ...) -> what has run."""

    def run(*arguments):
        return subprocess.run([semstreams, "plugins", "check", *arguments], capture_output=True, text=True, cwd=tmp_path,
                              stdin=subprocess.DEVNULL, timeout=10 * PATIENCE)

    return run


@pytest.fixture
def plugin(semstreams):
    """plugin(type) -> its installed file."""
    types = json.loads(subprocess.run([semstreams, "plugins", "list", "--json"], check=True, capture_output=True, text=True).stdout)
    return lambda wanted: next(t["file"] for t in types if t["type"] == wanted)


@pytest.mark.parametrize("wanted, options", PLUGINS)
def test_plugins_of_the_tree_break_no_rule(check, plugin, wanted, options):
    done = check(plugin(wanted), "--json", *options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] and [t["type"] for t in found["types"]] == [wanted]
    if not found["not_tried"] and not {"--except", "--rule"} & set(options):  # of a program that is built with a sanitizer
        assert found["types"][0]["failed_allocations"] >= 3


def test_options_that_are_missing_are_named(check, plugin):
    done = check(plugin("aggregate"))
    assert done.returncode == 2 and done.stdout == ""
    assert "type 'aggregate' needs --option window=VALUE (" in done.stderr and "--option functions=VALUE (" in done.stderr


@pytest.mark.parametrize("options, said", [
    (["--option", "nothing=1"], "type 'filter' has no option of --option nothing=1"),
    (["--option", "nothing"], "type 'filter': --option nothing is not NAME=VALUE"),
    (["--option", "max_keys=0"], "/max_keys"),
    (["--config", "none.json"], "none.json"),
    (["--config", "list.json"], "list.json holds no JSON object"),
    (["--config", "bad.json"], "bad.json:2:"),
])
def test_options_that_are_wrong_are_told(check, plugin, tmp_path, options, said):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bad.json").write_text('{\n  "max_keys": }')
    done = check(plugin("filter"), *options)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_a_file_of_options(check, plugin, tmp_path):
    """--option goes before what the file says; an instance that refuses its options is a breach."""
    (tmp_path / "good.json").write_text('{"max_keys": 5, "where": {"field": "id", "op": "exists"}}')
    assert check(plugin("filter"), "--config", "good.json").returncode == 0
    done = check(plugin("filter"), "--config", "good.json", "--option", 'where={"field": "id"}')
    assert done.returncode == 1 and "breach create-failed in create(): filter: " in done.stdout
    assert '/where: "op" is missing' in done.stdout


def test_nothing_is_left_behind(check, plugin, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert check(plugin("storage"), "--rule", "crash").returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []
