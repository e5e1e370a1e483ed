/* SPDX-License-Identifier: MIT */
/* fanin_certs - a certificate for each edge, made in memory: thousands of files would take minutes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include "fanin.h"

static FILE *open_file(const char *path)
{
	FILE *file = fopen(path, "re");

	if (!file)
		die(path);
	return file;
}

void certs_open(struct fanin *f)
{
	FILE *cert = open_file(f->conf.ca_cert), *key = open_file(f->conf.ca_key);

	f->ca_cert = PEM_read_X509(cert, NULL, NULL, NULL);
	f->ca_key = PEM_read_PrivateKey(key, NULL, NULL, NULL);
	f->ctx = SSL_CTX_new(TLS_client_method());
	fclose(cert);
	fclose(key);
	if (!f->ca_cert || !f->ca_key || !f->ctx)
		die("CA");
	if (SSL_CTX_load_verify_locations(f->ctx, f->conf.trust, NULL) != 1)
		die("trusted CAs");
	SSL_CTX_set_verify(f->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_min_proto_version(f->ctx, TLS1_2_VERSION);
	SSL_CTX_set_session_cache_mode(f->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(f->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	/* an intermediate goes along */
	bool root = X509_NAME_cmp(X509_get_subject_name(f->ca_cert), X509_get_issuer_name(f->ca_cert)) == 0;
	if (!root && (!X509_up_ref(f->ca_cert) || SSL_CTX_add_extra_chain_cert(f->ctx, f->ca_cert) != 1))
		die("chain");
}

static bool extend(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool good = extension && X509_add_ext(cert, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return good;
}

void certs_make(struct fanin *f, struct edge *e)
{
	char san[NAME_SIZE + 8];
	X509_NAME *subject = X509_NAME_new();

	snprintf(san, sizeof san, "DNS:%s", e->name);
	e->key = EVP_EC_gen("P-256");
	e->cert = X509_new();
	bool good = e->key && e->cert && subject &&
		    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)e->name, -1, -1,
					       0) == 1 &&
		    X509_set_version(e->cert, 2) == 1 &&
		    ASN1_INTEGER_set(X509_get_serialNumber(e->cert), 100000 + (long)e->number) == 1 &&
		    X509_gmtime_adj(X509_getm_notBefore(e->cert), -3600) &&
		    X509_gmtime_adj(X509_getm_notAfter(e->cert), 7 * 86400) &&
		    X509_set_subject_name(e->cert, subject) == 1 &&
		    X509_set_issuer_name(e->cert, X509_get_subject_name(f->ca_cert)) == 1 &&
		    X509_set_pubkey(e->cert, e->key) == 1 &&
		    extend(e->cert, NID_basic_constraints, "critical,CA:FALSE") &&
		    extend(e->cert, NID_key_usage, "critical,digitalSignature") &&
		    extend(e->cert, NID_ext_key_usage, "clientAuth") &&
		    extend(e->cert, NID_subject_alt_name, san) &&
		    X509_sign(e->cert, f->ca_key, EVP_sha256()) > 0;
	X509_NAME_free(subject);
	if (!good)
		die("certificate");
}
