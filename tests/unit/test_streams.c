/* SPDX-License-Identifier: MIT */
/* What a checkpointer has of its streams: offered, accepted, failed, covered, saved and loaded. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "core/flow/streams.h"

enum { MAX = 16 };

static const uint8_t only[STREAM_ID];

struct rows {
	struct ss_batch batch;
	struct ss_event events[MAX];
};

/* A batch with these sequences, ended by -1. */
static const struct ss_batch *batch(struct rows *r, const int *seqs)
{
	memset(r, 0, sizeof *r);
	r->batch.events = r->events;
	for (; *seqs >= 0; seqs++)
		r->events[r->batch.count++].seq = (uint64_t)*seqs;
	return &r->batch;
}

static struct ss_position epoch(uint8_t e)
{
	return (struct ss_position){.epoch = {e}, .seq = 1000};
}

static int64_t offer(struct stream *st, uint8_t e, const int *seqs)
{
	struct rows r;
	const struct ss_position at = epoch(e);

	return stream_offer(st, &at, batch(&r, seqs));
}

/* What of a batch is new; accepted. */
static int64_t take(struct stream *st, uint8_t e, const int *seqs)
{
	struct rows r;
	const struct ss_position at = epoch(e);
	const struct ss_batch *b = batch(&r, seqs);
	int64_t fresh = stream_offer(st, &at, b);
	const struct ss_position end = stream_end(&at, b);

	if (fresh >= 0)
		stream_accept(st, &end);
	return fresh;
}

static void lose(struct stream *st, uint8_t e, const int *seqs)
{
	struct rows r;
	const struct ss_position at = epoch(e);

	stream_fail(st, &at, batch(&r, seqs));
}

#define SEQS(...) ((const int[]){__VA_ARGS__, -1})

static void duplicates(void **state)
{
	(void)state;
	struct streams *s = streams_new(false);
	struct stream *st = streams_get(s, 0, "in", only);

	assert_int_equal(take(st, 1, SEQS(1, 2, 3)), 3);
	assert_int_equal(st->taken.seq, 3); /* not 1000, of which a part may be in another batch */
	assert_int_equal(take(st, 1, SEQS(1, 2, 3)), 0);
	assert_int_equal(take(st, 1, SEQS(2, 3, 4, 5)), 2);
	/* without a sequence an event is never a duplicate, at either end and in between */
	assert_int_equal(take(st, 1, SEQS(0, 4, 0, 5, 0)), 3);
	assert_int_equal(take(st, 1, SEQS(0, 0)), 2);
	assert_int_equal(st->taken.seq, 5);
	/* offered, but not accepted: offered again it is the same */
	assert_int_equal(offer(st, 1, SEQS(5, 6, 7)), 2);
	assert_int_equal(offer(st, 1, SEQS(6, 7)), 2);
	assert_int_equal(take(st, 1, SEQS(6, 7)), 2);
	/* gaps are no matter: a filter may have taken events out */
	assert_int_equal(take(st, 1, SEQS(20, 30)), 2);
	assert_int_equal(take(st, 1, SEQS(25, 30, 31)), 1);
	/* another epoch begins anew, and so does the first one after it */
	assert_int_equal(take(st, 2, SEQS(1, 2)), 2);
	assert_int_equal(take(st, 1, SEQS(1)), 1);
	streams_free(s);
}

static void streams_are_apart(void **state)
{
	(void)state;
	struct streams *s = streams_new(false);

	assert_null(streams_find(s, 0, "a", only));
	assert_int_equal(take(streams_get(s, 0, "a", only), 1, SEQS(1, 2)), 2);
	assert_int_equal(take(streams_get(s, 1, "a", only), 1, SEQS(1, 2)), 2);
	assert_int_equal(take(streams_get(s, 0, "b", only), 1, SEQS(1, 2)), 2);
	assert_int_equal(take(streams_get(s, 0, "a", only), 1, SEQS(1, 2, 3)), 1);
	/* the streams of one source, and going from one to the other */
	uint8_t id[STREAM_ID] = {0};
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < STREAM_ID; i++) {
			id[i] = 1;
			assert_int_equal(take(streams_get(s, 0, "a", id), 1, SEQS(1 + round)), 1);
			assert_int_equal(take(streams_get(s, 0, "a", id), 1, SEQS(1 + round)), 0);
			id[i] = 0;
		}
	}
	assert_int_equal(streams_find(s, 0, "a", only)->taken.seq, 3);
	char longest[STREAM_SOURCE_MAX + 1];
	memset(longest, 'x', sizeof longest);
	longest[STREAM_SOURCE_MAX] = '\0';
	assert_null(streams_get(s, 0, longest, only));
	longest[STREAM_SOURCE_MAX - 1] = '\0';
	assert_non_null(streams_get(s, 0, longest, only));
	streams_free(s);
	streams_free(NULL);
}

static void failures(void **state)
{
	(void)state;
	struct streams *s = streams_new(false);
	struct stream *st = streams_get(s, 0, "in", only);

	/* refused at once: what follows fails until the source goes back */
	take(st, 1, SEQS(1, 2));
	assert_int_equal(offer(st, 1, SEQS(3, 4)), 2);
	lose(st, 1, SEQS(3, 4));
	assert_int_equal(offer(st, 1, SEQS(5, 6)), -ESTALE);
	lose(st, 1, SEQS(5, 6));
	assert_int_equal(take(st, 1, SEQS(3, 4)), 2);
	assert_int_equal(take(st, 1, SEQS(5, 6)), 2);

	/* kept, and failed with the one behind it, in either order */
	take(st, 1, SEQS(7, 8));
	take(st, 1, SEQS(9));
	lose(st, 1, SEQS(7, 8));
	lose(st, 1, SEQS(9));
	assert_int_equal(st->taken.seq, 6);
	assert_int_equal(offer(st, 1, SEQS(10)), -ESTALE);
	assert_int_equal(take(st, 1, SEQS(6, 7, 8, 9)), 3);
	assert_int_equal(take(st, 1, SEQS(10)), 1);

	/* a filter may let through other events the second time: going back is enough */
	offer(st, 1, SEQS(11, 15));
	lose(st, 1, SEQS(11, 15));
	assert_int_equal(take(st, 1, SEQS(12, 16)), 2);

	/* a failure of an epoch that is over, or of events at no place, is none of this stream */
	lose(st, 9, SEQS(1));
	lose(st, 1, SEQS(0, 0));
	assert_int_equal(take(st, 1, SEQS(17)), 1);
	/* a new epoch needs nobody to go back */
	lose(st, 1, SEQS(17));
	assert_int_equal(take(st, 2, SEQS(30)), 1);
	streams_free(s);
}

static void snapshots(void **state)
{
	(void)state;
	struct streams *s = streams_new(false), *t = streams_new(false);
	uint8_t bytes[256], less[256];

	int64_t none = streams_save(s, bytes, sizeof bytes);
	assert_int_equal(streams_load(t, bytes, (size_t)none, false), 0);
	streams_get(s, 3, "new", only); /* of which nothing was accepted */
	take(streams_get(s, 0, "a", only), 1, SEQS(1, 2));
	take(streams_get(s, 1, "bcd", only), 2, SEQS(7));
	const uint8_t id[STREAM_ID] = {[15] = 1};
	take(streams_get(s, 1, "bcd", id), 3, SEQS(9));
	int64_t size = streams_save(s, NULL, 0);
	memset(bytes, 0xee, sizeof bytes);
	assert_int_equal(streams_save(s, bytes, (size_t)size - 1), size);
	assert_int_equal(bytes[0], 0xee);
	assert_int_equal(streams_save(s, bytes, sizeof bytes), size);
	assert_int_equal(bytes[size], 0xee);

	assert_int_equal(streams_load(t, bytes, (size_t)size, false), 0);
	assert_null(streams_find(t, 3, "new", only));
	assert_int_equal(take(streams_get(t, 0, "a", only), 1, SEQS(2, 3)), 1);
	assert_int_equal(take(streams_get(t, 1, "bcd", only), 2, SEQS(7)), 0);
	assert_int_equal(take(streams_get(t, 1, "bcd", id), 3, SEQS(9)), 0);

	/* cut short, or longer, or with any byte of the counts spoilt: refused, and nothing was changed */
	for (int64_t n = 0; n < size; n++)
		assert_int_equal(streams_load(t, bytes, (size_t)n, false), -EINVAL);
	assert_int_equal(streams_load(t, bytes, (size_t)size + 1, false), -EINVAL);
	for (int i = 0; i < 8; i++) {
		memcpy(less, bytes, sizeof less);
		less[i] ^= 0x40;
		assert_int_equal(streams_load(t, less, (size_t)size, false), -EINVAL);
	}
	assert_int_equal(streams_find(t, 0, "a", only)->taken.seq, 3);
	streams_free(s);
	streams_free(t);
}

/* Of the first form, which had one stream per source. */
static void first_form(void **state)
{
	(void)state;
	uint8_t bytes[42] = "SSP1\1\0\0\0\3\0\0\0\2\0\0\0in\11";
	uint8_t now[128];
	struct streams *s = streams_new(false);

	bytes[34] = 42;
	assert_int_equal(streams_load(s, bytes, sizeof bytes, false), 0);
	struct stream *st = streams_find(s, 3, "in", only);
	assert_non_null(st);
	assert_int_equal(st->taken.epoch[0], 9);
	assert_int_equal(st->taken.seq, 42);
	for (size_t n = 0; n < sizeof bytes; n++)
		assert_int_equal(streams_load(s, bytes, n, false), -EINVAL);
	assert_int_equal(streams_save(s, now, sizeof now), sizeof bytes + STREAM_ID + 4);
	assert_memory_equal(now, "SSP2", 4);
	streams_free(s);
}

static void covered(void **state)
{
	(void)state;
	struct streams *s = streams_new(true), *t = streams_new(true);
	struct stream *a = streams_get(s, 0, "a", only);
	const struct ss_position at = epoch(1);
	uint8_t first[128], second[128];
	struct rows r;

	take(a, 1, SEQS(1, 2));
	take(a, 1, SEQS(3));
	stream_cover(a, &at, batch(&r, SEQS(1, 2)));
	int64_t size = streams_save(s, first, sizeof first);
	stream_cover(a, &at, batch(&r, SEQS(3)));
	assert_int_equal(streams_save(s, second, sizeof second), size);
	assert_memory_not_equal(first, second, (size_t)size);
	/* going back moves what is covered, not what is there */
	assert_int_equal(streams_load(s, first, (size_t)size, true), 0);
	assert_int_equal(streams_save(s, second, sizeof second), size);
	assert_memory_equal(first, second, (size_t)size);
	assert_int_equal(a->taken.seq, 3);
	streams_uncover(s);
	assert_int_equal(streams_save(s, second, sizeof second), streams_save(t, NULL, 0));
	streams_free(s);
	streams_free(t);
}

static void thousands(void **state)
{
	(void)state;
	enum { N = 10000 };
	struct streams *s = streams_new(false);
	char id[STREAM_SOURCE_MAX];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			snprintf(id, sizeof id, "edge-%d", i);
			assert_int_equal(take(streams_get(s, 0, id, only), 1, SEQS(1 + round, 2 + round)),
					 2 - round);
		}
	}
	assert_int_equal(streams_count(s), N);
	streams_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(duplicates), cmocka_unit_test(streams_are_apart), cmocka_unit_test(failures),
		cmocka_unit_test(snapshots),  cmocka_unit_test(first_form),        cmocka_unit_test(covered),
		cmocka_unit_test(thousands),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
