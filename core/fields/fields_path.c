/* SPDX-License-Identifier: MIT */
/* fields_path - compiles dotted paths and JSON pointers into the tree the scanner follows.  Runs in any
 * thread. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields_block.h"
#include "core/fields/fields_scan.h"

/* A path taken apart: each name with a NUL behind it, so that byte order keeps everything below a name
 * together. */
struct path {
	const uint8_t *names;
	size_t len;
	uint32_t number;
};

/* Take one path apart into *to, which has room for strlen(path) + 1 bytes; the bytes written, -EINVAL. */
static int64_t split(const char *path, uint8_t *to)
{
	const bool pointer = *path == '/';
	const char separator = pointer ? '/' : '.';
	uint8_t *at = to;

	if (*path == '\0')
		return 0;
	for (const char *p = path + pointer;; p++) {
		if (*p == separator || *p == '\0') {
			if (!pointer && (at == to || at[-1] == '\0'))
				return -EINVAL; /* a dotted path with an empty name is a typing error */
			*at++ = '\0';
			if (*p == '\0')
				return at - to;
		} else if (pointer && *p == '~') {
			p++;
			if (*p != '0' && *p != '1')
				return -EINVAL;
			*at++ = *p == '0' ? '~' : '/';
		} else {
			*at++ = (uint8_t)*p;
		}
	}
}

static int by_names(const void *a, const void *b)
{
	const struct path *x = a, *y = b;
	size_t common = x->len < y->len ? x->len : y->len;
	int order = common ? memcmp(x->names, y->names, common) : 0;
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int by_element(const void *a, const void *b)
{
	const struct field_node *x = *(const struct field_node *const *)a,
				*y = *(const struct field_node *const *)b;
	return (x->element > y->element) - (x->element < y->element);
}

/* An array index as RFC 6901 writes it: digits without leading zeros. */
static uint32_t element_of(const uint8_t *name, uint32_t len)
{
	uint64_t value = 0;
	if (len == 0 || len > 10 || (name[0] == '0' && len > 1))
		return FIELD_NO_ELEMENT;
	for (uint32_t i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return FIELD_NO_ELEMENT;
		value = value * 10 + (name[i] - '0');
	}
	return value < FIELD_NO_ELEMENT ? (uint32_t)value : FIELD_NO_ELEMENT;
}

static void name_node(struct field_node *node, const uint8_t *name, size_t len)
{
	uint8_t head[8] = {0};
	memcpy(head, name, len < 8 ? len : 8);
	node->name = name;
	node->name_len = (uint32_t)len;
	node->head = fields_load64(head);
	node->tail = len > 8 ? fields_load64(name + len - 8) : 0;
	node->element = element_of(name, (uint32_t)len);
}

/* How many bytes of whole names two paths share at their beginning. */
static size_t shared(const struct path *a, const struct path *b)
{
	size_t whole = 0;
	for (size_t i = 0; i < a->len && i < b->len && a->names[i] == b->names[i]; i++)
		if (a->names[i] == '\0')
			whole = i + 1;
	return whole;
}

/*
 * Make the nodes of sorted paths.  open[] are the nodes from the document to the current one, ends[] where in
 * the current path each one's name ends; both have room for the deepest path.
 */
static void grow(struct ss_reader *r, const struct path *paths, uint32_t *open, size_t *ends)
{
	uint32_t depth = 0;
	r->n_nodes = 1;
	open[0] = 0;
	ends[0] = 0;
	for (uint32_t i = 0; i < r->n; i++) {
		const struct path *path = &paths[i];
		size_t at = i ? shared(&paths[i - 1], path) : 0;
		for (; ends[depth] > at; depth--) {
			r->nodes[open[depth]].end = i;
			r->nodes[open[depth]].nodes_end = r->n_nodes;
		}
		while (at < path->len) {
			size_t len = strlen((const char *)path->names + at);
			struct field_node *node = &r->nodes[r->n_nodes];
			name_node(node, path->names + at, len);
			node->first = node->own_end = i;
			at += len + 1;
			depth++;
			open[depth] = r->n_nodes++;
			ends[depth] = at;
		}
		r->order[i] = path->number;
		r->nodes[open[depth]].own_end = i + 1;
	}
	for (uint32_t i = 0; i <= depth; i++) {
		r->nodes[open[i]].end = r->n;
		r->nodes[open[i]].nodes_end = r->n_nodes;
	}
}

/* Number of slots for n children: a power of two, at most half of them taken. */
static uint32_t slot_bits(uint32_t n)
{
	uint32_t bits = 1;
	while ((UINT64_C(1) << bits) < 2 * (uint64_t)n)
		bits++;
	return bits;
}

/* Tables of the children of one node, in memory at links; returns the memory behind. */
static const struct field_node **link_children(struct ss_reader *r, struct field_node *node,
					       const struct field_node **links)
{
	const uint32_t self = (uint32_t)(node - r->nodes);
	uint32_t n = 0;

	for (uint32_t c = self + 1; c < node->nodes_end; c = r->nodes[c].nodes_end)
		n++;
	if (n == 0)
		return links;
	const uint32_t bits = slot_bits(n), mask = (UINT32_C(1) << bits) - 1;
	node->shift = 64 - bits;
	node->slots = links;
	node->elements = links + mask + 1;
	for (uint32_t c = self + 1; c < node->nodes_end; c = r->nodes[c].nodes_end) {
		const struct field_node *child = &r->nodes[c];
		uint64_t slot = fields_hash(child->head, child->tail, child->name_len) >> node->shift;
		while (node->slots[slot])
			slot = (slot + 1) & mask;
		node->slots[slot] = child;
		node->lengths |= UINT64_C(1) << (child->name_len < 63 ? child->name_len : 63);
		if (child->element != FIELD_NO_ELEMENT)
			node->elements[node->n_elements++] = child;
	}
	qsort(node->elements, node->n_elements, sizeof *node->elements, by_element);
	return node->elements + node->n_elements;
}

/* Paths into the reader; *bad as compile() has it. */
static int build(struct ss_reader *r, const char *const *texts, struct path *paths, uint32_t *bad)
{
	uint8_t *names = r->names;
	size_t n_names = 0, deepest = 0;
	int err = -ENOMEM;

	for (uint32_t i = 0; i < r->n; i++) {
		int64_t len = split(texts[i], names);
		if (len < 0) {
			if (bad)
				*bad = i;
			return (int)len;
		}
		size_t depth = 0;
		for (int64_t k = 0; k < len; k++)
			depth += names[k] == '\0';
		n_names += depth;
		deepest = depth > deepest ? depth : deepest;
		paths[i] = (struct path){names, (size_t)len, i};
		names += len;
	}
	if (n_names >= UINT32_MAX / 8)
		return -ENOMEM;
	qsort(paths, r->n, sizeof *paths, by_names);

	/* each node takes at most 4 slots and one element of its parent */
	r->nodes = calloc(n_names + 1, sizeof *r->nodes);
	r->links = calloc(5 * n_names + 1, sizeof *r->links);
	uint32_t *open = calloc(deepest + 1, sizeof *open);
	size_t *ends = calloc(deepest + 1, sizeof *ends);
	if (r->nodes && r->links && open && ends) {
		grow(r, paths, open, ends);
		const struct field_node **links = r->links;
		for (uint32_t i = 0; i < r->n_nodes; i++)
			links = link_children(r, &r->nodes[i], links);
		err = 0;
	}
	free(open);
	free(ends);
	return err;
}

int32_t fields_compile(void *self, const char *const *paths, uint32_t n, struct ss_reader **out,
		       uint32_t *bad)
{
	(void)self;
	size_t size = 1;
	for (uint32_t i = 0; i < n; i++)
		size += strlen(paths[i]) + 1;

	struct ss_reader *r = calloc(1, sizeof *r);
	struct path *sorted = calloc((size_t)n + 1, sizeof *sorted);
	int err = -ENOMEM;
	if (r && sorted) {
		r->n = n;
		r->names = malloc(size);
		r->order = calloc((size_t)n + 1, sizeof *r->order);
		if (r->names && r->order)
			err = build(r, paths, sorted, bad);
	}
	free(sorted);
	if (err) {
		fields_free(NULL, r);
		return err;
	}
	*out = r;
	return 0;
}

void fields_free(void *self, struct ss_reader *r)
{
	(void)self;
	if (!r)
		return;
	free(r->nodes);
	free(r->links);
	free(r->order);
	free(r->names);
	free(r);
}
