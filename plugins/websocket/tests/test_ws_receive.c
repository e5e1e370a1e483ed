/* SPDX-License-Identifier: MIT */
/*
 * test_ws_receive - what a dialed connection makes of a server that speaks by hand: a thread that accepts one
 * connection, upgrades it and follows a script.
 */
#include "helper_ws.h"
#include "plugins/websocket/transport/ws_frames.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/evp.h>

struct breach {
	const char *bytes;
	size_t len;
	int code; /* the client's answer */
};

struct script {
	void (*run)(struct peer *);
	const char *behind; /* sent together with the answer to the handshake */
	size_t behind_len;
	const struct breach *breach;
	bool mute; /* the closing handshake is not answered */
	bool late; /* the client is busy from its request until the answer is there and handshake_ns over */
};

struct fixture {
	struct test_host h;
	struct test_end client;
	struct peer peer;
	struct script script;
	int listener;
	struct ev_async asked;
	int busy[2]; /* a pair of sockets: the client's loop, the server */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	test_host_init(&f->h);
	test_end_init(&f->client, &f->h);
	f->client.options.limits.ping_ns = 20 * MS;
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	test_end_done(&f->client);
	test_host_done(&f->h);
	close(f->listener);
	free(f);
	return 0;
}

/* ---- the server, in its thread ---- */

/* Frames without a mask, many of them in one write. */
static void say(struct peer *p, int first_byte, const void *data, size_t len)
{
	uint8_t *f = malloc(10 + len);
	size_t n = ws_frame_header(f, WS_TEXT, len);
	f[0] = (uint8_t)first_byte;
	if (len)
		memcpy(f + n, data, len);
	peer_write(p, f, n + len);
	free(f);
}

static void accept_key(const char *request, char out[40])
{
	const char *key = strcasestr(request, "Sec-WebSocket-Key: ");
	char text[128];
	unsigned char sum[20];
	if (!key)
		abort();
	snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
	EVP_Digest(text, strlen(text), sum, NULL, EVP_sha1(), NULL);
	EVP_EncodeBlock((unsigned char *)out, sum, sizeof sum);
}

/* A short frame of a client, which has a mask; -1: the end. */
static int read_frame(struct peer *p)
{
	uint8_t head[2], mask[4];
	p->len = 0;
	if (peer_read(p, head, 1) != 1 || peer_read(p, head + 1, 1) != 1 || !(head[1] & 0x80))
		return -1;
	for (int i = 0; i < 4; i++)
		if (peer_read(p, mask + i, 1) != 1)
			return -1;
	for (size_t i = 0; i < (head[1] & 0x7fu); i++) {
		if (peer_read(p, p->data + i, 1) != 1)
			return -1;
		p->data[i] ^= mask[i & 3];
	}
	p->len = head[1] & 0x7f;
	return head[0] & 0xf;
}

/* The next that is no ping. */
static void hear(struct peer *p)
{
	do
		p->opcode = read_frame(p);
	while (p->opcode == 9);
}

/* In the client's loop. */
static void on_asked(struct ev_loop *loop, struct ev_async *async, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = async->data;
	char byte = 0;
	if (write(f->busy[0], &byte, 1) != 1 || read(f->busy[0], &byte, 1) != 1)
		abort();
}

static void make_busy(struct fixture *f)
{
	char byte;
	ev_async_send(f->h.loop, &f->asked);
	if (read(f->busy[1], &byte, 1) != 1)
		abort();
}

static void let_go_late(struct fixture *f)
{
	char byte = 0;
	usleep((useconds_t)(f->client.options.limits.handshake_ns / 1000));
	if (write(f->busy[1], &byte, 1) != 1)
		abort();
}

static void serve(struct peer *p)
{
	struct fixture *f = p->arg;
	size_t len = 0;
	struct timeval limit = {.tv_sec = (time_t)TEST_TIMEOUT};
	char answer[512], key[40];
	p->fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	if (p->fd < 0)
		abort();
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	while (len < sizeof p->text - 1 && !strstr(p->text, "\r\n\r\n") && peer_read(p, p->text + len, 1))
		p->text[++len] = '\0';
	if (f->script.late)
		make_busy(f);
	accept_key(p->text, key);
	int n = snprintf(answer, sizeof answer,
			 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			 "Sec-WebSocket-Accept: %s\r\n\r\n",
			 key);
	if (f->script.behind_len)
		memcpy(answer + n, f->script.behind, f->script.behind_len);
	peer_write(p, answer, (size_t)n + f->script.behind_len);
	if (f->script.late)
		let_go_late(f);
	else if (!f->script.behind_len && read_frame(p) < 0) /* it knows its connection is open */
		abort();
	f->script.run(p);
}

/* What the client closes with, answered; 0 = without a word. */
static int hear_close(struct peer *p)
{
	do
		hear(p);
	while (p->opcode >= 0 && p->opcode != 8);
	if (p->opcode != 8 || p->len < 2)
		return 0;
	say(p, 0x88, p->data, 2);
	return p->data[0] << 8 | p->data[1];
}

static void dial(struct fixture *f)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof sa;
	getsockname(f->listener, (struct sockaddr *)&sa, &len);
	f->client.options.retry_min_ns = f->client.options.retry_max_ns = 3600000 * MS;
	test_dial(&f->client, "ws://127.0.0.1:%u/data", ntohs(sa.sin_port));
}

/* The whole of a connection. */
static void play(struct fixture *f, void (*run)(struct peer *))
{
	f->script.run = run;
	dial(f);
	test_peer(&f->h, &f->peer, 0, serve, f);
	test_until(&f->h, &f->client.closed, 1);
}

/* ---- messages ---- */

static void run_messages(struct peer *p)
{
	say(p, 0x01, "h\xc3", 2); /* a character in two pieces */
	say(p, 0x89, "ping", 4);
	hear(p);
	if (p->opcode != 10 || p->len != 4 || memcmp(p->data, "ping", 4) != 0)
		abort();
	say(p, 0x00, "", 0);
	say(p, 0x80, "\xa4!", 2);
	say(p, 0x82, "", 0);
	say(p, 0x8a, "unasked", 7);
	say(p, 0x88,
	    "\x0f\xa1"
	    "bye\nnow",
	    9);
	hear(p);
	/* the answer, and then it waits for us to hang up */
	if (p->opcode != 8 || p->len != 2 || memcmp(p->data, "\x0f\xa1", 2) != 0)
		abort();
}

static void test_messages(void **state)
{
	struct fixture *f = *state;
	play(f, run_messages);
	assert_int_equal(f->client.messages, 2);
	assert_true(f->client.binary);
	assert_int_equal(f->client.total, 4);
	assert_int_equal(f->client.code, 4001);
	assert_true(f->client.by_peer);
	assert_string_equal(f->client.why, "bye now");
}

static void run_until_end(struct peer *p)
{
	hear(p);
}

/* The answer comes in the same turn of the loop in which the client gives up: it stays with that. */
static void test_answer_too_late(void **state)
{
	struct fixture *f = *state;
	f->client.options.limits.handshake_ns = 1000 * MS;
	f->script.late = true;
	f->script.run = run_until_end;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->busy), 0);
	ev_async_init(&f->asked, on_asked);
	f->asked.data = f;
	ev_async_start(f->h.loop, &f->asked);
	dial(f);
	test_peer(&f->h, &f->peer, 0, serve, f);
	ev_async_stop(f->h.loop, &f->asked);
	close(f->busy[0]);
	close(f->busy[1]);
	assert_int_equal(f->client.opened, 0);
	assert_int_equal(f->client.failed, 1);
	assert_non_null(strstr(f->client.failure, "handshake not finished within 1 s"));
	assert_int_equal(f->peer.opcode, -1);
}

/* Sizes around those of the buffer, in one stream and cut anywhere. */
static void run_sizes(struct peer *p)
{
	static const size_t sizes[] = {1,      125, 126,     65525, 65526,  65535, 65536,
				       300000, 7,   1 << 20, 3,     600000, 5};
	char *data = malloc(1 << 20);
	memset(data, 'x', 1 << 20);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		say(p, 0x81, data, sizes[i]);
	for (int i = 0; i < 5000; i++)
		say(p, 0x81, data, (size_t)i % 40);
	for (int i = 0; i < 300; i++) {
		peer_write(p, "\x82", 1);
		peer_write(p, "\x01", 1);
		peer_write(p, "y", 1);
	}
	free(data);
	say(p, 0x88, "", 0);
	hear(p);
	if (p->opcode != 8 || p->len != 0)
		abort();
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;
	play(f, run_sizes);
	assert_int_equal(f->client.messages, 13 + 5000 + 300);
	assert_int_equal(f->client.total, 1 + 125 + 126 + 65525 + 65526 + 65535 + 65536 + 300000 + 7 +
						  (1 << 20) + 3 + 600000 + 5 + 5000 / 40 * 780 + 300);
	assert_int_equal(f->client.code, 1005);
}

/* Right behind the handshake's answer, whole and cut in the middle of a header. */
static void run_rest(struct peer *p)
{
	peer_write(p, "\x7e\x00\x80", 3);
	for (int i = 0; i < 128; i++)
		peer_write(p, "z", 1);
	say(p, 0x88, "\x03\xe8", 2);
	hear(p);
}

static void test_behind_the_answer(void **state)
{
	struct fixture *f = *state;
	f->script.behind = "\x81\x05"
			   "early\x81";
	f->script.behind_len = 8;
	play(f, run_rest);
	assert_int_equal(f->client.messages, 2);
	assert_int_equal(f->client.len, 128);
	assert_int_equal(f->client.code, 1000);
}

/* ---- breaches ---- */

static const struct breach breaches[] = {
	{"\xc1\x01x", 3, 1002},
	{"\x83\x01x", 3, 1002},
	{"\x81\x81\1\2\3\4x", 7, 1002},
	{"\x80\x01x", 3, 1002},
	{"\x01\x01x\x81\x01x", 6, 1002},
	{"\x09\x00", 2, 1002},
	{"\x81\x7e\x00\x01", 4, 1002},
	{"\x82\x7f\0\0\0\0\0\x10\0\1", 10, 1009},
	{"\x81\x03\xed\xa0\x80", 5, 1007},
	{"\x01\x01x\x80\x01\xc3", 6, 1007},
	{"\x88\x01x", 3, 1002},
	{"\x88\x02\x03\xed", 4, 1002},
	{"\x88\x03\x03\xe8\xff", 5, 1007},
};

static void run_breach(struct peer *p)
{
	const struct breach *b = ((const struct fixture *)p->arg)->script.breach;
	peer_write(p, b->bytes, b->len);
	peer_write(p, "\xff\xff\xff\xff and more nonsense", 22);
	int code = hear_close(p);
	if (code != b->code) {
		fprintf(stderr, "%d instead of %d\n", code, b->code);
		abort();
	}
}

static void test_breaches(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < sizeof breaches / sizeof breaches[0]; i++) {
		f->script.breach = &breaches[i];
		f->client.closed = f->client.opened = 0;
		play(f, run_breach);
		assert_int_equal(f->client.code, breaches[i].code);
		assert_false(f->client.by_peer);
		assert_int_equal(f->client.messages, 0);
		test_end_done(&f->client);
	}
}

/* ---- ends ---- */

static void run_nothing(struct peer *p)
{
	(void)p;
}

static void test_vanished(void **state)
{
	struct fixture *f = *state;
	play(f, run_nothing);
	assert_int_equal(f->client.code, 1006);
	assert_true(f->client.by_peer);
	assert_string_equal(f->client.why, "connection lost");
}

static void run_half(struct peer *p)
{
	struct linger none = {.l_onoff = 1};
	say(p, 0x81, "one", 3);
	peer_write(p, "\x81\x05tw", 4);
	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

static void test_cut_in_a_frame(void **state)
{
	struct fixture *f = *state;
	play(f, run_half);
	assert_true(f->client.messages <= 1);
	assert_int_equal(f->client.code, 1006);
}

/* Goes on talking, then answers, or never does. */
static void run_talkative(struct peer *p)
{
	const struct fixture *f = p->arg;
	char c;
	say(p, 0x81, "hello", 5);
	hear(p);
	if (p->opcode != 8 || p->len != 2 + 6 || memcmp(p->data + 2, "enough", 6) != 0)
		abort();
	for (int i = 0; i < 100; i++)
		say(p, 0x81, "and another thing", 17);
	if (!f->script.mute)
		say(p, 0x88, p->data, 2);
	peer_read(p, &c, 1);
}

static void close_first(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = timer->data;
	if (f->client.n_open && f->client.messages)
		ws_close(f->client.conns[0], 4000, "enough");
}

/* Play while on_timer runs each millisecond. */
static void play_with(struct fixture *f, void (*run)(struct peer *),
		      void (*on_timer)(struct ev_loop *, struct ev_timer *, int))
{
	struct ev_timer timer;
	ev_timer_init(&timer, on_timer, 0.001, 0.001);
	timer.data = f;
	ev_timer_start(f->h.loop, &timer);
	play(f, run);
	ev_timer_stop(f->h.loop, &timer);
}

static void close_ours(struct fixture *f)
{
	play_with(f, run_talkative, close_first);
	assert_int_equal(f->client.code, 4000);
	assert_false(f->client.by_peer);
	assert_int_equal(f->client.messages, 1);
}

static void test_closed_by_us(void **state)
{
	close_ours(*state);
}

static void test_never_answers(void **state)
{
	struct fixture *f = *state;
	f->script.mute = true;
	f->client.options.limits.close_ns = 100 * MS;
	close_ours(f);
}

/* ---- pausing ---- */

static void run_bursts(struct peer *p)
{
	char *data = malloc(100000);
	memset(data, 'x', 100000);
	for (int i = 0; i < 100; i++) {
		say(p, 0x81, data, 100000);
		say(p, 0x81, "small", 5);
	}
	free(data);
	hear_close(p);
}

static void pause_again(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = timer->data;
	static bool paused;
	if (!f->client.n_open)
		return; /* it comes again until the other end is through, too */
	ws_pause(f->client.conns[0], paused = !paused);
	if (f->client.messages == 200)
		ws_close(f->client.conns[0], 1000, "");
}

static void test_pauses(void **state)
{
	struct fixture *f = *state;
	play_with(f, run_bursts, pause_again);
	assert_int_equal(f->client.messages, 200);
	assert_int_equal(f->client.total, 100 * 100005);
	assert_int_equal(f->client.code, 1000);
}

/* One that is not read hears from us all the same. */
static void run_listener(struct peer *p)
{
	int pongs = 0;
	while (pongs < 3) {
		hear(p);
		if (p->opcode < 0)
			abort();
		pongs += p->opcode == 10;
	}
}

static void pause_until_end(struct ev_loop *loop, struct ev_timer *timer, int revents)
{
	(void)loop, (void)revents;
	struct fixture *f = timer->data;
	if (f->client.n_open)
		ws_pause(f->client.conns[0], !f->peer.done);
}

static void test_signs_of_life(void **state)
{
	struct fixture *f = *state;
	f->client.options.limits.dead_ns = 100 * MS;
	play_with(f, run_listener, pause_until_end);
	assert_int_equal(f->client.code, 1006);
	assert_true(f->client.by_peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_messages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_answer_too_late, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_sizes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_behind_the_answer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_breaches, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_vanished, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cut_in_a_frame, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_by_us, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_never_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pauses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_signs_of_life, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
