/* SPDX-License-Identifier: MIT */
/*
 * connection - a component's connection to NATS servers: made in a thread of its own, as libnats waits while
 * it connects, then used on the component's loop, and made anew with another server when it is lost.  libnats
 * itself never reconnects, so that whoever publishes knows what went by which connection.  One thread, that
 * of the loop, but for what is said otherwise.
 */
#pragma once
#include <nats/nats.h>
#include <semstreams/plugin.h>
#include <semstreams/sugar.h>

/* Options that all components with such a connection have. */
#define NATS_MEMBERS                                                                                         \
	const char *servers, *user, *password, *token, *inbox_prefix;                                        \
	int64_t timeout, retry_max
#define NATS_OPTIONS(conf)                                                                                   \
	SS_OPT(conf, servers, SS_OPT_JSON, NULL,                                                             \
	       "URL of a server, or a list of them: nats://host[:port], or tls://host[:port] for TLS by "    \
	       "security.tls.client",                                                                        \
	       .flags = SS_OPT_REQUIRED, .schema = NATS_SERVERS_SCHEMA),                                     \
		SS_OPT(conf, user, SS_OPT_STRING, NULL, "name of a user of the servers"),                    \
		SS_OPT(conf, password, SS_OPT_STRING, NULL, "the user's password", .flags = SS_OPT_SECRET),  \
		SS_OPT(conf, token, SS_OPT_STRING, NULL, "token, for servers that ask for one",              \
		       .flags = SS_OPT_SECRET),                                                              \
		SS_OPT(conf, inbox_prefix, SS_OPT_STRING, "_INBOX",                                          \
		       "subject below which answers are received, for users that may not read all of "       \
		       "_INBOX"),                                                                            \
		SS_OPT(conf, timeout, SS_OPT_DURATION, "10s",                                                \
		       "longest time for a connection with its handshakes, and for each answer of a server", \
		       .min = INT64_C(1000000000), .max = INT64_C(300000000000)),                            \
		SS_OPT(conf, retry_max, SS_OPT_DURATION, "30s",                                              \
		       "longest wait between two attempts to connect", .min = INT64_C(100000000),            \
		       .max = INT64_C(3600000000000))
#define NATS_SERVERS_SCHEMA                                                                                  \
	"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"minItems\":1,"                              \
	"\"items\":{\"type\":\"string\"}}]}"
/* Of a conf struct with these members. */
#define NATS_SETTINGS(conf)                                                                                  \
	{                                                                                                    \
		.servers = (conf)->servers, .user = (conf)->user, .password = (conf)->password,              \
		.token = (conf)->token, .inbox_prefix = (conf)->inbox_prefix, .timeout = (conf)->timeout,    \
		.retry_max = (conf)->retry_max                                                               \
	}
struct nats_settings {
	NATS_MEMBERS;
	/* Of servers, for `semstreams check --connect`, and behind a blank what to do about older ones; NULL:
	 * any. */
	const char *min_version;
};

enum {
	NATS_WHY_MAX = 512,    /* bytes of an explanation for people, NUL included */
	NATS_BUFFER = 4 << 20, /* bytes that may wait to be sent: see nats_conn_room() */
	NATS_REQUESTS = 64     /* under way at once */
};

/* What the connection tells its owner, on the loop.  In any of them the owner may call any function but
 * nats_conn_stop() and nats_conn_free(). */
struct nats_handlers {
	/* A new connection.  Whatever went by an earlier one is answered no more. */
	void (*connected)(void *arg);
	/* It is lost, or could not be made; it is tried again by itself.  why is one for people. */
	void (*disconnected)(void *arg, const char *why);
	/*
	 * A message that came to the inbox.  token is what its subject has behind the inbox' prefix; NULL: it
	 * was sent to another subject and only delivered to the inbox, as those that were asked of a pull
	 * consumer are.  The message is the owner's: natsMsg_Destroy().
	 */
	void (*message)(void *arg, const char *token, natsMsg *);
	/* Nobody listens to a subject to which something with an answer was published; libnats does not say
	 * which.  NULL: as nats_conn_fail(). */
	void (*no_responders)(void *arg);
	/* All messages that had come together were given out.  May be NULL. */
	void (*batch_end)(void *arg);
};

struct nats_conn;

/* [ctl] In create.  settings and handlers are valid as long as the connection.  0; -EINVAL after
 * config_error(); -ENOMEM. */
int nats_conn_new(struct nats_conn **, const struct ss_host *, const struct nats_settings *,
		  const struct nats_handlers *, void *arg);
/* [ctl] NULL is allowed. */
void nats_conn_free(struct nats_conn *);
/* [inst] Connect, and stay so.  0, -ENOMEM, or -EAGAIN (no thread). */
int nats_conn_start(struct nats_conn *);
/* [inst] No handler is called any more. */
void nats_conn_stop(struct nats_conn *);

/* libnats' handle, to publish by; NULL while there is no connection.  Nothing that waits may be called. */
natsConnection *nats_conn_handle(const struct nats_conn *);
/* What answers are to be sent to, a token behind it: "_INBOX.x."; valid until disconnected(). */
const char *nats_conn_inbox(const struct nats_conn *);
/* May so many bytes be published now?  (OpenSSL wants what it could not send yet again from the same memory,
 * so what waits must not outgrow the buffer.)  If not: when writable() is called next. */
bool nats_conn_room(const struct nats_conn *, size_t bytes);
/* Have writable(arg) called, once, when what was published has left for the kernel. */
void nats_conn_on_room(struct nats_conn *, void (*writable)(void *arg));
/* The server that it is connected to, or tries to; for messages. */
const char *nats_conn_server(const struct nats_conn *);

/* The answer to a request: msg is borrowed; NULL: none came in time, or the connection was lost. */
typedef void nats_reply_fn(void *arg, natsMsg *msg);
/* Publish a request and have its answer given to reply.  0; -ENOTCONN; -EBUSY: NATS_REQUESTS are under way;
 * -EIO. */
int nats_conn_request(struct nats_conn *, const char *subject, const void *data, size_t len,
		      nats_reply_fn *reply, void *arg);

/* It is of no use: end it, call disconnected() and connect anew, after a wait that grows. */
void nats_conn_fail(struct nats_conn *, const char *why);
/* All is well: the next wait is a short one again. */
void nats_conn_good(struct nats_conn *);
