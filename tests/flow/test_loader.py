# SPDX-License-Identifier: MIT
"""Plugins from elsewhere: one that works, and files that are none: each a clear line, an error only where it is needed."""

import json
import os
import shlex
import subprocess

import pytest

SOURCE = r"""
#include <semstreams/plugin.h>
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
static int32_t create(const struct ss_host *h, const void *conf, void **self)
{
	(void)conf;
	*self = (void *)h;
	return 0;
}
static void destroy(void *self) { (void)self; }
static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	const struct ss_host *h = self;
	(void)port;
	h->emit(h, 0, batch);
	return SS_DONE;
}
static const struct ss_component c = {.struct_size = sizeof c, .kind = SS_KIND_PROCESSOR, .type = TEXT(TYPE),
	.version = "1", .create = create, .destroy = destroy, .process = process};
SS_REGISTER(&c);
"""


def build(tree, folder, name, *flags):
    source = folder / f"{name}.c"
    source.write_text(SOURCE)
    so = folder / f"{name}.so"
    subprocess.run([*shlex.split(os.environ.get("CC") or "cc"), "-shared", "-fPIC", "-fvisibility=hidden",
                    f"-I{tree}/sdk/include", f"-DTYPE={name}", *flags, "-o", so, source], check=True)
    so.chmod(0o755)
    return so


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "plugins"
    path.mkdir(mode=0o755)
    return path


def pipeline(folder, *types):
    components = [{"id": "in", "type": "udp_input", "config": {"port": 0, "bind": "127.0.0.1"}}]
    components += [{"id": f"c{i}", "type": t} for i, t in enumerate(types)]
    return {"components": components, "plugins": {"paths": [str(folder)]}}


def write(tmp_path, config):
    file = tmp_path / "edge.json"
    file.write_text(json.dumps(config, indent=1))
    return file


def text_file(tree, folder):
    (folder / "bad.so").write_text("this is no shared object\n")
    return "is not a shared object"


def empty_file(tree, folder):
    (folder / "bad.so").write_text("")
    return "is not a shared object"


def truncated(tree, folder):
    so = build(tree, folder, "bad")
    os.truncate(so, so.stat().st_size // 2)
    return "is cut short or damaged; install it again"


def wrong_abi(tree, folder):
    build(tree, folder, "bad", "-Dsemstreams_entry_v1=semstreams_entry_v2")
    return "is built for plugin ABI 2, this host has ABI 1"


def world_writable(tree, folder):
    build(tree, folder, "bad").chmod(0o777)
    return "is writable by group or others (mode 0777); chmod go-w it"


def no_symbol(tree, folder):
    build(tree, folder, "bad", "-Dsemstreams_entry_v1=something_else")
    return "is not a semstreams plugin"


def other_machine(tree, folder):
    so = build(tree, folder, "bad")
    data = bytearray(so.read_bytes())
    data[18] ^= 0xff  # e_machine
    so.write_bytes(data)
    return "is for "


def folder_itself(tree, folder):
    (folder / "bad.so").mkdir()
    return "is not a regular file"


def dangling(tree, folder):
    (folder / "bad.so").symlink_to("nowhere")
    return "cannot be opened: No such file or directory"


BAD = [text_file, empty_file, truncated, wrong_abi, world_writable, no_symbol, other_machine, folder_itself, dangling]


@pytest.mark.parametrize("make", BAD)
def test_needed_file_that_is_bad(command, tree, folder, tmp_path, make):
    words = make(tree, folder)
    config = write(tmp_path, pipeline(folder, "bad"))
    for args in (["check", config], ["--config", config], ["run", "--config", config]):
        done = command(*args)
        assert done.returncode == 78, done
        told = [line for line in done.stderr.splitlines() if "bad.so" in line]
        assert len(told) == 1, done.stderr
        assert told[0].startswith(f"error {config}:") and f"{folder}/bad.so {words}" in told[0]


@pytest.mark.parametrize("make", BAD)
def test_other_file_that_is_bad(command, tree, folder, tmp_path, make):
    words = make(tree, folder)
    build(tree, folder, "good")
    done = command("check", write(tmp_path, pipeline(folder, "good")))
    assert done.returncode == 0, done
    told = [line for line in done.stderr.splitlines() if "bad.so" in line]
    assert len(told) == 1 and told[0].startswith("warning") and f"{folder}/bad.so {words}" in told[0]


def test_third_party_plugin_runs(start, command, tree, folder, send):
    """Next to a bad file, which is a warning in the log."""
    build(tree, folder, "good")
    text_file(tree, folder)
    program = start(pipeline(folder, "good"))
    port = int(program.metrics().sum("semstreams_udp_local_port", component="in"))
    send(port, "a", "b", "c")
    metrics = program.wait_metric("semstreams_events_in_total", 3, component="c0")
    assert program.terminate() == 0
    warnings = [line for line in program.log().splitlines() if "bad.so" in line]
    assert len(warnings) == 1 and " WARN " in warnings[0]
    assert metrics.components() == ["c0", "in"]


def test_bad_code_is_no_crash(command, tree, folder, tmp_path):
    """Loads and links fail in the dynamic loader, with its reason and without its name for the file."""
    build(tree, folder, "bad", "-Wl,-z,undefs", "-DEXTRA", "-include", write_header(folder))
    done = command("check", write(tmp_path, pipeline(folder, "bad")))
    assert done.returncode == 78
    assert f"{folder}/bad.so cannot be loaded: undefined symbol: nobody_has_this" in done.stderr
    assert "/proc/self" not in done.stderr


def write_header(folder):
    header = folder / "extra.h"
    header.write_text("extern int nobody_has_this;\n__attribute__((visibility(\"default\"))) int *p = &nobody_has_this;\n")
    return header


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_folder_others_may_write(command, tree, folder, tmp_path, mode):
    build(tree, folder, "good")
    folder.chmod(mode)
    done = command("check", write(tmp_path, pipeline(folder, "good")))
    assert done.returncode == 78
    assert "unknown type \"good\"" in done.stderr
    assert f"{folder} is writable by" in done.stderr and f"mode {mode:04o}" in done.stderr


def test_missing_folder_is_a_warning(command, tree, folder, tmp_path):
    build(tree, folder, "good")
    done = command("check", "--plugins", tmp_path / "missing", write(tmp_path, pipeline(folder, "good")))
    assert done.returncode == 0
    assert f"{tmp_path}/missing cannot be searched for plugins: No such file or directory" in done.stderr


def test_first_folder_wins(command, tree, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    build(tree, folder, "good")
    build(tree, other, "good")
    config = write(tmp_path, pipeline(folder))

    def file(*args):
        done = command("plugins", "describe", "good", "--json", "-c", config, *args)
        assert done.returncode == 0, done
        return json.loads(done.stdout)["file"], done.stderr

    found, warnings = file("--plugins", other)
    assert found == f"{other}/good.so"
    assert f"{folder}/good.so has type 'good', which {other}/good.so has already; ignoring this one" in warnings
    found, warnings = file()
    assert found == f"{folder}/good.so" and "good.so" not in warnings


def test_every_truncation(command, tree, folder, tmp_path):
    whole = build(tree, folder, "cut").read_bytes()
    so, config = folder / "cut.so", write(tmp_path, pipeline(folder, "cut"))
    for i in range(0, 50, 7):
        so.write_bytes(whole[:len(whole) * i // 50])
        done = command("check", config)
        assert done.returncode == 78, (i, done)
        assert "cut.so is " in done.stderr
