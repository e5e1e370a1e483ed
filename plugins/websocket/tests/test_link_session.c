/* SPDX-License-Identifier: MIT */
/* link_session: every message in every state, where a stream begins, windows, acknowledgements, clocks,
 * goodbyes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "plugins/websocket/link/link_session.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define SECOND       1000000000ull
#define MS           1000000ull

static const uint8_t ours[16] = {1}, other[16] = {2};
static const struct link_window window = {10, 1000};

static struct link_control hello(uint64_t resume)
{
	struct link_control c = {.type = LINK_HELLO,
				 .consumer = "c",
				 .window = window,
				 .max_frame = 500,
				 .max_record = 100,
				 .has_resume = resume != UINT64_MAX,
				 .resume.seq = resume};
	memcpy(c.resume.epoch, ours, 16);
	return c;
}

static struct link_control welcome(const uint8_t *epoch, uint64_t first, uint64_t next)
{
	struct link_control c = {.type = LINK_WELCOME,
				 .first = first,
				 .next = next,
				 .max_frame = 500,
				 .max_record = 100,
				 .heartbeat_ms = 20000};
	memcpy(c.epoch, epoch, 16);
	return c;
}

static struct link_control ack(uint64_t seq, uint64_t bytes, uint64_t records, uint64_t window_bytes)
{
	return (struct link_control){
		.type = LINK_ACK, .seq = seq, .bytes = bytes, .window = {records, window_bytes}};
}

static struct sendlog_view view(uint64_t first, uint64_t next, uint64_t cursor)
{
	struct sendlog_view v = {.first = first, .next = next, .cursor = cursor};
	memcpy(v.epoch, ours, 16);
	return v;
}

static struct link_action to_sender(struct link_sender *s, struct link_control c,
				    const struct sendlog_view *v)
{
	struct link_action out;
	link_sender_control(s, &c, NULL, v, 1000, 50, 20000, &out);
	return out;
}

static struct link_action to_receiver(struct link_receiver *r, struct link_control c)
{
	struct link_action out;
	link_receiver_control(r, &c, &out);
	return out;
}

static struct link_action data(struct link_receiver *r, uint64_t first, uint16_t count, size_t message)
{
	struct link_data d = {.count = count, .first_seq = first, .len = message - LINK_DATA_HEADER};
	struct link_action out;
	link_receiver_data(r, &d, &out);
	return out;
}

static struct link_action tick(struct link_receiver *r, uint64_t now)
{
	struct link_action out;
	link_receiver_tick(r, now, &out);
	return out;
}

static struct link_sender live_sender(uint64_t sent)
{
	struct link_sender s;
	struct sendlog_view v = view(1, 100, 0);
	link_sender_start(&s, 0);
	assert_int_equal(to_sender(&s, hello(UINT64_MAX), &v).todo,
			 LINK_DO_SEND | LINK_DO_LIVE | LINK_DO_ACKED);
	link_sender_sent(&s, sent, 200);
	return s;
}

static struct link_receiver new_receiver(const struct ss_position *resume)
{
	struct link_receiver r = {0};
	struct link_action out;
	link_receiver_start(&r, "s", "c", resume, &window, 500, 100, 0, &out);
	assert_int_equal(out.todo, LINK_DO_SEND);
	return r;
}

static struct link_receiver live_receiver(void)
{
	struct link_receiver r = new_receiver(NULL);
	assert_int_equal(to_receiver(&r, welcome(ours, 1, 100)).todo, LINK_DO_LIVE);
	return r;
}

/* ---- every message in every state ---- */

/* B bad: 4400; . nothing; what else is asked for by a letter: G goes live, A acked, N nack, C closes with
 * 1000, D data, L lost, X drains */
static const char columns[] = "data hello welcome ack lost nack hb bye";
static const char *const sender_matrix[LINK_STATES] = {
	[LINK_START] = "BBBBBBBB",      [LINK_WAIT_HELLO] = "BGBBBBBC", [LINK_WAIT_WELCOME] = "BBBBBBBB",
	[LINK_LIVE_STATE] = "BBBABN.C", [LINK_DRAINING] = "BBBBBBBB",   [LINK_LEAVING] = "B.BABN.C",
	[LINK_CLOSED] = "........",
};
static const char *const receiver_matrix[LINK_STATES] = {
	[LINK_START] = "BBBBBBBB",      [LINK_WAIT_HELLO] = "BBBBBBBB", [LINK_WAIT_WELCOME] = "BBGBBBBC",
	[LINK_LIVE_STATE] = "DBBBLB.X", [LINK_DRAINING] = "BBBBBB.B",   [LINK_LEAVING] = ".B.B.B.C",
	[LINK_CLOSED] = "........",
};

static struct link_control message(int type)
{
	switch (type) {
	case LINK_HELLO:
		return hello(UINT64_MAX);
	case LINK_WELCOME:
		return welcome(ours, 1, 100);
	case LINK_ACK:
		return ack(3, 100, 10, 1000);
	case LINK_LOST:
		return (struct link_control){.type = LINK_LOST, .from = 1, .to = 3};
	case LINK_NACK:
		return (struct link_control){.type = LINK_NACK, .seq = 2};
	default:
		return (struct link_control){.type = (enum link_type)type};
	}
}

static void expect(char letter, const struct link_action *out, enum link_state before, enum link_state after,
		   const char *end, int state, int type)
{
	static const struct {
		char letter;
		uint32_t todo;
		int code;
	} meaning[] = {
		{'B', LINK_DO_CLOSE, LINK_BAD_FRAME},
		{'.', 0, 0},
		{'G', LINK_DO_LIVE, 0},
		{'A', LINK_DO_ACKED, 0},
		{'N', LINK_DO_NACK, 0},
		{'C', LINK_DO_CLOSE | LINK_DO_BYE, LINK_OK},
		{'D', LINK_DO_DATA, 0},
		{'L', LINK_DO_LOST, 0},
		{'X', LINK_DO_BYE, 0},
	};
	for (unsigned i = 0; i < COUNT(meaning); i++) {
		if (meaning[i].letter != letter)
			continue;
		enum link_state then = letter == 'B' || letter == 'C' ? LINK_CLOSED
				       : letter == 'G'                ? LINK_LIVE_STATE
				       : letter == 'X'                ? LINK_DRAINING
								      : before;
		uint32_t todo = out->todo;
		if (letter == 'G')
			todo &= ~(uint32_t)(LINK_DO_SEND | LINK_DO_ACKED);
		if (todo != meaning[i].todo || out->code != meaning[i].code || after != then)
			fail_msg("%s in state %d, column %d of \"%s\": todo %u code %d state %d", end, state,
				 type, columns, out->todo, out->code, after);
		return;
	}
	fail_msg("no such letter");
}

static void test_every_message_in_every_state(void **state)
{
	(void)state;
	struct sendlog_view v = view(1, 100, 0);
	for (int st = 0; st < LINK_STATES; st++) {
		for (int type = 0; type < LINK_COLUMNS; type++) {
			struct link_action out;
			struct link_sender s = live_sender(5);
			s.state = (enum link_state)st;
			if (type)
				out = to_sender(&s, message(type), &v);
			else
				link_sender_data(&s, &out);
			expect(sender_matrix[st][type], &out, (enum link_state)st, s.state, "sender", st,
			       type);

			struct link_receiver r = live_receiver();
			r.state = (enum link_state)st;
			out = type ? to_receiver(&r, message(type)) : data(&r, 1, 3, 100);
			expect(receiver_matrix[st][type], &out, (enum link_state)st, r.state, "receiver", st,
			       type);
		}
	}
}

/* ---- where the stream begins ---- */

static void test_sender_begins(void **state)
{
	(void)state;
	enum { NONE = -1, OTHER = -2 };
	static const struct {
		int64_t resume;
		uint64_t first, next, cursor;
		bool known;
		uint64_t begin, lost_to;
	} cases[] = {
		{NONE, 1, 1, 0, false, 1, 0},       /* both are new */
		{NONE, 40, 977, 0, false, 40, 0},   /* a new consumer: the oldest there is */
		{NONE, 40, 977, 0, true, 1, 39},    /* known, never acknowledged */
		{NONE, 40, 977, 60, false, 61, 0},  /* what it acknowledged does not come again */
		{NONE, 40, 977, 20, false, 21, 39}, /* retention took some */
		{41, 40, 977, 39, false, 42, 0},    /* died before the ACK: resume wins */
		{41, 40, 977, 60, false, 61, 0},    /* acknowledged and filtered: the cursor wins */
		{10, 40, 977, 5, false, 11, 39},      {10, 40, 977, 0, false, 11, 39},
		{0, 40, 977, 0, false, 1, 39},    /* knows the epoch, has nothing */
		{976, 40, 977, 0, false, 977, 0}, /* has all */
		{976, 977, 977, 976, false, 977, 0},  {500, 977, 977, 0, false, 501, 976},
		{NONE, 40, 977, 2000, false, 977, 0}, /* a cursor beyond the end */
		{OTHER, 40, 977, 0, false, 40, 0},    {OTHER, 40, 977, 50, false, 51, 0},
	};
	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct link_sender s;
		struct sendlog_view v = view(cases[i].first, cases[i].next, cases[i].cursor);
		struct link_control c = hello(cases[i].resume == NONE    ? UINT64_MAX
					      : cases[i].resume == OTHER ? 2000
									 : (uint64_t)cases[i].resume);
		if (cases[i].resume == OTHER)
			memcpy(c.resume.epoch, other, 16);
		v.known = cases[i].known;
		link_sender_start(&s, 0);
		struct link_action out = to_sender(&s, c, &v);
		if (out.control.first != cases[i].begin || out.seq != cases[i].begin - 1 ||
		    s.sent != out.seq || !!(out.todo & LINK_DO_LOST) != !!cases[i].lost_to ||
		    out.to != cases[i].lost_to || (cases[i].lost_to && out.from != cases[i].begin))
			fail_msg("case %u: first %llu, lost %llu..%llu", i,
				 (unsigned long long)out.control.first, (unsigned long long)out.from,
				 (unsigned long long)out.to);
		assert_int_equal(out.control.type, LINK_WELCOME);
		assert_int_equal(out.control.next, cases[i].next);
		assert_int_equal(out.control.max_frame, 500);
		assert_int_equal(out.control.max_record, 50);
		assert_memory_equal(out.control.epoch, ours, 16);
		if (out.todo & LINK_DO_LOST) {
			link_sender_lost(&s, out.to, "retention", &out);
			assert_int_equal(out.todo, LINK_DO_SEND);
			assert_int_equal(out.control.from, cases[i].begin);
			assert_int_equal(out.control.to, cases[i].lost_to);
			assert_int_equal(s.sent, cases[i].lost_to);
		}
	}
}

static void test_log_set_back(void **state)
{
	(void)state;
	struct link_sender s;
	struct sendlog_view v = view(1, 40, 0);
	link_sender_start(&s, 0);
	struct link_action out = to_sender(&s, hello(40), &v);
	assert_int_equal(out.todo, LINK_DO_CLOSE | LINK_DO_RENEW);
	assert_int_equal(out.code, LINK_GAP);

	struct ss_position p = {.epoch = {1}, .seq = 40};
	struct link_receiver r = new_receiver(&p);
	out = to_receiver(&r, welcome(ours, 30, 40));
	assert_int_equal(out.todo, LINK_DO_CLOSE);
	assert_int_equal(out.code, LINK_GAP);
	r = new_receiver(&p);
	assert_int_equal(to_receiver(&r, welcome(ours, 41, 41)).todo, LINK_DO_LIVE);
}

/* A log whose epoch is new, but goes on where the old one ended. */
static void test_epoch_goes_on(void **state)
{
	(void)state;
	static const struct {
		uint64_t resume, past, first, next, cursor, begin, told; /* told: welcome's resume.seq */
	} cases[] = {
		{41, 60, 40, 977, 39, 42, 60}, /* what it has counts */
		{41, 60, 40, 977, 50, 51, 60},
		{90, 60, 40, 977, 39, 61, 60}, /* but not beyond the old epoch */
		{2000, 60, 40, 977, 39, 61, 60},
		{60, 60, 40, 61, 0, 61, 60},
		{10, 60, 40, 977, 0, 11, 60}, /* and LOST */
		{41, 0, 40, 977, 39, 40, 0},
		{41, 0, 40, 977, 0, 40, 0}, /* an epoch nobody knows */
	};
	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct link_sender s;
		struct sendlog_view v = view(cases[i].first, cases[i].next, cases[i].cursor);
		struct link_control c = hello(cases[i].resume);
		memcpy(c.resume.epoch, other, 16);
		v.past = cases[i].past;
		link_sender_start(&s, 0);
		struct link_action out = to_sender(&s, c, &v);
		if (!(out.todo & LINK_DO_LIVE) || out.control.first != cases[i].begin ||
		    out.seq != cases[i].begin - 1 || out.control.has_resume != !!cases[i].told ||
		    out.control.resume.seq != cases[i].told)
			fail_msg("case %u: first %llu", i, (unsigned long long)out.control.first);
		assert_int_equal(!!(out.todo & LINK_DO_LOST), cases[i].begin < cases[i].first);
		if (cases[i].told)
			assert_memory_equal(out.control.resume.epoch, other, 16);
	}

	/* the receiver keeps what is on its way */
	struct ss_position p = {.seq = 41};
	memcpy(p.epoch, other, 16);
	for (unsigned more = 0; more < 2; more++) {
		struct link_receiver r = new_receiver(&p);
		assert_int_equal(to_receiver(&r, welcome(other, 42, 100)).todo, LINK_DO_LIVE);
		assert_int_equal(data(&r, 42, more ? 3 : 2, 100).todo, LINK_DO_DATA);
		struct link_action out;
		link_receiver_start(&r, "s", "c", NULL, &window, 500, 100, 0, &out);
		assert_int_equal(out.control.resume.seq, 41);
		struct link_control w = welcome(ours, 42, 100);
		w.has_resume = true;
		w.resume = (struct ss_position){.seq = 43};
		memcpy(w.resume.epoch, other, 16);
		out = to_receiver(&r, w);
		/* 44 of the old epoch is not 44 of this one */
		assert_int_equal(out.todo, more ? LINK_DO_LIVE | LINK_DO_RESTART : LINK_DO_LIVE);
		assert_memory_equal(r.epoch, ours, 16);
		assert_int_equal(r.got, more ? 41 : 43);
		out = data(&r, 42, 3, 100);
		assert_int_equal(out.todo, LINK_DO_DATA);
		assert_int_equal(out.from, more ? 42 : 44);
		assert_int_equal(out.duplicates, more ? 0 : 2);
		link_receiver_durable(&r, 43);
		assert_int_equal(r.durable, 43);
	}
}

static void test_names(void **state)
{
	(void)state;
	struct link_control c = hello(UINT64_MAX);
	char name[LINK_NAME_MAX], long_name[200];
	link_sender_name(&c, "certified", name);
	assert_string_equal(name, "certified");
	link_sender_name(&c, NULL, name);
	assert_string_equal(name, "c");
	memset(long_name, 'x', sizeof long_name);
	long_name[LINK_NAME_MAX] = '\0';
	link_sender_name(&c, long_name, name);
	assert_string_equal(name, "");

	struct link_sender s;
	struct sendlog_view v = view(1, 1, 0);
	c.consumer[0] = '\0';
	link_sender_start(&s, 0);
	struct link_action out = to_sender(&s, c, &v);
	assert_int_equal(out.todo, LINK_DO_CLOSE);
	assert_int_equal(out.code, LINK_FORBIDDEN);
}

static void test_another_epoch(void **state)
{
	(void)state;
	struct ss_position p = {.epoch = {1}, .seq = 41};
	struct link_receiver r = new_receiver(&p);
	struct link_action out = to_receiver(&r, welcome(other, 5, 9));
	assert_int_equal(out.todo, LINK_DO_LIVE | LINK_DO_RESTART);
	assert_int_equal(out.seq, 41);
	assert_int_equal(r.got, 4);
	assert_int_equal(r.durable, 4);
	assert_memory_equal(r.epoch, other, 16);
	out = data(&r, 5, 2, 100);
	assert_int_equal(out.todo, LINK_DO_DATA);
	assert_int_equal(out.from, 5);
}

/* ---- what a receiver takes ---- */

static void test_gaps_and_duplicates(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	struct link_action out = data(&r, 1, 3, 100);
	assert_int_equal(out.from, 1);
	assert_int_equal(out.duplicates, 0);
	out = data(&r, 2, 4, 100); /* 2, 3 again, 4, 5 new */
	assert_int_equal(out.todo, LINK_DO_DATA);
	assert_int_equal(out.from, 4);
	assert_int_equal(out.duplicates, 2);
	out = data(&r, 1, 2, 100);
	assert_int_equal(out.todo, 0);
	assert_int_equal(out.duplicates, 2);
	out = data(&r, 7, 1, 100);
	assert_int_equal(out.todo, LINK_DO_CLOSE);
	assert_int_equal(out.code, LINK_GAP);

	link_receiver_done(&r);
	r = live_receiver();
	out = to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 2, .to = 3});
	assert_int_equal(out.code, LINK_GAP);
	link_receiver_done(&r);
	r = live_receiver();
	data(&r, 1, 3, 100);
	out = to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 2, .to = 9});
	assert_int_equal(out.todo, LINK_DO_LOST);
	assert_int_equal(out.from, 4);
	assert_int_equal(out.to, 9);
	out = to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 2, .to = 9});
	assert_int_equal(out.todo, 0);
	assert_int_equal(r.got, 9);
	link_receiver_done(&r);
}

static void test_receiver_limits(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	assert_int_equal(data(&r, 1, 10, 500).todo, LINK_DO_DATA);
	assert_int_equal(data(&r, 11, 1, 33).code, LINK_CREDIT); /* the eleventh */
	link_receiver_done(&r);
	r = live_receiver();
	data(&r, 1, 1, 500);
	assert_int_equal(data(&r, 2, 1, 500).todo, LINK_DO_DATA); /* 1000 bytes */
	assert_int_equal(data(&r, 3, 1, 32).code, LINK_CREDIT);
	link_receiver_done(&r);
	r = live_receiver();
	data(&r, 1, 1, 500);
	data(&r, 2, 1, 479);
	assert_int_equal(data(&r, 3, 1, 22).code, LINK_CREDIT); /* 1001 */
	link_receiver_done(&r);
	r = live_receiver();
	assert_int_equal(data(&r, 1, 1, 501).code, LINK_TOO_BIG);
	link_receiver_done(&r);
	r = new_receiver(NULL);
	struct link_control c = welcome(ours, 1, 1);
	c.max_record = 101;
	assert_int_equal(to_receiver(&r, c).code, LINK_BAD_FRAME);
	link_receiver_done(&r);
	r = new_receiver(NULL);
	c = welcome(ours, 1, 1);
	c.max_frame = 501;
	assert_int_equal(to_receiver(&r, c).code, LINK_BAD_FRAME);

	struct link_action out;
	struct link_receiver fresh = {0};
	link_receiver_start(&fresh, "", "", NULL, &(struct link_window){10, 0}, 500, 100, 0, &out);
	assert_int_equal(out.todo, LINK_DO_CLOSE);
	link_receiver_start(&fresh, "", "", NULL, &window, 131, 100, 0, &out);
	assert_int_equal(out.todo, LINK_DO_CLOSE);
	link_receiver_start(&fresh, "", "", NULL, &(struct link_window){1, 132}, 132, 100, 0, &out);
	assert_int_equal(out.todo, LINK_DO_SEND);
	link_receiver_done(&r);
}

static void test_sender_credit(void **state)
{
	(void)state;
	struct link_sender s = live_sender(5); /* 200 bytes */
	uint64_t records, bytes;
	link_sender_credit(&s, &records, &bytes);
	assert_int_equal(records, 5);
	assert_int_equal(bytes, 800);
	struct link_action out = to_sender(&s, ack(3, 120, 10, 1000), NULL);
	assert_int_equal(out.todo, LINK_DO_ACKED);
	assert_int_equal(out.seq, 3);
	link_sender_credit(&s, &records, &bytes);
	assert_int_equal(records, 8);
	assert_int_equal(bytes, 920);
	assert_int_equal(to_sender(&s, ack(3, 120, 0, 0), NULL).todo, 0); /* pause */
	link_sender_credit(&s, &records, &bytes);
	assert_int_equal(records, 0);
	assert_int_equal(bytes, 0);
	to_sender(&s, ack(5, 200, LINK_SEQ_MAX, LINK_SEQ_MAX), NULL);
	link_sender_credit(&s, &records, &bytes);
	assert_int_equal(records, LINK_SEQ_MAX);
	assert_int_equal(bytes, LINK_SEQ_MAX);

	static const struct link_control bad[] = {
		{.type = LINK_ACK, .seq = 6, .bytes = 100},
		{.type = LINK_ACK, .seq = 5, .bytes = 201},
		{.type = LINK_ACK, .seq = 2, .bytes = 200},
		{.type = LINK_ACK, .seq = 5, .bytes = 119},
		{.type = LINK_NACK, .seq = 3},
		{.type = LINK_NACK, .seq = 6},
	};
	for (unsigned i = 0; i < COUNT(bad); i++) {
		s = live_sender(5);
		to_sender(&s, ack(3, 120, 10, 1000), NULL);
		assert_int_equal(to_sender(&s, bad[i], NULL).code, LINK_BAD_FRAME);
	}
}

/* ---- what a receiver acknowledges ---- */

static void assert_ack(struct link_action out, uint64_t seq, uint64_t bytes)
{
	assert_int_equal(out.todo, LINK_DO_SEND);
	assert_int_equal(out.control.type, LINK_ACK);
	assert_int_equal(out.control.seq, seq);
	assert_int_equal(out.control.bytes, bytes);
	assert_int_equal(out.control.window.records, 10);
	assert_int_equal(out.control.window.bytes, 1000);
}

static void test_ack_times(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	data(&r, 1, 2, 100);
	assert_int_equal(tick(&r, SECOND).todo, 0); /* nothing is durable yet */
	link_receiver_durable(&r, 1);
	assert_ack(tick(&r, SECOND), 1, 0); /* a part of a message releases no bytes */
	link_receiver_durable(&r, 2);
	assert_int_equal(tick(&r, SECOND + 49 * MS).todo, 0);
	assert_ack(tick(&r, SECOND + 50 * MS), 2, 100);
	assert_int_equal(tick(&r, SECOND + 200 * MS).todo, 0); /* nothing new */
	data(&r, 3, 5, 100);
	link_receiver_durable(&r, 6);
	assert_ack(tick(&r, SECOND + 200 * MS), 6, 100); /* 50 ms have passed */
	link_receiver_durable(&r, 7);
	data(&r, 8, 4, 400);
	link_receiver_durable(&r, 10);
	assert_int_equal(tick(&r, SECOND + 201 * MS).todo, 0);
	link_receiver_durable(&r, 11); /* half of the window in records: 11 - 6 */
	assert_ack(tick(&r, SECOND + 201 * MS), 11, 600);
	data(&r, 12, 1, 500);
	link_receiver_durable(&r, 12); /* half of the window in bytes */
	assert_ack(tick(&r, SECOND + 202 * MS), 12, 1100);
	link_receiver_durable(&r, 5000); /* no more than it got */
	assert_int_equal(tick(&r, 2 * SECOND).todo, 0);
}

static void test_lost_is_acknowledged(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 1, .to = 40});
	assert_ack(tick(&r, SECOND), 40, 0); /* at once: nothing is before it */
	data(&r, 41, 2, 100);
	to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 43, .to = 50});
	to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 51, .to = 60});
	assert_int_equal(tick(&r, 2 * SECOND).todo, 0);
	link_receiver_durable(&r, 42);
	assert_ack(tick(&r, 2 * SECOND), 60, 100);
}

/* On its way downstream from an earlier connection, and gone from the sender's log meanwhile. */
static void test_lost_behind_what_is_on_its_way(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	struct link_action out;
	data(&r, 1, 8, 400);
	link_receiver_durable(&r, 2);
	link_receiver_start(&r, "s", "c", NULL, &window, 500, 100, 0, &out);
	assert_true(out.control.has_resume);
	assert_int_equal(out.control.resume.seq, 2);
	assert_int_equal(to_receiver(&r, welcome(ours, 3, 100)).todo, LINK_DO_LIVE);
	out = data(&r, 3, 2, 100);
	assert_int_equal(out.todo, 0);
	assert_int_equal(out.duplicates, 2);
	out = to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 5, .to = 20});
	assert_int_equal(out.from, 9);
	assert_int_equal(out.to, 20);
	link_receiver_durable(&r, 4);
	assert_ack(tick(&r, SECOND), 4, 100);
	link_receiver_durable(&r, 8);
	assert_ack(tick(&r, 2 * SECOND), 20, 100);
}

/* More messages on their way than there are marks: released late, but released. */
static void test_many_messages(void **state)
{
	(void)state;
	struct link_receiver r = {0};
	struct link_action out;
	link_receiver_start(&r, "", "", NULL, &(struct link_window){1000, 100000}, 500, 100, 0, &out);
	to_receiver(&r, welcome(ours, 1, 1000));
	for (uint64_t i = 1; i <= 2 * LINK_MARKS; i++)
		assert_int_equal(data(&r, i, 1, 100).todo, LINK_DO_DATA);
	link_receiver_durable(&r, LINK_MARKS + 10);
	assert_int_equal(r.durable_bytes, (LINK_MARKS - 1) * 100);
	link_receiver_durable(&r, 2 * LINK_MARKS);
	assert_int_equal(r.durable_bytes, 2 * LINK_MARKS * 100);
	assert_int_equal(r.newest.last, 0);
	link_receiver_done(&r);
}

static void test_smaller_window(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	data(&r, 1, 2, 100);
	link_receiver_durable(&r, 2);
	r.window = (struct link_window){0, 0};
	assert_int_equal(tick(&r, SECOND).control.window.records, 0);
	assert_int_equal(data(&r, 3, 8, 400).todo, LINK_DO_DATA); /* was on its way already */
	assert_int_equal(data(&r, 11, 1, 40).code, LINK_CREDIT);
}

/* Bytes that were granted are given up when the sender must have heard of it, and not before. */
static void test_window_given_up(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	assert_int_equal(link_receiver_open(&r), 1000);
	r.window.bytes = 200;
	r.tell_window = true;
	struct link_action a = tick(&r, SECOND);
	assert_int_equal(a.control.type, LINK_ACK);
	assert_int_equal(a.control.window.bytes, 200);
	assert_int_equal(link_receiver_open(&r), 1000);
	/* what was told meanwhile counts as well */
	r.window.bytes = 300;
	r.tell_window = true;
	tick(&r, 2 * SECOND);
	assert_int_equal(data(&r, 1, 1, 280).todo, LINK_DO_DATA);
	r.window.bytes = 100;
	r.tell_window = true;
	tick(&r, 10 * SECOND);
	assert_int_equal(link_receiver_open(&r), 720);
	assert_true(link_receiver_due(&r) <= SECOND + LINK_SHRINK_NS);
	r.pulse.heard = true;
	tick(&r, SECOND + LINK_SHRINK_NS);
	assert_int_equal(link_receiver_open(&r), 20);
	assert_int_equal(data(&r, 2, 1, 40).code, LINK_CREDIT);
	link_receiver_done(&r);
}

/* Reported lost in front of an end of the connection, while records before it were on their way. */
static void test_lost_and_cut(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	struct link_action out;
	data(&r, 1, 2, 100);
	to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 3, .to = 40});
	link_receiver_start(&r, "s", "c", NULL, &window, 500, 100, 0, &out);
	link_receiver_durable(&r, 2);
	assert_int_equal(r.durable, 40);
	to_receiver(&r, welcome(ours, 1, 100));
	assert_int_equal(tick(&r, SECOND).todo, 0); /* nothing of it was seen on this connection */
	assert_int_equal(data(&r, 1, 2, 100).duplicates, 2);
	assert_ack(tick(&r, SECOND), 2, 100);
	assert_int_equal(to_receiver(&r, (struct link_control){.type = LINK_LOST, .from = 3, .to = 40}).todo,
			 0);
	assert_ack(tick(&r, 2 * SECOND), 40, 100);
}

/* The store's position may be of an older epoch than what is on its way. */
static void test_what_is_known_wins(void **state)
{
	(void)state;
	struct ss_position p = {.epoch = {1}, .seq = 41};
	struct link_receiver r = new_receiver(&p);
	struct link_action out;
	to_receiver(&r, welcome(other, 1, 9));
	data(&r, 1, 2, 100);
	link_receiver_start(&r, "s", "c", &p, &window, 500, 100, 0, &out);
	assert_memory_equal(out.control.resume.epoch, other, 16);
	assert_int_equal(out.control.resume.seq, 0);
	assert_int_equal(to_receiver(&r, welcome(other, 1, 9)).todo, LINK_DO_LIVE);
	assert_int_equal(data(&r, 1, 2, 100).duplicates, 2);
}

/* ---- clocks ---- */

static void test_deadlines(void **state)
{
	(void)state;
	struct link_sender s;
	struct link_action out;
	link_sender_start(&s, SECOND);
	link_sender_tick(&s, 11 * SECOND - 1, &out);
	assert_int_equal(out.todo, 0);
	link_sender_tick(&s, 11 * SECOND, &out);
	assert_int_equal(out.code, LINK_TIMEOUT);
	link_sender_tick(&s, 12 * SECOND, &out);
	assert_int_equal(out.todo, 0); /* said once */
	struct link_receiver r = new_receiver(NULL);
	assert_int_equal(tick(&r, 10 * SECOND - 1).todo, 0);
	assert_int_equal(tick(&r, 10 * SECOND).code, LINK_TIMEOUT);
}

static void test_heartbeats(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	struct link_sender s = live_sender(5);
	struct link_action out;
	assert_int_equal(tick(&r, 100 * SECOND).todo, 0);
	assert_int_equal(tick(&r, 120 * SECOND).control.type, LINK_HB);
	to_receiver(&r, (struct link_control){.type = LINK_HB});
	assert_int_equal(tick(&r, 140 * SECOND).control.type, LINK_HB);
	assert_int_equal(tick(&r, 185 * SECOND - 1).control.type, LINK_HB);
	assert_int_equal(tick(&r, 185 * SECOND).code, LINK_SILENT);

	link_sender_tick(&s, 100 * SECOND, &out);
	assert_int_equal(out.todo, 0);
	link_sender_tick(&s, 120 * SECOND, &out);
	assert_int_equal(out.control.type, LINK_HB);
	assert_int_equal(out.control.next, 100);
	link_sender_sent(&s, 150, 100);
	link_sender_tick(&s, 140 * SECOND, &out);
	assert_int_equal(out.control.next, 151);
	s.pulse.heard = true; /* a part of a long message */
	link_sender_tick(&s, 150 * SECOND, &out);
	assert_int_equal(out.todo, 0);
	link_sender_tick(&s, 195 * SECOND - 1, &out);
	assert_int_equal(out.todo, LINK_DO_SEND);
	link_sender_tick(&s, 195 * SECOND, &out);
	assert_int_equal(out.code, LINK_SILENT);
}

/* ---- goodbyes ---- */

static void test_sender_leaves(void **state)
{
	(void)state;
	struct link_sender s = live_sender(5);
	struct link_action out;
	link_sender_bye(&s, SECOND, 2000, "reload", &out);
	assert_int_equal(out.control.type, LINK_BYE);
	assert_int_equal(out.control.retry_ms, 2000);
	assert_string_equal(out.control.reason, "reload");
	uint64_t records, bytes;
	link_sender_credit(&s, &records, &bytes);
	assert_int_equal(records, 0);
	assert_int_equal(to_sender(&s, ack(5, 200, 10, 1000), NULL).seq, 5);
	link_sender_tick(&s, 4 * SECOND - 1, &out);
	assert_int_equal(out.todo, 0);
	link_sender_tick(&s, 4 * SECOND, &out);
	assert_int_equal(out.code, LINK_GOING);

	struct link_receiver r = live_receiver();
	data(&r, 1, 3, 100);
	link_receiver_durable(&r, 1);
	assert_int_equal(to_receiver(&r, (struct link_control){.type = LINK_BYE}).todo, LINK_DO_BYE);
	assert_ack(tick(&r, SECOND), 1, 0);
	assert_int_equal(tick(&r, 2 * SECOND).todo, 0);
	link_receiver_durable(&r, 3);
	out = tick(&r, 2 * SECOND);
	assert_int_equal(out.todo, LINK_DO_SEND | LINK_DO_CLOSE);
	assert_int_equal(out.control.seq, 3);
	assert_int_equal(out.code, LINK_OK);

	r = live_receiver();
	data(&r, 1, 3, 100);
	to_receiver(&r, (struct link_control){.type = LINK_BYE});
	assert_int_equal(tick(&r, SECOND).todo, 0);
	assert_int_equal(tick(&r, 4 * SECOND - 1).todo, 0);
	assert_int_equal(tick(&r, 4 * SECOND).todo, LINK_DO_CLOSE);
}

static void test_receiver_leaves(void **state)
{
	(void)state;
	struct link_receiver r = live_receiver();
	struct link_action out;
	data(&r, 1, 3, 100);
	link_receiver_durable(&r, 3);
	link_receiver_bye(&r, SECOND, 0, "shutdown", &out);
	assert_ack(out, 3, 100);
	link_receiver_bye(&r, SECOND, 0, "shutdown", &out);
	assert_int_equal(out.control.type, LINK_BYE);
	assert_int_equal(data(&r, 4, 1, 100).todo, 0);
	assert_int_equal(r.got, 3); /* not taken: it will come again */
	assert_int_equal(tick(&r, 4 * SECOND).code, LINK_GOING);
	link_receiver_bye(&r, SECOND, 0, "", &out);
	assert_int_equal(out.todo, 0);

	struct link_sender s = live_sender(5);
	out = to_sender(&s, (struct link_control){.type = LINK_BYE}, NULL);
	assert_int_equal(out.todo, LINK_DO_BYE | LINK_DO_CLOSE);
	assert_int_equal(out.code, LINK_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_message_in_every_state),
		cmocka_unit_test(test_sender_begins),
		cmocka_unit_test(test_log_set_back),
		cmocka_unit_test(test_epoch_goes_on),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_another_epoch),
		cmocka_unit_test(test_gaps_and_duplicates),
		cmocka_unit_test(test_receiver_limits),
		cmocka_unit_test(test_sender_credit),
		cmocka_unit_test(test_ack_times),
		cmocka_unit_test(test_lost_is_acknowledged),
		cmocka_unit_test(test_lost_behind_what_is_on_its_way),
		cmocka_unit_test(test_lost_and_cut),
		cmocka_unit_test(test_what_is_known_wins),
		cmocka_unit_test(test_many_messages),
		cmocka_unit_test(test_smaller_window),
		cmocka_unit_test(test_window_given_up),
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_heartbeats),
		cmocka_unit_test(test_sender_leaves),
		cmocka_unit_test(test_receiver_leaves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
