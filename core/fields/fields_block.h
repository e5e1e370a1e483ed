/* SPDX-License-Identifier: MIT */
/*
 * fields_block - finds the bytes of a JSON text that matter, many at once: SSE2, NEON, or eight bytes in a
 * register. A mask has one bit per byte, the lowest for the first.
 */
#pragma once
#include <stdint.h>
#include <string.h>
#if defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON && defined __aarch64__
#include <arm_neon.h>
#endif

/* 8 bytes as a little-endian number, and back. */
static inline uint64_t fields_load64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline void fields_store64(void *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	memcpy(p, &v, sizeof v);
}

/*
 * All look at 16 bytes.  find_marks(): those that do not simply belong to a string (quote, backslash, control
 * characters, not ASCII) and those that end a number (comma, closing brackets, blanks, control characters).
 * find_digits(): digits and points.  find_blanks(): what JSON allows as such.
 */
#if defined __SSE2__

static inline void find_marks(const uint8_t *p, uint32_t *special, uint32_t *end)
{
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	const __m128i quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
	const __m128i backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
	const __m128i other = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20)); /* signed: not ASCII is negative */
	*special = (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), other));
	const __m128i comma = _mm_cmpeq_epi8(v, _mm_set1_epi8(','));
	const __m128i bracket = _mm_cmpeq_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('}'));
	const __m128i blank = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(' ')), v);
	*end = (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(comma, bracket), blank));
}

static inline uint32_t find_digits(const uint8_t *p, uint32_t *points)
{
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	const __m128i low = _mm_add_epi8(v, _mm_set1_epi8((char)(0x80 - '0'))); /* digits become -128..-119 */
	*points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8('.')));
	return (uint32_t)_mm_movemask_epi8(_mm_cmplt_epi8(low, _mm_set1_epi8(-118)));
}

static inline uint32_t find_blanks(const uint8_t *p)
{
	const __m128i v = _mm_loadu_si128((const __m128i *)p);
	const __m128i space = _mm_cmpeq_epi8(v, _mm_set1_epi8(' ')),
		      tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
	const __m128i feed = _mm_cmpeq_epi8(v, _mm_set1_epi8('\n')),
		      ret = _mm_cmpeq_epi8(v, _mm_set1_epi8('\r'));
	return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(space, tab), _mm_or_si128(feed, ret)));
}

#elif defined __ARM_NEON && defined __aarch64__

static inline uint32_t pack_mask(uint8x16_t bytes)
{
	static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
	const uint8x16_t chosen = vandq_u8(bytes, vld1q_u8(bits));
	return (uint32_t)vaddv_u8(vget_low_u8(chosen)) | (uint32_t)vaddv_u8(vget_high_u8(chosen)) << 8;
}

static inline void find_marks(const uint8_t *p, uint32_t *special, uint32_t *end)
{
	const uint8x16_t v = vld1q_u8(p);
	const uint8x16_t marks = vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\')));
	*special = pack_mask(vorrq_u8(marks, vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(0x20))));
	const uint8x16_t bracket = vceqq_u8(vorrq_u8(v, vdupq_n_u8(0x20)), vdupq_n_u8('}'));
	const uint8x16_t other = vorrq_u8(vceqq_u8(v, vdupq_n_u8(',')), vcleq_u8(v, vdupq_n_u8(' ')));
	*end = pack_mask(vorrq_u8(bracket, other));
}

static inline uint32_t find_digits(const uint8_t *p, uint32_t *points)
{
	const uint8x16_t v = vld1q_u8(p);
	*points = pack_mask(vceqq_u8(v, vdupq_n_u8('.')));
	return pack_mask(vcleq_u8(vsubq_u8(v, vdupq_n_u8('0')), vdupq_n_u8(9)));
}

static inline uint32_t find_blanks(const uint8_t *p)
{
	const uint8x16_t v = vld1q_u8(p);
	const uint8x16_t space = vceqq_u8(v, vdupq_n_u8(' ')), tab = vceqq_u8(v, vdupq_n_u8('\t'));
	const uint8x16_t feed = vceqq_u8(v, vdupq_n_u8('\n')), ret = vceqq_u8(v, vdupq_n_u8('\r'));
	return pack_mask(vorrq_u8(vorrq_u8(space, tab), vorrq_u8(feed, ret)));
}

#else

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The highest bit of each byte, side by side. */
static inline uint32_t pack_mask(uint64_t high)
{
	return (uint32_t)((high >> 7 & EACH(1)) * UINT64_C(0x0102040810204080) >> 56);
}

/* The highest bit of each byte that is below limit (at most 0x80). */
static inline uint64_t below(uint64_t v, uint64_t limit)
{
	return ~((v & EACH(0x7f)) + EACH(0x80 - limit)) & ~v;
}

static inline void find_marks(const uint8_t *p, uint32_t *special, uint32_t *end)
{
	*special = *end = 0;
	for (unsigned i = 0; i < 16; i += 8) {
		const uint64_t v = fields_load64(p + i);
		const uint64_t marks =
			below(v ^ EACH('"'), 1) | below(v ^ EACH('\\'), 1) | below(v, 0x20) | v;
		const uint64_t ends =
			below(v ^ EACH(','), 1) | below((v | EACH(0x20)) ^ EACH('}'), 1) | below(v, ' ' + 1);
		*special |= pack_mask(marks) << i;
		*end |= pack_mask(ends) << i;
	}
}

static inline uint32_t find_digits(const uint8_t *p, uint32_t *points)
{
	uint32_t digits = 0;
	*points = 0;
	for (unsigned i = 0; i < 16; i += 8) {
		const uint64_t v = fields_load64(p + i);
		digits |= pack_mask(below(v, '9' + 1) & ~below(v, '0')) << i;
		*points |= pack_mask(below(v ^ EACH('.'), 1)) << i;
	}
	return digits;
}

static inline uint32_t find_blanks(const uint8_t *p)
{
	uint32_t blanks = 0;
	for (unsigned i = 0; i < 16; i += 8) {
		const uint64_t v = fields_load64(p + i);
		const uint64_t found = below(v ^ EACH(' '), 1) | below(v ^ EACH('\t'), 1) |
				       below(v ^ EACH('\n'), 1) | below(v ^ EACH('\r'), 1);
		blanks |= pack_mask(found) << i;
	}
	return blanks;
}

#endif

/* find_marks() for 64 bytes. */
static inline void find_marks64(const uint8_t *p, uint64_t *special, uint64_t *end)
{
	*special = *end = 0;
	for (unsigned i = 0; i < 64; i += 16) {
		uint32_t some_special, some_end;
		find_marks(p + i, &some_special, &some_end);
		*special |= (uint64_t)some_special << i;
		*end |= (uint64_t)some_end << i;
	}
}
