/* SPDX-License-Identifier: MIT */
/* publish - batches on their way: published, acknowledged, sent again. */
#include <inttypes.h>
#include <stdlib.h>
#include "plugins/nats/api.h"
#include "plugins/nats/headers.h"
#include "plugins/nats_output/output.h"

enum {
	INDEX_EVERY = 256,  /* messages that may have to be read back */
	HEADERS_ROOM = 2048 /* bytes of headers but the index, about */
};

static struct kept *kept_at(const struct output *o, uint64_t number)
{
	return ss_ring_at(&o->kept, number);
}

static struct sent *sent_at(const struct output *o, uint64_t number)
{
	return ss_ring_at(&o->sent, number);
}

/* ---- batches come and go ---- */

static void give_back(struct output *o, struct kept *k, int32_t status)
{
	struct kept gone = *k;

	o->kept_bytes -= gone.bytes;
	if (gone.place)
		gone.place->holders--;
	ss_ring_shift(&o->kept);
	if (o->batch < o->kept.head)
		o->batch = o->kept.head;
	o->host->done(o->host, gone.batch, status);
}

static void finish_batches(struct output *o)
{
	struct kept *k;

	while ((k = ss_ring_first(&o->kept)) && k->next == k->batch->count && !k->pending)
		give_back(o, k, k->refused ? SS_DROPPED : SS_DELIVERED);
	o->host->metric_set(o->host, METRIC_PENDING, (int64_t)ss_ring_count(&o->sent));
	if (o->busy && o->kept_bytes < (uint64_t)o->conf->max_pending_bytes) {
		o->busy = false;
		o->host->input_ready(o->host);
	}
	if (o->draining && !ss_ring_count(&o->kept)) {
		o->draining = false;
		o->host->drained(o->host);
	}
}

/* Whose events these are: where in which stream, and what stands for it in ids. */
static void identify(struct output *o, struct kept *k)
{
	static const uint64_t no_secret[2];
	struct ss_strbuf text = {0};
	struct ss_position position;
	const char *source;

	if (o->host->position(k->batch, &position, &source) != 0)
		return;
	k->place = positions_place(&o->positions, k->port, source, position.stream);
	if (!k->place)
		return;
	k->place->holders++;
	memcpy(k->epoch, position.epoch, sizeof k->epoch);
	ss_strbuf_printf(&text, "%s %" PRIu32 " %s ", o->host->id, k->port, source);
	ss_strbuf_add(&text, position.stream, sizeof position.stream);
	ss_strbuf_add(&text, position.epoch, sizeof position.epoch);
	ss_hash_bytes(no_secret, 0, text.bytes, text.len, k->id);
	ss_strbuf_done(&text);
}

int32_t publish_take(struct output *o, uint32_t port, struct ss_batch *batch)
{
	struct kept *k = NULL;

	if (o->kept_bytes < (uint64_t)o->conf->max_pending_bytes)
		k = ss_ring_push(&o->kept);
	if (!k) {
		o->busy = true;
		return SS_BUSY;
	}
	const uint64_t forgotten = o->positions.forgotten;
	*k = (struct kept){.batch = batch, .port = port};
	k->bytes = batch->footprint ? batch->footprint : batch->size + batch->count * sizeof *batch->events;
	o->kept_bytes += k->bytes;
	identify(o, k);
	o->host->metric_add(o->host, METRIC_FORGOTTEN, (int64_t)(o->positions.forgotten - forgotten));
	return SS_KEPT;
}

void publish_stop(struct output *o)
{
	struct kept *k;

	while ((k = ss_ring_first(&o->kept)))
		give_back(o, k, SS_FAILED); /* what was stored of it is known at the next start */
	o->sent.head = o->again = o->sent.tail;
	o->batch = o->kept.tail;
}

/* ---- messages ---- */

static void write_id(const struct output *o, const struct kept *k, uint64_t seq, uint64_t number,
		     char out[64])
{
	if (o->conf->writers == WRITERS_MANY && k->place && seq)
		snprintf(out, 64, "%016" PRIx64 "%016" PRIx64 ".%" PRIu64, k->id[0], k->id[1], seq);
	else
		snprintf(out, 64, "%s.%" PRIu64 ".%" PRIu64, o->run, o->sync, number);
}

bool publish_is_ours(const struct output *o, const char *id, uint64_t *number)
{
	const char *dot = strrchr(id, '.');

	if (strncmp(id, o->run, 16) != 0 || id[16] != '.' || !dot)
		return false;
	*number = strtoull(dot + 1, NULL, 10);
	return true;
}

/* What makes the message a link of the chain. */
static bool add_chain(struct output *o, natsMsg *msg)
{
	char text[24];

	if (o->conf->writers == WRITERS_MANY)
		return true;
	snprintf(text, sizeof text, "%" PRIu64, o->sent_seq);
	/* sequences alone would let it in behind a foreign message that has taken the place of the one before
	 * it; of the first one the last message was looked at */
	return natsMsgHeader_Set(msg, "Nats-Expected-Last-Sequence", text) == NATS_OK &&
	       (!o->last_id[0] || natsMsgHeader_Set(msg, "Nats-Expected-Last-Msg-Id", o->last_id) == NATS_OK);
}

static bool add_position(struct output *o, natsMsg *msg, struct kept *k, uint64_t seq)
{
	char text[POSITION_TEXT_MAX];
	bool ok = true;

	if (o->conf->writers == WRITERS_MANY)
		return true;
	if (k->place && seq) {
		k->place->sent.seq = seq;
		memcpy(k->place->sent.epoch, k->epoch, sizeof k->epoch);
		position_write(k->place, k->epoch, seq, text);
		ok = natsMsgHeader_Set(msg, POSITION_HEADER, text) == NATS_OK;
	}
	if (++o->since_index < INDEX_EVERY)
		return ok;
	o->since_index = 0;
	positions_write(&o->positions, &o->index);
	return ok && natsMsgHeader_Set(msg, INDEX_HEADER, ss_strbuf_cstr(&o->index)) == NATS_OK;
}

static natsMsg *make_message(struct output *o, struct kept *k, uint32_t row, uint64_t number,
			     const char *subject, const char *refusal)
{
	const struct ss_event *e = &k->batch->events[row];
	char reply[256], id[64];
	natsMsg *msg = NULL;

	snprintf(reply, sizeof reply, "%s%" PRIu64 "-%" PRIu64, nats_conn_inbox(o->conn), o->sync, number);
	write_id(o, k, e->seq, number, id);
	bool ok = natsMsg_Create(&msg, subject, reply, (const char *)e->data, (int)e->len) == NATS_OK &&
		  natsMsgHeader_Set(msg, "Nats-Msg-Id", id) == NATS_OK && add_chain(o, msg) &&
		  add_position(o, msg, k, e->seq);
	if (ok && o->conf->attributes)
		ok = headers_add(msg, ss_attributes_of(k->batch, e), e->time_ns);
	if (ok && refusal)
		ok = natsMsgHeader_Set(msg, "Semstreams-Refused", refusal) == NATS_OK;
	if (!ok) {
		natsMsg_Destroy(msg);
		return NULL;
	}
	snprintf(o->last_id, sizeof o->last_id, "%s", id);
	return msg;
}

static bool stream_takes(const struct output *o, const char *subject)
{
	for (size_t i = 0; o->subjects[i]; i++)
		if (subject_matches(o->subjects[i], subject))
			return true;
	return false;
}

/* The subject of an event, or of what is refused, with the reason; NULL: it has none. */
static const char *choose_subject(struct output *o, const struct kept *k, uint32_t row, char out[SUBJECT_MAX],
				  const char **refusal)
{
	*refusal = subject_write(&o->subject, k->batch, &k->batch->events[row], out);
	if (!*refusal && !stream_takes(o, out))
		*refusal = "not_of_the_stream";
	if (!*refusal)
		return out;
	return o->conf->refused_subject && stream_takes(o, o->conf->refused_subject)
		       ? o->conf->refused_subject
		       : NULL;
}

static void on_room(void *output)
{
	publish_pump(output);
}

/* Publish an event under its number.  0; -EAGAIN: there is no room now; -EMSGSIZE and -EINVAL (no subject):
 * it never can be; -ENOMEM; -ENOTCONN. */
static int publish(struct output *o, struct kept *k, uint32_t row, uint64_t number)
{
	char buf[SUBJECT_MAX], last_id[64];
	const char *refusal, *subject = choose_subject(o, k, row, buf, &refusal);
	const struct mark before = k->place ? k->place->sent : (struct mark){0};

	if (!subject)
		return -EINVAL;
	if (!nats_conn_room(o->conn, k->batch->events[row].len + HEADERS_ROOM + o->index.len)) {
		nats_conn_on_room(o->conn, on_room);
		return -EAGAIN;
	}
	memcpy(last_id, o->last_id, sizeof last_id);
	natsMsg *msg = make_message(o, k, row, number, subject, refusal);
	natsStatus s = msg ? natsConnection_PublishMsg(nats_conn_handle(o->conn), msg) : NATS_NO_MEMORY;
	natsMsg_Destroy(msg);
	if (s == NATS_OK) {
		o->sent_seq++;
		return 0;
	}
	memcpy(o->last_id, last_id, sizeof last_id);
	o->since_index = INDEX_EVERY;
	if (k->place)
		k->place->sent = before;
	return s == NATS_MAX_PAYLOAD ? -EMSGSIZE : s == NATS_NO_MEMORY ? -ENOMEM : -ENOTCONN;
}

/* ---- sending ---- */

static void refuse(struct output *o, struct kept *k, int error)
{
	o->host->drop(o->host, error == -EMSGSIZE ? REASON_TOO_LONG : REASON_SUBJECT, 1);
	k->refused++;
}

static bool is_final(int error)
{
	return error == -EMSGSIZE || error == -EINVAL;
}

/* The next that was sent already.  0, or an error of publish() that is not final. */
static int send_again(struct output *o)
{
	struct sent *s = sent_at(o, o->again);
	struct kept *k = kept_at(o, s->batch);
	int rc = s->over ? 0 : publish(o, k, s->row, o->again);

	if (is_final(rc)) {
		s->over = true;
		refuse(o, k, rc);
		rc = 0;
	} else if (rc == 0 && !s->over) {
		o->host->metric_add(o->host, METRIC_RESENT, 1);
	}
	if (rc == 0)
		o->again++;
	return rc;
}

static int send_next(struct output *o, struct kept *k)
{
	const struct ss_event *e = &k->batch->events[k->next];

	if (k->place && place_has(k->place, k->epoch, e->seq)) {
		o->host->drop(o->host, REASON_DUPLICATE, 1);
		k->next++;
		return 0;
	}
	struct sent *s = ss_ring_push(&o->sent);
	if (!s)
		return -ENOMEM;
	*s = (struct sent){.batch = o->batch, .row = k->next};
	int rc = publish(o, k, k->next, o->sent.tail - 1);
	if (rc != 0)
		ss_ring_pop(&o->sent);
	if (is_final(rc)) {
		refuse(o, k, rc);
		k->next++;
		return 0;
	}
	if (rc == 0) {
		k->next++;
		k->pending++;
		o->again = o->sent.tail;
	}
	return rc;
}

static bool send_one(struct output *o, int *rc)
{
	if (o->again < o->sent.tail) {
		*rc = send_again(o);
		return true;
	}
	while (o->batch < o->kept.tail && kept_at(o, o->batch)->next == kept_at(o, o->batch)->batch->count)
		o->batch++;
	if (o->batch == o->kept.tail || ss_ring_count(&o->sent) >= (uint64_t)o->conf->max_pending)
		return false;
	*rc = send_next(o, kept_at(o, o->batch));
	return true;
}

/* What is over at the beginning. */
static void shift_sent(struct output *o)
{
	struct sent *s;

	while ((s = ss_ring_first(&o->sent)) && s->over) {
		kept_at(o, s->batch)->pending--;
		ss_ring_shift(&o->sent);
	}
	if (o->again < o->sent.head)
		o->again = o->sent.head;
}

void publish_pump(struct output *o)
{
	int rc = 0;

	if (ss_ring_count(&o->sent) == 0)
		o->progress_ns = now_of(o);
	while (o->state == STATE_SENDING && rc == 0 && send_one(o, &rc))
		;
	shift_sent(o);
	finish_batches(o);
	if (rc == -ENOMEM || rc == -ENOTCONN)
		nats_conn_fail(o->conn, rc == -ENOMEM ? "out of memory" : "the connection takes no message");
}

static void set_over(struct output *o, uint64_t number, bool stored)
{
	struct sent *s = sent_at(o, number);
	struct kept *k = kept_at(o, s->batch);
	const uint64_t seq = k->batch->events[s->row].seq;

	if (s->over)
		return;
	s->over = true;
	if (stored)
		o->host->metric_add(o->host, METRIC_STORED, 1);
	/* one of many may have stored this one and none of those before it */
	if (stored && k->place && seq && o->conf->writers == WRITERS_ONE) {
		k->place->stored.seq = seq;
		memcpy(k->place->stored.epoch, k->epoch, sizeof k->epoch);
	}
}

void publish_stored(struct output *o, uint64_t number)
{
	if (number >= o->sent.tail || number < o->sent.head)
		return;
	if (o->conf->writers == WRITERS_MANY)
		set_over(o, number, true);
	else
		for (uint64_t n = o->sent.head; n <= number; n++)
			set_over(o, n, true);
	o->progress_ns = now_of(o);
	shift_sent(o);
}

/* What another writer of the same events has stored meanwhile. */
static void skip_stored(struct output *o)
{
	for (uint64_t n = o->sent.head; n < o->sent.tail; n++) {
		struct sent *s = sent_at(o, n);
		const struct kept *k = kept_at(o, s->batch);
		const uint64_t seq = k->batch->events[s->row].seq;
		s->over |= k->place && seq && seq <= k->place->stored.seq &&
			   memcmp(k->epoch, k->place->stored.epoch, sizeof k->epoch) == 0;
	}
	shift_sent(o);
}

/* It stores, or has nothing to store. */
static void report_well(struct output *o)
{
	o->wait_ns = 0;
	nats_conn_good(o->conn);
	output_trouble(o, SS_LOG_INFO, "");
}

void publish_begin(struct output *o, uint64_t last_seq)
{
	skip_stored(o);
	positions_rewind(&o->positions);
	o->again = o->sent.head;
	o->stored_seq = o->sent_seq = last_seq;
	o->last_id[0] = '\0';
	o->since_index = INDEX_EVERY;
	o->sync++;
	o->state = STATE_SENDING;
	o->progress_ns = now_of(o);
	if (!ss_ring_count(&o->kept))
		report_well(o);
	publish_pump(o);
}

/* ---- answers ---- */

static void on_refusal(struct output *o, uint64_t number, int code, const char *why)
{
	char text[400];

	switch (code) {
	case API_WRONG_LAST_ID:
	case API_WRONG_LAST_SEQUENCE:
		o->state = STATE_ASKING;
		resume_ask(o);
		return;
	case API_TOO_LONG:
	case API_HEADER_TOO_LONG:
		refuse(o, kept_at(o, sent_at(o, number)->batch), -EMSGSIZE);
		set_over(o, number, false);
		shift_sent(o);
		o->state = STATE_ASKING;
		resume_ask(o);
		return;
	default:
		snprintf(text, sizeof text,
			 "stream \"%.64s\" does not take events: %.120s; they wait, give it more room (nats "
			 "stream "
			 "edit) or remove messages",
			 o->conf->stream, why);
		output_trouble(o, SS_LOG_ERROR, text);
		resume_later(o);
	}
}

/* The common answer, without a parser: {"stream":"S", "seq":5}. */
static bool read_ack(natsMsg *msg, uint64_t *seq)
{
	const char *text = natsMsg_GetData(msg), *found = text ? strstr(text, "\"seq\":") : NULL;

	if (!found || strncmp(text, "{\"stream\":", 10) != 0)
		return false;
	*seq = strtoull(found + 6, NULL, 10);
	return *seq > 0;
}

void publish_answer(struct output *o, const char *token, natsMsg *msg)
{
	char *end = NULL, why[256];
	const uint64_t sync = token ? strtoull(token, &end, 10) : 0;
	const uint64_t number = end && *end == '-' ? strtoull(end + 1, NULL, 10) : UINT64_MAX;
	uint64_t seq;
	int code = 0;

	if (number >= o->sent.head && number < o->sent.tail) {
		if (read_ack(msg, &seq)) {
			if (seq > o->stored_seq)
				o->stored_seq = seq;
			publish_stored(o, number);
			report_well(o);
		} else if (sync == o->sync && o->state == STATE_SENDING) {
			json_decref(api_read(msg, &code, why, sizeof why));
			on_refusal(o, number, code, why);
		}
	}
	natsMsg_Destroy(msg);
}
