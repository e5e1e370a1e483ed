/* SPDX-License-Identifier: MIT */
/* Health: what it tells, in which order, with hostile text and many threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/admin/health.h"

/* What it says and what it returns are of one moment, whatever other threads do. */
static json_t *print(struct health *h)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool ready = health_print(h, out);
	fclose(out);
	assert_int_equal(text[size - 1], '\n');
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_string_equal(json_string_value(json_object_get(root, "status")),
			    ready ? "ready" : "not ready");
	free(text);
	return root;
}

static bool is_ready(struct health *h)
{
	json_t *root = print(h);
	bool ready = strcmp(json_string_value(json_object_get(root, "status")), "ready") == 0;
	json_decref(root);
	return ready;
}

static const char *get(json_t *root, size_t i, const char *key)
{
	return json_string_value(json_object_get(json_array_get(json_object_get(root, "reasons"), i), key));
}

static void test_reasons(void **state)
{
	(void)state;
	struct health *h = health_new();
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	assert_true(health_print(h, out));
	fclose(out);
	assert_string_equal(text,
			    "{\"status\":\"ready\",\"uptime_seconds\":0,\"reasons\":[],\"degraded\":[]}\n");
	free(text);
	assert_true(is_ready(h));
	assert_false(health_set(h, "udp", NULL));
	assert_true(health_set(h, "storage", "disk full"));
	assert_false(health_set(h, "storage", "disk full"));
	assert_true(health_set(h, "udp", "port \"busy\""));
	assert_true(health_set(h, "link", "no peer"));
	assert_true(health_set(h, "storage", "disk still full"));
	assert_false(is_ready(h));

	json_t *root = print(h);
	assert_string_equal(json_string_value(json_object_get(root, "status")), "not ready");
	assert_int_equal(json_array_size(json_object_get(root, "reasons")), 3);
	assert_string_equal(get(root, 0, "component"), "storage");
	assert_string_equal(get(root, 0, "reason"), "disk still full");
	assert_string_equal(get(root, 1, "reason"), "port \"busy\"");
	struct tm tm = {0};
	const char *end = strptime(get(root, 0, "since"), "%Y-%m-%dT%H:%M:%SZ", &tm);
	assert_true(end && !*end);
	time_t since = timegm(&tm);
	assert_true(since <= time(NULL) && since > time(NULL) - 60);
	json_decref(root);

	assert_true(health_set(h, "udp", NULL));
	assert_false(health_set(h, "udp", NULL));
	assert_true(health_set(h, "storage", NULL));
	assert_false(is_ready(h));
	assert_true(health_set(h, "link", NULL));
	assert_true(is_ready(h));
	root = print(h);
	assert_string_equal(json_string_value(json_object_get(root, "status")), "ready");
	json_decref(root);
	assert_true(health_set(h, "udp", "again"));
	health_free(h);
	health_free(NULL);
}

/* What is degraded is told and stays ready. */
static void test_degraded(void **state)
{
	(void)state;
	struct health *h = health_new();
	assert_true(health_degrade(h, "tls.server", "fallback"));
	assert_false(health_degrade(h, "tls.server", "fallback"));
	assert_true(is_ready(h));
	assert_true(health_set(h, "udp", "no port"));
	assert_false(is_ready(h));
	json_t *root = print(h), *degraded = json_object_get(root, "degraded");
	assert_string_equal(json_string_value(json_object_get(root, "status")), "not ready");
	assert_int_equal(json_array_size(json_object_get(root, "reasons")), 1);
	assert_string_equal(get(root, 0, "component"), "udp");
	assert_int_equal(json_array_size(degraded), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(degraded, 0), "reason")),
			    "fallback");
	json_decref(root);

	assert_true(health_set(h, "udp", NULL));
	assert_true(is_ready(h));
	/* worse, with the same words, and better again */
	assert_true(health_set(h, "tls.server", "fallback"));
	assert_false(is_ready(h));
	assert_true(health_set(h, "tls.server", NULL));
	assert_true(is_ready(h));
	root = print(h);
	assert_int_equal(json_array_size(json_object_get(root, "degraded")), 1);
	json_decref(root);
	assert_true(health_degrade(h, "tls.server", NULL));
	assert_false(health_degrade(h, "tls.server", NULL));
	root = print(h);
	assert_int_equal(json_array_size(json_object_get(root, "degraded")), 0);
	json_decref(root);
	health_free(h);
}

/* One line: a reload that failed, then who cannot work, then who is worse than it should be. */
static void test_summary(void **state)
{
	(void)state;
	struct health *h = health_new();
	char text[384];
	assert_false(health_summary(h, text, sizeof text));
	health_degrade(h, "tls.server", "fallback");
	assert_true(health_summary(h, text, sizeof text));
	assert_string_equal(text, "tls.server: fallback");
	health_set(h, "file", "disk full");
	health_set(h, "udp", "no\nport");
	assert_true(health_summary(h, text, sizeof text));
	assert_string_equal(text, "file: disk full; and 2 more");
	health_degrade(h, HEALTH_CONFIGURATION, "line 1");
	assert_true(health_summary(h, text, sizeof text));
	assert_string_equal(text, "configuration: line 1; and 3 more");
	health_degrade(h, HEALTH_CONFIGURATION, NULL);
	health_set(h, "file", NULL);
	assert_true(health_summary(h, text, sizeof text));
	assert_string_equal(text, "udp: no port; and 1 more");
	health_free(h);
}

static void test_hostile(void **state)
{
	(void)state;
	struct health *h = health_new();
	char reason[2000];
	assert_true(health_set(h, "a", "bad \xff\n\x01 \xc3\xa9"));
	json_t *root = print(h);
	assert_string_equal(get(root, 0, "reason"), "bad ?\n\x01 \xc3\xa9");
	json_decref(root);
	for (size_t i = 0; i + 2 < sizeof reason; i += 2)
		memcpy(reason + i, "\xc3\xa9", 3);
	assert_true(health_set(h, "a", reason));
	assert_false(health_set(h, "a", reason));
	root = print(h);
	assert_int_equal(strlen(get(root, 0, "reason")), 510);
	json_decref(root);
	health_free(h);
}

static struct health *shared;

static void *change(void *arg)
{
	char reason[32];
	for (int i = 0; i < 2000; i++) {
		snprintf(reason, sizeof reason, "reason %d", i);
		health_set(shared, arg, reason);
		assert_false(is_ready(shared));
		if (i % 3 == 0)
			assert_true(health_set(shared, arg, NULL));
		if (i % 3 == 0)
			health_set(shared, arg, reason);
		if (i % 200 == 0)
			json_decref(print(shared));
	}
	health_set(shared, arg, NULL);
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	static char ids[4][2] = {"a", "b", "c", "d"};
	pthread_t threads[4];
	shared = health_new();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, change, ids[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(is_ready(shared));
	health_free(shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reasons), cmocka_unit_test(test_degraded),
		cmocka_unit_test(test_summary), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
