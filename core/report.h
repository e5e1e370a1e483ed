/* SPDX-License-Identifier: MIT */
/* report - the pipeline's figures: for the metrics page while it runs, and as log lines at its end. */
#pragma once
#include <stdint.h>
#include "core/flow/component.h"
#include "core/admin/metrics.h"

struct pipeline;

/* One component's books with those of its queues: in + created = out + filtered + sum of dropped + held. */
struct totals {
	uint64_t in, created, out, filtered, held;
	uint64_t dropped[DROP_REASONS];
	uint64_t queue_full; /* dropped by the policies of the queues before it */
	uint64_t dropped_all;
};

/* [any] */
void report_totals(const struct component *, struct totals *);
/* A collector for metrics_add_collector: arg is the pipeline. */
void report_collect(void *pipeline, struct metrics_page *);
/* The last line of a component that goes while others stay. */
void report_gone(const struct component *);
/* After pipeline_stop: one line per component, what is still held counted as dropped at shutdown.  How many
 * events were lost that way. */
uint64_t report_stopped(const struct pipeline *);
