/* SPDX-License-Identifier: MIT */
/* Tests of names made from attributes: none leads anywhere else, and no two sets share one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/storage/route.h"

static struct ss_attributes set_of(uint32_t which, const char *text, size_t len)
{
	struct ss_attributes a = {.struct_size = sizeof a,
				  .flags = SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED};
	a.values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)len};
	return a;
}

/* The name for one value, dates as of 2025-11-16. */
static const char *name_of(const char *pattern, uint32_t which, const char *text, size_t len)
{
	static char rel[REL_MAX];
	char key[KEY_MAX], why[WHY_MAX];
	struct route r;
	struct ss_attributes a = set_of(which, text, len);
	if (route_parse(&r, pattern, why) < 0)
		fail_msg("%s: %s", pattern, why);
	route_key(&r, &a, key);
	assert_int_equal(path_render(key, 1763290800, rel), 0);
	return rel;
}

#define PEER(text) name_of("{peer}.jsonl", SS_ATTR_PEER, text, sizeof text - 1)

static void test_values(void **state)
{
	(void)state;
	assert_string_equal(PEER("edge-07.example.org"), "edge-07.example.org.jsonl");
	assert_string_equal(PEER("Anna_B+x=1,2@a:b"), "Anna_B+x=1,2@a:b.jsonl");
	assert_string_equal(PEER("a/b"), "a%2Fb.jsonl");
	assert_string_equal(PEER("/etc/passwd"), "%2Fetc%2Fpasswd.jsonl");
	assert_string_equal(PEER(".."), "%2E..jsonl");
	assert_string_equal(PEER("."), "%2E.jsonl");
	assert_string_equal(PEER("../../x"), "%2E.%2F..%2Fx.jsonl");
	assert_string_equal(PEER(".test.commit"), "%2Etest.commit.jsonl");
	assert_string_equal(PEER("-rf"), "%2Drf.jsonl");
	assert_string_equal(PEER("a\0b"), "a%00b.jsonl");
	assert_string_equal(PEER("a\nb\x7f\x1b"), "a%0Ab%7F%1B.jsonl");
	assert_string_equal(PEER("%2E"), "%252E.jsonl");
	assert_string_equal(PEER("%Y"), "%25Y.jsonl");
	assert_string_equal(PEER("%none"), "%25none.jsonl");
	assert_string_equal(PEER("{origin}"), "%7Borigin%7D.jsonl");
	assert_string_equal(PEER("caf\xc3\xa9 x"), "caf%C3%A9%20x.jsonl");
	assert_string_equal(PEER(""), "%none.jsonl");
	assert_string_equal(name_of("%Y/{peer}/%m-%d.jsonl", SS_ATTR_PEER, "%d", 2), "2025/%25d/11-16.jsonl");
	assert_string_equal(name_of("{peer}.jsonl", SS_ATTR_ORIGIN, "x", 1), "%none.jsonl");
}

static void test_address(void **state)
{
	(void)state;
#define ADDRESS(text) name_of("{address}.log", SS_ATTR_ADDRESS, text, sizeof text - 1)
	assert_string_equal(ADDRESS("192.0.2.1:40000"), "192.0.2.1.log");
	assert_string_equal(ADDRESS("192.0.2.1"), "192.0.2.1.log");
	assert_string_equal(ADDRESS("[2001:db8::1]:40000"), "2001:db8::1.log");
	assert_string_equal(ADDRESS("[::1]:1"), "::1.log");
	assert_string_equal(ADDRESS("2001:db8::1"), "2001:db8::1.log");
	assert_string_equal(ADDRESS(":5"), ":5.log");
}

/* Whoever gives a name without a certificate gets no file of one who has it. */
static void test_unverified(void **state)
{
	(void)state;
	char key[KEY_MAX], why[WHY_MAX];
	struct route r;
	assert_int_equal(route_parse(&r, "{origin}/{peer}.{input}.jsonl", why), 0);
	struct ss_attributes a = set_of(SS_ATTR_PEER, "edge", 4);
	a.values[SS_ATTR_ORIGIN] = a.values[SS_ATTR_INPUT] = a.values[SS_ATTR_PEER];
	route_key(&r, &a, key);
	assert_string_equal(key, "edge/edge.edge.jsonl");
	a.flags = SS_ATTR_ORIGIN_VERIFIED;
	route_key(&r, &a, key);
	assert_string_equal(key, "edge/%%unverified:edge.edge.jsonl");
	a.flags = 0;
	route_key(&r, &a, key);
	assert_string_equal(key, "%%unverified:edge/%%unverified:edge.edge.jsonl");
	/* as websocket_input names a peer without a certificate; no value begins with '-' */
	a.values[SS_ATTR_PEER] = (struct ss_attribute){.text = "unverified:in", .len = 13};
	a.values[SS_ATTR_ORIGIN] = (struct ss_attribute){.text = "-in", .len = 3};
	route_key(&r, &a, key);
	assert_string_equal(key, "%%unverified:%%2Din/%%unverified-in.edge.jsonl");
	a.values[SS_ATTR_PEER] = set_of(SS_ATTR_PEER, "edge", 4).values[SS_ATTR_PEER];
	route_key(&r, NULL, key);
	assert_string_equal(key, "%%none/%%none.%%none.jsonl");
	route_other(&r, key);
	assert_string_equal(key, "%%other/%%other.%%other.jsonl");
	/* a set of another host that knows less */
	a.struct_size = offsetof(struct ss_attributes, values) + sizeof a.values[0];
	route_key(&r, &a, key);
	assert_string_equal(key, "%%none/%%unverified:edge.%%none.jsonl");
}

/* With several in one name: where one ends is never in doubt. */
static void test_several(void **state)
{
	(void)state;
	char one[KEY_MAX], other[KEY_MAX], why[WHY_MAX];
	struct route r;
	struct ss_attributes a = set_of(SS_ATTR_PEER, "a-b", 3), b = set_of(SS_ATTR_PEER, "a", 1);
	a.values[SS_ATTR_INPUT] = (struct ss_attribute){.text = "c", .len = 1};
	b.values[SS_ATTR_INPUT] = (struct ss_attribute){.text = "b-c", .len = 3};
	assert_int_equal(route_parse(&r, "{peer}-{input}.jsonl", why), 0);
	route_key(&r, &a, one);
	route_key(&r, &b, other);
	assert_string_equal(one, "a%%2Db-c.jsonl");
	assert_string_equal(other, "a-b-c.jsonl");
}

static void test_long(void **state)
{
	(void)state;
	char text[256], rel[REL_MAX];
	memset(text, 'x', sizeof text);
	assert_int_equal(strlen(name_of("{peer}.jsonl", SS_ATTR_PEER, text, 180)), 186);
	snprintf(rel, sizeof rel, "%s", name_of("{peer}.jsonl", SS_ATTR_PEER, text, 181));
	assert_int_equal(strlen(rel), 186);
	/* sha256sum of 181 x, its first half */
	assert_string_equal(rel + 146, "%~dc31ed5afb940294fdd687c69bbba2ae.jsonl");
	/* another end, another name; the same beginning */
	for (size_t len = 181; len <= 255; len++) {
		char mine[REL_MAX];
		snprintf(mine, sizeof mine, "%s", name_of("{peer}.jsonl", SS_ATTR_PEER, text, len));
		assert_true(len == 181 || strcmp(mine, rel) != 0);
		assert_memory_equal(mine, rel, 148);
	}
	text[254] = 'y';
	snprintf(rel, sizeof rel, "%s", name_of("{peer}.jsonl", SS_ATTR_PEER, text, 255));
	text[254] = 'x';
	assert_string_not_equal(name_of("{peer}.jsonl", SS_ATTR_PEER, text, 255), rel);
	/* an escape is not cut in two, and the longest name fits a directory */
	for (size_t len = 1; len <= 255; len++) {
		memset(text, '/', sizeof text);
		const char *got = name_of("{peer}.jsonl", SS_ATTR_PEER, text, len);
		assert_true(strlen(got) <= NAME_LEN_MAX);
		size_t n = strspn(got, "%2F");
		assert_int_equal(n % 3, len > 60 ? 1 : 0);
	}
}

/* All sets of short values over a nasty alphabet: each a name of its own, which the pattern owns up to. */
static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_injective(void **state)
{
	(void)state;
	static const char alphabet[] = "a.-%/~{0";
	enum { N = sizeof alphabet - 1, ALL = 1 + N + N * N + N * N * N };
	static char values[ALL][4];
	static const char *const patterns[] = {"{peer}.jsonl", "{peer}-{peer}.jsonl", "x{peer}/a%H.b",
					       "{peer}.%H.jsonl"};
	size_t n = 0;
	for (size_t len = 0; len <= 3; len++)
		for (size_t i = 0, all = len == 0   ? 1
					 : len == 1 ? N
					 : len == 2 ? N * N
						    : N * N * N;
		     i < all; i++)
			for (size_t k = 0, rest = i; k <= len; k++, rest /= N) {
				values[n][k] = k < len ? alphabet[rest % N] : '\0';
				n += k == len;
			}
	assert_int_equal(n, ALL);
	for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
		char *names[ALL];
		for (size_t i = 0; i < n; i++) {
			names[i] = strdup(name_of(patterns[p], SS_ATTR_PEER, values[i], strlen(values[i])));
			assert_true(path_matches_all(patterns[p], names[i], 1763290800));
			for (const char *c = names[i]; *c; c++)
				assert_true(*c > ' ' && *c < 0x7f);
			for (const char *part = names[i]; part; part = strchr(part, '/')) {
				part += *part == '/';
				assert_true(*part && *part != '.' && *part != '-');
			}
		}
		qsort(names, n, sizeof *names, by_text);
		for (size_t i = 1; i < n; i++)
			assert_string_not_equal(names[i - 1], names[i]);
		for (size_t i = 0; i < n; i++)
			free(names[i]);
	}
}

static void test_templates(void **state)
{
	(void)state;
	char why[WHY_MAX], part[300];
	struct route r;
	static const struct {
		const char *pattern, *error;
	} cases[] = {
		{"{peer}.jsonl", NULL},
		{"{origin}/{input}/%Y-%m-%d.jsonl", NULL},
		{"{origin}/%Y", NULL},
		{"{origin}/data", NULL},
		{"{peer}-{origin}_{input}.jsonl", NULL},
		{"{peer}-%H.log2", NULL},
		{"{peer}", "needs an ending"},
		{"{peer}%H", "needs an ending"},
		{"{peer}.%H", "needs an ending"},
		{"a.{peer}", "needs an ending"},
		{"{peer}.gz", "needs an ending"},
		{"{peer}.torn", "needs an ending"},
		{"{peer}.1x", "needs an ending"},
		{".{peer}.jsonl", "must not have a dot"},
		{".x{peer}/a.jsonl", "must not have a dot"},
		{"{peer}{origin}.jsonl", "needs a character"},
		{"{peer}2{origin}.jsonl", "needs a character"},
		{"{peer}%Y{origin}.jsonl", "needs a character"},
		{"{peer}-{peer}-{peer}-{peer}.jsonl", "too little room"},
		{"{peer}/{peer}/{peer}/{peer}/{peer}/{peer}/{peer}.jsonl", "too long with"},
		{"{peer}/{peer}/{peer}/{peer}/{peer}/{peer}/{peer}/{peer}/{peer}.jsonl", "more than 8"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int rc = route_parse(&r, cases[i].pattern, why);
		assert_int_equal(rc, cases[i].error ? -EINVAL : 0);
		if (cases[i].error && !strstr(why, cases[i].error))
			fail_msg("%s: %s", cases[i].pattern, why);
	}
	memset(part, 'x', 160);
	strcpy(part + 160, "{peer}.jsonl");
	assert_int_equal(route_parse(&r, part, why), -EINVAL);
	assert_non_null(strstr(why, "too little room"));
}

/* What a pattern cannot have made is not its own. */
static void test_not_ours(void **state)
{
	(void)state;
	assert_true(path_matches("{peer}.jsonl", "a.jsonl", 7, NULL));
	assert_false(path_matches("{peer}.jsonl", ".jsonl", 6, NULL));
	assert_false(path_matches("{peer}.jsonl", ".a.jsonl", 8, NULL));
	assert_false(path_matches("{peer}.jsonl", "-a.jsonl", 8, NULL));
	assert_false(path_matches("{peer}.jsonl", "a b.jsonl", 9, NULL));
	assert_false(path_matches("{peer}.jsonl", "a.json", 6, NULL));
	assert_true(path_matches_all("{peer}/%Y-%m-%d.x", "a/2025-11-16.x", 1763290800));
	assert_false(path_matches_all("{peer}/%Y-%m-%d.x", "a/2025-11-15.x", 1763290800));
	assert_false(path_matches_all("{peer}/%Y-%m-%d.x", "a/b/2025-11-16.x", 1763290800));
	assert_false(path_matches_all("{peer}/%Y-%m-%d.x", "2025-11-16.x", 1763290800));
	assert_true(path_matches_all("%H/{peer}.x", "11/a.x", 1763290800));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),     cmocka_unit_test(test_address),
		cmocka_unit_test(test_unverified), cmocka_unit_test(test_several),
		cmocka_unit_test(test_long),       cmocka_unit_test(test_injective),
		cmocka_unit_test(test_templates),  cmocka_unit_test(test_not_ours),
	};
	return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
