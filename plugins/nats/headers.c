/* SPDX-License-Identifier: MIT */
#include "plugins/nats/headers.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[SS_ATTR_COUNT] = {
	[SS_ATTR_PEER] = "Semstreams-Peer",           [SS_ATTR_ORIGIN] = "Semstreams-Origin",
	[SS_ATTR_PATH] = "Semstreams-Path",           [SS_ATTR_ADDRESS] = "Semstreams-Address",
	[SS_ATTR_INPUT] = "Semstreams-Input",         [SS_ATTR_ERROR] = "Semstreams-Error",
	[SS_ATTR_COMPONENT] = "Semstreams-Component",
};
static const char received[] = "Semstreams-Received"; /* ns since 1970 */
static const char verified[] = "Semstreams-Verified"; /* "peer", "origin", "peer,origin" */

bool headers_encode(const char *text, size_t len, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)text[i];
		const bool plain = c > 0x20 && c < 0x7f && c != '%';
		if (n + (plain ? 1 : 3) >= size)
			return false;
		n += plain ? (out[n] = (char)c, 1) : (size_t)snprintf(out + n, 4, "%%%02X", c);
	}
	if (size)
		out[n] = '\0';
	return size > 0;
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int headers_decode(const char *value, char *out, size_t size)
{
	size_t n = 0;

	for (; *value; value++, n++) {
		int c = (unsigned char)*value;
		if (c == '%') {
			int high = hex(value[1]), low = high < 0 ? -1 : hex(value[2]);
			if (low < 0)
				return -1;
			c = high << 4 | low;
			value += 2;
		}
		if (n + 1 >= size)
			return -1;
		out[n] = (char)c;
	}
	if (size)
		out[n] = '\0';
	return size ? (int)n : -1;
}

static bool add_verified(natsMsg *msg, uint32_t flags)
{
	const bool peer = flags & SS_ATTR_PEER_VERIFIED, origin = flags & SS_ATTR_ORIGIN_VERIFIED;

	if (!peer && !origin)
		return true;
	return natsMsgHeader_Set(msg, verified,
				 peer && origin ? "peer,origin"
				 : peer         ? "peer"
						: "origin") == NATS_OK;
}

bool headers_add(natsMsg *msg, const struct ss_attributes *set, uint64_t time_ns)
{
	char value[NATS_VALUE_MAX];
	bool ok = true;

	for (uint32_t i = 0; set && i < SS_ATTR_COUNT; i++) {
		const struct ss_attribute a = ss_attribute_get(set, i);
		if (a.len && headers_encode(a.text, a.len, value, sizeof value))
			ok &= natsMsgHeader_Set(msg, names[i], value) == NATS_OK;
	}
	if (set)
		ok &= add_verified(msg, set->flags);
	snprintf(value, sizeof value, "%llu", (unsigned long long)time_ns);
	return ok && natsMsgHeader_Set(msg, received, value) == NATS_OK;
}

bool headers_read(natsMsg *msg, struct headers *out)
{
	const char *value = NULL;
	bool any = false;

	out->values = (struct ss_attributes){.struct_size = sizeof out->values};
	out->time_ns = 0;
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const size_t size = i == SS_ATTR_PATH ? SS_ATTR_PATH_MAX + 1 : SS_ATTR_NAME_MAX + 1;
		if (natsMsgHeader_Get(msg, names[i], &value) != NATS_OK || !value)
			continue;
		const int len = headers_decode(value, out->buf[i], size);
		if (len <= 0)
			continue;
		out->values.values[i] = (struct ss_attribute){.text = out->buf[i], .len = (uint32_t)len};
		any = true;
	}
	if (natsMsgHeader_Get(msg, verified, &value) == NATS_OK && value) {
		out->values.flags |= strstr(value, "peer") ? SS_ATTR_PEER_VERIFIED : 0;
		out->values.flags |= strstr(value, "origin") ? SS_ATTR_ORIGIN_VERIFIED : 0;
	}
	if (natsMsgHeader_Get(msg, received, &value) == NATS_OK && value)
		out->time_ns = strtoull(value, NULL, 10);
	return any;
}
