/* SPDX-License-Identifier: MIT */
/*
 * functions - what is computed per group: count, sum, min and so on.  Each function has a state of fixed size
 * in plain bytes, some have memory of their own besides (sketches).  States of one function can be merged,
 * whatever the order they were filled in.  Compiled in the control thread; everything else on the instance's
 * loop, without a clock or I/O.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/paths.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

#define FUNCTIONS_MAX 256 /* of one aggregate */
#define QUANTILES_MAX 32  /* of one function */
#define BOUNDS_MAX    1024
#define TOP_MAX       1000

/* One event, as a function sees it. */
struct sample {
	const struct ss_field *field;   /* the function's; NULL if it has none */
	const struct ss_number *number; /* its value, NULL if it is no number */
	int64_t time_ns;                /* of the event, by which first and last are chosen */
	uint64_t hash[2];               /* of the value, if the function needs it */
	uint64_t order;                 /* breaks ties of equal times: grows with each event */
};

/* What is known besides the state when a result is printed. */
struct span {
	int64_t start_ns, end_ns; /* of the window */
};

struct function;
struct sketch;

struct function_type {
	const char *name;
	bool needs_field, needs_number; /* events without it are skipped */
	bool needs_hash;
	bool greatest; /* max, last: of two values the greater or later one stays; min, first: the other */
	uint32_t size; /* of a state, bytes; a multiple of 8 */
	const struct sketch *sketch; /* NULL, or the state is a pointer to such a sketch, NULL: empty */
	/* The function's own members of the object, if it was written as one; errors go to spec. */
	void (*compile)(struct function *, json_t *options, struct ss_json_option *);
	/* A state of zeros is an empty one.  0, -ENOMEM (the sample is not in it then). */
	int (*add)(const struct function *, void *state, const struct sample *);
	/* The other goes into the state and stays as it is.  0, -ENOMEM. */
	int (*merge)(const struct function *, void *state, const void *other);
	void (*print)(const struct function *, const void *state, const struct span *, struct ss_strbuf *);
	/* NULL: anything is.  A state from a checkpoint can be worked with. */
	bool (*is_good)(const struct function *, const void *state);
	/* For those that have memory besides; NULL for the others.  Bytes of it; into a checkpoint and back,
	 * where the state's own bytes are saved by whoever owns them.  load: -EINVAL, -ENOMEM; then the state
	 * is an empty one. */
	size_t (*heap)(const struct function *, const void *state);
	void (*save)(const struct function *, const void *state, struct ss_strbuf *);
	int (*load)(const struct function *, void *state, const uint8_t *bytes, size_t len);
	void (*done)(const struct function *, void *state);
};

struct function {
	const struct function_type *type;
	char *name;      /* member of the result */
	char *label;     /* "name": as it is printed */
	int field;       /* index of its path, -1: none */
	uint32_t offset; /* of its state in a group's; set by functions_compile() */
	uint32_t size;   /* of its state: the type's, unless compile() sets another */
	/* parameters, of those that have any */
	uint32_t n;               /* quantiles, bounds, or the k of top */
	double *values;           /* percent */
	struct ss_number *bounds; /* ascending */
	char (*labels)[40];       /* of the quantiles: "p99.9": as it is printed */
	double accuracy;          /* relative error of quantiles */
	bool single;              /* one quantile, printed as a number */
	bool population;          /* stddev: divide by n, not n - 1 */
};

struct functions {
	struct function *v;
	uint32_t n;
	uint32_t size; /* of all states of a group, a multiple of 8 */
	bool any_heap;
	struct ss_iface fields; /* SS_FIELDS */
	struct ss_scratch scratch;
	uint64_t secret[2]; /* of hashes; in the checkpoint, so that states of different runs can be merged */
};

/*
 * The option "functions": {"name": "mean(value)", "name": {"fn": "percentiles", "field": "value", "p": [50,
 * 99]}, ...}.  Fields go to paths.  0, or -EINVAL after errors went to spec, -ENOMEM; *out is to be released
 * in any case.
 */
int functions_compile(json_t *, struct ss_json_option *, struct ss_paths *, const struct ss_iface *fields,
		      struct functions *out);
void functions_done(struct functions *);

/* Take one event into a group's states: values are its fields by path; numbers[i] belongs to path i where
 * values[i] is a number.  The number of functions that found no memory for it, or could not use their field's
 * type. */
struct functions_skipped {
	uint32_t no_memory; /* or the value is too long for it */
	uint32_t wrong_type;
};
void functions_add(struct functions *, uint8_t *states, const struct ss_field *values,
		   const struct ss_number *numbers, int64_t time_ns, uint64_t order,
		   struct functions_skipped *);
/* 0, -ENOMEM: some of the other is missing in states then. */
int functions_merge(const struct functions *, uint8_t *states, const uint8_t *others);
/* "name":value,"name":value in the order of the configuration. */
void functions_print(const struct functions *, const uint8_t *states, const struct span *,
		     struct ss_strbuf *);
/* Memory besides the states. */
size_t functions_heap(const struct functions *, const uint8_t *states);
void functions_clear(const struct functions *, uint8_t *states); /* empty, ready for use or to be forgotten */
/* A whole group as bytes and back: states, then what they have besides.  load: 0, -EINVAL, -ENOMEM (states
 * are empty then). */
void functions_save(const struct functions *, const uint8_t *states, struct ss_strbuf *);
int functions_load(const struct functions *, uint8_t *states, const uint8_t *bytes, size_t len);

/* functions_numbers.c, functions_values.c: NULL-ended */
extern const struct function_type *const functions_numbers[];
extern const struct function_type *const functions_values[];
