/* SPDX-License-Identifier: MIT */
/* machine - probes of this machine: clock, ports, folders, keys, limits.  They change nothing. */
#pragma once

struct config;
struct probes;

/* Add all that the configuration needs.  0, -ENOMEM. */
int machine_probes(const struct config *, struct probes *);
