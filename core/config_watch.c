/* SPDX-License-Identifier: MIT */
#include "core/config_watch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "core/admin/log.h"

#define QUIET_S 0.3

static bool is_other(const struct stat *a, const struct stat *b)
{
	return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size ||
	       a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec ||
	       a->st_ctim.tv_sec != b->st_ctim.tv_sec || a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

/* A file that is not there is about to come. */
static void on_quiet(struct ev_loop *ev, ev_timer *t, int events)
{
	(void)events;
	struct config_watch *w = t->data;
	struct stat now;

	ev_timer_stop(ev, t);
	if (stat(w->file, &now) < 0 || !is_other(&now, &w->known))
		return;
	w->known = now;
	w->changed(w->arg);
}

static void on_event(struct ev_loop *ev, ev_io *io, int events)
{
	(void)events;
	struct config_watch *w = io->data;
	_Alignas(struct inotify_event) char buf[4096];
	bool lost = false;
	ssize_t n;

	while ((n = read(w->fd, buf, sizeof buf)) > 0) {
		for (const char *at = buf; at < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)at;
			lost |= (e->mask & IN_IGNORED) != 0;
			at += sizeof *e + e->len;
		}
	}
	if (lost) {
		log_warn("The configuration's folder is gone, it is not watched any more file=%s", w->file);
		config_watch_stop(w);
		return;
	}
	ev_timer_again(ev, &w->quiet);
}

static void folder_of(const char *file, char folder[PATH_MAX])
{
	const char *slash = strrchr(file, '/');
	const size_t len = slash ? (size_t)(slash - file) : 0;

	snprintf(folder, PATH_MAX, "%.*s", (int)len, file);
	if (!len)
		strcpy(folder, slash ? "/" : ".");
}

int config_watch_start(struct config_watch *w, struct ev_loop *ev, const char *file,
		       void (*changed)(void *arg), void *arg)
{
	char folder[PATH_MAX];

	*w = (struct config_watch){.file = file, .changed = changed, .arg = arg, .ev = ev, .fd = -1};
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		return -errno;
	folder_of(file, folder);
	if (inotify_add_watch(fd, folder,
			      IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB | IN_MODIFY | IN_ONLYDIR) <
		    0 ||
	    stat(file, &w->known) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	w->fd = fd;
	ev_timer_init(&w->quiet, on_quiet, 0., QUIET_S);
	ev_io_init(&w->io, on_event, fd, EV_READ);
	w->quiet.data = w->io.data = w;
	ev_io_start(ev, &w->io);
	return 0;
}

void config_watch_stop(struct config_watch *w)
{
	if (!w->ev || w->fd < 0)
		return;
	ev_io_stop(w->ev, &w->io);
	ev_timer_stop(w->ev, &w->quiet);
	close(w->fd);
	w->fd = -1;
}
