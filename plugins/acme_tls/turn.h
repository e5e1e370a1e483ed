/* SPDX-License-Identifier: MIT */
/*
 * turn - who may answer challenges on a port: one identity at a time, over all processes of the machine. Only
 * politeness: whoever waited long goes on, and is told by the system whose port it is.
 */
#pragma once
#include <stdint.h>

/* A descriptor to be closed when done; -EAGAIN: another has the turn; another -errno: not to be had here, go
 * on without. */
int turn_take(const char *address, uint16_t port);
