/* SPDX-License-Identifier: MIT */
/* test_host_impl - what the parts of the test host share. */
#pragma once
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include <semstreams/test-host.h>
#include "core/flow/services/attributes.h"

#define MAX_WATCHES 256
#define MAX_OFFERS  16

/* What breaks the contract of plugin.h ends the test. */
#define require(cond, what)                                                                                  \
	do {                                                                                                 \
		if (!(cond)) {                                                                               \
			fprintf(stderr, "%s:%d: test host: %s (%s)\n", __FILE__, __LINE__, what, #cond);     \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

struct ss_token {
	struct ss_test_host *host;
	uint32_t refs;
	int32_t worst;
	uint64_t cookie;
	bool has_position;
	struct ss_position position;
	const char *source;
};

struct batch {
	struct ss_batch pub; /* first */
	struct ss_test_host *host;
	struct batch *parent;
	uint32_t refs;
	bool emitted;
	bool is_part; /* made by ss_test_host_process */
	struct attribute_table attributes;
	uint64_t sum; /* of rows and payload when emitted */
};

/* A timer has fd -1.  Free slots have id 0. */
struct watch {
	uint32_t id;
	int fd;
	uint32_t events;
	uint64_t due, every;
	void (*on_fd)(void *arg, uint32_t events);
	void (*on_time)(void *arg);
	void *arg;
};

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
	struct ss_token *token; /* fn == NULL: report this token's end */
};

/* A service; without vtbl: the host does not have it. */
struct offer {
	const char *id;
	struct ss_iface iface;
	uint32_t size;
};

struct ss_test_host_impl {
	pthread_t thread;
	pthread_mutex_t lock; /* log, errors and posts */
	struct post *first, **last;
	int wake;
	struct watch watches[MAX_WATCHES];
	uint32_t next_id;
	uint32_t live; /* batches */
	bool created;
	struct offer offers[MAX_OFFERS];
	uint32_t n_offers;
	void *conf;              /* from ss_test_host_configure */
	struct streams *streams; /* of a checkpointer */
	struct stream_log *stream_log;
	bool covers_given;
	struct stream *offered; /* of the batch at hand, until it is accepted */
	struct ss_position offered_upto;
};

/* loop.c */
extern const struct ss_loop test_loop;
/* Run fn(arg), or report the end of a token, at the next turn. */
void test_loop_post(struct ss_test_host *, struct post);
/* Run what was posted, or only free it; how many there were. */
int test_loop_run_posts(struct ss_test_host *, bool call);

/* attributes.c */
extern const struct ss_attribute_service test_attributes;

/* positions.c */
extern const struct ss_positions test_positions;

static inline void require_inst(const struct ss_test_host *h)
{
	require(pthread_equal(h->impl->thread, pthread_self()),
		"an [inst] function called from another thread");
}
