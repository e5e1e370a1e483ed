/* SPDX-License-Identifier: MIT */
/* load - see load.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/cli/load.h"
#include "core/plugin/provider.h"

const char load_plugin_dir[] = PLUGINDIR;

static const char *config_file(const struct cli_options *o)
{
	return o->config ? o->config : CLI_DEFAULT_CONFIG;
}

static int add_folders(const struct cli_options *o, const struct config *config, struct loader *l)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < o->n_folders; i++)
		rc = loader_add_path(l, o->folders[i]);
	for (size_t i = 0; rc == 0 && config && i < config->n_plugin_paths; i++)
		rc = loader_add_path(l, config->plugin_paths[i]);
	/* whoever named others may do without our own */
	bool others = o->n_folders > 0 || (config && config->n_plugin_paths > 0);
	if (rc == 0 && !(others && access(load_plugin_dir, F_OK) < 0 && errno == ENOENT))
		rc = loader_add_path(l, load_plugin_dir);
	return rc;
}

/* Is a problem the reason that a component has no type?  Then it has been told as an error. */
static bool is_told(const struct config *config, struct loader *l, const struct loader_problem *problem)
{
	for (size_t i = 0; config && i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		const char *why = NULL;
		if (c->type && !c->desc && !loader_find(l, c->type, &why) && why == problem->text)
			return true;
	}
	for (size_t i = 0; config && i < TLS_ROLES; i++) {
		const struct tls_role *role = &config->tls.roles[i];
		const char *why = NULL;
		if (role->mode && !role->provider && !provider_find(l, role->mode, &why) &&
		    why == problem->text)
			return true;
	}
	return false;
}

static void warn_problems(const struct config *config, struct loader *l, struct diag *diag)
{
	for (size_t i = 0; i < loader_n_problems(l); i++) {
		const struct loader_problem *problem = loader_problem(l, i);
		if (!is_told(config, l, problem))
			diag_add(diag, DIAG_WARN, NULL, (struct place){0}, NULL, "%s", problem->text);
	}
}

int load_config(const struct cli_options *o, struct diag *diag, struct config **out, struct loader **loader)
{
	*out = NULL;
	*loader = loader_new();
	if (!*loader)
		return -ENOMEM;
	int rc = config_load(config_file(o), diag, out);
	if (!*out)
		return rc < 0 ? rc : -EINVAL;
	int rc2 = add_folders(o, *out, *loader);
	if (rc2 == 0)
		rc2 = config_resolve(*out, *loader, diag);
	if (rc2 == -ENOMEM)
		return rc2;
	loader_check_all(*loader);
	warn_problems(*out, *loader, diag);
	return rc < 0 ? rc : rc2;
}

int load_types(const struct cli_options *o, struct diag *diag, struct loader **loader)
{
	struct config *config = NULL;
	struct diag ignored;
	int rc = 0;

	*loader = loader_new();
	if (!*loader)
		return -ENOMEM;
	diag_init(&ignored); /* for its folders only; whatever else is wrong in it does not matter here */
	if (o->config || access(CLI_DEFAULT_CONFIG, R_OK) == 0)
		rc = config_load(config_file(o), o->config ? diag : &ignored, &config);
	diag_done(&ignored);
	if (rc == -ENOMEM || (o->config && !config))
		goto out;
	diag_done(diag);
	rc = add_folders(o, config, *loader);
	if (rc == 0) {
		loader_load_all(*loader);
		warn_problems(NULL, *loader, diag);
	}
out:
	config_free(config);
	return rc;
}
