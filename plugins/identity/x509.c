/* SPDX-License-Identifier: MIT */
/* x509 - see x509.h.  By GnuTLS. */
#include "x509.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/tls-names.h>
#include "names.h"

enum {
	TEXT_MAX = 512 * 1024,
	PEM_MAX = 64 * 1024,  /* of one certificate */
	RSA_BITS_MAX = 8192,  /* with the limit of the exponent: what a hostile signature costs to check */
	RSA_EXPONENT_MAX = 8, /* bytes */
	SERIAL_MAX = 31,      /* bytes; RFC 5280 allows 20 */
	CN_MAX = 64,          /* bytes; RFC 5280, ub-common-name */
};

static const char begin_line[] = "-----BEGIN CERTIFICATE-----", end_line[] = "-----END CERTIFICATE-----";

struct chain {
	gnutls_x509_crt_t certs[CHAIN_MAX];
	size_t n;
	char *why;
	size_t why_size;
};

#define refuse(c, ...) (snprintf((c)->why, (c)->why_size, __VA_ARGS__), -EINVAL)

static void drop(struct chain *c)
{
	for (size_t i = 0; i < c->n; i++)
		gnutls_x509_crt_deinit(c->certs[i]);
}

/* ---- PEM ---- */

/* There is something else where a certificate should begin. */
static int refuse_text(struct chain *c, const char *at, size_t left)
{
	static const char begin[] = "-----BEGIN ";
	char what[48];
	size_t n = sizeof begin - 1;
	if (left <= n || memcmp(at, begin, n) != 0)
		return refuse(c, "there is text other than certificates, after %zu of them", c->n);
	const char *end = memchr(at + n, '-', left - n);
	name_harmless(at + n, end ? (size_t)(end - at) - n : 0, what, sizeof what);
	return refuse(c, "a PEM block of type \"%s\" is among the certificates", what);
}

/* Of the kinds and sizes whose signatures can be checked in a short time. */
static int check_key(struct chain *c, gnutls_x509_crt_t crt)
{
	gnutls_pubkey_t key;
	gnutls_datum_t modulus, exponent;
	unsigned bits = 0;
	if (gnutls_pubkey_init(&key))
		return -ENOMEM;
	int rc = gnutls_pubkey_import_x509(key, crt, 0);
	int kind = rc ? rc : gnutls_pubkey_get_pk_algorithm(key, &bits);
	if (kind == GNUTLS_PK_RSA || kind == GNUTLS_PK_RSA_PSS)
		rc = gnutls_pubkey_export_rsa_raw2(key, &modulus, &exponent, GNUTLS_EXPORT_FLAG_NO_LZ);
	gnutls_pubkey_deinit(key);
	if (rc)
		return refuse(c, "the key of certificate %zu cannot be read: %s", c->n, gnutls_strerror(rc));
	if (kind == GNUTLS_PK_ECDSA || kind == GNUTLS_PK_EDDSA_ED25519 || kind == GNUTLS_PK_EDDSA_ED448)
		return 0;
	if (kind != GNUTLS_PK_RSA && kind != GNUTLS_PK_RSA_PSS)
		return refuse(c, "certificate %zu has a key of an unsupported type", c->n);
	bool small = bits <= RSA_BITS_MAX && exponent.size <= RSA_EXPONENT_MAX;
	gnutls_free(modulus.data);
	gnutls_free(exponent.data);
	return small ? 0 : refuse(c, "certificate %zu has an RSA key of unreasonable size", c->n);
}

static int import(struct chain *c, const char *block, size_t len)
{
	gnutls_datum_t d = key_datum(block, len);
	if (c->n == CHAIN_MAX)
		return refuse(c, "there are more than %d certificates", CHAIN_MAX);
	if (len > PEM_MAX)
		return refuse(c, "certificate %zu is larger than %d bytes", c->n + 1, PEM_MAX);
	if (gnutls_x509_crt_init(&c->certs[c->n]))
		return -ENOMEM;
	c->n++;
	int rc = gnutls_x509_crt_import(c->certs[c->n - 1], &d, GNUTLS_X509_FMT_PEM);
	if (rc == GNUTLS_E_MEMORY_ERROR)
		return -ENOMEM;
	if (rc)
		return refuse(c, "certificate %zu cannot be read: %s", c->n, gnutls_strerror(rc));
	return check_key(c, c->certs[c->n - 1]);
}

/* RFC 8555 section 9.1: certificates and nothing else. */
static int import_all(struct chain *c, const char *pem, size_t len)
{
	const char *at = pem, *limit = pem + len;
	const size_t n_begin = sizeof begin_line - 1, n_end = sizeof end_line - 1;
	if (len > TEXT_MAX)
		return refuse(c, "it is larger than %d bytes", TEXT_MAX);
	if (memchr(pem, 0, len))
		return refuse(c, "there is a NUL in the text");
	for (;;) {
		while (at < limit && strchr(" \t\r\n", *at))
			at++;
		if (at == limit)
			return c->n ? 0 : refuse(c, "there is no certificate");
		size_t left = (size_t)(limit - at);
		if (left < n_begin || memcmp(at, begin_line, n_begin) != 0)
			return refuse_text(c, at, left);
		const char *end = memmem(at, left, end_line, n_end);
		if (!end)
			return refuse(c, "certificate %zu is cut off, its END line is missing", c->n + 1);
		end += n_end;
		int rc = import(c, at, (size_t)(end - at));
		if (rc)
			return rc;
		at = end;
	}
}

/* ---- order ---- */

static bool signed_by(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer)
{
	const unsigned flags = GNUTLS_VERIFY_DISABLE_TIME_CHECKS | GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS;
	unsigned status;
	return gnutls_x509_crt_check_issuer(crt, issuer) &&
	       gnutls_x509_crt_verify(crt, &issuer, 1, flags, &status) == 0 && status == 0;
}

static bool is_for(gnutls_x509_crt_t crt, const struct identity_key *key)
{
	unsigned char of_crt[32], of_key[32];
	size_t n_crt = sizeof of_crt, n_key = sizeof of_key;
	return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n_crt) == 0 &&
	       gnutls_pubkey_get_key_id(key->public, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) == 0 &&
	       n_crt == n_key && memcmp(of_crt, of_key, n_crt) == 0;
}

static void swap(struct chain *c, size_t a, size_t b)
{
	gnutls_x509_crt_t crt = c->certs[a];
	c->certs[a] = c->certs[b];
	c->certs[b] = crt;
}

/* Leaf first, each issuer after what it signed.  The given order wins where it is possible. */
static int put_in_order(struct chain *c, const struct identity_key *key)
{
	size_t leaf = 0, next;
	while (key && leaf < c->n && !is_for(c->certs[leaf], key))
		leaf++;
	if (leaf == c->n)
		return refuse(c, "%s for another key than the one that was sent to the CA",
			      c->n == 1 ? "the certificate is" : "all certificates are");
	swap(c, 0, leaf);
	for (size_t i = 1; i < c->n; i++) {
		for (next = i; next < c->n && !signed_by(c->certs[i - 1], c->certs[next]); next++)
			;
		if (next == c->n)
			return refuse(c, "no certificate in the chain has signed certificate %zu", i);
		swap(c, i, next);
	}
	return 0;
}

/* ---- names ---- */

struct wanted {
	struct chain *chain;
	const char *const *names;
	size_t n;
	bool *found;
	int rc;
};

/* Is it one of the names?  kind 0: a common name, which may be of either kind. */
static bool match_name(struct wanted *w, unsigned kind, const uint8_t *name, size_t len)
{
	char text[256];
	unsigned char raw[16];
	bool wanted = false, is_address = kind == GNUTLS_SAN_IPADDRESS;

	if (!is_address)
		name_harmless((const char *)name, len, text, sizeof text);
	else if (len == 4 || len == 16)
		inet_ntop(len == 4 ? AF_INET : AF_INET6, name, text, sizeof text);
	else
		snprintf(text, sizeof text, "an address of %zu bytes", len);
	for (size_t k = 0; k < w->n; k++)
		if (name_same(w->names[k], text) &&
		    (!kind || is_address == (name_address(w->names[k], raw) > 0)))
			wanted = w->found[k] = true;
	if (!wanted)
		w->rc = refuse(w->chain, "the certificate is also for \"%s\", which was not requested", text);
	return wanted;
}

/* Other kinds than DNS names and addresses do not matter. */
static bool match_alt_name(void *arg, unsigned kind, const uint8_t *name, size_t len)
{
	return (kind != GNUTLS_SAN_DNSNAME && kind != GNUTLS_SAN_IPADDRESS) ||
	       match_name(arg, kind, name, len);
}

static bool match_cn(void *arg, const uint8_t *name, size_t len)
{
	struct wanted *w = arg;

	if (name)
		return match_name(w, 0, name, len);
	w->rc = refuse(w->chain, "the certificate's CN is of ASN.1 type %zu, which cannot be decoded", len);
	return false;
}

static int check_alt_names(struct wanted *w)
{
	int rc = tls_each_san(w->chain->certs[0], match_alt_name, w);

	if (rc)
		return refuse(w->chain, "the certificate%s",
			      rc == -ENOENT ? " has no subject alternative names"
					    : "'s names cannot be read");
	for (size_t i = 0; w->rc == 0 && i < w->n; i++)
		if (!w->found[i])
			w->rc = refuse(w->chain, "the certificate is not for \"%s\"", w->names[i]);
	return w->rc;
}

/* A certificate without a CN is fine, one with another name is not: peers may go by it. */
static int check_names(struct chain *c, const char *const *names, size_t n)
{
	bool *found = calloc(n + 1, sizeof *found);
	struct wanted w = {.chain = c, .names = names, .n = n, .found = found};
	gnutls_x509_dn_t dn;
	int rc = found ? check_alt_names(&w) : -ENOMEM;

	if (rc == 0 && gnutls_x509_crt_get_subject(c->certs[0], &dn))
		rc = refuse(c, "the certificate's subject cannot be read");
	if (rc == 0) {
		tls_each_cn(dn, match_cn, &w);
		rc = w.rc;
	}
	free(found);
	return rc;
}

/* ---- description ---- */

static bool take_name(void *arg, const uint8_t *name, size_t len)
{
	char *out = arg;

	if (name)
		name_harmless((const char *)name, len, out, 256);
	return false;
}

/* The first CN, where it says something that can be read, else the whole DN. */
static void name_of(gnutls_x509_crt_t crt, bool issuer, char out[256])
{
	gnutls_x509_dn_t dn;

	out[0] = 0;
	if (issuer ? gnutls_x509_crt_get_issuer(crt, &dn) : gnutls_x509_crt_get_subject(crt, &dn))
		return;
	tls_each_cn(dn, take_name, out);
	char *whole = *out ? NULL : tls_dn_text(dn);
	if (whole)
		name_harmless(whole, strlen(whole), out, 256);
	free(whole);
}

static void hex(const unsigned char *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static int describe_serial(struct chain *c, struct chain_info *info)
{
	unsigned char serial[SERIAL_MAX], key_id[64];
	size_t n = sizeof serial, n_id = sizeof key_id;
	unsigned critical;
	if (gnutls_x509_crt_get_serial(c->certs[0], serial, &n) || n == 0)
		return refuse(c, "the certificate's serial number cannot be read or is too long");
	size_t zero = n > 1 && serial[0] == 0;
	hex(serial + zero, n - zero, info->serial);

	info->ari_id[0] = 0;
	if (gnutls_x509_crt_get_authority_key_id(c->certs[0], key_id, &n_id, &critical) || n_id == 0)
		return 0;
	char *id = base64url(key_id, n_id), *number = base64url(serial, n);
	int rc = id && number ? 0 : -ENOMEM;
	if (rc == 0 && snprintf(info->ari_id, sizeof info->ari_id, "%s.%s", id, number) >= CHAIN_ARI_ID)
		info->ari_id[0] = 0;
	free(id);
	free(number);
	return rc;
}

static int write_pem(struct chain *c, char **out)
{
	struct ss_strbuf text = {0};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < c->n; i++) {
		gnutls_datum_t part = {0};
		rc = gnutls_x509_crt_export2(c->certs[i], GNUTLS_X509_FMT_PEM, &part);
		ss_strbuf_add(&text, part.data, part.size);
		gnutls_free(part.data);
	}
	*out = ss_strbuf_take(&text);
	if (rc && rc != GNUTLS_E_MEMORY_ERROR)
		return refuse(c, "the certificates cannot be written: %s", gnutls_strerror(rc));
	return rc || !*out ? -ENOMEM : 0;
}

static int describe(struct chain *c, struct chain_info *info)
{
	info->n = c->n;
	info->not_before = gnutls_x509_crt_get_activation_time(c->certs[0]);
	info->not_after = gnutls_x509_crt_get_expiration_time(c->certs[0]);
	if (info->not_before < 0 || info->not_after <= info->not_before)
		return refuse(c, "the certificate's validity is impossible: it ends before it begins");
	name_of(c->certs[0], false, info->subject);
	name_of(c->certs[0], true, info->issuer);
	name_of(c->certs[c->n - 1], true, info->root);
	int rc = describe_serial(c, info);
	return rc ? rc : write_pem(c, &info->pem);
}

int chain_read(const char *pem, size_t len, const struct identity_key *key, const char *const *names,
	       size_t n, struct chain_info *out, char *why, size_t why_size)
{
	struct chain c = {.why = why, .why_size = why_size};
	struct chain_info info = {0};
	int rc = import_all(&c, pem, len);
	if (rc == 0)
		rc = put_in_order(&c, key);
	if (rc == 0 && names)
		rc = check_names(&c, names, n);
	if (rc == 0)
		rc = describe(&c, &info);
	if (rc == 0)
		*out = info;
	drop(&c);
	return rc;
}

void chain_done(struct chain_info *info)
{
	free(info->pem);
	*info = (struct chain_info){0};
}
/* ---- the root ---- */

static bool fingerprint_of_signer(gnutls_x509_crt_t last, const gnutls_datum_t *pem,
				  char out[CHAIN_FINGERPRINT])
{
	gnutls_x509_crt_t *list;
	unsigned char hash[32];
	size_t n_hash = sizeof hash;
	unsigned n;
	bool found = false;
	if (gnutls_x509_crt_list_import2(&list, &n, pem, GNUTLS_X509_FMT_PEM, 0) < 0)
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (!found && signed_by(last, list[i]) && signed_by(list[i], list[i]) &&
		    gnutls_x509_crt_get_fingerprint(list[i], GNUTLS_DIG_SHA256, hash, &n_hash) == 0) {
			found = true;
			hex(hash, n_hash, out);
		}
		gnutls_x509_crt_deinit(list[i]);
	}
	gnutls_free(list);
	return found;
}

int chain_root_fingerprint(const char *chain_pem, const char *const *files, char out[CHAIN_FINGERPRINT])
{
	struct chain c = {.why = out}; /* nothing is said */
	gnutls_datum_t pem = key_datum(chain_pem, strlen(chain_pem));
	bool found = false;
	if (import_all(&c, chain_pem, strlen(chain_pem)) == 0) {
		gnutls_x509_crt_t last = c.certs[c.n - 1];
		found = fingerprint_of_signer(last, &pem, out);
		for (; !found && files && *files; files++) {
			gnutls_datum_t file;
			if (gnutls_load_file(*files, &file) < 0)
				continue;
			found = fingerprint_of_signer(last, &file, out);
			gnutls_free(file.data);
		}
	}
	drop(&c);
	return found ? 0 : -ENOENT;
}

/* ---- requests ---- */

static int put_names(gnutls_x509_crq_t crq, const char *const *names, size_t n)
{
	unsigned char raw[16];
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		unsigned len = (unsigned)name_address(names[i], raw);
		if (!len && !name_is_dns(names[i]))
			return GNUTLS_E_INVALID_REQUEST;
		rc = gnutls_x509_crq_set_subject_alt_name(
			crq, len ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME,
			len ? (const void *)raw : names[i], len ? len : (unsigned)strlen(names[i]),
			GNUTLS_FSAN_APPEND);
	}
	if (rc == 0 && !name_address(names[0], raw) && strlen(names[0]) <= CN_MAX)
		rc = gnutls_x509_crq_set_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, names[0],
						   (unsigned)strlen(names[0]));
	return rc;
}

static int fill(gnutls_x509_crq_t crq, const struct identity_key *key, const char *const *names, size_t n)
{
	unsigned usage = GNUTLS_KEY_DIGITAL_SIGNATURE, bits = 0;
	int kind = gnutls_pubkey_get_pk_algorithm(key->public, &bits);
	if (kind == GNUTLS_PK_RSA)
		usage |= GNUTLS_KEY_KEY_ENCIPHERMENT;
	int rc = gnutls_x509_crq_set_version(crq, 1);
	if (rc == 0)
		rc = put_names(crq, names, n);
	if (rc == 0)
		rc = gnutls_x509_crq_set_key_usage(crq, usage);
	if (rc == 0)
		rc = gnutls_x509_crq_set_pubkey(crq, key->public);
	if (rc == 0)
		rc = gnutls_x509_crq_privkey_sign(
			crq, key->private,
			kind == GNUTLS_PK_ECDSA && bits > 256 ? GNUTLS_DIG_SHA384 : GNUTLS_DIG_SHA256, 0);
	return rc;
}

int csr_new(const struct identity_key *key, const char *const *names, size_t n, gnutls_datum_t *der)
{
	gnutls_x509_crq_t crq;
	if (n == 0)
		return -EINVAL;
	if (gnutls_x509_crq_init(&crq))
		return -ENOMEM;
	int rc = fill(crq, key, names, n);
	if (rc == 0)
		rc = gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_DER, der);
	gnutls_x509_crq_deinit(crq);
	return rc == 0 ? 0 : rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
}
