/* SPDX-License-Identifier: MIT */
#include "core/config/sandbox_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/config.h"
#include "core/config/expand.h"

static const char *const modes[] = {
	[SANDBOX_AUTO] = "auto", [SANDBOX_OFF] = "off", [SANDBOX_REQUIRED] = "required"};

static int read_mode(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
		     struct sandbox_config *out)
{
	const char *known[3] = {modes[0], modes[1], modes[2]};
	char shown[JSHOWN_SIZE], *text = NULL;
	size_t i = 0;

	if (!expand_is_text(node)) {
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE,
			    "expected \"auto\", \"off\" or \"required\", got %s", jnode_shown(node, shown));
		return 0;
	}
	int rc = expand_text(doc, node, diag, &text);
	if (rc)
		return rc == -ENOMEM ? rc : 0;
	while (i < 3 && strcmp(known[i], text) != 0)
		i++;
	if (i < 3)
		out->mode = (enum sandbox_mode)i;
	else
		jdoc_report_unknown(doc, diag, node, J_VALUE, "mode of the sandbox", text, known, 3);
	free(text);
	return 0;
}

static int read_path(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
		     struct sandbox_paths *out)
{
	char shown[JSHOWN_SIZE], *text = NULL;
	int rc = expand_is_text(node) ? expand_text(doc, node, diag, &text) : 0;

	if (rc)
		return rc == -ENOMEM ? rc : 0;
	if (!text || !*text) {
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE,
			    "expected the path of a file or folder, got %s", jnode_shown(node, shown));
		free(text);
		return 0;
	}
	out->paths[out->n] = expand_path(doc, text);
	free(text);
	if (!out->paths[out->n])
		return -ENOMEM;
	out->n++;
	return 0;
}

static int read_paths(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
		      struct sandbox_paths *out)
{
	char shown[JSHOWN_SIZE];
	int rc = 0;

	if (!node)
		return 0;
	if (node->type != J_ARRAY || node->n > SANDBOX_MAX_PATHS) {
		jdoc_report(doc, diag, DIAG_ERROR, node, J_VALUE,
			    "expected an array of at most %d paths, got %s", SANDBOX_MAX_PATHS,
			    jnode_shown(node, shown));
		return 0;
	}
	out->paths = calloc(node->n + 1, sizeof *out->paths);
	if (!out->paths)
		return -ENOMEM;
	for (const struct jnode *child = node->child; child && rc == 0; child = child->next)
		rc = read_path(doc, child, diag, out);
	return rc;
}

int sandbox_config_read(const struct jdoc *doc, const struct jnode *node, struct diag *diag,
			struct sandbox_config *out)
{
	static const char *const keys[] = {"mode", "read", "write"};
	const size_t n_keys = sizeof keys / sizeof keys[0];

	*out = (struct sandbox_config){0};
	if (!node)
		return 0;
	if (node->type != J_OBJECT || expand_is_text(node))
		return read_mode(doc, node, diag, out);
	for (const struct jnode *child = node->child; child; child = child->next) {
		size_t i = 0;
		while (i < n_keys && strcmp(child->name, keys[i]) != 0)
			i++;
		if (i == n_keys)
			jdoc_report_unknown(doc, diag, child, J_NAME, "key", child->name, keys, n_keys);
	}
	const struct jnode *mode = jnode_get(node, "mode");
	out->listed = jnode_get(node, "read") || jnode_get(node, "write");
	int rc = mode ? read_mode(doc, mode, diag, out) : 0;
	if (rc == 0)
		rc = read_paths(doc, jnode_get(node, "read"), diag, &out->read);
	if (rc == 0)
		rc = read_paths(doc, jnode_get(node, "write"), diag, &out->write);
	return rc;
}

static bool is_unclear(const struct config_component *c)
{
	return c->desc && !(c->desc->flags & SS_TELLS_PATHS);
}

const struct config_component *sandbox_config_unclear(const struct config *config)
{
	if (config->sandbox.listed)
		return NULL;
	for (size_t i = 0; i < config->n_components; i++)
		if (is_unclear(&config->components[i]))
			return &config->components[i];
	for (size_t i = 0; i < TLS_ROLES; i++)
		if (is_unclear(&config->providers[i]))
			return &config->providers[i];
	return NULL;
}

void sandbox_config_check(const struct config *config, struct diag *diag)
{
	const struct config_component *c = sandbox_config_unclear(config);

	if (config->sandbox.mode == SANDBOX_REQUIRED && c)
		jdoc_report(config->doc, diag, DIAG_ERROR, c->node, J_VALUE,
			    "type \"%s\" does not tell which files it uses, and \"sandbox\" is \"required\": "
			    "list them in \"read\" and \"write\" of \"sandbox\", or set it to \"auto\"",
			    c->desc->type);
}

static void free_paths(struct sandbox_paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->paths[i]);
	free(p->paths);
	*p = (struct sandbox_paths){0};
}

void sandbox_config_done(struct sandbox_config *s)
{
	free_paths(&s->read);
	free_paths(&s->write);
}
