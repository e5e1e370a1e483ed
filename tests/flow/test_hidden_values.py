# SPDX-License-Identifier: MIT
"""What came out of a file by {"file": ...}, and secrets, stay out of everything that is printed, whoever prints it."""

import json
import subprocess

import pytest

from wslib import intake

MARK = "hush-4711"
CONTENTS = ["Hush-4711-x", "hush-4711 and blanks", f"ws://127.0.0.1:9/{MARK}?q={MARK}", f"/nonexistent/{MARK}/x",
            "a" * 300 + MARK, f'quote"{MARK}\\']
TYPES = {
    "udp_input": {"port": 0, "bind": "127.0.0.1"}, "storage": {"path": "out.jsonl"}, "websocket_input": {"port": 0},
    "websocket_output": {"port": 0}, "filter": {"where": [{"field": "a", "op": "exists"}]},
    "aggregate": {"window": "1s", "functions": {"n": {"fn": "count"}}}}
ACME = {"enabled": True, "directory_url": "https://ca.test/directory", "email": "a@ca.test", "domains": ["a.test"],
        "storage_path": "acme"}
FILE = {"file": "secret"}


def pipeline(kind, options):
    first = {"id": "first", "type": "udp_input", "config": TYPES["udp_input"]}
    last = {"id": "last", "type": "storage", "config": TYPES["storage"]}
    one = {"id": "one", "type": kind, "config": options}
    components = [one, last] if kind.endswith("_input") else [first, one] if kind in ("storage", "websocket_output") else [
        first, one, last]
    return {"components": components, "admin": {"listen": "127.0.0.1:0"}}


@pytest.fixture
def look(command, tmp_path):
    """look(config, content): what check prints when the file that it names holds this."""

    def run(config, content):
        (tmp_path / "secret").write_text(content + "\n")
        (tmp_path / "secret").chmod(0o600)
        (tmp_path / "c.json").write_text(json.dumps(config))
        done = command("check", "c.json")
        assert done.returncode in (0, 78), (config, done.stdout + done.stderr)
        said = (done.stdout + done.stderr).lower()
        assert MARK not in said and "a" * 30 not in said, (config, said)
        return done.returncode, said

    return run


def options_of(semstreams, kind):
    done = subprocess.run([semstreams, "plugins", "describe", kind, "--json"], capture_output=True, check=True)
    return [o["key"] for o in json.loads(done.stdout)["options"] if o["type"] not in ("integer", "boolean")]


@pytest.mark.parametrize("kind", TYPES)
def test_options_of_plugins(kind, look, semstreams):
    """All there are, so that those to come are tried, too."""
    refused = 0
    for key in options_of(semstreams, kind):
        options = {key: FILE} if key == "url" else {**TYPES[kind], key: FILE}
        refused += sum(look(pipeline(kind, options), content)[0] == 78 for content in CONTENTS)
    assert refused


def test_options_of_a_provider(look, semstreams):
    for key in options_of(semstreams, "acme_tls"):
        pair = {"eab_kid": "kid", "eab_hmac": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"} if key.startswith("eab") else {}
        acme = {**ACME, **pair, key: [FILE] if key == "domains" else FILE}
        config = {**pipeline("storage", TYPES["storage"]), "security": {
            "tls": {"server": {"enabled": True, "mode": "acme", "acme": acme}}}}
        for content in CONTENTS:
            look(config, content)


@pytest.mark.parametrize("section", [
    {"plugins": {"paths": [FILE]}}, {"plugins": {"strict": FILE}}, {"admin": {"listen": FILE}}, {"log": {"level": FILE}},
    {"security": {"tls": {"server": {"enabled": True, "mode": FILE}}}},
    {"security": {"tls": {"server": {"enabled": True, "cert_file": FILE, "key_file": FILE}}}},
    {"security": {"tls": {"client": {"ca_files": [FILE], "min_version": FILE}}}}], ids=json.dumps)
def test_settings_of_the_host(section, look):
    for content in CONTENTS:
        look({**pipeline("storage", TYPES["storage"]), **section}, content)


def test_a_secret_from_the_environment(command, tmp_path):
    """And one that stands in the configuration, which is no better."""
    for secret in "${env:MAC}", "hush-4711-is-no-base64!":
        acme = {**ACME, "eab_kid": "kid", "eab_hmac": secret}
        (tmp_path / "c.json").write_text(json.dumps({**pipeline("storage", TYPES["storage"]), "security": {
            "tls": {"server": {"enabled": True, "mode": "acme", "acme": acme}}}}))
        done = command("check", "c.json", env={"MAC": "hush-4711-is-no-base64!"})
        assert done.returncode == 78 and "eab_hmac" in done.stderr and MARK not in done.stderr + done.stdout


def test_what_runs_does_not_show_it(start, tmp_path):
    """In the log, and in the reasons of /readyz: a whole URL, and its path, which some take for a token."""
    (tmp_path / "secret").write_text(f"ws://127.0.0.1:9/{MARK}\n")
    (tmp_path / "secret").chmod(0o600)
    config = intake(0, tmp_path / "out")
    config["components"][0]["config"] = {"url": {"file": str(tmp_path / "secret")}, "retry_min": "10ms", "retry_max": "50ms",
                                         "down_after": "1s"}
    program = start(config, ready=False)
    program.wait_log("Connection failed: connection refused.*content of")
    program.wait_for(lambda: "no connection to" in program.get("/readyz")[1], what="the component degraded")
    pages = [str(program.get(path)) for path in ("/readyz", "/health", "/metrics", "/peers")]
    assert MARK not in program.log() and not any(MARK in page for page in pages)
    assert "content of" in pages[0] and "content of" in pages[3]
