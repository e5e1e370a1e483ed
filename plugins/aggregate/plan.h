/* SPDX-License-Identifier: MIT */
/* plan - the configuration, read and checked.  Control thread; read-only
 * afterwards. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <semstreams/plugin.h>
#include "functions.h"
#include "timestamp.h"
#include <semstreams/base/event_reader.h>
#include <semstreams/base/paths.h>
#include <semstreams/ext/fields.h>

#define GROUP_FIELDS_MAX 16
#define PANES_MAX        1000 /* of one sliding window */

enum window_kind { WINDOW_TUMBLING, WINDOW_SLIDING, WINDOW_SESSION };
enum { OUTPUT_GROUP, OUTPUT_WINDOW };
enum { FULL_OLDEST, FULL_OVERFLOW };

/* The options as the host fills them in. */
struct conf {
	const char *window, *time, *group_by, *functions, *checkpoint;
	int64_t early_ns, output, max_groups, when_full, max_memory, errors;
};

struct plan {
	const struct conf *conf;
	enum window_kind kind;
	int64_t size_ns, every_ns, offset_ns; /* tumbling: every = size; session: size = the gap */
	int64_t pane_ns;                      /* what events are sorted into: size or a divisor of it */

	int time_field; /* -1: the time of reception is used */
	bool received;  /* the time is that of reception, so nothing is late */
	enum timestamp_format time_format;
	int64_t lateness_ns;
	int64_t idle_ns;  /* -1: the default of the input, 0: never */
	int64_t ahead_ns; /* after the time of reception; 0: any */
	bool emit_late;

	int group_fields[GROUP_FIELDS_MAX];
	char *group_names[GROUP_FIELDS_MAX], *group_labels[GROUP_FIELDS_MAX]; /* "name": */
	uint32_t n_group_fields;
	bool number_field[FUNCTIONS_MAX + GROUP_FIELDS_MAX + 1]; /* by path: a function needs its number */

	struct functions functions;
	struct ss_event_reader reader;
	uint32_t n_paths;

	char *checkpoint_path; /* NULL: none */
	int64_t checkpoint_ns;
	uint64_t fingerprint; /* of everything that shapes the state */
};

/* 0; -EINVAL after reporting to the host; -ENOMEM.  the caller calls plan_done() in any case. */
int plan_compile(const struct ss_host *, const struct conf *, const struct ss_iface *fields,
		 struct plan *out);
void plan_done(struct plan *);

/* The last moment up to ns that is a multiple of step away from offset. */
static inline int64_t plan_align(int64_t ns, int64_t step, int64_t offset)
{
	int64_t in = (ns - offset) % step;

	return ns - in - (in < 0 ? step : 0);
}
/* The start of the pane that a moment is in. */
static inline int64_t plan_pane(const struct plan *p, int64_t ns)
{
	return plan_align(ns, p->pane_ns, p->offset_ns);
}
