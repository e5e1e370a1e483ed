/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/plugin/descriptor.h"

struct conf {
	const char *name;
	int64_t number, choice;
};

static const char *const choices[] = {"a", "b", NULL};
static const char *const names[] = {"x", "y_2", NULL};

/* What each test spoils a little. */
static struct ss_option options[3];
static struct ss_metric metrics[2];
static struct ss_component desc;
static char why[DESCRIPTOR_WHY];

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	(void)host;
	(void)conf;
	(void)self;
	return 0;
}

static void destroy(void *self)
{
	(void)self;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	(void)self;
	(void)port;
	(void)batch;
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	options[0] = (struct ss_option){
		.key = "name", .type = SS_OPT_STRING, .offset = offsetof(struct conf, name)};
	options[1] = (struct ss_option){
		.key = "number", .type = SS_OPT_INT, .offset = offsetof(struct conf, number)};
	options[2] = (struct ss_option){.key = "choice",
					.type = SS_OPT_ENUM,
					.choices = choices,
					.offset = offsetof(struct conf, choice)};
	metrics[0] = (struct ss_metric){"semstreams_x_total", "help", "reason=\"a\"", SS_METRIC_COUNTER, 0};
	metrics[1] = (struct ss_metric){"semstreams_x_total", "help", "reason=\"b\"", SS_METRIC_COUNTER, 0};
	desc = (struct ss_component){
		.struct_size = sizeof desc,
		.kind = SS_KIND_PROCESSOR,
		.type = "type_1",
		.options = options,
		.option_size = sizeof options[0],
		.n_options = 3,
		.metrics = metrics,
		.metric_size = sizeof metrics[0],
		.n_metrics = 2,
		.outputs = names,
		.reasons = names,
		.conf_size = sizeof(struct conf),
		.create = create,
		.destroy = destroy,
		.process = process,
	};
	return 0;
}

static void accept(void)
{
	struct ss_component *out = NULL;
	int rc = descriptor_copy(&desc, &out, why);
	if (rc < 0)
		fail_msg("%s", why);
	descriptor_free(out);
}

#define refuse(words) refuse_(words, __LINE__)
static void refuse_(const char *words, int line)
{
	struct ss_component *out = NULL;
	why[0] = '\0';
	if (descriptor_copy(&desc, &out, why) != -EINVAL)
		fail_msg("line %d: accepted, not '%s'", line, words);
	assert_null(out);
	if (!strstr(why, words))
		fail_msg("line %d: '%s' is not in '%s'", line, words, why);
	set_up(NULL);
}

static void sizes(void **state)
{
	(void)state;
	accept();
	desc.struct_size = 0;
	refuse("struct_size is 0");
	desc.struct_size = offsetof(struct ss_component, inject) - 1; /* less than version 1.0 */
	refuse("struct_size");
	desc.struct_size = offsetof(struct ss_component, inject);
	accept();
	desc.struct_size = UINT32_MAX;
	refuse("struct_size");
	desc.conf_size = SIZE_MAX;
	refuse("conf_size");
	desc.option_size = sizeof options[0] - 8;
	refuse("bad option table");
	desc.option_size = sizeof options[0] + 1;
	refuse("bad option table");
	desc.n_options = UINT32_MAX;
	refuse("bad option table");
	desc.options = NULL;
	refuse("bad option table");
	desc.metric_size = 8;
	refuse("bad metric table");
	desc.metrics = NULL;
	refuse("bad metric table");
	desc.n_options = desc.n_metrics = 0;
	desc.options = NULL;
	desc.metrics = NULL;
	desc.conf_size = 0;
	accept();
}

static void callbacks(void **state)
{
	(void)state;
	desc.kind = 3;
	refuse("kind 3");
	desc.kind = 0;
	refuse("kind 0");
	desc.create = NULL;
	refuse("create and destroy");
	desc.destroy = NULL;
	refuse("create and destroy");
	desc.process = NULL;
	refuse("needs process");
	desc.kind = SS_KIND_SINK;
	desc.process = NULL;
	refuse("needs process");
	desc.kind = SS_KIND_SOURCE;
	desc.process = NULL;
	accept();
}

static void type_names(void **state)
{
	(void)state;
	static const char *const bad[] = {
		NULL,       "",
		"A",        "a-b",
		"a b",      "../x",
		"\xc3\xa4", "a123456789012345678901234567890123456789012345678901234567890123"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		desc.type = bad[i];
		refuse("bad type name");
	}
	desc.type = "a12345678901234567890123456789012345678901234567890123456789012";
	accept();
}

static void option_rows(void **state)
{
	(void)state;
	options[1].key = NULL;
	refuse("bad key");
	options[1].key = "a/b";
	refuse("bad key");
	options[1].key = "name";
	refuse("option 'name' is listed twice");
	options[1].type = 99;
	refuse("option 'number' has type 99");
	options[1].offset = sizeof(struct conf);
	refuse("option 'number' lies outside");
	options[1].offset = UINT32_MAX - 7;
	refuse("lies outside");
	options[1].offset = 1;
	refuse("lies outside");
	options[1].min = 2;
	refuse("min above max");
	options[2].choices = NULL;
	refuse("option 'choice' needs");
	options[2].choices = choices + 2;
	refuse("option 'choice' needs");
	options[2].offset =
		offsetof(struct conf, number); /* two keys for one member: an old and a new name */
	accept();
}

static void metric_rows(void **state)
{
	(void)state;
	static const char *const bad_names[] = {NULL, "", "1a", "a-b", "a b"};
	for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++) {
		metrics[0].name = bad_names[i];
		refuse("bad name");
	}
	static const char *const bad_labels[] = {
		"",           "x",        "x=y",      "=\"y\"",          "1=\"y\"",  "x=\"y",
		"x=\"a\"b\"", "x=\"\\\"", "x=\"\n\"", "component=\"x\"", "x=\"y\" ", "x=\"y\",z=\"a\""};
	for (size_t i = 0; i < sizeof bad_labels / sizeof bad_labels[0]; i++) {
		metrics[0].label = bad_labels[i];
		refuse("bad label");
	}
	static const char *const of_host[] = {"semstreams_events_in_total", "semstreams_queue_depth",
					      "process_threads", "semstreams_tls_reloads_total"};
	for (size_t i = 0; i < sizeof of_host / sizeof *of_host; i++) {
		metrics[0].name = of_host[i];
		refuse("has a name of the host's metrics");
	}
	metrics[0].kind = 0;
	refuse("kind 0");
	metrics[0].help = NULL;
	refuse("no help");
	metrics[1].label = "reason=\"a\"";
	refuse("twice");
	metrics[1].label = NULL;
	refuse("twice");
	metrics[1].kind = SS_METRIC_GAUGE;
	refuse("twice");
}

static void port_and_reason_names(void **state)
{
	(void)state;
	static const char *const bad[] = {"ok", "not ok", NULL}, *const twice[] = {"a", "b", "a", NULL};
	desc.outputs = bad;
	refuse("output 1 has a bad name");
	desc.outputs = twice;
	refuse("output 'a' is listed twice");
	desc.reasons = bad;
	refuse("drop reason 1 has a bad name");
	static const char *endless[100];
	for (size_t i = 0; i < 100; i++)
		endless[i] = "x";
	desc.reasons = endless + 1;
	refuse("drop reason 'x' is listed twice");
	static const char *const of_host[] = {"late", "queue_full", NULL};
	desc.reasons = of_host;
	refuse("drop reason 'queue_full' is one of the host's");
	desc.reasons = desc.outputs = NULL;
	accept();
}

/* Rows and structs of a later version, which are longer, are cut down to what this host knows. */
static void longer_structs(void **state)
{
	(void)state;
	struct {
		struct ss_option known;
		uint64_t more[3];
	} wide[3];
	struct {
		struct ss_component known;
		void *more[5];
	} later;
	memset(&later, 0xff, sizeof later);
	memset(wide, 0xff, sizeof wide);
	for (size_t i = 0; i < 3; i++)
		wide[i].known = options[i];
	later.known = desc;
	later.known.struct_size = sizeof later;
	later.known.options = &wide[0].known;
	later.known.option_size = sizeof wide[0];
	struct ss_component *out = NULL;
	assert_int_equal(descriptor_copy(&later.known, &out, why), 0);
	assert_int_equal(out->struct_size, sizeof *out);
	assert_int_equal(out->option_size, sizeof(struct ss_option));
	assert_string_equal(out->options[2].key, "choice");
	assert_ptr_equal(out->create, create);
	assert_null(out->idle);
	assert_non_null(out->drain);
	descriptor_free(out);
	assert_int_equal(descriptor_copy(NULL, &out, why), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(sizes, set_up),
		cmocka_unit_test_setup(callbacks, set_up),
		cmocka_unit_test_setup(type_names, set_up),
		cmocka_unit_test_setup(option_rows, set_up),
		cmocka_unit_test_setup(metric_rows, set_up),
		cmocka_unit_test_setup(port_and_reason_names, set_up),
		cmocka_unit_test_setup(longer_structs, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
