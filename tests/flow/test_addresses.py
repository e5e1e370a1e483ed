# SPDX-License-Identifier: MIT
"""Addresses and ports, wherever the configuration takes some: what check says is what start says, and every form of one
address is the same."""

import json

import pytest

UDP = {"id": "u", "type": "udp_input", "config": {"port": 0}}


def with_option(where, value):
    """A configuration with this value at a place of its own, and the pointer to it."""
    kind, key = where
    if kind == "admin":
        return {"admin": {key: value}, "components": [UDP]}, f"/admin/{key}"
    if kind == "udp_input":
        others = {"multicast": "239.1.2.3"} if key == "interface" else {}
        return {"components": [{**UDP, "config": {"port": 0, **others, key: value}}]}, f"/components/0/config/{key}"
    if kind == "websocket_input":
        out = {"id": "s", "type": "storage", "config": {"path": "out"}}
        return {"components": [{"id": "w", "type": kind, "config": {key: value}}, out]}, f"/components/0/config/{key}"
    return {"components": [UDP, {"id": "w", "type": kind, "inputs": ["u"], "config": {"port": 0, key: value}}]}, \
        f"/components/1/config/{key}"


UDP_BIND, WS_BIND, ADMIN = ("udp_input", "bind"), ("websocket_output", "bind"), ("admin", "listen")
NO_ADDRESS = ["10.0.0.256", "1.2.3", "0x7f.0.0.1", "010.0.0.1", "127.0.0.1.", " 127.0.0.1", "127.0.0.1 ", "127.0.0.1:80",
              "[::1]", "localhost", "bücher.example", "::1::", "1.2.3.4.5", "127.0.0.1%lo"]
ORIGIN, PATH = ("websocket_output", "allowed_origins"), ("websocket_output", "path")
WRONG = [
    *[(UDP_BIND, value, "is not a numeric IPv4 or IPv6 address") for value in ["", *NO_ADDRESS]],
    *[(WS_BIND, value, "is not a numeric IPv4 or IPv6 address") for value in NO_ADDRESS],
    *[(where, "fe80::1", "needs a zone") for where in (UDP_BIND, WS_BIND)],
    *[(where, "::1%lo", "has a zone") for where in (UDP_BIND, WS_BIND)],
    (UDP_BIND, "fe80::1%nosuch0", "no such network interface"),
    *[(("udp_input", "multicast"), value, "numeric") for value in ["224.0.0.256", "224.1", " 224.0.0.1", "::1::"]],
    *[(("udp_input", "multicast"), value, "multicast address") for value in ["127.0.0.1", "::ffff:224.0.0.1", "::1"]],
    (("udp_input", "multicast"), "ff02::1%nosuch0", "no such network interface"),
    *[(("udp_input", "interface"), value, "eth0") for value in ["", "a b", "a/b", "x" * 16]],
    *[(("udp_input", "allow"), value, "192.0.2.0/24") for value in
      ["10.0.0.256", "1.2.3", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "::1/129", "10.0.0.0/", "localhost", "fe80::1%lo"]],
    *[((kind, "port"), value, "port") for kind in ("udp_input", "websocket_output", "websocket_input")
      for value in [-1, 65536, 99999, "80abc", " 80", "", 80.5, True]],
    *[(ADMIN, f"{host}:0", why) for host, why in [
        ("10.0.0.256", "IPv4"), ("1.2.3", "IPv4"), ("0x7f.1", "IPv4"), ("bücher.example", "punycode"), ("a b", "character"),
        ("127.0.0.1 ", "character"), ("a..b", "dot"), ("127.0.0.1.", "dot"), ("::1", "brackets"), ("[localhost]", "no IPv6"),
        ("[127.0.0.1]", "no IPv6"),
        ("[::1::]", "numeric"), ("[::1", "not closed"), ("[fe80::1]", "needs a zone"), ("[::1%lo]", "has a zone")]],
    *[(ADMIN, f"127.0.0.1{port}", "port") for port in [":-1", ":65536", ":99999", ":80abc", ": 80", ":", ":080", ":http", ""]],
    (ADMIN, "9600", "port"), (ADMIN, ":9600", "port"), (ADMIN, "unix:admin", "slash"), (ADMIN, "", "port"), (ADMIN, "OFF", "port"),
    *[(ORIGIN, [value], why) for value, why in [
        ("https://10.0.0.256", "IPv4"), ("https://hub.example/live", "ends behind"), ("https://u:p@hub.example", "user name"),
        ("https://bücher.example", "punycode"), ("https://hub.example:80abc", "port"), ("https://hub.example:99999", "port"),
        ("https://*.example", "no host name"), ("*", "scheme"), ("null", "scheme"), ("", "scheme"), ("hub.example", "scheme")]],
    *[(PATH, value, "path") for value in ["live", "", "/live?a=b", "/live#a"]],
]
RIGHT = [
    *[(where, value) for where in (UDP_BIND, WS_BIND)
      for value in ["127.0.0.1", "::1", "0::1", "::FFFF:127.0.0.1", "0.0.0.0", "::", "0:0:0:0:0:0:0:1"]],
    (WS_BIND, ""), (WS_BIND, "fe80::1%nosuch0"),
    *[(("udp_input", "multicast"), value) for value in ["239.1.2.3", "ff02::1", "FF02:0:0::1", ["239.1.2.3", "239.1.2.4"]]],
    *[(("udp_input", "allow"), value) for value in ["::ffff:10.0.0.0/104", "0::1", "2001:DB8::/32", "0.0.0.0/0", "::/0"]],
    *[(ADMIN, value) for value in ["localhost:0", "LOCALHOST.:0", "[0::1]:0", "[::FFFF:127.0.0.1]:0", "127.0.0.1:65535", "off",
                                   "[fe80::1%nosuch0]:1"]],
    *[(ORIGIN, [value]) for value in ["https://hub.example:443", "HTTPS://Hub.Example/", "http://[0::1]:3000", "app://id"]],
    *[(PATH, value) for value in ["/a b", "/%zz", "/ä", "/a%3Fb"]],
]


def checked(command, where, value):
    config, pointer = with_option(where, value)
    done = command("check", "-", input=json.dumps(config))
    return done, pointer


def test_check_refuses(command):
    """Place, reason and what is right: nothing that start would only find when it opens its sockets."""
    odd = []
    for where, value, why in WRONG:
        done, pointer = checked(command, where, value)
        told = [line for line in done.stderr.splitlines() if line.startswith("error")]
        if done.returncode != 78 or len(told) != 1 or pointer not in told[0] or why not in told[0]:
            odd.append((where, value, why, done.returncode, done.stderr))
    assert not odd


def test_check_takes(command):
    odd = []
    for where, value in RIGHT:
        done, _ = checked(command, where, value)
        if done.returncode != 0:
            odd.append((where, value, done.stderr))
    assert not odd


@pytest.mark.parametrize("where, value", [
    (UDP_BIND, "0::1"), (UDP_BIND, "::FFFF:127.0.0.1"), (WS_BIND, "0:0::1"), (WS_BIND, "::FFFF:127.0.0.1"),
    (ADMIN, "LOCALHOST.:0"), (ADMIN, "[0::1]:0"), (ADMIN, "[::FFFF:127.0.0.1]:0")])
def test_start_takes_every_form(start, where, value):
    config, _ = with_option(where, value)
    assert start(config).terminate() == 0
