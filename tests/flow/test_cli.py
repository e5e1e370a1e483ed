# SPDX-License-Identifier: MIT
"""The command line: what each command prints, its exit codes, and the schema against configurations."""

import json
import os
import re
import shlex
import subprocess

import pytest
from pki import Pki

COMMANDS = [["run"], ["check"], ["doctor"], ["graph"], ["plugins", "list"], ["plugins", "describe"], ["plugins", "new"], ["schema"],
            ["cert"], ["status"], ["top"], ["reload"], ["tap"], ["config", "show"]]

EDGE = {
    "components": [
        {"id": "udp", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}},
        {"id": "hot", "type": "filter", "config": {"where": {"field": "value", "op": "gt", "value": 20}}},
        {"id": "cold", "type": "filter", "inputs": [{"from": "hot.rest", "queue": {"events": 10, "bytes": "1MiB",
                                                                                   "overflow": "drop_oldest"}}]},
    ],
}


@pytest.fixture
def config(tmp_path):
    """config(document or text) -> file"""

    def write(document, name="edge.json"):
        file = tmp_path / name
        file.write_text(document if isinstance(document, str) else json.dumps(document, indent=1))
        return file

    return write


# ---- usage -------------------------------------------------------------------------------------------------


def test_help(command):
    general = command("--help")
    assert general.returncode == 0 and general.stderr == ""
    assert "Exit codes: 0 success, 1 failure, 2 wrong usage, 78 wrong configuration" in general.stdout
    for args in (["help"], ["-h"], ["help", "help"]):
        assert command(*args).stdout == general.stdout
    for words in COMMANDS:
        assert " ".join(words) in general.stdout.replace("[run]", "run")
        text = command(*words, "--help")
        assert text.returncode == 0 and text.stderr == "" and text.stdout != general.stdout
        assert text.stdout.replace("[run]", "run").startswith("semstreams " + " ".join(words))
        assert command("help", *words).stdout == text.stdout


@pytest.mark.parametrize("program", ["spool", "replay", "pki", "test"])
def test_help_of_a_program_beside(command, program):
    done = command("help", program)
    assert done.returncode == 0
    assert done.stdout == command(program, "--help").stdout
    assert f"semstreams {program} " in done.stdout


def test_version(command):
    for flag in ("--version", "-V"):
        done = command(flag)
        assert done.returncode == 0
        assert done.stdout.splitlines()[0].startswith("semstreams ")
        assert "plugin ABI 1" in done.stdout.splitlines()


@pytest.mark.parametrize("args, words", [
    (["--confg", "x"], "unknown option '--confg' (did you mean '--config'?)"),
    (["--config"], "--config needs a FILE"),
    (["--config="], "--config needs a FILE"),
    (["-c"], "-c needs a FILE"),
    (["-x"], "unknown option '-x'"),
    (["-hx"], "unknown option '-hx'"),
    (["--json=1", "plugins", "list"], "--json takes no value"),
    (["chekc"], "unknown command 'chekc' (did you mean 'check'?)"),
    (["edge.json"], "did you mean '--config edge.json'?"),
    (["help", "grpah"], "unknown command 'grpah' (did you mean 'graph'?)"),
    (["check", "a", "b"], "unexpected word 'b'"),
    (["check", "a", "-c", "b"], "two configuration files, 'b' and 'a'"),
    (["schema", "a"], "unexpected word 'a'"),
    (["plugins"], "plugins needs 'list', 'describe TYPE', 'new NAME' or 'check FILE.so'"),
    (["plugins", "lst"], "unknown command 'lst' (did you mean 'list'?)"),
    (["plugins", "chekc"], "unknown command 'chekc' (did you mean 'check'?)"),
    (["--json", "plugins", "check", "a.so"], "options of 'check' stand behind it"),
    (["replya"], "unknown command 'replya' (did you mean 'replay'?)"),
    (["--json", "test", "a.test"], "options of 'test' stand behind it"),
    (["plugins", "describe"], "plugins describe needs a TYPE"),
    (["check", "--json", "a"], "--json does not go with 'check'"),
    (["--format", "dot"], "--format does not go with 'run'"),
    (["graph", "--format", "svg", "a"], "--format is text, dot or mermaid, not 'svg'"),
    (["--log-level", "loud"], "--log-level is error, warn, info or debug, not 'loud'"),
    (["--log-format", "xml"], "--log-format is logfmt or json, not 'xml'"),
    (["--shutdown-timeout", "30"], "--shutdown-timeout is a duration"),
    (["--shutdown-timeout", "-1s"], "--shutdown-timeout is a duration"),
])
def test_wrong_usage(command, args, words):
    done = command(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr, done.stderr
    assert done.stderr.startswith("semstreams: ")


def test_a_file_may_start_with_a_dash(command, config, tmp_path):
    config(EDGE, "-x.json")
    assert command("check", "--", "-x.json").returncode == 0
    assert command("check", "-c-x.json").returncode == 0
    assert command("check", "--config=-x.json").returncode == 0


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["schema"], ["plugins", "list"],
                                  ["plugins", "list", "--json"], ["plugins", "describe", "filter"]])
def test_output_that_cannot_be_written(semstreams, args):
    with open("/dev/full", "w") as full:
        done = subprocess.run([semstreams, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write to standard output: No space left on device" in done.stderr
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([semstreams, *args], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    closed = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', semstreams, *args], stderr=subprocess.PIPE, text=True,
                            check=False)
    assert closed.returncode == 1


# ---- check -------------------------------------------------------------------------------------------------


def test_check_of_a_good_configuration(command, config):
    done = command("check", config(EDGE))
    assert done.returncode == 0, done
    assert done.stdout == "ok: 3 components, 2 queues, 2 plugins, 1 warning\n"
    assert "no component reads from \"cold\"" in done.stderr
    assert any(line.startswith("skip") for line in done.stderr.splitlines())
    assert command("--validate", "-c", config(EDGE)).stdout == done.stdout


def test_check_finds_everything_at_once(command, config):
    file = config("""{
 "components": [
  {"id": "udp", "type": "udp_input", "config": {"prot": 1, "batch": 0}},
  {"id": "hot", "type": "fliter"},
  {"id": "hot", "type": "filter", "config": {"on_error": "explode"}}
 ],
 "logg": {}
}
""")
    done = command("check", file)
    assert done.returncode == 78
    assert done.stdout.splitlines() == [done.stdout.strip()] and done.stdout.startswith("6 errors, ")
    for place, words in [("3:49 /components/0/config/prot", "\"port\""), ("3:69 /components/0/config/batch", "1"),
                         ("4:25 /components/1/type", "\"filter\""), ("5:10 /components/2/id", "duplicate"),
                         ("5:58 /components/2/config/on_error", "\"drop\""), ("7:2 /logg", "\"log\"")]:
        assert any(line.startswith(f"error {file}:{place}") and words in line for line in done.stderr.splitlines()), \
            (place, done.stderr)
    run = command("-c", file)
    assert run.returncode == 78 and run.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors == [line for line in run.stderr.splitlines() if line.startswith("error")]


def test_check_creates_the_components(command, config):
    """What only the plugin knows is checked as well."""
    document = json.loads(json.dumps(EDGE))
    document["components"][1]["config"]["where"]["op"] = "greater"
    done = command("check", config(document))
    assert done.returncode == 78
    assert "/components/1/config/where/op" in done.stderr


def test_configuration_that_is_not_there(command, tmp_path):
    for args in (["check", "missing.json"], ["-c", "missing.json"], ["graph", "missing.json"],
                 ["schema", "-c", "missing.json"], ["plugins", "list", "-c", "missing.json"]):
        done = command(*args)
        assert done.returncode == 78, done
        assert "missing.json" in done.stderr and "No such file" in done.stderr


# ---- graph -------------------------------------------------------------------------------------------------


def test_graph_text(command, config):
    done = command("graph", config(EDGE))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "udp (udp_input, worker udp)"
    assert lines[1].split() == "-> hot (filter, worker udp) 65536 events, 64MiB, block".split()
    assert lines[2].split() == "-> cold (filter, worker cold) rest, 10 events, 1MiB, drop_oldest".split()


def test_graph_for_tools(command, config):
    dot = command("graph", "--format", "dot", config(EDGE)).stdout
    assert dot.startswith("digraph") and 'n1 -> n2 [label="rest\\n10 events\\n1MiB\\ndrop_oldest"];' in dot
    mermaid = command("graph", "--format=mermaid", config(EDGE)).stdout
    assert mermaid.startswith("flowchart LR\n") and 'n1 -->|"rest<br/>10 events<br/>1MiB<br/>drop_oldest"| n2' in mermaid


def test_graph_of_a_bad_configuration(command, config):
    done = command("graph", config({"components": []}))
    assert done.returncode == 78 and done.stdout == "" and done.stderr.startswith("error ")


# ---- plugins -----------------------------------------------------------------------------------------------


def test_plugins_list(command):
    plain = command("plugins", "list")
    assert plain.returncode == 0 and plain.stderr == ""
    listed = json.loads(command("plugins", "list", "--json").stdout)
    assert [p["type"] for p in listed] == [line.split()[0] for line in plain.stdout.splitlines()]
    kinds = {p["type"]: p["kind"] for p in listed}
    assert kinds["udp_input"] == "source" and kinds["filter"] == "processor" and kinds["storage"] == "sink"


@pytest.mark.parametrize("name", ["udp_input", "filter", "storage"])
def test_plugins_describe(command, name):
    document = json.loads(command("plugins", "describe", name, "--json").stdout)
    text = command("plugins", "describe", name).stdout
    assert document["type"] == name and text.startswith(f"{name}: {document['summary']}\n")
    for option in document["options"]:
        assert f"\n  {option['key']} " in text
        assert option["help"], option
        if "default" in option and option["type"] == "integer":
            assert isinstance(option["default"], int)
    for metric in document["metrics"]:
        assert metric["name"] in text
    for reason in document["drop_reasons"]:
        assert f"\n  {reason}\n" in text
    tables = command("plugins", "describe", name, "--markdown").stdout
    rows = [line.split("|")[1].strip(" `") for line in tables.splitlines() if line.startswith("| `")]
    assert rows[:len(document["options"])] == [option["key"] for option in document["options"]]
    assert {row.split("{")[0] for row in rows[len(document["options"]):]} == {m["name"] for m in document["metrics"]}
    assert all(f"`{reason}`" in tables for reason in document["drop_reasons"])


def test_man_page_has_every_option(command, tree):
    """The help is printed from the table that parses the options, so it knows them all."""
    helps = [command("help").stdout, *(command("help", *words).stdout for words in COMMANDS),
             *(command(*name.split(), "--help").stdout for name in ("pki", "plugins check", "replay", "spool", "test"))]
    options = set(re.findall(r"^ +(?:-[a-zA-Z], )?(--[a-z-]+)", "\n".join(helps), re.M))
    assert {"--config", "--markdown", "--role", "--shutdown-timeout"} <= options
    page = (tree / "docs" / "man" / "semstreams.1").read_text().replace("\\-", "-")
    described = set(re.findall(r"(--[a-z-]+)", page[page.index(".SH OPTIONS"):]))
    assert options - described == set()
    assert described - options == set()


def test_check_finds_what_two_want(command):
    """Files and ports that two components, or one and the host, would use."""
    def check(*components, **more):
        done = command("check", "-", input=json.dumps({"components": [
            {"id": "u", "type": "udp_input", "config": {"port": 0}}, *components], **more}))
        return done.returncode, [line.split(None, 2)[2] for line in done.stderr.splitlines() if line.startswith("error")]

    def store(name, path, **more):
        return {"id": name, "type": "storage", "inputs": ["u"], "config": {"path": path}, **more}

    def listen(name, port, **more):
        return {"id": name, "type": "websocket_output", "inputs": ["u"], "config": {"port": port, **more}}

    assert check(store("a", "/x/y.jsonl"), store("b", "/x/y.jsonl")) == (
        78, ['/components/2/config/path  "a" and "b" would both use the file "/x/y.jsonl"; give one of them another'])
    assert check(store("a", "/x/%Y/y.jsonl"), store("b", "/x//%Y/y.jsonl"))[0] == 78
    assert check(store("a", "/x/{component}.jsonl"), store("b", "/x/{component}.jsonl"))[0] == 0
    assert check(listen("a", 8080, path="/p"), listen("b", 8080, path="/p")) == (
        78, ['/components/2/config/port  "a" and "b" would both use TCP port 8080; give one of them another'])
    assert check(listen("a", 8080, bind="127.0.0.1"), listen("b", 8080))[0] == 78
    assert check(listen("a", 8080, bind="127.0.0.1"), listen("b", 8080, bind="127.0.0.2"))[0] == 0
    assert check(listen("a", 0), listen("b", 0))[0] == 0
    assert check(listen("a", 0, spool={"path": "s"}), listen("b", 0, spool={"path": "s/"})) == (
        78, ['/components/2/config/spool/path  "a" and "b" would both use the file "s"; give one of them another'])
    assert check(listen("a", 8080), listen("b", 8080, url="ws://127.0.0.1:1/"))[0] == 0
    both = '/components/1/config/port  "admin" and the admin port would both use TCP port 9600; give one of them another'
    assert check(listen("admin", 9600))[1] == [both]
    assert check(listen("a", 9600), admin={"listen": "off"})[0] == 0

    def acme(path, port, address="127.0.0.1"):
        return {"mode": "acme", "acme": {
            "directory_url": "https://ca.test/dir", "email": "a@b.test", "domains": ["a.test"], "storage_path": path,
            "challenge_port": port, "challenge_address": address}}

    def secure(port, **more):
        return {"tls": {"server": {"enabled": True, **acme("/x/s", port)}, **more}}

    both = '/components/1/config/port  "security.tls" and "a" would both use TCP port 8080; give one of them another'
    assert check(listen("a", 8080), security=secure(8080)) == (78, [both])
    assert check(listen("a", 8080, bind="127.0.0.2"), security=secure(8080))[0] == 0
    assert check(listen("a", 8081), security=secure(8080, client=acme("/x/c", 8080)))[0] == 0  # they take turns
    both = '"tls.server" and the admin port would both use TCP port 9600; give one of them another'
    assert check(security=secure(9600)) == (78, [f"/security/tls/server/acme/challenge_port  {both}"])

    def receive(name, port, **more):
        return {"id": name, "type": "udp_input", "config": {"port": port, **more}}

    both = '/components/2/config/port  "a" and "b" would both use UDP port 14550; give one of them another'
    assert check(receive("a", 14550), receive("b", 14550)) == (78, [both])
    assert check(receive("a", 14550, sockets=2), receive("b", 14550, bind="127.0.0.1", sockets=2)) == (78, [both])
    assert check(receive("a", 14550, bind="127.0.0.1"), receive("b", 14550, bind="127.0.0.2"))[0] == 0
    assert check(receive("a", 14550), receive("b", 14551), listen("c", 14550))[0] == 0
    assert check(receive("a", 14550, multicast="239.1.2.3"), receive("b", 14550, multicast="239.1.2.4"))[0] == 0


@pytest.mark.parametrize("bind, admin, both", [
    ("", "127.0.0.1", True), ("", "0.0.0.0", True), ("", "[::1]", True), ("", "localhost", True),
    ("0.0.0.0", "127.0.0.1", True), ("0.0.0.0", "0.0.0.0", True), ("0.0.0.0", "[::]", True), ("0.0.0.0", "[::1]", False),
    ("::", "127.0.0.1", False), ("::", "[::1]", True), ("::", "[::]", True), ("::1", "[0:0::1]", True),
    ("127.0.0.2", "127.0.0.1", False), ("127.0.0.2", "0.0.0.0", True), ("127.0.0.1", "localhost", True),
    ("127.0.0.1", "[::ffff:127.0.0.1]", True), ("127.0.0.1", "[::]", True), ("127.0.0.1", "[::1]", False)])
def test_check_compares_addresses_as_the_kernel_does(command, start, tcp_port, bind, admin, both):
    """A port that is listened on and the admin port: check says the same as starting would."""
    config = {"admin": {"listen": f"{admin}:{tcp_port}"}, "components": [
        {"id": "u", "type": "udp_input", "config": {"port": 0}},
        {"id": "w", "type": "websocket_output", "config": {"port": tcp_port, "bind": bind}}]}
    done = command("check", "-", input=json.dumps(config))
    assert (done.returncode == 78) == both, done.stderr
    assert ('"w" and the admin port would both use' in done.stderr) == both, done.stderr
    if not both:
        assert start(config).terminate() == 0


def test_check_finds_all_that_is_wrong_with_an_endpoint(command):
    wrong = {"bind": "localhost", "path": "x", "dead_after": "10s", "retry_min": "1m", "allowed_origins": ["a", "b"]}
    done = command("check", "-", input=json.dumps({"components": [
        {"id": "i", "type": "websocket_input", "config": {"port": 1, **wrong}},
        {"id": "o", "type": "websocket_output", "config": {"port": 2, **wrong, "links": False, "plain": False}},
        {"id": "d", "type": "websocket_output", "inputs": ["i"],
         "config": {"url": "http://x/", "path": "x", "links": False, "spool": {"path": "p", "colour": 1}}}]}))
    told = [line.split(None, 3)[2] for line in done.stderr.splitlines() if line.startswith("error")]
    each = ["allowed_origins/0", "allowed_origins/1", "bind", "dead_after", "path", "retry_max"]
    assert sorted(told) == sorted(
        [f"/components/0/config/{key}" for key in each]
        + [f"/components/1/config/{key}" for key in [*each, "links"]]
        + [f"/components/2/config/{key}" for key in ["path", "url", "spool", "spool/colour"]]), done.stderr
    assert '"localhost" is not a numeric IPv4 or IPv6 address' in done.stderr


def test_check_goes_on_behind_a_wrong_option(command):
    """What a plugin finds is told beside what the option table finds, and nothing of what only follows from it."""
    done = command("check", "-", input=json.dumps({"components": [
        {"id": "u", "type": "udp_input", "config": {"port": 0, "bind": "nonsense", "receive_buffer": "5 parsecs"}},
        {"id": "a", "type": "aggregate", "config": {"functions": {"n": "cuont", "m": "maen(x)"}}},
        {"id": "s", "type": "storage", "config": {"path": 7, "mode": "rw", "colour": "red"}}]}))
    told = [line.split(None, 3)[2] for line in done.stderr.splitlines() if line.startswith("error")]
    assert sorted(told) == [
        "/components/0/config/bind", "/components/0/config/receive_buffer", "/components/1/config",
        "/components/1/config/functions/m", "/components/1/config/functions/n", "/components/2/config/colour",
        "/components/2/config/mode", "/components/2/config/path"], done.stderr


def test_check_standard_input(command):
    """Errors are told with the place in what was piped in; files are relative to the current folder."""
    good = {"components": [{"id": "udp", "type": "udp_input", "config": {"port": 0}},
                           {"id": "f", "type": "storage", "config": {"path": "x"}}]}
    done = command("check", "-", input=json.dumps(good))
    assert done.returncode == 0 and done.stdout.startswith("ok: 2 components"), done
    good["components"][0]["config"]["port"] = "x"
    done = command("check", "-", input=json.dumps(good, indent=1))
    assert done.returncode == 78 and "error stdin:7:" in done.stderr, done
    assert "error stdin:1:1" in command("check", "-c", "-", input="").stderr
    assert command("run", "-").returncode == 2


def test_unknown_type(command):
    done = command("plugins", "describe", "fliter")
    assert done.returncode == 1 and done.stdout == ""
    assert "unknown type 'fliter' (did you mean 'filter'?)" in done.stderr


# ---- schema ------------------------------------------------------------------------------------------------


@pytest.fixture
def schema(command):
    """A validator of `semstreams schema`."""
    jsonschema = pytest.importorskip("jsonschema")
    done = command("schema")
    assert done.returncode == 0 and done.stderr == ""
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def problems(schema, document):
    """Deepest places at which the document is wrong, as pointers."""

    def leaves(error):
        return [leaf for inner in error.context for leaf in leaves(inner)] or [error]

    return sorted({"/" + "/".join(map(str, leaf.absolute_path)) for error in schema.iter_errors(document)
                   for leaf in leaves(error)})


def test_schema_accepts_examples(schema, command, tree):
    files = sorted((tree / "examples").glob("**/*.json"))
    own = tree / "examples" / "plugin"  # their types are installed by nobody but their own tests
    for file in [f for f in files if own not in f.parents]:
        document = json.loads(file.read_text())
        if "components" in document:
            assert problems(schema, document) == [], file


def edited(path, value):
    """A good document with the value at a path of keys; no value: removed."""
    document = json.loads(json.dumps(EDGE))
    at = document
    for key in path[:-1]:
        at = at[key] if isinstance(at, list) else at.setdefault(key, {})
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return document


GOOD = [
    (["$schema"], "semstreams.schema.json"),
    (["admin", "listen"], "off"),
    (["admin", "listen"], "[::1]:9600"),
    (["log"], {"level": "debug", "format": "json"}),
    (["plugins", "paths"], ["/opt/plugins"]),
    (["components", 0, "worker"], "shared"),
    (["components", 1, "inputs"], "udp"),
    (["components", 1, "inputs"], ["udp"]),
    (["components", 1, "queue"], {"bytes": 1000}),
    (["components", 0, "config", "receive_buffer"], "1.5MiB"),
    (["components", 0, "config", "receive_buffer"], 65536),
    (["components", 0, "config", "bind"], {"file": "address"}),
    (["components", 0, "config", "truncated"], "${env:TRUNCATED}"),
    (["components", 0, "config", "port"], "${env:PORT}"),
    (["components", 0, "config", "gro"], "${env:GRO}"),
    (["components", 1, "queue"], {"events": "${env:EVENTS}", "bytes": "${env:EVENTS}"}),
    (["plugins", "strict"], "${env:STRICT}"),
    (["security", "tls", "server"], {"enabled": "${env:TLS}"}),
    (["security"], {}),
    (["security", "tls"], {"server": {}, "client": {"mtls": {}}}),
    (["security", "tls", "server"], {"enabled": False, "min_version": "1.3", "acme": {"enabled": False}}),
    (["security", "tls", "server"], {"enabled": False, "mtls": {"enabled": False, "allowed_client_cns": []}}),
    (["security", "tls", "client"], {"insecure_skip_verify": True, "mode": "manual"}),
]

WRONG = [
    (["components"], ...),
    (["components"], []),
    (["components"], {}),
    (["component"], []),
    (["admin", "listen"], 9600),
    (["admin", "listen"], "9600"),
    (["admin", "port"], 9600),
    (["log", "level"], "loud"),
    (["plugins", "paths"], "/opt/plugins"),
    (["plugins", "paths"], [""]),
    (["components", 0, "id"], ...),
    (["components", 0, "id"], "a b"),
    (["components", 0, "id"], "x" * 64),
    (["components", 0, "type"], ...),
    (["components", 0, "type"], "udp_inptu"),
    (["components", 0, "inputs"], ["hot"]),
    (["components", 0, "colour"], "red"),
    (["components", 0, "config"], []),
    (["components", 0, "config", "prot"], 1),
    (["components", 0, "config", "port"], "14550"),
    (["components", 0, "config", "port"], 65536),
    (["components", 0, "config", "port"], 1.5),
    (["components", 0, "config", "gro"], "true"),
    (["components", 0, "config", "bind"], 1),
    (["components", 0, "config", "truncated"], "explode"),
    (["components", 0, "config", "receive_buffer"], "8 MiB"),
    (["components", 0, "config", "receive_buffer"], -1),
    (["components", 1, "inputs"], [1]),
    (["components", 1, "inputs"], [{"queue": {}}]),
    (["components", 1, "inputs"], [{"from": "udp", "que": {}}]),
    (["components", 1, "queue"], {"events": 0}),
    (["components", 1, "queue"], {"overflow": "spill"}),
    (["components", 1, "queue"], 5),
    (["security", "tsl"], {}),
    (["security", "tls", "serve"], {}),
    (["security", "tls", "server"], {"mode": "manual"}),
    (["security", "tls", "server"], {"enabled": "true"}),
    (["security", "tls", "server"], {"enabled": True}),
    (["security", "tls", "server"], {"enabled": False, "cert_file": "a.crt"}),
    (["security", "tls", "server"], {"enabled": False, "min_version": "1.1"}),
    (["security", "tls", "server"], {"enabled": False, "min_version": 1.3}),
    (["security", "tls", "server"], {"enabled": False, "mode": "Manual"}),
    (["security", "tls", "server"], {"enabled": False, "ca_files": ["ca.crt"]}),
    (["security", "tls", "server"], {"enabled": False, "mtls": {"enabled": True}}),
    (["security", "tls", "server"], {"enabled": False, "mtls": {"enabled": False, "allowed_client_cns": "edge"}}),
    (["security", "tls", "client"], {"ca_files": "ca.crt"}),
    (["security", "tls", "client"], {"ca_files": []}),
    (["security", "tls", "client"], {"enabled": True}),
    (["security", "tls", "client"], {"mtls": {"enabled": True, "cert_file": "a.crt"}}),
    (["security", "tls", "client"], {"acme": []}),
]


@pytest.mark.parametrize("path, value", GOOD)
def test_schema_and_check_accept(schema, command, config, tmp_path, path, value):
    (tmp_path / "address").write_text("127.0.0.1\n")
    document = edited(path, value)
    assert problems(schema, document) == []
    variables = {"TRUNCATED": "keep", "PORT": "14550", "GRO": "true", "EVENTS": "100", "STRICT": "true", "TLS": "false"}
    done = command("check", config(document), env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path, value", WRONG)
def test_schema_and_check_refuse(schema, command, config, path, value):
    document = edited(path, value)
    assert problems(schema, document) != []
    assert command("check", config(document)).returncode == 78


def test_schema_and_check_accept_certificates(schema, command, config, tmp_path):
    leaf = Pki(tmp_path / "pki").location("a").leaf("localhost")
    pair = {"cert_file": str(leaf.cert), "key_file": str(leaf.key)}
    mutual = {"enabled": True, "client_ca_files": [str(leaf.cert)], "require_client_cert": True, "allowed_client_cns": ["a"]}
    for client in pair, {"mtls": {"enabled": True, **pair}}:
        document = edited(["security", "tls"], {
            "server": {"enabled": True, "mode": "manual", "min_version": "1.2", **pair, "mtls": mutual},
            "client": {"ca_files": [str(leaf.cert)], **client}})
        assert problems(schema, document) == []
        done = command("check", config(document))
        assert done.returncode == 0, done.stderr
        assert "of all files only certificates and keys were opened" in done.stderr


TESTS = [  # members of "config", and whether they are right
    ({"where": {"field": "a", "op": "gt", "value": 2}}, True), ({"where": {"field": "a", "op": "xx", "value": 2}}, False),
    ({"where": {"op": "gt", "value": 2}}, False), ({"where": {"field": "a", "op": "gt", "value": True}}, False),
    ({"where": {"field": "a", "op": "gt", "value": "20"}}, False), ({"where": {"field": "a", "op": "gt", "value": "2026-01-01"}}, True),
    ({"where": {"field": "a", "op": "eq", "value": "20"}}, True), ({"where": {"field": "a", "op": "in", "value": 3}}, False),
    ({"where": {"and": []}}, False), ({"where": {"field": "a", "op": "gt", "value": 2, "x": 1}}, False),
    ({"where": {"field": "a", "op": "between", "value": [1]}}, False), ({"where": [{"field": "a", "op": "exists"}]}, True),
    ({"where": {"not": {"path": "$.a", "operator": ">", "value": 1}}}, True), ({"where": "a > 2"}, False),
    ({"where": {"a": {"gt": 20, "lte": 80}, "b": {"equals": "ok"}}}, True), ({"where": {"a": {"xx": 20}}}, False),
    ({"functions": {"m": "mean(x)", "n": "count", "p": "p99.9(x)", "q": {"fn": "top", "field": "x"}}}, True),
    ({"functions": {"m": "maen(x)"}}, False), ({"functions": {"m": "mean"}}, False), ({"functions": {"m": {"fn": "maen"}}}, False),
    ({"window": {"type": "tumbling"}}, False), ({"window": {"type": "session", "gap": "1s"}}, True), ({"output": "x"}, False)]


@pytest.mark.parametrize("members,right", TESTS, ids=[json.dumps(members) for members, _ in TESTS])
def test_schema_and_check_agree_on_nested_options(schema, command, members, right):
    aggregate = {"window": {"type": "tumbling", "size": "1s"}, "functions": {"n": "count"}}
    stage = {"type": "filter", "config": members} if "where" in members else {"type": "aggregate", "config": {**aggregate, **members}}
    document = {"components": [{"id": "u", "type": "udp_input", "config": {"port": 0}}, {"id": "x", "inputs": "u", **stage}]}
    assert (problems(schema, document) == []) is right
    assert (command("check", "-", input=json.dumps(document)).returncode == 0) is right


def test_schema_and_check_agree_on_inputs(schema, command):
    for inputs, right in (("u", True), (["u"], True), ([{"from": "u"}], True), (7, False)):
        document = {"components": [{"id": "u", "type": "udp_input", "config": {"port": 0}},
                                   {"id": "f", "type": "filter", "inputs": inputs}]}
        assert (problems(schema, document) == []) is right
    document["components"] = [{"id": "u", "type": "udp_input", "inputs": "f"}, {"id": "f", "type": "filter", "inputs": []}]
    assert problems(schema, document) != [] and command("check", "-", input=json.dumps(document)).returncode == 78


RECURSIVE = r"""
#include <semstreams/plugin.h>
struct conf { const char *tree; int64_t wait; };
static int32_t create(const struct ss_host *h, const void *c, void **s) { (void)h; (void)c; *s = 0; return 0; }
static void destroy(void *s) { (void)s; }
static const struct ss_option options[] = {
	{.key = "tree", .type = SS_OPT_JSON, .flags = SS_OPT_REQUIRED, .offset = offsetof(struct conf, tree),
	 .schema = "{\"$defs\": {\"leaf\": {\"type\": \"integer\"}},"
	           " \"anyOf\": [{\"$ref\": \"#/$defs/leaf\"}, {\"type\": \"array\", \"items\": {\"$ref\": \"#\"}}]}"},
	{.key = "wait", .type = SS_OPT_DURATION, .offset = offsetof(struct conf, wait)},
};
static const struct ss_component c = {.struct_size = sizeof c, .kind = SS_KIND_PROVIDER, .type = "recursive",
	.options = options, .option_size = sizeof options[0], .n_options = 2, .conf_size = sizeof(struct conf),
	.create = create, .destroy = destroy};
SS_REGISTER(&c);
"""


def test_schema_fragments_refer_to_themselves(command, tree, tmp_path):
    """A plugin's own piece of schema works with references as if it stood alone."""
    jsonschema = pytest.importorskip("jsonschema")
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (tmp_path / "x.c").write_text(RECURSIVE)
    subprocess.run([*shlex.split(os.environ.get("CC") or "cc"), "-shared", "-fPIC", f"-I{tree}/sdk/include", "-o",
                    folder / "recursive.so", tmp_path / "x.c"], check=True)
    (folder / "recursive.so").chmod(0o755)
    document = json.loads(command("schema", "--plugins", folder).stdout)
    schema = jsonschema.Draft202012Validator(document)

    def wrong(options):
        component = {"id": "x", "type": "recursive"}
        if options is not None:
            component["config"] = options
        return problems(schema, {"components": [component]})

    assert wrong({"tree": [1, [2, [3]]]}) == []
    assert wrong({"tree": 1, "wait": "1h30m"}) == []
    assert wrong({"tree": [1, ["x"]]}) != []
    assert wrong({"tree": 1, "wait": 5}) != []
    assert wrong({"tree": 1, "wait": "5 s"}) != []
    assert wrong({}) != [] and wrong(None) != []


# ---- what is written about it ------------------------------------------------------------------------------


def test_manual_and_completion_know_every_option(command, tree):
    manual = (tree / "docs/man/semstreams.1").read_text().replace("\\-", "-")
    completion = (tree / "packaging/completion/semstreams.bash").read_text()
    told = {option for words in COMMANDS for option in re.findall(r"--[a-z][a-z-]+", command("help", *words).stdout)}
    assert {"--config", "--plugins", "--json"} <= told
    for option in told | {"--help", "--version"}:
        assert option in manual, option
        assert option in completion, option
    for words in COMMANDS:
        assert f".B {' '.join(words)}\n" in manual and words[-1] in completion
