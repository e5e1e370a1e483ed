/* SPDX-License-Identifier: MIT */
/*
 * options - a JSON object against a table of options, into a conf struct: types, ranges, choices, defaults,
 * what is missing and what nobody knows.  For plugins' "config" and for the host's own settings.  Control
 * thread only.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>
#include "core/config/jdoc.h"

struct option_table {
	const struct ss_option *rows; /* row_size apart */
	uint32_t row_size, n;
	size_t conf_size;
};
#define OPTION_TABLE(options, conf)                                                                          \
	{                                                                                                    \
		.rows = (options), .row_size = sizeof((options)[0]),                                         \
		.n = sizeof(options) / sizeof((options)[0]), .conf_size = sizeof(conf)                       \
	}

struct options {
	void *conf;     /* conf_size bytes */
	char **strings; /* what conf points to, besides defaults */
	size_t n_strings;
	const char **wrong; /* keys of options that are missing or wrong; the table's */
	size_t n_wrong;
	bool filled; /* every member of conf can be used: those of wrong options hold a stand-in */
};

/*
 * Fill out->conf.  object may be NULL (nothing is set); owner is where a missing option is reported then, and
 * what is wrong with the table.  Strings follow core/config/expand.h, with {"file": ...} for SS_OPT_STRING,
 * ENUM, BYTES and DURATION; SS_OPT_JSON is stored as its text, see expand_json.  Defaults are taken as the
 * author wrote them, without regard to min and max.  Nothing of a SS_OPT_SECRET value gets into a message. 0,
 * -EINVAL with all errors in diag, -ENOMEM; out is to be released in any case.  A stand-in is the default,
 * else
 * "", null or the least value: good enough to look for further errors with, not to run.
 */
int options_fill(const struct option_table *, const struct jdoc *, const struct jnode *object,
		 const struct jnode *owner, struct diag *, struct options *out);
void options_done(struct options *);
