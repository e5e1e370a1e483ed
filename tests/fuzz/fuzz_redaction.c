/* SPDX-License-Identifier: MIT */
/* fuzz_redaction - any bytes as an event: what is shown of it is JSON, and nothing in it that is to be
 * hidden. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/redaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_member(const char *name, const json_t *value);

static void look(const json_t *value)
{
	const char *name;
	json_t *inner;
	size_t i;

	json_object_foreach((json_t *)(uintptr_t)value, name, inner) look_at_member(name, inner);
	json_array_foreach(value, i, inner) look(inner);
}

static void look_at_member(const char *name, const json_t *value)
{
	const char *text = json_string_value(value);

	if (strcmp(name, "p") == 0 && (!text || strcmp(text, "<hidden>") != 0))
		abort();
	look(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
	json_t *fields = json_pack("[s, s, s]", "p", "a.b", "/c/0/d");
	struct ss_strbuf out = {0};
	struct redaction *r;
	char why[512];

	if (!fields || redaction_new(fields, why, &r) != 0)
		abort();
	const bool shown = redaction_apply(r, (const char *)data, size, &out);
	json_t *json = json_loadb(ss_strbuf_cstr(&out), out.len, flags, NULL);
	if (shown != (json != NULL) || (!shown && out.len))
		abort();
	look(json);
	json_decref(json);
	json_decref(fields);
	ss_strbuf_done(&out);
	redaction_free(r);
	return 0;
}
