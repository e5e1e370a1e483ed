/* SPDX-License-Identifier: MIT */
/*
 * accounts - where each component's events went: in + created = out + filtered + dropped + held, always.
 *
 * The component's thread counts in a plain struct and publishes it as a whole; readers take a consistent copy
 * (a sequence lock), so the equation holds in every scrape.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include <semstreams/plugin.h>

enum { REASONS_MAX = 16 }; /* of a plugin's own */

/* Reasons the host knows by itself, then the plugin's own. */
enum {
	DROP_ERROR,
	DROP_UNCONNECTED,
	DROP_SHUTDOWN,
	DROP_DUPLICATE,
	DROP_OWN,
	DROP_REASONS = DROP_OWN + REASONS_MAX
};

struct accounts {
	uint64_t in;      /* source: taken in; else: taken from the queues */
	uint64_t out;     /* emitted; sink: delivered */
	uint64_t created; /* emitted by a processor without standing for one input event */
	uint64_t filtered;
	uint64_t held; /* in the plugin */
	uint64_t dropped[DROP_REASONS];
};
#define ACCOUNTS_WORDS (sizeof(struct accounts) / sizeof(uint64_t))

struct accounts_board {
	_Atomic uint32_t version; /* odd while being written */
	_Atomic uint64_t words[ACCOUNTS_WORDS];
};

/* [owner] The first `own` of the plugin's reasons; the others are never counted. */
void accounts_publish(struct accounts_board *, const struct accounts *, uint32_t own);
/* [any] */
void accounts_read(const struct accounts_board *, struct accounts *);
