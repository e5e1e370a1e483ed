/* SPDX-License-Identifier: MIT */
/*
 * semstreams/ext/tls-openssl.h - a TLS identity of semstreams/ext/tls.h in an SSL_CTX of OpenSSL.  The
 * settings of every context stand here once, so that what the host has tried is what the transport uses.  Not
 * installed.  Any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <openssl/ssl.h>
#include <semstreams/ext/tls.h>

/* Is it, as the first error of reading a certificate, the encoding of a name?  OpenSSL is strict there. */
bool tls_openssl_is_name_fault(unsigned long error);
#define TLS_OPENSSL_NAME_FAULT                                                                               \
	"has a name in an encoding that OpenSSL does not read; have it issued anew, with names as "          \
	"UTF8String"

struct tls_openssl_identity {
	X509 *leaf; /* NULL: there is none yet; then so is the rest */
	EVP_PKEY *key;
	STACK_OF(X509) * chain; /* without the leaf */
};

/* What no configuration changes.  0, -ENOMEM. */
int tls_openssl_policy(SSL_CTX *);
/* The least version.  0, -EINVAL. */
int tls_openssl_version(SSL_CTX *, const struct ss_tls_material *);
/* Whom the context trusts; a server also tells clients.  0, -EINVAL or -ENOMEM with why. */
int tls_openssl_trust(SSL_CTX *, const struct ss_tls_material *, bool server, const char **why);

/* 0, -EINVAL with why. */
int tls_openssl_identity_read(const struct ss_tls_material *, struct tls_openssl_identity *,
			      const char **why);
void tls_openssl_identity_free(struct tls_openssl_identity *);

/* The first private key of a PEM text, not encrypted; NULL with the reason in OpenSSL's error queue. */
EVP_PKEY *tls_openssl_key(const char *pem, size_t len);
/* The key of a certificate that signs elsewhere, and holds a reference to the signer; NULL with the reason in
 * OpenSSL's error queue: the key is of another kind, or out of memory. */
EVP_PKEY *tls_openssl_signing_key(const struct ss_tls_signer *, X509 *leaf);
