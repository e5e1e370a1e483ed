/* SPDX-License-Identifier: MIT */
/* key - see key.h.  Any thread. */
#include "key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <semstreams/base/strbuf.h>

enum {
	PEM_MAX = 64 * 1024,
	RSA_MIN = 2048,
	RSA_MAX = 16384, /* bits; more take too long to sign with */
	NUMBER_MAX = 48, /* bytes, of P-384 */
};

/* The keys that CAs take, and how they sign (RFC 7518 section 3.1). */
static const struct algorithm {
	const char *name;
	gnutls_sign_algorithm_t sign;
	gnutls_ecc_curve_t curve;
	const char *curve_name;
	size_t half; /* bytes of a coordinate, and of r and s in a signature; 0: RSA */
} algorithms[] = {
	{"RS256", GNUTLS_SIGN_RSA_SHA256, GNUTLS_ECC_CURVE_INVALID, NULL, 0},
	{"ES256", GNUTLS_SIGN_ECDSA_SHA256, GNUTLS_ECC_CURVE_SECP256R1, "P-256", 32},
	{"ES384", GNUTLS_SIGN_ECDSA_SHA384, GNUTLS_ECC_CURVE_SECP384R1, "P-384", NUMBER_MAX},
};

static int error_of(int rc)
{
	return rc == 0 ? 0 : rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
}

/* NULL: it is of no such kind. */
static const struct algorithm *algorithm_of(const struct identity_key *key)
{
	int kind = gnutls_pubkey_get_pk_algorithm(key->public, NULL);
	gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
	if (kind != GNUTLS_PK_RSA && kind != GNUTLS_PK_ECDSA)
		return NULL;
	if (kind == GNUTLS_PK_ECDSA && (gnutls_pubkey_export_ecc_raw2(key->public, &curve, NULL, NULL, 0) ||
					curve == GNUTLS_ECC_CURVE_INVALID))
		return NULL;
	for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
		if (algorithms[i].curve == curve)
			return &algorithms[i];
	return NULL;
}

/* A number as GnuTLS exports it, in exactly n bytes, big-endian.  -EINVAL: it is larger. */
static int put_number(const gnutls_datum_t *value, uint8_t *to, size_t n)
{
	const uint8_t *from = value->data;
	size_t len = value->size;
	for (; len > 0 && *from == 0; len--)
		from++;
	if (len > n)
		return -EINVAL;
	memset(to, 0, n - len);
	memcpy(to + n - len, from, len);
	return 0;
}

/* ---- life cycle ---- */

static struct identity_key *alloc_key(void)
{
	struct identity_key *key = calloc(1, sizeof *key);
	if (key && gnutls_privkey_init(&key->private) == 0 && gnutls_pubkey_init(&key->public) == 0)
		return key;
	key_free(key);
	return NULL;
}

void key_free(struct identity_key *key)
{
	if (!key)
		return;
	if (key->public)
		gnutls_pubkey_deinit(key->public);
	if (key->private)
		gnutls_privkey_deinit(key->private);
	key_text_free(key->pem);
	free(key);
}

void key_text_free(char *pem)
{
	if (pem)
		explicit_bzero(pem, strlen(pem));
	free(pem);
}

static int add_text(const char *text, size_t len, void *to)
{
	ss_strbuf_add(to, text, len);
	return 0;
}

char *key_json_text(const json_t *json, size_t flags)
{
	struct ss_strbuf text = {.secret = true};
	if (json_dump_callback(json, add_text, &text, flags) == 0)
		return ss_strbuf_take(&text);
	ss_strbuf_done(&text);
	return NULL;
}

static void wipe(json_t *json)
{
	const char *name;
	json_t *value;
	json_object_foreach(json, name, value) wipe(value);
	if (json_is_string(json))
		explicit_bzero((char *)json_string_value(json), json_string_length(json));
}

void key_json_free(json_t *json)
{
	wipe(json);
	json_decref(json);
}

char *key_pem(const struct identity_key *key)
{
	return strdup(key->pem);
}

/* ---- new ones ---- */

/*
 * PKCS #8 around the numbers of a P-256 key.  GnuTLS writes the secret one as it does integers, with a zero
 * in front of half of all; RFC 5915 section 3 wants it of the curve's size, and some readers insist.
 */
static int write_pem(struct identity_key *key)
{
	enum { N = 32, SECRET = 36, MIDDLE = SECRET + N, X = MIDDLE + 6, Y = X + N, SIZE = Y + N };
	uint8_t der[SIZE] = "\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
			    "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
	gnutls_datum_t x, y, secret, pem = {0}, whole = key_datum(der, sizeof der);
	int rc = gnutls_privkey_export_ecc_raw2(key->private, NULL, &x, &y, &secret, 0);
	if (rc)
		return rc;
	memcpy(der + MIDDLE, "\xa1\x44\x03\x42\x00\x04", X - MIDDLE);
	rc = put_number(&secret, der + SECRET, N) || put_number(&x, der + X, N) || put_number(&y, der + Y, N)
		     ? GNUTLS_E_INTERNAL_ERROR
		     : gnutls_pem_base64_encode2("PRIVATE KEY", &whole, &pem);
	if (rc == 0 && !(key->pem = strndup((const char *)pem.data, pem.size)))
		rc = GNUTLS_E_MEMORY_ERROR;
	if (pem.data)
		explicit_bzero(pem.data, pem.size);
	explicit_bzero(secret.data, secret.size);
	explicit_bzero(der, sizeof der);
	gnutls_free(pem.data);
	gnutls_free(x.data);
	gnutls_free(y.data);
	gnutls_free(secret.data);
	return rc;
}

int key_new(struct identity_key **out)
{
	struct identity_key *key = alloc_key();
	if (!key)
		return -ENOMEM;
	int rc = gnutls_privkey_generate(key->private, GNUTLS_PK_ECDSA,
					 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc == 0)
		rc = gnutls_pubkey_import_privkey(key->public, key->private, 0, 0);
	if (rc == 0)
		rc = write_pem(key);
	if (rc) {
		key_free(key);
		return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO;
	}
	*out = key;
	return 0;
}

/* ---- reading ---- */

static int check_kind(const struct identity_key *key, char *why, size_t why_size)
{
	const struct algorithm *how = algorithm_of(key);
	gnutls_ecc_curve_t curve;
	unsigned bits = 0;
	int kind = gnutls_privkey_get_pk_algorithm(key->private, &bits);
	const char *name = gnutls_pk_get_name((gnutls_pk_algorithm_t)kind);
	if (how && (how->half || (bits >= RSA_MIN && bits <= RSA_MAX)))
		return 0;
	if (how)
		snprintf(why, why_size, "is an RSA key of %u bits; supported are %u to %u", bits, RSA_MIN,
			 RSA_MAX);
	else if (gnutls_pubkey_export_ecc_raw2(key->public, &curve, NULL, NULL, 0) == 0 &&
		 kind == GNUTLS_PK_ECDSA)
		snprintf(why, why_size, "is an EC key on curve %s; supported are P-256 and P-384",
			 gnutls_ecc_curve_get_name(curve));
	else
		snprintf(why, why_size, "is a key of type %s; supported are EC (P-256, P-384) and RSA",
			 name ? name : "unknown");
	return -EINVAL;
}

static void explain_text(const char *pem, size_t len, int rc, char *why, size_t why_size)
{
	static const char encrypted[] = "ENCRYPTED", key_line[] = "PRIVATE KEY-----",
			  cert[] = "BEGIN CERTIFICATE";
	if (memmem(pem, len, encrypted, sizeof encrypted - 1))
		snprintf(why, why_size,
			 "the private key is encrypted; decrypt it with openssl pkey -in ... -out ...");
	else if (!memmem(pem, len, key_line, sizeof key_line - 1))
		snprintf(why, why_size, "contains %s private key in PEM form",
			 memmem(pem, len, cert, sizeof cert - 1) ? "a certificate but no" : "no");
	else
		snprintf(why, why_size, "the private key cannot be read: %s", gnutls_strerror(rc));
}

/* key->pem into its parts. */
static int read_pem(struct identity_key *key, size_t len, char *why, size_t why_size)
{
	gnutls_datum_t d = key_datum(key->pem, len);
	int rc = gnutls_privkey_import_x509_raw(key->private, &d, GNUTLS_X509_FMT_PEM, NULL,
						GNUTLS_PKCS_PLAIN);
	if (rc) {
		explain_text(key->pem, len, rc, why, why_size);
		return error_of(rc);
	}
	rc = gnutls_pubkey_import_privkey(key->public, key->private, 0, 0);
	if (rc) {
		snprintf(why, why_size, "the private key cannot be used: %s", gnutls_strerror(rc));
		return error_of(rc);
	}
	rc = check_kind(key, why, why_size);
	if (rc)
		return rc;
	rc = gnutls_privkey_verify_params(key->private);
	if (rc)
		snprintf(why, why_size, "the private key is damaged: %s", gnutls_strerror(rc));
	return error_of(rc);
}

int key_load(const char *pem, size_t len, struct identity_key **out, char *why, size_t why_size)
{
	if (len > PEM_MAX) {
		snprintf(why, why_size, "is too large for a private key");
		return -EINVAL;
	}
	struct identity_key *key = alloc_key();
	int rc = -ENOMEM;
	if (key && (key->pem = strndup(pem, len)))
		rc = read_pem(key, strlen(key->pem), why, why_size);
	if (rc)
		key_free(key);
	else
		*out = key;
	return rc;
}

/* ---- base64url ---- */

char *base64url(const void *data, size_t len)
{
	struct ss_strbuf text = {.secret = true};

	ss_strbuf_base64url(&text, data, len);
	char *out = text.failed ? NULL : strndup(text.bytes ? text.bytes : "", text.len);
	ss_strbuf_done(&text);
	return out;
}

int base64url_decode(const char *text, uint8_t **out, size_t *len)
{
	size_t n = strspn(text, BASE64URL "+/"), padding = strspn(text + n, "=");
	if (text[n + padding] || n % 4 == 1 || padding > 2 || (padding && (n + padding) % 4))
		return -EINVAL;
	char *copy = strndup(text, n);
	if (!copy)
		return -ENOMEM;
	for (char *at = copy; *at; at++)
		*at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
	struct ss_strbuf bytes = {.secret = true};
	int rc = ss_base64url_read(copy, n, &bytes);
	key_text_free(copy);
	if (rc == 0 && !(*out = malloc(bytes.len + 1)))
		rc = -ENOMEM;
	if (rc == 0) {
		if (bytes.len)
			memcpy(*out, bytes.bytes, bytes.len);
		*len = bytes.len;
	}
	ss_strbuf_done(&bytes);
	return rc;
}

/* ---- keys as JSON ---- */

/* In n bytes; 0: as long as it is. */
static char *number64(const gnutls_datum_t *number, size_t n)
{
	uint8_t bytes[NUMBER_MAX];
	if (n == 0)
		return base64url(number->data, number->size);
	return put_number(number, bytes, n) ? NULL : base64url(bytes, n);
}

/* The public key (RFC 7517). */
static int jwk(const struct identity_key *key, json_t **out)
{
	const struct algorithm *how = algorithm_of(key);
	gnutls_datum_t a = {0}, b = {0};
	if (!how)
		return -EINVAL;
	int rc = how->half
			 ? gnutls_pubkey_export_ecc_raw2(key->public, NULL, &a, &b, GNUTLS_EXPORT_FLAG_NO_LZ)
			 : gnutls_pubkey_export_rsa_raw2(key->public, &a, &b, GNUTLS_EXPORT_FLAG_NO_LZ);
	if (rc)
		return error_of(rc);
	char *a64 = number64(&a, how->half), *b64 = number64(&b, how->half);
	*out = NULL;
	if (a64 && b64 && how->half)
		*out = json_pack("{ss,ss,ss,ss}", "kty", "EC", "crv", how->curve_name, "x", a64, "y", b64);
	else if (a64 && b64)
		*out = json_pack("{ss,ss,ss}", "kty", "RSA", "n", a64, "e", b64);
	free(a64);
	free(b64);
	gnutls_free(a.data);
	gnutls_free(b.data);
	return *out ? 0 : -ENOMEM;
}

/* Without white space, its members in the order of RFC 7638 section 3. */
static int jwk_text(const struct identity_key *key, char **out)
{
	json_t *json;
	int rc = jwk(key, &json);
	if (rc)
		return rc;
	*out = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(json);
	return *out ? 0 : -ENOMEM;
}

int jws_thumbprint(const struct identity_key *key, char out[JWS_THUMBPRINT])
{
	char *text;
	uint8_t hash[32];
	int rc = jwk_text(key, &text);
	if (rc)
		return rc;
	rc = gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), hash);
	free(text);
	if (rc)
		return error_of(rc);
	char *digest = base64url(hash, sizeof hash);
	snprintf(out, JWS_THUMBPRINT, "%s", digest ? digest : "");
	free(digest);
	return *out ? 0 : -ENOMEM;
}

int jws_key_authorization(const struct identity_key *account, const char *token, char **out)
{
	char thumbprint[JWS_THUMBPRINT];
	size_t len = strspn(token, BASE64URL);
	if (len == 0 || len > JWS_TOKEN_MAX || token[len])
		return -EINVAL;
	int rc = jws_thumbprint(account, thumbprint);
	if (rc)
		return rc;
	return asprintf(out, "%s.%s", token, thumbprint) < 0 ? -ENOMEM : 0;
}

/* ---- signatures ---- */

/* JWS wants r and s side by side (RFC 7518 section 3.4), not as DER. */
static int raw_signature(const gnutls_datum_t *der, size_t half, char **out)
{
	uint8_t raw[2 * NUMBER_MAX];
	gnutls_datum_t r, s;
	int rc = error_of(gnutls_decode_rs_value(der, &r, &s));
	if (rc)
		return rc;
	rc = put_number(&r, raw, half);
	if (rc == 0)
		rc = put_number(&s, raw + half, half);
	gnutls_free(r.data);
	gnutls_free(s.data);
	*out = rc ? NULL : base64url(raw, 2 * half);
	return rc == 0 && !*out ? -ENOMEM : rc;
}

static int sign(const struct identity_key *key, const char *text, char **out)
{
	const struct algorithm *how = algorithm_of(key);
	gnutls_datum_t data = key_datum(text, strlen(text)), signature;
	if (!how)
		return -EINVAL;
	int rc = error_of(gnutls_privkey_sign_data2(key->private, how->sign, 0, &data, &signature));
	if (rc)
		return rc;
	if (how->half)
		rc = raw_signature(&signature, how->half, out);
	else if (!(*out = base64url(signature.data, signature.size)))
		rc = -ENOMEM;
	gnutls_free(signature.data);
	return rc;
}

static int mac(const gnutls_datum_t *secret, const char *text, char **out)
{
	uint8_t digest[32];
	int rc = error_of(
		gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret->data, secret->size, text, strlen(text), digest));
	if (rc == 0 && !(*out = base64url(digest, sizeof digest)))
		rc = -ENOMEM;
	return rc;
}

/* ---- JWS ---- */

/* key signs, or where it is NULL secret.  Takes over header; NULL: it had text that is not UTF-8. */
static int flatten(const struct identity_key *key, const gnutls_datum_t *secret, json_t *header,
		   const char *payload, char **out)
{
	if (!header)
		return -EINVAL;
	char *json = json_dumps(header, JSON_COMPACT),
	     *header64 = json ? base64url(json, strlen(json)) : NULL;
	char *payload64 = base64url(payload, strlen(payload)), *text = NULL, *signature = NULL;
	int rc = -ENOMEM;
	json_decref(header);
	if (header64 && payload64 && asprintf(&text, "%s.%s", header64, payload64) >= 0)
		rc = key ? sign(key, text, &signature) : mac(secret, text, &signature);
	if (rc == 0 && asprintf(out, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
				header64, payload64, signature) < 0)
		rc = -ENOMEM;
	free(json);
	free(header64);
	free(payload64);
	free(text);
	free(signature);
	return rc;
}

int jws_sign(const struct identity_key *key, const char *kid, const char *nonce, const char *url,
	     const char *payload, char **out)
{
	const struct algorithm *how = algorithm_of(key);
	json_t *own = NULL;
	int rc = how ? 0 : -EINVAL;
	if (rc == 0 && !kid)
		rc = jwk(key, &own);
	if (rc)
		return rc;
	return flatten(key, NULL,
		       json_pack("{s:s, s:s*, s:o*, s:s*, s:s}", "alg", how->name, "kid", kid, "jwk", own,
				 "nonce", nonce, "url", url),
		       payload, out);
}

int jws_eab(const struct identity_key *account, const char *kid, const char *mac_text, const char *url,
	    char **out)
{
	char *payload = NULL;
	uint8_t *secret;
	size_t len;
	int rc = base64url_decode(mac_text, &secret, &len);
	if (rc)
		return rc;
	gnutls_datum_t d = key_datum(secret, len);
	rc = len ? jwk_text(account, &payload) : -EINVAL;
	if (rc == 0)
		rc = flatten(NULL, &d, json_pack("{s:s, s:s, s:s}", "alg", "HS256", "kid", kid, "url", url),
			     payload, out);
	explicit_bzero(secret, len);
	free(secret);
	free(payload);
	return rc;
}

int jws_key_change(const struct identity_key *old_key, const struct identity_key *new_key,
		   const char *account_url, const char *url, char **out)
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
	rc = payload ? jws_sign(new_key, NULL, NULL, url, payload, out) : -ENOMEM;
	free(payload);
	return rc;
}
