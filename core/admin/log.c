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
#include <time.h>
#include <unistd.h>
#include "core/admin/log.h"
#include "core/admin/hidden.h"
#include "core/admin/journal.h"
#include "core/admin/log_tail.h"
#include <semstreams/base/utf8.h>

#define REPEAT_ROWS   64
#define REPEAT_FREE   5
#define REPEAT_NS     UINT64_C(10000000000)
#define WRITE_WAIT_MS 200  /* for a reader of stderr that does not read, once */
#define LINE_SIZE     4096 /* also PIPE_BUF: lines of several processes do not mix in a pipe */

struct line {
	char buf[LINE_SIZE];
	size_t n;
	bool full;   /* nothing more goes in */
	bool quoted; /* inside a string that has to be closed */
	bool json;
	int level;
	const char *component;   /* to stand at the end */
	struct journal *journal; /* NULL: it goes to stderr only */
	size_t reserve;          /* bytes for it */
};

struct line_style {
	bool json;
	bool priority; /* start with <N>, the syslog priority */
	bool bare;     /* no time and level: the journal has them */
};

#define LINE_TAIL 16 /* kept free for what ends a line: "cut", quote, brace, line feed */

/* ---- a line ---------------------------------------------------------------------------------- */

/* All of s or nothing, so that no escape is ever torn; after the first refusal nothing goes in any more. */
static void put(struct line *l, const char *s, size_t n)
{
	if (l->full || n > LINE_SIZE - LINE_TAIL - l->reserve - l->n) {
		l->full = true;
		return;
	}
	memcpy(l->buf + l->n, s, n);
	l->n += n;
}

static void put_str(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

static void open_quote(struct line *l)
{
	put(l, "\"", 1);
	l->quoted = !l->full;
}

/* Always succeeds: one byte of the tail is its. */
static void close_quote(struct line *l)
{
	if (l->quoted)
		l->buf[l->n++] = '"';
	l->full |= l->n > LINE_SIZE - LINE_TAIL - l->reserve;
	l->quoted = false;
}

/* Characters that move the cursor, break lines or reorder text where a log is shown. */
static bool is_unsafe(uint32_t c)
{
	return (c >= 0x80 && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

/* The escape of one control byte, quote or backslash; NULL if c needs none in this format. */
static const char *short_escape(unsigned char c, bool quotes)
{
	switch (c) {
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	case '"':
		return quotes ? "\\\"" : NULL;
	case '\\':
		return quotes ? "\\\\" : NULL;
	}
	return NULL;
}

/*
 * The first character of s made harmless, into out (at least 8 bytes): returns its length there, *used the
 * bytes taken. quotes: escape quotes and backslashes too.
 */
static size_t escape(const char *s, size_t n, bool json, bool quotes, char *out, size_t *used)
{
	uint32_t c = 0;
	*used = ss_utf8_next(s, n, &c);
	const char *known = *used == 1 ? short_escape((unsigned char)c, quotes) : NULL;
	if (*used == 0) {
		*used = 1;
		return (size_t)(json ? sprintf(out, "\\ufffd") : sprintf(out, "\\x%02x", (unsigned char)*s));
	}
	if (known)
		return (size_t)sprintf(out, "%s", known);
	if (c < 0x20 || c == 0x7f)
		return (size_t)sprintf(out, json ? "\\u%04x" : "\\x%02x", c);
	if (is_unsafe(c))
		return (size_t)sprintf(out, "\\u%04x", c);
	memcpy(out, s, *used);
	return *used;
}

static void put_escaped(struct line *l, const char *s, size_t n, bool quotes)
{
	char out[8];
	size_t used;
	for (; n > 0 && !l->full; s += used, n -= used) {
		size_t len = escape(s, n, l->json, quotes, out, &used);
		put(l, out, len);
	}
}

/* ---- taking a text apart --------------------------------------------------------------------- */

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

/* Length of the key at p (without its '='), 0 if there is none. */
static size_t key_length(const char *p, const char *end)
{
	const char *k = p;
	if (p == end || !is_key_char(*p) || *p == '.' || (*p >= '0' && *p <= '9'))
		return 0;
	while (k < end && is_key_char(*k))
		k++;
	return k < end && *k == '=' ? (size_t)(k - p) : 0;
}

/* The quote that ends the string opened at p, NULL if it stays open. */
static const char *closing_quote(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '\\')
			p++;
		else if (*p == '"')
			return p;
	}
	return NULL;
}

/* The first key=, outside quotes, at or behind p; text is where the words began. */
static const char *find_key(const char *text, const char *p, const char *end)
{
	bool may_quote =
		true; /* an open quote once found stays open: look no further, or a row of them costs n*n */
	for (; p < end; p++) {
		if (*p == '"' && may_quote && (p == text || !is_word(p[-1]))) {
			const char *q = closing_quote(p, end);
			if (q)
				p = q;
			else
				may_quote = false;
		} else if ((p == text || p[-1] == ' ') && key_length(p, end)) {
			return p;
		}
	}
	return end;
}

static size_t trimmed(const char *s, const char *end)
{
	while (end > s && end[-1] == ' ')
		end--;
	return (size_t)(end - s);
}

static size_t line_split(const char *text, const char *end, const char **pairs)
{
	*pairs = find_key(text, text, end);
	return trimmed(text, *pairs);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Take the escapes of log_value out of the inside of a quoted value; returns the length in out, at most n. */
static size_t unescape(const char *s, size_t n, char *out)
{
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		if (s[i] != '\\' || i + 1 == n) {
			out[len++] = s[i];
			continue;
		}
		char c = s[++i];
		int high = i + 1 < n ? hex_digit(s[i + 1]) : -1, low = i + 2 < n ? hex_digit(s[i + 2]) : -1;
		if (c == 'x' && high >= 0 && low >= 0) {
			out[len++] = (char)(high << 4 | low);
			i += 2;
			continue;
		}
		c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
		if (c == s[i] && c != '"' && c != '\\')
			out[len++] = '\\';
		out[len++] = c;
	}
	return len;
}

/* A decimal as JSON has it, short enough that every reader keeps all digits of its integers in 64 bits. */
static bool is_number(const char *s, size_t n)
{
	size_t i = n > 0 && s[0] == '-', digits = i, point = 0;
	if (n - i == 0 || n - i > 18 || (s[i] == '0' && n - i > 1 && s[i + 1] != '.'))
		return false;
	for (; i < n; i++) {
		if (s[i] == '.' && !point && i > digits && i + 1 < n)
			point = i;
		else if (s[i] < '0' || s[i] > '9')
			return false;
	}
	return true;
}

static bool is_boolean(const char *s, size_t n)
{
	return (n == 4 && memcmp(s, "true", 4) == 0) || (n == 5 && memcmp(s, "false", 5) == 0);
}

static bool is_own_key(const char *key, size_t n)
{
	static const char *const own[] = {"time", "level", "message", "component"};
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (strlen(own[i]) == n && memcmp(own[i], key, n) == 0)
			return true;
	return false;
}

/* The string behind a name that was put at start; both or, where there is no room, neither. */
static void put_json_string(struct line *l, size_t start, const char *s, size_t n)
{
	open_quote(l);
	if (l->quoted)
		put_escaped(l, s, n, true);
	else
		l->n = start;
	close_quote(l);
}

static void put_json_pair(struct line *l, const char *key, size_t key_len, const char *v, size_t n,
			  bool quoted)
{
	char plain[LINE_SIZE];
	size_t start = l->n;
	put_str(l, is_own_key(key, key_len) ? ",\"_" : ",\"");
	put(l, key, key_len);
	put_str(l, "\":");
	if (!quoted && (is_number(v, n) || is_boolean(v, n))) {
		put(l, v, n);
		if (l->full)
			l->n = start;
		return;
	}
	if (quoted) {
		n = unescape(v + 1, n - 2, plain);
		v = plain;
	}
	put_json_string(l, start, v, n);
}

/* Would a reader of logfmt take the value for more than one? */
static bool needs_quotes(const char *v, size_t n)
{
	return n == 0 || memchr(v, ' ', n) || memchr(v, '=', n);
}

/* A value in quotes comes with its escapes. */
static void put_text_pair(struct line *l, const char *key, size_t key_len, const char *v, size_t n,
			  bool quoted)
{
	bool quote = !quoted && needs_quotes(v, n);

	put(l, " ", 1);
	put(l, key, key_len + 1);
	if (quoted || quote)
		open_quote(l);
	put_escaped(l, v + quoted, n - 2 * quoted, quote);
	close_quote(l);
}

/* A value in quotes comes with its escapes, which a field has no need of. */
static void put_field(struct line *l, const char *key, size_t key_len, const char *v, size_t n, bool quoted)
{
	char plain[LINE_SIZE];

	if (!l->journal || is_own_key(key, key_len)) /* the line's own field of that name says it */
		return;
	if (quoted) {
		n = unescape(v + 1, n - 2, plain);
		v = plain;
	}
	journal_pair(l->journal, key, key_len, v, n);
}

static void line_pairs(struct line *l, const char *p, const char *end)
{
	const char *text = p;
	while (p < end && !l->full) {
		size_t key_len = key_length(p, end);
		const char *v = p + key_len + 1, *next = find_key(text, v, end);
		size_t n = trimmed(v, next);
		bool quoted = n >= 2 && *v == '"' && closing_quote(v, next) == v + n - 1;
		if (l->json)
			put_json_pair(l, p, key_len, v, n, quoted);
		else
			put_text_pair(l, p, key_len, v, n, quoted);
		put_field(l, p, key_len, v, n, quoted);
		p = next;
	}
}

/* ---- a whole line ---------------------------------------------------------------------------- */

static const char *level_word(int level)
{
	return level <= SS_LOG_ERROR  ? "ERROR"
	       : level <= SS_LOG_WARN ? "WARN"
	       : level <= SS_LOG_INFO ? "INFO"
				      : "DEBUG";
}

static int journal_priority(int level)
{
	return level <= SS_LOG_ERROR ? 3 : level <= SS_LOG_WARN ? 4 : level <= SS_LOG_INFO ? 6 : 7;
}

static void line_begin(struct line *l, struct line_style style, const struct timespec *now, int level,
		       const char *component, const char *message, size_t n)
{
	char head[96], when[32] = "";
	struct tm tm;
	l->n = 0;
	l->full = l->quoted = false;
	l->json = style.json;
	l->level = level;
	l->component = NULL;
	l->journal = NULL;
	/* it comes last, and there must be room for it: "\x1b" is the longest form of a byte */
	l->reserve = component && !l->json ? sizeof " component=" + 4 * strlen(component) : 0;
	size_t used = gmtime_r(&now->tv_sec, &tm) ? strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
	if (used)
		snprintf(when + used, sizeof when - used, ".%03ldZ", now->tv_nsec / 1000000);
	if (style.priority)
		put(l, head, (size_t)snprintf(head, sizeof head, "<%d>", journal_priority(level)));
	snprintf(head, sizeof head, l->json ? "{\"time\":\"%s\",\"level\":\"%s\",\"message\":" : "%s %s",
		 when, level_word(level));
	if (!style.bare)
		put_str(l, head);
	if (l->json)
		open_quote(l);
	else if (n > 0 && !style.bare)
		put(l, " ", 1);
	put_escaped(l, message, n, l->json);
	close_quote(l);
	if (component && l->json) {
		size_t start = l->n;
		put_str(l, ",\"component\":");
		put_json_string(l, start, component, strlen(component));
	} else if (component) {
		l->component = component;
	}
}

static void line_number(struct line *l, const char *key, uint64_t value)
{
	char buf[96];
	put(l, buf,
	    (size_t)snprintf(buf, sizeof buf, l->json ? ",\"%s\":%llu" : " %s=%llu", key,
			     (unsigned long long)value));
	snprintf(buf, sizeof buf, "%llu", (unsigned long long)value);
	if (l->journal)
		journal_pair(l->journal, key, strlen(key), buf, strlen(buf));
}

static void line_end(struct line *l, bool cut)
{
	static const char *const tails[2][2] = {{"\n", " cut=true\n"}, {"}\n", ",\"cut\":true}\n"}};
	const char *tail = tails[l->json][cut || l->full];
	if (l->component) {
		cut |= l->full;
		l->full = false;
		l->reserve = 0;
		put_text_pair(l, "component=", 9, l->component, strlen(l->component), false);
		tail = tails[l->json][cut || l->full];
	}
	size_t n = strlen(tail);
	memcpy(l->buf + l->n, tail, n);
	l->n += n;
}

const char *log_value(char *buf, size_t size, const char *s)
{
	char out[8];
	size_t n = strlen(s), used, len, at = 0,
	       safe = 0; /* safe: where "..." and a quote still fit behind */
	bool quote = n == 0;
	for (size_t i = 0; i < n && !quote; i += used) {
		len = escape(s + i, n - i, false, true, out, &used);
		quote = s[i] == ' ' || s[i] == '=' || len != used;
	}
	if (size == 0)
		return buf;
	if (quote && size >= 3)
		buf[at++] = '"';
	for (safe = at; n > 0; s += used, n -= used) {
		len = escape(s, n, false, true, out, &used);
		if (at + len + quote + 1 > size)
			break;
		memcpy(buf + at, out, len);
		at += len;
		if (at + 3 + quote + 1 <= size)
			safe = at;
	}
	if (n > 0 && safe + 3 + quote + 1 <= size) {
		memcpy(buf + safe, "...", 3);
		at = safe + 3;
	}
	if (quote && size >= 3)
		buf[at++] = '"';
	buf[at] = '\0';
	return buf;
}

/* ---- the sink -------------------------------------------------------------------------------- */

/* A message seen lately; what is needed to find it again and to report its repetitions. */
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
	struct journal journal;
	bool stuck;    /* the last line found no reader */
	bool torn;     /* the last line was written in part */
	uint64_t lost; /* lines not written and not yet reported */
	int (*clock)(clockid_t, struct timespec *);
	struct repeat repeats[REPEAT_ROWS];
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER,
	  .level = SS_LOG_INFO,
	  .fd = STDERR_FILENO,
	  .journal.fd = -1,
	  .clock = clock_gettime};

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

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
	const unsigned char *p = data;
	while (n--)
		h = (h ^ *p++) * UINT64_C(0x100000001b3);
	return h;
}

static void begin_in(struct line *l, struct line_style style, int level, const char *component,
		     const char *message, size_t n)
{
	struct timespec now = {0};
	sink.clock(CLOCK_REALTIME, &now);
	line_begin(l, style, &now, level, component, message, n);
	if (!style.bare)
		return;
	l->journal = &sink.journal;
	journal_begin(l->journal, message, n);
}

static void begin(struct line *l, int level, const char *component, const char *message, size_t n)
{
	begin_in(l, sink.style, level, component, message, n);
}

static void report_lost(void)
{
	struct line l;
	uint64_t lost = sink.lost;
	static const char message[] = "Log lines lost, standard error was not read";
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
	char priority[8];

	if (l->journal &&
	    journal_send(l->journal, journal_priority(l->level), l->component, l->buf, l->n - 1) == 0)
		return;
	bool ready = writable();
	if (ready && (sink.torn || sink.lost)) {
		if (sink.torn) {
			sink.torn = false;
			write_whole("\n", 1);
		}
		if (sink.lost)
			report_lost();
		ready = writable();
	}
	if (ready && l->journal) /* stderr is the journal's as well, if only for lines */
		write_whole(priority,
			    (size_t)snprintf(priority, sizeof priority, "<%d>", journal_priority(l->level)));
	if (ready)
		write_whole(l->buf, l->n);
	else
		sink.lost++;
}

/* ---- repeats --------------------------------------------------------------------------------- */

static void report_repeat(struct repeat *r)
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
			report_repeat(r);
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
		report_repeat(r);
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

/* For the tail, where a line is JSON. */
static void keep(int level, const char *component, const char *text, size_t message, const char *pairs,
		 const char *end)
{
	struct line l;

	begin_in(&l, (struct line_style){.json = true}, level, component, text, message);
	line_pairs(&l, pairs, end);
	line_end(&l, false);
	log_tail_add(l.buf, l.n - 1);
}

void log_text(int level, const char *component, const char *text)
{
	if (!log_enabled(level))
		return;
	struct line l;
	int saved = errno;
	char shown[LINE_SIZE + 1];
	if (hidden_any())
		text = hidden_text(text, shown, sizeof shown);
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
		if (level < SS_LOG_DEBUG)
			keep(level, component, text, message, pairs, end);
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
		report_repeat(&sink.repeats[i]);
	pthread_mutex_unlock(&sink.lock);
	errno = saved;
}

void log_setup(int level, bool json)
{
	pthread_mutex_lock(&sink.lock);
	atomic_store_explicit(&sink.level, level, memory_order_relaxed);
	sink.style.json = json;
	sink.style.bare = false;
	sink.style.priority = journal_is(sink.fd);
	pthread_mutex_unlock(&sink.lock);
}

void log_use_journal(void)
{
	pthread_mutex_lock(&sink.lock);
	if (sink.style.priority && (sink.journal.fd >= 0 || journal_open(&sink.journal) == 0)) {
		sink.style.bare = true;
		sink.style.priority = false;
	}
	pthread_mutex_unlock(&sink.lock);
}

void log_component(const char *component, const char *type)
{
	pthread_mutex_lock(&sink.lock);
	journal_name(&sink.journal, component, type);
	pthread_mutex_unlock(&sink.lock);
}

static const struct {
	const char *name;
	int level;
} levels[] = {{"error", SS_LOG_ERROR}, {"warn", SS_LOG_WARN}, {"info", SS_LOG_INFO}, {"debug", SS_LOG_DEBUG}};

void log_set_level(int level)
{
	atomic_store_explicit(&sink.level, level, memory_order_relaxed);
}

const char *log_level_name(void)
{
	const char *name = levels[0].name;

	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (log_enabled(levels[i].level))
			name = levels[i].name;
	return name;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if (strcmp(name, levels[i].name) == 0)
			return levels[i].level;
	return -EINVAL;
}
