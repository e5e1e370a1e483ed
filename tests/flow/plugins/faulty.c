/* SPDX-License-Identifier: MIT */
/* faulty - a sink for tests of what the host does about bugs of plugins: each "fault" is one. */
#include <stdlib.h>
#include <time.h>
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
	EMIT
};

struct conf {
	int64_t fault;
};

struct faulty {
	const struct ss_host *host;
	const struct conf *conf;
	struct ss_batch *kept;
};

static const char *const faults[] = {
	"none",         "crash",          "abort", "exit",         "block", "busy", "done_twice",
	"done_unasked", "unknown_return", "keep",  "drop_unknown", "emit",  NULL};
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
	case BUSY:
		return SS_BUSY;
	case KEEP:
		f->kept = batch;
		return SS_KEPT;
	default:
		return misuse(f, batch);
	}
}

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
};
SS_REGISTER(&faulty);
