/* SPDX-License-Identifier: MIT */
/* jose - see jose.h.  JWE by libcrypto, which has RFC 3394; the rest by GnuTLS. */
#include "jose.h"

#include <string.h>
#include <gnutls/crypto.h>
#include <openssl/evp.h>
#include "pki/names.h"

enum {
	PARTS_MAX = 5,
	ROUNDS_MIN = 1000, /* RFC 7518 section 4.8.1.2 */
	NUMBER = 32,       /* bytes of a number of P-256 */
	KEY_MAX = 32,      /* bytes of an AES key */
	WRAP = 8,          /* bytes that RFC 3394 adds */
	IV = 12,
	TAG = 16,
};

/* ---- parts between dots ---- */

struct part {
	const char *text;
	size_t len;
};

/* The text's parts, as many as there have to be; white space around it does not matter. */
static bool split(const char *text, size_t len, struct part *parts, size_t n)
{
	size_t count = 0;

	while (len && memchr(" \t\r\n", text[len - 1], 4))
		len--;
	if (len > JOSE_MAX)
		return false;
	for (const char *end = text + len; count < n; count++) {
		const char *dot = memchr(text, '.', (size_t)(end - text));
		parts[count] = (struct part){text, (size_t)((dot ? dot : end) - text)};
		if (!dot)
			return count + 1 == n;
		text = dot + 1;
	}
	return false;
}

/* A part that is a JSON object; NULL: it is none, or memory ran out. */
static json_t *read_object(const struct part *p, struct ss_strbuf *room)
{
	json_t *object = ss_base64url_read(p->text, p->len, room) == 0
				 ? json_loadb(ss_strbuf_cstr(room), room->len, JSON_REJECT_DUPLICATES, NULL)
				 : NULL;

	if (json_is_object(object))
		return object;
	json_decref(object);
	return NULL;
}

static const char *member(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

/* ---- encrypted keys ---- */

static const struct wrapping {
	const char *name; /* "alg" */
	const EVP_MD *(*digest)(void);
	const EVP_CIPHER *(*cipher)(void);
	int key_len;
} wrappings[] = {{"PBES2-HS256+A128KW", EVP_sha256, EVP_aes_128_wrap, 16},
		 {"PBES2-HS384+A192KW", EVP_sha384, EVP_aes_192_wrap, 24},
		 {"PBES2-HS512+A256KW", EVP_sha512, EVP_aes_256_wrap, 32}};
static const struct encryption {
	const char *name; /* "enc" */
	const EVP_CIPHER *(*cipher)(void);
	size_t key_len;
} encryptions[] = {
	{"A128GCM", EVP_aes_128_gcm, 16}, {"A192GCM", EVP_aes_192_gcm, 24}, {"A256GCM", EVP_aes_256_gcm, 32}};

struct jwe {
	const struct wrapping *wrapping;
	const struct encryption *encryption;
	struct part header;
	struct ss_strbuf salt, key, iv, text, tag;
	int rounds;
};

static void jwe_done(struct jwe *j)
{
	ss_strbuf_done(&j->salt);
	ss_strbuf_done(&j->key);
	ss_strbuf_done(&j->iv);
	ss_strbuf_done(&j->text);
	ss_strbuf_done(&j->tag);
}

static int read_header(const json_t *header, unsigned rounds_max, struct jwe *out, struct fault *f)
{
	char shown[64];
	const char *alg = member(header, "alg"), *enc = member(header, "enc"), *salt = member(header, "p2s");
	json_int_t rounds = json_integer_value(json_object_get(header, "p2c"));

	for (size_t i = 0; i < sizeof wrappings / sizeof *wrappings; i++)
		if (strcmp(alg, wrappings[i].name) == 0)
			out->wrapping = &wrappings[i];
	if (!out->wrapping)
		return refuse(f, "the provisioner's key is encrypted by \"%s\", which is not known here",
			      name_show(alg, strlen(alg), shown, sizeof shown));
	for (size_t i = 0; i < sizeof encryptions / sizeof *encryptions; i++)
		if (strcmp(enc, encryptions[i].name) == 0)
			out->encryption = &encryptions[i];
	if (!out->encryption)
		return refuse(f, "the provisioner's key is encrypted with \"%s\", which is not known here",
			      name_show(enc, strlen(enc), shown, sizeof shown));
	if (json_object_get(header, "zip") || json_object_get(header, "crit"))
		return refuse(f, "the provisioner's key is compressed or has critical members, which are not "
				 "known here");
	if (rounds < ROUNDS_MIN || rounds > (json_int_t)rounds_max)
		return refuse(f,
			      "the provisioner's key wants %lld rounds of PBKDF2 (p2c); %d to %u are taken: "
			      "encrypt it anew",
			      (long long)rounds, ROUNDS_MIN, rounds_max);
	out->rounds = (int)rounds;
	/* RFC 7518 section 4.8.1.1: the name, a zero, the salt */
	int rc = ss_base64url_read(salt, strlen(salt), &out->text);
	if (rc == 0 && out->text.len >= 8 && out->text.len <= 1024) {
		ss_strbuf_add(&out->salt, alg, strlen(alg) + 1);
		ss_strbuf_add(&out->salt, out->text.bytes, out->text.len);
		return out->salt.failed ? -ENOMEM : 0;
	}
	return rc == -ENOMEM ? rc : refuse(f, "the provisioner's key has no proper salt (p2s)");
}

static int jwe_read(const char *text, size_t len, unsigned rounds_max, struct jwe *out, struct fault *f)
{
	struct part parts[PARTS_MAX];
	struct ss_strbuf *to[PARTS_MAX] = {NULL, &out->key, &out->iv, &out->text, &out->tag};
	json_t *header = split(text, len, parts, PARTS_MAX) ? read_object(&parts[0], &out->text) : NULL;

	if (!header)
		return refuse(f, "the provisioner's key is no JWE in five parts");
	out->header = parts[0];
	int rc = read_header(header, rounds_max, out, f);
	json_decref(header);
	for (size_t i = 1; rc == 0 && i < PARTS_MAX; i++) {
		rc = ss_base64url_read(parts[i].text, parts[i].len, to[i]);
		if (rc == -EINVAL)
			rc = refuse(f, "the provisioner's key is damaged: part %zu of it is no base64url",
				    i + 1);
	}
	if (rc == 0 && (out->key.len != out->encryption->key_len + WRAP || out->iv.len != IV ||
			out->tag.len != TAG || !out->text.len))
		return refuse(f, "the provisioner's key is damaged: a part of it has the wrong size");
	return rc;
}

static const unsigned char *bytes_of(const struct ss_strbuf *b)
{
	return (const unsigned char *)b->bytes;
}

/* The key of the content (RFC 3394), which only the right password unwraps. */
static bool unwrap(const struct jwe *j, const struct ss_strbuf *password, unsigned char *out)
{
	unsigned char by_password[KEY_MAX], room[KEY_MAX + 2 * WRAP];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;
	bool ok = c &&
		  PKCS5_PBKDF2_HMAC(password->bytes, (int)password->len, bytes_of(&j->salt), (int)j->salt.len,
				    j->rounds, j->wrapping->digest(), j->wrapping->key_len, by_password) == 1;

	if (ok) {
		EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
		ok = EVP_DecryptInit_ex(c, j->wrapping->cipher(), NULL, by_password, NULL) == 1 &&
		     EVP_DecryptUpdate(c, room, &n, bytes_of(&j->key), (int)j->key.len) == 1 &&
		     (size_t)n == j->encryption->key_len;
	}
	if (ok)
		memcpy(out, room, (size_t)n);
	EVP_CIPHER_CTX_free(c);
	explicit_bzero(by_password, sizeof by_password);
	explicit_bzero(room, sizeof room);
	return ok;
}

static bool decrypt(const struct jwe *j, const unsigned char *key, struct ss_strbuf *out)
{
	unsigned char *to = (unsigned char *)ss_strbuf_room(out, j->text.len + TAG);
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0, more = 0;
	bool ok = to && c &&
		  EVP_DecryptInit_ex(c, j->encryption->cipher(), NULL, key, bytes_of(&j->iv)) == 1 &&
		  EVP_DecryptUpdate(c, NULL, &n, (const unsigned char *)j->header.text, (int)j->header.len) ==
			  1 &&
		  EVP_DecryptUpdate(c, to, &n, bytes_of(&j->text), (int)j->text.len) == 1 &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, j->tag.bytes) == 1 &&
		  EVP_DecryptFinal_ex(c, to + n, &more) == 1;

	if (ok)
		out->len += (size_t)n;
	EVP_CIPHER_CTX_free(c);
	return ok;
}

/* ---- keys as JSON (RFC 7517) ---- */

static int get_number(const json_t *jwk, const char *name, struct ss_strbuf *room, gnutls_datum_t *out)
{
	const char *text = member(jwk, name);
	int rc = ss_base64url_read(text, strlen(text), room);

	if (rc == 0 && room->len != NUMBER)
		rc = -EINVAL;
	*out = (gnutls_datum_t){(unsigned char *)room->bytes, (unsigned)room->len};
	return rc;
}

static int import(const json_t *jwk, struct jose_key *out, struct fault *f)
{
	struct ss_strbuf room[3] = {{.secret = true}, {.secret = true}, {.secret = true}};
	gnutls_datum_t x, y, d;
	char shown[2][32];
	const char *kty = member(jwk, "kty"), *crv = member(jwk, "crv"), *kid = member(jwk, "kid");
	int rc;

	if (strcmp(kty, "EC") != 0 || strcmp(crv, "P-256") != 0)
		return refuse(
			f,
			"the provisioner's key is of type \"%s\" %s: tokens are signed with keys of type EC "
			"P-256",
			name_show(kty, strlen(kty), shown[0], sizeof shown[0]),
			name_show(crv, strlen(crv), shown[1], sizeof shown[1]));
	if (!*kid || strlen(kid) >= sizeof out->kid)
		return refuse(f, "the provisioner's key has no proper name (kid)");
	if ((rc = get_number(jwk, "x", &room[0], &x)) == 0 && (rc = get_number(jwk, "y", &room[1], &y)) == 0)
		rc = get_number(jwk, "d", &room[2], &d);
	if (rc == 0 && gnutls_privkey_init(&out->private))
		rc = -ENOMEM;
	if (rc == 0 && gnutls_privkey_import_ecc_raw(out->private, GNUTLS_ECC_CURVE_SECP256R1, &x, &y, &d))
		rc = -EINVAL;
	if (rc == 0)
		memcpy(out->kid, kid, strlen(kid) + 1);
	for (size_t i = 0; i < 3; i++)
		ss_strbuf_done(&room[i]);
	return rc == -EINVAL ? refuse(f, "the provisioner's key is damaged: its numbers are none of P-256")
			     : rc;
}

/* Jansson frees what it has read, but does not wipe it. */
static void wipe(json_t *jwk)
{
	union {
		const char *in;
		char *out;
	} d = {.in = json_string_value(json_object_get(jwk, "d"))};

	if (d.out)
		explicit_bzero(d.out, strlen(d.out));
}

int jose_key_open(const char *text, size_t len, struct ss_strbuf *password, unsigned rounds_max,
		  struct jose_key *out, struct fault *f)
{
	struct jwe j = {0};
	struct ss_strbuf plain = {.secret = true};
	unsigned char key[KEY_MAX];

	*out = (struct jose_key){0};
	int rc = jwe_read(text, len, rounds_max, &j, f);
	if (rc == 0 && !unwrap(&j, password, key))
		rc = refuse(f, "the password of the provisioner's key is wrong");
	else if (rc == 0 && !decrypt(&j, key, &plain))
		rc = plain.failed ? -ENOMEM : refuse(f, "the provisioner's key is damaged");
	if (rc == 0) {
		json_t *jwk = json_loadb(ss_strbuf_cstr(&plain), plain.len, JSON_REJECT_DUPLICATES, NULL);
		rc = json_is_object(jwk) ? import(jwk, out, f)
					 : refuse(f, "what is encrypted is no key in JSON");
		wipe(jwk);
		json_decref(jwk);
	}
	explicit_bzero(key, sizeof key);
	ss_strbuf_done(&plain);
	jwe_done(&j);
	if (rc)
		jose_key_done(out);
	return rc;
}

void jose_key_done(struct jose_key *k)
{
	if (k->private)
		gnutls_privkey_deinit(k->private);
	*k = (struct jose_key){0};
}

/* ---- tokens ---- */

/* As long as numbers of P-256 are: zeros in front may lack, and one may be there for DER's sake. */
static bool put_number(const gnutls_datum_t *n, unsigned char *out)
{
	unsigned extra = n->size > NUMBER ? n->size - NUMBER : 0, size = n->size - extra;

	for (unsigned i = 0; i < extra; i++)
		if (n->data[i])
			return false;
	memset(out, 0, NUMBER);
	memcpy(out + NUMBER - size, n->data + extra, size);
	return true;
}

/* r and s side by side (RFC 7518 section 3.4). */
static int sign(const struct jose_key *k, const struct ss_strbuf *text, unsigned char *out)
{
	gnutls_datum_t what = {(unsigned char *)text->bytes, (unsigned)text->len}, der = {0}, r = {0},
		       s = {0};
	int rc = gnutls_privkey_sign_data(k->private, GNUTLS_DIG_SHA256, 0, &what, &der);

	if (rc == 0)
		rc = gnutls_decode_rs_value(&der, &r, &s);
	if (rc == 0 && !(put_number(&r, out) && put_number(&s, out + NUMBER)))
		rc = GNUTLS_E_INTERNAL_ERROR;
	gnutls_free(der.data);
	gnutls_free(r.data);
	gnutls_free(s.data);
	return rc;
}

static void put_json(struct ss_strbuf *out, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	if (text)
		ss_strbuf_base64url(out, text, strlen(text));
	else
		out->failed = true;
	free(text);
}

int jose_token_sign(const struct jose_key *k, const json_t *claims, struct ss_strbuf *out, struct fault *f)
{
	unsigned char signature[2 * NUMBER];
	json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "ES256", "kid", k->kid, "typ", "JWT");

	ss_strbuf_clear(out);
	put_json(out, header);
	json_decref(header);
	ss_strbuf_char(out, '.');
	put_json(out, claims);
	int rc = out->failed ? 0 : sign(k, out, signature);
	if (rc)
		return refuse(f, "the token cannot be signed: %s", gnutls_strerror(rc));
	ss_strbuf_char(out, '.');
	ss_strbuf_base64url(out, signature, sizeof signature);
	return out->failed ? -ENOMEM : 0;
}

static bool copy(char *to, size_t size, const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
			return false;
	if (len >= size)
		return false;
	memcpy(to, text, len + 1);
	return true;
}

static int read_claims(const json_t *claims, struct jose_token *out, struct fault *f)
{
	const json_t *aud = json_object_get(claims, "aud");
	const char *subject = member(claims, "sub"), *audience,
		   *root = member(claims, "sha"); /* as step's own tokens have it */

	if (json_is_array(aud))
		aud = json_array_get(aud, 0);
	audience = json_is_string(aud) ? json_string_value(aud) : "";
	if (!*subject || strlen(subject) >= sizeof out->subject || name_fault(subject))
		return refuse(f, "it names nobody (sub) whom it is for");
	memcpy(out->subject, subject, strlen(subject) + 1);
	if (!copy(out->audience, sizeof out->audience, audience))
		return refuse(f, "the CA that it names (aud) is none");
	if (*root && (strlen(root) != 64 || strspn(root, "0123456789abcdefABCDEF") != 64))
		return refuse(f, "the fingerprint of a root that it has (sha) is none");
	memcpy(out->root, root, strlen(root) + 1);
	out->not_before = json_integer_value(json_object_get(claims, "nbf"));
	out->expires = json_integer_value(json_object_get(claims, "exp"));
	return 0;
}

int jose_token_read(const char *text, size_t len, struct jose_token *out, struct fault *f)
{
	struct part parts[3];
	struct ss_strbuf room = {.secret = true};
	json_t *header = NULL, *claims = NULL;
	int rc = 0;

	*out = (struct jose_token){0};
	if (split(text, len, parts, 3) && (header = read_object(&parts[0], &room)))
		claims = read_object(&parts[1], &room);
	if (!claims || !*member(header, "alg") || !parts[2].len ||
	    ss_base64url_read(parts[2].text, parts[2].len, &room))
		rc = refuse(f,
			    "it is no token: three parts of base64url with dots between, as \"semstreams pki "
			    "token\" and \"step ca token\" write them");
	else
		rc = read_claims(claims, out, f);
	json_decref(header);
	json_decref(claims);
	ss_strbuf_done(&room);
	return rc;
}
