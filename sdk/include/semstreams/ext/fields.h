/* SPDX-License-Identifier: MIT */
/* semstreams/ext/fields.h - fields of JSON documents, read in place.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_FIELDS_H
#define SEMSTREAMS_EXT_FIELDS_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reading fields of JSON documents (RFC 8259) in place: finds any number of fields in one validating pass,
 * without allocating.  All [any].
 */
#define SS_FIELDS "semstreams.fields/1"
enum {
	SS_JSON_MISSING = 0,
	SS_JSON_NULL = 1,
	SS_JSON_FALSE = 2,
	SS_JSON_TRUE = 3,
	SS_JSON_NUMBER = 4,
	SS_JSON_STRING = 5,
	SS_JSON_ARRAY = 6,
	SS_JSON_OBJECT = 7
};
enum {
	SS_FIELD_ESCAPED = 1, /* the string holds backslash escapes: unescape() before comparing */
	SS_FIELD_INTEGER = 2  /* the number has neither fraction nor exponent */
};
struct ss_field {
	const char *text; /* in the document: a string without its quotes, anything else as it stands */
	uint32_t len;
	uint16_t type;  /* SS_JSON_... */
	uint16_t flags; /* SS_FIELD_... */
};
struct ss_reader; /* opaque: a compiled set of paths; immutable, shareable between threads */
struct ss_fields {
	uint32_t struct_size, reserved;
	/* Compile paths: a JSON pointer (RFC 6901: "", "/a/0/b") if it is empty or starts with '/', else a
	 * dotted path
	 * ("a.b", "a.0").  The strings are copied.  -EINVAL with *bad = its index, -ENOMEM. */
	int32_t (*compile)(void *self, const char *const *paths, uint32_t n, struct ss_reader **out,
			   uint32_t *bad);
	void (*free)(void *self, struct ss_reader *);
	/* Look every path up in one document: out[i] belongs to path i.  Of equal names in one object the
	 * last counts. -EINVAL: not a JSON text, -ELOOP: nested deeper than 64; then out is undefined and
	 * *where (may be NULL) is the offset of the first wrong byte. */
	int32_t (*read)(void *self, const struct ss_reader *, const void *json, size_t len,
			struct ss_field *out, size_t *where);
	/* A number as double, correctly rounded.  -EINVAL: not a number, -ERANGE: overflows a double. */
	int32_t (*number)(void *self, const struct ss_field *, double *out);
	/* A number as int64.  -EINVAL: not an integer, -ERANGE: does not fit. */
	int32_t (*integer)(void *self, const struct ss_field *, int64_t *out);
	/* A string's value as UTF-8 into buf: its length, which may be more than size (then nothing was
	 * written).  A lone surrogate becomes U+FFFD.  -EINVAL: not a string. */
	int64_t (*unescape)(void *self, const struct ss_field *, char *buf, size_t size);
};

#ifdef __cplusplus
}
#endif
#endif
