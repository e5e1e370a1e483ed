/* SPDX-License-Identifier: MIT */
/*
 * provenance - attributes of the events that peers send: what this host has verified of a peer, and what it
 * believes of what a peer says.  On the instance's loop.
 */
#pragma once
#include <stdbool.h>
#include <semstreams/ext/attributes.h>
#include "plugins/websocket/link/link_proto.h"

struct input;
struct input_peer;

struct provenance {
	const struct ss_attribute_service *service; /* NULL: nobody wants attributes */
	void *self;
	bool asks;      /* trusted peers for what they know, when they connect */
	char **trusted; /* sorted names of peers that may say where events come from */
	size_t n_trusted;
};

/* Of one connection. */
struct provenance_peer {
	char *name; /* verified, as a part of a path; NULL: there is none, or nobody wants to know */
	const struct ss_attributes
		*set; /* of events of which it says nothing, or is not believed; NULL: none */
	bool trusted;
};

/* [ctl] Read trust_origin.  -EINVAL after reporting; -ENOMEM. */
int provenance_create(struct input *);
void provenance_destroy(struct input *);
void provenance_start(struct input *);
/* [inst] Believe whom trust_origin of another instance names, which gets the list there was until now. */
void provenance_reconfigure(struct input *, struct input *fresh);
/* A connection from that address is open; name: verified, NULL without one. */
int provenance_open(struct input *, struct provenance_peer *, const char *address, const char *name);
void provenance_close(struct input *, struct provenance_peer *);
/* What a row of the batch names by its member attributes, of an event that the peer sent. */
uint16_t provenance_attach(struct input *, const struct provenance_peer *, struct ss_batch *);
/* The rows of a batch are the last records of a message of the peer. */
void provenance_rows(struct input *, const struct provenance_peer *, const struct link_data *,
		     struct ss_batch *);
/* Bytes of a message of so many that are left for attributes. */
uint64_t provenance_room(const struct input *, uint64_t message);
