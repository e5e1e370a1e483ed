/* SPDX-License-Identifier: MIT */
/*
 * senders - whose streams an input takes: found by verified name and stream, or by the number in the cookies
 * of its batches; when each has something to do next; and who has been away for longest, which is who is
 * forgotten when there is no room.  Nothing here takes longer the more senders there are.  On the instance's
 * loop.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <semstreams/base/ring.h>
#include <semstreams/plugin.h>
#include "plugins/websocket/link/link_session.h"
#include "plugins/websocket/peers.h"

#define SENDERS_SLOT_NS UINT64_C(10000000) /* what is due within one is done together, at its end */

enum { SENDERS_NAME_MAX = 256, SENDERS_STREAM_MAX = LINK_NAME_MAX }; /* bytes, with their ends */

struct input;
struct input_peer;

/* A batch on its way downstream, in the order received. */
struct flight {
	uint64_t last_seq;
	uint32_t bytes;
	bool over, failed;
};

TAILQ_HEAD(sender_list, sender);

/* A verified name, "" for those without one. */
struct sender_name {
	struct sender_name *next;
	struct sender_list senders;
	uint32_t streams;
	char text[];
};

/*
 * A sender and its stream, from its first link until it is forgotten: epoch, sequences and what is on its way
 * belong to it alone.
 */
struct sender {
	struct input *in;
	struct sender *next; /* in its bucket */
	struct sender_name *name;
	uint32_t number;         /* in the cookies of its batches */
	struct input_peer *peer; /* its connection, NULL without one */
	struct link_receiver link;
	bool owes;                  /* an acknowledgement */
	bool can_resume, failed;    /* failed: something received could not be stored and must come again */
	struct ss_position durable; /* its stream is that of all its positions */
	struct ss_ring flights;     /* struct flight */
	uint64_t flights_from;      /* number of the first that counts: those before come again */
	uint32_t pending;           /* flights that are not over */
	uint64_t unacked;           /* events, as counted in the input's */

	/* bytes: of its events that are not durable; with those that it may send, as counted in the input's;
	 * of these, from the pool */
	uint64_t in_flight, memory, extra;
	uint64_t used_ns;    /* when events came last */
	uint64_t grown_at;   /* bytes of this connection, when its window was made larger */
	bool starved;        /* it has a record that its window does not hold */
	uint64_t max_record; /* what it was told when it connected */
	bool outgrown;       /* that is more than those are told that connect now */

	/* for the list of peers */
	struct peer_meter meter;
	uint64_t log_next;     /* what the sender has said of its log: the next sequence */
	uint64_t left_wall_ns; /* as left_ns */
	char *last_error;      /* NULL: none */

	bool away;
	uint64_t left_ns; /* since when it has been away */
	uint64_t due_ns;
	struct sender_list *due_in; /* NULL: it is not scheduled */
	TAILQ_ENTRY(sender) away_at, due_at, name_at;
	char stream[];
};

enum { SENDERS_SLOTS = 1024 };
struct senders {
	struct sender **slots; /* by number */
	uint32_t *free;        /* numbers that are not used */
	uint32_t n, n_free, n_slots;
	uint32_t max, max_streams, max_unnamed; /* of all; of one name; of "" */
	struct sender **buckets;
	struct sender_name **names;
	uint32_t n_buckets; /* of either, a power of two */
	uint64_t seed;
	struct sender_list away; /* longest first */
	struct sender_list wheel[SENDERS_SLOTS], met;
	uint64_t wheel_at; /* the first slot that has not been run, since the beginning of the clock */
};

/* The limits are set.  -ENOMEM. */
int senders_init(struct senders *, uint64_t now_ns);
void senders_done(struct senders *);

/* NULL: there is none. */
struct sender *senders_find(const struct senders *, const char *name, const char *stream);
static inline struct sender *senders_at(const struct senders *ss, uint64_t number)
{
	return number < ss->n_slots ? ss->slots[number] : NULL;
}
/* One that is not there yet.  NULL with errno: ENOSPC, max are there; EMFILE, as many of that
 * name are as may be; EINVAL, too long; ENOMEM. */
struct sender *senders_add(struct senders *, const char *name, const char *stream);
/* Nothing of it may be on its way. */
void senders_remove(struct senders *, struct sender *);
/* One that may be removed, of those that have been away for longest; NULL: all have something on its way. */
struct sender *senders_oldest(const struct senders *);
/* The same of one name. */
struct sender *senders_oldest_of(const struct senders *, const char *name);

/* It has no connection any more, or has one again. */
void senders_leave(struct senders *, struct sender *, uint64_t now_ns);
void senders_return(struct senders *, struct sender *);

/* It has something to do at due_ns; an earlier time that it was to be called at stays. */
void senders_schedule(struct senders *, struct sender *, uint64_t due_ns);
/* Call fn for all that are due; it may schedule them again. */
void senders_run(struct senders *, uint64_t now_ns, void (*fn)(struct sender *));
