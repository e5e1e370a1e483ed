/* SPDX-License-Identifier: MIT */
/* peers_page - the page /peers of the admin port: its arguments, and its answer. */
#pragma once
#include <stdio.h>

struct pipeline;
struct admin_request;

/* [ctl] The HTTP status. */
int peers_page(const struct pipeline *, const struct admin_request *, FILE *body);
