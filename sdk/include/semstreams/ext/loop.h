/* SPDX-License-Identifier: MIT */
/* semstreams/ext/loop.h - the loop a component instance lives on.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_LOOP_H
#define SEMSTREAMS_EXT_LOOP_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The instance's loop.  Callbacks run [inst]. */
#define SS_LOOP "semstreams.loop/1"
enum { SS_FD_READ = 1, SS_FD_WRITE = 2 };
struct ss_loop {
	uint32_t struct_size, reserved;
	/* [inst] Call fn(arg) after first_ns, then each every_ns (0 = once). */
	int32_t (*timer)(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			 uint32_t *id);
	/* [inst] Call fn(arg, events) whenever fd is ready for one of events.  The fd stays the plugin's;
	 * cancel first, then close. */
	int32_t (*fd)(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		      uint32_t *id);
	/* [inst] Other events for an fd watch; 0 = none for now. */
	int32_t (*change)(void *self, uint32_t id, uint32_t events);
	/* [inst] End a watch or timer; after return fn is not called again.  0 and unknown ids are ignored.
	 */
	void (*cancel)(void *self, uint32_t id);
	/* [any] Run fn(arg) soon, [inst]; at the latest between stop and destroy. */
	int32_t (*post)(void *self, void (*fn)(void *arg), void *arg);
	/* [any] Monotonic clock, ns. */
	uint64_t (*now)(void *self);
	/* [inst] In start: batches may come up to ns late, as they wait for something else anyway.  Where all
	 * that follows says so, the host takes in more at once under load, which saves CPU. */
	void (*set_max_delay)(void *self, uint64_t ns);
};

#ifdef __cplusplus
}
#endif
#endif
