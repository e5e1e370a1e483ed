/* SPDX-License-Identifier: MIT */
/* point - places of the graph by name: "ID" and "ID.OUTPUT" are outputs, "ID:in" is what comes to a
 * component. Control thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct component;
struct pipeline;

struct point {
	struct component *component;
	uint32_t port; /* the output; TAP_INPUT: what comes in */
};

/* The component whose id is the first len bytes of name; NULL: there is none, see why. */
struct component *point_component(const struct pipeline *, const char *name, size_t len, char why[512]);
/* 0; -ENOENT, -EINVAL, see why. */
int point_find(const struct pipeline *, const char *text, struct point *, char why[512]);
