/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int peers_add(struct peers *ps, struct peer *p, const char *name)
{
	char *copy = name ? strdup(name) : NULL;

	if (name && !copy)
		return -ENOMEM;
	p->name = copy;
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
