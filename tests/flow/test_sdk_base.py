# SPDX-License-Identifier: MIT
"""The installed base library: a stranger's plugin, in C and in C++, reads nested options with it."""

import json
import re
import shutil
import subprocess

import pytest

from test_sdk import CC, CXX, pkg_config, plugins

FIXTURES = (plugins,)  # used by name

# valid as C11 and as C++17, warnings are errors
SOURCE = r"""
#include <stdlib.h>
#include <semstreams/sugar.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/utf8.h>

struct conf {
	const char *limits;
	int64_t every;
};

static const char *const kinds[] = {"soft", "hard", NULL};
static const char *const known[] = {"kind", "size", "time", NULL};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	const char *text = ((const struct conf *)conf)->limits;
	struct ss_json_option option;
	struct ss_strbuf line;
	uint64_t size = 0, ns = 0;
	unsigned kind = 0;

	memset(&option, 0, sizeof option);
	memset(&line, 0, sizeof line);
	option.host = host;
	json_t *json = ss_json_parse(&option, "limits", text);
	if (json) {
		size_t before = ss_json_enter(&option, "limits");
		ss_json_keys(&option, json, known);
		ss_json_choice(&option, json, "kind", kinds, &kind);
		ss_json_size(&option, json, "size", 1024, &size);
		ss_json_duration(&option, json, "time", &ns);
		ss_json_leave(&option, before);
		json_decref(json);
	}
	if (option.err)
		return option.err;
	ss_strbuf_printf(&line, "kind=%s size=%llu seconds=%llu crc=%08x text=", kinds[kind], (unsigned long long)size,
			 (unsigned long long)(ns / 1000000000u), (unsigned)ss_crc32c(0, "123456789", 9));
	ss_strbuf_json(&line, "\xff", ss_utf8_valid("\xff", 1) ? 0 : 1);
	ss_log(host, SS_LOG_INFO, "%s", ss_strbuf_cstr(&line));
	ss_strbuf_done(&line);
	*self = malloc(1);
	return *self ? 0 : -ENOMEM;
}

static void destroy(void *self)
{
	free(self);
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	(void)self;
	(void)port;
	(void)batch;
	return SS_DONE;
}

static const struct ss_option options[] = {
	SS_OPT(struct conf, limits, SS_OPT_JSON, NULL, "Limits.", SS_FLAGS(SS_OPT_REQUIRED)),
	SS_OPT(struct conf, every, SS_OPT_INT, "1", "Every so many.", SS_LIMITS(1, 10)),
};

static struct ss_component component;

static const struct ss_component *describe(void)
{
	component.struct_size = sizeof component;
	component.kind = SS_KIND_SINK;
	component.type = "limited";
	component.version = "1";
	component.summary = "Reads limits.";
	component.license = "MIT";
	component.options = options;
	component.option_size = sizeof options[0];
	component.n_options = 2;
	component.conf_size = sizeof(struct conf);
	component.create = create;
	component.destroy = destroy;
	component.process = process;
	return &component;
}
__attribute__((constructor)) static void fill(void)
{
	describe();
}
SS_REGISTER(&component);
"""


@pytest.fixture(params=["c11", "c++17"])
def limited(request, plugins):
    """limited.so, by pkg-config semstreams-json alone."""
    cxx = request.param.startswith("c++")
    compiler = CXX if cxx else CC
    if not shutil.which(compiler[0]):
        pytest.skip(f"no {compiler[0]}")
    source = plugins.parent / ("limited.cc" if cxx else "limited.c")
    source.write_text(SOURCE)
    flags = lambda what: pkg_config(what, package="semstreams-json")
    subprocess.run([*compiler, f"-std={request.param}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden", "-fPIC",
                    "-shared", "-Wl,-z,defs", *flags("--cflags"), "-o", plugins / "limited.so", source, *flags("--libs")], check=True)
    (plugins / "limited.so").chmod(0o755)
    return plugins / "limited.so"


def config_with(limited, limits, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"plugins": {"paths": [str(limited.parent)]}, "components": [
        {"id": "in", "type": "udp_input"}, {"id": "out", "type": "limited", "config": {"limits": limits}}]}))
    return config


def test_options_are_read(limited, tmp_path, command):
    said = command("check", config_with(limited, {"kind": "hard", "size": "2KiB", "time": "1m"}, tmp_path))
    assert said.returncode == 0, said.stderr
    assert 'kind=hard size=2048 seconds=60 crc=e3069283 text=' in said.stdout + said.stderr


def test_errors_have_their_place(limited, tmp_path, command):
    said = command("check", config_with(limited, {"kind": "hrad", "size": 12, "tmie": 1, "time": "never"}, tmp_path))
    assert said.returncode == 78
    for place, text in [("kind", 'did you mean "hard"?'), ("size", 'at least "1KiB"'), ("tmie", 'did you mean "time"?'),
                        ("time", '"never" is not a duration')]:
        assert re.search(rf"/components/1/config/limits/{place}\s.*{re.escape(text)}", said.stdout + said.stderr), place


def test_nothing_else_is_exported(limited):
    """The library is part of the plugin, and hidden in it."""
    exported = subprocess.run(["nm", "-D", "--defined-only", limited], capture_output=True, text=True, check=True).stdout.split()[2::3]
    assert exported == ["semstreams_entry_v1"]


def test_without_json_no_jansson(plugins):
    """Who only wants durations links with nothing more."""
    source = plugins.parent / "plain.c"
    source.write_text("#include <semstreams/base/units.h>\n#include <semstreams/base/job.h>\n"
                      "int of(const char *t, int64_t *ns);\nint of(const char *t, int64_t *ns) { return ss_parse_duration(t, ns); }\n")
    subprocess.run([*CC, "-fPIC", "-shared", "-Wl,-z,defs", *pkg_config("--cflags"), "-o", plugins / "plain.so", source,
                    *pkg_config("--libs")], check=True)
    needed = subprocess.run(["readelf", "-d", plugins / "plain.so"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"NEEDED.*\[(.*)\]", needed) in (["libc.so.6"], ["libpthread.so.0", "libc.so.6"])
