/* SPDX-License-Identifier: MIT */
/*
 * reload - the configuration file is read again and takes the place of the one that runs, as a whole or not
 * at all.  Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "core/config/diag.h"

struct loader;
struct metrics_page;
struct pipeline;
struct reload;
struct sandbox;

struct reload_setup {
	struct pipeline *pipeline;
	struct loader *loader;
	const struct sandbox *sandbox;
	/* As given on the command line, which counts; -1: as in the configuration. */
	int log_level, log_json;
	uint64_t drain_ns; /* for a component that is replaced or goes */
	/* As in struct transition_hooks. */
	void (*wait)(void *arg, uint64_t ns);
	bool (*hurry)(void *arg);
	void *arg;
};

struct reload *reload_new(const struct reload_setup *); /* NULL: out of memory */
void reload_free(struct reload *);                      /* NULL is allowed */

/*
 * Read the file and take it over.  0; else the old configuration runs and the reasons are in diag, which the
 * caller has initialised: -EINVAL, -ENOMEM, -ETIMEDOUT; -EBUSY: within another one.  -EIO: neither can run,
 * and the program has to end.  All of it is in the log, too, in the metrics and in /readyz.
 */
int reload_run(struct reload *, struct diag *);
/* What to answer to whoever asked for it: a JSON document of the result, or of what is wrong.  The HTTP
 * status. */
int reload_answer(const struct reload *, int rc, const struct diag *, FILE *body);
/* A collector for metrics_add_collector: arg is the reload. */
void reload_collect(void *reload, struct metrics_page *);
