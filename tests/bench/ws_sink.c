/* SPDX-License-Identifier: MIT */
/*
 * ws_sink - many WebSocket subscribers in one thread: they connect, upgrade, and count the bytes they read.
 *
 *     ws_sink PORT PATH N [tls [CERT KEY]]      on 127.0.0.1; the server's certificate is not checked
 *
 * "ready" when all are connected.  Then for each line on stdin, "BYTES\n": "done\n" when each subscriber has
 * read that many bytes of frames since the last time, or "short LEAST SHORT GONE\n" when one of them was
 * closed or nothing came for 5 s: the fewest bytes one has, how many have not enough, how many were closed.
 * Frames begin where the headers of the upgrade end, so that bytes can be counted without parsing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/ssl.h>

struct subscriber {
	int fd;
	SSL *ssl;
	uint64_t bytes;
	bool gone;
};

static char buf[1 << 16];

static void die(const char *what)
{
	fprintf(stderr, "ws_sink: %s: %s\n", what, errno ? strerror(errno) : "refused");
	exit(1);
}

static int get(struct subscriber *s, char *to, int size)
{
	return s->ssl ? SSL_read(s->ssl, to, size) : (int)read(s->fd, to, (size_t)size);
}

/* Blocking; byte by byte, so that nothing of the frames is taken. */
static void upgrade(struct subscriber *s, const char *path)
{
	char head[2048];
	size_t len = 0;
	int n = snprintf(head, sizeof head,
			 "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
			 path);

	if ((s->ssl ? SSL_write(s->ssl, head, n) : (int)write(s->fd, head, (size_t)n)) != n)
		die("write");
	while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
		if (len == sizeof head || get(s, head + len, 1) != 1)
			die("upgrade");
		len++;
	}
	if (strncmp(head, "HTTP/1.1 101", 12) != 0)
		die("upgrade");
}

static void subscribe(struct subscriber *s, uint16_t port, const char *path, SSL_CTX *ctx)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to) < 0 ||
	    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
		die("connect");
	if (ctx) {
		s->ssl = SSL_new(ctx);
		if (!s->ssl || SSL_set_fd(s->ssl, s->fd) != 1 || SSL_connect(s->ssl) != 1)
			die("TLS");
	}
	upgrade(s, path);
	if (fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0)
		die("fcntl");
}

static void drain(struct subscriber *s)
{
	int n;

	while ((n = get(s, buf, sizeof buf)) > 0) {
		s->bytes += (uint64_t)n;
		if (!s->ssl && n < (int)sizeof buf)
			return;
	}
	s->gone = s->ssl ? SSL_get_error(s->ssl, n) != SSL_ERROR_WANT_READ : n == 0 || errno != EAGAIN;
}

static bool read_all(int ep, struct subscriber *all, int n, uint64_t bytes)
{
	struct epoll_event events[256];
	int missing = 0;

	for (int i = 0; i < n; i++)
		missing += all[i].bytes < bytes;
	while (missing) {
		int ready = epoll_wait(ep, events, 256, 5000);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return false;
		for (int i = 0; i < ready; i++) {
			struct subscriber *s = events[i].data.ptr;
			bool before = s->bytes < bytes;
			drain(s);
			if (s->gone)
				return false;
			missing -= before && s->bytes >= bytes;
		}
	}
	return true;
}

static void work(int ep, struct subscriber *all, int n)
{
	char line[64];

	while (fgets(line, sizeof line, stdin)) {
		uint64_t bytes = strtoull(line, NULL, 10), least = UINT64_MAX;
		int few = 0, gone = 0;
		bool good = read_all(ep, all, n, bytes);
		for (int i = 0; i < n; i++) {
			least = all[i].bytes < least ? all[i].bytes : least;
			few += all[i].bytes < bytes;
			gone += all[i].gone;
			all[i].bytes -= all[i].bytes < bytes ? all[i].bytes : bytes;
		}
		if (good)
			puts("done");
		else
			printf("short %llu %d %d\n", (unsigned long long)least, few, gone);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	int n = atoi(argv[3]), ep = epoll_create1(EPOLL_CLOEXEC);
	struct rlimit limit;
	struct subscriber *all = calloc((size_t)n, sizeof *all);
	SSL_CTX *ctx = argc > 4 ? SSL_CTX_new(TLS_client_method()) : NULL;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (!all || ep < 0 || (argc > 4 && !ctx) ||
	    (argc > 6 && (SSL_CTX_use_certificate_chain_file(ctx, argv[5]) != 1 ||
			  SSL_CTX_use_PrivateKey_file(ctx, argv[6], SSL_FILETYPE_PEM) != 1)))
		die("start");
	for (int i = 0; i < n; i++) {
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
		errno = 0;
		subscribe(&all[i], (uint16_t)atoi(argv[1]), argv[2], ctx);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &e) < 0)
			die("epoll_ctl");
	}
	puts("ready");
	fflush(stdout);
	work(ep, all, n);
	return 0;
}
