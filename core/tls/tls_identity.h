/* SPDX-License-Identifier: MIT */
/*
 * tls_identity - certificates, keys and trust of "security.tls": read from files at start and again when they
 * change, or brought by a provider, with the files to fall back to; handed out in immutable, counted
 * generations.  Belongs to the control thread; what is marked [any] is for all threads.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"

struct health;
struct metrics_page;
struct tls_config;
struct tls_identity;
struct tls_known_peer;
struct tls_pair;

/* Somebody to notify of a new generation; embedded by its owner. */
struct tls_watcher {
	int (*notify)(struct tls_watcher *); /* in any thread, under a lock: only pass it on.  Not 0: try
					      again later */
	struct tls_watcher *next;
	uint64_t notified; /* the newest generation it knows of */
};

/*
 * Read the files that the config of doc names; all three and health (may be NULL) must outlive the identity.
 * Everything wrong goes to diag with its place.  0; -EINVAL with *out set all the same, so that those who ask
 * whether TLS is on can be checked too; -ENOMEM.  Without with_files that is all that can be asked.
 */
int tls_identity_new(const struct jdoc *doc, const struct tls_config *, bool with_files, struct health *,
		     struct diag *, struct tls_identity **out);
/* All generations have been released and all watchers removed; NULL is allowed. */
void tls_identity_free(struct tls_identity *);

/*
 * Look whether files have changed and read them if so.  Only a whole set that is valid replaces the old one;
 * else the old one stays, which is logged and counted once per change.  Files written within the last second
 * are left for the next call, so that nothing half-written is taken.  To be called every few seconds; NULL is
 * allowed.
 */
void tls_identity_poll(struct tls_identity *);
/* The same for revocation lists, which may not wait: to be called several times a second if there are any.  A
 * file is taken when two calls find it the same. */
void tls_identity_poll_crls(struct tls_identity *);
bool tls_identity_has_crls(const struct tls_identity *);
/* Read all files now, settled or not.  0; -EINVAL, -ENOMEM: what is wrong was logged and the old ones stay;
 * -EAGAIN: a file is being written to, a later poll will take it. */
int tls_identity_reload(struct tls_identity *);

/*
 * From now on these clients are allowed (allowed_client_cns; n 0: all that the CAs vouch for); copied.  1:
 * that is a change, which was logged, and peers are to be checked again; 0: it is none; -ENOMEM.
 */
int tls_identity_set_names(struct tls_identity *, const char *const *names, size_t n);

/*
 * [any] For providers: as in struct ss_tls_publish, for the roles (1 << SS_TLS_...) whose certificate comes
 * from a provider.
 */
int tls_identity_publish(struct tls_identity *, uint32_t roles, const struct tls_pair *, char *why,
			 size_t why_size);
void tls_identity_unavailable(struct tls_identity *, uint32_t roles, const char *reason);
/* Say again in the log, each hour, which role has no certificate of its provider.  now is the monotonic
 * clock. */
void tls_identity_remind(struct tls_identity *, uint64_t now_ns);

/* [any] As in struct ss_tls. */
bool tls_identity_enabled(const struct tls_identity *, uint32_t role);
const struct ss_tls_material *tls_identity_acquire(struct tls_identity *, uint32_t role);
void tls_identity_release(const struct ss_tls_material *); /* NULL is allowed */
/* [any] Exchange a generation for the same without its certificate; NULL: out of memory. */
const struct ss_tls_material *tls_identity_without_certificate(const struct ss_tls_material *);
int tls_identity_check_peer(struct tls_identity *, uint32_t role, const struct ss_der *chain, uint32_t n,
			    int32_t error, const char *host, char *name, size_t name_size, int32_t *fail,
			    char *why, size_t why_size);
/* As recheck_peer of struct ss_tls. */
int tls_identity_recheck_peer(struct tls_identity *, const struct tls_known_peer *, int64_t *valid_until,
			      int32_t *fail, char *why, size_t why_size);
bool tls_identity_listed(struct tls_identity *, const char *name);
void tls_identity_count_failure(struct tls_identity *, uint32_t role, int32_t fail);

/* [any] From now on notify of generations newer than the current ones. */
void tls_identity_watch(struct tls_identity *, struct tls_watcher *);
/* [any] After return notify is not called any more.  A watcher that was never added is fine. */
void tls_identity_unwatch(struct tls_identity *, struct tls_watcher *);

/* [any] The metrics; nothing if TLS is off.  NULL is allowed. */
void tls_identity_collect(struct tls_identity *, struct metrics_page *);
