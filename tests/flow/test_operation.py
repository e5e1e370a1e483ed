# SPDX-License-Identifier: MIT
"""What an operator does with the program: logs, kills, several at a time, another user, the examples."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import PATIENCE, TREE, Program
from flowlib import (Sender, at_rest, balance, check_numbers, event, free_disk, generate, half, kernel_dropped,
                     last_words, pipeline, send_lossless, sockets, stop_disk, storage, tools, udp, udp_port)

FIXTURES = (check_numbers, generate, tools)  # used by name

# ---- logs --------------------------------------------------------------------------------------------------

LOGFMT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (ERROR|WARN|INFO|DEBUG) \S.*")


def eventful(start, *args, **more):
    """A life with errors and warnings in it; the lines of its log."""
    config = pipeline(udp(receive_buffer="1GiB"), half(), storage(), half("nobody"), **more)
    config["components"][3]["inputs"] = ["half.rest"]
    program = start(config, *args)
    port = bound_port(program)
    with Sender(port) as sender:
        program.wait_for(lambda: (program.folder / "file.jsonl").stat().st_size > 50000, what="stored")
    stop_disk(program, program.folder / "file.jsonl")
    with Sender(port, sender.sent):
        program.wait_for(lambda: "Cannot write" in program.log(), what="a full disk")
    free_disk(program)
    program.signal(signal.SIGHUP)
    assert program.terminate() == 0
    return program.log().splitlines()


def bound_port(program):
    """The UDP port it listens on, without asking its log, which may be silent."""
    (port,) = {int(row[1].split(":")[1], 16) for row in sockets(program, "udp")}
    return port


@pytest.mark.parametrize("by", ["option", "config"])
def test_log_as_json(start, by):
    if by == "option":
        lines = eventful(start, "--log-format", "json", "--log-level", "debug")
    else:
        lines = eventful(start, log={"format": "json", "level": "debug"})
    documents = [json.loads(line) for line in lines]
    for document in documents:
        assert {"time", "level"} <= document.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", document["time"])
        assert document["level"].lower() in ("error", "warn", "info", "debug")
    text = json.dumps(documents)
    for message in ("Starting semstreams", "Pipeline running", "Cannot write", "Shutting down", "Component stopped",
                    "Stopped"):
        assert message in text
    (last,) = [d for d in documents if "Component stopped" in json.dumps(d) and d["component"] == "file"]
    assert int(last["in"]) == int(last["out"]) + int(last["dropped"]) > 0


def test_log_as_logfmt(start):
    lines = eventful(start, "--log-format", "logfmt", log={"format": "json"})  # the command line has the last word
    assert [line for line in lines if not LOGFMT.fullmatch(line)] == []


@pytest.mark.parametrize("level", ["error", "warn", "info", "debug"])
def test_log_level(start, level):
    levels = ["ERROR", "WARN", "INFO", "DEBUG"]
    seen = {line.split()[1] for line in eventful(start, "--log-level", level)}
    assert seen <= set(levels[:levels.index(level.upper()) + 1])
    assert "ERROR" in seen
    assert ("INFO" in seen) == (level in ("info", "debug"))


# ---- kills -------------------------------------------------------------------------------------------------


def test_kill_and_restart(start, generate, check_numbers, tmp_path):
    """Whatever was counted as stored is there, once, and the program goes on behind it."""
    config = pipeline(udp(), half(), storage(sync="always"), storage("all", ["udp"], sync="always"))
    files = {name: tmp_path / f"{name}.jsonl" for name in ("file", "all")}
    sent = 0
    for kills in range(4):
        (tmp_path / "log").unlink(missing_ok=True)
        program = start(config)
        assert program.metrics().sum("semstreams_storage_repaired_total", component="file") == (kills > 0)
        before = {name: file.read_bytes() for name, file in files.items()}
        with Sender(udp_port(program), sent) as sender:
            program.wait_metric("semstreams_events_out_total", 3000, component="all")
            metrics = program.metrics()
            program.signal(signal.SIGSTOP)  # in mid-stream, but nobody is refused anything
        program.signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
        sent += sender.sent
        for name, file in files.items():
            assert file.read_bytes().startswith(before[name])
            new = file.read_bytes()[len(before[name]):]
            assert new.count(b"\n") >= metrics.sum("semstreams_events_out_total", component=name) > 0
        # the kernel finishes most writes of the killed; so that there is a torn line in any case:
        with open(files["file"], "ab") as torn:
            torn.write(event(sent)[:30])
    program = start(config)
    assert check_numbers(files["file"], 1, sent // 2 + 1, 2) > 4 * 1000
    assert check_numbers(files["all"], 0, sent) >= 4 * 3000
    assert program.terminate() == 0


# ---- plugins from elsewhere, several programs --------------------------------------------------------------


def mapped(program):
    """Inodes of the files it has mapped."""
    rows = [row.split() for row in Path(f"/proc/{program.pid}/maps").read_text().splitlines()]
    return {int(row[4]) for row in rows if row[4] != "0"}


def test_host_without_tls_loads_no_openssl(start):
    """Two of the largest libraries there are; a host on a small machine has them only if it uses them."""
    program = start(pipeline(udp(), half(), storage()))
    names = {row.split("/")[-1] for row in Path(f"/proc/{program.pid}/maps").read_text().splitlines() if "/" in row}
    assert {"udp_input.so", "filter.so", "storage.so"} <= names
    assert not [name for name in names if name.startswith(("libssl", "libcrypto", "tls_openssl"))]
    assert program.terminate() == 0


def plugin_folder(command):
    return Path(re.search(r"^plugins in (.+)$", command("--version").stdout, re.M)[1])


@pytest.mark.parametrize("how", ["absolute", "relative", "option"])
def test_plugins_from_another_folder(start, generate, command, tmp_path, how):
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    shutil.copy(plugin_folder(command) / "storage.so", own)
    config = pipeline(udp(), storage())
    args = []
    if how == "option":
        args = ["--plugins", own]
    else:
        config["plugins"] = {"paths": [str(own) if how == "absolute" else "own"]}
    program = start(config, *args)
    generate(udp_port(program), 10)
    balance(at_rest(program, 10), config)
    inodes = mapped(program)
    assert (own / "storage.so").stat().st_ino in inodes
    assert (plugin_folder(command) / "storage.so").stat().st_ino not in inodes
    assert (plugin_folder(command) / "udp_input.so").stat().st_ino in inodes
    assert program.terminate() == 0


def test_two_side_by_side(start, check_numbers, tmp_path):
    config = pipeline(udp(), half(), storage())
    programs, senders = [], []
    for i in range(2):
        folder = tmp_path / str(i)
        folder.mkdir()
        programs.append(start(config, folder=folder))
    for program in programs:
        senders.append(Sender(udp_port(program)).__enter__())
    for program in programs:
        program.wait_metric("semstreams_events_out_total", 5000, component="file")
    for program, sender in zip(programs, senders):
        sender.stop()
        metrics = at_rest(program, sender.sent)
        books = balance(metrics, config)
        assert books["file"]["out"] + books["half"]["filtered"] + kernel_dropped(metrics) == sender.sent
    assert programs[0].terminate() == 0
    assert programs[1].get("/readyz")[0] == 200
    assert programs[1].terminate() == 0
    for program, sender in zip(programs, senders):
        last = last_words(program, config)
        assert check_numbers(program.folder / "file.jsonl", 1, sender.sent // 2 + 1, 2) == last["file"]["out"]


# ---- another user ------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged(semstreams):
    """unprivileged(config) -> Program that runs as nobody in a folder of its own"""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    if subprocess.run([*become, semstreams, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("the program is installed where other users cannot run it")
    folder = Path(tempfile.mkdtemp(prefix="ss-nobody-"))
    programs = []

    def run(config):
        os.chown(folder, 65534, 65534)
        script = folder / "launch"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(become)} {shlex.quote(semstreams)} "$@"\n')
        script.chmod(0o755)
        programs.append(Program(str(script), folder, config))
        programs[-1].wait_log("Pipeline running")  # the socket of the service manager is not for nobody
        return programs[-1]

    yield run
    for program in programs:
        program.close()
    shutil.rmtree(folder)


def test_as_an_unprivileged_user(unprivileged, generate, check_numbers):
    config = pipeline(udp(receive_buffer="1GiB"), half(), storage(path="deep/er/file.jsonl"))
    program = unprivileged(config)
    status = Path(f"/proc/{program.pid}/status").read_text()
    assert re.search(r"^Uid:(\s+65534){4}$", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"WARN UDP receive buffer is smaller than requested: raise net.core.rmem_max", program.log())
    send_lossless(program, generate, udp_port(program), 1000)
    balance(at_rest(program, 1000), config)
    file = program.folder / "deep" / "er" / "file.jsonl"
    assert file.stat().st_uid == 65534
    assert program.terminate() == 0
    assert check_numbers(file, 1, 500, 2) == 500


def test_privileged_port_as_an_unprivileged_user(unprivileged):
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 2:
        pytest.skip("here everybody may use every port")
    with pytest.raises(AssertionError, match="ended with 1"):
        unprivileged(pipeline(udp(port=1), storage()))


# ---- examples ----------------------------------------------------------------------------------------------

EXAMPLES = sorted((TREE / "examples").glob("*.json"))
GOOD = '{"sensor":"temperature","value":72.5,"location":"a"}'
LO_UP = "ip link set lo up"


@pytest.fixture
def example(semstreams, tmp_path, start, send, udp_port):
    """example(file) -> (Program that runs this configuration, send(line))

    As it is, with all ports of a machine of its own, where there is a way to have one; else with ports that are free.
    """
    programs = []
    own_machine = os.geteuid() == 0 and all(map(shutil.which, ("unshare", "nsenter", "ip", "bash"))) and \
        subprocess.run(["unshare", "--net", "sh", "-c", LO_UP], capture_output=True, check=False).returncode == 0

    def as_it_is(file):
        script = tmp_path / "launch"
        script.write_text(f"#!/bin/sh\nexec unshare --net sh -c '{LO_UP} && exec \"$0\" \"$@\"' "
                          f'{shlex.quote(semstreams)} --config {shlex.quote(str(file))}\n')
        script.chmod(0o755)
        program = Program(str(script), tmp_path, None)
        programs.append(program)
        return program.wait_ready(), lambda line: subprocess.run(
            ["nsenter", "-t", str(program.pid), "--net", "bash", "-c", 'echo "$0" >/dev/udp/127.0.0.1/14550', line],
            check=True, timeout=PATIENCE)

    def with_other_ports(file):
        config = json.loads(file.read_text())
        config["components"][0]["config"]["port"] = udp_port
        if config.get("admin", {}).get("listen") != "off":
            config["admin"] = {"listen": "127.0.0.1:0"}
        return start(config), lambda line: send(udp_port, line + "\n")

    yield as_it_is if own_machine else with_other_ports
    for program in programs:
        program.close()


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_example(example, file, tmp_path):
    """Each starts, takes an event and ends cleanly."""
    program, give = example(file)
    give(GOOD)

    def written():
        return [f for f in (tmp_path / "data").rglob("*") if f.is_file() and f.stat().st_size]

    program.wait_for(written, what="a line in a file")
    assert program.terminate() == 0
    sinks = [c["id"] for c in json.loads(file.read_text())["components"] if c["type"] == "storage"]
    assert program.stopped("udp")["in"] == 1
    assert sum(program.stopped(sink)["out"] for sink in sinks) >= 1
    assert {f.read_text() for f in written()} == {GOOD + "\n"}
    assert " ERROR " not in program.log()
    assert os.geteuid() != 0 or " WARN " not in program.log()  # others may get a smaller receive buffer


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_example_is_right(command, file):
    done = command("check", file)
    assert done.returncode == 0
    assert "warning" not in done.stdout + done.stderr
