/* SPDX-License-Identifier: MIT */
/*
 * target - where `semstreams replay` sends events to: a udp_input, or a websocket_input that listens.
 */
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target_options {
	const char *url;
	const char *ca, *cert, *key; /* wss: files in PEM; NULL: none */
	int64_t timeout_ns;          /* to connect, for each event, and for the answer to the end */
	const volatile sig_atomic_t *interrupted; /* borrowed */
};

struct target {
	/* What was sent since the last settle() is in doubt; otherwise only the last event is. */
	bool settles;
	/* 0; -EMSGSIZE: an event is too long for who takes them; -EINTR; another -errno: nothing more can be
	 * sent. */
	int (*send)(struct target *, const void *event, size_t len);
	/* Has all that was sent arrived, as far as can be known?  As send. */
	int (*settle)(struct target *);
	void (*free)(struct target *);
	char why[600]; /* of the last failure, for the operator; "": its errno says all */
};

/* Each is given URLs of its scheme.  0, or -errno with the reason on stderr. */
int target_udp(const struct target_options *, struct target **out);
int target_ws(const struct target_options *, struct target **out);
