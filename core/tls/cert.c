/* SPDX-License-Identifier: MIT */
/* cert - X.509 by GnuTLS: PEM in and out, times, names, and how messages show them.  Pure, any thread. */
#include "core/tls/cert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <gnutls/x509-ext.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/tls-openssl.h>

/* ---- PEM ---- */

struct block {
	const char *label, *start, *end; /* start is at BEGIN, end behind the END line; NULL: it is missing */
	size_t label_len;
};

/* The next PEM block at or behind *at, which moves behind it. */
static bool next_block(const char **at, const char *limit, struct block *b)
{
	static const char begin[] = "-----BEGIN ", dashes[] = "-----";
	const char *start = memmem(*at, (size_t)(limit - *at), begin, sizeof begin - 1);

	if (!start)
		return false;
	*b = (struct block){.start = start, .label = start + sizeof begin - 1};
	*at = limit;
	const char *label_end = memmem(b->label, (size_t)(limit - b->label), dashes, sizeof dashes - 1);
	if (!label_end || label_end - b->label > 40)
		return true;
	b->label_len = (size_t)(label_end - b->label);

	char mark[64];
	int n = snprintf(mark, sizeof mark, "-----END %.*s-----", (int)b->label_len, b->label);
	const char *body = label_end + sizeof dashes - 1;
	const char *end = memmem(body, (size_t)(limit - body), mark, (size_t)n);
	const char *other = memmem(body, (size_t)(limit - body), begin, sizeof begin - 1);
	if (!end || (other && other < end))
		return true;
	b->end = *at = end + n;
	return true;
}

static bool label_is(const struct block *b, const char *label)
{
	return strlen(label) == b->label_len && memcmp(b->label, label, b->label_len) == 0;
}

static bool is_der(const char *text, size_t len)
{
	return len > 4 && (unsigned char)text[0] == 0x30 && (unsigned char)text[1] >= 0x80;
}

static int import(const struct block *b, struct cert_list *list)
{
	gnutls_datum_t d = cert_datum(b->start, (size_t)(b->end - b->start));
	gnutls_x509_crt_t *grown = realloc(list->certs, (list->n + 1) * sizeof *grown);

	if (!grown)
		return GNUTLS_E_MEMORY_ERROR;
	list->certs = grown;
	int rc = gnutls_x509_crt_init(&grown[list->n]);
	if (rc == 0)
		list->n++;
	return rc ? rc : gnutls_x509_crt_import(grown[list->n - 1], &d, GNUTLS_X509_FMT_PEM);
}

int cert_list_load(const char *pem, size_t len, unsigned max, struct cert_list *out, char *why,
		   size_t why_size)
{
	struct cert_list list = {0};
	const char *at = pem;
	struct block b;
	int rc = -EINVAL;

	while (next_block(&at, pem + len, &b)) {
		if (b.label_len && !label_is(&b, "CERTIFICATE") && !label_is(&b, "X509 CERTIFICATE"))
			continue;
		if (!b.end) {
			snprintf(why, why_size, "certificate %u is cut off, its END line is missing",
				 list.n + 1);
			goto out;
		}
		if (list.n == max) {
			snprintf(why, why_size, "more than %u certificates", max);
			goto out;
		}
		int r = import(&b, &list);
		if (r == GNUTLS_E_MEMORY_ERROR) {
			rc = -ENOMEM;
			goto out;
		}
		if (r) {
			snprintf(why, why_size, "certificate %u cannot be read: %s", list.n,
				 gnutls_strerror(r));
			goto out;
		}
	}
	if (list.n == 0) {
		snprintf(why, why_size, "holds no certificate in PEM form%s",
			 is_der(pem, len) ? "; this looks like DER, convert it with openssl x509 -inform der"
					  : "");
		goto out;
	}
	*out = list;
	return 0;
out:
	cert_list_free(&list);
	return rc;
}

void cert_list_free(struct cert_list *list)
{
	for (unsigned i = 0; i < list->n; i++)
		gnutls_x509_crt_deinit(list->certs[i]);
	free(list->certs);
	*list = (struct cert_list){0};
}

int cert_from_der(const void *der, size_t len, gnutls_x509_crt_t *out)
{
	gnutls_datum_t d = cert_datum(der, len);
	gnutls_x509_crt_t crt;

	if (!der || len == 0 || len > CERT_MAX_DER || gnutls_x509_crt_init(&crt))
		return -EINVAL;
	if (gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_DER)) {
		gnutls_x509_crt_deinit(crt);
		return -EINVAL;
	}
	*out = crt;
	return 0;
}

/* Take it over by GnuTLS.  OpenSSL has computed the public part if it was missing, and is told to write it.
 */
static int take_key(EVP_PKEY *from, gnutls_x509_privkey_t to)
{
	gnutls_datum_t d = {0};

	if (EVP_PKEY_is_a(from, "EC"))
		EVP_PKEY_set_int_param(from, OSSL_PKEY_PARAM_EC_INCLUDE_PUBLIC, 1);
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(from);
	int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &d.data) : -1;
	PKCS8_PRIV_KEY_INFO_free(info);
	if (len <= 0)
		return GNUTLS_E_MEMORY_ERROR;
	d.size = (unsigned)len;
	int rc = gnutls_x509_privkey_import2(to, &d, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN);
	OPENSSL_clear_free(d.data, (size_t)len);
	return rc;
}

static bool is_explicit(const EVP_PKEY *key)
{
	char how[32] = "";

	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, how, sizeof how, NULL) == 1 &&
	       strcmp(how, OSSL_PKEY_EC_ENCODING_EXPLICIT) == 0;
}

/* OpenSSL reads more kinds of keys, GnuTLS works with what it has read. */
static int import_key(const struct block *b, gnutls_x509_privkey_t *out, char *why, size_t why_size)
{
	EVP_PKEY *key = tls_openssl_key(b->start, (size_t)(b->end - b->start));
	gnutls_x509_privkey_t to = NULL;
	char shown[CERT_SHOWN];
	int rc = -EINVAL;

	if (!key) {
		const char *reason = ERR_reason_error_string(ERR_peek_error());
		snprintf(why, why_size, "the private key cannot be read: %s",
			 reason ? reason : "unknown reason");
		goto out;
	}
	if (is_explicit(key)) {
		snprintf(why, why_size,
			 "the private key has explicit curve parameters, which TLS does not know; name its "
			 "curve with "
			 "openssl ec -param_enc named_curve, and have the certificate issued anew");
		goto out;
	}
	int err = gnutls_x509_privkey_init(&to);
	if (err == 0)
		err = take_key(key, to);
	if (err == 0) {
		*out = to;
		to = NULL;
		rc = 0;
	} else if (err == GNUTLS_E_MEMORY_ERROR) {
		rc = -ENOMEM;
	} else {
		snprintf(why, why_size,
			 "it holds %s, which is not supported; usable are RSA from 2048 bits on, EC on "
			 "P-256, P-384 or "
			 "P-521, Ed25519",
			 cert_show_key(shown, key));
	}
out:
	if (to)
		gnutls_x509_privkey_deinit(to);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return rc;
}

/* What a file without a key that can be read holds instead, as the end of a message. */
static const char *instead_of_key(const char *pem, size_t len)
{
	static const char ssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----";

	if (memmem(pem, len, ssh, sizeof ssh - 1))
		return "; this is OpenSSH's own, convert it with ssh-keygen -p -m PKCS8";
	if (is_der(pem, len))
		return "; this looks like DER, convert it with openssl pkey -inform der";
	return "";
}

int cert_key_load(const char *pem, size_t len, gnutls_x509_privkey_t *out, char *why, size_t why_size)
{
	static const char *const labels[] = {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY",
					     "DSA PRIVATE KEY"};
	static const char old_style[] = "4,ENCRYPTED";
	const char *at = pem;
	struct block b;

	while (next_block(&at, pem + len, &b)) {
		bool known = false;
		for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++)
			known |= label_is(&b, labels[i]);
		if (!b.end && (known || b.label_len == 0)) {
			snprintf(why, why_size, "the private key is cut off, its END line is missing");
			return -EINVAL;
		}
		if (label_is(&b, "ENCRYPTED PRIVATE KEY") ||
		    (known && memmem(b.start, (size_t)(b.end - b.start), old_style, sizeof old_style - 1))) {
			snprintf(why, why_size,
				 "the private key is encrypted; decrypt it with openssl pkey -in ... -out "
				 "...");
			return -EINVAL;
		}
		if (known)
			return import_key(&b, out, why, why_size);
	}
	snprintf(why, why_size, "holds no private key in PEM form%s", instead_of_key(pem, len));
	return -EINVAL;
}

bool cert_key_matches(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
	unsigned char of_crt[64], of_key[64];
	size_t n_crt = sizeof of_crt, n_key = sizeof of_key;

	return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n_crt) == 0 &&
	       gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) == 0 &&
	       n_crt == n_key && memcmp(of_crt, of_key, n_crt) == 0;
}

char *cert_list_pem(const struct cert_list *list, unsigned first)
{
	char *pem = NULL;
	size_t len;
	bool good = true;
	FILE *to = open_memstream(&pem, &len);

	if (!to)
		return NULL;
	for (unsigned i = first; i < list->n && good; i++) {
		gnutls_datum_t d;
		good = gnutls_x509_crt_export2(list->certs[i], GNUTLS_X509_FMT_PEM, &d) == 0;
		if (!good)
			break;
		fwrite(d.data, 1, d.size, to);
		gnutls_free(d.data);
	}
	if (fclose(to) || !good) {
		free(pem);
		return NULL;
	}
	return pem;
}

char *cert_key_pem(gnutls_x509_privkey_t key)
{
	gnutls_datum_t d;

	if (gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d))
		return NULL;
	char *pem = malloc(d.size + 1);
	if (pem) {
		memcpy(pem, d.data, d.size);
		pem[d.size] = '\0';
	}
	explicit_bzero(d.data, d.size);
	gnutls_free(d.data);
	return pem;
}

/* ---- times ---- */

int64_t cert_not_before(gnutls_x509_crt_t crt)
{
	return gnutls_x509_crt_get_activation_time(crt);
}

int64_t cert_not_after(gnutls_x509_crt_t crt)
{
	const int64_t end_of_9999 = 253402300799;
	time_t t = gnutls_x509_crt_get_expiration_time(crt);

	return t == GNUTLS_X509_NO_WELL_DEFINED_EXPIRATION ? end_of_9999 : t;
}

/* ---- names ---- */

/*
 * Pass a CN on in UTF-8.  A TeletexString counts as Latin-1, as those who write it mean it and others read
 * it.  Strings of one byte a letter go as they are: what is not ASCII in them matches nothing but itself.
 */
static bool pass_cn(const gnutls_x509_ava_st *ava, cert_each_fn *each, void *arg)
{
	ASN1_STRING value = {
		.length = (int)ava->value.size, .type = (int)ava->value_tag, .data = ava->value.data};
	unsigned char *text = NULL;
	int len;

	switch (value.type) {
	case V_ASN1_UTF8STRING:
	case V_ASN1_PRINTABLESTRING:
	case V_ASN1_IA5STRING:
	case V_ASN1_NUMERICSTRING:
	case V_ASN1_VISIBLESTRING:
		return each(arg, ava->value.data, ava->value.size);
	case V_ASN1_T61STRING:
	case V_ASN1_BMPSTRING:
	case V_ASN1_UNIVERSALSTRING:
		len = ASN1_STRING_to_UTF8(&text, &value);
		break;
	default:
		len = -1;
	}
	ERR_clear_error();
	bool more = len < 0 ? each(arg, NULL, ava->value_tag) : each(arg, text, (size_t)len);
	OPENSSL_free(text);
	return more;
}

static bool dn_each_cn(gnutls_x509_dn_t dn, cert_each_fn *each, void *arg)
{
	static const char cn[] = GNUTLS_OID_X520_COMMON_NAME;
	gnutls_x509_ava_st ava;
	bool any = false;

	for (int rdn = 0;; rdn++) {
		int i = 0;
		for (; gnutls_x509_dn_get_rdn_ava(dn, rdn, i, &ava) == 0; i++) {
			size_t n = strnlen((const char *)ava.oid.data, ava.oid.size);
			if (n != sizeof cn - 1 || memcmp(ava.oid.data, cn, n) != 0)
				continue;
			any = true;
			if (!pass_cn(&ava, each, arg))
				return any;
		}
		if (i == 0)
			return any;
	}
}

void cert_each_cn(gnutls_x509_crt_t crt, cert_each_fn *each, void *arg)
{
	gnutls_x509_dn_t dn;

	if (gnutls_x509_crt_get_subject(crt, &dn) == 0)
		dn_each_cn(dn, each, arg);
}

int cert_each_san(gnutls_x509_crt_t crt, unsigned kind, cert_each_fn *each, void *arg)
{
	gnutls_subject_alt_names_t names = NULL;
	gnutls_datum_t extension = {0}, name;
	unsigned critical, type;

	int rc = gnutls_x509_crt_get_extension_by_oid2(crt, GNUTLS_X509EXT_OID_SAN, 0, &extension, &critical);
	if (rc)
		return rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? 0 : -EINVAL;
	rc = gnutls_subject_alt_names_init(&names);
	if (rc == 0)
		rc = gnutls_x509_ext_import_subject_alt_names(&extension, names, 0);
	for (unsigned i = 0; rc == 0; i++) {
		rc = gnutls_subject_alt_names_get(names, i, &type, &name, NULL);
		if (rc == 0 && type == kind && !each(arg, name.data, name.size))
			break;
	}
	if (names)
		gnutls_subject_alt_names_deinit(names);
	gnutls_free(extension.data);
	return rc == 0 || rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? 0 : -EINVAL;
}

/* ---- for messages ---- */

const char *cert_show_bytes(char buf[CERT_SHOWN], const void *bytes, size_t len)
{
	const char *from = bytes;
	size_t n = 1, room = CERT_SHOWN - sizeof "...'";
	uint32_t code;

	buf[0] = '\'';
	for (size_t i = 0, step; i < len; i += step) {
		unsigned char c = (unsigned char)from[i];
		bool plain = c >= 0x20 && c != '\'' && c != '\\' && c != 0x7f;
		step = plain ? ss_utf8_next(from + i, len - i, &code) : 0;
		if (c >= 0x80 && step && code < 0xa0) /* control characters too */
			step = 0;
		if (n + (step ? step : 4) > room) {
			memcpy(buf + n, "...", 3);
			n += 3;
			break;
		}
		if (step) {
			memcpy(buf + n, from + i, step);
			n += step;
		} else {
			n += (size_t)snprintf(buf + n, 5, "\\x%02x", c);
			step = 1;
		}
	}
	memcpy(buf + n, "'", 2);
	return buf;
}

const char *cert_show_name(char buf[CERT_SHOWN], const uint8_t *name, size_t len)
{
	if (name)
		return cert_show_bytes(buf, name, len);
	snprintf(buf, CERT_SHOWN, "(of type %s, tag %zu, which cannot be decoded)", ASN1_tag2str((int)len),
		 len);
	return buf;
}

static bool show_first(void *arg, const uint8_t *name, size_t len)
{
	cert_show_name(arg, name, len);
	return false;
}

static const char *show_dn(char buf[CERT_SHOWN], gnutls_x509_dn_t dn)
{
	gnutls_datum_t whole;

	if (dn_each_cn(dn, show_first, buf))
		return buf;
	if (gnutls_x509_dn_get_str2(dn, &whole, 0))
		return cert_show_bytes(buf, "", 0);
	cert_show_bytes(buf, whole.data, whole.size);
	gnutls_free(whole.data);
	return buf;
}

const char *cert_show_subject(char buf[CERT_SHOWN], gnutls_x509_crt_t crt)
{
	gnutls_x509_dn_t dn;

	return gnutls_x509_crt_get_subject(crt, &dn) ? cert_show_bytes(buf, "", 0) : show_dn(buf, dn);
}

const char *cert_show_issuer(char buf[CERT_SHOWN], gnutls_x509_crt_t crt)
{
	gnutls_x509_dn_t dn;

	return gnutls_x509_crt_get_issuer(crt, &dn) ? cert_show_bytes(buf, "", 0) : show_dn(buf, dn);
}

const char *cert_show_key(char buf[CERT_SHOWN], const EVP_PKEY *key)
{
	const char *type = key ? EVP_PKEY_get0_type_name(key) : NULL;
	char group[40] = "";
	size_t len;

	if (!type)
		snprintf(buf, CERT_SHOWN, "a key that cannot be read");
	else if (EVP_PKEY_is_a(key, "EC"))
		snprintf(buf, CERT_SHOWN, "an EC key on %s%s",
			 EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1
				 ? "curve "
				 : "a curve without a name",
			 group);
	else
		snprintf(buf, CERT_SHOWN, "%s %s key of %d bits",
			 strchr("AEFHILMNORSX", type[0]) ? "an" : "a", type, EVP_PKEY_get_bits(key));
	return buf;
}

const char *cert_show_time(char buf[CERT_SHOWN], int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, CERT_SHOWN, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, CERT_SHOWN, "an unknown time");
	return buf;
}
