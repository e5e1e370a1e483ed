/* SPDX-License-Identifier: MIT */
/* semstreams/base/url.h - what of a URL may be shown: what stands in front of an @ or behind a ? is often a
 * secret.  Pure: any thread.  Tags and rules are those of semstreams/plugin.h. */
#ifndef SEMSTREAMS_BASE_URL_H
#define SEMSTREAMS_BASE_URL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * [any] Any URL, request target or Location (RFC 3986) as messages may have it: no user and password, of a
 * query and a fragment only that there is one ("?..."), "?" for each byte that is not printable ASCII, cut
 * with "..." where the room ends.  out gets at most size bytes, NUL included; size 0: nothing.
 */
void ss_url_redact(const char *text, char *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
