/* SPDX-License-Identifier: MIT */
/*
 * ws_take - receiving on an open connection, taken over from libwebsockets: of what a server sends releases
 * before 5.0 look at each byte by itself, which costs more than all else that is done with it, and of what a
 * client sends they do not ask whether it is masked.  Here whole frames are found in a buffer and handed on
 * where they lie.  libwebsockets goes on sending.  On the component's loop.
 */
#include "ws_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "ws_frames.h"

enum {
	ROOM = 64 << 10,  /* bytes of a dialer's buffer, unless a frame is longer */
	KEEP = 512 << 10, /* one longer than that goes when it is empty */
	TURN = 256 << 10, /* bytes read before others have their turn */
	RECORD = 16 << 10 /* the most that one TLS record holds */
};

struct ws_take {
	struct ev_io io; /* first */
	struct ws_conn *c;
	void *ssl; /* NULL: plain */
	struct ws_frames frames;
	uint8_t *buf;
	size_t room, keep;
	size_t start, end, size; /* of what was received and not used yet; of buf */
	size_t need;             /* that much must be there before there is a frame to find */
	uint8_t pong[LWS_PRE + WS_CONTROL_MAX];
	size_t pong_len;
	bool pong_due;
	bool broken; /* what comes makes no sense any more */
};

/* ---- frames ---- */

/* The newest ping is answered: more of them do not pile up while nothing can be sent. */
int ws_take_answer(struct ws_take *t)
{
	struct ws_conn *c = t->c;
	if (!t->pong_due)
		return 0;
	if (lws_partial_buffered(c->wsi)) {
		lws_callback_on_writable(c->wsi);
		return 0;
	}
	t->pong_due = false;
	return ws_conn_write(c, WS_PONG, t->pong + LWS_PRE, t->pong_len) < 0 ? -1 : 0;
}

static void take_ping(struct ws_take *t, const struct ws_frame *f)
{
	if (f->len)
		memcpy(t->pong + LWS_PRE, f->payload, f->len);
	t->pong_len = f->len;
	t->pong_due = true;
	if (ws_take_answer(t) < 0)
		ws_conn_kill(t->c);
}

/* Both have said that they close.  Who listens ends it; what lies unread then would make a reset of that. */
static void finish(struct ws_take *t)
{
	struct ws_conn *c = t->c;
	int unread = 0;
	ws_conn_fin(c);
	if (!c->fin_due && t->start == t->end && ioctl(t->io.fd, FIONREAD, &unread) == 0 && unread == 0)
		ws_conn_kill(c);
}

static void take_close(struct ws_take *t, const struct ws_frame *f)
{
	struct ws_conn *c = t->c;
	if (c->state == WS_OPEN) {
		ws_conn_peer_close(c, f->payload, f->len);
		if (!c->ws->dial && c->close_sent)
			finish(t);
	} else if (!c->peer_code) {
		c->peer_code = WS_NO_STATUS; /* the answer to ours, or on its way at the same time */
		ws_conn_last_word(c);
		if (c->ws->dial)
			ws_conn_kill(c);
		else
			finish(t);
	}
}

/* While the connection is being closed only the peer's close frame counts. */
static void take_frame(struct ws_take *t, const struct ws_frame *f)
{
	struct ws_conn *c = t->c;
	if (f->opcode == WS_CLOSE)
		take_close(t, f);
	else if (c->state != WS_OPEN)
		return;
	else if (f->opcode == WS_PING)
		take_ping(t, f);
	else if (f->opcode == WS_PONG)
		ws_conn_pong(c, f->payload, f->len);
	else
		ws_conn_part(c, f->opcode == WS_BINARY, f->final, f->payload, f->len);
}

static bool stopped(const struct ws_take *t)
{
	return t->c->paused || t->c->killed;
}

static void take_frames(struct ws_take *t)
{
	struct ws_conn *c = t->c;
	while (!stopped(t) && !t->broken && t->end > t->start && t->end - t->start >= t->need) {
		struct ws_frame f;
		const char *why;
		size_t size;
		int rc = ws_frames_next(&t->frames, t->buf + t->start, t->end - t->start, &f, &size, &why);
		t->need = rc > 0 ? 0 : size;
		if (rc == 0)
			break;
		if (rc < 0) {
			ws_close(c, -rc, why);
			t->broken = true;
			break;
		}
		if (f.mask)
			ws_frames_mask(t->buf + (f.payload - t->buf), f.len, f.mask);
		t->start += size;
		take_frame(t, &f);
	}
	if (t->broken)
		t->need = 0;
	if (t->broken || t->start == t->end)
		t->start = t->end = 0;
}

/* ---- reading ---- */

/* An empty buffer that is larger than most goes. */
static void trim(struct ws_take *t)
{
	if (t->end > t->start || t->size <= t->keep || t->need > t->room)
		return;
	free(t->buf);
	t->buf = NULL;
	t->start = t->end = t->size = 0;
}

/* Room for what is missing of the frame that has begun, and for something at all. */
static int make_room(struct ws_take *t)
{
	size_t have = t->end - t->start, need = t->need > t->room ? t->need : t->room;
	trim(t);
	if (need > t->size) {
		uint8_t *buf = malloc(need);
		if (!buf)
			return -ENOMEM;
		if (have)
			memcpy(buf, t->buf + t->start, have);
		free(t->buf);
		t->buf = buf;
		t->size = need;
	} else if (t->start && t->size - t->start < need) {
		memmove(t->buf, t->buf + t->start, have);
	} else {
		return 0;
	}
	t->start = 0;
	t->end = have;
	return 0;
}

/* Bytes read, 0 at the end, -errno.  *more: there is likely to be more; what a TLS record held has to be read
 * now, as the descriptor tells nothing of it. */
static ssize_t read_some(struct ws_take *t, size_t sum, bool *more)
{
	ssize_t n = make_room(t);
	size_t room = t->size - t->end;
	if (n < 0)
		return n;
	if (t->ssl) {
		n = ws_tls_read(t->ssl, t->buf + t->end, room);
		*more = ws_tls_pending(t->ssl) || (sum < TURN && n >= RECORD);
		return n;
	}
	n = recv(t->io.fd, t->buf + t->end, room, MSG_DONTWAIT);
	*more = sum < TURN && n == (ssize_t)room;
	return n < 0 ? -errno : n;
}

static void on_readable(struct ev_loop *loop, struct ev_io *io, int revents)
{
	(void)revents;
	struct ws_take *t = (struct ws_take *)io;
	struct ws_conn *c = t->c;
	bool more = true;
	take_frames(t); /* of before a pause */
	for (size_t sum = 0; more && !stopped(t);) {
		ssize_t n = read_some(t, sum, &more);
		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n <= 0) {
			ws_conn_kill(c);
			break;
		}
		t->end += (size_t)n;
		sum += (size_t)n;
		c->heard_ns = ws_now();
		take_frames(t);
	}
	trim(t);
	if (c->killed)
		ev_io_stop(loop, io);
}

void ws_take_pause(struct ws_take *t, bool paused)
{
	struct ev_loop *loop = t->c->ws->loop;
	if (paused) {
		ev_io_stop(loop, &t->io);
		return;
	}
	ev_io_start(loop, &t->io);
	/* what is here or in a TLS record already has no event of its own */
	ev_feed_event(loop, &t->io, EV_READ);
}

/* ---- life ---- */

static struct ws_take *take_new(struct ws_conn *c, const uint8_t *data, size_t len)
{
	const struct ws *ws = c->ws;
	struct ws_take *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->c = c;
	t->ssl = lws_get_ssl(c->wsi);
	t->frames.max_message = ws->limits.max_message;
	t->frames.masked = !ws->dial;
	t->room = ws->dial ? ROOM : ws->rx_buffer;
	t->keep = ws->dial ? KEEP : ws->rx_buffer;
	t->need = len;
	if (make_room(t) < 0) {
		free(t);
		return NULL;
	}
	if (len)
		memcpy(t->buf, data, len);
	t->end = len;
	t->need = 0;
	return t;
}

int ws_take(struct ws_conn *c, const uint8_t *data, size_t len)
{
	/* what came right behind a server's answer is in libwebsockets' buffers: then it has to go on reading
	 */
	if (c->ws->dial &&
	    (LWS_LIBRARY_VERSION_MAJOR >= 5 || lws_service_adjust_timeout(c->ws->cx, 1, 0) == 0))
		return 0;
	struct ws_take *t = take_new(c, data, len);
	if (!t || lws_rx_flow_control(c->wsi, 0) < 0) {
		ws_take_free(t);
		return c->ws->dial && !len ? 0 : -ENOMEM;
	}
	ev_io_init(&t->io, on_readable, lws_get_socket_fd(c->wsi), EV_READ);
	ev_io_start(c->ws->loop, &t->io);
	if (len)
		ev_feed_event(c->ws->loop, &t->io, EV_READ);
	c->take = t;
	return 0;
}

void ws_take_stop(struct ws_take *t)
{
	if (t)
		ev_io_stop(t->c->ws->loop, &t->io);
}

void ws_take_free(struct ws_take *t)
{
	if (!t)
		return;
	ws_take_stop(t);
	free(t->buf);
	free(t);
}
