/* SPDX-License-Identifier: MIT */
/*
 * reshape - other members for the events that pass: those named, without some, under other names, with new
 * ones.  Works on the members of the event's object itself, not deeper, and copies their values as they
 * stand.  Compiled in the control thread; on the instance's loop.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/value.h>

struct reshape;

/*
 * {"select": [names], "remove": [names], "rename": {"old": "new"}, "set": {"name": value}}, in this order:
 * select and remove and rename go by the names the event came with; set comes last and wins.  Errors go to
 * option: -EINVAL, -ENOMEM.
 */
int reshape_compile(json_t *, struct ss_json_option *, const struct ss_iface *fields, struct reshape **out);
void reshape_free(struct reshape *);
/* The most bytes an event of len bytes becomes. */
size_t reshape_size(const struct reshape *, size_t len);
/* An event that is well-formed JSON; to has room for reshape_size().  Its new length, -ENOMEM; what is no
 * object stays as it is. */
int64_t reshape_event(struct reshape *, const char *json, size_t len, char *to);
