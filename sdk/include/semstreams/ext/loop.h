/* SPDX-License-Identifier: MIT */
/* semstreams/ext/loop.h - the loop a component instance lives on.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_LOOP_H
#define SEMSTREAMS_EXT_LOOP_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The loop that the instance lives on: timers, file descriptors, and calls from other threads.  What is
 * watched is called [inst].  Ids are of this instance; 0 is never one. */
#define SS_LOOP "semstreams.loop/1"

/* What a file descriptor is watched for; combined by |. */
enum { SS_FD_READ = 1, SS_FD_WRITE = 2 };

/* What the host has under SS_LOOP. */
struct ss_loop {
	uint32_t struct_size, reserved;
	/* [inst] Have fn(arg) called, [inst], after first_ns, then every every_ns (0: once).  A timer that is
	 * late is called once, not for each time that passed.  *id is for cancel(); that of a timer that ran
	 * once is unknown afterwards.  -ENOMEM. */
	int32_t (*timer)(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			 uint32_t *id);
	/* [inst] Have fn(arg, events) called, [inst], whenever fd is ready for one of the events.  The plugin
	 * owns fd and cancels the watch before it closes fd.  -EBADF, -ENOMEM. */
	int32_t (*fd)(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		      uint32_t *id);
	/* [inst] Watch the descriptor for other events; 0: none for now.  -ENOENT: the id is unknown. */
	int32_t (*change)(void *self, uint32_t id, uint32_t events);
	/* [inst] End a watch or timer: when this returns, fn is not called again.  0 and unknown ids are
	 * ignored.  The host ends what is left after stop(). */
	void (*cancel)(void *self, uint32_t id);
	/* [any] Have fn(arg) called soon, [inst], in the order of the calls; at the latest between stop() and
	 * destroy().  -ENOMEM. */
	int32_t (*post)(void *self, void (*fn)(void *arg), void *arg);
	/* [any] The monotonic clock, in ns. */
	uint64_t (*now)(void *self);
	/* [inst] In start: batches for this instance may arrive up to ns late, since they wait for something
	 * slower anyway.  Where all components downstream of a loop say so, it takes in more at once under
	 * load, which saves CPU.  An instance that says nothing allows what those downstream of it allow. */
	void (*set_max_delay)(void *self, uint64_t ns);
};

#ifdef __cplusplus
}
#endif
#endif
