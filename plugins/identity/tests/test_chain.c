/* SPDX-License-Identifier: MIT */
/* test_chain - what a CA may send as a chain, and what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>
#include <gnutls/x509.h>
#include "plugins/identity/x509.h"
#include "plugins/identity/names.h"

#define T0  1763287200
#define DAY 86400

/* ---- a CA ---- */

struct text {
	const char *at;
	size_t len; /* 0: strlen; for NULs */
};

struct spec {
	const char *cn[2];
	const char *organization;
	struct text dns[3];
	const char *address[2], *uri;
	bool ca, no_aki;
	const void *serial;
	size_t serial_len;
	const void *aki; /* 20 bytes */
	int64_t from, to;
};

struct made {
	gnutls_x509_crt_t crt;
	struct identity_key *key;
	char *pem;
};

/* A root, an intermediate, a leaf for a.example, and a second pair of the same names. */
struct ca {
	struct made root, inter, leaf, other_root, other_inter;
};

static void ok(int rc, const char *what)
{
	if (rc < 0)
		fail_msg("%s: %s", what, gnutls_strerror(rc));
}
#define OK(call) ok(call, #call)

static void put_names(gnutls_x509_crt_t crt, const struct spec *s)
{
	if (s->organization)
		OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, s->organization,
						 (unsigned)strlen(s->organization)));
	for (size_t i = 0; i < 2 && s->cn[i]; i++)
		OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, s->cn[i],
						 (unsigned)strlen(s->cn[i])));
	for (size_t i = 0; i < 3 && s->dns[i].at; i++)
		OK(gnutls_x509_crt_set_subject_alt_name(
			crt, GNUTLS_SAN_DNSNAME, s->dns[i].at,
			(unsigned)(s->dns[i].len ? s->dns[i].len : strlen(s->dns[i].at)),
			GNUTLS_FSAN_APPEND));
	for (size_t i = 0; i < 2 && s->address[i]; i++) {
		unsigned char raw[16];
		unsigned len = (unsigned)name_address(s->address[i], raw);
		OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, raw, len,
							GNUTLS_FSAN_APPEND));
	}
	if (s->uri)
		OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, s->uri, (unsigned)strlen(s->uri),
							GNUTLS_FSAN_APPEND));
}

static void set_key_id(gnutls_x509_crt_t crt, const struct identity_key *key,
		       int (*set)(gnutls_x509_crt_t, const void *, size_t))
{
	unsigned char id[20];
	size_t n = sizeof id;

	OK(gnutls_pubkey_get_key_id(key->public, GNUTLS_KEYID_USE_SHA1, id, &n));
	OK(set(crt, id, n));
}

/* issuer NULL: signed by itself; key NULL: a new one, else it is taken over. */
static struct made make(const struct spec *s, const struct made *issuer, struct identity_key *key)
{
	static unsigned char number = 1;
	const unsigned char serial[] = {0x12, number++};
	struct made m = {.key = key};
	gnutls_datum_t d;

	if (!key)
		assert_int_equal(key_new(&m.key), 0);
	OK(gnutls_x509_crt_init(&m.crt));
	OK(gnutls_x509_crt_set_version(m.crt, 3));
	OK(gnutls_x509_crt_set_serial(m.crt, s->serial ? s->serial : serial, s->serial ? s->serial_len : 2));
	OK(gnutls_x509_crt_set_activation_time(m.crt, s->from ? s->from : T0));
	OK(gnutls_x509_crt_set_expiration_time(m.crt, s->to ? s->to : T0 + DAY));
	OK(gnutls_x509_crt_set_pubkey(m.crt, m.key->public));
	put_names(m.crt, s);
	OK(gnutls_x509_crt_set_basic_constraints(m.crt, s->ca, -1));
	OK(gnutls_x509_crt_set_key_usage(m.crt,
					 s->ca ? GNUTLS_KEY_KEY_CERT_SIGN : GNUTLS_KEY_DIGITAL_SIGNATURE));
	set_key_id(m.crt, m.key, gnutls_x509_crt_set_subject_key_id);
	if (s->aki)
		OK(gnutls_x509_crt_set_authority_key_id(m.crt, s->aki, 20));
	else if (!s->no_aki)
		set_key_id(m.crt, issuer ? issuer->key : m.key, gnutls_x509_crt_set_authority_key_id);
	OK(gnutls_x509_crt_privkey_sign(m.crt, issuer ? issuer->crt : m.crt,
					issuer ? issuer->key->private : m.key->private, GNUTLS_DIG_SHA256,
					0));
	OK(gnutls_x509_crt_export2(m.crt, GNUTLS_X509_FMT_PEM, &d));
	m.pem = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return m;
}

static void drop(struct made *m)
{
	gnutls_x509_crt_deinit(m->crt);
	key_free(m->key);
	free(m->pem);
}

static const struct spec root_spec = {.cn = {"Root"}, .organization = "Test", .ca = true};
static const struct spec inter_spec = {.cn = {"Intermediate A"}, .ca = true};
static const struct spec leaf_spec = {.cn = {"a.example"}, .dns = {{"a.example", 0}}};

static int set_up(void **state)
{
	struct ca *ca = calloc(1, sizeof *ca);

	ca->root = make(&root_spec, NULL, NULL);
	ca->inter = make(&inter_spec, &ca->root, NULL);
	ca->leaf = make(&leaf_spec, &ca->inter, NULL);
	ca->other_root = make(&root_spec, NULL, NULL);
	ca->other_inter = make(&inter_spec, &ca->other_root, NULL);
	*state = ca;
	return 0;
}

static int tear_down(void **state)
{
	struct ca *ca = *state;

	drop(&ca->root);
	drop(&ca->inter);
	drop(&ca->leaf);
	drop(&ca->other_root);
	drop(&ca->other_inter);
	free(ca);
	return 0;
}

/* ---- reading ---- */

__attribute__((sentinel)) static char *join(const char *first, ...)
{
	size_t size;
	char *all;
	FILE *to = open_memstream(&all, &size);
	va_list args;

	va_start(args, first);
	for (const char *s = first; s; s = va_arg(args, const char *))
		fputs(s, to);
	va_end(args);
	fclose(to);
	return all;
}

static const char *const a_example[] = {"a.example"};

static void takes(const char *pem, const struct identity_key *key, const char *const *names, size_t n,
		  struct chain_info *out)
{
	char why[300] = "";

	if (chain_read(pem, strlen(pem), key, names, n, out, why, sizeof why))
		fail_msg("%s", why);
}

static void refuses_n(const char *pem, size_t len, const struct identity_key *key, const char *const *names,
		      size_t n, const char *why_part)
{
	struct chain_info info = {0};
	char why[300] = "";

	assert_int_equal(chain_read(pem, len, key, names, n, &info, why, sizeof why), -EINVAL);
	assert_null(info.pem);
	if (!strstr(why, why_part))
		fail_msg("\"%s\" does not say \"%s\"", why, why_part);
}

static void refuses(const char *pem, const struct identity_key *key, const char *const *names, size_t n,
		    const char *why_part)
{
	refuses_n(pem, strlen(pem), key, names, n, why_part);
}

static void reads_a_chain(void **state)
{
	const struct ca *ca = *state;
	char *pem = join(ca->leaf.pem, ca->inter.pem, NULL);
	struct chain_info info, again;

	takes(pem, ca->leaf.key, a_example, 1, &info);
	assert_int_equal(info.n, 2);
	assert_string_equal(info.pem, pem);
	assert_string_equal(info.subject, "a.example");
	assert_string_equal(info.issuer, "Intermediate A");
	assert_string_equal(info.root, "Root");
	assert_int_equal(info.not_before, T0);
	assert_int_equal(info.not_after, T0 + DAY);
	assert_int_equal(strlen(info.serial), 4);
	takes(info.pem, NULL, NULL, 0, &again);
	assert_string_equal(again.pem, info.pem);
	assert_string_equal(again.ari_id, info.ari_id);
	chain_done(&info);
	assert_null(info.pem);
	chain_done(&again);
	free(pem);
}

static void puts_in_order(void **state)
{
	const struct ca *ca = *state;
	const char *p[] = {ca->leaf.pem, ca->inter.pem, ca->root.pem};
	static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	char *expected = join(p[0], p[1], p[2], NULL);

	for (size_t i = 0; i < 6; i++) {
		/* white space around is allowed */
		char *pem = join("\r\n ", p[orders[i][0]], "\n\n", p[orders[i][1]], p[orders[i][2]], "\n\t",
				 NULL);
		struct chain_info info;
		takes(pem, ca->leaf.key, a_example, 1, &info);
		assert_int_equal(info.n, 3);
		assert_string_equal(info.pem, expected);
		assert_string_equal(info.root, "Root");
		chain_done(&info);
		free(pem);
	}
	free(expected);
}

static void leaf_alone(void **state)
{
	const struct ca *ca = *state;
	struct chain_info info;

	takes(ca->leaf.pem, ca->leaf.key, a_example, 1, &info);
	assert_int_equal(info.n, 1);
	assert_string_equal(info.root, "Intermediate A");
	chain_done(&info);
}

static void line_ends_of_dos(void **state)
{
	const struct ca *ca = *state;
	size_t size;
	char *pem;
	FILE *to = open_memstream(&pem, &size);
	struct chain_info info;

	for (const char *s = ca->leaf.pem; *s; s++)
		fprintf(to, "%s%c", *s == '\n' ? "\r" : "", *s);
	fclose(to);
	takes(pem, ca->leaf.key, a_example, 1, &info);
	assert_string_equal(info.pem, ca->leaf.pem);
	chain_done(&info);
	free(pem);
}

static void refuses_wrong_keys(void **state)
{
	const struct ca *ca = *state;
	char *pem = join(ca->leaf.pem, ca->inter.pem, NULL);

	refuses(pem, ca->root.key, NULL, 0, "all certificates are for another key");
	refuses(ca->leaf.pem, ca->root.key, NULL, 0, "the certificate is for another key");
	/* the intermediate's key: then the leaf is in excess */
	refuses(pem, ca->inter.key, NULL, 0, "has signed certificate 1");
	free(pem);
}

static void refuses_broken_chains(void **state)
{
	const struct ca *ca = *state;
	const struct {
		char *pem;
		const char *why;
	} cases[] = {
		{join(ca->leaf.pem, ca->leaf.pem, NULL), "has signed certificate 1"},
		{join(ca->leaf.pem, ca->inter.pem, ca->inter.pem, NULL), "has signed certificate 2"},
		{join(ca->leaf.pem, ca->root.pem, NULL), "has signed certificate 1"},
		{join(ca->leaf.pem, ca->other_inter.pem, NULL), "has signed certificate 1"},
		{join(ca->leaf.pem, ca->inter.pem, ca->other_root.pem, NULL), "has signed certificate 2"},
		{join(ca->leaf.pem, ca->inter.pem, ca->root.pem, ca->other_inter.pem, NULL),
		 "has signed certificate 3"},
		{join(ca->leaf.pem, ca->inter.pem, ca->root.pem, ca->root.pem, NULL), NULL},
	};

	for (size_t i = 0; i + 1 < sizeof cases / sizeof cases[0]; i++)
		refuses(cases[i].pem, ca->leaf.key, a_example, 1, cases[i].why);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		free(cases[i].pem);
}

/* Two with the same name and key id where one has signed: the right one is found. */
static void tells_issuers_of_the_same_name_apart(void **state)
{
	const struct ca *ca = *state;
	const struct spec spec = {.cn = {"a.example"}, .dns = {{"a.example", 0}}, .no_aki = true};
	struct made leaf = make(&spec, &ca->inter, NULL);
	char *pem = join(leaf.pem, ca->other_inter.pem, NULL), *good = join(leaf.pem, ca->inter.pem, NULL);
	struct chain_info info;

	refuses(pem, leaf.key, NULL, 0, "has signed certificate 1");
	takes(good, leaf.key, NULL, 0, &info);
	assert_string_equal(info.ari_id, "");
	chain_done(&info);
	free(pem);
	free(good);
	drop(&leaf);
}

/* Two roots of one name. */
static void finds_the_root(void **state)
{
	const struct ca *ca = *state;
	char path[2][32] = {"/tmp/root.XXXXXX", "/tmp/root.XXXXXX"}, found[CHAIN_FINGERPRINT],
	     wanted[CHAIN_FINGERPRINT];
	const char *const both[] = {"/nowhere.pem", path[0], path[1], NULL}, *const other[] = {path[0], NULL};
	char *pem = join(ca->leaf.pem, ca->inter.pem, NULL), *whole = join(pem, ca->root.pem, NULL);
	unsigned char hash[32];
	size_t n = sizeof hash;
	for (int i = 0; i < 2; i++) {
		FILE *f = fdopen(mkstemp(path[i]), "w");
		assert_non_null(f);
		fputs(i ? ca->root.pem : ca->other_root.pem, f);
		fclose(f);
	}
	OK(gnutls_x509_crt_get_fingerprint(ca->root.crt, GNUTLS_DIG_SHA256, hash, &n));
	for (size_t i = 0; i < n; i++)
		snprintf(wanted + 2 * i, 3, "%02x", hash[i]);
	assert_int_equal(chain_root_fingerprint(pem, both, found), 0);
	assert_string_equal(found, wanted);
	assert_int_equal(chain_root_fingerprint(whole, NULL, found), 0);
	assert_string_equal(found, wanted);
	assert_int_equal(chain_root_fingerprint(pem, other, found), -ENOENT);
	assert_int_equal(chain_root_fingerprint(pem, NULL, found), -ENOENT);
	assert_int_equal(chain_root_fingerprint("no chain", both, found), -ENOENT);
	for (int i = 0; i < 2; i++)
		remove(path[i]);
	free(pem);
	free(whole);
}

static void refuses_issuers_that_are_no_cas(void **state)
{
	const struct ca *ca = *state;
	const struct spec below = {.cn = {"b.example"}, .dns = {{"b.example", 0}}};
	struct made leaf = make(&below, &ca->leaf, NULL);
	char *pem = join(leaf.pem, ca->leaf.pem, ca->inter.pem, NULL);

	refuses(pem, leaf.key, NULL, 0, "has signed certificate 1");
	free(pem);
	drop(&leaf);
}

static void refuses_other_text(void **state)
{
	const struct ca *ca = *state;
	const char *leaf = ca->leaf.pem, *inter = ca->inter.pem;
	char *private = key_pem(ca->leaf.key), *cut = strdup(leaf), *noise = strdup(leaf);
	struct {
		char *pem;
		const char *why;
	} cases[] = {
		{join("", NULL), "no certificate"},
		{join(" \r\n", NULL), "no certificate"},
		{join("<html>", NULL), "text other than"},
		{join(leaf, inter, "junk", NULL), "text other than certificates, after 2"},
		{join("Subject: x\n", leaf, NULL), "text other than"},
		{join(leaf, "text\n", inter, NULL), "text other than certificates, after 1"},
		{join(leaf, private, NULL), "\"PRIVATE KEY\""},
		{join(private, leaf, NULL), "\"PRIVATE KEY\""},
		{join(leaf, "-----BEGIN CERTIFICATE REQUEST-----\n", NULL), "\"CERTIFICATE REQUEST\""},
		{join(leaf, "-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n", NULL),
		 "\"X509 CRL\""},
		{join(leaf, "-----BEGIN \x1b[2J\n-----\n", NULL), "\"?[2J?\""},
		{join(leaf, "-----BEGIN ", NULL), "text other than"},
		{join("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", NULL),
		 "certificate 1 cannot be read"},
		{join("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", NULL),
		 "certificate 1 cannot"},
		{join("-----BEGIN CERTIFICATE-----\n", leaf, NULL), "certificate 1 cannot be read"},
		{cut, "cut off"},
		{noise, "certificate 1 cannot be read"},
	};

	*strstr(cut, "-----END") = 0;
	memcpy(noise + 60, "$$$$", 4);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		refuses(cases[i].pem, ca->leaf.key, a_example, 1, cases[i].why);
		free(cases[i].pem);
	}
	key_text_free(private);
}

static void refuses_nul_and_size(void **state)
{
	const struct ca *ca = *state;
	size_t len = strlen(ca->leaf.pem), large = 1 << 20;
	char *pem = malloc(len + 2), *huge = malloc(large);

	memcpy(pem, ca->leaf.pem, len);
	pem[len] = 0;
	pem[len + 1] = '\n';
	refuses_n(pem, len + 1, ca->leaf.key, a_example, 1, "NUL");
	pem[100] = 0;
	refuses_n(pem, len, ca->leaf.key, a_example, 1, "NUL");
	memset(huge, '\n', large);
	refuses_n(huge, large, ca->leaf.key, a_example, 1, "larger than");
	/* one certificate of 100 KiB */
	memset(huge, 'A', large);
	memcpy(huge, "-----BEGIN CERTIFICATE-----\n", 28);
	memcpy(huge + 100 * 1024, "\n-----END CERTIFICATE-----\n", 27);
	refuses_n(huge, 100 * 1024 + 27, ca->leaf.key, a_example, 1, "certificate 1 is larger");
	free(pem);
	free(huge);
}

static void at_most_sixteen(void **state)
{
	struct made cas[CHAIN_MAX + 1];
	char *pem = strdup(""), *grown;
	struct chain_info info;

	(void)state;
	for (size_t i = 0; i <= CHAIN_MAX; i++) {
		char cn[30];
		snprintf(cn, sizeof cn, "CA %zu", i);
		struct spec spec = {.cn = {cn}, .ca = true};
		cas[i] = make(&spec, i ? &cas[i - 1] : NULL, NULL);
	}
	for (size_t i = CHAIN_MAX; i > 0; i--, free(pem), pem = grown)
		grown = join(pem, cas[i].pem, NULL);
	takes(pem, cas[CHAIN_MAX].key, NULL, 0, &info);
	assert_int_equal(info.n, CHAIN_MAX);
	assert_string_equal(info.root, "CA 0");
	chain_done(&info);
	grown = join(pem, cas[0].pem, NULL);
	refuses(grown, cas[CHAIN_MAX].key, NULL, 0, "more than 16");
	free(grown);
	free(pem);
	for (size_t i = 0; i <= CHAIN_MAX; i++)
		drop(&cas[i]);
}

/* ---- names ---- */

static void names_must_be_exactly_these(void **state)
{
	static const char *const names[] = {"a.example", "192.0.2.7", "2001:db8::7", "www.A.example"};
	static const struct {
		struct spec spec;
		const char *why; /* NULL: fine */
		size_t n;
	} cases[] = {
		{{.cn = {"a.example"}, .dns = {{"a.example", 0}}}, NULL, 1},
		{{.dns = {{"A.eXample", 0}}}, NULL, 1},
		{{.cn = {"A.EXAMPLE"}, .dns = {{"a.example", 0}, {"a.example", 0}}}, NULL, 1},
		{{.cn = {"www.a.example"},
		  .dns = {{"www.a.example", 0}, {"a.example", 0}},
		  .address = {"2001:db8:0::7", "192.0.2.7"}},
		 NULL,
		 4},
		{{.dns = {{"a.example", 0}}, .uri = "urn:site:a"}, NULL, 1},
		{{.cn = {"192.0.2.7"}, .dns = {{"a.example", 0}}, .address = {"192.0.2.7"}}, NULL, 2},
		{{.dns = {{"a.example", 0}}}, "not for \"192.0.2.7\"", 2},
		{{.dns = {{"b.example", 0}}}, "also for \"b.example\"", 1},
		{{.dns = {{"a.example", 0}, {"b.example", 0}}}, "also for \"b.example\"", 1},
		{{.dns = {{"a.example", 0}}, .address = {"192.0.2.8"}}, "also for \"192.0.2.8\"", 2},
		{{.dns = {{"a.example", 0}}, .address = {"2001:db8::8"}}, "also for \"2001:db8::8\"", 1},
		{{.dns = {{"a.example", 0}, {"192.0.2.7", 0}}},
		 "also for \"192.0.2.7\"",
		 2}, /* an address as a DNS name */
		{{.dns = {{"*.example", 0}}}, "also for \"*.example\"", 1},
		{{.dns = {{"a.example.", 0}}}, "also for \"a.example.\"", 1},
		{{.dns = {{"a.exampl", 0}}}, "also for \"a.exampl\"", 1},
		{{.cn = {"a.example"}}, "no subject alternative names", 1},
		{{.cn = {"b.example"}, .dns = {{"a.example", 0}}}, "also for \"b.example\"", 1},
		{{.cn = {"a.example", "b.example"}, .dns = {{"a.example", 0}}}, "also for \"b.example\"", 1},
	};
	const struct ca *ca = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct made leaf = make(&cases[i].spec, &ca->inter, NULL);
		char *pem = join(leaf.pem, ca->inter.pem, NULL);
		struct chain_info info;
		if (cases[i].why) {
			refuses(pem, leaf.key, names, cases[i].n, cases[i].why);
		} else {
			takes(pem, leaf.key, names, cases[i].n, &info);
			chain_done(&info);
		}
		/* without names to compare with, any are fine */
		takes(pem, leaf.key, NULL, 0, &info);
		chain_done(&info);
		free(pem);
		drop(&leaf);
	}
}

/* A leaf whose CN, eight bytes, is a string of this type, as GnuTLS would not write it. */
static char *leaf_with_cn(const struct ca *ca, const char *dns, unsigned char tag, const char bytes[8])
{
	const struct spec spec = {.cn = {"eight by"}, .dns = {{dns, 0}}};
	struct made leaf = make(&spec, &ca->inter, NULL);
	gnutls_datum_t der, pem;

	OK(gnutls_x509_crt_export2(leaf.crt, GNUTLS_X509_FMT_DER, &der));
	unsigned char *cn = memmem(der.data, der.size, "eight by", 8);
	assert_non_null(cn);
	cn[-2] = tag;
	memcpy(cn, bytes, 8);
	OK(gnutls_pem_base64_encode2("CERTIFICATE", &der, &pem));
	char *text = strndup((const char *)pem.data, pem.size);
	gnutls_free(pem.data);
	gnutls_free(der.data);
	drop(&leaf);
	return text;
}

static void common_names_in_any_encoding(void **state)
{
	static const struct {
		unsigned char tag;
		const char bytes[9], *name, *subject, *why; /* NULL: fine */
	} cases[] = {
		{30, "\0a\0.\0b\0c", "a.bc", "a.bc", NULL},
		{28, "\0\0\0a\0\0\0b", "ab", "ab", NULL},
		{20, "a.bcd.ef", "a.bcd.ef", "a.bcd.ef", NULL},
		{22, "a.bcd.ef", "A.bcd.ef", "a.bcd.ef", NULL},
		{26, "a.bcd.ef", "a.bcd.ef", "a.bcd.ef", NULL},
		{20, "M\xfcnster1", "other", "Münster1", "also for \"Münster1\""},
		{30, "\0a\0\0\0b\0c", "a", "a?bc", "also for \"a?bc\""},
		{12, "a.b\0.evl", "a.b", "a.b?.evl", "also for \"a.b?.evl\""},
		{12, "a.\xff\xfe.bcd", "a.bc", "a.??.bcd", "also for \"a.??.bcd\""},
		{30, "\xd8\0\0a\0b\0c", "abc", "CN=(of ASN.1 type 30, which cannot be decoded)",
		 "CN is of ASN.1 type 30, which cannot be decoded"},
		{28, "\x7f\xff\xff\xff\0\0\0A", "A", "CN=(of ASN.1 type 28, which cannot be decoded)",
		 "CN is of ASN.1 type 28"},
		{27, "a.bcd.ef", "a.bcd.ef", "CN=(of ASN.1 type 27, which cannot be decoded)",
		 "CN is of ASN.1 type 27"},
	};
	const struct ca *ca = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *pem = leaf_with_cn(ca, cases[i].name, cases[i].tag, cases[i].bytes);
		struct chain_info info;
		if (cases[i].why) {
			refuses(pem, NULL, &cases[i].name, 1, cases[i].why);
		} else {
			takes(pem, NULL, &cases[i].name, 1, &info);
			chain_done(&info);
		}
		takes(pem, NULL, NULL, 0, &info);
		assert_string_equal(info.subject, cases[i].subject);
		chain_done(&info);
		free(pem);
	}
}

/* subjectAltName as DER, since GnuTLS does not write such. */
static struct made leaf_with_san(const struct made *issuer, const void *san, unsigned len)
{
	const struct spec plain = {.cn = {"a.example"}};
	struct made leaf = make(&plain, issuer, NULL);
	gnutls_datum_t d;

	OK(gnutls_x509_crt_set_extension_by_oid(leaf.crt, GNUTLS_X509EXT_OID_SAN, san, len, 0));
	OK(gnutls_x509_crt_privkey_sign(leaf.crt, issuer->crt, issuer->key->private, GNUTLS_DIG_SHA256, 0));
	OK(gnutls_x509_crt_export2(leaf.crt, GNUTLS_X509_FMT_PEM, &d));
	free(leaf.pem);
	leaf.pem = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return leaf;
}

static void tricks_with_names(void **state)
{
	static const unsigned char with_nul[] = "\x30\x12\x82\x10"
						"a.example\0b.evil",
				   short_address[] = "\x30\x05\x87\x03\x01\x02\x03",
				   garbage[] = "\x30\x05\x82\x7f\x01", empty[] = "\x30\x00",
				   empty_name[] = "\x30\x02\x82\x00";
	const struct {
		const void *san;
		unsigned len;
		const char *why;
	} cases[] = {
		{with_nul, sizeof with_nul - 1, "?b.evil"},
		{short_address, sizeof short_address - 1, "an address of 3 bytes"},
		{garbage, sizeof garbage - 1, "cannot be read"},
		{empty, sizeof empty - 1, "not for \"a.example\""},
		{empty_name, sizeof empty_name - 1, "certificate 1 cannot be read"},
	};
	const struct ca *ca = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct made leaf = leaf_with_san(&ca->inter, cases[i].san, cases[i].len);
		refuses(leaf.pem, leaf.key, a_example, 1, cases[i].why);
		drop(&leaf);
	}
}

static void a_thousand_names(void **state)
{
	const struct ca *ca = *state;
	unsigned char *san = malloc(50000), *to = san + 4;

	/* of a kind that does not matter, and many */
	for (int i = 0; i < 2000; i++, to += 12)
		memcpy(to, "\x86\x0aurn:site:a", 12);
	memcpy(san, "\x30\x82", 2);
	san[2] = (unsigned char)((to - san - 4) >> 8);
	san[3] = (unsigned char)(to - san - 4);
	struct made leaf = leaf_with_san(&ca->inter, san, (unsigned)(to - san));
	refuses(leaf.pem, leaf.key, a_example, 1, "not for \"a.example\"");
	drop(&leaf);
	free(san);
}

/* ---- what is told ---- */

/* The certificate of RFC 9773 section 4.1 has this key identifier and serial number. */
static void ari_id_of_rfc9773(void **state)
{
	static const unsigned char aki[20] = {0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3,
					      0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4};
	const struct spec spec = {
		.cn = {"example.com"}, .serial = "\0\x87\x65\x43\x21", .serial_len = 5, .aki = aki};
	const struct ca *ca = *state;
	struct made leaf = make(&spec, &ca->inter, NULL);
	struct chain_info info;

	takes(leaf.pem, leaf.key, NULL, 0, &info);
	assert_string_equal(info.ari_id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
	assert_string_equal(info.serial, "87654321");
	chain_done(&info);
	drop(&leaf);
}

static void serial_numbers(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *hex; /* NULL: refused */
	} cases[] = {
		{"\x01", 1, "01"},
		{"\x00\xff", 2, "ff"},
		{"\x7f\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13", 20,
		 "7f0102030405060708090a0b0c0d0e0f10111213"},
		{"\x01..............................", 31,
		 "012e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e"},
		{"\x01...............................", 32, NULL},
	};
	const struct ca *ca = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct spec spec = {
			.cn = {"a.example"}, .serial = cases[i].bytes, .serial_len = cases[i].len};
		struct made leaf = make(&spec, &ca->inter, NULL);
		struct chain_info info;
		if (cases[i].hex) {
			takes(leaf.pem, leaf.key, NULL, 0, &info);
			assert_string_equal(info.serial, cases[i].hex);
			chain_done(&info);
		} else {
			refuses(leaf.pem, leaf.key, NULL, 0, "serial number");
		}
		drop(&leaf);
	}
}

static void names_are_made_harmless(void **state)
{
	const struct ca *ca = *state;
	const struct spec evil = {.cn = {"x\ny\x1b[31m level=error"}, .ca = true};
	const struct spec nameless = {.organization = "Only\tOrg", .ca = true};
	struct made issuer = make(&evil, &ca->root, NULL), other = make(&nameless, &issuer, NULL),
		    leaf = make(&leaf_spec, &other, NULL);
	char *pem = join(leaf.pem, other.pem, NULL);
	struct chain_info info;

	takes(pem, leaf.key, a_example, 1, &info);
	assert_string_equal(info.root, "x?y?[31m level=error");
	assert_string_equal(info.issuer, "O=Only\\09Org");
	chain_done(&info);
	free(pem);
	drop(&issuer);
	drop(&other);
	drop(&leaf);
}

static void validity_must_make_sense(void **state)
{
	const struct ca *ca = *state;
	const struct spec backwards = {.cn = {"a.example"}, .from = T0 + DAY, .to = T0},
			  past = {.cn = {"a.example"}, .from = 1000000, .to = 1000001};
	struct made a = make(&backwards, &ca->inter, NULL), b = make(&past, &ca->inter, NULL);
	struct chain_info info;

	refuses(a.pem, a.key, NULL, 0, "validity");
	/* whether it is valid now is for others to say */
	takes(b.pem, b.key, NULL, 0, &info);
	assert_int_equal(info.not_after, 1000001);
	chain_done(&info);
	drop(&a);
	drop(&b);
}

/* Checking a signature by such a key would take seconds. */
static void refuses_monstrous_rsa_keys(void **state)
{
	static const struct {
		unsigned n, e;
	} sizes[] = {{2048, 1024}, {512, 9}};
	const struct ca *ca = *state;

	for (size_t i = 0; i < 2; i++) {
		struct identity_key *monster = calloc(1, sizeof *monster);
		unsigned char *bytes = malloc(sizes[i].n);
		memset(bytes, 0xa5, sizes[i].n);
		gnutls_datum_t n = {bytes, sizes[i].n}, e = {bytes, sizes[i].e};
		OK(gnutls_pubkey_init(&monster->public));
		OK(gnutls_pubkey_import_rsa_raw(monster->public, &n, &e));
		struct made leaf = make(&leaf_spec, &ca->inter, monster);
		refuses(leaf.pem, NULL, a_example, 1, "unreasonable size");
		drop(&leaf);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_chain),
		cmocka_unit_test(puts_in_order),
		cmocka_unit_test(leaf_alone),
		cmocka_unit_test(line_ends_of_dos),
		cmocka_unit_test(refuses_wrong_keys),
		cmocka_unit_test(refuses_broken_chains),
		cmocka_unit_test(tells_issuers_of_the_same_name_apart),
		cmocka_unit_test(finds_the_root),
		cmocka_unit_test(refuses_issuers_that_are_no_cas),
		cmocka_unit_test(refuses_other_text),
		cmocka_unit_test(refuses_nul_and_size),
		cmocka_unit_test(at_most_sixteen),
		cmocka_unit_test(names_must_be_exactly_these),
		cmocka_unit_test(common_names_in_any_encoding),
		cmocka_unit_test(tricks_with_names),
		cmocka_unit_test(a_thousand_names),
		cmocka_unit_test(ari_id_of_rfc9773),
		cmocka_unit_test(serial_numbers),
		cmocka_unit_test(names_are_made_harmless),
		cmocka_unit_test(validity_must_make_sense),
		cmocka_unit_test(refuses_monstrous_rsa_keys),
	};
	return cmocka_run_group_tests_name("chain", tests, set_up, tear_down);
}
