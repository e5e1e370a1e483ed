/* SPDX-License-Identifier: MIT */
/* hidden - see hidden.h. */
#include "core/admin/hidden.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/host_name.h>
#include <semstreams/base/strbuf.h>

#define WHOLE_WORD 8  /* shorter values are hidden only where they stand alone */
#define CUT_FROM   16 /* bytes of a value's beginning that are hidden where a text was cut behind them */

struct value {
	char *bytes, *shown;
	size_t len;
};

static struct {
	pthread_mutex_t lock;
	atomic_size_t n;
	struct value *values;
} hidden = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void value_done(struct value *v)
{
	if (v->bytes)
		explicit_bzero(v->bytes, v->len);
	free(v->bytes);
	free(v->shown);
}

/* [lock] */
static int add_one(const char *bytes, size_t len, const char *shown)
{
	size_t n = atomic_load(&hidden.n);

	if (len < HIDDEN_MIN)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (hidden.values[i].len == len && memcmp(hidden.values[i].bytes, bytes, len) == 0)
			return 0;
	struct value *values = realloc(hidden.values, (n + 1) * sizeof *values);
	if (!values)
		return -ENOMEM;
	hidden.values = values;
	struct value v = {.bytes = strndup(bytes, len), .shown = strdup(shown), .len = len};
	for (char *c = v.shown; c && *c; c++) /* it may come to stand inside of quotes */
		if (*c == '"' || *c == '\\')
			*c = '?';
	if (!v.bytes || !v.shown) {
		value_done(&v);
		return -ENOMEM;
	}
	values[n] = v;
	atomic_store(&hidden.n, n + 1);
	return 0;
}

/* [lock] As it stands in quotes, where that differs. */
static int add_quoted(const char *bytes, size_t len, const char *shown)
{
	struct ss_strbuf text = {.secret = true};

	ss_strbuf_json(&text, bytes, len);
	int rc = text.failed ? -ENOMEM : add_one(text.bytes + 1, text.len - 2, shown);
	ss_strbuf_done(&text);
	return rc;
}

/* [lock] URLs are shown without their query and with their host in another form; their path stays. */
static int add_path(const char *value, const char *shown)
{
	const char *host = strstr(value, "://"), *path = host ? strchr(host + 3, '/') : NULL;

	return path ? add_one(path, strcspn(path, "?#"), shown) : 0;
}

static bool is_address(const char *s, size_t len)
{
	struct ss_host_name name;

	return ss_host_name_read(s, len, &name) >= 0 && name.address_len > 0;
}

int hidden_add(const char *value, const char *shown)
{
	static const char blanks[] = " \t\r\n";
	size_t begin = strspn(value, blanks), len = strlen(value);

	while (len > begin && strchr(blanks, value[len - 1]))
		len--;
	len -= begin;
	value += begin;
	if (is_address(value, len))
		return 0;
	pthread_mutex_lock(&hidden.lock);
	int rc = add_one(value, len, shown);
	if (rc == 0)
		rc = add_quoted(value, len, shown);
	if (rc == 0)
		rc = add_path(value, shown);
	pthread_mutex_unlock(&hidden.lock);
	return rc;
}

bool hidden_any(void)
{
	return atomic_load_explicit(&hidden.n, memory_order_relaxed) > 0;
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* How many bytes at `at` are the value's, whole or cut; 0: none. */
static size_t found(const struct value *v, const char *text, const char *at)
{
	size_t n = 0;

	while (n < v->len && at[n] == v->bytes[n])
		n++;
	/* "?..." is a URL without its query, and nothing to hide any more */
	if (n < v->len)
		return n >= CUT_FROM && (!at[n] || (strncmp(at + n, "...", 3) == 0 && at[n - 1] != '?')) ? n
													 : 0;
	if (n >= WHOLE_WORD)
		return n;
	bool before = at > text && is_word(at[-1]) && is_word(at[0]);
	return before || (is_word(at[n - 1]) && is_word(at[n])) ? 0 : n;
}

/* [lock] The longest value at this place. */
static size_t find(const char *text, const char *at, const char **shown)
{
	size_t longest = 0;

	for (size_t i = 0, n = atomic_load(&hidden.n); i < n; i++) {
		const struct value *v = &hidden.values[i];
		size_t len = *at == *v->bytes ? found(v, text, at) : 0;
		if (len > longest) {
			longest = len;
			*shown = v->shown;
		}
	}
	return longest;
}

const char *hidden_text(const char *text, char *buf, size_t size)
{
	size_t n = 0;

	pthread_mutex_lock(&hidden.lock);
	for (const char *at = text; *at && n + 1 < size;) {
		const char *shown = at;
		size_t len = find(text, at, &shown), put = len ? strlen(shown) : 1;
		if (put > size - 1 - n)
			put = size - 1 - n;
		memcpy(buf + n, shown, put);
		n += put;
		at += len ? len : 1;
	}
	pthread_mutex_unlock(&hidden.lock);
	buf[n] = '\0';
	return buf;
}

void hidden_clear(void)
{
	pthread_mutex_lock(&hidden.lock);
	size_t n = atomic_exchange(&hidden.n, 0);
	for (size_t i = 0; i < n; i++)
		value_done(&hidden.values[i]);
	free(hidden.values);
	hidden.values = NULL;
	pthread_mutex_unlock(&hidden.lock);
}
