/* SPDX-License-Identifier: MIT */
/* svc_attributes - the service "semstreams.attributes/1": what events carry besides their payload. */
#include "core/flow/component.h"

void attributes_tell_upstream(struct component *c)
{
	for (size_t i = 0; i < c->n_inputs; i++)
		if (!atomic_exchange_explicit(&c->inputs[i]->from->attributes_wanted, true,
					      memory_order_relaxed))
			attributes_tell_upstream(c->inputs[i]->from);
}

static void want(void *self)
{
	struct component *c = self;

	if (!c->wants_attributes)
		attributes_tell_upstream(c); /* nobody, in create: nothing is wired yet */
	c->wants_attributes = true;
}

static int32_t wanted(void *self)
{
	struct component *c = self;

	return atomic_load_explicit(&c->attributes_wanted, memory_order_relaxed);
}

static int32_t make(void *self, const struct ss_attributes *values, const struct ss_attributes **out)
{
	(void)self;
	return attributes_make(values, out);
}

static void ref(void *self, const struct ss_attributes *set)
{
	(void)self;
	attributes_ref(set);
}

static void unref(void *self, const struct ss_attributes *set)
{
	(void)self;
	attributes_unref(set);
}

static int32_t attach(void *self, struct ss_batch *b, const struct ss_attributes *set)
{
	(void)self;
	return attributes_attach(b, &((struct batch *)b)->attributes, set);
}

const struct ss_attribute_service attribute_service = {
	.struct_size = sizeof(struct ss_attribute_service),
	.want = want,
	.wanted = wanted,
	.make = make,
	.ref = ref,
	.unref = unref,
	.attach = attach,
};
