# SPDX-License-Identifier: MIT
"""The example plugin mavlink, built outside the tree: vehicle, edge, link with mutual TLS, hub, ground station, and back.

Vehicle and station speak MAVLink by mavlib, which knows nothing of the plugin.
"""

import base64
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time

import mavlib
import pytest
from conftest import Program, assert_conserved, unused_port, whole_lines
from flowlib import udp_port
from pki import Pki
from test_udp_output import Station, station

FIXTURES = (station,)  # used by name
pytestmark = pytest.mark.xdist_group("mavlink")  # built once

HEARTBEAT = {"custom_mode": 4, "type": 2, "autopilot": 3, "base_mode": 81, "system_status": 4, "mavlink_version": 3}
EPOCH = 1420070400  # 2015


@pytest.fixture(scope="module")
def package(tree, tmp_path_factory):
    """A copy of the example, configured and built with what is installed, without a warning."""
    for tool in ("autoreconf", "libtoolize", "make", "pkg-config"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    if subprocess.run(["pkg-config", "--exists", "semstreams", "libcrypto", "jansson"]).returncode:
        pytest.skip("pkg-config does not find semstreams, libcrypto or jansson")
    folder = tmp_path_factory.mktemp("stranger") / "mavlink"
    shutil.copytree(tree / "examples" / "plugin" / "mavlink", folder)
    folder.chmod(0o755)
    flags = "-O1 -g -Wall -Wextra -Wpedantic -Wshadow -Werror"
    for command in (["autoreconf", "-fi"], ["./configure", f"--with-plugindir={folder}/plugins"],
                    ["make", f"CFLAGS={flags}", "all", "test_mavlink"], ["make", "install"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-4000:])
    return folder


@pytest.fixture
def programs(semstreams, tmp_path, package):
    """programs(name, components, **more) -> Program with the plugin, in a folder of its own; all end with the test."""
    started = []

    def run(name, components, **more):
        folder = tmp_path / name
        folder.mkdir()
        program = Program(semstreams, folder, {"plugins": {"paths": [str(package / "plugins")]}, "components": components, **more})
        started.append(program)
        return program.wait_ready()

    yield run
    for program in started:
        program.close()


def source(name="vehicles"):
    return {"id": name, "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}}


def mavlink(name, mode, inputs=None, **config):
    return {"id": name, "type": "mavlink", "config": {"mode": mode, **config}, **({"inputs": inputs} if inputs else {})}


def sink(name, port):
    return {"id": name, "type": "udp_output", "config": {"address": "127.0.0.1", "port": port}}


def refused(*inputs):
    return {"id": "refused", "type": "storage", "inputs": [f"{name}.error" for name in inputs],
            "config": {"path": "refused.jsonl", "format": "envelope"}}


def letters(program):
    """What was refused: [(reason, component, bytes)]."""
    got = []
    for line in whole_lines(program.folder / "refused.jsonl"):
        letter = json.loads(line)
        data = base64.b64decode(letter["base64"]) if "base64" in letter else None
        got.append((letter["attributes"]["error"], letter["attributes"]["component"], data))
    return got


@pytest.fixture
def key(tmp_path):
    """(file, bytes) of a key for signatures."""
    file, value = tmp_path / "mavlink.key", secrets.token_bytes(32)
    file.write_text(value.hex() + "\n")
    file.chmod(0o600)
    return file, value


def now():
    return int((time.time() - EPOCH) * 1e5)


# ---- the package -------------------------------------------------------------------------------------------


def test_its_own_tests_pass(package):
    done = subprocess.run(["make", "check"], cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, (package / "test-suite.log").read_text()
    assert re.search(r"^# PASS: +[1-9]", done.stdout, re.M), done.stdout


def test_it_is_listed_and_described(package, command):
    listed = command("plugins", "list", "--plugins", package / "plugins")
    assert re.search(rf"^mavlink .*{re.escape(str(package))}/plugins/mavlink\.so", listed.stdout, re.M), listed
    said = command("plugins", "describe", "mavlink", "--plugins", package / "plugins")
    assert said.returncode == 0 and "accept_unsigned" in said.stdout


@pytest.mark.parametrize("mode", ["decode", "encode"])
def test_it_keeps_to_the_rules(package, command, mode):
    done = command("plugins", "check", package / "plugins" / "mavlink.so", "--option", f"mode={mode}")
    assert done.returncode == 0 and "ok, 0 breaches" in done.stdout, done.stdout + done.stderr


def test_another_dialect(package, tmp_path):
    """A definition with an include, from another folder; its tables compile, and what is wrong in it is said."""
    (tmp_path / "all.xml").write_text('<mavlink><include>part.xml</include><messages><message id="9000" name="OWN">'
                                      '<field type="double[2]" name="d"/><field type="char" name="c"/></message></messages></mavlink>')
    part = tmp_path / "part.xml"
    shutil.copy(package / "common.xml", part)
    made = subprocess.run(["python3", "-B", package / "dialect.py", tmp_path / "all.xml"], capture_output=True, text=True, check=True)
    assert '"OWN"' in made.stdout and '"HEARTBEAT", 50, 9, 9' in made.stdout
    (tmp_path / "dialect.c").write_text(made.stdout)
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", package,
                    tmp_path / "dialect.c"], check=True)
    part.write_text('<mavlink><messages><message id="1" name="X"><field type="uint9_t" name="a"/></message></messages></mavlink>')
    wrong = subprocess.run(["python3", "-B", package / "dialect.py", tmp_path / "all.xml"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "uint9_t" in wrong.stderr and not wrong.stdout


def test_examples_of_the_page(package, command, tmp_path):
    pki = Pki(tmp_path / "made")
    files = tmp_path / "pki"
    files.mkdir()
    shutil.copy(pki.ca_file, files / "root.crt")
    for name in ("edge", "hub"):
        leaf = pki.location(name).leaf(f"{name}.test")
        shutil.copy(leaf.cert, files / f"{name}.crt")
        shutil.copy(leaf.key, files / f"{name}.key")
    page = (package / "README.md").read_text()
    whole = [block for block in re.findall(r"```json\n(.*?)```", page, re.S) if '"components"' in block]
    assert len(whole) == 2
    for block in whole:
        config = json.loads(block)
        config["plugins"] = {"paths": [str(package / "plugins")]}
        file = tmp_path / "page.json"
        file.write_text(json.dumps(config))
        done = command("check", file, env={**os.environ, "PKI": str(files)})
        assert done.returncode == 0, done.stdout + done.stderr


# ---- the federation ----------------------------------------------------------------------------------------


class Federation:
    """A vehicle and an edge, a hub and a ground station, with a link over mutual TLS for each direction."""

    def __init__(self, programs, folder, key_file, **commands):
        pki = Pki(folder / "pki")
        leaves = {name: pki.location(name).leaf(f"{name}.test", sans=[f"{name}.test", "localhost"]) for name in ("edge", "hub")}
        telemetry, back = unused_port(socket.SOCK_STREAM), unused_port(socket.SOCK_STREAM)
        self.vehicle, self.station = Station(), Station()
        self.hub = programs("hub", [
            {"id": "from-edge", "type": "websocket_input", "config": {"port": telemetry, "bind": "127.0.0.1", "path": "/telemetry"}},
            mavlink("encode", "encode", allow="all"), sink("station", self.station.port),
            source("from-station"), mavlink("decode", "decode"),
            {"id": "to-edge", "type": "websocket_output", "config": {"port": back, "bind": "127.0.0.1", "path": "/commands"}},
            refused("encode", "decode"),
        ], security={"tls": {"server": {
            "enabled": True, "mode": "manual", **leaves["hub"].settings(),
            "mtls": {"enabled": True, "client_ca_files": [pki.ca_file], "require_client_cert": True,
                     "allowed_client_cns": ["edge.test"]}}}})
        self.edge = programs("edge", [
            source(), mavlink("decode", "decode", key_file=str(key_file), accept_unsigned=True),
            {"id": "to-hub", "type": "websocket_output", "config": {"url": f"wss://localhost:{telemetry}/telemetry"}},
            {"id": "from-hub", "type": "websocket_input", "config": {"url": f"wss://localhost:{back}/commands"}},
            mavlink("commands", "encode", **commands), sink("to-vehicle", self.vehicle.port),
            refused("decode", "commands"),
        ], security={"tls": {"client": {
            "mode": "manual", "ca_files": [pki.ca_file], "mtls": {"enabled": True, **leaves["edge"].settings()}}}})

    def close(self):
        self.vehicle.close()
        self.station.close()


@pytest.fixture
def federation(programs, tmp_path, key):
    made = []

    def make(**commands):
        made.append(Federation(programs, tmp_path, key[0], **commands))
        return made[0]

    yield make
    for f in made:
        f.close()


def flight(key):
    """Frames of a vehicle in two versions, signed and not, whole and cut, with all kinds of values."""
    frames = []
    for i in range(60):
        frames += [mavlib.frame("HEARTBEAT", HEARTBEAT, seq=i, version=1 + i % 2),
                   mavlib.frame("ATTITUDE", {"time_boot_ms": i, "roll": 0.1 * i, "pitch": -1e-20 * i, "yaw": float("nan"),
                                             "rollspeed": float("inf"), "yawspeed": -0.0}, seq=i, sysid=2),
                   mavlib.frame("GPS_RAW_INT", {"time_usec": 2**64 - 1 - i, "lat": -2**31, "lon": 2**31 - 1, "fix_type": 3, "yaw": i},
                                seq=i, cut=bool(i % 3)),
                   mavlib.frame("PARAM_VALUE", {"param_id": "WP_RADIUS_LONG_X", "param_value": i / 3, "param_type": 9}, seq=i),
                   mavlib.frame("STATUSTEXT", {"severity": i % 8, "text": f'Änderung "{i}"\n'}, compid=i),
                   mavlib.frame("TUNNEL", {"payload_length": i, "payload": bytes(range(i, i + 128))}, seq=i),
                   mavlib.frame("GLOBAL_POSITION_INT", {"lat": i, "vx": -i, "hdg": 65535}, seq=i, key=key, link=3, timestamp=now() + i)]
    return frames


def test_telemetry_arrives_as_it_was_sent(federation, key, send):
    f = federation()
    frames = flight(key[1])
    port, got = udp_port(f.edge, "vehicles"), []
    for i in range(0, len(frames), 21):
        part = frames[i:i + 21]
        send(port, *(b"".join(part[j:j + 3]) for j in range(0, 21, 3)))  # three to a datagram
        got += f.station.take(len(part))
    assert got == frames
    decoded = [mavlib.decode(frame) for frame in got]
    assert [d[:4] for d in decoded] == [mavlib.decode(frame)[:4] for frame in frames]
    assert {d[4]["lat"] for d in decoded if d[0] == "GLOBAL_POSITION_INT"} == set(range(60))
    for program, component in ((f.edge, "decode"), (f.hub, "encode")):
        metrics = program.wait_metric("semstreams_mavlink_frames_total", len(frames), component=component)
        assert metrics.sum("semstreams_mavlink_refused_total") == 0
        assert_conserved(metrics)
    assert f.edge.terminate() == 0 and f.hub.terminate() == 0
    assert f.station.nothing() and f.vehicle.nothing()


def test_only_what_is_allowed_goes_back(federation, send):
    f = federation(allow=["COMMAND_LONG", "PARAM_SET"])
    arm = mavlib.frame("COMMAND_LONG", {"command": 400, "target_system": 1, "target_component": 1, "param1": 1.0}, sysid=255, compid=190)
    ping = mavlib.frame("PING", {"seq": 1}, sysid=255, compid=190)
    tune = mavlib.frame("PARAM_SET", {"param_id": "RTL_ALT", "param_value": 30.5, "param_type": 9}, seq=2, sysid=255, version=1)
    send(udp_port(f.hub, "from-station"), arm, ping + tune)
    assert f.vehicle.take(2) == [arm, tune]
    f.edge.wait_for(lambda: letters(f.edge), what="the refused message")
    assert [(reason, component) for reason, component, _ in letters(f.edge)] == [("not_allowed", "commands")]
    assert f.edge.terminate() == 0
    assert f.vehicle.nothing()


def test_nothing_goes_back_by_default(federation, send):
    f = federation()
    send(udp_port(f.hub, "from-station"), mavlib.frame("COMMAND_LONG", {"command": 400, "param1": 1.0}), mavlib.frame("PING", {}))
    f.edge.wait_for(lambda: len(letters(f.edge)) == 2, what="refused messages")
    assert {reason for reason, _, _ in letters(f.edge)} == {"not_allowed"}
    assert "no message is allowed" in f.edge.log()
    assert f.edge.terminate() == 0
    assert f.vehicle.nothing()


# ---- at the edge alone -------------------------------------------------------------------------------------


def test_refused_frames_are_kept_with_the_reason(programs, station, key, send):
    program = programs("edge", [source(), mavlink("decode", "decode", key_file=str(key[0])), refused("decode"),
                                mavlink("encode", "encode", ["decode"], allow="all"), sink("out", station.port)])
    good = mavlib.frame("HEARTBEAT", HEARTBEAT, key=key[1], timestamp=now())
    bent = bytearray(mavlib.frame("PING", {"seq": 3}))
    bent[12] ^= 1
    unknown = bytearray(good)
    unknown[7:10] = b"\xff\xff\xff"
    wrong_key = mavlib.frame("HEARTBEAT", HEARTBEAT, key=bytes(32), timestamp=now())
    stale = mavlib.frame("HEARTBEAT", HEARTBEAT, sysid=9, key=key[1], timestamp=now() - 120 * 100000)
    unsigned = mavlib.frame("HEARTBEAT", HEARTBEAT)
    bad = [("bad_crc", bytes(bent)), ("unknown_message", bytes(unknown)), ("bad_signature", wrong_key), ("old_timestamp", good),
           ("old_timestamp", stale), ("unsigned", unsigned), ("no_frame", b"\0hello"), ("truncated", good[:20])]
    send(udp_port(program, "vehicles"), good, *(frame for _, frame in bad))
    assert station.take(1) == [good]
    program.wait_for(lambda: len(letters(program)) >= len(bad), what="refused frames")
    got = letters(program)
    assert [(reason, component) for reason, component, _ in got] == [(reason, "decode") for reason, _ in bad]
    assert [data for _, _, data in got if data is not None] == [frame for _, frame in bad if not is_text(frame)]
    assert_conserved(program.metrics())
    assert program.terminate() == 0
    assert key[1].hex() not in program.log()
    assert station.nothing()


def is_text(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_good_frames_come_out_of_bad_datagrams(programs, station, send):
    """Whether anybody reads what is refused or not; no event is counted twice or lost."""
    good = [mavlib.frame("PING", {"seq": i}) for i in range(4)]
    bent = good[0][:-1] + bytes([good[0][-1] ^ 1])
    datagrams = [b"\0" + good[0] + bent + b"\1" + good[1] + b"\2", bent + bent, good[2] + good[3][:5], bent + good[3]]
    for name, reader in (("read", [refused("decode")]), ("unread", [])):
        program = programs(name, [source(), mavlink("decode", "decode"), *reader, mavlink("encode", "encode", ["decode"], allow="all"),
                                  sink("out", station.port)])
        send(udp_port(program, "vehicles"), *datagrams)
        assert station.take(4) == good
        metrics = program.wait_metric("semstreams_mavlink_refused_total", 7, component="decode")
        assert metrics.sum("semstreams_mavlink_refused_total", reason="bad_crc") == 4
        assert metrics.sum("semstreams_mavlink_frames_total", component="decode") == 4
        assert metrics.sum("semstreams_events_dropped_total", component="decode") == (0 if reader else 1)
        assert program.terminate() == 0
        assert len(letters(program)) == (7 if reader else 0)


def test_two_vehicles_are_kept_apart_by_target(programs, station, send):
    other = Station()

    def way(number, port):
        where = {"field": "/fields/target_system", "op": "eq", "value": number}
        return [{"id": f"for-{number}", "type": "filter", "inputs": ["decode"], "config": {"where": where}},
                mavlink(f"encode-{number}", "encode", allow="all"), sink(f"vehicle-{number}", port)]

    program = programs("hub", [source(), mavlink("decode", "decode"), *way(1, station.port), *way(2, other.port)])
    frames = [mavlib.frame("COMMAND_LONG", {"command": 400, "target_system": 1 + i % 2, "param1": i}, seq=i) for i in range(6)]
    send(udp_port(program, "vehicles"), *frames)
    assert station.take(3) == frames[::2]
    assert other.take(3) == frames[1::2]
    assert program.terminate() == 0
    assert station.nothing() and other.nothing()
    other.close()


def test_rate_limits_by_message_and_vehicle(programs, station, send):
    program = programs("edge", [
        source(), mavlink("decode", "decode"),
        {"id": "calm", "type": "filter", "config": {"rate_limit": {"key": ["/sysid", "/msgid"], "events": 3, "per": "1h"}}},
        mavlink("encode", "encode", allow="all"), sink("out", station.port)])
    frames = [mavlib.frame(name, {}, seq=i, sysid=sysid) for i in range(10)
              for name, sysid in (("HEARTBEAT", 1), ("HEARTBEAT", 2), ("ATTITUDE", 1))]
    send(udp_port(program, "vehicles"), *frames)
    assert station.take(9) == frames[:9]
    metrics = program.wait_metric("semstreams_filter_suppressed_total", 21, reason="rate_limit")
    assert_conserved(metrics)
    assert program.terminate() == 0
    assert station.nothing()


def test_a_command_written_by_hand_is_signed(programs, station, key, send):
    program = programs("edge", [source("hand"), mavlink("sign", "encode", allow=["COMMAND_LONG"], key_file=str(key[0]), link=4),
                                sink("out", station.port)])
    fields = {f"param{i}": 0 for i in range(1, 8)}
    fields |= {"command": 400, "target_system": 1, "target_component": 1, "confirmation": 0, "param1": 1}
    send(udp_port(program, "hand"), json.dumps({"sysid": 255, "compid": 190, "name": "COMMAND_LONG", "fields": fields}))
    got = station.take(1)[0]
    stamp = int.from_bytes(got[-12:-6], "little")
    assert abs(stamp - now()) < 3600 * 100000
    assert got == mavlib.frame("COMMAND_LONG", {"command": 400, "target_system": 1, "target_component": 1, "param1": 1.0}, sysid=255,
                               compid=190, key=key[1], link=4, timestamp=stamp)


def test_a_key_that_others_can_read_is_refused(programs, semstreams, tmp_path, package, key):
    os.chmod(key[0], 0o644)
    config = {"plugins": {"paths": [str(package / "plugins")]},
              "components": [source(), mavlink("decode", "decode", key_file=str(key[0])), sink("out", 9)]}
    program = Program(semstreams, tmp_path, config)
    try:
        assert program.wait() != 0
        assert "can be read by others: chmod 600" in program.log()
    finally:
        program.close()
