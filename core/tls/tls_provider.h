/* SPDX-License-Identifier: MIT */
/*
 * tls_provider - the plugins behind the modes of "security.tls": "mode": "acme" is the component type
 * acme_tls of kind provider, and the section's member "acme" its config.  Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/plugin.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"

struct config;
struct loader;

#define TLS_MAX_MODE 40 /* bytes of a mode's name */

/* The provider of a mode; NULL: there is none, and *why (may be NULL) is what is wrong with its plugin, or
 * NULL too. */
const struct ss_component *tls_provider_find(struct loader *, const char *mode, const char **why);
/* The same for the value of "mode"; what is wrong is reported there, with the modes there are. */
const struct ss_component *tls_provider_of(struct loader *, const struct jdoc *, const struct jnode *mode,
					   struct diag *);
/* Is this the provider of a mode?  Then its name, as long as the descriptor's type has it, in mode. */
bool tls_provider_mode(const struct ss_component *, char mode[TLS_MAX_MODE + 1]);

/*
 * After config->tls has been read: config->providers, a hidden component for each role whose certificate is
 * from a provider, with its options checked and filled in.  0, -ENOMEM; what is wrong is in diag.
 */
int tls_provider_resolve(struct config *, struct diag *);
