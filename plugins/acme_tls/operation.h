/* SPDX-License-Identifier: MIT */
/*
 * operation - one operation at the CA (RFC 8555, RFC 9773), carried out by a process of its own, see
 * protocol.h: the libraries for it are loaded, and a CA's answers are parsed, nowhere else.  The answers of
 * the process are checked again, though it is a part of semstreams.  One thread; starting takes some
 * milliseconds.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "options.h"
#include "protocol.h"
#include "plugins/identity/store.h"

struct operation_events {
	/* A line for the log, finished "message key=value"; level SS_LOG_... */
	void (*log)(void *arg, int32_t level, const char *text);
	/* A request was made to the CA: "newOrder", ...  May be NULL. */
	void (*counted)(void *arg, const char *request);
	void *arg;
};

struct operation;

/* The request for a certificate, which may replace one. */
json_t *operation_issue(const struct acme_setup *, const struct stored_cert *old);
/*
 * The store has to be locked.  request: what protocol.h says of the operation itself, to which the settings
 * are added; it is taken over.  ca_files: to trust for the CA's HTTPS, NULL-ended.  0, -errno with why.
 */
int operation_start(const struct acme_setup *, json_t *request, const char *const *ca_files,
		    const struct operation_events *, struct operation **out, char *why, size_t why_size);
/* Readable when there is something for operation_read(). */
int operation_fd(const struct operation *);
/*
 * Take what the process has said, without waiting, and pass it to the events.  The result, valid until
 * operation_free(); NULL: still under way.  To be called each second or so as well: it ends what is overdue.
 */
struct obtain_result *operation_read(struct operation *);
/* The same, to the end. */
struct obtain_result *operation_wait(struct operation *);
/* An operation under way is given up.  NULL is allowed. */
void operation_free(struct operation *);
