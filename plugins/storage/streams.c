/* SPDX-License-Identifier: MIT */
#include "streams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void streams_done(struct streams *s)
{
	free(s->all);
	*s = (struct streams){0};
}

int streams_of(struct streams *s, uint32_t port, const char *source)
{
	for (int i = 0; i < s->n; i++)
		if (s->all[i].port == port && strcmp(s->all[i].source, source) == 0)
			return i;
	if (strlen(source) >= SOURCE_MAX || (s->n + 1) * STREAM_BYTES_MAX > STREAMS_BYTES_MAX)
		return -E2BIG;
	if (s->n == s->room) {
		int room = s->room ? 2 * s->room : 4;
		struct stream *more = realloc(s->all, (size_t)room * sizeof *more);
		if (!more)
			return -ENOMEM;
		s->all = more;
		s->room = room;
	}
	struct stream *st = &s->all[s->n];
	*st = (struct stream){.port = port};
	memcpy(st->source, source, strlen(source) + 1);
	return s->n++;
}

void stream_write(struct stream *st, const struct ss_position *at)
{
	bool same = memcmp(at->epoch, st->written.epoch, sizeof at->epoch) == 0;
	if (!same || at->seq > st->written.seq)
		st->written = *at;
}

void streams_start_sync(struct streams *s)
{
	for (int i = 0; i < s->n; i++)
		s->all[i].syncing = s->all[i].written;
}

void streams_end_sync(struct streams *s)
{
	for (int i = 0; i < s->n; i++)
		s->all[i].safe = s->all[i].syncing;
}

void streams_rewind(struct streams *s)
{
	for (int i = 0; i < s->n; i++)
		s->all[i].written = s->all[i].safe;
}
