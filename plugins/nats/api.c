/* SPDX-License-Identifier: MIT */
#include "plugins/nats/api.h"

#include <stdio.h>
#include <string.h>

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
