/* SPDX-License-Identifier: MIT */
/*
 * openssl_crl - reads a certificate revocation list by OpenSSL, which is quick with many entries, and takes
 * it apart: see crl of struct tls_trial.  Pure, any thread.
 */
#include "core/tls/openssl_crl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

enum { MAX_SERIAL = 64, REMOVED = 8 /* from a list, a reason of delta lists only */ };

struct reading {
	X509_CRL *list;
	char who[CERT_SHOWN]; /* its issuer */
	char *why;
	size_t why_size;
};

static const char *show_name(char buf[CERT_SHOWN], X509_NAME *name)
{
	char text[256] = "";

	if (X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof text) <= 0)
		X509_NAME_oneline(name, text, sizeof text);
	return cert_show_bytes(buf, text, strlen(text));
}

/* Seconds since 1970. */
static bool read_time(const ASN1_TIME *t, int64_t *out)
{
	struct tm tm;

	if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
		return false;
	*out = timegm(&tm);
	return true;
}

/* ---- extensions: what is critical and not known says something else than we would think ---- */

static int refuse_extension(struct reading *r, const X509_EXTENSION *e, const char *where)
{
	char oid[80] = "";

	OBJ_obj2txt(oid, sizeof oid, X509_EXTENSION_get_object((X509_EXTENSION *)e), 0);
	snprintf(r->why, r->why_size, "the list of CA %s has an unknown critical extension%s: %s", r->who,
		 where, oid);
	return -EINVAL;
}

/* The list has to be about all certificates of its CA, and only about its. */
static int check_scope(struct reading *r)
{
	int critical;
	ISSUING_DIST_POINT *p =
		X509_CRL_get_ext_d2i(r->list, NID_issuing_distribution_point, &critical, NULL);

	if (!p && critical == -1)
		return 0;
	bool whole = p && p->onlyuser <= 0 && p->onlyCA <= 0 && p->onlyattr <= 0 && p->indirectCRL <= 0 &&
		     !p->onlysomereasons;
	ISSUING_DIST_POINT_free(p);
	if (whole)
		return 0;
	snprintf(r->why, r->why_size,
		 "the list of CA %s is partial or indirect (issuing distribution point); give the complete "
		 "one",
		 r->who);
	return -EINVAL;
}

static int check_extensions(struct reading *r)
{
	for (int i = 0; i < X509_CRL_get_ext_count(r->list); i++) {
		const X509_EXTENSION *e = X509_CRL_get_ext(r->list, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object((X509_EXTENSION *)e));
		if (nid == NID_delta_crl) {
			snprintf(r->why, r->why_size, "the list of CA %s is a delta; give the complete one",
				 r->who);
			return -EINVAL;
		}
		if (X509_EXTENSION_get_critical(e) && nid != NID_crl_number && nid != NID_issuer_alt_name &&
		    nid != NID_authority_key_identifier && nid != NID_issuing_distribution_point)
			return refuse_extension(r, e, "");
	}
	return check_scope(r);
}

/* ---- who has signed it ---- */

/* 0: this CA; -ENOENT: another; -EACCES: it has the name, but not the key or not the right, see why. */
static int check_issuer(struct reading *r, gnutls_x509_crt_t ca)
{
	gnutls_datum_t der = {0};
	int rc = -ENOENT;

	if (gnutls_x509_crt_export2(ca, GNUTLS_X509_FMT_DER, &der))
		return rc;
	const unsigned char *at = der.data;
	X509 *x = d2i_X509(NULL, &at, (long)der.size);
	if (x && X509_NAME_cmp(X509_get_subject_name(x), X509_CRL_get_issuer(r->list)) == 0) {
		EVP_PKEY *key = X509_get0_pubkey(x);
		rc = -EACCES;
		if (!key || X509_CRL_verify(r->list, key) != 1)
			snprintf(r->why, r->why_size, "the signature of the list is not that of its CA %s",
				 r->who);
		else if (X509_check_ca(x) == 0 || !(X509_get_key_usage(x) & KU_CRL_SIGN))
			snprintf(r->why, r->why_size, "CA %s may not sign lists: its key usage lacks cRLSign",
				 r->who);
		else
			rc = 0;
	}
	X509_free(x);
	gnutls_free(der.data);
	return rc;
}

static bool is_weak(const X509_CRL *list)
{
	int digest = NID_undef;

	return OBJ_find_sigid_algs(X509_CRL_get_signature_nid(list), &digest, NULL) == 1 &&
	       (digest == NID_sha1 || digest == NID_md5 || digest == NID_md4 || digest == NID_md2);
}

static int find_issuer(struct reading *r, const struct cert_list *issuers, struct tls_crl *out)
{
	gnutls_datum_t der = {0};
	unsigned i = 0;
	int rc = -ENOENT, named = -ENOENT;

	if (is_weak(r->list)) {
		snprintf(r->why, r->why_size, "the list of CA %s is signed with %s, which is too weak",
			 r->who, OBJ_nid2ln(X509_CRL_get_signature_nid(r->list)));
		return -EINVAL;
	}
	for (; i < issuers->n && rc; i++) {
		rc = check_issuer(r, issuers->certs[i]);
		named = rc == -EACCES ? rc : named;
	}
	if (rc && named == -ENOENT)
		snprintf(r->why, r->why_size,
			 "the list is of CA %s, which is not among the trusted CAs; if it is one below them, "
			 "put its certificate into this file",
			 r->who);
	if (rc)
		return -EINVAL;
	if (gnutls_x509_crt_export2(issuers->certs[i - 1], GNUTLS_X509_FMT_DER, &der))
		return -ENOMEM;
	rc = cert_from_der(der.data, der.size, &out->issuer);
	gnutls_free(der.data);
	return rc ? -ENOMEM : 0;
}

/* ---- the entries ---- */

static int check_entry(struct reading *r, X509_REVOKED *from)
{
	for (int i = 0; i < X509_REVOKED_get_ext_count(from); i++) {
		const X509_EXTENSION *e = X509_REVOKED_get_ext(from, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object((X509_EXTENSION *)e));
		if (X509_EXTENSION_get_critical(e) && nid != NID_crl_reason && nid != NID_invalidity_date)
			return refuse_extension(r, e, " of an entry");
	}
	return 0;
}

/* The content of its DER, without zeros in front, to out; its length, or -EINVAL. */
static int put_serial(struct reading *r, const ASN1_INTEGER *serial, uint8_t out[MAX_SERIAL])
{
	uint8_t der[MAX_SERIAL + 2], *at = der;

	if (ASN1_STRING_length(serial) >= MAX_SERIAL) {
		snprintf(r->why, r->why_size, "the list of CA %s has a serial of more than %d bytes", r->who,
			 MAX_SERIAL);
		return -EINVAL;
	}
	int n = i2d_ASN1_INTEGER(serial, &at) - 2;
	for (at = der + 2; n > 0 && *at == 0; n--)
		at++;
	memcpy(out, at, n > 0 ? (size_t)n : 0);
	return n > 0 ? n : 0;
}

static unsigned reason_of(const X509_REVOKED *from)
{
	if (X509_REVOKED_get_ext_count(from) <= 0)
		return 0;
	ASN1_ENUMERATED *e = X509_REVOKED_get_ext_d2i(from, NID_crl_reason, NULL, NULL);
	long reason = e ? ASN1_ENUMERATED_get(e) : 0;

	ASN1_ENUMERATED_free(e);
	return reason > 0 && reason < 256 ? (unsigned)reason : 0;
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct tls_crl_entry *x = a, *y = b;
	const uint8_t *serials = arg;

	return x->len != y->len ? (x->len < y->len ? -1 : 1)
				: memcmp(serials + x->at, serials + y->at, x->len);
}

static int take_entries(struct reading *r, struct tls_crl *out)
{
	STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(r->list);
	int n = all ? sk_X509_REVOKED_num(all) : 0;
	size_t room = 0;

	for (int i = 0; i < n; i++)
		room += (size_t)ASN1_STRING_length(
				X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(all, i))) +
			1;
	out->entries = calloc((size_t)n + 1, sizeof *out->entries);
	out->serials = malloc(room + MAX_SERIAL);
	if (!out->entries || !out->serials)
		return -ENOMEM;
	for (int i = 0; i < n; i++) {
		X509_REVOKED *from = sk_X509_REVOKED_value(all, i);
		struct tls_crl_entry *e = &out->entries[out->n];
		int rc = check_entry(r, from);
		if (rc == 0)
			rc = put_serial(r, X509_REVOKED_get0_serialNumber(from),
					out->serials + out->serials_len);
		if (rc < 0)
			return rc;
		*e = (struct tls_crl_entry){.at = (uint32_t)out->serials_len,
					    .len = (uint8_t)rc,
					    .reason = (uint8_t)reason_of(from)};
		read_time(X509_REVOKED_get0_revocationDate(from), &e->since_s);
		if (e->reason == REMOVED)
			continue;
		out->serials_len += e->len;
		out->n++;
	}
	qsort_r(out->entries, out->n, sizeof *out->entries, compare, out->serials);
	return 0;
}

/* ---- the whole ---- */

static int take(struct reading *r, const struct cert_list *issuers, struct tls_crl *out)
{
	const ASN1_TIME *next = X509_CRL_get0_nextUpdate(r->list);

	show_name(r->who, X509_CRL_get_issuer(r->list));
	out->next_update = TLS_CRL_NEVER;
	if (!read_time(X509_CRL_get0_lastUpdate(r->list), &out->this_update) ||
	    (next && !read_time(next, &out->next_update))) {
		snprintf(r->why, r->why_size, "the list of CA %s has a time that cannot be read", r->who);
		return -EINVAL;
	}
	int rc = find_issuer(r, issuers, out);
	if (rc == 0)
		rc = check_extensions(r);
	return rc ? rc : take_entries(r, out);
}

int openssl_crl_read(const uint8_t *der, size_t len, const struct cert_list *issuers, struct tls_crl *out,
		     char *why, size_t why_size)
{
	struct reading r = {.why = why, .why_size = why_size};
	const unsigned char *at = der;
	struct tls_crl crl = {0};
	int rc = -EINVAL;

	ERR_clear_error();
	if (len <= TLS_MAX_CRL_FILE)
		r.list = d2i_X509_CRL(NULL, &at, (long)len);
	if (r.list)
		rc = take(&r, issuers, &crl);
	else
		snprintf(why, why_size, "the revocation list cannot be read");
	X509_CRL_free(r.list);
	ERR_clear_error();
	if (rc)
		tls_crl_done(&crl);
	else
		*out = crl;
	return rc;
}
