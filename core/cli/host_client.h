/* SPDX-License-Identifier: MIT */
/* host_client - a question to a running host, over its unix socket or its admin port. */
#pragma once
#include <stddef.h>
#include <semstreams/base/strbuf.h>

struct cli_options;

struct host_address {
	char text[512]; /* "unix:/path" or "host:port" */
};

/*
 * Where the host is: --admin, else what the configuration says (its socket, else its port), else the places
 * where a service has them.  0, or -EINVAL with a message on stderr.
 */
int host_find(const struct cli_options *, struct host_address *);
/*
 * GET path, or POST it with a body (not NULL).  The status, and the answer in *answer; -errno with a text in
 * why.  What is not answered within ten seconds has failed, a change within five minutes.
 */
int host_ask(const struct host_address *, const char *path, const char *body, struct ss_strbuf *answer,
	     char why[512]);
/*
 * POST a body and take the lines of the answer as they come, until line() returns other than 0 or the host
 * closes: 200.  Another status, or -errno: refused or failed, with a text in why.  A host that says nothing
 * for half a minute, not even an empty line, has failed.
 */
int host_follow(const struct host_address *, const char *path, const char *body,
		int (*line)(void *arg, const char *text, size_t len), void *arg, char why[512]);
