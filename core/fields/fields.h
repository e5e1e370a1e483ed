/* SPDX-License-Identifier: MIT */
/* fields - the JSON field reader, service "semstreams.fields/1"; its contract is in semstreams/plugin.h. */
#pragma once
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>

#define FIELDS_MAX_DEPTH 64

extern const struct ss_fields fields_service;
