/* SPDX-License-Identifier: MIT */
/*
 * link_session: a sender with a log and a receiver with a store, on a connection that is cut at any point, on
 * hosts that crash at any point.  In the end every record is in the store once or was reported lost.
 * LINK_SEED=n runs one schedule, LINK_SCHEDULES=n that many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "plugins/websocket/link/link_session.h"

enum {
	SCHEDULES = 100000,
	STEPS = 250,
	RECORDS = 600,
	EPOCHS = 4,
	QUEUE = 32,
	MAX_RECORD = 60,
	MAX_FRAME = 300
};

struct message {
	bool data;
	uint64_t first;
	uint16_t count;
	size_t bytes;
	struct link_control control;
};
struct queue {
	struct message at[QUEUE];
	unsigned head, count;
};

struct world {
	uint64_t seed, random, now;
	bool connected;
	struct queue to_sender, to_receiver;

	/* the sender's host: what is here outlives a crash, the newer cursor does not */
	unsigned epoch;
	struct sendlog_view log;
	uint64_t durable_cursor;
	struct link_sender sender;

	/* the receiver's host: store and position outlive a crash; the pipe holds what was taken and is not
	 * stored */
	uint8_t stored[EPOCHS][RECORDS], lost[EPOCHS][RECORDS];
	bool has_position;
	struct ss_position position;
	unsigned pipe_epoch, pipe_from, pipe_to;
	uint16_t pipe[RECORDS];
	struct link_receiver receiver;

	unsigned cuts, crashes, duplicates;
};

static uint64_t pick(struct world *w, uint64_t n)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (w->random >> 11) % n;
}

#define CHECK(w, condition)                                                                                  \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			fail_msg("LINK_SEED=%llu: " #condition, (unsigned long long)(w)->seed);              \
	} while (0)

static size_t record_size(uint64_t seq)
{
	return LINK_RECORD_HEADER + seq * 7 % (MAX_RECORD + 1);
}

static struct message *push(struct world *w, struct queue *q)
{
	CHECK(w, q->count < QUEUE);
	return &q->at[(q->head + q->count++) % QUEUE];
}

static void cut(struct world *w)
{
	w->connected = false;
	w->to_sender.count = w->to_receiver.count = 0;
	w->cuts++;
}

static void new_log(struct world *w)
{
	w->log = (struct sendlog_view){.first = 1, .next = 1};
	w->log.epoch[3] = (uint8_t)(w->epoch + 1);
	w->durable_cursor = 0;
}

/* ---- what an end asks for ---- */

static void obey(struct world *w, const struct link_action *out, struct queue *to)
{
	if (out->todo & LINK_DO_SEND)
		*push(w, to) = (struct message){.control = out->control};
	if (out->todo & LINK_DO_CLOSE) {
		CHECK(w, out->code == LINK_OK || out->code == LINK_GOING || out->code == LINK_TIMEOUT ||
				 out->code == LINK_SILENT);
		cut(w);
	}
}

static void obey_sender(struct world *w, const struct link_action *out)
{
	struct link_action more;
	obey(w, out, &w->to_receiver);
	if (out->todo & LINK_DO_LIVE)
		w->log.known = true;
	if (out->todo & LINK_DO_ACKED && out->seq > w->log.cursor)
		w->log.cursor = out->seq;
	if (out->todo & LINK_DO_LOST) {
		link_sender_lost(&w->sender, out->to, "retention", &more);
		obey(w, &more, &w->to_receiver);
	}
}

/* Store n records of the pipe and the position, in one step. */
static void commit(struct world *w, unsigned n)
{
	for (; n && w->pipe_from < w->pipe_to; n--) {
		uint64_t seq = w->pipe[w->pipe_from++];
		w->stored[w->pipe_epoch][seq]++;
		w->has_position = true;
		w->position.seq = seq;
		memset(w->position.epoch, 0, 16);
		w->position.epoch[3] = (uint8_t)(w->pipe_epoch + 1);
		link_receiver_durable(&w->receiver, seq);
	}
}

static void obey_receiver(struct world *w, const struct link_action *out, uint64_t last)
{
	obey(w, out, &w->to_sender);
	if (out->todo & LINK_DO_RESTART || w->pipe_from == w->pipe_to) {
		while (w->pipe_from < w->pipe_to) /* of the old epoch: not to be told to the session */
			w->stored[w->pipe_epoch][w->pipe[w->pipe_from++]]++;
		w->pipe_from = w->pipe_to = 0;
		w->pipe_epoch = w->receiver.has_epoch ? w->receiver.epoch[3] - 1u : 0;
	}
	if (out->todo & LINK_DO_DATA)
		for (uint64_t seq = out->from; seq <= last; seq++)
			w->pipe[w->pipe_to++] = (uint16_t)seq;
	if (out->todo & LINK_DO_LOST)
		for (uint64_t seq = out->from; seq <= out->to; seq++)
			w->lost[w->receiver.epoch[3] - 1][seq] = 1;
	w->duplicates += (unsigned)out->duplicates;
}

/* ---- what may happen ---- */

static void connect_ends(struct world *w)
{
	struct link_action out;
	if (w->connected)
		return;
	w->connected = true;
	link_sender_start(&w->sender, w->now);
	link_receiver_start(&w->receiver, "s", "c", w->has_position ? &w->position : NULL,
			    &(struct link_window){1 + pick(w, 20), 100 + pick(w, 1000)}, MAX_FRAME,
			    MAX_RECORD, w->now, &out);
	obey_receiver(w, &out, 0);
}

static void deliver_to_sender(struct world *w)
{
	if (!w->to_sender.count)
		return;
	struct link_action out;
	struct link_control c = w->to_sender.at[w->to_sender.head].control;
	w->to_sender.head = (w->to_sender.head + 1) % QUEUE;
	w->to_sender.count--;
	link_sender_control(&w->sender, &c, NULL, &w->log, MAX_FRAME, MAX_RECORD, 20000, &out);
	obey_sender(w, &out);
}

static void deliver_to_receiver(struct world *w)
{
	if (!w->to_receiver.count)
		return;
	struct link_action out;
	struct message m = w->to_receiver.at[w->to_receiver.head];
	w->to_receiver.head = (w->to_receiver.head + 1) % QUEUE;
	w->to_receiver.count--;
	if (m.data)
		link_receiver_data(&w->receiver,
				   &(struct link_data){.count = m.count,
						       .first_seq = m.first,
						       .len = m.bytes - LINK_DATA_HEADER},
				   &out);
	else
		link_receiver_control(&w->receiver, &m.control, &out);
	obey_receiver(w, &out, m.first + m.count - 1);
}

static void send_some(struct world *w)
{
	struct link_sender *s = &w->sender;
	struct link_action out;
	uint64_t records, bytes;
	if (!w->connected || w->to_receiver.count > QUEUE - 6)
		return;
	if (s->state == LINK_LIVE_STATE && s->sent + 1 < w->log.first) {
		link_sender_lost(s, w->log.first - 1, "retention", &out);
		obey(w, &out, &w->to_receiver);
	}
	link_sender_credit(s, &records, &bytes);
	uint64_t first = s->sent + 1, most = 1 + pick(w, 8);
	size_t len = LINK_DATA_HEADER;
	uint16_t n = 0;
	while (n < records && n < most && first + n < w->log.next && len + record_size(first + n) <= bytes &&
	       len + record_size(first + n) <= s->max_frame)
		len += record_size(first + n++);
	if (!n)
		return;
	*push(w, &w->to_receiver) = (struct message){.data = true, .first = first, .count = n, .bytes = len};
	link_sender_sent(s, first + n - 1, len);
}

static void tick(struct world *w, uint64_t ns)
{
	struct link_action out;
	w->now += ns;
	if (!w->connected || w->to_sender.count > QUEUE - 6 || w->to_receiver.count > QUEUE - 6)
		return;
	do {
		link_receiver_tick(&w->receiver, w->now, &out);
		obey_receiver(w, &out, 0);
	} while (w->connected && out.todo);
	if (!w->connected)
		return;
	link_sender_tick(&w->sender, w->now, &out);
	obey_sender(w, &out);
}

static void say_goodbye(struct world *w, bool by_sender)
{
	struct link_action out;
	if (!w->connected || w->to_sender.count > QUEUE - 6 || w->to_receiver.count > QUEUE - 6)
		return;
	if (by_sender) {
		link_sender_bye(&w->sender, w->now, 0, "test", &out);
		obey_sender(w, &out);
	} else {
		do {
			link_receiver_bye(&w->receiver, w->now, 0, "test", &out);
			obey_receiver(w, &out, 0);
		} while (out.todo && w->receiver.state == LINK_LIVE_STATE);
	}
}

static void crash_sender(struct world *w)
{
	cut(w);
	w->crashes++;
	w->log.cursor = w->durable_cursor;
}

static void crash_receiver(struct world *w)
{
	cut(w);
	w->crashes++;
	w->pipe_from = w->pipe_to = 0;
	link_receiver_done(&w->receiver);
}

/* Only behind the first contact: what went before was not meant for this consumer. */
static void retention(struct world *w)
{
	if (w->log.known)
		w->log.first += pick(w, w->log.next - w->log.first + 1);
}

static void append(struct world *w)
{
	for (uint64_t n = pick(w, 8); n && w->log.next < RECORDS - 1; n--)
		w->log.next++;
}

static void step(struct world *w)
{
	uint64_t what = pick(w, 1000);
	if (what < 200)
		deliver_to_sender(w);
	else if (what < 500)
		deliver_to_receiver(w);
	else if (what < 650)
		send_some(w);
	else if (what < 740)
		append(w);
	else if (what < 850)
		commit(w, 1 + (unsigned)pick(w, 10));
	else if (what < 930)
		tick(w, pick(w, 60000000));
	else if (what < 960)
		connect_ends(w);
	else if (what < 970)
		cut(w);
	else if (what < 975)
		crash_sender(w);
	else if (what < 981)
		crash_receiver(w);
	else if (what < 985)
		w->durable_cursor = w->log.cursor;
	else if (what < 989)
		retention(w);
	else if (what < 994)
		say_goodbye(w, what & 1);
	else if (what < 995)
		tick(w, pick(w, 60000000000u));
	else if (what < 996 && w->epoch + 1 < EPOCHS) { /* the sender's disk is new */
		cut(w);
		w->epoch++;
		new_log(w);
	}
}

/* Without faults everything comes to an end. */
static void finish(struct world *w)
{
	for (unsigned i = 0; i < 5000; i++) {
		connect_ends(w);
		deliver_to_sender(w);
		deliver_to_receiver(w);
		send_some(w);
		commit(w, RECORDS);
		tick(w, 10000000);
		if (w->sender.state == LINK_LIVE_STATE && w->log.cursor == w->log.next - 1 &&
		    w->pipe_from == w->pipe_to)
			return;
	}
	CHECK(w, !"it does not come to an end");
}

static void judge(struct world *w)
{
	for (unsigned e = 0; e < EPOCHS; e++)
		for (unsigned seq = 0; seq < RECORDS; seq++)
			CHECK(w, w->stored[e][seq] <= 1);
	for (uint64_t seq = 1; seq < w->log.next; seq++)
		CHECK(w, w->stored[w->epoch][seq] + w->lost[w->epoch][seq] == 1);
}

static void run(uint64_t seed, struct world *w)
{
	memset(w, 0, sizeof *w);
	w->seed = seed;
	w->random = (seed + 1) * 0x9e3779b97f4a7c15u;
	w->now = 1;
	new_log(w);
	for (unsigned i = 0; i < STEPS; i++)
		step(w);
	finish(w);
	judge(w);
	link_receiver_done(&w->receiver);
}

static void test_exactly_once(void **state)
{
	(void)state;
	const char *one = getenv("LINK_SEED"), *number = getenv("LINK_SCHEDULES");
	uint64_t from = one ? strtoull(one, NULL, 10) : 1, n = one      ? 1
							       : number ? strtoull(number, NULL, 10)
									: SCHEDULES;
	uint64_t cuts = 0, crashes = 0, duplicates = 0, records = 0;
	struct world *w = malloc(sizeof *w);
	assert_non_null(w);
	for (uint64_t seed = from; seed < from + n; seed++) {
		run(seed, w);
		cuts += w->cuts;
		crashes += w->crashes;
		duplicates += w->duplicates;
		records += w->log.next - 1;
	}
	print_message("seeds %llu to %llu: %llu records, %llu cuts, of these %llu crashes, %llu duplicates "
		      "dropped\n",
		      (unsigned long long)from, (unsigned long long)(from + n - 1),
		      (unsigned long long)records, (unsigned long long)cuts, (unsigned long long)crashes,
		      (unsigned long long)duplicates);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_exactly_once)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
