/* SPDX-License-Identifier: MIT */
/* link: the conformance vectors in tests/flow/link_sessions.json against messages and sessions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include <semstreams/ext/fields.h>
#include <semstreams/test-host.h>
#include "plugins/websocket/link/link_session.h"

static json_t *vectors;
static struct ss_reader *reader;
static const char *row_name; /* for messages */
static size_t step_number;

#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			fail_msg("%s, step %zu: " #condition, row_name, step_number);                        \
	} while (0)

static int setup(void **state)
{
	(void)state;
	const char *srcdir = getenv("srcdir");
	char path[1024];
	json_error_t error;
	snprintf(path, sizeof path, "%s/tests/flow/link_sessions.json", srcdir ? srcdir : ".");
	vectors = json_load_file(path, 0, &error);
	if (!vectors) {
		print_error("%s: %s\n", path, error.text);
		return -1;
	}
	return link_control_reader(ss_test_host_fields(), NULL, &reader);
}

static int teardown(void **state)
{
	(void)state;
	json_decref(vectors);
	ss_test_host_fields()->free(NULL, reader);
	return 0;
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static uint8_t *unhex(const char *hex, size_t *len)
{
	*len = strlen(hex) / 2;
	uint8_t *bytes = malloc(*len + 1);
	assert_non_null(bytes);
	for (size_t i = 0; i < *len; i++) {
		unsigned byte;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	return bytes;
}

static int read_control(const char *text, struct link_control *c)
{
	const char *why;
	return link_control_read(ss_test_host_fields(), NULL, reader, (const uint8_t *)text, strlen(text), c,
				 &why);
}

static json_t *written(const struct link_control *c)
{
	char text[LINK_CONTROL_MAX];
	json_t *json = json_loadb(text, link_control_write(c, text), JSON_REJECT_DUPLICATES, NULL);
	CHECK(json);
	return json;
}

/* One for each record, or null; the bytes of their block. */
static size_t put_attributes(uint8_t *to, const json_t *list)
{
	static const char *const names[SS_ATTR_COUNT] = {"peer", "origin", "path", "address", "input"};
	struct ss_attribute_writer w = {0};
	const json_t *row;
	size_t i;

	json_array_foreach(list, i, row)
	{
		struct ss_attributes a = {.struct_size = sizeof a};
		uint8_t set[SS_ATTRIBUTE_SET_MAX];
		a.flags = json_is_true(json_object_get(row, "verified")) ? SS_ATTR_ORIGIN_VERIFIED : 0;
		for (uint32_t k = 0; k < SS_ATTR_COUNT; k++) {
			const char *text = json_string_value(json_object_get(row, names[k]));
			if (text)
				a.values[k] =
					(struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
		}
		CHECK(ss_attribute_writer_add(&w, set, ss_attribute_set_write(&a, set)) == 0);
	}
	const size_t size = ss_attribute_writer_size(&w);
	if (size)
		ss_attribute_writer_put(&w, to);
	ss_attribute_writer_done(&w);
	return size;
}

/* Records as they stand in the file to a message. */
static size_t build(uint8_t *buf, const json_t *from)
{
	size_t len = LINK_DATA_HEADER, i;
	const json_t *record, *records = json_object_get(from, "records");
	json_array_foreach(records, i, record)
	{
		const char *text = json_string_value(json_array_get(record, 1));
		struct ss_event e = {.data = (const uint8_t *)text,
				     .len = (uint32_t)strlen(text),
				     .time_ns = (uint64_t)json_integer_value(json_array_get(record, 0))};
		len = link_record_write(buf, len, &e);
	}
	const size_t block = put_attributes(buf + len, json_object_get(from, "attributes"));
	len += block;
	link_data_finish(buf, len, (uint16_t)json_array_size(records), number(from, "first"), block);
	return len;
}

static int data_code(int ret)
{
	return ret == -EMSGSIZE ? LINK_RECORD_TOO_BIG : ret ? LINK_BAD_FRAME : 0;
}

/* ---- single messages ---- */

static void check_control(const json_t *row)
{
	struct link_control c, again;
	const char *text = string(row, "text");
	char back[LINK_CONTROL_MAX];
	const char *why;
	if (json_object_get(row, "refused")) {
		CHECK(read_control(text, &c) == -EINVAL);
		return;
	}
	CHECK(read_control(text, &c) == 0);
	json_t *json = written(&c);
	CHECK(strcmp(string(json, "t"), string(row, "type")) == 0);
	json_decref(json);
	size_t len = link_control_write(&c, back);
	CHECK(link_control_read(ss_test_host_fields(), NULL, reader, (uint8_t *)back, len, &again, &why) ==
	      0);
	CHECK(memcmp(&c, &again, sizeof c) == 0);
}

static void check_data(const json_t *row)
{
	size_t len;
	uint8_t *bytes = unhex(string(row, "hex"), &len), again[512];
	uint64_t max_record = json_object_get(row, "max_record") ? number(row, "max_record") : LINK_SIZE_MAX;
	struct link_data d;
	const char *why;
	int code = data_code(link_data_read(bytes, len, max_record, &d, &why));
	CHECK(code == (int)number(row, "refused"));
	if (!code) {
		CHECK(d.first_seq == number(row, "first"));
		CHECK(build(again, row) == len && memcmp(again, bytes, len) == 0);
	}
	free(bytes);
}

static void test_messages(void **state)
{
	(void)state;
	size_t i;
	const json_t *row;
	json_array_foreach(json_object_get(vectors, "messages"), i, row)
	{
		row_name = string(row, "name");
		if (json_object_get(row, "text"))
			check_control(row);
		else
			check_data(row);
	}
	assert_true(i > 40);
}

/* ---- sessions ---- */

struct end {
	bool sends;
	uint64_t now;
	struct link_sender sender;
	struct sendlog_view log;
	struct ss_position past; /* an earlier epoch of the log */
	uint64_t max_frame, max_record, heartbeat_ms;
	const char *peer, *stream, *consumer;
	struct link_window window;
	struct link_receiver receiver;
};

static struct ss_position position(const json_t *json)
{
	struct ss_position p = {.seq = number(json, "seq")};
	size_t len;
	uint8_t *epoch = unhex(string(json, "epoch"), &len);
	memcpy(p.epoch, epoch, 16);
	free(epoch);
	return p;
}

/* Adds what an action asks for to what is done; an end that wants to be asked again is. */
static void note(struct end *e, const struct link_action *out, json_t *done)
{
	if (out->todo & LINK_DO_SEND) {
		if (!json_object_get(done, "send"))
			json_object_set_new(done, "send", json_array());
		json_array_append_new(json_object_get(done, "send"), written(&out->control));
	}
	static const struct {
		uint32_t flag;
		const char *key;
	} truths[] = {{LINK_DO_LIVE, "live"}, {LINK_DO_BYE, "bye"}, {LINK_DO_RENEW, "renew"}},
	  sequences[] = {{LINK_DO_ACKED, "acked"}, {LINK_DO_NACK, "nack"}, {LINK_DO_RESTART, "restart"}};
	for (unsigned i = 0; i < 3; i++) {
		if (out->todo & truths[i].flag)
			json_object_set_new(done, truths[i].key, json_true());
		if (out->todo & sequences[i].flag)
			json_object_set_new(done, sequences[i].key, json_integer((json_int_t)out->seq));
	}
	if (out->todo & LINK_DO_ELSEWHERE)
		json_object_set_new(done, "elsewhere",
				    json_pack("[I,I]", (json_int_t)out->gap_from, (json_int_t)out->gap_to));
	if (out->todo & LINK_DO_DATA)
		json_object_set_new(done, "data", json_integer((json_int_t)out->from));
	if (out->duplicates)
		json_object_set_new(done, "duplicates", json_integer((json_int_t)out->duplicates));
	if (out->todo & LINK_DO_CLOSE)
		json_object_set_new(done, "close", json_integer(out->code));
	if (out->todo & LINK_DO_LOST && e->sends) {
		struct link_action more;
		link_sender_lost(&e->sender, out->to, "retention", &more);
		note(e, &more, done);
	} else if (out->todo & LINK_DO_LOST) {
		json_object_set_new(done, "lost",
				    json_pack("[I,I]", (json_int_t)out->from, (json_int_t)out->to));
	}
}

static void refuse(struct end *e, int code, json_t *done)
{
	enum link_state *state = e->sends ? &e->sender.state : &e->receiver.state;
	struct link_action out = {0};
	if (*state != LINK_CLOSED)
		link_close(state, code, "", &out);
	note(e, &out, done);
}

static void take_text(struct end *e, const char *text, json_t *done)
{
	struct link_control c;
	struct link_action out;
	if (read_control(text, &c)) {
		refuse(e, LINK_BAD_FRAME, done);
		return;
	}
	e->log.past = c.has_resume && memcmp(c.resume.epoch, e->past.epoch, 16) == 0 ? e->past.seq : 0;
	if (e->sends)
		link_sender_control(&e->sender, &c, e->peer, &e->log, e->max_frame, e->max_record,
				    e->heartbeat_ms, &out);
	else
		link_receiver_control(&e->receiver, &c, &out);
	note(e, &out, done);
}

static void take_binary(struct end *e, const char *hex, json_t *done)
{
	size_t len;
	uint8_t *bytes = unhex(hex, &len);
	struct link_data d;
	struct link_action out = {0};
	const char *why;
	int code = e->sends ? 0 : data_code(link_data_read(bytes, len, e->max_record, &d, &why));
	if (code) {
		refuse(e, code, done);
	} else {
		if (e->sends)
			link_sender_data(&e->sender, &out);
		else
			link_receiver_data(&e->receiver, &d, &out);
		note(e, &out, done);
	}
	free(bytes);
}

static void send_data(struct end *e, const json_t *step)
{
	uint8_t buf[512];
	size_t len = build(buf, json_object_get(step, "data")), expected_len;
	uint8_t *expected = unhex(string(step, "hex"), &expected_len);
	uint64_t first = number(json_object_get(step, "data"), "first");
	CHECK(first == e->sender.sent + 1);
	CHECK(len == expected_len && memcmp(buf, expected, len) == 0);
	free(expected);
	link_sender_sent(
		&e->sender,
		first - 1 + json_array_size(json_object_get(json_object_get(step, "data"), "records")), len);
}

static void check_credit(struct end *e, const json_t *expected)
{
	uint64_t records, bytes;
	link_sender_credit(&e->sender, &records, &bytes);
	CHECK(records == (uint64_t)json_integer_value(json_array_get(expected, 0)));
	CHECK(bytes == (uint64_t)json_integer_value(json_array_get(expected, 1)));
}

static void start(struct end *e, const json_t *resume, json_t *done)
{
	struct link_action out;
	struct ss_position p;
	if (resume)
		p = position(resume);
	link_receiver_start(&e->receiver, e->stream, e->consumer, resume ? &p : NULL, &e->window,
			    e->max_frame, e->max_record, e->now, &out);
	note(e, &out, done);
}

static void tick(struct end *e, uint64_t now, json_t *done)
{
	struct link_action out;
	e->now = now;
	if (e->sends)
		link_sender_tick(&e->sender, now, &out);
	else
		link_receiver_tick(&e->receiver, now, &out);
	note(e, &out, done);
}

static void leave(struct end *e, const json_t *bye, json_t *done)
{
	struct link_action out;
	do {
		if (e->sends)
			link_sender_bye(&e->sender, e->now, number(bye, "retry_ms"), string(bye, "reason"),
					&out);
		else
			link_receiver_bye(&e->receiver, e->now, number(bye, "retry_ms"),
					  string(bye, "reason"), &out);
		note(e, &out, done);
	} while (!e->sends && e->receiver.state == LINK_LIVE_STATE);
}

static void perform(struct end *e, const json_t *step, json_t *done)
{
	if (json_object_get(step, "data"))
		send_data(e, step);
	else if (json_object_get(step, "text"))
		take_text(e, string(step, "text"), done);
	else if (json_object_get(step, "hex"))
		take_binary(e, string(step, "hex"), done);
	else if (json_object_get(step, "tick_ms"))
		tick(e, number(step, "tick_ms") * 1000000, done);
	else if (json_object_get(step, "start"))
		start(e, json_object_get(step, "resume"), done);
	else if (json_object_get(step, "bye"))
		leave(e, json_object_get(step, "bye"), done);
	else if (json_object_get(step, "durable"))
		link_receiver_durable(&e->receiver, number(step, "durable"));
	else if (json_object_get(step, "credit"))
		check_credit(e, json_object_get(step, "credit"));
	else if (json_object_get(step, "lost_to")) {
		struct link_action out;
		link_sender_lost(&e->sender, number(step, "lost_to"), string(step, "reason"), &out);
		note(e, &out, done);
	} else {
		fail_msg("%s: no such step", row_name);
	}
}

/* A heartbeat's 0 is not written. */
static void leave_out_zeros(json_t *done)
{
	size_t i;
	json_t *message;
	json_array_foreach(json_object_get(done, "send"), i, message)
	{
		if (strcmp(string(message, "t"), "hb") == 0 && number(message, "seq") == 0)
			json_object_del(message, "seq");
	}
}

static void set_up(struct end *e, const json_t *row)
{
	const json_t *from = json_object_get(row, "setup");
	memset(e, 0, sizeof *e);
	e->sends = strcmp(string(row, "end"), "sender") == 0;
	e->max_frame = number(from, "max_frame");
	e->max_record = number(from, "max_record");
	e->heartbeat_ms = number(from, "hb_ms");
	e->peer = string(from, "peer");
	e->stream = string(from, "stream");
	e->consumer = string(from, "consumer");
	e->window.records = number(json_object_get(from, "window"), "records");
	e->window.bytes = number(json_object_get(from, "window"), "bytes");
	if (!e->sends)
		return;
	struct ss_position p = position(from);
	memcpy(e->log.epoch, p.epoch, 16);
	e->log.first = number(from, "first");
	e->log.next = number(from, "next");
	e->log.cursor = number(from, "cursor");
	e->log.known = json_is_true(json_object_get(from, "known"));
	if (json_object_get(from, "past"))
		e->log.newest_past = e->past = position(json_object_get(from, "past"));
	link_sender_start(&e->sender, 0);
}

static void test_sessions(void **state)
{
	(void)state;
	size_t i;
	const json_t *row, *step;
	struct end *e = malloc(sizeof *e);
	assert_non_null(e);
	json_array_foreach(json_object_get(vectors, "sessions"), i, row)
	{
		row_name = string(row, "name");
		set_up(e, row);
		json_array_foreach(json_object_get(row, "steps"), step_number, step)
		{
			json_t *done = json_object(), *nothing = json_object(),
			       *expected = json_object_get(step, "do");
			perform(e, step, done);
			leave_out_zeros(done);
			leave_out_zeros(expected);
			if (!json_equal(done, expected ? expected : nothing)) {
				char *is = json_dumps(done, JSON_SORT_KEYS),
				     *was = json_dumps(expected ? expected : nothing, JSON_SORT_KEYS);
				fail_msg("%s, step %zu: %s instead of %s", row_name, step_number, is, was);
			}
			json_decref(done);
			json_decref(nothing);
		}
		link_receiver_done(&e->receiver);
	}
	assert_true(i > 50);
	free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_sessions),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
