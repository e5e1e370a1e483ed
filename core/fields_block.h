/* SPDX-License-Identifier: MIT */
/*
 * fields_block - looks at BLOCK bytes of a JSON text at once, for the field reader: SSE2, NEON, or eight
 * bytes in a register.
 */
#pragma once
#include <stdint.h>
#include "core/fields_scan.h" /* fields_load64 */
#if defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON && defined __aarch64__
#include <arm_neon.h>
#endif

/*
 * special() and nondigit() look at BLOCK bytes at once and return a mask with one bit per byte, for the first
 * byte the lowest; first() makes a mask the index of the first byte, BLOCK if there is none.
 */
#if defined __SSE2__

#define BLOCK 16
typedef uint32_t block_mask;

static inline unsigned first(block_mask mask)
{
	return (unsigned)__builtin_ctz(mask | 1u << BLOCK);
}

/* Bytes that do not simply belong to a string: quote, backslash, control characters, not ASCII. */
static inline block_mask special(const uint8_t *p)
{
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	const __m128i quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
	const __m128i backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
	const __m128i other = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)); /* signed: not ASCII is negative */
	return (block_mask)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), other));
}

static inline block_mask nondigit(const uint8_t *p)
{
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	const __m128i low = _mm_add_epi8(v, _mm_set1_epi8((char)(0x80 - '0'))); /* digits become -128..-119 */
	return (block_mask)_mm_movemask_epi8(_mm_cmpgt_epi8(low, _mm_set1_epi8(-119)));
}

#elif defined __ARM_NEON && defined __aarch64__

#define BLOCK 16
typedef uint64_t block_mask; /* one bit in four */

static inline unsigned first(block_mask mask)
{
	return mask ? (unsigned)__builtin_ctzll(mask) >> 2 : BLOCK;
}

static inline block_mask pack(uint8x16_t bytes)
{
	const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(bytes), 4);
	return vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & UINT64_C(0x1111111111111111);
}

static inline block_mask special(const uint8_t *p)
{
	const uint8x16_t v = vld1q_u8(p);
	const uint8x16_t other = vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(0x20));
	const uint8x16_t marks = vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\')));
	return pack(vorrq_u8(marks, other));
}

static inline block_mask nondigit(const uint8_t *p)
{
	return pack(vcgtq_u8(vsubq_u8(vld1q_u8(p), vdupq_n_u8('0')), vdupq_n_u8(9)));
}

#else

#define BLOCK      8
typedef uint64_t block_mask; /* the highest bit of each byte */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline unsigned first(block_mask mask)
{
	return mask ? (unsigned)__builtin_ctzll(mask) >> 3 : BLOCK;
}

/* Exact up to the first byte found; bytes behind it may be marked wrongly. */
static inline block_mask special(const uint8_t *p)
{
	const uint64_t v = fields_load64(p), quote = v ^ EACH('"'), backslash = v ^ EACH('\\');
	const uint64_t found = ((quote - EACH(1)) & ~quote) | ((backslash - EACH(1)) & ~backslash) |
			       ((v - EACH(0x20)) & ~v) | v;
	return found & EACH(0x80);
}

static inline block_mask nondigit(const uint8_t *p)
{
	const uint64_t v = fields_load64(p), low = v & EACH(0x7f);
	return (~(low + EACH(0x80 - '0')) | (low + EACH(0x7f - '9')) | v) & EACH(0x80);
}

#endif
