/* SPDX-License-Identifier: MIT */
/* semstreams/ext/loop-libev.h - the libev loop behind semstreams/ext/loop.h.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_LOOP_LIBEV_H
#define SEMSTREAMS_EXT_LOOP_LIBEV_H

#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The libev loop itself, a struct ev_loop *, for libraries that run on libev.  [inst]; libev's rules apply.
 */
#define SS_LOOP_LIBEV "semstreams.loop.libev/1"
struct ss_loop_libev {
	uint32_t struct_size, reserved;
	void *(*ev_loop)(void *self);
	/* After the library's own watchers have run code of this instance: the host looks for work to do. */
	void (*touched)(void *self);
};

#ifdef __cplusplus
}
#endif
#endif
