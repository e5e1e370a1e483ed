/* SPDX-License-Identifier: MIT */
#include <semstreams/base/url.h>

#include <string.h>

struct shown {
	char *at, *end;
};

static void show(struct shown *s, const char *text, size_t len)
{
	for (size_t i = 0; i < len && s->at < s->end; i++)
		*s->at++ = (unsigned char)text[i] > ' ' && (unsigned char)text[i] < 0x7f ? text[i] : '?';
}

void ss_url_redact(const char *text, char *out, size_t size)
{
	if (!size)
		return;
	struct shown s = {.at = out, .end = out + size - 1};
	const char *slashes = strstr(text, "//");
	const char *scheme_end = text + strcspn(text, "/?#");
	if (slashes && slashes == scheme_end) {
		const char *authority = slashes + 2, *host = authority;
		size_t len = strcspn(authority, "/?#");
		for (const char *p = authority; p < authority + len; p++)
			if (*p == '@')
				host = p + 1;
		show(&s, text, (size_t)(authority - text));
		text = host;
	}
	size_t len = strcspn(text, "?#");
	show(&s, text, len);
	if (text[len])
		show(&s, "?...", 4);
	*s.at = '\0';
	if (s.at == s.end && size > 4)
		memcpy(s.end - 3, "...", 3);
}
