/* SPDX-License-Identifier: MIT */
/* svc_attributes - the service "semstreams.attributes/1": what events carry besides their payload. */
#include "core/flow/component.h"

void attributes_tell_upstream(struct component *c)
{
	for (size_t i = 0; i < c->n_inputs; i++)
		if (!atomic_exchange(&c->inputs[i]->from->attributes_wanted, true))
			attributes_tell_upstream(c->inputs[i]->from);
}

static void find_due(struct component *c)
{
	if (tap_any(&c->taps))
		c->attributes_due = true;
	for (size_t i = 0; (c->attributes_due || atomic_load(&c->wants_attributes)) && i < c->n_inputs; i++)
		c->inputs[i]->from->attributes_due = true;
}

/* Who begins to want them meanwhile is told upstream in the end, as may not have been heard before. */
void attributes_settle(struct component *const *order, size_t n)
{
	for (size_t i = 0; i < n; i++)
		order[i]->attributes_due = false;
	for (size_t i = n; i-- > 0;)
		find_due(order[i]);
	for (size_t i = 0; i < n; i++)
		if (atomic_load(&order[i]->attributes_wanted) != order[i]->attributes_due)
			atomic_store(&order[i]->attributes_wanted, order[i]->attributes_due);
	for (size_t i = 0; i < n; i++)
		if (atomic_load(&order[i]->wants_attributes))
			attributes_tell_upstream(order[i]);
}

static void want(void *self)
{
	struct component *c = self;

	/* nobody is told in create: nothing is wired yet */
	if (!atomic_exchange(&c->wants_attributes, true))
		attributes_tell_upstream(c);
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
