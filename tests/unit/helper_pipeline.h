/* SPDX-License-Identifier: MIT */
/* helper_pipeline - component types of a test's own, and pipelines of them. */
#pragma once
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/ext/loop.h>
#include "core/flow/pipeline.h"
#include "core/report.h"

/* ---- a source: emits total events in batches of the given size as fast as it may ---- */

struct feed_conf {
	int64_t total, batch, track, lose_each, burst; /* burst: batches each time, 0 = one */
};

struct feed {
	const struct ss_host *host;
	const struct feed_conf *conf;
	struct ss_iface loop;
	int64_t sent;
	bool paused;
	uint32_t timer; /* one batch each time */
	_Atomic uint64_t acked, delivered, dropped, failed, pauses;
	uint64_t in_flight;
};

/* ---- a processor: odd sequences to port 0, even ones to port 1, multiples of lose are dropped ---- */

struct sieve_conf {
	int64_t lose, rest, make; /* make: emit one event of its own per batch */
};

/* ---- a sink that finishes at once, keeps batches for a while, refuses some, or fails ---- */

enum { SINK_DONE, SINK_KEEPS, SINK_REFUSES, SINK_FAILS, SINK_HANGS };
struct sink_conf {
	int64_t manner;
};

enum { SINK_MAX_KEPT = 8 };
struct sink {
	const struct ss_host *host;
	const struct sink_conf *conf;
	struct ss_iface loop;
	struct ss_batch *kept[SINK_MAX_KEPT];
	uint32_t n_kept;
	uint32_t timer;
	bool refusing;
	_Atomic uint64_t events, last, idles;
	_Atomic bool in_order, draining;
	_Atomic bool *open; /* SINK_HANGS: until somebody opens */
};

extern _Atomic bool gate; /* SINK_HANGS waits for it */
extern const struct ss_component feed, sieve, sink;

int32_t sink_process(void *self, uint32_t port, struct ss_batch *);
int32_t keep_for_ever(void *self, uint32_t port, struct ss_batch *);
/* Callbacks that do nothing. */
void nothing(void *self);
int32_t nothing_0(void *self);
void nothing_acked(void *self, uint64_t cookie, int32_t status);

/* ---- building and running pipelines ---- */

enum { MAX = 6 };

struct plan {
	struct config config;
	struct config_component components[MAX];
	struct config_input inputs[MAX][2];
	struct jdoc doc;
	struct jnode node;
	struct diag diag;
	struct pipeline *pipeline;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

void plan_init(struct plan *);
size_t add(struct plan *, const char *id, const struct ss_component *, const void *conf, const char *worker);
void link_to(struct plan *, size_t to, size_t from, uint32_t port, uint64_t events, enum overflow);
void start(struct plan *);
struct totals totals(const struct plan *, size_t i);
/* Look at the books until the component has seen n events come in; they must balance at each look. */
void await_in(const struct plan *, size_t i, uint64_t n);
void drain(struct plan *);
void finish(struct plan *);
void *self(const struct plan *, size_t i);
