/* SPDX-License-Identifier: MIT */
/* posts - calls that any thread hands over to one other, which runs them in the order they came. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct posts {
	pthread_mutex_t lock;
	struct post *first, **last;
	_Atomic bool any;
};

void posts_init(struct posts *);
/* What is left is not run. */
void posts_done(struct posts *);
/* [any] 0 or -ENOMEM. */
int posts_add(struct posts *, void (*fn)(void *arg), void *arg);
/* [owner] One that is added just now may be missed. */
static inline bool posts_any(const struct posts *p)
{
	return atomic_load_explicit(&p->any, memory_order_relaxed);
}
/* [owner] Run those that have come so far; true if there were any. */
bool posts_run(struct posts *);
