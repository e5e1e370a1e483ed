/* SPDX-License-Identifier: MIT */
#include "core/torture/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/config/diag.h"
#include "core/config/jdoc.h"
#include "core/config/options.h"

struct conf {
	struct jdoc *doc;
	struct options options;
};

static const struct ss_option *option_at(const struct ss_component *d, uint32_t i)
{
	return (const void *)((const char *)d->options + (size_t)i * d->option_size);
}

static const struct ss_option *find_option(const struct ss_component *d, const char *key, size_t len)
{
	for (uint32_t i = 0; i < d->n_options; i++)
		if (strncmp(option_at(d, i)->key, key, len) == 0 && option_at(d, i)->key[len] == '\0')
			return option_at(d, i);
	return NULL;
}

static json_t *load_config(const char *file)
{
	json_error_t error;
	json_t *object = file ? json_load_file(file, JSON_REJECT_DUPLICATES, &error) : json_object();

	if (file && !object)
		fprintf(stderr, "semstreams plugins check: %s:%d:%d: %s\n", file, error.line, error.column,
			error.text);
	else if (!object)
		fprintf(stderr, "semstreams plugins check: out of memory\n");
	else if (file && !json_is_object(object))
		fprintf(stderr, "semstreams plugins check: %s holds no JSON object with options\n", file);
	else
		return object;
	json_decref(object);
	return NULL;
}

static int add_pair(const struct ss_component *d, json_t *object, const char *pair)
{
	const char *equals = strchr(pair, '=');
	const struct ss_option *o = equals ? find_option(d, pair, (size_t)(equals - pair)) : NULL;

	if (!o) {
		fprintf(stderr,
			equals ? "semstreams plugins check: type '%s' has no option of --option %s\n"
			       : "semstreams plugins check: type '%s': --option %s is not NAME=VALUE\n",
			d->type, pair);
		return -EINVAL;
	}
	const bool is_text = o->type == SS_OPT_STRING || o->type == SS_OPT_ENUM || o->type == SS_OPT_DURATION;
	json_t *value = is_text ? NULL : json_loads(equals + 1, JSON_DECODE_ANY, NULL);
	if (!value)
		value = json_string(equals + 1);
	return json_object_set_new(object, o->key, value) < 0 ? -ENOMEM : 0;
}

/* A port that nobody has now, of UDP and TCP. */
static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
	    getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		port = ntohs(a.sin_port);
	if (fd >= 0)
		close(fd);
	return port;
}

static bool ends_in(const char *text, const char *end)
{
	const size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_one_of(const char *key, const char *const *names)
{
	while (*names && strcmp(key, *names) != 0)
		names++;
	return *names;
}

/* A file that is there, and empty. */
static json_t *file_to_read(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return json_string(path);
}

/* What an option gets that was not given; NULL: its default, or nothing. */
static json_t *invent(const struct ss_option *o, const char *folder)
{
	static const char *const addresses[] = {"address", "host", "bind", NULL};
	const bool is_required = o->flags & SS_OPT_REQUIRED;
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", folder, o->key);
	if (o->type == SS_OPT_STRING && (o->flags & SS_OPT_WRITES) && (is_required || o->default_text))
		return json_string(path);
	if (o->type == SS_OPT_STRING && (o->flags & SS_OPT_READS) && is_required)
		return file_to_read(path);
	if (o->type == SS_OPT_INT &&
	    (strcmp(o->key, "port") == 0 || (is_required && ends_in(o->key, "_port"))))
		return json_integer(o->min <= 0 ? 0 : free_port());
	if (o->type == SS_OPT_STRING && is_required && is_one_of(o->key, addresses))
		return json_string("127.0.0.1");
	return NULL;
}

static int complete(const struct ss_component *d, json_t *object, const char *folder)
{
	int rc = 0;

	for (uint32_t i = 0; i < d->n_options; i++) {
		const struct ss_option *o = option_at(d, i);
		if (json_object_get(object, o->key))
			continue;
		json_t *value = invent(o, folder);
		if (value && json_object_set_new(object, o->key, value) < 0)
			return -ENOMEM;
		if (value || !(o->flags & SS_OPT_REQUIRED))
			continue;
		fprintf(stderr, "semstreams plugins check: type '%s' needs --option %s=VALUE (%s)\n", d->type,
			o->key, o->help ? o->help : "");
		rc = -EINVAL;
	}
	return rc;
}

static int fill(const struct ss_component *d, const json_t *object, const char *name, struct conf *c)
{
	const struct option_table table = {
		.rows = d->options, .row_size = d->option_size, .n = d->n_options, .conf_size = d->conf_size};
	char *text = json_dumps(object, JSON_INDENT(2));
	struct diag diag;

	diag_init(&diag);
	int rc = text ? jdoc_parse(name, text, strlen(text), &diag, &c->doc) : -ENOMEM;
	if (rc == 0)
		rc = options_fill(&table, c->doc, c->doc->root, c->doc->root, &diag, &c->options);
	diag_print(&diag, stderr);
	diag_done(&diag);
	free(text);
	return rc;
}

int conf_new(const struct ss_component *d, const struct settings *s, const char *folder, struct conf **out)
{
	struct conf *c = calloc(1, sizeof *c);
	json_t *object = c ? load_config(s->config) : NULL;
	int rc = !c ? -ENOMEM : !object ? -EINVAL : 0;

	if (rc == 0 && mkdir(folder, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	for (size_t i = 0; rc == 0 && i < s->n; i++)
		rc = add_pair(d, object, s->pairs[i]);
	if (rc == 0)
		rc = complete(d, object, folder);
	if (rc == 0)
		rc = fill(d, object, s->config ? s->config : "options", c);
	json_decref(object);
	if (rc == 0)
		*out = c;
	else
		conf_free(c);
	return rc;
}

const void *conf_of(const struct conf *c)
{
	return c->options.conf;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	options_done(&c->options);
	jdoc_free(c->doc);
	free(c);
}
