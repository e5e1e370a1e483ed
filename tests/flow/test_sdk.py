# SPDX-License-Identifier: MIT
"""Plugins of other people: built from the template with what is installed, and files that are no good plugins."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))


def pkg_config(*args, package="semstreams"):
    if not shutil.which("pkg-config"):
        pytest.skip("pkg-config is not installed")
    answer = subprocess.run(["pkg-config", *args, package], capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"pkg-config does not find {package}: {answer.stderr.strip()}")
    return shlex.split(answer.stdout)


def build(source, target, compiler=CC):
    """What a stranger does: a compiler and pkg-config."""
    subprocess.run([*compiler, "-fPIC", "-shared", *pkg_config("--cflags"), "-o", target, source], check=True)
    target.chmod(0o755)


@pytest.fixture(scope="session")
def sample(tmp_path_factory, semstreams):
    """sample.so, built from the package that `plugins new` makes."""
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run([semstreams, "plugins", "new", "sample", "--kind", "processor", "--dir", folder], check=True, capture_output=True)
    build(folder / "sample" / "sample.c", folder / "sample" / "sample.so")
    return folder / "sample" / "sample.so"


@pytest.fixture
def plugins(tmp_path):
    """An empty folder for plugins."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


def pipeline(plugins, out, port=0, middle=None):
    return {
        "plugins": {"paths": [str(plugins)]},
        "admin": {"listen": "127.0.0.1:0"},
        "components": [
            {"id": "in", "type": "udp_input", "config": {"bind": "127.0.0.1", "port": port}},
            middle or {"id": "thin", "type": "sample", "config": {"every": 3}},
            {"id": "out", "type": "storage", "config": {"path": str(out)}},
        ],
    }


def build_test(folder, source="sample.c"):
    """The unit test of the template, against the installed test host."""
    program = folder / "test_sample"
    subprocess.run([*CC, "-g", *pkg_config("--cflags"), "-o", program, folder / "test_sample.c", folder / source,
                    *pkg_config("--libs", package="semstreams-test-host")], check=True)
    return subprocess.run([program], capture_output=True, text=True)


def test_unit_test_of_the_template(sample, tmp_path):
    """It passes, and it is one that can fail: for each of these faults."""
    folder = sample.parent
    ran = build_test(folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    text = (folder / "sample.c").read_text()
    for right, wrong, reason in [
        ("++s->seen < s->conf->every", "++s->seen <= s->conf->every", "failed: 2"),
        ("if (out->count > 0)", "if (1)", "no empty batch"),
        ("return -ENOMEM; /* the host", "return SS_DONE; /* the host", "memory ran out"),
        ("\ts->host->batch_unref(out);\n", "", "a batch was not released"),
        ("s->host->emit(s->host, 0, out);", "s->host->emit(s->host, 1, out);", "a port that is not there"),
    ]:
        assert text.count(right) == 1, right
        (folder / "faulty.c").write_text(text.replace(right, wrong))
        ran = build_test(folder, "faulty.c")
        assert ran.returncode != 0, wrong
        assert reason in ran.stderr, ran.stderr


def test_template_in_a_pipeline(sample, plugins, tmp_path, start, send, lines, conserved, udp_port):
    shutil.copy(sample, plugins)
    out = tmp_path / "out.jsonl"
    program = start(pipeline(plugins, out, udp_port))
    send(udp_port, *(json.dumps({"n": n}) for n in range(1, 11)))
    metrics = program.wait_metric("semstreams_events_in_total", 10, component="thin")
    conserved(metrics)
    assert program.terminate() == 0
    assert [json.loads(line)["n"] for line in lines(out)] == [3, 6, 9]
    thin = program.stopped("thin")
    assert (thin["in"], thin["out"], thin["filtered"], thin["dropped"]) == (10, 3, 7, 0)


def test_template_is_described(sample, plugins, command):
    shutil.copy(sample, plugins)
    said = command("plugins", "describe", "sample", "--plugins", plugins)
    assert said.returncode == 0, said.stderr
    assert "every" in said.stdout and "Pass on one event in so many." in said.stdout
    listed = command("plugins", "list", "--plugins", plugins)
    assert re.search(rf"^sample .*{re.escape(str(plugins))}/sample\.so", listed.stdout, re.M)


def test_options_of_the_template_are_checked(sample, plugins, tmp_path, command):
    shutil.copy(sample, plugins)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(pipeline(plugins, tmp_path / "out", middle={
        "id": "thin", "type": "sample", "config": {"evrey": 3, "every": 0}})))
    said = command("check", config)
    assert said.returncode == 78
    assert re.search(r'/components/1/config/evrey .*"every"', said.stderr + said.stdout)
    assert "/components/1/config/every " in said.stderr + said.stdout


def text_file(sample, so, tmp_path):
    so.write_text("This is no plugin.\n")


def truncated(sample, so, tmp_path):
    so.write_bytes(sample.read_bytes()[:2000])


def cut_in_the_middle(sample, so, tmp_path):
    whole = sample.read_bytes()
    so.write_bytes(whole[:len(whole) * 3 // 4])


def empty(sample, so, tmp_path):
    so.touch()


def next_abi(sample, so, tmp_path):
    source = tmp_path / "next.c"
    source.write_text("const int semstreams_entry_v2[4] = {16};\n")
    build(source, so)


def no_plugin(sample, so, tmp_path):
    source = tmp_path / "library.c"
    source.write_text("int nothing(void) { return 0; }\n")
    build(source, so)


def other_machine(sample, so, tmp_path):
    elf = bytearray(sample.read_bytes())
    elf[18:20] = (8).to_bytes(2, "little")  # e_machine: MIPS
    so.write_bytes(elf)


def world_writable(sample, so, tmp_path):
    shutil.copy(sample, so)
    so.chmod(0o757)


def folder_in_its_place(sample, so, tmp_path):
    so.mkdir()


def missing_library(sample, so, tmp_path):
    """An undefined symbol: found by the dynamic linker, as the file as such is in order."""
    source = tmp_path / "undefined.c"
    source.write_text(
        "#include <semstreams/plugin.h>\n"
        "int32_t nobody_has_this(const struct ss_host *, const void *, void **);\n"
        "static void destroy(void *self) { (void)self; }\n"
        "static int32_t process(void *self, uint32_t port, struct ss_batch *b)"
        " { (void)self; (void)port; (void)b; return 0; }\n"
        "static const struct ss_component c = {.struct_size = sizeof c, .kind = SS_KIND_PROCESSOR,\n"
        " .type = \"sample\", .version = \"1\", .summary = \"none\", .license = \"MIT\",\n"
        " .create = nobody_has_this, .destroy = destroy, .process = process};\n"
        "SS_REGISTER(&c);\n")
    build(source, so)


BAD = [
    (text_file, "not a shared object"),
    (truncated, "cut short|damaged"),
    (cut_in_the_middle, "cut short|damaged"),
    (empty, "empty|not a shared object|cut short"),
    (next_abi, r"ABI 2\b.*\bABI 1\b"),
    (no_plugin, "semstreams_entry|not a .*plugin"),
    (other_machine, "machine"),
    (world_writable, r"writable by group or others.*chmod go-w"),
    (folder_in_its_place, "regular file"),
]
names = [make.__name__ for make, _ in BAD]


@pytest.mark.parametrize("make, reason", BAD + [(missing_library, "nobody_has_this")],
                         ids=[*names, "missing_library"])
def test_bad_file_that_is_needed(make, reason, sample, plugins, tmp_path, command):
    make(sample, plugins / "sample.so", tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(pipeline(plugins, tmp_path / "out.jsonl"), indent=1))
    for args in (["run", "--config", config], ["check", config]):
        said = command(*args)
        assert said.returncode == 78, said.stderr
        about = [line for line in said.stderr.splitlines() if "sample.so" in line]
        assert len(about) == 1, said.stderr
        assert re.search(reason, about[0]), about[0]
        assert re.match(rf"error {re.escape(str(config))}:\d+:\d+ /components/1/type ", about[0])
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("make, reason", BAD, ids=names)
def test_bad_file_that_is_not_needed(make, reason, sample, plugins, tmp_path, start, send, lines, udp_port):
    shutil.copy(sample, plugins / "sample.so")
    make(sample, plugins / "other.so", tmp_path)
    program = start(pipeline(plugins, tmp_path / "out.jsonl", udp_port))
    send(udp_port, "1", "2", "3")
    program.wait_metric("semstreams_events_in_total", 1, component="out")
    assert program.terminate() == 0
    about = [line for line in program.log().splitlines() if "other.so" in line]
    assert len(about) == 1, program.log()
    assert " WARN " in about[0] and re.search(reason, about[0]), about[0]
    assert lines(tmp_path / "out.jsonl") == ["3"]


def test_folder_others_may_write_to(sample, plugins, tmp_path, command):
    shutil.copy(sample, plugins)
    plugins.chmod(0o777)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(pipeline(plugins, tmp_path / "out.jsonl")))
    said = command("run", "--config", config)
    assert said.returncode == 78
    assert re.search(rf"{re.escape(str(plugins))} is writable by group or others.*chmod go-w", said.stderr)


def test_first_folder_wins(sample, plugins, tmp_path, command):
    """--plugins comes before plugins.paths, and both before the installed ones."""
    first = tmp_path / "first"
    first.mkdir(mode=0o755)
    shutil.copy(sample, plugins)
    shutil.copy(sample, first)
    listed = command("plugins", "list", "--plugins", first, "--plugins", plugins)
    assert listed.returncode == 0, listed.stderr
    assert [line for line in listed.stdout.splitlines() if line.startswith("sample ")][0].count(f"{first}/sample.so")


# ---- the tree itself


def sources(*folders):
    """Plugins and their unit tests; the test host is made of parts of the core."""
    for folder in folders:
        for file in folder.rglob("*"):
            if file.suffix in (".c", ".h", ".cc", ".cpp") and file.parent.name != "test-host":
                yield file


def test_plugins_use_the_sdk_only(tree):
    """In-tree plugins have no back door: what they do, a stranger's can."""
    breaches = []
    for file in sources(tree / "plugins", tree / "examples", tree / "sdk"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if re.match(r'\s*#\s*include\s*["<](\.\./)*((core|tests)/|config\.h)', line):
                breaches.append(f"{file}:{number}: {line}")
    assert not breaches


def test_plugins_export_one_symbol():
    (folder,) = pkg_config("--variable=plugindir")
    found = sorted(name for name in os.listdir(folder) if name.endswith(".so"))
    assert found
    assert [name for name in os.listdir(folder) if name.endswith(".la")] == []
    for name in found:
        symbols = subprocess.run(["nm", "-D", "--defined-only", f"{folder}/{name}"], check=True, capture_output=True,
                                 text=True).stdout
        symbols = [s for s in (line.split()[-1] for line in symbols.splitlines()) if not s.startswith("__asan")]
        assert symbols == ["semstreams_entry_v1"], name
