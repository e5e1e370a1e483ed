/* SPDX-License-Identifier: MIT */
/* names - whom a certificate is for: a common name, and DNS names and addresses, each once and in one form.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <gnutls/x509.h>
#include <semstreams/base/host_name.h>
#include "fault.h"

enum { NAMES_MAX = 100 };

struct names {
	struct ss_host_name *v;
	size_t n;
};

/*
 * Add a name as people write it: "a.example", "10.1.100.5", also with "DNS:" or "IP:" before it.  One that is
 * there already is left out.  An address behind "DNS:" is taken as an address: *was_dns (may be NULL) is set.
 * 0, -EINVAL with the fault, -ENOMEM.
 */
int names_add(struct names *, const char *text, bool *was_dns, struct fault *);
bool names_have(const struct names *, const struct ss_host_name *);
/* Have both the same, in any order? */
bool names_same(const struct names *, const struct names *);
void names_done(struct names *);
/* One subject alternative name of GnuTLS, which may be foreign.  0, -EINVAL, -ENOMEM. */
int names_take(struct names *, unsigned kind, const unsigned char *bytes, size_t len, struct fault *);
/* Why a text is no common name, and what to write; NULL: it is one. */
const char *name_fault(const char *common_name);
/* What foreign bytes can be shown as: harmless characters, cut to size. */
const char *name_show(const void *bytes, size_t len, char *buf, size_t size);
