/* SPDX-License-Identifier: MIT */
/* claims: which addresses of a port overlap. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/config/claims.h"

static int second(const char *a, const char *b)
{
	struct claims *c = claims_new();
	const char *other = "";

	assert_non_null(c);
	assert_int_equal(claims_add(c, "first", a, &other), 0);
	int rc = claims_add(c, NULL, b, &other);
	assert_string_equal(other, rc ? "first" : "");
	claims_free(c);
	return rc;
}

static void overlap(const char *a, const char *b, bool expected)
{
	int wanted = expected ? -EEXIST : 0;

	if (second(a, b) != wanted || second(b, a) != wanted)
		fail_msg("%s and %s", a, b);
}

static void test_addresses(void **state)
{
	(void)state;
	overlap("tcp::80", "tcp:127.0.0.1:80", true);
	overlap("tcp::80", "tcp:::1:80", true);
	overlap("tcp::80", "tcp:myhost:80", true);
	overlap("tcp::80", "tcp::8080", false);
	overlap("tcp::80", "udp::80", false);
	overlap("tcp:0.0.0.0:80", "tcp:10.1.1.1:80", true);
	overlap("tcp:0.0.0.0:80", "tcp:::1:80", false);
	overlap("tcp:0.0.0.0:80", "tcp::::80", false);
	overlap("tcp:0.0.0.0:80", "tcp:::ffff:10.1.1.1:80", true);
	overlap("tcp::::80", "tcp:fe80::1%eth0:80", true);
	overlap("tcp:fe80::1%eth1:80", "tcp:fe80::1%eth0:80", false);
	overlap("tcp:fe80::1%eth0:80", "tcp:fe80:0::1%eth0:80", true);
	overlap("udp:::ffff:10.1.1.1:80", "udp:10.1.1.1:80", true);
	overlap("tcp:10.1.1.1:80", "tcp:10.1.1.2:80", false);
	overlap("tcp:myhost:80", "tcp:otherhost:80", false);
	overlap("tcp:myhost:80", "tcp:myhost:80", true);
}

static void test_others(void **state)
{
	(void)state;
	overlap("file:/a/b", "file:/a/b", true);
	overlap("file:/a:80", "file:/b:80", false);
	overlap("device:/x", "device:/y", false);
	overlap("tcp:80", "tcp:80", true);
	overlap("tcp:80", "tcp::80", false);
}

static void test_owners(void **state)
{
	(void)state;
	struct claims *c = claims_new();
	const char *other = NULL;

	assert_int_equal(claims_add(c, "a", "file:/x", &other), 0);
	assert_int_equal(claims_add(c, "a", "file:/x", &other), 0); /* once more */
	assert_int_equal(claims_add(c, NULL, "tcp::1", &other), 0);
	assert_int_equal(claims_add(c, NULL, "tcp:127.0.0.1:1", &other), 0);
	other = "";
	assert_int_equal(claims_add(c, "a", "tcp::1", &other), -EEXIST);
	assert_null(other);
	claims_free(c);
	claims_free(NULL);
}

/* What is needed is nobody's alone. */
static void test_needs(void **state)
{
	static const char *const needs[] = {"reads:/x", "writes:/x", "capability:net_admin",
					    "reaches:wss://hub.example/s"};
	(void)state;
	struct claims *c = claims_new();
	const char *other = NULL;

	for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
		assert_true(claims_is_need(needs[i]));
		assert_false(claims_is_port(needs[i]));
		assert_int_equal(claims_add(c, "a", needs[i], &other), 0);
		assert_int_equal(claims_add(c, "b", needs[i], &other), 0);
	}
	assert_string_equal(claims_at(c, 7, &other), needs[3]);
	assert_string_equal(other, "b");
	claims_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_owners),
		cmocka_unit_test(test_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
