/* SPDX-License-Identifier: MIT */
#include <semstreams/base/paths.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/fields.h>

int ss_paths_add(struct ss_paths *p, const char *at, const char *key, const char *path)
{
	for (uint32_t i = 0; i < p->n; i++)
		if (strcmp(p->v[i].text, path) == 0)
			return (int)i;
	if (p->n == p->size) {
		uint32_t size = p->size ? 2 * p->size : 8;
		struct ss_path *bigger = realloc(p->v, size * sizeof *bigger);

		if (!bigger)
			return -ENOMEM;
		p->v = bigger;
		p->size = size;
	}
	struct ss_path *new = &p->v[p->n];
	*new = (struct ss_path){.text = strdup(path)};
	if (!new->text || asprintf(&new->pointer, "%s%s%s", at, key ? "/" : "", key ? key : "") < 0) {
		free(new->text);
		return -ENOMEM;
	}
	return (int)p->n++;
}

/* Each path that is none, where it is first named. */
static int report(const struct ss_paths *paths, const struct ss_host *host, const struct ss_iface *fields)
{
	const struct ss_fields *vtbl = fields->vtbl;
	uint32_t bad;

	for (uint32_t i = 0; i < paths->n; i++) {
		const char *text = paths->v[i].text;
		struct ss_reader *reader = NULL;

		if (vtbl->compile(fields->self, &text, 1, &reader, &bad) == -EINVAL)
			ss_config_error(
				host, paths->v[i].pointer,
				"\"%.100s\" is not a path; write \"a.b.0\" or, as a JSON pointer, \"/a/b/0\"",
				text);
		else
			vtbl->free(fields->self, reader);
	}
	return -EINVAL;
}

int ss_paths_compile(const struct ss_paths *paths, const struct ss_host *host, const struct ss_iface *fields,
		     struct ss_reader **out)
{
	const struct ss_fields *vtbl = fields->vtbl;
	const char **texts;
	uint32_t bad;

	if (paths->n == 0)
		return 0;
	texts = calloc(paths->n, sizeof *texts);
	if (!texts)
		return -ENOMEM;
	for (uint32_t i = 0; i < paths->n; i++)
		texts[i] = paths->v[i].text;
	int rc = vtbl->compile(fields->self, texts, paths->n, out, &bad);
	free(texts);
	return rc == -EINVAL ? report(paths, host, fields) : rc;
}

void ss_paths_done(struct ss_paths *p)
{
	for (uint32_t i = 0; i < p->n; i++) {
		free(p->v[i].text);
		free(p->v[i].pointer);
	}
	free(p->v);
	*p = (struct ss_paths){0};
}
