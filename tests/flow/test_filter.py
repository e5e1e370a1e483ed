# SPDX-License-Identifier: MIT
"""Datagrams through the filter into files, with the installed program."""

import json
import random
import re

import pytest


def pipeline(port, folder, filter_config, rest=False):
    components = [
        {"id": "udp", "type": "udp_input", "config": {"port": port, "bind": "127.0.0.1"}},
        {"id": "hot", "type": "filter", "config": filter_config},
        {"id": "file", "type": "storage", "config": {"path": str(folder / "match.jsonl")}},
    ]
    if rest:
        components.append({"id": "others", "type": "storage", "inputs": ["hot.rest"],
                           "config": {"path": str(folder / "rest.jsonl")}})
    return {"components": components}


@pytest.fixture
def flow(start, send, lines, conserved, udp_port, tmp_path):
    """flow(filter config, payloads, rest=False) -> (lines that match, lines of rest, last scrape)."""

    def run(filter_config, payloads, rest=False):
        program = start(pipeline(udp_port, tmp_path, filter_config, rest))
        for i in range(0, len(payloads), 200):  # no more than the receive buffer takes
            part = payloads[i:i + 200]
            send(udp_port, *part)
            program.wait_metric("semstreams_events_in_total", i + len(part), component="hot")
        scrape = program.metrics()
        conserved(scrape)
        assert program.terminate() == 0
        return lines(tmp_path / "match.jsonl"), lines(tmp_path / "rest.jsonl"), scrape

    return run


def test_keeps_what_matches(flow):
    rng = random.Random(1)
    values = [rng.choice([rng.randint(-50, 90), round(rng.uniform(-50, 90), 2), 20, 20.0]) for _ in range(1000)]
    payloads = [json.dumps({"seq": i, "value": v}) for i, v in enumerate(values)]
    match, _, scrape = flow({"where": {"field": "value", "op": "gt", "value": 20}}, payloads)
    assert match == [p for p, v in zip(payloads, values) if v > 20]
    assert scrape.sum("semstreams_events_filtered_total", component="hot") == len(payloads) - len(match)


def test_rest_has_a_way_of_its_own(flow):
    payloads = [json.dumps({"seq": i, "level": level, "tags": tags}) for i, (level, tags) in enumerate(
        [("warn", ["a"]), ("ERROR", []), ("info", ["hot"]), ("info", ["a", "hot"]), ("info", [])])]
    where = {"or": [{"field": "level", "op": "in", "value": ["warn", "error"], "ignore_case": True},
                    {"not": {"not": {"field": "/tags/1", "op": "==", "value": "hot"}}}]}
    match, rest, scrape = flow({"where": where}, payloads, rest=True)
    assert [json.loads(line)["seq"] for line in match] == [0, 1, 3]
    assert [json.loads(line)["seq"] for line in rest] == [2, 4]
    assert scrape.sum("semstreams_events_filtered_total", component="hot") == 0
    assert scrape.sum("semstreams_events_out_total", component="hot") == 5


def test_not_json_is_dropped_and_counted(flow):
    payloads = ['{"value":21}', "value=21", '{"value":21', b'{"value":"\xff"}', "[" * 100 + "]" * 100, '{"value":1}']
    match, _, scrape = flow({"where": {"field": "value", "op": "gt", "value": 20}}, payloads)
    assert match == ['{"value":21}']
    for name in "semstreams_filter_errors_total", "semstreams_events_dropped_total":
        assert scrape.sum(name, component="hot", reason="not_json") == 3
        assert scrape.sum(name, component="hot", reason="too_deep") == 1
    assert scrape.sum("semstreams_events_filtered_total", component="hot") == 1


def test_not_json_passes_if_so_configured(flow):
    payloads = ['{"value":21}', "value=21", '{"value":1}']
    match, _, scrape = flow({"where": {"field": "value", "op": "gt", "value": 20}, "on_error": "pass"}, payloads)
    assert match == payloads[:2]
    assert scrape.sum("semstreams_filter_errors_total", component="hot") == 1
    assert scrape.sum("semstreams_events_dropped_total", component="hot") == 0


def test_without_options_all_pass(flow):
    payloads = ['{"value":21}', "not JSON", "5"]
    match, _, _ = flow({}, payloads)
    assert match == payloads


def test_deadband_and_rate_limit(flow):
    payloads = [json.dumps({"id": key, "v": v}) for key in "ab" for v in (0, 1, 2, 4, 5, 9, 30)]
    match, _, scrape = flow({"deadband": {"field": "v", "key": "id", "threshold": 3},
                             "rate_limit": {"key": "id", "events": 3, "per": "1h"}}, payloads)
    assert [(e["id"], e["v"]) for e in map(json.loads, match)] == [(k, v) for k in "ab" for v in (0, 4, 9)]
    assert scrape.sum("semstreams_filter_suppressed_total", component="hot", reason="deadband") == 6
    assert scrape.sum("semstreams_filter_suppressed_total", component="hot", reason="rate_limit") == 2
    assert scrape.sum("semstreams_filter_keys", component="hot", table="deadband") == 2


def test_errors_name_their_place(command, tmp_path):
    """`check` tells all of them, with line and column."""
    (tmp_path / "config.json").write_text("""{"components": [
  {"id": "udp", "type": "udp_input", "config": {"port": 14550}},
  {"id": "hot", "type": "filter", "config": {
    "where": {"or": [
      {"field": "a", "op": "start_with", "value": "x"},
      {"field": "b", "op": "gt", "value": true},
      {"field": "c", "op": "regex", "value": "a(b"},
      {"field": "d..e", "op": "exists"}]},
    "rate_limit": {"events": 5, "pre": "1s"}}},
  {"id": "file", "type": "storage", "config": {"path": "out.jsonl"}}
]}
""")
    result = command("check", "--config", "config.json")
    assert result.returncode == 78
    said = result.stdout + result.stderr
    for line, what in [(5, 'did you mean "starts_with"'), (6, '"gt" takes a number or a string'),
                       (7, "does not compile"), (8, '"d..e" is not a path'), (9, 'did you mean "per"')]:
        assert re.search(rf"config\.json:{line}:\d+.*{re.escape(what)}", said), (line, what, said)


def test_events_that_are_not_json_are_shown(start, send, udp_port, tmp_path):
    """Filter and aggregate say where and why an event is no JSON, and how it begins; not for each event."""
    program = start({"components": [
        {"id": "udp", "type": "udp_input", "config": {"port": udp_port, "bind": "127.0.0.1"}},
        {"id": "hot", "type": "filter", "config": {"where": {"field": "v", "op": "exists"}}},
        {"id": "sum", "type": "aggregate", "inputs": ["udp"], "config": {
            "window": {"type": "tumbling", "size": "1h"}, "functions": {"n": "count(v)"}}},
        {"id": "file", "type": "storage", "inputs": ["hot", "sum"], "config": {"path": str(tmp_path / "out")}},
    ]})
    cases = [(b"\xef\xbb\xbf{}", r'offset=0 reason="a byte order mark (BOM)" start="\xef\xbb\xbf{}"'),
             (b'{"v":\0}', r'offset=5 reason="a NUL byte" start="{\"v\":\x00}"'),
             (b'{"v":NaN}', r'offset=5 reason="NaN is no JSON number" start="{\"v\":NaN}"')]
    for n, (payload, shown) in enumerate(cases, 1):
        send(udp_port, payload)
        for component, words in (("hot", "Events that are not valid JSON are dropped; see the option on_error"),
                                 ("sum", "Dropping events that are not JSON")):
            program.wait_metric("semstreams_events_dropped_total", n, component=component, reason="not_json")
            # from the second on with the sender: until the first nobody wanted to know, and nothing was paid for it
            sender = r' sender="127\.0\.0\.1:\d+"' if n > 1 else ""
            program.wait_log(f"WARN {re.escape(words)}{sender} {re.escape(shown)} component={component}")
    for n in range(4, 24):
        send(udp_port, b"x" * 1400)
        program.wait_metric("semstreams_events_dropped_total", n, component="sum", reason="not_json")
    assert program.terminate() == 0
    written = [line for line in program.log().splitlines() if "Dropping events that are not JSON" in line]
    assert all(len(line) < 400 for line in written)
    assert program.log().count('start="' + 32 * "x" + '..."') == len(
        [line for line in program.log().splitlines() if "xxx" in line]) < 20
