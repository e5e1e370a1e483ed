/* SPDX-License-Identifier: MIT */
/* reach - probes of peers and CAs: the name, the connection, the certificate, the answer, its clock.  A
 * request is made that takes nothing. */
#pragma once

struct config;
struct probes;

/* Add one for each "reaches:" among the claims.  0, -ENOMEM. */
int reach_probes(const struct config *, struct probes *);
