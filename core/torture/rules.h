/* SPDX-License-Identifier: MIT */
/* rules - what `semstreams plugins check` holds plugins to: one table for messages, --rules and the page. */
#pragma once
#include <stdio.h>

enum rule {
	RULE_DESCRIPTOR_ABI,
	RULE_DESCRIPTOR_NAME,
	RULE_DESCRIPTOR_CALLBACK,
	RULE_OPTION_NAME,
	RULE_OPTION_HELP,
	RULE_OPTION_DEFAULT,
	RULE_OPTION_RANGE,
	RULE_OPTION_OVERLAP,
	RULE_METRIC_NAME,
	RULE_EXPORTED_SYMBOL,
	RULE_UNDEFINED_SYMBOL,
	RULE_CRASH,
	RULE_HANG,
	RULE_EXIT,
	RULE_CREATE_FAILED,
	RULE_START_FAILED,
	RULE_RESTART_FAILED,
	RULE_DRAIN_HANG,
	RULE_RETURN_UNKNOWN,
	RULE_BATCH_LEAK,
	RULE_BATCH_RELEASED_TWICE,
	RULE_BATCH_WRITTEN,
	RULE_BATCH_KEPT,
	RULE_TOKEN_LEAK,
	RULE_TRACK_MISUSED,
	RULE_DONE_TWICE,
	RULE_DONE_UNASKED,
	RULE_DROP_UNKNOWN,
	RULE_EMIT_AFTER_STOP,
	RULE_EMIT_WRONG_THREAD,
	RULE_EMIT_OVER_CAPACITY,
	RULE_EMIT_FOREIGN_MEMORY,
	RULE_EMIT_NULL,
	RULE_EMIT_UNKNOWN_PORT,
	RULE_BUSY_WITHOUT_INPUT_READY,
	RULE_BUSY_LOST,
	RULE_CYCLE_MEMORY,
	RULE_CYCLE_DESCRIPTORS,
	RULE_CYCLE_THREADS,
	RULE_ALLOCATION_CRASH,
	RULE_ALLOCATION_LEAK,
	RULE_GLOBAL_STATE,
	RULE_STDOUT,
	RULE_SIGNAL_HANDLER,
	RULE_LOCALE_OR_UMASK,
	RULE_VALGRIND_ERROR,
	RULE_VALGRIND_LEAK,
	RULES
};

struct rule_text {
	const char *name;
	const char *says;   /* what a breach is, as a sentence without its full stop */
	const char *remedy; /* a sentence */
};

const struct rule_text *rule_text(enum rule);
/* RULES: there is none by that name. */
enum rule rule_find(const char *name);
/* The table as lines, as JSON or for docs/plugin-check.md. */
enum rules_form { RULES_TEXT, RULES_JSON, RULES_MARKDOWN };
void rules_print(enum rules_form, FILE *);
