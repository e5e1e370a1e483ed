/* SPDX-License-Identifier: MIT */
/*
 * tls_identity_internal - what the parts of the identity share: the state of a role, and how it changes.  See
 * tls_identity.h.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/config/tls_config.h"
#include "core/tls/tls_crl_files.h"
#include "core/tls/tls_files.h"
#include "core/tls/tls_generation.h"
#include "core/tls/tls_identity.h"

struct role {
	struct tls_role config; /* the configuration's, whose files it has; names change, see names_of */
	struct tls_generation *names_of; /* whose names config has; NULL: the configuration's own */
	uint32_t number;
	struct tls_generation
		*current; /* under the lock; as are all generations here, ours to release; NULL: off */

	/* What it is made of; under the writers' lock. */
	struct tls_generation *files; /* trust and pair as last read */
	struct tls_generation *given; /* published by the provider; NULL: none */
	bool lost;                    /* the provider says it has none */
	char reason[512];             /* why */
	char refused[TLS_COMPLAINT];  /* why what the provider last brought is not used */
	uint64_t warned_ns;           /* when the log last warned of it, monotonic */
	_Atomic bool fallback;        /* lost, and the files have a pair */

	/* For reading files again; under the writers' lock. */
	size_t n_files;
	struct tls_stamp *loaded; /* of the current generation's files */
	struct tls_stamp *seen;   /* at the last poll */
	struct tls_stamp *failed; /* of what last could not be used, and why */
	struct tls_stamp *found;  /* scratch */
	char failure[TLS_COMPLAINT];

	struct tls_crl_files crl;

	bool expiry_logged, overdue_logged;      /* of the current certificate */
	_Atomic uint64_t failures[SS_TLS_FAILS]; /* of handshakes */
	_Atomic uint64_t revoked[SS_TLS_FAILS];  /* peers that were let in and are no longer welcome */
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

extern const char *const tls_role_names[TLS_ROLES]; /* "server", "client" */

/* [writers] Make what the files and the provider have now current.  1: that is a change; 0; -ENOMEM. */
int tls_role_renew(struct tls_identity *, struct role *);
/* [writers] To /readyz. */
void tls_role_report(struct tls_identity *, const struct role *);
/* Tell those who watch of what is new; without the writers' lock. */
void tls_identity_notify(struct tls_identity *);
