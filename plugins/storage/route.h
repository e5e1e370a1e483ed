/* SPDX-License-Identifier: MIT */
/*
 * route - which file an event goes to: the attributes that a template names, put in so that no value can lead
 * anywhere but to a name of its own below the prefix.  Two events share a file only if all the attributes
 * that the template names are equal.  Pure memory; any thread.
 *
 * In a value stay A-Z a-z 0-9 . _ - @ : + = , and all other bytes become %XX, as do a '.' or '-' that it
 * begins with, and the character behind the field where its part of the template has several.  As % never
 * stays, it begins what is no value: %none, %other, %unverified, and %~ with a digest at the end of what
 * would be too long.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <semstreams/ext/attributes.h>
#include "path.h"

enum {
	ROUTE_FIELDS = 8,
	KEY_MAX = 2 * REL_MAX /* bytes of a key, NUL included: a % of a value is two there */
};

#define ROUTE_OTHER "%other" /* what stands for all values of events that get no file of their own */

struct route_field {
	size_t begin, end; /* of its {name} in the pattern */
	uint32_t attribute;
	uint32_t room; /* bytes that a value may take */
	char behind;   /* that must not be in a value; NUL: it is the only field of its part */
};

/* A pattern as struct path has it, taken apart. */
struct route {
	const char *pattern; /* borrowed */
	struct route_field fields[ROUTE_FIELDS];
	int n;
};

/* 0, or -EINVAL with the reason in why. */
int route_parse(struct route *, const char *pattern, char why[WHY_MAX]);

/* The pattern for events with these attributes, NULL: none; only date fields are left in it.  It never fails:
 * the pattern was checked for the longest values. */
void route_key(const struct route *, const struct ss_attributes *, char key[KEY_MAX]);

/* The pattern of the file for all that get none of their own. */
void route_other(const struct route *, char key[KEY_MAX]);
