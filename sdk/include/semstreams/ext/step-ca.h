/* SPDX-License-Identifier: MIT */
/*
 * semstreams/ext/step-ca.h - a client of step-ca's own API (github.com/smallstep/certificates): the root by
 * its fingerprint, a certificate for a one-time token, its renewal over mutual TLS, revocation.  Not
 * installed.
 *
 * Every call waits for its answer, for at most timeout_ns: call it in a thread or a program of its own.  A
 * struct step_ca serves one call at a time; only step_ca_cancel() may be called meanwhile, by any thread.
 * Every request has a connection of its own and is sent once: a token is never sent twice by itself.  The CA
 * is checked against ca_files, but for step_ca_root().  Keys, tokens and replies are wiped where they are
 * freed here.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

struct step_ca;

/* Borrowed as long as the client lives. */
struct step_ca_options {
	const char *url;                    /* "https://ca.example:9000" */
	const char *const *ca_files;        /* PEM, NULL-ended; NULL or empty: those of the system */
	const char *url_option, *ca_option; /* what messages call these; NULL: "ca_url", "ca_bundle" */
	uint64_t timeout_ns;                /* for the whole of a call; 0: 30 s */
	size_t max_reply;                   /* bytes; 0: 256 KiB */
};

/* What became of a call, and what follows from it. */
enum step_ca_fail {
	STEP_CA_OK,
	STEP_CA_UNREACHABLE,  /* not reached, or broken off: try again */
	STEP_CA_BUSY,         /* it cannot now (429, 5xx): try again, after retry_after */
	STEP_CA_UNTRUSTED,    /* whoever answered is not the CA that is trusted */
	STEP_CA_TOKEN,        /* the token is used, expired, of another CA...: a new one is needed */
	STEP_CA_UNAUTHORIZED, /* the certificate is expired, revoked or of another CA: a token is needed */
	STEP_CA_REFUSED,      /* it says no to what was asked for: names, key, lifetime */
	STEP_CA_BROKEN,       /* the answer makes no sense: is this step-ca? */
	STEP_CA_CANCELLED,
	STEP_CA_LOCAL /* of this machine: out of memory, an unusable key, ... */
};

struct step_ca_result {
	enum step_ca_fail fail;
	long status;         /* of HTTP; 0: there was no answer */
	int64_t retry_after; /* seconds that the CA asks to wait, 0: none; at most a day */
	/* one sentence: the URL, what happened, with the status and the CA's words if it answered, and what
	 * to do.  No secret is in it. */
	char why[768];
};

/*
 * Nothing is sent yet.  0; -EINVAL: the URL, or a file of CAs cannot be read, with the reason in why;
 * -ENOMEM.
 */
int step_ca_new(const struct step_ca_options *, struct step_ca **out, char *why, size_t why_size);
/* NULL is allowed. */
void step_ca_free(struct step_ca *);
/* [any] The call under way, and each later one, ends at once with -ECANCELED. */
void step_ca_cancel(struct step_ca *);

/*
 * All of the following: 0, or -errno with *result filled in (it always is).  Texts in PEM are malloced, for
 * free(); they are what the CA sent, and are not looked into: read them as hostile text.
 */

/* "status": "ok" of /health. */
int step_ca_health(struct step_ca *, struct step_ca_result *);
/* The certificates with which the CA itself answers, its own first; the second has signed it, and what the CA
 * signs. */
int step_ca_peer(struct step_ca *, char **chain, struct step_ca_result *);
/*
 * The root whose SHA-256 is fingerprint (hex; colons, blanks and capitals do not matter), from a CA that
 * nothing is known of: whoever answers is believed nothing but a certificate that has this fingerprint, and
 * is sent nothing.  From then on the client trusts this root, and nobody else.  pem may be NULL.
 */
int step_ca_root(struct step_ca *, const char *fingerprint, char **pem, struct step_ca_result *);
/* A certificate for a request, by a one-time token.  not_after: as "24h" or a time of RFC 3339; NULL: the
 * provisioner's default.  *chain: leaf first. */
int step_ca_sign(struct step_ca *, const char *csr_pem, const char *token, const char *not_after,
		 char **chain, struct step_ca_result *);
/* A new one like the certificate with which we authenticate, for the same key. */
int step_ca_renew(struct step_ca *, const char *chain_pem, const char *key_pem, char **chain,
		  struct step_ca_result *);
/*
 * Passive revocation: the CA renews it no more; who has the certificate can still show it.  serial is
 * decimal, as step-ca has it (it takes any other for an unknown one and says "ok").  Either by a token made
 * for revocation, or with chain_pem and key_pem of the certificate itself and token NULL.
 */
struct step_ca_revocation {
	const char *serial, *token, *chain_pem, *key_pem, *reason;
	int reason_code; /* of RFC 5280 */
};
int step_ca_revoke(struct step_ca *, const struct step_ca_revocation *, struct step_ca_result *);
/* Any other document, as "/provisioners?limit=100": a JSON object, for json_decref(). */
int step_ca_get(struct step_ca *, const char *path, json_t **out, struct step_ca_result *);
/* The same for sending one, which is taken over; for who speaks as step-ca does. */
int step_ca_post(struct step_ca *, const char *path, json_t *document, json_t **out, struct step_ca_result *);
