/* SPDX-License-Identifier: MIT */
/*
 * problem - error replies of a CA (RFC 7807, RFC 8555 section 6.7): what kind, whether trying again helps,
 * and in words an operator can act on.  Pure; the reply is hostile.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct json_t;

#define PROBLEM_SUBS 8

struct problem_part {
	char type[40];  /* the word after the ACME namespace, or the end of a foreign type; "" none */
	char name[128]; /* the identifier it is about; "" none */
	char detail[256];
};

struct problem {
	long status; /* of HTTP, 0: not known */
	struct problem_part main;
	struct problem_part subs[PROBLEM_SUBS];
	size_t n_subs, n_subs_left; /* kept, and how many more there were */
};

/* From a reply; anything that is no problem document is one without type. */
void problem_read(const char *body, size_t len, long status, struct problem *out);
/* From an error member of an order or challenge; NULL is allowed. */
void problem_from(const struct json_t *, struct problem *out);
bool problem_is(const struct problem *, const char *type);
/* It will not get better by itself. */
bool problem_permanent(const struct problem *);
/* One sentence: what it means, what the CA says, for which names. */
void problem_text(const struct problem *, char *out, size_t size);
