/* SPDX-License-Identifier: MIT */
/* test_udp_input - life cycle, configuration, who may send and groups, on real sockets. */
#include "helper_udp.h"

/* ---- life cycle ---- */

static void test_pause_and_resume(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	desc()->pause(h.self);
	send_text(fd, "kept in the kernel");
	assert_int_equal(ss_test_host_run(&h, 50), 0);
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
	assert_int_equal(ss_test_host_run(&h, 0), 0);
	ss_test_host_advance(&h, SECOND);
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

/* Until refused: how many datagrams were accepted. */
static void *flood(void *arg)
{
	int fd = *(int *)arg, on = 1;
	uint64_t sent = 0, refused = 0;
	char text[200] = {0};
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on), 0);
	while (send(fd, text, sizeof text, 0) == sizeof text)
		sent++;
	struct msghdr msg = {0};
	while (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
		refused++;
	return (void *)(uintptr_t)(sent - refused);
}

static void test_drain_ends_under_flood_and_loses_nothing_silently(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, flood, &fd), 0);
	while (events() < 1000)
		ss_test_host_run(&h, 100);
	assert_int_equal(desc()->drain(h.self), 0);
	ss_test_host_advance(&h, SECOND);
	desc()->stop(h.self);
	void *sent;
	pthread_join(thread, &sent);
	assert_int_equal(events() + (uint64_t)h.metrics[UDP_METRIC_KERNEL_DROPPED], (uintptr_t)sent);
	close(fd);
}

static void test_stop_without_drain_counts_what_it_leaves(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	for (int i = 0; i < 30; i++)
		send_text(fd, "x");
	desc()->stop(h.self);
	assert_int_equal(events(), 0);
	assert_int_equal(h.dropped[UDP_REASON_UNREAD], 30);
	assert_int_equal(h.metrics[UDP_METRIC_DATAGRAMS], 30);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	assert_int_equal(send(fd, "x", 1, 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
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
	static struct ss_test_host second;
	struct udp_conf other = conf;
	char want[128];
	other.port = h.metrics[UDP_METRIC_LOCAL_PORT];
	snprintf(want, sizeof want,
		 "ERROR UDP input: cannot listen on port %d of bind \"127.0.0.1\": Address already",
		 (int)other.port);
	ss_test_host_init(&second, desc());
	assert_int_equal(ss_test_host_create(&second, &other), 0);
	assert_int_equal(desc()->start(second.self), -EADDRINUSE);
	assert_non_null(strstr(second.log, want));
	ss_test_host_done(&second);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	start();
	int fd = sender("127.0.0.1");
	h.fail_batch_new = 0;
	send_text(fd, "one");
	ss_test_host_run(&h, 1000);
	assert_string_equal(h.unready, "cannot receive: Cannot allocate memory");
	assert_int_equal(ss_test_host_run(&h, 0), 0); /* does not spin */
	ss_test_host_advance(&h, SECOND);
	assert_string_not_equal(h.unready, "");
	h.fail_batch_new = UINT32_MAX;
	ss_test_host_advance(&h, SECOND);
	assert_string_equal(h.unready, "");
	run_until(1);

	/* an arena, but no rows */
	h.fail_batch_new = 0;
	send_text(fd, "two");
	while (!h.dropped[UDP_REASON_NO_MEMORY] && ss_test_host_run(&h, 1000) > 0)
		;
	assert_int_equal(h.dropped[UDP_REASON_NO_MEMORY], 1);
	h.fail_batch_new = UINT32_MAX;
	send_text(fd, "three");
	run_until(2);
	expect_text("one\nthree\n");
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

/* Another program of the machine is in another group. */
static int member_of(const char *group, const char *interface)
{
	struct group_req req = {.gr_interface = if_nametoindex(interface)};
	union udp_addr addr;
	assert_int_equal(udp_addr_parse(group, 0, &addr), 0);
	memcpy(&req.gr_group, &addr, udp_addr_len(&addr));
	int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int level = addr.sa.sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	assert_int_equal(setsockopt(fd, level, MCAST_JOIN_GROUP, &req, sizeof req), 0);
	return fd;
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
	int fd = member_of(other, interface);
	bool sent = send_group(other, interface) && send_group(group, interface);
	if (sent) {
		run_until(1);
		run_dry();
		expect_text(want);
	}
	close(fd);
	if (!sent) {
		print_message("cannot send to %s on %s\n", group, interface);
		skip();
	}
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
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
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
		{{.allow = "\"10.0.0.1/8\""}, "/allow: \"10.0.0.1/8\" has address bits set after its prefix"},
		{{.allow = "\"10.0.0.0/\""}, "/allow: "},
		{{.allow = "\"10.0.0.0/-1\""}, "/allow: "},
		{{.allow = "\"10.0.0.0/8x\""}, "/allow: "},
		{{.allow = "\"/8\""}, "/allow: "},
		{{.allow = "\"1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111\""}, "/allow: "},
		{{.multicast = "[\"10.0.0.1\"]"}, "/multicast/0: \"10.0.0.1\" is not a multicast address"},
		{{.multicast = "\"ff02::1\"", .bind = "127.0.0.1"}, "/multicast: an IPv6 group"},
		{{.multicast = "\"239.0.0.1\"", .sockets = 2}, "/sockets: must be 1 with multicast"},
		{{.multicast = "{}"}, "/multicast: expected an address"},
		{{.interface = "lo"}, "/interface: is only used together with multicast"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		conf = cases[i].conf;
		conf.bind = conf.bind ? conf.bind : "::";
		assert_int_equal(ss_test_host_create(&h, &conf), -EINVAL);
		if (!strstr(h.errors, cases[i].want))
			fail_msg("case %zu: no \"%s\" in \"%s\"", i, cases[i].want, h.errors);
		ss_test_host_clear(&h);
	}
	conf = (struct udp_conf){.bind = "x", .allow = "[1,\"y\"]", .multicast = "3"};
	assert_int_equal(ss_test_host_create(&h, &conf), -EINVAL);
	int lines = 0;
	for (const char *p = h.errors; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pause_and_resume),
		TEST(test_pause_within_emit),
		TEST(test_drain),
		TEST(test_drain_waits_for_room),
		TEST(test_drain_ends_under_flood_and_loses_nothing_silently),
		TEST(test_stop_without_drain_counts_what_it_leaves),
		TEST(test_several_sockets),
		TEST(test_busy_port),
		TEST(test_out_of_memory),
		TEST(test_allow),
		TEST(test_allow_on_a_socket_of_both_kinds),
		TEST(test_networks),
		TEST(test_multicast_ipv4),
		TEST(test_multicast_ipv4_on_a_socket_of_both_kinds),
		TEST(test_multicast_ipv6),
		TEST(test_join_failure),
		TEST(test_config_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
