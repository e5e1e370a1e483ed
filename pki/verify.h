/* SPDX-License-Identifier: MIT */
/* verify - is a certificate good, for whom, and for how long?  What is found goes to stdout, a line each: it
 * is the answer, also where it is bad. */
#pragma once
#include "certificate.h"

enum { VERIFY_LEAF_DAYS = 398 }; /* what clients of the world outside put up with */

struct verify {
	const char *crt;   /* the file: the certificate, and CAs behind it */
	const char *shown; /* what it is called */
	const char *roots; /* a file */
	const char *const *intermediates;
	size_t n_intermediates;
	const char *const *crls; /* files with revocation lists of the CAs */
	size_t n_crls;
	const char *key; /* NULL: not looked at */
	const struct passphrase *passphrase;
	const char *name;          /* it has to be for this one; NULL: any */
	const char *subject;       /* it has to have just this common name; NULL: any */
	const struct names *names; /* and just these; NULL: any */
	bool client;               /* for a client, if name is NULL; else for a server */
	bool any_purpose;
	int64_t renew_s; /* 0: a third of its life, 30 days at most */
	json_t *list;    /* not NULL: in place of lines, an object is appended */
};

/* 1: good for long enough; 0: not; -EINVAL with the fault: it could not be looked at; -ENOMEM. */
int verify_certificate(const struct verify *, struct fault *);
/* Is it to be renewed by now? */
bool verify_is_due(gnutls_x509_crt_t, int64_t renew_s);
/* RENEW_DAYS as seconds, 0 if it is not set.  -EINVAL with the fault. */
int verify_renew_days(int64_t *seconds, struct fault *);
