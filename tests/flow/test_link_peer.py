# SPDX-License-Identifier: MIT
"""The Python peer of the link: against the recorded sessions, and against itself over real connections."""

import asyncio
import json
import pathlib
import random

import pytest

import link_peer

VECTORS = json.loads((pathlib.Path(__file__).parent / "link_sessions.json").read_text())


def by_name(rows):
    return [pytest.param(row, id=row["name"]) for row in rows]


@pytest.mark.parametrize("row", by_name(VECTORS["messages"]))
def test_message(row):
    try:
        if "text" in row:
            assert link_peer.parse(row["text"])["t"] == row.get("type")
        else:
            first, records, attributes = link_peer.unpack_all(bytes.fromhex(row["hex"]), row.get("max_record", link_peer.SIZE_MAX))
            assert (first, [[t, data.decode()] for t, data in records]) == (row.get("first"), row.get("records"))
            assert [plain_set(a) for a in attributes] == [plain_set(a) for a in row.get("attributes", [None] * len(records))]
            assert link_peer.pack(first, records, attributes).hex() == row["hex"]
        assert "refused" not in row
    except link_peer.Refused as refused:
        assert refused.code == row.get("refused")


def plain_set(attributes):
    return attributes and {"verified": False, **attributes}


def plain(done):
    done = {key: value for key, value in done.items() if key != "why"}
    if "send" in done:
        done["send"] = [{k: v for k, v in message.items() if k not in ("retry_ms", "reason") or v}
                        for message in done["send"]]
    return done


def perform(end, step):
    if "data" in step:
        assert end.sent + 1 == step["data"]["first"]
        assert end.data([(t, text.encode()) for t, text in step["data"]["records"]]).hex() == step["hex"]
    elif "text" in step:
        return end.recv(step["text"])
    elif "hex" in step:
        return end.recv(bytes.fromhex(step["hex"]))
    elif "tick_ms" in step:
        return end.tick(step["tick_ms"] * link_peer.MS)
    elif "start" in step:
        return end.start(step.get("resume"), end.now)
    elif "lost_to" in step:
        return end.lose(step["lost_to"], step["reason"])
    elif "bye" in step:
        return end.bye(**step["bye"])
    elif "durable" in step:
        end.durable(step["durable"])
    else:
        assert list(end.credit()) == step["credit"]
    return {}


@pytest.mark.parametrize("row", by_name(VECTORS["sessions"]))
def test_session(row):
    setup = row["setup"]
    if row["end"] == "receiver":
        end = link_peer.ReceiverEnd(**setup)
    else:
        log = {key: setup[key] for key in ("epoch", "first", "next", "cursor", "known")}
        if "past" in setup:
            log["past"] = {setup["past"]["epoch"]: setup["past"]["seq"]}
        end = link_peer.SenderEnd(log, setup["peer"], setup["max_frame"], setup["max_record"], setup["hb_ms"])
    for step in row["steps"]:
        assert plain(perform(end, step)) == step.get("do", {}), step


def test_over_connections_that_are_cut():
    """Each connection is cut at a random point; in the end everything is there once."""
    websockets = pytest.importorskip("websockets")
    rng = random.Random(1)
    sender = link_peer.Sender([b"%d" % i for i in range(3000)], hb_ms=1000)
    receiver = link_peer.Receiver(consumer="test", window={"records": 64, "bytes": 8192}, max_frame=2048,
                                  max_record=1024)

    async def serve(ws):
        await sender.run(ws, finish=True)

    async def play():
        options = {"subprotocols": [link_peer.SUBPROTOCOL], "compression": None}
        async with websockets.serve(serve, "127.0.0.1", 0, **options) as server:
            port = server.sockets[0].getsockname()[1]
            for connections in range(1, 1000):
                ws = await websockets.connect(f"ws://127.0.0.1:{port}/", **options)
                goal = receiver.total + rng.randrange(1, 400)
                plain_store = receiver.store

                def store(*record):
                    plain_store(*record)
                    if receiver.total + 1 >= goal and goal < 3000:
                        ws.transport.abort()

                receiver.store = store
                code = await receiver.run(ws)
                receiver.store = plain_store
                await ws.close()
                if code == 1000:
                    return connections

    assert asyncio.run(asyncio.wait_for(play(), 60)) > 5
    assert [data for _, _, data in receiver.stored] == [b"%d" % i for i in range(3000)]
    assert [seq for seq, _, _ in receiver.stored] == list(range(1, 3001))
    assert sender.all_acked() and receiver.lost == []
