/* SPDX-License-Identifier: MIT */
/*
 * reshape - the option "fields": other members for the events that pass.  Works on the members of an event's
 * object itself, not deeper, and copies their values as they stand.
 */
#pragma once
#include <jansson.h>
#include <semstreams/plugin.h>
#include <semstreams/base/json_option.h>

struct reshape;

/*
 * {"select": [names], "remove": [names], "rename": {"old": "new"}, "set": {"name": value}}, in this order:
 * select and remove and rename go by the names the event came with; set comes last and wins, and a value that
 * is the name of an attribute, as "@origin", stands for that.  Errors go to option: -EINVAL, -ENOMEM.
 */
int reshape_compile(json_t *, struct ss_json_option *, const struct ss_iface *fields, struct reshape **out);
void reshape_free(struct reshape *);

/* The most bytes an event of the batch becomes. */
size_t reshape_size(const struct reshape *, const struct ss_batch *, const struct ss_event *);
/* An event that is well-formed JSON; out has room for reshape_size().  Its new length, -ENOMEM; what is no
 * object stays as it is. */
int64_t reshape_event(struct reshape *, const struct ss_batch *, const struct ss_event *, char *out);
