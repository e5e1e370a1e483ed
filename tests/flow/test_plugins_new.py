# SPDX-License-Identifier: MIT
"""`semstreams plugins new`: each package builds, is tested by its own tests, runs, and can be packed; docs/plugins.md, as it
stands there.

Environment: TEST_EVERY_PACKAGE = all packages pass their distcheck, not only one of each language.
"""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE
from pki import Pki
from test_documents import netcat

STRICT = "-O1 -g -Wall -Wextra -Wpedantic -Werror"
KINDS = [(kind, lang) for lang in ("c", "c++", "rust") for kind in ("source", "processor", "sink")] + [("tls", "c")]
SOURCES = {"c": "c", "c++": "cc", "rust": "rs"}


def installed(semstreams):
    """The environment of somebody whose SDK is that of the program; and none of the make that may run these tests."""
    prefix = Path(semstreams).resolve().parents[1]
    (pc,) = [*prefix.glob("lib*/pkgconfig"), *prefix.glob("lib/*/pkgconfig")][:1] or [None]
    if pc is None or not shutil.which("pkg-config"):
        pytest.skip("no SDK is installed beside the program, or pkg-config is missing")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "SEMSTREAMS", "CFLAGS", "CXXFLAGS")}
    return {**env, "PKG_CONFIG_PATH": str(pc), "ACLOCAL_PATH": str(prefix / "share" / "aclocal"),
            "PATH": f"{Path(semstreams).resolve().parent}:{env['PATH']}"}


def rustc(lang):
    """Debian's, where there are several."""
    found = "/usr/bin/rustc" if Path("/usr/bin/rustc").exists() else shutil.which("rustc")
    if lang == "rust" and not found:
        pytest.skip("rustc is missing; on Debian: apt-get install rustc")
    return f"RUSTC={found}"


@pytest.fixture
def made(semstreams, tmp_path):
    """made(kind, lang) -> the package's folder and a make() that works in it."""

    def make_package(kind, lang):
        folder = tmp_path / "my-plugin"
        done = subprocess.run([semstreams, "plugins", "new", "my-plugin", "--kind", kind, "--lang", lang], cwd=tmp_path,
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "made my-plugin" in done.stdout
        simple = ["-f", "Makefile.simple"] if lang == "c" else []

        def make(*args):
            ran = subprocess.run(["make", *simple, rustc(lang), f"CFLAGS={STRICT}", f"CXXFLAGS={STRICT}",
                                  "RUSTFLAGS=-O -g -D warnings", *args], cwd=folder,
                                 env=installed(semstreams), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert ran.returncode == 0, ran.stdout
            return ran.stdout

        return folder, make

    return make_package


@pytest.mark.parametrize("kind, lang", KINDS)
def test_package_builds_and_passes_its_tests(kind, lang, made, command):
    folder, make = made(kind, lang)
    said = make("check")
    assert said.count("\nok ") >= 3 and "not ok" not in said, said
    assert "skipped:" not in said  # the plugin ran in the installed program
    assert lang != "rust" or re.search(r"test result: ok\. [1-9]", said)  # the structs are those of the headers
    type_ = "my_plugin_tls" if kind == "tls" else "my_plugin"
    described = json.loads(command("plugins", "describe", type_, "--json", "--plugins", folder).stdout)
    assert described["type"] == type_ and described["kind"] == {"tls": "provider"}.get(kind, kind)
    symbols = subprocess.run(["nm", "-D", "--defined-only", folder / f"{type_}.so"], check=True, capture_output=True, text=True)
    assert [line.split()[-1] for line in symbols.stdout.splitlines()] == ["semstreams_entry_v1"]
    leftover = [f.name for f in folder.iterdir() if re.search(r"@(NAME|TYPE|MODE|KIND)@", f.read_bytes().decode(errors="replace"))]
    assert not leftover


FAULTS = {
    ("processor", "c"): ("++s->seen < s->conf->every", "++s->seen <= s->conf->every"),
    ("source", "c"): ("s->timer = 0;", "(void)s;"),
    ("sink", "c"): ("text[len++] = '\\n';", "len++;"),
    ("processor", "c++"): ("++seen < conf.every", "++seen <= conf.every"),
    ("processor", "rust"): ("self.seen.get() == self.every", "self.seen.get() > self.every"),
    ("tls", "c"): ("s->timer);\n}\n\nstatic void stop", "s->timer) - 1;\n}\n\nstatic void stop"),
}


@pytest.mark.parametrize("kind, lang", FAULTS)
def test_unit_tests_find_a_fault(kind, lang, made):
    folder, make = made(kind, lang)
    (source,) = [f for f in folder.glob(f"my_plugin*.{SOURCES[lang]}")]
    right, wrong = FAULTS[kind, lang]
    text = source.read_text()
    assert text.count(right) == 1
    source.write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError, match="failed: |watch|not released"):
        make("check")


def test_exceptions_stay_in_the_plugin(made, start, send, udp_port, tmp_path):
    """Thrown in each callback of the data path: an error of the component, and the host goes on."""
    folder, make = made("processor", "c++")
    source = folder / "my_plugin.cc"
    source.write_text(source.read_text().replace("auto out = new_batch", "if (in->count > 0) throw 42;\n\t\tauto out = new_batch"))
    make()
    program = start(pipeline(folder, udp_port, {"every": 1}))
    send(udp_port, "1", "2")
    program.wait_metric("semstreams_events_dropped_total", 2, component="mine", reason="error")
    program.wait_for(lambda: "Unknown exception callback=process" in program.log())
    assert program.terminate() == 0


def test_panics_stay_in_the_plugin(made, start, send, udp_port):
    folder, make = made("processor", "rust")
    source = folder / "my_plugin.rs"
    source.write_text(source.read_text().replace("let events = batch.events();",
                                                 "let events = batch.events();\n        assert!(events.is_empty());"))
    make()
    program = start(pipeline(folder, udp_port, {"every": 1}))
    send(udp_port, "1", "2")
    program.wait_metric("semstreams_events_dropped_total", 2, component="mine", reason="error")
    program.wait_for(lambda: 'Panic callback=process error="assertion failed: events.is_empty()"' in program.log())
    assert program.terminate() == 0


def pipeline(folder, port, config):
    """The folder of the package is that of the plugin."""
    return {
        "plugins": {"paths": [str(folder)]},
        "admin": {"listen": "127.0.0.1:0"},
        "components": [
            {"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": port}},
            {"id": "mine", "type": "my_plugin", "config": config},
            {"id": "out", "type": "storage", "config": {"path": "out.jsonl"}},
        ],
    }


@pytest.mark.parametrize("lang", SOURCES)
def test_processor_with_data_from_the_network(lang, made, start, send, lines, conserved, udp_port, tmp_path):
    folder, make = made("processor", lang)
    make()
    program = start(pipeline(folder, udp_port, {"every": 3}))
    send(udp_port, *(json.dumps({"n": n}) for n in range(1, 11)))
    conserved(program.wait_metric("semstreams_events_in_total", 10, component="mine"))
    assert program.terminate() == 0
    assert [json.loads(line)["n"] for line in lines(tmp_path / "out.jsonl")] == [3, 6, 9]
    mine = program.stopped("mine")
    assert (mine["in"], mine["out"], mine["filtered"], mine["dropped"]) == (10, 3, 7, 0)


@pytest.mark.parametrize("lang", SOURCES)
def test_sink_with_data_from_the_network(lang, made, start, send, lines, udp_port, tmp_path):
    folder, make = made("sink", lang)
    make()
    document = pipeline(folder, udp_port, {"path": "lines.txt"})
    del document["components"][2]
    program = start(document)
    send(udp_port, "one", "two")
    program.wait_metric("semstreams_events_in_total", 2, component="mine")
    assert program.terminate() == 0
    assert lines(tmp_path / "lines.txt") == ["one", "two"]


@pytest.mark.parametrize("lang", SOURCES)
def test_source_that_is_held_up(lang, made, start, tmp_path):
    """It is told to pause while the file's queue is full, and everything is accounted for."""
    folder, make = made("source", lang)
    make()
    (tmp_path / "reading").write_text("7\n")
    document = pipeline(folder, 0, {"path": "reading", "interval": "1ms"})
    del document["components"][0]
    document["components"][1]["inputs"] = [{"from": "mine", "queue": {"events": 1}}]
    program = start(document)
    program.wait_metric("semstreams_events_in_total", 20, component="out")
    assert program.terminate() == 0
    arrived = (tmp_path / "out.jsonl").read_text().splitlines()
    assert set(arrived) == {"7"} and len(arrived) == program.stopped("mine")["out"]


def test_provider_in_a_handshake(made, start, tmp_path, tcp_port):
    """The certificate of the files is what a client is shown; then the next one is."""
    folder, make = made("tls", "c")
    make()
    authority = Pki(tmp_path / "pki")
    location = authority.location("a")
    leaf = location.leaf("first.example", sans=["localhost", "127.0.0.1"])
    shutil.copy(leaf.cert, tmp_path / "server.crt")
    shutil.copy(leaf.key, tmp_path / "server.key")
    mine = {"cert_file": "server.crt", "key_file": "server.key", "interval": "50ms"}
    program = start({
        "plugins": {"paths": [str(folder)]}, "admin": {"listen": "127.0.0.1:0"},
        "security": {"tls": {"server": {"enabled": True, "mode": "my_plugin", "my_plugin": mine}}},
        "components": [{"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": 0}},
                       {"id": "hub", "type": "websocket_output", "config": {"bind": "127.0.0.1", "port": tcp_port, "path": "/"}}]})

    def shown(certificate):
        wanted = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN.*?-----END[^\n]*\n", Path(certificate).read_text(), re.S)[0])
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", tcp_port))) == wanted

    program.wait_for(lambda: shown(leaf.cert))
    following = location.leaf("second.example", sans=["localhost", "127.0.0.1"])
    for source, target in ((following.cert, "server.crt"), (following.key, "server.key")):
        shutil.copy(source, tmp_path / f"{target}.new")
        (tmp_path / f"{target}.new").rename(tmp_path / target)
    program.wait_for(lambda: shown(following.cert))
    assert program.terminate() == 0


ONE_OF_EACH = [("processor", "c"), ("source", "c++"), ("sink", "rust")]


@pytest.mark.slow
@pytest.mark.parametrize("kind, lang", KINDS if "TEST_EVERY_PACKAGE" in os.environ else ONE_OF_EACH)
def test_package_passes_its_distcheck(kind, lang, made, semstreams):
    """Also from another folder, of files that nobody may write to: that is what automake's does."""
    folder, make = made(kind, lang)
    if lang != "c":
        make("distcheck")
        assert (folder / "semstreams-my-plugin-0.1.0.tar.xz").exists()
        return
    for tool in ("autoreconf", "libtoolize"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    for words in (["autoreconf", "-fi"], ["./configure", "-q", f"CFLAGS={STRICT}"], ["make", "distcheck"]):
        ran = subprocess.run(words, cwd=folder, env=installed(semstreams), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ran.returncode == 0, ran.stdout
    assert "archives ready for distribution" in ran.stdout
    assert re.search(r"^PASS: test_my_plugin(_tls)?$", ran.stdout, re.M) and re.search(r"^PASS: pipeline\.test$", ran.stdout, re.M)


# ---- the command line


@pytest.mark.parametrize("words, code, reason", [
    (["--kind", "sink"], 2, "plugins new needs a name"),
    (["mine"], 2, "needs --kind source, processor, sink or tls"),
    (["mine", "--kind", "snik"], 2, r"unknown kind 'snik' \(did you mean 'sink'\?\)"),
    (["mine", "--kind", "sink", "--lang", "rusty"], 2, r"unknown lang 'rusty' \(did you mean 'rust'\?\)"),
    (["mine", "yours", "--kind", "sink"], 2, "unexpected word 'yours'"),
    (["Mine", "--kind", "sink"], 2, "'Mine' cannot name a plugin"),
    (["1st", "--kind", "sink"], 2, "'1st' cannot name a plugin"),
    (["../mine", "--kind", "sink"], 2, "'../mine' cannot name a plugin"),
    (["m" * 60, "--kind", "sink"], 2, "at most 59 characters"),
    (["manual", "--kind", "tls"], 2, '"mode": "manual" is built in'),
    (["storage", "--kind", "sink"], 1, "the type 'storage' is installed already, in .*/storage.so"),
    (["udp-input", "--kind", "source"], 1, "the type 'udp_input' is installed already"),
    (["mine", "--kind", "tls", "--lang", "rust"], 1, "no template for --kind tls in --lang rust: use --lang c$"),
    (["mine", "--kind", "sink", "--dir", "nowhere"], 1, "cannot make a folder in nowhere: No such file"),
    (["mine", "--kind", "sink", "--template", "nowhere"], 1, "there are no templates in nowhere: install the SDK"),
    (["there", "--kind", "sink"], 1, "there exists already: choose another name"),
], ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else None)
def test_errors(words, code, reason, command, tmp_path):
    """One line that says what to do, and nothing is left behind."""
    (tmp_path / "there").mkdir()
    said = command("plugins", "new", *words)
    assert (said.returncode, said.stdout) == (code, ""), said.stderr
    assert re.search(reason, said.stderr.splitlines()[0]) and len(said.stderr.splitlines()) == 1, said.stderr
    assert os.listdir(tmp_path) == ["there"] and not os.listdir(tmp_path / "there")


def test_a_file_that_cannot_be_read_leaves_nothing(command, tree, tmp_path):
    """All or nothing, also in the middle; and templates of one's own."""
    shutil.copytree(tree / "sdk" / "template", tmp_path / "own")
    (tmp_path / "own" / "all" / "more").write_text("of @NAME@, @TYPE@, @KIND@ and me@example.com\n")
    said = command("plugins", "new", "my-own", "--kind", "sink", "--template", "own", "--dir", ".")
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "my-own" / "more").read_text() == "of my-own, my_own, sink and me@example.com\n"
    (tmp_path / "own" / "c" / "sink" / "broken").symlink_to("nowhere")
    said = command("plugins", "new", "my-other", "--kind", "sink", "--template", "own")
    assert said.returncode == 1 and "broken" in said.stderr
    assert sorted(os.listdir(tmp_path)) == ["my-own", "own"]


def test_modes_are_those_of_the_user(command, tmp_path):
    """Whatever the umask: nobody else may write to the folder, or the host would load nothing from it."""
    old = os.umask(0)
    try:
        assert command("plugins", "new", "mine", "--kind", "sink").returncode == 0
    finally:
        os.umask(old)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o755


# ---- docs/plugins.md


def commands(tree):
    section = re.search(r"^## In ten minutes\n(.*?)^## ", (tree / "docs" / "plugins.md").read_text(), re.S | re.M)[1]
    return re.findall(r"^```sh\n(.*?)```", section, re.S | re.M)


@pytest.mark.slow
def test_page_from_nothing_to_a_tested_plugin(tree, semstreams, tmp_path, udp_port, tcp_port):
    """Its commands in order, in one shell, as a reader pastes them."""
    for tool in ("autoreconf", "libtoolize", "curl"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    blocks = commands(tree)
    assert len(blocks) >= 3
    text = "".join(blocks)
    ports = "sed -i -e s/14550/%d/ -e '1a \"admin\": {\"listen\": \"127.0.0.1:%d\"},' thin/pipeline.json\n" % (udp_port, tcp_port)
    first, rest = text.split("\n", 1)
    assert first == "semstreams plugins new thin --kind processor"
    text = f"{first}\n{ports}{rest.replace('14550', str(udp_port)).replace('9600', str(tcp_port))}"
    env = installed(semstreams)
    env["PATH"] = f"{netcat('netcat-openbsd', tmp_path)}:{env['PATH']}"
    ran = subprocess.Popen(["bash", "--norc", "-e", "-s"], cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        said, _ = ran.communicate(text, timeout=PATIENCE * 10)
    finally:
        if ran.poll() is None:
            os.killpg(ran.pid, signal.SIGKILL)
    assert ran.returncode == 0, said
    assert "# PASS:  2" in said and "Pass on one event in so many." in said, said
    assert said.rstrip().splitlines()[-2:] == ["two", "four"], said


@pytest.mark.slow
def test_newcomer(tree, semstreams):
    """tests/soak/newcomer, but with what is installed already."""
    ran = subprocess.run([tree / "tests" / "soak" / "newcomer", "--installed", Path(semstreams).resolve().parents[1]],
                         env=installed(semstreams), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^minutes of machine time: \d+\.\d", ran.stdout, re.M), ran.stdout
