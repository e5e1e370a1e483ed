/* SPDX-License-Identifier: MIT */
#include <semstreams/base/event_fault.h>
#include <semstreams/ext/attributes.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/base/utf8.h>

/* Bytes, of four characters each at most. */
#define SHOWN        32
#define SENDER_SHOWN 128

static const char *reason_of(const uint8_t *data, size_t len, size_t where)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *reason;
	} known[] = {
		{"\xef\xbb\xbf", 3, "a byte order mark (BOM)"},
		{"\xff\xfe", 2, "UTF-16, send UTF-8"},
		{"\xfe\xff", 2, "UTF-16, send UTF-8"},
		{"\x1f\x8b", 2, "compressed by gzip"},
		{"\x28\xb5\x2f\xfd", 4, "compressed by zstd"},
		{"", 1, "a NUL byte"},
		{"NaN", 3, "NaN is no JSON number"},
		{"nan", 3, "NaN is no JSON number"},
		{"Infinity", 8, "Infinity is no JSON number"},
		{"inf", 3, "Infinity is no JSON number"},
		{"'", 1, "strings need double quotes"},
		{"True", 4, "true is written in lower case"},
		{"False", 5, "false is written in lower case"},
		{"None", 4, "None is no JSON value, null is"},
		{"/", 1, "comments are not JSON"},
		{"#", 1, "comments are not JSON"},
	};
	const uint8_t *at = data + where;
	uint32_t code;

	if (len == 0)
		return "it is empty";
	if (where >= len)
		return "it ends too early";
	if (len > 1 && where <= 1 && data[where] == 0 && data[1 - where] != 0)
		return "UTF-16, send UTF-8";
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (len - where >= known[i].len && memcmp(at, known[i].bytes, known[i].len) == 0)
			return known[i].reason;
	if (ss_utf8_next((const char *)at, len - where, &code) == 0)
		return "not UTF-8";
	if (*at < 0x20)
		return "a control character";
	return "an unexpected character";
}

/* ` key="bytes"`, what is not plain ASCII as \xNN; dots where it is cut. */
static size_t put_bytes(char *to, const char *key, const void *data, size_t len, size_t most)
{
	const uint8_t *bytes = data;
	size_t n = (size_t)sprintf(to, " %s=\"", key);

	for (size_t i = 0; i < len && i < most; i++) {
		const uint8_t c = bytes[i];
		if (c == '"' || c == '\\')
			n += (size_t)sprintf(to + n, "\\%c", c);
		else
			n += (size_t)sprintf(to + n, c >= 0x20 && c < 0x7f ? "%c" : "\\x%02x", c);
	}
	return n + (size_t)sprintf(to + n, "%s\"", len > most ? "..." : "");
}

static size_t put_sender(char *to, const struct ss_batch *batch, const struct ss_event *e)
{
	const struct ss_attributes *set = batch ? ss_attributes_of(batch, e) : NULL;
	struct ss_attribute sender = ss_attribute_get(set, SS_ATTR_PEER);

	if (!sender.len)
		sender = ss_attribute_get(set, SS_ATTR_ADDRESS);
	return sender.len ? put_bytes(to, "sender", sender.text, sender.len, SENDER_SHOWN) : 0;
}

void ss_event_fault(const struct ss_batch *batch, const struct ss_event *e, int32_t error, size_t where,
		    char text[SS_EVENT_FAULT_SIZE])
{
	const uint8_t *data = e->data;
	const bool deep = error == -ELOOP;
	size_t n = put_sender(text, batch, e);

	if (deep || error == -EINVAL)
		n += (size_t)sprintf(text + n, " offset=%zu reason=\"%s\"", where,
				     deep ? "nested more than 64 levels deep"
					  : reason_of(data, e->len, where));
	n += put_bytes(text + n, "start", data, e->len, SHOWN);
	if ((deep || error == -EINVAL) && where >= SHOWN && where < e->len)
		put_bytes(text + n, "near", data + where - SHOWN / 4, e->len - where + SHOWN / 4, SHOWN);
}

void ss_event_fault_reason(const struct ss_event *e, int32_t error, size_t where, char *text, size_t size)
{
	text[0] = '\0';
	if (error == -ELOOP || error == -EINVAL)
		snprintf(text, size, "%s at byte %zu",
			 error == -ELOOP ? "nested more than 64 levels deep"
					 : reason_of(e->data, e->len, where),
			 where);
}

void ss_batch_source(const struct ss_host *host, const struct ss_batch *batch, char text[SS_EVENT_FAULT_SIZE])
{
	struct ss_position position;
	struct ss_iface attributes;
	const char *source = NULL;

	if (host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &attributes) == 0)
		((const struct ss_attribute_service *)attributes.vtbl)->want(attributes.self);
	text[0] = '\0';
	if (host->position(batch, &position, &source) == 0 && source)
		snprintf(text, SS_EVENT_FAULT_SIZE, " source=%s", source);
}
