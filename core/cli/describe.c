/* SPDX-License-Identifier: MIT */
/* describe - see describe.h. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include "core/cli/describe.h"
#include "core/plugin/descriptor.h"
#include "core/plugin/loader.h"
#include "core/cli/schema.h"
#include "core/cli/table.h"
#include <semstreams/base/units.h>

static const char *option_type(const struct ss_option *o)
{
	static const char *const names[] = {
		[SS_OPT_STRING] = "string", [SS_OPT_INT] = "integer",       [SS_OPT_BOOL] = "boolean",
		[SS_OPT_BYTES] = "size",    [SS_OPT_DURATION] = "duration", [SS_OPT_ENUM] = "choice",
		[SS_OPT_JSON] = "json",
	};
	return names[o->type];
}

static const char *metric_kind(const struct ss_metric *m)
{
	return m->kind == SS_METRIC_COUNTER ? "counter" : "gauge";
}

/* ---- for people -----------------------------------------------------------------------------------------
 */

static const char *limit(const struct ss_option *o, int64_t value, char *buf, size_t size)
{
	if (o->type == SS_OPT_BYTES)
		return ss_format_size(value, buf, size);
	if (o->type == SS_OPT_DURATION)
		return ss_format_duration(value, buf, size);
	snprintf(buf, size, "%" PRId64, value);
	return buf;
}

/* Which values it takes, in a table's cell. */
static void add_values(struct table *t, const struct ss_option *o)
{
	char min[32], max[32], text[512] = "";

	if (o->type == SS_OPT_ENUM) {
		for (const char *const *c = o->choices; *c; c++) {
			size_t n = strlen(text);
			snprintf(text + n, sizeof text - n, "%s%s", n ? " | " : "", *c);
		}
	} else if (o->min != 0 || o->max != 0) {
		snprintf(text, sizeof text, "%s..%s",
			 o->min == INT64_MIN ? "" : limit(o, o->min, min, sizeof min),
			 o->max == INT64_MAX ? "" : limit(o, o->max, max, sizeof max));
	}
	table_add(t, "%s", text);
}

/* Does a reload change it while the instance runs? */
static bool is_live(const struct ss_component *desc, const struct ss_option *o)
{
	return desc->reconfigure && (o->flags & SS_OPT_LIVE);
}

static void print_options(const struct ss_component *desc, FILE *to)
{
	struct table t = {.columns = 5};

	if (desc->n_options == 0)
		return;
	fprintf(to, "\noptions\n");
	for (uint32_t i = 0; i < desc->n_options; i++) {
		const struct ss_option *o = &desc->options[i];
		table_add(&t, "%s", o->key);
		table_add(&t, "%s", option_type(o));
		if (o->flags & SS_OPT_REQUIRED)
			table_add(&t, "required");
		else if (!o->default_text)
			table_add(&t, "-");
		else if (o->type == SS_OPT_STRING)
			table_add(&t, "\"%s\"", o->default_text);
		else
			table_add(&t, "%s", o->default_text);
		add_values(&t, o);
		table_add(&t, "%s%s%s%s", o->flags & SS_OPT_DEPRECATED ? "(deprecated) " : "",
			  o->flags & SS_OPT_SECRET ? "(secret) " : "", is_live(desc, o) ? "(live) " : "",
			  o->help ? o->help : "");
	}
	table_print(&t, 2, to);
	table_done(&t);
}

static void print_metrics(const struct ss_component *desc, FILE *to)
{
	struct table t = {.columns = 3};

	if (desc->n_metrics == 0)
		return;
	fprintf(to, "\nmetrics, each with the label component\n");
	for (uint32_t i = 0; i < desc->n_metrics; i++) {
		const struct ss_metric *m = &desc->metrics[i];
		if (m->label)
			table_add(&t, "%s{%s}", m->name, m->label);
		else
			table_add(&t, "%s", m->name);
		table_add(&t, "%s", metric_kind(m));
		table_add(&t, "%s", m->help);
	}
	table_print(&t, 2, to);
	table_done(&t);
}

static void print_names(const char *title, const char *const *names, FILE *to)
{
	if (!names || !*names)
		return;
	fprintf(to, "\n%s\n", title);
	for (; *names; names++)
		fprintf(to, "  %s\n", *names);
}

static void type_text(const struct ss_component *desc, const char *file, FILE *to)
{
	struct table t = {.columns = 2};

	fprintf(to, "%s%s%s\n", desc->type, *desc->summary ? ": " : "", desc->summary);
	const char *const rows[][2] = {{"kind", descriptor_kind(desc)},
				       {"version", desc->version},
				       {"license", desc->license},
				       {"file", file}};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		table_add(&t, "%s", rows[i][0]);
		table_add(&t, "%s", *rows[i][1] ? rows[i][1] : "-");
	}
	table_print(&t, 2, to);
	table_done(&t);
	print_options(desc, to);
	print_metrics(desc, to);
	print_names("outputs", desc->outputs, to);
	print_names("drop reasons", desc->reasons, to);
}

static void list_text(const struct loader *l, FILE *to)
{
	struct table t = {.columns = 5};

	for (size_t i = 0; i < loader_count(l); i++) {
		const char *file;
		const struct ss_component *desc = loader_type(l, i, &file);
		table_add(&t, "%s", desc->type);
		table_add(&t, "%s", descriptor_kind(desc));
		table_add(&t, "%s", desc->version);
		table_add(&t, "%s", file);
		table_add(&t, "%s", desc->summary);
	}
	table_print(&t, 0, to);
	table_done(&t);
}

/* ---- the tables of a page, in Markdown, between the markers that docs/tables.test looks for ---- */

/* In a table's cell. */
static void put_cell(const char *s, FILE *to)
{
	for (; *s; s++) {
		if (*s == '|')
			fputc('\\', to);
		fputc(*s, to);
	}
}

static void put_limits(const struct ss_option *o, FILE *to)
{
	char min[32], max[32];
	bool has_min = o->min != INT64_MIN, has_max = o->max != INT64_MAX;

	if (o->min == 0 && o->max == 0)
		return;
	if (has_min && has_max)
		fprintf(to, " from %s to %s", limit(o, o->min, min, sizeof min),
			limit(o, o->max, max, sizeof max));
	else if (has_min)
		fprintf(to, ", at least %s", limit(o, o->min, min, sizeof min));
	else if (has_max)
		fprintf(to, ", at most %s", limit(o, o->max, max, sizeof max));
}

static void put_values(const struct ss_option *o, FILE *to)
{
	if (o->type != SS_OPT_ENUM) {
		fputs(o->type == SS_OPT_JSON ? "JSON" : option_type(o), to);
		put_limits(o, to);
		return;
	}
	for (const char *const *c = o->choices; *c; c++)
		fprintf(to, "%s`%s`", c == o->choices ? "" : ", ", *c);
}

static void put_default(const struct ss_option *o, FILE *to)
{
	bool literal = o->type == SS_OPT_INT || o->type == SS_OPT_BOOL || o->type == SS_OPT_JSON;

	if (o->flags & SS_OPT_REQUIRED)
		fputs("required", to);
	else if (o->default_text)
		fprintf(to, literal ? "`%s`" : "`\"%s\"`", o->default_text);
}

static void markdown_options(const struct ss_component *desc, FILE *to)
{
	if (desc->n_options == 0)
		return;
	fputs("<!-- options -->\n| option | values | default | description |\n|---|---|---|---|\n", to);
	for (uint32_t i = 0; i < desc->n_options; i++) {
		const struct ss_option *o = &desc->options[i];
		fprintf(to, "| `%s` | ", o->key);
		put_values(o, to);
		fputs(" | ", to);
		put_default(o, to);
		fprintf(to, " | %s%s%s", o->flags & SS_OPT_DEPRECATED ? "Deprecated. " : "",
			o->flags & SS_OPT_SECRET ? "Secret. " : "", is_live(desc, o) ? "Live. " : "");
		put_cell(o->help ? o->help : "", to);
		fputs(" |\n", to);
	}
	fputs("<!-- end -->\n", to);
}

/* Rows of the same metric differ only in the value of its label. */
static bool same_metric(const struct ss_metric *a, const struct ss_metric *b)
{
	return a->label && b->label && strcmp(a->name, b->name) == 0 && strcmp(a->help, b->help) == 0 &&
	       strcspn(a->label, "=") == strcspn(b->label, "=") &&
	       strncmp(a->label, b->label, strcspn(a->label, "=")) == 0;
}

static void markdown_metric(const struct ss_component *desc, uint32_t i, FILE *to)
{
	const struct ss_metric *m = &desc->metrics[i];
	int key = m->label ? (int)strcspn(m->label, "=") : 0;

	for (uint32_t k = 0; k < i; k++)
		if (same_metric(&desc->metrics[k], m))
			return; /* is in that row */
	fprintf(to, m->label ? "| `%s{%.*s}` | %s | " : "| `%s%.*s` | %s | ", m->name, key,
		m->label ? m->label : "", metric_kind(m));
	put_cell(m->help, to);
	for (uint32_t k = i, n = 0; m->label && k < desc->n_metrics; k++) {
		const struct ss_metric *other = &desc->metrics[k];
		if (!same_metric(other, m))
			continue;
		const char *value = other->label + key + 2; /* after =" */
		fprintf(to, n++ ? ", `%.*s`" : " (`%.*s`", (int)strcspn(value, "\""), value);
	}
	fputs(m->label ? ") |\n" : " |\n", to);
}

static void markdown_metrics(const struct ss_component *desc, FILE *to)
{
	if (desc->n_metrics == 0)
		return;
	fputs("<!-- metrics -->\n| metric | type | description |\n|---|---|---|\n", to);
	for (uint32_t i = 0; i < desc->n_metrics; i++)
		markdown_metric(desc, i, to);
	fputs("<!-- end -->\n", to);
}

static void markdown_reasons(const struct ss_component *desc, FILE *to)
{
	const char *const *reason = desc->reasons;

	if (!reason || !*reason)
		return;
	fputs("<!-- drop reasons -->\nValues of `reason` in `semstreams_events_dropped_total`:", to);
	for (; *reason; reason++)
		fprintf(to, "%s `%s`", reason == desc->reasons ? "" : ",", *reason);
	fputs(".\n<!-- end -->\n", to);
}

static void type_markdown(const struct ss_component *desc, FILE *to)
{
	markdown_options(desc, to);
	markdown_metrics(desc, to);
	markdown_reasons(desc, to);
}

/* ---- as JSON --------------------------------------------------------------------------------------------
 */

/* What is not UTF-8 becomes null. */
static json_t *text(const char *s)
{
	json_t *value = s ? json_string(s) : NULL;

	return value ? value : json_null();
}

static json_t *names_json(const char *const *names)
{
	json_t *list = json_array();

	for (; names && *names; names++)
		json_array_append_new(list, text(*names));
	return list;
}

static json_t *option_json(const struct ss_component *desc, const struct ss_option *o)
{
	json_t *row =
		json_pack("{s:o,s:s,s:b,s:b,s:b,s:b,s:o,s:o*}", "key", text(o->key), "type", option_type(o),
			  "required", (o->flags & SS_OPT_REQUIRED) != 0, "secret",
			  (o->flags & SS_OPT_SECRET) != 0, "deprecated", (o->flags & SS_OPT_DEPRECATED) != 0,
			  "live", is_live(desc, o), "help", text(o->help), "default", schema_default(o));

	if (o->type == SS_OPT_ENUM)
		json_object_set_new(row, "choices", names_json(o->choices));
	if (o->type != SS_OPT_ENUM && (o->min != 0 || o->max != 0)) {
		if (o->min != INT64_MIN)
			json_object_set_new(row, "min", json_integer(o->min));
		if (o->max != INT64_MAX)
			json_object_set_new(row, "max", json_integer(o->max));
	}
	json_t *schema =
		o->type == SS_OPT_JSON && o->schema ? json_loads(o->schema, JSON_DECODE_ANY, NULL) : NULL;
	if (schema)
		json_object_set_new(row, "schema", schema);
	return row;
}

static json_t *type_json(const struct ss_component *desc, const char *file)
{
	json_t *options = json_array(), *metrics = json_array();

	for (uint32_t i = 0; i < desc->n_options; i++)
		json_array_append_new(options, option_json(desc, &desc->options[i]));
	for (uint32_t i = 0; i < desc->n_metrics; i++) {
		const struct ss_metric *m = &desc->metrics[i];
		json_array_append_new(metrics, json_pack("{s:o,s:s,s:o,s:o}", "name", text(m->name), "kind",
							 metric_kind(m), "label", text(m->label), "help",
							 text(m->help)));
	}
	return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "type", desc->type, "kind",
			 descriptor_kind(desc), "version", text(desc->version), "summary",
			 text(desc->summary), "license", text(desc->license), "file", text(file), "options",
			 options, "metrics", metrics, "outputs", names_json(desc->outputs), "drop_reasons",
			 names_json(desc->reasons));
}

static json_t *list_json(const struct loader *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < loader_count(l); i++) {
		const char *file;
		const struct ss_component *desc = loader_type(l, i, &file);
		json_array_append_new(list, json_pack("{s:s,s:s,s:o,s:o,s:o}", "type", desc->type, "kind",
						      descriptor_kind(desc), "version", text(desc->version),
						      "file", text(file), "summary", text(desc->summary)));
	}
	return list;
}

/* ---- in the form that is asked for ---- */

static int print_json(json_t *value, FILE *to)
{
	int rc = value && json_dumpf(value, to, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;

	if (rc == 0)
		fputc('\n', to);
	json_decref(value);
	return ferror(to) ? 0 : rc; /* the caller asks the stream */
}

int describe_list(const struct loader *l, enum describe_form form, FILE *to)
{
	if (form == DESCRIBE_JSON)
		return print_json(list_json(l), to);
	list_text(l, to);
	return 0;
}

int describe_type(const struct ss_component *desc, const char *file, enum describe_form form, FILE *to)
{
	if (form == DESCRIBE_JSON)
		return print_json(type_json(desc, file), to);
	if (form == DESCRIBE_MARKDOWN)
		type_markdown(desc, to);
	else
		type_text(desc, file, to);
	return 0;
}
