/* SPDX-License-Identifier: MIT */
/*
 * tls_peer - may this peer in?  Decides by the certificates it has shown, on top of the TLS library's
 * verification of the chain.  Pure over DER, any thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h> /* struct ss_der, SS_TLS_... */
#include <semstreams/ext/tls.h>

struct tls_trust;

#define TLS_PEER_MAX_NAME 255 /* bytes of a certificate's name that can be an identity */

struct tls_peer_policy {
	uint32_t role;            /* ours */
	uint32_t flags;           /* as in struct ss_tls_material */
	uint32_t min_version;     /* likewise */
	const char *const *names; /* server: who is let in; n_names 0 = whoever the CAs vouch for */
	size_t n_names;
	const struct tls_trust *trust; /* the CAs, for their name constraints; NULL: unknown */
};

/*
 * chain, n, error, host and results as in struct ss_tls.check_peer; now in seconds since 1970.  *name is the
 * entry of the policy that matched, in its spelling; without a list, and for a client, the first name.
 * A certificate with dNSNames has these names only: its CN counts, and then comes first, if it is one of
 * them. Without dNSNames its CNs are its names.  The name must satisfy the name constraints of the CAs above.
 * *name is "" if there is none or nothing was verified.  0 or -EACCES.
 */
int tls_peer_check(const struct tls_peer_policy *, const struct ss_der *chain, uint32_t n, int32_t error,
		   const char *host, int64_t now, char *name, size_t name_size, int32_t *fail, char *why,
		   size_t why_size);

/* A peer that was let in: see recheck_peer of struct ss_tls. */
struct tls_known_peer {
	uint32_t role; /* ours */
	const struct ss_der *chain;
	uint32_t n;
	const char *host, *name;
};
/* Would it be let in now, under the same name?  Its chain is verified anew, by these CAs; NULL: there are
 * none.  0 or -EACCES. */
int tls_peer_recheck(const struct tls_peer_policy *, struct tls_trust *, const struct tls_known_peer *,
		     int64_t now, int32_t *fail, char *why, size_t why_size);

/* "unknown_ca" for SS_TLS_FAIL_UNKNOWN_CA, ...: the label in metrics; out of range is "other". */
const char *tls_peer_reason(int32_t fail);
