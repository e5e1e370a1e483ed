/* SPDX-License-Identifier: MIT */
/*
 * groups - the table from (window, key) to a cell with the states of the functions.
 * A snapshot can be taken while events go on: a group is saved before its first change after the
 * snapshot began, the others a few at a time.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "functions.h"
#include <semstreams/base/strbuf.h>

#define KEY_NEAR 24 /* bytes of a key in the cell itself */
#define KEY_MAX  4096

/* A window of time whose events are summarized.  Cells and windows are named by index from 1; 0 = none. */
struct window {
	int64_t start_ns, end_ns; /* session: of the first event, of the last event + gap */
	uint32_t first, last, n;  /* its groups in the order they came */
	uint32_t next;            /* free windows, and those being closed */
	uint32_t place;           /* in the heap of sessions, see panes.h */
	bool open;
};

struct group {
	uint32_t hash, chain;
	uint32_t next, prev; /* in its window */
	uint32_t window;
	uint16_t key_len;
	uint8_t used;
	uint8_t saved; /* the low bits of the number of the snapshot it is in */
	uint64_t born; /* order among all groups, kept through a restart */
	union {
		char near[KEY_NEAR];
		char *far;
	} key;
	uint64_t states[];
};

enum { SLAB_CELLS = 256 };

struct slab {
	uint8_t *cells;           /* NULL: none are in use */
	uint32_t next;            /* with room, + 1 */
	uint16_t used, top, free; /* cells in use, ever used, first free one by chain, + 1 */
};

struct groups {
	struct functions *functions;
	uint32_t cell_size;
	struct slab *slabs;
	uint32_t n_slabs, slabs_room;
	uint32_t allocated, empty; /* slabs that have cells, and those of which none is in use */
	uint32_t roomy;            /* first slab with room, + 1 */
	uint32_t n;                /* cells in use */
	uint32_t *heads;           /* linear hashing: heads_n chains, growing by one */
	uint32_t heads_n, heads_room, level;
	size_t heap;   /* bytes besides cells: long keys, sketches */
	uint64_t born; /* of the newest */

	struct window *windows; /* from 1 */
	uint32_t windows_top, windows_room, windows_free, n_windows;

	uint64_t snapshot; /* number of the present or last snapshot */
	bool saving;
	uint32_t save_next, save_end; /* slabs */
	struct ss_strbuf *save_to;
	uint64_t saved_groups;
};

/* functions is borrowed.  0, -ENOMEM. */
int groups_new(struct functions *, struct groups **out);
void groups_free(struct groups *);

static inline struct group *groups_at(const struct groups *g, uint32_t index)
{
	index--;
	return (struct group *)(void *)(g->slabs[index >> 8].cells + (size_t)(index & 255) * g->cell_size);
}
static inline uint8_t *group_states(struct group *c)
{
	return (uint8_t *)c->states;
}
static inline const char *group_key(const struct group *c)
{
	return c->key_len <= KEY_NEAR ? c->key.near : c->key.far;
}

/* ---- windows ---- */

/* 0: out of memory. */
uint32_t window_new(struct groups *, int64_t start_ns, int64_t end_ns);
/* The window must have no groups. */
void window_free(struct groups *, uint32_t window);

/* ---- groups ---- */

/* The group of a key in a window; 0: there is none.  hash is the key's. */
uint32_t groups_find(const struct groups *, uint32_t hash, uint32_t window, const char *key, size_t len);
/* The next group with this key and hash after index (0: the first), whatever its window. */
uint32_t groups_find_key(const struct groups *, uint32_t hash, uint32_t after, const char *key, size_t len);
/* A new, empty group at the end of its window; 0: out of memory.  The key is copied. */
uint32_t groups_add(struct groups *, uint32_t hash, uint32_t window, const char *key, size_t len);
void groups_remove(struct groups *, uint32_t index);
/* To be called before a group, its key, its states or its window change. */
void groups_save_one(struct groups *, uint32_t index);
static inline void groups_touch(struct groups *g, uint32_t index)
{
	if (__builtin_expect(g->saving, 0))
		groups_save_one(g, index);
}
/* The group at an index; NULL: none.  Indices go up to groups_end(). */
struct group *groups_peek(const struct groups *, uint32_t index);
static inline uint32_t groups_end(const struct groups *g)
{
	return g->n_slabs * SLAB_CELLS;
}
/* Bytes that groups take, and bytes allocated, which include gaps. */
size_t groups_used(const struct groups *);
size_t groups_memory(const struct groups *);

/* ---- snapshots ---- */

/* Save all groups as they are now to out, a few in each groups_save_step() until it returns true.  One that
 * was begun before is given up. */
void groups_save_begin(struct groups *, struct ss_strbuf *out);
/* Save about n more groups; true: finished. */
bool groups_save_step(struct groups *, uint32_t n);

struct saved_group {
	int64_t start_ns, end_ns;
	uint64_t born;
	const char *key;
	size_t key_len;
	const uint8_t *states;
	size_t states_len;
};
/* The next group of a snapshot: 1, 0 at its end, -EINVAL. */
int groups_read(struct ss_unpack *, struct saved_group *);
/* After the last group was loaded: restore the order of the groups of each window.  0, -ENOMEM. */
int groups_loaded(struct groups *);
