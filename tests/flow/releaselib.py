# SPDX-License-Identifier: MIT
"""What a release leaves behind for later ones: the work that its host is stopped in, and how a host goes on with it.

tests/abi/release makes it with the release; test_releases.py goes on with another version.  The work has each kind of file that
outlives a process: storage's commit record beside its data, a spool, a checkpoint, and the positions of a source.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from conftest import TREE, Program, unused_port, whole_lines

LINES = 3000
STEP_MS, WINDOW_MS = 10, 1000
BASE_MS = 1735689600000  # 2025-01-01T00:00:00Z
STORED = TREE / "tests" / "abi"

def releases():
    """The folders of the releases that are stored whole."""
    return sorted(f for f in STORED.iterdir() if (f / "files.txz").exists())


def unpack(archive, folder):
    folder.mkdir()
    subprocess.run(["tar", "-C", folder, "--no-same-owner", "-xJf", archive], check=True)
    return folder


def event(n):
    return {"t": BASE_MS + STEP_MS * n, "n": n, "k": n % 3}


def input_file(folder):
    file = folder / "input.jsonl"
    file.write_text("".join(json.dumps(event(n)) + "\n" for n in range(LINES)))
    return file


def config(plugins, hub_port, rate):
    """A source that can resume, and behind it a file, windows with a checkpoint, and a link with a spool."""
    return {"plugins": {"paths": [str(p) for p in plugins]}, "components": [
        {"id": "lines", "type": "linelog", "config": {"path": "input.jsonl", "acked": "acked", "rate": rate}},
        {"id": "file", "type": "storage", "inputs": ["lines"], "config": {"path": "data/out.jsonl"}},
        {"id": "sums", "type": "aggregate", "inputs": ["lines"], "config": {
            "window": {"type": "tumbling", "size": f"{WINDOW_MS}ms"}, "group_by": "k",
            "functions": {"count": "count", "sum": "sum(n)"}, "time": {"field": "t", "format": "ms"},
            "checkpoint": {"path": "sums.state", "interval": "20ms"}}},
        {"id": "windows", "type": "storage", "inputs": ["sums"], "config": {"path": "windows/out.jsonl"}},
        {"id": "link", "type": "websocket_output", "inputs": ["lines"], "config": {
            "url": f"ws://localhost:{hub_port}/data", "retry_min": "50ms", "retry_max": "200ms", "spool": {"path": "spool"}}},
    ]}


def hub_config(plugins, port):
    return {"plugins": {"paths": [str(p) for p in plugins]}, "components": [
        {"id": "in", "type": "websocket_input", "config": {"bind": "127.0.0.1", "port": port, "path": "/data"}},
        {"id": "out", "type": "storage", "config": {"path": "hub.jsonl"}}]}


def begin(binary, plugins, folder, number=signal.SIGKILL):
    """Run to about the middle, then end it by a signal.  Nobody takes what is for the link."""
    hub_port = unused_port(socket.SOCK_STREAM)
    folder.mkdir()
    input_file(folder)
    program = Program(binary, folder, config(plugins, hub_port, 1000))
    try:
        program.wait_ready()
        program.wait_for(lambda: len(whole_lines(folder / "data" / "out.jsonl")) >= LINES // 3
                         and len(whole_lines(folder / "windows" / "out.jsonl")) >= 6, what="a third")
        program.signal(number)
        assert program.wait() == (0 if number == signal.SIGTERM else -number), program.log()
    finally:
        program.close()


def by_hand():
    """{(window, k): (count, sum)} of all windows that the last event ends."""
    found = {}
    for n in range(LINES - LINES % (WINDOW_MS // STEP_MS) - WINDOW_MS // STEP_MS):
        key = n * STEP_MS // WINDOW_MS, n % 3
        count, total = found.get(key, (0, 0))
        found[key] = count + 1, total + n
    return found


def finish(binary, plugins, folder, hub_binary, hub_plugins):
    """Go on to the end with a hub that takes what is in the spool; each event and each window is there once.  The log."""
    hub = folder / "hub"
    hub.mkdir()
    port = unused_port(socket.SOCK_STREAM)
    there = Program(hub_binary, hub, hub_config(hub_plugins, port))
    program = Program(binary, folder, config(plugins, port, 0))
    try:
        there.wait_ready()
        program.wait_ready()
        numbers = lambda file: [json.loads(line)["n"] for line in whole_lines(file)]
        for file in folder / "data" / "out.jsonl", hub / "hub.jsonl":
            program.wait_for(lambda file=file: len(whole_lines(file)) >= LINES, what=f"all events in {file.name}")
            assert numbers(file) == list(range(LINES)), file
        wanted = by_hand()
        program.wait_for(lambda: len(whole_lines(folder / "windows" / "out.jsonl")) >= len(wanted), what="all windows")
        assert program.terminate() == 0, program.log()
        assert there.terminate() == 0, there.log()
        assert numbers(folder / "data" / "out.jsonl") == numbers(hub / "hub.jsonl") == list(range(LINES))
        windows = [json.loads(line) for line in whole_lines(folder / "windows" / "out.jsonl")]
        found = [(w["window_start"], str(w["k"])) for w in windows]
        assert len(set(found)) == len(found), "a window came twice"
        order = sorted({w["window_start"] for w in windows})
        assert {(order.index(w["window_start"]), int(w["k"])): (w["count"], w["sum"]) for w in windows
                if not w.get("partial")} == wanted
        return program.log()
    finally:
        program.close()
        there.close()


def store(machine, folder, plugins):
    """What tests/abi/release packs: the work, as the host in a folder leaves it, configurations, and what plugins say of themselves.

    It ends in order: storage knows its file by its inode, and would keep what a crash has left behind the commit in a copy.
    """
    folder.mkdir()
    begin(machine / "semstreams", [machine / "plugins"], folder / "work", signal.SIGTERM)
    assert len(whole_lines(folder / "work" / "data" / "out.jsonl")) < LINES, "it was too fast to be stopped in between"
    # what names this machine's folders, and the source's own memory: where to begin is known from the others only
    for name in "config.json", "log", "acked":
        (folder / "work" / name).unlink()
    configurations(machine, folder / "configs")
    (folder / "described").mkdir()
    for plugin in plugins:
        done = subprocess.run([machine / "semstreams", "plugins", "describe", plugin.stem, "--json", "--plugins", plugin.parent],
                              check=True, capture_output=True, text=True)
        said = json.loads(done.stdout)
        del said["file"]
        (folder / "described" / f"{plugin.stem}.json").write_text(json.dumps(said, indent=1) + "\n")


def configurations(machine, folder):
    """The examples and the recipes of the cookbook, but for those that lack a certificate here."""
    folder.mkdir()
    for file in (TREE / "examples").glob("*.json"):
        shutil.copy(file, folder)
    recipes = re.findall(r"```json\n(.*?)```", (TREE / "docs" / "cookbook.md").read_text(), re.S)
    for n, text in enumerate(recipes):
        (folder / f"cookbook-{n:02}.json").write_text(text)
    for file in folder.iterdir():
        if subprocess.run([machine / "semstreams", "check", file, "--plugins", machine / "plugins"], capture_output=True).returncode:
            file.unlink()
    assert len(list(folder.iterdir())) > 12


if __name__ == "__main__":
    store(*map(Path, sys.argv[1:3]), list(map(Path, sys.argv[3:])))
