/* SPDX-License-Identifier: MIT */
/* tls_provider - see tls_provider.h. */
#include "core/tls/tls_provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/tls.h>
#include "core/config/config.h"
#include "core/plugin/loader.h"

static const char suffix[] = "_tls";

const struct ss_component *tls_provider_find(struct loader *loader, const char *mode, const char **why)
{
	char type[TLS_MAX_MODE + sizeof suffix];
	const char *unused;

	if (!why)
		why = &unused;
	*why = NULL;
	if (strlen(mode) > TLS_MAX_MODE)
		return NULL;
	snprintf(type, sizeof type, "%s%s", mode, suffix);
	const struct ss_component *desc = loader_find(loader, type, why);
	if (!desc || desc->kind == SS_KIND_PROVIDER)
		return desc;
	*why = "its plugin is no provider";
	return NULL;
}

bool tls_provider_mode(const struct ss_component *desc, char mode[TLS_MAX_MODE + 1])
{
	size_t n = strlen(desc->type), tail = sizeof suffix - 1;

	if (desc->kind != SS_KIND_PROVIDER || n <= tail || n - tail > TLS_MAX_MODE ||
	    strcmp(desc->type + n - tail, suffix) != 0)
		return false;
	snprintf(mode, TLS_MAX_MODE + 1, "%.*s", (int)(n - tail), desc->type);
	return true;
}

/* "; did you mean ...?" or "; known: ..." for a mode that nobody has. */
static void print_known(struct loader *loader, const char *mode, FILE *to)
{
	size_t n = loader_count(loader), n_known = 0;
	char(*names)[TLS_MAX_MODE + 1] = calloc(n + 1, sizeof *names);
	const char **known = calloc(n + 1, sizeof *known);

	if (names && known) {
		known[n_known++] = "manual";
		for (size_t i = 0; i < n; i++) {
			if (tls_provider_mode(loader_type(loader, i, NULL), names[i]))
				known[n_known++] = names[i];
		}
		const char *near = diag_nearest(mode, known, n_known);
		if (near)
			fprintf(to, "; did you mean \"%s\"?", near);
		for (size_t i = 0; !near && i < n_known; i++)
			fprintf(to, "%s%s", i ? ", " : "; known: ", known[i]);
	}
	free(known);
	free(names);
}

const struct ss_component *tls_provider_of(struct loader *loader, const struct jdoc *doc,
					   const struct jnode *mode, struct diag *diag)
{
	const char *why;
	const struct ss_component *desc = tls_provider_find(loader, mode->string, &why);
	char *known = NULL;
	size_t size;

	if (desc)
		return desc;
	if (why) {
		jdoc_report(doc, diag, DIAG_ERROR, mode, J_VALUE, "cannot load mode \"%s\": %s", mode->string,
			    why);
		return NULL;
	}
	FILE *to = open_memstream(&known, &size);
	if (to) {
		loader_load_all(loader);
		print_known(loader, mode->string, to);
		fclose(to);
	}
	jdoc_report(doc, diag, DIAG_ERROR, mode, J_VALUE,
		    "mode \"%s\" needs the plugin %s%s, which is not there%s", mode->string, mode->string,
		    suffix, known ? known : "");
	free(known);
	return NULL;
}

/* ---- as components ---- */

static const char *const ids[TLS_ROLES] = {[SS_TLS_SERVER] = "tls.server", [SS_TLS_CLIENT] = "tls.client"};

/* Names in log and metrics are one component's. */
static void check_ids(const struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		bool taken = c->id && strcmp(c->id, TLS_PROVIDER_SHARED) == 0;
		for (size_t role = 0; role < TLS_ROLES; role++)
			taken |= c->id && config->providers[role].id && strcmp(c->id, ids[role]) == 0;
		if (taken)
			jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(c->node, "id"), J_VALUE,
				    "the id \"%s\" is taken by the provider of TLS certificates", c->id);
	}
}

static bool needs_settings(const struct ss_component *desc)
{
	for (uint32_t i = 0; i < desc->n_options; i++) {
		const struct ss_option *o =
			(const struct ss_option *)(const void *)((const char *)desc->options +
								 (size_t)i * desc->option_size);
		if (o->flags & SS_OPT_REQUIRED)
			return true;
	}
	return false;
}

static int resolve(struct config *config, uint32_t number, struct diag *diag)
{
	const struct tls_role *role = &config->tls.roles[number];
	struct config_component *c = &config->providers[number];

	if (!role->provider)
		return 0;
	c->id = strdup(ids[number]);
	if (!c->id)
		return -ENOMEM;
	c->tls_roles = 1u << number;
	c->desc = role->provider;
	bool whole;
	c->node = jnode_at(config->security, number == SS_TLS_SERVER ? "/tls/server" : "/tls/client", &whole);
	c->options = jnode_get(c->node, role->mode);
	if (c->options || !needs_settings(c->desc))
		return config_fill(config, c, diag);
	jdoc_report(config->doc, diag, DIAG_ERROR, c->node, J_VALUE,
		    "\"%s\" is missing: the settings of mode \"%s\"", role->mode, role->mode);
	return 0;
}

int tls_provider_resolve(struct config *config, struct diag *diag)
{
	int rc = 0;

	for (uint32_t i = 0; i < TLS_ROLES && rc != -ENOMEM; i++)
		rc = resolve(config, i, diag);
	if (config->providers[SS_TLS_SERVER].id || config->providers[SS_TLS_CLIENT].id)
		check_ids(config, diag);
	return rc == -ENOMEM ? rc : 0;
}
