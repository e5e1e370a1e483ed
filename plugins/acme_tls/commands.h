/* SPDX-License-Identifier: MIT */
/*
 * commands - "semstreams cert ...": what operators do by hand, on the storage of a running host and beside
 * it. The lock keeps both from ordering at once; a host sees within a second what changed.  Control thread.
 */
#pragma once
#include <semstreams/plugin.h>
#include "options.h"

/* Carry out argv; print(arg, text) takes what goes to standard output.  The exit status; errors are logged.
 */
int32_t commands_run(const struct ss_host *, const struct acme_setup *, const char *const *ca_files,
		     uint32_t argc, const char *const *argv, void (*print)(void *arg, const char *text),
		     void *arg);
