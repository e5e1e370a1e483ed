# SPDX-License-Identifier: MIT
"""Events that a processor refuses: to its output error with their bytes, the reason and who refused them; stored, sent on, sent again."""

import base64
import json
import socket
import subprocess

import pytest
from conftest import assert_conserved, whole_lines
from flowlib import pipeline, storage, udp, udp_port
from test_attributes import leaves, pki, security

FIXTURES = (leaves, pki)  # used by name

ABOVE = {"field": "value", "op": "gt", "value": 20}
DEEP = b"[" * 70 + b"]" * 70
SLOW = json.dumps({"text": "a" * 60 + "!"}).encode()
BAD = {b"no JSON": "not_json: an unexpected character at byte 1",
       b'{"value": 1,': "not_json: it ends too early at byte 12",
       b"\xff\xfe\x00": "not_json: UTF-16, send UTF-8 at byte 0",
       DEEP: "too_deep: nested more than 64 levels deep at byte 64"}


def hot(**more):
    return {"id": "hot", "type": "filter", "config": {"where": ABOVE, **more}}


def letters(path="letters.jsonl", of="hot.error"):
    return storage("letters", inputs=[of], path=path, format="envelope")


def read(file):
    return [json.loads(line) for line in whole_lines(file)]


def payload(letter):
    return base64.b64decode(letter["base64"]) if "base64" in letter else letter["text"].encode() if "text" in letter else \
        json.dumps(letter["event"]).encode()


def test_filter(start, send):
    """Bytes as they came, in their order; nothing of that is dropped; what passes and what does not is where it was."""
    program = start(pipeline(udp(), hot(), storage("warm", inputs=["hot"]), storage("cold", inputs=["hot.rest"]), letters()))
    send(udp_port(program), b'{"value": 30}', *BAD, b'{"value": 10}')
    got = program.wait_for(lambda: len(found := read(program.folder / "letters.jsonl")) == len(BAD) and found)
    assert [payload(letter) for letter in got] == list(BAD)
    assert [letter["attributes"]["error"] for letter in got] == list(BAD.values())
    assert {letter["attributes"]["component"] for letter in got} == {"hot"}
    assert whole_lines(program.folder / "warm.jsonl") == ['{"value": 30}']
    assert whole_lines(program.folder / "cold.jsonl") == ['{"value": 10}']
    metrics = program.metrics()
    assert_conserved(metrics)
    assert metrics.sum("semstreams_events_dropped_total", component="hot") == 0
    assert metrics.sum("semstreams_filter_errors_total", component="hot") == len(BAD)
    program.wait_log(r"WARN Events that are not valid JSON are passed to the output error; .* component=hot$")


def test_sender_is_kept(start, send):
    """The attributes that an event had stand beside the new ones."""
    program = start(pipeline(udp(), hot(), letters()))
    send(udp_port(program), b"x")
    letter, = program.wait_for(lambda: read(program.folder / "letters.jsonl"))
    attributes = letter["attributes"]
    assert attributes["input"] == "udp" and attributes["address"].startswith("127.0.0.1:")
    assert attributes["error"].startswith("not_json") and letter["received"].endswith("Z")


def test_regex(start, send):
    where = {"field": "text", "op": "regex", "value": "^(a+)+$"}
    program = start(pipeline(udp(), hot(where=where), letters()))
    send(udp_port(program), SLOW)
    letter, = program.wait_for(lambda: read(program.folder / "letters.jsonl"))
    assert letter["attributes"]["error"] == "regex_limit" and json.loads(payload(letter)) == json.loads(SLOW)


@pytest.mark.parametrize("more, read_by", [({}, []), ({"on_error": "drop"}, [letters()])])
def test_dropped(start, send, more, read_by):
    """Where nobody reads the output, or the configuration says so: counted and named in the log."""
    program = start(pipeline(udp(), hot(**more), storage("warm", inputs=["hot"]), *read_by))
    send(udp_port(program), b"no JSON", b'{"value": 30}')
    program.wait_for(lambda: whole_lines(program.folder / "warm.jsonl"))
    metrics = program.metrics()
    assert metrics.sum("semstreams_events_dropped_total", component="hot", reason="not_json") == 1
    assert_conserved(metrics)
    program.wait_log(r"WARN Events that are not valid JSON are dropped; .* component=hot$")
    assert read(program.folder / "letters.jsonl") == []


def sums(**more):
    return {"id": "sums", "type": "aggregate", "config": {"window": {"type": "tumbling", "size": "1h"}, "functions": {"n": "count"},
                                                          "group_by": "key", **more}}


@pytest.mark.parametrize("errors", [None, "count", "drop", "degrade"])
@pytest.mark.parametrize("component, line", [(hot, "Events that are not valid JSON are dropped"),
                                             (sums, "Dropping events that are not JSON")])
def test_errors(start, send, component, line, errors):
    """What nothing reads is counted in any case; whether it is in the log, and degrades, the option says."""
    one = component(**({"errors": errors} if errors else {}))
    program = start(pipeline(udp(), one, storage("warm", inputs=[one["id"]])))
    send(udp_port(program), b"no JSON")
    program.wait_metric("semstreams_events_dropped_total", 1, component=one["id"], reason="not_json")
    shown, = (c for c in json.loads(program.get("/api/v1/components")[1])["components"] if c["id"] == one["id"])
    assert shown["dropped_by_reason"]["not_json"] == 1, shown
    if errors != "drop":
        program.wait_log(f"WARN {line}")
    wanted = [(one["id"], f'events are refused (not_json) and dropped, as nothing reads "{one["id"]}.error"')] * (errors == "degrade")

    def degraded():
        ready = json.loads(program.get("/readyz")[1])
        assert ready["status"] == "ready"
        return [(entry["component"], entry["reason"]) for entry in ready["degraded"]]
    program.wait_for(lambda: degraded() == wanted, what="the reason in /readyz, or none")
    assert_conserved(program.metrics())
    assert program.terminate() == 0
    assert errors != "drop" or line not in program.log()


def test_hints(command, tmp_path):
    """Of check, where nothing reads the output and nothing says that this is meant; it is no warning."""
    for n, (parts, hinted) in enumerate([
            ((hot(),), ["hot"]), ((hot(), letters()), []), ((hot(errors="count"),), []), ((hot(on_error="drop"),), []),
            ((hot(), sums()), ["hot", "sums"]), ((sums(errors="degrade"),), [])]):
        read = [part["id"] for part in parts if part["type"] != "storage"]
        (tmp_path / f"{n}.json").write_text(json.dumps(pipeline(udp(), *parts, storage("out", inputs=read))))
        done = command("check", f"{n}.json")
        assert done.returncode == 0 and "warning" not in done.stdout.replace("0 warnings", ""), done.stdout + done.stderr
        hints = [line for line in done.stderr.splitlines() if line.startswith("hint ")]
        assert [f'read "{name}.error"' in hint for name, hint in zip(hinted, hints)] == [True] * len(hinted) == [True] * len(hints)


def test_aggregate(start, send):
    """All that it refuses: not JSON, no time, a key too long, too far ahead."""
    config = {"window": {"type": "tumbling", "size": "1h"}, "functions": {"n": "count"}, "group_by": "key",
              "time": {"field": "t", "format": "s", "max_ahead": "1h"}}
    bad = {b"no JSON": "not_json: an unexpected character at byte 1", b'{"key": "a"}': "no_time",
           b'{"t": 4102444800, "key": "a"}': "ahead",
           json.dumps({"t": 1, "key": "k" * 5000}).encode(): "key_too_long"}
    program = start(pipeline(udp(), {"id": "sums", "type": "aggregate", "config": config}, letters(of="sums.error")))
    send(udp_port(program), *bad)
    got = program.wait_for(lambda: len(found := read(program.folder / "letters.jsonl")) == len(bad) and found)
    assert [letter["attributes"]["error"] for letter in got] == list(bad.values())
    assert {letter["attributes"]["component"] for letter in got} == {"sums"}
    metrics = program.metrics()
    assert_conserved(metrics)
    assert metrics.sum("semstreams_events_dropped_total", component="sums") == 0


def test_many(start, send):
    """More reasons than one batch has slots that are remembered."""
    program = start(pipeline(udp(), hot(), letters()))
    events = [b" " * n + b"x%d" % n for n in range(300)]
    for at in range(0, len(events), 50):
        send(udp_port(program), *events[at:at + 50])
        program.wait_for(lambda: len(read(program.folder / "letters.jsonl")) == at + 50)
    got = read(program.folder / "letters.jsonl")
    assert [letter["attributes"]["error"] for letter in got] == [
        f"not_json: an unexpected character at byte {n}" for n in range(300)]
    assert_conserved(program.metrics())


def test_over_a_link(start, send, tmp_path_factory, tcp_port, pki, leaves):
    """A hub keeps the letters of its edges, which it is told by a peer whose word counts; bytes and attributes are those of the edge."""
    hub_folder = tmp_path_factory.mktemp("hub")
    ws_in = {"id": "in", "type": "websocket_input",
             "config": {"url": f"wss://localhost:{tcp_port}/x", "trust_origin": ["edge.example"]}}
    out = {"id": "out", "type": "websocket_output", "inputs": ["hot.error"],
           "config": {"port": tcp_port, "path": "/x", "bind": "127.0.0.1", "attributes": True}}
    edge = start(pipeline(udp(), hot(), out, security=security(pki, leaves["edge"], ["hub"])))
    hub = start(pipeline(ws_in, storage("letters", format="envelope"), security=security(pki, leaves["hub"])), folder=hub_folder)
    send(udp_port(edge), *BAD)
    got = hub.wait_for(lambda: len(found := read(hub_folder / "letters.jsonl")) == len(BAD) and found)
    assert [payload(letter) for letter in got] == list(BAD)
    assert [(letter["attributes"]["error"], letter["attributes"]["component"]) for letter in got] == [
        (error, "hot") for error in BAD.values()]


# ---- sent again ----------------------------------------------------------------------------------------------


@pytest.fixture
def replay(semstreams):
    def run(*args):
        return subprocess.run([semstreams, "replay", *map(str, args)], capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def stored(start, send, tmp_path_factory):
    """A file of letters that a program has written and closed."""
    folder = tmp_path_factory.mktemp("stored")
    program = start(pipeline(udp(), hot(), letters()), folder=folder)
    send(udp_port(program), *BAD)
    program.wait_for(lambda: len(read(folder / "letters.jsonl")) == len(BAD))
    assert program.terminate() == 0
    return folder / "letters.jsonl"


def test_replay(start, stored, replay, tmp_path):
    """To a pipeline that takes them: each once, byte for byte; again only when that is asked for, or for what has come since."""
    program = start(pipeline(udp(), storage(format="envelope")))
    target = f"udp://127.0.0.1:{udp_port(program)}"
    arrived = lambda: [payload(line) for line in read(tmp_path / "file.jsonl")]  # noqa: E731
    done = replay(stored, "--to", target)
    assert (done.returncode, done.stdout) == (0, f"sent {len(BAD)} events, 0 lines left out\n"), done.stderr
    program.wait_for(lambda: arrived() == list(BAD))
    assert replay(stored, "--to", target).stdout == "sent 0 events, 0 lines left out\n"
    with stored.open("a") as file:
        file.write('{"text": "new"}\n{"text": "half')
    assert replay(stored, "--to", target).stdout == "sent 1 events, 0 lines left out\n"
    program.wait_for(lambda: arrived() == [*BAD, b"new"])
    assert replay(stored, "--to", target, "--again", "--rate", "100").stdout == f"sent {len(BAD) + 1} events, 0 lines left out\n"
    program.wait_for(lambda: len(arrived()) == 2 * len(BAD) + 2)


def test_replay_dry(stored, replay):
    before = sorted(stored.parent.iterdir())
    done = replay(stored, "--dry-run")
    assert (done.returncode, done.stdout) == (0, f"would send {len(BAD)} events, 0 lines left out\n")
    assert sorted(stored.parent.iterdir()) == before


def test_replay_of_bad_lines(stored, replay, start):
    """They are named and left out, the others sent, and the exit status tells."""
    program = start(pipeline(udp(), storage()))
    lines = stored.read_text().splitlines()
    stored.write_text("\n".join([lines[0], "no JSON", '{"base64": "!"}', '{"text": 1}', lines[1]]) + "\n")
    done = replay(stored, "--to", f"udp://127.0.0.1:{udp_port(program)}")
    assert (done.returncode, done.stdout) == (3, "sent 2 events, 3 lines left out\n")
    assert [f"{stored}:{n}: no envelope" in done.stderr for n in (2, 3, 4)] == [True] * 3


def test_replay_keeps_bad_lines(stored, replay, start, tmp_path):
    """In a file of their own, as they were; they end nothing, and are not looked at again."""
    program = start(pipeline(udp(), storage(format="envelope")))
    lines = stored.read_text().splitlines()
    bad = ["no JSON", '{"base64": "!"}', json.dumps({"text": "x" * 70000})]
    stored.write_text("\n".join([bad[0], lines[0], *bad[1:], *lines[1:]]) + "\n")
    args = (stored, "--to", f"udp://127.0.0.1:{udp_port(program)}", "--bad", tmp_path / "bad.jsonl")
    done = replay(*args)
    assert (done.returncode, done.stdout) == (3, f"sent {len(BAD)} events, 3 lines left out\n")
    assert f"{stored}:4: longer than the receiver takes" in done.stderr
    assert (tmp_path / "bad.jsonl").read_text().splitlines() == bad
    program.wait_for(lambda: [payload(line) for line in read(tmp_path / "file.jsonl")] == list(BAD))
    assert replay(*args).returncode == 0
    assert (tmp_path / "bad.jsonl").read_text().splitlines() == bad
    stored.write_text("no JSON\n")
    assert replay(*args, "--again").returncode == 1


# ---- to a websocket_input ------------------------------------------------------------------------------------


def intake(port, **config):
    return {"id": "in", "type": "websocket_input", "config": {"port": port, "path": "/letters", "bind": "127.0.0.1", **config}}


def test_replay_over_websocket(start, stored, replay, tcp_port, tmp_path):
    """Each once, byte for byte, whether text or not; what was sent while nobody listened is sent later."""
    target = f"ws://127.0.0.1:{tcp_port}/letters"
    done = replay(stored, "--to", target)
    assert (done.returncode, done.stdout) == (1, "sent 0 events, 0 lines left out\n")
    assert "connection refused" in done.stderr
    program = start(pipeline(intake(tcp_port), storage(format="envelope")))
    done = replay(stored, "--to", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sent {len(BAD)} events, 0 lines left out\n", "")
    program.wait_for(lambda: [payload(line) for line in read(tmp_path / "file.jsonl")] == list(BAD))
    assert replay(stored, "--to", target).stdout == "sent 0 events, 0 lines left out\n"


def test_replay_of_many_over_websocket(start, replay, tcp_port, tmp_path):
    """More than one connection's worth."""
    program = start(pipeline(intake(tcp_port), storage(format="envelope")))
    file = tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps({"text": f"event {n}"}) + "\n" for n in range(2500)))
    done = replay(file, "--to", f"ws://127.0.0.1:{tcp_port}/letters", "--rate", "100000")
    assert (done.returncode, done.stdout) == (0, "sent 2500 events, 0 lines left out\n"), done.stderr
    program.wait_for(lambda: len(read(tmp_path / "file.jsonl")) == 2500)
    assert [payload(line) for line in read(tmp_path / "file.jsonl")] == [b"event %d" % n for n in range(2500)]


def test_replay_of_what_is_too_long(start, replay, tcp_port, tmp_path):
    """The receiver refuses one message: that one is left out, all others arrive."""
    program = start(pipeline(intake(tcp_port, max_message=1024), storage(format="envelope")))
    file = tmp_path / "some.jsonl"
    texts = [f"event {n}" for n in range(5)] + ["x" * 3000] + [f"event {n}" for n in range(5, 9)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = replay(file, "--to", f"ws://127.0.0.1:{tcp_port}/letters", "--bad", tmp_path / "bad.jsonl")
    assert (done.returncode, done.stdout) == (3, "sent 9 events, 1 lines left out\n"), done.stderr
    assert f"{file}:6: longer than the receiver takes" in done.stderr
    assert [payload(line) for line in read(tmp_path / "bad.jsonl")] == [b"x" * 3000]
    wanted = {text.encode() for text in texts if len(text) < 1000}
    program.wait_for(lambda: {payload(line) for line in read(tmp_path / "file.jsonl")} == wanted)


def test_replay_with_certificates(start, stored, replay, tcp_port, tmp_path, pki, leaves):
    """Over mutual TLS; without our certificate, or with another CA, nothing counts as sent."""
    program = start(pipeline(intake(tcp_port), storage(format="envelope"), security=security(pki, leaves["hub"], ["edge"])))
    target = (stored, "--to", f"wss://localhost:{tcp_port}/letters", "--timeout", "20s")
    ours = ("--cert", leaves["edge"].settings()["cert_file"], "--key", leaves["edge"].settings()["key_file"])
    for args in (("--ca", pki.ca_file), ours, ()):
        done = replay(*target, *args)
        assert (done.returncode, done.stdout) == (1, "sent 0 events, 0 lines left out\n")
        assert "certificate" in done.stderr
    done = replay(*target, "--ca", pki.ca_file, *ours)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sent {len(BAD)} events, 0 lines left out\n", "")
    program.wait_for(lambda: [payload(line) for line in read(tmp_path / "file.jsonl")] == list(BAD))


def test_replay_has_a_deadline(stored, replay):
    """Of a listener that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = replay(stored, "--to", f"ws://127.0.0.1:{silent.getsockname()[1]}/", "--timeout", "1s")
    assert done.returncode == 1 and "not finished within 1 s" in done.stderr


def test_replay_to_nobody(stored, replay, udp_port, start, tmp_path):
    """Nothing counts as sent that the kernel says nobody took; later it goes on."""
    done = replay(stored, "--to", f"udp://127.0.0.1:{udp_port}", "--rate", "20")
    assert done.returncode == 1 and "nobody takes the events" in done.stderr
    program = start(pipeline(udp(port=udp_port), storage(format="envelope")))
    assert replay(stored, "--to", f"udp://127.0.0.1:{udp_port}").returncode == 0
    program.wait_for(lambda: [payload(line) for line in read(tmp_path / "file.jsonl")] == list(BAD))


@pytest.mark.parametrize("args", [[], ["f"], ["f", "--to", "udp://127.0.0.1:1", "--rate", "0"], ["--dry-run"],
                                  ["f", "--to", "wss://x/", "--cert", "c"], ["f", "--to", "ws://x/", "--timeout", "soon"]])
def test_replay_usage(replay, args):
    assert replay(*args).returncode == 2


def test_replay_errors(replay, tmp_path):
    done = replay(tmp_path / "none", "--dry-run")
    assert done.returncode == 1 and "No such file" in done.stderr
    assert "--to is udp://HOST:PORT" in replay(tmp_path / "none", "--to", "http://x/").stderr


# ---- the page ------------------------------------------------------------------------------------------------


def test_page(start, send, semstreams, tree, tmp_path, tcp_port):
    """Its configuration runs, its commands do what it says."""
    page = (tree / "docs" / "dead-letters.md").read_text()
    config = json.loads(page.split("```json\n")[1].split("```")[0])
    config["admin"] = {"listen": "127.0.0.1:0"}
    port = config["components"][0]["config"]["port"] = 0
    program = start(config)
    port = int(program.wait_log(r"UDP input listening .*\bport=(\d+)")[1])
    hub = tmp_path / "hub"
    hub.mkdir()
    start(pipeline(intake(tcp_port), storage()), folder=hub)
    send(port, b'{"value": 30}', b"no JSON")
    program.wait_for(lambda: read(tmp_path / "data" / "refused.jsonl"))
    commands = [line[2:] for block in page.split("```sh\n")[1:] for line in block.split("```")[0].splitlines()
                if line.startswith("$ ")]
    assert len(commands) == 4
    (tmp_path / "unread.json").write_text(page.split("```json\n")[2].split("```")[0])
    for command in commands:
        words = command.replace(":14550", f":{port}").replace(":8080", f":{tcp_port}").split()
        done = subprocess.run([semstreams if word == "semstreams" else word for word in words], cwd=tmp_path,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout in page
        assert all(line in page for line in done.stderr.splitlines() if line.startswith("hint ")), done.stderr
        assert ("hint " in done.stderr) == ("check" in words), done.stderr
