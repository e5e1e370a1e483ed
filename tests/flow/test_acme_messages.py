# SPDX-License-Identifier: MIT
"""What operators are told when certificates do not come: the guide's troubleshooting cases, by the words it uses."""

import json
import re
import socket

import pytest
from acmelib import NAME, acme, cas, hub, pki, until  # noqa: F401
from conftest import TREE, unused_port
from pki import Pki


@pytest.fixture(scope="module")
def pebble(tmp_path_factory, pki):
    import contextlib
    from acmelib import Cas
    with contextlib.ExitStack() as stack:
        yield Cas(tmp_path_factory.mktemp("pebble"), pki, stack).pebble()


@pytest.fixture
def issue(command, pebble, tmp_path):
    """issue(name=value of the acme object, ...) -> what "cert issue" says; it must fail."""

    def run(expected=1, **changes):
        options = acme(pebble, tmp_path / "acme", order_timeout="10s", **changes)
        options.update(changes)
        file = tmp_path / "config.json"
        file.write_text(json.dumps(hub(options, unused_port(socket.SOCK_STREAM))))
        done = command("cert", "issue", "--config", file)
        assert done.returncode == expected, done.stderr
        return done.stderr

    return run


def test_no_such_host(issue):
    said = issue(75, directory_url="https://step-ca.invalid:9000/acme/acme/directory")
    assert re.search(r"failed to connect to ACME server: host step-ca\.invalid cannot be resolved", said)


def test_nobody_at_the_port(issue):
    said = issue(75, directory_url=f"https://localhost:{unused_port(socket.SOCK_STREAM)}/dir")
    assert re.search(r"failed to connect to ACME server: connection refused", said)


def test_wrong_ca_bundle(issue, tmp_path):
    said = issue(75, ca_bundle=Pki(tmp_path / "other", cn="Another Root").ca_file)
    assert "certificate signed by unknown authority: set ca_bundle to the root certificate of the CA" in said


def test_ca_bundle_of_the_same_name(issue, tmp_path):
    """A root that was made anew: its name is the same, its key is not."""
    assert "certificate signed by unknown authority" in issue(75, ca_bundle=Pki(tmp_path / "other").ca_file)


def test_wrong_host_name(issue, pebble):
    said = issue(75, directory_url=f"https://127.0.0.1:{pebble.port}/dir")
    assert "the CA's certificate is not valid for host 127.0.0.1 (hostname mismatch)" in said


def test_wrong_path(issue, pebble):
    said = issue(directory_url=f"{pebble.origin}/acme/nobody/directory")
    assert re.search(r"account registration failed: the CA has nothing at https://\S+/acme/nobody/directory \(HTTP status 404\)", said)


def test_a_query_is_not_shown(issue, command, pebble, tmp_path):
    """What stands behind the ? of directory_url may be a token."""
    url = f"{pebble.origin}/acme/nobody/directory?token=SECRET"
    said = issue(directory_url=url)
    assert "the CA has nothing at " in said and "/acme/nobody/directory?..." in said and "SECRET" not in said
    file = tmp_path / "status.json"
    file.write_text(json.dumps(hub(acme(pebble, tmp_path / "status", directory_url=url), 8080)))
    for options in ([], ["--json"]):
        done = command("cert", "status", "--config", file, *options)
        assert "/acme/nobody/directory?..." in done.stdout and "SECRET" not in done.stdout + done.stderr


def test_no_acme_there(issue, pebble):
    """A port that speaks TLS and HTTP, but is no ACME server: Pebble's management, whose /roots/0 is a certificate."""
    said = issue(directory_url=f"https://localhost:{pebble.management}/roots/0")
    assert "the CA's directory is not JSON" in said and "check directory_url" in said


def test_port_in_use(issue, pebble):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", pebble.http_port))
        other.listen()
        with pytest.raises(AssertionError) as told:
            issue()  # 1 or 75
    said = str(told.value)
    assert "HTTP-01 challenge failed" in said
    assert f"port {pebble.http_port} of 127.0.0.1 is in use by another program" in said


@pytest.mark.parametrize("challenge, words", [("http-01", "HTTP-01"), ("tls-alpn-01", "TLS-ALPN-01")])
def test_name_leads_elsewhere(issue, pebble, challenge, words):
    """The CA asks another machine."""
    pebble.know("elsewhere.local", "127.9.9.9")
    said = issue(domains=["elsewhere.local"], challenge_type=challenge)
    assert f"{words} challenge failed: challenge validation failed" in said and "elsewhere.local" in said


@pytest.mark.parametrize("change, pointer, text", [
    ({"email": "nobody"}, "email", "e-mail address"),
    ({"directory_url": "http://step-ca.local/dir"}, "directory_url", "must be https"),
    ({"domains": []}, "domains", "array of names"),
    ({"domains": ["*.semstreams.local"]}, "domains/0", "wildcard"),
    ({"domains": ["a.test", "10.0.0.256"]}, "domains/1", "is not an IPv4 address, which is four numbers from 0 to 255"),
    ({"domains": ["1.2.3"]}, "domains/0", "is not an IPv4 address"),
    ({"domains": ["bücher.test"]}, "domains/0", "write its punycode form, xn--bcher-kva.test"),
    ({"domains": ["::1", "0:0::1"]}, "domains/1", "is listed twice"),
    ({"directory_url": "https://step-ca.local:99999/dir"}, "directory_url", "has the port 99999; ports are 1 to 65535"),
    ({"directory_url": "https://10.0.0.256/dir"}, "directory_url", 'has the host "10.0.0.256", which is not an IPv4'),
    ({"challenge_type": "dns-01"}, "challenge_type", "tls-alpn-01"),
    ({"renew_before": 8}, "renew_before", ""),
    ({"storage_pth": "/data"}, "storage_pth", 'did you mean "storage_path"'),
])
def test_wrong_settings(command, pebble, tmp_path, change, pointer, text):
    """Told with line, column and place, before anything is asked."""
    options = {**acme(pebble, tmp_path / "acme"), **change}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(hub(options, 8080), indent=2))
    done = command("check", file)
    assert done.returncode == 78
    assert re.search(rf"^error .*config\.json:\d+:\d+ /security/tls/server/acme/{pointer}\b.*{re.escape(text)}", done.stderr,
                     re.M), done.stderr


@pytest.mark.parametrize("field", ["directory_url", "email", "domains", "storage_path"])
def test_missing_settings(command, pebble, tmp_path, field):
    options = acme(pebble, tmp_path / "acme")
    del options[field]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(hub(options, 8080)))
    done = command("check", file)
    assert done.returncode == 78 and f'"{field}"' in done.stderr.replace(field, f'"{field}"')


def test_words_of_the_guide():
    """Each message that docs/acme.md explains is one the program has."""
    table = (TREE / "docs" / "acme.md").read_text().split("## What the messages mean")[1].split("\n## ")[0]
    sources = "".join(re.sub(r'"\s*\n?\s*"', "", f.read_text())
                      for folder in ("plugins/acme_tls", "plugins/identity", "sdk/ext", "core") for f in (TREE / folder).rglob("*.c"))
    sources = sources.replace("set %s to the root", "set ca_bundle to the root")  # what the option is called elsewhere differs
    for cell in re.findall(r"^\| (`.*?`) \|", table, re.M):
        for message in re.findall(r"`([^`]+)`", cell):
            for part in re.split(r"\.\.\.|\b(?:port 80|step-ca\.local|10\.0 s)\b", message):
                part = part.strip(" :,")
                assert len(part) < 4 or part in sources or part in ("HTTP-01 challenge failed",), part
