/* SPDX-License-Identifier: MIT */
/*
 * settings - the options of an instance that is tried: those of the command line, and, where the option table
 * shows what is wanted, paths in a folder of its own and free ports.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <jansson.h>
#include <semstreams/plugin.h>

struct settings {
	const char *config; /* a file with a JSON object; NULL: none */
	const char **pairs; /* "NAME=VALUE" */
	size_t n;
};

struct conf; /* what create() is given, and what it points to */

/* 0; -EINVAL after telling on standard error what is wrong or missing; another errno. */
int conf_new(const struct ss_component *, const struct settings *, const char *folder, struct conf **out);
const void *conf_of(const struct conf *);
void conf_free(struct conf *); /* NULL is allowed */
