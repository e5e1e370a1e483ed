/* SPDX-License-Identifier: MIT */
/* helper_acme - see helper_acme.h. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>
#include <semstreams/ext/tls-provider.h>
#include "helper_acme.h"
#include "plugins/identity/key.h"

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
	struct pair pair;
	struct store_state state;
	make_pair(name, not_before, not_after, &pair);
	OK(store_lock(s));
	OK(stored_cert_save(s, pair.chain_pem, pair.key_pem));
	drop_pair(&pair);
	if (last_success) {
		OK(store_state_load(s, &state));
		state.last_success = last_success;
		OK(store_state_save(s, &state));
		store_state_done(&state);
	}
	store_free(s);
}

/* ---- operations ---- */

struct operation {
	int fd; /* readable when it has ended */
	bool ended, brings;
	struct obtain_result result;
};
static struct operation *under_way;

int __wrap_operation_start(const struct acme_setup *, json_t *request, const char *const *ca_files,
			   const struct operation_events *, struct operation **out, char *why,
			   size_t why_size);
int __wrap_operation_fd(const struct operation *);
struct obtain_result *__wrap_operation_read(struct operation *);
struct obtain_result *__wrap_operation_wait(struct operation *);
void __wrap_operation_free(struct operation *);

int __wrap_operation_start(const struct acme_setup *setup, json_t *request, const char *const *ca_files,
			   const struct operation_events *events, struct operation **out, char *why,
			   size_t why_size)
{
	(void)why;
	(void)why_size;
	assert_null(under_way);
	const char *kind = json_string_value(json_object_get(request, "operation"));
	const char *ari_id = json_string_value(json_object_get(request, "ari_id"));
	const char *old_ari_id = json_string_value(json_object_get(request, "old_ari_id"));
	const char *chain = json_string_value(json_object_get(request, "chain"));
	bool issues = strcmp(kind, "issue") == 0, revokes = strcmp(kind, "revoke") == 0,
	     asks = strcmp(kind, "ari") == 0;
	engine.made++;
	engine.alive++;
	engine.issues += issues;
	engine.aris += asks;
	engine.revokes += revokes;
	engine.rollovers += strcmp(kind, "rollover") == 0;
	engine.deactivations += strcmp(kind, "deactivate") == 0;
	engine.setup = setup;
	engine.events = *events;
	if (revokes)
		engine.reason = (int)json_integer_value(json_object_get(request, "reason"));
	engine.has_old_key = json_is_string(json_object_get(request, "old_key"));
	snprintf(engine.old_ari_id, sizeof engine.old_ari_id, "%s", old_ari_id ? old_ari_id : "");
	for (engine.n_ca_files = 0; ca_files[engine.n_ca_files]; engine.n_ca_files++)
		if (engine.n_ca_files < 2)
			snprintf(engine.ca_files[engine.n_ca_files], sizeof engine.ca_files[0], "%s",
				 ca_files[engine.n_ca_files]);
	assert_true(!asks || (ari_id && ari_id[0]));
	assert_true(!revokes || (chain && strstr(chain, "BEGIN CERTIFICATE")));
	json_decref(request);
	*out = under_way = calloc(1, sizeof **out);
	assert_non_null(under_way);
	under_way->brings = issues;
	under_way->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	engine.running = true;
	return 0;
}

int __wrap_operation_fd(const struct operation *op)
{
	return op->fd;
}

struct obtain_result *__wrap_operation_read(struct operation *op)
{
	return op->ended ? &op->result : NULL;
}

void __wrap_operation_free(struct operation *op)
{
	if (!op)
		return;
	engine.alive--;
	engine.running = false;
	under_way = NULL;
	close(op->fd);
	chain_done(&op->result.chain);
	key_text_free(op->result.key_pem);
	free(op);
}

static void set_certificate(struct obtain_result *result, int64_t not_before, int64_t not_after)
{
	struct pair pair;
	struct identity_key *key;
	char why[256];
	make_pair("a.test", not_before, not_after, &pair);
	OK(key_load(pair.key_pem, strlen(pair.key_pem), &key, why, sizeof why));
	OK(chain_read(pair.chain_pem, strlen(pair.chain_pem), key, NULL, 0, &result->chain, why, sizeof why));
	key_free(key);
	result->key_pem = pair.key_pem;
	free(pair.chain_pem);
}

struct obtain_result *__wrap_operation_wait(struct operation *op)
{
	op->result = engine.at_once;
	if (!engine.at_once.fail && op->brings)
		set_certificate(&op->result, engine.at_once_life > 0 ? now : now - DAY,
				now + engine.at_once_life);
	return &op->result;
}

/* under_way->result is filled in: let the component read it. */
static void finish(void)
{
	assert_non_null(under_way);
	assert_false(under_way->ended);
	under_way->ended = true;
	OK(eventfd_write(under_way->fd, 1));
	ss_test_host_run(&host, 0);
	assert_false(engine.running && under_way->ended);
}

void bring_dated(int64_t not_before, int64_t not_after)
{
	assert_true(under_way && under_way->brings);
	set_certificate(&under_way->result, not_before, not_after);
	finish();
}

void bring(int64_t life)
{
	bring_dated(life > 0 ? now : now - DAY, now + life);
}

void advise(int64_t start, int64_t end_at, int64_t retry_after)
{
	assert_true(under_way && !under_way->brings);
	under_way->result =
		(struct obtain_result){.ari_start = start, .ari_end = end_at, .retry_after = retry_after};
	finish();
}

void fail_with(enum obtain_fail fail, bool permanent, int64_t retry_after, const char *why)
{
	assert_non_null(under_way);
	under_way->result =
		(struct obtain_result){.fail = fail, .permanent = permanent, .retry_after = retry_after};
	snprintf(under_way->result.why, sizeof under_way->result.why, "%s", why);
	finish();
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

static int32_t (*query_of_lib)(const struct ss_host *, const char *id, uint32_t min_size,
			       struct ss_iface *out);

static int32_t query(const struct ss_host *h, const char *id, uint32_t min_size, struct ss_iface *out)
{
	if (strcmp(id, SS_TLS_PUBLISH) == 0)
		*out = (struct ss_iface){.vtbl = &publish_service};
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
				  .renew_before = 8 * HOUR * SETUP_SECOND,
				  .storage_path = path,
				  .check_interval = HOUR * SETUP_SECOND,
				  .challenge_address = "",
				  /* tests that run meanwhile do not wait for our port */
				  .challenge_port = 1024 + getpid() % 60000,
				  .order_timeout = 600 * SETUP_SECOND,
				  .reuse_key = 1,
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

void retry(void)
{
	struct ss_iface face;
	OK(host.desc->extension(host.self, SS_TLS_PROVIDER, sizeof(struct ss_tls_provider), &face));
	((const struct ss_tls_provider *)face.vtbl)->retry(face.self);
	ss_test_host_run(&host, 0);
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
