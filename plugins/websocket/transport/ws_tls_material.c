/* SPDX-License-Identifier: MIT */
#include "ws_tls_material.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <semstreams/ext/tls.h>

void ws_tls_identity_free(struct ws_tls_identity *id)
{
	X509_free(id->leaf);
	EVP_PKEY_free(id->key);
	sk_X509_pop_free(id->chain, X509_free);
	*id = (struct ws_tls_identity){0};
}

/* No password is ever asked for. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

/* All certificates of a PEM text; NULL if there is none or one is broken. */
static STACK_OF(X509) * certificates(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	STACK_OF(X509) *all = sk_X509_new_null();
	X509 *x;
	while (bio && all && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
		if (!sk_X509_push(all, x)) {
			X509_free(x);
			break;
		}
	}
	bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(bio);
	if (end && all && sk_X509_num(all) > 0)
		return all;
	sk_X509_pop_free(all, X509_free);
	return NULL;
}

int ws_tls_identity_read(const struct ss_tls_material *m, struct ws_tls_identity *id, const char **why)
{
	*id = (struct ws_tls_identity){0};
	if (!m->chain_pem || !m->key_pem)
		return 0;
	*why = "the certificate is not readable PEM";
	id->chain = certificates(m->chain_pem);
	if (!id->chain)
		return -EINVAL;
	id->leaf = sk_X509_shift(id->chain);
	BIO *bio = BIO_new_mem_buf(m->key_pem, -1);
	id->key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	BIO_free(bio);
	*why = "the private key is not readable PEM, or needs a password";
	if (id->key)
		*why = "certificate and private key do not belong together";
	if (id->key && X509_check_private_key(id->leaf, id->key) == 1)
		return 0;
	ERR_clear_error();
	ws_tls_identity_free(id);
	return -EINVAL;
}

int ws_tls_set_trust(SSL_CTX *ctx, const struct ss_tls_material *m, bool server, const char **why)
{
	STACK_OF(X509) *cas = NULL;
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	X509_STORE *store = X509_STORE_new();
	int rc = -ENOMEM;
	*why = "out of memory";
	if (!store || !names)
		goto out;
	if (m->ca_pem) {
		rc = -EINVAL;
		*why = "a CA certificate is not readable PEM";
		cas = certificates(m->ca_pem);
		if (!cas)
			goto out;
	}
	for (int i = 0; i < sk_X509_num(cas); i++) {
		X509 *x = sk_X509_value(cas, i);
		X509_NAME *name = X509_NAME_dup(X509_get_subject_name(x));
		if (!name || !X509_STORE_add_cert(store, x) || !sk_X509_NAME_push(names, name)) {
			X509_NAME_free(name);
			goto out;
		}
	}
	if (m->flags & SS_TLS_SYSTEM_CA)
		X509_STORE_set_default_paths(store);
	/* whoever is named as a CA is one, a root or not */
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	SSL_CTX_set_cert_store(ctx, store);
	store = NULL;
	if (server) {
		SSL_CTX_set_client_CA_list(ctx, names);
		names = NULL;
	}
	rc = 0;
out:
	ERR_clear_error();
	X509_STORE_free(store);
	sk_X509_NAME_pop_free(names, X509_NAME_free);
	sk_X509_pop_free(cas, X509_free);
	return rc;
}

int ws_tls_set_version(SSL_CTX *ctx, const struct ss_tls_material *m)
{
	int min = m->min_version > TLS1_2_VERSION ? (int)m->min_version : TLS1_2_VERSION;
	return SSL_CTX_set_min_proto_version(ctx, min) == 1 ? 0 : -EINVAL;
}

int32_t ws_tls_fail_of_error(long error)
{
	switch (error) {
	case X509_V_OK:
		return -1;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return SS_TLS_FAIL_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return SS_TLS_FAIL_NOT_YET_VALID;
	case X509_V_ERR_INVALID_PURPOSE:
		return SS_TLS_FAIL_PURPOSE;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return SS_TLS_FAIL_NAME;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_INVALID_CA:
		return SS_TLS_FAIL_UNKNOWN_CA;
	default:
		return SS_TLS_FAIL_OTHER;
	}
}

int ws_tls_error_of_fail(int32_t fail)
{
	switch (fail) {
	case SS_TLS_FAIL_UNKNOWN_CA:
		return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	case SS_TLS_FAIL_EXPIRED:
		return X509_V_ERR_CERT_HAS_EXPIRED;
	case SS_TLS_FAIL_NOT_YET_VALID:
		return X509_V_ERR_CERT_NOT_YET_VALID;
	case SS_TLS_FAIL_PURPOSE:
		return X509_V_ERR_INVALID_PURPOSE;
	case SS_TLS_FAIL_NAME:
		return X509_V_ERR_HOSTNAME_MISMATCH;
	default:
		return X509_V_ERR_APPLICATION_VERIFICATION;
	}
}
