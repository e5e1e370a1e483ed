/* SPDX-License-Identifier: MIT */
/*
 * retain - compresses closed files and removes old ones, in a thread of its own.  It only touches names that
 * the component's own template can make, and none that is locked by a writer.  Called in the instance's loop.
 */
#pragma once
#include <semstreams/plugin.h>
#include "conf.h"
#include "path.h"

struct retain;

extern const char
	*const compress_names[]; /* of the option "compress", NULL-ended; the first compresses nothing */

/* Begin to look, if the options do not let every closed file stay as it is.  0 or -errno. */
int retain_new(struct retain **out, const struct ss_host *, const struct storage_conf *, const struct path *);
/* Ends it; NULL is allowed, as below. */
void retain_free(struct retain *);
/* Other options, from the next look on, which is now. */
void retain_reconfigure(struct retain *, const struct storage_conf *);
/* Look again; without that it does so once a minute. */
void retain_wake(struct retain *);
/* To be called each second. */
void retain_tick(struct retain *);
