/* SPDX-License-Identifier: MIT */
/* provisioner - see provisioner.h. */
#include "provisioner.h"

#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include "pki/key.h"

enum {
	COORDINATE = 32, /* bytes of P-256 */
	ROUNDS = 600000, /* what guessing the password costs, as for keys in files; step-ca reads up to a
			    million */
	SALT = 16,       /* all of these in bytes */
	WRAPPING_KEY = 16,
	CONTENT_KEY = 32,
	WRAPPED_KEY = CONTENT_KEY + 8,
	IV = 12,
	TAG = 16,
	TEXT_MAX = 512, /* of a JWK */
};

static const char algorithm[] = "PBES2-HS256+A128KW";

/* A number of the key, always of the curve's size. */
static void put_number(struct ss_strbuf *out, const gnutls_datum_t *number)
{
	unsigned char bytes[COORDINATE] = {0};
	size_t n = number->size > COORDINATE ? COORDINATE : number->size;

	memcpy(bytes + COORDINATE - n, number->data + number->size - n, n);
	ss_strbuf_base64url(out, bytes, sizeof bytes);
	explicit_bzero(bytes, sizeof bytes);
}

struct jwk {
	struct ss_strbuf x, y, d, kid;
};

static void jwk_done(struct jwk *j)
{
	ss_strbuf_done(&j->x);
	ss_strbuf_done(&j->y);
	ss_strbuf_done(&j->d);
	ss_strbuf_done(&j->kid);
}

/* kid is the thumbprint of RFC 7638, as step-ca has it. */
static int jwk_new(struct jwk *out, struct fault *f)
{
	struct key key;
	gnutls_ecc_curve_t curve;
	gnutls_datum_t x, y, d;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char text[TEXT_MAX];
	int rc = key_new("p256", &key, f);

	*out = (struct jwk){.d.secret = true};
	if (rc)
		return rc;
	if (gnutls_x509_privkey_export_ecc_raw(key.x509, &curve, &x, &y, &d)) {
		key_done(&key);
		return refuse(f, "the numbers of a new key cannot be had");
	}
	put_number(&out->x, &x);
	put_number(&out->y, &y);
	put_number(&out->d, &d);
	explicit_bzero(d.data, d.size);
	gnutls_free(x.data);
	gnutls_free(y.data);
	gnutls_free(d.data);
	key_done(&key);
	int n = snprintf(text, sizeof text, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}",
			 ss_strbuf_cstr(&out->x), ss_strbuf_cstr(&out->y));
	SHA256((const unsigned char *)text, (size_t)n, digest);
	ss_strbuf_base64url(&out->kid, digest, sizeof digest);
	return out->x.failed || out->y.failed || out->d.failed || out->kid.failed ? -ENOMEM : 0;
}

/* The key that wraps the content's, from the password.  The salt goes into the header. */
static bool derive(const struct ss_strbuf *password, const unsigned char salt[SALT],
		   unsigned char out[WRAPPING_KEY])
{
	unsigned char input[sizeof algorithm + SALT]; /* the NUL between them counts */

	memcpy(input, algorithm, sizeof algorithm);
	memcpy(input + sizeof algorithm, salt, SALT);
	return PKCS5_PBKDF2_HMAC(password->bytes, (int)password->len, input, sizeof input, ROUNDS,
				 EVP_sha256(), WRAPPING_KEY, out) == 1;
}

static bool wrap(const unsigned char with[WRAPPING_KEY], const unsigned char key[CONTENT_KEY],
		 unsigned char out[WRAPPED_KEY])
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	unsigned char buf[WRAPPED_KEY + EVP_MAX_BLOCK_LENGTH];
	int n = 0, rest = 0;

	if (c)
		EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	bool fine = c && EVP_EncryptInit_ex(c, EVP_aes_128_wrap(), NULL, with, NULL) == 1 &&
		    EVP_EncryptUpdate(c, buf, &n, key, CONTENT_KEY) == 1 &&
		    EVP_EncryptFinal_ex(c, buf + n, &rest) == 1 && n + rest == WRAPPED_KEY;
	if (fine)
		memcpy(out, buf, WRAPPED_KEY);
	EVP_CIPHER_CTX_free(c);
	return fine;
}

/* AES-256-GCM; aad is the header as it is sent.  out has the length of the text. */
static bool seal(const unsigned char key[CONTENT_KEY], const unsigned char iv[IV],
		 const struct ss_strbuf *aad, const struct ss_strbuf *text, unsigned char *out,
		 unsigned char tag[TAG])
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0, rest = 0;
	bool fine = c && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, iv) == 1 &&
		    EVP_EncryptUpdate(c, NULL, &n, (const unsigned char *)aad->bytes, (int)aad->len) == 1 &&
		    EVP_EncryptUpdate(c, out, &n, (const unsigned char *)text->bytes, (int)text->len) == 1 &&
		    EVP_EncryptFinal_ex(c, out + n, &rest) == 1 &&
		    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;

	EVP_CIPHER_CTX_free(c);
	return fine;
}

static void put_header(struct ss_strbuf *out, const unsigned char salt[SALT])
{
	struct ss_strbuf text = {0};

	ss_strbuf_printf(&text,
			 "{\"alg\":\"%s\",\"cty\":\"jwk+json\",\"enc\":\"A256GCM\",\"p2c\":%d,\"p2s\":\"",
			 algorithm, ROUNDS);
	ss_strbuf_base64url(&text, salt, SALT);
	ss_strbuf_text(&text, "\"}");
	ss_strbuf_base64url(out, (const unsigned char *)text.bytes, text.len);
	out->failed = out->failed || text.failed;
	ss_strbuf_done(&text);
}

/* header.wrapped-key.iv.text.tag */
static int encrypt(const struct ss_strbuf *text, const struct ss_strbuf *password, struct ss_strbuf *out)
{
	unsigned char salt[SALT], iv[IV], wrapping[WRAPPING_KEY], key[CONTENT_KEY], wrapped[WRAPPED_KEY],
		tag[TAG], sealed[TEXT_MAX];
	bool fine = RAND_bytes(salt, sizeof salt) == 1 && RAND_bytes(iv, sizeof iv) == 1 &&
		    RAND_priv_bytes(key, sizeof key) == 1 && text->len <= sizeof sealed;

	put_header(out, salt);
	fine = fine && derive(password, salt, wrapping) && wrap(wrapping, key, wrapped) &&
	       seal(key, iv, out, text, sealed, tag);
	explicit_bzero(key, sizeof key);
	explicit_bzero(wrapping, sizeof wrapping);
	if (!fine)
		return -ENOMEM;
	const struct {
		const unsigned char *bytes;
		size_t len;
	} parts[] = {{wrapped, sizeof wrapped}, {iv, sizeof iv}, {sealed, text->len}, {tag, sizeof tag}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		ss_strbuf_char(out, '.');
		ss_strbuf_base64url(out, parts[i].bytes, parts[i].len);
	}
	return out->failed ? -ENOMEM : 0;
}

int provisioner_new(const struct ss_strbuf *password, struct provisioner *out, struct fault *f)
{
	struct jwk jwk;
	struct ss_strbuf text = {.secret = true};
	int rc = jwk_new(&jwk, f);

	*out = (struct provisioner){0};
	if (rc == 0) {
		const char *x = ss_strbuf_cstr(&jwk.x), *y = ss_strbuf_cstr(&jwk.y),
			   *kid = ss_strbuf_cstr(&jwk.kid);
		out->public = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "use", "sig", "kty", "EC",
					"kid", kid, "crv", "P-256", "alg", "ES256", "x", x, "y", y);
		ss_strbuf_printf(
			&text,
			"{\"use\":\"sig\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"P-256\",\"alg\":\"ES256\","
			"\"x\":\"%s\",\"y\":\"%s\",\"d\":\"%s\"}",
			kid, x, y, ss_strbuf_cstr(&jwk.d));
		rc = out->public && !text.failed ? encrypt(&text, password, &out->sealed) : -ENOMEM;
	}
	ss_strbuf_done(&text);
	jwk_done(&jwk);
	if (rc)
		provisioner_done(out);
	return rc;
}

json_t *provisioner_file(const struct provisioner *p)
{
	static const char *const names[] = {"protected", "encrypted_key", "iv", "ciphertext", "tag"};
	json_t *out = json_object();
	const char *at = p->sealed.bytes, *end = at + p->sealed.len;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));
		size_t n = (size_t)((dot ? dot : end) - at);
		if (json_object_set_new(out, names[i], json_stringn(at, n))) {
			json_decref(out);
			return NULL;
		}
		at += n + (dot != NULL);
	}
	return out;
}

void provisioner_done(struct provisioner *p)
{
	json_decref(p->public);
	ss_strbuf_done(&p->sealed);
	*p = (struct provisioner){0};
}
