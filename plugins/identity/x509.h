/* SPDX-License-Identifier: MIT */
/*
 * x509 - certificate signing requests (PKCS #10) and the chains that a CA sends back for them.  Pure, any
 * thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "key.h"

#define CHAIN_MAX    16
#define CHAIN_ARI_ID 128 /* bytes of an ARI certificate id, with the end */

/* CN = the first name (a whitelist of CNs must find it), subjectAltName = all of them, DNS names or
 * addresses, each once.  0 with DER for gnutls_free(), -EINVAL, -ENOMEM. */
int csr_new(const struct identity_key *, const char *const *names, size_t n, gnutls_datum_t *der);

struct chain_info {
	char *pem; /* leaf first, one certificate after the other, nothing else; malloced */
	size_t n;
	int64_t not_before, not_after;  /* of the leaf, seconds since 1970 */
	char subject[256], issuer[256]; /* CN, or the whole DN: for messages, harmless characters only */
	char root[256];                 /* issuer of the last certificate, likewise */
	char serial[64];                /* hex */
	char ari_id[CHAIN_ARI_ID]; /* RFC 9773 section 4.1; "" if the leaf has no authority key identifier */
};

/*
 * Take a chain as hostile text: CERTIFICATE blocks and white space only (RFC 8555 section 9.1), at most
 * CHAIN_MAX, no NUL, each signed by the next (in the order given, or put in order; none in excess), keys
 * whose signatures can be checked in a short time, leaf for key (NULL: the first certificate) and exactly for
 * the names (NULL: any): subjectAltName's DNS names and addresses are these, in any case, and a CN is one of
 * them; other kinds of names do not matter.  Not checked: validity now, trust.  0 with *out to be released by
 * chain_done(); -EINVAL with the reason in why, -ENOMEM.
 */
int chain_read(const char *pem, size_t len, const struct identity_key *key, const char *const *names,
	       size_t n, struct chain_info *out, char *why, size_t why_size);
void chain_done(struct chain_info *);
/* SHA-256 in hex of the root that signed a chain's last certificate, looked for in NULL-ended PEM files and
 * in the chain itself.  0 or -ENOENT. */
#define CHAIN_FINGERPRINT 65 /* bytes, with the end */
int chain_root_fingerprint(const char *chain_pem, const char *const *files, char out[CHAIN_FINGERPRINT]);
