/* SPDX-License-Identifier: MIT */
/* groups: found by window and key, memory that comes back, and snapshots that show one moment whatever
 * happens while they are taken. */
#include "helper_aggregate.h"

#include <semstreams/ext/fields.h>

enum { KEYS = 3000, WINDOWS = 6 };

/* What should be in the table: by window and key, how often it was counted. */
struct model {
	struct bench b;
	struct groups *g;
	uint32_t windows[WINDOWS];
	int64_t ends[WINDOWS];
	uint32_t counts[WINDOWS][KEYS]; /* 0: it is not there */
	uint64_t seed;
};

static uint32_t pick(struct model *m, uint32_t n)
{
	m->seed = m->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((m->seed >> 33) * n >> 31);
}

/* Short ones and such that do not fit into a cell. */
static size_t key_of(uint32_t key, char text[64])
{
	return (size_t)snprintf(text, 64, key % 3 ? "%u" : "%u, a key that is longer than what is kept near",
				key);
}

/* Few hashes for many, so that chains are long. */
static uint32_t hash_of(uint32_t key)
{
	return key % 5 ? key * 0x9e3779b1u : 7;
}

static uint32_t find(const struct model *m, uint32_t w, uint32_t key)
{
	char text[64];
	size_t len = key_of(key, text);

	return groups_find(m->g, hash_of(key) + w, m->windows[w], text, len);
}

static void setup(struct model *m)
{
	*m = (struct model){.seed = 5};
	SETUP(&m->b, .window = "{\"type\":\"tumbling\",\"size\":\"1s\"}",
	      .functions = "{\"n\":\"count\",\"last\":\"last(v)\",\"d\":\"distinct(v)\"}");
	m->g = m->b.engine->groups;
	for (uint32_t w = 0; w < WINDOWS; w++) {
		m->ends[w] = (w + 1) * SECOND;
		m->windows[w] = window_new(m->g, w * SECOND, m->ends[w]);
		assert_int_not_equal(m->windows[w], 0);
	}
}

static void count(struct model *m, uint32_t w, uint32_t key)
{
	char text[64], value[64];
	size_t len = key_of(key, text);
	uint32_t g = find(m, w, key);

	assert_int_equal(g != 0, m->counts[w][key] != 0);
	if (!g)
		g = groups_add(m->g, hash_of(key) + w, m->windows[w], text, len);
	assert_int_not_equal(g, 0);
	groups_touch(m->g, g);
	m->counts[w][key]++;
	const struct ss_field v = {.text = value,
				   .len = (uint32_t)snprintf(value, sizeof value, "%0*u", (int)(key % 50) + 1,
							     m->counts[w][key]),
				   .type = SS_JSON_STRING};
	struct functions_skipped trouble = {0};
	uint8_t *states = group_states(groups_at(m->g, g));
	size_t before = functions_heap(m->g->functions, states);
	functions_add(m->g->functions, states, &v, NULL, 0, m->counts[w][key], &trouble);
	m->g->heap += functions_heap(m->g->functions, states) - before;
	assert_int_equal(trouble.no_memory + trouble.wrong_type, 0);
}

static void take_out(struct model *m, uint32_t w, uint32_t key)
{
	if (!m->counts[w][key])
		return;
	groups_remove(m->g, find(m, w, key));
	m->counts[w][key] = 0;
}

static void check(const struct model *m)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < WINDOWS; w++) {
		uint32_t in = 0;
		for (uint32_t key = 0; key < KEYS; key++) {
			uint32_t g = find(m, w, key);
			assert_int_equal(g != 0, m->counts[w][key] != 0);
			if (!g)
				continue;
			in++;
			uint64_t counted;
			memcpy(&counted, group_states(groups_at(m->g, g)), sizeof counted);
			assert_int_equal(counted, m->counts[w][key]);
			assert_ptr_equal(groups_peek(m->g, g), groups_at(m->g, g));
		}
		const struct window *window = &m->g->windows[m->windows[w]];
		assert_int_equal(window->n, in);
		uint32_t listed = 0, before = 0;
		for (uint32_t g = window->first; g; before = g, g = groups_at(m->g, g)->next, listed++)
			assert_int_equal(groups_at(m->g, g)->prev, before);
		assert_int_equal(listed, in);
		assert_int_equal(window->last, before);
		n += in;
	}
	assert_int_equal(m->g->n, n);
	uint32_t peeked = 0;
	for (uint32_t i = 1; i <= groups_end(m->g); i++)
		peeked += groups_peek(m->g, i) != NULL;
	assert_int_equal(peeked, n);
}

static void finish(struct model *m)
{
	for (uint32_t w = 0; w < WINDOWS; w++) {
		for (uint32_t key = 0; key < KEYS; key++)
			take_out(m, w, key);
		window_free(m->g, m->windows[w]);
	}
	assert_int_equal(m->g->heap, 0);
	assert_int_equal(m->g->n_windows, 0);
	assert_true(m->g->allocated <= 2);
	teardown(&m->b);
	free(m);
}

static void change(struct model *m)
{
	uint32_t w = pick(m, WINDOWS), key = pick(m, KEYS);

	if (pick(m, 3))
		count(m, w, key);
	else
		take_out(m, w, key);
}

static void test_table(void **state)
{
	struct model *m = malloc(sizeof *m);

	(void)state;
	assert_non_null(m);
	setup(m);
	for (int i = 0; i < 60000; i++) {
		change(m);
		if (i % 10000 == 0)
			check(m);
	}
	check(m);
	finish(m);
}

static void test_memory_comes_back(void **state)
{
	struct model *m = malloc(sizeof *m);

	(void)state;
	assert_non_null(m);
	setup(m);
	for (uint32_t key = 0; key < KEYS; key++)
		count(m, 0, key);
	size_t most = groups_memory(m->g), used = groups_used(m->g);
	assert_true(used <= most);
	for (uint32_t key = 0; key < KEYS - 10; key++)
		take_out(m, 0, key);
	assert_true(groups_memory(m->g) < most / 3);
	assert_true(groups_used(m->g) < used / 10);
	for (uint32_t key = 0; key < KEYS; key++)
		count(m, 1, key);
	check(m);
	finish(m);
}

/* ---- snapshots ---- */

static void check_snapshot(const struct model *then, const struct ss_strbuf *saved)
{
	struct ss_unpack r = {.at = (uint8_t *)saved->bytes, .end = (uint8_t *)saved->bytes + saved->len};
	struct saved_group s;
	struct functions *f = then->g->functions;
	uint8_t *states = malloc(f->size);
	uint32_t n = 0, want = 0;
	int rc;
	bool(*seen)[KEYS] = calloc(WINDOWS, sizeof *seen);

	assert_non_null(seen);
	assert_non_null(states);
	assert_false(saved->failed);
	while ((rc = groups_read(&r, &s)) == 1) {
		uint32_t w = (uint32_t)(s.start_ns / SECOND), key = (uint32_t)strtoul(s.key, NULL, 10);
		char text[64];
		assert_true(w < WINDOWS && key < KEYS && !seen[w][key]);
		seen[w][key] = true;
		assert_int_equal(s.end_ns, then->ends[w]);
		assert_int_equal(s.key_len, key_of(key, text));
		assert_memory_equal(s.key, text, s.key_len);
		assert_int_equal(functions_load(f, states, s.states, s.states_len), 0);
		struct ss_strbuf out = {0};
		const struct span span = {0, SECOND};
		functions_print(f, states, &span, &out);
		char like[200];
		snprintf(like, sizeof like, "\"n\":%u,\"last\":\"%0*u\",\"d\":", then->counts[w][key],
			 (int)(key % 50) + 1, then->counts[w][key]);
		assert_memory_equal(out.bytes, like, strlen(like));
		ss_strbuf_done(&out);
		functions_clear(f, states);
		n++;
	}
	assert_int_equal(rc, 0);
	for (uint32_t w = 0; w < WINDOWS; w++)
		for (uint32_t key = 0; key < KEYS; key++)
			want += then->counts[w][key] != 0;
	assert_int_equal(n, want);
	free(states);
	free(seen);
}

/* Whatever is counted, added, taken out, prolonged meanwhile. */
static void test_snapshots(void **state)
{
	struct model *m = malloc(sizeof *m), *then = malloc(sizeof *then);
	struct ss_strbuf saved = {0};

	(void)state;
	assert_non_null(m);
	assert_non_null(then);
	setup(m);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 1000; i++)
			change(m);
		if (round % 7 == 6) /* nearly empty: slabs go */
			for (uint32_t w = 0; w < WINDOWS; w++)
				for (uint32_t key = round % 2; key < KEYS; key++)
					take_out(m, w, key);
		*then = *m;
		saved.len = 0;
		groups_save_begin(m->g, &saved);
		for (bool done = false; !done; done = groups_save_step(m->g, 1)) {
			for (uint32_t i = pick(m, 400); i; i--)
				change(m);
			if (round % 5 == 4) /* all of a window's groups, so that slabs are empty in between */
				for (uint32_t key = 0; key < KEYS; key++)
					take_out(m, (uint32_t)round % WINDOWS, key);
			/* a session: all its groups are touched before its end changes */
			uint32_t w = pick(m, WINDOWS);
			for (uint32_t g = m->g->windows[m->windows[w]].first; g; g = groups_at(m->g, g)->next)
				groups_touch(m->g, g);
			m->g->windows[m->windows[w]].end_ns = m->ends[w] += 1;
		}
		check_snapshot(then, &saved);
		uint64_t n = m->g->saved_groups;
		assert_true(n <= WINDOWS * KEYS);
		check(m);
	}
	/* one that is given up leaves the next as it should be */
	groups_save_begin(m->g, &saved);
	groups_save_step(m->g, 1);
	change(m);
	*then = *m;
	saved.len = 0;
	groups_save_begin(m->g, &saved);
	while (!groups_save_step(m->g, 1))
		change(m);
	check_snapshot(then, &saved);
	ss_strbuf_done(&saved);
	free(then);
	finish(m);
}

static void test_read_hostile(void **state)
{
	struct model *m = malloc(sizeof *m);
	struct ss_strbuf saved = {0};
	struct saved_group s;

	(void)state;
	assert_non_null(m);
	setup(m);
	for (uint32_t key = 0; key < 5; key++)
		count(m, 0, key);
	groups_save_begin(m->g, &saved);
	assert_true(groups_save_step(m->g, 100));
	for (size_t len = 1; len < saved.len; len++) {
		uint8_t *exact = malloc(len);
		memcpy(exact, saved.bytes, len);
		struct ss_unpack r = {.at = exact, .end = exact + len};
		int rc;
		while ((rc = groups_read(&r, &s)) == 1)
			;
		assert_true(rc == -EINVAL || r.at == r.end);
		free(exact);
	}
	ss_strbuf_done(&saved);
	finish(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_memory_comes_back),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_read_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
