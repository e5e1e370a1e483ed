/* SPDX-License-Identifier: MIT */
/*
 * errand - what one may ask of the client: issue, revoke, roll over, deactivate, renewal information.  On the
 * client's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include "client.h"
#include "plugins/acme_tls/jws.h"

#define SHORT_NS (60 * SECOND) /* what needs no validation */

int acme_issue(struct acme *a, const char *old_ari_id, const char *old_key_pem, acme_done *done, void *arg)
{
	const struct errand errand = {
		.failure = "failed to obtain certificate from ACME server",
		.by_account = true,
		.begin = order_begin,
		.drop = order_drop,
		.done = done,
		.arg = arg,
		.deadline = a->o.order_ns,
	};
	if (a->e.running)
		return -EBUSY;
	a->old_ari_id = old_ari_id && *old_ari_id ? strdup(old_ari_id) : NULL;
	a->old_key_text = old_key_pem ? strdup(old_key_pem) : NULL;
	return errand_start(a, &errand);
}

/* ---- revocation */

static void on_revoked(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct acme_result result = {0};
	(void)reply;
	if (problem && !problem_is(problem, "alreadyRevoked"))
		errand_refused(a, problem);
	else
		errand_end(a, &result);
}

static void revoke_begin(struct acme *a)
{
	if (!a->s.directory.revoke_cert) {
		errand_fail(a, ACME_REFUSED, true, "the CA does not offer to revoke certificates");
		return;
	}
	json_t *json = json_pack("{sssi}", "certificate", a->leaf, "reason", a->reason);
	char *payload = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!payload) {
		errand_fail(a, ACME_LOCAL, false, "out of memory");
		return;
	}
	errand_doing(a, "revoking the certificate");
	session_ask(a, &(struct ask){.what = "revokeCert",
				     .url = a->s.directory.revoke_cert,
				     .payload = payload,
				     .repeat = 2,
				     .then = on_revoked});
	free(payload);
}

/* The first certificate of a chain as the CA wants it. */
static int leaf_of(const char *chain_pem, char **out)
{
	gnutls_datum_t pem = {.data = (unsigned char *)chain_pem, .size = (unsigned int)strlen(chain_pem)},
		       der;
	if (gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der) < 0)
		return -EINVAL;
	*out = base64url(der.data, der.size);
	gnutls_free(der.data);
	return *out ? 0 : -ENOMEM;
}

int acme_revoke(struct acme *a, const char *chain_pem, int reason, acme_done *done, void *arg)
{
	const struct errand errand = {
		.failure = "revocation failed",
		.by_account = true,
		.begin = revoke_begin,
		.done = done,
		.arg = arg,
		.deadline = SHORT_NS,
	};
	if (a->e.running)
		return -EBUSY;
	a->reason = reason;
	int err = leaf_of(chain_pem, &a->leaf);
	return err < 0 ? err : errand_start(a, &errand);
}

/* ---- the account */

int acme_rollover(struct acme *a, acme_done *done, void *arg)
{
	const struct errand errand = {
		.failure = "account key rollover failed",
		.by_account = true,
		.begin = account_rollover,
		.done = done,
		.arg = arg,
		.deadline = SHORT_NS,
	};
	return errand_start(a, &errand);
}

int acme_deactivate(struct acme *a, acme_done *done, void *arg)
{
	const struct errand errand = {
		.failure = "account deactivation failed",
		.by_account = true,
		.begin = account_deactivate,
		.done = done,
		.arg = arg,
		.deadline = SHORT_NS,
	};
	return errand_start(a, &errand);
}

/* ---- renewal information */

static void on_renewal_info(struct acme *a, const struct http_reply *reply, const struct problem *problem)
{
	struct message_renewal m;
	struct acme_result result = {.retry_after = a->s.retry_after};
	char why[200] = "out of memory";
	if (problem) {
		errand_refused(a, problem);
		return;
	}
	int err = message_renewal(reply->body, reply->len, &m, why, sizeof why);
	if (err < 0) {
		errand_fail(a, err == -ENOMEM ? ACME_LOCAL : ACME_BROKEN, false, "%s", why);
		return;
	}
	result.ari_start = m.start;
	result.ari_end = m.end;
	result.ari_url = m.explanation;
	json_t *json = m.json;
	errand_end(a, &result);
	json_decref(json);
}

static void ari_begin(struct acme *a)
{
	char url[MESSAGE_URL_MAX + CHAIN_ARI_ID + 2];
	const char *base = a->s.directory.renewal_info;
	if (!base) {
		errand_fail(a, ACME_REFUSED, true, "the CA does not offer renewal information");
		return;
	}
	size_t len = strlen(base);
	snprintf(url, sizeof url, "%s%s%s", base, len && base[len - 1] == '/' ? "" : "/", a->certificate_id);
	errand_doing(a, "asking for renewal information");
	session_ask(a,
		    &(struct ask){.what = "renewalInfo", .url = url, .repeat = 2, .then = on_renewal_info});
}

int acme_ari(struct acme *a, const char *ari_id, acme_done *done, void *arg)
{
	const struct errand errand = {
		.failure = "renewal information failed",
		.begin = ari_begin,
		.done = done,
		.arg = arg,
		.deadline = SHORT_NS,
	};
	if (a->e.running)
		return -EBUSY;
	if (!*ari_id || strlen(ari_id) >= CHAIN_ARI_ID)
		return -EINVAL;
	a->certificate_id = strdup(ari_id);
	return a->certificate_id ? errand_start(a, &errand) : -ENOMEM;
}
