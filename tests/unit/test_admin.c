/* SPDX-License-Identifier: MIT */
/* The admin port over real sockets: v4, v6 and unix; what it serves, what it refuses, what it puts up with.
 */
#define ADMIN_IDLE_S    1
#define ADMIN_REQUEST_S 1.5
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/resource.h>
#include "core/admin/admin.c" /* with shorter time limits */
#include "core/admin/admin_origin.c"

static struct ev_loop *loop;
static struct admin *admin;
static char huge[300000];

static int write_metrics(void *arg, FILE *body)
{
	fprintf(body, "%s 1\n", (const char *)arg);
	return 200;
}

static int write_ready(void *arg, FILE *body)
{
	(void)arg;
	fputs("{\"status\":\"not ready\"}\n", body);
	return 503;
}

static int write_huge(void *arg, FILE *body)
{
	(void)arg;
	fwrite(huge, 1, sizeof huge, body);
	return 200;
}

static int write_nonsense(void *arg, FILE *body)
{
	(void)arg;
	fputs("half a page", body);
	return -1;
}

static struct admin_request *begun;
static bool has_begun;

/* What says "now" is answered within the call. */
static void begin_slow(void *arg, struct admin_request *r)
{
	size_t n;

	(void)arg;
	if (strcmp(admin_body(r, &n), "now") == 0) {
		admin_answer(r, 202, strdup("at once\n"), 8);
		return;
	}
	begun = r;
	has_begun = true;
}

static const struct admin_page pages[] = {
	{.path = "/metrics", .content_type = "text/plain; version=0.0.4", .write = write_metrics},
	{.path = "/readyz", .content_type = "application/json", .write = write_ready},
	{.path = "/huge", .content_type = "text/plain", .write = write_huge},
	{.path = "/nonsense", .content_type = "text/plain", .write = write_nonsense},
	{.path = "/slow", .content_type = "text/plain", .begin = begin_slow},
	{.path = NULL}};

static int open_at(struct ev_loop *l, const char *address, void *arg, char why[256], struct admin **out)
{
	const struct admin_settings settings = {.listen = address, .max_streams = 2, .pages = {pages}};
	return admin_start(l, &settings, arg, why, out);
}

/* ---- a client on the same loop --------------------------------------------------------------- */

struct peer {
	struct ev_io io;
	struct ev_timer drip;
	char *got;
	size_t n;
	bool head;     /* no body is to come */
	bool answered; /* a whole answer is in got */
	bool closed;
	double closed_at;
	int fd;
};

/* Status of the answer in got, 0 if it is not whole. */
static int answer_status(struct peer *p)
{
	if (p->n == 0)
		return 0;
	char *end = strstr(p->got, "\r\n\r\n"), *length = strstr(p->got, "Content-Length: ");
	if (!end || !length || length > end)
		return 0;
	if (!p->head && p->n < (size_t)(end + 4 - p->got) + strtoul(length + 16, NULL, 10))
		return 0;
	return atoi(p->got + 9);
}

static void on_peer(struct ev_loop *l, struct ev_io *w, int events)
{
	struct peer *p = w->data;
	char buf[65536];
	(void)events;
	ssize_t n = read(p->fd, buf, sizeof buf);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		p->closed = true;
		p->closed_at = ev_now(l);
		ev_io_stop(l, w);
		ev_timer_stop(l, &p->drip);
		return;
	}
	p->got = realloc(p->got, p->n + (size_t)n + 1);
	memcpy(p->got + p->n, buf, (size_t)n);
	p->n += (size_t)n;
	p->got[p->n] = '\0';
	p->answered = answer_status(p) != 0;
}

static int dial(const char *address)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un un;
	} to = {0};
	socklen_t n = sizeof to.un;
	if (strncmp(address, "unix:", 5) == 0) {
		to.un.sun_family = AF_UNIX;
		strcpy(to.un.sun_path, address + 5);
	} else {
		uint16_t port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
		n = address[0] == '[' ? sizeof to.v6 : sizeof to.v4;
		if (address[0] == '[')
			to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
						      .sin6_port = port,
						      .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		else
			to.v4 = (struct sockaddr_in){.sin_family = AF_INET,
						     .sin_port = port,
						     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	}
	int fd = socket(to.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &to.sa, n), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void peer_start(struct peer *p, const char *request)
{
	*p = (struct peer){.fd = dial(admin_address(admin)), .head = strncmp(request, "HEAD", 4) == 0};
	ev_io_init(&p->io, on_peer, p->fd, EV_READ);
	ev_init(&p->drip, NULL);
	p->io.data = p->drip.data = p;
	ev_io_start(loop, &p->io);
	size_t n = strlen(request);
	assert_int_equal(send(p->fd, request, n, MSG_NOSIGNAL), n);
}

static void peer_stop(struct peer *p)
{
	ev_io_stop(loop, &p->io);
	ev_timer_stop(loop, &p->drip);
	close(p->fd);
	free(p->got);
}

static void too_long(struct ev_loop *l, struct ev_timer *w, int events)
{
	(void)l;
	(void)w;
	(void)events;
	fail_msg("nothing happened for 20 s");
}

/* Run the loop until *done. */
static void wait_for(const bool *done)
{
	struct ev_timer guard;
	ev_timer_init(&guard, too_long, 20., 0.);
	ev_timer_start(loop, &guard);
	while (!*done)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &guard);
}

/* One request to its answer; returns the status, *answer (if wanted) the whole text. */
static int ask(const char *request, char **answer)
{
	struct peer p;
	peer_start(&p, request);
	wait_for(&p.answered);
	int status = answer_status(&p);
	if (answer) {
		*answer = p.got;
		p.got = NULL;
	}
	peer_stop(&p);
	return status;
}

static void start(const char *address)
{
	char why[256] = "";
	loop = ev_loop_new(0);
	if (open_at(loop, address, "metric", why, &admin) != 0)
		fail_msg("%s", why);
}

static void stop(void)
{
	admin_stop(admin);
	ev_loop_destroy(loop);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_pages(void **state)
{
	(void)state;
	char *text;
	start("127.0.0.1:0");
	assert_int_equal(strncmp(admin_address(admin), "127.0.0.1:", 10), 0);
	assert_true(atoi(admin_address(admin) + 10) > 0);
	assert_int_equal(ask(GET("/metrics"), &text), 200);
	assert_non_null(strstr(text, "\r\nContent-Type: text/plain; version=0.0.4\r\n"));
	assert_non_null(strstr(text, "\r\nCache-Control: no-store\r\n"));
	assert_string_equal(strstr(text, "\r\n\r\n") + 4, "metric 1\n");
	free(text);
	assert_int_equal(ask(GET("/metrics?x=1"), NULL), 200);
	assert_int_equal(ask("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", &text), 200);
	assert_non_null(strstr(text, "\r\nContent-Length: 9\r\n"));
	assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
	free(text);
	assert_int_equal(ask(GET("/readyz"), &text), 503);
	assert_string_equal(strstr(text, "\r\n\r\n") + 4, "{\"status\":\"not ready\"}\n");
	free(text);
	assert_int_equal(ask(GET("/nonsense"), &text), 500);
	assert_null(strstr(text, "half"));
	free(text);
	memset(huge, 'h', sizeof huge);
	assert_int_equal(ask(GET("/huge"), &text), 200);
	assert_int_equal(strspn(strstr(text, "\r\n\r\n") + 4, "h"), sizeof huge);
	free(text);
	assert_int_equal(ask(GET("/"), &text), 404);
	assert_string_equal(strstr(text, "\r\n\r\n") + 4,
			    "Not found. Pages: /metrics /readyz /huge /nonsense /slow\n");
	free(text);
	assert_int_equal(ask(GET("/metrics/../metrics"), NULL), 404);
	stop();
}

static void test_refusals(void **state)
{
	(void)state;
	char *text;
	start("127.0.0.1:0");
	assert_int_equal(
		ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", &text), 405);
	assert_non_null(strstr(text, "\r\nAllow: GET, HEAD\r\n"));
	free(text);
	assert_int_equal(ask("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", NULL), 405);
	assert_int_equal(ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", NULL), 405);
	assert_int_equal(
		ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", NULL), 413);
	assert_int_equal(ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", NULL),
			 200);
	assert_int_equal(
		ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		    NULL),
		413);
	assert_int_equal(ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\nExpect: "
			     "100-continue\r\n\r\n",
			     NULL),
			 405);
	/* a head of 20 KiB: refused or cut off, no more */
	static char big[20000] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ";
	memset(big + strlen(big), 'x', sizeof big - strlen(big) - 5);
	strcpy(big + sizeof big - 5, "\r\n\r\n");
	struct peer p;
	peer_start(&p, big);
	wait_for(&p.closed);
	assert_true(p.n == 0 || strncmp(p.got, "HTTP/1.1 4", 10) == 0);
	peer_stop(&p);
	peer_start(&p, "\x16\x03\x01\x02 not HTTP at all\r\n\r\n");
	wait_for(&p.closed);
	assert_null(p.got ? strstr(p.got, "200") : NULL);
	peer_stop(&p);
	assert_int_equal(ask(GET("/metrics"), NULL), 200);
	stop();
}

static int ask_host(const char *host)
{
	char request[512];
	snprintf(request, sizeof request, "GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", host);
	return ask(request, NULL);
}

static void test_host(void **state)
{
	(void)state;
	static const char *const good[] = {"localhost",       "LocalHost:9600", "127.0.0.1",  "127.0.0.1:1",
					   "[::1]",           "[::1]:9600",     "localhost:", "localhost.",
					   "LOCALHOST.:9600", "[0:0::1]:9600"};
	static const char *const bad[] = {"evil.example",
					  "evil.example:9600",
					  "localhost.evil.example",
					  "127.0.0.1.evil",
					  "localhost@evil",
					  "localhost..",
					  ".localhost",
					  ".",
					  "[localhost]",
					  "[::1",
					  "[::1]x",
					  "[::2]",
					  "localhost:80:80",
					  "localhost:x",
					  "127.0.0.2",
					  ":9600"};
	start("127.0.0.1:0");
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(ask_host(good[i]), 200);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(ask_host(bad[i]), 403);
	assert_int_equal(ask("GET /metrics HTTP/1.1\r\n\r\n", NULL), 400);
	assert_int_equal(ask("GET /metrics HTTP/1.0\r\n\r\n", NULL), 200);
	assert_int_equal(ask("GET /metrics HTTP/1.0\r\nHost: evil\r\n\r\n", NULL), 403);
	stop();
	start("127.0.0.2:0"); /* the address it was given is a name for it, too; the test's client dials
				 127.0.0.1 */
	assert_true(host_is_ours(&admin->listener, "127.0.0.2:9600"));
	assert_true(host_is_ours(&admin->listener, "localhost"));
	assert_false(host_is_ours(&admin->listener, "127.0.0.3"));
	stop();
	start("localhost:0");
	assert_int_equal(ask_host("localhost"), 200);
	assert_int_equal(ask_host("evil"), 403);
	stop();
	start("0.0.0.0:0"); /* open to others, who have their own names for it */
	assert_int_equal(ask_host("edge-1.example:9600"), 200);
	stop();
}

static void test_v6(void **state)
{
	(void)state;
	struct stat st;
	if (stat("/proc/net/if_inet6", &st) < 0) {
		print_message("no IPv6 here\n");
		skip();
	}
	start("[::1]:0");
	assert_int_equal(strncmp(admin_address(admin), "[::1]:", 6), 0);
	assert_int_equal(ask_host("[::1]:9600"), 200);
	assert_int_equal(ask_host("evil"), 403);
	stop();
}

static void test_unix(void **state)
{
	(void)state;
	char dir[] = "/tmp/admin.XXXXXX", address[64], why[256];
	struct stat st;
	struct admin *second;
	assert_non_null(mkdtemp(dir));
	snprintf(address, sizeof address, "unix:%s/s", dir);
	start(address);
	assert_string_equal(admin_address(admin), address);
	assert_int_equal(stat(address + 5, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(ask_host("whatever"), 200);
	assert_int_equal(ask(GET("/readyz"), NULL), 503);
	assert_int_equal(open_at(loop, address, NULL, why, &second), -EADDRINUSE);
	assert_non_null(strstr(why, "/s: Address already in use"));
	assert_int_equal(stat(address + 5, &st), 0);
	stop();
	assert_int_equal(stat(address + 5, &st), -1);

	/* left behind by a process that was killed */
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	strcpy(addr.sun_path, address + 5);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	close(fd);
	start(address);
	assert_int_equal(ask(GET("/metrics"), NULL), 200);
	/* somebody else's socket of the same name is not ours to remove */
	unlink(address + 5);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	stop();
	assert_int_equal(stat(address + 5, &st), 0);
	close(fd);
	unlink(address + 5);

	/* a file that is no socket stays */
	fd = open(address + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	loop = ev_loop_new(0);
	assert_int_equal(open_at(loop, address, NULL, why, &admin), -EADDRINUSE);
	assert_int_equal(stat(address + 5, &st), 0);
	ev_loop_destroy(loop);
	unlink(address + 5);
	rmdir(dir);
}

static void test_bad_listen(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",         "9600",         "localhost",    ":9600",        "a:b",   "127.0.0.1:65536",
		"::1:9600", "127.0.0.1:-1", "127.0.0.1:",   "[::1]",        "[]:1",  "127.0.0.1:123456",
		"[::1:1",   "::1]:1",       "127.0.0.1:9 ", "127.0.0.1:+1", "unix:", "[nonsense]:1"};
	char why[256], address[600];
	struct admin *none = NULL;
	loop = ev_loop_new(0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		why[0] = '\0';
		assert_true(open_at(loop, bad[i], NULL, why, &none) < 0);
		assert_int_equal(strncmp(why, bad[i], strlen(bad[i])), 0);
		assert_true(strlen(why) > strlen(bad[i]) + 5);
	}
	memset(address, 'a', sizeof address);
	strcpy(address + sizeof address - 3, ":1");
	assert_true(open_at(loop, address, NULL, why, &none) < 0);
	memcpy(address, "unix:/", 6);
	assert_int_equal(open_at(loop, address, NULL, why, &none), -EINVAL);
	assert_non_null(strstr(why, "path too long"));
	assert_null(none);
	admin_stop(NULL);
	ev_loop_destroy(loop);

	start("127.0.0.1:0");
	snprintf(address, sizeof address, "%s", admin_address(admin));
	assert_int_equal(open_at(loop, address, NULL, why, &none), -EADDRINUSE);
	char *want = NULL;
	assert_true(asprintf(&want, "%s: Address already in use", admin_address(admin)) > 0);
	assert_string_equal(why, want);
	free(want);
	stop();
}

/* 33 connections: the last waits until one goes, also when all go at once. */
static void test_many(void **state)
{
	(void)state;
	struct peer peers[CONNECTIONS + 1];
	start("127.0.0.1:0");
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < CONNECTIONS; i++) {
			peer_start(&peers[i], GET("/metrics"));
			wait_for(&peers[i].answered);
		}
		peer_start(&peers[CONNECTIONS], GET("/metrics"));
		for (int i = 0; i < 20; i++)
			ev_run(loop, EVRUN_NOWAIT);
		assert_false(peers[CONNECTIONS].answered);
		for (int i = 0; i < (round ? 1 : CONNECTIONS); i++)
			peer_stop(&peers[i]);
		wait_for(&peers[CONNECTIONS].answered);
		/* kept alive, so one of them can ask again */
		peers[CONNECTIONS].answered = false;
		peers[CONNECTIONS].n = 0;
		assert_true(send(peers[CONNECTIONS].fd, GET("/readyz"), strlen(GET("/readyz")), 0) > 0);
		wait_for(&peers[CONNECTIONS].answered);
		assert_int_equal(answer_status(&peers[CONNECTIONS]), 503);
		for (int i = round ? 1 : CONNECTIONS; i <= CONNECTIONS; i++)
			peer_stop(&peers[i]);
	}
	stop();
}

static void on_drip(struct ev_loop *l, struct ev_timer *w, int events)
{
	struct peer *p = w->data;
	(void)l;
	(void)events;
	send(p->fd, "x", 1, MSG_NOSIGNAL);
}

static void on_time_over(struct ev_loop *l, struct ev_timer *w, int events)
{
	(void)l;
	(void)events;
	*(bool *)w->data = true;
}

/* Nobody holds a connection for long: not by silence, not by a head that comes byte by byte, not by not
 * reading. */
static void test_slow(void **state)
{
	(void)state;
	struct peer silent, slow;
	start("127.0.0.1:0");
	double began = ev_time();
	peer_start(&silent, "");
	peer_start(&slow, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ");
	ev_timer_init(&slow.drip, on_drip, 0.2, 0.2);
	ev_timer_start(loop, &slow.drip);
	wait_for(&silent.closed);
	wait_for(&slow.closed);
	assert_true(slow.closed_at - began >= ADMIN_REQUEST_S - 0.1);
	assert_null(slow.got ? strstr(slow.got, "200") : NULL);
	peer_stop(&silent);
	peer_stop(&slow);
	/* and the port still answers; each answer begins the time limit anew */
	struct peer p;
	peer_start(&p, GET("/metrics"));
	wait_for(&p.answered);
	struct ev_timer later;
	bool over = false;
	ev_timer_init(&later, on_time_over, 0.3, 0.);
	later.data = &over;
	ev_timer_start(loop, &later);
	wait_for(&over);
	assert_ptr_equal(admin->clients[0].admin, admin);
	double left = ev_timer_remaining(loop, &admin->clients[0].limit);
	p.answered = false;
	p.n = 0;
	assert_true(send(p.fd, GET("/metrics"), strlen(GET("/metrics")), 0) > 0);
	wait_for(&p.answered);
	assert_true(ev_timer_remaining(loop, &admin->clients[0].limit) > left);
	wait_for(&p.closed);
	peer_stop(&p);

	/* asks for much and reads nothing */
	peer_start(&p, GET("/huge"));
	ev_io_stop(loop, &p.io);
	int small = 4096;
	setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	for (int i = 0; i < CONNECTIONS - 1; i++) {
		assert_true(send(p.fd, GET("/huge"), strlen(GET("/huge")), MSG_NOSIGNAL) > 0);
		assert_int_equal(ask(GET("/metrics"), NULL), 200);
	}
	bool *in_use = &(bool){true};
	struct ev_timer guard;
	ev_timer_init(&guard, too_long, 20., 0.);
	ev_timer_start(loop, &guard);
	while (*in_use) {
		ev_run(loop, EVRUN_ONCE);
		*in_use = false;
		for (int i = 0; i < CONNECTIONS; i++)
			*in_use |= admin->clients[i].admin != NULL;
	}
	ev_timer_stop(loop, &guard);
	peer_stop(&p);
	stop();
}

static unsigned wake_ups;

static void on_wake_up(struct ev_loop *l, struct ev_prepare *w, int events)
{
	(void)l;
	(void)w;
	(void)events;
	wake_ups++;
}

/* Out of descriptors: it waits for some without spinning, and then serves. */
static void test_no_descriptors(void **state)
{
	(void)state;
	struct rlimit before, limit;
	struct peer p;
	struct ev_prepare count;
	struct ev_timer later;
	bool over = false;
	start("127.0.0.1:0");
	peer_start(&p, GET("/metrics"));
	getrlimit(RLIMIT_NOFILE, &before);
	limit = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ev_prepare_init(&count, on_wake_up);
	ev_prepare_start(loop, &count);
	ev_timer_init(&later, on_time_over, 0.5, 0.);
	later.data = &over;
	ev_timer_start(loop, &later);
	wake_ups = 0;
	wait_for(&over);
	assert_true(wake_ups < 50);
	assert_false(p.answered);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(ask(GET("/metrics"), NULL),
			 200); /* valgrind closes what accept had no number for, so not p */
	ev_prepare_stop(loop, &count);
	peer_stop(&p);
	stop();
}

#define POST(path) "POST " path " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"

/* What takes its time may take longer than a request may; others are served meanwhile, and the connection is
 * good for more. */
static void test_later(void **state)
{
	(void)state;
	char dir[] = "/tmp/admin.XXXXXX", address[64];
	struct ev_timer later;
	struct peer slow, last;
	bool over = false;
	assert_non_null(mkdtemp(dir));
	snprintf(address, sizeof address, "unix:%s/s", dir);
	start(address);
	assert_int_equal(ask(GET("/slow"), NULL), 405);
	assert_int_equal(ask(POST("/slow") "now", NULL), 202);
	has_begun = false;
	peer_start(&slow, POST("/slow") "yes");
	wait_for(&has_begun);
	assert_int_equal(ask(GET("/metrics"), NULL), 200);
	ev_timer_init(&later, on_time_over, ADMIN_REQUEST_S + ADMIN_IDLE_S + 0.5, 0.);
	later.data = &over;
	ev_timer_start(loop, &later);
	wait_for(&over);
	assert_int_equal(ask(GET("/metrics"), NULL), 200);
	assert_false(slow.answered || slow.closed);
	admin_answer(begun, 201, strdup("done\n"), 5);
	wait_for(&slow.answered);
	assert_int_equal(answer_status(&slow), 201);
	assert_string_equal(strstr(slow.got, "\r\n\r\n") + 4, "done\n");
	slow.answered = false;
	slow.n = 0;
	assert_int_equal(send(slow.fd, GET("/readyz"), strlen(GET("/readyz")), MSG_NOSIGNAL),
			 strlen(GET("/readyz")));
	wait_for(&slow.answered);
	assert_int_equal(answer_status(&slow), 503);
	peer_stop(&slow);

	/* one that nobody answers, and one that comes too late */
	has_begun = false;
	peer_start(&slow, POST("/slow") "yes");
	wait_for(&has_begun);
	peer_start(&last, POST("/slow") "yes");
	has_begun = false;
	admin_stop(admin);
	wait_for(&slow.closed);
	assert_int_equal(answer_status(&slow), 503);
	assert_false(has_begun);
	wait_for(&last.closed);
	peer_stop(&slow);
	peer_stop(&last);
	assert_int_equal(ev_pending_count(loop), 0);
	assert_false(ev_run(loop, EVRUN_NOWAIT)); /* no watcher is left */
	ev_loop_destroy(loop);
	rmdir(dir);
}

/* Stopping with connections open in every state closes them and leaves no timer behind. */
static void test_stop_midway(void **state)
{
	(void)state;
	struct peer idle, half, huge_one;
	start("127.0.0.1:0");
	peer_start(&idle, GET("/metrics"));
	wait_for(&idle.answered);
	peer_start(&half, "GET /met");
	peer_start(&huge_one, GET("/huge"));
	ev_io_stop(loop, &huge_one.io);
	for (int i = 0; i < 10; i++)
		ev_run(loop, EVRUN_NOWAIT);
	admin_stop(admin);
	wait_for(&idle.closed);
	wait_for(&half.closed);
	ev_io_start(loop, &huge_one.io);
	wait_for(&huge_one.closed);
	peer_stop(&idle);
	peer_stop(&half);
	peer_stop(&huge_one);
	assert_int_equal(ev_pending_count(loop), 0);
	assert_false(ev_run(loop, EVRUN_NOWAIT)); /* no watcher is left */
	ev_loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),          cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_host),           cmocka_unit_test(test_v6),
		cmocka_unit_test(test_unix),           cmocka_unit_test(test_bad_listen),
		cmocka_unit_test(test_many),           cmocka_unit_test(test_slow),
		cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_stop_midway),
		cmocka_unit_test(test_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
