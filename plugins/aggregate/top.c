/* SPDX-License-Identifier: MIT */
/* top - see top.h. */
#include "top.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct counter {
	uint64_t n;
	char *text; /* JSON */
	uint32_t len;
};

/* hashes lie by themselves, so that looking one up runs through little memory. */
struct top {
	uint64_t *hashes;
	struct counter *counters;
	uint32_t n, size, capacity, k; /* used, allocated, at most */
};

struct top *top_new(uint32_t k)
{
	struct top *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->k = k;
	t->capacity = k < 10 ? 100 : 10 * k;
	return t;
}

void top_free(struct top *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < t->n; i++)
		free(t->counters[i].text);
	free(t->counters);
	free(t->hashes);
	free(t);
}

static uint32_t find(const struct top *t, uint64_t hash)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->hashes[i] == hash)
			return i;
	return NONE;
}

static uint32_t least(const struct top *t)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < t->n; i++)
		if (t->counters[i].n < t->counters[best].n)
			best = i;
	return best;
}

static int grow(struct top *t)
{
	uint32_t size = t->size ? 2 * t->size : 16;

	size = size < t->capacity ? size : t->capacity;
	uint64_t *hashes = realloc(t->hashes, size * sizeof *hashes);
	if (!hashes)
		return -ENOMEM;
	t->hashes = hashes;
	struct counter *counters = realloc(t->counters, size * sizeof *counters);
	if (!counters)
		return -ENOMEM;
	t->counters = counters;
	t->size = size;
	return 0;
}

/* n more of a value, whose text is copied if it is new. */
static int count(struct top *t, uint64_t hash, const char *value, size_t len, bool quoted, uint64_t n)
{
	uint32_t i = find(t, hash);
	uint64_t before = 0;

	if (i != NONE) {
		t->counters[i].n += n;
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
	} else {
		i = least(t);
		before = t->counters[i].n;
		free(t->counters[i].text);
	}
	t->hashes[i] = hash;
	t->counters[i] =
		(struct counter){.n = before + n, .text = text, .len = (uint32_t)len + (quoted ? 2 : 0)};
	return 0;
}

int top_add(struct top *t, uint64_t hash, const char *value, size_t len, int quoted)
{
	if (len > TOP_VALUE_MAX)
		return -E2BIG;
	return count(t, hash, value, len, quoted, 1);
}

/* What a value that is in one only may have had in the other: its least count, if it is full. */
static uint64_t missing(const struct top *t)
{
	return t->n == t->capacity ? t->counters[least(t)].n : 0;
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
static const struct counter **sorted(const struct top *t)
{
	const struct counter **list = calloc(t->n + 1, sizeof *list);

	for (uint32_t i = 0; list && i < t->n; i++)
		list[i] = &t->counters[i];
	if (list)
		qsort(list, t->n, sizeof *list, by_count);
	return list;
}

int top_merge(struct top *t, const struct top *other)
{
	uint64_t here = missing(t), there = missing(other);
	struct top both = {.k = t->k, .capacity = 2 * t->capacity};
	int rc = 0;

	for (uint32_t i = 0; i < t->n && rc == 0; i++) {
		const struct counter *c = &t->counters[i];
		uint64_t extra = find(other, t->hashes[i]) == NONE ? there : 0;
		rc = count(&both, t->hashes[i], c->text, c->len, false, c->n + extra);
	}
	for (uint32_t i = 0; i < other->n && rc == 0; i++) {
		const struct counter *c = &other->counters[i];
		uint64_t extra = find(t, other->hashes[i]) == NONE ? here : 0;
		rc = count(&both, other->hashes[i], c->text, c->len, false, c->n + extra);
	}
	const struct counter **list = rc == 0 ? sorted(&both) : NULL;
	struct top merged = {.k = t->k, .capacity = t->capacity};
	for (uint32_t i = 0; list && i < both.n && i < t->capacity && rc == 0; i++)
		rc = count(&merged, both.hashes[list[i] - both.counters], list[i]->text, list[i]->len, false,
			   list[i]->n);
	if (list && rc == 0) {
		struct top old = *t;
		*t = merged;
		merged = old;
	} else {
		rc = -ENOMEM;
	}
	free(list);
	struct top *spent[] = {&both, &merged};
	for (size_t s = 0; s < 2; s++) {
		for (uint32_t i = 0; i < spent[s]->n; i++)
			free(spent[s]->counters[i].text);
		free(spent[s]->counters);
		free(spent[s]->hashes);
	}
	return rc;
}

void top_print(const struct top *t, struct text *out)
{
	const struct counter **list = sorted(t);

	if (!list) {
		out->failed = true;
		return;
	}
	text_string(out, "[");
	for (uint32_t i = 0; i < t->n && i < t->k; i++) {
		text_string(out, i ? ",{\"value\":" : "{\"value\":");
		text_bytes(out, list[i]->text, list[i]->len);
		text_string(out, ",\"count\":");
		text_int(out, (int64_t)list[i]->n);
		text_string(out, "}");
	}
	text_string(out, "]");
	free(list);
}

size_t top_memory(const struct top *t)
{
	size_t sum = sizeof *t + t->size * (sizeof *t->hashes + sizeof *t->counters);

	for (uint32_t i = 0; i < t->n; i++)
		sum += t->counters[i].len;
	return sum;
}

void top_save(const struct top *t, struct text *out)
{
	text_u64(out, t->n);
	for (uint32_t i = 0; i < t->n; i++) {
		text_u64(out, t->hashes[i]);
		text_u64(out, t->counters[i].n);
		text_u64(out, t->counters[i].len);
		text_bytes(out, t->counters[i].text, t->counters[i].len);
	}
}

int top_load(const uint8_t *bytes, size_t len, uint32_t k, struct top **out)
{
	struct reading r = {.at = bytes, .end = bytes + len};
	struct top *t = top_new(k);
	uint64_t n = reading_u64(&r);
	int rc = t ? 0 : -ENOMEM;

	if (t && n > t->capacity)
		rc = -EINVAL;
	for (; n && rc == 0; n--) {
		uint64_t hash = reading_u64(&r), times = reading_u64(&r), size = reading_u64(&r);
		const uint8_t *text = reading_bytes(&r, size);
		rc = text && size <= TOP_VALUE_MAX + 2
			     ? count(t, hash, (const char *)text, size, false, times)
			     : -EINVAL;
	}
	if (rc == 0 && (r.failed || r.at != r.end))
		rc = -EINVAL;
	if (rc < 0)
		top_free(t);
	else
		*out = t;
	return rc;
}
