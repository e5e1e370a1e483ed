/* SPDX-License-Identifier: MIT */
/* run - the life of the host: start, serve the admin port, drain on SIGTERM, stop. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct config;
struct diag;
struct loader;

struct run_options {
	uint64_t shutdown_timeout_ns; /* for draining after SIGTERM or SIGINT; a second signal ends at once */
	bool watch_config;            /* a changed file is taken over by itself */
	int log_level, log_json;      /* of the command line, -1: the configuration's */
};

/* A reload that is asked for from now on is done when there is something to reload. */
void run_hold_hangup(void);
/* Runs until a signal; the exit code: 0 drained, 1 something failed or was lost at the end, 78 bad config. */
int run_host(struct config *, struct loader *, const struct run_options *);
/* What is unwise about a configuration that works, as lines of the log. */
void run_log_warnings(const struct diag *);
