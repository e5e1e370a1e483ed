/* SPDX-License-Identifier: MIT */
/*
 * ws_http - what a listener answers over HTTP: who may upgrade, /health, and refusals.  One request per
 * connection.
 */
#include "ws_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <semstreams/base/url.h>
#include <semstreams/base/utf8.h>
#include "ws_request.h"

#define BODY_MAX        4096
#define DISCARD_MAX     (64u << 10) /* bytes received behind an answer */
#define LINGER_NS       SECOND      /* for the peer to read it */
#define SHOWN_MAX       128         /* of a path in a message */
#define RETRY_MIN_S     5           /* told to clients that are turned away */
#define RETRY_MAX_S     15
#define ACCEPT_SIZE     32 /* of the answer to a key, with its end */
#define UPGRADE_HEADERS "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

static const char *phrase(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 426:
		return "Upgrade Required";
	case 431:
		return "Request Header Fields Too Large";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Service Unavailable";
	}
}

/* ---- answers ---- */

struct answer {
	int status;
	const char *headers, *type, *body;
	bool head; /* without the body */
};

/*
 * In one write.  What lies unread at a close makes the kernel reset the connection, and the answer is lost:
 * so the peer may finish, within limits.
 */
static int send_answer(struct ws_conn *c, const struct answer *a)
{
	char buf[LWS_PRE + BODY_MAX + 512], *p = buf + LWS_PRE;
	size_t room = sizeof buf - LWS_PRE;
	int n = snprintf(p, room,
			 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
			 "%s\r\n%s\r\n%s",
			 a->status, phrase(a->status), a->type, strlen(a->body),
			 a->status == 426 ? "Upgrade, close" : "close", a->headers, a->head ? "" : a->body);
	c->state = WS_ANSWERED;
	c->deadline_ns = ws_now() + LINGER_NS;
	free(c->msg);
	c->msg = NULL;
	c->msg_len = c->msg_size = 0;
	if (n < 0 || (size_t)n >= room || lws_write(c->wsi, (uint8_t *)p, (size_t)n, LWS_WRITE_RAW) < 0)
		return -1;
	ws_conn_fin(c);
	return 0;
}

/* The reason goes to the log, counted, and to the client. */
__attribute__((format(printf, 5, 6))) static int refuse(struct ws_conn *c, const struct ws_request *r,
							int status, const char *headers, const char *fmt, ...)
{
	char why[512], body[640];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	ws_failed(c->ws, "%s peer=%s", why, c->address);
	snprintf(body, sizeof body, "%d %s: %s\n", status, phrase(status), why);
	const struct answer a = {.status = status,
				 .headers = headers,
				 .type = "text/plain; charset=utf-8",
				 .body = body,
				 .head = ws_text_is(r->method, "HEAD")};
	return send_answer(c, &a);
}

static int health(struct ws_conn *c, const struct ws_request *r)
{
	char body[BODY_MAX] = "{\"status\":\"ok\"}";
	bool good = true;
	if (c->ws->events.health) {
		good = c->ws->events.health(c->ws->arg, body, sizeof body - 1);
		ws_touched(c->ws);
	}
	body[sizeof body - 2] = '\0';
	strcat(body, "\n");
	const struct answer a = {.status = good ? 200 : 503,
				 .headers = "Cache-Control: no-store\r\n",
				 .type = "application/json",
				 .body = body,
				 .head = ws_text_is(r->method, "HEAD")};
	return send_answer(c, &a);
}

/* A path as it may be shown. */
static const char *shown(struct ws_text path, char *buf)
{
	char text[SHOWN_MAX];
	size_t n = path.len < sizeof text ? path.len : sizeof text - 1;
	memcpy(text, path.at, n);
	text[n] = '\0';
	ss_url_redact(text, buf, SHOWN_MAX);
	return buf;
}

static int elsewhere(struct ws_conn *c, const struct ws_request *r, const char *what)
{
	char asked[SHOWN_MAX];
	return refuse(c, r, 404, "", "%s %s, the path served is %s", what, shown(r->path, asked),
		      c->ws->path);
}

/* A request that does not upgrade. */
static int answer_request(struct ws_conn *c, const struct ws_request *r)
{
	bool reads = ws_text_is(r->method, "GET") || ws_text_is(r->method, "HEAD");
	bool is_health = ws_path_is(r->path, "/health");
	if (!is_health && !ws_path_is(r->path, c->ws->path) && !ws_text_is(r->method, "CONNECT"))
		return elsewhere(c, r, "request for");
	if (!reads)
		return refuse(c, r, 405, "Allow: GET, HEAD\r\n",
			      "request by another method than GET or HEAD");
	if (is_health)
		return health(c, r);
	return refuse(c, r, 426, UPGRADE_HEADERS, "request that does not upgrade to WebSocket");
}

/* ---- upgrades ---- */

static bool upgrades(const struct ws_request *r)
{
	return r->minor > 0 && ws_request_lists(r, WS_FIELD_UPGRADE, "websocket") &&
	       ws_request_lists(r, WS_FIELD_CONNECTION, "upgrade");
}

bool ws_origin_allowed(const struct ws *ws, const char *origin, size_t len)
{
	for (const char *const *o = ws->origins; o && *o; o++)
		if (strlen(*o) == len && strncasecmp(*o, origin, len) == 0)
			return true;
	return false;
}

/* Those that are not a page in a browser say none. */
static bool origin_allowed(struct ws_conn *c, struct ws_text origin)
{
	if (!origin.at)
		return true;
	if (!ws_origin_allowed(c->ws, origin.at, origin.len))
		return false;
	c->origin = strndup(origin.at, origin.len);
	return c->origin;
}

/* 16 bytes in base64. */
static bool is_key(struct ws_text key)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	if (key.len != 24 || key.at[22] != '=' || key.at[23] != '=')
		return false;
	for (size_t i = 0; i < 22; i++)
		if (!strchr(digits, key.at[i]))
			return false;
	return true;
}

/* By our preference, of what the client offers; none, if it offers nothing that is known. */
static void choose_subprotocol(struct ws_conn *c, const struct ws_request *r)
{
	for (char **p = c->ws->subprotocols; *p && !c->subprotocol[0]; p++)
		if (ws_request_lists(r, WS_FIELD_PROTOCOL, *p))
			c->subprotocol = *p;
}

/* The certificate once more: the list of welcome names may have changed since the handshake. */
static bool peer_welcome(struct ws_conn *c, char *why, size_t size)
{
	char name[256] = "";
	if (!c->ws->tls)
		return true;
	if (!lws_get_ssl(c->wsi) ||
	    ws_tls_check(c->ws->tls, lws_get_ssl(c->wsi), name, sizeof name, why, size) < 0)
		return false;
	c->peer = name[0] ? strdup(name) : NULL;
	return c->peer || !name[0];
}

const char *ws_stream(const struct ws_conn *c)
{
	return c->stream ? c->stream : "";
}

bool ws_stream_valid(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return len <= WS_STREAM_MAX && ss_utf8_valid((const uint8_t *)name, len);
}

/* RFC 6455 section 4.2.2. */
static int switch_protocols(struct ws_conn *c, struct ws_text key)
{
	char text[64], sum[20], accept[ACCEPT_SIZE], buf[LWS_PRE + 512], *p = buf + LWS_PRE;
	int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.at);
	lws_SHA1((const unsigned char *)text, (size_t)n, (unsigned char *)sum);
	if (lws_b64_encode_string(sum, sizeof sum, accept, sizeof accept) < 0)
		return -1;
	const char *sub = c->subprotocol;
	size_t room = sizeof buf - LWS_PRE;
	n = snprintf(p, room,
		     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		     "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
		     accept, sub[0] ? "Sec-WebSocket-Protocol: " : "", sub, sub[0] ? "\r\n" : "");
	if ((size_t)n >= room || lws_write(c->wsi, (uint8_t *)p, (size_t)n, LWS_WRITE_RAW) < 0)
		return -1;
	lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* of the TLS handshake */
	return 0;
}

/* No fault of the client's: it hears when to come again.  Not all of them at the same time. */
static int turn_away(struct ws_conn *c, const struct ws_request *r, const char *why)
{
	char headers[48], body[160];
	snprintf(headers, sizeof headers, "Retry-After: %u\r\n",
		 RETRY_MIN_S + c->ws->n_turned_off++ % (RETRY_MAX_S - RETRY_MIN_S + 1));
	snprintf(body, sizeof body, "503 %s: %s\n", phrase(503), why);
	const struct answer a = {.status = 503,
				 .headers = headers,
				 .type = "text/plain; charset=utf-8",
				 .body = body,
				 .head = ws_text_is(r->method, "HEAD")};
	return send_answer(c, &a);
}

static int turn_away_full(struct ws_conn *c, const struct ws_request *r)
{
	ws_refused(c->ws, WS_REFUSED_FULL);
	return turn_away(c, r, "as many clients as max_clients allows are connected already");
}

/* 0, and the connection may open; 1: it has its answer; -1. */
static int check_upgrade(struct ws_conn *c, const struct ws_request *r)
{
	char why[512] = "the peer is not welcome";
	struct ws_text version = r->fields[WS_FIELD_VERSION], stream = r->fields[WS_FIELD_STREAM];
	int rc = 0;
	if (!ws_text_is(r->method, "GET"))
		rc = refuse(c, r, 405, "Allow: GET\r\n", "request to upgrade by another method than GET");
	else if (!ws_path_is(r->path, c->ws->path))
		rc = elsewhere(c, r, "request to upgrade");
	else if (r->body) /* its bytes would be taken for frames */
		rc = refuse(c, r, 400, "",
			    "request to upgrade with a body (Content-Length or Transfer-Encoding)");
	else if (!ws_text_is(version, "13"))
		rc = refuse(c, r, 426, UPGRADE_HEADERS, "request for another version of WebSocket than 13");
	else if (!is_key(r->fields[WS_FIELD_KEY]))
		rc = refuse(c, r, 400, "",
			    "request to upgrade with a Sec-WebSocket-Key that is not 16 bytes in base64");
	else if (!origin_allowed(c, r->fields[WS_FIELD_ORIGIN]))
		rc = refuse(c, r, 403, "", "request with an Origin that is not in allowed_origins");
	else if (!ws_stream_valid(stream.at ? stream.at : "", stream.len))
		rc = refuse(c, r, 400, "",
			    "request to upgrade with a Semstreams-Stream that no stream can be called");
	else if (!peer_welcome(c, why, sizeof why))
		rc = refuse(c, r, 403, "", "%s", why);
	else if (ws_is_full(c->ws))
		rc = turn_away_full(c, r);
	else if (c->ws->stopping)
		rc = turn_away(c, r, "shutting down");
	return rc < 0 ? -1 : c->state == WS_ANSWERED;
}

/* ---- requests ---- */

static void open_connection(struct ws_conn *c, const struct ws_request *r, const uint8_t *data, size_t len)
{
	const struct ws_text stream = r->fields[WS_FIELD_STREAM];
	c->stream = stream.len ? strndup(stream.at, stream.len) : NULL;
	ws_conn_opened(c, data, len);
	free(c->stream);
	c->stream = NULL;
}

/* The head is there, and what follows it: the connection's msg, which it is done with. */
static int take_request(struct ws_conn *c, size_t head)
{
	uint8_t *msg = c->msg;
	size_t len = c->msg_len;
	struct ws_request r = {0};
	const char *why;
	c->msg = NULL;
	c->msg_len = c->msg_size = 0;
	int rc = 431;
	if (head && head <= WS_HEAD_MAX)
		rc = ws_request_parse((const char *)msg, head, &r, &why);
	else
		why = "the header of the request is longer than 8 KiB";
	if (rc)
		rc = refuse(c, &r, rc, "", "%s", why);
	else if (!upgrades(&r))
		rc = answer_request(c, &r);
	else
		rc = check_upgrade(c, &r);
	if (rc == 0 && c->state == WS_HANDSHAKE) {
		choose_subprotocol(c, &r);
		rc = switch_protocols(c, r.fields[WS_FIELD_KEY]);
		if (rc == 0)
			open_connection(c, &r, msg + head, len - head);
	}
	free(msg);
	return rc < 0 ? -1 : 0;
}

int ws_http_received(struct ws_conn *c, const uint8_t *data, size_t len)
{
	if (c->killed)
		return -1;
	if (c->state != WS_HANDSHAKE) {
		c->discarded += len;
		return c->discarded > DISCARD_MAX ? -1 : 0;
	}
	if (!ws_conn_append(c, data, len, WS_EARLY_MAX))
		return -1;
	size_t head = ws_request_end((const char *)c->msg, c->msg_len, &c->looked);
	if (!head && c->msg_len <= WS_HEAD_MAX)
		return 0;
	return take_request(c, head);
}

void ws_http_gone(struct ws_conn *c)
{
	if (c->state != WS_HANDSHAKE || c->killed || c->msg_len == 0)
		return;
	c->state = WS_ANSWERED;
	ws_failed(c->ws, "what came is no HTTP request, or is broken off peer=%s", c->address);
}
