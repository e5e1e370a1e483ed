/* SPDX-License-Identifier: MIT */
/* fuzz_filter - any bytes as an event, many conditions on it compared with what Jansson parsed says. */
#include "plugins/filter/test_verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct verdicts *verdicts;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!verdicts)
		verdicts = verdicts_new();
	verdicts_compare(verdicts, (const char *)data, size);
	return 0;
}
