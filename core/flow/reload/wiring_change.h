/* SPDX-License-Identifier: MIT */
/*
 * wiring_change - what becomes of each component of a configuration, and the tables of the graph as it will
 * be: made before anything stands still, then only put in place.  Control thread only.
 */
#pragma once
#include <stddef.h>
#include "core/config/config.h"
#include "core/flow/component.h"

struct pipeline;

enum change_kind { CHANGE_NONE, CHANGE_IN_PLACE, CHANGE_REPLACE, CHANGE_ADD };

/* One of the new configuration's components. */
struct change {
	enum change_kind kind;
	const struct config_component *cc;
	struct component *now;   /* of this id and type; NULL: there is none */
	struct component *fresh; /* made of the new configuration */
	struct worker *home;
	/* As they will be; after the exchange, as they were. */
	struct port *ports;
	struct edge **inputs;
	size_t n_inputs;
};

struct wiring_change {
	struct change *changes; /* in the order of the config */
	size_t n;
	struct edge *edges; /* as they will be */
	size_t n_edges;
};

/* Whose place in the graph it will be. */
static inline struct component *change_target(const struct change *c)
{
	return c->kind <= CHANGE_IN_PLACE ? c->now : c->fresh;
}

/* Find out what becomes of each component, whose fresh instances are there, and make the tables.  0 or
 * -ENOMEM. */
int wiring_change_prepare(struct pipeline *, const struct config *, struct wiring_change *);
/* At a standstill: those who stay send to whom they will send; those who are to leave, to whom they did. */
void wiring_change_producers(struct pipeline *, struct wiring_change *);
/* Those who stay have taken what was in queues that they will not read any more. */
bool wiring_change_settled(const struct pipeline *, const struct wiring_change *);
/* At a standstill, when all who leave have stopped: the new tables are those of the pipeline. */
void wiring_change_commit(struct pipeline *, struct wiring_change *);
/* Free what is not used: the old tables, or the new ones if nothing was put in place. */
void wiring_change_done(struct pipeline *, struct wiring_change *);
