/* SPDX-License-Identifier: MIT */
/* filter: attributes of events in conditions, as keys, and as values of members. */
#include "helper_filter.h"

static const char *const edge[SS_ATTR_COUNT] = {[SS_ATTR_PEER] = "relay",
						[SS_ATTR_ORIGIN] = "edge \"1\"\\",
						[SS_ATTR_PATH] = "edge/relay",
						[SS_ATTR_ADDRESS] = "[::1]:47",
						[SS_ATTR_INPUT] = "udp"};

/* One event with attributes (NULL: without any); what came out of match, "" if nothing did. */
static char *out_of(struct instance *t, const char *text, const char *const *attributes)
{
	struct ss_batch *batch = ss_test_host_batch(&t->host, &text, 1);

	if (attributes)
		ss_test_host_attributes(&t->host, batch, 0, attributes, 0);
	assert_int_equal(plugin()->process(t->host.self, 0, batch), SS_DONE);
	char *out = ss_test_host_text(&t->host, MATCH);
	for (uint32_t b = 0; b < t->host.n_emitted; b++) {
		const struct ss_batch *left = t->host.emitted[b].batch;
		assert_ptr_equal(ss_attributes_of(left, &left->events[0]),
				 ss_attributes_of(batch, &batch->events[0]));
	}
	ss_test_host_clear(&t->host);
	t->host.host.batch_unref(batch);
	return out;
}

static bool is_passed(const char *where, const char *text, const char *const *attributes)
{
	struct instance t;

	CREATE(&t, "where", where);
	assert_int_equal(t.host.wants_attributes, strstr(where, "\"@") != NULL);
	char *out = out_of(&t, text, attributes);
	const bool passed = out[0];
	free(out);
	finish(&t);
	return passed;
}

#define AT(name, op, value) "{\"field\":\"" name "\",\"op\":\"" op "\",\"value\":" value "}"

static void test_conditions(void **state)
{
	(void)state;
	static const char forged[] =
		"{\"@peer\":\"x\",\"@origin\":\"x\",\"@address\":\"x\",\"@received\":1,\"v\":5}";
	static const struct {
		const char *where;
		bool with, without; /* passes with attributes, without any */
	} cases[] = {
		{AT("@peer", "eq", "\"relay\""), true, false},
		{AT("@origin", "eq", "\"edge \\\"1\\\"\\\\\""), true, false},
		{AT("@origin", "regex", "\"^edge .1.\\\\\\\\$\""), true, false},
		{AT("@path", "ends_with", "\"/relay\""), true, false},
		{AT("@address", "starts_with", "\"[::1]:\""), true, false},
		{AT("@input", "in", "[\"tcp\",\"udp\"]"), true, false},
		{AT("@input", "length_eq", "3"), true, false},
		{AT("@peer", "exists", "true"), true, false},
		{AT("@peer", "exists", "false"), false, true},
		{AT("@peer", "eq", "\"x\""), false, false},
		{AT("/@peer", "eq", "\"x\""), true, true},
		{AT("@received", "eq", "1000000000000"), true, true},
		{AT("@received", "lt", "999999999999"), false, false},
		{"[" AT("v", "gt", "4") "," AT("@peer", "eq", "\"relay\"") "," AT("/@origin", "eq",
										  "\"x\"") "]",
		 true, false},
		{"{\"@peer\":{\"eq\":\"relay\"},\"v\":{\"eq\":5}}", true, false},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (is_passed(cases[i].where, forged, edge) != cases[i].with)
			fail_msg("%s: not %d", cases[i].where, cases[i].with);
		if (is_passed(cases[i].where, forged, NULL) != cases[i].without)
			fail_msg("%s without attributes: not %d", cases[i].where, cases[i].without);
	}
}

/* The payload is looked at only where something in it is asked for. */
static void test_what_is_no_json_has_attributes(void **state)
{
	(void)state;
	assert_true(is_passed(AT("@peer", "eq", "\"relay\""), "\xff{", edge));
	assert_false(is_passed("[" AT("@peer", "eq", "\"relay\"") "," AT("v", "exists", "false") "]", "\xff{",
			       edge));
}

static void test_members_are_set_to_attributes(void **state)
{
	(void)state;
	struct instance t;
	char *out;

	CREATE(&t, "fields",
	       "{\"set\":{\"from\":\"@origin\",\"@peer\":\"@peer\",\"at\":\"@received\",\"x\":\"@nothing\"}"
	       "}");
	assert_true(t.host.wants_attributes);
	out = out_of(&t, "{\"v\":1,\"from\":\"forged\",\"@peer\":\"forged\"}", edge);
	assert_string_equal(out, "{\"v\":1,\"from\":\"edge \\\"1\\\"\\\\\",\"@peer\":\"relay\","
				 "\"at\":1000000000000,\"x\":\"@nothing\"}\n");
	free(out);
	out = out_of(&t, "{}", NULL);
	assert_string_equal(out, "{\"from\":null,\"@peer\":null,\"at\":1000000000000,\"x\":\"@nothing\"}\n");
	free(out);
	finish(&t);
}

/* Room for all of them, as long as they can be, each character with an escape. */
static void test_the_longest(void **state)
{
	(void)state;
	static char quotes[SS_ATTR_PATH_MAX + 1], name[SS_ATTR_NAME_MAX + 1];
	const char *const longest[SS_ATTR_COUNT] = {name, name, quotes, name, name};
	struct instance t;

	memset(quotes, '"', sizeof quotes - 1);
	memset(name, '\\', sizeof name - 1);
	CREATE(&t, "where",
	       "[" AT("@peer", "exists", "true") "," AT("@origin", "exists", "true") "," AT(
		       "@path", "length_eq", "1023") "," AT("@address", "exists",
							    "true") "," AT("@input", "length_eq", "255") "]",
	       "fields",
	       "{\"set\":{\"a\":\"@peer\",\"b\":\"@origin\",\"c\":\"@path\",\"d\":\"@address\",\"e\":\"@"
	       "input\"}}");
	char *out = out_of(&t, "{}", longest);
	assert_int_equal(strlen(out), strlen("{}\n") + 5 * strlen("\"a\":\"\"") + 4 + 2 * (4 * 255 + 1023));
	free(out);
	finish(&t);
}

static void test_keys(void **state)
{
	(void)state;
	static const char *const other[SS_ATTR_COUNT] = {[SS_ATTR_ORIGIN] = "edge-2"};
	struct instance t;

	CREATE(&t, "rate_limit", "{\"key\":\"@origin\",\"events\":1,\"per\":\"1h\"}");
	const char *const *const turns[] = {edge, other, edge, other, NULL, NULL};
	static const bool passes_it[] = {true, true, false, false, true, false};
	for (size_t i = 0; i < sizeof passes_it; i++) {
		char *out = out_of(&t, "{\"@origin\":\"forged\"}", turns[i]);
		assert_int_equal(out[0] != '\0', passes_it[i]);
		free(out);
	}
	finish(&t);
}

static void test_names_that_are_none(void **state)
{
	(void)state;
	struct instance t;

	assert_int_equal(try_create(&t, (const char *const[]){"where", AT("@pear", "eq", "1"), NULL}),
			 -EINVAL);
	assert_true(has_line(t.host.errors,
			     "/where/field: \"@pear\" is no attribute; there are @peer,*\"/@pear\""));
	finish(&t);
	ss_test_host_init(&t.host, plugin());
	ss_test_host_offer(&t.host, SS_ATTRIBUTES, NULL, 0, NULL);
	const char *const pairs[] = {"where", AT("@peer", "eq", "1"), NULL};
	assert_int_equal(ss_test_host_create(&t.host, ss_test_host_configure(&t.host, pairs)), -EINVAL);
	assert_true(has_line(t.host.errors, "/where/field: this host has no attributes*"));
	finish(&t);
}

static void test_nothing_is_wanted_otherwise(void **state)
{
	(void)state;
	struct instance t;

	CREATE(&t, "where", COND("eq", "\"@peer\""), "fields", "{\"set\":{\"@peer\":1}}");
	assert_false(t.host.wants_attributes);
	finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_what_is_no_json_has_attributes),
		cmocka_unit_test(test_members_are_set_to_attributes),
		cmocka_unit_test(test_the_longest),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_names_that_are_none),
		cmocka_unit_test(test_nothing_is_wanted_otherwise),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
