/* SPDX-License-Identifier: MIT */
/*
 * crl - see crl.h.  Lists are put together here, as GnuTLS has no way to say why a certificate is revoked,
 * and libcrypto none to sign by a key in a token.  They are read by libcrypto: GnuTLS 3.7 takes minutes for
 * many entries.
 */
#include "pki/revocation/crl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <semstreams/base/file_atomic.h>
#include "pki/certificate.h"

enum {
	BACKDATED = 60, /* seconds, for clocks that are behind */
	LIST_MAX = 256 << 20,
	SERIAL_MAX = 64,
	TAG_INTEGER = 0x02,
	TAG_BITS = 0x03,
	TAG_OCTETS = 0x04,
	TAG_NULL = 0x05,
	TAG_OID = 0x06,
	TAG_ENUMERATED = 0x0a,
	TAG_UTC = 0x17,
	TAG_TIME = 0x18,
	TAG_SEQUENCE = 0x30,
	TAG_EXTENSIONS = 0xa0,
};

/* ---- DER ---- */

static void put(struct ss_strbuf *out, unsigned tag, const void *bytes, size_t len)
{
	unsigned char head[6] = {(unsigned char)tag};
	size_t n = 2;

	if (len < 0x80) {
		head[1] = (unsigned char)len;
	} else {
		unsigned size = len < 0x100 ? 1 : len < 0x10000 ? 2 : len < 0x1000000 ? 3 : 4;
		head[1] = (unsigned char)(0x80 | size);
		for (unsigned i = size; i > 0; i--)
			head[n++] = (unsigned char)(len >> 8 * (i - 1));
	}
	ss_strbuf_add(out, head, n);
	ss_strbuf_add(out, bytes, len);
}

/* Wrap what is in inner, which is empty then. */
static void wrap(struct ss_strbuf *out, unsigned tag, struct ss_strbuf *inner)
{
	put(out, tag, inner->bytes ? inner->bytes : "", inner->len);
	out->failed |= inner->failed;
	ss_strbuf_done(inner);
}

/* A number without a sign. */
static void put_integer(struct ss_strbuf *out, const unsigned char *bytes, size_t len)
{
	unsigned char padded[SERIAL_MAX + 1] = {0};

	for (; len > 1 && !*bytes; len--)
		bytes++;
	bool top = len && (bytes[0] & 0x80);
	memcpy(padded + top, bytes, len);
	put(out, TAG_INTEGER, padded, len + top);
}

static void put_time(struct ss_strbuf *out, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	char text[24];

	gmtime_r(&t, &tm);
	bool late = tm.tm_year >= 150; /* from 2050 on */
	size_t len = strftime(text, sizeof text, late ? "%Y%m%d%H%M%SZ" : "%y%m%d%H%M%SZ", &tm);
	put(out, late ? TAG_TIME : TAG_UTC, text, len);
}

static void put_oid(struct ss_strbuf *out, const char *text)
{
	unsigned char bytes[64];
	size_t len = 0;
	char *at;
	unsigned long first = strtoul(text, &at, 10), n = first * 40 + strtoul(at + 1, &at, 10);

	for (;;) {
		unsigned size = 1;
		for (unsigned long rest = n >> 7; rest; rest >>= 7)
			size++;
		while (size-- && len < sizeof bytes)
			bytes[len++] = (unsigned char)((n >> 7 * size & 0x7f) | (size ? 0x80 : 0));
		if (*at != '.')
			break;
		n = strtoul(at + 1, &at, 10);
	}
	put(out, TAG_OID, bytes, len);
}

/* Takes over the value. */
static void put_extension(struct ss_strbuf *out, const char *oid, struct ss_strbuf *value)
{
	struct ss_strbuf body = {0};

	put_oid(&body, oid);
	wrap(&body, TAG_OCTETS, value);
	wrap(out, TAG_SEQUENCE, &body);
}

/* ---- a list ---- */

static size_t unhex(const char *text, unsigned char out[SERIAL_MAX])
{
	size_t n = 0;
	unsigned byte;

	while (n < SERIAL_MAX && sscanf(text + 2 * n, "%2x", &byte) == 1 && text[2 * n + 1])
		out[n++] = (unsigned char)byte;
	return n;
}

static void put_entry(struct ss_strbuf *out, const struct index_entry *e)
{
	struct ss_strbuf body = {0}, reason = {0}, extensions = {0};
	unsigned char serial[SERIAL_MAX], code = 0;

	put_integer(&body, serial, unhex(e->serial, serial));
	put_time(&body, e->since_s);
	for (size_t i = 0; index_reasons[i].name; i++)
		if (e->reason && strcmp(index_reasons[i].name, e->reason) == 0)
			code = (unsigned char)index_reasons[i].code;
	if (code) { /* RFC 5280: no extension rather than "unspecified" */
		put(&reason, TAG_ENUMERATED, &code, 1);
		put_extension(&extensions, "2.5.29.21", &reason);
		wrap(&body, TAG_SEQUENCE, &extensions);
	}
	wrap(out, TAG_SEQUENCE, &body);
}

/* A certificate that has ended is left out once a list has had it after its end. */
static bool is_listed(const struct crl_order *l, const struct index_entry *e)
{
	return e->since_s && (!e->not_after_s || e->not_after_s + l->life_s >= l->now_s);
}

static void put_extensions(struct ss_strbuf *out, const struct crl_order *l)
{
	struct ss_strbuf all = {0}, one = {0}, inner = {0};
	unsigned char id[64], number[8];
	unsigned critical;
	size_t len = sizeof id;

	if (gnutls_x509_crt_get_subject_key_id(l->ca, id, &len, &critical) == 0) {
		put(&inner, 0x80, id, len); /* keyIdentifier */
		wrap(&one, TAG_SEQUENCE, &inner);
		put_extension(&all, GNUTLS_X509EXT_OID_AUTHORITY_KEY_ID, &one);
	}
	for (unsigned i = 0; i < sizeof number; i++)
		number[i] = (unsigned char)(l->number >> 8 * (7 - i));
	put_integer(&one, number, sizeof number);
	put_extension(&all, "2.5.29.20", &one);
	wrap(&inner, TAG_SEQUENCE, &all);
	wrap(out, TAG_EXTENSIONS, &inner);
}

/* What is signed. */
static int put_body(struct ss_strbuf *out, struct crl_order *l, const struct ss_strbuf *algorithm)
{
	struct ss_strbuf body = {0}, entries = {0};
	gnutls_datum_t name = {0};
	const unsigned char version = 1;

	if (gnutls_x509_crt_get_raw_dn(l->ca, &name))
		return -ENOMEM;
	put(&body, TAG_INTEGER, &version, 1);
	ss_strbuf_add(&body, algorithm->bytes, algorithm->len);
	ss_strbuf_add(&body, name.data, name.size);
	gnutls_free(name.data);
	put_time(&body, l->now_s - BACKDATED);
	put_time(&body, l->now_s + l->life_s);
	for (size_t i = 0; i < l->index->n; i++) {
		if (!is_listed(l, &l->index->entries[i]))
			continue;
		put_entry(&entries, &l->index->entries[i]);
		l->n++;
	}
	if (l->n) /* an empty sequence is not allowed */
		wrap(&body, TAG_SEQUENCE, &entries);
	put_extensions(&body, l);
	wrap(out, TAG_SEQUENCE, &body);
	return out->failed ? -ENOMEM : 0;
}

/* How the key signs, for GnuTLS and in DER. */
static int choose_algorithm(const struct key *key, gnutls_sign_algorithm_t *how, struct ss_strbuf *out,
			    struct fault *f)
{
	struct ss_strbuf body = {0};
	gnutls_digest_algorithm_t digest;
	int kind = gnutls_pubkey_get_pk_algorithm(key->public, NULL);

	if (gnutls_pubkey_get_preferred_hash_algorithm(key->public, &digest, NULL))
		digest = GNUTLS_DIG_SHA256;
	*how = gnutls_pk_to_sign((gnutls_pk_algorithm_t)kind, digest);
	const char *oid = *how == GNUTLS_SIGN_UNKNOWN ? NULL : gnutls_sign_get_oid(*how);
	if (!oid)
		return refuse(f, "a key of this kind cannot sign revocation lists");
	put_oid(&body, oid);
	if (kind == GNUTLS_PK_RSA)
		put(&body, TAG_NULL, "", 0);
	wrap(out, TAG_SEQUENCE, &body);
	return out->failed ? -ENOMEM : 0;
}

/* ---- reading ---- */

/* For libcrypto; NULL: it cannot read it. */
static X509 *x509_of(gnutls_x509_crt_t crt)
{
	gnutls_datum_t der = {0};
	X509 *x = NULL;

	if (gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der) == 0) {
		const unsigned char *at = der.data;
		x = d2i_X509(NULL, &at, (long)der.size);
	}
	gnutls_free(der.data);
	return x;
}

bool crl_is_of(X509_CRL *list, gnutls_x509_crt_t ca)
{
	X509 *x = x509_of(ca);
	EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
	bool yes = key && X509_NAME_cmp(X509_get_subject_name(x), X509_CRL_get_issuer(list)) == 0 &&
		   X509_CRL_verify(list, key) == 1;

	X509_free(x);
	ERR_clear_error();
	return yes;
}

bool crl_has(X509_CRL *list, gnutls_x509_crt_t crt)
{
	X509 *x = x509_of(crt);
	X509_REVOKED *entry;
	bool yes = x && X509_CRL_get0_by_serial(list, &entry, X509_get_serialNumber(x)) == 1;

	X509_free(x);
	return yes;
}

int64_t crl_end(X509_CRL *list)
{
	const ASN1_TIME *end = X509_CRL_get0_nextUpdate(list);
	struct tm tm;

	return end && ASN1_TIME_to_tm(end, &tm) == 1 ? timegm(&tm) : INT64_MAX;
}

bool crl_number(X509_CRL *list, uint64_t *out)
{
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(list, NID_crl_number, NULL, NULL);
	bool fits = !number || ASN1_INTEGER_get_uint64(out, number) == 1;

	if (!number)
		*out = 0;
	ASN1_INTEGER_free(number);
	ERR_clear_error();
	return fits && *out < UINT64_MAX;
}

static int take(struct crls *to, X509_CRL *list)
{
	X509_CRL **grown = realloc(to->v, (to->n + 1) * sizeof(*grown));

	if (!grown) {
		X509_CRL_free(list);
		return -ENOMEM;
	}
	to->v = grown;
	to->v[to->n++] = list;
	return 0;
}

static int parse(const char *bytes, size_t len, struct crls *to)
{
	const unsigned char *at = (const unsigned char *)bytes;
	X509_CRL *list;
	int rc = 0;

	if (!memmem(bytes, len, "-----BEGIN", 10)) {
		list = d2i_X509_CRL(NULL, &at, (long)len);
		return list ? take(to, list) : 0;
	}
	BIO *bio = BIO_new_mem_buf(bytes, (int)len);
	while (bio && rc == 0 && (list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)))
		rc = take(to, list);
	BIO_free(bio);
	if (rc == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		rc = -EINVAL; /* not the end, but one that is damaged */
	return bio ? rc : -ENOMEM;
}

int crls_load(const char *path, struct crls *out, struct fault *f)
{
	char *bytes;
	size_t len;

	*out = (struct crls){0};
	int rc = ss_file_read(AT_FDCWD, path, LIST_MAX, &bytes, &len, NULL);
	if (rc == -ENOMEM || rc == -ENOENT)
		return rc;
	if (rc)
		return refuse(f, "%s: the revocation list cannot be read: %s", path, strerror(-rc));
	rc = parse(bytes, len, out);
	free(bytes);
	ERR_clear_error();
	if (rc == -EINVAL || (rc == 0 && out->n == 0))
		rc = refuse(f, "%s: there is no revocation list in it, or a damaged one", path);
	if (rc)
		crls_done(out);
	return rc;
}

void crls_done(struct crls *c)
{
	for (size_t i = 0; i < c->n; i++)
		X509_CRL_free(c->v[i]);
	free(c->v);
	*c = (struct crls){0};
}

/* ---- signing ---- */

/* Would others take it? */
static int check(const gnutls_datum_t *der, gnutls_x509_crt_t ca, struct fault *f)
{
	const unsigned char *at = der->data;
	X509_CRL *list = d2i_X509_CRL(NULL, &at, (long)der->size);
	bool good = list && crl_is_of(list, ca);

	X509_CRL_free(list);
	ERR_clear_error();
	return good ? 0 : refuse(f, "the revocation list does not verify with the CA's certificate");
}

int crl_make(struct crl_order *l, struct ss_strbuf *out, struct fault *f)
{
	struct ss_strbuf algorithm = {0}, body = {0}, whole = {0};
	gnutls_datum_t signature = {0}, d;
	gnutls_sign_algorithm_t how;
	int rc = choose_algorithm(l->key, &how, &algorithm, f);

	if (rc == 0)
		rc = put_body(&body, l, &algorithm);
	if (rc == 0) {
		d = (gnutls_datum_t){(unsigned char *)body.bytes, (unsigned)body.len};
		rc = gnutls_privkey_sign_data2(l->key->private, how, 0, &d, &signature);
		if (rc)
			rc = refuse(f, "the revocation list cannot be signed: %s", gnutls_strerror(rc));
	}
	if (rc == 0) {
		struct ss_strbuf bits = {0};
		ss_strbuf_add(&body, algorithm.bytes, algorithm.len);
		ss_strbuf_char(&bits, '\0'); /* no bit of the last byte is unused */
		ss_strbuf_add(&bits, signature.data, signature.size);
		wrap(&body, TAG_BITS, &bits);
		wrap(&whole, TAG_SEQUENCE, &body);
		d = (gnutls_datum_t){(unsigned char *)whole.bytes, (unsigned)whole.len};
		rc = whole.failed ? -ENOMEM : check(&d, l->ca, f);
	}
	if (rc == 0) {
		gnutls_datum_t pem = {0};
		rc = gnutls_pem_base64_encode2("X509 CRL", &d, &pem) ? -ENOMEM : 0;
		ss_strbuf_add(out, pem.data, pem.size);
		gnutls_free(pem.data);
	}
	gnutls_free(signature.data);
	ss_strbuf_done(&algorithm);
	ss_strbuf_done(&body);
	ss_strbuf_done(&whole);
	return rc ? rc : out->failed ? -ENOMEM : 0;
}
