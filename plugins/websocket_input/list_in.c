/* SPDX-License-Identifier: MIT */
/* list_in - who sends, for the page of peers. */
#include "input.h"

static uint64_t lag(const struct sender *s)
{
	const uint64_t got = s->link.got, said = s->log_next ? s->log_next - 1 : 0;

	return (got > said ? got : said) - s->link.durable;
}

static void list_sender(const struct input *in, const struct sender *s, const struct ss_peer_rows *rows)
{
	const struct ss_peer row = {.role = "sender",
				    .name = s->name->text[0] ? s->name->text : NULL,
				    .flags = s->name->text[0] ? SS_PEER_VERIFIED : 0,
				    .stream = s->stream[0] ? s->stream : NULL,
				    .last_error = s->last_error,
				    .since_ns = s->left_wall_ns,
				    .lag = lag(s),
				    .unacknowledged = s->link.got - s->link.durable,
				    .rate_milli = peer_meter_milli(&s->meter, in->loop->now(in->loop_self))};

	peers_row(&in->peers, s->peer ? &s->peer->common : NULL, row, rows);
}

void list_in(void *input, const struct ss_peer_rows *rows)
{
	const struct input *in = input;

	for (uint32_t i = 0; i < in->senders.n_slots; i++)
		if (in->senders.slots[i])
			list_sender(in, in->senders.slots[i], rows);
	for (const struct peer *p = in->peers.n_plain ? in->peers.first : NULL; p; p = p->next)
		if (!p->link)
			peers_row(&in->peers, p, (struct ss_peer){.role = "plain"}, rows);
	if (in->peers.dials && !in->senders.n && !in->peers.n_plain)
		peers_row(&in->peers, NULL, (struct ss_peer){.role = "sender"}, rows);
}
