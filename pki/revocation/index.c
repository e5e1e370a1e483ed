/* SPDX-License-Identifier: MIT */
/*
 * index - see index.h.  Each line is a word and fields between tabs, and ends with a tab and a dot, so that
 * what a crash left of one is known for that.  The last word about a serial counts.
 */
#include "pki/revocation/index.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>
#include "pki/certificate.h"

enum { FIELDS = 8, FILE_MAX = 512 << 20 };

const struct index_reason index_reasons[] = {
	{"unspecified", 0},     {"keyCompromise", 1},
	{"cACompromise", 2},    {"affiliationChanged", 3},
	{"superseded", 4},      {"cessationOfOperation", 5},
	{"certificateHold", 6}, {"privilegeWithdrawn", 9},
	{"aACompromise", 10},   {NULL, 0},
};

/* ---- reading ---- */

static int64_t time_of(const char *text)
{
	struct tm tm = {0};

	return strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm) ? timegm(&tm) : 0;
}

/* Split in place; the number of fields, 0: the line is not whole. */
static size_t split(char *line, const char *fields[FIELDS])
{
	size_t n = 0;

	for (char *field; n < FIELDS && (field = strsep(&line, "\t"));)
		fields[n++] = field;
	return n && !line && strcmp(fields[n - 1], ".") == 0 ? n - 1 : 0;
}

static void take_line(struct index *x, const char *const fields[FIELDS], size_t n, unsigned line)
{
	struct index_entry e = {.serial = n > 1 ? fields[1] : "", .line = line};
	uint64_t number;

	if (n == 4 && strcmp(fields[0], "issued") == 0) {
		e.not_after_s = time_of(fields[2]);
		e.subject = fields[3];
	} else if (n == 6 && strcmp(fields[0], "revoked") == 0) {
		e.since_s = time_of(fields[2]);
		e.reason = fields[3];
		e.not_after_s = time_of(fields[4]);
		e.subject = fields[5];
	} else if (n == 3 && strcmp(fields[0], "crl") == 0) {
		number = strtoull(fields[1], NULL, 10);
		x->crl_number = number > x->crl_number ? number : x->crl_number;
		return;
	} else if (n != 3 || strcmp(fields[0], "reinstated") != 0) {
		return;
	}
	x->entries[x->n++] = e;
}

static int compare(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;
	int order = strcmp(x->serial, y->serial);

	return order ? order : x->line < y->line ? -1 : 1;
}

/* Of all lines about a serial one is left: what is known of it, as the last ones have it. */
static void merge(struct index *x)
{
	size_t n = 0;

	qsort(x->entries, x->n, sizeof *x->entries, compare);
	for (size_t i = 0; i < x->n; i++) {
		struct index_entry e = x->entries[i], *last = n ? &x->entries[n - 1] : NULL;
		if (!last || strcmp(last->serial, e.serial) != 0) {
			x->entries[n++] = e;
			continue;
		}
		last->since_s = e.since_s;
		last->reason = e.reason;
		if (e.subject && (e.not_after_s || !last->not_after_s)) {
			last->subject = e.subject;
			last->not_after_s = e.not_after_s;
		}
	}
	x->n = n;
}

/* false: it is that of another CA */
static bool parse(struct index *x, const char *key)
{
	const char *fields[FIELDS];
	char *at = x->text;
	unsigned line = 0;

	for (char *one; (one = strsep(&at, "\n"));) {
		size_t n = split(one, fields);
		if (n == 2 && strcmp(fields[0], "ca") == 0 && strcmp(fields[1], key) != 0)
			return false;
		take_line(x, fields, n, line++);
	}
	merge(x);
	return true;
}

static int read_all(struct index *x, size_t size)
{
	size_t lines = 1;

	x->text = malloc(size + 1);
	if (!x->text)
		return -ENOMEM;
	ssize_t len = ss_pread_all(x->fd, x->text, size, 0);
	if (len < 0)
		return (int)len;
	x->text[len] = '\0';
	for (const char *at = x->text; (at = strchr(at, '\n')); at++)
		lines++;
	x->entries = calloc(lines, sizeof *x->entries);
	return x->entries ? 0 : -ENOMEM;
}

/* ---- opening ---- */

static int set_path(struct index *x, const char *ca_path, struct fault *f)
{
	static const char *const ends[] = {".crt", ".pem", ".cer"};
	size_t len = strlen(ca_path);

	for (size_t i = 0; i < 3; i++)
		if (len > 4 && strcmp(ca_path + len - 4, ends[i]) == 0 && ca_path[len - 5] != '/') {
			len -= 4;
			break;
		}
	return snprintf(x->path, sizeof x->path, "%.*s.index", (int)len, ca_path) < (int)sizeof x->path - 8
		       ? 0
		       : refuse(f, "%s: the name is too long", ca_path);
}

static int add_line(struct index *x, const char *line, size_t len, struct fault *f)
{
	int rc = ss_write_all(x->fd, line, len);

	if (rc == 0 && fdatasync(x->fd) < 0)
		rc = -errno;
	return rc ? refuse(f, "%s cannot be written: %s", x->path, strerror(-rc)) : 0;
}

__attribute__((format(printf, 3, 4))) static int add(struct index *x, struct fault *f, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof text - 4, fmt, ap);
	va_end(ap);
	if (len < 0 || len >= (int)sizeof text - 4)
		return refuse(f, "%s: a line is too long", x->path);
	memcpy(text + len, "\t.\n", 3);
	return add_line(x, text, (size_t)len + 3, f);
}

static const char *key_of(gnutls_x509_crt_t ca, char hex[65])
{
	unsigned char id[32];
	size_t len = sizeof id;

	hex[0] = '\0';
	if (gnutls_x509_crt_get_key_id(ca, GNUTLS_KEYID_USE_SHA256, id, &len) == 0)
		for (size_t i = 0; i < len; i++)
			snprintf(hex + 2 * i, 3, "%02x", id[i]);
	return hex;
}

/* -errno; to write, it is locked. */
static int open_file(struct index *x, bool write, struct stat *st)
{
	struct stat named;

	for (;;) {
		x->fd = open(x->path,
			     write ? O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW
				   : O_RDONLY | O_CLOEXEC,
			     0644);
		if (x->fd < 0 || (write && flock(x->fd, LOCK_EX) < 0) || fstat(x->fd, st) < 0)
			return -errno;
		/* while it waited for the lock another process may have moved the file away */
		if (!write ||
		    (stat(x->path, &named) == 0 && named.st_dev == st->st_dev && named.st_ino == st->st_ino))
			return 0;
		close(x->fd);
	}
}

/* Open, lock and read; *other: it belongs to another CA. */
static int open_once(struct index *x, const char *key, bool write, bool *other, struct fault *f)
{
	struct stat st;

	*other = false;
	int rc = open_file(x, write, &st);
	if (rc == -ENOENT && !write)
		return 0;
	if (rc)
		return refuse(f, "%s cannot be opened: %s", x->path, strerror(-rc));
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return refuse(f, "%s is no index of certificates", x->path);
	rc = read_all(x, (size_t)st.st_size);
	if (rc)
		return rc == -ENOMEM ? rc : refuse(f, "%s cannot be read: %s", x->path, strerror(-rc));
	if (st.st_size && x->text[st.st_size - 1] != '\n' && write)
		rc = add_line(x, "\n", 1, f); /* behind what a crash left */
	*other = !parse(x, key);
	if (rc == 0 && write && st.st_size == 0)
		rc = add(x, f, "ca\t%s", key);
	return rc;
}

static void forget(struct index *x)
{
	if (x->fd >= 0)
		close(x->fd);
	x->fd = -1;
	free(x->text);
	free(x->entries);
	x->text = NULL;
	x->entries = NULL;
	x->n = 0;
	x->crl_number = 0;
}

/* Under its lock, to a name that is free: what earlier CAs have revoked is kept. */
static int move_away(const struct index *x, struct fault *f)
{
	char to[sizeof x->path + 16];

	snprintf(to, sizeof to, "%s.old", x->path);
	for (unsigned n = 2; access(to, F_OK) == 0; n++)
		snprintf(to, sizeof to, "%s.old.%u", x->path, n);
	return rename(x->path, to) == 0 ? 0
					: refuse(f, "%s is that of another CA and cannot be moved away: %s",
						 x->path, strerror(errno));
}

void index_close(struct index *x)
{
	forget(x);
}

int index_open(const char *ca_path, gnutls_x509_crt_t ca, bool write, struct index *x, struct fault *f)
{
	char key[65];
	bool other;

	*x = (struct index){.fd = -1};
	int rc = set_path(x, ca_path, f);
	if (rc == 0)
		rc = open_once(x, key_of(ca, key), write, &other, f);
	if (rc == 0 && other) {
		rc = write ? move_away(x, f) : 0;
		forget(x);
		if (rc == 0 && write)
			rc = open_once(x, key, write, &other, f);
	}
	if (rc)
		forget(x);
	return rc;
}

const struct index_entry *index_find(const struct index *x, const char *serial)
{
	size_t low = 0, high = x->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(x->entries[middle].serial, serial);
		if (order == 0)
			return &x->entries[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* ---- adding ---- */

int index_record(const char *ca_path, gnutls_x509_crt_t ca, gnutls_x509_crt_t issued, struct fault *f)
{
	char serial[SERIAL_HEX], end[40], subject[256];
	struct index x;
	int rc = index_open(ca_path, ca, true, &x, f);

	if (rc)
		return rc;
	rc = add(&x, f, "issued\t%s\t%s\t%s", certificate_serial(issued, serial),
		 ss_format_time(gnutls_x509_crt_get_expiration_time(issued), end, sizeof end),
		 certificate_subject(issued, subject));
	index_close(&x);
	return rc;
}

int index_revoke(struct index *x, const struct index_entry *e, int64_t now, const char *reason,
		 struct fault *f)
{
	char when[40], end[40] = "-";

	if (e->not_after_s)
		ss_format_time(e->not_after_s, end, sizeof end);
	return add(x, f, "revoked\t%s\t%s\t%s\t%s\t%s", e->serial, ss_format_time(now, when, sizeof when),
		   reason, end, e->subject ? e->subject : "");
}

int index_reinstate(struct index *x, const char *serial, struct fault *f)
{
	char when[40];

	return add(x, f, "reinstated\t%s\t%s", serial, ss_format_time(time(NULL), when, sizeof when));
}

int index_number(struct index *x, uint64_t number, struct fault *f)
{
	char when[40];

	return add(x, f, "crl\t%" PRIu64 "\t%s", number, ss_format_time(time(NULL), when, sizeof when));
}
