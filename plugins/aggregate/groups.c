/* SPDX-License-Identifier: MIT */
/* groups - see groups.h. */
#include "groups.h"
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEADS_MIN = 64,
	CELLS_MAX = 1u << 30,
	EMPTY_MAX = 2,  /* empty slabs that stay allocated */
	ALLOCATION = 16 /* overhead of an allocation, bytes */
};

/* ---- making ---- */

int groups_new(struct functions *functions, struct groups **out)
{
	struct groups *g = calloc(1, sizeof *g);

	if (!g)
		return -ENOMEM;
	g->functions = functions;
	g->cell_size = (uint32_t)sizeof(struct group) + functions->size;
	g->heads_n = g->heads_room = g->level = HEADS_MIN;
	g->heads = calloc(g->heads_room, sizeof *g->heads);
	if (!g->heads) {
		free(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

static void release(struct groups *g, struct group *c)
{
	if (c->key_len > KEY_NEAR)
		free(c->key.far);
	functions_clear(g->functions, group_states(c));
	c->used = 0;
}

struct group *groups_peek(const struct groups *g, uint32_t index)
{
	const struct slab *s = &g->slabs[(index - 1) / SLAB_CELLS];
	struct group *c = (index - 1) % SLAB_CELLS < s->top ? groups_at(g, index) : NULL;

	return c && c->used ? c : NULL;
}

void groups_free(struct groups *g)
{
	if (!g)
		return;
	for (uint32_t i = 1; i <= groups_end(g); i++)
		if (groups_peek(g, i))
			release(g, groups_at(g, i));
	for (uint32_t i = 0; i < g->n_slabs; i++)
		free(g->slabs[i].cells);
	free(g->slabs);
	free(g->heads);
	free(g->windows);
	free(g);
}

size_t groups_used(const struct groups *g)
{
	return (size_t)g->n * g->cell_size + g->heads_n * sizeof *g->heads +
	       g->n_windows * sizeof *g->windows + g->heap;
}

size_t groups_memory(const struct groups *g)
{
	return (size_t)g->allocated * SLAB_CELLS * g->cell_size + g->slabs_room * sizeof *g->slabs +
	       g->heads_room * sizeof *g->heads + g->windows_room * sizeof *g->windows + g->heap;
}

/* ---- windows ---- */

uint32_t window_new(struct groups *g, int64_t start_ns, int64_t end_ns)
{
	uint32_t index = g->windows_free;

	if (index) {
		g->windows_free = g->windows[index].next;
	} else {
		if (g->windows_top + 1 >= g->windows_room) {
			uint32_t room = g->windows_room ? 2 * g->windows_room : 16;
			struct window *windows = realloc(g->windows, room * sizeof *windows);
			if (!windows)
				return 0;
			g->windows = windows;
			g->windows_room = room;
		}
		index = ++g->windows_top;
	}
	g->windows[index] = (struct window){.start_ns = start_ns, .end_ns = end_ns, .open = true};
	g->n_windows++;
	return index;
}

void window_free(struct groups *g, uint32_t window)
{
	g->windows[window] = (struct window){.next = g->windows_free};
	g->windows_free = window;
	g->n_windows--;
}

/* ---- the index ---- */

/* Linear hashing (Litwin 1980): chains below heads_n - level have been split already. */
static uint32_t *head_of(const struct groups *g, uint32_t hash)
{
	uint32_t i = hash & (g->level - 1);

	if (i < g->heads_n - g->level)
		i = hash & (2 * g->level - 1);
	return &g->heads[i];
}

static void split_one(struct groups *g)
{
	uint32_t from = g->heads_n - g->level, to = g->heads_n;

	if (g->heads_n == g->heads_room) {
		uint32_t *heads = realloc(g->heads, 2 * (size_t)g->heads_room * sizeof *heads);
		if (!heads)
			return; /* then chains only get longer */
		g->heads = heads;
		g->heads_room *= 2;
	}
	uint32_t chain = g->heads[from];
	uint32_t *stay = &g->heads[from], *leave = &g->heads[to];
	*stay = *leave = 0;
	while (chain) {
		struct group *c = groups_at(g, chain);
		uint32_t next = c->chain;
		uint32_t **end = (c->hash & (2 * g->level - 1)) == from ? &stay : &leave;
		**end = chain;
		c->chain = 0;
		*end = &c->chain;
		chain = next;
	}
	if (++g->heads_n == 2 * g->level)
		g->level *= 2;
}

static bool is_key(const struct group *c, uint32_t hash, const char *key, size_t len)
{
	return c->hash == hash && c->key_len == len && memcmp(group_key(c), key, len) == 0;
}

uint32_t groups_find(const struct groups *g, uint32_t hash, uint32_t window, const char *key, size_t len)
{
	uint32_t i = *head_of(g, hash);

	while (i) {
		const struct group *c = groups_at(g, i);
		if (c->window == window && is_key(c, hash, key, len))
			break;
		i = c->chain;
	}
	return i;
}

uint32_t groups_find_key(const struct groups *g, uint32_t hash, uint32_t after, const char *key, size_t len)
{
	uint32_t i = after ? groups_at(g, after)->chain : *head_of(g, hash);

	while (i && !is_key(groups_at(g, i), hash, key, len))
		i = groups_at(g, i)->chain;
	return i;
}

/* ---- groups ---- */

static int new_slab(struct groups *g)
{
	if (g->n_slabs == CELLS_MAX / SLAB_CELLS)
		return -ENOMEM;
	if (g->n_slabs == g->slabs_room) {
		uint32_t room = g->slabs_room ? 2 * g->slabs_room : 16;
		struct slab *slabs = realloc(g->slabs, room * sizeof *slabs);
		if (!slabs)
			return -ENOMEM;
		g->slabs = slabs;
		g->slabs_room = room;
	}
	g->slabs[g->n_slabs++] = (struct slab){0};
	g->roomy = g->n_slabs;
	return 0;
}

static uint32_t take_cell(struct groups *g)
{
	if (!g->roomy && new_slab(g) < 0)
		return 0;
	uint32_t slab = g->roomy - 1, in;
	struct slab *s = &g->slabs[slab];

	if (!s->cells) {
		s->cells = malloc((size_t)SLAB_CELLS * g->cell_size);
		if (!s->cells)
			return 0;
		g->allocated++;
		g->empty++;
	}
	g->empty -= s->used == 0;
	if (s->free) {
		in = s->free - 1u;
		s->free = (uint16_t)groups_at(g, slab * SLAB_CELLS + in + 1)->chain;
	} else {
		in = s->top++;
	}
	if (++s->used == SLAB_CELLS)
		g->roomy = s->next;
	return slab * SLAB_CELLS + in + 1;
}

static void give_cell(struct groups *g, uint32_t index)
{
	uint32_t slab = (index - 1) / SLAB_CELLS;
	struct slab *s = &g->slabs[slab];

	groups_at(g, index)->chain = s->free;
	s->free = (uint16_t)((index - 1) % SLAB_CELLS + 1);
	if (s->used-- == SLAB_CELLS) {
		s->next = g->roomy;
		g->roomy = slab + 1;
	}
	if (s->used)
		return;
	s->free = s->top = 0;
	if (++g->empty > EMPTY_MAX) {
		free(s->cells);
		s->cells = NULL;
		g->allocated--;
		g->empty--;
	}
}

static void link_last(struct groups *g, uint32_t index, uint32_t window)
{
	struct window *w = &g->windows[window];
	struct group *c = groups_at(g, index);

	c->window = window;
	c->prev = w->last;
	c->next = 0;
	*(w->last ? &groups_at(g, w->last)->next : &w->first) = index;
	w->last = index;
	w->n++;
}

uint32_t groups_add(struct groups *g, uint32_t hash, uint32_t window, const char *key, size_t len)
{
	char *far = len > KEY_NEAR ? malloc(len) : NULL;
	uint32_t index = len > KEY_NEAR && !far ? 0 : take_cell(g);

	if (!index) {
		free(far);
		return 0;
	}
	if (g->n >= g->heads_n)
		split_one(g);
	struct group *c = groups_at(g, index);
	memset(c, 0, g->cell_size);
	c->hash = hash;
	c->used = 1;
	c->saved = (uint8_t)g->snapshot; /* not part of a snapshot that began earlier */
	c->born = ++g->born;
	c->key_len = (uint16_t)len;
	if (far)
		c->key.far = far;
	memcpy(far ? far : c->key.near, key, len);
	g->heap += far ? len + ALLOCATION : 0;
	uint32_t *head = head_of(g, hash);
	c->chain = *head;
	*head = index;
	link_last(g, index, window);
	g->n++;
	return index;
}

void groups_remove(struct groups *g, uint32_t index)
{
	groups_touch(g, index);
	struct group *c = groups_at(g, index);
	struct window *w = &g->windows[c->window];
	uint32_t *at = head_of(g, c->hash);

	while (*at != index)
		at = &groups_at(g, *at)->chain;
	*at = c->chain;
	*(c->prev ? &groups_at(g, c->prev)->next : &w->first) = c->next;
	*(c->next ? &groups_at(g, c->next)->prev : &w->last) = c->prev;
	w->n--;
	g->heap -= (c->key_len > KEY_NEAR ? (size_t)c->key_len + ALLOCATION : 0) +
		   functions_heap(g->functions, group_states(c));
	release(g, c);
	give_cell(g, index);
	g->n--;
}

/* ---- snapshots ---- */

static void save_group(struct groups *g, struct group *c)
{
	const struct window *w = &g->windows[c->window];
	struct ss_strbuf *out = g->save_to;

	ss_strbuf_u64(out, (uint64_t)w->start_ns);
	ss_strbuf_u64(out, (uint64_t)w->end_ns);
	ss_strbuf_u64(out, c->born);
	ss_strbuf_u64(out, c->key_len);
	ss_strbuf_add(out, group_key(c), c->key_len);
	size_t at = out->len;
	ss_strbuf_u64(out, 0);
	functions_save(g->functions, group_states(c), out);
	if (out->failed)
		return;
	put_u64(out->bytes + at, out->len - at - 8);
	g->saved_groups++;
}

void groups_save_one(struct groups *g, uint32_t index)
{
	struct group *c = groups_at(g, index);

	if (c->saved == (uint8_t)g->snapshot)
		return;
	c->saved = (uint8_t)g->snapshot;
	save_group(g, c);
}

void groups_save_begin(struct groups *g, struct ss_strbuf *out)
{
	g->snapshot++;
	g->saving = true;
	g->save_next = 0;
	g->save_end = g->n_slabs;
	g->save_to = out;
	g->saved_groups = 0;
}

bool groups_save_step(struct groups *g, uint32_t n)
{
	for (; g->saving && g->save_next < g->save_end && n; g->save_next++) {
		uint32_t first = g->save_next * SLAB_CELLS + 1;
		for (uint32_t i = first; i < first + g->slabs[g->save_next].top; i++)
			if (groups_at(g, i)->used)
				groups_save_one(g, i);
		n -= n < SLAB_CELLS ? n : SLAB_CELLS;
	}
	g->saving = g->saving && g->save_next < g->save_end;
	return !g->saving;
}

int groups_read(struct ss_unpack *r, struct saved_group *out)
{
	if (r->at == r->end)
		return 0;
	out->start_ns = (int64_t)ss_unpack_u64(r);
	out->end_ns = (int64_t)ss_unpack_u64(r);
	out->born = ss_unpack_u64(r);
	out->key_len = ss_unpack_u64(r);
	out->key = (const char *)ss_unpack_bytes(r, out->key_len);
	out->states_len = ss_unpack_u64(r);
	out->states = ss_unpack_bytes(r, out->states_len);
	return r->failed || out->key_len > KEY_MAX ? -EINVAL : 1;
}

struct aged {
	uint64_t born;
	uint32_t index;
};

static int by_age(const void *a, const void *b)
{
	const struct aged *x = a, *y = b;

	return (x->born > y->born) - (x->born < y->born);
}

int groups_loaded(struct groups *g)
{
	struct aged *all = calloc((size_t)g->n + 1, sizeof *all);
	uint32_t n = 0;

	if (!all)
		return -ENOMEM;
	for (uint32_t i = 1; i <= groups_end(g); i++) {
		const struct group *c = groups_peek(g, i);
		if (!c)
			continue;
		all[n++] = (struct aged){c->born, i};
		g->born = c->born > g->born ? c->born : g->born;
	}
	qsort(all, n, sizeof *all, by_age);
	for (uint32_t w = 1; w <= g->windows_top; w++)
		g->windows[w].first = g->windows[w].last = g->windows[w].n = 0;
	for (uint32_t i = 0; i < n; i++)
		link_last(g, all[i].index, groups_at(g, all[i].index)->window);
	free(all);
	return 0;
}
