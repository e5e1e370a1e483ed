/* SPDX-License-Identifier: MIT */
/* The schema and the descriptions are made from the same tables; what they say is compared with the tables.
 */
#include "shared_object.h"
#include "core/cli/describe.h"
#include "core/plugin/loader.h"
#include "core/cli/schema.h"

static const char plugin_source[] =
	"#include <semstreams/plugin.h>\n"
	"static int32_t create(const struct ss_host *h, const void *c, void **s) { (void)h; (void)c; *s = 0; "
	"return 0; }\n"
	"static void destroy(void *s) { (void)s; }\n"
	"static const char *const modes[] = {\"slow\", \"fast\", 0};\n"
	"static const char *const reasons[] = {\"full\", 0};\n"
	"struct conf { const char *text, *tree, *plain; int64_t n, on, size, wait, mode; };\n"
	"#define AT(m) .offset = offsetof(struct conf, m)\n"
	"static const struct ss_option options[] = {\n"
	"  {.key = \"text\", .type = SS_OPT_STRING, .default_text = \"x\", .help = \"Some text.\", "
	"AT(text)},\n"
	"  {.key = \"n\", .type = SS_OPT_INT, .default_text = \"-3\", .min = -5, .max = 5, AT(n)},\n"
	"  {.key = \"on\", .type = SS_OPT_BOOL, .default_text = \"true\", AT(on)},\n"
	"  {.key = \"size\", .type = SS_OPT_BYTES, .default_text = \"1MiB\", .min = 1024, .max = INT64_MAX, "
	"AT(size)},\n"
	"  {.key = \"wait\", .type = SS_OPT_DURATION, .min = 1000000, .max = 60000000000, AT(wait)},\n"
	"  {.key = \"mode\", .type = SS_OPT_ENUM, .choices = modes, .default_text = \"slow\", AT(mode)},\n"
	"  {.key = \"tree\", .type = SS_OPT_JSON, .default_text = \"[1]\", AT(tree),\n"
	"   .schema = \"{\\\"type\\\": \\\"array\\\", \\\"items\\\": {\\\"$ref\\\": \\\"#\\\"}}\"},\n"
	"  {.key = \"plain\", .type = SS_OPT_JSON, .flags = SS_OPT_REQUIRED | SS_OPT_SECRET, AT(plain)},\n"
	"};\n"
	"static const struct ss_metric metrics[] = {{\"semstreams_x_total\", \"Help.\", \"k=\\\"v\\\"\", "
	"SS_METRIC_COUNTER, 0}};\n"
	"static const struct ss_component full = {.struct_size = sizeof full, .kind = SS_KIND_SOURCE, .type "
	"= \"full\",\n"
	"  .version = \"2\", .summary = \"All of it.\", .license = \"MIT\", .options = options,\n"
	"  .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],\n"
	"  .metrics = metrics, .metric_size = sizeof metrics[0], .n_metrics = 1, .reasons = reasons,\n"
	"  .conf_size = sizeof(struct conf), .create = create, .destroy = destroy};\n"
	"static const struct ss_component bare = {.struct_size = sizeof bare, .kind = SS_KIND_PROVIDER, "
	".type = \"bare\",\n"
	"  .summary = \"\\xff\", .create = create, .destroy = destroy};\n"
	"SS_REGISTER(&full, &bare);\n";

static struct loader *loader;

static int set_up(void **state)
{
	if (make_scratch(state) < 0)
		return -1;
	build(scratch, "full.so", "", plugin_source);
	loader = loader_new();
	if (!loader || loader_add_path(loader, scratch) < 0)
		return -1;
	loader_load_all(loader);
	return loader_count(loader) == 2 ? 0 : -1;
}

static int tear_down(void **state)
{
	loader_free(loader);
	return remove_scratch(state);
}

/* What is at a path of keys and indices, "a/0/b". */
static json_t *at(json_t *value, const char *path)
{
	char *copy = strdup(path), *rest = copy, *key;
	while (value && (key = strsep(&rest, "/")))
		value = json_is_array(value) ? json_array_get(value, (size_t)atoi(key))
					     : json_object_get(value, *key == '~' ? key + 1 : key);
	free(copy);
	return value;
}

#define expect(root, path, wanted) expect_(root, path, wanted, __LINE__)
static void expect_(json_t *root, const char *path, const char *wanted, int line)
{
	json_t *value = at(root, path), *good = json_loads(wanted, JSON_DECODE_ANY, NULL);
	assert_non_null(good);
	if (!value || !json_equal(value, good)) {
		char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
		fail_msg("line %d: %s is %s, not %s", line, path, text ? text : "missing", wanted);
	}
	json_decref(good);
}

static void options_in_the_schema(void **state)
{
	(void)state;
	json_t *root = schema_config(loader), *full = at(root, "$defs/config_of_full");
	assert_non_null(full);
	expect(full, "additionalProperties", "false");
	expect(full, "required", "[\"plain\"]");
	expect(full, "properties/text/default", "\"x\"");
	expect(full, "properties/text/description", "\"Some text.\"");
	expect(full, "properties/n",
	       "{\"anyOf\": [{\"type\": \"integer\", \"minimum\": -5, \"maximum\": 5}, "
	       "{\"$ref\": \"#/$defs/variable\"}], \"default\": -3}");
	expect(full, "properties/on",
	       "{\"anyOf\": [{\"type\": \"boolean\"}, {\"$ref\": \"#/$defs/variable\"}], \"default\": true}");
	expect(full, "properties/size/anyOf/0", "{\"type\": \"integer\", \"minimum\": 1024}");
	expect(full, "properties/size/anyOf/1", "{\"$ref\": \"#/$defs/size\"}");
	expect(full, "properties/wait/anyOf/0", "{\"$ref\": \"#/$defs/duration\"}");
	assert_null(at(full, "properties/wait/default"));
	expect(full, "properties/mode/anyOf/0", "{\"enum\": [\"slow\", \"fast\"]}");
	expect(full, "properties/tree",
	       "{\"type\": \"array\", \"items\": {\"$ref\": \"#\"}, \"$id\": "
	       "\"https://semstreams.invalid/schema/full/tree\", "
	       "\"default\": [1]}");
	expect(full, "properties/plain", "{}");
	json_decref(root);
}

static void types_in_the_schema(void **state)
{
	(void)state;
	json_t *root = schema_config(loader), *component = at(root, "$defs/component");
	expect(component, "properties/type/anyOf/0", "{\"const\": \"bare\", \"description\": null}");
	expect(component, "properties/type/anyOf/1",
	       "{\"const\": \"full\", \"description\": \"All of it.\"}");
	expect(component, "allOf/1/if/properties/type/const", "\"full\"");
	expect(component, "allOf/1/then/required", "[\"config\"]");
	expect(component, "allOf/1/then/properties/config/$ref", "\"#/$defs/config_of_full\"");
	assert_non_null(at(component, "allOf/1/then/properties/inputs")); /* a source takes none */
	assert_null(at(component, "allOf/0/then/required"));
	json_decref(root);
}

static void schema_without_plugins(void **state)
{
	(void)state;
	struct loader *empty = loader_new();
	json_t *root = schema_config(empty);
	expect(root, "$schema", "\"https://json-schema.org/draft/2020-12/schema\"");
	assert_null(at(root, "$defs/component/allOf")); /* an empty one is no valid schema */
	json_decref(root);
	loader_free(empty);
}

/* A type, or the list of all. */
static json_t *described(const struct ss_component *desc, const char *file)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	assert_int_equal(desc ? describe_type(desc, file, DESCRIBE_JSON, to)
			      : describe_list(loader, DESCRIBE_JSON, to),
			 0);
	fclose(to);
	json_t *root = json_loads(text, 0, NULL);
	assert_non_null(root);
	free(text);
	return root;
}

static void description_as_json(void **state)
{
	(void)state;
	const char *file;
	const struct ss_component *desc = loader_type(loader, 1, &file);
	json_t *root = described(desc, file);
	expect(root, "type", "\"full\"");
	expect(root, "kind", "\"source\"");
	expect(root, "version", "\"2\"");
	assert_int_equal(json_array_size(at(root, "options")), 8);
	expect(root, "options/1",
	       "{\"key\": \"n\", \"type\": \"integer\", \"required\": false, \"secret\": false, "
	       "\"deprecated\": false, \"live\": false,"
	       " \"help\": null, \"default\": -3, \"min\": -5, \"max\": 5}");
	expect(root, "options/5/choices", "[\"slow\", \"fast\"]");
	expect(root, "options/6/schema/type", "\"array\"");
	expect(root, "options/7/required", "true");
	expect(root, "options/7/secret", "true");
	assert_null(at(root, "options/7/default"));
	expect(root, "metrics/0",
	       "{\"name\": \"semstreams_x_total\", \"kind\": \"counter\", \"label\": \"k=\\\"v\\\"\", "
	       "\"help\": \"Help.\"}");
	expect(root, "outputs", "[]");
	expect(root, "drop_reasons", "[\"full\"]");
	json_decref(root);
	root = described(NULL, NULL);
	assert_int_equal(json_array_size(root), 2);
	expect(root, "0/type", "\"bare\"");
	expect(root, "0/kind", "\"provider\"");
	json_decref(root);
}

static void description_for_people(void **state)
{
	(void)state;
	static const char *const wanted[] = {
		"full: All of it.\n",
		"\n  kind     source\n",
		"/full.so\n",
		"\noptions\n",
		"\n  text   string    \"x\"                    Some text.\n",
		"\n  n      integer   -3        -5..5\n",
		"\n  size   size      1MiB      1KiB..\n",
		"\n  wait   duration  -         1ms..1m\n",
		"\n  mode   choice    slow      slow | fast\n",
		"\n  plain  json      required               (secret) ",
		"\n  semstreams_x_total{k=\"v\"}  counter  Help.\n",
		"\ndrop reasons\n  full\n",
	};
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	const char *file;
	const struct ss_component *desc = loader_type(loader, 1, &file);
	assert_int_equal(describe_type(desc, file, DESCRIBE_TEXT, to), 0);
	fclose(to);
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
		if (!strstr(text, wanted[i]))
			fail_msg("'%s' is not in:\n%s", wanted[i], text);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_in_the_schema),  cmocka_unit_test(types_in_the_schema),
		cmocka_unit_test(schema_without_plugins), cmocka_unit_test(description_as_json),
		cmocka_unit_test(description_for_people),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
