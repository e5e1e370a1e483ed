/* SPDX-License-Identifier: MIT */
/* udp_output - what the files of the plugin share: its configuration and where it sends to. */
#pragma once
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <semstreams/plugin.h>

#define UDP_MAX_PAYLOAD 65507 /* of the longest IPv4 packet; one of IPv6 has room for 20 bytes more */

struct udp_conf {
	const char *address;
	int64_t port;
	const char *bind; /* NULL: the kernel chooses by the route */
	int64_t bind_port;
	const char *interface;
	int64_t ttl; /* 0: the system's */
	int64_t loopback;
	int64_t broadcast;
	int64_t send_buffer;
	int64_t max_datagram;
	int64_t batch;
};

/* Rows of the descriptor's metric and reason tables. */
enum {
	UDP_METRIC_DATAGRAMS,
	UDP_METRIC_BYTES,
	UDP_METRIC_REFUSED,
	UDP_METRIC_WAITS,
	UDP_METRIC_ERRORS,
};
enum { UDP_REASON_TOO_LONG, UDP_REASON_UNREACHABLE };

/* Where datagrams go, and where they come from. */
struct udp_target {
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to, from;
	socklen_t len; /* of each */
};
