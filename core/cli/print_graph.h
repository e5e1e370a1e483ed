/* SPDX-License-Identifier: MIT */
/* graph - prints who feeds whom.  Pure. */
#pragma once
#include <stdio.h>

struct config;

enum graph_format { GRAPH_TEXT, GRAPH_DOT, GRAPH_MERMAID };

/* Format by name ("text", "dot", "mermaid"); -EINVAL. */
int graph_format_parse(const char *name);

/* The config is checked; output names are told where it is resolved.  0 or -ENOMEM; write errors stay with
 * the FILE. */
int graph_print(const struct config *, enum graph_format, FILE *);
