/* SPDX-License-Identifier: MIT */
/*
 * wiring - which component reads from which: the "inputs" of a configuration, its list order, its cycles and
 * loose ends. Control thread only.
 */
#pragma once
#include "core/config/config.h"

/* Limits of a queue: those set in the object over what *limits holds. */
void wiring_read_limits(const struct config *, const struct jnode *queue, struct diag *,
			struct queue_limits *limits);

/* The "inputs" of all components, by id; without plugins a port's name cannot be checked yet.  Cycles are
 * reported.  0 or -ENOMEM. */
int wiring_read(struct config *, struct diag *);

/* After the types are known: ports, kinds, list order, loose ends.  0 or -ENOMEM. */
int wiring_complete(struct config *, struct diag *);
/* What may be meant, and may not: refused events that nothing reads. */
void wiring_hints(const struct config *, struct diag *);
