/* SPDX-License-Identifier: MIT */
#include <semstreams/base/refusal.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/event_fault.h>
#include <semstreams/ext/loop.h>

#define RECENT_NS UINT64_C(300000000000)

const char *const ss_errors_choices[] = {"count", "drop", "degrade", NULL};

static const struct ss_attribute_service *service(const struct ss_refusals *r)
{
	return r->attributes.vtbl;
}

void ss_refusals_init(struct ss_refusals *r, const struct ss_host *host, uint32_t port)
{
	*r = (struct ss_refusals){.host = host, .port = port};
	if (host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &r->attributes) < 0)
		r->attributes = (struct ss_iface){0};
	if (host->query(host, SS_LOOP, sizeof(struct ss_loop), &r->loop) < 0)
		r->loop = (struct ss_iface){0};
}

void ss_refusals_clear(struct ss_refusals *r)
{
	for (uint32_t i = 0; i < r->n; i++)
		service(r)->unref(r->attributes.self, r->rows[i].set);
	r->n = 0;
}

void ss_refusals_done(struct ss_refusals *r)
{
	ss_refusals_clear(r);
	free(r->rows);
	*r = (struct ss_refusals){0};
}

bool ss_refusals_used(const struct ss_refusals *r)
{
	return r->attributes.vtbl && SS_KNOWS(r->host, struct ss_host, output_read) && r->host->output_read &&
	       r->host->output_read(r->host, r->port);
}

static void set_text(struct ss_attributes *set, uint32_t which, const char *text)
{
	set->values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
}

/* The event's own set and what is new.  A set of a host that knows fewer attributes is shorter. */
static int make_set(const struct ss_refusals *r, const struct ss_batch *batch, const struct ss_event *event,
		    const char *error, const struct ss_attributes **out)
{
	const struct ss_attributes *own = ss_attributes_of(batch, event);
	struct ss_attributes set = {.struct_size = sizeof set, .flags = own ? own->flags : 0};

	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++)
		set.values[i] = ss_attribute_get(own, i);
	set_text(&set, SS_ATTR_ERROR, error);
	set_text(&set, SS_ATTR_COMPONENT, r->host->id);
	return service(r)->make(r->attributes.self, &set, out);
}

static int reserve(struct ss_refusals *r)
{
	if (r->n < r->capacity)
		return 0;
	const uint32_t capacity = 2 * r->capacity + 16;
	struct ss_refusal *grown = reallocarray(r->rows, capacity, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	r->rows = grown;
	r->capacity = capacity;
	return 0;
}

int ss_refusals_add(struct ss_refusals *r, const struct ss_batch *batch, const struct ss_event *event,
		    const char *reason, int32_t error, size_t where)
{
	char why[SS_ATTR_NAME_MAX + 1], text[sizeof why];

	ss_event_fault_reason(event, error, where, why, sizeof why);
	snprintf(text, sizeof text, "%s%s%.160s", reason, why[0] ? ": " : "", why);
	if (reserve(r) < 0)
		return -ENOMEM;
	const struct ss_attributes *set;
	if (make_set(r, batch, event, text, &set) < 0)
		return -ENOMEM;
	r->rows[r->n++] = (struct ss_refusal){.event = event, .set = set};
	return 0;
}

int64_t ss_refusals_emit(struct ss_refusals *r, struct ss_batch *batch, uint32_t *lost)
{
	const uint32_t n = r->n;
	struct ss_batch *out = n ? r->host->batch_new(r->host, batch, n, 0) : NULL;
	int64_t result = out || !n ? (int64_t)n : -ENOMEM;

	for (uint32_t i = 0; out && i < n; i++) {
		/* beyond the 65,535 sets that a batch can have, events keep the set they came with */
		const int32_t at = service(r)->attach(r->attributes.self, out, r->rows[i].set);
		out->events[i] = *r->rows[i].event;
		if (at > 0)
			out->events[i].attributes = (uint16_t)at;
	}
	if (out && n) {
		out->count = n;
		r->host->emit(r->host, r->port, out);
		r->host->batch_unref(out);
	}
	*lost = result < 0 ? n : 0;
	ss_refusals_clear(r);
	return result;
}

/* ---- those that nothing reads ---- */

static const struct ss_loop *loop(const struct ss_refusals *r)
{
	return r->loop.vtbl;
}

static void on_time(void *arg);

static bool wait_for_the_last(struct ss_refusals *r, uint64_t ns)
{
	return loop(r)->timer(r->loop.self, ns, 0, on_time, r, &r->timer) == 0;
}

static void on_time(void *arg)
{
	struct ss_refusals *r = arg;
	const uint64_t quiet_ns = loop(r)->now(r->loop.self) - r->dropped_ns;

	r->timer = 0;
	if (quiet_ns < RECENT_NS && wait_for_the_last(r, RECENT_NS - quiet_ns))
		return;
	r->trouble[0] = '\0';
	r->host->set_degraded(r->host, NULL);
}

bool ss_refusals_dropped(struct ss_refusals *r, int64_t errors, const char *reason)
{
	char text[sizeof r->trouble];

	if (errors != SS_ERRORS_DEGRADE || !r->loop.vtbl)
		return errors != SS_ERRORS_DROP;
	r->dropped_ns = loop(r)->now(r->loop.self);
	if (!r->timer && !wait_for_the_last(r, RECENT_NS))
		return true;
	snprintf(text, sizeof text,
		 "events are refused (%.32s) and dropped, as nothing reads \"%.64s.error\"", reason,
		 r->host->id);
	if (strcmp(text, r->trouble) != 0) {
		memcpy(r->trouble, text, sizeof text);
		r->host->set_degraded(r->host, text);
	}
	return true;
}

const char *ss_refusals_trouble(const struct ss_refusals *r)
{
	return r->trouble[0] ? r->trouble : NULL;
}
