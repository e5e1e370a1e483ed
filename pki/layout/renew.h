/* SPDX-License-Identifier: MIT */
/* renew - certificates of a tree, or outside of trees, in a new life: those that are due, or one that is
 * named. Each returns an exit code, after messages. */
#pragma once
#include "pki/options.h"

int tree_renew(const struct options *);
int tree_rotate(const struct options *);
/* A certificate and its key outside of trees. */
int renew_one(const struct options *);
