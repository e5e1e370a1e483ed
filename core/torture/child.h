/* SPDX-License-Identifier: MIT */
/*
 * child - runs a trial in a process of its own, so that nothing it does harms the next one: a signal, exit()
 * and a callback that does not return become breaches in the ledger.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* false: it did not come to its end. */
bool child_run(void (*trial)(void *arg), void *arg, uint64_t deadline_ns);
