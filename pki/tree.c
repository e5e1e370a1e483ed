/* SPDX-License-Identifier: MIT */
/* tree - see tree.h.  The layout "internal": ca/, redis/, workers/, api/, each NAME-cert.pem with
 * NAME-key.pem and NAME-bundle.pem; certs/metadata.json says what should be there. */
#include "tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/units.h>
#include "issue.h"
#include "verify.h"

enum { DAY = 86400, VALIDITY_DAYS = 3650, PATHS_MAX = 256 };

static const char suffix[] = "-cert.pem";

struct tree {
	const struct options *o;
	const char *dir;
	char ca[PATH_MAX], ca_key[PATH_MAX];
	int64_t life_s, renew_s; /* as the environment says; 0: it does not */
	json_t *metadata;        /* certs/metadata.json; NULL: it cannot be read */
};

/* A certificate of the tree, and the files beside it. */
struct member {
	char shown[PATH_MAX]; /* below the tree */
	char crt[PATH_MAX], key[PATH_MAX], bundle[PATH_MAX], csr[PATH_MAX], cnf[PATH_MAX];
};

static const struct {
	const char *base, *subject;
	const struct profile *profile;
	const char *names[4]; /* of a server, which has a .cnf to change them */
} layout[] = {{"redis/redis", "redis-server", &profile_service, {"localhost", "redis-server", "127.0.0.1"}},
	      {"workers/worker", "worker", &profile_device, {"worker"}},
	      {"api/api", "api-server", &profile_service, {"localhost", "api-server", "127.0.0.1"}}};

static int failed(int rc, const struct fault *f)
{
	fprintf(stderr, "semstreams pki: %s\n", rc == -ENOMEM ? "out of memory" : f->text);
	return EXIT_FAILED;
}

#define PATH(out, f, ...)                                                                                    \
	(snprintf(out, sizeof(out), __VA_ARGS__) < (int)sizeof(out) ? 0 : refuse(f, "a path is too long"))

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
	*out *= DAY;
	return 0;
}

static int tree_open(struct tree *t, const struct options *o, struct fault *f)
{
	const char *dir = getenv("PKI_DIR");
	char path[PATH_MAX];

	*t = (struct tree){.o = o, .dir = o->n_words ? o->words[0] : dir && *dir ? dir : "pki"};
	int rc = life_of_environment(&t->life_s, f);
	if (rc == 0)
		rc = verify_renew_days(&t->renew_s, f);
	if (rc == 0)
		rc = PATH(t->ca, f, "%s/ca/ca-cert.pem", t->dir);
	if (rc == 0)
		rc = PATH(t->ca_key, f, "%s/ca/ca-key.pem", t->dir);
	if (rc == 0)
		rc = PATH(path, f, "%s/certs/metadata.json", t->dir);
	if (rc == 0)
		t->metadata = json_load_file(path, 0, NULL);
	return rc;
}

static int member_at(const struct tree *t, const char *base, struct member *m, struct fault *f)
{
	int rc = PATH(m->shown, f, "%s%s", base, suffix);

	if (rc == 0)
		rc = PATH(m->crt, f, "%s/%s%s", t->dir, base, suffix);
	if (rc == 0)
		rc = PATH(m->key, f, "%s/%s-key.pem", t->dir, base);
	if (rc == 0)
		rc = PATH(m->bundle, f, "%s/%s-bundle.pem", t->dir, base);
	if (rc == 0)
		rc = PATH(m->csr, f, "%s/%s.csr", t->dir, base);
	return rc ? rc : PATH(m->cnf, f, "%s/%s.cnf", t->dir, base);
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

static int metadata_add(struct tree *t, const char *shown, gnutls_x509_crt_t crt, const struct names *names)
{
	char subject[256], start[40], end[40], serial[80], fingerprint[65];
	json_t *entry = metadata_of(t, shown), *list = json_array();

	if (!t->metadata)
		t->metadata = json_pack("{s:s, s:[]}", "layout", "internal", "certificates");
	if (!entry) {
		entry = json_pack("{s:s}", "file", shown);
		json_array_append_new(json_object_get(t->metadata, "certificates"), entry);
	}
	for (size_t i = 0; i < names->n; i++)
		json_array_append_new(list, json_string(names->v[i].text));
	return json_object_update_new(
		       entry,
		       json_pack(
			       "{s:s, s:s, s:s, s:s, s:s, s:o}", "subject", certificate_subject(crt, subject),
			       "serial_number", certificate_serial(crt, serial), "not_before",
			       ss_format_time(gnutls_x509_crt_get_activation_time(crt), start, sizeof start),
			       "not_after",
			       ss_format_time(gnutls_x509_crt_get_expiration_time(crt), end, sizeof end),
			       "fingerprint_sha256", certificate_fingerprint(crt, fingerprint), "names",
			       list))
		       ? -ENOMEM
		       : 0;
}

static int metadata_write(struct tree *t, struct fault *f)
{
	struct fileset set = {0};
	char path[PATH_MAX], *text = json_dumps(t->metadata, JSON_INDENT(2));
	int rc = text ? PATH(path, f, "%s/certs/metadata.json", t->dir) : -ENOMEM;

	if (rc == 0) {
		struct ss_strbuf *out = fileset_add(&set, path, 0644);
		ss_strbuf_text(out, text);
		ss_strbuf_char(out, '\n');
		rc = fileset_write(&set, f);
	}
	fileset_done(&set);
	free(text);
	return rc;
}

/* ---- the names of a server: its .cnf ---- */

static char *trim(char *text)
{
	text += strspn(text, " \t");
	size_t n = strcspn(text, "#\r\n");
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
		n--;
	text[n] = '\0';
	return text;
}

/* "DNS.1 = a", "IP.1 = 192.0.2.1" below [alt_names]; what else is in it is for openssl. */
static int cnf_read(const struct member *m, struct names *out, struct fault *f)
{
	struct fault inner;
	char *bytes, *at, *line, text[300];
	size_t len, number = 0;
	bool inside = false, was_dns;
	int rc = ss_file_read(AT_FDCWD, m->cnf, 1 << 20, &bytes, &len, NULL);

	if (rc < 0)
		return rc == -ENOENT || rc == -ENOMEM
			       ? rc
			       : refuse(f, "%s cannot be read: %s", m->cnf, strerror(-rc));
	for (at = bytes; rc == 0 && (line = strsep(&at, "\n"));) {
		number++;
		line = trim(line);
		char *equals = strchr(line, '=');
		if (*line == '[')
			inside = strncmp(line + 1 + strspn(line + 1, " \t"), "alt_names", 9) == 0;
		if (!inside || !equals)
			continue;
		bool ip = strncmp(line, "IP", 2) == 0, dns = strncmp(line, "DNS", 3) == 0;
		if (!ip && !dns)
			rc = refuse(f, "%s:%zu: neither DNS nor IP: \"%s\"", m->cnf, number, line);
		snprintf(text, sizeof text, "%s:%s", ip ? "IP" : "DNS", trim(equals + 1));
		if (rc == 0)
			rc = names_add(out, text, &was_dns, &inner);
		if (rc == -EINVAL && (ip || dns))
			rc = refuse(f, "%s:%zu: %s", m->cnf, number, inner.text);
		else if (rc == 0 && was_dns)
			fprintf(stderr,
				"semstreams pki: warning: %s:%zu: an address is no DNS name: it becomes an "
				"IP name\n",
				m->cnf, number);
	}
	free(bytes);
	return rc ? rc : out->n ? 0 : refuse(f, "%s: there are no names below [alt_names]", m->cnf);
}

static int cnf_write(const struct member *m, const char *subject, const struct names *names, struct fault *f)
{
	struct fileset set = {0};
	struct ss_strbuf *out = fileset_add(&set, m->cnf, 0644);
	int n_dns = 0, n_ip = 0;

	ss_strbuf_printf(
		out,
		"# The names of this certificate: change [alt_names], then \"semstreams pki renew\".\n"
		"[req]\nprompt = no\ndistinguished_name = subject\nreq_extensions = extensions\n\n"
		"[subject]\nCN = %s\n\n[extensions]\nsubjectAltName = @alt_names\n\n[alt_names]\n",
		subject);
	for (size_t i = 0; i < names->n; i++)
		ss_strbuf_printf(out, "%s.%d = %s\n", names->v[i].address_len ? "IP" : "DNS",
				 names->v[i].address_len ? ++n_ip : ++n_dns, names->v[i].text);
	int rc = fileset_write(&set, f);
	fileset_done(&set);
	return rc;
}

/* The names that a certificate should have: of its .cnf, else of metadata.json.  -ENOENT: nobody says. */
static int names_wanted(const struct tree *t, const struct member *m, struct names *out, struct fault *f)
{
	size_t i;
	json_t *name;
	int rc = cnf_read(m, out, f);

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

static int init_ca(struct tree *t, struct issuer *issuer, struct fault *f)
{
	const struct options *o = t->o;
	const struct names none = {0};
	const struct issue what = {.profile = &profile_root,
				   .subject = "Internal Root CA",
				   .key_type = o->key_type,
				   .crt = t->ca,
				   .key = t->ca_key,
				   .names = &none,
				   .passphrase = &o->passphrase,
				   .life_s = t->life_s ? t->life_s : (int64_t)VALIDITY_DAYS * DAY,
				   .path_len = 0,
				   .replace = o->force};
	gnutls_x509_crt_t crt;
	char path[PATH_MAX], serial[80];
	struct fileset set = {0};
	int rc = issue_pair(&what, NULL, &crt, f);

	if (rc)
		return rc;
	issue_print(crt, t->ca, t->ca_key, false);
	rc = PATH(path, f, "%s/ca/ca-cert.srl", t->dir);
	ss_strbuf_printf(fileset_add(&set, path, 0644), "%s\n", certificate_serial(crt, serial));
	if (rc == 0)
		rc = fileset_write(&set, f);
	if (rc == 0)
		rc = metadata_add(t, "ca/ca-cert.pem", crt, &none);
	gnutls_x509_crt_deinit(crt);
	fileset_done(&set);
	return rc ? rc : issuer_load(t->ca, t->ca_key, &o->passphrase, issuer, f);
}

/* A server keeps the names of the .cnf that it has; --san are more of them. */
static int init_names(const struct tree *t, const struct member *m, size_t i, struct names *names,
		      struct fault *f)
{
	bool server = layout[i].profile->server;
	int rc = server ? cnf_read(m, names, f) : -ENOENT;

	for (size_t k = 0; rc == -ENOENT || (rc == 0 && k > 0); k++) {
		if (!layout[i].names[k])
			break;
		rc = names_add(names, layout[i].names[k], NULL, f);
	}
	for (size_t k = 0; rc == 0 && server && k < t->o->names.n; k++)
		rc = names_add(names, t->o->names.v[k].text, NULL, f);
	return rc == 0 && server ? cnf_write(m, layout[i].subject, names, f) : rc;
}

static int init_member(struct tree *t, size_t i, const struct issuer *issuer, struct fault *f)
{
	static const struct passphrase none;
	struct member m;
	struct names names = {0};
	gnutls_x509_crt_t crt;
	int rc = member_at(t, layout[i].base, &m, f);

	if (rc == 0)
		rc = init_names(t, &m, i, &names, f);
	if (rc == 0) {
		const struct issue what = {.profile = layout[i].profile,
					   .subject = layout[i].subject,
					   .key_type = t->o->key_type,
					   .crt = m.crt,
					   .key = m.key,
					   .csr = m.csr,
					   .bundle = m.bundle,
					   .names = &names,
					   .passphrase = &none,
					   .life_s = t->life_s ? t->life_s : (int64_t)VALIDITY_DAYS * DAY,
					   .path_len = -1,
					   .replace = t->o->force};
		rc = issue_pair(&what, issuer, &crt, f);
	}
	if (rc == 0) {
		issue_print(crt, m.crt, m.key, false);
		rc = metadata_add(t, m.shown, crt, &names);
		gnutls_x509_crt_deinit(crt);
	}
	names_done(&names);
	return rc;
}

int tree_init(const struct options *o)
{
	struct tree t;
	struct issuer issuer = {0};
	struct fault f;

	if (!o->layout) {
		fputs("semstreams pki: --layout is needed: internal; see semstreams pki --help\n", stderr);
		return EXIT_USAGE;
	}
	int rc = tree_open(&t, o, &f);
	json_decref(t.metadata);
	t.metadata = NULL;
	if (rc == 0)
		rc = init_ca(&t, &issuer, &f);
	for (size_t i = 0; rc == 0 && i < sizeof layout / sizeof *layout; i++)
		rc = init_member(&t, i, &issuer, &f);
	if (rc == 0)
		rc = metadata_write(&t, &f);
	issuer_done(&issuer);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : 0;
}

/* ---- walking ---- */

typedef int member_fn(struct tree *, struct member *, void *arg, struct fault *);

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
	int rc = PATH(path, f, "%s/%s", t->dir, name),
	    n = rc ? -1 : scandir(path, &files, is_certificate, alphasort);

	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = PATH(base, f, "%s/%.*s", name,
				  (int)(strlen(files[i]->d_name) - (sizeof suffix - 1)), files[i]->d_name);
		if (rc == 0)
			rc = member_at(t, base, &m, f);
		if (rc == 0 && strcmp(m.crt, t->ca) != 0)
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

static int check_tree(const struct tree *t, struct fault *f)
{
	if (access(t->ca, F_OK) == 0)
		return 0;
	return refuse(f,
		      "%s: there is no tree here: make one by \"semstreams pki init --layout internal %s\", "
		      "or name a "
		      "certificate with --roots",
		      t->ca, t->dir);
}

/* ---- verify ---- */

struct verdict {
	json_t *list;
	bool bad;
};

/* Of a file that cannot be judged. */
static void find_wrong(struct verdict *verdict, const char *file, const char *why)
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
	json_t *known = metadata_of(t, m->shown);
	int rc = names_wanted(t, m, &names, f);

	if (rc && rc != -ENOENT)
		return rc;
	const struct verify v = {.crt = m->crt,
				 .shown = m->shown,
				 .roots = t->ca,
				 .key = m->key,
				 .passphrase = &t->o->passphrase,
				 .subject = json_string_value(json_object_get(known, "subject")),
				 .names = rc ? NULL : &names,
				 .any_purpose = true,
				 .renew_s = t->renew_s,
				 .list = verdict->list};
	rc = verify_certificate(&v, &inner);
	if (rc == -EINVAL) {
		find_wrong(verdict, m->shown, inner.text);
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
		find_wrong(verdict, "certs/metadata.json",
			   "it cannot be read: what certificates there should be is not known");
	json_array_foreach(json_object_get(t->metadata, "certificates"), i, entry)
	{
		const char *file = json_string_value(json_object_get(entry, "file"));
		if (!file || PATH(path, &ignored, "%s/%s", t->dir, file) || access(path, F_OK) == 0)
			continue;
		find_wrong(verdict, file, "it is missing: make it again by \"init --force\"");
	}
}

int tree_verify(const struct options *o)
{
	struct tree t;
	struct verdict verdict = {.list = o->json ? json_array() : NULL};
	struct fault f;
	struct member ca = {.shown = "ca/ca-cert.pem"};
	struct stat st;
	int rc = tree_open(&t, o, &f);

	if (rc == 0 && stat(t.dir, &st) == 0 && !S_ISDIR(st.st_mode))
		rc = refuse(&f, "%s: a certificate is judged with --roots FILE: which CAs are trusted?",
			    t.dir);
	if (rc == 0)
		rc = check_tree(&t, &f);
	if (rc == 0)
		rc = PATH(ca.crt, &f, "%s", t.ca);
	if (rc == 0)
		rc = PATH(ca.key, &f, "%s", t.ca_key);
	if (rc == 0)
		rc = verify_member(&t, &ca, &verdict, &f);
	if (rc == 0)
		rc = walk(&t, verify_member, &verdict, &f);
	if (rc == 0)
		find_missing(&t, &verdict);
	if (rc == 0 && o->json) {
		rc = json_dumpf(verdict.list, stdout, JSON_INDENT(2)) ? -ENOMEM : 0;
		putchar('\n');
	}
	json_decref(verdict.list);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : verdict.bad ? EXIT_FAILED : 0;
}

/* ---- renew ---- */

struct renewal {
	struct issuer issuer;
	bool loaded;
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
static int renew(const struct options *o, const struct member *m, gnutls_x509_crt_t now,
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

static int renew_member(struct tree *t, struct member *m, void *arg, struct fault *f)
{
	struct renewal *r = arg;
	struct names names = {0}, present = {0};
	struct certificates now;
	gnutls_x509_crt_t crt;
	int rc = certificates_load(m->crt, &now, f);

	if (rc)
		return rc;
	rc = certificate_names(now.v[0], &present, f);
	if (rc == 0)
		rc = names_wanted(t, m, &names, f);
	if (rc == -ENOENT)
		rc = certificate_names(now.v[0], &names, f);
	bool due = t->o->force || verify_is_due(now.v[0], t->renew_s) || !names_same(&names, &present);
	if (rc == 0 && due && !r->loaded) {
		rc = issuer_load(t->ca, t->ca_key, &t->o->ca_passphrase, &r->issuer, f);
		r->loaded = rc == 0;
	}
	if (rc == 0 && due)
		rc = renew(t->o, m, now.v[0], &names, &r->issuer, t->o->life_s ? t->o->life_s : t->life_s,
			   &crt, f);
	if (rc == 0 && due) {
		r->n++;
		issue_print(crt, m->crt, m->key, t->o->json);
		rc = metadata_add(t, m->shown, crt, &names);
		gnutls_x509_crt_deinit(crt);
		if (rc == 0)
			rc = metadata_write(t, f);
		if (rc == 0 && t->o->exec)
			r->failed += (unsigned)tell(t->o->exec, m->shown, m->crt, m->key);
	}
	names_done(&names);
	names_done(&present);
	certificates_done(&now);
	return rc;
}

int tree_renew(const struct options *o)
{
	struct tree t;
	struct renewal r = {.n = 0};
	struct certificates ca = {0};
	struct fault f;
	int rc = tree_open(&t, o, &f);

	if (rc == 0 && (o->ca || o->ca_key))
		rc = refuse(&f, "a tree has a CA of its own: leave --ca and --ca-key out, or name a "
				"certificate and its key");
	if (rc == 0)
		rc = check_tree(&t, &f);
	if (rc == 0)
		rc = walk(&t, renew_member, &r, &f);
	if (rc == 0)
		rc = certificates_load(t.ca, &ca, &f);
	if (rc == 0 && !o->json && r.n == 0)
		printf("%s: nothing is due\n", t.dir);
	if (rc == 0 && !o->json && verify_is_due(ca.v[0], t.renew_s))
		printf("%s: note: the CA ends soon, too, and is kept: a new one, which everybody has to "
		       "trust first, is made by "
		       "\"init --force\"\n",
		       t.ca);
	certificates_done(&ca);
	issuer_done(&r.issuer);
	json_decref(t.metadata);
	return rc ? failed(rc, &f) : r.failed ? EXIT_FAILED : 0;
}

int renew_one(const struct options *o)
{
	struct tree t = {.o = o, .dir = "."};
	struct renewal r = {.n = 0};
	struct member m = {.shown = ""};
	struct certificates now = {0};
	struct names names = {0};
	gnutls_x509_crt_t crt;
	struct fault f;

	if (!o->ca || !o->ca_key) {
		fputs("semstreams pki: --ca and --ca-key are needed: who is to sign? See semstreams pki "
		      "--help\n",
		      stderr);
		return EXIT_USAGE;
	}
	int rc = verify_renew_days(&t.renew_s, &f);
	if (rc == 0)
		rc = PATH(m.crt, &f, "%s", o->words[0]);
	if (rc == 0)
		rc = PATH(m.key, &f, "%s", o->words[1]);
	if (rc == 0)
		rc = certificates_load(m.crt, &now, &f);
	if (rc == 0 && certificate_is_ca(now.v[0]))
		rc = refuse(&f,
			    "%s is a CA: what it signed depends on it; make the next one by \"intermediate\"",
			    m.crt);
	if (rc == 0)
		rc = certificate_names(now.v[0], &names, &f);
	bool due = rc == 0 && (o->force || verify_is_due(now.v[0], t.renew_s));
	if (rc == 0 && !due && !o->json)
		printf("%s: not due\n", m.crt);
	if (rc == 0 && due)
		rc = issuer_load(o->ca, o->ca_key, &o->ca_passphrase, &r.issuer, &f);
	if (rc == 0 && due)
		rc = renew(o, &m, now.v[0], &names, &r.issuer, o->life_s, &crt, &f);
	if (rc == 0 && due) {
		rc = issue_print(crt, m.crt, m.key, o->json);
		gnutls_x509_crt_deinit(crt);
		r.failed += o->exec ? (unsigned)tell(o->exec, m.crt, m.crt, m.key) : 0;
	}
	issuer_done(&r.issuer);
	names_done(&names);
	certificates_done(&now);
	return rc ? failed(rc, &f) : r.failed ? EXIT_FAILED : 0;
}
