/* SPDX-License-Identifier: MIT */
/* privileges - what the process could do beyond other processes, and which system calls it can make at all.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No core dump and no debugger of the same user gets at keys in memory.  Leak checkers work by such means, so
 * builds with them stay as they are. */
void privileges_hide_memory(void);
/* Number of the capability "net_admin", "cap_net_admin" and so on; -EINVAL. */
int privileges_capability(const char *name);
/* No set-user-id program, and of the capabilities those in the set 1 << number at most, for children as well;
 * what is left goes to *kept.  Of this thread and those it starts.  0 or -errno. */
int privileges_drop(uint64_t keep, uint64_t *kept);
/* "net_bind_service,net_admin", or "none". */
void privileges_text(uint64_t capabilities, char *text, size_t size);
/* System calls that no pipeline needs, such as ptrace, mount and bpf, fail with EPERM from now on, in threads
 * and programs that are started later as well.  How many; -EOPNOTSUPP: built without libseccomp. */
int privileges_filter_calls(void);
