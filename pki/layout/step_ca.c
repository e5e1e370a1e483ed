/* SPDX-License-Identifier: MIT */
/* step_ca - the layout of a step-ca for the services of one place: config/step-ca/ is its home, with pki/,
 * secrets/ and db/ that git leaves out; data/certs/SERVICE/SERVICE.crt, .key. */
#include <unistd.h>
#include "step_home.h"

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

/* ---- services ---- */

static const char *const names[] = {"keycloak", "vaultwarden", "vault",      "temporal",
				    "postgres", "grafana",     "prometheus", "nats"};

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

static int make_service(struct tree *t, const char *service, const struct issuer *issuer, struct fault *f)
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
		rc = tree_issue(t, &m, &what, issuer, f);
	names_done(&san);
	return rc ? rc : tree_save(t, f);
}

static int services(struct tree *t, struct fault *f)
{
	const struct passphrase passphrase = tree_passphrase(t, &t->o->ca_passphrase);
	struct issuer issuer = {0};
	int rc = issuer_load(t->issuer, t->issuer_key, &passphrase, &issuer, f);

	for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++)
		rc = make_service(t, names[i], &issuer, f);
	issuer_done(&issuer);
	if (rc == 0 && !t->o->json)
		puts("All service certificates generated!");
	return rc;
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
				      .services = services,
				      .check = check};
