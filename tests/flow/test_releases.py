# SPDX-License-Identifier: MIT
"""Releases and this version together: what a release has left on disk is read, its plugins run in this host, this version's in
its host, and the two ends of a link may be of either.  tests/abi/release stores a release; its binaries are tested where they run.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import whole_lines
from releaselib import STORED, begin, finish, releases, unpack
from test_sdk import build


@pytest.fixture(params=releases(), ids=lambda folder: folder.name)
def release(request):
    return request.param


@pytest.fixture
def files(release, tmp_path):
    """What the release's host has left."""
    return unpack(release / "files.txz", tmp_path / "files")


class Host:
    """A program, and the folders of plugins that it is given."""

    def __init__(self, binary, *plugins):
        self.binary, self.plugins = binary, list(plugins)


@pytest.fixture(scope="session")
def new_plugins(tmp_path_factory):
    """The source of the tests, built with the headers of now."""
    folder = tmp_path_factory.mktemp("plugins")
    build(Path(__file__).parent / "plugins" / "linelog.c", folder / "linelog.so")
    return folder


@pytest.fixture
def new(semstreams, new_plugins):
    """The host under test with its own plugins."""
    return Host(semstreams, new_plugins)


@pytest.fixture
def old(release, tmp_path):
    """The release's host with its own plugins, where they run."""
    archive = release / f"{platform.machine()}.txz"
    if not archive.exists():
        pytest.skip(f"no binaries of {release.name} for {platform.machine()}")
    folder = unpack(archive, tmp_path / "machine")
    for file in [folder / "semstreams", *(folder / "plugins").iterdir()]:
        lacking = re.findall(r"^\s*(\S+) => not found", subprocess.run(["ldd", file], capture_output=True, text=True).stdout, re.M)
        if lacking:
            pytest.skip(f"{file.name} of {release.name} needs {', '.join(lacking)}")
    (folder / "plugins").chmod(0o755)
    return Host(folder / "semstreams", folder / "plugins")


@pytest.fixture
def installed_plugins(semstreams, command):
    """The folder of the host under test, for a host that was not built with a sanitizer."""
    listed = json.loads(command("plugins", "list", "--json").stdout)
    folder = {Path(p["file"]).parent for p in listed}
    assert len(folder) == 1
    if b"__asan_init" in Path(listed[0]["file"]).read_bytes() or b"__tsan_init" in Path(listed[0]["file"]).read_bytes():
        pytest.skip("a plugin with a sanitizer runs in a host with it only")
    return folder.pop()


def test_the_version_before_is_stored(tree):
    """The last one that NEWS names, whole."""
    version = re.search(r"^semstreams (\d+\.\d+\.\d+)$", (tree / "NEWS").read_text(), re.M)[1]
    assert STORED / version in releases(), f"{version} is not stored; run: tests/abi/release"


def test_its_configurations_are_taken(command, files):
    configs = sorted((files / "configs").iterdir())
    assert len(configs) > 12
    for file in configs:
        done = command("check", file)
        assert done.returncode == 0, (file.name, done.stderr)


def wider(fact, before, now):
    """Is all that was allowed allowed still, and the rest as it was?"""
    if fact == "choices":
        return set(before) <= set(now or ())
    if fact in ("min", "max"):
        return now is None or (now <= before if fact == "min" else now >= before)
    return before == now


def lost(before, now):
    """What of a plugin's tables somebody may rely on, and is gone or another."""
    for table, key, facts in (("options", "key", ("type", "default", "choices", "min", "max")),
                              ("metrics", "name", ("kind",))):
        there = {(row[key], row.get("label")): row for row in now[table]}
        for row in before[table]:
            other = there.get((row[key], row.get("label")))
            if not other:
                yield f"{table}: {row[key]}"
                continue
            for fact in facts:
                if fact in row and not wider(fact, row[fact], other.get(fact)):
                    yield f"{table}: {fact} of {row[key]}"
        if table == "options":
            old = {row["key"] for row in before[table]}
            yield from (f"options: {row['key']} is required" for row in now[table] if row["required"] and row["key"] not in old)
    for table in "outputs", "drop_reasons":
        yield from (f"{table}: {name}" for name in before[table] if name not in now[table])


def test_its_options_metrics_and_outputs_are_there(command, files):
    """As docs/upgrading.md promises: nothing goes before it was deprecated for a version; then it is left out of the stored files."""
    listed = {p["type"] for p in json.loads(command("plugins", "list", "--json").stdout)}
    described = sorted((files / "described").iterdir())
    assert described
    for file in described:
        if file.stem in listed:
            now = json.loads(command("plugins", "describe", file.stem, "--json").stdout)
            assert list(lost(json.loads(file.read_text()), now)) == [], file.stem


@pytest.mark.parametrize("change, says", [
    (lambda d: d["options"].pop(0), "options: path"),
    (lambda d: d["options"][1].update(default="envelope"), "options: default of format"),
    (lambda d: d["options"][1]["choices"].pop(), "options: choices of format"),
    (lambda d: d["options"][0].update(type="integer"), "options: type of path"),
    (lambda d: d["options"].append({"key": "new", "required": True}), "options: new is required"),
    (lambda d: d["metrics"].pop(0), "metrics: semstreams_storage_written_bytes_total"),
    (lambda d: d["drop_reasons"].pop(0), "drop_reasons: empty"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_a_plugin_has_lost_is_found(files, change, says):
    before, now = (json.loads((files / "described" / "storage.json").read_text()) for _ in range(2))
    assert list(lost(before, now)) == []
    change(now)
    assert says in list(lost(before, now))


def goes_on(host, work):
    """Commit records, positions, a checkpoint and a spool: all goes on where it was, and nothing comes twice."""
    begun = len(whole_lines(work / "data" / "out.jsonl"))
    log = finish(host.binary, host.plugins, work, host.binary, host.plugins)
    assert "Checkpoint restored path=sums.state" in log
    # the first lines come to the hub out of the spool
    assert f"Sending lines from={begun + 1} " in log, log


def test_its_files_are_read(new, files):
    goes_on(new, files / "work")


@pytest.mark.parametrize("file", ["data/.file.commit", "sums.state", "spool/0000000000000001.seg"])
def test_a_file_that_is_not_read_is_noticed(new, files, file):
    """Each of these is needed: as if this version took one for none."""
    (files / "work" / file).unlink()
    with pytest.raises(AssertionError):
        goes_on(new, files / "work")


def test_its_plugins_run_in_this_host(new, old, files, command, tmp_path):
    listed = json.loads(command("plugins", "list", "--json", "--plugins", old.plugins[0]).stdout)
    theirs = {Path(p["file"]).name for p in listed if Path(p["file"]).parent == old.plugins[0]}
    assert theirs == {p.name for p in old.plugins[0].iterdir()}
    finish(new.binary, old.plugins, files / "work", new.binary, old.plugins)
    begin(new.binary, old.plugins, tmp_path / "anew")
    finish(new.binary, old.plugins, tmp_path / "anew", new.binary, old.plugins)


def test_this_versions_plugins_run_in_its_host(new, old, installed_plugins, tmp_path):
    plugins = [*new.plugins, installed_plugins]
    begin(old.binary, plugins, tmp_path / "anew")
    finish(old.binary, plugins, tmp_path / "anew", old.binary, plugins)


def test_its_edge_and_this_versions_hub(new, old, files):
    finish(old.binary, old.plugins, files / "work", new.binary, new.plugins)


def test_this_versions_edge_and_its_hub(new, old, files):
    finish(new.binary, new.plugins, files / "work", old.binary, old.plugins)


def test_its_processor_and_source_run_in_this_host(old, start, tmp_path, lines):
    """Attributes, positions and batches with a parent: what linelog does not use."""
    program = start({"plugins": {"paths": [str(p) for p in old.plugins]}, "components": [
        {"id": "in", "type": "replay", "config": {"acked": "acked", "origins": 3}},
        {"id": "third", "type": "sample", "config": {"every": 3}},
        {"id": "out", "type": "storage", "config": {"path": "out.jsonl", "format": "envelope"}}]})
    program.wait_for(lambda: len(lines(tmp_path / "out.jsonl")) >= 300, what="events")
    assert program.terminate() == 0, program.log()
    events = [json.loads(line) for line in lines(tmp_path / "out.jsonl")]
    assert len({json.dumps(e.get("origin") or e.get("@origin") or e) for e in events}) >= 3


def test_a_release_is_not_stored_over_by_mistake(tree, release, tmp_path):
    if (tree / "VERSION").read_text().strip() != release.name:
        pytest.skip("it is not of this version")
    copy = tmp_path / "tree"
    for name in "tests/abi", "VERSION":
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (tree / name).is_dir() else shutil.copy)(tree / name, target)
    done = subprocess.run([copy / "tests" / "abi" / "release"], capture_output=True, text=True, env={**os.environ}, timeout=60)
    assert done.returncode == 1 and "--again replaces it" in done.stderr
