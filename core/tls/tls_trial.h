/* SPDX-License-Identifier: MIT */
/*
 * tls_trial - would OpenSSL, which makes the connections, use what GnuTLS has read?  Tried in throw-away
 * contexts with the settings of the real ones, before anybody gets it.  The library is heavy, and a host
 * without TLS needs it for nothing else: what uses it stands in a module, core/tls/openssl_trial.c, which is
 * loaded when it is first asked for and stays.  Any thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"

struct tls_crl;

/* Told of each CA that can verify nothing. */
typedef void tls_trial_useless_fn(void *arg, gnutls_x509_crt_t ca, const char *why);

/* What the module exports, as TLS_TRIAL_ENTRY.  All of it is pure. */
#define TLS_TRIAL_ENTRY semstreams_tls_openssl
struct tls_trial {
	uint32_t struct_size;
	const char *version; /* of the program it belongs to */

	/*
	 * The first private key of a PEM text: PKCS #8, PKCS #1 or SEC 1, with or without its public part,
	 * not encrypted.  Both libraries can use it.  0, -EINVAL with the reason in why, -ENOMEM.
	 */
	int (*key)(const char *pem, size_t len, gnutls_x509_privkey_t *out, char *why, size_t why_size);
	/*
	 * Take certificate, key, chain and CAs of a material for this role and least version and, if there is
	 * a certificate, shake hands with itself in memory.  0, -EINVAL with why, -ENOMEM.
	 */
	int (*identity)(const struct ss_tls_material *, uint32_t role, uint32_t min_version, char *why,
			size_t why_size);
	/* The number of CAs that can verify anything, -ENOMEM. */
	int (*cas)(const struct cert_list *, tls_trial_useless_fn *, void *arg);
	/*
	 * A certificate revocation list in DER, whose signature must be that of one of the issuers, taken
	 * apart.  0 with *out (but for its digest) for tls_crl_done(), -EINVAL with why, -ENOMEM.
	 */
	int (*crl)(const uint8_t *der, size_t len, const struct cert_list *issuers, struct tls_crl *out,
		   char *why, size_t why_size);
};

/* The module, loaded if it is not yet, from file; NULL: from where it is installed.  NULL with why, which
 * names the file. */
const struct tls_trial *tls_trial_open(const char *file, char *why, size_t why_size);
