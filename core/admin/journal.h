/* SPDX-License-Identifier: MIT */
/*
 * journal - entries for systemd-journald in its native protocol: fields instead of a line, so that journalctl
 * finds entries by them.  Not thread-safe: the log's lock guards it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define JOURNAL_PLUGINS 512 /* more than a configuration has components; the oldest makes room */

struct journal {
	int fd;     /* -1: not in use */
	bool stuck; /* the last entry found no reader: the next does not wait for one */
	struct {
		char component[64], type[64];
	} plugins[JOURNAL_PLUGINS];
	size_t next_plugin;
	size_t n;
	char entry[16384];
};

/* Is this the stream that systemd connected to the journal? */
bool journal_is(int fd);
/* A socket for entries; it reaches a journal that starts later.  0 or -errno. */
int journal_open(struct journal *);
/* Of which type a component is. */
void journal_name(struct journal *, const char *component, const char *type);

/* An entry with this message, whose pairs follow.  A field that has no room is left out. */
void journal_begin(struct journal *, const char *message, size_t n);
/* SEMSTREAMS_KEY=value. */
void journal_pair(struct journal *, const char *key, size_t key_len, const char *value, size_t n);
/* Send it with all of its line as text.  0, -EAGAIN if the journal does not read, or another -errno. */
int journal_send(struct journal *, int priority, const char *component, const char *text, size_t n);
