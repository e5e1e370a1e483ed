/* SPDX-License-Identifier: MIT */
/*
 * difference - in what two components of configurations differ, by what their options mean and not by how
 * they are written: blanks, the order of members and defaults that are written out are no difference.
 * Control thread only.
 */
#pragma once
#include <stdbool.h>
#include "core/config/config.h"

/* The next option in which they differ behind `after`, NULL: the first; NULL: there is none.  Both are of one
 * type and have a conf. */
const struct ss_option *difference_next(const struct config_component *, const struct config_component *,
					const struct ss_option *after);
/* Do two values mean the same?  NULL is a value that is not there. */
bool difference_none(const struct jnode *, const struct jnode *);
