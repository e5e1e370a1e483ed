/* SPDX-License-Identifier: MIT */
/* test_sendlog_consumers - consumers that stay away, how full the log is, epochs. */
#include "helper_sendlog.h"

/* ---- the disk ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t answers;
	bool hang;
} syncs = {.lock = PTHREAD_MUTEX_INITIALIZER, .answers = PTHREAD_COND_INITIALIZER};

static void disk_hangs(bool yes)
{
	pthread_mutex_lock(&syncs.lock);
	syncs.hang = yes;
	pthread_cond_broadcast(&syncs.answers);
	pthread_mutex_unlock(&syncs.lock);
}

/* Instead of the C library's: a disk that does not answer. */
int fdatasync(int fd)
{
	pthread_mutex_lock(&syncs.lock);
	while (syncs.hang)
		pthread_cond_wait(&syncs.answers, &syncs.lock);
	pthread_mutex_unlock(&syncs.lock);
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- consumers that stay away, epochs ---- */

static bool is_c(void *arg, const char *consumer)
{
	(void)arg;
	return strcmp(consumer, "c") == 0;
}

static void forgets_who_stays_away(void **state)
{
	struct rig *r = *state;
	const uint64_t second = 1000000000;

	for (int disk = 0; disk < 2; disk++) {
		r->options.path = disk ? r->path : NULL;
		r->options.forget_ns = 100 * second;
		r->forgotten = 0;
		open_log(r);
		assert_int_equal(append(r, 1, 100, 0), 0);
		settle(r);
		assert_int_equal(ack(r, "b", 10), 0);
		assert_int_equal(ack(r, "c", 90), 0);
		for (int i = 0; i < 99; i++)
			sendlog_check_consumers(r->log, second, is_c, r);
		assert_int_equal(sendlog_first(r->log), 11);
		if (disk) {
			/* how long it has been away is not forgotten, and time that nobody saw does not count
			 */
			close_log(r);
			open_log(r);
			assert_int_equal(sendlog_first(r->log), 11);
		}
		sendlog_check_consumers(r->log, second / 2, is_c, r);
		assert_int_equal(r->forgotten, 0);
		assert_true(sendlog_view(r->log, "b", NULL).known);
		sendlog_check_consumers(r->log, second / 2, is_c, r);
		assert_int_equal(r->forgotten, 1);
		assert_false(sendlog_view(r->log, "b", NULL).known);
		assert_int_equal(sendlog_first(r->log), 91);
		assert_int_equal(sendlog_all_acked(r->log), 90);
		for (int i = 0; i < 200; i++)
			sendlog_check_consumers(r->log, second, is_c, r);
		assert_true(sendlog_view(r->log, "c", NULL).known);
		close_log(r);
		if (!disk)
			continue;
		open_log(r);
		assert_false(sendlog_view(r->log, "b", NULL).known);
		assert_true(sendlog_view(r->log, "c", NULL).known);
	}
}

static void forgets_nobody_by_default(void **state)
{
	struct rig *r = *state;

	open_log(r);
	assert_int_equal(append(r, 1, 10, 0), 0);
	settle(r);
	assert_int_equal(ack(r, "b", 10), 0);
	for (int i = 0; i < 100; i++)
		sendlog_check_consumers(r->log, UINT64_C(1000000000) << 30, is_c, r);
	assert_true(sendlog_view(r->log, "b", NULL).known);
}

/* ---- how full it is, and who keeps it so ---- */

static bool nobody(void *arg, const char *consumer)
{
	(void)arg;
	(void)consumer;
	return false;
}

static bool everybody(void *arg, const char *consumer)
{
	(void)arg;
	(void)consumer;
	return true;
}

static unsigned count_lines(const struct rig *r, const char *what)
{
	unsigned n = 0;

	for (const char *at = r->host.log; (at = strstr(at, what)); at += strlen(what))
		n++;
	return n;
}

static void expect_line(const struct rig *r, const char *line)
{
	if (!strstr(r->host.log, line))
		fail_msg("no line \"%s\" in:\n%s", line, r->host.log);
}

/* Append until the log takes no more; the sequence that comes next. */
static uint64_t fill_up(struct rig *r, uint64_t seq)
{
	for (int refused = 0; refused < 5;) {
		if (append(r, seq, 100, 1) == 0)
			seq += 100;
		else
			refused++;
		ss_test_host_run(&r->host, 20);
	}
	return seq;
}

static void full_says_who(void **state)
{
	struct rig *r = *state;
	const uint64_t hour = UINT64_C(3600000000000);
	char line[256];

	for (int disk = 0; disk < 2; disk++) {
		r->options = (struct sendlog_options){.path = disk ? r->path : NULL, .max_bytes = MIB};
		open_log(r);
		assert_int_equal(ack(r, "ghost", 0), 0);
		assert_int_equal(ack(r, "b", 0), 0);
		assert_int_equal(append(r, 1, 100, 1), 0);
		settle(r);
		assert_int_equal(ack(r, "ghost", 40), 0);
		sendlog_check_consumers(r->log, hour, nobody, r);
		assert_string_equal(r->health, "");
		fill_up(r, 101);
		uint64_t committed = sendlog_committed(r->log);
		assert_int_equal(ack(r, "b", committed), 0);
		sendlog_check_consumers(r->log, hour, nobody, r);
		assert_string_equal(r->health, ""); /* it may be over in a moment */
		assert_non_null(strstr(r->degraded, " % full: consumer 'ghost' has not been here for 2h: "));
		assert_int_equal(count_lines(r, "WARN"), 1);
		expect_line(r, disk ? "WARN The spool is " : "WARN The buffer is ");
		expect_line(r,
			    " % full, at the limit input stops: consumer 'ghost' has not been here for 2h: ");
		sendlog_check_consumers(r->log, hour, nobody, r);
		snprintf(line, sizeof line, "%s full: consumer 'ghost' has not been here for 3h: %llu events",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40);
		assert_string_equal(r->health, line);
		assert_string_equal(r->degraded, ""); /* it is worse than that */
		snprintf(line, sizeof line,
			 "ERROR The %s is full and input stops: consumer 'ghost' has not been here for 3h: "
			 "%llu "
			 "events; "
			 "connect the consumer, raise %s or set forget_after ",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40,
			 disk ? "max_bytes" : "buffer");
		expect_line(r, line);
		expect_line(r, disk ? "max_bytes=1MiB" : "buffer=1MiB");
		assert_int_equal(sendlog_figures(r->log).limit * 9 / 10 < sendlog_figures(r->log).used, 1);
		for (int i = 0; i < 100; i++)
			sendlog_check_consumers(r->log, 1, nobody, r);
		assert_int_equal(count_lines(r, "ERROR"), 1);

		/* it comes back: slow is not away, and room is told */
		sendlog_check_consumers(r->log, hour, everybody, r);
		snprintf(line, sizeof line, "%s full: consumer 'ghost' does not keep up: %llu events",
			 disk ? "spool" : "buffer", (unsigned long long)committed - 40);
		assert_string_equal(r->health, line);
		assert_int_equal(ack(r, "ghost", committed), 0);
		/* what had waited may be written now */
		for (int i = 0; (r->health[0] || r->degraded[0]) && i < 100; i++) {
			ss_test_host_run(&r->host, 20);
			ack(r, "ghost", sendlog_committed(r->log));
			ack(r, "b", sendlog_committed(r->log));
			sendlog_check_consumers(r->log, 1, everybody, r);
		}
		assert_string_equal(r->health, "");
		assert_string_equal(r->degraded, "");
		expect_line(r, "INFO ");
		expect_line(r, " has room again, input goes on");
		close_log(r);
		assert_int_equal(count_lines(r, "ERROR"), 1);
		ss_test_host_clear(&r->host);
	}
}

static void full_of_a_slow_consumer(void **state)
{
	struct rig *r = *state;

	r->options.max_bytes = MIB;
	open_log(r);
	assert_int_equal(ack(r, "slow", 0), 0);
	assert_int_equal(ack(r, "slower", 0), 0);
	fill_up(r, 1);
	for (int i = 0; i < 29; i++)
		sendlog_check_consumers(r->log, 1, everybody, r);
	assert_string_equal(r->health, "");
	sendlog_check_consumers(r->log, 1, everybody, r);
	assert_non_null(strstr(r->health, "spool full: consumer 'slow' does not keep up: "));
	assert_non_null(strstr(r->health, " events, and 1 other consumer is behind"));
	close_log(r);
	expect_line(r, "ERROR Stopped with a full spool, so events that waited for it could not be stored: "
		       "consumer 'slow'");
}

static void stalled_disk(void **state)
{
	struct rig *r = *state;

	open_log(r);
	sendlog_check_consumers(r->log, 1, everybody, r);
	assert_int_equal(sendlog_figures(r->log).committing_ns, 0);
	disk_hangs(true);
	assert_int_equal(append(r, 1, 10, 0), 0);
	for (int i = 0; i < 70 && !r->degraded[0]; i++) { /* as the owner's timer */
		ss_test_host_run(&r->host, 100);
		sendlog_check_consumers(r->log, 1, everybody, r);
	}
	uint64_t ns = sendlog_figures(r->log).committing_ns;
	disk_hangs(false);
	assert_string_equal(r->degraded, "writing the spool to disk has taken 5s so far");
	assert_true(ns >= UINT64_C(5000000000) && ns < UINT64_C(8000000000));
	expect_line(r, "WARN Writing the spool to disk takes longer than 5 s: nothing is acknowledged until "
		       "the disk answers");
	wait_for(r, r->committed == 10);
	wait_for(r, !r->degraded[0]); /* without being asked */
	expect_line(r, "INFO The disk of the spool answers again");
	assert_int_equal(count_lines(r, "WARN"), 1);
}

/* Counted when it goes, each once, by reason; who lacks it is named; what all have acknowledged is not lost.
 */
static void counts_what_it_drops(void **state)
{
	struct rig *r = *state;
	uint64_t seq = 1, before;

	for (int disk = 0; disk < 2; disk++, seq = 1) {
		r->options = (struct sendlog_options){
			.path = disk ? r->path : NULL, .max_bytes = MIB, .drop_oldest = true};
		r->n_lost = 0;
		open_log(r);
		assert_int_equal(ack(r, "ghost", 0), 0);
		assert_int_equal(ack(r, "b", 0), 0);
		assert_int_equal(append(r, seq, 100, 0), 0);
		settle(r);
		assert_int_equal(ack(r, "ghost", 37), 0);
		sendlog_check_consumers(r->log, 60000000000, nobody, r);
		for (seq += 100; seq < 20000; seq += 100) {
			assert_int_equal(append(r, seq, 100, 0), 0);
			settle(r);
			assert_int_equal(ack(r, "b", sendlog_committed(r->log)), 0);
			ss_test_host_run(&r->host, 0);
			before = sendlog_first(r->log) - 1;
			assert_int_equal(lost_records(r, "full"),
					 before > 37 ? before - 37 : 0); /* exactly, at once */
		}
		assert_true(lost_records(r, "full") > 1000);
		assert_int_equal(r->lost[0].from, 38);
		expect_line(r, "WARN Events lost: dropped to make room before every consumer acknowledged "
			       "them; consumer "
			       "'ghost' has not been here for 1m: ");
		/* one line now, one with the rest later or at the end */
		assert_true(count_lines(r, "Events lost") == 1);
		close_log(r);
		assert_true(count_lines(r, "Events lost") == 2);
		uint64_t told = 0, n;
		for (const char *at = r->host.log; (at = strstr(at, " events=")); at += 8) {
			assert_int_equal(sscanf(at, " events=%" SCNu64, &n), 1);
			told += n;
		}
		assert_int_equal(told, lost_records(r, "full"));
		ss_test_host_clear(&r->host);
	}
}

/* Change what the state says, as it was written. */
static void edit_state(struct rig *r, void (*edit)(struct spool_state *))
{
	struct log_cursor cursors[SENDLOG_CONSUMERS];
	struct spool_state st = {.cursors = cursors};
	char file[160];

	snprintf(file, sizeof file, "%s/state", r->path);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	struct ss_two_slot slots;
	bool has, doubt;
	assert_int_equal(spool_state_open(&slots, fd, &st, &has, &doubt), 0);
	assert_true(has && !doubt);
	edit(&st);
	assert_int_equal(spool_state_write(&slots, &st, false), 0);
	ss_two_slot_close(&slots);
	close(fd);
}

static void another_boot(struct spool_state *st)
{
	st->boot[3] ^= 1;
}

static void another_file(struct spool_state *st)
{
	st->identity++;
}

static void some_records(struct rig *r, uint64_t seq)
{
	assert_int_equal(append(r, seq, 50, 0), 0);
	settle(r);
}

static void a_crash_of_the_machine_renews(void **state)
{
	struct rig *r = *state;
	uint8_t epochs[SENDLOG_PAST + 5][16];
	struct reader rd;

	for (unsigned i = 0; i < SENDLOG_PAST + 5; i++) {
		if (i)
			edit_state(r, i % 2 ? another_boot : another_file);
		open_log(r);
		memcpy(epochs[i], sendlog_view(r->log, "", NULL).epoch, 16);
		assert_int_equal(!!sendlog_figures(r->log).why_renewed, i > 0);
		/* numbers go on, and up to where it was opened each earlier epoch is right */
		assert_int_equal(sendlog_next(r->log), 50 * i + 1);
		assert_int_equal(sendlog_view(r->log, "", epochs[i]).past, 0);
		for (unsigned k = 0; k < i; k++)
			assert_int_equal(sendlog_view(r->log, "", epochs[k]).past,
					 i - k > SENDLOG_PAST ? 0 : 50 * (k + 1));
		some_records(r, 50 * i + 1);
		assert_int_equal(read_all(r, 1, 100, &rd), 50 * (i + 1));
		assert_int_equal(rd.gaps, 0);
		close_log(r);
		open_log(r); /* once only */
		assert_null(sendlog_figures(r->log).why_renewed);
		assert_memory_equal(sendlog_view(r->log, "", NULL).epoch, epochs[i], 16);
		close_log(r);
	}
	assert_int_equal(r->n_lost, 0);
}

static void a_copy_is_another_log(void **state)
{
	struct rig *r = *state;
	char command[400];
	uint8_t epoch[16];

	open_log(r);
	memcpy(epoch, sendlog_view(r->log, "", NULL).epoch, 16);
	some_records(r, 1);
	assert_int_equal(ack(r, "b", 20), 0);
	close_log(r);
	snprintf(command, sizeof command, "cp -a '%s' '%s.copy'", r->path, r->path);
	assert_int_equal(system(command), 0);
	strcat(r->path, ".copy");
	open_log(r);
	assert_non_null(sendlog_figures(r->log).why_renewed);
	assert_memory_not_equal(sendlog_view(r->log, "", NULL).epoch, epoch, 16);
	assert_int_equal(sendlog_view(r->log, "", epoch).past, 50);
	assert_int_equal(sendlog_view(r->log, "b", NULL).cursor, 20);
}

static void lost_state_renews(void **state)
{
	struct rig *r = *state;
	uint8_t epoch[16];
	char file[160];
	struct reader rd;

	open_log(r);
	memcpy(epoch, sendlog_view(r->log, "", NULL).epoch, 16);
	some_records(r, 1);
	close_log(r);
	snprintf(file, sizeof file, "%s/state", r->path);
	assert_int_equal(unlink(file), 0);
	open_log(r);
	assert_memory_not_equal(sendlog_view(r->log, "", NULL).epoch, epoch, 16);
	assert_int_equal(sendlog_view(r->log, "", epoch).past, 50);
	assert_int_equal(read_all(r, 1, 100, &rd), 50);
}

static void renewed_by_the_owner(void **state)
{
	struct rig *r = *state;
	uint8_t before[16], after[16];
	struct reader rd;

	for (int disk = 0; disk < 2; disk++) {
		r->options.path = disk ? r->path : NULL;
		open_log(r);
		some_records(r, 1);
		memcpy(before, sendlog_view(r->log, "", NULL).epoch, 16);
		assert_int_equal(sendlog_renew(r->log), 0);
		memcpy(after, sendlog_view(r->log, "", NULL).epoch, 16);
		assert_memory_not_equal(before, after, 16);
		assert_int_equal(sendlog_view(r->log, "", before).past, 0); /* nobody knows up to where */
		some_records(r, 51);
		assert_int_equal(read_all(r, 1, 100, &rd), 100);
		close_log(r);
	}
	open_log(r);
	assert_memory_equal(sendlog_view(r->log, "", NULL).epoch, after, 16);
	assert_int_equal(read_all(r, 1, 100, &rd), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(forgets_who_stays_away),        TEST(forgets_nobody_by_default), TEST(full_says_who),
		TEST(full_of_a_slow_consumer),       TEST(counts_what_it_drops),      TEST(stalled_disk),
		TEST(a_crash_of_the_machine_renews), TEST(a_copy_is_another_log),     TEST(lost_state_renews),
		TEST(renewed_by_the_owner),
	};
	return cmocka_run_group_tests_name("sendlog_consumers", tests, NULL, NULL);
}
