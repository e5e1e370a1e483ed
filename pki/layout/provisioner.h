/* SPDX-License-Identifier: MIT */
/* provisioner - the key by which step-ca lets somebody order certificates: an ECDSA key as JWK (RFC 7517),
 * encrypted with a password as JWE (RFC 7516, PBES2 of RFC 7518).  By libcrypto and GnuTLS; any thread. */
#pragma once
#include <jansson.h>
#include "pki/fault.h"
#include <semstreams/base/strbuf.h>

struct provisioner {
	json_t *public;          /* the JWK without its secret */
	struct ss_strbuf sealed; /* the JWK with it: JWE, compact serialization */
};

/* A new key.  0 with *out for provisioner_done(), -EINVAL with the fault, -ENOMEM. */
int provisioner_new(const struct ss_strbuf *password, struct provisioner *out, struct fault *);
/* The sealed key in the JSON serialization, for a file of its own.  NULL: out of memory. */
json_t *provisioner_file(const struct provisioner *);
void provisioner_done(struct provisioner *);
