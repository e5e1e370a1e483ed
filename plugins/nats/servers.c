/* SPDX-License-Identifier: MIT */
#include "plugins/nats/servers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/host_name.h>
#include <semstreams/base/json_option.h>

static bool port_is_right(const char *text)
{
	char *end;
	long port = strtol(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && port > 0 && port < 65536;
}

/* What is wrong with a URL; NULL: nothing. */
static const char *fault_of(const char *url)
{
	struct ss_host_name name;
	const char *host = strstr(url, "://"), *end;

	if (strncmp(url, "nats://", 7) != 0 && strncmp(url, "tls://", 6) != 0)
		return "expected a URL such as \"nats://host:4222\", or \"tls://host:4222\" for TLS";
	host += 3;
	if (strchr(host, '@'))
		return "has a user in it; use the options user and password, or token, which are kept secret";
	end = *host == '[' ? host + strcspn(host, "]") : host + strcspn(host, ":/?#");
	if (*host == '[' && *end == ']')
		end++;
	if (ss_host_name_read(host, (size_t)(end - host), &name) != 0)
		return "has no host; expected a URL such as \"nats://host:4222\"";
	if (ss_host_name_fault(&name))
		return ss_host_name_fault(&name);
	if (*end && (*end != ':' || !port_is_right(end + 1)))
		return "has something behind the host that is no port; expected \"nats://host:4222\"";
	return NULL;
}

static void take(struct ss_json_option *in, json_t *url, char **to)
{
	const char *text = json_string_value(url), *fault = text ? fault_of(text) : NULL;

	if (!text)
		ss_json_error(in, NULL, "expected the URL of a server, not %s", ss_json_type(url));
	else if (fault)
		ss_json_error(in, NULL, "%s", fault);
	else if (!(*to = strdup(text)))
		in->err = -ENOMEM;
}

static void take_all(struct ss_json_option *in, json_t *list, char **urls)
{
	size_t i;
	json_t *url;

	if (json_array_size(list) == 0 || json_array_size(list) > NATS_SERVERS_MAX) {
		ss_json_error(in, NULL, "expected 1 to %d servers", NATS_SERVERS_MAX);
		return;
	}
	json_array_foreach(list, i, url)
	{
		size_t back = ss_json_enter_index(in, i);
		take(in, url, &urls[i]);
		ss_json_leave(in, back);
	}
}

int servers_parse(const struct ss_host *host, const char *option, char ***urls)
{
	struct ss_json_option in = {.host = host};
	json_t *value = ss_json_parse(&in, "servers", option);
	char **found = calloc(NATS_SERVERS_MAX + 1, sizeof *found);

	if (!found)
		in.err = -ENOMEM;
	else if (value) {
		size_t back = ss_json_enter(&in, "servers");
		if (json_is_array(value))
			take_all(&in, value, found);
		else
			take(&in, value, found);
		ss_json_leave(&in, back);
	}
	json_decref(value);
	ss_json_done(&in);
	if (in.err) {
		servers_free(found);
		return in.err;
	}
	*urls = found;
	return 0;
}

void servers_free(char **urls)
{
	for (size_t i = 0; urls && i < NATS_SERVERS_MAX; i++)
		free(urls[i]);
	free(urls);
}
