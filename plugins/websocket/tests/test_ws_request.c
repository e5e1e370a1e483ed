/* SPDX-License-Identifier: MIT */
/* test_ws_request - heads of requests: where they end, what is taken from them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <string.h>
#include "plugins/websocket/transport/ws_request.h"

#define TAIL " HTTP/1.1\r\nHost: h\r\n\r\n"

static void test_end(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t len, end;
	} rows[] = {
		{"GET / HTTP/1.1\r\n\r\n", 18, 18},
		{"GET / HTTP/1.1\n\n", 16, 16},
		{"GET / HTTP/1.1\r\n\n", 17, 17},
		{"\r\n\r\nGET / HTTP/1.1\r\n\r\n", 22, 22},
		{"\r\n\r\n", 4, 0},
		{"GET / HTTP/1.1\r\nA: b\r\n\r\nrest\0", 29, 24},
		{"GET / HTTP/1.1\r\nA: b\r\n", 22, 0},
		{"GET / HTTP/1.1\r\nA: b\r\n\r", 23, 0},
		{"GET /\0 HTTP/1.1\r\n\r\n", 19, 6},
		{"\x16\x03\x01", 3, 1},
		{"GET / HTTP/1.1\rX", 16, 15},
		{"GET /\x7f", 6, 6},
		{"A: \xff\t", 5, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t looked = 0, end = 0;
		assert_int_equal(ws_request_end(rows[i].text, rows[i].len, &looked), rows[i].end);
		looked = 0;
		for (size_t n = 1; n <= rows[i].len && !end; n++)
			end = ws_request_end(rows[i].text, n, &looked);
		assert_int_equal(end, rows[i].end);
	}
}

static void test_targets(void **state)
{
	(void)state;
	static const struct {
		const char *head, *path;
	} rows[] = {
		{"GET /live" TAIL, "/live"},
		{"GET /live?a=/b" TAIL, "/live"},
		{"GET http://localhost:9/live" TAIL, "/live"},
		{"GET HTTPS://[::1]:9/live?x" TAIL, "/live"},
		{"GET ws://h/live" TAIL, "/live"},
		{"GET http://h" TAIL, "/"},
		{"GET http://h?x" TAIL, "/"},
		{"GET /a://b" TAIL, "/a://b"},
		{"OPTIONS *" TAIL, "*"},
		{"CONNECT h:80" TAIL, "h:80"},
		{"GET ftp://h/x" TAIL, "ftp://h/x"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ws_request r;
		const char *why = "";
		if (ws_request_parse(rows[i].head, strlen(rows[i].head), &r, &why))
			fail_msg("%s: %s", rows[i].head, why);
		assert_true(ws_text_is(r.path, rows[i].path));
	}
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *head;
		int status;
		const char *why;
	} rows[] = {
		{"GET / HTTP/1.1\r\n\r\n", 400, "no Host"},
		{"GET http://h/ HTTP/1.1\r\n\r\n", 400, "no Host"},
		{"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400, "twice"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: h:80:80\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: h:abc\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: [::1]:x\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: [::1]8\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "Host of the request"},
		{"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400, "no field"},
		{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "no field"},
		{"GET / HTTP/1.1\r\n: a\r\n\r\n", 400, "no field"},
		{"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, "no field"},
		{"GET / HTTP/1.1\r\nHost: a\r\nOrigin: a\r\nOrigin: b\r\n\r\n", 400, "twice"},
		{"GET /x#y" TAIL, 400, "fragment"},
		{"GET http://h/x#y" TAIL, 400, "fragment"},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400, "twice"},
		{"GET http:///x" TAIL, 400, "no host"},
		{"GET ?x" TAIL, 400, "no path"},
		{"GET #x" TAIL, 400, "no path"},
		{"GET http://[::1/x" TAIL, 400, "no host"},
		{"GET http://u@h/x" TAIL, 400, "no host"},
		{"GET  /" TAIL, 400, "no HTTP request"},
		{"GET / x" TAIL, 400, "no HTTP request"},
		{" GET /" TAIL, 400, "no HTTP request"},
		{"GET" TAIL, 400, "no HTTP request"},
		{"GET /\xc3\xbc" TAIL, 400, "no HTTP request"},
		{"G(T /" TAIL, 400, "no HTTP request"},
		{"GET / HTTP/11\r\n\r\n", 400, "no HTTP request"},
		{"GET / http/1.1\r\n\r\n", 400, "no HTTP request"},
		{"GET / HTTP/1.1 \r\n\r\n", 400, "no HTTP request"},
		{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "version"},
		{"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505, "version"},
		{"\x16", 400, "TLS"},
		{"GET /\x01", 400, "no HTTP request"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ws_request r;
		const char *why = "";
		if (ws_request_parse(rows[i].head, strlen(rows[i].head), &r, &why) != rows[i].status)
			fail_msg("%s: %s", rows[i].head, why);
		if (!strstr(why, rows[i].why))
			fail_msg("%s: %s", rows[i].head, why);
	}
}

static void test_fields(void **state)
{
	(void)state;
	static const char head[] = "GET / HTTP/1.1\nhOST:h:80 \nUpgrade: foo/1 ,\twebSocket\r\n"
				   "Connection: keep-alive\r\nConnection: ,Upgrade,\r\n"
				   "Sec-WebSocket-Protocol: aa,bb\r\nX: cc\r\nsec-websocket-protocol:dd\r\n"
				   "Sec-WebSocket-Version:\r\nSec-WebSocket-Key2: k\r\n\r\n";
	struct ws_request r;
	const char *why;
	assert_int_equal(ws_request_parse(head, sizeof head - 1, &r, &why), 0);
	assert_int_equal(r.minor, 1);
	assert_true(ws_text_is(r.fields[WS_FIELD_HOST], "h:80"));
	assert_true(ws_text_is(r.fields[WS_FIELD_VERSION], ""));
	assert_null(r.fields[WS_FIELD_KEY].at);
	assert_null(r.fields[WS_FIELD_ORIGIN].at);
	assert_false(ws_text_is(r.fields[WS_FIELD_ORIGIN], ""));
	assert_true(ws_request_lists(&r, WS_FIELD_UPGRADE, "websocket"));
	assert_false(ws_request_lists(&r, WS_FIELD_UPGRADE, "foo"));
	assert_true(ws_request_lists(&r, WS_FIELD_CONNECTION, "upgrade"));
	assert_true(ws_request_lists(&r, WS_FIELD_CONNECTION, "keep-alive"));
	for (const char *const *p = (const char *const[]){"aa", "bb", "dd", NULL}; *p; p++)
		assert_true(ws_request_lists(&r, WS_FIELD_PROTOCOL, *p));
	assert_false(ws_request_lists(&r, WS_FIELD_PROTOCOL, "cc"));
	assert_false(ws_request_lists(&r, WS_FIELD_PROTOCOL, "a"));
	assert_false(ws_request_lists(&r, WS_FIELD_PROTOCOL, ""));
}

static bool same(const char *path, const char *want)
{
	return ws_path_is((struct ws_text){.at = path, .len = strlen(path)}, want);
}

static void test_paths(void **state)
{
	(void)state;
	assert_true(same("/live", "/live"));
	assert_true(same("/l%69ve", "/live"));
	assert_true(same("/a%20b", "/a%20b"));
	assert_true(same("/a%2Fb", "/a%2fb"));
	assert_true(same("/%zz%", "/%zz%"));
	assert_false(same("/a%2Fb", "/a/b"));
	assert_false(same("/a/b", "/a%2Fb"));
	assert_false(same("/live%00", "/live"));
	assert_false(same("/live/", "/live"));
	assert_false(same("/liv", "/live"));
	assert_false(same("/Live", "/live"));
	assert_false(same("/live%00", "/live"));
	assert_false(same("", "/"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_end),    cmocka_unit_test(test_targets), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fields), cmocka_unit_test(test_paths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
