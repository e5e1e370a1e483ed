# SPDX-License-Identifier: MIT
"""Single bits that a disk returned wrong: what was acknowledged stays, and what is lost is counted to the event."""

import asyncio
import signal
import socket

import pytest

import link_peer
from conftest import unused_port
from test_link_trust import dial, hello, listening, send_all, stored


def flip(file, offset, mask=1):
    with open(file, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ mask]))


def last_bytes(record):
    """Of each of its two slots: where its last byte is that is not 0."""
    data = record.read_bytes()
    second = next(at for at in range(4096, len(data), 4096) if data[at:at + 8] == data[:8])
    return len(data[:second].rstrip(b"\0")) - 1, len(data.rstrip(b"\0")) - 1


def test_commit_record(start, tmp_path):
    """One bit of either slot: the lines behind what the other one says were acknowledged, so they stay in the file."""
    port, out, record = unused_port(socket.SOCK_STREAM), tmp_path / "out.jsonl", tmp_path / ".file.commit"

    def again():
        program.signal(signal.SIGKILL)
        program.wait()
        program.log_file.unlink()

    program = start(listening(port, out))
    sender = link_peer.Sender()
    for n in range(1, 9):
        sender.append(b"%d" % n)
        send_all(sender, port, None, program, out, n)
    assert sender.all_acked()
    again()
    whole, doubts = record.read_bytes(), 0
    for place in last_bytes(record):
        record.write_bytes(whole)
        flip(record, place)
        program = start(listening(port, out))
        assert stored(out) == [str(n) for n in range(1, 9)]
        assert "sources will resend" not in program.log()
        doubt = "ERROR The commit record is damaged, an older copy of it counts: nothing is truncated" in program.log()
        assert program.metrics().sum("semstreams_storage_errors_total", operation="commit") == doubt
        doubts += doubt
        again()
    assert doubts == 1, "the other one is the older one"
    # both slots are written at a clean end, so either may be spoilt then
    record.write_bytes(whole)
    for n in range(9, 12):
        program = start(listening(port, out))
        assert "damaged" not in program.log()
        sender.append(b"%d" % n)
        send_all(sender, port, None, program, out, n)
        assert program.terminate() == 0
        assert stored(out) == [str(n) for n in range(1, n + 1)]
        program.log_file.unlink()
        flip(record, last_bytes(record)[n % 2])


HEADER, INDEX = 48, 16  # bytes of a frame's header, and of each record's entry in the index behind it


def largest_frame(file, texts):
    """Where the index of the frame with most of these records begins, and where it ends."""
    data = file.read_bytes()
    places = [data.index(text) for text in texts]
    begins = [0, *(i for i in range(1, len(places)) if places[i] > places[i - 1] + len(texts[i - 1])), len(places)]
    first, n = max(zip(begins, (b - a for a, b in zip(begins, begins[1:]))), key=lambda run: run[1])
    return places[first] - n * INDEX, places[first]


@pytest.mark.parametrize("what", ["header", "index", "record"])
def test_spool(start, tmp_path, what):
    """One bit of a header or an index costs nothing; one of a record costs this one, and the consumer hears of it."""
    lost = what == "record"
    for number in range(1 if lost else 5):
        port, udp = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_DGRAM)
        folder = tmp_path / str(number)
        folder.mkdir()
        sent = [b"record %02d." % n for n in range(50)]
        config = {"components": [
            {"id": "udp", "type": "udp_input", "config": {"port": udp, "bind": "127.0.0.1"}},
            {"id": "edge", "type": "websocket_output",
             "config": {"port": port, "path": "/data", "spool": {"path": str(folder / "spool")}}}]}
        program = start(config, folder=folder)

        async def known(port=port):
            async with dial(port) as ws:
                await ws.send(hello("reader"))
                await ws.recv()
        asyncio.run(known())
        program.signal(signal.SIGSTOP)  # so that one commit takes them all
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
            to.connect(("127.0.0.1", udp))
            for text in sent:
                to.send(text)
        program.signal(signal.SIGCONT)
        program.wait_metric("semstreams_events_out_total", 50, component="edge")
        assert program.terminate() == 0
        (file,) = (folder / "spool").glob("*.seg")
        index, records = largest_frame(file, sent)
        assert records - index >= 20 * INDEX, "many in one frame"
        place = {"header": index - HEADER + (0, 5, 9, 16, 41)[number], "record": records + 3,
                 "index": index + (0, 5, 9, 16 * 10 + 1, 16 * 15 + 14)[number]}[what]
        gone = [sent.index(next(text for text in sent if file.read_bytes().index(text) == records)) + 1] if lost else []
        flip(file, place, 4)
        program.log_file.unlink()
        program = start(config, folder=folder)
        receiver = link_peer.Receiver(consumer="reader")

        async def take(port=port, receiver=receiver):
            async with dial(port) as ws:
                await receiver.run(ws, count=50 - lost)
        asyncio.run(asyncio.wait_for(take(), 10))
        assert [data for _, _, data in receiver.stored] == [text for n, text in enumerate(sent, 1) if n not in gone], place
        assert receiver.lost == [[n, n] for n in gone]
        metrics = program.metrics()
        assert metrics.sum("semstreams_link_lost_total") == lost
        assert metrics.sum("semstreams_spool_lost_events_total", reason="corrupt") == lost
        if not lost:
            program.wait_log("WARN The spool repaired a damaged byte of its files, no event is lost by it")
        assert program.terminate() == 0
