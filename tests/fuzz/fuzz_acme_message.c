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
	struct message m;
	for (int kind = MESSAGE_DIRECTORY; kind <= MESSAGE_RENEWAL; kind++) {
		int rc = message_read((enum message_kind)kind, body, len, &m, why, sizeof why);
		check((rc == 0) == (m.json != NULL));
		if (rc == 0 && kind == MESSAGE_DIRECTORY)
			message_profiles(&m, "short", text, sizeof text);
		for (size_t i = 0; rc == 0 && i < m.n_authorizations; i++)
			check(strlen(m.authorizations[i]) <= MESSAGE_URL_MAX);
		if (rc == 0 && kind == MESSAGE_RENEWAL)
			check(m.start < m.end);
		message_done(&m);
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
	message_token_ok(text);
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
