/* SPDX-License-Identifier: MIT */
/*
 * openssl - what the core does with OpenSSL, in a module of its own (tls_openssl.so): a host without TLS does
 * not load that library.  The members of struct tls_trial, see core/tls/tls_trial.h.  Pure, any thread.
 */
#pragma once
#include <openssl/evp.h>
#include "core/tls/cert.h"
#include "core/tls/tls_trial.h"

int openssl_key(const char *pem, size_t len, gnutls_x509_privkey_t *out, char *why, size_t why_size);
int openssl_identity(const struct ss_tls_material *, uint32_t role, uint32_t min_version, char *why,
		     size_t why_size);
int openssl_cas(const struct cert_list *, tls_trial_useless_fn *, void *arg);

/* For messages: "an RSA key of 2048 bits", "an EC key on curve secp224r1" */
const char *openssl_show_key(char buf[CERT_SHOWN], const EVP_PKEY *);
