/* SPDX-License-Identifier: MIT */
/*
 * cert_command - "semstreams cert ...": what operators do by hand, on the storage of a running host and
 * beside it.  The lock keeps both from obtaining at once; a host sees within a second what changed.  Here is
 * what holds for every CA: status, issue, renew; a provider adds how it obtains, and verbs of its own.
 * Control thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include <semstreams/plugin.h>
#include "obtain_result.h"
#include "renewal_schedule.h"
#include "setup.h"
#include "store.h"

struct cert_command;

struct cert_verb {
	const char *name;
	int (*run)(struct cert_command *); /* the exit status */
	bool wants_lock;
};

/* What a provider adds. */
struct cert_provider {
	const char *usage;
	const char
		*url_word; /* "directory": what the CA's URL is called in the status; in JSON with "_url" */
	const struct cert_verb *verbs; /* behind status, issue and renew; name NULL behind the last */
	/* argv[i] of the verb; how many words were taken, 0: it is none.  May be NULL. */
	int (*option)(struct cert_command *, const char *const *argv, uint32_t left);
	/* Is something wrong with what was asked for?  The exit status, after saying so; 0: no.  May be NULL.
	 */
	int (*refuse)(struct cert_command *);
	/* A certificate, to its end; the exit status. */
	int (*obtain)(struct cert_command *);
	/* More rows of the status, and members of its JSON.  May be NULL. */
	void (*rows)(struct cert_command *);
	void (*members)(struct cert_command *, json_t *status);
};

/* One command. */
struct cert_command {
	const struct ss_host *host;
	const struct setup *setup;
	const struct cert_provider *provider;
	void *owner;
	const char *const *ca_files;
	void (*print)(void *arg, const char *text);
	void *arg;
	const char *verb;
	bool json, force;
	struct store *store; /* NULL: storage_path does not exist */

	/* what is in the store */
	int64_t now;
	struct stored_cert cert;
	char broken[512]; /* why the stored certificate cannot be used */
	struct store_state state;
};

/* Carry out argv with the first members filled in, up to arg.  The exit status; errors are logged. */
int32_t cert_command_run(struct cert_command *, uint32_t argc, const char *const *argv);

/* A certificate, with a word about it; the exit status. */
int cert_command_obtain(struct cert_command *);
/* To standard output. */
void cert_command_say(struct cert_command *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A row of the status. */
void cert_command_row(struct cert_command *, const char *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The CA may have asked to be left alone: then it is logged, and the status is EX_TEMPFAIL. */
bool cert_command_has_to_wait(const struct cert_command *);
/* What an attempt came to, which is remembered (issues), and otherwise logged.  The exit status. */
int cert_command_ended(struct cert_command *, bool issues, struct obtain_result *);
