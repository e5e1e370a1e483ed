/* SPDX-License-Identifier: MIT */
/*
 * fuzz_filter - any bytes as an event: many conditions on it, and other members for it, compared with what
 * Jansson makes of it.
 */
#include "plugins/filter/tests/helper_verdict.h"

#include <semstreams/ext/fields.h>

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
	struct ss_test_host host; /* of a filter with this option fields */
} shapes[] = {
	{.config = "{\"remove\":[\"b\"],\"rename\":{\"a\":\"a name that is longer\"},\"set\":{\"0\":0.1}}",
	 .reference = change_some},
	{.config = "{\"select\":[\"a\",\"\"],\"rename\":{\"\":\"a\\\"\"}}", .reference = select_some},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void compare_shape(struct shape *shape, const char *text, size_t len)
{
	json_t *event = jansson_parse(text, len, NULL);
	struct ss_batch *batch = ss_test_host_batch(&shape->host, &text, 1);

	if (ss_test_host_process(&shape->host, 0, batch) != SS_DONE || shape->host.n_emitted != 1 ||
	    shape->host.emitted[0].batch->count != 1)
		differ("an event that does not pass", text, len);
	/* two members of one name, one of them new, are a matter of their order */
	if (event && !json_object_get(event, "a name that is longer")) {
		const struct ss_event *out = &shape->host.emitted[0].batch->events[0];
		json_t *shaped = jansson_parse((const char *)out->data, out->len, NULL);
		if (json_is_object(event))
			shape->reference(event);
		if (!shaped || !json_equal(shaped, event))
			differ(shape->config, text, len);
		json_decref(shaped);
	}
	shape->host.host.batch_unref(batch);
	ss_test_host_clear(&shape->host);
	json_decref(event);
}

static void prepare(void)
{
	verdicts = verdicts_new();
	for (unsigned i = 0; i < SHAPES; i++) {
		const char *const options[] = {"fields", shapes[i].config, NULL};
		struct ss_test_host *host = &shapes[i].host;

		ss_test_host_init(host, semstreams_entry_v1.components[0]);
		if (ss_test_host_create(host, ss_test_host_configure(host, options)) < 0)
			abort();
	}
}

/* Well-formed JSON has no NUL, so that the string is the whole event. */
static void compare_shapes(const char *json, size_t len)
{
	char *text = strndup(json, len);

	if (!text)
		abort();
	for (unsigned i = 0; i < SHAPES; i++)
		compare_shape(&shapes[i], text, len);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *json = (const char *)data;
	struct ss_field out[VERDICT_PATHS];

	if (!verdicts)
		prepare();
	verdicts_compare(verdicts, json, size);
	if (ss_test_host_fields()->read(NULL, verdicts->reader, json, size, out, NULL) == 0)
		compare_shapes(json, size);
	return 0;
}
