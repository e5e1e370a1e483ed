/* SPDX-License-Identifier: MIT */
/* csr - certificate signing requests, by GnuTLS.  Pure, any thread. */
#include "csr.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/x509.h>
#include "names.h"

enum { CN_MAX = 64 }; /* bytes; RFC 5280, ub-common-name */

static bool seen_before(const char *const *names, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcasecmp(names[k], names[i]) == 0)
			return true;
	return false;
}

static int put_names(gnutls_x509_crq_t crq, const char *const *names, size_t n)
{
	unsigned char raw[16];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		unsigned len = (unsigned)name_address(names[i], raw);
		if (!len && !name_is_dns(names[i]))
			return GNUTLS_E_INVALID_REQUEST;
		if (seen_before(names, i))
			continue;
		if (len)
			rc = gnutls_x509_crq_set_subject_alt_name(crq, GNUTLS_SAN_IPADDRESS, raw, len,
								  GNUTLS_FSAN_APPEND);
		else
			rc = gnutls_x509_crq_set_subject_alt_name(crq, GNUTLS_SAN_DNSNAME, names[i],
								  (unsigned)strlen(names[i]),
								  GNUTLS_FSAN_APPEND);
	}
	if (rc == 0 && !name_address(names[0], raw) && strlen(names[0]) <= CN_MAX)
		rc = gnutls_x509_crq_set_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, names[0],
						   (unsigned)strlen(names[0]));
	return rc;
}

static int fill(gnutls_x509_crq_t crq, const struct acme_key *key, const char *const *names, size_t n)
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

int csr_new(const struct acme_key *key, const char *const *names, size_t n, uint8_t **der, size_t *len)
{
	gnutls_x509_crq_t crq;
	gnutls_datum_t d = {0};
	uint8_t *copy = NULL;

	if (n == 0)
		return -EINVAL;
	if (gnutls_x509_crq_init(&crq))
		return -ENOMEM;
	int rc = fill(crq, key, names, n);
	if (rc == 0)
		rc = gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_DER, &d);
	if (rc == 0) {
		copy = malloc(d.size);
		rc = copy ? 0 : GNUTLS_E_MEMORY_ERROR;
	}
	if (rc == 0) {
		memcpy(copy, d.data, d.size);
		*der = copy;
		*len = d.size;
	}
	gnutls_free(d.data);
	gnutls_x509_crq_deinit(crq);
	return rc == 0 ? 0 : rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
}
