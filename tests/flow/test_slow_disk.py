# SPDX-License-Identifier: MIT
"""A disk that does not answer: whoever waits for it says so after 5 s, in the log, in /readyz and in a gauge."""

import json

import pytest
from conftest import shared_library
from flowlib import generate, pipeline, tools, udp, udp_port

FIXTURES = (generate, tools)  # used by name

WAITS = {  # the component that waits for the disk, the warning, the reason in /readyz, the gauge
    "storage": ({"type": "storage", "config": {"path": "out.jsonl", "sync": "always"}},
                "Syncing to disk takes longer than 5 s", r"to disk has taken", "semstreams_storage_oldest_unsynced_seconds"),
    "spool": ({"type": "websocket_output", "config": {"port": 0, "path": "/data", "spool": {"path": "spool"}}},
              "Writing the spool to disk takes longer than 5 s", "writing the spool to disk has taken",
              "semstreams_spool_oldest_unsynced_seconds"),
    "checkpoint": ({"type": "aggregate", "config": {"window": {"type": "tumbling", "size": "1h"}, "functions": {"n": "count"},
                                                    "checkpoint": {"path": "state", "interval": "50ms"}}},
                   "Writing the checkpoint takes longer than 5 s", "writing the checkpoint has taken",
                   "semstreams_aggregate_oldest_unsaved_seconds")}


@pytest.mark.parametrize("what", WAITS)
def test_reported(start, generate, tmp_path, what):
    component, warning, reason, gauge = WAITS[what]
    stalled = tmp_path / "stalled"
    more = [{"id": "file", "type": "storage", "config": {"path": "results", "sync": "relaxed"}}] if what == "checkpoint" else []
    program = start(pipeline(udp(), {"id": "waits", **component}, *more),
                    env={"LD_PRELOAD": str(shared_library("stall_sync", tmp_path)), "STALL_WHILE": str(stalled)})
    stalled.touch()
    generate(udp_port(program), 10)
    program.wait_log(f"WARN {warning}.* component=waits$")
    program.wait_metric(gauge, 5, component="waits")

    def degraded():
        status, text = program.get("/readyz")
        assert status == 200, "it works, but worse"
        return {entry["component"]: entry["reason"] for entry in json.loads(text)["degraded"]}

    assert list(degraded()) == ["waits"] and reason in degraded()["waits"]
    stalled.unlink()
    program.wait_log("INFO The disk.* answers again.* component=waits$")
    assert degraded() == {}
    program.wait_for(lambda: program.metrics().sum(gauge) == 0, what="nothing unsynced")
    assert program.terminate() == 0
