/* SPDX-License-Identifier: MIT */
/*
 * hidden - values of the configuration that nobody may read: what came out of a file by {"file": ...}, and
 * secrets.  Diagnostics, log, health and peers pass their texts through here, so that it does not matter who
 * wrote them.  Any thread; one lock, which is not taken while there is nothing to hide.
 *
 * A value of a URL is its path, too.  Values of fewer than HIDDEN_MIN bytes are not hidden, as they are parts
 * of everything; nor are numeric addresses, which are no secrets and stand in every line about a peer.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define HIDDEN_MIN 6

/* Hide value from now on and show `shown` for it, such as "<content of FILE>"; both are copied.  0, -ENOMEM.
 */
int hidden_add(const char *value, const char *shown);
/* Is there anything to hide? */
bool hidden_any(void);
/* Copy text into buf without what is hidden, cut to size; returns buf. */
const char *hidden_text(const char *text, char *buf, size_t size);
/* Forget and wipe all; when the configuration is freed. */
void hidden_clear(void);
