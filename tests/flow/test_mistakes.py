# SPDX-License-Identifier: MIT
"""docs/troubleshooting.md: each mistake is made, and what the program and the doctor print is what the table says.

A row shows a port as 8443, a folder as /data and a time as TIME; what was printed is written like that before it is compared.
"""

import json
import os
import re
import socket
import subprocess

import pytest
from conftest import PATIENCE, TREE, Program, unused_port
from flowlib import fill, pipeline, small_disk, storage, udp
from pki import Pki
from test_doctor import Peer, acme, dialer, http, tls

FIXTURES = (small_disk,)  # used by name
COLUMNS = ["the mistake", "the program prints", "because", "remedy", "the doctor finds"]


def table():
    """{mistake: {column: text}}"""
    rows = {}
    for line in (TREE / "docs" / "troubleshooting.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0] and not cells[0].startswith("--"):
            rows[cells[0]] = dict(zip(COLUMNS, cells))
    return rows


class Mistake:
    """A configuration that is wrong, and how what is printed of it is shown."""

    def __init__(self, config, port=None, folder=None, unprivileged=False, act=None):
        self.config, self.port, self.folder, self.unprivileged, self.act = config, port, folder, unprivileged, act

    def argv(self, *argv):
        if self.unprivileged and os.geteuid() == 0:
            return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *map(str, argv)]
        return [*map(str, argv)]

    def shown(self, text):
        if self.port:
            text = re.sub(rf"\b{self.port}\b", "8443", text)
        if self.folder:
            text = text.replace(str(self.folder), "/data")
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", text)
        text = re.sub(r"in use by \S+, process \d+", "in use by nc, process 4711", text)
        return re.sub(r"user id \d+ (may not.*belongs to user id) \d+", r"user id 999 \1 0", text)


@pytest.fixture
def make(tmp_path, request):
    """make(mistake) -> Mistake"""
    pki = Pki(tmp_path / "pki")
    free = unused_port(socket.SOCK_STREAM)

    def peer(leaf):
        made = Peer(http(426), tls(leaf))
        request.addfinalizer(made.close)
        return made.port

    def wrong_port():
        return Mistake(dialer(f"ws://127.0.0.1:{free}/edge-data"), port=free)

    def port_in_use():
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        request.addfinalizer(taken.close)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        return Mistake(pipeline(udp(port=port), storage(), admin={"listen": "off"}), port=port)

    def no_permission():
        folder = tmp_path / "data"
        folder.mkdir(mode=0o500)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        return Mistake(pipeline(udp(), storage(path=str(folder / "events.jsonl")), admin={"listen": "off"}), folder=folder,
                       unprivileged=True)

    def no_ca_file():
        return Mistake(dialer("wss://localhost:8443/edge-data", ca_files=[str(tmp_path / "root.crt")]), folder=tmp_path)

    def clock():
        port = peer(pki.root.leaf("localhost", days=(1, 3)))
        return Mistake(dialer(f"wss://localhost:{port}/edge-data", ca_files=[pki.ca_file]), port=port)

    def other_ca():
        port = peer(Pki(tmp_path / "other", "Another Root").root.leaf("localhost"))
        return Mistake(dialer(f"wss://localhost:{port}/edge-data", ca_files=[pki.ca_file]), port=port)

    def dns():
        return Mistake(dialer("ws://hub.invalid:8443/edge-data"))

    def ca_down():
        return Mistake(acme(f"https://localhost:{free}/directory", tmp_path, pki.ca_file), port=free)

    def disk_full():
        folder = request.getfixturevalue("small_disk")
        fill(folder)
        return Mistake(pipeline(udp(), storage(path=str(folder / "events.jsonl")), admin={"listen": "off"}), folder=folder,
                       act=send_one)

    return {"wrong port": wrong_port, "port in use": port_in_use, "no permission": no_permission, "CA file missing": no_ca_file,
            "clock off by a day": clock, "root of another CA": other_ca, "name unknown to the DNS": dns, "CA down": ca_down,
            "disk full": disk_full}


def send_one(program):
    port = int(program.wait_log(r"UDP input listening .*?port=(\d+)")[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b'{"seq":1}', ("127.0.0.1", port))


class Wrapped(Program):
    """A host that may run without the rights of root."""

    def __init__(self, mistake, semstreams, folder):
        self.mistake = mistake
        super().__init__(semstreams, folder, mistake.config)

    def _spawn(self, command, env, log):
        return super()._spawn(self.mistake.argv(*command), env, log)


def test_table():
    """Each row is made below, and says something in each column."""
    rows = table()
    assert set(rows) == set(MISTAKES)
    assert all(all(row.values()) for row in rows.values())


MISTAKES = ["wrong port", "port in use", "no permission", "CA file missing", "clock off by a day", "root of another CA",
            "name unknown to the DNS", "CA down", "disk full"]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name, make, semstreams, tmp_path):
    mistake = make[name]()
    row = table()[name]
    printed, found = (re.findall(r"`([^`]+)`", row[column])[0] for column in ("the program prints", "the doctor finds"))
    folder = tmp_path / "host"
    folder.mkdir()
    program = Wrapped(mistake, semstreams, folder)
    try:
        if mistake.act:
            mistake.act(program)
        program.wait_for(lambda: printed in mistake.shown(program.log()), what=printed)
    finally:
        program.close()
    done = subprocess.run(mistake.argv(semstreams, "doctor", "--json", program.config_file), cwd=folder, capture_output=True,
                          stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    problems = [f for f in json.loads(done.stdout)["findings"] if f["level"] == "problem"]
    texts = [mistake.shown(f["text"]) for f in problems]
    assert any(found in text for text in texts), texts
    assert all(f["remedy"] for f in problems)


def test_commands_of_the_page(semstreams, tmp_path):
    """Each command of semstreams that the page names does what it says: on a configuration that is right, it finds nothing wrong."""
    (tmp_path / "good.json").write_text(json.dumps(pipeline(udp(), storage(), admin={"listen": "off"})))
    page = (TREE / "docs" / "troubleshooting.md").read_text()
    commands = sorted(set(re.findall(r"`semstreams ([^`]+)`", page)))
    assert {"check FILE", "check --connect FILE", "doctor FILE", "cert issue"} <= set(commands)
    for command in commands:
        words = ["help", "cert"] if command == "cert issue" else command.replace("FILE", "good.json").split()
        done = subprocess.run([semstreams, *words], cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, text=True,
                              timeout=PATIENCE)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert command != "cert issue" or "issue" in done.stdout
    options = set(re.findall(r"`(--[a-z]+)`", page))
    help_text = subprocess.run([semstreams, "help", "doctor"], capture_output=True, text=True, timeout=PATIENCE).stdout
    assert options and all(option in help_text for option in options)
