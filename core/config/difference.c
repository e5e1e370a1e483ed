/* SPDX-License-Identifier: MIT */
#include "core/config/difference.h"

#include <string.h>

static bool same_number(const struct jnode *a, const struct jnode *b)
{
	return a->text_len == b->text_len && memcmp(a->text, b->text, a->text_len) == 0;
}

bool difference_none(const struct jnode *a, const struct jnode *b)
{
	if (!a || !b)
		return a == b;
	if (a->type != b->type || a->n != b->n)
		return false;
	if (a->type == J_STRING)
		return strcmp(a->string, b->string) == 0;
	if (a->type == J_NUMBER)
		return same_number(a, b);
	const struct jnode *other = b->child;
	for (const struct jnode *child = a->child; child; child = child->next) {
		const struct jnode *pair = a->type == J_OBJECT ? jnode_get(b, child->name) : other;
		if (!pair || !difference_none(child, pair))
			return false;
		other = other->next;
	}
	return true;
}

/* Of JSON texts as components get them, references resolved. */
static bool same_json(const char *a, const char *b)
{
	struct jdoc *in_a = NULL, *in_b = NULL;
	struct diag ignored;

	diag_init(&ignored);
	bool same = jdoc_parse("", a, strlen(a), &ignored, &in_a) == 0 &&
		    jdoc_parse("", b, strlen(b), &ignored, &in_b) == 0 &&
		    difference_none(in_a->root, in_b->root);
	jdoc_free(in_a);
	jdoc_free(in_b);
	diag_done(&ignored);
	return same;
}

static const void *member(const struct config_component *c, const struct ss_option *o)
{
	return (const char *)c->conf + o->offset;
}

static bool same_option(const struct config_component *a, const struct config_component *b,
			const struct ss_option *o)
{
	if (o->type != SS_OPT_STRING && o->type != SS_OPT_JSON)
		return memcmp(member(a, o), member(b, o), sizeof(int64_t)) == 0;
	const char *text_a = *(const char *const *)member(a, o), *text_b = *(const char *const *)member(b, o);
	if (!text_a || !text_b)
		return text_a == text_b;
	return strcmp(text_a, text_b) == 0 || (o->type == SS_OPT_JSON && same_json(text_a, text_b));
}

const struct ss_option *difference_next(const struct config_component *a, const struct config_component *b,
					const struct ss_option *after)
{
	for (uint32_t i = 0; i < a->desc->n_options; i++) {
		const struct ss_option *o =
			(const struct ss_option *)(const void *)((const char *)a->desc->options +
								 (size_t)i * a->desc->option_size);
		if ((!after || o > after) && !same_option(a, b, o))
			return o;
	}
	return NULL;
}
