/* SPDX-License-Identifier: MIT */
/*
 * view - what runs, as JSON documents: for the admin port's API, the status page and the commands.  The
 * numbers are those of /metrics, read in the same way.  Control thread.
 */
#pragma once
#include <jansson.h>

struct pipeline;

enum view {
	VIEW_PIPELINE,
	VIEW_COMPONENTS,
	VIEW_QUEUES,
	VIEW_CERTIFICATES,
	VIEW_SPOOLS,
	VIEW_STORAGE,
	VIEW_STATUS, /* all of them, links and health */
};

/* A new reference; NULL: out of memory. */
json_t *view_json(enum view, struct pipeline *);
