/* SPDX-License-Identifier: MIT */
/* tap_view - the stream of events that /api/v1/tap answers with, as lines of JSON. */
#pragma once

struct admin_request;
struct admin_stream;

/* Of a page of the admin port; arg is a struct api. */
int tap_view_open(void *arg, const struct admin_request *, struct admin_stream *);
