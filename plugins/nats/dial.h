/* SPDX-License-Identifier: MIT */
/* dial - one attempt to connect to one server.  It runs in a thread, as libnats waits meanwhile. */
#pragma once
#include <netinet/in.h>
#include <stdatomic.h>
#include <nats/nats.h>
#include <semstreams/ext/tls.h>
#include "plugins/nats/connection.h"

struct watch;

/* What libnats' threads tell of all connections of a component; freed by whoever is last. */
struct notice {
	atomic_uint refs;
	atomic_bool lame_duck; /* the server will go away */
};
/* NULL is allowed. */
void notice_unref(struct notice *);

struct dial {
	/* given */
	const struct nats_settings *settings;
	const char *url, *name;            /* of the server; of this client, for people */
	const struct ss_tls_material *tls; /* NULL: without TLS */
	struct watch *watch;
	struct notice *notice;
	/* found: NULL and why, or a connection with its inbox */
	natsConnection *nc;
	natsSubscription *inbox;
	char prefix[160]; /* "_INBOX.x." */
	char why[NATS_WHY_MAX];
	/* for dial_abort() */
	atomic_uint n_addresses;
	struct sockaddr_storage addresses[8];
};

/* The job. */
void dial_run(void *dial);
/* In another thread, while it runs: end a TLS handshake that does not end by itself, as libnats sets it no
 * limit. */
void dial_abort(struct dial *);

/* The host and port of a URL that servers_parse() has let through. */
void dial_host(const char *url, char *host, size_t host_size, char *port, size_t port_size);
