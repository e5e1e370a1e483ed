/* SPDX-License-Identifier: MIT */
/* folders - can a folder be written to, how long does a sync take, and how much room is left? */
#pragma once

struct config;
struct probes;

/* Add a probe for each folder that components write to.  0, -ENOMEM. */
int folder_probes(const struct config *, struct probes *);
