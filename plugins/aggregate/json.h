/* SPDX-License-Identifier: MIT */
/* json - what results and checkpoints need besides the base library's string buffer. */
#pragma once
#include <stdint.h>
#include <semstreams/base/strbuf.h>

/* The shortest digits that read back as the same double; null if it is not finite. */
void print_double(struct ss_strbuf *, double);
/* "name": with its quotes and colon, malloced; NULL if out of memory. */
char *print_label(const char *name);

/* A number in a record, over a place reserved for it: 8 bytes, little-endian, as ss_strbuf_u64() has it. */
static inline void put_u64(char *to, uint64_t u)
{
	for (int i = 0; i < 8; i++)
		to[i] = (char)(u >> 8 * i);
}
