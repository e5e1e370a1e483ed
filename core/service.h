/* SPDX-License-Identifier: MIT */
/*
 * service - what a service manager is told while the program runs, and on what condition it is told that all
 * is well: every loop answers.  Control thread only.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <ev.h>

struct pipeline;

enum { SERVICE_OWED = 4, SERVICE_TEXT = 1024 };

struct service {
	const struct pipeline *pipeline;
	ev_timer watchdog;
	bool blocked;  /* a loop does not answer, so the manager's watchdog is not fed */
	bool draining; /* the end is near: each message asks for time */
	char status[512];
	/* What the manager did not take yet, the oldest first: it does not read its socket. */
	char owed[SERVICE_OWED][SERVICE_TEXT];
	uint32_t n_owed;
	bool unread; /* which the log tells */
};

void service_init(struct service *, const struct pipeline *);
/* Every component has started: ready, and the watchdog of the manager is fed from now on. */
void service_ready(struct service *, struct ev_loop *);
/* The configuration is about to be read again, and that is over. */
void service_reloading(struct service *);
void service_reloaded(struct service *);
/* Draining begins. */
void service_stopping(struct service *);
/* Each second: status and time for draining; blocked: a loop has not answered for the time of "watchdog". */
void service_tick(struct service *, bool blocked);
