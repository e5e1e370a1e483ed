/* SPDX-License-Identifier: MIT */
/* semstreams/ext/attributes.h - what an event carries beside its payload.  Tags and rules are those of
 * semstreams/plugin.h. */
#ifndef SEMSTREAMS_EXT_ATTRIBUTES_H
#define SEMSTREAMS_EXT_ATTRIBUTES_H

#include <string.h>
#include <semstreams/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Where an event comes from, as the hosts on its way know it: a small set of texts that no payload can forge.
 * Sources make sets and attach them to batches, a row names its set by ss_event.attributes; rows that are
 * copied to a batch made from their batch keep it.  A set is immutable and shared by all events that have it.
 *
 *   create:  a component that reads attributes, or passes them on to another host, calls want()
 *   start:   a source asks wanted(): while nobody downstream wants any it makes none, and nothing is paid
 *   later:   a source calls make() once for each sender, attach() once for each batch and set, and writes
 *            what that returned into the rows
 *
 * In configurations they have the names "@peer", "@origin", "@path", "@address", "@input", "@error",
 * "@component", and "@received" for ss_event.time_ns, as a number: ms since 1970.  A field of a payload by
 * such a name is read as a JSON pointer ("/@peer").
 */
#define SS_ATTRIBUTES "semstreams.attributes/1"

/* The attributes, and how many there are. */
enum {
	SS_ATTR_PEER = 0,  /* who sent it to this host: the verified name of the last hop, else one it gave */
	SS_ATTR_ORIGIN,    /* the first location's verified name */
	SS_ATTR_PATH,      /* the verified names of all hops, the first one first, with '/' between them, in
			    * which '/' and '%' are %2F and %25 */
	SS_ATTR_ADDRESS,   /* at the first input: "192.0.2.1:4711", "[2001:db8::1]:4711" */
	SS_ATTR_INPUT,     /* the id of the first input */
	SS_ATTR_ERROR,     /* of an event that was refused: why */
	SS_ATTR_COMPONENT, /* and the id of the component that refused it */
	SS_ATTR_COUNT      /* how many */
};
/* The time of an event, for functions that tell attributes apart; it is not in a set. */
#define SS_ATTR_RECEIVED SS_ATTR_COUNT

/* Flags of a set: a certificate says so. */
enum { SS_ATTR_PEER_VERIFIED = 1, SS_ATTR_ORIGIN_VERIFIED = 2 };

/* The longest texts, in bytes. */
enum { SS_ATTR_NAME_MAX = 255, SS_ATTR_PATH_MAX = 1023 };

/* One text of a set. */
struct ss_attribute {
	const char *text;  /* UTF-8 without control characters; not NUL-terminated; NULL: absent; valid as
			    * long as the set */
	uint32_t len;      /* bytes; 0: absent */
	uint32_t reserved; /* 0 */
};

/* A set: made once by make(), immutable, shared by reference. */
struct ss_attributes {
	uint32_t struct_size;
	uint32_t flags;                            /* SS_ATTR_..._VERIFIED, combined by | */
	struct ss_attribute values[SS_ATTR_COUNT]; /* by SS_ATTR_... */
};

/* What the host has under SS_ATTRIBUTES. */
struct ss_attribute_service {
	uint32_t struct_size, reserved;
	/* [ctl] In create, or [inst] later: this instance reads attributes, or passes them on.  Who wants
	 * them later gets them when the sources take notice, and for events that come from then on. */
	void (*want)(void *self);
	/* [inst] In start or later: 1 if anything downstream of this instance wants attributes, else 0, which
	 * may become 1: a source asks again where that costs nothing, as before a read. */
	int32_t (*wanted)(void *self);
	/* [any] Make a set; values are copied, a text of length 0 is absent.  The caller owns one reference
	 * to *out.  -EINVAL: a text is not UTF-8 or has control characters (below U+0020, U+007F to U+009F);
	 * -EMSGSIZE: one is longer than SS_ATTR_PATH_MAX for the path, SS_ATTR_NAME_MAX for others; -ENOMEM.
	 */
	int32_t (*make)(void *self, const struct ss_attributes *values, const struct ss_attributes **out);
	/* [any] Add a reference, as for a cache by identity: a set that is freed may come again at the same
	 * address. */
	void (*ref)(void *self, const struct ss_attributes *);
	/* [any] Give a reference back.  NULL is allowed. */
	void (*unref)(void *self, const struct ss_attributes *);
	/* [inst] Before emit, by who made the batch: have it hold a set that make() made; the value for
	 * ss_event.attributes, from 1.  The batch takes a reference of its own.  A set that is among the
	 * newest eight of the batch is not added again.  -ENOSPC: it has 65535; -ENOMEM. */
	int32_t (*attach)(void *self, struct ss_batch *, const struct ss_attributes *);
};

/* [any] The set of an event of this batch, valid as long as the batch; NULL: it has none. */
static inline const struct ss_attributes *ss_attributes_of(const struct ss_batch *batch,
							   const struct ss_event *event)
{
	if (!event->attributes || !SS_KNOWS(batch, struct ss_batch, n_attributes) ||
	    event->attributes > batch->n_attributes)
		return NULL;
	return batch->attributes[event->attributes - 1];
}

/* [any] One attribute of a set, which may be NULL; without text if it is absent, or not known to the set. */
static inline struct ss_attribute ss_attribute_get(const struct ss_attributes *set, uint32_t which)
{
	struct ss_attribute none = {NULL, 0, 0};

	if (!set || which >= SS_ATTR_COUNT ||
	    set->struct_size < offsetof(struct ss_attributes, values) + (which + 1) * sizeof none)
		return none;
	return set->values[which];
}

/* [any] Which attribute a name of a configuration means: SS_ATTR_..., SS_ATTR_RECEIVED included; -1: it does
 * not begin with '@', and is a field of the payload; -2: there is no such attribute. */
static inline int32_t ss_attribute_index(const char *name)
{
	static const char *const names[] = {"peer",  "origin", "path",      "address",
					    "input", "error",  "component", "received"};

	if (name[0] != '@')
		return -1;
	for (int32_t i = 0; i <= SS_ATTR_RECEIVED; i++)
		if (strcmp(name + 1, names[i]) == 0)
			return i;
	return -2;
}

#ifdef __cplusplus
}
#endif
#endif
