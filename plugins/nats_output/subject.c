/* SPDX-License-Identifier: MIT */
#include "plugins/nats_output/subject.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include <semstreams/sugar.h>

static const struct {
	const char *name;
	int attribute;
	uint32_t verified; /* flag; 0: there is nothing to verify */
} known[] = {
	{"peer", SS_ATTR_PEER, SS_ATTR_PEER_VERIFIED},
	{"origin", SS_ATTR_ORIGIN, SS_ATTR_ORIGIN_VERIFIED},
	{"input", SS_ATTR_INPUT, 0},
	{"address", SS_ATTR_ADDRESS, 0},
};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- templates ---- */

const char *subject_fault(const char *text)
{
	if (!*text)
		return "is empty";
	if (*text == '.' || text[strlen(text) - 1] == '.' || strstr(text, ".."))
		return "has an empty part";
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f || *p == '*' || *p == '>')
			return "has a blank, '*' or '>', which nothing can be published to";
	if (*text == '$')
		return "begins with '$', which is the server's own";
	return strlen(text) >= SUBJECT_MAX ? "is too long" : NULL;
}

/* What stands between braces; false: it is unknown. */
static bool read_name(struct subject_part *part, const char *name, size_t len, const char **paths,
		      uint32_t *n)
{
	if (*name == '/') {
		part->attribute = -1;
		part->field = *n;
		paths[(*n)++] = strndup(name, len);
		return true;
	}
	for (int i = 0; i < KNOWN; i++)
		if (strlen(known[i].name) == len && strncmp(known[i].name, name, len) == 0) {
			part->attribute = known[i].attribute;
			return true;
		}
	return false;
}

/* With {component} put in, as it is the same for all events. */
static char *put_id(const char *text, const char *id)
{
	static const char field[] = "{component}";
	char *out = calloc(1, strlen(text) * (strlen(id) + 1) + 1), *to = out;

	while (out && *text)
		if (strncmp(text, field, sizeof field - 1) == 0) {
			to = stpcpy(to, id);
			text += sizeof field - 1;
		} else {
			*to++ = *text++;
		}
	return out;
}

static int take_apart(struct subject *s, const struct ss_host *host, const char *pointer, const char *text,
		      const char **paths)
{
	for (;; text = strchr(text, '}') + 1) {
		const size_t literal = strcspn(text, "{}"),
			     len = text[literal] ? strcspn(text + literal, "}") : 0;
		struct subject_part *part = &s->parts[s->n];
		if (s->n == SUBJECT_PARTS)
			return ss_config_error(host, pointer, "has more than %d {...}", SUBJECT_PARTS - 1);
		part->literal = strndup(text, literal);
		part->attribute = -2;
		s->n++;
		if (!part->literal)
			return -ENOMEM;
		if (!text[literal])
			return 0;
		if (text[literal] == '}' || !text[literal + len])
			return ss_config_error(host, pointer, "has a brace without the other one");
		if (!read_name(part, text + literal + 1, len - 1, paths, &s->n_fields))
			return ss_config_error(host, pointer,
					       "%.*s is unknown; use {component}, {peer}, {origin}, {input}, "
					       "{address}, or a field of the payload by its JSON pointer, as "
					       "{/sensor/id}",
					       len < 40 ? (int)len + 1 : 40, text + literal);
		s->by_attributes |= part->attribute >= 0;
	}
}

/* As it is with a value in each field. */
static const char *example_fault(const struct subject *s)
{
	static char const any[] = "x";
	char text[SUBJECT_MAX + SUBJECT_PARTS] = "";
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		n += strlen(s->parts[i].literal) + 1;
		if (n >= SUBJECT_MAX)
			return "is too long";
		strcat(text, s->parts[i].literal);
		if (s->parts[i].attribute != -2)
			strcat(text, any);
	}
	return subject_fault(text);
}

static int compile(struct subject *s, const struct ss_host *host, const char *pointer,
		   const char *const *paths)
{
	uint32_t bad = 0;

	if (!s->n_fields)
		return 0;
	int rc = host->query(host, SS_FIELDS, sizeof(struct ss_fields), &s->fields);
	const struct ss_fields *fields = s->fields.vtbl;
	if (rc == 0)
		rc = fields->compile(s->fields.self, paths, s->n_fields, &s->reader, &bad);
	if (rc == -EINVAL)
		return ss_config_error(host, pointer, "{%s} is no JSON pointer", paths[bad]);
	return rc;
}

int subject_parse(struct subject *s, const struct ss_host *host, const char *pointer, const char *text)
{
	const char *paths[SUBJECT_PARTS] = {NULL};
	char *whole = put_id(text, host->id);
	int rc = whole ? take_apart(s, host, pointer, whole, paths) : -ENOMEM;
	const char *fault = rc == 0 ? example_fault(s) : NULL;

	if (fault)
		rc = ss_config_error(host, pointer, "%s", fault);
	for (uint32_t i = 0; i < s->n_fields; i++)
		if (!paths[i])
			rc = -ENOMEM;
	if (rc == 0)
		rc = compile(s, host, pointer, paths);
	for (uint32_t i = 0; i < s->n_fields; i++)
		free((char *)(uintptr_t)paths[i]);
	free(whole);
	return rc;
}

void subject_done(struct subject *s)
{
	const struct ss_fields *fields = s->fields.vtbl;

	for (size_t i = 0; i < s->n; i++)
		free(s->parts[i].literal);
	if (s->reader)
		fields->free(s->fields.self, s->reader);
	free(s->scratch.bytes);
	*s = (struct subject){0};
}

/* ---- values ---- */

struct writer {
	char *out;
	size_t n;
	bool full;
};

static void put(struct writer *w, const char *text, size_t len)
{
	if (w->full || w->n + len >= SUBJECT_MAX) {
		w->full = true;
		return;
	}
	memcpy(w->out + w->n, text, len);
	w->n += len;
}

static bool stays(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("_-@:+=,", c));
}

static void put_value(struct writer *w, const char *text, size_t len)
{
	const size_t end = w->n + SUBJECT_VALUE_MAX;
	char code[4];

	for (size_t i = 0; i < len && !w->full; i++) {
		if (stays(text[i])) {
			put(w, &text[i], 1);
		} else {
			snprintf(code, sizeof code, "%%%02X", (unsigned char)text[i]);
			put(w, code, 3);
		}
		w->full |= w->n > end;
	}
}

static void put_attribute(struct writer *w, const struct ss_attributes *set, int attribute)
{
	static const char said[] = "unverified:", mark[] = "%unverified:";
	const struct ss_attribute a = ss_attribute_get(set, (uint32_t)attribute);
	const char *text = a.text;
	size_t len = a.len;
	uint32_t verified = 0;

	for (int i = 0; i < KNOWN; i++)
		if (known[i].attribute == attribute)
			verified = known[i].verified;
	if (!len) {
		put(w, "%none", 5);
		return;
	}
	if (verified && !(set->flags & verified)) {
		put(w, mark, sizeof mark - 1);
		if (len > sizeof said - 1 && memcmp(text, said, sizeof said - 1) == 0) {
			text += sizeof said - 1;
			len -= sizeof said - 1;
		}
	}
	put_value(w, text, len);
}

/* False: the payload has no such value. */
static bool put_field(struct subject *s, struct writer *w, const struct ss_field *field)
{
	const char *text = field->text;
	size_t len = field->len;

	if (field->type == SS_JSON_STRING &&
	    ss_scratch_text(&s->scratch, &s->fields, field, &text, &len) != 0)
		return false;
	if (field->type < SS_JSON_FALSE || field->type > SS_JSON_STRING || len == 0)
		return false;
	put_value(w, text, len);
	return true;
}

const char *subject_write(struct subject *s, const struct ss_batch *batch, const struct ss_event *event,
			  char out[SUBJECT_MAX])
{
	const struct ss_fields *fields = s->fields.vtbl;
	const struct ss_attributes *set = s->by_attributes ? ss_attributes_of(batch, event) : NULL;
	struct ss_field found[SUBJECT_PARTS];
	struct writer w = {.out = out};

	if (s->reader && fields->read(s->fields.self, s->reader, event->data, event->len, found, NULL) != 0)
		return "not_json";
	for (size_t i = 0; i < s->n; i++) {
		const struct subject_part *part = &s->parts[i];
		put(&w, part->literal, strlen(part->literal));
		if (part->attribute >= 0)
			put_attribute(&w, set, part->attribute);
		else if (part->attribute == -1 && !put_field(s, &w, &found[part->field]))
			return "no_field";
	}
	out[w.full ? 0 : w.n] = '\0';
	return w.full ? "subject_too_long" : NULL;
}

bool subject_matches(const char *pattern, const char *subject)
{
	for (;;) {
		const size_t p = strcspn(pattern, "."), s = strcspn(subject, ".");
		if (p == 1 && *pattern == '>')
			return *subject != '\0';
		if (!(p == 1 && *pattern == '*' && s > 0) && (p != s || memcmp(pattern, subject, p) != 0))
			return false;
		if (!pattern[p] || !subject[s])
			return !pattern[p] && !subject[s];
		pattern += p + 1;
		subject += s + 1;
	}
}
