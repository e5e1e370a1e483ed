/* SPDX-License-Identifier: MIT */
/*
 * plain_out - peers without the link protocol: each event is a message.  Frames are built once, in chunks
 * that all peers share; each peer has a place in them, and one that falls too far behind is cut off.  A write
 * costs much the same whether it carries one message or fifty, so under load messages gather for a while
 * between writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/base/event_fault.h>
#include <semstreams/base/utf8.h>
#include <semstreams/ext/fields.h>
#include "output.h"
#include "plugins/websocket/transport/ws_frames.h"

enum { CHUNK_SIZE = 64 << 10, FRAME_HEADER = 10, ENVELOPE_HEAD = 128 };
/* Waiting makes a write of this many bytes no cheaper. */
enum { GATHER_BYTES = 32 << 10 };
/* As long as `gather` allows it, writing takes at most a hundredth of the time. */
enum { GATHER_SHARE = 100 };

/* ---- chunks ---- */

static void chunk_unref(struct chunk *c)
{
	while (c && --c->refs == 0) {
		struct chunk *next = c->next;
		free(c);
		c = next;
	}
}

/* Room for len bytes behind the tail; a new chunk is linked to the old one. */
static uint8_t *reserve(struct output *out, size_t len)
{
	if (out->tail && out->tail->size - out->tail->len >= len)
		return out->tail->data + out->tail->len;

	size_t size = len > CHUNK_SIZE ? len : CHUNK_SIZE;
	struct chunk *c = malloc(sizeof *c + size);
	if (!c)
		return NULL;
	*c = (struct chunk){.refs = 1, .size = size, .start = out->framed};
	if (out->tail) {
		out->tail->next = c;
		c->refs++;
		chunk_unref(out->tail);
	}
	out->tail = c;
	return c->data;
}

static void commit(struct output *out, size_t len)
{
	out->tail->len += len;
	out->framed += len;
}

/* ---- frames ---- */

static int frame_raw(struct output *out, const struct ss_event *e)
{
	uint8_t *to = reserve(out, FRAME_HEADER + (size_t)e->len);

	if (!to)
		return -ENOMEM;
	size_t head = ws_frame_header(to, ss_utf8_valid(e->data, e->len) ? WS_TEXT : WS_BINARY, e->len);
	memcpy(to + head, e->data, e->len);
	commit(out, head + e->len);
	return 0;
}

/* Text as a JSON string, at most six bytes for one. */
static size_t quote(char *to, const uint8_t *s, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	char *p = to;

	*p++ = '"';
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '"' || s[i] == '\\') {
			*p++ = '\\';
			*p++ = (char)s[i];
		} else if (s[i] < 0x20) {
			memcpy(p, "\\u00", 4);
			p[4] = hex[s[i] >> 4];
			p[5] = hex[s[i] & 15];
			p += 6;
		} else {
			*p++ = (char)s[i];
		}
	}
	*p++ = '"';
	return (size_t)(p - to);
}

/* "attributes":{"origin":"edge","origin_verified":true,...}, and its length, at most attributes_size(). */
static size_t put_attributes(char *to, const struct ss_attributes *set)
{
	static const char *const names[SS_ATTR_COUNT] = {"peer",  "origin", "path",     "address",
							 "input", "error",  "component"};
	static const uint32_t flags[SS_ATTR_COUNT] = {SS_ATTR_PEER_VERIFIED, SS_ATTR_ORIGIN_VERIFIED};
	size_t len = (size_t)sprintf(to, "\"attributes\":{");

	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		if (!a.text)
			continue;
		len += (size_t)sprintf(to + len, "\"%s\":", names[i]);
		len += quote(to + len, (const uint8_t *)a.text, a.len);
		to[len++] = ',';
		if (flags[i])
			len += (size_t)sprintf(to + len, "\"%s_verified\":%s,", names[i],
					       set->flags & flags[i] ? "true" : "false");
	}
	len -= to[len - 1] == ',';
	to[len++] = '}';
	to[len++] = ',';
	return len;
}

static size_t attributes_size(const struct ss_attributes *set)
{
	size_t size = 32;

	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++)
		size += 48 + 2 * (size_t)ss_attribute_get(set, i).len; /* there are no control characters */
	return size;
}

/* {"type":"data","id":"msg-MS-N","timestamp":MS,"attributes":{...},"payload":EVENT}; what is not JSON is
 * wrapped as a string. */
static int frame_envelope(struct output *out, const struct ss_batch *b, const struct ss_event *e)
{
	const struct ss_attributes *set = out->conf->attributes ? ss_attributes_of(b, e) : NULL;
	static const char raw[] = "{\"type\":\"raw_data\",\"data\":", payload[] = "\"payload\":";
	bool json = out->fields->read(out->fields_self, out->any, e->data, e->len, &(struct ss_field){0},
				      NULL) == 0;
	char head[ENVELOPE_HEAD];
	uint64_t ms = e->time_ns / 1000000;

	if (!json && !ss_utf8_valid(e->data, e->len)) {
		out->host->metric_add(out->host, METRIC_NOT_ENVELOPED, 1);
		return -EINVAL;
	}
	int n = snprintf(head, sizeof head,
			 "{\"type\":\"data\",\"id\":\"msg-%" PRIu64 "-%" PRIu64 "\",\"timestamp\":%" PRIu64
			 ",",
			 ms, ++out->message, ms);
	size_t most = (size_t)n + (set ? attributes_size(set) : 0) + sizeof payload +
		      (json ? e->len : sizeof raw + 2 + 6 * (size_t)e->len + 1) + 1;
	char *text = malloc(most);
	if (!text)
		return -ENOMEM;
	memcpy(text, head, (size_t)n);
	size_t len = (size_t)n;
	if (set)
		len += put_attributes(text + len, set);
	memcpy(text + len, payload, sizeof payload - 1);
	len += sizeof payload - 1;
	if (json) {
		memcpy(text + len, e->data, e->len);
		len += e->len;
	} else {
		memcpy(text + len, raw, sizeof raw - 1);
		len += sizeof raw - 1;
		len += quote(text + len, e->data, e->len);
		text[len++] = '}';
	}
	text[len++] = '}';

	uint8_t *to = reserve(out, FRAME_HEADER + len);
	if (to) {
		size_t header = ws_frame_header(to, WS_TEXT, len);
		memcpy(to + header, text, len);
		commit(out, header + len);
	}
	free(text);
	return to ? 0 : -ENOMEM;
}

/* An event of a batch has no envelope: what is wrong with it. */
static void tell_not_enveloped(struct output *out, const struct ss_batch *b, const struct ss_event *e)
{
	char source[SS_EVENT_FAULT_SIZE], fault[SS_EVENT_FAULT_SIZE];
	size_t where = 0;

	int32_t error =
		out->fields->read(out->fields_self, out->any, e->data, e->len, &(struct ss_field){0}, &where);
	ss_event_fault(b, e, error, where, fault);
	ss_batch_source(out->host, b, source);
	ss_log(out->host, SS_LOG_WARN,
	       "Events that are neither JSON nor UTF-8 are not sent to plain peers, as no envelope holds "
	       "them%s%s",
	       source, fault);
}

int plain_out_frame(struct output *out, const struct ss_batch *b)
{
	const struct ss_event *bad = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < b->count && rc != -ENOMEM; i++) {
		rc = out->conf->format == FORMAT_ENVELOPE ? frame_envelope(out, b, &b->events[i])
							  : frame_raw(out, &b->events[i]);
		if (rc == -EINVAL && !bad)
			bad = &b->events[i];
	}
	if (bad)
		tell_not_enveloped(out, b, bad);
	/* the loop may have much to do before it is idle */
	if (out->framed - out->flushed >= GATHER_BYTES)
		plain_out_flush(out, true);
	return rc == -ENOMEM ? rc : 0;
}

/* ---- peers ---- */

void plain_out_open(struct output_peer *p)
{
	struct output *out = p->out;

	/* from now on: the place behind everything framed so far */
	if (!out->tail && !reserve(out, 1)) {
		ws_close(p->common.conn, 1013, "out of memory");
		return;
	}
	p->chunk = out->tail;
	p->chunk->refs++;
	p->offset = p->chunk->len;
}

/* The next message alone; libwebsockets frames it anew, masked where we dialled. */
static int send_message(struct output_peer *p, size_t *sent)
{
	const uint8_t *f = p->chunk->data + p->offset;
	size_t len = f[1] & 127, head = 2;

	if (len >= 126) {
		int bytes = len == 126 ? 2 : 8;
		len = 0;
		for (int i = 0; i < bytes; i++)
			len = len << 8 | f[head++];
	}
	uint8_t *buf = malloc(WS_PRE + len + 1);
	if (!buf)
		return -ENOMEM;
	memcpy(buf + WS_PRE, f + head, len);
	int rc = ws_send(p->common.conn, (f[0] & 15) == 2, buf, len);
	free(buf);
	*sent = head + len;
	return rc;
}

static int send_some(struct output_peer *p)
{
	size_t len = p->chunk->len - p->offset;
	int rc = p->out->peers.dials ? send_message(p, &len)
				     : ws_send_frames(p->common.conn, p->chunk->data + p->offset, len);

	if (rc == 0) {
		p->offset += len;
		p->out->host->metric_add(p->out->host, METRIC_SENT_BYTES, (int64_t)len);
	}
	return rc;
}

void plain_out_pump(struct output_peer *p)
{
	struct output *out = p->out;

	while (p->chunk && ws_idle(p->common.conn)) {
		if (p->offset < p->chunk->len) {
			if (send_some(p) < 0)
				break;
		} else if (p->chunk->next) {
			struct chunk *next = p->chunk->next;
			next->refs++;
			chunk_unref(p->chunk);
			p->chunk = next;
			p->offset = 0;
		} else {
			return;
		}
	}
	if (!p->chunk)
		return;
	if (out->framed - (p->chunk->start + p->offset) > (uint64_t)out->conf->backlog) {
		out->host->metric_add(out->host, METRIC_SLOW, 1);
		ws_close(p->common.conn, 1013, "too slow");
		plain_out_close(p);
		return;
	}
	ws_want_write(p->common.conn);
}

static void on_gathered(void *arg)
{
	struct output *out = arg;

	out->gathering = 0;
	plain_out_flush(out, true);
}

/* The first message after a pause goes at once.  How long the next ones wait depends on what writing them
 * took. */
void plain_out_flush(struct output *out, bool now)
{
	uint64_t start = out->loop->now(out->loop_self), most = (uint64_t)out->conf->gather;
	uint64_t wait = out->flush_ns * GATHER_SHARE < most ? out->flush_ns * GATHER_SHARE : most;

	if (out->framed == out->flushed || (out->gathering && !now))
		return;
	if (!now && start - out->flushed_ns < wait &&
	    out->loop->timer(out->loop_self, out->flushed_ns + wait - start, 0, on_gathered, out,
			     &out->gathering) == 0)
		return;
	out->loop->cancel(out->loop_self, out->gathering);
	out->gathering = 0;
	out->flushed = out->framed;
	for (struct output_peer *p = first_peer(out), *next; p; p = next) {
		next = next_peer(p);
		if (!p->common.link)
			plain_out_pump(p);
	}
	out->flushed_ns = out->loop->now(out->loop_self);
	out->flush_ns = out->flushed_ns - start;
}

void plain_out_close(struct output_peer *p)
{
	chunk_unref(p->chunk);
	p->chunk = NULL;
}

void plain_out_done(struct output *out)
{
	chunk_unref(out->tail);
	out->tail = NULL;
}
