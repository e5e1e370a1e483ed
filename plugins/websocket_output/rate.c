/* SPDX-License-Identifier: MIT */
/*
 * rate - the limit of bytes per second that all links of an output share, perhaps with other outputs of the
 * host.  Links take turns: each sends one message, and of those that had to wait the first goes on first.
 */
#include <errno.h>
#include "output.h"

/* What the headers of WebSocket, TLS, TCP, IP and the line add, about, and how much one packet carries. */
enum { PACKET_OVERHEAD = 100, PACKET_PAYLOAD = 1400 };

static int find_service(struct output *out)
{
	struct ss_iface rate;

	int rc = out->host->query(out->host, SS_RATE, sizeof *out->rate, &rate);
	out->rate = rc < 0 ? NULL : rate.vtbl;
	out->rate_self = rc < 0 ? NULL : rate.self;
	return rc;
}

int rate_join(struct output *out)
{
	const struct output_conf *conf = out->conf;
	const struct ss_rate_limit limit = {.struct_size = sizeof limit,
					    .priority = (uint32_t)conf->priority,
					    .group = conf->rate_group,
					    .rate = (uint64_t)conf->max_rate,
					    .burst = (uint64_t)conf->burst};
	const char *other;

	if (!conf->max_rate)
		return conf->rate_group || conf->burst || conf->priority
			       ? ss_config_error(out->host, "/max_rate",
						 "burst, rate_group and priority need a max_rate")
			       : 0;
	if (!conf->links)
		return ss_config_error(out->host, "/max_rate", "max_rate limits links, and links is false");
	int rc = find_service(out);
	if (rc < 0)
		return ss_config_error(out->host, "/max_rate", "this host does not limit rates");
	rc = out->rate->join(out->rate_self, &limit, &other);
	if (rc != -EEXIST)
		return rc;
	return ss_config_error(
		out->host, "/rate_group",
		"outputs of one rate_group share one limit: \"%s\" has another max_rate or burst", other);
}

static void on_time(void *arg)
{
	struct output *out = arg;
	struct output_peer *first = NULL;

	out->rate_timer = 0;
	for (struct output_peer *p = first_peer(out); p; p = next_peer(p))
		if (p->common.link && p->turn && (!first || p->turn < first->turn))
			first = p;
	if (first)
		link_out_pump(first);
	for (struct output_peer *p = first_peer(out), *next; p; p = next) {
		next = next_peer(p);
		if (p->common.link && p->turn)
			link_out_pump(p);
	}
	rate_rest(out);
}

/* Who waits may have to wait for less, or not at all. */
void rate_reconfigured(struct output *out)
{
	out->rate = NULL;
	if (out->conf->max_rate)
		find_service(out);
	out->loop->cancel(out->loop_self, out->rate_timer);
	on_time(out);
}

bool rate_allows(struct output_peer *p, uint64_t *most)
{
	struct output *out = p->out;
	uint64_t wait = out->rate ? out->rate->ask(out->rate_self, most) : 0;

	if (wait == 0)
		return true;
	if (!p->turn)
		p->turn = ++out->turns;
	if (!out->rate_timer) {
		out->host->metric_add(out->host, METRIC_RATE_WAITS, 1);
		out->loop->timer(out->loop_self, wait, 0, on_time, out, &out->rate_timer);
	}
	return false;
}

void rate_sent(struct output_peer *p, size_t bytes)
{
	p->turn = 0;
	if (p->out->rate)
		p->out->rate->spend(p->out->rate_self,
				    bytes + PACKET_OVERHEAD * (1 + bytes / PACKET_PAYLOAD));
}

void rate_rest(struct output *out)
{
	if (out->rate && !out->rate_timer)
		out->rate->rest(out->rate_self);
}
