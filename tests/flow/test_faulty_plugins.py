# SPDX-License-Identifier: MIT
"""Plugins with bugs: the log names the component and what it did, the books stay true, and losses are no success."""

import json
import re
import signal
from pathlib import Path

import pytest
from conftest import assert_conserved
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
