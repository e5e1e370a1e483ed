/* SPDX-License-Identifier: MIT */
/*
 * svc_peers - the service "semstreams.peers/1", and the question behind the page /peers: the components are
 * asked one after the other, each in its own loop, and none is waited for longer than the page may take.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/units.h>
#include "core/admin/hidden.h"
#include "core/flow/component.h"
#include "core/flow/services/peers.h"

#define WAIT_NS UINT64_C(1000000000) /* for all of them */

/* Owned by who asks and by the component that is asked; the last frees it. */
struct question {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	int owners;
	bool done;
	struct component *component;
	char *name, *state; /* NULL: of any */
	uint64_t skip, limit;
	struct ss_strbuf rows; /* JSON objects */
	uint64_t n_rows, n;    /* written; that match */
};

static void offer(void *self, void (*list)(void *arg, const struct ss_peer_rows *), void *arg)
{
	struct component *c = self;

	c->list_peers = list;
	c->list_peers_arg = arg;
}

const struct ss_peers peers_service = {
	.struct_size = sizeof(struct ss_peers),
	.offer = offer,
};

/* ---- in the component's loop ---- */

static void add_text(struct ss_strbuf *b, const char *key, const char *text)
{
	char shown[1024];

	if (text && hidden_any())
		text = hidden_text(text, shown, sizeof shown);
	ss_strbuf_printf(b, ",\"%s\":", key);
	if (text)
		ss_strbuf_json(b, text, strlen(text));
	else
		ss_strbuf_text(b, "null");
}

static void write_row(struct question *q, const struct ss_peer *p)
{
	struct ss_strbuf *b = &q->rows;
	char since[32];

	ss_strbuf_text(b, q->n_rows++ ? ",\n{\"component\":" : "{\"component\":");
	ss_strbuf_json(b, q->component->id, strlen(q->component->id));
	add_text(b, "role", p->role);
	add_text(b, "state", p->state);
	add_text(b, "name", p->name);
	ss_strbuf_printf(b, ",\"verified\":%s", p->flags & SS_PEER_VERIFIED ? "true" : "false");
	add_text(b, "address", p->address);
	add_text(b, "since",
		 p->since_ns ? ss_format_time((int64_t)(p->since_ns / 1000000000), since, sizeof since)
			     : NULL);
	add_text(b, "stream", p->stream);
	ss_strbuf_printf(b, ",\"lag\":%llu,\"unacknowledged\":%llu,\"rate\":%llu.%03llu",
			 (unsigned long long)p->lag, (unsigned long long)p->unacknowledged,
			 (unsigned long long)(p->rate_milli / 1000),
			 (unsigned long long)(p->rate_milli % 1000));
	add_text(b, "last_error", p->last_error);
	ss_strbuf_char(b, '}');
}

static int32_t is_wanted(void *of, const char *name, const char *state)
{
	struct question *q = of;

	if (q->name && strncmp(name ? name : "", q->name, strlen(q->name)) != 0)
		return 0;
	if (q->state && strcmp(state ? state : "", q->state) != 0)
		return 0;
	return q->n++ >= q->skip && q->n_rows < q->limit;
}

static void take_row(void *of, const struct ss_peer *given)
{
	struct ss_peer p = {0};

	memcpy(&p, given, given->struct_size < sizeof p ? given->struct_size : sizeof p);
	write_row(of, &p);
}

static void question_release(struct question *q)
{
	pthread_mutex_lock(&q->lock);
	const int left = --q->owners;
	pthread_mutex_unlock(&q->lock);
	if (left)
		return;
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->answered);
	ss_strbuf_done(&q->rows);
	free(q->name);
	free(q->state);
	free(q);
}

static void answer(void *arg)
{
	struct question *q = arg;
	const struct component *c = q->component;
	const struct ss_peer_rows rows = {
		.struct_size = sizeof rows, .of = q, .wanted = is_wanted, .row = take_row};

	if (c->state >= COMPONENT_STARTED && c->state < COMPONENT_STOPPED && !c->broken)
		c->list_peers(c->list_peers_arg, &rows);
	pthread_mutex_lock(&q->lock);
	q->done = true;
	pthread_cond_signal(&q->answered);
	pthread_mutex_unlock(&q->lock);
	question_release(q);
}

/* ---- in the thread that asks ---- */

static struct question *question_new(struct component *c, const struct peers_query *query)
{
	struct question *q = calloc(1, sizeof *q);
	pthread_condattr_t attr;

	if (!q)
		return NULL;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->answered, &attr);
	pthread_condattr_destroy(&attr);
	q->owners = 1;
	q->component = c;
	q->skip = query->skip;
	q->limit = query->limit;
	q->name = query->name ? strdup(query->name) : NULL;
	q->state = query->state ? strdup(query->state) : NULL;
	if ((query->name && !q->name) || (query->state && !q->state)) {
		question_release(q);
		return NULL;
	}
	return q;
}

static bool wait_until(struct question *q, uint64_t ns)
{
	const struct timespec until = {.tv_sec = (time_t)(ns / 1000000000),
				       .tv_nsec = (long)(ns % 1000000000)};

	pthread_mutex_lock(&q->lock);
	while (!q->done && pthread_cond_timedwait(&q->answered, &q->lock, &until) == 0)
		;
	const bool done = q->done;
	pthread_mutex_unlock(&q->lock);
	return done;
}

/* 0, -ENOMEM; -ETIMEDOUT: it does not answer.  *query has less to skip and to take then. */
static int ask(struct component *c, struct peers_query *query, uint64_t until_ns, FILE *rows, uint64_t *n)
{
	struct question *q = question_new(c, query);
	int rc = 0;

	if (!q)
		return -ENOMEM;
	q->owners = 2;
	if (component_post(c, answer, q) < 0) {
		q->owners = 1;
		rc = -ENOMEM;
	} else if (!wait_until(q, until_ns)) {
		rc = -ETIMEDOUT;
	} else if (q->rows.failed) {
		rc = -ENOMEM;
	} else {
		if (q->n_rows)
			fprintf(rows, "%s%s", *n ? ",\n" : "", ss_strbuf_cstr(&q->rows));
		*n += q->n_rows;
		query->skip -= q->n < query->skip ? q->n : query->skip;
		query->limit -= q->n_rows;
		query->total += q->n;
	}
	question_release(q);
	return rc;
}

int peers_print(struct component *const *components, size_t n_components, struct peers_query query,
		FILE *body)
{
	const uint64_t until_ns = clock_now() + WAIT_NS, first = query.skip;
	const char *between = "";
	uint64_t n = 0;
	int rc = 0;
	char *silent = NULL;
	size_t size;
	FILE *unanswered = open_memstream(&silent, &size);

	if (!unanswered)
		return -ENOMEM;
	fputs("{\"peers\":[", body);
	for (size_t i = 0; i < n_components && rc != -ENOMEM; i++) {
		struct component *c = components[i];
		if (!c->list_peers || (query.component && strcmp(query.component, c->id) != 0))
			continue;
		rc = ask(c, &query, until_ns, body, &n);
		if (rc == -ETIMEDOUT) {
			fprintf(unanswered, "%s\"%s\"", between, c->id);
			between = ",";
		}
	}
	if (fclose(unanswered) != 0)
		rc = -ENOMEM;
	fprintf(body, "],\n\"total\":%llu,\"next\":", (unsigned long long)query.total);
	if (first + n < query.total)
		fprintf(body, "%llu", (unsigned long long)first + n);
	else
		fputs("null", body);
	if (rc != -ENOMEM)
		fprintf(body, ",\"unanswered\":[%s]}\n", silent);
	free(silent);
	return rc == -ENOMEM ? rc : 0;
}
