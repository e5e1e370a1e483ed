/* SPDX-License-Identifier: MIT */
/* paths - the fields to look up in each event; equal paths are read once.  Control thread. */
#pragma once
#include <stdint.h>
#include <semstreams/plugin.h>
#include <semstreams/base/json_option.h>
#include <semstreams/ext/fields.h>

struct path {
	char *text;
	char *pointer; /* where the config names it first, for errors */
};
struct paths {
	struct path *v;
	uint32_t n, size;
};
/* Index of a path, added if it is new; -ENOMEM.  key: the member of the present place it stands in, NULL:
 * itself. */
int paths_add(struct paths *, const struct spec *at, const char *key, const char *path);
/* A reader of all of them, NULL if there are none.  0; -EINVAL after telling the host which are no paths;
 * -ENOMEM. */
int paths_compile(const struct paths *, const struct ss_host *, const struct ss_iface *fields,
		  struct ss_reader **out);
void paths_done(struct paths *);
