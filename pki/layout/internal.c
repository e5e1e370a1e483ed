/* SPDX-License-Identifier: MIT */
/* internal - the layout for Redis, its workers and an API: ca/, redis/, workers/, api/, each NAME-cert.pem
 * with NAME-key.pem and NAME-bundle.pem; certs/metadata.json says what should be there. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cnf.h"
#include "tree.h"

static const char suffix[] = "-cert.pem";

enum { VALIDITY_DAYS = 3650 };

static const struct {
	const char *base, *subject;
	const struct profile *profile;
	const char *names[4]; /* of a server, which has a .cnf to change them */
} leaves[] = {{"redis/redis", "redis-server", &profile_service, {"localhost", "redis-server", "127.0.0.1"}},
	      {"workers/worker", "worker", &profile_device, {"worker"}},
	      {"api/api", "api-server", &profile_service, {"localhost", "api-server", "127.0.0.1"}}};

/* ---- init ---- */

static int64_t life(const struct tree *t)
{
	return t->life_s ? t->life_s : (int64_t)VALIDITY_DAYS * TREE_DAY;
}

static int member_at(const struct tree *t, const char *base, struct member *m, struct fault *f)
{
	int rc = TREE_PATH(m->shown, f, "%s%s", base, suffix);

	if (rc == 0)
		rc = TREE_PATH(m->crt, f, "%s/%s%s", t->dir, base, suffix);
	if (rc == 0)
		rc = TREE_PATH(m->key, f, "%s/%s-key.pem", t->dir, base);
	if (rc == 0)
		rc = TREE_PATH(m->bundle, f, "%s/%s-bundle.pem", t->dir, base);
	if (rc == 0)
		rc = TREE_PATH(m->csr, f, "%s/%s.csr", t->dir, base);
	return rc ? rc : TREE_PATH(m->cnf, f, "%s/%s.cnf", t->dir, base);
}

static int init_ca(struct tree *t, struct issuer *issuer, struct fault *f)
{
	const struct options *o = t->o;
	const struct names none = {0};
	const struct issue what = {.profile = &profile_root,
				   .subject = "Internal Root CA",
				   .key_type = o->key_type,
				   .crt = t->root,
				   .key = t->root_key,
				   .names = &none,
				   .passphrase = &o->passphrase,
				   .life_s = life(t),
				   .path_len = 0,
				   .replace = o->force};
	struct member m;
	char serial[82];
	int rc = tree_member(t, t->layout->root, t->layout->root_key, &m, f);

	if (rc == 0)
		rc = tree_issue(t, &m, &what, NULL, f);
	if (rc == 0)
		rc = issuer_load(t->root, t->root_key, &o->passphrase, issuer, f);
	if (rc)
		return rc;
	certificate_serial(issuer->chain.v[0], serial);
	strcat(serial, "\n");
	return tree_write(t, "ca/ca-cert.srl", 0644, serial, f);
}

/* A server keeps the names of the .cnf that it has; --san are more of them. */
static int init_names(const struct tree *t, const struct member *m, size_t i, struct names *names,
		      struct fault *f)
{
	bool server = leaves[i].profile->server;
	int rc = server ? cnf_read(m->cnf, names, f) : -ENOENT;

	for (size_t k = 0; rc == -ENOENT || (rc == 0 && k > 0); k++) {
		if (!leaves[i].names[k])
			break;
		rc = names_add(names, leaves[i].names[k], NULL, f);
	}
	for (size_t k = 0; rc == 0 && server && k < t->o->names.n; k++)
		rc = names_add(names, t->o->names.v[k].text, NULL, f);
	return rc == 0 && server ? cnf_write(m->cnf, leaves[i].subject, names, f) : rc;
}

static int init_member(struct tree *t, size_t i, const struct issuer *issuer, struct fault *f)
{
	static const struct passphrase none;
	struct member m;
	struct names names = {0};
	int rc = member_at(t, leaves[i].base, &m, f);

	if (rc == 0)
		rc = init_names(t, &m, i, &names, f);
	if (rc == 0) {
		const struct issue what = {.profile = leaves[i].profile,
					   .subject = leaves[i].subject,
					   .key_type = t->o->key_type,
					   .crt = m.crt,
					   .key = m.key,
					   .csr = m.csr,
					   .bundle = m.bundle,
					   .names = &names,
					   .passphrase = &none,
					   .life_s = life(t),
					   .path_len = -1,
					   .replace = t->o->force};
		rc = tree_issue(t, &m, &what, issuer, f);
	}
	names_done(&names);
	return rc;
}

static int init(struct tree *t, struct fault *f)
{
	struct issuer issuer = {0};

	json_decref(t->metadata);
	t->metadata = NULL;
	int rc = init_ca(t, &issuer, f);
	for (size_t i = 0; rc == 0 && i < sizeof leaves / sizeof *leaves; i++)
		rc = init_member(t, i, &issuer, f);
	issuer_done(&issuer);
	return rc ? rc : tree_save(t, f);
}

/* ---- walking ---- */

static int is_folder(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int is_certificate(const struct dirent *d)
{
	size_t n = strlen(d->d_name), k = sizeof suffix - 1;

	return n > k && d->d_name[0] != '.' && strcmp(d->d_name + n - k, suffix) == 0;
}

static int walk_folder(struct tree *t, const char *name, member_fn *each, void *arg, struct fault *f)
{
	char path[PATH_MAX], base[PATH_MAX];
	struct dirent **files;
	struct member m;
	int rc = TREE_PATH(path, f, "%s/%s", t->dir, name),
	    n = rc ? -1 : scandir(path, &files, is_certificate, alphasort);

	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = TREE_PATH(base, f, "%s/%.*s", name,
				       (int)(strlen(files[i]->d_name) - (sizeof suffix - 1)),
				       files[i]->d_name);
		if (rc == 0)
			rc = member_at(t, base, &m, f);
		if (rc == 0 && strcmp(m.crt, t->root) != 0)
			rc = each(t, &m, arg, f);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
	return rc;
}

/* Each certificate two levels below, but for the CA's, in order. */
static int walk(struct tree *t, member_fn *each, void *arg, struct fault *f)
{
	struct dirent **folders;
	int rc = 0, n = scandir(t->dir, &folders, is_folder, alphasort);

	if (n < 0)
		return refuse(f, "%s cannot be read: %s", t->dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = walk_folder(t, folders[i]->d_name, each, arg, f);
		free(folders[i]);
	}
	free(folders);
	return rc;
}

const struct layout layout_internal = {.name = "internal",
				       .dir = "pki",
				       .metadata = "certs/metadata.json",
				       .root = "ca/ca-cert.pem",
				       .root_key = "ca/ca-key.pem",
				       .issuer = "ca/ca-cert.pem",
				       .issuer_key = "ca/ca-key.pem",
				       .init = init,
				       .walk = walk};
