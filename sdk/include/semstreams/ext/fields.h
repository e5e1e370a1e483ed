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
 * Fields of JSON documents (RFC 8259), read in place: one pass finds any number of fields and validates the
 * document, without allocating.  All functions are [any].
 */
#define SS_FIELDS "semstreams.fields/1"
/* Types of fields. */
enum {
	SS_JSON_MISSING = 0, /* the document has no such field */
	SS_JSON_NULL = 1,    /* null */
	SS_JSON_FALSE = 2,   /* false */
	SS_JSON_TRUE = 3,    /* true */
	SS_JSON_NUMBER = 4,  /* number() and integer() give its value */
	SS_JSON_STRING = 5,  /* unescape() gives its value */
	SS_JSON_ARRAY = 6,   /* with its brackets */
	SS_JSON_OBJECT = 7   /* with its braces */
};
/* Flags of a field, combined by |. */
enum {
	SS_FIELD_ESCAPED = 1, /* the string holds backslash escapes: unescape() before comparing */
	SS_FIELD_INTEGER = 2  /* the number has neither fraction nor exponent */
};
/* A field as read() found it. */
struct ss_field {
	const char *text; /* in the document, valid as long as that: a string without its quotes, any other
			     value as it is written */
	uint32_t len;     /* bytes */
	uint16_t type;    /* SS_JSON_... */
	uint16_t flags;   /* SS_FIELD_... */
};
struct ss_reader; /* opaque: compiled paths; immutable, so that threads may share it */
/* What the host has under SS_FIELDS. */
struct ss_fields {
	uint32_t struct_size, reserved;
	/* Compile n paths (copied).  A path that is empty or begins with '/' is a JSON pointer (RFC 6901: "",
	 * "/a/0/b"), any other is a dotted path ("a.b", "a.0").  The caller owns *out.  -EINVAL: the path
	 * with the index *bad is wrong.  -ENOMEM. */
	int32_t (*compile)(void *self, const char *const *paths, uint32_t n, struct ss_reader **out,
			   uint32_t *bad);
	/* Free a reader; NULL is allowed. */
	void (*free)(void *self, struct ss_reader *);
	/* Find all fields in one document: out[i] is the field of path i, and points into the document.  Of
	 * equal names in one object the last one counts.  -EINVAL: it is not JSON; -ELOOP: it is nested
	 * deeper than 64; then out is undefined and *where (may be NULL) is the offset of the first wrong
	 * byte. */
	int32_t (*read)(void *self, const struct ss_reader *, const void *json, size_t len,
			struct ss_field *out, size_t *where);
	/* The value of a number, correctly rounded.  -EINVAL: it is not a number; -ERANGE: it is too large.
	 */
	int32_t (*number)(void *self, const struct ss_field *, double *out);
	/* The value of an integer.  -EINVAL: it is not an integer; -ERANGE: it does not fit. */
	int32_t (*integer)(void *self, const struct ss_field *, int64_t *out);
	/* The value of a string as UTF-8, without a NUL.  Returns its length in bytes; buf is written only if
	 * that is at most size.  A lone surrogate becomes U+FFFD.  -EINVAL: it is not a string. */
	int64_t (*unescape)(void *self, const struct ss_field *, char *buf, size_t size);
};

#ifdef __cplusplus
}
#endif
#endif
