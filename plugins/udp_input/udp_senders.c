/* SPDX-License-Identifier: MIT */
/*
 * udp_senders - attributes of events by who sent the datagram: a set for each address, kept in a small table,
 * so that a sender that goes on sending costs a look.  On the loop.
 */
#include "udp_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <semstreams/ext/attributes.h>

enum { SENDERS = 1024 }; /* a power of two; of those that share a place the newest has it */

struct sender {
	uint64_t address[2];
	uint32_t scope;
	uint16_t port, at; /* at: its number in the batch that it was attached to last */
	const struct ss_attributes *set;
};

struct udp_senders {
	struct ss_iface service;
	const char *input;
	struct sender v[SENDERS];
};

static const struct ss_attribute_service *service_of(const struct udp_senders *s)
{
	return s->service.vtbl;
}

bool udp_senders_wanted(const struct ss_iface *attributes)
{
	const struct ss_attribute_service *service = attributes->vtbl;

	return service && service->wanted(attributes->self);
}

struct udp_senders *udp_senders_new(const struct ss_iface *attributes, const char *input)
{
	struct udp_senders *s = calloc(1, sizeof *s);

	if (s) {
		s->service = *attributes;
		s->input = input;
	}
	return s;
}

void udp_senders_free(struct udp_senders *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < SENDERS; i++)
		service_of(s)->unref(s->service.self, s->v[i].set);
	free(s);
}

static void set_value(struct ss_attributes *a, uint32_t which, const char *text)
{
	a->values[which] = (struct ss_attribute){.text = text, .len = (uint32_t)strlen(text)};
}

/* NULL: out of memory. */
static const struct ss_attributes *make(const struct udp_senders *s, const union udp_addr *from)
{
	struct ss_attributes values = {.struct_size = sizeof values};
	char address[INET6_ADDRSTRLEN + 24], whole[sizeof address + 8];
	const struct ss_attributes *set = NULL;
	union udp_addr plain = *from;
	uint64_t mapped[2];
	uint16_t port;

	/* an IPv4 sender at a socket for both looks the same as at one for IPv4 */
	if (udp_addr_map(from, mapped) && from->sa.sa_family == AF_INET6) {
		plain = (union udp_addr){.v4 = {.sin_family = AF_INET, .sin_port = from->v6.sin6_port}};
		memcpy(&plain.v4.sin_addr, (const uint8_t *)mapped + 12, 4);
	}
	udp_addr_format(&plain, address, sizeof address, &port);
	snprintf(whole, sizeof whole, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, port);
	set_value(&values, SS_ATTR_ADDRESS, whole);
	set_value(&values, SS_ATTR_INPUT, s->input);
	service_of(s)->make(s->service.self, &values, &set);
	return set;
}

uint16_t udp_senders_attach(struct udp_senders *s, struct ss_batch *b, const union udp_addr *from)
{
	struct sender key = {0};

	udp_addr_map(from, key.address);
	key.port = from->sa.sa_family == AF_INET ? from->v4.sin_port : from->v6.sin6_port;
	key.scope = from->sa.sa_family == AF_INET ? 0 : from->v6.sin6_scope_id;
	uint64_t hash = (key.address[0] ^ key.address[1] * 31 ^ key.port * UINT64_C(0x10001) ^ key.scope) *
			UINT64_C(0x9e3779b97f4a7c15);
	struct sender *place = &s->v[hash >> 32 & (SENDERS - 1)];
	if (!place->set || memcmp(place->address, key.address, sizeof key.address) != 0 ||
	    place->port != key.port || place->scope != key.scope) {
		key.set = make(s, from);
		if (!key.set)
			return 0;
		service_of(s)->unref(s->service.self, place->set);
		*place = key;
	}
	/* is it attached to this batch already? */
	if (place->at && place->at <= b->n_attributes && b->attributes[place->at - 1] == place->set)
		return place->at;
	const int32_t at = service_of(s)->attach(s->service.self, b, place->set);
	place->at = at > 0 ? (uint16_t)at : 0;
	return place->at;
}
