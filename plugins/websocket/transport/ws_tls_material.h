/* SPDX-License-Identifier: MIT */
/*
 * ws_tls_material - between struct ss_tls and OpenSSL: PEM to what OpenSSL wants, its verdicts to
 * SS_TLS_FAIL_... Any thread.
 */
#pragma once
#include <stdbool.h>
#include <openssl/ssl.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>

struct ws_tls_identity {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) * chain;
};

void ws_tls_identity_free(struct ws_tls_identity *);
/* Certificate, chain and key, all NULL if there are none yet.  0, -EINVAL with why. */
int ws_tls_identity_read(const struct ss_tls_material *, struct ws_tls_identity *, const char **why);
/* Whom the context trusts; a server also tells clients.  0, -EINVAL or -ENOMEM with why. */
int ws_tls_set_trust(SSL_CTX *, const struct ss_tls_material *, bool server, const char **why);
/* The least version.  0, -EINVAL. */
int ws_tls_set_version(SSL_CTX *, const struct ss_tls_material *);
/* Of a verdict X509_V_...: SS_TLS_FAIL_..., -1 if it is good. */
int32_t ws_tls_fail_of_error(long error);
/* The verdict that makes OpenSSL send the alert that fits. */
int ws_tls_error_of_fail(int32_t fail);
