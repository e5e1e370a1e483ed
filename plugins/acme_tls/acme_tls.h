/* SPDX-License-Identifier: MIT */
/* acme_tls - what the files of the component share: its options, its certificate, what it is doing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "plugins/acme_tls/client/acme.h"
#include "csr.h"
#include "renew.h"
#include "store.h"

#define ACME_MAX_NAMES 100
#define ACME_SECOND    INT64_C(1000000000) /* ns; options are in ns, what is decided in seconds */

struct acme_conf {
	int64_t enabled;
	const char *directory_url, *email, *domains;
	int64_t challenge_type;
	int64_t renew_before;
	const char *storage_path, *ca_bundle;
	int64_t check_interval;
	const char *challenge_address;
	int64_t challenge_port;
	const char *eab_kid, *eab_hmac;
	const char *profile, *preferred_chain;
	int64_t reuse_key, order_timeout, ari;
};

#define ACME_N_OPTIONS 18
extern const struct ss_option acme_options_table[ACME_N_OPTIONS];

/* What was made of the options: immutable once made. */
struct setup {
	const struct acme_conf *conf;
	const char *ca_files[1]; /* ca_bundle */
	char *names[ACME_MAX_NAMES];
	size_t n_names;
	char *names_json;  /* ["a.local","b.local"] */
	char *path;        /* storage_path without slashes at its end */
	char *chain_path;  /* of certificate.pem, for messages */
	char *fingerprint; /* whatever a failure may be due to, as one text without secrets */
};
/* 0, -EINVAL after config_error(), -ENOMEM; to be released in any case. */
int setup_init(struct setup *, const struct ss_host *, const struct acme_conf *);
void setup_done(struct setup *);

enum {
	METRIC_SUCCESS,
	METRIC_FAILURE,
	METRIC_NEXT,
	METRIC_IN_A_ROW,
	METRIC_LAST_SUCCESS,
	METRIC_REQUESTS /* and the following: by what was asked */
};
/* The row of a request as the client names it. */
uint32_t acme_request_metric(const char *what);

/* A certificate as it lies in the store. */
struct held {
	bool there;
	bool names_match;
	char *key_pem;
	struct chain_info chain;
};
/* 0 also if there is none; -errno with why if what is there cannot be used (then there is none). */
int held_load(struct held *, struct store *, const struct setup *, char *why, size_t why_size);
void held_done(struct held *);

enum doing { DOING_NOTHING, DOING_ISSUE, DOING_ARI };

struct acme_tls {
	const struct ss_host *host;
	struct setup setup;
	struct ss_iface loop, libev, publish;
	uint32_t tick;

	struct store *store; /* NULL: could not be opened yet */
	struct held held;
	bool published;       /* the host uses one of ours, until: */
	int64_t in_use_until; /* s */
	bool handed;          /* that is the one held */
	bool refused;         /* the host would not have the one held */
	bool has_been_told;   /* the host knows that there is none */
	bool warned_bounds;
	bool loop_started;
	bool quiet;        /* the next look is a part of this one */
	uint32_t failures; /* in a row, as far as this process knows */
	uint64_t ari_again_ns;
	int64_t last_success; /* as far as it was counted */

	enum doing doing;
	int turn;               /* to answer challenges, -1: not had */
	int64_t turn_wanted_at; /* since when it is waited for, 0: it is not */
	struct acme *client;    /* exists only while something is being done */
	int64_t check_at;       /* wall clock, s */
	uint64_t check_at_ns;   /* the same by the loop's clock, for wall clocks that jump */
};

/* Whom a client tells what it does. */
struct client_sink {
	void (*log)(void *arg, int32_t level, const char *text);
	void (*counted)(void *arg, const char *what);
	void *arg;
};
/* acme_tls.c: where challenges are answered. */
uint16_t challenge_port(const struct acme_conf *);
/* A client for the CA; it borrows what it is given.  0, -errno with why. */
int client_new(const struct acme_tls *, struct ev_loop *, struct store *, const struct client_sink *,
	       struct acme **out, char *why, size_t why_size);

/* keep.c: [inst] */
int32_t keep_start(struct acme_tls *);
void keep_stop(struct acme_tls *);

/* commands.c: [ctl] */
int32_t commands_run(struct acme_tls *, uint32_t argc, const char *const *argv,
		     void (*print)(void *arg, const char *text), void *arg);
