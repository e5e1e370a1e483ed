# SPDX-License-Identifier: MIT
"""The dashboard for Grafana and the alerts for Prometheus: in form, fed by what hosts really publish, and firing when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from acmelib import StepCa, cas, hosts, pki  # noqa: F401
from federation import Federation, example

FIXTURES = (hosts, cas)  # used by name
# published only where they have something to say: where revocation lists are configured
ELSEWHERE = {"semstreams_crl_expiry_timestamp_seconds"}
NOT_OURS = {"up"}  # Prometheus' own
WORDS = {"sum", "by", "rate", "increase", "min", "count", "max_over_time", "changes", "time", "and", "or", "on"}


@pytest.fixture
def installed(semstreams):
    folder = Path(semstreams).resolve().parents[1] / "share" / "semstreams"
    if not (folder / "grafana").is_dir():
        pytest.skip(f"nothing for Grafana in {folder}")
    return folder


def dashboard(folder):
    return json.loads((folder / "grafana" / "semstreams.json").read_text())


def rules(folder):
    (group,) = yaml.safe_load((folder / "prometheus" / "semstreams.rules.yml").read_text())["groups"]
    return group["rules"]


def metrics_of(expression):
    """Names of metrics in an expression of PromQL."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\bby \([^)]*\)|\"[^\"]*\"", "", expression)
    return set(re.findall(r"[a-z_]{2,}", bare)) - WORDS


def labels_of(expression):
    return set(re.findall(r"([a-z_]+)(?:=~|!~|=|!=)", " ".join(re.findall(r"\{[^}]*\}", expression)))) - {"instance", "job"}


def queries(folder):
    """(where, expression, text with {{labels}}) of dashboard and rules"""
    for panel in dashboard(folder)["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for rule in rules(folder):
        yield rule["alert"], rule["expr"], " ".join(rule["annotations"].values()).replace("$labels.", "")


def promtool(*words):
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing; on Debian it is in the package prometheus")
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=120)


def test_the_query_reader():
    assert metrics_of('sum by (instance, component) (rate(a_total{x="b_total"}[5m])) / c_d > 0 and max_over_time(e[1d]) > 0.5') == {
        "a_total", "c_d"}
    assert labels_of('a{instance=~"$instance",reason!~"x|y"} / b{to="z"}') == {"reason", "to"}


def test_every_metric_is_one_of_a_running_federation(hosts, cas, semstreams, tmp_path, installed):  # noqa: F811
    f = Federation(hosts, cas, semstreams, tmp_path / "locations", StepCa)
    try:
        for letter in "abc":
            f.start(letter, example(letter))
        f.wait_certificates()
        f.wait_links()
        seen = {}
        for letter in "abc":
            for name, labels in re.findall(r"^([a-z_]+)(\{.*?\})? ", f.programs[letter].get("/metrics")[1], re.M):
                seen.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        asked = set()
        for where, expression, text in queries(installed):
            names = metrics_of(expression) - NOT_OURS - ELSEWHERE
            asked |= names
            assert names <= set(seen), (where, names - set(seen))
            known = set().union(*(seen[name] for name in names), {"instance", "role"} if not names else {"instance"})
            for label in {*re.findall(r"\{\{ ?(\w+) ?\}\}", text), *labels_of(expression)}:
                assert label in known, (where, label)
        assert {"semstreams_link_up", "semstreams_spool_used_bytes", "semstreams_certificate_expiry_timestamp_seconds"} <= asked
    finally:
        f.close()


def test_dashboard(installed):
    board = dashboard(installed)
    assert board["title"] == "semstreams" and board["schemaVersion"] >= 36
    assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "instance", "component"]
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids)) > 20
    taken = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"], cell
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_queries_of_the_dashboard_are_promql(installed, tmp_path):
    """With what Grafana puts in their place for its variables."""
    file = tmp_path / "rules.yml"
    body = [{"record": f"r:{n}", "expr": expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace(
        "$component", ".*")} for n, (_, expression, _) in enumerate(queries(installed))]
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": body}]}))
    done = promtool("check", "rules", "--lint=none", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_and_does_not_fire(installed, tree):
    done = promtool("check", "rules", installed / "prometheus" / "semstreams.rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    file = tree / "packaging" / "prometheus" / "semstreams.rules.test.yml"
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = {t["name"]: t for t in yaml.safe_load(file.read_text())["tests"]}
    assert set(tests) == {rule["alert"] for rule in rules(installed)}
    for name, test in tests.items():
        hosts_of = {re.search(r'instance="(\w+)', s["series"])[1] for s in test["input_series"]}
        assert hosts_of == {"edge", "hub"}, name
        (expected,) = (e for t in test["alert_rule_test"] for e in t["exp_alerts"])
        assert expected["exp_labels"]["instance"].startswith("edge:"), name


def test_a_rule_that_does_not_fire_is_found(tree, tmp_path):
    folder = tmp_path / "prometheus"
    shutil.copytree(tree / "packaging" / "prometheus", folder)
    file = folder / "semstreams.rules.yml"
    file.write_text(file.read_text().replace("semstreams_link_up == 0", "semstreams_link_up == 2"))
    assert promtool("test", "rules", folder / "semstreams.rules.test.yml").returncode != 0


def test_configuration_of_prometheus_as_the_page_has_it(installed, tree, tmp_path):
    page = (tree / "docs" / "admin-api.md").read_text()
    config = re.search(r"```yaml\n(rule_files.*?)```", page, re.S)[1]
    file = tmp_path / "prometheus.yml"
    file.write_text(config.replace("/usr/share/semstreams", str(installed)))
    done = promtool("check", "config", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
