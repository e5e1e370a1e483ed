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
	HANG,
	KEEP_ALL,
	THREAD_CRASH,
	THREAD_ABORT,
	THREAD_EXIT,
	CREATE_BLOCKS,
	START_BLOCKS,
	STOP_HANGS,
	DESTROY_HANGS,
	CREATE_RETURNS,
	START_RETURNS,
	DRAIN_RETURNS
};

struct conf {
	int64_t fault;
};

struct faulty {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_batch *kept;
	struct ss_batch *all[1024]; /* of KEEP_ALL, until an event says finish */
	size_t n;
};

static const char *const faults[] = {"none",
				     "crash",
				     "abort",
				     "exit",
				     "block",
				     "busy",
				     "done_twice",
				     "done_unasked",
				     "unknown_return",
				     "keep",
				     "drop_unknown",
				     "emit",
				     "rows_outside",
				     "rows_null",
				     "rows_too_long",
				     "other_thread",
				     "drop_too_many",
				     "never_drained",
				     "hang",
				     "keep_all",
				     "thread_crash",
				     "thread_abort",
				     "thread_exit",
				     "create_blocks",
				     "start_blocks",
				     "stop_hangs",
				     "destroy_hangs",
				     "create_returns",
				     "start_returns",
				     "drain_returns",
				     NULL};
static const char *const reasons[] = {"too_many", NULL};
static const struct ss_option options[] = {
	SS_OPT(struct conf, fault, SS_OPT_ENUM, "none", "what it does wrong", SS_CHOICES(faults)),
};

static void wait_for(time_t seconds)
{
	const struct timespec time = {.tv_sec = seconds};

	nanosleep(&time, NULL);
}

static void hang(void)
{
	for (;;)
		pause();
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct faulty *f = calloc(1, sizeof *f);

	if (!f)
		return -ENOMEM;
	f->host = host;
	f->conf = conf;
	*self = f;
	if (f->conf->fault == CREATE_BLOCKS)
		wait_for(3);
	return f->conf->fault == CREATE_RETURNS ? 77 : 0;
}

static void finish_all(void *self)
{
	struct faulty *f = self;

	for (size_t i = 0; i < f->n; i++)
		f->host->done(f->host, f->all[i], SS_DELIVERED);
	f->n = 0;
}

static int32_t start(void *self)
{
	const struct faulty *f = self;

	if (f->conf->fault == START_BLOCKS)
		wait_for(3);
	return f->conf->fault == START_RETURNS ? 77 : 0;
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
	case KEEP_ALL:
		if (f->n < sizeof f->all / sizeof *f->all)
			f->all[f->n++] = batch;
		if (batch->count && batch->events[0].data[0] == 'f')
			finish_all(f);
		return SS_KEPT;
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

static void *crash(void *arg)
{
	volatile int *volatile nowhere = arg;

	*nowhere = 1;
	return NULL;
}

static void *end_badly(void *arg)
{
	(void)arg;
	abort();
}

static void *end_well(void *arg)
{
	(void)arg;
	exit(0);
}

static int32_t in_thread(void *(*fn)(void *arg))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fn, NULL))
		return -1;
	pthread_join(thread, NULL);
	return SS_DONE;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *batch)
{
	struct faulty *f = self;

	(void)port;
	switch ((enum fault)f->conf->fault) {
	case CRASH:
		crash(NULL);
		return SS_DONE;
	case ABORT:
		abort();
	case EXIT:
		exit(0);
	case BLOCK:
		wait_for(4);
		return SS_DONE;
	case HANG:
		hang();
		return SS_DONE;
	case THREAD_CRASH:
		return in_thread(crash);
	case THREAD_ABORT:
		return in_thread(end_badly);
	case THREAD_EXIT:
		return in_thread(end_well);
	case BUSY:
		return SS_BUSY;
	default:
		return misuse(f, batch);
	}
}

static int32_t drain(void *self)
{
	struct faulty *f = self;

	finish_all(f);
	if (f->conf->fault == DRAIN_RETURNS)
		return 77;
	return f->conf->fault == NEVER_DRAINED ? SS_BUSY : 0;
}

static void stop(void *self)
{
	const struct faulty *f = self;

	if (f->conf->fault == STOP_HANGS)
		hang();
	ss_log(f->host, SS_LOG_INFO, "Stop was called");
}

static void destroy(void *self)
{
	const struct faulty *f = self;

	if (f->conf->fault == DESTROY_HANGS)
		hang();
	free(self);
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
	.destroy = destroy,
	.start = start,
	.process = process,
	.stop = stop,
	.drain = drain,
};
SS_REGISTER(&faulty, &faulty_filter);
