/* SPDX-License-Identifier: MIT */
/*
 * ws_receiver - what an open connection receives: whole frames are found in a buffer and handed on where they
 * lie.  Taken over from libwebsockets, which goes on sending: of what a server sends releases before 5.0 look
 * at each byte by itself, and of what a client sends they do not ask whether it is masked.  On the
 * component's loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "ws_internal.h"

enum {
	DIALER_BUFFER = 64 << 10, /* bytes of a dialer's buffer, unless a frame is longer */
	DIALER_KEEP = 512 << 10,  /* one longer than that goes when it is empty */
	READ_AT_ONCE = 256 << 10, /* bytes read before others have their turn */
	TLS_RECORD = 16 << 10     /* the most that one TLS record holds */
};

struct ws_receiver {
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

/* ---- receiving: frames ---- */

/* The newest ping is answered: more of them do not pile up while nothing can be sent. */
int ws_receiver_pong(struct ws_receiver *r)
{
	struct ws_conn *c = r->c;
	if (!r->pong_due)
		return 0;
	if (lws_partial_buffered(c->wsi)) {
		lws_callback_on_writable(c->wsi);
		return 0;
	}
	r->pong_due = false;
	return ws_conn_write_frame(c, WS_PONG, r->pong + LWS_PRE, r->pong_len) < 0 ? -1 : 0;
}

static void on_ping(struct ws_receiver *r, const struct ws_frame *f)
{
	if (f->len)
		memcpy(r->pong + LWS_PRE, f->payload, f->len);
	r->pong_len = f->len;
	r->pong_due = true;
	if (ws_receiver_pong(r) < 0)
		ws_conn_kill(r->c);
}

/* Both have said that they close.  Who listens ends it; what lies unread then would make a reset of that. */
static void end_listener_side(struct ws_receiver *r)
{
	struct ws_conn *c = r->c;
	int unread = 0;
	ws_conn_fin(c);
	if (!c->fin_due && r->start == r->end && ioctl(r->io.fd, FIONREAD, &unread) == 0 && unread == 0)
		ws_conn_kill(c);
}

static void on_close_frame(struct ws_receiver *r, const struct ws_frame *f)
{
	struct ws_conn *c = r->c;
	if (c->state == WS_OPEN) {
		ws_conn_peer_close(c, f->payload, f->len);
		if (!c->ws->dial && c->close_sent)
			end_listener_side(r);
	} else if (!c->peer_code) {
		/* the answer to ours, or on its way at the same time */
		const int code = ws_close_code(f->payload, f->len);
		c->peer_code = code > 0 ? code : -code;
		ws_conn_last_word(c);
		if (c->ws->dial)
			ws_conn_kill(c);
		else
			end_listener_side(r);
	}
}

/* While the connection is being closed only the peer's close frame counts. */
static void on_frame(struct ws_receiver *r, const struct ws_frame *f)
{
	struct ws_conn *c = r->c;
	if (f->opcode == WS_CLOSE)
		on_close_frame(r, f);
	else if (c->state != WS_OPEN)
		return;
	else if (f->opcode == WS_PING)
		on_ping(r, f);
	else if (f->opcode == WS_PONG)
		ws_conn_pong(c, f->payload, f->len);
	else
		ws_conn_part(c, f->opcode == WS_BINARY, f->final, f->payload, f->len);
}

static bool stopped(const struct ws_receiver *r)
{
	return r->c->paused || r->c->killed;
}

static void handle_frames(struct ws_receiver *r)
{
	struct ws_conn *c = r->c;
	while (!stopped(r) && !r->broken && r->end > r->start && r->end - r->start >= r->need) {
		struct ws_frame f;
		const char *why;
		size_t size;
		int rc = ws_frames_next(&r->frames, r->buf + r->start, r->end - r->start, &f, &size, &why);
		r->need = rc > 0 ? 0 : size;
		if (rc == 0)
			break;
		if (rc < 0) {
			ws_close(c, -rc, why);
			r->broken = true;
			break;
		}
		if (f.mask)
			ws_frames_mask(r->buf + (f.payload - r->buf), f.len, f.mask);
		r->start += size;
		on_frame(r, &f);
	}
	if (r->broken)
		r->need = 0;
	if (r->broken || r->start == r->end)
		r->start = r->end = 0;
}

/* ---- receiving: bytes ---- */

/* Those of a listener that have nothing to keep share one buffer, so that idle connections cost none. */
static void give_back(struct ws_receiver *r)
{
	struct ws *ws = r->c->ws;
	if (r->buf && !ws->dial && !ws->spare && r->size == ws->rx_buffer)
		ws->spare = r->buf;
	else
		free(r->buf);
	r->buf = NULL;
	r->start = r->end = r->size = 0;
}

static uint8_t *new_buffer(struct ws *ws, size_t size)
{
	uint8_t *spare = ws->spare;
	if (!spare || ws->dial || size != ws->rx_buffer)
		return malloc(size);
	ws->spare = NULL;
	return spare;
}

/* An empty buffer goes, but for a dialer's that is not larger than most. */
static void trim(struct ws_receiver *r)
{
	if (r->end == r->start && r->size > r->keep && r->need <= r->room)
		give_back(r);
}

/* Room for what is missing of the frame that has begun, and for something at all. */
static int make_room(struct ws_receiver *r)
{
	size_t have = r->end - r->start, need = r->need > r->room ? r->need : r->room;
	trim(r);
	if (need > r->size) {
		uint8_t *buf = new_buffer(r->c->ws, need);
		if (!buf)
			return -ENOMEM;
		if (have)
			memcpy(buf, r->buf + r->start, have);
		give_back(r);
		r->buf = buf;
		r->size = need;
	} else if (r->start && r->size - r->start < need) {
		memmove(r->buf, r->buf + r->start, have);
	} else {
		return 0;
	}
	r->start = 0;
	r->end = have;
	return 0;
}

/* Bytes read, 0 at the end, -errno.  *more: there is likely to be more; what was taken from the kernel has to
 * be read now, as the descriptor tells nothing of it. */
static ssize_t read_some(struct ws_receiver *r, size_t sum, bool *more)
{
	ssize_t n = make_room(r);
	size_t room = r->size - r->end;
	if (n < 0)
		return n;
	if (r->ssl) {
		/* near the end of its turn no more is taken than is used, or it would never end */
		n = ws_tls_read(r->ssl, r->buf + r->end, room, sum < READ_AT_ONCE);
		*more = ws_tls_pending(r->ssl) || (sum < READ_AT_ONCE && n >= TLS_RECORD);
		return n;
	}
	n = recv(r->io.fd, r->buf + r->end, room, MSG_DONTWAIT);
	*more = sum < READ_AT_ONCE && n == (ssize_t)room;
	return n < 0 ? -errno : n;
}

static void on_readable(struct ev_loop *loop, struct ev_io *io, int revents)
{
	(void)revents;
	struct ws_receiver *r = (struct ws_receiver *)io;
	struct ws_conn *c = r->c;
	bool more = true;
	handle_frames(r); /* of before a pause */
	for (size_t sum = 0; more && !stopped(r);) {
		ssize_t n = read_some(r, sum, &more);
		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n <= 0) {
			ws_conn_kill(c);
			break;
		}
		r->end += (size_t)n;
		sum += (size_t)n;
		c->heard_ns = ws_now();
		handle_frames(r);
	}
	trim(r);
	if (c->killed)
		ev_io_stop(loop, io);
}

void ws_receiver_pause(struct ws_receiver *r, bool paused)
{
	struct ev_loop *loop = r->c->ws->loop;
	if (paused) {
		ev_io_stop(loop, &r->io);
		return;
	}
	ev_io_start(loop, &r->io);
	/* what is here or in a TLS record already has no event of its own */
	ev_feed_event(loop, &r->io, EV_READ);
}

static struct ws_receiver *receiver_new(struct ws_conn *c, const uint8_t *data, size_t len)
{
	const struct ws *ws = c->ws;
	struct ws_receiver *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->c = c;
	r->ssl = lws_get_ssl(c->wsi);
	r->frames.max_message = ws->limits.max_message;
	r->frames.masked = !ws->dial;
	r->room = ws->dial ? DIALER_BUFFER : ws->rx_buffer;
	r->keep = ws->dial ? DIALER_KEEP : 0;
	r->need = len;
	if (len && make_room(r) < 0) {
		free(r);
		return NULL;
	}
	if (len)
		memcpy(r->buf, data, len);
	r->end = len;
	r->need = 0;
	return r;
}

void ws_receiver_stop(struct ws_receiver *r)
{
	if (r)
		ev_io_stop(r->c->ws->loop, &r->io);
}

void ws_receiver_free(struct ws_receiver *r)
{
	if (!r)
		return;
	ws_receiver_stop(r);
	free(r->buf);
	free(r);
}

int ws_receiver_start(struct ws_conn *c, const uint8_t *data, size_t len)
{
	/* libwebsockets goes on reading if it has read bytes behind a server's answer */
	if (c->ws->dial &&
	    (LWS_LIBRARY_VERSION_MAJOR >= 5 || lws_service_adjust_timeout(c->ws->cx, 1, 0) == 0))
		return 0;
	struct ws_receiver *r = receiver_new(c, data, len);
	if (!r || lws_rx_flow_control(c->wsi, 0) < 0) {
		ws_receiver_free(r);
		return c->ws->dial && !len ? 0 : -ENOMEM;
	}
	ev_io_init(&r->io, on_readable, lws_get_socket_fd(c->wsi), EV_READ);
	ev_set_priority(&r->io, WS_IO_PRIORITY);
	ev_io_start(c->ws->loop, &r->io);
	if (len)
		ev_feed_event(c->ws->loop, &r->io, EV_READ);
	c->receiver = r;
	return 0;
}
