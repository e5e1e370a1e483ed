/* SPDX-License-Identifier: MIT */
/* distinct - see sketches.h. */
#include "sketches.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define P         14
#define REGISTERS (1u << P)
#define Q         (64 - P) /* a register counts up to Q + 1 */

struct distinct {
	uint64_t *hashes;   /* exact: open addressing, 0 = free; NULL once there are registers */
	uint32_t n, size;   /* hashes in it; slots, a power of two */
	uint8_t *registers; /* NULL while exact */
};

static void *create(const struct function *f)
{
	(void)f;
	return calloc(1, sizeof(struct distinct));
}

static void destroy(void *sketch)
{
	struct distinct *d = sketch;

	if (!d)
		return;
	free(d->hashes);
	free(d->registers);
	free(d);
}

static void put_register(uint8_t *registers, uint64_t hash)
{
	uint64_t rest = hash << P;
	uint8_t zeros = rest ? (uint8_t)(__builtin_clzll(rest) + 1) : Q + 1;
	uint8_t *r = &registers[hash >> (64 - P)];

	if (zeros > *r)
		*r = zeros;
}

/* The slot of a hash, or the free one where it belongs. */
static uint64_t *slot_of(uint64_t *hashes, uint32_t size, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & (size - 1);

	while (hashes[i] && hashes[i] != hash)
		i = (i + 1) & (size - 1);
	return &hashes[i];
}

static int to_registers(struct distinct *d)
{
	uint8_t *registers = calloc(REGISTERS, 1);

	if (!registers)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->size; i++)
		if (d->hashes[i])
			put_register(registers, d->hashes[i]);
	free(d->hashes);
	d->hashes = NULL;
	d->n = d->size = 0;
	d->registers = registers;
	return 0;
}

static int grow(struct distinct *d)
{
	uint32_t size = d->size ? 2 * d->size : 16;
	uint64_t *hashes = calloc(size, sizeof *hashes);

	if (!hashes)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->size; i++)
		if (d->hashes[i])
			*slot_of(hashes, size, d->hashes[i]) = d->hashes[i];
	free(d->hashes);
	d->hashes = hashes;
	d->size = size;
	return 0;
}

static int add_hash(struct distinct *d, uint64_t hash)
{
	int rc;

	if (d->registers) {
		put_register(d->registers, hash);
		return 0;
	}
	hash += !hash; /* 0 means free */
	if (d->size) {
		uint64_t *slot = slot_of(d->hashes, d->size, hash);
		if (*slot)
			return 0;
		if (d->n < d->size - d->size / 4 && d->n < DISTINCT_EXACT) {
			*slot = hash;
			d->n++;
			return 0;
		}
	}
	rc = d->n < DISTINCT_EXACT ? grow(d) : to_registers(d);
	return rc < 0 ? rc : add_hash(d, hash);
}

static int add(void *sketch, const struct sample *s)
{
	return add_hash(sketch, s->hash[0]);
}

static int merge(void *sketch, const void *from)
{
	struct distinct *d = sketch;
	const struct distinct *other = from;
	int rc = other->registers && !d->registers ? to_registers(d) : 0;

	for (uint32_t i = 0; i < REGISTERS && other->registers && rc == 0; i++)
		if (other->registers[i] > d->registers[i])
			d->registers[i] = other->registers[i];
	for (uint32_t i = 0; i < other->size && rc == 0; i++)
		if (other->hashes[i])
			rc = add_hash(d, other->hashes[i]);
	return rc;
}

/* Ertl's sigma and tau: what empty and what full registers add to the sum. */
static double sigma(double x)
{
	double y = 1, z = x, before;

	if (x == 1)
		return INFINITY;
	do {
		x *= x;
		before = z;
		z += x * y;
		y += y;
	} while (z != before);
	return z;
}

static double tau(double x)
{
	double y = 1, z = 1 - x, before;

	if (x == 0 || x == 1)
		return 0;
	do {
		x = sqrt(x);
		before = z;
		y /= 2;
		z -= (1 - x) * (1 - x) * y;
	} while (z != before);
	return z / 3;
}

uint64_t distinct_count(const struct distinct *d)
{
	uint32_t of[Q + 2] = {0};
	double m = REGISTERS;

	if (!d->registers)
		return d->n;
	for (uint32_t i = 0; i < REGISTERS; i++)
		of[d->registers[i]]++;
	double z = m * tau(1 - of[Q + 1] / m);
	for (int k = Q; k >= 1; k--)
		z = (z + of[k]) / 2;
	z += m * sigma(of[0] / m);
	return (uint64_t)llround(m / (2 * M_LN2) * m / z);
}

static void print(const struct function *f, const void *sketch, struct ss_strbuf *out)
{
	(void)f;
	ss_strbuf_int(out, sketch ? (int64_t)distinct_count(sketch) : 0);
}

static size_t memory(const void *sketch)
{
	const struct distinct *d = sketch;

	return sizeof *d + d->size * sizeof *d->hashes + (d->registers ? REGISTERS : 0);
}

static void save(const void *sketch, struct ss_strbuf *out)
{
	const struct distinct *d = sketch;

	if (d->registers) {
		ss_strbuf_u64(out, UINT64_MAX);
		ss_strbuf_add(out, d->registers, REGISTERS);
		return;
	}
	ss_strbuf_u64(out, d->n);
	for (uint32_t i = 0; i < d->size; i++)
		if (d->hashes[i])
			ss_strbuf_u64(out, d->hashes[i]);
}

static int load(void *sketch, struct ss_unpack *r)
{
	struct distinct *d = sketch;
	uint64_t n = ss_unpack_u64(r);

	if (n == UINT64_MAX) {
		const uint8_t *registers = ss_unpack_bytes(r, REGISTERS);
		d->registers = registers ? malloc(REGISTERS) : NULL;
		if (!d->registers)
			return registers ? -ENOMEM : -EINVAL;
		for (uint32_t i = 0; i < REGISTERS; i++) {
			if (registers[i] > Q + 1)
				return -EINVAL;
			d->registers[i] = registers[i];
		}
	} else {
		if (r->failed || n > DISTINCT_EXACT)
			return -EINVAL;
		for (; n && !r->failed; n--) {
			int rc = add_hash(d, ss_unpack_u64(r));
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

const struct sketch distinct_sketch = {.create = create,
				       .free = destroy,
				       .add = add,
				       .merge = merge,
				       .print = print,
				       .memory = memory,
				       .save = save,
				       .load = load};
