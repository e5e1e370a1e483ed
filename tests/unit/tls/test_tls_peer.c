/* SPDX-License-Identifier: MIT */
/* Who is let in: names that match and names that only look so, purposes, times, hosts, and what the log is
 * told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"
#include "core/tls/tls_peer.h"
#include "core/tls/tls_trust.h"
#include "sdk/test-host/tests/tls_certs.h"

#define GOOD "semstreams-b.local"
static const char *const allowed[] = {GOOD, "semstreams-c.local", "ÄB"};

static const struct tls_peer_policy server = {
	.role = SS_TLS_SERVER,
	.flags = SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
	.min_version = 0x0303,
	.names = allowed,
	.n_names = 3,
};
static const struct tls_peer_policy any_client = {
	.role = SS_TLS_SERVER,
	.flags = SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
	.min_version = 0x0304,
};
static const struct tls_peer_policy client = {
	.role = SS_TLS_CLIENT,
	.flags = SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER,
	.min_version = 0x0303,
};

static struct cert root, intermediate;

struct verdict {
	int rc;
	int32_t fail;
	char name[256], why[512];
};

static struct verdict check_chain(const struct tls_peer_policy *policy, const struct cert *const *certs,
				  uint32_t n, int32_t error, const char *host)
{
	struct verdict v = {.fail = -2};
	struct ss_der chain[8] = {{0}};

	for (uint32_t i = 0; i < n; i++) {
		gnutls_datum_t d = cert_der(certs[i]);
		chain[i] = (struct ss_der){d.data, d.size};
	}
	v.rc = tls_peer_check(policy, chain, n, error, host, CERT_NOW, v.name, sizeof v.name, &v.fail, v.why,
			      sizeof v.why);
	for (uint32_t i = 0; i < n; i++)
		gnutls_free((void *)(uintptr_t)chain[i].data);
	return v;
}

static struct verdict check(const struct tls_peer_policy *policy, const struct cert_spec *spec, int32_t error,
			    const char *host)
{
	struct cert leaf = cert_make(spec, &intermediate);
	const struct cert *chain[] = {&leaf, &intermediate};
	struct verdict v = check_chain(policy, chain, 2, error, host);

	cert_drop(&leaf);
	return v;
}

#define WELCOME(v, as)                                                                                       \
	do {                                                                                                 \
		struct verdict v_ = (v);                                                                     \
		assert_string_equal(v_.why, "");                                                             \
		assert_int_equal(v_.rc, 0);                                                                  \
		assert_string_equal(v_.name, as);                                                            \
	} while (0)
#define REFUSED(v, reason, text)                                                                             \
	do {                                                                                                 \
		struct verdict v_ = (v);                                                                     \
		assert_string_equal(v_.why, text);                                                           \
		assert_int_equal(v_.rc, -EACCES);                                                            \
		assert_int_equal(v_.fail, reason);                                                           \
		assert_string_equal(v_.name, "");                                                            \
	} while (0)
#define CLIENT_OF(...) (&(struct cert_spec){.eku = {GNUTLS_KP_TLS_WWW_CLIENT}, __VA_ARGS__})
#define SERVER_OF(...) (&(struct cert_spec){.eku = {GNUTLS_KP_TLS_WWW_SERVER}, __VA_ARGS__})

/* a.b, NUL, .evil */
static const uint8_t nul_san[] = {0x30, 11, 0x82, 9, 'a', '.', 'b', 0, '.', 'e', 'v', 'i', 'l'};
#define NUL_SAN .raw_san = nul_san, .raw_san_len = sizeof nul_san

/* ---- the allow-list ---- */

static void test_listed_names(void **state)
{
	(void)state;
	WELCOME(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}), -1, NULL), GOOD);
	WELCOME(check(&server, CLIENT_OF(.dns = {{"other", 0}, {GOOD, 0}}), -1, NULL), GOOD);
	WELCOME(check(&server, CLIENT_OF(.cns = {{"other", 0}, {GOOD, 0}}), -1, NULL), GOOD);
	WELCOME(check(&server, CLIENT_OF(.cns = {{"other", 0}}, .dns = {{GOOD, 0}}), -1, NULL), GOOD);
	/* in the spelling of the list, so that an identity does not change with the certificate */
	WELCOME(check(&server, CLIENT_OF(.cns = {{"SEMSTREAMS-b.LOCAL", 0}}), -1, NULL), GOOD);
	WELCOME(check(&server, CLIENT_OF(.cns = {{"Äb", 0}}), -1, NULL), "ÄB");
	WELCOME(check(&server, &(struct cert_spec){.cns = {{GOOD, 0}}}, -1, NULL), GOOD);
}

/* A client's certificate whose CN, eight bytes, is a string of this type; as GnuTLS would not write it. */
static struct verdict check_cn_of_type(uint8_t tag, const char bytes[8], const char *name)
{
	struct cert leaf = cert_make(CLIENT_OF(.cns = {{"eight by", 0}}), &intermediate);
	gnutls_datum_t der = cert_der(&leaf);
	uint8_t *cn = memmem(der.data, der.size, "eight by", 8);
	const struct tls_peer_policy policy = {.role = SS_TLS_SERVER,
					       .flags = SS_TLS_VERIFY_PEER,
					       .names = (const char *const[]){name},
					       .n_names = 1};
	const struct ss_der chain = {der.data, der.size};
	struct verdict v = {.fail = -1};

	assert_non_null(cn);
	cn[-2] = tag;
	memcpy(cn, bytes, 8);
	v.rc = tls_peer_check(&policy, &chain, 1, -1, NULL, CERT_NOW, v.name, sizeof v.name, &v.fail, v.why,
			      sizeof v.why);
	gnutls_free(der.data);
	cert_drop(&leaf);
	return v;
}

static void test_encodings_of_a_common_name(void **state)
{
	static const struct {
		uint8_t tag;
		const char bytes[9], *shown;
	} odd[] = {
		{27, "eight by", "(of ASN.1 type 27, which cannot be decoded)"},
		{25, "eight by", "(of ASN.1 type 25, which cannot be decoded)"},
		{21, "eight by", "(of ASN.1 type 21, which cannot be decoded)"},
		{4, "eight by", "(of ASN.1 type 4, which cannot be decoded)"},
		{30, "\xd8\x00\0A\0B\0C", "(of ASN.1 type 30, which cannot be decoded)"},
		{28, "\x7f\xff\xff\xff\0\0\0A", "(of ASN.1 type 28, which cannot be decoded)"},
		{20, "M\xfcnster\xb0", "'Münster°'"},
	};

	(void)state;
	WELCOME(check_cn_of_type(30, "\0M\0\xfc\1a \xac", "Müš€"), "Müš€");
	WELCOME(check_cn_of_type(28, "\0\0\0\xfc\0\1\xf6\x00", "ü😀"), "ü😀");
	WELCOME(check_cn_of_type(20, "M\xfcnster ", "Münster "), "Münster ");
	WELCOME(check_cn_of_type(26, "eight by", "eight by"), "eight by");
	for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
		char text[200];
		snprintf(text, sizeof text, "client certificate CN %s not in allowed list", odd[i].shown);
		REFUSED(check_cn_of_type(odd[i].tag, odd[i].bytes, "eight by"), SS_TLS_FAIL_NAME, text);
	}
	REFUSED(check_cn_of_type(30, "\0g\0o\0\0\0d", "go"), SS_TLS_FAIL_NAME,
		"certificate with a NUL or control byte in its name 'go\\x00d'");
}

/* A CA may be bound to certify other DNS names only; its CNs are free text. */
static void test_common_name_beside_dns_names(void **state)
{
	(void)state;
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .dns = {{"x.loc-c.example", 0}}), -1, NULL),
		SS_TLS_FAIL_NAME,
		"client certificate DNS name 'x.loc-c.example' not in allowed list; its CN "
		"'semstreams-b.local' does not count, as it is not among the DNS names");
	REFUSED(check(&server, CLIENT_OF(.cns = {{"x", 0}, {GOOD, 0}}, .dns = {{"x", 0}}), -1, NULL),
		SS_TLS_FAIL_NAME,
		"client certificate DNS name 'x' not in allowed list; its CN 'x' does not count, as it is "
		"not "
		"among the DNS names");
	/* of several names that are listed, the CN is the one */
	WELCOME(check(&server,
		      CLIENT_OF(.cns = {{"semstreams-c.local", 0}},
				.dns = {{GOOD, 0}, {"SEMSTREAMS-c.local", 0}}),
		      -1, NULL),
		"semstreams-c.local");
	WELCOME(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .dns = {{"semstreams-c.local", 0}}), -1, NULL),
		"semstreams-c.local");
	/* an address is no DNS name */
	WELCOME(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .ip = {127, 0, 0, 1}, .ip_len = 4), -1, NULL),
		GOOD);
}

/* ---- name constraints ---- */

static struct verdict check_below(const struct cert_spec *ca_spec, const struct cert_spec *leaf_spec,
				  const struct tls_peer_policy *policy, bool shown)
{
	struct tls_peer_policy with = *policy;
	struct cert ca = cert_make(ca_spec, &root), leaf = cert_make(leaf_spec, &ca);
	const struct cert *chain[] = {&leaf, &ca}, *stored[] = {&root, &ca};
	char *pem = cert_chain_pem(stored, shown ? 1 : 2);

	with.trust = tls_trust_new(pem, false, NULL);
	assert_non_null(with.trust);
	struct verdict v = check_chain(&with, chain, shown ? 2 : 1, -1,
				       policy->role == SS_TLS_CLIENT ? leaf_spec->dns[0].text : NULL);
	tls_trust_free((struct tls_trust *)(uintptr_t)with.trust);
	free(pem);
	cert_drop(&leaf);
	cert_drop(&ca);
	return v;
}

#define CA_OF(...) (&(struct cert_spec){.cns = {{"Location C CA", 0}}, .ca = true, __VA_ARGS__})

static void test_name_constraints(void **state)
{
	const struct cert_spec *only_c = CA_OF(.permitted = {"loc-c.example"});
	const struct cert_spec *not_b = CA_OF(.excluded = {"semstreams-b.local"});
	const struct cert_spec *mail = CA_OF(.permitted_mail = "loc-c.example");
	static const char text[] =
		"the name constraints of CA 'Location C CA' do not allow the name 'semstreams-b.local'";

	(void)state;
	for (int shown = 0; shown < 2; shown++) {
		REFUSED(check_below(only_c, CLIENT_OF(.cns = {{GOOD, 0}}), &server, shown), SS_TLS_FAIL_NAME,
			text);
		REFUSED(check_below(not_b, CLIENT_OF(.cns = {{GOOD, 0}}), &server, shown), SS_TLS_FAIL_NAME,
			text);
		/* one CN that is allowed does not help the other */
		REFUSED(check_below(only_c, CLIENT_OF(.cns = {{"x.loc-c.example", 0}, {GOOD, 0}}), &server,
				    shown),
			SS_TLS_FAIL_NAME, text);
		REFUSED(check_below(only_c, CLIENT_OF(.dns = {{GOOD, 0}}), &server, shown), SS_TLS_FAIL_NAME,
			text);
		REFUSED(check_below(only_c, CLIENT_OF(.cns = {{GOOD, 0}}), &any_client, shown),
			SS_TLS_FAIL_NAME, text);
		REFUSED(check_below(only_c, SERVER_OF(.dns = {{GOOD, 0}}), &client, shown), SS_TLS_FAIL_NAME,
			text);
		REFUSED(check_below(CA_OF(.permitted = {"b.local"}), CLIENT_OF(.cns = {{GOOD, 0}}), &server,
				    shown),
			SS_TLS_FAIL_NAME, text);
		/* nor does another case of letters */
		REFUSED(check_below(CA_OF(.excluded = {"LOCAL"}),
				    CLIENT_OF(.cns = {{"Semstreams-B.Local", 0}}), &server, shown),
			SS_TLS_FAIL_NAME, text);
		REFUSED(check_below(CA_OF(.permitted = {""}, .excluded = {"semstreams-b.local"}),
				    CLIENT_OF(.cns = {{GOOD, 0}}), &server, shown),
			SS_TLS_FAIL_NAME, text);
		WELCOME(check_below(not_b, CLIENT_OF(.cns = {{"semstreams-c.local", 0}}), &server, shown),
			"semstreams-c.local");
		WELCOME(check_below(only_c, CLIENT_OF(.cns = {{"X.LOC-c.example", 0}}), &any_client, shown),
			"X.LOC-c.example");
		WELCOME(check_below(CA_OF(.permitted = {"x.example", "local"}), CLIENT_OF(.cns = {{GOOD, 0}}),
				    &server, shown),
			GOOD);
		WELCOME(check_below(mail, CLIENT_OF(.cns = {{GOOD, 0}}), &server, shown), GOOD);
	}
}

/* Who issued what is no matter of how names are written: here the issuer's is another string type. */
static void test_constraints_by_signature(void **state)
{
	static const struct cert_spec ca_spec = {
		.cns = {{"Location C CA", 0}}, .ca = true, .permitted = {"loc-c.example"}};
	struct cert ca = cert_make(&ca_spec, &root), alias = cert_make(&ca_spec, &root);
	struct cert leaf, other = cert_make(&ca_spec, NULL);
	const struct cert *stored[] = {&root};
	struct tls_peer_policy with = server;

	(void)state;
	/* the key of ca, another name for it */
	CERT_OK(gnutls_x509_crt_set_dn_by_oid(alias.crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "other", 5));
	struct cert issuer = {.crt = alias.crt, .key = ca.key};
	leaf = cert_make(CLIENT_OF(.cns = {{GOOD, 0}}), &issuer);
	char *pem = cert_chain_pem(stored, 1);
	with.trust = tls_trust_new(pem, false, NULL);
	const struct cert *chain[] = {&leaf, &ca};
	REFUSED(check_chain(&with, chain, 2, -1, NULL), SS_TLS_FAIL_NAME,
		"the name constraints of CA 'Location C CA' do not allow the name 'semstreams-b.local'");
	/* a CA of the same name that signed nothing here has no say */
	struct cert plain = cert_make(CLIENT_OF(.cns = {{GOOD, 0}}), &intermediate);
	const struct cert *beside[] = {&plain, &intermediate, &other};
	WELCOME(check_chain(&with, beside, 3, -1, NULL), GOOD);
	tls_trust_free((struct tls_trust *)(uintptr_t)with.trust);
	free(pem);
	cert_drop(&plain);
	cert_drop(&other);
	cert_drop(&leaf);
	cert_drop(&alias);
	cert_drop(&ca);
}

static void test_names_that_look_alike(void **state)
{
	(void)state;
	REFUSED(check(&server, CLIENT_OF(.cns = {{"evil", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'evil' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.cns = {{"semstreams-b.loca", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'semstreams-b.loca' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD "x", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'semstreams-b.localx' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.cns = {{"*", 0}}, .dns = {{"*.local", 0}}), -1, NULL),
		SS_TLS_FAIL_NAME, "client certificate CN '*' not in allowed list");
	/* only ASCII letters have two cases: ä is not Ä, and [ is not { */
	REFUSED(check(&server, CLIENT_OF(.cns = {{"äb", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'äb' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.cns = {{"one", 0}, {"two", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'one' not in allowed list, nor are its other CNs");
	REFUSED(check(&server, CLIENT_OF(.dns = {{"x.local", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate without CN, DNS name 'x.local' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.organization = "x/CN=" GOOD), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate has neither CN nor DNS name: not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.organization = GOOD, .cns = {{"x", 0}}), -1, NULL),
		SS_TLS_FAIL_NAME, "client certificate CN 'x' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.cns = {{"x,CN=" GOOD, 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'x,CN=semstreams-b.local' not in allowed list");
	REFUSED(check(&server, CLIENT_OF(.ip = {127, 0, 0, 1}, .ip_len = 4), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate has neither CN nor DNS name: not in allowed list");
}

static void test_nul_in_names(void **state)
{
	const struct cert_name nul = {GOOD "\0.evil", sizeof GOOD "\0.evil" - 1};
	static const char text[] =
		"certificate with a NUL or control byte in its name 'semstreams-b.local\\x00.evil'";
	static const char in_san[] = "certificate with a NUL or control byte in its name 'a.b\\x00.evil'";

	(void)state;
	REFUSED(check(&server, CLIENT_OF(.cns = {nul}), -1, NULL), SS_TLS_FAIL_NAME, text);
	/* even beside a good one */
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}, nul}), -1, NULL), SS_TLS_FAIL_NAME, text);
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, NUL_SAN), -1, NULL), SS_TLS_FAIL_NAME, in_san);
	REFUSED(check(&any_client, CLIENT_OF(.cns = {{GOOD, 0}}, NUL_SAN), -1, NULL), SS_TLS_FAIL_NAME,
		in_san);
	REFUSED(check(&any_client, CLIENT_OF(.cns = {nul}), -1, NULL), SS_TLS_FAIL_NAME, text);
	REFUSED(check(&any_client, CLIENT_OF(.cns = {{GOOD "\0", sizeof GOOD}}), -1, NULL), SS_TLS_FAIL_NAME,
		"certificate with a NUL or control byte in its name 'semstreams-b.local\\x00'");
	REFUSED(check(&any_client, CLIENT_OF(.cns = {{"a\nINFO b", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"certificate with a NUL or control byte in its name 'a\\x0aINFO b'");
}

static void test_broken_alternative_names(void **state)
{
	static const uint8_t cut[] = {0x30, 11, 0x82, 9, 'a', '.', 'b'};
	static const char text[] = "the peer's certificate cannot be read";
	const struct cert_spec spec = {.cns = {{GOOD, 0}}, .raw_san = cut, .raw_san_len = sizeof cut};

	(void)state;
	REFUSED(check(&server, &spec, -1, NULL), SS_TLS_FAIL_OTHER, text);
	REFUSED(check(&client, &spec, -1, "a.b"), SS_TLS_FAIL_OTHER, text);
}

static void test_without_a_list(void **state)
{
	(void)state;
	WELCOME(check(&any_client, CLIENT_OF(.cns = {{"one", 0}, {"two", 0}}), -1, NULL), "one");
	WELCOME(check(&any_client, CLIENT_OF(.cns = {{"one", 0}, {"two", 0}}, .dns = {{"d", 0}}), -1, NULL),
		"d");
	WELCOME(check(&any_client, CLIENT_OF(.cns = {{"d", 0}}, .dns = {{"c", 0}, {"D", 0}}), -1, NULL), "d");
	WELCOME(check(&any_client, CLIENT_OF(.dns = {{"d.local", 0}, {"e", 0}}), -1, NULL), "d.local");
	WELCOME(check(&any_client, CLIENT_OF(.organization = "x"), -1, NULL), "");
}

static void test_small_buffers(void **state)
{
	struct cert leaf = cert_make(CLIENT_OF(.cns = {{GOOD, 0}}), &intermediate);
	gnutls_datum_t d = cert_der(&leaf);
	const struct ss_der chain = {d.data, d.size};
	char name[sizeof GOOD], why[8];
	int32_t fail = -2;

	(void)state;
	assert_int_equal(tls_peer_check(&server, &chain, 1, -1, NULL, CERT_NOW, name, sizeof name, &fail, why,
					sizeof why),
			 0);
	assert_string_equal(name, GOOD);
	/* a name that was cut would be another one's */
	assert_int_equal(tls_peer_check(&server, &chain, 1, -1, NULL, CERT_NOW, name, sizeof name - 1, &fail,
					why, sizeof why),
			 -EACCES);
	assert_int_equal(fail, SS_TLS_FAIL_NAME);
	assert_string_equal(name, "");
	assert_string_equal(why, "the cer");
	assert_int_equal(tls_peer_check(&server, &chain, 1, -1, NULL, CERT_NOW, NULL, 0, NULL, NULL, 0), 0);
	gnutls_free(d.data);
	cert_drop(&leaf);
}

/* ---- the verdict of the TLS library ---- */

static void test_verdicts(void **state)
{
	const struct cert_spec good = {.cns = {{GOOD, 0}}};

	(void)state;
	REFUSED(check(&server, &good, SS_TLS_FAIL_UNKNOWN_CA, NULL), SS_TLS_FAIL_UNKNOWN_CA,
		"certificate signed by unknown authority: issuer 'Test Root' of certificate "
		"'semstreams-b.local'; is its "
		"CA in client_ca_files?");
	REFUSED(check(&client, &good, SS_TLS_FAIL_UNKNOWN_CA, "x"), SS_TLS_FAIL_UNKNOWN_CA,
		"certificate signed by unknown authority: issuer 'Test Root' of certificate "
		"'semstreams-b.local'; is its "
		"CA in ca_files?");
	REFUSED(check(&server, &good, SS_TLS_FAIL_PURPOSE, NULL), SS_TLS_FAIL_PURPOSE,
		"certificate 'semstreams-b.local' is not valid for this purpose");
	REFUSED(check(&server, &good, SS_TLS_FAIL_OTHER, NULL), SS_TLS_FAIL_OTHER,
		"certificate 'semstreams-b.local' does not verify");
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .weak_key = true), SS_TLS_FAIL_OTHER, NULL),
		SS_TLS_FAIL_OTHER,
		"certificate 'semstreams-b.local' has a key (RSA of 1024 bits) that is too weak for TLS");
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .sha1 = true), SS_TLS_FAIL_OTHER, NULL),
		SS_TLS_FAIL_OTHER,
		"certificate 'semstreams-b.local' is signed with ECDSA-SHA1, which is too weak for TLS; have "
		"it "
		"issued anew with SHA-256");
	REFUSED(check(&client, &good, SS_TLS_FAIL_PURPOSE, GOOD), SS_TLS_FAIL_PURPOSE,
		"certificate 'semstreams-b.local' is not valid for this purpose");
	REFUSED(check(&server, SERVER_OF(.cns = {{GOOD, 0}}), SS_TLS_FAIL_PURPOSE, NULL), SS_TLS_FAIL_PURPOSE,
		"certificate 'semstreams-b.local' is not for TLS clients: its extended key usage lacks "
		"clientAuth");
	REFUSED(check(&client, SERVER_OF(.cns = {{"x", 0}}, .dns = {{"a", 0}}), SS_TLS_FAIL_NAME, "b"),
		SS_TLS_FAIL_NAME, "certificate is valid for 'a', not 'b'");
	REFUSED(check(&client, SERVER_OF(.cns = {{"x", 0}}, .dns = {{"a", 0}}), SS_TLS_FAIL_NAME, "a"),
		SS_TLS_FAIL_NAME, "certificate 'x' has the wrong name");
	/* a verdict of a later version, or nonsense, is no welcome */
	REFUSED(check(&server, &good, 77, NULL), SS_TLS_FAIL_OTHER,
		"certificate 'semstreams-b.local' does not verify");
	REFUSED(check(&server, &good, -7, NULL), SS_TLS_FAIL_OTHER,
		"certificate 'semstreams-b.local' does not verify");
	REFUSED(check(&any_client, &good, SS_TLS_FAIL_VERSION, NULL), SS_TLS_FAIL_VERSION,
		"the peer offers no TLS version from 1.3 on");

	struct cert self = cert_make(&(struct cert_spec){.cns = {{"self", 0}}}, NULL);
	const struct cert *chain[] = {&self};
	REFUSED(check_chain(&server, chain, 1, SS_TLS_FAIL_UNKNOWN_CA, NULL), SS_TLS_FAIL_UNKNOWN_CA,
		"certificate signed by unknown authority: issuer 'self' (self-signed) of certificate 'self'; "
		"is its CA in "
		"client_ca_files?");
	cert_drop(&self);
}

static void test_times(void **state)
{
	const struct cert_spec old = {
		.cns = {{"x", 0}}, .from = CERT_NOW - 5 * CERT_DAY, .to = CERT_NOW - 3 * CERT_DAY};
	const struct cert_spec early = {
		.cns = {{"x", 0}}, .from = CERT_NOW + 7200, .to = CERT_NOW + CERT_DAY};
	const char *expired =
		"certificate 'x' expired 2025-11-13T10:00:00Z (3 days ago); check the clock if it should be "
		"valid";

	(void)state;
	REFUSED(check(&server, &old, SS_TLS_FAIL_EXPIRED, NULL), SS_TLS_FAIL_EXPIRED, expired);
	/* whatever the library thought of it */
	REFUSED(check(&any_client, &old, -1, NULL), SS_TLS_FAIL_EXPIRED, expired);
	const char *ahead = "certificate 'x' is not yet valid until 2025-11-16T12:00:00Z (in 2 hours); check "
			    "the clock if "
			    "it should be valid";
	REFUSED(check(&server, &early, SS_TLS_FAIL_NOT_YET_VALID, NULL), SS_TLS_FAIL_NOT_YET_VALID, ahead);
	REFUSED(check(&any_client, &early, -1, NULL), SS_TLS_FAIL_NOT_YET_VALID, ahead);

	/* the one in the chain that it is about */
	struct cert old_ca = cert_make(&(struct cert_spec){.cns = {{"Old CA", 0}},
							   .ca = true,
							   .from = CERT_NOW - 500 * CERT_DAY,
							   .to = CERT_NOW - 90},
				       &root);
	struct cert leaf = cert_make(&(struct cert_spec){.cns = {{"x", 0}}}, &old_ca);
	const struct cert *chain[] = {&leaf, &old_ca};
	REFUSED(check_chain(&server, chain, 2, SS_TLS_FAIL_EXPIRED, NULL), SS_TLS_FAIL_EXPIRED,
		"certificate 'Old CA' expired 2025-11-16T09:58:30Z (90 seconds ago); check the clock if it "
		"should be valid");
	REFUSED(check_chain(&server, chain, 1, SS_TLS_FAIL_EXPIRED, NULL), SS_TLS_FAIL_EXPIRED,
		"a certificate has expired, above certificate 'x': a CA's");
	cert_drop(&leaf);
	cert_drop(&old_ca);
}

static void test_nothing_shown(void **state)
{
	struct tls_peer_policy optional = server, plain = server, insecure = client;

	(void)state;
	optional.flags = SS_TLS_VERIFY_PEER;
	plain.flags = 0;
	insecure.flags = SS_TLS_INSECURE;
	REFUSED(check_chain(&server, NULL, 0, -1, NULL), SS_TLS_FAIL_NO_CERT,
		"peer did not return a certificate");
	REFUSED(check_chain(&server, NULL, 0, SS_TLS_FAIL_NO_CERT, NULL), SS_TLS_FAIL_NO_CERT,
		"peer did not return a certificate");
	REFUSED(check_chain(&client, NULL, 0, -1, "x"), SS_TLS_FAIL_NO_CERT,
		"peer did not return a certificate");
	WELCOME(check_chain(&optional, NULL, 0, -1, NULL), "");
	WELCOME(check_chain(&plain, NULL, 0, -1, NULL), "");
	REFUSED(check(&optional, CLIENT_OF(.cns = {{"evil", 0}}), -1, NULL), SS_TLS_FAIL_NAME,
		"client certificate CN 'evil' not in allowed list");
	/* nobody verified it, so it is nobody's name */
	WELCOME(check(&plain, CLIENT_OF(.cns = {{GOOD, 0}}), -1, NULL), "");
	WELCOME(check(&insecure, CLIENT_OF(.cns = {{GOOD, 0}}), SS_TLS_FAIL_UNKNOWN_CA, "x"), "");
	/* a handshake that failed has failed, verified or not */
	const char *before = "the TLS handshake failed before the peer showed a certificate";
	REFUSED(check_chain(&insecure, NULL, 0, SS_TLS_FAIL_OTHER, "x"), SS_TLS_FAIL_OTHER, before);
	REFUSED(check_chain(&plain, NULL, 0, SS_TLS_FAIL_OTHER, NULL), SS_TLS_FAIL_OTHER, before);
}

static void test_garbage(void **state)
{
	static const uint8_t junk[] = {0x30, 0x82, 0xff, 0xff, 1, 2, 3};
	static const uint8_t large[100000];
	const struct ss_der ders[] = {{junk, sizeof junk}, {junk, 0}, {NULL, 0}, {large, sizeof large}};

	(void)state;
	for (size_t i = 0; i < sizeof ders / sizeof ders[0]; i++) {
		struct verdict v = {.fail = -2};
		v.rc = tls_peer_check(&server, &ders[i], 1, -1, NULL, CERT_NOW, v.name, sizeof v.name,
				      &v.fail, v.why, sizeof v.why);
		REFUSED(v, SS_TLS_FAIL_OTHER, "the peer's certificate cannot be read");
	}
	struct cert leaf = cert_make(CLIENT_OF(.cns = {{GOOD, 0}}), &intermediate);
	gnutls_datum_t d = cert_der(&leaf);
	const struct ss_der chain[] = {{d.data, d.size}, {junk, sizeof junk}};
	struct verdict v = {.fail = -2};
	v.rc = tls_peer_check(&server, chain, 2, SS_TLS_FAIL_UNKNOWN_CA, NULL, CERT_NOW, v.name,
			      sizeof v.name, &v.fail, v.why, sizeof v.why);
	REFUSED(v, SS_TLS_FAIL_UNKNOWN_CA,
		"certificate signed by unknown authority: issuer 'Test CA' of certificate "
		"'semstreams-b.local'; is its CA "
		"in client_ca_files?");
	gnutls_free(d.data);
	cert_drop(&leaf);
}

/* ---- purpose ---- */

static void test_purpose(void **state)
{
	(void)state;
	REFUSED(check(&server, SERVER_OF(.cns = {{GOOD, 0}}), -1, NULL), SS_TLS_FAIL_PURPOSE,
		"certificate 'semstreams-b.local' is not for TLS clients: its extended key usage lacks "
		"clientAuth");
	REFUSED(check(&client, CLIENT_OF(.cns = {{"h", 0}}, .dns = {{"h", 0}}), -1, "h"), SS_TLS_FAIL_PURPOSE,
		"certificate 'h' is not for TLS servers: its extended key usage lacks serverAuth");
}

static void test_ca_as_leaf(void **state)
{
	(void)state;
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .ca = true), -1, NULL), SS_TLS_FAIL_PURPOSE,
		"certificate 'semstreams-b.local' is a CA certificate and cannot identify a peer");
}

static void test_key_usage(void **state)
{
	const char *text = "the key usage of certificate 'semstreams-b.local' does not allow TLS: "
			   "digitalSignature is missing";

	(void)state;
	REFUSED(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .usage = GNUTLS_KEY_KEY_ENCIPHERMENT), -1, NULL),
		SS_TLS_FAIL_PURPOSE, text);
	REFUSED(check(&client, SERVER_OF(.cns = {{GOOD, 0}}, .usage = GNUTLS_KEY_CRL_SIGN), -1, GOOD),
		SS_TLS_FAIL_PURPOSE, text);
	WELCOME(check(&server, CLIENT_OF(.cns = {{GOOD, 0}}, .no_usage = true), -1, NULL), GOOD);
	WELCOME(check(&client, SERVER_OF(.dns = {{"h", 0}}, .usage = GNUTLS_KEY_KEY_ENCIPHERMENT), -1, "h"),
		"h");
	WELCOME(check(&server,
		      &(struct cert_spec){.cns = {{GOOD, 0}},
					  .eku = {GNUTLS_KP_TLS_WWW_SERVER, GNUTLS_KP_TLS_WWW_CLIENT}},
		      -1, NULL),
		GOOD);
}

/* ---- the host ---- */

static void test_hosts(void **state)
{
	const struct cert_spec *two =
		SERVER_OF(.cns = {{"name", 0}}, .dns = {{"semstreams-a.local", 0}, {"b.example", 0}},
			  .ip = {127, 0, 0, 1}, .ip_len = 4);

	(void)state;
	WELCOME(check(&client, two, -1, "semstreams-a.local"), "semstreams-a.local");
	WELCOME(check(&client, two, -1, "SEMSTREAMS-A.local"), "semstreams-a.local");
	WELCOME(check(&client, two, -1, "semstreams-a.local."), "semstreams-a.local");
	REFUSED(check(&client, two, -1, "name"), SS_TLS_FAIL_NAME,
		"certificate is valid for 'semstreams-a.local', 'b.example', not 'name'");
	REFUSED(check(&client, two, -1, "x.semstreams-a.local"), SS_TLS_FAIL_NAME,
		"certificate is valid for 'semstreams-a.local', 'b.example', not 'x.semstreams-a.local'");
	REFUSED(check(&client, two, -1, ""), SS_TLS_FAIL_NAME,
		"certificate is valid for 'semstreams-a.local', 'b.example', not ''");
	REFUSED(check(&client, two, -1, NULL), SS_TLS_FAIL_NAME,
		"certificate is valid for 'semstreams-a.local', 'b.example', not ''");
	REFUSED(check(&client, SERVER_OF(.cns = {{"h", 0}}), -1, "h"), SS_TLS_FAIL_NAME,
		"certificate is valid for no DNS name, not 'h'; its CN is ignored, it needs a subject "
		"alternative name: add DNS:h");
	REFUSED(check(&client, SERVER_OF(.dns = {{"1", 0}, {"2", 0}, {"3", 0}, {"4", 0}, {"5", 0}}), -1, "h"),
		SS_TLS_FAIL_NAME, "certificate is valid for '1', '2', '3', '4', ..., not 'h'");
}

static void test_wildcards(void **state)
{
	(void)state;
	WELCOME(check(&client, SERVER_OF(.dns = {{"*.example.com", 0}}), -1, "a.example.com"),
		"*.example.com");
	REFUSED(check(&client, SERVER_OF(.dns = {{"*.example.com", 0}}), -1, "a.b.example.com"),
		SS_TLS_FAIL_NAME, "certificate is valid for '*.example.com', not 'a.b.example.com'");
	REFUSED(check(&client, SERVER_OF(.dns = {{"*.example.com", 0}}), -1, "example.com"), SS_TLS_FAIL_NAME,
		"certificate is valid for '*.example.com', not 'example.com'");
	REFUSED(check(&client, SERVER_OF(.dns = {{"*oo.example.com", 0}}), -1, "foo.example.com"),
		SS_TLS_FAIL_NAME, "certificate is valid for '*oo.example.com', not 'foo.example.com'");
	REFUSED(check(&client, SERVER_OF(.dns = {{"f*.example.com", 0}}), -1, "foo.example.com"),
		SS_TLS_FAIL_NAME, "certificate is valid for 'f*.example.com', not 'foo.example.com'");
	REFUSED(check(&client, SERVER_OF(.dns = {{"*", 0}}), -1, "foo"), SS_TLS_FAIL_NAME,
		"certificate is valid for '*', not 'foo'");
	REFUSED(check(&client, SERVER_OF(.dns = {{"*.0.0.1", 0}}), -1, "127.0.0.1"), SS_TLS_FAIL_NAME,
		"certificate is valid for DNS name '*.0.0.1', not address '127.0.0.1'; an address needs a "
		"subject alternative name of its own kind: add IP:127.0.0.1");
}

static void test_addresses(void **state)
{
	const struct cert_spec *v4 = SERVER_OF(.dns = {{"127.0.0.9", 0}}, .ip = {127, 0, 0, 1}, .ip_len = 4);
	const struct cert_spec *v6 = SERVER_OF(.dns = {{"a", 0}}, .ip = {[15] = 1}, .ip_len = 16);

	(void)state;
	WELCOME(check(&client, v4, -1, "127.0.0.1"), "127.0.0.9");
	WELCOME(check(&client, v6, -1, "::1"), "a");
	WELCOME(check(&client, v6, -1, "[::1]"), "a");
	REFUSED(check(&client, v6, -1, "[::2]"), SS_TLS_FAIL_NAME,
		"certificate is valid for DNS name 'a', address ::1, not address '::2'; an address needs a "
		"subject "
		"alternative name of its own kind: add IP:::2");
	/* an address is no DNS name, even if it stands there as one */
	REFUSED(check(&client, v4, -1, "127.0.0.9"), SS_TLS_FAIL_NAME,
		"certificate is valid for DNS name '127.0.0.9', address 127.0.0.1, not address '127.0.0.9'; "
		"an address "
		"needs a subject alternative name of its own kind: add IP:127.0.0.9");
}

static void test_nul_in_host_name(void **state)
{
	(void)state;
	REFUSED(check(&client, SERVER_OF(.cns = {{"x", 0}}, NUL_SAN), -1, "a.b"), SS_TLS_FAIL_NAME,
		"certificate is valid for 'a.b\\x00.evil', not 'a.b'");
}

static void test_reasons(void **state)
{
	(void)state;
	for (int32_t i = 0; i < SS_TLS_FAILS; i++)
		for (int32_t k = 0; k < i; k++)
			assert_string_not_equal(tls_peer_reason(i), tls_peer_reason(k));
	assert_string_equal(tls_peer_reason(-1), "other");
	assert_string_equal(tls_peer_reason(SS_TLS_FAILS), "other");
}

/* ---- what messages show ---- */

static void test_show_bytes(void **state)
{
	char buf[CERT_SHOWN];
	char many[500];

	(void)state;
	assert_string_equal(cert_show_bytes(buf, "", 0), "''");
	assert_string_equal(cert_show_bytes(buf, "a\xe2\x80\xae", 4),
			    "'a\\xe2\\x80\\xae'"); /* right to left */
	assert_string_equal(cert_show_bytes(buf, "a'b\\c\"d", 7), "'a\\x27b\\x5cc\"d'");
	assert_string_equal(cert_show_bytes(buf, "\xc3\xa4\xff\xc2\x85\x1b[0m\x7f", 10),
			    "'ä\\xff\\xc2\\x85\\x1b[0m\\x7f'");
	memset(many, 'x', sizeof many);
	assert_int_equal(strlen(cert_show_bytes(buf, many, sizeof many)), CERT_SHOWN - 1);
	assert_non_null(strstr(buf, "xx...'"));
	memset(many, 0, sizeof many);
	assert_true(strlen(cert_show_bytes(buf, many, sizeof many)) < CERT_SHOWN);
	assert_non_null(strstr(buf, "\\x00...'"));
}

static int set_up(void **state)
{
	(void)state;
	root = cert_make(
		&(struct cert_spec){.cns = {{"Test Root", 0}}, .ca = true, .to = CERT_NOW + 999 * CERT_DAY},
		NULL);
	intermediate = cert_make(&(struct cert_spec){.cns = {{"Test CA", 0}}, .ca = true}, &root);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cert_drop(&intermediate);
	cert_drop(&root);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_common_name_beside_dns_names),
		cmocka_unit_test(test_name_constraints),
		cmocka_unit_test(test_constraints_by_signature),
		cmocka_unit_test(test_encodings_of_a_common_name),
		cmocka_unit_test(test_listed_names),
		cmocka_unit_test(test_names_that_look_alike),
		cmocka_unit_test(test_nul_in_names),
		cmocka_unit_test(test_broken_alternative_names),
		cmocka_unit_test(test_without_a_list),
		cmocka_unit_test(test_small_buffers),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_nothing_shown),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_purpose),
		cmocka_unit_test(test_ca_as_leaf),
		cmocka_unit_test(test_key_usage),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_wildcards),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_nul_in_host_name),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_show_bytes),
	};

	return cmocka_run_group_tests_name("tls_peer", tests, set_up, tear_down);
}
