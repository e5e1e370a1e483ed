/* SPDX-License-Identifier: MIT */
/*
 * renewer - keeps a valid certificate in use: hands the stored one to the host, decides once a second whether
 * it is time for another (renewal_schedule.h), and has its owner obtain it.  What a provider of identities
 * does whichever CA it talks to.
 *
 * A timer looks once a second, so clocks may jump and others may change the store; what it finds is handled
 * in this order: the store, a changed certificate, an attempt under way, the schedule.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/tls-provider.h>
#include "obtain_result.h"
#include "renewal_schedule.h"
#include "setup.h"
#include "store.h"

struct renewer;

/* What the owner does, and its words.  All are called on the loop, with the owner. */
struct renewer_source {
	const char *name;     /* what the host says that certificates are from: "ACME" */
	const char *failed;   /* "failed to obtain certificate from ACME server" */
	const char *unopened; /* where storage_path cannot be used: "account registration failed" */
	/* Start an attempt; the store is locked, renewer_cert() is what there is.  0; -errno with why. */
	int (*begin)(void *owner, char *why, size_t why_size);
	/* Each second while something is under way: has it ended?  Then renewer_ended(). */
	void (*poll)(void *owner);
	/* Whatever is under way is given up, and what is left of it freed. */
	void (*end)(void *owner);
	/* The store is open.  May be NULL. */
	void (*opened)(void *owner, struct store *);
	/* Nothing is due: something else may be done, between renewer_begin_other() and renewer_ended().  May
	 * be NULL. */
	void (*idle)(void *owner, int64_t now);
};

/* The first metrics of the owner's table. */
enum {
	RENEWER_SUCCESS,
	RENEWER_FAILURE,
	RENEWER_NEXT,
	RENEWER_FAILURES_IN_A_ROW,
	RENEWER_LAST_SUCCESS,
	RENEWER_N_METRICS
};
#define RENEWER_METRIC(name, kind, help)                                                                     \
	{                                                                                                    \
		name, help, NULL, SS_METRIC_##kind, 0                                                        \
	}
#define RENEWER_METRICS(prefix)                                                                              \
	RENEWER_METRIC(prefix "renewal_success_total", COUNTER,                                              \
		       "Certificates obtained, including the first, by this process or by a command."),      \
		RENEWER_METRIC(prefix "renewal_failure_total", COUNTER,                                      \
			       "Failed attempts to obtain a certificate, by this process or by a command."), \
		RENEWER_METRIC(prefix "next_renewal_timestamp_seconds", GAUGE,                               \
			       "Time of the next renewal, or of the next attempt after a failure."),         \
		RENEWER_METRIC(prefix "failures_in_a_row", GAUGE,                                            \
			       "Failed attempts since the last success."),                                   \
		RENEWER_METRIC(prefix "last_success_timestamp_seconds", GAUGE,                               \
			       "Time when a certificate was last obtained; 0 = never.")

/* What the instance of a provider begins with, malloced; it is the owner. */
struct renewed {
	const struct ss_host *host;
	struct setup *setup; /* a part of the instance */
	const struct ss_tls_provider *provider;
	struct renewer *renewer;
};

/* [ctl] The end of create: rc is what became of the setup; source is borrowed.  Says what a renew_before does
 * that does not fit the stored certificate, so that "semstreams check" says it, too.  0 with *self; -errno,
 * and the instance is freed. */
int32_t renewed_create(struct renewed *, const struct renewer_source *, int32_t rc, void **self);
/* Entries of a provider's tables; self is the instance. */
void renewed_destroy(void *self);
int32_t renewed_start(void *self);
void renewed_stop(void *self);
const char *renewed_identity(void *self);
/* Soon, an attempt that waits is made now, but for what the CA asked for (Retry-After). */
void renewed_retry(void *self);
int32_t renewed_extension(void *self, const char *id, uint32_t min_size, struct ss_iface *out);

/* [inst] What began has ended so; result NULL: it was something else than an attempt.  The result may become
 * another failure. */
void renewer_ended(struct renewer *, struct obtain_result *);
/* [inst] In idle(): may something else than an attempt begin?  Then the store is locked. */
bool renewer_begin_other(struct renewer *);

/* [inst] The stored certificate, the state and the store, as they were last read. */
const struct stored_cert *renewer_cert(const struct renewer *);
const struct store_state *renewer_state(const struct renewer *);
struct store *renewer_store(const struct renewer *);
/* [inst] */
const struct ss_loop *renewer_loop(const struct renewer *, void **self);
/* [any] The CAs to trust for the CA's own HTTPS where its configuration names none, NULL-ended. */
const char *const *renewer_ca_files(const struct renewer *);
