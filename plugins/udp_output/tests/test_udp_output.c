/* SPDX-License-Identifier: MIT */
/* test_udp_output - datagrams on real sockets, and what the kernel may say instead of sending them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <semstreams/test-host.h>
#include "plugins/udp_output/udp_output.h"

#define SECOND UINT64_C(1000000000)
#define MS     UINT64_C(1000000)

static struct ss_test_host h;
static struct udp_conf conf;

/* ---- a kernel that says no: the program's own functions come before those of the C library ---- */

static int send_error, send_errors; /* which, and to how many calls */
static int connect_error;

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	if (send_errors) {
		send_errors--;
		errno = send_error;
		return -1;
	}
	return (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
}

int connect(int fd, const struct sockaddr *to, socklen_t len)
{
	if (connect_error) {
		errno = connect_error;
		return -1;
	}
	return (int)syscall(SYS_connect, fd, to, len);
}

static void refuse_sending(int error, int calls)
{
	send_error = error;
	send_errors = calls;
}

/* ---- the instance, and a receiver ---- */

static const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

/* A socket on an address, and its port, which is below those that the kernel gives to others, so that it is
 * still free when the test wants it again. */
static int receiver(const char *address, uint16_t *port)
{
	struct sockaddr_in self = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = -1;

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, address, &self.sin_addr), 1);
	for (uint32_t tries = 0; rc != 0 && tries < 1000; tries++) {
		const uint16_t any = (uint16_t)(10000 + ((uint32_t)getpid() * 7919 + tries * 104729) % 20000);
		self.sin_port = htons(*port ? *port : any);
		rc = bind(fd, (struct sockaddr *)&self, sizeof self);
	}
	assert_int_equal(rc, 0);
	*port = ntohs(self.sin_port);
	return fd;
}

static int setup(void **state)
{
	uint16_t port = 0;
	int fd = receiver("127.0.0.1", &port);

	conf = (struct udp_conf){
		.address = "127.0.0.1",
		.port = port,
		.loopback = 1,
		.send_buffer = 1 << 20,
		.max_datagram = UDP_MAX_PAYLOAD,
		.batch = 128,
	};
	*state = (void *)(intptr_t)fd;
	refuse_sending(0, 0);
	connect_error = 0;
	ss_test_host_init(&h, desc());
	return 0;
}

static int teardown(void **state)
{
	ss_test_host_done(&h);
	close((int)(intptr_t)*state);
	return 0;
}

static void start(void)
{
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), 0);
}

static struct ss_batch *offer(const char *const *texts, uint32_t n, int32_t result)
{
	struct ss_batch *batch = ss_test_host_batch(&h, texts, n);

	assert_int_equal(ss_test_host_process(&h, 0, batch), result);
	return batch;
}

static void expect_finished(const struct ss_batch *batch, int32_t status)
{
	assert_true(h.n_finished > 0);
	assert_ptr_equal(h.finished[h.n_finished - 1].batch, batch);
	assert_int_equal(h.finished[h.n_finished - 1].status, status);
}

/* One batch that goes out, or is dropped, at once. */
static void deliver(const char *const *texts, uint32_t n, int32_t status)
{
	struct ss_batch *batch = offer(texts, n, SS_KEPT);

	expect_finished(batch, status);
	h.host.batch_unref(batch);
}

static void deliver_one(const char *text)
{
	deliver(&text, 1, SS_DELIVERED);
}

static void expect_datagram(int fd, const void *want, size_t len)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	static char got[UDP_MAX_PAYLOAD + 1];

	assert_int_equal(poll(&ready, 1, 30000), 1);
	assert_int_equal(recv(fd, got, sizeof got, 0), len);
	assert_memory_equal(got, want, len);
}

static void expect_text(int fd, const char *want)
{
	expect_datagram(fd, want, strlen(want));
}

static void expect_nothing(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&ready, 1, 0), 0);
}

static int in(void **state)
{
	return (int)(intptr_t)*state;
}

/* ---- datagrams ---- */

static void test_one_datagram_per_event(void **state)
{
	const char *const texts[] = {"one", "", "{\"three\": 3}\n"};

	start();
	deliver(texts, 3, SS_DELIVERED);
	for (int i = 0; i < 3; i++)
		expect_text(in(state), texts[i]);
	expect_nothing(in(state));
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 3);
	assert_int_equal(h.metrics[UDP_METRIC_BYTES], strlen(texts[0]) + strlen(texts[2]));
}

static void test_any_bytes(void **state)
{
	static const uint8_t bytes[] = {0xfd, 0, 0xff, '\n', 0, 0x80};
	const char *const texts[] = {"123456"};

	start();
	struct ss_batch *batch = ss_test_host_batch(&h, texts, 1);
	memcpy(batch->data, bytes, sizeof bytes);
	assert_int_equal(batch->events[0].data - batch->data, 0);
	assert_int_equal(ss_test_host_process(&h, 0, batch), SS_KEPT);
	h.host.batch_unref(batch);
	expect_datagram(in(state), bytes, sizeof bytes);
}

static void test_more_events_than_one_call_takes(void **state)
{
	char text[100][12];
	const char *texts[100];

	conf.batch = 7;
	start();
	for (int i = 0; i < 100; i++) {
		snprintf(text[i], sizeof text[i], "%d", i);
		texts[i] = text[i];
	}
	deliver(texts, 100, SS_DELIVERED);
	for (int i = 0; i < 100; i++)
		expect_text(in(state), texts[i]);
}

static void test_too_long_is_dropped_and_counted(void **state)
{
	const char *const texts[] = {"12345", "1", "123456", "12345", "1234567"};

	conf.max_datagram = 5;
	start();
	deliver(texts, 5, SS_DROPPED);
	expect_text(in(state), "12345");
	expect_text(in(state), "1");
	expect_text(in(state), "12345");
	expect_nothing(in(state));
	assert_int_equal(h.dropped[UDP_REASON_TOO_LONG], 2);
	refuse_sending(EMSGSIZE, 1);
	deliver(texts, 2, SS_DROPPED);
	expect_text(in(state), "1");
	assert_int_equal(h.dropped[UDP_REASON_TOO_LONG], 3);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 4);
}

/* ---- the kernel has no room ---- */

static void no_room(void **state, int error)
{
	const char *const texts[] = {"a", "b"}, *const next[] = {"c"};

	start();
	refuse_sending(error, 3);
	struct ss_batch *batch = offer(texts, 2, SS_KEPT), *second = offer(next, 1, SS_BUSY);
	assert_int_equal(h.n_finished, 0);
	expect_nothing(in(state));
	ss_test_host_advance(&h, MS);     /* refused again, then after 2 ms */
	ss_test_host_advance(&h, 2 * MS); /* and the third time, then after 4 ms */
	ss_test_host_advance(&h, 3 * MS);
	assert_int_equal(h.n_finished, 0);
	assert_int_equal(h.metrics[UDP_METRIC_WAITS], 3);
	ss_test_host_advance(&h, MS);
	expect_finished(batch, SS_DELIVERED);
	assert_int_equal(h.n_input_ready, 1);
	assert_int_equal(ss_test_host_process(&h, 0, second), SS_KEPT);
	expect_text(in(state), "a");
	expect_text(in(state), "b");
	expect_text(in(state), "c");
	assert_int_equal(h.dropped[UDP_REASON_UNREACHABLE], 0);
	assert_string_equal(h.degraded, "");
	h.host.batch_unref(batch);
	h.host.batch_unref(second);
}

static void test_full_send_buffer(void **state)
{
	no_room(state, EAGAIN);
}

static void test_full_device_queue(void **state)
{
	no_room(state, ENOBUFS);
}

static void test_drain_waits_for_room(void **state)
{
	const char *const texts[] = {"last"};

	start();
	assert_int_equal(desc()->drain(h.self), 0);
	refuse_sending(ENOBUFS, 1);
	struct ss_batch *batch = offer(texts, 1, SS_KEPT);
	assert_int_equal(desc()->drain(h.self), SS_BUSY);
	assert_int_equal(h.n_drained, 0);
	ss_test_host_advance(&h, MS);
	assert_int_equal(h.n_drained, 1);
	expect_text(in(state), "last");
	h.host.batch_unref(batch);
}

static void test_stop_while_waiting(void **state)
{
	const char *const texts[] = {"never"};

	start();
	refuse_sending(EAGAIN, 1000);
	struct ss_batch *batch = offer(texts, 1, SS_KEPT);
	desc()->stop(h.self);
	expect_finished(batch, SS_FAILED);
	refuse_sending(0, 0);
	ss_test_host_advance(&h, SECOND);
	expect_nothing(in(state));
	h.host.batch_unref(batch);
}

/* ---- nobody there ---- */

/* Each refusal is reported by the send after it, which is to go on with the datagram it was asked to send. */
static void test_nobody_listens_and_then_somebody_does(void **state)
{
	uint16_t port = 0;
	int fd = receiver("127.0.0.1", &port);

	(void)state;
	conf.port = port;
	start();
	close(fd);
	for (int i = 0; i < 5; i++)
		deliver_one("lost");
	assert_int_equal(h.metrics[UDP_METRIC_REFUSED], 4);
	assert_non_null(strstr(h.degraded, "nobody listens"));
	fd = receiver("127.0.0.1", &port);
	deliver_one("heard");
	expect_text(fd, "heard");
	assert_int_equal(h.metrics[UDP_METRIC_REFUSED], 5);
	ss_test_host_advance(&h, SECOND);
	assert_string_not_equal(h.degraded, ""); /* in this second there was one */
	ss_test_host_advance(&h, SECOND);
	assert_string_not_equal(h.degraded, ""); /* in this nothing was sent */
	deliver_one("again");
	ss_test_host_advance(&h, SECOND);
	assert_string_equal(h.degraded, "");
	expect_text(fd, "again");
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 7);
	close(fd);
}

static void test_refusals_without_end(void **state)
{
	const char *const texts[] = {"a", "b"};

	start();
	refuse_sending(ECONNREFUSED, 8);
	deliver(texts, 2, SS_DROPPED);
	expect_text(in(state), "b");
	expect_nothing(in(state));
	assert_int_equal(h.dropped[UDP_REASON_UNREACHABLE], 1);
}

static void test_no_route(void **state)
{
	const char *const texts[] = {"a", "b", "c"};

	start();
	refuse_sending(ENETUNREACH, 2);
	deliver(texts, 3, SS_DROPPED);
	expect_text(in(state), "c");
	assert_int_equal(h.dropped[UDP_REASON_UNREACHABLE], 2);
	assert_int_equal(h.metrics[UDP_METRIC_ERRORS], 2);
	assert_non_null(strstr(h.degraded, "Network is unreachable"));
	assert_non_null(strstr(h.log, "cannot send: Network is unreachable"));
}

static void test_no_route_at_start(void **state)
{
	const char *const texts[] = {"early", "too"};

	connect_error = ENETUNREACH;
	start();
	assert_non_null(strstr(h.degraded, "Network is unreachable"));
	deliver(texts, 2, SS_DROPPED);
	assert_int_equal(h.dropped[UDP_REASON_UNREACHABLE], 2);
	ss_test_host_advance(&h, SECOND);
	assert_string_not_equal(h.degraded, "");
	connect_error = 0;
	ss_test_host_advance(&h, SECOND);
	assert_string_equal(h.degraded, "");
	deliver_one("now");
	expect_text(in(state), "now");
}

static void test_broadcast_must_be_allowed(void **state)
{
	(void)state;
	connect_error = EACCES;
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), -EACCES);
	assert_non_null(strstr(h.log, "set broadcast to true"));
}

/* ---- addresses ---- */

static void test_source_address_and_port(void **state)
{
	struct sockaddr_in from;
	socklen_t len = sizeof from;
	uint16_t port = 0;
	char byte;
	int spare = receiver("127.0.0.9", &port);

	close(spare);
	conf.bind = "127.0.0.9";
	conf.bind_port = port;
	start();
	deliver_one("x");
	assert_int_equal(recvfrom(in(state), &byte, 1, 0, (struct sockaddr *)&from, &len), 1);
	assert_int_equal(from.sin_addr.s_addr, inet_addr("127.0.0.9"));
	assert_int_equal(ntohs(from.sin_port), port);
	/* an answer is accepted, and goes nowhere: neither refused nor kept */
	assert_int_equal(sendto(in(state), "y", 1, 0, (struct sockaddr *)&from, len), 1);
	assert_int_equal(sendto(in(state), "y", 1, 0, (struct sockaddr *)&from, len), 1);
	deliver_one("z");
	expect_text(in(state), "z");
}

static void test_group_with_ttl(void **state)
{
	uint16_t port = 0;
	int fd = receiver("0.0.0.0", &port), on = 1, ttl = 0;
	struct ip_mreqn group = {.imr_multiaddr.s_addr = inet_addr("239.255.77.1"), .imr_ifindex = 1};
	char byte, control[CMSG_SPACE(sizeof ttl)];
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on), 0);
	conf.address = "239.255.77.1";
	conf.port = port;
	conf.interface = "lo";
	conf.ttl = 9;
	start();
	deliver_one("g");
	assert_int_equal(poll(&ready, 1, 30000), 1);
	assert_int_equal(recvmsg(fd, &msg, 0), 1);
	memcpy(&ttl, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof ttl);
	assert_int_equal(ttl, 9);
	close(fd);
}

static void expect_error(const char *pointer_and_text)
{
	assert_int_equal(ss_test_host_create(&h, &conf), -EINVAL);
	if (!strstr(h.errors, pointer_and_text))
		fail_msg("wanted '%s' in: %s", pointer_and_text, h.errors);
	ss_test_host_clear(&h);
}

static void test_wrong_addresses(void **state)
{
	(void)state;
	conf.address = "station.example";
	expect_error("/address: \"station.example\"");
	conf.address = "0.0.0.0";
	expect_error("/address: \"0.0.0.0\" means all addresses");
	conf.address = "fe80::1";
	expect_error("/address: \"fe80::1\" needs a zone");
	conf.address = "fe80::1%nosuchif0";
	expect_error("/address: \"fe80::1%nosuchif0\": this machine has no such network interface");
	conf.address = "::1";
	conf.bind = "127.0.0.1";
	expect_error("/bind: \"127.0.0.1\" and address \"::1\" must both be");
	conf.bind = NULL;
	conf.interface = "lo";
	expect_error("/interface: is only used with");
	conf.address = "239.0.0.1";
	conf.interface = "a/b";
	expect_error("/interface: \"a/b\" is not the name");
}

static void test_interface_that_is_not_there(void **state)
{
	(void)state;
	conf.address = "239.0.0.1";
	conf.interface = "nosuchif0";
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), -ENODEV);
	assert_non_null(strstr(h.log, "interface \"nosuchif0\": No such device"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_datagram_per_event),
		TEST(test_any_bytes),
		TEST(test_more_events_than_one_call_takes),
		TEST(test_too_long_is_dropped_and_counted),
		TEST(test_full_send_buffer),
		TEST(test_full_device_queue),
		TEST(test_drain_waits_for_room),
		TEST(test_stop_while_waiting),
		TEST(test_nobody_listens_and_then_somebody_does),
		TEST(test_refusals_without_end),
		TEST(test_no_route),
		TEST(test_no_route_at_start),
		TEST(test_broadcast_must_be_allowed),
		TEST(test_source_address_and_port),
		TEST(test_group_with_ttl),
		TEST(test_wrong_addresses),
		TEST(test_interface_that_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
