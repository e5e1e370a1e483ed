/* SPDX-License-Identifier: MIT */
/* test_udp_input - the plugin against real sockets on the loopback interface. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/lib/fakehost.h"
#include "plugins/udp_input/udp_input.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define SECOND UINT64_C(1000000000)

static struct fakehost h;
static struct udp_conf conf;

static const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

static int setup(void **state)
{
	(void)state;
	conf = (struct udp_conf){
		.bind = "127.0.0.1",
		.sockets = 1,
		.receive_buffer = 8 << 20,
		.max_datagram = UDP_MAX_DATAGRAM,
		.batch = 128,
		.gro = 1,
	};
	fakehost_init(&h, desc());
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fakehost_done(&h);
	return 0;
}

static void start(void)
{
	assert_int_equal(fakehost_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), 0);
}

/* A socket connected to the instance. */
static int sender(const char *to)
{
	union udp_addr addr;
	assert_int_equal(udp_addr_parse(to, (uint16_t)h.metrics[UDP_METRIC_LOCAL_PORT], &addr), 0);
	int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &addr.sa, udp_addr_len(&addr)), 0);
	return fd;
}

static void send_n(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, 0), len);
}

static void send_text(int fd, const char *text)
{
	send_n(fd, text, strlen(text));
}

static uint64_t events(void)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < h.n_emitted; i++)
		n += h.emitted[i].batch->count;
	return n;
}

/* Event number i of all. */
static const struct ss_event *event(uint64_t i)
{
	for (uint32_t b = 0; b < h.n_emitted; b++) {
		if (i < h.emitted[b].batch->count)
			return &h.emitted[b].batch->events[i];
		i -= h.emitted[b].batch->count;
	}
	fail_msg("no such event");
	return NULL;
}

static void run_until(uint64_t n)
{
	for (int tries = 0; events() < n && tries < 100; tries++)
		fakehost_run(&h, 100);
	assert_int_equal(events(), n);
}

/* Nothing more is to be read. */
static void run_dry(void)
{
	while (fakehost_run(&h, 0) > 0)
		;
}

static void expect_text(const char *want)
{
	char *text = fakehost_text(&h, 0);
	assert_string_equal(text, want);
	free(text);
}

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
		fakehost_clear(&h);
		if (group % 50 == 0)
			fakehost_advance(&h, SECOND);
	}
	close(fd);
}

/* A batch must not account for much more than it shows: a queue's byte limit would be eaten up. */
static void test_memory_follows_the_length(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	char text[100];
	memset(text, 'x', sizeof text);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 100; i++)
			send_n(fd, text, sizeof text);
		run_until(100);
		if (round < 99)
			fakehost_clear(&h);
	}
	uint64_t footprint = 0;
	for (uint32_t i = 0; i < h.n_emitted; i++)
		footprint += h.emitted[i].batch->footprint;
	assert_in_range(footprint, 100 * 100, 100 * (256 + 64));
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
	fakehost_clear(&h);

	/* more lines than the rows of a batch, and longer than a slot */
	char many[60000];
	for (size_t i = 0; i < sizeof many; i += 2) {
		many[i] = (char)('a' + i / 2 % 26);
		many[i + 1] = '\n';
	}
	send_n(fd, many, sizeof many);
	run_until(sizeof many / 2);
	char *text = fakehost_text(&h, 0);
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
	fakehost_clear(&h);
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
	for (int i = 0; i < 8; i++) {
		if (!send_segmented(fd, buf, sizeof buf, 1000))
			skip();
		run_until(60);
		fakehost_clear(&h);
	}
	for (int i = 0; i < 40; i++) {
		char text[16];
		snprintf(text, sizeof text, "%d", i);
		send_text(fd, text);
	}
	run_until(40);
	uint64_t footprint = 0;
	for (uint32_t i = 0; i < h.n_emitted; i++)
		footprint += h.emitted[i].batch->footprint;
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(strtol((char[3]){(char)event(i)->data[0],
						  event(i)->len > 1 ? (char)event(i)->data[1] : 0},
					NULL, 10),
				 i);
	assert_in_range(footprint, 40, 40 * 1024);
	close(fd);
}

/* ---- who may send ---- */

static int sender_from(const char *from)
{
	int fd = sender("127.0.0.1");
	union udp_addr addr;
	assert_int_equal(udp_addr_parse(from, 0, &addr), 0);
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, &addr.sa, udp_addr_len(&addr)), 0);
	assert_int_equal(udp_addr_parse("127.0.0.1", (uint16_t)h.metrics[UDP_METRIC_LOCAL_PORT], &addr), 0);
	assert_int_equal(connect(fd, &addr.sa, udp_addr_len(&addr)), 0);
	return fd;
}

static void check_allow(const char *bind_to)
{
	conf.bind = bind_to;
	conf.allow = "[\"127.0.0.2\",\"127.1.0.0/16\",\"2001:db8::/32\"]";
	start();
	int two = sender_from("127.0.0.2"), three = sender_from("127.0.0.3"), net = sender_from("127.1.2.3");
	send_text(two, "a");
	send_text(three, "b");
	send_text(three, "c");
	send_text(net, "d");
	send_text(two, "e");
	run_until(3);
	expect_text("a\nd\ne\n");
	assert_int_equal(h.dropped[UDP_REASON_NOT_ALLOWED], 2);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 5);
	close(two);
	close(three);
	close(net);
}

static void test_allow(void **state)
{
	(void)state;
	check_allow("127.0.0.1");
}

static void test_allow_on_a_socket_of_both_kinds(void **state)
{
	(void)state;
	check_allow("::");
}

static bool allowed(const char *list, const char *from)
{
	struct udp_allow allow = {0};
	union udp_addr addr;
	assert_int_equal(udp_allow_parse(&h.host, list, &allow), 0);
	assert_int_equal(udp_addr_parse(from, 1, &addr), 0);
	bool ok = udp_allow_ok(&allow, &addr);
	assert_int_equal(udp_allow_ok(&allow, &addr), ok);
	udp_allow_done(&allow);
	return ok;
}

static void test_networks(void **state)
{
	(void)state;
	assert_true(allowed("\"10.0.0.0/8\"", "10.255.0.1"));
	assert_false(allowed("\"10.0.0.0/8\"", "11.0.0.0"));
	assert_true(allowed("\"10.0.0.0/8\"", "::ffff:10.1.1.1"));
	assert_true(allowed("\"192.0.2.128/25\"", "192.0.2.200"));
	assert_false(allowed("\"192.0.2.128/25\"", "192.0.2.100"));
	assert_true(allowed("\"0.0.0.0/0\"", "203.0.113.9"));
	assert_false(allowed("\"0.0.0.0/0\"", "2001:db8::1"));
	assert_true(allowed("\"::/0\"", "2001:db8::1"));
	assert_false(allowed("\"::/0\"", "203.0.113.9"));
	assert_true(allowed("\"2001:db8:8000::/33\"", "2001:db8:ffff::1"));
	assert_false(allowed("\"2001:db8:8000::/33\"", "2001:db8:7fff::1"));
	assert_false(allowed("[]", "127.0.0.1"));
	assert_true(allowed("[\"::1\"]", "::1"));
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
		fakehost_advance(&h, SECOND);
	}
	uint64_t lost = (uint64_t)h.metrics[UDP_METRIC_KERNEL_DROPPED];
	assert_true(lost > 0 && events() > 0);
	assert_int_equal(events() + lost, sent);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], events());
	char *warning = strstr(h.log, "WARN UDP datagrams lost in the kernel");
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

/* ---- life cycle ---- */

static void test_pause_and_resume(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	desc()->pause(h.self);
	send_text(fd, "kept in the kernel");
	assert_int_equal(fakehost_run(&h, 50), 0);
	assert_int_equal(events(), 0);
	desc()->resume(h.self);
	run_until(1);
	close(fd);
}

static void (*real_emit)(const struct ss_host *, uint32_t, struct ss_batch *);

static void emit_and_pause(const struct ss_host *host, uint32_t port, struct ss_batch *batch)
{
	real_emit(host, port, batch);
	desc()->pause(h.self);
}

static void pause_at_emit(void)
{
	real_emit = h.host.emit;
	h.host.emit = emit_and_pause;
}

/* The host may pause while the source emits: no further read then. */
static void test_pause_within_emit(void **state)
{
	(void)state;
	conf.batch = 16;
	start();
	pause_at_emit();
	int fd = sender("127.0.0.1");
	for (int i = 0; i < 100; i++)
		send_text(fd, "x");
	run_dry();
	assert_int_equal(events(), 16);
	desc()->resume(h.self);
	run_dry();
	assert_int_equal(events(), 32);
	close(fd);
}

static void test_drain(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	for (int i = 0; i < 3000; i++)
		send_text(fd, "before");
	assert_int_equal(desc()->drain(h.self), 0);
	assert_int_equal(events(), 3000);
	send_text(fd, "too late");
	assert_int_equal(fakehost_run(&h, 0), 0);
	fakehost_advance(&h, SECOND);
	assert_int_equal(events(), 3000);
	assert_int_equal(h.metrics[UDP_METRIC_KERNEL_DROPPED], 1);
	close(fd);
}

static void test_drain_waits_for_room(void **state)
{
	(void)state;
	conf.batch = 16;
	conf.sockets = 2;
	start();
	pause_at_emit();
	int fd = sender("127.0.0.1");
	for (int i = 0; i < 50; i++)
		send_text(fd, "x");
	int rounds = 0;
	assert_int_equal(desc()->drain(h.self), SS_BUSY);
	for (; h.n_drained == 0 && rounds < 10; rounds++)
		desc()->resume(h.self);
	assert_int_equal(h.n_drained, 1);
	assert_int_equal(events(), 50);
	assert_in_range(rounds, 3, 5);
	desc()->resume(h.self);
	assert_int_equal(h.n_drained, 1);
	close(fd);
}

static atomic_bool flooding;

static void *flood(void *arg)
{
	int fd = *(int *)arg;
	uint64_t sent = 0;
	char text[200] = {0};
	while (atomic_load(&flooding))
		sent += send(fd, text, sizeof text, 0) == sizeof text;
	return (void *)(uintptr_t)sent;
}

static void test_drain_ends_under_flood_and_loses_nothing_silently(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	pthread_t thread;
	atomic_store(&flooding, true);
	assert_int_equal(pthread_create(&thread, NULL, flood, &fd), 0);
	while (events() < 1000)
		fakehost_run(&h, 100);
	assert_int_equal(desc()->drain(h.self), 0);
	atomic_store(&flooding, false);
	void *sent;
	pthread_join(thread, &sent);
	fakehost_advance(&h, SECOND);
	assert_int_equal(events() + (uint64_t)h.metrics[UDP_METRIC_KERNEL_DROPPED], (uintptr_t)sent);
	close(fd);
}

static void test_several_sockets(void **state)
{
	(void)state;
	conf.sockets = 4;
	start();
	assert_non_null(strstr(h.log, "sockets=4"));
	for (int i = 0; i < 64; i++) {
		int fd = sender("127.0.0.1");
		send_text(fd, "x");
		close(fd);
	}
	run_until(64);
}

static void test_busy_port(void **state)
{
	(void)state;
	start();
	static struct fakehost second;
	struct udp_conf other = conf;
	char want[128];
	other.port = h.metrics[UDP_METRIC_LOCAL_PORT];
	snprintf(want, sizeof want,
		 "ERROR UDP input: cannot listen on port %d of bind \"127.0.0.1\": Address already",
		 (int)other.port);
	fakehost_init(&second, desc());
	assert_int_equal(fakehost_create(&second, &other), 0);
	assert_int_equal(desc()->start(second.self), -EADDRINUSE);
	assert_non_null(strstr(second.log, want));
	fakehost_done(&second);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	h.fail_batch_new = 0;
	send_text(fd, "one");
	fakehost_run(&h, 1000);
	assert_string_equal(h.unready, "cannot receive: Cannot allocate memory");
	assert_int_equal(fakehost_run(&h, 0), 0); /* does not spin */
	fakehost_advance(&h, SECOND);
	assert_string_not_equal(h.unready, "");
	h.fail_batch_new = UINT32_MAX;
	fakehost_advance(&h, SECOND);
	assert_string_equal(h.unready, "");
	run_until(1);

	/* an arena, but no rows */
	h.fail_batch_new = 0;
	send_text(fd, "two");
	while (!h.dropped[UDP_REASON_NO_MEMORY] && fakehost_run(&h, 1000) > 0)
		;
	assert_int_equal(h.dropped[UDP_REASON_NO_MEMORY], 1);
	h.fail_batch_new = UINT32_MAX;
	send_text(fd, "three");
	run_until(2);
	expect_text("one\nthree\n");
	close(fd);
}

/* ---- multicast ---- */

static bool send_group(const char *group, const char *interface)
{
	int index = (int)if_nametoindex(interface);
	struct ip_mreqn via = {.imr_ifindex = index};
	union udp_addr addr;
	assert_int_equal(udp_addr_parse(group, (uint16_t)h.metrics[UDP_METRIC_LOCAL_PORT], &addr), 0);
	bool four = addr.sa.sa_family == AF_INET;
	int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = four ? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof via)
		      : setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index);
	bool ok = rc == 0 && sendto(fd, group, strlen(group), 0, &addr.sa, udp_addr_len(&addr)) > 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static void check_multicast(const char *bind_to, const char *group, const char *other, const char *interface)
{
	char json[128], want[128];
	snprintf(json, sizeof json, "[\"%s\"]", group);
	snprintf(want, sizeof want, "%s\n", group);
	conf.bind = bind_to;
	conf.multicast = json;
	conf.interface = interface;
	start();
	if (!send_group(other, interface) || !send_group(group, interface)) {
		print_message("cannot send to %s on %s\n", group, interface);
		skip();
	}
	run_until(1);
	run_dry();
	expect_text(want);
}

static void test_multicast_ipv4(void **state)
{
	(void)state;
	check_multicast("0.0.0.0", "239.1.2.3", "239.1.2.4", "lo");
}

static void test_multicast_ipv4_on_a_socket_of_both_kinds(void **state)
{
	(void)state;
	check_multicast("::", "239.1.2.3", "239.1.2.4", "lo");
}

/* Groups of scope 1 never leave the machine, but the loopback interface seldom has a route for them. */
static void test_multicast_ipv6(void **state)
{
	(void)state;
	char local[64] = "", line[256];
	FILE *f = fopen("/proc/net/if_inet6", "re");
	while (f && fgets(line, sizeof line, f)) {
		char name[32];
		if (sscanf(line, "fe80%*s %*s %*s %*s %*s %31s", name) == 1)
			snprintf(local, sizeof local, "%s", name);
	}
	if (f)
		fclose(f);
	if (!*local) {
		print_message("no interface with IPv6 here\n");
		skip();
	}
	check_multicast("::", "ff01::1234", "ff01::1235", local);
}

static void test_join_failure(void **state)
{
	(void)state;
	conf.multicast = "\"239.1.2.3\"";
	conf.interface = "nosuch0";
	assert_int_equal(fakehost_create(&h, &conf), 0);
	assert_true(desc()->start(h.self) < 0);
	assert_non_null(strstr(h.log, "ERROR UDP input: interface \"nosuch0\": No such device"));
}

/* ---- configuration ---- */

static void test_config_errors(void **state)
{
	(void)state;
	static const struct {
		struct udp_conf conf;
		const char *want;
	} cases[] = {
		{{.bind = "localhost"}, "/bind: \"localhost\" is not a numeric"},
		{{.bind = ""}, "/bind: "},
		{{.bind = "10.1"}, "/bind: "},
		{{.bind = "fe80::1%nosuch0"}, "/bind: "},
		{{.allow = "5"}, "/allow: expected an address or an array"},
		{{.allow = "[\"10.0.0.1\",7]"}, "/allow/1: expected a string"},
		{{.allow = "[\"::1\",\"10.0.0.0/33\"]"}, "/allow/1: \"10.0.0.0/33\" is neither"},
		{{.allow = "\"10.0.0.1/8\""}, "/allow: \"10.0.0.1/8\" has bits set behind its prefix"},
		{{.allow = "\"10.0.0.0/\""}, "/allow: "},
		{{.allow = "\"10.0.0.0/-1\""}, "/allow: "},
		{{.allow = "\"10.0.0.0/8x\""}, "/allow: "},
		{{.allow = "\"/8\""}, "/allow: "},
		{{.allow = "\"1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111\""}, "/allow: "},
		{{.multicast = "[\"10.0.0.1\"]"}, "/multicast/0: \"10.0.0.1\" is not a multicast address"},
		{{.multicast = "\"ff02::1\"", .bind = "127.0.0.1"}, "/multicast: an IPv6 group"},
		{{.multicast = "\"239.0.0.1\"", .sockets = 2}, "/sockets: must be 1 with multicast"},
		{{.multicast = "{}"}, "/multicast: expected an address"},
		{{.interface = "lo"}, "/interface: has a meaning only"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		conf = cases[i].conf;
		conf.bind = conf.bind ? conf.bind : "::";
		assert_int_equal(fakehost_create(&h, &conf), -EINVAL);
		if (!strstr(h.errors, cases[i].want))
			fail_msg("case %zu: no \"%s\" in \"%s\"", i, cases[i].want, h.errors);
		fakehost_clear(&h);
	}
	conf = (struct udp_conf){.bind = "x", .allow = "[1,\"y\"]", .multicast = "3"};
	assert_int_equal(fakehost_create(&h, &conf), -EINVAL);
	int lines = 0;
	for (const char *p = h.errors; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_datagrams),
		TEST(test_ipv6_and_ipv4_on_one_socket),
		TEST(test_many_at_once_make_few_batches),
		TEST(test_any_length_arrives_whole),
		TEST(test_memory_follows_the_length),
		TEST(test_empty_datagrams),
		TEST(test_truncated_are_dropped),
		TEST(test_truncated_are_kept),
		TEST(test_lines),
		TEST(test_segments_with_gro),
		TEST(test_segments_without_gro),
		TEST(test_truncation_within_segments),
		TEST(test_short_ones_are_moved_together),
		TEST(test_allow),
		TEST(test_allow_on_a_socket_of_both_kinds),
		TEST(test_networks),
		TEST(test_kernel_drops_are_counted_exactly),
		TEST(test_small_buffer_is_reported),
		TEST(test_pause_and_resume),
		TEST(test_pause_within_emit),
		TEST(test_drain),
		TEST(test_drain_waits_for_room),
		TEST(test_drain_ends_under_flood_and_loses_nothing_silently),
		TEST(test_several_sockets),
		TEST(test_busy_port),
		TEST(test_out_of_memory),
		TEST(test_multicast_ipv4),
		TEST(test_multicast_ipv4_on_a_socket_of_both_kinds),
		TEST(test_multicast_ipv6),
		TEST(test_join_failure),
		TEST(test_config_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
