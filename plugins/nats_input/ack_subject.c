/* SPDX-License-Identifier: MIT */
#include "plugins/nats_input/ack_subject.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_PLAIN = 9, TOKENS_DOMAIN = 11, TOKENS_MAX = 16 };

static int number(const char *text, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && (*end == '.' || *end == '\0') ? 0 : -EINVAL;
}

int ack_subject_read(const char *subject, struct ack_subject *out)
{
	const char *tokens[TOKENS_MAX];
	size_t n = 1, at;

	if (!subject || strncmp(subject, "$JS.ACK.", 8) != 0)
		return -EINVAL;
	tokens[0] = subject;
	for (const char *c = subject; *c && n < TOKENS_MAX; c++)
		if (*c == '.')
			tokens[n++] = c + 1;
	/* with a domain there may be more tokens than are known today */
	if (n != TOKENS_PLAIN && n < TOKENS_DOMAIN)
		return -EINVAL;
	at = n == TOKENS_PLAIN ? 4 : 6;
	if (number(tokens[at], &out->delivered) < 0 || number(tokens[at + 1], &out->seq) < 0 ||
	    number(tokens[at + 2], &out->consumer_seq) < 0 || number(tokens[at + 3], &out->time_ns) < 0 ||
	    number(tokens[at + 4], &out->pending) < 0)
		return -EINVAL;
	return 0;
}
