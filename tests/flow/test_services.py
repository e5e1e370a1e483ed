# SPDX-License-Identifier: MIT
"""What a service manager sees: systemd's unit, sd_notify(3), the watchdog, the journal, credentials.

Sockets of the manager and of the journal are the test's; the program is real.
"""

import concurrent.futures
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, TREE, Program
from flowlib import free_disk, generate, pipeline, storage, tools, udp
from pki import Pki
from test_faulty_plugins import faulty, plugins
from test_shutdown import holding, next_notification

FIXTURES = (generate, tools, faulty, plugins)  # used by name

UNIT = TREE / "packaging" / "systemd" / "semstreams.service.in"


# ---- the unit ------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path):
    """The unit as it is installed."""
    file = tmp_path / "semstreams.service"
    file.write_text(UNIT.read_text().replace("@bindir@", "/usr/bin").replace("@sysconfdir@", "/etc"))
    return file


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_exposure(unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", unit], capture_output=True,
                          text=True)
    level = re.search(r"exposure level for \S+ (\d+\.\d+)", done.stdout)
    assert done.returncode == 0 and float(level[1]) <= 2.0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_unit_is_understood(unit):
    """Whatever this version says is about files that are not installed, or the type that 252 does not know."""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if unit.name in line and not re.search(
        r"ignoring: notify-reload|is not executable", line)] == []


def settings():
    found = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.M):
        found.setdefault(name, []).append(value)
    return found


def test_unit_says():
    found = settings()
    assert found["Type"] == ["notify", "notify-reload"]  # the one that is known last counts
    assert found["ExecReload"] == ["kill -HUP $MAINPID"] and found["WatchdogSec"] == ["30s"]
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]


# ---- sd_notify -----------------------------------------------------------------------------------------------


def test_reload_is_told(start):
    """In the order and with the time that notify-reload asks for."""
    program = start(pipeline(udp(), storage()))
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    del program.notified[:]
    program.signal(signal.SIGHUP)
    program.wait_notified("READY=1")
    told = [line for line in program.notified if not line.startswith("STATUS=")]
    assert told[0] == "RELOADING=1" and told[-1] == "READY=1"
    stamp = next(line for line in told if line.startswith("MONOTONIC_USEC="))
    assert before * 1e6 - 1 <= int(stamp.partition("=")[2]) <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6


def test_time_for_draining(start, generate):
    """Asked for again and again while events are left, and how many these are."""
    program, _, _ = holding(start, generate)
    program.signal(signal.SIGTERM)
    program.wait_notified("STOPPING=1")
    extension = "EXTEND_TIMEOUT_USEC=15000000"
    for _ in range(3):
        next_notification(program, extension)
    assert any(re.fullmatch(r"STATUS=draining, [1-9]\d* events left", line) for line in program.notified)
    free_disk(program)
    assert program.wait() == 0


def test_status_tells_troubles(start, generate):
    program, _, _ = holding(start, generate)
    program.wait_for(lambda: program._next_notification(time.monotonic() + PATIENCE) and any(
        line.startswith("STATUS=running, but file: ") for line in program.notified))
    free_disk(program)
    next_notification(program, "STATUS=running")


def test_a_failed_reload_comes_first(start, generate):
    """Whoever reloads sees in the status that it was not accepted, whatever else is wrong meanwhile."""
    program, config, _ = holding(start, generate)

    def told(prefix):
        program.wait_for(lambda: program._next_notification(time.monotonic() + PATIENCE) and any(
            line.startswith(prefix) for line in program.notified), what=prefix)

    told("STATUS=running, but file: ")
    file = program.folder / "config.json"
    good = file.read_text()
    file.write_text(good.replace('"storage"', '"sotrage"'))
    program.signal(signal.SIGHUP)
    told("STATUS=running, but configuration: the changed configuration cannot be used, ")
    assert program.notified[-1].endswith("; and 1 more"), program.notified
    file.write_text(good)
    del program.notified[:]
    program.signal(signal.SIGHUP)
    told("STATUS=running, but file: ")
    assert not any("configuration:" in line for line in program.notified)
    free_disk(program)


# ---- the watchdog --------------------------------------------------------------------------------------------


def supervise(program, seconds):
    """As a manager: SIGABRT if it is not fed for that long; how often it was."""
    fed, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([program._notify], [], [], max(0, deadline - time.monotonic()))[0]:
            if b"WATCHDOG=1" in program._notify.recv(4096):
                fed, deadline = fed + 1, time.monotonic() + seconds
    program.signal(signal.SIGABRT)
    return fed


def test_blocked_loop_is_not_fed(start, faulty, monkeypatch):
    """One loop of several that hangs is enough, and the log has said which component and where before the end."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    program = faulty("hang", storage())
    program.wait_log(r"ERROR Component does not return from a callback callback=process seconds=\d+ component=bad$")
    program.wait_log(r"ERROR A loop is blocked, .* watchdog is not fed .* watchdog_s=1$")
    supervise(program, 3)
    assert program.wait() == -signal.SIGABRT


def test_feeding_goes_on(faulty, monkeypatch):
    """After a callback that returned late."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    program = faulty("block", storage())
    program.wait_log("watchdog is not fed")
    program.wait_log("Component has returned from its callback component=bad$")
    while select.select([program._notify], [], [], 0)[0]:
        program._notify.recv(4096)
    for _ in range(3):
        next_notification(program, "WATCHDOG=1")
    assert program.terminate() == 0


# ---- the journal ---------------------------------------------------------------------------------------------


class JournalProgram(Program):
    """A program whose standard error is the journal's, in a mount namespace where /run is the test's."""

    def __init__(self, binary, folder, config, args=(), env=None):
        self.journal_folder = Path(folder) / "j"
        self.journal_folder.mkdir()
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.journal.bind(str(self.journal_folder / "socket"))
        self.journal.settimeout(PATIENCE)
        self.stderr, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stderr.settimeout(PATIENCE)
        super().__init__(binary, folder, config, args, env)
        self.theirs.close()

    def _spawn(self, command, env, log):
        st = os.fstat(self.theirs.fileno())
        inner = ('mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && '
                 'exec "$@"')
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        return subprocess.Popen(["unshare", *as_root, "--mount", "sh", "-c", inner, str(self.journal_folder), *command],
                                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=self.theirs,
                                env={**os.environ, **env, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})

    def entry(self, message):
        """The next one whose MESSAGE begins like this, as a dict."""
        while True:
            fields = parse(self.journal.recv(1 << 20))
            if fields["MESSAGE"].startswith(message):
                return fields

    def close(self):
        super().close()
        self.journal.close()
        self.stderr.close()


def parse(entry):
    """An entry of the journal's native protocol."""
    fields = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size, = struct.unpack("<Q", entry[:8])
            value, entry = entry[8:8 + size], entry[8 + size + 1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journaled(semstreams, tmp_path):
    may = subprocess.run(["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount", "true"])
    if may.returncode != 0:
        pytest.skip("no mount namespace of its own")
    programs = []

    def run(config, *args):
        programs.append(JournalProgram(semstreams, tmp_path, config, args))
        return programs[-1].wait_ready()

    yield run
    for program in programs:
        program.close()


def test_journal_has_fields(journaled, udp_port):
    program = journaled(pipeline(udp(port=udp_port), storage()))
    entry = program.entry("UDP input listening")
    assert entry["PRIORITY"] == "6" and entry["SYSLOG_IDENTIFIER"] == "semstreams"
    assert entry["SEMSTREAMS_COMPONENT"] == "udp" and entry["SEMSTREAMS_PLUGIN"] == "udp_input"
    assert entry["SEMSTREAMS_PORT"] == str(udp_port)
    assert re.fullmatch("[0-9a-f]{32}", entry["MESSAGE_ID"])
    assert f" port={udp_port} " in entry["MESSAGE"] and entry["MESSAGE"].endswith(" component=udp")
    program.signal(signal.SIGTERM)
    first, second = program.entry("Component stopped"), program.entry("Component stopped")
    assert first["MESSAGE_ID"] == second["MESSAGE_ID"] != entry["MESSAGE_ID"]
    assert {first["SEMSTREAMS_PLUGIN"], second["SEMSTREAMS_PLUGIN"]} == {"udp_input", "storage"}
    assert program.wait() == 0
    assert program.stderr.recv(1 << 16) == b""  # nothing twice


def test_lines_where_they_are_asked_for(journaled):
    program = journaled(pipeline(udp(), storage(), log={"format": "json"}))
    line = program.stderr.recv(1 << 16).decode().splitlines()[0]
    assert line.startswith("<6>{") and json.loads(line[3:])["message"] == "Starting semstreams"


def test_journal_that_is_away(journaled):
    """Nothing is lost: what the journal does not take goes to standard error, whose lines the journal reads as well."""
    program = journaled(pipeline(udp(), storage()))
    program.entry("Pipeline running")
    (program.journal_folder / "socket").unlink()
    program.journal.close()
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    with program.stderr.makefile() as lines:
        assert re.search(r"^<6>Shutting down signal=TERM$", lines.read(), re.M)


def test_journal_that_hangs(journaled):
    """It is waited for once, not with each line while the log's lock is held: that would be more than ten seconds."""
    inputs = [udp(f"udp{i}") for i in range(60)]
    program = journaled(pipeline(*inputs, storage(inputs=[i["id"] for i in inputs])))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                filler.sendto(b"MESSAGE=x\n", str(program.journal_folder / "socket"))
    with concurrent.futures.ThreadPoolExecutor() as pool, program.stderr.makefile() as lines:
        text, began = pool.submit(lines.read), time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.wait() == 0 and time.monotonic() - began < 10
        assert text.result().count("<6>Component stopped") == len(inputs) + 1


# ---- credentials ---------------------------------------------------------------------------------------------


def test_credentials(start, tmp_path, tmp_path_factory):
    """A key is a file of that folder, other texts are what is in one."""
    folder = tmp_path_factory.mktemp("credentials")
    leaf = Pki(tmp_path).location("a").leaf("localhost")
    shutil.copy(leaf.key, folder / "edge.key")
    (folder / "edge.key").chmod(0o400)
    (folder / "address").write_text("127.0.0.1:0\n")
    tls = {"enabled": True, "cert_file": str(leaf.cert), "key_file": {"credential": "edge.key"}}
    ws = {"id": "ws", "type": "websocket_output", "config": {"port": 0, "path": "/x"}}
    program = start(pipeline(udp(), ws, security={"tls": {"server": tls}}, admin={"listen": {"credential": "address"}}),
                    env={"CREDENTIALS_DIRECTORY": str(folder)})
    assert program.get("/readyz")[0] == 200
    program.signal(signal.SIGHUP)  # the sandbox leaves it readable
    next_notification(program, "READY=1")
    assert "WARN" not in program.log() and "ERROR" not in program.log()


def test_errors_of_credentials(command, tmp_path, monkeypatch):
    config = tmp_path / "c.json"
    config.write_text('{"components": [{"id": "udp", "type": "udp_input"}],\n'
                      ' "security": {"tls": {"server": {"enabled": true, "cert_file": "a.crt",\n'
                      '  "key_file": {"credential": "edge.key"}}}}}')
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    done = command("check", config)
    assert done.returncode == 78
    assert re.search(r"error \S+c\.json:3:\d+ .*CREDENTIALS_DIRECTORY is not set; add LoadCredential=edge\.key:PATH", done.stderr)
    config.write_text(config.read_text().replace("edge.key", "../key"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert re.search(r"error \S+c\.json:3:\d+ .*expected the name of a credential", command("check", config).stderr)
