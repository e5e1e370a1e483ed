/* SPDX-License-Identifier: MIT */
/* link_proto: checksums by known vectors, control messages there and back and damaged, data messages of every
 * cut. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include <semstreams/test-host.h>
#include <semstreams/base/crc32c.h>
#include "plugins/websocket/link/link_proto.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define EPOCH        "000102030405060708090a0b0c0d0e0f"
#define MAX          "9007199254740991"
#define OVER         "9007199254740992"

static struct ss_reader *reader;

static int setup(void **state)
{
	(void)state;
	return link_control_reader(ss_test_host_fields(), NULL, &reader);
}

static int teardown(void **state)
{
	(void)state;
	ss_test_host_fields()->free(NULL, reader);
	return 0;
}

static int read_text(const char *text, size_t len, struct link_control *c, const char **why)
{
	uint8_t *exact = malloc(len + !len); /* so that a sanitizer sees the first byte read beyond */
	assert_non_null(exact);
	memcpy(exact, text, len);
	int ret = link_control_read(ss_test_host_fields(), NULL, reader, exact, len, c, why);
	free(exact);
	return ret;
}

static void test_control_there_and_back(void **state)
{
	(void)state;
	static const struct link_control messages[] = {
		{.type = LINK_HELLO,
		 .stream = "orders \"\\/\xc3\xa9\xf0\x9f\x98\x80",
		 .consumer = "cloud-1",
		 .has_resume = true,
		 .resume = {.epoch = {0xff, 1, 2, 0x80}, .seq = LINK_SEQ_MAX},
		 .window = {4096, 4194304},
		 .max_frame = 1048576,
		 .max_record = 262144,
		 .time_ms = 1763892000123},
		{.type = LINK_HELLO, .window = {1, 33}, .max_frame = 33, .max_record = 1},
		{.type = LINK_WELCOME,
		 .epoch = {1},
		 .first = 40,
		 .next = 977,
		 .max_frame = LINK_SIZE_MAX,
		 .max_record = LINK_SIZE_MAX - 32,
		 .heartbeat_ms = 20000,
		 .time_ms = 1},
		{.type = LINK_ACK, .seq = 512, .bytes = 99999, .window = {0, 0}},
		{.type = LINK_LOST, .from = 12, .to = 39, .reason = "retention"},
		{.type = LINK_NACK, .seq = 513, .reason = "schema"},
		{.type = LINK_HB, .next = 978},
		{.type = LINK_HB, .seq = 41, .time_ms = 5},
		{.type = LINK_HB},
		{.type = LINK_BYE, .retry_ms = 2000, .reason = "reload"},
		{.type = LINK_BYE},
	};
	for (unsigned i = 0; i < COUNT(messages); i++) {
		char text[LINK_CONTROL_MAX];
		struct link_control back;
		const char *why;
		size_t len = link_control_write(&messages[i], text);
		assert_in_range(len, 1, sizeof text);
		assert_int_equal(read_text(text, len, &back, &why), 0);
		assert_memory_equal(&back, &messages[i], sizeof back);
	}
}

static void test_control_as_documented(void **state)
{
	(void)state;
	struct link_control c = {.type = LINK_HELLO,
				 .stream = "a\"b\n",
				 .consumer = "\xff\xc0\x80",
				 .window = {8, 99},
				 .max_frame = 99,
				 .max_record = 9};
	char text[LINK_CONTROL_MAX + 1];
	text[link_control_write(&c, text)] = '\0';
	assert_string_equal(text,
			    "{\"t\":\"hello\",\"v\":1,\"stream\":\"a\\\"b\\u000a\",\"consumer\":"
			    "\"\\ufffd\\ufffd\\ufffd\","
			    "\"window\":{\"records\":8,\"bytes\":99},\"max_frame\":99,\"max_record\":9}");
	c = (struct link_control){.type = LINK_ACK, .seq = 0, .window = {1, 2}};
	text[link_control_write(&c, text)] = '\0';
	assert_string_equal(text,
			    "{\"t\":\"ack\",\"seq\":0,\"bytes\":0,\"window\":{\"records\":1,\"bytes\":2}}");
}

static void test_bytes_that_are_not_utf8(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		unsigned replaced;
	} cases[] = {
		{"\xed\x9f\xbf", 0},     {"\xed\xa0\x80", 3},
		{"\xe0\x80\x80", 3},     {"\xe0\xa0\x80", 0},
		{"\xf0\x80\x80\x80", 4}, {"\xf4\x8f\xbf\xbf", 0},
		{"\xf4\x90\x80\x80", 4}, {"\xf5\x80\x80\x80", 4},
		{"\xc1\xbf", 2},         {"\xc3", 1},
		{"\xf0\x9f\x98", 3},     {"\xc3x", 1},
	};
	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct link_control c = {.type = LINK_BYE}, back;
		char text[LINK_CONTROL_MAX + 1];
		const char *why;
		unsigned replaced = 0;
		snprintf(c.reason, sizeof c.reason, "%s", cases[i].bytes);
		size_t len = link_control_write(&c, text);
		text[len] = '\0';
		for (const char *at = text; (at = strstr(at, "\\ufffd")); at++)
			replaced++;
		assert_int_equal(replaced, cases[i].replaced);
		assert_int_equal(read_text(text, len, &back, &why), 0);
	}
}

static void test_longest_message_fits(void **state)
{
	(void)state;
	struct link_control c = {.type = LINK_HELLO,
				 .has_resume = true,
				 .window = {LINK_SEQ_MAX, LINK_SEQ_MAX},
				 .max_frame = UINT64_MAX,
				 .max_record = UINT64_MAX,
				 .time_ms = UINT64_MAX,
				 .resume.seq = UINT64_MAX};
	char *text = malloc(LINK_CONTROL_MAX);
	assert_non_null(text);
	memset(c.stream, 1, sizeof c.stream - 1);
	memset(c.consumer, 0xff, sizeof c.consumer - 1);
	assert_in_range(link_control_write(&c, text), 1500, LINK_CONTROL_MAX);
	free(text);
}

static void test_control_taken(void **state)
{
	(void)state;
	static const char *const texts[] = {
		" { \"t\" : \"hb\" , \"more\" : [ { \"seq\" : -1 } ] , \"seq\" : 0 } ",
		"{\"t\":\"hb\",\"next\":null,\"seq\":null,\"from\":\"not of this type\"}",
		"{\"t\":\"hello\",\"v\":1,\"resume\":null,\"window\":{\"records\":1,\"bytes\":41,\"x\":0},"
		"\"max_frame\":41,"
		"\"max_record\":9,\"zstd\":true}",
		"{\"t\":\"welcome\",\"v\":1,\"epoch\":\"000102030405060708090A0b0c0d0E0F\",\"first\":" MAX
		",\"next\":" MAX ",\"max_frame\":2147483647,\"max_record\":1,\"hb_ms\":100}",
		"{\"t\":\"bye\",\"reason\":\"\",\"retry_ms\":86400000}",
	};
	for (unsigned i = 0; i < COUNT(texts); i++) {
		struct link_control c;
		const char *why = "";
		if (read_text(texts[i], strlen(texts[i]), &c, &why))
			fail_msg("%s: %s", texts[i], why);
	}
}

#define HELLO(stream, resume, records, bytes, frame, record)                                                 \
	"{\"t\":\"hello\",\"v\":1,\"stream\":" stream ",\"resume\":" resume                                  \
	",\"window\":{\"records\":" records ",\"bytes\":" bytes "},\"max_frame\":" frame                     \
	",\"max_record\":" record "}"
#define WELCOME(epoch, first, next, frame, record, hb)                                                       \
	"{\"t\":\"welcome\",\"v\":1,\"epoch\":" epoch ",\"first\":" first ",\"next\":" next                  \
	",\"max_frame\":" frame ",\"max_record\":" record ",\"hb_ms\":" hb "}"

static void test_control_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", "not a JSON text"},
		{"null", "without a known type"},
		{"[\"hello\"]", "without a known type"},
		{"{\"t\":\"hb\"} x", "not a JSON text"},
		{"{\"t\":\"hb\",\"reason\":\"\xff\"}", "not a JSON text"},
		{"{\"t\":7}", "without a known type"},
		{"{\"t\":\"HB\"}", "without a known type"},
		{"{\"t\":\"hbx\"}", "without a known type"},
		{"{\"t\":\"data\"}", "without a known type"},
		{"{\"t\":\"hello\"}", "\"v\""},
		{"{\"t\":\"hello\",\"v\":2}", "\"v\""},
		{"{\"t\":\"welcome\",\"v\":\"1\"}", "\"v\""},
		{HELLO("7", "null", "1", "99", "99", "9"), "\"stream\""},
		{HELLO("\"a\\nb\"", "null", "1", "99", "99", "9"), "\"stream\""},
		{HELLO("\"a\\u0000b\"", "null", "1", "99", "99", "9"), "\"stream\""},
		{HELLO("\"\"", "false", "1", "99", "99", "9"), "\"resume\""},
		{HELLO("\"\"", "\"" EPOCH "\"", "1", "99", "99", "9"), "\"resume\""},
		{HELLO("\"\"", "{}", "1", "99", "99", "9"), "\"resume.epoch\""},
		{HELLO("\"\"", "{\"epoch\":\"" EPOCH "0\",\"seq\":1}", "1", "99", "99", "9"),
		 "\"resume.epoch\""},
		{HELLO("\"\"", "{\"epoch\":\"g00102030405060708090a0b0c0d0e0f\",\"seq\":1}", "1", "99", "99",
		       "9"),
		 "\"resume.epoch\""},
		{HELLO("\"\"", "{\"epoch\":\"" EPOCH "\"}", "1", "99", "99", "9"), "\"resume.seq\""},
		{HELLO("\"\"", "{\"epoch\":\"" EPOCH "\",\"seq\":-1}", "1", "99", "99", "9"),
		 "\"resume.seq\""},
		{HELLO("\"\"", "{\"epoch\":\"" EPOCH "\",\"seq\":" OVER "}", "1", "99", "99", "9"),
		 "\"resume.seq\""},
		{HELLO("\"\"", "{\"epoch\":\"" EPOCH "\",\"seq\":\"1\"}", "1", "99", "99", "9"),
		 "\"resume.seq\""},
		{HELLO("\"\"", "null", "0", "99", "99", "9"), "\"window.records\""},
		{HELLO("\"\"", "null", "1.0", "99", "99", "9"), "\"window.records\""},
		{HELLO("\"\"", "null", "1e3", "99", "99", "9"), "\"window.records\""},
		{HELLO("\"\"", "null", "18446744073709551617", "99", "99", "9"), "\"window.records\""},
		{HELLO("\"\"", "null", "1", "0", "99", "9"), "\"window.bytes\""},
		{HELLO("\"\"", "null", "1", "true", "99", "9"), "\"window.bytes\""},
		{HELLO("\"\"", "null", "1", "99", "40", "9"), "\"max_frame\" must be at least"},
		{HELLO("\"\"", "null", "1", "99", "2147483648", "9"), "\"max_frame\""},
		{HELLO("\"\"", "null", "1", "99", "99", "0"), "\"max_record\""},
		{"{\"t\":\"hello\",\"v\":1,\"window\":[1,99],\"max_frame\":99,\"max_record\":9}",
		 "\"window.records\""},
		{WELCOME("null", "1", "1", "99", "9", "100"), "\"epoch\""},
		{WELCOME("\"" EPOCH "\"", "0", "1", "99", "9", "100"), "\"first\""},
		{WELCOME("\"" EPOCH "\"", "2", "1", "99", "9", "100"), "\"first\" must not"},
		{WELCOME("\"" EPOCH "\"", "1", OVER, "99", "9", "100"), "\"next\""},
		{WELCOME("\"" EPOCH "\"", "1", "1", "99", "68", "100"), "\"max_frame\" must"},
		{WELCOME("\"" EPOCH "\"", "1", "1", "99", "9", "99"), "\"hb_ms\""},
		{WELCOME("\"" EPOCH "\"", "1", "1", "99", "9", "3600001"), "\"hb_ms\""},
		{"{\"t\":\"ack\",\"bytes\":0,\"window\":{\"records\":1,\"bytes\":1}}", "\"seq\""},
		{"{\"t\":\"ack\",\"seq\":1,\"window\":{\"records\":1,\"bytes\":1}}", "\"bytes\""},
		{"{\"t\":\"ack\",\"seq\":1,\"bytes\":1}", "\"window.records\""},
		{"{\"t\":\"lost\",\"from\":3,\"to\":2}", "\"from\" must not"},
		{"{\"t\":\"lost\",\"from\":0,\"to\":2}", "\"from\""},
		{"{\"t\":\"lost\",\"from\":1,\"to\":2,\"reason\":1}", "\"reason\""},
		{"{\"t\":\"nack\",\"seq\":0}", "\"seq\""},
		{"{\"t\":\"nack\",\"seq\":1,\"code\":{}}", "\"code\""},
		{"{\"t\":\"hb\",\"next\":\"1\"}", "\"next\""},
		{"{\"t\":\"bye\",\"retry_ms\":86400001}", "\"retry_ms\""},
	};
	for (unsigned i = 0; i < COUNT(bad); i++) {
		struct link_control c;
		const char *why = NULL;
		if (read_text(bad[i].text, strlen(bad[i].text), &c, &why) != -EINVAL)
			fail_msg("taken: %s", bad[i].text);
		if (!strstr(why, bad[i].why))
			fail_msg("%s: \"%s\" instead of \"%s\"", bad[i].text, why, bad[i].why);
	}
}

static void test_long_texts(void **state)
{
	(void)state;
	struct link_control c;
	const char *why;
	char text[LINK_CONTROL_MAX + 2], name[LINK_NAME_MAX + 1];
	memset(name, 'n', sizeof name);
	for (int len = LINK_NAME_MAX - 1; len <= LINK_NAME_MAX; len++) {
		int n = snprintf(text, sizeof text,
				 "{\"t\":\"hello\",\"v\":1,\"consumer\":\"%.*s\",\"window\":{\"records\":1,"
				 "\"bytes\":99},\"max_frame\":99,\"max_record\":9}",
				 len, name);
		assert_int_equal(read_text(text, (size_t)n, &c, &why), len == LINK_NAME_MAX ? -EINVAL : 0);
	}
	/* a reason is for people: cut off between characters, without control characters */
	int n = snprintf(text, sizeof text, "{\"t\":\"bye\",\"reason\":\"\\n%.61s\xc3\xa9 and so on\"}",
			 name);
	assert_int_equal(read_text(text, (size_t)n, &c, &why), 0);
	assert_int_equal(strlen(c.reason), 62);
	assert_int_equal(c.reason[0], '?');
	memset(text, ' ', sizeof text);
	memcpy(text, "{\"t\":\"hb\"}", 10);
	assert_int_equal(read_text(text, LINK_CONTROL_MAX, &c, &why), 0);
	assert_int_equal(read_text(text, LINK_CONTROL_MAX + 1, &c, &why), -EINVAL);
}

static size_t make_data(uint8_t *buf, const char *const *texts, uint16_t n, uint64_t first)
{
	size_t len = LINK_DATA_HEADER;
	for (uint16_t i = 0; i < n; i++) {
		struct ss_event e = {.data = (const uint8_t *)texts[i],
				     .len = (uint32_t)strlen(texts[i]),
				     .time_ns = 1000000000000000000u + i};
		len = link_record_write(buf, len, &e);
	}
	link_data_finish(buf, len, n, first, false);
	return len;
}

static const char *const texts[] = {"{\"a\":1}", "", "x"};

static void test_data_there_and_back(void **state)
{
	(void)state;
	uint8_t buf[128];
	size_t len = make_data(buf, texts, 3, 42);
	static const uint8_t header[16] = {1, 0, 0, 3, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 42};
	struct link_data d;
	const char *why;
	assert_int_equal(len, 20 + 3 * 12 + 8);
	assert_memory_equal(buf, header, sizeof header);
	assert_int_equal(link_data_read(buf, len, 7, &d, &why), 0);
	assert_int_equal(d.count, 3);
	assert_int_equal(d.first_seq, 42);
	const uint8_t *at = d.records;
	for (unsigned i = 0; i < 3; i++) {
		uint32_t n;
		uint64_t time_ns;
		const uint8_t *record = link_record_next(&at, &n, &time_ns);
		assert_int_equal(n, strlen(texts[i]));
		assert_memory_equal(record, texts[i], n);
		assert_int_equal(time_ns, 1000000000000000000u + i);
	}
	assert_ptr_equal(at, buf + len);
	assert_int_equal(link_data_read(buf, len, 6, &d, &why), -EMSGSIZE);
}

/* With the checksum made right, so that what lies behind it is tested too. */
static int read_sealed(uint8_t *buf, size_t len, const char **why)
{
	struct link_data d;
	uint8_t crc[4];
	uint32_t sum = ss_crc32c_table(0, buf + 20, len - 20);
	for (unsigned i = 0; i < 4; i++)
		crc[i] = (uint8_t)(sum >> (24 - 8 * i));
	memcpy(buf + 16, crc, 4);
	uint8_t *exact = malloc(len);
	assert_non_null(exact);
	memcpy(exact, buf, len);
	int ret = link_data_read(exact, len, 1000, &d, why);
	free(exact);
	return ret;
}

static void test_data_refused(void **state)
{
	(void)state;
	uint8_t good[128], buf[128];
	struct link_data d;
	const char *why;
	size_t len = make_data(good, texts, 3, LINK_SEQ_MAX - 2);
	assert_int_equal(link_data_read(good, len, 7, &d, &why), 0);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(link_data_read(good, cut, 7, &d, &why), -EINVAL);
	for (size_t bit = 0; bit < len * 8;
	     bit++) { /* of the sequence, a lower one is as good: contiguity is checked elsewhere */
		memcpy(buf, good, len);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (bit / 8 < 8 || bit / 8 >= 16)
			assert_int_equal(link_data_read(buf, len, 7, &d, &why), -EINVAL);
	}
	static const struct {
		unsigned at;
		uint8_t value;
		const char *why;
	} bad[] = {
		{0, 0, "unknown type"},    {0, 2, "unknown type"},       {1, 1, "flags"},
		{3, 0, "without records"}, {3, 2, "bytes behind"},       {3, 4, "out of range"},
		{4, 1, "payload length"},  {7, 45, "payload length"},    {8, 1, "out of range"},
		{15, 254, "out of range"}, {20, 0xff, "beyond its end"}, {23, 8, "beyond its end"},
		{23, 6, "beyond its end"}, {23, 34, "beyond its end"},
	};
	for (unsigned i = 0; i < COUNT(bad); i++) {
		memcpy(buf, good, len);
		buf[bad[i].at] = bad[i].value;
		assert_int_equal(read_sealed(buf, len, &why), -EINVAL);
		if (!strstr(why, bad[i].why))
			fail_msg("byte %u = %u: %s", bad[i].at, bad[i].value, why);
	}
	len = make_data(buf, texts, 3, 1);
	buf[3] = 4;
	assert_int_equal(read_sealed(buf, len, &why), -EINVAL);
	assert_non_null(strstr(why, "beyond its end"));
	memcpy(buf, good, len);
	memset(buf + 8, 0, 8);
	assert_int_equal(read_sealed(buf, len, &why), -EINVAL);
	assert_non_null(strstr(why, "out of range"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_there_and_back),
		cmocka_unit_test(test_control_as_documented),
		cmocka_unit_test(test_bytes_that_are_not_utf8),
		cmocka_unit_test(test_longest_message_fits),
		cmocka_unit_test(test_control_taken),
		cmocka_unit_test(test_control_refused),
		cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_data_there_and_back),
		cmocka_unit_test(test_data_refused),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
