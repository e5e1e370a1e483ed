/* SPDX-License-Identifier: MIT */
/*
 * helper_ca - a CA for tests of the client, in place of http.c and the responders: no socket, and time runs
 * faster.  It does what RFC 8555 says unless a test's hooks make it do otherwise.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <ev.h>
#include <jansson.h>
#include "plugins/acme_tls/client/client.h"

#define CA_SPEED   100 /* seconds of the client per second of waiting */
#define CA_ORDERS  16
#define CA_NAMES   8
#define CA_LOG     400
#define CA_LINES   200
#define CA_URL     "https://ca.example"
#define CA_PROBLEM "urn:ietf:params:acme:error:"

/* One request and its answer. */
struct exchange {
	const char *kind; /* "newOrder", "authorization", ... */
	const char *method, *url, *accept;
	int number;      /* of the order or authorization the URL is of */
	json_t *header;  /* the signature's; NULL: not signed */
	json_t *payload; /* NULL: POST-as-GET or not signed */
	int error;       /* to be set: there is no answer */
	bool silent;     /* to be set: there never is one */
	long status;
	json_t *json; /* body */
	char *text;   /* body, if not NULL */
	size_t len;   /* of text, 0: up to its end */
	bool no_nonce;
	char location[200], retry_after[80], content_type[80], date[80], link[300];
};

struct ca_authorization {
	const char *status, *challenge_status;
	char name[64];
	json_t *error;
	int posts, looks;
};

struct ca_order {
	const char *status;
	json_t *identifiers;
	struct ca_authorization authorizations[CA_NAMES];
	size_t n;
	char *chain;
	int looks;
};

struct ca {
	struct ev_loop *loop;
	struct store *store;
	struct client_options options;
	char folder[64];
	/* what it has */
	json_t *account; /* the JWK of the one account */
	const char *account_status;
	json_t *contact;
	struct ca_order orders[CA_ORDERS];
	int n_orders, nonce, revoked;
	/* what it does */
	bool ari, key_change, eab, async; /* async: validation and issue are seen at the second look */
	const char *offered[4];           /* challenges; NULL-ended */
	json_t *profiles;
	/* each may change anything: before the CA has looked (true: it need not) and after */
	bool (*before)(struct ca *, struct exchange *);
	void (*after)(struct ca *, struct exchange *);
	int left; /* for hooks: so many times more */
	/* what happened */
	const char *log[CA_LOG];
	double at[CA_LOG]; /* seconds of the client */
	int n_log;
	char lines[CA_LINES][256];
	int n_lines;
	int answering, answers; /* of the responder: now, ever */
	const char *port_taken; /* why the responder cannot bind */
	struct obtain_result result;
	char *chain, *key;
	json_t *last_order; /* payload of the last newOrder, of the last newAccount */
	json_t *last_account;
};

/* A group's setup and teardown per test; *state is the struct ca. */
int ca_setup(void **state);
int ca_teardown(void **state);
/* Carry out an operation: the result's fail.  A certificate is stored as the host does, so the order is
 * forgotten. */
enum obtain_fail ca_run(struct ca *, const struct client_request *);
enum obtain_fail ca_issue(struct ca *);
/* How often a kind was asked for. */
int ca_count(const struct ca *, const char *kind);
/* All kinds in order, "directory newNonce ..."; since the n-th. */
const char *ca_kinds(const struct ca *, int since);
bool ca_said(const struct ca *, const char *line);
void ca_problem(struct exchange *, const char *type, long status);
double ca_now(void);
/* The stored state's order. */
bool ca_order_kept(struct ca *);
char *ca_certificate(const char *root, json_t *csr, const char *const *names, size_t n);
