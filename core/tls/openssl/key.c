/* SPDX-License-Identifier: MIT */
/* key - a private key from PEM, and how messages show keys.  Pure, any thread. */
#include "core/tls/openssl/openssl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <semstreams/ext/tls-openssl.h>

const char *openssl_show_key(char buf[CERT_SHOWN], const EVP_PKEY *key)
{
	const char *type = key ? EVP_PKEY_get0_type_name(key) : NULL;
	char group[40] = "";
	size_t len;

	if (!type)
		snprintf(buf, CERT_SHOWN, "a key that cannot be read");
	else if (EVP_PKEY_is_a(key, "EC"))
		snprintf(buf, CERT_SHOWN, "an EC key on %s%s",
			 EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1
				 ? "curve "
				 : "a curve without a name",
			 group);
	else
		snprintf(buf, CERT_SHOWN, "%s %s key of %d bits",
			 strchr("AEFHILMNORSX", type[0]) ? "an" : "a", type, EVP_PKEY_get_bits(key));
	return buf;
}

/* Take it over by GnuTLS.  OpenSSL has computed the public part if it was missing, and is told to write it.
 */
static int take_key(EVP_PKEY *from, gnutls_x509_privkey_t to)
{
	gnutls_datum_t d = {0};

	if (EVP_PKEY_is_a(from, "EC"))
		EVP_PKEY_set_int_param(from, OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, 1);
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(from);
	int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &d.data) : -1;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (len <= 0)
		return GNUTLS_E_MEMORY_ERROR;
	d.size = (unsigned)len;
	int rc = gnutls_x509_privkey_import2(to, &d, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN);
	OPENSSL_clear_free(d.data, (size_t)len);
	return rc;
}

static bool is_explicit(const EVP_PKEY *key)
{
	char how[32] = "";

	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, how, sizeof how, NULL) == 1 &&
	       strcmp(how, OSSL_PKEY_EC_ENCODING_EXPLICIT) == 0;
}

/* OpenSSL reads more kinds of keys, GnuTLS works with what it has read. */
static int import_key(const struct cert_block *b, gnutls_x509_privkey_t *out, char *why, size_t why_size)
{
	EVP_PKEY *key = tls_openssl_key(b->start, (size_t)(b->end - b->start));
	gnutls_x509_privkey_t to = NULL;
	char shown[CERT_SHOWN];
	int rc = -EINVAL;

	if (!key) {
		const char *reason = ERR_reason_error_string(ERR_peek_error());
		snprintf(why, why_size, "the private key cannot be read: %s",
			 reason ? reason : "unknown reason");
		goto out;
	}
	if (is_explicit(key)) {
		snprintf(why, why_size,
			 "the private key has explicit curve parameters, which TLS does not know; name its "
			 "curve with "
			 "openssl ec -param_enc named_curve, and have the certificate issued anew");
		goto out;
	}
	int err = gnutls_x509_privkey_init(&to);
	if (err == 0)
		err = take_key(key, to);
	if (err == 0) {
		*out = to;
		to = NULL;
		rc = 0;
	} else if (err == GNUTLS_E_MEMORY_ERROR) {
		rc = -ENOMEM;
	} else {
		snprintf(why, why_size,
			 "it holds %s, which is not supported; usable are RSA from 2048 bits on, EC on "
			 "P-256, P-384 or "
			 "P-521, Ed25519",
			 openssl_show_key(shown, key));
	}
out:
	if (to)
		gnutls_x509_privkey_deinit(to);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}

/* What a file without a key that can be read holds instead, as the end of a message. */
static const char *instead_of_key(const char *pem, size_t len)
{
	static const char ssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----";

	if (memmem(pem, len, ssh, sizeof ssh - 1))
		return "; this is OpenSSH's own, convert it with ssh-keygen -p -m PKCS8";
	if (cert_is_der(pem, len))
		return "; this looks like DER, convert it with openssl pkey -inform der";
	return "";
}

int openssl_key(const char *pem, size_t len, gnutls_x509_privkey_t *out, char *why, size_t why_size)
{
	static const char *const labels[] = {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY",
					     "DSA PRIVATE KEY"};
	static const char old_style[] = "4,ENCRYPTED";
	const char *at = pem;
	struct cert_block b;

	while (cert_next_block(&at, pem + len, &b)) {
		bool known = false;
		for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++)
			known |= cert_block_is(&b, labels[i]);
		if (!b.end && (known || b.label_len == 0)) {
			snprintf(why, why_size, "the private key is cut off, its END line is missing");
			return -EINVAL;
		}
		if (cert_block_is(&b, "ENCRYPTED PRIVATE KEY") ||
		    (known && memmem(b.start, (size_t)(b.end - b.start), old_style, sizeof old_style - 1))) {
			snprintf(why, why_size,
				 "the private key is encrypted; decrypt it with openssl pkey -in ... -out "
				 "...");
			return -EINVAL;
		}
		if (known)
			return import_key(&b, out, why, why_size);
	}
	snprintf(why, why_size, "holds no private key in PEM form%s", instead_of_key(pem, len));
	return -EINVAL;
}
