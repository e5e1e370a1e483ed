/* SPDX-License-Identifier: MIT */
/* semstreams/ext/peers.h - the peers of an instance, for the page /peers of the admin port.  Tags and rules
 * are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_PEERS_H
#define SEMSTREAMS_EXT_PEERS_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * An instance with connections offers in create to list those it has them with, and those that are away but
 * known.  Nothing is asked unless somebody opens the page; then the instance goes through its peers once, in
 * an order that does not change while nobody comes or goes, and the host picks those that were asked for.
 */
#define SS_PEERS "semstreams.peers/1"

/* Flag of a peer: a certificate says its name. */
enum { SS_PEER_VERIFIED = 1 };

/* One peer.  Strings need to be valid during the call; NULL: there is none.  None of them may hold a secret.
 */
struct ss_peer {
	uint32_t struct_size;
	uint32_t flags;          /* SS_PEER_VERIFIED, or 0 */
	const char *role;        /* what it is to the instance: "sender", "consumer", "subscriber", ... */
	const char *state;       /* "up", "opening", "away", ... */
	const char *name;        /* its verified name, else the one it gave */
	const char *address;     /* IP address, or the URL that is dialed */
	const char *stream;      /* which of its streams, where it has several */
	const char *last_error;  /* why its last connection ended or could not be made */
	uint64_t since_ns;       /* wall clock, since when it is in this state; 0: unknown */
	uint64_t lag;            /* events that one end has and the other does not have for good */
	uint64_t unacknowledged; /* of these, those that were sent and not acknowledged */
	uint64_t rate_milli;     /* thousandths of events a second, over the last seconds */
};

/* Made by the host, for the time of one list(). */
struct ss_peer_rows {
	uint32_t struct_size, reserved;
	void *of; /* the first argument of the functions; valid during list() */
	/* [inst] Once for each peer: 1, it is to be shown, so row() follows; or 0. */
	int32_t (*wanted)(void *of, const char *name, const char *state);
	/* [inst] Tell of one peer that is wanted. */
	void (*row)(void *of, const struct ss_peer *);
};

/* What the host has under SS_PEERS. */
struct ss_peers {
	uint32_t struct_size, reserved;
	/* [ctl] In create, once: list(arg, rows) is called [inst], from start() to stop(), when somebody
	 * asks, and tells of each peer before it returns. */
	void (*offer)(void *self, void (*list)(void *arg, const struct ss_peer_rows *), void *arg);
};

#ifdef __cplusplus
}
#endif
#endif
