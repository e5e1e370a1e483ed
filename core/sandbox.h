/* SPDX-License-Identifier: MIT */
/*
 * sandbox - what the process gives up before the pipeline starts: capabilities, system calls that no pipeline
 * needs, and all files but those that the configuration and the plugins name.  Threads and programs that are
 * started later have the same.  Control thread only, as the only thread there is.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct config;
struct diag;

struct sandbox {
	bool closed;  /* files are restricted */
	char **write; /* folders that may be written, as the kernel knows them */
	size_t n_write;
};

/* No core dump and no debugger of the same user gets at keys in memory.  Leak checkers work by such means, so
 * builds with them stay as they are. */
void sandbox_hide_memory(void);
/* The pipeline of this configuration has been created and not started.  0, or -EPERM: "required" cannot be
 * had, which was logged with the remedy; -ENOMEM. */
int sandbox_enter(struct sandbox *, const struct config *);
void sandbox_done(struct sandbox *);
/* Of a configuration that is to replace the one at start: paths it would write that the sandbox does not let
 * be written are errors in diag.  True: there are none. */
bool sandbox_permits(const struct sandbox *, const struct config *, struct diag *);
