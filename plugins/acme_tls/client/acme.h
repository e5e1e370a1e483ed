/* SPDX-License-Identifier: MIT */
/*
 * acme - the client of one CA (RFC 8555): account, orders, revocation, roll-over, ARI (RFC 9773).  One errand
 * at a time, each with a deadline, each a bounded number of requests; ends in exactly one call of done.  On
 * the loop given.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ev.h>
#include "plugins/acme_tls/x509.h"
#include "plugins/acme_tls/key.h"
#include "plugins/acme_tls/protocol.h"
#include "plugins/acme_tls/store.h"

struct acme;

/* Strings are borrowed as long as the client lives. */
struct acme_options {
	struct ev_loop *loop;
	struct store *store;
	const char *directory_url, *email;
	const char *const *names;
	size_t n_names;
	enum acme_challenge challenge;
	const char *challenge_address;
	uint16_t challenge_port;
	const char *const *ca_files; /* to trust for the CA's own HTTPS; none: the system's pool */
	size_t n_ca_files;
	const char *eab_kid, *eab_mac; /* NULL: none */
	const char *profile;           /* NULL: the CA's default */
	const char *preferred_chain;   /* CN of the wanted root; NULL: the CA's default */
	bool reuse_key;
	uint64_t order_ns; /* deadline of an issue or renewal */
	/* A line for the log, finished "message key=value" as the guides have them; level SS_LOG_... */
	void (*log)(void *arg, int32_t level, const char *text);
	/* Each request that was made, for metrics. */
	void (*counted)(void *arg, const char *what);
	void *arg;
};

struct acme_result {
	enum acme_fail fail;
	char why[640];       /* one sentence in the operator's words, with the remedy where one is known */
	bool permanent;      /* will not get better by itself: try rarely */
	int64_t retry_after; /* seconds the CA asks for, 0: none; clamped to 1 s .. 1 day */
	/* issue: borrowed for the call */
	const struct chain_info *chain;
	const char *key_pem;
	/* ari */
	int64_t ari_start, ari_end;
	const char *ari_url; /* explanation */
};
typedef void acme_done(void *arg, const struct acme_result *);

int acme_new(const struct acme_options *, struct acme **out, char *why, size_t why_size);
void acme_free(struct acme *); /* an errand under way ends without its done */

/* Account (loaded, found or made), order, challenges, finalize, chain.  Resumes the order in the store if it
 * still lives. old_ari_id: "replaces" where the CA offers ARI, NULL if none; old_key_pem: with reuse_key.
 * -EBUSY: another errand. */
int acme_issue(struct acme *, const char *old_ari_id, const char *old_key_pem, acme_done *, void *arg);
/* reason: RFC 5280 section 5.3.1. */
int acme_revoke(struct acme *, const char *chain_pem, int reason, acme_done *, void *arg);
/* A new account key; survives a crash in any step (pending_key_pem in the store). */
int acme_rollover(struct acme *, acme_done *, void *arg);
int acme_deactivate(struct acme *, acme_done *, void *arg);
/* retry_after = when to ask again.  ACME_REFUSED with permanent: the CA has no ARI. */
int acme_ari(struct acme *, const char *ari_id, acme_done *, void *arg);
