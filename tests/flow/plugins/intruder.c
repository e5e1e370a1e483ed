/* SPDX-License-Identifier: MIT */
/* intruder - a source that tries what a pipeline has no need of when it starts, and logs what came of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <semstreams/plugin.h>
#include <semstreams/sugar.h>

struct conf {
	const char *read, *told, *write;
	int64_t thread;
};

struct intruder {
	const struct ss_host *host;
	const struct conf *conf;
};

static const struct ss_option options[] = {
	SS_OPT(struct conf, read, SS_OPT_STRING, NULL, "file to read that nobody is told of"),
	SS_OPT(struct conf, told, SS_OPT_STRING, NULL, "file to read", .flags = SS_OPT_READS),
	SS_OPT(struct conf, write, SS_OPT_STRING, NULL, "file to write that nobody is told of"),
	SS_OPT(struct conf, thread, SS_OPT_BOOL, "false", "start a thread in create"),
};

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int32_t create(const struct ss_host *host, const void *conf, void **self)
{
	struct intruder *in = calloc(1, sizeof *in);
	pthread_t thread;

	if (!in)
		return -ENOMEM;
	*in = (struct intruder){.host = host, .conf = conf};
	*self = in;
	if (in->conf->thread && pthread_create(&thread, NULL, wait_for_ever, NULL) == 0)
		pthread_detach(thread);
	return 0;
}

static void tell(const struct intruder *in, const char *what, long result)
{
	ss_log(in->host, SS_LOG_INFO, "Tried %s: %s", what, result < 0 ? strerrorname_np(errno) : "done");
}

static void try_file(const struct intruder *in, const char *what, const char *path, int flags)
{
	int fd = path ? open(path, flags | O_CLOEXEC, 0600) : -1;

	if (path)
		tell(in, what, fd);
	if (fd >= 0)
		close(fd);
}

/* Of a child, which inherits all. */
static void try_child(const struct intruder *in, const char *path)
{
	char *const argv[] = {(char *)"cat", (char *)path, NULL}, *const none[] = {NULL};
	pid_t pid;
	int status = -1;

	if (path && posix_spawn(&pid, "/bin/cat", NULL, NULL, argv, none) == 0)
		waitpid(pid, &status, 0);
	ss_log(in->host, SS_LOG_INFO, "Tried child: %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static int32_t start(void *self)
{
	const struct intruder *in = self;
	union bpf_attr attr = {0};

	try_file(in, "read", in->conf->read, O_RDONLY);
	try_file(in, "told", in->conf->told, O_RDONLY);
	try_file(in, "write", in->conf->write, O_WRONLY | O_CREAT);
	try_child(in, in->conf->read);
	tell(in, "ptrace", ptrace(PTRACE_ATTACH, 0, NULL, NULL));       /* ESRCH where it is allowed */
	tell(in, "mount", mount("none", "/nowhere", "tmpfs", 0, NULL)); /* ENOENT, or EPERM without rights */
	tell(in, "setns", setns(-1, 0));                                /* EBADF */
	tell(in, "keyctl", syscall(SYS_keyctl, 9999, 0, 0, 0, 0));      /* EOPNOTSUPP */
	tell(in, "io_uring_setup", syscall(SYS_io_uring_setup, 0, NULL));
	tell(in, "bpf", syscall(SYS_bpf, 9999, &attr, sizeof attr));
	tell(in, "clone3", syscall(SYS_clone3, NULL, 0)); /* EINVAL */
	ss_log(in->host, SS_LOG_INFO, "Tried dumpable: %d", prctl(PR_GET_DUMPABLE));
	return 0;
}

static int32_t drain(void *self)
{
	(void)self;
	return 0;
}

#define INTRUDER(name, means)                                                                                \
	static const struct ss_component name = {                                                            \
		.struct_size = sizeof name,                                                                  \
		.kind = SS_KIND_SOURCE,                                                                      \
		.type = #name,                                                                               \
		.version = "1.0",                                                                            \
		.summary = "tries what it should not",                                                       \
		.license = "MIT",                                                                            \
		.flags = means,                                                                              \
		.options = options,                                                                          \
		.option_size = sizeof *options,                                                              \
		.n_options = sizeof options / sizeof *options,                                               \
		.conf_size = sizeof(struct conf),                                                            \
		.create = create,                                                                            \
		.destroy = free,                                                                             \
		.start = start,                                                                              \
		.drain = drain,                                                                              \
	}

INTRUDER(intruder, SS_TELLS_PATHS);
INTRUDER(silent, 0);
SS_REGISTER(&intruder, &silent);
