/* SPDX-License-Identifier: MIT */
/* ack_subject: what is read from the subjects of both forms, and what is no such subject. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "plugins/nats_input/ack_subject.h"

static void reads_what_servers_send(void **state)
{
	struct ack_subject at;

	(void)state;
	assert_int_equal(ack_subject_read("$JS.ACK.EVENTS.work.2.1007.33.1764562311649131195.12", &at), 0);
	assert_int_equal(at.delivered, 2);
	assert_int_equal(at.seq, 1007);
	assert_int_equal(at.consumer_seq, 33);
	assert_int_equal(at.time_ns, 1764562311649131195);
	assert_int_equal(at.pending, 12);
}

static void reads_those_with_a_domain(void **state)
{
	static const char *const subjects[] = {
		"$JS.ACK.hub.ABCDEFGH.EVENTS.work.1.18446744073709551615.5.6.7",
		"$JS.ACK._.ABCDEFGH.EVENTS.work.1.18446744073709551615.5.6.7.random",
		"$JS.ACK._.ABCDEFGH.EVENTS.work.1.18446744073709551615.5.6.7.random.more",
	};
	struct ack_subject at;

	(void)state;
	for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
		assert_int_equal(ack_subject_read(subjects[i], &at), 0);
		assert_int_equal(at.delivered, 1);
		assert_true(at.seq == UINT64_MAX);
		assert_int_equal(at.consumer_seq, 5);
		assert_int_equal(at.time_ns, 6);
		assert_int_equal(at.pending, 7);
	}
}

static void refuses_others(void **state)
{
	static const char *const subjects[] = {
		"",
		"$JS.ACK",
		"$JS.ACK.",
		"_INBOX.x.1",
		"$JS.API.EVENTS.work.2.1007.33.1.12",
		"$JS.ACK.EVENTS.work.2.1007.33.1",
		"$JS.ACK.EVENTS.work.2.1007.33.1.1.random",
		"$JS.ACK.EVENTS.work.x.1007.33.1.12",
		"$JS.ACK.EVENTS.work.2.-7.33.1.12",
		"$JS.ACK.EVENTS.work.2.+7.33.1.12",
		"$JS.ACK.EVENTS.work.2. 7.33.1.12",
		"$JS.ACK.EVENTS.work.2..33.1.12",
		"$JS.ACK.EVENTS.work.2.7x.33.1.12",
		"$JS.ACK.EVENTS.work.2.18446744073709551616.33.1.12",
		"$JS.ACK................................",
	};
	struct ack_subject at;

	(void)state;
	for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++)
		assert_int_equal(ack_subject_read(subjects[i], &at), -EINVAL);
	assert_int_equal(ack_subject_read(NULL, &at), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_servers_send),
		cmocka_unit_test(reads_those_with_a_domain),
		cmocka_unit_test(refuses_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
