/* SPDX-License-Identifier: MIT */
/*
 * openssl_trial - what the core does with OpenSSL, in a module of its own (tls_openssl.so): a host without
 * TLS does not load that library.  Reads keys, tries an identity and CAs in throw-away contexts, see
 * core/tls/tls_trial.h.  Pure, any thread.
 */
#include "core/tls/tls_trial.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <gnutls/abstract.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <semstreams/ext/tls-openssl.h>
#include "core/tls/cert.h"
#include "core/tls/openssl_crl.h"

#define USABLE_KEYS "RSA from 2048 bits on, EC on P-256, P-384 or P-521, Ed25519"

/* ---- private keys ---- */

/* For messages: "an RSA key of 2048 bits", "an EC key on curve secp224r1" */
static const char *show_key(char buf[CERT_SHOWN], const EVP_PKEY *key)
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
			 show_key(shown, key));
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

static int read_key(const char *pem, size_t len, gnutls_x509_privkey_t *out, char *why, size_t why_size)
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

/* ---- trials ---- */

struct trial {
	const struct ss_tls_material *material;
	struct tls_openssl_identity id;
	SSL_CTX *ours, *peers;
	char *why;
	size_t why_size;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->why, t->why_size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- for messages ---- */

static const char *show(char buf[CERT_SHOWN], X509 *x)
{
	unsigned char *der = NULL;
	int len = i2d_X509(x, &der);
	gnutls_x509_crt_t crt;

	if (len <= 0 || cert_from_der(der, (size_t)len, &crt)) {
		cert_show_bytes(buf, "", 0);
	} else {
		cert_show_subject(buf, crt);
		gnutls_x509_crt_deinit(crt);
	}
	OPENSSL_free(der);
	return buf;
}

/* What is wrong with the key or the signature of a certificate, by the reason that OpenSSL gives. */
static void explain(X509 *x, unsigned long error, char *text, size_t size)
{
	char key[CERT_SHOWN];
	int digest = NID_undef;
	const char *reason = ERR_reason_error_string(error);

	switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0) {
	case SSL_R_EE_KEY_TOO_SMALL:
	case SSL_R_CA_KEY_TOO_SMALL:
		snprintf(text, size, "has %s, which is too weak for TLS; usable are " USABLE_KEYS,
			 show_key(key, X509_get0_pubkey(x)));
		break;
	case SSL_R_CA_MD_TOO_WEAK:
		X509_get_signature_info(x, &digest, NULL, NULL, NULL);
		snprintf(text, size,
			 "is signed with %s, which is too weak for TLS; have it issued anew with SHA-256",
			 digest == NID_sha1 ? "SHA-1" : OBJ_nid2sn(digest));
		break;
	default:
		snprintf(text, size, "with %s cannot be used for TLS (%s); usable are " USABLE_KEYS,
			 show_key(key, X509_get0_pubkey(x)), reason ? reason : "unknown reason");
	}
}

static int refuse_certificate(struct trial *t, int number, X509 *x, unsigned long error)
{
	char who[CERT_SHOWN], text[256];

	explain(x, error, text, sizeof text);
	return refuse(t, "certificate %d, %s, %s", number, show(who, x), text);
}

/* ---- the identity ---- */

/* One by one, so that it is known which is refused. */
static int take(struct trial *t, SSL_CTX *ctx)
{
	const struct tls_openssl_identity *id = &t->id;

	ERR_clear_error();
	if (SSL_CTX_use_certificate(ctx, id->leaf) != 1 || SSL_CTX_use_PrivateKey(ctx, id->key) != 1)
		return refuse_certificate(t, 1, id->leaf, ERR_peek_last_error());
	for (int i = 0; i < sk_X509_num(id->chain); i++) {
		X509 *x = sk_X509_value(id->chain, i);
		if (SSL_CTX_add1_chain_cert(ctx, x) != 1)
			return refuse_certificate(t, i + 2, x, ERR_peek_last_error());
	}
	return 0;
}

/* Let pass what depends on whom the peer trusts and on the time; what is left is wrong for every peer. */
static int judge(int ok, X509_STORE_CTX *store)
{
	switch (X509_STORE_CTX_get_error(store)) {
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
	case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
	case X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
	case X509_V_ERR_UNSUPPORTED_SIGNATURE_ALGORITHM:
		return ok;
	default:
		return 1;
	}
}

static int verify(X509_STORE_CTX *store, void *arg)
{
	struct trial *t = arg;

	X509_STORE_CTX_set_verify_cb(store, judge);
	if (X509_verify_cert(store) == 1)
		return 1;
	char who[CERT_SHOWN];
	X509 *x = X509_STORE_CTX_get_current_cert(store);
	refuse(t, "certificate %d, %s, is refused by every peer: %s",
	       X509_STORE_CTX_get_error_depth(store) + 1, x ? show(who, x) : "''",
	       X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	return 0;
}

/* 1: done, 0: it waits for the other side, -1: failed with OpenSSL's *error. */
static int step(SSL *ssl, unsigned long *error)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(ssl);

	if (rc == 1)
		return 1;
	int what = SSL_get_error(ssl, rc);
	*error = ERR_peek_error();
	return what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static int shake_hands(struct trial *t, SSL *ours, SSL *theirs)
{
	const int steps = 100; /* more than any handshake, each with what fits into the pipe */
	unsigned long error = 0;
	int a = 0, b = 0;

	for (int i = 0; i < steps && a >= 0 && b >= 0 && !(a && b); i++) {
		a = step(ours, &error);
		if (a >= 0)
			b = step(theirs, &error);
	}
	if (a == 1 && b == 1)
		return 0;
	if (t->why[0])
		return -EINVAL;
	if (t->material->signer)
		return refuse(
			t, "the key that signs is not that of the first certificate, or does not sign (%s)",
			ERR_reason_error_string(error));
	return refuse_certificate(t, 1, t->id.leaf, error);
}

static int try_handshake(struct trial *t)
{
	bool server = t->material->role == SS_TLS_SERVER;
	SSL *ours = SSL_new(t->ours), *theirs = SSL_new(t->peers);
	BIO *one = NULL, *other = NULL;
	int rc = -ENOMEM;

	if (ours && theirs && BIO_new_bio_pair(&one, 0, &other, 0) == 1) {
		SSL_set_bio(ours, one, one);
		SSL_set_bio(theirs, other, other);
		server ? SSL_set_accept_state(ours) : SSL_set_connect_state(ours);
		server ? SSL_set_connect_state(theirs) : SSL_set_accept_state(theirs);
		rc = shake_hands(t, ours, theirs);
	}
	SSL_free(ours);
	SSL_free(theirs);
	return rc;
}

/* A peer that trusts everybody; if it is a server it has our certificate, too. */
static int make_peer(struct trial *t)
{
	bool server = t->material->role == SS_TLS_CLIENT;

	t->peers = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!t->peers || tls_openssl_policy(t->peers))
		return -ENOMEM;
	SSL_CTX_set_verify(t->peers, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(t->peers, verify, t);
	return server ? take(t, t->peers) : 0;
}

static int try_all(struct trial *t)
{
	const struct ss_tls_material *m = t->material;
	bool server = m->role == SS_TLS_SERVER;
	const char *why = NULL;

	t->ours = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!t->ours || tls_openssl_policy(t->ours))
		return -ENOMEM;
	if (tls_openssl_version(t->ours, m))
		return refuse(t, "min_version is not possible");
	int rc = tls_openssl_identity_read(m, &t->id, &why);
	if (rc == 0)
		rc = tls_openssl_trust(t->ours, m, server, &why);
	if (rc)
		return rc == -ENOMEM ? rc : refuse(t, "%s", why);
	if (!t->id.leaf)
		return 0;
	rc = take(t, t->ours);
	if (rc == 0)
		rc = make_peer(t);
	return rc ? rc : try_handshake(t);
}

static int try_identity(const struct ss_tls_material *material, uint32_t role, uint32_t min_version,
			char *why, size_t why_size)
{
	struct ss_tls_material m = *material;
	struct trial t = {.material = &m, .why = why, .why_size = why_size};

	why[0] = '\0';
	m.role = role;
	m.min_version = min_version;
	m.flags &= ~(uint32_t)SS_TLS_SYSTEM_CA; /* not ours to try */
	int rc = try_all(&t);
	tls_openssl_identity_free(&t.id);
	SSL_CTX_free(t.ours);
	SSL_CTX_free(t.peers);
	ERR_clear_error();
	return rc;
}

/* ---- CAs ---- */

/* Can the certificates that it signed be verified, by OpenSSL in the handshake and by GnuTLS later?  Its own
 * signature is not looked at: it is trusted. */
static bool is_useful(SSL_CTX *ctx, gnutls_x509_crt_t ca, X509 *x, char *why, size_t size)
{
	EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
	gnutls_pubkey_t theirs = NULL;
	char shown[CERT_SHOWN];

	if (!key) {
		snprintf(why, size, "%s",
			 !x && tls_openssl_is_name_fault(ERR_peek_error()) ? TLS_OPENSSL_NAME_FAULT
									   : "has a key that cannot be read");
		return false;
	}
	ERR_clear_error();
	if (SSL_CTX_add1_chain_cert(ctx, x) != 1) {
		unsigned long error = ERR_peek_last_error();
		if (ERR_GET_REASON(error) != SSL_R_CA_MD_TOO_WEAK) {
			explain(x, error, why, size);
			return false;
		}
	}
	SSL_CTX_clear_chain_certs(ctx);
	bool known = gnutls_pubkey_init(&theirs) == 0 && gnutls_pubkey_import_x509(theirs, ca, 0) == 0;
	if (theirs)
		gnutls_pubkey_deinit(theirs);
	if (!known)
		snprintf(why, size, "has %s, which is not supported; usable are " USABLE_KEYS,
			 show_key(shown, key));
	return known;
}

static int count_useful(const struct cert_list *cas, tls_trial_useless_fn *useless, void *arg)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int n = 0;

	if (!ctx || tls_openssl_policy(ctx)) {
		SSL_CTX_free(ctx);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < cas->n; i++) {
		gnutls_datum_t der = {0};
		char why[256];
		X509 *x = NULL;
		if (gnutls_x509_crt_export2(cas->certs[i], GNUTLS_X509_FMT_DER, &der) == 0) {
			const unsigned char *at = der.data;
			ERR_clear_error();
			x = d2i_X509(NULL, &at, (long)der.size);
		}
		if (is_useful(ctx, cas->certs[i], x, why, sizeof why))
			n++;
		else
			useless(arg, cas->certs[i], why);
		X509_free(x);
		gnutls_free(der.data);
	}
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return n;
}

/* ---- what the module exports ---- */

__attribute__((visibility("default"))) extern const struct tls_trial TLS_TRIAL_ENTRY;

const struct tls_trial TLS_TRIAL_ENTRY = {
	.struct_size = sizeof(struct tls_trial),
	.version = PACKAGE_VERSION,
	.key = read_key,
	.identity = try_identity,
	.cas = count_useful,
	.crl = openssl_crl_read,
};
