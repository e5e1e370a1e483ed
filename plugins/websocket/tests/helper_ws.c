/* SPDX-License-Identifier: MIT */
/*
 * ws_test - see ws_test.h.
 */
#include "helper_ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <semstreams/ext/loop-libev.h>
#include <semstreams/ext/tls.h>

/* ---- certificates ---- */

static char *pem_text(BIO *bio)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);
	char *text = strndup(data, (size_t)len);
	BIO_free(bio);
	return text;
}

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(e);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

void test_cert(const struct test_cert *c, const char *issuer_pem, const char *issuer_key_pem, char **cert,
	       char **key)
{
	static atomic_int serial = 1;
	EVP_PKEY *pkey = EVP_EC_gen("P-256"), *signer = pkey;
	X509 *x = X509_new(), *issuer = x;
	if (issuer_pem) {
		BIO *a = BIO_new_mem_buf(issuer_pem, -1), *b = BIO_new_mem_buf(issuer_key_pem, -1);
		issuer = PEM_read_bio_X509(a, NULL, NULL, NULL);
		signer = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
		BIO_free(a);
		BIO_free(b);
	}
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
	X509_gmtime_adj(X509_getm_notBefore(x), c->from_days * 86400L);
	X509_gmtime_adj(X509_getm_notAfter(x), c->to_days * 86400L);
	X509_set_pubkey(x, pkey);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)c->cn,
				   -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	char san[300];
	snprintf(san, sizeof san, "DNS:%s", c->dns ? c->dns : "");
	add_extension(x, issuer, NID_basic_constraints, c->ca ? "critical,CA:TRUE" : "CA:FALSE");
	if (c->dns)
		add_extension(x, issuer, NID_subject_alt_name, san);
	if (c->eku)
		add_extension(x, issuer, NID_ext_key_usage, c->eku);
	assert_true(X509_sign(x, signer, EVP_sha256()) > 0);
	BIO *a = BIO_new(BIO_s_mem()), *b = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(a, x);
	PEM_write_bio_PKCS8PrivateKey(b, pkey, NULL, NULL, 0, NULL, NULL);
	*cert = pem_text(a);
	*key = pem_text(b);
	if (issuer != x)
		X509_free(issuer);
	if (signer != pkey)
		EVP_PKEY_free(signer);
	X509_free(x);
	EVP_PKEY_free(pkey);
}

/* ---- TLS service ---- */

static int32_t tls_enabled(void *self, uint32_t role)
{
	return ((struct test_tls *)self)->enabled[role];
}

static const struct ss_tls_material *tls_acquire(void *self, uint32_t role)
{
	struct test_tls *t = self;
	if (!t->enabled[role])
		return NULL;
	t->acquired++;
	return &t->material[role];
}

static void tls_release(void *self, const struct ss_tls_material *m)
{
	assert_non_null(m);
	((struct test_tls *)self)->acquired--;
}

static int32_t tls_watch(void *self, void (*changed)(void *arg), void *arg)
{
	struct test_tls *t = self;
	int i = t->changed[0] ? 1 : 0;
	t->changed[i] = changed;
	t->changed_arg[i] = arg;
	return 0;
}

static void tls_unwatch(void *self)
{
	struct test_tls *t = self;
	memset(t->changed, 0, sizeof t->changed);
}

static int32_t tls_check_peer(void *self, uint32_t role, const struct ss_der *chain, uint32_t n,
			      int32_t error, const char *host, char *name, size_t name_size, int32_t *fail,
			      char *why, size_t why_size)
{
	static const char *const words[SS_TLS_FAILS] = {
		"no certificate", "unknown authority", "expired", "not yet valid", "wrong purpose",
		"wrong name",     "version",           "other",   "revoked",       "list expired"};
	struct test_tls *t = self;
	if (role == SS_TLS_CLIENT)
		assert_non_null(host);
	if (error >= 0) {
		*fail = error;
		snprintf(why, why_size, "check_peer: %s", words[error]);
		return -EACCES;
	}
	assert_true(n > 0);
	const unsigned char *p = chain[0].data;
	X509 *x = d2i_X509(NULL, &p, (long)chain[0].len);
	assert_non_null(x);
	X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, (int)name_size);
	X509_free(x);
	if (role == SS_TLS_SERVER && t->allowed && strcmp(t->allowed, name) != 0) {
		*fail = SS_TLS_FAIL_NAME;
		snprintf(why, why_size, "client certificate CN '%s' not in allowed list", name);
		return -EACCES;
	}
	return 0;
}

static void tls_count_failure(void *self, uint32_t role, int32_t fail)
{
	((struct test_tls *)self)->failures[role][fail]++;
}

void test_tls_init(struct test_tls *t)
{
	*t = (struct test_tls){.api = {.struct_size = sizeof t->api,
				       .enabled = tls_enabled,
				       .acquire = tls_acquire,
				       .release = tls_release,
				       .watch = tls_watch,
				       .unwatch = tls_unwatch,
				       .check_peer = tls_check_peer,
				       .count_failure = tls_count_failure}};
}

void test_tls_set_quietly(struct test_tls *t, uint32_t role, const char *chain, const char *key,
			  const char *ca, uint32_t flags, uint32_t min_version)
{
	struct ss_tls_material *m = &t->material[role];
	*m = (struct ss_tls_material){.struct_size = sizeof *m,
				      .role = role,
				      .generation = m->generation + 1,
				      .chain_pem = chain,
				      .key_pem = key,
				      .ca_pem = ca,
				      .min_version = min_version,
				      .flags = flags};
	t->enabled[role] = true;
}

void test_tls_set(struct test_tls *t, uint32_t role, const char *chain, const char *key, const char *ca,
		  uint32_t flags, uint32_t min_version)
{
	test_tls_set_quietly(t, role, chain, key, ca, flags, min_version);
	for (int i = 0; i < 2; i++)
		if (t->changed[i])
			t->changed[i](t->changed_arg[i]);
}

/* ---- host ---- */

static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	struct test_host *h = host->impl;
	if (getenv("WS_TEST_LOG"))
		fprintf(stderr, "%d %s\n", level, text);
	if (level > SS_LOG_INFO)
		return;
	size_t used = strlen(h->log);
	snprintf(h->log + used, sizeof h->log - used, "%s\n", text);
}

static void *libev_loop(void *self)
{
	return ((struct test_host *)self)->loop;
}

static void libev_touched(void *self)
{
	((struct test_host *)self)->touched++;
}

static int32_t host_query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	struct test_host *h = host->impl;
	if (strcmp(id, SS_LOOP_LIBEV) != 0 || min_size > h->libev.struct_size)
		return -ENOENT;
	*out = (struct ss_iface){&h->libev, h};
	return 0;
}

void test_host_init(struct test_host *h)
{
	*h = (struct test_host){
		.host = {.struct_size = sizeof h->host,
			 .impl = h,
			 .id = "test",
			 .log = host_log,
			 .query = host_query},
		.libev = {.struct_size = sizeof h->libev, .ev_loop = libev_loop, .touched = libev_touched}};
	h->loop = ev_loop_new(0);
	assert_non_null(h->loop);
}

void test_host_done(struct test_host *h)
{
	ev_loop_destroy(h->loop);
}

static void on_timeout(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)revents;
	*(bool *)timer->data = true;
	ev_break(loop, EVBREAK_ONE);
}

static bool turn(struct test_host *h, const int *what, int value, double seconds)
{
	struct ev_timer timer;
	bool late = false;
	ev_now_update(h->loop);
	ev_timer_init(&timer, on_timeout, seconds, 0);
	timer.data = &late;
	ev_timer_start(h->loop, &timer);
	while (!late && (!what || *what < value))
		ev_run(h->loop, EVRUN_ONCE);
	ev_timer_stop(h->loop, &timer);
	return !what || *what >= value;
}

void test_until(struct test_host *h, const int *what, int value)
{
	if (!turn(h, what, value, TEST_TIMEOUT))
		fail_msg("waited in vain: %d instead of %d; log:\n%s", *what, value, h->log);
}

void test_turns(struct test_host *h, double seconds)
{
	turn(h, NULL, 0, seconds);
}

/* ---- endpoint ---- */

static int on_opened(void *arg, struct ws_conn *c, const char *subprotocol, const char *peer, void **user)
{
	struct test_end *e = arg;
	snprintf(e->subprotocol, sizeof e->subprotocol, "%s", subprotocol);
	snprintf(e->stream, sizeof e->stream, "%s", ws_stream(c));
	snprintf(e->peer, sizeof e->peer, "%s", peer ? peer : "-");
	*user = e;
	if (e->refuse)
		return e->refuse;
	assert_true(e->n_open < TEST_CONNS);
	e->conns[e->n_open++] = c;
	e->opened++;
	return 0;
}

static void on_message(void *arg, struct ws_conn *c, void *user, bool binary, const uint8_t *data, size_t len)
{
	struct test_end *e = arg;
	assert_ptr_equal(user, e);
	e->binary = binary;
	e->len = len;
	e->total += len;
	memset(e->last, 0, sizeof e->last);
	memcpy(e->last, data, len < sizeof e->last ? len : sizeof e->last);
	e->messages++;
	if (!e->echo)
		return;
	uint8_t *buf = malloc(WS_PRE + len);
	memcpy(buf + WS_PRE, data, len);
	assert_int_equal(ws_send(c, binary, buf, len), 0);
	free(buf);
}

static void on_writable(void *arg, struct ws_conn *c, void *user)
{
	(void)c, (void)user;
	((struct test_end *)arg)->writables++;
}

static void on_closed(void *arg, struct ws_conn *c, void *user, int code, bool by_peer, const char *why)
{
	struct test_end *e = arg;
	assert_ptr_equal(user, e);
	int i = 0;
	while (i < e->n_open && e->conns[i] != c)
		i++;
	assert_true(i < e->n_open);
	e->conns[i] = e->conns[--e->n_open];
	e->code = code;
	e->by_peer = by_peer;
	snprintf(e->why, sizeof e->why, "%s", why);
	e->closed++;
}

static void on_failed(void *arg, uint32_t n, const char *why)
{
	struct test_end *e = arg;
	snprintf(e->failure, sizeof e->failure, "%s", why);
	if (getenv("WS_TEST_LOG"))
		fprintf(stderr, "failed: %s\n", why);
	e->failed += (int)n;
	e->told += n == 0;
}

static void on_refused(void *arg, enum ws_refusal reason, uint32_t n)
{
	struct test_end *e = arg;
	e->failed += (int)n;
	e->refused[reason] += (int)n;
}

static bool on_health(void *arg, char *buf, size_t size)
{
	struct test_end *e = arg;
	snprintf(buf, size, "{\"healthy\":%s}", e->healthy ? "true" : "false");
	return e->healthy;
}

static const struct ws_events events = {.opened = on_opened,
					.message = on_message,
					.writable = on_writable,
					.closed = on_closed,
					.failed = on_failed,
					.refused = on_refused,
					.health = on_health};

void test_end_init(struct test_end *e, struct test_host *h)
{
	*e = (struct test_end){.h = h,
			       .healthy = true,
			       .options = {.bind = "127.0.0.1",
					   .path = "/data",
					   .retry_min_ns = 10 * MS,
					   .retry_max_ns = 40 * MS,
					   .stable_ns = 60000 * MS,
					   .limits = {.max_clients = 8,
						      .max_message = 1 << 20,
						      .handshake_ns = 5000 * MS,
						      .ping_ns = 5000 * MS,
						      .dead_ns = 15000 * MS,
						      .close_ns = 2000 * MS}}};
}

void test_listen(struct test_end *e)
{
	assert_int_equal(ws_open(&e->h->host, &e->options, &events, e, &e->ws), 0);
	assert_int_not_equal(ws_port(e->ws), 0);
}

void test_dial(struct test_end *e, const char *fmt, ...)
{
	char url[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(url, sizeof url, fmt, ap);
	va_end(ap);
	e->options.url = url;
	assert_int_equal(ws_open(&e->h->host, &e->options, &events, e, &e->ws), 0);
	e->options.url = NULL;
}

void test_end_done(struct test_end *e)
{
	ws_free(e->ws);
	e->ws = NULL;
	assert_int_equal(e->n_open, 0);
	assert_int_equal(e->opened, e->closed);
}

/* ---- peer by hand ---- */

static void on_finished(struct ev_loop *loop, struct ev_async *async, int revents)
{
	(void)loop, (void)revents;
	((struct peer *)async->data)->done = 1;
}

static void *peer_main(void *arg)
{
	struct peer *p = arg;
	p->run(p);
	peer_close(p);
	ev_async_send(p->loop, &p->finished);
	return NULL;
}

void test_peer(struct test_host *h, struct peer *p, uint16_t port, void (*run)(struct peer *), void *arg)
{
	memset(p, 0, sizeof *p);
	p->fd = -1;
	p->port = port;
	p->run = run;
	p->arg = arg;
	p->loop = h->loop;
	ev_async_init(&p->finished, on_finished);
	p->finished.data = p;
	ev_async_start(h->loop, &p->finished);
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
	test_until(h, &p->done, 1);
	pthread_join(p->thread, NULL);
	ev_async_stop(h->loop, &p->finished);
}

void peer_connect(struct peer *p)
{
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons(p->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = (time_t)TEST_TIMEOUT};
	peer_close(p);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (connect(p->fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		abort();
}

bool peer_tls(struct peer *p, SSL_CTX *ctx)
{
	p->ssl = SSL_new(ctx);
	SSL_set_fd(p->ssl, p->fd);
	return SSL_connect(p->ssl) == 1;
}

void peer_close(struct peer *p)
{
	SSL_free(p->ssl);
	p->ssl = NULL;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void peer_write(struct peer *p, const void *data, size_t len)
{
	const char *at = data;
	while (len > 0) {
		ssize_t n = p->ssl ? SSL_write(p->ssl, at, (int)len) : send(p->fd, at, len, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		at += n;
		len -= (size_t)n;
	}
}

size_t peer_read(struct peer *p, void *buf, size_t size)
{
	ssize_t n = p->ssl ? SSL_read(p->ssl, buf, (int)size) : recv(p->fd, buf, size, 0);
	return n > 0 ? (size_t)n : 0;
}

static bool peer_read_all(struct peer *p, void *buf, size_t size)
{
	char *at = buf;
	while (size > 0) {
		size_t n = peer_read(p, at, size);
		if (n == 0)
			return false;
		at += n;
		size -= n;
	}
	return true;
}

void peer_http(struct peer *p, const char *request)
{
	size_t len = 0;
	peer_write(p, request, strlen(request));
	p->text[0] = '\0';
	/* byte by byte: frames may follow the headers of a 101 */
	while (len < sizeof p->text - 1 && peer_read(p, p->text + len, 1)) {
		p->text[++len] = '\0';
		if (strncmp(p->text, "HTTP/1.1 101", 12) == 0 && strstr(p->text, "\r\n\r\n"))
			return;
	}
}

int peer_upgrade(struct peer *p, const char *path, const char *headers)
{
	char request[2048];
	snprintf(request, sizeof request,
		 "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
		 path, headers);
	peer_http(p, request);
	return strncmp(p->text, "HTTP/1.1 ", 9) == 0 ? atoi(p->text + 9) : 0;
}

void peer_frame(struct peer *p, int first_byte, const void *data, size_t len)
{
	uint8_t *f = malloc(14 + len), *at = f;
	*at++ = (uint8_t)first_byte;
	if (len < 126) {
		*at++ = (uint8_t)(0x80 | len);
	} else if (len < 65536) {
		*at++ = 0x80 | 126;
		*at++ = (uint8_t)(len >> 8);
		*at++ = (uint8_t)len;
	} else {
		*at++ = 0x80 | 127;
		for (int i = 7; i >= 0; i--)
			*at++ = (uint8_t)((uint64_t)len >> 8 * i);
	}
	static const uint8_t mask[4] = {1, 2, 3, 4};
	memcpy(at, mask, 4);
	at += 4;
	for (size_t i = 0; i < len; i++)
		*at++ = ((const uint8_t *)data)[i] ^ mask[i & 3];
	peer_write(p, f, (size_t)(at - f));
	free(f);
}

void peer_read_frame(struct peer *p)
{
	uint8_t head[2], more[8];
	p->opcode = -1;
	p->len = 0;
	if (!peer_read_all(p, head, 2))
		return;
	uint64_t len = head[1] & 0x7f;
	size_t n = len == 126 ? 2 : len == 127 ? 8 : 0;
	if (n) {
		if (!peer_read_all(p, more, n))
			return;
		len = 0;
		for (size_t i = 0; i < n; i++)
			len = len << 8 | more[i];
	}
	if (len > sizeof p->data || !peer_read_all(p, p->data, len))
		return;
	p->len = len;
	p->opcode = head[0] & 0xf;
}

/* ---- what most tests begin with ---- */

int test_pair_set_up(void **state)
{
	struct test_pair *f = calloc(1, sizeof *f);
	test_host_init(&f->h);
	test_end_init(&f->server, &f->h);
	test_end_init(&f->client, &f->h);
	test_end_init(&f->second, &f->h);
	*state = f;
	return 0;
}

int test_pair_tear_down(void **state)
{
	struct test_pair *f = *state;
	test_end_done(&f->second);
	test_end_done(&f->client);
	test_end_done(&f->server);
	test_host_done(&f->h);
	free(f);
	return 0;
}

void test_connect(struct test_host *h, struct test_end *server, struct test_end *client, const char *url)
{
	test_listen(server);
	test_dial(client, url, ws_port(server->ws));
	test_until(h, &client->opened, 1);
	test_until(h, &server->opened, 1);
}

struct upgrade {
	const char *path, *headers;
	int status;
};

static void run_upgrade(struct peer *p)
{
	struct upgrade *u = p->arg;
	peer_connect(p);
	u->status = peer_upgrade(p, u->path, u->headers);
}

int test_upgrade(struct test_pair *f, const char *path, const char *headers)
{
	struct upgrade u = {.path = path, .headers = headers};
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_upgrade, &u);
	return u.status;
}
