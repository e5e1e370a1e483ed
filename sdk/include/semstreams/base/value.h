/* SPDX-License-Identifier: MIT */
/*
 * value - values of JSON fields as plugins compare them: numbers, strings without escapes, and hashes that no
 * sender can foresee.  Allocates only to unescape; any thread, but one scratch per thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

struct number {
	bool integer; /* i is exact; d is the nearest double in any case */
	int64_t i;
	double d;
};

/* A number field's value; one too big for a double is infinite. */
void number_read(const struct ss_iface *fields, const struct ss_field *, struct number *);
/* -1, 0, 1; both exactly if they are integers, else as doubles. */
int number_compare(const struct number *, const struct number *);

/* Memory for an unescaped string; zero it to start, free bytes at the end. */
struct scratch {
	char *bytes;
	size_t size;
};

/* A string field's bytes: in place, or unescaped into the scratch memory until its next use.  0, -ENOMEM,
 * -EINVAL. */
int scratch_text(struct scratch *, const struct ss_iface *fields, const struct ss_field *, const char **text,
		 size_t *len);

/* Of a value: equal numbers have one hash, however they are written.  0, -ENOMEM. */
int value_hash(const struct ss_iface *fields, struct scratch *, const struct ss_field *,
	       const uint64_t secret[2], uint64_t out[2]);
/* SipHash-1-3 of bytes; type keeps kinds of values apart. */
void hash_bytes(const uint64_t secret[2], uint8_t type, const void *bytes, size_t len, uint64_t out[2]);
/* 64 bits for a table of keys. */
uint64_t hash_key(const uint64_t secret[2], const void *bytes, size_t len);
void number_hash(const struct number *, const uint64_t secret[2], uint64_t out[2]);
