/* SPDX-License-Identifier: MIT */
/*
 * fields_scan - inside of the field reader: the compiled paths (fields_path.c) and the scanner that walks a
 * document along them (fields_scan.c).  Pure functions, any thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

/*
 * The paths as a tree of names; a node stands for every path that begins with the names down to it.  Nodes
 * lie in depth first order, so those below one follow it directly, and so do their paths in ss_reader.order.
 */
struct field_node {
	/* as a child: its name, decoded */
	uint64_t head; /* first 8 bytes as a little-endian number, zero-filled */
	uint64_t tail; /* last 8 bytes of a name longer than 8, else 0 */
	const uint8_t *name;
	uint32_t name_len;
	uint32_t element; /* the name as an index into an array, FIELD_NO_ELEMENT if it is none */
	/* paths: order[first..own_end) end here, order[own_end..end) lie below */
	uint32_t first, own_end, end;
	/* as a parent */
	uint32_t nodes_end; /* number of the first node behind all those below this one */
	uint64_t lengths; /* bit min(length, 63) is set if a child's name has that length; 0 = no children */
	const struct field_node **slots;    /* children by hash of their name, open addressing, never full */
	const struct field_node **elements; /* children that may be array elements, by index */
	uint32_t n_elements;
	uint32_t shift; /* hash >> shift is a slot */
};
#define FIELD_NO_ELEMENT UINT32_MAX

struct ss_reader {
	uint32_t n; /* paths */
	uint32_t n_nodes;
	struct field_node *nodes;        /* nodes[0] is the document */
	uint32_t *order;                 /* path numbers, in the order of the nodes */
	const struct field_node **links; /* memory for slots and elements */
	uint8_t *names;
};

int32_t fields_compile(void *self, const char *const *paths, uint32_t n, struct ss_reader **out,
		       uint32_t *bad);
void fields_free(void *self, struct ss_reader *);
int32_t fields_read(void *self, const struct ss_reader *, const void *json, size_t len, struct ss_field *out,
		    size_t *where);
int32_t fields_number(void *self, const struct ss_field *, double *out);
int32_t fields_integer(void *self, const struct ss_field *, int64_t *out);
int64_t fields_unescape(void *self, const struct ss_field *, char *buf, size_t size);

/*
 * Decode one piece of a string's text, which is *at (not the end): an escape or one plain byte.  Moves *at
 * behind it; how many bytes it became in out (1 to 4), 0 if it is a malformed escape.
 */
unsigned fields_decode(const uint8_t **at, const uint8_t *end, uint8_t out[4]);

static inline uint64_t fields_hash(uint64_t head, uint64_t tail, uint32_t len)
{
	return (head ^ (tail << 21 | tail >> 43) ^ len) * UINT64_C(0x9E3779B97F4A7C15);
}
