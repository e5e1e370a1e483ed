/* SPDX-License-Identifier: MIT */
/*
 * loader - see loader.h.  A folder is listed once, when it is added; files are named by the folder's
 * descriptor, so that nothing above it can be swapped.  A symbolic link counts as what it points to, which
 * has to pass the same checks.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/plugin/descriptor.h"
#include "core/plugin/elf.h"
#include "core/plugin/loader.h"

#define MAX_COMPONENTS 256 /* of one file */

struct folder {
	char *path;
	int fd;
	dev_t dev;
	ino_t ino;
};

enum file_state { FILE_NEW, FILE_CHECKED, FILE_LOADED, FILE_REFUSED };

struct file {
	char *path;
	const char *name; /* within path */
	const struct folder *folder;
	enum file_state state;
	const char *why; /* FILE_REFUSED; a problem's text */
	dev_t dev;       /* FILE_LOADED */
	ino_t ino;
};

struct type {
	struct ss_component *desc;
	const char *file;
};

struct loader {
	struct folder **folders;
	struct file **files; /* in the order of the search */
	struct type *types;  /* by name */
	struct loader_problem *problems;
	size_t n_folders, n_files, n_types, n_problems;
};

struct loader *loader_new(void)
{
	return calloc(1, sizeof(struct loader));
}

void loader_free(struct loader *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_types; i++)
		descriptor_free(l->types[i].desc);
	for (size_t i = 0; i < l->n_files; i++) {
		free(l->files[i]->path);
		free(l->files[i]);
	}
	for (size_t i = 0; i < l->n_folders; i++) {
		close(l->folders[i]->fd);
		free(l->folders[i]->path);
		free(l->folders[i]);
	}
	for (size_t i = 0; i < l->n_problems; i++) {
		free(l->problems[i].file);
		free(l->problems[i].text);
	}
	free(l->types);
	free(l->files);
	free(l->folders);
	free(l->problems);
	free(l);
}

/* Room for one more row in an array of n rows. */
static int grow(void *array, size_t n, size_t size)
{
	void *old, *new;

	memcpy(&old, array, sizeof old);
	new = reallocarray(old, n + 1, size);
	if (!new)
		return -ENOMEM;
	memcpy(array, &new, sizeof new);
	return 0;
}

/* Keep a problem; returns its text, or a lasting substitute if there is no memory to keep it. */
static const char *add_problem(struct loader *l, const char *file, char *text)
{
	char *copy = strdup(file);

	if (!text || !copy || grow(&l->problems, l->n_problems, sizeof *l->problems) < 0) {
		free(copy);
		free(text);
		return "out of memory";
	}
	l->problems[l->n_problems++] = (struct loader_problem){.file = copy, .text = text};
	return text;
}

__attribute__((format(printf, 3, 4))) static const char *problem(struct loader *l, const char *file,
								 const char *fmt, ...)
{
	char *what = NULL, *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		what = NULL;
	va_end(ap);
	if (what && asprintf(&text, "%s %s", file, what) < 0)
		text = NULL;
	free(what);
	return add_problem(l, file, text);
}

#define refuse(l, f, ...) ((f)->state = FILE_REFUSED, (f)->why = problem(l, (f)->path, __VA_ARGS__))

/* No fault of the plugin, where open files have run out. */
static const char *cause(int error)
{
	if (error == EMFILE || error == ENFILE)
		return "no more files can be open; raise the limit RLIMIT_NOFILE (LimitNOFILE of systemd, "
		       "the "
		       "ulimit nofile of a container), it is not the plugin's fault";
	return strerror(error);
}

/* Could anybody but root and us have put something there?  Then a problem says so. */
static const char *unsafe(struct loader *l, const char *path, const struct stat *st)
{
	unsigned mode = st->st_mode & 07777;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return problem(l, path,
			       "belongs to uid %u, neither root nor the running user (uid %u); chown it",
			       st->st_uid, geteuid());
	if ((mode & 022) && (mode & S_ISVTX))
		return problem(l, path, "is writable by everybody (mode %04o); use a folder of its own",
			       mode);
	if (mode & 022)
		return problem(l, path, "is writable by group or others (mode %04o); chmod go-w it", mode);
	return NULL;
}

/* ---- folders --------------------------------------------------------------------------------------------
 */

static int is_plugin(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 3 && e->d_name[0] != '.' && strcmp(e->d_name + n - 3, ".so") == 0;
}

static int add_file(struct loader *l, const struct folder *folder, const char *name)
{
	struct file *f = calloc(1, sizeof *f);

	if (!f || grow(&l->files, l->n_files, sizeof *l->files) < 0 ||
	    asprintf(&f->path, "%s/%s", folder->path, name) < 0) {
		free(f);
		return -ENOMEM;
	}
	f->name = strrchr(f->path, '/') + 1;
	f->folder = folder;
	l->files[l->n_files++] = f;
	return 0;
}

static int add_files(struct loader *l, const struct folder *folder)
{
	struct dirent **names = NULL;
	int rc = 0, n = scandirat(folder->fd, ".", &names, is_plugin, alphasort);

	if (n < 0 && errno == ENOMEM)
		return -ENOMEM;
	if (n < 0)
		problem(l, folder->path, "cannot be read: %s", cause(errno));
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = add_file(l, folder, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return rc;
}

/* 1: new and fit to be searched, 0: not. */
static int check_folder(struct loader *l, const char *path, int fd, struct folder *folder)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		problem(l, path, "cannot be read: %s", strerror(errno));
		return 0;
	}
	for (size_t i = 0; i < l->n_folders; i++)
		if (l->folders[i]->dev == st.st_dev && l->folders[i]->ino == st.st_ino)
			return 0;
	folder->dev = st.st_dev;
	folder->ino = st.st_ino;
	return unsafe(l, path, &st) ? 0 : 1;
}

/* The path without slashes at its end. */
static char *copy_path(const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	return strndup(path, n);
}

int loader_add_path(struct loader *l, const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		problem(l, dir, "cannot be searched for plugins: %s", cause(errno));
		return 0;
	}
	struct folder *folder = calloc(1, sizeof *folder);
	int rc = -ENOMEM;
	if (!folder)
		goto out;
	rc = check_folder(l, dir, fd, folder);
	if (rc == 0)
		goto out;
	rc = -ENOMEM;
	folder->path = copy_path(dir);
	folder->fd = fd;
	if (!folder->path || grow(&l->folders, l->n_folders, sizeof *l->folders) < 0)
		goto out;
	l->folders[l->n_folders++] = folder;
	return add_files(l, folder);
out:
	if (folder)
		free(folder->path);
	free(folder);
	close(fd);
	return rc;
}

/* ---- files ----------------------------------------------------------------------------------------------
 */

/* Open and check a file: a descriptor, or -1 and the file is refused. */
static int open_file(struct loader *l, struct file *f, struct stat *st)
{
	char why[ELF_WHY];
	/* not to hang on a FIFO that is called x.so */
	int fd = openat(f->folder->fd, f->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		refuse(l, f, "cannot be opened: %s", cause(errno));
		return -1;
	}
	if (fstat(fd, st) < 0)
		refuse(l, f, "cannot be read: %s", strerror(errno));
	else if (!S_ISREG(st->st_mode))
		refuse(l, f, "is not a regular file");
	else if ((f->why = unsafe(l, f->path, st)))
		f->state = FILE_REFUSED;
	else if (elf_check(fd, why) < 0)
		refuse(l, f, "%s", why);
	else
		return fd;
	close(fd);
	return -1;
}

/*
 * Put debuggers, dladdr and backtraces, which know the object as /proc/self/fd/N, on the track of the file.
 * The name before is the dynamic loader's memory: it is kept behind the new one, for leak checkers to find.
 */
static void set_object_name(void *object, const char *path)
{
	struct link_map *map;

	if (dlinfo(object, RTLD_DI_LINKMAP, &map) < 0)
		return;
	char *real = realpath(path, NULL);
	size_t size = real ? (strlen(real) / sizeof(char *) + 1) * sizeof(char *) : 0;
	char *name = real && strcmp(map->l_name, real) != 0 ? calloc(1, size + sizeof(char *)) : NULL;
	if (name) {
		strcpy(name, real);
		memcpy(name + size, &map->l_name, sizeof(char *));
		map->l_name = name;
	}
	free(real);
}

/*
 * Map a checked file, which keeps fd for good: the dynamic loader recognises what it has loaded by name
 * first, so a number used again would give the wrong object.  NULL: the file is refused and fd still the
 * caller's.
 */
static void *open_object(struct loader *l, struct file *f, int fd)
{
	char name[32];
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	const char *from =
		access(name, F_OK) == 0 ? name : f->path; /* without /proc there is only the path */

	void *object = dlopen(from, RTLD_NOW | RTLD_LOCAL);
	if (object) {
		set_object_name(object, f->path);
		return object;
	}
	const char *text = dlerror();
	size_t n = strlen(from);
	if (text && strncmp(text, from, n) == 0 && strncmp(text + n, ": ", 2) == 0)
		text += n + 2;
	if (text && strstr(text, strerror(EMFILE)))
		text = cause(EMFILE);
	refuse(l, f, "cannot be loaded: %s%s", text ? text : "unknown error",
	       elf_mentions(fd, "$ORIGIN")
		       ? " ($ORIGIN in its library path is not supported, use an absolute one)"
		       : "");
	return NULL;
}

static size_t type_slot(const struct loader *l, const char *type, bool *found)
{
	size_t low = 0, high = l->n_types;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(type, l->types[mid].desc->type);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Takes the descriptor over. */
static void add_type(struct loader *l, struct file *f, struct ss_component *desc)
{
	bool found;
	size_t i = type_slot(l, desc->type, &found);

	if (found) {
		problem(l, f->path, "has type '%s', which %s has already; ignoring this one", desc->type,
			l->types[i].file);
		descriptor_free(desc);
		return;
	}
	if (grow(&l->types, l->n_types, sizeof *l->types) < 0) {
		problem(l, f->path, "cannot be loaded: out of memory");
		descriptor_free(desc);
		return;
	}
	memmove(l->types + i + 1, l->types + i, (l->n_types - i) * sizeof *l->types);
	l->types[i] = (struct type){.desc = desc, .file = f->path};
	l->n_types++;
}

/* A metric of one name is of one kind, or a scrape is no valid text: the one that differs, or NULL. */
static const struct ss_metric *find_clash(const struct ss_component *a, const struct ss_component *b)
{
	for (uint32_t i = 0; i < a->n_metrics; i++)
		for (uint32_t k = 0; k < b->n_metrics; k++)
			if (strcmp(a->metrics[i].name, b->metrics[k].name) == 0 &&
			    a->metrics[i].kind != b->metrics[k].kind)
				return &a->metrics[i];
	return NULL;
}

/* Of the last one with those before it in the file, and with what other files have. */
static void check_clashes(struct loader *l, struct file *f, struct ss_component *const *descs, size_t n)
{
	static const char *const kinds[] = {[SS_METRIC_COUNTER] = "counter", [SS_METRIC_GAUGE] = "gauge"};
	const struct ss_component *own = descs[n - 1];
	struct type other = {0};
	const struct ss_metric *m = NULL;

	for (size_t i = 0; !m && i < n - 1 + l->n_types; i++) {
		other = i < n - 1 ? (struct type){.desc = descs[i], .file = f->path} : l->types[i - (n - 1)];
		m = find_clash(own, other.desc);
	}
	if (m)
		refuse(l, f, "has the metric %s as a %s in type '%s', but type '%s' of %s has it as a %s",
		       m->name, kinds[m->kind], own->type, other.desc->type, other.file,
		       kinds[m->kind == SS_METRIC_GAUGE ? SS_METRIC_COUNTER : SS_METRIC_GAUGE]);
}

/* All of a file's types, or none and the file is refused. */
static void add_types(struct loader *l, struct file *f, const struct ss_entry *entry)
{
	struct ss_component *descs[MAX_COMPONENTS];
	char why[DESCRIPTOR_WHY];
	size_t n = 0;

	if (entry->struct_size < sizeof *entry || !entry->components || entry->n_components == 0 ||
	    entry->n_components > MAX_COMPONENTS) {
		refuse(l, f, "has a bad entry symbol (struct_size %u, %u components); use SS_REGISTER",
		       entry->struct_size, entry->n_components);
		return;
	}
	while (n < entry->n_components && f->state != FILE_REFUSED) {
		int rc = descriptor_copy(entry->components[n], &descs[n], why);
		if (rc < 0) {
			refuse(l, f, "has a bad descriptor: %s", rc == -EINVAL ? why : strerror(-rc));
			break;
		}
		check_clashes(l, f, descs, ++n);
	}
	for (size_t i = 0; i < n; i++) {
		if (f->state == FILE_REFUSED)
			descriptor_free(descs[i]);
		else
			add_type(l, f, descs[i]);
	}
}

/* Is it a file that was loaded by another name? */
static bool is_known(const struct loader *l, const struct stat *st)
{
	for (size_t i = 0; i < l->n_files; i++)
		if (l->files[i]->state == FILE_LOADED && l->files[i]->dev == st->st_dev &&
		    l->files[i]->ino == st->st_ino)
			return true;
	return false;
}

/* The exported entry; NULL: there is none, or one that can be no struct ss_entry. */
static const struct ss_entry *entry_of(void *object)
{
	void *symbol = dlsym(object, "semstreams_entry_v1"), *extra = NULL;
	Dl_info info;

	if (!symbol || !dladdr1(symbol, &info, &extra, RTLD_DL_SYMENT) || !extra)
		return NULL;
	const ElfW(Sym) *row = extra;
	return ELF64_ST_TYPE(row->st_info) == STT_OBJECT && row->st_size >= sizeof(struct ss_entry) ? symbol
												    : NULL;
}

static void load_file(struct loader *l, struct file *f)
{
	struct stat st;

	if (f->state == FILE_LOADED || f->state == FILE_REFUSED)
		return;
	int fd = open_file(l, f, &st);
	if (fd < 0)
		return;
	bool known = is_known(l, &st);
	void *object = known ? NULL : open_object(l, f, fd);
	if (!object)
		close(fd);
	if (f->state == FILE_REFUSED)
		return;
	f->state = FILE_LOADED;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	if (known)
		return;
	const struct ss_entry *entry = entry_of(object);
	if (entry)
		add_types(l, f, entry);
	else
		refuse(l, f, "is not a semstreams plugin: it does not export semstreams_entry_v%d as data",
		       SS_ABI_MAJOR);
}

/* ---- the outside ----------------------------------------------------------------------------------------
 */

static const struct ss_component *known_type(const struct loader *l, const char *type)
{
	bool found;
	size_t i = type_slot(l, type, &found);

	return found ? l->types[i].desc : NULL;
}

/* Is it the file a type is to be looked for in first? */
static bool is_home(const struct file *f, const char *type)
{
	size_t n = strlen(type);

	return strncmp(f->name, type, n) == 0 && strcmp(f->name + n, ".so") == 0;
}

const struct ss_component *loader_find(struct loader *l, const char *type, const char **why)
{
	const struct ss_component *desc = known_type(l, type);

	if (why)
		*why = NULL;
	for (size_t i = 0; !desc && i < l->n_files; i++) {
		struct file *f = l->files[i];
		if (!is_home(f, type))
			continue;
		load_file(l, f);
		if (f->state == FILE_REFUSED) {
			/* not the next of that name: it may be another version than the one that was meant */
			if (why)
				*why = f->why;
			return NULL;
		}
		desc = known_type(l, type);
	}
	if (!desc) {
		loader_load_all(l);
		desc = known_type(l, type);
	}
	return desc;
}

void loader_check_all(struct loader *l)
{
	for (size_t i = 0; i < l->n_files; i++) {
		struct file *f = l->files[i];
		struct stat st;
		if (f->state != FILE_NEW)
			continue;
		int fd = open_file(l, f, &st);
		if (fd < 0)
			continue;
		close(fd);
		f->state = FILE_CHECKED;
	}
}

void loader_load_all(struct loader *l)
{
	for (size_t i = 0; i < l->n_files; i++)
		load_file(l, l->files[i]);
}

size_t loader_count(const struct loader *l)
{
	return l->n_types;
}

const struct ss_component *loader_type(const struct loader *l, size_t i, const char **file)
{
	if (file)
		*file = l->types[i].file;
	return l->types[i].desc;
}

const struct loader_problem *loader_problems(const struct loader *l, size_t *n)
{
	*n = l->n_problems;
	return l->problems;
}
