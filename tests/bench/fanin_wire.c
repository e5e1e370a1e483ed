/* SPDX-License-Identifier: MIT */
/* fanin_wire - one connection of an edge: TCP, TLS, the upgrade, and frames. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>
#include "fanin.h"

enum { READ = 1 << 16, KEEP = 1 << 14 }; /* read at once; the longest part of a frame that is kept */

static uint8_t room[KEEP + READ];

/* ---- ending ---- */

static void release(struct wire *w, struct ev_loop *loop)
{
	ev_io_stop(loop, &w->io);
	SSL_free(w->ssl);
	if (w->fd >= 0)
		close(w->fd);
	free(w->in);
	free(w->out);
	*w = (struct wire){.fd = -1};
}

static void gone(struct edge *e, int code, uint64_t retry_ms, const char *why)
{
	release(&e->wire, e->f->loop);
	edge_closed(e, code, retry_ms, why);
}

static void lost(struct edge *e, const char *why)
{
	static const int codes[] = {[WIRE_DIALING] = END_DIAL,
				    [WIRE_TLS] = END_TLS,
				    [WIRE_UPGRADE] = END_HTTP,
				    [WIRE_OPEN] = 1006};

	gone(e, codes[e->wire.state], 0, why);
}

/* ---- bytes ---- */

static void watch(struct edge *e, int events)
{
	struct wire *w = &e->wire;

	if (w->deaf)
		events &= ~EV_READ;
	if (events == w->events && ev_is_active(&w->io))
		return;
	w->events = events;
	ev_io_stop(e->f->loop, &w->io);
	ev_io_set(&w->io, w->fd, events);
	if (events)
		ev_io_start(e->f->loop, &w->io);
}

/* Bytes, 0 = would block, -1 = over. */
static int get(struct wire *w, uint8_t *to, int size)
{
	int n;

	if (!w->ssl) {
		n = (int)recv(w->fd, to, (size_t)size, 0);
		return n > 0 ? n : n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	}
	ERR_clear_error();
	n = SSL_read(w->ssl, to, size);
	return n > 0 ? n : SSL_get_error(w->ssl, n) == SSL_ERROR_WANT_READ ? 0 : -1;
}

static int put(struct wire *w, const uint8_t *from, size_t size)
{
	int n;

	if (!w->ssl) {
		n = (int)send(w->fd, from, size, MSG_NOSIGNAL);
		return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
	}
	ERR_clear_error();
	n = SSL_write(w->ssl, from, (int)size);
	return n > 0 ? n : SSL_get_error(w->ssl, n) == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* What the kernel does not take waits; a failure shows when reading. */
static void write_all(struct edge *e, const uint8_t *from, size_t size)
{
	struct wire *w = &e->wire;

	while (size && !w->out_len) {
		int n = put(w, from, size);
		if (n < 0)
			return;
		if (n == 0)
			break;
		from += n;
		size -= (size_t)n;
	}
	if (!size)
		return;
	if (w->out_at) {
		memmove(w->out, w->out + w->out_at, w->out_len - w->out_at);
		w->out_len -= w->out_at;
		w->out_at = 0;
	}
	uint8_t *more = realloc(w->out, w->out_len + size);
	if (!more)
		die("out of memory");
	w->out = more;
	memcpy(w->out + w->out_len, from, size);
	w->out_len += size;
	watch(e, EV_READ | EV_WRITE);
}

bool wire_idle(const struct edge *e)
{
	return e->wire.state == WIRE_OPEN && e->wire.out_len == 0;
}

/* ---- frames out ---- */

void wire_send(struct edge *e, int opcode, uint8_t *buf, size_t len)
{
	uint8_t header[WIRE_PRE], *mask, *frame;
	size_t size = ws_frame_header(header, opcode, len);
	uint64_t random = pick(e->f, UINT32_MAX);

	header[1] |= 0x80;
	mask = header + size;
	memcpy(mask, &random, 4);
	ws_frames_mask(buf + WIRE_PRE, len, mask);
	size += 4;
	frame = buf + WIRE_PRE - size;
	memcpy(frame, header, size);
	write_all(e, frame, size + len);
}

void wire_close(struct edge *e, int code)
{
	struct wire *w = &e->wire;
	uint8_t frame[WS_CLOSE_MAX], mask[4] = {1, 2, 3, 4};

	if (code && w->state == WIRE_OPEN && !w->out_len)
		write_all(e, frame, ws_close_frame(frame, mask, code, ""));
	if (!code && w->fd >= 0) /* no FIN, no TLS alert */
		setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
			   sizeof(struct linger));
	release(w, e->f->loop);
}

void wire_deaf(struct edge *e)
{
	e->wire.deaf = true;
	watch(e, e->wire.events);
}

/* ---- frames in ---- */

/* False: the connection is over. */
static bool take_frame(struct edge *e, const struct ws_frame *frame)
{
	uint8_t buf[WIRE_PRE + WS_CONTROL_MAX];

	if (frame->opcode == WS_CLOSE) {
		int code = ws_close_code(frame->payload, frame->len);
		char why[WS_CONTROL_MAX + 1] = "";
		if (frame->len > 2)
			memcpy(why, frame->payload + 2, frame->len - 2);
		wire_close(e, code > 0 && ws_close_code_valid(code) ? code : 1000);
		edge_closed(e, code, 0, why);
		return false;
	}
	if (frame->opcode == WS_PING && e->kind != SILENT) {
		memcpy(buf + WIRE_PRE, frame->payload, frame->len);
		wire_send(e, WS_PONG, buf, frame->len);
	} else if (frame->opcode == WS_TEXT || frame->opcode == WS_BINARY) {
		edge_message(e, frame->opcode, frame->payload, frame->len);
	}
	return e->wire.state == WIRE_OPEN;
}

/* How many of the bytes were used up; -1: the connection is over. */
static int64_t take_frames(struct edge *e, const uint8_t *data, size_t len)
{
	size_t at = 0, size;
	struct ws_frame frame;
	const char *why;
	int rc;

	while ((rc = ws_frames_next(&e->wire.frames, data + at, len - at, &frame, &size, &why)) == 1) {
		if (!take_frame(e, &frame))
			return -1;
		at += size;
	}
	if (rc == 0)
		return (int64_t)at;
	lost(e, why);
	return -1;
}

/* The answer to the upgrade: as take_frames. */
static int64_t take_answer(struct edge *e, const uint8_t *data, size_t len)
{
	static const char hint[] = "retry-after:";
	char text[1024];
	size_t n = len < sizeof text - 1 ? len : sizeof text - 1;

	memcpy(text, data, n);
	text[n] = '\0';
	char *end = strstr(text, "\r\n\r\n");
	if (!end && n < sizeof text - 1)
		return 0;
	if (end && strncmp(text, "HTTP/1.1 101", 12) == 0) {
		e->wire.state = WIRE_OPEN;
		e->wire.frames = (struct ws_frames){.max_message = KEEP - WS_HEADER_MAX};
		edge_opened(e);
		return e->wire.state == WIRE_OPEN ? end + 4 - text : -1;
	}
	const char *retry = strcasestr(text, hint);
	uint64_t seconds = retry ? strtoull(retry + sizeof hint - 1, NULL, 10) : 0;
	text[strcspn(text, "\r\n")] = '\0';
	gone(e, END_HTTP, seconds * 1000, text);
	return -1;
}

static bool keep(struct wire *w, const uint8_t *rest, size_t len)
{
	if (len > KEEP)
		return false;
	if (len && !w->in)
		w->in = malloc(KEEP);
	if (len && !w->in)
		die("out of memory");
	if (len)
		memcpy(w->in, rest, len);
	w->in_len = len;
	if (!len) {
		free(w->in);
		w->in = NULL;
	}
	return true;
}

static void read_all(struct edge *e)
{
	struct wire *w = &e->wire;

	while (!w->deaf) {
		size_t len = w->in_len;
		if (len)
			memcpy(room, w->in, len);
		int n = get(w, room + len, READ);
		if (n == 0)
			return;
		if (n < 0) {
			lost(e, "cut off");
			return;
		}
		if (e->kind == STALL)
			continue;
		size_t at = 0;
		len += (size_t)n;
		if (w->state == WIRE_UPGRADE) {
			int64_t used = take_answer(e, room, len);
			if (used < 0)
				return;
			at = (size_t)used;
		}
		if (w->state == WIRE_OPEN) {
			int64_t used = take_frames(e, room + at, len - at);
			if (used < 0)
				return;
			at += (size_t)used;
		}
		if (!keep(w, room + at, len - at)) {
			lost(e, "a message that is too long");
			return;
		}
	}
}

/* ---- beginning ---- */

static void upgrade(struct edge *e)
{
	const struct conf *c = &e->f->conf;
	char text[512], stream[64] = "";

	e->wire.state = WIRE_UPGRADE;
	watch(e, EV_READ);
	if (e->kind == STALL)
		return;
	if (c->streams)
		snprintf(stream, sizeof stream, "Semstreams-Stream: %s\r\n", e->name);
	int n = snprintf(
		text, sizeof text,
		"GET %s HTTP/1.1\r\nHost: localhost:%u\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s\r\n",
		c->path, (unsigned)c->port,
		c->plain ? "" : "Sec-WebSocket-Protocol: " LINK_SUBPROTOCOL "\r\n", stream);
	write_all(e, (const uint8_t *)text, (size_t)n);
}

static void shake(struct edge *e)
{
	struct totals *t = &e->f->totals;
	struct wire *w = &e->wire;
	char why[128] = "TLS: cut off";

	ERR_clear_error();
	int n = SSL_do_handshake(w->ssl), error = SSL_get_error(w->ssl, n);
	if (n != 1 && (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)) {
		watch(e, error == SSL_ERROR_WANT_READ ? EV_READ : EV_WRITE);
		return;
	}
	if (n != 1) {
		if (ERR_peek_error())
			ERR_error_string_n(ERR_peek_error(), why, sizeof why);
		lost(e, why);
		return;
	}
	t->handshakes++;
	t->handshake_last = now_ns();
	if (t->handshakes_marked++ == 0)
		t->handshake_first = t->handshake_last;
	upgrade(e);
}

static void connected(struct edge *e)
{
	struct wire *w = &e->wire;
	socklen_t size = sizeof(int);
	int error = 0;

	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error) {
		lost(e, strerror(error ? error : errno));
		return;
	}
	if (!e->f->ctx) {
		upgrade(e);
		return;
	}
	w->state = WIRE_TLS;
	if (e->kind == STALL && e->number % 2) {
		watch(e, EV_READ);
		return;
	}
	w->ssl = SSL_new(e->f->ctx);
	if (!w->ssl || SSL_use_certificate(w->ssl, e->cert) != 1 || SSL_use_PrivateKey(w->ssl, e->key) != 1 ||
	    SSL_set_fd(w->ssl, w->fd) != 1 || SSL_set1_host(w->ssl, "localhost") != 1)
		die("TLS");
	SSL_set_connect_state(w->ssl);
	shake(e);
}

static void on_io(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct edge *e = io->data;
	struct wire *w = &e->wire;

	(void)loop;
	if (w->state == WIRE_DIALING) {
		connected(e);
		return;
	}
	if (w->state == WIRE_TLS && w->ssl) {
		shake(e);
		return;
	}
	if (events & EV_WRITE && w->out_len) {
		int n = put(w, w->out + w->out_at, w->out_len - w->out_at);
		if (n < 0) {
			lost(e, "cut off");
			return;
		}
		w->out_at += (size_t)n;
		if (w->out_at < w->out_len)
			return;
		free(w->out);
		w->out = NULL;
		w->out_at = w->out_len = 0;
		watch(e, EV_READ);
		if (w->state == WIRE_OPEN)
			edge_writable(e);
	}
	if (events & EV_READ && w->state != WIRE_CLOSED)
		read_all(e);
}

/* Each edge has an address of its own, as it would have elsewhere: 127.1.0.1 and up, to hubs on 127.0.0.1. */
static void set_address(struct edge *e)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	int one = 1;

	if (strncmp(e->f->conf.address, "127.", 4) != 0)
		return;
	setsockopt(e->wire.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	from.sin_addr.s_addr = htonl(0x7f010001u + e->number);
	if (bind(e->wire.fd, (struct sockaddr *)&from, sizeof from) < 0)
		die("bind");
}

void wire_open(struct edge *e)
{
	struct wire *w = &e->wire;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)e->f->conf.port)};
	int one = 1;

	inet_pton(AF_INET, e->f->conf.address, &to.sin_addr);
	*w = (struct wire){.state = WIRE_DIALING};
	w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (w->fd < 0)
		die("socket");
	ev_init(&w->io, on_io);
	w->io.data = e;
	set_address(e);
	setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	e->f->totals.dials++;
	if (connect(w->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
		lost(e, strerror(errno));
	else
		watch(e, EV_WRITE);
}
