/* SPDX-License-Identifier: MIT */
/* step_ca - the layout of a step-ca for the services of one place: config/step-ca/ is its home, with pki/,
 * secrets/ and db/ that git leaves out; data/certs/SERVICE/SERVICE.crt, .key. */
#include <string.h>
#include <unistd.h>
#include "pki/join/online.h"
#include "pki/request.h"
#include "step_home.h"
#include "tree.h"

/* ---- certificates of the services: by the key of the tree, or ---- */

static const char *const services[] = {"keycloak", "vaultwarden", "vault",      "temporal",
				       "postgres", "grafana",     "prometheus", "nats"};

/* Who signs. */
struct signer {
	struct options options; /* the tree's, as for its CA */
	struct online ca;
	struct issuer issuer; /* if the CA is not asked */
	bool online;
};

static void signer_done(struct signer *s)
{
	online_done(&s->ca);
	issuer_done(&s->issuer);
}

/* The CA of the tree, if it runs: as a client of it finds it.  0, also if it does not run. */
static int find_ca(const struct tree *t, struct signer *s, struct fault *f)
{
	char path[PATH_MAX];
	int rc = tree_path(t, "config/step-ca/defaults.json", path, f);
	json_t *defaults = rc ? NULL : json_load_file(path, 0, NULL);
	const char *named = t->o->ca,
		   *url = named ? named : json_string_value(json_object_get(defaults, "ca-url"));

	if (rc == 0 && named && strncmp(named, "https://", 8) != 0)
		rc = refuse(f, "--ca is the URL of the tree's step-ca here, not \"%s\"", named);
	else if (rc == 0 && url && !t->o->ca_key) {
		rc = online_open(&s->options, url, NULL, &s->ca, f);
		if (rc == 0)
			rc = online_health(&s->ca, f);
		s->online = rc == 0;
		if (rc == -EINVAL && !named) {
			fprintf(stderr,
				"semstreams pki: note: the key of the tree's intermediate signs, as no CA "
				"runs: %s\n",
				f->text);
			rc = 0;
		}
	}
	json_decref(defaults);
	return rc;
}

static int signer_open(const struct tree *t, struct signer *s, struct fault *f)
{
	*s = (struct signer){.options = *t->o};
	s->options.roots = t->root;
	s->options.provisioner = "admin";
	s->options.ca_passphrase = tree_passphrase(t, &t->o->ca_passphrase);
	int rc = find_ca(t, s, f);
	if (rc == 0 && !s->online)
		rc = issuer_load(t->issuer, t->o->ca_key ? t->o->ca_key : t->issuer_key,
				 &s->options.ca_passphrase, &s->issuer, f);
	if (rc)
		signer_done(s);
	return rc;
}

static int add_names(const struct tree *t, const char *service, struct names *out, struct fault *f)
{
	const char *const own[] = {service, "localhost", "127.0.0.1"};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof own / sizeof *own; i++)
		rc = names_add(out, own[i], NULL, f);
	for (size_t i = 0; rc == 0 && i < t->o->names.n; i++)
		rc = names_add(out, t->o->names.v[i].text, NULL, f);
	return rc;
}

/* ---- by the running CA ---- */

static int order(struct signer *s, const struct issue *what, struct fileset *set, struct certificates *chain,
		 struct fault *f)
{
	const struct online_claims claims = {.path = "/1.0/sign",
					     .subject = what->subject,
					     .names = what->names,
					     .profile = what->profile};
	struct key key = {0};
	struct ss_strbuf csr = {0}, token = {.secret = true};
	gnutls_x509_crt_t root;
	int rc = key_new(what->key_type ? what->key_type : what->profile->key_type, &key, f);

	if (rc == 0)
		rc = request_new(&key, what->subject, what->names, &csr, f);
	if (rc == 0)
		rc = key_pem(&key, what->passphrase, &set->v[0].content, f);
	if (rc == 0)
		rc = online_token(&s->ca, &s->options, &claims, &token, f);
	if (rc == 0)
		rc = online_sign(&s->ca, ss_strbuf_cstr(&csr), ss_strbuf_cstr(&token), what->life_s, &key,
				 chain, &root, f);
	for (unsigned i = 0; rc == 0 && i < chain->n; i++)
		rc = certificate_pem(chain->v[i], &set->v[1].content);
	ss_strbuf_done(&csr);
	ss_strbuf_done(&token);
	key_done(&key);
	return rc;
}

static int issue_online(struct tree *t, const struct member *m, const struct issue *what, struct signer *s,
			struct fault *f)
{
	struct fileset set = {0};
	struct certificates chain = {0};

	fileset_add(&set, what->key, 0600);
	fileset_add(&set, what->crt, 0644);
	int rc = fileset_check(&set, what->replace, f);
	if (rc == 0)
		rc = order(s, what, &set, &chain, f);
	if (rc == 0)
		rc = fileset_write(&set, f);
	if (rc == 0)
		rc = issue_print(chain.v[0], what->crt, what->key, t->o->json);
	if (rc == 0)
		rc = tree_record(t, m, chain.v[0], what->profile->name, what->names);
	certificates_done(&chain);
	fileset_done(&set);
	return rc;
}

/* ---- */

static int make(struct tree *t, const char *service, struct signer *s, struct fault *f)
{
	static const struct passphrase open;
	char crt[80], key[80];
	struct member m;
	struct names san = {0};

	snprintf(crt, sizeof crt, "data/certs/%s/%s.crt", service, service);
	snprintf(key, sizeof key, "data/certs/%s/%s.key", service, service);
	int rc = tree_member(t, crt, key, &m, f);
	if (rc == 0 && !t->o->force && access(m.crt, F_OK) == 0 && access(m.key, F_OK) == 0) {
		if (!t->o->json)
			printf("%s: kept\n", m.crt);
		return 0;
	}
	if (rc == 0)
		rc = add_names(t, service, &san, f);
	const struct issue what = {.profile = &profile_service,
				   .subject = service,
				   .key_type = t->o->key_type,
				   .crt = m.crt,
				   .key = m.key,
				   .names = &san,
				   .passphrase = &open,
				   .life_s = t->life_s,
				   .path_len = -1,
				   .replace = t->o->force,
				   .chain = true};
	if (rc == 0)
		rc = s->online ? issue_online(t, &m, &what, s, f) : tree_issue(t, &m, &what, &s->issuer, f);
	names_done(&san);
	return rc ? rc : tree_save(t, f);
}

/*
 * Those that are missing, or all of them by --force.  The running step-ca issues them by one-time tokens;
 * where none answers, and none was named, the intermediate's key of the tree signs.  0, -EINVAL with the
 * fault, -ENOMEM.
 */
static int services_make(struct tree *t, struct fault *f)
{
	struct signer s;
	int rc = signer_open(t, &s, f);

	if (rc)
		return rc;
	for (size_t i = 0; rc == 0 && i < sizeof services / sizeof *services; i++)
		rc = make(t, services[i], &s, f);
	signer_done(&s);
	if (rc == 0 && !t->o->json)
		puts("All service certificates generated!");
	return rc;
}

/* ---- the layout ---- */

static const char readme[] =
	"# step-ca\n\n"
	"Made by `semstreams pki init --layout step-ca`. `semstreams pki verify` checks it, `semstreams pki "
	"services`\n"
	"makes certificates into `data/certs/`, `semstreams pki renew` renews them.\n\n"
	"| file | what it is |\n|---|---|\n"
	"| `ca.json` | configuration of the CA; its paths are below this folder |\n"
	"| `defaults.json` | configuration of the client `step`, with the root's fingerprint |\n"
	"| `pki/` | root, intermediate and the intermediate's key, encrypted; not in git |\n"
	"| `secrets/` | password of the keys, key of the provisioner `admin`, the root's key: take this one "
	"offline; "
	"not in git |\n"
	"| `db/` | what the CA has issued; not in git |\n"
	"| `metadata.json` | which certificates there are |\n\n"
	"Start, in this folder: `STEPPATH=$PWD step-ca ca.json --password-file secrets/password.txt`. In a "
	"container, "
	"mount this\nfolder as `/home/step`, which is where the image works, and the password as a secret.\n";

static json_t *authority(const struct provisioner *p)
{
	return json_pack("{s:{s:s, s:s, s:s}, s:[{s:s, s:s, s:O, s:s%}, {s:s, s:s}]}", "claims",
			 "minTLSCertDuration", "5m", "defaultTLSCertDuration", "8760h", "maxTLSCertDuration",
			 "87600h", "provisioners", "type", "JWK", "name", "admin", "key", p->public,
			 "encryptedKey", p->sealed.bytes, p->sealed.len, "type", "ACME", "name", "acme");
}

static const struct step_file files[] = {
	{"config/step-ca/.gitignore", "# what makes a CA stays here\npki/\nsecrets/\ndb/\n"},
	{"data/certs/.gitignore", "*.key\n"},
	{"config/step-ca/README.md", readme},
	{NULL, NULL}};

static const struct step_home home = {.base = "config/step-ca/",
				      .config = "ca.json",
				      .defaults = "defaults.json",
				      .root_subject = "SemStreams Root CA",
				      .subject = "SemStreams Intermediate CA",
				      .root_life_s = (int64_t)3650 * TREE_DAY,
				      .life_s = (int64_t)1825 * TREE_DAY,
				      .root_path_len = 1,
				      .path_len = 0,
				      .files = files,
				      .authority = authority};

static int init(struct tree *t, struct fault *f)
{
	int rc = step_home_init(t, &home, f);

	if (rc == 0) {
		step_home_tell(t);
		if (!t->o->json)
			puts("Step-CA initialization complete!");
	}
	return rc;
}

static int check(struct tree *t, struct verdict *verdict, struct fault *f)
{
	static const char ignores[] = "config/step-ca/.gitignore";
	char path[PATH_MAX];
	int rc = tree_path(t, ignores, path, f);

	if (rc == 0 && access(path, F_OK) < 0)
		tree_wrong(verdict, ignores, "it is missing: git would keep secrets");
	return rc ? rc : step_home_check(t, &home, verdict, f);
}

const struct layout layout_step_ca = {.name = "step-ca",
				      .dir = ".",
				      .metadata = "config/step-ca/metadata.json",
				      .root = "config/step-ca/pki/root_ca.crt",
				      .root_key = "config/step-ca/secrets/root_ca_key",
				      .issuer = "config/step-ca/pki/intermediate_ca.crt",
				      .issuer_key = "config/step-ca/pki/intermediate_ca_key",
				      .password = "config/step-ca/secrets/password.txt",
				      .offline = true,
				      .init = init,
				      .services = services_make,
				      .check = check};
