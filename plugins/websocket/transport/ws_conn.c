/* SPDX-License-Identifier: MIT */
/*
 * ws_conn - one connection after its handshake: messages, pings, closing.  On the component's loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/base/utf8.h>
#include <semstreams/sugar.h>
#include "ws_internal.h"

#define KEEP_BUFFER 65536 /* a message buffer larger than that is not kept */

/* ---- writing ---- */

/* A dialer's frames are made by libwebsockets. */
static enum lws_write_protocol kind_of(int opcode)
{
	if (opcode == WS_PING)
		return LWS_WRITE_PING;
	if (opcode == WS_PONG)
		return LWS_WRITE_PONG;
	return opcode == WS_BINARY ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
}

int ws_conn_write_frame(struct ws_conn *c, int opcode, uint8_t *payload, size_t len)
{
	uint8_t header[WS_HEADER_MAX];
	if (c->ws->dial)
		return lws_write(c->wsi, payload, len, kind_of(opcode));
	size_t n = ws_frame_header(header, opcode, len);
	memcpy(payload - n, header, n);
	return lws_write(c->wsi, payload - n, n + len, LWS_WRITE_RAW);
}

/* ---- receiving: messages ---- */

static void deliver(struct ws_conn *c, bool binary, const uint8_t *data, size_t len)
{
	struct ws *ws = c->ws;
	if (!binary && !ss_utf8_valid(data, len)) {
		ws_close(c, LWS_CLOSE_STATUS_INVALID_PAYLOAD, "text is not UTF-8");
		return;
	}
	ws->events.message(ws->arg, c, c->user, binary, data, len);
	ws_touched(ws);
}

bool ws_conn_append(struct ws_conn *c, const uint8_t *data, size_t len, size_t limit)
{
	if (len > limit - c->msg_len)
		return false;
	if (c->msg_len + len > c->msg_size) {
		size_t size = c->msg_size ? c->msg_size : 1024;
		while (size < c->msg_len + len)
			size *= 2;
		if (size > limit)
			size = limit;
		uint8_t *p = realloc(c->msg, size);
		if (!p)
			return false;
		c->msg = p;
		c->msg_size = size;
	}
	if (len)
		memcpy(c->msg + c->msg_len, data, len);
	c->msg_len += len;
	return true;
}

void ws_conn_part(struct ws_conn *c, bool binary, bool final, const uint8_t *data, size_t len)
{
	if (c->state != WS_OPEN)
		return;
	if (len > c->ws->limits.max_message - c->msg_len) {
		ws_close(c, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, "message too big");
		return;
	}
	if (final && c->msg_len == 0) {
		deliver(c, binary, data, len);
		return;
	}
	if (!ws_conn_append(c, data, len, c->ws->limits.max_message)) {
		ws_close(c, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "out of memory");
		return;
	}
	if (!final)
		return;
	/* what runs now may close the connection, which frees c->msg */
	uint8_t *msg = c->msg;
	size_t size = c->msg_size, msg_len = c->msg_len;
	c->msg = NULL;
	c->msg_len = c->msg_size = 0;
	deliver(c, binary, msg, msg_len);
	if (c->state == WS_OPEN && size <= KEEP_BUFFER) {
		c->msg = msg;
		c->msg_size = size;
	} else {
		free(msg);
	}
}

void ws_conn_received(struct ws_conn *c, const uint8_t *data, size_t len)
{
	c->heard_ns = ws_now();
	ws_conn_part(c, lws_frame_is_binary(c->wsi), lws_is_final_fragment(c->wsi), data, len);
}

/* ---- life ---- */

struct ws_conn *ws_conn_new(struct ws *ws)
{
	struct ws_conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->ws = ws;
	c->subprotocol = "";
	if (ws->limits.handshake_ns)
		c->deadline_ns = ws_now() + ws->limits.handshake_ns;
	c->next = ws->conns;
	c->link = &ws->conns;
	if (c->next)
		c->next->link = &c->next;
	ws->conns = c;
	return c;
}

void ws_conn_free(struct ws_conn *c)
{
	ws_half_remove(c);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	c->ws->n_open -= c->counted;
	ws_receiver_free(c->receiver);
	ws_server_left(c);
	free(c->msg);
	free(c->peer);
	free(c->stream);
	free(c->origin);
	free(c);
}

void ws_conn_kill(struct ws_conn *c)
{
	if (!c->wsi)
		return;
	c->killed = true;
	c->killed_ns = ws_now();
	if (c->receiver && !c->ws->dial) {
		/* libwebsockets finds it ended; a timeout for each of many costs the square of their number
		 */
		shutdown(lws_get_socket_fd(c->wsi), SHUT_RDWR);
		lws_rx_flow_control(c->wsi, 1);
		return;
	}
	/* a timeout is the only end that does not wait for a peer that reads nothing */
	lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	lws_cancel_service(c->ws->cx);
}

static void cut_off(struct ws_conn *c, const char *why)
{
	ws_close(c, WS_POLICY, why);
	if (c->deadline_ns > ws_now() + SECOND / 2)
		c->deadline_ns = ws_now() + SECOND / 2;
}

/* Is the peer still trusted and allowed?  If not, its connection ends within a second. */
static void recheck(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	char why[512] = "";
	if (c->state != WS_OPEN || !ws->tls || !lws_get_ssl(c->wsi) ||
	    ws_tls_recheck(ws->tls, lws_get_ssl(c->wsi), c->peer, &c->valid_until, why, sizeof why) == 0)
		return;
	ws_failed(ws, "connection cut off, the peer is no longer trusted: %s peer=%s", why,
		  c->peer ? c->peer : "-");
	cut_off(c, "no longer trusted");
}

void ws_conn_opened(struct ws_conn *c, const uint8_t *data, size_t len)
{
	struct ws *ws = c->ws;
	c->state = WS_OPEN;
	ws_half_finished(c);
	c->counted = true;
	ws->n_open++;
	c->deadline_ns = 0;
	c->opened_ns = c->heard_ns = c->pinged_ns = ws_now();
	if (ws->stopping) {
		ws_close(c, WS_GOING_AWAY, "shutting down");
		return;
	}
	if (ws->dial)
		ws_client_opened(c);
	if (ws_receiver_start(c, data, len) < 0) {
		c->state = WS_CLOSING;
		ws_conn_kill(c);
		return;
	}
	int code = ws->events.opened(ws->arg, c, c->subprotocol, c->peer, &c->user);
	c->opened = code == 0;
	if (code)
		ws_close(c, code, "");
	recheck(c); /* when to ask again */
	ws_touched(ws);
}

/* libwebsockets closes by itself when it finds a breach of the protocol. */
static void notice_breach(struct ws_conn *c)
{
	bool lws_reads = c->ws->dial && !c->receiver && c->state == WS_OPEN && c->wsi;
	int len = lws_reads ? lws_get_close_length(c->wsi) : 0;
	if (len < 2)
		return;
	const uint8_t *p = lws_get_close_payload(c->wsi);
	c->close_code = p[0] << 8 | p[1];
	c->close_sent = true;
	c->state = WS_CLOSING;
	c->deadline_ns = ws_now() + c->ws->limits.close_ns;
	snprintf(c->reason, sizeof c->reason, "%.*s", len - 2, (const char *)p + 2);
}

/* By whom, and what for. */
void ws_conn_closed(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	bool opened = c->opened;
	c->opened = false;
	ws_receiver_stop(c->receiver);
	notice_breach(c);
	if (c->state == WS_OPEN)
		c->state = WS_CLOSING;
	if (!opened)
		return;
	bool by_peer = !c->close_code;
	int code = c->close_code ? c->close_code : c->peer_code;
	if (!code) {
		code = WS_VANISHED;
		snprintf(c->reason, sizeof c->reason, "connection lost");
	}
	ws->events.closed(ws->arg, c, c->user, code, by_peer, c->reason);
	ws_touched(ws);
}

/* ---- closing ---- */

/* Cut at a border between characters. */
static void set_reason(struct ws_conn *c, const char *reason)
{
	size_t n = strnlen(reason, WS_REASON_MAX - 1);
	while (n > 0 && ((unsigned char)reason[n] & 0xc0) == 0x80)
		n--;
	memcpy(c->reason, reason, n);
	c->reason[n] = '\0';
}

static void let_read(struct ws_conn *c, bool yes)
{
	if (c->receiver)
		ws_receiver_pause(c->receiver, !yes);
	else
		lws_rx_flow_control(c->wsi, yes);
}

void ws_close(struct ws_conn *c, int code, const char *reason)
{
	if (c->state != WS_OPEN)
		return;
	c->state = WS_CLOSING;
	c->close_code = code;
	set_reason(c, reason ? reason : "");
	c->deadline_ns = ws_now() + c->ws->limits.close_ns;
	free(c->msg);
	c->msg = NULL;
	c->msg_len = c->msg_size = 0;
	if (c->paused) {
		c->paused = false;
		let_read(c, true);
	}
	if (code == WS_VANISHED)
		ws_conn_kill(c);
	else
		lws_callback_on_writable(c->wsi);
}

int ws_peer_code(const struct ws_conn *c)
{
	return c->peer_code;
}

/* Not by libwebsockets, which would close the connection by its own rules then. */
static void write_close(struct ws_conn *c, int code, const char *reason)
{
	uint8_t frame[WS_CLOSE_MAX], mask[4];
	if (c->ws->dial)
		lws_get_random(c->ws->cx, mask, sizeof mask);
	lws_write(c->wsi, frame, ws_close_frame(frame, c->ws->dial ? mask : NULL, code, reason),
		  LWS_WRITE_HTTP);
}

int ws_conn_peer_close(struct ws_conn *c, const uint8_t *data, size_t len)
{
	if (c->state != WS_OPEN)
		return 0;
	c->deadline_ns = ws_now() + c->ws->limits.close_ns;
	int code = ws_close_code(data, len);
	if (code < 0) {
		code = -code;
		if (c->receiver) {
			ws_close(c, code, "broken close frame");
			return 0;
		}
		c->close_code = code;
		set_reason(c, "broken close frame");
		c->state = WS_CLOSING;
		c->close_sent = true;
		lws_close_reason(c->wsi, (enum lws_close_status)code, NULL, 0);
		return -1;
	}
	c->peer_code = code;
	char text[WS_REASON_MAX] = "";
	if (len > 2)
		memcpy(text, data + 2, len - 2 < sizeof text ? len - 2 : sizeof text - 1);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	set_reason(c, text);
	c->state = WS_CLOSING;
	c->close_sent = true; /* libwebsockets echoes it */
	if (c->receiver)
		write_close(c, c->peer_code, "");
	return 0;
}

void ws_conn_fin(struct ws_conn *c)
{
	c->fin_due = lws_partial_buffered(c->wsi) || (c->state == WS_CLOSING && !c->close_sent);
	if (c->fin_due) {
		lws_callback_on_writable(c->wsi);
		return;
	}
	if (lws_get_ssl(c->wsi))
		ws_tls_end(lws_get_ssl(c->wsi));
	shutdown(lws_get_socket_fd(c->wsi), SHUT_WR);
}

void ws_conn_last_word(struct ws_conn *c)
{
	if (c->state != WS_CLOSING || c->close_sent || c->killed || !ws_close_code_valid(c->close_code) ||
	    !c->wsi || lws_partial_buffered(c->wsi))
		return;
	c->close_sent = true;
	write_close(c, c->close_code, c->reason);
}

void ws_pause(struct ws_conn *c, bool paused)
{
	if (c->state != WS_OPEN || c->paused == paused)
		return;
	c->paused = paused;
	c->heard_ns = ws_now();
	let_read(c, !paused);
	if (!paused && !c->receiver)
		lws_cancel_service(c->ws->cx); /* what it read before has no event of its own */
}

/* ---- sending ---- */

static int sent(struct ws_conn *c, int n)
{
	if (n >= 0)
		return 0;
	ws_conn_kill(c);
	return -EPIPE;
}

int ws_send(struct ws_conn *c, bool binary, uint8_t *buf, size_t len)
{
	if (c->state != WS_OPEN || c->killed)
		return -EPIPE;
	if (lws_partial_buffered(c->wsi))
		return -EAGAIN;
	return sent(c, ws_conn_write_frame(c, binary ? WS_BINARY : WS_TEXT, buf + WS_PRE, len));
}

int ws_send_frames(struct ws_conn *c, const uint8_t *frames, size_t len)
{
	if (c->state != WS_OPEN || c->killed || c->ws->dial)
		return -EPIPE;
	if (lws_partial_buffered(c->wsi))
		return -EAGAIN;
	/* they are not written to */
	return sent(c, lws_write(c->wsi, (unsigned char *)frames, len, LWS_WRITE_RAW));
}

bool ws_idle(const struct ws_conn *c)
{
	return c->state != WS_OPEN || !lws_partial_buffered(c->wsi);
}

void ws_want_write(struct ws_conn *c)
{
	if (c->state == WS_OPEN)
		lws_callback_on_writable(c->wsi);
}

static int send_ping(struct ws_conn *c)
{
	uint8_t buf[LWS_PRE + sizeof c->pinged_ns];
	c->ping_due = false;
	c->pinged_ns = ws_now();
	/* a peer that is not read now gets no answer to its pings: this is a sign of life as well */
	if (c->paused && ws_conn_write_frame(c, WS_PONG, buf + LWS_PRE, 0) < 0)
		return -1;
	memcpy(buf + LWS_PRE, &c->pinged_ns, sizeof c->pinged_ns);
	return ws_conn_write_frame(c, WS_PING, buf + LWS_PRE, sizeof c->pinged_ns) < 0 ? -1 : 0;
}

static int close_writable(struct ws_conn *c)
{
	if (!c->close_sent && c->receiver && ws_close_code_valid(c->close_code)) {
		ws_conn_last_word(c);
		if (!c->close_sent)
			lws_callback_on_writable(c->wsi);
	} else if (!c->close_sent) {
		c->close_sent = true;
		if (ws_close_code_valid(c->close_code))
			lws_close_reason(c->wsi, (enum lws_close_status)c->close_code,
					 (unsigned char *)c->reason, strlen(c->reason));
		return -1;
	}
	if (c->fin_due && c->close_sent)
		ws_conn_fin(c);
	return 0;
}

int ws_conn_writable(struct ws_conn *c)
{
	if (c->killed)
		return -1;
	if (c->state == WS_CLOSING)
		return close_writable(c);
	if (c->state == WS_ANSWERED && c->fin_due)
		ws_conn_fin(c);
	if (c->state != WS_OPEN)
		return 0;
	if ((c->ping_due && send_ping(c) < 0) || (c->receiver && ws_receiver_pong(c->receiver) < 0))
		return -1;
	if (lws_partial_buffered(c->wsi))
		return 0;
	c->ws->events.writable(c->ws->arg, c, c->user);
	ws_touched(c->ws);
	return 0;
}

void ws_conn_pong(struct ws_conn *c, const uint8_t *data, size_t len)
{
	c->heard_ns = ws_now();
	if (len == sizeof c->pinged_ns && memcmp(data, &c->pinged_ns, len) == 0)
		c->rtt_ns = c->heard_ns - c->pinged_ns;
}

uint64_t ws_rtt(const struct ws_conn *c)
{
	return c->rtt_ns;
}

/* ---- time ---- */

static void too_late(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	char why[96];
	snprintf(why, sizeof why, "handshake not finished within %.3g s",
		 (double)ws->limits.handshake_ns / 1e9);
	if (c->state == WS_HANDSHAKE && !ws->dial &&
	    !(ws->tls && ws_tls_cut(ws->tls, lws_get_ssl(c->wsi), why)))
		ws_failed(ws, "%s", why);
	else if (c->state == WS_HANDSHAKE && ws->dial)
		ws_client_error(c, why);
	ws_conn_kill(c);
}

void ws_recheck(struct ws *ws)
{
	for (struct ws_conn *c = ws->conns; c; c = c->next)
		recheck(c);
}

void ws_conn_reconfigured(struct ws_conn *c, bool dies_sooner)
{
	if (c->wsi)
		ws_socket_options(c->ws, lws_get_socket_fd(c->wsi));
	if (c->state != WS_OPEN)
		return;
	if (dies_sooner) /* it was not asked for a sign of life so often */
		c->heard_ns = ws_now();
	if (!c->origin || ws_origin_allowed(c->ws, c->origin, strlen(c->origin)))
		return;
	ws_failed(c->ws, "connection cut off, pages of %s are no longer in allowed_origins", c->origin);
	cut_off(c, "origin no longer allowed");
}

void ws_conn_tick(struct ws_conn *c, uint64_t now)
{
	const struct ws_limits *limits = &c->ws->limits;
	if (!c->wsi)
		return;
	if (c->killed) {
		/* libwebsockets forgets a timeout where its own state changes */
		if (now >= c->killed_ns + SECOND)
			ws_conn_kill(c);
		return;
	}
	if (c->deadline_ns && now >= c->deadline_ns) {
		too_late(c);
		return;
	}
	notice_breach(c);
	if (c->state != WS_OPEN)
		return;
	if (c->valid_until && time(NULL) >= c->valid_until)
		recheck(c);
	if (c->state != WS_OPEN)
		return;
	if (limits->dead_ns && !c->paused && now - c->heard_ns >= limits->dead_ns) {
		c->state = WS_CLOSING;
		c->close_code = WS_VANISHED;
		snprintf(c->reason, sizeof c->reason, "no sign of life for %.3g s",
			 (double)limits->dead_ns / 1e9);
		ws_conn_kill(c);
	} else if (limits->ping_ns && now - c->pinged_ns >= limits->ping_ns && !c->ping_due) {
		c->ping_due = true;
		lws_callback_on_writable(c->wsi);
	}
}
