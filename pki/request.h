/* SPDX-License-Identifier: MIT */
/* request - certificate signing requests (PKCS #10): made, and read as what a stranger sent.  Pure. */
#pragma once
#include <semstreams/base/strbuf.h>
#include "key.h"
#include "names.h"

/* What a request asks for. */
struct request {
	char subject[256]; /* its common name; "" if there is none */
	gnutls_pubkey_t public;
	struct names names;
	bool wants_ca; /* by its constraints or its key usage */
};

/* PEM into out.  0, -EINVAL, -ENOMEM. */
int request_new(const struct key *, const char *subject, const struct names *, struct ss_strbuf *out,
		struct fault *);
/*
 * Read one from PEM or DER: its signature is checked, and whether its key is of a kind and size that we vouch
 * for; what names it asks for and whether it wants to be a CA is for the caller to judge.  0 with *out for
 * request_done(), -EINVAL with the fault, -ENOMEM.
 */
int request_read(const char *bytes, size_t len, struct request *out, struct fault *);
/* The same from a file. */
int request_load(const char *path, struct request *out, struct fault *);
void request_done(struct request *);
