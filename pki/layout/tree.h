/* SPDX-License-Identifier: MIT */
/* tree - a folder of CAs and the certificates that they sign, arranged by a layout: made and verified; see
 * also renew.h.  What is in it says its metadata.json. */
#pragma once
#include <limits.h>
#include "pki/issue.h"
#include "pki/options.h"

enum { TREE_DAY = 86400 };

struct tree;

/* A certificate of the tree, and the files beside it; "" where a layout has none. */
struct member {
	char shown[PATH_MAX]; /* below the tree */
	char crt[PATH_MAX], key[PATH_MAX], bundle[PATH_MAX], csr[PATH_MAX], cnf[PATH_MAX];
};
typedef int member_fn(struct tree *, struct member *, void *arg, struct fault *);

/* What verifying finds. */
struct verdict {
	json_t *list; /* NULL: lines for people, on stdout */
	bool bad;
};

/* Paths are below the tree's folder. */
struct layout {
	const char *name;
	const char *dir; /* where it is, unless one says otherwise */
	const char *metadata;
	const char *root, *root_key;
	const char *issuer, *issuer_key; /* what signs leaves; NULL: there are none */
	const char *password; /* of the CAs' keys; NULL: they have none, or one that is not kept here */
	bool offline;         /* the root's key may be elsewhere */
	bool beside;          /* the CA that follows another is put beside it, with "-new" in its name */
	int (*init)(struct tree *, struct fault *);
	int (*services)(struct tree *, struct fault *); /* NULL: it has none */
	/* Each certificate but the root's, in order; NULL: those of metadata.json. */
	int (*walk)(struct tree *, member_fn *, void *arg, struct fault *);
	/* What else has to be right; NULL: nothing.  -ENOMEM, -EINVAL: it could not be looked at. */
	int (*check)(struct tree *, struct verdict *, struct fault *);
};
extern const struct layout layout_internal, layout_federation, layout_provider, layout_step_ca;
/* NULL-ended. */
extern const struct layout *const layouts[];

struct tree {
	const struct options *o;
	const struct layout *layout;
	const char *dir;
	char root[PATH_MAX], root_key[PATH_MAX], issuer[PATH_MAX], issuer_key[PATH_MAX], password[PATH_MAX];
	int64_t life_s, renew_s; /* as the environment says; 0: it does not */
	json_t *metadata;        /* NULL: it cannot be read */
};

/* The commands.  Each returns an exit code, after messages. */
int tree_init(const struct options *);
int tree_verify(const struct options *);
int tree_services(const struct options *);

/* ---- for commands on trees */

/* word: the number of the operand that names the folder.  0, -EINVAL. json_decref(metadata) in any case. */
int tree_open(struct tree *, const struct options *, size_t word, struct fault *);
/* 0; -EINVAL: there is no root yet, and how to make it. */
int tree_is_made(const struct tree *, struct fault *);
/* Each certificate but the root's. */
int tree_walk(struct tree *, member_fn *, void *arg, struct fault *);
/* The names that a certificate should have: of its .cnf, else of metadata.json.  -ENOENT: nobody says. */
int tree_names(const struct tree *, const struct member *, struct names *out, struct fault *);
/* A certificate into the metadata.  0, -ENOMEM. */
int tree_record(struct tree *, const struct member *, gnutls_x509_crt_t, const char *profile,
		const struct names *);

/* ---- for layouts */

#define TREE_PATH(out, f, ...)                                                                               \
	(snprintf(out, sizeof(out), __VA_ARGS__) < (int)sizeof(out) ? 0 : refuse(f, "a path is too long"))

/* Where a file of the tree is: PATH_MAX bytes.  0, -EINVAL. */
int tree_path(const struct tree *, const char *below, char *out, struct fault *);
/* A member of these two files. */
int tree_member(const struct tree *, const char *crt, const char *key, struct member *, struct fault *);
/* Make a member's certificate, tell it on stdout and in the metadata.  0, -EINVAL, -ENOMEM. */
int tree_issue(struct tree *, const struct member *, const struct issue *, const struct issuer *,
	       struct fault *);
/* Write the metadata. */
int tree_save(struct tree *, struct fault *);
/* Write one file, with its folders.  0, -EINVAL, -ENOMEM. */
int tree_write(const struct tree *, const char *below, mode_t mode, const char *text, struct fault *);
/* The passphrase of the CAs' keys: as the command line says, else of the tree's file. */
struct passphrase tree_passphrase(const struct tree *, const struct passphrase *said);
/* Something is wrong with a file. */
void tree_wrong(struct verdict *, const char *file, const char *why);
