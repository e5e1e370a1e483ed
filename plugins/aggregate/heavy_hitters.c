/* SPDX-License-Identifier: MIT */
/* heavy_hitters - see sketches.h. */
#include "sketches.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONE       UINT32_MAX
#define COUNT_MAX  (UINT64_C(1) << 62) /* accepted from a checkpoint */
#define ALLOCATION 16                  /* overhead of an allocation, bytes */

struct counter {
	uint64_t n, hash;
	char *text; /* JSON */
	uint32_t len;
	uint32_t place; /* in the heap */
};

/* Counters stay where they are; slots find them by hash, the heap has the one with the least count first. */
struct heavy_hitters {
	struct counter *counters;
	uint32_t *heap;
	uint32_t *slots;      /* open addressing: counter + 1, 0 = free */
	uint32_t mask;        /* slots - 1; slots are twice size at least */
	uint32_t n, size;     /* counters used, allocated */
	uint32_t capacity, k; /* counters at most; values to be printed */
	size_t bytes;         /* of texts */
};

static void *create(const struct function *f)
{
	struct heavy_hitters *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->k = f->n;
	t->capacity = t->k < 10 ? 100 : 10 * t->k;
	return t;
}

static void empty(struct heavy_hitters *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		free(t->counters[i].text);
	free(t->counters);
	free(t->heap);
	free(t->slots);
}

static void destroy(void *sketch)
{
	if (sketch)
		empty(sketch);
	free(sketch);
}

/* ---- the heap ---- */

static void put(struct heavy_hitters *t, uint32_t place, uint32_t i)
{
	t->heap[place] = i;
	t->counters[i].place = place;
}

static uint64_t n_at(const struct heavy_hitters *t, uint32_t place)
{
	return t->counters[t->heap[place]].n;
}

/* Restore the heap around a counter whose count has changed. */
static void sift(struct heavy_hitters *t, uint32_t place, uint32_t i)
{
	uint64_t n = t->counters[i].n;

	for (; place && n_at(t, (place - 1) / 2) > n; place = (place - 1) / 2)
		put(t, place, t->heap[(place - 1) / 2]);
	for (;;) {
		uint32_t least = 2 * place + 1;
		if (least + 1 < t->n && n_at(t, least + 1) < n_at(t, least))
			least++;
		if (least >= t->n || n_at(t, least) >= n)
			break;
		put(t, place, t->heap[least]);
		place = least;
	}
	put(t, place, i);
}

/* ---- the slots ---- */

/* The slot of a hash, or the free one where it belongs. */
static uint32_t slot_of(const struct heavy_hitters *t, uint64_t hash)
{
	uint32_t s = (uint32_t)hash & t->mask;

	while (t->slots[s] && t->counters[t->slots[s] - 1].hash != hash)
		s = (s + 1) & t->mask;
	return s;
}

static uint32_t find(const struct heavy_hitters *t, uint64_t hash)
{
	return t->size && t->slots[slot_of(t, hash)] ? t->slots[slot_of(t, hash)] - 1 : NONE;
}

/* Move later entries into the gap, so that each is found from the slot its hash points to. */
static void clear_slot(struct heavy_hitters *t, uint32_t gap)
{
	t->slots[gap] = 0;
	for (uint32_t s = (gap + 1) & t->mask; t->slots[s]; s = (s + 1) & t->mask) {
		uint32_t home = (uint32_t)t->counters[t->slots[s] - 1].hash & t->mask;
		if (((s - home) & t->mask) < ((s - gap) & t->mask))
			continue;
		t->slots[gap] = t->slots[s];
		t->slots[s] = 0;
		gap = s;
	}
}

static int grow(struct heavy_hitters *t)
{
	uint32_t size = t->size ? 2 * t->size : 8, mask = 15;

	size = size < t->capacity ? size : t->capacity;
	while (mask + 1 < 2 * size)
		mask = 2 * mask + 1;
	uint32_t *slots = calloc(mask + 1, sizeof *slots);
	struct counter *counters = slots ? realloc(t->counters, size * sizeof *counters) : NULL;
	if (counters)
		t->counters = counters;
	uint32_t *heap = counters ? realloc(t->heap, size * sizeof *heap) : NULL;
	if (!heap) {
		free(slots);
		return -ENOMEM;
	}
	t->heap = heap;
	free(t->slots);
	t->slots = slots;
	t->mask = mask;
	t->size = size;
	for (uint32_t i = 0; i < t->n; i++)
		t->slots[slot_of(t, t->counters[i].hash)] = i + 1;
	return 0;
}

/* ---- counting ---- */

/* Count a value n times; its text is copied if the value is new. */
static int count(struct heavy_hitters *t, uint64_t hash, const char *value, size_t len, bool quoted,
		 uint64_t n)
{
	uint32_t i = find(t, hash), whole = (uint32_t)len + (quoted ? 2 : 0);
	uint64_t before = 0;

	if (i != NONE) {
		t->counters[i].n += n;
		sift(t, t->counters[i].place, i);
		return 0;
	}
	if (t->n == t->size && t->size < t->capacity && grow(t) < 0)
		return -ENOMEM;
	char *text = malloc(len + 2);
	if (!text)
		return -ENOMEM;
	text[0] = '"';
	memcpy(text + quoted, value, len);
	if (quoted)
		text[len + 1] = '"';
	if (t->n < t->size) {
		i = t->n++;
		t->counters[i].place = i;
	} else {
		struct counter *least = &t->counters[i = t->heap[0]];
		before = least->n;
		t->bytes -= least->len + ALLOCATION;
		clear_slot(t, slot_of(t, least->hash));
		free(least->text);
	}
	struct counter *c = &t->counters[i];
	*c = (struct counter){.n = before + n, .hash = hash, .text = text, .len = whole, .place = c->place};
	t->bytes += whole + ALLOCATION;
	t->slots[slot_of(t, hash)] = i + 1;
	sift(t, c->place, i);
	return 0;
}

static int add(void *sketch, const struct sample *s)
{
	if (s->field->len > HEAVY_HITTERS_VALUE_MAX)
		return -E2BIG;
	return count(sketch, s->hash[0], s->field->text, s->field->len, s->field->type == SS_JSON_STRING, 1);
}

/* The count that a value missing in a sketch may have had there: its least count, if it is full. */
static uint64_t missing(const struct heavy_hitters *t)
{
	return t->n == t->capacity ? n_at(t, 0) : 0;
}

static int by_count(const void *a, const void *b)
{
	const struct counter *x = *(const struct counter *const *)a, *y = *(const struct counter *const *)b;

	if (x->n != y->n)
		return x->n < y->n ? 1 : -1;
	size_t len = x->len < y->len ? x->len : y->len;
	int order = memcmp(x->text, y->text, len);
	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* The counters by count, greatest first; malloced, NULL if out of memory. */
static const struct counter **sorted(const struct heavy_hitters *t)
{
	const struct counter **list = calloc(t->n + 1, sizeof *list);

	for (uint32_t i = 0; list && i < t->n; i++)
		list[i] = &t->counters[i];
	if (list)
		qsort(list, t->n, sizeof *list, by_count);
	return list;
}

/* Add the values of one sketch, with the counts they may have had in the other. */
static int count_all(struct heavy_hitters *into, const struct heavy_hitters *one,
		     const struct heavy_hitters *other)
{
	uint64_t most = missing(other);
	int rc = 0;

	for (uint32_t i = 0; i < one->n && rc == 0; i++) {
		const struct counter *c = &one->counters[i];
		rc = count(into, c->hash, c->text, c->len, false,
			   c->n + (find(other, c->hash) == NONE ? most : 0));
	}
	return rc;
}

static int merge(void *sketch, const void *other)
{
	struct heavy_hitters *t = sketch;
	struct heavy_hitters both = {.k = t->k, .capacity = 2 * t->capacity};
	struct heavy_hitters merged = {.k = t->k, .capacity = t->capacity};
	int rc = count_all(&both, t, other);

	if (rc == 0)
		rc = count_all(&both, other, t);
	const struct counter **list = rc == 0 ? sorted(&both) : NULL;
	if (!list)
		rc = -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < both.n && i < t->capacity; i++)
		rc = count(&merged, list[i]->hash, list[i]->text, list[i]->len, false, list[i]->n);
	free(list);
	empty(&both);
	if (rc < 0) {
		empty(&merged);
		return rc;
	}
	empty(t);
	*t = merged;
	return 0;
}

static void print(const struct function *f, const void *sketch, struct ss_strbuf *out)
{
	static const struct heavy_hitters none;
	const struct heavy_hitters *t = sketch ? sketch : &none;
	const struct counter **list = sorted(t);

	(void)f;
	if (!list) {
		out->failed = true;
		return;
	}
	ss_strbuf_text(out, "[");
	for (uint32_t i = 0; i < t->n && i < t->k; i++) {
		ss_strbuf_text(out, i ? ",{\"value\":" : "{\"value\":");
		ss_strbuf_add(out, list[i]->text, list[i]->len);
		ss_strbuf_text(out, ",\"count\":");
		ss_strbuf_int(out, (int64_t)list[i]->n);
		ss_strbuf_text(out, "}");
	}
	ss_strbuf_text(out, "]");
	free(list);
}

static size_t memory(const void *sketch)
{
	const struct heavy_hitters *t = sketch;

	return sizeof *t + t->size * (sizeof *t->counters + sizeof *t->heap) +
	       (t->size ? t->mask + 1 : 0) * sizeof *t->slots + t->bytes;
}

static void save(const void *sketch, struct ss_strbuf *out)
{
	const struct heavy_hitters *t = sketch;

	ss_strbuf_u64(out, t->n);
	for (uint32_t i = 0; i < t->n; i++) {
		ss_strbuf_u64(out, t->counters[i].hash);
		ss_strbuf_u64(out, t->counters[i].n);
		ss_strbuf_u64(out, t->counters[i].len);
		ss_strbuf_add(out, t->counters[i].text, t->counters[i].len);
	}
}

static int load(void *sketch, struct ss_unpack *r)
{
	struct heavy_hitters *t = sketch;
	uint64_t n = ss_unpack_u64(r);
	int rc = n > t->capacity ? -EINVAL : 0;

	for (; n && rc == 0; n--) {
		uint64_t hash = ss_unpack_u64(r), times = ss_unpack_u64(r), size = ss_unpack_u64(r);
		const uint8_t *text = ss_unpack_bytes(r, size);
		rc = text && size && size <= HEAVY_HITTERS_VALUE_MAX + 2 && times <= COUNT_MAX &&
				     find(t, hash) == NONE
			     ? count(t, hash, (const char *)text, size, false, times)
			     : -EINVAL;
	}
	return rc;
}

const struct sketch heavy_hitters_sketch = {.create = create,
					    .free = destroy,
					    .add = add,
					    .merge = merge,
					    .print = print,
					    .memory = memory,
					    .save = save,
					    .load = load};
