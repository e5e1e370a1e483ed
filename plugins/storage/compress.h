/* SPDX-License-Identifier: MIT */
/*
 * compress - streams one file into another, compressed.  Blocking; runs in the checkpointer's thread.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

/* What was built in; the order of compress_names. */
enum compress_kind {
	COMPRESS_NONE,
#ifdef HAVE_ZLIB
	COMPRESS_GZIP,
#endif
#ifdef HAVE_ZSTD
	COMPRESS_ZSTD,
#endif
};
extern const char *const compress_names[]; /* NULL-ended */

/* ".gz", ".zst", "" */
const char *compress_extension(enum compress_kind);
/* All of in, from its start, to out.  0 or -errno; -ECANCELED soon after *stop became true. */
int compress_file(enum compress_kind, int in, int out, const atomic_bool *stop);
