/* SPDX-License-Identifier: MIT */
/*
 * semstreams plugins check: tries whether a plugin keeps to the rules of plugin.h, each trial in a process of
 * its own.  A program of its own, since it allocates in the C library's place (allocation.h).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <jansson.h>
#include <semstreams/base/units.h>
#include "core/cli/cli.h"
#include "core/config/descriptors.h"
#include "core/plugin/descriptor.h"
#include "core/plugin/elf.h"
#include "core/torture/allocation.h"
#include "core/torture/child.h"
#include "core/torture/guard.h"
#include "core/torture/ledger.h"
#include "core/torture/lint.h"
#include "core/torture/trials.h"
#include "core/torture/watched.h"

#define ENTRY "semstreams_entry_v1"
#define S(n)  ((n) == 1 ? "" : "s")

static const char help[] =
	"semstreams plugins check FILE.so [OPTIONS]\n"
	"\n"
	"Tries whether a plugin keeps to the rules of the plugin interface: its symbols and tables, a "
	"thousand\n"
	"lives of an instance, batches of all sizes, refusals, two instances, each allocation failing once.  "
	"A\n"
	"breach is named with its rule and the callback it happened in.\n"
	"\n"
	"      --config FILE                 options of the instance, a JSON object\n"
	"      --deadline DURATION           how long a callback may take [10s]\n"
	"      --except RULE                 report all rules but this one; may be repeated\n"
	"      --json                        print a JSON document\n"
	"      --markdown                    with --rules: print the rules for a page\n"
	"      --option NAME=VALUE           an option of the instance; may be repeated\n"
	"      --rule RULE                   report this rule only; may be repeated\n"
	"      --rules                       list the rules\n"
	"      --valgrind                    let valgrind look at one life, too\n"
	"  -h, --help                        print this help\n"
	"\n"
	"Exit codes: 0 no breach, 1 breaches, 2 wrong usage, or an option that the plugin needs is "
	"missing.\n";

struct checking {
	const char *file;
	struct settings settings;
	uint64_t deadline_ns;
	bool json, markdown, lists_rules, uses_valgrind, is_watched;
	char folder[PATH_MAX];
	void *object;
	const struct ss_entry *entry;
	json_t *types, *notes; /* for --json */
};

static bool chosen[RULES], excepted[RULES], any_chosen;

static bool wants(enum rule r)
{
	return !excepted[r] && (chosen[r] || !any_chosen);
}

/* ---- the command line ---- */

enum {
	OPT_CONFIG = 256,
	OPT_DEADLINE,
	OPT_EXCEPT,
	OPT_JSON,
	OPT_MARKDOWN,
	OPT_OPTION,
	OPT_RULE,
	OPT_RULES,
	OPT_VALGRIND,
	OPT_WATCHED
};

static const struct option known[] = {{"config", required_argument, NULL, OPT_CONFIG},
				      {"deadline", required_argument, NULL, OPT_DEADLINE},
				      {"except", required_argument, NULL, OPT_EXCEPT},
				      {"json", no_argument, NULL, OPT_JSON},
				      {"markdown", no_argument, NULL, OPT_MARKDOWN},
				      {"option", required_argument, NULL, OPT_OPTION},
				      {"rule", required_argument, NULL, OPT_RULE},
				      {"rules", no_argument, NULL, OPT_RULES},
				      {"valgrind", no_argument, NULL, OPT_VALGRIND},
				      {WATCHED_OPTION, required_argument, NULL, OPT_WATCHED},
				      {"help", no_argument, NULL, 'h'},
				      {0}};

/* -1: go on; else an exit code. */
static int take_rule(const char *name, bool *of)
{
	const enum rule r = rule_find(name);

	if (r == RULES) {
		fprintf(stderr,
			"semstreams plugins check: unknown rule '%s'; see semstreams plugins check --rules\n",
			name);
		return EXIT_USAGE;
	}
	of[r] = true;
	any_chosen |= of == chosen;
	return -1;
}

static int take_option(struct checking *c, int which)
{
	int64_t ns = 0;

	switch (which) {
	case OPT_CONFIG:
		c->settings.config = optarg;
		return -1;
	case OPT_DEADLINE:
		if (ss_parse_duration(optarg, &ns) < 0 || ns <= 0) {
			fprintf(stderr,
				"semstreams plugins check: --deadline %s is no duration " SS_DURATION_FORM
				"\n",
				optarg);
			return EXIT_USAGE;
		}
		c->deadline_ns = (uint64_t)ns;
		return -1;
	case OPT_OPTION:
		c->settings.pairs[c->settings.n++] = optarg;
		return -1;
	case OPT_RULE:
		return take_rule(optarg, chosen);
	case OPT_EXCEPT:
		return take_rule(optarg, excepted);
	case OPT_WATCHED:
		c->is_watched = watched_open(optarg);
		return -1;
	case 'h':
		fputs(help, stdout);
		return 0;
	default:
		return EXIT_USAGE;
	}
}

static int parse(int argc, char **argv, struct checking *c)
{
	bool *flags[] = {[0] = &c->json,
			 [OPT_MARKDOWN - OPT_JSON] = &c->markdown,
			 [OPT_RULES - OPT_JSON] = &c->lists_rules,
			 [OPT_VALGRIND - OPT_JSON] = &c->uses_valgrind};
	const int n_flags = (int)(sizeof flags / sizeof flags[0]);

	for (int o; (o = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
		const int flag = o - OPT_JSON;
		int code = -1;
		if (flag >= 0 && flag < n_flags && flags[flag])
			*flags[flag] = true;
		else
			code = take_option(c, o);
		if (code >= 0)
			return code;
	}
	if (c->lists_rules) {
		rules_print(c->json ? RULES_JSON : c->markdown ? RULES_MARKDOWN : RULES_TEXT, stdout);
		return 0;
	}
	if (optind + 1 != argc) {
		fputs("semstreams plugins check: needs one FILE.so; see semstreams plugins check --help\n",
		      stderr);
		return EXIT_USAGE;
	}
	c->file = argv[optind];
	return -1;
}

/* ---- the file ---- */

static void load(void *arg)
{
	const struct checking *c = arg;

	atomic_store(&ledger()->callback, "dlopen");
	atomic_store(&ledger()->since_ns, ledger_now());
	void *object = dlopen(c->file, RTLD_NOW | RTLD_LOCAL);
	atomic_store(&ledger()->since_ns, 0);
	process_examine();
	const char *why = object ? NULL : dlerror();
	const char *symbol = why ? strstr(why, "undefined symbol: ") : NULL;
	if (symbol)
		ledger_add(RULE_UNDEFINED_SYMBOL, "", "no library that it names has %s",
			   symbol + strlen("undefined symbol: "));
	else if (why)
		ledger_add(RULE_DESCRIPTOR_ABI, "", "the object cannot be loaded: %s", why);
}

/* -1: go on; else an exit code. */
static int open_plugin(struct checking *c)
{
	char why[ELF_WHY];
	char *path = realpath(c->file, NULL);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0) {
		fprintf(stderr, "semstreams plugins check: cannot open %s: %s\n", c->file, strerror(errno));
		free(path);
		return EXIT_USAGE;
	}
	c->file = path;
	const int rc = elf_check(fd, why);
	close(fd);
	if (rc < 0) {
		fprintf(stderr, "semstreams plugins check: %s %s\n", path, why);
		return EXIT_USAGE;
	}
	const uint32_t before = ledger()->n;
	if (!c->is_watched && (!child_run(load, c, c->deadline_ns) || ledger()->n > before))
		return 1;
	c->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	c->entry = c->object ? dlsym(c->object, ENTRY) : NULL;
	if (!c->entry)
		ledger_add(RULE_DESCRIPTOR_ABI, "", "it does not export " ENTRY);
	return c->entry ? -1 : 1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static int make_folder(struct checking *c)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(c->folder, sizeof c->folder, "%s/semstreams-check-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (mkdtemp(c->folder))
		return 0;
	fprintf(stderr, "semstreams plugins check: cannot make a folder %s: %s\n", c->folder,
		strerror(errno));
	c->folder[0] = '\0';
	return 1;
}

/* ---- what is printed ---- */

static void print_breach(const struct breach *b)
{
	const char *callback = b->callback;
	const bool is_call = *callback && !strchr(callback, ' ');

	printf("breach %s%s%s%s: %s%s%s\n    %s\n", rule_text(b->rule)->name, *callback ? " in " : "",
	       callback, is_call ? "()" : "", b->type, *b->type ? ": " : "", b->what,
	       rule_text(b->rule)->remedy);
}

static json_t *breach_json(const struct breach *b)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "rule", rule_text(b->rule)->name, "type", b->type,
			 "callback", b->callback, "what", b->what, "remedy", rule_text(b->rule)->remedy);
}

/* How many breaches count. */
static unsigned print_all(struct checking *c)
{
	json_t *list = json_array(), *all;
	unsigned n = 0;

	for (uint32_t i = 0; i < ledger()->n; i++) {
		const struct breach *b = &ledger()->breaches[i];
		if (b->rule < RULES && !wants(b->rule))
			continue;
		n++;
		if (b->rule == RULES)
			fprintf(stderr, "semstreams plugins check: %s\n", b->what);
		else if (c->json)
			json_array_append_new(list, breach_json(b));
		else
			print_breach(b);
	}
	if (c->json) {
		all = json_pack("{s:s, s:O, s:O, s:O, s:b}", "file", c->file, "types", c->types, "breaches",
				list, "not_tried", c->notes, "ok", n == 0);
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		const char *note;
		size_t i;
		json_t *value;
		json_array_foreach(c->notes, i, value)
		{
			note = json_string_value(value);
			printf("note: %s\n", note);
		}
		printf("%s: %s, %u breach%s\n", c->file, n ? "not ok" : "ok", n, n == 1 ? "" : "es");
	}
	json_decref(list);
	return n;
}

/* ---- checking ---- */

static int check_type(struct checking *c, const struct ss_component *raw)
{
	struct trials t = {
		.settings = &c->settings, .folder = c->folder, .deadline_ns = c->deadline_ns, .wants = wants};
	struct ss_component *desc = NULL;
	const char *type =
		raw && raw->struct_size > offsetof(struct ss_component, type) && raw->type ? raw->type : "";
	const uint32_t before = ledger()->n;
	int rc = 0;

	snprintf(ledger()->type, sizeof ledger()->type, "%s", type);
	if (!lint_component(raw, &desc))
		return 0;
	t.desc = desc;
	if (c->is_watched)
		rc = trials_watched(&t);
	else
		rc = trials_run(&t);
	json_array_append_new(c->types,
			      json_pack("{s:s, s:s, s:I}", "type", desc->type, "kind", descriptor_kind(desc),
					"failed_allocations", (json_int_t)t.allocations));
	if (rc == -EINVAL && ledger()->n > before)
		rc = 0; /* options that the plugin itself spoils are its breach, and nobody's usage */
	for (unsigned i = 0; i < t.n_notes; i++) {
		char text[256];
		snprintf(text, sizeof text, "%s: %s", type, t.notes[i]);
		json_array_append_new(c->notes, json_string(text));
	}
	descriptor_free(desc);
	ledger()->type[0] = '\0';
	return rc;
}

static int check(struct checking *c, char **argv)
{
	int code = open_plugin(c);

	if (code == EXIT_USAGE)
		return code;
	if (code < 0) {
		if (!c->is_watched)
			lint_symbols(c->file, c->object);
		int rc = make_folder(c) ? -EIO : 0;
		for (uint32_t i = 0; rc == 0 && lint_entry(c->entry) && i < c->entry->n_components; i++)
			rc = check_type(c, c->entry->components[i]);
		if (rc == 0 && c->uses_valgrind && !c->is_watched && ledger()->n == 0)
			rc = watched_by_valgrind(argv, c->file);
		if (c->folder[0])
			nftw(c->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
		if (rc < 0)
			return rc == -EINVAL ? EXIT_USAGE : 1;
	}
	if (c->is_watched)
		return 0;
	const unsigned n = print_all(c);
	return n ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct checking c = {.deadline_ns = UINT64_C(10000000000)};
	static char name[] = "semstreams plugins check";

	allocation_set_up();
	c.settings.pairs = calloc((size_t)argc + 1, sizeof(*c.settings.pairs));
	c.types = json_array();
	c.notes = json_array();
	if (!c.settings.pairs || !c.types || !c.notes || !ledger_new())
		return 1;
	char *program = argv[0];
	argv[0] = name;
	int code = parse(argc, argv, &c);
	argv[0] = program;
	if (code < 0) {
		descriptors_set(0);
		code = check(&c, argv);
	}
	json_decref(c.types);
	json_decref(c.notes);
	free(c.settings.pairs);
	return fflush(stdout) == 0 && !ferror(stdout) ? code : 1;
}
