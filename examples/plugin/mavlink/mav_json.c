/* SPDX-License-Identifier: MIT */
#include "mav_json.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/utf8.h>

/* The NaN that is written without its bits. */
#define NAN_FLOAT  UINT64_C(0x7fc00000)
#define NAN_DOUBLE UINT64_C(0x7ff8000000000000)

static bool is_signed(uint8_t type)
{
	return type == MAV_INT8 || type == MAV_INT16 || type == MAV_INT32 || type == MAV_INT64;
}

static bool is_real(uint8_t type)
{
	return type == MAV_FLOAT || type == MAV_DOUBLE;
}

/* ---- writing ---- */

static uint64_t get_bits(const uint8_t *p, uint8_t size)
{
	uint64_t bits = 0;

	while (size-- > 0)
		bits = bits << 8 | p[size];
	return bits;
}

static double real_of(uint64_t bits, uint8_t size)
{
	uint32_t half = (uint32_t)bits;
	float single;
	double value;

	if (size == sizeof single) {
		memcpy(&single, &half, sizeof single);
		return (double)single;
	}
	memcpy(&value, &bits, sizeof value);
	return value;
}

/* The shortest decimal number that is read back as the same bits. */
static void put_real(struct ss_strbuf *b, uint64_t bits, uint8_t size)
{
	bool single = size == sizeof(float);
	double value = real_of(bits, size);
	char text[40];

	if (isnan(value)) {
		if (bits == (single ? NAN_FLOAT : NAN_DOUBLE))
			ss_strbuf_text(b, "\"NaN\"");
		else
			ss_strbuf_printf(b, "\"NaN:%0*llx\"", 2 * size, (unsigned long long)bits);
		return;
	}
	if (isinf(value)) {
		ss_strbuf_text(b, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
		return;
	}
	for (int digits = single ? 6 : 15;; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		if (digits == (single ? 9 : 17) ||
		    (single ? (double)strtof(text, NULL) : strtod(text, NULL)) == value)
			break;
	}
	char *comma = strchr(text, ','); /* of a locale */
	if (comma)
		*comma = '.';
	ss_strbuf_text(b, text);
}

static void put_element(struct ss_strbuf *b, const struct mav_field *f, const uint8_t *at)
{
	uint64_t bits = get_bits(at, f->size);
	unsigned shift = 64 - 8U * f->size;

	if (is_real(f->type))
		put_real(b, bits, f->size);
	else if (is_signed(f->type))
		ss_strbuf_int(b, (int64_t)(bits << shift) >> shift);
	else
		ss_strbuf_printf(b, "%llu", (unsigned long long)bits);
}

/* The length of a text that comes back as the same bytes; -1: there is none. */
static int text_len(const uint8_t *at, uint8_t count)
{
	const char *text = (const char *)at;
	int len = (int)strnlen(text, count);
	uint32_t code;

	for (int i = len; i < count; i++)
		if (at[i] != 0)
			return -1;
	for (int i = 0; i < len;) {
		int n = (int)ss_utf8_next(text + i, (size_t)(len - i), &code);
		if (n <= 0)
			return -1;
		i += n;
	}
	return len;
}

static void put_field(struct ss_strbuf *b, const struct mav_field *f, const uint8_t *at)
{
	int len = f->type == MAV_CHAR && f->count ? text_len(at, f->count) : -1;

	ss_strbuf_printf(b, "\"%s\":", f->name);
	if (len >= 0) {
		ss_strbuf_json(b, (const char *)at, (size_t)len);
		return;
	}
	if (!f->count) {
		put_element(b, f, at);
		return;
	}
	for (uint8_t i = 0; i < f->count; i++) {
		ss_strbuf_char(b, i ? ',' : '[');
		put_element(b, f, at + (size_t)i * f->size);
	}
	ss_strbuf_char(b, ']');
}

static void put_hex(struct ss_strbuf *b, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ss_strbuf_printf(b, "%02x", bytes[i]);
}

static void put_fields(struct ss_strbuf *b, const struct mav_frame *f, const uint8_t *payload)
{
	/* version 1 has no extensions */
	size_t end = f->version == 1 && f->payload_len < f->message->maximum ? f->payload_len
									     : f->message->maximum;
	const char *before = "";

	ss_strbuf_text(b, ",\"fields\":{");
	for (uint8_t i = 0; i < f->message->n_fields; i++) {
		const struct mav_field *field = &f->message->fields[i];
		if (field->offset >= end)
			continue;
		ss_strbuf_text(b, before);
		put_field(b, field, payload + field->offset);
		before = ",";
	}
	ss_strbuf_char(b, '}');
}

void mav_json_write(struct ss_strbuf *b, const struct mav_frame *f, bool verified)
{
	const struct mav_message *m = f->message;
	uint8_t payload[255] = {0};

	memcpy(payload, f->payload, f->payload_len);
	ss_strbuf_printf(b,
			 "{\"sysid\":%u,\"compid\":%u,\"msgid\":%u,\"name\":\"%s\",\"seq\":%u,\"version\":%u",
			 f->sysid, f->compid, m->id, m->name, f->seq, f->version);
	put_fields(b, f, payload);
	if (f->payload_len > m->maximum) {
		ss_strbuf_text(b, ",\"extra\":\"");
		put_hex(b, payload + m->maximum, (size_t)f->payload_len - m->maximum);
		ss_strbuf_char(b, '"');
	} else if (f->payload_len != mav_frame_payload_len(m, f->version, payload)) {
		ss_strbuf_printf(b, ",\"len\":%u", f->payload_len);
	}
	if (f->compat_flags)
		ss_strbuf_printf(b, ",\"compat_flags\":%u", f->compat_flags);
	if (f->signature) {
		ss_strbuf_printf(b, ",\"signature\":{\"link\":%u,\"timestamp\":%llu,\"value\":\"",
				 f->signature[0], (unsigned long long)get_bits(f->signature + 1, 6));
		put_hex(b, f->signature + 7, 6);
		ss_strbuf_printf(b, "\",\"verified\":%s}", verified ? "true" : "false");
	}
	ss_strbuf_char(b, '}');
}

/* ---- reading: what is looked up ---- */

enum {
	HEAD_SYSID,
	HEAD_COMPID,
	HEAD_MSGID,
	HEAD_NAME,
	HEAD_SEQ,
	HEAD_VERSION,
	HEAD_EXTRA,
	HEAD_LEN,
	HEAD_COMPAT,
	HEAD_SIGNATURE,
	HEAD_LINK,
	HEAD_TIMESTAMP,
	HEAD_VALUE,
	HEAD_PATHS
};
static const char *const head_paths[HEAD_PATHS] = {"/sysid",
						   "/compid",
						   "/msgid",
						   "/name",
						   "/seq",
						   "/version",
						   "/extra",
						   "/len",
						   "/compat_flags",
						   "/signature",
						   "/signature/link",
						   "/signature/timestamp",
						   "/signature/value"};

static const struct ss_fields *service(const struct mav_json *j)
{
	return j->fields.vtbl;
}

/* Paths of a field: itself, and of an array also its elements and one that must not be there. */
static size_t paths_of(const struct mav_field *f)
{
	return f->count ? (size_t)f->count + 2 : 1;
}

int mav_json_init(struct mav_json *j, const struct ss_iface *fields)
{
	uint32_t bad;

	j->fields = *fields;
	j->bodies = calloc(mav_dialect.n, sizeof *j->bodies);
	j->room = HEAD_PATHS;
	j->found = calloc(j->room, sizeof *j->found);
	if (!j->bodies || !j->found)
		return -ENOMEM;
	return service(j)->compile(j->fields.self, head_paths, HEAD_PATHS, &j->head, &bad) < 0 ? -ENOMEM : 0;
}

int mav_json_allow(struct mav_json *j, const struct mav_message *m)
{
	enum { PATH_SIZE = 96 };
	struct ss_reader **body = &j->bodies[m - mav_dialect.messages];
	size_t n = 0, at = 0;
	uint32_t bad;
	int rc = -ENOMEM;

	if (*body)
		return 0;
	for (uint8_t i = 0; i < m->n_fields; i++)
		n += paths_of(&m->fields[i]);
	char *texts = calloc(n, PATH_SIZE);
	const char **paths = calloc(n, sizeof *paths);
	struct ss_field *found = n > j->room ? reallocarray(j->found, n, sizeof *found) : j->found;
	if (found) {
		j->found = found;
		j->room = n > j->room ? n : j->room;
	}
	if (!texts || !paths || !found)
		goto out;
	for (uint8_t i = 0; i < m->n_fields; i++) {
		const struct mav_field *f = &m->fields[i];
		for (size_t p = 0; p < paths_of(f); p++, at++) {
			char *text = texts + at * PATH_SIZE;
			if (p == 0)
				snprintf(text, PATH_SIZE, "/fields/%s", f->name);
			else
				snprintf(text, PATH_SIZE, "/fields/%s/%zu", f->name, p - 1);
			paths[at] = text;
		}
	}
	rc = service(j)->compile(j->fields.self, paths, (uint32_t)n, body, &bad) < 0 ? -ENOMEM : 0;
out:
	free(paths);
	free(texts);
	return rc;
}

void mav_json_done(struct mav_json *j)
{
	if (j->fields.vtbl) {
		service(j)->free(j->fields.self, j->head);
		for (size_t i = 0; j->bodies && i < mav_dialect.n; i++)
			service(j)->free(j->fields.self, j->bodies[i]);
	}
	free(j->bodies);
	free(j->found);
	*j = (struct mav_json){0};
}

/* ---- reading: values ---- */

/* An integer of so many bytes, as its bits. */
static bool get_integer(const struct ss_field *v, uint8_t size, bool with_sign, uint64_t *bits)
{
	uint64_t most = UINT64_MAX >> (64 - 8U * size);
	uint64_t value = 0;
	uint32_t i = 0;
	bool minus;

	if (v->type != SS_JSON_NUMBER || !(v->flags & SS_FIELD_INTEGER))
		return false;
	minus = v->text[0] == '-';
	for (i = minus; i < v->len; i++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(v->text[i] - '0'), &value))
			return false;
	if (with_sign)
		most = (most >> 1) + minus;
	if (value > most || (minus && !with_sign && value))
		return false;
	*bits = minus ? -value : value;
	return true;
}

static bool is_text(const struct ss_field *v, const char *text)
{
	return v->type == SS_JSON_STRING && v->len == strlen(text) && memcmp(v->text, text, v->len) == 0;
}

static bool get_hex(const char *text, size_t len, uint8_t *out)
{
	for (size_t i = 0; i < 2 * len; i++) {
		char c = text[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (digit < 0)
			return false;
		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | digit : digit << 4);
	}
	return true;
}

static bool get_nan(const struct ss_field *v, uint8_t size, uint64_t *bits)
{
	uint8_t bytes[8];

	if (v->type != SS_JSON_STRING || v->len != 4 + 2U * size || memcmp(v->text, "NaN:", 4) != 0 ||
	    !get_hex(v->text + 4, size, bytes))
		return false;
	*bits = 0;
	for (uint8_t i = 0; i < size; i++)
		*bits = *bits << 8 | bytes[i];
	return isnan(real_of(*bits, size));
}

static bool get_real(const struct mav_json *j, const struct ss_field *v, uint8_t size, uint64_t *bits)
{
	double value;

	if (is_text(v, "NaN")) {
		*bits = size == sizeof(float) ? NAN_FLOAT : NAN_DOUBLE;
		return true;
	}
	if (get_nan(v, size, bits))
		return true;
	if (is_text(v, "Infinity"))
		value = (double)INFINITY;
	else if (is_text(v, "-Infinity"))
		value = -(double)INFINITY;
	else if (v->type != SS_JSON_NUMBER || service(j)->number(j->fields.self, v, &value) < 0 ||
		 (size == sizeof(float) && !isfinite((float)value)))
		return false;
	if (size == sizeof(float)) {
		float single = (float)value;
		uint32_t half;
		memcpy(&half, &single, sizeof half);
		*bits = half;
	} else {
		memcpy(bits, &value, sizeof *bits);
	}
	return true;
}

static bool read_element(const struct mav_json *j, const struct mav_field *f, const struct ss_field *v,
			 uint8_t *to)
{
	uint64_t bits;

	if (is_real(f->type) ? !get_real(j, v, f->size, &bits)
			     : !get_integer(v, f->size, is_signed(f->type), &bits))
		return false;
	for (uint8_t i = 0; i < f->size; i++, bits >>= 8)
		to[i] = (uint8_t)bits;
	return true;
}

/* v: what the paths of the field have found. */
static bool read_field(const struct mav_json *j, const struct mav_message *m, const struct mav_field *f,
		       const struct ss_field *v, uint8_t *to)
{
	if (v->type == SS_JSON_MISSING)
		return f->offset >= m->minimum; /* an extension; without it, it is 0 */
	if (!f->count)
		return read_element(j, f, v, to);
	if (v->type == SS_JSON_STRING && f->type == MAV_CHAR) {
		char text[255];
		int64_t len = service(j)->unescape(j->fields.self, v, text, sizeof text);
		if (len < 0 || len > f->count || memchr(text, 0, (size_t)len))
			return false;
		memcpy(to, text, (size_t)len);
		return true;
	}
	if (v->type != SS_JSON_ARRAY || v[f->count + 1].type != SS_JSON_MISSING)
		return false;
	for (uint8_t i = 0; i < f->count; i++)
		if (!read_element(j, f, &v[i + 1], to + (size_t)i * f->size))
			return false;
	return true;
}

/* ---- reading: the frame ---- */

static bool get_byte(const struct ss_field *v, bool needed, uint8_t otherwise, uint8_t *out)
{
	uint64_t bits;

	*out = otherwise;
	if (v->type == SS_JSON_MISSING)
		return !needed;
	if (!get_integer(v, 1, false, &bits))
		return false;
	*out = (uint8_t)bits;
	return true;
}

static enum mav_fault find_message(const struct mav_json *j, const struct mav_message **out)
{
	const struct ss_field *id = &j->found[HEAD_MSGID], *name = &j->found[HEAD_NAME];
	const struct mav_message *m = NULL;
	uint64_t bits;

	if (name->type == SS_JSON_STRING)
		m = mav_message_by_name(name->text, name->len);
	else if (name->type != SS_JSON_MISSING)
		return MAV_BAD_FIELD;
	if (id->type != SS_JSON_MISSING) {
		if (!get_integer(id, 4, false, &bits))
			return MAV_BAD_FIELD;
		const struct mav_message *by_id = mav_message_by_id((uint32_t)bits);
		if (name->type != SS_JSON_MISSING && m != by_id)
			return MAV_BAD_FIELD; /* they are two messages */
		m = by_id;
	}
	if (!m)
		return MAV_UNKNOWN_MESSAGE;
	*out = m;
	return j->bodies[m - mav_dialect.messages] ? MAV_FINE : MAV_NOT_ALLOWED;
}

static bool read_signature(const struct ss_field *head, struct mav_parsed *p)
{
	const struct ss_field *value = &head[HEAD_VALUE];
	uint64_t timestamp;

	if (head[HEAD_SIGNATURE].type == SS_JSON_MISSING)
		return true;
	if (p->frame.version != 2 || !get_byte(&head[HEAD_LINK], true, 0, &p->signature[0]) ||
	    !get_integer(&head[HEAD_TIMESTAMP], 6, false, &timestamp) || value->type != SS_JSON_STRING ||
	    value->len != 12 || !get_hex(value->text, 6, p->signature + 7))
		return false;
	for (int i = 1; i < 7; i++, timestamp >>= 8)
		p->signature[i] = (uint8_t)timestamp;
	p->frame.signature = p->signature;
	return true;
}

static bool read_head(const struct ss_field *head, struct mav_parsed *p)
{
	struct mav_frame *f = &p->frame;

	p->has_seq = head[HEAD_SEQ].type != SS_JSON_MISSING;
	return get_byte(&head[HEAD_SYSID], true, 0, &f->sysid) &&
	       get_byte(&head[HEAD_COMPID], true, 0, &f->compid) &&
	       get_byte(&head[HEAD_SEQ], false, 0, &f->seq) &&
	       get_byte(&head[HEAD_VERSION], false, 2, &f->version) && (f->version == 1 || f->version == 2) &&
	       get_byte(&head[HEAD_COMPAT], false, 0, &f->compat_flags) &&
	       (f->version == 2 || (!f->compat_flags && f->message->id <= 255)) && read_signature(head, p);
}

/* The length that the frame had, or is to have. */
static bool read_len(const struct mav_message *m, const struct ss_field *len, const struct ss_field *extra,
		     struct mav_parsed *p)
{
	struct mav_frame *f = &p->frame;
	uint8_t least = mav_frame_payload_len(m, f->version, p->payload);

	if (extra->type != SS_JSON_MISSING) {
		size_t n = extra->len / 2;
		if (extra->type != SS_JSON_STRING || extra->len % 2 || n + m->maximum > sizeof p->payload ||
		    !get_hex(extra->text, n, p->payload + m->maximum))
			return false;
		f->payload_len = (uint8_t)(m->maximum + n);
		return true;
	}
	if (!get_byte(len, false, least, &f->payload_len) || f->payload_len > m->maximum ||
	    (f->version == 1 && f->payload_len < least))
		return false;
	for (size_t i = f->payload_len; i < m->maximum; i++)
		if (p->payload[i] != 0)
			return false; /* it would be lost */
	return true;
}

enum mav_fault mav_json_read(struct mav_json *j, const void *text, size_t len, struct mav_parsed *p)
{
	const struct mav_message *m;

	*p = (struct mav_parsed){0};
	if (service(j)->read(j->fields.self, j->head, text, len, j->found, NULL) < 0)
		return MAV_NOT_JSON;
	enum mav_fault fault = find_message(j, &m);
	if (fault != MAV_FINE)
		return fault;
	p->frame.message = m;
	p->frame.payload = p->payload;
	if (!read_head(j->found, p))
		return MAV_BAD_FIELD;
	/* the next document that is read takes their places */
	struct ss_field how_long = j->found[HEAD_LEN], extra = j->found[HEAD_EXTRA];
	if (service(j)->read(j->fields.self, j->bodies[m - mav_dialect.messages], text, len, j->found, NULL) <
	    0)
		return MAV_NOT_JSON;
	const struct ss_field *v = j->found;
	for (uint8_t i = 0; i < m->n_fields; v += paths_of(&m->fields[i]), i++)
		if (!read_field(j, m, &m->fields[i], v, p->payload + m->fields[i].offset))
			return MAV_BAD_FIELD;
	return read_len(m, &how_long, &extra, p) ? MAV_FINE : MAV_BAD_FIELD;
}
