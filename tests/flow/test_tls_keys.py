# SPDX-License-Identifier: MIT
"""A private key is in memory as long as it is in use, and no longer."""

import signal
import socket

import pytest

from conftest import unused_port
from test_link_tls import context, federation, upgrade  # noqa: F401 (fixtures)
from test_tls_identity import copy


def traces(pid, key):
    """How often the text of a key is in the memory of a process.  (What OpenSSL's decoder leaves is not looked for.)"""
    text, found = key.read_text().splitlines()[1][20:60].encode(), 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for area, rights, *rest in map(str.split, maps):
            if rights[0] != "r" or rest[-1].startswith("[v"):
                continue
            begin, end = (int(address, 16) for address in area.split("-"))
            mem.seek(begin)
            found += mem.read(end - begin).count(text)
    return found


def test_replaced(start, tmp_path, federation):  # noqa: F811
    """A key that was read, shown to be good and used for handshakes leaves nothing behind when another takes its place."""
    one, two = (federation.leaf("a", file=f"wiped-{n}") for n in (1, 2))
    copy(one, tmp_path)
    server, port = federation.server("a", "b"), unused_port(socket.SOCK_STREAM)
    server.update(cert_file="s.crt", key_file="s.key")
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "edge", "type": "websocket_output", "config": {"port": port, "path": "/data"}}],
        "security": {"tls": {"server": server}}})
    b = context(federation, federation.leaves["b"])
    assert upgrade(port, b).startswith("HTTP/1.1 101")
    try:
        assert traces(program.pid, one.key) > 0
    except PermissionError:
        pytest.skip("no right to look into another process")
    copy(two, tmp_path)
    program.signal(signal.SIGHUP)
    program.wait_log("Hot-reloaded certificate")
    assert upgrade(port, b).startswith("HTTP/1.1 101")
    assert traces(program.pid, two.key) > 0
    program.wait_for(lambda: traces(program.pid, one.key) == 0, what="the old key gone")
