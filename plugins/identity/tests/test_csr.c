/* SPDX-License-Identifier: MIT */
/* test_csr - certificate signing requests, read back by GnuTLS and by OpenSSL's command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <cmocka.h>
#include <gnutls/x509.h>
#include "plugins/identity/x509.h"
#include "plugins/identity/names.h"
#include "helper_keys.h"

static struct identity_key *load(const char *pem)
{
	struct identity_key *key = NULL;
	char why[200] = "";

	if (key_load(pem, strlen(pem), &key, why, sizeof why))
		fail_msg("%s", why);
	return key;
}

static gnutls_x509_crq_t request(const char *pem, const char *const *names, size_t n)
{
	struct identity_key *key = load(pem);
	gnutls_x509_crq_t crq;
	gnutls_datum_t der;

	assert_int_equal(csr_new(key, names, n, &der), 0);
	assert_int_equal(gnutls_x509_crq_init(&crq), 0);
	assert_int_equal(gnutls_x509_crq_import(crq, &der, GNUTLS_X509_FMT_DER), 0);
	assert_int_equal(gnutls_x509_crq_verify(crq, 0), 0);
	gnutls_free(der.data);
	key_free(key);
	return crq;
}

static void check_name(gnutls_x509_crq_t crq, unsigned i, const char *expected)
{
	unsigned char raw[16];
	char got[300];
	size_t n = sizeof got, len = name_address(expected, raw);
	unsigned kind;

	int rc = gnutls_x509_crq_get_subject_alt_name(crq, i, got, &n, &kind, NULL);
	assert_int_equal(rc, len ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME);
	assert_int_equal(n, len ? len : strlen(expected));
	assert_memory_equal(got, len ? (const void *)raw : expected, n);
}

static void check_count(gnutls_x509_crq_t crq, unsigned n)
{
	char got[300];
	size_t len = sizeof got;
	unsigned kind;

	assert_int_equal(gnutls_x509_crq_get_subject_alt_name(crq, n, got, &len, &kind, NULL),
			 GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
}

/* NULL: none */
static void check_cn(gnutls_x509_crq_t crq, const char *expected)
{
	char cn[300];
	size_t len = sizeof cn;
	int rc = gnutls_x509_crq_get_dn_by_oid(crq, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &len);

	if (!expected) {
		assert_int_equal(rc, GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(cn, expected);
}

static void has_all_names(void **state)
{
	static const char *const names[] = {"semstreams-a.local", "10.77.0.11", "fd00::1:2",
					    "www.semstreams-a.local", "*.a.example"};

	(void)state;
	gnutls_x509_crq_t crq = request(pem_rfc7515, names, 5);
	for (unsigned i = 0; i < 5; i++)
		check_name(crq, i, names[i]);
	check_count(crq, 5);
	check_cn(crq, "semstreams-a.local");
	gnutls_x509_crq_deinit(crq);
}

/* No CN from an address or from what is too long for one, and never from the second name. */
static void first_name_is_cn_if_it_can_be(void **state)
{
	char name64[65], name65[66];
	const char *address[] = {"192.0.2.7", "a.example"}, *fits[] = {name64},
		   *too_long[] = {name65, "a.example"};

	(void)state;
	memset(name64, 'a', 64);
	memcpy(name64 + 30, ".b.", 3);
	name64[64] = 0;
	memset(name65, 'a', 65);
	memcpy(name65 + 30, ".b.", 3);
	name65[65] = 0;
	gnutls_x509_crq_t crq = request(pem_rfc7515, address, 2);
	check_cn(crq, NULL);
	check_name(crq, 0, "192.0.2.7");
	check_name(crq, 1, "a.example");
	gnutls_x509_crq_deinit(crq);
	crq = request(pem_rfc7515, fits, 1);
	check_cn(crq, name64);
	gnutls_x509_crq_deinit(crq);
	crq = request(pem_rfc7515, too_long, 2);
	check_cn(crq, NULL);
	check_name(crq, 0, name65);
	gnutls_x509_crq_deinit(crq);
}

static void usage_and_signature_fit_the_key(void **state)
{
	static const struct {
		const char *pem;
		unsigned usage;
		gnutls_sign_algorithm_t algorithm;
	} cases[] = {
		{pem_rfc7515, GNUTLS_KEY_DIGITAL_SIGNATURE, GNUTLS_SIGN_ECDSA_SHA256},
		{pem_zero_y_p384, GNUTLS_KEY_DIGITAL_SIGNATURE, GNUTLS_SIGN_ECDSA_SHA384},
		{pem_rsa, GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT, GNUTLS_SIGN_RSA_SHA256},
	};
	static const char *const names[] = {"a.example"};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		gnutls_x509_crq_t crq = request(cases[i].pem, names, 1);
		unsigned usage, critical;
		assert_int_equal(gnutls_x509_crq_get_key_usage(crq, &usage, &critical), 0);
		assert_int_equal(usage, cases[i].usage);
		assert_int_equal(gnutls_x509_crq_get_signature_algorithm(crq), cases[i].algorithm);
		gnutls_x509_crq_deinit(crq);
	}
}

static void refuses_what_is_no_name(void **state)
{
	static const char *const bad[] = {"",       ".",         "a..b", "a.",   ".a",           "-a.b",
					  "a-.b",   "a b",       "a/b",  "a\nb", "b\xc3\xbc.de", "*",
					  "*.",     "a.*.b",     "**.a", "a,b",  "[::1]",        "1.2.3.4/8",
					  "::1%lo", "fe80::1::2"};
	char label64[70], name254[260];
	struct identity_key *key = load(pem_rfc7515);
	gnutls_datum_t der = {0};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const char *names[] = {"a.example", bad[i]};
		if (csr_new(key, names, 2, &der) != -EINVAL || csr_new(key, names + 1, 1, &der) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
	memset(label64, 'a', 64);
	strcpy(label64 + 64, ".b");
	for (size_t i = 0; i < 254; i++)
		name254[i] = i % 2 ? '.' : 'a';
	name254[253] = 'a';
	name254[254] = 0;
	const char *longs[] = {label64, name254};
	assert_int_equal(csr_new(key, longs, 1, &der), -EINVAL);
	assert_int_equal(csr_new(key, longs + 1, 1, &der), -EINVAL);
	assert_int_equal(csr_new(key, longs, 0, &der), -EINVAL);
	assert_null(der.data);
	name254[253] = 0;
	name254[252] = 'a';
	assert_int_equal(csr_new(key, longs + 1, 1, &der), 0);
	gnutls_free(der.data);
	key_free(key);
}

static void sni_of_addresses(void **state)
{
	static const struct {
		const char *name, *sni;
	} cases[] = {
		{"a.example", "a.example"},
		{"192.0.2.7", "7.2.0.192.in-addr.arpa"},
		/* RFC 8738 section 6 */
		{"2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	};
	char out[100];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(name_for_sni(cases[i].name, out, sizeof out), 0);
		assert_string_equal(out, cases[i].sni);
		assert_int_equal(name_for_sni(cases[i].name, out, strlen(cases[i].sni)), -EINVAL);
	}
	assert_int_equal(name_for_sni("a b", out, sizeof out), -EINVAL);
}

static void strangers_texts(void **state)
{
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{"", ""},
		{"Step CA B\xc3\xbcro \xe2\x82\xac \xf0\x9f\x94\x92",
		 "Step CA B\xc3\xbcro \xe2\x82\xac \xf0\x9f\x94\x92"},
		{"a\nb\x1b[31m\x7f", "a?b?[31m?"},
		{"\xc2\x85\xe2\x80\xae\xef\xbb\xbf", "???"},
		{"\xff\xc0\x80\xed\xa0\x80\xf8", "???????"},
		{"cut \xe2\x82", "cut ??"},
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		name_harmless(cases[i].text, strlen(cases[i].text), out, sizeof out);
		assert_string_equal(out, cases[i].shown);
	}
	name_harmless("a\0b", 3, out, sizeof out);
	assert_string_equal(out, "a?b");
	/* cut between characters */
	name_harmless("ab\xe2\x82\xac", 5, out, 5);
	assert_string_equal(out, "ab");
	name_harmless("ab\xe2\x82\xac", 5, out, 6);
	assert_string_equal(out, "ab\xe2\x82\xac");
}

/* What another implementation sees. */
static void openssl_reads_it(void **state)
{
	static const char *const names[] = {"semstreams-a.local", "10.77.0.11", "fd00::1:2"};
	static const char *const pems[] = {pem_rfc7515, pem_zero_y_p384, pem_rsa};

	(void)state;
	if (system("openssl version >/dev/null 2>&1"))
		skip();
	for (size_t i = 0; i < sizeof pems / sizeof pems[0]; i++) {
		struct identity_key *key = load(pems[i]);
		char path[] = "/tmp/test_csr.XXXXXX", command[200], text[8192];
		gnutls_datum_t der;
		assert_int_equal(csr_new(key, names, 3, &der), 0);
		int fd = mkstemp(path);
		assert_int_equal(write(fd, der.data, der.size), der.size);
		close(fd);
		snprintf(command, sizeof command, "openssl req -inform DER -in %s -verify -noout -text 2>&1",
			 path);
		FILE *from = popen(command, "re");
		text[fread(text, 1, sizeof text - 1, from)] = 0;
		assert_int_equal(pclose(from), 0);
		unlink(path);
		assert_non_null(strstr(text, "verify OK"));
		assert_non_null(strstr(text, "Subject: CN = semstreams-a.local\n"));
		assert_non_null(strstr(
			text,
			"DNS:semstreams-a.local, IP Address:10.77.0.11, IP Address:FD00:0:0:0:0:0:1:2\n"));
		assert_non_null(strstr(text, "Digital Signature"));
		gnutls_free(der.data);
		key_free(key);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_all_names),
		cmocka_unit_test(first_name_is_cn_if_it_can_be),
		cmocka_unit_test(usage_and_signature_fit_the_key),
		cmocka_unit_test(refuses_what_is_no_name),
		cmocka_unit_test(sni_of_addresses),
		cmocka_unit_test(strangers_texts),
		cmocka_unit_test(openssl_reads_it),
	};
	return cmocka_run_group_tests_name("csr", tests, NULL, NULL);
}
