/* SPDX-License-Identifier: MIT */
/* load - see load.h. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/cli/load.h"
#include "core/admin/hidden.h"
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

/* Is a problem the reason that a component has no type?  Then it is in diag as an error. */
static bool is_reported(const struct config *config, struct loader *l, const struct loader_problem *problem)
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
	size_t n;
	const struct loader_problem *problems = loader_problems(l, &n);

	for (size_t i = 0; i < n; i++)
		if (!is_reported(config, l, &problems[i]))
			diag_add(diag, DIAG_WARN, NULL, (struct place){0}, NULL, "%s", problems[i].text);
}

int load_config(const struct cli_options *o, struct loaded *out)
{
	*out = (struct loaded){.loader = loader_new()};
	diag_init(&out->diag);
	if (!out->loader)
		return -ENOMEM;
	int rc = config_load(config_file(o), &out->diag, &out->config);
	if (!out->config)
		return rc < 0 ? rc : -EINVAL;
	int rc2 = add_folders(o, out->config, out->loader);
	if (rc2 == 0)
		rc2 = config_resolve(out->config, out->loader, &out->diag);
	if (rc2 == -ENOMEM)
		return rc2;
	loader_check_all(out->loader);
	warn_problems(out->config, out->loader, &out->diag);
	return rc < 0 ? rc : rc2;
}

void load_done(struct loaded *l)
{
	config_free(l->config);
	loader_free(l->loader);
	diag_done(&l->diag);
	hidden_clear();
}

int load_types(const struct cli_options *o, struct loaded *out)
{
	struct diag ignored;
	int rc = 0;

	*out = (struct loaded){.loader = loader_new()};
	diag_init(&out->diag);
	if (!out->loader)
		return -ENOMEM;
	diag_init(&ignored); /* for its folders only; whatever else is wrong in it does not matter here */
	if (o->config || access(CLI_DEFAULT_CONFIG, R_OK) == 0)
		rc = config_load(config_file(o), o->config ? &out->diag : &ignored, &out->config);
	diag_done(&ignored);
	if (rc == -ENOMEM || (o->config && !out->config))
		return rc;
	diag_done(&out->diag);
	rc = add_folders(o, out->config, out->loader);
	if (rc == 0) {
		loader_load_all(out->loader);
		warn_problems(NULL, out->loader, &out->diag);
	}
	return rc;
}
