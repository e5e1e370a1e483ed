# SPDX-License-Identifier: MIT
"""The limit of open files: a billion, hardly any, and fewer than clients are to be served."""

import json
import resource
import subprocess

import pytest
from conftest import Program, shared_library


def config(udp_port, tcp_port, **options):
    return {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp_port, "bind": "127.0.0.1"}},
        {"id": "out", "type": "websocket_output", "inputs": ["udp"],
         "config": {"port": tcp_port, "bind": "127.0.0.1", **options}},
        {"id": "file", "type": "storage", "inputs": ["udp"], "config": {"path": "out.jsonl"}},
    ]}


def limited(soft, hard):
    return ["prlimit", f"--nofile={soft}:{hard}"]


def test_a_billion_is_cut(start, udp_port, tcp_port, tmp_path):
    """Tables of all descriptors are not made for a billion, and more than is usual is had by asking for it."""
    shim = shared_library("many_files", tmp_path)
    program = start(config(udp_port, tcp_port), env={"LD_PRELOAD": str(shim)})
    assert program.metrics().sum("process_max_fds") == 65536
    assert program.terminate() == 0
    folder = tmp_path / "more"
    folder.mkdir()
    program = start(config(udp_port, tcp_port, max_clients=100000), env={"LD_PRELOAD": str(shim)}, folder=folder)
    assert 101024 < program.metrics().sum("process_max_fds") < 102000
    assert "WARN" not in program.log()


def test_a_low_soft_limit_is_raised(semstreams, udp_port, tcp_port, tmp_path):
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
    assert hard > 64
    class Limited(Program):
        def _spawn(self, command, env, log):
            return super()._spawn(limited(20, hard) + command, env, log)

    program = Limited(semstreams, tmp_path, config(udp_port, tcp_port))
    try:
        assert program.wait_ready().metrics().sum("process_max_fds") == hard
    finally:
        program.close()


@pytest.mark.parametrize("files", [10, 16, 20, 30])
def test_hardly_any(semstreams, udp_port, tcp_port, tmp_path, files):
    """Too few to start is an error that names the limit; nothing aborts, and no plugin is blamed."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(udp_port, tcp_port)))
    done = subprocess.run([*limited(files, files), semstreams, "run", "--config", file], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1
    assert f"ERROR No more than {files} files can be open (RLIMIT_NOFILE), and 36 are needed to start" in done.stderr
    assert "plugin" not in done.stderr


def test_commands_with_few_files(semstreams, udp_port, tcp_port, tmp_path):
    """Commands take what the hard limit allows, and where that is not enough no plugin is called broken."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(udp_port, tcp_port, max_clients=10)))
    for command in (["check", file], ["graph", file], ["schema"], ["plugins", "list"]):
        done = subprocess.run([*limited(5, 100), semstreams, *command], capture_output=True, text=True)
        assert done.returncode == 0 and "cannot be" not in done.stderr, done.stderr
        done = subprocess.run([*limited(5, 5), semstreams, *command], capture_output=True, text=True)
        failed = [line for line in done.stderr.splitlines() if "cannot be" in line]
        assert failed and all("raise the limit RLIMIT_NOFILE" in line for line in failed), done.stderr


def test_more_clients_than_files(semstreams, udp_port, tcp_port, tmp_path):
    """`check` and the log warn where max_clients, with those that wait or shake hands, asks for more than can be had."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(udp_port, tcp_port, max_clients=500), indent=1))
    check = [semstreams, "check", "--config", file]
    good = subprocess.run([*limited(100, 2000), *check], capture_output=True, text=True)
    assert good.returncode == 0 and "warning" not in good.stdout + good.stderr
    done = subprocess.run([*limited(400, 400), *check], capture_output=True, text=True)
    assert done.returncode == 0 and "1 warning" in done.stdout
    asked = 500 + 4 * 64 + (500 + 64) + 2 * 64
    assert f"/components/1/config/max_clients  asks for {asked} open files" in done.stderr
    assert "RLIMIT_NOFILE) has room for 336" in done.stderr
