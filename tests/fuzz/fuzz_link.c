/* SPDX-License-Identifier: MIT */
/*
 * fuzz_link - messages one after another, each behind two bytes of length, to both ends of a link: text if it
 * begins with
 * '{', else data, whose checksum is made right now and then.  The first byte of all says in which state the
 * ends are.
 */
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/crc32c.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"
#include "plugins/websocket/link/link_session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_RECORD = 100, MAX_FRAME = 500 };

static struct ss_reader *reader;

struct ends {
	uint64_t now;
	struct link_sender sender;
	struct link_receiver receiver;
	struct sendlog_view log;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void check(const struct ends *e)
{
	const struct link_receiver *r = &e->receiver;
	uint64_t records, bytes;
	must(r->durable <= r->got && r->taken <= r->got && r->seen <= r->got && r->ack_sent <= r->seen);
	must(r->durable_bytes <= r->got_bytes && r->ack_bytes <= r->durable_bytes &&
	     r->got_bytes <= r->granted_bytes);
	must(ss_ring_count(&r->marks) < LINK_MARKS && r->got <= LINK_SEQ_MAX);
	must(e->sender.acked <= e->sender.sent && e->sender.acked_bytes <= e->sender.sent_bytes);
	link_sender_credit(&e->sender, &records, &bytes);
	must(records <= e->sender.window.records && bytes <= e->sender.window.bytes);
}

/* What is read is written as what was read. */
static void take_text(struct ends *e, const uint8_t *text, size_t len)
{
	struct link_control c, again;
	struct link_action out;
	const char *why = NULL;
	char *back = malloc(LINK_CONTROL_MAX);
	if (back && link_control_read(&fields_service, NULL, reader, text, len, &c, &why) == 0) {
		size_t n = link_control_write(&c, back);
		must(link_control_read(&fields_service, NULL, reader, (uint8_t *)back, n, &again, &why) == 0);
		must(memcmp(&c, &again, sizeof c) == 0);
		link_sender_control(&e->sender, &c, NULL, &e->log, MAX_FRAME, MAX_RECORD, 20000, &out);
		if (out.todo & LINK_DO_LOST)
			link_sender_lost(&e->sender, out.to, "retention", &out);
		else if (e->sender.state == LINK_LIVE_STATE && e->sender.sent + 1 < LINK_SEQ_MAX)
			link_sender_sent(&e->sender, e->sender.sent + 1, 100);
		link_receiver_control(&e->receiver, &c, &out);
		if (out.todo & LINK_DO_LOST)
			must(out.from <= out.to && out.to == e->receiver.got);
	} else {
		must(!back || why);
	}
	free(back);
}

static void take_data(struct ends *e, uint8_t *msg, size_t len)
{
	struct link_data d;
	struct link_action out;
	const char *why;
	if (len > LINK_DATA_HEADER && msg[len - 1] & 1) {
		uint32_t crc = ss_crc32c(0, msg + LINK_DATA_HEADER, len - LINK_DATA_HEADER);
		for (unsigned i = 0; i < 4; i++)
			msg[16 + i] = (uint8_t)(crc >> (24 - 8 * i));
		msg[4] = msg[5] = 0;
		msg[6] = (uint8_t)((len - LINK_DATA_HEADER) >> 8);
		msg[7] = (uint8_t)(len - LINK_DATA_HEADER);
	}
	if (link_data_read(msg, len, MAX_RECORD, &d, &why) == 0) {
		const uint8_t *at = d.records;
		for (unsigned i = 0; i < d.count; i++) {
			uint32_t n;
			uint64_t time_ns;
			const uint8_t *record = link_record_next(&at, &n, &time_ns);
			must(n <= MAX_RECORD && record + n <= msg + len);
		}
		must(at == d.records + d.records_len && (d.has_attributes || at == msg + len));
		for (uint32_t i = 1; d.has_attributes && i <= d.attributes.n_sets; i++) {
			struct ss_attributes set;
			size_t n;
			const uint8_t *bytes = ss_attribute_block_set(&d.attributes, i, &n);
			must(bytes >= at && bytes + n <= msg + len);
			must(ss_attribute_set_read(bytes, n, &set) == 0);
		}
		link_receiver_data(&e->receiver, &d, &out);
		must(out.duplicates <= d.count);
		if (out.todo & LINK_DO_DATA)
			must(out.from == d.first_seq + out.duplicates &&
			     e->receiver.got == d.first_seq + d.count - 1);
	}
}

static void live(struct ends *e)
{
	struct link_control c = {.type = LINK_HELLO,
				 .consumer = "c",
				 .window = {50, 5000},
				 .max_frame = MAX_FRAME,
				 .max_record = MAX_RECORD};
	struct link_action out;
	link_sender_control(&e->sender, &c, NULL, &e->log, MAX_FRAME, MAX_RECORD, 20000, &out);
	c = out.control;
	link_receiver_control(&e->receiver, &c, &out);
}

static void start(struct ends *e, const struct ss_position *resume)
{
	struct link_action out;
	link_receiver_start(&e->receiver, "s", "c", resume, &(struct link_window){50, 5000}, MAX_FRAME,
			    MAX_RECORD, e->now, &out);
	link_sender_start(&e->sender, e->now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!reader && link_control_reader(&fields_service, NULL, &reader))
		abort();
	if (!size)
		return 0;
	struct ends *e = calloc(1, sizeof *e);
	if (!e)
		return 0;
	uint8_t how = data[0];
	e->log = (struct sendlog_view){.first = 1 + (how >> 4), .next = 40, .cursor = how & 4 ? 20 : 0};
	start(e, how & 2 ? &(struct ss_position){.seq = 10} : NULL);
	if (how & 1)
		live(e);
	for (size_t at = 1; at + 2 <= size;) {
		size_t len = (size_t)data[at] << 8 | data[at + 1];
		at += 2;
		len = len < size - at ? len : size - at;
		uint8_t *msg = malloc(len + !len);
		if (!msg)
			break;
		memcpy(msg, data + at, len);
		at += len;
		if (len && msg[0] == '{')
			take_text(e, msg, len);
		else
			take_data(e, msg, len);
		check(e);
		if (len && msg[len - 1] & 2) {
			struct link_action out;
			link_receiver_durable(&e->receiver, e->receiver.got - (msg[len - 1] >> 6));
			link_receiver_tick(&e->receiver, e->now += 60000000, &out);
			link_sender_tick(&e->sender, e->now, &out);
			check(e);
		}
		if (e->receiver.state == LINK_CLOSED && e->sender.state == LINK_CLOSED)
			start(e, NULL);
		free(msg);
	}
	link_receiver_done(&e->receiver);
	free(e);
	return 0;
}
