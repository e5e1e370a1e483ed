/* SPDX-License-Identifier: MIT */
/* plain_in - peers without the link protocol: a message is an event, gathered into batches until there is
 * nothing more to read. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/event_fault.h>
#include <semstreams/ext/fields.h>
#include "input.h"

enum { PLAIN_ROWS = 256, PLAIN_BYTES = 64 << 10 };

int plain_in_init(struct input *in)
{
	static const char *const paths[] = {"/type", "/id", "/payload"};
	uint32_t bad;

	return in->fields->compile(in->fields_self, paths, 3, &in->envelope, &bad);
}

void plain_in_flush(struct input *in)
{
	struct ss_batch *b = in->plain;

	in->bad_told = false;
	if (!b)
		return;
	in->plain = NULL;
	in->host->emit(in->host, 0, b);
	in->host->batch_unref(b);
}

static int add_event(struct input *in, const struct input_peer *peer, const void *data, size_t len)
{
	struct timespec now;

	if (in->plain && (in->plain->count == PLAIN_ROWS || in->plain->size - in->plain_used < len))
		plain_in_flush(in);
	if (!in->plain) {
		in->plain = in->host->batch_new(in->host, NULL, PLAIN_ROWS,
						len > PLAIN_BYTES ? len : PLAIN_BYTES);
		in->plain_used = 0;
	}
	if (!in->plain)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME, &now);
	uint8_t *at = in->plain->data + in->plain_used;
	memcpy(at, data, len);
	in->plain->events[in->plain->count++] =
		(struct ss_event){.data = at,
				  .len = (uint32_t)len,
				  .attributes = provenance_attach(in, &peer->provenance, in->plain),
				  .time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
	in->plain_used += len;
	return 0;
}

/* The answer the other program waits for; id stands as it came, a JSON string. */
static void answer(struct input *in, struct ws_conn *conn, const struct ss_field *id)
{
	uint8_t buf[WS_PRE + 512];
	char *text = (char *)buf + WS_PRE;
	uint64_t ms = (uint64_t)time(NULL) * 1000;

	(void)in;
	if (!conn || id->type != SS_JSON_STRING || id->len > 256)
		return;
	int n = snprintf(text, sizeof buf - WS_PRE,
			 "{\"type\":\"ack\",\"id\":\"%.*s\",\"timestamp\":%" PRIu64 "}", (int)id->len,
			 id->text, ms);
	ws_send(conn, false, buf, (size_t)n);
}

/* No envelope.  The log has the first of those that are read in one go. */
static void drop_envelope(struct input *in, const struct peer *peer, const struct ss_event *e, int32_t error,
			  size_t where, const char *what)
{
	char fault[SS_EVENT_FAULT_SIZE];

	in->host->drop(in->host, 0, 1);
	if (in->bad_told)
		return;
	in->bad_told = true;
	ss_event_fault(NULL, e, error, where, fault);
	ss_log(in->host, SS_LOG_WARN, "Messages that are no envelopes are dropped: %s peer=%s%s", what,
	       peer->name ? peer->name : "-", fault);
}

/* A string's text lies between its quotes; an event is JSON and keeps them. */
static void add_envelope(struct input *in, const struct input_peer *from, const uint8_t *data, size_t len)
{
	const struct peer *peer = &from->common;
	const struct ss_event e = {.data = (uint8_t *)data, .len = (uint32_t)len};
	struct ss_field f[3];
	size_t where = 0;

	int32_t error = in->fields->read(in->fields_self, in->envelope, data, len, f, &where);
	if (error < 0) {
		drop_envelope(in, peer, &e, error, where, "not valid JSON");
		return;
	}
	if (f[0].type != SS_JSON_STRING) {
		drop_envelope(in, peer, &e, 0, 0, "without a \"type\" that is a string");
		return;
	}
	if (f[0].len != 4 || memcmp(f[0].text, "data", 4) != 0)
		return;
	if (f[2].type == SS_JSON_MISSING) {
		drop_envelope(in, peer, &e, 0, 0, "without a \"payload\"");
		return;
	}
	size_t quote = f[2].type == SS_JSON_STRING;
	if (add_event(in, from, f[2].text - quote, f[2].len + 2 * quote) < 0)
		in->host->drop(in->host, 1, 1);
	else
		answer(in, peer->conn, &f[1]);
}

void plain_in_message(struct input *in, const struct input_peer *peer, bool binary, const uint8_t *data,
		      size_t len)
{
	if (in->conf->format == FORMAT_ENVELOPE && !binary)
		add_envelope(in, peer, data, len);
	else if (len == 0)
		in->host->drop(in->host, 2, 1);
	else if (add_event(in, peer, data, len) < 0)
		in->host->drop(in->host, 1, 1);
}

void plain_in_done(struct input *in)
{
	in->host->batch_unref(in->plain);
	in->plain = NULL;
}
