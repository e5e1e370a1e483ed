/* SPDX-License-Identifier: MIT */
/*
 * key - what groups are told apart by: the JSON texts of the "group_by" values, separated by commas.  Equal
 * values make one key, however they are written.
 */
#pragma once
#include <stddef.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/ext/fields.h>
#include "plan.h"

#define OVERFLOW_KEY "*" /* no JSON text, so no other key */

/* The key of an event.  0; -E2BIG: over KEY_MAX bytes; -ENOMEM. */
int key_build(struct plan *, const struct ss_iface *fields, const struct ss_field *values,
	      struct ss_strbuf *key);
/* "field":value, for each "group_by" field, the last comma included. */
void key_print(const struct plan *, const char *key, size_t len, struct ss_strbuf *out);
