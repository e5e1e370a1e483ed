/* SPDX-License-Identifier: MIT */
/* fuzz_acme_chain - any bytes as a chain from a CA, as PEM or as DER that is put into PEM here: what is taken
 * is written so that it is taken again, and nothing that is told of it can do harm. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <gnutls/gnutls.h>
#include "plugins/identity/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
	const char *end = memchr(text, 0, size);

	if (!end)
		abort();
	for (; text < end; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			abort();
}

static void check(const struct chain_info *info)
{
	struct chain_info again;
	char why[200];

	if (info->n == 0 || info->n > CHAIN_MAX || info->not_before < 0 ||
	    info->not_after <= info->not_before)
		abort();
	check_text(info->subject, sizeof info->subject);
	check_text(info->issuer, sizeof info->issuer);
	check_text(info->root, sizeof info->root);
	check_text(info->serial, sizeof info->serial);
	check_text(info->ari_id, sizeof info->ari_id);
	if (chain_read(info->pem, strlen(info->pem), NULL, NULL, 0, &again, why, sizeof why) ||
	    again.n != info->n || strcmp(again.pem, info->pem) != 0)
		abort();
	chain_done(&again);
}

static void read_text(const char *pem, size_t len, const char *const *names, size_t n)
{
	struct chain_info info = {0};
	char why[200] = "";
	int rc = chain_read(pem, len, NULL, names, n, &info, why, sizeof why);

	if (rc == 0) {
		check(&info);
		chain_done(&info);
	} else if (info.pem || (rc == -EINVAL && !*why)) {
		abort();
	}
	check_text(why, sizeof why);
}

/* Certificates, each behind its length in two bytes; what is left is the last one. */
static char *wrap(const uint8_t *data, size_t size)
{
	char *all = calloc(1, 2 * size + 100 * (size / 3 + 2));

	while (size > 0) {
		size_t len = size > 2 ? (size_t)data[0] << 8 | data[1] : 0, skip = 2;
		if (len == 0 || len > size - 2) {
			len = size;
			skip = 0;
		}
		gnutls_datum_t der = {(unsigned char *)(uintptr_t)(data + skip), (unsigned)len}, pem;
		if (gnutls_pem_base64_encode2("CERTIFICATE", &der, &pem) == 0) {
			strcat(all, (const char *)pem.data);
			gnutls_free(pem.data);
		}
		data += skip + len;
		size -= skip + len;
	}
	return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a.example", "192.0.2.7"};

	if (size < 1 || size > 20000)
		return 0;
	size_t n = data[0] & 1 ? 2 : 1;
	const char *const *wanted = data[0] & 2 ? names : NULL;
	if (data[0] & 4) {
		char *pem = wrap(data + 1, size - 1);
		read_text(pem, strlen(pem), wanted, n);
		free(pem);
	} else {
		read_text((const char *)data + 1, size - 1, wanted, n);
	}
	return 0;
}
