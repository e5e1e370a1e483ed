/* SPDX-License-Identifier: MIT */
/* reach - see reach.h. */
#include "core/doctor/reach.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <gnutls/gnutls.h>
#include <semstreams/base/url.h>
#include <semstreams/ext/tls.h>
#include "core/admin/clock.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/doctor/probes.h"
#include "core/tls/cert.h"

/* ---- the channel: a connection with TLS or without, until a deadline ---- */

/* Whom to trust, and who we are; all texts are the owner's. */
struct trust {
	char **ca; /* paths, NULL-ended; NULL: none */
	char *cert, *key;
	bool system_ca;
	bool unverified; /* whoever answers is believed */
	bool pending;    /* our certificate is another one's to bring, and is not at hand */
	bool tls13_only;
};

struct channel {
	int fd; /* non-blocking; the channel's */
	uint64_t deadline_ns;
	gnutls_session_t session; /* NULL: without TLS */
	gnutls_certificate_credentials_t credentials;
	bool trusted; /* the certificate is good */
};

/* Errors are -errno, or those of GnuTLS, which are farther from 0. */
#define LEAST_ERRNO  (-4096)
#define OF_GNUTLS(e) (LEAST_ERRNO + (int)(e))

static const char set_clock[] =
	"compare the clocks of both machines with `date -u`; if this one is wrong, timedatectl set-ntp true";

/* Wait until the descriptor is ready for these events of poll(): 0, -ETIMEDOUT, -errno. */
static int channel_wait(const struct channel *c, short events)
{
	struct pollfd wanted = {.fd = c->fd, .events = events};
	const uint64_t now = clock_now();

	if (now >= c->deadline_ns)
		return -ETIMEDOUT;
	int n = poll(&wanted, 1, (int)((c->deadline_ns - now) / 1000000) + 1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

/* After a call that has to be made again: 0, or an error. */
static int again(const struct channel *c, int error)
{
	if (error == GNUTLS_E_INTERRUPTED || !gnutls_error_is_fatal(error)) {
		if (error != GNUTLS_E_AGAIN && error != GNUTLS_E_INTERRUPTED)
			return 0;
		return channel_wait(c, gnutls_record_get_direction(c->session) ? POLLOUT : POLLIN);
	}
	return OF_GNUTLS(error);
}

/* Send all of it: 0, or an error of channel_error(). */
static int channel_send(struct channel *c, const char *text, size_t len)
{
	int rc = 0;

	while (rc == 0 && len) {
		ssize_t n = c->session ? gnutls_record_send(c->session, text, len)
				       : send(c->fd, text, len, MSG_NOSIGNAL);
		if (n >= 0) {
			text += n;
			len -= (size_t)n;
		} else if (c->session) {
			rc = again(c, (int)n);
		} else {
			rc = errno == EAGAIN ? channel_wait(c, POLLOUT) : errno == EINTR ? 0 : -errno;
		}
	}
	return rc;
}

/* Bytes received, 0 at the end, or such an error. */
static ssize_t channel_receive(struct channel *c, char *out, size_t size)
{
	for (;;) {
		int rc;
		ssize_t n =
			c->session ? gnutls_record_recv(c->session, out, size) : recv(c->fd, out, size, 0);
		if (n >= 0)
			return n;
		if (n == GNUTLS_E_PREMATURE_TERMINATION && c->session)
			return 0;
		if (c->session)
			rc = again(c, (int)n);
		else
			rc = errno == EAGAIN ? channel_wait(c, POLLIN) : errno == EINTR ? 0 : -errno;
		if (rc)
			return rc;
	}
}

/* What an error was; it refused our certificate if *refused. */
static const char *channel_error(const struct channel *c, ssize_t error, bool *refused)
{
	*refused = false;
	if (error == -ETIMEDOUT)
		return "nothing came in time";
	if (error >= LEAST_ERRNO)
		return strerror((int)-error);
	error -= LEAST_ERRNO;
	if (error != GNUTLS_E_FATAL_ALERT_RECEIVED)
		return gnutls_strerror((int)error);
	gnutls_alert_description_t alert = gnutls_alert_get(c->session);
	*refused = alert == GNUTLS_A_BAD_CERTIFICATE || alert == GNUTLS_A_UNKNOWN_CA ||
		   alert == GNUTLS_A_CERTIFICATE_EXPIRED || alert == GNUTLS_A_CERTIFICATE_REVOKED ||
		   alert == GNUTLS_A_CERTIFICATE_UNKNOWN || alert == GNUTLS_A_UNSUPPORTED_CERTIFICATE ||
		   alert == GNUTLS_A_ACCESS_DENIED || alert == GNUTLS_A_HANDSHAKE_FAILURE ||
		   alert == GNUTLS_A_CERTIFICATE_REQUIRED;
	const char *name = gnutls_alert_get_name(alert);
	return name ? name : "an alert";
}

static void channel_done(struct channel *c)
{
	if (c->session)
		gnutls_deinit(c->session);
	if (c->credentials)
		gnutls_certificate_free_credentials(c->credentials);
	if (c->fd >= 0)
		close(c->fd);
	*c = (struct channel){.fd = -1};
}

/* ---- the handshake ---- */

/* Files that cannot be read were told of by whoever checked the configuration; a CA's bundle was not. */
static void load_trust(struct channel *c, struct probe *p, const struct trust *trust)
{
	if (trust->system_ca)
		gnutls_certificate_set_x509_system_trust(c->credentials);
	for (char **ca = trust->ca; ca && *ca; ca++) {
		int n = gnutls_certificate_set_x509_trust_file(c->credentials, *ca, GNUTLS_X509_FMT_PEM);
		if (n <= 0)
			findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject,
				     "put the PEM file of the CA's root certificate there",
				     "the file of CAs %s cannot be used: %s", *ca,
				     access(*ca, R_OK) < 0 ? strerror(errno)
				     : n < 0               ? gnutls_strerror(n)
							   : "it has no certificate");
	}
	if (trust->cert && trust->key)
		gnutls_certificate_set_x509_key_file(c->credentials, trust->cert, trust->key,
						     GNUTLS_X509_FMT_PEM);
}

static int prepare(struct channel *c, struct probe *p, const struct trust *trust, const char *host)
{
	unsigned char address[16];
	int rc = gnutls_certificate_allocate_credentials(&c->credentials);

	if (rc)
		return rc;
	load_trust(c, p, trust);
	rc = gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (rc)
		return rc;
	rc = gnutls_priority_set_direct(c->session,
					trust->tls13_only ? "NORMAL:-VERS-ALL:+VERS-TLS1.3"
							  : "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
					NULL);
	if (rc == 0)
		rc = gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
	if (rc == 0 && inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1)
		rc = gnutls_server_name_set(c->session, GNUTLS_NAME_DNS, host, strlen(host));
	gnutls_transport_set_int(c->session, c->fd);
	return rc;
}

/* The leaf that was shown; NULL: none. */
static gnutls_x509_crt_t leaf_of(const struct channel *c)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(c->session, &n);
	gnutls_x509_crt_t leaf = NULL;

	if (!chain || n == 0 || cert_from_der(chain[0].data, chain[0].size, &leaf) < 0)
		return NULL;
	return leaf;
}

static void add_verdict(struct probe *p, gnutls_x509_crt_t leaf, unsigned status, const char *host)
{
	char subject[CERT_SHOWN], issuer[CERT_SHOWN], from[CERT_SHOWN], to[CERT_SHOWN], remedy[600];

	cert_show_subject(subject, leaf);
	cert_show_issuer(issuer, leaf);
	cert_show_time(from, cert_not_before(leaf));
	cert_show_time(to, cert_not_after(leaf));
	if (status & GNUTLS_CERT_NOT_ACTIVATED)
		findings_add(&p->found, FINDING_PROBLEM, "clock", p->subject, set_clock,
			     "its certificate %s is not valid before %s: either clock may be wrong", subject,
			     from);
	else if (status & GNUTLS_CERT_EXPIRED)
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject,
			     "renew it on the peer; if it is not due, compare the clocks with `date -u`",
			     "its certificate %s has expired at %s", subject, to);
	else if (status & GNUTLS_CERT_REVOKED)
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, "issue another one on the peer",
			     "its certificate %s is revoked", subject);
	else if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA))
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject,
			     "put the root of that CA into the files of CAs (ca_files, ca_bundle)",
			     "its certificate %s is by %s, whom nothing here vouches for", subject, issuer);
	else if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
		snprintf(remedy, sizeof remedy,
			 "write the name that the certificate has into the URL, or issue it for %.300s",
			 host);
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, remedy,
			     "its certificate %s is not for the name %s", subject, host);
	} else
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, "issue another one on the peer",
			     "its certificate %s cannot be trusted (status 0x%x of GnuTLS)", subject, status);
}

static void judge(struct channel *c, struct probe *p, const struct trust *trust, const char *host)
{
	gnutls_x509_crt_t leaf = leaf_of(c);
	char subject[CERT_SHOWN], to[CERT_SHOWN];
	unsigned status = 0;

	if (!leaf) {
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, "issue another one on the peer",
			     "it shows no certificate that can be read");
		return;
	}
	cert_show_subject(subject, leaf);
	cert_show_time(to, cert_not_after(leaf));
	const int rc = trust->unverified ? 0 : gnutls_certificate_verify_peers3(c->session, host, &status);
	c->trusted = !trust->unverified && rc == 0 && status == 0;
	if (trust->unverified)
		findings_add(&p->found, FINDING_OK, "tls", p->subject, NULL,
			     "shows the certificate %s, valid until %s, which is not verified here", subject,
			     to);
	else if (rc)
		findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, "issue another one on the peer",
			     "its certificate %s cannot be verified: %s", subject, gnutls_strerror(rc));
	else if (status)
		add_verdict(p, leaf, status, host);
	else
		findings_add(&p->found, FINDING_OK, "tls", p->subject, NULL,
			     "certificate %s, good for %s until %s", subject, host, to);
	gnutls_x509_crt_deinit(leaf);
}

static void add_no_handshake(struct channel *c, struct probe *p, int rc)
{
	const int error = rc - LEAST_ERRNO;
	const char *remedy = "look into the log of the peer";
	bool refused;

	if (rc <= LEAST_ERRNO &&
	    (error == GNUTLS_E_UNEXPECTED_PACKET_LENGTH || error == GNUTLS_E_UNEXPECTED_PACKET ||
	     error == GNUTLS_E_UNSUPPORTED_VERSION_PACKET || error == GNUTLS_E_RECORD_OVERFLOW))
		remedy = "correct the port, or the scheme: what listens there speaks no TLS (ws:// or "
			 "http://)";
	else if (rc == -ETIMEDOUT)
		remedy = "correct the port: something else may listen there; or look at the load of the peer";
	findings_add(&p->found, FINDING_PROBLEM, "tls", p->subject, remedy, "the TLS handshake fails: %s",
		     channel_error(c, rc, &refused));
}

/* Shake hands as a client of host; what comes of it is added to the findings of the probe.  False: there is
 * nobody to talk to. */
static bool channel_secure(struct channel *c, struct probe *p, const struct trust *trust, const char *host)
{
	int rc = prepare(c, p, trust, host);

	rc = rc ? OF_GNUTLS(rc) : 0;
	p->doing = "the TLS handshake";
	for (bool done = false; rc == 0 && !done;) {
		const int error = gnutls_handshake(c->session);
		done = error == 0;
		rc = done ? 0 : again(c, error);
	}
	if (rc) {
		add_no_handshake(c, p, rc);
		return false;
	}
	judge(c, p, trust, host);
	return true;
}

/* ---- what is reached ---- */

#define HEAD_MAX    8192 /* bytes of an answer that are looked at */
#define SKEW_WARN   5    /* seconds between two clocks */
#define SKEW_WRONG  60
#define ADDRESS_MAX 80

struct target {
	struct trust trust;
	char *url, *host, *port, *path, *authority;
	char *version; /* the least one, of a server of NATS, and behind a blank what to do; NULL: any */
	bool secure, websocket, nats;
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
	free(t->version);
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

/* The number behind so many dots. */
static long version_part(const char *text, int dots)
{
	for (; text && dots > 0; dots--) {
		text = strchr(text, '.');
		text += text != NULL;
	}
	return text ? strtol(text, NULL, 10) : 0;
}

static bool is_older(const char *version, const char *least)
{
	const long major = version_part(version, 0), wanted = version_part(least, 0);

	return major < wanted || (major == wanted && version_part(version, 1) < version_part(least, 1));
}

/* What a server of NATS says of itself, before any TLS. */
static void judge_greeting(struct probe *p, const struct target *t, const char *info)
{
	const char *found = strstr(info, "\"version\":\"");
	char version[32] = "?";

	if (found)
		snprintf(version, sizeof version, "%.*s", (int)strcspn(found + 11, "\""), found + 11);
	if (strncmp(info, "INFO {", 6) != 0)
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     "correct the port: something else listens there", "what answers speaks no NATS");
	else if (t->version && is_older(version, t->version))
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     strchr(t->version, ' ') ? strchr(t->version, ' ') + 1 : "take a newer server",
			     "the server is NATS %s, and the component needs %.*s", version,
			     (int)strcspn(t->version, " "), t->version);
	else if (!strstr(info, "\"jetstream\":true"))
		findings_add(&p->found, FINDING_PROBLEM, "answer", p->subject,
			     "enable it there: jetstream { store_dir: ... }",
			     "the server (%s) has no JetStream", version);
	else
		findings_add(&p->found, FINDING_OK, "answer", p->subject, NULL, "NATS %s with JetStream",
			     version);
}

static void hear_greeting(struct probe *p, const struct target *t, struct channel *c)
{
	char info[HEAD_MAX + 1] = "";
	size_t len = 0;
	ssize_t n = 0;

	p->doing = "waiting for a greeting";
	while (len < HEAD_MAX && !strchr(info, '\n')) {
		n = channel_receive(c, info + len, HEAD_MAX - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		info[len] = '\0';
	}
	if (len == 0 && n < 0)
		add_no_answer(p, t, c, n);
	else
		judge_greeting(p, t, info);
}

static void examine(struct probe *p)
{
	const struct target *t = p->what;
	struct channel c = {.fd = -1, .deadline_ns = p->deadline_ns};

	if (connect_to(p, t, &c) && (!t->secure || channel_secure(&c, p, &t->trust, t->host))) {
		if (t->nats)
			hear_greeting(p, t, &c);
		else
			ask(p, t, &c);
	}
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
	t->nats = strncasecmp(t->url, "nats:", 5) == 0 || strncasecmp(t->url, "tls:", 4) == 0;
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
		t->port = strdup(t->nats ? "4222" : t->secure ? "443" : "80");
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
	if (rc == 0 && blank && strncmp(blank, " version=", 9) == 0 && !(t->version = strdup(blank + 9)))
		rc = -ENOMEM;
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
