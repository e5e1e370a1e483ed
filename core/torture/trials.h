/* SPDX-License-Identifier: MIT */
/* trials - what is done to instances of one component type, each trial in processes of its own. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "core/torture/ledger.h"
#include "core/torture/settings.h"

enum { TRIALS_NOTES = 8 };

struct trials {
	const struct ss_component *desc;
	const struct settings *settings;
	const char *folder; /* for what instances write */
	uint64_t deadline_ns;
	bool (*wants)(enum rule); /* is the rule asked for? */
	unsigned n_folders;
	uint64_t allocations; /* that have failed, one in each life; 0: that was not tried to the end */
	/* Why something was not tried: sentences. */
	char notes[TRIALS_NOTES][160];
	unsigned n_notes;
};

/* 0; -EINVAL: the options are wrong, which was told; another errno. */
int trials_run(struct trials *);
/* One life, in this process, for valgrind to watch; callbacks are named on the descriptor. */
int trials_watched(struct trials *);
