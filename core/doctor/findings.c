/* SPDX-License-Identifier: MIT */
/* findings - see findings.h. */
#include "core/doctor/findings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>

static const char *const levels[] = {
	[FINDING_OK] = "ok", [FINDING_WARNING] = "warning", [FINDING_PROBLEM] = "problem"};

/* Names and texts of peers do not move the cursor of a terminal. */
static char *clean(char *text)
{
	for (char *p = text; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return text;
}

static void row_done(struct finding *row)
{
	free(row->subject);
	free(row->text);
	free(row->remedy);
}

static void append(struct findings *f, struct finding *row)
{
	struct finding *grown = NULL;

	if (row->subject && row->text)
		grown = reallocarray(f->rows, f->n + 1, sizeof *grown);
	f->problems += row->level == FINDING_PROBLEM;
	f->warnings += row->level == FINDING_WARNING;
	if (!grown) {
		f->failed = true;
		row_done(row);
		return;
	}
	f->rows = grown;
	f->rows[f->n++] = *row;
}

void findings_add(struct findings *f, enum finding_level level, const char *check, const char *subject,
		  const char *remedy, const char *fmt, ...)
{
	struct finding row = {.level = level, .check = check, .subject = clean(strdup(subject))};
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&row.text, fmt, ap) < 0)
		row.text = NULL;
	va_end(ap);
	clean(row.text);
	row.remedy = remedy ? clean(strdup(remedy)) : NULL;
	append(f, &row);
}

void findings_move(struct findings *to, struct findings *from)
{
	for (size_t i = 0; i < from->n; i++)
		append(to, &from->rows[i]);
	free(from->rows);
	to->failed |= from->failed;
	*from = (struct findings){0};
}

/* What is not UTF-8 becomes U+FFFD. */
static json_t *text_json(const char *text)
{
	struct ss_strbuf quoted = {0};

	ss_strbuf_json(&quoted, text, strlen(text));
	json_t *value = json_loads(ss_strbuf_cstr(&quoted), JSON_DECODE_ANY, NULL);
	ss_strbuf_done(&quoted);
	return value;
}

static int print_json(const struct findings *f, FILE *out)
{
	json_t *rows = json_array(), *document;

	for (size_t i = 0; i < f->n; i++) {
		const struct finding *row = &f->rows[i];
		json_array_append_new(rows,
				      json_pack("{s:s, s:s, s:o, s:o, s:o}", "level", levels[row->level],
						"check", row->check, "subject", text_json(row->subject),
						"text", text_json(row->text), "remedy",
						row->remedy ? text_json(row->remedy) : json_null()));
	}
	document = json_pack("{s:b, s:I, s:I, s:o}", "ok", f->problems == 0, "problems",
			     (json_int_t)f->problems, "warnings", (json_int_t)f->warnings, "findings", rows);
	int rc = document && json_dumpf(document, out, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;
	putc('\n', out);
	json_decref(document);
	return rc;
}

int findings_print(const struct findings *f, bool json, FILE *out)
{
	if (f->failed)
		return -ENOMEM;
	if (json)
		return print_json(f, out);
	for (size_t i = 0; i < f->n; i++) {
		const struct finding *row = &f->rows[i];
		fprintf(out, "%-8s %-8s %s: %s\n", levels[row->level], row->check, row->subject, row->text);
		if (row->remedy)
			fprintf(out, "%-17s -> %s\n", "", row->remedy);
	}
	fprintf(out, "%zu problem%s, %zu warning%s\n", f->problems, f->problems == 1 ? "" : "s", f->warnings,
		f->warnings == 1 ? "" : "s");
	return 0;
}

void findings_done(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		row_done(&f->rows[i]);
	free(f->rows);
	*f = (struct findings){0};
}
