/* SPDX-License-Identifier: MIT */
/* A TLS identity with providers: what they publish, what takes its place when they have nothing, and who
 * hears of it. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <gnutls/abstract.h>
#include <semstreams/ext/tls.h>
#include "core/tls/cert.h"
#include "core/admin/health.h"
#include "core/admin/log.c" /* for its descriptor */
#include "core/flow/loop.h"
#include "core/admin/metrics.h"
#include "core/config/tls_config.h"
#include "core/tls/tls_generation.h"
#include "core/tls/tls_identity.h"
#include "core/tls/tls_trial.h"
#include "sdk/test-host/tests/tls_certs.h"

enum { SERVER = 1 << SS_TLS_SERVER, CLIENT = 1 << SS_TLS_CLIENT };

static struct cert root, one, two, spare, expired;
static struct cert weak;
static char *pem_one, *key_one, *pem_two, *key_two, *pem_expired, *key_expired, *pem_weak, *key_weak;
static char folder[] = "/tmp/tls-supply-XXXXXX";
static FILE *log_file;

#define NAMED(name)                                                                                          \
	(&(struct cert_spec){.cns = {{name, 0}}, .from = time(NULL) - 60, .to = time(NULL) + 7200})

static const char *path(const char *name)
{
	static char paths[4][320];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof paths[0], "%s/%s", folder, name);
	return p;
}

static char *pem_of(const struct cert *leaf)
{
	gnutls_datum_t d;

	CERT_OK(gnutls_x509_crt_export2(leaf->crt, GNUTLS_X509_FMT_PEM, &d));
	char *text = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return text;
}

static char *key_of(const struct cert *leaf)
{
	return cert_key_pem(leaf->key);
}

static void put_files(const struct cert *leaf)
{
	cert_write_chain(path("s.crt"), (const struct cert *const[]){leaf}, 1);
	cert_write_key(path("s.key"), leaf, 0600);
}

/* ---- an identity ---- */

struct fixture {
	struct jdoc *doc;
	struct tls_config config;
	struct health *health;
	struct diag diag;
	struct tls_identity *id;
	struct tls_watcher watcher;
	_Atomic unsigned told;
};

static struct fixture *watching; /* the only one */

static int notify(struct tls_watcher *w)
{
	(void)w;
	watching->told++;
	return 0;
}

#define SECTIONS(server, client)                                                                             \
	"{\"security\": {\"tls\": {\"server\": {\"enabled\": true, " server "}, \"client\": {" client "}}}}"
#define TOY      "\"mode\": \"toy\", \"toy\": {}"
#define FALLBACK ", \"cert_file\": \"s.crt\", \"key_file\": \"s.key\""
#define TRUST    ", \"ca_files\": [\"root.crt\"]"

static struct fixture *make(const char *text)
{
	struct fixture *f = calloc(1, sizeof *f);

	diag_init(&f->diag);
	f->health = health_new();
	put_files(&spare);
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root}, 1);
	assert_int_equal(jdoc_parse(path("f.json"), text, strlen(text), &f->diag, &f->doc), 0);
	assert_int_equal(
		tls_config_read(f->doc, jnode_get(f->doc->root, "security"), NULL, &f->diag, &f->config), 0);
	assert_int_equal(tls_identity_new(f->doc, &f->config, true, f->health, &f->diag, &f->id), 0);
	watching = f;
	f->watcher.notify = notify;
	tls_identity_watch(f->id, &f->watcher);
	assert_int_equal(ftruncate(sink.fd, 0), 0);
	lseek(sink.fd, 0, SEEK_SET);
	memset(sink.repeats, 0, sizeof sink.repeats);
	return f;
}

static void drop(struct fixture *f)
{
	tls_identity_unwatch(f->id, &f->watcher);
	tls_identity_free(f->id);
	tls_config_done(&f->config);
	health_free(f->health);
	diag_done(&f->diag);
	jdoc_free(f->doc);
	free(f);
}

static int publish(struct fixture *f, uint32_t roles, const char *chain, const char *key, char why[256])
{
	const struct tls_pair pair = {.source = "ACME", .chain_pem = chain, .key_pem = key};
	return tls_identity_publish(f->id, roles, &pair, why, 256);
}

static void give(struct fixture *f, uint32_t roles, const char *chain, const char *key)
{
	char why[256];

	assert_int_equal(publish(f, roles, chain, key, why), 0);
}

/* Subject and source of a role's certificate, "" without one. */
static const char *shown(struct fixture *f, uint32_t role)
{
	static char text[128];
	const struct ss_tls_material *m = tls_identity_acquire(f->id, role);
	struct cert_list chain;
	char why[100], who[CERT_SHOWN];

	assert_non_null(m);
	assert_int_equal(m->role, role);
	text[0] = '\0';
	if (m->chain_pem) {
		gnutls_x509_privkey_t key;
		assert_int_equal(
			cert_list_load(m->chain_pem, strlen(m->chain_pem), 9, &chain, why, sizeof why), 0);
		assert_int_equal(tls_trial_open(NULL, why, sizeof why)
					 ->key(m->key_pem, strlen(m->key_pem), &key, why, sizeof why),
				 0);
		assert_true(cert_key_matches(chain.certs[0], key));
		assert_int_equal(m->not_after, cert_not_after(chain.certs[0]));
		snprintf(text, sizeof text, "%s %s", cert_show_subject(who, chain.certs[0]), m->source);
		gnutls_x509_privkey_deinit(key);
		cert_list_free(&chain);
	} else {
		assert_null(m->key_pem);
		assert_null(m->source);
		assert_int_equal(m->not_after, 0);
	}
	tls_identity_release(m);
	return text;
}

static uint64_t generation(struct fixture *f, uint32_t role)
{
	const struct ss_tls_material *m = tls_identity_acquire(f->id, role);
	uint64_t n = m->generation;

	tls_identity_release(m);
	return n;
}

/* How often the log has said so since make(). */
static unsigned logged(const char *what)
{
	char line[4096];
	unsigned n = 0;

	rewind(log_file);
	while (fgets(line, sizeof line, log_file))
		n += strstr(line, what) != NULL;
	return n;
}

static bool health_says(struct fixture *f, const char *what)
{
	char *text;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	health_print(f->health, to);
	fclose(to);
	bool yes = strstr(text, what);
	free(text);
	return yes;
}

static bool is_ready(struct fixture *f)
{
	return health_says(f, "{\"status\":\"ready\"");
}

static long metric(struct fixture *f, const char *sample)
{
	struct metrics *m = metrics_new();
	char *text;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	metrics_add_collector(m, (void (*)(void *, struct metrics_page *))tls_identity_collect, f->id);
	assert_int_equal(metrics_print(m, to), 0);
	fclose(to);
	char *line = strstr(text, sample);
	long value = line ? strtol(line + strlen(sample), NULL, 10) : -1;
	free(text);
	metrics_free(m);
	return value;
}
#define FALLBACK_OF(f, role) metric(f, "semstreams_tls_fallback{role=\"" role "\"} ")
#define EXPIRY_OF(f, role)   metric(f, "semstreams_certificate_expiry_timestamp_seconds{role=\"" role "\"} ")

/* ---- tests ---- */

/* First there is nothing, then one for each, then the next. */
static void test_publish(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY, TOY TRUST));
	assert_string_equal(shown(f, SS_TLS_SERVER), "");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "");
	assert_false(is_ready(f));
	assert_true(health_says(f, "{\"component\":\"tls.client\",\"reason\":\"waiting for the first "
				   "certificate from mode \\\"toy\\\"\""));
	assert_int_equal(EXPIRY_OF(f, "server"), -1);

	give(f, SERVER, pem_one, key_one);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "");
	assert_false(is_ready(f));
	give(f, CLIENT, pem_one, key_one);
	assert_true(is_ready(f));
	assert_int_equal(f->told, 2);
	assert_int_equal(logged(""), 0); /* the first is no news */
	assert_int_equal(EXPIRY_OF(f, "server"), cert_not_after(one.crt));
	assert_int_equal(FALLBACK_OF(f, "client"), 0);
	const struct ss_tls_material *m = tls_identity_acquire(f->id, SS_TLS_CLIENT);
	assert_non_null(strstr(m->ca_pem, "BEGIN CERTIFICATE"));
	assert_int_equal(m->flags, SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER);
	tls_identity_release(m);

	/* the same again is no news either */
	uint64_t before = generation(f, SS_TLS_SERVER);
	give(f, SERVER, pem_one, key_one);
	assert_int_equal(generation(f, SS_TLS_SERVER), before);
	assert_int_equal(f->told, 2);

	const struct ss_tls_material *old = tls_identity_acquire(f->id, SS_TLS_SERVER);
	give(f, SERVER | CLIENT, pem_two, key_two);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'two' ACME");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "'two' ACME");
	assert_true(generation(f, SS_TLS_SERVER) > before);
	assert_int_equal(f->told, 3);
	assert_int_equal(logged(""), 1);
	assert_int_equal(
		logged("INFO Hot-reloaded certificate without downtime role=server,client source=ACME "
		       "subject='two' expiry="),
		1);
	assert_non_null(strstr(old->chain_pem, "BEGIN")); /* whoever has it keeps it */
	tls_identity_release(old);
	assert_int_equal(metric(f, "semstreams_tls_reloads_total "), 0);
	drop(f);
}

/* ---- keys that sign elsewhere ---- */

struct token {
	struct ss_tls_signer signer;
	const struct cert *cert; /* whose key it has */
	int32_t fails;           /* 0: it signs */
	_Atomic int references;  /* of others */
	_Atomic unsigned signed_;
};

static int32_t sign(void *self, uint32_t what, const uint8_t *digest, size_t len, uint8_t *signature,
		    size_t size)
{
	struct token *t = self;
	gnutls_privkey_t key;
	const gnutls_datum_t hash = cert_datum(digest, len);
	gnutls_datum_t made;

	assert_int_equal(what, SS_TLS_SIGN_ECDSA);
	t->signed_++;
	if (t->fails)
		return t->fails;
	CERT_OK(gnutls_privkey_init(&key));
	CERT_OK(gnutls_privkey_import_x509(key, t->cert->key, 0));
	CERT_OK(gnutls_privkey_sign_hash2(key,
					  len == 32   ? GNUTLS_SIGN_ECDSA_SHA256
					  : len == 48 ? GNUTLS_SIGN_ECDSA_SHA384
						      : GNUTLS_SIGN_ECDSA_SHA512,
					  0, &hash, &made));
	assert_true(made.size <= size);
	memcpy(signature, made.data, made.size);
	const int32_t n = (int32_t)made.size;
	gnutls_free(made.data);
	gnutls_privkey_deinit(key);
	return n;
}

static void hold(void *self)
{
	((struct token *)self)->references++;
}

static void let_go(void *self)
{
	((struct token *)self)->references--;
}

static struct token token_of(const struct cert *cert)
{
	return (struct token){.signer = {.struct_size = sizeof(struct ss_tls_signer),
					 .sign = sign,
					 .ref = hold,
					 .unref = let_go},
			      .cert = cert};
}

static int publish_signed(struct fixture *f, uint32_t roles, const char *chain, struct token *t,
			  char why[256])
{
	const struct tls_pair pair = {.source = "HSM", .chain_pem = chain, .signer = &t->signer};

	t->signer.self = t;
	return tls_identity_publish(f->id, roles, &pair, why, 256);
}

/* It is tried for each role, replaces a key in memory and is replaced, and nobody holds it in the end. */
static void test_signer(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY, TOY TRUST));
	struct token first = token_of(&one), second = token_of(&two), again = token_of(&two);
	char why[256];

	give(f, SERVER | CLIENT, pem_two, key_two);
	assert_int_equal(publish_signed(f, SERVER | CLIENT, pem_one, &first, why), 0);
	assert_int_equal(first.signed_, 3); /* as server; as client, whose peer in the trial has it, too */
	const struct ss_tls_material *m = tls_identity_acquire(f->id, SS_TLS_CLIENT);
	assert_null(m->key_pem);
	assert_ptr_equal(m->signer, &first.signer);
	assert_string_equal(m->source, "HSM");
	const uint64_t number = m->generation;
	m = tls_identity_without_certificate(m); /* for who cannot use it: the rest is the same */
	assert_null(m->chain_pem);
	assert_null(m->signer);
	assert_int_equal(m->generation, number);
	assert_non_null(m->ca_pem);
	tls_identity_release(m);

	/* the same is no news, another signer is; a certificate swap needs only the certificate */
	const uint64_t before = generation(f, SS_TLS_SERVER);
	assert_int_equal(publish_signed(f, SERVER | CLIENT, pem_one, &first, why), 0);
	assert_int_equal(generation(f, SS_TLS_SERVER), before);
	m = tls_identity_acquire(f->id, SS_TLS_SERVER);
	assert_int_equal(publish_signed(f, SERVER | CLIENT, pem_two, &second, why), 0);
	assert_int_equal(first.references, 1); /* whoever has the old generation can still sign */
	tls_identity_release(m);
	assert_int_equal(first.references, 0);
	assert_int_equal(publish_signed(f, SERVER | CLIENT, pem_two, &again, why), 0);
	assert_int_equal(second.references, 0);
	assert_int_equal(logged("source=HSM subject='two'"), 2);
	give(f, SERVER | CLIENT, pem_one, key_one);
	assert_int_equal(again.references, 0);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	drop(f);
}

static void test_signer_refused(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY, ""));
	struct token wrong = token_of(&two), mute = token_of(&one), rsa = token_of(&weak);
	char why[256];

	give(f, SERVER, pem_one, key_one);
	assert_int_equal(publish_signed(f, SERVER, pem_one, &wrong, why), -EINVAL);
	assert_non_null(strstr(why, "the key that signs is not that of the first certificate"));
	mute.fails = -EIO;
	assert_int_equal(publish_signed(f, SERVER, pem_one, &mute, why), -EINVAL);
	assert_non_null(strstr(why, "or does not sign"));
	assert_int_equal(publish_signed(f, SERVER, pem_weak, &rsa, why), -EINVAL);
	assert_string_equal(why, "a key that signs elsewhere must be EC, on P-256, P-384 or P-521");
	assert_int_equal(publish_signed(f, SERVER, pem_expired, &mute, why), -EINVAL);
	assert_non_null(strstr(why, "certificate 'old' expired 20"));
	assert_int_equal(wrong.references + mute.references + rsa.references, 0);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME"); /* what was there stays */
	drop(f);
}

/* What cannot be used changes nothing. */
static void test_refused(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY, ""));
	char why[256];

	give(f, SERVER, pem_one, key_one);
	assert_int_equal(publish(f, SERVER, pem_two, key_one, why), -EINVAL);
	assert_string_equal(why, "the private key does not match the first certificate");
	assert_int_equal(publish(f, SERVER, pem_expired, key_expired, why), -EINVAL);
	assert_non_null(strstr(why, "certificate 'old' expired 20"));
	assert_int_equal(publish(f, SERVER, "", key_one, why), -EINVAL);
	assert_string_equal(why, "holds no certificate in PEM form");
	assert_int_equal(publish(f, SERVER, pem_one, "-----BEGIN PRIVATE KEY-----\n", why), -EINVAL);
	assert_string_equal(why, "the private key is cut off, its END line is missing");
	char *large = malloc(5 << 20);
	memset(large, 'x', 5 << 20);
	large[(5 << 20) - 1] = '\0';
	assert_int_equal(publish(f, SERVER, large, key_one, why), -EINVAL);
	assert_string_equal(why, "certificate or key is larger than 4 MiB");
	free(large);
	assert_int_equal(publish(f, SERVER, pem_weak, key_weak, why), -EINVAL);
	assert_non_null(strstr(why, "'weak', has an RSA key of 1024 bits, which is too weak for TLS"));
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	assert_int_equal(f->told, 1);

	/* the old one works, but operators see why there is no new one */
	assert_true(is_ready(f));
	assert_true(
		health_says(f, "\"degraded\":[{\"component\":\"tls.server\",\"reason\":\"the new certificate "
			       "of mode \\\"toy\\\" cannot be used: certificate 1, 'weak', has an RSA key"));
	tls_identity_poll(f->id);
	assert_true(health_says(f, "cannot be used: certificate 1, 'weak'"));
	tls_identity_unavailable(f->id, SERVER, "the CA is down");
	assert_true(health_says(f, "no certificate: the CA is down\""));
	assert_int_equal(publish(f, SERVER, pem_weak, key_weak, why), -EINVAL);
	assert_true(health_says(f, "no certificate: the CA is down; the new certificate of mode"));
	give(f, SERVER, pem_two, key_two);
	assert_false(health_says(f, "cannot be used"));

	/* a role without a provider takes nothing from one */
	assert_int_equal(publish(f, CLIENT, pem_one, key_one, why), 0);
	assert_string_equal(shown(f, SS_TLS_CLIENT), "");
	tls_identity_unavailable(f->id, CLIENT, "no");
	assert_true(is_ready(f));
	drop(f);
}

static void test_fallback(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY FALLBACK, TOY TRUST));

	/* the files wait for the provider's word */
	assert_string_equal(shown(f, SS_TLS_SERVER), "");
	tls_identity_unavailable(f->id, SERVER | CLIENT, "the CA \"is\"\ndown");
	assert_string_equal(shown(f, SS_TLS_SERVER), "'spare' fallback");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "");
	assert_int_equal(f->told, 1);
	assert_int_equal(FALLBACK_OF(f, "server"), 1);
	assert_int_equal(FALLBACK_OF(f, "client"), 0);
	assert_int_equal(EXPIRY_OF(f, "server"), cert_not_after(spare.crt));
	assert_false(is_ready(f));
	assert_true(health_says(
		f, "\"degraded\":[{\"component\":\"tls.server\",\"reason\":\"fallback certificate in use: "
		   "the CA"));
	assert_true(health_says(
		f, "\"reasons\":[{\"component\":\"tls.client\",\"reason\":\"no certificate: the CA"));
	assert_int_equal(
		logged("WARN Operating in fallback mode, using cert_file role=server reason=\"the CA "
		       "\\\"is\\\"\\ndown\" path="),
		1);
	assert_int_equal(logged("ERROR No TLS certificate and no fallback, servers that require one will "
				"reject this client role=client"),
			 1);

	/* said again, but not told again; another reason is shown */
	tls_identity_unavailable(f->id, SERVER | CLIENT, "still down");
	assert_int_equal(logged(""), 2);
	assert_int_equal(f->told, 1);
	assert_true(health_says(f, "fallback certificate in use: still down"));

	/* hourly */
	tls_identity_remind(f->id, clock_now());
	assert_int_equal(logged(""), 2);
	tls_identity_remind(f->id, clock_now() + 3601ull * 1000000000u);
	assert_int_equal(
		logged("WARN Operating in fallback mode, using cert_file role=server reason=\"still down\""),
		2 - 1);
	assert_int_equal(logged(""), 4);

	/* and back */
	give(f, SERVER | CLIENT, pem_one, key_one);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "'one' ACME");
	assert_int_equal(FALLBACK_OF(f, "server"), 0);
	assert_true(is_ready(f));
	assert_true(health_says(f, "\"degraded\":[]"));
	assert_int_equal(
		logged("INFO Certificate available again role=server,client source=ACME subject='one'"), 1);
	/* the client had none before */
	assert_int_equal(logged("INFO Hot-reloaded certificate without downtime role=server source=ACME"), 1);
	tls_identity_remind(f->id, clock_now() + 7300ull * 1000000000u);
	assert_int_equal(logged(""), 6);

	/* lost when one was in use */
	tls_identity_unavailable(f->id, SERVER, NULL);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'spare' fallback");
	assert_true(is_ready(f));
	/* the very pair of the files, by the provider */
	char *pem = pem_of(&spare), *key = key_of(&spare);
	give(f, SERVER, pem, key);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'spare' ACME");
	free(pem);
	free(key);
	drop(f);
}

/* Files count beside a provider, too. */
static void test_files(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY FALLBACK, TOY TRUST FALLBACK));

	give(f, SERVER | CLIENT, pem_one, key_one);
	uint64_t server = generation(f, SS_TLS_SERVER);
	put_files(&two);
	assert_int_equal(tls_identity_reload(f->id), 0);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	assert_int_equal(generation(f, SS_TLS_SERVER), server);
	assert_int_equal(logged("INFO Reloaded the fallback certificate path="), 2);

	tls_identity_unavailable(f->id, SERVER, "down");
	assert_string_equal(shown(f, SS_TLS_SERVER), "'two' fallback");
	put_files(&spare);
	assert_int_equal(tls_identity_reload(f->id), 0);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'spare' fallback");
	assert_int_equal(logged("INFO Hot-reloaded certificate without downtime path="), 1);
	assert_int_equal(logged("role=server subject='spare'"), 1);

	/* new trust for the provider's certificate */
	cert_write_chain(path("root.crt"), (const struct cert *const[]){&root, &two}, 2);
	uint64_t client = generation(f, SS_TLS_CLIENT);
	assert_int_equal(tls_identity_reload(f->id), 0);
	assert_string_equal(shown(f, SS_TLS_CLIENT), "'one' ACME");
	assert_true(generation(f, SS_TLS_CLIENT) > client);
	assert_int_equal(logged("INFO Reloaded trusted CAs without downtime role=client"), 1);

	/* broken files change nothing */
	cert_write(path("s.key"), "nothing", 7, 0600);
	assert_int_equal(tls_identity_reload(f->id), -EINVAL);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'spare' fallback");
	drop(f);
}

/* ---- many at once ---- */

struct race {
	struct fixture *f;
	_Atomic bool stop;
};

static void *take(void *arg)
{
	struct race *r = arg;

	while (!r->stop) {
		for (uint32_t role = 0; role < TLS_ROLES; role++) {
			const struct ss_tls_material *m = tls_identity_acquire(r->f->id, role);
			if (m->chain_pem && !strstr(m->chain_pem, "BEGIN"))
				abort();
			tls_identity_release(m);
		}
	}
	return NULL;
}

static void *provide(void *arg)
{
	struct race *r = arg;

	for (int i = 0; i < 60; i++) {
		give(r->f, SERVER, i % 2 ? pem_one : pem_two, i % 2 ? key_one : key_two);
		if (i % 5 == 0)
			tls_identity_unavailable(r->f->id, SERVER, "again");
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct fixture *f = make(SECTIONS(TOY FALLBACK, TOY TRUST));
	struct race r = {.f = f};
	pthread_t taker, provider;

	assert_int_equal(pthread_create(&taker, NULL, take, &r), 0);
	assert_int_equal(pthread_create(&provider, NULL, provide, &r), 0);
	for (int i = 0; i < 60; i++) {
		give(f, CLIENT, i % 2 ? pem_one : pem_two, i % 2 ? key_one : key_two);
		put_files(i % 2 ? &one : &spare);
		tls_identity_reload(f->id);
		tls_identity_remind(f->id, clock_now());
		metric(f, "x");
	}
	pthread_join(provider, NULL);
	r.stop = true;
	pthread_join(taker, NULL);
	assert_string_equal(shown(f, SS_TLS_SERVER), "'one' ACME");
	assert_string_equal(shown(f, SS_TLS_CLIENT), "'one' ACME");
	drop(f);
}

/* ---- the program ---- */

static void open_module(void)
{
	char why[512] = "";

	if (!tls_trial_open(TLS_MODULE, why, sizeof why))
		fail_msg("%s", why);
}

static int set_up(void **state)
{
	(void)state;
	const struct cert_spec old = {
		.cns = {{"old", 0}}, .from = time(NULL) - 9 * CERT_DAY, .to = time(NULL) - CERT_DAY};

	if (!mkdtemp(folder))
		return -1;
	open_module();
	log_file = fopen(path("log"), "w+");
	if (!log_file)
		return -1;
	sink.fd = fileno(log_file);
	root = cert_make(
		&(struct cert_spec){
			.cns = {{"root", 0}}, .ca = true, .from = time(NULL) - 60, .to = time(NULL) + 7200},
		NULL);
	one = cert_make(NAMED("one"), &root);
	two = cert_make(NAMED("two"), &root);
	spare = cert_make(NAMED("spare"), &root);
	expired = cert_make(&old, &root);
	pem_one = pem_of(&one), key_one = key_of(&one);
	pem_two = pem_of(&two), key_two = key_of(&two);
	pem_expired = pem_of(&expired), key_expired = key_of(&expired);
	weak = cert_make(&(struct cert_spec){.cns = {{"weak", 0}},
					     .from = time(NULL) - 60,
					     .to = time(NULL) + 7200,
					     .weak_key = true},
			 &root);
	pem_weak = pem_of(&weak), key_weak = key_of(&weak);
	return 0;
}

static int tear_down(void **state)
{
	struct cert *all[] = {&root, &one, &two, &spare, &expired};
	char *texts[] = {pem_one, key_one, pem_two, key_two, pem_expired, key_expired};
	DIR *d = opendir(folder);

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		cert_drop(all[i]);
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		free(texts[i]);
	for (struct dirent *e; d && (e = readdir(d));)
		unlink(path(e->d_name));
	if (d)
		closedir(d);
	fclose(log_file);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_publish),        cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fallback),       cmocka_unit_test(test_files),
		cmocka_unit_test(test_threads),        cmocka_unit_test(test_signer),
		cmocka_unit_test(test_signer_refused),
	};

	return cmocka_run_group_tests_name("tls_supply", tests, set_up, tear_down);
}
