/* SPDX-License-Identifier: MIT */
/* Revocation lists: whom they name and whom not, which of two counts, what is refused, and until when a
 * verdict holds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <gnutls/abstract.h>
#include <semstreams/ext/tls.h>
#include "core/tls/tls_crl.h"
#include "core/tls/tls_trial.h"
#include "core/tls/tls_trust.h"
#include "sdk/test-host/tests/tls_certs.h"

#define CA_USAGE .ca = true, .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN

static const struct tls_trial *trial;
static struct cert root, tenant, other, leaf, stranger;

static int set_up(void **state)
{
	char why[512] = "";

	(void)state;
	trial = tls_trial_open(TLS_MODULE, why, sizeof why);
	if (!trial)
		fail_msg("%s", why);
	root = cert_make(&(struct cert_spec){.cns = {{"Root", 0}}, CA_USAGE}, NULL);
	stranger = cert_make(&(struct cert_spec){.cns = {{"Stranger", 0}}, CA_USAGE}, NULL);
	tenant = cert_make(&(struct cert_spec){.cns = {{"Tenant", 0}}, CA_USAGE}, &root);
	other = cert_make(&(struct cert_spec){.cns = {{"Other", 0}}, CA_USAGE}, &root);
	leaf = cert_make(&(struct cert_spec){.cns = {{"device-1", 0}}}, &tenant);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cert_drop(&root);
	cert_drop(&stranger);
	cert_drop(&tenant);
	cert_drop(&other);
	cert_drop(&leaf);
	return 0;
}

/* ---- lists ---- */

struct list {
	const struct cert *issuer, *revoked[4];
	const unsigned char *serial; /* one more */
	size_t serial_len;
	int64_t from, to; /* 0: an hour around CERT_NOW */
	bool sha1;
};

/* PEM, malloced; with the certificate of the issuer if it is to stand beside. */
static char *make_list(const struct list *l, const struct cert *beside)
{
	gnutls_x509_crl_t crl;
	gnutls_datum_t d;
	char *pem = NULL;
	size_t len;
	const unsigned char number[] = {1};

	CERT_OK(gnutls_x509_crl_init(&crl));
	CERT_OK(gnutls_x509_crl_set_version(crl, 2));
	CERT_OK(gnutls_x509_crl_set_this_update(crl, l->from ? l->from : CERT_NOW - 3600));
	CERT_OK(gnutls_x509_crl_set_next_update(crl, l->to ? l->to : CERT_NOW + 3600));
	CERT_OK(gnutls_x509_crl_set_number(crl, number, sizeof number));
	for (size_t i = 0; i < 4 && l->revoked[i]; i++)
		CERT_OK(gnutls_x509_crl_set_crt(crl, l->revoked[i]->crt, CERT_NOW - 60));
	if (l->serial)
		CERT_OK(gnutls_x509_crl_set_crt_serial(crl, l->serial, l->serial_len, CERT_NOW - 60));
	CERT_OK(gnutls_x509_crl_sign2(crl, l->issuer->crt, l->issuer->key,
				      l->sha1 ? GNUTLS_DIG_SHA1 : GNUTLS_DIG_SHA256, 0));
	CERT_OK(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &d));
	gnutls_x509_crl_deinit(crl);
	FILE *to = open_memstream(&pem, &len);
	fwrite(d.data, 1, d.size, to);
	gnutls_free(d.data);
	if (beside) {
		char *crt = cert_chain_pem(&beside, 1);
		fputs(crt, to);
		free(crt);
	}
	fclose(to);
	return pem;
}

static int add(struct tls_crls *set, const struct list *l, const struct cert *beside, char *why, size_t size)
{
	struct cert_list cas = {.certs = &root.crt, .n = 1};
	char *pem = make_list(l, beside);
	int rc = tls_crls_add(set, trial, pem, strlen(pem), &cas, why, size);

	free(pem);
	return rc;
}

#define ADD(set, beside, ...)                                                                                \
	do {                                                                                                 \
		char why_[512] = "";                                                                         \
		int rc_ = add(set, &(struct list){__VA_ARGS__}, beside, why_, sizeof why_);                  \
		assert_string_equal(why_, "");                                                               \
		assert_int_equal(rc_, 0);                                                                    \
	} while (0)
#define REFUSED(set, text, ...)                                                                              \
	do {                                                                                                 \
		char why_[512] = "";                                                                         \
		size_t n_ = tls_crls_count(set);                                                             \
		assert_int_equal(add(set, &(struct list){__VA_ARGS__}, NULL, why_, sizeof why_), -EINVAL);   \
		assert_string_equal(why_, text);                                                             \
		assert_int_equal(tls_crls_count(set), n_);                                                   \
	} while (0)

/* ---- chains ---- */

static int check_at(const struct tls_trust *t, bool shown, int64_t now, int32_t *fail, char *why, size_t size)
{
	gnutls_datum_t first = cert_der(&leaf), second = cert_der(&tenant);
	const struct ss_der chain[] = {{first.data, first.size}, {second.data, second.size}};
	int rc = tls_trust_check_revoked(t, chain, shown ? 2 : 1, now, fail, why, size);

	gnutls_free(first.data);
	gnutls_free(second.data);
	return rc;
}

static struct tls_trust *trust_of(struct tls_crls *set, bool with_tenant)
{
	const struct cert *cas[] = {&root, &tenant, &other};
	char *pem = cert_chain_pem(cas, with_tenant ? 3 : 1);
	struct tls_trust *t = tls_trust_new(pem, false, set);

	assert_non_null(t);
	free(pem);
	tls_crls_unref(set);
	return t;
}

static void expect(struct tls_trust *t, bool shown, int64_t now, int32_t reason, const char *text)
{
	char why[512] = "";
	int32_t fail = -1;

	assert_int_equal(check_at(t, shown, now, &fail, why, sizeof why), reason < 0 ? 0 : -EACCES);
	assert_string_equal(why, text);
	assert_int_equal(fail, reason);
}

static void test_a_leaf(void **state)
{
	struct tls_crls *set = tls_crls_new(true);
	(void)state;

	ADD(set, NULL, .issuer = &root, .revoked = {&other});
	ADD(set, &tenant, .issuer = &tenant, .revoked = {&leaf});
	struct tls_trust *t = trust_of(set, false);
	expect(t, true, CERT_NOW, SS_TLS_FAIL_REVOKED,
	       "certificate 'device-1' was revoked by CA 'Tenant' at 2025-11-16T09:59:00Z (unspecified)");
	tls_trust_free(t);
}

static void test_a_ca_above(void **state)
{
	static const char text[] =
		"certificate 'Tenant' was revoked by CA 'Root' at 2025-11-16T09:59:00Z (unspecified)";
	(void)state;

	for (int shown = 0; shown < 2; shown++) {
		struct tls_crls *set = tls_crls_new(true);
		ADD(set, NULL, .issuer = &root, .revoked = {&other, &tenant});
		struct tls_trust *t = trust_of(set, !shown);
		expect(t, shown, CERT_NOW, SS_TLS_FAIL_REVOKED, text);
		tls_trust_free(t);
	}
}

/* Another tenant's certificate, and the serial in the list of another CA. */
static void test_nobody_else(void **state)
{
	struct tls_crls *set = tls_crls_new(true);
	(void)state;

	ADD(set, NULL, .issuer = &root, .revoked = {&other, &leaf});
	ADD(set, &other, .issuer = &other, .revoked = {&leaf, &tenant});
	struct tls_trust *t = trust_of(set, true);
	expect(t, true, CERT_NOW, -1, "");
	tls_trust_free(t);
	t = trust_of(tls_crls_new(true), false);
	expect(t, true, CERT_NOW, -1, "");
	tls_trust_free(t);
	expect(NULL, true, CERT_NOW, -1, "");
}

static void test_out_of_date(void **state)
{
	static const char text[] =
		"whether certificate 'Tenant' is revoked cannot be told: the revocation list of "
		"CA 'Root' expired 2025-11-16T11:00:00Z";
	gnutls_datum_t der = cert_der(&leaf);
	const struct ss_der chain = {der.data, der.size};
	(void)state;

	for (int hard = 0; hard < 2; hard++) {
		struct tls_crls *set = tls_crls_new(hard);
		ADD(set, NULL, .issuer = &root);
		struct tls_trust *t = trust_of(set, false);
		expect(t, true, CERT_NOW + 3600, -1, "");
		expect(t, true, CERT_NOW + 3601, hard ? SS_TLS_FAIL_CRL_EXPIRED : -1, hard ? text : "");
		assert_int_equal(tls_trust_next_expiry(t, &chain, 1, CERT_NOW),
				 CERT_NOW + (hard ? 3600 : CERT_DAY) + 1);
		tls_trust_free(t);
	}
	/* who is in it stays revoked, whatever the policy is */
	struct tls_crls *set = tls_crls_new(false);
	ADD(set, NULL, .issuer = &root, .revoked = {&tenant});
	struct tls_trust *t = trust_of(set, false);
	expect(t, true, CERT_NOW + 7200, SS_TLS_FAIL_REVOKED,
	       "certificate 'Tenant' was revoked by CA 'Root' at 2025-11-16T09:59:00Z (unspecified)");
	tls_trust_free(t);
	gnutls_free(der.data);
}

/* ---- sets ---- */

static void test_the_newest_counts(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		struct tls_crls *set = tls_crls_new(true);
		for (int i = 0; i < 2; i++)
			if (i == first)
				ADD(set, NULL, .issuer = &root, .revoked = {&tenant},
				    .from = CERT_NOW - 7200);
			else
				ADD(set, NULL, .issuer = &root, .revoked = {&other});
		assert_int_equal(tls_crls_count(set), 1);
		assert_non_null(tls_crl_find(tls_crls_at(set, 0), other.crt));
		assert_null(tls_crl_find(tls_crls_at(set, 0), tenant.crt));
		tls_crls_unref(set);
	}
}

static void test_kept(void **state)
{
	struct tls_crls *before = tls_crls_new(true), *set = tls_crls_new(true);
	(void)state;

	ADD(before, NULL, .issuer = &root, .revoked = {&tenant});
	ADD(before, &tenant, .issuer = &tenant, .revoked = {&leaf});
	assert_false(tls_crls_same(before, set));
	assert_int_equal(tls_crls_keep(set, before), 0);
	assert_true(tls_crls_same(before, set));
	tls_crls_unref(before);
	assert_int_equal(tls_crls_count(set), 2);
	assert_non_null(tls_crl_find(tls_crls_at(set, 1), leaf.crt));
	assert_true(tls_crls_same(NULL, NULL));
	assert_false(tls_crls_same(set, NULL));
	tls_crls_unref(set);
	tls_crls_unref(NULL);
}

/* Zeros in front, the top bit, one byte, twenty. */
static void test_serials(void **state)
{
	static const unsigned char serials[][20] = {
		{0x00, 0x80}, {0x7f}, {0x01, 0x00}, {0xff, [19] = 0x01}, {0x00, 0x00, 0x05}};
	static const size_t lengths[] = {2, 1, 2, 20, 3};
	(void)state;

	for (size_t i = 0; i < 5; i++) {
		struct tls_crls *set = tls_crls_new(true);
		gnutls_x509_crt_t crt;
		ADD(set, NULL, .issuer = &root, .revoked = {&tenant, &other, &leaf}, .serial = serials[i],
		    .serial_len = lengths[i]);
		CERT_OK(gnutls_x509_crt_init(&crt));
		CERT_OK(gnutls_x509_crt_set_serial(crt, serials[i], lengths[i]));
		const struct tls_crl *c = tls_crls_at(set, 0);
		assert_int_equal(c->n, 4);
		assert_non_null(tls_crl_find(c, crt));
		assert_non_null(tls_crl_find(c, leaf.crt));
		assert_null(tls_crl_find(c, root.crt));
		gnutls_x509_crt_deinit(crt);
		tls_crls_unref(set);
	}
}

static void test_refused(void **state)
{
	struct tls_crls *set = tls_crls_new(true);
	struct cert mute = cert_make(&(struct cert_spec){.cns = {{"Root", 0}}, .ca = true}, NULL);
	char why[256];
	(void)state;

	REFUSED(set,
		"the list is of CA 'Stranger', which is not among the trusted CAs; if it is one below them, "
		"put "
		"its certificate into this file",
		.issuer = &stranger);
	REFUSED(set, "the signature of the list is not that of its CA 'Root'", .issuer = &mute);
	struct list of_mute = {.issuer = &mute};
	assert_int_equal(add(set, &of_mute, &mute, why, sizeof why), -EINVAL);
	struct cert_list none = {0};
	assert_int_equal(tls_crls_add(set, trial, "\x30\x82\x01\x02xyz", 7, &none, why, sizeof why), -EINVAL);
	assert_string_equal(why, "the revocation list cannot be read");
	assert_int_equal(tls_crls_add(set, trial, "", 0, &none, why, sizeof why), -EINVAL);
	assert_string_equal(why, "holds no revocation list");
	REFUSED(set, "the list of CA 'Root' is signed with ecdsa-with-SHA1, which is too weak",
		.issuer = &root, .sha1 = true);
	assert_int_equal(tls_crls_count(set), 0);
	assert_null(tls_crls_first_end(set));
	tls_crls_unref(set);
	cert_drop(&mute);
}

/* Cut off and bent anywhere: refused, or read as what it is. */
static void test_damaged(void **state)
{
	struct list l = {.issuer = &root, .revoked = {&tenant, &other}};
	char *pem = make_list(&l, NULL), why[256];
	gnutls_datum_t text = {(unsigned char *)pem, (unsigned)strlen(pem)}, der;
	struct cert_list cas = {.certs = &root.crt, .n = 1};
	(void)state;

	CERT_OK(gnutls_pem_base64_decode2("X509 CRL", &text, &der));
	for (unsigned i = 0; i < der.size; i++) {
		struct tls_crls *set = tls_crls_new(true);
		assert_int_equal(tls_crls_add(set, trial, (char *)der.data, i, &cas, why, sizeof why),
				 -EINVAL);
		der.data[i] ^= 0x41;
		assert_int_equal(tls_crls_add(set, trial, (char *)der.data, der.size, &cas, why, sizeof why),
				 -EINVAL);
		der.data[i] ^= 0x41;
		tls_crls_unref(set);
	}
	gnutls_free(der.data);
	free(pem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_leaf),
		cmocka_unit_test(test_a_ca_above),
		cmocka_unit_test(test_nobody_else),
		cmocka_unit_test(test_out_of_date),
		cmocka_unit_test(test_the_newest_counts),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_serials),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
