/* SPDX-License-Identifier: MIT */
#include "core/trial/stage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <semstreams/ext/attributes.h>
#include "core/config/claims.h"
#include "core/flow/batch.h"
#include "core/flow/pipeline.h"
#include "core/flow/tap/point.h"
#include "core/trial/set_clock.h"

enum { WAIT_MS = 5 };

/* A queue that edges of its own lead to. */
struct watch {
	struct queue *queue;
	struct edge **edges;
	size_t n_edges;
	struct ss_batch **seen; /* taken out of the queue, so that it never fills up */
	size_t n_seen, next;
};

struct stage {
	struct pipeline *pipeline;
	struct config *config;
	struct loop loop;
	ev_io waited;               /* a timerfd */
	struct component spectator; /* where the edges of watches end */
	struct watch *watches;
	size_t n_watches;
	char why[512];
};

__attribute__((format(printf, 3, 4))) static int fail(struct stage *s, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->why, sizeof s->why, fmt, ap);
	va_end(ap);
	return rc;
}

const char *stage_why(const struct stage *s)
{
	return s->why;
}

/* ---- the loop ---- */

static bool is_run(const struct component *c)
{
	return c->desc->kind == SS_KIND_PROCESSOR ||
	       (c->desc->kind == SS_KIND_SINK && c->desc->flags & SS_FILES_ONLY);
}

/* False: out of memory, what came is lost, which the comparison shows. */
static bool note(struct watch *w, struct ss_batch *b)
{
	struct ss_batch **grown = reallocarray(w->seen, w->n_seen + 1, sizeof *grown);

	if (!grown)
		return false;
	w->seen = grown;
	w->seen[w->n_seen++] = b;
	return true;
}

static void look(struct stage *s)
{
	struct ss_batch *b;
	bool room;

	for (size_t i = 0; i < s->n_watches; i++)
		while ((b = queue_take(s->watches[i].queue, &room)))
			if (!note(&s->watches[i], b))
				batch_unref(b);
}

/* Sinks that do not run are everything's end. */
static void swallow(struct component *c)
{
	struct ss_batch *b;
	bool room;

	for (size_t i = 0; i < c->n_inputs; i++)
		while ((b = queue_take(c->inputs[i]->queue, &room)))
			batch_unref(b);
}

static bool work(void *arg)
{
	struct stage *s = arg;
	struct pipeline *p = s->pipeline;
	struct turn turn = {.now = clock_now()};
	bool more = false;

	turn.end = turn.now + 1;
	for (size_t i = 0; i < p->n_components; i++) {
		if (p->order[i]->desc->kind == SS_KIND_SINK && !is_run(p->order[i]))
			swallow(p->order[i]);
		else
			more |= component_work(p->order[i], &turn);
	}
	for (size_t i = 0; !more && i < p->n_components; i++)
		more |= component_idle(p->order[i], &turn);
	look(s);
	return more;
}

static void run_loop(struct stage *s)
{
	do
		ev_run(s->loop.ev, EVRUN_NOWAIT);
	while (ev_is_active(&s->loop.more));
}

static void on_waited(struct ev_loop *ev, ev_io *w, int events)
{
	uint64_t times;

	(void)ev;
	(void)events;
	if (read(w->fd, &times, sizeof times) < 0)
		return; /* it was armed anew meanwhile */
}

/* Timers of the loop go by the clock that is set; this one goes by the kernel's. */
static int init_wait(struct stage *s)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	ev_io_init(&s->waited, on_waited, fd, EV_READ);
	ev_io_start(s->loop.ev, &s->waited);
	return 0;
}

void stage_settle(struct stage *s, int wait_ms)
{
	const struct itimerspec wait = {.it_value = {.tv_nsec = wait_ms * 1000000L}};

	run_loop(s);
	if (wait_ms == 0)
		return;
	timerfd_settime(s->waited.fd, 0, &wait, NULL);
	ev_run(s->loop.ev, EVRUN_ONCE);
	run_loop(s);
}

/* ---- before it starts ---- */

int stage_open(struct config *config, struct diag *diag, struct stage **out)
{
	struct stage *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->config = config;
	int rc = pipeline_create(config, diag, &s->pipeline);
	if (rc == 0)
		rc = loop_init(&s->loop, "test", work, s);
	if (rc == 0)
		rc = init_wait(s);
	if (rc < 0) {
		pipeline_free(s->pipeline);
		free(s);
		return rc;
	}
	for (size_t i = 0; i < s->pipeline->n_components; i++) {
		atomic_store(&s->pipeline->components[i]->loop, &s->loop);
		atomic_store(&s->pipeline->components[i]->attributes_wanted, true);
	}
	atomic_store(&s->spectator.loop, &s->loop);
	atomic_store(&s->loop.call, &call_here);
	*out = s;
	return 0;
}

static struct component *find(struct stage *s, const char *name, size_t len)
{
	return point_component(s->pipeline, name, len, s->why);
}

/* Of an output also the edge of a watch, which the component does not tell from others. */
static int add_edge(struct stage *s, struct watch *w, struct component *from, struct port *port)
{
	struct edge **of_port = reallocarray(port->edges, port->n + 1, sizeof(*of_port));
	struct edge **of_watch = reallocarray(w->edges, w->n_edges + 1, sizeof(*of_watch));
	struct edge *e = calloc(1, sizeof *e);

	port->edges = of_port ? of_port : port->edges;
	w->edges = of_watch ? of_watch : w->edges;
	if (!of_port || !of_watch || !e) {
		free(e);
		return fail(s, -ENOMEM, "out of memory");
	}
	*e = (struct edge){.queue = w->queue, .from = from, .to = &s->spectator};
	port->edges[port->n++] = e;
	w->edges[w->n_edges++] = e;
	return 0;
}

static int watch_inputs(struct stage *s, struct watch *w, const struct component *c)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->n_inputs; i++) {
		struct component *from = c->inputs[i]->from;
		struct port *port = from->ports;
		for (size_t k = 0; k < port->n && port->edges[k] != c->inputs[i];)
			if (++k == port->n)
				port++, k = 0;
		rc = add_edge(s, w, from, port);
	}
	return rc;
}

int stage_watch(struct stage *s, const char *name, size_t *watch)
{
	const struct queue_limits limits = {.events = QUEUE_EVENTS_DEFAULT, .bytes = QUEUE_BYTES_DEFAULT};
	struct point point;

	int rc = point_find(s->pipeline, name, &point, s->why);
	if (rc)
		return rc;
	struct watch *grown = reallocarray(s->watches, s->n_watches + 1, sizeof *grown);
	if (!grown)
		return fail(s, -ENOMEM, "out of memory");
	s->watches = grown;
	struct watch *w = &s->watches[s->n_watches];
	*w = (struct watch){.queue = queue_new(&limits)};
	if (!w->queue)
		return fail(s, -ENOMEM, "out of memory");
	*watch = s->n_watches++;
	struct component *c = point.component;
	return point.port == TAP_INPUT ? watch_inputs(s, w, c) : add_edge(s, w, c, &c->ports[point.port]);
}

static void close_outputs(struct component *c)
{
	for (size_t p = 0; p < c->n_ports; p++)
		for (size_t i = 0; i < c->ports[p].n; i++)
			queue_close(c->ports[p].edges[i]->queue);
}

/* What does not run has come to its end. */
static void leave_out(struct component *c)
{
	atomic_store(&c->closed, true);
	close_outputs(c);
}

/* Is it a file that a component of the test would write, outside the test's folder? */
static bool is_elsewhere(struct stage *s, const char *owner, const char *resource, const char *folder)
{
	const char *path = resource + strcspn(resource, ":") + 1;
	const struct component *c = owner ? find(s, owner, strlen(owner)) : NULL;

	if (!c || !is_run(c) || (strncmp(resource, "file:", 5) != 0 && strncmp(resource, "writes:", 7) != 0))
		return false;
	return *path == '/' && (strncmp(path, folder, strlen(folder)) != 0 || path[strlen(folder)] != '/');
}

/* A test must not touch what a pipeline that runs uses. */
static int check_files(struct stage *s)
{
	const char *owner, *resource;
	char folder[4096];

	if (!getcwd(folder, sizeof folder))
		return fail(s, -errno, "cannot tell the folder of the test: %s", strerror(errno));
	for (size_t i = 0; (resource = claims_at(s->config->claims, i, &owner)); i++)
		if (is_elsewhere(s, owner, resource, folder))
			return fail(s, -EPERM,
				    "component \"%s\" would use %s, which is not the test's; give it a "
				    "relative path by \"set\"",
				    owner, resource + strcspn(resource, ":") + 1);
	return 0;
}

int stage_start(struct stage *s)
{
	struct pipeline *p = s->pipeline;
	int rc = check_files(s);

	for (size_t i = p->n_components; rc == 0 && i-- > 0;) {
		struct component *c = p->order[i];
		if (is_run(c)) {
			int err = component_start(c);
			if (err < 0)
				rc = fail(s, err, "component \"%s\" failed to start: %s", c->id,
					  strerror(-err));
		} else if (c->desc->inject) {
			c->state = COMPONENT_STARTED;
		} else {
			leave_out(c);
		}
	}
	if (rc == 0)
		run_loop(s);
	return rc;
}

/* ---- events ---- */

static int inject(struct stage *s, struct component *c, const struct ss_message *m)
{
	if (!c->desc->inject)
		return fail(s, -ENOTSUP,
			    "component type \"%s\" takes no input in tests: its plugin has no inject()",
			    c->desc->type);
	c->touched = true;
	call_enter(c->id, "inject");
	int rc = c->desc->inject(c->self, m);
	call_leave();
	if (rc < 0)
		return fail(s, rc, "component \"%s\" does not take the message: %s", c->id, strerror(-rc));
	return 0;
}

static void set_text(struct ss_attributes *a, uint32_t which, const char *text)
{
	if (text)
		a->values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
}

static int name_sender(struct ss_batch *b, const struct ss_message *m, const char *input)
{
	struct ss_attributes values = {.struct_size = sizeof values};
	const struct ss_attributes *set;

	if (!m->address && !m->peer)
		return 0;
	set_text(&values, SS_ATTR_ADDRESS, m->address);
	set_text(&values, SS_ATTR_PEER, m->peer);
	set_text(&values, SS_ATTR_ORIGIN, m->peer);
	set_text(&values, SS_ATTR_PATH, m->peer);
	set_text(&values, SS_ATTR_INPUT, input);
	values.flags = m->peer ? SS_ATTR_PEER_VERIFIED | SS_ATTR_ORIGIN_VERIFIED : 0;
	int rc = attributes_make(&values, &set);
	if (rc < 0)
		return rc;
	int at = attributes_attach(b, &((struct batch *)b)->attributes, set);
	attributes_unref(set);
	if (at > 0)
		b->events[0].attributes = (uint16_t)at;
	return at < 0 ? at : 0;
}

/* As if the component before it had sent one event. */
static int hand_in(struct stage *s, const struct component *c, const struct ss_message *m)
{
	if (!c->n_inputs)
		return fail(s, -EINVAL, "\"%s\" has no input", c->id);
	struct edge *e = c->inputs[0];
	struct ss_batch *b = batch_new(e->from->pool, NULL, 1, m->len);
	int rc = b ? 0 : -ENOMEM;

	if (b) {
		memcpy(b->data, m->data, m->len);
		b->events[0] =
			(struct ss_event){.data = b->data, .len = (uint32_t)m->len, .time_ns = clock_wall()};
		b->count = 1;
		rc = name_sender(b, m, e->from->id);
	}
	if (rc == 0) {
		struct ss_batch *sealed = batch_seal(e->from->pool, b);
		queue_offer(e->queue, sealed);
		batch_unref(sealed);
	}
	batch_unref(b);
	return rc < 0 ? fail(s, rc, "the event cannot be made: %s", strerror(-rc)) : 0;
}

int stage_send(struct stage *s, const char *component, const struct ss_message *m)
{
	struct component *c = find(s, component, strlen(component));

	if (!c)
		return -ENOENT;
	int rc = c->desc->kind == SS_KIND_SOURCE ? inject(s, c, m) : hand_in(s, c, m);
	run_loop(s);
	return rc;
}

int stage_advance(struct stage *s, uint64_t ns)
{
	const uint64_t least = 1000000, most = 1000000000;
	uint64_t step = ns / 1000;

	step = step < least ? least : step > most ? most : step;
	while (ns) {
		uint64_t by = ns < step ? ns : step;
		set_clock_advance(by);
		ns -= by;
		run_loop(s);
	}
	return 0;
}

struct ss_batch *stage_take(struct stage *s, size_t watch)
{
	struct watch *w = &s->watches[watch];

	return w->next < w->n_seen ? w->seen[w->next++] : NULL;
}

/* ---- the end ---- */

int stage_end(struct stage *s)
{
	const uint64_t patience_ns = 30u * UINT64_C(1000000000);
	uint64_t until = set_clock_real() + patience_ns;
	struct pipeline *p = s->pipeline;

	set_clock_go();
	pipeline_drain(p, NULL, NULL);
	run_loop(s);
	while (!pipeline_drained(p) && set_clock_real() < until)
		stage_settle(s, WAIT_MS);
	for (size_t i = 0; i < p->n_components; i++)
		if (!atomic_load(&p->components[i]->closed))
			return fail(s, -ETIMEDOUT, "component \"%s\" has not drained within 30 s",
				    p->components[i]->id);
	for (size_t i = 0; i < p->n_components; i++)
		component_stop(p->order[i]);
	run_loop(s);
	for (size_t i = 0; i < p->n_components; i++)
		component_end(p->components[i]);
	return 0;
}
