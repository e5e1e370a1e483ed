/* SPDX-License-Identifier: MIT */
/*
 * key - private keys, of the account and of certificates, and what they sign: requests (RFC 7515 flattened
 * JSON, RFC 8555 section 6.2), JWK and thumbprints (RFC 7638).  New keys are EC P-256; any EC P-256, P-384 or
 * RSA key of at least 2048 bits is read.  Pure, thin over GnuTLS and Jansson.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <gnutls/abstract.h>
#include <jansson.h>

#define BASE64URL      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#define JWS_THUMBPRINT 44  /* bytes of SHA-256 in base64url, with the end */
#define JWS_TOKEN_MAX  256 /* bytes of a challenge's token */

struct identity_key {
	gnutls_privkey_t private;
	gnutls_pubkey_t public;
	char *pem; /* PKCS #8, or what it was read from */
};

/* 0, -ENOMEM, -EIO (no randomness). */
int key_new(struct identity_key **out);
/* PEM, PKCS #8, SEC 1 or PKCS #1.  0, -EINVAL with the reason in why, -ENOMEM. */
int key_load(const char *pem, size_t len, struct identity_key **out, char *why, size_t why_size);
/* PEM, malloced; NULL if out of memory.  Wipe it before freeing: key_text_free(). */
char *key_pem(const struct identity_key *);
/* NULL is allowed. */
void key_free(struct identity_key *);
void key_text_free(char *pem);
/* A document that holds keys as text for key_text_free(); NULL: out of memory, or it is NULL. */
char *key_json_text(const json_t *, size_t flags);
/* json_decref() that wipes all texts first.  NULL is allowed. */
void key_json_free(json_t *);

/* Unpadded base64url, malloced; NULL if out of memory. */
char *base64url(const void *data, size_t len);
/* base64url, and the standard alphabet, in which some CAs hand out keys; padding at the end is let pass.  0
 * with malloced bytes, -EINVAL, -ENOMEM. */
int base64url_decode(const char *text, uint8_t **out, size_t *len);

/*
 * The body of a request: payload is JSON text, "" for POST-as-GET.  With kid the account's URL names the key,
 * without it the JWK is sent along; nonce NULL: none, as in a key change.  *out is malloced.  0, -ENOMEM,
 * -EINVAL (the key cannot sign).
 */
int jws_sign(const struct identity_key *, const char *kid, const char *nonce, const char *url,
	     const char *payload, char **out);
/* "externalAccountBinding" (section 7.3.4): mac is what the CA gave, in base64; HS256.  *out is JSON text. */
int jws_eab(const struct identity_key *account, const char *kid, const char *mac, const char *url,
	    char **out);
/* The payload of a key change (section 7.3.5): the inner JWS, signed by the new key. */
int jws_key_change(const struct identity_key *old_key, const struct identity_key *new_key,
		   const char *account_url, const char *url, char **out);
int jws_thumbprint(const struct identity_key *, char out[JWS_THUMBPRINT]);
/* token "." thumbprint, malloced (section 8.1).  -EINVAL: the token has other characters than base64url's, or
 * more than JWS_TOKEN_MAX of them. */
int jws_key_authorization(const struct identity_key *account, const char *token, char **out);

/* What GnuTLS takes as a datum; it only reads it. */
static inline gnutls_datum_t key_datum(const void *data, size_t len)
{
	union {
		const void *in;
		unsigned char *out;
	} p = {.in = data};
	return (gnutls_datum_t){.data = p.out, .size = (unsigned)len};
}
