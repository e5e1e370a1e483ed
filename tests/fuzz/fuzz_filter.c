/* SPDX-License-Identifier: MIT */
/*
 * fuzz_filter - any bytes as an event: many conditions on it, and other members for it, compared with what
 * Jansson makes of it.
 */
#include "plugins/filter/tests/helper_verdict.h"

#include <semstreams/ext/fields.h>
#include "plugins/filter/reshape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct verdicts *verdicts;

/* Shapes, and the same done to what Jansson parsed. */
static void change_some(json_t *event)
{
	json_t *a = json_incref(json_object_get(event, "a"));

	json_object_del(event, "a");
	json_object_del(event, "b");
	if (a)
		json_object_set_new(event, "a name that is longer", a);
	json_object_set_new(event, "0", json_real(0.1));
}

static void select_some(json_t *event)
{
	json_t *a = json_incref(json_object_get(event, "a")), *none = json_incref(json_object_get(event, ""));

	json_object_clear(event);
	if (a)
		json_object_set_new(event, "a", a);
	if (none)
		json_object_set_new(event, "a\"", none);
}

static struct shape {
	const char *config;
	void (*reference)(json_t *event);
	struct reshape *reshape;
} shapes[] = {
	{"{\"remove\":[\"b\"],\"rename\":{\"a\":\"a name that is longer\"},\"set\":{\"0\":0.1}}", change_some,
	 NULL},
	{"{\"select\":[\"a\",\"\"],\"rename\":{\"\":\"a\\\"\"}}", select_some, NULL},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void compare_shape(const struct shape *shape, const char *json, size_t len)
{
	json_t *event = jansson_parse(json, len, NULL);
	const size_t room = reshape_size(shape->reshape, len);
	char *out = malloc(room);
	if (!out)
		abort();
	const int64_t n = reshape_event(shape->reshape, json, len, out);

	if (n < 0 || (uint64_t)n > room)
		differ("a shape that does not fit", json, len);
	/* two members of one name, one of them new, are a matter of their order */
	if (event && !json_object_get(event, "a name that is longer")) {
		json_t *shaped = jansson_parse(out, (size_t)n, NULL);
		if (json_is_object(event))
			shape->reference(event);
		if (!shaped || !json_equal(shaped, event))
			differ(shape->config, json, len);
		json_decref(shaped);
	}
	free(out);
	json_decref(event);
}

static void prepare(void)
{
	verdicts = verdicts_new();
	for (unsigned i = 0; i < SHAPES; i++) {
		struct ss_json_option spec = {.host = &verdicts->host};
		json_t *config = json_loads(shapes[i].config, 0, NULL);

		if (!config || reshape_compile(config, &spec, &verdicts->fields, &shapes[i].reshape) < 0)
			abort();
		json_decref(config);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	struct ss_field out[VERDICT_PATHS];

	if (!verdicts)
		prepare();
	verdicts_compare(verdicts, json, size);
	if (ss_test_host_fields()->read(NULL, verdicts->reader, json, size, out, NULL) == 0)
		for (unsigned i = 0; i < SHAPES; i++)
			compare_shape(&shapes[i], json, size);
	return 0;
}
