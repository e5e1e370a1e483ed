/* SPDX-License-Identifier: MIT */
/* test_key - private keys: those that OpenSSL writes, new ones, and everything that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include "plugins/identity/key.h"
#include "helper_keys.h"

static struct identity_key *load(const char *pem)
{
	struct identity_key *key = NULL;
	char why[200] = "";

	if (key_load(pem, strlen(pem), &key, why, sizeof why))
		fail_msg("%s", why);
	return key;
}

static void refuses(const char *pem, size_t len, const char *why_part)
{
	struct identity_key *key = NULL;
	char why[200] = "";

	assert_int_equal(key_load(pem, len, &key, why, sizeof why), -EINVAL);
	assert_null(key);
	if (!strstr(why, why_part))
		fail_msg("\"%s\" does not say \"%s\"", why, why_part);
}

static bool same(const struct identity_key *a, const struct identity_key *b)
{
	unsigned char id_a[32], id_b[32];
	size_t n_a = sizeof id_a, n_b = sizeof id_b;

	assert_int_equal(gnutls_pubkey_get_key_id(a->public, GNUTLS_KEYID_USE_SHA256, id_a, &n_a), 0);
	assert_int_equal(gnutls_pubkey_get_key_id(b->public, GNUTLS_KEYID_USE_SHA256, id_b, &n_b), 0);
	return n_a == n_b && memcmp(id_a, id_b, n_a) == 0;
}

static void reads_all_forms(void **state)
{
	(void)state;
	struct identity_key *pkcs8 = load(pem_rfc7515), *sec1 = load(pem_rfc7515_sec1), *rsa = load(pem_rsa),
			    *p384 = load(pem_zero_y_p384), *parameters = load(pem_ec_with_parameters);

	assert_true(same(pkcs8, sec1));
	assert_false(same(pkcs8, rsa));
	assert_false(same(pkcs8, p384));
	assert_false(same(pkcs8, parameters));
	assert_int_equal(gnutls_privkey_get_pk_algorithm(rsa->private, NULL), GNUTLS_PK_RSA);
	key_free(pkcs8);
	key_free(sec1);
	key_free(rsa);
	key_free(p384);
	key_free(parameters);
}

static void keeps_what_it_reads(void **state)
{
	static const char *const pems[] = {pem_rfc7515_sec1, pem_zero_x, pem_zero_y_p384, pem_rsa};

	(void)state;
	for (size_t i = 0; i < sizeof pems / sizeof pems[0]; i++) {
		struct identity_key *key = load(pems[i]);
		char *pem = key_pem(key);
		assert_string_equal(pem, pems[i]);
		key_text_free(pem);
		key_free(key);
	}
}

static void makes_new_ones(void **state)
{
	(void)state;
	struct identity_key *a, *b;
	gnutls_ecc_curve_t curve;

	assert_int_equal(key_new(&a), 0);
	assert_int_equal(key_new(&b), 0);
	assert_false(same(a, b));
	assert_int_equal(gnutls_pubkey_export_ecc_raw2(a->public, &curve, NULL, NULL, 0), 0);
	assert_int_equal(curve, GNUTLS_ECC_CURVE_SECP256R1);
	char *pem = key_pem(a);
	struct identity_key *again = load(pem);
	assert_true(same(a, again));
	key_text_free(pem);
	key_free(a);
	key_free(b);
	key_free(again);
}

/* As OpenSSL writes them.  Half of the secret numbers have their highest bit set, one of 256 begins with a
 * zero byte. */
static void writes_new_ones_in_full(void **state)
{
	/* up to the secret number */
	const size_t same_in_all = strlen("-----BEGIN PRIVATE KEY-----\n") + 48;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		struct identity_key *key;
		assert_int_equal(key_new(&key), 0);
		char *pem = key_pem(key);
		assert_int_equal(strlen(pem), strlen(pem_rfc7515));
		assert_memory_equal(pem, pem_rfc7515, same_in_all);
		struct identity_key *again = load(pem);
		assert_true(same(key, again));
		key_text_free(pem);
		key_free(key);
		key_free(again);
	}
}

static void refuses_other_kinds(void **state)
{
	(void)state;
	refuses(pem_rsa_short, strlen(pem_rsa_short), "1024 bits");
	refuses(pem_p521, strlen(pem_p521), "SECP521R1");
	refuses(pem_ed25519, strlen(pem_ed25519), "P-256, P-384");
	refuses(pem_encrypted, strlen(pem_encrypted), "encrypted");
	refuses(pem_sec1_encrypted, strlen(pem_sec1_encrypted), "encrypted");
}

static void refuses_broken_text(void **state)
{
	static const char cert[] = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
	static const char noise[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
	size_t large = 1 << 20;
	char *huge = calloc(1, large);

	(void)state;
	refuses("", 0, "no private key");
	refuses("\0\0", 2, "no private key");
	refuses(cert, strlen(cert), "a certificate but no private key");
	refuses(noise, strlen(noise), "cannot be read");
	refuses(huge, large, "too large");
	free(huge);
	/* cut off at any place: never taken, never a crash */
	size_t whole = (size_t)(strstr(pem_rfc7515, "-----END") - pem_rfc7515);
	for (size_t n = 0; n < whole; n++) {
		char *part = malloc(n + !n);
		memcpy(part, pem_rfc7515, n);
		refuses(part, n, "private key");
		free(part);
	}
}

/* The public half in the file belongs to another key. */
static void refuses_a_key_that_does_not_fit_itself(void **state)
{
	static const char mixed[] = "-----BEGIN PRIVATE KEY-----\n"
				    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA\n"
				    "AAAAAAAAAAAAAAAAAAAAAAAAAAGhRANCAAR/zc4ncPbEXUGDy+5v20t7WAczNXvp\n"
				    "7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt\n"
				    "-----END PRIVATE KEY-----\n";

	(void)state;
	refuses(mixed, strlen(mixed), "damaged");
}

static void frees_nothing(void **state)
{
	(void)state;
	key_free(NULL);
	key_text_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_all_forms),
		cmocka_unit_test(keeps_what_it_reads),
		cmocka_unit_test(makes_new_ones),
		cmocka_unit_test(writes_new_ones_in_full),
		cmocka_unit_test(refuses_other_kinds),
		cmocka_unit_test(refuses_broken_text),
		cmocka_unit_test(refuses_a_key_that_does_not_fit_itself),
		cmocka_unit_test(frees_nothing),
	};
	return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
