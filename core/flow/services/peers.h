/* SPDX-License-Identifier: MIT */
/* peers - the peers of the components that list them, as JSON. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct component;

struct peers_query {
	const char *component; /* id; NULL: all */
	const char *name;      /* how the name begins; NULL: any */
	const char *state;     /* NULL: any */
	uint64_t skip, limit;  /* of those that match */
	uint64_t total;        /* 0 */
};

/* [ctl] Write {"peers": [...], "total", "next", "unanswered"}, where next is what to skip for those that
 * follow, and unanswered the components that did not answer within a second.  0, -ENOMEM. */
int peers_print(struct component *const *components, size_t n, struct peers_query, FILE *body);
