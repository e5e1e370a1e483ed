/* SPDX-License-Identifier: MIT */
/*
 * fakehost - a host for one plugin instance in one thread: unit tests of plugins run against it.  It records what the
 * instance emits, drops, logs and finishes, and runs timers, descriptors and posts when fakehost_run is called.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>

#define FAKEHOST_MAX 4096

struct fakehost {
	struct ss_host host; /* first: callbacks get it back */
	const struct ss_component *desc;
	void *self;

	struct {
		uint32_t port;
		struct ss_batch *batch; /* a reference of ours */
	} emitted[FAKEHOST_MAX];
	uint32_t n_emitted;
	struct {
		struct ss_batch *batch;
		int32_t status;
	} finished[FAKEHOST_MAX];
	uint32_t n_finished;
	uint64_t dropped[32];  /* by reason */
	int64_t metrics[64];   /* by row */
	uint32_t n_ready, n_drained;
	char unready[256];     /* "" = well */
	char log[16384];       /* lines "LEVEL text\n" */
	char errors[8192];     /* lines "pointer: text\n" from config_error */
	uint64_t now_ns;       /* the loop's clock: moved by the test and by fakehost_run */
	uint32_t fail_batch_new; /* this many further batch_new calls succeed, then NULL; UINT32_MAX = never fail */
	struct {
		uint32_t port;
		char source[64];
		struct ss_position position;
	} kept[16];            /* what the instance told SS_POSITIONS */
	uint32_t n_kept;
	bool keeper, can_resume;
	bool no_positions;     /* the host does not have the service */
	struct ss_position resume; /* what a source is told, if can_resume */
	struct fakehost_loop *loop;
};

/* Prepare for one instance of desc; id "test". */
void fakehost_init(struct fakehost *, const struct ss_component *desc);
/* desc->create with conf (a struct of the plugin's); its result. */
int32_t fakehost_create(struct fakehost *, const void *conf);
/* Wait for descriptors and due timers of the instance at most timeout_ms of real time; run them and all posts once.
 * Returns how many callbacks ran. */
int fakehost_run(struct fakehost *, int timeout_ms);
/* Move the clock and run what is due, without waiting. */
void fakehost_advance(struct fakehost *, uint64_t ns);
/* A batch holding copies of n strings; seq 1.., time_ns 1e18 + i.  The caller owns it. */
struct ss_batch *fakehost_batch(struct fakehost *, const char *const *texts, uint32_t n);
/* As if the component source, whose id must last as long, had tracked the batch. */
void fakehost_track(struct fakehost *, struct ss_batch *, const char *source, const struct ss_position *);
/* Events emitted so far on a port, as one string: each followed by '\n'; malloced. */
char *fakehost_text(struct fakehost *, uint32_t port);
/* Forget what was recorded. */
void fakehost_clear(struct fakehost *);
/* stop and destroy the instance if there is one, free everything; asserts that all batches were released. */
void fakehost_done(struct fakehost *);
