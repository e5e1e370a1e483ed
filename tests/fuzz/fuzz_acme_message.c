/* SPDX-License-Identifier: MIT */
/*
 * fuzz_acme_message - what a CA sends, as every kind of message, as a problem document, and as header fields
 * and times.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "plugins/acme_tls/client/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static void documents(const char *body, size_t len)
{
	char why[64] = "", text[48];
	int64_t start, end;
	json_t *m;
	for (int kind = MESSAGE_DIRECTORY; kind <= MESSAGE_RENEWAL; kind++) {
		int rc = message_read((enum message_kind)kind, body, len, &m, why, sizeof why);
		check((rc == 0) == (m != NULL));
		if (rc == 0 && kind == MESSAGE_DIRECTORY)
			message_profiles(m, "short", text, sizeof text);
		const json_t *urls = json_object_get(m, "authorizations");
		for (size_t i = 0; kind == MESSAGE_ORDER && i < json_array_size(urls); i++)
			check(strlen(json_string_value(json_array_get(urls, i))) <= MESSAGE_URL_MAX);
		if (rc == 0 && kind == MESSAGE_RENEWAL)
			check(message_window(m, &start, &end) && start < end);
		json_decref(m);
		check(memchr(why, '\0', sizeof why) != NULL);
	}
}

static void problems(const char *body, size_t len)
{
	struct problem problem;
	problem_read(body, len, 400, &problem);
	for (const char *p = problem.text; *p; p++)
		check((unsigned char)*p >= ' ' && *p != 0x7f);
}

static void fields(const char *text)
{
	char url[128];
	int64_t seconds = message_retry_after(text, 1763287200);
	check(seconds >= 0 && seconds <= 86400);
	message_time(text, &seconds);
	if (message_link(text, "alternate", url, sizeof url))
		check(strlen(url) > 0 && strlen(url) < sizeof url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	documents((const char *)data, size);
	problems((const char *)data, size);
	fields(text);
	free(text);
	return 0;
}
