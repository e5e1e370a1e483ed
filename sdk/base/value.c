/* SPDX-License-Identifier: MIT */
#include <semstreams/base/value.h>
#include <semstreams/base/decimal.h>
#include <semstreams/ext/fields.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ss_number_read(const struct ss_iface *fields, const struct ss_field *f, struct ss_number *n)
{
	const struct ss_fields *vtbl = fields->vtbl;

	n->text = f->text;
	n->len = f->len;
	n->integer = (f->flags & SS_FIELD_INTEGER) && vtbl->integer(fields->self, f, &n->i) == 0;
	if (n->integer)
		n->d = (double)n->i;
	else if (vtbl->number(fields->self, f, &n->d) < 0)
		n->d = f->text[0] == '-' ? -INFINITY : INFINITY;
}

#define ALL_WHOLE 0x1p53 /* from here on a double stands for more than one whole number */

/* Of numbers that are the same double, at least one of them no integer. */
static int compare_texts(const struct ss_number *a, const struct ss_number *b)
{
	const struct ss_number *both[2] = {a, b};
	struct ss_decimal decimals[2];
	char digits[2][24];

	for (int i = 0; i < 2; i++) {
		const struct ss_number *n = both[i];
		const int len =
			n->text ? (int)n->len : snprintf(digits[i], sizeof digits[i], "%" PRId64, n->i);

		if (!n->text && !n->integer)
			return 0;
		ss_decimal_read(n->text ? n->text : digits[i], (size_t)len, &decimals[i]);
	}
	return ss_decimal_compare(&decimals[0], &decimals[1]);
}

/* Rounding keeps the order, so that only numbers that are rounded to the same have to be looked at. */
int ss_number_compare(const struct ss_number *a, const struct ss_number *b)
{
	if (a->integer && b->integer)
		return (a->i > b->i) - (a->i < b->i);
	if (a->d != b->d)
		return a->d < b->d ? -1 : 1;
	return fabs(a->d) < ALL_WHOLE ? 0 : compare_texts(a, b);
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

/* The whole number that the digits stand for; false if it is none, or none that fits. */
static bool whole_of(const struct ss_decimal *d, const char *digits, size_t n, int64_t *out)
{
	int64_t value = 0;

	if (d->exponent < 0 || d->exponent > 18 || n > (size_t)d->exponent + 1)
		return false;
	for (size_t i = 0; i <= (size_t)d->exponent; i++) {
		const int64_t digit = i < n ? digits[i] - '0' : 0;
		if (__builtin_mul_overflow(value, (int64_t)10, &value) ||
		    __builtin_add_overflow(value, d->negative ? -digit : digit, &value))
			return false;
	}
	*out = value;
	return true;
}

#define HASHED_DIGITS 64 /* of more, those of the nearest double decide */

static void number_hash(const struct ss_iface *fields, const struct ss_field *f, const uint64_t secret[2],
			uint64_t out[2])
{
	char text[sizeof(int64_t) + 1 + HASHED_DIGITS];
	struct ss_decimal d;
	struct ss_number n;
	size_t n_digits = 0;

	ss_number_read(fields, f, &n);
	if (!n.integer && fabs(n.d) < ALL_WHOLE) {
		n.i = (int64_t)n.d;
		n.integer = (double)n.i == n.d;
	} else if (!n.integer) {
		char *digits = text + sizeof d.exponent + 1;
		ss_decimal_read(f->text, f->len, &d);
		n_digits = ss_decimal_digits(&d, digits, HASHED_DIGITS);
		n.integer = n_digits && whole_of(&d, digits, n_digits, &n.i);
		memcpy(text, &d.exponent, sizeof d.exponent);
		text[sizeof d.exponent] = d.negative ? '-' : '+';
	}
	if (n.integer)
		ss_hash_bytes(secret, SS_JSON_NUMBER, &n.i, sizeof n.i, out);
	else if (n_digits)
		ss_hash_bytes(secret, SS_JSON_NUMBER | 0x40, text, sizeof d.exponent + 1 + n_digits, out);
	else
		ss_hash_bytes(secret, SS_JSON_NUMBER | 0x80, &n.d, sizeof n.d, out);
}

int ss_value_hash(const struct ss_iface *fields, struct ss_scratch *scratch, const struct ss_field *f,
		  const uint64_t secret[2], uint64_t out[2])
{
	const char *text = f->text;
	size_t len = f->len;

	if (f->type == SS_JSON_NUMBER) {
		number_hash(fields, f, secret, out);
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
