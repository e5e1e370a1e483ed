/* SPDX-License-Identifier: MIT */
/*
 * semstreams test: tests of configurations.  A program of its own, since its clock is set (set_clock.h).
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <jansson.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include "core/cli/cli.h"
#include "core/cli/load.h"
#include "core/config/descriptors.h"
#include "core/trial/script.h"
#include "core/trial/trial.h"

/* ---- verdicts: what the cases came to ---- */

enum verdicts_form { VERDICTS_TEXT, VERDICTS_TAP };

struct verdict {
	char *file, *name, *text;
	bool passed;
	uint64_t took_ns;
};

struct verdicts {
	enum verdicts_form form;
	struct verdict *v;
	size_t n, failed;
};

/* ---- verdicts, for people and as TAP ---- */

static void print_lines(const char *text, const char *head)
{
	while (text && *text) {
		size_t len = strcspn(text, "\n");
		printf("%s%.*s\n", head, (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void print_tap(const struct verdict *v, size_t number)
{
	printf("%sok %zu - %s: ", v->passed ? "" : "not ", number, v->file);
	for (const char *s = v->name; *s; s++) {
		if (*s == '#' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('\n');
	print_lines(v->text, "# ");
}

static void print_text(const struct verdict *v)
{
	bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	const char *begin = !colour     ? ""
			    : v->passed ? "\033[32m"
					: "\033[31m",
		   *end = colour ? "\033[0m" : "";

	printf("%s%s%s  %s: %s  (%.1f ms)\n", begin, v->passed ? "ok  " : "FAIL", end, v->file, v->name,
	       (double)v->took_ns / 1e6);
	print_lines(v->text, "");
}

/* Keep it and print it to standard output; file and name are copied, text (may be NULL) is taken over.  0,
 * -ENOMEM. */
static int verdicts_add(struct verdicts *all, const char *file, const char *name, bool passed,
			uint64_t took_ns, char *text)
{
	struct verdict *grown = reallocarray(all->v, all->n + 1, sizeof *grown);
	struct verdict v = {.file = strdup(file),
			    .name = strdup(name),
			    .text = text,
			    .passed = passed,
			    .took_ns = took_ns};

	if (grown)
		all->v = grown;
	if (!grown || !v.file || !v.name) {
		free(v.file);
		free(v.name);
		free(text);
		return -ENOMEM;
	}
	all->v[all->n++] = v;
	all->failed += !passed;
	if (all->form == VERDICTS_TAP)
		print_tap(&v, all->n);
	else
		print_text(&v);
	return 0;
}

/* The last lines to standard output. */
static void verdicts_end(const struct verdicts *all)
{
	if (all->form == VERDICTS_TAP)
		printf("1..%zu\n", all->n);
	else
		printf("%zu passed, %zu failed\n", all->n - all->failed, all->failed);
}

/* ---- verdicts, as JUnit's XML ---- */

static void add_xml(struct ss_strbuf *to, const char *text)
{
	for (; text && *text; text++) {
		switch (*text) {
		case '<':
			ss_strbuf_text(to, "&lt;");
			break;
		case '>':
			ss_strbuf_text(to, "&gt;");
			break;
		case '&':
			ss_strbuf_text(to, "&amp;");
			break;
		case '"':
			ss_strbuf_text(to, "&quot;");
			break;
		default: /* XML has no other control characters */
			ss_strbuf_char(to, (unsigned char)*text < ' ' && *text != '\n' && *text != '\t'
						   ? '?'
						   : *text);
		}
	}
}

static void add_case(struct ss_strbuf *to, const struct verdict *v)
{
	ss_strbuf_text(to, "    <testcase classname=\"");
	add_xml(to, v->file);
	ss_strbuf_text(to, "\" name=\"");
	add_xml(to, v->name);
	ss_strbuf_printf(to, "\" time=\"%.4f\"", (double)v->took_ns / 1e9);
	if (v->passed) {
		ss_strbuf_text(to, "/>\n");
		return;
	}
	ss_strbuf_text(to, ">\n      <failure message=\"not as expected\">");
	add_xml(to, v->text);
	ss_strbuf_text(to, "</failure>\n    </testcase>\n");
}

/* The cases of one file stand together. */
static void add_suite(struct ss_strbuf *to, const struct verdict *v, size_t n)
{
	size_t failed = 0;
	uint64_t took = 0;

	for (size_t i = 0; i < n; i++) {
		failed += !v[i].passed;
		took += v[i].took_ns;
	}
	ss_strbuf_text(to, "  <testsuite name=\"");
	add_xml(to, v->file);
	ss_strbuf_printf(to, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\" time=\"%.4f\">\n",
			 n, failed, (double)took / 1e9);
	for (size_t i = 0; i < n; i++)
		add_case(to, &v[i]);
	ss_strbuf_text(to, "  </testsuite>\n");
}

/* All of them as JUnit's XML, complete or absent: 0, -errno. */
static int verdicts_junit(const struct verdicts *all, const char *file)
{
	struct ss_strbuf xml = {0};
	const char *name;

	ss_strbuf_printf(
		&xml,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"%zu\" failures=\"%zu\">\n",
		all->n, all->failed);
	for (size_t i = 0, n; i < all->n; i += n) {
		for (n = 1; i + n < all->n && strcmp(all->v[i + n].file, all->v[i].file) == 0;)
			n++;
		add_suite(&xml, &all->v[i], n);
	}
	ss_strbuf_text(&xml, "</testsuites>\n");
	int dir = xml.failed ? -ENOMEM : ss_open_folder_of(file, &name);
	int rc = dir < 0 ? dir : ss_file_write(dir, name, xml.bytes, xml.len, 0644);
	if (dir >= 0)
		close(dir);
	ss_strbuf_done(&xml);
	return rc;
}

static void verdicts_free(struct verdicts *all)
{
	for (size_t i = 0; i < all->n; i++) {
		free(all->v[i].file);
		free(all->v[i].name);
		free(all->v[i].text);
	}
	free(all->v);
	*all = (struct verdicts){0};
}

static const char help[] =
	"semstreams test [OPTIONS] FILE...\n"
	"\n"
	"Runs the tests of configurations that the files describe: what is sent in, at which time, and what\n"
	"has to come out.  Nothing is bound or dialed; files are written in a folder that is removed again.\n"
	"\n"
	"      --filter TEXT                 only cases whose name contains TEXT\n"
	"      --junit FILE                  write the results as JUnit's XML, too\n"
	"      --plugins DIR                 search DIR for plugins first; may be repeated\n"
	"      --tap                         print the results as TAP\n"
	"  -h, --help                        print this help\n"
	"\n"
	"Exit codes: 0 all passed, 1 one failed, 2 wrong usage, 78 a file of tests or a configuration is "
	"wrong.\n";

struct options {
	const char *filter, *junit;
	struct cli_options load; /* folders of plugins */
	struct verdicts verdicts;
	size_t tried;
};

/* ---- a configuration with other values ---- */

/* Where an RFC 6901 pointer leads to, but for its last part; NULL: nowhere. */
static json_t *holder_of(json_t *root, const char *pointer, char *last, size_t size)
{
	json_t *at = root;

	while (*pointer == '/') {
		size_t n = 0;
		for (pointer++; *pointer && *pointer != '/' && n + 1 < size; pointer++) {
			char c = *pointer;
			if (c == '~' && (pointer[1] == '0' || pointer[1] == '1'))
				c = *++pointer == '0' ? '~' : '/';
			last[n++] = c;
		}
		last[n] = '\0';
		if (*pointer == '/')
			at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(last, NULL, 10))
					       : json_object_get(at, last);
	}
	return *pointer ? NULL : at;
}

static json_t *component_options(json_t *root, const char *id)
{
	json_t *list = json_object_get(root, "components"), *c;
	size_t i;

	json_array_foreach(list, i, c)
	{
		const char *name = json_string_value(json_object_get(c, "id"));
		if (!name || strcmp(name, id) != 0)
			continue;
		if (!json_object_get(c, "config"))
			json_object_set_new(c, "config", json_object());
		return json_object_get(c, "config");
	}
	return NULL;
}

/* "/a/b" is a pointer, "ID.OPTION" an option of a component; null removes. */
static int set_value(json_t *root, const char *key, json_t *value)
{
	char last[256] = "";
	json_t *holder;

	if (*key == '/') {
		holder = holder_of(root, key, last, sizeof last);
	} else {
		const char *dot = strrchr(key, '.');
		char id[CONFIG_MAX_ID + 1];
		if (!dot || (size_t)(dot - key) >= sizeof id)
			return -ENOENT;
		snprintf(id, sizeof id, "%.*s", (int)(dot - key), key);
		snprintf(last, sizeof last, "%s", dot + 1);
		holder = component_options(root, id);
	}
	if (json_is_object(holder)) {
		if (json_is_null(value))
			json_object_del(holder, last);
		else
			return json_object_set(holder, last, value) < 0 ? -ENOMEM : 0;
		return 0;
	}
	return json_is_array(holder) && json_array_set(holder, (size_t)strtoul(last, NULL, 10), value) == 0
		       ? 0
		       : -ENOENT;
}

static int set_all(const struct script *s, json_t *root, struct diag *diag)
{
	for (const struct jnode *m = s->set ? s->set->child : NULL; m; m = m->next) {
		json_t *value = json_loadb(m->text, m->text_len, JSON_DECODE_ANY, NULL);
		int rc = set_value(root, m->name, value);
		json_decref(value);
		if (rc == -ENOENT)
			jdoc_report(s->doc, diag, DIAG_ERROR, m, J_NAME,
				    "\"%s\" leads nowhere in the configuration; use \"COMPONENT.OPTION\" or "
				    "a JSON pointer",
				    m->name);
		if (rc < 0)
			return rc == -ENOENT ? -EINVAL : rc;
	}
	return 0;
}

/* The configuration as the script has it, in a file of its own; *path is malloced. */
static int write_config(const struct script *s, const char *original, struct diag *diag, char **path)
{
	const char *tmp = getenv("TMPDIR");
	json_error_t error;
	json_t *root = original ? json_load_file(original, 0, &error)
				: json_loadb(s->config->text, s->config->text_len, 0, &error);
	int rc = root ? set_all(s, root, diag) : -EINVAL;

	if (!root)
		jdoc_report(s->doc, diag, DIAG_ERROR, s->config, J_VALUE,
			    "cannot read the configuration: %s, line %d", error.text, error.line);
	if (rc == 0 && asprintf(path, "%s/semstreams-test-XXXXXX.json", tmp && *tmp ? tmp : "/tmp") < 0)
		rc = -ENOMEM;
	int fd = rc == 0 ? mkstemps(*path, 5) : -1;
	if (rc == 0 && (fd < 0 || json_dumpfd(root, fd, JSON_INDENT(2)) < 0))
		rc = fd < 0 ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	json_decref(root);
	return rc;
}

/* ---- a file of tests ---- */

static int load(const struct script *s, struct options *o, struct diag *diag, struct loaded *out)
{
	char *copy = strdup(s->doc->file), *original = NULL, *written = NULL;
	const char *name = s->config->type == J_STRING ? s->config->string : NULL;
	int rc = copy ? 0 : -ENOMEM;

	if (rc == 0 && name &&
	    asprintf(&original, "%s%s%s", *name == '/' ? "" : dirname(copy), *name == '/' ? "" : "/", name) <
		    0)
		rc = -ENOMEM;
	if (rc == 0 && (!name || s->set))
		rc = write_config(s, original, diag, &written);
	o->load.config = written ? written : original;
	if (rc == 0)
		rc = load_config(&o->load, out);
	if (written)
		unlink(written);
	free(written);
	free(original);
	free(copy);
	return rc;
}

static int run_cases(struct options *o, const struct script *s, struct config *config)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < s->n_cases; i++) {
		const struct script_case *c = &s->cases[i];
		struct trial_result result;
		if (o->filter && !strstr(c->name, o->filter))
			continue;
		o->tried++;
		rc = trial_run(config, s, c, &result);
		if (rc == 0 && result.bad_config) {
			fputs(result.text, stderr);
			free(result.text);
			return -EINVAL;
		}
		if (rc == 0)
			rc = verdicts_add(&o->verdicts, s->doc->file, c->name, result.passed, result.took_ns,
					  result.text);
		else
			fprintf(stderr, "semstreams test: cannot try %s: %s\n", c->name, strerror(-rc));
	}
	return rc;
}

/* 0, EXIT_CONFIG, 1. */
static int run_file(struct options *o, const char *file)
{
	struct loaded l = {0};
	struct script *s;
	struct diag diag;

	diag_init(&diag);
	int rc = script_load(file, &diag, &s);
	bool is_script = rc == 0;
	if (rc == 0)
		rc = load(s, o, &diag, &l);
	diag_print(&diag, stderr);
	if (is_script && l.loader)
		diag_print(&l.diag, stderr);
	if (rc == 0)
		rc = run_cases(o, s, l.config);
	int code = rc == 0 ? 0 : rc == -EINVAL ? EXIT_CONFIG : 1;
	if (rc < 0 && rc != -EINVAL)
		fprintf(stderr, "semstreams test: %s: %s\n", file, strerror(-rc));
	if (l.loader)
		load_done(&l);
	script_free(s);
	diag_done(&diag);
	return code;
}

/* ---- the command line ---- */

static int add_folder(struct options *o, const char *folder)
{
	const char **grown = reallocarray(o->load.folders, o->load.n_folders + 1, sizeof(*grown));

	if (!grown)
		return 1;
	o->load.folders = grown;
	grown[o->load.n_folders++] = folder;
	return 0;
}

enum { OPT_FILTER = 256, OPT_JUNIT, OPT_PLUGINS, OPT_TAP };

/* -1: go on; else an exit code. */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {{"filter", required_argument, NULL, OPT_FILTER},
					      {"junit", required_argument, NULL, OPT_JUNIT},
					      {"plugins", required_argument, NULL, OPT_PLUGINS},
					      {"tap", no_argument, NULL, OPT_TAP},
					      {"help", no_argument, NULL, 'h'},
					      {0}};

	for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
		switch (c) {
		case OPT_FILTER:
			o->filter = optarg;
			break;
		case OPT_JUNIT:
			o->junit = optarg;
			break;
		case OPT_PLUGINS:
			if (add_folder(o, optarg))
				return 1;
			break;
		case OPT_TAP:
			o->verdicts.form = VERDICTS_TAP;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return -1;
	fputs("semstreams test: needs a FILE of tests; see semstreams test --help\n", stderr);
	return EXIT_USAGE;
}

static int finish(struct options *o, int code)
{
	verdicts_end(&o->verdicts);
	if (code == 0 && o->tried == 0) {
		fputs("semstreams test: no case was run\n", stderr);
		code = 1;
	}
	int rc = o->junit ? verdicts_junit(&o->verdicts, o->junit) : 0;
	if (rc < 0) {
		fprintf(stderr, "semstreams test: cannot write %s: %s\n", o->junit, strerror(-rc));
		code = code ? code : 1;
	}
	if (code == 0 && o->verdicts.failed)
		code = 1;
	return fflush(stdout) == 0 && !ferror(stdout) ? code : 1;
}

int main(int argc, char **argv)
{
	struct options o = {.load = {.log_level = -1, .log_json = -1, .role = -1}};
	static char name[] = "semstreams test";

	argv[0] = name;
	int code = parse(argc, argv, &o);
	if (code < 0) {
		code = 0;
		descriptors_set(0);
		for (int i = optind; i < argc; i++) {
			int failed = run_file(&o, argv[i]);
			code = failed > code ? failed : code;
		}
		code = finish(&o, code);
	}
	verdicts_free(&o.verdicts);
	free(o.load.folders);
	return code;
}
