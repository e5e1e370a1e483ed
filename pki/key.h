/* SPDX-License-Identifier: MIT */
/*
 * key - private keys: made, read from PEM files or PKCS#11 tokens, written as PKCS #8.  By GnuTLS, but for
 * encrypted files, which libcrypto writes: step-ca does not read those of GnuTLS 3.7.  Any thread, but
 * for prompts.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <semstreams/base/strbuf.h>
#include "fault.h"

/* Where a passphrase, or a token's PIN, is from; all NULL and false: nowhere. */
struct passphrase {
	const char *file, *env;
	bool prompt;
	const char *options; /* how the user says so, for messages */
};

/* Read it into a secret buffer, empty before; *where says where it was from.  0, -EINVAL, -ENOMEM. */
int passphrase_read(const struct passphrase *, const char *what, struct ss_strbuf *out, const char **where,
		    struct fault *);

struct key {
	gnutls_x509_privkey_t x509; /* NULL: it stays in a token */
	gnutls_privkey_t private;
	gnutls_pubkey_t public;
	bool sealed;  /* it was read with a passphrase */
	bool exposed; /* others may read the file that it was read from */
};

/* The types by name: "rsa2048" "rsa3072" "rsa4096" "p256" "p384" "ed25519"; NULL at the end. */
extern const char *const key_types[];

/* The passphrase for something new, into a secret buffer: what is typed blindly is typed twice.  0, -EINVAL
 * with the fault, -ENOMEM. */
int passphrase_new(const struct passphrase *, struct ss_strbuf *out, struct fault *);
/* A new key.  0 with *out for key_done(), -EINVAL with the fault, -ENOMEM. */
int key_new(const char *type, struct key *out, struct fault *);
/* Read a PEM file, or find a key in a token by its URI ("pkcs11:...").  As key_new(). */
int key_load(const char *path, const struct passphrase *, struct key *out, struct fault *);
bool key_is_uri(const char *path);
void key_done(struct key *);
/* As PKCS #8 PEM, encrypted if there is a passphrase, into a secret buffer.  0, -EINVAL, -ENOMEM. */
int key_pem(const struct key *, const struct passphrase *, struct ss_strbuf *out, struct fault *);

/* Is a public key of a kind and size that we vouch for?  0, -EINVAL with what is wrong in the fault. */
int key_check_public(gnutls_pubkey_t, const char *whose, struct fault *);
/* "RSA 4096", "ECDSA P-256", "Ed25519" into 32 bytes; returns buf. */
const char *key_show(gnutls_pubkey_t, char *buf);
/* SHA-256 of a public key in hex, 65 bytes; returns buf. */
const char *key_fingerprint(gnutls_pubkey_t, char *buf);
/* The type of key_types[] that it is; the nearest to use where it is none. */
const char *key_type_of(gnutls_pubkey_t);
