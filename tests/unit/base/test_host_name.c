/* SPDX-License-Identifier: MIT */
/* Hosts in one form: brackets, dots at the end, case, and addresses however they are written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <semstreams/base/host_name.h>

static struct ss_host_name read_host(const char *text)
{
	struct ss_host_name h;

	assert_int_equal(ss_host_name_read(text, strlen(text), &h), 0);
	return h;
}

static bool same(const char *a, const char *b)
{
	struct ss_host_name one = read_host(a), other = read_host(b);

	assert_int_equal(ss_host_name_same(&one, &other), ss_host_name_same(&other, &one));
	return ss_host_name_same(&one, &other);
}

static void test_forms(void **state)
{
	(void)state;
	assert_string_equal(read_host("srv.test.").text, "srv.test");
	assert_string_equal(read_host("srv.test..").text, "srv.test.");
	assert_string_equal(read_host("[::1]").text, "::1");
	assert_int_equal(read_host("[::1]").address_len, 16);
	assert_int_equal(read_host("127.0.0.1").address_len, 4);
	assert_int_equal(read_host("127.0.0.1.").address_len, 4);
	assert_int_equal(read_host("127.1").address_len, 0);
	assert_int_equal(read_host("localhost").address_len, 0);
	assert_string_equal(read_host("LocalHost").text, "localhost");
	assert_string_equal(read_host("[2001:DB8:0:0::01]").text, "2001:db8::1");
	assert_string_equal(read_host("0::1").text, "::1");
}

static void test_canonical(void **state)
{
	(void)state;
	assert_string_equal(read_host("SRV.Test.").text, "srv.test");
	assert_string_equal(read_host("[2001:DB8:0:0::1]").text, "2001:db8::1");
	assert_string_equal(read_host("0::1").text, "::1");
	assert_string_equal(read_host("::FFFF:7f00:1").text, "::ffff:127.0.0.1");
}

static void test_faults(void **state)
{
	static const struct {
		const char *text, *fault;
	} wrong[] = {
		{".", "dot too many"},
		{"a..b", "dot too many"},
		{"a..", "dot too many"},
		{".a", "dot too many"},
		{"ho st", "character"},
		{"a:80", "brackets"},
		{"fe80::1%eth0", "brackets"},
		{"b\xc3\xbc.test", "punycode"},
		{"1.2.3", "IPv4"},
		{"10.0.0.256", "IPv4"},
		{"127.1.", "IPv4"},
		{"2130706433", "IPv4"},
		{"0x7f.0.0.0X1", "IPv4"},
		{"010.0.0.1", "IPv4"},
	};
	static const char *const right[] = {"localhost",          "a_b.c-d.test.", "1.2.3.4", "::1",
					    "xn--bcher-kva.test", "4.a",           "0x",      "3com"};
	char label[70];
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct ss_host_name h = read_host(wrong[i].text);
		const char *fault = ss_host_name_fault(&h);
		if (!fault || !strstr(fault, wrong[i].fault))
			fail_msg("%s: %s", wrong[i].text, fault);
	}
	for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
		struct ss_host_name h = read_host(right[i]);
		const char *fault = ss_host_name_fault(&h);
		if (fault)
			fail_msg("%s: %s", right[i], fault);
	}
	memset(label, 'a', 64);
	label[64] = '\0';
	struct ss_host_name h = read_host(label);
	assert_non_null(ss_host_name_fault(&h));
	h = read_host(label + 1);
	assert_null(ss_host_name_fault(&h));
}

static void test_same(void **state)
{
	(void)state;
	assert_true(same("LocalHost.", "localhost"));
	assert_true(same("[0:0::1]", "::1"));
	assert_true(same("2001:DB8::1", "[2001:db8:0:0::1]"));
	assert_false(same("localhost..", "localhost"));
	assert_false(same("localhos", "localhost"));
	assert_false(same("127.0.0.1", "::ffff:127.0.0.1"));
	assert_false(same("127.0.0.1", "127.0.0.2"));
	assert_false(same("127.0.0.1", "localhost"));
	assert_false(same("a[", "a{")); /* they differ by the bit of case only */
}

static void test_numeric(void **state)
{
	static const char *const numeric[] = {"10.0.0.1", "10.0.0.256", "1.2.3", "1",
					      "a.1.",     "0x7f",       "a.0X1"};
	static const char *const names[] = {"", ".", "a", "1.a", "1a", "10.0.0.x", "0x", "a.0x."};

	(void)state;
	for (size_t i = 0; i < sizeof numeric / sizeof numeric[0]; i++)
		assert_true(ss_host_name_is_numeric(numeric[i]));
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		assert_false(ss_host_name_is_numeric(names[i]));
}

static void test_refused(void **state)
{
	static const char *const wrong[] = {"", "[]", "[localhost]", "[127.0.0.1]"};
	char many[300];
	struct ss_host_name h;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_int_equal(ss_host_name_read(wrong[i], strlen(wrong[i]), &h), -EINVAL);
	memset(many, 'x', sizeof many);
	assert_int_equal(ss_host_name_read(many, SS_HOST_NAME_MAX, &h), 0);
	assert_int_equal(ss_host_name_read(many, SS_HOST_NAME_MAX + 1, &h), -EINVAL);
	assert_int_equal(ss_host_name_read("a\0b", 3, &h), -EINVAL);
}

/* What a port, a privilege or an address needs is said; the rest says all by itself. */
static void test_bind_remedies(void **state)
{
	(void)state;
	assert_non_null(strstr(ss_bind_remedy(EADDRINUSE, true), "ss -ulpn"));
	assert_non_null(strstr(ss_bind_remedy(EADDRINUSE, false), "ss -tlpn"));
	assert_non_null(strstr(ss_bind_remedy(EACCES, false), "CAP_NET_BIND_SERVICE"));
	assert_non_null(strstr(ss_bind_remedy(EADDRNOTAVAIL, true), "ip address"));
	assert_string_equal(ss_bind_remedy(ENOMEM, true), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),         cmocka_unit_test(test_canonical),
		cmocka_unit_test(test_faults),        cmocka_unit_test(test_same),
		cmocka_unit_test(test_numeric),       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bind_remedies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
