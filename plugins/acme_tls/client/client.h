/* SPDX-License-Identifier: MIT */
/*
 * client - what the parts of acme.h share: acme.c (errands), session.c (requests), account.c, order.c,
 * authorization.c, certificate.c and errand.c.  An errand is a chain of steps, each of which asks the CA or
 * waits and names the next step; whatever ends the errand calls its done, which may free the client, so
 * nothing may follow in a step.
 */
#pragma once
#include "acme.h"
#include "http.h"
#include "message.h"
#include "problem.h"
#include "responder.h"

#define SECOND     1000000000ull
#define NONCES     4 /* kept at most */
#define ALTERNATES 8 /* chains looked at beside the first */

typedef void acme_step(struct acme *);
/* problem NULL: the status is 2xx.  http->error: only to those who asked with may_break. */
typedef void acme_then(struct acme *, const struct http_reply *http, const struct problem *problem);

/* One request to the CA. */
struct ask {
	const char *what;           /* for metrics, a literal */
	const char *url;            /* copied */
	const char *payload;        /* copied; "": POST-as-GET; NULL: an unsigned GET */
	const char *accept;         /* a literal; NULL: JSON */
	const struct acme_key *key; /* NULL: the account's */
	bool by_jwk;                /* the key itself is sent, not the account's URL */
	bool may_break;             /* then is told when there is no answer; else the errand ends */
	unsigned repeat; /* so many more tries if the connection breaks or the CA has an error of its own */
	acme_then *then;
};

/* What is under way between the CA and us. */
struct session {
	struct http *http;
	struct http_call *call;
	char *nonces[NONCES]; /* the newest last */
	size_t n_nonces;
	struct ask ask;
	char *url, *payload; /* ask's */
	unsigned repeats, bad_nonces, waits;
	bool fetching_nonce, heard; /* heard: it has answered in this errand */
	uint64_t not_before;        /* monotonic ns; no request earlier: the CA said so */
	int64_t retry_after;        /* what the last answer said */
	bool has_directory;
	uint64_t directory_until; /* monotonic ns */
	struct message_directory directory;
};

struct errand {
	bool running, registering, restarted, told_skew;
	bool by_account;            /* needs one */
	bool known_key, looked_for; /* registering: the key may have an account; it has been looked for */
	const char *failure; /* the beginning of why: "failed to obtain certificate from ACME server" */
	char doing[320];     /* what is waited for, for when the time is up */
	char refused[400];   /* what the CA said to a key change */
	bool refused_for_good;
	acme_step *begin; /* when there are directory and account */
	void (*drop)(struct acme *,
		     const struct acme_result *); /* its end, before done; NULL: nothing to drop */
	acme_done *done;
	void *arg;
	uint64_t deadline; /* monotonic ns */
	unsigned requests, requests_max;
};

/* A proof of one name. */
struct proof {
	char *url, *challenge_url, *token;
	char name[MESSAGE_NAME_MAX + 1];
	enum proof_state {
		PROOF_NEW,
		PROOF_HELD,
		PROOF_POSTED,
		PROOF_DONE
	} state;         /* HELD: after another of this name */
	bool answering;  /* the responder has it */
	bool unsure;     /* what became of the last post is not known */
	bool post_again; /* it was tried, and another post makes the CA try again */
	unsigned posts;
	char trouble[512]; /* what the CA said last */
};

struct order {
	char *url, *finalize, *certificate;
	struct acme_key *key;
	char *key_text;
	bool resumed;   /* it is of an earlier run */
	bool plain;     /* without "replaces": the CA did not like it */
	bool announced; /* D9 and D10 */
	bool validating;
	unsigned finalizes;
	uint64_t poll; /* ns until the next look */
	unsigned polls;
	unsigned port_waits; /* for somebody else to let go of the port */
	size_t n_proofs;
	struct proof *proofs, *at; /* at: the one asked about */
	struct chain_info chain;   /* the CA's choice */
	bool has_chain;
	char *alternates[ALTERNATES];
	size_t n_alternates, next_alternate;
};

struct acme {
	struct acme_options o;
	struct session s;
	struct errand e;
	ev_timer wait, deadline;
	acme_step *after_wait;
	struct store_account account;
	bool has_account; /* account is filled: there is a key */
	bool told_account;
	struct acme_key *key, *new_key; /* of the account; the one that a roll-over brings */
	acme_step *after_account, *after_directory;
	void (*after_probe)(struct acme *, bool taken);
	struct responder *responder;
	struct order *order;
	char *old_ari_id, *old_key_text; /* of the certificate to be replaced */
	char *certificate_id;            /* of ARI */
	char *leaf;
	int reason;  /* to revoke: base64url */
	bool *freed; /* set while done runs and something is left to do */
};

/* ---- acme.c: errands */
uint64_t now_ns(void);
/* -EBUSY. */
int errand_start(struct acme *, const struct errand *);
/* From directory and account once more, as the CA has forgotten the account. */
void errand_restart(struct acme *);
void errand_end(struct acme *, struct acme_result *);
/* why is printed behind the words that tell what failed. */
void errand_fail(struct acme *, enum acme_fail, bool permanent, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The CA has said no. */
void errand_refused(struct acme *, const struct problem *);
void errand_doing(struct acme *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void errand_wait(struct acme *, uint64_t ns, acme_step *);
/* Waits as the last answer's Retry-After says, else ns; the errand ends if that is beyond its deadline. */
void errand_poll(struct acme *, uint64_t ns, acme_step *);
void acme_log(struct acme *, int32_t level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- session.c: requests */
void session_ask(struct acme *, const struct ask *);
/* There was no answer: ends the errand. */
void session_broken(struct acme *, const struct http_reply *);
int session_open(struct acme *, char *why, size_t why_size);
/* Nothing is under way afterwards; the directory stays if the errand went well. */
void session_close(struct acme *, bool well);
void session_directory(struct acme *, acme_step *);

/* ---- account.c */
/* Read it from the store; false: the errand has ended. */
bool account_load(struct acme *);
/* Have one that the CA knows. */
void account_ready(struct acme *, acme_step *);
/* The CA does not know it any more. */
void account_lost(struct acme *);
bool account_save(struct acme *);
void account_rollover(struct acme *);
void account_deactivate(struct acme *);

/* ---- order.c, authorization.c, certificate.c */
void order_begin(struct acme *);
void order_free(struct order *);
/* Retract all answers. */
void order_quiet(struct acme *);
/* Look at the order after a while. */
void order_poll(struct acme *);
void order_look(struct acme *);
/* All names are proven: send the request. */
void order_finalize(struct acme *);
/* It is of no use: forget it, and if it was an old one make a new one; else the errand fails. */
void order_useless(struct acme *, enum acme_fail, bool permanent, const char *why);
void order_drop(struct acme *, const struct acme_result *);
uint64_t order_poll_next(struct order *);
/* The names still to be proven, one after the other. */
void proofs_next(struct acme *);
bool proofs_take(struct acme *, const struct message_order *);
/* Look at all of them again. */
void proofs_again(struct order *);
void proofs_free(struct order *);
void certificate_get(struct acme *);
bool state_save_order(struct acme *, const char *url, const char *key_text, char *why, size_t why_size);
