/* SPDX-License-Identifier: MIT */
/* options - the settings of an identity from step-ca, and what is derived from them.  Control thread. */
#pragma once
#include <stdint.h>
#include <semstreams/plugin.h>
#include "plugins/identity/setup.h"

struct step_conf {
	int64_t enabled;
	const char *ca_url, *fingerprint, *ca_bundle;
	const char *token, *token_file;
	const char *domains, *storage_path;
	int64_t renew_after; /* percent of the lifetime */
	int64_t lifetime;    /* 0: as the provisioner says */
	int64_t check_interval, timeout;
};

#define STEP_N_OPTIONS 12
extern const struct ss_option step_options_table[STEP_N_OPTIONS];

/* Immutable once made. */
struct step_setup {
	struct setup common;
	const struct step_conf *conf;
};
/* 0, -EINVAL after config_error(), -ENOMEM; to be released with setup_done(&common) in any case. */
int32_t step_setup_init(struct step_setup *, const struct ss_host *, const struct step_conf *);
