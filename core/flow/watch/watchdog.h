/* SPDX-License-Identifier: MIT */
/*
 * watchdog - names components that keep others waiting: whose callback does not return, who refuses input
 * without a reason, who keeps batches for ever.  In the log and, as "ID watchdog", in /readyz.  Control
 * thread only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct component;
struct health;
struct pipeline;

/* Each second; true if a loop has not answered for the time of the watchdog. */
bool watchdog_look(struct pipeline *);
/* The component has gone. */
void watchdog_forget(struct health *, const char *component);
/* Events in batches that the component has kept for too long; 0: it is not blamed for any. */
uint64_t watchdog_overdue(const struct component *);
