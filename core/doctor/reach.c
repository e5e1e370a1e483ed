/* SPDX-License-Identifier: MIT */
/* reach - see reach.h. */
#include "core/doctor/reach.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/url.h>
#include <semstreams/ext/tls.h>
#include "core/admin/clock.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/doctor/channel.h"
#include "core/doctor/probes.h"

#define HEAD_MAX    8192 /* bytes of an answer that are looked at */
#define SKEW_WARN   5    /* seconds between two clocks */
#define SKEW_WRONG  60
#define ADDRESS_MAX 80

struct target {
	struct trust trust;
	char *url, *host, *port, *path, *authority;
	bool secure, websocket;
};

static void target_free(void *arg)
{
	struct target *t = arg;

	if (!t)
		return;
	for (char **ca = t->trust.ca; ca && *ca; ca++)
		free(*ca);
	free(t->trust.ca);
	free(t->trust.cert);
	free(t->trust.key);
	free(t->url);
	free(t->host);
	free(t->port);
	free(t->path);
	free(t->authority);
	free(t);
}

/* ---- the connection ---- */

static void add_no_name(struct probe *p, const struct target *t, int error)
{
	const char *remedy = "look at /etc/resolv.conf, and whether its name servers can be reached";

	if (error == EAI_NONAME || error == EAI_NODATA)
		findings_add(&p->found, FINDING_PROBLEM, "dns", p->subject,
			     "correct the name in the configuration, or enter it in the DNS or /etc/hosts",
			     "there is no host of the name %s", t->host);
	else if (error == EAI_AGAIN)
		findings_add(&p->found, FINDING_PROBLEM, "dns", p->subject, remedy,
			     "no name server answers when asked for %s", t->host);
	else
		findings_add(&p->found, FINDING_PROBLEM, "dns", p->subject, remedy,
			     "the name %s cannot be looked up: %s", t->host,
			     error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
}

static const char *show_address(char out[ADDRESS_MAX], const struct addrinfo *a)
{
	char host[64], port[8];

	if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV))
		snprintf(out, ADDRESS_MAX, "?");
	else
		snprintf(out, ADDRESS_MAX, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	return out;
}

/* Until the deadline of the channel: 0 or -errno. */
static int dial(struct channel *c, const struct addrinfo *a)
{
	int error = 0;
	socklen_t size = sizeof error;

	c->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	int rc = channel_wait(c, POLLOUT);
	if (rc == 0 && getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
		rc = -error;
	return rc;
}

static void add_not_reached(struct probe *p, const char *address, int error)
{
	const char *remedy =
		"look for a firewall and the route between the two, and whether the machine is up";

	if (error == ECONNREFUSED)
		findings_add(&p->found, FINDING_PROBLEM, "connect", p->subject,
			     "start what is to listen there, or correct host and port in the configuration",
			     "%s refuses the connection: nothing listens there", address);
	else
		findings_add(&p->found, FINDING_PROBLEM, "connect", p->subject, remedy, "%s: %s", address,
			     error == ETIMEDOUT ? "no answer" : strerror(error));
}

/* Each address in its turn, with its share of the time. */
static bool reach_one(struct probe *p, struct channel *c, const struct addrinfo *list)
{
	char address[ADDRESS_MAX] = "?";
	size_t left = 0;
	int rc = -EHOSTUNREACH;

	for (const struct addrinfo *a = list; a; a = a->ai_next)
		left++;
	p->doing = "connecting";
	for (const struct addrinfo *a = list; a && rc; a = a->ai_next, left--) {
		const uint64_t now = clock_now();
		const uint64_t rest = p->deadline_ns > now ? p->deadline_ns - now : 0;
		c->deadline_ns = now + rest / (left + 1); /* and one for what follows */
		show_address(address, a);
		rc = dial(c, a);
		if (rc && c->fd >= 0) {
			close(c->fd);
			c->fd = -1;
		}
	}
	c->deadline_ns = p->deadline_ns;
	if (rc)
		add_not_reached(p, address, -rc);
	else
		findings_add(&p->found, FINDING_OK, "connect", p->subject, NULL, "%s accepts the connection",
			     address);
	return rc == 0;
}

static bool connect_to(struct probe *p, const struct target *t, struct channel *c)
{
	const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;

	p->doing = "looking up the name";
	int error = getaddrinfo(t->host, t->port, &wanted, &list);
	if (error) {
		add_no_name(p, t, error);
		return false;
	}
	bool reached = reach_one(p, c, list);
	freeaddrinfo(list);
	return reached;
}

/* ---- the answer ---- */

static void compare_clocks(struct probe *p, const char *head, int64_t now)
{
	struct tm date = {0};
	const char *line = strcasestr(head, "\r\nDate:");

	if (!line || !strptime(line + 7 + strspn(line + 7, " "), "%a, %d %b %Y %H:%M:%S GMT", &date))
		return;
	const long long skew = (long long)timegm(&date) - now, size = skew < 0 ? -skew : skew;
	const char *side = skew < 0 ? "ahead of" : "behind";
	if (size > SKEW_WRONG)
		findings_add(&p->found, FINDING_PROBLEM, "clock", p->subject,
			     "timedatectl set-ntp true, on the machine whose clock is wrong",
			     "the clock of this machine is %lld:%02lld:%02lld hours %s that of the peer",
			     size / 3600, size / 60 % 60, size % 60, side);
	else if (size > SKEW_WARN)
		findings_add(&p->found, FINDING_WARNING, "clock", p->subject,
			     "timedatectl set-ntp true, on the machine whose clock is wrong",
			     "the clock of this machine is %lld seconds %s that of the peer", size, side);
	else
		findings_add(&p->found, FINDING_OK, "clock", p->subject, NULL,
			     "the clocks of this machine and of the peer agree");
}

static void add_no_answer(struct probe *p, const struct target *t, const struct channel *c, ssize_t n)
{
	bool refused;
	const char *why = channel_error(c, n, &refused);

	if (refused && t->trust.pending)
		findings_add(&p->found, FINDING_WARNING, "answer", p->subject, NULL,
			     "it wants a certificate of ours, which only the running host obtains");
	else if (refused)
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     t->trust.cert
				     ? "have the CA of our certificate in the ca_files of the peer, and "
				       "its name in allowed_client_cns there"
				     : "set cert_file and key_file, or a mode, in security.tls.client",
			     "it refuses our certificate: %s", why);
	else
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     "correct the port: something else may listen there; or look into the log of the "
			     "peer",
			     "no answer to a request: %s", why);
}

static void judge_answer(struct probe *p, const struct target *t, const char *head, bool trusted)
{
	const int status = strncmp(head, "HTTP/", 5) == 0 && strchr(head, ' ') ? atoi(strchr(head, ' ')) : 0;
	const bool known = trusted || !t->secure; /* the whole of the path was asked for */

	if (status == 0)
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     "correct the port: something else listens there", "what answers speaks no HTTP");
	else if (!known)
		return;
	else if (t->websocket && status == 404)
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     "correct the path of the URL: it is the option path of the peer",
			     "it knows no such path (404)");
	else if (!t->websocket && status >= 400)
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     status < 500 ? "correct the URL" : "look into the log of the CA",
			     "it answers with status %d", status);
	else
		findings_add(&p->found, FINDING_OK, "answer", p->subject, NULL,
			     "answers a request that takes nothing (status %d)", status);
}

/* A plain GET, which opens no stream and orders nothing; of who is not trusted only "/". */
static void ask(struct probe *p, const struct target *t, struct channel *c)
{
	char head[HEAD_MAX + 1] = "", request[2048];
	size_t len = 0;
	ssize_t n;

	p->doing = "waiting for an answer";
	snprintf(request, sizeof request,
		 "GET %.1200s HTTP/1.1\r\nHost: %.300s\r\nUser-Agent: semstreams-doctor\r\nConnection: "
		 "close\r\n\r\n",
		 c->trusted || !t->secure || t->trust.unverified ? t->path : "/", t->authority);
	n = channel_send(c, request, strlen(request));
	while (n >= 0 && len < HEAD_MAX && !strstr(head, "\r\n\r\n")) {
		n = channel_receive(c, head + len, HEAD_MAX - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		head[len] = '\0';
	}
	if (len == 0 && n < 0) {
		add_no_answer(p, t, c, n);
		return;
	}
	if (len == 0) {
		findings_add(&p->found, FINDING_WARNING, "answer", p->subject,
			     "look into the log of the peer", "it closes the connection without an answer");
		return;
	}
	judge_answer(p, t, head, c->trusted || t->trust.unverified);
	compare_clocks(p, head, (int64_t)(clock_wall() / 1000000000u));
}

static void examine(struct probe *p)
{
	const struct target *t = p->what;
	struct channel c = {.fd = -1, .deadline_ns = p->deadline_ns};

	if (connect_to(p, t, &c) && (!t->secure || channel_secure(&c, p, &t->trust, t->host)))
		ask(p, t, &c);
	channel_done(&c);
}

/* ---- whom there is to reach ---- */

/* Has the URL been taken apart?  -EINVAL: it is none that can be reached; -ENOMEM. */
static int read_url(struct target *t)
{
	const char *at = strstr(t->url, "://"), *end, *user, *close, *colon;

	if (!at)
		return -EINVAL;
	t->websocket = strncasecmp(t->url, "ws", 2) == 0;
	t->secure = strncasecmp(t->url, "wss:", 4) == 0 || strncasecmp(t->url, "https:", 6) == 0;
	at += 3;
	end = at + strcspn(at, "/?#");
	user = memrchr(at, '@', (size_t)(end - at));
	at = user ? user + 1 : at;
	close = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : NULL;
	colon = memrchr(close ? close : at, ':', (size_t)(end - (close ? close : at)));
	const char *host_end = close ? close : colon ? colon : end;
	const char *host = close ? at + 1 : at;
	if (host == host_end)
		return -EINVAL;
	t->host = strndup(host, (size_t)(host_end - host));
	t->authority = strndup(at, (size_t)(end - at));
	if (colon && colon + 1 < end)
		t->port = strndup(colon + 1, (size_t)(end - colon - 1));
	else
		t->port = strdup(t->secure ? "443" : "80");
	if (asprintf(&t->path, "%s%.*s", *end == '/' ? "" : "/", (int)strcspn(end, "#"), end) < 0)
		t->path = NULL;
	if (!t->host || !t->authority || !t->port || !t->path)
		return -ENOMEM;
	char *zone = strstr(t->host, "%25"); /* RFC 6874 */
	if (zone)
		memmove(zone + 1, zone + 3, strlen(zone + 3) + 1);
	return 0;
}

static int take_ca(struct trust *trust, const char *const *paths, size_t n)
{
	trust->ca = calloc(n + 1, sizeof *trust->ca);
	for (size_t i = 0; trust->ca && i < n; i++)
		if (!(trust->ca[i] = strdup(paths[i])))
			return -ENOMEM;
	return trust->ca ? 0 : -ENOMEM;
}

/* Does security.tls.client say whom the owner trusts?  For a provider only where it serves clients. */
static bool is_client(const struct config *config, const char *owner)
{
	for (size_t i = 0; i < TLS_ROLES; i++) {
		const struct config_component *c = &config->providers[i];
		if (c->id && owner && strcmp(c->id, owner) == 0)
			return c->tls_roles & 1u << SS_TLS_CLIENT;
	}
	return true;
}

/* ca: what stands behind " ca=", NULL if nothing does. */
static int set_trust(struct target *t, const struct config *config, const char *owner, const char *ca)
{
	const struct tls_role *role = &config->tls.roles[SS_TLS_CLIENT];
	struct trust *trust = &t->trust;
	const bool from_role = !ca && is_client(config, owner) && role->on;

	if (ca && strcmp(ca, "any") == 0)
		trust->unverified = true;
	else if (ca)
		return take_ca(trust, &ca, 1);
	trust->system_ca = !from_role || (!t->websocket && role->n_ca == 0) || role->flags & SS_TLS_SYSTEM_CA;
	if (!from_role)
		return 0;
	if (t->websocket) { /* those we show ourselves to; a CA is asked without */
		trust->unverified = role->flags & SS_TLS_INSECURE;
		trust->tls13_only = role->min_version == 0x0304;
		trust->pending = role->mode != NULL;
		if (role->cert.path && role->key.path && !role->mode) {
			trust->cert = strdup(role->cert.path);
			trust->key = strdup(role->key.path);
			if (!trust->cert || !trust->key)
				return -ENOMEM;
		}
	}
	return take_ca(trust, role->ca_paths, role->n_ca);
}

/* The text behind "reaches:". */
static int add_target(const struct config *config, struct probes *probes, const char *what, const char *owner)
{
	const char *blank = strchr(what, ' ');
	const char *ca = blank && strncmp(blank, " ca=", 4) == 0 ? blank + 4 : NULL;
	struct target *t = calloc(1, sizeof *t);
	char subject[512];

	if (!t)
		return -ENOMEM;
	t->url = strndup(what, strcspn(what, " "));
	int rc = t->url ? read_url(t) : -ENOMEM;
	if (rc == 0)
		rc = set_trust(t, config, owner, ca);
	if (rc) {
		target_free(t);
		return rc == -EINVAL ? 0 : rc;
	}
	ss_url_redact(t->url, subject, sizeof subject);
	return probes_add(probes, "connect", subject, examine, t, target_free);
}

int reach_probes(const struct config *config, struct probes *probes)
{
	const char *resource, *owner;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (resource = claims_at(config->claims, i, &owner)); i++)
		if (strncmp(resource, "reaches:", 8) == 0)
			rc = add_target(config, probes, resource + 8, owner);
	return rc;
}
