/* SPDX-License-Identifier: MIT */
/*
 * tls_identity_impl - the inside of a TLS identity, shared by tls_identity.c (making, handing out),
 * tls_reload.c (files that change) and tls_supply.c (providers).
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <semstreams/ext/tls.h>
#include "core/config/tls_config.h"
#include "core/tls/tls_files.h"
#include "core/tls/tls_identity.h"

struct role {
	const struct tls_role *config;
	uint32_t number;
	struct tls_generation
		*current; /* under the lock; as are all generations here, ours to release; NULL: off */

	/* What it is made of; under the writers' lock. */
	struct tls_generation *files; /* trust and pair as last read */
	struct tls_generation *given; /* by the provider; NULL: none */
	bool lost;                    /* the provider says it has none */
	char reason[512];             /* why */
	uint64_t told_ns;             /* when the log last said so, monotonic */
	_Atomic bool fallback;        /* lost, and the files have a pair */

	/* For reading files again; under the writers' lock. */
	size_t n_files;
	struct tls_stamp *loaded; /* of the current generation's files */
	struct tls_stamp *seen;   /* at the last poll */
	struct tls_stamp *failed; /* of what last could not be used, and why */
	struct tls_stamp *found;  /* scratch */
	char failure[TLS_COMPLAINT];

	bool expiry_told;
	_Atomic uint64_t failures[SS_TLS_FAILS]; /* of handshakes */
};

struct tls_identity {
	const struct tls_config *config;
	struct health *health; /* NULL: nobody wants to know */
	struct role roles[TLS_ROLES];
	pthread_mutex_t writers; /* one of them at a time; taken before the lock */
	pthread_mutex_t lock;
	uint64_t newest;              /* generation; under the lock */
	struct tls_watcher *watchers; /* under the lock */
	_Atomic uint64_t reloads, reload_failures;
};

extern const char *const tls_role_names[TLS_ROLES];
/* Their entries in /readyz, and the ids of their providers. */
extern const char *const tls_role_ids[TLS_ROLES];

/* Wall clock, seconds. */
int64_t tls_now(void);
bool tls_same_text(const char *, const char *); /* NULLs are the same */

/* Make a generation of what the role is made of, the current one if that is news; 1, 0 (nothing changed),
 * -ENOMEM. */
int tls_role_renew(struct tls_identity *, struct role *);
/* Tell whoever watches, without a lock held. */
void tls_tell_watchers(struct tls_identity *);

/* tls_supply.c: a role of a provider that has not said anything yet. */
void tls_supply_begin(struct tls_identity *, struct role *);
