/* SPDX-License-Identifier: MIT */
/*
 * key - private keys: of the account and of certificates.  New ones are EC P-256; any EC P-256, P-384 or RSA
 * key of at least 2048 bits is read.  Pure, thin over GnuTLS.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <gnutls/abstract.h>

struct acme_key {
	gnutls_privkey_t private;
	gnutls_pubkey_t public;
};

/* 0, -ENOMEM, -EIO (no randomness). */
int key_new(struct acme_key **out);
/* PEM, PKCS #8, SEC 1 or PKCS #1.  0, -EINVAL with the reason in why, -ENOMEM. */
int key_load(const char *pem, size_t len, struct acme_key **out, char *why, size_t why_size);
/* PKCS #8 PEM, malloced; NULL if out of memory.  Wipe it before freeing: key_text_free(). */
char *key_pem(const struct acme_key *);
/* A number as GnuTLS exports it, in exactly n bytes, big-endian.  -EINVAL: it is larger. */
int key_number(const gnutls_datum_t *, uint8_t *to, size_t n);
bool key_equal(const struct acme_key *, const struct acme_key *);
/* NULL is allowed. */
void key_free(struct acme_key *);
void key_text_free(char *pem);
