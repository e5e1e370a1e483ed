/* SPDX-License-Identifier: MIT */
/*
 * test_ws - the transport without TLS: both roles against each other and against peers that speak by hand.
 */
#include "helper_ws.h"
#include "plugins/websocket/transport/ws_frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <unistd.h>

static void connect_both(struct test_pair *f)
{
	test_connect(&f->h, &f->server, &f->client, "ws://127.0.0.1:%u/data");
}

static void send_text(struct test_end *e, bool binary, const void *data, size_t len)
{
	uint8_t *buf = malloc(WS_PRE + len);
	memcpy(buf + WS_PRE, data, len);
	assert_int_equal(ws_send(e->conns[0], binary, buf, len), 0);
	free(buf);
}

static void test_echo(void **state)
{
	struct test_pair *f = *state;
	static const char *const names[] = {"b.v2", "a.v1", NULL};
	static const char *const offered[] = {"a.v1", "b.v2", "c", NULL};
	f->server.options.subprotocols = names;
	f->client.options.subprotocols = offered;
	f->server.echo = true;
	connect_both(f);
	assert_string_equal(f->server.subprotocol, "b.v2");
	assert_string_equal(f->client.subprotocol, "b.v2");
	assert_string_equal(f->server.peer, "-");
	send_text(&f->client, false, "gr\xc3\xbc\xc3\x9f", 6);
	test_until(&f->h, &f->client.messages, 1);
	assert_false(f->client.binary);
	assert_memory_equal(f->client.last, "gr\xc3\xbc\xc3\x9f", 6);
	send_text(&f->client, true, "\xff\x00", 2);
	test_until(&f->h, &f->client.messages, 2);
	assert_true(f->client.binary);
	send_text(&f->client, true, "", 0);
	test_until(&f->h, &f->client.messages, 3);
	assert_int_equal(f->client.len, 0);
	size_t len = 1 << 20;
	char *big = malloc(len);
	memset(big, 'x', len);
	send_text(&f->client, false, big, len);
	free(big);
	test_until(&f->h, &f->client.messages, 4);
	assert_int_equal(f->client.len, len);
	assert_true(f->h.touched > 0);
}

static void test_close_reasons(void **state)
{
	struct test_pair *f = *state;
	f->client.options.retry_min_ns = f->client.options.retry_max_ns = 1 * MS;
	connect_both(f);
	ws_close(f->client.conns[0], 4409, "replaced by another");
	test_until(&f->h, &f->server.closed, 1);
	test_until(&f->h, &f->client.closed, 1);
	assert_int_equal(f->server.code, 4409);
	assert_true(f->server.by_peer);
	assert_string_equal(f->server.why, "replaced by another");
	assert_int_equal(f->client.code, 4409);
	assert_false(f->client.by_peer);
	/* it dials again */
	test_until(&f->h, &f->client.opened, 2);
	test_until(&f->h, &f->server.opened, 2);
	ws_close_all(f->server.ws, 1001, "going");
	test_until(&f->h, &f->server.closed, 2);
	test_until(&f->h, &f->client.closed, 2);
	assert_int_equal(f->client.code, 1001);
	assert_true(f->client.by_peer);
	assert_string_equal(f->client.why, "going");
	/* nobody listens any more */
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(strstr(f->client.failure, "connection refused"));
}

static void test_last_word(void **state)
{
	struct test_pair *f = *state;
	connect_both(f);
	ws_close_all(f->client.ws, 4000, "enough");
	ws_free(f->client.ws);
	f->client.ws = NULL;
	assert_int_equal(f->client.closed, 1);
	test_until(&f->h, &f->server.closed, 1);
	assert_int_equal(f->server.code, 4000);
	assert_string_equal(f->server.why, "enough");
}

static void test_refused_by_opened(void **state)
{
	struct test_pair *f = *state;
	f->server.refuse = 4403;
	test_listen(&f->server);
	test_dial(&f->client, "ws://127.0.0.1:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->client.closed, 1);
	assert_int_equal(f->client.code, 4403);
	assert_int_equal(f->server.opened, 0);
}

static void test_frames(void **state)
{
	struct test_pair *f = *state;
	connect_both(f);
	uint8_t *chunk = malloc(80000);
	size_t at = 0, sizes[] = {5, 200, 70000};
	for (int i = 0; i < 3; i++) {
		at += ws_frame_header(chunk + at, i == 1 ? WS_BINARY : WS_TEXT, sizes[i]);
		memset(chunk + at, 'a' + i, sizes[i]);
		at += sizes[i];
	}
	assert_int_equal(ws_send_frames(f->server.conns[0], chunk, at), 0);
	free(chunk);
	test_until(&f->h, &f->client.messages, 3);
	assert_int_equal(f->client.total, 70205);
	assert_int_equal(f->client.last[0], 'c');
	assert_int_equal(ws_send_frames(f->client.conns[0], (const uint8_t *)"", 0), -EPIPE);
}

/* A receiver that does not read: sending says so, in time, and goes on where it stopped. */
static void test_back_pressure(void **state)
{
	struct test_pair *f = *state;
	connect_both(f);
	ws_pause(f->client.conns[0], true);
	uint8_t *buf = malloc(WS_PRE + 65536);
	int sent = 0, rc;
	while ((rc = ws_send(f->server.conns[0], true, buf, 65536)) == 0)
		assert_true(++sent < 2000);
	assert_int_equal(rc, -EAGAIN);
	assert_false(ws_idle(f->server.conns[0]));
	test_turns(&f->h, 0.2);
	int before = f->client.messages, writables = f->server.writables;
	assert_true(before < sent);
	test_turns(&f->h, 0.1);
	assert_int_equal(f->client.messages, before);
	ws_pause(f->client.conns[0], false);
	test_until(&f->h, &f->client.messages, sent);
	test_until(&f->h, &f->server.writables, writables + 1);
	assert_true(ws_idle(f->server.conns[0]));
	free(buf);
}

/*
 * A listener's frames leave as they are, also when the kernel takes a part only and with
 * messages and pings of libwebsockets between them, and the memory they are in is not written to.
 */
static void test_frames_pass(void **state)
{
	struct test_pair *f = *state;
	enum { FRAMES = 120, PAYLOAD = 500, PAGE = 4096, SIZE = 16 * PAGE };
	f->server.options.limits.ping_ns = 10 * MS;
	connect_both(f);
	uint8_t *map = mmap(NULL, PAGE + SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(map != MAP_FAILED);
	uint8_t *chunk = map + PAGE;
	size_t at = 0;
	for (int i = 0; i < FRAMES; i++) {
		at += ws_frame_header(chunk + at, WS_TEXT, PAYLOAD);
		memset(chunk + at, 'x', PAYLOAD);
		at += PAYLOAD;
	}
	assert_int_equal(mprotect(map, PAGE, PROT_NONE), 0);
	assert_int_equal(mprotect(chunk, SIZE, PROT_READ), 0);
	int sent = 0;
	for (int round = 0; round < 5 || ws_rtt(f->server.conns[0]) == 0; round++) {
		assert_true(round < 1000);
		int rc;
		ws_pause(f->client.conns[0], true);
		while ((rc = ws_send_frames(f->server.conns[0], chunk, at)) == 0)
			sent += FRAMES;
		assert_int_equal(rc, -EAGAIN);
		ws_pause(f->client.conns[0], false);
		test_until(&f->h, &f->client.messages, sent);
		while (!ws_idle(f->server.conns[0]))
			ev_run(f->h.loop, EVRUN_ONCE);
		send_text(&f->server, false, chunk + at - PAYLOAD, PAYLOAD);
		sent++;
	}
	test_until(&f->h, &f->client.messages, sent);
	assert_int_equal(f->client.total, (size_t)sent * PAYLOAD);
	assert_int_equal(f->client.closed, 0);
	munmap(map, PAGE + SIZE);
}

/* ---- HTTP ---- */

static void run_http(struct peer *p)
{
	peer_connect(p);
	peer_http(p, p->arg);
}

static void http(struct test_pair *f, const char *method, const char *path, const char *rest)
{
	char request[512];
	snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, path, rest);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_http, request);
}

#define assert_answer(f, start) assert_memory_equal((f)->peer.text, start, strlen(start))
#define assert_says(f, part)    assert_non_null(strstr((f)->peer.text, part))

static void test_http(void **state)
{
	struct test_pair *f = *state;
	test_listen(&f->server);
	http(f, "GET", "/health", "");
	assert_answer(f, "HTTP/1.1 200 OK\r\n");
	assert_says(f, "Content-Type: application/json\r\n");
	assert_says(f, "Content-Length: 17\r\n");
	assert_says(f, "\r\n\r\n{\"healthy\":true}\n");
	http(f, "HEAD", "/health", "");
	assert_answer(f, "HTTP/1.1 200 OK\r\n");
	assert_says(f, "Content-Length: 17\r\n");
	assert_string_equal(strstr(f->peer.text, "\r\n\r\n"), "\r\n\r\n");
	f->server.healthy = false;
	http(f, "GET", "/health", "");
	assert_answer(f, "HTTP/1.1 503 ");
	assert_says(f, "{\"healthy\":false}");
	http(f, "GET", "/data", "");
	assert_answer(f, "HTTP/1.1 426 ");
	assert_says(f, "\r\nUpgrade: websocket\r\n");
	http(f, "GET", "/other", "");
	assert_answer(f, "HTTP/1.1 404 ");
	http(f, "GET", "/data/", "");
	assert_answer(f, "HTTP/1.1 404 ");
	f->server.options.limits.close_ns = 50 * MS;
	http(f, "CONNECT", "/data", "");
	assert_answer(f, "HTTP/1.1 405 ");
	http(f, "GET", "/data",
	     "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n");
	assert_answer(f, "HTTP/1.1 426 ");
	http(f, "GET", "/data", "Connection: Upgrade\r\nUpgrade: foo\r\n");
	assert_answer(f, "HTTP/1.1 426 ");
	http(f, "NONSENSE", "/data", "");
	assert_answer(f, "HTTP/1.1 405 ");
	assert_int_equal(f->server.opened, 0);
}

static void test_post(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.close_ns = 50 * MS;
	test_listen(&f->server);
	http(f, "POST", "/data", "Content-Length: 5\r\n\r\nhello");
	assert_answer(f, "HTTP/1.1 405 ");
	assert_says(f, "Allow: GET, HEAD\r\n");
	http(f, "POST", "/health", "Content-Length: 1000000\r\n");
	assert_answer(f, "HTTP/1.1 405 ");
}

/* Of a client by hand, and of a dialer of ours. */
static void test_streams(void **state)
{
	struct test_pair *f = *state;
	char longest[sizeof "Semstreams-Stream: \r\n" + WS_STREAM_MAX + 1];
	test_listen(&f->server);
	assert_int_equal(test_upgrade(f, "/data", "Semstreams-Stream: orders \xc3\xbc\r\n"), 101);
	assert_string_equal(f->server.stream, "orders \xc3\xbc");
	assert_int_equal(test_upgrade(f, "/data", ""), 101);
	assert_string_equal(f->server.stream, "");
	assert_int_equal(test_upgrade(f, "/data", "Semstreams-Stream: a\r\nsemstreams-stream: b\r\n"), 400);
	assert_int_equal(test_upgrade(f, "/data", "Semstreams-Stream: a\tb\r\n"), 400);
	assert_int_equal(test_upgrade(f, "/data", "Semstreams-Stream: \xff\r\n"), 400);
	for (int n = WS_STREAM_MAX; n <= WS_STREAM_MAX + 1; n++) {
		snprintf(longest, sizeof longest, "Semstreams-Stream: %0*d\r\n", n, 1);
		assert_int_equal(test_upgrade(f, "/data", longest), n == WS_STREAM_MAX ? 101 : 400);
	}
	f->client.options.stream = "a \xc3\xbc, b";
	int before = f->server.opened;
	test_dial(&f->client, "ws://127.0.0.1:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->server.opened, before + 1);
	assert_string_equal(f->server.stream, "a \xc3\xbc, b");
}

static void test_upgrades(void **state)
{
	struct test_pair *f = *state;
	static const char *const names[] = {"link.v2", "link.v1", NULL};
	static const char *const origins[] = {"https://good.example", NULL};
	f->server.options.subprotocols = names;
	f->server.options.allowed_origins = origins;
	test_listen(&f->server);
	assert_int_equal(test_upgrade(f, "/data", ""), 101);
	assert_null(strcasestr(f->peer.text, "Sec-WebSocket-Protocol"));
	assert_says(f, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_int_equal(test_upgrade(f, "/data", "Sec-WebSocket-Protocol: mqtt, x\r\n"), 101);
	assert_null(strcasestr(f->peer.text, "Sec-WebSocket-Protocol"));
	assert_int_equal(test_upgrade(f, "/data", "Sec-WebSocket-Protocol: mqtt, link.v1, link.v2\r\n"), 101);
	assert_says(f, "Sec-WebSocket-Protocol: link.v2\r\n");
	assert_int_equal(test_upgrade(f, "/data",
				      "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: link.v1\r\n"),
			 101);
	assert_says(f, "Sec-WebSocket-Protocol: link.v1\r\n");
	assert_int_equal(test_upgrade(f, "/data?since=1", ""), 101);
	assert_int_equal(test_upgrade(f, "/", ""), 404);
	assert_int_equal(test_upgrade(f, "/health", ""), 404);
	int failed = f->server.failed;
	assert_int_equal(test_upgrade(f, "/data", "Origin: https://evil.example\r\n"), 403);
	assert_int_equal(f->server.failed, failed + 1);
	assert_non_null(strstr(f->server.failure, "peer=127.0.0.1"));
	assert_int_equal(test_upgrade(f, "/data", "Origin: https://good.example\r\n"), 101);
	http(f, "GET", "/data",
	     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
	     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	assert_answer(f, "HTTP/1.1 426 ");
	http(f, "GET", "/data", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
	assert_answer(f, "HTTP/1.1 400 ");
	http(f, "POST", "/data",
	     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
	assert_answer(f, "HTTP/1.1 405 ");
	test_until(&f->h, &f->server.closed, f->server.opened);
}

static void run_bytes(struct peer *p)
{
	peer_connect(p);
	peer_write(p, p->arg, strlen(p->arg));
	shutdown(p->fd, SHUT_WR);
	while (peer_read(p, p->text, sizeof p->text))
		;
}

/* Each is counted once and answered, unless it breaks off; one that says nothing is not counted. */
static void test_not_http(void **state)
{
	struct test_pair *f = *state;
	char *long_one = malloc(40000);
	const struct {
		char *bytes;
		const char *why, *answer;
	} rows[] = {
		{"\x01\x02 garbage\r\n\r\n", "no HTTP request", "HTTP/1.1 400 "},
		{"\x16\x03\x01", "a TLS handshake", "HTTP/1.1 400 "},
		{"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "request for /%zz, the path served is /data",
		 "HTTP/1.1 404 "},
		{"GET /data HTTP/1.1\r\nHos", "broken off", ""},
		{long_one, "longer than 8 KiB", "HTTP/1.1 431 "},
		{"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "another method", "HTTP/1.1 405 "},
		{"GET /data HTTP/1.1\r\n\r\n", "has no Host", "HTTP/1.1 400 "},
		{"GET /data HTTP/2.0\r\nHost: x\r\n\r\n", "another version", "HTTP/1.1 505 "},
		{"GET /data HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		 "does not upgrade to WebSocket", "HTTP/1.1 426 "},
	};
	const int n = sizeof rows / sizeof rows[0];
	memset(long_one, 'a', 39999);
	long_one[39999] = '\0';
	memcpy(long_one, "GET /", 5);
	test_listen(&f->server);
	for (int i = 0; i < n; i++) {
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_bytes, rows[i].bytes);
		test_until(&f->h, &f->server.failed, i + 1);
		assert_non_null(strstr(f->server.failure, rows[i].why));
		assert_non_null(strstr(f->server.failure, " peer=127.0.0.1"));
		assert_answer(f, rows[i].answer);
		if (rows[i].answer[0])
			assert_says(f, rows[i].why);
	}
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_bytes, "");
	/* the listener is through with all of them when it has answered this */
	http(f, "GET", "/health", "");
	assert_answer(f, "HTTP/1.1 200 OK\r\n");
	test_turns(&f->h, 0.02);
	assert_int_equal(f->server.failed, n);
	free(long_one);
}

/* ---- messages ---- */

struct messages {
	void (*talk)(struct peer *);
	int code;
	char reason[128];
};

static void run_messages(struct peer *p)
{
	struct messages *m = p->arg;
	peer_connect(p);
	if (peer_upgrade(p, "/data", "") != 101)
		return;
	m->talk(p);
	do
		peer_read_frame(p);
	while (p->opcode >= 0 && p->opcode != 8);
	if (p->opcode == 8 && p->len >= 2) {
		m->code = p->data[0] << 8 | p->data[1];
		snprintf(m->reason, sizeof m->reason, "%.*s", (int)p->len - 2, p->data + 2);
		peer_frame(p, 0x88, p->data, 2);
	}
}

static int close_after(struct test_pair *f, void (*talk)(struct peer *))
{
	struct messages m = {.talk = talk};
	int before = f->server.closed;
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_messages, &m);
	test_until(&f->h, &f->server.closed, before + 1);
	return m.code;
}

static void talk_fragments(struct peer *p)
{
	peer_frame(p, 0x01, "h\xc3", 2); /* a character in two pieces */
	peer_frame(p, 0x89, "ping", 4);
	peer_frame(p, 0x00, "", 0);
	peer_frame(p, 0x00, "\xa4", 1);
	peer_frame(p, 0x8a, "pong", 4);
	peer_frame(p, 0x80, "!", 1);
	peer_frame(p, 0x88,
		   "\x0f\xa1"
		   "bye\nnow",
		   9);
}

static void talk_bad_utf8(struct peer *p)
{
	peer_frame(p, 0x81, "\xed\xa0\x80", 3);
}

static void talk_cut_utf8(struct peer *p)
{
	peer_frame(p, 0x01, "abc", 3);
	peer_frame(p, 0x80, "\xe2\x82", 2);
}

static void talk_too_big(struct peer *p)
{
	static char big[20000];
	peer_frame(p, 0x82, big, sizeof big);
}

static void talk_too_many(struct peer *p)
{
	static char part[3000];
	peer_frame(p, 0x02, part, sizeof part);
	for (int i = 0; i < 9; i++)
		peer_frame(p, 0x00, part, sizeof part);
}

static void talk_rsv(struct peer *p)
{
	peer_frame(p, 0xc1, "x", 1);
}

static void talk_bad_opcode(struct peer *p)
{
	peer_frame(p, 0x83, "x", 1);
}

static void talk_bad_close(struct peer *p)
{
	peer_frame(p, 0x88, "\x03\xe8\xff", 3);
}

static void talk_nothing(struct peer *p)
{
	peer_close(p);
}

static void test_messages(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.max_message = 10000;
	test_listen(&f->server);
	assert_int_equal(close_after(f, talk_fragments), 4001);
	assert_int_equal(f->server.messages, 1);
	assert_memory_equal(f->server.last, "h\xc3\xa4!", 4);
	assert_int_equal(f->server.code, 4001);
	assert_true(f->server.by_peer);
	assert_string_equal(f->server.why, "bye now");
	assert_int_equal(close_after(f, talk_bad_utf8), 1007);
	assert_int_equal(f->server.code, 1007);
	assert_false(f->server.by_peer);
	assert_int_equal(close_after(f, talk_cut_utf8), 1007);
	assert_int_equal(close_after(f, talk_too_big), 1009);
	assert_int_equal(close_after(f, talk_too_many), 1009);
	assert_int_equal(f->server.code, 1009);
	assert_int_equal(close_after(f, talk_rsv), 1002);
	assert_int_equal(f->server.code, 1002);
	assert_false(f->server.by_peer);
	assert_int_equal(close_after(f, talk_bad_opcode), 1002);
	assert_int_equal(close_after(f, talk_bad_close), 1007);
	assert_int_equal(close_after(f, talk_nothing), 0);
	assert_int_equal(f->server.code, 1006);
	assert_true(f->server.by_peer);
	assert_int_equal(f->server.messages, 1);
}

/* ---- time ---- */

static void run_mute(struct peer *p)
{
	peer_connect(p);
	if (peer_upgrade(p, "/data", "") != 101)
		return;
	int pings = 0;
	do {
		peer_read_frame(p);
		pings += p->opcode == 9;
	} while (p->opcode >= 0);
	*(int *)p->arg = pings;
}

static void test_dead_peer(void **state)
{
	struct test_pair *f = *state;
	int pings = 0;
	f->server.options.limits.ping_ns = 50 * MS;
	f->server.options.limits.dead_ns = 300 * MS;
	test_listen(&f->server);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_mute, &pings);
	test_until(&f->h, &f->server.closed, 1);
	assert_true(pings >= 2);
	assert_int_equal(f->server.code, 1006);
	assert_false(f->server.by_peer);
	assert_string_equal(f->server.why, "no sign of life for 0.3 s");
}

static void test_pings(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.ping_ns = f->client.options.limits.ping_ns = 30 * MS;
	f->server.options.limits.dead_ns = f->client.options.limits.dead_ns = 400 * MS;
	connect_both(f);
	test_turns(&f->h, 1);
	assert_int_equal(f->server.closed, 0);
	assert_int_equal(f->client.closed, 0);
	assert_true(ws_rtt(f->server.conns[0]) > 0);
	assert_true(ws_rtt(f->client.conns[0]) > 0 && ws_rtt(f->client.conns[0]) < 1000 * MS);
}

static void run_silent(struct peer *p)
{
	char c;
	peer_connect(p);
	if (p->arg)
		peer_write(p, p->arg, strlen(p->arg));
	peer_read(p, &c, 1);
}

static void test_slow_handshake(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.handshake_ns = 100 * MS;
	test_listen(&f->server);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_silent, NULL);
	test_until(&f->h, &f->server.failed, 1);
	assert_string_equal(f->server.failure, "handshake not finished within 0.1 s");
	char half[] = "GET /data HTTP/1.1\r\nHost: x\r\nUpgr";
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_silent, half);
	test_until(&f->h, &f->server.failed, 2);
}

static void run_never_closes(struct peer *p)
{
	peer_connect(p);
	if (peer_upgrade(p, "/data", "") != 101)
		return;
	do
		peer_read_frame(p);
	while (p->opcode >= 0); /* reads the close frame, does not answer */
}

static void close_first(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct test_pair *f = timer->data;
	if (f->server.n_open > 0)
		ws_close(f->server.conns[0], 4000, "go");
}

static void test_slow_closer(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.close_ns = 100 * MS;
	test_listen(&f->server);
	struct ev_timer timer;
	ev_timer_init(&timer, close_first, 0.02, 0.02);
	timer.data = f;
	ev_timer_start(f->h.loop, &timer);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_never_closes, NULL);
	ev_timer_stop(f->h.loop, &timer);
	test_until(&f->h, &f->server.closed, 1);
	assert_int_equal(f->server.code, 4000);
}

/* One that reads nothing has a full pipe in front of the close frame. */
static void test_blocked_closer(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.close_ns = 100 * MS;
	connect_both(f);
	ws_pause(f->client.conns[0], true);
	uint8_t *buf = malloc(WS_PRE + 65536);
	while (ws_send(f->server.conns[0], true, buf, 65536) == 0)
		;
	free(buf);
	ws_close(f->server.conns[0], 4000, "too slow");
	test_until(&f->h, &f->server.closed, 1);
	assert_int_equal(f->server.code, 4000);
	assert_false(f->server.by_peer);
}

/* ---- dialling ---- */

static void test_reconnect(void **state)
{
	struct test_pair *f = *state;
	test_listen(&f->server);
	uint16_t port = ws_port(f->server.ws);
	test_dial(&f->client, "ws://localhost:%u/data", port);
	test_until(&f->h, &f->client.opened, 1);
	ws_free(f->server.ws);
	test_until(&f->h, &f->client.closed, 1);
	assert_int_equal(f->client.code, 1001);
	test_until(&f->h, &f->client.failed, 3);
	char said[64];
	snprintf(said, sizeof said, "url=ws://localhost:%u/data peer=", port);
	assert_non_null(strstr(f->client.failure, said));
	f->server.options.port = port;
	test_listen(&f->server);
	test_until(&f->h, &f->client.opened, 2);
	test_until(&f->h, &f->server.opened, 1 + (f->server.opened > 1));
}

static void test_retry_hint(void **state)
{
	struct test_pair *f = *state;
	f->client.options.retry_min_ns = f->client.options.retry_max_ns = 3600000 * MS;
	connect_both(f);
	ws_retry_after(f->client.ws, 0);
	ws_close(f->server.conns[0], 1001, "reload");
	test_until(&f->h, &f->client.opened, 2);
	ws_retry_after(f->client.ws, 300 * MS);
	ws_close(f->server.conns[0], 1001, "reload");
	test_until(&f->h, &f->client.closed, 2);
	test_turns(&f->h, 0.2);
	assert_int_equal(f->client.opened, 2);
	test_until(&f->h, &f->client.opened, 3);
	/* while it waits */
	ws_close(f->server.conns[0], 1001, "reload");
	test_until(&f->h, &f->client.closed, 3);
	ws_retry_after(f->client.ws, 0);
	test_until(&f->h, &f->client.opened, 4);
}

static void test_dial_failures(void **state)
{
	struct test_pair *f = *state;
	test_listen(&f->server);
	test_dial(&f->client, "ws://127.0.0.1:%u/wrong", ws_port(f->server.ws));
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(strstr(f->client.failure, "the server answers 404 instead of upgrading"));
	ws_free(f->client.ws);
	test_dial(&f->client, "ws://name.invalid/");
	f->client.failed = 0;
	test_until(&f->h, &f->client.failed, 1);
	assert_non_null(strstr(f->client.failure, "cannot resolve name.invalid"));
}

/* A listener that accepts and says nothing. */
static void test_dial_timeout(void **state)
{
	struct test_pair *f = *state;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof sa;
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(fd, 5), 0);
	getsockname(fd, (struct sockaddr *)&sa, &len);
	f->client.options.limits.handshake_ns = 100 * MS;
	test_dial(&f->client, "ws://127.0.0.1:%u/", ntohs(sa.sin_port));
	test_until(&f->h, &f->client.failed, 2);
	assert_non_null(strstr(f->client.failure, "handshake not finished within 0.1 s"));
	close(fd);
}

static void test_bad_options(void **state)
{
	struct test_pair *f = *state;
	static const char *const urls[] = {"http://x/",    "ws://",      "ws://x:0/",      "ws://x:99999/",
					   "ws://u:p@x/",  "ws://[::1/", "ws://x/#frag",   "ws://x/ y",
					   "ws://[::1]x/", "",           "ws://x:80x/path"};
	static const struct ws_events none;
	struct ws *ws;
	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		struct ws_options o = f->client.options;
		o.url = urls[i];
		assert_int_equal(ws_open(&f->h.host, &o, &none, NULL, &ws), -EINVAL);
	}
	struct ws_options o = f->server.options;
	o.bind = "not an address";
	assert_int_equal(ws_open(&f->h.host, &o, &none, NULL, &ws), -EINVAL);
	test_listen(&f->server);
	o.bind = "127.0.0.1";
	o.port = ws_port(f->server.ws);
	assert_int_equal(ws_open(&f->h.host, &o, &none, NULL, &ws), -EADDRINUSE);
	assert_non_null(strstr(f->h.log, "Address already in use"));
	ws_free(NULL);
	ws_close_all(NULL, 1000, "");
}

static void test_addresses(void **state)
{
	struct test_pair *f = *state;
	static const char *const binds[] = {"", "::1", "127.0.0.1"};
	static const char *const hosts[] = {"127.0.0.1", "[::1]", "localhost"};
	for (int i = 0; i < 3; i++) {
		f->server.options.bind = binds[i];
		test_listen(&f->server);
		test_dial(&f->client, "ws://%s:%u/data", hosts[i], ws_port(f->server.ws));
		test_until(&f->h, &f->client.opened, i + 1);
		test_until(&f->h, &f->server.opened, i + 1);
		if (i < 2) {
			test_end_done(&f->client);
			test_end_done(&f->server);
		}
	}
}

/* Free at any time: half-open on both sides, while a name is looked up. */
static void test_free_early(void **state)
{
	struct test_pair *f = *state;
	test_listen(&f->server);
	test_dial(&f->client, "ws://127.0.0.1:%u/data", ws_port(f->server.ws));
	for (int i = 0; i < 3; i++)
		ev_run(f->h.loop, EVRUN_NOWAIT);
	test_end_done(&f->client);
	test_dial(&f->client, "ws://localhost:%u/data", ws_port(f->server.ws));
	for (int i = 0; i < 2; i++)
		ev_run(f->h.loop, EVRUN_NOWAIT);
	ws_free(f->client.ws);
	f->client.ws = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_close_reasons, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_last_word, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_refused_by_opened, test_pair_set_up,
						test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_frames, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_back_pressure, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_frames_pass, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_http, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_post, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_upgrades, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_streams, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_not_http, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_messages, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_dead_peer, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_pings, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_slow_handshake, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_slow_closer, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_blocked_closer, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_reconnect, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_retry_hint, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_dial_failures, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_dial_timeout, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_bad_options, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_addresses, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_free_early, test_pair_set_up, test_pair_tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
