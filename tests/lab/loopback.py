# SPDX-License-Identifier: MIT
"""In place of hosts where there can be no namespaces: this machine, and a range of ports for each location.

All are called localhost, so nobody can be told from another by name; and all answer challenges at port 80, one after the other.
"""

import os
import socket
import subprocess
from pathlib import Path

from .hosts import WITH_US, environment


def reason_not():
    """Why this cannot be either; None if it can."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 80))
        except OSError as error:
            return f"port 80 of 127.0.0.1 cannot be bound: {error.strerror}"
    return None


class Place:
    """What a Host is, as far as it goes.  .shift is to be added to ports."""

    name, address, bind = "localhost", "127.0.0.1", "127.0.0.1"

    def __init__(self, folder, shift):
        self.folder, self.shift, self.pid = folder, shift, os.getpid()
        self.folder.mkdir(parents=True, exist_ok=True)

    def popen(self, *argv, cwd=None, env=None, **kwargs):
        kwargs = {"stdin": subprocess.DEVNULL, "start_new_session": True, **kwargs}
        return subprocess.Popen([*WITH_US, *map(str, argv)], cwd=cwd or self.folder, env=environment(self.folder, env),
                                **kwargs)

    def run(self, *argv, timeout=60, check=False, cwd=None):
        return subprocess.run([str(part) for part in argv], cwd=cwd or self.folder, env=environment(self.folder), check=check,
                              timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    @staticmethod
    def socket(kind=socket.SOCK_STREAM):
        return socket.socket(socket.AF_INET, kind)


class Loopback:
    def __init__(self, folder):
        self.folder, self._n = Path(folder), {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def add(self, name, mounts=None):
        """mounts: nobody sees other paths here.  Names that differ in a letter get ranges that differ."""
        del mounts
        kind = name.split("-")[0]
        self._n[kind] = self._n.get(kind, -1) + 1
        return Place(self.folder / name, self._n[kind])
