/* SPDX-License-Identifier: MIT */
/*
 * tap_view - each view has a tap, looked at 20 times a second; a tenth of the control thread's time is the
 * most that one takes.  Who reads too slowly misses events, and is told how many.
 */
#include "core/tap_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/attributes.h>
#include "core/admin/admin.h"
#include "core/admin/clock.h"
#include "core/admin/log.h"
#include "core/api.h"
#include "core/flow/pipeline.h"
#include "core/flow/tap/point.h"
#include "core/flow/tap/sieve.h"
#include "core/redaction.h"

#define TICK_S    0.05
#define SECOND_NS UINT64_C(1000000000)
/* What is copied between two looks: 10,000 events a second, eight times as many for conditions to choose
 * from. */
#define EVENTS     512
#define OF_MATCHES 8
#define BYTES      (UINT64_C(1) << 20)
#define CHUNK      16384

struct view {
	struct api *api;
	struct admin_stream *stream;
	char *point;
	struct tap *tap;
	struct sieve *sieve;         /* NULL: all events are shown */
	struct redaction *redaction; /* NULL: all of them is shown */
	struct ev_timer tick;
	uint64_t limit;    /* events to show; 0: no limit */
	uint64_t shown;    /* given to the stream */
	uint64_t withheld; /* what is to be hidden in them cannot be told */
	uint64_t unsent;   /* the stream was full */
	uint64_t told_missed, told_withheld;
	uint64_t wrote_ns;      /* when the stream was last written to */
	uint64_t told_ns;       /* when losses were last told */
	bool gone;              /* the component, which was told */
	struct ss_strbuf lines; /* not sent yet */
	uint64_t n_lines;
};

/* ---- an event as a line ---- */

static void add_base64(struct ss_strbuf *out, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		const uint32_t n = (uint32_t)bytes[i] << 16 |
				   (i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0) |
				   (i + 2 < len ? bytes[i + 2] : 0);
		ss_strbuf_char(out, digits[n >> 18]);
		ss_strbuf_char(out, digits[n >> 12 & 63]);
		ss_strbuf_char(out, i + 1 < len ? digits[n >> 6 & 63] : '=');
		ss_strbuf_char(out, i + 2 < len ? digits[n & 63] : '=');
	}
}

static void add_time(struct ss_strbuf *out, uint64_t ns)
{
	const time_t seconds = (time_t)(ns / SECOND_NS);
	char text[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	ss_strbuf_printf(out, "\"received\":\"%s.%03uZ\"", text, (unsigned)(ns % SECOND_NS / 1000000));
}

static void add_attributes(const struct view *v, const struct ss_attributes *set, struct ss_strbuf *out)
{
	static const char *const names[SS_ATTR_COUNT] = {"@peer",  "@origin", "@path",     "@address",
							 "@input", "@error",  "@component"};
	bool any = false;

	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		if (!a.text)
			continue;
		const bool hidden = redaction_hides(v->redaction, names[i]);
		ss_strbuf_printf(out, "%s\"%s\":", any ? "," : ",\"attributes\":{", names[i]);
		ss_strbuf_json(out, hidden ? "<hidden>" : a.text, hidden ? strlen("<hidden>") : a.len);
		any = true;
	}
	if (any)
		ss_strbuf_char(out, '}');
}

static void add_data(struct ss_strbuf *out, const void *bytes, size_t len)
{
	if (ss_utf8_valid(bytes, len)) {
		ss_strbuf_text(out, ",\"data\":");
		ss_strbuf_json(out, bytes, len);
		return;
	}
	ss_strbuf_text(out, ",\"base64\":\"");
	add_base64(out, bytes, len);
	ss_strbuf_char(out, '"');
}

/* False: it is withheld. */
static bool add_event(struct view *v, const struct ss_batch *b, const struct ss_event *e)
{
	const void *bytes = e->len ? (const void *)e->data : "";
	struct ss_strbuf safe = {0};
	size_t len = e->len;

	if (v->redaction) {
		if (!redaction_apply(v->redaction, bytes, len, &safe) || safe.failed) {
			ss_strbuf_done(&safe);
			return false;
		}
		bytes = safe.bytes ? safe.bytes : "";
		len = safe.len;
	}
	ss_strbuf_char(&v->lines, '{');
	add_time(&v->lines, e->time_ns);
	add_attributes(v, ss_attributes_of(b, e), &v->lines);
	add_data(&v->lines, bytes, len);
	ss_strbuf_text(&v->lines, "}\n");
	ss_strbuf_done(&safe);
	v->n_lines++;
	return true;
}

/* ---- the stream ---- */

static void send_lines(struct view *v)
{
	if (v->n_lines == 0)
		return;
	if (v->lines.failed || admin_stream_write(v->stream, v->lines.bytes, v->lines.len) < 0)
		v->unsent += v->n_lines;
	else
		v->shown += v->n_lines;
	v->n_lines = 0;
	v->wrote_ns = clock_now();
	if (v->lines.failed)
		ss_strbuf_done(&v->lines);
	else
		ss_strbuf_clear(&v->lines);
}

static bool is_complete(const struct view *v)
{
	return v->limit && v->shown + v->n_lines >= v->limit;
}

static void show(struct view *v, const struct ss_batch *b)
{
	for (uint32_t i = 0; i < b->count && !is_complete(v); i++) {
		if (!add_event(v, b, &b->events[i]))
			v->withheld++;
		if (v->lines.len >= CHUNK)
			send_lines(v);
	}
	send_lines(v);
}

static void show_matches(struct view *v, struct ss_batch *b)
{
	struct ss_batch *match;

	sieve_put(v->sieve, b);
	while ((match = sieve_take(v->sieve))) {
		show(v, match);
		batch_unref(match);
	}
}

/* One line that is no event; it is told again later if the stream is full. */
static bool say(struct view *v, const char *key, const char *json)
{
	struct ss_strbuf line = {0};

	ss_strbuf_printf(&line, "{\"%s\":%s}\n", key, json);
	const bool said = !line.failed && admin_stream_write(v->stream, line.bytes, line.len) == 0;
	ss_strbuf_done(&line);
	v->wrote_ns = clock_now();
	return said;
}

static uint64_t missed(const struct view *v)
{
	return tap_missed(v->tap) + v->unsent;
}

/* Each second what was not shown, or an empty line: a reader that has gone is noticed only by writing. */
static void tell_losses(struct view *v)
{
	const uint64_t lost = missed(v), withheld = v->withheld;
	char json[64];

	if (clock_now() - v->wrote_ns >= SECOND_NS) {
		admin_stream_write(v->stream, "\n", 1);
		v->wrote_ns = clock_now();
	}
	snprintf(json, sizeof json, "%llu", (unsigned long long)lost);
	if (lost != v->told_missed && say(v, "missed", json))
		v->told_missed = lost;
	snprintf(json, sizeof json, "%llu", (unsigned long long)withheld);
	if (withheld != v->told_withheld && say(v, "withheld", json))
		v->told_withheld = withheld;
}

static bool say_text(struct view *v, const char *key, const char *text)
{
	struct ss_strbuf json = {0};

	ss_strbuf_json(&json, text, strlen(text));
	const bool said = say(v, key, ss_strbuf_cstr(&json));
	ss_strbuf_done(&json);
	return said;
}

/* ---- the place ---- */

/* Look where the point is now: a changed configuration may have another component of that name, or none. */
static void follow(struct view *v)
{
	struct pipeline *p = v->api->pipeline;
	struct point point = {0};
	char why[512];

	const bool gone = point_find(p, v->point, &point, why) != 0;
	struct tap_point *place = gone ? NULL : &point.component->taps;
	if (place != tap_place(v->tap)) {
		tap_attach(v->tap, place, point.port);
		attributes_settle(p->order, p->n_components);
	}
	v->gone = gone && (v->gone || say_text(v, "gone", why));
}

static void leave(struct view *v)
{
	tap_attach(v->tap, NULL, 0);
	attributes_settle(v->api->pipeline->order, v->api->pipeline->n_components);
	ev_timer_stop(v->api->ev, &v->tick);
}

static void finish(struct view *v)
{
	char json[160];

	leave(v);
	snprintf(json, sizeof json, "{\"shown\":%llu,\"missed\":%llu,\"withheld\":%llu}",
		 (unsigned long long)v->shown, (unsigned long long)missed(v),
		 (unsigned long long)v->withheld);
	say(v, "end", json);
	admin_stream_end(v->stream);
}

static void on_tick(struct ev_loop *ev, struct ev_timer *w, int events)
{
	const uint64_t began = clock_now();
	struct view *v = w->data;
	struct ss_batch *b;

	(void)events;
	follow(v);
	while (!is_complete(v) && (b = tap_take(v->tap))) {
		if (v->sieve)
			show_matches(v, b);
		else
			show(v, b);
		batch_unref(b);
	}
	if (is_complete(v)) {
		finish(v);
		return;
	}
	if (began - v->told_ns >= SECOND_NS) {
		v->told_ns = began;
		tell_losses(v);
	}
	const double took = (double)(clock_now() - began) / 1e9;
	w->repeat = took * 10. > TICK_S ? took * 10. : TICK_S;
	ev_timer_again(ev, w);
}

/* ---- its life ---- */

static void view_free(struct view *v)
{
	if (!v)
		return;
	tap_free(v->tap);
	sieve_free(v->sieve);
	redaction_free(v->redaction);
	ss_strbuf_done(&v->lines);
	free(v->point);
	free(v);
}

static void on_gone(void *of)
{
	struct view *v = of;
	char point[256];

	log_info("Tap closed point=%s shown=%llu", log_value(point, sizeof point, v->point),
		 (unsigned long long)v->shown);
	leave(v);
	view_free(v);
}

static int make_sieve(struct view *v, const json_t *where, char why[512])
{
	char *text = json_dumps(where, JSON_ENCODE_ANY | JSON_COMPACT);

	int rc = text ? sieve_new(v->api->loader, text, why, &v->sieve) : -ENOMEM;
	if (!text)
		snprintf(why, 512, "%s", strerror(ENOMEM));
	free(text);
	return rc;
}

/* {"point": "udp", "limit": 10, "where": {...}, "redact": ["password"]} */
static int set_up(struct view *v, const struct admin_request *r, char why[512])
{
	const json_t *where = NULL, *redact = NULL;
	struct point point;
	const char *name;
	json_int_t limit = 0;
	size_t len;

	const char *text = admin_body(r, &len);
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	int rc = json_unpack_ex(json, NULL, JSON_STRICT, "{s:s, s?:I, s?:o, s?:o}", "point", &name, "limit",
				&limit, "where", &where, "redact", &redact);
	if (rc || limit < 0) {
		snprintf(why, 512,
			 "expected {\"point\": \"ID\", \"limit\": N, \"where\": {...}, \"redact\": [...]}");
		rc = -EINVAL;
	}
	if (rc == 0)
		rc = point_find(v->api->pipeline, name, &point, why);
	if (rc == 0 && redact)
		rc = redaction_new(redact, why, &v->redaction);
	if (rc == 0 && where)
		rc = make_sieve(v, where, why);
	if (rc == 0) {
		v->limit = (uint64_t)limit;
		v->point = strdup(name);
		v->tap = tap_new(where ? EVENTS * OF_MATCHES : EVENTS, BYTES);
		if (!v->point || !v->tap) {
			snprintf(why, 512, "%s", strerror(ENOMEM));
			rc = -ENOMEM;
		}
	}
	json_decref(json);
	return rc;
}

static int refuse(struct view *v, int rc, const char *why)
{
	struct ss_strbuf text = {0};

	ss_strbuf_text(&text, "{\"error\":");
	ss_strbuf_json(&text, why, strlen(why));
	ss_strbuf_text(&text, "}\n");
	admin_stream_write(v->stream, ss_strbuf_cstr(&text), text.len);
	ss_strbuf_done(&text);
	view_free(v);
	return rc == -ENOMEM ? 503 : 400;
}

int tap_view_open(void *arg, const struct admin_request *r, struct admin_stream *stream)
{
	struct view *v = calloc(1, sizeof *v);
	char why[512] = "", point[256];

	if (!v)
		return 503;
	v->api = arg;
	v->stream = stream;
	int rc = set_up(v, r, why);
	if (rc)
		return refuse(v, rc, why);
	admin_stream_watch(stream, on_gone, v);
	v->wrote_ns = v->told_ns = clock_now();
	ev_timer_init(&v->tick, on_tick, 0., TICK_S);
	v->tick.data = v;
	follow(v);
	say_text(v, "tap", v->point); /* whoever reads this misses nothing from now on */
	log_info("Tap opened point=%s", log_value(point, sizeof point, v->point));
	ev_timer_again(v->api->ev, &v->tick);
	return 200;
}
