/* SPDX-License-Identifier: MIT */
/* step_home - see step_home.h. */
#include "step_home.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <gnutls/crypto.h>
#include <semstreams/base/file_atomic.h>

enum { PASSWORD = 32 /* random bytes of one that is made up */ };

static int path_at(const struct tree *t, const struct step_home *h, const char *file, char *out,
		   struct fault *f)
{
	char below[PATH_MAX];
	int rc = TREE_PATH(below, f, "%s%s", h->base, file);

	return rc ? rc : tree_path(t, below, out, f);
}

/* A path of the layout's, as ca.json has it. */
static const char *inside(const struct step_home *h, const char *path)
{
	return path + strlen(h->base);
}

/* ---- made ---- */

static int put_json(struct tree *t, const struct step_home *h, const char *file, mode_t mode, json_t *value,
		    struct fault *f)
{
	char below[PATH_MAX];
	char *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(3)) : NULL;
	struct ss_strbuf lines = {.secret = (mode & 0077) == 0};
	int rc = text ? TREE_PATH(below, f, "%s%s", h->base, file) : -ENOMEM;

	if (rc == 0) {
		ss_strbuf_printf(&lines, "%s\n", text);
		rc = lines.failed ? -ENOMEM : tree_write(t, below, mode, ss_strbuf_cstr(&lines), f);
	}
	ss_strbuf_done(&lines);
	free(text);
	return rc;
}

/* For whoever runs the CA only. */
static int make_folder(const struct tree *t, const struct step_home *h, const char *name, struct fault *f)
{
	char path[PATH_MAX];
	int rc = path_at(t, h, name, path, f);

	if (rc == 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
		rc = refuse(f, "%s cannot be made: %s", path, strerror(errno));
	return rc;
}

static int make_up(struct ss_strbuf *out)
{
	unsigned char bytes[PASSWORD];
	gnutls_datum_t raw = {bytes, sizeof bytes}, text = {0};

	if (gnutls_rnd(GNUTLS_RND_KEY, bytes, sizeof bytes) || gnutls_base64_encode2(&raw, &text))
		return -ENOMEM;
	ss_strbuf_add(out, text.data, text.size);
	explicit_bzero(bytes, sizeof bytes);
	explicit_bzero(text.data, text.size);
	gnutls_free(text.data);
	return out->failed ? -ENOMEM : 0;
}

/* As told on the command line, else by the environment, else made up; kept in a file, from which step-ca
 * reads it. */
static int password(struct tree *t, struct ss_strbuf *out, struct fault *f)
{
	const struct passphrase *said = &t->o->passphrase, environment = {.env = "STEP_CA_PASSWORD"};
	const char *value = getenv(environment.env);
	int rc;

	if (said->file || said->env || said->prompt)
		rc = passphrase_new(said, out, f);
	else
		rc = value && *value ? passphrase_new(&environment, out, f) : make_up(out);
	if (rc == 0 && memchr(out->bytes, '\n', out->len))
		rc = refuse(f, "the password has more than one line");
	if (rc)
		return rc;
	struct ss_strbuf line = {.secret = true};
	ss_strbuf_printf(&line, "%s\n", ss_strbuf_cstr(out));
	rc = line.failed ? -ENOMEM : tree_write(t, t->layout->password, 0600, ss_strbuf_cstr(&line), f);
	ss_strbuf_done(&line);
	return rc;
}

static int make_cas(struct tree *t, const struct step_home *h, struct fault *f)
{
	const struct names none = {0};
	const struct passphrase own = {.file = t->password};
	const char *type = t->o->key_type ? t->o->key_type : "p256"; /* as step-ca's own tool */
	struct issue what = {.profile = &profile_root,
			     .subject = h->root_subject,
			     .key_type = type,
			     .crt = t->root,
			     .key = t->root_key,
			     .names = &none,
			     .passphrase = &own,
			     .life_s = h->root_life_s,
			     .path_len = h->root_path_len,
			     .replace = t->o->force};
	struct issuer root = {0};
	struct member m;
	int rc = tree_member(t, t->layout->root, t->layout->root_key, &m, f);

	if (rc == 0)
		rc = tree_issue(t, &m, &what, NULL, f);
	if (rc == 0)
		rc = issuer_load(t->root, t->root_key, &own, &root, f);
	if (rc == 0)
		rc = tree_member(t, t->layout->issuer, t->layout->issuer_key, &m, f);
	if (rc == 0) {
		what.profile = &profile_intermediate;
		what.subject = h->subject;
		what.crt = t->issuer;
		what.key = t->issuer_key;
		what.life_s = h->life_s;
		what.path_len = h->path_len;
		rc = tree_issue(t, &m, &what, &root, f);
	}
	issuer_done(&root);
	return rc;
}

static json_t *dns_names(const struct options *o)
{
	static const char *const usual[] = {"step-ca", "localhost", "127.0.0.1"};
	json_t *out = json_array();

	for (size_t i = 0; i < o->names.n; i++)
		json_array_append_new(out, json_string(o->names.v[i].text));
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		json_array_append_new(out, json_string(usual[i]));
	return out;
}

static json_t *config(const struct tree *t, const struct step_home *h, const struct provisioner *p)
{
	json_t *authority = h->authority(p);

	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:s}, s:{s:s, s:s}, s:o, s:{s:[s,s], s:f, s:f, s:b}}",
			 "root", inside(h, t->layout->root), "crt", inside(h, t->layout->issuer), "key",
			 inside(h, t->layout->issuer_key), "address", t->o->address ? t->o->address : ":9000",
			 "dnsNames", dns_names(t->o), "logger", "format", "text", "db", "type", "badgerv2",
			 "dataSource", "db", "authority", authority, "tls", "cipherSuites",
			 "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
			 "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "minVersion", 1.2, "maxVersion", 1.3,
			 "renegotiation", 0);
}

static json_t *defaults(const struct tree *t, const struct step_home *h, const char *fingerprint)
{
	const char *address = t->o->address ? t->o->address : ":9000", *colon = strrchr(address, ':');
	char url[64];

	snprintf(url, sizeof url, "https://localhost:%.20s", colon ? colon + 1 : address);
	return json_pack("{s:s, s:s, s:s, s:s}", "ca-url", url, "ca-config", h->config, "fingerprint",
			 fingerprint, "root", inside(h, t->layout->root));
}

static int fingerprint(const struct tree *t, char out[65], struct fault *f)
{
	struct certificates root;
	int rc = certificates_load(t->root, &root, f);

	if (rc)
		return rc;
	certificate_fingerprint(root.v[0], out);
	certificates_done(&root);
	return 0;
}

static int make_config(struct tree *t, const struct step_home *h, const struct ss_strbuf *secret,
		       struct fault *f)
{
	struct provisioner p;
	char hex[65];
	int rc = provisioner_new(secret, &p, f);

	if (rc)
		return rc;
	json_t *sealed = provisioner_file(&p), *ca = config(t, h, &p), *client = NULL;
	rc = fingerprint(t, hex, f);
	if (rc == 0)
		rc = put_json(t, h, "secrets/provisioner.pub.json", 0644, p.public, f);
	if (rc == 0)
		rc = put_json(t, h, "secrets/provisioner.key.json", 0600, sealed, f);
	if (rc == 0)
		rc = put_json(t, h, h->config, 0644, ca, f);
	if (rc == 0) {
		client = defaults(t, h, hex);
		rc = put_json(t, h, h->defaults, 0644, client, f);
	}
	json_decref(sealed);
	json_decref(ca);
	json_decref(client);
	provisioner_done(&p);
	return rc;
}

int step_home_init(struct tree *t, const struct step_home *h, struct fault *f)
{
	struct ss_strbuf secret = {.secret = true};

	if (access(t->root, F_OK) == 0 && !t->o->force)
		return refuse(f, "%s is there already: --force makes a new root, which nobody trusts yet",
			      t->root);
	json_decref(t->metadata);
	t->metadata = NULL;
	int rc = 0;
	/* .gitignore among them: git is to know before there are secrets */
	for (const struct step_file *file = h->files; rc == 0 && file->path; file++)
		rc = tree_write(t, file->path, 0644, file->text, f);
	if (rc == 0)
		rc = password(t, &secret, f);
	if (rc == 0)
		rc = make_folder(t, h, "db", f);
	if (rc == 0)
		rc = make_cas(t, h, f);
	if (rc == 0)
		rc = make_config(t, h, &secret, f);
	/* the programs beside it have no business there */
	char path[PATH_MAX];
	if (rc == 0)
		rc = path_at(t, h, "secrets", path, f);
	if (rc == 0 && chmod(path, 0700) < 0)
		rc = refuse(f, "%s: its mode cannot be set: %s", path, strerror(errno));
	ss_strbuf_done(&secret);
	return rc ? rc : tree_save(t, f);
}

void step_home_tell(const struct tree *t)
{
	char hex[65];
	struct fault ignored;

	if (t->o->json || fingerprint(t, hex, &ignored))
		return;
	printf("STEP_CA_FINGERPRINT=%s\n", hex);
	printf("%s: the root's key: take it offline, step-ca does without it\n", t->root_key);
}

/* ---- verified ---- */

/* A file as it is called: below the tree. */
static int show(const struct step_home *h, const char *file, char shown[PATH_MAX])
{
	return snprintf(shown, PATH_MAX, "%s%s", h->base, file) < PATH_MAX ? 0 : -EINVAL;
}

static void check_config(const struct tree *t, const struct step_home *h, struct verdict *verdict)
{
	static const char *const files[] = {"root", "crt", "key"};
	char path[PATH_MAX], file[PATH_MAX], shown[PATH_MAX], why[256];
	struct fault ignored;
	json_error_t error;

	if (path_at(t, h, h->config, path, &ignored) || show(h, h->config, shown))
		return;
	json_t *config = json_load_file(path, 0, &error);
	if (!config) {
		snprintf(why, sizeof why, "it cannot be read: %s", error.text);
		tree_wrong(verdict, shown, why);
		return;
	}
	bool fine = true;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		const char *name = json_string_value(json_object_get(config, files[i]));
		if (name && *name == '/')
			continue; /* a place in a container, perhaps */
		if (name && path_at(t, h, name, file, &ignored) == 0 && access(file, F_OK) == 0)
			continue;
		snprintf(why, sizeof why, "its \"%s\" names no file", files[i]);
		tree_wrong(verdict, shown, why);
		fine = false;
	}
	if (fine && !verdict->list)
		printf("%s: ok\n", shown);
	json_decref(config);
}

static void check_defaults(const struct tree *t, const struct step_home *h, struct verdict *verdict)
{
	char path[PATH_MAX], shown[PATH_MAX], hex[65];
	struct fault ignored;

	if (path_at(t, h, h->defaults, path, &ignored) || show(h, h->defaults, shown) ||
	    fingerprint(t, hex, &ignored))
		return;
	json_t *defaults = json_load_file(path, 0, NULL);
	const char *said = json_string_value(json_object_get(defaults, "fingerprint"));
	if (!said || strcasecmp(said, hex) != 0)
		tree_wrong(verdict, shown,
			   "its \"fingerprint\" is not that of the root: clients will refuse this CA");
	else if (!verdict->list)
		printf("%s: ok\n", shown);
	json_decref(defaults);
}

/* Secrets are for one reader. */
static void check_secret(const struct tree *t, const struct step_home *h, const char *file,
			 struct verdict *verdict)
{
	char path[PATH_MAX], shown[PATH_MAX];
	struct fault ignored;
	struct stat st;

	if (path_at(t, h, file, path, &ignored) || show(h, file, shown) || stat(path, &st) < 0)
		return; /* it may be kept elsewhere */
	if (!ss_file_is_private(&st))
		tree_wrong(verdict, shown,
			   "others may read it: chmod 600 it, and make a new one if they did");
	else if (!verdict->list)
		printf("%s: ok\n", shown);
}

int step_home_check(struct tree *t, const struct step_home *h, struct verdict *verdict, struct fault *f)
{
	(void)f;
	check_config(t, h, verdict);
	check_defaults(t, h, verdict);
	check_secret(t, h, inside(h, t->layout->password), verdict);
	check_secret(t, h, "secrets/provisioner.key.json", verdict);
	if (!verdict->list && access(t->root_key, F_OK) == 0)
		printf("%s: note: the root's key is still here: take it offline, step-ca does without it\n",
		       t->layout->root_key);
	return 0;
}
