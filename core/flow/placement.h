/* SPDX-License-Identifier: MIT */
/*
 * placement - which components share a loop.  A chain without branches runs on one loop.  A component begins
 * a loop of its own where the graph branches or joins, where its input may be dropped instead of waiting,
 * where its type says SS_OWN_LOOP, and after such a component.  "worker" in the configuration overrides all
 * of this.
 */
#pragma once
#include "core/config/config.h"

/* Of a resolved config: the index of the first component on the loop of component i, which may be i itself.
 */
size_t placement_head(const struct config *, size_t i);
/* The name of the loop of component i: its "worker", or the id of the first component on it. */
const char *placement_name(const struct config *, size_t i);
