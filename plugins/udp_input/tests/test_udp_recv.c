/* SPDX-License-Identifier: MIT */
/* test_udp_recv - what arrives becomes events, whatever its length, and what does not is counted. */
#include "helper_udp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* ---- what arrives ---- */

static void test_datagrams(void **state)
{
	(void)state;
	start();
	assert_true(h.metrics[UDP_METRIC_LOCAL_PORT] > 0);
	assert_non_null(strstr(h.log, "INFO UDP input listening address=127.0.0.1 port="));
	int fd = sender("127.0.0.1");
	struct timespec before;
	clock_gettime(CLOCK_REALTIME, &before);
	send_text(fd, "{\"a\":1}");
	send_text(fd, "two\n");
	run_until(2);
	expect_text("{\"a\":1}\ntwo\n\n");
	uint64_t sent_ns = (uint64_t)before.tv_sec * SECOND + (uint64_t)before.tv_nsec;
	assert_in_range(event(0)->time_ns, sent_ns, sent_ns + 60 * SECOND);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 2);
	assert_int_equal(h.metrics[UDP_METRIC_BYTES], 11);
	assert_int_equal(h.emitted[0].batch->count, 2);
	assert_in_range(h.emitted[0].batch->footprint, 11, 4096);
	close(fd);
}

static void test_ipv6_and_ipv4_on_one_socket(void **state)
{
	(void)state;
	conf.bind = "::";
	start();
	int four = sender("127.0.0.1");
	send_text(four, "v4");
	if (strstr(h.log, "address=::")) {
		int six = sender("::1");
		send_text(six, "v6");
		run_until(2);
		expect_text("v4\nv6\n");
		close(six);
	} else {
		print_message("no IPv6 here\n");
		run_until(1);
	}
	close(four);
}

static void test_many_at_once_make_few_batches(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	char text[32];
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof text, "event %d", i);
		send_text(fd, text);
	}
	run_until(1000);
	assert_in_range(h.n_emitted, 1, 20);
	for (int i = 0; i < 1000; i++) {
		int n = snprintf(text, sizeof text, "event %d", i);
		assert_int_equal(event((uint64_t)i)->len, n);
		assert_memory_equal(event((uint64_t)i)->data, text, n);
	}
	close(fd);
}

/* Bytes that depend on the number of the datagram and the place. */
static void pattern(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((seed * 31 + i * 7 + (i >> 8)) & 0xff);
}

static void expect_pattern(const struct ss_event *e, size_t len, uint32_t seed)
{
	uint8_t want[65536];
	assert_int_equal(e->len, len);
	pattern(want, len, seed);
	assert_memory_equal(e->data, want, len);
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Phases of small, large and mixed lengths, so that slots grow and shrink and long ones spill. */
static void test_any_length_arrives_whole(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	uint8_t buf[65536];
	uint32_t x = 2463534242, seed = 0;
	for (int group = 0; group < 600; group++) {
		size_t len[12];
		uint32_t first = seed;
		uint32_t n = 1 + next_random(&x) % 12;
		for (uint32_t i = 0; i < n; i++, seed++) {
			uint32_t dice = next_random(&x) % 100;
			int phase = group / 100 % 3;
			len[i] = phase == 0   ? 1 + next_random(&x) % 200
				 : phase == 1 ? 1 + next_random(&x) % (dice < 20 ? 65507 : 1400)
					      : 1000 + next_random(&x) % (dice < 2 ? 64000 : 400);
			pattern(buf, len[i], seed);
			send_n(fd, buf, len[i]);
		}
		run_until(n);
		for (uint32_t i = 0; i < n; i++)
			expect_pattern(event(i), len[i], first + i);
		ss_test_host_clear(&h);
		if (group % 50 == 0)
			ss_test_host_advance(&h, SECOND);
	}
	close(fd);
}

static uint64_t footprint(void)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < h.n_emitted; i++)
		sum += h.emitted[i].batch->footprint;
	return sum;
}

/* A batch must not account for much more than it shows: a queue's byte limit would be eaten up. */
static void test_memory_follows_the_length(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	static const size_t lengths[] = {100, 6000, 300, 1000, 100};
	static uint8_t data[6000];
	for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
		for (int round = 0; round < 20; round++) {
			ss_test_host_clear(&h);
			for (int i = 0; i < 20; i++)
				send_n(fd, data, lengths[k]);
			run_until(20);
		}
		assert_in_range(footprint(), 20 * lengths[k], 20 * (2 * lengths[k] + 256));
		assert_in_range(h.n_emitted, 1, 4); /* a batch each if they did not fit into their slots */
	}
	close(fd);
}

static struct ss_batch *(*real_batch_new)(const struct ss_host *, struct ss_batch *, uint32_t, size_t);
static size_t allocated;

static struct ss_batch *count_batch_new(const struct ss_host *host, struct ss_batch *parent, uint32_t rows,
					size_t bytes)
{
	allocated += bytes;
	return real_batch_new(host, parent, rows, bytes);
}

/* Datagrams that come one at a time take up what they are long, not a slot each. */
static void test_a_trickle_is_packed(void **state)
{
	(void)state;
	real_batch_new = h.host.batch_new;
	h.host.batch_new = count_batch_new;
	allocated = 0;
	start();
	int fd = sender("127.0.0.1");
	for (int i = 0; i < 2000; i++) {
		send_text(fd, "x");
		run_until(1);
		ss_test_host_clear(&h);
	}
	assert_in_range(allocated, 1, 300 << 10);
	close(fd);
}

static void test_empty_datagrams(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	send_n(fd, "", 0);
	send_text(fd, "x");
	run_until(1);
	expect_text("x\n");
	assert_int_equal(h.dropped[UDP_REASON_EMPTY], 1);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 2);
	close(fd);
}

static void send_for_truncation(void)
{
	conf.max_datagram = 10;
	start();
	int fd = sender("127.0.0.1");
	send_text(fd, "0123456789");
	send_text(fd, "0123456789a");
	send_text(fd, "end");
	close(fd);
}

static void test_truncated_are_dropped(void **state)
{
	(void)state;
	send_for_truncation();
	run_until(2);
	expect_text("0123456789\nend\n");
	assert_int_equal(h.metrics[UDP_METRIC_TRUNCATED], 1);
	assert_int_equal(h.dropped[UDP_REASON_TRUNCATED], 1);
}

static void test_truncated_are_kept(void **state)
{
	(void)state;
	conf.truncated = UDP_TRUNCATED_KEEP;
	send_for_truncation();
	run_until(3);
	expect_text("0123456789\n0123456789\nend\n");
	assert_int_equal(h.metrics[UDP_METRIC_TRUNCATED], 1);
	assert_int_equal(h.dropped[UDP_REASON_TRUNCATED], 0);
}

static void test_lines(void **state)
{
	(void)state;
	conf.split = UDP_SPLIT_LINES;
	start();
	int fd = sender("127.0.0.1");
	send_text(fd, "one\r\ntwo\n\n\r\nthree");
	send_text(fd, "four\n");
	send_text(fd, "\r\n\n");
	send_text(fd, "a\rb\n\r");
	run_until(5);
	expect_text("one\ntwo\nthree\nfour\na\rb\n");
	assert_int_equal(h.dropped[UDP_REASON_EMPTY], 1);
	ss_test_host_clear(&h);

	/* more lines than the rows of a batch, and longer than a slot */
	char many[60000];
	for (size_t i = 0; i < sizeof many; i += 2) {
		many[i] = (char)('a' + i / 2 % 26);
		many[i + 1] = '\n';
	}
	send_n(fd, many, sizeof many);
	run_until(sizeof many / 2);
	char *text = ss_test_host_text(&h, 0);
	assert_memory_equal(text, many, sizeof many);
	free(text);
	close(fd);
}

/* ---- several datagrams in one message ---- */

/* Send len bytes as datagrams of size bytes with one call; false: this kernel cannot. */
static bool send_segmented(int fd, const void *data, size_t len, int size)
{
	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size) != 0)
		return false;
	send_n(fd, data, len);
	size = 0;
	assert_int_equal(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size), 0);
	return true;
}

static void check_segments(size_t total, int size, int times)
{
	int fd = sender("127.0.0.1");
	uint8_t buf[65536];
	pattern(buf, total, 1);
	for (int t = 0; t < times; t++) {
		if (!send_segmented(fd, buf, total, size)) {
			print_message("no UDP_SEGMENT here\n");
			close(fd);
			skip();
		}
	}
	uint64_t n = (total + (size_t)size - 1) / (size_t)size;
	run_until(n * (uint64_t)times);
	for (uint64_t i = 0; i < n * (uint64_t)times; i++) {
		size_t at = i % n * (size_t)size;
		size_t want = total - at < (size_t)size ? total - at : (size_t)size;
		assert_int_equal(event(i)->len, want);
		assert_memory_equal(event(i)->data, buf + at, want);
	}
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], n * (uint64_t)times);
	assert_int_equal(h.metrics[UDP_METRIC_BYTES], total * (size_t)times);
	ss_test_host_clear(&h);
	h.metrics[UDP_METRIC_LOCAL_PORT] = 0;
	close(fd);
}

static void test_segments_with_gro(void **state)
{
	(void)state;
	start();
	int64_t port = h.metrics[UDP_METRIC_LOCAL_PORT];
	static const struct {
		size_t total;
		int size;
	} cases[] = {{6000, 100}, {6050, 100}, {62000, 1000}, {65000, 1100}, {100, 99}, {3200, 50}, {64, 1}};
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
			h.metrics[UDP_METRIC_LOCAL_PORT] = port;
			check_segments(cases[i].total, cases[i].size, 1 + 8 * round);
		}
	}
}

static void test_segments_without_gro(void **state)
{
	(void)state;
	conf.gro = 0;
	start();
	assert_non_null(strstr(h.log, "gro=false"));
	check_segments(6050, 100, 3);
}

static void test_truncation_within_segments(void **state)
{
	(void)state;
	conf.max_datagram = 60;
	start();
	int fd = sender("127.0.0.1");
	uint8_t buf[250];
	memset(buf, 'x', sizeof buf);
	if (!send_segmented(fd, buf, sizeof buf, 100))
		skip();
	run_until(1);
	assert_int_equal(event(0)->len, 50);
	assert_int_equal(h.dropped[UDP_REASON_TRUNCATED], 2);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 3);
	close(fd);
}

/* Single datagrams among coalesced ones must not pin 64 KiB each. */
static void test_short_ones_are_moved_together(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	static uint8_t buf[60000];
	memset(buf, 'y', sizeof buf);
	for (int i = 0; i < 5; i++) {
		if (!send_segmented(fd, buf, sizeof buf, 1000))
			skip();
		run_until(60);
		ss_test_host_clear(&h);
	}
	for (int i = 0; i < 40; i++) {
		char text[16];
		snprintf(text, sizeof text, "%d", i);
		send_text(fd, text);
	}
	run_until(40);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(strtol((char[3]){(char)event(i)->data[0],
						  event(i)->len > 1 ? (char)event(i)->data[1] : 0},
					NULL, 10),
				 i);
	assert_in_range(footprint(), 40, 40 * 1024);
	close(fd);
}

/* ---- loss in the kernel ---- */

static void test_kernel_drops_are_counted_exactly(void **state)
{
	(void)state;
	conf.receive_buffer = 32768;
	start();
	int fd = sender("127.0.0.1");
	char text[500] = {0};
	uint64_t sent = 0;
	for (int burst = 0; burst < 5; burst++) {
		for (int i = 0; i < 1000; i++, sent++)
			send_n(fd, text, sizeof text);
		run_dry();
		ss_test_host_advance(&h, SECOND);
	}
	uint64_t lost = (uint64_t)h.metrics[UDP_METRIC_KERNEL_DROPPED];
	assert_true(lost > 0 && events() > 0);
	assert_int_equal(events() + lost, sent);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], events());
	char *warning = strstr(h.log, "WARN Kernel dropped UDP datagrams");
	assert_non_null(warning);
	assert_null(strstr(warning + 1, "WARN UDP datagrams lost"));
	close(fd);
}

static void test_small_buffer_is_reported(void **state)
{
	(void)state;
	conf.receive_buffer = 1 << 30;
	start();
	if (h.metrics[UDP_METRIC_RECEIVE_BUFFER] < conf.receive_buffer)
		assert_non_null(strstr(h.log, "net.core.rmem_max"));
	else
		assert_null(strstr(h.log, "WARN"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_datagrams),
		TEST(test_ipv6_and_ipv4_on_one_socket),
		TEST(test_many_at_once_make_few_batches),
		TEST(test_any_length_arrives_whole),
		TEST(test_memory_follows_the_length),
		TEST(test_a_trickle_is_packed),
		TEST(test_empty_datagrams),
		TEST(test_truncated_are_dropped),
		TEST(test_truncated_are_kept),
		TEST(test_lines),
		TEST(test_segments_with_gro),
		TEST(test_segments_without_gro),
		TEST(test_truncation_within_segments),
		TEST(test_short_ones_are_moved_together),
		TEST(test_kernel_drops_are_counted_exactly),
		TEST(test_small_buffer_is_reported),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
