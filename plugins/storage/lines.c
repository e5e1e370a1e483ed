/* SPDX-License-Identifier: MIT */
#include "lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	COPY_MAX = 2048, /* measured: from about here on an iovec of its own is cheaper than a copy */
	CHUNK = 16,
	PASS_MAX = 512
};

typedef uint8_t chunk __attribute__((vector_size(CHUNK)));

int lines_init(struct lines *l, size_t target, size_t max_line, bool escape, unsigned iovs)
{
	*l = (struct lines){.target = target, .max_line = max_line, .escape = escape, .room = iovs};
	/* a line may begin just below the target and double in length */
	l->buf = malloc(target + 2 * COPY_MAX + CHUNK);
	l->iov = malloc(iovs * sizeof *l->iov);
	if (l->buf && l->iov)
		return 0;
	lines_done(l);
	return -ENOMEM;
}

void lines_done(struct lines *l)
{
	free(l->buf);
	free(l->iov);
	free(l->spill);
	*l = (struct lines){0};
}

void lines_reset(struct lines *l)
{
	free(l->spill);
	l->spill = NULL;
	l->fill = l->run = l->outside = l->bytes = 0;
	l->n = 0;
	l->full = false;
}

/* All ones where a byte is one of \n \v \f \r. */
static inline chunk breaks_in(chunk c)
{
	return (chunk)((c - '\n') <= '\r' - '\n');
}

static inline bool any(chunk c)
{
	uint64_t half[2];
	memcpy(half, &c, sizeof half);
	return half[0] | half[1];
}

static inline bool is_break(uint8_t c)
{
	return c == '\n' || c == '\r';
}

static bool has_break(const uint8_t *p, size_t n)
{
	return memchr(p, '\n', n) || memchr(p, '\r', n);
}

/* Copy n bytes and say whether there may be a line break among them: one pass over the data, unless the wider
 * vectors of the C library make up for three. */
static inline bool copy_looking(uint8_t *to, const uint8_t *from, size_t n)
{
	chunk c, seen = {0};
	if (n > PASS_MAX) {
		memcpy(to, from, n);
		return has_break(from, n);
	}
	if (n < CHUNK) {
		bool found = false;
		for (size_t i = 0; i < n; i++) {
			found |= is_break(from[i]);
			to[i] = from[i];
		}
		return found;
	}
	for (size_t i = 0; i < n - CHUNK; i += CHUNK) {
		memcpy(&c, from + i, CHUNK);
		memcpy(to + i, &c, CHUNK);
		seen |= breaks_in(c);
	}
	/* the last chunk may overlap the one before */
	memcpy(&c, from + n - CHUNK, CHUNK);
	memcpy(to + n - CHUNK, &c, CHUNK);
	return any(seen | breaks_in(c));
}

/* Replace line breaks; to has room for 2 * n.  CR LF is one break.  Returns the new length. */
static size_t rewrite(uint8_t *to, const uint8_t *from, size_t n, bool escape)
{
	uint8_t *p = to;
	for (size_t i = 0; i < n; i++) {
		if (!is_break(from[i])) {
			*p++ = from[i];
			continue;
		}
		if (from[i] == '\r' && i + 1 < n && from[i + 1] == '\n')
			i++;
		if (escape) {
			*p++ = '\\';
			*p++ = 'n';
		} else {
			*p++ = ' ';
		}
	}
	return (size_t)(p - to);
}

void lines_split(struct lines *l)
{
	if (l->fill > l->run)
		l->iov[l->n++] = (struct iovec){.iov_base = l->buf + l->run, .iov_len = l->fill - l->run};
	l->run = l->fill;
}

/* A line too long to copy: an iovec into the batch, or into a rewritten copy. */
static int add_long(struct lines *l, const uint8_t *data, size_t len)
{
	if (has_break(data, len)) {
		if (l->spill) { /* one at a time: the rest comes after the write */
			l->full = true;
			return -EAGAIN;
		}
		l->spill = malloc(l->escape ? 2 * len : len);
		if (!l->spill) {
			l->full = true;
			return -ENOMEM;
		}
		len = rewrite(l->spill, data, len, l->escape);
		data = l->spill;
	}
	lines_split(l);
	l->iov[l->n++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	l->outside += len;
	l->buf[l->fill++] = '\n';
	return 0;
}

int64_t lines_gather(struct lines *l, const struct ss_event *ev, uint32_t n, struct lines_dropped *dropped)
{
	uint32_t i;
	for (i = 0; i < n && !l->full; i++) {
		const uint8_t *data = ev[i].data;
		size_t len = ev[i].len;
		while (len && is_break(data[len - 1]))
			len--;
		if (len == 0 || len > l->max_line) {
			*(len ? &dropped->too_long : &dropped->empty) += 1;
			continue;
		}
		if (len <= COPY_MAX) {
			uint8_t *to = l->buf + l->fill;
			if (__builtin_expect(copy_looking(to, data, len), 0))
				len = rewrite(to, data, len, l->escape);
			to[len] = '\n';
			l->fill += len + 1;
		} else {
			int rc = add_long(l, data, len);
			if (rc == -ENOMEM && i == 0 && lines_bytes(l) == 0) {
				l->full = false;
				return rc;
			}
			if (rc < 0)
				break;
		}
		/* room for what one more event may add: a run, a long line, the run at the end */
		l->full = lines_bytes(l) >= l->target || l->n > l->room - 3;
	}
	return i;
}

void lines_seal(struct lines *l)
{
	size_t bytes = lines_bytes(l);
	lines_split(l);
	l->bytes = bytes;
}
