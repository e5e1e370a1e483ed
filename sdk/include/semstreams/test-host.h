/* SPDX-License-Identifier: MIT */
/*
 * semstreams/test-host.h - a host for one plugin instance in one thread: unit tests of plugins run against
 * it.  It records what the instance emits, drops, logs and finishes, and runs timers, descriptors and posts
 * when ss_test_host_run is called.
 */
#ifndef SEMSTREAMS_TEST_HOST_H
#define SEMSTREAMS_TEST_HOST_H
#include <stdbool.h>
#include <semstreams/plugin.h>

#define SS_TEST_HOST_MAX 4096

struct ss_test_host {
	struct ss_host host; /* first: callbacks get it back */
	const struct ss_component *desc;
	void *self;

	struct {
		uint32_t port;
		struct ss_batch *batch; /* a reference of ours */
	} emitted[SS_TEST_HOST_MAX];
	uint32_t n_emitted;
	struct {
		struct ss_batch *batch;
		int32_t status;
	} finished[SS_TEST_HOST_MAX];
	uint32_t n_finished;
	uint64_t dropped[32]; /* by reason */
	int64_t metrics[64];  /* by row */
	uint32_t n_input_ready, n_drained;
	char unready[256];       /* reason given to set_health(), "" = well */
	char degraded[256];      /* the same of set_degraded() */
	char log[16384];         /* lines "LEVEL text\n" */
	char errors[8192];       /* lines "pointer: text\n" from config_error */
	uint64_t now_ns;         /* the loop's clock: moved by the test and by ss_test_host_run */
	uint32_t fail_batch_new; /* this many further batch_new calls succeed, then NULL; UINT32_MAX = never
				    fail */
	struct {
		uint32_t port;
		char source[64];
		struct ss_position position;
	} kept[16]; /* what the snapshot that the instance restored says */
	uint32_t n_kept;
	uint64_t duplicates; /* events that ss_test_host_process removed */
	bool checkpointer, can_resume;
	bool no_positions;         /* the host does not have the service */
	struct ss_position resume; /* what a source is told, if can_resume */
	struct ss_test_host_loop *loop;
};

/* Prepare for one instance of desc; id "test". */
void ss_test_host_init(struct ss_test_host *, const struct ss_component *desc);
/* desc->create with conf (a struct of the plugin's); its result. */
int32_t ss_test_host_create(struct ss_test_host *, const void *conf);
/* Wait for descriptors and due timers of the instance at most timeout_ms of real time; run them and all posts
 * once. Returns how many callbacks ran. */
int ss_test_host_run(struct ss_test_host *, int timeout_ms);
/* Move the clock and run what is due, without waiting. */
void ss_test_host_advance(struct ss_test_host *, uint64_t ns);
/* A batch holding copies of n strings; seq 1.., time_ns 1e18 + i.  The caller owns it. */
struct ss_batch *ss_test_host_batch(struct ss_test_host *, const char *const *texts, uint32_t n);
/* As if the component source, whose id must last as long, had tracked the batch. */
void ss_test_host_track(struct ss_test_host *, struct ss_batch *, const char *source,
			const struct ss_position *);
/*
 * Offer a batch to the instance's process() as the host does: of a checkpointer's input, without the events
 * it has already.  The result of process(); SS_DONE if nothing was left of the batch; -ESTALE if an earlier
 * batch of the stream failed and the source has not gone back.  The batch stays the caller's and must last
 * until it is finished.
 */
int32_t ss_test_host_process(struct ss_test_host *, uint32_t port, struct ss_batch *);
/* Events emitted so far on a port, as one string: each followed by '\n'; malloced. */
char *ss_test_host_text(struct ss_test_host *, uint32_t port);
/* Forget what was recorded. */
void ss_test_host_clear(struct ss_test_host *);
/* stop and destroy the instance if there is one, free everything; asserts that all batches were released. */
void ss_test_host_done(struct ss_test_host *);
#endif
