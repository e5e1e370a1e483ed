/* SPDX-License-Identifier: MIT */
/*
 * message - what tenant and provider say to each other: requests over HTTP, certificates in JSON, what
 * step-ca tells of its provisioners.  All of it is a stranger's, and read with limits.  Pure.
 */
#pragma once
#include <stddef.h>
#include <semstreams/base/strbuf.h>
#include "pki/certificate.h"

enum {
	MESSAGE_MAX = 256 << 10,       /* bytes of a reply */
	MESSAGE_HEADERS_MAX = 8 << 10, /* bytes of a request in front of its body */
	MESSAGE_BODY_MAX = 64 << 10,   /* of a request */
	MESSAGE_TENANT_MAX = 64,       /* bytes */
};

/* ---- requests over HTTP */

enum message_route { MESSAGE_JOIN, MESSAGE_ROOT, MESSAGE_CRL, MESSAGE_HEALTH };
struct message_request {
	enum message_route route;
	char name[MESSAGE_TENANT_MAX +
		  1];     /* the tenant, the root's fingerprint, or the file of a revocation list */
	const char *body; /* in the bytes given */
	size_t len;
};
/* 0 with *out: it is there as a whole; -EAGAIN: not yet; else the HTTP status to refuse it with. */
int message_request_read(const char *bytes, size_t len, struct message_request *out);
/* The request for a certificate in the body of a join: malloced PEM, yet to be read.  0, -EINVAL, -ENOMEM. */
int message_csr(const char *body, size_t len, char **out, struct fault *);
/* Letters, digits and . _ - , the first no dot, at most MESSAGE_TENANT_MAX bytes: names files and URLs. */
bool message_tenant_ok(const char *);

/* ---- the answer: {"sub_ca_cert": the tenant's CA and those above it, "root_ca_cert": the root} */

struct message_reply {
	struct certificates chain, root;
};
int message_reply_read(const char *bytes, size_t len, struct message_reply *out, struct fault *);
void message_reply_done(struct message_reply *);
/* As JSON; chain: the root itself is left out.  0, -ENOMEM. */
int message_reply_put(const struct certificates *chain, gnutls_x509_crt_t root, struct ss_strbuf *out);
/*
 * Is the chain good: each signed by the next, the last by the root, in time, each CA as long a path as it
 * needs, and its first for the key (NULL: for any)?  0, -EINVAL, -ENOMEM.
 */
int message_chain_check(const struct certificates *chain, gnutls_x509_crt_t root, const struct key *,
			struct fault *);

/* ---- step-ca's provisioners */

struct message_provisioner {
	char *key;        /* its encrypted key, malloced; NULL: it is not on this page */
	char cursor[128]; /* where the next page begins; "": this was the last */
};
/* Look for a JWK provisioner by name on a page of the list.  0, -EINVAL, -ENOMEM. */
int message_provisioner_read(const char *bytes, size_t len, const char *name, struct message_provisioner *out,
			     struct fault *);
