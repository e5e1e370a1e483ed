/* SPDX-License-Identifier: MIT */
/* fuzz_moment - points in time as peers write them: what is read is in range, and reads the same when
 * printed.
 */
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include "plugins/aggregate/timestamp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > 100000)
		return 0;
	const enum timestamp_format format = data[0] % 5;
	const struct ss_field f = {.text = (const char *)data + 1,
				   .len = (uint32_t)size - 1,
				   .type = data[0] & 64 ? SS_JSON_NUMBER : SS_JSON_STRING};
	int64_t ns, again;
	char text[TIMESTAMP_TEXT];

	if (!timestamp_read(&f, format, &ns))
		return 0;
	if (!timestamp_in_range(ns))
		abort();
	const struct ss_field printed = {
		.text = text, .len = (uint32_t)timestamp_print(text, ns), .type = SS_JSON_STRING};
	if (printed.len >= TIMESTAMP_TEXT || !timestamp_read(&printed, TIMESTAMP_RFC3339, &again) ||
	    again != ns)
		abort();
	return 0;
}
