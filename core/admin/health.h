/* SPDX-License-Identifier: MIT */
/*
 * health - which component cannot work, and why.  Thread-safe.  What is hidden (core/admin/hidden.h) is left
 * out of reasons.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct health;

/* Who is degraded while a changed configuration cannot be used. */
#define HEALTH_CONFIGURATION "configuration"

struct health *health_new(void);
void health_free(struct health *);
/* Why the component cannot work; NULL: it can.  Copied.  True if this changed anything. */
bool health_set(struct health *, const char *component, const char *reason);
/* Why it works, but worse than it should; NULL: it does not.  Independent of health_set(). */
bool health_degrade(struct health *, const char *component, const char *reason);
/* Copy the reason given last by the component, the worse one if there are two; false: there is none. */
bool health_reason(struct health *, const char *component, char *text, size_t size);
/* A configuration that cannot be used; or else the first of the components that cannot work, with its reason,
 * or else of those that are worse than they should be; in one line, and how many there are besides.  False:
 * all is well. */
bool health_summary(struct health *, char *text, size_t size);
/* {"status":"ready"|"not ready","uptime_seconds":..,"reasons":[{"component":..,"reason":..,"since":..}],
 * "degraded":[...]}.  True if it says "ready": asked for separately, the answer could be another. */
bool health_print(struct health *, FILE *);
