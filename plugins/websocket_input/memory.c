/* SPDX-License-Identifier: MIT */
/*
 * memory - what all senders together may have on their way: the windows of those that are connected, and the
 * events of all that are not durable yet, never add up to more than the option memory.  Half of it is for
 * equal parts, one for each sender that there may be.  The rest is a pool: a sender that uses its window up
 * gets more of it, but never more than is left for the others then, so that of those that are fast each gets
 * the same.  One that sends nothing keeps little.  On the instance's loop.
 */
#include "input.h"

#define IDLE_NS UINT64_C(10000000000) /* without events */

static uint64_t equal_part(const struct input *in)
{
	return (uint64_t)in->conf->memory / 2 / in->senders.max;
}

static uint64_t pool(const struct input *in)
{
	return (uint64_t)in->conf->memory - equal_part(in) * in->senders.max;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t left_of_pool(const struct input *in)
{
	const uint64_t all = pool(in);

	return in->extra < all ? all - in->extra : 0;
}

/* What all may have at once without using up the pool. */
static uint64_t idle_window(const struct input *in)
{
	const uint64_t n = in->peers.n_links ? in->peers.n_links : 1;

	return least(equal_part(in) + pool(in) / 2 / n, (uint64_t)in->conf->window_bytes);
}

uint64_t memory_first_window(const struct input *in)
{
	return least(idle_window(in), equal_part(in) + left_of_pool(in) / 4);
}

void memory_count(struct sender *s)
{
	struct input *in = s->in;
	const uint64_t open = s->peer ? link_receiver_open(&s->link) : 0, all = open + s->in_flight;
	const uint64_t part = equal_part(in), extra = all > part ? all - part : 0;

	in->memory += all - s->memory;
	in->extra += extra - s->extra;
	s->memory = all;
	s->extra = extra;
}

/* By what it does. */
static uint64_t wanted(struct sender *s, uint64_t now_ns, uint64_t idle)
{
	const struct link_receiver *r = &s->link;
	uint64_t window = r->window.bytes;

	if (r->got_bytes < s->grown_at)
		s->grown_at = 0; /* of an earlier connection */
	if (now_ns - s->used_ns >= IDLE_NS) {
		window = idle;
	} else if (r->got_bytes - s->grown_at >= window / 2) {
		s->grown_at = r->got_bytes;
		window *= 2;
	}
	if (s->starved && window < r->max_frame)
		window = r->max_frame;
	return window > idle ? window : idle;
}

void memory_share(struct sender *s, uint64_t now_ns)
{
	const struct input *in = s->in;
	struct link_receiver *r = &s->link;
	const uint64_t part = equal_part(in), left = left_of_pool(in), idle = idle_window(in);

	if (r->state != LINK_LIVE_STATE)
		return;
	uint64_t window = least(wanted(s, now_ns, idle), idle > part + left ? idle : part + left);
	/* what it has on its way counts, and what it was granted already is not there to be given again */
	const uint64_t most = part + s->extra + left + r->got_bytes - r->durable_bytes;
	window = least(window, most > s->in_flight ? most - s->in_flight : 0);
	window = least(window, (uint64_t)in->conf->window_bytes);
	/* what it was told that it may send goes through, one record at a time */
	if (s->starved && s->outgrown && window < r->max_frame)
		window = r->max_frame;
	/* others wait for what an idle one gives up, and one that is starved waits itself */
	r->tell_window |= window < r->window.bytes / 8 * 7 || (s->starved && window > r->window.bytes);
	r->window.bytes = window;
	r->tell_window |= r->window.records != (uint64_t)in->conf->window_records;
	r->window.records = (uint64_t)in->conf->window_records;
}

uint64_t memory_due(const struct sender *s, uint64_t now_ns)
{
	const uint64_t until = s->used_ns + IDLE_NS, window = s->link.window.bytes;

	if (s->link.state != LINK_LIVE_STATE || window <= equal_part(s->in))
		return UINT64_MAX;
	if (window <= idle_window(s->in))
		return now_ns + 2 * IDLE_NS; /* more may have come */
	return until > now_ns ? until : now_ns + IDLE_NS;
}
