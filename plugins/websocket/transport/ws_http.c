/* SPDX-License-Identifier: MIT */
/*
 * ws_http - what a listener answers over HTTP: who may upgrade, /health, and refusals.  One request per
 * connection.
 */
#include "ws_internal.h"

#include <linux/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX        4096
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
	default:
		return "Service Unavailable";
	}
}

/* What lies unread at a close makes the kernel reset the connection, and the answer is lost. */
static void discard_body(struct ws_conn *c)
{
	char buf[4096];
	int fd = lws_get_socket_fd(c->wsi);
	for (int i = 0; i < 16 && recv(fd, buf, sizeof buf, MSG_DONTWAIT) > 0; i++)
		;
}

/* The answer in one write; -1, to hang up. */
static int answer(struct ws_conn *c, int status, const char *headers, const char *type, const char *body)
{
	char buf[LWS_PRE + BODY_MAX + 512], *p = buf + LWS_PRE;
	bool head = lws_hdr_total_length(c->wsi, WSI_TOKEN_HEAD_URI) > 0;
	size_t len = strlen(body), room = sizeof buf - LWS_PRE;
	int n = snprintf(p, room,
			 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
			 "%s\r\n%s\r\n%s",
			 status, phrase(status), type, len, status == 426 ? "Upgrade, close" : "close",
			 headers, head ? "" : body);
	c->state = WS_ANSWERED;
	if (n > 0 && (size_t)n < room)
		lws_write(c->wsi, (uint8_t *)p, (size_t)n, LWS_WRITE_HTTP_HEADERS);
	if (!head && lws_hdr_total_length(c->wsi, WSI_TOKEN_GET_URI) == 0)
		discard_body(c);
	return -1;
}

static int refuse(struct ws_conn *c, int status, const char *headers)
{
	char body[64];
	snprintf(body, sizeof body, "%d %s\n", status, phrase(status));
	return answer(c, status, headers, "text/plain; charset=utf-8", body);
}

static int health(struct ws_conn *c)
{
	char body[BODY_MAX] = "{\"status\":\"ok\"}";
	bool good = true;
	if (c->ws->events.health) {
		good = c->ws->events.health(c->ws->arg, body, sizeof body - 1);
		ws_touched(c->ws);
	}
	body[sizeof body - 2] = '\0';
	strcat(body, "\n");
	return answer(c, good ? 200 : 503, "Cache-Control: no-store\r\n", "application/json", body);
}

int ws_http_request(struct ws_conn *c, const char *path)
{
	if (c->state != WS_HANDSHAKE)
		return -1;
	bool reads = lws_hdr_total_length(c->wsi, WSI_TOKEN_GET_URI) > 0 ||
		     lws_hdr_total_length(c->wsi, WSI_TOKEN_HEAD_URI) > 0;
	bool known = strcmp(path, "/health") == 0 || strcmp(path, c->ws->path) == 0;
	if (known && !reads)
		return refuse(c, 405, "Allow: GET, HEAD\r\n");
	if (strcmp(path, "/health") == 0)
		return health(c);
	return known ? refuse(c, 426, UPGRADE_HEADERS) : refuse(c, 404, "");
}

/* ---- upgrades ---- */

/* A header's value; -1 if it is too long, 0 if absent. */
static int header(struct ws_conn *c, enum lws_token_indexes token, char *buf, size_t size)
{
	buf[0] = '\0';
	if (lws_hdr_total_length(c->wsi, token) == 0)
		return 0;
	return lws_hdr_copy(c->wsi, buf, (int)size, token);
}

static bool origin_allowed(struct ws_conn *c)
{
	char origin[512];
	int n = header(c, WSI_TOKEN_ORIGIN, origin, sizeof origin);
	if (n == 0)
		return true; /* not a page in a browser */
	for (char **o = c->ws->origins; n > 0 && *o; o++)
		if (strcmp(*o, "*") == 0 || strcasecmp(*o, origin) == 0)
			return true;
	return false;
}

static bool lists(const char *list, const char *name)
{
	size_t len = strlen(name);
	while (*list) {
		list += strspn(list, ", \t");
		size_t n = strcspn(list, ", \t");
		if (n == len && memcmp(list, name, n) == 0)
			return true;
		list += n;
	}
	return false;
}

/*
 * Choose by our preference.  libwebsockets knows one protocol and drops clients that do not offer it, so for
 * the time of this handshake it has the name that was chosen, or of anything the client offers; what the 101
 * says is c->subprotocol.
 */
static bool choose_subprotocol(struct ws_conn *c)
{
	struct ws *ws = c->ws;
	char offered[126];
	int n = header(c, WSI_TOKEN_PROTOCOL, offered, sizeof offered);
	if (n <= 0)
		return n == 0;
	for (char **p = ws->subprotocols; *p && !c->subprotocol[0]; p++)
		if (lists(offered, *p))
			c->subprotocol = *p;
	const char *name = c->subprotocol;
	size_t len = strlen(name);
	if (len == 0) {
		name = offered + strspn(offered, ", \t");
		len = strcspn(name, ", \t");
	}
	if (len == 0 || len >= sizeof ws->protocol_name)
		return false;
	snprintf(ws->protocol_name, sizeof ws->protocol_name, "%.*s", (int)len, name);
	return true;
}

static void forbidden(struct ws_conn *c, const char *why)
{
	ws_failed(c->ws, "%s peer=%s", why, c->address);
}

/* Has anything of a request come? */
static bool spoke(const struct ws_conn *c)
{
	struct tcp_info info;
	socklen_t len = sizeof info;
	if (c->ws->tls)
		return lws_get_ssl(c->wsi) && ws_tls_spoke(lws_get_ssl(c->wsi));
	return getsockopt(lws_get_socket_fd(c->wsi), IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_bytes_received > 1; /* the end counts as one */
}

void ws_http_gone(struct ws_conn *c)
{
	if (c->state != WS_HANDSHAKE || c->killed || !spoke(c))
		return;
	c->state = WS_ANSWERED;
	forbidden(c, "what came is no HTTP request, is broken off or has headers of more than 8 KiB");
}

/* The certificate once more: the list of welcome names may have changed since the handshake. */
static bool peer_welcome(struct ws_conn *c)
{
	char name[256] = "", why[512] = "";
	if (!c->ws->tls)
		return true;
	if (!lws_get_ssl(c->wsi) ||
	    ws_tls_check(c->ws->tls, lws_get_ssl(c->wsi), name, sizeof name, why, sizeof why) < 0) {
		forbidden(c, why);
		return false;
	}
	c->peer = name[0] ? strdup(name) : NULL;
	return c->peer || !name[0];
}

static int turn_down(struct ws_conn *c, int status, const char *headers, const char *why)
{
	forbidden(c, why);
	return refuse(c, status, headers);
}

int ws_http_upgrade(struct ws_conn *c)
{
	char upgrade[32], path[512], version[16], key[64];
	if (c->state != WS_HANDSHAKE)
		return -1;
	if (header(c, WSI_TOKEN_UPGRADE, upgrade, sizeof upgrade) <= 0 ||
	    strcasecmp(upgrade, "websocket") != 0) {
		/* HTTP/2 for one, where reading cannot be paused */
		c->state = WS_ANSWERED;
		forbidden(c, "request to upgrade to something else than WebSocket");
		return -1;
	}
	if (lws_hdr_total_length(c->wsi, WSI_TOKEN_GET_URI) == 0)
		return turn_down(c, 405, "Allow: GET\r\n", "request to upgrade by another method than GET");
	if (header(c, WSI_TOKEN_GET_URI, path, sizeof path) <= 0 || strcmp(path, c->ws->path) != 0)
		return turn_down(c, 404, "", "request to upgrade another path");
	if (header(c, WSI_TOKEN_VERSION, version, sizeof version) <= 0 || strcmp(version, "13") != 0)
		return turn_down(c, 426, UPGRADE_HEADERS, "request for another version of WebSocket");
	if (header(c, WSI_TOKEN_KEY, key, sizeof key) != 24 || !choose_subprotocol(c))
		return turn_down(c, 400, "", "request to upgrade with a broken header");
	if (!origin_allowed(c))
		return turn_down(c, 403, "", "request with an Origin that is not in allowed_origins");
	if (ws_is_full(c->ws))
		return turn_down(c, 503, "", "as many clients as max_clients allows are connected already");
	if (!peer_welcome(c) || c->ws->stopping)
		return refuse(c, c->ws->stopping ? 503 : 403, "");
	return 0;
}
