/* SPDX-License-Identifier: MIT */
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void ss_number_read(const struct ss_iface *fields, const struct ss_field *f, struct ss_number *n)
{
	const struct ss_fields *vtbl = fields->vtbl;

	n->integer = (f->flags & SS_FIELD_INTEGER) && vtbl->integer(fields->self, f, &n->i) == 0;
	if (n->integer)
		n->d = (double)n->i;
	else if (vtbl->number(fields->self, f, &n->d) < 0)
		n->d = f->text[0] == '-' ? -INFINITY : INFINITY;
}

int ss_number_compare(const struct ss_number *a, const struct ss_number *b)
{
	if (a->integer && b->integer)
		return (a->i > b->i) - (a->i < b->i);
	return (a->d > b->d) - (a->d < b->d);
}

int ss_scratch_text(struct ss_scratch *s, const struct ss_iface *fields, const struct ss_field *f,
		    const char **text, size_t *len)
{
	const struct ss_fields *vtbl = fields->vtbl;

	*text = f->text;
	*len = f->len;
	if (!(f->flags & SS_FIELD_ESCAPED))
		return 0;
	if (f->len > s->size) { /* what is unescaped is never longer */
		char *bigger = realloc(s->bytes, f->len);

		if (!bigger)
			return -ENOMEM;
		s->bytes = bigger;
		s->size = f->len;
	}
	int64_t n = vtbl->unescape(fields->self, f, s->bytes, s->size);
	if (n < 0 || (uint64_t)n > s->size)
		return -EINVAL;
	*text = s->bytes;
	*len = (size_t)n;
	return 0;
}

/* ---- hashing ---- */

static inline uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* SipHash-1-3 up to its last rounds. */
static inline void sip_update(uint64_t v[4], const void *bytes, size_t len)
{
	const uint8_t *data = bytes;
	size_t whole = len & ~(size_t)7;
	uint64_t word;

	for (size_t i = 0; i < whole; i += 8) {
		memcpy(&word, data + i, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)len << 56;
	for (size_t i = whole; i < len; i++)
		word |= (uint64_t)data[i] << 8 * (i - whole);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

static inline uint64_t sip_end(uint64_t v[4])
{
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * SipHash-1-3 with 128 bits, keyed at random: two values have one hash with a chance of 2^-128 that no sender
 * can better, so the values themselves, which may be long, need not be kept.  The type keeps 1 and "1" apart.
 */
void ss_hash_bytes(const uint64_t secret[2], uint8_t type, const void *bytes, size_t len, uint64_t out[2])
{
	uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575, secret[1] ^ 0x646f72616e646f6d ^ 0xee,
			 secret[0] ^ 0x6c7967656e657261, secret[1] ^ 0x7465646279746573};

	v[3] ^= type;
	sip_round(v);
	v[0] ^= type;
	sip_update(v, bytes, len);
	v[2] ^= 0xee;
	out[0] = sip_end(v);
	v[1] ^= 0xdd;
	out[1] = sip_end(v);
}

uint64_t ss_hash_key(const uint64_t secret[2], const void *bytes, size_t len)
{
	uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575, secret[1] ^ 0x646f72616e646f6d,
			 secret[0] ^ 0x6c7967656e657261, secret[1] ^ 0x7465646279746573};

	sip_update(v, bytes, len);
	v[2] ^= 0xff;
	return sip_end(v);
}

void ss_number_hash(const struct ss_number *n, const uint64_t secret[2], uint64_t out[2])
{
	bool fits = n->integer || (n->d >= -0x1p63 && n->d < 0x1p63);
	int64_t i = n->integer ? n->i : fits ? (int64_t)n->d : 0;

	if (n->integer || (fits && (double)i == n->d)) {
		ss_hash_bytes(secret, SS_JSON_NUMBER, &i, sizeof i, out);
	} else {
		ss_hash_bytes(secret, SS_JSON_NUMBER | 0x80, &n->d, sizeof n->d, out);
	}
}

int ss_value_hash(const struct ss_iface *fields, struct ss_scratch *scratch, const struct ss_field *f,
		  const uint64_t secret[2], uint64_t out[2])
{
	const char *text = f->text;
	size_t len = f->len;
	struct ss_number n;

	if (f->type == SS_JSON_NUMBER) {
		ss_number_read(fields, f, &n);
		ss_number_hash(&n, secret, out);
		return 0;
	}
	if (f->type == SS_JSON_STRING) {
		int rc = ss_scratch_text(scratch, fields, f, &text, &len);

		if (rc < 0)
			return rc;
	}
	ss_hash_bytes(secret, (uint8_t)f->type, text, f->type == SS_JSON_MISSING ? 0 : len, out);
	return 0;
}
