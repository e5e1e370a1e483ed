/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ws_request - what a client sends first: its end is found whole and byte by byte alike, and all that is
 * taken from it lies in it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket/transport/ws_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void inside(struct ws_text t, const char *head, size_t len)
{
	must(!t.at || (t.at >= head && t.at + t.len <= head + len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *head = (const char *)data, *why = NULL;
	size_t looked = 0, end = ws_request_end(head, size, &looked), bytewise = 0;
	looked = 0;
	for (size_t n = 1; n <= size && !bytewise; n++)
		bytewise = ws_request_end(head, n, &looked);
	must(end <= size && end == bytewise);
	if (!end)
		return 0;
	struct ws_request r;
	int rc = ws_request_parse(head, end, &r, &why);
	must(rc ? (rc == 400 || rc == 505) && why : r.method.len && r.path.len);
	if (rc)
		return 0;
	inside(r.method, head, end);
	if (!ws_text_is(r.path, "/")) /* which a URL without a path has as well */
		inside(r.path, head, end);
	for (int i = 0; i < WS_FIELDS; i++)
		inside(r.fields[i], head, end);
	ws_request_lists(&r, WS_FIELD_UPGRADE, "websocket");
	ws_request_lists(&r, WS_FIELD_PROTOCOL, "x");
	char path[64];
	size_t n = r.path.len < sizeof path ? r.path.len : sizeof path - 1;
	memcpy(path, r.path.at, n);
	path[n] = '\0';
	must(ws_path_is((struct ws_text){.at = r.path.at, .len = n}, path));
	return 0;
}
