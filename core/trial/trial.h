/* SPDX-License-Identifier: MIT */
/*
 * trial - one case of a script, carried out: in a process and a folder of its own, so that no case can harm
 * another, and a plugin that crashes fails one case only.  One thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "core/config/config.h"
#include "core/trial/script.h"

struct trial_result {
	bool passed;
	bool bad_config;  /* nothing was tried: text says what is wrong with the configuration */
	uint64_t took_ns; /* real time */
	char *text;       /* of one that failed: what is wrong, lines; malloced */
};

/* config is not changed.  0; -errno: the case could not be tried.  The caller frees text. */
int trial_run(struct config *, const struct script *, const struct script_case *, struct trial_result *);
