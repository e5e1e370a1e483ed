/* SPDX-License-Identifier: MIT */
/* setup - see setup.h. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/base/url.h>
#include "names.h"
#include "setup.h"

/* ---- the CA's URL ---- */

/* Why it is not host[:port]; NULL: it is. */
static const char *authority_fault(const char *text, size_t len, char *why, size_t size)
{
	struct ss_host_name read;
	char name[SS_HOST_NAME_MAX + 3] = "", fault[400];
	size_t n = len;
	while (n && isdigit((unsigned char)text[n - 1]))
		n--;
	bool has_port = n && text[n - 1] == ':';
	unsigned long port = has_port && n < len ? strtoul(text + n, NULL, 10) : 443;
	size_t name_len = has_port ? n - 1 : len;
	/* "%25eth0" of a link-local address is not part of what is checked */
	const char *zone = text[0] == '[' ? memchr(text, '%', name_len) : NULL;
	snprintf(why, size, "has the port %.*s; ports are 1 to 65535", (int)(len - n), text + n);
	if (port == 0 || port > 65535)
		return why;
	snprintf(name, sizeof name, "%.*s%s", (int)(zone ? (size_t)(zone - text) : name_len), text,
		 zone ? "]" : "");
	if (name_read(name, &read, fault, sizeof fault) == 0) {
		if (name[0] != '*' && (name[0] == '[' || !strchr(name, ':')))
			return NULL;
		snprintf(fault, sizeof fault, "is no host of a URL; an IPv6 address stands in brackets");
	}
	snprintf(why, size, "has the host \"%s\", which %s", name, fault);
	return why;
}

int32_t setup_claim_ca(const struct ss_host *host, const char *pointer, const char *url, const char *path,
		       const char *ca)
{
	char *resource = NULL;
	if (!SS_KNOWS(host, struct ss_host, claim))
		return 0;
	if (asprintf(&resource, "reaches:%s%s%s%s", url, path, ca ? " ca=" : "", ca ? ca : "") < 0)
		return -ENOMEM;
	int32_t rc = host->claim(host, pointer, resource);
	free(resource);
	return rc == -ENOMEM ? rc : 0;
}

const char *setup_url_fault(const char *url, const char *example, const char *protocol, char *why,
			    size_t size)
{
	static const char scheme[] = "https://";
	if (strncasecmp(url, "http://", 7) == 0)
		return "must be https: certificates are not asked for over an unencrypted connection";
	if (strncasecmp(url, scheme, sizeof scheme - 1) != 0) {
		snprintf(why, size, "must be %s", example);
		return why;
	}
	const char *rest = url + sizeof scheme - 1;
	size_t host_len = strcspn(rest, "/?#");
	const char *fault = authority_fault(rest, host_len, why, size);
	/* a password may have a slash in it; nothing of it is shown */
	if (memchr(rest, '@', host_len) || (fault && strchr(rest, '@'))) {
		snprintf(why, size,
			 "contains a user name or password, which %s does not use: remove everything between "
			 "https:// and the host, with the @",
			 protocol);
		return why;
	}
	if (strchr(rest, '#'))
		return "has a fragment, which is not sent to a server: remove the # and everything behind it";
	if (host_len == 0 || strlen(url) > 2048)
		return "has no usable host name";
	for (const char *p = url; !fault && *p; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return "has a character that is not allowed in a URL";
	return fault;
}

/* ---- names ---- */

static int32_t add_name(struct setup *s, const struct ss_host *host, const char *pointer, const char *name)
{
	struct ss_host_name read;
	char why[400];
	if (strncmp(name, "*.", 2) == 0)
		return ss_config_error(
			host, pointer,
			"is a wildcard, which needs a dns-01 challenge; that is not supported");
	if (name_read(name, &read, why, sizeof why))
		return ss_config_error(host, pointer, "%s", why);
	for (size_t i = 0; i < s->n_names; i++)
		if (strcmp(s->names[i], read.text) == 0)
			return ss_config_error(host, pointer, "is listed twice");
	char *copy = strdup(read.text);
	if (!copy)
		return -ENOMEM;
	s->names[s->n_names++] = copy;
	return 0;
}

int32_t setup_read_names(struct setup *s, const struct ss_host *host, const char *text)
{
	char pointer[32];
	json_t *array = json_loads(text, JSON_DECODE_ANY, NULL);
	size_t n = json_array_size(array);
	int32_t rc = 0;
	if (n == 0)
		rc = ss_config_error(host, "/domains",
				     "must be an array of names, like [\"semstreams.local\"]");
	else if (n > SETUP_MAX_NAMES)
		rc = ss_config_error(host, "/domains", "has more than %d names", SETUP_MAX_NAMES);
	for (size_t i = 0; rc != -ENOMEM && i < n && i < SETUP_MAX_NAMES; i++) {
		const json_t *name = json_array_get(array, i);
		snprintf(pointer, sizeof pointer, "/domains/%zu", i);
		int32_t bad = json_is_string(name) ? add_name(s, host, pointer, json_string_value(name))
						   : ss_config_error(host, pointer, "must be a string");
		rc = bad ? bad : rc;
	}
	json_decref(array);
	return rc;
}

int setup_make_texts(struct setup *s, const char *url, const char *storage_path)
{
	json_t *names = json_array();
	ss_url_redact(url, s->shown_url, sizeof s->shown_url);
	for (size_t i = 0; i < s->n_names; i++)
		json_array_append_new(names, json_string(s->names[i]));
	s->names_json = names ? json_dumps(names, JSON_COMPACT) : NULL;
	json_decref(names);
	s->path = strdup(storage_path);
	if (!s->names_json || !s->path)
		return -ENOMEM;
	for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--)
		s->path[n - 1] = '\0';
	if (asprintf(&s->chain_path, "%s/certificate.pem", s->path) < 0)
		s->chain_path = NULL;
	return s->chain_path ? 0 : -ENOMEM;
}

void setup_done(struct setup *s)
{
	for (size_t i = 0; i < s->n_names; i++)
		free((char *)s->names[i]);
	free(s->names_json);
	free(s->path);
	free(s->chain_path);
	free(s->fingerprint);
	*s = (struct setup){0};
}
