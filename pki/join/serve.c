/* SPDX-License-Identifier: MIT */
/*
 * serve - takes tenants' requests over HTTPS, and hands out what has been approved.  It signs nothing and has
 * no CA's key: a request becomes a file, for a person to look at.  Each connection has a process of its own,
 * for a few seconds; what a stranger can grow is bounded: connections, bytes, files.
 */
#include "join.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <gnutls/gnutls.h>
#include <semstreams/base/file_atomic.h>
#include "message.h"
#include "pki/request.h"

enum {
	CONNECTIONS_MAX = 32,
	CONNECTION_SECONDS = 15,
	WAITING_MAX = 1000,     /* requests that are not approved */
	TENANT_WAITING_MAX = 4, /* of them, of one tenant */
	ID_SHOWN = 16,          /* digits of a key's SHA-256 in the name of a file */
	CRL_MAX = 64 << 20,     /* bytes, as much as hosts read */
	REQUEST_MAX = MESSAGE_HEADERS_MAX + MESSAGE_BODY_MAX,
};

struct server {
	const char *folder;
	int dir, listener, signals;
	struct key key;
	gnutls_certificate_credentials_t credentials;
	gnutls_priority_t priorities;
	struct ss_strbuf root; /* what /root/FINGERPRINT answers */
	char fingerprint[65];
	unsigned connections;
};

/* ---- answers ---- */

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *text;
	} all[] = {{200, "OK"},
		   {202, "Accepted"},
		   {400, "Bad Request"},
		   {403, "Forbidden"},
		   {404, "Not Found"},
		   {405, "Method Not Allowed"},
		   {411, "Length Required"},
		   {413, "Content Too Large"},
		   {429, "Too Many Requests"},
		   {431, "Request Header Fields Too Large"},
		   {501, "Not Implemented"}};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i].status == status)
			return all[i].text;
	return "Internal Server Error";
}

/* As step-ca words a failure. */
static int say(struct ss_strbuf *body, int status, const char *text)
{
	ss_strbuf_clear(body);
	ss_strbuf_printf(body, "{\"status\": %d, \"message\": ", status);
	ss_strbuf_json(body, text, strlen(text));
	ss_strbuf_text(body, "}\n");
	return status;
}

/* ---- requests that wait ---- */

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), n_end = strlen(end);

	return n > n_end && strcmp(text + n - n_end, end) == 0;
}

/* May another one wait? */
static bool has_room(const struct server *s, const char *tenant)
{
	DIR *d = opendir(s->folder);
	size_t all = 0, own = 0, n = strlen(tenant);
	char reply[300];

	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.' || !ends_with(e->d_name, ".csr"))
			continue;
		snprintf(reply, sizeof reply, "%.*s.json", (int)(strlen(e->d_name) - 4), e->d_name);
		if (faccessat(s->dir, reply, F_OK, 0) == 0)
			continue;
		all++;
		own += strlen(e->d_name) == n + 1 + ID_SHOWN + 4 && strncmp(e->d_name, tenant, n) == 0;
	}
	bool ok = d && all < WAITING_MAX && own < TENANT_WAITING_MAX;
	if (d)
		closedir(d);
	return ok;
}

static int keep(const struct server *s, const char *tenant, const char *name, const char *csr, const char *id,
		struct ss_strbuf *body)
{
	struct stat st;

	if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return say(body, 202, "it waits for the provider's approval");
	if (!has_room(s, tenant))
		return say(body, 429, "too many requests wait for approval");
	int rc = ss_file_write(s->dir, name, csr, strlen(csr), 0644);
	if (rc) {
		fprintf(stderr, "semstreams pki: %s/%s cannot be written: %s\n", s->folder, name,
			strerror(-rc));
		return say(body, 500, "the request cannot be kept");
	}
	printf("%s/%s: a request of \"%s\", whose key has the SHA-256 %s, waits for \"semstreams pki "
	       "approve\"\n",
	       s->folder, name, tenant, id);
	return say(body, 202, "it waits for the provider's approval");
}

static int join(const struct server *s, const struct message_request *m, struct ss_strbuf *body)
{
	struct request r = {0};
	struct fault f = {""};
	char *csr = NULL, *reply = NULL, id[65], name[128];
	size_t len = 0;
	int status, rc = message_csr(m->body, m->len, &csr, &f);

	if (rc == 0)
		rc = request_read(csr, strlen(csr), &r, &f);
	if (rc == 0 && strcmp(r.subject, m->name) != 0)
		rc = refuse(&f, "the subject of the request is not the tenant");
	if (rc) {
		free(csr);
		return rc == -ENOMEM ? say(body, 500, "out of memory") : say(body, 400, f.text);
	}
	key_fingerprint(r.public, id);
	snprintf(name, sizeof name, "%s-%.*s.json", m->name, ID_SHOWN, id);
	if (ss_file_read(s->dir, name, MESSAGE_MAX, &reply, &len, NULL) == 0) {
		ss_strbuf_add(body, reply, len);
		status = 200;
	} else {
		snprintf(name, sizeof name, "%s-%.*s.csr", m->name, ID_SHOWN, id);
		status = keep(s, m->name, name, csr, id, body);
	}
	free(reply);
	free(csr);
	request_done(&r);
	return status;
}

/* Lists are signed, so whoever has put a file there may publish it. */
static int publish(const struct server *s, const char *name, struct ss_strbuf *body)
{
	char *list;
	size_t len;

	if (!ends_with(name, ".crl") || ss_file_read(s->dir, name, CRL_MAX, &list, &len, NULL))
		return say(body, 404, "there is no revocation list of this name");
	ss_strbuf_add(body, list, len);
	free(list);
	return 200;
}

static int answer(const struct server *s, const struct message_request *m, struct ss_strbuf *body)
{
	switch (m->route) {
	case MESSAGE_JOIN:
		return join(s, m, body);
	case MESSAGE_ROOT:
		if (strcasecmp(m->name, s->fingerprint) != 0)
			return say(body, 404, "there is no root with this fingerprint");
		ss_strbuf_text(body, "{\"ca\": ");
		ss_strbuf_json(body, s->root.bytes, s->root.len);
		ss_strbuf_text(body, "}\n");
		return 200;
	case MESSAGE_CRL:
		return publish(s, m->name, body);
	default:
		ss_strbuf_text(body, "{\"status\": \"ok\"}\n");
		return 200;
	}
}

/* ---- a connection, in a process of its own: its socket's timeouts and alarm() end it ---- */

static bool send_all(gnutls_session_t tls, const struct ss_strbuf *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = gnutls_record_send(tls, b->bytes + at, b->len - at);
		if (n < 0 && !gnutls_error_is_fatal((int)n))
			continue;
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return !b->failed;
}

static int receive(gnutls_session_t tls, struct ss_strbuf *in, struct message_request *out)
{
	int status = -EAGAIN;

	while (status == -EAGAIN && in->len < REQUEST_MAX + 4) {
		char *room = ss_strbuf_room(in, 4096);
		ssize_t n = room ? gnutls_record_recv(tls, room, 4096) : -1;
		if (n < 0 && room && !gnutls_error_is_fatal((int)n))
			continue;
		if (n <= 0)
			return -ECONNRESET;
		in->len += (size_t)n;
		status = message_request_read(in->bytes, in->len, out);
	}
	return status == -EAGAIN ? 413 : status;
}

/* What is still on its way is read, lest the kernel take the answer back with a reset. */
static void close_gently(gnutls_session_t tls)
{
	char buf[4096];
	size_t most = 4 * REQUEST_MAX;
	ssize_t n;

	gnutls_bye(tls, GNUTLS_SHUT_WR);
	while ((n = gnutls_record_recv(tls, buf, sizeof buf)) > 0 && most > (size_t)n)
		most -= (size_t)n;
}

static void talk(const struct server *s, gnutls_session_t tls)
{
	struct ss_strbuf in = {0}, head = {0}, body = {0};
	struct message_request m;
	int status = receive(tls, &in, &m);

	if (status >= 0) {
		status = status ? say(&body, status, reason_of(status)) : answer(s, &m, &body);
		ss_strbuf_printf(&head,
				 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
				 "Connection: close\r\n\r\n",
				 status, reason_of(status),
				 status == 200 && m.route == MESSAGE_CRL ? "application/pkix-crl"
									 : "application/json",
				 body.len, status == 202 || status == 429 ? "Retry-After: 10\r\n" : "");
		if (send_all(tls, &head) && send_all(tls, &body))
			close_gently(tls);
	}
	ss_strbuf_done(&in);
	ss_strbuf_done(&head);
	ss_strbuf_done(&body);
}

static void serve_one(const struct server *s, int fd)
{
	gnutls_session_t tls;
	int rc;

	alarm(CONNECTION_SECONDS);
	if (gnutls_init(&tls, GNUTLS_SERVER))
		return;
	gnutls_priority_set(tls, s->priorities);
	gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, s->credentials);
	gnutls_certificate_server_set_request(tls, GNUTLS_CERT_IGNORE);
	gnutls_transport_set_int(tls, fd);
	do
		rc = gnutls_handshake(tls);
	while (rc < 0 && !gnutls_error_is_fatal(rc));
	if (rc == 0)
		talk(s, tls);
	gnutls_deinit(tls);
}

static void take_connection(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		close(s->listener);
		serve_one(s, fd);
		fflush(stdout);
		_exit(0);
	}
	if (pid > 0)
		s->connections++;
	close(fd);
}

/* ---- the server ---- */

static int load_pair(struct server *s, const struct options *o, struct fault *f)
{
	struct certificates chain = {0};
	gnutls_pcert_st pcerts[CHAIN_MAX];
	unsigned n = 0;
	int rc = key_load(o->words[2], &o->passphrase, &s->key, f);

	if (rc == 0)
		rc = certificates_load(o->words[1], &chain, f);
	if (rc == 0 && !certificate_is_for(chain.v[0], &s->key))
		rc = refuse(f, "%s: the certificate is for another key than %s", o->words[1], o->words[2]);
	while (rc == 0 && n < chain.n && n < CHAIN_MAX) {
		if (gnutls_pcert_import_x509(&pcerts[n], chain.v[n], 0))
			rc = -ENOMEM;
		else
			n++;
	}
	if (rc == 0 && gnutls_certificate_allocate_credentials(&s->credentials))
		rc = -ENOMEM;
	if (rc == 0) {
		int error =
			gnutls_certificate_set_key(s->credentials, NULL, 0, pcerts, (int)n, s->key.private);
		if (error < 0) {
			rc = refuse(f, "%s: it cannot be served with: %s", o->words[1],
				    gnutls_strerror(error));
		} else {
			/* the credentials' own from now on; what it is made of stays ours */
			s->key.private = NULL;
			n = 0;
		}
	}
	while (n)
		gnutls_pcert_deinit(&pcerts[--n]);
	certificates_done(&chain);
	return rc;
}

static int load_root(struct server *s, const char *path, struct fault *f)
{
	struct certificates roots;
	int rc = certificates_load(path, &roots, f);

	if (rc)
		return rc;
	certificate_fingerprint(roots.v[0], s->fingerprint);
	rc = certificate_pem(roots.v[0], &s->root);
	certificates_done(&roots);
	return rc;
}

/* "127.0.0.1:9443", "[::1]:9443", ":9443". */
static int listen_at(struct server *s, const char *where, struct fault *f)
{
	char host[256], shown[NI_MAXHOST], port[NI_MAXSERV];
	const char *colon = strrchr(where, ':');
	size_t len = colon ? (size_t)(colon - where) : 0;
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
	struct sockaddr_storage bound;
	socklen_t size = sizeof bound;
	bool brackets = len > 2 && where[0] == '[' && where[len - 1] == ']';

	if (!colon || !colon[1] || len >= sizeof host)
		return refuse(f, "--listen is an address and a port, like \"127.0.0.1:9443\", not \"%s\"",
			      where);
	snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), where + brackets);
	int rc = getaddrinfo(len ? host : NULL, colon + 1, &hints, &found);
	if (rc)
		return refuse(f, "--listen %s: %s", where, gai_strerror(rc));
	s->listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;
	if (s->listener < 0 || setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(s->listener, found->ai_addr, found->ai_addrlen) || listen(s->listener, CONNECTIONS_MAX) ||
	    getsockname(s->listener, (struct sockaddr *)&bound, &size))
		rc = refuse(f, "--listen %s: %s", where, strerror(errno));
	freeaddrinfo(found);
	if (rc == 0 && getnameinfo((struct sockaddr *)&bound, size, shown, sizeof shown, port, sizeof port,
				   NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
		printf(strchr(shown, ':') ? "https://[%s]:%s\n" : "https://%s:%s\n", shown, port);
		fflush(stdout);
	}
	return rc;
}

static int watch_signals(struct server *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? -errno : 0;
}

/* A renewed pair; with one that is no good the present one goes on. */
static void reload(struct server *s, const struct options *o)
{
	struct server fresh = {0};
	struct fault f;
	int rc = load_pair(&fresh, o, &f);

	if (rc) {
		failed(rc, &f);
	} else {
		struct server old = {.key = s->key, .credentials = s->credentials};
		s->key = fresh.key;
		s->credentials = fresh.credentials;
		fresh = old;
		printf("%s: served from now on\n", o->words[1]);
		fflush(stdout);
	}
	if (fresh.credentials)
		gnutls_certificate_free_credentials(fresh.credentials);
	key_done(&fresh.key);
}

/* Until it is told to stop; connections under way end by themselves. */
static void run(struct server *s, const struct options *o)
{
	struct pollfd fds[2] = {{.fd = s->signals, .events = POLLIN}, {.events = POLLIN}};

	for (;;) {
		struct signalfd_siginfo info;
		fds[1].fd = s->connections < CONNECTIONS_MAX ? s->listener : -1;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		while (read(s->signals, &info, sizeof info) == sizeof info)
			if (info.ssi_signo == SIGHUP)
				reload(s, o);
			else if (info.ssi_signo != SIGCHLD)
				return;
		while (s->connections && waitpid(-1, NULL, WNOHANG) > 0)
			s->connections--;
		if (fds[1].fd >= 0 && fds[1].revents)
			take_connection(s);
	}
}

int join_serve(const struct options *o)
{
	struct server s = {.folder = o->words[0], .dir = -1, .listener = -1, .signals = -1};
	struct fault f;

	if (!o->roots)
		return wrong_usage(
			"--roots is needed: the provider's root, which tenants fetch by its fingerprint");
	int rc = load_root(&s, o->roots, &f);
	if (rc == 0)
		rc = load_pair(&s, o, &f);
	if (rc == 0 &&
	    gnutls_priority_init(&s.priorities, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL))
		rc = -ENOMEM;
	if (rc == 0 && (s.dir = open(s.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		rc = refuse(&f, "%s: the folder for requests: %s", s.folder, strerror(errno));
	if (rc == 0 && watch_signals(&s))
		rc = refuse(&f, "signals cannot be waited for: %s", strerror(errno));
	if (rc == 0)
		rc = listen_at(&s, o->listen ? o->listen : "127.0.0.1:9443", &f);
	if (rc == 0)
		run(&s, o);
	if (s.credentials)
		gnutls_certificate_free_credentials(s.credentials);
	key_done(&s.key);
	if (s.priorities)
		gnutls_priority_deinit(s.priorities);
	const int fds[] = {s.dir, s.listener, s.signals};
	for (size_t i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	ss_strbuf_done(&s.root);
	return rc ? failed(rc, &f) : 0;
}
