/* SPDX-License-Identifier: MIT */
/* attributes - the service semstreams.attributes/1 of the test host. */
#include "test_host_impl.h"

#include <string.h>

static void want(void *self)
{
	struct ss_test_host *h = self;
	require_inst(h);
	h->wants_attributes = true;
}

static int32_t wanted(void *self)
{
	const struct ss_test_host *h = self;
	require_inst(h);
	return h->attributes_wanted;
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

static int32_t attach(void *self, struct ss_batch *batch, const struct ss_attributes *set)
{
	struct batch *b = (struct batch *)batch;
	require_inst(self);
	require(!b->emitted, "attributes attached after emit");
	return attributes_attach(batch, &b->attributes, set);
}

const struct ss_attribute_service test_attributes = {
	.struct_size = sizeof(struct ss_attribute_service),
	.want = want,
	.wanted = wanted,
	.make = make,
	.ref = ref,
	.unref = unref,
	.attach = attach,
};

void ss_test_host_attributes(struct ss_test_host *h, struct ss_batch *batch, uint32_t row,
			     const char *const texts[SS_ATTR_COUNT], uint32_t flags)
{
	struct ss_attributes values = {.struct_size = sizeof values, .flags = flags};
	const struct ss_attributes *set = NULL;
	require(row < batch->count, "attributes of a row that the batch does not have");
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++)
		if (texts[i])
			values.values[i] =
				(struct ss_attribute){.text = texts[i], .len = (uint32_t)strlen(texts[i])};
	require(attributes_make(&values, &set) == 0, "attributes that the host refuses");
	int32_t at = attach(h, batch, set);
	require(at > 0, "more attributes than a batch has room for");
	batch->events[row].attributes = (uint16_t)at;
	attributes_unref(set);
}
