/* SPDX-License-Identifier: MIT */
/* filter: the corpus of documents of the field reader as events; verdicts against Jansson's. */
#include <jansson.h>
#include "helper_filter.h"
#include "helper_verdict.h"
#include "sdk/test-host/tests/json_departures.h"
#include "sdk/test-host/tests/json_documents.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void test_verdicts(void **state)
{
	struct verdicts *v = verdicts_new();
	unsigned compared = 0, hold = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(documents); i++) {
		/* as such, and where most of the conditions look */
		static const char *const frames[][2] = {
			{"", ""},           {"{\"a\":", "}"},
			{"{\"a\":[", "]}"}, {"{\"a\":{\"b\":", "}}"},
			{"[", ",1,\"a\"]"}, {"{\"\":", ",\"a\":[\"a\",0.5]}"}};
		for (size_t k = 0; k < COUNT(frames); k++) {
			const size_t before = strlen(frames[k][0]), after = strlen(frames[k][1]);
			const size_t len = before + documents[i].len + after;
			char *text = malloc(len); /* just so long, for the sanitizer */
			assert_true(text || len == 0);
			memcpy(text, frames[k][0], before);
			memcpy(text + before, documents[i].text, documents[i].len);
			memcpy(text + before + documents[i].len, frames[k][1], after);
			const int n = verdicts_compare(v, text, len);
			compared += n >= 0;
			hold += n > 0 ? (unsigned)n : 0;
			free(text);
		}
	}
	print_message("%u events, %u of %u conditions hold\n", compared, hold, compared * VERDICTS);
	assert_true(compared > 800 && hold > compared * 20);
	verdicts_free(v);
}

static void test_departures(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(departures); i++) {
		const struct departure *d = &departures[i];
		struct instance t;

		if (!d->condition)
			continue;
		CREATE(&t, "where", d->condition);
		if (passes(&t, d->text) != d->holds)
			fail_msg("%s on %s: not %d", d->condition, d->text, d->holds);
		assert_int_equal(t.host.metrics[NOT_JSON] + t.host.metrics[TOO_DEEP], 0);
		finish(&t);
	}
}

/* All documents as one batch: what is JSON passes, what is not is counted as such. */
static void test_batch(void **state)
{
	const uint32_t n = COUNT(documents) + COUNT(departures);
	uint64_t right = 0, not_json = 0, too_deep = 0;
	struct instance t;

	(void)state;
	CREATE(&t, "where", "{\"field\":\"\",\"op\":\"exists\"}");
	struct ss_batch *batch = t.host.host.batch_new(&t.host.host, NULL, n, 64 * 1024);
	assert_non_null(batch);
	uint8_t *to = batch->data;
	for (uint32_t i = 0; i < n; i++) {
		const bool plain = i < COUNT(documents);
		const struct document *d = &documents[plain ? i : 0];
		const struct departure *other = &departures[plain ? 0 : i - COUNT(documents)];
		const int rc = plain ? (d->wrong < 0 ? 0 : -EINVAL) : other->ours;

		const size_t len = plain ? d->len : other->len;

		memcpy(to, plain ? d->text : other->text, len);
		batch->events[i] = (struct ss_event){
			.data = to, .len = (uint32_t)len, .seq = i + 1, .time_ns = START + i};
		to += len;
		right += rc == 0;
		not_json += rc == -EINVAL;
		too_deep += rc == -ELOOP;
	}
	assert_true(to <= batch->data + 64 * 1024);
	batch->count = n;
	assert_int_equal(plugin()->process(t.host.self, 0, batch), SS_DONE);
	assert_int_equal(t.host.emitted[0].batch->count, right);
	assert_int_equal(t.host.dropped[NOT_JSON], not_json);
	assert_int_equal(t.host.dropped[TOO_DEEP], too_deep);
	t.host.host.batch_unref(batch);
	finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_departures),
		cmocka_unit_test(test_batch),
	};
	return cmocka_run_group_tests_name("filter_corpus", tests, NULL, NULL);
}
