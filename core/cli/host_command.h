/* SPDX-License-Identifier: MIT */
/* host_command - the commands that look at a running host: status, top, config show. */
#pragma once

struct cli_options;

/* The exit code. */
int host_command(const struct cli_options *);
