/* SPDX-License-Identifier: MIT */
/*
 * semstreams/test-host.h - a host for one component instance in one thread: plugins are unit-tested against
 * it.  It records what the instance emits, drops, logs and finishes, and runs timers, descriptors and posts
 * when the test says so.  Link libsemstreams-test-host.a (pkg-config semstreams-test-host) and the plugin's
 * own sources:
 *
 *	static struct ss_test_host h;
 *	ss_test_host_init(&h, semstreams_entry_v1.components[0]);
 *	const char *const options[] = {"every", "2", NULL};
 *	assert(ss_test_host_create(&h, ss_test_host_configure(&h, options)) == 0);
 *	struct ss_batch *batch = ss_test_host_batch(&h, texts, 3);
 *	assert(ss_test_host_process(&h, 0, batch) == SS_DONE);
 *	h.host.batch_unref(batch);
 *	... look at h.emitted, h.dropped, h.log
 *	ss_test_host_done(&h);
 *
 * Services: semstreams.attributes/1, semstreams.fields/1, semstreams.loop/1 and semstreams.positions/1 as the
 * real host has them; any other by ss_test_host_offer().  Whatever breaks the contract of plugin.h (an [inst]
 * function called from another thread, a row outside the batch's memory, a batch changed after emit, a leaked
 * batch or watch) ends the program with a message.  Source-level convenience, no ABI: the struct may change
 * with any release.
 *
 * All functions are [inst] unless a comment says otherwise: they are called from the thread that called
 * ss_test_host_init(), which is that of the instance.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_TEST_HOST_H
#define SEMSTREAMS_TEST_HOST_H

#include <stdbool.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/attributes.h>
#include <semstreams/ext/fields.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Batches recorded between two calls of ss_test_host_clear(), at most. */
#define SS_TEST_HOST_MAX 4096

/* A batch that the instance emitted. */
struct ss_test_host_emitted {
	uint32_t port;          /* its output */
	struct ss_batch *batch; /* a reference of the test host's */
};
/* A batch that the instance finished by done(). */
struct ss_test_host_finished {
	struct ss_batch *batch; /* a pointer only: the reference was and is the test's */
	int32_t status;         /* SS_DELIVERED, SS_DROPPED, SS_FAILED */
};
/* A position in the snapshot that the instance restored. */
struct ss_test_host_kept {
	uint32_t port;               /* the input */
	char source[64];             /* id of the source */
	struct ss_position position; /* the newest event that the snapshot has */
};

/* The test's, from ss_test_host_init() to ss_test_host_done().  Pointers are valid in that time. */
struct ss_test_host {
	struct ss_host host; /* first: callbacks get it back; tests call its functions, as batch_unref() */
	const struct ss_component *desc; /* the type that init() was given */
	void *self;                      /* the instance, from create() on */

	/* What the instance did, since the beginning or ss_test_host_clear(). */

	struct ss_test_host_emitted emitted[SS_TEST_HOST_MAX];   /* in the order of emit() */
	uint32_t n_emitted;                                      /* how many */
	struct ss_test_host_finished finished[SS_TEST_HOST_MAX]; /* by done() */
	uint32_t n_finished;                                     /* how many */
	uint64_t dropped[32];                                    /* by reason */
	int64_t metrics[64];                                     /* by row */
	uint32_t n_input_ready, n_drained;                       /* calls of these functions */
	char unready[256];  /* the reason given to set_health(); "" = well */
	char degraded[256]; /* the same of set_degraded() */
	char log[16384];    /* lines "LEVEL text\n"; the newest, if there are many */
	char errors[8192];  /* lines "pointer: text\n" from config_error() */

	/* Of semstreams.positions/1. */

	bool checkpointer;                 /* the instance called checkpointer() */
	struct ss_test_host_kept kept[16]; /* what the snapshot that it restored says, of so many streams */
	uint32_t n_kept;                   /* how many */
	uint64_t duplicates;               /* events that ss_test_host_process() removed */

	bool wants_attributes; /* the instance called want() of semstreams.attributes/1 */

	/* What the test may set before create() or at any time. */

	uint64_t now_ns;           /* the clock of the loop */
	uint32_t fail_batch_new;   /* so many further batch_new() succeed, then NULL; UINT32_MAX = all */
	bool can_resume;           /* a source is told to resume the stream that this is of, */
	struct ss_position resume; /* from here */
	bool attributes_wanted;    /* by somebody downstream: what wanted() says */
	bool no_positions;         /* the host lacks the service */

	struct ss_test_host_impl *impl; /* the test host's own */
};

/* Prepare for one instance of desc; its id is "test".  ss_test_host_done() frees what this allocates. */
void ss_test_host_init(struct ss_test_host *, const struct ss_component *desc);

/*
 * A configuration, made from the option table as the host makes it: the defaults, then each key with its text
 * in turn, NULL-ended, as it would stand in the config, strings without quotes.  NULL: the defaults only.
 * An unknown key, or a text that is not of the type or out of range, ends the program: the real host refuses
 * them before create().  The memory is the test host's until done() or the next call; the strings are the
 * caller's and must last as long.
 */
const void *ss_test_host_configure(struct ss_test_host *, const char *const *pairs);

/* desc->create() with conf, which must last until ss_test_host_done(); its result.  Errors of the
 * configuration are in errors. */
int32_t ss_test_host_create(struct ss_test_host *, const void *conf);

/* Have the instance find a service of the test's own, or in place of the host's.  vtbl NULL: the host lacks
 * it.  id and vtbl must last until ss_test_host_done(). */
void ss_test_host_offer(struct ss_test_host *, const char *id, const void *vtbl, uint32_t size, void *self);

/* [any] The service semstreams.fields/1, for functions that are tested without an instance; its self is
 * NULL.  Constant, as long as the process. */
const struct ss_fields *ss_test_host_fields(void);

/* Wait for descriptors and due timers of the instance at most timeout_ms of real time; run them and all posts
 * once.  Returns how many callbacks ran. */
int ss_test_host_run(struct ss_test_host *, int timeout_ms);

/* Move the clock forward and run the timers that are due and all posts, without waiting. */
void ss_test_host_advance(struct ss_test_host *, uint64_t ns);

/* A batch that holds copies of n strings, with sequences 1, 2, ... and times 1e18, 1e18 + 1, ...  The caller
 * owns the reference.  NULL only as fail_batch_new says. */
struct ss_batch *ss_test_host_batch(struct ss_test_host *, const char *const *texts, uint32_t n);

/* Give a row of a batch that has not been emitted the attributes texts[SS_ATTR_PEER] and so on; NULL: absent.
 * flags as in struct ss_attributes. */
void ss_test_host_attributes(struct ss_test_host *, struct ss_batch *, uint32_t row,
			     const char *const texts[SS_ATTR_COUNT], uint32_t flags);

/* As if the component source, whose id must last as long as the batch, had tracked the batch. */
void ss_test_host_track(struct ss_test_host *, struct ss_batch *, const char *source,
			const struct ss_position *);

/*
 * Offer a batch to the instance's process() as the host does: of a checkpointer's input, without the events
 * it has already.  The result of process(); SS_DONE if nothing was left of the batch; -ESTALE if an earlier
 * batch of the stream failed and the source has not gone back.  The batch stays the caller's and must last
 * until it is finished.
 */
int32_t ss_test_host_process(struct ss_test_host *, uint32_t port, struct ss_batch *);

/* The events emitted so far on a port as one string, each followed by '\n'; to be freed with free(). */
char *ss_test_host_text(struct ss_test_host *, uint32_t port);

/* Forget what the instance did: emitted, finished, dropped, metrics, counts of calls, log, errors. */
void ss_test_host_clear(struct ss_test_host *);

/* stop() and destroy() the instance if there is one, free everything; batches that were not released end the
 * program.  May be called twice. */
void ss_test_host_done(struct ss_test_host *);

#ifdef __cplusplus
}
#endif
#endif
