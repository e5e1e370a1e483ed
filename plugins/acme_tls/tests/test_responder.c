/* SPDX-License-Identifier: MIT */
/* test_responder - the responder of http-01 and what both share, asked by plain sockets on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <cmocka.h>
#include "plugins/acme_tls/client/responder.h"
#include "plugins/acme_tls/client/responder.h"

#define TOKEN "DGyRejmCefe7v4NfDGDKfA"
#define AUTH  TOKEN ".oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
#define PATH  "/.well-known/acme-challenge/" TOKEN

/* ---- a loop with a responder in it ---- */

struct fixture {
	struct ev_loop *loop;
	struct responder *r;
	int asked;
	char name[300], peer[100];
	bool remove_when_asked;
};

static void note(void *arg, const char *name, const char *peer)
{
	struct fixture *f = arg;

	f->asked++;
	snprintf(f->name, sizeof f->name, "%s", name);
	snprintf(f->peer, sizeof f->peer, "%s", peer);
	if (f->remove_when_asked)
		responder_remove(f->r, "a.example", TOKEN);
}

static void begin(struct fixture *f, const char *address)
{
	struct responder_options o = {.address = address, .asked = note, .arg = f};
	char why[300] = "";

	*f = (struct fixture){.loop = ev_loop_new(0)};
	o.loop = f->loop;
	assert_int_equal(responder_new(&o, &f->r), 0);
	assert_int_equal(responder_port(f->r), 0);
	if (responder_add(f->r, "a.example", TOKEN, AUTH, why, sizeof why))
		fail_msg("%s", why);
	assert_int_not_equal(responder_port(f->r), 0);
}

static void end(struct fixture *f)
{
	responder_free(f->r);
	ev_loop_destroy(f->loop);
}

static int call(const char *address, uint16_t port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	bool is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
	int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!is_six)
		inet_pton(AF_INET, address, &four.sin_addr);
	if (connect(fd, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
		    is_six ? sizeof six : sizeof four)) {
		int error = errno;
		close(fd);
		return -error;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

/* All until the responder closes, NUL-ended; the length, or -errno. */
static ssize_t hear(struct fixture *f, int fd, char *to, size_t size)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = recv(fd, to + n, size - 1 - n, 0);
		if (got > 0)
			n += (size_t)got;
		to[n] = 0;
		if (got == 0)
			return (ssize_t)n;
		if (got < 0 && errno != EAGAIN)
			return -errno;
		if (got < 0)
			ev_run(f->loop,
			       EVRUN_ONCE); /* ends at the latest with the deadline of the connection */
	}
}

static void ask(struct fixture *f, const char *request, size_t len, char *to, size_t size)
{
	int fd = call("127.0.0.1", responder_port(f->r));

	assert_true(fd >= 0);
	say(fd, request, len);
	assert_true(hear(f, fd, to, size) > 0);
	close(fd);
}

static void answers(struct fixture *f, const char *request, const char *status, const char *body)
{
	char text[2000];

	ask(f, request, strlen(request), text, sizeof text);
	if (strncmp(text, "HTTP/1.1 ", 9) != 0 || strncmp(text + 9, status, strlen(status)) != 0)
		fail_msg("%s: %s", request, text);
	char *end_of_head = strstr(text, "\r\n\r\n");
	assert_non_null(end_of_head);
	if (body)
		assert_string_equal(end_of_head + 4, body);
}

/* ---- answers ---- */

static void answers_with_the_key_authorization(void **state)
{
	struct fixture f;
	char text[2000], expected[600];

	(void)state;
	begin(&f, "127.0.0.1");
	ask(&f, "GET " PATH " HTTP/1.1\r\nHost: anything\r\n\r\n",
	    strlen("GET " PATH " HTTP/1.1\r\nHost: anything\r\n\r\n"), text, sizeof text);
	snprintf(expected, sizeof expected, "\r\nContent-Length: %zu\r\n", strlen(AUTH));
	assert_non_null(strstr(text, expected));
	assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
	assert_string_equal(strstr(text, "\r\n\r\n") + 4, AUTH);
	assert_int_equal(f.asked, 1);
	assert_string_equal(f.name, TOKEN);
	assert_string_equal(f.peer, "127.0.0.1");
	end(&f);
}

static void answers_what_clients_may_send(void **state)
{
	static const struct {
		const char *request, *status, *body;
	} cases[] = {
		{"GET " PATH " HTTP/1.0\r\n\r\n", "200 OK", AUTH},
		{"GET " PATH " HTTP/1.1\nHost: x\n\n", "200 OK", AUTH},
		{"\r\n\r\nGET " PATH " HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", AUTH},
		{"GET http://a.example:80" PATH " HTTP/1.1\r\n\r\n", "200 OK", AUTH},
		{"HEAD " PATH " HTTP/1.1\r\n\r\n", "200 OK", ""},
		{"HEAD /x HTTP/1.1\r\n\r\n", "404 Not Found", ""},
		{"GET " PATH " HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "200 OK", AUTH},
		{"GET " PATH "x HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET " PATH "/ HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET " PATH "?x=1 HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET /.well-known/acme-challenge/ HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET /.well-known/acme-challenge/../../etc/passwd HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET /.well-known/acme-challenge/%44GyRejmCefe7v4NfDGDKfA HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET /.well-known/acme-challenge/DGyRejmCefe7v4NfDGDKf HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET / HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET http://a.example HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET * HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"POST " PATH " HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"get " PATH " HTTP/1.1\r\n\r\n", "404 ", NULL},
		{"GET " PATH " HTTP/2.0\r\n\r\n", "400 ", NULL},
		{"GET " PATH "\r\n\r\n", "400 ", NULL},
		{"GET  " PATH " HTTP/1.1\r\n\r\n", "400 ", NULL},
		{"GET " PATH " HTTP/1.1 x\r\n\r\n", "400 ", NULL},
		{"garbage\r\n\r\n", "400 ", NULL},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 ", NULL},
	};
	struct fixture f;
	char text[2000];

	(void)state;
	begin(&f, "127.0.0.1");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		answers(&f, cases[i].request, cases[i].status, cases[i].body);
	assert_int_equal(f.asked, 6);
	/* a NUL is no part of any request */
	ask(&f, "GET " PATH " HTTP/1.1\r\nHost: \0\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\nHost: ") + 5,
	    text, sizeof text);
	assert_non_null(strstr(text, "400 Bad Request"));
	end(&f);
}

static void answers_requests_in_pieces(void **state)
{
	static const char request[] = "GET " PATH " HTTP/1.1\r\nHost: a.example\r\n\r\n";
	struct fixture f;
	char text[2000];
	int on = 1;

	(void)state;
	begin(&f, "127.0.0.1");
	int fd = call("127.0.0.1", responder_port(f.r));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	for (size_t i = 0; i < sizeof request - 1; i++) {
		say(fd, request + i, 1);
		ev_run(f.loop, EVRUN_ONCE);
		if (i < sizeof request - 2)
			assert_int_equal(recv(fd, text, 1, 0), -1);
	}
	assert_true(hear(&f, fd, text, sizeof text) > 0);
	assert_non_null(strstr(text, AUTH));
	close(fd);
	end(&f);
}

/* Whoever half-closes behind the request still gets the answer. */
static void answers_half_closed_connections(void **state)
{
	struct fixture f;
	char text[2000];

	(void)state;
	begin(&f, "127.0.0.1");
	int fd = call("127.0.0.1", responder_port(f.r));
	say(fd, "GET " PATH " HTTP/1.1\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\n\r\n"));
	shutdown(fd, SHUT_WR);
	assert_true(hear(&f, fd, text, sizeof text) > 0);
	assert_non_null(strstr(text, AUTH));
	close(fd);
	/* without a request there is nothing to say */
	fd = call("127.0.0.1", responder_port(f.r));
	shutdown(fd, SHUT_WR);
	assert_int_equal(hear(&f, fd, text, sizeof text), 0);
	close(fd);
	end(&f);
}

static void refuses_large_requests(void **state)
{
	static char request[RESPONDER_REQUEST_MAX + 4000];
	struct fixture f;
	char text[2000];

	(void)state;
	begin(&f, "127.0.0.1");
	memset(request, 'x', sizeof request);
	memcpy(request, "GET " PATH " HTTP/1.1\r\nA: ", strlen("GET " PATH " HTTP/1.1\r\nA: "));
	ask(&f, request, sizeof request, text, sizeof text);
	assert_non_null(strstr(text, "HTTP/1.1 431 "));
	/* the largest that is possible */
	memcpy(request + RESPONDER_REQUEST_MAX - 4, "\r\n\r\n", 4);
	ask(&f, request, RESPONDER_REQUEST_MAX, text, sizeof text);
	assert_non_null(strstr(text, AUTH));
	/* and one byte more */
	memcpy(request + RESPONDER_REQUEST_MAX - 4, "x\r\n\r\n", 5);
	ask(&f, request, RESPONDER_REQUEST_MAX + 1, text, sizeof text);
	assert_non_null(strstr(text, "HTTP/1.1 431 "));
	/* only empty lines */
	memset(request, '\n', sizeof request);
	ask(&f, request, sizeof request, text, sizeof text);
	assert_non_null(strstr(text, "HTTP/1.1 431 "));
	end(&f);
}

static void several_challenges(void **state)
{
	struct fixture f;
	char why[300];

	(void)state;
	begin(&f, "127.0.0.1");
	assert_int_equal(responder_add(f.r, "b.example", "second", "second.x", why, sizeof why), 0);
	assert_int_equal(responder_add(f.r, "b.example", "second", "second.y", why, sizeof why),
			 0); /* instead */
	/* step-ca's authorizations share tokens between challenges */
	assert_int_equal(responder_add(f.r, "c.example", TOKEN, AUTH, why, sizeof why), 0);
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	answers(&f, "GET /.well-known/acme-challenge/second HTTP/1.1\r\n\r\n", "200", "second.y");
	responder_remove(f.r, "b.example", TOKEN); /* no such pair */
	responder_remove(f.r, "b.example", "second");
	answers(&f, "GET /.well-known/acme-challenge/second HTTP/1.1\r\n\r\n", "404", NULL);
	responder_remove(f.r, "c.example", TOKEN);
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	end(&f);
}

/* ---- the port ---- */

static void listens_only_while_needed(void **state)
{
	struct fixture f;
	char why[300];

	(void)state;
	begin(&f, "127.0.0.1");
	uint16_t port = responder_port(f.r);
	responder_remove(f.r, "a.example", TOKEN);
	assert_int_equal(responder_port(f.r), 0);
	assert_int_equal(call("127.0.0.1", port), -ECONNREFUSED);
	responder_remove(f.r, "a.example", TOKEN); /* again is fine */
	assert_int_equal(responder_add(f.r, "a.example", TOKEN, AUTH, why, sizeof why), 0);
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	end(&f);
}

static void ends_answers_under_way(void **state)
{
	struct fixture f;
	char text[2000];

	(void)state;
	begin(&f, "127.0.0.1");
	f.remove_when_asked = true;
	int idle = call("127.0.0.1", responder_port(f.r)), fd = call("127.0.0.1", responder_port(f.r));
	say(fd, "GET " PATH " HTTP/1.1\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\n\r\n"));
	assert_true(hear(&f, fd, text, sizeof text) > 0);
	assert_non_null(strstr(text, AUTH));
	/* who had not asked is sent away at once */
	assert_int_equal(hear(&f, idle, text, sizeof text), 0);
	assert_int_equal(f.asked, 1);
	assert_int_equal(responder_port(f.r), 0);
	close(idle);
	close(fd);
	end(&f);
}

static void both_families(void **state)
{
	struct fixture f;
	char text[2000];

	(void)state;
	begin(&f, "");
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	assert_string_equal(f.peer, "127.0.0.1");
	int fd = call("::1", responder_port(f.r));
	if (fd >= 0) { /* there is IPv6 here */
		say(fd, "GET " PATH " HTTP/1.1\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\n\r\n"));
		assert_true(hear(&f, fd, text, sizeof text) > 0);
		assert_non_null(strstr(text, AUTH));
		assert_string_equal(f.peer, "::1");
		close(fd);
	}
	end(&f);
}

static int add_at(const char *address, uint16_t port, char *why, size_t why_size)
{
	struct ev_loop *loop = ev_loop_new(0);
	struct responder_options o = {.loop = loop, .address = address, .port = port};
	struct responder *r;

	assert_int_equal(responder_new(&o, &r), 0);
	int rc = responder_add(r, "a.example", TOKEN, AUTH, why, why_size);
	if (rc)
		assert_int_equal(responder_port(r), 0);
	responder_free(r);
	ev_loop_destroy(loop);
	return rc;
}

static void says_what_is_in_the_way(void **state)
{
	struct fixture f;
	char why[300], expected[300];

	(void)state;
	begin(&f, "127.0.0.1");
	uint16_t port = responder_port(f.r);
	assert_int_equal(add_at("127.0.0.1", port, why, sizeof why), -EADDRINUSE);
	snprintf(expected, sizeof expected,
		 "port %u of 127.0.0.1 is in use by another program: stop it (ss -ltnp shows which it is), "
		 "or set "
		 "challenge_port to a port that port 80 is forwarded to",
		 port);
	assert_string_equal(why, expected);
	assert_int_equal(add_at("", port, why, sizeof why), -EADDRINUSE);
	snprintf(expected, sizeof expected, "port %u is in use by another program: ", port);
	assert_ptr_equal(strstr(why, expected), why);
	end(&f);

	assert_int_equal(add_at("192.0.2.1", 0, why, sizeof why), -EADDRNOTAVAIL);
	assert_non_null(strstr(why, "challenge_address"));
	assert_int_equal(add_at("a.example", 80, why, sizeof why), -EINVAL);
	assert_string_equal(why, "challenge_address \"a.example\" is not an IPv4 or IPv6 address");
	/* the port is free again at once */
	assert_int_equal(add_at("127.0.0.1", port, why, sizeof why), 0);
	assert_string_equal(why, "");
}

static void needs_the_right_to_bind(void **state)
{
	char why[300];

	(void)state;
	if (geteuid() != 0 || seteuid(65534) != 0)
		skip();
	int rc = add_at("127.0.0.1", 80, why, sizeof why);
	assert_int_equal(seteuid(0), 0);
	if (rc != -EACCES) /* net.ipv4.ip_unprivileged_port_start allows it */
		skip();
	assert_non_null(strstr(why, "binding port 80 of 127.0.0.1 needs CAP_NET_BIND_SERVICE or root"));
}

static void refuses_long_authorizations(void **state)
{
	struct fixture f;
	char why[300], large[600];

	(void)state;
	begin(&f, "127.0.0.1");
	memset(large, 'x', sizeof large);
	large[sizeof large - 1] = 0;
	assert_int_equal(responder_add(f.r, "a.example", "t", large, why, sizeof why), -EINVAL);
	large[512] = 0;
	assert_int_equal(responder_add(f.r, "a.example", "t", large, why, sizeof why), 0);
	answers(&f, "GET /.well-known/acme-challenge/t HTTP/1.1\r\n\r\n", "200", large);
	end(&f);
}

/* ---- hostile visitors ---- */

/* Runs the loop until the responder has closed fd. */
static void wait_closed(struct fixture *f, int fd)
{
	char text[2000];

	assert_true(hear(f, fd, text, sizeof text) <= 0);
}

static void slow_visitors_are_sent_away(void **state)
{
	struct fixture f;
	ev_tstamp before = ev_time();

	(void)state;
	begin(&f, "127.0.0.1");
	int fd = call("127.0.0.1", responder_port(f.r));
	say(fd, "GET /", 5);
	wait_closed(&f, fd);
	assert_true(ev_time() - before >= 4.5 && ev_time() - before < 20);
	close(fd);
	end(&f);
}

/* Of many who say nothing the oldest go, and who asks is answered. */
static void crowds(void **state)
{
	struct fixture f;
	int fds[80];
	char text[2000];

	(void)state;
	begin(&f, "127.0.0.1");
	for (size_t i = 0; i < 80; i++) {
		fds[i] = call("127.0.0.1", responder_port(f.r));
		assert_true(fds[i] >= 0);
		ev_run(f.loop, EVRUN_ONCE);
	}
	for (size_t i = 0; i < 16; i++)
		wait_closed(&f, fds[i]);
	assert_int_equal(recv(fds[16], text, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	for (size_t i = 0; i < 80; i++)
		close(fds[i]);
	end(&f);
}

static void never_stops_sending(void **state)
{
	static char flood[32768];
	struct fixture f;
	size_t sent = 0;

	(void)state;
	begin(&f, "127.0.0.1");
	int fd = call("127.0.0.1", responder_port(f.r));
	/* the responder reads a part of it and then resets */
	for (;;) {
		ssize_t n = send(fd, flood, sizeof flood, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		else if (errno != EAGAIN)
			break;
		ev_run(f.loop, EVRUN_NOWAIT);
		assert_true(sent < 100u << 20);
	}
	close(fd);
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	end(&f);
}

static void vanishing_visitors(void **state)
{
	const struct linger reset = {.l_onoff = 1};
	struct fixture f;

	(void)state;
	begin(&f, "127.0.0.1");
	for (int i = 0; i < 50; i++) {
		int fd = call("127.0.0.1", responder_port(f.r));
		if (i % 2)
			say(fd, "GET " PATH " HTTP/1.1\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\n\r\n"));
		if (i % 3)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(fd);
		if (i % 5 == 0)
			ev_run(f.loop, EVRUN_NOWAIT);
	}
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	end(&f);
}

/* By the linker in front of accept4: how often it fails first, and how. */
static int accept_failures, accept_error;
int __real_accept4(int fd, struct sockaddr *, socklen_t *, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	if (accept_failures == 0)
		return __real_accept4(fd, address, len, flags);
	accept_failures--;
	errno = accept_error;
	return -1;
}

/* Without file descriptors it does not spin, and goes on when there are some again. */
static void out_of_descriptors(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, "127.0.0.1");
	accept_failures = 2;
	accept_error = EMFILE;
	unsigned before = ev_iteration(f.loop);
	ev_tstamp start = ev_time();
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	assert_int_equal(accept_failures, 0);
	assert_true(ev_time() - start > 1.5);
	assert_true(ev_iteration(f.loop) - before < 20);
	/* who is idle gives way */
	int idle = call("127.0.0.1", responder_port(f.r));
	ev_run(f.loop, EVRUN_ONCE);
	accept_failures = 1;
	start = ev_time();
	answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
	assert_true(ev_time() - start < 0.9);
	close(idle);
	/* a pause ends with the last answer */
	accept_failures = 1;
	int fd = call("127.0.0.1", responder_port(f.r));
	ev_run(f.loop, EVRUN_ONCE);
	responder_remove(f.r, "a.example", TOKEN);
	assert_int_equal(ev_run(f.loop, EVRUN_NOWAIT), 0);
	close(fd);
	end(&f);
}

/* Connections that are gone before they are taken. */
static void failing_accepts(void **state)
{
	static const int errors[] = {ECONNABORTED, EINTR, EPROTO, EPERM};
	struct fixture f;

	(void)state;
	begin(&f, "127.0.0.1");
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
		accept_failures = 20;
		accept_error = errors[i];
		answers(&f, "GET " PATH " HTTP/1.1\r\n\r\n", "200", AUTH);
		assert_int_equal(accept_failures, 0);
	}
	end(&f);
}

static void freed_with_visitors(void **state)
{
	struct fixture f;

	(void)state;
	begin(&f, "127.0.0.1");
	int a = call("127.0.0.1", responder_port(f.r)), b = call("127.0.0.1", responder_port(f.r));
	say(b, "GET " PATH " HTTP/1.1\r\n\r\n", strlen("GET " PATH " HTTP/1.1\r\n\r\n"));
	ev_run(f.loop, EVRUN_ONCE);
	end(&f);
	close(a);
	close(b);
	responder_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_with_the_key_authorization),
		cmocka_unit_test(answers_what_clients_may_send),
		cmocka_unit_test(answers_requests_in_pieces),
		cmocka_unit_test(answers_half_closed_connections),
		cmocka_unit_test(refuses_large_requests),
		cmocka_unit_test(several_challenges),
		cmocka_unit_test(listens_only_while_needed),
		cmocka_unit_test(ends_answers_under_way),
		cmocka_unit_test(both_families),
		cmocka_unit_test(says_what_is_in_the_way),
		cmocka_unit_test(needs_the_right_to_bind),
		cmocka_unit_test(refuses_long_authorizations),
		cmocka_unit_test(slow_visitors_are_sent_away),
		cmocka_unit_test(crowds),
		cmocka_unit_test(never_stops_sending),
		cmocka_unit_test(vanishing_visitors),
		cmocka_unit_test(out_of_descriptors),
		cmocka_unit_test(failing_accepts),
		cmocka_unit_test(freed_with_visitors),
	};
	return cmocka_run_group_tests_name("responder", tests, NULL, NULL);
}
