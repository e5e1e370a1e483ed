/* SPDX-License-Identifier: MIT */
/*
 * More clients than there is room for: who waits for its turn, who is turned away, and what a dialer makes of
 * it.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "helper_ws.h"

static void connect_both(struct test_pair *f)
{
	test_connect(&f->h, &f->server, &f->client, "ws://127.0.0.1:%u/data");
}

/* ---- turned away ---- */

static void test_too_many(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.max_clients = 1;
	/* the client does not dial again and take the room */
	f->client.options.retry_min_ns = f->client.options.retry_max_ns = 3600000 * MS;
	connect_both(f);
	assert_int_equal(test_upgrade(f, "/data", ""), 503);
	assert_non_null(strstr(f->peer.text, "\r\nRetry-After: 5\r\n"));
	assert_int_equal(f->server.refused[WS_REFUSED_FULL], 1);
	test_until(&f->h, &f->server.told, 1);
	assert_string_equal(f->server.failure,
			    "1 connections refused: 1 clients are connected already (max_clients)");
	assert_int_equal(test_upgrade(f, "/data", ""), 503);
	assert_non_null(strstr(f->peer.text, "\r\nRetry-After: 6\r\n"));
	assert_int_equal(f->server.refused[WS_REFUSED_FULL], 2);
	/* many of them are one line */
	test_turns(&f->h, 1.2);
	assert_int_equal(f->server.told, 1);
	/* there is room again when it has gone */
	ws_close(f->client.conns[0], 1000, "");
	test_until(&f->h, &f->server.closed, 1);
	assert_int_equal(test_upgrade(f, "/data", ""), 101);
}

/* A dialer comes again when it was told to, not when it would have. */
static void test_retry_after(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.max_clients = 1;
	connect_both(f);
	test_dial(&f->second, "ws://127.0.0.1:%u/data", ws_port(f->server.ws));
	test_until(&f->h, &f->second.failed, 1);
	assert_non_null(
		strstr(f->second.failure,
		       "the server answers 503 instead of upgrading, and asks to come again after 5 s"));
	test_turns(&f->h, 1);
	assert_int_equal(f->second.failed, 1);
	assert_int_equal(f->server.refused[WS_REFUSED_FULL], 1);
}

/* Busy, but not for how long: not at once, as after other closes. */
static void test_try_later(void **state)
{
	struct test_pair *f = *state;
	f->client.options.retry_min_ns = MS;
	f->client.options.retry_max_ns = 600 * MS;
	connect_both(f);
	ws_close(f->server.conns[0], 1013, "no room");
	test_until(&f->h, &f->client.closed, 1);
	test_turns(&f->h, 0.4);
	assert_int_equal(f->client.opened, 1);
	test_until(&f->h, &f->client.opened, 2);
	/* another close is none */
	double before = ev_time();
	ws_close(f->server.conns[0], 1001, "");
	test_until(&f->h, &f->client.opened, 3);
	assert_true(ev_time() - before < 0.4);
}

/* ---- handshakes ---- */

enum { STORM = 12 };

struct storm {
	int fds[STORM], upgraded;
};

/* All come at once, and have said all that they have to before the first of them is accepted. */
static void begin_storm(struct peer *p, struct storm *storm)
{
	static const char request[] = "GET /data HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
				      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
				      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	for (int i = 0; i < STORM; i++) {
		peer_connect(p);
		peer_write(p, request, sizeof request - 1);
		storm->fds[i] = p->fd;
		p->fd = -1;
	}
}

static void run_storm(struct peer *p)
{
	struct storm *storm = p->arg;
	for (int i = 0; i < STORM; i++) {
		p->fd = storm->fds[i];
		peer_http(p, "");
		storm->upgraded += strncmp(p->text, "HTTP/1.1 101 ", 13) == 0;
		peer_close(p);
	}
}

static void test_storm(void **state)
{
	struct test_pair *f = *state;
	struct storm storm = {.upgraded = 0};
	f->server.options.limits.max_clients = STORM;
	f->server.options.limits.max_handshakes = 2;
	test_listen(&f->server);
	f->peer = (struct peer){.fd = -1, .port = ws_port(f->server.ws)};
	begin_storm(&f->peer, &storm);
	test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_storm, &storm);
	assert_int_equal(storm.upgraded, STORM);
	test_until(&f->h, &f->server.closed, STORM);
	assert_int_equal(f->server.refused[WS_REFUSED_HANDSHAKE], 0);
}

static void run_slow(struct peer *p)
{
	peer_connect(p);
	peer_write(p, "GET /data", 9);
	*(int *)p->arg = p->fd;
	p->fd = -1;
}

enum { SLOW = 6 };

/* As long as they are not too many, the oldest of which go. */
static void test_some_may_be_slow(void **state)
{
	struct test_pair *f = *state;
	int slow[SLOW];
	f->server.options.limits.max_handshakes = 1;
	test_listen(&f->server);
	for (int i = 0; i < SLOW; i++)
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_slow, &slow[i]);
	/* all have been accepted */
	test_until(&f->h, &f->server.refused[WS_REFUSED_HANDSHAKE], SLOW - 4);
	assert_int_equal(test_upgrade(f, "/data", ""), 101);
	assert_int_equal(f->server.refused[WS_REFUSED_HANDSHAKE], SLOW + 1 - 4);
	for (int i = 0; i < SLOW; i++)
		close(slow[i]);
}

enum { CROWD = 40 };

static void run_crowd(struct peer *p)
{
	int *fds = p->arg;
	struct sockaddr_in sa = {
		.sin_family = AF_INET, .sin_port = htons(p->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (int i = 0; i < CROWD; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fds[i], (struct sockaddr *)&sa, sizeof sa) < 0 || send(fds[i], "G", 1, 0) != 1)
			abort();
	}
}

/* Connections that do not go on with their handshake neither keep others out nor count as clients. */
static void half_open(struct test_pair *f)
{
	int fds[CROWD];
	f->server.options.limits.max_clients = 3;
	test_listen(&f->server);
	for (int round = 0; round < 3; round++) {
		test_peer(&f->h, &f->peer, ws_port(f->server.ws), run_crowd, fds);
		if (round == 0) {
			test_until(&f->h, &f->server.told, 1);
			if (!strstr(f->server.failure,
				    "did not finish their handshake and gave way to newer ones"))
				fail_msg("%s", f->server.failure);
		}
		assert_int_equal(test_upgrade(f, "/data", ""), 101);
		assert_int_equal(f->server.opened, round + 1);
		assert_true(f->server.refused[WS_REFUSED_HANDSHAKE] > 0);
		for (int i = 0; i < CROWD; i++)
			close(fds[i]);
		test_until(&f->h, &f->server.closed, round + 1);
	}
}

static void test_half_open(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.max_handshakes = 8;
	half_open(f);
}

static void test_half_open_of_an_address(void **state)
{
	struct test_pair *f = *state;
	f->server.options.limits.max_handshakes = 1000;
	f->server.options.limits.max_address_handshakes = 8;
	half_open(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_too_many, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_retry_after, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_try_later, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_storm, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_some_may_be_slow, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_half_open, test_pair_set_up, test_pair_tear_down),
		cmocka_unit_test_setup_teardown(test_half_open_of_an_address, test_pair_set_up,
						test_pair_tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
