/* SPDX-License-Identifier: MIT */
/* semstreams/ext/loop-libev.h - the libev loop behind semstreams/ext/loop.h.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_LOOP_LIBEV_H
#define SEMSTREAMS_EXT_LOOP_LIBEV_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The libev loop that semstreams/ext/loop.h hides, for libraries that run on libev.  An instance that asks
 * for this service stays on its loop; its type should have SS_OWN_LOOP. */
#define SS_LOOP_LIBEV "semstreams.loop.libev/1"
/* What the host has under SS_LOOP_LIBEV. */
struct ss_loop_libev {
	uint32_t struct_size, reserved;
	/* [inst] In start or later: the loop, a struct ev_loop *, valid until stop() returns. */
	void *(*ev_loop)(void *self);
	/* [inst] To be called when a watcher of the library has run code of this instance: the host then
	 * looks for work, and calls idle(). */
	void (*touched)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
