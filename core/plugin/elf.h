/* SPDX-License-Identifier: MIT */
/*
 * elf - is this file a whole shared object?  Nothing of it is run or mapped, so that a truncated file never
 * reaches the dynamic loader, where it would be a SIGBUS.  A damaged one inside may still crash there: the
 * folders plugins are loaded from are trusted.  Reads with pread(2) only: a file that shrinks meanwhile is an
 * error.
 */
#pragma once
#include <stdbool.h>

#define ELF_WHY 160

/*
 * Is fd a whole shared object for this machine that names the entry symbol of this major ABI?  0, or -ENOEXEC
 * with why: the end of a sentence that starts with the file's name.  Whether the symbol is exported, and is
 * data, is known after dlopen only.
 */
int elf_check(int fd, char why[ELF_WHY]);

/* Does the text, of at most 60 bytes, occur in the file? */
bool elf_mentions(int fd, const char *text);
