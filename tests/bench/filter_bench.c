/* SPDX-License-Identifier: MIT */
/*
 * filter_bench - what a filter costs per event of 100 bytes, in batches of 256: one and ten conditions, on
 * one field and on several, and a regular expression, beside the bare field reader, taking turns of less than
 * a millisecond.  CPU time of the thread.  Prints a table of ns per event, median and best of the rounds.
 *
 * The host here does as little as a host can: what is measured is the plugin with its JSON reading.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/plugin.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"

enum { EVENTS = 256, BATCHES = 4, ROUNDS = 300, SIZE = 100, FIELDS = 10 };

/* ---- a host ----------------------------------------------------------------------------------------- */

static struct ss_event part_events[EVENTS];
static struct ss_batch part;
static uint64_t n_emitted;

static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	(void)host;
	(void)level;
	fprintf(stderr, "%s\n", text);
}

static void host_config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	(void)host;
	fprintf(stderr, "%s: %s\n", pointer, text);
}

static struct ss_batch *host_batch_new(const struct ss_host *host, struct ss_batch *parent, uint32_t rows,
				       size_t bytes)
{
	(void)host;
	(void)parent;
	if (rows > EVENTS || bytes)
		abort();
	part = (struct ss_batch){.struct_size = sizeof part, .capacity = EVENTS, .events = part_events};
	return &part;
}

static void host_batch_unref(struct ss_batch *batch)
{
	(void)batch;
}

static void host_emit(const struct ss_host *host, uint32_t port, struct ss_batch *batch)
{
	(void)host;
	if (port == 0)
		n_emitted += batch->count;
}

static void host_drop(const struct ss_host *host, uint32_t reason, uint64_t n)
{
	(void)host;
	(void)reason;
	(void)n;
	abort();
}

static void host_metric(const struct ss_host *host, uint32_t metric, int64_t n)
{
	(void)host;
	(void)metric;
	(void)n;
}

static int32_t host_query(const struct ss_host *host, const char *name, uint32_t size, struct ss_iface *out)
{
	(void)host;
	(void)size;
	if (strcmp(name, SS_FIELDS) != 0)
		return -2;
	*out = (struct ss_iface){.vtbl = &fields_service};
	return 0;
}

static const struct ss_host host = {
	.struct_size = sizeof host,
	.id = "bench",
	.log = host_log,
	.config_error = host_config_error,
	.batch_new = host_batch_new,
	.batch_unref = host_batch_unref,
	.emit = host_emit,
	.drop = host_drop,
	.metric_add = host_metric,
	.metric_set = host_metric,
	.query = host_query,
};

/* A filter with this condition; everything else is zero or not set, which are the defaults but for the keys.
 */
static void *make_filter(const char *where)
{
	const struct ss_component *c = semstreams_entry_v1.components[0];
	char *conf = calloc(1, c->conf_size);
	void *self = NULL;

	if (!conf)
		abort();
	for (uint32_t i = 0; i < c->n_options; i++)
		if (strcmp(c->options[i].key, "where") == 0)
			memcpy(conf + c->options[i].offset, &where, sizeof where);
	if (c->create(&host, conf, &self) < 0)
		abort();
	return self;
}

/* ---- the events ------------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static unsigned pick(unsigned n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned)((random_state * UINT64_C(2685821657736338717) >> 32) * n >> 32);
}

/* value is 20 to 99.99, 60 in the middle */
static size_t make_reading(char *text)
{
	static const char *const sensors[] = {"temperature", "humidity", "pressure", "vibration"},
				 *const places[] = {"a", "north-hall-12", "roof", "conveyor belt 4"};

	return (size_t)sprintf(text,
			       "{\"seq\":%u,\"sensor\":\"%s\",\"location\":\"%s\",\"value\":%.*f,"
			       "\"ts\":1763892%06u}",
			       pick(10000000), sensors[pick(4)], places[pick(4)], 1 + (int)pick(2),
			       20 + pick(7999) / 100.0, pick(1000000));
}

/* {"a":12.5,"b":...}: ten numbers from 1 to 999 */
static size_t make_numbers(char *text)
{
	size_t len = 0;

	for (unsigned i = 0; i < FIELDS; i++)
		len += (size_t)sprintf(text + len, pick(2) ? "%c\"%c\":%u" : "%c\"%c\":%u.5", i ? ',' : '{',
				       'a' + i, 1 + pick(99));
	text[len++] = '}';
	return len;
}

static const struct kind {
	const char *name;
	size_t (*make)(char *text);
} kinds[] = {{"a reading", make_reading}, {"ten numbers", make_numbers}};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct ss_batch batches[KINDS][BATCHES];

/* Blanks at the end make up the size. */
static void make_events(unsigned kind, struct ss_batch *batch)
{
	*batch = (struct ss_batch){.struct_size = sizeof *batch, .count = EVENTS, .capacity = EVENTS};
	batch->events = calloc(EVENTS, sizeof *batch->events);
	batch->data = malloc((size_t)EVENTS * SIZE);
	if (!batch->events || !batch->data)
		abort();
	for (unsigned i = 0; i < EVENTS; i++) {
		char text[256];
		const size_t len = kinds[kind].make(text);

		if (len < SIZE)
			memset(text + len, ' ', SIZE - len);
		uint8_t *to = batch->data + (size_t)i * SIZE;
		if (len > SIZE) {
			i--; /* another one */
			continue;
		}
		memcpy(to, text, SIZE);
		batch->events[i] = (struct ss_event){.data = to, .len = SIZE, .time_ns = 1, .seq = i + 1};
	}
}

/* ---- the candidates --------------------------------------------------------------------------------- */

#define GT(field, value) "{\"field\":\"" field "\",\"op\":\"gt\",\"value\":" value "}"
#define NE(field, value) "{\"field\":\"" field "\",\"op\":\"ne\",\"value\":" value "}"
#define TWO              GT("a", "0") "," GT("b", "0")
#define ALL                                                                                                  \
	TWO "," GT("c", "0") "," GT("d", "0") "," GT("e", "0") "," GT("f", "0") "," GT("g", "0") "," GT(     \
		"h", "0") "," GT("i", "0") "," GT("j", "0")
#define SAME NE("value", "1") "," NE("value", "2") "," NE("value", "3")

static struct candidate {
	const char *name;
	unsigned kind;
	const char *const *paths; /* of the bare reader, NULL: a filter */
	const char *where;
	void *self; /* filter or reader */
	uint32_t n_paths;
	double ns[ROUNDS];
} candidates[] = {
	{.name = "bare reader, 1 field", .paths = (const char *const[]){"value", NULL}},
	{.name = "1 numeric condition", .where = GT("value", "0")},
	{.name = "the same, half pass", .where = GT("value", "60")},
	{.name = "1 string condition", .where = NE("sensor", "\"x\"")},
	{.name = "1 regular expression",
	 .where = "{\"field\":\"sensor\",\"op\":\"regex\",\"value\":\"^(tem|hum|pre|vib).*[a-z]$\"}"},
	{.name = "10 conditions on one number", .where = "[" GT("value", "0") "," SAME "," SAME "," SAME "]"},
	{.name = "bare reader, 1 field", .kind = 1, .paths = (const char *const[]){"a", NULL}},
	{.name = "bare reader, 10 fields",
	 .kind = 1,
	 .paths = (const char *const[]){"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", NULL}},
	{.name = "1 numeric condition", .kind = 1, .where = GT("a", "0")},
	{.name = "2 numeric conditions", .kind = 1, .where = "[" TWO "]"},
	{.name = "10 numeric conditions", .kind = 1, .where = "[" ALL "]"},
};
enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static volatile uint32_t sink;

static void run(const struct candidate *c, struct ss_batch *batch)
{
	struct ss_field out[FIELDS];
	uint32_t sum = 0;

	if (!c->paths) {
		if (semstreams_entry_v1.components[0]->process(c->self, 0, batch) != SS_DONE)
			abort();
		return;
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		if (fields_service.read(NULL, c->self, batch->events[i].data, SIZE, out, NULL) < 0)
			abort();
		sum += out[c->n_paths - 1].len;
	}
	sink = sum;
}

static double measure(const struct candidate *c)
{
	double from = 0;

	for (unsigned turn = 0; turn < 2; turn++) { /* the first one warms up */
		from = now_ns();
		for (unsigned i = 0; i < BATCHES; i++)
			run(c, &batches[c->kind][i]);
	}
	return (now_ns() - from) / (BATCHES * EVENTS);
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void prepare(struct candidate *c)
{
	struct ss_reader *reader;

	if (!c->paths) {
		c->self = make_filter(c->where);
		return;
	}
	while (c->paths[c->n_paths])
		c->n_paths++;
	if (fields_service.compile(NULL, c->paths, c->n_paths, &reader, NULL) < 0)
		abort();
	c->self = reader;
}

/* With an argument: only that candidate, for counting instructions. */
int main(int argc, char **argv)
{
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned i = 0; i < BATCHES; i++)
			make_events(k, &batches[k][i]);
	for (unsigned c = 0; c < CANDIDATES; c++)
		prepare(&candidates[c]);
	if (argc == 2) {
		for (unsigned round = 0; round < ROUNDS; round++)
			measure(&candidates[(unsigned)atoi(argv[1]) % CANDIDATES]);
		return 0;
	}
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned c = 0; c < CANDIDATES; c++)
			candidates[c].ns[round] = measure(&candidates[c]);
	printf("| ns per event of %d bytes | event | median | best | to the bare reader "
	       "|\n|---|---|---|---|---|\n",
	       SIZE);
	const struct candidate *bare = candidates;
	for (unsigned c = 0; c < CANDIDATES; c++) {
		struct candidate *k = &candidates[c];
		if (k->kind != bare->kind)
			bare = k;
		qsort(k->ns, ROUNDS, sizeof(double), by_value);
		printf("| %s | %s | %.0f | %.0f | %.2f |\n", k->name, kinds[k->kind].name, k->ns[ROUNDS / 2],
		       k->ns[0], k->ns[ROUNDS / 2] / bare->ns[ROUNDS / 2]);
	}
	printf("\nEach further condition: on the same field %.1f ns, on another %.1f ns\n",
	       (candidates[5].ns[ROUNDS / 2] - candidates[1].ns[ROUNDS / 2]) / 9,
	       (candidates[10].ns[ROUNDS / 2] - candidates[8].ns[ROUNDS / 2]) / 9);
	return n_emitted == 0;
}
