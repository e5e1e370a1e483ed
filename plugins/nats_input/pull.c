/* SPDX-License-Identifier: MIT */
/* pull - asking for messages: up to two requests at a time, so that there is no pause between two. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/nats_input/nats_input.h"

enum { EXPIRES = 3 }; /* times the timeout; with heartbeats of half of it */

uint64_t pull_left(const struct input *in)
{
	uint64_t left = 0;

	for (int i = 0; i < PULLS; i++)
		left += in->pulls[i].left;
	return left;
}

void pull_forget(struct input *in)
{
	memset(in->pulls, 0, sizeof in->pulls);
}

/* The first one is answered first. */
static void end(struct input *in, int i)
{
	for (; i + 1 < PULLS; i++)
		in->pulls[i] = in->pulls[i + 1];
	in->pulls[PULLS - 1] = (struct pull){0};
}

static bool ask(struct input *in, struct pull *p, uint32_t n, uint64_t bytes)
{
	char subject[600], reply[256], body[256];
	natsConnection *nc = nats_conn_handle(in->conn);

	p->id = ++in->last_pull;
	snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", in->conf->stream,
		 in->conf->durable);
	snprintf(reply, sizeof reply, "%sp%" PRIu64, nats_conn_inbox(in->conn), p->id);
	const int len = snprintf(body, sizeof body,
				 "{\"batch\":%" PRIu32 ",\"max_bytes\":%" PRIu64 ",\"expires\":%" PRId64
				 ",\"idle_heartbeat\":%" PRId64 "}",
				 n, bytes, EXPIRES * in->conf->timeout, in->conf->timeout / 2);
	if (!nc || natsConnection_PublishRequest(nc, subject, reply, body, len) != NATS_OK) {
		*p = (struct pull){0};
		return false;
	}
	p->left = n;
	return true;
}

void pull_more(struct input *in)
{
	const uint64_t batch = (uint64_t)in->conf->batch, memory = (uint64_t)in->conf->memory;

	while (in->running && !in->paused && !in->ending && !in->failed && !in->server_waits) {
		const uint64_t left = pull_left(in);
		const uint64_t held = in->n_flying + ss_ring_count(&in->got) + left;
		const uint64_t most = (uint64_t)in->conf->max_pending;
		const uint64_t room = held < most ? most - held : 0, n = room < batch ? room : batch;
		struct pull *p = in->pulls[0].id ? &in->pulls[1] : &in->pulls[0];
		/* two requests share the memory; small ones are not worth it while another is under way */
		if (p->id || n == 0 || in->bytes > memory / 2 || (left && (n < batch / 2 || left > batch)))
			return;
		if (in->pulls[0].id == 0)
			in->heard_ns = input_now(in);
		if (!ask(in, p, (uint32_t)n, memory / 4))
			return;
	}
}

void pull_got(struct input *in)
{
	in->heard_ns = input_now(in);
	in->too_long = false;
	if (in->pulls[0].left && --in->pulls[0].left == 0)
		end(in, 0);
}

static const char *header(natsMsg *msg, const char *name)
{
	const char *value = NULL;

	return natsMsgHeader_Get(msg, name, &value) == NATS_OK && value ? value : "";
}

/* A pull ended before it had all it asked for, for a reason that passes. */
static void put_off(struct input *in, const char *why)
{
	in->server_waits = true;
	if (!strstr(why, "MaxBytes"))
		return;
	if (in->bytes == 0 && in->too_long)
		consumer_trouble(
			in, SS_LOG_ERROR,
			"A message of the stream is longer than a quarter of the option memory, so nothing "
			"after it is read; make memory larger");
	in->too_long = true;
	in->server_waits = in->bytes == 0;
}

void pull_status(struct input *in, const char *token, natsMsg *msg)
{
	const uint64_t id = token[0] == 'p' ? strtoull(token + 1, NULL, 10) : 0;
	const char *status = header(msg, "Status"), *why = header(msg, "Description");

	in->heard_ns = input_now(in);
	if (strcmp(status, "100") == 0)
		return;
	for (int i = 0; i < PULLS; i++)
		if (id && in->pulls[i].id == id)
			end(in, i--);
	if (strcmp(status, "408") == 0 || strcmp(status, "404") == 0)
		return; /* there was nothing for so long */
	if (strstr(why, "Consumer Deleted") || strstr(why, "Consumer is push based"))
		nats_conn_fail(
			in->conn,
			"the durable was deleted or made anew by somebody else; if another host reads with "
			"it, both need many as readers");
	else
		put_off(in, why);
}
