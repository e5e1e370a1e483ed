/* SPDX-License-Identifier: MIT */
/* fuzz_ws_url - a URL: what is taken fits its fields and means the same again; what is shown holds no secret.
 */
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/url.h>
#include "plugins/websocket/transport/ws_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition)
		abort();
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

/* What was taken, written as a URL, is taken again. */
static void again(const struct ws_url *u)
{
	char text[sizeof u->authority + sizeof u->target + sizeof u->zone + 32] = "";
	const char *why, *end = strchr(u->authority, ']');
	size_t inside = u->zone[0] && end ? (size_t)(end - u->authority) : strlen(u->authority);
	struct ws_url v;
	strcat(text, u->secure ? "wss://" : "ws://");
	strncat(text, u->authority, inside);
	if (u->zone[0])
		strcat(strcat(strcat(text, "%25"), u->zone), u->authority + inside);
	strcat(text, u->target);
	must(ws_url_parse(text, &v, &why) == 0);
	must(v.secure == u->secure && v.port == u->port && strcmp(v.name, u->name) == 0 &&
	     strcmp(v.zone, u->zone) == 0 && strcmp(v.authority, u->authority) == 0 &&
	     strcmp(v.target, u->target) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), shown[64];
	const char *why = NULL;
	struct ws_url u;
	must(text);
	memcpy(text, data, size);
	text[size] = '\0';
	ss_url_redact(text, shown, sizeof shown);
	must(strlen(shown) < sizeof shown && printable(shown));
	if (strncmp(text, "ws://", 5) == 0)
		must(!strchr(shown + 5, '@') || strchr(shown + 5, '/') < strchr(shown + 5, '@'));
	must(ws_url_parse("wss://h:1/a/b?c", &u, &why) == 0);
	ws_url_target_shown(&u, text, shown, sizeof shown);
	must(strlen(shown) < sizeof shown && printable(shown));
	if (ws_url_parse(text, &u, &why) == 0) {
		must(u.port && u.host[0] && u.name[0] && u.authority[0] && u.target[0] == '/');
		must(printable(u.host) && printable(u.authority) && printable(u.target));
		must(strncmp(u.shown, text, 5) == 0);
		again(&u);
	} else {
		must(why && why[0]);
	}
	free(text);
	return 0;
}
