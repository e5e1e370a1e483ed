/* SPDX-License-Identifier: MIT */
/*
 * schema - see schema.h.  A strict mirror of what config.c, tls_config.c and options.c accept; where JSON
 * Schema cannot say it (ids that exist, limits of "64MiB") it accepts more.  Jansson's functions take the
 * NULL that a failed allocation left; what got lost is noticed at the end as far as it matters.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "core/config/config.h"
#include "core/plugin/loader.h"
#include "core/cli/schema.h"
#include "core/plugin/provider.h"
#include <semstreams/base/units.h>

/* Names of parts of the schema, absolute as checkers want them; there is nothing to be had there. */
#define ID_BASE "https://semstreams.invalid/schema/"

/* clang-format off */
/* What does not depend on plugins. */
static const char skeleton[] =
	"{"
	"  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\","
	"  \"title\": \"semstreams configuration\","
	"  \"type\": \"object\","
	"  \"required\": [\"components\"],"
	"  \"additionalProperties\": false,"
	"  \"properties\": {"
	"    \"$schema\": {\"type\": \"string\", \"description\": \"Where this schema is, for editors\"},"
	"    \"components\": {"
	"      \"type\": \"array\", \"minItems\": 1, \"maxItems\": 256, \"items\": {\"$ref\": \"#/$defs/component\"},"
	"      \"description\": \"The stages of the pipeline\""
	"    },"
	"    \"security\": {},"
	"    \"plugins\": {"
	"      \"type\": \"object\", \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"paths\": {"
	"          \"type\": \"array\", \"maxItems\": 64,"
	"          \"items\": {\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, {\"$ref\": \"#/$defs/from_elsewhere\"}]},"
	"          \"description\": \"Folders with plugins, searched before the one that came with the program\""
	"        },"
	"        \"strict\": {\"anyOf\": [{\"type\": \"boolean\"}, {\"$ref\": \"#/$defs/variable\"}], \"default\": false, \"description\": \"Check all rules of the plugin interface\"}"
	"      }"
	"    },"
	"    \"admin\": {"
	"      \"type\": \"object\", \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"listen\": {"
	"          \"anyOf\": ["
	"            {\"const\": \"off\"},"
	"            {\"type\": \"string\", \"pattern\": \"^(unix:/.*|\\\\[.+\\\\]:[0-9]+|[^:]+:[0-9]+)$\"},"
	"            {\"$ref\": \"#/$defs/from_elsewhere\"}"
	"          ],"
	"          \"default\": \"127.0.0.1:9600\","
	"          \"description\": \"Address of the admin port: \\\"host:port\\\", \\\"[v6]:port\\\", \\\"unix:/path\\\" or \\\"off\\\"\""
	"        },"
	"        \"socket\": {"
	"          \"anyOf\": [{\"enum\": [\"auto\", \"off\"]}, {\"type\": \"string\", \"pattern\": \"^/.{1,106}$\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"          \"default\": \"auto\","
	"          \"description\": \"Path of the unix socket for commands; auto = admin.sock in $RUNTIME_DIRECTORY, where that is set\""
	"        },"
	"        \"socket_group\": {"
	"          \"anyOf\": [{\"type\": \"string\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"          \"description\": \"Group whose members may use the socket, too\""
	"        },"
	"        \"max_streams\": {"
	"          \"anyOf\": [{\"type\": \"integer\", \"minimum\": 0, \"maximum\": 24}, {\"$ref\": \"#/$defs/variable\"}],"
	"          \"default\": 8, \"description\": \"Live views of the port, and of the socket, that may be open at once\""
	"        },"
	"        \"tls\": {"
	"          \"type\": \"object\", \"additionalProperties\": false, \"required\": [\"cert_file\", \"key_file\"],"
	"          \"description\": \"TLS of the port\","
	"          \"properties\": {"
	"            \"cert_file\": {\"anyOf\": [{\"type\": \"string\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}], \"description\": \"Certificate, with its chain\"},"
	"            \"key_file\": {\"anyOf\": [{\"type\": \"string\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}], \"description\": \"Its private key\"},"
	"            \"client_ca_file\": {\"anyOf\": [{\"type\": \"string\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}], \"description\": \"CAs of the clients; only who has a certificate of theirs is answered\"},"
	"            \"writers\": {\"type\": \"array\", \"items\": {\"type\": \"string\", \"minLength\": 1}, \"default\": [], \"description\": \"Names in certificates of clients that may change things\"}"
	"          }"
	"        },"
	"        \"watchdog\": {\"$ref\": \"#/$defs/duration\", \"default\": \"5s\", \"description\": \"Time after which a callback of a component that does not return is reported\"},"
	"        \"held_watch\": {\"$ref\": \"#/$defs/duration\", \"default\": \"1m\", \"description\": \"Time after which a component that keeps batches and gives no reason is reported\"}"
	"      }"
	"    },"
	"    \"positions\": {"
	"      \"type\": \"object\", \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"max_streams\": {"
	"          \"anyOf\": [{\"type\": \"integer\", \"minimum\": 1000, \"maximum\": 10000000}, {\"$ref\": \"#/$defs/variable\"}],"
	"          \"default\": 100000, \"description\": \"Senders' streams whose position a component that stores events remembers; for one more, that unseen for longest is forgotten\""
	"        },"
	"        \"forget_after\": {\"$ref\": \"#/$defs/duration\", \"default\": \"30d\", \"description\": \"Time after which the position of a stream is forgotten that nothing came of; 0 = never\"}"
	"      }"
	"    },"
	"    \"sandbox\": {"
	"      \"description\": \"What the process gives up once it has started: files outside its own, system calls, capabilities\","
	"      \"default\": \"auto\","
	"      \"anyOf\": ["
	"        {\"$ref\": \"#/$defs/sandbox_mode\"},"
	"        {"
	"          \"type\": \"object\", \"additionalProperties\": false,"
	"          \"properties\": {"
	"            \"mode\": {\"$ref\": \"#/$defs/sandbox_mode\", \"default\": \"auto\", \"description\": \"auto: as far as the kernel and the plugins let it; required: whole, or it does not start\"},"
	"            \"read\": {\"$ref\": \"#/$defs/sandbox_paths\", \"description\": \"Files and folders that are read besides those known from the configuration\"},"
	"            \"write\": {\"$ref\": \"#/$defs/sandbox_paths\", \"description\": \"The same that are written\"}"
	"          }"
	"        }"
	"      ]"
	"    },"
	"    \"log\": {"
	"      \"type\": \"object\", \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"level\": {"
	"          \"anyOf\": [{\"enum\": [\"error\", \"warn\", \"info\", \"debug\"]}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"          \"default\": \"info\", \"description\": \"The least important messages that are written\""
	"        },"
	"        \"format\": {"
	"          \"anyOf\": [{\"enum\": [\"logfmt\", \"json\"]}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"          \"description\": \"How a line of the log is written; absent: logfmt, or entries with fields if standard error is the systemd journal\""
	"        }"
	"      }"
	"    }"
	"  },"
	"  \"$defs\": {"
	"    \"duration\": {\"type\": \"string\", \"pattern\": \"^(0|([0-9]+(\\\\.[0-9]+)?(ns|us|ms|s|m|h|d))+)$\"},"
	"    \"size\": {\"type\": \"string\", \"pattern\": \"^[0-9]+(\\\\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$\"},"
	"    \"variable\": {"
	"      \"description\": \"A value from the environment, ${env:NAME}\","
	"      \"type\": \"string\", \"pattern\": \"\\\\$\\\\{env:[A-Za-z_][A-Za-z0-9_]*\\\\}\""
	"    },"
	"    \"from_elsewhere\": {"
	"      \"description\": \"Text from the environment, ${env:NAME}, from a file, {\\\"file\\\": path}, or a credential of the systemd unit, {\\\"credential\\\": name}\","
	"      \"anyOf\": ["
	"        {\"type\": \"string\", \"pattern\": \"\\\\$\\\\{env:[A-Za-z_][A-Za-z0-9_]*\\\\}\"},"
	"        {"
	"          \"type\": \"object\", \"required\": [\"file\"], \"additionalProperties\": false,"
	"          \"properties\": {\"file\": {\"type\": \"string\"}}"
	"        },"
	"        {"
	"          \"type\": \"object\", \"required\": [\"credential\"], \"additionalProperties\": false,"
	"          \"properties\": {\"credential\": {\"type\": \"string\", \"pattern\": \"^[^/]+$\"}}"
	"        }"
	"      ]"
	"    },"
	"    \"sandbox_mode\": {\"anyOf\": [{\"enum\": [\"auto\", \"off\", \"required\"]}, {\"$ref\": \"#/$defs/from_elsewhere\"}]},"
	"    \"sandbox_paths\": {"
	"      \"type\": \"array\", \"maxItems\": 64,"
	"      \"items\": {\"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, {\"$ref\": \"#/$defs/from_elsewhere\"}]}"
	"    },"
	"    \"id\": {"
	"      \"anyOf\": ["
	"        {\"type\": \"string\", \"pattern\": \"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}$\"},"
	"        {\"$ref\": \"#/$defs/from_elsewhere\"}"
	"      ]"
	"    },"
	"    \"queue\": {"
	"      \"type\": \"object\", \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"events\": {"
	"          \"anyOf\": [{\"type\": \"integer\", \"minimum\": 1, \"maximum\": 1000000000}, {\"$ref\": \"#/$defs/variable\"}],"
	"          \"default\": 65536,"
	"          \"description\": \"The most events that wait\""
	"        },"
	"        \"bytes\": {"
	"          \"anyOf\": ["
	"            {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 1099511627776},"
	"            {\"$ref\": \"#/$defs/size\"}, {\"$ref\": \"#/$defs/from_elsewhere\"}"
	"          ],"
	"          \"default\": \"64MiB\", \"description\": \"The most bytes that wait\""
	"        },"
	"        \"overflow\": {"
	"          \"anyOf\": [{\"enum\": [\"block\", \"drop_newest\", \"drop_oldest\"]}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"          \"default\": \"block\", \"description\": \"What happens when the queue is full\""
	"        }"
	"      }"
	"    },"
	"    \"source\": {"
	"      \"anyOf\": [{\"type\": \"string\", \"minLength\": 1}, {\"$ref\": \"#/$defs/from_elsewhere\"}],"
	"      \"description\": \"Id of a component, or id.output\""
	"    },"
	"    \"input\": {"
	"      \"anyOf\": ["
	"        {\"$ref\": \"#/$defs/source\"},"
	"        {"
	"          \"type\": \"object\", \"required\": [\"from\"], \"additionalProperties\": false,"
	"          \"properties\": {\"from\": {\"$ref\": \"#/$defs/source\"}, \"queue\": {\"$ref\": \"#/$defs/queue\"}}"
	"        }"
	"      ]"
	"    },"
	"    \"component\": {"
	"      \"type\": \"object\","
	"      \"required\": [\"id\", \"type\"],"
	"      \"additionalProperties\": false,"
	"      \"properties\": {"
	"        \"id\": {\"$ref\": \"#/$defs/id\", \"description\": \"Name of the component, in logs and metrics\"},"
	"        \"type\": {\"anyOf\": [{\"$ref\": \"#/$defs/from_elsewhere\"}], \"description\": \"What it does\"},"
	"        \"inputs\": {"
	"          \"anyOf\": ["
	"            {\"$ref\": \"#/$defs/source\"},"
	"            {\"type\": \"array\", \"maxItems\": 256, \"items\": {\"$ref\": \"#/$defs/input\"}}"
	"          ],"
	"          \"description\": \"What it reads from; if absent, the component before it in the list\""
	"        },"
	"        \"queue\": {\"$ref\": \"#/$defs/queue\", \"description\": \"Limits of the queues before it\"},"
	"        \"worker\": {\"$ref\": \"#/$defs/id\", \"description\": \"Components with the same worker share a thread\"},"
	"        \"config\": {\"type\": \"object\", \"description\": \"The options of its type\"}"
	"      },"
	"      \"allOf\": []"
	"    }"
	"  }"
	"}";
/* clang-format on */

/* A value of the plugin's text; what is not UTF-8 becomes null. */
static json_t *text(const char *s)
{
	json_t *value = json_string(s);

	return value ? value : json_null();
}

/* {"$ref": "#/$defs/NAME"} */
static json_t *ref(const char *name)
{
	return json_pack("{s:s+}", "$ref", "#/$defs/", name);
}

/* One of these: */
static json_t *any_of(json_t *a, json_t *b)
{
	return json_pack("{s:[o,o]}", "anyOf", a, b);
}

/* Either this, or a text that comes from elsewhere: "${env:...}" or {"file": path}. */
static json_t *or_from_elsewhere(json_t *value)
{
	return any_of(value, ref("from_elsewhere"));
}

static json_t *integer(const struct ss_option *o, json_int_t least)
{
	json_t *schema = json_pack("{s:s}", "type", "integer");
	bool limits = o->min != 0 || o->max != 0;

	if (limits && o->min != INT64_MIN)
		json_object_set_new(schema, "minimum", json_integer(o->min > least ? o->min : least));
	else if (least != INT64_MIN)
		json_object_set_new(schema, "minimum", json_integer(least));
	if (limits && o->max != INT64_MAX)
		json_object_set_new(schema, "maximum", json_integer(o->max));
	return schema;
}

static json_t *enumeration(const char *const *choices)
{
	json_t *list = json_array();

	for (; choices && *choices; choices++)
		json_array_append_new(list, text(*choices));
	return json_pack("{s:o}", "enum", list);
}

/*
 * The plugin's own fragment, or anything if it is none.  References in it are meant within it: an $id of its
 * own makes them so.
 */
static json_t *fragment(const char *type, const struct ss_option *o)
{
	json_t *value = o->schema ? json_loads(o->schema, JSON_REJECT_DUPLICATES, NULL) : NULL;

	if (!json_is_object(value)) {
		json_decref(value);
		return json_object();
	}
	if (strstr(o->schema, "\"$ref\"") && !json_object_get(value, "$id"))
		json_object_set_new(value, "$id", json_pack("s+++", ID_BASE, type, "/", o->key));
	return value;
}

static json_t *value_schema(const char *type, const struct ss_option *o)
{
	switch (o->type) {
	case SS_OPT_STRING:
		return or_from_elsewhere(json_pack("{s:s}", "type", "string"));
	case SS_OPT_INT:
		return any_of(integer(o, INT64_MIN), ref("variable"));
	case SS_OPT_BOOL:
		return any_of(json_pack("{s:s}", "type", "boolean"), ref("variable"));
	case SS_OPT_BYTES:
		return json_pack("{s:[o,o,o]}", "anyOf", integer(o, 0), ref("size"), ref("from_elsewhere"));
	case SS_OPT_DURATION:
		return or_from_elsewhere(ref("duration"));
	case SS_OPT_ENUM:
		return or_from_elsewhere(enumeration(o->choices));
	default:
		return fragment(type, o);
	}
}

json_t *schema_default(const struct ss_option *o)
{
	int64_t number;

	if (!o->default_text)
		return NULL;
	switch (o->type) {
	case SS_OPT_INT:
		return ss_parse_integer(o->default_text, &number) == 0 ? json_integer(number) : NULL;
	case SS_OPT_BOOL:
		return json_boolean(strcmp(o->default_text, "true") == 0);
	case SS_OPT_JSON:
		return json_loads(o->default_text, JSON_DECODE_ANY, NULL);
	default:
		return text(o->default_text);
	}
}

static json_t *option_schema(const char *type, const struct ss_option *o)
{
	json_t *schema = value_schema(type, o);

	if (o->help)
		json_object_set_new(schema, "description", text(o->help));
	json_t *value = schema_default(o);
	if (value)
		json_object_set_new(schema, "default", value);
	if (o->flags & SS_OPT_DEPRECATED)
		json_object_set_new(schema, "deprecated", json_true());
	return schema;
}

/* The "config" of a component type. */
static json_t *config_of(const struct ss_component *desc)
{
	json_t *properties = json_object(), *required = json_array();

	for (uint32_t i = 0; i < desc->n_options; i++) {
		const struct ss_option *o = &desc->options[i];
		json_object_set_new(properties, o->key, option_schema(desc->type, o));
		if (o->flags & SS_OPT_REQUIRED)
			json_array_append_new(required, json_string(o->key));
	}
	json_t *schema = json_pack("{s:s,s:o,s:b}", "type", "object", "properties", properties,
				   "additionalProperties", 0);
	if (json_array_size(required) > 0)
		json_object_set(schema, "required", required);
	json_decref(required);
	return schema;
}

/* If a component is of this type, its "config" is that. */
static json_t *rule_of(const struct ss_component *desc)
{
	json_t *properties = json_pack("{s:{s:s+}}", "config", "$ref", "#/$defs/config_of_", desc->type);
	json_t *then = json_pack("{s:o}", "properties", properties);

	for (uint32_t i = 0; i < desc->n_options; i++) {
		if (desc->options[i].flags & SS_OPT_REQUIRED) {
			json_object_set_new(then, "required", json_pack("[s]", "config"));
			break;
		}
	}
	if (desc->kind == SS_KIND_SOURCE || desc->kind == SS_KIND_PROVIDER)
		json_object_set_new(properties, "inputs",
				    json_pack("{s:s, s:i}", "type", "array", "maxItems", 0));
	return json_pack("{s:{s:{s:{s:s}},s:[s]},s:o}", "if", "properties", "type", "const", desc->type,
			 "required", "type", "then", then);
}

/* Fill in what the types that are loaded add to the skeleton. */
static void add_type(json_t *defs, const struct ss_component *desc)
{
	char key[96];
	json_t *component = json_object_get(defs, "component");
	json_t *types =
		json_object_get(json_object_get(json_object_get(component, "properties"), "type"), "anyOf");

	snprintf(key, sizeof key, "config_of_%s", desc->type);
	json_object_set_new(defs, key, config_of(desc));
	json_array_insert_new(
		types, json_array_size(types) - 1,
		json_pack("{s:s,s:o}", "const", desc->type, "description", text(desc->summary)));
	json_array_append_new(json_object_get(component, "allOf"), rule_of(desc));
}

/* ---- "security" ---- */

static json_t *section_schema(const struct loader *, const struct tls_section *);

static json_t *key_schema(const struct loader *l, const struct tls_key *key)
{
	json_t *schema;

	if (key->section)
		return section_schema(l, key->section);
	schema = key->schema ? json_loads(key->schema, 0, NULL) : json_pack("{s:s}", "type", "object");
	json_object_set_new(schema, "description", text(key->help));
	if (key->otherwise)
		json_object_set_new(schema, "default", json_loads(key->otherwise, JSON_DECODE_ANY, NULL));
	return schema;
}

/* The settings of a mode.  What is required of them is left to sections, where they may stand without being
 * used. */
static void add_settings(json_t *defs, const struct ss_component *desc, const char *mode)
{
	char key[96];
	json_t *settings = config_of(desc);

	json_object_del(settings, "required");
	json_object_set_new(settings, "description", text(desc->summary));
	snprintf(key, sizeof key, "settings_of_%s", mode);
	json_object_set_new(defs, key, settings);
}

/* In a section that uses the mode its settings are whole. */
static json_t *mode_rule(const struct ss_component *desc, const char *mode)
{
	json_t *config = config_of(desc), *required = json_object_get(config, "required");
	json_t *off =
		json_pack("{s:[s],s:{s:{s:b}}}", "required", "enabled", "properties", "enabled", "const", 0);
	json_t *rule = NULL;

	if (required)
		rule = json_pack("{s:{s:[s],s:{s:{s:s},s:{s:{s:b}},s:{s:O}}},s:{s:[s],s:{s:{s:O}}}}", "if",
				 "required", "mode", "properties", "mode", "const", mode, "enabled", "not",
				 "const", 0, mode, "not", off, "then", "required", mode, "properties", mode,
				 "required", required);
	json_decref(off);
	json_decref(config);
	return rule;
}

static void add_modes(const struct loader *l, json_t *section)
{
	json_t *rules = json_array(), *properties = json_object_get(section, "properties");
	char mode[PROVIDER_MAX_MODE + 1];

	for (size_t i = 0; i < loader_count(l); i++) {
		const struct ss_component *desc = loader_type(l, i, NULL);
		if (!provider_mode(desc, mode))
			continue;
		json_object_set_new(properties, mode,
				    json_pack("{s:s+}", "$ref", "#/$defs/settings_of_", mode));
		json_t *rule = mode_rule(desc, mode);
		if (rule)
			json_array_append_new(rules, rule);
	}
	if (json_array_size(rules))
		json_object_set(section, "allOf", rules);
	json_decref(rules);
}

static json_t *section_schema(const struct loader *l, const struct tls_section *section)
{
	json_t *schema = section->rules ? json_loads(section->rules, 0, NULL) : json_object();
	json_t *properties = json_object();

	for (size_t i = 0; i < section->n; i++)
		json_object_set_new(properties, section->keys[i].name, key_schema(l, &section->keys[i]));
	json_object_set_new(schema, "type", json_string("object"));
	json_object_set_new(schema, "description", text(section->help));
	json_object_set_new(schema, "properties", properties);
	json_object_set_new(schema, "additionalProperties", json_false());
	if (section->has_modes)
		add_modes(l, schema);
	return schema;
}

json_t *schema_config(const struct loader *l)
{
	json_t *schema = json_loads(skeleton, JSON_REJECT_DUPLICATES, NULL);
	json_t *defs = json_object_get(schema, "$defs"), *component = json_object_get(defs, "component");

	json_object_set_new(json_object_get(schema, "properties"), "security",
			    section_schema(l, &tls_security));
	size_t modes = 0;
	for (size_t i = 0; i < loader_count(l); i++) {
		const struct ss_component *desc = loader_type(l, i, NULL);
		char mode[PROVIDER_MAX_MODE + 1];
		if (provider_mode(desc, mode)) {
			add_settings(defs, desc, mode);
			modes++;
		} else {
			add_type(defs, desc);
		}
	}
	json_t *rules = json_object_get(component, "allOf");
	size_t n = json_array_size(rules);
	if (n == 0)
		json_object_del(component, "allOf");
	if (!schema || n + modes != loader_count(l)) {
		json_decref(schema);
		return NULL;
	}
	return schema;
}
