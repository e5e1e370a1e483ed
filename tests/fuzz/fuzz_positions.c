/* SPDX-License-Identifier: MIT */
/*
 * fuzz_positions - snapshots of positions and the files of many streams: what is taken means the same when it
 * is written again, and what is not changes nothing.
 */
#include <stdlib.h>
#include <string.h>
#include "core/flow/stream_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static struct streams *make(void)
{
	struct streams *s = streams_new(false);

	must(s);
	return s;
}

/* Saved and loaded once more it is the same. */
static void again(struct streams *s)
{
	struct streams *t = make();
	const int64_t n = streams_save(s, NULL, 0);
	uint8_t *first = malloc((size_t)n + 1), *second = malloc((size_t)n + 1);

	must(n >= 0 && first && second && streams_save(s, first, (size_t)n) == n);
	must(streams_load(t, first, (size_t)n, false) == 0);
	must(streams_save(t, second, (size_t)n) == n && memcmp(first, second, (size_t)n) == 0);
	free(first);
	free(second);
	streams_free(t);
}

static void snapshot(const uint8_t *data, size_t size)
{
	struct streams *s = make();

	if (stream_log_load(NULL, s, data, size, false) == 0)
		again(s);
	else
		must(streams_count(s) == 0);
	streams_free(s);
}

static void file(const uint8_t *data, size_t size)
{
	struct stream_saved *all = NULL;
	struct streams *s = make();
	uint32_t n;

	if (stream_log_read(data, size, &all, &n) == 0) {
		streams_set_limits(s, &(struct streams_limits){.max = 10, .forget = 1000});
		for (uint32_t i = 0; i < n; i++) {
			must(i == 0 || all[i - 1].used <= all[i].used);
			must(memchr(all[i].source, '\0', sizeof all[i].source));
			must(streams_put(s, &all[i], false) == 0);
		}
		must(streams_count(s) <= 10);
		again(s);
		free(all);
	}
	streams_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char magic[8] = "SSPLOG\n\1";
	uint8_t *whole = malloc(sizeof magic + size);

	must(whole);
	snapshot(data, size);
	file(data, size);
	/* so that records are met without luck */
	memcpy(whole, magic, sizeof magic);
	if (size)
		memcpy(whole + sizeof magic, data, size);
	file(whole, sizeof magic + size);
	free(whole);
	return 0;
}
