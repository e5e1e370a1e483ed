/* SPDX-License-Identifier: MIT */
/* process_metrics - what Prometheus clients tell of their process, from /proc/self, and the build.  Control
 * thread. */
#ifdef HAVE_CONFIG_H
#include <config.h> /* of the build, not core/config.h */
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "core/admin/metrics.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif
#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void build_info(void *arg, struct metrics_page *page)
{
	(void)arg;
	char labels[256] = "", abi[16];
	snprintf(abi, sizeof abi, "%d", SS_ABI_MAJOR);
	metrics_label(labels, sizeof labels, "version", PACKAGE_VERSION);
	metrics_label(labels, sizeof labels, "compiler", COMPILER);
	metrics_label(labels, sizeof labels, "abi", abi);
	metrics_sample_int(page, "semstreams_build_info", "What this program was built from; always 1.",
			   SS_METRIC_GAUGE, labels, 1);
}

/* The start of a file of /proc as a string; empty if it cannot be read. */
static const char *proc(const char *file, char *buf, size_t size)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

/* Field n (from 1) of /proc/self/stat, -1 if it is not there.  Counted from behind the name, which may hold
 * anything. */
static long long stat_field(int n)
{
	char buf[1024];
	const char *p = strrchr(proc("/proc/self/stat", buf, sizeof buf), ')');
	for (int i = 2; p && i < n; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoll(p, NULL, 10) : -1;
}

/* Seconds since 1970, 0 if unknown.  Read once, so that it does not change when the wall clock is set. */
static double start_time(void)
{
	static double start;
	if (start > 0)
		return start;
	struct timespec wall, boot;
	long long ticks = stat_field(22);
	if (ticks < 0 || clock_gettime(CLOCK_REALTIME, &wall) < 0 || clock_gettime(CLOCK_BOOTTIME, &boot) < 0)
		return 0;
	double booted = (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9;
	start = booted + (double)ticks / (double)sysconf(_SC_CLK_TCK);
	return start;
}

static long long open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	long long n = -3; /* ".", ".." and the descriptor of dir */
	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void gauge(struct metrics_page *page, const char *name, const char *help, long long value)
{
	if (value >= 0)
		metrics_sample_int(page, name, help, SS_METRIC_GAUGE, NULL, value);
}

static void process(void *arg, struct metrics_page *page)
{
	(void)arg;
	struct timespec cpu;
	struct rlimit limit;
	char buf[128];
	long long pages_virtual, pages_resident, page_size = sysconf(_SC_PAGESIZE);
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		metrics_sample(page, "process_cpu_seconds_total",
			       "Total user and system CPU time spent in seconds.", SS_METRIC_COUNTER, NULL,
			       (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
	gauge(page, "process_open_fds", "Number of open file descriptors.", open_fds());
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		metrics_sample(page, "process_max_fds", "Maximum number of open file descriptors.",
			       SS_METRIC_GAUGE, NULL,
			       limit.rlim_cur == RLIM_INFINITY ? (double)INFINITY : (double)limit.rlim_cur);
	if (sscanf(proc("/proc/self/statm", buf, sizeof buf), "%lld %lld", &pages_virtual, &pages_resident) ==
	    2) {
		gauge(page, "process_virtual_memory_bytes", "Virtual memory size in bytes.",
		      pages_virtual * page_size);
		gauge(page, "process_resident_memory_bytes", "Resident memory size in bytes.",
		      pages_resident * page_size);
	}
	gauge(page, "process_threads", "Number of OS threads in the process.", stat_field(20));
	if (start_time() > 0)
		metrics_sample(page, "process_start_time_seconds",
			       "Start time of the process since unix epoch in seconds.", SS_METRIC_GAUGE,
			       NULL, start_time());
}

int metrics_add_process(struct metrics *m)
{
	int rc = metrics_add_collector(m, build_info, NULL);
	return rc < 0 ? rc : metrics_add_collector(m, process, NULL);
}
