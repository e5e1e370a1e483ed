/* SPDX-License-Identifier: MIT */
/* test_nats_output - what needs no server: subjects, headers, positions, and what a configuration may say. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <nats/nats.h>
#include <semstreams/test-host.h>
#include "plugins/nats/headers.h"
#include "plugins/nats_output/position.h"
#include "plugins/nats_output/subject.h"

static struct ss_test_host h;

static int setup(void **state)
{
	(void)state;
	ss_test_host_init(&h, semstreams_entry_v1.components[0]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ss_test_host_done(&h);
	return 0;
}

/* ---- configurations ---- */

static void assert_refused(const char *const *options, const char *error)
{
	const struct ss_test_host *host = &h;

	assert_int_equal(ss_test_host_create(&h, ss_test_host_configure(&h, options)), -EINVAL);
	if (!strstr(host->errors, error))
		fail_msg("\"%s\" is not in: %s", error, host->errors);
}

static void refused(const char *key, const char *value, const char *error)
{
	const char *options[] = {"servers", "\"nats://n1:4222\"", "stream", "S", "subject", "s", key, value,
				 NULL};

	for (int i = 0; i < 6; i += 2)
		if (strcmp(options[i], key) == 0) {
			options[i + 1] = value;
			options[6] = NULL;
		}
	teardown(NULL);
	setup(NULL);
	assert_refused(options, error);
}

static void test_configurations(void **state)
{
	(void)state;
	refused("servers", "\"n1:4222\"", "expected a URL such as");
	refused("servers", "[\"nats://n1\", \"nats://me:secret@n2\"]", "/servers/1: has a user in it");
	refused("servers", "\"nats://n1:0\"", "no port");
	refused("servers", "[]", "expected 1 to 64 servers");
	refused("servers", "\"tls://n1\"", "needs security.tls.client");
	refused("stream", "a.b", "expected the name of a stream");
	refused("subject", "a b", "has a blank");
	refused("subject", "a.>", "nothing can be published to");
	refused("subject", "a..b", "has an empty part");
	refused("subject", "$JS.API", "the server's own");
	refused("subject", "a.{what}", "{what} is unknown");
	refused("subject", "a.{peer", "brace");
	refused("refused_subject", "x.*", "nothing can be published to");
	refused("password", "x", "needs user");
	refused("inbox_prefix", "a.", "expected a subject");
}

/* ---- subjects ---- */

static const char *subject_of(const char *template, const char *payload, char out[SUBJECT_MAX])
{
	struct subject s = {0};
	struct ss_event e = {.data = (const uint8_t *)payload, .len = (uint32_t)strlen(payload)};
	struct ss_batch batch = {.struct_size = sizeof batch, .count = 1, .events = &e};

	assert_int_equal(subject_parse(&s, &h.host, "/subject", template), 0);
	const char *fault = subject_write(&s, &batch, &e, out);
	subject_done(&s);
	return fault;
}

static void assert_subject(const char *template, const char *payload, const char *expected)
{
	char out[SUBJECT_MAX];

	assert_null(subject_of(template, payload, out));
	assert_string_equal(out, expected);
}

static void test_subjects(void **state)
{
	char out[SUBJECT_MAX], payload[1024];

	(void)state;
	assert_subject("a.b", "", "a.b");
	assert_subject("{/a}.x.{/b/0}", "{\"a\":\"v\",\"b\":[1.5]}", "v.x.1%2E5");
	assert_subject("s.{/a}", "{\"a\":\"*.> \\u0001\\u00e4\"}", "s.%2A%2E%3E%20%01%C3%A4");
	assert_subject("s.{/a}", "{\"a\":true}", "s.true");
	assert_subject("s.{peer}.{address}", "", "s.%none.%none");
	assert_string_equal(subject_of("s.{/a}", "nothing", out), "not_json");
	assert_string_equal(subject_of("s.{/a}", "{\"a\":null}", out), "no_field");
	assert_string_equal(subject_of("s.{/a}", "{\"a\":\"\"}", out), "no_field");
	assert_string_equal(subject_of("s.{/a}", "{\"a\":{}}", out), "no_field");
	snprintf(payload, sizeof payload, "{\"a\":\"%0200d\"}", 0);
	assert_string_equal(subject_of("s.{/a}", payload, out), "subject_too_long");
}

static void test_names(void **state)
{
	const struct ss_attribute_service *service;
	struct ss_iface attributes;
	struct subject s = {0};
	struct ss_attributes values = {.struct_size = sizeof values, .flags = SS_ATTR_PEER_VERIFIED};
	struct ss_event e = {.attributes = 1};
	const struct ss_attributes *set = &values;
	const struct ss_batch batch = {
		.struct_size = sizeof batch, .count = 1, .events = &e, .attributes = &set, .n_attributes = 1};
	char out[SUBJECT_MAX];

	(void)state;
	assert_int_equal(h.host.query(&h.host, SS_ATTRIBUTES, sizeof *service, &attributes), 0);
	values.values[SS_ATTR_PEER] = (struct ss_attribute){.text = "edge.example", .len = 12};
	values.values[SS_ATTR_ORIGIN] = (struct ss_attribute){.text = "unverified:me", .len = 13};
	assert_int_equal(subject_parse(&s, &h.host, "/subject", "{component}.{peer}.{origin}"), 0);
	assert_null(subject_write(&s, &batch, &e, out));
	assert_non_null(strstr(out, ".edge%2Eexample.%unverified:me"));
	subject_done(&s);
}

static void test_patterns(void **state)
{
	(void)state;
	assert_true(subject_matches("a.b", "a.b"));
	assert_true(subject_matches("a.*", "a.b"));
	assert_true(subject_matches(">", "a"));
	assert_true(subject_matches("a.>", "a.b.c"));
	assert_true(subject_matches("*.*.c", "a.b.c"));
	assert_false(subject_matches("a.>", "a"));
	assert_false(subject_matches("a.*", "a"));
	assert_false(subject_matches("a.*", "a.b.c"));
	assert_false(subject_matches("a.b", "a.bc"));
	assert_false(subject_matches("a", "a.b"));
}

/* ---- headers ---- */

static void test_headers(void **state)
{
	static const char path[] = "edge/h%2Fub \xc3\xa4:";
	struct ss_attributes values = {.struct_size = sizeof values, .flags = SS_ATTR_ORIGIN_VERIFIED};
	static struct headers read;
	natsMsg *msg = NULL;

	(void)state;
	values.values[SS_ATTR_PATH] = (struct ss_attribute){.text = path, .len = sizeof path - 1};
	values.values[SS_ATTR_INPUT] = (struct ss_attribute){.text = "udp", .len = 3};
	assert_int_equal(natsMsg_Create(&msg, "s", NULL, "x", 1), NATS_OK);
	assert_true(headers_add(msg, &values, 1234567890123456789));
	assert_true(headers_read(msg, &read));
	assert_int_equal(read.time_ns, 1234567890123456789);
	assert_int_equal(read.values.flags, SS_ATTR_ORIGIN_VERIFIED);
	assert_int_equal(read.values.values[SS_ATTR_PATH].len, sizeof path - 1);
	assert_memory_equal(read.values.values[SS_ATTR_PATH].text, path, sizeof path - 1);
	assert_int_equal(read.values.values[SS_ATTR_INPUT].len, 3);
	assert_int_equal(read.values.values[SS_ATTR_PEER].len, 0);
	natsMsg_Destroy(msg);
}

static void test_broken_values(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(headers_decode("%4", out, sizeof out), -1);
	assert_int_equal(headers_decode("%zz", out, sizeof out), -1);
	assert_int_equal(headers_decode("12345678", out, sizeof out), -1);
	assert_int_equal(headers_decode("%41b", out, sizeof out), 2);
	assert_string_equal(out, "Ab");
	assert_false(headers_encode("    ", 4, out, sizeof out));
}

/* ---- positions ---- */

static void send(struct place *at, uint8_t epoch, uint64_t seq)
{
	memset(at->sent.epoch, epoch, 16);
	at->sent.seq = seq;
}

static void test_positions(void **state)
{
	static const uint8_t none[16], one[16] = {1},
				       epoch[16] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
	static struct positions p, q;
	struct ss_strbuf text = {0};

	(void)state;
	positions_write(&p, &text);
	assert_string_equal(ss_strbuf_cstr(&text), "-");
	send(positions_place(&p, 0, "a b", none), 7, 10);
	send(positions_place(&p, 0, "a b", one), 7, UINT64_MAX);
	send(positions_place(&p, 3, "a b", none), 8, 1);
	positions_write(&p, &text);
	positions_restore_begin(&q);
	assert_true(positions_restore(&q, ss_strbuf_cstr(&text)));
	/* what a newer message said stays */
	assert_true(positions_restore(&q, "0 a%20b - 07070707070707070707070707070707 9"));
	assert_true(place_has(positions_place(&q, 0, "a b", none), epoch, 10));
	assert_false(place_has(positions_place(&q, 0, "a b", none), epoch, 11));
	assert_true(place_has(positions_place(&q, 0, "a b", one), epoch, UINT64_MAX));
	assert_false(place_has(positions_place(&q, 3, "a b", none), epoch, 1));
	assert_false(place_has(positions_place(&q, 0, "other", none), epoch, 1));
	send(positions_place(&q, 0, "a b", none), 7, 20);
	positions_rewind(&q);
	assert_false(place_has(positions_place(&q, 0, "a b", none), epoch, 11));
	ss_strbuf_done(&text);
	positions_done(&p);
	positions_done(&q);
}

static void test_broken_positions(void **state)
{
	static const char *const broken[] = {
		"",           "x",           "0 a - -",    "0 a - - x",   "0 a zz - 1",
		"0 a - 07 1", "0 a - - 1 0", "-1 a - - 1", "0 %zz - - 1", "0  - - 1",
		"0 a - - 1 "};
	static struct positions p;

	(void)state;
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
		if (positions_restore(&p, broken[i]))
			fail_msg("\"%s\" was taken", broken[i]);
	positions_done(&p);
}

/* More streams than there is room for: those in use stay, the oldest give way, and the text stays short. */
static void test_many_positions(void **state)
{
	static const uint8_t none[16];
	static struct positions p;
	struct ss_strbuf text = {0};
	char name[80];

	(void)state;
	for (int i = 0; i < 2 * POSITIONS_MAX; i++) {
		snprintf(name, sizeof name, "source_with_a_name_that_is_as_long_as_can_be____________%06d",
			 i);
		struct place *at = positions_place(&p, 0, name, none);
		assert_non_null(at);
		at->holders = i == 0;
		send(at, 9, 1000);
	}
	assert_int_equal(p.n, POSITIONS_MAX);
	assert_int_equal(p.forgotten, POSITIONS_MAX);
	snprintf(name, sizeof name, "source_with_a_name_that_is_as_long_as_can_be____________%06d", 0);
	assert_int_equal(positions_place(&p, 0, name, none)->sent.seq, 1000);
	positions_write(&p, &text);
	assert_true(text.len > 16000 && text.len < INDEX_TEXT_MAX);
	assert_null(positions_place(&p, 0, "much_too_long_a_name_much_too_long_a_name_much_too_long_a_name_x",
				    none));
	ss_strbuf_done(&text);
	positions_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_configurations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_subjects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_broken_values),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_broken_positions),
		cmocka_unit_test(test_many_positions),
	};
	if (nats_Open(-1) != NATS_OK) /* messages need the library */
		return 1;
	const int failed = cmocka_run_group_tests(tests, NULL, NULL);
	nats_Close();
	return failed;
}
