/* SPDX-License-Identifier: MIT */
/* plan - see plan.h. */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include <semstreams/ext/fields.h>
#include "json.h"

#define MAX_SPAN_NS (INT64_C(366) * 86400 * 1000000000)
#define AHEAD_NS    (INT64_C(3600) * 1000000000)
#define LAYOUT      "1" /* of states in checkpoints */

/* ---- window ---- */

/* A member that is at most 366 days; unless needed it may be missing or 0. */
static int64_t duration(struct ss_json_option *spec, json_t *object, const char *key, bool needed)
{
	uint64_t ns = 0;

	if (!json_object_get(object, key)) {
		if (needed)
			ss_json_error(spec, NULL, "\"%s\" is missing: a duration such as \"10s\"", key);
		return 0;
	}
	if (!(needed ? ss_json_duration : ss_json_duration_or_zero)(spec, object, key, &ns))
		return 0;
	if (ns > MAX_SPAN_NS) {
		ss_json_error(spec, key, "must be at most 366 days");
		return 0;
	}
	return (int64_t)ns;
}

static int64_t divisor(int64_t a, int64_t b)
{
	while (b) {
		int64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static void read_sliding(struct plan *p, struct ss_json_option *spec)
{
	if (!p->size_ns || !p->every_ns)
		return;
	if (p->every_ns > p->size_ns)
		ss_json_error(spec, "every",
			      "must not be more than \"size\": events between the windows would be lost");
	p->pane_ns = divisor(p->size_ns, p->every_ns);
	if (p->size_ns / p->pane_ns > PANES_MAX)
		ss_json_error(
			spec, "every",
			"splits each window into %lld panes, at most %d are allowed; choose a \"size\" and "
			"an \"every\" with a larger common divisor",
			(long long)(p->size_ns / p->pane_ns), PANES_MAX);
}

static void read_window(struct plan *p, json_t *json, struct ss_json_option *spec)
{
	static const char *const known[] = {"type", "size", "every", "offset", "gap", NULL};
	static const char *const types[] = {"tumbling", "sliding", "session", NULL};
	unsigned kind;

	if (!json_is_object(json)) {
		ss_json_error(spec, NULL,
			      "must be an object such as {\"type\": \"tumbling\", \"size\": \"10s\"}");
		return;
	}
	ss_json_keys(spec, json, known);
	if (!json_object_get(json, "type"))
		ss_json_error(spec, NULL, "\"type\" is missing: \"tumbling\", \"sliding\" or \"session\"");
	if (!ss_json_choice(spec, json, "type", types, &kind))
		return;
	p->kind = (enum window_kind)kind;
	p->size_ns = duration(spec, json, p->kind == WINDOW_SESSION ? "gap" : "size", true);
	p->every_ns = p->kind == WINDOW_SLIDING ? duration(spec, json, "every", true) : p->size_ns;
	p->offset_ns = p->kind == WINDOW_SESSION ? 0 : duration(spec, json, "offset", false);
	p->pane_ns = p->size_ns;
	static const char *const foreign[][3] = {
		{"every", "gap", NULL}, {"gap", NULL, NULL}, {"size", "every", "offset"}};
	for (int i = 0; i < 3 && foreign[p->kind][i]; i++)
		if (json_object_get(json, foreign[p->kind][i]))
			ss_json_error(spec, foreign[p->kind][i], "does not apply to %s windows", types[kind]);
	if (p->kind == WINDOW_SLIDING)
		read_sliding(p, spec);
}

/* ---- time ---- */

static void read_time(struct plan *p, json_t *json, struct ss_json_option *spec, struct ss_paths *paths)
{
	static const char *const known[] = {"field", "format", "lateness", "idle", "max_ahead", "late", NULL};
	static const char *const late[] = {"drop", "emit", NULL};
	json_t *field = json_object_get(json, "field");
	unsigned format = p->time_format, emit = 0;

	if (!json_is_object(json)) {
		ss_json_error(spec, NULL,
			      "must be an object such as {\"field\": \"ts\", \"lateness\": \"5s\"}");
		return;
	}
	ss_json_keys(spec, json, known);
	if (field && !json_is_string(field))
		ss_json_error(spec, "field", "must be a string, the path of a field, found %s",
			      ss_json_type(field));
	else if (field &&
		 (p->time_field = ss_paths_add(paths, spec->at, "field", json_string_value(field))) < 0)
		spec->err = -ENOMEM;
	static const char *const of_field[] = {"format", "max_ahead"};
	for (int i = 0; !field && i < 2; i++)
		if (json_object_get(json, of_field[i]))
			ss_json_error(spec, of_field[i], "applies only with \"field\"");
	if (ss_json_choice(spec, json, "format", timestamp_formats, &format))
		p->time_format = (enum timestamp_format)format;
	p->lateness_ns = duration(spec, json, "lateness", false);
	if (json_object_get(json, "idle"))
		p->idle_ns = duration(spec, json, "idle", false);
	if (json_object_get(json, "max_ahead"))
		p->ahead_ns = duration(spec, json, "max_ahead", false);
	(void)ss_json_choice(spec, json, "late", late, &emit);
	p->emit_late = emit;
}

/* ---- groups ---- */

static void add_group(struct plan *p, json_t *json, const char *key, struct ss_json_option *spec,
		      struct ss_paths *paths)
{
	const char *name = json_string_value(json);

	if (!name) {
		ss_json_error(spec, key, "must be a string, the path of a field, found %s",
			      ss_json_type(json));
		return;
	}
	if (p->n_group_fields == GROUP_FIELDS_MAX) {
		ss_json_error(spec, key, "at most %d fields are allowed", GROUP_FIELDS_MAX);
		return;
	}
	for (uint32_t i = 0; i < p->n_group_fields; i++)
		if (strcmp(p->group_names[i], name) == 0)
			ss_json_error(spec, key, "\"%.60s\" is listed twice", name);
	int field = ss_paths_add(paths, spec->at, key, name);
	char *copy = strdup(name), *label = print_label(name);
	if (field < 0 || !copy || !label) {
		spec->err = -ENOMEM;
		free(copy);
		free(label);
		return;
	}
	p->group_fields[p->n_group_fields] = field;
	p->group_labels[p->n_group_fields] = label;
	p->group_names[p->n_group_fields++] = copy;
}

static void read_group_by(struct plan *p, json_t *json, struct ss_json_option *spec, struct ss_paths *paths)
{
	if (!json_is_array(json)) {
		add_group(p, json, NULL, spec, paths);
		return;
	}
	for (size_t i = 0; i < json_array_size(json); i++) {
		char key[24];
		snprintf(key, sizeof key, "%zu", i);
		add_group(p, json_array_get(json, i), key, spec, paths);
	}
}

/* Names in a result must differ. */
static void check_names(struct plan *p, struct ss_json_option *spec)
{
	static const char *const reserved[] = {"window_start", "window_end", "final", "partial",
					       "overflow",     "groups",     NULL};

	for (uint32_t f = 0; f < p->functions.n; f++) {
		const char *name = p->functions.v[f].name;
		for (uint32_t i = 0; name && i < p->n_group_fields; i++)
			if (strcmp(name, p->group_names[i]) == 0)
				ss_json_error(spec, "functions",
					      "\"%.60s\" is a group_by field, too; choose another name",
					      name);
		for (int i = 0; name && reserved[i]; i++)
			if (strcmp(name, reserved[i]) == 0)
				ss_json_error(spec, "functions",
					      "\"%s\" is reserved: every result has a member of that name; "
					      "choose another",
					      name);
	}
	for (uint32_t i = 0; i < p->n_group_fields; i++)
		for (int k = 0; reserved[k]; k++)
			if (strcmp(p->group_names[i], reserved[k]) == 0)
				ss_json_error(spec, "group_by",
					      "\"%s\" is reserved: every result has a member of that name",
					      reserved[k]);
}

/* ---- checkpoints ---- */

static void read_checkpoint(struct plan *p, json_t *json, struct ss_json_option *spec)
{
	static const char *const known[] = {"path", "interval", NULL};
	const char *path = json_string_value(json_object_get(json, "path"));
	uint64_t ns = 0;

	if (!json_is_object(json)) {
		ss_json_error(spec, NULL,
			      "must be an object such as {\"path\": \"/var/lib/semstreams/hub.state\"}");
		return;
	}
	ss_json_keys(spec, json, known);
	if (!path || !path[0]) {
		ss_json_error(spec, NULL, "\"path\" is missing: the name of a file");
		return;
	}
	p->checkpoint_ns = 1000000000;
	if (json_object_get(json, "interval") && ss_json_duration(spec, json, "interval", &ns)) {
		if (ns < 10000000 || ns > UINT64_C(3600000000000))
			ss_json_error(spec, "interval", "must be from \"10ms\" to \"1h\"");
		p->checkpoint_ns = (int64_t)ns;
	}
	p->checkpoint_path = strdup(path);
	if (!p->checkpoint_path)
		spec->err = -ENOMEM;
}

/* FNV-1a: tells configurations apart; not for security. */
static uint64_t mix(uint64_t h, const char *text)
{
	for (; text && *text; text++)
		h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	return (h ^ 0xff) * UINT64_C(0x100000001b3);
}

static void take_fingerprint(struct plan *p)
{
	const char *const texts[] = {p->conf->window, p->conf->time, p->conf->group_by, p->conf->functions};

	p->fingerprint = mix(UINT64_C(0xcbf29ce484222325), LAYOUT) + p->functions.size;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		/* formatted anew: blanks make no difference */
		json_t *json = texts[i] ? json_loads(texts[i], JSON_DECODE_ANY, NULL) : NULL;
		char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
		/* with numbers that Jansson cannot hold, as it stands */
		p->fingerprint = mix(p->fingerprint, json ? text : texts[i]);
		free(text);
		json_decref(json);
	}
}

/* ---- all of it ---- */

static void read_option(struct plan *p, int which, json_t *json, struct ss_json_option *spec,
			struct ss_paths *paths, const struct ss_iface *fields)
{
	int rc;

	switch (which) {
	case 0:
		read_window(p, json, spec);
		break;
	case 1:
		read_time(p, json, spec, paths);
		break;
	case 2:
		read_group_by(p, json, spec, paths);
		break;
	case 3:
		rc = functions_compile(json, spec, paths, fields, &p->functions);
		spec->err = spec->err ? spec->err : rc;
		break;
	default:
		read_checkpoint(p, json, spec);
	}
}

int plan_compile(const struct ss_host *host, const struct conf *conf, const struct ss_iface *fields,
		 struct plan *p)
{
	const struct {
		const char *name, *text;
	} options[] = {{"window", conf->window},
		       {"time", conf->time},
		       {"group_by", conf->group_by},
		       {"functions", conf->functions},
		       {"checkpoint", conf->checkpoint}};
	struct ss_json_option spec = {.host = host, .fields = fields};
	struct ss_paths paths = {0};
	int rc = 0;

	*p = (struct plan){.conf = conf, .time_field = -1, .idle_ns = -1, .ahead_ns = AHEAD_NS};
	for (size_t i = 0; i < sizeof options / sizeof *options && rc != -ENOMEM; i++) {
		json_t *json =
			options[i].text ? ss_json_parse(&spec, options[i].name, options[i].text) : NULL;
		if (json) {
			size_t before = ss_json_enter(&spec, options[i].name);
			read_option(p, (int)i, json, &spec, &paths, fields);
			ss_json_leave(&spec, before);
			json_decref(json);
		}
		rc = spec.err ? spec.err : rc;
		spec.err = 0;
	}
	if (p->kind == WINDOW_SESSION && conf->when_full == FULL_OVERFLOW)
		rc = ss_config_error(host, "/when_full", "must be \"oldest\" with session windows");
	if (p->kind == WINDOW_SLIDING && conf->early_ns)
		rc = ss_config_error(host, "/early",
				     "does not apply to sliding windows; make \"every\" shorter instead");
	if (rc == 0) {
		check_names(p, &spec);
		rc = spec.err;
	}
	int compiled = rc == -ENOMEM ? rc : ss_event_reader_init(&p->reader, &paths, host, fields);
	p->n_paths = paths.n;
	for (uint32_t i = 0; i < p->functions.n; i++)
		if (p->functions.v[i].type && p->functions.v[i].field >= 0)
			p->number_field[p->functions.v[i].field] |= p->functions.v[i].type->needs_number;
	p->received = p->time_field < 0;
	take_fingerprint(p);
	ss_json_done(&spec);
	ss_paths_done(&paths);
	return rc ? rc : compiled;
}

void plan_done(struct plan *p)
{
	ss_event_reader_done(&p->reader);
	functions_done(&p->functions);
	for (uint32_t i = 0; i < p->n_group_fields; i++) {
		free(p->group_names[i]);
		free(p->group_labels[i]);
	}
	free(p->checkpoint_path);
	*p = (struct plan){0};
}
