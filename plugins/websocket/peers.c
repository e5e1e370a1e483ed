/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/units.h>
#include <semstreams/sugar.h>
#include <semstreams/base/url.h>

#define LOST_HOLD_NS     UINT64_C(600000000000) /* a loss stays visible in /readyz for so long */
#define LOAD_HOLD_NS     UINT64_C(60000000000)
#define REPLACED_MAX_NS  UINT64_C(600000000000)
#define REPLACED_DOUBLES 5

void peers_init(struct peers *ps, const struct ss_host *host, const struct endpoint_conf *conf)
{
	*ps = (struct peers){.host = host, .conf = conf, .dials = conf->url != NULL};
	ss_url_redact(conf->url ? conf->url : "", ps->url, sizeof ps->url);
}

uint64_t peers_wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int peers_add(struct peers *ps, struct peer *p, const char *name)
{
	char *copy = name ? strdup(name) : NULL;

	if (name && !copy)
		return -ENOMEM;
	p->name = copy;
	p->since_ns = peers_wall_ns();
	p->next = ps->first;
	p->back = &ps->first;
	if (p->next)
		p->next->back = &p->next;
	ps->first = p;
	*(p->link ? &ps->n_links : &ps->n_plain) += 1;
	ps->host->metric_add(ps->host, PEER_CONNECTIONS, 1);
	ps->host->metric_add(ps->host, PEER_CONNECTED, 1);
	ss_log(ps->host, SS_LOG_INFO, "Connected mode=%s peer=%s", p->link ? "link" : "plain",
	       name ? name : "-");
	return 0;
}

static uint32_t close_row(int code)
{
#define CLOSE_NUMBER(c) c,
	static const int codes[] = {PEER_CLOSE_CODES(CLOSE_NUMBER)};
	const uint32_t n = sizeof codes / sizeof codes[0];
	uint32_t i = 0;

	while (i < n && codes[i] != code)
		i++;
	return i;
}

/* A browser tab that is closed says 1001, 1005 or nothing. */
static bool is_usual(const struct peer *p, int code)
{
	return code == 1000 || code == 1001 || (!p->link && (code == 1005 || code == 1006));
}

void peers_remove(struct peers *ps, struct peer *p, int code, bool by_peer, const char *who, const char *why)
{
	ps->host->metric_add(ps->host, PEER_CONNECTIONS, -1);
	ps->host->metric_add(ps->host, PEER_CLOSES + close_row(code), 1);
	if (p->live) {
		ps->n_live--;
		ps->host->metric_add(ps->host, PEER_LINKS, -1);
	}
	ss_log(ps->host, is_usual(p, code) ? SS_LOG_INFO : SS_LOG_WARN,
	       "Connection closed code=%d by=%s peer=%s reason=\"%s\"", code, by_peer ? "peer" : "us",
	       who && *who ? who
	       : p->name   ? p->name
			   : "-",
	       why);
	snprintf(ps->failure, sizeof ps->failure, "the last connection was closed by %s with code %d%s%s",
		 by_peer ? "the peer" : "this end", code, *why ? ": " : "", why);
	*(p->link ? &ps->n_links : &ps->n_plain) -= 1;
	*p->back = p->next;
	if (p->next)
		p->next->back = p->back;
	free((char *)p->name);
	p->name = NULL;
}

void peers_live(struct peers *ps, struct peer *p)
{
	if (p->live)
		return;
	p->live = true;
	ps->n_live++;
	ps->host->metric_add(ps->host, PEER_LINKS, 1);
}

void peers_failed(struct peers *ps, uint32_t n, const char *why)
{
	ps->host->metric_add(ps->host, PEER_FAILED, n);
	ss_log(ps->host, SS_LOG_WARN, "Connection failed: %s", why);
	snprintf(ps->failure, sizeof ps->failure, "%s", why);
}

void peers_refused(struct peers *ps, enum ws_refusal reason, uint32_t n)
{
	ps->host->metric_add(ps->host, PEER_FAILED, n);
	ps->host->metric_add(ps->host, PEER_REFUSED + reason, n);
	if (reason == WS_REFUSED_FULL)
		peers_trouble(ps, TROUBLE_LOAD, "clients are turned away: %lld are connected (max_clients)",
			      (long long)ps->conf->max_clients);
}

uint64_t peers_replaced(struct peers *ps)
{
	uint64_t wait = (uint64_t)ps->conf->retry_max;

	for (uint32_t i = 0; i < ps->replaced && i < REPLACED_DOUBLES; i++)
		wait *= 2;
	ps->replaced++;
	return wait < REPLACED_MAX_NS ? wait : REPLACED_MAX_NS;
}

/* Tell the host once of each reason. */
static void report(const struct peers *ps, const char *reason, char reported[320],
		   void (*tell)(const struct ss_host *, const char *))
{
	if (strcmp(reason, reported) == 0)
		return;
	snprintf(reported, 320, "%s", reason);
	tell(ps->host, *reason ? reason : NULL);
}

void peers_trouble(struct peers *ps, enum peers_trouble which, const char *fmt, ...)
{
	va_list ap;

	ps->trouble[which][0] = '\0';
	if (fmt) {
		va_start(ap, fmt);
		vsnprintf(ps->trouble[which], sizeof ps->trouble[which], fmt, ap);
		va_end(ap);
		if (which == TROUBLE_LOST)
			ps->lost_ns = LOST_HOLD_NS;
		if (which == TROUBLE_LOAD)
			ps->load_ns = LOAD_HOLD_NS;
	}
	int i = TROUBLE_STORE + 1;
	while (i < TROUBLES - 1 && !ps->trouble[i][0])
		i++;
	report(ps, ps->trouble[TROUBLE_STORE], ps->unready, ps->host->set_health);
	report(ps, ps->trouble[i], ps->degraded, ps->host->set_degraded);
}

/* The link of a peer that had one is down for too long: said once per multiple of the grace. */
static void check_absent(struct peers *ps, uint64_t elapsed_ns, const char *who, uint64_t away_ns)
{
	uint64_t grace = (uint64_t)ps->conf->down_after;
	char span[24];

	if (!who || away_ns < grace)
		peers_trouble(ps, TROUBLE_DOWN, NULL);
	else if (!ps->trouble[TROUBLE_DOWN][0] || away_ns / grace != (away_ns - elapsed_ns) / grace)
		peers_trouble(ps, TROUBLE_DOWN, "'%s' has not been connected for %s", who,
			      ss_format_span((int64_t)away_ns, span, sizeof span));
}

/* What happened a while ago is told no longer. */
static void fade(struct peers *ps, enum peers_trouble which, uint64_t *left_ns, uint64_t elapsed_ns)
{
	if (!ps->trouble[which][0])
		return;
	*left_ns = *left_ns > elapsed_ns ? *left_ns - elapsed_ns : 0;
	if (!*left_ns)
		peers_trouble(ps, which, NULL);
}

void peers_tick(struct peers *ps, uint64_t elapsed_ns, const char *who, uint64_t away_ns)
{
	uint64_t rtt = 0;
	char span[24];

	for (const struct peer *p = ps->first; p; p = p->next)
		rtt = ws_rtt(p->conn) > rtt ? ws_rtt(p->conn) : rtt;
	ps->host->metric_set(ps->host, PEER_RTT, (int64_t)(rtt / 1000));
	fade(ps, TROUBLE_LOST, &ps->lost_ns, elapsed_ns);
	fade(ps, TROUBLE_LOAD, &ps->load_ns, elapsed_ns);
	if (!ps->dials) {
		check_absent(ps, elapsed_ns, who, away_ns);
		return;
	}
	if (ps->n_live || ps->n_plain) {
		ps->down_ns = 0;
		peers_trouble(ps, TROUBLE_DOWN, NULL);
		return;
	}
	uint64_t grace = (uint64_t)ps->conf->down_after;
	bool reported = ps->trouble[TROUBLE_DOWN][0];
	ps->down_ns += elapsed_ns;
	/* once, and again when its reason may be another: not a line each second */
	if (ps->down_ns >= grace && (!reported || ps->down_ns / grace != (ps->down_ns - elapsed_ns) / grace))
		peers_trouble(ps, TROUBLE_DOWN, "no connection to %s for %s: %s", ps->url,
			      ss_format_span((int64_t)ps->down_ns, span, sizeof span),
			      ps->failure[0] ? ps->failure : "the peer has not answered");
}

/* ---- the list of peers ---- */

#define METER_NS UINT64_C(5000000000)

uint64_t peer_meter_milli(const struct peer_meter *m, uint64_t now_ns)
{
	const uint64_t ns = now_ns - m->since_ns, us = ns / 1000;

	if (!m->since_ns)
		return 0;
	if (ns < METER_NS && m->milli)
		return m->milli;
	return m->n * 1000000000 / (us > 1000000 ? us : 1000000);
}

void peer_meter_add(struct peer_meter *m, uint64_t now_ns, uint64_t n)
{
	if (now_ns - m->since_ns >= METER_NS) {
		m->milli = peer_meter_milli(m, now_ns);
		m->since_ns = now_ns;
		m->n = 0;
	}
	m->n += n;
}

void peers_offer(struct peers *ps, void (*list)(void *arg, const struct ss_peer_rows *), void *arg)
{
	struct ss_iface peers;

	if (ps->host->query(ps->host, SS_PEERS, sizeof(struct ss_peers), &peers) == 0)
		((const struct ss_peers *)peers.vtbl)->offer(peers.self, list, arg);
}

void peers_row(const struct peers *ps, const struct peer *p, struct ss_peer row,
	       const struct ss_peer_rows *rows)
{
	char address[WS_ADDRESS_MAX];

	row.struct_size = sizeof row;
	row.state = !p ? "away" : p->live || !p->link ? "up" : "opening";
	if (p && p->name) {
		row.name = p->name;
		row.flags |= SS_PEER_VERIFIED;
	}
	if (!rows->wanted(rows->of, row.name, row.state))
		return;
	if (p) {
		ws_address(p->conn, address);
		row.address = address;
		row.since_ns = p->since_ns;
	}
	if (ps->dials)
		row.address = ps->url;
	if (ps->dials && !p)
		row.last_error = ps->failure[0] ? ps->failure : NULL;
	rows->row(rows->of, &row);
}

char *peers_error(int code, bool by_peer, const char *why)
{
	char text[192];

	if (code == 1000)
		return NULL;
	snprintf(text, sizeof text, "closed by %s with code %d%s%.128s", by_peer ? "the peer" : "this end",
		 code, *why ? ": " : "", why);
	return strdup(text);
}
