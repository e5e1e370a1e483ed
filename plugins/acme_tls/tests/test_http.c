/* SPDX-License-Identifier: MIT */
/* Requests over real TLS to a server that does what its paths say, most of it wrong. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <gnutls/gnutls.h>
#include "plugins/acme_tls/client/http.h"
#include "plugins/acme_tls/client/message.h"
#include "sdk/test-host/tests/tls_certs.h"

#define SECOND 1000000000ull

/* ---- the server: a thread that serves one connection after the other */

static struct {
	int listener;
	uint16_t port;
	pthread_t thread;
	gnutls_certificate_credentials_t credentials[32]; /* the last is in use */
	atomic_int n_credentials;
	atomic_int connections, requests;
	atomic_bool plain; /* does not speak TLS */
} server;

static char folder[] = "/tmp/semstreams-test.XXXXXX";
static char ca_file[64], other_ca[64], no_ca[64];

static const struct {
	const char *path, *reply;
} replies[] = {
	{"/ok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nREPLAY-nonce:  abc \r\nLocation: "
		"https://x/1\r\nLink: <a>;rel=\"up\"\r\n"
		"Link: <b>;rel=\"alternate\"\r\nRetry-After: 7\r\nContent-Type: text/plain\r\n\r\nhi"},
	{"/early",
	 "HTTP/1.1 100 Continue\r\nReplay-Nonce: old\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{"/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n"},
	{"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"},
	{"/reset", ""},
	{"/ssh", "SSH-2.0-OpenSSH_9.2\r\n"},
	{"/past", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: Thu, 01 Jan 2015 00:00:00 GMT\r\n\r\n"},
};

static bool send_all(gnutls_session_t tls, const char *data, size_t len)
{
	while (len) {
		ssize_t n = gnutls_record_send(tls, data, len);
		if (n < 0 && gnutls_error_is_fatal((int)n))
			return false;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* More of the same until the client goes. */
static void send_for_ever(gnutls_session_t tls, const char *head, const char *more)
{
	bool there = send_all(tls, head, strlen(head));
	for (int i = 0; there && i < 100000; i++)
		there = send_all(tls, more, strlen(more));
}

/* Answer one request; false: that was the connection. */
static bool answer(gnutls_session_t tls, const char *path, const char *request)
{
	char echo[5000];
	if (!strcmp(path, "/echo")) {
		int n = snprintf(echo, sizeof echo, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
				 strlen(request), request);
		return send_all(tls, echo, (size_t)n);
	}
	if (!strcmp(path, "/silent")) {
		gnutls_record_recv(tls, echo, 1);
		return false;
	}
	if (!strcmp(path, "/large"))
		send_for_ever(tls, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
			      "0123456789abcdef0123456789abcdef");
	if (!strcmp(path, "/fields"))
		send_for_ever(tls, "HTTP/1.1 200 OK\r\n",
			      "X-More: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n");
	if (!strcmp(path, "/slow")) {
		const char *head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbut then no more";
		send_all(tls, head, strlen(head));
		gnutls_record_recv(tls, echo, 1);
		return false;
	}
	for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
		if (!strcmp(path, replies[i].path)) {
			send_all(tls, replies[i].reply, strlen(replies[i].reply));
			return !strcmp(path, "/ok") || !strcmp(path, "/past") || !strcmp(path, "/early");
		}
	return false;
}

/* A request with its body into in. */
static bool request_read(gnutls_session_t tls, char *in, size_t size)
{
	size_t used = 0;
	for (;;) {
		ssize_t n = gnutls_record_recv(tls, in + used, size - 1 - used);
		if (n <= 0 || used + (size_t)n >= size - 1)
			return false;
		used += (size_t)n;
		in[used] = '\0';
		const char *end = strstr(in, "\r\n\r\n"), *length = strcasestr(in, "content-length:");
		size_t body = length ? strtoul(length + 15, NULL, 10) : 0;
		if (end && used >= (size_t)(end + 4 - in) + body)
			return true;
	}
}

static void serve(int fd)
{
	gnutls_session_t tls;
	char request[4096], path[200];
	gnutls_init(&tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
	gnutls_set_default_priority(tls);
	gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, server.credentials[server.n_credentials - 1]);
	gnutls_transport_set_int(tls, fd);
	if (server.plain) {
		if (write(fd, "HTTP/1.0 400 no TLS here\r\n\r\n", 28) < 0)
			perror("write");
	} else if (gnutls_handshake(tls) >= 0) {
		server.connections++;
		while (request_read(tls, request, sizeof request)) {
			server.requests++;
			if (sscanf(request, "%*s %199s", path) != 1 || !answer(tls, path, request))
				break;
		}
	}
	gnutls_deinit(tls);
	close(fd);
}

static void *server_run(void *arg)
{
	int fd;
	while ((fd = accept(server.listener, NULL, NULL)) >= 0)
		serve(fd);
	return arg;
}

static void use_certificate(const struct cert *ca, const struct cert_spec *spec)
{
	struct cert leaf = cert_make(spec, ca);
	gnutls_certificate_credentials_t *next = &server.credentials[server.n_credentials];
	gnutls_certificate_allocate_credentials(next);
	CERT_OK(gnutls_certificate_set_x509_key(*next, &leaf.crt, 1, leaf.key));
	server.n_credentials++;
	cert_drop(&leaf);
}

static struct cert ca;

static int group_setup(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int64_t now = time(NULL);
	(void)state;
	static const char *const variables[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		unsetenv(variables[i]);
	signal(SIGPIPE, SIG_IGN); /* as the host does */
	if (!mkdtemp(folder))
		return -1;
	snprintf(ca_file, sizeof ca_file, "%s/ca.pem", folder);
	snprintf(other_ca, sizeof other_ca, "%s/other.pem", folder);
	snprintf(no_ca, sizeof no_ca, "%s/no.pem", folder);
	ca = cert_make(
		&(struct cert_spec){
			.cns = {{"Test CA", 0}}, .ca = true, .from = now - CERT_DAY, .to = now + CERT_DAY},
		NULL);
	struct cert other = cert_make(
		&(struct cert_spec){
			.cns = {{"Other CA", 0}}, .ca = true, .from = now - CERT_DAY, .to = now + CERT_DAY},
		NULL);
	const struct cert *one = &ca, *two = &other;
	cert_write_chain(ca_file, &one, 1);
	cert_write_chain(other_ca, &two, 1);
	cert_write(no_ca, "nothing\n", 8, 0600);
	cert_drop(&other);
	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.listener, (struct sockaddr *)&address, sizeof address) ||
	    listen(server.listener, 8) || getsockname(server.listener, (struct sockaddr *)&address, &len))
		return -1;
	server.port = ntohs(address.sin_port);
	return pthread_create(&server.thread, NULL, server_run, NULL);
}

static int group_teardown(void **state)
{
	char command[100];
	(void)state;
	shutdown(server.listener, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.listener);
	while (server.n_credentials)
		gnutls_certificate_free_credentials(server.credentials[--server.n_credentials]);
	cert_drop(&ca);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

/* ---- the client */

static struct {
	struct ev_loop *loop;
	struct http *http;
	int error;
	long status;
	char why[400], body[5000], nonce[32], location[200], retry_after[16], type[32], date[40];
	size_t len;
	int links;
} c;

static void copy(char *out, size_t size, const char *in)
{
	snprintf(out, size, "%s", in ? in : "");
}

static void ask_until(const char *method, const char *to, const char *body, uint64_t deadline)
{
	struct http_reply reply;
	http_ask(c.http,
		 &(struct http_request){
			 .method = method, .url = to, .body = body, .accept = "text/x", .deadline = deadline},
		 &reply);
	c.error = reply.error;
	c.status = reply.status;
	c.len = reply.len;
	copy(c.why, sizeof c.why, reply.why);
	copy(c.body, sizeof c.body, reply.body);
	copy(c.nonce, sizeof c.nonce, reply.nonce);
	copy(c.location, sizeof c.location, reply.location);
	copy(c.retry_after, sizeof c.retry_after, reply.retry_after);
	copy(c.type, sizeof c.type, reply.content_type);
	copy(c.date, sizeof c.date, reply.date);
	for (c.links = 0; reply.links[c.links];)
		c.links++;
}

static const char *url(const char *path)
{
	static char text[200];
	snprintf(text, sizeof text, "https://127.0.0.1:%u%s", server.port, path);
	return text;
}

static int client(const char *file, const char *origin, char *why, size_t why_size)
{
	const char *files[] = {file};
	const struct http_options options = {
		.loop = c.loop,
		.user_agent = "test/1",
		.ca_files = files,
		.n_ca_files = 1,
		.origin = origin,
		.connect_ns = 5 * SECOND,
		.total_ns = 20 * SECOND,
		.max_body = 65536,
		.min_rate = 1,
	};
	http_free(c.http);
	c.http = NULL;
	return http_new(&options, &c.http, why, why_size);
}

static int setup(void **state)
{
	char why[200] = "";
	int64_t now = time(NULL);
	(void)state;
	memset(&c, 0, sizeof c);
	c.loop = ev_loop_new(EVFLAG_AUTO);
	server.plain = false;
	use_certificate(&ca, &(struct cert_spec){.cns = {{"127.0.0.1", 0}},
						 .ip = {127, 0, 0, 1},
						 .ip_len = 4,
						 .from = now - CERT_DAY,
						 .to = now + CERT_DAY});
	return client(ca_file, url("/directory"), why, sizeof why);
}

static int teardown(void **state)
{
	(void)state;
	http_free(c.http);
	ev_loop_destroy(c.loop);
	return 0;
}

static void ask(const char *method, const char *path, const char *body)
{
	ask_until(method, url(path), body, UINT64_MAX);
}

static void why_has(const char *part)
{
	if (!strstr(c.why, part))
		fail_msg("\"%s\" lacks \"%s\"", c.why, part);
}

/* ---- tests */

static void test_reply(void **state)
{
	(void)state;
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, 0);
	assert_int_equal(c.status, 200);
	assert_string_equal(c.body, "hi");
	assert_string_equal(c.nonce, "abc");
	assert_string_equal(c.location, "https://x/1");
	assert_string_equal(c.retry_after, "7");
	assert_string_equal(c.type, "text/plain");
	assert_int_equal(c.links, 2);
	assert_string_equal(c.date, "");
	ask("HEAD", "/ok", NULL);
	assert_int_equal(c.status, 200);
	assert_int_equal(c.len, 0);
	assert_string_equal(c.nonce, "abc");
}

static void test_fields_of_early_replies_do_not_count(void **state)
{
	(void)state;
	ask("GET", "/early", NULL);
	assert_int_equal(c.status, 200);
	assert_string_equal(c.nonce, "");
}

static void test_request(void **state)
{
	(void)state;
	ask("POST", "/echo", "{\"a\":1}");
	assert_non_null(strstr(c.body, "POST /echo HTTP/1.1\r\n"));
	assert_non_null(strstr(c.body, "Content-Type: application/jose+json\r\n"));
	assert_non_null(strstr(c.body, "Accept: text/x\r\n"));
	assert_non_null(strstr(c.body, "User-Agent: test/1\r\n"));
	assert_non_null(strstr(c.body, "\r\n\r\n{\"a\":1}"));
	assert_null(strstr(c.body, "Expect"));
	ask("POST", "/echo", "");
	assert_non_null(strstr(c.body, "Content-Length: 0\r\n"));
}

static void test_connection_is_kept(void **state)
{
	(void)state;
	int before = server.connections;
	for (int i = 0; i < 5; i++)
		ask(i % 2 ? "POST" : "GET", "/echo", i % 2 ? "x" : NULL);
	assert_int_equal(server.connections, before + 1);
}

/* A request that may have been done is not sent again. */
static void test_posted_once(void **state)
{
	(void)state;
	ask("POST", "/ok", "x");
	int before = server.requests;
	ask("POST", "/reset", "x");
	assert_int_equal(c.error, -ECONNRESET);
	assert_int_equal(server.requests, before + 1);
}

static void test_redirect_is_not_followed(void **state)
{
	(void)state;
	int before = server.requests;
	ask("GET", "/redirect", NULL);
	assert_int_equal(c.status, 302);
	assert_string_equal(c.location, url("/ok")); /* it was relative */
	assert_int_equal(server.requests, before + 1);
}

static void test_elsewhere_is_refused(void **state)
{
	char why[200] = "", port[100];
	(void)state;
	snprintf(port, sizeof port, "https://127.0.0.1:%u/", server.port + 1);
	const char *const wrong[] = {"http://127.0.0.1/",
				     "https://127.0.0.1/",
				     port,
				     "https://localhost/",
				     "https://x@127.0.0.1/",
				     "file:///etc/passwd",
				     "ldap://127.0.0.1",
				     "",
				     "nonsense"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		ask_until("GET", wrong[i], NULL, UINT64_MAX);
		assert_int_equal(c.error, -EINVAL);
		assert_true(strlen(c.why) > 0);
	}
	assert_int_equal(client(ca_file, "http://127.0.0.1/", why, sizeof why), -EINVAL);
	assert_non_null(strstr(why, "https://"));
}

static void test_trust(void **state)
{
	char why[200] = "";
	int64_t now = time(NULL);
	(void)state;
	assert_int_equal(client(other_ca, url("/"), why, sizeof why), 0);
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EKEYREJECTED);
	why_has("certificate signed by unknown authority: set ca_bundle");
	assert_int_equal(client(ca_file, url("/"), why, sizeof why), 0);
	use_certificate(&ca, &(struct cert_spec){.cns = {{"x", 0}},
						 .dns = {{"other.example", 0}},
						 .from = now - CERT_DAY,
						 .to = now + CERT_DAY});
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EKEYREJECTED);
	why_has("hostname mismatch");
	why_has("127.0.0.1");
}

static void test_times(void **state)
{
	char why[200] = "";
	int64_t now = time(NULL);
	(void)state;
	struct cert_spec spec = {
		.ip = {127, 0, 0, 1}, .ip_len = 4, .from = now - 2 * CERT_DAY, .to = now - CERT_DAY};
	use_certificate(&ca, &spec);
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EKEYREJECTED);
	why_has("has expired");
	assert_int_equal(client(ca_file, url("/"), why, sizeof why), 0);
	spec.from = now + CERT_DAY;
	spec.to = now + 2 * CERT_DAY;
	use_certificate(&ca, &spec);
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EKEYREJECTED);
	why_has("not yet valid: is the clock");
}

static void test_trusted_files(void **state)
{
	char why[200] = "";
	(void)state;
	assert_int_equal(client("/nonesuch/ca.pem", url("/"), why, sizeof why), -ENOENT);
	assert_non_null(strstr(why, "/nonesuch/ca.pem"));
	assert_int_equal(client(no_ca, url("/"), why, sizeof why), -EINVAL);
	assert_non_null(strstr(why, "no certificate"));
	assert_int_equal(client(folder, url("/"), why, sizeof why), -EINVAL);
}

static void test_hostile_replies(void **state)
{
	static const struct {
		const char *path;
		int error;
		const char *why;
	} cases[] = {
		{"/large", -EMSGSIZE, "too large"},
		{"/fields", -EMSGSIZE, "header fields"},
		{"/cut", -ECONNRESET, "before the answer was complete"},
		{"/reset", -ECONNRESET, "before the answer was complete"},
		{"/ssh", -EPROTO, "does not speak HTTP"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ask("GET", cases[i].path, NULL);
		if (c.error != cases[i].error)
			fail_msg("%s: %d %s", cases[i].path, c.error, c.why);
		why_has(cases[i].why);
	}
}

static void quick(void)
{
	char why[200] = "";
	const char *files[] = {ca_file};
	const struct http_options options = {
		.loop = c.loop,
		.user_agent = "test/1",
		.ca_files = files,
		.n_ca_files = 1,
		.origin = url("/"),
		.connect_ns = SECOND / 4,
		.total_ns = SECOND / 2,
		.max_body = 65536,
	};
	http_free(c.http);
	assert_int_equal(http_new(&options, &c.http, why, sizeof why), 0);
}

static void test_times_out(void **state)
{
	(void)state;
	quick();
	ask("GET", "/silent", NULL);
	assert_int_equal(c.error, -ETIMEDOUT);
	why_has("no answer within 0.5 s");
	ask("GET", "/slow", NULL);
	assert_int_equal(c.error, -ETIMEDOUT);
	why_has("too slowly");
}

static void test_no_tls(void **state)
{
	(void)state;
	server.plain = true;
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EPROTO);
	why_has("TLS handshake failed");
}

static void test_refused(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	char to[100], why[200] = "";
	(void)state;
	/* bound, but nobody listens */
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(to, sizeof to, "https://127.0.0.1:%u/", ntohs(address.sin_port));
	assert_int_equal(client(ca_file, to, why, sizeof why), 0);
	ask_until("GET", to, NULL, UINT64_MAX);
	assert_int_equal(c.error, -ECONNREFUSED);
	assert_string_equal(c.why, "connection refused");
	close(fd);
}

static void test_urls(void **state)
{
	static const char base[] = "https://ca.example/acme/new-order";
	static const struct {
		const char *reference, *whole;
	} cases[] = {
		{"/order/7", "https://ca.example/order/7"},
		{"order/7", "https://ca.example/acme/order/7"},
		{"../order/7", "https://ca.example/order/7"},
		{"//ca.example/7", "https://ca.example/7"},
		{"https://ca.example:443/7", "https://ca.example:443/7"},
		{"", ""},
	};
	char text[100], why[200];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		url_resolve(base, cases[i].reference, text, sizeof text);
		assert_string_equal(text, cases[i].whole);
	}
	assert_int_equal(url_check("https://ca.example:443/dir", "https://ca.example/x", why, sizeof why), 0);
	assert_int_equal(url_check(base, "https://CA.example:443/x", why, sizeof why), 0);
	assert_int_equal(url_check(base, "https://ca.example:444/x", why, sizeof why), -EINVAL);
	assert_string_equal(why, "is not at ca.example:443, the host of directory_url");
	assert_int_equal(url_check(base, "http://ca.example/x", why, sizeof why), -EINVAL);
	assert_int_equal(url_check(base, "https://ca.example@evil.example/x", why, sizeof why), -EINVAL);
	assert_true(url_same("https://ca.example:443/account/1", "https://ca.example/account/1"));
	assert_int_equal(url_check(base, "https://ca.example./x", why, sizeof why), 0);
	assert_int_equal(url_check("https://[::1]/", "https://[0:0::1]:443/x", why, sizeof why), 0);
	assert_int_equal(url_check("https://[::1]/", "https://[::2]/x", why, sizeof why), -EINVAL);
	assert_string_equal(why, "is not at [::1]:443, the host of directory_url");
	assert_true(url_same("https://CA.example./account/1", "https://ca.example/account/1"));
	assert_true(url_same("https://[2001:DB8::0:1]/account/1", "https://[2001:db8::1]:443/account/1"));
	assert_true(url_same("https://ca.example", "https://ca.example/"));
	assert_true(url_same("not a URL", "not a URL"));
	assert_false(url_same("not a URL", "neither"));
	assert_false(url_same("https://ca.example/account/1", "https://ca.example/Account/1"));
	assert_false(url_same("https://ca.example/account?1", "https://ca.example/account?2"));
	assert_true(url_same("HTTPS://ca.example/account/1", "https://ca.example/account/1"));
	assert_false(url_same("https://ca.example/account/1", "https://ca.example/account/2"));
	assert_false(url_same("https://ca.example:444/account/1", "https://ca.example/account/1"));
}

static void proxy_is(const char *value)
{
	unsetenv("no_proxy");
	unsetenv("NO_PROXY");
	setenv("https_proxy", value, 1);
}

/* The one who reads the message learns that a proxy is in the way, and not its password. */
static void test_proxy(void **state)
{
	char proxy[100];
	int before = server.requests;
	(void)state;
	proxy_is("http://user:secret@127.0.0.1:1");
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -ECONNREFUSED);
	assert_string_equal(
		c.why,
		"connection refused; the environment variable https_proxy names the proxy 127.0.0.1:1");
	server.plain = true; /* answers 400 to CONNECT */
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", server.port);
	proxy_is(proxy);
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EPROTO);
	why_has("the proxy refuses to connect (HTTP status 400); the environment variable https_proxy names");
	proxy_is("http://no-such-proxy.invalid:1");
	ask("GET", "/ok", NULL);
	assert_int_equal(c.error, -EHOSTUNREACH);
	why_has("the name of the proxy cannot be resolved");
	assert_int_equal(server.requests, before);
	unsetenv("https_proxy");
}

static void test_date(void **state)
{
	(void)state;
	ask("GET", "/past", NULL);
	assert_string_equal(c.date, "Thu, 01 Jan 2015 00:00:00 GMT");
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static void count(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	++*(int *)timer->data;
}

/* The loop runs while an answer is waited for, up to the deadline; what comes next is a request like others.
 */
static void test_deadline(void **state)
{
	ev_timer timer;
	int times = 0;
	(void)state;
	ev_timer_init(&timer, count, 0.01, 0.01);
	timer.data = &times;
	ev_timer_start(c.loop, &timer);
	uint64_t begun = now_ns();
	ask_until("GET", url("/silent"), NULL, begun + SECOND / 2);
	ev_timer_stop(c.loop, &timer);
	assert_int_equal(c.error, -ETIMEDOUT);
	uint64_t took = now_ns() - begun;
	if (took < SECOND / 2 || took > 3 * SECOND)
		fail_msg("%llu ns", (unsigned long long)took);
	assert_true(times > 10);
	ask("GET", "/ok", NULL);
	assert_string_equal(c.body, "hi");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reply),
		TEST(test_fields_of_early_replies_do_not_count),
		TEST(test_request),
		TEST(test_connection_is_kept),
		TEST(test_posted_once),
		TEST(test_redirect_is_not_followed),
		TEST(test_elsewhere_is_refused),
		TEST(test_trust),
		TEST(test_times),
		TEST(test_trusted_files),
		TEST(test_hostile_replies),
		TEST(test_times_out),
		TEST(test_no_tls),
		TEST(test_refused),
		TEST(test_urls),
		TEST(test_proxy),
		TEST(test_date),
		TEST(test_deadline),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
