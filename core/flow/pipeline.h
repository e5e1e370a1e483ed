/* SPDX-License-Identifier: MIT */
/*
 * pipeline - the running graph: components, the queues between them and the loops they live on.  All
 * functions belong to the control thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/flow/component.h"
#include "core/config/config.h"
#include "core/config/diag.h"

struct health;

/* A loop and the components on it, in the order data takes; they belong to its thread. */
struct worker {
	struct loop loop;
	struct pipeline *pipeline;
	struct component **members;
	size_t n;
	struct component *slow;       /* is to get a loop of its own */
	uint64_t asked_ns;            /* when the watchdog last asked for a sign of life */
	_Atomic uint64_t answered_ns; /* when it last answered */
	const char *blamed;           /* the component that was named as blocking it */
	bool silent;                  /* it has not answered for the time of the watchdog */
};

struct pipeline {
	struct component **components; /* in the order of the config */
	size_t n_components;
	struct component **order; /* sources first */
	struct edge *edges;
	size_t n_edges;
	struct component *retired; /* stopped, and waiting until nothing comes back to them any more */
	pthread_mutex_t lock;      /* workers and settled: loops may add workers */
	struct worker **workers;
	size_t n_workers;
	bool settled;                    /* no component changes its loop by itself */
	const struct config *config;     /* the newest */
	const struct config *tls_config; /* that tls was made of */
	struct health *health;
	struct positions *positions;
	struct tls_identity *tls;              /* from "security" */
	struct component providers[TLS_ROLES]; /* of certificates: hidden, started first and stopped last */
	size_t n_providers;
};

/* Create every component and wire them up; config must outlive the pipeline.  Errors go to diag; 0, -EINVAL,
 * -ENOMEM. */
int pipeline_create(struct config *, struct diag *, struct pipeline **out);
/* Of a config with errors: create and destroy, one by one, the components whose options are right, for what
 * they themselves find wrong. */
void pipeline_check(struct config *, struct diag *);
void pipeline_free(struct pipeline *); /* stopped or never started; NULL is allowed */

/* Start the loops, then providers of certificates, then the components from the end of the data's way to its
 * sources.  On failure everything is stopped again and the reason logged: -errno. */
int pipeline_start(struct pipeline *);

/* Ask the sources to stop taking in; each component closes when all before it have and it is empty. on_closed
 * is called from the components' threads as they close. */
void pipeline_drain(struct pipeline *, void (*on_closed)(void *arg), void *arg);
/* All components have closed. */
bool pipeline_drained(const struct pipeline *);

/* Stop components and loops, throw away what is left in the queues, counted.  -ETIMEDOUT: a component hangs;
 * then nothing of the pipeline may be touched any more but its accounts. */
int pipeline_stop(struct pipeline *, uint64_t timeout_ns);

/* ---- for a transition to another configuration, core/flow/reload ---- */

/* Start one component in its loop; what goes wrong is logged: -errno. */
int pipeline_start_one(struct component *);
/* 0 or -ETIMEDOUT, which is logged. */
int pipeline_stop_one(struct component *, uint64_t timeout_ns);
/* Whether components stay on their loops.  When they need not any more, loops learn how late they may be. */
void pipeline_settle(struct pipeline *, bool settled);
/* A further loop that runs, without components; -errno. */
int pipeline_add_worker(struct pipeline *, const char *name, struct worker **out);
/* End loops without components. */
void pipeline_drop_workers(struct pipeline *);

/* Each second: free those that are retired and that nothing comes back to any more. */
void pipeline_reap(struct pipeline *);
