/* SPDX-License-Identifier: MIT */
/* online - see online.h. */
#include "online.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <gnutls/crypto.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/step-ca.h>
#include "jose.h"
#include "message.h"
#include "pki/revocation/index.h"

enum { PAGES_MAX = 20, TOKEN_LIFE = 300, HTTP_NOT_FOUND = 404 };

static int explain(int rc, const struct step_ca_result *r, struct fault *f)
{
	return rc == 0 ? 0 : rc == -ENOMEM ? rc : refuse(f, "%s", r->why);
}

/* ---- whom we talk to ---- */

static int trust_fingerprint(struct online *o, const char *fingerprint, struct fault *f)
{
	struct step_ca_result result;
	char *pem = NULL;
	int rc = explain(step_ca_root(o->client, fingerprint, &pem, &result), &result, f);

	if (rc == 0)
		rc = certificates_read(o->url, pem, strlen(pem), &o->roots, f);
	free(pem);
	if (rc == 0 && (o->roots.n != 1 || !certificate_is_ca(o->roots.v[0])))
		rc = refuse(f, "%s: what has this fingerprint is no root", o->url);
	return rc;
}

int online_open(const struct options *options, const char *url, const char *fingerprint, struct online *out,
		struct fault *f)
{
	char why[512];
	size_t len = strlen(url);

	*out = (struct online){.files = {options->roots}};
	while (len && url[len - 1] == '/')
		len--;
	if (len >= sizeof out->url)
		return refuse(f, "the URL %.100s... is too long", url);
	memcpy(out->url, url, len);
	if (options->fingerprint)
		fingerprint = options->fingerprint;
	else if (getenv("STEP_CA_FINGERPRINT") && *getenv("STEP_CA_FINGERPRINT"))
		fingerprint = getenv("STEP_CA_FINGERPRINT");
	bool named = fingerprint && *fingerprint;
	if (!options->roots && !named)
		return refuse(f,
			      "%s: whom is to be trusted? Give the root by --roots, or its SHA-256 by "
			      "--fingerprint or STEP_CA_FINGERPRINT",
			      out->url);
	int rc = options->roots ? certificates_load(options->roots, &out->roots, f) : 0;
	const struct step_ca_options how = {
		.url = out->url, .ca_files = out->files, .url_option = "--ca", .ca_option = "--roots"};
	if (rc == 0) {
		rc = step_ca_new(&how, &out->client, why, sizeof why);
		if (rc == -EINVAL)
			rc = refuse(f, "%s", why);
	}
	if (rc == 0 && !options->roots)
		rc = trust_fingerprint(out, fingerprint, f);
	if (rc)
		online_done(out);
	return rc;
}

void online_done(struct online *o)
{
	step_ca_free(o->client);
	certificates_done(&o->roots);
	jose_key_done(&o->key);
	*o = (struct online){0};
}

int online_health(struct online *o, struct fault *f)
{
	struct step_ca_result result;

	return explain(step_ca_health(o->client, &result), &result, f);
}

static gnutls_x509_crt_t root_of(const struct online *o, const struct certificates *chain)
{
	for (unsigned i = 0; i < o->roots.n; i++)
		if (certificate_signed_by(chain->v[chain->n - 1], o->roots.v[i]))
			return o->roots.v[i];
	return o->roots.v[0];
}

/* ---- certificates ---- */

/* What came back leads to *root, one of the trusted, and is for the key. */
static int take_chain(const struct online *o, const char *pem, const struct key *key,
		      struct certificates *chain, gnutls_x509_crt_t *root, struct fault *f)
{
	int rc = certificates_read(o->url, pem, strlen(pem), chain, f);
	if (rc == 0 && chain->n > CHAIN_MAX)
		rc = refuse(f, "%s: there are more than %d certificates in its answer", o->url, CHAIN_MAX);
	if (rc == 0) {
		*root = root_of(o, chain);
		rc = message_chain_check(chain, *root, key, f);
	}
	if (rc)
		certificates_done(chain);
	return rc;
}

int online_sign(struct online *o, const char *csr, const char *token, int64_t life_s, const struct key *key,
		struct certificates *chain, gnutls_x509_crt_t *root, struct fault *f)
{
	struct step_ca_result result;
	char life[32], *pem = NULL;

	*chain = (struct certificates){0};
	snprintf(life, sizeof life, "%llds", (long long)life_s);
	int rc =
		explain(step_ca_sign(o->client, csr, token, life_s ? life : NULL, &pem, &result), &result, f);
	if (rc == 0)
		rc = take_chain(o, pem, key, chain, root, f);
	free(pem);
	return rc;
}

int online_renew(struct online *o, const struct certificates *chain, const struct key *key,
		 struct certificates *out, gnutls_x509_crt_t *root, struct fault *f)
{
	const struct passphrase none = {.file = NULL};
	struct step_ca_result result;
	struct ss_strbuf mine = {0}, secret = {.secret = true};
	char *pem = NULL;
	int rc = 0;

	*out = (struct certificates){0};
	for (unsigned i = 0; rc == 0 && i < chain->n; i++)
		rc = certificate_pem(chain->v[i], &mine);
	if (rc == 0)
		rc = key_pem(key, &none, &secret, f);
	if (rc == 0)
		rc = explain(step_ca_renew(o->client, ss_strbuf_cstr(&mine), ss_strbuf_cstr(&secret), &pem,
					   &result),
			     &result, f);
	if (rc == 0)
		rc = take_chain(o, pem, key, out, root, f);
	free(pem);
	ss_strbuf_done(&mine);
	ss_strbuf_done(&secret);
	return rc;
}

int online_join(struct online *o, const char *tenant, const char *csr, json_t **reply, struct fault *f)
{
	struct step_ca_result result;
	char path[128];
	json_t *request = json_pack("{s:s}", "sub_ca_csr", csr);

	snprintf(path, sizeof path, "/admin/tenants/%s/join-request", tenant);
	*reply = NULL;
	int rc = step_ca_post(o->client, path, request, reply, &result);
	bool waits = rc == 0 && result.status == 202;
	if (rc && (result.fail == STEP_CA_UNREACHABLE || result.fail == STEP_CA_BUSY))
		waits = true;
	rc = waits && rc ? (refuse(f, "%s", result.why), -EAGAIN) : waits ? -EAGAIN : explain(rc, &result, f);
	if (rc) {
		json_decref(*reply);
		*reply = NULL;
	}
	return rc;
}

/* ---- tokens ---- */

static int find_key(struct online *o, const char *name, char **key, struct fault *f)
{
	struct step_ca_result result;
	struct message_provisioner found = {0};
	char path[256] = "/provisioners?limit=100";
	int rc = 0;

	for (int page = 0; rc == 0 && page < PAGES_MAX; page++) {
		json_t *list = NULL;
		rc = explain(step_ca_get(o->client, path, &list, &result), &result, f);
		char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
		json_decref(list);
		if (rc == 0)
			rc = text ? message_provisioner_read(text, strlen(text), name, &found, f) : -ENOMEM;
		free(text);
		if (rc || found.key || !*found.cursor)
			break;
		snprintf(path, sizeof path, "/provisioners?limit=100&cursor=%s", found.cursor);
	}
	if (rc == 0 && !found.key)
		rc = refuse(f, "%s: there is no JWK provisioner \"%s\": name another by --provisioner",
			    o->url, name);
	*key = found.key;
	return rc;
}

static int open_key(struct online *o, const struct options *options, struct jose_key *out, struct fault *f)
{
	struct ss_strbuf password = {.secret = true};
	struct fault inner = {""};
	char *jwe = NULL, what[256];
	const char *where = "";

	*out = (struct jose_key){0};
	int rc = find_key(o, options->provisioner, &jwe, f);
	snprintf(what, sizeof what, "the key of the provisioner \"%.100s\"", options->provisioner);
	if (rc == 0)
		rc = passphrase_read(&options->ca_passphrase, what, &password, &where, f);
	if (rc == 0) {
		rc = jose_key_open(jwe, strlen(jwe), &password, JOSE_ROUNDS_MAX, out, &inner);
		if (rc == -EINVAL)
			rc = refuse(f, "%s, provisioner \"%s\" (password %s): %s", o->url,
				    options->provisioner, where, inner.text);
	}
	free(jwe);
	ss_strbuf_done(&password);
	return rc;
}

/* As step-ca's templates call them; a tenant's CA is an intermediate one there. */
static const char *profile_claim(const struct profile *p)
{
	return p == &profile_sub_ca ? profile_intermediate.name : p->name;
}

static json_t *claims_of(const struct online *o, const char *provisioner, const struct online_claims *c)
{
	unsigned char random[16];
	char id[33], audience[600], root[65];
	json_int_t now = (json_int_t)time(NULL), life = c->life_s ? c->life_s : TOKEN_LIFE;

	if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random))
		return NULL;
	for (size_t i = 0; i < sizeof random; i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	snprintf(audience, sizeof audience, "%s%s", o->url, c->path);
	json_t *claims = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s}", "iss", provisioner, "aud",
				   audience, "sub", c->subject, "jti", id, "iat", now, "nbf", now, "exp",
				   now + life, "sha", certificate_fingerprint(o->roots.v[0], root)),
	       *names = json_array();
	for (size_t i = 0; c->names && i < c->names->n; i++)
		json_array_append_new(names, json_string(c->names->v[i].text));
	if (!json_array_size(names))
		json_array_append_new(names, json_string(c->subject));
	json_object_set_new(claims, "sans", names);
	if (c->profile)
		json_object_set_new(claims, "profile", json_string(profile_claim(c->profile)));
	return claims;
}

int online_token(struct online *o, const struct options *options, const struct online_claims *c,
		 struct ss_strbuf *token, struct fault *f)
{
	int rc = o->key.private ? 0 : open_key(o, options, &o->key, f);
	json_t *claims = rc ? NULL : claims_of(o, options->provisioner, c);

	if (rc == 0)
		rc = claims ? jose_token_sign(&o->key, claims, token, f) : -ENOMEM;
	json_decref(claims);
	return rc;
}

/* ---- revocation ---- */

/* As step-ca has it; 64 bytes. */
static const char *decimal_serial(gnutls_x509_crt_t crt, char *buf)
{
	unsigned char serial[24];
	char digits[64];
	size_t len = sizeof serial, n = 0;

	*buf = '\0';
	if (gnutls_x509_crt_get_serial(crt, serial, &len))
		return buf;
	/* by tens, the last digit first */
	for (bool more = true; more && n < sizeof digits - 1;) {
		unsigned rest = 0;
		more = false;
		for (size_t i = 0; i < len; i++) {
			rest = rest << 8 | serial[i];
			serial[i] = (unsigned char)(rest / 10);
			rest %= 10;
			more = more || serial[i];
		}
		digits[n++] = (char)('0' + rest);
	}
	for (size_t i = 0; i < n; i++)
		buf[i] = digits[n - 1 - i];
	buf[n] = '\0';
	return buf;
}

static int reason_code(const char *reason)
{
	for (size_t i = 0; reason && index_reasons[i].name; i++)
		if (strcmp(index_reasons[i].name, reason) == 0)
			return (int)index_reasons[i].code;
	return 0;
}

/* step-ca says "ok" to any serial number: whether it has signed this one is seen by its own certificate. */
static int is_signer(struct online *o, gnutls_x509_crt_t crt, struct fault *f)
{
	struct step_ca_result result;
	struct certificates peer = {0};
	char *pem = NULL, name[256];
	int rc = explain(step_ca_peer(o->client, &pem, &result), &result, f);

	if (rc == 0)
		rc = certificates_read(o->url, pem, strlen(pem), &peer, f);
	free(pem);
	if (rc == 0 && (peer.n < 2 || !certificate_signed_by(crt, peer.v[1])))
		rc = refuse(f, "%s: this CA has not signed \"%s\": revoke it where it was signed", o->url,
			    certificate_subject(crt, name));
	certificates_done(&peer);
	return rc;
}

int online_revoke(struct online *o, const struct options *options, gnutls_x509_crt_t crt, const char *chain,
		  const char *key, struct fault *f)
{
	struct step_ca_result result;
	struct ss_strbuf token = {.secret = true};
	char serial[64];
	const struct online_claims claims = {.path = "/1.0/revoke", .subject = decimal_serial(crt, serial)};
	int rc = is_signer(o, crt, f);

	if (rc == 0 && !key)
		rc = online_token(o, options, &claims, &token, f);
	if (rc == 0) {
		const struct step_ca_revocation what = {.serial = serial,
							.reason = options->reason,
							.reason_code = reason_code(options->reason),
							.token = key ? NULL : ss_strbuf_cstr(&token),
							.chain_pem = key ? chain : NULL,
							.key_pem = key};
		rc = explain(step_ca_revoke(o->client, &what, &result), &result, f);
	}
	ss_strbuf_done(&token);
	return rc;
}
