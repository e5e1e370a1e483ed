/* SPDX-License-Identifier: MIT */
#include "core/torture/lot.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/torture/ledger.h"

static struct guard *all[4]; /* for the handler of signals */

void guard_fatal(const char *what)
{
	ledger_add_plain(RULES, "", what);
	_exit(98);
}

/* ---- memory of batches ---- */

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Rows, then data that ends where the pages end, but for its alignment. */
static bool map(struct lot *l, uint32_t rows, size_t bytes)
{
	const size_t page = page_size(), head = sizeof(struct ss_batch) + 16 + rows * sizeof(struct ss_event);
	const size_t data = (bytes + 15) & ~(size_t)15;

	l->size = (head + data + page - 1) / page * page;
	void *p = mmap(NULL, l->size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	l->pages = p;
	mprotect(l->pages + l->size, page, PROT_NONE);
	l->pub = p;
	*l->pub = (struct ss_batch){.struct_size = sizeof *l->pub, .capacity = rows, .size = bytes};
	if (rows)
		l->pub->events = (void *)(l->pages + ((sizeof *l->pub + 15) & ~(size_t)15));
	if (bytes)
		l->pub->data = (void *)(l->pages + l->size - data);
	return true;
}

struct lot *lot_find(const struct guard *g, const struct ss_batch *b)
{
	struct lot *l = g->lots;

	while (l && l->pub != b)
		l = l->next;
	return l;
}

void token_drop(struct ss_token *t, int32_t status)
{
	if (t->refs <= 0) {
		ledger_add(RULE_BATCH_RELEASED_TWICE, NULL,
			   "token_unref() was called for a token that nobody holds any more");
		return;
	}
	t->worst = status > t->worst ? status : t->worst;
	if (--t->refs == 0 && t->of_source)
		guard_post(t->guard, NULL, NULL, t);
}

/* With the lock held. */
void lot_release(struct lot *l)
{
	while (l && --l->refs == 0) {
		struct lot *parent = l->parent;
		if (l->pub->token)
			token_drop(l->pub->token, SS_DELIVERED);
		attributes_done(l->pub, &l->attributes);
		l->gone = true;
		mprotect(l->pages, l->size, PROT_NONE);
		l = parent;
	}
}

struct lot *lot_new(struct guard *g, struct lot *parent, uint32_t rows, size_t bytes)
{
	struct lot *l = calloc(1, sizeof *l);

	if (!l || !map(l, rows, bytes))
		guard_fatal("out of memory");
	l->refs = 1;
	l->made_in = atomic_load(&ledger()->callback);
	l->next = g->lots;
	if (parent) {
		l->parent = parent;
		parent->refs++;
		attributes_inherit(l->pub, parent->pub);
		l->pub->token = parent->pub->token;
		if (l->pub->token)
			l->pub->token->refs++;
	}
	g->lots = l;
	return l;
}

/* The host's functions for batches get no host: all instances' batches are searched. */
struct lot *lot_find_any(const struct ss_batch *b, struct guard **g)
{
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		struct lot *l = all[i] ? lot_find(all[i], b) : NULL;
		*g = all[i];
		if (l)
			return l;
	}
	return NULL;
}

void lot_protect(struct lot *l)
{
	mprotect(l->pages, l->size, PROT_READ);
}

bool guard_explain(const void *address, int *rule, const char **what)
{
	const char *at = address;

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		for (const struct lot *l = all[i] ? all[i]->lots : NULL; l; l = l->next) {
			if (at < l->pages || at >= l->pages + l->size + page_size())
				continue;
			bool behind = at >= l->pages + l->size;
			*rule = behind ? RULE_CRASH : l->gone ? RULE_BATCH_KEPT : RULE_BATCH_WRITTEN;
			*what = behind    ? "memory behind the end of a batch was used"
				: l->gone ? "memory of a batch was used after its last reference had been "
					    "given back"
				: l->is_input ? "rows or payload of a batch that process() was given were "
						"written to"
					      : "rows or payload of a batch were written to after emit()";
			return true;
		}
	}
	return false;
}
struct ss_token *token_new(struct guard *g)
{
	struct ss_token *t = calloc(1, sizeof *t);

	if (!t)
		guard_fatal("out of memory");
	*t = (struct ss_token){.guard = g, .refs = 1};
	pthread_mutex_lock(&g->lock);
	t->next = g->tokens;
	g->tokens = t;
	pthread_mutex_unlock(&g->lock);
	return t;
}

void lots_begin(struct guard *g)
{
	size_t slot = 0;

	while (slot < sizeof all / sizeof all[0] && all[slot])
		slot++;
	if (slot == sizeof all / sizeof all[0])
		guard_fatal("too many instances at once");
	all[slot] = g;
}

void lots_end(struct guard *g)
{
	for (struct lot *l = g->lots, *next; l; l = next) {
		next = l->next;
		munmap(l->pages, l->size + page_size());
		free(l);
	}
	for (struct ss_token *t = g->tokens, *next; t; t = next) {
		next = t->next;
		free(t);
	}
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (all[i] == g)
			all[i] = NULL;
}
