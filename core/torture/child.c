/* SPDX-License-Identifier: MIT */
#include "core/torture/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/torture/allocation.h"
#include "core/torture/guard.h"
#include "core/torture/ledger.h"

enum { TOLD = 98, LOOK_MS = 50, MOST_S = 600 };

/* ---- in the child ---- */

static const char *signal_text(int signal)
{
	switch (signal) {
	case SIGSEGV:
		return "SIGSEGV: memory that is not there was used";
	case SIGBUS:
		return "SIGBUS: memory that cannot be had was used";
	case SIGABRT:
		return "SIGABRT: abort() was called, as after a failed assertion, a damaged heap or an "
		       "uncaught exception";
	case SIGFPE:
		return "SIGFPE: an impossible calculation, such as a division by zero";
	case SIGILL:
		return "SIGILL: an impossible instruction, or a trap of the compiler";
	default:
		return "a signal ended the process";
	}
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	const char *in = syscall(SYS_gettid) == getpid() ? NULL : "a thread of its own",
		   *what = signal_text(signal);
	int rule = RULE_CRASH;

	(void)context;
	if (signal == SIGSEGV || signal == SIGBUS)
		guard_explain(info->si_addr, &rule, &what);
	if (rule == RULE_CRASH && allocation_failed())
		rule = RULE_ALLOCATION_CRASH;
	ledger_add_plain((enum rule)rule, in, what);
	_exit(TOLD);
}

static void watch_signals(void)
{
	static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
	static char stack[1 << 16];
	const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_sigaction = on_crash,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};

	sigaltstack(&alternate, NULL);
	for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
		sigaction(deadly[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN); /* as in the host */
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
}

_Noreturn static void run(void (*trial)(void *arg), void *arg)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0});
	watch_signals();
	process_remember();
	trial(arg);
	atomic_store(&ledger()->finished, true);
	_exit(0);
}

/* ---- in the process that watches ---- */

static bool is_over(uint64_t since, uint64_t limit_ns)
{
	return since && ledger_now() > since && ledger_now() - since > limit_ns;
}

/* Its status, or -1 if it had to be ended. */
static int wait_for(pid_t pid, uint64_t deadline_ns)
{
	const uint64_t begun = ledger_now();
	int status = 0, fd = (int)syscall(SYS_pidfd_open, pid, 0);

	while (waitpid(pid, &status, WNOHANG) == 0) {
		poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, LOOK_MS);
		if (!is_over(atomic_load(&ledger()->since_ns), deadline_ns) &&
		    !is_over(begun, MOST_S * UINT64_C(1000000000)))
			continue;
		kill(-pid, SIGKILL);
		waitpid(pid, &status, 0);
		status = -1;
		break;
	}
	kill(-pid, SIGKILL); /* what the plugin has left behind */
	if (fd >= 0)
		close(fd);
	return status;
}

static void tell(int status, uint64_t deadline_ns)
{
	const bool after_failure = atomic_load(&ledger()->failed_at) != 0;

	if (status == -1)
		ledger_add(after_failure ? RULE_ALLOCATION_CRASH : RULE_HANG, NULL,
			   "it did not return within %g s", (double)deadline_ns / 1e9);
	else if (WIFSIGNALED(status))
		ledger_add(after_failure ? RULE_ALLOCATION_CRASH : RULE_CRASH, NULL,
			   "SIG%s ended the process",
			   sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
	else if (WIFEXITED(status) && WEXITSTATUS(status) != TOLD)
		ledger_add(after_failure ? RULE_ALLOCATION_CRASH : RULE_EXIT, NULL,
			   "the process ended with exit code %d", WEXITSTATUS(status));
}

bool child_run(void (*trial)(void *arg), void *arg, uint64_t deadline_ns)
{
	struct ledger *l = ledger();

	atomic_store(&l->since_ns, 0);
	atomic_store(&l->callback, NULL);
	atomic_store(&l->failed_at, 0);
	atomic_store(&l->finished, false);
	atomic_store(&l->cycle, 0);
	atomic_flag_clear(&l->busy);
	fflush(stdout);
	const pid_t pid = fork();
	if (pid < 0) {
		fprintf(stderr, "semstreams plugins check: cannot start a process: %s\n", strerror(errno));
		exit(1);
	}
	if (pid == 0)
		run(trial, arg);
	setpgid(pid, pid);
	const int status = wait_for(pid, deadline_ns);
	atomic_flag_clear(&l->busy);
	if (!atomic_load(&l->finished))
		tell(status, deadline_ns);
	return atomic_load(&l->finished);
}
