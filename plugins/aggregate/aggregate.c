/* SPDX-License-Identifier: MIT */
/*
 * aggregate - the events of a window of time summarized per group: count, sum, mean and so on.  On the
 * instance's loop; create and destroy in the control thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/sugar.h>
#include <semstreams/base/refusal.h>
#include "state.h"

#define VERSION    "1.0"
#define CLOSE_STEP 500         /* groups reported in one step, some ms */
#define OUTBOX_MAX (64u << 20) /* bytes of results not taken downstream; then input is paused */
#define TICK_NS    UINT64_C(100000000)

enum { PORT_RESULT, PORT_LATE, PORT_ERROR };

struct aggregate {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_iface fields;
	const struct ss_loop *loop;
	void *loop_self;
	struct plan plan;
	struct engine *engine;
	struct outbox *outbox;
	struct state state;
	struct ss_refusals refusals;
	bool refuses;                     /* there is somebody who reads the output "error" */
	uint64_t refused[ENGINE_DROPS];   /* of what was dropped, what went there, as far as drop() does not
					     know */
	struct engine_count reported;     /* as far as metrics and drop() know */
	char source[SS_EVENT_FAULT_SIZE]; /* of the newest batch, for the log */
	uint32_t tick_timer, early_timer;
	bool stepping; /* a post for the rest of the work is on its way */
	bool busy, drained, stopped;
};

/* ---- life ---- */

static void result(void *arg, bool late, const char *json, size_t len)
{
	struct aggregate *a = arg;

	if (!outbox_put(a->outbox, late ? PORT_LATE : PORT_RESULT, json, len))
		a->engine->count.no_memory++;
}

static const char *const reasons[] = {"not_json",  "too_deep", "no_time", "key_too_long",
				      "no_memory", "late",     "ahead",   NULL};

static void refuse(void *arg, enum engine_drop why)
{
	struct aggregate *a = arg;
	const struct engine *e = a->engine;
	const int32_t error = why == ENGINE_NOT_JSON || why == ENGINE_TOO_DEEP ? e->error : 0;

	if (a->refuses &&
	    ss_refusals_add(&a->refusals, e->batch, e->event, reasons[why], error, e->where) == 0)
		a->refused[why]++;
}

static void destroy(void *self)
{
	struct aggregate *a = self;

	if (!a)
		return;
	ss_refusals_done(&a->refusals);
	state_done(&a->state);
	engine_free(a->engine);
	outbox_free(a->outbox);
	plan_done(&a->plan);
	free(a);
}

static int query_services(struct aggregate *a)
{
	struct ss_iface loop;

	if (a->host->query(a->host, SS_FIELDS, sizeof(struct ss_fields), &a->fields) < 0 ||
	    a->host->query(a->host, SS_LOOP, sizeof(struct ss_loop), &loop) < 0) {
		ss_log(a->host, SS_LOG_ERROR,
		       "This host does not offer " SS_FIELDS " or " SS_LOOP ", which aggregate needs");
		return -ENOTSUP;
	}
	a->loop = loop.vtbl;
	a->loop_self = loop.self;
	return 0;
}

static void step(void *arg);
static void on_tick(void *arg);

/* Its next one and its lock lie in the same folder. */
static int tell_path(const struct aggregate *a)
{
	char *resource = NULL;
	int rc = 0;

	if (!a->plan.checkpoint_path || !SS_KNOWS(a->host, struct ss_host, claim))
		return 0;
	if (asprintf(&resource, "writes:%s", a->plan.checkpoint_path) < 0)
		return -ENOMEM;
	rc = a->host->claim(a->host, "/checkpoint/path", resource) == -ENOMEM ? -ENOMEM : 0;
	free(resource);
	return rc;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct aggregate *a = calloc(1, sizeof *a);

	if (!a)
		return -ENOMEM;
	a->host = host;
	a->conf = conf;
	int rc = query_services(a);
	if (rc == 0)
		rc = plan_compile(host, conf, &a->fields, &a->plan);
	if (rc == 0)
		rc = tell_path(a);
	if (rc == 0)
		rc = engine_new(&a->plan, &a->fields, &a->engine);
	if (rc == 0)
		rc = outbox_new(host, a->plan.checkpoint_path != NULL, &a->outbox);
	if (rc < 0) {
		destroy(a);
		return rc;
	}
	a->state = (struct state){.host = host,
				  .loop = a->loop,
				  .loop_self = a->loop_self,
				  .plan = &a->plan,
				  .engine = a->engine,
				  .outbox = a->outbox,
				  .refusals = &a->refusals,
				  .step = step,
				  .arg = a};
	a->engine->result = result;
	a->engine->refuse = refuse;
	a->engine->arg = a;
	ss_refusals_init(&a->refusals, host, PORT_ERROR);
	if (!a->plan.checkpoint_path)
		ss_log(host, SS_LOG_INFO,
		       "Without \"checkpoint\" a crash loses the contents of open windows");
	*self = a;
	return 0;
}

/* ---- reporting ---- */

/* Late events have an output of their own, and want of memory is not the event's fault. */
static bool is_refusal(uint32_t why)
{
	return why != ENGINE_LATE && why != ENGINE_NO_MEMORY;
}

/* To the host, what was counted since the last call. */
static void report_counts(struct aggregate *a)
{
	static const struct {
		enum engine_drop drop;
		const char *what;
	} unusual[] = {{ENGINE_NOT_JSON, "are not JSON"},
		       {ENGINE_TOO_DEEP, "are nested too deep"},
		       {ENGINE_NO_TIME, "have no readable time"},
		       {ENGINE_KEY, "have group_by values over 4096 bytes"},
		       {ENGINE_AHEAD, "are further in the future than max_ahead allows"}};
	const struct engine_count *c = &a->engine->count;
	struct engine_count *r = &a->reported;
	const struct ss_host *h = a->host;
	bool silent[ENGINE_DROPS];

	for (uint32_t i = 0; i < ENGINE_DROPS; i++) {
		/* late events that are emitted are not lost */
		const uint64_t n = c->dropped[i] - r->dropped[i] - a->refused[i];
		if (n && !(i == ENGINE_LATE && a->plan.emit_late))
			h->drop(h, i, n);
		silent[i] =
			n && is_refusal(i) && !ss_refusals_dropped(&a->refusals, a->conf->errors, reasons[i]);
		a->refused[i] = 0;
	}
	for (size_t i = 0; i < sizeof unusual / sizeof *unusual; i++)
		if (c->dropped[unusual[i].drop] != r->dropped[unusual[i].drop] && !silent[unusual[i].drop])
			ss_log(h, SS_LOG_WARN, "%s events that %s%s%s",
			       a->refuses ? "Passing to the output error" : "Dropping", unusual[i].what,
			       a->source, a->engine->faults[unusual[i].drop]);
	for (uint32_t i = 0; i < ENGINE_DROPS; i++)
		a->engine->faults[i][0] = '\0';
	h->metric_add(h, METRIC_LATE, (int64_t)(c->dropped[ENGINE_LATE] - r->dropped[ENGINE_LATE]));
	h->metric_add(h, METRIC_RESULTS, (int64_t)(c->results - r->results));
	h->metric_add(h, METRIC_EVICTED, (int64_t)(c->evicted - r->evicted));
	h->metric_add(h, METRIC_OVERFLOWED, (int64_t)(c->overflowed - r->overflowed));
	h->metric_add(h, METRIC_WRONG_TYPE, (int64_t)(c->wrong_type - r->wrong_type));
	h->metric_add(h, METRIC_NO_MEMORY, (int64_t)(c->no_memory - r->no_memory));
	h->metric_set(h, METRIC_GROUPS, a->engine->groups->n);
	h->metric_set(h, METRIC_MEMORY, (int64_t)engine_memory(a->engine));
	h->metric_set(h, METRIC_UNSENT, (int64_t)a->outbox->n_unsent);
	*r = *c;
}

/* ---- work ---- */

static void on_step(void *arg)
{
	struct aggregate *a = arg;

	a->stepping = false;
	step(a);
}

/* Nothing is open, on its way out or to be saved: time may pass without being looked at. */
static bool is_at_rest(const struct aggregate *a)
{
	const struct engine *e = a->engine;

	return !e->panes.n && !e->groups->n && !e->closing && !e->sliding && !e->early && !a->outbox->bytes &&
	       !a->stepping && !a->busy && !a->state.draining && state_is_durable(&a->state);
}

/* Continue with closing windows, saving and emitting, a little at a time. */
static void step(void *arg)
{
	struct aggregate *a = arg;

	if (a->stopped) /* by a post after stop() */
		return;
	/* in the midst of a sliding window there is no checkpoint, so no result would leave */
	bool full = a->outbox->bytes >= OUTBOX_MAX && !a->engine->sliding;
	bool reported = !full && engine_close_step(a->engine, CLOSE_STEP);
	bool more = !full && !reported;
	more |= state_step(&a->state);
	/* out of memory: the next tick tries again */
	(void)outbox_emit(a->outbox, a->state.durable_last, a->state.draining);
	report_counts(a);
	if (more && !a->stepping)
		a->stepping = a->loop->post(a->loop_self, on_step, a) == 0;
	if (a->busy && a->outbox->bytes < OUTBOX_MAX / 2) {
		a->busy = false;
		a->host->input_ready(a->host);
	}
	if (a->state.draining && reported && state_is_durable(&a->state)) {
		a->state.draining = false;
		a->drained = true;
		a->host->drained(a->host);
	}
	if (!a->tick_timer && !is_at_rest(a)) /* out of memory: the next step tries again */
		(void)a->loop->timer(a->loop_self, TICK_NS, TICK_NS, on_tick, a, &a->tick_timer);
}

static int32_t process(void *self, uint32_t port, struct ss_batch *b)
{
	struct aggregate *a = self;
	struct ss_position position;
	const char *source;
	uint32_t lost;
	uint64_t now = a->loop->now(a->loop_self);

	/* out of memory: a later batch must not be accepted before this one */
	if (a->outbox->bytes >= OUTBOX_MAX || (a->state.checkpoint && state_hold(&a->state, b) < 0)) {
		a->busy = true;
		return SS_BUSY;
	}
	if (!a->tick_timer) /* as if ticks had come until now: what was late then is so */
		engine_tick(a->engine, now - TICK_NS);
	ss_batch_source(a->host, b, a->source);
	if (a->host->position(b, &position, &source) == 0)
		engine_input(a->engine, port)->resumable = true;
	a->refuses = ss_refusals_used(&a->refusals);
	for (uint32_t i = 0; i < b->count; i++)
		engine_event(a->engine, port, b, &b->events[i], now);
	if (ss_refusals_emit(&a->refusals, b, &lost) < 0)
		a->host->drop(a->host, ENGINE_NO_MEMORY, lost);
	step(a); /* a checkpoint that begins here covers this batch */
	return SS_DONE;
}

static void on_tick(void *arg)
{
	struct aggregate *a = arg;

	engine_tick(a->engine, a->loop->now(a->loop_self));
	outbox_again(a->outbox);
	step(a);
	state_check_stall(&a->state);
	if (!is_at_rest(a))
		return;
	/* each tick wakes the whole loop: the next event starts them again */
	a->loop->cancel(a->loop_self, a->tick_timer);
	a->tick_timer = 0;
}

static void on_early(void *arg)
{
	struct aggregate *a = arg;

	engine_early(a->engine);
	step(a);
}

static int report_early(struct aggregate *a)
{
	const uint64_t early = (uint64_t)a->conf->early_ns;

	return early ? a->loop->timer(a->loop_self, early, early, on_early, a, &a->early_timer) : 0;
}

static int32_t start(void *self)
{
	struct aggregate *a = self;

	int rc = state_start(&a->state);
	if (rc == 0)
		rc = a->loop->timer(a->loop_self, TICK_NS, TICK_NS, on_tick, a, &a->tick_timer);
	if (rc == 0)
		rc = report_early(a);
	if (rc == 0)
		step(a);
	return rc;
}

static void stop(void *self)
{
	struct aggregate *a = self;

	if (a->drained)
		state_write_last(&a->state);
	a->stopped = true;
	a->loop->cancel(a->loop_self, a->tick_timer);
	a->loop->cancel(a->loop_self, a->early_timer);
	a->tick_timer = a->early_timer = 0;
	state_done(&a->state);
}

static int32_t drain(void *self)
{
	struct aggregate *a = self;

	a->state.draining = true;
	if (!a->state.checkpoint)
		engine_flush(a->engine); /* with one, open windows continue after the restart */
	step(a);
	return a->state.draining ? SS_BUSY : 0;
}

static void acked(void *self, uint64_t cookie, int32_t status)
{
	struct aggregate *a = self;

	if (status == SS_FAILED && !a->outbox->failed)
		ss_log(a->host, SS_LOG_WARN, "Downstream failed to store results; resending");
	outbox_acked(a->outbox, cookie, status);
	step(a);
}

/* What is in open windows stays, as nothing changes that shapes them. */
static void reconfigure(void *self, void *fresh)
{
	struct aggregate *a = self;
	const struct aggregate *other = fresh;
	const int64_t early_ns = a->conf->early_ns;

	a->conf = a->plan.conf = other->conf;
	if (a->conf->early_ns != early_ns) {
		a->loop->cancel(a->loop_self, a->early_timer);
		a->early_timer = 0;
		if (report_early(a) < 0)
			ss_log(a->host, SS_LOG_ERROR, "Out of memory: open windows are not reported early");
	}
	step(a);
}

/* ---- the component ---- */

static const char *const output_choices[] = {"group", "window", NULL};
static const char *const full_choices[] = {"oldest", "overflow", NULL};

#define WINDOW_SCHEMA                                                                                        \
	"{\"type\":\"object\",\"required\":[\"type\"],"                                                      \
	"\"properties\":{\"type\":{\"enum\":[\"tumbling\",\"sliding\",\"session\"]},"                        \
	"\"size\":{\"type\":\"string\"},\"every\":{\"type\":\"string\"},"                                    \
	"\"offset\":{\"type\":\"string\"},\"gap\":{\"type\":\"string\"}},"                                   \
	"\"additionalProperties\":false,"                                                                    \
	"\"allOf\":[{\"if\":{\"properties\":{\"type\":{\"const\":\"tumbling\"}}},"                           \
	"\"then\":{\"required\":[\"size\"]}},"                                                               \
	"{\"if\":{\"properties\":{\"type\":{\"const\":\"sliding\"}}},"                                       \
	"\"then\":{\"required\":[\"size\",\"every\"]}},"                                                     \
	"{\"if\":{\"properties\":{\"type\":{\"const\":\"session\"}}},"                                       \
	"\"then\":{\"required\":[\"gap\"]}}]}"
#define TIME_SCHEMA                                                                                          \
	"{\"type\":\"object\",\"properties\":{\"field\":{\"type\":\"string\"},"                              \
	"\"format\":{\"enum\":[\"rfc3339\",\"s\",\"ms\",\"us\",\"ns\"]},\"lateness\":{\"type\":\"string\"}," \
	"\"idle\":{\"type\":\"string\"},\"max_ahead\":{\"type\":\"string\"},\"late\":{\"enum\":[\"drop\","   \
	"\"emit\"]}},\"additionalProperties\":"                                                              \
	"false}"
#define GROUP_SCHEMA "{\"type\":[\"string\",\"array\"],\"items\":{\"type\":\"string\"},\"maxItems\":16}"
#define FUNCTIONS_SCHEMA                                                                                     \
	"{\"type\":\"object\",\"minProperties\":1,"                                                          \
	"\"additionalProperties\":{\"anyOf\":[{\"type\":\"string\","                                         \
	"\"pattern\":\"^(count|rate)$|^(average|minimum|maximum|percentile|quantiles|top_k|count|sum|mean|"  \
	"avg|rate|stddev|histogram|min|max|first|last|percentiles|distinct|top|median|p[0-9]+([.][0-9]+)?)[" \
	"(].+[)]$|[$][{]env:\"},"                                                                            \
	"{\"type\":\"object\",\"required\":[\"fn\"],"                                                        \
	"\"properties\":{\"fn\":{\"anyOf\":[{\"enum\":[\"average\",\"minimum\",\"maximum\","                 \
	"\"percentile\",\"quantiles\",\"top_k\",\"count\",\"sum\",\"mean\",\"avg\",\"rate\","                \
	"\"stddev\",\"histogram\",\"min\",\"max\",\"first\",\"last\",\"percentiles\","                       \
	"\"distinct\",\"top\"]},{\"type\":\"string\",\"pattern\":\"[$][{]env:\"}]},"                         \
	"\"field\":{\"type\":\"string\"},\"p\":{\"type\":[\"number\",\"array\"]},"                           \
	"\"accuracy\":{\"type\":\"number\"},\"population\":{\"type\":\"boolean\"},"                          \
	"\"bounds\":{\"type\":\"array\"},\"k\":{\"type\":\"integer\"}}}]}}"
#define CHECKPOINT_SCHEMA                                                                                    \
	"{\"type\":\"object\",\"required\":[\"path\"],\"properties\":{\"path\":{\"type\":\"string\"},"       \
	"\"interval\":{\"type\":\"string\"}},\"additionalProperties\":false}"

static const struct ss_option options[] = {
	SS_OPT(struct conf, window, SS_OPT_JSON, NULL,
	       "Windows: {type: tumbling, size}, {type: sliding, size, every} or {type: session, gap}; "
	       "tumbling and sliding windows take an offset, too.",
	       .flags = SS_OPT_REQUIRED, .schema = WINDOW_SCHEMA),
	SS_OPT(struct conf, functions, SS_OPT_JSON, NULL,
	       "What to compute, by name in the result: {\"n\": \"count\", \"mean\": \"mean(value)\"}.",
	       .flags = SS_OPT_REQUIRED, .schema = FUNCTIONS_SCHEMA),
	SS_OPT(struct conf, group_by, SS_OPT_JSON, NULL,
	       "Field, or list of fields: one result for each of their values; not set: one group.",
	       .schema = GROUP_SCHEMA),
	SS_OPT(struct conf, time, SS_OPT_JSON, NULL,
	       "Time of an event: {field, format, lateness, idle, max_ahead, late}; not set: when the event "
	       "was received.",
	       .schema = TIME_SCHEMA),
	{.key = "early",
	 .default_text = "0s",
	 .help = "How often to report open windows, with \"final\": false; 0 = never.",
	 .type = SS_OPT_DURATION,
	 .offset = (uint32_t)offsetof(struct conf, early_ns),
	 .flags = SS_OPT_LIVE},
	SS_OPT(struct conf, output, SS_OPT_ENUM, "group",
	       "One event per group and window, or one event per window.", .choices = output_choices),
	SS_OPT(struct conf, max_groups, SS_OPT_INT, "100000", "Most groups in all open windows together.",
	       .min = 1, .max = 100000000, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, max_memory, SS_OPT_BYTES, "256MiB",
	       "Most memory for all groups together; 0 = limited by max_groups only.", .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, when_full, SS_OPT_ENUM, "oldest",
	       "Without room for a new group: report the oldest group early, or count the event in an "
	       "overflow "
	       "group.",
	       .choices = full_choices, .flags = SS_OPT_LIVE),
	SS_OPT(struct conf, checkpoint, SS_OPT_JSON, NULL,
	       "File that saves open windows: {path, interval}; not set: a restart or crash loses them.",
	       .schema = CHECKPOINT_SCHEMA),
	SS_OPT_ERRORS(struct conf, errors, 0),
};

#define COUNTER(text, words)                                                                                 \
	{                                                                                                    \
		.name = text, .help = words, .kind = SS_METRIC_COUNTER                                       \
	}
#define GAUGE(text, words)                                                                                   \
	{                                                                                                    \
		.name = text, .help = words, .kind = SS_METRIC_GAUGE                                         \
	}

static const struct ss_metric metrics[] = {
	[METRIC_RESULTS] = COUNTER("semstreams_aggregate_results_total", "Results reported"),
	[METRIC_GROUPS] = GAUGE("semstreams_aggregate_groups", "Groups in open windows"),
	[METRIC_MEMORY] = GAUGE("semstreams_aggregate_memory_bytes", "Memory that groups take"),
	[METRIC_LATE] =
		COUNTER("semstreams_aggregate_late_total", "Events that came after their window was closed"),
	[METRIC_EVICTED] = COUNTER("semstreams_aggregate_evicted_total",
				   "Groups reported before the end of their window, to make room"),
	[METRIC_OVERFLOWED] =
		COUNTER("semstreams_aggregate_overflow_total", "Events counted in an overflow group"),
	[METRIC_WRONG_TYPE] = COUNTER("semstreams_aggregate_wrong_type_total",
				      "Values that a function skipped because they are not numbers"),
	[METRIC_NO_MEMORY] = COUNTER("semstreams_aggregate_no_memory_total",
				     "Values that a function skipped because memory ran out or they are too "
				     "long"),
	[METRIC_CHECKPOINTS] = COUNTER("semstreams_aggregate_checkpoints_total", "Checkpoints written"),
	[METRIC_CHECKPOINT_ERRORS] = COUNTER("semstreams_aggregate_checkpoint_errors_total",
					     "Checkpoints that could not be written"),
	[METRIC_CHECKPOINT_BYTES] =
		GAUGE("semstreams_aggregate_checkpoint_bytes", "Size of the last checkpoint"),
	[METRIC_CHECKPOINT_STALLS] = COUNTER("semstreams_aggregate_checkpoint_stalls_total",
					     "Checkpoints whose writing took longer than 5 seconds"),
	[METRIC_OLDEST_UNSAVED] =
		GAUGE("semstreams_aggregate_oldest_unsaved_seconds",
		      "Age of the oldest event that is in no durable checkpoint yet, in seconds"),
	[METRIC_UNSENT] = GAUGE("semstreams_aggregate_results_waiting",
				"Results that wait for a checkpoint or for room downstream"),
};

static const char *const outputs[] = {"result", "late", "error", NULL};

static const struct ss_component aggregate = {
	.struct_size = sizeof aggregate,
	.kind = SS_KIND_PROCESSOR,
	.type = "aggregate",
	.version = VERSION,
	.summary = "Summarizes events by window of time and group: count, sum, mean, percentiles, ...",
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
	.start = start,
	.stop = stop,
	.process = process,
	.drain = drain,
	.acked = acked,
	.reconfigure = reconfigure,
};

SS_REGISTER(&aggregate);
