/* SPDX-License-Identifier: MIT */
/* host_client - see host_client.h.  HTTP/1.0, so that the end of the answer is the end of the connection. */
#include "core/cli/host_client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <jansson.h>
#include "core/admin/clock.h"
#include "core/cli/cli.h"
#include "core/config/config.h"
#include "core/config/diag.h"

#define PATIENCE_NS UINT64_C(10000000000)
#define CHANGE_NS   UINT64_C(300000000000) /* components may have to drain first */
#define SILENCE_NS  UINT64_C(30000000000)
#define ANSWER_MAX  (64u << 20)

static const char service_socket[] = "/run/semstreams/" ADMIN_RUNTIME_SOCKET;
static const char default_port[] = "127.0.0.1:9600";

/* ---- where it is ---- */

static void set(struct host_address *to, const char *kind, const char *where)
{
	snprintf(to->text, sizeof to->text, "%s%s", kind, where);
}

/* Whoever listens everywhere is also here. */
static void set_port(struct host_address *to, const char *listen)
{
	if (strncmp(listen, "0.0.0.0:", 8) == 0)
		set(to, "127.0.0.1", listen + 7);
	else if (strncmp(listen, "[::]:", 5) == 0)
		set(to, "[::1]", listen + 4);
	else
		set(to, "", listen);
}

static int find_configured(const struct config *config, const char *file, struct host_address *to)
{
	if (config->admin.socket)
		set(to, "unix:", config->admin.socket);
	else if (strcmp(file, CLI_DEFAULT_CONFIG) == 0 && access(service_socket, W_OK) == 0)
		set(to, "unix:", service_socket);
	else if (config->admin_listen && !config->admin.cert_file)
		set_port(to, config->admin_listen);
	else
		to->text[0] = '\0';
	size_t n = strlen(to->text);
	if (n > 2 && strcmp(to->text + n - 2, ":0") == 0 && strncmp(to->text, "unix:", 5) != 0)
		to->text[0] = '\0';
	if (to->text[0])
		return 0;
	fprintf(stderr,
		"semstreams: %s does not say where the host can be asked: set \"admin\": {\"socket\": "
		"\"/path\"}, or use --admin ADDRESS\n",
		file);
	return -EINVAL;
}

int host_find(const struct cli_options *o, struct host_address *to)
{
	const char *file = o->config ? o->config : CLI_DEFAULT_CONFIG;
	struct config *config = NULL;
	struct diag diag;
	int rc = 0;

	if (o->admin) {
		set(to, o->admin[0] == '/' ? "unix:" : "", o->admin);
		return 0;
	}
	diag_init(&diag);
	if (o->config || access(file, R_OK) == 0)
		config_load(file, &diag, &config);
	if (config) { /* what else is wrong in it does not matter here */
		rc = find_configured(config, file, to);
	} else if (o->config) {
		diag_print(&diag, stderr);
		rc = -EINVAL;
	} else if (access(service_socket, W_OK) == 0) {
		set(to, "unix:", service_socket);
	} else {
		set(to, "", default_port);
	}
	config_free(config);
	diag_done(&diag);
	return rc;
}

/* ---- the question ---- */

static bool wait_for(int fd, short events, uint64_t until_ns)
{
	struct pollfd p = {.fd = fd, .events = events};
	uint64_t now = clock_now();

	return now < until_ns && poll(&p, 1, (int)((until_ns - now) / 1000000) + 1) > 0;
}

/* A socket that is connected, or -errno. */
static int connect_to(const struct sockaddr *sa, socklen_t n, uint64_t until_ns)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
	socklen_t size = sizeof error;

	if (fd < 0)
		return -errno;
	if (connect(fd, sa, n) < 0) {
		error = errno;
		if (error == EINPROGRESS) {
			error = ETIMEDOUT;
			if (wait_for(fd, POLLOUT, until_ns))
				getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
		}
	}
	if (error == 0)
		return fd;
	close(fd);
	return -error;
}

static int connect_unix(const char *path, uint64_t until_ns)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof addr.sun_path)
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	return connect_to((const struct sockaddr *)&addr, sizeof addr, until_ns);
}

static int connect_tcp(const char *address, uint64_t until_ns)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	const char *colon = strrchr(address, ':');
	struct addrinfo *list;
	char host[256];
	int fd = -EADDRNOTAVAIL;

	if (!colon || (size_t)(colon - address) >= sizeof host)
		return -EINVAL;
	const bool v6 = address[0] == '[' && colon[-1] == ']';
	snprintf(host, sizeof host, "%.*s", (int)(colon - address) - 2 * v6, address + v6);
	if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
		return -EADDRNOTAVAIL;
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = connect_to(ai->ai_addr, ai->ai_addrlen, until_ns);
	freeaddrinfo(list);
	return fd;
}

static int send_all(int fd, const char *bytes, size_t n, uint64_t until_ns)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (sent < 0 && !wait_for(fd, POLLOUT, until_ns))
			return -ETIMEDOUT;
		bytes += sent > 0 ? sent : 0;
		n -= sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

static int read_all(int fd, struct ss_strbuf *to, uint64_t until_ns)
{
	char buf[16384];

	for (;;) {
		if (!wait_for(fd, POLLIN, until_ns))
			return -ETIMEDOUT;
		ssize_t n = read(fd, buf, sizeof buf);
		if (n == 0)
			return to->failed ? -ENOMEM : 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			ss_strbuf_add(to, buf, (size_t)n);
		if (to->len > ANSWER_MAX)
			return -EMSGSIZE;
	}
}

/* Leave the body in *answer; the status, or -EPROTO: that was no HTTP. */
static int take_body(struct ss_strbuf *answer)
{
	const char *text = ss_strbuf_cstr(answer), *end = strstr(text, "\r\n\r\n");
	int status;

	if (!end || sscanf(text, "HTTP/1.%*1[01] %3d", &status) != 1)
		return -EPROTO;
	const size_t head = (size_t)(end + 4 - text);
	memmove(answer->bytes, answer->bytes + head, answer->len - head);
	answer->len -= head;
	return status;
}

/* A socket on which the answer is to come, or -errno with a text in why. */
static int send_request(const struct host_address *at, const char *path, const char *body, uint64_t until_ns,
			char why[512])
{
	const bool is_unix = strncmp(at->text, "unix:", 5) == 0;
	struct ss_strbuf request = {0};

	int fd = is_unix ? connect_unix(at->text + 5, until_ns) : connect_tcp(at->text, until_ns);
	if (fd < 0) {
		snprintf(why, 512, "cannot reach a host at %.300s: %s; %s", at->text, strerror(-fd),
			 -fd == EACCES ? "the socket is for root, the host's user and \"admin\": "
					 "{\"socket_group\": ...}"
				       : "does it run, and is this its \"admin\"?");
		return fd;
	}
	ss_strbuf_printf(&request, "%s %s HTTP/1.0\r\nHost: localhost\r\n", body ? "POST" : "GET", path);
	if (body)
		ss_strbuf_printf(&request, "Content-Length: %zu\r\n", strlen(body));
	ss_strbuf_printf(&request, "\r\n%s", body ? body : "");
	int rc = request.failed ? -ENOMEM : send_all(fd, request.bytes, request.len, until_ns);
	ss_strbuf_done(&request);
	if (rc == 0 || rc == -EPIPE) /* who refuses need not hear it out */
		return fd;
	close(fd);
	return rc;
}

static void tell_failure(const struct host_address *at, int rc, char why[512])
{
	if (!*why)
		snprintf(why, 512, "the host at %.300s does not answer: %s", at->text,
			 rc == -EPROTO ? "that is no HTTP (with admin.tls, use the socket)" : strerror(-rc));
}

int host_ask(const struct host_address *at, const char *path, const char *body, struct ss_strbuf *answer,
	     char why[512])
{
	const uint64_t until_ns = clock_now() + (body ? CHANGE_NS : PATIENCE_NS);

	*why = '\0';
	ss_strbuf_clear(answer);
	int fd = send_request(at, path, body, until_ns, why);
	int rc = fd;
	if (fd >= 0) {
		rc = read_all(fd, answer, until_ns);
		close(fd);
	}
	if (rc == 0)
		rc = take_body(answer);
	if (rc < 0)
		tell_failure(at, rc, why);
	return rc;
}

/* ---- an answer that goes on ---- */

/* 1; 0: it is at its end; -errno. */
static int read_more(int fd, struct ss_strbuf *to, uint64_t patience_ns)
{
	const uint64_t until_ns = clock_now() + patience_ns;
	char buf[16384];

	while (wait_for(fd, POLLIN, until_ns)) {
		ssize_t n = read(fd, buf, sizeof buf);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		ss_strbuf_add(to, buf, (size_t)n);
		return to->failed ? -ENOMEM : to->len > ANSWER_MAX ? -EMSGSIZE : 1;
	}
	return -ETIMEDOUT;
}

/* Hand over whole lines and leave the rest; true: no more is wanted. */
static bool take_lines(struct ss_strbuf *b, int (*line)(void *arg, const char *text, size_t len), void *arg)
{
	size_t at = 0;
	bool enough = false;

	for (const char *end; !enough && at < b->len; at = (size_t)(end - b->bytes) + 1) {
		end = memchr(b->bytes + at, '\n', b->len - at);
		if (!end)
			break;
		enough = line(arg, b->bytes + at, (size_t)(end - b->bytes) - at) != 0;
	}
	if (at < b->len)
		memmove(b->bytes, b->bytes + at, b->len - at);
	b->len -= at;
	return enough;
}

static void tell_refusal(const struct host_address *at, int status, struct ss_strbuf *body, char why[512])
{
	json_t *json = json_loads(ss_strbuf_cstr(body), 0, NULL);
	const char *error = json_string_value(json_object_get(json, "error"));

	if (error)
		snprintf(why, 512, "%.500s", error);
	else
		snprintf(why, 512, "the host at %.150s says %d: %.*s", at->text, status,
			 (int)strcspn(ss_strbuf_cstr(body), "\n"), ss_strbuf_cstr(body));
	json_decref(json);
}

int host_follow(const struct host_address *at, const char *path, const char *body,
		int (*line)(void *arg, const char *text, size_t len), void *arg, char why[512])
{
	struct ss_strbuf answer = {0};
	int status = 0, rc = 1;

	*why = '\0';
	int fd = send_request(at, path, body, clock_now() + PATIENCE_NS, why);
	rc = fd < 0 ? fd : 1;
	while (rc == 1 && !strstr(ss_strbuf_cstr(&answer), "\r\n\r\n"))
		rc = read_more(fd, &answer, PATIENCE_NS);
	if (rc >= 0)
		rc = status = take_body(&answer);
	if (status > 0 && status != 200) {
		while (read_more(fd, &answer, PATIENCE_NS) == 1)
			;
		tell_refusal(at, status, &answer, why);
	} else if (status == 200) {
		for (rc = 1; rc == 1 && !take_lines(&answer, line, arg);)
			rc = read_more(fd, &answer, SILENCE_NS);
	}
	if (fd >= 0)
		close(fd);
	ss_strbuf_done(&answer);
	if (rc < 0)
		tell_failure(at, rc, why);
	return rc < 0 ? rc : status;
}
