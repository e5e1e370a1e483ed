/* SPDX-License-Identifier: MIT */
/* tls_generation - see tls_generation.h. */
#include "core/tls/tls_generation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/tls/tls_crl.h"
#include "core/tls/tls_trial.h"
#include "core/tls/tls_trust.h"

#define MAX_TEXT (4u << 20) /* bytes of a chain or key that is read */

struct tls_generation *tls_generation_new(const char *source)
{
	struct tls_generation *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	atomic_init(&g->references, 1);
	snprintf(g->source, sizeof g->source, "%s", source);
	return g;
}

int tls_generation_take(struct tls_generation *g, const struct cert_list *chain, gnutls_x509_privkey_t key)
{
	char who[CERT_SHOWN];

	g->chain = cert_list_pem(chain, 0);
	g->key = key ? cert_key_pem(key) : NULL;
	g->subject = strdup(cert_show_subject(who, chain->certs[0]));
	g->material.not_before = cert_not_before(chain->certs[0]);
	g->material.not_after = cert_not_after(chain->certs[0]);
	return g->chain && (g->key || !key) && g->subject ? 0 : -ENOMEM;
}

static void free_names(struct tls_generation *g)
{
	for (size_t i = 0; i < g->n_names; i++)
		free(g->names[i]);
	free(g->names);
	g->names = NULL;
	g->n_names = 0;
}

int tls_generation_allow(struct tls_generation *g, const char *const *names, size_t n)
{
	free_names(g);
	g->names = calloc(n + 1, sizeof *g->names);
	if (!g->names)
		return -ENOMEM;
	for (; g->n_names < n; g->n_names++) {
		g->names[g->n_names] = strdup(names[g->n_names]);
		if (!g->names[g->n_names])
			return -ENOMEM;
	}
	return 0;
}

bool tls_generation_same_names(const struct tls_generation *a, const struct tls_generation *b)
{
	bool same = a->n_names == b->n_names;

	for (size_t i = 0; same && i < a->n_names; i++)
		same = strcmp(a->names[i], b->names[i]) == 0;
	return same;
}

int tls_generation_seal(struct tls_generation *g)
{
	g->material.struct_size = sizeof g->material;
	g->material.chain_pem = g->chain;
	g->material.key_pem = g->key;
	g->material.signer = g->signer;
	g->material.ca_pem = g->ca;
	g->material.source = g->chain ? g->source : NULL;
	g->trust = tls_trust_new(g->ca, (g->material.flags & SS_TLS_SYSTEM_CA) != 0, g->crls);
	return g->trust ? 0 : -ENOMEM;
}

int tls_generation_revoke(struct tls_generation *g, struct tls_crls *crls)
{
	struct tls_crls *before = g->crls;

	g->crls = tls_crls_ref(crls);
	tls_crls_unref(before);
	tls_trust_free(g->trust);
	g->trust = NULL;
	return tls_generation_seal(g);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool tls_generation_same_pair(const struct tls_generation *a, const struct tls_generation *b)
{
	return same_text(a->chain, b->chain) && same_text(a->key, b->key) && a->signer == b->signer;
}

bool tls_generation_same_trust(const struct tls_generation *a, const struct tls_generation *b)
{
	return same_text(a->ca, b->ca) && tls_crls_same(a->crls, b->crls);
}

static int check(const struct cert_list *chain, gnutls_x509_privkey_t key, int64_t now, char *why,
		 size_t why_size)
{
	char who[CERT_SHOWN], when[CERT_SHOWN];
	int64_t end = cert_not_after(chain->certs[0]);

	if (key && !cert_key_matches(chain->certs[0], key)) {
		snprintf(why, why_size, "the private key does not match the first certificate");
		return -EINVAL;
	}
	if (end < now) {
		snprintf(why, why_size, "certificate %s expired %s", cert_show_subject(who, chain->certs[0]),
			 cert_show_time(when, end));
		return -EINVAL;
	}
	return 0;
}

/* Hold the signer, too; NULL: none. */
static void hold(struct tls_generation *g, const struct ss_tls_signer *signer)
{
	if (signer)
		signer->ref(signer->self);
	g->signer = signer;
}

static bool fits(const char *text)
{
	return !text || strnlen(text, MAX_TEXT + 1) <= MAX_TEXT;
}

/* The texts of a pair, for the caller to free.  0, -EINVAL with why, -ENOMEM. */
static int load_pair(const struct tls_pair *pair, struct cert_list *chain, gnutls_x509_privkey_t *key,
		     char *why, size_t why_size)
{
	if (!fits(pair->chain_pem) || !fits(pair->key_pem)) {
		snprintf(why, why_size, "certificate or key is larger than %u MiB", MAX_TEXT >> 20);
		return -EINVAL;
	}
	const struct tls_trial *trial = tls_trial_open(NULL, why, why_size);
	int rc = trial ? cert_list_load(pair->chain_pem, strlen(pair->chain_pem), CERT_MAX_CHAIN, chain, why,
					why_size)
		       : -EINVAL;
	if (rc == 0 && pair->key_pem)
		rc = trial->key(pair->key_pem, strlen(pair->key_pem), key, why, why_size);
	return rc;
}

int tls_generation_read(const struct tls_pair *pair, int64_t now, struct tls_generation **out, char *why,
			size_t why_size)
{
	struct cert_list chain = {0};
	gnutls_x509_privkey_t key = NULL;
	struct tls_generation *g = NULL;

	int rc = load_pair(pair, &chain, &key, why, why_size);
	if (rc == 0)
		rc = check(&chain, key, now, why, why_size);
	if (rc == 0) {
		g = tls_generation_new(pair->source);
		rc = g ? tls_generation_take(g, &chain, key) : -ENOMEM;
	}
	if (rc == 0) {
		hold(g, pair->signer);
		rc = tls_generation_seal(g);
	}
	cert_list_free(&chain);
	if (key)
		gnutls_x509_privkey_deinit(key);
	if (rc) {
		if (rc == -ENOMEM)
			snprintf(why, why_size, "out of memory");
		tls_generation_unref(g);
		return rc;
	}
	*out = g;
	return 0;
}

/* *to = a copy; false: out of memory. */
static bool copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

struct tls_generation *tls_generation_join(const struct tls_generation *trust,
					   const struct tls_generation *certificate)
{
	struct tls_generation *g = tls_generation_new(certificate ? certificate->source : "");

	if (!g)
		return NULL;
	g->material = trust->material;
	g->crls = tls_crls_ref(trust->crls);
	g->material.not_before = certificate ? certificate->material.not_before : 0;
	g->material.not_after = certificate ? certificate->material.not_after : 0;
	bool whole = copy(&g->ca, trust->ca) &&
		     tls_generation_allow(g, (const char *const *)trust->names, trust->n_names) == 0;
	if (certificate)
		hold(g, certificate->signer);
	if (certificate)
		whole = whole && copy(&g->chain, certificate->chain) && copy(&g->key, certificate->key) &&
			copy(&g->subject, certificate->subject);
	if (!whole || tls_generation_seal(g)) {
		tls_generation_unref(g);
		return NULL;
	}
	return g;
}

int64_t tls_generation_overdue(const struct tls_generation *g)
{
	return g->material.not_after - (g->material.not_after - g->material.not_before) / 10;
}

bool tls_generation_judge(const struct tls_generation *g, const char *mode, const char *lost, int64_t now,
			  char *text, size_t size)
{
	char when[CERT_SHOWN];

	text[0] = '\0';
	if (g->material.flags & SS_TLS_PENDING)
		snprintf(text, size, "waiting for the first certificate from mode \"%s\"", mode);
	else if (lost && !g->chain)
		snprintf(text, size, "no certificate: %s", lost);
	else if (g->chain && g->material.not_after < now)
		snprintf(text, size, "certificate %s expired %s", g->subject,
			 cert_show_time(when, g->material.not_after));
	if (text[0])
		return true;
	if (lost)
		snprintf(text, size, "fallback certificate in use: %s", lost);
	else if (g->chain && tls_generation_overdue(g) <= now)
		snprintf(text, size, "certificate %s expires %s", g->subject,
			 cert_show_time(when, g->material.not_after));
	return false;
}

struct tls_generation *tls_generation_ref(struct tls_generation *g)
{
	atomic_fetch_add_explicit(&g->references, 1, memory_order_relaxed);
	return g;
}

void tls_generation_unref(struct tls_generation *g)
{
	if (!g || atomic_fetch_sub_explicit(&g->references, 1, memory_order_acq_rel) != 1)
		return;
	if (g->key)
		explicit_bzero(g->key, strlen(g->key));
	free(g->key);
	if (g->signer)
		g->signer->unref(g->signer->self);
	free(g->chain);
	free(g->ca);
	free(g->subject);
	free_names(g);
	tls_crls_unref(g->crls);
	tls_trust_free(g->trust);
	free(g);
}
