/* SPDX-License-Identifier: MIT */
/*
 * semstreams/base/crc32c.h - CRC-32C (Castagnoli; RFC 3720, appendix B.4), by the processor's instruction
 * where there is one at run time, else with a table.  Pure functions: any thread.  Tags and rules are those
 * of semstreams/plugin.h.
 */
#ifndef SEMSTREAMS_BASE_CRC32C_H
#define SEMSTREAMS_BASE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [any] The checksum of what crc is the checksum of (0: nothing) followed by these bytes. */
uint32_t ss_crc32c(uint32_t crc, const void *bytes, size_t len);
/* [any] The same, always with the table; for tests. */
uint32_t ss_crc32c_table(uint32_t crc, const void *bytes, size_t len);

/*
 * [any] Mend bytes that were damaged after their checksum was made: true if they agree with it now.  sum is
 * the checksum of bytes alone, or of something before them that is intact (its checksum is before), as in
 * ss_crc32c(). One wrong bit anywhere is always found, and two are never taken for one; one wrong byte is
 * found up to 4,096 bytes unless it could be two different ones.  Larger damage passes for such a byte with a
 * chance of len / 16,000,000.
 */
bool ss_crc32c_mend(uint32_t before, void *bytes, size_t len, uint32_t sum);

#ifdef __cplusplus
}
#endif
#endif
