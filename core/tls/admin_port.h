/* SPDX-License-Identifier: MIT */
/*
 * admin_port - the admin port and its certificate files, which are read again while it is open: at a reload,
 * and when they have changed.  Control thread.
 */
#pragma once
#include <ev.h>
#include <stdbool.h>
#include "core/tls/tls_files.h"

struct admin;
struct admin_config;
struct admin_settings;
struct config;
struct health;

enum { ADMIN_CERT, ADMIN_KEY, ADMIN_CA, ADMIN_FILES };

/* Zeroed to begin with. */
struct admin_port {
	struct admin *now;
	struct admin *before;        /* serves who was connected when the files changed; NULL: nobody */
	const struct config *config; /* of the start: the files and writers are those */
	struct health *health;
	char *pem[ADMIN_FILES]; /* in use, but for the key */
	struct tls_stamp loaded[ADMIN_FILES], seen[ADMIN_FILES];
	char failure[256]; /* "": the files could be used */
};

/* Open what config has, with pages and limits of settings; 0 or -errno, which was logged. */
int admin_port_open(struct admin_port *, struct ev_loop *, const struct config *, struct health *,
		    struct admin_settings *, void *arg);
/* Every few seconds: have the files changed, and is nobody writing to them? */
void admin_port_poll(struct admin_port *);
/* Read the files now. */
void admin_port_reload(struct admin_port *);
void admin_port_close(struct admin_port *);
