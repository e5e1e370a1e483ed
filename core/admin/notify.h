/* SPDX-License-Identifier: MIT */
/* notify - the service manager's readiness protocol (sd_notify(3)), without libsystemd.  Does nothing without
 * NOTIFY_SOCKET. */
#pragma once
#include <stdint.h>

/* state as in sd_notify(3): "READY=1\nSTATUS=...".  0 or -errno; -EAGAIN: the manager has not read what it
 * was sent before. */
int notify_send(const char *state);
/* Interval at which WATCHDOG=1 is wanted (half of WATCHDOG_USEC), ns; 0 = none. */
uint64_t notify_watchdog_ns(void);
