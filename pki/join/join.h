/* SPDX-License-Identifier: MIT */
/* join - the verbs that talk to a CA or a provider, or stand for one.  Each returns an exit code, after
 * messages. */
#pragma once
#include "pki/options.h"

/* Is a CA meant that is asked over HTTPS: by its URL, or by a token? */
bool join_is_online(const struct options *);
/* The root of a CA, by its fingerprint. */
int join_root(const struct options *);
/* A one-time token, signed with a provisioner's key. */
int join_token(const struct options *);
/* A leaf for a token; profile: what it is to be. */
int join_leaf(const struct options *, const struct profile *);
/* The tenant: ask for a CA of its own; take it. */
int join_request(const struct options *);
int join_accept(const struct options *);
/* The provider: sign what a tenant asks for; take requests over HTTPS. */
int join_approve(const struct options *);
int join_serve(const struct options *);
/* Passive revocation at a step-ca. */
int join_revoke(const struct options *);
