/* SPDX-License-Identifier: MIT */
/* list_out - who is served and who would be, for the page of peers. */
#include <stdlib.h>
#include <string.h>
#include "output.h"

static struct parting *find(const struct output *out, const char *consumer)
{
	for (uint32_t i = 0; i < out->n_partings; i++)
		if (strcmp(out->partings[i].consumer, consumer) == 0)
			return &out->partings[i];
	return NULL;
}

/* Consumers are few, and names that are not known any more give way. */
static struct parting *take(struct output *out)
{
	if (!out->partings)
		out->partings = calloc(SENDLOG_CONSUMERS_MAX, sizeof *out->partings);
	if (!out->partings)
		return NULL;
	if (out->n_partings < out->conf->max_consumers)
		return &out->partings[out->n_partings++];
	free(out->partings[0].error);
	memmove(out->partings, out->partings + 1, (out->n_partings - 1) * sizeof *out->partings);
	return &out->partings[out->n_partings - 1];
}

void list_out_parting(struct output_peer *p, int code, bool by_peer, const char *why)
{
	const char *consumer = p->session.consumer;
	struct parting *parting = consumer[0] ? find(p->out, consumer) : NULL;

	if (parting)
		free(parting->error);
	else if (!consumer[0] || !(parting = take(p->out)))
		return;
	*parting = (struct parting){.error = peers_error(code, by_peer, why)};
	memcpy(parting->consumer, consumer, sizeof parting->consumer);
}

void list_out_done(struct output *out)
{
	for (uint32_t i = 0; i < out->n_partings; i++)
		free(out->partings[i].error);
	free(out->partings);
}

static void list_link(const struct output *out, const struct output_peer *p, const struct ss_peer_rows *rows)
{
	const struct link_sender *s = &p->session;
	const struct parting *parting = find(out, s->consumer);
	const uint64_t last = sendlog_committed(out->log);

	peers_row(&out->peers, &p->common,
		  (struct ss_peer){.role = "consumer",
				   .name = s->consumer[0] ? s->consumer : NULL,
				   .stream = out->conf->stream,
				   .last_error = parting ? parting->error : NULL,
				   .lag = last > s->acked ? last - s->acked : 0,
				   .unacknowledged = s->sent - s->acked,
				   .rate_milli = peer_meter_milli(&p->meter, out->loop->now(out->loop_self))},
		  rows);
}

/* Its log is kept for it. */
static void list_away(const struct output *out, const struct sendlog_consumer *c,
		      const struct ss_peer_rows *rows)
{
	const struct parting *parting = find(out, c->name);
	const uint64_t last = sendlog_committed(out->log);

	peers_row(&out->peers, NULL,
		  (struct ss_peer){.role = "consumer",
				   .name = c->name,
				   .flags = c->verified ? SS_PEER_VERIFIED : 0,
				   .stream = out->conf->stream,
				   .last_error = parting ? parting->error : NULL,
				   .since_ns = c->seen_ns,
				   .lag = last > c->acked ? last - c->acked : 0},
		  rows);
}

void list_out(void *output, const struct ss_peer_rows *rows)
{
	struct output *out = output;
	struct sendlog_consumer c;
	uint32_t n = 0;

	for (const struct output_peer *p = first_peer(out); p; p = next_peer(p)) {
		if (p->common.link)
			list_link(out, p, rows);
		else
			peers_row(&out->peers, &p->common, (struct ss_peer){.role = "subscriber"}, rows);
	}
	for (uint32_t i = 0; sendlog_consumer(out->log, i, &c); i++, n++)
		if (!link_out_here(out, c.name))
			list_away(out, &c, rows);
	if (out->peers.dials && !n && !out->peers.first)
		peers_row(&out->peers, NULL, (struct ss_peer){.role = "consumer"}, rows);
}
