/* SPDX-License-Identifier: MIT */
/* tap_command - see tap_command.h.  What events hold is of strangers: control characters are not printed. */
#include "core/cli/tap_command.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/base/utf8.h>
#include "core/cli/cli.h"
#include "core/cli/host_client.h"

struct printer {
	bool json;
	bool ended; /* the host said so */
};

/* ---- what comes ---- */

static void print_clean(const char *text, size_t len)
{
	uint32_t code = 0;

	for (size_t i = 0, n; i < len; i += n) {
		n = ss_utf8_next(text + i, len - i, &code);
		if (n > 0 && code >= 0x20 && (code < 0x7f || code >= 0xa0))
			fwrite(text + i, 1, n, stdout);
		else
			putchar(code == '\n' || code == '\t' || code == '\r' ? ' ' : '?');
		n = n ? n : 1;
	}
}

static void print_text(const json_t *value)
{
	print_clean(json_string_value(value), json_string_length(value));
}

/* "2026-11-30T10:00:00.000Z @address=127.0.0.1:4711 @input=udp {"value":1}" */
static void print_event(json_t *event)
{
	json_t *attributes = json_object_get(event, "attributes"), *value;
	const json_t *data = json_object_get(event, "data");
	const char *name;

	print_text(json_object_get(event, "received"));
	json_object_foreach(attributes, name, value)
	{
		printf(" %s=", name);
		print_text(value);
	}
	fputs(data ? " " : " base64:", stdout);
	print_text(data ? data : json_object_get(event, "base64"));
	putchar('\n');
}

static void tell_number(const json_t *line, const char *key, const char *what)
{
	const json_int_t n = json_integer_value(json_object_get(line, key));

	if (n > 0)
		fprintf(stderr, "semstreams: %lld event%s %s\n", (long long)n, n == 1 ? "" : "s", what);
}

static void tell(const json_t *line)
{
	const json_t *end = json_object_get(line, "end"), *gone = json_object_get(line, "gone");

	if (json_is_string(json_object_get(line, "tap")))
		fprintf(stderr, "semstreams: tapping %s\n", json_string_value(json_object_get(line, "tap")));
	line = end ? end : line;
	tell_number(line, "missed", "not looked at so far: the sample holds no more");
	tell_number(line, "withheld", "not shown so far: not JSON, so nothing can be redacted in them");
	if (gone)
		fprintf(stderr, "semstreams: %s any more; waiting for it\n", json_string_value(gone));
}

/* Not 0: no more is wanted. */
static int print_line(void *arg, const char *text, size_t len)
{
	struct printer *p = arg;
	json_t *line = len ? json_loadb(text, len, JSON_ALLOW_NUL, NULL) : NULL;
	const bool is_event = json_object_get(line, "received") != NULL;

	if (p->json && line)
		printf("%.*s\n", (int)len, text);
	else if (is_event)
		print_event(line);
	else
		tell(line);
	p->ended |= json_object_get(line, "end") != NULL;
	json_decref(line);
	return fflush(stdout) != 0 || p->ended;
}

/* ---- what is asked ---- */

static json_t *make_request(const struct cli_options *o)
{
	json_error_t error;
	json_t *where = NULL, *redact = NULL;

	if (o->where) {
		where = json_loads(o->where, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
		if (!where) {
			fprintf(stderr,
				"semstreams: --where is a condition of the filter, in JSON, line %d column "
				"%d: %s\n",
				error.line, error.column, error.text);
			return NULL;
		}
	}
	if (o->n_redact)
		redact = json_array();
	for (size_t i = 0; i < o->n_redact; i++)
		json_array_append_new(redact, json_string(o->redact[i]));
	json_t *request = json_pack("{s:s, s:I, s:o*, s:o*}", "point", o->point, "limit",
				    (json_int_t)o->limit, "where", where, "redact", redact);
	if (!request)
		fputs("semstreams: a word is not UTF-8\n", stderr);
	return request;
}

int tap_command(const struct cli_options *o)
{
	struct printer p = {.json = o->json};
	struct host_address at;
	char why[512] = "";
	char *body;

	json_t *request = make_request(o);
	if (!request)
		return EXIT_USAGE;
	body = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!body || host_find(o, &at)) {
		free(body);
		return o->config ? EXIT_CONFIG : 1;
	}
	const int status = host_follow(&at, "/api/v1/tap", body, print_line, &p, why);
	free(body);
	if (status != 200)
		fprintf(stderr, "semstreams: %s\n", why);
	else if (!p.ended && !ferror(stdout))
		fprintf(stderr, "semstreams: the host has ended, or closed the tap\n");
	return status == 200 && p.ended ? 0 : 1;
}
