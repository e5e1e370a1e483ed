/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/value.h - values of JSON fields as plugins compare them: numbers, strings without escapes,
 * and hashes that no sender can foresee.  Any thread, but one scratch memory per thread.  Tags and rules are
 * those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_VALUE_H
#define SEMSTREAMS_BASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number of a document. */
struct ss_number {
	bool integer;     /* i is its value, exactly */
	int64_t i;        /* if it is an integer that fits */
	double d;         /* the nearest double in any case */
	const char *text; /* as it is written, in the document, valid as long as that; NULL: it is not at hand
			     (any more) */
	uint32_t len;     /* bytes of text */
};

/* [any] The value of a field of type SS_JSON_NUMBER; d of one too large for a double is infinite.  Whoever
 * keeps the number longer than the document sets text to NULL. */
void ss_number_read(const struct ss_iface *fields, const struct ss_field *, struct ss_number *);
/* [any] -1, 0, 1.  Integers and all numbers from 2^53 on are compared digit by digit, smaller ones with a
 * fraction as doubles: 0.1 is 0.10000000000000001.  Large ones without a text are compared as doubles, too.
 */
int ss_number_compare(const struct ss_number *, const struct ss_number *);

/* Memory for a string without its escapes; zeroed to begin with, free(bytes) at the end. */
struct ss_scratch {
	char *bytes; /* the caller's to free() */
	size_t size; /* bytes allocated */
};

/* [any] The bytes of a string field: in place, or without escapes in the scratch memory until its next use.
 * 0; -ENOMEM; -EINVAL. */
int ss_scratch_text(struct ss_scratch *, const struct ss_iface *fields, const struct ss_field *,
		    const char **text, size_t *len);

/*
 * Hashes of values, keyed by a secret of 128 random bits: two values share one of 128 bits with a
 * chance of 2^-128, so they may stand for the values themselves.  Equal numbers have one hash, however they
 * are written; 1 and "1" have two.
 */

/* [any] Of a field.  0; -ENOMEM; -EINVAL. */
int ss_value_hash(const struct ss_iface *fields, struct ss_scratch *, const struct ss_field *,
		  const uint64_t secret[2], uint64_t out[2]);
/* [any] SipHash-1-3 with 128 bits of any bytes; type keeps kinds of values apart. */
void ss_hash_bytes(const uint64_t secret[2], uint8_t type, const void *bytes, size_t len, uint64_t out[2]);
/* [any] SipHash-1-3 with 64 bits, for a table of keys. */
uint64_t ss_hash_key(const uint64_t secret[2], const void *bytes, size_t len);

#ifdef __cplusplus
}
#endif
#endif
