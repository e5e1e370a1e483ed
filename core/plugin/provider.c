/* SPDX-License-Identifier: MIT */
/* provider - see provider.h. */
#include "core/plugin/provider.h"

#include <stdio.h>
#include <string.h>
#include "core/plugin/loader.h"

static const char suffix[] = PROVIDER_SUFFIX;

const struct ss_component *provider_find(struct loader *loader, const char *mode, const char **why)
{
	char type[PROVIDER_MAX_MODE + sizeof suffix];
	const char *unused;

	if (!why)
		why = &unused;
	*why = NULL;
	if (strlen(mode) > PROVIDER_MAX_MODE)
		return NULL;
	snprintf(type, sizeof type, "%s%s", mode, suffix);
	const struct ss_component *desc = loader_find(loader, type, why);
	if (!desc || desc->kind == SS_KIND_PROVIDER)
		return desc;
	*why = "its plugin is not a provider";
	return NULL;
}

bool provider_mode(const struct ss_component *desc, char mode[PROVIDER_MAX_MODE + 1])
{
	size_t n = strlen(desc->type), tail = sizeof suffix - 1;

	if (desc->kind != SS_KIND_PROVIDER || n <= tail || n - tail > PROVIDER_MAX_MODE ||
	    strcmp(desc->type + n - tail, suffix) != 0)
		return false;
	snprintf(mode, PROVIDER_MAX_MODE + 1, "%.*s", (int)(n - tail), desc->type);
	return true;
}
