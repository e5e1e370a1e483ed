/* SPDX-License-Identifier: MIT */
/*
 * descriptor - checks what a plugin says about a component type and makes it uniform: a copy in this host's
 * struct sizes, with callbacks that do nothing in place of start, stop, pause, resume, drain and acked where
 * they are absent. process (in a source or provider), idle and extension stay NULL.  Control thread.
 */
#pragma once
#include <semstreams/plugin.h>

#define DESCRIPTOR_WHY 256

/*
 * *out refers to the plugin's strings and code.  0, -EINVAL: then why says what is wrong, naming the type
 * where it has a name; or -ENOMEM.
 */
int descriptor_copy(const struct ss_component *from, struct ss_component **out, char why[DESCRIPTOR_WHY]);
void descriptor_free(struct ss_component *); /* NULL is allowed */

/* "source", "processor", "sink" or "provider". */
const char *descriptor_kind(const struct ss_component *);
