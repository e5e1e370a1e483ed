/* SPDX-License-Identifier: MIT */
/* verify - see verify.h. */
#include "verify.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include "revocation/crl.h"

enum { DAY = 86400, RENEW_DAYS = 30 };

/* What is wrong with one certificate, and what is only worth a line. */
struct findings {
	const struct verify *v;
	json_t *wrong, *notes;
	bool json;
	unsigned n;
};

__attribute__((format(printf, 3, 4))) static void find(struct findings *to, bool wrong, const char *fmt, ...)
{
	char text[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	to->n += wrong;
	if (to->json)
		json_array_append_new(wrong ? to->wrong : to->notes, json_string(text));
	else
		printf("%s: %s: %s\n", to->v->shown, wrong ? "WRONG" : "note", text);
}

int verify_renew_days(int64_t *seconds, struct fault *f)
{
	const char *text = getenv("RENEW_DAYS");

	*seconds = 0;
	if (!text || !*text)
		return 0;
	if (ss_parse_integer(text, seconds) < 0 || *seconds < 1 || *seconds > 100000)
		return refuse(f,
			      "the environment variable RENEW_DAYS is a number of days from 1 on, not \"%s\"",
			      text);
	*seconds *= DAY;
	return 0;
}

bool verify_is_due(gnutls_x509_crt_t crt, int64_t renew_s)
{
	int64_t end = gnutls_x509_crt_get_expiration_time(crt),
		life = end - gnutls_x509_crt_get_activation_time(crt);

	if (renew_s == 0)
		renew_s = life / 3 < RENEW_DAYS * DAY ? life / 3 : RENEW_DAYS * DAY;
	return end - (int64_t)time(NULL) < renew_s;
}

/* ---- the chain ---- */

static void say_status(struct findings *to, unsigned status)
{
	gnutls_datum_t text = {0};

	if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
		find(to, true,
		     "no CA in %s has signed it, nor one below these: a foreign CA, or an intermediate is "
		     "missing",
		     to->v->roots);
	else if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
		find(to, true, "it is not for the name \"%s\"", to->v->name);
	else if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
		find(to, true, "it is not meant for a %s", to->v->client ? "client" : "server");
	else if (!(status & GNUTLS_CERT_EXPIRED) &&
		 gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0)
		find(to, true, "%s", text.data);
	gnutls_free(text.data);
}

static int collect(const struct verify *v, const struct certificates *own, gnutls_x509_crt_t chain[CHAIN_MAX],
		   struct certificates *more, struct fault *f)
{
	int n = 0;

	for (unsigned i = 0; i < own->n && n < CHAIN_MAX; i++)
		chain[n++] = own->v[i];
	for (size_t k = 0; k < v->n_intermediates; k++) {
		int rc = certificates_load(v->intermediates[k], &more[k], f);
		if (rc)
			return rc;
		for (unsigned i = 0; i < more[k].n && n < CHAIN_MAX; i++)
			chain[n++] = more[k].v[i];
	}
	return n;
}

static int check_chain(struct findings *to, const struct certificates *own, const struct certificates *roots,
		       struct fault *f)
{
	const struct verify *v = to->v;
	gnutls_x509_crt_t chain[CHAIN_MAX];
	struct certificates more[CHAIN_MAX] = {{0}};
	gnutls_x509_trust_list_t trust;
	unsigned status = 0, n_data = 0;
	gnutls_typed_vdata_st data[2];
	union {
		const char *in;
		unsigned char *out;
	} name = {.in = v->name},
	  purpose = {.in = v->client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER};

	if (gnutls_x509_trust_list_init(&trust, 0))
		return -ENOMEM;
	int n = collect(v, own, chain, more, f), rc = n < 0 ? n : 0;
	if (v->name)
		data[n_data++] = (gnutls_typed_vdata_st){.type = GNUTLS_DT_DNS_HOSTNAME, .data = name.out};
	if (!v->any_purpose)
		data[n_data++] =
			(gnutls_typed_vdata_st){.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = purpose.out};
	if (rc == 0 && gnutls_x509_trust_list_add_cas(trust, roots->v, roots->n, 0) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		rc = gnutls_x509_trust_list_verify_crt2(trust, chain, (unsigned)n, data, n_data, 0, &status,
							NULL);
		if (rc)
			find(to, true, "its chain cannot be followed: %s", gnutls_strerror(rc));
		else if (status)
			say_status(to, status);
		rc = 0;
	}
	gnutls_x509_trust_list_deinit(trust, 0);
	for (size_t i = 0; i < CHAIN_MAX; i++)
		certificates_done(&more[i]);
	return rc;
}

/* ---- revocation ---- */

static void check_list(struct findings *to, const char *path, X509_CRL *list, const gnutls_x509_crt_t *certs,
		       unsigned n)
{
	int64_t end = crl_end(list);
	char name[256], text[40];
	unsigned ca = 0;

	while (ca < n && !crl_is_of(list, certs[ca]))
		ca++;
	if (ca == n) {
		find(to, true, "%s: the revocation list is of none of its CAs, or has a wrong signature",
		     path);
		return;
	}
	if (end < (int64_t)time(NULL))
		find(to, true, "%s: the revocation list of \"%s\" expired at %s: get the new one", path,
		     certificate_subject(certs[ca], name), ss_format_time(end, text, sizeof text));
	for (unsigned i = 0; i < n; i++)
		if (crl_has(list, certs[i]) && certificate_signed_by(certs[i], certs[ca]))
			find(to, true, "%s\"%s\" is revoked, says %s", i ? "its CA " : "",
			     certificate_subject(certs[i], name), path);
}

static int check_file(struct findings *to, const char *path, const gnutls_x509_crt_t *certs, unsigned n,
		      struct fault *f)
{
	struct crls lists;
	int rc = crls_load(path, &lists, f);

	if (rc)
		return rc == -ENOENT
			       ? refuse(f, "%s: the revocation list cannot be read: %s", path, strerror(-rc))
			       : rc;
	for (size_t i = 0; i < lists.n; i++)
		check_list(to, path, lists.v[i], certs, n);
	crls_done(&lists);
	return 0;
}

/* Of the whole chain, which the roots are the end of. */
static int check_revocation(struct findings *to, const struct certificates *own,
			    const struct certificates *roots, struct fault *f)
{
	const struct verify *v = to->v;
	struct certificates more[CHAIN_MAX] = {{0}};
	gnutls_x509_crt_t *certs = v->n_crls ? calloc(CHAIN_MAX + roots->n, sizeof(gnutls_x509_crt_t)) : NULL;
	int n, rc;

	if (!certs)
		return v->n_crls ? -ENOMEM : 0;
	rc = n = collect(v, own, certs, more, f);
	for (unsigned i = 0; rc >= 0 && i < roots->n; i++)
		certs[n++] = roots->v[i];
	rc = rc < 0 ? rc : 0;
	for (size_t i = 0; rc == 0 && i < v->n_crls; i++)
		rc = check_file(to, v->crls[i], certs, (unsigned)n, f);
	for (size_t i = 0; i < CHAIN_MAX; i++)
		certificates_done(&more[i]);
	free(certs);
	return rc;
}

/* ---- the key and the names ---- */

static bool is_sealed(const char *path)
{
	char *bytes;
	size_t len;

	if (ss_file_read(AT_FDCWD, path, 1 << 20, &bytes, &len, NULL) < 0)
		return false;
	bool sealed = memmem(bytes, len, "ENCRYPTED", 9);
	explicit_bzero(bytes, len);
	free(bytes);
	return sealed;
}

static int check_key(struct findings *to, gnutls_x509_crt_t crt)
{
	const struct passphrase *p = to->v->passphrase;
	const char *path = to->v->key;
	struct key key;
	struct fault f;
	struct stat st;

	if (!path)
		return 0;
	if (stat(path, &st) == 0 && !ss_file_is_private(&st))
		find(to, true,
		     "others may read its key %s (mode %04o): chmod 600 it, and make a new one if they did",
		     path, (unsigned)st.st_mode & 07777);
	if (is_sealed(path) && !p->file && !p->env && !p->prompt) {
		find(to, false, "its key is encrypted and was not compared: give the passphrase by %s",
		     p->options);
		return 0;
	}
	int rc = key_load(path, p, &key, &f);
	if (rc == -ENOMEM)
		return rc;
	if (rc) {
		find(to, true, "%s", f.text);
		return 0;
	}
	if (!certificate_is_for(crt, &key))
		find(to, true, "%s is the key of another certificate", path);
	key_done(&key);
	return 0;
}

static int check_names(struct findings *to, gnutls_x509_crt_t crt)
{
	struct names names = {0};
	struct fault f;
	char subject[256];

	certificate_subject(crt, subject);
	if (to->v->subject && strcmp(subject, to->v->subject) != 0)
		find(to, true, "it is for \"%s\", not for \"%s\"", subject, to->v->subject);
	if (!to->v->names)
		return 0;
	int rc = certificate_names(crt, &names, &f);
	if (rc == -EINVAL)
		find(to, true, "%s", f.text);
	else if (rc == 0 && !names_same(&names, to->v->names))
		find(to, true, "its names are not those that it should have: renew it");
	names_done(&names);
	return rc == -ENOMEM ? rc : 0;
}

/* ---- time ---- */

static void check_time(struct findings *to, gnutls_x509_crt_t crt, json_t *object)
{
	const struct verify *v = to->v;
	int64_t now = time(NULL), start = gnutls_x509_crt_get_activation_time(crt),
		end = gnutls_x509_crt_get_expiration_time(crt), left = end - now;
	const char *state = left <= 0                        ? "EXPIRED"
			    : verify_is_due(crt, v->renew_s) ? "EXPIRING"
			    : to->n                          ? "WRONG"
							     : "ok";
	char text[40], span[24];

	if (!certificate_is_ca(crt) && (end - start) > (VERIFY_LEAF_DAYS + 1) * DAY)
		find(to, false, "it lives %" PRId64 " days; clients outside refuse leaves of more than %d",
		     (end - start) / DAY, VERIFY_LEAF_DAYS);
	if (start > now)
		find(to, true, "it is valid from %s on only: are the clocks right?",
		     ss_format_time(start, text, sizeof text));
	to->n += left <= 0 || verify_is_due(crt, v->renew_s);
	ss_format_time(end, text, sizeof text);
	if (to->json)
		json_object_update_new(object, json_pack("{s:s, s:s, s:s, s:I}", "certificate", v->shown,
							 "state", state, "not_after", text, "days_left",
							 (json_int_t)(left / DAY)));
	else if (left <= 0)
		printf("%s: EXPIRED at %s\n", v->shown, text);
	else if (left < 2 * DAY)
		printf("%s: %s: %s left, until %s\n", v->shown, state,
		       ss_format_span(left * 1000000000, span, sizeof span), text);
	else
		printf("%s: %s: %" PRId64 " days left, until %s\n", v->shown, state, left / DAY, text);
}

int verify_certificate(const struct verify *v, struct fault *f)
{
	struct findings to = {.v = v, .json = v->list};
	struct certificates own, roots;
	json_t *object = NULL;
	int rc = certificates_load(v->crt, &own, f);

	if (rc)
		return rc;
	rc = certificates_load(v->roots, &roots, f);
	if (rc == 0 && to.json) {
		to.wrong = json_array();
		to.notes = json_array();
		object = json_pack("{s:o, s:o}", "wrong", to.wrong, "notes", to.notes);
		rc = object && json_array_append_new(v->list, object) == 0 ? 0 : -ENOMEM;
	}
	if (rc == 0)
		rc = check_chain(&to, &own, &roots, f);
	if (rc == 0)
		rc = check_revocation(&to, &own, &roots, f);
	if (rc == 0)
		rc = check_key(&to, own.v[0]);
	if (rc == 0)
		rc = check_names(&to, own.v[0]);
	if (rc == 0)
		check_time(&to, own.v[0], object);
	certificates_done(&own);
	certificates_done(&roots);
	return rc ? rc : to.n == 0;
}
