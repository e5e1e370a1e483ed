/* SPDX-License-Identifier: MIT */
/*
 * admin - libmicrohttpd without a thread of its own: its epoll descriptor and its next time limit are watched
 * by the control thread's loop, which calls MHD_run.
 */
#include <errno.h>
#include <ev.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <semstreams/base/host_name.h>
#include "core/admin/admin.h"

#define CONNECTIONS       32
#define CONNECTION_MEMORY 16384
#ifndef ADMIN_IDLE_S
#define ADMIN_IDLE_S    5    /* nothing read or written */
#define ADMIN_REQUEST_S 10.0 /* from connecting, or from the previous answer, to the end of the answer */
#endif
#define ACCEPT_RETRY_S 0.1 /* when descriptors have run out */

/* One connection's time limit: libmicrohttpd's own starts anew with every byte. */
struct client {
	struct admin *admin; /* NULL = row unused */
	struct ev_timer limit;
	int fd;
};

struct admin {
	struct ev_loop *loop;
	struct MHD_Daemon *daemon;
	struct ev_io io;
	struct ev_timer timer;
	const struct admin_page *pages;
	void *arg;
	bool loopback;      /* bound to an address that only this machine reaches */
	bool opened;        /* a connection began during this run */
	unsigned fruitless; /* runs in which accept was wanted and failed */
	bool closed;        /* a connection ended during this run */
	char host[256];     /* as configured */
	char numeric[80];   /* as bound, in brackets if v6 */
	char address[384];  /* whole, with the port */
	struct client clients[CONNECTIONS];
	char path[sizeof((struct sockaddr_un *)0)->sun_path]; /* of a unix socket, else "" */
	dev_t dev;
	ino_t ino;
};

/* ---- requests -------------------------------------------------------------------------------- */

/* Does Host name this listener?  A page of a foreign site that had its name point here would send its own. */
static bool host_is_ours(const struct admin *a, const char *host)
{
	const char *const ours[] = {"localhost", "127.0.0.1", "[::1]", a->host, a->numeric};
	const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;
	size_t n = bracket ? (size_t)(bracket + 1 - host) : strcspn(host, ":");
	struct ss_host_name theirs, mine;

	if (host[n] && (host[n] != ':' || strspn(host + n + 1, "0123456789") != strlen(host + n + 1)))
		return false;
	if (ss_host_name_read(host, n, &theirs))
		return false;
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (ss_host_name_read(ours[i], strlen(ours[i]), &mine) == 0 &&
		    ss_host_name_same(&mine, &theirs))
			return true;
	return false;
}

/* The path of a request target that may be a URL, as proxies write it; NULL if that is another server's. */
static const char *path_of(const struct admin *a, const char *target)
{
	static const char scheme[] = "http://";
	char host[256];
	if (strncasecmp(target, scheme, sizeof scheme - 1) != 0)
		return target;
	const char *authority = target + sizeof scheme - 1;
	size_t n = strcspn(authority, "/");
	if (n >= sizeof host)
		return NULL;
	memcpy(host, authority, n);
	host[n] = '\0';
	if (a->loopback && !host_is_ours(a, host))
		return NULL;
	return authority[n] ? authority + n : "/";
}

static enum MHD_Result send_body(struct MHD_Connection *c, unsigned status, const char *type, char *body,
				 size_t n, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(n, body, mode);
	if (!r) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(body);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *text)
{
	return send_body(c, status, "text/plain; charset=utf-8", (char *)text, strlen(text),
			 MHD_RESPMEM_MUST_COPY);
}

static struct MHD_Connection *connection_of(const struct admin_request *r)
{
	return (struct MHD_Connection *)r;
}

const char *admin_argument(const struct admin_request *r, const char *key)
{
	return MHD_lookup_connection_value(connection_of(r), MHD_GET_ARGUMENT_KIND, key);
}

struct stray {
	const char *const *known;
	const char *found;
};

static enum MHD_Result look_at_argument(void *arg, enum MHD_ValueKind kind, const char *key,
					const char *value)
{
	struct stray *s = arg;
	(void)kind;
	(void)value;
	for (const char *const *k = s->known; *k; k++)
		if (strcmp(*k, key) == 0)
			return MHD_YES;
	s->found = key;
	return MHD_NO;
}

const char *admin_stray_argument(const struct admin_request *r, const char *const *known)
{
	struct stray s = {.known = known};
	MHD_get_connection_values(connection_of(r), MHD_GET_ARGUMENT_KIND, look_at_argument, &s);
	return s.found;
}

static enum MHD_Result send_page(const struct admin *a, struct MHD_Connection *c,
				 const struct admin_page *page)
{
	char *body = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&body, &size);
	if (!out)
		return refuse(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "Out of memory\n");
	int status = page->answer ? page->answer(a->arg, (const struct admin_request *)c, out)
				  : page->write(a->arg, out);
	bool bad = ferror(out);
	if (fclose(out) != 0 || bad || status < 200 || status > 599) {
		free(body);
		return refuse(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "This page could not be built\n");
	}
	return send_body(c, (unsigned)status, page->content_type, body, size, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result send_list(const struct admin *a, struct MHD_Connection *c)
{
	char text[1024] = "Not found. Pages:";
	size_t n = strlen(text);
	for (const struct admin_page *p = a->pages; p->path && n + strlen(p->path) + 3 < sizeof text; p++)
		n += (size_t)sprintf(text + n, " %s", p->path);
	strcpy(text + n, "\n");
	return refuse(c, MHD_HTTP_NOT_FOUND, text);
}

/* What is wrong with the head of a request; 0 = nothing, *text then unset. */
static unsigned check_request(const struct admin *a, struct MHD_Connection *c, const char *method,
			      const char *version, const char **text)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (!host && strcmp(version, MHD_HTTP_VERSION_1_0) != 0) {
		*text = "A request needs a Host header\n";
		return MHD_HTTP_BAD_REQUEST;
	}
	if (a->loopback && host && !host_is_ours(a, host)) {
		*text = "This listener serves its own machine only: the Host header must name localhost or "
			"the "
			"configured address\n";
		return MHD_HTTP_FORBIDDEN;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		*text = "Only GET and HEAD are served here\n";
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	if ((length && strcmp(length, "0") != 0) ||
	    MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
		*text = "Requests with a body are not accepted\n";
		return MHD_HTTP_CONTENT_TOO_LARGE;
	}
	return 0;
}

/* Called with the head and, if that was not refused, once more: an answer to the head closes the connection.
 */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_size, void **seen)
{
	const struct admin *a = arg;
	const char *text;
	(void)upload;
	(void)upload_size;
	if (!*seen) {
		unsigned status = check_request(a, c, method, version, &text);
		*seen = arg;
		return status ? refuse(c, status, text) : MHD_YES;
	}
	const char *path = path_of(a, url);
	for (const struct admin_page *p = a->pages; path && p->path; p++)
		if (strcmp(p->path, path) == 0)
			return send_page(a, c, p);
	return send_list(a, c);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void on_limit(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct client *client = w->data;
	(void)loop;
	(void)events;
	shutdown(client->fd, SHUT_RDWR); /* seen by epoll: libmicrohttpd closes it */
}

static void client_start(struct admin *a, struct client *client)
{
	ev_timer_stop(a->loop, &client->limit);
	ev_timer_set(&client->limit, ADMIN_REQUEST_S, 0.);
	ev_timer_start(a->loop, &client->limit);
}

static void on_connection(void *arg, struct MHD_Connection *c, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct admin *a = arg;
	struct client *client = *context;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		a->closed = true;
		if (client) {
			ev_timer_stop(a->loop, &client->limit);
			client->admin = NULL;
		}
		return;
	}
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (client = a->clients; client->admin; client++)
		if (client == a->clients + CONNECTIONS - 1)
			return; /* libmicrohttpd keeps its limit, so this does not happen */
	a->opened = true;
	*client = (struct client){.admin = a, .fd = info->connect_fd};
	ev_init(&client->limit, on_limit);
	client->limit.data = client;
	*context = client;
	client_start(a, client);
}

static void on_answered(void *arg, struct MHD_Connection *c, void **seen,
			enum MHD_RequestTerminationCode code)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	(void)code;
	*seen = NULL;
	if (info && info->socket_context)
		client_start(arg, info->socket_context);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Nobody connected, and yet again something to do: accept fails for want of descriptors. */
static bool cannot_accept(struct admin *a)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
	struct pollfd p = {.fd = a->io.fd, .events = POLLIN};
	if (a->opened || !info || info->num_connections > 0 || poll(&p, 1, 0) <= 0)
		a->fruitless = 0;
	else
		a->fruitless++;
	return a->fruitless > 2;
}

static void run(struct admin *a)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;
	double next = 0.;
	a->opened = a->closed = false;
	MHD_run(a->daemon);
	ev_timer_stop(a->loop, &a->timer);
	if (cannot_accept(a)) {
		ev_io_stop(a->loop, &a->io);
		next = ACCEPT_RETRY_S;
	} else {
		ev_io_start(a->loop, &a->io);
		/* After a connection was closed it listens again only in the next run, which no event might
		 * bring. */
		if (!a->closed && MHD_get_timeout(a->daemon, &ms) != MHD_YES)
			return;
		next = (double)ms / 1000.;
	}
	ev_timer_set(&a->timer, next, 0.);
	ev_timer_start(a->loop, &a->timer);
}

static void on_io(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	(void)events;
	run(w->data);
}

static void on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	run(w->data);
}

/* ---- the socket ------------------------------------------------------------------------------ */

static int complain(char why[256], int error, const char *listen_at, const char *text)
{
	snprintf(why, 256, "%.160s: %s", listen_at, text);
	return error;
}

/* Does anybody answer there?  A socket file outlives the process that made it. */
static bool is_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	bool stale = connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int bind_unix(int fd, const struct sockaddr_un *addr)
{
	if (bind(fd, (const struct sockaddr *)addr, sizeof *addr) == 0)
		return 0;
	int error = -errno;
	if (error != -EADDRINUSE || !is_stale(addr) || unlink(addr->sun_path) < 0)
		return error;
	return bind(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? -errno : 0;
}

static int listen_unix(struct admin *a, const char *listen_at, char why[256])
{
	const char *path = listen_at + strlen("unix:");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof addr.sun_path)
		return complain(why, -EINVAL, listen_at,
				n ? "path too long (107 bytes at most)" : "needs a path");
	memcpy(addr.sun_path, path, n);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return complain(why, -errno, listen_at, strerror(errno));
	fchmod(fd, 0600); /* before bind: the file never has another mode */
	int rc = bind_unix(fd, &addr);
	if (rc == 0 && (stat(path, &st) < 0 || listen(fd, CONNECTIONS) < 0))
		rc = -errno;
	if (rc < 0) {
		close(fd);
		return complain(why, rc, listen_at, strerror(-rc));
	}
	strcpy(a->path, path);
	a->dev = st.st_dev;
	a->ino = st.st_ino;
	snprintf(a->address, sizeof a->address, "%s", listen_at);
	return fd;
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24 == 127;
	const struct in6_addr *a6 = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(a6) || (IN6_IS_ADDR_V4MAPPED(a6) && a6->s6_addr[12] == 127);
}

/* A listening socket at one address, or -errno. */
static int listen_address(const struct addrinfo *ai)
{
	int on = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, CONNECTIONS) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static void note_address(struct admin *a, int fd)
{
	struct sockaddr_storage ss = {0};
	socklen_t n = sizeof ss;
	char host[64] = "", port[8] = "";
	getsockname(fd, (struct sockaddr *)&ss, &n);
	getnameinfo((struct sockaddr *)&ss, n, host, sizeof host, port, sizeof port,
		    NI_NUMERICHOST | NI_NUMERICSERV);
	a->loopback = is_loopback((struct sockaddr *)&ss);
	snprintf(a->numeric, sizeof a->numeric, ss.ss_family == AF_INET6 ? "[%s]" : "%s", host);
	snprintf(a->address, sizeof a->address, "%s:%s", a->numeric, port);
}

/* Take "host:port" or "[v6]:port" apart: a->host (with its brackets) and the port, or NULL. */
static const char *split_host(struct admin *a, const char *listen_at)
{
	const char *colon = strrchr(listen_at, ':');
	size_t n = colon ? (size_t)(colon - listen_at) : 0;
	bool v6 = n > 2 && listen_at[0] == '[' && listen_at[n - 1] == ']';
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
	if (n == 0 || n >= sizeof a->host || digits == 0 || digits > 5 || colon[1 + digits] ||
	    atoi(colon + 1) > 65535)
		return NULL;
	if (!v6 && (memchr(listen_at, ':', n) || memchr(listen_at, '[', n) || memchr(listen_at, ']', n)))
		return NULL;
	memcpy(a->host, listen_at, n);
	return colon + 1;
}

static int listen_tcp(struct admin *a, const char *listen_at, char why[256])
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE}, *list;
	char name[sizeof a->host];
	const char *port = split_host(a, listen_at);
	if (!port)
		return complain(why, -EINVAL, listen_at,
				"expected \"host:port\", \"[v6]:port\" or \"unix:/path\", port 0 to 65535");
	strcpy(name, a->host);
	if (name[1] && name[strlen(name) - 1] == '.') /* /etc/hosts has none */
		name[strlen(name) - 1] = '\0';
	if (name[0] == '[') {
		name[strlen(name) - 1] = '\0';
		memmove(name, name + 1, strlen(name));
		hints.ai_family = AF_INET6;
		hints.ai_flags |= AI_NUMERICHOST;
	}
	int rc = getaddrinfo(name, port, &hints, &list);
	if (rc != 0)
		return complain(why, -EADDRNOTAVAIL, listen_at, gai_strerror(rc));
	int fd = -EADDRNOTAVAIL;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		fd = listen_address(ai);
		if (fd != -EADDRNOTAVAIL &&
		    fd != -EAFNOSUPPORT) /* a busy port is no reason to take another address */
			break;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return complain(why, fd, listen_at, strerror(-fd));
	note_address(a, fd);
	return fd;
}

/* ---- interface ------------------------------------------------------------------------------- */

int admin_start(struct ev_loop *loop, const char *listen_at, const struct admin_page *pages, void *arg,
		char why[256], struct admin **out)
{
	struct admin *a = calloc(1, sizeof *a);
	if (!a)
		return complain(why, -ENOMEM, listen_at, strerror(ENOMEM));
	a->loop = loop;
	a->pages = pages;
	a->arg = arg;
	ev_init(&a->io, on_io);
	ev_init(&a->timer, on_timer);
	a->io.data = a->timer.data = a;
	bool is_unix = strncmp(listen_at, "unix:", 5) == 0;
	int fd = is_unix ? listen_unix(a, listen_at, why) : listen_tcp(a, listen_at, why);
	if (fd < 0) {
		admin_stop(a);
		return fd;
	}
	a->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, a, MHD_OPTION_LISTEN_SOCKET,
				     fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
				     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
				     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_IDLE_S,
				     MHD_OPTION_NOTIFY_CONNECTION, on_connection, a,
				     MHD_OPTION_NOTIFY_COMPLETED, on_answered, a, MHD_OPTION_END);
	if (!a->daemon) { /* has the socket been closed?  Not known, so it is left alone */
		admin_stop(a);
		return complain(why, -ENOMEM, listen_at, "the HTTP server could not be started");
	}
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	ev_io_set(&a->io, info->epoll_fd, EV_READ);
	run(a);
	*out = a;
	return 0;
}

const char *admin_address(const struct admin *a)
{
	return a->address;
}

void admin_stop(struct admin *a)
{
	struct stat st;
	if (!a)
		return;
	ev_io_stop(a->loop, &a->io);
	ev_timer_stop(a->loop, &a->timer);
	if (a->path[0] && stat(a->path, &st) == 0 && st.st_dev == a->dev && st.st_ino == a->ino)
		unlink(a->path);
	if (a->daemon)
		MHD_stop_daemon(a->daemon); /* closes the socket and all connections */
	free(a);
}
