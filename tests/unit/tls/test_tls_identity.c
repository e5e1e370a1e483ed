/* SPDX-License-Identifier: MIT */
/* The TLS identity: what is taken from files and what is refused, changes while others read, and who is told.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"
#include "core/flow/component.h"
#include "core/admin/health.h"
#include "core/admin/metrics.h"
#include "core/tls/tls_identity.h"
#include "core/tls/tls_trial.h"
#include "core/tls/tls_peer.h"
#include "sdk/test-host/tests/tls_certs.h"

static struct cert root, ca, one, two, expired; /* leaves of ca */
static char folder[] = "/tmp/tls-identity-XXXXXX";

#define NAMED(...)                                                                                           \
	(&(struct cert_spec){.cns = {{__VA_ARGS__, 0}}, .from = time(NULL) - 60, .to = time(NULL) + 7200})

/* ---- files ---- */

static const char *path(const char *name)
{
	static char paths[8][320];
	static unsigned next;
	char *p = paths[next++ % 8];

	snprintf(p, sizeof paths[0], "%s/%s", folder, name);
	return p;
}

static void put_text(const char *name, const char *text, mode_t mode)
{
	cert_write(path(name), text, strlen(text), mode);
}

static void put_chain(const char *name, const struct cert *leaf)
{
	cert_write_chain(path(name), (const struct cert *const[]){leaf, &ca}, 2);
}

static void put_key(const char *name, const struct cert *c)
{
	cert_write_key(path(name), c, 0600);
}

static void clean(void)
{
	DIR *d = opendir(folder);

	for (struct dirent *e; d && (e = readdir(d));)
		unlink(path(e->d_name));
	if (d)
		closedir(d);
}

/* Server with certificate one, and a client that trusts root. */
static int put_all(void **state)
{
	(void)state;
	clean();
	put_chain("s.crt", &one);
	put_key("s.key", &one);
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root}, 1);
	cert_write_chain(path("other.crt"), (const struct cert *const[]){&ca}, 1);
	return 0;
}

/* ---- an identity ---- */

struct fixture {
	struct jdoc *doc;
	struct tls_config *config;
	struct health *health;
	struct diag diag;
	struct tls_identity *id;
	char *told; /* what diag has, without the folder */
	int rc;
};

#define BOTH                                                                                                 \
	"{\"security\": {\"tls\": {\"server\": {\"enabled\": true, \"cert_file\": \"s.crt\", \"key_file\": " \
	"\"s.key\","                                                                                         \
	" \"min_version\": \"1.3\", \"mtls\": {\"enabled\": true, \"client_ca_files\": [\"root.crt\", "      \
	"\"other.crt\"],"                                                                                    \
	" \"allowed_client_cns\": [\"b.local\"]}}, \"client\": {\"ca_files\": [\"root.crt\"]}}}}"

static struct fixture make(const char *text)
{
	struct fixture f = {0};
	size_t len, skip = strlen(folder);
	FILE *to = open_memstream(&f.told, &len);

	diag_init(&f.diag);
	assert_int_equal(jdoc_parse(path("f.json"), text, strlen(text), &f.diag, &f.doc), 0);
	f.config = calloc(1, sizeof *f.config);
	f.health = health_new();
	f.rc = tls_config_read(f.doc, jnode_get(f.doc->root, "security"), NULL, &f.diag, f.config);
	int rc = tls_identity_new(f.doc, f.config, f.rc == 0, f.health, &f.diag, &f.id);
	f.rc = f.rc ? f.rc : rc;
	diag_print(&f.diag, to);
	fclose(to);
	for (char *at; (at = strstr(f.told, folder));)
		memmove(at, at + skip + 1, strlen(at + skip + 1) + 1);
	return f;
}

static void drop(struct fixture *f)
{
	tls_identity_free(f->id);
	tls_config_done(f->config);
	free(f->config);
	health_free(f->health);
	diag_done(&f->diag);
	jdoc_free(f->doc);
	free(f->told);
}

static struct fixture make_good(const char *text)
{
	struct fixture f = make(text);

	assert_string_equal(f.told, "");
	assert_int_equal(f.rc, 0);
	return f;
}

static uint64_t generation(struct tls_identity *id, uint32_t role)
{
	const struct ss_tls_material *m = tls_identity_acquire(id, role);
	uint64_t n = m ? m->generation : 0;

	tls_identity_release(m);
	return n;
}

/* Is this the leaf of the server's chain, and does the key go with it? */
static bool serves(struct tls_identity *id, const struct cert *leaf)
{
	const struct ss_tls_material *m = tls_identity_acquire(id, SS_TLS_SERVER);
	struct cert_list chain;
	gnutls_x509_privkey_t key;
	char why[256];

	assert_int_equal(cert_list_load(m->chain_pem, strlen(m->chain_pem), 9, &chain, why, sizeof why), 0);
	assert_int_equal(tls_trial_open(NULL, why, sizeof why)
				 ->key(m->key_pem, strlen(m->key_pem), &key, why, sizeof why),
			 0);
	assert_true(cert_key_matches(chain.certs[0], key));
	bool yes = cert_key_matches(leaf->crt, key);
	gnutls_x509_privkey_deinit(key);
	cert_list_free(&chain);
	tls_identity_release(m);
	return yes;
}

/* The value of a sample; -1: it is not there. */
static long metric(struct tls_identity *id, const char *sample)
{
	struct metrics *m = metrics_new();
	char *text, *line;
	size_t len, n = strlen(sample);
	long value = -1;
	FILE *to = open_memstream(&text, &len);

	metrics_add_collector(m, (void (*)(void *, struct metrics_page *))tls_identity_collect, id);
	assert_int_equal(metrics_print(m, to), 0);
	fclose(to);
	for (line = text; line && value < 0; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, sample, n) == 0 && line[n] == ' ')
			value = strtol(line + n, NULL, 10);
	}
	free(text);
	metrics_free(m);
	return value;
}
#define RELOADS(id)  metric(id, "semstreams_tls_reloads_total")
#define FAILURES(id) metric(id, "semstreams_tls_reload_failures_total")

/* ---- start ---- */

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

static void test_material(void **state)
{
	struct fixture f = make_good(BOTH);

	(void)state;
	assert_true(tls_identity_enabled(f.id, SS_TLS_SERVER));
	assert_true(tls_identity_enabled(f.id, SS_TLS_CLIENT));
	assert_false(tls_identity_enabled(f.id, 2));
	assert_null(tls_identity_acquire(f.id, 2));
	const struct ss_tls_material *s = tls_identity_acquire(f.id, SS_TLS_SERVER);
	const struct ss_tls_material *c = tls_identity_acquire(f.id, SS_TLS_CLIENT);
	assert_true(serves(f.id, &one));
	assert_int_equal(s->struct_size, sizeof *s);
	assert_int_equal(s->role, SS_TLS_SERVER);
	assert_int_equal(count(s->chain_pem, "BEGIN CERTIFICATE"), 2);
	assert_int_equal(count(s->key_pem, "BEGIN PRIVATE KEY"), 1);
	assert_int_equal(count(s->ca_pem, "BEGIN CERTIFICATE"), 2);
	assert_int_equal(s->not_after, cert_not_after(one.crt));
	assert_int_equal(s->not_before, cert_not_before(one.crt));
	assert_int_equal(s->min_version, 0x0304);
	assert_int_equal(s->flags, SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER);
	assert_int_equal(c->role, SS_TLS_CLIENT);
	assert_null(c->chain_pem);
	assert_null(c->key_pem);
	assert_int_equal(count(c->ca_pem, "BEGIN CERTIFICATE"), 1);
	assert_int_equal(c->not_after, 0);
	assert_int_equal(c->min_version, 0x0303);
	assert_true(c->generation != s->generation);
	tls_identity_release(s);
	tls_identity_release(c);
	tls_identity_release(NULL);
	drop(&f);
}

static void test_off(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"security\": {\"tls\": {\"server\": {\"enabled\": false, \"cert_file\": \"nowhere\", "
		"\"key_file\": \"nowhere\"}}}}"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct fixture f = make_good(texts[i]);
		assert_false(tls_identity_enabled(f.id, SS_TLS_SERVER));
		assert_null(tls_identity_acquire(f.id, SS_TLS_SERVER));
		assert_null(tls_identity_acquire(f.id, SS_TLS_CLIENT));
		assert_int_equal(FAILURES(f.id), -1);
		tls_identity_poll(f.id);
		assert_int_equal(tls_identity_reload(f.id), 0);
		char name[8], why[200];
		int32_t fail;
		assert_int_equal(tls_identity_check_peer(f.id, SS_TLS_SERVER, NULL, 0, -1, NULL, name,
							 sizeof name, &fail, why, sizeof why),
				 -EACCES);
		drop(&f);
	}
	tls_identity_poll(NULL);
	tls_identity_free(NULL);
}

static void test_client_alone(void **state)
{
	struct fixture f = make_good("{\"security\": {\"tls\": {\"client\": {}}}}");
	const struct ss_tls_material *m = tls_identity_acquire(f.id, SS_TLS_CLIENT);

	(void)state;
	assert_null(m->ca_pem);
	assert_int_equal(m->flags, SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER | SS_TLS_SYSTEM_CA);
	assert_int_equal(metric(f.id, "semstreams_tls_insecure_skip_verify"), 0);
	tls_identity_release(m);
	drop(&f);

	f = make("{\"security\": {\"tls\": {\"client\": {\"insecure_skip_verify\": true}}}}");
	assert_int_equal(f.rc, 0);
	assert_int_equal(f.diag.warnings, 1);
	assert_int_equal(metric(f.id, "semstreams_tls_insecure_skip_verify"), 1);
	drop(&f);
}

/* Each breaks one thing; what diag has to say. */
static void break_missing(void)
{
	unlink(path("s.key"));
	unlink(path("root.crt"));
}

static void break_mode(void)
{
	chmod(path("s.key"), 0640);
}

static void break_pair(void)
{
	put_key("s.key", &two);
}

static void break_order(void)
{
	cert_write_chain(path("s.crt"), (const struct cert *const[]){&ca, &one}, 2);
}

static void break_empty(void)
{
	put_text("s.crt", "", 0644);
	put_text("s.key", "no key\n", 0600);
	put_text("other.crt", "# nothing\n", 0644);
}

static void break_folder(void)
{
	unlink(path("s.crt"));
	mkdir(path("s.crt"), 0700);
}

static void break_der(void)
{
	gnutls_datum_t d = cert_der(&one);

	cert_write(path("s.crt"), d.data, d.size, 0644);
	gnutls_free(d.data);
}

static void cut(const char *name, off_t by)
{
	struct stat st;

	assert_int_equal(stat(path(name), &st), 0);
	assert_int_equal(truncate(path(name), st.st_size - by), 0);
}

static void break_cut(void)
{
	cut("s.crt", 20);
	cut("s.key", 100);
}

static void break_base64(void)
{
	put_text("other.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0644);
}

static void break_encrypted(void)
{
	gnutls_datum_t d;

	CERT_OK(gnutls_x509_privkey_export2_pkcs8(one.key, GNUTLS_X509_FMT_PEM, "secret",
						  GNUTLS_PKCS_PBES2_AES_256, &d));
	cert_write(path("s.key"), d.data, d.size, 0600);
	gnutls_free(d.data);
}

static void break_nothing_but_warn(void)
{
	put_chain("s.crt", &expired);
	put_key("s.key", &expired);
	cert_write_chain(path("other.crt"), (const struct cert *const[]){&two}, 1);
}

static void break_chain_order(void)
{
	cert_write_chain(path("s.crt"), (const struct cert *const[]){&one, &root, &ca}, 3);
}

static void break_fifo(void)
{
	unlink(path("s.key"));
	assert_int_equal(mkfifo(path("s.key"), 0600), 0);
}

static void break_large(void)
{
	assert_int_equal(truncate(path("root.crt"), 5 << 20), 0);
}

static void test_refusals(void **state)
{
	static const struct {
		void (*spoil)(void);
		const char *told;
	} cases[] = {
		{break_missing, "error f.json:1:85 /security/tls/server/key_file  No such file or directory "
				"reading key file \"s.key\"\n"
				"error f.json:1:162 /security/tls/server/mtls/client_ca_files/0  No such "
				"file or directory reading CA file "
				"\"root.crt\"\n"
				"error f.json:1:249 /security/tls/client/ca_files/0  No such file or "
				"directory reading CA file "
				"\"root.crt\"\n"},
		{break_mode, "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\" is open to "
			     "group or others (mode 0640); "
			     "run chmod 600 on it, and replace the key if others may have read it; "
			     "where modes cannot be changed set allow_open_key_file\n"},
		{break_pair,
		 "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\" does not match the "
		 "certificate in \"s.crt\"\n"},
		{break_order, "error f.json:1:64 /security/tls/server/cert_file  key file \"s.key\" belongs "
			      "to certificate 2 in "
			      "\"s.crt\"; the leaf must be the first\n"},
		{break_empty,
		 "error f.json:1:64 /security/tls/server/cert_file  certificate file \"s.crt\": holds no "
		 "certificate in PEM form\n"
		 "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\": holds no private key "
		 "in PEM form\n"
		 "error f.json:1:174 /security/tls/server/mtls/client_ca_files/1  CA file \"other.crt\": "
		 "holds "
		 "no certificate in PEM form\n"},
		{break_folder,
		 "error f.json:1:64 /security/tls/server/cert_file  Is a directory reading certificate file "
		 "\"s.crt\"\n"},
		{break_der,
		 "error f.json:1:64 /security/tls/server/cert_file  certificate file \"s.crt\": holds no "
		 "certificate in PEM form; this looks like DER, convert it with openssl x509 -inform der\n"},
		{break_cut, "error f.json:1:64 /security/tls/server/cert_file  certificate file \"s.crt\": "
			    "certificate 2 is "
			    "cut off, its END line is missing\n"
			    "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\": the "
			    "private key is cut "
			    "off, its END line is missing\n"},
		{break_base64,
		 "error f.json:1:174 /security/tls/server/mtls/client_ca_files/1  CA file \"other.crt\": "
		 "certificate 1 cannot be read: ASN1 parser: Error in TAG.\n"},
		{break_encrypted,
		 "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\": the private key is "
		 "encrypted; decrypt it with openssl pkey -in ... -out ...\n"},
		{break_fifo, "error f.json:1:85 /security/tls/server/key_file  key file \"s.key\" is not a "
			     "regular file\n"},
		{break_large,
		 "error f.json:1:162 /security/tls/server/mtls/client_ca_files/0  CA file \"root.crt\" is "
		 "larger "
		 "than 4 MiB\n"
		 "error f.json:1:249 /security/tls/client/ca_files/0  CA file \"root.crt\" is larger than 4 "
		 "MiB\n"},
		{break_chain_order, "warning f.json:1:64 /security/tls/server/cert_file  in \"s.crt\" "
				    "certificate 2 is not the issuer of "
				    "certificate 1: peers may be unable to verify it; the leaf comes first, "
				    "then each one's issuer\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		put_all(NULL);
		cases[i].spoil();
		struct fixture f = make(BOTH);
		assert_string_equal(f.told, cases[i].told);
		assert_int_equal(f.rc, cases[i].told[0] == 'e' ? -EINVAL : 0);
		assert_non_null(f.id);
		drop(&f);
		rmdir(path("s.crt"));
	}
}

/* An expired certificate is used all the same: a CA that is down must not stop the service's start. */
static void test_warnings(void **state)
{
	char when[CERT_SHOWN], expected[600];

	(void)state;
	break_nothing_but_warn();
	struct fixture f = make(BOTH);
	cert_show_time(when, cert_not_after(expired.crt));
	snprintf(expected, sizeof expected,
		 "warning f.json:1:64 /security/tls/server/cert_file  certificate 'old' in \"s.crt\" expired "
		 "%s; it is used, but peers will reject it\n"
		 "warning f.json:1:174 /security/tls/server/mtls/client_ca_files/1  certificate 'two' in "
		 "\"other.crt\" is not a CA certificate: only a peer that shows this very certificate will "
		 "verify\n",
		 when);
	assert_string_equal(f.told, expected);
	assert_int_equal(f.rc, 0);
	assert_true(serves(f.id, &expired));
	assert_true(metric(f.id, "semstreams_certificate_expiry_seconds{role=\"server\"}") < 0);
	drop(&f);
}

static void test_key_forms(void **state)
{
	static const struct {
		gnutls_pk_algorithm_t type;
		unsigned bits;
		bool pkcs8;
		const char *before;
	} forms[] = {
		{GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), false, ""},
		{GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), false,
		 "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"},
		{GNUTLS_PK_RSA, 2048, false, "Bag Attributes\n    friendlyName: x\n"},
		{GNUTLS_PK_RSA, 2048, true, ""},
		{GNUTLS_PK_EDDSA_ED25519, 256, true, "\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		struct cert c = cert_make(NAMED("any"), &ca);
		gnutls_datum_t d;
		gnutls_x509_privkey_deinit(c.key);
		CERT_OK(gnutls_x509_privkey_init(&c.key));
		CERT_OK(gnutls_x509_privkey_generate(c.key, forms[i].type, forms[i].bits, 0));
		CERT_OK(gnutls_x509_crt_set_key(c.crt, c.key));
		CERT_OK(gnutls_x509_crt_sign2(c.crt, ca.crt, ca.key, GNUTLS_DIG_SHA256, 0));
		put_chain("s.crt", &c);
		CERT_OK(forms[i].pkcs8 ? gnutls_x509_privkey_export2_pkcs8(c.key, GNUTLS_X509_FMT_PEM, NULL,
									   GNUTLS_PKCS_PLAIN, &d)
				       : gnutls_x509_privkey_export2(c.key, GNUTLS_X509_FMT_PEM, &d));
		char text[8192];
		snprintf(text, sizeof text, "%s%.*s", forms[i].before, (int)d.size, (const char *)d.data);
		put_text("s.key", text, 0400);
		gnutls_free(d.data);
		struct fixture f = make_good(BOTH);
		assert_true(serves(f.id, &c));
		drop(&f);
		cert_drop(&c);
		unlink(path("s.key"));
	}
}

/* Nothing but the certificates that were checked: a key in the file of the chain stays there. */
static void test_one_file_for_both(void **state)
{
	gnutls_datum_t d;

	(void)state;
	CERT_OK(gnutls_x509_privkey_export2_pkcs8(one.key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d));
	put_chain("s.crt", &one);
	FILE *to = fopen(path("s.crt"), "a");
	fwrite(d.data, 1, d.size, to);
	fclose(to);
	chmod(path("s.crt"), 0600);
	gnutls_free(d.data);
	struct fixture f = make_good(
		"{\"security\": {\"tls\": {\"server\": {\"enabled\": true, \"cert_file\": \"s.crt\", "
		"\"key_file\": \"s.crt\"}}}}");
	const struct ss_tls_material *m = tls_identity_acquire(f.id, SS_TLS_SERVER);
	assert_true(serves(f.id, &one));
	assert_null(strstr(m->chain_pem, "PRIVATE"));
	tls_identity_release(m);
	drop(&f);
}

/* ---- changes ---- */

/* Files that are as they were at the poll before are taken as written. */
static void poll_twice(struct tls_identity *id)
{
	tls_identity_poll(id);
	tls_identity_poll(id);
}

static void test_change(void **state)
{
	struct fixture f = make_good(BOTH);
	const struct ss_tls_material *old = tls_identity_acquire(f.id, SS_TLS_SERVER);
	uint64_t before = old->generation, client = generation(f.id, SS_TLS_CLIENT);

	(void)state;
	poll_twice(f.id);
	assert_int_equal(generation(f.id, SS_TLS_SERVER), before);
	uint64_t written = clock_wall();
	put_chain("s.crt", &two);
	put_key("s.key", &two);
	tls_identity_poll(f.id); /* just written: perhaps not wholly */
	if (clock_wall() - written < 900000000u)
		assert_true(serves(f.id, &one));
	tls_identity_poll(f.id);
	assert_true(serves(f.id, &two));
	assert_true(generation(f.id, SS_TLS_SERVER) > before);
	assert_int_equal(generation(f.id, SS_TLS_CLIENT), client);
	assert_int_equal(RELOADS(f.id), 1);
	assert_int_equal(FAILURES(f.id), 0);
	assert_non_null(strstr(old->key_pem, "BEGIN PRIVATE KEY")); /* as long as somebody has it */
	tls_identity_release(old);

	/* trust alone */
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root, &ca}, 2);
	poll_twice(f.id);
	const struct ss_tls_material *c = tls_identity_acquire(f.id, SS_TLS_CLIENT);
	assert_true(c->generation > client);
	assert_int_equal(count(c->ca_pem, "BEGIN"), 2);
	tls_identity_release(c);
	assert_int_equal(RELOADS(f.id), 3); /* server and client */

	/* the same once more */
	before = generation(f.id, SS_TLS_SERVER);
	put_chain("s.crt", &two);
	poll_twice(f.id);
	assert_int_equal(generation(f.id, SS_TLS_SERVER), before);
	assert_int_equal(RELOADS(f.id), 3);
	drop(&f);
}

static void test_half_a_change(void **state)
{
	struct fixture f = make_good(BOTH);

	(void)state;
	put_chain("s.crt", &two);
	for (int i = 0; i < 5; i++)
		poll_twice(f.id);
	assert_true(serves(f.id, &one));
	assert_int_equal(FAILURES(f.id), 1); /* told once */
	cert_write_key(path("s.key"), &two, 0644);
	poll_twice(f.id);
	poll_twice(f.id);
	assert_true(serves(f.id, &one));
	assert_int_equal(FAILURES(f.id), 2);
	chmod(path("s.key"), 0600);
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	assert_int_equal(RELOADS(f.id), 1);
	assert_int_equal(FAILURES(f.id), 2);

	cut("s.crt", 30);
	poll_twice(f.id);
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	assert_int_equal(FAILURES(f.id), 3);
	unlink(path("s.crt"));
	poll_twice(f.id);
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	assert_int_equal(FAILURES(f.id), 4);
	put_chain("s.crt", &one);
	put_key("s.key", &one);
	poll_twice(f.id);
	assert_true(serves(f.id, &one));
	assert_int_equal(RELOADS(f.id), 2);
	drop(&f);
}

/* ---- peers that are there already ---- */

struct known {
	struct cert leaf, issuer;
	gnutls_datum_t ders[2];
	struct ss_der chain[2];
	char why[300];
	int32_t fail;
	int64_t until;
};

static struct known know_by(int64_t to, bool sha1)
{
	const int64_t now = time(NULL);
	struct known k = {.fail = -2, .until = -2};

	k.issuer = cert_make(
		&(struct cert_spec){
			.cns = {{"Peers", 0}}, .ca = true, .sha1 = sha1, .from = now - 60, .to = now + 9000},
		&root);
	k.leaf = cert_make(&(struct cert_spec){.cns = {{"b.local", 0}},
					       .dns = {{"b.local", 0}, {"c.local", 0}},
					       .eku = {GNUTLS_KP_TLS_WWW_CLIENT, GNUTLS_KP_TLS_WWW_SERVER},
					       .from = now - 60,
					       .to = to},
			   &k.issuer);
	k.ders[0] = cert_der(&k.leaf);
	k.ders[1] = cert_der(&k.issuer);
	for (int i = 0; i < 2; i++)
		k.chain[i] = (struct ss_der){k.ders[i].data, k.ders[i].size};
	return k;
}

static struct known know(int64_t to)
{
	return know_by(to, false);
}

static void forget(struct known *k)
{
	gnutls_free(k->ders[0].data);
	gnutls_free(k->ders[1].data);
	cert_drop(&k->leaf);
	cert_drop(&k->issuer);
}

static int recheck(struct tls_identity *id, struct known *k, uint32_t role, const char *name)
{
	const struct tls_known_peer peer = {
		.role = role, .chain = k->chain, .n = 2, .host = role ? "b.local" : NULL, .name = name};

	k->why[0] = '\0';
	return tls_identity_recheck_peer(id, &peer, &k->until, &k->fail, k->why, sizeof k->why);
}

static void test_peers_when_trust_changes(void **state)
{
	const int64_t end = time(NULL) + 3600;
	struct fixture f = make_good(BOTH);
	struct known k = know(end);
	uint64_t before = generation(f.id, SS_TLS_SERVER);

	(void)state;
	for (uint32_t role = 0; role < 2; role++) {
		assert_int_equal(recheck(f.id, &k, role, "b.local"), 0);
		assert_int_equal(k.until, end + 1);
	}
	/* a CA that is taken away */
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&one}, 1);
	poll_twice(f.id);
	assert_true(generation(f.id, SS_TLS_SERVER) > before);
	for (uint32_t role = 0; role < 2; role++) {
		assert_int_equal(recheck(f.id, &k, role, "b.local"), -EACCES);
		assert_int_equal(k.fail, SS_TLS_FAIL_UNKNOWN_CA);
		assert_non_null(strstr(k.why, "signed by unknown authority"));
	}
	assert_int_equal(
		metric(f.id, "semstreams_tls_revoked_peers_total{role=\"server\",reason=\"unknown_ca\"}"), 1);
	assert_int_equal(
		metric(f.id, "semstreams_tls_revoked_peers_total{role=\"client\",reason=\"unknown_ca\"}"), 1);
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root}, 1);
	poll_twice(f.id);
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), 0);
	forget(&k);
	drop(&f);
}

/* CAs that are replaced can bring links of the chain into play that did not matter before. */
static void test_peers_with_a_weak_link(void **state)
{
	struct known k = know_by(time(NULL) + 3600, true);
	(void)state;

	cert_write_chain(path("root.crt"), (const struct cert *const[]){&k.issuer}, 1);
	struct fixture f = make_good(BOTH);
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), 0);
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root}, 1);
	poll_twice(f.id);
	for (uint32_t role = 0; role < 2; role++) {
		assert_int_equal(recheck(f.id, &k, role, "b.local"), -EACCES);
		assert_int_equal(k.fail, SS_TLS_FAIL_OTHER);
		assert_string_equal(
			k.why, "certificate 'Peers' is signed with ECDSA-SHA1, which is too weak for TLS; "
			       "have it issued anew with SHA-256");
	}
	/* another CA that has the name, but not the key */
	struct cert twin = cert_make(&(struct cert_spec){.cns = {{"Root", 0}},
							 .ca = true,
							 .from = time(NULL) - 60,
							 .to = time(NULL) + CERT_DAY},
				     NULL);
	struct known clean = know(time(NULL) + 3600);
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&twin}, 1);
	poll_twice(f.id);
	assert_int_equal(recheck(f.id, &clean, SS_TLS_SERVER, "b.local"), -EACCES);
	assert_int_equal(clean.fail, SS_TLS_FAIL_UNKNOWN_CA);
	assert_non_null(strstr(clean.why, "signed by unknown authority: issuer 'Root'"));
	cert_drop(&twin);
	forget(&clean);
	forget(&k);
	drop(&f);
}

static void test_peers_when_names_change(void **state)
{
	static const char *const both[] = {"c.local", "b.local"}, *const only_c[] = {"c.local"};
	struct fixture f = make_good(BOTH);
	struct known k = know(time(NULL) + 3600);
	uint64_t before = generation(f.id, SS_TLS_SERVER);

	(void)state;
	assert_int_equal(tls_identity_set_names(f.id, both + 1, 1), 0); /* what is there */
	assert_int_equal(generation(f.id, SS_TLS_SERVER), before);
	assert_int_equal(tls_identity_set_names(f.id, both, 2), 1);
	assert_true(generation(f.id, SS_TLS_SERVER) > before);
	assert_true(serves(f.id, &one));
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), 0);
	assert_int_equal(tls_identity_set_names(f.id, only_c, 1), 1);
	/* it has that name as well, but came with the other one */
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), -EACCES);
	assert_int_equal(k.fail, SS_TLS_FAIL_NAME);
	assert_string_equal(k.why, "the peer is no longer allowed as 'b.local'");
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "c.local"), 0);
	assert_int_equal(metric(f.id, "semstreams_tls_revoked_peers_total{role=\"server\",reason=\"name\"}"),
			 1);
	/* files that are read again do not bring the old names back */
	put_chain("s.crt", &two);
	put_key("s.key", &two);
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), -EACCES);
	char name[64], why[200];
	int32_t fail;
	assert_int_equal(tls_identity_check_peer(f.id, SS_TLS_SERVER, k.chain, 2, -1, NULL, name, sizeof name,
						 &fail, why, sizeof why),
			 0);
	assert_string_equal(name, "c.local");
	/* without a list, whoever the CAs vouch for */
	assert_int_equal(tls_identity_set_names(f.id, NULL, 0), 1);
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), 0);
	forget(&k);
	drop(&f);
}

static void test_peers_when_time_goes_by(void **state)
{
	struct fixture f = make_good(BOTH);
	const int64_t end = time(NULL) + 1;
	struct known k = know(end);

	(void)state;
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), 0);
	assert_int_equal(k.until, end + 1);
	while (time(NULL) < k.until)
		usleep(20000);
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), -EACCES);
	assert_int_equal(k.fail, SS_TLS_FAIL_EXPIRED);
	assert_non_null(strstr(k.why, "certificate 'b.local' expired "));
	forget(&k);
	drop(&f);
}

/* What was never verified is not verified now either. */
static void test_peers_that_need_no_certificate(void **state)
{
	struct fixture f = make("{\"security\": {\"tls\": {\"client\": {\"insecure_skip_verify\": true}}}}");
	struct known k = know(time(NULL) + 3600);
	const struct tls_known_peer nobody = {.role = SS_TLS_SERVER, .name = ""};

	(void)state;
	assert_int_equal(recheck(f.id, &k, SS_TLS_CLIENT, ""), 0);
	/* but a role that is off lets nobody in */
	assert_int_equal(recheck(f.id, &k, SS_TLS_SERVER, "b.local"), -EACCES);
	assert_int_equal(tls_identity_recheck_peer(f.id, &nobody, &k.until, &k.fail, k.why, sizeof k.why),
			 -EACCES);
	forget(&k);
	drop(&f);
}

/* ---- certificates near their end ---- */

static char *health_text(struct health *h)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	health_print(h, to);
	fclose(to);
	return text;
}

static void test_certificate_near_its_end(void **state)
{
	const int64_t now = time(NULL);
	struct cert near = cert_make(
		&(struct cert_spec){.cns = {{"near", 0}}, .from = now - 40000, .to = now + 3700}, &ca);

	(void)state;
	put_chain("s.crt", &near);
	put_key("s.key", &near);
	struct fixture f = make(BOTH);
	assert_int_equal(f.rc, 0);
	assert_int_equal(f.diag.warnings, 1);
	assert_non_null(strstr(f.told, "certificate 'near' in \"s.crt\" expires "));
	assert_non_null(strstr(f.told, ", in 1 h 1 min: less than a tenth of its life is left; renew it"));
	char *text = health_text(f.health);
	assert_non_null(strstr(text, "\"status\":\"ready\""));
	assert_non_null(strstr(text, "\"degraded\":[{\"component\":\"tls.server\",\"reason\":\"certificate "
				     "'near' expires "));
	free(text);
	/* renewed */
	put_chain("s.crt", &two);
	put_key("s.key", &two);
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	text = health_text(f.health);
	assert_non_null(strstr(text, "\"reasons\":[],\"degraded\":[]"));
	free(text);
	/* and then one that has expired */
	put_chain("s.crt", &expired);
	put_key("s.key", &expired);
	poll_twice(f.id);
	text = health_text(f.health);
	assert_non_null(strstr(text, "\"status\":\"not ready\""));
	assert_non_null(strstr(text, "\"reason\":\"certificate 'old' expired "));
	free(text);
	drop(&f);
	cert_drop(&near);
}

static void test_rename(void **state)
{
	struct fixture f = make_good(BOTH);
	struct stat st;

	(void)state;
	/* the same size and time: what counts is that it is another file */
	put_chain("new.crt", &two);
	put_key("new.key", &two);
	for (int i = 0; i < 2; i++) {
		const char *names[] = {"s.crt", "s.key"}, *news[] = {"new.crt", "new.key"};
		assert_int_equal(stat(path(names[i]), &st), 0);
		const struct timespec times[2] = {st.st_atim, st.st_mtim};
		utimensat(AT_FDCWD, path(news[i]), times, 0);
		rename(path(news[i]), path(names[i]));
	}
	poll_twice(f.id);
	assert_true(serves(f.id, &two));
	drop(&f);
}

static void test_reload(void **state)
{
	struct fixture f = make_good(BOTH);

	(void)state;
	assert_int_equal(tls_identity_reload(f.id), 0);
	assert_int_equal(RELOADS(f.id), 0);
	put_key("s.key", &two);
	assert_int_equal(tls_identity_reload(f.id), -EINVAL);
	assert_true(serves(f.id, &one));
	put_chain("s.crt", &two);
	assert_int_equal(tls_identity_reload(f.id), 0);
	assert_true(serves(f.id, &two));
	assert_int_equal(RELOADS(f.id), 1);
	assert_int_equal(FAILURES(f.id), 1);
	drop(&f);
}

/* ---- others read meanwhile ---- */

struct reader {
	struct tls_identity *id;
	_Atomic bool *stop;
	char (*pairs)[2][4096]; /* chain and key that belong together */
	uint64_t reads, generations;
	bool wrong;
	pthread_t thread;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	uint64_t last = 0;

	while (!atomic_load(r->stop) && !r->wrong) {
		const struct ss_tls_material *m = tls_identity_acquire(r->id, SS_TLS_SERVER);
		size_t i = 0;
		while (i < 2 && strcmp(r->pairs[i][0], m->chain_pem) != 0)
			i++;
		r->wrong = i == 2 || strcmp(r->pairs[i][1], m->key_pem) != 0 || m->generation < last;
		r->generations += m->generation != last;
		last = m->generation;
		r->reads++;
		tls_identity_count_failure(r->id, SS_TLS_SERVER, SS_TLS_FAIL_NAME);
		tls_identity_release(m);
	}
	return NULL;
}

static void remember(struct tls_identity *id, char pair[2][4096])
{
	const struct ss_tls_material *m = tls_identity_acquire(id, SS_TLS_SERVER);

	snprintf(pair[0], 4096, "%s", m->chain_pem);
	snprintf(pair[1], 4096, "%s", m->key_pem);
	tls_identity_release(m);
}

static void test_readers(void **state)
{
	enum { READERS = 3, SWAPS = 60 };
	static char pairs[2][2][4096];
	struct fixture f = make_good(BOTH);
	struct reader readers[READERS] = {{0}};
	_Atomic bool stop = false;
	const struct cert *leaves[] = {&one, &two};

	(void)state;
	remember(f.id, pairs[0]);
	put_chain("s.crt", &two);
	put_key("s.key", &two);
	assert_int_equal(tls_identity_reload(f.id), 0);
	remember(f.id, pairs[1]);
	for (size_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.id = f.id, .stop = &stop, .pairs = pairs};
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
	}
	for (int i = 0; i < SWAPS; i++) {
		put_chain("s.crt", leaves[i % 2]);
		tls_identity_reload(f.id); /* half of it: must not be taken */
		put_key("s.key", leaves[i % 2]);
		assert_int_equal(tls_identity_reload(f.id), 0);
		metric(f.id, "x");
	}
	atomic_store(&stop, true);
	uint64_t reads = 0;
	for (size_t i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_false(readers[i].wrong);
		reads += readers[i].reads;
	}
	assert_int_equal(RELOADS(f.id), SWAPS + 1);
	assert_int_equal(FAILURES(f.id), SWAPS);
	assert_int_equal(
		metric(f.id, "semstreams_mtls_handshake_failures_total{role=\"server\",reason=\"name\"}"),
		reads);
	drop(&f);
}

/* ---- who is told ---- */

struct listener {
	struct tls_watcher watcher; /* first */
	int calls, result;
};

static int note_call(struct tls_watcher *w)
{
	struct listener *l = (struct listener *)w;

	l->calls++;
	return l->result;
}

static void swap(struct tls_identity *id, const struct cert *to)
{
	put_chain("s.crt", to);
	put_key("s.key", to);
	assert_int_equal(tls_identity_reload(id), 0);
}

static void test_watchers(void **state)
{
	struct fixture f = make_good(BOTH);
	struct listener a = {.watcher.notify = note_call}, b = a, never = a;

	(void)state;
	tls_identity_watch(f.id, &a.watcher);
	tls_identity_watch(f.id, &b.watcher);
	tls_identity_unwatch(f.id, &never.watcher);
	poll_twice(f.id);
	assert_int_equal(a.calls, 0);
	b.result = -ENOMEM;
	swap(f.id, &two);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	tls_identity_poll(f.id); /* again who could not be told */
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 2);
	b.result = 0;
	poll_twice(f.id);
	assert_int_equal(b.calls, 3);
	tls_identity_unwatch(f.id, &a.watcher);
	swap(f.id, &one);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 4);
	tls_identity_unwatch(f.id, &b.watcher);
	drop(&f);
}

/* ---- the service ---- */

struct plugin {
	struct component component;
	struct loop loop;
	sem_t changed;
	uint64_t seen;
};

static void on_changed(void *arg)
{
	struct plugin *p = arg;
	const struct ss_tls_material *m = tls_service.acquire(&p->component, SS_TLS_SERVER);

	p->seen = m->generation;
	tls_service.release(&p->component, m);
	sem_post(&p->changed);
}

static int start_watching(void *arg)
{
	struct plugin *p = arg;
	int rc = tls_service.watch(&p->component, on_changed, p);

	return rc ? rc : tls_service.watch(&p->component, on_changed, p) == -EALREADY ? 0 : -1;
}

static int stop_watching(void *arg)
{
	struct plugin *p = arg;

	tls_service.unwatch(&p->component);
	tls_service.unwatch(&p->component);
	return 0;
}

static bool run_posts(void *posts)
{
	return posts_run(posts);
}

static void test_service(void **state)
{
	const uint64_t patience_ns = 20000000000u;
	struct fixture f = make_good(BOTH);
	struct plugin p = {.component.tls = f.id};

	(void)state;
	sem_init(&p.changed, 0, 0);
	posts_init(&p.component.posts);
	assert_int_equal(loop_init(&p.loop, "test", run_posts, &p.component.posts), 0);
	p.component.loop = &p.loop;
	assert_int_equal(loop_run(&p.loop), 0);
	assert_int_equal(loop_call(&p.loop, start_watching, &p, patience_ns), 0);
	assert_int_equal(tls_service.enabled(&p.component, SS_TLS_CLIENT), 1);
	swap(f.id, &two);
	sem_wait(&p.changed);
	assert_int_equal(p.seen, generation(f.id, SS_TLS_SERVER));
	assert_int_equal(loop_call(&p.loop, stop_watching, &p, patience_ns), 0);
	swap(f.id, &one);
	assert_int_equal(loop_call(&p.loop, stop_watching, &p, patience_ns),
			 0); /* whatever was posted has run */
	assert_int_equal(sem_trywait(&p.changed), -1);

	char name[64], why[256];
	int32_t fail = -1;
	gnutls_datum_t d = cert_der(&one);
	const struct ss_der chain = {d.data, d.size};
	assert_int_equal(tls_service.check_peer(&p.component, SS_TLS_SERVER, &chain, 1, -1, NULL, name,
						sizeof name, &fail, why, sizeof why),
			 -EACCES);
	assert_string_equal(why, "client certificate CN 'one' not in allowed list");
	gnutls_free(d.data);
	tls_service.count_failure(&p.component, SS_TLS_SERVER, fail);
	tls_service.count_failure(&p.component, SS_TLS_CLIENT, 99);
	tls_service.count_failure(&p.component, 99, 0);
	assert_int_equal(
		metric(f.id, "semstreams_mtls_handshake_failures_total{role=\"server\",reason=\"name\"}"), 1);
	assert_int_equal(
		metric(f.id, "semstreams_mtls_handshake_failures_total{role=\"client\",reason=\"other\"}"),
		1);
	assert_int_equal(metric(f.id, "semstreams_certificate_expiry_timestamp_seconds{role=\"server\"}"),
			 cert_not_after(one.crt));
	long left = metric(f.id, "semstreams_certificate_expiry_seconds{role=\"server\"}");
	assert_in_range(left, 1, 7200);
	assert_int_equal(metric(f.id, "semstreams_certificate_expiry_seconds{role=\"client\"}"), -1);
	loop_join(&p.loop);
	loop_done(&p.loop);
	posts_done(&p.component.posts);
	sem_destroy(&p.changed);
	drop(&f);
}

static void test_service_without_identity(void **state)
{
	struct component c = {.id = "x"};

	(void)state;
	assert_int_equal(tls_service.enabled(&c, SS_TLS_SERVER), 0);
	assert_null(tls_service.acquire(&c, SS_TLS_SERVER));
	assert_int_equal(tls_service.watch(&c, on_changed, NULL), -ENOENT);
	tls_service.unwatch(&c);
	tls_service.count_failure(&c, 0, 0);
}

/* ---- */

static void open_module(void)
{
	char why[512] = "";

	if (!tls_trial_open(TLS_MODULE, why, sizeof why))
		fail_msg("%s", why);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	open_module();
	root = cert_make(&(struct cert_spec){.cns = {{"Root", 0}},
					     .ca = true,
					     .from = time(NULL) - 60,
					     .to = time(NULL) + CERT_DAY},
			 NULL);
	ca = cert_make(
		&(struct cert_spec){
			.cns = {{"CA", 0}}, .ca = true, .from = time(NULL) - 60, .to = time(NULL) + CERT_DAY},
		&root);
	one = cert_make(NAMED("one"), &ca);
	two = cert_make(NAMED("two"), &ca);
	expired = cert_make(&(struct cert_spec){.cns = {{"old", 0}},
						.from = time(NULL) - CERT_DAY,
						.to = time(NULL) - 60},
			    &ca);
	return 0;
}

static int tear_down(void **state)
{
	struct cert *all[] = {&root, &ca, &one, &two, &expired};

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		cert_drop(all[i]);
	clean();
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_material, put_all),
		cmocka_unit_test_setup(test_off, put_all),
		cmocka_unit_test_setup(test_client_alone, put_all),
		cmocka_unit_test_setup(test_refusals, put_all),
		cmocka_unit_test_setup(test_warnings, put_all),
		cmocka_unit_test_setup(test_key_forms, put_all),
		cmocka_unit_test_setup(test_one_file_for_both, put_all),
		cmocka_unit_test_setup(test_change, put_all),
		cmocka_unit_test_setup(test_half_a_change, put_all),
		cmocka_unit_test_setup(test_peers_when_trust_changes, put_all),
		cmocka_unit_test_setup(test_peers_with_a_weak_link, put_all),
		cmocka_unit_test_setup(test_peers_when_names_change, put_all),
		cmocka_unit_test_setup(test_peers_when_time_goes_by, put_all),
		cmocka_unit_test_setup(test_peers_that_need_no_certificate, put_all),
		cmocka_unit_test_setup(test_certificate_near_its_end, put_all),
		cmocka_unit_test_setup(test_rename, put_all),
		cmocka_unit_test_setup(test_reload, put_all),
		cmocka_unit_test_setup(test_readers, put_all),
		cmocka_unit_test_setup(test_watchers, put_all),
		cmocka_unit_test_setup(test_service, put_all),
		cmocka_unit_test(test_service_without_identity),
	};

	return cmocka_run_group_tests_name("tls_identity", tests, set_up, tear_down);
}
