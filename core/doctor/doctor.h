/* SPDX-License-Identifier: MIT */
/* doctor - looks for what keeps a configuration from working on this machine: `semstreams doctor`, and of
 * `semstreams check --connect` what is reached over the network.  Starts and takes nothing. */
#pragma once

struct cli_options;
struct config;

/* The exit code. */
int doctor_command(const struct cli_options *);
/* Only the peers and CAs of a configuration that has no errors; prints what it found.  How many problems
 * there are; -ENOMEM. */
int doctor_connect(const struct config *, const struct cli_options *);
