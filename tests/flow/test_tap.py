# SPDX-License-Identifier: MIT
"""semstreams tap: live events of a running host, seen without changing or slowing it."""

import contextlib
import datetime
import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
import threading

import jsonschema
import pytest

from conftest import PATIENCE, TREE, assert_conserved, unused_port
from flowlib import at_rest, check_numbers, event, generate, half, pipeline, send_lossless, storage, tools, udp, udp_port
from test_admin_api import SCHEMA, Unix, ask, tcp
from test_reload import reload

FIXTURES = (check_numbers, generate, tools)  # used by name


@pytest.fixture
def admin():
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        yield {"listen": "127.0.0.1:0", "socket": f"{folder}/admin"}


class Tap:
    """semstreams tap in the background, with what it printed so far."""

    def __init__(self, semstreams, program, *args):
        self._program = program
        self.process = subprocess.Popen([semstreams, "tap", *args, "-c", program.config_file], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.told = [], []
        self._threads = [threading.Thread(target=self._read, args=pair)
                         for pair in ((self.process.stdout, self.lines), (self.process.stderr, self.told))]
        for thread in self._threads:
            thread.start()
        program.wait_for(lambda: self._is_open() or self.process.poll() is not None, what="the tap to be open")

    def _is_open(self):
        """Said first; it is not kept."""
        for said in (self.lines, self.told):
            if said and re.fullmatch(r'semstreams: tapping \S+|\{"tap":"\S+"\}', said[0]):
                return said.pop(0)
        return None

    @staticmethod
    def _read(file, to):
        for line in file:
            to.append(line.rstrip("\n"))

    def wait(self, count):
        """The first events, when there are so many."""
        self._program.wait_for(lambda: len(self.events()) >= count, what=f"{count} events; {self.lines[-3:]} {self.told}")
        return self.events()

    def events(self):
        return [line for line in list(self.lines) if line[0] != "{" or '"received"' in line]

    def ended(self):
        """Its exit code, when it ends by itself."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join()
        return code

    def close(self):
        self.process.kill()
        self.ended()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def tap(semstreams):
    """tap(program, ARG...) -> Tap"""
    with contextlib.ExitStack() as stack:
        def run(program, *args):
            opened = Tap(semstreams, program, *args)
            stack.callback(opened.close)
            return opened
        yield run


@pytest.fixture
def host(start, admin):
    return start(pipeline(udp(), half(), storage(), admin=admin))


def numbers(lines):
    return [json.loads(line[line.index("{"):])["seq"] for line in lines]


# ---- what it shows


def test_text(host, tap, send):
    """Time, attributes, and the event as it came; control characters move no cursor."""
    shown = tap(host, "udp")
    send(udp_port(host), '{"value": 1.50}', "a\x1b[31m\nb\x00c\u00e4\u009b", b"\xff\x00")
    lines = shown.wait(3)
    now = datetime.datetime.now(datetime.timezone.utc)
    for line, text in zip(lines, (' {"value": 1.50}', " a?[31m b?c\u00e4?", " base64:/wA=")):
        found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z @address=127\.0\.0\.1:\d+ @input=udp(.*)", line)
        assert found and found[2] == text
        at = datetime.datetime.fromisoformat(found[1]).replace(tzinfo=datetime.timezone.utc)
        assert abs((now - at).total_seconds()) < 60
    assert shown.told == []


def test_json(host, tap, send):
    shown = tap(host, "udp", "--json", "--limit", "3")
    send(udp_port(host), '{"value": 1.50}', "\u00e4\x00\n\"", b"\xff\x00\x01")
    assert shown.ended() == 0
    *events, end = map(json.loads, shown.lines)
    line = jsonschema.Draft202012Validator(SCHEMA["$defs"]["tap"])
    for document in (*events, end, {"tap": "udp"}, {"missed": 1}, {"withheld": 1}, {"gone": "it"}):
        line.validate(document)
    assert not line.is_valid({"received": events[0]["received"]}) and not line.is_valid({"end": {}})
    assert end == {"end": {"shown": 3, "missed": 0, "withheld": 0}}
    assert [e.get("data") for e in events] == ['{"value": 1.50}', "\u00e4\x00\n\"", None]
    assert events[2]["base64"] == "/wAB"
    assert all(e["attributes"]["@input"] == "udp" for e in events)


@pytest.mark.parametrize("point, expected", [
    ("udp", "all"), ("half", "odd"), ("half.match", "odd"), ("half.rest", "even"), ("half:in", "all"), ("file:in", "odd")])
def test_points(host, tap, send, point, expected):
    """Also what is wired to nothing, as half.rest."""
    shown = tap(host, point, "--limit", {"all": "20"}.get(expected, "10"))
    send(udp_port(host), *(event(n) for n in range(20)))
    assert shown.ended() == 0 and shown.told == []
    wanted = [10**9 + n for n in range(20) if expected == "all" or n % 2 == (expected == "odd")]
    assert numbers(shown.lines) == wanted
    assert_conserved(at_rest(host, 20))


def test_where(host, tap, send):
    """The filter's conditions, on members and on attributes."""
    over = tap(host, "udp", "--limit", "2", "--where", '{"field": "value", "op": "gt", "value": 20}')
    here = tap(host, "udp", "--limit", "5", "--where",
               '[{"field": "@address", "op": "starts_with", "value": "127.0.0.1:"}, {"field": "seq", "op": "gte", "value": 10}]')
    send(udp_port(host), *(f'{{"seq":{n},"value":{n * 2}}}' for n in range(9)), "no JSON",
         *(f'{{"seq":{n},"value":{n * 2}}}' for n in range(9, 20)))
    assert over.ended() == 0 and numbers(over.lines) == [11, 12]
    assert here.ended() == 0 and numbers(here.lines) == [10, 11, 12, 13, 14]
    assert "component=admin-tap" not in host.log()


def test_redact(host, tap, send):
    """Wherever a path ends like that, however the name is written; what is no JSON is not shown."""
    shown = tap(host, "udp", "--json", "--limit", "2", "--redact", "password", "--redact", "user.name", "--redact", "/list/0",
                "--redact", "@address")
    send(udp_port(host), '{"password":"s1","a":{"pass\\u0077ord":{"x":["s2"]}},"big":123456789012345678901,"name":1.50}',
         "password=s3", '{"users":[{"user":{"name":"s4","id":7}}], "list":["s5", "open"],"e":{}, "l":[]}')
    assert shown.ended() == 0
    *events, end = [json.loads(line) for line in shown.lines if '"withheld":1}' != line[:-1]]
    assert [e["data"] for e in events] == [
        '{"password":"<hidden>","a":{"pass\\u0077ord":"<hidden>"},"big":123456789012345678901,"name":1.50}',
        '{"users":[{"user":{"name":"<hidden>","id":7}}],"list":["<hidden>","open"],"e":{},"l":[]}']
    assert end["end"] == {"shown": 2, "missed": 0, "withheld": 1}
    assert all(e["attributes"] == {"@address": "<hidden>", "@input": "udp"} for e in events)


# ---- what is wrong


@pytest.mark.parametrize("args, code, text", [
    ([], 2, "tap needs a component"),
    (["udp", "half"], 2, "unexpected word 'half'"),
    (["udp", "--limit", "0"], 2, "--limit is a number of events, from 1, not '0'"),
    (["udp", "--where", '{"field": }'], 2, "--where is a condition of the filter, in JSON, line 1 column 11:"),
    (["upd"], 1, 'there is no component "upd" (did you mean "udp"?)'),
    (["half.mach"], 1, '"half" has no output "mach"'),
    (["file"], 1, '"file" has no output; did you mean "file:in"?'),
    (["udp:in"], 1, '"udp" has no input'),
    (["udp:out"], 1, '"udp:out" is no point of the pipeline; it is "ID", "ID.OUTPUT" or "ID:in"'),
    (["udp", "--where", '{"field": "x", "op": "qt", "value": 1}'], 1, "the condition cannot be used: "),
    (["udp", "--redact", "a..b"], 1, "what is redacted is a list of"),
    (["udp", "--redact", "@nothing"], 1, "what is redacted is a list of"),
])
def test_mistakes(host, command, args, code, text):
    done = command("tap", *args, "-c", host.config_file)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("semstreams: ") and text in done.stderr and done.stderr.count("\n") == 1
    assert "Tap opened" not in host.log()


def test_the_manual_is_true(host, semstreams, send):
    """The commands of docs/admin-api.md, with what they print."""
    page = (TREE / "docs" / "admin-api.md").read_text()
    block = page[page.index("## Looking at events"):].split("```")[1]
    commands = re.findall(r"^\$ semstreams (tap .*)\n((?:[^$\n].*\n)*)", block, re.M)
    assert len(commands) == 2
    for line, printed in commands:
        with subprocess.Popen([semstreams, *shlex.split(line), "-c", host.config_file], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            if "--json" in line:
                assert process.stdout.readline().startswith('{"tap":')
            else:
                assert process.stderr.readline().startswith("semstreams: tapping ")
            send(udp_port(host), '{"seq":1000000002,"sensor":"atmospheric","value":12.5}',
                 '{"seq":1000000003,"sensor":"atmospheric","value":22.5,"password":"x"}')
            shown = process.stdout.readline()
            process.kill()
            process.communicate()
        if printed:
            shape = re.escape(re.sub(r"\d{4}-\S+Z|:\d{5} ", "#", printed)).replace("\\#", r"(?:\S+Z|:\d+ )")
            assert re.fullmatch(shape, shown), (printed, shown)
        else:
            assert json.loads(json.loads(shown)["data"]) == {"seq": 1000000003, "sensor": "atmospheric", "value": 22.5,
                                                             "password": "<hidden>"}


def test_who_may(host, admin, command, start, tmp_path):
    """Events are data: they are shown on the unix socket only, to who may change something."""
    body = '{"point":"udp"}'
    status, _, text = ask(tcp(host), "POST", "/api/v1/tap", body)
    assert status == 403 and "on the unix socket only" in text
    assert ask(tcp(host), "GET", "/api/v1/tap")[0] == 405
    assert ask(Unix(admin["socket"]), "GET", "/api/v1/tap")[0] == 405
    for wrong in ("", "{}", '{"point":1}', '{"point":"udp","x":1}', '{"point":"udp","limit":-1}', '{"point":"udp","redact":"a"}'):
        status, _, text = ask(Unix(admin["socket"]), "POST", "/api/v1/tap", wrong)
        assert status == 400 and json.loads(text)["error"], wrong
    done = command("tap", "udp", "--admin", host.admin)
    assert done.returncode == 1 and "on the unix socket only" in done.stderr
    if os.getuid() == 0:
        os.chmod(admin["socket"], 0o666)
        os.chmod(os.path.dirname(admin["socket"]), 0o755)
        asked = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "curl", "-sS", "--unix-socket",
                                admin["socket"], "-d", body, "http://localhost/api/v1/tap"],
                               capture_output=True, text=True, timeout=PATIENCE)
        assert "Changes are not accepted from here" in asked.stdout
    assert "Tap opened" not in host.log()


# ---- what it does to the host


def test_it_goes_when_its_reader_goes(start, admin, tap):
    """Also while nothing flows; with as many as may be open at once."""
    program = start(pipeline(udp(), half(), storage(), admin={**admin, "max_streams": 2}))
    for point in ("udp", "half"):
        first, second = tap(program, point), tap(program, point)
        third = tap(program, point)
        assert third.ended() == 1 and "max_streams" in third.told[0]
        closed = program.log().count("Tap closed")
        first.close()
        second.process.terminate()
        program.wait_for(lambda: program.log().count("Tap closed") == closed + 2, what="both to be closed")
    assert program.terminate() == 0


def test_the_end_of_the_host(host, tap):
    shown = tap(host, "udp")
    assert host.terminate() == 0
    assert shown.ended() == 1 and shown.told == ["semstreams: the host has ended, or closed the tap"]


def test_attributes_are_wanted_while_somebody_looks(start, admin, tap, send):
    """Those upstream of the point are told, and not for good."""
    program = start(pipeline(udp(), half(), storage(), admin=admin))
    first = tap(program, "file:in", "--limit", "1", "--json")
    send(udp_port(program), event(1))
    assert first.ended() == 0
    assert json.loads(first.lines[0])["attributes"]["@input"] == "udp"
    second = tap(program, "half:in", "--limit", "1", "--json", "--where", '{"field": "@input", "op": "eq", "value": "udp"}')
    send(udp_port(program), event(1))
    assert second.ended() == 0


def test_all_is_counted(host, tap, generate, check_numbers):
    """A burst that no sample holds: shown and missed are all there were; the stream has all of it."""
    count = 200_000
    shown = tap(host, "udp", "--json")
    send_lossless(host, generate, udp_port(host), count)
    m = at_rest(host, count)
    assert_conserved(m)
    assert check_numbers(host.folder / "file.jsonl", 1, count // 2, 2) == count // 2

    def total():
        lines = [json.loads(line) for line in list(shown.lines)]
        lost = [line["missed"] for line in lines if "missed" in line]
        return sum("data" in line for line in lines) + (lost[-1] if lost else 0) == count

    host.wait_for(total, what="all to be shown or told")
    events = [line for line in shown.lines if '"data"' in line]
    seen = [json.loads(json.loads(line)["data"])["seq"] for line in events]
    assert seen == sorted(set(seen)) and 0 < len(seen) < count


def test_a_reader_that_sleeps(host, admin, generate, check_numbers):
    """It is cut off or misses events; neither the stream nor the host waits for it, and memory is bounded."""
    with socket.socket(socket.AF_UNIX) as sleeper:
        sleeper.connect(admin["socket"])
        body = b'{"point":"udp"}'
        sleeper.sendall(b"POST /api/v1/tap HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        host.wait_log("Tap opened point=udp")
        count = 100_000
        send_lossless(host, generate, udp_port(host), count)
        at_rest(host, count)
        assert check_numbers(host.folder / "file.jsonl", 1, count // 2, 2) == count // 2
        assert host.get("/livez")[0] == 200
        assert host.terminate() == 0


def test_many_at_once(host, tap, send):
    """At one point, some of them going while events pass."""
    taps = [tap(host, point, "--limit", str(n)) for n, point in enumerate(["udp", "half:in", "udp", "half:in", "udp", "udp"], 1)]
    port = udp_port(host)
    for n in range(6):
        send(port, event(n))
    for n, shown in enumerate(taps, 1):
        assert shown.ended() == 0
        assert numbers(shown.lines) == [10**9 + k for k in range(n)]


# ---- over a reload


def test_it_survives_a_reload(host, admin, tap, send):
    """Of a component that stays, and of one that is replaced: each event is shown once."""
    port = unused_port(socket.SOCK_DGRAM)
    config = pipeline(udp(port=port), half(), storage(), admin=admin)
    reload(host, config)
    taps = {point: tap(host, point) for point in ("udp", "half", "half:in", "file:in")}
    sent = 1
    for _ in range(4):
        config["components"][1]["config"]["max_keys"] = 1000 + sent
        config["components"][2]["config"]["rotate_size"] = f"{100 + sent}MiB"
        reload(host, config)
        for _ in range(20):
            send(port, event(sent))
            sent += 2
        for shown in taps.values():
            shown.wait(1)
    sent_last = 10**9 + 1001
    send(port, event(1001))
    for point, shown in taps.items():
        host.wait_for(lambda: str(sent_last) in (shown.lines or [""])[-1], what=f"the last event at {point}")
        seen = numbers(shown.lines)
        assert len(seen) == len(set(seen)) and not shown.told
    assert len(taps["udp"].lines) == len(taps["half:in"].lines) == 81
    assert numbers(taps["half"].lines) == numbers(taps["file:in"].lines)


def test_it_waits_for_a_component_that_is_gone(host, admin, tap, send):
    port = unused_port(socket.SOCK_DGRAM)
    whole = pipeline(udp(port=port), half(), storage(inputs=["udp"]), admin=admin)
    without = pipeline(udp(port=port), storage(inputs=["udp"]), admin=admin)
    reload(host, whole)
    shown = tap(host, "half")
    send(port, event(1))
    shown.wait(1)
    reload(host, without)
    host.wait_for(lambda: shown.told, what="the tap to say so")
    assert shown.told == ['semstreams: there is no component "half" any more; waiting for it']
    send(port, event(3))
    reload(host, whole)

    def comes_again():
        send(port, event(5))
        return len(shown.lines) > 1

    host.wait_for(comes_again, what="events of the new one")
    assert set(numbers(shown.lines[1:])) == {10**9 + 5}
