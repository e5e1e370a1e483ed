/* SPDX-License-Identifier: MIT */
/*
 * websocket_input - a source of events from WebSocket peers: by the link protocol (acknowledged, resumable),
 * or plain, one event a message.  It dials or listens.  Records of links go into tracked batches,
 * acknowledged once they are durable downstream.  A stream belongs to its sender: nothing that one says of
 * its epoch and sequences touches, or is shown to, another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/ring.h>
#include <semstreams/ext/fields.h>
#include <semstreams/ext/loop.h>
#include <semstreams/ext/positions.h>
#include "input.h"
#include "plugins/websocket/link/link_session.h"
#include "plugins/websocket/transport/ws_tls.h"

enum { SENDERS_MAX = 1024, COOKIE_BITS = 40 };

enum {
	METRIC_UNACKED = PEER_METRICS_END,
	METRIC_DUPLICATES,
	METRIC_RESTARTS,
	METRIC_RECEIVED_BYTES,
};

/* A batch on its way downstream, in the order received. */
struct flight {
	uint64_t last_seq;
	bool done;
};

/*
 * A sender and its stream, from its first link to the end of the process: epoch, sequences and what is on its
 * way belong to it alone.  A listener knows senders by their verified names, those without one as "": a
 * dialer has one, by its URL.
 */
struct sender {
	struct input *in;
	struct sender *next;
	uint32_t number; /* in the cookies of its batches */
	char name[256];
	struct input_peer *peer; /* its connection, NULL without one */
	struct link_receiver link;
	uint64_t away_ns;        /* for how long it has not been connected */
	bool can_resume, failed; /* failed: something received could not be stored and must come again */
	struct ss_position durable;
	uint8_t stream_id[16];  /* the epoch of its positions: see stream_id() */
	struct ss_ring flights; /* struct flight */
};

struct input_peer {
	struct peer common;    /* first */
	struct sender *sender; /* of a link */
};

static const char *const formats[] = {"raw", "envelope", NULL};
static const char *const reasons[] = {"not_an_envelope", "no_memory", "empty", NULL};

#define OPT(...) SS_OPT(struct input_conf, __VA_ARGS__)
static const struct ss_option options[] = {
	ENDPOINT_OPTIONS(struct input_conf, "8081"),
	OPT(stream, SS_OPT_STRING, NULL, "name of the requested stream; the component's id if not set",
	    .flags = 0),
	OPT(consumer, SS_OPT_STRING, NULL,
	    "name of this receiver for a sender that sees no certificate; the component's id if not set",
	    .flags = 0),
	OPT(window_records, SS_OPT_INT, "65536",
	    "events a sender may send ahead of the last acknowledged one", .min = 64, .max = 1 << 24),
	OPT(window_bytes, SS_OPT_BYTES, "16MiB",
	    "bytes a sender may send ahead of the last acknowledged event", .min = 65536,
	    .max = INT64_C(1) << 32),
	OPT(plain, SS_OPT_BOOL, "true",
	    "accept peers without the link protocol: one event per message, at most once", .flags = 0),
	OPT(format, SS_OPT_ENUM, "raw",
	    "plain messages: raw events, or JSON envelopes with the event in \"payload\", answered by an ack",
	    .choices = formats),
};

static const struct ss_metric metrics[] = {
	PEER_METRICS,
	[METRIC_UNACKED] = PEER_METRIC("semstreams_link_unacked_events",
				       "Events received that are not durable yet.", SS_METRIC_GAUGE),
	[METRIC_DUPLICATES] =
		PEER_METRIC("semstreams_link_duplicates_total",
			    "Events that a sender resent and that were left out.", SS_METRIC_COUNTER),
	[METRIC_RESTARTS] =
		PEER_METRIC("semstreams_link_restarts_total",
			    "Times a sender started a new log (epoch changed).", SS_METRIC_COUNTER),
	[METRIC_RECEIVED_BYTES] = PEER_METRIC("semstreams_ws_received_bytes_total",
					      "Bytes of messages received.", SS_METRIC_COUNTER),
};

/* What fits a frame and the window. */
static uint64_t max_record(const struct input *in)
{
	uint64_t most = (uint64_t)in->conf->endpoint.max_message;

	if (most > (uint64_t)in->conf->window_bytes)
		most = (uint64_t)in->conf->window_bytes;
	return most - LINK_DATA_HEADER - LINK_RECORD_HEADER;
}

static const char *own_name(const struct input *in)
{
	return in->conf->consumer ? in->conf->consumer : in->host->id;
}

/* For messages. */
static const char *name_of(const struct sender *s)
{
	return s->name[0] ? s->name : s->peer && s->peer->common.name ? s->peer->common.name : "-";
}

static void act(struct sender *s, const struct link_action *a)
{
	struct input *in = s->in;

	if (a->todo & LINK_DO_SEND) {
		uint8_t buf[WS_PRE + LINK_CONTROL_MAX];
		size_t len = link_control_write(&a->control, (char *)buf + WS_PRE);
		/* a control message that does not fit now is made anew at the next tick */
		ws_send(s->peer->common.conn, false, buf, len);
	}
	if (a->todo & LINK_DO_CLOSE) {
		ss_log(in->host, a->code == LINK_OK ? SS_LOG_INFO : SS_LOG_WARN,
		       "Closing the link code=%d peer=%s reason=\"%s\"", a->code, name_of(s), a->why);
		ws_close(s->peer->common.conn, a->code, a->why);
	}
}

/* ---- senders ---- */

/* Batches on their way do not report any more. */
static void forget_flights(struct sender *s)
{
	s->flights.head = s->flights.tail;
}

static struct sender *sender_of(struct input *in, const char *name)
{
	const char *key = name && !in->peers.dials ? name : "";

	for (struct sender *s = in->senders; s; s = s->next)
		if (strcmp(s->name, key) == 0)
			return s;
	struct sender *s =
		in->n_senders < SENDERS_MAX && strlen(key) < sizeof s->name ? calloc(1, sizeof *s) : NULL;
	if (!s)
		return NULL;
	s->in = in;
	s->number = in->n_senders++;
	s->flights.value_size = sizeof(struct flight);
	memcpy(s->name, key, strlen(key));
	s->next = in->senders;
	in->senders = s;
	return s;
}

/*
 * By what epoch the positions of a sender's stream are stored.  A listener hashes its name in: so a position
 * from the store is recognized when its sender comes again, and no other can come up with an epoch that
 * matches it.
 */
static void stream_id(const struct sender *s, const uint8_t epoch[16], uint8_t out[16])
{
	uint8_t text[sizeof s->name + 16], digest[32];
	size_t len = strlen(s->name);

	if (s->in->peers.dials) {
		memcpy(out, epoch, 16);
		return;
	}
	memcpy(text, s->name, len + 1);
	memcpy(text + len + 1, epoch, 16);
	ws_tls_digest(text, len + 1 + 16, digest);
	memcpy(out, digest, 16);
}

/* The stream that the store has, if it is this sender's: by the epoch of WELCOME, or the one before. */
static void restore(struct sender *s, const struct link_control *welcome)
{
	struct ss_position stored = {.seq = s->in->stored.seq};
	const uint8_t *epochs[] = {welcome->epoch, welcome->resume.epoch};
	uint8_t id[16];

	for (int i = 0; i < 1 + welcome->has_resume; i++) {
		stream_id(s, epochs[i], id);
		if (memcmp(id, s->in->stored.epoch, sizeof id) != 0)
			continue;
		memcpy(stored.epoch, epochs[i], sizeof stored.epoch);
		link_receiver_restore(&s->link, &stored);
		return;
	}
}

/* A link's connection is open: 0, or a close code to refuse it with. */
static int link_in_open(struct input *in, struct input_peer *p)
{
	const struct link_window window = {(uint64_t)in->conf->window_records,
					   (uint64_t)in->conf->window_bytes};
	const uint64_t max_frame = (uint64_t)in->conf->endpoint.max_message;
	struct sender *s = sender_of(in, p->common.name);
	struct link_action a = {0};

	if (!s) {
		ss_log(in->host, SS_LOG_ERROR,
		       "Link refused: no room for another sender, %d are known; restart to forget them "
		       "peer=%s",
		       SENDERS_MAX, p->common.name ? p->common.name : "-");
		return 1013;
	}
	if (s->peer)
		ws_close(s->peer->common.conn, LINK_REPLACED, "another sender of this name has taken over");
	if (s->failed) {
		/* all that is not durable comes again */
		s->link = (struct link_receiver){0};
		forget_flights(s);
	}
	s->failed = false;
	s->peer = p;
	p->sender = s;
	/* of a listener's store it is not known yet whose stream it is */
	const struct ss_position *resume = s->can_resume                       ? &s->durable
					   : in->has_stored && in->peers.dials ? &in->stored
									       : NULL;
	link_receiver_start(&s->link, in->conf->stream ? in->conf->stream : in->host->id, own_name(in),
			    resume, &window, max_frame, max_record(in), in->loop->now(in->loop_self), &a);
	act(s, &a);
	return 0;
}

/* ---- records ---- */

static struct ss_batch *copy_records(struct input *in, const struct link_data *d, uint64_t from)
{
	uint64_t seq = d->first_seq;
	struct ss_batch *b = in->host->batch_new(in->host, NULL, d->count, d->len ? d->len : 1);
	if (!b)
		return NULL;

	memcpy(b->data, d->records, d->len);
	const uint8_t *at = b->data;
	for (uint16_t i = 0; i < d->count; i++, seq++) {
		uint64_t time_ns;
		uint32_t len;
		const uint8_t *record = link_record_next(&at, &len, &time_ns);
		if (seq >= from)
			b->events[b->count++] =
				(struct ss_event){.data = record, .len = len, .time_ns = time_ns, .seq = seq};
	}
	return b;
}

static int deliver(struct sender *s, const struct link_data *d, uint64_t from)
{
	struct input *in = s->in;
	struct ss_position at = {.seq = d->first_seq + d->count - 1};
	struct ss_batch *b = copy_records(in, d, from);
	int rc = -ENOMEM;

	if (!b)
		return rc;
	memcpy(at.epoch, s->stream_id, sizeof at.epoch);
	uint64_t number = s->flights.tail;
	struct flight *f = ss_ring_push(&s->flights);
	if (f) {
		f->last_seq = at.seq;
		rc = in->host->track(in->host, b, (uint64_t)s->number << COOKIE_BITS | number, &at);
		if (rc == 0)
			in->host->emit(in->host, 0, b);
		else
			ss_ring_pop(&s->flights);
	}
	in->host->batch_unref(b);
	return rc;
}

static void on_data(struct sender *s, const uint8_t *data, size_t len)
{
	struct input *in = s->in;
	struct link_action a = {0};
	struct link_data d;
	const char *why = "";

	int rc = link_data_read(data, len, max_record(in), &d, &why);
	if (rc) {
		in->host->metric_add(in->host, PEER_BAD_MESSAGES, 1);
		a = (struct link_action){.todo = LINK_DO_CLOSE,
					 .why = why,
					 .code = rc == -EMSGSIZE ? LINK_RECORD_TOO_BIG : LINK_BAD_FRAME};
	} else {
		link_receiver_data(&s->link, &d, &a);
	}
	if (a.duplicates)
		in->host->metric_add(in->host, METRIC_DUPLICATES, (int64_t)a.duplicates);
	if (a.todo & LINK_DO_DATA && deliver(s, &d, a.from) < 0) {
		s->failed = true;
		a = (struct link_action){.todo = LINK_DO_CLOSE, .code = 1011, .why = "out of memory"};
	}
	act(s, &a);
}

/* ---- control messages ---- */

/* Somebody else acknowledged what this receiver never got. */
static void report_elsewhere(struct sender *s, const struct link_action *a)
{
	struct input *in = s->in;

	in->host->metric_add(in->host, PEER_LOST, (int64_t)(a->gap_to - a->gap_from + 1));
	ss_log(in->host, SS_LOG_ERROR,
	       "Events lost: they were acknowledged to the sender, but are not here: another receiver uses "
	       "the "
	       "name \"%s\", or this store was restored from an older copy; give each receiver a name of its "
	       "own from=%llu to=%llu peer=%s",
	       own_name(in), (unsigned long long)a->gap_from, (unsigned long long)a->gap_to, name_of(s));
	peers_trouble(
		&in->peers, TROUBLE_LOST,
		"events %llu to %llu were lost: another receiver uses the name \"%s\", or this store was "
		"restored from an older copy",
		(unsigned long long)a->gap_from, (unsigned long long)a->gap_to, own_name(in));
}

/* stored: what was durable of this stream before. */
static void go_live(struct sender *s, uint64_t stored, const struct link_action *a)
{
	struct input *in = s->in;

	if (a->todo & LINK_DO_ELSEWHERE)
		report_elsewhere(s, a);
	s->can_resume = true;
	memcpy(s->durable.epoch, s->link.epoch, sizeof s->durable.epoch);
	s->durable.seq = s->link.durable;
	stream_id(s, s->link.epoch, s->stream_id);
	peers_live(&in->peers, &s->peer->common);
	ss_log(in->host, SS_LOG_INFO, "Link up stored=%llu next=%llu peer=%s", (unsigned long long)stored,
	       (unsigned long long)s->link.got + 1, name_of(s));
}

static void on_control(struct sender *s, const uint8_t *data, size_t len)
{
	struct input *in = s->in;
	struct link_action a = {0};
	struct link_control c;
	const char *why = "";
	uint64_t stored = 0;

	if (link_control_read(in->fields, in->fields_self, in->control, data, len, &c, &why) < 0) {
		in->host->metric_add(in->host, PEER_BAD_MESSAGES, 1);
		a = (struct link_action){.todo = LINK_DO_CLOSE, .code = LINK_BAD_FRAME, .why = why};
	} else {
		if (c.type == LINK_WELCOME && !s->link.has_epoch && in->has_stored)
			restore(s, &c);
		stored = s->link.has_epoch ? s->link.durable : 0;
		link_receiver_control(&s->link, &c, &a);
	}
	if (a.todo & LINK_DO_RESTART) {
		ss_log(in->host, SS_LOG_WARN,
		       "Sender started a new log (epoch changed) old_last=%llu peer=%s",
		       (unsigned long long)a.seq, name_of(s));
		in->host->metric_add(in->host, METRIC_RESTARTS, 1);
		forget_flights(s);
	}
	if (a.todo & LINK_DO_LOST) {
		ss_log(in->host, SS_LOG_WARN,
		       "Events lost by the sender from=%llu to=%llu peer=%s reason=\"%s\"",
		       (unsigned long long)a.from, (unsigned long long)a.to, name_of(s), c.reason);
		in->host->metric_add(in->host, PEER_LOST, (int64_t)(a.to - a.from + 1));
	}
	if (a.todo & LINK_DO_LIVE)
		go_live(s, a.todo & LINK_DO_RESTART ? 0 : stored, &a);
	if (a.todo & LINK_DO_BYE && c.retry_ms)
		ws_retry_after(in->endpoint.ws, c.retry_ms * 1000000);
	act(s, &a);
}

static void sender_tick(struct sender *s)
{
	struct input *in = s->in;
	struct link_action a;

	if (!s->peer)
		return;
	do {
		link_receiver_tick(&s->link, in->loop->now(in->loop_self), &a);
		act(s, &a);
	} while (a.todo && !(a.todo & LINK_DO_CLOSE));
}

/* ---- acknowledgements ---- */

static void link_in_tick(struct input *in);

static void on_ack_timer(void *arg)
{
	struct input *in = arg;

	in->ack_timer = 0;
	link_in_tick(in);
}

static void link_in_tick(struct input *in)
{
	uint64_t unacked = 0;
	bool due = false;

	for (struct sender *s = in->senders; s; s = s->next) {
		sender_tick(s);
		unacked += s->link.got - s->link.durable;
		due |= s->peer && s->link.ack_sent < s->link.durable;
	}
	in->host->metric_set(in->host, METRIC_UNACKED, (int64_t)unacked);
	if (due && !in->ack_timer)
		in->loop->timer(in->loop_self, LINK_ACK_NS, 0, on_ack_timer, in, &in->ack_timer);
}

/* ---- a link's connection ---- */

static void link_in_message(struct input *in, struct input_peer *p, bool binary, const uint8_t *data,
			    size_t len)
{
	struct sender *s = p->sender;

	if (!s || s->peer != p)
		return; /* replaced, its closing is under way */
	if (binary)
		on_data(s, data, len);
	else
		on_control(s, data, len);
	link_in_tick(in);
}

static void link_in_closed(struct input *in, struct input_peer *p, int code, bool by_peer)
{
	if (p->sender && p->sender->peer == p)
		p->sender->peer = NULL;
	if (code != LINK_REPLACED || !by_peer) {
		if (p->common.live)
			in->peers.replaced = 0;
		return;
	}
	/* not at once: two that displace each other lose events with each change */
	ss_log(in->host, SS_LOG_ERROR,
	       "Another receiver uses the name \"%s\" and took over the link; give each receiver a name of "
	       "its own",
	       own_name(in));
	peers_trouble(&in->peers, TROUBLE_LOST,
		      "another receiver uses the name \"%s\" and took over the link", own_name(in));
	uint64_t wait = peers_replaced(&in->peers);
	if (in->endpoint.ws && in->peers.dials)
		ws_retry_after(in->endpoint.ws, wait);
}

static void link_in_acked(struct input *in, uint64_t cookie, int32_t status)
{
	uint64_t number = cookie & ((UINT64_C(1) << COOKIE_BITS) - 1);
	struct sender *s = in->senders;

	while (s && s->number != cookie >> COOKIE_BITS)
		s = s->next;
	if (!s || number < s->flights.head || number >= s->flights.tail)
		return;
	if (status == SS_FAILED) {
		/* it must come again: nothing after it is acknowledged, and the link starts over from there
		 */
		s->failed = true;
		if (s->peer)
			ws_close(s->peer->common.conn, 1011, "events could not be stored");
		return;
	}
	((struct flight *)ss_ring_at(&s->flights, number))->done = true;
	for (struct flight *f; (f = ss_ring_first(&s->flights)) && f->done; ss_ring_shift(&s->flights))
		s->durable.seq = f->last_seq;
	link_receiver_durable(&s->link, s->durable.seq);
	link_in_tick(in);
}

/* The last acknowledgement, before the connection is closed. */
static void link_in_stop(struct input *in)
{
	struct link_action a;

	for (struct sender *s = in->senders; s; s = s->next) {
		if (!s->peer)
			continue;
		/* the first answer is an ACK, if one is due: what the sender does not know it may count as
		 * lost */
		link_receiver_bye(&s->link, in->loop->now(in->loop_self), 0, "shutting down", &a);
		act(s, &a);
	}
}

static void link_in_done(struct input *in)
{
	for (struct sender *s = in->senders, *next; s; s = next) {
		next = s->next;
		ss_ring_done(&s->flights);
		free(s);
	}
	in->senders = NULL;
}

/* ---- connections ---- */

/* A link goes on while downstream is full: its window limits what is on the way, and the signs of life that
 * follow the data are heard. */
static bool stands_still(const struct input *in, const struct peer *p)
{
	return in->ending || (in->paused && !p->link);
}

static int on_opened(void *arg, struct ws_conn *conn, const char *subprotocol, const char *peer, void **user)
{
	struct input *in = arg;
	bool link = strcmp(subprotocol, LINK_SUBPROTOCOL) == 0;

	if (!link && !in->conf->plain)
		return 1002;
	struct input_peer *p = malloc(sizeof *p);
	if (!p)
		return 1013;
	*p = (struct input_peer){.common = {.conn = conn, .link = link}};
	if (peers_add(&in->peers, &p->common, peer) < 0) {
		free(p);
		return 1013;
	}
	*user = p;
	ws_pause(conn, stands_still(in, &p->common));
	int code = link ? link_in_open(in, p) : 0;
	if (code)
		ws_close(conn, code, "no room for another sender");
	return 0;
}

static void on_message(void *arg, struct ws_conn *conn, void *user, bool binary, const uint8_t *data,
		       size_t len)
{
	struct input *in = arg;
	struct input_peer *p = user;

	(void)conn;
	in->host->metric_add(in->host, METRIC_RECEIVED_BYTES, (int64_t)len);
	if (p->common.link)
		link_in_message(in, p, binary, data, len);
	else
		plain_in_message(in, &p->common, binary, data, len);
}

static void on_writable(void *arg, struct ws_conn *conn, void *user)
{
	(void)arg;
	(void)conn;
	(void)user;
}

static void on_closed(void *arg, struct ws_conn *conn, void *user, int code, bool by_peer, const char *why)
{
	struct input *in = arg;
	struct input_peer *p = user;

	(void)conn;
	if (p->common.link)
		link_in_closed(in, p, code, by_peer);
	peers_remove(&in->peers, &p->common, code, by_peer, NULL, why);
	free(p);
}

static void on_failed(void *arg, uint32_t n, const char *why)
{
	peers_failed(&((struct input *)arg)->peers, n, why);
}

static bool on_health(void *arg, char *buf, size_t size)
{
	struct input *in = arg;
	bool well = !in->paused && !in->ending;

	snprintf(buf, size, "{\"status\":\"%s\",\"component\":\"%s\",\"link\":%s}\n",
		 well ? "ok" : "not ready", in->host->id, in->peers.n_live ? "true" : "false");
	return well;
}

static const struct ws_events events = {.opened = on_opened,
					.message = on_message,
					.writable = on_writable,
					.closed = on_closed,
					.failed = on_failed,
					.health = on_health};

/* ---- life ---- */

static void input_destroy(void *self)
{
	struct input *in = self;

	if (!in)
		return;
	endpoint_done(&in->endpoint);
	link_in_done(in);
	plain_in_done(in);
	if (in->fields) {
		in->fields->free(in->fields_self, in->control);
		in->fields->free(in->fields_self, in->envelope);
	}
	free(in);
}

static int32_t input_create(const struct ss_host *host, const void *conf, void **self)
{
	struct input *in = calloc(1, sizeof *in);
	struct ss_iface loop, fields;

	if (!in)
		return -ENOMEM;
	in->host = host;
	in->conf = conf;
	peers_init(&in->peers, host, &in->conf->endpoint);
	int rc = endpoint_check(&in->endpoint, host, &in->conf->endpoint);
	if (rc == 0)
		rc = host->query(host, SS_LOOP, sizeof *in->loop, &loop);
	if (rc == 0)
		rc = host->query(host, SS_FIELDS, sizeof *in->fields, &fields);
	if (rc == 0) {
		in->loop = loop.vtbl;
		in->loop_self = loop.self;
		in->fields = fields.vtbl;
		in->fields_self = fields.self;
		rc = link_control_reader(in->fields, in->fields_self, &in->control);
	}
	if (rc == 0)
		rc = plain_in_init(in);
	if (rc < 0) {
		input_destroy(in);
		return rc;
	}
	*self = in;
	return 0;
}

static void on_tick(void *arg)
{
	struct input *in = arg;
	uint64_t now = in->loop->now(in->loop_self);

	link_in_tick(in);
	const struct sender *longest = NULL;
	for (struct sender *s = in->senders; s; s = s->next) {
		s->away_ns = s->peer ? 0 : s->away_ns + (now - in->ticked_ns);
		if (s->can_resume && s->away_ns && (!longest || s->away_ns > longest->away_ns))
			longest = s;
	}
	const char *name = longest && longest->name[0] ? longest->name : "the sender";
	peers_tick(&in->peers, now - in->ticked_ns, longest ? name : NULL, longest ? longest->away_ns : 0);
	in->ticked_ns = now;
}

static int32_t input_start(void *self)
{
	static const char *const subprotocols[] = {LINK_SUBPROTOCOL, NULL};
	struct input *in = self;
	struct ss_iface positions;

	if (in->host->query(in->host, SS_POSITIONS, sizeof(struct ss_positions), &positions) == 0 &&
	    ((const struct ss_positions *)positions.vtbl)->resume(positions.self, &in->stored) == 0)
		in->has_stored = true;
	in->ticked_ns = in->loop->now(in->loop_self);
	int rc = in->loop->timer(in->loop_self, 1000000000, 1000000000, on_tick, in, &in->tick);
	if (rc == 0)
		rc = endpoint_open(&in->endpoint, subprotocols, &events, in);
	return rc;
}

static void input_stop(void *self)
{
	struct input *in = self;

	link_in_stop(in);
	endpoint_close(&in->endpoint, 1001, "shutting down");
}

static void set_paused(struct input *in, bool paused)
{
	in->paused = paused;
	for (struct peer *p = in->peers.first; p; p = p->next)
		ws_pause(p->conn, stands_still(in, p));
}

static void input_pause(void *self)
{
	set_paused(self, true);
}

static void input_resume(void *self)
{
	set_paused(self, false);
}

static int32_t input_drain(void *self)
{
	struct input *in = self;

	in->ending = true;
	set_paused(in, true);
	plain_in_flush(in);
	return 0;
}

static void input_acked(void *self, uint64_t cookie, int32_t status)
{
	link_in_acked(self, cookie, status);
}

static void input_idle(void *self)
{
	plain_in_flush(self);
}

static const struct ss_component websocket_input = {
	.struct_size = sizeof websocket_input,
	.kind = SS_KIND_SOURCE,
	.type = "websocket_input",
	.version = "0.1",
	.summary = "Receive events from WebSocket peers: reliable links, or one event per message.",
	.license = "MIT",
	.options = options,
	.option_size = sizeof options[0],
	.n_options = sizeof options / sizeof options[0],
	.metrics = metrics,
	.metric_size = sizeof metrics[0],
	.n_metrics = sizeof metrics / sizeof metrics[0],
	.reasons = reasons,
	.conf_size = sizeof(struct input_conf),
	.create = input_create,
	.destroy = input_destroy,
	.start = input_start,
	.stop = input_stop,
	.process = NULL,
	.pause = input_pause,
	.resume = input_resume,
	.drain = input_drain,
	.acked = input_acked,
	.idle = input_idle,
	.flags = SS_OWN_LOOP, /* TLS handshakes compute for milliseconds */
};
SS_REGISTER(&websocket_input);
