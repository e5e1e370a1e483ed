/* SPDX-License-Identifier: MIT */
/* ws_tls_material - from PEM, as struct ss_tls_material has it, to what OpenSSL wants.  Any thread. */
#pragma once
#include <stdbool.h>
#include <openssl/ssl.h>
#include <semstreams/plugin.h>

struct tls_identity {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * chain;
};

void tls_identity_free(struct tls_identity *);
/* Certificate, chain and key, all NULL if there are none yet.  0, -EINVAL with why. */
int tls_identity_read(const struct ss_tls_material *, struct tls_identity *, const char **why);
/* Whom the context trusts; a server also tells clients.  0, -EINVAL or -ENOMEM with why. */
int tls_set_trust(SSL_CTX *, const struct ss_tls_material *, bool server, const char **why);
/* The least version.  0, -EINVAL. */
int tls_set_version(SSL_CTX *, const struct ss_tls_material *);
