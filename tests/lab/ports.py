# SPDX-License-Identifier: MIT
"""Ports for tests' servers."""

import random
import socket


def unused_port(kind=socket.SOCK_STREAM, host=""):
    """A port nobody uses, which stays free while its owner is down: below those that the system gives to connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket(family, kind) as s:
            try:
                s.bind((host, port))
                return port
            except OSError:
                pass
