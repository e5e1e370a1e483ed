/* SPDX-License-Identifier: MIT */
#include "core/torture/lint.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/tls-provider.h>
#include "core/plugin/descriptor.h"
#include "core/torture/ledger.h"

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

enum { SHOWN = 5, STRUCT_MAX = 4096 };

/* ---- symbols ---- */

/* Names that linkers define by themselves. */
static bool is_linkers(const char *name)
{
	static const char *const names[] = {"_init",       "_fini", "_edata", "_end",
					    "__bss_start", "edata", "end"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

struct list {
	char text[200];
	size_t used;
	unsigned n;
};

static void list_add(struct list *l, const char *name)
{
	if (l->n++ < SHOWN && l->used < sizeof l->text)
		l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s%.40s",
					    l->n > 1 ? ", " : "", name);
}

static void look_at(const ElfW(Sym) * s, const char *name, void *object, struct list *exported,
		    struct list *undefined)
{
	const unsigned bind = s->st_info >> 4;

	if (bind == STB_LOCAL || !*name)
		return;
	if (s->st_shndx == SHN_UNDEF) {
		/* the object and the libraries it names, not what this program happens to have loaded */
		if (bind != STB_WEAK && !dlsym(object, name))
			list_add(undefined, name);
	} else if ((s->st_other & 3) == STV_DEFAULT && s->st_shndx != SHN_ABS && !is_linkers(name) &&
		   strcmp(name, "semstreams_entry_v1") != 0) {
		list_add(exported, name);
	}
}

/* Sections lie inside the file, as elf_check() has found. */
static void read_symbols(const char *image, size_t size, void *object)
{
	const ElfW(Ehdr) *head = (const void *)image;
	const ElfW(Shdr) *sections = (const void *)(image + head->e_shoff);
	struct list exported = {0}, undefined = {0};

	for (unsigned i = 0; head->e_shoff && i < head->e_shnum; i++) {
		const ElfW(Shdr) *s = &sections[i];
		if (s->sh_type != SHT_DYNSYM || s->sh_link >= head->e_shnum ||
		    s->sh_entsize != sizeof(ElfW(Sym)))
			continue;
		const ElfW(Shdr) *names = &sections[s->sh_link];
		const ElfW(Sym) *symbols = (const void *)(image + s->sh_offset);
		for (size_t k = 0; k < s->sh_size / sizeof *symbols && names->sh_offset < size; k++)
			if (symbols[k].st_name < names->sh_size)
				look_at(&symbols[k], image + names->sh_offset + symbols[k].st_name, object,
					&exported, &undefined);
	}
	if (exported.n)
		ledger_add(RULE_EXPORTED_SYMBOL, "", "it exports %u other symbol%s: %s%s", exported.n,
			   exported.n == 1 ? "" : "s", exported.text, exported.n > SHOWN ? ", ..." : "");
	if (undefined.n)
		ledger_add(RULE_UNDEFINED_SYMBOL, "", "no library that it names has %s%s", undefined.text,
			   undefined.n > SHOWN ? ", ..." : "");
}

void lint_symbols(const char *file, void *object)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(ElfW(Ehdr))) {
		void *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (image != MAP_FAILED) {
			read_symbols(image, (size_t)st.st_size, object);
			munmap(image, (size_t)st.st_size);
		}
	}
	if (fd >= 0)
		close(fd);
}

/* ---- descriptors ---- */

bool lint_entry(const struct ss_entry *e)
{
	if (e->struct_size >= sizeof *e && e->components && e->n_components > 0 && e->n_components <= 256)
		return true;
	ledger_add(RULE_DESCRIPTOR_ABI, "", "the entry has struct_size %u and %u components", e->struct_size,
		   e->n_components);
	return false;
}

static bool is_name(const char *s, const char *alphabet)
{
	size_t n = s ? strspn(s, alphabet) : 0;

	return n > 0 && n < 64 && s[n] == '\0';
}

static const struct ss_option *option_at(const struct ss_component *d, uint32_t i)
{
	return (const void *)((const char *)d->options + (size_t)i * d->option_size);
}

static const struct ss_metric *metric_at(const struct ss_component *d, uint32_t i)
{
	return (const void *)((const char *)d->metrics + (size_t)i * d->metric_size);
}

static bool is_text(const struct ss_option *o)
{
	return o->type == SS_OPT_STRING || o->type == SS_OPT_JSON;
}

static bool is_choice(const struct ss_option *o)
{
	for (size_t i = 0; o->choices && o->choices[i]; i++)
		if (strcmp(o->choices[i], o->default_text) == 0)
			return true;
	return false;
}

static void lint_default(const struct ss_option *o)
{
	const char *text = o->default_text;
	int64_t value = 0;
	int rc = 0;

	if (!text || o->type == SS_OPT_STRING)
		return;
	if (o->type == SS_OPT_JSON) {
		json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
		rc = json ? 0 : -1;
		json_decref(json);
	} else if (o->type == SS_OPT_ENUM) {
		rc = is_choice(o) ? 0 : -1;
	} else if (o->type == SS_OPT_BOOL) {
		rc = strcmp(text, "true") == 0 || strcmp(text, "false") == 0 ? 0 : -1;
	} else {
		rc = o->type == SS_OPT_BYTES      ? ss_parse_size(text, &value)
		     : o->type == SS_OPT_DURATION ? ss_parse_duration(text, &value)
						  : ss_parse_integer(text, &value);
		if (rc == 0 && (o->min || o->max) && o->min <= o->max && (value < o->min || value > o->max))
			ledger_add(RULE_OPTION_DEFAULT, "",
				   "the default of option '%s', %.80s, is out of its range", o->key, text);
	}
	if (rc < 0)
		ledger_add(RULE_OPTION_DEFAULT, "", "the default of option '%s', \"%.80s\", is no %s", o->key,
			   text,
			   o->type == SS_OPT_JSON       ? "JSON"
			   : o->type == SS_OPT_ENUM     ? "choice of it"
			   : o->type == SS_OPT_BOOL     ? "true or false"
			   : o->type == SS_OPT_BYTES    ? "size"
			   : o->type == SS_OPT_DURATION ? "duration"
							: "integer");
}

static void lint_place(const struct ss_component *d, uint32_t i)
{
	const struct ss_option *o = option_at(d, i);
	const size_t size = is_text(o) ? sizeof(char *) : sizeof(int64_t);

	if (o->offset % (is_text(o) ? _Alignof(char *) : _Alignof(int64_t)) || o->offset > d->conf_size ||
	    d->conf_size - o->offset < size) {
		ledger_add(RULE_OPTION_OVERLAP, "",
			   "option '%s' lies at offset %u, outside a conf struct of %zu bytes", o->key,
			   o->offset, d->conf_size);
		return;
	}
	for (uint32_t k = 0; k < i; k++) {
		const struct ss_option *other = option_at(d, k);
		const size_t others = is_text(other) ? sizeof(char *) : sizeof(int64_t);
		if (o->offset < other->offset + others && other->offset < o->offset + size)
			ledger_add(RULE_OPTION_OVERLAP, "",
				   "options '%s' and '%s' lie at the same place of the conf struct",
				   other->key, o->key);
	}
}

static void lint_option(const struct ss_component *d, uint32_t i)
{
	const struct ss_option *o = option_at(d, i);
	const char *key = o->key ? o->key : "";

	if (!is_name(o->key, LOWER DIGITS "_") || strspn(key, DIGITS "_")) {
		ledger_add(RULE_OPTION_NAME, "", "option %u is called '%.60s'", i, key);
		return;
	}
	for (uint32_t k = 0; k < i; k++)
		if (option_at(d, k)->key && strcmp(option_at(d, k)->key, key) == 0)
			ledger_add(RULE_OPTION_NAME, "", "option '%s' stands twice in the table", key);
	if (!o->help || strlen(o->help) < 8 || !strchr(o->help, ' '))
		ledger_add(RULE_OPTION_HELP, "", "the help of option '%s' is '%s'", key,
			   o->help ? o->help : "");
	if (o->type < SS_OPT_STRING || o->type > SS_OPT_JSON) {
		ledger_add(RULE_DESCRIPTOR_ABI, "", "option '%s' has type %u", key, o->type);
		return;
	}
	if (o->type == SS_OPT_ENUM && (!o->choices || !o->choices[0])) {
		ledger_add(RULE_OPTION_RANGE, "", "option '%s' has no choices", key);
		return;
	}
	if (o->min > o->max)
		ledger_add(RULE_OPTION_RANGE, "", "option '%s' has min %lld above max %lld", key,
			   (long long)o->min, (long long)o->max);
	else if ((o->min || o->max) && o->type != SS_OPT_INT && o->type != SS_OPT_BYTES &&
		 o->type != SS_OPT_DURATION)
		ledger_add(RULE_OPTION_RANGE, "", "option '%s' has a range, but is no number", key);
	lint_default(o);
	lint_place(d, i);
}

static bool is_taken(const char *name)
{
	static const char *const families[] = {
		"process_",         "semstreams_build_", "semstreams_certificate_", "semstreams_events_",
		"semstreams_mtls_", "semstreams_queue_", "semstreams_tls_"};

	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (strncmp(name, families[i], strlen(families[i])) == 0)
			return true;
	return false;
}

static bool are_alike(const struct ss_metric *a, const struct ss_metric *b)
{
	return strcmp(a->name, b->name) == 0 &&
	       (a->kind != b->kind || !a->label || !b->label || strcmp(a->label, b->label) == 0);
}

static void lint_metric(const struct ss_component *d, uint32_t i)
{
	const struct ss_metric *m = metric_at(d, i);
	const char *name = m->name ? m->name : "";
	const size_t len = strlen(name);

	if (!is_name(m->name, LOWER DIGITS "_") && (len < 64 || strspn(name, LOWER DIGITS "_") != len))
		ledger_add(RULE_METRIC_NAME, "", "metric %u is called '%.80s'", i, name);
	else if (is_taken(name))
		ledger_add(RULE_METRIC_NAME, "", "metric %.80s has a name of the host's metrics", name);
	else if (m->kind == SS_METRIC_COUNTER && (len < 6 || strcmp(name + len - 6, "_total") != 0))
		ledger_add(RULE_METRIC_NAME, "", "metric %.80s is a counter, but does not end in _total",
			   name);
	else if (!m->help || !*m->help)
		ledger_add(RULE_METRIC_NAME, "", "metric %.80s has no help", name);
	for (uint32_t k = 0; m->name && k < i; k++)
		if (metric_at(d, k)->name && are_alike(metric_at(d, k), m))
			ledger_add(
				RULE_METRIC_NAME, "",
				"metric %.80s stands twice in the table, with the same label or another kind",
				name);
}

static bool lint_callbacks(const struct ss_component *d)
{
	const char *missing = !d->create    ? "create"
			      : !d->destroy ? "destroy"
			      : (d->kind == SS_KIND_PROCESSOR || d->kind == SS_KIND_SINK) && !d->process
				      ? "process"
			      : d->kind == SS_KIND_PROVIDER && !d->extension ? "extension"
									     : NULL;

	if (missing)
		ledger_add(RULE_DESCRIPTOR_CALLBACK, missing, "the descriptor has no %s", missing);
	return !missing;
}

/* Tables of another shape cannot be looked into. */
static bool lint_shape(const struct ss_component *d)
{
	const uint32_t option = offsetof(struct ss_option, max) + sizeof(int64_t),
		       metric = offsetof(struct ss_metric, reserved) + sizeof(uint32_t);

	if (d->kind != SS_KIND_SOURCE && d->kind != SS_KIND_PROCESSOR && d->kind != SS_KIND_SINK &&
	    d->kind != SS_KIND_PROVIDER)
		ledger_add(RULE_DESCRIPTOR_ABI, "", "the kind is %u", d->kind);
	else if (d->n_options && (!d->options || d->option_size < option || d->option_size > STRUCT_MAX ||
				  d->n_options > 1024))
		ledger_add(RULE_DESCRIPTOR_ABI, "", "there are %u options of %u bytes", d->n_options,
			   d->option_size);
	else if (d->n_metrics && (!d->metrics || d->metric_size < metric || d->metric_size > STRUCT_MAX ||
				  d->n_metrics > 1024))
		ledger_add(RULE_DESCRIPTOR_ABI, "", "there are %u metrics of %u bytes", d->n_metrics,
			   d->metric_size);
	else
		return true;
	return false;
}

bool lint_component(const struct ss_component *from, struct ss_component **out)
{
	const size_t least = offsetof(struct ss_component, reserved) + sizeof(uint32_t);
	struct ss_component known = {0};
	char why[DESCRIPTOR_WHY] = "out of memory";

	if (!from || from->struct_size < least || from->struct_size > STRUCT_MAX) {
		ledger_add(RULE_DESCRIPTOR_ABI, "",
			   "struct_size of a component is %u; that of this host is %zu",
			   from ? from->struct_size : 0, sizeof known);
		return false;
	}
	memcpy(&known, from, from->struct_size < sizeof known ? from->struct_size : sizeof known);
	if (!is_name(known.type, LOWER DIGITS "_")) {
		ledger_add(RULE_DESCRIPTOR_NAME, "", "the type is called '%.60s'",
			   known.type ? known.type : "");
		return false;
	}
	if (!lint_shape(&known))
		return false;
	const uint32_t before = ledger()->n;
	for (uint32_t i = 0; i < known.n_options; i++)
		lint_option(&known, i);
	for (uint32_t i = 0; i < known.n_metrics; i++)
		lint_metric(&known, i);
	if (!lint_callbacks(&known))
		return false;
	if (descriptor_copy(from, out, why) == 0)
		return true;
	if (ledger()->n == before) /* names of outputs and reasons are left */
		ledger_add(strstr(why, "output") || strstr(why, "reason") ? RULE_DESCRIPTOR_NAME
									  : RULE_DESCRIPTOR_ABI,
			   "", "%s", why);
	return false;
}
