/* SPDX-License-Identifier: MIT */
/* spool_option - the option "spool": {"path", "max_bytes", "max_age", "forget_after", "overflow", "sync"}. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/json_option.h>
#include "output.h"

/* A folder is one component's. */
static int claim_folder(const struct output *out)
{
	char resource[1024];
	int len = (int)strlen(out->spool_path);

	while (len > 1 && out->spool_path[len - 1] == '/')
		len--;
	if (!SS_KNOWS(out->host, struct ss_host, claim))
		return 0;
	snprintf(resource, sizeof resource, "writes:%.*s", len, out->spool_path);
	if (out->host->claim(out->host, "/spool/path", resource) == -ENOMEM)
		return -ENOMEM;
	snprintf(resource, sizeof resource, "file:%.*s", len, out->spool_path);
	return out->host->claim(out->host, "/spool/path", resource);
}

int output_read_spool(struct output *out)
{
	static const char *const known[] = {"path",     "max_bytes", "max_age", "forget_after",
					    "overflow", "sync",      NULL};
	static const char *const overflows[] = {"block", "drop_oldest", NULL};
	static const char *const syncs[] = {"always", "relaxed", NULL};
	struct ss_json_option j = {.host = out->host};
	struct sendlog_options *o = &out->log_options;
	const char *path = NULL;
	unsigned choice;

	json_t *spool = ss_json_parse(&j, "spool", out->conf->spool);
	if (!spool)
		return j.err;
	ss_json_enter(&j, "spool");
	if (!json_is_object(spool)) {
		ss_json_error(&j, NULL, "expected an object with \"path\"");
		goto out;
	}
	ss_json_keys(&j, spool, known);
	if (!ss_json_text(&j, spool, "path", &path) && !j.err)
		ss_json_error(&j, NULL, "\"path\" is missing: the folder to keep events in");
	ss_json_size(&j, spool, "max_bytes", 1 << 20, &o->max_bytes);
	ss_json_duration(&j, spool, "max_age", &o->max_age_ns);
	ss_json_duration(&j, spool, "forget_after", &o->forget_ns);
	if (ss_json_choice(&j, spool, "overflow", overflows, &choice))
		o->drop_oldest = choice;
	if (ss_json_choice(&j, spool, "sync", syncs, &choice))
		o->relaxed = choice;
	out->spool_path = path ? strdup(path) : NULL;
	if (path && !out->spool_path)
		j.err = -ENOMEM;
	o->path = out->spool_path;
	if (o->path && claim_folder(out) == -ENOMEM)
		j.err = -ENOMEM;
out:
	ss_json_done(&j);
	json_decref(spool);
	return j.err;
}
