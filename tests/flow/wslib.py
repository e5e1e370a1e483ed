# SPDX-License-Identifier: MIT
"""Configurations with WebSocket endpoints, and peers that put their frames together by hand, broken ones too."""

import base64
import os
import socket
import ssl
import struct

from conftest import PATIENCE

PATH = "/live"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def server_tls(leaf):
    return {"tls": {"server": {"enabled": True, "mode": "manual", **leaf.settings()}}}


def hub(udp_port, tcp_port, tls=None, **options):
    """udp_input to websocket_output."""
    config = {"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp_port, "bind": "127.0.0.1"}},
        {"id": "hub", "type": "websocket_output",
         "config": {"port": tcp_port, "path": PATH, "bind": "127.0.0.1", **options}}]}
    return {**config, "security": server_tls(tls)} if tls else config


def intake(tcp_port, file, tls=None, **options):
    """websocket_input to storage."""
    config = {"components": [
        {"id": "in", "type": "websocket_input",
         "config": {"port": tcp_port, "path": PATH, "bind": "127.0.0.1", **options}},
        {"id": "file", "type": "storage", "config": {"path": str(file), "sync": "relaxed"}}]}
    return {**config, "security": server_tls(tls)} if tls else config


def url(port, tls=None):
    return f"{'wss' if tls else 'ws'}://localhost:{port}{PATH}"


def resident(program):
    """KiB of memory in use."""
    with open(f"/proc/{program.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, length=None, mask=b"\x37\xfa\x21\x3d"):
    """A client's frame; length: what its header says instead of the truth."""
    n = len(payload) if length is None else length
    flag = 0x80 if masked else 0
    size = bytes([flag | n]) if n < 126 else struct.pack(">BH", flag | 126, n) if n < 65536 else struct.pack(
        ">BQ", flag | 127, n)
    if masked:
        payload = mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload))
    return bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + size + payload


class RawPeer:
    """A connection; after upgrade() a WebSocket one.  Reading gives frames."""

    def __init__(self, port, ca_file=None, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        if ca_file:
            self.socket = ssl.create_default_context(cafile=ca_file).wrap_socket(self.socket,
                                                                               server_hostname="localhost")
        self._buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def fileno(self):
        return self.socket.fileno()

    def _need(self, n):
        while len(self._buffer) < n:
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError(bytes(self._buffer))
            self._buffer += data

    def _take(self, n):
        self._need(n)
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    def send(self, data):
        self.socket.sendall(data)

    def head(self):
        """An HTTP answer up to its empty line."""
        while b"\r\n\r\n" not in self._buffer:
            self._need(len(self._buffer) + 1)
        return self._take(self._buffer.index(b"\r\n\r\n") + 4).decode()

    def request(self, path=PATH, **headers):
        fields = {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                  "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
                  **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.send("".join([f"GET {path} HTTP/1.1\r\n", *(f"{k}: {v}\r\n" for k, v in fields.items() if v is not None),
                           "\r\n"]).encode())

    def upgrade(self, **headers):
        self.request(**headers)
        head = self.head()
        assert head.startswith("HTTP/1.1 101 "), head
        return self

    def frame(self):
        """(opcode, payload) of the next frame; EOFError at the end."""
        first, n = self._take(2)
        assert first & 0x80 and not first & 0x70 and not n & 0x80, "final, unmasked, no extension"
        if n >= 126:
            n = int.from_bytes(self._take(2 if n == 126 else 8), "big")
        return first & 15, self._take(n)

    def message(self):
        """The next message; pings are answered."""
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode != PONG:
                return opcode, payload

    def end(self):
        """The close code when everything before has been read; None if it just ends."""
        try:
            while True:
                opcode, payload = self.message()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except (EOFError, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return None
