/* SPDX-License-Identifier: MIT */
/* fields: the corpus of documents, whole, cut off and damaged, against Jansson, and all departures from it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"
#include "sdk/test-host/tests/json_departures.h"
#include "sdk/test-host/tests/json_documents.h"
#include "sdk/test-host/tests/json_jansson.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct fields_path paths[] = {
	{.text = "", .n = 0},
	{.text = "a", .name = {"a"}, .n = 1},
	{.text = "a.b", .name = {"a", "b"}, .n = 2},
	{.text = "a.0", .name = {"a", "0"}, .n = 2},
	{.text = "1", .name = {"1"}, .n = 1},
	{.text = "0.0", .name = {"0", "0"}, .n = 2},
	{.text = "/", .name = {""}, .n = 1},
	{.text = "/a\"b", .name = {"a\"b"}, .n = 1},
	{.text = "\xc3\xa9", .name = {"\xc3\xa9"}, .n = 1},
	{.text = "0123456789abcdefg", .name = {"0123456789abcdefg"}, .n = 1},
};

static struct ss_reader *make_reader(void)
{
	const char *texts[COUNT(paths)];
	struct ss_reader *reader;

	for (size_t i = 0; i < COUNT(paths); i++)
		texts[i] = paths[i].text;
	assert_int_equal(fields_service.compile(NULL, texts, COUNT(paths), &reader, NULL), 0);
	return reader;
}

/* Which of the departures this is; DEPARTS_NOT if both say the same. */
static enum departure_kind departure_of(int ours, size_t where, const char *text, size_t len)
{
	json_error_t error;
	json_t *root = jansson_parse(text, len, &error);
	const bool theirs = root != NULL;

	json_decref(root);
	if ((ours == 0) == theirs)
		return DEPARTS_NOT;
	if (theirs)
		return ours == -ELOOP                          ? DEPARTS_DEPTH
		       : jansson_passes_over(text, len, where) ? DEPARTS_NUL_BEHIND
							       : DEPARTURE_KINDS;
	switch (json_error_code(&error)) {
	case json_error_numeric_overflow:
		return DEPARTS_OVERFLOW;
	case json_error_null_byte_in_key:
		return DEPARTS_NUL_IN_NAME;
	default:
		return jansson_is_strict(&error) ? DEPARTS_LONE_SURROGATE : DEPARTURE_KINDS;
	}
}

/* What the corpus says of a document is what the reader says, and Jansson but for the departures. */
static void test_corpus(void **state)
{
	struct ss_reader *reader = make_reader();
	unsigned right = 0, wrong = 0, departs = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(documents); i++) {
		const struct document *d = &documents[i];
		struct ss_field out[COUNT(paths)];
		size_t where = 0;
		const int rc = fields_service.read(NULL, reader, d->text, d->len, out, &where);

		assert_int_equal(rc, d->wrong < 0 ? 0 : -EINVAL);
		const enum departure_kind kind = departure_of(rc, where, d->text, d->len);
		if (kind == DEPARTURE_KINDS)
			fail_msg("document %zu: %d, against Jansson: %s", i, rc, d->text);
		compare_with_jansson(&fields_service, reader, paths, COUNT(paths), d->text, d->len, NULL);
		right += d->wrong < 0;
		wrong += d->wrong >= 0;
		departs += kind != DEPARTS_NOT;
	}
	print_message("%u right, %u wrong, %u not so for Jansson\n", right, wrong, departs);
	assert_true(right >= 125 && wrong >= 250);
	fields_service.free(NULL, reader);
}

static void test_departures(void **state)
{
	struct ss_reader *reader = make_reader();
	unsigned seen[DEPARTURE_KINDS] = {0};

	(void)state;
	for (size_t i = 0; i < COUNT(departures); i++) {
		const struct departure *d = &departures[i];
		struct ss_field out[COUNT(paths)];
		size_t where = 0;
		const int rc = fields_service.read(NULL, reader, d->text, d->len, out, &where);
		json_t *root = jansson_parse(d->text, d->len, NULL);

		if (rc != d->ours || (root != NULL) != d->jansson ||
		    departure_of(rc, where, d->text, d->len) != d->kind)
			fail_msg("departure %zu: %d, Jansson %d: %s", i, rc, root != NULL, d->text);
		json_decref(root);
		seen[d->kind]++;
	}
	for (size_t i = 0; i < DEPARTURE_KINDS; i++)
		assert_true(seen[i] > 0);
	fields_service.free(NULL, reader);
}

/* In a block of just this size, so that a sanitizer sees what is read behind it. */
static void compare(const struct ss_reader *reader, const char *text, size_t len)
{
	char *copy = malloc(len);

	assert_true(copy || len == 0);
	memcpy(copy, text, len);
	compare_with_jansson(&fields_service, reader, paths, COUNT(paths), copy, len, NULL);
	free(copy);
}

/* Every document cut off at every byte, without each, with each twice, and with telling ones in each place.
 */
static void test_damaged(void **state)
{
	static const char telling[] = "\"\\{}[],:0-.eE+ \t\n\x01\x80\xc3\xe0\xf0\xff";
	struct ss_reader *reader = make_reader();

	(void)state;
	for (size_t i = 0; i < COUNT(documents); i++) {
		const char *text = documents[i].text;
		const size_t len = documents[i].len;
		char changed[512];

		assert_true(len + 1 < sizeof changed);
		for (size_t at = 0; at < len; at++) {
			compare(reader, text, at);
			memcpy(changed, text, at);
			memcpy(changed + at, text + at + 1, len - at - 1);
			compare(reader, changed, len - 1);
			memcpy(changed, text, at + 1);
			memcpy(changed + at + 1, text + at, len - at);
			compare(reader, changed, len + 1);
			memcpy(changed, text, len);
			for (size_t k = 0; documents[i].wrong < 0 && k < sizeof telling; k++) {
				changed[at] = telling[k];
				compare(reader, changed, len);
			}
		}
	}
	fields_service.free(NULL, reader);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_departures),
		cmocka_unit_test(test_damaged),
	};
	return cmocka_run_group_tests_name("fields_corpus", tests, NULL, NULL);
}
