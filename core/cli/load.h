/* SPDX-License-Identifier: MIT */
/* load - a configuration with its plugins, as every command needs it.  Control thread. */
#pragma once
#include "core/cli/cli.h"
#include "core/config/config.h"
#include "core/config/diag.h"
#include "core/plugin/loader.h"

extern const char load_plugin_dir[]; /* compiled in */

struct loaded {
	struct config *config; /* NULL: it cannot be read, or there is none */
	struct loader *loader;
	struct diag diag;
};

/*
 * Read the configuration, search its plugins (--plugins, then "plugins.paths", then the folder compiled in)
 * and resolve it.  A plugin file that is no good is an error where a component needs it, else a warning.  0,
 * -EINVAL with errors in diag, -ENOMEM; load_done() in any case.
 */
int load_config(const struct cli_options *, struct loaded *);

/*
 * Load every plugin that load_config would search, for lists: with the folders of the configuration if there
 * is one. Only a file given with --config has to be there.  Returns as load_config.
 */
int load_types(const struct cli_options *, struct loaded *);
void load_done(struct loaded *);
