/* SPDX-License-Identifier: MIT */
/*
 * component - one instance of a component type: the plugin's view of the host (struct ss_host) and the host's
 * books about the plugin.  Unless said otherwise functions run in the thread of the component's loop.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/handover.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/peers.h>
#include <semstreams/ext/rate.h>
#include <semstreams/ext/tls.h>
#include <semstreams/ext/tls-provider.h>
#include "core/flow/accounts.h"
#include "core/flow/batch.h"
#include "core/config/config.h"
#include "core/flow/kept.h"
#include "core/flow/loop.h"
#include "core/flow/posts.h"
#include "core/flow/queue.h"
#include "core/flow/streams.h"
#include "core/flow/tap/tap.h"
#include "core/tls/tls_identity.h"

struct handed; /* a descriptor, svc_handover.c */
struct health;
struct positions;
struct worker;
struct rate_member;
struct watch; /* a timer or descriptor watch, svc_loop.c */

enum component_state {
	COMPONENT_CREATED,
	COMPONENT_STARTED,
	COMPONENT_DRAINING, /* drain() was called */
	COMPONENT_DRAINED,  /* and everything is out */
	COMPONENT_CLOSED,   /* and has left our queues: those behind us may drain */
	COMPONENT_STOPPED
};

/* One end of an edge, as the component at the other end needs it. */
struct edge {
	struct queue *queue;
	struct component *from, *to;
	uint32_t port;  /* of the producer */
	bool continues; /* the producer's successor goes on with it: it is not closed */
};

struct port {
	struct edge **edges;
	size_t n;
};

/* What the watchdog knows of the batches that a component keeps. */
struct kept_watch {
	_Atomic bool asked;                         /* the loop is to look */
	_Atomic uint64_t limit_ns;                  /* for it */
	_Atomic uint64_t events, batches, since_ns; /* its answer: what is kept for too long */
	uint64_t oldest_ns;                         /* of the loop: since when, as it saw last */
	uint64_t asked_ns;                          /* of the control thread */
	bool told;
};

struct component {
	struct ss_host host; /* first: the plugin gives it back */
	const struct ss_component *desc;
	const char *id; /* own_id, or a constant */
	char *own_id;   /* as tokens name it, it stays longer than the config */
	void *self;
	size_t index;          /* in the pipeline */
	struct worker *worker; /* whose loop it lives on; NULL: none */
	struct component *next_retired;
	struct component *heir; /* who is to take its place; NULL: nobody */
	struct handed *handed;  /* what the one before left to it */
	struct component
		*settings; /* whose conf it has, and whose services what came with it uses; NULL: its own */
	_Atomic(struct loop *) loop;     /* changes while the component runs: pipeline.c */
	bool keeps_loop;                 /* a library has got hold of the loop: the component stays on it */
	uint64_t slow_ns, slow_since_ns; /* time in slow calls since then */
	struct health *health;
	struct pool *pool;
	struct positions *positions;   /* the pipeline's; NULL outside one */
	bool checkpointer;             /* it saves positions; under their lock */
	struct streams *streams;       /* what a checkpointer has; NULL: it is none */
	struct stream_log *stream_log; /* where the positions of many streams are; NULL: nowhere */
	_Atomic uint32_t n_streams;
	_Atomic uint64_t retired[STREAM_RETIRED_REASONS]; /* streams whose position was forgotten */
	struct streams *restored;  /* what it had when it started; under the lock of positions */
	struct streams *inherited; /* in which events failed in the one before it; NULL: none */
	bool covers_given;         /* its snapshots cover what it gives to cover() */
	struct stream *offered;    /* of the batch that process() was called with, until it is accepted */
	struct ss_position offered_upto;
	struct rate_member *rate; /* its limit of bytes per second; NULL: it has none */
	void (*list_peers)(void *arg, const struct ss_peer_rows *); /* NULL: it has none */
	void *list_peers_arg;
	atomic_bool wants_attributes;  /* it reads attributes of events, or passes them on */
	atomic_bool attributes_wanted; /* somebody downstream does */
	atomic_bool merges;            /* its streams lose their order on the way */

	struct edge **inputs;
	size_t n_inputs, next_input;
	struct port *ports;
	size_t n_ports;
	struct tap_point taps;

	uint32_t n_reasons;
	enum component_state state;
	bool broken;  /* start failed */
	bool leaving; /* another is to take its place: it takes no more and drains */
	bool staying; /* the graph around it changes: the end of its inputs is not its own */
	bool stopping;
	bool stuck;                     /* an output waits for room */
	bool stalls;                    /* the watchdog named it for that */
	bool paused;                    /* the source was told so */
	bool busy;                      /* the plugin refused a batch */
	_Atomic uint64_t busy_since_ns; /* 0: it does not */
	_Atomic unsigned gave_reasons;  /* not 0: it says itself why it cannot work */
	bool attributes_due;            /* for attributes_settle */
	bool touched;                   /* the plugin ran since its last idle() */
	bool has_max_delay;             /* the plugin said by how much its input may be late */
	uint64_t max_delay_ns;          /* that, or what all that follow it said; once it has started */
	struct ss_batch *refused;       /* offered again after ready(); we hold the reference */
	uint32_t refused_port;
	struct ss_batch *at_hand; /* process() runs and has not finished it */
	struct kept kept;
	struct kept_watch kept_watch;
	uint64_t credit; /* events of kept batches that are accounted for already */
	struct accounts books;
	struct accounts_board board;
	_Atomic uint64_t discarded; /* counted by the control thread at a forced end */
	/* What queues had been given, and had dropped, that it read from and that are gone; of the control
	 * thread. */
	uint64_t past_offered, past_dropped;

	_Atomic bool drain_wanted;   /* no inputs to wait for: a source, or the pipeline is ending */
	_Atomic bool closed;         /* state is COMPONENT_CLOSED, for other threads */
	_Atomic bool told_undrained; /* why it has not closed is in the log */
	void (*on_closed)(void *arg);
	void *on_closed_arg;

	_Atomic(struct ss_token *) finished_tokens;
	_Atomic uint64_t tokens;  /* that have not come to their end */
	_Atomic int64_t *metrics; /* a cell per row of the descriptor */
	struct watch **watches;
	size_t n_watches;
	struct posts posts;

	struct tls_identity *tls; /* the pipeline's; NULL only where nothing is to run */
	uint32_t tls_roles;       /* whose certificate it provides, 1 << SS_TLS_... */
	struct tls_watcher tls_watcher;
	void (*tls_changed)(void *arg); /* NULL: not watching */
	void *tls_changed_arg;
	bool tls_signers;               /* it can use keys that sign elsewhere; set in create */
	atomic_bool tls_signer_refused; /* it cannot, which was logged */

	struct diag *diag; /* during create: where config errors go */
	const struct config *config;
	const struct config_component *config_component;
};

/* [ctl] Make the host side and call the plugin's create; config errors go to diag.  0, -EINVAL, -ENOMEM or
 * the plugin's. */
int component_create(struct component *, const struct config *, const struct config_component *,
		     struct health *, struct tls_identity *, struct diag *);
/* [ctl] Destroy the plugin's instance, stopped or never started; half-built is fine. */
void component_destroy(struct component *);
/* [ctl] Free the host's side; when all instances are destroyed and the queues empty. */
void component_free(struct component *);
/* [ctl] The same for one that was allocated; NULL is allowed. */
void component_delete(struct component *);

/* [ctl] Take the place of another instance of the same type, which has ended, with its books and the batch
 * that it refused; not started yet. */
void component_succeed(struct component *, struct component *old);
/* The number of the input that goes on with that of an older instance; -1: none. */
int component_port_of(const struct component *, const struct component *old, uint32_t port);
/* [ctl] While nobody changes its loop: how late its batches may come, by what is behind it. */
void component_inherit_delay(struct component *);

/* Call the plugin's start; its result. */
int component_start(struct component *);
void component_stop(struct component *);
/* [ctl] When the loops have ended: what came after the stop. */
void component_end(struct component *);

/* A turn of a loop, in ns of the coarse clock.  Callbacks that took time move now. */
struct turn {
	uint64_t now, end;
};

/* May component_work() have something to do?  Most of the time most components of a loop have not. */
static inline bool component_has_work(const struct component *c)
{
	if (c->state != COMPONENT_STARTED || c->stuck || c->paused || c->refused || c->leaving ||
	    posts_any(&c->posts) || atomic_load_explicit(&c->finished_tokens, memory_order_relaxed) ||
	    atomic_load_explicit(&c->drain_wanted, memory_order_relaxed))
		return true;
	for (size_t i = 0; i < c->n_inputs; i++) {
		const struct queue *q = c->inputs[i]->queue;
		if (!queue_empty(q) || atomic_load_explicit(&q->closed, memory_order_relaxed))
			return true;
	}
	return false;
}

/* Do what there is to do, at least one batch, then more until the turn ends; true if there may be more. */
bool component_work(struct component *, struct turn *);
/* Nothing more to do on this loop for now; true if the plugin was told, so that there may be more again. */
bool component_idle(struct component *, struct turn *);
/* Let others read the books as they stand. */
void component_publish(struct component *);

/* [any] Have the component's loop look at it. */
void component_wake(struct component *);
/* The same from the component c, which need not do so for one on its own loop that comes later in the round.
 */
void component_wake_neighbour(const struct component *c, struct component *other);
/* A batch that the component took is at its end. */
void component_end_batch(struct component *, struct ss_batch *, int32_t status);
/* [any] The plugin broke a rule of the ABI; said in the log. */
void component_misuse(const struct component *, const char *rule);
/* host.c: fill in what the plugin sees of the host. */
void host_fill(struct component *);
/* [any] Run fn(arg) in the component's loop soon, in the order of the calls; 0 or -ENOMEM.  While the
 * component has no loop, its posts wait. */
int component_post(struct component *, void (*fn)(void *arg), void *arg);

/* [any] A row of the descriptor's metric table. */
const struct ss_metric *component_metric_row(const struct component *, uint32_t row);
/* [any] Value of a row of the descriptor's metric table. */
int64_t component_metric(const struct component *, uint32_t row);
/* [any] Name of a drop reason; NULL if there is none at this index. */
const char *component_reason(const struct component *, uint32_t reason);

/* svc_attributes.c: the service "semstreams.attributes/1". */
extern const struct ss_attribute_service attribute_service;
/* [any] The component wants attributes: all upstream of it learn that. */
void attributes_tell_upstream(struct component *);
/* [ctl] Somebody may have ceased to want them: who is told, of n components in the order data takes. */
void attributes_settle(struct component *const *order, size_t n);

/* svc_handover.c: the service "semstreams.handover/1". */
extern const struct ss_handover handover_service;
/* Close what was left to it and it did not take. */
void handover_clear(struct component *);

/* svc_loop.c: the service "semstreams.loop/1". */
extern const struct ss_loop loop_service;
/* The service "semstreams.loop.libev/1". */
extern const struct ss_loop_libev loop_libev_service;
/* End all watches of a component. */
void loop_service_clear(struct component *);
/* The longest period of its timers. */
uint64_t loop_service_longest_ns(const struct component *);
/* Take the watches of a component from its loop to another one that does not run yet, and make that the
 * component's. */
void loop_service_move(struct component *, struct loop *to);

/* svc_peers.c: the service "semstreams.peers/1". */
extern const struct ss_peers peers_service;

/* svc_rate.c: the service "semstreams.rate/1". */
extern const struct ss_rate rate_service;

/* svc_tls.c: the service "semstreams.tls/1". */
extern const struct ss_tls tls_service;
/* The service "semstreams.tls-publish/1", of components with tls_roles. */
extern const struct ss_tls_publish tls_publish_service;
/* The component is told of no new generation any more. */
void tls_service_clear(struct component *);
