/* SPDX-License-Identifier: MIT */
/* request - see request.h. */
#include "request.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/file_atomic.h>

enum { REQUEST_MAX = 64 << 10 }; /* bytes */

static int put(gnutls_x509_crq_t crq, const struct key *key, const char *subject, const struct names *names)
{
	int rc = gnutls_x509_crq_set_version(crq, 3);

	if (rc == 0)
		rc = gnutls_x509_crq_set_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, subject,
						   (unsigned)strlen(subject));
	for (size_t i = 0; rc == 0 && i < names->n; i++) {
		const struct ss_host_name *h = &names->v[i];
		rc = gnutls_x509_crq_set_subject_alt_name(
			crq, h->address_len ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME,
			h->address_len ? (const void *)h->address : h->text,
			h->address_len ? h->address_len : (unsigned)strlen(h->text), GNUTLS_FSAN_APPEND);
	}
	if (rc == 0)
		rc = gnutls_x509_crq_set_pubkey(crq, key->public);
	return rc ? rc : gnutls_x509_crq_privkey_sign(crq, key->private, GNUTLS_DIG_UNKNOWN, 0);
}

int request_new(const struct key *key, const char *subject, const struct names *names, struct ss_strbuf *out,
		struct fault *f)
{
	gnutls_x509_crq_t crq;
	gnutls_datum_t pem = {0};

	if (gnutls_x509_crq_init(&crq))
		return -ENOMEM;
	int rc = put(crq, key, subject, names);
	if (rc == 0)
		rc = gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_PEM, &pem);
	if (rc == 0)
		ss_strbuf_add(out, pem.data, pem.size);
	gnutls_free(pem.data);
	gnutls_x509_crq_deinit(crq);
	if (rc)
		return refuse(f, "the request cannot be made: %s", gnutls_strerror(rc));
	return out->failed ? -ENOMEM : 0;
}

static int read_subject(gnutls_x509_crq_t crq, struct request *r, struct fault *f)
{
	char raw[256], again[256];
	size_t len = sizeof raw, len_again = sizeof again;
	int rc = gnutls_x509_crq_get_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, 0, raw, &len);

	if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return 0;
	if (rc || len >= sizeof raw)
		return refuse(f, "its common name cannot be read");
	if (gnutls_x509_crq_get_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 1, 0, again, &len_again) !=
	    GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return refuse(f, "it has several common names");
	raw[len] = '\0';
	const char *why = strlen(raw) != len ? "there is a NUL in it" : name_fault(raw);
	if (why)
		return refuse(f, "its common name is none: %s", why);
	memcpy(r->subject, raw, len + 1);
	return 0;
}

static int read_names(gnutls_x509_crq_t crq, struct request *r, struct fault *f)
{
	for (unsigned i = 0; i < NAMES_MAX; i++) {
		unsigned char name[512];
		size_t len = sizeof name;
		unsigned kind, critical;
		int rc = gnutls_x509_crq_get_subject_alt_name(crq, i, name, &len, &kind, &critical);
		if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			return 0;
		if (rc < 0)
			return refuse(f, "its names cannot be read: %s", gnutls_strerror(rc));
		rc = names_take(&r->names, (unsigned)rc, name, len, f);
		if (rc)
			return rc;
	}
	return refuse(f, "it asks for more than %d names", NAMES_MAX);
}

static int read_wishes(gnutls_x509_crq_t crq, struct request *r, struct fault *f)
{
	unsigned critical, ca = 0, usage = 0;
	int path_len, rc = gnutls_x509_crq_get_basic_constraints(crq, &critical, &ca, &path_len);

	if (rc < 0 && rc != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return refuse(f, "its constraints cannot be read: %s", gnutls_strerror(rc));
	r->wants_ca = ca;
	rc = gnutls_x509_crq_get_key_usage(crq, &usage, &critical);
	if (rc < 0 && rc != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return refuse(f, "its key usage cannot be read: %s", gnutls_strerror(rc));
	r->wants_ca = r->wants_ca || (usage & (GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
	return 0;
}

/* The key before the signature, as its size says what the signature costs to check. */
static int read_key(gnutls_x509_crq_t crq, struct request *r, struct fault *f)
{
	if (gnutls_pubkey_init(&r->public))
		return -ENOMEM;
	int rc = gnutls_pubkey_import_x509_crq(r->public, crq, 0);
	if (rc)
		return refuse(f, "its key cannot be read: %s", gnutls_strerror(rc));
	rc = key_check_public(r->public, "its key", f);
	if (rc)
		return rc;
	rc = gnutls_x509_crq_verify(crq, 0);
	return rc ? refuse(f,
			   "its signature is wrong: whoever made it does not have the key, or it was changed "
			   "on "
			   "its way (%s)",
			   gnutls_strerror(rc))
		  : 0;
}

int request_read(const char *bytes, size_t len, struct request *out, struct fault *f)
{
	union {
		const char *in;
		unsigned char *out;
	} p = {.in = bytes};
	gnutls_datum_t d = {p.out, (unsigned)len};
	gnutls_x509_crq_t crq;
	bool pem = memmem(bytes, len, "-----BEGIN ", 11);

	*out = (struct request){0};
	if (len > REQUEST_MAX)
		return refuse(f, "it is larger than %d bytes", REQUEST_MAX);
	if (gnutls_x509_crq_init(&crq))
		return -ENOMEM;
	int rc = gnutls_x509_crq_import(crq, &d, pem ? GNUTLS_X509_FMT_PEM : GNUTLS_X509_FMT_DER);
	if (rc)
		rc = refuse(f, "it is no certificate signing request: %s", gnutls_strerror(rc));
	if (rc == 0)
		rc = read_key(crq, out, f);
	if (rc == 0)
		rc = read_subject(crq, out, f);
	if (rc == 0)
		rc = read_names(crq, out, f);
	if (rc == 0)
		rc = read_wishes(crq, out, f);
	gnutls_x509_crq_deinit(crq);
	if (rc)
		request_done(out);
	return rc;
}

int request_load(const char *path, struct request *out, struct fault *f)
{
	struct fault inner = {""};
	char *bytes;
	size_t len;
	int rc = ss_file_read(AT_FDCWD, path, 1 << 20, &bytes, &len, NULL);

	*out = (struct request){0};
	if (rc < 0)
		return rc == -ENOMEM ? rc
				     : refuse(f, "%s: the request cannot be read: %s", path, strerror(-rc));
	rc = request_read(bytes, len, out, &inner);
	free(bytes);
	return rc == -EINVAL ? refuse(f, "%s: %s", path, inner.text) : rc;
}

void request_done(struct request *r)
{
	if (r->public)
		gnutls_pubkey_deinit(r->public);
	names_done(&r->names);
	*r = (struct request){0};
}
