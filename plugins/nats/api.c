/* SPDX-License-Identifier: MIT */
#include "plugins/nats/api.h"

#include <stdio.h>
#include <string.h>
#include <semstreams/base/strbuf.h>

json_t *api_read(natsMsg *msg, int *error, char *why, size_t size)
{
	json_error_t e;
	json_t *root = json_loadb(natsMsg_GetData(msg) ? natsMsg_GetData(msg) : "",
				  (size_t)natsMsg_GetDataLength(msg), 0, &e);
	const json_t *told = json_object_get(root, "error");
	const char *text = json_string_value(json_object_get(told, "description"));

	*error = json_is_object(root) ? 0 : -1;
	snprintf(why, size, "%s", *error ? "an answer that is no JSON object" : "");
	if (!told)
		return root;
	*error = (int)json_integer_value(json_object_get(told, "err_code"));
	if (*error == 0)
		*error = -1;
	snprintf(why, size, "%.200s", text ? text : "an error without a description");
	return root;
}

static const json_t *find(const json_t *at, const char *path)
{
	char key[64];

	while (at) {
		const size_t n = strcspn(path, ".");
		snprintf(key, sizeof key, "%.*s", (int)n, path);
		at = json_object_get(at, key);
		if (!path[n])
			break;
		path += n + 1;
	}
	return at;
}

uint64_t api_number(const json_t *root, const char *path)
{
	const json_t *found = find(root, path);

	return json_is_integer(found) && json_integer_value(found) > 0 ? (uint64_t)json_integer_value(found)
								       : 0;
}

const char *api_text(const json_t *root, const char *path)
{
	return json_string_value(find(root, path));
}

char *api_headers(const json_t *answer)
{
	const char *text = api_text(answer, "message.hdrs");
	struct ss_strbuf url = {0}, out = {0};
	char *headers = NULL;

	/* base64 in the form that base/strbuf.h reads */
	for (; text && *text && *text != '='; text++)
		ss_strbuf_char(&url, (char)(*text == '+' ? '-' : *text == '/' ? '_' : *text));
	if (url.len && !url.failed && ss_base64url_read(url.bytes, url.len, &out) == 0)
		headers = ss_strbuf_take(&out);
	ss_strbuf_done(&url);
	ss_strbuf_done(&out);
	return headers;
}

char *api_header(const char *headers, const char *name)
{
	const size_t len = strlen(name);

	for (const char *line = headers; line; line = strstr(line, "\r\n")) {
		line += line == headers ? 0 : 2;
		if (strncmp(line, name, len) != 0 || line[len] != ':')
			continue;
		line += len + 1;
		line += strspn(line, " ");
		return strndup(line, strcspn(line, "\r"));
	}
	return NULL;
}
