/* SPDX-License-Identifier: MIT */
/* secret_file - files that hold a secret: whether others than their owner can read them.  Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Is the file there, and open to group or others?  Then text is what is to be said of it, with the remedy. */
bool secret_file_exposed(const char *path, char *text, size_t size);
