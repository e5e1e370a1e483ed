# SPDX-License-Identifier: MIT
"""Make the tables of a MAVLink dialect from its message definitions.

    python3 dialect.py DEFINITIONS.xml > dialect.c

<include> is followed, beside the file.  What other dialects say of units, enums and meanings is not needed here.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ET

SIZES = {"char": 1, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4,
         "int64_t": 8, "uint64_t": 8, "double": 8}
PAYLOAD_MAX = 255  # bytes


class Field:
    def __init__(self, element, extension):
        found = re.fullmatch(r"(\w+?)(_mavlink_version)?(?:\[(\d+)\])?", element.get("type", ""))
        self.name = element.get("name", "")
        if not found or found[1] not in SIZES or not re.fullmatch(r"[A-Za-z]\w*", self.name):
            raise ValueError(f"field {self.name!r} has the type {element.get('type')!r}, which MAVLink does not have")
        self.type, self.count, self.extension = found[1], int(found[3] or 0), extension
        self.size = SIZES[self.type]


def crc(data, value=0xffff):
    """CRC-16/MCRF4XX."""
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return value


class Message:
    """Fields as they lie in the payload: the larger types first, otherwise as declared; extensions behind them, as declared."""

    def __init__(self, element):
        self.id, self.name = int(element.get("id")), element.get("name")
        extension, fields = False, []
        for child in element:
            extension = extension or child.tag == "extensions"
            if child.tag == "field":
                fields.append(Field(child, extension))
        self.declared = fields
        self.fields = sorted((f for f in fields if not f.extension), key=lambda f: -f.size) + [f for f in fields if f.extension]
        offset = self.minimum = 0
        for f in self.fields:
            f.offset = offset
            offset += f.size * (f.count or 1)
            if not f.extension:
                self.minimum = offset
        self.maximum = offset
        if self.maximum > PAYLOAD_MAX or not self.fields or not 0 <= self.id < 1 << 24:
            raise ValueError(f"message {self.name} has {self.maximum} bytes and the id {self.id}; 255 bytes and 24 bits are the most")
        text = f"{self.name} ".encode()
        value = crc(text)
        for f in self.fields:
            if not f.extension:
                value = crc(f"{f.type} {f.name} ".encode() + (bytes([f.count]) if f.count else b""), value)
        self.crc_extra = (value & 0xff) ^ (value >> 8)


def read(path, seen=None):
    """The messages of a file and of those that it includes, by id."""
    seen = seen if seen is not None else set()
    path = pathlib.Path(path).resolve()
    if path in seen:
        return {}
    seen.add(path)
    root = ET.parse(path).getroot()
    messages = {}
    for include in root.iter("include"):
        messages.update(read(path.parent / include.text.strip(), seen))
    for element in root.iter("message"):
        message = Message(element)
        messages[message.id] = message
    return messages


def write(messages, out):
    print("/* SPDX-License-Identifier: MIT */\n/* made by dialect.py */\n#include \"dialect.h\"\n", file=out)
    for m in messages:
        print(f"static const struct mav_field fields_{m.id}[] = {{", file=out)
        for f in m.declared:
            print(f"\t{{\"{f.name}\", MAV_{f.type.removesuffix('_t').upper()}, {f.size}, {f.count}, {f.offset}}},", file=out)
        print("};", file=out)
    print("\nstatic const struct mav_message messages[] = {", file=out)
    for m in messages:
        print(f"\t{{{m.id}, \"{m.name}\", {m.crc_extra}, {m.minimum}, {m.maximum}, {len(m.declared)}, fields_{m.id}}},", file=out)
    print("};\n\nconst struct mav_dialect mav_dialect = {messages, sizeof messages / sizeof messages[0]};", file=out)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        messages = read(sys.argv[1])
        if not messages:
            raise ValueError("there is no message in it")
    except (OSError, ET.ParseError, ValueError, TypeError) as e:
        sys.exit(f"dialect.py: {sys.argv[1]}: {e}")
    write(sorted(messages.values(), key=lambda m: m.id), sys.stdout)


if __name__ == "__main__":
    main()
