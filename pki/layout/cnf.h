/* SPDX-License-Identifier: MIT */
/* cnf - the names of a certificate in a configuration of openssl, where people change them. */
#pragma once
#include "pki/names.h"

/* "DNS.1 = a", "IP.1 = 192.0.2.1" below [alt_names], added to out.  0, -ENOENT, -EINVAL with the fault,
 * -ENOMEM. */
int cnf_read(const char *path, struct names *out, struct fault *);
/* 0, -EINVAL with the fault, -ENOMEM. */
int cnf_write(const char *path, const char *subject, const struct names *, struct fault *);
