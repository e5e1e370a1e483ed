# SPDX-License-Identifier: MIT
"""`semstreams plugins check`: plugins that break one rule each are named by rule and callback, and for nothing else."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, TREE
from test_sdk import CC, pkg_config

SOURCES = Path(__file__).parent / "faulty_check"
PAGE = TREE / "docs" / "plugin-check.md"
IN_THREAD = "a thread of its own"

# of which source, compiled with which fault: rule, callback
FAULTS = {
    ("tables", "DESCRIPTOR_ABI"): ("descriptor-abi", ""),
    ("tables", "DESCRIPTOR_NAME"): ("descriptor-name", ""),
    ("tables", "DESCRIPTOR_CALLBACK"): ("descriptor-callback", "process"),
    ("tables", "OUTPUT_NAME"): ("descriptor-name", ""),
    ("tables", "OPTION_NAME"): ("option-name", ""),
    ("tables", "OPTION_TWICE"): ("option-name", ""),
    ("tables", "OPTION_HELP"): ("option-help", ""),
    ("tables", "OPTION_DEFAULT"): ("option-default", ""),
    ("tables", "OPTION_DEFAULT_RANGE"): ("option-default", ""),
    ("tables", "OPTION_RANGE"): ("option-range", ""),
    ("tables", "OPTION_OVERLAP"): ("option-overlap", ""),
    ("tables", "OPTION_OUTSIDE"): ("option-overlap", ""),
    ("tables", "METRIC_NAME"): ("metric-name", ""),
    ("tables", "METRIC_CHARACTERS"): ("metric-name", ""),
    ("tables", "METRIC_TWICE"): ("metric-name", ""),
    ("tables", "EXPORTED_SYMBOL"): ("exported-symbol", ""),
    ("tables", "UNDEFINED_SYMBOL"): ("undefined-symbol", ""),
    ("source", "CRASH"): ("crash", "acked"),
    ("source", "HANG"): ("hang", "pause"),
    ("source", "EXIT"): ("exit", "resume"),
    ("source", "CREATE_FAILED"): ("create-failed", "create"),
    ("source", "START_FAILED"): ("start-failed", "start"),
    ("source", "RESTART_FAILED"): ("restart-failed", "start"),
    ("source", "TRACK_MISUSED"): ("track-misused", "timer"),
    ("source", "BATCH_RELEASED_TWICE"): ("batch-released-twice", "timer"),
    ("source", "BATCH_WRITTEN"): ("batch-written", "timer"),
    ("source", "EMIT_AFTER_STOP"): ("emit-after-stop", "stop"),
    ("source", "EMIT_WRONG_THREAD"): ("emit-wrong-thread", IN_THREAD),
    ("source", "EMIT_OVER_CAPACITY"): ("emit-over-capacity", "timer"),
    ("source", "EMIT_FOREIGN_MEMORY"): ("emit-foreign-memory", "timer"),
    ("source", "EMIT_NULL"): ("emit-null", "timer"),
    ("source", "EMIT_UNKNOWN_PORT"): ("emit-unknown-port", "timer"),
    ("source", "CYCLE_MEMORY"): ("cycle-memory", "stop"),
    ("source", "CYCLE_DESCRIPTORS"): ("cycle-descriptors", "stop"),
    ("source", "CYCLE_THREADS"): ("cycle-threads", "stop"),
    ("source", "STDOUT"): ("stdout", "start"),
    ("source", "SIGNAL_HANDLER"): ("signal-handler", "start"),
    ("source", "UMASK"): ("locale-or-umask", "start"),
    ("source", "WORKING_FOLDER"): ("locale-or-umask", "start"),
    ("source", "RETURN_UNKNOWN"): ("return-unknown", "start"),
    ("sink", "DONE_TWICE"): ("done-twice", "timer"),
    ("sink", "DONE_UNASKED"): ("done-unasked", "process"),
    ("sink", "DONE_LATE"): ("done-twice", "process"),
    ("sink", "DROP_UNKNOWN"): ("drop-unknown", "process"),
    ("sink", "DROP_TOO_MANY"): ("drop-unknown", "process"),
    ("sink", "RETURN_UNKNOWN"): ("return-unknown", "process"),
    ("sink", "DRAIN_UNKNOWN"): ("return-unknown", "drain"),
    ("sink", "DRAIN_HANG"): ("drain-hang", "drain"),
    ("sink", "BATCH_KEPT"): ("batch-kept", "process"),
    ("sink", "BATCH_WRITTEN"): ("batch-written", "process"),
    ("sink", "BATCH_LEAK"): ("batch-leak", "process"),
    ("sink", "TOKEN_LEAK"): ("token-leak", "process"),
    ("sink", "BUSY_LOST"): ("busy-lost", "process"),
    ("sink", "BUSY_WITHOUT_INPUT_READY"): ("busy-without-input-ready", "process"),
    ("sink", "CRASH"): ("crash", "process"),
    ("sink", "ALLOCATION_CRASH"): ("allocation-crash", "create"),
    ("sink", "ALLOCATION_LEAK"): ("allocation-leak", "create"),
    ("sink", "VALGRIND_ERROR"): ("valgrind-error", "process"),
    ("sink", "VALGRIND_LEAK"): ("valgrind-leak", "destroy"),
    ("processor", "BATCH_LEAK"): ("batch-leak", "process"),
    ("processor", "BATCH_WRITTEN"): ("batch-written", "process"),
    ("processor", "BATCH_KEPT"): ("batch-kept", "process"),
    ("processor", "BUSY_LOST"): ("busy-lost", "process"),
    ("processor", "EMIT_AFTER_DRAIN"): ("emit-after-stop", "stop"),
    ("processor", "GLOBAL_STATE"): ("global-state", "process"),
    ("processor", "GLOBAL_MEMORY"): ("global-state", "process"),
    ("processor", "ALLOCATION_CRASH"): ("allocation-crash", "process"),
    ("processor", "RETURN_UNKNOWN"): ("return-unknown", "process"),
    ("processor", "STDOUT"): ("stdout", "process"),
}
NOT_WITH_SANITIZER = {"cycle-memory", "allocation-crash", "allocation-leak", "valgrind-error", "valgrind-leak"}

TEXT = {"type": "string"}
SCHEMA = {
    "type": "object", "additionalProperties": False,
    "required": ["file", "types", "breaches", "not_tried", "ok"],
    "properties": {
        "file": {"type": "string", "pattern": "^/"},
        "types": {"type": "array", "items": {
            "type": "object", "required": ["type", "kind"],
            "properties": {"type": TEXT, "kind": {"enum": ["source", "processor", "sink", "provider"]}}}},
        "breaches": {"type": "array", "items": {
            "type": "object", "additionalProperties": False, "required": ["rule", "type", "callback", "what", "remedy"],
            "properties": {"rule": {"type": "string", "pattern": "^[a-z-]+$"}, "type": TEXT, "callback": TEXT,
                           "what": {"type": "string", "minLength": 10}, "remedy": {"type": "string", "pattern": r"\.$"}}}},
        "not_tried": {"type": "array", "items": TEXT},
        "ok": {"type": "boolean"},
    },
}


@pytest.fixture
def build(tmp_path):
    """build(source, fault) -> the plugin, compiled as strangers do, without a warning."""

    def run(source, fault="NONE"):
        target = tmp_path / f"{source}.so"
        define = {"EXPORTED_SYMBOL": "-DEXPORTS", "UNDEFINED_SYMBOL": "-DNEEDS"}.get(fault, f"-DFAULT={fault}")
        subprocess.run([*CC, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", *pkg_config("--cflags"),
                        define, "-o", target, SOURCES / f"{source}.c"], check=True)
        return target

    return run


@pytest.fixture
def check(semstreams, tmp_path):
    """check(argument, ...) -> what has run."""

    def run(*args):
        return subprocess.run([semstreams, "plugins", "check", *map(str, args)], capture_output=True, text=True, cwd=tmp_path,
                              stdin=subprocess.DEVNULL, timeout=5 * PATIENCE)

    return run


def arguments(rule):
    """Of a check that can show a breach of the rule; without valgrind unless it has to be."""
    if not rule.startswith("valgrind"):
        return ["--deadline", "3s"] if rule == "hang" else []
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    return ["--valgrind"]


@pytest.mark.parametrize("source, fault", FAULTS)
def test_one_breach_is_named(build, check, source, fault):
    jsonschema = pytest.importorskip("jsonschema")
    rule, callback = FAULTS[source, fault]
    done = check(build(source, fault), "--json", *arguments(rule))
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    if rule in NOT_WITH_SANITIZER and "sanitizer" in " ".join(found["not_tried"]):
        pytest.skip("the program is built with a sanitizer")
    assert [(b["rule"], b["callback"]) for b in found["breaches"]] == [(rule, callback)], found
    assert done.returncode == 1 and found["ok"] is False


@pytest.mark.parametrize("source", ["source", "processor", "sink", "tables"])
def test_sound(build, check, source):
    """Also under valgrind, where it is installed."""
    plugin = build(source)
    done = check(plugin, *(["--valgrind"] if shutil.which("valgrind") else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{plugin}: ok, 0 breaches"
    assert not re.search("^breach", done.stdout, re.M)


def test_text(build, check):
    """Rule, callback, what happened, and the remedy below; then the sum."""
    plugin = build("sink", "DONE_TWICE")
    done = check(plugin)
    assert done.returncode == 1
    lines = ["breach done-twice in timer(): faulty_sink: done() was called for a batch that was finished already",
             "    Call done() exactly once for each batch that is kept."]
    assert done.stdout.splitlines()[:2] == lines
    assert "```\n{}\n{}\n```".format(*lines) in PAGE.read_text()
    assert done.stdout.splitlines()[-1] == f"{plugin}: not ok, 1 breach"


def test_only_some_rules(build, check):
    plugin = build("sink", "DONE_TWICE")
    assert check(plugin, "--rule", "done-twice").returncode == 1
    assert check(plugin, "--rule", "batch-leak").returncode == 0
    assert check(plugin, "--except", "done-twice").returncode == 0


@pytest.mark.parametrize("arguments, said", [
    ([], "needs one FILE.so"),
    (["x.so", "y.so"], "needs one FILE.so"),
    (["none.so"], "cannot open none.so: No such file or directory"),
    (["--rule", "no-rule", "x.so"], "unknown rule 'no-rule'"),
    (["--deadline", "soon", "x.so"], "--deadline soon is no duration"),
    (["--no-such", "x.so"], "--no-such"),
])
def test_wrong_usage(check, arguments, said):
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


def test_no_object(check, tmp_path):
    (tmp_path / "text.so").write_text("no object\n" * 100)
    done = check("text.so")
    assert (done.returncode, done.stdout) == (2, "") and "text.so" in done.stderr


def test_options_of_the_instance(build, check, tmp_path):
    """One it does not have, and one that is out of its range, are the caller's; one that is right goes to the plugin."""
    plugin = build("tables")
    assert check(plugin, "--option", "limit=7").returncode == 0
    (tmp_path / "conf.json").write_text('{"limit": 9}')
    assert check(plugin, "--config", tmp_path / "conf.json").returncode == 0
    for option in "none=1", "limit", "limit=101":
        assert check(plugin, "--option", option).returncode == 2, option
    (tmp_path / "conf.json").write_text('{"limit": 0}')
    assert check(plugin, "--config", tmp_path / "conf.json").returncode == 2


def test_rules(check):
    """--rules in each form, the page, and the plugins above say the same."""
    as_json = {r["rule"]: r for r in json.loads(check("--rules", "--json").stdout)}
    as_text = dict(line.split(None, 1) for line in check("--rules").stdout.splitlines())
    page = PAGE.read_text()
    table = re.search(r"<!-- rules -->\n(.*?)<!-- end -->", page, re.S)[1]
    rows = {name: (says, remedy) for name, says, remedy in re.findall(r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$", table, re.M)}
    assert rows == {name: (r["says"], r["remedy"]) for name, r in as_json.items()}
    assert as_text == {name: r["says"] for name, r in as_json.items()}
    assert check("--rules", "--markdown").stdout == table
    assert {rule for rule, _ in FAULTS.values()} == set(as_json)
    causes = re.search(r"^## What is behind a breach\n(.*?)^## ", page, re.S | re.M)[1]
    assert sorted(re.findall(r"`([a-z-]+)`(?=[^|]*\|[^|]*\|$)", causes, re.M)) == sorted(as_json)
