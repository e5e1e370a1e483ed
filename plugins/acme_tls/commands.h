/* SPDX-License-Identifier: MIT */
/* commands - an operator's command while it is carried out, in a process of its own. */
#pragma once
#include "acme_tls.h"

struct command {
	struct acme_tls *t;
	struct store *store;
	struct ev_loop *loop;
	void (*print)(void *arg, const char *text);
	void *arg;
	struct acme *client;
	struct acme_result result; /* of the last errand, without what was borrowed */
	int64_t not_after;         /* of what it brought */
	int lock_error, lock_tries;
	bool wants_turn;
	int turn; /* to answer challenges, negative: not had */
};

/* status.c: the exit status, 0 where the certificate is good.  Without a store there is nothing yet. */
int status_print(struct command *, bool as_json);
