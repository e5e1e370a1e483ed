/* SPDX-License-Identifier: MIT */
/* step_home - what layouts for a step-ca have in common: a root and an intermediate with encrypted keys, the
 * password, a provisioner, ca.json and defaults.json.  Paths in these are below the home, where step-ca is
 * started. */
#pragma once
#include <jansson.h>
#include <semstreams/base/strbuf.h>
#include "tree.h"

/* The key by which step-ca lets somebody order certificates. */
struct provisioner {
	json_t *public;          /* the JWK without its secret */
	struct ss_strbuf sealed; /* the JWK with it: JWE, compact serialization */
};

struct step_home {
	const char *base;              /* of the home in the tree: "" or with "/" at its end */
	const char *config, *defaults; /* all files below the home */
	const char *root_subject, *subject;
	int64_t root_life_s, life_s;
	int root_path_len, path_len;
	/* Texts that are the same in each tree, their paths below the tree; NULL-ended. */
	const struct step_file {
		const char *path, *text;
	} * files;
	/* "claims" and "provisioners" of ca.json; NULL: out of memory. */
	json_t *(*authority)(const struct provisioner *);
};

/* All of it.  0, -EINVAL with the fault, -ENOMEM. */
int step_home_init(struct tree *, const struct step_home *, struct fault *);
/* Is it such that step-ca starts on it, and clients find it? */
int step_home_check(struct tree *, const struct step_home *, struct verdict *, struct fault *);
/* On stdout, for people: the root's fingerprint, and what to do with its key. */
void step_home_tell(const struct tree *);
