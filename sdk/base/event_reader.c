/* SPDX-License-Identifier: MIT */
#include <semstreams/base/event_reader.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/sugar.h>

enum { TEXTS_MAX = 2 * ((SS_ATTR_COUNT - 1) * SS_ATTR_NAME_MAX + SS_ATTR_PATH_MAX), DIGITS = 20 };

/* ---- paths ---- */

static int report_unknown(const struct ss_host *host, const struct ss_path *path)
{
	return ss_config_error(
		host, path->pointer,
		"\"%.60s\" is no attribute; there are @peer, @origin, @path, @address, @input, "
		"@error, @component and @received (a field of that name is \"/%.60s\")",
		path->text, path->text);
}

static int want_attributes(const struct ss_host *host, const struct ss_path *path)
{
	struct ss_iface service;

	if (host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &service) < 0)
		return ss_config_error(host, path->pointer, "this host has no attributes of events");
	((const struct ss_attribute_service *)service.vtbl)->want(service.self);
	return 0;
}

/* Which paths are attributes; fields gets the others. */
static int sort_out(struct ss_event_reader *r, const struct ss_paths *paths, const struct ss_host *host,
		    struct ss_paths *fields)
{
	const struct ss_path *attribute = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < paths->n; i++) {
		const int32_t which = ss_attribute_index(paths->v[i].text);
		if (which == -2)
			rc = report_unknown(host, &paths->v[i]);
		if (which == -1)
			fields->v[fields->n++] = paths->v[i];
		else
			attribute = &paths->v[i];
		r->which[i] = (int8_t)which;
	}
	if (rc == 0 && attribute)
		rc = want_attributes(host, attribute);
	return rc;
}

int ss_event_reader_init(struct ss_event_reader *r, const struct ss_paths *paths, const struct ss_host *host,
			 const struct ss_iface *fields)
{
	struct ss_paths of_payload = {.v = calloc(paths->n + 1, sizeof(struct ss_path))};

	*r = (struct ss_event_reader){.fields = *fields, .n = paths->n, .which = malloc(paths->n + 1)};
	int rc = of_payload.v && r->which ? sort_out(r, paths, host, &of_payload) : -ENOMEM;
	r->n_payload = of_payload.n;
	if (rc != -ENOMEM) { /* also after an error, to tell all of them */
		const int compiled = ss_paths_compile(&of_payload, host, fields, &r->payload);
		rc = compiled < 0 ? compiled : rc;
	}
	if (r->n_payload == r->n) {
		free(r->which);
		r->which = NULL;
	} else if (rc == 0) {
		r->texts = malloc(TEXTS_MAX + DIGITS);
		rc = r->texts ? 0 : -ENOMEM;
	}
	free(of_payload.v);
	if (rc < 0)
		ss_event_reader_done(r);
	return rc;
}

void ss_event_reader_done(struct ss_event_reader *r)
{
	const struct ss_fields *vtbl = r->fields.vtbl;

	if (r->payload)
		vtbl->free(r->fields.self, r->payload);
	free(r->which);
	free(r->texts);
	*r = (struct ss_event_reader){0};
}

/* ---- one event ---- */

/* Digits of a number at the end of the room. */
static struct ss_field number(uint64_t value, char room[DIGITS])
{
	char *at = room + DIGITS;

	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	return (struct ss_field){.text = at,
				 .len = (uint32_t)(room + DIGITS - at),
				 .type = SS_JSON_NUMBER,
				 .flags = SS_FIELD_INTEGER};
}

/* In place, or written at *to with escapes. */
static struct ss_field string(const struct ss_attribute *a, char **to)
{
	struct ss_field f = {.text = a->text, .len = a->len, .type = SS_JSON_STRING};

	if (!memchr(a->text, '"', a->len) && !memchr(a->text, '\\', a->len))
		return f;
	f.text = *to;
	for (uint32_t i = 0; i < a->len; i++) {
		if (a->text[i] == '"' || a->text[i] == '\\')
			*(*to)++ = '\\';
		*(*to)++ = a->text[i];
	}
	f.len = (uint32_t)(*to - f.text);
	f.flags = SS_FIELD_ESCAPED;
	return f;
}

/* The values of the payload are the first ones of out: from the last one on, each goes to its place. */
static void spread(const struct ss_event_reader *r, const struct ss_attributes *set, uint64_t time_ns,
		   struct ss_field *out)
{
	const struct ss_field missing = {.type = SS_JSON_MISSING};
	uint32_t from = r->n_payload;
	char *at = r->texts;

	for (uint32_t i = r->n; i-- > 0;) {
		const int8_t which = r->which[i];
		if (which < 0) {
			out[i] = out[--from];
		} else if (which == SS_ATTR_RECEIVED) {
			out[i] = number(time_ns / 1000000, r->texts + TEXTS_MAX);
		} else {
			const struct ss_attribute a = ss_attribute_get(set, (uint32_t)which);
			out[i] = a.text ? string(&a, &at) : missing;
		}
	}
}

int32_t ss_event_read(struct ss_event_reader *r, const struct ss_batch *batch, const struct ss_event *e,
		      struct ss_field *out, size_t *where)
{
	const struct ss_fields *vtbl = r->fields.vtbl;
	int32_t rc = 0;

	if (r->payload)
		rc = vtbl->read(r->fields.self, r->payload, e->data, e->len, out, where);
	if (rc == 0 && r->which)
		spread(r, ss_attributes_of(batch, e), e->time_ns, out);
	return rc;
}
