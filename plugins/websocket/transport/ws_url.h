/* SPDX-License-Identifier: MIT */
/*
 * ws_url - the URL of a WebSocket server (RFC 6455 section 3, RFC 3986, RFC 6874), strictly.  Pure.
 */
#pragma once
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_URL_HOST_MAX   110 /* libwebsockets cuts the Host header at 128 */
#define WS_URL_TARGET_MAX 1024
#define WS_URL_SHOWN_MAX  256

struct ws_url {
	bool secure;
	uint16_t port;
	char host[WS_URL_HOST_MAX + 1];       /* to look up: without brackets and zone */
	char zone[IF_NAMESIZE];               /* interface of a link-local address, "" = none */
	char name[WS_URL_HOST_MAX + 1];       /* to verify: the host without the dot at its end */
	char authority[WS_URL_HOST_MAX + 10]; /* for the Host header: no zone, no default port */
	char target[WS_URL_TARGET_MAX + 1];   /* path and query */
	char shown[WS_URL_SHOWN_MAX];         /* for messages, see ss_url_redact */
};

/* 0, or -EINVAL: why says what is wrong and how it is right, without anything of the text. */
int ws_url_parse(const char *text, struct ws_url *out, const char **why);
/*
 * What a Location (RFC 9110, 10.2.2), which may be relative to the URL it came from, is as a URL to write in
 * the configuration: whole, ws or wss, and as messages may have it (ss_url_redact).
 */
void ws_url_target_shown(const struct ws_url *from, const char *location, char *out, size_t size);
/* A web origin as browsers send it: small letters, no default port, nothing behind it; malloced.  0, -ENOMEM,
 * or -EINVAL as above. */
int ws_origin_parse(const char *text, char **out, const char **why);
