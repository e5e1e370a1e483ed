/* SPDX-License-Identifier: MIT */
/* fields: random documents, right and damaged, against Jansson.  The same ones in every run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"
#include "sdk/test-host/tests/json_jansson.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { DOCUMENTS = 150000, MAX_TEXT = 20000, MAX_PATHS = 8 };

static uint64_t random_state = 88172645463325252u;

/* 0 to n - 1; xorshift64* */
static unsigned pick(unsigned n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned)((random_state * UINT64_C(2685821657736338717) >> 32) * n >> 32);
}

struct text {
	char bytes[MAX_TEXT];
	size_t len;
	int values; /* how many more it may get */
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	const int n = vsnprintf(t->bytes + t->len, sizeof t->bytes - t->len, format, ap);
	va_end(ap);
	assert_true(n >= 0 && (size_t)n < sizeof t->bytes - t->len);
	t->len += (size_t)n;
}

static void add_blanks(struct text *t)
{
	if (pick(4))
		return;
	for (unsigned n = pick(20) ? pick(4) : pick(100); n; n--)
		add(t, "%c", " \t\n\r"[pick(4)]);
}

static void add_utf8(struct text *t, unsigned c)
{
	if (c < 0x80)
		add(t, "%c", (int)c);
	else if (c < 0x800)
		add(t, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 63)));
	else if (c < 0x10000)
		add(t, "%c%c%c", (int)(0xe0 | c >> 12), (int)(0x80 | (c >> 6 & 63)), (int)(0x80 | (c & 63)));
	else
		add(t, "%c%c%c%c", (int)(0xf0 | c >> 18), (int)(0x80 | (c >> 12 & 63)),
		    (int)(0x80 | (c >> 6 & 63)), (int)(0x80 | (c & 63)));
}

static void add_escaped(struct text *t, unsigned c)
{
	const char *const hex = pick(2) ? "\\u%04x" : "\\u%04X";
	/* the format is one of the two above */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	if (c >= 0x10000) {
		add(t, hex, 0xd800 + ((c - 0x10000) >> 10));
		add(t, hex, 0xdc00 + (c & 0x3ff));
	} else {
		add(t, hex, c);
	}
#pragma GCC diagnostic pop
}

static unsigned any_character(void)
{
	static const unsigned limits[] = {0x20, 0x80, 0x80, 0x80, 0x800, 0x10000, 0x110000};
	const unsigned c = pick(limits[pick(COUNT(limits))]);
	return (c >= 0xd800 && c < 0xe000) || c == 0 ? 'x' : c;
}

static void add_character(struct text *t, unsigned c)
{
	if (c < 0x20 || c == '"' || c == '\\' || pick(40) == 0)
		add_escaped(t, c);
	else
		add_utf8(t, c);
}

static void add_string(struct text *t)
{
	const bool ascii = pick(2);
	add(t, "\"");
	for (unsigned n = pick(50) ? pick(24) : pick(400); n; n--) {
		if (ascii && pick(30))
			add_utf8(t, "abcdefghijklmnopqrstuvwxyz {}[]:,"[pick(33)]);
		else if (pick(6) == 0)
			add(t, "\\%c", "\"\\/bfnrt"[pick(8)]);
		else if (pick(3000) == 0)
			add_escaped(t, pick(2) ? 0 : 0xd800 + pick(0x800));
		else
			add_character(t, any_character());
	}
	add(t, "\"");
}

static void add_digits(struct text *t, unsigned n)
{
	while (n--)
		add(t, "%u", pick(10));
}

static void add_number(struct text *t)
{
	add(t, "%s", pick(4) ? "" : "-");
	if (pick(8) == 0) {
		add(t, "0");
	} else {
		add(t, "%u", 1 + pick(9));
		add_digits(t, pick(3) ? pick(5) : pick(200) ? pick(18) : pick(60));
	}
	if (pick(3) == 0) {
		add(t, ".");
		add_digits(t, 1 + (pick(10) ? pick(6) : pick(40)));
	}
	if (pick(8) == 0) {
		add(t, "%s%s", pick(2) ? "e" : "E", pick(3) ? "" : pick(2) ? "+" : "-");
		add_digits(t, 1 + (pick(30) ? pick(2) : pick(4)));
	}
}

static const char *const names[] = {
	"a",
	"b",
	"c",
	"0",
	"1",
	"2",
	"10",
	"",
	"sensor",
	"value",
	"a.b",
	"x/y",
	"m~n",
	"\xc3\xa9",
	"\xf0\x9f\x98\x80",
	"\"\\",
	"eightlen",
	"ninebytes",
	"sixteen bytes 16",
	"seventeen bytes17",
	"a name with more than sixteen bytes",
	"a name with less than sixteen bytes",
};

static void add_name(struct text *t)
{
	const unsigned escapes = pick(8) ? 0 : 1 + pick(4);
	if (pick(6) == 0) {
		add_string(t);
		return;
	}
	add(t, "\"");
	const char *name = names[pick(pick(2) ? 6 : COUNT(names))];
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 0x80 && (escapes > pick(4) || *p == '"' || *p == '\\'))
			add_escaped(t, (unsigned)*p);
		else
			add(t, "%c", *p);
	add(t, "\"");
}

static void add_value(struct text *t, unsigned depth)
{
	const unsigned kind =
		depth >= 60 || t->values <= 0 || t->len > MAX_TEXT / 2 ? pick(5) : pick(depth ? 9 : 14);
	t->values--;
	if (kind == 0) {
		add(t, "%s", (const char *[]){"true", "false", "null"}[pick(3)]);
	} else if (kind < 3) {
		add_string(t);
	} else if (kind < 5) {
		add_number(t);
	} else {
		const bool object = kind > 6;
		add(t, "%c", object ? '{' : '[');
		for (unsigned n = pick(6), i = 0; i < n; i++) {
			add(t, "%s", i ? "," : "");
			add_blanks(t);
			if (object) {
				add_name(t);
				add_blanks(t);
				add(t, ":");
				add_blanks(t);
			}
			add_value(t, depth + 1);
			add_blanks(t);
		}
		if (t->bytes[t->len - 1] == '{' || t->bytes[t->len - 1] == '[')
			add_blanks(t);
		add(t, "%c", object ? '}' : ']');
	}
}

static void make_document(struct text *t)
{
	t->len = 0;
	t->values = 1 + (int)pick(60);
	add_blanks(t);
	if (pick(300) == 0) { /* deep, around the limit */
		const unsigned depth = 55 + pick(20);
		for (unsigned i = 0; i < depth; i++)
			add(t, "%s", pick(2) ? "[" : "{\"a\":");
		add(t, "1");
		for (size_t i = t->len; i-- > 0;)
			if (t->bytes[i] == '[' || t->bytes[i] == '{')
				add(t, "%c", t->bytes[i] == '[' ? ']' : '}');
	} else {
		add_value(t, 0);
	}
	add_blanks(t);
}

/* A few changes of the kinds that damage a document least visibly. */
static void damage(struct text *t)
{
	static const char telling[] =
		"\"\"\\\\{}[],,::0123456789-+.eEtfn u/\t\n\x01\x1f\x7f\x80\xbf\xc0\xc3\xe0\xed\xf0\xf4\xff";
	for (unsigned n = 1 + pick(3); n; n--) {
		const size_t at = t->len ? pick((unsigned)t->len) : 0;
		switch (pick(8)) {
		case 0:
			t->len = at;
			break;
		case 1:
			if (t->len)
				t->bytes[at] = (char)(t->bytes[at] ^ 1 << pick(8));
			break;
		case 2:
		case 3: /* out */
			if (t->len) {
				memmove(t->bytes + at, t->bytes + at + 1, t->len - at - 1);
				t->len--;
			}
			break;
		case 4:
		case 5: /* in */
			memmove(t->bytes + at + 1, t->bytes + at, t->len - at);
			t->len++;
			t->bytes[at] = telling[pick(sizeof telling)];
			break;
		case 6:
			if (t->len)
				t->bytes[at] = telling[pick(sizeof telling)];
			break;
		default: /* a piece once more */
			if (t->len > 1) {
				const size_t from = pick((unsigned)t->len),
					     size = 1 + pick((unsigned)(t->len - from));
				if (t->len + size < MAX_TEXT) {
					memmove(t->bytes + at + size, t->bytes + at, t->len - at);
					memmove(t->bytes + at, t->bytes + from, size);
					t->len += size;
				}
			}
		}
	}
}

/* A path of names from the list, as a pointer or, where that says the same, dotted. */
static void make_path(struct fields_path *path)
{
	bool dotted = pick(2);
	path->n = pick(20) ? 1 + pick(4) : 0;
	for (unsigned i = 0; i < path->n; i++) {
		path->name[i] = names[pick(pick(3) ? 6 : COUNT(names))];
		dotted = dotted && *path->name[i] && !strchr(path->name[i], '.') && *path->name[0] != '/';
	}
	char *at = path->text;
	for (unsigned i = 0; i < path->n; i++) {
		if (i || !dotted)
			*at++ = dotted ? '.' : '/';
		for (const char *p = path->name[i]; *p; p++) {
			if (!dotted && (*p == '~' || *p == '/')) {
				*at++ = '~';
				*at++ = *p == '~' ? '0' : '1';
			} else {
				*at++ = *p;
			}
		}
	}
	*at = '\0';
}

static struct ss_reader *make_reader(struct fields_path *paths, unsigned n)
{
	struct ss_reader *reader;
	const char *texts[MAX_PATHS];
	for (unsigned i = 0; i < n; i++) {
		make_path(&paths[i]);
		texts[i] = paths[i].text;
	}
	assert_int_equal(fields_service.compile(NULL, texts, n, &reader, NULL), 0);
	return reader;
}

static void test_random(void **state)
{
	(void)state;
	static struct text text;
	unsigned right = 0, damaged_right = 0, found = 0;
	for (unsigned i = 0; i < DOCUMENTS; i++) {
		struct fields_path paths[MAX_PATHS];
		const unsigned n = pick(MAX_PATHS + 1);
		struct ss_reader *reader = make_reader(paths, n);
		make_document(&text);
		/* a block of just this size, so that a sanitizer sees what is read behind it */
		for (unsigned damages = 0; damages < 3; damages++) {
			char *copy = malloc(text.len);
			assert_true(copy || text.len == 0);
			memcpy(copy, text.bytes, text.len);
			const bool good = compare_with_jansson(&fields_service, reader, paths, n, copy,
							       text.len, &found);
			*(damages ? &damaged_right : &right) += good;
			free(copy);
			damage(&text);
		}
		fields_service.free(NULL, reader);
	}
	print_message("%u right, %u still right after damage, %u values found\n", right, damaged_right,
		      found);
	assert_true(right > DOCUMENTS / 10 * 9);
	assert_true(damaged_right > DOCUMENTS / 10);
	assert_true(found > DOCUMENTS / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
	return cmocka_run_group_tests_name("fields_random", tests, NULL, NULL);
}
