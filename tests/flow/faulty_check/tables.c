/* SPDX-License-Identifier: MIT */
/* A sink whose descriptor and symbols are sound but for the one FAULT it is compiled with. */
#include <stdlib.h>
#include <semstreams/sugar.h>

enum fault {
	NONE,
	DESCRIPTOR_ABI,
	DESCRIPTOR_NAME,
	DESCRIPTOR_CALLBACK,
	OUTPUT_NAME,
	OPTION_NAME,
	OPTION_TWICE,
	OPTION_HELP,
	OPTION_DEFAULT,
	OPTION_DEFAULT_RANGE,
	OPTION_RANGE,
	OPTION_OVERLAP,
	OPTION_OUTSIDE,
	METRIC_NAME,
	METRIC_CHARACTERS,
	METRIC_TWICE,
};
#ifndef FAULT
#define FAULT NONE
#endif

struct conf {
	int64_t limit, rate;
	const char *path;
};
static const struct ss_option options[] = {
	{.key = FAULT == OPTION_NAME ? "maxRows" : "limit",
	 .type = SS_OPT_INT,
	 .offset = offsetof(struct conf, limit),
	 .default_text = FAULT == OPTION_DEFAULT         ? "many"
			 : FAULT == OPTION_DEFAULT_RANGE ? "1000"
							 : "5",
	 .help = FAULT == OPTION_HELP ? "" : "How many rows are taken.",
	 .min = FAULT == OPTION_RANGE ? 200 : 1,
	 .max = 100},
	{.key = FAULT == OPTION_TWICE ? "limit" : "rate",
	 .type = SS_OPT_INT,
	 .offset = FAULT == OPTION_OVERLAP   ? offsetof(struct conf, limit)
		   : FAULT == OPTION_OUTSIDE ? sizeof(struct conf)
					     : offsetof(struct conf, rate),
	 .default_text = "1",
	 .help = "Rows per second."},
	{.key = "path",
	 .type = SS_OPT_STRING,
	 .offset = offsetof(struct conf, path),
	 .help = "File to write."},
};
static const struct ss_metric metrics[] = {
	{.name = FAULT == METRIC_NAME         ? "semstreams_events_in_total"
		 : FAULT == METRIC_CHARACTERS ? "semstreams_faulty-rows_total"
					      : "semstreams_faulty_rows_total",
	 .help = "Rows that were taken.",
	 .kind = SS_METRIC_COUNTER},
	{.name = FAULT == METRIC_TWICE ? "semstreams_faulty_rows_total" : "semstreams_faulty_bytes_total",
	 .help = "Bytes that were taken.",
	 .kind = SS_METRIC_COUNTER},
};
static const char *const reasons[] = {"unwanted", FAULT == OUTPUT_NAME ? "Un Wanted" : "late", NULL};

struct instance {
	const struct ss_host *host;
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = calloc(1, sizeof *s);

	(void)conf;
	if (!s)
		return -ENOMEM;
	s->host = host;
	*self = s;
	return 0;
}

#ifdef EXPORTS
int32_t process(void *self, uint32_t port, struct ss_batch *b);
#else
static
#endif
int32_t process(void *self, uint32_t port, struct ss_batch *b)
{
	const struct instance *s = self;

	(void)port;
	s->host->metric_add(s->host, 0, b->count);
	return SS_DONE;
}

#ifdef NEEDS
void log_line(const char *text); /* of a host, which exports nothing */
static void destroy(void *self)
{
	log_line("freed");
	free(self);
}
#else
static void destroy(void *self)
{
	free(self);
}
#endif

static const struct ss_component component = {
	.struct_size = FAULT == DESCRIPTOR_ABI ? 16 : sizeof component,
	.kind = SS_KIND_SINK,
	.type = FAULT == DESCRIPTOR_NAME ? "Faulty-Sink" : "faulty_tables",
	.version = "1.0",
	.summary = "takes rows",
	.license = "MIT",
	.options = options,
	.option_size = sizeof *options,
	.n_options = sizeof options / sizeof *options,
	.metrics = metrics,
	.metric_size = sizeof *metrics,
	.n_metrics = sizeof metrics / sizeof *metrics,
	.reasons = reasons,
	.conf_size = sizeof(struct conf),
	.create = create,
	.destroy = destroy,
	.process = FAULT == DESCRIPTOR_CALLBACK ? NULL : process,
};
SS_REGISTER(&component);
