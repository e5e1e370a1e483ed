/* SPDX-License-Identifier: MIT */
/* spec - the option "spool": {"path", "max_bytes", "max_age", "forget_after", "overflow", "sync"}. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <semstreams/base/units.h>
#include "output.h"

static int read_size(const json_t *v, uint64_t *out)
{
	int64_t bytes = json_integer_value(v); /* 0 if it is none */

	if (json_is_string(v) && ss_parse_size(json_string_value(v), &bytes) < 0)
		return -EINVAL;
	*out = (uint64_t)bytes;
	return bytes > 0 ? 0 : -EINVAL;
}

static int read_duration(const json_t *v, uint64_t *out)
{
	int64_t ns;

	if (!json_is_string(v) || ss_parse_duration(json_string_value(v), &ns) < 0)
		return -EINVAL;
	*out = (uint64_t)ns;
	return 0;
}

static int choice(const json_t *v, const char *a, const char *b, bool *is_b)
{
	const char *s = json_string_value(v);

	if (!s || (strcmp(s, a) != 0 && strcmp(s, b) != 0))
		return -EINVAL;
	*is_b = strcmp(s, b) == 0;
	return 0;
}

static int read_member(struct output *out, const char *key, const json_t *v)
{
	const struct ss_host *host = out->host;
	struct sendlog_options *o = &out->log_options;

	if (strcmp(key, "path") == 0) {
		if (!json_is_string(v) || !*json_string_value(v))
			return ss_config_error(host, "/spool/path", "expected the name of a folder");
		out->spool_path = strdup(json_string_value(v));
		o->path = out->spool_path;
		return out->spool_path ? 0 : -ENOMEM;
	}
	if (strcmp(key, "max_bytes") == 0)
		return read_size(v, &o->max_bytes) < 0 || o->max_bytes < 1 << 20
			       ? ss_config_error(host, "/spool/max_bytes",
						 "expected a size of at least \"1MiB\"")
			       : 0;
	if (strcmp(key, "max_age") == 0)
		return read_duration(v, &o->max_age_ns) < 0
			       ? ss_config_error(host, "/spool/max_age", "expected a duration such as \"7d\"")
			       : 0;
	if (strcmp(key, "forget_after") == 0)
		return read_duration(v, &o->forget_ns) < 0
			       ? ss_config_error(host, "/spool/forget_after",
						 "expected a duration such as \"30d\"")
			       : 0;
	if (strcmp(key, "overflow") == 0)
		return choice(v, "block", "drop_oldest", &o->drop_oldest) < 0
			       ? ss_config_error(host, "/spool/overflow",
						 "expected \"block\" or \"drop_oldest\"")
			       : 0;
	if (strcmp(key, "sync") == 0)
		return choice(v, "always", "relaxed", &o->relaxed) < 0
			       ? ss_config_error(host, "/spool/sync", "expected \"always\" or \"relaxed\"")
			       : 0;
	return ss_config_error(
		host, "/spool",
		"unknown key \"%s\"; known are path, max_bytes, max_age, forget_after, overflow, sync", key);
}

int output_read_spool(struct output *out)
{
	json_error_t error;
	json_t *spec = json_loads(out->conf->spool, JSON_DECODE_ANY, &error);
	const char *key;
	json_t *value;
	int rc = 0;

	if (!json_is_object(spec))
		rc = ss_config_error(out->host, "/spool", "expected an object with \"path\"");
	json_object_foreach(spec, key, value)
	{
		int err = read_member(out, key, value);
		if (err && rc != -ENOMEM)
			rc = err;
	}
	if (rc == 0 && !out->spool_path)
		rc = ss_config_error(out->host, "/spool",
				     "\"path\" is missing: the folder to keep events in");
	json_decref(spec);
	return rc;
}
