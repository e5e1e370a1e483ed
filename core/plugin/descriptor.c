/* SPDX-License-Identifier: MIT */
/* descriptor - see descriptor.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/plugin/descriptor.h"

/* Sizes in ABI 1.0, the least a plugin can have been built with. */
#define COMPONENT_MIN (offsetof(struct ss_component, reserved) + sizeof(((struct ss_component *)0)->reserved))
#define OPTION_MIN    (offsetof(struct ss_option, max) + sizeof(int64_t))
#define METRIC_MIN    (offsetof(struct ss_metric, reserved) + sizeof(uint32_t))

/* No honest descriptor comes near these. */
#define MAX_STRUCT  4096
#define MAX_ROWS    1024
#define MAX_NAMES   64
#define MAX_REASONS 16 /* that the host counts apart */
#define MAX_CONF    (1u << 20)

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

struct check {
	const char *type;
	char *why;
};

__attribute__((format(printf, 2, 3))) static int wrong(const struct check *c, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(c->why, DESCRIPTOR_WHY, "component type '%s': ", c->type);
	va_start(ap, fmt);
	vsnprintf(c->why + n, DESCRIPTOR_WHY - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool is_name(const char *s, const char *alphabet)
{
	if (!s)
		return false;
	size_t n = strspn(s, alphabet);
	return n > 0 && n < 64 && s[n] == '\0';
}

static int32_t do_nothing(void *self)
{
	(void)self;
	return 0;
}

static void do_nothing_void(void *self)
{
	(void)self;
}

static void acked_nothing(void *self, uint64_t cookie, int32_t status)
{
	(void)self;
	(void)cookie;
	(void)status;
}

static void fill_in(struct ss_component *d)
{
	if (!d->version)
		d->version = "";
	if (!d->summary)
		d->summary = "";
	if (!d->license)
		d->license = "";
	if (!d->start)
		d->start = do_nothing;
	if (!d->stop)
		d->stop = do_nothing_void;
	if (!d->pause)
		d->pause = do_nothing_void;
	if (!d->resume)
		d->resume = do_nothing_void;
	if (!d->drain)
		d->drain = do_nothing;
	if (!d->acked)
		d->acked = acked_nothing;
}

/* n rows of from_size bytes each as rows of to_size: what a smaller row lacks is zero.  NULL: none, or out of
 * memory. */
static void *copy_rows(const void *from, size_t from_size, size_t n, size_t to_size)
{
	char *to = n ? calloc(n, to_size) : NULL;

	if (to)
		for (size_t i = 0; i < n; i++)
			memcpy(to + i * to_size, (const char *)from + i * from_size,
			       from_size < to_size ? from_size : to_size);
	return to;
}

static int check_names(const struct check *c, const char *what, const char *const *names)
{
	size_t n = 0;

	for (; names && names[n]; n++) {
		if (n == MAX_NAMES)
			return wrong(c, "more than %d %ss", MAX_NAMES, what);
		if (!is_name(names[n], LOWER DIGITS "_"))
			return wrong(c, "%s %zu has a bad name; use [a-z0-9_], at most 63", what, n);
		for (size_t i = 0; i < n; i++)
			if (strcmp(names[i], names[n]) == 0)
				return wrong(c, "%s '%s' is listed twice", what, names[n]);
	}
	return 0;
}

static int check_choices(const struct check *c, const struct ss_option *o)
{
	size_t n = 0;

	while (o->choices && n < MAX_ROWS && o->choices[n])
		n++;
	if (n == 0 || n == MAX_ROWS)
		return wrong(c, "option '%s' needs a NULL-ended list of choices", o->key);
	return 0;
}

static int check_option(const struct check *c, const struct ss_option *o, size_t conf_size)
{
	if (!is_name(o->key, LOWER UPPER DIGITS "_"))
		return wrong(c, "an option has a bad key; use [A-Za-z0-9_], at most 63");
	if (o->type < SS_OPT_STRING || o->type > SS_OPT_JSON)
		return wrong(c, "option '%s' has type %u, which this host does not know", o->key, o->type);
	bool text = o->type == SS_OPT_STRING || o->type == SS_OPT_JSON;
	size_t size = text ? sizeof(char *) : sizeof(int64_t),
	       align = text ? _Alignof(char *) : _Alignof(int64_t);
	if (o->offset % align != 0 || o->offset > conf_size || conf_size - o->offset < size)
		return wrong(c, "option '%s' lies outside its conf struct (offset %u of %zu)", o->key,
			     o->offset, conf_size);
	if (o->min > o->max)
		return wrong(c, "option '%s' has min above max", o->key);
	return o->type == SS_OPT_ENUM ? check_choices(c, o) : 0;
}

static int check_options(const struct check *c, const struct ss_component *d)
{
	for (uint32_t i = 0; i < d->n_options; i++) {
		int rc = check_option(c, &d->options[i], d->conf_size);
		if (rc < 0)
			return rc;
		for (uint32_t k = 0; k < i; k++)
			if (strcmp(d->options[k].key, d->options[i].key) == 0)
				return wrong(c, "option '%s' is listed twice", d->options[i].key);
	}
	return 0;
}

/* key="value" without anything that would need an escape */
static bool is_label(const char *s)
{
	size_t key = strspn(s, LOWER DIGITS "_");

	if (key == 0 || s[0] < 'a' || strncmp(s, "component=", 10) == 0 || strncmp(s + key, "=\"", 2) != 0)
		return false;
	const char *value = s + key + 2;
	size_t n = 0;
	while ((unsigned char)value[n] >= ' ' && value[n] != '"' && value[n] != '\\')
		n++;
	return strcmp(value + n, "\"") == 0;
}

/* Names of these families are the host's: a plugin's would appear among them. */
static bool is_metric_of_host(const char *name)
{
	static const char *const families[] = {
		"process_",         "semstreams_build_", "semstreams_certificate_", "semstreams_events_",
		"semstreams_mtls_", "semstreams_queue_", "semstreams_tls_"};

	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (strncmp(name, families[i], strlen(families[i])) == 0)
			return true;
	return false;
}

static int check_reasons(const struct check *c, const char *const *reasons)
{
	static const char *const of_host[] = {"duplicate", "error", "queue_full", "shutdown", "unconnected"};
	size_t n = 0;

	for (; reasons && reasons[n]; n++)
		for (size_t i = 0; i < sizeof of_host / sizeof *of_host; i++)
			if (strcmp(reasons[n], of_host[i]) == 0)
				return wrong(c, "drop reason '%s' is one of the host's", reasons[n]);
	return n > MAX_REASONS ? wrong(c, "more than %d drop reasons", MAX_REASONS) : 0;
}

static int check_metric(const struct check *c, const struct ss_metric *m)
{
	if (!m->name || strspn(m->name, LOWER UPPER DIGITS "_:") != strlen(m->name) || m->name[0] == '\0' ||
	    strchr(DIGITS, m->name[0]))
		return wrong(c, "a metric has a bad name; use [a-zA-Z_:][a-zA-Z0-9_:]*");
	if (is_metric_of_host(m->name))
		return wrong(c, "metric %s has a name of the host's metrics", m->name);
	if (m->kind != SS_METRIC_COUNTER && m->kind != SS_METRIC_GAUGE)
		return wrong(c, "metric %s is of kind %u, which this host does not know", m->name, m->kind);
	if (!m->help)
		return wrong(c, "metric %s has no help text", m->name);
	if (m->label && !is_label(m->label))
		return wrong(c, "metric %s has a bad label; write key=\"value\"", m->name);
	return 0;
}

static int check_metrics(const struct check *c, const struct ss_component *d)
{
	for (uint32_t i = 0; i < d->n_metrics; i++) {
		const struct ss_metric *m = &d->metrics[i];
		int rc = check_metric(c, m);
		if (rc < 0)
			return rc;
		for (uint32_t k = 0; k < i; k++) {
			const struct ss_metric *o = &d->metrics[k];
			if (strcmp(o->name, m->name) == 0 &&
			    (o->kind != m->kind || !o->label || !m->label || strcmp(o->label, m->label) == 0))
				return wrong(
					c,
					"metric %s is listed twice with the same label, or with another kind",
					m->name);
		}
	}
	return 0;
}

/* Is there a table where there are rows, of rows this host can read? */
static bool table_ok(const void *rows, uint32_t n, uint32_t size, size_t min)
{
	return n == 0 || (rows && n <= MAX_ROWS && size >= min && size <= MAX_STRUCT && size % 4 == 0);
}

static int check_shape(const struct check *c, const struct ss_component *d)
{
	if (d->kind != SS_KIND_SOURCE && d->kind != SS_KIND_PROCESSOR && d->kind != SS_KIND_SINK &&
	    d->kind != SS_KIND_PROVIDER)
		return wrong(c, "kind %u is none of source, processor, sink, provider", d->kind);
	if (!d->create || !d->destroy)
		return wrong(c, "create and destroy are needed");
	if ((d->kind == SS_KIND_PROCESSOR || d->kind == SS_KIND_SINK) && !d->process)
		return wrong(c, "a processor or sink needs process");
	if (d->conf_size > MAX_CONF)
		return wrong(c, "conf_size is %zu, over 1 MiB", d->conf_size);
	if (!table_ok(d->options, d->n_options, d->option_size, OPTION_MIN))
		return wrong(c, "bad option table: %u rows of %u bytes", d->n_options, d->option_size);
	if (!table_ok(d->metrics, d->n_metrics, d->metric_size, METRIC_MIN))
		return wrong(c, "bad metric table: %u rows of %u bytes", d->n_metrics, d->metric_size);
	return 0;
}

static int copy_tables(struct ss_component *to, const struct ss_component *from)
{
	to->options = copy_rows(from->options, from->option_size, from->n_options, sizeof(struct ss_option));
	to->option_size = sizeof(struct ss_option);
	to->metrics = copy_rows(from->metrics, from->metric_size, from->n_metrics, sizeof(struct ss_metric));
	to->metric_size = sizeof(struct ss_metric);
	return (from->n_options && !to->options) || (from->n_metrics && !to->metrics) ? -ENOMEM : 0;
}

int descriptor_copy(const struct ss_component *from, struct ss_component **out, char why[DESCRIPTOR_WHY])
{
	struct check c = {.type = "?", .why = why};
	struct ss_component *d = NULL, known = {0};

	if (!from)
		return wrong(&c, "no descriptor");
	if (from->struct_size < COMPONENT_MIN || from->struct_size > MAX_STRUCT)
		return wrong(&c, "struct_size is %u; it should be sizeof(struct ss_component)",
			     from->struct_size);
	memcpy(&known, from, from->struct_size < sizeof known ? from->struct_size : sizeof known);
	known.struct_size = sizeof known;
	if (!is_name(known.type, LOWER DIGITS "_"))
		return wrong(&c, "bad type name; use [a-z0-9_], at most 63");
	c.type = known.type;
	int rc = check_shape(&c, &known);
	if (rc < 0)
		return rc;

	d = malloc(sizeof *d);
	if (!d)
		return -ENOMEM;
	*d = known;
	rc = copy_tables(d, &known);
	if (rc == 0)
		rc = check_options(&c, d);
	if (rc == 0)
		rc = check_metrics(&c, d);
	if (rc == 0)
		rc = check_names(&c, "output", d->outputs);
	if (rc == 0)
		rc = check_names(&c, "drop reason", d->reasons);
	if (rc == 0)
		rc = check_reasons(&c, d->reasons);
	if (rc < 0) {
		descriptor_free(d);
		return rc;
	}
	fill_in(d);
	*out = d;
	return 0;
}

void descriptor_free(struct ss_component *d)
{
	if (!d)
		return;
	free((void *)d->options);
	free((void *)d->metrics);
	free(d);
}

const char *descriptor_kind(const struct ss_component *desc)
{
	switch (desc->kind) {
	case SS_KIND_SOURCE:
		return "source";
	case SS_KIND_PROCESSOR:
		return "processor";
	case SS_KIND_SINK:
		return "sink";
	default:
		return "provider";
	}
}
