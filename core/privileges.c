/* SPDX-License-Identifier: MIT */
#include "core/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "config.h"
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#if defined __SANITIZE_ADDRESS__ || defined SS_DUMPABLE
#define LEAK_CHECKER 1
#else
#define LEAK_CHECKER 0
#endif

#define BIT(n) (UINT64_C(1) << (n))

void privileges_hide_memory(void)
{
	if (!LEAK_CHECKER)
		prctl(PR_SET_DUMPABLE, 0);
}

/* ---- capabilities ---- */

/* Those that somebody may have a reason to name. */
static const struct {
	const char *name;
	int number;
} known[] = {
	{"net_bind_service", CAP_NET_BIND_SERVICE},
	{"net_admin", CAP_NET_ADMIN},
	{"net_raw", CAP_NET_RAW},
	{"sys_ptrace", CAP_SYS_PTRACE},
	{"dac_read_search", CAP_DAC_READ_SEARCH},
	{"dac_override", CAP_DAC_OVERRIDE},
	{"sys_nice", CAP_SYS_NICE},
	{"ipc_lock", CAP_IPC_LOCK},
};

int privileges_capability(const char *name)
{
	if (strncasecmp(name, "cap_", 4) == 0)
		name += 4;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcasecmp(name, known[i].name) == 0)
			return known[i].number;
	return -EINVAL;
}

void privileges_text(uint64_t capabilities, char *text, size_t size)
{
	size_t n = 0;

	snprintf(text, size, "none");
	for (int bit = 0; bit < 64 && n < size; bit++) {
		const char *name = NULL;
		if (!(capabilities & BIT(bit)))
			continue;
		for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
			name = known[i].number == bit ? known[i].name : name;
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

int privileges_drop(uint64_t keep, uint64_t *kept)
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

int privileges_filter_calls(void)
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
