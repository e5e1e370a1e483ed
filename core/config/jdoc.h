/* SPDX-License-Identifier: MIT */
/*
 * jdoc - a JSON document (RFC 8259) that knows where each value stands, for configuration files.
 * Strict: no comments, no trailing commas, no duplicate names, valid UTF-8, nesting at most 64.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/config/diag.h"

#define JDOC_MAX_DEPTH  64
#define JDOC_MAX_VALUES 500000
#define JDOC_MAX_FILE   (16u << 20)

enum jtype { J_NULL, J_FALSE, J_TRUE, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT };

struct jnode {
	enum jtype type;
	struct place place;      /* of the value */
	struct place name_place; /* of its name, in an object */
	char *name;              /* decoded; NULL outside objects */
	char *string;            /* J_STRING: decoded, NUL-terminated, without NULs inside */
	const char *text;        /* the value as it stands in the file */
	size_t text_len;
	struct jnode *parent;
	struct jnode *child, *next; /* elements or members in order */
	size_t n;                   /* number of children */
};

struct jdoc {
	char *file;
	char *text;
	size_t len;
	struct jnode *root;
};

/*
 * Parse; syntax errors and duplicate names go to diag.  text is copied.  -EINVAL if there was an error,
 * -ENOMEM. The file is named in messages only.  Errors that leave no doubt about what was meant (duplicates,
 * comments, trailing commas, ...) do not stop parsing, so all of them are told: *out is the document whenever
 * its end was reached, else NULL.
 */
int jdoc_parse(const char *file, const char *text, size_t len, struct diag *, struct jdoc **out);
/* Read a regular file of at most JDOC_MAX_FILE bytes, or standard input for "-", and parse it. */
int jdoc_load(const char *file, struct diag *, struct jdoc **out);
void jdoc_free(struct jdoc *); /* NULL is allowed */

/* A regular file of at most max bytes into malloced, NUL-ended memory.  0, -ENOMEM, or -errno with *why set.
 */
int file_read(const char *path, size_t max, char **text, size_t *len, const char **why);

struct jnode *jnode_get(const struct jnode *object, const char *name);
/* Follow an RFC 6901 pointer as far as it goes; *whole says whether it went to the end. */
struct jnode *jnode_at(struct jnode *from, const char *pointer, bool *whole);
/* Pointer of a node from the root; malloced. */
char *jnode_pointer(const struct jnode *);
/* With its article: "a number", "an object", "null". */
const char *jtype_name(enum jtype);

/* A value as messages show it: strings and numbers as they stand in the file, cut; else its type.  Returns
 * buf. */
#define JSHOWN_SIZE 64
const char *jnode_shown(const struct jnode *, char buf[JSHOWN_SIZE]);

/* Add to diag with file, place and pointer of node: the place of its value, or of its name where it has one.
 */
enum jpart { J_VALUE, J_NAME };
void jdoc_report(const struct jdoc *, struct diag *, enum diag_level, const struct jnode *, enum jpart,
		 const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* "unknown <what> <shown>", and which known word it may have meant. */
void jdoc_report_unknown(const struct jdoc *, struct diag *, const struct jnode *, enum jpart,
			 const char *what, const char *word, const char *const *known, size_t n);
