/* SPDX-License-Identifier: MIT */
/*
 * json_departures - where the field reader and Jansson, which is taken for a strict parser, do not agree on
 * whether a text is JSON, or where RFC 8259 leaves open what it means: one line each with the reason, and
 * what a condition on the document then says.
 */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

enum departure_kind {
	DEPARTS_LONE_SURROGATE, /* the grammar of section 7 allows it; Jansson refuses, we read U+FFFD */
	DEPARTS_OVERFLOW,    /* section 6 sets no range; Jansson refuses, we take the nearest or infinity */
	DEPARTS_NUL_IN_NAME, /* section 7 allows it; Jansson refuses, we read it as any other name */
	DEPARTS_NUL_BEHIND,  /* no JSON text; Jansson passes over a zero byte behind a number or literal */
	DEPARTS_DEPTH,       /* section 9 lets a parser set a limit: ours is 64, Jansson's 2048 */
	DEPARTS_NOT,         /* both say the same, also where sections 4 and 6 leave it open */
	DEPARTURE_KINDS
};

struct departure {
	enum departure_kind kind;
	const char *text;
	size_t len;
	int ours; /* of read() */
	bool jansson;
	const char *condition; /* in JSON; where we refuse the text it is not asked */
	bool holds;
};
#define DEPARTS(kind, text, ours, jansson, condition, holds)                                                 \
	{                                                                                                    \
		DEPARTS_##kind, text, sizeof text - 1, ours, jansson, condition, holds                       \
	}
#define IS(value)        "{\"field\":\"a\",\"op\":\"eq\",\"value\":" value "}"
#define TEN(text)        text text text text text text text text text text
#define NESTED_65(inner) TEN("[[[[[[") "[[[[[" inner "]]]]]" TEN("]]]]]]")
#define NESTED_64(inner) TEN("[[[[[[") "[[[[" inner "]]]]" TEN("]]]]]]")

static const struct departure departures[] = {
	DEPARTS(LONE_SURROGATE, "{\"a\":\"\\ud800\"}", 0, false, IS("\"\xef\xbf\xbd\""), true),
	DEPARTS(LONE_SURROGATE, "{\"a\":\"x\\uDFFFy\"}", 0, false, IS("\"x\xef\xbf\xbdy\""), true),
	DEPARTS(LONE_SURROGATE, "{\"a\":\"\\ud83d\\u0041\"}", 0, false,
		IS("\"\xef\xbf\xbd"
		   "A\""),
		true),
	DEPARTS(LONE_SURROGATE, "{\"a\":\"\\udc00\\ud800\"}", 0, false, IS("\"\xef\xbf\xbd\xef\xbf\xbd\""),
		true),
	DEPARTS(LONE_SURROGATE, "{\"a\":\"\\ud83d\\ud83d\\ude00\"}", 0, false,
		IS("\"\xef\xbf\xbd\xf0\x9f\x98\x80\""), true),
	DEPARTS(LONE_SURROGATE, "{\"\\ud800\":1,\"a\":2}", 0, false, IS("2"), true),
	DEPARTS(LONE_SURROGATE, "{\"\\ud800\":1}", 0, false,
		"{\"field\":\"/\xef\xbf\xbd\",\"op\":\"eq\",\"value\":1}", true),
	DEPARTS(OVERFLOW, "{\"a\":9223372036854775808}", 0, false,
		"{\"a\":{\"gt\":9223372036854775807.0,\"lt\":1e19}}", true),
	DEPARTS(OVERFLOW, "{\"a\":9223372036854775808}", 0, false, IS("9223372036854775808.0"), true),
	DEPARTS(OVERFLOW, "{\"a\":-9223372036854775809}", 0, false, IS("-9223372036854775809.0"), true),
	DEPARTS(OVERFLOW, "{\"a\":18446744073709551616}", 0, false, IS("18446744073709551616.0"), true),
	DEPARTS(OVERFLOW, "{\"a\":1e999}", 0, false, "{\"a\":{\"gt\":1.7976931348623157e308}}", true),
	DEPARTS(OVERFLOW, "{\"a\":-1e309}", 0, false, "{\"a\":{\"lt\":-1.7976931348623157e308}}", true),
	DEPARTS(OVERFLOW, "{\"a\":[1E400,-1E400]}", 0, false, "{\"a.1\":{\"lt\":0},\"a.0\":{\"gt\":0}}",
		true),
	DEPARTS(OVERFLOW, "1" TEN("0000000000") TEN("0000000000") TEN("0000000000") TEN("00"), 0, false,
		"{\"field\":\"\",\"op\":\"gt\",\"value\":1e308}", true),
	DEPARTS(NUL_IN_NAME, "{\"a\\u0000b\":1,\"a\":2}", 0, false, IS("2"), true),
	DEPARTS(NUL_IN_NAME, "{\"a\":2,\"a\\u0000\":1}", 0, false, IS("2"), true),
	DEPARTS(NUL_IN_NAME, "{\"\\u0000\":{\"a\":1}}", 0, false, IS("1"), false),
	DEPARTS(NUL_BEHIND, "1\0", -EINVAL, true, NULL, false),
	DEPARTS(NUL_BEHIND, "true\0", -EINVAL, true, NULL, false),
	DEPARTS(NUL_BEHIND, "[null\0]", -EINVAL, true, NULL, false),
	DEPARTS(NUL_BEHIND, "{\"a\":1\0}", -EINVAL, true, NULL, false),
	DEPARTS(NUL_BEHIND, "[-1.5e3\0,2]", -EINVAL, true, NULL, false),
	DEPARTS(NOT, "{\"a\":1}\0", -EINVAL, false, NULL, false),
	DEPARTS(NOT, "[\"\0\"]", -EINVAL, false, NULL, false),
	DEPARTS(DEPTH, NESTED_65(""), -ELOOP, true, NULL, false),
	DEPARTS(DEPTH, NESTED_65("{}"), -ELOOP, true, NULL, false),
	DEPARTS(DEPTH, NESTED_64("{}"), -ELOOP, true, NULL, false),
	DEPARTS(NOT, NESTED_64(""), 0, true, "{\"field\":\"0.0\",\"op\":\"exists\"}", true),
	DEPARTS(DEPTH, NESTED_64("1,[]"), -ELOOP, true, NULL, false),
	DEPARTS(NOT, "{\"a\":1,\"a\":2}", 0, true, IS("2"), true), /* the last counts */
	DEPARTS(NOT, "{\"a\":1,\"\\u0061\":2}", 0, true, IS("2"), true),
	DEPARTS(NOT, "{\"a\":{\"b\":1},\"a\":{\"c\":2}}", 0, true, "{\"a.b\":{\"exists\":true}}", false),
	DEPARTS(NOT, "{\"a\":1,\"a\":{}}", 0, true, IS("1"), false),
	DEPARTS(NOT, "{\"a\":-0}", 0, true, IS("0"), true), /* zero has no sign that shows */
	DEPARTS(NOT, "{\"a\":-0.0}", 0, true, IS("0"), true),
	DEPARTS(NOT, "{\"a\":1e-999}", 0, true, IS("0"), true), /* underflow is zero */
	DEPARTS(NOT, "{\"a\":9223372036854775807}", 0, true, IS("9223372036854775807"), true),
	DEPARTS(NOT, "{\"a\":9223372036854775807}", 0, true, IS("9223372036854775806"), false),
	DEPARTS(NOT, "{\"a\":-9223372036854775808}", 0, true, IS("-9223372036854775808"), true),
	DEPARTS(NOT, "{\"a\":100000000000000000000.0}", 0, true, IS("1e20"), true),
	DEPARTS(NOT, "{\"a\":\"\\u0000\"}", 0, true, IS("\"\\u0000\""), true),
	DEPARTS(NOT, "{\"a\":\"\\u0000b\"}", 0, true, IS("\"\""), false),
	DEPARTS(NOT, "{\"a\":\"\\uFDD0\xef\xb7\x90\"}", 0, true, IS("\"\xef\xb7\x90\\ufdd0\""), true),
	DEPARTS(NOT, "{\"a\":\"\\ud83d\\ude00\"}", 0, true, IS("\"\xf0\x9f\x98\x80\""), true),
	DEPARTS(NOT, "{\"\":{\"\":1}}", 0, true, "{\"field\":\"//\",\"op\":\"eq\",\"value\":1}", true),
	DEPARTS(NOT, "0", 0, true, "{\"field\":\"\",\"op\":\"eq\",\"value\":0}", true), /* not only objects */
};
