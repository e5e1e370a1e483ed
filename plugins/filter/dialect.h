/* SPDX-License-Identifier: MIT */
/*
 * dialect - other ways to write a condition, put into ours before it is compiled:
 *   {"path": "$.value", "operator": ">", "value": 50}
 *   {"value": {"gt": 20, "lte": 80}, "status": {"equals": "ok"}}
 *   {"logic": "or", "conditions": [...]}
 * Control thread.
 */
#pragma once
#include <jansson.h>
#include "spec.h"

/* A condition, or a list of them, in our words; what is in none of the dialects stays as it is, for the
 * compiler to complain about.  A new reference; NULL after an error went to spec. */
json_t *dialect_translate(json_t *where, struct spec *);
