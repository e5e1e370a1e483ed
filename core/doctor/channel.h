/* SPDX-License-Identifier: MIT */
/* channel - a connection to a peer or a CA, with TLS or without, until a deadline.  Any thread, one at a
 * time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <gnutls/gnutls.h>

struct probe;

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

/* Shake hands as a client of host; what comes of it is added to the findings of the probe.  False: there is
 * nobody to talk to. */
bool channel_secure(struct channel *, struct probe *, const struct trust *, const char *host);
/* Send all of it: 0, or an error of channel_error(). */
int channel_send(struct channel *, const char *text, size_t len);
/* Bytes received, 0 at the end, or such an error. */
ssize_t channel_receive(struct channel *, char *out, size_t size);
/* What an error was; it refused our certificate if *refused. */
const char *channel_error(const struct channel *, ssize_t error, bool *refused);
/* Wait until the descriptor is ready for these events of poll(): 0, -ETIMEDOUT, -errno. */
int channel_wait(const struct channel *, short events);
void channel_done(struct channel *);
