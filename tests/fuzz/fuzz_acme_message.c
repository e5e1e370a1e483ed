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
	struct message_directory directory;
	struct message_account account;
	struct message_order order;
	struct message_authorization authorization;
	struct message_single challenge;
	struct message_renewal renewal;
	if (message_directory(body, len, &directory, why, sizeof why) == 0)
		message_profiles(&directory, text, sizeof text);
	message_done(&directory.json);
	message_account(body, len, &account, why, sizeof why);
	message_done(&account.json);
	if (message_order(body, len, &order, why, sizeof why) == 0)
		for (size_t i = 0; i < order.n_authorizations; i++)
			check(strlen(order.authorizations[i]) <= MESSAGE_URL_MAX);
	message_done(&order.json);
	message_authorization(body, len, &authorization, why, sizeof why);
	message_done(&authorization.json);
	message_single(body, len, &challenge, why, sizeof why);
	message_done(&challenge.json);
	if (message_renewal(body, len, &renewal, why, sizeof why) == 0)
		check(renewal.start < renewal.end);
	message_done(&renewal.json);
	check(memchr(why, '\0', sizeof why) != NULL);
}

static void problems(const char *body, size_t len)
{
	struct problem problem;
	char text[300];
	problem_read(body, len, 400, &problem);
	problem_permanent(&problem);
	problem_text(&problem, text, sizeof text);
	for (const char *p = text; *p; p++)
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
