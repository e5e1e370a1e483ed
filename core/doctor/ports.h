/* SPDX-License-Identifier: MIT */
/* ports - is a port free, or who has it? */
#pragma once
#include <stddef.h>

struct config;
struct probes;

/* Add a probe for each port that is claimed.  0, -ENOMEM. */
int port_probes(const struct config *, struct probes *);
