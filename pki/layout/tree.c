/* SPDX-License-Identifier: MIT */
/* tree - see tree.h. */
#include "tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/units.h>
#include "cnf.h"
#include "pki/verify.h"

const struct layout *const layouts[] = {&layout_internal, &layout_federation, &layout_provider,
					&layout_step_ca, NULL};

/* ---- where it is ---- */

static int life_of_environment(int64_t *out, struct fault *f)
{
	const char *text = getenv("VALIDITY_DAYS");

	*out = 0;
	if (!text || !*text)
		return 0;
	if (ss_parse_integer(text, out) < 0 || *out < 1 || *out > 36500)
		return refuse(f,
			      "the environment variable VALIDITY_DAYS is a number of days from 1 to 36500, "
			      "not \"%s\"",
			      text);
	*out *= TREE_DAY;
	return 0;
}

static int path_in(const char *dir, const char *below, char *out, struct fault *f)
{
	bool here = strcmp(dir, ".") == 0;

	if (snprintf(out, PATH_MAX, "%s%s%s", here ? "" : dir, here ? "" : "/", below) < PATH_MAX)
		return 0;
	return refuse(f, "a path is too long");
}

int tree_path(const struct tree *t, const char *below, char *out, struct fault *f)
{
	return path_in(t->dir, below, out, f);
}

static bool is_at(const char *dir, const struct layout *layout)
{
	char path[PATH_MAX];
	struct fault ignored;

	return (path_in(dir, layout->metadata, path, &ignored) == 0 && access(path, F_OK) == 0) ||
	       (path_in(dir, layout->root, path, &ignored) == 0 && access(path, F_OK) == 0);
}

/* What the metadata says of its layout, as several may have it at one place. */
static bool is_named(const struct tree *t, const struct layout *layout)
{
	char path[PATH_MAX];
	struct fault ignored;
	json_t *metadata =
		path_in(t->dir, layout->metadata, path, &ignored) ? NULL : json_load_file(path, 0, NULL);
	const char *name = json_string_value(json_object_get(metadata, "layout"));
	bool named = !name || strcmp(name, layout->name) == 0;

	json_decref(metadata);
	return named;
}

/* The folder and its layout: as told, else what is there. */
static void find(struct tree *t, size_t word)
{
	const char *env = getenv("PKI_DIR"), *dir = t->o->n_words > word ? t->o->words[word]
						    : env && *env        ? env
									 : NULL;

	for (size_t i = 0; layouts[i] && !t->layout; i++) {
		if (t->o->layout && strcmp(t->o->layout, layouts[i]->name) != 0)
			continue;
		t->dir = dir ? dir : layouts[i]->dir;
		if (t->o->layout || (is_at(t->dir, layouts[i]) && is_named(t, layouts[i])))
			t->layout = layouts[i];
	}
	if (t->layout)
		return;
	t->layout = &layout_internal;
	t->dir = dir ? dir : t->layout->dir;
}

static int open_paths(struct tree *t, struct fault *f)
{
	const struct layout *l = t->layout;
	const struct {
		const char *below;
		char *out;
	} paths[] = {{l->root, t->root},
		     {l->root_key, t->root_key},
		     {l->issuer, t->issuer},
		     {l->issuer_key, t->issuer_key},
		     {l->password, t->password}};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof paths / sizeof *paths; i++)
		if (paths[i].below)
			rc = tree_path(t, paths[i].below, paths[i].out, f);
	return rc;
}

/* One that is damaged is not taken for none: it would be written anew without what it said. */
static int load_metadata(struct tree *t, struct fault *f)
{
	char path[PATH_MAX];
	json_error_t error;
	int rc = tree_path(t, t->layout->metadata, path, f);

	if (rc || (access(path, F_OK) < 0 && errno == ENOENT))
		return rc;
	t->metadata = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (json_is_array(json_object_get(t->metadata, "certificates")))
		return 0;
	return refuse(f, "%s:%d: %s: mend it, or move it away, then it is written anew", path,
		      t->metadata ? 1 : error.line,
		      t->metadata ? "it has no list \"certificates\"" : error.text);
}

int tree_open(struct tree *t, const struct options *o, size_t word, struct fault *f)
{
	*t = (struct tree){.o = o};
	find(t, word);
	int rc = life_of_environment(&t->life_s, f);
	if (rc == 0)
		rc = verify_renew_days(&t->renew_s, f);
	if (rc == 0)
		rc = open_paths(t, f);
	if (rc == 0)
		rc = load_metadata(t, f);
	return rc;
}

int tree_is_made(const struct tree *t, struct fault *f)
{
	const char *name =
		t->o->layout || t->metadata ? t->layout->name : "internal|federation|provider|step-ca";
	bool usual = strcmp(t->dir, t->layout->dir) == 0;

	if (access(t->root, F_OK) == 0)
		return 0;
	return refuse(f, "Root CA not initialized. Run: semstreams pki init --layout %s%s%s (there is no %s)",
		      name, usual ? "" : " ", usual ? "" : t->dir, t->root);
}

int tree_member(const struct tree *t, const char *crt, const char *key, struct member *m, struct fault *f)
{
	*m->bundle = *m->csr = *m->cnf = '\0';
	int rc = TREE_PATH(m->shown, f, "%s", crt);
	if (rc == 0)
		rc = tree_path(t, crt, m->crt, f);
	return rc ? rc : tree_path(t, key, m->key, f);
}

struct passphrase tree_passphrase(const struct tree *t, const struct passphrase *said)
{
	struct passphrase out = *said;

	if (!out.file && !out.env && !out.prompt && *t->password && access(t->password, F_OK) == 0)
		out.file = t->password;
	return out;
}

int tree_write(const struct tree *t, const char *below, mode_t mode, const char *text, struct fault *f)
{
	struct fileset set = {0};
	char path[PATH_MAX];
	int rc = tree_path(t, below, path, f);

	if (rc == 0) {
		ss_strbuf_text(fileset_add(&set, path, mode), text);
		rc = fileset_write(&set, f);
	}
	fileset_done(&set);
	return rc;
}

/* ---- metadata ---- */

/* What metadata.json says of a certificate; NULL: nothing. */
static json_t *metadata_of(const struct tree *t, const char *shown)
{
	size_t i;
	json_t *entry;

	json_array_foreach(json_object_get(t->metadata, "certificates"), i, entry)
	{
		const char *file = json_string_value(json_object_get(entry, "file"));
		if (file && strcmp(file, shown) == 0)
			return entry;
	}
	return NULL;
}

/* A path of the tree's, without the tree. */
static const char *below(const struct tree *t, const char *path)
{
	size_t n = strlen(t->dir);

	return strncmp(path, t->dir, n) == 0 && path[n] == '/' ? path + n + 1 : path;
}

static json_t *names_list(const struct names *names)
{
	json_t *list = json_array();

	for (size_t i = 0; i < names->n; i++)
		json_array_append_new(list, json_string(names->v[i].text));
	return list;
}

int tree_record(struct tree *t, const struct member *m, gnutls_x509_crt_t crt, const char *profile,
		const struct names *names)
{
	char subject[256], start[40], end[40], serial[80], fingerprint[65];
	json_t *entry = metadata_of(t, m->shown);

	if (!t->metadata)
		t->metadata = json_pack("{s:s, s:[]}", "layout", t->layout->name, "certificates");
	if (!entry) {
		entry = json_pack("{s:s}", "file", m->shown);
		json_array_append_new(json_object_get(t->metadata, "certificates"), entry);
	}
	json_t *now = json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "key", below(t, m->key), "profile", profile,
		"subject", certificate_subject(crt, subject), "serial_number",
		certificate_serial(crt, serial), "not_before",
		ss_format_time(gnutls_x509_crt_get_activation_time(crt), start, sizeof start), "not_after",
		ss_format_time(gnutls_x509_crt_get_expiration_time(crt), end, sizeof end),
		"fingerprint_sha256", certificate_fingerprint(crt, fingerprint), "names", names_list(names));
	return json_object_update_new(entry, now) ? -ENOMEM : 0;
}

int tree_save(struct tree *t, struct fault *f)
{
	char *text = json_dumps(t->metadata, JSON_INDENT(2));
	struct ss_strbuf lines = {0};

	if (!text)
		return -ENOMEM;
	ss_strbuf_printf(&lines, "%s\n", text);
	int rc = lines.failed ? -ENOMEM : tree_write(t, t->layout->metadata, 0644, ss_strbuf_cstr(&lines), f);
	ss_strbuf_done(&lines);
	free(text);
	return rc;
}

int tree_issue(struct tree *t, const struct member *m, const struct issue *what, const struct issuer *issuer,
	       struct fault *f)
{
	gnutls_x509_crt_t crt;
	int rc = issue_pair(what, issuer, &crt, f);

	if (rc)
		return rc;
	rc = issue_print(crt, what->crt, what->key, t->o->json);
	if (rc == 0)
		rc = tree_record(t, m, crt, what->profile->name, what->names);
	gnutls_x509_crt_deinit(crt);
	return rc;
}

int tree_names(const struct tree *t, const struct member *m, struct names *out, struct fault *f)
{
	size_t i;
	json_t *name;
	int rc = *m->cnf ? cnf_read(m->cnf, out, f) : -ENOENT;

	if (rc != -ENOENT)
		return rc;
	json_t *list = json_object_get(metadata_of(t, m->shown), "names");
	if (!json_is_array(list))
		return -ENOENT;
	rc = 0;
	json_array_foreach(list, i, name) if (rc == 0 && json_is_string(name)) rc =
		names_add(out, json_string_value(name), NULL, f);
	return rc;
}

/* ---- init ---- */

int tree_init(const struct options *o)
{
	struct tree t;
	struct fault f;

	if (!o->layout) {
		fputs("semstreams pki: --layout is needed: internal, federation, provider or step-ca; see "
		      "semstreams pki --help\n",
		      stderr);
		return EXIT_USAGE;
	}
	int rc = tree_open(&t, o, 0, &f);
	if (rc == 0)
		rc = t.layout->init(&t, &f);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : 0;
}

int tree_services(const struct options *o)
{
	struct tree t;
	struct fault f;
	int rc = tree_open(&t, o, 0, &f);

	if (rc == 0)
		rc = tree_is_made(&t, &f);
	if (rc == 0 && t.layout->services)
		rc = t.layout->services(&t, &f);
	else if (rc == 0)
		rc = refuse(&f,
			    "%s: a tree of layout \"%s\" has no services of its own: make certificates by "
			    "\"semstreams pki leaf\"",
			    t.dir, t.layout->name);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : 0;
}

/* ---- walking ---- */

static int each_of_metadata(struct tree *t, member_fn *each, void *arg, struct fault *f)
{
	struct member m;
	size_t i;
	json_t *list = json_object_get(t->metadata, "certificates"), *entry;
	int rc = 0;

	json_array_foreach(list, i, entry)
	{
		const char *file = json_string_value(json_object_get(entry, "file")),
			   *key = json_string_value(json_object_get(entry, "key"));
		if (rc || !file || !key || strcmp(file, t->layout->root) == 0)
			continue;
		rc = tree_member(t, file, key, &m, f);
		if (rc == 0 && access(m.crt, F_OK) == 0)
			rc = each(t, &m, arg, f);
	}
	return rc;
}

int tree_walk(struct tree *t, member_fn *each, void *arg, struct fault *f)
{
	return t->layout->walk ? t->layout->walk(t, each, arg, f) : each_of_metadata(t, each, arg, f);
}

/* ---- verify ---- */

void tree_wrong(struct verdict *verdict, const char *file, const char *why)
{
	verdict->bad = true;
	if (verdict->list)
		json_array_append_new(verdict->list, json_pack("{s:s, s:s, s:[s], s:[]}", "certificate", file,
							       "state", "WRONG", "wrong", why, "notes"));
	else
		printf("%s: WRONG: %s\n", file, why);
}

static int verify_member(struct tree *t, struct member *m, void *arg, struct fault *f)
{
	struct verdict *verdict = arg;
	struct names names = {0};
	struct fault inner;
	const char *const issuers[] = {t->issuer};
	const struct passphrase passphrase = tree_passphrase(t, &t->o->passphrase);
	json_t *known = metadata_of(t, m->shown);
	bool offline = t->layout->offline && strcmp(m->crt, t->root) == 0 && access(m->key, F_OK) < 0;
	int rc = tree_names(t, m, &names, f);

	if (rc && rc != -ENOENT)
		return rc;
	const struct verify v = {.crt = m->crt,
				 .shown = m->shown,
				 .roots = t->root,
				 .intermediates = issuers,
				 .n_intermediates = *t->issuer && strcmp(t->issuer, t->root) != 0 &&
						    strcmp(t->issuer, m->crt) != 0,
				 .key = offline ? NULL : m->key,
				 .passphrase = &passphrase,
				 .subject = json_string_value(json_object_get(known, "subject")),
				 .names = rc ? NULL : &names,
				 .any_purpose = true,
				 .renew_s = t->renew_s,
				 .list = verdict->list};
	rc = verify_certificate(&v, &inner);
	if (rc == -EINVAL) {
		tree_wrong(verdict, m->shown, inner.text);
		rc = 0;
	}
	verdict->bad = verdict->bad || rc == 0;
	names_done(&names);
	return rc < 0 ? rc : 0;
}

/* What metadata.json names and nobody finds. */
static void find_missing(const struct tree *t, struct verdict *verdict)
{
	char path[PATH_MAX];
	struct fault ignored;
	size_t i;
	json_t *entry;

	if (!t->metadata)
		tree_wrong(verdict, t->layout->metadata,
			   "it cannot be read: what certificates there should be is not known");
	json_array_foreach(json_object_get(t->metadata, "certificates"), i, entry)
	{
		const char *file = json_string_value(json_object_get(entry, "file"));
		if (!file || tree_path(t, file, path, &ignored) || access(path, F_OK) == 0)
			continue;
		if (t->layout->beside && strstr(file, "-new."))
			continue; /* it has taken the place of the one before */
		tree_wrong(verdict, file, "it is missing: put it back, or make it again");
	}
}

/* The fingerprint that was told on another way; in any form in which programs print it. */
static void check_pinned(const struct tree *t, struct verdict *verdict)
{
	const char *pinned = getenv("STEP_CA_FINGERPRINT");
	char said[66], is[65], why[256]; /* room for one too many */
	struct certificates root;
	struct fault ignored;
	size_t n = 0;

	if (!pinned || !*pinned || certificates_load(t->root, &root, &ignored))
		return;
	for (const char *at = pinned; *at && n + 1 < sizeof said; at++)
		if (*at != ':' && *at != ' ')
			said[n++] = *at;
	said[n] = '\0';
	certificate_fingerprint(root.v[0], is);
	if (strcasecmp(said, is) != 0) {
		snprintf(why, sizeof why, "its fingerprint is %s, not STEP_CA_FINGERPRINT: do not trust it",
			 is);
		tree_wrong(verdict, t->layout->root, why);
	}
	certificates_done(&root);
}

static int verify_all(struct tree *t, struct verdict *verdict, struct fault *f)
{
	struct member root;
	int rc = tree_member(t, t->layout->root, t->layout->root_key, &root, f);

	if (rc == 0)
		rc = verify_member(t, &root, verdict, f);
	if (rc == 0)
		check_pinned(t, verdict);
	if (rc == 0)
		rc = tree_walk(t, verify_member, verdict, f);
	if (rc == 0)
		find_missing(t, verdict);
	return rc == 0 && t->layout->check ? t->layout->check(t, verdict, f) : rc;
}

int tree_verify(const struct options *o)
{
	struct tree t;
	struct verdict verdict = {.list = o->json ? json_array() : NULL};
	struct fault f;
	struct stat st;
	int rc = tree_open(&t, o, 0, &f);

	if (rc == 0 && stat(t.dir, &st) == 0 && !S_ISDIR(st.st_mode))
		rc = refuse(&f, "%s: a certificate is judged with --roots FILE: which CAs are trusted?",
			    t.dir);
	if (rc == 0 && tree_is_made(&t, &f) == 0)
		rc = verify_all(&t, &verdict, &f);
	else if (rc == 0)
		tree_wrong(&verdict, t.layout->root, f.text);
	if (rc == 0 && o->json) {
		rc = json_dumpf(verdict.list, stdout, JSON_INDENT(2)) ? -ENOMEM : 0;
		putchar('\n');
	} else if (rc == 0 && !verdict.bad) {
		puts("All checks passed!");
	}
	json_decref(verdict.list);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : verdict.bad ? EXIT_FAILED : 0;
}
