/* SPDX-License-Identifier: MIT */
/* acme_test - see acme_test.h. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <gnutls/x509.h>
#include <cmocka.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls-provider.h>
#include "helper_acme.h"
#include "plugins/acme_tls/key.h"

struct ss_test_host host;
struct acme_conf conf;
int64_t now;
char folder[64];
struct published published;
struct engine engine;

time_t __wrap_time(time_t *out);
time_t __wrap_time(time_t *out)
{
	if (out)
		*out = (time_t)now;
	return (time_t)now;
}

/* ---- certificates ---- */

#define OK(call) assert_int_equal(call, 0)

static char *to_text(gnutls_datum_t d)
{
	char *text = strndup((const char *)d.data, d.size);
	gnutls_free(d.data);
	return text;
}

void make_pair(const char *name, int64_t not_before, int64_t not_after, struct store_pair *out)
{
	static unsigned number;
	number++;
	unsigned char serial[4] = {1, 2, (unsigned char)(number >> 8), (unsigned char)number};
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;
	gnutls_datum_t d;
	OK(gnutls_x509_privkey_init(&key));
	OK(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
					GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	OK(gnutls_x509_crt_init(&crt));
	OK(gnutls_x509_crt_set_version(crt, 3));
	OK(gnutls_x509_crt_set_serial(crt, serial, sizeof serial));
	OK(gnutls_x509_crt_set_activation_time(crt, (time_t)not_before));
	OK(gnutls_x509_crt_set_expiration_time(crt, (time_t)not_after));
	OK(gnutls_x509_crt_set_key(crt, key));
	OK(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name)));
	OK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
						GNUTLS_FSAN_SET));
	OK(gnutls_x509_crt_set_authority_key_id(crt, "authority", 9));
	OK(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
	OK(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &d));
	out->chain_pem = to_text(d);
	OK(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &d));
	out->key_pem = to_text(d);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}

struct store *other_store(void)
{
	struct store *s;
	char why[256];
	if (store_open(folder, &s, why, sizeof why))
		fail_msg("%s", why);
	return s;
}

void put_pair(const char *name, int64_t not_before, int64_t not_after, int64_t last_success)
{
	struct store *s = other_store();
	struct store_pair pair;
	struct store_state state;
	char why[256];
	make_pair(name, not_before, not_after, &pair);
	OK(store_lock(s));
	OK(store_pair_save(s, &pair, why, sizeof why));
	store_pair_done(&pair);
	if (last_success) {
		OK(store_state_load(s, &state, why, sizeof why));
		state.last_success = last_success;
		OK(store_state_save(s, &state, why, sizeof why));
		store_state_done(&state);
	}
	store_free(s);
}

/* ---- the client ---- */

struct acme {
	ev_timer timer;
	bool brings;
};

int acme_new(const struct acme_options *options, struct acme **out, char *why, size_t why_size)
{
	(void)why;
	(void)why_size;
	engine.made++;
	engine.alive++;
	engine.options = *options;
	*out = calloc(1, sizeof **out);
	return 0;
}

void acme_free(struct acme *a)
{
	if (!a)
		return;
	engine.alive--;
	engine.done = NULL;
	if (engine.options.loop)
		ev_timer_stop(engine.options.loop, &a->timer);
	free(a);
}

static void finish(const struct acme_result *result)
{
	acme_done *done = engine.done;
	assert_non_null(done);
	engine.done = NULL;
	done(engine.arg, result);
}

static void on_end(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct acme *a = timer->data;
	(void)loop;
	(void)events;
	if (engine.at_once.fail || !a->brings)
		finish(&engine.at_once);
	else
		bring(engine.at_once_life);
}

static int errand(struct acme *a, acme_done *done, void *arg, bool brings)
{
	assert_null(engine.done);
	engine.done = done;
	engine.arg = arg;
	a->brings = brings;
	if (engine.options.loop) { /* a command's */
		ev_timer_init(&a->timer, on_end, 0., 0.);
		a->timer.data = a;
		ev_timer_start(engine.options.loop, &a->timer);
	}
	return 0;
}

int acme_issue(struct acme *a, const char *old_ari_id, const char *old_key_pem, acme_done *done, void *arg)
{
	engine.issues++;
	engine.has_old_key = old_key_pem != NULL;
	snprintf(engine.old_ari_id, sizeof engine.old_ari_id, "%s", old_ari_id ? old_ari_id : "");
	return errand(a, done, arg, true);
}

int acme_revoke(struct acme *a, const char *chain_pem, int reason, acme_done *done, void *arg)
{
	assert_non_null(strstr(chain_pem, "BEGIN CERTIFICATE"));
	engine.revokes++;
	engine.reason = reason;
	return errand(a, done, arg, false);
}

int acme_rollover(struct acme *a, acme_done *done, void *arg)
{
	engine.rollovers++;
	return errand(a, done, arg, false);
}

int acme_deactivate(struct acme *a, acme_done *done, void *arg)
{
	engine.deactivations++;
	return errand(a, done, arg, false);
}

int acme_ari(struct acme *a, const char *ari_id, acme_done *done, void *arg)
{
	assert_true(ari_id[0]);
	engine.aris++;
	return errand(a, done, arg, false);
}

void bring_dated(int64_t not_before, int64_t not_after)
{
	struct store_pair pair;
	struct acme_key *key;
	struct chain_info chain;
	char why[256];
	make_pair("a.test", not_before, not_after, &pair);
	OK(key_load(pair.key_pem, strlen(pair.key_pem), &key, why, sizeof why));
	OK(chain_read(pair.chain_pem, strlen(pair.chain_pem), key, NULL, 0, &chain, why, sizeof why));
	finish(&(struct acme_result){.chain = &chain, .key_pem = pair.key_pem});
	chain_done(&chain);
	key_free(key);
	store_pair_done(&pair);
}

void bring(int64_t life)
{
	bring_dated(life > 0 ? now : now - DAY, now + life);
}

void fail_with(enum acme_fail fail, bool permanent, int64_t retry_after, const char *why)
{
	struct acme_result result = {.fail = fail, .permanent = permanent, .retry_after = retry_after};
	snprintf(result.why, sizeof result.why, "%s", why);
	finish(&result);
}

/* ---- the host ---- */

static int32_t on_publish(void *self, const char *source, const char *chain_pem, const char *key_pem,
			  char *why, size_t why_size)
{
	(void)self;
	assert_string_equal(source, "ACME");
	assert_non_null(strstr(key_pem, "PRIVATE KEY"));
	published.times++;
	if (published.refuse) {
		snprintf(why, why_size, "%s", published.refuse);
		return -EINVAL;
	}
	free(published.chain);
	published.chain = strdup(chain_pem);
	published.gone[0] = '\0';
	return 0;
}

static void on_unavailable(void *self, const char *reason)
{
	(void)self;
	published.times_gone++;
	snprintf(published.gone, sizeof published.gone, "%s", reason);
}

static const char *const *on_ca_files(void *self)
{
	static const char *const files[] = {"/trust/one.pem", "/trust/two.pem", NULL};
	(void)self;
	return files;
}

static const struct ss_tls_publish publish_service = {.struct_size = sizeof publish_service,
						      .publish = on_publish,
						      .unavailable = on_unavailable,
						      .ca_files = on_ca_files};

static void *no_loop(void *self)
{
	(void)self;
	return NULL;
}

static void touched(void *self)
{
	(void)self;
}

static const struct ss_loop_libev libev_service = {
	.struct_size = sizeof libev_service, .ev_loop = no_loop, .touched = touched};

static int32_t (*query_of_lib)(const struct ss_host *, const char *id, uint32_t min_size,
			       struct ss_iface *out);

static int32_t query(const struct ss_host *h, const char *id, uint32_t min_size, struct ss_iface *out)
{
	if (strcmp(id, SS_TLS_PUBLISH) == 0)
		*out = (struct ss_iface){.vtbl = &publish_service};
	else if (strcmp(id, SS_LOOP_LIBEV) == 0)
		*out = (struct ss_iface){.vtbl = &libev_service};
	else
		return query_of_lib(h, id, min_size, out);
	return 0;
}

static void new_host(void)
{
	ss_test_host_init(&host, semstreams_entry_v1.components[0]);
	query_of_lib = host.host.query;
	host.host.query = query;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) && errno != ENOENT;
}

int test_begin(void **state)
{
	(void)state;
	static char path[sizeof folder];
	strcpy(folder, "/tmp/acme.XXXXXX");
	assert_non_null(mkdtemp(folder));
	strcpy(path, folder);
	now = T0;
	engine = (struct engine){.at_once_life = DAY};
	published = (struct published){0};
	conf = (struct acme_conf){.enabled = 1,
				  .directory_url = "https://ca.test/dir",
				  .email = "admin@a.test",
				  .domains = "[\"A.test\"]",
				  .renew_before = 8 * HOUR * ACME_SECOND,
				  .storage_path = path,
				  .check_interval = HOUR * ACME_SECOND,
				  .challenge_address = "",
				  /* tests that run meanwhile wait for no turn of ours */
				  .challenge_port = 1024 + getpid() % 60000,
				  .order_timeout = 600 * ACME_SECOND,
				  .ari = 0};
	new_host();
	return 0;
}

int test_end(void **state)
{
	(void)state;
	ss_test_host_done(&host);
	assert_int_equal(engine.alive, 0);
	free(published.chain);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

void begin(void)
{
	if (ss_test_host_create(&host, &conf))
		fail_msg("%s", host.errors);
	assert_int_equal(host.desc->start(host.self), 0);
}

void end(void)
{
	ss_test_host_done(&host); /* stops and destroys */
	assert_int_equal(engine.alive, 0);
	new_host();
}

void jump(int64_t seconds)
{
	now += seconds;
	host.now_ns += (uint64_t)(seconds - 1) * 1000000000U;
	/* the ticks between are made up for: all see the same moment */
	ss_test_host_advance(&host, 1000000000U);
}

void pass(int64_t seconds)
{
	for (; seconds > 0; seconds--) {
		now++;
		ss_test_host_advance(&host, 1000000000U);
	}
}

/* ---- looking ---- */

void expect_log(const char *first, ...)
{
	va_list ap;
	const char *from = host.log;
	va_start(ap, first);
	for (const char *text = first; text; text = va_arg(ap, const char *)) {
		const char *at = strstr(from, text);
		if (!at)
			fail_msg("no \"%s\" %sin:\n%s", text, from == host.log ? "" : "behind the others ",
				 host.log);
		from = at + strlen(text);
	}
	va_end(ap);
	host.log[0] = '\0';
}

void expect_no_log(const char *text)
{
	if (strstr(host.log, text))
		fail_msg("\"%s\" in:\n%s", text, host.log);
}

int64_t metric(const char *name)
{
	for (uint32_t i = 0; i < host.desc->n_metrics; i++)
		if (strcmp(host.desc->metrics[i].name, name) == 0)
			return host.metrics[i];
	fail_msg("no metric %s", name);
	return 0;
}
