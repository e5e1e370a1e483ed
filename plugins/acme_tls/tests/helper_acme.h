/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the component share: a host with a clock that the test moves, operations that end as the
 * test says, certificates with any dates.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/test-host.h>
#include "plugins/identity/tests/helper_pair.h"
#include "plugins/acme_tls/operation.h"
#include "plugins/acme_tls/options.h"
#include "plugins/identity/store.h"

#define T0   1800000000
#define HOUR INT64_C(3600)
#define DAY  INT64_C(86400)

extern struct ss_test_host host;
extern struct acme_conf conf; /* good for a.test; made anew for each test */
extern int64_t now;           /* what time() says */
extern char folder[64];       /* storage_path */

extern struct published {
	int times;       /* publish() was called */
	char *chain;     /* the last */
	char gone[1024]; /* reason of unavailable(), "" after publish() */
	int times_gone;
	const char *refuse; /* publish() fails with this */
} published;

/* operation.h, carried out by the test: what was asked, and how it ends. */
extern struct engine {
	int made, alive, issues, aris, revokes, rollovers, deactivations;
	bool running; /* an operation of the host */
	const struct acme_setup *setup;
	char ca_files[2][64]; /* the first of them */
	size_t n_ca_files;
	struct operation_events events;
	char old_ari_id[CHAIN_ARI_ID];
	bool has_old_key;
	int reason;
	struct obtain_result at_once; /* what operations of commands end with */
	int64_t at_once_life;         /* of certificates they bring */
} engine;

int test_begin(void **state);
int test_end(void **state);

/* The component, made and started; stopped and gone. */
void begin(void);
void end(void);
/* As after SIGHUP. */
void retry(void);
/* Move both clocks; the tick runs once at the end, or every second. */
void jump(int64_t seconds);
void pass(int64_t seconds);
/* The operation under way ends: with a certificate of a life from now on, with a window, or in a failure. */
void bring(int64_t life);
void bring_dated(int64_t not_before, int64_t not_after);
void advise(int64_t start, int64_t end, int64_t retry_after);
void fail_with(enum obtain_fail, bool permanent, int64_t retry_after, const char *why);
/* As if somebody else had put it there; last_success 0: by hand. */
void put_pair(const char *name, int64_t not_before, int64_t not_after, int64_t last_success);
struct store *other_store(void);

/* In the log, and in this order; NULL-ended.  Forgets the log. */
void expect_log(const char *first, ...) __attribute__((sentinel));
void expect_no_log(const char *text);
int64_t metric(const char *name);
