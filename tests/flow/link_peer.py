#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second implementation of the link protocol "semstreams.link.v1", after docs/link-protocol.md.

SenderEnd and ReceiverEnd are pure: messages and times in, a dict of what is to be done out:
    send      control messages to send, in order         live       the link is up
    close     code to close with, after sending          why        its reason
    acked     the consumer has everything up to this     nack       the consumer refused this sequence
    data      take records from this sequence on         duplicates number of records that came again
    lost      [from, to] will never come                 restart    another epoch: this was durable of the old one
    elsewhere [from, to] were acknowledged, but not by this receiver: they are lost to it
    bye       the peer goes                              renew      the log was set back: give it a new epoch
Sender and Receiver run them over a connection of the websockets package; the command line runs those:
    link_peer.py receive ws://127.0.0.1:8080/edge-data --consumer test --count 10
    printf 'one\\ntwo\\n' | link_peer.py send ws://127.0.0.1:8081/in
    ... either with --listen PORT instead of the URL.
"""

import argparse
import asyncio
import json
import os
import ssl
import struct
import sys
import time

SUBPROTOCOL = "semstreams.link.v1"
HEADER = struct.Struct(">BBHIQI")
RECORD = struct.Struct(">IQ")
SEQ_MAX = 2**53 - 1
SIZE_MAX = 2**31 - 1
CONTROL_MAX = 4096
MS = 10**6
SECOND = 10**9


class Refused(Exception):
    """A message that is to be answered with a close."""

    def __init__(self, code, why):
        super().__init__(why)
        self.code, self.why = code, why


# ---- messages -----------------------------------------------------------------------------------------------


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


ATTRIBUTES = ("peer", "origin", "path", "address", "input")
TEXT_MAX = {"path": 1023}  # bytes; 255 of the others
WITH_ATTRIBUTES = 2  # flag of a data message


def _pack_set(attributes):
    """{"origin": text, ..., "verified": bool} as bytes."""
    texts = [attributes[name].encode() for name in ATTRIBUTES if attributes.get(name)]
    present = sum(1 << i for i, name in enumerate(ATTRIBUTES) if attributes.get(name))
    return bytes([2 if attributes.get("verified") else 0, present]) + b"".join(
        struct.pack(">H", len(text)) + text for text in texts)


def pack_attributes(of_records):
    """A block of attributes; each is as for _pack_set, or None."""
    sets, runs = [], []
    for attributes in of_records:
        packed = _pack_set(attributes) if attributes else None
        if packed and packed not in sets:
            sets.append(packed)
        number = sets.index(packed) + 1 if packed else 0
        if runs and runs[-1][1] == number:
            runs[-1][0] += 1
        else:
            runs.append([1, number])
    ends = [sum(len(s) for s in sets[:i + 1]) for i in range(len(sets))]
    return (struct.pack(">II", len(sets), len(runs)) + b"".join(struct.pack(">I", end) for end in ends)
            + b"".join(struct.pack(">II", *run) for run in runs) + b"".join(sets))


def pack(first, records, attributes=None):
    """A data message; records are (time_ns, bytes), attributes None, or for each record as for _pack_set or None."""
    payload = b"".join(RECORD.pack(len(data), time_ns) + data for time_ns, data in records)
    flags = WITH_ATTRIBUTES if attributes and any(attributes) else 0
    if flags:
        payload += pack_attributes(attributes)
    return HEADER.pack(1, flags, len(records), len(payload), first, crc32c(payload)) + payload


def _unpack_set(packed):
    if len(packed) < 2 or packed[0] & ~3 or packed[1] & ~31 or not packed[1]:
        raise Refused(4400, "wrong attributes")
    attributes, at = {"verified": bool(packed[0] & 2)}, 2
    for i, name in enumerate(ATTRIBUTES):
        if not packed[1] & 1 << i:
            continue
        size = int.from_bytes(packed[at:at + 2], "big")
        text = packed[at + 2:at + 2 + size]
        if not size or len(text) != size or size > TEXT_MAX.get(name, 255):
            raise Refused(4400, "wrong attributes")
        try:
            attributes[name] = text.decode()
        except UnicodeDecodeError:
            raise Refused(4400, "attributes that are not UTF-8") from None
        if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in attributes[name]):
            raise Refused(4400, "attributes with control characters")
        at += 2 + size
    if at != len(packed):
        raise Refused(4400, "wrong attributes")
    return attributes


def unpack_attributes(block, count):
    """Those of each record, or None."""
    if len(block) < 8:
        raise Refused(4400, "wrong attributes")
    n_sets, n_runs = struct.unpack_from(">II", block)
    at = 8 + 4 * n_sets + 8 * n_runs
    if not 1 <= n_sets <= 65535 or at > len(block):
        raise Refused(4400, "wrong attributes")
    ends = [0, *struct.unpack_from(f">{n_sets}I", block, 8)]
    if sorted(ends) != ends or at + ends[-1] != len(block):
        raise Refused(4400, "wrong attributes")
    sets = [None] + [_unpack_set(block[at + a:at + b]) for a, b in zip(ends, ends[1:])]
    of_records = []
    for i in range(n_runs):
        run, number = struct.unpack_from(">II", block, 8 + 4 * n_sets + 8 * i)
        if not run or number > n_sets or len(of_records) + run > count:
            raise Refused(4400, "wrong attributes")
        of_records += [sets[number]] * run
    if len(of_records) != count:
        raise Refused(4400, "wrong attributes")
    return of_records


def unpack(message, max_record=SIZE_MAX):
    """first, [(time_ns, bytes)] of a data message."""
    return unpack_all(message, max_record)[:2]


def unpack_all(message, max_record=SIZE_MAX):
    """The same, and the attributes of each record."""
    if len(message) < HEADER.size:
        raise Refused(4400, "data message shorter than its header")
    kind, flags, count, length, first, crc = HEADER.unpack_from(message)
    payload = message[HEADER.size:]
    if kind != 1 or flags & ~WITH_ATTRIBUTES or length != len(payload) or count == 0:
        raise Refused(4400, "bad header of a data message")
    if first < 1 or first + count - 1 > SEQ_MAX:
        raise Refused(4400, "sequence out of range")
    if crc32c(payload) != crc:
        raise Refused(4400, "wrong checksum")
    records, at = [], 0
    for _ in range(count):
        if len(payload) - at < RECORD.size:
            raise Refused(4400, "record beyond the end")
        size, time_ns = RECORD.unpack_from(payload, at)
        at += RECORD.size
        if size > len(payload) - at:
            raise Refused(4400, "record beyond the end")
        if size > max_record:
            raise Refused(4413, "record longer than max_record")
        records.append((time_ns, bytes(payload[at:at + size])))
        at += size
    if flags:
        return first, records, unpack_attributes(bytes(payload[at:]), count)
    if at != len(payload):
        raise Refused(4400, "bytes behind the last record")
    return first, records, [None] * count


def _number(message, path, low, high=SEQ_MAX, required=True):
    value = message
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None and not required:
        return 0
    if type(value) is not int or not low <= value <= high:
        raise Refused(4400, f'"{path}" must be a whole number from {low} to {high}')
    return value


def _text(message, name, most=None):
    value = message.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(4400, f'"{name}" must be a string')
    if most is not None and (len(value.encode()) > most or any(ord(c) < 32 or ord(c) == 127 for c in value)):
        raise Refused(4400, f'"{name}" is too long or has control characters')
    return value


def _epoch(value):
    if not isinstance(value, str) or len(value) != 32 or any(c not in "0123456789abcdefABCDEF" for c in value):
        raise Refused(4400, "an epoch must be 32 hexadecimal digits")
    return value.lower()


def _check_sizes(message):
    frame = _number(message, "max_frame", 1, SIZE_MAX)
    record = _number(message, "max_record", 1, SIZE_MAX)
    if frame < record + 32:
        raise Refused(4400, '"max_frame" must be at least 32 more than "max_record"')
    return record


def _check_resume(m):
    if m.get("resume") is not None:
        if not isinstance(m["resume"], dict):
            raise Refused(4400, '"resume" must be null or an object')
        m["resume"]["epoch"] = _epoch(m["resume"].get("epoch"))
        _number(m, "resume.seq", 0)


def _check_hello(m):
    _text(m, "stream", 127)
    _text(m, "consumer", 127)
    _check_resume(m)
    _number(m, "received", 0, required=False)
    _number(m, "window.records", 1)
    _number(m, "window.bytes", 1)
    _check_sizes(m)


def _check_welcome(m):
    m["epoch"] = _epoch(m.get("epoch"))
    _check_sizes(m)
    _number(m, "hb_ms", 100, 3600000)
    if _number(m, "first", 1) > _number(m, "next", 1):
        raise Refused(4400, '"first" must not be greater than "next"')
    _check_resume(m)
    if m.get("resume") is not None and m["resume"]["seq"] >= m["next"]:
        raise Refused(4400, '"resume.seq" of a welcome must be less than "next"')


def _check_ack(m):
    for name in ("seq", "bytes", "window.records", "window.bytes"):
        _number(m, name, 0)


def _check_lost(m):
    _text(m, "reason")
    if _number(m, "from", 1) > _number(m, "to", 1):
        raise Refused(4400, '"from" must not be greater than "to"')


def _check_nack(m):
    _number(m, "seq", 1)
    _text(m, "code")


def _check_hb(m):
    _number(m, "next", 0, required=False)
    _number(m, "seq", 0, required=False)


def _check_bye(m):
    _number(m, "retry_ms", 0, 86400000, required=False)
    _text(m, "reason")


_CHECKS = {"hello": _check_hello, "welcome": _check_welcome, "ack": _check_ack, "lost": _check_lost,
           "nack": _check_nack, "hb": _check_hb, "bye": _check_bye}


def _no_constant(name):
    raise ValueError(name)


def parse(text):
    """A control message as a dict, checked."""
    try:
        if len(text.encode()) > CONTROL_MAX:
            raise Refused(4400, "control message longer than 4096 bytes")
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(4400, f"not a JSON text: {error}") from None
    kind = message.get("t") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in _CHECKS:
        raise Refused(4400, 'no known type "t"')
    if kind in ("hello", "welcome"):
        if type(message.get("v")) is not int or message["v"] != 1:
            raise Refused(4400, '"v" must be 1')
        _number(message, "time", 0, required=False)
    _CHECKS[kind](message)
    return message


# ---- the ends -----------------------------------------------------------------------------------------------


class _End:
    # state -> message kinds: taken or passed over; anything else is answered with 4400
    TAKEN, PASSED = {}, {}

    def __init__(self):
        self.state = "start"
        self.now = self.heard_at = self.beat_at = self.deadline = 0
        self.heard, self.heartbeat = False, 0

    def recv(self, message):
        """A text (str) or binary (bytes) message came."""
        try:
            kind = "data" if isinstance(message, bytes) else None
            content = None if kind else parse(message)
            kind = kind or content["t"]
            self.heard = True
            if self.state == "closed" or kind in self.PASSED.get(self.state, ()):
                if kind == "data":
                    unpack(message)
                return {}
            if kind not in self.TAKEN.get(self.state, ()):
                raise Refused(4400, f"{kind} at the wrong time")
            return getattr(self, "_" + kind)(content if content is not None else message)
        except Refused as refused:
            return self._close(refused.code, refused.why)

    def _close(self, code, why, **also):
        if self.state == "closed":
            return {}
        self.state = "closed"
        return {"close": code, "why": why, **also}

    def _live(self, heartbeat_ms):
        self.state = "live"
        self.heartbeat, self.heard, self.beat_at = heartbeat_ms * MS, True, None

    def _leave(self, retry_ms, reason):
        self.state, self.deadline = "leaving", self.now + 3 * SECOND
        return {"t": "bye", "retry_ms": retry_ms, "reason": reason}

    def _silent(self):
        if self.heard:
            self.heard, self.heard_at = False, self.now
        return self.now - self.heard_at >= self.heartbeat * 9 // 4

    def _beat(self, message):
        due = self.beat_at is not None and self.now >= self.beat_at
        if due or self.beat_at is None:
            self.beat_at = self.now + self.heartbeat
        return {"send": [message]} if due else {}


class SenderEnd(_End):
    """log: {"epoch", "first", "next", "cursor", "known", "past"}, kept by the caller; past: {earlier epoch: up to}."""

    TAKEN = {"hello": ("hello", "bye"), "live": ("ack", "nack", "bye"), "leaving": ("ack", "nack", "bye")}
    PASSED = {"live": ("hb",), "leaving": ("hello", "hb")}

    def __init__(self, log, peer=None, max_frame=1048576, max_record=262144, hb_ms=20000, now=0):
        super().__init__()
        self.log, self.peer, self.max_frame, self.max_record, self.hb_ms = log, peer, max_frame, max_record, hb_ms
        self.state, self.now, self.deadline = "hello", now, now + 10 * SECOND
        self.consumer = None
        self.attributes = False  # the receiver takes them
        self.acked = self.sent = self.acked_bytes = self.sent_bytes = 0
        self.window = {"records": 0, "bytes": 0}

    def _hello(self, hello):
        log = self.log
        self.consumer = self.peer or hello.get("consumer")
        if not self.consumer:
            return self._close(4403, "no name")
        resume = hello.get("resume")
        ours = resume is not None and resume["epoch"] == log["epoch"]
        if ours and resume["seq"] >= log["next"]:
            return self._close(4401, "the log was set back", renew=True)
        cursor = log.get("cursor", 0)
        past = log.get("past", {}).get(resume["epoch"], 0) if resume and not ours else 0
        has = resume["seq"] if ours else min(resume["seq"], past) if past else 0
        if ours or past or cursor or log.get("known"):
            first = min(max(has, cursor) + 1, log["next"])
        else:
            first = log["first"]
        self.acked = self.sent = first - 1
        self.window = hello["window"]
        self.attributes = bool(hello.get("attributes"))
        self.max_frame = min(self.max_frame, hello["max_frame"])
        self.max_record = min(self.max_record, hello["max_record"])
        self._live(self.hb_ms)
        welcome = {"t": "welcome", "v": 1, "epoch": log["epoch"], "first": first, "next": log["next"],
                   "max_frame": self.max_frame, "max_record": self.max_record, "hb_ms": self.hb_ms}
        if past:
            welcome["resume"] = {"epoch": resume["epoch"], "seq": past}
        elif not resume and log.get("past"):
            epoch, last = max(log["past"].items(), key=lambda item: item[1])
            if 0 < last < log["next"]:
                welcome["resume"] = {"epoch": epoch, "seq": last}
        done = {"send": [welcome], "live": True, "acked": first - 1}
        if ours or past:
            received = max(resume["seq"], hello.get("received") or 0)
            received = received if ours else min(received, past)
            if received + 1 < first:
                done["elsewhere"] = [received + 1, first - 1]
        if first < log["first"]:
            done["send"].append(self._lost(log["first"] - 1, "retention"))
        return done

    def _lost(self, to, reason):
        lost = {"t": "lost", "from": self.sent + 1, "to": to, "reason": reason}
        self.sent = to
        return lost

    def lose(self, to, reason):
        return {"send": [self._lost(to, reason)]} if self.state == "live" and to > self.sent else {}

    def _ack(self, ack):
        if ack["seq"] > self.sent or ack["bytes"] > self.sent_bytes:
            return self._close(4400, "ack of what was not sent")
        if ack["seq"] < self.acked or ack["bytes"] < self.acked_bytes:
            return self._close(4400, "ack takes back an earlier one")
        done = {"acked": ack["seq"]} if ack["seq"] > self.acked else {}
        self.acked, self.acked_bytes, self.window = ack["seq"], ack["bytes"], ack["window"]
        return done

    def _nack(self, nack):
        if not self.acked < nack["seq"] <= self.sent:
            return self._close(4400, "nack of what does not wait")
        return {"nack": nack["seq"]}

    def _bye(self, _):
        return self._close(1000, "goodbye", bye=True)

    def credit(self):
        if self.state != "live":
            return 0, 0
        return (max(self.acked + self.window["records"] - self.sent, 0),
                max(self.acked_bytes + self.window["bytes"] - self.sent_bytes, 0))

    def data(self, records, attributes=None):
        """The next records as a message; the caller has looked at the credit."""
        message = pack(self.sent + 1, records, attributes)
        self.sent += len(records)
        self.sent_bytes += len(message)
        return message

    def bye(self, retry_ms=0, reason=""):
        return {"send": [self._leave(retry_ms, reason)]} if self.state in ("hello", "live") else {}

    def tick(self, now):
        self.now = now
        if self.state == "hello" and now >= self.deadline:
            return self._close(1002, "no hello")
        if self.state == "leaving" and now >= self.deadline:
            return self._close(1001, "the receiver did not close")
        if self.state != "live":
            return {}
        return self._close(4408, "silent") if self._silent() else self._beat({"t": "hb", "next": self.log["next"]})


class ReceiverEnd(_End):
    """Knows its epoch over connections: call start() for each."""

    TAKEN = {"welcome": ("welcome", "bye"), "live": ("data", "lost", "bye"), "leaving": ("bye",)}
    PASSED = {"live": ("hb",), "draining": ("hb",), "leaving": ("data", "welcome", "lost", "hb")}

    def __init__(self, stream="", consumer="", window=None, max_frame=1048576, max_record=262144, attributes=False):
        super().__init__()
        self.stream, self.consumer = stream, consumer
        self.window = window or {"records": 4096, "bytes": 4194304}
        self.own = (max_frame, max_record)
        self.epoch, self.got, self.taken, self.durable_seq = None, 0, 0, 0
        self.restored = False  # what it knows is from an earlier process
        self.records = []  # of the last data message, those to take
        self.takes_attributes, self.attributes = attributes, []  # of these records

    def start(self, resume=None, now=0):
        self.now, self.deadline, self.state = now, now + 10 * SECOND, "welcome"
        self.max_frame, self.max_record = self.own
        if self.epoch is None and resume:
            self.epoch, self.got, self.restored = resume["epoch"], resume["seq"], True
            self.taken = self.durable_seq = self.got
        self.unreleased = []  # (last sequence, sum of bytes) of the data messages of this connection
        self.seen = self.ack_seq = self.ack_bytes = self.got_bytes = self.released = 0
        self.limit = self.limit_bytes = 0
        self.next_ack = 0
        hello = {"t": "hello", "v": 1, "window": dict(self.window), "max_frame": self.max_frame,
                 "max_record": self.max_record}
        if self.takes_attributes:
            hello["attributes"] = 1
        if self.stream:
            hello["stream"] = self.stream
        if self.consumer:
            hello["consumer"] = self.consumer
        if self.epoch:
            hello["resume"] = {"epoch": self.epoch, "seq": self.durable_seq}
            if self.got and not self.restored:
                hello["received"] = self.got
        return {"send": [hello]}

    def _grant(self, seq, total):
        self.ack_seq, self.ack_bytes = seq, total
        self.limit = max(self.limit, seq + self.window["records"])
        self.limit_bytes = max(self.limit_bytes, total + self.window["bytes"])

    def _welcome(self, welcome):
        if welcome["max_frame"] > self.max_frame or welcome["max_record"] > self.max_record:
            return self._close(4400, "limits above those of hello")
        same = self.epoch == welcome["epoch"]
        if same and self.got >= welcome["next"]:
            return self._close(4401, "the log was set back")
        done = {"live": True}
        before = welcome.get("resume")
        goes_on = before and before["epoch"] == self.epoch and self.got <= before["seq"]
        if not same and not goes_on:
            if self.epoch:
                done["restart"] = self.durable_seq
            self.got, self.taken, self.durable_seq = 0, 0, 0
            self.restored = False
        elif self.got < welcome["first"] - 1:
            done["elsewhere"] = [self.got + 1, welcome["first"] - 1]
        self.epoch = welcome["epoch"]
        self.seen = welcome["first"] - 1
        self.got, self.durable_seq = max(self.got, self.seen), max(self.durable_seq, self.seen)
        self.max_frame, self.max_record = welcome["max_frame"], welcome["max_record"]
        self._grant(self.seen, 0)
        self._live(welcome["hb_ms"])
        return done

    def _data(self, message):
        first, records, attributes = unpack_all(message, self.max_record)
        last = first + len(records) - 1
        if len(message) > self.max_frame:
            return self._close(1009, "longer than max_frame")
        if first > self.got + 1:
            return self._close(4401, "gap")
        if last > self.limit or self.got_bytes + len(message) > self.limit_bytes:
            return self._close(4402, "beyond the window")
        again = min(max(self.got + 1 - first, 0), len(records))
        self.records, self.attributes = records[again:], attributes[again:]
        self.got_bytes += len(message)
        self.seen = max(self.seen, last)
        self.unreleased.append((last, self.got_bytes))
        done = {"duplicates": again} if again else {}
        if self.records:
            self.restored = False
            done["data"] = first + again
            self.got = self.taken = last
        self._settle()
        return done

    def _lost(self, lost):
        if lost["from"] > self.got + 1:
            return self._close(4401, "gap")
        self.seen = max(self.seen, lost["to"])
        if lost["to"] <= self.got:
            return {}
        done = {"lost": [self.got + 1, lost["to"]]}
        self.got = lost["to"]
        self._settle()
        return done

    def _bye(self, _):
        if self.state == "live":
            self.state, self.deadline = "draining", None
            return {"bye": True}
        return self._close(1000, "goodbye", bye=True)

    def _settle(self):
        if self.durable_seq >= self.taken:
            self.durable_seq = self.got  # what is lost waits for nothing
        while self.unreleased and self.unreleased[0][0] <= self.durable_seq:
            self.released = self.unreleased.pop(0)[1]

    def durable(self, seq):
        """Everything up to seq is stored."""
        self.durable_seq = max(self.durable_seq, min(seq, self.got))
        self._settle()

    def _ackable(self):
        return min(self.durable_seq, self.seen)

    def _due(self, at_once=False):
        seq, total = self._ackable() - self.ack_seq, self.released - self.ack_bytes
        if seq <= 0 and total <= 0:
            return False
        return (at_once or self.now >= self.next_ack or 2 * seq >= self.window["records"]
                or total >= self.window["bytes"] // 2)

    def _make_ack(self):
        self.next_ack = self.now + 50 * MS
        self._grant(self._ackable(), self.released)
        return {"t": "ack", "seq": self.ack_seq, "bytes": self.ack_bytes, "window": dict(self.window)}

    def bye(self, retry_ms=0, reason=""):
        if self.state not in ("welcome", "live"):
            return {}
        send = [self._make_ack()] if self.state == "live" and self._due(at_once=True) else []
        return {"send": send + [self._leave(retry_ms, reason)]}

    def tick(self, now):
        self.now = now
        if self.state == "live":
            if self._silent():
                return self._close(4408, "silent")
            if self._due():
                return {"send": [self._make_ack()]}
            return self._beat({"t": "hb", "seq": self._ackable()})
        if self.state == "draining":
            self.deadline = self.deadline or now + 3 * SECOND
            done = {"send": [self._make_ack()]} if self._due(at_once=True) else {}
            if self._ackable() == self.seen or now >= self.deadline:
                done.update(self._close(1000, "goodbye"))
            return done
        if self.state == "welcome" and now >= self.deadline:
            return self._close(1002, "no welcome")
        if self.state == "leaving" and now >= self.deadline:
            return self._close(1001, "the sender did not close")
        return {}


# ---- over a connection --------------------------------------------------------------------------------------


async def _run(ws, end, work):
    """Until the connection is closed; work(end, done) after each message and each 20 ms, returns further done."""
    from websockets.exceptions import ConnectionClosed

    async def obey(done):
        for message in done.get("send", ()):
            await ws.send(json.dumps(message))
        if "close" in done:
            await ws.close(done["close"], done["why"][:100])
        return done.get("close")

    code = None
    try:
        while code is None:
            try:
                done = end.recv(await asyncio.wait_for(ws.recv(), 0.02))
            except asyncio.TimeoutError:
                done = {}
            code = await obey(done) or await obey(await work(end, done))
            code = code or await obey(end.tick(time.monotonic_ns()))
        return code
    except ConnectionClosed:
        return ws.close_code


class Sender:
    """A log in memory for one consumer."""

    def __init__(self, records=(), epoch=None, attributes=None, unasked=False, **limits):
        """attributes: of all records; unasked: sent also to a receiver that does not take them."""
        self.log = {"epoch": epoch or os.urandom(16).hex(), "first": 1, "next": 1, "cursor": 0, "known": False}
        self.records, self.limits, self.refused = [], limits, []
        self.attributes, self.unasked = attributes, unasked
        for record in records:
            self.append(record)

    def append(self, data):
        self.records.append((time.time_ns(), data))
        self.log["next"] += 1

    def all_acked(self):
        return self.log["cursor"] == self.log["next"] - 1

    async def run(self, ws, peer=None, finish=False):
        """One connection; finish: say goodbye when everything is acknowledged.  The close code."""
        end = SenderEnd(self.log, peer, now=time.monotonic_ns(), **self.limits)
        return await _run(ws, end, lambda end, done: self._work(ws, end, done, finish))

    async def _work(self, ws, end, done, finish):
        self.log["known"] = self.log["known"] or "live" in done
        self.log["cursor"] = max(self.log["cursor"], done.get("acked", 0))
        if "nack" in done:
            self.refused.append(done["nack"])
        while True:
            for message in end.lose(self.log["first"] - 1, "retention").get("send", ()):
                await ws.send(json.dumps(message))
            batch = self._batch(end)
            if not batch:
                break
            takes = self.attributes and (end.attributes or self.unasked)
            await ws.send(end.data(batch, [self.attributes] * len(batch) if takes else None))
        if finish and end.state == "live" and self.all_acked():
            return end.bye(0, "done")
        return {}

    def _batch(self, end):
        count, room = end.credit()
        size, batch = HEADER.size + (len(pack_attributes([self.attributes])) if self.attributes else 0), []
        for record in self.records[end.sent:end.sent + min(count, 0xFFFF)]:
            if size + RECORD.size + len(record[1]) > min(room, end.max_frame):
                break
            size += RECORD.size + len(record[1])
            batch.append(record)
        return batch


class Receiver:
    """store(seq, time_ns, data) makes a record durable; by default they gather in .stored."""

    def __init__(self, stream="", consumer="", store=None, **limits):
        self.end = ReceiverEnd(stream, consumer, **limits)
        self.stored, self.lost, self.restarts, self.duplicates = [], [], [], 0
        self.attributes = []  # of the records received
        self.store = store or (lambda seq, time_ns, data: self.stored.append((seq, time_ns, data)))
        self.total, self.said_bye = 0, False

    async def run(self, ws, resume=None, count=None):
        """One connection, until count records in all have been stored.  The close code."""
        self.said_bye = False
        for message in self.end.start(resume, time.monotonic_ns())["send"]:
            await ws.send(json.dumps(message))
        return await _run(ws, self.end, lambda end, done: self._work(end, done, count))

    async def _work(self, end, done, count):
        self.duplicates += done.get("duplicates", 0)
        for name, gather in (("lost", self.lost), ("restart", self.restarts)):
            if name in done:
                gather.append(done[name])
        if "data" in done:
            for seq, (time_ns, data) in enumerate(end.records, done["data"]):
                self.store(seq, time_ns, data)
                self.total += 1
            self.attributes += end.attributes
            end.durable(end.got)
        if count is not None and self.total >= count and not self.said_bye:
            self.said_bye = True
            return end.bye(0, "done")
        return {}


def _tls(args, server):
    if not args.cert and not args.ca:
        return None
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=args.ca)
    if args.cert:
        context.load_cert_chain(args.cert, args.key)
    if server and args.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _main(args):
    import websockets

    def show(seq, time_ns, data):
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()

    if args.role == "send":
        peer = Sender(sys.stdin.buffer.read().splitlines())
        work = lambda ws: peer.run(ws, finish=True)  # noqa: E731
    else:
        peer = Receiver(args.stream, args.consumer, show)
        resume = None
        if args.resume:
            epoch, seq = args.resume.split(":")
            resume = {"epoch": epoch, "seq": int(seq)}
        work = lambda ws: peer.run(ws, resume, args.count)  # noqa: E731

    options = {"subprotocols": [SUBPROTOCOL], "compression": None, "max_size": SIZE_MAX}
    if args.listen is None:
        headers = {"Semstreams-Stream": args.stream} if args.role == "send" and args.stream else {}
        async with websockets.connect(args.url, ssl=_tls(args, False), extra_headers=headers, **options) as ws:
            if ws.subprotocol != SUBPROTOCOL:
                sys.exit("the peer does not speak " + SUBPROTOCOL)
            code = await work(ws)
    else:
        over = asyncio.get_running_loop().create_future()

        async def serve(ws):
            if ws.subprotocol != SUBPROTOCOL:
                await ws.close(1002, "no " + SUBPROTOCOL)
            elif not over.done():
                code = await work(ws)
                if not over.done():
                    over.set_result(code)

        async with websockets.serve(serve, "127.0.0.1", args.listen, ssl=_tls(args, True), **options) as server:
            print("listening on", server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
            code = await over
    end = peer.end if args.role == "receive" else None
    print(f"closed with {code}" + (f", durable {end.epoch}:{end.durable_seq}" if end else ""), file=sys.stderr)
    return 0 if code in (1000, 1001) else 1


def main():
    parser = argparse.ArgumentParser(description="A peer for links of " + SUBPROTOCOL)
    parser.add_argument("role", choices=["send", "receive"], help="lines of stdin, or records to stdout")
    parser.add_argument("url", nargs="?")
    parser.add_argument("--listen", type=int, metavar="PORT", help="on 127.0.0.1, 0 = any")
    parser.add_argument("--stream", default="")
    parser.add_argument("--consumer", default="link-peer")
    parser.add_argument("--count", type=int, help="say goodbye after that many records")
    parser.add_argument("--resume", metavar="EPOCH:SEQ")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--ca")
    args = parser.parse_args()
    if (args.url is None) == (args.listen is None):
        parser.error("a URL or --listen")
    sys.exit(asyncio.run(_main(args)))


if __name__ == "__main__":
    main()
