/* SPDX-License-Identifier: MIT */
#include "core/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "config.h"
#include "core/admin/log.h"
#include "core/cli/load.h"
#include "core/config/claims.h"
#include "core/config/config.h"
#include "core/config/expand.h"
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#if defined __SANITIZE_ADDRESS__ || defined SS_DUMPABLE
#define LEAK_CHECKER 1
#else
#define LEAK_CHECKER 0
#endif

#define BIT(n) (UINT64_C(1) << (n))

void sandbox_hide_memory(void)
{
	if (!LEAK_CHECKER)
		prctl(PR_SET_DUMPABLE, 0);
}

/* ---- capabilities ---- */

/* Those that somebody may have a reason to name. */
static const struct {
	const char *name;
	int number;
} capability_names[] = {
	{"net_bind_service", CAP_NET_BIND_SERVICE},
	{"net_admin", CAP_NET_ADMIN},
	{"net_raw", CAP_NET_RAW},
	{"sys_ptrace", CAP_SYS_PTRACE},
	{"dac_read_search", CAP_DAC_READ_SEARCH},
	{"dac_override", CAP_DAC_OVERRIDE},
	{"sys_nice", CAP_SYS_NICE},
	{"ipc_lock", CAP_IPC_LOCK},
};

/* Number of the capability "net_admin", "cap_net_admin" and so on; -EINVAL. */
static int privileges_capability(const char *name)
{
	if (strncasecmp(name, "cap_", 4) == 0)
		name += 4;
	for (size_t i = 0; i < sizeof capability_names / sizeof capability_names[0]; i++)
		if (strcasecmp(name, capability_names[i].name) == 0)
			return capability_names[i].number;
	return -EINVAL;
}

/* "net_bind_service,net_admin", or "none". */
static void privileges_text(uint64_t capabilities, char *text, size_t size)
{
	size_t n = 0;

	snprintf(text, size, "none");
	for (int bit = 0; bit < 64 && n < size; bit++) {
		const char *name = NULL;
		if (!(capabilities & BIT(bit)))
			continue;
		for (size_t i = 0; i < sizeof capability_names / sizeof capability_names[0]; i++)
			name = capability_names[i].number == bit ? capability_names[i].name : name;
		if (name)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n ? "," : "", name);
		else
			n += (size_t)snprintf(text + n, size - n, "%s%d", n ? "," : "", bit);
	}
}

static int set_capabilities(uint64_t keep, uint64_t *kept)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		const uint32_t part = (uint32_t)(keep >> 32 * i);
		data[i].permitted &= part;
		data[i].effective = data[i].permitted;
		data[i].inheritable = data[i].permitted;
	}
	*kept = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* No set-user-id program, and of the capabilities those in the set 1 << number at most, for children as well;
 * what is left goes to *kept.  Of this thread and those it starts.  0 or -errno. */
static int privileges_drop(uint64_t keep, uint64_t *kept)
{
	keep |= LEAK_CHECKER ? BIT(CAP_SYS_PTRACE) : 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* what a program of root's would get back; without the right to do so there is nothing to lose */
	for (int bit = 0; bit < 64; bit++)
		if (!(keep & BIT(bit)) && prctl(PR_CAPBSET_DROP, bit, 0, 0, 0) < 0)
			break;
	int rc = set_capabilities(keep, kept);
	if (rc < 0)
		return rc;
	/* a child of a user without rights has those that are ambient: what is kept, as it may be a
	 * component's helper that listens */
	for (int bit = 0; bit < 64; bit++)
		prctl(PR_CAP_AMBIENT, *kept & BIT(bit) ? PR_CAP_AMBIENT_RAISE : PR_CAP_AMBIENT_LOWER, bit, 0,
		      0);
	return 0;
}

/* ---- system calls ---- */

#ifdef HAVE_SECCOMP

/* By name, as not every architecture and every version of the library has each. */
static const char *const denied[] = {
	/* other processes */
	"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp",
	/* file systems and namespaces */
	"mount", "umount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount",
	"fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "swapon", "swapoff", "quotactl",
	"quotactl_fd", "open_by_handle_at", "fanotify_init",
	/* the kernel */
	"bpf", "perf_event_open", "kexec_load", "kexec_file_load", "init_module", "finit_module",
	"create_module", "delete_module", "reboot", "syslog", "acct", "userfaultfd", "io_uring_setup",
	"io_uring_enter", "io_uring_register", "lookup_dcookie", "nfsservctl", "vhangup", "uselib",
	"modify_ldt", "iopl", "ioperm",
	/* keyrings, clocks and names of the machine */
	"add_key", "request_key", "keyctl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
	"stime", "sethostname", "setdomainname"};

/* Which argument of clone() has the flags. */
#ifdef __s390__
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif

/* Namespaces by clone(); the arguments of clone3() cannot be looked at, and the C library does without it. */
static int deny_namespaces(scmp_filter_ctx filter)
{
	static const uint64_t flags[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
					 CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};
	int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	for (size_t i = 0; rc == 0 && i < sizeof flags / sizeof flags[0]; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
				      SCMP_CMP(CLONE_FLAGS, SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
	return rc;
}

/* System calls that no pipeline needs, such as ptrace, mount and bpf, fail with EPERM from now on, in threads
 * and programs that are started later as well.  How many; -EOPNOTSUPP: built without libseccomp. */
static int privileges_filter_calls(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int n = 0, rc = filter ? 0 : -ENOMEM;

	for (size_t i = LEAK_CHECKER; rc == 0 && i < sizeof denied / sizeof denied[0]; i++) {
		int number = seccomp_syscall_resolve_name(denied[i]);
		if (number < 0)
			continue; /* not of this architecture */
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
		n++;
	}
	if (rc == 0)
		rc = deny_namespaces(filter);
	if (rc == 0)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc < 0 ? rc : n;
}

#else

int privileges_filter_calls(void)
{
	return -EOPNOTSUPP;
}

#endif

/* ---- landlock: places of the file system that this thread, its later threads and its children keep to ----
 */

enum landlock_use { LANDLOCK_READ, LANDLOCK_WRITE, LANDLOCK_RUN, LANDLOCK_DEVICE };

struct landlock {
	int fd; /* of the rules; -1: none */
	uint64_t handled;
};

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (UINT64_C(1) << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14)
#endif

#define READS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITES                                                                                               \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |    \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |          \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |       \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
/* All that can be said of a file that is no folder. */
#define OF_FILES                                                                                             \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE |         \
	 LANDLOCK_ACCESS_FS_TRUNCATE)

/* -EOPNOTSUPP: the kernel has none, or one of before Linux 5.19, which forbids renames between folders. */
static int landlock_open(struct landlock *l)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	*l = (struct landlock){.fd = -1};
	if (abi < 2)
		return -EOPNOTSUPP;
	l->handled = READS | WRITES | LANDLOCK_ACCESS_FS_EXECUTE;
	if (abi < 3)
		l->handled &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
	const struct landlock_ruleset_attr attr = {.handled_access_fs = l->handled};
	l->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	return l->fd < 0 ? -errno : 0;
}

/* A folder and all below it, or a file.  Reading is part of every use.  -ENOENT, -EACCES and so on. */
static int landlock_allow(struct landlock *l, const char *path, enum landlock_use use)
{
	static const uint64_t of_use[] = {
		[LANDLOCK_READ] = READS,
		[LANDLOCK_WRITE] = READS | WRITES,
		[LANDLOCK_RUN] = READS | LANDLOCK_ACCESS_FS_EXECUTE,
		[LANDLOCK_DEVICE] = READS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE,
	};
	struct landlock_path_beneath_attr rule = {.allowed_access = of_use[use] & l->handled};
	struct stat st;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return -errno;
	int rc = fstat(rule.parent_fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_FILES;
	if (rc == 0 && syscall(SYS_landlock_add_rule, l->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		rc = -errno;
	close(rule.parent_fd);
	return rc;
}

/* From now on nothing else may be reached by its name; no_new_privs is set before.  What is open stays so. */
static int landlock_enter(struct landlock *l)
{
	return syscall(SYS_landlock_restrict_self, l->fd, 0) < 0 ? -errno : 0;
}

static void landlock_done(struct landlock *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

/* ---- which paths ---- */

/* What is done with each path of a configuration; false: enough. */
typedef bool path_fn(void *arg, const char *path, enum landlock_use);

/* The folder part of a path, up to the slash; "." where there is none. */
static void folder_of(const char *path, char out[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(out, PATH_MAX, "%.*s", slash && slash > path ? (int)(slash - path) : 1, slash ? path : ".");
}

/* What is replaced by renaming is another file then, so the folder is meant; but not all of "/". */
static bool read_beside(path_fn *fn, void *arg, const char *path)
{
	char folder[PATH_MAX], real[PATH_MAX];
	struct stat st;
	bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

	folder_of(path, folder);
	if (!fn(arg, is_folder || strcmp(folder, "/") == 0 ? path : folder, LANDLOCK_READ))
		return false;
	if (is_folder || !realpath(path, real))
		return true;
	folder_of(real, folder);
	return fn(arg, strcmp(folder, "/") == 0 ? real : folder, LANDLOCK_READ);
}

/* A file, or a folder and all below it, or what comes before a '%'. */
static bool write_below(path_fn *fn, void *arg, const char *path)
{
	const char *pattern = strchr(path, '%');
	char fixed[PATH_MAX], folder[PATH_MAX];
	struct stat st;

	if (strlen(path) >= sizeof fixed)
		return true; /* no such file can be opened */
	snprintf(fixed, sizeof fixed, "%.*s", (int)(pattern ? (size_t)(pattern - path) : strlen(path)), path);
	if (!pattern && stat(fixed, &st) == 0 && S_ISDIR(st.st_mode))
		return fn(arg, fixed, LANDLOCK_WRITE);
	folder_of(fixed, folder);
	return fn(arg, folder, LANDLOCK_WRITE);
}

static bool each_of_options(const struct config_component *c, path_fn *fn, void *arg)
{
	for (uint32_t i = 0; c->desc && c->conf && i < c->desc->n_options; i++) {
		const struct ss_option *o = &c->desc->options[i];
		const char *path = NULL;
		if (o->type == SS_OPT_STRING && o->flags & (SS_OPT_READS | SS_OPT_WRITES))
			memcpy(&path, (const char *)c->conf + o->offset, sizeof path);
		if (path && *path &&
		    !(o->flags & SS_OPT_WRITES ? write_below(fn, arg, path) : read_beside(fn, arg, path)))
			return false;
	}
	return true;
}

static bool each_claimed(const struct claims *claims, path_fn *fn, void *arg)
{
	const char *resource;
	bool go_on = true;

	for (size_t i = 0; go_on && (resource = claims_at(claims, i, NULL)); i++) {
		if (strncmp(resource, "reads:", 6) == 0)
			go_on = read_beside(fn, arg, resource + 6);
		else if (strncmp(resource, "writes:", 7) == 0)
			go_on = write_below(fn, arg, resource + 7);
	}
	return go_on;
}

static bool each_of_tls(const struct tls_config *tls, path_fn *fn, void *arg)
{
	for (size_t i = 0; i < TLS_ROLES; i++) {
		const struct tls_role *r = &tls->roles[i];
		if ((r->cert.path && !read_beside(fn, arg, r->cert.path)) ||
		    (r->key.path && !read_beside(fn, arg, r->key.path)))
			return false;
		for (size_t k = 0; k < r->n_ca; k++)
			if (r->ca[k].path && !read_beside(fn, arg, r->ca[k].path))
				return false;
		for (size_t k = 0; k < r->n_crl; k++)
			if (r->crl[k].path && !read_beside(fn, arg, r->crl[k].path))
				return false;
	}
	return true;
}

/* {"file": path} in place of strings, which a reload reads again. */
static bool each_included(const struct jdoc *doc, const struct jnode *node, path_fn *fn, void *arg)
{
	const struct jnode *child = node->child;

	if (node->n == 1 && child->name && strcmp(child->name, "file") == 0 && child->type == J_STRING) {
		char *path = expand_path(doc, child->string);
		bool go_on = !path || read_beside(fn, arg, path);
		free(path);
		return go_on;
	}
	for (; child; child = child->next)
		if (!each_included(doc, child, fn, arg))
			return false;
	return true;
}

static bool each_listed(const struct sandbox_paths *list, path_fn *fn, void *arg, enum landlock_use use)
{
	for (size_t i = 0; i < list->n; i++)
		if (!fn(arg, list->paths[i], use))
			return false;
	return true;
}

static bool each_of_admin(const struct config *config, path_fn *fn, void *arg)
{
	const struct admin_config *a = &config->admin;
	const char *read[] = {a->cert_file, a->key_file, a->client_ca_file};
	const char *listen = config->admin_listen;

	for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
		if (read[i] && !read_beside(fn, arg, read[i]))
			return false;
	return (!a->socket || write_below(fn, arg, a->socket)) &&
	       (!listen || strncmp(listen, "unix:", 5) != 0 || write_below(fn, arg, listen + 5));
}

/* All that a configuration names. */
static bool each_path(const struct config *config, path_fn *fn, void *arg)
{
	for (size_t i = 0; i < config->n_components; i++)
		if (!each_of_options(&config->components[i], fn, arg))
			return false;
	for (size_t i = 0; i < TLS_ROLES; i++)
		if (!each_of_options(&config->providers[i], fn, arg))
			return false;
	for (size_t i = 0; i < config->n_plugin_paths; i++)
		if (!fn(arg, config->plugin_paths[i], LANDLOCK_READ))
			return false;
	return each_of_admin(config, fn, arg) && read_beside(fn, arg, config->doc->file) &&
	       each_included(config->doc, config->doc->root, fn, arg) && each_of_tls(&config->tls, fn, arg) &&
	       each_claimed(config->claims, fn, arg) &&
	       each_listed(&config->sandbox.read, fn, arg, LANDLOCK_READ) &&
	       each_listed(&config->sandbox.write, fn, arg, LANDLOCK_WRITE);
}

/* ---- files ---- */

struct closing {
	struct landlock rules;
	struct sandbox *sandbox;
	int rc; /* -ENOMEM, or of the kernel */
};

static bool remember(struct closing *c, const char *path)
{
	struct sandbox *s = c->sandbox;
	char **grown = reallocarray(s->write, s->n_write + 1, sizeof *grown);

	if (!grown) {
		c->rc = -ENOMEM;
		return false;
	}
	s->write = grown;
	s->write[s->n_write] = realpath(path, NULL);
	if (s->write[s->n_write])
		s->n_write++;
	return true;
}

/* A folder that a component has yet to make: the nearest that exists, where it is to be made.  In "/" it is
 * made here, as storage would make it, since all of "/" would be no sandbox. */
static bool allow(void *arg, const char *path, enum landlock_use use)
{
	struct closing *c = arg;
	char at[PATH_MAX], parent[PATH_MAX];

	snprintf(at, sizeof at, "%s", path);
	int rc = landlock_allow(&c->rules, at, use);
	while (use == LANDLOCK_WRITE && rc == -ENOENT) {
		folder_of(at, parent);
		if (strcmp(parent, "/") == 0)
			rc = mkdir(at, 0750) == 0 ? 0 : -EACCES;
		else
			memcpy(at, parent, sizeof at);
		if (rc == 0 || rc == -ENOENT)
			rc = landlock_allow(&c->rules, at, use);
	}
	if (rc == 0)
		log_debug("Sandbox opens path=%s for=%s", at, use == LANDLOCK_WRITE ? "writing" : "reading");
	if (rc == 0 && use == LANDLOCK_WRITE)
		return remember(c, at);
	if (rc < 0 && rc != -ENOENT && rc != -EACCES && rc != -ENOTDIR && rc != -ELOOP &&
	    rc != -ENAMETOOLONG) {
		c->rc = rc;
		return false;
	}
	return true; /* what is not there cannot be opened either */
}

/* Lists of folders in the environment: those of systemd, of libraries, and of what is loaded into children.
 */
static bool allow_environment(struct closing *c)
{
	static const struct {
		const char *name;
		enum landlock_use use;
	} known[] = {
		{"STATE_DIRECTORY", LANDLOCK_WRITE},
		{"CACHE_DIRECTORY", LANDLOCK_WRITE},
		{"LOGS_DIRECTORY", LANDLOCK_WRITE},
		{"RUNTIME_DIRECTORY", LANDLOCK_WRITE},
		{"CONFIGURATION_DIRECTORY", LANDLOCK_READ},
		{"CREDENTIALS_DIRECTORY", LANDLOCK_READ},
		{"SSL_CERT_FILE", LANDLOCK_READ},
		{"SSL_CERT_DIR", LANDLOCK_READ},
		{"TZDIR", LANDLOCK_READ},
		{"LD_LIBRARY_PATH", LANDLOCK_READ},
		{"LD_PRELOAD", LANDLOCK_READ},
	};
	bool go_on = true;

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		const char *value = getenv(known[i].name);
		char *list = value ? strdup(value) : NULL, *save = NULL;
		for (char *p = list ? strtok_r(list, ": ", &save) : NULL; go_on && p;
		     p = strtok_r(NULL, ": ", &save))
			go_on = allow(c, p, known[i].use);
		free(list);
	}
	return go_on;
}

/* What the C library, TLS and name resolution read on any system, and the program itself. */
static bool allow_system(struct closing *c)
{
	static const char *const programs[] = {"/usr", "/lib",  "/lib32",     "/lib64",
					       "/bin", "/sbin", "/nix/store", PKGLIBEXECDIR};
	static const char *const files[] = {
		"/etc",    "/proc",         "/sys/devices/system",     "/run/systemd/resolve",
		PKGLIBDIR, load_plugin_dir, "/var/lib/ca-certificates"};
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
					      "/dev/urandom"};
	char cwd[PATH_MAX];
	bool go_on = true;

	for (size_t i = 0; go_on && i < sizeof programs / sizeof programs[0]; i++)
		go_on = allow(c, programs[i], LANDLOCK_RUN);
	for (size_t i = 0; go_on && i < sizeof files / sizeof files[0]; i++)
		go_on = allow(c, files[i], LANDLOCK_READ);
	for (size_t i = 0; go_on && i < sizeof devices / sizeof devices[0]; i++)
		go_on = allow(c, devices[i], LANDLOCK_DEVICE);
	/* often links to where they are made */
	go_on = go_on && read_beside(allow, c, "/etc/resolv.conf") && read_beside(allow, c, "/etc/hosts");
	/* where relative paths are */
	if (go_on && getcwd(cwd, sizeof cwd) && strcmp(cwd, "/") != 0)
		go_on = allow(c, cwd, LANDLOCK_WRITE);
	return go_on;
}

static size_t count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	size_t n = 0;

	for (struct dirent *e; tasks && (e = readdir(tasks));)
		n += e->d_name[0] != '.';
	if (tasks)
		closedir(tasks);
	return n;
}

/* Why files stay open to the process; NULL: they do not. */
static const char *close_files(struct sandbox *s, const struct config *config, char why[256])
{
	const struct config_component *unclear = sandbox_config_unclear(config);
	struct closing c = {.sandbox = s};

	if (unclear) {
		snprintf(why, 256,
			 "type %s does not tell which files it uses; list them in sandbox.read and "
			 "sandbox.write",
			 unclear->desc->type);
		return why;
	}
	if (count_threads() > 1)
		return "a plugin has started a thread, which would not be covered";
	c.rc = landlock_open(&c.rules);
	if (c.rc == -EOPNOTSUPP)
		return "this kernel has no Landlock; it needs Linux 5.19 with landlock in its list lsm=";
	if (c.rc == 0 && allow_system(&c) && allow_environment(&c) && each_path(config, allow, &c))
		c.rc = landlock_enter(&c.rules);
	landlock_done(&c.rules);
	s->closed = c.rc == 0;
	if (!s->closed)
		snprintf(why, 256, "Landlock fails: %s", strerror(-c.rc));
	return s->closed ? NULL : why;
}

/* ---- all ---- */

static uint64_t needed_capabilities(const struct claims *claims)
{
	uint64_t keep = UINT64_C(1) << privileges_capability("net_bind_service");
	const char *resource;

	for (size_t i = 0; (resource = claims_at(claims, i, NULL)); i++) {
		int number =
			strncmp(resource, "capability:", 11) == 0 ? privileges_capability(resource + 11) : -1;
		keep |= number >= 0 ? UINT64_C(1) << number : 0;
	}
	return keep;
}

int sandbox_enter(struct sandbox *s, const struct config *config)
{
	const bool required = config->sandbox.mode == SANDBOX_REQUIRED;
	char why_files[256], why_calls[128] = "", left[128], calls[16] = "none";
	uint64_t kept = 0;

	*s = (struct sandbox){0};
	if (config->sandbox.mode == SANDBOX_OFF) {
		log_info("Sandbox is off, as the configuration says");
		return 0;
	}
	int rc = privileges_drop(needed_capabilities(config->claims), &kept);
	if (rc < 0)
		log_error("Cannot give up capabilities error=\"%s\"", strerror(-rc));
	const char *files = close_files(s, config, why_files);
	int n = privileges_filter_calls();
	if (n >= 0)
		snprintf(calls, sizeof calls, "%d", n);
	else
		snprintf(why_calls, sizeof why_calls, " calls_reason=\"%s\"",
			 n == -EOPNOTSUPP ? "built without libseccomp" : strerror(-n));
	privileges_text(kept, left, sizeof left);
	log_info("Sandbox set up files=%s%s%s%s denied_calls=%s%s capabilities=%s", files ? "open" : "closed",
		 files ? " files_reason=\"" : "", files ? files : "", files ? "\"" : "", calls, why_calls,
		 left);
	if (!required || (rc == 0 && !files && n >= 0))
		return 0;
	log_error(
		"Sandbox is required and cannot be had, see the line above; mend that or set \"sandbox\" to "
		"\"auto\"");
	return -EPERM;
}

void sandbox_done(struct sandbox *s)
{
	for (size_t i = 0; i < s->n_write; i++)
		free(s->write[i]);
	free(s->write);
	*s = (struct sandbox){0};
}

/* ---- a changed configuration ---- */

struct asking {
	const struct sandbox *sandbox;
	const struct config *config;
	struct diag *diag;
	bool all;
};

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1);
}

static bool ask(void *arg, const char *path, enum landlock_use use)
{
	struct asking *a = arg;
	char at[PATH_MAX], real[PATH_MAX] = "", parent[PATH_MAX];
	bool open = use != LANDLOCK_WRITE, there = false;

	snprintf(at, sizeof at, "%s", path);
	while (!open && !(there = realpath(at, real)) && errno == ENOENT && strcmp(at, ".") != 0 &&
	       strcmp(at, "/") != 0) {
		folder_of(at, parent);
		memcpy(at, parent, sizeof at);
	}
	for (size_t i = 0; !open && there && i < a->sandbox->n_write; i++)
		open = is_below(real, a->sandbox->write[i]);
	if (open)
		return true;
	diag_add(a->diag, DIAG_ERROR, a->config->doc->file, (struct place){0}, NULL,
		 "\"%s\" is not among the folders that the sandbox left open for writing at the start: "
		 "restart the "
		 "program, or list it in \"write\" of \"sandbox\" before the next start",
		 path);
	a->all = false;
	return true;
}

bool sandbox_permits(const struct sandbox *s, const struct config *config, struct diag *diag)
{
	struct asking a = {.sandbox = s, .config = config, .diag = diag, .all = true};

	if (s->closed)
		each_path(config, ask, &a);
	return a.all;
}
