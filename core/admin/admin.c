/* SPDX-License-Identifier: MIT */
/*
 * admin - libmicrohttpd without a thread of its own: its epoll descriptor and its next time limit are watched
 * by the control thread's loop, which calls MHD_run.
 */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <semstreams/base/strbuf.h>
#include "core/admin/admin.h"
#include "core/admin/admin_access.h"
#include "core/admin/admin_listen.h"
#include "core/admin/admin_origin.h"

#define CONNECTIONS       32
#define CONNECTION_MEMORY 16384
#define BODY_MAX          65536
#ifndef ADMIN_IDLE_S
#define ADMIN_IDLE_S    5    /* nothing read or written */
#define ADMIN_REQUEST_S 10.0 /* from connecting, or from the previous answer, to the end of the answer */
#endif
#define ACCEPT_RETRY_S 0.1 /* when descriptors have run out */

static const char shutting_down[] = "The program is shutting down\n";

/* One connection's time limit: libmicrohttpd's own starts anew with every byte. */
struct client {
	struct admin *admin; /* NULL = row unused */
	struct MHD_Connection *connection;
	struct ev_timer limit;
	int fd;
};

struct admin {
	struct admin_listener listener;
	struct ev_loop *loop;
	struct MHD_Daemon *daemon;
	struct ev_io io;
	struct ev_timer timer;
	const struct admin_page *pages[ADMIN_TABLES];
	void *arg;
	bool tls, knows_clients;
	const char *const *writers;
	size_t n_writers;
	struct admin_request *waiting; /* for admin_answer() */
	bool stopping;                 /* nothing begins any more */
	struct admin_stream *streams;
	unsigned n_streams, max_streams;
	bool opened;        /* a connection began during this run */
	unsigned fruitless; /* runs in which accept was wanted and failed */
	bool closed;        /* a connection ended during this run */
	struct client clients[CONNECTIONS];
};

struct admin_request {
	struct MHD_Connection *connection;
	const struct admin_page *page; /* NULL: there is none */
	bool post, head;
	unsigned refused;    /* the status, 0: it is not; told when the body has come */
	const char *refusal; /* the text of that */
	struct ss_strbuf body;
	struct admin *admin;
	struct admin_request *next; /* that waits; its connection is suspended */
	bool suspended;
	int status; /* of the answer to what began, 0: there is none yet */
	char *answer;
	size_t answer_len;
};

struct admin_stream {
	struct admin *admin;
	struct admin_stream *next;
	struct MHD_Connection *connection;
	struct ss_strbuf waiting;
	size_t sent;    /* of those that wait */
	bool suspended; /* nothing to send: the connection is not looked at */
	bool ended;
	void (*closed)(void *of);
	void *of;
};

/* ---- requests -------------------------------------------------------------------------------- */

static void add_headers(struct MHD_Response *r, const char *type)
{
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'self'; base-uri 'none'; form-action 'none'; "
				"frame-ancestors 'none'");
	MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
}

static enum MHD_Result send_body(struct MHD_Connection *c, unsigned status, const char *type, char *body,
				 size_t n, enum MHD_ResponseMemoryMode mode, const char *allow)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(n, body, mode);
	if (!r) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(body);
		return MHD_NO;
	}
	add_headers(r, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, allow);
	enum MHD_Result rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *text)
{
	return send_body(c, status, "text/plain; charset=utf-8", (char *)text, strlen(text),
			 MHD_RESPMEM_MUST_COPY, "GET, HEAD");
}

const char *admin_argument(const struct admin_request *r, const char *key)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, key);
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
	MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, look_at_argument, &s);
	return s.found;
}

const char *admin_body(const struct admin_request *r, size_t *len)
{
	*len = r->body.bytes ? r->body.len : 0;
	return *len ? r->body.bytes : "";
}

static enum MHD_Result send_page(const struct admin *a, struct admin_request *r)
{
	const struct admin_page *page = r->page;
	char *body = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&body, &size);
	if (!out)
		return refuse(r->connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "Out of memory\n");
	int status = r->post        ? page->act(a->arg, r, out)
		     : page->answer ? page->answer(a->arg, r, out)
				    : page->write(a->arg, out);
	bool bad = ferror(out);
	if (fclose(out) != 0 || bad || status < 200 || status > 599) {
		free(body);
		return refuse(r->connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
			      "This page could not be built\n");
	}
	return send_body(r->connection, (unsigned)status, page->content_type, body, size,
			 MHD_RESPMEM_MUST_FREE, "GET, HEAD");
}

/* ---- answers that take their time ------------------------------------------------------------ */

static enum MHD_Result send_answer(struct admin_request *r)
{
	char *body = r->answer;

	r->answer = NULL;
	if (r->status < 200 || r->status > 599) {
		free(body);
		return refuse(r->connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
			      "This page could not be built\n");
	}
	return send_body(r->connection, (unsigned)r->status, r->page->content_type, body, r->answer_len,
			 MHD_RESPMEM_MUST_FREE, NULL);
}

static void client_start(struct admin *a, struct client *client)
{
	ev_timer_stop(a->loop, &client->limit);
	ev_timer_set(&client->limit, ADMIN_REQUEST_S, 0.);
	ev_timer_start(a->loop, &client->limit);
}

static struct client *client_of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* It may last longer than a request may. */
static void let_it_last(struct admin *a, struct MHD_Connection *c)
{
	struct client *client = client_of(c);

	if (client)
		ev_timer_stop(a->loop, &client->limit);
}

/* Called again when the connection is resumed. */
static enum MHD_Result begin_page(struct admin *a, struct admin_request *r)
{
	if (r->status == 0)
		r->page->begin(a->arg, r);
	if (r->status)
		return send_answer(r);
	r->suspended = true;
	r->next = a->waiting;
	a->waiting = r;
	let_it_last(a, r->connection);
	MHD_suspend_connection(r->connection);
	return MHD_YES;
}

void admin_answer(struct admin_request *r, int status, char *body, size_t n)
{
	struct admin *a = r->admin;
	struct admin_request **at = &a->waiting;

	r->status = status ? status : MHD_HTTP_INTERNAL_SERVER_ERROR;
	r->answer = body;
	r->answer_len = n;
	if (!r->suspended)
		return;
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	r->suspended = false;
	if (client_of(r->connection)) /* the answer is to be taken in the time there is for a request */
		client_start(a, client_of(r->connection));
	MHD_resume_connection(r->connection);
	ev_feed_event(a->loop, &a->timer, EV_TIMER); /* it takes effect in the next run */
}

/* ---- the list of pages ----------------------------------------------------------------------- */

static enum MHD_Result send_list(const struct admin *a, struct MHD_Connection *c)
{
	char text[2048] = "Not found. Pages:";
	size_t n = strlen(text);
	for (size_t i = 0; i < ADMIN_TABLES; i++)
		for (const struct admin_page *p = a->pages[i]; p && p->path; p++)
			if (n + strlen(p->path) + 3 < sizeof text)
				n += (size_t)sprintf(text + n, " %s", p->path);
	strcpy(text + n, "\n");
	return refuse(c, MHD_HTTP_NOT_FOUND, text);
}

/* ---- streams --------------------------------------------------------------------------------- */

static ssize_t read_stream(void *of, uint64_t pos, char *buf, size_t size)
{
	struct admin_stream *s = of;
	size_t n = s->waiting.len - s->sent;
	(void)pos;
	if (n == 0 && s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		s->suspended = true;
		MHD_suspend_connection(s->connection);
		return 0;
	}
	n = n < size ? n : size;
	memcpy(buf, s->waiting.bytes + s->sent, n);
	s->sent += n;
	if (s->sent == s->waiting.len) {
		ss_strbuf_clear(&s->waiting);
		s->sent = 0;
	}
	return (ssize_t)n;
}

static void free_stream(void *of)
{
	struct admin_stream *s = of, **at = &s->admin->streams;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at) {
		*at = s->next;
		s->admin->n_streams--;
	}
	if (s->closed)
		s->closed(s->of);
	ss_strbuf_done(&s->waiting);
	free(s);
}

static void wake_stream(struct admin_stream *s)
{
	if (s->suspended) {
		s->suspended = false;
		MHD_resume_connection(s->connection);
		ev_feed_event(s->admin->loop, &s->admin->timer,
			      EV_TIMER); /* it takes effect in the next run */
	}
}

int admin_stream_write(struct admin_stream *s, const char *bytes, size_t n)
{
	if (s->ended || s->waiting.len - s->sent + n > ADMIN_STREAM_MAX)
		return -ENOBUFS;
	if (s->sent) { /* what was sent already is not to pile up */
		memmove(s->waiting.bytes, s->waiting.bytes + s->sent, s->waiting.len - s->sent);
		s->waiting.len -= s->sent;
		s->sent = 0;
	}
	ss_strbuf_add(&s->waiting, bytes, n);
	if (s->waiting.failed)
		admin_stream_end(s);
	wake_stream(s);
	return s->ended ? -ENOBUFS : 0;
}

void admin_stream_end(struct admin_stream *s)
{
	s->ended = true;
	wake_stream(s);
}

void admin_stream_watch(struct admin_stream *s, void (*closed)(void *of), void *of)
{
	s->closed = closed;
	s->of = of;
}

static enum MHD_Result open_stream(struct admin *a, struct admin_request *r)
{
	struct admin_stream *s;

	if (r->head)
		return send_body(r->connection, MHD_HTTP_OK, r->page->content_type, NULL, 0,
				 MHD_RESPMEM_PERSISTENT, NULL);
	if (a->n_streams >= a->max_streams)
		return refuse(r->connection, MHD_HTTP_SERVICE_UNAVAILABLE,
			      "As many streams are open as \"admin\": {\"max_streams\": ...} allows\n");
	s = calloc(1, sizeof *s);
	if (!s)
		return MHD_NO;
	*s = (struct admin_stream){.admin = a, .connection = r->connection, .next = a->streams};
	a->streams = s;
	a->n_streams++;
	int status = (r->post ? r->page->follow : r->page->open)(a->arg, r, s);
	if (status != MHD_HTTP_OK) {
		enum MHD_Result sent =
			refuse(r->connection, status < 400 || status > 599 ? 500 : (unsigned)status,
			       s->waiting.len ? ss_strbuf_cstr(&s->waiting) : "This stream was refused\n");
		free_stream(s);
		return sent;
	}
	struct MHD_Response *response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, s, free_stream);
	if (!response) {
		free_stream(s);
		return MHD_NO;
	}
	add_headers(response, r->page->content_type);
	let_it_last(a, r->connection);
	enum MHD_Result rc = MHD_queue_response(r->connection, MHD_HTTP_OK, response);
	MHD_destroy_response(response);
	return rc;
}

/* ---- what may be asked ----------------------------------------------------------------------- */

static const struct admin_page *find_page(const struct admin *a, const char *url)
{
	const char *path = admin_path_of(&a->listener, url);

	for (size_t i = 0; path && i < ADMIN_TABLES; i++)
		for (const struct admin_page *p = a->pages[i]; p && p->path; p++)
			if (strcmp(p->path, path) == 0)
				return p;
	return NULL;
}

static enum admin_visitor visitor_of(const struct admin *a, struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info;

	if (a->listener.is_unix) {
		info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
		return info && admin_peer_may_write(&a->listener, info->connect_fd) ? ADMIN_WRITER
										    : ADMIN_READER;
	}
	if (!a->knows_clients)
		return ADMIN_READER;
	info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	return info ? admin_visitor_of(info->tls_session, a->writers, a->n_writers) : ADMIN_UNKNOWN;
}

/* The size of what is to be posted; false: unknown or too much. */
static bool length_is_good(struct MHD_Connection *c, unsigned long most)
{
	const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		return false;
	return !length || (strlen(length) < 10 && strtoul(length, NULL, 10) <= most);
}

static bool takes_post(const struct admin_page *page)
{
	return page && (page->act || page->begin || page->follow);
}

/* The same of a request that may come from there: its method, its size, and whether it is allowed. */
static unsigned check_request(const struct admin *a, const struct admin_request *r, const char *method,
			      const char **text)
{
	bool reads = r->head || strcmp(method, MHD_HTTP_METHOD_GET) == 0;
	if (!reads && !(r->post && takes_post(r->page))) {
		*text = "Only GET and HEAD are served here\n";
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	if (reads && r->page && !r->page->write && !r->page->answer && !r->page->open) {
		*text = "Only POST is served here\n";
		return MHD_HTTP_METHOD_NOT_ALLOWED;
	}
	if (!length_is_good(r->connection, reads ? 0 : BODY_MAX)) {
		*text = reads ? "Requests with a body are not accepted\n"
			      : "A body of at most 64 KiB, whose length is told, is accepted\n";
		return MHD_HTTP_CONTENT_TOO_LARGE;
	}
	enum admin_visitor visitor = reads && !a->knows_clients ? ADMIN_READER : visitor_of(a, r->connection);
	if (visitor == ADMIN_UNKNOWN) {
		*text = "A client certificate is needed here, of a CA in \"admin\": {\"tls\": "
			"{\"client_ca_file\": ...}}\n";
		return MHD_HTTP_FORBIDDEN;
	}
	if (!reads && r->page->follow && !a->listener.is_unix) {
		*text = "Events are shown on the unix socket only: \"admin\": {\"socket\": ...}\n";
		return MHD_HTTP_FORBIDDEN;
	}
	if (!reads && visitor != ADMIN_WRITER) {
		*text = "Changes are not accepted from here: use the unix socket (\"admin\": {\"socket\": "
			"...}) as the user that runs the host, as root or as its socket_group, or a "
			"certificate whose name is in \"admin\": {\"tls\": {\"writers\": [...]}}\n";
		return MHD_HTTP_FORBIDDEN;
	}
	return 0;
}

/* The head of a request; an answer to it closes the connection. */
static enum MHD_Result on_head(struct admin *a, struct MHD_Connection *c, const char *url, const char *method,
			       const char *version, void **seen)
{
	struct admin_request *r = calloc(1, sizeof *r);
	const char *text;

	if (!r)
		return MHD_NO;
	*r = (struct admin_request){.admin = a,
				    .connection = c,
				    .page = find_page(a, url),
				    .post = strcmp(method, MHD_HTTP_METHOD_POST) == 0,
				    .head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0};
	*seen = r;
	unsigned status = admin_check_origin(&a->listener, a->tls, c, version, &text);
	if (status == 0)
		status = check_request(a, r, method, &text);
	if (status == 0)
		return MHD_YES;
	/* who still sends when the connection is closed may never see the answer */
	if (r->post && takes_post(r->page) && status != MHD_HTTP_CONTENT_TOO_LARGE &&
	    length_is_good(c, BODY_MAX)) {
		r->refused = status;
		r->refusal = text;
		return MHD_YES;
	}
	return send_body(c, status, "text/plain; charset=utf-8", (char *)text, strlen(text),
			 MHD_RESPMEM_MUST_COPY, takes_post(r->page) ? "POST" : "GET, HEAD");
}

/* Called with the head and, if that was not refused, with the body in pieces and once more. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *upload, size_t *upload_size, void **seen)
{
	struct admin *a = arg;
	struct admin_request *r = *seen;
	if (!r)
		return on_head(a, c, url, method, version, seen);
	if (*upload_size > 0) {
		if (!r->refused)
			ss_strbuf_add(&r->body, upload, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (r->body.failed)
		return MHD_NO;
	if (r->refused)
		return refuse(c, r->refused, r->refusal);
	if (a->stopping && !r->status)
		return refuse(c, MHD_HTTP_SERVICE_UNAVAILABLE, shutting_down);
	ss_strbuf_cstr(&r->body);
	if (!r->page)
		return send_list(a, c);
	if (r->post && r->page->begin)
		return begin_page(a, r);
	return (r->post ? r->page->follow : r->page->open) ? open_stream(a, r) : send_page(a, r);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void on_limit(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct client *client = w->data;
	(void)loop;
	(void)events;
	shutdown(client->fd, SHUT_RDWR); /* seen by epoll: libmicrohttpd closes it */
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
	*client = (struct client){.admin = a, .connection = c, .fd = info->connect_fd};
	ev_init(&client->limit, on_limit);
	client->limit.data = client;
	*context = client;
	client_start(a, client);
}

static void on_answered(void *arg, struct MHD_Connection *c, void **seen,
			enum MHD_RequestTerminationCode code)
{
	struct client *client = client_of(c);
	struct admin_request *r = *seen;
	(void)code;
	if (r) {
		ss_strbuf_done(&r->body);
		free(r->answer);
		free(r);
	}
	*seen = NULL;
	if (client)
		client_start(arg, client);
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

/* ---- interface ------------------------------------------------------------------------------- */

/* The daemon on a socket that listens; NULL: it could not be started. */
static struct MHD_Daemon *start_daemon(struct admin *a, const struct admin_tls *tls)
{
	const unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0u);
	struct MHD_OptionItem options[5] = {{MHD_OPTION_END, 0, NULL}};
	size_t n = 0;

	if (tls) {
		options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)tls->cert};
		options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)tls->key};
		options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
						       (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
		if (tls->ca)
			options[n++] =
				(struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, (void *)tls->ca};
		options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, a, MHD_OPTION_LISTEN_SOCKET, a->listener.fd,
				MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
				MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)ADMIN_IDLE_S,
				MHD_OPTION_NOTIFY_CONNECTION, on_connection, a, MHD_OPTION_NOTIFY_COMPLETED,
				on_answered, a, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

/* Who has files of these may write, if they are listed. */
static void set_tls(struct admin *a, const struct admin_tls *tls)
{
	a->tls = true;
	a->knows_clients = tls->ca != NULL;
	a->writers = tls->writers;
	a->n_writers = tls->n_writers;
}

/* Serve what comes to the listener; on failure it may have been closed, so it is not touched any more. */
static int serve(struct admin *a, const struct admin_tls *tls)
{
	ev_init(&a->io, on_io);
	ev_init(&a->timer, on_timer);
	a->io.data = a->timer.data = a;
	a->daemon = start_daemon(a, tls);
	if (!a->daemon)
		return -ENOMEM;
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	ev_io_set(&a->io, info->epoll_fd, EV_READ);
	run(a);
	return 0;
}

int admin_start(struct ev_loop *loop, const struct admin_settings *settings, void *arg, char why[256],
		struct admin **out)
{
	const struct admin_tls *tls = settings->tls;
	struct admin *a = calloc(1, sizeof *a);
	if (!a) {
		snprintf(why, 256, "%.160s: %s", settings->listen, strerror(ENOMEM));
		return -ENOMEM;
	}
	a->loop = loop;
	memcpy(a->pages, settings->pages, sizeof a->pages);
	a->arg = arg;
	a->max_streams = settings->max_streams;
	if (tls)
		set_tls(a, tls);
	int rc = admin_listen(&a->listener, settings->listen, settings->group, CONNECTIONS, why);
	if (rc < 0) {
		free(a);
		return rc;
	}
	rc = serve(a, tls);
	if (rc) {
		admin_stop(a);
		snprintf(why, 256, "%.160s: the HTTP server could not be started%s", settings->listen,
			 tls ? "; are certificate and key of admin.tls a pair?" : "");
		return rc;
	}
	*out = a;
	return 0;
}

/* Connections whose certificate is of none of these CAs end now. */
static int cut_strangers(struct admin *a, const char *ca)
{
	const union MHD_ConnectionInfo *info;
	struct admin_cas *cas;

	int rc = admin_cas_new(ca, &cas);
	if (rc)
		return rc;
	for (struct client *c = a->clients; c < a->clients + CONNECTIONS; c++) {
		if (!c->admin)
			continue;
		info = MHD_get_connection_info(c->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
		if (!info || !admin_cas_trust(cas, info->tls_session))
			shutdown(c->fd, SHUT_RDWR);
	}
	admin_cas_free(cas);
	return 0;
}

int admin_renew(struct admin *old, const struct admin_tls *tls, struct admin **out)
{
	struct admin *a = calloc(1, sizeof *a);
	const int fd = a ? fcntl(old->listener.fd, F_DUPFD_CLOEXEC, 0) : -1;
	int rc = fd < 0 ? -errno : 0;

	if (rc == 0) {
		a->listener = old->listener;
		a->listener.fd = fd;
		a->loop = old->loop;
		memcpy(a->pages, old->pages, sizeof a->pages);
		a->arg = old->arg;
		a->max_streams = old->max_streams;
		set_tls(a, tls);
		rc = serve(a, tls);
	}
	if (rc) {
		free(a);
		return rc;
	}
	close(MHD_quiesce_daemon(old->daemon));
	if (tls->ca && cut_strangers(old, tls->ca))
		old->stopping = true; /* nobody knows any more who they are */
	*out = a;
	return 0;
}

bool admin_is_idle(const struct admin *a)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return !info || info->num_connections == 0;
}

bool admin_owes_answer(const struct admin *a)
{
	return a->waiting != NULL;
}

const char *admin_address(const struct admin *a)
{
	return a->listener.address;
}

/* libmicrohttpd does not stop while connections are suspended. */
static void end_waiting(struct admin *a)
{
	a->stopping = true;
	while (a->waiting) {
		char *body = strdup(shutting_down);
		admin_answer(a->waiting, MHD_HTTP_SERVICE_UNAVAILABLE, body, body ? strlen(body) : 0);
	}
	for (struct admin_stream *s = a->streams; s; s = s->next)
		admin_stream_end(s);
	MHD_run(a->daemon);
}

void admin_stop(struct admin *a)
{
	if (!a)
		return;
	ev_io_stop(a->loop, &a->io);
	ev_timer_stop(a->loop, &a->timer);
	admin_unlisten(&a->listener);
	if (a->daemon) {
		end_waiting(a);
		MHD_stop_daemon(a->daemon); /* closes the socket and all connections */
	}
	ev_clear_pending(a->loop, &a->timer);
	free(a);
}
