/* SPDX-License-Identifier: MIT */
/*
 * descriptors - how many files and sockets the process may have open: the soft limit RLIMIT_NOFILE is set to
 * what is needed.  A lower one than the hard limit allows would turn clients away; one of a billion, as
 * engines of containers set it, costs libraries with a table of all descriptors their memory.  Control thread
 * only.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DESCRIPTORS_USUAL 65536 /* as many as the hard limit allows, up to this, are not worth a thought */
#define DESCRIPTORS_OWN   64    /* besides those that components ask for */

/* Make room for need descriptors of components, as far as the hard limit allows.  Returns the limit. */
uint64_t descriptors_set(uint64_t need);
/* What the hard limit leaves to components; more cannot be had. */
uint64_t descriptors_left(void);
/* With fewer than this the process with so many components cannot even start. */
uint64_t descriptors_least(size_t n_components);
