/* SPDX-License-Identifier: MIT */
/*
 * link_proto - see the header: one table says for every member of every control message what it is, and
 * drives both reading and writing; data messages follow.  Any thread.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/fields.h>
#include "link_proto.h"

enum member_kind { NUMBER, NAME, TEXT, EPOCH };
struct member {
	uint32_t types; /* bits of enum link_type */
	enum member_kind kind;
	bool required;
	const char *pointer;
	size_t offset;
	uint64_t min, max;
	const char *why;
};
enum {
	HELLO = 1 << LINK_HELLO,
	WELCOME = 1 << LINK_WELCOME,
	ACK = 1 << LINK_ACK,
	LOST = 1 << LINK_LOST,
	NACK = 1 << LINK_NACK,
	HB = 1 << LINK_HB,
	BYE = 1 << LINK_BYE
};

static const char *const type_names[] = {
	[LINK_HELLO] = "hello", [LINK_WELCOME] = "welcome", [LINK_ACK] = "ack", [LINK_LOST] = "lost",
	[LINK_NACK] = "nack",   [LINK_HB] = "hb",           [LINK_BYE] = "bye",
};

#define AT(m)         offsetof(struct link_control, m)
#define WHOLE(n, lo)  "\"" n "\" must be a whole number from " lo " to 2^53-1"
#define SIZE(n)       "\"" n "\" must be a whole number from 1 to 2^31-1"
#define SHORT_TEXT(n) "\"" n "\" must be a string of at most 127 bytes without control characters"
#define HEX(n)        "\"" n "\" must be a string of 32 hexadecimal digits"
static const struct member members[] = {
	{HELLO, NAME, false, "/stream", AT(stream), 0, 0, SHORT_TEXT("stream")},
	{HELLO, NAME, false, "/consumer", AT(consumer), 0, 0, SHORT_TEXT("consumer")},
	{HELLO, NUMBER, false, "/attributes", AT(attributes), 0, LINK_SEQ_MAX, WHOLE("attributes", "0")},
	{HELLO | WELCOME, EPOCH, true, "/resume/epoch", AT(resume.epoch), 0, 0, HEX("resume.epoch")},
	{HELLO | WELCOME, NUMBER, true, "/resume/seq", AT(resume.seq), 0, LINK_SEQ_MAX,
	 WHOLE("resume.seq", "0")},
	{HELLO, NUMBER, false, "/received", AT(received), 0, LINK_SEQ_MAX, WHOLE("received", "0")},
	{WELCOME, EPOCH, true, "/epoch", AT(epoch), 0, 0, HEX("epoch")},
	{WELCOME, NUMBER, true, "/first", AT(first), 1, LINK_SEQ_MAX, WHOLE("first", "1")},
	{WELCOME, NUMBER, true, "/next", AT(next), 1, LINK_SEQ_MAX, WHOLE("next", "1")},
	{HB, NUMBER, false, "/next", AT(next), 0, LINK_SEQ_MAX, WHOLE("next", "0")},
	{ACK, NUMBER, true, "/seq", AT(seq), 0, LINK_SEQ_MAX, WHOLE("seq", "0")},
	{NACK, NUMBER, true, "/seq", AT(seq), 1, LINK_SEQ_MAX, WHOLE("seq", "1")},
	{HB, NUMBER, false, "/seq", AT(seq), 0, LINK_SEQ_MAX, WHOLE("seq", "0")},
	{ACK, NUMBER, true, "/bytes", AT(bytes), 0, LINK_SEQ_MAX, WHOLE("bytes", "0")},
	{HELLO, NUMBER, true, "/window/records", AT(window.records), 1, LINK_SEQ_MAX,
	 WHOLE("window.records", "1")},
	{HELLO, NUMBER, true, "/window/bytes", AT(window.bytes), 1, LINK_SEQ_MAX, WHOLE("window.bytes", "1")},
	{ACK, NUMBER, true, "/window/records", AT(window.records), 0, LINK_SEQ_MAX,
	 WHOLE("window.records", "0")},
	{ACK, NUMBER, true, "/window/bytes", AT(window.bytes), 0, LINK_SEQ_MAX, WHOLE("window.bytes", "0")},
	{HELLO | WELCOME, NUMBER, true, "/max_frame", AT(max_frame), 1, LINK_SIZE_MAX, SIZE("max_frame")},
	{HELLO | WELCOME, NUMBER, true, "/max_record", AT(max_record), 1, LINK_SIZE_MAX, SIZE("max_record")},
	{LOST, NUMBER, true, "/from", AT(from), 1, LINK_SEQ_MAX, WHOLE("from", "1")},
	{LOST, NUMBER, true, "/to", AT(to), 1, LINK_SEQ_MAX, WHOLE("to", "1")},
	{WELCOME, NUMBER, true, "/hb_ms", AT(heartbeat_ms), 100, 3600000,
	 "\"hb_ms\" must be a whole number from 100 to 3600000"},
	{BYE, NUMBER, false, "/retry_ms", AT(retry_ms), 0, 86400000,
	 "\"retry_ms\" must be a whole number from 0 to 86400000"},
	{LOST | BYE, TEXT, false, "/reason", AT(reason), 0, 0, "\"reason\" must be a string"},
	{NACK, TEXT, false, "/code", AT(reason), 0, 0, "\"code\" must be a string"},
	{HELLO | WELCOME | HB, NUMBER, false, "/time", AT(time_ms), 0, LINK_SEQ_MAX, WHOLE("time", "0")},
};
enum { MEMBERS = sizeof members / sizeof members[0], TYPE = MEMBERS, VERSION, RESUME, PATHS };

int link_control_reader(const struct ss_fields *fields, void *self, struct ss_reader **out)
{
	const char *paths[PATHS];
	for (unsigned i = 0; i < MEMBERS; i++)
		paths[i] = members[i].pointer;
	paths[TYPE] = "/t";
	paths[VERSION] = "/v";
	paths[RESUME] = "/resume";
	uint32_t bad;
	return fields->compile(self, paths, PATHS, out, &bad);
}

/* ---- reading --------------------------------------------------------------------------------------------
 */

static bool read_number(const struct ss_fields *fields, void *self, const struct ss_field *field,
			uint64_t min, uint64_t max, uint64_t *out)
{
	int64_t value;
	if (!(field->flags & SS_FIELD_INTEGER) || fields->integer(self, field, &value) || value < 0)
		return false;
	*out = (uint64_t)value;
	return *out >= min && *out <= max;
}

/* The string's value and a NUL; no part of a character at the end where it is cut off. */
static bool read_string(const struct ss_fields *fields, void *self, const struct ss_field *field, char *out,
			size_t size, bool cut)
{
	char value[LINK_CONTROL_MAX];
	int64_t len = fields->unescape(self, field, value, sizeof value);
	if (len < 0 || (size_t)len > sizeof value)
		return false;
	size_t n = (size_t)len;
	if (n >= size) {
		if (!cut)
			return false;
		n = size - 1;
		while (n && ((uint8_t)value[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++) {
		if ((uint8_t)value[i] < 0x20 || value[i] == 0x7f) {
			if (!cut)
				return false;
			value[i] = '?';
		}
	}
	memcpy(out, value, n);
	out[n] = '\0';
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_epoch(const struct ss_field *field, uint8_t out[16])
{
	if (field->len != 32)
		return false;
	for (unsigned i = 0; i < 16; i++) {
		int high = hex_digit(field->text[2 * i]), low = hex_digit(field->text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool read_member(const struct ss_fields *fields, void *self, const struct member *m,
			const struct ss_field *field, struct link_control *out)
{
	char *to = (char *)out + m->offset;
	if (field->type == SS_JSON_MISSING || field->type == SS_JSON_NULL)
		return !m->required;
	if (m->kind == NUMBER) {
		uint64_t value;
		if (field->type != SS_JSON_NUMBER ||
		    !read_number(fields, self, field, m->min, m->max, &value))
			return false;
		memcpy(to, &value, sizeof value);
		return true;
	}
	if (field->type != SS_JSON_STRING)
		return false;
	if (m->kind == EPOCH)
		return read_epoch(field, (uint8_t *)to);
	return m->kind == NAME ? read_string(fields, self, field, to, LINK_NAME_MAX, false)
			       : read_string(fields, self, field, to, sizeof out->reason, true);
}

/* What members say together. */
static const char *contradiction(const struct link_control *c)
{
	bool sized = c->type == LINK_HELLO || c->type == LINK_WELCOME;
	if (sized && c->max_frame < c->max_record + LINK_DATA_HEADER + LINK_RECORD_HEADER)
		return "\"max_frame\" must be at least 32 more than \"max_record\"";
	if (c->type == LINK_WELCOME && c->first > c->next)
		return "\"first\" must not be greater than \"next\"";
	if (c->type == LINK_WELCOME && c->has_resume && c->resume.seq >= c->next)
		return "\"resume.seq\" of a welcome must be less than \"next\"";
	if (c->type == LINK_LOST && c->from > c->to)
		return "\"from\" must not be greater than \"to\"";
	return NULL;
}

static int type_of(const struct ss_field *field)
{
	if (field->type != SS_JSON_STRING)
		return 0;
	for (int t = LINK_HELLO; t <= LINK_BYE; t++)
		if (field->len == strlen(type_names[t]) &&
		    memcmp(field->text, type_names[t], field->len) == 0)
			return t;
	return 0;
}

int link_control_read(const struct ss_fields *fields, void *self, const struct ss_reader *reader,
		      const uint8_t *text, size_t len, struct link_control *out, const char **why)
{
	struct ss_field field[PATHS];
	struct link_control c = {0};
	uint64_t version;

	*why = "control message longer than 4096 bytes";
	if (len > LINK_CONTROL_MAX)
		return -EINVAL;
	*why = "control message is not a JSON text";
	if (fields->read(self, reader, text, len, field, NULL))
		return -EINVAL;
	*why = "control message without a known type \"t\"";
	c.type = (enum link_type)type_of(&field[TYPE]);
	if (!c.type)
		return -EINVAL;
	*why = "\"v\" must be 1";
	if ((c.type == LINK_HELLO || c.type == LINK_WELCOME) &&
	    (field[VERSION].type != SS_JSON_NUMBER ||
	     !read_number(fields, self, &field[VERSION], 1, 1, &version)))
		return -EINVAL;
	c.has_resume = (c.type == LINK_HELLO || c.type == LINK_WELCOME) && field[RESUME].type > SS_JSON_NULL;
	*why = "\"resume\" must be null or an object";
	if (c.has_resume && field[RESUME].type != SS_JSON_OBJECT)
		return -EINVAL;
	for (unsigned i = 0; i < MEMBERS; i++) {
		bool in_resume = strncmp(members[i].pointer, "/resume/", 8) == 0;
		*why = members[i].why;
		if (members[i].types & 1u << c.type && (!in_resume || c.has_resume) &&
		    !read_member(fields, self, &members[i], &field[i], &c))
			return -EINVAL;
	}
	*why = contradiction(&c);
	if (*why)
		return -EINVAL;
	*out = c;
	return 0;
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

struct text {
	char *buf;
	size_t len;
	bool first;
};

static void put(struct text *t, const char *s, size_t len)
{
	memcpy(t->buf + t->len, s, len);
	t->len += len;
}

static void put_key(struct text *t, const char *key, size_t len)
{
	if (!t->first)
		put(t, ",", 1);
	t->first = false;
	put(t, "\"", 1);
	put(t, key, len);
	put(t, "\":", 2);
}

static void put_string(struct text *t, const char *string)
{
	put(t, "\"", 1);
	for (const uint8_t *s = (const uint8_t *)string; *s;) {
		uint32_t code;
		size_t n = ss_utf8_next(s, 4, &code);
		if (n == 0) {
			put(t, "\\ufffd", 6);
			n = 1;
		} else if (*s < 0x20 || *s == 0x7f) {
			t->len += (size_t)sprintf(t->buf + t->len, "\\u%04x", *s);
		} else {
			if (*s == '"' || *s == '\\')
				put(t, "\\", 1);
			put(t, (const char *)s, n);
		}
		s += n;
	}
	put(t, "\"", 1);
}

static void put_epoch(struct text *t, const uint8_t epoch[16])
{
	put(t, "\"", 1);
	for (unsigned i = 0; i < 16; i++)
		t->len += (size_t)sprintf(t->buf + t->len, "%02x", epoch[i]);
	put(t, "\"", 1);
}

static void put_value(struct text *t, const struct member *m, const char *from)
{
	if (m->kind == NUMBER) {
		uint64_t value;
		memcpy(&value, from, sizeof value);
		t->len += (size_t)sprintf(t->buf + t->len, "%llu", (unsigned long long)value);
	} else if (m->kind == EPOCH) {
		put_epoch(t, (const uint8_t *)from);
	} else {
		put_string(t, from);
	}
}

/* An optional member that is 0 or empty is not written. */
static bool is_empty(const struct member *m, const char *from)
{
	static const uint64_t zero;
	return !m->required && (m->kind == NUMBER ? memcmp(from, &zero, sizeof zero) == 0 : *from == '\0');
}

/* Longest: a hello whose two names are control characters, 6 bytes each. */
_Static_assert(2 * 6 * LINK_NAME_MAX + (MEMBERS + 4) * 48 < LINK_CONTROL_MAX,
	       "a message fits into its buffer");

size_t link_control_write(const struct link_control *c, char buf[LINK_CONTROL_MAX])
{
	struct text t = {.buf = buf, .first = true};
	const char *group = "";
	size_t group_len = 0;

	put(&t, "{", 1);
	put_key(&t, "t", 1);
	put_string(&t, type_names[c->type]);
	if (c->type == LINK_HELLO || c->type == LINK_WELCOME) {
		put_key(&t, "v", 1);
		put(&t, "1", 1);
	}
	for (unsigned i = 0; i < MEMBERS; i++) {
		const struct member *m = &members[i];
		const char *from = (const char *)c + m->offset, *name = m->pointer + 1,
			   *slash = strchr(name, '/');
		size_t len = slash ? (size_t)(slash - name) : 0;
		if (!(m->types & 1u << c->type) || is_empty(m, from) ||
		    (strncmp(name, "resume/", 7) == 0 && !c->has_resume))
			continue;
		if (group_len && (len != group_len || memcmp(name, group, len) != 0)) {
			put(&t, "}", 1);
			group_len = 0;
		}
		if (slash && !group_len) {
			put_key(&t, name, len);
			put(&t, "{", 1);
			t.first = true;
			group = name;
			group_len = len;
		}
		put_key(&t, slash ? slash + 1 : name, strlen(slash ? slash + 1 : name));
		put_value(&t, m, from);
	}
	put(&t, "}}", group_len ? 2 : 1);
	return t.len;
}

/* ---- data -----------------------------------------------------------------------------------------------
 */

enum { DATA_TYPE = 1, AT_COUNT = 2, AT_LENGTH = 4, AT_FIRST = 8, AT_CRC = 16 };

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof value);
	return be32toh(value);
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, sizeof value);
	return be64toh(value);
}

static void put_u32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof value);
}

static void put_u64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof value);
}

static const char *check_header(const uint8_t *msg, size_t len, const struct link_data *d)
{
	if (msg[0] != DATA_TYPE)
		return "data message of unknown type";
	if (msg[1] & ~LINK_DATA_ATTRIBUTES)
		return "data message with flags that are not known";
	if (get_u32(msg + AT_LENGTH) != len - LINK_DATA_HEADER)
		return "data message whose payload length is wrong";
	if (!d->count)
		return "data message without records";
	if (!d->first_seq || d->first_seq > LINK_SEQ_MAX - (d->count - 1u))
		return "data message whose first sequence is out of range";
	if (get_u32(msg + AT_CRC) != ss_crc32c(0, d->records, d->len))
		return "data message with a wrong checksum";
	return NULL;
}

int link_data_read(const uint8_t *msg, size_t len, uint64_t max_record, struct link_data *out,
		   const char **why)
{
	*why = "data message shorter than its header";
	if (len < LINK_DATA_HEADER)
		return -EINVAL;
	struct link_data d = {
		.count = (uint16_t)(msg[AT_COUNT] << 8 | msg[AT_COUNT + 1]),
		.first_seq = get_u64(msg + AT_FIRST),
		.records = msg + LINK_DATA_HEADER,
		.len = len - LINK_DATA_HEADER,
	};
	*why = check_header(msg, len, &d);
	if (*why)
		return -EINVAL;

	size_t at = 0;
	for (unsigned i = 0; i < d.count; i++) {
		*why = "data message with a record beyond its end";
		if (d.len - at < LINK_RECORD_HEADER)
			return -EINVAL;
		uint64_t record = get_u32(d.records + at);
		at += LINK_RECORD_HEADER;
		if (record > d.len - at)
			return -EINVAL;
		*why = "data message with a record longer than \"max_record\"";
		if (record > max_record)
			return -EMSGSIZE;
		at += record;
	}
	d.records_len = at;
	d.has_attributes = msg[1] & LINK_DATA_ATTRIBUTES;
	*why = "data message with attributes that are wrong";
	if (d.has_attributes &&
	    ss_attribute_block_read(d.records + at, d.len - at, d.count, &d.attributes) < 0)
		return -EINVAL;
	*why = "data message with bytes behind its last record";
	if (!d.has_attributes && at != d.len)
		return -EINVAL;
	*why = NULL;
	*out = d;
	return 0;
}

const uint8_t *link_record_next(const uint8_t **at, uint32_t *len, uint64_t *time_ns)
{
	const uint8_t *record = *at + LINK_RECORD_HEADER;
	*len = get_u32(*at);
	*time_ns = get_u64(*at + 4);
	*at = record + *len;
	return record;
}

size_t link_record_write(uint8_t *buf, size_t at, const struct ss_event *event)
{
	put_u32(buf + at, event->len);
	put_u64(buf + at + 4, event->time_ns);
	at += LINK_RECORD_HEADER;
	if (event->len)
		memcpy(buf + at, event->data, event->len);
	return at + event->len;
}

void link_data_finish(uint8_t *buf, size_t len, uint16_t count, uint64_t first_seq, bool attributes)
{
	buf[0] = DATA_TYPE;
	buf[1] = attributes ? LINK_DATA_ATTRIBUTES : 0;
	buf[AT_COUNT] = (uint8_t)(count >> 8);
	buf[AT_COUNT + 1] = (uint8_t)count;
	put_u32(buf + AT_LENGTH, (uint32_t)(len - LINK_DATA_HEADER));
	put_u64(buf + AT_FIRST, first_seq);
	put_u32(buf + AT_CRC, ss_crc32c(0, buf + LINK_DATA_HEADER, len - LINK_DATA_HEADER));
}
