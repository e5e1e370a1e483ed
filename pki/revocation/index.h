/* SPDX-License-Identifier: MIT */
/*
 * index - what a CA has issued and revoked, and the numbers of its revocation lists: a text file beside its
 * certificate, ca.crt -> ca.index, to which lines are only ever added.  Several processes may use it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <gnutls/x509.h>
#include "pki/fault.h"

enum { SERIAL_HEX = 132 }; /* bytes for the longest serial in hex, with its end */

/* One certificate; texts are the index's. */
struct index_entry {
	const char *serial, *subject; /* serial: hex, as certificate_serial() has it */
	int64_t not_after_s;          /* 0: unknown */
	int64_t since_s;              /* when it was revoked; 0: it is not */
	const char *reason;           /* if so, see index_reason() */
	unsigned line;
};

struct index {
	char path[4096];
	int fd;     /* locked if it was opened to be written; -1: there is no file */
	char *text; /* the whole file */
	struct index_entry *entries;
	size_t n;
	uint64_t crl_number; /* the last that was given; 0: none */
};

/* Open and read that of a CA, to add to it (made if there is none, and nobody else writes meanwhile) or only
 * to look.  An index of another CA, whose place this one took, is moved away.  0 with *out for index_close(),
 * -EINVAL with the fault, -ENOMEM. */
int index_open(const char *ca_path, gnutls_x509_crt_t ca, bool write, struct index *out, struct fault *);
void index_close(struct index *);
/* Its place in entries; NULL: the CA has not issued it, as far as is known. */
const struct index_entry *index_find(const struct index *, const char *serial);

/* A certificate has been made: opens the index, adds it, closes it.  As index_open(). */
int index_record(const char *ca_path, gnutls_x509_crt_t ca, gnutls_x509_crt_t issued, struct fault *);
/* It is revoked now, for a reason of index_reason(). */
int index_revoke(struct index *, const struct index_entry *, int64_t now, const char *reason, struct fault *);
/* It is not revoked any more. */
int index_reinstate(struct index *, const char *serial, struct fault *);
/* A list of this number is going to be made. */
int index_number(struct index *, uint64_t number, struct fault *);

/* The reasons of RFC 5280 by name, NULL-ended, and their codes. */
struct index_reason {
	const char *name;
	unsigned code;
};
extern const struct index_reason index_reasons[];
