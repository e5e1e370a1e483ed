# SPDX-License-Identifier: MIT
"""What the process gives up: files that nothing names, system calls, capabilities; in its threads and children, too.

A plugin that lies about its files tries to reach them.  What kernel or build lack is skipped.
"""

import ctypes
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import whole_lines
from flowlib import generate, pipeline, storage, tools, udp
from test_sdk import build

FIXTURES = (generate, tools)  # used by name

CREATE_RULESET, NET_BIND_SERVICE, NET_ADMIN = 444, 10, 12


def landlock():
    """Whether the kernel has it as this program needs it."""
    return ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1) >= 2


needs_landlock = pytest.mark.skipif(not landlock(), reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intruder")
    build(Path(__file__).parent / "plugins" / "intruder.c", folder / "intruder.so")
    return folder


@pytest.fixture
def outside(tmp_path_factory):
    """A folder that no configuration names, with a file."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("secret\n")
    return folder


@pytest.fixture
def intruder(start, plugins, tmp_path):
    def run(kind="intruder", sandbox=None, ready=True, **options):
        more = {} if sandbox is None else {"sandbox": sandbox}
        return start(pipeline({"id": "bad", "type": kind, "config": options}, storage(inputs=["bad"]),
                              plugins={"paths": [str(plugins)]}, **more), ready=ready)

    return run


def tried(program):
    return dict(re.findall(r"INFO Tried (\w+): (\S+) component=bad$", program.log(), re.M))


def set_up(program):
    """What the log says of the sandbox."""
    return program.wait_log(r"INFO Sandbox set up files=(\w+).* denied_calls=(\w+).* capabilities=(\S+)$").groups()


def status(pid):
    """Lines of the kernel about each thread."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield dict(re.findall(r"^(\w+):\t(.*)$", (task / "status").read_text(), re.M))


@needs_landlock
def test_files(intruder, outside, tmp_path):
    """What is named can be reached and what is beside it, nothing else; nor by a child."""
    told = tmp_path / "told"
    told.mkdir()
    (told / "file").write_text("")
    program = intruder(read=str(outside / "secret"), write=str(outside / "new"), told=str(told / "file"))
    assert set_up(program)[0] == "closed"
    found = tried(program)
    assert {key: found[key] for key in ("read", "write", "told", "child")} == {
        "read": "EACCES", "write": "EACCES", "told": "done", "child": "1"}
    assert not (outside / "new").exists()


@needs_landlock
def test_listed_files(intruder, outside, tmp_path_factory):
    """A type that tells nothing is kept to what the configuration lists, and reaches it."""
    third = tmp_path_factory.mktemp("third") / "file"
    third.write_text("")
    program = intruder("silent", {"mode": "required", "write": [str(outside)]}, read=str(third), write=str(outside / "new"))
    assert set_up(program)[0] == "closed"
    assert tried(program)["read"] == "EACCES" and tried(program)["write"] == "done"


def test_unclear_files(intruder, outside):
    """A type that tells nothing is not broken by a sandbox that nobody asked for; the log names it."""
    program = intruder("silent", read=str(outside / "secret"))
    assert set_up(program)[0] == "open"
    assert 'files_reason="type silent does not tell which files it uses' in program.log()
    assert tried(program)["read"] == "done"


def test_required_but_unclear(intruder):
    program = intruder("silent", "required", ready=False)
    assert program.wait() == 78
    assert re.search(r'error \S+config\.json:\d+:\d+ /components/0  type "silent" does not tell which files it uses, and '
                     r'"sandbox" is "required": list them', program.log())


def test_required_but_impossible(intruder):
    """A thread that has been there before would go on without."""
    program = intruder(sandbox="required", ready=False, thread=True)
    assert program.wait() == 1
    assert "ERROR Sandbox is required and cannot be had" in program.log()


def test_system_calls(intruder, semstreams):
    built = subprocess.run([semstreams, "--version"], capture_output=True, text=True, check=True).stdout
    if "seccomp yes" not in built:
        pytest.skip("built without libseccomp")
    if "address" in built:
        pytest.skip("leak checkers trace the program")
    program = intruder()
    assert int(set_up(program)[1]) > 30
    found = tried(program)
    assert {found[call] for call in ("ptrace", "mount", "setns", "keyctl", "io_uring_setup", "bpf")} == {"EPERM"}
    assert found["clone3"] == "ENOSYS"
    assert all(thread["Seccomp"] == "2" for thread in status(program.pid))


def test_privileges(start, semstreams):
    """Whoever starts it: no more than ports below 1024, and where a buffer wants it CAP_NET_ADMIN, in every thread."""
    built = subprocess.run([semstreams, "--version"], capture_output=True, text=True, check=True).stdout
    may = 1 << NET_BIND_SERVICE | 1 << NET_ADMIN | ("address" in built) << 19
    program = start(pipeline(udp(), storage(worker="own")))
    threads = list(status(program.pid))
    assert len(threads) > 1
    for thread in threads:
        assert thread["NoNewPrivs"] == "1"
        for which in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(thread[which], 16) & ~may == 0, which
        if os.geteuid() == 0:
            assert int(thread["CapBnd"], 16) & ~may == 0
            assert int(thread["CapEff"], 16) & 1 << NET_BIND_SERVICE


def test_small_buffer_needs_nothing(start):
    program = start(pipeline(udp(receive_buffer="64KiB"), storage()))
    assert "net_admin" not in set_up(program)[2]


def test_not_dumpable(intruder, semstreams):
    if "address" in subprocess.run([semstreams, "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("leak checkers trace the program")
    assert tried(intruder(sandbox="off"))["dumpable"] == "0"


def test_off(intruder, outside):
    program = intruder(sandbox="off", read=str(outside / "secret"))
    program.wait_log("INFO Sandbox is off, as the configuration says$")
    found = tried(program)
    assert found["read"] == "done" and found["ptrace"] != "EPERM" and found["child"] == "0"
    assert all(thread["NoNewPrivs"] == "0" for thread in status(program.pid))


@needs_landlock
def test_a_pipeline_works_in_it(start, generate, tmp_path_factory):
    """Folders yet to be made, a socket of the admin port, the end."""
    data, run = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run")
    program = start(pipeline(udp(), storage(path=str(data / "new" / "%Y" / "file-%H.jsonl")),
                             admin={"listen": f"unix:{run}/admin"}, sandbox="required"))
    assert set_up(program)[0] == "closed"
    port = int(program.wait_log(r"UDP input listening .*\bport=(\d+)")[1])
    generate(port, 10)
    program.wait_for(lambda: sum(len(whole_lines(f)) for f in data.rglob("*.jsonl")) == 10)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("value, message", [
    ('"on"', 'unknown mode of the sandbox "on"'),
    ("true", 'expected "auto", "off" or "required", got true'),
    ('{"mode": "auto", "writes": []}', 'unknown key "writes"'),
    ('{"write": "/data"}', "expected an array of at most 64 paths"),
    ('{"read": [""]}', "expected the path of a file or folder"),
])
def test_wrong_settings(command, tmp_path, value, message):
    (tmp_path / "c.json").write_text('{"components": [{"id": "udp", "type": "udp_input"}],\n "sandbox": %s}' % value)
    done = command("check", tmp_path / "c.json")
    assert done.returncode == 78
    assert re.search(rf"error \S+c\.json:2:\d+ .*{re.escape(message)}", done.stderr), done.stderr
