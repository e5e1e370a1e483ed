/* SPDX-License-Identifier: MIT */
/* cert - X.509 by GnuTLS: PEM in and out, times, names, and how messages show them.  Pure, any thread. */
#include "core/tls/cert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/utf8.h>

/* ---- PEM ---- */

bool cert_next_block(const char **at, const char *limit, struct cert_block *b)
{
	static const char begin[] = "-----BEGIN ", dashes[] = "-----";
	const char *start = memmem(*at, (size_t)(limit - *at), begin, sizeof begin - 1);

	if (!start)
		return false;
	*b = (struct cert_block){.start = start, .label = start + sizeof begin - 1};
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

bool cert_block_is(const struct cert_block *b, const char *label)
{
	return strlen(label) == b->label_len && memcmp(b->label, label, b->label_len) == 0;
}

bool cert_is_der(const char *text, size_t len)
{
	return len > 4 && (unsigned char)text[0] == 0x30 && (unsigned char)text[1] >= 0x80;
}

static int import(const struct cert_block *b, struct cert_list *list)
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
	struct cert_block b;
	int rc = -EINVAL;

	while (cert_next_block(&at, pem + len, &b)) {
		if (b.label_len && !cert_block_is(&b, "CERTIFICATE") &&
		    !cert_block_is(&b, "X509 CERTIFICATE"))
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
			 cert_is_der(pem, len)
				 ? "; this looks like DER, convert it with openssl x509 -inform der"
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

void cert_each_cn(gnutls_x509_crt_t crt, tls_name_fn *each, void *arg)
{
	gnutls_x509_dn_t dn;

	if (gnutls_x509_crt_get_subject(crt, &dn) == 0)
		tls_each_cn(dn, each, arg);
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
		if (step && !ss_utf8_is_plain(code))
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
	snprintf(buf, CERT_SHOWN, "(of ASN.1 type %zu, which cannot be decoded)", len);
	return buf;
}

static bool show_first(void *arg, const uint8_t *name, size_t len)
{
	cert_show_name(arg, name, len);
	return false;
}

static const char *show_dn(char buf[CERT_SHOWN], gnutls_x509_dn_t dn)
{
	if (tls_each_cn(dn, show_first, buf))
		return buf;
	char *whole = tls_dn_text(dn);
	cert_show_bytes(buf, whole ? whole : "", whole ? strlen(whole) : 0);
	free(whole);
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

const char *cert_show_time(char buf[CERT_SHOWN], int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, CERT_SHOWN, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(buf, CERT_SHOWN, "an unknown time");
	return buf;
}
