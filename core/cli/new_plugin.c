/* SPDX-License-Identifier: MIT */
/* new_plugin - see new_plugin.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>
#include "core/cli/load.h"
#include "core/cli/new_plugin.h"

enum { TYPE_MAX = 63, TEMPLATE_MAX = 1 << 20 };

static const char suffix[] = "_tls";

struct package {
	const char *name, *kind, *lang; /* the user's */
	const char *templates;
	char type[TYPE_MAX + 1]; /* of the component, and what its files are called */
	char mode[TYPE_MAX + 1]; /* of a provider: the type without its suffix */
	char path[PATH_MAX], temporary[PATH_MAX];
	int dir; /* open at temporary; -1: not yet made */
};

__attribute__((format(printf, 2, 3))) static int fail(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("semstreams: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* ---- names ----------------------------------------------------------------------------------------------
 */

/* The type of a name: with '_' for '-', and the suffix by which the host finds providers. */
static int name_type(struct package *p)
{
	bool provider = strcmp(p->kind, "tls") == 0;
	size_t len = strlen(p->name), end = sizeof suffix - 1;

	if (!islower((unsigned char)p->name[0]) ||
	    strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len)
		return fail(EXIT_USAGE,
			    "'%s' cannot name a plugin: use a-z, 0-9, '_' and '-', a letter first", p->name);
	snprintf(p->type, sizeof p->type, "%s", p->name);
	for (char *c = p->type; *c; c++)
		if (*c == '-')
			*c = '_';
	if (len > TYPE_MAX - end)
		return fail(EXIT_USAGE, "'%s' is too long to name a plugin: use at most %zu characters",
			    p->name, TYPE_MAX - end);
	if (provider && !(len > end && strcmp(p->type + len - end, suffix) == 0))
		strcat(p->type, suffix);
	snprintf(p->mode, sizeof p->mode, "%s", p->type);
	if (provider)
		p->mode[strlen(p->mode) - end] = '\0';
	if (strcmp(p->mode, "manual") == 0 && provider)
		return fail(EXIT_USAGE, "\"mode\": \"manual\" is built in: choose another name");
	return 0;
}

/* Two plugins of one type would hide each other. */
static int refuse_known_type(const struct cli_options *o, const struct package *p)
{
	struct loaded l;
	int code = 0;
	int rc = load_types(o, &l);

	for (size_t i = 0; rc == 0 && i < loader_count(l.loader); i++) {
		const char *file;
		if (strcmp(loader_type(l.loader, i, &file)->type, p->type) == 0)
			code = fail(1, "the type '%s' is installed already, in %s: choose another name",
				    p->type, file);
	}
	load_done(&l);
	return rc == -ENOMEM ? fail(1, "out of memory") : code;
}

/* ---- files ----------------------------------------------------------------------------------------------
 */

/* The text with its placeholders replaced. */
static void fill_in(const struct package *p, const char *text, size_t len, struct ss_strbuf *out)
{
	const struct {
		const char *key, *value;
	} words[] = {{"@NAME@", p->name}, {"@TYPE@", p->type}, {"@MODE@", p->mode}, {"@KIND@", p->kind}};
	const char *end = text + len;

	while (text < end) {
		size_t i = 0, n = sizeof words / sizeof words[0];
		while (*text == '@' && i < n && strncmp(text, words[i].key, strlen(words[i].key)) != 0)
			i++;
		if (*text == '@' && i < n) {
			ss_strbuf_text(out, words[i].value);
			text += strlen(words[i].key);
		} else {
			ss_strbuf_char(out, *text++);
		}
	}
}

/* One file of the template at dir, into the package. */
static int copy_file(const struct package *p, int dir, const char *file)
{
	const char *type = strstr(file, "TYPE");
	struct ss_strbuf text = {0};
	char name[NAME_MAX + 1], *bytes;
	size_t len;

	int n = type ? snprintf(name, sizeof name, "%.*s%s%s", (int)(type - file), file, p->type, type + 4)
		     : snprintf(name, sizeof name, "%s", file);
	if (n < 0 || (size_t)n >= sizeof name)
		return -ENAMETOOLONG;
	int rc = ss_file_read(dir, file, TEMPLATE_MAX, &bytes, &len, NULL);
	if (rc < 0)
		return rc;
	fill_in(p, bytes, len, &text);
	rc = text.failed ? -ENOMEM : ss_file_write(p->dir, name, text.bytes, text.len, 0666);
	ss_strbuf_done(&text);
	free(bytes);
	return rc;
}

/* All files of one folder of templates, not of those below it. -ENOENT: there is no such folder. */
static int copy_folder(const struct package *p, const char *below)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int rc = 0;

	if ((size_t)snprintf(path, sizeof path, "%s/%s", p->templates, below) >= sizeof path)
		return -ENAMETOOLONG;
	DIR *folder = opendir(path);
	if (!folder)
		return -errno;
	while (rc == 0 && (entry = readdir(folder))) {
		struct stat st;
		size_t len = strlen(entry->d_name);
		if (entry->d_name[0] == '.' || entry->d_name[len - 1] == '~')
			continue;
		if (fstatat(dirfd(folder), entry->d_name, &st, 0) < 0)
			rc = -errno;
		else if (S_ISREG(st.st_mode))
			rc = copy_file(p, dirfd(folder), entry->d_name);
		if (rc < 0)
			fail(1, "cannot make a file of %s/%s: %s", path, entry->d_name, strerror(-rc));
	}
	closedir(folder);
	return rc == -ENOENT ? -EIO : rc;
}

static int copy_templates(const struct package *p)
{
	char of_all[32], of_lang[32];

	snprintf(of_all, sizeof of_all, "all/%s", p->kind);
	snprintf(of_lang, sizeof of_lang, "%s/%s", p->lang, p->kind);
	const char *const folders[] = {"all", of_all, p->lang, of_lang};
	for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
		int rc = copy_folder(p, folders[i]);
		if (rc < 0 && !(rc == -ENOENT && i < 3))
			return rc;
	}
	return 0;
}

/* ---- the folder -----------------------------------------------------------------------------------------
 */

static void remove_temporary(struct package *p)
{
	struct dirent *entry;

	if (p->dir < 0)
		return;
	DIR *folder = fdopendir(p->dir);
	while (folder && (entry = readdir(folder)))
		unlinkat(p->dir, entry->d_name, 0);
	if (folder)
		closedir(folder);
	else
		close(p->dir);
	p->dir = -1;
	rmdir(p->temporary);
}

/* parent NULL: the current folder. */
static int make_temporary(struct package *p, const char *parent)
{
	mode_t mask = umask(0);
	struct stat st;

	umask(mask);
	if ((size_t)snprintf(p->path, sizeof p->path, "%s%s%s", parent ? parent : "", parent ? "/" : "",
			     p->name) >= sizeof p->path ||
	    (size_t)snprintf(p->temporary, sizeof p->temporary, "%s/.%s.XXXXXX", parent ? parent : ".",
			     p->name) >= sizeof p->temporary)
		return fail(1, "the path of the folder is too long: %s", p->path);
	if (lstat(p->path, &st) == 0)
		return fail(1, "%s exists already: choose another name, or another folder with --dir",
			    p->path);
	if (!mkdtemp(p->temporary))
		return fail(1, "cannot make a folder in %s: %s", parent ? parent : ".", strerror(errno));
	/* the host loads nothing from a folder that others may write to, whatever the umask */
	if (chmod(p->temporary, 0755 & ~mask) == 0)
		p->dir = open(p->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0) {
		int code = fail(1, "cannot open %s: %s", p->temporary, strerror(errno));
		rmdir(p->temporary);
		return code;
	}
	return 0;
}

/* Which languages have a template of this kind, for people. */
static int refuse_missing(const struct package *p)
{
	static const char *const langs[] = {"c", "c++", "rust"};
	char path[PATH_MAX], there[64] = "";

	for (size_t i = 0; i < sizeof langs / sizeof langs[0]; i++) {
		snprintf(path, sizeof path, "%s/%s/%s", p->templates, langs[i], p->kind);
		size_t len = strlen(there);
		if (access(path, F_OK) == 0)
			snprintf(there + len, sizeof there - len, "%s--lang %s", len ? ", " : "", langs[i]);
	}
	if (!*there)
		return fail(1,
			    "there are no templates in %s: install the SDK (Debian: semstreams-dev), or say "
			    "where they are with --template",
			    p->templates);
	return fail(1, "there is no template for --kind %s in --lang %s: use %s", p->kind, p->lang, there);
}

int new_plugin(const struct cli_options *o)
{
	struct package p = {.name = o->name,
			    .kind = o->kind,
			    .lang = o->lang ? o->lang : "c",
			    .templates = o->template ? o->template : TEMPLATEDIR,
			    .dir = -1};

	int code = name_type(&p);
	if (code == 0)
		code = refuse_known_type(o, &p);
	if (code == 0)
		code = make_temporary(&p, o->dir);
	if (code != 0)
		return code;
	int rc = copy_templates(&p);
	if (rc == -ENOENT)
		code = refuse_missing(&p);
	else if (rc < 0)
		code = 1;
	else if (rename(p.temporary, p.path) < 0) /* replaces nothing but an empty folder */
		code = fail(1, "cannot rename %s to %s: %s", p.temporary, p.path, strerror(errno));
	if (code != 0) {
		remove_temporary(&p);
		return code;
	}
	close(p.dir);
	printf("made %s: %s, type %s; its README.md says how to build, test and run it\n", p.path, p.kind,
	       p.type);
	return 0;
}
