/* SPDX-License-Identifier: MIT */
/* key - see key.h. */
#include "key.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <semstreams/base/value.h>
#include "groups.h"
#include "json.h"

/* DEL may be escaped, too: where it is not, it takes the way of those that are. */
static int add_string(struct plan *p, const struct ss_iface *fields, const struct ss_field *f,
		      struct ss_strbuf *key)
{
	const char *text;
	size_t len;

	if ((f->flags & SS_FIELD_ESCAPED) || memchr(f->text, 0x7f, f->len)) {
		int rc = ss_scratch_text(&p->functions.scratch, fields, f, &text, &len);
		if (rc < 0)
			return rc;
		ss_strbuf_json(key, text, len);
		return 0;
	}
	char *room = ss_strbuf_room(key, f->len + 2);
	if (!room)
		return -ENOMEM;
	room[0] = room[f->len + 1] = '"';
	memcpy(room + 1, f->text, f->len);
	key->len += f->len + 2;
	return 0;
}

static void add_number(const struct ss_iface *fields, const struct ss_field *f, struct ss_strbuf *key)
{
	struct ss_number n;

	if (f->flags & SS_FIELD_INTEGER) { /* there is one way to write it, but for -0 */
		bool zero = f->text[0] == '-' && f->text[1] == '0';
		ss_strbuf_add(key, f->text + zero, f->len - zero);
		return;
	}
	ss_number_read(fields, f, &n);
	if (isfinite(n.d))
		print_double(key, n.d);
	else
		ss_strbuf_add(key, f->text, f->len);
}

int key_build(struct plan *p, const struct ss_iface *fields, const struct ss_field *values,
	      struct ss_strbuf *key)
{
	ss_strbuf_clear(key);
	for (uint32_t i = 0; i < p->n_group_fields; i++) {
		const struct ss_field *f = &values[p->group_fields[i]];
		int rc = 0;
		if (f->len > 6 * KEY_MAX) /* however it is escaped */
			return -E2BIG;
		if (i)
			ss_strbuf_add(key, ",", 1);
		if (f->type == SS_JSON_STRING)
			rc = add_string(p, fields, f, key);
		else if (f->type == SS_JSON_NUMBER)
			add_number(fields, f, key);
		else if (f->type == SS_JSON_MISSING)
			ss_strbuf_add(key, "null", 4);
		else
			ss_strbuf_add(key, f->text, f->len);
		if (rc < 0)
			return rc;
	}
	if (key->failed)
		return -ENOMEM;
	return key->len <= KEY_MAX ? 0 : -E2BIG;
}

/* The length of the JSON value a key begins with, up to a comma outside of that value. */
static size_t value_length(const char *key, size_t len)
{
	bool quoted = false;
	unsigned depth = 0;
	size_t i;

	for (i = 0; i < len && (quoted || depth || key[i] != ','); i++) {
		if (quoted && key[i] == '\\')
			i++;
		else if (key[i] == '"')
			quoted = !quoted;
		else if (!quoted && (key[i] == '[' || key[i] == '{'))
			depth++;
		else if (!quoted && (key[i] == ']' || key[i] == '}'))
			depth--;
	}
	return i < len ? i : len;
}

void key_print(const struct plan *p, const char *key, size_t left, struct ss_strbuf *out)
{
	bool overflow = left == 1 && key[0] == OVERFLOW_KEY[0];

	for (uint32_t i = 0; i < p->n_group_fields; i++) {
		size_t len = i + 1 == p->n_group_fields ? left : value_length(key, left);
		ss_strbuf_text(out, p->group_labels[i]);
		if (overflow) {
			ss_strbuf_text(out, "null,");
			continue;
		}
		ss_strbuf_add(out, key, len);
		ss_strbuf_add(out, ",", 1);
		len += len < left; /* the comma */
		key += len;
		left -= len;
	}
	if (overflow)
		ss_strbuf_text(out, "\"overflow\":true,");
}
