/* SPDX-License-Identifier: MIT */
/* fuzz_script - any bytes as a file of tests: parsed, and each item of a step turned into bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "core/trial/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct script *s)
{
	for (size_t i = 0; i < s->n_cases; i++)
		for (size_t k = 0; k < s->cases[i].n_steps; k++)
			for (size_t n = 0; n < s->cases[i].steps[k].n_items; n++) {
				size_t len;
				free(script_bytes(&s->cases[i].steps[k], n, &len));
			}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script *s;
	struct diag diag;

	diag_init(&diag);
	int rc = script_parse("fuzz", (const char *)data, size, &diag, &s);
	if ((rc == -22) != (diag.errors > 0))
		abort();
	if (rc == 0)
		look(s);
	script_free(s);
	diag_done(&diag);
	return 0;
}
