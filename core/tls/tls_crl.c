/* SPDX-License-Identifier: MIT */
/* tls_crl - see tls_crl.h. */
#include "core/tls/tls_crl.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/crypto.h>
#include "core/tls/tls_trial.h"

enum { MAX_LISTS = 1024, MAX_SERIAL = 64 };

/* A list is shared by the sets that have it. */
struct shared {
	_Atomic unsigned references;
	struct tls_crl crl;
};

struct tls_crls {
	_Atomic unsigned references;
	bool hard;
	struct shared **lists;
	size_t n;
};

void tls_crl_done(struct tls_crl *c)
{
	if (c->issuer)
		gnutls_x509_crt_deinit(c->issuer);
	free(c->entries);
	free(c->serials);
	*c = (struct tls_crl){0};
}

static void shared_unref(struct shared *s)
{
	if (atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
		return;
	tls_crl_done(&s->crl);
	free(s);
}

struct tls_crls *tls_crls_new(bool hard)
{
	struct tls_crls *set = calloc(1, sizeof *set);

	if (set) {
		atomic_init(&set->references, 1);
		set->hard = hard;
	}
	return set;
}

struct tls_crls *tls_crls_ref(struct tls_crls *set)
{
	if (set)
		atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
	return set;
}

void tls_crls_unref(struct tls_crls *set)
{
	if (!set || atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < set->n; i++)
		shared_unref(set->lists[i]);
	free(set->lists);
	free(set);
}

/* ---- filling ---- */

/* Its place in the set: that of the same CA's, or at the end. */
static size_t place_of(const struct tls_crls *set, gnutls_x509_crt_t issuer)
{
	size_t i = 0;

	while (i < set->n && !gnutls_x509_crt_equals(set->lists[i]->crl.issuer, issuer))
		i++;
	return i;
}

/* Takes s over, if it is newer than what there is of its CA. */
static int put(struct tls_crls *set, struct shared *s)
{
	size_t i = place_of(set, s->crl.issuer);

	if (i < set->n && set->lists[i]->crl.this_update >= s->crl.this_update) {
		shared_unref(s);
		return 0;
	}
	if (i < set->n) {
		shared_unref(set->lists[i]);
		set->lists[i] = s;
		return 0;
	}
	struct shared **grown = realloc(set->lists, (set->n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	set->lists = grown;
	set->lists[set->n++] = s;
	return 0;
}

static int add(struct tls_crls *set, const struct tls_trial *trial, const uint8_t *der, size_t len,
	       const struct cert_list *issuers, char *why, size_t why_size)
{
	struct shared *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	atomic_init(&s->references, 1);
	int rc = set->n < MAX_LISTS ? trial->crl(der, len, issuers, &s->crl, why, why_size) : -EFBIG;
	if (rc == -EFBIG) {
		snprintf(why, why_size, "more than %d lists", MAX_LISTS);
		rc = -EINVAL;
	}
	if (rc == 0 && gnutls_hash_fast(GNUTLS_DIG_SHA256, der, len, s->crl.digest))
		rc = -ENOMEM;
	if (rc == 0)
		rc = put(set, s);
	if (rc)
		shared_unref(s);
	return rc;
}

static int add_pem(struct tls_crls *set, const struct tls_trial *trial, const char *text, size_t len,
		   const struct cert_list *issuers, char *why, size_t why_size)
{
	const char *at = text;
	struct cert_block b;
	unsigned n = 0;
	int rc = 0;

	while (rc == 0 && cert_next_block(&at, text + len, &b)) {
		if (b.label_len && !cert_block_is(&b, "X509 CRL"))
			continue;
		n++;
		if (!b.end) {
			snprintf(why, why_size, "list %u is cut off, its END line is missing", n);
			return -EINVAL;
		}
		const gnutls_datum_t pem = cert_datum(b.start, (size_t)(b.end - b.start));
		gnutls_datum_t der;
		if (gnutls_pem_base64_decode2("X509 CRL", &pem, &der)) {
			snprintf(why, why_size, "list %u is not base64", n);
			return -EINVAL;
		}
		rc = add(set, trial, der.data, der.size, issuers, why, why_size);
		gnutls_free(der.data);
	}
	if (n == 0) {
		snprintf(why, why_size, "holds no revocation list");
		return -EINVAL;
	}
	return rc;
}

/* The CAs, then the certificates of the file; both own what they hold. */
static int join(const struct cert_list *cas, const struct cert_list *own, struct cert_list *out)
{
	size_t n = (cas ? cas->n : 0u) + own->n;

	out->certs = calloc(n + 1, sizeof(gnutls_x509_crt_t));
	if (!out->certs)
		return -ENOMEM;
	for (unsigned i = 0; i < own->n; i++)
		out->certs[out->n++] = own->certs[i];
	for (unsigned i = 0; cas && i < cas->n; i++)
		out->certs[out->n++] = cas->certs[i];
	return 0;
}

static int add_all(struct tls_crls *set, const struct tls_trial *trial, const char *text, size_t len,
		   const struct cert_list *cas, char *why, size_t why_size)
{
	struct cert_list own = {0}, issuers = {0};
	int rc = 0;

	if (memmem(text, len, "-----BEGIN CERTIFICATE-----", 27))
		rc = cert_list_load(text, len, MAX_LISTS, &own, why, why_size);
	if (rc == 0)
		rc = join(cas, &own, &issuers);
	if (rc == 0)
		rc = cert_is_der(text, len)
			     ? add(set, trial, (const uint8_t *)text, len, &issuers, why, why_size)
			     : add_pem(set, trial, text, len, &issuers, why, why_size);
	free(issuers.certs);
	cert_list_free(&own);
	return rc;
}

int tls_crls_keep(struct tls_crls *set, const struct tls_crls *from)
{
	for (size_t i = 0; from && i < from->n; i++) {
		struct shared *s = from->lists[i];
		atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
		if (put(set, s)) {
			shared_unref(s);
			return -ENOMEM;
		}
	}
	return 0;
}

int tls_crls_add(struct tls_crls *set, const struct tls_trial *trial, const char *text, size_t len,
		 const struct cert_list *cas, char *why, size_t why_size)
{
	struct tls_crls *part = tls_crls_new(set->hard);
	int rc = part ? add_all(part, trial, text, len, cas, why, why_size) : -ENOMEM;

	if (rc == 0)
		rc = tls_crls_keep(set, part);
	tls_crls_unref(part);
	return rc;
}

/* ---- asking ---- */

bool tls_crls_hard(const struct tls_crls *set)
{
	return set && set->hard;
}

size_t tls_crls_count(const struct tls_crls *set)
{
	return set ? set->n : 0;
}

const struct tls_crl *tls_crls_at(const struct tls_crls *set, size_t i)
{
	return &set->lists[i]->crl;
}

bool tls_crls_same(const struct tls_crls *a, const struct tls_crls *b)
{
	size_t n = tls_crls_count(a);

	if (n != tls_crls_count(b))
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct tls_crl *x = tls_crls_at(a, i), *y = tls_crls_at(b, i);
		if (memcmp(x->digest, y->digest, sizeof x->digest) != 0)
			return false;
	}
	return true;
}

const struct tls_crl *tls_crls_of(const struct tls_crls *set, gnutls_x509_crt_t ca)
{
	size_t i = set ? place_of(set, ca) : 0;

	return i < tls_crls_count(set) ? tls_crls_at(set, i) : NULL;
}

const struct tls_crl *tls_crls_first_end(const struct tls_crls *set)
{
	const struct tls_crl *first = NULL;

	for (size_t i = 0; i < tls_crls_count(set); i++) {
		const struct tls_crl *c = tls_crls_at(set, i);
		if (!first || c->next_update < first->next_update)
			first = c;
	}
	return first;
}

const struct tls_crl_entry *tls_crl_find(const struct tls_crl *c, gnutls_x509_crt_t crt)
{
	uint8_t bytes[MAX_SERIAL], *serial = bytes;
	size_t len = sizeof bytes, low = 0, high = c->n;

	if (gnutls_x509_crt_get_serial(crt, bytes, &len))
		return NULL; /* longer than what a list may have */
	for (; len && !*serial; len--)
		serial++;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tls_crl_entry *e = &c->entries[middle];
		int order = e->len != len ? (e->len < len ? -1 : 1) : memcmp(c->serials + e->at, serial, len);
		if (order == 0)
			return e;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const char *tls_crl_reason(unsigned reason)
{
	static const char *const names[] = {
		"unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
		"superseded",    "cessationOfOperation", "certificateHold", "unspecified",
		"removeFromCRL", "privilegeWithdrawn",   "aACompromise",
	};

	return names[reason < sizeof names / sizeof *names ? reason : 0];
}
