/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl_signer - an EC key of OpenSSL whose private half is a signer of semstreams/ext/tls.h.  The key
 * has a method of its own, which OpenSSL 3 marks as deprecated in favour of providers; keys with methods are
 * used by its handshakes as before, and a provider for one operation would be several times this file.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <semstreams/ext/tls-openssl.h>

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <pthread.h>

enum { SIGNATURE_MAX = 160 }; /* bytes, of P-521: two numbers of 66 bytes in DER */

/* What all such keys have in common; made once, as long as the process. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static EC_KEY_METHOD *method;
static int signer_index = -1; /* of a key's extra data */

static int sign_der(int type, const unsigned char *digest, int len, unsigned char *signature,
		    unsigned int *size, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key)
{
	const struct ss_tls_signer *signer = EC_KEY_get_ex_data(key, signer_index);
	int32_t n = -EINVAL;

	(void)type, (void)kinv, (void)r;
	if (signer && len >= 0)
		n = signer->sign(signer->self, SS_TLS_SIGN_ECDSA, digest, (size_t)len, signature,
				 (size_t)ECDSA_size(key));
	if (n <= 0 || n > ECDSA_size(key)) {
		ERR_raise_data(ERR_LIB_EC, ERR_R_OPERATION_FAIL, "the key's owner does not sign");
		return 0;
	}
	*size = (unsigned int)n;
	return 1;
}

static ECDSA_SIG *sign_numbers(const unsigned char *digest, int len, const BIGNUM *kinv, const BIGNUM *r,
			       EC_KEY *key)
{
	unsigned char der[SIGNATURE_MAX];
	const unsigned char *at = der;
	unsigned int size;

	if (ECDSA_size(key) > SIGNATURE_MAX || !sign_der(0, digest, len, der, &size, kinv, r, key))
		return NULL;
	return d2i_ECDSA_SIG(NULL, &at, (long)size);
}

/* Nothing can be computed in advance. */
static int no_setup(EC_KEY *key, BN_CTX *ctx, BIGNUM **kinv, BIGNUM **r)
{
	(void)key, (void)ctx, (void)kinv, (void)r;
	return 1;
}

static void release_signer(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long argl, void *argp)
{
	const struct ss_tls_signer *signer = data;

	(void)parent, (void)all, (void)index, (void)argl, (void)argp;
	if (signer)
		signer->unref(signer->self);
}

static int share_signer(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **data, int index, long argl,
			void *argp)
{
	const struct ss_tls_signer *signer = *data;

	(void)to, (void)from, (void)index, (void)argl, (void)argp;
	if (signer)
		signer->ref(signer->self);
	return 1;
}

static void prepare(void)
{
	signer_index = EC_KEY_get_ex_new_index(0, NULL, NULL, share_signer, release_signer);
	method = signer_index < 0 ? NULL : EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	if (method)
		EC_KEY_METHOD_set_sign(method, sign_der, no_setup, sign_numbers);
}

/* The public half of the certificate's key, on one of the curves of TLS. */
static EC_KEY *public_half(X509 *leaf)
{
	EVP_PKEY *public = X509_get0_pubkey(leaf);
	const EC_KEY *theirs = public && EVP_PKEY_is_a(public, "EC") ? EVP_PKEY_get0_EC_KEY(public) : NULL;

	switch (theirs ? EC_GROUP_get_curve_name(EC_KEY_get0_group(theirs)) : NID_undef) {
	case NID_X9_62_prime256v1:
	case NID_secp384r1:
	case NID_secp521r1:
		return EC_KEY_dup(theirs);
	default:
		return NULL;
	}
}

EVP_PKEY *tls_openssl_signing_key(const struct ss_tls_signer *signer, X509 *leaf)
{
	union {
		const struct ss_tls_signer *in;
		void *out;
	} held = {.in = signer};

	pthread_once(&once, prepare);
	EC_KEY *key = method ? public_half(leaf) : NULL;
	EVP_PKEY *whole = EVP_PKEY_new();
	if (!key || !whole || !EC_KEY_set_method(key, method))
		goto failed;
	signer->ref(signer->self);
	if (!EC_KEY_set_ex_data(key, signer_index, held.out)) {
		signer->unref(signer->self);
		goto failed;
	}
	if (EVP_PKEY_assign_EC_KEY(whole, key))
		return whole;
failed:
	EC_KEY_free(key);
	EVP_PKEY_free(whole);
	return NULL;
}
