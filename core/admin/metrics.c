/* SPDX-License-Identifier: MIT */
/*
 * metrics - runs the collectors and groups their samples by family: each family's lines are printed as they
 * come in, into a buffer of its own.  Control thread.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "core/admin/metrics.h"
#include <semstreams/base/utf8.h>

#define BUCKETS 128

struct collector {
	void (*collect)(void *, struct metrics_page *);
	void *arg;
};

struct metrics {
	locale_t c_locale; /* numbers have a '.', whatever locale a plugin has set */
	struct collector *collectors;
	size_t n;
};

struct family {
	struct family *next; /* in the order they first appeared */
	struct family *next_in_bucket;
	const char *name, *help;
	uint32_t kind;
	char *lines;
	size_t len, size;
};

struct metrics_page {
	struct family *first, **last;
	struct family *buckets[BUCKETS];
	size_t refused; /* samples whose name or labels would spoil the page */
	bool no_memory;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->c_locale = newlocale(LC_ALL_MASK, "C", NULL);
	if (m->c_locale)
		return m;
	free(m);
	return NULL;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	freelocale(m->c_locale);
	free(m->collectors);
	free(m);
}

int metrics_add_collector(struct metrics *m, void (*collect)(void *arg, struct metrics_page *), void *arg)
{
	struct collector *more = reallocarray(m->collectors, m->n + 1, sizeof *more);
	if (!more)
		return -ENOMEM;
	m->collectors = more;
	more[m->n++] = (struct collector){.collect = collect, .arg = arg};
	return 0;
}

/* ---- names and labels ------------------------------------------------------------------------ */

/* Length of the identifier at s; metric names may hold colons. */
static size_t identifier(const char *s, bool colons)
{
	size_t n = 0;
	while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || s[n] == '_' ||
	       (colons && s[n] == ':') || (n > 0 && s[n] >= '0' && s[n] <= '9'))
		n++;
	return n;
}

/* Behind the closing quote of the label value whose inside begins at s; NULL if it is not well-formed. */
static const char *label_value_end(const char *s)
{
	uint32_t code;
	for (size_t used, left = strlen(s); left > 0 && *s != '\n'; s += used, left -= used) {
		if (*s == '"')
			return s + 1;
		if (*s == '\\' && !strchr("\\\"n", s[1]))
			return NULL;
		used = *s == '\\' ? 2 : ss_utf8_next(s, left, &code);
		if (used == 0 || used > left)
			return NULL;
	}
	return NULL;
}

static bool labels_are_good(const char *s)
{
	while (s && *s) {
		size_t n = identifier(s, false);
		if (n == 0 || s[n] != '=' || s[n + 1] != '"')
			return false;
		s = label_value_end(s + n + 2);
		if (s && *s && (*s++ != ',' || !*s))
			return false;
	}
	return s != NULL;
}

/* The first character of s as it stands in a label value or help text, into out (4 bytes); *used: bytes of s
 * taken. */
static size_t escape(const char *s, size_t n, bool quotes, char *out, size_t *used)
{
	uint32_t code;
	*used = ss_utf8_next(s, n, &code);
	if (*used == 0) {
		*used = 1;
		memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD: one bad byte would cost the whole page */
		return 3;
	}
	if (*s == '\\' || *s == '\n' || (quotes && *s == '"')) {
		out[0] = '\\';
		out[1] = *s == '\n' ? 'n' : *s;
		return 2;
	}
	memcpy(out, s, *used);
	return *used;
}

void metrics_label(char *buf, size_t size, const char *key, const char *value)
{
	size_t at = strlen(buf), n = strlen(value), used;
	size_t head = strlen(key) + 2 + (at > 0);
	char out[4];
	if (size < head + 2 || at > size - head - 2)
		return;
	at += (size_t)sprintf(buf + at, "%s%s=\"", at > 0 ? "," : "", key);
	for (; n > 0; value += used, n -= used) {
		size_t len = escape(value, n, true, out, &used);
		if (at + len + 2 > size)
			break;
		memcpy(buf + at, out, len);
		at += len;
	}
	strcpy(buf + at, "\"");
}

/* ---- samples --------------------------------------------------------------------------------- */

static struct family *family_get(struct metrics_page *page, const char *name, const char *help, uint32_t kind)
{
	uint32_t hash = 2166136261u;
	for (const char *p = name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	struct family **bucket = &page->buckets[hash % BUCKETS];
	for (struct family *f = *bucket; f; f = f->next_in_bucket)
		if (f->name == name || strcmp(f->name, name) == 0)
			return f;
	size_t n = identifier(name, true);
	if (n == 0 || name[n]) {
		page->refused++;
		return NULL;
	}
	struct family *f = calloc(1, sizeof *f);
	if (!f) {
		page->no_memory = true;
		return NULL;
	}
	*f = (struct family){.name = name, .help = help, .kind = kind, .next_in_bucket = *bucket};
	*bucket = f;
	*page->last = f;
	page->last = &f->next;
	return f;
}

static void add_line(struct metrics_page *page, const char *name, const char *help, uint32_t kind,
		     const char *labels, const char *value)
{
	struct family *f = family_get(page, name, help, kind);
	if (!f)
		return;
	if (!labels)
		labels = "";
	if (!labels_are_good(labels)) {
		page->refused++;
		return;
	}
	size_t need = strlen(name) + strlen(labels) + strlen(value) + 5; /* braces, blank, line feed, end */
	if (f->size - f->len < need) {
		size_t size = f->size * 2 > f->len + need ? f->size * 2 : f->len + need + 128;
		char *lines = realloc(f->lines, size);
		if (!lines) {
			page->no_memory = true;
			return;
		}
		f->lines = lines;
		f->size = size;
	}
	f->len += (size_t)sprintf(f->lines + f->len, *labels ? "%s{%s} %s\n" : "%s%s %s\n", name, labels,
				  value);
}

/* As few digits as read back as v (15 at least are tried); whole numbers without an exponent. */
static void format_value(char buf[32], double v)
{
	if (isnan(v))
		strcpy(buf, "NaN");
	else if (isinf(v))
		strcpy(buf, v > 0 ? "+Inf" : "-Inf");
	else if (fabs(v) < 1e15 && v == trunc(v))
		snprintf(buf, 32, "%.0f", v);
	else
		for (int digits = 15; digits <= 17; digits++) {
			snprintf(buf, 32, "%.*g", digits, v);
			if (strtod(buf, NULL) == v)
				break;
		}
}

void metrics_sample(struct metrics_page *page, const char *name, const char *help, uint32_t kind,
		    const char *labels, double value)
{
	char buf[32];
	format_value(buf, value);
	add_line(page, name, help, kind, labels, buf);
}

void metrics_sample_int(struct metrics_page *page, const char *name, const char *help, uint32_t kind,
			const char *labels, int64_t value)
{
	char buf[32];
	snprintf(buf, sizeof buf, "%lld", (long long)value);
	add_line(page, name, help, kind, labels, buf);
}

/* ---- the metrics of the host ----------------------------------------------------------------- */

static const struct {
	const char *name;
	uint32_t kind;
	const char *help;
} host_metrics[HOST_METRICS] = {
	[METRIC_EVENTS_IN] =
		{"semstreams_events_in_total", SS_METRIC_COUNTER,
		 "Events taken in by a source, or offered to the queues of any other component."},
	[METRIC_EVENTS_CREATED] = {"semstreams_events_created_total", SS_METRIC_COUNTER,
				   "Events a processor created itself, such as results of a window."},
	[METRIC_EVENTS_OUT] = {"semstreams_events_out_total", SS_METRIC_COUNTER,
			       "Events passed on, or delivered by a sink."},
	[METRIC_EVENTS_FILTERED] = {"semstreams_events_filtered_total", SS_METRIC_COUNTER,
				    "Events removed on purpose by a processor."},
	[METRIC_EVENTS_DROPPED] = {"semstreams_events_dropped_total", SS_METRIC_COUNTER,
				   "Events lost, by reason."},
	[METRIC_EVENTS_HELD] =
		{"semstreams_events_held", SS_METRIC_GAUGE,
		 "Events in the queues of the component, or held by it until they are durable."},
	[METRIC_EVENTS_OVERDUE] =
		{"semstreams_events_overdue", SS_METRIC_GAUGE,
		 "Events that the component has kept for longer than admin.held_watch without a reason."},
	[METRIC_POSITIONS] = {"semstreams_positions_streams", SS_METRIC_GAUGE,
			      "Streams of sources whose position the component remembers, as of its last "
			      "commit."},
	[METRIC_POSITIONS_RETIRED] =
		{"semstreams_positions_retired_total", SS_METRIC_COUNTER,
		 "Streams whose position was forgotten, by reason: positions.max_streams (limit) or "
		 "positions.forget_after (age)."},
	[METRIC_QUEUE_EVENTS] = {"semstreams_queue_events", SS_METRIC_GAUGE, "Events in a queue."},
	[METRIC_QUEUE_CAPACITY] = {"semstreams_queue_capacity_events", SS_METRIC_GAUGE,
				   "Limit of a queue in events."},
	[METRIC_QUEUE_BYTES] = {"semstreams_queue_bytes", SS_METRIC_GAUGE,
				"Bytes in a queue, payload and index together."},
	[METRIC_QUEUE_CAPACITY_BYTES] = {"semstreams_queue_capacity_bytes", SS_METRIC_GAUGE,
					 "Limit of a queue in bytes."},
	[METRIC_TLS_FAILURES] = {"semstreams_mtls_handshake_failures_total", SS_METRIC_COUNTER,
				 "TLS handshakes refused, by own role and by reason."},
	[METRIC_TLS_REVOKED_PEERS] = {"semstreams_tls_revoked_peers_total", SS_METRIC_COUNTER,
				      "Connected peers that would no longer be accepted, by own role and by "
				      "reason; they are disconnected."},
	[METRIC_CERTIFICATE_EXPIRY_TIME] = {"semstreams_certificate_expiry_timestamp_seconds",
					    SS_METRIC_GAUGE,
					    "Time the certificate in use expires, seconds since 1970."},
	[METRIC_CERTIFICATE_EXPIRY] = {"semstreams_certificate_expiry_seconds", SS_METRIC_GAUGE,
				       "Seconds until the certificate in use expires; negative afterwards."},
	[METRIC_CRL_EXPIRY_TIME] = {"semstreams_crl_expiry_timestamp_seconds", SS_METRIC_GAUGE,
				    "Time the first of the revocation lists expires, seconds since 1970."},
	[METRIC_CRL_REVOKED] = {"semstreams_crl_revoked_certificates", SS_METRIC_GAUGE,
				"Certificates in the revocation lists."},
	[METRIC_TLS_RELOADS] = {"semstreams_tls_reloads_total", SS_METRIC_COUNTER,
				"Reloads of changed certificate or CA files."},
	[METRIC_TLS_RELOAD_FAILURES] = {"semstreams_tls_reload_failures_total", SS_METRIC_COUNTER,
					"Changed certificate or CA files that could not be loaded."},
	[METRIC_TLS_INSECURE] = {"semstreams_tls_insecure_skip_verify", SS_METRIC_GAUGE,
				 "1 if servers are not verified (insecure_skip_verify)."},
	[METRIC_TLS_FALLBACK] =
		{"semstreams_tls_fallback", SS_METRIC_GAUGE,
		 "1 while the provider has no certificate and the one in cert_file is used instead."},
	[METRIC_RELOAD_GENERATION] = {"semstreams_reload_generation", SS_METRIC_GAUGE,
				      "Which configuration runs: 1 that of the start, one more with each "
				      "reload that succeeded."},
	[METRIC_RELOADS] = {"semstreams_reloads_total", SS_METRIC_COUNTER, "Reloads of the configuration."},
	[METRIC_RELOAD_LAST_SUCCESS] = {"semstreams_reload_last_success", SS_METRIC_GAUGE,
					"0 if the last reload was refused or failed, so that an older "
					"configuration than that in the file runs; else 1."},
	[METRIC_RELOAD_LAST_TIME] = {"semstreams_reload_last_time_seconds", SS_METRIC_GAUGE,
				     "When the configuration was last reloaded or tried to be, in seconds "
				     "since 1970; 0: never."},
	[METRIC_RELOAD_PAUSE] = {"semstreams_reload_pause_seconds", SS_METRIC_GAUGE,
				 "How long all components stood still for the last reload that "
				 "succeeded, in seconds."},
	[METRIC_RELOAD_COMPONENTS] = {"semstreams_reload_components", SS_METRIC_GAUGE,
				      "What became of the components in the last reload that "
				      "succeeded."},
	[METRIC_BUILD_INFO] = {"semstreams_build_info", SS_METRIC_GAUGE,
			       "Version, compiler and plugin ABI of this program; always 1."},
	[METRIC_PROCESS_CPU] = {"process_cpu_seconds_total", SS_METRIC_COUNTER,
				"Total user and system CPU time spent in seconds."},
	[METRIC_PROCESS_OPEN_FDS] = {"process_open_fds", SS_METRIC_GAUGE, "Number of open file descriptors."},
	[METRIC_PROCESS_MAX_FDS] = {"process_max_fds", SS_METRIC_GAUGE,
				    "Maximum number of open file descriptors."},
	[METRIC_PROCESS_VIRTUAL] = {"process_virtual_memory_bytes", SS_METRIC_GAUGE,
				    "Virtual memory size in bytes."},
	[METRIC_PROCESS_RESIDENT] = {"process_resident_memory_bytes", SS_METRIC_GAUGE,
				     "Resident memory size in bytes."},
	[METRIC_PROCESS_THREADS] = {"process_threads", SS_METRIC_GAUGE,
				    "Number of OS threads in the process."},
	[METRIC_PROCESS_START] = {"process_start_time_seconds", SS_METRIC_GAUGE,
				  "Start time of the process since unix epoch in seconds."},
};

void metrics_host_real(struct metrics_page *page, enum host_metric m, const char *labels, double value)
{
	metrics_sample(page, host_metrics[m].name, host_metrics[m].help, host_metrics[m].kind, labels, value);
}

void metrics_host(struct metrics_page *page, enum host_metric m, const char *labels, int64_t value)
{
	metrics_sample_int(page, host_metrics[m].name, host_metrics[m].help, host_metrics[m].kind, labels,
			   value);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void print_family(const struct family *f, FILE *out)
{
	const char *help = f->help ? f->help : "";
	char c[4];
	if (f->len == 0)
		return;
	fprintf(out, "# HELP %s ", f->name);
	for (size_t used, n = strlen(help); n > 0; help += used, n -= used)
		fwrite(c, 1, escape(help, n, false, c, &used), out);
	fprintf(out, "\n# TYPE %s %s\n", f->name, f->kind == SS_METRIC_COUNTER ? "counter" : "gauge");
	fwrite(f->lines, 1, f->len, out);
}

int metrics_print(struct metrics *m, FILE *out)
{
	struct metrics_page page = {.last = &page.first};
	locale_t before = uselocale(m->c_locale);
	for (size_t i = 0; i < m->n; i++)
		m->collectors[i].collect(m->collectors[i].arg, &page);
	for (struct family *f = page.first; f && !page.no_memory; f = f->next)
		print_family(f, out);
	if (page.refused && !page.no_memory)
		fprintf(out, "# %zu samples left out: malformed name or labels\n", page.refused);
	uselocale(before);
	for (struct family *f = page.first, *next; f; f = next) {
		next = f->next;
		free(f->lines);
		free(f);
	}
	return page.no_memory ? -ENOMEM : 0;
}

/* ---- the process ----------------------------------------------------------------------------- */

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
	metrics_host(page, METRIC_BUILD_INFO, labels, 1);
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

/* Not if it is unknown, which is negative. */
static void gauge(struct metrics_page *page, enum host_metric m, long long value)
{
	if (value >= 0)
		metrics_host(page, m, NULL, value);
}

static void process(void *arg, struct metrics_page *page)
{
	(void)arg;
	struct timespec cpu;
	struct rlimit limit;
	char buf[128];
	long long pages_virtual, pages_resident, page_size = sysconf(_SC_PAGESIZE);
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		metrics_host_real(page, METRIC_PROCESS_CPU, NULL,
				  (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
	gauge(page, METRIC_PROCESS_OPEN_FDS, open_fds());
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		metrics_host_real(page, METRIC_PROCESS_MAX_FDS, NULL,
				  limit.rlim_cur == RLIM_INFINITY ? (double)INFINITY
								  : (double)limit.rlim_cur);
	if (sscanf(proc("/proc/self/statm", buf, sizeof buf), "%lld %lld", &pages_virtual, &pages_resident) ==
	    2) {
		gauge(page, METRIC_PROCESS_VIRTUAL, pages_virtual * page_size);
		gauge(page, METRIC_PROCESS_RESIDENT, pages_resident * page_size);
	}
	gauge(page, METRIC_PROCESS_THREADS, stat_field(20));
	if (start_time() > 0)
		metrics_host_real(page, METRIC_PROCESS_START, NULL, start_time());
}

int metrics_add_process(struct metrics *m)
{
	int rc = metrics_add_collector(m, build_info, NULL);
	return rc < 0 ? rc : metrics_add_collector(m, process, NULL);
}
