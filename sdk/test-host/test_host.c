/* SPDX-License-Identifier: MIT */
/*
 * test_host - see semstreams/test-host.h.  Strict on purpose: what breaks the contract of plugin.h (an [inst]
 * call from another thread, rows outside the batch's memory, a batch changed after emit, a leaked batch or
 * descriptor watch) aborts.
 */
#include "test_host_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <semstreams/base/units.h>
#include "core/fields/fields.h"
#include "core/flow/stream_log.h"

static struct ss_test_host *from_host(const struct ss_host *host)
{
	return host->impl;
}

/* ---- log and errors ---- */

/* Append a line; when the buffer is full the oldest lines go. */
static void append(struct ss_test_host *h, char *buf, size_t size, const char *head, const char *sep,
		   const char *text)
{
	size_t need = strlen(head) + strlen(sep) + strlen(text) + 2;
	require(need <= size, "a line longer than the buffer");
	pthread_mutex_lock(&h->impl->lock);
	size_t used = strlen(buf);
	while (used + need > size) {
		char *line_end = strchr(buf, '\n');
		used -= (size_t)(line_end + 1 - buf);
		memmove(buf, line_end + 1, used + 1);
	}
	snprintf(buf + used, size - used, "%s%s%s\n", head, sep, text);
	pthread_mutex_unlock(&h->impl->lock);
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
		test_loop_post(token->host, (struct post){.token = token});
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
	struct batch *b = calloc(1, sizeof *b);
	require(b, "out of memory");
	/* separate blocks, so that ASan sees each border */
	b->pub = (struct ss_batch){.struct_size = sizeof b->pub, .capacity = rows, .size = bytes};
	b->pub.events = rows ? calloc(rows, sizeof *b->pub.events) : NULL;
	b->pub.data = bytes ? malloc(bytes) : NULL;
	require((b->pub.events || !rows) && (b->pub.data || !bytes), "out of memory");
	b->host = h;
	b->refs = 1;
	if (parent) {
		b->parent = (struct batch *)parent;
		attributes_inherit(&b->pub, parent);
		__atomic_add_fetch(&b->parent->refs, 1, __ATOMIC_RELAXED);
		b->pub.token = parent->token;
		token_ref(b->pub.token);
	}
	__atomic_add_fetch(&h->impl->live, 1, __ATOMIC_RELAXED);
	return &b->pub;
}

static void batch_ref(struct ss_batch *batch)
{
	__atomic_add_fetch(&((struct batch *)batch)->refs, 1, __ATOMIC_RELAXED);
}

static uint64_t checksum(const struct ss_batch *batch)
{
	uint64_t sum = 0xcbf29ce484222325U ^ batch->count;
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct ss_event *e = &batch->events[i];
		sum = (sum ^ e->time_ns ^ e->seq ^ e->flags ^ ((uint64_t)e->attributes << 16) ^
		       ((uint64_t)e->len << 32)) *
		      0x100000001b3U;
		for (uint32_t k = 0; k < e->len; k++)
			sum = (sum ^ e->data[k]) * 0x100000001b3U;
	}
	return sum;
}

static void batch_unref(struct ss_batch *batch)
{
	struct batch *b = (struct batch *)batch;
	while (b && __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		struct batch *parent = b->parent;
		require(!b->emitted || b->sum == checksum(&b->pub), "a batch was changed after emit");
		token_unref(b->pub.token, SS_DELIVERED);
		attributes_done(&b->pub, &b->attributes);
		__atomic_sub_fetch(&b->host->impl->live, 1, __ATOMIC_RELAXED);
		free(b->pub.events);
		free(b->pub.data);
		free(b);
		b = parent;
	}
}

/* Does the row point into the memory of the batch or of one of its ancestors? */
static bool row_is_inside(const struct batch *b, const struct ss_event *e)
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
	struct batch *b = (struct batch *)batch;
	require_inst(h);
	uint32_t ports = 0;
	while (h->desc->outputs && h->desc->outputs[ports])
		ports++;
	require(port < (h->desc->outputs ? ports : 1), "emit to a port that is not there");
	require(batch->count <= batch->capacity, "more rows than the batch has");
	for (uint32_t i = 0; i < batch->count; i++) {
		require(row_is_inside(b, &batch->events[i]), "a row points outside the memory of its batch");
		require(batch->events[i].attributes <= batch->n_attributes,
			"a row names attributes that are not attached to its batch");
	}
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
	require(!((struct batch *)batch)->emitted, "track after emit");
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
	struct batch *part = (struct batch *)batch;
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

/* Nobody else is here. */
static int32_t host_claim(const struct ss_host *host, const char *pointer, const char *resource)
{
	(void)host, (void)pointer, (void)resource;
	return 0;
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

/* ---- services ---- */

const struct ss_fields *ss_test_host_fields(void)
{
	return &fields_service;
}

void ss_test_host_offer(struct ss_test_host *h, const char *id, const void *vtbl, uint32_t size, void *self)
{
	struct ss_test_host_impl *impl = h->impl;
	uint32_t i = 0;
	while (i < impl->n_offers && strcmp(impl->offers[i].id, id) != 0)
		i++;
	require(i < MAX_OFFERS, "too many services");
	impl->offers[i] = (struct offer){.id = id, .iface = {.vtbl = vtbl, .self = self}, .size = size};
	if (i == impl->n_offers)
		impl->n_offers++;
}

static int32_t query(const struct ss_host *host, const char *id, uint32_t min_size, struct ss_iface *out)
{
	struct ss_test_host *h = from_host(host);
	const struct ss_test_host_impl *impl = h->impl;
	if (h->no_positions && strcmp(id, SS_POSITIONS) == 0)
		return -ENOENT;
	for (uint32_t i = 0; i < impl->n_offers; i++) {
		const struct offer *o = &impl->offers[i];
		if (strcmp(o->id, id) != 0)
			continue;
		if (!o->iface.vtbl)
			return -ENOENT;
		if (o->size < min_size)
			return -ENOTSUP;
		*out = o->iface;
		return 0;
	}
	return -ENOENT;
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
			 .claim = host_claim,
			 .metric_add = metric_add,
			 .metric_set = metric_set,
			 .query = query},
		.desc = desc,
		.now_ns = 1000000000000,
		.fail_batch_new = UINT32_MAX,
	};
	h->impl = calloc(1, sizeof *h->impl);
	require(h->impl, "out of memory");
	h->impl->thread = pthread_self();
	pthread_mutex_init(&h->impl->lock, NULL);
	h->impl->last = &h->impl->first;
	h->impl->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	require(h->impl->wake >= 0, "eventfd");
	ss_test_host_offer(h, SS_ATTRIBUTES, &test_attributes, test_attributes.struct_size, h);
	ss_test_host_offer(h, SS_FIELDS, &fields_service, fields_service.struct_size, NULL);
	ss_test_host_offer(h, SS_LOOP, &test_loop, test_loop.struct_size, h);
	ss_test_host_offer(h, SS_POSITIONS, &test_positions, test_positions.struct_size, h);
}

static const struct ss_option *option_at(const struct ss_component *desc, uint32_t i)
{
	return (const void *)((const char *)desc->options + (size_t)i * desc->option_size);
}

static int64_t choice(const struct ss_option *o, const char *text)
{
	int64_t i = 0;
	while (o->choices[i] && strcmp(o->choices[i], text) != 0)
		i++;
	require(o->choices[i], "a text that is not one of the choices");
	return i;
}

static int64_t number(const struct ss_option *o, const char *text)
{
	int64_t value = 0;
	int rc = 0;
	switch (o->type) {
	case SS_OPT_BOOL:
		require(strcmp(text, "true") == 0 || strcmp(text, "false") == 0, "a bool is true or false");
		return strcmp(text, "true") == 0;
	case SS_OPT_ENUM:
		return choice(o, text);
	case SS_OPT_BYTES:
		rc = ss_parse_size(text, &value);
		break;
	case SS_OPT_DURATION:
		rc = ss_parse_duration(text, &value);
		break;
	default:
		rc = ss_parse_integer(text, &value);
	}
	require(rc == 0, "a text that is not of the option's type");
	require((o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max), "a value out of range");
	return value;
}

static void set_option(struct ss_test_host *h, const struct ss_option *o, const char *text)
{
	char *at = (char *)h->impl->conf + o->offset;
	if (o->type == SS_OPT_STRING || o->type == SS_OPT_JSON) {
		memcpy(at, &text, sizeof text);
	} else {
		int64_t value = number(o, text);
		memcpy(at, &value, sizeof value);
	}
}

const void *ss_test_host_configure(struct ss_test_host *h, const char *const *pairs)
{
	free(h->impl->conf);
	h->impl->conf = calloc(1, h->desc->conf_size ? h->desc->conf_size : 1);
	require(h->impl->conf, "out of memory");
	for (uint32_t i = 0; i < h->desc->n_options; i++)
		if (option_at(h->desc, i)->default_text)
			set_option(h, option_at(h->desc, i), option_at(h->desc, i)->default_text);
	for (; pairs && *pairs; pairs += 2) {
		uint32_t i = 0;
		while (i < h->desc->n_options && strcmp(option_at(h->desc, i)->key, pairs[0]) != 0)
			i++;
		require(i < h->desc->n_options, "an option that is not in the descriptor");
		set_option(h, option_at(h->desc, i), pairs[1]);
	}
	return h->impl->conf;
}

int32_t ss_test_host_create(struct ss_test_host *h, const void *conf)
{
	int32_t rc = h->desc->create(&h->host, conf, &h->self);
	h->impl->created = rc == 0;
	return rc;
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
	if (!h->impl)
		return;
	if (h->impl->created) {
		if (h->desc->stop)
			h->desc->stop(h->self);
		h->desc->destroy(h->self);
		h->impl->created = false;
		h->self = NULL;
	}
	ss_test_host_clear(h);
	test_loop_run_posts(h, false);
	for (int i = 0; i < MAX_WATCHES; i++)
		require(!h->impl->watches[i].id || h->impl->watches[i].fd < 0,
			"a descriptor is still watched after stop");
	require(h->impl->live == 0, "a batch was not released");
	close(h->impl->wake);
	streams_free(h->impl->streams);
	stream_log_free(h->impl->stream_log);
	pthread_mutex_destroy(&h->impl->lock);
	free(h->impl->conf);
	free(h->impl);
	h->impl = NULL;
}
