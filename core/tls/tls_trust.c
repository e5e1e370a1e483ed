/* SPDX-License-Identifier: MIT */
/* tls_trust - see tls_trust.h. */
#include "core/tls/tls_trust.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include "core/tls/cert.h"
#include "core/tls/tls_crl.h"

enum {
	MAX_CAS = 128000,    /* more than all files of a role may hold */
	RSA_BITS_MAX = 8192, /* with the limit of the exponent: what a hostile signature costs to check */
	RSA_EXPONENT_MAX = 8,
};

struct tls_trust {
	struct cert_list cas;
	bool constrained; /* one of them has name constraints */
	bool system;
	struct tls_crls *crls;         /* NULL: none */
	bool *revoked;                 /* of cas: those that a list of their issuer has */
	pthread_mutex_t lock;          /* of the list, which is made when it is first needed */
	gnutls_x509_trust_list_t list; /* the certificates are cas' */
};

static bool is_constrained(gnutls_x509_crt_t crt)
{
	unsigned critical;
	size_t size = 0;
	int rc = gnutls_x509_crt_get_extension_by_oid(crt, GNUTLS_X509EXT_OID_NAME_CONSTRAINTS, 0, NULL,
						      &size, &critical);

	return rc != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
}

static bool mark_revoked(struct tls_trust *);

struct tls_trust *tls_trust_new(const char *ca_pem, bool system, struct tls_crls *crls)
{
	struct tls_trust *t = calloc(1, sizeof *t);
	char why[256];

	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->system = system;
	t->crls = tls_crls_ref(crls);
	if (ca_pem && *ca_pem && cert_list_load(ca_pem, strlen(ca_pem), MAX_CAS, &t->cas, why, sizeof why)) {
		tls_trust_free(t);
		return NULL;
	}
	for (unsigned i = 0; i < t->cas.n; i++)
		t->constrained |= is_constrained(t->cas.certs[i]);
	if (!mark_revoked(t)) {
		tls_trust_free(t);
		return NULL;
	}
	return t;
}

void tls_trust_free(struct tls_trust *t)
{
	if (!t)
		return;
	if (t->list)
		gnutls_x509_trust_list_deinit(t->list, 0);
	cert_list_free(&t->cas);
	tls_crls_unref(t->crls);
	free(t->revoked);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

bool tls_trust_has(const struct tls_trust *t, gnutls_x509_crt_t crt)
{
	unsigned i = 0;

	while (t && i < t->cas.n && !gnutls_x509_crt_equals(t->cas.certs[i], crt))
		i++;
	return t && i < t->cas.n;
}

/* ---- who signed whom ---- */

/* The part of a certificate that is signed; false: it is not DER. */
static bool signed_part(const gnutls_datum_t *der, gnutls_datum_t *part)
{
	const unsigned char *p = der->data, *end = p + der->size;
	size_t len = 0;

	for (int depth = 0; depth < 2; depth++) { /* Certificate, then TBSCertificate */
		const unsigned char *start = p;
		if (end - p < 2 || *p++ != 0x30)
			return false;
		len = *p++;
		unsigned bytes = len & 0x80 ? len & 0x7f : 0;
		if (bytes > 4 || (size_t)(end - p) < bytes || len == 0x80)
			return false;
		for (len = bytes ? 0 : len; bytes > 0; bytes--)
			len = len << 8 | *p++;
		if (len > (size_t)(end - p))
			return false;
		if (depth == 1)
			*part = cert_datum(start, (size_t)(p - start) + len);
	}
	return true;
}

/* A key whose signatures can be checked in a short time. */
static bool is_cheap(gnutls_pubkey_t key)
{
	gnutls_datum_t modulus, exponent;
	unsigned bits = 0;
	int kind = gnutls_pubkey_get_pk_algorithm(key, &bits);

	if (kind != GNUTLS_PK_RSA && kind != GNUTLS_PK_RSA_PSS)
		return true;
	if (bits > RSA_BITS_MAX ||
	    gnutls_pubkey_export_rsa_raw2(key, &modulus, &exponent, GNUTLS_EXPORT_FLAG_NO_LZ))
		return false;
	bool small = exponent.size <= RSA_EXPONENT_MAX;
	gnutls_free(modulus.data);
	gnutls_free(exponent.data);
	return small;
}

/* Does the key of issuer verify the signature of crt?  If that cannot be decided the answer is yes, so that
 * the constraints of the issuer count. */
static bool signed_by(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer)
{
	int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);
	gnutls_pubkey_t key = NULL;
	gnutls_datum_t der = {0}, part;
	unsigned char signature[4096];
	size_t size = sizeof signature;
	bool yes = true;

	if (gnutls_pubkey_init(&key) || gnutls_pubkey_import_x509(key, issuer, 0))
		goto out;
	int kind = gnutls_pubkey_get_pk_algorithm(key, NULL);
	if (algorithm != GNUTLS_SIGN_UNKNOWN &&
	    !gnutls_sign_supports_pk_algorithm((gnutls_sign_algorithm_t)algorithm,
					       (gnutls_pk_algorithm_t)kind))
		yes = false;
	else if (is_cheap(key) && gnutls_x509_crt_get_signature(crt, (char *)signature, &size) == 0 &&
		 gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der) == 0 && signed_part(&der, &part)) {
		const gnutls_datum_t is = cert_datum(signature, size);
		yes = gnutls_pubkey_verify_data2(key, (gnutls_sign_algorithm_t)algorithm,
						 GNUTLS_VERIFY_ALLOW_BROKEN, &part,
						 &is) != GNUTLS_E_PK_SIG_VERIFY_FAILED;
	}
out:
	gnutls_free(der.data);
	if (key)
		gnutls_pubkey_deinit(key);
	return yes;
}

/* ---- name constraints ---- */

/* The certificates that may be above a leaf: those shown with it, then the CAs. */
struct candidates {
	gnutls_x509_crt_t *certs;
	bool *above; /* found to have signed the leaf, or one that is above it */
	size_t n, n_shown;
	bool constrained;
};

static void candidates_free(struct candidates *c)
{
	for (size_t i = 0; i < c->n_shown; i++)
		gnutls_x509_crt_deinit(c->certs[i]);
	free(c->certs);
	free(c->above);
}

/* Mark whoever signed crt, and whoever signed those. */
static void climb(struct candidates *c, gnutls_x509_crt_t crt)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->above[i] || !signed_by(crt, c->certs[i]))
			continue;
		c->above[i] = true;
		climb(c, c->certs[i]);
	}
}

/* Is the DNS name within the subtree: the same, or below it?  GnuTLS would take case for a difference. */
static bool is_within(const char *name, const gnutls_datum_t *subtree)
{
	size_t len = strlen(name), n = subtree->size;

	if (len && name[len - 1] == '.')
		len--;
	if (n > len || strncasecmp(name + len - n, (const char *)subtree->data, n) != 0)
		return false;
	return n == 0 || n == len || subtree->data[0] == '.' || name[len - n - 1] == '.';
}

static bool is_allowed(gnutls_x509_name_constraints_t constraints, const char *name)
{
	gnutls_datum_t subtree;
	unsigned type;
	bool any = false, within = false;

	for (unsigned i = 0; gnutls_x509_name_constraints_get_excluded(constraints, i, &type, &subtree) == 0;
	     i++)
		if (type == GNUTLS_SAN_DNSNAME && is_within(name, &subtree))
			return false;
	for (unsigned i = 0; gnutls_x509_name_constraints_get_permitted(constraints, i, &type, &subtree) == 0;
	     i++) {
		any |= type == GNUTLS_SAN_DNSNAME;
		within |= type == GNUTLS_SAN_DNSNAME && is_within(name, &subtree);
	}
	return within || !any;
}

static int check_constraints(gnutls_x509_crt_t ca, const char *name, char *why, size_t why_size)
{
	gnutls_x509_name_constraints_t constraints;
	char who[CERT_SHOWN], shown[CERT_SHOWN];
	unsigned critical;

	if (!is_constrained(ca))
		return 0;
	if (gnutls_x509_name_constraints_init(&constraints)) {
		snprintf(why, why_size, "out of memory");
		return -EACCES;
	}
	int rc = gnutls_x509_crt_get_name_constraints(ca, constraints, 0, &critical);
	bool allowed = rc == 0 && is_allowed(constraints, name);
	gnutls_x509_name_constraints_deinit(constraints);
	if (allowed)
		return 0;
	cert_show_subject(who, ca);
	if (rc)
		snprintf(why, why_size, "the name constraints of CA %s cannot be read", who);
	else
		snprintf(why, why_size, "the name constraints of CA %s do not allow the name %s", who,
			 cert_show_bytes(shown, name, strlen(name)));
	return -EACCES;
}

/* *leaf is for gnutls_x509_crt_deinit().  0; -ENOMEM, -EINVAL: then there is nothing to release. */
static int candidates_init(struct candidates *c, const struct tls_trust *t, const struct ss_der *chain,
			   uint32_t n, gnutls_x509_crt_t *leaf)
{
	size_t n_cas = t ? t->cas.n : 0;

	*c = (struct candidates){.certs = calloc(n + n_cas + 1, sizeof *c->certs),
				 .above = calloc(n + n_cas + 1, sizeof *c->above),
				 .constrained = t && t->constrained};
	int rc = c->certs && c->above ? 0 : -ENOMEM;
	if (rc == 0 && (n == 0 || cert_from_der(chain[0].data, chain[0].len, leaf)))
		rc = -EINVAL;
	if (rc) {
		candidates_free(c);
		return rc;
	}
	for (uint32_t i = 1; i < n; i++) {
		if (cert_from_der(chain[i].data, chain[i].len, &c->certs[c->n_shown]))
			continue; /* what cannot be read has verified nothing */
		c->constrained |= is_constrained(c->certs[c->n_shown++]);
	}
	c->n = c->n_shown;
	for (size_t i = 0; i < n_cas; i++)
		c->certs[c->n++] = t->cas.certs[i];
	return 0;
}

int tls_trust_allows(const struct tls_trust *t, const struct ss_der *chain, uint32_t n, const char *name,
		     char *why, size_t why_size)
{
	struct candidates c;
	gnutls_x509_crt_t leaf;

	if (candidates_init(&c, t, chain, n, &leaf)) {
		snprintf(why, why_size, "out of memory");
		return -EACCES;
	}
	int rc = 0;
	if (c.constrained)
		climb(&c, leaf);
	for (size_t i = 0; i < c.n && rc == 0; i++)
		if (c.above[i])
			rc = check_constraints(c.certs[i], name, why, why_size);
	gnutls_x509_crt_deinit(leaf);
	candidates_free(&c);
	return rc;
}

/* ---- revocation ---- */

/* The list that has the certificate, if it is of the CA that signed it; NULL: none has. */
static const struct tls_crl *find_revoked(const struct tls_crls *crls, gnutls_x509_crt_t crt,
					  const struct tls_crl_entry **entry)
{
	for (size_t i = 0; i < tls_crls_count(crls); i++) {
		const struct tls_crl *c = tls_crls_at(crls, i);
		*entry = tls_crl_find(c, crt);
		if (*entry && signed_by(crt, c->issuer))
			return c;
	}
	return NULL;
}

/* Once for all CAs, of which there may be many. */
static bool mark_revoked(struct tls_trust *t)
{
	const struct tls_crl_entry *entry;

	if (tls_crls_count(t->crls) == 0)
		return true;
	t->revoked = calloc(t->cas.n + 1u, sizeof *t->revoked);
	for (unsigned i = 0; t->revoked && i < t->cas.n; i++)
		t->revoked[i] = find_revoked(t->crls, t->cas.certs[i], &entry);
	return t->revoked;
}

static int refuse_revoked(const struct tls_crls *crls, gnutls_x509_crt_t crt, int32_t *fail, char *why,
			  size_t why_size)
{
	char who[CERT_SHOWN], ca[CERT_SHOWN], when[CERT_SHOWN];
	const struct tls_crl_entry *entry;
	const struct tls_crl *c = find_revoked(crls, crt, &entry);

	if (!c)
		return 0;
	*fail = SS_TLS_FAIL_REVOKED;
	snprintf(why, why_size, "certificate %s was revoked by CA %s at %s (%s)", cert_show_subject(who, crt),
		 cert_show_subject(ca, c->issuer), cert_show_time(when, entry->since_s),
		 tls_crl_reason(entry->reason));
	return -EACCES;
}

/* Is there a list about the certificate that is out of date? */
static int refuse_unknown(const struct tls_crls *crls, gnutls_x509_crt_t crt, int64_t now, int32_t *fail,
			  char *why, size_t why_size)
{
	char who[CERT_SHOWN], ca[CERT_SHOWN], when[CERT_SHOWN];

	for (size_t i = 0; i < tls_crls_count(crls); i++) {
		const struct tls_crl *c = tls_crls_at(crls, i);
		if (c->next_update >= now || !signed_by(crt, c->issuer))
			continue;
		*fail = SS_TLS_FAIL_CRL_EXPIRED;
		snprintf(why, why_size,
			 "whether certificate %s is revoked cannot be told: the revocation list of CA %s "
			 "expired %s",
			 cert_show_subject(who, crt), cert_show_subject(ca, c->issuer),
			 cert_show_time(when, c->next_update));
		return -EACCES;
	}
	return 0;
}

static int check_above(const struct tls_trust *t, const struct candidates *c, int64_t now, int32_t *fail,
		       char *why, size_t why_size)
{
	int rc = 0;

	for (size_t i = 0; i < c->n && rc == 0; i++)
		if (c->above[i] && (i < c->n_shown || t->revoked[i - c->n_shown]))
			rc = refuse_revoked(t->crls, c->certs[i], fail, why, why_size);
	for (size_t i = 0; i < c->n && rc == 0 && tls_crls_hard(t->crls); i++)
		if (c->above[i])
			rc = refuse_unknown(t->crls, c->certs[i], now, fail, why, why_size);
	return rc;
}

int tls_trust_check_revoked(const struct tls_trust *t, const struct ss_der *chain, uint32_t n, int64_t now,
			    int32_t *fail, char *why, size_t why_size)
{
	struct candidates c;
	const struct tls_crl_entry *entry;
	gnutls_x509_crt_t leaf;

	if (!t || tls_crls_count(t->crls) == 0)
		return 0;
	bool hard = tls_crls_hard(t->crls), suspect = hard && tls_crls_first_end(t->crls)->next_update < now;
	if (candidates_init(&c, t, chain, n, &leaf)) {
		*fail = SS_TLS_FAIL_OTHER;
		snprintf(why, why_size, "out of memory");
		return -EACCES;
	}
	int rc = refuse_revoked(t->crls, leaf, fail, why, why_size);
	if (rc == 0 && hard)
		rc = refuse_unknown(t->crls, leaf, now, fail, why, why_size);
	/* who has signed whom costs time, and matters only if one of them may be revoked */
	for (size_t i = 0; i < c.n && rc == 0 && !suspect; i++)
		suspect = i < c.n_shown ? find_revoked(t->crls, c.certs[i], &entry) != NULL
					: t->revoked[i - c.n_shown];
	if (rc == 0 && suspect) {
		climb(&c, leaf);
		rc = check_above(t, &c, now, fail, why, why_size);
	}
	gnutls_x509_crt_deinit(leaf);
	candidates_free(&c);
	return rc;
}

/* ---- verification of a chain that was accepted before ---- */

/* [lock] */
static bool make_list(struct tls_trust *t)
{
	const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");

	if (t->list)
		return true;
	if (gnutls_x509_trust_list_init(&t->list, 0))
		return false;
	if (t->cas.n)
		gnutls_x509_trust_list_add_cas(t->list, t->cas.certs, t->cas.n, 0);
	if (t->system && (file || dir)) { /* as OpenSSL has it */
		if (file)
			gnutls_x509_trust_list_add_trust_file(t->list, file, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
		if (dir)
			gnutls_x509_trust_list_add_trust_dir(t->list, dir, NULL, GNUTLS_X509_FMT_PEM, 0, 0);
	} else if (t->system) {
		gnutls_x509_trust_list_add_system_trust(t->list, 0, 0);
	}
	return true;
}

static int32_t fail_of_status(unsigned status)
{
	if (status == 0)
		return -1;
	if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED))
		return SS_TLS_FAIL_EXPIRED;
	if (status & GNUTLS_CERT_NOT_ACTIVATED)
		return SS_TLS_FAIL_NOT_YET_VALID;
	/* whoever else has the CA's name, or is none, is not the CA */
	if (status &
	    (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNATURE_FAILURE | GNUTLS_CERT_SIGNER_NOT_CA))
		return SS_TLS_FAIL_UNKNOWN_CA;
	if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
		return SS_TLS_FAIL_PURPOSE;
	return SS_TLS_FAIL_OTHER;
}

int32_t tls_trust_verify(struct tls_trust *t, const struct ss_der *chain, uint32_t n)
{
	gnutls_x509_crt_t certs[CERT_MAX_CHAIN];
	unsigned read = 0, status = GNUTLS_CERT_INVALID;

	for (uint32_t i = 0; i < n && i < CERT_MAX_CHAIN; i++)
		if (cert_from_der(chain[i].data, chain[i].len, &certs[read]) == 0)
			read++;
		else if (i == 0)
			return SS_TLS_FAIL_OTHER;
	pthread_mutex_lock(&t->lock);
	if (read == 0 || !make_list(t) ||
	    gnutls_x509_trust_list_verify_crt2(t->list, certs, read, NULL, 0,
					       GNUTLS_VERIFY_ALLOW_UNSORTED_CHAIN, &status, NULL))
		status = GNUTLS_CERT_INVALID;
	pthread_mutex_unlock(&t->lock);
	for (unsigned i = 0; i < read; i++)
		gnutls_x509_crt_deinit(certs[i]);
	return fail_of_status(status);
}

/* RSA and DSA below 112 bits of security, as OpenSSL has it at its level 2; of curves what is that small. */
static bool has_weak_key(gnutls_x509_crt_t crt, char *why, size_t why_size)
{
	char who[CERT_SHOWN];
	unsigned bits = 0;
	int kind = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
	bool curve = kind == GNUTLS_PK_ECDSA;

	if (kind < 0 || kind == GNUTLS_PK_UNKNOWN ||
	    !(curve ? bits < 224 : kind <= GNUTLS_PK_DSA && bits < 2048))
		return false;
	snprintf(why, why_size, "certificate %s has a key (%s of %u bits) that is too weak for TLS",
		 cert_show_subject(who, crt), gnutls_pk_algorithm_get_name((gnutls_pk_algorithm_t)kind),
		 bits);
	return true;
}

static bool has_weak_signature(gnutls_x509_crt_t crt, char *why, size_t why_size)
{
	char who[CERT_SHOWN];
	int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);

	if (algorithm <= 0 ||
	    gnutls_sign_is_secure2((gnutls_sign_algorithm_t)algorithm, GNUTLS_SIGN_FLAG_SECURE_FOR_CERTS))
		return false;
	snprintf(why, why_size,
		 "certificate %s is signed with %s, which is too weak for TLS; have it issued anew with "
		 "SHA-256",
		 cert_show_subject(who, crt), gnutls_sign_get_name((gnutls_sign_algorithm_t)algorithm));
	return true;
}

bool tls_trust_find_weak(const struct tls_trust *t, const struct ss_der *chain, uint32_t n, char *why,
			 size_t why_size)
{
	gnutls_x509_crt_t crt, last = NULL;
	bool weak = false;

	for (uint32_t i = 0; i < n && i < CERT_MAX_CHAIN && !weak; i++) {
		if (cert_from_der(chain[i].data, chain[i].len, &crt))
			continue;
		weak = has_weak_key(crt, why, why_size) ||
		       (!tls_trust_has(t, crt) && has_weak_signature(crt, why, why_size));
		if (last)
			gnutls_x509_crt_deinit(last);
		last = crt;
	}
	for (unsigned i = 0; t && last && i < t->cas.n && !weak; i++)
		weak = gnutls_x509_crt_check_issuer(last, t->cas.certs[i]) &&
		       has_weak_key(t->cas.certs[i], why, why_size);
	if (last)
		gnutls_x509_crt_deinit(last);
	return weak;
}

int64_t tls_trust_next_expiry(const struct tls_trust *t, const struct ss_der *chain, uint32_t n, int64_t now)
{
	int64_t next = INT64_MAX, end;
	gnutls_x509_crt_t crt;

	for (uint32_t i = 0; i < n; i++) {
		if (cert_from_der(chain[i].data, chain[i].len, &crt))
			continue;
		end = cert_not_after(crt);
		gnutls_x509_crt_deinit(crt);
		next = end >= now && end < next ? end : next;
	}
	for (unsigned i = 0; t && i < t->cas.n; i++) {
		end = cert_not_after(t->cas.certs[i]);
		next = end >= now && end < next ? end : next;
	}
	for (size_t i = 0; t && tls_crls_hard(t->crls) && i < tls_crls_count(t->crls); i++) {
		end = tls_crls_at(t->crls, i)->next_update;
		next = end >= now && end < next ? end : next;
	}
	return next == INT64_MAX ? next : next + 1; /* valid until then, inclusive */
}
