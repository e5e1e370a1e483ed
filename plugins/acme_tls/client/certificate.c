/* SPDX-License-Identifier: MIT */
/*
 * certificate - the chain of a valid order, checked, and the preferred one if the CA has several (RFC 8555
 * section 7.4.2).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <gnutls/x509.h>
#include <semstreams/plugin.h>
#include "client.h"

#define PEM_CHAIN "application/pem-certificate-chain"

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

static bool content_is_chain(const struct http_reply *reply)
{
	const char *type = reply->content_type;
	size_t n = sizeof PEM_CHAIN - 1;
	return !type || (!strncasecmp(type, PEM_CHAIN, n) && (!type[n] || type[n] == ';' || type[n] == ' '));
}

/* The order of an earlier attempt may bring a certificate that is in use already, or that expires soon. */
static bool chain_stale(struct client *c, const struct chain_info *chain)
{
	struct stored_cert stored;
	char why[160];
	int64_t now = (int64_t)time(NULL), life = chain->not_after - chain->not_before;
	if (now > chain->not_before && now - chain->not_before > life / 3)
		return true;
	if (stored_cert_load(c->o.store, NULL, 0, &stored, why, sizeof why) < 0)
		return false;
	bool same = !strcmp(stored.chain.serial, chain->serial) && !strcmp(stored.chain.issuer, chain->issuer);
	stored_cert_done(&stored);
	return same;
}

static int download(struct client *c, const char *url, bool may_break, struct reply *r)
{
	return session_ask(c,
			   &(struct ask){.what = "certificate",
					 .url = url,
					 .payload = "",
					 .accept = PEM_CHAIN,
					 .may_break = may_break,
					 .repeat = may_break ? 1 : 3},
			   r);
}

static void alternates_keep(struct order *o, const struct http_reply *reply)
{
	char url[MESSAGE_URL_MAX + 1];
	for (size_t i = 0; reply->links[i] && o->n_alternates < ALTERNATES; i++)
		if (message_link(reply->links[i], "alternate", url, sizeof url) &&
		    (o->alternates[o->n_alternates] = strdup(url)))
			o->n_alternates++;
}

/* Look for the preferred chain among the others; an alternate that fails is passed over. */
static int choose_alternate(struct client *c)
{
	struct order *o = c->order;
	struct chain_info chain;
	char why[200], root[256];
	struct reply r;
	for (size_t i = 0; i < o->n_alternates; i++) {
		int rc = download(c, o->alternates[i], true, &r);
		if (rc)
			return rc;
		if (r.http->error || r.problem || !content_is_chain(r.http) ||
		    chain_read(r.http->body, r.http->len, o->key, c->o.names, c->o.n_names, &chain, why,
			       sizeof why) < 0)
			continue;
		if (chain_has_issuer(&chain, c->o.preferred_chain)) {
			chain_done(&o->chain);
			o->chain = chain;
			return 0;
		}
		chain_done(&chain);
	}
	message_text(o->chain.root, root, sizeof root);
	client_log(
		c, SS_LOG_WARN,
		"ACME server has no chain with the preferred issuer, using its own choice preferred=\"%s\" "
		"root=\"%s\"",
		c->o.preferred_chain, root);
	return 0;
}

/* The CA's own choice. */
static int get_first(struct client *c)
{
	struct order *o = c->order;
	char why[360] = "out of memory";
	struct reply r;
	int rc = download(c, o->certificate, false, &r);
	if (rc)
		return rc;
	if (r.problem && r.problem->status >= 500)
		return client_refused(c, r.problem);
	if (r.problem) {
		problem_text(r.problem, why, sizeof why);
		return order_useless(c, ACME_REFUSED, problem_permanent(r.problem), "%s", why);
	}
	if (!content_is_chain(r.http)) {
		message_text(r.http->content_type, why, 80);
		return order_useless(c, ACME_BROKEN, false,
				     "the CA returned content of type %s, not a certificate chain", why);
	}
	rc = chain_read(r.http->body, r.http->len, o->key, c->o.names, c->o.n_names, &o->chain, why,
			sizeof why);
	if (rc < 0)
		return order_useless(c, rc == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false,
				     "the CA returned a certificate that was not ordered: %s", why);
	o->has_chain = true;
	alternates_keep(o, r.http);
	return 0;
}

int certificate_get(struct client *c)
{
	struct order *o = c->order;
	challenges_retract(c);
	o->validating = false;
	client_doing(c, "downloading the certificate");
	int rc = get_first(c);
	if (!rc && c->o.preferred_chain && !chain_has_issuer(&o->chain, c->o.preferred_chain))
		rc = choose_alternate(c);
	if (rc)
		return rc;
	if (o->resumed && chain_stale(c, &o->chain))
		return order_useless(c, ACME_BROKEN, false,
				     "its certificate is in use already or expires soon");
	int64_t early = o->chain.not_before - (int64_t)time(NULL);
	if (early > 0)
		client_log(c, SS_LOG_WARN,
			   "Certificate is not yet valid by the clock of this machine, is the clock slow? "
			   "seconds=%lld",
			   (long long)early);
	c->result = (struct client_result){.chain = &o->chain, .key_pem = o->key_text};
	return 0;
}
