/* SPDX-License-Identifier: MIT */
/* admin_config - "admin" of the configuration, checked; no file it names is opened.  Control thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;
struct diag;
struct jnode;

#define ADMIN_RUNTIME_SOCKET "admin.sock" /* in the folder that systemd made, RUNTIME_DIRECTORY */

struct admin_config {
	char *socket;       /* path of the unix socket; NULL: none */
	bool socket_chosen; /* it is written, so the host does not run without */
	char *socket_group; /* NULL: nobody else's */
	unsigned max_streams;
	char *cert_file, *key_file; /* TLS of the port; NULL: none */
	char *client_ca_file;       /* NULL: clients show no certificates */
	char **writers;             /* names of those that may act */
	size_t n_writers;
};

/* Into config->admin, admin_listen, watchdog_ns and held_watch_ns.  0 (errors are in diag) or -ENOMEM. */
int admin_config_read(struct config *, const struct jnode *node, struct diag *);
void admin_config_done(struct admin_config *);
