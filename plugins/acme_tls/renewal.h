/* SPDX-License-Identifier: MIT */
/*
 * renewal - keeps a valid certificate in use: hands the stored one to the host, decides once a second whether
 * it is time for another (renewal_schedule.h), has the operation carried out (operation.h) and remembers what
 * came of it (renewal_state.h).  On the instance's loop.
 */
#pragma once
#include <semstreams/plugin.h>
#include "options.h"

#define RENEWAL_N_METRICS 19
extern const struct ss_metric renewal_metrics[RENEWAL_N_METRICS];

struct renewal;

/* The instance's host and settings, which have to outlive it; -errno: no service for the loop or for
 * publishing.
 */
int32_t renewal_new(const struct ss_host *, const struct setup *, struct renewal **out);
int32_t renewal_start(struct renewal *);
void renewal_stop(struct renewal *);
/* [any] Soon, an attempt that waits is made now, but for what the CA asked for (Retry-After). */
void renewal_retry(struct renewal *);
/* NULL is allowed. */
void renewal_free(struct renewal *);
/* The CAs to trust for the CA's own HTTPS, NULL-ended; from start on. */
const char *const *renewal_ca_files(const struct renewal *);
