/* SPDX-License-Identifier: MIT */
/* sandbox_config - "sandbox" of the configuration: "auto", or {"mode", "read", "write"}.  Control thread
 * only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"

struct config;

enum sandbox_mode {
	SANDBOX_AUTO, /* as far as kernel and plugins let it */
	SANDBOX_OFF,
	SANDBOX_REQUIRED, /* whole, or the program does not start */
};

#define SANDBOX_MAX_PATHS 64 /* in a list */

struct sandbox_paths {
	char **paths;
	size_t n;
};

struct sandbox_config {
	enum sandbox_mode mode;
	struct sandbox_paths read, write; /* besides those that are known; relative to the file's folder */
	bool listed; /* there is such a list, which then also speaks for types that do not tell their paths */
};

/* node is the member "sandbox", NULL if absent.  0 with errors in diag, or -ENOMEM. */
int sandbox_config_read(const struct jdoc *, const struct jnode *node, struct diag *,
			struct sandbox_config *out);
/* The first component whose files nobody tells; NULL: there is none. */
const struct config_component *sandbox_config_unclear(const struct config *);
/* Where the sandbox is required there must be none: errors go to diag. */
void sandbox_config_check(const struct config *, struct diag *);
void sandbox_config_done(struct sandbox_config *);
