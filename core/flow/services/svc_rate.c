/* SPDX-License-Identifier: MIT */
/* svc_rate - the service "semstreams.rate/1": an instance's limit of bytes per second. */
#include <errno.h>
#include <semstreams/ext/rate.h>
#include "core/admin/clock.h"
#include "core/config/rates.h"
#include "core/flow/component.h"

static int32_t join(void *self, const struct ss_rate_limit *limit, const char **other)
{
	struct component *c = self;
	const struct rate_limit given = {.owner = c->id,
					 .group = limit->group,
					 .rate = limit->rate,
					 .burst = limit->burst,
					 .priority = limit->priority};

	if (!limit->rate || c->rate)
		return -EINVAL;
	return rates_join(c->config->rates, &given, &c->rate, other);
}

static uint64_t ask(void *self, uint64_t *most)
{
	const struct component *c = self;

	*most = UINT64_MAX;
	return c->rate ? rate_ask(c->rate, clock_now(), most) : 0;
}

static void spend(void *self, uint64_t bytes)
{
	const struct component *c = self;

	if (c->rate)
		rate_spend(c->rate, clock_now(), bytes);
}

static void rest(void *self)
{
	const struct component *c = self;

	if (c->rate)
		rate_rest(c->rate);
}

const struct ss_rate rate_service = {
	.struct_size = sizeof(struct ss_rate),
	.join = join,
	.ask = ask,
	.spend = spend,
	.rest = rest,
};
