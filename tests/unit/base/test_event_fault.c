/* SPDX-License-Identifier: MIT */
/* event_fault: what is wrong with an event, in words that fit into a line of the log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <semstreams/base/event_fault.h>
#include <semstreams/ext/attributes.h>

static const char *fault_of(const char *data, size_t len, int32_t error, size_t where)
{
	static char text[SS_EVENT_FAULT_SIZE];
	const struct ss_event e = {.data = (const uint8_t *)data, .len = (uint32_t)len};

	ss_event_fault(NULL, &e, error, where, text);
	assert_true(strlen(text) < sizeof text);
	return text;
}
#define FAULT(data, where) fault_of(data, sizeof(data) - 1, -EINVAL, where)

static void test_reasons(void **state)
{
	(void)state;
	assert_string_equal(FAULT("\xef\xbb\xbf{}", 0), " offset=0 reason=\"a byte order mark (BOM)\" "
							"start=\"\\xef\\xbb\\xbf{}\"");
	assert_string_equal(FAULT("{\"a\":\0}", 5),
			    " offset=5 reason=\"a NUL byte\" start=\"{\\\"a\\\":\\x00}\"");
	assert_string_equal(FAULT("{\"a\":NaN}", 5), " offset=5 reason=\"NaN is no JSON number\" "
						     "start=\"{\\\"a\\\":NaN}\"");
	assert_non_null(strstr(FAULT("[-Infinity]", 2), "Infinity is no JSON number"));
	assert_non_null(strstr(FAULT("{\0}\0", 1), "UTF-16"));
	assert_non_null(strstr(FAULT("\0{\0}", 0), "UTF-16"));
	assert_non_null(strstr(FAULT("\xff\xfe{\0", 0), "UTF-16"));
	assert_non_null(strstr(FAULT("\x1f\x8b\x08", 0), "gzip"));
	assert_non_null(strstr(FAULT("{'a':1}", 1), "double quotes"));
	assert_non_null(strstr(FAULT("[True]", 1), "lower case"));
	assert_non_null(strstr(FAULT("\"\xff\"", 1), "not UTF-8"));
	assert_non_null(strstr(FAULT("\"\n\"", 1), "a control character"));
	assert_non_null(strstr(FAULT("[1,]", 3), "an unexpected character"));
	assert_non_null(strstr(FAULT("[1", 2), "it ends too early"));
	assert_string_equal(fault_of(NULL, 0, -EINVAL, 0), " offset=0 reason=\"it is empty\" start=\"\"");
	assert_string_equal(fault_of("[[", 2, -ELOOP, 1),
			    " offset=1 reason=\"nested more than 64 levels deep\" start=\"[[\"");
	assert_string_equal(fault_of("5", 1, 0, 0), " start=\"5\"");
}

/* The peer's name, else its address, cut and escaped like everything else. */
static void test_sender(void **state)
{
	static char name[SS_ATTR_NAME_MAX];
	char text[SS_EVENT_FAULT_SIZE];
	struct ss_attributes set = {.struct_size = sizeof set};
	const struct ss_attributes *sets[] = {&set};
	const struct ss_batch batch = {
		.struct_size = sizeof batch, .count = 1, .attributes = sets, .n_attributes = 1};
	struct ss_event e = {.data = (const uint8_t *)"x", .len = 1};

	(void)state;
	ss_event_fault(&batch, &e, 0, 0, text);
	assert_string_equal(text, " start=\"x\"");
	e.attributes = 1;
	ss_event_fault(&batch, &e, 0, 0, text);
	assert_string_equal(text, " start=\"x\"");
	set.values[SS_ATTR_ADDRESS] = (struct ss_attribute){"192.0.2.1:9", 11, 0};
	ss_event_fault(&batch, &e, 0, 0, text);
	assert_string_equal(text, " sender=\"192.0.2.1:9\" start=\"x\"");
	memset(name, 0xff, sizeof name);
	set.values[SS_ATTR_PEER] = (struct ss_attribute){name, sizeof name, 0};
	ss_event_fault(&batch, &e, -EINVAL, 0, text);
	assert_memory_equal(text, " sender=\"\\xff", 13);
	assert_non_null(strstr(text, "...\" offset=0 reason="));
}

/* Whatever a sender writes, the text is bounded, and nothing in it ends a value or a line. */
static void test_bounds(void **state)
{
	static const size_t places[] = {0, 31, 32, 40, 4095};
	static char data[4096];

	(void)state;
	for (int c = 0; c < 256; c++) {
		memset(data, c, sizeof data);
		for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
			const char *text = fault_of(data, sizeof data, -EINVAL, places[i]);
			const char *start = strstr(text, " start=\"");
			assert_non_null(start);
			for (const char *p = text; *p; p++)
				assert_in_range((unsigned char)*p, 0x20, 0x7e);
			assert_non_null(strstr(start, "...\""));
			assert_int_equal(strstr(start, "\" near=\"") != NULL, places[i] >= 32);
		}
	}
	memset(data, ' ', sizeof data);
	memcpy(data + 100, "[1,NaN]", 7);
	assert_non_null(strstr(fault_of(data, 107, -EINVAL, 103), "near=\"     [1,NaN]\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_sender),
		cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
