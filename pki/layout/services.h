/* SPDX-License-Identifier: MIT */
/* services - the certificates of the services beside a step-ca: data/certs/SERVICE/SERVICE.crt, .key. */
#pragma once
#include "tree.h"

/*
 * Those that are missing, or all of them by --force.  The running step-ca issues them by one-time tokens;
 * where none answers, and none was named, the intermediate's key of the tree signs.  0, -EINVAL with the
 * fault, -ENOMEM.
 */
int services_make(struct tree *, struct fault *);
