/* SPDX-License-Identifier: MIT */
/* fuzz_ws_retry - a Retry-After and a Date: what is understood is a wait of at most a day. */
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket/transport/ws_retry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text, and the server's date behind a line's end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	char *date = strchr(text, '\n');
	if (date)
		*date++ = '\0';
	if (ws_retry_seconds(text, date, 784111777) > 86400)
		abort();
	free(text);
	return 0;
}
