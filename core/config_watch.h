/* SPDX-License-Identifier: MIT */
/*
 * config_watch - notices that the configuration file is another one: its folder is watched, and when nothing
 * has happened there for a moment the file is looked at.  So a file that is moved into place, one that is
 * written to, and a symbolic link that is changed are all seen once, when they are whole.  Control thread.
 */
#pragma once
#include <ev.h>
#include <sys/stat.h>

struct config_watch {
	const char *file; /* outlives it */
	void (*changed)(void *arg);
	void *arg;
	struct ev_loop *ev;
	ev_io io;
	ev_timer quiet;
	int fd;            /* -1: it does not watch */
	struct stat known; /* of the file when it was last taken over or refused */
};

/* Call changed(arg) from the loop whenever the file is another one.  0 or -errno. */
int config_watch_start(struct config_watch *, struct ev_loop *, const char *file, void (*changed)(void *arg),
		       void *arg);
/* Zeroed, or stopped already, is fine. */
void config_watch_stop(struct config_watch *);
