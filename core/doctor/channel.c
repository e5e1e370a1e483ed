/* SPDX-License-Identifier: MIT */
/* channel - see channel.h. */
#include "core/doctor/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/admin/clock.h"
#include "core/doctor/probes.h"
#include "core/tls/cert.h"

/* Errors are -errno, or those of GnuTLS, which are farther from 0. */
#define LEAST_ERRNO  (-4096)
#define OF_GNUTLS(e) (LEAST_ERRNO + (int)(e))

static const char set_clock[] =
	"compare the clocks of both machines with `date -u`; if this one is wrong, timedatectl set-ntp true";

int channel_wait(const struct channel *c, short events)
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

int channel_send(struct channel *c, const char *text, size_t len)
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

ssize_t channel_receive(struct channel *c, char *out, size_t size)
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

const char *channel_error(const struct channel *c, ssize_t error, bool *refused)
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

void channel_done(struct channel *c)
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

bool channel_secure(struct channel *c, struct probe *p, const struct trust *trust, const char *host)
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
