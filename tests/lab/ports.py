# SPDX-License-Identifier: MIT
"""Ports for tests' servers."""

import os
import random
import re
import socket

FIRST, COUNT, WORKERS = 20000, 12000, 8


def own_range():
    """Tests that run side by side take from ranges of their own."""
    worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
    if not worker:
        return FIRST, FIRST + COUNT
    size = COUNT // WORKERS
    first = FIRST + int(worker[1]) % WORKERS * size
    return first, first + size


def ports():
    """All of the range one after the other, from anywhere: no two servers of a test are given the same."""
    first, end = own_range()
    at = random.randrange(first, end)
    while True:
        yield at
        at = at + 1 if at + 1 < end else first


NEXT = ports()


def unused_port(kind=socket.SOCK_STREAM, host=""):
    """A port nobody uses, which stays free while its owner is down: below those that the system gives to connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = next(NEXT)
        with socket.socket(family, kind) as s:
            try:
                s.bind((host, port))
                return port
            except OSError:
                pass
