/* SPDX-License-Identifier: MIT */
/* renew - see renew.h. */
#include "renew.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pki/join/join.h"
#include "pki/join/online.h"
#include "pki/verify.h"
#include "tree.h"

/* ---- renew ---- */

struct renewal {
	struct issuer issuer;
	struct online online; /* the step-ca that signs instead */
	bool at_ca, loaded, all;
	bool nobody_signs; /* the issuer cannot be had, which is the same for all leaves */
	unsigned n, failed;
};

/* The services are told: by a command that knows them. */
static int tell(const char *command, const char *name, const char *crt, const char *key)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		setenv("PKI_NAME", name, 1);
		setenv("PKI_CERT", crt, 1);
		setenv("PKI_KEY", key, 1);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status == 0)
		return 0;
	fprintf(stderr,
		"semstreams pki: %s is renewed, but its --exec command failed (%s %d): run it again by "
		"hand\n",
		crt, WIFSIGNALED(status) ? "signal" : "status",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return 1;
}

/* As the present one, in a new life. */
static int renew(const struct options *o, const struct member *m, gnutls_x509_crt_t now, bool chain,
		 const struct names *names, const struct issuer *issuer, int64_t life_s,
		 gnutls_x509_crt_t *out, struct fault *f)
{
	char subject[256];
	gnutls_pubkey_t public;
	struct passphrase passphrase = o->passphrase;
	struct key key = {0};
	int64_t same =
		gnutls_x509_crt_get_expiration_time(now) - gnutls_x509_crt_get_activation_time(now) - 60;
	int rc = gnutls_pubkey_init(&public) ? -ENOMEM : 0;

	if (rc == 0 && gnutls_pubkey_import_x509(public, now, 0))
		rc = refuse(f, "%s: its key cannot be read", m->crt);
	/* a key that was encrypted stays so */
	if (rc == 0 && (rc = key_load(m->key, &passphrase, &key, f)) == 0 && key.sealed && !passphrase.file &&
	    !passphrase.env)
		passphrase.prompt = true;
	key_done(&key);
	const struct issue what = {.profile = certificate_leaf_profile(now),
				   .subject = certificate_subject(now, subject),
				   .key_type = o->key_type ? o->key_type : key_type_of(public),
				   .crt = m->crt,
				   .key = m->key,
				   .csr = access(m->csr, F_OK) == 0 ? m->csr : NULL,
				   .bundle = access(m->bundle, F_OK) == 0 ? m->bundle : NULL,
				   .chain = chain,
				   .names = names,
				   .passphrase = &passphrase,
				   .life_s = life_s     ? life_s
					     : same > 0 ? same
							: 1,
				   .path_len = -1,
				   .replace = true,
				   .reuse_key = o->reuse_key};
	if (rc == 0)
		rc = issue_pair(&what, issuer, out, f);
	gnutls_pubkey_deinit(public);
	return rc;
}

/* The same by a step-ca, to which the certificate shows itself; the key stays. */
static int renew_at_ca(const struct options *o, const struct member *m, const struct certificates *now,
		       const struct names *names, struct renewal *r, gnutls_x509_crt_t *out, struct fault *f)
{
	struct key key = {0};
	struct certificates chain = {0};
	struct names got = {0};
	struct fileset set = {0};
	gnutls_x509_crt_t root;
	int rc = key_is_uri(m->key) ? refuse(f, "%s: a key in a token cannot be shown to a step-ca", m->key)
				    : key_load(m->key, &o->passphrase, &key, f);

	if (rc == 0)
		rc = online_renew(&r->online, now, &key, &chain, &root, f);
	if (rc == 0)
		rc = certificate_names(chain.v[0], &got, f);
	if (rc == 0 && !names_same(&got, names))
		rc = refuse(f,
			    "%s: step-ca renews a certificate with the names that it has, and this one is to "
			    "have others: get it anew",
			    m->crt);
	if (rc == 0 && access(m->bundle, F_OK) == 0) {
		struct ss_strbuf *bundle = fileset_add(&set, m->bundle, 0644);
		for (unsigned i = 0; rc == 0 && i < chain.n; i++)
			rc = certificate_pem(chain.v[i], bundle);
	}
	struct ss_strbuf *crt = rc == 0 ? fileset_add(&set, m->crt, 0644) : NULL;
	for (unsigned i = 0; rc == 0 && i < (now->n > 1 ? chain.n : 1); i++)
		rc = certificate_pem(chain.v[i], crt);
	if (rc == 0)
		rc = fileset_write(&set, f);
	if (rc == 0) {
		*out = chain.v[0];
		chain.v[0] = NULL;
	}
	fileset_done(&set);
	names_done(&got);
	certificates_done(&chain);
	key_done(&key);
	return rc;
}

/* The issuer of leaves; its key is opened, or it is connected to, when the first is due. */
static int load_issuer(const struct tree *t, struct renewal *r, struct fault *f)
{
	const struct passphrase passphrase = tree_passphrase(t, &t->o->ca_passphrase);
	struct options o = *t->o;
	int rc = 0;

	if (!o.roots && !o.fingerprint)
		o.roots = t->root;
	if (!r->loaded && r->at_ca)
		rc = online_open(&o, o.ca, NULL, &r->online, f);
	else if (!r->loaded)
		rc = issuer_load(t->issuer, t->issuer_key, &passphrase, &r->issuer, f);
	r->loaded = rc == 0;
	r->nobody_signs = rc != 0;
	return rc;
}

static int renew_leaf(struct tree *t, struct member *m, struct renewal *r, const struct certificates *now,
		      struct fault *f)
{
	struct names names = {0}, present = {0};
	gnutls_x509_crt_t crt;
	int rc = certificate_names(now->v[0], &present, f);

	if (rc == 0)
		rc = tree_names(t, m, &names, f);
	if (rc == -ENOENT)
		rc = certificate_names(now->v[0], &names, f);
	bool due = r->all || verify_is_due(now->v[0], t->renew_s) || !names_same(&names, &present);
	if (rc == 0 && due)
		rc = load_issuer(t, r, f);
	if (rc == 0 && due && r->at_ca)
		rc = renew_at_ca(t->o, m, now, &names, r, &crt, f);
	else if (rc == 0 && due)
		rc = renew(t->o, m, now->v[0], now->n > 1, &names, &r->issuer,
			   t->o->life_s ? t->o->life_s : t->life_s, &crt, f);
	if (rc == 0 && due) {
		r->n++;
		issue_print(crt, m->crt, m->key, t->o->json);
		rc = tree_record(t, m, crt, certificate_leaf_profile(crt)->name, &names);
		gnutls_x509_crt_deinit(crt);
		if (rc == 0)
			rc = tree_save(t, f);
		if (rc == 0 && t->o->exec)
			r->failed += (unsigned)tell(t->o->exec, m->shown, m->crt, m->key);
	}
	names_done(&names);
	names_done(&present);
	return rc;
}

/* One that cannot be renewed keeps no other from it. */
static int renew_member(struct tree *t, struct member *m, void *arg, struct fault *f)
{
	struct renewal *r = arg;
	struct certificates now = {0};
	int rc = certificates_load(m->crt, &now, f);

	if (rc == 0 && !certificate_is_ca(now.v[0]))
		rc = renew_leaf(t, m, r, &now, f);
	if (rc == -EINVAL && !r->nobody_signs) {
		failed(rc, f);
		r->failed++;
		rc = 0;
	} else if (rc == 0 && certificate_is_ca(now.v[0]) && verify_is_due(now.v[0], t->renew_s) &&
		   !t->o->json) {
		printf("%s: note: this CA ends soon and is kept: \"rotate\" makes the next one\n", m->crt);
	}
	certificates_done(&now);
	return rc;
}

int tree_renew(const struct options *o)
{
	struct tree t;
	struct renewal r = {.all = o->force, .at_ca = join_is_online(o)};
	struct certificates ca = {0};
	struct fault f;
	int rc = tree_open(&t, o, 0, &f);

	if (rc == 0 && ((o->ca && !r.at_ca) || o->ca_key))
		rc = refuse(&f, "a tree has a CA of its own: leave --ca and --ca-key out, or name a "
				"certificate and its key, or a step-ca by --ca URL");
	if (rc == 0)
		rc = tree_is_made(&t, &f);
	if (rc == 0)
		rc = certificates_load(t.root, &ca, &f);
	if (rc == 0)
		rc = tree_walk(&t, renew_member, &r, &f);
	if (rc == 0 && !o->json && r.n == 0 && r.failed == 0)
		printf("%s: nothing is due\n", t.dir);
	if (rc == 0 && !o->json && verify_is_due(ca.v[0], t.renew_s))
		printf("%s: note: the CA ends soon, too, and is kept: a new one, which everybody has to "
		       "trust first, is made by "
		       "\"init --force\"\n",
		       t.root);
	certificates_done(&ca);
	issuer_done(&r.issuer);
	online_done(&r.online);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : r.failed ? EXIT_FAILED : 0;
}

/* ---- rotate ---- */

/* Whom people mean: "vault", "a", "redis", "intermediate" or the file itself. */
static bool is_meant(const struct member *m, const char *name)
{
	static const char *const forms[] = {"%s.crt", "%s_ca.crt", "%s-cert.pem",
					    "location-%s-intermediate-ca.crt"};
	const char *slash = strrchr(m->shown, '/'), *file = slash ? slash + 1 : m->shown;
	char text[NAME_MAX];

	if (strcmp(m->shown, name) == 0 || strcmp(m->crt, name) == 0)
		return true;
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		const char *hole = strstr(forms[i], "%s");
		snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - forms[i]), forms[i], name, hole + 2);
		if (strcmp(file, text) == 0)
			return true;
	}
	return false;
}

/* "x-ca.crt", "x-ca-key.pem": "x-ca-new.crt", "x-ca-new-key.pem". */
static int name_new(struct tree *t, struct member *m, struct fault *f)
{
	char crt[PATH_MAX], key[PATH_MAX];
	size_t n = strlen(m->shown) - strlen(".crt");
	int rc = TREE_PATH(crt, f, "%.*s-new.crt", (int)n, m->shown);

	if (rc == 0)
		rc = TREE_PATH(key, f, "%.*s-new-key.pem", (int)n, m->shown);
	return rc ? rc : tree_member(t, crt, key, m, f);
}

static int rotate_ca(struct tree *t, struct member *m, gnutls_x509_crt_t now, struct fault *f)
{
	const struct names none = {0};
	const struct passphrase own = tree_passphrase(t, &t->o->passphrase),
				roots = tree_passphrase(t, &t->o->ca_passphrase);
	char subject[256];
	unsigned critical, ca;
	int path_len = -1;
	struct issuer root = {0};
	gnutls_pubkey_t public;

	if (!t->o->ca_key && access(t->root_key, F_OK) < 0)
		return refuse(f, "%s: the root's key is not here: say by --ca-key where it is", t->root_key);
	gnutls_x509_crt_get_basic_constraints(now, &critical, &ca, &path_len);
	if (gnutls_pubkey_init(&public))
		return -ENOMEM;
	int rc = gnutls_pubkey_import_x509(public, now, 0)
			 ? refuse(f, "%s: its key cannot be read", m->crt)
			 : issuer_load(t->root, t->o->ca_key ? t->o->ca_key : t->root_key, &roots, &root, f);
	if (rc == 0 && t->layout->beside)
		rc = name_new(t, m, f);
	if (rc == 0) {
		const struct issue what = {
			.profile = &profile_intermediate,
			.subject = certificate_subject(now, subject),
			.key_type = t->o->key_type ? t->o->key_type : key_type_of(public),
			.crt = m->crt,
			.key = m->key,
			.names = &none,
			.passphrase = &own,
			.life_s = t->o->life_s ? t->o->life_s
					       : gnutls_x509_crt_get_expiration_time(now) -
							 gnutls_x509_crt_get_activation_time(now) - 60,
			.path_len = path_len,
			.replace = !t->layout->beside || t->o->force};
		rc = tree_issue(t, m, &what, &root, f);
	}
	issuer_done(&root);
	gnutls_pubkey_deinit(public);
	return rc ? rc : tree_save(t, f);
}

struct rotation {
	const char *name;
	struct renewal renewal;
	bool found;
};

static int rotate_member(struct tree *t, struct member *m, void *arg, struct fault *f)
{
	struct rotation *r = arg;
	struct certificates now;

	if (r->found || !is_meant(m, r->name))
		return 0;
	r->found = true;
	int rc = certificates_load(m->crt, &now, f);
	if (rc)
		return rc;
	if (!certificate_is_ca(now.v[0])) {
		rc = renew_leaf(t, m, &r->renewal, &now, f);
	} else {
		rc = rotate_ca(t, m, now.v[0], f);
		if (rc == 0 && t->o->exec)
			r->renewal.failed += (unsigned)tell(t->o->exec, m->shown, m->crt, m->key);
	}
	certificates_done(&now);
	return rc;
}

int tree_rotate(const struct options *o)
{
	struct tree t;
	struct rotation r = {.name = o->words[0], .renewal.all = true};
	struct fault f;
	int rc = tree_open(&t, o, 1, &f);

	if (rc == 0)
		rc = tree_is_made(&t, &f);
	if (rc == 0 && o->reuse_key)
		rc = refuse(&f, "\"rotate\" makes a new key: \"renew --reuse-key\" keeps the present one");
	if (rc == 0 && o->ca)
		rc = refuse(
			&f,
			"a tree has a CA of its own: leave --ca out; --ca-key says where its root's key is");
	if (rc == 0)
		rc = tree_walk(&t, rotate_member, &r, &f);
	if (rc == 0 && !r.found)
		rc = refuse(&f,
			    "%s: there is no \"%s\" that could be rotated: name a location, a service, "
			    "\"intermediate\" or a file as \"verify\" shows it; a root is made anew by "
			    "\"init --force\"",
			    t.dir, r.name);
	issuer_done(&r.renewal.issuer);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : r.renewal.failed ? EXIT_FAILED : 0;
}

/* ---- outside of trees ---- */

int renew_one(const struct options *o)
{
	struct renewal r = {.at_ca = join_is_online(o)};
	struct member m = {.shown = ""};
	int64_t renew_s;
	struct certificates now = {0};
	struct names names = {0};
	gnutls_x509_crt_t crt;
	struct fault f;

	if (!r.at_ca && (!o->ca || !o->ca_key)) {
		fputs("semstreams pki: --ca and --ca-key are needed, or --ca with the URL of a step-ca: who "
		      "is "
		      "to sign? See semstreams pki --help\n",
		      stderr);
		return EXIT_USAGE;
	}
	int rc = verify_renew_days(&renew_s, &f);
	if (rc == 0)
		rc = TREE_PATH(m.crt, &f, "%s", o->words[0]);
	if (rc == 0)
		rc = TREE_PATH(m.key, &f, "%s", o->words[1]);
	if (rc == 0)
		rc = certificates_load(m.crt, &now, &f);
	if (rc == 0 && certificate_is_ca(now.v[0]))
		rc = refuse(&f,
			    "%s is a CA: what it signed depends on it; make the next one by \"intermediate\"",
			    m.crt);
	if (rc == 0)
		rc = certificate_names(now.v[0], &names, &f);
	bool due = rc == 0 && (o->force || verify_is_due(now.v[0], renew_s));
	if (rc == 0 && !due && !o->json)
		printf("%s: not due\n", m.crt);
	if (rc == 0 && due && r.at_ca)
		rc = online_open(o, o->ca, NULL, &r.online, &f);
	else if (rc == 0 && due)
		rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &r.issuer, &f);
	if (rc == 0 && due && r.at_ca)
		rc = renew_at_ca(o, &m, &now, &names, &r, &crt, &f);
	else if (rc == 0 && due)
		rc = renew(o, &m, now.v[0], now.n > 1, &names, &r.issuer, o->life_s, &crt, &f);
	if (rc == 0 && due) {
		rc = issue_print(crt, m.crt, m.key, o->json);
		gnutls_x509_crt_deinit(crt);
		r.failed += o->exec ? (unsigned)tell(o->exec, m.crt, m.crt, m.key) : 0;
	}
	issuer_done(&r.issuer);
	online_done(&r.online);
	names_done(&names);
	certificates_done(&now);
	return rc ? failed(rc, &f) : r.failed ? EXIT_FAILED : 0;
}
