/* SPDX-License-Identifier: MIT */
/* certificate - see certificate.h. */
#include "certificate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <gnutls/crypto.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>

enum {
	FILE_MAX = 16 << 20,
	SERIAL = 16,    /* random bytes: nobody guesses one, and no two are alike */
	BACKDATED = 60, /* seconds, for clocks that are behind */
	DAY = 86400,
	SAN_MAX = 1024,
};

/* ---- issuing ---- */

/* How many CAs may follow below the new one. */
static int path_length(const struct order *o, gnutls_x509_crt_t issuer, int *out, struct fault *f)
{
	unsigned critical, ca;
	int above = -1, wanted = o->path_len >= 0 ? o->path_len : o->profile->path_len;

	*out = wanted;
	if (!issuer)
		return 0;
	if (gnutls_x509_crt_get_basic_constraints(issuer, &critical, &ca, &above) < 0 || above < 0)
		return 0;
	if (above == 0)
		return refuse(f, "the issuer may sign no CA: its path length is 0; one above it has to sign");
	if (wanted >= above && o->path_len >= 0)
		return refuse(f, "the issuer's path length is %d, so this CA's can be %d at most", above,
			      above - 1);
	*out = wanted < above ? wanted : above - 1;
	return 0;
}

static int put_times(gnutls_x509_crt_t crt, const struct order *o, gnutls_x509_crt_t issuer, bool *cut)
{
	int64_t now = time(NULL), end = now + o->life_s,
		last = issuer ? gnutls_x509_crt_get_expiration_time(issuer) : end;

	if (cut)
		*cut = end > last + DAY;
	int rc = gnutls_x509_crt_set_activation_time(crt, (time_t)(now - BACKDATED));
	return rc ? rc : gnutls_x509_crt_set_expiration_time(crt, (time_t)(end < last ? end : last));
}

static int put_ids(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer)
{
	unsigned char serial[SERIAL], id[64];
	size_t n = sizeof id;
	unsigned critical;
	int rc = gnutls_rnd(GNUTLS_RND_KEY, serial, sizeof serial);

	serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and of one length */
	if (rc == 0)
		rc = gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
	if (rc == 0)
		rc = gnutls_x509_crt_get_key_id(crt, 0, id, &n);
	if (rc == 0)
		rc = gnutls_x509_crt_set_subject_key_id(crt, id, n);
	n = sizeof id;
	if (rc == 0 && issuer && gnutls_x509_crt_get_subject_key_id(issuer, id, &n, &critical) == 0)
		rc = gnutls_x509_crt_set_authority_key_id(crt, id, n);
	return rc;
}

static int put_names(gnutls_x509_crt_t crt, const struct names *names)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < names->n; i++) {
		const struct ss_host_name *h = &names->v[i];
		rc = gnutls_x509_crt_set_subject_alt_name(
			crt, h->address_len ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME,
			h->address_len ? (const void *)h->address : h->text,
			h->address_len ? h->address_len : (unsigned)strlen(h->text), GNUTLS_FSAN_APPEND);
	}
	return rc;
}

static int put_uses(gnutls_x509_crt_t crt, const struct profile *p, int path_len)
{
	int rc = gnutls_x509_crt_set_key_usage(crt, p->key_usage);

	if (rc == 0)
		rc = gnutls_x509_crt_set_basic_constraints(crt, p->ca, p->ca ? path_len : -1);
	if (rc == 0 && p->server)
		rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
	if (rc == 0 && p->client)
		rc = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
	return rc;
}

static int check_issuer(gnutls_x509_crt_t issuer, const struct key *key, struct fault *f)
{
	char name[256], text[40];

	if (!issuer)
		return 0;
	certificate_subject(issuer, name);
	if (!certificate_is_ca(issuer))
		return refuse(f, "\"%s\" is no CA: it may sign no certificate", name);
	if (!certificate_is_for(issuer, key))
		return refuse(
			f, "the key is not that of \"%s\": give the key that belongs to the CA's certificate",
			name);
	if (gnutls_x509_crt_get_expiration_time(issuer) <= time(NULL))
		return refuse(f, "\"%s\" expired at %s: renew the CA first", name,
			      ss_format_time(gnutls_x509_crt_get_expiration_time(issuer), text, sizeof text));
	return 0;
}

int certificate_issue(const struct order *o, gnutls_x509_crt_t issuer, const struct key *issuer_key,
		      gnutls_x509_crt_t *out, bool *cut, struct fault *f)
{
	gnutls_x509_crt_t crt;
	int path_len = -1, rc = check_issuer(issuer, issuer_key, f);

	if (rc == 0 && o->profile->ca)
		rc = path_length(o, issuer, &path_len, f);
	if (rc)
		return rc;
	if (gnutls_x509_crt_init(&crt))
		return -ENOMEM;
	rc = gnutls_x509_crt_set_version(crt, 3);
	if (rc == 0)
		rc = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, o->subject,
						   (unsigned)strlen(o->subject));
	if (rc == 0)
		rc = gnutls_x509_crt_set_pubkey(crt, o->public);
	if (rc == 0)
		rc = put_times(crt, o, issuer, cut);
	if (rc == 0)
		rc = put_ids(crt, issuer);
	if (rc == 0 && !o->profile->ca)
		rc = put_names(crt, o->names);
	if (rc == 0)
		rc = put_uses(crt, o->profile, path_len);
	if (rc == 0)
		rc = gnutls_x509_crt_privkey_sign(crt, issuer ? issuer : crt, issuer_key->private,
						  GNUTLS_DIG_UNKNOWN, 0);
	if (rc)
		gnutls_x509_crt_deinit(crt);
	else
		*out = crt;
	return rc ? refuse(f, "the certificate cannot be signed: %s", gnutls_strerror(rc)) : 0;
}

/* ---- files ---- */

int certificates_read(const char *path, const char *bytes, size_t len, struct certificates *out,
		      struct fault *f)
{
	union {
		const char *in;
		unsigned char *out;
	} p = {.in = bytes};
	gnutls_datum_t d = {p.out, (unsigned)len};

	*out = (struct certificates){0};
	if (!memmem(bytes, len, "-----BEGIN CERTIFICATE", 22))
		return refuse(f, "%s: there is no certificate in PEM in it", path);
	int rc = gnutls_x509_crt_list_import2(&out->v, &out->n, &d, GNUTLS_X509_FMT_PEM, 0);
	if (rc == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	if (rc < 0)
		return refuse(f, "%s: a certificate in it cannot be read: %s", path, gnutls_strerror(rc));
	if (out->n <= CERTIFICATES_MAX)
		return 0;
	certificates_done(out);
	return refuse(f, "%s: there are more than %d certificates in it", path, CERTIFICATES_MAX);
}

int certificates_load(const char *path, struct certificates *out, struct fault *f)
{
	char *bytes;
	size_t len;

	*out = (struct certificates){0};
	int rc = ss_file_read(AT_FDCWD, path, FILE_MAX, &bytes, &len, NULL);
	if (rc < 0)
		return rc == -ENOMEM
			       ? rc
			       : refuse(f, "%s: the certificate cannot be read: %s", path, strerror(-rc));
	rc = certificates_read(path, bytes, len, out, f);
	free(bytes);
	return rc;
}

void certificates_done(struct certificates *c)
{
	for (unsigned i = 0; i < c->n; i++)
		gnutls_x509_crt_deinit(c->v[i]);
	gnutls_free(c->v);
	*c = (struct certificates){0};
}

int certificate_pem(gnutls_x509_crt_t crt, struct ss_strbuf *out)
{
	gnutls_datum_t pem = {0};
	int rc = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);

	ss_strbuf_add(out, pem.data, pem.size);
	gnutls_free(pem.data);
	return rc || out->failed ? -ENOMEM : 0;
}

/* ---- judging ---- */

bool certificate_is_for(gnutls_x509_crt_t crt, const struct key *key)
{
	unsigned char of_crt[32], of_key[32];
	size_t n_crt = sizeof of_crt, n_key = sizeof of_key;

	return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n_crt) == 0 &&
	       gnutls_pubkey_get_key_id(key->public, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) == 0 &&
	       n_crt == n_key && memcmp(of_crt, of_key, n_crt) == 0;
}

bool certificate_is_ca(gnutls_x509_crt_t crt)
{
	unsigned usage, critical;

	return gnutls_x509_crt_get_ca_status(crt, NULL) > 0 &&
	       (gnutls_x509_crt_get_key_usage(crt, &usage, &critical) < 0 ||
		(usage & GNUTLS_KEY_KEY_CERT_SIGN));
}

bool certificate_signed_by(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer)
{
	unsigned status;

	return gnutls_x509_crt_check_issuer(crt, issuer) &&
	       gnutls_x509_crt_verify(crt, &issuer, 1,
				      GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
					      GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS,
				      &status) == 0 &&
	       status == 0;
}

bool certificate_signs_itself(gnutls_x509_crt_t crt)
{
	return gnutls_x509_crt_check_issuer(crt, crt) != 0;
}

const char *certificate_subject(gnutls_x509_crt_t crt, char *buf)
{
	char raw[512];
	size_t len = sizeof raw;

	if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, raw, &len))
		len = 0;
	return name_show(raw, len, buf, 256);
}

int certificate_names(gnutls_x509_crt_t crt, struct names *out, struct fault *f)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < SAN_MAX; i++) {
		unsigned char name[512];
		size_t len = sizeof name;
		int kind = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, NULL);
		if (kind == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		rc = kind < 0 ? refuse(f, "its names cannot be read: %s", gnutls_strerror(kind))
			      : names_take(out, (unsigned)kind, name, len, f);
	}
	return rc;
}

static bool has_purpose(gnutls_x509_crt_t crt, const char *oid)
{
	char found[64];

	for (unsigned i = 0; i < 32; i++) {
		size_t len = sizeof found;
		int rc = gnutls_x509_crt_get_key_purpose_oid(crt, i, found, &len, NULL);
		if (rc == 0 && strcmp(found, oid) == 0)
			return true;
		if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
	}
	return false;
}

const struct profile *certificate_leaf_profile(gnutls_x509_crt_t crt)
{
	return has_purpose(crt, GNUTLS_KP_TLS_WWW_SERVER) ? &profile_service : &profile_device;
}

/* ---- describing ---- */

static const char *hex(const unsigned char *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
	return out;
}

const char *certificate_fingerprint(gnutls_x509_crt_t crt, char *buf)
{
	unsigned char digest[32];
	size_t len = sizeof digest;

	*buf = '\0';
	return gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &len) ? buf
										     : hex(digest, len, buf);
}

const char *certificate_serial(gnutls_x509_crt_t crt, char *buf)
{
	unsigned char serial[39];
	size_t len = sizeof serial;

	*buf = '\0';
	return gnutls_x509_crt_get_serial(crt, serial, &len) ? buf : hex(serial, len, buf);
}

static void put_dn(json_t *to, const char *member, const char *whole, gnutls_x509_crt_t crt, bool issuer)
{
	char cn[256], raw[512];
	size_t len = sizeof raw;
	gnutls_datum_t dn = {0};
	int rc = issuer ? gnutls_x509_crt_get_issuer_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, raw,
							       &len)
			: gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, raw, &len);

	if (rc == 0)
		json_object_set_new(to, member,
				    json_pack("{s:[s]}", "common_name", name_show(raw, len, cn, sizeof cn)));
	rc = issuer ? gnutls_x509_crt_get_issuer_dn3(crt, &dn, 0) : gnutls_x509_crt_get_dn3(crt, &dn, 0);
	if (rc == 0)
		json_object_set_new(to, whole, json_string(name_show(dn.data, dn.size, raw, sizeof raw)));
	gnutls_free(dn.data);
}

static json_t *usage_json(gnutls_x509_crt_t crt)
{
	static const struct {
		unsigned bit;
		const char *name;
	} uses[] = {{GNUTLS_KEY_DIGITAL_SIGNATURE, "digital_signature"},
		    {GNUTLS_KEY_NON_REPUDIATION, "content_commitment"},
		    {GNUTLS_KEY_KEY_ENCIPHERMENT, "key_encipherment"},
		    {GNUTLS_KEY_KEY_AGREEMENT, "key_agreement"},
		    {GNUTLS_KEY_KEY_CERT_SIGN, "certificate_sign"},
		    {GNUTLS_KEY_CRL_SIGN, "crl_sign"}};
	unsigned usage = 0, critical;
	json_t *out = json_object();

	gnutls_x509_crt_get_key_usage(crt, &usage, &critical);
	for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
		if (usage & uses[i].bit)
			json_object_set_new(out, uses[i].name, json_true());
	return out;
}

static json_t *extensions_json(gnutls_x509_crt_t crt)
{
	struct names names = {0};
	struct fault ignored;
	unsigned critical, ca = 0;
	int path_len = -1;
	json_t *out = json_pack("{s:o}", "key_usage", usage_json(crt)), *dns = json_array(),
	       *ip = json_array();

	if (gnutls_x509_crt_get_basic_constraints(crt, &critical, &ca, &path_len) >= 0) {
		json_object_set_new(out, "basic_constraints", json_pack("{s:b}", "is_ca", ca));
		if (path_len >= 0)
			json_object_set_new(json_object_get(out, "basic_constraints"), "max_path_len",
					    json_integer(path_len));
	}
	certificate_names(crt, &names, &ignored);
	for (size_t i = 0; i < names.n; i++)
		json_array_append_new(names.v[i].address_len ? ip : dns, json_string(names.v[i].text));
	json_object_set_new(out, "subject_alt_name",
			    json_pack("{s:o, s:o}", "dns_names", dns, "ip_addresses", ip));
	json_t *purposes = json_object();
	if (has_purpose(crt, GNUTLS_KP_TLS_WWW_SERVER))
		json_object_set_new(purposes, "server_auth", json_true());
	if (has_purpose(crt, GNUTLS_KP_TLS_WWW_CLIENT))
		json_object_set_new(purposes, "client_auth", json_true());
	json_object_set_new(out, "extended_key_usage", purposes);
	names_done(&names);
	return out;
}

json_t *certificate_json(gnutls_x509_crt_t crt)
{
	char start[40], end[40], buf[80], fingerprint[65], key[32] = "unknown";
	int64_t from = gnutls_x509_crt_get_activation_time(crt),
		to = gnutls_x509_crt_get_expiration_time(crt);
	json_t *out = json_pack(
		"{s:i, s:s, s:s}", "version", gnutls_x509_crt_get_version(crt), "serial_number",
		certificate_serial(crt, buf), "signature_algorithm",
		gnutls_sign_get_name((gnutls_sign_algorithm_t)gnutls_x509_crt_get_signature_algorithm(crt)));
	gnutls_pubkey_t public;

	if (!out)
		return NULL;
	put_dn(out, "subject", "subject_dn", crt, false);
	put_dn(out, "issuer", "issuer_dn", crt, true);
	if (gnutls_pubkey_init(&public) == 0) {
		if (gnutls_pubkey_import_x509(public, crt, 0) == 0)
			key_show(public, key);
		gnutls_pubkey_deinit(public);
	}
	json_object_set_new(out, "validity",
			    json_pack("{s:s, s:s, s:I}", "start", ss_format_time(from, start, sizeof start),
				      "end", ss_format_time(to, end, sizeof end), "length",
				      (json_int_t)(to - from)));
	json_object_set_new(out, "key", json_string(key));
	json_object_set_new(out, "extensions", extensions_json(crt));
	json_object_set_new(out, "fingerprint_sha256",
			    json_string(certificate_fingerprint(crt, fingerprint)));
	return out;
}
