/* SPDX-License-Identifier: MIT */
/*
 * elf - looks at a shared object without running or mapping any of it, so that a damaged file never reaches
 * the dynamic loader.  Reads with pread(2) only: a file that shrinks meanwhile is an error, not a SIGBUS.
 */
#pragma once
#include <stdbool.h>

#define ELF_WHY 160

/*
 * Is fd a whole shared object for this machine, with the plugin entry symbol of this major ABI?  0, -ENOEXEC,
 * or the errno of a failed read; then why says what is wrong, as the end of a sentence that starts with the
 * file's name. *origin: its library search path holds $ORIGIN.
 */
int elf_check(int fd, bool *origin, char why[ELF_WHY]);
