/* SPDX-License-Identifier: MIT */
/*
 * attributes - sets of attributes of events, and the tables of batches that refer to them: what is behind the
 * service "semstreams.attributes/1" (semstreams/ext/attributes.h), in the host and in the test host.
 */
#pragma once
#include <semstreams/ext/attributes.h>

struct attribute_block;

/* Of a batch that has sets of its own; zero: it has none, or those of its parent. */
struct attribute_table {
	struct attribute_block *block; /* the newest; NULL: there is room in first */
	const struct ss_attributes *first;
	uint32_t capacity;
	uint32_t bytes; /* of the sets */
};

/* [any] Contracts of ss_attribute_service. */
int32_t attributes_make(const struct ss_attributes *values, const struct ss_attributes **out);
void attributes_ref(const struct ss_attributes *);
void attributes_unref(const struct ss_attributes *);
int32_t attributes_attach(struct ss_batch *, struct attribute_table *of_it, const struct ss_attributes *);

/* The child has the attributes of its parent. */
static inline void attributes_inherit(struct ss_batch *child, const struct ss_batch *parent)
{
	child->attributes = parent->attributes;
	child->n_attributes = parent->n_attributes;
}
/* Make the rows of a copy, which are those of another batch, name sets of the copy's own.  -ENOMEM. */
int32_t attributes_copy(struct ss_batch *copy, struct attribute_table *of_it, const struct ss_batch *from);
/* The batch is at its end: give the sets of its own back. */
void attributes_done(const struct ss_batch *, struct attribute_table *of_it);
