# SPDX-License-Identifier: MIT
"""Who is no longer allowed or trusted after a reload is cut within a second, in either role, and nobody else is."""

import asyncio
import json
import re
import signal
import socket
from datetime import datetime
from pathlib import Path

import pytest
import websockets

from conftest import PATIENCE, unused_port
from pki import Pki
from test_link_tls import CNS, Federation, context

STRANGER = "semstreams-x.local"


@pytest.fixture
def federation(tmp_path):
    """Beside its own root a second one, which has certified a further peer; both are in the file of CAs."""
    f = Federation(tmp_path)
    f.second = Pki(tmp_path / "second", "Second Root CA")
    f.leaves["x"] = f.second.location("x").leaf(STRANGER, sans=[STRANGER, "localhost", "127.0.0.1"])
    f.cas = tmp_path / "cas.crt"
    f.first_ca = Path(f.pki.ca_file).read_bytes()
    f.cas.write_bytes(f.first_ca + Path(f.second.ca_file).read_bytes())
    return f


def forget_second(federation):
    new = federation.cas.with_suffix(".new")
    new.write_bytes(federation.first_ca)
    new.rename(federation.cas)


def endpoints(receive, send):
    """An input and an output, each with these options of its own."""
    return [{"id": "in", "type": "websocket_input", "config": receive},
            {"id": "file", "type": "storage", "config": {"path": "in.jsonl"}},
            {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
            {"id": "out", "type": "websocket_output", "inputs": ["udp"], "config": send}]


def listener(ports, server):
    receive, send = ({"port": port, "path": "/data", "bind": "127.0.0.1"} for port in ports)
    return {"components": endpoints(receive, send), "security": {"tls": {"server": server}}}


def moments(program, pattern):
    """When lines with this text were written, in seconds."""
    lines = [line for line in program.log().splitlines() if re.search(pattern, line)]
    return [datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp() for line in lines]


def assert_prompt(program, what, committed, closed, n):
    """By the host's own clock; the limit is for machines on which everything takes its time."""
    program.wait_for(lambda: len(moments(program, closed)) >= n, what=f"{n} times {closed}")
    began, ends = moments(program, committed)[-1], moments(program, closed)
    print(f"{what}: {n} connections closed {max(ends) - began:.3f} s after the reload was committed")
    assert len(ends) == n and -0.001 <= min(ends) - began and max(ends) - began <= 10


def cut_by(program, federation, ports, change, gone, stays):
    """Each of the two peers is connected to both ports; after change() and a reload only one of them still is."""

    async def connect(port, name):
        tls = context(federation, federation.leaves[name])
        return await websockets.connect(f"wss://localhost:{port}/data", ssl=tls, compression=None)

    async def run():
        lost = [await connect(port, gone) for port in ports]
        kept = [await connect(port, stays) for port in ports]
        program.wait_metric("semstreams_ws_connected_total", 4)
        change()
        program.signal(signal.SIGHUP)
        for ws in lost:
            await asyncio.wait_for(ws.wait_closed(), PATIENCE)
            assert ws.close_code == 1008
        for ws in kept:
            await asyncio.wait_for(await ws.ping(), PATIENCE)
            assert ws.open
        assert all("code=1008" in line for line in program.log().splitlines() if "Connection closed" in line)
        for ws in kept:
            await ws.close()
    asyncio.run(run())


def closed(name):
    return rf"Connection closed code=1008 by=us peer={re.escape(name)} "


def test_a_name_is_taken_from_the_list(start, federation):
    ports = [unused_port(socket.SOCK_STREAM) for _ in range(2)]
    program = start(listener(ports, federation.server("a", "bc")))

    def change():
        config = json.loads(program.config_file.read_text())
        config["security"]["tls"]["server"] = federation.server("a", "b")
        program.config_file.write_text(json.dumps(config))
    cut_by(program, federation, ports, change, "c", "b")
    assert_prompt(program, "allowed_client_cns", "INFO Reloaded allowed_client_cns without downtime", closed(CNS["c"]), 2)
    program.wait_log("INFO Configuration reloaded generation=2")


def test_a_ca_of_clients_is_removed(start, federation):
    ports = [unused_port(socket.SOCK_STREAM) for _ in range(2)]
    server = federation.server("a", "b")
    server["mtls"]["client_ca_files"] = [str(federation.cas)]
    server["mtls"]["allowed_client_cns"].append(STRANGER)
    program = start(listener(ports, server))
    cut_by(program, federation, ports, lambda: forget_second(federation), "x", "b")
    assert_prompt(program, "client_ca_files", "INFO Reloaded trusted CAs without downtime role=server", closed(STRANGER), 2)


def test_a_ca_of_servers_is_removed(start, tmp_path, federation):
    """The dialing side: of four links, those to the server of the other CA are cut."""
    parts = {}
    for name in "ax":
        ports = [unused_port(socket.SOCK_STREAM) for _ in range(2)]
        folder = tmp_path / f"server-{name}"
        folder.mkdir()
        start(listener(ports, {"enabled": True, **federation.leaves[name].settings()}), folder=folder)
        into, out = (f"wss://localhost:{port}/data" for port in ports)
        dialling = {"retry_min": "100ms", "retry_max": "200ms"}
        parts[name] = endpoints({"url": out, **dialling}, {"url": into, **dialling})
        for component in parts[name]:
            component["id"] += f"-{name}"
            component["inputs"] = [f"{i}-{name}" for i in component.get("inputs", [])]
            if component["type"] == "storage":
                component["inputs"] = [f"in-{name}"]
                component["config"]["path"] = f"{name}.jsonl"
            if not component["inputs"]:
                del component["inputs"]
    program = start({"components": parts["a"] + parts["x"],
                     "security": {"tls": {"client": {"ca_files": [str(federation.cas)]}}}}, folder=tmp_path)
    program.wait_for(lambda: program.log().count("Link up") + program.log().count("Connected mode=") >= 8, what="four links")
    forget_second(federation)
    program.signal(signal.SIGHUP)
    assert_prompt(program, "ca_files", "INFO Reloaded trusted CAs without downtime role=client", r"Connection closed code=1008 by=us ", 2)
    cut = re.findall(r"Connection closed .* component=(\S+)$", program.log(), re.M)
    assert sorted(cut) == ["in-x", "out-x"], cut
    for name in "in-a", "out-a":
        assert program.metrics().sum("semstreams_ws_connections", component=name) == 1
