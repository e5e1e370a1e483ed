# SPDX-License-Identifier: MIT
"""MAVLink written down once more, from its description alone, to test the example plugin against: frames, their checksums and
signatures, and the layout of some messages as struct formats.  It shares nothing with the plugin."""

import hashlib
import struct

# name: (id, CRC_EXTRA as published, format of the payload on the wire, names in that order, bytes without extensions)
MESSAGES = {
    "HEARTBEAT": (0, 50, "<IBBBBB", "custom_mode type autopilot base_mode system_status mavlink_version", 9),
    "PING": (4, 237, "<QIBB", "time_usec seq target_system target_component", 14),
    "PARAM_VALUE": (22, 220, "<fHH16sB", "param_value param_count param_index param_id param_type", 25),
    "PARAM_SET": (23, 168, "<fBB16sB", "param_value target_system target_component param_id param_type", 23),
    "GPS_RAW_INT": (24, 24, "<QiiiHHHHBBiIIIIH", "time_usec lat lon alt eph epv vel cog fix_type satellites_visible "
                    "alt_ellipsoid h_acc v_acc vel_acc hdg_acc yaw", 30),
    "ATTITUDE": (30, 39, "<Iffffff", "time_boot_ms roll pitch yaw rollspeed pitchspeed yawspeed", 28),
    "GLOBAL_POSITION_INT": (33, 104, "<IiiiihhhH", "time_boot_ms lat lon alt relative_alt vx vy vz hdg", 28),
    "COMMAND_LONG": (76, 152, "<fffffffHBBB", "param1 param2 param3 param4 param5 param6 param7 command target_system "
                     "target_component confirmation", 33),
    "COMMAND_ACK": (77, 143, "<HBBiBB", "command result progress result_param2 target_system target_component", 3),
    "STATUSTEXT": (253, 83, "<B50sHB", "severity text id chunk_seq", 51),
    "TUNNEL": (385, 147, "<HBBB128s", "payload_type target_system target_component payload_length payload", 133),
}
NAMES = {message[0]: name for name, message in MESSAGES.items()}


def crc(data):
    value = 0xffff
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0x8408 if value & 1 else value >> 1
    return struct.pack("<H", value)


def payload(name, values):
    layout, names = MESSAGES[name][2], MESSAGES[name][3].split()
    values = {n: 0 for n in names} | values
    return struct.pack(layout, *(v.encode() if isinstance(v, str) else b"" if v == 0 and size == "s" else v
                                 for v, size in zip((values[n] for n in names), sizes(layout))))


def sizes(layout):
    """The letter of each value of a format."""
    return [c for c in layout[1:] if c.isalpha()]


def frame(name, values, *, version=2, seq=0, sysid=1, compid=1, key=None, link=0, timestamp=0, cut=True):
    number, extra, _, _, minimum = MESSAGES[name]
    body = payload(name, values)
    if version == 1:
        body = body[:minimum]
        head = struct.pack("<BBBBB", len(body), seq, sysid, compid, number)
    else:
        if cut:
            body = body.rstrip(b"\0") or b"\0"
        head = struct.pack("<BBBBBB", len(body), 1 if key else 0, 0, seq, sysid, compid) + struct.pack("<I", number)[:3]
    out = (b"\xfe" if version == 1 else b"\xfd") + head + body + crc(head + body + bytes([extra]))
    if key:
        out += bytes([link]) + struct.pack("<Q", timestamp)[:6]
        out += hashlib.sha256(key + out).digest()[:6]
    return out


def decode(data):
    """One frame that is known to be whole: (name, sysid, compid, seq, values)."""
    if data[0] == 0xfe:
        seq, sysid, compid, number = data[2:6]
        head = 6
    else:
        seq, sysid, compid = data[4:7]
        number = int.from_bytes(data[7:10], "little")
        head = 10
    name = NAMES[number]
    _, extra, layout, names, _ = MESSAGES[name]
    end = head + data[1]
    assert data[end:end + 2] == crc(data[1:end] + bytes([extra])), f"checksum of {name}"
    body = data[head:end].ljust(struct.calcsize(layout), b"\0")
    return name, sysid, compid, seq, dict(zip(names.split(), struct.unpack(layout, body)))
