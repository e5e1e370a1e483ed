/* SPDX-License-Identifier: MIT */
#include "route.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ROOM_MAX = 180, ROOM_MIN = 64, DIGEST = 16, DIGEST_TEXT = 2 + 2 * DIGEST };

static const struct {
	const char *name;
	uint32_t attribute;
	uint32_t verified; /* flag; 0: there is nothing to verify */
} known[] = {
	{"peer", SS_ATTR_PEER, SS_ATTR_PEER_VERIFIED},
	{"origin", SS_ATTR_ORIGIN, SS_ATTR_ORIGIN_VERIFIED},
	{"input", SS_ATTR_INPUT, 0},
	{"address", SS_ATTR_ADDRESS, 0},
};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- a digest that nobody finds a second value for ---- */

static const uint32_t SHA_K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t v, int by)
{
	return v >> by | v << (32 - by);
}

static void sha_block(uint32_t h[8], const uint8_t block[64])
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, h, sizeof v);
	for (int i = 0; i < 64; i++) {
		uint32_t a = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) +
			     ((v[4] & v[5]) ^ (~v[4] & v[6])) + SHA_K[i] + w[i];
		uint32_t b = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) +
			     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += a;
		v[0] = a + b;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

/* The first half of SHA-256, in hex. */
static void digest(const char *text, size_t len, char out[2 * DIGEST + 1])
{
	uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	uint8_t last[128] = {0};
	size_t whole = len / 64 * 64, rest = len - whole, size = rest < 56 ? 64 : 128;

	for (size_t at = 0; at < whole; at += 64)
		sha_block(h, (const uint8_t *)text + at);
	memcpy(last, text + whole, rest);
	last[rest] = 0x80;
	for (int i = 0; i < 8; i++)
		last[size - 1 - (size_t)i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
	for (size_t at = 0; at < size; at += 64)
		sha_block(h, last + at);
	for (int i = 0; i < DIGEST / 4; i++)
		snprintf(out + 8 * i, 9, "%08x", h[i]);
}

/* ---- templates ---- */

static int wrong(char why[WHY_MAX], const char *text)
{
	snprintf(why, WHY_MAX, "%s", text);
	return -EINVAL;
}

/* The field that begins there. */
static void add_field(struct route *r, size_t begin)
{
	const char *name = r->pattern + begin + 1;
	size_t len = strcspn(name, "}");
	struct route_field *f = &r->fields[r->n++];

	*f = (struct route_field){.begin = begin, .end = begin + len + 2};
	for (int i = 0; i < KNOWN; i++)
		if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
			f->attribute = known[i].attribute;
}

/* What ends a file's name must be no end that closed files and our others get behind theirs. */
static int check_ending(const char *part, size_t len, char why[WHY_MAX])
{
	static const char *const taken[] = {"gz", "zst", "tmp", "torn"};
	const char *dot = memrchr(part, '.', len), *text = dot ? dot + 1 : part + len;
	size_t n = len - (size_t)(text - part);
	bool plain = n > 0 && isalpha((unsigned char)*text);

	for (size_t i = 0; i < n; i++)
		plain &= isalnum((unsigned char)text[i]) != 0;
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
		plain &= n != strlen(taken[i]) || memcmp(text, taken[i], n) != 0;
	return plain ? 0
		     : wrong(why, "needs an ending behind its last {...}, such as .jsonl, that is none of "
				  "closed files");
}

/* Fields first.. of one part of the pattern, from begin to end: how much room is there for values? */
static int check_part(struct route *r, int first, size_t begin, size_t end, size_t *longest,
		      char why[WHY_MAX])
{
	size_t literal = 0;
	int n = r->n - first;

	for (size_t at = begin; at < end; at++) {
		if (r->pattern[at] == '{')
			at += strcspn(r->pattern + at, "}");
		else if (r->pattern[at] == '%')
			literal += r->pattern[++at] == 'Y' ? 4 : r->pattern[at] == '%' ? 1 : 2;
		else
			literal++;
	}
	*longest += literal + 1;
	if (n == 0)
		return 0;
	if (r->pattern[begin] == '.')
		return wrong(why, "must not have a dot in front of a {...} at the beginning of a name");
	for (int i = first; i < r->n; i++) {
		char behind = r->pattern[r->fields[i].end];
		bool last = i == r->n - 1;
		if (!last && (isalnum((unsigned char)behind) || strchr("%{", behind)))
			return wrong(why, "needs a character such as '-' between two {...} of one name");
		r->fields[i].behind = n == 1 || last ? '\0' : behind;
	}
	size_t room = literal < NAME_LEN_MAX ? (NAME_LEN_MAX - literal) / (size_t)n : 0;
	if (room < ROOM_MIN)
		return wrong(why, "has a name with too little room for its {...}: each may need 64 bytes");
	for (int i = first; i < r->n; i++)
		r->fields[i].room = room < ROOM_MAX ? (uint32_t)room : ROOM_MAX;
	*longest += (size_t)n * r->fields[first].room;
	return r->pattern[end] ? 0 : check_ending(r->pattern + begin, end - begin, why);
}

int route_parse(struct route *r, const char *pattern, char why[WHY_MAX])
{
	size_t longest = 0;

	*r = (struct route){.pattern = pattern};
	for (size_t begin = 0, end;; begin = end + 1) {
		int first = r->n;
		end = begin + strcspn(pattern + begin, "/");
		for (size_t at = begin; at < end; at++) {
			if (pattern[at] != '{')
				continue;
			if (r->n == ROUTE_FIELDS)
				return wrong(why, "has more than 8 {...}");
			add_field(r, at);
		}
		int rc = check_part(r, first, begin, end, &longest, why);
		if (rc < 0)
			return rc;
		if (!pattern[end])
			break;
	}
	return longest < REL_MAX - STAMP_MAX ? 0 : wrong(why, "is too long with the longest values");
}

/* ---- values ---- */

static bool stays(char c, char behind)
{
	return c != behind && (isalnum((unsigned char)c) || (c && strchr("._-@:+=,", c)));
}

/* What of an address names the sender: another port each time would be another file each time. */
static size_t without_port(const char *text, size_t len)
{
	size_t at = len;

	while (at > 0 && isdigit((unsigned char)text[at - 1]))
		at--;
	if (at == len || at == 0 || text[at - 1] != ':')
		return len;
	/* 192.0.2.1:5000 or [2001:db8::1]:5000; without brackets a second colon is one of IPv6 */
	return at > 1 && (text[at - 2] == ']' || !memchr(text, ':', at - 1)) ? at - 1 : len;
}

/* A value as a part of a name, at most room bytes; its length. */
static size_t put_value(const struct route_field *f, const char *text, size_t len, char *out)
{
	char hex[2 * DIGEST + 1];
	size_t n = 0, fits = 0; /* fits: what stays in front of a digest */

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool whole = stays(c, f->behind) && (i > 0 || (c != '.' && c != '-'));
		size_t more = whole ? 1 : 3;
		if (n + more > f->room) {
			digest(text, len, hex);
			return fits + (size_t)snprintf(out + fits, DIGEST_TEXT + 1, "%%~%s", hex);
		}
		if (whole)
			out[n] = c;
		else
			snprintf(out + n, 4, "%%%02X", (unsigned char)c);
		n += more;
		if (n + DIGEST_TEXT <= f->room)
			fits = n;
	}
	return n;
}

static uint32_t flag_of(uint32_t attribute)
{
	uint32_t flag = 0;

	for (int i = 0; i < KNOWN; i++)
		if (known[i].attribute == attribute)
			flag = known[i].verified;
	return flag;
}

/* What no certificate vouches for must not look like what one does.  The text says so mostly, but need not.
 */
static size_t put_unverified(const struct route_field *f, const char *text, size_t len, char *out)
{
	static const char said[] = "unverified:", mark[] = "%unverified";
	const size_t n_said = sizeof said - 1, n = sizeof mark;
	struct route_field rest = *f;
	bool says = len > n_said && memcmp(text, said, n_said) == 0;

	memcpy(out, mark, n - 1);
	out[n - 1] = says ? '-' : ':';
	rest.room -= (uint32_t)n;
	return n + (says ? put_value(&rest, text + n_said, len - n_said, out + n)
			 : put_value(&rest, text, len, out + n));
}

static size_t put_field(const struct route_field *f, const struct ss_attributes *a, char *out)
{
	struct ss_attribute v = ss_attribute_get(a, f->attribute);
	uint32_t verified = flag_of(f->attribute);

	if (!v.text || v.len == 0)
		return (size_t)sprintf(out, "%%none");
	if (verified && !(a->flags & verified))
		return put_unverified(f, v.text, v.len, out);
	size_t len = f->attribute == SS_ATTR_ADDRESS ? without_port(v.text, v.len) : v.len;
	if (f->attribute == SS_ATTR_ADDRESS && len > 2 && v.text[0] == '[' && v.text[len - 1] == ']')
		return put_value(f, v.text + 1, len - 2, out);
	return put_value(f, v.text, len, out);
}

static void render(const struct route *r, const struct ss_attributes *a, bool other, char key[KEY_MAX])
{
	char value[ROOM_MAX + 1], *to = key;
	size_t from = 0;

	for (int i = 0; i < r->n; i++) {
		const struct route_field *f = &r->fields[i];
		size_t n = other ? (size_t)sprintf(value, "%s", ROUTE_OTHER) : put_field(f, a, value);
		to = mempcpy(to, r->pattern + from, f->begin - from);
		for (size_t k = 0; k < n; k++) {
			if (value[k] == '%') /* of a template for dates */
				*to++ = '%';
			*to++ = value[k];
		}
		from = f->end;
	}
	strcpy(to, r->pattern + from);
}

void route_key(const struct route *r, const struct ss_attributes *a, char key[KEY_MAX])
{
	render(r, a, false, key);
}

void route_other(const struct route *r, char key[KEY_MAX])
{
	render(r, NULL, true, key);
}
