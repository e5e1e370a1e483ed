/* SPDX-License-Identifier: MIT */
#include "senders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIRST_ROOM = 64, LOOKED_AT = 64 };

/* ---- tables ---- */

/* FNV-1a from a start that nobody outside knows, so that names cannot be chosen to collide. */
static uint64_t hash(uint64_t start, const char *text)
{
	uint64_t h = start ^ UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h ^ h >> 32;
}

static struct sender_name **name_bucket(const struct senders *ss, const char *name)
{
	return &ss->names[hash(ss->seed, name) & (ss->n_buckets - 1)];
}

static struct sender **bucket(const struct senders *ss, const char *name, const char *stream)
{
	return &ss->buckets[hash(hash(ss->seed, name), stream) & (ss->n_buckets - 1)];
}

int senders_init(struct senders *ss, uint64_t now_ns)
{
	ss->n_buckets = FIRST_ROOM;
	while (ss->n_buckets < ss->max)
		ss->n_buckets *= 2;
	ss->buckets = calloc(ss->n_buckets, sizeof *ss->buckets);
	ss->names = calloc(ss->n_buckets, sizeof *ss->names);
	if (getrandom(&ss->seed, sizeof ss->seed, 0) != sizeof ss->seed)
		ss->seed = (uint64_t)(uintptr_t)ss->buckets ^ now_ns;
	TAILQ_INIT(&ss->away);
	TAILQ_INIT(&ss->met);
	for (int i = 0; i < SENDERS_SLOTS; i++)
		TAILQ_INIT(&ss->wheel[i]);
	ss->wheel_at = now_ns / SENDERS_SLOT_NS;
	return ss->buckets && ss->names ? 0 : -ENOMEM;
}

void senders_done(struct senders *ss)
{
	for (uint32_t i = 0; i < ss->n_slots; i++)
		if (ss->slots[i])
			senders_remove(ss, ss->slots[i]);
	free(ss->slots);
	free(ss->free);
	free(ss->buckets);
	free(ss->names);
	*ss = (struct senders){0};
}

struct sender *senders_find(const struct senders *ss, const char *name, const char *stream)
{
	struct sender *s = *bucket(ss, name, stream);

	while (s && (strcmp(s->stream, stream) != 0 || strcmp(s->name->text, name) != 0))
		s = s->next;
	return s;
}

/* A number that is not used: *number. */
static int take_number(struct senders *ss, uint32_t *number)
{
	if (ss->n_free == 0) {
		const uint32_t more = ss->n_slots ? 2 * ss->n_slots : FIRST_ROOM;
		struct sender **slots = realloc(ss->slots, more * sizeof(struct sender *));
		if (slots)
			ss->slots = slots;
		uint32_t *numbers = slots ? realloc(ss->free, more * sizeof *numbers) : NULL;
		if (!numbers)
			return -ENOMEM;
		ss->free = numbers;
		for (uint32_t i = more; i-- > ss->n_slots;) {
			ss->slots[i] = NULL;
			ss->free[ss->n_free++] = i;
		}
		ss->n_slots = more;
	}
	*number = ss->free[--ss->n_free];
	return 0;
}

static struct sender_name *find_name(const struct senders *ss, const char *name)
{
	struct sender_name *n = *name_bucket(ss, name);

	while (n && strcmp(n->text, name) != 0)
		n = n->next;
	return n;
}

static struct sender_name *name_of(struct senders *ss, const char *name)
{
	struct sender_name **at = name_bucket(ss, name), *n = find_name(ss, name);
	const size_t size = strlen(name) + 1;

	if (n || !(n = malloc(sizeof *n + size)))
		return n;
	*n = (struct sender_name){.next = *at};
	TAILQ_INIT(&n->senders);
	memcpy(n->text, name, size);
	*at = n;
	return n;
}

static void drop_name(struct senders *ss, struct sender_name *name)
{
	struct sender_name **at = name_bucket(ss, name->text);

	if (name->streams)
		return;
	while (*at != name)
		at = &(*at)->next;
	*at = name->next;
	free(name);
}

struct sender *senders_add(struct senders *ss, const char *name, const char *stream)
{
	const size_t size = strlen(stream) + 1;
	const bool too_long = size > SENDERS_STREAM_MAX || strlen(name) >= SENDERS_NAME_MAX;
	const uint32_t most = name[0] ? ss->max_streams : ss->max_unnamed;
	struct sender_name *n = ss->n < ss->max && !too_long ? name_of(ss, name) : NULL;
	struct sender *s = NULL;
	uint32_t number = 0;
	int error = ENOMEM;

	if (too_long)
		error = EINVAL;
	else if (ss->n >= ss->max)
		error = ENOSPC;
	else if (n && n->streams >= most)
		error = EMFILE;
	else if (n && take_number(ss, &number) == 0 && !(s = calloc(1, sizeof *s + size)))
		ss->free[ss->n_free++] = number;
	if (!s) {
		if (n)
			drop_name(ss, n);
		errno = error;
		return NULL;
	}
	s->name = n;
	n->streams++;
	TAILQ_INSERT_TAIL(&n->senders, s, name_at);
	s->number = number;
	s->flights.value_size = sizeof(struct flight);
	memcpy(s->stream, stream, size);
	struct sender **at = bucket(ss, name, stream);
	s->next = *at;
	*at = s;
	ss->slots[number] = s;
	ss->n++;
	return s;
}

static void unschedule(struct sender *s)
{
	if (s->due_in)
		TAILQ_REMOVE(s->due_in, s, due_at);
	s->due_in = NULL;
}

void senders_remove(struct senders *ss, struct sender *s)
{
	struct sender **at = bucket(ss, s->name->text, s->stream);

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	senders_return(ss, s);
	unschedule(s);
	ss->slots[s->number] = NULL;
	ss->free[ss->n_free++] = s->number;
	ss->n--;
	s->name->streams--;
	TAILQ_REMOVE(&s->name->senders, s, name_at);
	drop_name(ss, s->name);
	link_receiver_done(&s->link);
	ss_ring_done(&s->flights);
	free(s->last_error);
	free(s);
}

/* ---- who is away ---- */

void senders_leave(struct senders *ss, struct sender *s, uint64_t now_ns)
{
	s->left_ns = now_ns;
	if (!s->away)
		TAILQ_INSERT_TAIL(&ss->away, s, away_at);
	s->away = true;
}

void senders_return(struct senders *ss, struct sender *s)
{
	if (s->away)
		TAILQ_REMOVE(&ss->away, s, away_at);
	s->away = false;
}

struct sender *senders_oldest(const struct senders *ss)
{
	struct sender *s = TAILQ_FIRST(&ss->away);

	for (int i = 0; s && s->pending && i < LOOKED_AT; i++)
		s = TAILQ_NEXT(s, away_at);
	return s && !s->pending ? s : NULL;
}

struct sender *senders_oldest_of(const struct senders *ss, const char *name)
{
	const struct sender_name *n = find_name(ss, name);
	struct sender *oldest = NULL;

	for (struct sender *s = n ? TAILQ_FIRST(&n->senders) : NULL; s; s = TAILQ_NEXT(s, name_at))
		if (s->away && !s->pending && (!oldest || s->left_ns < oldest->left_ns))
			oldest = s;
	return oldest;
}

/* ---- what is due ---- */

/* Slots hold what is due in one of their turns: a sender that is met too early is put back. */
void senders_schedule(struct senders *ss, struct sender *s, uint64_t due_ns)
{
	const uint64_t first = ss->wheel_at * SENDERS_SLOT_NS;

	if (due_ns < first)
		due_ns = first;
	if (due_ns == UINT64_MAX || (s->due_in && s->due_ns <= due_ns))
		return;
	unschedule(s);
	s->due_ns = due_ns;
	s->due_in = &ss->wheel[due_ns / SENDERS_SLOT_NS % SENDERS_SLOTS];
	TAILQ_INSERT_TAIL(s->due_in, s, due_at);
}

/* Those of one slot that are due by now: each is looked at once. */
static void run_slot(struct senders *ss, struct sender_list *slot, uint64_t now_ns,
		     void (*fn)(struct sender *))
{
	struct sender *s;

	TAILQ_CONCAT(&ss->met, slot, due_at);
	for (s = TAILQ_FIRST(&ss->met); s; s = TAILQ_NEXT(s, due_at))
		s->due_in = &ss->met;
	while ((s = TAILQ_FIRST(&ss->met))) {
		unschedule(s);
		if (s->due_ns > now_ns)
			senders_schedule(ss, s, s->due_ns);
		else
			fn(s);
	}
}

void senders_run(struct senders *ss, uint64_t now_ns, void (*fn)(struct sender *))
{
	const uint64_t until = now_ns / SENDERS_SLOT_NS;
	uint64_t turns = until > ss->wheel_at ? until - ss->wheel_at : 0;

	if (until < ss->wheel_at)
		return;
	if (turns >= SENDERS_SLOTS)
		turns = SENDERS_SLOTS - 1;
	ss->wheel_at = until + 1; /* what is late again waits for the next slot */
	for (uint64_t at = until - turns; at <= until; at++)
		run_slot(ss, &ss->wheel[at % SENDERS_SLOTS], now_ns, fn);
}
