/* SPDX-License-Identifier: MIT */
/* cert_command - "semstreams cert": what an operator asks about certificates, or wants done by their
 * provider. */
#pragma once
#include <stddef.h>

struct config;
struct diag;

/*
 * Carry out words[0], a verb, with the words behind it, for a role (SS_TLS_...; -1: not said) of a config
 * that is resolved.  Prints to stdout, mistakes to stderr.  The exit code; -EINVAL with errors in diag,
 * -ENOMEM.
 */
int cert_command(struct config *, int role, size_t n_words, const char *const *words, struct diag *);
