/* SPDX-License-Identifier: MIT */
/*
 * certificate - the chain of a valid order, checked, and the one chosen if the CA has several (RFC 8555
 * section 7.4.2).  On the client's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <gnutls/x509.h>
#include <semstreams/plugin.h>
#include "client.h"

#define PEM_CHAIN "application/pem-certificate-chain"

static void alternate_get(struct acme *);

/* Is one of its certificates issued by this CN? */
static bool chain_has_issuer(const struct chain_info *chain, const char *wanted)
{
	gnutls_datum_t pem = {.data = (unsigned char *)chain->pem, .size = (unsigned int)strlen(chain->pem)};
	gnutls_x509_crt_t *list = NULL;
	unsigned int n = 0;
	bool found = false;
	if (gnutls_x509_crt_list_import2(&list, &n, &pem, GNUTLS_X509_FMT_PEM, 0) < 0)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		char cn[256];
		size_t size = sizeof cn;
		if (gnutls_x509_crt_get_issuer_dn_by_oid(list[i], GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn,
							 &size) >= 0 &&
		    size == strlen(wanted) && !memcmp(cn, wanted, size))
			found = true;
		gnutls_x509_crt_deinit(list[i]);
	}
	gnutls_free(list);
	return found;
}

static bool chain_wanted(const struct acme *a, const struct chain_info *chain)
{
	return !a->o.preferred_chain || chain_has_issuer(chain, a->o.preferred_chain);
}

static bool content_is_chain(const struct http_reply *reply)
{
	const char *type = reply->content_type;
	size_t n = sizeof PEM_CHAIN - 1;
	return !type || (!strncasecmp(type, PEM_CHAIN, n) && (!type[n] || type[n] == ';' || type[n] == ' '));
}

/* ---- an old order may bring what is in use already, or soon over */

static bool chain_stale(struct acme *a, const struct chain_info *chain)
{
	struct store_pair pair;
	char why[160];
	int64_t now = (int64_t)time(NULL), life = chain->not_after - chain->not_before;
	if (now > chain->not_before && now - chain->not_before > life / 3)
		return true;
	if (store_pair_load(a->o.store, &pair, why, sizeof why) < 0)
		return false;
	struct chain_info stored = {0};
	bool same = chain_read(pair.chain_pem, strlen(pair.chain_pem), NULL, NULL, 0, &stored, why,
			       sizeof why) >= 0 &&
		    !strcmp(stored.serial, chain->serial) && !strcmp(stored.issuer, chain->issuer);
	chain_done(&stored);
	store_pair_done(&pair);
	return same;
}

static void certificate_end(struct acme *a)
{
	struct order *o = a->order;
	struct acme_result result = {.chain = &o->chain, .key_pem = o->key_text};
	int64_t early = o->chain.not_before - (int64_t)time(NULL);
	if (o->resumed && chain_stale(a, &o->chain)) {
		order_useless(a, ACME_BROKEN, false, "its certificate has been in use already");
		return;
	}
	if (early > 0)
		acme_log(a, SS_LOG_WARN,
			 "Certificate is not yet valid by the clock of this machine, is the clock slow? "
			 "seconds=%lld",
			 (long long)early);
	errand_end(a, &result);
}

/* ---- other chains */

static void on_alternate(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct order *o = a->order;
	struct chain_info chain = {0};
	char why[200] = "";
	bool good = !reply->error && !problem && content_is_chain(reply) &&
		    chain_read(reply->body, reply->len, o->key, a->o.names, a->o.n_names, &chain, why,
			       sizeof why) >= 0;
	if (good && chain_wanted(a, &chain)) {
		chain_done(&o->chain);
		o->chain = chain;
		certificate_end(a);
		return;
	}
	if (good)
		chain_done(&chain);
	alternate_get(a);
}

static void alternate_get(struct acme *a)
{
	struct order *o = a->order;
	if (o->next_alternate < o->n_alternates) {
		session_ask(a, &(struct ask){.what = "certificate",
					     .url = o->alternates[o->next_alternate++],
					     .payload = "",
					     .accept = PEM_CHAIN,
					     .may_break = true,
					     .repeat = 1,
					     .then = on_alternate});
		return;
	}
	char root[256];
	message_text(o->chain.root, root, sizeof root);
	acme_log(a, SS_LOG_WARN,
		 "ACME server has no chain with the preferred issuer, using its own choice preferred=\"%s\" "
		 "root=\"%s\"",
		 a->o.preferred_chain, root);
	certificate_end(a);
}

static void alternates_keep(struct order *o, const struct http_reply *reply)
{
	char url[MESSAGE_URL_MAX + 1];
	for (size_t i = 0; reply->links[i] && o->n_alternates < ALTERNATES; i++)
		if (message_link(reply->links[i], "alternate", url, sizeof url) &&
		    (o->alternates[o->n_alternates] = strdup(url)))
			o->n_alternates++;
}

/* ---- the CA's choice */

static void on_certificate(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct order *o = a->order;
	char why[300] = "out of memory", text[360], type[80];
	if (problem && problem->status < 500) {
		problem_text(problem, text, sizeof text);
		order_useless(a, ACME_REFUSED, problem_permanent(problem), text);
		return;
	}
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	if (!content_is_chain(reply)) {
		message_text(reply->content_type, type, sizeof type);
		snprintf(text, sizeof text, "what the CA sends as certificate is of type %s", type);
		order_useless(a, ACME_BROKEN, false, text);
		return;
	}
	int err = chain_read(reply->body, reply->len, o->key, a->o.names, a->o.n_names, &o->chain, why,
			     sizeof why);
	if (err < 0) {
		snprintf(text, sizeof text, "what the CA sends as certificate is not what was ordered: %s",
			 why);
		order_useless(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, text);
		return;
	}
	o->has_chain = true;
	alternates_keep(o, reply);
	if (chain_wanted(a, &o->chain))
		certificate_end(a);
	else
		alternate_get(a);
}

void certificate_get(struct acme *a)
{
	order_quiet(a);
	a->order->validating = false;
	errand_doing(a, "downloading the certificate");
	session_ask(a, &(struct ask){.what = "certificate",
				     .url = a->order->certificate,
				     .payload = "",
				     .accept = PEM_CHAIN,
				     .repeat = 3,
				     .then = on_certificate});
}
