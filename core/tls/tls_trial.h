/* SPDX-License-Identifier: MIT */
/*
 * tls_trial - would OpenSSL, which makes the connections, use what GnuTLS has read?  Tried in throw-away
 * contexts with the settings of the real ones, before anybody gets it.  Pure, any thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"

/*
 * Take certificate, key, chain and CAs of a material for this role and least version and, if there is a
 * certificate, shake hands with itself in memory.  0, -EINVAL with why, -ENOMEM.
 */
int tls_trial_identity(const struct ss_tls_material *, uint32_t role, uint32_t min_version, char *why,
		       size_t why_size);

/* Tell of each CA that can verify nothing.  The number of those that can, -ENOMEM. */
typedef void tls_trial_useless_fn(void *arg, gnutls_x509_crt_t ca, const char *why);
int tls_trial_cas(const struct cert_list *, tls_trial_useless_fn *, void *arg);
