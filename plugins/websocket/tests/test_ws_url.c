/* SPDX-License-Identifier: MIT */
/* test_ws_url - URLs that are taken and what they mean, URLs that are refused and why, and what is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/websocket/transport/ws_url.h"

#define TEN "0123456789"

static void test_taken(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool secure;
		uint16_t port;
		const char *host, *zone, *name, *authority, *target;
	} rows[] = {
		{"ws://h", false, 80, "h", "", "h", "h", "/"},
		{"WS://Host.Test/", false, 80, "Host.Test", "", "host.test", "host.test", "/"},
		{"wSs://h:443/a/b?c=d&e=%20", true, 443, "h", "", "h", "h", "/a/b?c=d&e=%20"},
		{"wss://h:80", true, 80, "h", "", "h", "h:80", "/"},
		{"ws://h:/x", false, 80, "h", "", "h", "h", "/x"},
		{"ws://h:0443/x", false, 443, "h", "", "h", "h:443", "/x"},
		{"ws://h?q", false, 80, "h", "", "h", "h", "/?q"},
		{"wss://srv.test.:8443/", true, 8443, "srv.test.", "", "srv.test", "srv.test:8443", "/"},
		{"ws://10.0.0.255:1/", false, 1, "10.0.0.255", "", "10.0.0.255", "10.0.0.255:1", "/"},
		{"ws://127.0.0.1./", false, 80, "127.0.0.1", "", "127.0.0.1", "127.0.0.1", "/"},
		{"ws://my_host-1.a/", false, 80, "my_host-1.a", "", "my_host-1.a", "my_host-1.a", "/"},
		{"ws://1.2.3.example/", false, 80, "1.2.3.example", "", "1.2.3.example", "1.2.3.example",
		 "/"},
		{"ws://[::1]/x", false, 80, "::1", "", "::1", "[::1]", "/x"},
		{"ws://[0:0::0001]/x", false, 80, "::1", "", "::1", "[::1]", "/x"},
		{"ws://[2001:DB8::1]:9", false, 9, "2001:db8::1", "", "2001:db8::1", "[2001:db8::1]:9", "/"},
		{"ws://[::1]:9", false, 9, "::1", "", "::1", "[::1]:9", "/"},
		{"ws://[fe80::1%25eth0]:9/", false, 9, "fe80::1", "eth0", "fe80::1", "[fe80::1]:9", "/"},
		{"ws://[fe80::1%eth0.7]/", false, 80, "fe80::1", "eth0.7", "fe80::1", "[fe80::1]", "/"},
		{"ws://[::ffff:1.2.3.4]/", false, 80, "::ffff:1.2.3.4", "", "::ffff:1.2.3.4",
		 "[::ffff:1.2.3.4]", "/"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ws_url u;
		const char *why = "";
		if (ws_url_parse(rows[i].text, &u, &why) < 0)
			fail_msg("%s: %s", rows[i].text, why);
		assert_int_equal(u.secure, rows[i].secure);
		assert_int_equal(u.port, rows[i].port);
		assert_string_equal(u.host, rows[i].host);
		assert_string_equal(u.zone, rows[i].zone);
		assert_string_equal(u.name, rows[i].name);
		assert_string_equal(u.authority, rows[i].authority);
		assert_string_equal(u.target, rows[i].target);
	}
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "expected ws://"},
		{"http://h/", "expected ws://"},
		{"ws:/h/", "expected ws://"},
		{"ws//h/", "expected ws://"},
		{" ws://h/", "expected ws://"},
		{"ws://", "host is missing"},
		{"ws:///x", "host is missing"},
		{"ws://:9/x", "host is missing"},
		{"ws://./x", "dot too many"},
		{"ws://?x", "host is missing"},
		{"ws://a..b/", "dot too many"},
		{"ws://.a/", "dot too many"},
		{"ws://ho st/x", "no host name has"},
		{"ws://ho\tst/x", "no host name has"},
		{"ws://h%41/x", "no host name has"},
		{"ws://a,b/", "no host name has"},
		{"ws://fe80::1/", "port is not a number"},
		{"ws://b\xc3\xbc"
		 "cher.example/",
		 "punycode"},
		{"ws://" TEN TEN TEN TEN TEN TEN "abcd.a/", "63 bytes"},
		{"ws://" TEN TEN TEN TEN TEN ".a" TEN TEN TEN TEN TEN ".a" TEN "/", "longer than 110"},
		{"ws://10.0.0.256/", "no IPv4 address"},
		{"ws://1.2.3/", "no IPv4 address"},
		{"ws://1.2.3./", "no IPv4 address"},
		{"ws://2130706433/", "no IPv4 address"},
		{"ws://0x7f.0.0.0x1/", "no IPv4 address"},
		{"ws://u@h/", "no user name and password"},
		{"ws://user:password@h/", "no user name and password"},
		{"ws://@h/", "no user name and password"},
		{"ws://h/#frag", "no fragment"},
		{"ws://h#", "no fragment"},
		{"ws://h/x?y#z", "no fragment"},
		{"ws://[::1:9", "not closed"},
		{"ws://[::1/x", "not closed"},
		{"ws://[]/", "no IPv6 address"},
		{"ws://[h]/", "no IPv6 address"},
		{"ws://[1.2.3.4]/", "no IPv6 address"},
		{"ws://[v1.a]/", "no IPv6 address"},
		{"ws://[::1]x/", "behind the bracket"},
		{"ws://[::1]9/", "behind the bracket"},
		{"ws://[fe80::1]/", "needs a zone"},
		{"ws://[febf::1]:9/", "needs a zone"},
		{"ws://[::1%25lo]/", "only a link-local"},
		{"ws://[fe80::1%25]/", "no interface name"},
		{"ws://[fe80::1%]/", "no interface name"},
		{"ws://[fe80::1%25" TEN TEN "]/", "no interface name"},
		{"ws://[fe80::1%25e/0]/", "not closed"},
		{"ws://[fe80::1%25e h]/", "no interface name has"},
		{"ws://h:0/", "must not be 0"},
		{"ws://h:99999/", "greater than 65535"},
		{"ws://h:18446744073709551617/", "greater than 65535"},
		{"ws://h:80x/", "not a number"},
		{"ws://h:+80/", "not a number"},
		{"ws://h:-1/", "not a number"},
		{"ws://h: 80/", "not a number"},
		{"ws://h:80:81/", "not a number"},
		{"ws://h/a b", "percent-encoded"},
		{"ws://h/\xc3\xbc", "percent-encoded"},
		{"ws://h/a\r\nX: y", "percent-encoded"},
		{"ws://h/\\x", "percent-encoded"},
		{"ws://h/%", "hexadecimal"},
		{"ws://h/%2", "hexadecimal"},
		{"ws://h/%zz", "hexadecimal"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ws_url u;
		const char *why = "";
		if (ws_url_parse(rows[i].text, &u, &why) == 0)
			fail_msg("%s is taken", rows[i].text);
		if (!strstr(why, rows[i].why))
			fail_msg("%s: %s", rows[i].text, why);
	}
}

static void test_origins(void **state)
{
	(void)state;
	static const char *const same[][2] = {
		{"https://hub.example", "https://hub.example"},
		{"HTTPS://Hub.Example:443/", "https://hub.example"},
		{"http://hub.example:80", "http://hub.example"},
		{"http://hub.example:443", "http://hub.example:443"},
		{"https://hub.example.:8443", "https://hub.example:8443"},
		{"http://[0:0::1]:3000", "http://[::1]:3000"},
		{"http://127.0.0.1", "http://127.0.0.1"},
		{"Chrome-Extension://abcdef/", "chrome-extension://abcdef"},
	};
	static const char *const wrong[][2] = {
		{"", "scheme"},
		{"*", "scheme"},
		{"null", "scheme"},
		{"hub.example", "scheme"},
		{"://hub.example", "scheme"},
		{"https://", "host is missing"},
		{"app://", "host is missing"},
		{"https://hub.example/live", "ends behind"},
		{"https://hub.example?a", "ends behind"},
		{"https://u:p@hub.example", "user name"},
		{"https://*.hub.example", "no host name has"},
		{"https://10.0.0.256", "IPv4"},
		{"https://b\xc3\xbc.test", "punycode"},
		{"https://hub.example:0", "port"},
		{"https://hub.example:80abc", "port"},
		{"https://hub.example:99999", "65535"},
		{"https://[fe80::1%25eth0]", "zone"},
	};
	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		const char *why = "";
		char *origin = NULL;
		if (ws_origin_parse(same[i][0], &origin, &why) < 0)
			fail_msg("%s: %s", same[i][0], why);
		assert_string_equal(origin, same[i][1]);
		free(origin);
	}
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		const char *why = "";
		char *origin = NULL;
		if (ws_origin_parse(wrong[i][0], &origin, &why) == 0 || !strstr(why, wrong[i][1]))
			fail_msg("%s: %s", wrong[i][0], why);
	}
}

static void test_lengths(void **state)
{
	(void)state;
	char text[1200];
	const char *why = "";
	struct ws_url u;
	for (int n = 1022; n <= 1024; n++) {
		snprintf(text, sizeof text, "ws://h/%0*d", n, 7);
		assert_int_equal(ws_url_parse(text, &u, &why) == 0, n < 1023);
		if (n < 1023)
			assert_string_equal(u.target, text + 6);
		assert_true(strlen(u.shown) < sizeof u.shown);
	}
	assert_non_null(strstr(why, "1024"));
}

static void test_targets(void **state)
{
	static const char *const cases[][3] = {
		{"ws://h:81/a/b?c=/d", "/x?y", "ws://h:81/x?..."},
		{"ws://h:81/a/b?c=/d", "x/y", "ws://h:81/a/x/y"},
		{"wss://h/", "x:80", "x:80"},
		{"wss://h", "//u:p@other/x#y", "wss://other/x?..."},
		{"wss://[fe80::1%25eth0]:9/", "/x", "wss://[fe80::1]:9/x"},
		{"ws://h/", "https://u@h2/x", "wss://h2/x"},
		{"ws://h/", "HTTP://h2", "ws://h2"},
		{"ws://h/", "wss://h2/", "wss://h2/"},
		{"ws://h/a/", "?z", "ws://h/a/?..."},
		{"ws://h/a/b", "", "ws://h/a/"},
	};
	static char userinfo[5000];
	char out[WS_URL_SHOWN_MAX];
	struct ws_url u;
	const char *why;
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(ws_url_parse(cases[i][0], &u, &why), 0);
		ws_url_target_shown(&u, cases[i][1], out, sizeof out);
		assert_string_equal(out, cases[i][2]);
	}
	memcpy(memset(userinfo, 'p', sizeof userinfo - 1), "//", 2);
	memcpy(userinfo + sizeof userinfo - 4, "@h/", 3);
	ws_url_target_shown(&u, userinfo, out, sizeof out);
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_lengths), cmocka_unit_test(test_origins),
		cmocka_unit_test(test_targets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
