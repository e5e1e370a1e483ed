/* SPDX-License-Identifier: MIT */
/* Which loop runs which components, by the graph and by "worker". */
#include "helper_pipeline.h"

/* Start and stop a plan; the components that share a loop, in the order of the data: "in mid|out". */
static char *loops_of(struct plan *p)
{
	static char text[256];
	size_t at = 0;

	start(p);
	text[0] = '\0';
	for (size_t i = 0; i < p->pipeline->n_workers; i++) {
		const struct worker *w = p->pipeline->workers[i];
		for (size_t k = 0; k < w->n; k++)
			at += (size_t)snprintf(text + at, sizeof text - at, "%s%s",
					       k   ? " "
					       : i ? "|"
						   : "",
					       w->members[k]->id);
	}
	drain(p);
	assert_int_equal(pipeline_stop(p->pipeline, 5000000000u), 0);
	finish(p);
	return text;
}

static const struct feed_conf few = {.total = 10, .batch = 1};
static const struct sieve_conf both = {.rest = 1};
static const struct sink_conf done = {.manner = SINK_DONE};

/* in -> mid -> out, the last one of a type that is given, over an edge that is given. */
static char *loops_of_chain(const struct ss_component *last, const char *worker, enum overflow overflow)
{
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", last, &done, worker);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, overflow);
	return loops_of(&p);
}

static void a_chain_runs_on_one_loop(void **state)
{
	(void)state;
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_BLOCK), "in mid out");
	/* what may drop does so to be independent */
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_DROP_OLDEST), "in mid|out");
	assert_string_equal(loops_of_chain(&sink, NULL, OVERFLOW_DROP_NEWEST), "in mid|out");
	assert_string_equal(loops_of_chain(&sink, "w", OVERFLOW_BLOCK), "in mid|out");
	struct ss_component slow = sink;
	slow.flags = SS_OWN_LOOP;
	assert_string_equal(loops_of_chain(&slow, NULL, OVERFLOW_BLOCK), "in mid|out");
}

static void what_follows_an_own_loop_shares_the_next(void **state)
{
	(void)state;
	struct ss_component slow = feed;
	struct plan p;

	slow.flags = SS_OWN_LOOP;
	plan_init(&p);
	size_t in = add(&p, "in", &slow, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", &sink, &done, NULL);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in|mid out");
}

static void branches_run_on_loops_of_their_own(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t odd = add(&p, "odd", &sink, &done, NULL);
	size_t even = add(&p, "even", &sieve, &both, NULL);
	size_t end = add(&p, "end", &sink, &done, NULL);
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, odd, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, even, mid, 1, 100, OVERFLOW_BLOCK);
	link_to(&p, end, even, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in mid|odd|even end");
}

static void a_join_begins_a_loop(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t a = add(&p, "a", &feed, &few, NULL);
	size_t b = add(&p, "b", &feed, &few, NULL);
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t out = add(&p, "out", &sink, &done, NULL);
	link_to(&p, mid, a, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, mid, b, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, out, mid, 0, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "a|b|mid out");
}

static void named_workers_share_whatever_the_graph(void **state)
{
	(void)state;
	struct plan p;

	plan_init(&p);
	size_t in = add(&p, "in", &feed, &few, "w");
	size_t mid = add(&p, "mid", &sieve, &both, NULL);
	size_t odd = add(&p, "odd", &sink, &done, NULL);
	size_t even = add(&p, "even", &sink, &done, "w");
	link_to(&p, mid, in, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, odd, mid, 0, 100, OVERFLOW_BLOCK);
	link_to(&p, even, mid, 1, 100, OVERFLOW_BLOCK);
	assert_string_equal(loops_of(&p), "in even|mid|odd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_runs_on_one_loop),
		cmocka_unit_test(what_follows_an_own_loop_shares_the_next),
		cmocka_unit_test(branches_run_on_loops_of_their_own),
		cmocka_unit_test(a_join_begins_a_loop),
		cmocka_unit_test(named_workers_share_whatever_the_graph),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
