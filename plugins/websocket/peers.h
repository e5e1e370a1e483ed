/* SPDX-License-Identifier: MIT */
/*
 * peers - what websocket_input and websocket_output have in common above the wire: the list of connections,
 * their metrics and log lines, and what makes the component unhealthy.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/peers.h>
#include "plugins/websocket/link/link_proto.h"
#include "plugins/websocket/transport/endpoint.h"

/* Close codes that mean something here have a metric row each; a peer cannot add any. */
#define PEER_CLOSE_CODES(X)                                                                                  \
	X(1000)                                                                                              \
	X(1001)                                                                                              \
	X(1002)                                                                                              \
	X(1003)                                                                                              \
	X(1006) X(1007) X(1008) X(1009) X(1011) X(1013) X(4400) X(4401) X(4402) X(4403) X(4409) X(4413)
#define PEER_CLOSE_ROW(code) PEER_CLOSE_METRIC(#code),
#define PEER_CLOSE_ONE(code) +1
#define PEER_CLOSE_METRIC(text)                                                                              \
	{                                                                                                    \
		.name = "semstreams_ws_close_total", .help = "Connections closed, by close code.",           \
		.label = "code=\"" text "\"", .kind = SS_METRIC_COUNTER                                      \
	}
#define PEER_REFUSED_METRIC(why)                                                                             \
	{                                                                                                    \
		.name = "semstreams_ws_refused_total", .help = "Clients turned away because of a limit.",    \
		.label = "reason=\"" why "\"", .kind = SS_METRIC_COUNTER                                     \
	}
#define PEER_METRIC(n, text, which)                                                                          \
	{                                                                                                    \
		.name = n, .help = text, .kind = which                                                       \
	}

/* The first rows of both plugins' metric tables, in the order of PEER_METRICS; their own follow at
 * PEER_METRICS_END. */
enum {
	PEER_CONNECTIONS,
	PEER_CONNECTED,
	PEER_FAILED,
	PEER_LINKS,
	PEER_RTT,
	PEER_BAD_MESSAGES,
	PEER_LOST,
	PEER_REFUSED, /* by enum ws_refusal */
	PEER_CLOSES = PEER_REFUSED + WS_REFUSALS,
	PEER_METRICS_END = PEER_CLOSES PEER_CLOSE_CODES(PEER_CLOSE_ONE) + 1
};
#define PEER_METRICS                                                                                         \
	PEER_METRIC("semstreams_ws_connections", "WebSocket connections open now.", SS_METRIC_GAUGE),        \
		PEER_METRIC("semstreams_ws_connected_total", "WebSocket connections made.",                  \
			    SS_METRIC_COUNTER),                                                              \
		PEER_METRIC("semstreams_ws_failed_total",                                                    \
			    "Dials and handshakes that failed, and connections refused or cut off "          \
			    "because of a limit or because the peer is no longer trusted.",                  \
			    SS_METRIC_COUNTER),                                                              \
		PEER_METRIC("semstreams_link_up", "Links that are up.", SS_METRIC_GAUGE),                    \
		PEER_METRIC("semstreams_link_rtt_microseconds",                                              \
			    "Longest of the last ping round-trip times of all connections.",                 \
			    SS_METRIC_GAUGE),                                                                \
		PEER_METRIC("semstreams_ws_bad_messages_total", "Messages that break the protocol.",         \
			    SS_METRIC_COUNTER),                                                              \
		PEER_METRIC("semstreams_link_lost_total", "Events that a receiver will never get.",          \
			    SS_METRIC_COUNTER),                                                              \
		PEER_REFUSED_METRIC("max_clients"), PEER_REFUSED_METRIC("max_handshakes"),                   \
		PEER_CLOSE_CODES(PEER_CLOSE_ROW) PEER_CLOSE_METRIC("other")

/* One connection; first member of a plugin's own struct. */
struct peer {
	struct ws_conn *conn;
	struct peer *next, **back;
	bool link;         /* speaks the link protocol; else plain */
	bool live;         /* a link that is up */
	const char *name;  /* verified certificate name, NULL without one */
	uint64_t since_ns; /* wall clock */
};

/* Events a second, over the last seconds. */
struct peer_meter {
	uint64_t since_ns, n; /* events since then */
	uint64_t milli;       /* in the seconds before */
};
void peer_meter_add(struct peer_meter *, uint64_t now_ns, uint64_t n);
uint64_t peer_meter_milli(const struct peer_meter *, uint64_t now_ns);

/* What keeps the component from being healthy, in the order of what an operator should hear first. */
enum peers_trouble {
	TROUBLE_STORE, /* nothing can be taken in: not ready */
	TROUBLE_LOST,  /* this and the others: ready, or the peer could not come back, but degraded */
	TROUBLE_LOAD,  /* clients are turned away */
	TROUBLE_DOWN,
	TROUBLE_FILLING,
	TROUBLES
};

struct peers {
	const struct ss_host *host;
	const struct endpoint_conf *conf;
	struct peer *first;
	uint32_t n_links, n_plain, n_live;
	bool dials;
	uint64_t down_ns;  /* a dialer has had no link or plain connection for so long */
	uint64_t lost_ns;  /* TROUBLE_LOST is reported for so much longer */
	uint64_t load_ns;  /* and TROUBLE_LOAD */
	uint32_t replaced; /* times in a row that another receiver or sender of the same name took over */
	char url[128];     /* as it may be shown */
	char failure[256]; /* why the last dial failed, or what ended the last connection */
	char trouble[TROUBLES][320];
	char unready[320], degraded[320]; /* as reported */
};

void peers_init(struct peers *, const struct ss_host *, const struct endpoint_conf *);
/* A connection is open; name is copied. p->conn and p->link are set.  0 or -ENOMEM. */
int peers_add(struct peers *, struct peer *, const char *name);
/* It is closed: counted, logged (who: the link's name for its peer, may be NULL), out of the list. */
void peers_remove(struct peers *, struct peer *, int code, bool by_peer, const char *who, const char *why);
/* The link of a connection is up. */
void peers_live(struct peers *, struct peer *);
/* Dials or handshakes failed, n of them. */
void peers_failed(struct peers *, uint32_t n, const char *why);
/* Clients were turned away, n of them. */
void peers_refused(struct peers *, enum ws_refusal, uint32_t n);
uint64_t peers_wall_ns(void);
/* In create: this component lists its peers. */
void peers_offer(struct peers *, void (*list)(void *arg, const struct ss_peer_rows *), void *arg);
/* Tell of one, where it is wanted: p NULL, it has no connection; the row has all that has to do with events,
 * its name where no certificate says it, and what else is known of one that has no connection. */
void peers_row(const struct peers *, const struct peer *p, struct ss_peer, const struct ss_peer_rows *);
/* Why a connection ended, for people; NULL if all is well.  The caller frees it. */
char *peers_error(int code, bool by_peer, const char *why);
/* Another end with the same name took over: how long a dialer should stay away, ns. */
uint64_t peers_replaced(struct peers *);
/* Set or (NULL) clear a reason; TROUBLE_LOST clears itself after ten minutes, TROUBLE_LOAD after one. */
__attribute__((format(printf, 3, 4))) void peers_trouble(struct peers *, enum peers_trouble, const char *fmt,
							 ...);
/* Each second or so, elapsed_ns after the last time.  Of a listener, who: the peer whose link has been down
 * for longest, away_ns; NULL: none is. */
void peers_tick(struct peers *, uint64_t elapsed_ns, const char *who, uint64_t away_ns);
