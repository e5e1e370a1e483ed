/* SPDX-License-Identifier: MIT */
#include "envelope.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/attributes.h>

static void put_base64(struct ss_strbuf *to, const uint8_t *data, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		const size_t left = len - i;
		const uint32_t three = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
				       (left > 2 ? data[i + 2] : 0);
		ss_strbuf_char(to, digits[three >> 18]);
		ss_strbuf_char(to, digits[three >> 12 & 63]);
		ss_strbuf_char(to, left > 1 ? digits[three >> 6 & 63] : '=');
		ss_strbuf_char(to, left > 2 ? digits[three & 63] : '=');
	}
}

static void put_attributes(struct ss_strbuf *to, const struct ss_attributes *set)
{
	static const char *const names[SS_ATTR_COUNT] = {"peer",  "origin", "path",     "address",
							 "input", "error",  "component"};
	bool first = true;

	ss_strbuf_text(to, "\"attributes\":{");
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		if (!a.len)
			continue;
		ss_strbuf_printf(to, "%s\"%s\":", first ? "" : ",", names[i]);
		ss_strbuf_json(to, a.text, a.len);
		first = false;
	}
	ss_strbuf_text(to, "},");
}

static void put_event(struct ss_strbuf *to, const struct ss_batch *b, const struct ss_event *e)
{
	const time_t seconds = (time_t)(e->time_ns / 1000000000u);
	const unsigned ms = (unsigned)(e->time_ns / 1000000u % 1000u);
	const struct ss_attributes *set = ss_attributes_of(b, e);
	char when[32] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm))
		strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	ss_strbuf_printf(to, "{\"received\":\"%s.%03uZ\",", when, ms);
	if (set)
		put_attributes(to, set);
	if (ss_utf8_valid((const char *)e->data, e->len)) {
		ss_strbuf_text(to, "\"text\":");
		ss_strbuf_json(to, (const char *)e->data, e->len);
	} else {
		ss_strbuf_text(to, "\"base64\":\"");
		put_base64(to, e->data, e->len);
		ss_strbuf_char(to, '"');
	}
	ss_strbuf_char(to, '}');
}

struct envelopes *envelopes_new(const struct ss_batch *b)
{
	struct envelopes *es = calloc(1, sizeof *es + b->count * sizeof es->rows[0]);
	size_t at = 0;

	if (!es)
		return NULL;
	for (uint32_t i = 0; i < b->count; i++) {
		const size_t before = es->text.len;
		put_event(&es->text, b, &b->events[i]);
		es->rows[i] = b->events[i];
		es->rows[i].len = (uint32_t)(es->text.len - before);
	}
	if (es->text.failed) {
		envelopes_free(es);
		return NULL;
	}
	for (uint32_t i = 0; i < b->count; i++) { /* now that the text does not move any more */
		es->rows[i].data = (const uint8_t *)es->text.bytes + at;
		at += es->rows[i].len;
	}
	return es;
}

void envelopes_free(struct envelopes *es)
{
	if (!es)
		return;
	ss_strbuf_done(&es->text);
	free(es);
}
