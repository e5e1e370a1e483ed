/* SPDX-License-Identifier: MIT */
/* @TYPE@: a processor that passes on one event in so many, to thin out a sensor that is too fast. */
#include <semstreams/sugar.h>
#include <stdlib.h>

/* What the configuration says.  Strings would be const char *, everything else is int64_t. */
struct conf {
	int64_t every;
};

/* From this table the host checks the configuration, fills struct conf, prints help and a JSON Schema. */
static const struct ss_option options[] = {
	SS_OPT(struct conf, every, SS_OPT_INT, "10", "Pass on one event in so many.", .min = 1,
	       .max = 1000000),
};

/* One instance: a pipeline may have several, so no globals.  No two threads are ever in it at once, so no
 * locks. */
struct instance {
	const struct ss_host *host;
	const struct conf *conf;
	int64_t seen; /* events since the last one passed on */
};

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct instance *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct instance){.host = host, .conf = conf};
	*self = s;
	return 0;
}

static int32_t process(void *self, uint32_t port, struct ss_batch *in)
{
	(void)port; /* there is one input */
	struct instance *s = self;
	/* A child of in: its rows may point into the memory of in, so nothing is copied.  A plugin that
	 * writes payloads asks for bytes of its own in the last argument and gets them at out->data. */
	struct ss_batch *out = s->host->batch_new(s->host, in, in->count, 0);
	if (!out)
		return -ENOMEM; /* the host counts the batch as dropped */

	for (uint32_t i = 0; i < in->count; i++) {
		if (++s->seen < s->conf->every)
			continue; /* neither emitted nor dropped: the host counts it as filtered */
		s->seen = 0;
		out->events[out->count++] = in->events[i];
	}
	if (out->count > 0)
		s->host->emit(s->host, 0, out);
	s->host->batch_unref(out);
	return SS_DONE;
}

/* clang-format off */
static const struct ss_component component = {
	.struct_size = sizeof component, .kind = SS_KIND_PROCESSOR, .type = "@TYPE@",
	.version = "0.1.0", .summary = "Passes on one event in so many.", .license = "MIT",
	.options = options, .option_size = sizeof options[0], .n_options = sizeof options / sizeof options[0],
	.conf_size = sizeof(struct conf), .create = create, .destroy = free, .process = process,
	.flags = SS_TELLS_PATHS, /* it opens no files */
};
/* clang-format on */
SS_REGISTER(&component);
