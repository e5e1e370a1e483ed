/* SPDX-License-Identifier: MIT */
/* revoke - the verbs "revoke" and "crl".  Each returns an exit code, after messages. */
#pragma once
#include "pki/options.h"

/* A certificate is revoked, or taken back. */
int revoke_one(const struct options *);
/* The list of a CA is made, or shown. */
int revoke_list(const struct options *);
