/* SPDX-License-Identifier: MIT */
/* cli - the command line: what is to be done, with what.  Pure but for messages on the streams it is given.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "core/cli/print_graph.h"

#define CLI_DEFAULT_CONFIG "/etc/semstreams/config.json"

enum { EXIT_USAGE = 2, EXIT_CONFIG = 78 }; /* besides 0 and 1; 78 is EX_CONFIG of sysexits.h */

enum cli_command {
	CLI_RUN,
	CLI_CHECK,
	CLI_GRAPH,
	CLI_PLUGINS_LIST,
	CLI_PLUGINS_DESCRIBE,
	CLI_PLUGINS_NEW,
	CLI_SCHEMA,
	CLI_CERT,
	CLI_STATUS,
	CLI_TOP,
	CLI_RELOAD,
	CLI_DOCTOR,
	CLI_CONFIG_SHOW,
	CLI_TAP,
	CLI_HELP,
	CLI_VERSION,
};

/* Strings belong to argv. */
struct cli_options {
	enum cli_command command;
	enum cli_command topic; /* CLI_HELP: of which command; CLI_HELP = in general */
	const char *config;     /* NULL: not given, so CLI_DEFAULT_CONFIG */
	const char *type;       /* CLI_PLUGINS_DESCRIBE */
	const char *name, *kind, *lang, *dir, *template; /* CLI_PLUGINS_NEW; NULL: not given */
	int role;                                        /* CLI_CERT: SS_TLS_..., -1 = not given */
	const char **words; /* CLI_CERT: the verb and what follows it; cli_done frees the array */
	size_t n_words;
	const char **folders; /* of plugins, to be searched first; cli_done frees the array */
	size_t n_folders;
	enum graph_format format;
	bool json, markdown, validate;
	bool connect;        /* CLI_CHECK */
	uint64_t timeout_ns; /* CLI_CHECK, CLI_DOCTOR: of what is examined */
	const char *admin;   /* where the running host is asked; NULL: see host_find() */
	bool once;           /* CLI_TOP */
	int64_t interval_ns;
	const char *point, *where; /* CLI_TAP */
	const char **redact;       /* CLI_TAP: fields; cli_done frees the array */
	size_t n_redact;
	int64_t limit;           /* CLI_TAP: events; 0 = no limit */
	bool effective, running; /* CLI_CONFIG_SHOW */
	bool watch_config;
	int log_level; /* SS_LOG_..., -1 = not given */
	int log_json;  /* 0, 1, -1 = not given */
	uint64_t shutdown_timeout_ns;
};

/* Is this the name of a program beside this one, as in "semstreams replay"?  Pure. */
bool cli_is_beside(const char *word);

/* 0, EXIT_USAGE with one line on err, or 1: out of memory.  cli_done in any case. */
int cli_parse(int argc, char **argv, struct cli_options *, FILE *err);
void cli_done(struct cli_options *);

void cli_print_help(enum cli_command topic, FILE *);
