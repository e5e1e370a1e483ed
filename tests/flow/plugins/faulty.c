/* SPDX-License-Identifier: MIT */
/* faulty, faulty_filter - a sink and a processor for tests of what the host does about bugs of plugins: each
 * "fault" is one. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/sugar.h>

enum fault {
	NONE,
	CRASH,
	ABORT,
	EXIT,
	BLOCK,
	BUSY,
	DONE_TWICE,
	DONE_UNASKED,
	UNKNOWN_RETURN,
	KEEP,
	DROP_UNKNOWN,
	EMIT,
	ROWS_OUTSIDE,
	ROWS_NULL,
	ROWS_TOO_LONG,
	OTHER_THREAD,
	DROP_TOO_MANY,
	NEVER_DRAINED,
	HANG
};

struct conf {
	int64_t fault;
};

struct faulty {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_batch *kept;
};

static const char *const faults[] = {"none",           "crash",         "abort",         "exit",
				     "block",          "busy",          "done_twice",    "done_unasked",
				     "unknown_return", "keep",          "drop_unknown",  "emit",
				     "rows_outside",   "rows_null",     "rows_too_long", "other_thread",
				     "drop_too_many",  "never_drained", "hang",          NULL};
static const char *const reasons[] = {"too_many", NULL};
static const struct ss_option options[] = {
	SS_OPT(struct conf, fault, SS_OPT_ENUM, "none", "what it does wrong", SS_CHOICES(faults)),
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct faulty *f = calloc(1, sizeof *f);

	if (!f)
		return -ENOMEM;
	f->host = host;
	f->conf = conf;
	*self = f;
	return 0;
}

static int32_t misuse(struct faulty *f, struct ss_batch *batch)
{
	const struct ss_host *h = f->host;

	switch ((enum fault)f->conf->fault) {
	case DONE_TWICE:
		h->done(h, batch, SS_DELIVERED);
		h->done(h, batch, SS_DELIVERED);
		return SS_KEPT;
	case DONE_UNASKED:
		h->done(h, batch, SS_DELIVERED);
		return SS_DONE;
	case UNKNOWN_RETURN:
		return 77;
	case DROP_UNKNOWN:
		h->drop(h, 5, 1);
		return SS_DONE;
	case EMIT:
		h->emit(h, 3, batch);
		h->metric_add(h, 9, 1);
		return SS_DONE;
	case KEEP:
	case NEVER_DRAINED:
		f->kept = batch;
		return SS_KEPT;
	case DROP_TOO_MANY:
		h->drop(h, 0, batch->count + 1);
		return SS_DONE;
	default:
		return SS_DONE;
	}
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct faulty *f = self;
	const struct timespec long_time = {.tv_sec = 4};
	volatile int *volatile nowhere = NULL;

	(void)port;
	switch ((enum fault)f->conf->fault) {
	case CRASH:
		*nowhere = 1;
		return SS_DONE;
	case ABORT:
		abort();
	case EXIT:
		exit(0);
	case BLOCK:
		nanosleep(&long_time, NULL);
		return SS_DONE;
	case HANG:
		for (;;)
			pause();
	case BUSY:
		return SS_BUSY;
	default:
		return misuse(f, batch);
	}
}

static int32_t drain(void *self)
{
	const struct faulty *f = self;

	return f->conf->fault == NEVER_DRAINED ? SS_BUSY : 0;
}

static void stop(void *self)
{
	const struct faulty *f = self;

	ss_log(f->host, SS_LOG_INFO, "Stop was called");
}

/* ---- a processor that emits what it must not ---- */

struct emission {
	const struct ss_host *host;
	struct ss_batch *batch;
};

static void *emit_elsewhere(void *arg)
{
	const struct emission *e = arg;

	e->host->emit(e->host, 0, e->batch);
	return NULL;
}

static int32_t emit_in_thread(const struct ss_host *h, struct ss_batch *batch)
{
	struct emission e = {h, batch};
	pthread_t thread;

	if (pthread_create(&thread, NULL, emit_elsewhere, &e))
		return -1;
	pthread_join(thread, NULL);
	return SS_DONE;
}

static int32_t filter(void *self, uint32_t port, struct ss_batch *batch)
{
	static const uint8_t elsewhere[] = "not in the memory of the batch";
	struct faulty *f = self;
	const struct ss_host *h = f->host;
	struct ss_batch *out = h->batch_new(h, batch, 1, 64);

	(void)port;
	if (!out)
		return -1;
	out->events[out->count++] = (struct ss_event){.data = out->data, .len = 1};
	struct ss_event *row = &out->events[0];
	switch ((enum fault)f->conf->fault) {
	case ROWS_OUTSIDE:
		row->data = elsewhere;
		break;
	case ROWS_NULL:
		row->data = NULL;
		break;
	case ROWS_TOO_LONG:
		row->len = UINT32_MAX;
		break;
	case OTHER_THREAD:
		return emit_in_thread(h, out);
	default:
		return misuse(f, batch);
	}
	h->emit(h, 0, out);
	return SS_DONE;
}

static const struct ss_component faulty_filter = {
	.struct_size = sizeof faulty_filter,
	.kind = SS_KIND_PROCESSOR,
	.type = "faulty_filter",
	.version = "1.0",
	.summary = "a processor with a bug",
	.license = "MIT",
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.reasons = reasons,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = free,
	.process = filter,
	.drain = drain,
};

static const struct ss_component faulty = {
	.struct_size = sizeof faulty,
	.kind = SS_KIND_SINK,
	.type = "faulty",
	.version = "1.0",
	.summary = "a sink with a bug",
	.license = "MIT",
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = free,
	.process = process,
	.stop = stop,
	.drain = drain,
};
SS_REGISTER(&faulty, &faulty_filter);
