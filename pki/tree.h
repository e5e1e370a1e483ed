/* SPDX-License-Identifier: MIT */
/* tree - a folder of a CA and the certificates that it signs: made by a layout, verified, renewed.  Each
 * returns an exit code, after messages. */
#pragma once
#include "options.h"

int tree_init(const struct options *);
int tree_verify(const struct options *);
int tree_renew(const struct options *);
/* A certificate and its key outside of trees. */
int renew_one(const struct options *);
