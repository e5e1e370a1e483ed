/* SPDX-License-Identifier: MIT */
/*
 * fanin_edge - an edge's life: it dials, sends what is due as far as its window goes, drops from its log what
 * was acknowledged, and dials again after a while.  Record n says who sent it and n; so the log needs no
 * memory, and whoever reads the hub's files can tell what should be there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/fields/fields.h"
#include "fanin.h"

enum {
	FRAME = 256 * 1024,
	RECORD_MAX = FRAME - LINK_DATA_HEADER - LINK_RECORD_HEADER,
	HOSTILE_RETRY_MS = 500,
	PINGS = 50 /* of a deaf edge, each 10 ms */
};

static uint8_t frame[WIRE_PRE + FRAME];

static bool is_link(const struct edge *e)
{
	return !e->f->conf.plain;
}

static void wait_ns(struct edge *e, uint64_t ns)
{
	ev_timer_stop(e->f->loop, &e->due);
	ev_timer_set(&e->due, (double)ns / 1e9, 0);
	ev_timer_start(e->f->loop, &e->due);
}

/* ---- the log ---- */

uint64_t edge_made(const struct edge *e)
{
	const struct fanin *f = e->f;
	uint64_t now = f->stop_ns ? f->stop_ns : now_ns(), made = 0;

	if (f->start_ns && f->period_ns)
		made = (now - f->start_ns + e->phase_ns) / f->period_ns;
	return made > e->flooded ? made : e->flooded;
}

/* When record n came into being, by the monotonic clock. */
static uint64_t born(const struct edge *e, uint64_t n)
{
	uint64_t since = n * e->f->period_ns;

	return e->f->start_ns + (since > e->phase_ns ? since - e->phase_ns : 0);
}

static size_t write_record(const struct edge *e, uint64_t n, size_t at)
{
	uint8_t *to = frame + WIRE_PRE + at + LINK_RECORD_HEADER;
	size_t size = e->f->conf.size;
	int len = snprintf((char *)to, 96, "{\"edge\":\"%s\",\"n\":%llu,\"pad\":\"", e->name,
			   (unsigned long long)n);

	if (size < (size_t)len + 2)
		size = (size_t)len + 2;
	memset(to + len, 'x', size - (size_t)len - 2);
	memcpy(to + size - 2, "\"}", 2);
	struct ss_event event = {.data = to, .len = (uint32_t)size, .time_ns = e->f->wall_ns + born(e, n)};
	return link_record_write(frame + WIRE_PRE, at, &event);
}

/* ---- sending ---- */

static void send_control(struct edge *e, const struct link_control *c)
{
	uint8_t buf[WIRE_PRE + LINK_CONTROL_MAX];

	if (e->wire.state == WIRE_OPEN)
		wire_send(e, WS_TEXT, buf, link_control_write(c, (char *)buf + WIRE_PRE));
}

/* One message of records sent + 1 to last, as far as it goes; false: nothing goes. */
static bool send_data(struct edge *e, uint64_t last, bool bound)
{
	struct link_sender *s = &e->session;
	uint64_t records = 65535, bytes = FRAME, next = s->sent + 1;
	size_t len = LINK_DATA_HEADER, most = e->f->conf.size + 96;
	uint16_t count = 0;

	if (bound)
		link_sender_credit(s, &records, &bytes);
	if (bytes > s->max_frame)
		bytes = s->max_frame;
	if (bytes > FRAME)
		bytes = FRAME;
	for (; next <= last && count < records && count < 65535 && len + most <= bytes; count++)
		len = write_record(e, next++, len);
	if (!count)
		return false;
	link_data_finish(frame + WIRE_PRE, len, count, s->sent + 1, false);
	wire_send(e, WS_BINARY, frame, len);
	link_sender_sent(s, next - 1, len);
	e->f->totals.messages++;
	e->f->totals.bytes += len;
	return true;
}

/* Once around: a second later again, if it is still connected. */
static void flood(struct edge *e)
{
	struct link_sender *s = &e->session;
	uint64_t end = s->acked_bytes + s->window.bytes + FRAME, first = s->sent_bytes;

	while (e->wire.state == WIRE_OPEN && wire_idle(e) && s->sent_bytes < end) {
		e->flooded = s->sent + 65535;
		if (!send_data(e, e->flooded, false))
			break;
	}
	e->flooded = s->sent;
	wait_ns(e, s->sent_bytes > first && s->sent_bytes < end ? 10 * MS : SEC);
}

static void ping(struct edge *e)
{
	uint8_t buf[WIRE_PRE + WS_CONTROL_MAX] = {0};

	for (int i = 0; i < PINGS && wire_idle(e); i++)
		wire_send(e, WS_PING, buf, WS_CONTROL_MAX);
	wait_ns(e, 10 * MS);
}

static void pump(struct edge *e)
{
	const struct fanin *f = e->f;
	uint64_t made = edge_made(e);

	e->session.next = made + 1;
	while (wire_idle(e) && e->session.state == LINK_LIVE_STATE && e->session.sent < made)
		if (!send_data(e, made, true))
			break;
	if (e->kind == DEAF) {
		ping(e);
		return;
	}
	if (!f->start_ns || !f->period_ns || f->stop_ns)
		return;
	uint64_t now = now_ns(), next = born(e, made + 1), wait = f->conf.flush_ms * MS;
	if (next > now && next - now > wait)
		wait = next - now;
	wait_ns(e, wait);
}

/* ---- dialing ---- */

static void set_live(struct edge *e, bool live)
{
	struct fanin *f = e->f;

	if (live == e->live)
		return;
	e->live = live;
	f->n_live += live ? 1 : (uint64_t)-1;
	if (e->kind == GOOD)
		f->n_good_live += live ? 1 : (uint64_t)-1;
	f->totals.lives += live;
	if (live && !e->back && e->kind == GOOD)
		f->n_back++;
	e->back |= live;
}

static void dial_later(struct edge *e)
{
	const struct conf *c = &e->f->conf;
	uint64_t limit = c->retry_min_ms, now = now_ns();

	for (uint32_t i = 0; i < e->attempt && limit < c->retry_max_ms; i++)
		limit *= 2;
	if (limit > c->retry_max_ms)
		limit = c->retry_max_ms;
	if (e->kind != GOOD)
		limit = HOSTILE_RETRY_MS;
	uint64_t wait = pick(e->f, limit * MS + 1);
	if (e->hinted && e->kind == GOOD)
		wait = e->not_before_ns > now ? e->not_before_ns - now : 0;
	e->hinted = false;
	e->attempt++;
	wait_ns(e, wait);
}

static void hint(struct edge *e, uint64_t retry_ms)
{
	if (!retry_ms)
		return;
	e->hinted = true;
	e->not_before_ns = now_ns() + retry_ms * MS;
}

static void count_end(struct totals *t, int code, const char *why)
{
	int i = 0;

	while (i < CODES - 1 && t->codes[i].n && t->codes[i].code != code)
		i++;
	t->codes[i].code = code;
	t->codes[i].n++;
	snprintf(t->why, sizeof t->why, "%s", why);
	for (char *c = t->why; *c; c++)
		if (*c == '"' || *c == '\\' || (uint8_t)*c < ' ' || (uint8_t)*c > '~')
			*c = '?';
}

static void ended(struct edge *e)
{
	const struct conf *c = &e->f->conf;

	if (e->live && now_ns() - e->opened_ns >= c->retry_stable_ms * MS)
		e->attempt = 0;
	set_live(e, false);
	e->session.state = LINK_CLOSED;
	dial_later(e);
}

void edge_closed(struct edge *e, int code, uint64_t retry_ms, const char *why)
{
	if (e->kind == GOOD)
		count_end(&e->f->totals, code, why);
	hint(e, retry_ms);
	ended(e);
}

static void close_edge(struct edge *e, int code, const char *why)
{
	wire_close(e, code);
	if (e->kind == GOOD)
		count_end(&e->f->totals, code, why);
	ended(e);
}

static void on_due(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct edge *e = timer->data;

	(void)loop;
	(void)events;
	if (e->wire.state == WIRE_CLOSED)
		wire_open(e);
	else if (e->live && e->kind == FLAP)
		close_edge(e, 0, "");
	else if (e->live && e->kind == FLOOD)
		flood(e);
	else if (e->live && e->kind != SILENT && is_link(e))
		pump(e);
}

/* ---- what the hub says ---- */

void edge_opened(struct edge *e)
{
	e->opened_ns = now_ns();
	link_sender_start(&e->session, e->opened_ns);
	if (!is_link(e))
		set_live(e, true);
}

/* Below 8 us one each, then eighths of a power of two. */
static int latency_of(uint64_t us)
{
	if (us < 8)
		return (int)us;
	int shift = 60 - __builtin_clzll(us), bucket = 8 + shift * 8 + (int)((us >> shift) % 8);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static void acked(struct edge *e, uint64_t seq)
{
	struct totals *t = &e->f->totals;
	uint64_t now = now_ns(), then = born(e, seq);

	t->acks++;
	if (seq > e->acked && e->kind == GOOD)
		t->latency[latency_of((now > then ? now - then : 0) / 1000)]++;
	e->acked = seq;
}

static void go_live(struct edge *e)
{
	set_live(e, true);
	if (e->kind == SILENT || e->kind == DEAF)
		wire_deaf(e);
	if (e->kind == FLOOD)
		flood(e);
	else if (e->kind != SILENT)
		pump(e);
	if (e->kind == FLAP && e->wire.state == WIRE_OPEN)
		wait_ns(e, pick(e->f, 200 * MS));
}

static void act(struct edge *e, const struct link_action *a, uint64_t before)
{
	if (a->todo & LINK_DO_SEND)
		send_control(e, &a->control);
	if (a->todo & LINK_DO_ACKED && a->seq > before)
		acked(e, a->seq);
	if (a->todo & LINK_DO_CLOSE) {
		close_edge(e, a->code, a->why);
		return;
	}
	if (a->todo & LINK_DO_LIVE)
		go_live(e);
	else if (e->live && e->kind == GOOD)
		pump(e);
}

void edge_message(struct edge *e, int opcode, const uint8_t *data, size_t len)
{
	struct fanin *f = e->f;
	struct sendlog_view log = {.first = e->acked + 1, .next = edge_made(e) + 1, .cursor = e->acked};
	struct link_action a = {0};
	struct link_control c;
	const char *why = "";

	if (!is_link(e))
		return;
	memcpy(log.epoch, e->epoch, sizeof log.epoch);
	if (opcode != WS_TEXT || link_control_read(&fields_service, NULL, f->reader, data, len, &c, &why)) {
		close_edge(e, LINK_BAD_FRAME, why);
		return;
	}
	if (c.type == LINK_HELLO && e->kind == MUTE)
		return;
	link_sender_control(&e->session, &c, e->name, &log, FRAME, RECORD_MAX, f->conf.heartbeat_ms, &a);
	if (a.todo & LINK_DO_BYE)
		hint(e, c.retry_ms);
	act(e, &a, e->acked);
}

void edge_writable(struct edge *e)
{
	if (e->live && is_link(e) && e->kind == FLOOD)
		flood(e);
	else if (e->live && is_link(e) && e->kind != SILENT)
		pump(e);
}

/* ---- time ---- */

void edge_tick(struct edge *e)
{
	struct link_action a;

	if (e->wire.state != WIRE_OPEN || !is_link(e) || e->kind == SILENT || e->kind == MUTE)
		return;
	if (e->kind == DEAF)
		e->session.pulse.heard = true;
	link_sender_tick(&e->session, now_ns(), &a);
	act(e, &a, e->acked);
}

void edge_wake(struct edge *e)
{
	if (e->live && is_link(e) && (e->kind == GOOD || e->kind == DEAF))
		pump(e);
}

void edge_init(struct fanin *f, uint32_t number)
{
	struct edge *e = &f->edges[number];
	uint64_t hostile = f->conf.edges * f->conf.hostile / 100;

	e->f = f;
	e->number = number;
	e->wire.fd = -1;
	/* the good ones first: their names are the same with and without hostile ones */
	if (number >= f->conf.edges - hostile)
		e->kind = (enum edge_kind)(GOOD + 1 + number % (KINDS - 1));
	else
		f->n_good++;
	snprintf(e->name, sizeof e->name, "edge-%05u", number % 100000 + 1);
	for (unsigned i = 0; i < sizeof e->epoch; i++)
		e->epoch[i] = (uint8_t)pick(f, 256);
	e->phase_ns = f->period_ns ? pick(f, f->period_ns) : 0;
	if (f->conf.ca_cert)
		certs_make(f, e);
	ev_init(&e->due, on_due);
	e->due.data = e;
	wait_ns(e, f->conf.spread_ms ? pick(f, f->conf.spread_ms * MS) : 0);
}
