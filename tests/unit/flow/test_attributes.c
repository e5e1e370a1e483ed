/* SPDX-License-Identifier: MIT */
/* Attributes of events: sets, the tables of batches, and who is told that somebody wants them. */
#include "tests/unit/helper_pipeline.h"

#include <errno.h>
#include "core/flow/batch.h"

/* ---- sets ---- */

static struct ss_attributes of_peer(const char *peer)
{
	struct ss_attributes a = {.struct_size = sizeof a, .flags = SS_ATTR_PEER_VERIFIED};

	a.values[SS_ATTR_PEER] = (struct ss_attribute){.text = peer, .len = (uint32_t)strlen(peer)};
	return a;
}

static const struct ss_attributes *made(const char *peer)
{
	const struct ss_attributes values = of_peer(peer), *out = NULL;

	assert_int_equal(attributes_make(&values, &out), 0);
	return out;
}

static bool is_peer(const struct ss_attributes *set, const char *peer)
{
	const struct ss_attribute a = ss_attribute_get(set, SS_ATTR_PEER);

	return a.text && a.len == strlen(peer) && memcmp(a.text, peer, a.len) == 0;
}

static void a_set_is_a_copy(void **state)
{
	(void)state;
	char peer[] = "edge-1";
	struct ss_attributes values = of_peer(peer);
	const struct ss_attributes *set;

	values.values[SS_ATTR_INPUT] = (struct ss_attribute){.text = "", .len = 0};
	assert_int_equal(attributes_make(&values, &set), 0);
	peer[0] = 'X';
	assert_true(is_peer(set, "edge-1"));
	assert_int_equal(set->flags, SS_ATTR_PEER_VERIFIED);
	assert_null(ss_attribute_get(set, SS_ATTR_INPUT).text);
	assert_null(ss_attribute_get(set, SS_ATTR_ORIGIN).text);
	assert_null(ss_attribute_get(set, SS_ATTR_RECEIVED).text);
	assert_null(ss_attribute_get(NULL, SS_ATTR_PEER).text);
	attributes_unref(set);
	attributes_unref(NULL);
}

static void texts_are_checked(void **state)
{
	(void)state;
	static const char *const bad[] = {"a\nb", "\x7f", "a\xc2\x9b", "\xc3", "\xed\xa0\x80", "\xff"};
	static char text[SS_ATTR_PATH_MAX + 2];
	const struct ss_attributes *out = NULL;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const struct ss_attributes values = of_peer(bad[i]);
		assert_int_equal(attributes_make(&values, &out), -EINVAL);
	}
	memset(text, 'a', sizeof text - 1);
	for (uint32_t i = 0; i < SS_ATTR_COUNT; i++) {
		const uint32_t most = i == SS_ATTR_PATH ? SS_ATTR_PATH_MAX : SS_ATTR_NAME_MAX;
		struct ss_attributes values = {.struct_size = sizeof values};
		values.values[i] = (struct ss_attribute){.text = text, .len = most + 1};
		assert_int_equal(attributes_make(&values, &out), -EMSGSIZE);
		values.values[i].len = most;
		assert_int_equal(attributes_make(&values, &out), 0);
		assert_int_equal(ss_attribute_get(out, i).len, most);
		attributes_unref(out);
	}
}

static void names_of_configurations(void **state)
{
	(void)state;
	assert_int_equal(ss_attribute_index("@peer"), SS_ATTR_PEER);
	assert_int_equal(ss_attribute_index("@origin"), SS_ATTR_ORIGIN);
	assert_int_equal(ss_attribute_index("@path"), SS_ATTR_PATH);
	assert_int_equal(ss_attribute_index("@address"), SS_ATTR_ADDRESS);
	assert_int_equal(ss_attribute_index("@input"), SS_ATTR_INPUT);
	assert_int_equal(ss_attribute_index("@received"), SS_ATTR_RECEIVED);
	assert_int_equal(ss_attribute_index("@peers"), -2);
	assert_int_equal(ss_attribute_index("peer"), -1);
	assert_int_equal(ss_attribute_index("/@peer"), -1);
	assert_int_equal(ss_attribute_index(""), -1);
}

/* ---- tables ---- */

static struct ss_batch *rows(struct pool *pool, struct ss_batch *parent, uint32_t n)
{
	struct ss_batch *b = batch_new(pool, parent, n, parent ? 0 : n);

	assert_non_null(b);
	for (uint32_t i = 0; i < n; i++)
		b->events[i] = (struct ss_event){
			.data = parent ? parent->data + i : b->data + i, .len = 1, .seq = i + 1};
	b->count = n;
	return b;
}

static uint16_t attach(struct ss_batch *b, const struct ss_attributes *set)
{
	const int32_t at = attributes_attach(b, &((struct batch *)b)->attributes, set);

	assert_true(at > 0);
	return (uint16_t)at;
}

static void rows_name_their_set(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = rows(pool, NULL, 3);
	const struct ss_attributes *one = made("one"), *two = made("two");

	assert_null(ss_attributes_of(b, &b->events[0]));
	b->events[0].attributes = attach(b, one);
	b->events[1].attributes = attach(b, two);
	assert_int_equal(attach(b, one), b->events[0].attributes);
	assert_int_equal(b->n_attributes, 2);
	attributes_unref(one);
	attributes_unref(two);
	assert_true(is_peer(ss_attributes_of(b, &b->events[0]), "one"));
	assert_true(is_peer(ss_attributes_of(b, &b->events[1]), "two"));
	assert_null(ss_attributes_of(b, &b->events[2]));
	b->events[2].attributes = 3; /* no such set */
	assert_null(ss_attributes_of(b, &b->events[2]));
	batch_unref(b);
	pool_free(pool);
}

/* Copied rows keep their index, whatever is attached to parent and child afterwards. */
static void children_have_the_sets_of_their_parent(void **state)
{
	(void)state;
	enum { SETS = 50 };
	struct pool *pool = pool_new();
	struct ss_batch *parent = rows(pool, NULL, SETS), *children[SETS];
	char name[8];

	for (uint32_t i = 0; i < SETS; i++) {
		snprintf(name, sizeof name, "p%u", i);
		const struct ss_attributes *set = made(name);
		parent->events[i].attributes = attach(parent, set);
		attributes_unref(set);
		children[i] = rows(pool, parent, 1);
		children[i]->events[0] = parent->events[i];
		if (i % 2) {
			set = made("own");
			assert_int_equal(attach(children[i], set), i + 2);
			attributes_unref(set);
		}
	}
	batch_unref(parent);
	for (uint32_t i = 0; i < SETS; i++) {
		snprintf(name, sizeof name, "p%u", i);
		assert_true(is_peer(ss_attributes_of(children[i], &children[i]->events[0]), name));
		children[i]->events[0].attributes++;
		assert_int_equal(ss_attributes_of(children[i], &children[i]->events[0]) != NULL, i % 2);
		batch_unref(children[i]);
	}
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

static void a_batch_has_65535_sets_at_most(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = rows(pool, NULL, 1);
	const struct ss_attributes *set = NULL;

	for (uint32_t i = 0; i < UINT16_MAX; i++) {
		set = made("x");
		assert_int_equal(attach(b, set), i + 1);
		attributes_unref(set);
	}
	set = made("y");
	assert_int_equal(attributes_attach(b, &((struct batch *)b)->attributes, set), -ENOSPC);
	attributes_unref(set);
	batch_unref(b);
	pool_free(pool);
}

/* A block comes back to the pool without what it had. */
static void a_new_batch_has_none(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *b = rows(pool, NULL, 1);
	const struct ss_attributes *set = made("x");

	attach(b, set);
	attributes_unref(set);
	void *where = b;
	batch_unref(b);
	b = rows(pool, NULL, 1);
	assert_ptr_equal(b, where);
	assert_int_equal(b->n_attributes, 0);
	batch_unref(b);
	pool_free(pool);
}

/* What is compacted has sets of its own, and only those that its rows name; queues account for them. */
static void a_compact_copy_keeps_its_sets(void **state)
{
	(void)state;
	struct pool *pool = pool_new();
	struct ss_batch *big = batch_new(pool, NULL, 64, 64000);
	char name[8];

	for (uint32_t i = 0; i < 64; i++) {
		snprintf(name, sizeof name, "p%u", i / 2);
		const struct ss_attributes *set = made(name);
		big->events[i] = (struct ss_event){.data = big->data + i * 1000, .len = 1000};
		big->events[i].attributes = i == 9 ? 0 : attach(big, set);
		attributes_unref(set);
	}
	big->count = 64;
	batch_unref(batch_seal(pool, big));
	assert_true(big->footprint >
		    64000 + 64 * EVENT_OVERHEAD + BATCH_OVERHEAD + 63 * sizeof(struct ss_attributes));

	struct ss_batch *part = batch_new(pool, big, 3, 0);
	for (uint32_t i = 0; i < 3; i++)
		part->events[i] = big->events[8 + i];
	part->count = 3;
	struct ss_batch *copy = batch_seal(pool, part);
	assert_ptr_not_equal(copy, part);
	batch_unref(part);
	batch_unref(big);
	assert_int_equal(copy->n_attributes, 2);
	assert_true(is_peer(ss_attributes_of(copy, &copy->events[0]), "p4"));
	assert_null(ss_attributes_of(copy, &copy->events[1]));
	assert_true(is_peer(ss_attributes_of(copy, &copy->events[2]), "p5"));
	batch_unref(copy);
	assert_int_equal(pool_outstanding(pool), 0);
	pool_free(pool);
}

/* ---- who wants them ---- */

static struct ss_iface service_of(const struct ss_host *host)
{
	struct ss_iface iface;

	assert_int_equal(host->query(host, SS_ATTRIBUTES, sizeof(struct ss_attribute_service), &iface), 0);
	return iface;
}

static void want(const struct ss_host *host)
{
	const struct ss_iface iface = service_of(host);

	((const struct ss_attribute_service *)iface.vtbl)->want(iface.self);
}

static int32_t reader_create(const struct ss_host *host, const void *conf, void **self)
{
	want(host);
	return sink.create(host, conf, self);
}

static bool is_wanted_from(const struct plan *p, size_t i)
{
	const struct ss_iface iface = service_of(&p->pipeline->components[i]->host);

	return ((const struct ss_attribute_service *)iface.vtbl)->wanted(iface.self);
}

static void only_those_before_a_reader_are_told(void **state)
{
	(void)state;
	static const struct feed_conf fc = {.total = 1000, .batch = 10};
	static const struct sieve_conf vc = {.rest = 1};
	static const struct sink_conf sc = {.manner = SINK_DONE};
	struct ss_component reader = sink;
	struct plan p;

	reader.create = reader_create;
	plan_init(&p);
	size_t reads = add(&p, "reads", &reader, &sc, NULL);
	size_t a = add(&p, "a", &feed, &fc, NULL), b = add(&p, "b", &feed, &fc, NULL);
	size_t mid = add(&p, "mid", &sieve, &vc, NULL), plain = add(&p, "plain", &sink, &sc, NULL);
	link_to(&p, mid, a, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, plain, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, reads, mid, 1, 100, OVERFLOW_BLOCK);
	link_to(&p, plain, b, 0, 100, OVERFLOW_BLOCK);
	start(&p);
	assert_true(is_wanted_from(&p, a));
	assert_true(is_wanted_from(&p, mid));
	assert_false(is_wanted_from(&p, b));
	assert_false(is_wanted_from(&p, plain));
	assert_false(is_wanted_from(&p, reads));
	await_in(&p, reads, 500);
	/* one that learns only later that it wants them */
	want(&p.pipeline->components[plain]->host);
	assert_true(is_wanted_from(&p, b));
	assert_true(is_wanted_from(&p, mid));
	assert_false(is_wanted_from(&p, plain));
	drain(&p);
	assert_int_equal(pipeline_stop(p.pipeline, 5000000000u), 0);
	finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_is_a_copy),
		cmocka_unit_test(texts_are_checked),
		cmocka_unit_test(names_of_configurations),
		cmocka_unit_test(rows_name_their_set),
		cmocka_unit_test(children_have_the_sets_of_their_parent),
		cmocka_unit_test(a_batch_has_65535_sets_at_most),
		cmocka_unit_test(a_new_batch_has_none),
		cmocka_unit_test(a_compact_copy_keeps_its_sets),
		cmocka_unit_test(only_those_before_a_reader_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
