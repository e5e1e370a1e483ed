/* SPDX-License-Identifier: MIT */
/* udp_input: attributes of events say who sent the datagram, if somebody wants to know. */
#include "helper_udp.h"

#include <semstreams/ext/attributes.h>

static const struct ss_attributes *set_of(uint64_t n)
{
	for (uint32_t b = 0; b < h.n_emitted; b++) {
		const struct ss_batch *batch = h.emitted[b].batch;
		if (n < batch->count)
			return ss_attributes_of(batch, &batch->events[n]);
		n -= batch->count;
	}
	fail_msg("no such event");
	return NULL;
}

static void expect(const struct ss_attributes *set, uint32_t which, const char *text)
{
	const struct ss_attribute a = ss_attribute_get(set, which);

	assert_non_null(a.text);
	assert_int_equal(a.len, strlen(text));
	assert_memory_equal(a.text, text, a.len);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in6 own;
	socklen_t len = sizeof own;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
	return ntohs(own.sin6_port); /* at the same place for IPv4 */
}

/* Senders take turns; what one of them sends in one datagram are many events, or one that is longer than its
 * slot. */
static void test_each_event_has_its_sender(void **state)
{
	(void)state;
	enum { SENDERS = 50, ROUNDS = 20 };
	static char text[9000];
	static const char lines[] = "a\nb\nc\n";
	int fds[SENDERS];
	char want[64];

	conf.split = UDP_SPLIT_LINES;
	h.attributes_wanted = true;
	start();
	for (int i = 0; i < SENDERS; i++)
		fds[i] = sender("127.0.0.1");
	memset(text, 'x', sizeof text);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < SENDERS; i++) {
			if (i % 7 == 3 && round % 5 == 0)
				send_n(fds[i], text, sizeof text);
			else
				send_n(fds[i], lines, sizeof lines - 1);
		}
		uint64_t n = 0;
		for (int i = 0; i < SENDERS; i++)
			n += i % 7 == 3 && round % 5 == 0 ? 1 : 3;
		run_until(n);
		uint64_t at = 0;
		for (int i = 0; i < SENDERS; i++) {
			snprintf(want, sizeof want, "127.0.0.1:%u", port_of(fds[i]));
			for (int k = i % 7 == 3 && round % 5 == 0 ? 2 : 0; k < 3; k++, at++) {
				expect(set_of(at), SS_ATTR_ADDRESS, want);
				expect(set_of(at), SS_ATTR_INPUT, "test");
				assert_null(ss_attribute_get(set_of(at), SS_ATTR_PEER).text);
				assert_null(ss_attribute_get(set_of(at), SS_ATTR_ORIGIN).text);
				assert_int_equal(set_of(at)->flags, 0);
			}
		}
		ss_test_host_clear(&h);
	}
	for (int i = 0; i < SENDERS; i++)
		close(fds[i]);
}

/* Those that go on sending share one set, and a batch has it once. */
static void test_a_sender_has_one_set(void **state)
{
	(void)state;
	h.attributes_wanted = true;
	start();
	int a = sender("127.0.0.1"), b = sender("127.0.0.1");

	for (int i = 0; i < 200; i++)
		send_text(i % 2 ? a : b, "x");
	run_until(200);
	for (uint64_t i = 2; i < 200; i++)
		assert_ptr_equal(set_of(i), set_of(i - 2));
	assert_ptr_not_equal(set_of(0), set_of(1));
	for (uint32_t i = 0; i < h.n_emitted; i++)
		assert_in_range(h.emitted[i].batch->n_attributes, 1, 2);
	close(a);
	close(b);
}

static void test_addresses_of_both_families(void **state)
{
	(void)state;
	char want[64];

	conf.bind = "::";
	h.attributes_wanted = true;
	start();
	int v4 = sender("127.0.0.1"), v6 = sender("::1");
	send_text(v4, "four");
	run_until(1);
	send_text(v6, "six");
	run_until(2);
	snprintf(want, sizeof want, "127.0.0.1:%u", port_of(v4));
	expect(set_of(0), SS_ATTR_ADDRESS, want);
	snprintf(want, sizeof want, "[::1]:%u", port_of(v6));
	expect(set_of(1), SS_ATTR_ADDRESS, want);
	close(v4);
	close(v6);
}

static void test_nothing_is_attached_that_nobody_wants(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");

	send_text(fd, "x");
	run_until(1);
	assert_int_equal(event(0)->attributes, 0);
	assert_int_equal(h.emitted[0].batch->n_attributes, 0);
	/* until somebody does */
	h.attributes_wanted = true;
	send_text(fd, "y");
	run_until(2);
	expect(set_of(1), SS_ATTR_INPUT, "test");
	assert_int_equal(event(0)->attributes, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_each_event_has_its_sender),
		TEST(test_a_sender_has_one_set),
		TEST(test_addresses_of_both_families),
		TEST(test_nothing_is_attached_that_nobody_wants),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
