/* SPDX-License-Identifier: MIT */
/* options - the settings of an ACME identity, and what is derived from them.  Control thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>

#define ACME_MAX_NAMES 100
#define ACME_SECOND    INT64_C(1000000000) /* ns; options are in ns, decisions in seconds */

struct acme_conf {
	int64_t enabled;
	const char *directory_url, *email, *domains;
	int64_t challenge_type; /* enum acme_challenge */
	int64_t renew_before;
	const char *storage_path, *ca_bundle;
	int64_t check_interval;
	const char *challenge_address;
	int64_t challenge_port; /* 0: the usual one */
	const char *eab_kid, *eab_hmac;
	const char *profile, *preferred_chain;
	int64_t reuse_key, order_timeout, ari;
};

#define ACME_N_OPTIONS 18
extern const struct ss_option acme_options_table[ACME_N_OPTIONS];

/* Immutable once made. */
struct setup {
	const struct acme_conf *conf;
	const char *program; /* path of semstreams-acme */
	uint16_t challenge_port;
	int64_t renew_before, check_interval; /* s */
	const char *names[ACME_MAX_NAMES];
	size_t n_names;
	char shown_url[256]; /* directory_url as messages have it */
	char *names_json;    /* ["a.local","b.local"] */
	char *path;          /* storage_path without slashes at its end */
	char *chain_path;    /* of certificate.pem, for messages */
	char *fingerprint;   /* all settings that a failure may be due to, without secrets; begins with
				directory_url and a blank */
};
/* 0, -EINVAL after config_error(), -ENOMEM; to be released in any case. */
int setup_init(struct setup *, const struct ss_host *, const struct acme_conf *);
void setup_done(struct setup *);
