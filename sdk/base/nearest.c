/* SPDX-License-Identifier: MIT */
#include <semstreams/base/nearest.h>

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX 64 /* bytes; longer words have no neighbours */

static int fold(char c)
{
	return c == '-' ? '_' : tolower((unsigned char)c);
}

/* Edit distance with swaps of neighbours (optimal string alignment); both words at most WORD_MAX bytes. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *last = rows[1], *now = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		last[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		now[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			bool same = fold(a[i - 1]) == fold(b[j - 1]);
			size_t best = last[j - 1] + !same;
			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
			    fold(a[i - 2]) == fold(b[j - 1]) && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
		size_t *oldest = before;
		before = last;
		last = now;
		now = oldest;
	}
	return last[b_len];
}

const char *ss_nearest(const char *word, const char *const *known, size_t n)
{
	size_t len = strlen(word);
	if (len == 0 || len > WORD_MAX)
		return NULL;

	const char *nearest = NULL;
	size_t limit = len / 3 ? len / 3 : 1;
	for (size_t i = 0; i < n; i++) {
		size_t candidate_len = strlen(known[i]);
		if (candidate_len == 0 || candidate_len > WORD_MAX)
			continue;
		size_t d = distance(word, len, known[i], candidate_len);
		bool nothing_in_common = d >= len && d >= candidate_len;
		if (d > limit || nothing_in_common || (nearest && d == limit))
			continue;
		nearest = known[i];
		limit = d;
	}
	return nearest;
}
