/* SPDX-License-Identifier: MIT */
/* tap_command - `semstreams tap`: a sample of the events at a point of a running host. */
#pragma once

struct cli_options;

/* An exit code; problems are told on stderr. */
int tap_command(const struct cli_options *);
