/* SPDX-License-Identifier: MIT */
/*
 * link_in - the receiving end of links.  Records go into tracked batches, acknowledged once they are durable
 * downstream.  A stream belongs to its sender: nothing that one says of its epoch and sequences touches, or
 * is shown to, another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "input.h"
#include "plugins/websocket/transport/ws_tls.h"

enum { COOKIE_BITS = 40, FORGOTTEN_MAX = 1 << 16 };
#define ACK_EACH_NS UINT64_C(500000) /* of all links together, on average */
#define ACK_MAX_NS  UINT64_C(1000000000)

/* What fits a frame and the window. */
static uint64_t max_record(const struct input *in)
{
	uint64_t most = (uint64_t)in->conf->endpoint.max_message;

	if (most > (uint64_t)in->conf->window_bytes)
		most = (uint64_t)in->conf->window_bytes;
	if (most > (uint64_t)in->conf->memory / 2)
		most = (uint64_t)in->conf->memory / 2;
	return most - LINK_DATA_HEADER - LINK_RECORD_HEADER - provenance_room(in, most);
}

static const char *own_name(const struct input *in)
{
	return in->conf->consumer ? in->conf->consumer : in->host->id;
}

/* For messages. */
static const char *name_of(const struct sender *s)
{
	return s->name->text[0]                  ? s->name->text
	       : s->peer && s->peer->common.name ? s->peer->common.name
						 : "-";
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

/* Those flights that are over leave, in their order; what counts of them is durable. */
static void settle(struct sender *s)
{
	struct flight *f;

	while ((f = ss_ring_first(&s->flights)) && f->over) {
		const bool counts = s->flights.head >= s->flights_from;
		if (counts && f->failed)
			return;
		if (counts)
			s->durable.seq = f->last_seq;
		ss_ring_shift(&s->flights);
	}
}

/* Batches on their way do not count any more: their events come again, or are over. */
static void forget_flights(struct sender *s)
{
	s->flights_from = s->flights.tail;
	settle(s);
}

static void count_unacked(struct sender *s)
{
	const uint64_t unacked = s->link.got - s->link.durable;

	s->in->unacked += unacked - s->unacked;
	s->unacked = unacked;
	s->in->host->metric_set(s->in->host, METRIC_UNACKED, (int64_t)s->in->unacked);
}

static void forget(struct sender *s)
{
	struct input *in = s->in;
	void *stream = s->can_resume ? ss_ring_push(&in->forgotten) : NULL;

	if (stream)
		memcpy(stream, s->durable.stream, sizeof(uint64_t));
	if (ss_ring_count(&in->forgotten) > FORGOTTEN_MAX)
		ss_ring_shift(&in->forgotten);
	in->unacked -= s->unacked;
	senders_remove(&in->senders, s);
	in->host->metric_set(in->host, METRIC_SENDERS, in->senders.n);
}

/* Make room: one goes that is not connected and has nothing on its way. */
static bool make_room(struct sender *s)
{
	if (!s)
		return false;
	ss_log(s->in->host, SS_LOG_WARN,
	       "Sender forgotten to make room for another, see max_senders and max_streams; what it sends "
	       "again may arrive twice peer=%s stream=%s",
	       name_of(s), s->stream);
	s->in->host->metric_add(s->in->host, METRIC_FORGOTTEN, 1);
	forget(s);
	return true;
}

/*
 * The stream of a sender among those of this component, in its positions: a digest of its verified name and
 * of what it calls its stream, so that nobody can come up with another's.  A dialer has one sender and one
 * stream.
 */
static void stream_of(const struct input *in, const char *name, const char *stream, uint8_t out[16])
{
	uint8_t text[SENDERS_NAME_MAX + SENDERS_STREAM_MAX], digest[32];
	const size_t len = strlen(name) + 1, more = strlen(stream);

	memset(out, 0, 16);
	if (in->peers.dials)
		return;
	memcpy(text, name, len);
	memcpy(text + len, stream, more);
	ws_tls_digest(text, len + more, digest);
	memcpy(out, digest, 16);
}

/* NULL: no room, with *why. */
static struct sender *sender_of(struct input *in, const char *name, const char *stream, const char **why)
{
	/* a dialer has one sender, by its URL */
	const bool dials = in->peers.dials;
	const char *key = name && !dials ? name : "", *which = dials ? "" : stream;
	struct sender *s = senders_find(&in->senders, key, which);

	if (s)
		return s;
	s = senders_add(&in->senders, key, which);
	/* more than one goes where the limits were higher before */
	while (!s && ((errno == ENOSPC && make_room(senders_oldest(&in->senders))) ||
		      (errno == EMFILE && make_room(senders_oldest_of(&in->senders, key)))))
		s = senders_add(&in->senders, key, which);
	if (!s) {
		*why = errno == ENOSPC   ? "as many senders as max_senders allows are known"
		       : errno == EMFILE ? "its name has as many streams as max_streams allows"
		       : errno == EINVAL ? "its name is too long"
					 : "out of memory";
		return NULL;
	}
	s->in = in;
	stream_of(in, key, which, s->durable.stream);
	in->host->metric_set(in->host, METRIC_SENDERS, in->senders.n);
	return s;
}

/* What is durable of its stream, or was when this process started; NULL: nothing is known. */
static const struct ss_position *where_to_resume(const struct sender *s, struct ss_position *stored)
{
	struct input *in = s->in;

	if (s->can_resume)
		return &s->durable;
	for (uint64_t i = in->forgotten.head; i < in->forgotten.tail; i++)
		if (memcmp(ss_ring_at(&in->forgotten, i), s->durable.stream, sizeof(uint64_t)) == 0)
			return NULL; /* it has delivered more since */
	if (!in->positions || in->positions->resume(in->positions_self, s->durable.stream, stored) < 0)
		return NULL;
	return stored;
}

static void tick(struct sender *s);

/* A link's connection is open: 0, or a close code to refuse it with. */
int link_in_open(struct input *in, struct input_peer *p, const char *stream)
{
	const struct link_window window = {(uint64_t)in->conf->window_records, memory_first_window(in)};
	const uint64_t max_frame = (uint64_t)in->conf->endpoint.max_message;
	const char *why;
	struct sender *s = sender_of(in, p->common.name, stream, &why);
	struct ss_position stored;
	struct link_action a = {0};

	if (!s) {
		ss_log(in->host, SS_LOG_ERROR, "Link refused: no room for another sender, %s peer=%s", why,
		       p->common.name ? p->common.name : "-");
		in->host->metric_add(in->host, METRIC_REFUSED, 1);
		return 1013;
	}
	if (s->peer) {
		s->peer->sender = NULL;
		ws_close(s->peer->common.conn, LINK_REPLACED, "another sender of this name has taken over");
	}
	if (s->failed) {
		/* all that is not durable comes again */
		link_receiver_done(&s->link);
		forget_flights(s);
	}
	s->failed = false;
	s->peer = p;
	p->sender = s;
	senders_return(&in->senders, s);
	s->max_record = max_record(in);
	s->outgrown = false;
	link_receiver_start(&s->link, in->conf->stream ? in->conf->stream : in->host->id, own_name(in),
			    where_to_resume(s, &stored), &window, max_frame, s->max_record,
			    in->loop->now(in->loop_self), &a);
	a.control.attributes = p->provenance.trusted;
	act(s, &a);
	tick(s);
	return 0;
}

/* ---- records ---- */

static struct ss_batch *copy_records(const struct sender *s, const struct link_data *d, uint64_t from)
{
	struct input *in = s->in;
	uint64_t seq = d->first_seq;
	struct ss_batch *b =
		in->host->batch_new(in->host, NULL, d->count, d->records_len ? d->records_len : 1);
	if (!b)
		return NULL;

	memcpy(b->data, d->records, d->records_len);
	const uint8_t *at = b->data;
	for (uint16_t i = 0; i < d->count; i++, seq++) {
		uint64_t time_ns;
		uint32_t len;
		const uint8_t *record = link_record_next(&at, &len, &time_ns);
		if (seq >= from)
			b->events[b->count++] =
				(struct ss_event){.data = record, .len = len, .time_ns = time_ns, .seq = seq};
	}
	provenance_rows(in, &s->peer->provenance, d, b);
	return b;
}

static int deliver(struct sender *s, const struct link_data *d, uint64_t from)
{
	struct input *in = s->in;
	struct ss_position at = s->durable;
	struct ss_batch *b = copy_records(s, d, from);
	int rc = -ENOMEM;

	if (!b)
		return rc;
	at.seq = d->first_seq + d->count - 1;
	uint64_t number = s->flights.tail;
	struct flight *f = ss_ring_push(&s->flights);
	if (f) {
		f->last_seq = at.seq;
		f->bytes = d->len + LINK_DATA_HEADER;
		rc = in->host->track(in->host, b, (uint64_t)s->number << COOKIE_BITS | number, &at);
		if (rc < 0)
			ss_ring_pop(&s->flights);
		if (rc == 0) {
			s->pending++;
			s->in_flight += f->bytes;
			memory_count(s);
			in->host->emit(in->host, 0, b);
		}
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

	int rc = link_data_read(data, len, s->max_record, &d, &why);
	if (rc) {
		in->host->metric_add(in->host, PEER_BAD_MESSAGES, 1);
		a = (struct link_action){.todo = LINK_DO_CLOSE,
					 .why = why,
					 .code = rc == -EMSGSIZE ? LINK_RECORD_TOO_BIG : LINK_BAD_FRAME};
	} else {
		link_receiver_data(&s->link, &d, &a);
	}
	if (a.todo & LINK_DO_DATA) {
		s->used_ns = in->loop->now(in->loop_self);
		s->starved = false;
		peer_meter_add(&s->meter, s->used_ns, d.count);
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
		stored = s->link.has_epoch ? s->link.durable : 0;
		if ((c.type == LINK_WELCOME || c.type == LINK_HB) && c.next)
			s->log_next = c.next;
		s->starved |= c.type == LINK_HB && c.next > s->link.got + 1 && s->link.got == s->link.durable;
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

/* ---- time and acknowledgements ---- */

static void await_acks(struct input *in);

static void on_ack_timer(void *arg)
{
	struct input *in = arg;

	in->ack_timer = 0;
	link_in_tick(in);
	await_acks(in);
}

static void await_acks(struct input *in)
{
	if (in->n_owed && !in->ack_timer)
		in->loop->timer(in->loop_self, LINK_ACK_NS, 0, on_ack_timer, in, &in->ack_timer);
}

static void set_owes(struct sender *s, bool owes)
{
	s->in->n_owed += owes - s->owes;
	s->owes = owes;
	await_acks(s->in);
}

/* So that many links do not spend their time on acknowledgements: each takes longer when there are more. */
static uint64_t ack_pace(const struct input *in)
{
	const uint64_t ns = in->peers.n_live * ACK_EACH_NS;

	return ns < LINK_ACK_NS ? LINK_ACK_NS : ns < ACK_MAX_NS ? ns : ACK_MAX_NS;
}

/* Do what one has to do, and note when it has to again. */
static void tick(struct sender *s)
{
	struct input *in = s->in;
	struct link_action a;

	count_unacked(s);
	if (!s->peer)
		return;
	s->link.ack_ns = ack_pace(in);
	memory_count(s);
	memory_share(s, in->loop->now(in->loop_self));
	do {
		link_receiver_tick(&s->link, in->loop->now(in->loop_self), &a);
		act(s, &a);
	} while (a.todo && !(a.todo & LINK_DO_CLOSE));
	memory_count(s);
	senders_schedule(&in->senders, s, link_receiver_due(&s->link));
	senders_schedule(&in->senders, s, memory_due(s, in->loop->now(in->loop_self)));
	set_owes(s, link_receiver_owes(&s->link));
}

void link_in_tick(struct input *in)
{
	senders_run(&in->senders, in->loop->now(in->loop_self), tick);
}

void link_in_reconfigured(struct input *in)
{
	while (in->senders.n > in->senders.max && make_room(senders_oldest(&in->senders)))
		;
	for (uint32_t i = 0; i < in->senders.n_slots; i++) {
		struct sender *s = in->senders.slots[i];
		if (!s)
			continue;
		s->outgrown = s->peer && s->max_record > max_record(in);
		memory_count(s);
	}
	for (uint32_t i = 0; i < in->senders.n_slots; i++)
		if (in->senders.slots[i])
			tick(in->senders.slots[i]);
}

const struct sender *link_in_longest_away(const struct input *in)
{
	return TAILQ_FIRST(&in->senders.away);
}

const char *link_in_name(const struct sender *s)
{
	return s->name->text[0] ? s->name->text : "the sender";
}

/* ---- a link's connection ---- */

void link_in_message(struct input *in, struct input_peer *p, bool binary, const uint8_t *data, size_t len)
{
	struct sender *s = p->sender;

	(void)in;
	if (!s)
		return; /* replaced, its closing is under way */
	if (binary)
		on_data(s, data, len);
	else
		on_control(s, data, len);
	tick(s);
}

/* One that was never live, and has sent nothing, is not worth a place. */
static void leave(struct sender *s)
{
	struct input *in = s->in;

	s->peer = NULL;
	s->left_wall_ns = peers_wall_ns();
	memory_count(s);
	set_owes(s, false);
	if (s->can_resume)
		senders_leave(&in->senders, s, in->loop->now(in->loop_self));
	else
		forget(s);
}

void link_in_closed(struct input *in, struct input_peer *p, int code, bool by_peer, const char *why)
{
	if (p->sender) {
		free(p->sender->last_error);
		p->sender->last_error = peers_error(code, by_peer, why);
		leave(p->sender);
	}
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

void link_in_acked(struct input *in, uint64_t cookie, int32_t status)
{
	const uint64_t number = cookie & ((UINT64_C(1) << COOKIE_BITS) - 1);
	struct sender *s = senders_at(&in->senders, cookie >> COOKIE_BITS);

	if (!s || number < s->flights.head || number >= s->flights.tail)
		return;
	struct flight *f = ss_ring_at(&s->flights, number);
	f->over = true;
	s->in_flight -= f->bytes;
	memory_count(s);
	f->failed = status == SS_FAILED;
	s->pending--;
	if (f->failed && number >= s->flights_from) {
		/* it must come again: nothing after it is acknowledged, and the link starts over from there
		 */
		s->failed = true;
		if (s->peer)
			ws_close(s->peer->common.conn, 1011, "events could not be stored");
		return;
	}
	settle(s);
	link_receiver_durable(&s->link, s->durable.seq);
	tick(s);
}

/* The last acknowledgement, before the connection is closed. */
void link_in_stop(struct input *in)
{
	struct link_action a;

	for (uint32_t i = 0; i < in->senders.n_slots; i++) {
		struct sender *s = in->senders.slots[i];
		if (!s || !s->peer)
			continue;
		/* the first answer is an ACK, if one is due: what the sender does not know it may count as
		 * lost */
		link_receiver_bye(&s->link, in->loop->now(in->loop_self), 0, "shutting down", &a);
		act(s, &a);
	}
}
