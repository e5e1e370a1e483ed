/* SPDX-License-Identifier: MIT */
/*
 * options - a JSON object against a table of options, into a conf struct.
 * Control thread only.
 */
#include "core/config/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <semstreams/base/nearest.h>
#include "core/config/expand.h"
#include <semstreams/base/units.h>

struct filler {
	const struct option_table *table;
	const struct jdoc *doc;
	struct diag *diag;
	struct options *out;
	bool out_of_memory;
};

/* Row i in this host's size: what an older table lacks is zero. */
static struct ss_option row(const struct option_table *table, uint32_t i)
{
	struct ss_option option = {0};
	size_t size = table->row_size < sizeof option ? table->row_size : sizeof option;
	memcpy(&option, (const char *)table->rows + (size_t)i * table->row_size, size);
	return option;
}

static size_t count_choices(const struct ss_option *option)
{
	size_t n = 0;
	while (option->choices && option->choices[n])
		n++;
	return n;
}

/* ---- what was expected ----------------------------------------------------------------------------------
 */

static const char *format_limit(const struct ss_option *option, int64_t value, char *buf, size_t size)
{
	if (option->type == SS_OPT_BYTES)
		return ss_format_size(value, buf, size);
	if (option->type == SS_OPT_DURATION)
		return ss_format_duration(value, buf, size);
	snprintf(buf, size, "%" PRId64, value);
	return buf;
}

static void put_limits(const struct ss_option *option, FILE *to)
{
	char min[32], max[32];
	if (option->min == 0 && option->max == 0)
		return;
	format_limit(option, option->min, min, sizeof min);
	format_limit(option, option->max, max, sizeof max);
	if (option->max == INT64_MAX)
		fprintf(to, " of at least %s", min);
	else if (option->min == INT64_MIN)
		fprintf(to, " of at most %s", max);
	else
		fprintf(to, " from %s to %s", min, max);
}

static void put_expected(const struct ss_option *option, FILE *to)
{
	switch (option->type) {
	case SS_OPT_STRING:
		fputs("a string", to);
		break;
	case SS_OPT_INT:
		fputs("an integer", to);
		put_limits(option, to);
		break;
	case SS_OPT_BOOL:
		fputs("true or false", to);
		break;
	case SS_OPT_BYTES:
		fputs("a size", to);
		put_limits(option, to);
		fputs(" " SS_SIZE_FORM, to);
		break;
	case SS_OPT_DURATION:
		fputs("a duration", to);
		put_limits(option, to);
		fputs(" " SS_DURATION_FORM, to);
		break;
	case SS_OPT_ENUM:
		for (size_t i = 0, n = count_choices(option); i < n; i++)
			fprintf(to, "%s\"%s\"", i == 0 ? "" : i + 1 == n ? " or " : ", ", option->choices[i]);
		break;
	}
}

/* A frequent slip that explains the wrong value, or "". */
static const char *hint(const struct ss_option *option, const struct jnode *node)
{
	bool text = node->type == J_STRING;
	int64_t number;
	if (node->type == J_NULL)
		return "; leave the key out for its default";
	if (expand_is_variable(node))
		return "; the variable has another value";
	if (option->type == SS_OPT_INT && text && ss_parse_integer(node->string, &number) == 0)
		return "; write numbers without quotes";
	if (option->type == SS_OPT_BOOL && text &&
	    (strcmp(node->string, "true") == 0 || strcmp(node->string, "false") == 0))
		return "; write true and false without quotes";
	if (option->type == SS_OPT_DURATION && node->type == J_NUMBER)
		return "; a duration is a string with a unit";
	if ((option->type == SS_OPT_INT || option->type == SS_OPT_BYTES) && node->type == J_NUMBER &&
	    memchr(node->text, '.', node->text_len))
		return "; an integer has no decimal point";
	if ((option->type == SS_OPT_INT || option->type == SS_OPT_BYTES) && node->type == J_NUMBER &&
	    (memchr(node->text, 'e', node->text_len) || memchr(node->text, 'E', node->text_len)))
		return "; an integer has no exponent";
	if (option->type == SS_OPT_STRING && node->type == J_NUMBER)
		return "; put it in double quotes";
	return "";
}

static void report_wrong(struct filler *f, const struct ss_option *option, const struct jnode *node)
{
	char *expected = NULL, shown[JSHOWN_SIZE];
	size_t len;
	bool secret = option->flags & SS_OPT_SECRET;
	const char *meant = NULL;
	FILE *to = open_memstream(&expected, &len);

	if (to) {
		put_expected(option, to);
		fclose(to);
	}
	if (option->type == SS_OPT_ENUM && node->type == J_STRING && !secret)
		meant = ss_nearest(node->string, option->choices, count_choices(option));
	jdoc_report(f->doc, f->diag, DIAG_ERROR, node, J_VALUE, "expected %s, got %s%s%s%s%s",
		    expected ? expected : "something else",
		    secret ? jtype_name(node->type) : jnode_shown(node, shown),
		    secret ? "" : hint(option, node), meant ? "; did you mean \"" : "", meant ? meant : "",
		    meant ? "\"?" : "");
	free(expected);
}

/* ---- values ---------------------------------------------------------------------------------------------
 */

/* A value that is no text from its text, as it stands in the config without quotes.  0, -EINVAL, -ERANGE. */
static int convert(const struct ss_option *option, const char *text, int64_t *value)
{
	switch (option->type) {
	case SS_OPT_INT:
		return ss_parse_integer(text, value);
	case SS_OPT_BYTES:
		return ss_parse_size(text, value);
	case SS_OPT_DURATION:
		return ss_parse_duration(text, value);
	case SS_OPT_BOOL:
		*value = strcmp(text, "true") == 0;
		return *value || strcmp(text, "false") == 0 ? 0 : -EINVAL;
	case SS_OPT_ENUM:
		for (size_t i = 0, n = count_choices(option); i < n; i++)
			if (strcmp(text, option->choices[i]) == 0) {
				*value = (int64_t)i;
				return 0;
			}
		return -EINVAL;
	default:
		return -EINVAL;
	}
}

static bool in_limits(const struct ss_option *option, int64_t value)
{
	if (option->type == SS_OPT_BOOL || option->type == SS_OPT_ENUM ||
	    (option->min == 0 && option->max == 0))
		return true;
	return value >= option->min && value <= option->max;
}

static void *member(struct filler *f, const struct ss_option *option)
{
	return (char *)f->out->conf + option->offset;
}

static void store_text(struct filler *f, const struct ss_option *option, char *text)
{
	const char *p = text;
	f->out->strings[f->out->n_strings++] = text;
	memcpy(member(f, option), &p, sizeof p);
}

/* The JSON type that goes with the option's; the text then decides. */
static bool type_fits(const struct ss_option *option, const struct jnode *node)
{
	switch (option->type) {
	case SS_OPT_INT:
		return node->type == J_NUMBER || expand_is_variable(node);
	case SS_OPT_BOOL:
		return node->type == J_TRUE || node->type == J_FALSE || expand_is_variable(node);
	case SS_OPT_BYTES:
		return node->type == J_NUMBER || expand_is_text(node);
	case SS_OPT_JSON:
		return true;
	default:
		return expand_is_text(node);
	}
}

/* The value's text: expanded if it is a string; malloced.  NULL: reported. */
static char *text_of(struct filler *f, const struct ss_option *option, const struct jnode *node)
{
	char *text = NULL;
	int rc = 0;
	if (option->type == SS_OPT_JSON)
		rc = expand_json(f->doc, node, f->diag, &text);
	else if (expand_is_text(node))
		rc = (option->flags & SS_OPT_SECRET ? expand_secret
		      : option->flags & (SS_OPT_READS | SS_OPT_WRITES)
			      ? expand_path_text
			      : expand_text)(f->doc, node, f->diag, &text);
	else
		text = strndup(node->text, node->text_len);
	if (rc == -ENOMEM || (rc == 0 && !text))
		f->out_of_memory = true;
	return rc ? NULL : text;
}

static void fill_from_node(struct filler *f, const struct ss_option *option, const struct jnode *node)
{
	int64_t value;
	if (option->flags & SS_OPT_DEPRECATED)
		jdoc_report(f->doc, f->diag, DIAG_WARN, node, J_NAME, "\"%s\" is deprecated: %s", option->key,
			    option->help ? option->help : "it will go away");
	if (!type_fits(option, node)) {
		report_wrong(f, option, node);
		return;
	}
	char *text = text_of(f, option, node);
	if (!text)
		return;
	if (option->type == SS_OPT_STRING || option->type == SS_OPT_JSON) {
		store_text(f, option, text);
		return;
	}
	/* A bare number is an integer: ss_parse_size would take fractions and leading zeros. */
	int rc = node->type == J_NUMBER ? ss_parse_integer(text, &value) : convert(option, text, &value);
	if (rc == 0 && in_limits(option, value) && (option->type != SS_OPT_BYTES || value >= 0))
		memcpy(member(f, option), &value, sizeof value);
	else
		report_wrong(f, option, node);
	explicit_bzero(text, strlen(text));
	free(text);
}

static bool is_json(const char *text)
{
	struct diag diag;
	struct jdoc *doc;
	diag_init(&diag);
	int rc = jdoc_parse("", text, strlen(text), &diag, &doc);
	jdoc_free(doc);
	diag_done(&diag);
	return rc == 0;
}

static bool fill_default(struct filler *f, const struct ss_option *option)
{
	const char *text = option->default_text;
	int64_t value;
	if (!text)
		return true;
	if (option->type == SS_OPT_STRING || option->type == SS_OPT_JSON) {
		memcpy(member(f, option), &text, sizeof text);
		return option->type == SS_OPT_STRING || is_json(text);
	}
	if (convert(option, text, &value))
		return false;
	memcpy(member(f, option), &value, sizeof value);
	return true;
}

/* A row the host can work with: its member lies inside conf and can be written in one piece. */
static bool row_is_sound(const struct option_table *table, const struct ss_option *option)
{
	return option->key && option->type >= SS_OPT_STRING && option->type <= SS_OPT_JSON &&
	       option->offset % sizeof(int64_t) == 0 && table->conf_size >= sizeof(int64_t) &&
	       option->offset <= table->conf_size - sizeof(int64_t) &&
	       (option->type != SS_OPT_ENUM || count_choices(option) > 0);
}

/* Something to go on with in place of a value that is wrong. */
static void fill_stand_in(struct filler *f, const struct ss_option *option)
{
	const char *text = option->type == SS_OPT_JSON ? "null" : "";
	int64_t value = option->type == SS_OPT_BOOL || option->type == SS_OPT_ENUM ? 0 : option->min;

	if (option->default_text || !(option->flags & SS_OPT_REQUIRED))
		fill_default(f, option);
	else if (option->type == SS_OPT_STRING || option->type == SS_OPT_JSON)
		memcpy(member(f, option), &text, sizeof text);
	else
		memcpy(member(f, option), &value, sizeof value);
}

static void fill_row(struct filler *f, const struct ss_option *option, const struct jnode *object,
		     const struct jnode *owner)
{
	const struct jnode *node = jnode_get(object, option->key);
	size_t errors = f->diag->errors;

	if (node) {
		fill_from_node(f, option, node);
	} else if (option->flags & SS_OPT_REQUIRED) {
		jdoc_report(f->doc, f->diag, DIAG_ERROR, object ? object : owner, J_VALUE,
			    "\"%s\" is missing%s%s", option->key, option->help ? ": " : "",
			    option->help ? option->help : "");
	} else if (!fill_default(f, option)) {
		jdoc_report(f->doc, f->diag, DIAG_ERROR, owner, J_VALUE,
			    "a bug of the plugin: the default of \"%s\" is not valid", option->key);
		f->out->filled = false;
		return;
	}
	if (f->diag->errors > errors) {
		f->out->wrong[f->out->n_wrong++] = option->key;
		fill_stand_in(f, option);
	}
}

static void report_unknown_keys(struct filler *f, const struct jnode *object, const char **keys, size_t n)
{
	for (const struct jnode *child = object->child; child; child = child->next) {
		bool known = false;
		for (size_t i = 0; i < n && !known; i++)
			known = strcmp(child->name, keys[i]) == 0;
		if (!known)
			jdoc_report_unknown(f->doc, f->diag, child, J_NAME, "key", child->name, keys, n);
	}
}

int options_fill(const struct option_table *table, const struct jdoc *doc, const struct jnode *object,
		 const struct jnode *owner, struct diag *diag, struct options *out)
{
	struct filler f = {.table = table, .doc = doc, .diag = diag, .out = out};
	size_t errors = diag->errors, n_keys = 0;

	*out = (struct options){
		.conf = calloc(1, table->conf_size ? table->conf_size : 1),
		.strings = calloc(table->n + 1, sizeof(char *)),
		.wrong = calloc(table->n + 1, sizeof(char *)),
		.filled = true,
	};
	const char **keys = calloc(table->n + 1, sizeof *keys);
	if (!out->conf || !out->strings || !out->wrong || !keys) {
		f.out_of_memory = true;
		goto out;
	}
	if (object && object->type != J_OBJECT) {
		char shown[JSHOWN_SIZE];
		jdoc_report(doc, diag, DIAG_ERROR, object, J_VALUE, "expected an object, got %s",
			    jnode_shown(object, shown));
		out->filled = false;
		goto out;
	}
	for (uint32_t i = 0; i < table->n; i++) {
		struct ss_option option = row(table, i);
		if (!row_is_sound(table, &option)) {
			jdoc_report(doc, diag, DIAG_ERROR, owner, J_VALUE,
				    "a bug of the plugin: row %u of its option table is not valid", i);
			out->filled = false;
			continue;
		}
		keys[n_keys++] = option.key;
		fill_row(&f, &option, object, owner);
	}
	if (object)
		report_unknown_keys(&f, object, keys, n_keys);
out:
	free(keys);
	if (f.out_of_memory) {
		jdoc_report(doc, diag, DIAG_ERROR, owner, J_VALUE, "out of memory");
		return -ENOMEM;
	}
	return diag->errors > errors ? -EINVAL : 0;
}

void options_done(struct options *options)
{
	for (size_t i = 0; i < options->n_strings; i++) {
		/* Any of them may be a secret. */
		explicit_bzero(options->strings[i], strlen(options->strings[i]));
		free(options->strings[i]);
	}
	free(options->strings);
	free(options->wrong);
	free(options->conf);
	*options = (struct options){0};
}
