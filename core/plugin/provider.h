/* SPDX-License-Identifier: MIT */
/*
 * provider - the component types behind the modes of "security.tls": mode "acme" is the type acme_tls of kind
 * provider.  Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>

struct loader;

#define PROVIDER_MAX_MODE 40 /* bytes of a mode's name */
#define PROVIDER_SUFFIX   "_tls"

/* The provider of a mode; NULL: there is none, and *why (may be NULL) says what is wrong with its plugin, or
 * is NULL too. */
const struct ss_component *provider_find(struct loader *, const char *mode, const char **why);
/* Is this the provider of a mode?  Then mode receives the mode's name. */
bool provider_mode(const struct ss_component *, char mode[PROVIDER_MAX_MODE + 1]);
