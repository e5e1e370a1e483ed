/* SPDX-License-Identifier: MIT */
/* jws - signed requests, JWK and thumbprints: Jansson writes the JSON, GnuTLS signs.  Pure, any thread. */
#include "jws.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/crypto.h>
#include <jansson.h>

enum {
	TOKEN_MAX = 256,
	COORDINATE_MAX = 48, /* bytes, of P-384 */
};

/* ---- base64url ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *base64url(const void *data, size_t len)
{
	const unsigned char *in = data;
	char *text = malloc(len / 3 * 4 + 5), *to = text;
	uint32_t bits = 0;
	unsigned have = 0;
	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | in[i];
		for (have += 8; have >= 6; have -= 6)
			*to++ = alphabet[bits >> (have - 6) & 63];
	}
	if (have)
		*to++ = alphabet[bits << (6 - have) & 63];
	*to = 0;
	return text;
}

static int sextet(char c)
{
	const char *at = c == '+' ? alphabet + 62 : c == '/' ? alphabet + 63 : strchr(alphabet, c);
	return at ? (int)(at - alphabet) : -1;
}

int base64url_decode(const char *text, uint8_t **out, size_t *len)
{
	size_t n = strlen(text), padded = n;
	uint32_t bits = 0;
	unsigned have = 0;
	while (n > 0 && padded - n < 2 && text[n - 1] == '=')
		n--;
	if (n % 4 == 1 || (n != padded && padded % 4))
		return -EINVAL;
	uint8_t *bytes = malloc(n / 4 * 3 + 3), *to = bytes;
	if (!bytes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int value = sextet(text[i]);
		if (value < 0) {
			free(bytes);
			return -EINVAL;
		}
		bits = bits << 6 | (uint32_t)value;
		have += 6;
		if (have >= 8) {
			have -= 8;
			*to++ = (uint8_t)(bits >> have);
		}
	}
	*out = bytes;
	*len = (size_t)(to - bytes);
	return 0;
}

/* ---- keys as JSON ---- */

static int error_of(int rc)
{
	return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
}

static size_t coordinate_size(gnutls_ecc_curve_t curve)
{
	return curve == GNUTLS_ECC_CURVE_SECP256R1 ? 32 : curve == GNUTLS_ECC_CURVE_SECP384R1 ? 48 : 0;
}

static int jwk_rsa(gnutls_pubkey_t public, json_t **out)
{
	gnutls_datum_t n, e;
	int rc = gnutls_pubkey_export_rsa_raw2(public, &n, &e, GNUTLS_EXPORT_FLAG_NO_LZ);
	if (rc)
		return error_of(rc);
	char *n_text = base64url(n.data, n.size), *e_text = base64url(e.data, e.size);
	*out = n_text && e_text ? json_pack("{ss,ss,ss}", "kty", "RSA", "n", n_text, "e", e_text) : NULL;
	free(n_text);
	free(e_text);
	gnutls_free(n.data);
	gnutls_free(e.data);
	return *out ? 0 : -ENOMEM;
}

static int jwk_ec(gnutls_pubkey_t public, json_t **out)
{
	uint8_t bytes[2][COORDINATE_MAX];
	gnutls_ecc_curve_t curve;
	gnutls_datum_t x, y;
	int rc = gnutls_pubkey_export_ecc_raw2(public, &curve, &x, &y, GNUTLS_EXPORT_FLAG_NO_LZ);
	if (rc)
		return error_of(rc);
	size_t n = coordinate_size(curve);
	bool fits = n && key_number(&x, bytes[0], n) == 0 && key_number(&y, bytes[1], n) == 0;
	gnutls_free(x.data);
	gnutls_free(y.data);
	if (!fits)
		return -EINVAL;
	char *x_text = base64url(bytes[0], n), *y_text = base64url(bytes[1], n);
	*out = x_text && y_text ? json_pack("{ss,ss,ss,ss}", "kty", "EC", "crv", n == 32 ? "P-256" : "P-384",
					    "x", x_text, "y", y_text)
				: NULL;
	free(x_text);
	free(y_text);
	return *out ? 0 : -ENOMEM;
}

/* The public key (RFC 7517). */
static int jwk(const struct acme_key *key, json_t **out)
{
	int kind = gnutls_pubkey_get_pk_algorithm(key->public, NULL);
	if (kind == GNUTLS_PK_RSA)
		return jwk_rsa(key->public, out);
	return kind == GNUTLS_PK_ECDSA ? jwk_ec(key->public, out) : -EINVAL;
}

/* Without white space, its members in the order of RFC 7638 section 3. */
static int jwk_text(const struct acme_key *key, char **out)
{
	json_t *json;
	int rc = jwk(key, &json);
	if (rc)
		return rc;
	*out = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(json);
	return *out ? 0 : -ENOMEM;
}

int jws_thumbprint(const struct acme_key *key, char out[JWS_THUMBPRINT])
{
	char *text;
	uint8_t hash[32];
	int rc = jwk_text(key, &text);
	if (rc)
		return rc;
	rc = gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), hash);
	free(text);
	char *digest = rc ? NULL : base64url(hash, sizeof hash);
	if (digest)
		snprintf(out, JWS_THUMBPRINT, "%s", digest);
	free(digest);
	return rc ? error_of(rc) : digest ? 0 : -ENOMEM;
}

int jws_key_authorization(const struct acme_key *account, const char *token, char **out)
{
	char thumbprint[JWS_THUMBPRINT];
	size_t len = strspn(token, alphabet);
	if (len == 0 || len > TOKEN_MAX || token[len])
		return -EINVAL;
	int rc = jws_thumbprint(account, thumbprint);
	if (rc)
		return rc;
	return asprintf(out, "%s.%s", token, thumbprint) < 0 ? -ENOMEM : 0;
}

/* ---- signatures ---- */

struct algorithm {
	const char *name;
	gnutls_sign_algorithm_t sign;
	size_t half; /* bytes of r and of s; 0: RSA */
};

static int algorithm_of(const struct acme_key *key, struct algorithm *out)
{
	static const struct algorithm rs256 = {"RS256", GNUTLS_SIGN_RSA_SHA256, 0},
				      es256 = {"ES256", GNUTLS_SIGN_ECDSA_SHA256, 32},
				      es384 = {"ES384", GNUTLS_SIGN_ECDSA_SHA384, 48};
	int kind = gnutls_pubkey_get_pk_algorithm(key->public, NULL);
	gnutls_ecc_curve_t curve;
	if (kind == GNUTLS_PK_RSA) {
		*out = rs256;
		return 0;
	}
	if (kind != GNUTLS_PK_ECDSA || gnutls_pubkey_export_ecc_raw2(key->public, &curve, NULL, NULL, 0) ||
	    coordinate_size(curve) == 0)
		return -EINVAL;
	*out = curve == GNUTLS_ECC_CURVE_SECP256R1 ? es256 : es384;
	return 0;
}

/* JWS wants r and s side by side (RFC 7518 section 3.4), not as DER. */
static int raw_signature(const gnutls_datum_t *der, size_t half, char **out)
{
	uint8_t raw[2 * COORDINATE_MAX];
	gnutls_datum_t r, s;
	int rc = gnutls_decode_rs_value(der, &r, &s);
	if (rc)
		return error_of(rc);
	rc = key_number(&r, raw, half);
	if (rc == 0)
		rc = key_number(&s, raw + half, half);
	gnutls_free(r.data);
	gnutls_free(s.data);
	if (rc)
		return rc;
	*out = base64url(raw, 2 * half);
	return *out ? 0 : -ENOMEM;
}

static gnutls_datum_t datum(char *text)
{
	return (gnutls_datum_t){.data = (unsigned char *)text, .size = (unsigned)strlen(text)};
}

static int sign(const struct acme_key *key, char *text, char **out)
{
	gnutls_datum_t data = datum(text), signature;
	struct algorithm how;
	int rc = algorithm_of(key, &how);
	if (rc)
		return rc;
	rc = gnutls_privkey_sign_data2(key->private, how.sign, 0, &data, &signature);
	if (rc)
		return error_of(rc);
	if (how.half) {
		rc = raw_signature(&signature, how.half, out);
	} else {
		*out = base64url(signature.data, signature.size);
		rc = *out ? 0 : -ENOMEM;
	}
	gnutls_free(signature.data);
	return rc;
}

static int mac(const uint8_t *secret, size_t len, char *text, char **out)
{
	uint8_t digest[32];
	int rc = gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, len, text, strlen(text), digest);
	if (rc)
		return error_of(rc);
	*out = base64url(digest, sizeof digest);
	return *out ? 0 : -ENOMEM;
}

/* ---- JWS ---- */

/* key signs, or secret of len bytes.  Takes over protected_header; NULL: not enough memory or text that is
 * not UTF-8. */
static int flatten(const struct acme_key *key, const uint8_t *secret, size_t len, json_t *protected_header,
		   const char *payload, char **out)
{
	char *header = protected_header ? json_dumps(protected_header, JSON_COMPACT) : NULL;
	char *header64 = header ? base64url(header, strlen(header)) : NULL;
	char *payload64 = base64url(payload, strlen(payload)), *text = NULL, *signature = NULL;
	int rc = -ENOMEM;
	json_decref(protected_header);
	if (!header64 || !payload64 || asprintf(&text, "%s.%s", header64, payload64) < 0)
		goto out;
	rc = key ? sign(key, text, &signature) : mac(secret, len, text, &signature);
	if (rc)
		goto out;
	if (asprintf(out, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}", header64,
		     payload64, signature) < 0)
		rc = -ENOMEM;
out:
	free(header);
	free(header64);
	free(payload64);
	free(text);
	free(signature);
	return rc;
}

int jws_sign(const struct acme_key *key, const char *kid, const char *nonce, const char *url,
	     const char *payload, char **out)
{
	struct algorithm how;
	json_t *header, *own = NULL;
	int rc = algorithm_of(key, &how);
	if (rc == 0 && !kid)
		rc = jwk(key, &own);
	if (rc)
		return rc;
	if (kid)
		header = json_pack("{s:s, s:s, s:s*, s:s}", "alg", how.name, "kid", kid, "nonce", nonce,
				   "url", url);
	else
		header = json_pack("{s:s, s:o, s:s*, s:s}", "alg", how.name, "jwk", own, "nonce", nonce,
				   "url", url);
	if (!header)
		return -EINVAL; /* text that is not UTF-8 */
	return flatten(key, NULL, 0, header, payload, out);
}

int jws_eab(const struct acme_key *account, const char *kid, const char *mac_text, const char *url,
	    char **out)
{
	char *payload = NULL;
	uint8_t *secret;
	size_t len;
	int rc = base64url_decode(mac_text, &secret, &len);
	if (rc)
		return rc;
	json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "HS256", "kid", kid, "url", url);
	rc = len == 0 || !header ? -EINVAL : jwk_text(account, &payload);
	if (rc)
		json_decref(header);
	else
		rc = flatten(NULL, secret, len, header, payload, out);
	explicit_bzero(secret, len);
	free(secret);
	free(payload);
	return rc;
}

int jws_key_change(const struct acme_key *old_key, const struct acme_key *new_key, const char *account_url,
		   const char *url, char **out)
{
	json_t *old;
	int rc = jwk(old_key, &old);
	if (rc)
		return rc;
	json_t *change = json_pack("{s:s, s:o}", "account", account_url, "oldKey", old);
	if (!change)
		return -EINVAL;
	char *payload = json_dumps(change, JSON_COMPACT);
	json_decref(change);
	if (!payload)
		return -ENOMEM;
	rc = jws_sign(new_key, NULL, NULL, url, payload, out);
	free(payload);
	return rc;
}
