/* SPDX-License-Identifier: MIT */
/*
 * test_host - see semstreams/test-host.h.  Strict on purpose: what breaks the contract of plugin.h (an [inst]
 * call from another thread, rows outside the batch's memory, a batch changed after emit, a leaked batch or
 * descriptor watch) aborts. SS_FIELDS is offered if the test links core/fields.c; the reference is weak, so
 * naming the archive is not enough.
 */
#include <semstreams/test-host.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>

#include "core/fields/fields.h"
#include "core/flow/streams.h"
#pragma weak fields_service

#define MAX_WATCHES 256

#define require(cond, what)                                                                                  \
	do {                                                                                                 \
		if (!(cond)) {                                                                               \
			fprintf(stderr, "%s:%d: test host: %s (%s)\n", __FILE__, __LINE__, what, #cond);     \
			abort();                                                                             \
		}                                                                                            \
	} while (0)

struct ss_token {
	struct ss_test_host *host;
	uint32_t refs;
	int32_t worst;
	uint64_t cookie;
	bool has_position;
	struct ss_position position;
	const char *source;
};

struct fake_batch {
	struct ss_batch pub; /* first */
	struct ss_test_host *host;
	struct fake_batch *parent;
	uint32_t refs;
	bool emitted;
	bool is_part; /* made by ss_test_host_process */
	uint64_t sum; /* of rows and payload when emitted */
};

/* A timer has fd -1.  Free slots have id 0. */
struct watch {
	uint32_t id;
	int fd;
	uint32_t events;
	uint64_t due, every;
	void (*on_fd)(void *arg, uint32_t events);
	void (*on_time)(void *arg);
	void *arg;
};

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
	struct ss_token *token; /* fn == NULL: report this token's end */
};

struct ss_test_host_loop {
	pthread_t thread;
	pthread_mutex_t lock; /* log, errors and posts */
	struct post *first, **last;
	int wake;
	struct watch watches[MAX_WATCHES];
	uint32_t next_id;
	uint32_t live; /* batches */
	bool created;
	struct streams *streams; /* of a checkpointer */
	bool covers_given;
	struct stream *offered; /* of the batch at hand, until it is accepted */
	struct ss_position offered_upto;
};

static struct ss_test_host *from_host(const struct ss_host *host)
{
	return host->impl;
}

static void require_inst(const struct ss_test_host *h)
{
	require(pthread_equal(h->loop->thread, pthread_self()),
		"an [inst] function called from another thread");
}

static uint64_t real_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* ---- log and errors ---- */

/* Append a line; when the buffer is full the oldest lines go. */
static void append(struct ss_test_host *h, char *buf, size_t size, const char *head, const char *sep,
		   const char *text)
{
	size_t need = strlen(head) + strlen(sep) + strlen(text) + 2;
	require(need <= size, "a line longer than the buffer");
	pthread_mutex_lock(&h->loop->lock);
	size_t used = strlen(buf);
	while (used + need > size) {
		char *line_end = strchr(buf, '\n');
		used -= (size_t)(line_end + 1 - buf);
		memmove(buf, line_end + 1, used + 1);
	}
	snprintf(buf + used, size - used, "%s%s%s\n", head, sep, text);
	pthread_mutex_unlock(&h->loop->lock);
}

static void host_log(const struct ss_host *host, int32_t level, const char *text)
{
	struct ss_test_host *h = from_host(host);
	const char *name = level <= SS_LOG_ERROR  ? "ERROR"
			   : level <= SS_LOG_WARN ? "WARN"
			   : level <= SS_LOG_INFO ? "INFO"
						  : "DEBUG";
	append(h, h->log, sizeof h->log, name, " ", text);
}

static void host_config_error(const struct ss_host *host, const char *pointer, const char *text)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	append(h, h->errors, sizeof h->errors, pointer, ": ", text);
}

/* ---- batches and tokens ---- */

static void add_post(struct ss_test_host *h, struct post post)
{
	struct post *p = malloc(sizeof *p);
	require(p, "out of memory");
	*p = post;
	p->next = NULL;
	pthread_mutex_lock(&h->loop->lock);
	*h->loop->last = p;
	h->loop->last = &p->next;
	pthread_mutex_unlock(&h->loop->lock);
	uint64_t one = 1;
	require(write(h->loop->wake, &one, sizeof one) == sizeof one, "eventfd");
}

static void token_ref(struct ss_token *token)
{
	if (token)
		__atomic_add_fetch(&token->refs, 1, __ATOMIC_RELAXED);
}

static void token_unref(struct ss_token *token, int32_t status)
{
	if (!token)
		return;
	int32_t worst = __atomic_load_n(&token->worst, __ATOMIC_RELAXED);
	while (status > worst && !__atomic_compare_exchange_n(&token->worst, &worst, status, true,
							      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (__atomic_sub_fetch(&token->refs, 1, __ATOMIC_ACQ_REL) == 0)
		add_post(token->host, (struct post){.token = token});
}

static struct ss_batch *batch_new(const struct ss_host *host, struct ss_batch *parent, uint32_t rows,
				  size_t bytes)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	if (h->fail_batch_new != UINT32_MAX && h->fail_batch_new-- == 0) {
		h->fail_batch_new = 0;
		return NULL;
	}
	struct fake_batch *b = calloc(1, sizeof *b);
	require(b, "out of memory");
	/* separate blocks, so that ASan sees each border */
	b->pub = (struct ss_batch){.struct_size = sizeof b->pub, .capacity = rows, .size = bytes};
	b->pub.events = rows ? calloc(rows, sizeof *b->pub.events) : NULL;
	b->pub.data = bytes ? malloc(bytes) : NULL;
	require((b->pub.events || !rows) && (b->pub.data || !bytes), "out of memory");
	b->host = h;
	b->refs = 1;
	if (parent) {
		b->parent = (struct fake_batch *)parent;
		__atomic_add_fetch(&b->parent->refs, 1, __ATOMIC_RELAXED);
		b->pub.token = parent->token;
		token_ref(b->pub.token);
	}
	__atomic_add_fetch(&h->loop->live, 1, __ATOMIC_RELAXED);
	return &b->pub;
}

static void batch_ref(struct ss_batch *batch)
{
	__atomic_add_fetch(&((struct fake_batch *)batch)->refs, 1, __ATOMIC_RELAXED);
}

static uint64_t checksum(const struct ss_batch *batch)
{
	uint64_t sum = 0xcbf29ce484222325U ^ batch->count;
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct ss_event *e = &batch->events[i];
		sum = (sum ^ e->time_ns ^ e->seq ^ e->flags ^ ((uint64_t)e->len << 32)) * 0x100000001b3U;
		for (uint32_t k = 0; k < e->len; k++)
			sum = (sum ^ e->data[k]) * 0x100000001b3U;
	}
	return sum;
}

static void batch_unref(struct ss_batch *batch)
{
	struct fake_batch *b = (struct fake_batch *)batch;
	while (b && __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		struct fake_batch *parent = b->parent;
		require(!b->emitted || b->sum == checksum(&b->pub), "a batch was changed after emit");
		token_unref(b->pub.token, SS_DELIVERED);
		__atomic_sub_fetch(&b->host->loop->live, 1, __ATOMIC_RELAXED);
		free(b->pub.events);
		free(b->pub.data);
		free(b);
		b = parent;
	}
}

/* Does the row point into the memory of the batch or of one of its ancestors? */
static bool row_is_inside(const struct fake_batch *b, const struct ss_event *e)
{
	for (; b; b = b->parent) {
		uintptr_t start = (uintptr_t)b->pub.data, at = (uintptr_t)e->data;
		if (b->pub.data && at >= start && at + e->len <= start + b->pub.size)
			return true;
	}
	return e->len == 0;
}

static void emit(const struct ss_host *host, uint32_t port, struct ss_batch *batch)
{
	struct ss_test_host *h = from_host(host);
	struct fake_batch *b = (struct fake_batch *)batch;
	require_inst(h);
	uint32_t ports = 0;
	while (h->desc->outputs && h->desc->outputs[ports])
		ports++;
	require(port < (h->desc->outputs ? ports : 1), "emit to a port that is not there");
	require(batch->count <= batch->capacity, "more rows than the batch has");
	for (uint32_t i = 0; i < batch->count; i++)
		require(row_is_inside(b, &batch->events[i]), "a row points outside the memory of its batch");
	require(h->n_emitted < SS_TEST_HOST_MAX, "too many batches recorded: call ss_test_host_clear");
	uint64_t sum = checksum(batch);
	require(!b->emitted || b->sum == sum, "a batch was changed after emit");
	b->emitted = true;
	b->sum = sum;
	batch_ref(batch);
	h->emitted[h->n_emitted].port = port;
	h->emitted[h->n_emitted++].batch = batch;
}

static int32_t track(const struct ss_host *host, struct ss_batch *batch, uint64_t cookie,
		     const struct ss_position *position)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	require(!batch->token, "a batch is tracked twice");
	require(!((struct fake_batch *)batch)->emitted, "track after emit");
	struct ss_token *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	*t = (struct ss_token){.host = h,
			       .refs = 1,
			       .cookie = cookie,
			       .has_position = position != NULL,
			       .source = h->host.id};
	if (position)
		t->position = *position;
	batch->token = t;
	return 0;
}

static int32_t get_position(const struct ss_batch *batch, struct ss_position *position, const char **source)
{
	if (!batch->token || !batch->token->has_position)
		return -ENOENT;
	*position = batch->token->position;
	*source = batch->token->source;
	return 0;
}

/* ---- counts ---- */

static void host_drop(const struct ss_host *host, uint32_t reason, uint64_t n)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	uint32_t reasons = 0;
	while (h->desc->reasons && h->desc->reasons[reasons])
		reasons++;
	require(reason < reasons && reason < 32, "a reason that is not in the descriptor");
	h->dropped[reason] += n;
}

/* The reference to the batch stays the test's. */
static void host_done(const struct ss_host *host, struct ss_batch *batch, int32_t status)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	require(status >= SS_DELIVERED && status <= SS_FAILED, "an unknown status");
	require(h->n_finished < SS_TEST_HOST_MAX, "too many batches recorded: call ss_test_host_clear");
	struct fake_batch *part = (struct fake_batch *)batch;
	h->finished[h->n_finished].batch = part->is_part ? &part->parent->pub : batch;
	h->finished[h->n_finished++].status = status;
	token_ref(batch->token);
	token_unref(batch->token, status);
	if (part->is_part)
		batch_unref(batch);
}

static void host_input_ready(const struct ss_host *host)
{
	require_inst(from_host(host));
	from_host(host)->n_input_ready++;
}

static void host_drained(const struct ss_host *host)
{
	require_inst(from_host(host));
	from_host(host)->n_drained++;
}

static void host_set_health(const struct ss_host *host, const char *reason)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	snprintf(h->unready, sizeof h->unready, "%s", reason ? reason : "");
}

static void host_set_degraded(const struct ss_host *host, const char *reason)
{
	struct ss_test_host *h = from_host(host);
	require_inst(h);
	snprintf(h->degraded, sizeof h->degraded, "%s", reason ? reason : "");
}

static void check_metric(const struct ss_test_host *h, uint32_t metric)
{
	require(metric < h->desc->n_metrics && metric < 64, "a metric that is not in the descriptor");
}

static void metric_add(const struct ss_host *host, uint32_t metric, int64_t delta)
{
	struct ss_test_host *h = from_host(host);
	check_metric(h, metric);
	__atomic_add_fetch(&h->metrics[metric], delta, __ATOMIC_RELAXED);
}

static void metric_set(const struct ss_host *host, uint32_t metric, int64_t value)
{
	struct ss_test_host *h = from_host(host);
	check_metric(h, metric);
	__atomic_store_n(&h->metrics[metric], value, __ATOMIC_RELAXED);
}

/* ---- loop ---- */

static struct watch *find_watch(struct ss_test_host *h, uint32_t id)
{
	for (int i = 0; id && i < MAX_WATCHES; i++)
		if (h->loop->watches[i].id == id)
			return &h->loop->watches[i];
	return NULL;
}

static int32_t add_watch(struct ss_test_host *h, struct watch watch, uint32_t *id)
{
	require_inst(h);
	for (int i = 0; i < MAX_WATCHES; i++) {
		if (h->loop->watches[i].id)
			continue;
		watch.id = ++h->loop->next_id;
		h->loop->watches[i] = watch;
		*id = watch.id;
		return 0;
	}
	return -ENOMEM;
}

static int32_t loop_timer(void *self, uint64_t first_ns, uint64_t every_ns, void (*fn)(void *arg), void *arg,
			  uint32_t *id)
{
	struct ss_test_host *h = self;
	struct watch w = {
		.fd = -1, .due = h->now_ns + first_ns, .every = every_ns, .on_time = fn, .arg = arg};
	return add_watch(h, w, id);
}

static int32_t loop_fd(void *self, int fd, uint32_t events, void (*fn)(void *arg, uint32_t events), void *arg,
		       uint32_t *id)
{
	require(fd >= 0, "a watch on no descriptor");
	return add_watch(self, (struct watch){.fd = fd, .events = events, .on_fd = fn, .arg = arg}, id);
}

static int32_t loop_change(void *self, uint32_t id, uint32_t events)
{
	require_inst(self);
	struct watch *w = find_watch(self, id);
	if (!w || w->fd < 0)
		return -ENOENT;
	w->events = events;
	return 0;
}

static void loop_cancel(void *self, uint32_t id)
{
	require_inst(self);
	struct watch *w = find_watch(self, id);
	if (w)
		*w = (struct watch){0};
}

static int32_t loop_post(void *self, void (*fn)(void *arg), void *arg)
{
	add_post(self, (struct post){.fn = fn, .arg = arg});
	return 0;
}

static uint64_t loop_now(void *self)
{
	return ((struct ss_test_host *)self)->now_ns;
}

static const struct ss_loop loop_service = {
	.struct_size = sizeof(struct ss_loop),
	.timer = loop_timer,
	.fd = loop_fd,
	.change = loop_change,
	.cancel = loop_cancel,
	.post = loop_post,
	.now = loop_now,
};

/* The batch that process() was called with is accepted. */
static void accept(struct ss_test_host *h)
{
	if (h->loop->offered)
		stream_accept(h->loop->offered, &h->loop->offered_upto);
	h->loop->offered = NULL;
}

static void positions_checkpointer(void *self, uint32_t cover)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(cover == SS_COVER_ACCEPTED || cover == SS_COVER_GIVEN, "an unknown kind of cover");
	h->checkpointer = true;
	h->loop->covers_given = cover == SS_COVER_GIVEN;
	streams_free(h->loop->streams);
	h->loop->streams = streams_new();
	require(h->loop->streams, "out of memory");
}

static int32_t positions_restore(void *self, const void *snapshot, size_t size)
{
	struct ss_test_host *h = self;
	const struct stream *st;
	require_inst(h);
	require(h->checkpointer, "restore() before checkpointer()");
	int rc = streams_load(h->loop->streams, snapshot, size, false);
	h->n_kept = 0;
	for (uint32_t i = 0; rc == 0 && (st = streams_at(h->loop->streams, i)); i++) {
		require(h->n_kept < sizeof h->kept / sizeof *h->kept, "too many positions restored");
		h->kept[h->n_kept].port = st->port;
		snprintf(h->kept[h->n_kept].source, sizeof h->kept->source, "%s", st->source);
		h->kept[h->n_kept++].position = st->taken;
	}
	return rc;
}

static int32_t positions_kept(void *self, uint32_t port, const char *source,
			      const struct ss_position *position)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer, "kept() before checkpointer()");
	require(h->n_kept < sizeof h->kept / sizeof *h->kept, "too many positions kept");
	h->kept[h->n_kept].port = port;
	snprintf(h->kept[h->n_kept].source, sizeof h->kept->source, "%s", source);
	h->kept[h->n_kept++].position = *position;
	return 0;
}

static int32_t positions_cover(void *self, uint32_t port, const struct ss_batch *batch)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer && h->loop->covers_given, "cover() without SS_COVER_GIVEN");
	if (!batch->token || !batch->token->has_position)
		return 0;
	struct stream *st = streams_get(h->loop->streams, port, batch->token->source);
	require(st, "cover() of a batch that was never offered");
	stream_cover(st, &batch->token->position, batch);
	return 0;
}

static int32_t positions_rewind(void *self, const void *snapshot, size_t size)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer && h->loop->covers_given, "rewind() without SS_COVER_GIVEN");
	if (snapshot)
		return streams_load(h->loop->streams, snapshot, size, true);
	streams_uncover(h->loop->streams);
	return 0;
}

static int64_t positions_snapshot(void *self, void *buf, size_t size)
{
	struct ss_test_host *h = self;
	require_inst(h);
	require(h->checkpointer, "snapshot() before checkpointer()");
	if (!h->loop->covers_given)
		accept(h);
	return streams_save(h->loop->streams, h->loop->covers_given, buf, size);
}

static int32_t positions_resume(void *self, struct ss_position *out)
{
	struct ss_test_host *h = self;
	require_inst(h);
	if (!h->can_resume)
		return -ENOENT;
	*out = h->resume;
	return 0;
}

static const struct ss_positions positions_service = {
	.struct_size = sizeof(struct ss_positions),
	.checkpointer = positions_checkpointer,
	.restore = positions_restore,
	.cover = positions_cover,
	.rewind = positions_rewind,
	.snapshot = positions_snapshot,
	.resume = positions_resume,
	.kept = positions_kept,
};

static int32_t query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	struct ss_iface found = {0};
	uint32_t size = 0;
	if (strcmp(id, SS_LOOP) == 0) {
		found = (struct ss_iface){.vtbl = &loop_service, .self = from_host(host)};
		size = loop_service.struct_size;
	} else if (strcmp(id, SS_POSITIONS) == 0 && !from_host(host)->no_positions) {
		found = (struct ss_iface){.vtbl = &positions_service, .self = from_host(host)};
		size = positions_service.struct_size;
	} else if (strcmp(id, SS_FIELDS) == 0 && &fields_service) {
		found = (struct ss_iface){.vtbl = &fields_service};
		size = fields_service.struct_size;
	} else {
		return -ENOENT;
	}
	if (size < min_size)
		return -ENOTSUP;
	*out = found;
	return 0;
}

/* The timer that is due first; NULL if there is none. */
static struct watch *next_timer(struct ss_test_host *h)
{
	struct watch *best = NULL;
	for (int i = 0; i < MAX_WATCHES; i++) {
		struct watch *w = &h->loop->watches[i];
		if (w->id && w->fd < 0 && (!best || w->due < best->due))
			best = w;
	}
	return best;
}

/* Run timers in order of time up to and including until, moving the clock along. */
static int run_timers(struct ss_test_host *h, uint64_t until)
{
	int n = 0;
	for (struct watch *w = next_timer(h); w && w->due <= until; w = next_timer(h), n++) {
		void (*fn)(void *) = w->on_time;
		void *arg = w->arg;
		if (w->due > h->now_ns)
			h->now_ns = w->due;
		if (w->every)
			w->due += w->every;
		else
			*w = (struct watch){0};
		fn(arg);
	}
	if (until > h->now_ns)
		h->now_ns = until;
	return n;
}

static struct post *take_posts(struct ss_test_host *h)
{
	uint64_t count;
	if (read(h->loop->wake, &count, sizeof count) < 0)
		require(errno == EAGAIN, "eventfd");
	pthread_mutex_lock(&h->loop->lock);
	struct post *list = h->loop->first;
	h->loop->first = NULL;
	h->loop->last = &h->loop->first;
	pthread_mutex_unlock(&h->loop->lock);
	return list;
}

static int run_posts(struct ss_test_host *h, bool call)
{
	int n = 0;
	for (struct post *p = take_posts(h), *next; p; p = next, n++) {
		next = p->next;
		if (call && p->fn)
			p->fn(p->arg);
		else if (call && h->loop->created && h->desc->acked)
			h->desc->acked(h->self, p->token->cookie, p->token->worst);
		free(p->token);
		free(p);
	}
	return n;
}

static int run_fds(struct ss_test_host *h, const struct pollfd *fds, const uint32_t *ids, nfds_t n_fds)
{
	int n = 0;
	for (nfds_t i = 0; i < n_fds; i++) {
		struct watch *w = find_watch(h, ids[i]); /* an earlier callback may have ended it */
		if (!w || !fds[i].revents)
			continue;
		uint32_t events = 0;
		if (fds[i].revents & ~(POLLIN | POLLOUT))
			events = SS_FD_READ | SS_FD_WRITE;
		if (fds[i].revents & POLLIN)
			events |= SS_FD_READ;
		if (fds[i].revents & POLLOUT)
			events |= SS_FD_WRITE;
		events &= w->events;
		if (events) {
			w->on_fd(w->arg, events);
			n++;
		}
	}
	return n;
}

static void run_idle(struct ss_test_host *h)
{
	if (h->loop->created && h->desc->idle)
		h->desc->idle(h->self);
}

/* ---- the test's side ---- */

void ss_test_host_init(struct ss_test_host *h, const struct ss_component *desc)
{
	*h = (struct ss_test_host){
		.host = {.struct_size = sizeof h->host,
			 .impl = h,
			 .id = "test",
			 .log = host_log,
			 .config_error = host_config_error,
			 .batch_new = batch_new,
			 .batch_ref = batch_ref,
			 .batch_unref = batch_unref,
			 .emit = emit,
			 .drop = host_drop,
			 .done = host_done,
			 .input_ready = host_input_ready,
			 .drained = host_drained,
			 .track = track,
			 .position = get_position,
			 .token_ref = token_ref,
			 .token_unref = token_unref,
			 .set_health = host_set_health,
			 .set_degraded = host_set_degraded,
			 .metric_add = metric_add,
			 .metric_set = metric_set,
			 .query = query},
		.desc = desc,
		.now_ns = 1000000000000,
		.fail_batch_new = UINT32_MAX,
	};
	h->loop = calloc(1, sizeof *h->loop);
	require(h->loop, "out of memory");
	h->loop->thread = pthread_self();
	pthread_mutex_init(&h->loop->lock, NULL);
	h->loop->last = &h->loop->first;
	h->loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	require(h->loop->wake >= 0, "eventfd");
}

int32_t ss_test_host_create(struct ss_test_host *h, const void *conf)
{
	int32_t rc = h->desc->create(&h->host, conf, &h->self);
	h->loop->created = rc == 0;
	return rc;
}

int ss_test_host_run(struct ss_test_host *h, int timeout_ms)
{
	struct pollfd fds[MAX_WATCHES + 1];
	uint32_t ids[MAX_WATCHES + 1];
	nfds_t n_fds = 0;

	run_idle(h);
	for (int i = 0; i < MAX_WATCHES; i++) {
		const struct watch *w = &h->loop->watches[i];
		if (!w->id || w->fd < 0 || !w->events)
			continue;
		short want = (short)((w->events & SS_FD_READ ? POLLIN : 0) |
				     (w->events & SS_FD_WRITE ? POLLOUT : 0));
		ids[n_fds] = w->id;
		fds[n_fds++] = (struct pollfd){.fd = w->fd, .events = want};
	}
	fds[n_fds] = (struct pollfd){.fd = h->loop->wake, .events = POLLIN};

	uint64_t wait = (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	const struct watch *timer = next_timer(h);
	if (timer && timer->due < h->now_ns + wait)
		wait = timer->due > h->now_ns ? timer->due - h->now_ns : 0;
	struct timespec ts = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
	uint64_t start = real_ns();
	int rc = ppoll(fds, n_fds + 1, &ts, NULL);
	require(rc >= 0 || errno == EINTR, "ppoll");
	uint64_t until = h->now_ns + (real_ns() - start);
	if (rc == 0 && until < h->now_ns + wait)
		until = h->now_ns + wait;

	int n = rc > 0 ? run_fds(h, fds, ids, n_fds) : 0;
	n += run_timers(h, until);
	n += run_posts(h, true);
	run_idle(h);
	return n;
}

void ss_test_host_advance(struct ss_test_host *h, uint64_t ns)
{
	run_timers(h, h->now_ns + ns);
	run_posts(h, true);
	run_idle(h);
}

struct ss_batch *ss_test_host_batch(struct ss_test_host *h, const char *const *texts, uint32_t n)
{
	size_t bytes = 0;
	for (uint32_t i = 0; i < n; i++)
		bytes += strlen(texts[i]);
	struct ss_batch *batch = batch_new(&h->host, NULL, n, bytes);
	if (!batch)
		return NULL;
	uint8_t *at = batch->data;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = (uint32_t)strlen(texts[i]);
		if (len)
			memcpy(at, texts[i], len);
		batch->events[i] = (struct ss_event){
			.data = at, .len = len, .time_ns = UINT64_C(1000000000000000000) + i, .seq = i + 1};
		at += len;
	}
	batch->count = n;
	return batch;
}

void ss_test_host_track(struct ss_test_host *h, struct ss_batch *batch, const char *source,
			const struct ss_position *position)
{
	require(track(&h->host, batch, 0, position) == 0, "out of memory");
	batch->token->source = source;
}

/* The part that the instance does not have yet, as the host would offer it: a child, or the batch itself. */
static struct ss_batch *without_duplicates(struct ss_test_host *h, struct stream *st, struct ss_batch *batch,
					   uint32_t fresh)
{
	if (fresh == batch->count)
		return batch;
	struct ss_batch *part = batch_new(&h->host, batch, fresh, 0);
	for (uint32_t i = 0; i < batch->count; i++)
		if (!stream_has(st, &batch->events[i]))
			part->events[part->count++] = batch->events[i];
	((struct fake_batch *)part)->is_part = true;
	return part;
}

/* Not needed any more: what is not the test's own batch. */
static void let_go(const struct ss_batch *batch, struct ss_batch *part)
{
	if (part != batch)
		batch_unref(part);
}

int32_t ss_test_host_process(struct ss_test_host *h, uint32_t port, struct ss_batch *batch)
{
	struct stream *st = NULL;
	struct ss_batch *part = batch;

	if (h->loop->streams && batch->token && batch->token->has_position) {
		const struct ss_position *at = &batch->token->position;
		st = streams_get(h->loop->streams, port, batch->token->source);
		require(st, "out of memory");
		int64_t fresh = stream_offer(st, at, batch);
		if (fresh < 0)
			return (int32_t)fresh;
		h->duplicates += batch->count - (uint64_t)fresh;
		if (fresh == 0 && batch->count)
			return SS_DONE;
		part = without_duplicates(h, st, batch, (uint32_t)fresh);
		h->loop->offered = st;
		h->loop->offered_upto = stream_end(at, part);
	}
	int32_t rc = h->desc->process(h->self, port, part);
	if (rc >= 0 && rc != SS_BUSY)
		accept(h);
	h->loop->offered = NULL;
	if (rc < 0 && st)
		stream_fail(st, &batch->token->position, part);
	if (rc != SS_KEPT)
		let_go(batch, part);
	return rc;
}

char *ss_test_host_text(struct ss_test_host *h, uint32_t port)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	require(f, "out of memory");
	for (uint32_t b = 0; b < h->n_emitted; b++) {
		const struct ss_batch *batch = h->emitted[b].batch;
		for (uint32_t i = 0; h->emitted[b].port == port && i < batch->count; i++) {
			fwrite(batch->events[i].data, 1, batch->events[i].len, f);
			fputc('\n', f);
		}
	}
	require(fclose(f) == 0, "out of memory");
	return text;
}

void ss_test_host_clear(struct ss_test_host *h)
{
	for (uint32_t i = 0; i < h->n_emitted; i++)
		batch_unref(h->emitted[i].batch);
	h->n_emitted = h->n_finished = h->n_input_ready = h->n_drained = 0;
	memset(h->dropped, 0, sizeof h->dropped);
	memset(h->metrics, 0, sizeof h->metrics);
	h->log[0] = h->errors[0] = '\0';
}

void ss_test_host_done(struct ss_test_host *h)
{
	if (!h->loop)
		return;
	if (h->loop->created) {
		if (h->desc->stop)
			h->desc->stop(h->self);
		h->desc->destroy(h->self);
		h->loop->created = false;
		h->self = NULL;
	}
	ss_test_host_clear(h);
	run_posts(h, false);
	for (int i = 0; i < MAX_WATCHES; i++)
		require(!h->loop->watches[i].id || h->loop->watches[i].fd < 0,
			"a descriptor is still watched after stop");
	require(h->loop->live == 0, "a batch was not released");
	close(h->loop->wake);
	streams_free(h->loop->streams);
	pthread_mutex_destroy(&h->loop->lock);
	free(h->loop);
	h->loop = NULL;
}
