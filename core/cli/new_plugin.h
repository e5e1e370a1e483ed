/* SPDX-License-Identifier: MIT */
/* new_plugin - `semstreams plugins new`: a package for a plugin, made from the installed templates.  Control
 * thread. */
#pragma once
#include "core/cli/cli.h"

/*
 * Makes the folder NAME with all its files, or nothing.  The templates lie in four folders, any of which a
 * language may lack but the last: all/, all/KIND/, LANG/ and LANG/KIND/.  In their texts @NAME@, @TYPE@,
 * @MODE@ and @KIND@ are replaced, in the names of files TYPE.
 */
int new_plugin(const struct cli_options *); /* exit code; errors are on stderr */
