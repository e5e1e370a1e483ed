/* SPDX-License-Identifier: MIT */
/* step_ca - the layout of a step-ca for the services of one place: config/step-ca/ is its home, with pki/,
 * secrets/ and db/ that git leaves out; data/certs/SERVICE/SERVICE.crt, .key. */
#include <unistd.h>
#include "services.h"
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
