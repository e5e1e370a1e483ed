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
