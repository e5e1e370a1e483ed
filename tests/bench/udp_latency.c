/* SPDX-License-Identifier: MIT */
/*
 * udp_latency - time from sending a datagram to its line standing in a file.
 *
 *   udp_latency PORT FILE RATE COUNT
 *
 * One thread sends evenly, the other watches the file grow without pause; both stay on the last CPU so that
 * the receiver under test has the others.  Prints p50 p90 p99 p99.9 max in microseconds, and the number of
 * lines seen.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct job {
	int port;
	double rate;
	uint64_t count;
	uint64_t *sent, *took;
	_Atomic bool ended;
};

static void *send_all(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)j->port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[128];

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		perror("udp_latency");
		exit(1);
	}
	prctl(PR_SET_TIMERSLACK, 1);
	uint64_t start = now();
	for (uint64_t i = 0; i < j->count; i++) {
		uint64_t due = start + (uint64_t)((double)i / j->rate * 1e9);
		struct timespec t = {.tv_sec = (time_t)(due / 1000000000u),
				     .tv_nsec = (long)(due % 1000000000u)};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		int n = snprintf(text, sizeof text,
				 "{\"seq\":%010llu,\"sensor\":\"temperature\",\"value\":72.5,\"location\":"
				 "\"a\",\"ts\":%013d}",
				 (unsigned long long)i, 0);
		j->sent[i] = now();
		if (send(fd, text, (size_t)n, 0) < 0 && errno != ECONNREFUSED)
			perror("udp_latency: send");
	}
	atomic_store(&j->ended, true);
	close(fd);
	return NULL;
}

static uint64_t watch(struct job *j, int file)
{
	static char buf[1 << 16];
	size_t have = 0;
	uint64_t seen = 0, last = now();

	while (seen < j->count && !(atomic_load(&j->ended) && now() - last > 1000000000u)) {
		ssize_t n = read(file, buf + have, sizeof buf - have);
		if (n <= 0) {
			sched_yield();
			continue;
		}
		uint64_t at = last = now();
		have += (size_t)n;
		char *p = buf, *end;
		while ((end = memchr(p, '\n', have - (size_t)(p - buf)))) {
			uint64_t seq = strtoull(p + 7, NULL, 10);
			if (seq < j->count)
				j->took[seen++] = at - j->sent[seq];
			p = end + 1;
		}
		have -= (size_t)(p - buf);
		memmove(buf, p, have);
	}
	return seen;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: udp_latency PORT FILE RATE COUNT\n");
		return 2;
	}
	struct job j = {.port = atoi(argv[1]), .rate = atof(argv[3]), .count = strtoull(argv[4], NULL, 10)};
	int file = open(argv[2], O_RDONLY | O_CLOEXEC);
	cpu_set_t last;
	pthread_t sender;

	if (file < 0 || lseek(file, 0, SEEK_END) < 0) {
		perror(argv[2]);
		return 1;
	}
	j.sent = calloc(j.count, sizeof *j.sent);
	j.took = calloc(j.count, sizeof *j.took);
	CPU_ZERO(&last);
	CPU_SET((size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	sched_setaffinity(0, sizeof last, &last);
	pthread_create(&sender, NULL, send_all, &j);
	uint64_t n = watch(&j, file);
	pthread_join(sender, NULL);
	if (n == 0) {
		fprintf(stderr, "udp_latency: no line came\n");
		return 1;
	}
	qsort(j.took, n, sizeof *j.took, by_size);
	const double points[] = {0.5, 0.9, 0.99, 0.999, 1.0};
	for (int i = 0; i < 5; i++) {
		uint64_t k = (uint64_t)(points[i] * (double)(n - 1));
		printf("%.1f ", (double)j.took[k] / 1000);
	}
	printf("%llu\n", (unsigned long long)n);
	return 0;
}
