/* SPDX-License-Identifier: MIT */
/* key - private keys, by GnuTLS.  Pure, any thread. */
#include "key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

enum {
	PEM_MAX = 64 * 1024,
	NUMBER_MAX = 48, /* bytes, of P-384 */
	DER_MAX = 64 + 3 * NUMBER_MAX,
	RSA_MIN = 2048,
	RSA_MAX = 16384, /* bits; more take too long to sign with */
};

static struct acme_key *alloc_key(void)
{
	struct acme_key *key = calloc(1, sizeof *key);
	if (key && gnutls_privkey_init(&key->private) == 0 && gnutls_pubkey_init(&key->public) == 0)
		return key;
	key_free(key);
	return NULL;
}

void key_free(struct acme_key *key)
{
	if (!key)
		return;
	if (key->public)
		gnutls_pubkey_deinit(key->public);
	if (key->private)
		gnutls_privkey_deinit(key->private);
	free(key);
}

static int take_public(struct acme_key *key)
{
	return gnutls_pubkey_import_privkey(key->public, key->private, 0, 0);
}

static int error_of(int rc, int otherwise)
{
	return rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : otherwise;
}

int key_new(struct acme_key **out)
{
	struct acme_key *key = alloc_key();
	if (!key)
		return -ENOMEM;
	int rc = gnutls_privkey_generate(key->private, GNUTLS_PK_ECDSA,
					 GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
	if (rc == 0)
		rc = take_public(key);
	if (rc) {
		key_free(key);
		return error_of(rc, -EIO);
	}
	*out = key;
	return 0;
}

static int check_kind(const struct acme_key *key, char *why, size_t why_size)
{
	gnutls_ecc_curve_t curve;
	unsigned bits = 0;
	int kind = gnutls_privkey_get_pk_algorithm(key->private, &bits);
	if (kind == GNUTLS_PK_RSA) {
		if (bits >= RSA_MIN && bits <= RSA_MAX)
			return 0;
		snprintf(why, why_size, "is an RSA key of %u bits; supported are %u to %u", bits, RSA_MIN,
			 RSA_MAX);
		return -EINVAL;
	}
	if (kind == GNUTLS_PK_ECDSA &&
	    gnutls_pubkey_export_ecc_raw2(key->public, &curve, NULL, NULL, 0) == 0) {
		if (curve == GNUTLS_ECC_CURVE_SECP256R1 || curve == GNUTLS_ECC_CURVE_SECP384R1)
			return 0;
		snprintf(why, why_size, "is an EC key on curve %s; supported are P-256 and P-384",
			 gnutls_ecc_curve_get_name(curve));
		return -EINVAL;
	}
	const char *name = gnutls_pk_get_name((gnutls_pk_algorithm_t)kind);
	snprintf(why, why_size, "is a key of type %s; supported are EC (P-256, P-384) and RSA",
		 name ? name : "unknown");
	return -EINVAL;
}

static int refuse_text(const char *pem, size_t len, int rc, char *why, size_t why_size)
{
	static const char encrypted[] = "ENCRYPTED", key_line[] = "PRIVATE KEY-----",
			  cert[] = "BEGIN CERTIFICATE";
	if (rc == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	if (memmem(pem, len, encrypted, sizeof encrypted - 1))
		snprintf(why, why_size,
			 "the private key is encrypted; decrypt it with openssl pkey -in ... -out ...");
	else if (!memmem(pem, len, key_line, sizeof key_line - 1))
		snprintf(why, why_size, "contains %s private key in PEM form",
			 memmem(pem, len, cert, sizeof cert - 1) ? "a certificate but no" : "no");
	else
		snprintf(why, why_size, "the private key cannot be read: %s", gnutls_strerror(rc));
	return -EINVAL;
}

int key_load(const char *pem, size_t len, struct acme_key **out, char *why, size_t why_size)
{
	union {
		const char *in;
		unsigned char *data; /* GnuTLS reads only */
	} text = {.in = pem};
	gnutls_datum_t d = {.data = text.data, .size = (unsigned)len};
	struct acme_key *key;
	if (len > PEM_MAX) {
		snprintf(why, why_size, "is too large for a private key");
		return -EINVAL;
	}
	key = alloc_key();
	if (!key)
		return -ENOMEM;
	int rc = gnutls_privkey_import_x509_raw(key->private, &d, GNUTLS_X509_FMT_PEM, NULL,
						GNUTLS_PKCS_PLAIN);
	if (rc) {
		rc = refuse_text(pem, len, rc, why, why_size);
		goto out;
	}
	rc = take_public(key);
	if (rc) {
		snprintf(why, why_size, "the private key cannot be used: %s", gnutls_strerror(rc));
		rc = error_of(rc, -EINVAL);
		goto out;
	}
	rc = check_kind(key, why, why_size);
	if (rc)
		goto out;
	rc = gnutls_privkey_verify_params(key->private);
	if (rc) {
		snprintf(why, why_size, "the private key is damaged: %s", gnutls_strerror(rc));
		rc = error_of(rc, -EINVAL);
		goto out;
	}
	*out = key;
	return 0;
out:
	key_free(key);
	return rc;
}

/* ---- writing ---- */

int key_number(const gnutls_datum_t *value, uint8_t *to, size_t n)
{
	const uint8_t *from = value->data;
	size_t len = value->size;
	while (len > 0 && *from == 0) {
		from++;
		len--;
	}
	if (len > n)
		return -EINVAL;
	memset(to, 0, n - len);
	memcpy(to + n - len, from, len);
	return 0;
}

/* The parts of a PKCS #8 EC key that are the same in all keys of a curve. */
struct frame {
	const char *head, *middle;
	size_t head_len, middle_len, number;
};

static const struct frame p256 = {.head = "\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02"
					  "\x01\x06\x08\x2a\x86\x48\xce\x3d\x03"
					  "\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20",
				  .head_len = 36,
				  .middle = "\xa1\x44\x03\x42\x00\x04",
				  .middle_len = 6,
				  .number = 32};
static const struct frame p384 = {.head = "\x30\x81\xb6\x02\x01\x00\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02"
					  "\x01\x06\x05\x2b\x81\x04\x00\x22\x04"
					  "\x81\x9e\x30\x81\x9b\x02\x01\x01\x04\x30",
				  .head_len = 35,
				  .middle = "\xa1\x64\x03\x62\x00\x04",
				  .middle_len = 6,
				  .number = 48};

/* GnuTLS writes the secret number as it does integers, with a zero in front of half of all; RFC 5915 section
 * 3 wants it of the curve's size, and some readers insist. */
static int ec_der(const struct acme_key *key, uint8_t der[DER_MAX], size_t *len)
{
	gnutls_ecc_curve_t curve;
	gnutls_datum_t x, y, secret;
	int rc = gnutls_privkey_export_ecc_raw2(key->private, &curve, &x, &y, &secret, 0);
	if (rc)
		return error_of(rc, -EINVAL);
	const struct frame *f = curve == GNUTLS_ECC_CURVE_SECP256R1 ? &p256 : &p384;
	uint8_t *to = der;
	memcpy(to, f->head, f->head_len);
	to += f->head_len;
	rc = key_number(&secret, to, f->number);
	to += f->number;
	memcpy(to, f->middle, f->middle_len);
	to += f->middle_len;
	if (rc == 0)
		rc = key_number(&x, to, f->number);
	if (rc == 0)
		rc = key_number(&y, to + f->number, f->number);
	*len = (size_t)(to - der) + 2 * f->number;
	explicit_bzero(secret.data, secret.size);
	gnutls_free(x.data);
	gnutls_free(y.data);
	gnutls_free(secret.data);
	return rc;
}

static int ec_pem(const struct acme_key *key, gnutls_datum_t *out)
{
	uint8_t der[DER_MAX];
	size_t len = 0;
	int rc = ec_der(key, der, &len);
	gnutls_datum_t d = {.data = der, .size = (unsigned)len};
	if (rc == 0)
		rc = gnutls_pem_base64_encode2("PRIVATE KEY", &d, out);
	explicit_bzero(der, sizeof der);
	return rc;
}

static int rsa_pem(const struct acme_key *key, gnutls_datum_t *out)
{
	gnutls_x509_privkey_t copy;
	int rc = gnutls_privkey_export_x509(key->private, &copy);
	if (rc)
		return rc;
	rc = gnutls_x509_privkey_export2_pkcs8(copy, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, out);
	gnutls_x509_privkey_deinit(copy);
	return rc;
}

char *key_pem(const struct acme_key *key)
{
	bool is_ec = gnutls_privkey_get_pk_algorithm(key->private, NULL) == GNUTLS_PK_ECDSA;
	gnutls_datum_t d = {0};
	char *pem = NULL;
	int rc = is_ec ? ec_pem(key, &d) : rsa_pem(key, &d);
	if (rc == 0)
		pem = strndup((const char *)d.data, d.size);
	if (d.data)
		explicit_bzero(d.data, d.size);
	gnutls_free(d.data);
	return pem;
}

bool key_equal(const struct acme_key *a, const struct acme_key *b)
{
	unsigned char id_a[32], id_b[32];
	size_t n_a = sizeof id_a, n_b = sizeof id_b;
	return gnutls_pubkey_get_key_id(a->public, GNUTLS_KEYID_USE_SHA256, id_a, &n_a) == 0 &&
	       gnutls_pubkey_get_key_id(b->public, GNUTLS_KEYID_USE_SHA256, id_b, &n_b) == 0 && n_a == n_b &&
	       memcmp(id_a, id_b, n_a) == 0;
}

void key_text_free(char *pem)
{
	if (pem)
		explicit_bzero(pem, strlen(pem));
	free(pem);
}
