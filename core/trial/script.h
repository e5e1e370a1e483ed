/* SPDX-License-Identifier: MIT */
/*
 * script - a file of tests of a configuration: cases, each a list of steps.  Pure but for reading the file;
 * what is wrong with it goes to a diag with its place.  One thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"

enum step_kind { STEP_SEND, STEP_WAIT, STEP_EXPECT, STEP_FILE, STEP_STOP };
enum step_form {
	FORM_JSON, /* values as they stand in the file; compared as values */
	FORM_TEXT, /* the bytes of strings */
	FORM_HEX   /* bytes as hexadecimal digits */
};

struct step {
	enum step_kind kind;
	const struct jnode *node;
	const char *target; /* a component, a point of the pipeline, a file; NULL: none */
	enum step_form form;
	const struct jnode **items;
	size_t n_items;
	const struct jnode *attributes; /* STEP_EXPECT: a list of objects, one for each item; NULL: any */
	bool subset;                    /* members that are not expected do not matter */
	const char *from, *peer;        /* STEP_SEND; NULL: not said */
	uint64_t ns;                    /* STEP_WAIT */
};

struct script_case {
	const char *name;
	uint64_t at_ns; /* wall clock at its beginning, ns since 1970 */
	struct step *steps;
	size_t n_steps;
};

struct script {
	struct jdoc *doc;
	const struct jnode *config; /* a string, the file's name, or an object */
	const struct jnode *set;    /* JSON pointers into it with other values; NULL: none */
	struct script_case *cases;
	size_t n_cases;
};

/* 0; -EINVAL with errors in diag; -ENOMEM.  script_free() in any case; *out may be NULL. */
int script_load(const char *file, struct diag *, struct script **out);
/* The same from memory: fuzzing. */
int script_parse(const char *file, const char *text, size_t len, struct diag *, struct script **out);
void script_free(struct script *);

/* The bytes of an item as they are sent or expected, malloced; NULL: out of memory. */
char *script_bytes(const struct step *, size_t item, size_t *len);
