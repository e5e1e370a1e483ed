/* SPDX-License-Identifier: MIT */
/*
 * test_ws_tls - the transport with TLS: who gets in, who does not, why, and that each refusal is counted
 * once.
 */
#include "helper_ws.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <semstreams/ext/tls.h>

/* In place of the C library's: how often the head of a record is read by itself. */
static int head_reads;

__attribute__((visibility("default"))) ssize_t count_and_read(int, void *, size_t) __asm__("read");
ssize_t count_and_read(int fd, void *buf, size_t n)
{
	head_reads += n == 5;
	return syscall(SYS_read, fd, buf, n);
}

struct pair {
	char *cert, *key;
};

/* Made once: the two authorities and everybody's certificates. */
static struct pki {
	struct pair root, middle, other;
	struct pair server, server2, named_wrong, server_expired; /* 127.0.0.1 and localhost, but one */
	struct pair alice, mallory, expired, future, wrong_use, stranger, trick;
	char *chain; /* server, then middle */
} pki;

static void make(struct pair *p, const struct pair *by, struct test_cert c)
{
	if (!c.to_days)
		c.to_days = 30;
	test_cert(&c, by ? by->cert : NULL, by ? by->key : NULL, &p->cert, &p->key);
}

static int make_pki(void **state)
{
	(void)state;
	make(&pki.root, NULL,
	     (struct test_cert){.cn = "root", .ca = true, .to_days = 3650, .from_days = -100});
	make(&pki.other, NULL, (struct test_cert){.cn = "other root", .ca = true, .to_days = 3650});
	make(&pki.middle, &pki.root,
	     (struct test_cert){.cn = "location", .ca = true, .to_days = 1000, .from_days = -100});
	make(&pki.server, &pki.middle,
	     (struct test_cert){.cn = "one", .dns = "localhost", .eku = "serverAuth"});
	make(&pki.server2, &pki.middle,
	     (struct test_cert){.cn = "two", .dns = "localhost", .eku = "serverAuth"});
	make(&pki.named_wrong, &pki.middle,
	     (struct test_cert){.cn = "localhost", .dns = "elsewhere.example", .eku = "serverAuth"});
	make(&pki.server_expired, &pki.middle,
	     (struct test_cert){
		     .cn = "old", .dns = "localhost", .eku = "serverAuth", .from_days = -20, .to_days = -1});
	make(&pki.alice, &pki.middle, (struct test_cert){.cn = "alice", .eku = "clientAuth"});
	make(&pki.mallory, &pki.middle, (struct test_cert){.cn = "mallory", .eku = "clientAuth"});
	make(&pki.trick, &pki.middle, (struct test_cert){.cn = "x/CN=alice", .eku = "clientAuth"});
	make(&pki.expired, &pki.middle,
	     (struct test_cert){.cn = "alice", .eku = "clientAuth", .from_days = -20, .to_days = -1});
	make(&pki.future, &pki.middle,
	     (struct test_cert){.cn = "alice", .eku = "clientAuth", .from_days = 2, .to_days = 20});
	make(&pki.wrong_use, &pki.middle, (struct test_cert){.cn = "alice", .eku = "serverAuth"});
	make(&pki.stranger, &pki.other, (struct test_cert){.cn = "alice", .eku = "clientAuth"});
	assert_true(asprintf(&pki.chain, "%s%s", pki.server.cert, pki.middle.cert) > 0);
	return 0;
}

static int free_pki(void **state)
{
	(void)state;
	struct pair *pairs = &pki.root;
	for (size_t i = 0; i < offsetof(struct pki, chain) / sizeof *pairs; i++) {
		free(pairs[i].cert);
		free(pairs[i].key);
	}
	free(pki.chain);
	return 0;
}

struct fixture {
	struct test_host h;
	struct test_tls server_tls, client_tls;
	struct test_end server, client;
	struct peer peer;
	char *bundle; /* chain of a client, with the intermediate */
};

#define MUTUAL (SS_TLS_REQUIRE_PEER | SS_TLS_VERIFY_PEER)

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	test_host_init(&f->h);
	test_end_init(&f->server, &f->h);
	test_end_init(&f->client, &f->h);
	test_tls_init(&f->server_tls);
	test_tls_init(&f->client_tls);
	f->server.options.tls = &f->server_tls.api;
	f->server.options.tls_self = &f->server_tls;
	f->client.options.tls = &f->client_tls.api;
	f->client.options.tls_self = &f->client_tls;
	f->server_tls.allowed = "alice";
	test_tls_set(&f->server_tls, SS_TLS_SERVER, pki.chain, pki.server.key, pki.root.cert, MUTUAL, 0x0303);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	test_end_done(&f->client);
	test_end_done(&f->server);
	assert_int_equal(f->server_tls.acquired, 0);
	assert_int_equal(f->client_tls.acquired, 0);
	test_host_done(&f->h);
	free(f->bundle);
	free(f);
	return 0;
}

static void client_is(struct fixture *f, const struct pair *who, uint32_t flags, uint32_t version)
{
	char *bundle = NULL;
	if (who)
		assert_true(asprintf(&bundle, "%s%s", who->cert, pki.middle.cert) > 0);
	test_tls_set(&f->client_tls, SS_TLS_CLIENT, bundle, who ? who->key : NULL, pki.root.cert, flags,
		     version);
	free(f->bundle);
	f->bundle = bundle;
}

static int total(const struct test_tls *t, uint32_t role)
{
	int n = 0;
	for (int i = 0; i < SS_TLS_FAILS; i++)
		n += t->failures[role][i];
	return n;
}

static void connect_both(struct fixture *f)
{
	test_connect(&f->h, &f->server, &f->client, "wss://localhost:%u/data");
}

static void echo(struct fixture *f, size_t len)
{
	uint8_t *buf = calloc(1, WS_PRE + len);
	int before = f->client.messages;
	f->server.echo = true;
	assert_int_equal(ws_send(f->client.conns[0], true, buf, len), 0);
	test_until(&f->h, &f->client.messages, before + 1);
	assert_int_equal(f->client.len, len);
	free(buf);
}

static void test_mutual(void **state)
{
	struct fixture *f = *state;
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0304);
	connect_both(f);
	assert_string_equal(f->server.peer, "alice");
	assert_string_equal(f->client.peer, "one");
	echo(f, 5);
	echo(f, 300000);
	assert_int_equal(total(&f->server_tls, SS_TLS_SERVER), 0);
	assert_int_equal(total(&f->client_tls, SS_TLS_CLIENT), 0);
}

/* A record is one call, not one for its head and one for the rest. */
static void test_reads_ahead(void **state)
{
	struct fixture *f = *state;
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0304);
	connect_both(f);
	assert_true(head_reads > 0); /* of the handshake */
	test_turns(&f->h, 0.05);     /* and of what comes with it */
	int before = head_reads;
	for (int i = 0; i < 20; i++) {
		uint8_t buf[WS_PRE + 50] = {0};
		assert_int_equal(ws_send(f->client.conns[0], true, buf, 50), 0);
		test_until(&f->h, &f->server.messages, i + 1);
	}
	assert_int_equal(head_reads, before);
}

/* Many records, more than one turn reads, and in the middle nothing is to be read for a while: all of them
 * come. */
static void test_many_records(void **state)
{
	struct fixture *f = *state;
	enum { N = 4000, LONGEST = 5000 };
	size_t sum = 0;
	unsigned int turns = 0;
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0304);
	connect_both(f);
	uint8_t *buf = calloc(1, WS_PRE + LONGEST);
	for (size_t i = 0; i < N; i++) {
		while (!ws_idle(f->client.conns[0])) {
			ws_pause(f->server.conns[0], turns++ / 8 % 2);
			ev_run(f->h.loop, EVRUN_NOWAIT);
		}
		size_t len = i * 37 % LONGEST;
		sum += len;
		assert_int_equal(ws_send(f->client.conns[0], true, buf, len), 0);
	}
	free(buf);
	ws_pause(f->server.conns[0], false);
	test_until(&f->h, &f->server.messages, N);
	assert_int_equal(f->server.total, sum);
	assert_true(turns > 8);
}

/* ---- refused by the server: by a peer with OpenSSL alone ---- */

struct attempt {
	const struct pair *who;
	int version;  /* both ends of the range; 0 = any */
	bool reached; /* an answer to an upgrade */
	int status;
	char error[160];
	bool resume;
	atomic_bool waits, go_on;
};

static SSL_CTX *client_context(const struct attempt *a)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_security_level(ctx, 0);
	if (a->version) {
		SSL_CTX_set_min_proto_version(ctx, a->version);
		SSL_CTX_set_max_proto_version(ctx, a->version);
	}
	if (a->who) {
		BIO *c = BIO_new_mem_buf(a->who->cert, -1), *k = BIO_new_mem_buf(a->who->key, -1),
		    *m = BIO_new_mem_buf(pki.middle.cert, -1);
		X509 *x = PEM_read_bio_X509(c, NULL, NULL, NULL),
		     *middle = PEM_read_bio_X509(m, NULL, NULL, NULL);
		EVP_PKEY *key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
		STACK_OF(X509) *chain = sk_X509_new_null();
		sk_X509_push(chain, middle);
		SSL_CTX_use_cert_and_key(ctx, x, key, chain, 1);
		sk_X509_pop_free(chain, X509_free);
		X509_free(x);
		EVP_PKEY_free(key);
		BIO_free(c);
		BIO_free(k);
		BIO_free(m);
	}
	return ctx;
}

static void run_attempt(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	ERR_clear_error();
	peer_connect(p);
	if (peer_tls(p, ctx))
		a->status = peer_upgrade(p, "/data", "");
	a->reached = a->status > 0;
	unsigned long e = ERR_peek_last_error();
	snprintf(a->error, sizeof a->error, "%s", e ? ERR_reason_error_string(e) : "");
	peer_close(p);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

/* Refused in the handshake, told with an alert, counted once with its reason. */
static void refused(struct fixture *f, const struct pair *who, int version, int32_t reason, const char *alert,
		    const char *why)
{
	struct attempt a = {.who = who, .version = version};
	int failed = f->server.failed, opened = f->server.opened,
	    count = f->server_tls.failures[SS_TLS_SERVER][reason], all = total(&f->server_tls, SS_TLS_SERVER);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_attempt, &a);
	test_until(&f->h, &f->server.failed, failed + 1);
	assert_false(a.reached);
	if (!strstr(a.error, alert))
		fail_msg("alert is \"%s\" instead of \"%s\"", a.error, alert);
	if (!strstr(f->server.failure, why))
		fail_msg("why is \"%s\" instead of \"%s\"", f->server.failure, why);
	assert_non_null(strstr(f->server.failure, " peer=127.0.0.1"));
	assert_int_equal(f->server_tls.failures[SS_TLS_SERVER][reason], count + 1);
	assert_int_equal(total(&f->server_tls, SS_TLS_SERVER), all + 1);
	test_turns(&f->h, 0.02);
	assert_int_equal(f->server.failed, failed + 1);
	assert_int_equal(f->server.opened, opened);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	test_listen(&f->server);
	for (int v = 0; v < 2; v++) {
		int version = v ? TLS1_3_VERSION : TLS1_2_VERSION;
		refused(f, NULL, version, SS_TLS_FAIL_NO_CERT,
			v ? "certificate required" : "handshake failure", "no certificate");
		refused(f, &pki.stranger, version, SS_TLS_FAIL_UNKNOWN_CA, "unknown ca", "unknown authority");
		refused(f, &pki.expired, version, SS_TLS_FAIL_EXPIRED, "certificate expired", "expired");
		refused(f, &pki.future, version, SS_TLS_FAIL_NOT_YET_VALID, "bad certificate",
			"not yet valid");
		refused(f, &pki.wrong_use, version, SS_TLS_FAIL_PURPOSE, "unsupported certificate",
			"wrong purpose");
		refused(f, &pki.mallory, version, SS_TLS_FAIL_NAME, "bad certificate",
			"CN 'mallory' not in allowed list");
		refused(f, &pki.trick, version, SS_TLS_FAIL_NAME, "bad certificate",
			"CN 'x/CN=alice' not in allowed list");
	}
	refused(f, &pki.alice, TLS1_1_VERSION, SS_TLS_FAIL_VERSION, "protocol version", "below min_version");
	/* what is good gets in after all that */
	struct attempt a = {.who = &pki.alice};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_attempt, &a);
	assert_int_equal(a.status, 101);
	test_until(&f->h, &f->server.closed, 1);
	/* a stricter version, in place */
	test_tls_set(&f->server_tls, SS_TLS_SERVER, pki.chain, pki.server.key, pki.root.cert, MUTUAL, 0x0304);
	refused(f, &pki.alice, TLS1_2_VERSION, SS_TLS_FAIL_VERSION, "protocol version", "below min_version");
	/* another authority, in place */
	test_tls_set(&f->server_tls, SS_TLS_SERVER, pki.chain, pki.server.key, pki.other.cert, MUTUAL,
		     0x0303);
	refused(f, &pki.alice, 0, SS_TLS_FAIL_UNKNOWN_CA, "unknown ca", "unknown authority");
	struct attempt b = {.who = &pki.stranger};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_attempt, &b);
	assert_int_equal(b.status, 101);
	test_until(&f->h, &f->server.closed, 2);
	/* no certificate to show */
	test_tls_set(&f->server_tls, SS_TLS_SERVER, NULL, NULL, pki.root.cert, MUTUAL, 0x0303);
	refused(f, &pki.alice, 0, SS_TLS_FAIL_OTHER, "internal error", "no certificate to show yet");
}

/* A request that is sent after the refusal: no reset takes the place of the alert. */
static void run_late(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	char c;
	ERR_clear_error();
	peer_connect(p);
	assert_true(peer_tls(p, ctx));
	atomic_store(&a->waits, true);
	while (!atomic_load(&a->go_on))
		sched_yield();
	for (int i = 0; i < 3; i++)
		a->status += SSL_write(p->ssl, "GET /data HTTP/1.1\r\n", 20) == 20;
	a->reached = SSL_read(p->ssl, &c, 1) == 1;
	unsigned long e = ERR_peek_last_error();
	snprintf(a->error, sizeof a->error, "%s", e ? ERR_reason_error_string(e) : "");
	peer_close(p);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

static void go_on_if_refused(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = timer->data;
	struct attempt *a = f->peer.arg;
	if (atomic_load(&a->waits) && f->server.failed > 0)
		atomic_store(&a->go_on, true);
}

static void test_alert_is_heard(void **state)
{
	struct fixture *f = *state;
	struct attempt a = {.who = &pki.mallory, .version = TLS1_3_VERSION};
	struct ev_timer timer;
	test_listen(&f->server);
	ev_timer_init(&timer, go_on_if_refused, 0.01, 0.01);
	timer.data = f;
	ev_timer_start(f->h.loop, &timer);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_late, &a);
	ev_timer_stop(f->h.loop, &timer);
	assert_int_equal(a.status, 3);
	assert_false(a.reached);
	if (!strstr(a.error, "bad certificate"))
		fail_msg("\"%s\" instead of the alert", a.error);
	assert_int_equal(f->server.failed, 1);
}

/* No request, after a good handshake. */
static void run_not_http(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	char c;
	peer_connect(p);
	a->reached = peer_tls(p, ctx);
	if (a->status)
		peer_write(p, "\x01\x02 garbage\r\n\r\n", 14);
	SSL_shutdown(p->ssl);
	while (peer_read(p, &c, 1))
		;
	peer_close(p);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

static void test_not_http(void **state)
{
	struct fixture *f = *state;
	test_listen(&f->server);
	for (int i = 0; i < 4; i++) {
		struct attempt a = {.who = &pki.alice,
				    .version = i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION,
				    .status = i < 2};
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_not_http, &a);
		assert_true(a.reached);
		if (i < 2)
			test_until(&f->h, &f->server.failed, i + 1);
	}
	assert_non_null(strstr(f->server.failure, "no HTTP request"));
	test_turns(&f->h, 0.02);
	assert_int_equal(f->server.failed, 2);
	assert_int_equal(total(&f->server_tls, SS_TLS_SERVER), 0);
}

/* Without REQUIRE a client may come without, but not with a bad one. */
static void test_optional(void **state)
{
	struct fixture *f = *state;
	test_tls_set(&f->server_tls, SS_TLS_SERVER, pki.chain, pki.server.key, pki.root.cert,
		     SS_TLS_VERIFY_PEER, 0x0303);
	test_listen(&f->server);
	struct attempt a = {0};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_attempt, &a);
	assert_int_equal(a.status, 101);
	assert_string_equal(f->server.peer, "-");
	refused(f, &pki.stranger, 0, SS_TLS_FAIL_UNKNOWN_CA, "unknown ca", "unknown authority");
	test_until(&f->h, &f->server.closed, 1);
}

static SSL_SESSION *session;
static int keep_session(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = s;
	return 1;
}

static void run_resume(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	peer_connect(p);
	if (peer_tls(p, ctx))
		a->status = peer_upgrade(p, "/data", "");
	SSL_SESSION *first = SSL_get1_session(p->ssl);
	peer_close(p);
	peer_connect(p);
	p->ssl = SSL_new(ctx);
	SSL_set_fd(p->ssl, p->fd);
	SSL_set_session(p->ssl, session ? session : first);
	if (SSL_connect(p->ssl) == 1 && peer_upgrade(p, "/data", "") == 101)
		a->resume = SSL_session_reused(p->ssl);
	peer_close(p);
	SSL_SESSION_free(first);
	SSL_SESSION_free(session);
	session = NULL;
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

static void test_no_resumption(void **state)
{
	struct fixture *f = *state;
	test_listen(&f->server);
	for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
		struct attempt a = {.who = &pki.alice, .version = v};
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_resume, &a);
		assert_int_equal(a.status, 101);
		assert_false(a.resume);
	}
	test_until(&f->h, &f->server.closed, f->server.opened);
}

/* The list of welcome names may change between handshake and upgrade: a second question on the way decides.
 */
static void run_later(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	char half[] = "GET /data HTTP/1.1\r\n";
	peer_connect(p);
	if (peer_tls(p, ctx)) {
		peer_write(p, half, strlen(half));
		atomic_store(&a->waits, true);
		while (!atomic_load(&a->go_on))
			sched_yield();
		peer_http(p,
			  "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
		a->status = atoi(p->text + strlen("HTTP/1.1 "));
	}
	peer_close(p);
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

static void change_list(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = timer->data;
	struct attempt *a = f->peer.arg;
	if (!atomic_load(&a->waits))
		return;
	f->server_tls.allowed = "bob";
	atomic_store(&a->go_on, true);
}

static void test_list_changes(void **state)
{
	struct fixture *f = *state;
	struct attempt a = {.who = &pki.alice, .version = TLS1_2_VERSION};
	struct ev_timer timer;
	test_listen(&f->server);
	ev_timer_init(&timer, change_list, 0.01, 0.01);
	timer.data = f;
	ev_timer_start(f->h.loop, &timer);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_later, &a);
	ev_timer_stop(f->h.loop, &timer);
	assert_int_equal(a.status, 403);
	assert_int_equal(f->server.failed, 1);
	assert_string_equal(f->server.failure,
			    "client certificate CN 'alice' not in allowed list peer=127.0.0.1");
	assert_int_equal(f->server_tls.failures[SS_TLS_SERVER][SS_TLS_FAIL_NAME], 1);
}

static void run_http_on_tls(struct peer *p)
{
	peer_connect(p);
	peer_http(p, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void run_garbage(struct peer *p)
{
	char c;
	peer_connect(p);
	peer_write(p, "\x00\x01\x02garbage garbage garbage", 27);
	peer_read(p, &c, 1);
}

static void run_hang_up(struct peer *p)
{
	peer_connect(p);
	peer_close(p);
}

static void run_silent(struct peer *p)
{
	char c;
	peer_connect(p);
	peer_read(p, &c, 1);
}

enum { SILENT = 6 };

static void run_silent_crowd(struct peer *p)
{
	int *fds = p->arg;
	for (int i = 0; i < SILENT; i++) {
		peer_connect(p);
		fds[i] = p->fd;
		p->fd = -1;
	}
}

/* However many come at once, their handshakes begin one after the other; those that do not go on make way. */
static void test_pace(void **state)
{
	struct fixture *f = *state;
	int fds[SILENT];
	f->server.options.limits.max_handshakes = 1;
	test_listen(&f->server);
	double before = ev_time();
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_silent_crowd, fds);
	test_until(&f->h, &f->server.refused[WS_REFUSED_HANDSHAKE], 1);
	/* one after the other, and none gives way at once */
	assert_true(ev_time() - before > 0.9);
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0303);
	test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.opened, 1);
	for (int i = 0; i < SILENT; i++)
		close(fds[i]);
}

static void test_not_tls(void **state)
{
	struct fixture *f = *state;
	f->server.options.limits.handshake_ns = 200 * MS;
	test_listen(&f->server);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_http_on_tls, NULL);
	test_until(&f->h, &f->server.failed, 1);
	assert_non_null(strstr(f->server.failure, "plain HTTP on a port that speaks TLS"));
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_garbage, NULL);
	test_until(&f->h, &f->server.failed, 2);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_silent, NULL);
	test_until(&f->h, &f->server.failed, 3);
	assert_non_null(strstr(f->server.failure, "handshake not finished within 0.2 s"));
	assert_int_equal(f->server_tls.failures[SS_TLS_SERVER][SS_TLS_FAIL_OTHER], 3);
	/* a probe that only connects is nothing to report */
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_hang_up, NULL);
	test_turns(&f->h, 0.1);
	assert_int_equal(f->server.failed, 3);
	assert_int_equal(total(&f->server_tls, SS_TLS_SERVER), 3);
}

/* HTTP over mutual TLS. */
static void run_health(struct peer *p)
{
	struct attempt *a = p->arg;
	SSL_CTX *ctx = client_context(a);
	peer_connect(p);
	if (peer_tls(p, ctx))
		peer_http(p, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
	X509 *x = p->ssl ? SSL_get_peer_certificate(p->ssl) : NULL;
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, a->error,
					  sizeof a->error);
	a->status = p->ssl ? sk_X509_num(SSL_get_peer_cert_chain(p->ssl)) : 0;
	X509_free(x);
	peer_close(p);
	SSL_CTX_free(ctx);
}

static void test_health(void **state)
{
	struct fixture *f = *state;
	test_listen(&f->server);
	struct attempt a = {.who = &pki.alice};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_health, &a);
	assert_memory_equal(f->peer.text, "HTTP/1.1 200 OK\r\n", 17);
	assert_string_equal(a.error, "one");
	assert_int_equal(a.status, 2); /* the whole chain is shown */
	assert_int_equal(f->server.failed, 0);
}

/* ---- swaps ---- */

static void test_server_swap(void **state)
{
	struct fixture *f = *state;
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0303);
	connect_both(f);
	char *chain;
	assert_true(asprintf(&chain, "%s%s", pki.server2.cert, pki.middle.cert) > 0);
	test_tls_set(&f->server_tls, SS_TLS_SERVER, chain, pki.server2.key, pki.root.cert, MUTUAL, 0x0303);
	echo(f, 1000); /* the old connection lives on */
	struct attempt a = {.who = &pki.alice};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_health, &a);
	assert_string_equal(a.error, "two");
	/* what cannot be used changes nothing */
	test_tls_set(&f->server_tls, SS_TLS_SERVER, chain, pki.server.key, pki.root.cert, MUTUAL, 0x0303);
	assert_non_null(strstr(f->h.log, "certificate and private key do not belong together"));
	test_tls_set(&f->server_tls, SS_TLS_SERVER, "junk", pki.server.key, pki.root.cert, MUTUAL, 0x0303);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_health, &a);
	assert_string_equal(a.error, "two");
	echo(f, 1000);
	assert_int_equal(f->client.closed, 0);
	free(chain);
}

/* The provider has swapped the certificate and word of it is still on its way: the next client gets it. */
static void test_server_swap_before_news(void **state)
{
	struct fixture *f = *state;
	struct attempt a = {.who = &pki.alice};
	char *chain;
	assert_true(asprintf(&chain, "%s%s", pki.server2.cert, pki.middle.cert) > 0);
	test_listen(&f->server);
	for (int i = 0; i < 4; i++) {
		bool second = i % 2 == 0;
		test_tls_set_quietly(&f->server_tls, SS_TLS_SERVER, second ? chain : pki.chain,
				     second ? pki.server2.key : pki.server.key, pki.root.cert, MUTUAL,
				     0x0303);
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_health, &a);
		assert_string_equal(a.error, second ? "two" : "one");
	}
	assert_int_equal(f->server.failed, 0);
	free(chain);
}

static void test_client_swap(void **state)
{
	struct fixture *f = *state;
	f->server_tls.allowed = NULL;
	f->client.options.retry_min_ns = f->client.options.retry_max_ns = 1 * MS;
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0303);
	connect_both(f);
	client_is(f, &pki.mallory, SS_TLS_VERIFY_PEER, 0x0303);
	echo(f, 1000);
	assert_string_equal(f->server.peer, "alice");
	for (int i = 0; i < 5; i++) {
		ws_close(f->client.conns[0], 1000, "");
		test_until(&f->h, &f->server.opened, i + 2);
		test_until(&f->h, &f->client.opened, i + 2);
		assert_string_equal(f->server.peer, i % 2 ? "alice" : "mallory");
		client_is(f, i % 2 ? &pki.mallory : &pki.alice, SS_TLS_VERIFY_PEER, 0x0303);
	}
	/* broken: the last good one stays */
	test_tls_set(&f->client_tls, SS_TLS_CLIENT, "junk", "junk", pki.root.cert, SS_TLS_VERIFY_PEER,
		     0x0303);
	ws_close(f->client.conns[0], 1000, "");
	test_until(&f->h, &f->server.opened, 7);
	assert_non_null(strstr(f->h.log, "no TLS for the client: the certificate is not readable PEM"));
}

/* ---- refused by the client, or told by it ---- */

static void server_is(struct fixture *f, const struct pair *who)
{
	free(f->bundle);
	f->bundle = NULL;
	assert_true(asprintf(&f->bundle, "%s%s", who->cert, pki.middle.cert) > 0);
	test_tls_set(&f->server_tls, SS_TLS_SERVER, f->bundle, who->key, pki.root.cert, 0, 0x0303);
}

static void client_refuses(struct fixture *f, const char *ca, uint32_t flags, int32_t reason, const char *why)
{
	int count = f->client_tls.failures[SS_TLS_CLIENT][reason];
	test_tls_set(&f->client_tls, SS_TLS_CLIENT, NULL, NULL, ca, flags, 0x0303);
	f->client.failed = 0;
	if (!f->client.ws)
		test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.failed, 2);
	if (!strstr(f->client.failure, why))
		fail_msg("why is \"%s\" instead of \"%s\"", f->client.failure, why);
	assert_true(f->client_tls.failures[SS_TLS_CLIENT][reason] > count);
	assert_int_equal(f->client.opened, 0);
	ws_free(f->client.ws);
	f->client.ws = NULL;
}

static void test_client_refuses(void **state)
{
	struct fixture *f = *state;
	server_is(f, &pki.server);
	test_listen(&f->server);
	client_refuses(f, pki.other.cert, SS_TLS_VERIFY_PEER, SS_TLS_FAIL_UNKNOWN_CA,
		       "check_peer: unknown authority");
	client_refuses(f, NULL, SS_TLS_SYSTEM_CA, SS_TLS_FAIL_UNKNOWN_CA, "check_peer: unknown authority");
	server_is(f, &pki.named_wrong);
	client_refuses(f, pki.root.cert, SS_TLS_VERIFY_PEER, SS_TLS_FAIL_NAME, "check_peer: wrong name");
	server_is(f, &pki.server_expired);
	client_refuses(f, pki.root.cert, SS_TLS_VERIFY_PEER, SS_TLS_FAIL_EXPIRED, "check_peer: expired");
	server_is(f, &pki.alice);
	client_refuses(f, pki.root.cert, SS_TLS_VERIFY_PEER, SS_TLS_FAIL_PURPOSE,
		       "check_peer: wrong purpose");
	assert_int_equal(f->server.opened, 0);
	/* unless it is told not to look */
	test_tls_set(&f->client_tls, SS_TLS_CLIENT, NULL, NULL, NULL, SS_TLS_INSECURE, 0x0303);
	test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.opened, 1);
	assert_string_equal(f->client.peer, "-");
}

static void test_client_is_refused(void **state)
{
	struct fixture *f = *state;
	test_listen(&f->server);
	test_tls_set(&f->client_tls, SS_TLS_CLIENT, NULL, NULL, pki.root.cert, SS_TLS_VERIFY_PEER, 0x0304);
	test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(
		strstr(f->client.failure, "the server refused the TLS handshake: certificate required"));
	assert_int_equal(f->client_tls.failures[SS_TLS_CLIENT][SS_TLS_FAIL_NO_CERT], f->client.failed);
	/* a certificate comes, and it gets in by itself */
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0304);
	test_until(&f->h, &f->client.opened, 1);
}

/* wss:// where nobody speaks TLS. */
static void test_server_is_plain(void **state)
{
	struct fixture *f = *state;
	f->server.options.tls = NULL;
	test_listen(&f->server);
	client_is(f, &pki.alice, SS_TLS_VERIFY_PEER, 0x0303);
	test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(strstr(f->client.failure, "the server does not speak TLS here"));
}

/* Without a client section the system's pool decides. */
static void test_default_client(void **state)
{
	struct fixture *f = *state;
	server_is(f, &pki.server);
	test_listen(&f->server);
	f->client.options.tls = NULL;
	test_dial(&f->client, "wss://localhost:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(
		strstr(f->client.failure, "certificate of localhost refused: unable to get local issuer"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_mutual, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reads_ahead, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_records, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_alert_is_heard, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_http, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_optional, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_resumption, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_list_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pace, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_tls, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_health, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_server_swap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_server_swap_before_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_client_swap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_client_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_client_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_server_is_plain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_default_client, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, make_pki, free_pki);
}
