/* SPDX-License-Identifier: MIT */
/* federation - the layout of an offline root with an intermediate CA for the step-ca of each location:
 * federation-root-ca.crt, -key.pem; location-NAME-intermediate-ca.crt, -key.pem, and -ca-new of one that
 * follows.  The intermediates' keys have no passphrase: each is for another machine. */
#include <ctype.h>
#include <string.h>
#include <unistd.h>
#include "tree.h"

enum {
	ROOT_PATH = 2,     /* room for a provider below it, and its tenants */
	LOCATION_PATH = 0, /* a location issues to programs, not to CAs */
};

static int init_root(struct tree *t, struct fault *f)
{
	const struct names none = {0};
	const struct issue what = {.profile = &profile_root,
				   .subject = "SemStreams Federation Root CA",
				   .key_type = t->o->key_type,
				   .crt = t->root,
				   .key = t->root_key,
				   .names = &none,
				   .passphrase = &t->o->passphrase,
				   .path_len = ROOT_PATH,
				   .replace = t->o->force};
	struct member m;
	int rc = tree_member(t, t->layout->root, t->layout->root_key, &m, f);

	json_decref(t->metadata);
	t->metadata = NULL;
	return rc ? rc : tree_issue(t, &m, &what, NULL, f);
}

static int init_location(struct tree *t, const char *name, const struct issuer *root, struct fault *f)
{
	static const struct passphrase open;
	const struct names none = {0};
	struct member m;
	char subject[80], crt[80], key[80];

	snprintf(subject, sizeof subject, "Location %c%s Intermediate CA", toupper((unsigned char)*name),
		 name + 1);
	snprintf(crt, sizeof crt, "location-%s-intermediate-ca.crt", name);
	snprintf(key, sizeof key, "location-%s-intermediate-ca-key.pem", name);
	int rc = tree_member(t, crt, key, &m, f);
	const struct issue what = {.profile = &profile_intermediate,
				   .subject = subject,
				   .key_type = t->o->key_type,
				   .crt = m.crt,
				   .key = m.key,
				   .names = &none,
				   .passphrase = &open,
				   .path_len = LOCATION_PATH,
				   .replace = t->o->force};
	if (rc == 0)
		rc = tree_issue(t, &m, &what, root, f);
	return rc ? rc : tree_save(t, f);
}

/* A root that is there stays, and gets the locations that are named. */
static int init(struct tree *t, struct fault *f)
{
	static const char *const guide[] = {"a", "b", "c"};
	const struct options *o = t->o;
	const char *const *names = o->n_locations ? o->locations : guide;
	size_t n = o->n_locations ? o->n_locations : sizeof guide / sizeof *guide;
	struct issuer root = {0};
	int rc = 0;

	if (!o->n_locations || access(t->root, F_OK) < 0)
		rc = init_root(t, f);
	if (rc == 0)
		rc = issuer_load(t->root, t->root_key, &o->passphrase, &root, f);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = init_location(t, names[i], &root, f);
	issuer_done(&root);
	return rc;
}

const struct layout layout_federation = {.name = "federation",
					 .dir = "pki",
					 .metadata = "metadata.json",
					 .root = "federation-root-ca.crt",
					 .root_key = "federation-root-ca-key.pem",
					 .offline = true,
					 .beside = true,
					 .init = init};
