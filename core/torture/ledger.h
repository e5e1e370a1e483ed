/* SPDX-License-Identifier: MIT */
/*
 * ledger - what a process that runs a plugin is doing and what it found, in memory that it shares with the
 * process that watches it, so that nothing is lost when it dies.  Any thread; nothing is allocated.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/torture/rules.h"

enum { LEDGER_BREACHES = 64, LEDGER_TEXT = 320, LEDGER_CALLBACK = 32 };

struct breach {
	enum rule rule;
	char type[64]; /* of the component; "": of the file */
	char callback[LEDGER_CALLBACK];
	char what[LEDGER_TEXT]; /* a sentence without its full stop */
};

struct ledger {
	_Atomic uint64_t since_ns;     /* monotonic, when the plugin was entered; 0: it is not */
	const char *_Atomic callback;  /* entered last; a literal, so it is the same in a forked process */
	_Atomic uint64_t cycle;        /* lives of instances so far */
	_Atomic uint64_t failed_at;    /* the allocation that was made to fail; 0: none */
	const char *_Atomic failed_in; /* in this callback */
	_Atomic uint64_t result;       /* of a trial, for comparison with another one */
	_Atomic bool finished;         /* the process has come to its end by itself */
	atomic_flag busy;
	char type[64]; /* that is tried */
	uint32_t n;
	struct breach breaches[LEDGER_BREACHES];
};

/* Made once, before any process that is to share it; NULL: out of memory. */
struct ledger *ledger_new(void);
/* The ledger of this program. */
struct ledger *ledger(void);
/* Write a breach down; callback NULL: the one that was entered last.  The same rule in the same callback is
 * written down once. */
void ledger_add(enum rule, const char *callback, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* For signal handlers: the text is taken as it is. */
void ledger_add_plain(enum rule, const char *callback, const char *what);

uint64_t ledger_now(void); /* monotonic, ns */
