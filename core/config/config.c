/* SPDX-License-Identifier: MIT */
/*
 * config - from a JSON file to a checked graph of components.
 * Control thread only.
 */
#include "core/config/config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/tls.h>

#include "core/config/claims.h"
#include "core/config/descriptors.h"
#include "core/config/expand.h"
#include "core/plugin/loader.h"
#include "core/config/options.h"
#include "core/config/rates.h"
#include "core/config/secret_file.h"
#include "core/plugin/provider.h"
#include <semstreams/base/host_name.h>
#include <semstreams/base/units.h>
#include "core/config/wiring.h"

#define MAX_PLUGIN_PATHS 64

/* ---- settings of the host itself ------------------------------------------------------------------------
 */

struct log_conf {
	int64_t level, format;
};
static const char *const level_names[] = {"error", "warn", "info", "debug", NULL};
static const int levels[] = {SS_LOG_ERROR, SS_LOG_WARN, SS_LOG_INFO, SS_LOG_DEBUG};
static const char *const format_names[] = {"logfmt", "json", NULL};
static const struct ss_option log_options[] = {
	{.key = "level",
	 .type = SS_OPT_ENUM,
	 .offset = offsetof(struct log_conf, level),
	 .default_text = "info",
	 .choices = level_names},
	{.key = "format",
	 .type = SS_OPT_ENUM,
	 .offset = offsetof(struct log_conf, format),
	 .default_text = "logfmt",
	 .choices = format_names},
};
static const struct option_table log_table = OPTION_TABLE(log_options, struct log_conf);

struct positions_conf {
	int64_t max_streams, forget_after;
};
static const struct ss_option positions_options[] = {
	{.key = "max_streams",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct positions_conf, max_streams),
	 .default_text = "100000",
	 .min = 1000,
	 .max = 10000000},
	{.key = "forget_after",
	 .type = SS_OPT_DURATION,
	 .offset = offsetof(struct positions_conf, forget_after),
	 .default_text = "30d",
	 .min = 0,
	 .max = INT64_C(315360000000000000)},
};
static const struct option_table positions_table = OPTION_TABLE(positions_options, struct positions_conf);

static int read_log(struct config *config, const struct jnode *node, struct diag *diag)
{
	struct options options;
	int rc = options_fill(&log_table, config->doc, node, config->doc->root, diag, &options);
	if (rc == 0) {
		const struct log_conf *conf = options.conf;
		config->log_level = levels[conf->level];
		config->log_json = conf->format == 1;
		config->log_journal = !jnode_get(node, "format");
	}
	options_done(&options);
	return rc == -ENOMEM ? rc : 0;
}

static int read_positions(struct config *config, const struct jnode *node, struct diag *diag)
{
	const uint64_t minute = 60000000000;
	struct options options;
	int rc = options_fill(&positions_table, config->doc, node, config->doc->root, diag, &options);

	if (rc == 0) {
		const struct positions_conf *conf = options.conf;
		config->max_streams = (uint32_t)conf->max_streams;
		config->forget_streams_min = (uint32_t)(((uint64_t)conf->forget_after + minute - 1) / minute);
	}
	options_done(&options);
	return rc == -ENOMEM ? rc : 0;
}

/* ---- helpers --------------------------------------------------------------------------------------------
 */

/* The type of a value that must be there as said; false: reported. */
static bool expect(const struct config *config, const struct jnode *node, enum jtype type, struct diag *diag)
{
	char shown[JSHOWN_SIZE];
	if (node->type == type)
		return true;
	jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE, "expected %s, got %s", jtype_name(type),
		    jnode_shown(node, shown));
	return false;
}

/* A copy of a string setting's value; NULL: reported, or out of memory. */
static char *read_text(const struct config *config, const struct jnode *node, struct diag *diag)
{
	char *text;
	if (!expand_is_text(node)) {
		expect(config, node, J_STRING, diag);
		return NULL;
	}
	return expand_text(config->doc, node, diag, &text) ? NULL : text;
}

static void check_keys(const struct config *config, const struct jnode *object, const char *const *keys,
		       size_t n, struct diag *diag)
{
	for (const struct jnode *child = object->child; child; child = child->next) {
		size_t i = 0;
		while (i < n && strcmp(child->name, keys[i]) != 0)
			i++;
		if (i == n)
			jdoc_report_unknown(config->doc, diag, child, J_NAME, "key", child->name, keys, n);
	}
}
#define N(array) (sizeof(array) / sizeof((array)[0]))

static int read_plugins(struct config *config, const struct jnode *node, struct diag *diag)
{
	static const char *const keys[] = {"paths", "strict"};
	if (!node || !expect(config, node, J_OBJECT, diag))
		return 0;
	check_keys(config, node, keys, N(keys), diag);
	struct jnode *strict = jnode_get(node, "strict");
	if (strict && expand_is_variable(strict) && expand_tree(config->doc, strict, diag) == 0 &&
	    (strcmp(strict->string, "true") == 0 || strcmp(strict->string, "false") == 0))
		strict->type = strict->string[0] == 't' ? J_TRUE : J_FALSE;
	config->strict = strict && strict->type == J_TRUE;
	if (strict && strict->type != J_FALSE)
		expect(config, strict, J_TRUE, diag);
	const struct jnode *paths = jnode_get(node, "paths");
	if (!paths || !expect(config, paths, J_ARRAY, diag))
		return 0;
	if (paths->n > MAX_PLUGIN_PATHS) {
		jdoc_report(config->doc, diag, DIAG_ERROR, paths, J_VALUE, "more than %d folders",
			    MAX_PLUGIN_PATHS);
		return 0;
	}
	config->plugin_paths = calloc(paths->n + 1, sizeof(char *));
	if (!config->plugin_paths)
		return -ENOMEM;
	for (const struct jnode *child = paths->child; child; child = child->next) {
		char *path = read_text(config, child, diag);
		if (path && *path == '\0') {
			jdoc_report(config->doc, diag, DIAG_ERROR, child, J_VALUE,
				    "expected a folder, got an empty string");
		} else if (path) {
			char *whole = expand_path(config->doc, path);
			if (!whole) {
				free(path);
				return -ENOMEM;
			}
			config->plugin_paths[config->n_plugin_paths++] = whole;
		}
		free(path);
	}
	return 0;
}

/* ---- components -----------------------------------------------------------------------------------------
 */

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool is_name(const char *s, const char *alphabet)
{
	size_t len = strlen(s);
	return len > 0 && len <= CONFIG_MAX_ID && strspn(s, alphabet) == len && *s != '.';
}

/* The name at key of the component; NULL: reported. */
static char *read_name(const struct config *config, const struct jnode *component, const char *key,
		       bool required, const char *alphabet, const char *form, struct diag *diag)
{
	const struct jnode *node = jnode_get(component, key);
	char shown[JSHOWN_SIZE];
	if (!node && required)
		jdoc_report(config->doc, diag, DIAG_ERROR, component, J_VALUE, "\"%s\" is missing", key);
	char *name = node ? read_text(config, node, diag) : NULL;
	if (name && !is_name(name, alphabet)) {
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE, "expected %s, got %s", form,
			    jnode_shown(node, shown));
		free(name);
		name = NULL;
	}
	return name;
}

static void read_component(const struct config *config, struct config_component *c, struct diag *diag)
{
	static const char *const keys[] = {"id", "type", "config", "inputs", "worker", "queue"};
	static const char id_form[] = "1 to 63 letters, digits, \"_\", \"-\" or \".\", the first not a dot";

	c->limits = (struct queue_limits){QUEUE_EVENTS_DEFAULT, QUEUE_BYTES_DEFAULT, OVERFLOW_BLOCK};
	if (!expect(config, c->node, J_OBJECT, diag))
		return;
	check_keys(config, c->node, keys, N(keys), diag);
	c->id = read_name(config, c->node, "id", true, LOWER UPPER DIGITS "_.-", id_form, diag);
	c->type = read_name(config, c->node, "type", true, LOWER DIGITS "_",
			    "1 to 63 lower-case letters, digits or \"_\"", diag);
	c->worker = read_name(config, c->node, "worker", false, LOWER UPPER DIGITS "_.-", id_form, diag);
	c->options = jnode_get(c->node, "config");
	if (c->options && !expect(config, c->options, J_OBJECT, diag))
		c->options = NULL;
	const struct jnode *queue = jnode_get(c->node, "queue");
	if (queue)
		wiring_read_limits(config, queue, diag, &c->limits);
}

static void check_ids(const struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		size_t k = 0;
		while (c->id && k < i &&
		       (!config->components[k].id || strcmp(config->components[k].id, c->id) != 0))
			k++;
		if (!c->id || k == i)
			continue;
		struct place first = jnode_get(config->components[k].node, "id")->place;
		jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(c->node, "id"), J_VALUE,
			    "duplicate id \"%s\", first at %u:%u", c->id, first.line, first.column);
	}
}

static int read_components(struct config *config, const struct jnode *root, struct diag *diag)
{
	struct jnode *node = jnode_get(root, "components");
	if (!node)
		jdoc_report(config->doc, diag, DIAG_ERROR, root, J_VALUE,
			    "\"components\" is missing: an array of {\"id\": ..., \"type\": ..., \"config\": "
			    "{...}}");
	if (!node || !expect(config, node, J_ARRAY, diag))
		return 0;
	if (node->n == 0)
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE, "at least one component is needed");
	size_t n = node->n < CONFIG_MAX_COMPONENTS ? node->n : CONFIG_MAX_COMPONENTS;
	config->components = calloc(n + 1, sizeof *config->components);
	if (!config->components)
		return -ENOMEM;
	for (struct jnode *child = node->child; child; child = child->next) {
		if (config->n_components == CONFIG_MAX_COMPONENTS) {
			jdoc_report(config->doc, diag, DIAG_ERROR, child, J_VALUE, "more than %d components",
				    CONFIG_MAX_COMPONENTS);
			break;
		}
		struct config_component *c = &config->components[config->n_components++];
		c->node = child;
		read_component(config, c, diag);
	}
	check_ids(config, diag);
	return wiring_read(config, diag);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

/* References in a section, but not in the settings of TLS providers: those are resolved by their option
 * tables. */
static int expand_section(const struct config *config, struct jnode *node, const struct tls_section *section,
			  struct diag *diag)
{
	int rc = 0;
	for (struct jnode *child = node->child; child && rc != -ENOMEM; child = child->next) {
		const struct tls_key *key = NULL;
		for (size_t i = 0; !key && i < section->n; i++)
			if (strcmp(section->keys[i].name, child->name) == 0)
				key = &section->keys[i];
		bool settings = section->has_modes && child->type == J_OBJECT && !(key && key->schema);
		if (key && key->section && child->type == J_OBJECT)
			rc = expand_section(config, child, key->section, diag);
		else if (key && strstr(key->name, "_file") && (rc = expand_paths(config->doc, child, diag)))
			continue; /* of a file its path is wanted, not what is in it */
		else if (!settings)
			rc = expand_tree(config->doc, child, diag);
	}
	return rc;
}

static int read_config(struct config *config, struct diag *diag)
{
	static const char *const keys[] = {"components", "security",  "plugins", "admin",
					   "log",        "positions", "$schema", "sandbox"};
	const struct jnode *root = config->doc->root, *schema = jnode_get(root, "$schema");
	struct jnode *security = jnode_get(root, "security");
	int rc;

	check_keys(config, root, keys, N(keys), diag);
	if (schema)
		expect(config, schema, J_STRING, diag);
	if (security && expect(config, security, J_OBJECT, diag)) {
		config->security = security;
		size_t errors = diag->errors;
		if (expand_section(config, security, &tls_security, diag) == -ENOMEM)
			return -ENOMEM;
		config->security_unclear = diag->errors > errors;
	}
	if ((rc = admin_config_read(config, jnode_get(root, "admin"), diag)) ||
	    (rc = read_log(config, jnode_get(root, "log"), diag)) ||
	    (rc = read_plugins(config, jnode_get(root, "plugins"), diag)) ||
	    (rc = read_positions(config, jnode_get(root, "positions"), diag)) ||
	    (rc = sandbox_config_read(config->doc, jnode_get(root, "sandbox"), diag, &config->sandbox)))
		return rc;
	return read_components(config, root, diag);
}

/* Takes doc over, which may be NULL. */
static int from_document(struct jdoc *doc, struct diag *diag, size_t errors_before, struct config **out)
{
	char shown[JSHOWN_SIZE];
	*out = NULL;
	if (!doc)
		return -EINVAL;
	if (doc->root->type != J_OBJECT) {
		jdoc_report(doc, diag, DIAG_ERROR, doc->root, J_VALUE, "expected an object, got %s",
			    jnode_shown(doc->root, shown));
		jdoc_free(doc);
		return -EINVAL;
	}
	struct config *config = calloc(1, sizeof *config);
	if (!config) {
		jdoc_free(doc);
		return -ENOMEM;
	}
	config->doc = doc;
	config->log_level = SS_LOG_INFO;
	config->claims = claims_new();
	config->rates = rates_new();
	int rc = config->claims && config->rates ? read_config(config, diag) : -ENOMEM;
	if (rc) {
		config_free(config);
		return rc;
	}
	*out = config;
	return diag->errors > errors_before ? -EINVAL : 0;
}

int config_parse(const char *file, const char *text, size_t len, struct diag *diag, struct config **out)
{
	size_t errors = diag->errors;
	struct jdoc *doc;
	*out = NULL;
	int rc = jdoc_parse(file, text, len, diag, &doc);
	return rc == -ENOMEM ? rc : from_document(doc, diag, errors, out);
}

int config_load(const char *file, struct diag *diag, struct config **out)
{
	size_t errors = diag->errors;
	struct jdoc *doc;
	*out = NULL;
	int rc = jdoc_load(file, diag, &doc);
	return rc == -ENOMEM ? rc : from_document(doc, diag, errors, out);
}

/* ---- with the plugins -----------------------------------------------------------------------------------
 */

static int report_type(const struct config *config, const struct config_component *c, struct loader *loader,
		       const char *why, struct diag *diag)
{
	const struct jnode *node = jnode_get(c->node, "type");
	if (why) {
		jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE, "cannot load type \"%s\": %s",
			    c->type, why);
	} else {
		loader_load_all(loader);
		size_t all = loader_count(loader), n = 0;
		const char **known = calloc(all + 1, sizeof *known);
		char mode[PROVIDER_MAX_MODE + 1];
		if (!known)
			return -ENOMEM;
		for (size_t i = 0; i < all; i++) {
			const struct ss_component *desc = loader_type(loader, i, NULL);
			if (!provider_mode(desc, mode))
				known[n++] = desc->type;
		}
		if (n)
			jdoc_report_unknown(config->doc, diag, node, J_VALUE, "type", c->type, known, n);
		else
			jdoc_report(config->doc, diag, DIAG_ERROR, node, J_VALUE,
				    "unknown type \"%s\"; no plugins were found", c->type);
		free(known);
	}
	if (c->options)
		jdoc_report(config->doc, diag, DIAG_SKIP, c->options, J_NAME,
			    "not checked: the component's type is not available");
	return 0;
}

/* Fill c->conf from c->options by the table of c->desc.  0, -ENOMEM; other errors are in diag. */
static int fill(const struct config *config, struct config_component *c, struct diag *diag)
{
	struct option_table table = {
		.rows = c->desc->options,
		.row_size = c->desc->option_size,
		.n = c->desc->n_options,
		.conf_size = c->desc->conf_size,
	};
	struct options options;
	int rc = options_fill(&table, config->doc, c->options, c->node, diag, &options);
	c->conf = options.conf;
	c->strings = options.strings;
	c->n_strings = options.n_strings;
	c->wrong = options.wrong;
	c->n_wrong = options.n_wrong;
	c->complete = rc == 0 && c->id;
	c->testable = rc != -ENOMEM && options.filled && c->id;
	return rc == -ENOMEM ? rc : 0;
}

static int resolve_component(const struct config *config, struct config_component *c, struct loader *loader,
			     struct diag *diag)
{
	const char *why = NULL;
	if (!c->type)
		return 0;
	c->desc = loader_find(loader, c->type, &why);
	if (!c->desc)
		return report_type(config, c, loader, why, diag);
	char mode[PROVIDER_MAX_MODE + 1];
	if (provider_mode(c->desc, mode))
		jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(c->node, "type"), J_VALUE,
			    "\"%s\" provides TLS certificates; it is started by \"mode\": \"%s\" in "
			    "security.tls, not listed here",
			    c->type, mode);
	return fill(config, c, diag);
}

/* ---- providers of certificates ---- */

static const char *const provider_ids[TLS_ROLES] = {
	[SS_TLS_SERVER] = "tls.server", [SS_TLS_CLIENT] = "tls.client"};

/* Names in log and metrics are one component's. */
static void check_provider_ids(const struct config *config, struct diag *diag)
{
	for (size_t i = 0; i < config->n_components; i++) {
		const struct config_component *c = &config->components[i];
		bool taken = c->id && strcmp(c->id, TLS_PROVIDER_SHARED) == 0;
		for (size_t role = 0; role < TLS_ROLES; role++)
			taken |=
				c->id && config->providers[role].id && strcmp(c->id, provider_ids[role]) == 0;
		if (taken)
			jdoc_report(config->doc, diag, DIAG_ERROR, jnode_get(c->node, "id"), J_VALUE,
				    "the id \"%s\" is reserved for the provider of TLS certificates", c->id);
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

static int resolve_provider(struct config *config, uint32_t number, struct diag *diag)
{
	const struct tls_role *role = &config->tls.roles[number];
	struct config_component *c = &config->providers[number];

	if (!role->provider)
		return 0;
	c->id = strdup(provider_ids[number]);
	if (!c->id)
		return -ENOMEM;
	c->tls_roles = 1u << number;
	c->desc = role->provider;
	bool whole;
	c->node = jnode_at(config->security, number == SS_TLS_SERVER ? "/tls/server" : "/tls/client", &whole);
	c->options = jnode_get(c->node, role->mode);
	if (c->options || !needs_settings(c->desc))
		return fill(config, c, diag);
	jdoc_report(config->doc, diag, DIAG_ERROR, c->node, J_VALUE,
		    "\"%s\" is missing: the settings of mode \"%s\"", role->mode, role->mode);
	return 0;
}

/* A hidden component for each role whose certificate is from a provider. */
static int resolve_providers(struct config *config, struct diag *diag)
{
	int rc = 0;

	for (uint32_t i = 0; i < TLS_ROLES && rc != -ENOMEM; i++)
		rc = resolve_provider(config, i, diag);
	if (config->providers[SS_TLS_SERVER].id || config->providers[SS_TLS_CLIENT].id)
		check_provider_ids(config, diag);
	return rc == -ENOMEM ? rc : 0;
}

int config_resolve(struct config *config, struct loader *loader, struct diag *diag)
{
	size_t errors = diag->errors;
	int rc = 0;
	for (size_t i = 0; i < config->n_components && rc == 0; i++)
		rc = resolve_component(config, &config->components[i], loader, diag);
	if (rc == 0)
		rc = wiring_complete(config, diag);
	/* what would be said of a text that is not there would be wrong */
	if (rc == 0 && !config->security_unclear &&
	    tls_config_read(config->doc, config->security, loader, diag, &config->tls) == -ENOMEM)
		rc = -ENOMEM;
	if (rc == 0)
		rc = resolve_providers(config, diag);
	if (rc)
		return rc;
	sandbox_config_check(config, diag);
	return diag->errors > errors ? -EINVAL : 0;
}

/* Is this within an option that was found to be wrong?  Then it is only a consequence. */
static bool is_consequence(const struct config_component *c, const char *pointer)
{
	for (size_t i = 0; i < c->n_wrong; i++) {
		size_t len = strlen(c->wrong[i]);
		if (*pointer == '/' && strncmp(pointer + 1, c->wrong[i], len) == 0 &&
		    (pointer[1 + len] == '\0' || pointer[1 + len] == '/'))
			return true;
	}
	return false;
}

static void report_at(const struct config *config, const struct config_component *c, struct diag *diag,
		      enum diag_level level, const char *pointer, const char *text)
{
	if (is_consequence(c, pointer))
		return;
	bool whole = false;
	struct jnode *node = c->options ? jnode_at(c->options, pointer, &whole) : c->node;
	char *base = jnode_pointer(c->options ? c->options : c->node), *full = NULL;
	/* a provider's are not in "config" */
	const char *between = c->options || c->tls_roles ? "" : "/config";
	if (!base || asprintf(&full, "%s%s%s", base, between, pointer) < 0)
		full = NULL;
	diag_add(diag, level, config->doc->file, node->place, full, "%s", text);
	free(full);
	free(base);
}

void config_component_error(const struct config *config, const struct config_component *c, struct diag *diag,
			    const char *pointer, const char *text)
{
	report_at(config, c, diag, DIAG_ERROR, pointer, text);
}

/* Descriptors are shared; there may be fewer than all want together. */
static void claim_descriptors(const struct config *config, const struct config_component *c,
			      struct diag *diag, const char *pointer, const char *number)
{
	const uint64_t left = descriptors_left();
	char text[512];
	int64_t n;

	if (ss_parse_integer(number, &n) < 0 || n < 0)
		return;
	const uint64_t sum = claims_descriptors(config->claims, (uint64_t)n);
	if (sum <= left)
		return;
	snprintf(text, sizeof text,
		 "asks for %" PRId64 " open files, %" PRIu64 " with the components before, but the limit of "
		 "open files (RLIMIT_NOFILE) has room for %" PRIu64 ": raise it (LimitNOFILE of systemd, the "
		 "ulimit nofile of a container), or make this smaller",
		 n, sum, left);
	report_at(config, c, diag, DIAG_WARN, pointer, text);
}

/* What it is, for a person. */
static void show_resource(const char *resource, char *text, size_t size)
{
	const char *rest = strchr(resource, ':');

	if (rest && strncmp(resource, "file:", 5) == 0)
		snprintf(text, size, "the file \"%s\"", rest + 1);
	else if (claims_is_port(resource))
		snprintf(text, size, "%s port %s", *resource == 't' ? "TCP" : "UDP",
			 strrchr(resource, ':') + 1);
	else
		snprintf(text, size, "\"%s\"", resource);
}

int config_claim(const struct config *config, const struct config_component *c, struct diag *diag,
		 const char *pointer, const char *resource)
{
	const char *other;
	char what[512], text[1024], warning[2 * PATH_MAX + 256];

	if (strncmp(resource, "descriptors:", 12) == 0) {
		claim_descriptors(config, c, diag, pointer, resource + 12);
		return 0;
	}
	if (strncmp(resource, "secret:", 7) == 0) {
		if (secret_file_exposed(resource + 7, warning, sizeof warning))
			report_at(config, c, diag, DIAG_WARN, pointer, warning);
		return 0;
	}
	if (claims_is_need(resource))
		return claims_add(config->claims, c->id, resource, &other);
	/* identities take turns, as each needs its port for moments only */
	bool provides = c >= config->providers && c < config->providers + TLS_ROLES;
	int rc = claims_add(config->claims, provides ? "security.tls" : c->id, resource, &other);
	if (rc != -EEXIST)
		return rc;
	show_resource(resource, what, sizeof what);
	if (other)
		snprintf(text, sizeof text, "\"%s\" and \"%s\" would both use %s; give one of them another",
			 other, c->id, what);
	else
		snprintf(text, sizeof text,
			 "\"%s\" and the admin port would both use %s; give one of them another", c->id,
			 what);
	config_component_error(config, c, diag, pointer, text);
	return rc;
}

static void component_done(struct config_component *c)
{
	struct options options = {
		.conf = c->conf, .strings = c->strings, .n_strings = c->n_strings, .wrong = c->wrong};

	options_done(&options);
	free(c->id);
	free(c->type);
	free(c->worker);
	free(c->inputs);
}

const struct config *config_ref(const struct config *config)
{
	((struct config *)(uintptr_t)config)->borrowers++;
	return config;
}

void config_free(struct config *config)
{
	if (!config || config->borrowers-- > 0)
		return;
	for (size_t i = 0; i < config->n_components; i++)
		component_done(&config->components[i]);
	for (size_t i = 0; i < TLS_ROLES; i++)
		component_done(&config->providers[i]);
	tls_config_done(&config->tls);
	sandbox_config_done(&config->sandbox);
	free(config->components);
	for (size_t i = 0; i < config->n_plugin_paths; i++)
		free(config->plugin_paths[i]);
	free(config->plugin_paths);
	free(config->admin_listen);
	admin_config_done(&config->admin);
	claims_free(config->claims);
	rates_free(config->rates);
	jdoc_free(config->doc);
	free(config);
}
