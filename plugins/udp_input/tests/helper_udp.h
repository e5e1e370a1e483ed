/* SPDX-License-Identifier: MIT */
/* udp_test - what the tests of udp_input share: an instance in a test host, senders, and waiting for events.
 */
#pragma once
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/test-host.h>
#include "plugins/udp_input/udp_input.h"

#define SECOND UINT64_C(1000000000)

static struct ss_test_host h;
static struct udp_conf conf;

static inline const struct ss_component *desc(void)
{
	return semstreams_entry_v1.components[0];
}

static inline int setup(void **state)
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
	ss_test_host_init(&h, desc());
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	ss_test_host_done(&h);
	return 0;
}

static inline void start(void)
{
	assert_int_equal(ss_test_host_create(&h, &conf), 0);
	assert_int_equal(desc()->start(h.self), 0);
}

/* A socket connected to the instance. */
static inline int sender(const char *to)
{
	union udp_addr addr;
	assert_int_equal(udp_addr_parse(to, (uint16_t)h.metrics[UDP_METRIC_LOCAL_PORT], &addr), 0);
	int fd = socket(addr.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, &addr.sa, udp_addr_len(&addr)), 0);
	return fd;
}

static inline void send_n(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, 0), len);
}

static inline void send_text(int fd, const char *text)
{
	send_n(fd, text, strlen(text));
}

static inline uint64_t events(void)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < h.n_emitted; i++)
		n += h.emitted[i].batch->count;
	return n;
}

/* Event number i of all. */
static inline const struct ss_event *event(uint64_t i)
{
	for (uint32_t b = 0; b < h.n_emitted; b++) {
		if (i < h.emitted[b].batch->count)
			return &h.emitted[b].batch->events[i];
		i -= h.emitted[b].batch->count;
	}
	fail_msg("no such event");
	return NULL;
}

static inline void run_until(uint64_t n)
{
	for (int tries = 0; events() < n && tries < 100; tries++)
		ss_test_host_run(&h, 100);
	assert_int_equal(events(), n);
}

/* Nothing more is to be read. */
static inline void run_dry(void)
{
	while (ss_test_host_run(&h, 0) > 0)
		;
}

static inline void expect_text(const char *want)
{
	char *text = ss_test_host_text(&h, 0);
	assert_string_equal(text, want);
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
