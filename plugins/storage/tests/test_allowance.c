/* SPDX-License-Identifier: MIT */
/*
 * Tests of who gets a file of his own: no peer takes all that there may be, a file that cannot be opened
 * stops nobody else, and new files of one folder cost one sync of it.
 */
#include "helper_crash.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static const char *file(const struct fixture *f, const char *name)
{
	static char path[600];
	snprintf(path, sizeof path, "%s/%s", f->dir, name);
	return path;
}

static int setup_origins(void **state)
{
	int rc = setup(state);
	struct fixture *f = *state;
	snprintf(f->path, sizeof f->path, "%s/{origin}.jsonl", f->dir);
	return rc;
}

/* Event n of a peer, NULL: nobody vouches for it, that comes from this origin. */
static void send(struct fixture *f, const char *peer, const char *origin, uint64_t n)
{
	const char *const texts[SS_ATTR_COUNT] = {
		[SS_ATTR_PEER] = peer ? peer : "unverified:in", [SS_ATTR_ORIGIN] = origin};
	struct ss_batch *b = batch(f, "a", 1, n, 1);
	ss_test_host_attributes(&f->host, b, 0, texts,
				SS_ATTR_ORIGIN_VERIFIED | (peer ? SS_ATTR_PEER_VERIFIED : 0));
	push_on(f, 0, b);
	drain(f);
}

/* ---- peers ---- */

static void test_one_peer_leaves_room(void **state)
{
	struct fixture *f = *state;
	f->conf.max_files = 6;
	start(f);
	static const char *const greedy[] = {"g1", "g2", "g3", "g4", "g5"};
	for (uint64_t i = 0; i < 5; i++)
		send(f, "relay", greedy[i], i + 1);
	assert_file(file(f, "g3.jsonl"), "a3\n");
	assert_file(file(f, "%other.jsonl"), "a4\na5\n");
	assert_int_equal(metric(f, METRIC_OTHERS), 2);
	assert_true(logged(f, "WARN A peer has begun as many files as max_peer_files allows"));
	assert_true(logged(f, "peer=relay"));
	/* the others have what is left, and nobody loses what he has */
	send(f, "edge", "e1", 6);
	send(f, "edge", "e2", 7);
	send(f, "relay", "g1", 8);
	assert_file(file(f, "e2.jsonl"), "a7\n");
	assert_file(file(f, "g1.jsonl"), "a1\na8\n");
	/* all who are not verified are one */
	send(f, NULL, "u1", 9);
	assert_file(file(f, "u1.jsonl"), "a9\n");
	send(f, NULL, "u2", 10);
	assert_true(logged(f, "WARN There are as many files as max_files allows"));
	assert_int_equal(metric(f, METRIC_OTHERS), 3);
}

static void test_limit_of_a_peer(void **state)
{
	struct fixture *f = *state;
	char name[32];
	f->conf.max_peer_files = 100;
	f->conf.max_open_files = 4; /* what was closed is still counted */
	start(f);
	for (uint64_t i = 1; i <= 110; i++) {
		snprintf(name, sizeof name, "o%llu", (unsigned long long)i);
		send(f, "relay", name, i);
	}
	assert_int_equal(access(file(f, "o100.jsonl"), F_OK), 0);
	assert_int_equal(access(file(f, "o101.jsonl"), F_OK), -1);
	assert_int_equal(metric(f, METRIC_OTHERS), 10);
	/* those that are removed make room, also before the limit is reached */
	for (int i = 1; i <= 50; i++) {
		snprintf(name, sizeof name, "o%d.jsonl", i);
		assert_int_equal(unlink(file(f, name)), 0);
	}
	ss_test_host_advance(&f->host, 11 * SECOND);
	for (uint64_t i = 111; i <= 165; i++) {
		snprintf(name, sizeof name, "o%llu", (unsigned long long)i);
		send(f, "relay", name, i);
	}
	assert_int_equal(access(file(f, "o160.jsonl"), F_OK), 0);
	assert_int_equal(access(file(f, "o161.jsonl"), F_OK), -1);
	assert_int_equal(metric(f, METRIC_OTHERS), 15);
}

static void test_unverified_have_a_share(void **state)
{
	struct fixture *f = *state;
	f->conf.max_files = 4;
	start(f);
	send(f, NULL, "u1", 1);
	send(f, NULL, "u2", 2);
	send(f, NULL, "u3", 3);
	assert_file(file(f, "%other.jsonl"), "a3\n");
	assert_true(logged(f, "peer=(unverified)"));
	send(f, "edge", "e1", 4);
	assert_file(file(f, "e1.jsonl"), "a4\n");
}

/* A restart forgets who began which, but whoever uses a file is counted again. */
static void test_restart(void **state)
{
	struct fixture *f = *state;
	f->conf.max_files = 6;
	start(f);
	static const char *const names[] = {"g1", "g2", "g3"};
	for (uint64_t i = 0; i < 3; i++)
		send(f, "relay", names[i], i + 1);
	end(f);
	start(f);
	for (uint64_t i = 0; i < 3; i++)
		send(f, "relay", names[i], i + 4);
	send(f, "relay", "g4", 7);
	assert_file(file(f, "%other.jsonl"), "a7\n");
}

/* ---- files that cannot be opened ---- */

static void test_one_file_stops_nobody(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_int_equal(mkdir(file(f, "bad.jsonl"), 0700), 0);
	send(f, "p", "good", 1);
	send(f, "p", "bad", 2);
	send(f, "p", "good", 3);
	send(f, "p", "bad", 4);
	assert_file(file(f, "good.jsonl"), "a1\na3\n");
	assert_file(file(f, "%other.jsonl"), "a2\na4\n");
	assert_int_equal(f->host.n_finished, 4);
	assert_int_equal(metric(f, METRIC_BLOCKED), 0);
	assert_int_equal(metric(f, METRIC_OPEN_ERRORS), 1);
	assert_int_equal(metric(f, METRIC_OTHERS), 2);
	assert_true(logged(f, "ERROR Cannot open the file; its events go to the file named %other"));
	assert_non_null(strstr(f->host.degraded, "bad.jsonl: is a directory"));
	/* it is tried again */
	ss_test_host_advance(&f->host, 11 * SECOND);
	send(f, "p", "bad", 5);
	assert_int_equal(metric(f, METRIC_OPEN_ERRORS), 2);
	assert_int_equal(rmdir(file(f, "bad.jsonl")), 0);
	ss_test_host_advance(&f->host, 11 * SECOND);
	send(f, "p", "bad", 6);
	assert_file(file(f, "bad.jsonl"), "a6\n");
	assert_true(logged(f, "INFO The file can be opened again"));
	for (int i = 0; i < 40; i++)
		ss_test_host_advance(&f->host, SECOND);
	assert_string_equal(f->host.degraded, "");
	end(f);
	start(f);
	assert_int_equal(f->host.kept[0].position.seq, 6);
	assert_file(file(f, "%other.jsonl"), "a2\na4\na5\n");
}

/* One batch for many files, some of which cannot be opened, more than may be open at once. */
static void test_in_one_batch(void **state)
{
	struct fixture *f = *state;
	char name[32];
	f->conf.max_open_files = 4;
	start(f);
	for (int i = 0; i < 20; i += 5) {
		snprintf(name, sizeof name, "o%d.jsonl", i);
		assert_int_equal(symlink("/dev/null", file(f, name)), 0);
	}
	struct ss_batch *b = batch(f, "a", 1, 1, 60);
	for (uint32_t i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "o%u", i % 20);
		const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_ORIGIN] = name};
		ss_test_host_attributes(&f->host, b, i, texts, SS_ATTR_ORIGIN_VERIFIED);
	}
	push_on(f, 0, b);
	drain(f);
	assert_int_equal(f->host.n_finished, 1);
	assert_file(file(f, "o1.jsonl"), "a2\na22\na42\n");
	assert_file(file(f, "o19.jsonl"), "a20\na40\na60\n");
	assert_file(file(f, "%other.jsonl"), "a1\na6\na11\na16\na21\na26\na31\na36\na41\na46\na51\na56\n");
	assert_int_equal(metric(f, METRIC_OTHERS), 12);
	assert_int_equal(metric(f, METRIC_BLOCKED), 0);
}

/* Where there is nothing else for them, they wait. */
static void test_other_itself(void **state)
{
	struct fixture *f = *state;
	start(f);
	assert_int_equal(mkdir(file(f, "bad.jsonl"), 0700), 0);
	assert_int_equal(mkdir(file(f, "%other.jsonl"), 0700), 0);
	struct ss_batch *b = batch(f, "a", 1, 1, 1);
	const char *const texts[SS_ATTR_COUNT] = {[SS_ATTR_ORIGIN] = "bad"};
	ss_test_host_attributes(&f->host, b, 0, texts, SS_ATTR_ORIGIN_VERIFIED);
	push_on(f, 0, b);
	await(f, metric(f, METRIC_BLOCKED) == 1);
	assert_int_equal(rmdir(file(f, "%other.jsonl")), 0);
	ss_test_host_advance(&f->host, 2 * SECOND);
	drain(f);
	assert_file(file(f, "%other.jsonl"), "a1\n");
	assert_int_equal(metric(f, METRIC_BLOCKED), 0);
}

/* ---- syncs ---- */

static struct ss_batch *hundred(struct fixture *f)
{
	struct ss_batch *b = batch(f, NULL, 1, 1, 100);
	char name[32];

	for (uint32_t i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "o%u", i);
		const char *const texts[SS_ATTR_COUNT] = {
			[SS_ATTR_ORIGIN] = name, [SS_ATTR_INPUT] = i % 2 ? "odd" : "even"};
		ss_test_host_attributes(&f->host, b, i, texts, SS_ATTR_ORIGIN_VERIFIED);
	}
	return b;
}

/* A hundred new files are one sync of their folder, or of each of their folders. */
static void check_folder_syncs(struct fixture *f, const char *path, int syncs)
{
	char full[160];
	snprintf(full, sizeof full, "%s/%s", f->dir, path);
	f->conf.path = full;
	start(f);
	int before = world.folder_syncs;
	push_on(f, 0, hundred(f));
	drain(f);
	assert_int_equal(metric(f, METRIC_OPEN_FILES), 100);
	assert_int_equal(world.folder_syncs - before, syncs);
	/* and what is there needs none */
	before = world.folder_syncs;
	push_on(f, 0, hundred(f));
	drain(f);
	assert_int_equal(world.folder_syncs, before);
}

static void test_folder_syncs(void **state)
{
	check_folder_syncs(*state, "{origin}.jsonl", 1);
}

static void test_folder_syncs_of_two(void **state)
{
	/* that they were made takes one each, too */
	check_folder_syncs(*state, "{input}/{origin}.jsonl", 2 + 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_origins, teardown)
	const struct CMUnitTest tests[] = {
		T(test_one_peer_leaves_room),
		T(test_limit_of_a_peer),
		T(test_unverified_have_a_share),
		T(test_restart),
		T(test_one_file_stops_nobody),
		T(test_in_one_batch),
		T(test_other_itself),
		T(test_folder_syncs),
		T(test_folder_syncs_of_two),
	};
	return cmocka_run_group_tests_name("allowance", tests, NULL, NULL);
}
