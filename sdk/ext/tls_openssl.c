/* SPDX-License-Identifier: MIT */
/* tls_openssl - see semstreams/ext/tls-openssl.h. */
#include <semstreams/ext/tls-openssl.h>

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

int tls_openssl_policy(SSL_CTX *ctx)
{
	SSL_CTX_set_security_level(ctx, 2);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	/* TLS 1.2: forward secrecy and authenticated encryption only */
	return SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 ? 0 : -ENOMEM;
}

int tls_openssl_version(SSL_CTX *ctx, const struct ss_tls_material *m)
{
	int min = m->min_version > TLS1_2_VERSION ? (int)m->min_version : TLS1_2_VERSION;

	return SSL_CTX_set_min_proto_version(ctx, min) == 1 ? 0 : -EINVAL;
}

/* No password is ever asked for. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

bool tls_openssl_is_name_fault(unsigned long error)
{
	static const int reasons[] = {ASN1_R_INVALID_UTF8STRING, ASN1_R_ILLEGAL_CHARACTERS,
				      ASN1_R_BMPSTRING_IS_WRONG_LENGTH,
				      ASN1_R_UNIVERSALSTRING_IS_WRONG_LENGTH, ASN1_R_MSTRING_WRONG_TAG};
	bool found = false;

	for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
		found |= ERR_GET_LIB(error) == ERR_LIB_ASN1 && ERR_GET_REASON(error) == reasons[i];
	return found;
}

/* All certificates of a PEM text; NULL if there is none or one is broken.  Of CAs those whose names OpenSSL
 * does not read are left out: the host has warned of them, and no peer can show what they signed. */
static STACK_OF(X509) * certificates(const char *pem, bool cas, const char **why)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	STACK_OF(X509) *all = sk_X509_new_null();
	bool more = bio && all;

	while (more) {
		ERR_clear_error();
		X509 *x = PEM_read_bio_X509(bio, NULL, no_password, NULL);
		bool odd = !x && tls_openssl_is_name_fault(ERR_peek_error());
		more = x ? sk_X509_push(all, x) > 0 : odd && cas;
		if (!more)
			X509_free(x);
		if (odd)
			*why = "a certificate in it " TLS_OPENSSL_NAME_FAULT;
	}
	bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(bio);
	if (end && all && sk_X509_num(all) > 0)
		return all;
	sk_X509_pop_free(all, X509_free);
	return NULL;
}

EVP_PKEY *tls_openssl_key(const char *pem, size_t len)
{
	ERR_clear_error();
	BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	return key;
}

int tls_openssl_identity_read(const struct ss_tls_material *m, struct tls_openssl_identity *id,
			      const char **why)
{
	*id = (struct tls_openssl_identity){0};
	const struct ss_tls_signer *signer = SS_KNOWS(m, struct ss_tls_material, signer) ? m->signer : NULL;
	if (!m->chain_pem || (!m->key_pem && !signer))
		return 0;
	*why = "the certificate is not readable PEM";
	id->chain = certificates(m->chain_pem, false, why);
	if (!id->chain)
		return -EINVAL;
	id->leaf = sk_X509_shift(id->chain);
	*why = signer ? "a key that signs elsewhere must be EC, on P-256, P-384 or P-521"
		      : "the private key is not readable PEM, or needs a password";
	id->key = signer ? tls_openssl_signing_key(signer, id->leaf)
			 : tls_openssl_key(m->key_pem, strlen(m->key_pem));
	if (id->key)
		*why = "certificate and private key do not belong together";
	if (id->key && X509_check_private_key(id->leaf, id->key) == 1)
		return 0;
	ERR_clear_error();
	tls_openssl_identity_free(id);
	return -EINVAL;
}

void tls_openssl_identity_free(struct tls_openssl_identity *id)
{
	X509_free(id->leaf);
	EVP_PKEY_free(id->key);
	sk_X509_pop_free(id->chain, X509_free);
	*id = (struct tls_openssl_identity){0};
}

int tls_openssl_trust(SSL_CTX *ctx, const struct ss_tls_material *m, bool server, const char **why)
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
		cas = certificates(m->ca_pem, true, why);
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
