/* SPDX-License-Identifier: MIT */
/* issue - see issue.h. */
#include "issue.h"

#include <string.h>
#include <semstreams/base/units.h>
#include "revocation/index.h"
#include "request.h"

static void warn_exposed(const struct key *key, const char *path)
{
	if (key->exposed)
		fprintf(stderr, "semstreams pki: warning: %s: others can read this key; chmod 600 it\n",
			path);
}

int issuer_load(const char *ca, const char *ca_key, const struct passphrase *passphrase, struct issuer *out,
		struct fault *f)
{
	*out = (struct issuer){.path = ca};
	int rc = certificates_load(ca, &out->chain, f);
	if (rc == 0)
		rc = key_load(ca_key, passphrase, &out->key, f);
	if (rc)
		issuer_done(out);
	else
		warn_exposed(&out->key, ca_key);
	return rc;
}

void issuer_done(struct issuer *i)
{
	certificates_done(&i->chain);
	key_done(&i->key);
}

void issuer_record(const struct issuer *i, gnutls_x509_crt_t issued)
{
	struct fault f = {""};
	int rc = index_record(i->path, i->chain.v[0], issued, &f);

	if (rc)
		fprintf(stderr,
			"semstreams pki: warning: the certificate is not recorded, so that its file is "
			"needed to revoke "
			"it: %s\n",
			rc == -ENOMEM ? "out of memory" : f.text);
}

static int get_key(const struct issue *i, struct key *out, struct fault *f)
{
	const char *type = i->key_type ? i->key_type : i->profile->key_type;

	if (i->reuse_key || key_is_uri(i->key)) {
		int rc = key_load(i->key, i->passphrase, out, f);
		if (rc == 0)
			warn_exposed(out, i->key);
		return rc;
	}
	if (strcmp(type, "rsa3072") == 0 || strcmp(type, "rsa4096") == 0)
		fprintf(stderr, "semstreams pki: making a key of type %s, which may take some seconds ...\n",
			type);
	return key_new(type, out, f);
}

/* The chain below the root, as servers send it; below a root alone, with the root. */
static int put_bundle(gnutls_x509_crt_t crt, const struct issuer *issuer, struct ss_strbuf *out)
{
	int rc = certificate_pem(crt, out);

	for (unsigned i = 0; rc == 0 && issuer && i < issuer->chain.n; i++)
		rc = certificate_pem(issuer->chain.v[i], out);
	return rc;
}

static int fill(const struct issue *i, const struct issuer *issuer, struct fileset *set,
		gnutls_x509_crt_t *out, struct fault *f)
{
	struct key key = {0};
	size_t at = 0;
	bool cut = false, write_key = !key_is_uri(i->key) && !i->reuse_key;
	int rc = get_key(i, &key, f);

	if (rc)
		return rc;
	const struct order order = {.profile = i->profile,
				    .subject = i->subject,
				    .names = i->names,
				    .public = key.public,
				    .life_s = i->life_s ? i->life_s : i->profile->life_s,
				    .path_len = i->path_len};
	rc = certificate_issue(&order, issuer ? issuer->chain.v[0] : NULL, issuer ? &issuer->key : &key, out,
			       &cut, f);
	if (rc) {
		key_done(&key);
		return rc;
	}
	if (cut)
		fprintf(stderr,
			"semstreams pki: note: %s ends with its issuer, before the life that was asked for\n",
			i->crt);
	if (write_key)
		rc = key_pem(&key, i->passphrase, &set->v[at++].content, f);
	if (rc == 0 && i->csr)
		rc = request_new(&key, i->subject, i->names, &set->v[at++].content, f);
	if (rc == 0 && i->bundle)
		rc = put_bundle(*out, issuer, &set->v[at++].content);
	if (rc == 0)
		rc = i->chain ? put_bundle(*out, issuer, &set->v[at].content)
			      : certificate_pem(*out, &set->v[at].content);
	key_done(&key);
	if (rc)
		gnutls_x509_crt_deinit(*out);
	return rc;
}

int issue_pair(const struct issue *i, const struct issuer *issuer, gnutls_x509_crt_t *out, struct fault *f)
{
	struct fileset set = {0};

	if (!key_is_uri(i->key) && !i->reuse_key)
		fileset_add(&set, i->key, 0600);
	if (i->csr)
		fileset_add(&set, i->csr, 0644);
	if (i->bundle)
		fileset_add(&set, i->bundle, 0644);
	fileset_add(&set, i->crt, 0644);
	int rc = fileset_check(&set, i->replace, f);
	if (rc == 0)
		rc = fill(i, issuer, &set, out, f);
	if (rc == 0) {
		if (issuer)
			issuer_record(issuer, *out);
		rc = fileset_write(&set, f);
		if (rc)
			gnutls_x509_crt_deinit(*out);
	}
	fileset_done(&set);
	return rc;
}

int issue_request(const struct issue *i, struct fault *f)
{
	struct fileset set = {0};
	struct key key = {0};
	bool in_token = key_is_uri(i->key);

	if (!in_token)
		fileset_add(&set, i->key, 0600);
	fileset_add(&set, i->csr, 0644);
	int rc = fileset_check(&set, i->replace, f);
	if (rc == 0)
		rc = get_key(i, &key, f);
	if (rc == 0 && !in_token)
		rc = key_pem(&key, i->passphrase, &set.v[0].content, f);
	if (rc == 0)
		rc = request_new(&key, i->subject, i->names, &set.v[set.n - 1].content, f);
	if (rc == 0)
		rc = fileset_write(&set, f);
	key_done(&key);
	fileset_done(&set);
	return rc;
}

int issue_print(gnutls_x509_crt_t crt, const char *path, const char *key, bool json)
{
	char subject[256], end[40], fingerprint[65], serial[80];

	certificate_subject(crt, subject);
	ss_format_time(gnutls_x509_crt_get_expiration_time(crt), end, sizeof end);
	certificate_fingerprint(crt, fingerprint);
	if (!json) {
		printf("%s: \"%s\", until %s, SHA-256 %s\n", path, subject, end, fingerprint);
		return 0;
	}
	json_t *out = json_pack("{s:s, s:s*, s:s, s:s, s:s, s:s}", "certificate", path, "key", key, "subject",
				subject, "serial_number", certificate_serial(crt, serial), "not_after", end,
				"fingerprint_sha256", fingerprint);
	int rc = out && json_dumpf(out, stdout, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;
	putchar('\n');
	json_decref(out);
	return rc;
}
