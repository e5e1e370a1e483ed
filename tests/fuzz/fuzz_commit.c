/* SPDX-License-Identifier: MIT */
/*
 * fuzz_commit - the content of a commit record, behind its checksum, and the positions in it: what is taken
 * means the same when it is written again.
 */
#include <stdlib.h>
#include <string.h>
#include "core/flow/streams.h"
#include "plugins/storage/commit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void load(const uint8_t *snapshot, size_t size)
{
	struct streams *streams = streams_new(false), *again = streams_new(false);
	must(streams && again);
	if (streams_load(streams, snapshot, size, false) == 0) {
		int64_t n = streams_save(streams, NULL, 0);
		must(n >= 0);
		uint8_t *saved = malloc((size_t)n + 1);
		must(saved && streams_save(streams, saved, (size_t)n) == n);
		must(streams_load(again, saved, (size_t)n, false) == 0);
		must(streams_save(again, NULL, 0) == n);
		free(saved);
	}
	streams_free(streams);
	streams_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct commit_record rec, same;
	struct ss_strbuf out = {0};

	if (commit_decode(data, size, &rec)) {
		must(rec.snapshot >= data && rec.snapshot + rec.snapshot_len == data + size);
		must(memchr(rec.rel, '\0', sizeof rec.rel));
		commit_encode(&rec, &out);
		must(!out.failed && commit_decode((const uint8_t *)out.bytes, out.len, &same));
		must(same.cuts == rec.cuts && same.inode == rec.inode && same.born_ns == rec.born_ns &&
		     same.length == rec.length && strcmp(same.rel, rec.rel) == 0);
		load(rec.snapshot, rec.snapshot_len);
		ss_strbuf_done(&out);
	}
	load(data, size);
	return 0;
}
