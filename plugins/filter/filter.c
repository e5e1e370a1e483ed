/* SPDX-License-Identifier: MIT */
/*
 * filter - passes on the events whose fields meet conditions, thinned out per key by a deadband or a rate
 * limit, and with other members.  An event is parsed once for all that options need of it; nothing is
 * allocated per event.  Runs on the instance's loop; create and destroy in the control thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/sugar.h>
#include "condition.h"
#include "thinning.h"
#include <semstreams/base/event_fault.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

#define VERSION "1.0"

enum { PORT_MATCH, PORT_REST };
enum { ON_ERROR_DROP, ON_ERROR_PASS };
enum { AS_IT_IS = 2 };
#define ROW_AS_IT_IS 0x80000000 /* flag of a row */
enum { REASON_NOT_JSON, REASON_TOO_DEEP, REASON_REGEX, REASON_NO_MEMORY };
#define N_ERRORS 3 /* the first of the reasons, in the same order as the first metrics */

enum {
	METRIC_ERRORS, /* and the next two: REASON_... */
	METRIC_DEADBAND = N_ERRORS,
	METRIC_RATE_LIMIT,
	METRIC_DEADBAND_KEYS,
	METRIC_RATE_LIMIT_KEYS,
	METRIC_DEADBAND_EVICTED,
	METRIC_RATE_LIMIT_EVICTED,
	METRIC_SAMPLE
};

/* ---- option fields: other members for the events that pass ---- */

/* Works on the members of the event's object itself, not deeper, and copies their values as they stand. */

#define NAMES_MAX 256 /* in each of the lists */

struct name {
	char *text;
	size_t len;
	char *to; /* rename: the new name in JSON; set: the whole member */
	size_t to_len;
};

struct names {
	struct name *v;
	size_t n;
};

struct reshape {
	bool selects;
	struct names select, remove, rename, set;
	size_t grows; /* by how much the members that are set make an event longer */
	struct ss_iface fields;
	struct ss_scratch scratch;
};

/* "name":value */
static char *encode_member(const struct ss_json_option *option, const char *name, const json_t *value)
{
	json_t *string = json_string(name);
	char *left = ss_json_dump(option, string), *right = ss_json_dump(option, value), *both = NULL;

	json_decref(string);
	if (!left || !right || asprintf(&both, "%s:%s", left, right) < 0)
		both = NULL;
	free(left);
	free(right);
	return both;
}

static void add(struct names *names, const char *text, char *to, struct ss_json_option *option)
{
	struct name *more = realloc(names->v, (names->n + 1) * sizeof *more);

	if (more)
		names->v = more;
	char *copy = more ? strdup(text) : NULL;
	if (!copy) {
		free(to);
		option->err = -ENOMEM;
		return;
	}
	names->v[names->n++] = (struct name){copy, strlen(copy), to, to ? strlen(to) : 0};
}

static void read_list(json_t *list, const char *key, struct names *out, struct ss_json_option *option)
{
	if (!list)
		return;
	if (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > NAMES_MAX) {
		ss_json_error(option, key, "must be a list of 1 to %d names", NAMES_MAX);
		return;
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *name = json_array_get(list, i);
		if (json_is_string(name) && strlen(json_string_value(name)) != json_string_length(name))
			ss_json_error(option, key, "must not contain a NUL character");
		else if (json_is_string(name))
			add(out, json_string_value(name), NULL, option);
		else
			ss_json_error(option, key, "must list names, found %s", ss_json_type(name));
	}
}

static void read_map(json_t *map, const char *key, bool names_only, struct names *out,
		     struct ss_json_option *option)
{
	const char *name;
	json_t *value;

	if (!map)
		return;
	if (!json_is_object(map) || json_object_size(map) == 0 || json_object_size(map) > NAMES_MAX) {
		ss_json_error(option, key, "must be an object of 1 to %d members", NAMES_MAX);
		return;
	}
	json_object_foreach(map, name, value)
	{
		if (names_only && !json_is_string(value)) {
			ss_json_error(option, key, "must rename \"%.40s\" to a string, found %s", name,
				      ss_json_type(value));
			continue;
		}
		char *to = names_only ? ss_json_dump(option, value) : encode_member(option, name, value);
		if (to)
			add(out, name, to, option);
		else
			option->err = -ENOMEM;
	}
}

static void free_names(struct names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		free(names->v[i].text);
		free(names->v[i].to);
	}
	free(names->v);
}

static void reshape_free(struct reshape *r)
{
	if (!r)
		return;
	free_names(&r->select);
	free_names(&r->remove);
	free_names(&r->rename);
	free_names(&r->set);
	free(r->scratch.bytes);
	free(r);
}

/*
 * {"select": [names], "remove": [names], "rename": {"old": "new"}, "set": {"name": value}}, in this order:
 * select and remove and rename go by the names the event came with; set comes last and wins.  Errors go to
 * option: -EINVAL, -ENOMEM.
 */
static int reshape_compile(json_t *json, struct ss_json_option *option, const struct ss_iface *fields,
			   struct reshape **out)
{
	static const char *const known[] = {"select", "remove", "rename", "set", NULL};
	struct reshape *r = calloc(1, sizeof *r);

	if (!r) {
		option->err = -ENOMEM;
		return -ENOMEM;
	}
	r->fields = *fields;
	if (!json_is_object(json) || json_object_size(json) == 0) {
		ss_json_error(option, NULL,
			      "must be an object with \"select\", \"remove\", \"rename\" or \"set\"");
	} else {
		ss_json_keys(option, json, known);
		r->selects = json_object_get(json, "select") != NULL;
		read_list(json_object_get(json, "select"), "select", &r->select, option);
		read_list(json_object_get(json, "remove"), "remove", &r->remove, option);
		read_map(json_object_get(json, "rename"), "rename", true, &r->rename, option);
		read_map(json_object_get(json, "set"), "set", false, &r->set, option);
	}
	for (size_t i = 0; i < r->rename.n; i++) {
		const char *new_name = json_string_value(
			json_object_get(json_object_get(json, "rename"), r->rename.v[i].text));
		if (new_name && json_object_get(json_object_get(json, "set"), new_name))
			ss_json_error(option, "set", "\"%.40s\" is also the new name of \"%.40s\"", new_name,
				      r->rename.v[i].text);
		for (size_t j = 0; j < i; j++)
			if (strcmp(r->rename.v[i].to, r->rename.v[j].to) == 0)
				ss_json_error(option, "rename",
					      "\"%.40s\" and \"%.40s\" are renamed to the same name",
					      r->rename.v[j].text, r->rename.v[i].text);
	}
	for (size_t i = 0; i < r->set.n; i++)
		r->grows += r->set.v[i].to_len + 1;
	if (option->err)
		reshape_free(r);
	else
		*out = r;
	return option->err;
}

/* ---- one event ---- */

/* The most bytes an event of len bytes becomes: a name may come again and again, each time in quotes, with a
 * colon, a value and a comma or brace. */
static size_t reshape_size(const struct reshape *r, size_t len)
{
	size_t most = 0;

	for (size_t i = 0; i < r->rename.n; i++) {
		const struct name *name = &r->rename.v[i];
		const size_t old_len = name->len + 2;
		const size_t grows =
			name->to_len > old_len ? (name->to_len - old_len) * len / (old_len + 3) + 1 : 0;
		most = grows > most ? grows : most;
	}
	return len + most + r->grows + 2;
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* From an opening quote to behind the closing one; NULL: there is none. */
static const char *skip_string(const char *p, const char *end, bool *escaped)
{
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\') {
			*escaped = true;
			p++;
		}
	}
	return p < end ? p + 1 : NULL;
}

/* To the comma or brace behind a value; NULL: there is none. */
static const char *skip_value(const char *p, const char *end)
{
	bool escaped;
	int depth = 0;

	while (p && p < end && (depth || (*p != ',' && *p != '}'))) {
		if (*p == '"') {
			p = skip_string(p, end, &escaped);
			continue;
		}
		depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
		p++;
	}
	return p && p < end ? p : NULL;
}

static const struct name *find(const struct names *names, const char *text, size_t len)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->v[i].len == len && memcmp(names->v[i].text, text, len) == 0)
			return &names->v[i];
	return NULL;
}

/* One member: begin at its name's quote, end behind its value.  Where it is written to, or where it was;
 * NULL: out of memory. */
static char *member(struct reshape *r, const char *begin, const char *name_end, bool escaped, const char *end,
		    char *to, const char *start)
{
	struct ss_field f = {.text = begin + 1,
			     .len = (uint32_t)(name_end - begin - 2),
			     .type = SS_JSON_STRING,
			     .flags = escaped ? SS_FIELD_ESCAPED : 0};
	const char *name;
	size_t len;

	if (ss_scratch_text(&r->scratch, &r->fields, &f, &name, &len) < 0)
		return NULL;
	if ((r->selects && !find(&r->select, name, len)) || find(&r->remove, name, len))
		return to;
	const struct name *other = find(&r->rename, name, len);
	if (find(&r->set, name, len) && !other)
		return to; /* comes last, with another value */
	if (to > start)
		*to++ = ',';
	if (other) {
		memcpy(to, other->to, other->to_len);
		to += other->to_len;
		begin = name_end;
	}
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n' || end[-1] == '\r'))
		end--;
	memcpy(to, begin, (size_t)(end - begin));
	return to + (end - begin);
}

static char *put_set(const struct reshape *r, char *to, const char *start)
{
	for (size_t i = 0; i < r->set.n; i++) {
		if (to > start)
			*to++ = ',';
		memcpy(to, r->set.v[i].to, r->set.v[i].to_len);
		to += r->set.v[i].to_len;
	}
	return to;
}

/* The object that begins at p; NULL: out of memory. */
static char *reshape_object(struct reshape *r, const char *p, const char *end, char *to)
{
	char *start = to + 1;

	*to++ = '{';
	p = skip_blanks(p + 1, end);
	while (p < end && *p == '"') {
		bool escaped = false;
		const char *name_end = skip_string(p, end, &escaped);
		const char *colon = name_end ? skip_blanks(name_end, end) : end;
		const char *value_end = colon < end && *colon == ':' ? skip_value(colon + 1, end) : NULL;
		if (!value_end)
			return NULL;
		to = member(r, p, name_end, escaped, value_end, to, start);
		if (!to)
			return NULL;
		p = *value_end == ',' ? skip_blanks(value_end + 1, end) : value_end;
	}
	if (p >= end || *p != '}' || skip_blanks(p + 1, end) != end)
		return NULL;
	to = put_set(r, to, start);
	*to++ = '}';
	return to;
}

/* An event that is well-formed JSON; out has room for reshape_size().  Its new length, -ENOMEM; what is no
 * object stays as it is. */
static int64_t reshape_event(struct reshape *r, const char *json, size_t len, char *out)
{
	const char *end = json + len, *p = skip_blanks(json, end);

	if (p < end && *p == '{') {
		char *to = reshape_object(r, p, end, out);

		return to ? to - out : -ENOMEM;
	}
	memcpy(out, json, len);
	return (int64_t)len;
}

/* ---- the plugin ---- */

struct conf {
	const char *where;
	int64_t on_error;
	const char *deadband;
	const char *rate_limit;
	const char *sample;
	const char *fields;
	int64_t max_keys;
};

struct filter {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface fields;
	struct ss_reader *reader;
	struct ss_field *values; /* of one event, by path */
	uint32_t n_paths;
	struct conditions *where;
	struct thinning thinning;
	bool thins; /* something is set in thinning */
	struct reshape *reshape;
	uint32_t *rows; /* of events that pass; behind them those that do not */
	uint32_t capacity;
};

/* What became of the events of one batch. */
struct tally {
	uint32_t passed, rest;
	uint32_t errors[N_ERRORS];
	uint32_t suppressed[THINNING_WAYS];
	struct {
		const struct ss_event *event;
		int32_t error;
		size_t where;
	} first[N_ERRORS]; /* to be shown in the log */
};

static void destroy(void *self)
{
	struct filter *f = self;
	const struct ss_fields *fields;

	if (!f)
		return;
	fields = f->fields.vtbl;
	if (f->reader)
		fields->free(f->fields.self, f->reader);
	conditions_free(f->where);
	thinning_done(&f->thinning);
	reshape_free(f->reshape);
	free(f->values);
	free(f->rows);
	free(f);
}

static void compile_option(struct filter *f, const char *name, json_t *json, struct ss_json_option *option,
			   struct ss_paths *paths)
{
	uint32_t max_keys = (uint32_t)f->conf->max_keys;
	static const char *const ways[THINNING_WAYS] = {"sample", "deadband", "rate_limit"};

	for (int way = 0; way < THINNING_WAYS; way++)
		if (strcmp(name, ways[way]) == 0)
			thinning_compile(&f->thinning, (enum thinning_way)way, json, option, paths, max_keys,
					 &f->fields);
	if (strcmp(name, "where") == 0)
		conditions_compile(json, option, paths, &f->fields, &f->where);
	else if (strcmp(name, "fields") == 0)
		reshape_compile(json, option, &f->fields, &f->reshape);
}

/* Everything in the JSON-valued options, so that all errors are told at once; 0, -EINVAL, -ENOMEM. */
static int compile_options(struct filter *f, struct ss_json_option *option, struct ss_paths *paths)
{
	const struct conf *conf = f->conf;
	const struct {
		const char *name, *text;
	} options[] = {{"where", conf->where},
		       {"sample", conf->sample},
		       {"deadband", conf->deadband},
		       {"rate_limit", conf->rate_limit},
		       {"fields", conf->fields}};
	int first_error = 0;

	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		json_t *json =
			options[i].text ? ss_json_parse(option, options[i].name, options[i].text) : NULL;

		if (json) {
			size_t before = ss_json_enter(option, options[i].name);
			compile_option(f, options[i].name, json, option, paths);
			ss_json_leave(option, before);
			json_decref(json);
		}
		if (option->err == -ENOMEM)
			return -ENOMEM;
		if (option->err)
			first_error = option->err;
		option->err = 0;
	}
	/* what is taken apart must be known to be well-formed */
	if (f->reshape && paths->n == 0 && ss_paths_add(paths, option->at, "fields", "") < 0)
		return -ENOMEM;
	return first_error;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct filter *f = calloc(1, sizeof *f);
	struct ss_json_option option = {.host = host};
	struct ss_paths paths = {0};
	int r;

	if (!f)
		return -ENOMEM;
	option.fields = &f->fields;
	f->host = host;
	f->conf = conf;
	r = host->query(host, SS_FIELDS, sizeof(struct ss_fields), &f->fields);
	if (r < 0) {
		ss_log(host, SS_LOG_ERROR, "the host does not offer the service " SS_FIELDS);
		goto out;
	}
	r = compile_options(f, &option, &paths);
	if (r != -ENOMEM) { /* also after an error, to tell all of them */
		int p = ss_paths_compile(&paths, host, &f->fields, &f->reader);

		r = p < 0 ? p : r;
		f->n_paths = paths.n;
		f->thins = f->thinning.sample || f->thinning.deadband || f->thinning.rate_limit;
		f->values = calloc(paths.n + 1, sizeof *f->values);
		if (!f->values)
			r = -ENOMEM;
	}
out:
	ss_json_done(&option);
	ss_paths_done(&paths);
	if (r < 0)
		destroy(f);
	else
		*self = f;
	return r;
}

/* Is the event to be passed on?  1; AS_IT_IS: yes, though it could not be read; 0; or a negative errno that
 * spoils the batch, but for -EBADMSG: the event is dropped. */
static int judge(struct filter *f, const struct ss_event *e, struct tally *tally)
{
	const struct ss_fields *fields = f->fields.vtbl;
	int error = -1, r = 0, yes = 1;
	size_t where = 0;

	if (f->reader)
		r = fields->read(f->fields.self, f->reader, e->data, e->len, f->values, &where);
	if (r < 0) {
		error = r == -ELOOP ? REASON_TOO_DEEP : REASON_NOT_JSON;
		memset(f->values, 0, f->n_paths * sizeof *f->values);
		yes = AS_IT_IS;
	} else if (f->where) {
		r = conditions_eval(f->where, f->values);
		if (r == 0 || (r < 0 && r != -E2BIG))
			return r;
		if (r < 0)
			error = REASON_REGEX;
	}
	if (error >= 0) {
		if (tally->errors[error]++ == 0) {
			tally->first[error].event = e;
			tally->first[error].error = r;
			tally->first[error].where = where;
		}
		if (f->conf->on_error == ON_ERROR_DROP)
			return -EBADMSG;
	}
	if (!f->thins)
		return yes;
	r = thinning_pass(&f->thinning, f->values, e->time_ns, tally->suppressed);
	return r > 0 ? yes : r;
}

struct keys {
	uint32_t n;
	uint64_t evicted;
};

static void count_keys(struct filter *f, enum thinning_way way, const struct keys *before, uint32_t gauge,
		       uint32_t counter)
{
	struct keys now;

	if (!thinning_keys(&f->thinning, way, &now.n, &now.evicted))
		return;
	if (now.n != before->n)
		f->host->metric_set(f->host, gauge, now.n);
	if (now.evicted != before->evicted)
		f->host->metric_add(f->host, counter, (int64_t)(now.evicted - before->evicted));
}

static void count(struct filter *f, const struct ss_batch *batch, const struct tally *t)
{
	char source[SS_EVENT_FAULT_SIZE], fault[SS_EVENT_FAULT_SIZE];
	static const char *const what[N_ERRORS] = {"Events that are not valid JSON",
						   "Events nested more than 64 levels deep",
						   "Events on which a regular expression takes too long"};
	static const uint32_t suppressed_metrics[THINNING_WAYS] = {METRIC_SAMPLE, METRIC_DEADBAND,
								   METRIC_RATE_LIMIT};

	for (uint32_t i = 0; i < N_ERRORS; i++) {
		if (!t->errors[i])
			continue;
		f->host->metric_add(f->host, METRIC_ERRORS + i, t->errors[i]);
		if (f->conf->on_error == ON_ERROR_DROP)
			f->host->drop(f->host, i, t->errors[i]);
		ss_batch_source(f->host, batch, source);
		ss_event_fault(t->first[i].event, t->first[i].error, t->first[i].where, fault);
		ss_log(f->host, SS_LOG_WARN, "%s are %s; see the option on_error%s%s", what[i],
		       f->conf->on_error == ON_ERROR_DROP ? "dropped" : "passed on", source, fault);
	}
	for (int way = 0; way < THINNING_WAYS; way++)
		if (t->suppressed[way])
			f->host->metric_add(f->host, suppressed_metrics[way], t->suppressed[way]);
}

/* Make room for the row numbers of a batch; only grows when a batch is bigger than any before. */
static int fit(struct filter *f, uint32_t capacity)
{
	if (capacity <= f->capacity)
		return 0;
	uint32_t *rows = realloc(f->rows, 2 * (size_t)capacity * sizeof *rows);
	if (!rows)
		return -ENOMEM;
	f->rows = rows;
	f->capacity = capacity;
	return 0;
}

/* The events that pass, with other members if they could be read. */
static int emit_reshaped(struct filter *f, struct ss_batch *batch, const uint32_t *rows, uint32_t n)
{
	size_t size = 1, used = 0;

	for (uint32_t i = 0; i < n; i++)
		size += reshape_size(f->reshape, batch->events[rows[i] & ~ROW_AS_IT_IS].len);
	struct ss_batch *out = n ? f->host->batch_new(f->host, batch, n, size) : NULL;
	if (!out)
		return n ? -ENOMEM : 0;
	for (uint32_t i = 0; i < n; i++) {
		struct ss_event *e = &out->events[i];
		*e = batch->events[rows[i] & ~ROW_AS_IT_IS];
		char *to = (char *)out->data + used;
		int64_t len = e->len;
		if (rows[i] & ROW_AS_IT_IS)
			memcpy(to, e->data, e->len);
		else
			len = reshape_event(f->reshape, (const char *)e->data, e->len, to);
		if (len < 0) {
			f->host->batch_unref(out);
			return (int)len;
		}
		e->len = (uint32_t)len;
		e->data = (const uint8_t *)to;
		used += e->len;
	}
	out->count = n;
	f->host->emit(f->host, PORT_MATCH, out);
	f->host->batch_unref(out);
	return 0;
}

static int32_t select_rows(struct filter *f, struct ss_batch *batch)
{
	uint32_t capacity = batch->capacity > batch->count ? batch->capacity : batch->count;
	struct tally tally = {0};

	if (fit(f, capacity) < 0)
		return -ENOMEM;
	uint32_t *rows = f->rows, *rest = f->rows + f->capacity;
	for (uint32_t i = 0; i < batch->count; i++) {
		int r = judge(f, &batch->events[i], &tally);

		rows[tally.passed] = r == AS_IT_IS && f->reshape ? i | ROW_AS_IT_IS : i;
		rest[tally.rest] = i;
		tally.passed += r > 0;
		tally.rest += r == 0;
		if (r < 0 && r != -EBADMSG)
			return r;
	}
	count(f, batch, &tally); /* who sees an event come out sees it counted */
	int r = f->reshape ? emit_reshaped(f, batch, rows, tally.passed)
			   : ss_emit_rows(f->host, PORT_MATCH, batch, rows, tally.passed);
	if (r < 0)
		return r;
	/* where nothing is wired to it, the host counts these as filtered */
	if (ss_emit_rows(f->host, PORT_REST, batch, rest, tally.rest) < 0)
		f->host->drop(f->host, REASON_NO_MEMORY, tally.rest);
	return SS_DONE;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct filter *f = self;
	struct keys deadband = {0}, rate_limit = {0};

	(void)port;
	if (!f->reader && !f->thinning.rate_limit &&
	    !f->thinning.sample) { /* nothing is asked of the events */
		f->host->emit(f->host, PORT_MATCH, batch);
		return SS_DONE;
	}
	thinning_keys(&f->thinning, THINNING_DEADBAND, &deadband.n, &deadband.evicted);
	thinning_keys(&f->thinning, THINNING_RATE_LIMIT, &rate_limit.n, &rate_limit.evicted);
	int32_t result = select_rows(f, batch);
	count_keys(f, THINNING_DEADBAND, &deadband, METRIC_DEADBAND_KEYS, METRIC_DEADBAND_EVICTED);
	count_keys(f, THINNING_RATE_LIMIT, &rate_limit, METRIC_RATE_LIMIT_KEYS, METRIC_RATE_LIMIT_EVICTED);
	return result;
}

static const char *const on_error_choices[] = {"drop", "pass", NULL};

/* Conditions come in several dialects; what is wrong in one the plugin says best. */
#define DEADBAND_SCHEMA                                                                                      \
	"{\"type\":\"object\",\"required\":[\"field\",\"threshold\"],\"properties\":{"                       \
	"\"field\":{\"type\":\"string\"},\"key\":{\"type\":\"string\"},"                                     \
	"\"threshold\":{\"type\":[\"number\",\"string\"],\"exclusiveMinimum\":0,"                            \
	"\"pattern\":\"^[0-9.]+%$\"},"                                                                       \
	"\"max_interval\":{\"type\":\"string\"}},\"additionalProperties\":false}"

#define RATE_SCHEMA                                                                                          \
	"{\"type\":\"object\",\"required\":[\"events\"],\"properties\":{"                                    \
	"\"key\":{\"type\":\"string\"},"                                                                     \
	"\"events\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000},"                            \
	"\"per\":{\"type\":\"string\"},"                                                                     \
	"\"burst\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000}},"                            \
	"\"additionalProperties\":false}"

#define SAMPLE_SCHEMA                                                                                        \
	"{\"type\":\"object\",\"required\":[\"one_in\"],\"properties\":{"                                    \
	"\"one_in\":{\"type\":\"integer\",\"minimum\":1},\"key\":{\"type\":\"string\"}},"                    \
	"\"additionalProperties\":false}"

#define FIELDS_SCHEMA                                                                                        \
	"{\"type\":\"object\",\"minProperties\":1,\"properties\":{"                                          \
	"\"select\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                                   \
	"\"remove\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                                   \
	"\"rename\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"                   \
	"\"set\":{\"type\":\"object\"}},\"additionalProperties\":false}"

static const struct ss_option options[] = {
	SS_OPT(struct conf, where, SS_OPT_JSON, NULL,
	       "Condition that an event must meet, or a list of conditions that it must all meet.",
	       .schema = CONDITION_SCHEMA),
	SS_OPT(struct conf, on_error, SS_OPT_ENUM, "drop",
	       "What to do with events that are not valid JSON, are nested too deep, or on which a regular "
	       "expression takes too long.",
	       .choices = on_error_choices),
	SS_OPT(struct conf, deadband, SS_OPT_JSON, NULL,
	       "Pass an event only if a number has changed enough since the last event of its key: {field, "
	       "key, threshold, max_interval}.",
	       .schema = DEADBAND_SCHEMA),
	SS_OPT(struct conf, rate_limit, SS_OPT_JSON, NULL,
	       "Pass only so many events of each key in a given time: {key, events, per, burst}.",
	       .schema = RATE_SCHEMA),
	SS_OPT(struct conf, sample, SS_OPT_JSON, NULL,
	       "Pass only a part of the events: every n-th, or all events of one in n keys: {one_in, key}.",
	       .schema = SAMPLE_SCHEMA),
	SS_OPT(struct conf, fields, SS_OPT_JSON, NULL,
	       "Change the members of the events that pass: {select, remove, rename, set}.",
	       .schema = FIELDS_SCHEMA),
	SS_OPT(struct conf, max_keys, SS_OPT_INT, "10000",
	       "Number of keys that deadband and rate_limit each remember; beyond it the least recently used "
	       "key is forgotten.",
	       .min = 1, .max = 10000000),
};

static const struct ss_metric metrics[] = {
	{"semstreams_filter_errors_total", "Events on which the conditions could not be evaluated.",
	 "reason=\"not_json\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_errors_total", "Events on which the conditions could not be evaluated.",
	 "reason=\"too_deep\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_errors_total", "Events on which the conditions could not be evaluated.",
	 "reason=\"regex_limit\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_suppressed_total",
	 "Events that met the conditions and were suppressed by deadband, rate_limit or sample.",
	 "reason=\"deadband\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_suppressed_total",
	 "Events that met the conditions and were suppressed by deadband, rate_limit or sample.",
	 "reason=\"rate_limit\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_keys", "Keys that deadband or rate_limit remember.", "table=\"deadband\"",
	 SS_METRIC_GAUGE, 0},
	{"semstreams_filter_keys", "Keys that deadband or rate_limit remember.", "table=\"rate_limit\"",
	 SS_METRIC_GAUGE, 0},
	{"semstreams_filter_keys_evicted_total", "Keys forgotten because max_keys was reached.",
	 "table=\"deadband\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_keys_evicted_total", "Keys forgotten because max_keys was reached.",
	 "table=\"rate_limit\"", SS_METRIC_COUNTER, 0},
	{"semstreams_filter_suppressed_total",
	 "Events that met the conditions and were suppressed by deadband, rate_limit or sample.",
	 "reason=\"sample\"", SS_METRIC_COUNTER, 0},
};

static const char *const outputs[] = {"match", "rest", NULL};
static const char *const reasons[] = {"not_json", "too_deep", "regex_limit", "no_memory", NULL};

static const struct ss_component filter = {
	.struct_size = sizeof filter,
	.kind = SS_KIND_PROCESSOR,
	.type = "filter",
	.version = VERSION,
	.summary = "Passes on events whose JSON fields meet conditions; can thin them out per key.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.metrics = metrics,
	.metric_size = sizeof *metrics,
	.n_metrics = sizeof metrics / sizeof *metrics,
	.outputs = outputs,
	.reasons = reasons,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = destroy,
	.process = process,
};

SS_REGISTER(&filter);
