/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/file_atomic.h - files that are complete or absent, whatever crashes: written under a
 * temporary name in the same folder, synced, renamed, the folder synced.  Names are taken relative to an open
 * folder, and a link in the last part is never followed for writing.  Any thread; nothing is kept but in the
 * caller's struct.  Tags and rules are those of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_FILE_ATOMIC_H
#define SEMSTREAMS_BASE_FILE_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct stat;

/* A file under its temporary name. */
struct ss_file_new {
	int dir;        /* the folder; the caller's */
	int fd;         /* to write to; -1: none.  Owned until ss_file_new_commit() or ss_file_new_abort() */
	char name[256]; /* the name it gets */
	char temporary[256]; /* the one it has until then */
	const char *step;    /* after an error, the step that failed, for messages, constant: "open", "lock",
			      * "sync", "rename", "sync the folder of" */
};

/* Flags of ss_file_new_open() and ss_file_new_commit(), combined by |. */
enum {
	SS_FILE_LOCK =
		1, /* open: flock() it, and leave a file of that name that another process has: -EBUSY */
	SS_FILE_KEEP_OPEN = 2,    /* commit: leave fd open, with its lock; it is the caller's then */
	SS_FILE_NEVER_REPLACE = 4 /* commit: -EEXIST if there is a file of that name */
};

/*
 * [any] Make the temporary file, empty; a file that a crash left under this name is replaced.  temporary
 * NULL: "." name
 * ".new".  mode as for open(), O_CLOEXEC is set.  0; -ENAMETOOLONG; -EBUSY (with SS_FILE_LOCK); -errno: then
 * there is nothing to abort.
 */
int ss_file_new_open(struct ss_file_new *, int dir, const char *name, const char *temporary, mode_t mode,
		     unsigned flags);
/*
 * [any] Sync the file, give it its name and sync the folder.  0 or -errno: then the temporary file is gone,
 * and the file of that name is the old one, except after "sync the folder of": it is the new one, not known
 * to be on disk.
 */
int ss_file_new_commit(struct ss_file_new *, unsigned flags);
/* [any] Remove the temporary file, if there is one. */
void ss_file_new_abort(struct ss_file_new *);

/* [any] All of it in one call: the file name in dir, with this content.  0 or -errno. */
int ss_file_write(int dir, const char *name, const void *bytes, size_t len, mode_t mode);
/* [any] The same for a symbolic link to target.  0 or -errno. */
int ss_link_write(int dir, const char *target, const char *name);

/*
 * [any] May nobody else read or write it?  Its owner alone may, or root owns it and lets a group read it: we
 * are not root and in that group or, as systemd and Kubernetes hand secrets out, nobody may write to it.  An
 * ACL's mask shows as the bits of the group.
 */
bool ss_file_is_private(const struct stat *);

/* [any] Write all of it at the file's offset.  0 or -errno (-EIO where nothing more is written). */
int ss_write_all(int fd, const void *bytes, size_t len);
/* [any] The same at an offset that is given.  0 or -errno. */
int ss_pwrite_all(int fd, const void *bytes, size_t len, off_t at);
/* [any] Read up to len bytes at an offset, fewer only at the end of the file: how many, or -errno. */
ssize_t ss_pread_all(int fd, void *bytes, size_t len, off_t at);
/*
 * [any] The whole of a regular file of at most max bytes, malloced, with a NUL behind it: in one buffer that
 * is never moved, so that no copy of a key is left behind.  *st (may be NULL) says what was read.  Nobody
 * waits at a FIFO.  0; -EISDIR, -EINVAL: something else than a file; -EFBIG; -EAGAIN: it grows; -errno.
 */
int ss_file_read(int dir, const char *name, size_t max, char **bytes, size_t *len, struct stat *st);
/* [any] fsync() of a folder.  0, also where a file system has no such thing; or -errno. */
int ss_sync_folder(int dir);
/* [any] rename() that never replaces a file: -EEXIST; also on file systems without RENAME_NOREPLACE. */
int ss_rename_new(int from_dir, const char *from, int to_dir, const char *to);
/* [any] Open the folder that path is in; *name is path's last part, in path.  A descriptor that the caller
 * closes, or -errno. */
int ss_open_folder_of(const char *path, const char **name);

#ifdef __cplusplus
}
#endif
#endif
