/* SPDX-License-Identifier: MIT */
/*
 * ws_tls - TLS of the transport: all that names OpenSSL.  Identity, trust and who is welcome come from struct
 * ss_tls; this file turns them into handshakes that succeed or fail with a reason.  On the component's loop.
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/tls.h>

struct ws_tls;

struct ws_tls_options {
	const struct ss_host *host;
	const struct ss_tls *api; /* NULL in a client: trust the system's pool */
	void *self;
	uint32_t role;
	const char *server_name; /* client: name or address to verify */
	/* Each refused handshake of a server, once; why is for the log. */
	void (*failed)(void *arg, const char *why);
	/* A server has sent an alert that ends the handshake, and its descriptor is about to be closed; may
	 * be NULL. */
	void (*alerted)(void *arg, int fd);
	/* There is a new identity. */
	void (*changed)(void *arg);
	void *arg;
};

/* 0, or -errno with the reason logged. */
int ws_tls_new(const struct ws_tls_options *, struct ws_tls **out);
/* After the last connection has gone; NULL is allowed. */
void ws_tls_free(struct ws_tls *);

/* Server: furnish the SSL_CTX that libwebsockets made; new material goes into it in place, for new
 * handshakes. */
int ws_tls_furnish(struct ws_tls *, void *ssl_ctx);
/* Client: an SSL_CTX of the newest generation; NULL with the reason logged. */
void *ws_tls_client_ctx(struct ws_tls *);
void ws_tls_ctx_free(void *ssl_ctx);
/* The first certificate is still to come. */
bool ws_tls_waits(const struct ws_tls *);
/* Have the server's context be of the newest generation, before on_change of the host comes round. */
void ws_tls_refresh(struct ws_tls *);

/* Has the client's context been made obsolete by a new generation? */
bool ws_tls_stale(const struct ws_tls *);

/*
 * Is the peer of a finished handshake (still) welcome?  0, with name filled in ("" without a certificate);
 * -EACCES with why; the refusal is counted.
 */
int ws_tls_check(struct ws_tls *, void *ssl, char *name, size_t name_size, char *why, size_t why_size);
/*
 * The same of an open connection, by the trust of now, which may not be that of its handshake; name as
 * ws_tls_check gave it, or NULL.  0, with *valid_until when to ask again (s since 1970, 0 = never); -EACCES
 * with why, which the host has counted.
 */
int ws_tls_recheck(struct ws_tls *, void *ssl, const char *name, int64_t *valid_until, char *why,
		   size_t why_size);
/* Server: the handshake is given up here; nothing of it is to be counted or told. */
void ws_tls_ignore(void *ssl);
/* The handshake was cut off here; true if it was not finished, so that a failure will be told. */
bool ws_tls_cut(struct ws_tls *, void *ssl, const char *why);

/* Client: forget what went wrong before; then why the handshake failed ("" = not by TLS), which counts it. */
void ws_tls_dialling(struct ws_tls *);
const char *ws_tls_why(struct ws_tls *);

/* Read from an open connection: bytes > 0, 0 = the peer has ended it, -EAGAIN, -EIO.  Ahead: take what the
 * kernel has, not just the record at hand, of which the head and the rest would be a call each. */
ssize_t ws_tls_read(void *ssl, void *buf, size_t size, bool ahead);
/* Tell the peer that nothing more comes. */
void ws_tls_end(void *ssl);
/* Was something taken from the kernel that was not read yet?  The descriptor tells nothing of it; it may be a
 * part of a record only. */
bool ws_tls_pending(void *ssl);

/* SHA-256 of bytes. */
void ws_tls_digest(const void *bytes, size_t len, uint8_t out[32]);
