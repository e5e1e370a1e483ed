/* SPDX-License-Identifier: MIT */
/* options - the settings of an ACME identity, and what is derived from them.  Control thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "plugins/identity/setup.h"

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
struct acme_setup {
	struct setup common;
	const struct acme_conf *conf;
	const char *program; /* path of semstreams-acme */
	uint16_t challenge_port;
};
/* 0, -EINVAL after config_error(), -ENOMEM; to be released with setup_done(&common) in any case. */
int32_t acme_setup_init(struct acme_setup *, const struct ss_host *, const struct acme_conf *);
