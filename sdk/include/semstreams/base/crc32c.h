/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/crc32c.h - CRC-32C (Castagnoli; RFC 3720, appendix B.4), by the processor's instruction
 * where there is one at run time, else with a table.  Pure functions: any thread.
 */
#ifndef SEMSTREAMS_BASE_CRC32C_H
#define SEMSTREAMS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [any] The checksum of what crc is the checksum of (0: nothing) followed by these bytes. */
uint32_t ss_crc32c(uint32_t crc, const void *bytes, size_t len);
/* [any] The same, always with the table; for tests. */
uint32_t ss_crc32c_table(uint32_t crc, const void *bytes, size_t len);

#ifdef __cplusplus
}
#endif
#endif
