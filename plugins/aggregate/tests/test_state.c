/* SPDX-License-Identifier: MIT */
/*
 * Tests of an instance that keeps checkpoints: what sources are told and when, which results leave, and that
 * a restart at any moment changes neither.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "plugins/aggregate/state.h"
#include <semstreams/test-host.h>

#define MS UINT64_C(1000000)

/* A disk that does not answer while this is set; takes the place of the C library's. */
static _Atomic bool disk_hangs;

int fsync(int fd)
{
	while (disk_hangs)
		nanosleep(&(struct timespec){.tv_nsec = (long)MS}, NULL);
	return (int)syscall(SYS_fsync, fd);
}

/* ---- the source before it, a host of its own ---- */

struct fixture;
static struct fixture *created_for;

struct fixture {
	struct ss_test_host h, source;
	struct conf conf;
	char folder[64], path[96], checkpoint[160];
	uint32_t n_acked, n_failed; /* batches of the source */
	/* results by number, as they came first */
	char *results[512];
	uint64_t n_results;
	uint8_t epoch[16];
};

static int32_t source_create(const struct ss_host *host, const void *conf, void **self)
{
	(void)host, (void)conf;
	*self = created_for;
	return 0;
}

static void source_destroy(void *self)
{
	(void)self;
}

static void source_acked(void *self, uint64_t cookie, int32_t status)
{
	struct fixture *f = self;

	(void)cookie;
	f->n_acked += status == SS_DELIVERED;
	f->n_failed += status == SS_FAILED;
}

static const struct ss_component source_desc = {.struct_size = sizeof source_desc,
						.kind = SS_KIND_SOURCE,
						.type = "source",
						.create = source_create,
						.destroy = source_destroy,
						.acked = source_acked};

/* ---- fixture ---- */

static const struct ss_component *aggregate_desc(void)
{
	return semstreams_entry_v1.components[0];
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	snprintf(f->folder, sizeof f->folder, "/tmp/keep-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof f->path, "%s/state", f->folder);
	snprintf(f->checkpoint, sizeof f->checkpoint, "{\"path\":\"%s\",\"interval\":\"20ms\"}", f->path);
	f->conf = (struct conf){.window = "{\"type\":\"tumbling\",\"size\":\"10s\"}",
				.time = "{\"field\":\"t\",\"format\":\"s\"}",
				.group_by = "\"k\"",
				.functions = "{\"n\":\"count\",\"sum\":\"sum(v)\"}",
				.checkpoint = f->checkpoint,
				.max_groups = 1000000};
	created_for = f;
	ss_test_host_init(&f->source, &source_desc);
	assert_int_equal(ss_test_host_create(&f->source, NULL), 0);
	*state = f;
	return 0;
}

static void begin(struct fixture *f)
{
	ss_test_host_init(&f->h, aggregate_desc());
	if (ss_test_host_create(&f->h, &f->conf) != 0)
		fail_msg("%s", f->h.errors);
}

static void start(struct fixture *f)
{
	begin(f);
	if (f->h.desc->start(f->h.self) != 0)
		fail_msg("%s", f->h.log);
}

/* Without draining: what is in no checkpoint is gone. */
static void crash(struct fixture *f)
{
	ss_test_host_done(&f->h);
	ss_test_host_run(&f->source, 0);
}

static void forget_results(struct fixture *f)
{
	for (uint64_t i = 0; i <= f->n_results; i++) {
		free(f->results[i]);
		f->results[i] = NULL;
	}
	f->n_results = 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->h.impl)
		ss_test_host_done(&f->h);
	ss_test_host_done(&f->source);
	forget_results(f);
	unlink(f->path);
	assert_int_equal(rmdir(f->folder), 0); /* nothing is left lying about */
	free(f);
	return 0;
}

/* What it emitted goes to a checkpointer: results have numbers, and a number stands for one result for good.
 */
static void take_results(struct fixture *f)
{
	for (uint32_t i = 0; i < f->h.n_emitted; i++) {
		const struct ss_batch *b = f->h.emitted[i].batch;
		struct ss_position at;
		const char *source;
		assert_int_equal(f->h.host.position(b, &at, &source), 0);
		if (f->n_results)
			assert_memory_equal(at.epoch, f->epoch, sizeof at.epoch);
		memcpy(f->epoch, at.epoch, sizeof at.epoch);
		assert_int_equal(at.seq, b->events[b->count - 1].seq);
		for (uint32_t k = 0; k < b->count; k++) {
			const struct ss_event *e = &b->events[k];
			assert_in_range(e->seq, 1, f->n_results + 1);
			char *text = strndup((const char *)e->data, e->len);
			if (e->seq <= f->n_results) {
				assert_string_equal(text, f->results[e->seq]);
				free(text);
				continue;
			}
			f->results[e->seq] = text;
			f->n_results = e->seq;
		}
	}
	char log[sizeof f->h.log];
	memcpy(log, f->h.log, sizeof log);
	int64_t metrics[64];
	memcpy(metrics, f->h.metrics, sizeof metrics);
	uint32_t n_input_ready = f->h.n_input_ready, n_drained = f->h.n_drained;
	uint64_t duplicates = f->h.duplicates;
	ss_test_host_clear(&f->h);
	memcpy(f->h.log, log, sizeof log);
	memcpy(f->h.metrics, metrics, sizeof metrics);
	f->h.n_input_ready = n_input_ready;
	f->h.n_drained = n_drained;
	f->h.duplicates = duplicates;
}

static void run(struct fixture *f, int timeout_ms)
{
	ss_test_host_run(&f->h, timeout_ms);
	ss_test_host_run(&f->source, 0);
}

#define until(f, cond)                                                                                       \
	do {                                                                                                 \
		for (int i_ = 0; i_ < 3000 && !(cond); i_++)                                                 \
			run(f, 10);                                                                          \
		assert_true(cond);                                                                           \
	} while (0)

/* Events from number first on, one batch; its token says that there may be more up to number upto. */
static int32_t feed_part(struct fixture *f, uint32_t port, uint8_t epoch, uint64_t first, uint64_t upto,
			 const char *const *texts, uint32_t n)
{
	struct ss_batch *b = ss_test_host_batch(&f->source, texts, n);
	const struct ss_position at = {.epoch = {epoch}, .seq = upto};

	for (uint32_t i = 0; i < n; i++)
		b->events[i].seq = first + i;
	ss_test_host_track(&f->source, b, "source", &at);
	int32_t rc = ss_test_host_process(&f->h, port, b);
	f->source.host.batch_unref(b);
	ss_test_host_run(&f->source, 0);
	return rc;
}

static void feed(struct fixture *f, uint8_t epoch, uint64_t first, const char *const *texts, uint32_t n)
{
	assert_int_equal(feed_part(f, 0, epoch, first, first + n - 1, texts, n), SS_DONE);
}

#define FEED(f, epoch, first, ...)                                                                           \
	feed(f, epoch, first, (const char *const[]){__VA_ARGS__},                                            \
	     sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

#define A(t)   "{\"t\":" #t ",\"k\":\"a\",\"v\":1}"
#define B(t)   "{\"t\":" #t ",\"k\":\"b\",\"v\":2}"
#define END    "{\"t\":1000,\"k\":\"end\",\"v\":0}"
#define R(...) "{\"window_start\":\"1970-01-01T00:00:" __VA_ARGS__

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All of them, each on a line, sorted: those of one moment leave in any order. */
static const char *all_results(struct fixture *f)
{
	static char text[65536];
	size_t len = 0;
	char *sorted[512];

	memcpy(sorted, f->results, sizeof sorted);
	qsort(sorted + 1, f->n_results, sizeof *sorted, by_text);

	text[0] = '\0';
	for (uint64_t i = 1; i <= f->n_results; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "%s\n", sorted[i]);
	return text;
}

/* ---- what is durable when ---- */

static void sources_and_results_wait(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_true(f->h.checkpointer);
	FEED(f, 1, 1, A(1), B(2));
	FEED(f, 1, 3, A(11));
	assert_int_equal(f->n_acked, 0);
	assert_int_equal(f->h.n_emitted, 0);
	assert_int_equal(access(f->path, F_OK), -1);
	until(f, f->n_acked == 2);
	assert_int_equal(access(f->path, F_OK), 0);
	until(f, f->h.n_emitted == 1);
	take_results(f);
	assert_string_equal(
		all_results(f),
		R("00Z\",\"window_end\":\"1970-01-01T00:00:10Z\",\"k\":\"a\",\"n\":1,\"sum\":1}\n")
			R("00Z\",\"window_end\":\"1970-01-01T00:00:10Z\",\"k\":\"b\",\"n\":1,\"sum\":2}\n"));
	assert_int_equal(f->n_failed, 0);
}

/* The interval is for those that nobody waits for. */
static void a_source_is_not_kept_waiting(void **state)
{
	struct fixture *f = *state;
	const char *many[1024];

	snprintf(f->checkpoint, sizeof f->checkpoint, "{\"path\":\"%s\",\"interval\":\"1h\"}", f->path);
	for (int i = 0; i < 1024; i++)
		many[i] = A(1);
	start(f);
	/* a few: at its leisure */
	feed(f, 1, 1, many, 2);
	for (int i = 0; i < 50; i++)
		ss_test_host_advance(&f->h, 100 * MS);
	assert_int_equal(f->h.metrics[METRIC_CHECKPOINTS], 0);
	crash(f);
	start(f);
	/* it stops after many: it may not be allowed more */
	feed(f, 1, 1, many, 64);
	feed(f, 1, 65, many, 64);
	until(f, f->n_acked == 2);
	/* it does not stop */
	uint64_t next = 129;
	time_t began = time(NULL);
	while (f->n_acked == 2) {
		feed(f, 1, next, many, 1024);
		next += 1024;
		run(f, 0);
		assert_true(time(NULL) < began + 300);
	}
	assert_true(next > 30000);
	/* results */
	FEED(f, 1, next, A(11));
	until(f, f->h.n_emitted == 1);
}

/* ---- after a crash ---- */

static void positions_are_told(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(f->h.n_kept, 0);
	FEED(f, 1, 1, A(1), A(2));
	assert_int_equal(feed_part(f, 1, 2, 10, 10, (const char *const[]){A(1)}, 1), SS_DONE);
	until(f, f->n_acked == 2);
	crash(f);
	start(f);
	assert_int_equal(f->h.n_kept, 2);
	assert_string_equal(f->h.kept[0].source, "source");
	assert_int_equal(f->h.kept[0].port, 0);
	assert_int_equal(f->h.kept[0].position.epoch[0], 1);
	assert_int_equal(f->h.kept[0].position.seq, 2);
	assert_int_equal(f->h.kept[1].port, 1);
	assert_int_equal(f->h.kept[1].position.epoch[0], 2);
	assert_int_equal(f->h.kept[1].position.seq, 10);
	/* what comes again does not count, on either way */
	FEED(f, 1, 1, A(1), A(2), A(3));
	assert_int_equal(feed_part(f, 1, 2, 10, 11, (const char *const[]){A(1), A(4)}, 2), SS_DONE);
	assert_int_equal(f->h.duplicates, 3);
	/* another log of the source: its numbers begin anew */
	FEED(f, 7, 1, A(5));
	FEED(f, 7, 1, A(5));
	assert_int_equal(f->h.duplicates, 4);
	FEED(f, 7, 2, END);
	assert_int_equal(feed_part(f, 1, 2, 12, 12, (const char *const[]){END}, 1), SS_DONE);
	until(f, f->h.n_emitted);
	take_results(f);
	assert_string_equal(
		all_results(f),
		R("00Z\",\"window_end\":\"1970-01-01T00:00:10Z\",\"k\":\"a\",\"n\":6,\"sum\":6}\n"));
}

/* A batch says by its token how far its source's goes, of which it may be a part. */
static void parts_of_a_batch(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(feed_part(f, 0, 1, 1, 4, (const char *const[]){A(1), A(2)}, 2), SS_DONE);
	assert_int_equal(feed_part(f, 0, 1, 3, 4, (const char *const[]){A(3), A(4)}, 2), SS_DONE);
	assert_int_equal(f->h.duplicates, 0);
	assert_int_equal(feed_part(f, 0, 1, 5, 8, (const char *const[]){A(3)}, 1), SS_DONE);
	until(f, f->n_acked == 3);
	crash(f);
	start(f);
	assert_int_equal(f->h.kept[0].position.seq, 5);
}

static const char *const stream[] = {A(1),  B(3),  A(4),  A(8),  B(9),  A(12), A(13), B(14), A(2),  B(19),
				     A(21), A(22), B(25), B(26), A(33), B(31), A(37), A(30), B(39), A(44),
				     A(45), B(59), A(47), B(52), A(75), B(76), A(77), END};
enum { STREAM = sizeof stream / sizeof *stream };

/* All of the stream from a number on, as it comes from a link, and until all is acknowledged. */
static void feed_stream(struct fixture *f, uint64_t from, uint64_t upto, unsigned *seed)
{
	while (from <= upto) {
		uint64_t n = 1 + (uint64_t)rand_r(seed) % 3;
		n = n < upto - from + 1 ? n : upto - from + 1;
		feed(f, 1, from, stream + from - 1, (uint32_t)n);
		from += n;
		for (int k = rand_r(seed) % 4; k; k--)
			run(f, rand_r(seed) % 3);
		if (rand_r(seed) % 3 == 0)
			ss_test_host_advance(&f->h, 12 * MS);
		if (rand_r(seed) % 2)
			take_results(f);
	}
}

static void the_whole_stream(struct fixture *f, uint64_t from, unsigned *seed)
{
	f->n_acked = 0;
	feed_stream(f, from, STREAM, seed);
	/* a batch without events that count, to know when what was before it is dealt with */
	until(f, f->h.metrics[METRIC_UNSENT] == 0 &&
			 (f->h.metrics[METRIC_CHECKPOINTS] > 0 || f->h.duplicates == STREAM + 1 - from));
	FEED(f, 1, STREAM + 1, "{\"t\":1000}");
	uint32_t before = f->n_acked;
	until(f, f->n_acked > before);
	until(f, f->h.metrics[METRIC_UNSENT] == 0);
	take_results(f);
}

/* Where the source goes on that knows what is durable: at the last event again once all of it is. */
static uint64_t goes_on(const struct fixture *f)
{
	uint64_t at = f->h.n_kept ? f->h.kept[0].position.seq + 1 : 1;

	return at < STREAM ? at : STREAM;
}

static void same_after_crashes(struct fixture *f)
{
	unsigned seed = 4711;

	start(f);
	the_whole_stream(f, 1, &seed);
	char *wanted = strdup(all_results(f));
	assert_true(f->n_results > 4);
	crash(f);
	for (int trial = 0; trial < 40; trial++) {
		uint64_t at, crashed_at;
		forget_results(f);
		unlink(f->path);
		for (int crashes = rand_r(&seed) % 5; crashes; crashes--) {
			start(f);
			/* the source begins where it knows that all is durable, or before */
			at = goes_on(f);
			at -= (uint64_t)rand_r(&seed) % at;
			crashed_at = at + (uint64_t)rand_r(&seed) % (STREAM + 1 - at);
			feed_stream(f, at, crashed_at, &seed);
			if (rand_r(&seed) % 2)
				take_results(f);
			crash(f);
		}
		start(f);
		the_whole_stream(f, goes_on(f), &seed);
		assert_string_equal(all_results(f), wanted);
		crash(f);
	}
	free(wanted);
}

static void tumbling_is_the_same_after_crashes(void **state)
{
	struct fixture *f = *state;

	f->conf.time = "{\"field\":\"t\",\"format\":\"s\",\"lateness\":\"5s\",\"late\":\"emit\"}";
	same_after_crashes(f);
}

static void sliding_is_the_same_after_crashes(void **state)
{
	struct fixture *f = *state;

	f->conf.window = "{\"type\":\"sliding\",\"size\":\"10s\",\"every\":\"4s\"}";
	f->conf.output = OUTPUT_WINDOW;
	same_after_crashes(f);
}

static void sessions_are_the_same_after_crashes(void **state)
{
	struct fixture *f = *state;

	f->conf.window = "{\"type\":\"session\",\"gap\":\"6s\"}";
	f->conf.time = "{\"field\":\"t\",\"format\":\"s\",\"lateness\":\"12s\",\"late\":\"emit\"}";
	f->conf.functions = "{\"n\":\"count\",\"m\":\"mean(t)\",\"d\":\"stddev(t)\",\"p\":\"p50(t)\",\"u\":"
			    "\"distinct(t)\"}";
	same_after_crashes(f);
}

/* ---- results that are not taken ---- */

static void results_that_failed_go_out_again(void **state)
{
	struct fixture *f = *state;

	start(f);
	FEED(f, 1, 1, A(1), A(11));
	until(f, f->h.n_emitted == 1);
	struct ss_token *token = f->h.emitted[0].batch->token;
	f->h.host.token_ref(token);
	f->h.host.token_unref(token, SS_FAILED);
	take_results(f);
	until(f, f->h.n_emitted == 1);
	assert_non_null(strstr(f->h.log, "resending"));
	take_results(f); /* the same under the same number */
	assert_int_equal(f->n_results, 1);
}

static void blocked_results_stop_the_input(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(8192), pad[4001];
	const char *one[] = {text};
	uint64_t seq = 1;
	int32_t rc;

	memset(pad, 'x', 4000);
	pad[4000] = '\0';
	start(f);
	do {
		snprintf(text, 8192, "{\"t\":%llu,\"k\":\"%s%llu\"}", (unsigned long long)seq * 10, pad,
			 (unsigned long long)seq);
		rc = feed_part(f, 0, 1, seq, seq, one, 1);
		if (rc == SS_DONE)
			seq++;
		if (seq % 1000 == 0)
			run(f, 0);
		assert_true(seq < 30000);
	} while (rc == SS_DONE);
	assert_int_equal(rc, SS_BUSY);
	assert_true(seq > 10000);
	for (int i = 0; i < 100; i++)
		run(f, 1);
	assert_int_equal(f->h.n_input_ready, 0);
	/* what is behind takes them again */
	for (int i = 0; i < 3000 && !f->h.n_input_ready; i++) {
		for (uint32_t k = 0; k < f->h.n_emitted; k++)
			f->h.host.batch_unref(f->h.emitted[k].batch);
		f->h.n_emitted = 0;
		run(f, 1);
	}
	assert_int_equal(f->h.n_input_ready, 1);
	assert_int_equal(feed_part(f, 0, 1, seq, seq, one, 1), SS_DONE);
	free(text);
}

/* ---- files that cannot be used ---- */

static void refused(struct fixture *f, const char *why)
{
	begin(f);
	assert_true(f->h.desc->start(f->h.self) < 0);
	if (!strstr(f->h.log, why))
		fail_msg("%s\nnot there: %s", f->h.log, why);
	ss_test_host_done(&f->h);
}

static void a_file_of_something_else(void **state)
{
	struct fixture *f = *state;

	start(f);
	FEED(f, 1, 1, A(1));
	until(f, f->n_acked == 1);
	crash(f);
	f->conf.window = "{\"type\":\"tumbling\",\"size\":\"11s\"}";
	refused(f, "it belongs to another window, time, group_by or functions");
	/* blanks make no difference */
	f->conf.window = "{ \"type\":\"tumbling\" , \"size\": \"10s\" }";
	f->conf.max_groups = 7;
	start(f);
	assert_int_equal(f->h.n_kept, 1);
}

static void a_damaged_file(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	f->conf.functions = "{\"n\":\"count\",\"p\":\"p50(v)\",\"u\":\"distinct(v)\",\"f\":\"first(v)\"}";
	start(f);
	FEED(f, 1, 1, A(1), B(2), A(11));
	until(f, f->n_acked == 1);
	crash(f);
	int fd = open(f->path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at += at < 64 ? 1 : 13) {
		uint8_t byte, other;
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		other = (uint8_t)~byte;
		assert_int_equal(pwrite(fd, &other, 1, at), 1);
		refused(f, "it is damaged; restore it, or remove it to begin anew");
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
	start(f);
}

/* Whoever forges the checksum gets an error or a state, but nothing out of bounds. */
static void a_forged_file(void **state)
{
	struct fixture *f = *state;
	struct ss_strbuf parts[CHECKPOINT_PARTS] = {0};
	struct checkpoint *c;
	uint8_t *bytes;
	size_t len;

	f->conf.functions =
		"{\"n\":\"count\",\"p\":\"p50(v)\",\"u\":\"distinct(v)\",\"f\":\"first(v)\",\"t\":\"top(v)\","
		"\"m\":\"min(v)\",\"h\":{\"fn\":\"histogram\",\"field\":\"v\",\"bounds\":[1,2]}}";
	start(f);
	FEED(f, 1, 1, A(1), B(2), A(11), B(12));
	until(f, f->h.n_emitted);
	crash(f);
	assert_int_equal(checkpoint_read(f->path, &bytes, &len), 0);
	for (size_t at = 8; at < len; at += 1 + at % 2) {
		for (unsigned flip = 1; flip < 256; flip += 254) {
			const char *why;
			int rc;
			bytes[at] ^= (uint8_t)flip;
			parts[0].len = 0;
			ss_strbuf_add(&parts[0], bytes, len);
			bytes[at] ^= (uint8_t)flip;
			assert_int_equal(checkpoint_new(f->path, source_destroy, NULL, &c), 0);
			checkpoint_write(c, parts);
			assert_true(checkpoint_take(c, true, &rc, &why) && rc == 0);
			checkpoint_free(c);
			begin(f);
			if (f->h.desc->start(f->h.self) == 0) {
				FEED(f, 1, 5, A(21), B(35), END);
				run(f, 0);
			}
			ss_test_host_done(&f->h);
		}
	}
	ss_strbuf_done(&parts[0]);
	free(bytes);
}

static void a_place_where_none_can_be(void **state)
{
	struct fixture *f = *state;
	struct checkpoint *c;

	assert_int_equal(checkpoint_new(f->path, source_destroy, NULL, &c), 0);
	refused(f, "another component or process has it; each needs a file of its own");
	checkpoint_free(c);
	snprintf(f->checkpoint, sizeof f->checkpoint, "{\"path\":\"%s/missing/state\"}", f->folder);
	refused(f, "its folder does not exist; create it");
}

static void trouble_passes(void **state)
{
	struct fixture *f = *state;
	char other[96];

	start(f);
	FEED(f, 1, 1, A(1));
	until(f, f->n_acked == 1);
	snprintf(other, sizeof other, "%s.gone", f->folder);
	assert_int_equal(rename(f->folder, other), 0);
	FEED(f, 1, 2, A(11), A(12));
	until(f, f->h.metrics[METRIC_CHECKPOINT_ERRORS] > 0);
	assert_string_equal(f->h.unready, "the checkpoint cannot be written");
	assert_non_null(strstr(f->h.log, "No such file or directory"));
	assert_int_equal(f->n_acked, 1);
	assert_int_equal(f->h.n_emitted, 0);
	FEED(f, 1, 4, A(13));
	assert_int_equal(rename(other, f->folder), 0);
	until(f, f->n_acked == 3);
	until(f, f->h.n_emitted == 1);
	assert_string_equal(f->h.unready, "");
	assert_non_null(strstr(f->h.log, "can be written again"));
}

/* A disk that does not answer is reported after 5 s, with the time it has taken, until it answers. */
static void a_disk_that_does_not_answer(void **state)
{
	struct fixture *f = *state;

	start(f);
	disk_hangs = true;
	FEED(f, 1, 1, A(1), A(11));
	for (int i = 0; i < 2000 && !f->h.degraded[0]; i++)
		run(f, 10);
	assert_string_equal(f->h.degraded, "writing the checkpoint has taken 5 s so far");
	assert_non_null(strstr(f->h.log, "WARN Writing the checkpoint takes longer than 5 s"));
	assert_int_equal(f->h.metrics[METRIC_CHECKPOINT_STALLS], 1);
	assert_in_range(f->h.metrics[METRIC_OLDEST_UNSAVED], 5, 8);
	until(f, strcmp(f->h.degraded, "writing the checkpoint has taken 6 s so far") == 0);
	assert_int_equal(f->n_acked, 0);
	assert_int_equal(f->h.metrics[METRIC_CHECKPOINT_STALLS], 1);
	disk_hangs = false;
	until(f, !f->h.degraded[0]);
	assert_non_null(strstr(f->h.log, "INFO The disk answers again"));
	until(f, f->n_acked == 1);
	until(f, f->h.metrics[METRIC_OLDEST_UNSAVED] == 0);
	until(f, f->h.n_emitted == 1);
}

/* The file of an unreleased version, whose checksum did not cover the first bytes. */
static void a_file_of_another_version(void **state)
{
	struct fixture *f = *state;

	start(f);
	FEED(f, 1, 1, A(1));
	until(f, f->n_acked == 1);
	crash(f);
	int fd = open(f->path, O_RDWR);
	assert_int_equal(pwrite(fd, "SSSTATE1", 8, 0), 8);
	close(fd);
	refused(f,
		"another version of semstreams wrote it; use that version, or remove the file to begin anew");
}

/* ---- the end ---- */

static void drain(struct fixture *f)
{
	int32_t rc = f->h.desc->drain(f->h.self);

	if (rc == SS_BUSY)
		until(f, f->h.n_drained == 1);
	else
		assert_int_equal(rc, 0);
	take_results(f);
	run(f, 0);
}

static void drains_what_is_over(void **state)
{
	struct fixture *f = *state;

	start(f);
	FEED(f, 1, 1, A(1), A(2), A(11));
	drain(f);
	assert_int_equal(f->n_acked, 1);
	assert_string_equal(
		all_results(f),
		R("00Z\",\"window_end\":\"1970-01-01T00:00:10Z\",\"k\":\"a\",\"n\":2,\"sum\":2}\n"));
	crash(f); /* after draining: an orderly end */
	start(f);
	/* what was acknowledged by then does not go out again */
	assert_non_null(strstr(f->h.log, "results_unacknowledged=0"));
	FEED(f, 1, 4, A(12), END);
	drain(f);
	assert_int_equal(f->n_results, 2);
	assert_string_equal(
		f->results[2],
		R("10Z\",\"window_end\":\"1970-01-01T00:00:20Z\",\"k\":\"a\",\"n\":2,\"sum\":2}"));
}

static void drains_all_without_a_file(void **state)
{
	struct fixture *f = *state;

	f->conf.checkpoint = NULL;
	start(f);
	assert_false(f->h.checkpointer);
	assert_non_null(
		strstr(f->h.log, "Without \"checkpoint\" a crash loses the contents of open windows"));
	FEED(f, 1, 1, A(1), A(2), A(11));
	assert_int_equal(f->n_acked, 1);
	/* a source that sends again what another part of the graph wants again */
	FEED(f, 1, 2, A(2), A(11));
	assert_int_equal(f->h.n_emitted, 1);
	assert_int_equal(f->h.desc->drain(f->h.self), 0);
	char *text = ss_test_host_text(&f->h, 0);
	assert_string_equal(
		text, R("00Z\",\"window_end\":\"1970-01-01T00:00:10Z\",\"k\":\"a\",\"n\":2,\"sum\":2}\n")
			      R("10Z\",\"window_end\":\"1970-01-01T00:00:20Z\",\"k\":\"a\",\"n\":1,\"sum\":1,"
				"\"partial\":true}\n"));
	free(text);
	f->h.desc->stop(f->h.self);
	run(f, 0); /* a post that comes too late */
}

/* Results of more windows than go out at once, and an end in the middle of it. */
static void ends_at_any_moment(void **state)
{
	struct fixture *f = *state;
	char text[64];
	const char *one[] = {text};

	for (int turns = 0; turns < 12; turns++) {
		unlink(f->path);
		start(f);
		for (uint64_t i = 1; i <= 2000; i++) {
			snprintf(text, sizeof text, "{\"t\":1,\"k\":%llu}", (unsigned long long)i);
			feed(f, 1, i, one, 1);
		}
		FEED(f, 1, 2001, END);
		for (int i = 0; i < turns; i++)
			run(f, i % 2);
		if (turns % 3)
			(void)f->h.desc->drain(f->h.self);
		f->h.desc->stop(f->h.self);
		run(f, 0);
		assert_false(f->h.metrics[METRIC_CHECKPOINT_ERRORS]);
		crash(f);
	}
}

/* An older file than those behind know of: they would take new results for old ones. */
static void a_file_that_was_set_back(void **state)
{
	struct fixture *f = *state;
	uint8_t epoch[16];

	start(f);
	FEED(f, 1, 1, A(1), A(11));
	until(f, f->h.n_emitted == 1);
	take_results(f);
	memcpy(epoch, f->epoch, sizeof epoch);
	crash(f);
	for (int later = 0; later < 2; later++) {
		begin(f);
		f->h.can_resume = true;
		memcpy(f->h.resume.epoch, epoch, sizeof epoch);
		f->h.resume.seq = 1 + (uint64_t)later;
		assert_int_equal(f->h.desc->start(f->h.self), 0);
		assert_true(!!strstr(f->h.log, "is older than the results that components downstream have") ==
			    (later == 1));
		assert_int_equal(f->h.n_emitted, !later);
		until(f, f->h.n_emitted == 1);
		struct ss_position at;
		const char *source;
		assert_int_equal(f->h.host.position(f->h.emitted[0].batch, &at, &source), 0);
		assert_true((memcmp(at.epoch, epoch, sizeof epoch) == 0) == (later == 0));
		ss_test_host_done(&f->h);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sources_and_results_wait),
		TEST(a_source_is_not_kept_waiting),
		TEST(positions_are_told),
		TEST(parts_of_a_batch),
		TEST(tumbling_is_the_same_after_crashes),
		TEST(sliding_is_the_same_after_crashes),
		TEST(sessions_are_the_same_after_crashes),
		TEST(results_that_failed_go_out_again),
		TEST(blocked_results_stop_the_input),
		TEST(a_file_of_something_else),
		TEST(a_damaged_file),
		TEST(a_forged_file),
		TEST(a_place_where_none_can_be),
		TEST(trouble_passes),
		TEST(a_disk_that_does_not_answer),
		TEST(a_file_of_another_version),
		TEST(drains_what_is_over),
		TEST(drains_all_without_a_file),
		TEST(ends_at_any_moment),
		TEST(a_file_that_was_set_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
