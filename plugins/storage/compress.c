/* SPDX-License-Identifier: MIT */
#include "compress.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

enum { BLOCK = 128 * 1024 };

const char *const compress_names[] = {
	"none",
#ifdef HAVE_ZLIB
	"gzip",
#endif
#ifdef HAVE_ZSTD
	"zstd",
#endif
	NULL,
};

const char *compress_extension(enum compress_kind kind)
{
	const char *name = compress_names[kind];
	return strcmp(name, "gzip") == 0 ? ".gz" : strcmp(name, "zstd") == 0 ? ".zst" : "";
}

#if defined HAVE_ZLIB || defined HAVE_ZSTD
struct stream {
	int in, out;
	const atomic_bool *stop;
	uint8_t from[BLOCK], to[BLOCK];
};

/* The next block: its length, 0 at the end, or -errno. */
static ssize_t next_block(struct stream *s)
{
	ssize_t n;
	if (atomic_load(s->stop))
		return -ECANCELED;
	do
		n = read(s->in, s->from, sizeof s->from);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int put_block(struct stream *s, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t put = write(s->out, s->to + at, n - at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += (size_t)put;
	}
	return 0;
}
#endif

#ifdef HAVE_ZLIB
static int run_gzip(struct stream *s)
{
	enum { GZIP_FORMAT = 16 };
	z_stream z = {0};
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP_FORMAT, 8,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	int rc = 0, end = 0;
	while (rc == 0 && !end) {
		ssize_t n = next_block(s);
		if (n < 0) {
			rc = (int)n;
			break;
		}
		end = n == 0;
		z.next_in = s->from;
		z.avail_in = (uInt)n;
		do {
			z.next_out = s->to;
			z.avail_out = sizeof s->to;
			deflate(&z, end ? Z_FINISH : Z_NO_FLUSH);
			rc = put_block(s, sizeof s->to - z.avail_out);
		} while (rc == 0 && z.avail_out == 0);
	}
	deflateEnd(&z);
	return rc;
}
#endif

#ifdef HAVE_ZSTD
static int run_zstd(struct stream *s)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	if (!z)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	int rc = 0, end = 0;
	while (rc == 0 && !end) {
		ssize_t n = next_block(s);
		if (n < 0) {
			rc = (int)n;
			break;
		}
		end = n == 0;
		ZSTD_inBuffer in = {.src = s->from, .size = (size_t)n};
		size_t left;
		do {
			ZSTD_outBuffer out = {.dst = s->to, .size = sizeof s->to};
			left = ZSTD_compressStream2(z, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
			rc = ZSTD_isError(left) ? -EIO : put_block(s, out.pos);
		} while (rc == 0 && (end ? left > 0 : in.pos < in.size));
	}
	ZSTD_freeCCtx(z);
	return rc;
}
#endif

int compress_file(enum compress_kind kind, int in, int out, const atomic_bool *stop)
{
	int rc = -EOPNOTSUPP;
#if defined HAVE_ZLIB || defined HAVE_ZSTD
	struct stream *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	s->in = in;
	s->out = out;
	s->stop = stop;
#ifdef HAVE_ZLIB
	if (kind == COMPRESS_GZIP)
		rc = run_gzip(s);
#endif
#ifdef HAVE_ZSTD
	if (kind == COMPRESS_ZSTD)
		rc = run_zstd(s);
#endif
	free(s);
#else
	(void)kind;
	(void)in;
	(void)out;
	(void)stop;
#endif
	return rc;
}
