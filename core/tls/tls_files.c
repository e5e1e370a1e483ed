/* SPDX-License-Identifier: MIT */
/*
 * tls_files - the files of one TLS role, read together and checked against each other.  Nothing is taken from
 * a file but the certificates and the one key that were checked.  Control thread only.
 */
#include "core/tls/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include "core/tls/cert.h"
#include "core/tls/tls_trial.h"

enum { FILE_CERT, FILE_KEY, FILE_CA }; /* the numbers of files; CAs from the last on */
#define MAX_CAS_IN_FILE 2000

struct content {
	const struct tls_file *file;
	const char *what;
	char *text;
	size_t len;
	int error; /* of reading it, -errno */
	struct stat st;
	struct tls_stamp stamp;
};

struct load {
	const struct tls_role *config;
	const struct tls_complaints *complaints;
	const struct tls_trial *trial;
	int64_t now;
	size_t errors;
	bool out_of_memory, busy; /* busy: somebody is writing to a file */
	struct content *files;
	size_t n;
};

__attribute__((format(printf, 4, 5))) static void complain(struct load *l, enum diag_level level,
							   const struct tls_file *file, const char *fmt, ...)
{
	char text[TLS_COMPLAINT];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	l->errors += level == DIAG_ERROR;
	l->complaints->add(l->complaints->arg, level, file, text);
}

/* ---- reading ---- */

static const struct tls_file *file_at(const struct tls_role *role, size_t i)
{
	return i == FILE_CERT ? &role->cert : i == FILE_KEY ? &role->key : &role->ca[i - FILE_CA];
}

size_t tls_files_count(const struct tls_role *role)
{
	return FILE_CA + role->n_ca;
}

struct tls_stamp tls_stamp_of(const struct stat *st)
{
	const int64_t second = 1000000000;

	return (struct tls_stamp){
		.there = true,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = st->st_size,
		.modified_ns = st->st_mtim.tv_sec * second + st->st_mtim.tv_nsec,
		.changed_ns = st->st_ctim.tv_sec * second + st->st_ctim.tv_nsec,
	};
}

struct tls_stamp tls_stamp_at(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? tls_stamp_of(&st) : (struct tls_stamp){0};
}

void tls_files_stamp(const struct tls_role *role, struct tls_stamp *stamps)
{
	for (size_t i = 0; i < tls_files_count(role); i++) {
		const struct tls_file *file = file_at(role, i);
		stamps[i] = file->path ? tls_stamp_at(file->path) : (struct tls_stamp){0};
	}
}

bool tls_stamps_equal(const struct tls_stamp *a, const struct tls_stamp *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i].there != b[i].there || a[i].dev != b[i].dev || a[i].ino != b[i].ino ||
		    a[i].size != b[i].size || a[i].modified_ns != b[i].modified_ns ||
		    a[i].changed_ns != b[i].changed_ns)
			return false;
	}
	return true;
}

static void forget(struct content *c)
{
	if (c->text)
		explicit_bzero(c->text, c->len); /* it may be a key */
	free(c->text);
	c->text = NULL;
}

static void read_file(struct content *c)
{
	forget(c);
	c->st = (struct stat){0};
	c->error = ss_file_read(AT_FDCWD, c->file->path, TLS_MAX_FILE, &c->text, &c->len, &c->st);
	c->stamp = c->st.st_ino ? tls_stamp_of(&c->st) : (struct tls_stamp){0};
}

/* All of them as they were at one moment: again if one was changed meanwhile. */
static void read_files(struct load *l)
{
	const int tries = 3;

	for (int t = 0; t < tries; t++) {
		bool changed = false;
		for (size_t i = 0; i < l->n; i++) {
			if (l->files[i].file->path)
				read_file(&l->files[i]);
		}
		for (size_t i = 0; i < l->n; i++) {
			struct content *c = &l->files[i];
			struct stat st;
			struct tls_stamp now = {0};
			if (c->file->path && stat(c->file->path, &st) == 0)
				now = tls_stamp_of(&st);
			if (c->error == 0 && !tls_stamps_equal(&now, &c->stamp, 1))
				c->error = -EAGAIN;
			changed |= c->error == -EAGAIN;
		}
		if (!changed)
			return;
	}
}

/* Was it read, and is it safe to use? */
static bool is_usable(struct load *l, const struct content *c)
{
	const char *path = c->file->path;

	if (!path)
		return false;
	l->busy |= c->error == -EAGAIN;
	if (c->error == -ENOMEM)
		l->out_of_memory = true;
	else if (c->error == -EINVAL)
		complain(l, DIAG_ERROR, c->file, "%s file \"%s\" is not a regular file", c->what, path);
	else if (c->error == -EFBIG)
		complain(l, DIAG_ERROR, c->file, "%s file \"%s\" is larger than %u MiB", c->what, path,
			 TLS_MAX_FILE >> 20);
	else if (c->error == -EAGAIN)
		complain(l, DIAG_ERROR, c->file, "%s file \"%s\" is being written to", c->what, path);
	else if (c->error)
		complain(l, DIAG_ERROR, c->file, "%s reading %s file \"%s\"", strerror(-c->error), c->what,
			 path);
	else if (c->file == &l->config->key && !ss_file_is_private(&c->st) && !l->config->open_key)
		complain(l, DIAG_ERROR, c->file,
			 "key file \"%s\" is open to group or others (mode %04o); run chmod 600 on it, and "
			 "replace the key if others may have read it; where modes cannot be changed set "
			 "allow_open_key_file",
			 path, (unsigned)c->st.st_mode & 07777);
	else
		return true;
	return false;
}

/* ---- checking ---- */

static void check_times(struct load *l, const struct tls_file *file, gnutls_x509_crt_t crt, const char *end)
{
	char who[CERT_SHOWN], when[CERT_SHOWN];
	int64_t from = cert_not_before(crt), to = cert_not_after(crt), left = to - l->now;

	if (to < l->now)
		complain(l, DIAG_WARN, file, "certificate %s in \"%s\" expired %s%s",
			 cert_show_subject(who, crt), file->path, cert_show_time(when, to), end);
	else if (from > l->now)
		complain(l, DIAG_WARN, file, "certificate %s in \"%s\" is not yet valid until %s%s",
			 cert_show_subject(who, crt), file->path, cert_show_time(when, from), end);
	else if (left <= (to - from) / 10)
		complain(l, DIAG_WARN, file,
			 "certificate %s in \"%s\" expires %s, in %" PRId64 " h %" PRId64
			 " min: less than a tenth of its life is left; renew it",
			 cert_show_subject(who, crt), file->path, cert_show_time(when, to), left / 3600,
			 left / 60 % 60);
}

static void check_chain(struct load *l, const struct tls_file *file, const struct cert_list *chain)
{
	check_times(l, file, chain->certs[0], "; it is used, but peers will reject it");
	for (unsigned i = 1; i < chain->n; i++) {
		if (gnutls_x509_crt_check_issuer(chain->certs[i - 1], chain->certs[i]))
			continue;
		complain(l, DIAG_WARN, file,
			 "in \"%s\" certificate %u is not the issuer of certificate %u: peers may be unable "
			 "to verify "
			 "it; the leaf comes first, then each one's issuer",
			 file->path, i + 1, i);
		return;
	}
}

static bool check_pair(struct load *l, const struct cert_list *chain, gnutls_x509_privkey_t key)
{
	const struct tls_role *config = l->config;

	if (cert_key_matches(chain->certs[0], key))
		return true;
	unsigned i = 1;
	while (i < chain->n && !cert_key_matches(chain->certs[i], key))
		i++;
	if (i < chain->n)
		complain(l, DIAG_ERROR, &config->cert,
			 "key file \"%s\" belongs to certificate %u in \"%s\"; the leaf must be the first",
			 config->key.path, i + 1, config->cert.path);
	else
		complain(l, DIAG_ERROR, &config->key,
			 "key file \"%s\" does not match the certificate in \"%s\"", config->key.path,
			 config->cert.path);
	return false;
}

static void load_pair(struct load *l, struct tls_generation *g)
{
	const struct content *cert = &l->files[FILE_CERT], *private = &l->files[FILE_KEY];
	struct cert_list chain = {0};
	gnutls_x509_privkey_t key = NULL;
	char why[256];

	if (is_usable(l, cert)) {
		int rc = cert_list_load(cert->text, cert->len, CERT_MAX_CHAIN, &chain, why, sizeof why);
		if (rc == -ENOMEM)
			l->out_of_memory = true;
		else if (rc)
			complain(l, DIAG_ERROR, cert->file, "certificate file \"%s\": %s", cert->file->path,
				 why);
	}
	if (is_usable(l, private)) {
		int rc = l->trial->key(private->text, private->len, &key, why, sizeof why);
		if (rc == -ENOMEM)
			l->out_of_memory = true;
		else if (rc)
			complain(l, DIAG_ERROR, private->file, "key file \"%s\": %s", private->file->path,
				 why);
	}
	if (chain.n && key && check_pair(l, &chain, key)) {
		check_chain(l, cert->file, &chain);
		l->out_of_memory |= tls_generation_take(g, &chain, key) != 0;
	}
	cert_list_free(&chain);
	if (key)
		gnutls_x509_privkey_deinit(key);
}

struct useless {
	struct load *load;
	const struct content *content;
	char first[TLS_COMPLAINT / 2];
};

static void keep_useless(void *arg, gnutls_x509_crt_t ca, const char *why)
{
	struct useless *u = arg;
	char who[CERT_SHOWN];

	cert_show_subject(who, ca);
	complain(u->load, DIAG_WARN, u->content->file, "CA %s in \"%s\" %s; what it signed will not verify",
		 who, u->content->file->path, why);
	if (!u->first[0])
		snprintf(u->first, sizeof u->first, "CA %s %s", who, why);
}

/* A bundle may hold some that are of no use, but not only such. */
static void try_cas(struct load *l, const struct content *c, const struct cert_list *list)
{
	struct useless u = {.load = l, .content = c};
	int n = l->trial->cas(list, keep_useless, &u);

	l->out_of_memory |= n < 0;
	if (n == 0)
		complain(l, DIAG_ERROR, c->file, "CA file \"%s\" holds no CA that can be used: %s",
			 c->file->path, u.first);
}

static void check_ca(struct load *l, const struct tls_file *file, gnutls_x509_crt_t crt)
{
	char who[CERT_SHOWN];
	unsigned critical;

	if (gnutls_x509_crt_get_version(crt) >= 3 && gnutls_x509_crt_get_ca_status(crt, &critical) <= 0)
		complain(l, DIAG_WARN, file,
			 "certificate %s in \"%s\" is not a CA certificate: only a peer that shows this very "
			 "certificate will verify",
			 cert_show_subject(who, crt), file->path);
	check_times(l, file, crt, "; what it signed will not verify");
}

static void load_ca(struct load *l, const struct content *c, FILE *to)
{
	struct cert_list list;
	char why[256];

	if (!is_usable(l, c))
		return;
	int rc = cert_list_load(c->text, c->len, MAX_CAS_IN_FILE, &list, why, sizeof why);
	if (rc == -ENOMEM)
		l->out_of_memory = true;
	else if (rc)
		complain(l, DIAG_ERROR, c->file, "CA file \"%s\": %s", c->file->path, why);
	if (rc)
		return;
	for (unsigned i = 0; i < list.n; i++)
		check_ca(l, c->file, list.certs[i]);
	try_cas(l, c, &list);
	char *pem = cert_list_pem(&list, 0);
	if (!pem || fputs(pem, to) == EOF)
		l->out_of_memory = true;
	free(pem);
	cert_list_free(&list);
}

static void load_cas(struct load *l, struct tls_generation *g)
{
	size_t len;
	FILE *to = l->n > FILE_CA ? open_memstream(&g->ca, &len) : NULL;

	if (!to) {
		l->out_of_memory |= l->n > FILE_CA;
		return;
	}
	for (size_t i = FILE_CA; i < l->n; i++)
		load_ca(l, &l->files[i], to);
	if (fclose(to))
		l->out_of_memory = true;
}

/* ---- the whole ---- */

/* Is what GnuTLS has read what OpenSSL can use? */
static void try_identity(struct load *l, const struct tls_generation *g)
{
	char why[TLS_COMPLAINT / 2];
	int rc = l->trial->identity(&g->material, g->material.role, g->material.min_version, why, sizeof why);

	if (rc == -ENOMEM)
		l->out_of_memory = true;
	else if (rc && g->chain)
		complain(l, DIAG_ERROR, &l->config->cert, "certificate file \"%s\": %s", l->config->cert.path,
			 why);
	else if (rc)
		complain(l, DIAG_ERROR, &l->config->ca[0], "CA files: %s", why);
}

int tls_files_load(const struct tls_role *config, uint32_t role, int64_t now,
		   const struct tls_complaints *complaints, struct tls_stamp *stamps,
		   struct tls_generation **out)
{
	struct load l = {
		.config = config, .complaints = complaints, .now = now, .n = tls_files_count(config)};
	char why[TLS_COMPLAINT];

	l.trial = tls_trial_open(NULL, why, sizeof why);
	if (!l.trial) {
		complain(&l, DIAG_ERROR, NULL, "%s", why);
		return -EINVAL;
	}
	struct tls_generation *g = tls_generation_new(config->mode ? "fallback" : "manual");
	l.files = calloc(l.n, sizeof *l.files);
	if (!g || !l.files) {
		tls_generation_unref(g);
		free(l.files);
		return -ENOMEM;
	}
	for (size_t i = 0; i < l.n; i++) {
		l.files[i].file = file_at(config, i);
		l.files[i].what = i == FILE_CERT ? "certificate" : i == FILE_KEY ? "key" : "CA";
	}
	read_files(&l);
	for (size_t i = 0; stamps && i < l.n; i++)
		stamps[i] = l.files[i].stamp;
	if (config->cert.path)
		load_pair(&l, g);
	load_cas(&l, g);

	g->material.role = role;
	g->material.min_version = config->min_version;
	g->material.flags = config->flags;
	l.out_of_memory |= tls_generation_allow(g, config->names, config->n_names) || tls_generation_seal(g);
	if (l.errors == 0 && !l.out_of_memory)
		try_identity(&l, g);
	for (size_t i = 0; i < l.n; i++)
		forget(&l.files[i]);
	free(l.files);
	if (l.errors || l.out_of_memory) {
		tls_generation_unref(g);
		return l.out_of_memory ? -ENOMEM : l.busy ? -EAGAIN : -EINVAL;
	}
	*out = g;
	return 0;
}
