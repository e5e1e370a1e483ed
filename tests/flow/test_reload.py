# SPDX-License-Identifier: MIT
"""The configuration is read again while the program runs: what stays, what is replaced, and what is refused."""

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest

from acmelib import until
from conftest import PATIENCE, TREE, assert_conserved, shared_library, unused_port
from flowlib import Sender, at_rest, generate, half, pipeline, seqs, storage, tools, udp, udp_port  # noqa: F401

SCHEMA = json.loads((TREE / "docs" / "admin-api.schema.json").read_text())
REFUSED = re.compile(r"ERROR Changed configuration cannot be used, keeping the old one generation=(\d+) file=(\S+) "
                     r"line=(\d+) column=(\d+) errors=(\d+) error=(.*)")


def rewrite(program, config):
    """Put another configuration in the place of the old one, at once."""
    if isinstance(config, dict):
        config = json.dumps({"admin": {"listen": "127.0.0.1:0"}, **config}, indent=2)
    new = program.config_file.with_suffix(".new")
    new.write_text(config)
    os.replace(new, program.config_file)


def next_line(program, pattern, change):
    """Do the change; the next match in the log."""
    before = len(pattern.findall(program.log()))
    change()
    program.wait_for(lambda: len(pattern.findall(program.log())) > before, what=pattern.pattern)
    return list(pattern.finditer(program.log()))[before]


def hup(program, config):
    def change():
        rewrite(program, config)
        program.signal(signal.SIGHUP)
    return change


CHANGES = ("none", "in_place", "replaced", "added", "removed")


def reload(program, config):
    """How many components were kept, changed in place, replaced, added, removed."""
    program.read_notifications()
    before = program.metrics().sum("semstreams_reloads_total")
    hup(program, config)()
    m = program.wait_metric("semstreams_reloads_total", before + 1)
    assert m.sum("semstreams_reload_last_success") == 1, program.log()
    return tuple(int(m.sum("semstreams_reload_components", change=change)) for change in CHANGES)


def refused(program, config):
    """(line, column, reason)"""
    found = next_line(program, REFUSED, hup(program, config))
    return int(found[3]), int(found[4]), found[6]


def only(op):
    where = {"field": "sensor", "op": op, "value": True if op == "exists" else "temperature"}
    return {"id": "half", "type": "filter", "config": {"where": where}}


# ---- what stays ------------------------------------------------------------------------------------------------


def test_the_same_again(start, generate):
    """Nothing is different, also where it is written differently: everything stays."""
    program = start(pipeline(udp(), half(), storage()))
    generate(udp_port(program), 10)
    at_rest(program, 10)
    config = pipeline(udp(), half(), storage())
    config["components"][1]["config"]["where"] = {"op": "eq", "value": "temperature", "field": "sensor"}
    config["components"][2]["config"]["rotate_size"] = "0"
    config["components"][2]["config"].pop("rotate_size")
    assert reload(program, config) == (3, 0, 0, 0, 0)
    generate(udp_port(program), 10, 10)
    m = at_rest(program, 20)
    assert m.sum("semstreams_reload_generation") == 2 and m.sum("semstreams_reloads_total", result="success") == 1
    assert m.sum("semstreams_reload_last_success") == 1 and m.sum("semstreams_reload_last_time_seconds") > 1.7e9
    assert 0 < m.sum("semstreams_reload_pause_seconds") < 10
    assert program.notified.count("READY=1") == 1
    program.wait_notified("RELOADING=1")
    assert program.terminate() == 0
    assert len(seqs(program.folder / "file.jsonl")) == 10


def test_the_manager_is_told(start):
    program = start(pipeline(udp(), storage()))
    program.signal(signal.SIGHUP)
    program.wait_notified("RELOADING=1")
    program.wait_for(lambda: any(re.fullmatch(r"MONOTONIC_USEC=\d{4,}", line) for line in program.notified)
                     or program._next_notification(1e12), what="the time of the reload")
    program.notified.remove("READY=1")
    program.wait_notified("READY=1")
    assert program.terminate() == 0


# ---- what is replaced ------------------------------------------------------------------------------------------


def stored(program, *files):
    return sorted(n for file in files for n in seqs(program.folder / file))


def test_a_sink_is_replaced_under_load(start):
    """Each reload gives storage another file; every event is in one of them, once."""
    files = [f"file{i}.jsonl" for i in range(6)]
    program = start(pipeline(udp(), storage(path=files[0])))
    with Sender(udp_port(program)) as sender:
        for file in files[1:]:
            sent = sender.sent
            assert reload(program, pipeline(udp(), storage(path=file))) == (1, 0, 1, 0, 0)
            program.wait_for(lambda: sender.sent > sent and (program.folder / file).exists(), what="more events")
    m = program.wait_for(lambda: settled(program), what="all stored")
    lost = m.sum("semstreams_udp_kernel_dropped_total")
    assert_conserved(m)
    assert m.books("file")["out"] == m.books("udp")["out"], "the books of the replaced ones go on in the last"
    assert program.terminate() == 0
    numbers = stored(program, *files)
    assert len(numbers) == len(set(numbers)) == sender.sent - lost


def settled(program):
    m = program.metrics()
    return m if m.sum("semstreams_events_held") == 0 else None


def test_all_stages_are_replaced_and_others_come_and_go(start, generate):
    program = start(pipeline(udp(), half(), storage()))
    generate(udp_port(program), 100)
    at_rest(program, 100)
    port = unused_port(socket.SOCK_DGRAM)
    config = pipeline(udp(port=port), {"id": "half", "type": "filter", "config": {"where": {"field": "seq", "op": "exists"}}},
                      storage(path="b.jsonl"), storage("copy", inputs=["udp"]))
    kept, changed, replaced, added, removed = reload(program, config)
    assert (kept, changed + replaced, added, removed) == (0, 3, 1, 0)
    generate(port, 50, 100)
    m = program.wait_metric("semstreams_events_out_total", 50, component="copy")
    program.wait_for(lambda: len(seqs(program.folder / "b.jsonl")) == 50, what="stored")
    assert reload(program, pipeline(udp(port=port), storage("copy", inputs=["udp"]))) == (2, 0, 0, 0, 2)
    generate(port, 50, 150)
    program.wait_metric("semstreams_events_out_total", 100, component="copy")
    m = settled(program)
    assert "half" not in m.components() and "file" not in m.components()
    assert_conserved(m)
    assert program.stopped("file")["out"] == 100
    assert program.terminate() == 0
    assert len(seqs(program.folder / "file.jsonl")) == 50
    assert sorted(seqs(program.folder / "copy.jsonl")) == list(range(100, 200))


def test_an_edge_is_taken_out_and_put_in(start, generate):
    """A filter between two that stay: what was on its way through it arrives."""
    one = pipeline(udp(), half(), storage())
    two = pipeline(udp(), storage())
    program = start(one)
    port, sent = udp_port(program), 0
    for config, stays in ((two, 2), (one, 2), (two, 2)):
        generate(port, 100, sent)
        sent += 100
        kept, _, replaced, added, removed = reload(program, config)
        assert kept + replaced == stays
    at_rest(program, sent)
    assert program.terminate() == 0
    numbers = seqs(program.folder / "file.jsonl")
    assert len(numbers) == len(set(numbers)) and len(numbers) >= 100


def test_descriptors_and_threads_stay_as_they_are(start):
    one = pipeline(udp(), half(), storage(), storage("copy", inputs=["udp"]))
    two = pipeline(udp(), storage(path="b.jsonl"), half("third"), storage("last"))
    program = start(one)

    def counts():
        m = program.metrics()
        return m.sum("process_threads"), len(os.listdir(f"/proc/{program.pid}/fd"))

    reload(program, two)
    reload(program, one)
    before = program.wait_for(counts)
    for _ in range(20):
        reload(program, two)
        reload(program, one)
    program.wait_for(lambda: counts() == before, what=f"{counts()} to be {before} again")
    assert program.terminate() == 0


# ---- listeners --------------------------------------------------------------------------------------------------


def opened(pipe):
    """To write to, if somebody reads it."""
    try:
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "w")
    except OSError as e:
        assert e.errno == errno.ENXIO
        return None


def test_a_signal_before_it_runs(semstreams, tmp_path):
    """Who asks for a reload while the program starts gets one when there is a pipeline."""
    pipe, log, file = (tmp_path / name for name in ("pipe", "log", "config.json"))
    file.write_text(json.dumps(pipeline(udp(), storage(path=str(tmp_path / "file.jsonl")))))
    os.mkfifo(pipe)
    env = {**os.environ, "LD_PRELOAD": str(shared_library("held_start", tmp_path)), "HELD_START": str(pipe)}
    with open(log, "wb") as out, subprocess.Popen([semstreams, "--config", file], stderr=out, env=env) as process:

        def until_alive(condition, what):
            value = until(lambda: process.poll() is not None or condition(), what)
            assert process.poll() is None, log.read_text()
            return value
        try:
            with until_alive(lambda: opened(pipe), "the program to load a plugin"):
                process.send_signal(signal.SIGHUP)
            until_alive(lambda: "Configuration reloaded" in log.read_text(), "the reload")
        finally:
            process.terminate()


def test_a_udp_socket_is_handed_over(start):
    """A source is replaced under load: nobody is refused, and all that the kernel took is stored once."""
    port = unused_port(socket.SOCK_DGRAM)

    def config(batch, sockets):
        return pipeline(udp(port=port, batch=batch, sockets=sockets), storage())
    program = start(config(128, 1))
    with Sender(port) as sender:
        for batch, sockets in ((64, 1), (32, 1), (16, 2), (8, 2), *zip(range(10, 16), (1, 8) * 3)):
            assert reload(program, config(batch, sockets)) == (1, 0, 1, 0, 0)
            sent = sender.sent
            program.wait_for(lambda: sender.sent > sent + 100, what="more events")
    m = at_rest(program, sender.sent)
    assert_conserved(m)
    assert m.books("udp")["in"] == sender.sent - m.sum("semstreams_udp_kernel_dropped_total")
    assert program.terminate() == 0
    numbers = seqs(program.folder / "file.jsonl")
    assert len(numbers) == len(set(numbers)) == m.books("file")["out"]


def test_a_tcp_listener_is_handed_over(start):
    """A WebSocket listener is replaced while clients come: none is refused."""
    port = unused_port(socket.SOCK_STREAM)

    def config(path):
        return pipeline(udp(), {"id": "out", "type": "websocket_output",
                                "config": {"port": port, "bind": "127.0.0.1", "path": path}})
    program = start(config("/a"))
    stop, came, refusals = threading.Event(), [], []

    def connect():
        while not stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", port), 30).close()
                came.append(1)
            except ConnectionRefusedError as e:
                refusals.append(e)
    thread = threading.Thread(target=connect)
    thread.start()
    try:
        for i in range(10):
            assert reload(program, config(f"/{i}")) == (1, 0, 1, 0, 0)
            before = len(came)
            program.wait_for(lambda: len(came) > before + 5, what="clients")
    finally:
        stop.set()
        thread.join()
    assert not refusals
    assert program.terminate() == 0


def test_an_unchanged_link_stays(start, generate, tmp_path):
    """Between two programs: components around it are replaced, the connection is the same, and all events arrive once."""
    port = unused_port(socket.SOCK_STREAM)
    folders = [tmp_path / name for name in ("sender", "receiver")]
    for folder in folders:
        folder.mkdir()

    def sending(op):
        return pipeline(udp(), only(op), {"id": "out", "type": "websocket_output", "inputs": ["half"], "config": {
            "port": port, "bind": "127.0.0.1", "path": "/data"}})

    def receiving(path):
        return pipeline({"id": "in", "type": "websocket_input", "config": {"url": f"ws://127.0.0.1:{port}/data"}},
                        storage(path=path, sync="interval"))
    sender = start(sending("exists"), folder=folders[0])
    receiver = start(receiving("0.jsonl"), folder=folders[1])
    receiver.wait_metric("semstreams_link_up", 1)
    source = udp_port(sender)
    for i in range(1, 8):  # both are changed while events are on their way
        generate(source, 3000, 3000 * (i - 1))
        assert reload(receiver, receiving(f"{i}.jsonl"))[:3] == (1, 0, 1)
        assert reload(sender, sending("ne" if i % 2 else "exists"))[:3] == (2, 1, 0)
    passed = at_rest(sender, 21000).books("half")["out"]
    receiver.wait_metric("semstreams_events_out_total", passed, component="file")
    assert receiver.log().count("Link up") == sender.log().count("Link up") == 1
    numbers = sorted(n for i in range(8) if (folders[1] / f"{i}.jsonl").exists() for n in seqs(folders[1] / f"{i}.jsonl"))
    assert len(numbers) == len(set(numbers)) == passed
    assert receiver.terminate() == sender.terminate() == 0


# ---- what changes in place --------------------------------------------------------------------------------------


def test_conditions_change_in_place(start, generate):
    """The same instance: its books go on, nothing is replaced, and each event meets the one or the other condition."""
    program = start(pipeline(udp(), only("eq"), storage()))
    port = udp_port(program)
    generate(port, 100)
    at_rest(program, 100)
    assert reload(program, pipeline(udp(), only("ne"), storage())) == (2, 1, 0, 0, 0)
    generate(port, 100, 100)
    m = at_rest(program, 200)
    assert_conserved(m)
    assert m.books("half")["in"] == 200
    for i in range(20):
        assert reload(program, pipeline(udp(), only(("eq", "ne")[i % 2]), storage())) == (2, 1, 0, 0, 0)
    assert reload(program, pipeline(udp(), half(), storage())) == (2, 1, 0, 0, 0)
    assert program.terminate() == 0
    numbers = seqs(program.folder / "file.jsonl")
    assert len([n for n in numbers if n < 100]) == len([n for n in numbers if n >= 100]) == 50
    assert {n % 2 for n in numbers if n < 100} != {n % 2 for n in numbers if n >= 100}


def test_queues_change_in_place(start, generate):
    def config(events):
        return pipeline(udp(), {**storage(), "queue": {"events": events}})
    program = start(config(64))
    generate(udp_port(program), 10)
    for events in (1000000, 1, 500):
        assert reload(program, config(events)) == (2, 0, 0, 0, 0)
        assert program.metrics().sum("semstreams_queue_capacity_events") == events
        generate(udp_port(program), 1000)
    at_rest(program, 3010)
    assert program.terminate() == 0


def test_the_log_level_changes(start):
    program = start(pipeline(udp(), storage()))
    assert reload(program, pipeline(udp(), storage(), log={"level": "error"})) == (2, 0, 0, 0, 0)
    before = program.log()
    assert reload(program, pipeline(udp(), storage(), log={"level": "error"})) == (2, 0, 0, 0, 0)
    assert program.log() == before


# ---- who asks for it --------------------------------------------------------------------------------------------


def test_the_file_is_watched(start):
    """Written to, moved into place, or a link changed: each is taken over once, and what is refused is not tried again."""
    program = start(pipeline(udp(), storage()), "--watch-config")

    def wait_reloads(n):
        return program.wait_metric("semstreams_reloads_total", n)

    rewrite(program, pipeline(udp(), half(), storage()))
    assert wait_reloads(1).sum("semstreams_reload_components", change="added") == 1
    program.config_file.write_text(program.config_file.read_text().replace("temperature", "pressure"))
    assert wait_reloads(2).sum("semstreams_reload_components", change="in_place") == 1
    rewrite(program, "{")
    assert wait_reloads(3).sum("semstreams_reloads_total", result="failure") == 1
    target = program.folder / "other.json"
    target.write_text(json.dumps({"admin": {"listen": "127.0.0.1:0"}, **pipeline(udp(), storage())}))
    link = program.folder / "link"
    link.symlink_to(target)
    os.replace(link, program.config_file)
    m = wait_reloads(4)
    assert m.sum("semstreams_reload_components", change="removed") == 1
    assert m.sum("semstreams_reload_last_success") == 1
    assert program.terminate() == 0


@pytest.fixture
def socket_path():
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        yield f"{folder}/admin"


def test_the_command(start, command, socket_path):
    admin = {"listen": "127.0.0.1:0", "socket": socket_path}
    program = start(pipeline(udp(), half(), storage(), admin=admin))
    rewrite(program, pipeline(udp(), half("other"), storage(), admin=admin))
    done = command("reload", "-c", program.config_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "generation 2: 1 kept, 0 changed in place, 1 replaced, 1 added, 1 removed\n"
    done = command("reload", "--json", "--admin", socket_path)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    validator = jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], **SCHEMA["$defs"]["reload"]})
    validator.validate(document)
    assert document["generation"] == 3 and document["components"]["none"] == 3
    rewrite(program, json.dumps(pipeline(udp(), {**half(), "tpye": "filter"}, storage(), admin=admin), indent=2))
    done = command("reload", "-c", program.config_file)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert re.match(rf"error {re.escape(str(program.config_file))}:\d+:\d+ /components/1/tpye  unknown key .*did you mean",
                    lines[0])
    assert lines[-1] == "semstreams: refused, generation 3 goes on"
    done = command("reload", "--json", "-c", program.config_file)
    assert done.returncode == 1
    validator.validate(json.loads(done.stdout))
    assert program.metrics().sum("semstreams_reloads_total", result="failure") == 2
    assert program.terminate() == 0
    done = command("reload", "--admin", socket_path)
    assert done.returncode == 1 and "cannot reach a host" in done.stderr


def post(path):
    """POST /api/v1/reload over the unix socket: (status, document)"""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        connection.sendall(b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def test_the_admin_port_answers_during_a_reload(start, generate, tmp_path, socket_path):
    """A sink drains for as long as its disk does not answer: whoever asked waits, everybody else is served."""
    stalled = tmp_path / "stalled"
    admin = {"listen": "127.0.0.1:0", "socket": socket_path}
    program = start(pipeline(udp(), storage(sync="always"), admin=admin),
                    env={"LD_PRELOAD": str(shared_library("stall_sync", tmp_path)), "STALL_WHILE": str(stalled)})
    stalled.touch()
    generate(udp_port(program), 10)
    program.wait_metric("semstreams_events_held", 10, component="file")
    rewrite(program, pipeline(udp(), storage(path="b.jsonl", sync="always"), admin=admin))
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(post, socket_path)
        program.wait_log("Reading the configuration .* by=/api/v1/reload")
        for _ in range(3):
            for page in "/livez", "/metrics", "/api/v1/status", "/readyz":
                assert program.get(page)[0] == 200, page
        status, document = post(socket_path)
        assert status == 409 and "already" in document["error"]
        program.signal(signal.SIGHUP)
        assert not asked.done() and "Configuration reloaded" not in program.log()
        stalled.unlink()
        status, document = asked.result(PATIENCE)
    assert status == 200 and document["components"]["replaced"] == 1, document
    program.wait_log("Configuration reloaded generation=3")
    assert re.findall("again (.*)", program.log()) == ["by=/api/v1/reload", "signal=HUP"]
    assert len(seqs(program.folder / "file.jsonl")) == 10
    assert program.terminate() == 0


def test_the_end_while_the_admin_port_reloads(start, generate, tmp_path, socket_path):
    """SIGTERM meanwhile: what leaves drains, who asked is answered, and the program ends."""
    stalled = tmp_path / "stalled"
    admin = {"listen": "127.0.0.1:0", "socket": socket_path}
    program = start(pipeline(udp(), storage(sync="always"), admin=admin),
                    env={"LD_PRELOAD": str(shared_library("stall_sync", tmp_path)), "STALL_WHILE": str(stalled)})
    stalled.touch()
    generate(udp_port(program), 10)
    program.wait_metric("semstreams_events_held", 10, component="file")
    rewrite(program, pipeline(udp(), storage(path="b.jsonl", sync="always"), admin=admin))
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(post, socket_path)
        program.wait_log("Reading the configuration .* by=/api/v1/reload")
        program.signal(signal.SIGTERM)
        program.wait_log("Shutting down when the reload under way is over signal=TERM")
        stalled.unlink()
        assert program.wait() == 0, program.log()
        assert asked.result(PATIENCE)[0] == 200
    assert len(seqs(program.folder / "file.jsonl")) == 10


# ---- what is refused -------------------------------------------------------------------------------------------

BROKEN = {
    "syntax": (lambda c: json.dumps(c, indent=2)[:-3], "the file ends here"),
    "unknown key": (lambda c: {**c, "componets": []}, "did you mean ..components"),
    "unknown type": (lambda c: {**c, "components": [*c["components"], {"id": "x", "type": "storag"}]}, "unknown type"),
    "option": (lambda c: {**c, "components": [udp(port=70000), *c["components"][1:]]}, "65535"),
    "create": (lambda c: {**c, "components": [c["components"][0], {"id": "half", "type": "filter", "config": {
        "where": {"field": "a", "op": "regex", "value": "("}}}, c["components"][2]]}, "regular expression does not compile"),
    "plugins": (lambda c: {**c, "plugins": {"strict": True}}, "a change of ..plugins.. needs a restart"),
    "admin": (lambda c: {**c, "admin": {"listen": "off"}}, "a change of ..admin.. other than ..watchdog.. and ..held_watch.. needs a restart"),
    "log format": (lambda c: {**c, "log": {"format": "json"}}, "needs a restart"),
    "positions": (lambda c: {**c, "positions": {"max_streams": 5000}}, "needs a restart"),
    "tls": (lambda c: {**c, "security": {"tls": {"client": {"enabled": True}}}}, "security.tls.client needs a restart|tls"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_refused_file_keeps_the_old_configuration(start, generate, fault):
    config = pipeline(udp(), half(), storage())
    program = start(config)
    change, reason = BROKEN[fault]
    line, column, text = refused(program, change(config))
    assert re.search(reason, text), text
    assert line > 0 and column > 0
    generate(udp_port(program), 20)
    m = at_rest(program, 20)
    assert m.sum("semstreams_reload_generation") == 1 and m.sum("semstreams_reload_last_success") == 0
    assert m.sum("semstreams_reloads_total", result="failure") == 1
    status, ready = program.get("/readyz")
    assert status == 200
    (entry,) = [e for e in json.loads(ready)["degraded"] if e["component"] == "configuration"]
    assert f"config.json:{line}:{column}: " in entry["reason"]
    assert reload(program, config) == (3, 0, 0, 0, 0)
    assert json.loads(program.get("/readyz")[1])["degraded"] == []
    assert program.terminate() == 0


def test_a_component_that_cannot_start_brings_the_old_ones_back(start, generate):
    """The port is taken: the old sources and sinks run again, and what they are sent is stored."""
    program = start(pipeline(udp(), half(), storage()))
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    config = pipeline(udp(port=taken.getsockname()[1]), half("other"), storage(path="b.jsonl"))
    line, column, reason = refused(program, config)
    assert (line, column) > (0, 0) and '"udp' in reason.replace("\\", "") and "Address already in use" in reason
    program.wait_log("going back to the old one")
    generate(udp_port(program), 20)
    program.wait_for(lambda: len(seqs(program.folder / "file.jsonl")) == 10, what="stored")
    taken.close()
    assert program.terminate() == 0


# ---- at the end ------------------------------------------------------------------------------------------------


def test_a_reload_and_the_end_at_once(start):
    """SIGTERM while components drain for a reload: it is not forgotten."""
    program = start(pipeline(udp(), storage()))
    for i in range(5):
        rewrite(program, pipeline(udp(), storage(path=f"{i}.jsonl")))
        program.signal(signal.SIGHUP)
    assert program.terminate() == 0


def test_the_end_waits_for_who_leaves(start, generate, tmp_path):
    """SIGTERM while a sink that leaves waits for its disk: what it holds is stored, not dropped."""
    stalled = tmp_path / "stalled"
    program = start(pipeline(udp(), storage(sync="always")),
                    env={"LD_PRELOAD": str(shared_library("stall_sync", tmp_path)), "STALL_WHILE": str(stalled)})
    stalled.touch()
    generate(udp_port(program), 10)
    program.wait_metric("semstreams_events_held", 10, component="file")
    hup(program, pipeline(udp(), storage(path="b.jsonl", sync="always")))()
    program.wait_log("Reading the configuration")
    program.signal(signal.SIGTERM)
    program.wait_log("Shutting down when the reload under way is over signal=TERM")
    stalled.unlink()
    assert program.wait() == 0, program.log()
    assert "has not drained" not in program.log()
    assert len(seqs(program.folder / "file.jsonl")) == 10


def test_reloads_while_it_is_scraped(start):
    program = start(pipeline(udp(), half(), storage()))
    with Sender(udp_port(program)):
        stop = threading.Event()
        scrapes = []

        def scrape():
            while not stop.is_set():
                m = program.metrics()
                assert_conserved(m)
                scrapes.append(m)
        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            for i in range(10):
                reload(program, pipeline(udp(), half(), storage(path=f"{i}.jsonl")))
            program.wait_for(lambda: len(scrapes) > 3, what="scrapes")
        finally:
            stop.set()
            thread.join()
    assert program.terminate() == 0


def test_many_reloads_of_a_link(semstreams, tmp_path):
    """Random changes and broken files under load, over mutual TLS: the short form of tests/soak/reload."""
    done = subprocess.run([TREE / "tests" / "soak" / "reload", "--semstreams", semstreams, "--reloads", "60", "--rate", "1000", "--pause", "0",
                           "--dir", tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
