/* SPDX-License-Identifier: MIT */
/* lot - the batches and tokens of the guard: what the host knows of them, and their pages. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "core/flow/services/attributes.h"
#include "core/torture/guard.h"

struct ss_token {
	struct ss_token *next;
	struct guard *guard;
	int32_t refs, worst;
	uint64_t cookie;
	bool of_source, has_position;
	struct ss_position position;
};

/* A batch, and what the host knows of it.  What the plugin sees lies in pages of its own. */
struct lot {
	struct lot *next, *parent;
	struct ss_batch *pub;
	char *pages;
	size_t size; /* without the page behind them, which is never there */
	int32_t refs;
	bool emitted, gone;
	bool is_input, kept, finished;
	const char *made_in;
	struct attribute_table attributes;
};

/* New lots have one reference, the caller's; with the guard's lock held.  Out of memory ends the process. */
struct lot *lot_new(struct guard *, struct lot *parent, uint32_t rows, size_t bytes);
/* Give a reference back, with the lock held: what nobody holds is not there any more.  NULL is allowed. */
void lot_release(struct lot *);
/* Nobody writes to it from now on. */
void lot_protect(struct lot *);
/* NULL: the host did not make it, or it belongs to another instance. */
struct lot *lot_find(const struct guard *, const struct ss_batch *);
/* In any instance. */
struct lot *lot_find_any(const struct ss_batch *, struct guard **);
/* The guard is known to lot_find_any() and guard_explain(), or not any more; then its lots and tokens are
 * freed. */
void lots_begin(struct guard *);
void lots_end(struct guard *);

struct ss_token *token_new(struct guard *);
/* With the lock held. */
void token_drop(struct ss_token *, int32_t status);

/* The process cannot go on: no breach, but a limit of the machine. */
_Noreturn void guard_fatal(const char *what);
