/* SPDX-License-Identifier: MIT */
/* effective - see effective.h.  Jansson's functions take the NULL that a failed allocation left. */
#include "core/cli/effective.h"

#include <string.h>
#include <strings.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>
#include <semstreams/ext/tls.h>
#include "core/cli/schema.h"
#include "core/config/config.h"

#define HIDDEN "<hidden>"

static const char *const overflow_names[] = {"block", "drop_newest", "drop_oldest"};

/* ---- what nobody may read ---- */

/* In settings that have no table of options. */
static bool sounds_secret(const char *name)
{
	static const char *const words[] = {"secret", "password", "passphrase", "token", "hmac"};
	const size_t n = strlen(name);

	if (n > 5 && strcmp(name + n - 5, "_file") == 0)
		return false;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

static bool is_reference(const json_t *value)
{
	return (json_is_string(value) && strstr(json_string_value(value), "${env:")) ||
	       (json_is_object(value) && json_object_size(value) == 1 && json_object_get(value, "file"));
}

/* Who may log in, and with what, may be part of a URL. */
static json_t *without_login(const char *text)
{
	const char *host = strstr(text, "://");
	if (!host)
		return NULL;
	host += 3;
	const char *path = host + strcspn(host, "/?#"), *query = strchr(host, '?');
	const char *at = memrchr(host, '@', (size_t)(path - host));
	if (!query && !at)
		return NULL;
	const char *from = at ? at + 1 : host;
	const size_t n = query ? (size_t)(query - from) : strlen(from);
	return json_sprintf("%.*s%.*s%s", (int)(host - text), text, (int)n, from, query ? "?" HIDDEN : "");
}

static void hide_strings(json_t *value);

static json_t *hidden_form(const char *name, json_t *value)
{
	if (name && sounds_secret(name) && !is_reference(value) && !json_is_boolean(value) &&
	    !json_is_null(value))
		return json_string(HIDDEN);
	if (json_is_string(value))
		return without_login(json_string_value(value));
	hide_strings(value);
	return NULL;
}

static void hide_strings(json_t *value)
{
	const char *name;
	json_t *member, *shown;
	size_t i;
	void *next;

	json_object_foreach_safe(value, next, name, member)
	{
		shown = hidden_form(name, member);
		if (shown)
			json_object_set_new(value, name, shown);
	}
	for (i = 0; json_is_array(value) && i < json_array_size(value); i++) {
		shown = hidden_form(NULL, json_array_get(value, i));
		if (shown)
			json_array_set_new(value, i, shown);
	}
}

/* ---- components ---- */

/* The options of one table in its object. */
static void treat_options(const struct ss_component *desc, json_t *object, bool defaults)
{
	for (uint32_t i = 0; desc && i < desc->n_options; i++) {
		const struct ss_option *o = &desc->options[i];
		json_t *value = json_object_get(object, o->key);
		if (!value && defaults)
			value = schema_default(o);
		else if (value && (o->flags & SS_OPT_SECRET) && !is_reference(value))
			value = json_string(HIDDEN);
		else
			continue;
		if (value)
			json_object_set_new(object, o->key, value);
	}
}

static json_t *limits_json(const struct queue_limits *l)
{
	char bytes[32];

	return json_pack("{s:I, s:s, s:s}", "events", (json_int_t)l->events, "bytes",
			 ss_format_size((int64_t)l->bytes, bytes, sizeof bytes), "overflow",
			 overflow_names[l->overflow]);
}

static json_t *inputs_json(const struct config *config, const struct config_component *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_inputs; i++) {
		const struct config_component *from = &config->components[c->inputs[i].from];
		const char *const *outputs = from->desc ? from->desc->outputs : NULL;
		bool named = outputs && outputs[0] && outputs[1];
		json_t *name = json_sprintf("%s%s%s", from->id, named ? "." : "",
					    named ? outputs[c->inputs[i].port] : "");
		json_array_append_new(list, json_pack("{s:o, s:o}", "from", name, "queue",
						      limits_json(&c->inputs[i].limits)));
	}
	return list;
}

static void treat_component(const struct config *config, const struct config_component *c, json_t *json,
			    bool defaults)
{
	json_t *options = json_object_get(json, "config");

	if (!options && defaults)
		json_object_set_new(json, "config", options = json_object());
	treat_options(c->desc, options, defaults);
	if (defaults && c->n_inputs) {
		json_object_set_new(json, "inputs", inputs_json(config, c));
		json_object_set_new(json, "queue", limits_json(&c->limits));
	}
}

/* ---- the sections of the host ---- */

/* Sections that count without being written, as their defaults do. */
static bool counts_unwritten(const char *name)
{
	return strcmp(name, "admin") == 0 || strcmp(name, "log") == 0 || strcmp(name, "positions") == 0 ||
	       strcmp(name, "plugins") == 0;
}

static void fill_from_schema(const json_t *schema, json_t *object, bool top)
{
	const char *name;
	json_t *property;

	json_object_foreach(json_object_get(schema, "properties"), name, property)
	{
		json_t *value = json_object_get(object, name),
		       *otherwise = json_object_get(property, "default");
		if (!value && otherwise)
			json_object_set_new(object, name, json_deep_copy(otherwise));
		else if (!value && top && counts_unwritten(name))
			json_object_set_new(object, name, value = json_object());
		if (json_is_object(value) && strcmp(name, "components") != 0)
			fill_from_schema(property, value, false);
	}
}

json_t *effective_config(const struct config *config, struct loader *loader, bool defaults)
{
	static const char *const roles[TLS_ROLES] = {[SS_TLS_SERVER] = "server", [SS_TLS_CLIENT] = "client"};
	const struct jnode *written = config->doc->root;
	json_t *root = json_loadb(written->text, written->text_len, 0, NULL);
	json_t *components = json_object_get(root, "components");

	for (size_t i = 0; i < config->n_components; i++)
		treat_component(config, &config->components[i], json_array_get(components, i), defaults);
	for (uint32_t i = 0; i < TLS_ROLES; i++) {
		json_t *tls = json_object_get(json_object_get(root, "security"), "tls");
		json_t *role = json_object_get(tls, roles[i]);
		const char *mode = config->tls.roles[i].mode;
		if (mode)
			treat_options(config->providers[i].desc, json_object_get(role, mode), defaults);
	}
	if (defaults) {
		json_t *schema = schema_config(loader);
		fill_from_schema(schema, root, true);
		json_decref(schema);
	}
	hide_strings(root);
	return root;
}
