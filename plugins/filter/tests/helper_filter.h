/* SPDX-License-Identifier: MIT */
/* helper_filter - one filter in a test host, for its unit tests; include once per program. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/test-host.h>

#define SECOND UINT64_C(1000000000)
#define START  UINT64_C(1000000000000000000)

enum { MATCH, REST };
enum { NOT_JSON, TOO_DEEP, REGEX_LIMIT, NO_MEMORY }; /* reasons, and the first metrics */
enum { M_DEADBAND = 3, M_RATE_LIMIT, M_DEADBAND_KEYS, M_RATE_KEYS, M_DEADBAND_EVICTED, M_RATE_EVICTED };

static inline const struct ss_component *plugin(void)
{
	return semstreams_entry_v1.components[0];
}

struct instance {
	struct ss_test_host host;
};

static inline int32_t try_create(struct instance *t, const char *const *pairs)
{
	ss_test_host_init(&t->host, plugin());
	return ss_test_host_create(&t->host, ss_test_host_configure(&t->host, pairs));
}

static inline void finish(struct instance *t)
{
	ss_test_host_done(&t->host);
}

#define CREATE(t, ...)                                                                                       \
	do {                                                                                                 \
		if (try_create(t, (const char *const[]){__VA_ARGS__, NULL}) != 0)                            \
			fail_msg("create: %s", (t)->host.errors);                                            \
	} while (0)

/* Events with times in nanoseconds after START; whether each passed, as "101". */
static inline void run(struct instance *t, const char *const *texts, const uint64_t *times, uint32_t n,
		       char *passed)
{
	struct ss_batch *batch = ss_test_host_batch(&t->host, texts, n);

	for (uint32_t i = 0; times && i < n; i++)
		batch->events[i].time_ns = START + times[i];
	memset(passed, '0', n);
	passed[n] = '\0';
	uint32_t before = t->host.n_emitted;
	assert_int_equal(plugin()->process(t->host.self, 0, batch), SS_DONE);
	for (uint32_t b = before; b < t->host.n_emitted; b++)
		for (uint32_t i = 0; t->host.emitted[b].port == MATCH && i < t->host.emitted[b].batch->count;
		     i++)
			passed[t->host.emitted[b].batch->events[i].seq - 1] = '1';
	t->host.host.batch_unref(batch);
}

static inline bool passes(struct instance *t, const char *text)
{
	char passed[2];

	run(t, &text, NULL, 1, passed);
	ss_test_host_clear(&t->host);
	return passed[0] == '1';
}

#define COND(op, value) "{\"field\":\"f\",\"op\":\"" op "\",\"value\":" value "}"
#define FOLD(op, value) "{\"field\":\"f\",\"op\":\"" op "\",\"value\":" value ",\"ignore_case\":true}"
#define EXISTS          "{\"field\":\"f\",\"op\":\"exists\"}"

static inline bool has_line(const char *lines, const char *want)
{
	const char *star = strchr(want, '*');
	size_t head = star ? (size_t)(star - want) : strlen(want);

	for (const char *line = lines; *line; line = strchr(line, '\n') + 1) {
		const char *end = strchr(line, '\n');

		if (strncmp(line, want, head) != 0)
			continue;
		const char *found = star ? strstr(line + head, star + 1) : line;
		if (found && found < end)
			return true;
	}
	return false;
}
