/* SPDX-License-Identifier: MIT */
/*
 * log - formats, counts repeats and writes.  Any thread; one mutex, nothing is allocated.
 * A text is taken apart into message and pairs (find_key), each piece is escaped into a line (put_...), the
 * line is written whole or counted as lost.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/admin/log.h"
#include "core/admin/log_line.h"

#define REPEAT_ROWS   64
#define REPEAT_FREE   5
#define REPEAT_NS     UINT64_C(10000000000)
#define WRITE_WAIT_MS 200 /* for a reader of stderr that does not read, once */

/* A message seen lately; what is needed to find it again and to tell its repeats. */
struct repeat {
	uint64_t hash, start_ns;
	uint32_t count; /* in this window; 0 = row unused */
	uint64_t held;
	int level;
	bool has_component;
	char component[64], message[200];
};

static struct {
	pthread_mutex_t lock;
	atomic_int level;
	struct line_style style;
	int fd;
	bool stuck;    /* the last line found no reader */
	bool torn;     /* the last line was written in part */
	uint64_t lost; /* lines not written and not yet told */
	int (*clock)(clockid_t, struct timespec *);
	struct repeat repeats[REPEAT_ROWS];
} sink = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .level = SS_LOG_INFO, .fd = STDERR_FILENO, .clock = clock_gettime};

/* Wait until a write would not block: at most once for each time the reader stands still. */
static bool writable(void)
{
	struct pollfd p = {.fd = sink.fd, .events = POLLOUT};
	int n = poll(&p, 1, sink.stuck ? 0 : WRITE_WAIT_MS);
	sink.stuck = n == 0;
	return n != 0; /* an error is for write to find */
}

static void write_whole(const char *buf, size_t n)
{
	size_t done = 0;
	while (done < n) {
		ssize_t k = write(sink.fd, buf + done, n - done);
		if (k > 0)
			done += (size_t)k;
		else if (!(k < 0 && (errno == EINTR || (errno == EAGAIN && writable()))))
			break;
	}
	if (done == n)
		return;
	sink.lost++;
	sink.torn |= done > 0;
}

static void begin(struct line *l, int level, const char *component, const char *message, size_t n)
{
	struct timespec now = {0};
	sink.clock(CLOCK_REALTIME, &now);
	line_begin(l, sink.style, now.tv_sec, level, component, message, n);
}

static void tell_lost(void)
{
	struct line l;
	uint64_t lost = sink.lost;
	static const char message[] = "Log lines lost, nobody read them";
	begin(&l, SS_LOG_WARN, NULL, message, sizeof message - 1);
	line_number(&l, "lines", lost);
	line_end(&l, false);
	sink.lost = 0;
	write_whole(l.buf, l.n);
	if (sink.lost)
		sink.lost += lost;
}

static void write_line(const struct line *l)
{
	bool ready = writable();
	if (ready && (sink.torn || sink.lost)) {
		if (sink.torn) {
			sink.torn = false;
			write_whole("\n", 1);
		}
		if (sink.lost)
			tell_lost();
		ready = writable();
	}
	if (ready)
		write_whole(l->buf, l->n);
	else
		sink.lost++;
}

/* ---- repeats --------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;
	while (n--)
		h = (h ^ *p++) * UINT64_C(0x100000001b3);
	return h;
}

static void tell_repeat(struct repeat *r)
{
	struct line l;
	if (r->held == 0)
		return;
	begin(&l, r->level, r->has_component ? r->component : NULL, r->message, strlen(r->message));
	line_number(&l, "repeated", r->held);
	line_end(&l, false);
	write_line(&l);
	r->held = 0;
}

static void sweep(uint64_t now)
{
	for (struct repeat *r = sink.repeats; r < sink.repeats + REPEAT_ROWS; r++) {
		if (r->count && now - r->start_ns >= REPEAT_NS) {
			tell_repeat(r);
			r->count = 0;
		}
	}
}

/* Copy with an end mark when cut, not inside a character. */
static void copy_cut(char *to, size_t size, const char *s, size_t n)
{
	if (n < size) {
		memcpy(to, s, n);
		to[n] = '\0';
		return;
	}
	n = size - 4;
	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	memcpy(to, s, n);
	strcpy(to + n, "...");
}

/* May this message be written?  If not it has been counted. */
static bool admit(uint64_t now, int level, const char *component, const char *message, size_t n)
{
	uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), &level, sizeof level);
	struct repeat *free_row = NULL, *oldest = sink.repeats;
	if (component)
		hash = hash_bytes(hash, component, strlen(component) + 1);
	hash = hash_bytes(hash, message, n);
	for (struct repeat *r = sink.repeats; r < sink.repeats + REPEAT_ROWS; r++) {
		if (!r->count) {
			free_row = r;
		} else if (r->hash == hash) {
			if (r->count < REPEAT_FREE) {
				r->count++;
				return true;
			}
			r->held++;
			return false;
		} else if (r->start_ns < oldest->start_ns) {
			oldest = r;
		}
	}
	struct repeat *r = free_row ? free_row : oldest;
	if (!free_row)
		tell_repeat(r);
	*r = (struct repeat){.hash = hash,
			     .start_ns = now,
			     .count = 1,
			     .level = level,
			     .has_component = component != NULL};
	copy_cut(r->message, sizeof r->message, message, n);
	if (component)
		copy_cut(r->component, sizeof r->component, component, strlen(component));
	return true;
}

static uint64_t monotonic_ns(void)
{
	struct timespec now = {0};
	sink.clock(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- interface ------------------------------------------------------------------------------- */

bool log_enabled(int level)
{
	return level <= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

void log_text(int level, const char *component, const char *text)
{
	if (!log_enabled(level))
		return;
	struct line l;
	int saved = errno;
	size_t n = strnlen(text, LINE_SIZE);
	const char *end = text + n, *pairs;
	size_t message = line_split(text, end, &pairs);
	pthread_mutex_lock(&sink.lock);
	uint64_t now = monotonic_ns();
	sweep(now);
	if (admit(now, level, component, text, message)) {
		begin(&l, level, component, text, message);
		line_pairs(&l, pairs, end);
		line_end(&l, n == LINE_SIZE);
		write_line(&l);
	}
	pthread_mutex_unlock(&sink.lock);
	errno = saved;
}

void log_printf(int level, const char *component, const char *fmt, ...)
{
	if (!log_enabled(level))
		return;
	char text[LINE_SIZE +
		  1]; /* one byte longer than a line takes, so that what is cut here is seen to be cut */
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	log_text(level, component, n < 0 ? fmt : text);
}

void log_tick(void)
{
	int saved = errno;
	pthread_mutex_lock(&sink.lock);
	sweep(monotonic_ns());
	pthread_mutex_unlock(&sink.lock);
	errno = saved;
}

void log_flush(void)
{
	int saved = errno;
	pthread_mutex_lock(&sink.lock);
	for (size_t i = 0; i < REPEAT_ROWS; i++)
		tell_repeat(&sink.repeats[i]);
	pthread_mutex_unlock(&sink.lock);
	errno = saved;
}

/* Is stderr the stream that systemd connected to the journal?  JOURNAL_STREAM is inherited, so it alone
 * proves nothing. */
static bool is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;
	if (!stream || fstat(fd, &st) < 0)
		return false;
	snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return strcmp(stream, own) == 0;
}

void log_setup(int level, bool json)
{
	pthread_mutex_lock(&sink.lock);
	atomic_store_explicit(&sink.level, level, memory_order_relaxed);
	sink.style.json = json;
	sink.style.priority = is_journal(sink.fd);
	pthread_mutex_unlock(&sink.lock);
}

int log_level_parse(const char *name)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = {{"error", SS_LOG_ERROR},
		      {"warn", SS_LOG_WARN},
		      {"info", SS_LOG_INFO},
		      {"debug", SS_LOG_DEBUG}};
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (strcmp(name, levels[i].name) == 0)
			return levels[i].level;
	return -EINVAL;
}
