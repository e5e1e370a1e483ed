/* SPDX-License-Identifier: MIT */
/* fields: which texts are JSON, what is found where, test_fields_random.c goes on
 * at random. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"
#include "core/fields/fields_block.h"
#include "sdk/test-host/tests/json_documents.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct ss_fields *const fields = &fields_service;

/* ---- counting allocations --------------------------------------------------------------------------- */

static unsigned long n_allocations;

#if !defined __has_feature
#define __has_feature(feature) 0
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer)
#define COUNTS_ALLOCATIONS 1
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
					      void (*)(const volatile void *));
static void allocated(const volatile void *p, size_t size)
{
	(void)p;
	(void)size;
	n_allocations++;
}
static void freed(const volatile void *p)
{
	(void)p;
}
static void count_allocations(void)
{
	__sanitizer_install_malloc_and_free_hooks(allocated, freed);
}
#elif defined __GLIBC__ && !defined __SANITIZE_THREAD__
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
__attribute__((visibility("default"))) void *malloc(size_t size)
{
	n_allocations++;
	return __libc_malloc(size);
}
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
	n_allocations++;
	return __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	n_allocations++;
	return __libc_realloc(p, size);
}
static void count_allocations(void)
{
}
#else
#define COUNTS_ALLOCATIONS 0
static void count_allocations(void)
{
}
#endif

/* ---- helpers ---------------------------------------------------------------------------------------- */

static struct ss_reader *compile(const char *const *paths, uint32_t n)
{
	struct ss_reader *reader = NULL;
	assert_int_equal(fields->compile(NULL, paths, n, &reader, NULL), 0);
	return reader;
}

/* Two pages that may be read between two that may not. */
struct pages {
	char *all, *end;
	size_t page;
};

static struct pages pages_map(void)
{
	struct pages m = {.page = (size_t)sysconf(_SC_PAGESIZE)};
	m.all = mmap(NULL, 4 * m.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m.all != MAP_FAILED);
	assert_int_equal(mprotect(m.all + m.page, 2 * m.page, PROT_READ | PROT_WRITE), 0);
	m.end = m.all + 3 * m.page;
	return m;
}

static void pages_unmap(struct pages m)
{
	munmap(m.all, 4 * m.page);
}

/* A copy that ends where the page ends. */
static const char *at_end(struct pages m, const char *text, size_t len)
{
	return len ? memcpy(m.end - len, text, len) : m.end;
}

static const char *at_begin(struct pages m, const char *text, size_t len)
{
	return len ? memcpy(m.all + m.page, text, len) : m.all + m.page;
}

/* Read and check result and offset: wrong is -1 for a JSON text. */
static void check_read(const struct ss_reader *reader, const char *json, size_t len, ptrdiff_t wrong,
		       struct ss_field *out)
{
	size_t where = 4711;
	int rc = fields->read(NULL, reader, json, len, out, &where);
	if (rc != (wrong < 0 ? 0 : -EINVAL) || (wrong >= 0 && where != (size_t)wrong))
		fail_msg("%.*s: %d at %zu, expected %td", (int)len, json, rc, where, wrong);
}

/* ---- bytes at once ---------------------------------------------------------------------------------- */

static void test_blocks(void **state)
{
	(void)state;
	static const char telling[] = "\"\\,]}[{|^Z \t\n\r!+09./:\x01\x1f\x20\x2f\x3a\x7f\x80\xff";
	uint64_t random = 88172645463325252u;
	for (unsigned round = 0; round < 200000; round++) {
		uint8_t block[16];
		uint32_t special = 0, end = 0, digits = 0, points = 0, blanks = 0;
		for (unsigned i = 0; i < 16; i++) {
			random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			const uint8_t any = (uint8_t)(random >> 56);
			const uint8_t c = random >> 40 & 1 ? any : (uint8_t)telling[any % sizeof telling];
			block[i] = c;
			special |= (uint32_t)(c == '"' || c == '\\' || c < 0x20 || c >= 0x80) << i;
			end |= (uint32_t)(c == ',' || c == ']' || c == '}' || c <= ' ') << i;
			digits |= (uint32_t)(c >= '0' && c <= '9') << i;
			points |= (uint32_t)(c == '.') << i;
			blanks |= (uint32_t)(c == ' ' || c == '\t' || c == '\n' || c == '\r') << i;
		}
		uint32_t found_special, found_end, found_points;
		find_marks(block, &found_special, &found_end);
		assert_int_equal(found_special, special);
		assert_int_equal(found_end, end);
		assert_int_equal(find_digits(block, &found_points), digits);
		assert_int_equal(found_points, points);
		assert_int_equal(find_blanks(block), blanks);
	}
}

/* ---- what is JSON ----------------------------------------------------------------------------------- */

static const char *const spread[] = {"", "a", "a.b", "b.1", "/0", "/1/0", "/\"", "a.0"};

static void test_documents(void **state)
{
	(void)state;
	struct pages m = pages_map();
	struct ss_reader *whole = compile((const char *[]){""}, 1), *some = compile(spread, COUNT(spread));
	struct ss_field out[COUNT(spread)];
	assert_true(COUNT(documents) >= 250);
	for (size_t i = 0; i < COUNT(documents); i++) {
		const struct document *d = &documents[i];
		check_read(whole, at_end(m, d->text, d->len), d->len, d->wrong, out);
		check_read(whole, at_begin(m, d->text, d->len), d->len, d->wrong, out);
		check_read(some, at_end(m, d->text, d->len), d->len, d->wrong, out);
	}
	fields->free(NULL, whole);
	fields->free(NULL, some);
	pages_unmap(m);
}

/* The same behind and inside something longer, so that every byte once lies at every distance from the end.
 */
static void test_documents_inside(void **state)
{
	(void)state;
	struct pages m = pages_map();
	struct ss_reader *whole = compile((const char *[]){""}, 1), *some = compile(spread, COUNT(spread));
	struct ss_field out[COUNT(spread)];
	static char text[4096];
	for (size_t i = 0; i < COUNT(documents); i++) {
		const struct document *d = &documents[i];
		for (size_t before = 200; before < 360; before += 1 + i % 7) {
			memset(text, ' ', before);
			memcpy(text + before, d->text, d->len);
			const ptrdiff_t wrong = d->wrong < 0 ? -1 : d->wrong + (ptrdiff_t)before;
			check_read(whole, at_end(m, text, before + d->len), before + d->len, wrong, out);
			if (wrong >= 0)
				continue;
			const size_t len = before + d->len, after = before % 90;
			memset(text + len, '\n', after);
			check_read(some, at_end(m, text, len + after), len + after, wrong, out);
			/* in a string's place, with quotes before it that mean nothing */
			memset(text, 'x', before);
			memcpy(text, "[\"", 2);
			memcpy(text + before - 2, "\",", 2);
			text[len] = ']';
			check_read(some, at_end(m, text, len + 1), len + 1, -1, out);
		}
	}
	fields->free(NULL, whole);
	fields->free(NULL, some);
	pages_unmap(m);
}

static void test_depth(void **state)
{
	(void)state;
	static const struct {
		const char *open, *inner, *close;
	} forms[] = {{"[", "0", "]"}, {"{\"a\":", "0", "}"}, {"[", "", "]"}, {"{\"b\":[", "{}", "]}"}};
	const char *const deep[] = {
		"/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"
		"/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
		"/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"
		"/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"};
	struct ss_reader *readers[] = {compile((const char *[]){"b"}, 1), compile(deep, 2)};
	struct ss_field out[2];
	for (size_t i = 0; i < COUNT(forms) * 2; i++) {
		const size_t form = i / 2, each = form == 3 ? 2 : 1;
		for (size_t depth = 2; depth < 200; depth += 2) {
			char text[4096] = "";
			for (size_t k = 0; k < depth; k += each)
				strcat(text, forms[form].open);
			strcat(text, forms[form].inner);
			for (size_t k = 0; k < depth; k += each)
				strcat(text, forms[form].close);
			const size_t levels = depth + (form == 3);
			size_t where = 0;
			int rc = fields->read(NULL, readers[i % 2], text, strlen(text), out, &where);
			assert_int_equal(rc, levels > FIELDS_MAX_DEPTH ? -ELOOP : 0);
			if (rc == 0)
				continue;
			/* the bracket that goes too deep */
			size_t brackets = 0, at = 0;
			for (; brackets <= FIELDS_MAX_DEPTH; at++)
				brackets += text[at] == '[' || text[at] == '{';
			assert_int_equal(where, at - 1);
		}
	}
	fields->free(NULL, readers[0]);
	fields->free(NULL, readers[1]);
}

/* Many brackets that close at the very end, behind strings that end at every distance from it. */
static void test_closing(void **state)
{
	(void)state;
	enum { DEPTH = FIELDS_MAX_DEPTH, BEFORE = 300 };
	struct pages m = pages_map();
	struct ss_reader *whole = compile((const char *[]){""}, 1);
	struct ss_reader *some = compile((const char *[]){"b", "0.0"}, 2);
	struct ss_field out[2];
	for (size_t length = 0; length < 140; length++)
		for (size_t pad = 0; pad < 128; pad++) {
			char text[1024];
			size_t len = BEFORE + pad;
			memset(text, ' ', len);
			for (size_t i = 0; i < DEPTH; i++)
				text[len++] = '[';
			text[len++] = '"';
			memset(text + len, 'x', length);
			len += length;
			text[len++] = '"';
			for (size_t i = 0; i < DEPTH; i++) {
				if (pad % 2) /* one blank each is taken without a call */
					text[len++] = ' ';
				text[len++] = ']';
			}
			check_read(some, at_end(m, text, len), len, -1, out);
			check_read(some, at_end(m, text, len - 1), len - 1, (ptrdiff_t)len - 1, out);
			check_read(whole, at_end(m, text, len - 1), len - 1, (ptrdiff_t)len - 1, out);
		}
	fields->free(NULL, whole);
	fields->free(NULL, some);
	pages_unmap(m);
}

static void test_too_long(void **state)
{
	(void)state;
#if SIZE_MAX > UINT32_MAX
	struct ss_reader *whole = compile((const char *[]){""}, 1);
	struct ss_field out;
	check_read(whole, "1", (size_t)UINT32_MAX + 1, UINT32_MAX, &out); /* refused without a look */
	fields->free(NULL, whole);
#else
	skip();
#endif
}

/* A document cut off anywhere is wrong where it ends, and nothing behind the end is read. */
static void test_truncated(void **state)
{
	(void)state;
	static const char small[] =
		"{\"seq\":123456,\"sensor\":\"temperature\",\"location\":\"a\",\"value\":72.5,"
		"\"ts\":1763892000123}";
	static const char large[] =
		"{\"seq\": 123456,\r\n\t\"sensor\":\"temp\\u0065rature "
		"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\",\"value\":"
		"-72.5e-10,\"list\":[1,22,333,4444.5,true,false,null,[],{},[[]],{\"a\":{\"b\":\"c\"}}],"
		"\"text\":\"Lorem ipsum dolor sit amet, consetetur sadipscing elitr, \\\"sed\\\" diam "
		"nonumy\","
		"\"\\ud83d\\ude00\":[\"\",\"\\\\\",\"a\"],      "
		"\"a\":[[0.1234567890123456789],1e10,123456789012345678],"
		"\"end\":{\"x\":{\"y\":{\"z\":[1,2,3,\"abcdefghijklmnopqrstuvwxyz0123456789\"]}}}}";
	const struct {
		const char *text;
		size_t len;
	} texts[] = {{small, sizeof small - 1}, {large, sizeof large - 1}};
	static const char *const paths[] = {
		"sensor", "value", "list.10.a", "end.x.y.z.3", "/\xf0\x9f\x98\x80/1", ""};
	struct ss_reader *reader = compile(paths, COUNT(paths));
	struct ss_field out[COUNT(paths)];
	struct pages m = pages_map();
	for (size_t i = 0; i < COUNT(texts); i++)
		for (size_t pad = 0; pad < 300; pad += 23) {
			char text[2048];
			memset(text, ' ', pad);
			memcpy(text + pad, texts[i].text, texts[i].len);
			const size_t all = pad + texts[i].len;
			for (size_t len = 0; len <= all; len++) {
				const ptrdiff_t wrong = len == all ? -1 : (ptrdiff_t)len;
				check_read(reader, at_end(m, text, len), len, wrong, out);
				check_read(reader, at_begin(m, text, len), len, wrong, out);
			}
		}
	fields->free(NULL, reader);
	pages_unmap(m);
}

/* ---- what is found ---------------------------------------------------------------------------------- */

struct lookup {
	const char *path;
	int type;
	const char *text; /* as it stands in the document, strings without quotes */
};

#define MAX_LOOKUPS 64

static void check_lookups(const char *json, const struct lookup *lookups, size_t n)
{
	const char *paths[MAX_LOOKUPS];
	struct ss_field out[MAX_LOOKUPS];
	assert_true(n <= MAX_LOOKUPS);
	for (size_t i = 0; i < n; i++)
		paths[i] = lookups[i].path;
	for (size_t from = 0; from <= n; from++) { /* all together, then each alone */
		const size_t first = from ? from - 1 : 0, k = from ? 1 : n;
		struct ss_reader *reader = compile(paths + first, (uint32_t)k);
		check_read(reader, json, strlen(json), -1, out);
		for (size_t i = 0; i < k; i++) {
			const struct lookup *want = &lookups[first + i];
			const size_t len = want->text ? strlen(want->text) : 0;
			if (out[i].type != want->type || out[i].len != len ||
			    (len && memcmp(out[i].text, want->text, len) != 0))
				fail_msg("%s in %s: type %u, \"%.*s\"", want->path, json, out[i].type,
					 (int)out[i].len, out[i].len ? out[i].text : "");
			assert_true(want->type == SS_JSON_MISSING
					    ? !out[i].text
					    : out[i].text >= json &&
						      out[i].text + len <= json + strlen(json));
		}
		fields->free(NULL, reader);
	}
}
#define LOOKUPS(json, ...)                                                                                   \
	check_lookups(json, (const struct lookup[]){__VA_ARGS__},                                            \
		      COUNT(((const struct lookup[]){__VA_ARGS__})))

static void test_lookups(void **state)
{
	(void)state;
	LOOKUPS("{\"a\":{\"b\":1,\"c\":[10,{\"d\":\"x\"}]},\"n\":null,\"t\":true,\"f\":false,\"s\":\"\"}",
		{"a", SS_JSON_OBJECT, "{\"b\":1,\"c\":[10,{\"d\":\"x\"}]}"}, {"a.b", SS_JSON_NUMBER, "1"},
		{"/a/b", SS_JSON_NUMBER, "1"}, {"a.c", SS_JSON_ARRAY, "[10,{\"d\":\"x\"}]"},
		{"a.c.0", SS_JSON_NUMBER, "10"}, {"a.c.1.d", SS_JSON_STRING, "x"},
		{"/a/c/1/d", SS_JSON_STRING, "x"}, {"a.c.2", SS_JSON_MISSING, NULL},
		{"a.c.01", SS_JSON_MISSING, NULL}, {"/a/c/-", SS_JSON_MISSING, NULL},
		{"a.c.d", SS_JSON_MISSING, NULL}, {"n", SS_JSON_NULL, "null"}, {"t", SS_JSON_TRUE, "true"},
		{"f", SS_JSON_FALSE, "false"}, {"s", SS_JSON_STRING, ""}, {"b", SS_JSON_MISSING, NULL},
		{"n.x", SS_JSON_MISSING, NULL}, {"s.0", SS_JSON_MISSING, NULL},
		{"a.b.c", SS_JSON_MISSING, NULL},
		{"", SS_JSON_OBJECT,
		 "{\"a\":{\"b\":1,\"c\":[10,{\"d\":\"x\"}]},\"n\":null,\"t\":true,\"f\":false,\"s\":\"\"}"});
	LOOKUPS("  [1,[2,3],{\"0\":4}]\n", {"", SS_JSON_ARRAY, "[1,[2,3],{\"0\":4}]"},
		{"0", SS_JSON_NUMBER, "1"}, {"1.0", SS_JSON_NUMBER, "2"}, {"/1/1", SS_JSON_NUMBER, "3"},
		{"2.0", SS_JSON_NUMBER, "4"}, {"1", SS_JSON_ARRAY, "[2,3]"},
		{"4294967295", SS_JSON_MISSING, NULL}, {"4294967296", SS_JSON_MISSING, NULL},
		{"/00", SS_JSON_MISSING, NULL}, {"+1", SS_JSON_MISSING, NULL});
	LOOKUPS("\"x\\ny\"", {"", SS_JSON_STRING, "x\\ny"}, {"a", SS_JSON_MISSING, NULL},
		{"/", SS_JSON_MISSING, NULL});
	LOOKUPS(" -1.5e3 ", {"", SS_JSON_NUMBER, "-1.5e3"});
	/* pointers with odd names (RFC 6901 section 5) */
	LOOKUPS("{\"foo\":[\"bar\",\"baz\"],\"\":0,\"a/"
		"b\":1,\"c%d\":2,\"e^f\":3,\"g|h\":4,\"i\\\\j\":5,\"k\\\"l\":6,"
		"\" \":7,\"m~n\":8,\"~1\":9,\"a.b\":10}",
		{"/foo", SS_JSON_ARRAY, "[\"bar\",\"baz\"]"}, {"/foo/0", SS_JSON_STRING, "bar"},
		{"/", SS_JSON_NUMBER, "0"}, {"/a~1b", SS_JSON_NUMBER, "1"}, {"/c%d", SS_JSON_NUMBER, "2"},
		{"/e^f", SS_JSON_NUMBER, "3"}, {"/g|h", SS_JSON_NUMBER, "4"}, {"/i\\j", SS_JSON_NUMBER, "5"},
		{"/k\"l", SS_JSON_NUMBER, "6"}, {"/ ", SS_JSON_NUMBER, "7"}, {"/m~0n", SS_JSON_NUMBER, "8"},
		{"/~01", SS_JSON_NUMBER, "9"}, {"/a.b", SS_JSON_NUMBER, "10"}, {"a.b", SS_JSON_MISSING, NULL},
		{"foo.1", SS_JSON_STRING, "baz"}, {" ", SS_JSON_NUMBER, "7"}, {"//", SS_JSON_MISSING, NULL});
	LOOKUPS("{\"\":{\"\":{\"\":1}}}", {"///", SS_JSON_NUMBER, "1"}, {"//", SS_JSON_OBJECT, "{\"\":1}"});
}

static void test_duplicates(void **state)
{
	(void)state;
	LOOKUPS("{\"a\":1,\"a\":\"two\"}", {"a", SS_JSON_STRING, "two"});
	LOOKUPS("{\"a\":{\"b\":1},\"a\":{\"c\":2}}", {"a", SS_JSON_OBJECT, "{\"c\":2}"},
		{"a.b", SS_JSON_MISSING, NULL}, {"a.c", SS_JSON_NUMBER, "2"});
	LOOKUPS("{\"a\":{\"b\":{\"c\":1}},\"a\":5}", {"a", SS_JSON_NUMBER, "5"},
		{"a.b", SS_JSON_MISSING, NULL}, {"a.b.c", SS_JSON_MISSING, NULL});
	LOOKUPS("{\"a\":[1,2,3],\"a\":[4]}", {"a.0", SS_JSON_NUMBER, "4"}, {"a.2", SS_JSON_MISSING, NULL});
	LOOKUPS("{\"a\":{\"b\":1,\"b\":2},\"\\u0061\":{\"b\":3,\"\\u0062\":4}}", {"a.b", SS_JSON_NUMBER, "4"},
		{"a", SS_JSON_OBJECT, "{\"b\":3,\"\\u0062\":4}"});
	LOOKUPS("[{\"x\":1},{\"x\":1,\"x\":2}]", {"0.x", SS_JSON_NUMBER, "1"}, {"1.x", SS_JSON_NUMBER, "2"});
}

static void test_names(void **state)
{
	(void)state;
	LOOKUPS("{\"\\u0061\":1,\"\\u00e9\":2,\"\\ud83d\\ude00\":3,\"a\\/"
		"b\":4,\"x\\u0000\":5,\"\\ud800\":6,\"\\t\":7,"
		"\"\\\"\\\\\":8,\"\xc3\xbc\":9}",
		{"a", SS_JSON_NUMBER, "1"}, {"\xc3\xa9", SS_JSON_NUMBER, "2"},
		{"\xf0\x9f\x98\x80", SS_JSON_NUMBER, "3"}, {"/a~1b", SS_JSON_NUMBER, "4"},
		{"x", SS_JSON_MISSING, NULL}, {"\xef\xbf\xbd", SS_JSON_NUMBER, "6"},
		{"\t", SS_JSON_NUMBER, "7"}, {"\"\\", SS_JSON_NUMBER, "8"}, {"\xc3\xbc", SS_JSON_NUMBER, "9"},
		{"\\u0061", SS_JSON_MISSING, NULL}, {"\xc3", SS_JSON_MISSING, NULL});
	/* names that differ in one byte only, of every length and near the end of the document */
	for (size_t len = 1; len < 80; len++)
		for (size_t at = 0; at < len; at++) {
			char json[512], name[80];
			memset(name, 'n', len);
			name[len] = '\0';
			snprintf(json, sizeof json, "{\"%s\":1,\"%.*s?%s\":2,\"%sn\":3,\"%s\":4}", name,
				 (int)at, name, name + at + 1, name, name + 1);
			char other[80];
			memcpy(other, name, len + 1);
			other[at] = '?';
			LOOKUPS(json, {name, SS_JSON_NUMBER, "1"}, {other, SS_JSON_NUMBER, "2"});
		}
	LOOKUPS("{\"n\":1}", {"n", SS_JSON_NUMBER, "1"}, {"nn", SS_JSON_MISSING, NULL});
	LOOKUPS("{\"abcdefg\":1}", {"abcdefg", SS_JSON_NUMBER, "1"}, {"abcdef", SS_JSON_MISSING, NULL});
}

/* Many paths at once, also beside and below each other and several times the same. */
static void test_many(void **state)
{
	(void)state;
	enum { MEMBERS = 3000 };
	static char names[MEMBERS * 2][24];
	static const char *paths[MEMBERS * 2];
	static struct ss_field out[MEMBERS * 2];
	char *json = malloc(MEMBERS * 40);
	assert_non_null(json);
	size_t len = 0;
	for (unsigned i = 0; i < MEMBERS; i++) {
		snprintf(names[i], sizeof names[i], "sensor_value_%u", i * 7919 % MEMBERS);
		snprintf(names[MEMBERS + i], sizeof names[i], "sensor_value_%u.%s", i, i % 3 ? "v" : "w");
		paths[i] = names[i];
		paths[MEMBERS + i] = names[MEMBERS + i];
		len += (size_t)sprintf(json + len, "%c\"sensor_value_%u\":{\"v\":%u}", i ? ',' : '{', i, i);
	}
	json[len++] = '}';
	struct ss_reader *reader = compile(paths, MEMBERS * 2);
	check_read(reader, json, len, -1, out);
	for (unsigned i = 0; i < MEMBERS; i++) {
		int64_t value;
		char text[32];
		int n = snprintf(text, sizeof text, "{\"v\":%u}", i * 7919 % MEMBERS);
		assert_int_equal(out[i].len, n);
		assert_memory_equal(out[i].text, text, n);
		assert_int_equal(out[MEMBERS + i].type, i % 3 ? SS_JSON_NUMBER : SS_JSON_MISSING);
		if (i % 3) {
			assert_int_equal(fields->integer(NULL, &out[MEMBERS + i], &value), 0);
			assert_int_equal(value, i);
		}
	}
	fields->free(NULL, reader);
	free(json);

	reader = compile((const char *[]){"a", "/a", "a", "b", "", ""}, 6);
	check_read(reader, "{\"a\":7}", 7, -1, out);
	for (unsigned i = 0; i < 3; i++)
		assert_true(out[i].type == SS_JSON_NUMBER && *out[i].text == '7');
	assert_true(out[3].type == SS_JSON_MISSING && out[4].len == 7 && out[5].len == 7);
	fields->free(NULL, reader);
	reader = compile(NULL, 0);
	check_read(reader, "[]", 2, -1, NULL);
	check_read(reader, "[", 1, 1, NULL);
	assert_int_equal(fields->read(NULL, reader, NULL, 0, NULL, NULL), -EINVAL);
	fields->free(NULL, reader);
	fields->free(NULL, NULL);
}

static void test_bad_paths(void **state)
{
	(void)state;
	static const char *const bad[] = {".",  "a.",  ".a",  "a..b",    "..",
					  "/~", "/a~", "/~2", "/a/~x/b", "/~~0"};
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct ss_reader *reader = (struct ss_reader *)&reader;
		uint32_t wrong = 99;
		assert_int_equal(
			fields->compile(NULL, (const char *[]){"a", "/b", bad[i], "/~"}, 4, &reader, &wrong),
			-EINVAL);
		assert_int_equal(wrong, 2);
		assert_ptr_equal(reader, &reader);
		assert_int_equal(fields->compile(NULL, &bad[i], 1, &reader, NULL), -EINVAL);
	}
}

/* ---- cost ------------------------------------------------------------------------------------------- */

static void test_no_allocation(void **state)
{
	(void)state;
	if (!COUNTS_ALLOCATIONS)
		skip();
	static const char *const paths[] = {"", "a", "a.b", "b.1", "/0", "/1/0", "/\"", "a.0"};
	struct ss_reader *reader = compile(paths, COUNT(paths));
	assert_true(n_allocations > 0); /* the counter works */
	static char large[20000];
	memset(large, '1', sizeof large);
	const unsigned long before = n_allocations;
	unsigned long values = 0;
	for (size_t i = 0; i < COUNT(documents); i++) {
		struct ss_field out[COUNT(paths)];
		double real;
		int64_t integer;
		char text[64];
		if (fields->read(NULL, reader, documents[i].text, documents[i].len, out, NULL))
			continue;
		for (size_t k = 0; k < COUNT(paths); k++) {
			values += fields->number(NULL, &out[k], &real) == 0;
			values += fields->integer(NULL, &out[k], &integer) == 0;
			values += fields->unescape(NULL, &out[k], text, sizeof text) >= 0;
		}
	}
	struct ss_field f = {large, sizeof large, SS_JSON_NUMBER, 0};
	double real;
	assert_int_equal(fields->number(NULL, &f, &real), -ERANGE);
	f.len = 300;
	assert_int_equal(fields->number(NULL, &f, &real), 0);
	assert_int_equal(n_allocations, before);
	assert_true(values > 100);
	fields->free(NULL, reader);
}

int main(void)
{
	count_allocations();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_documents_inside),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_closing),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_lookups),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_no_allocation),
	};
	return cmocka_run_group_tests_name("fields", tests, NULL, NULL);
}
