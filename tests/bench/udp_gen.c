/* SPDX-License-Identifier: MIT */
/*
 * udp_gen - sends numbered JSON datagrams to a port of 127.0.0.1 at a steady rate, many per system call
 * (UDP_SEGMENT), so that sending costs a small part of what receiving does.
 *
 *   udp_gen PORT RATE COUNT SIZE FIRST
 *
 * Datagrams are SIZE bytes, numbered from FIRST (1000000000 or more: ten digits, or it is not JSON); every
 * second one has the sensor "temperature".  Prints how many were sent and how long it took in seconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { BURST_BYTES = 64000, BURST_MAX = 64 };

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_until(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* Fixed width, so that all datagrams of a burst have one size: ten digits of seq, the rest filled up. */
static void fill(char *p, size_t size, uint64_t seq, uint64_t ts)
{
	int n = snprintf(p, size + 1,
			 "{\"seq\":%010llu,\"sensor\":\"%s\",\"value\":%02llu.5,\"ts\":%013llu,\"pad\":\"",
			 (unsigned long long)seq, seq % 2 ? "temperature" : "atmospheric",
			 (unsigned long long)(seq % 90 + 10), (unsigned long long)ts);
	for (size_t i = (size_t)n; i < size - 2; i++)
		p[i] = (char)('a' + i % 26);
	memcpy(p + size - 2, "\"}", 2);
}

static int open_socket(int port, int segment)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
	    setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0) {
		perror("udp_gen");
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: udp_gen PORT RATE COUNT SIZE FIRST\n");
		return 2;
	}
	double rate = atof(argv[2]);
	uint64_t count = strtoull(argv[3], NULL, 10), sent = 0;
	size_t size = strtoull(argv[4], NULL, 10);
	uint64_t first = strtoull(argv[5], NULL, 10);
	uint64_t burst = BURST_BYTES / size < BURST_MAX ? BURST_BYTES / size : BURST_MAX;
	static char buf[BURST_BYTES + 1];

	if (size < 90 || size > BURST_BYTES || rate <= 0) {
		fprintf(stderr, "udp_gen: SIZE is 90 to %d, RATE above 0\n", BURST_BYTES);
		return 2;
	}
	/* slow streams come evenly, not in bursts */
	while (burst > 1 && rate / (double)burst < 5000)
		burst--;
	int fd = open_socket(atoi(argv[1]), (int)size);
	prctl(PR_SET_TIMERSLACK, 1);
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);

	uint64_t start = now();
	while (sent < count) {
		uint64_t n = count - sent < burst ? count - sent : burst;
		for (uint64_t i = 0; i < n; i++)
			fill(buf + i * size, size, first + sent + i, (uint64_t)wall.tv_sec * 1000);
		uint64_t due = start + (uint64_t)((double)sent / rate * 1e9);
		if (now() < due)
			wait_until(due);
		if (send(fd, buf, n * size, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS) {
			perror("udp_gen: send");
			return 1;
		}
		sent += n;
	}
	printf("%llu %.6f\n", (unsigned long long)sent, (double)(now() - start) / 1e9);
	return 0;
}
