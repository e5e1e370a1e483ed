/* SPDX-License-Identifier: MIT */
/*
 * tls_crl_files - the revocation lists of one role: read at start and again when their files change, and what
 * the log, /readyz and the metrics are told of them.  Under the writers' lock of the identity, but for what
 * is marked [any].
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/config/tls_config.h"
#include "core/tls/tls_crl.h"
#include "core/tls/tls_files.h"

struct health;
struct metrics_page;

struct tls_crl_files {
	const struct tls_role *config;
	const char *role;         /* "server" */
	struct tls_stamp *loaded; /* of what is in use; one for each file, as those behind it */
	struct tls_stamp *seen;   /* at the last look */
	struct tls_stamp *found;
	char trouble[TLS_COMPLAINT]; /* why some of what is in use is not what the files say */
	int64_t expiry_logged_s;     /* lists that ended until then were reported */

	pthread_mutex_t lock;    /* of what follows */
	char cut[TLS_COMPLAINT]; /* why a peer was last disconnected */
	int64_t cut_s;           /* when, seconds since 1970 */
	bool cut_is_news;
};

/* Zeroed before.  0, -ENOMEM; tls_crl_files_done() in any case. */
int tls_crl_files_init(struct tls_crl_files *, const struct tls_role *, const char *role);
void tls_crl_files_done(struct tls_crl_files *);

/*
 * Read them all; ca_pem are the CAs of the role, may be NULL.  A file that cannot be used leaves the lists of
 * before in use; without those (NULL: at start) that is an error, or a warning where the policy is to let
 * peers in.  0 with a reference at *out (NULL: no files are configured), -EINVAL after complaints, -EAGAIN: a
 * file is being written to; -ENOMEM.
 */
int tls_crl_files_read(struct tls_crl_files *, const char *ca_pem, const struct tls_crls *before, int64_t now,
		       const struct tls_complaints *, struct tls_crls **out);
/* Have they changed, and is nobody writing to them?  To be asked a few times a second. */
bool tls_crl_files_changed(struct tls_crl_files *);
/* To the log once, and to /readyz (health may be NULL): lists that are out of date, files that cannot be
 * used, peers that were cut off. */
void tls_crl_files_report(struct tls_crl_files *, const struct tls_crls *, int64_t now, struct health *);
/* [any] A peer is revoked and will be disconnected. */
void tls_crl_files_cut(struct tls_crl_files *, int64_t now, const char *why);
/* [any] Is there a peer that was cut off since the last report? */
bool tls_crl_files_have_news(struct tls_crl_files *);
/* [any] */
void tls_crl_files_collect(const struct tls_crls *, const char *labels, struct metrics_page *);
