/* SPDX-License-Identifier: MIT */
/*
 * guard - a host for one instance of a plugin that misses no breach of plugin.h and goes on after it: each is
 * written to the ledger with the callback it happened in.  What the plugin may not write to is read-only,
 * what it has given back is not there any more, so that a use is a signal which names the batch.
 *
 * Of one thread, in a process of its own; the plugin's threads may call what is [any].
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/positions.h>

enum { GUARD_WATCHES = 1024 };

enum guard_phase { GUARD_NEW, GUARD_CREATED, GUARD_STARTED, GUARD_DRAINING, GUARD_DRAINED, GUARD_STOPPED };

struct lot;
struct post;
struct ev_loop;
struct guard_watch {
	uint32_t id, events;
	int fd; /* -1: a timer */
	uint64_t due, every;
	void (*on_fd)(void *arg, uint32_t events);
	void (*on_time)(void *arg);
	void *arg;
};

struct guard {
	struct ss_host host; /* first */
	const struct ss_component *desc;
	void *self;
	enum guard_phase phase;
	pthread_t thread;
	pthread_mutex_t lock;      /* of lots and tokens */
	pthread_mutex_t post_lock; /* taken after the other one */

	struct lot *lots;
	struct ss_token *tokens;
	struct lot *downstream[8]; /* what was emitted last stays with those behind it for a while */
	uint32_t n_downstream;

	struct lot *offered; /* process() is running with it, or has refused it */
	uint64_t used;       /* rows of it that were emitted, dropped or finished meanwhile */
	bool is_ready;       /* input_ready() was called since the last refusal */
	bool is_drained;
	bool was_drained;
	bool stuck; /* refused for good: nothing more is offered */
	uint64_t seq;
	uint64_t accepted, emitted, dropped, finished; /* events */
	uint64_t held;                                 /* batches that process() keeps */
	uint64_t digest;                               /* of what came out */

	struct streams *streams; /* of a checkpointer */
	struct stream_log *stream_log;

	struct guard_watch watches[GUARD_WATCHES];
	uint32_t next_id;
	uint64_t now_ns; /* of the loop */
	struct post *posts, **last_post;
	int wake;
	struct ev_loop *libev; /* of who asks for it; in real time */
	uint32_t callbacks;    /* of the loop, that have run */

	bool examines;   /* look at the process after each callback */
	char error[256]; /* the newest error of the log, or of the configuration */
};

/* Errors are fatal: this host has no use without memory. */
void guard_init(struct guard *, const struct ss_component *);
/* Report what was not given back, free all; after destroy(). */
void guard_done(struct guard *);

/* The plugin's callbacks; their results, negative: -errno. */
int32_t guard_create(struct guard *, const void *conf);
int32_t guard_start(struct guard *);
/* Offer events; SS_BUSY is waited for, and then offered again, as the host does. */
int32_t guard_process(struct guard *, uint32_t rows, uint32_t longest, uint64_t seed);
void guard_pause(struct guard *, bool paused);
int32_t guard_inject(struct guard *, const char *text, size_t len);
/* Until drained() was called. */
void guard_drain(struct guard *);
void guard_stop(struct guard *);
void guard_destroy(struct guard *);

/* Turn the loop for so much real time; time jumps where nothing else happens. */
void guard_run(struct guard *, unsigned ms);

/* guard_loop.c: semstreams.loop/1 */
extern const struct ss_loop guard_loop;
extern const struct ss_loop_libev guard_loop_libev;
void guard_end_libev(struct guard *);
void guard_post(struct guard *, void (*fn)(void *arg), void *arg, struct ss_token *);
/* Wait at most so long in real time, then run what is due; how many callbacks that were. */
uint32_t guard_turn(struct guard *, unsigned ms, bool jump);
void guard_run_posts(struct guard *, bool call);

/* guard_positions.c: semstreams.positions/1 */
extern const struct ss_positions guard_positions;
void guard_positions_offer(struct guard *, const struct ss_batch *);
void guard_positions_settle(struct guard *, const struct ss_batch *, bool accepted);
void guard_positions_done(struct guard *);

/* guard.c, for guard_loop.c */
void guard_enter(struct guard *, const char *callback);
void guard_leave(struct guard *);
/* Is this the thread of the instance?  Else that is a breach. */
bool guard_is_inst(struct guard *, const char *function);
/* A sum of what came so far and these bytes. */
uint64_t guard_mix(uint64_t sum, const void *data, size_t len);
void guard_tell_acked(struct guard *, struct ss_token *);

/* The name of what is said to be wrong with this address, for a handler of SIGSEGV: true if it belongs to a
 * batch. */
bool guard_explain(const void *address, int *rule, const char **what);

/* process.c: what belongs to the whole process */
/* Remember how it is, and have standard output and error caught. */
void process_remember(void);
/* Write down what has changed since. */
void process_examine(void);
/* Open descriptors, threads. */
unsigned process_descriptors(void), process_threads(void);
