/* SPDX-License-Identifier: MIT */
/*
 * fuzz_commit - the content of a commit record, behind its checksum, and the positions in it: what is taken
 * means the same when it is written again.  The same bytes as the list of many files, with and without a
 * right checksum.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/crc32c.h>
#include "core/flow/streams.h"
#include "plugins/storage/commit.h"
#include "plugins/storage/ledger.h"

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

static int look(void *arg, const struct ledger_file *f)
{
	size_t *n = arg;
	must(f->rel[0] && memchr(f->rel, '\0', sizeof f->rel));
	++*n;
	return 0;
}

static void list(const uint8_t *data, size_t size)
{
	struct ss_strbuf frame = {0};
	size_t n = 0;

	(void)ledger_decode(data, size, 7, look, &n);
	ss_strbuf_u32(&frame, (uint32_t)size);
	ss_strbuf_u64(&frame, 7);
	ss_strbuf_u32(&frame, ss_crc32c(ss_crc32c(0, frame.bytes, frame.len), data, size));
	ss_strbuf_add(&frame, data, size);
	must(!frame.failed);
	int rc = ledger_decode((const uint8_t *)frame.bytes, frame.len, 7, look, &n);
	must(rc == 0 || rc == -EBADMSG);
	must(ledger_decode((const uint8_t *)frame.bytes, frame.len, 8, look, &n) == -EBADMSG);
	ss_strbuf_done(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	list(data, size);
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
