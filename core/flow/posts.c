/* SPDX-License-Identifier: MIT */
/* posts - see posts.h. */
#include "core/flow/posts.h"

#include <errno.h>
#include <stdlib.h>

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

void posts_init(struct posts *p)
{
	*p = (struct posts){.last = &p->first};
	pthread_mutex_init(&p->lock, NULL);
}

static struct post *take_all(struct posts *p)
{
	pthread_mutex_lock(&p->lock);
	struct post *first = p->first;
	p->first = NULL;
	p->last = &p->first;
	atomic_store_explicit(&p->any, false, memory_order_relaxed);
	pthread_mutex_unlock(&p->lock);
	return first;
}

void posts_done(struct posts *p)
{
	struct post *post = take_all(p);

	while (post) {
		struct post *next = post->next;
		free(post);
		post = next;
	}
	pthread_mutex_destroy(&p->lock);
}

int posts_add(struct posts *p, void (*fn)(void *arg), void *arg)
{
	struct post *post = malloc(sizeof *post);

	if (!post)
		return -ENOMEM;
	*post = (struct post){.fn = fn, .arg = arg};
	pthread_mutex_lock(&p->lock);
	*p->last = post;
	p->last = &post->next;
	atomic_store_explicit(&p->any, true, memory_order_relaxed);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

bool posts_run(struct posts *p)
{
	if (!posts_any(p))
		return false;

	struct post *post = take_all(p);
	while (post) {
		struct post *next = post->next;
		post->fn(post->arg);
		free(post);
		post = next;
	}
	return true;
}
