/* SPDX-License-Identifier: MIT */
/* A processor that passes on two of three rows, and is sound but for the one FAULT it is compiled with. */
#include <stdlib.h>
#include <unistd.h>
#include <semstreams/sugar.h>

enum fault {
	NONE,
	BATCH_LEAK,
	BATCH_WRITTEN,
	BATCH_KEPT,
	BUSY_LOST,
	EMIT_AFTER_DRAIN,
	GLOBAL_STATE,
	GLOBAL_MEMORY,
	ALLOCATION_CRASH,
	RETURN_UNKNOWN,
	STDOUT,
};
#ifndef FAULT
#define FAULT NONE
#endif

struct instance {
	const struct ss_host *host;
	unsigned n; /* rows so far */
	int refused;
	const struct ss_batch *last;
};

static char *shared; /* of all instances, with GLOBAL_MEMORY */

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *p = calloc(1, sizeof *p);

	(void)conf;
	if (!p)
		return -ENOMEM;
	p->host = host;
	if (FAULT == GLOBAL_MEMORY && !shared && !(shared = calloc(1, 64))) {
		free(p);
		return -ENOMEM;
	}
	*self = p;
	return 0;
}

static void destroy(void *self)
{
	if (FAULT == GLOBAL_MEMORY) {
		free(shared);
		shared = NULL;
	}
	free(self);
}

static int is_passed(struct instance *p)
{
	static unsigned n;

	if (FAULT == GLOBAL_MEMORY)
		shared[0] ^= 1;
	return FAULT == GLOBAL_STATE ? n++ % 3 : p->n++ % 3;
}

static int32_t pass(struct instance *p, struct ss_batch *b)
{
	const struct ss_host *h = p->host;
	uint32_t *rows = malloc((b->count + 1) * sizeof *rows), n = 0;

	if (!rows && FAULT != ALLOCATION_CRASH)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->count; i++)
		if (is_passed(p))
			((volatile uint32_t *)rows)[n++] = i;
	int32_t rc = ss_emit_rows(h, 0, b, rows, n);
	free(rows);
	return rc;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *b)
{
	struct instance *p = self;
	const struct ss_host *h = p->host;

	(void)port;
	if (FAULT == BATCH_WRITTEN && b->count && b->events[0].len)
		b->data[0] = '{';
	if (FAULT == BATCH_LEAK)
		(void)h->batch_new(h, b, 1, 0);
	if (FAULT == BATCH_KEPT && p->last && p->last->count > 1000000)
		return -EIO;
	p->last = b;
	int32_t rc = pass(p, b);
	if (FAULT == BUSY_LOST && rc == 0 && (p->refused = !p->refused)) {
		h->input_ready(h);
		return SS_BUSY;
	}
	if (FAULT == STDOUT)
		(void)!write(STDERR_FILENO, "passed\n", 7);
	return rc == 0 && FAULT == RETURN_UNKNOWN ? 3 : rc;
}

static void stop(void *self)
{
	struct instance *p = self;

	if (FAULT != EMIT_AFTER_DRAIN)
		return;
	struct ss_batch *b = p->host->batch_new(p->host, NULL, 1, 8);
	if (!b)
		return;
	b->events[b->count++] = (struct ss_event){.data = b->data, .len = 8};
	p->host->emit(p->host, 0, b);
	p->host->batch_unref(b);
}

static const struct ss_component component = {
	.struct_size = sizeof component,
	.kind = SS_KIND_PROCESSOR,
	.type = "faulty_processor",
	.version = "1.0",
	.summary = "passes on two of three rows",
	.license = "MIT",
	.create = create,
	.destroy = destroy,
	.stop = stop,
	.process = process,
};
SS_REGISTER(&component);
