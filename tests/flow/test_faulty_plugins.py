# SPDX-License-Identifier: MIT
"""Plugins with bugs: the log names the component and what it did, the books stay true, and losses are no success."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from conftest import assert_conserved, unused_port
from flowlib import generate, pipeline, storage, tools, udp
from test_sdk import CXX, build

FIXTURES = (generate, tools)  # used by name


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    build(Path(__file__).parent / "plugins" / "faulty.c", folder / "faulty.so")
    return folder


@pytest.fixture
def faulty(start, plugins, generate, udp_port):
    """faulty(fault, ...) -> a program whose component "bad" has met an event or more."""

    def run(fault, *others, events=1, **more):
        bad = {"id": "bad", "type": "faulty", "inputs": ["udp"], "config": {"fault": fault}}
        more.setdefault("admin", {"listen": "127.0.0.1:0", "watchdog": "1s"})
        config = pipeline(udp(port=udp_port), *others, bad, plugins={"paths": [str(plugins)]}, **more)
        program = start(config)
        generate(udp_port, events)
        return program

    return run


THROWS = """
#include <stdexcept>
#include <semstreams/plugin.h>
static int32_t create(const struct ss_host *, const void *, void **) { return 0; }
static void destroy(void *) {}
static int32_t process(void *, uint32_t, struct ss_batch *) { throw std::runtime_error("nobody catches this"); }
static const ss_component throws = [] {
	ss_component c{};
	c.struct_size = sizeof c, c.kind = SS_KIND_SINK, c.type = "throws", c.version = "1.0", c.summary = "throws";
	c.license = "MIT", c.create = create, c.destroy = destroy, c.process = process;
	return c;
}();
SS_REGISTER(&throws);
"""


@pytest.mark.parametrize("fault, number", [("crash", signal.SIGSEGV), ("abort", signal.SIGABRT)])
@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_crash(faulty, fault, number, form):
    program = faulty(fault, log={"format": form})
    assert program.wait() == -number
    last = program.log().splitlines()[-1]
    if form == "json":
        line = json.loads(last)
        assert (line["level"], line["message"], line["signal"]) == ("ERROR", "Crashed", number.name[3:])
        assert (line["callback"], line["thread"], line["component"]) == ("process", "udp", "bad")
    else:
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z ERROR Crashed signal={number.name[3:]} "
                            r"callback=process thread=udp component=bad", last)


def test_exception(start, tmp_path, generate, udp_port):
    """Of C++, which nobody catches."""
    source = tmp_path / "throws.cc"
    source.write_text(THROWS)
    build(source, tmp_path / "throws.so", CXX)
    program = start(pipeline(udp(port=udp_port), {"id": "bad", "type": "throws"}, plugins={"paths": [str(tmp_path)]}))
    generate(udp_port, 1)
    assert program.wait() == -signal.SIGABRT
    assert re.search(r"ERROR Crashed signal=ABRT callback=process thread=udp component=bad$", program.log().splitlines()[-1])


OWN_THREAD = {"thread_crash": ("Crashed signal=SEGV", -signal.SIGSEGV), "thread_abort": ("Crashed signal=ABRT", -signal.SIGABRT),
              "thread_exit": (r"A plugin called exit\(\)", 1)}


@pytest.mark.parametrize("fault", OWN_THREAD)
def test_thread_of_its_own(faulty, fault):
    """The host has not called it there, so the plugin is named by its file, and by its only component."""
    said, code = OWN_THREAD[fault]
    program = faulty(fault)
    assert program.wait() == code
    assert re.search(rf"ERROR {said} thread=\S+ plugin=faulty\.so component=bad$", program.log().splitlines()[-1])


def test_thread_of_one_of_two(faulty):
    """Which component of the plugin it was nobody can tell."""
    program = faulty("thread_crash", {"id": "good", "type": "faulty", "inputs": ["udp"]})
    assert program.wait() == -signal.SIGSEGV
    assert program.log().splitlines()[-1].endswith(" plugin=faulty.so")


def test_exit(faulty):
    program = faulty("exit")
    assert program.wait() == 1
    assert re.search(r"ERROR A plugin called exit\(\) callback=process thread=udp component=bad$", program.log(), re.M)


def test_block(faulty):
    """Only the component that does not return is named, after the time of the watchdog."""
    program = faulty("block", storage())
    program.wait_log(r"ERROR Component does not return from a callback callback=process seconds=\d+ component=bad$")
    status, text = program.get("/readyz")
    reasons = json.loads(text)["reasons"]
    assert status == 503 and [r["component"] for r in reasons] == ["bad watchdog"]
    assert re.fullmatch(r"process\(\) has not returned for \d+ s", reasons[0]["reason"])
    program.wait_log(r"WARN Component has returned from its callback component=bad$")
    assert program.get("/readyz")[0] == 200
    assert program.terminate() == 0


def test_busy_for_ever(faulty):
    program = faulty("busy")
    program.wait_log(r"WARN Component takes no input: process\(\) returned SS_BUSY, and input_ready\(\) has not been called "
                     r"since seconds=\d+ component=bad$")
    status, text = program.get("/readyz")
    assert status == 200 and [d["component"] for d in json.loads(text)["degraded"]] == ["bad watchdog"]


RULES = {
    "done_twice": ["done() is called once for each batch that is kept"],
    "done_unasked": ["process() keeps a batch that done() was called for"],
    "unknown_return": ["process() returns SS_DONE, SS_KEPT, SS_BUSY or an error"],
    "drop_unknown": ["drop() is for reasons that the type has"],
    "emit": ["emit() is for outputs that the type has", "metric_add() is for metrics that the type has"],
}


@pytest.mark.parametrize("fault", RULES)
def test_rules(faulty, fault):
    """What breaks a rule is named with the rule, has no effect, and the books stay true."""
    program = faulty(fault, events=100)
    metrics = program.wait_metric("semstreams_events_in_total", 100, component="bad")
    for rule in RULES[fault]:
        program.wait_log(rf'ERROR Plugin broke a rule of the plugin interface type=faulty rule="{re.escape(rule)}"')
    metrics = program.metrics()
    assert_conserved(metrics)
    assert all(0 <= value < 1e9 for value in metrics.select("semstreams_events_dropped_total").values())
    assert metrics.sum("semstreams_events_held", component="bad") == 0
    assert program.terminate() == 0


STRICT = {
    "rows_outside": "rows point into the memory of their batch or of its parents",
    "rows_null": "rows point into the memory of their batch or of its parents",
    "rows_too_long": "rows point into the memory of their batch or of its parents",
    "other_thread": "emit() is called in the thread of the instance only",
    "drop_too_many": "drop() counts events of the batches at hand only",
}


@pytest.mark.parametrize("fault", STRICT)
def test_rules_of_strict_mode(start, plugins, generate, udp_port, tmp_path, fault):
    """They cost something for each event or call; what breaks one is named and goes no further."""
    bad = {"id": "bad", "type": "faulty_filter", "config": {"fault": fault}}
    program = start(pipeline(udp(port=udp_port), bad, storage(), plugins={"paths": [str(plugins)], "strict": True}))
    generate(udp_port, 20)
    program.wait_metric("semstreams_events_in_total", 20, component="bad")
    program.wait_log(rf'ERROR Plugin broke a rule of the plugin interface type=faulty_filter rule="{re.escape(STRICT[fault])}" '
                     "component=bad$")
    program.terminate()
    assert program.log().count("broke a rule") <= 20
    assert not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").read_bytes() == b""


def test_one_metric_of_two_kinds(command, tmp_path):
    """Two plugins that give one metric different kinds: the second is refused, and both are named."""
    source = (Path(__file__).parent / "plugins" / "feed.c").read_text()
    metric = 'static const struct ss_metric rows[] = {{.name = "shared_things_total", .help = "h", .kind = SS_METRIC_%s}};\n'
    for name, kind in (("one", "COUNTER"), ("two", "GAUGE")):
        code = tmp_path / f"{name}.c"
        start, end = source.rindex("static const struct ss_component"), source.rindex(".create")
        code.write_text(source[:start] + metric % kind + source[start:end].replace('.type = "feed"', f'.type = "{name}"')
                        + ".metrics = rows, .metric_size = sizeof *rows, .n_metrics = 1,\n" + source[end:])
        build(code, tmp_path / f"{name}.so")
    config = {"plugins": {"paths": [str(tmp_path)]}, "admin": {"listen": "off"}, "components": [
        {"id": "a", "type": "one"}, {"id": "b", "type": "two"}, {"id": "c", "type": "two"}]}
    done = command("check", "-", input=json.dumps(config))
    assert done.returncode == 78
    assert (f"{tmp_path}/two.so has the metric shared_things_total as a gauge in type 'two', but type 'one' of "
            f"{tmp_path}/one.so has it as a counter" in done.stderr), done.stderr


@pytest.fixture
def undrained(start, plugins, generate, udp_port):
    """The lines of components that were not drained in time: {component: line}"""

    def run(fault, events):
        bad = {"id": "bad", "type": "faulty_filter" if fault == "never_drained" else "faulty", "config": {"fault": fault}}
        config = pipeline(udp(port=udp_port), bad, *([storage()] if fault == "never_drained" else []),
                          plugins={"paths": [str(plugins)]})
        program = start(config, "--shutdown-timeout", "300ms")
        generate(udp_port, events)
        program.wait_metric("semstreams_events_in_total", events, component="udp")
        assert program.terminate() == 1
        found = re.findall(r"WARN Not drained within the shutdown timeout (.*) component=(\w+)$", program.log(), re.M)
        assert len(found) == len(dict(found)), found
        return {component: line for line, component in found}

    return run


def test_not_drained_because_something_is_kept(undrained):
    lines = undrained("never_drained", 7)
    assert set(lines) == {"bad", "file"}
    assert re.fullmatch(r'waits_for="drained\(\) after drain\(\) has returned SS_BUSY" events_held=7 events_queued=0 '
                        r"oldest_s=\d+\.\d", lines["bad"])
    assert lines["file"] == 'waits_for="the end of bad" events_held=0 events_queued=0'


def test_not_drained_because_input_is_refused(undrained):
    line = undrained("busy", 5)["bad"]
    assert re.fullmatch(r'waits_for="input_ready\(\) after process\(\) has returned SS_BUSY" events_held=[1-5] '
                        r"events_queued=[0-4] oldest_s=\d+\.\d", line)


def test_not_drained_because_a_callback_does_not_return(undrained):
    assert undrained("block", 1) == {"bad": 'waits_for="process() to return"'}


def test_one_that_hangs_keeps_no_other_from_stopping(start, plugins, generate, udp_port):
    def one(name, fault):
        return {"id": name, "type": "faulty", "inputs": ["udp"], "config": {"fault": fault}}

    program = start(pipeline(udp(port=udp_port), one("first", "none"), one("bad", "hang"), one("last", "none"),
                             plugins={"paths": [str(plugins)]}), "--shutdown-timeout", "300ms")
    generate(udp_port, 1)
    for name in "first", "last":
        program.wait_metric("semstreams_events_out_total", 1, component=name)
    assert program.terminate() == 1
    assert re.search(r"ERROR Component hangs and cannot be stopped callback=process component=bad$", program.log(), re.M)
    assert set(re.findall(r"INFO Stop was called component=(\w+)$", program.log(), re.M)) == {"first", "last"}


def test_kept_at_the_end(faulty):
    """drain() returns 0 although a batch is kept: it is lost, so the end is no success."""
    program = faulty("keep")
    program.wait_metric("semstreams_events_held", 1, component="bad")
    assert program.terminate() == 1
    log = program.log()
    assert 'rule="drain() returns 0 when nothing is kept any more" component=bad' in log
    assert re.search(r"WARN Component stopped in=1 .*dropped_shutdown=1 component=bad$", log, re.M)
    assert "ERROR Events were lost at the end, see the lines above events=1" in log
    assert "Stopped drained=false" in log


# ---- callbacks that the control thread waits for, or whose results it takes


def lone(fault):
    return {"id": "bad", "type": "faulty", "inputs": ["udp"], "config": {"fault": fault}}


@pytest.fixture
def begin(start, plugins, udp_port):
    """begin(fault, ...) -> a program with a component "bad" that has met no event yet."""

    def run(fault, ready=True, **admin):
        return start(pipeline(udp(port=udp_port), lone(fault), plugins={"paths": [str(plugins)]},
                              admin={"listen": "127.0.0.1:0", "watchdog": "1s", **admin}), ready=ready)

    return run


@pytest.mark.parametrize("callback", ["create", "start"])
def test_block_before_all_runs(begin, callback):
    program = begin(f"{callback}_blocks")
    found = re.findall(r"(\w+) (Component does not return .*|Component has returned .*)", program.log())
    assert found[0][0] == "ERROR" and found[1:] == [("WARN", "Component has returned from its callback component=bad")]
    assert re.fullmatch(rf"Component does not return from a callback callback={callback} seconds=\d+ component=bad", found[0][1])
    assert program.terminate() == 0


def test_block_in_a_reload(begin):
    """The control thread waits for create(), while all others go on."""
    program = begin("none")
    config = json.loads(program.config_file.read_text())
    config["components"][1]["config"]["fault"] = "create_blocks"
    program.config_file.write_text(json.dumps(config))
    program.signal(signal.SIGHUP)
    program.wait_log(r"ERROR Component does not return from a callback callback=create seconds=\d+ component=bad$")
    program.wait_log(r"WARN Component has returned from its callback component=bad$")
    assert program.terminate() == 0


def test_stop_hangs(begin):
    program = begin("stop_hangs")
    assert program.terminate() == 1
    assert re.search(r"ERROR Component hangs and cannot be stopped callback=stop component=bad$", program.log(), re.M)


def test_destroy_hangs(begin):
    """The program ends nevertheless, and not as if all was well."""
    program = begin("destroy_hangs")
    assert program.terminate() == 1
    *_, named, last = program.log().splitlines()
    assert re.search(r"ERROR Component does not return from a callback callback=destroy seconds=\d+ component=bad$", named)
    assert last.endswith("ERROR Ending without the component that does not return, see the lines above")


MISUSED = {"start_returns": "start() returns 0 or a negative errno", "drain_returns": "drain() returns 0, SS_BUSY or an error"}


@pytest.mark.parametrize("fault", MISUSED)
def test_unknown_result(begin, fault):
    """It counts as 0."""
    program = begin(fault)
    assert program.terminate() == 0
    assert (f'ERROR Plugin broke a rule of the plugin interface type=faulty rule="{MISUSED[fault]}" component=bad'
            in program.log())


def test_unknown_result_of_create(begin):
    program = begin("create_returns", ready=False)
    assert program.wait() == 78
    assert 'rule="create() returns 0 or a negative errno" component=bad' in program.log()
    assert 'component "bad": Protocol error' in program.log()


# ---- batches that are kept and not finished


def overdue(program):
    return program.metrics().sum("semstreams_events_overdue", component="bad")


def degraded(program):
    status, text = program.get("/readyz")
    assert status == 200
    return {d["component"]: d["reason"] for d in json.loads(text)["degraded"]}


def test_kept_for_ever(begin, generate, send, udp_port):
    """Named with the figures, until it finishes them after all."""
    program = begin("keep_all", held_watch="1s")
    generate(udp_port, 150)
    line = program.wait_log(r"WARN (Component keeps batches .*)$")[1]
    assert re.fullmatch(r"Component keeps batches and does not finish them: process\(\) returned SS_KEPT, and done\(\) has not "
                        r"been called since events=1\d\d batches=\d+ seconds=\d+ component=bad", line)
    assert re.fullmatch(r"has kept 1\d\d events for up to \d+ s and gives no reason", degraded(program)["bad watchdog"])
    assert 100 <= overdue(program) <= 150
    send(udp_port, "finish")
    program.wait_log(r"INFO Component has finished what it kept component=bad$")
    assert overdue(program) == 0 and degraded(program) == {}
    assert program.log().count("Component keeps batches") == 1
    assert program.terminate() == 0


def test_kept_with_a_reason(start, plugins, generate, udp_port, tcp_port):
    """Until a timer of its own; until a peer comes that acknowledges; and too few to matter."""
    other = unused_port(socket.SOCK_DGRAM)
    file = storage(inputs=["udp"], sync="interval", sync_interval="6s")
    link = {"id": "link", "type": "websocket_output", "inputs": ["udp"],
            "config": {"bind": "127.0.0.1", "port": tcp_port, "path": "/link"}}
    few = {"id": "few", "type": "faulty", "inputs": ["other"], "config": {"fault": "keep_all"}}
    program = start(pipeline(udp(port=udp_port), {**udp(port=other), "id": "other"}, file, link, few,
                             plugins={"paths": [str(plugins)]}, admin={"listen": "127.0.0.1:0", "held_watch": "1s"}))
    generate(udp_port, 150)
    generate(other, 99)
    program.wait_metric("semstreams_events_out_total", 150, component="file")
    metrics = program.metrics()
    assert metrics.sum("semstreams_events_held", component="link") == 150
    assert metrics.sum("semstreams_events_held", component="few") == 99
    assert metrics.select("semstreams_events_overdue") and metrics.sum("semstreams_events_overdue") == 0
    assert degraded(program) == {} and "Component keeps batches" not in program.log()
