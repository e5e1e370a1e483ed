/* SPDX-License-Identifier: MIT */
#include "core/flow/accounts.h"

#include <stddef.h>
#include <string.h>

void accounts_publish(struct accounts_board *board, const struct accounts *a, uint32_t own)
{
	const uint64_t *words = (const uint64_t *)a;
	size_t n = offsetof(struct accounts, dropped) / sizeof(uint64_t) + DROP_OWN + own;
	uint32_t version = atomic_load_explicit(&board->version, memory_order_relaxed);

	atomic_store_explicit(&board->version, version + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < n; i++)
		atomic_store_explicit(&board->words[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&board->version, version + 2, memory_order_release);
}

void accounts_read(const struct accounts_board *board, struct accounts *a)
{
	uint64_t words[ACCOUNTS_WORDS];
	uint32_t before, after;

	do {
		before = atomic_load_explicit(&board->version, memory_order_acquire);
		for (size_t i = 0; i < ACCOUNTS_WORDS; i++)
			words[i] = atomic_load_explicit(&board->words[i], memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
		after = atomic_load_explicit(&board->version, memory_order_relaxed);
	} while (before != after || before & 1);
	memcpy(a, words, sizeof words);
}
