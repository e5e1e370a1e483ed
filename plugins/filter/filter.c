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
#include "reshape.h"
#include "thinning.h"
#include <semstreams/base/event_fault.h>
#include <semstreams/base/event_reader.h>
#include <semstreams/base/json_option.h>
#include <semstreams/base/refusal.h>
#include <semstreams/base/value.h>
#include <semstreams/ext/fields.h>

#define VERSION "1.0"

enum { PORT_MATCH, PORT_REST, PORT_ERROR };
enum { ON_ERROR_OUTPUT, ON_ERROR_DROP, ON_ERROR_PASS };
enum { AS_IT_IS = 2 };
#define ROW_AS_IT_IS 0x80000000 /* flag of a row */
enum { REASON_NOT_JSON, REASON_TOO_DEEP, REASON_REGEX, REASON_NO_MEMORY };
#define N_ERRORS 3 /* the first of the reasons, in the same order as the first metrics */

static const char *const reasons[] = {"not_json", "too_deep", "regex_limit", "no_memory", NULL};

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

/* ---- the plugin ---- */

struct conf {
	const char *where;
	int64_t on_error, errors;
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
	struct ss_event_reader reader;
	struct ss_field *values; /* of one event, by path */
	uint32_t n_paths;
	struct conditions *where;
	struct thinning thinning;
	bool thins; /* something is set in thinning */
	struct reshape *reshape;
	struct ss_refusals refusals;
	uint32_t *rows; /* of events that pass; behind them those that do not */
	uint32_t capacity;
};

/* What became of the events of one batch. */
struct tally {
	uint32_t passed, rest;
	uint32_t errors[N_ERRORS];
	uint32_t refused[N_ERRORS]; /* of these, those for the output "error" */
	bool refuses;               /* there is somebody who reads it */
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

	if (!f)
		return;
	ss_event_reader_done(&f->reader);
	ss_refusals_done(&f->refusals);
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

static bool is_payload_read(const struct ss_paths *paths)
{
	for (uint32_t i = 0; i < paths->n; i++)
		if (paths->v[i].text[0] != '@')
			return true;
	return false;
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
	if (f->reshape && !is_payload_read(paths) && ss_paths_add(paths, option->at, "fields", "") < 0)
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
	ss_refusals_init(&f->refusals, host, PORT_ERROR);
	r = host->query(host, SS_FIELDS, sizeof(struct ss_fields), &f->fields);
	if (r < 0) {
		ss_log(host, SS_LOG_ERROR, "the host does not offer the service " SS_FIELDS);
		goto out;
	}
	r = compile_options(f, &option, &paths);
	if (r != -ENOMEM) { /* also after an error, to tell all of them */
		int p = ss_event_reader_init(&f->reader, &paths, host, &f->fields);

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
static int judge(struct filter *f, const struct ss_batch *batch, const struct ss_event *e,
		 struct tally *tally)
{
	int error = -1, yes = 1;
	size_t where = 0;
	int r = ss_event_read(&f->reader, batch, e, f->values, &where);

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
		if (tally->refuses && ss_refusals_add(&f->refusals, batch, e, reasons[error], r, where) == 0)
			tally->refused[error]++;
		if (f->conf->on_error != ON_ERROR_PASS)
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

static bool any_to_count(const struct tally *t)
{
	uint32_t any = 0;

	for (uint32_t i = 0; i < N_ERRORS; i++)
		any |= t->errors[i];
	for (int way = 0; way < THINNING_WAYS; way++)
		any |= t->suppressed[way];
	return any != 0;
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
		const uint32_t dropped =
			f->conf->on_error != ON_ERROR_PASS ? t->errors[i] - t->refused[i] : 0;
		if (dropped)
			f->host->drop(f->host, i, dropped);
		if (dropped && !ss_refusals_dropped(&f->refusals, f->conf->errors, reasons[i]))
			continue;
		ss_batch_source(f->host, batch, source);
		ss_event_fault(batch, t->first[i].event, t->first[i].error, t->first[i].where, fault);
		ss_log(f->host, SS_LOG_WARN, "%s are %s; see the option on_error%s%s", what[i],
		       f->conf->on_error == ON_ERROR_PASS ? "passed on"
		       : t->refuses                       ? "passed to the output error"
							  : "dropped",
		       source, fault);
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
		size += reshape_size(f->reshape, batch, &batch->events[rows[i] & ~ROW_AS_IT_IS]);
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
			len = reshape_event(f->reshape, batch, e, to);
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
	struct tally tally = {.refuses =
				      f->conf->on_error == ON_ERROR_OUTPUT && ss_refusals_used(&f->refusals)};
	uint32_t lost;

	if (fit(f, capacity) < 0)
		return -ENOMEM;
	uint32_t *rows = f->rows, *rest = f->rows + f->capacity;
	for (uint32_t i = 0; i < batch->count; i++) {
		int r = judge(f, batch, &batch->events[i], &tally);

		rows[tally.passed] = r == AS_IT_IS && f->reshape ? i | ROW_AS_IT_IS : i;
		rest[tally.rest] = i;
		tally.passed += r > 0;
		tally.rest += r == 0;
		if (r < 0 && r != -EBADMSG) {
			ss_refusals_clear(&f->refusals);
			return r;
		}
	}
	if (any_to_count(&tally)) /* who sees an event come out sees it counted */
		count(f, batch, &tally);
	int r = f->reshape ? emit_reshaped(f, batch, rows, tally.passed)
			   : ss_emit_rows(f->host, PORT_MATCH, batch, rows, tally.passed);
	if (r < 0) {
		ss_refusals_clear(&f->refusals);
		return r;
	}
	/* where nothing is wired to it, the host counts these as filtered */
	if (ss_emit_rows(f->host, PORT_REST, batch, rest, tally.rest) < 0)
		f->host->drop(f->host, REASON_NO_MEMORY, tally.rest);
	if (f->refusals.n && ss_refusals_emit(&f->refusals, batch, &lost) < 0)
		f->host->drop(f->host, REASON_NO_MEMORY, lost);
	return SS_DONE;
}

/* The same, where keys are remembered. */
static int32_t select_by_keys(struct filter *f, struct ss_batch *batch)
{
	struct keys deadband = {0}, rate_limit = {0};

	thinning_keys(&f->thinning, THINNING_DEADBAND, &deadband.n, &deadband.evicted);
	thinning_keys(&f->thinning, THINNING_RATE_LIMIT, &rate_limit.n, &rate_limit.evicted);
	int32_t result = select_rows(f, batch);
	count_keys(f, THINNING_DEADBAND, &deadband, METRIC_DEADBAND_KEYS, METRIC_DEADBAND_EVICTED);
	count_keys(f, THINNING_RATE_LIMIT, &rate_limit, METRIC_RATE_LIMIT_KEYS, METRIC_RATE_LIMIT_EVICTED);
	return result;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct filter *f = self;

	(void)port;
	if (!ss_event_reader_used(&f->reader) && !f->thinning.rate_limit &&
	    !f->thinning.sample) { /* nothing is asked of the events */
		f->host->emit(f->host, PORT_MATCH, batch);
		return SS_DONE;
	}
	return f->thinning.deadband || f->thinning.rate_limit ? select_by_keys(f, batch)
							      : select_rows(f, batch);
}

static const char *const on_error_choices[] = {"error", "drop", "pass", NULL};

#define KEY_SCHEMA                                                                                           \
	"\"key\":{\"anyOf\":[{\"type\":\"string\"},"                                                         \
	"{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1,\"maxItems\":8}]}"

/* Conditions come in several dialects; what is wrong in one the plugin says best. */
#define DEADBAND_SCHEMA                                                                                      \
	"{\"type\":\"object\",\"required\":[\"field\",\"threshold\"],\"properties\":{"                       \
	"\"field\":{\"type\":\"string\"}," KEY_SCHEMA ","                                                    \
	"\"threshold\":{\"type\":[\"number\",\"string\"],\"exclusiveMinimum\":0,"                            \
	"\"pattern\":\"^[0-9.]+%$\"},"                                                                       \
	"\"max_interval\":{\"type\":\"string\"}},\"additionalProperties\":false}"

#define RATE_SCHEMA                                                                                          \
	"{\"type\":\"object\",\"required\":[\"events\"],\"properties\":{" KEY_SCHEMA ","                     \
	"\"events\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000},"                            \
	"\"per\":{\"type\":\"string\"},"                                                                     \
	"\"burst\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000000000}},"                            \
	"\"additionalProperties\":false}"

#define SAMPLE_SCHEMA                                                                                        \
	"{\"type\":\"object\",\"required\":[\"one_in\"],\"properties\":{"                                    \
	"\"one_in\":{\"type\":\"integer\",\"minimum\":1}," KEY_SCHEMA "},"                                   \
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
	       .schema = CONDITION_SCHEMA, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, on_error, SS_OPT_ENUM, "error",
	       "What to do with events that are not valid JSON, are nested too deep, or on which a regular "
	       "expression takes too long: to the output error, or dropped where nothing reads that; "
	       "dropped in any case; passed on.",
	       .choices = on_error_choices, .flags = SS_OPT_LIVE | SS_OPT_REFUSALS),
	SS_OPT_ERRORS(struct conf, errors, SS_OPT_LIVE),
	SS_OPT(struct conf, deadband, SS_OPT_JSON, NULL,
	       "Pass an event only if a number has changed enough since the last event of its key: {field, "
	       "key, threshold, max_interval}.",
	       .schema = DEADBAND_SCHEMA, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, rate_limit, SS_OPT_JSON, NULL,
	       "Pass only so many events of each key in a given time: {key, events, per, burst}.",
	       .schema = RATE_SCHEMA, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, sample, SS_OPT_JSON, NULL,
	       "Pass only a part of the events: every n-th, or all events of one in n keys: {one_in, key}.",
	       .schema = SAMPLE_SCHEMA, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, fields, SS_OPT_JSON, NULL,
	       "Change the members of the events that pass: {select, remove, rename, set}.",
	       .schema = FIELDS_SCHEMA, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, max_keys, SS_OPT_INT, "10000",
	       "Number of keys that deadband and rate_limit each remember; beyond it the least recently used "
	       "key is forgotten.",
	       .min = 1, .max = 10000000, .flags = SS_OPT_LIVE),
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

static const char *const outputs[] = {"match", "rest", "error", NULL};

/* All of it is made of the options, and nothing is kept from batch to batch but what thinning remembers,
 * which starts anew. */
static void reconfigure(void *self, void *fresh)
{
	struct filter *f = self, *other = fresh;
	const struct ss_host *host = f->host, *other_host = other->host;
	const struct ss_refusals refusals = f->refusals, other_refusals = other->refusals;
	const struct filter before = *f;

	*f = *other;
	*other = before;
	f->host = host;
	other->host = other_host;
	f->refusals = refusals; /* they are the host's, too */
	other->refusals = other_refusals;
}

static const struct ss_component filter = {
	.struct_size = sizeof filter,
	.kind = SS_KIND_PROCESSOR,
	.type = "filter",
	.version = VERSION,
	.summary = "Passes on events whose JSON fields meet conditions; can thin them out per key.",
	.license = "MIT",
	.flags = SS_TELLS_PATHS,
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
	.reconfigure = reconfigure,
};

SS_REGISTER(&filter);
