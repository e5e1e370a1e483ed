# SPDX-License-Identifier: MIT
"""The page /peers of the admin port: who is connected, who is away, how far each is."""

import asyncio
import json
import socket

import pytest

import link_peer
from conftest import unused_port
from test_link_tls import context, federation  # noqa: F401
from test_many_senders import dial, hub, run, send

KEYS = {"component", "role", "state", "name", "verified", "address", "since", "stream", "lag", "unacknowledged", "rate",
        "last_error"}


def peers(program, query=""):
    status, text = program.get(f"/peers{query}")
    assert status == 200, text
    page = json.loads(text)
    assert page["unanswered"] == []
    assert all(set(row) == KEYS for row in page["peers"])
    return page


def test_senders(start, tmp_path):
    """Those that are there and those that are away, page by page, and only those that were asked for."""
    port, out, streams = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", 7
    program = start(hub(port, out))
    assert peers(program) == {"peers": [], "total": 0, "next": None, "unanswered": []}

    async def work():
        for i in range(streams):
            assert await send(port, link_peer.Sender([b"{}"] * 3), f"s{i}") == 1000
        async with dial(port, "here") as ws:
            sender = link_peer.Sender([b"{}"] * 5)
            task = asyncio.ensure_future(sender.run(ws))
            await asyncio.to_thread(program.wait_metric, "semstreams_link_up", 1)
            await asyncio.to_thread(program.wait_for, lambda: out.read_text().count("\n") == streams * 3 + 5)
            await asyncio.to_thread(program.wait_for, acknowledged)
            await asyncio.to_thread(look)
            task.cancel()

    def acknowledged():  # what is in the file is not synced at once
        return not any(row["unacknowledged"] for row in peers(program)["peers"])

    def look():
        page = peers(program)
        assert page["total"] == streams + 1 and page["next"] is None
        here = next(row for row in page["peers"] if row["stream"] == "here")
        assert (here["component"], here["role"], here["state"], here["verified"]) == ("in", "sender", "up", False)
        assert here["address"].startswith("127.0.0.1:") or here["address"].startswith("[::1]:")
        assert here["since"].endswith("Z") and here["rate"] > 0 and here["last_error"] is None
        assert here["unacknowledged"] == 0 and here["lag"] == 0
        away = peers(program, "?state=away&component=in")
        assert away["total"] == streams and all(row["address"] is None and row["since"] for row in away["peers"])
        found, after, pages = [], 0, 0
        while after is not None:
            page = peers(program, f"?limit=3&after={after}")
            assert page["total"] == streams + 1
            found += [row["stream"] for row in page["peers"]]
            after, pages = page["next"], pages + 1
        assert pages == 3 and sorted(found) == sorted([*(f"s{i}" for i in range(streams)), "here"])
        assert peers(program, "?component=file")["total"] == 0
    run(work())
    program.wait_for(lambda: peers(program, "?state=away")["total"] == streams + 1, what="all away")


def test_names_and_errors(start, tmp_path, federation):  # noqa: F811
    """Verified names, and what ended the last connection."""
    port, out = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"
    program = start(hub(port, out, federation))
    tls = context(federation, federation.leaves["b"])

    async def work():
        assert await send(port, link_peer.Sender([b"{}"]), "one", tls) == 1000
        async with dial(port, "one", tls) as ws:
            await ws.recv()
            await ws.send("nonsense")
            await ws.wait_closed()
            assert ws.close_code == 4400
    run(work())
    program.wait_for(lambda: peers(program, "?state=away")["total"] == 1, what="it is away")
    row, = peers(program)["peers"]
    assert row["verified"] and row["name"] and row["stream"] == "one"
    assert row["last_error"].startswith("closed by this end with code 4400: ")
    assert peers(program, f"?name={row['name'][:3]}")["total"] == 1
    assert peers(program, "?name=nobody")["total"] == 0


def test_consumers(start, tmp_path):
    """An output's: the links it serves, plain subscribers, and consumers that are away; a dialer names its target."""
    port, folder = unused_port(socket.SOCK_STREAM), tmp_path / "far"
    folder.mkdir()
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "out", "type": "websocket_output", "config": {"port": port}}]})
    url = f"ws://127.0.0.1:{port}/?token=secret"
    far = start({"components": [
        {"id": "in", "type": "websocket_input", "config": {"url": url, "consumer": "far", "retry_max": "1s"}},
        {"id": "file", "type": "storage", "config": {"path": str(tmp_path / "far.jsonl")}}]}, folder=folder)
    program.wait_metric("semstreams_link_up", 1)
    row, = peers(program)["peers"]
    assert (row["component"], row["role"], row["name"], row["state"], row["verified"]) == ("out", "consumer", "far", "up", False)
    far.wait_metric("semstreams_link_up", 1)
    row, = peers(far)["peers"]
    assert row["state"] == "up" and row["role"] == "sender"
    assert "secret" not in row["address"] and f"127.0.0.1:{port}" in row["address"]
    far.terminate()
    program.wait_for(lambda: peers(program, "?state=away")["total"] == 1, what="it is away")
    row, = peers(program)["peers"]
    assert row["name"] == "far" and row["since"]


def test_a_target_that_is_not_there(start, tmp_path):
    port = unused_port(socket.SOCK_STREAM)
    program = start({"components": [
        {"id": "in", "type": "websocket_input", "config": {"url": f"ws://127.0.0.1:{port}/x"}},
        {"id": "file", "type": "storage", "config": {"path": str(tmp_path / "out.jsonl")}}]})
    program.wait_metric("semstreams_ws_failed_total", 1)
    row, = peers(program)["peers"]
    assert row["state"] == "away" and row["address"] == f"ws://127.0.0.1:{port}/x" and row["last_error"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=", "color=red"])
def test_wrong_arguments(start, tmp_path, query):
    program = start(hub(unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl"))
    status, text = program.get(f"/peers?{query}")
    assert status == 400 and json.loads(text)["error"]
