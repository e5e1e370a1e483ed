/* SPDX-License-Identifier: MIT */
/*
 * client - one operation at a CA (RFC 8555, RFC 9773), in straight lines: each step asks the CA or waits and
 * returns when that is over; options->loop runs meanwhile, so that challenges are answered.  client.c holds
 * the operations and the account and calls order.c; both call session.c, and nobody calls back.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ev.h>
#include "http.h"
#include "message.h"
#include "plugins/identity/x509.h"
#include "plugins/identity/key.h"
#include "plugins/acme_tls/protocol.h"
#include "plugins/identity/store.h"
#include "responder.h"

#define SECOND     1000000000ull
#define POLL_FIRST (SECOND / 40)
#define NONCE_MAX  512
#define ALTERNATES 8 /* chains considered beside the CA's first */

/* Strings are borrowed as long as the client lives. */
struct client_options {
	struct ev_loop *loop;
	struct store *store;
	const char *directory_url, *email;
	const char *const *names;
	size_t n_names;
	enum acme_challenge challenge;
	const char *challenge_address;
	uint16_t challenge_port;
	const char *const *ca_files; /* to trust for the CA's own HTTPS; none: the system's pool */
	size_t n_ca_files;
	const char *eab_kid, *eab_mac; /* NULL: none */
	const char *profile;           /* NULL: the CA's default */
	const char *preferred_chain;   /* CN of the wanted root; NULL: the CA's default */
	bool reuse_key;
	uint64_t order_ns; /* deadline of an issue or renewal */
	/* A line for the log, finished "message key=value" as the guides have them; level SS_LOG_... */
	void (*log)(void *arg, int32_t level, const char *text);
	/* Each request that was made, for metrics. */
	void (*counted)(void *arg, const char *what);
	void *arg;
};

/* What to do; all but the operation's members are NULL. */
struct client_request {
	/*
	 * "issue": account (loaded, found or made), order, challenges, finalize, chain.  Resumes the order in
	 * the store if the CA still has it; the order stays in the store, for the owner of the store to
	 * remove when the certificate is saved.
	 * "revoke", "deactivate"
	 * "rollover": a new account key; survives a crash in any step (pending_key_pem in the store).
	 * "ari": OBTAIN_REFUSED with permanent: the CA has no ARI; retry_after: when to ask again.
	 */
	const char *operation;
	const char *old_ari_id, *old_key_pem; /* issue: "replaces" where the CA offers ARI; with reuse_key */
	const char *chain_pem;                /* revoke */
	int reason;                           /* RFC 5280 section 5.3.1 */
	const char *ari_id;
};

struct client;

/* Carries out the operation: client->result says how it went.  NULL: out of memory. */
struct client *client_run(const struct client_options *, const struct client_request *);
void client_free(struct client *);

/* ---- inside.  Steps return 0, or
 * -ECANCELED: the operation has failed, and client->result says how;
 * -ENOKEY: the CA does not know the account;
 * -ESTALE: the order of an earlier attempt is useless, a new one is needed. */

/* How to ask the CA.  Without one of the first two it is a POST of a payload. */
enum {
	ASK_GET = 1,        /* not signed */
	ASK_LOOK = 2,       /* POST-as-GET */
	ASK_BY_JWK = 4,     /* send the key itself, not the account's URL */
	ASK_MAY_REFUSE = 8, /* no problem is a failure */
	ASK_MAY_BREAK = 16, /* no answer is returned as reply.error; else the operation fails */
};

struct ask {
	unsigned how;
	enum message_kind expect; /* the document to be read into session.message */
	unsigned repeat;    /* so many more tries if the connection breaks or the CA has an internal error */
	const char *passes; /* the type of a problem that is no failure; NULL: none */
	const char *accept; /* NULL: JSON */
	const struct identity_key *key; /* NULL: the account's */
};

struct session {
	struct http *http;
	/* of the last request, valid until the next */
	struct http_reply reply;
	const struct problem *refusal; /* NULL: the status is 2xx, or there is no answer */
	json_t *message;               /* what was expected, if there is neither refusal nor error */

	struct problem problem;
	char nonce[NONCE_MAX + 1]; /* the newest; "": none */
	bool heard;                /* the CA has answered before */
	uint64_t not_before;       /* monotonic ns; the CA wants no request earlier */
	int64_t retry_after;       /* seconds, of the last answer; 0: none */
	bool has_skew;
	int64_t skew; /* the CA's clock minus ours, seconds */
	json_t *directory;
};

/* The proof that one name is ours. */
struct challenge {
	json_t *authorization; /* its URL */
	json_t *document;      /* of the challenge; NULL: not chosen yet */
	char name[MESSAGE_NAME_MAX + 1];
	enum challenge_state {
		CHALLENGE_NEW,
		CHALLENGE_HELD, /* until another one of this name is done */
		CHALLENGE_POSTED,
		CHALLENGE_DONE
	} state;
	bool answering;  /* the responder answers it */
	bool unsure;     /* the last post got no answer, the CA may have received it */
	bool post_again; /* the CA tried and failed; another post makes it try again */
	unsigned posts;
	char trouble[PROBLEM_TEXT]; /* what the CA said last */
};

struct order {
	char *url;
	json_t *document; /* as the CA told it last */
	struct identity_key *key;
	char *key_text;
	bool resumed;   /* it is of an earlier attempt */
	bool announced; /* "challenge server started" has been logged */
	bool validating;
	unsigned finalizes;
	uint64_t poll; /* ns until the next look */
	unsigned polls;
	unsigned port_waits; /* for another process to release the challenge port */
	size_t n_challenges;
	struct challenge *challenges;
	struct chain_info chain;
};

struct client {
	struct client_options o;
	struct client_request q;
	struct session s;
	struct store_account account; /* as in the store */
	struct identity_key *key;     /* of the account; NULL: none yet */
	struct identity_key *new_key; /* of a roll-over */
	struct responder *responder;
	struct order *order;
	/* the operation */
	const char *failure; /* begins the result's why: "revocation failed" */
	bool registering;
	bool account_confirmed; /* the CA has been asked whether it knows the account */
	char shown_url[256];    /* directory_url as messages have it */
	char doing[320];        /* what is waited for, for when the time is up */
	uint64_t deadline;      /* monotonic ns */
	unsigned requests, requests_max;
	char *ari_url;
	struct obtain_result result;
};

/* ---- session.c */
void client_log(struct client *, int32_t level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void client_doing(struct client *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The operation has failed; the text follows the words that say which operation.  -ECANCELED. */
int client_fail(struct client *, enum obtain_fail, bool permanent, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
int client_no_memory(struct client *);
/* The CA's answer makes no sense. */
#define client_broken(c, ...) client_fail(c, OBTAIN_BROKEN, false, __VA_ARGS__)
#define order_broken(c, ...)  order_useless(c, OBTAIN_BROKEN, false, __VA_ARGS__)
/* The CA has refused. */
int client_refused(struct client *, const struct problem *);
/* The order leads nowhere: -ESTALE if it is of an earlier attempt, else the operation fails. */
int order_useless(struct client *, enum obtain_fail, bool permanent, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Waits as long as the last answer's Retry-After says, else ns; fails if that is beyond the deadline. */
int client_poll(struct client *, uint64_t ns);
/* what: for metrics, a literal.  The payload is taken over. */
int session_ask(struct client *, const char *what, const char *url, json_t *payload, const struct ask *);
/* Look for the account of a key; NULL: ours. */
int session_find_account(struct client *, const struct identity_key *, bool may_fail);
/* Read the directory. */
int session_open(struct client *);
/* The end of the operation. */
void session_close(struct client *);

/* ---- order.c */
int order_issue(struct client *);
void order_free(struct order *);
