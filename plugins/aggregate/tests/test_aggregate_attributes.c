/* SPDX-License-Identifier: MIT */
/* aggregate: attributes of events as groups and in functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/test-host.h>
#include "plugins/aggregate/plan.h"

static const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

static void give(struct ss_test_host *h, const char *origin, const char *text)
{
	const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_PEER] = "relay", [SS_ATTR_ORIGIN] = origin};
	struct ss_batch *b = ss_test_host_batch(h, &text, 1);

	if (origin)
		ss_test_host_attributes(h, b, 0, texts, SS_ATTR_ORIGIN_VERIFIED);
	assert_int_equal(ss_test_host_process(h, 0, b), SS_DONE);
	h->host.batch_unref(b);
}

static void groups_are_those_of_attributes(void **state)
{
	(void)state;
	struct ss_test_host h;
	struct conf conf = {.window = "{\"type\":\"tumbling\",\"size\":\"10s\"}",
			    .group_by = "[\"@origin\",\"@peer\"]",
			    .functions = "{\"n\":\"count\",\"sum\":\"sum(v)\",\"peers\":\"distinct(@peer)\"}",
			    .max_groups = 100};

	ss_test_host_init(&h, desc());
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_true(h.wants_attributes);
	assert_int_equal(desc()->start(h.self), 0);
	give(&h, "edge-1", "{\"v\":1,\"@origin\":\"forged\"}");
	give(&h, "edge \"2\"", "{\"v\":2}");
	give(&h, "edge-1", "{\"v\":3,\"@origin\":\"edge \\\"2\\\"\"}");
	give(&h, NULL, "{\"v\":4,\"@origin\":\"edge-1\"}");
	assert_int_equal(desc()->drain(h.self), 0);
	char *text = ss_test_host_text(&h, 0);
	assert_non_null(
		strstr(text, "\"@origin\":\"edge-1\",\"@peer\":\"relay\",\"n\":2,\"sum\":4,\"peers\":1"));
	assert_non_null(strstr(
		text, "\"@origin\":\"edge \\\"2\\\"\",\"@peer\":\"relay\",\"n\":1,\"sum\":2,\"peers\":1"));
	assert_non_null(strstr(text, "\"@origin\":null,\"@peer\":null,\"n\":1,\"sum\":4,\"peers\":0"));
	free(text);
	ss_test_host_done(&h);
}

/* Without fields of the payload it need not be JSON. */
static void payloads_need_not_be_json(void **state)
{
	(void)state;
	struct ss_test_host h;
	struct conf conf = {.window = "{\"type\":\"tumbling\",\"size\":\"10s\"}",
			    .group_by = "\"@origin\"",
			    .functions = "{\"n\":\"count\"}",
			    .max_groups = 100};

	ss_test_host_init(&h, desc());
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), 0);
	give(&h, "edge-1", "\xff no JSON");
	assert_int_equal(desc()->drain(h.self), 0);
	char *text = ss_test_host_text(&h, 0);
	assert_non_null(strstr(text, "\"@origin\":\"edge-1\",\"n\":1"));
	free(text);
	ss_test_host_done(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(groups_are_those_of_attributes),
		cmocka_unit_test(payloads_need_not_be_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
