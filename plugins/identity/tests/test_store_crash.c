/* SPDX-License-Identifier: MIT */
/*
 * test_store_crash - whatever is written to storage_path is cut short at every step: by a kill before or
 * after each system call, by a half-written file, by a full disk.  The calls of store's files come here first
 * (-Wl,--wrap).
 */
#include "helper_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

enum how { KILL_BEFORE, KILL_AFTER, KILL_HALF, FULL_DISK, BROKEN_DISK };
static const char *const hows[] = {"killed before", "killed after", "killed in half of", "disk full at",
				   "EIO at"};

#define KILLED     77 /* exit status of a child that came to its step */
#define NOT_SYNCED 78

static struct {
	bool on;
	enum how how;
	int countdown; /* calls left until it strikes */
	bool struck;
	bool dirty[1024]; /* descriptors with something that is not on disk */
	bool lost;        /* one was closed like that */
} fault;

int __real_openat(int dir, const char *name, int flags, ...);
ssize_t __real_write(int fd, const void *data, size_t n);
int __real_fsync(int fd);
int __real_close(int fd);
int __real_renameat(int from, const char *old, int to, const char *new);
int __real_mkdirat(int dir, const char *name, mode_t mode);
int __real_symlinkat(const char *target, int dir, const char *name);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_openat(int dir, const char *name, int flags, ...);
ssize_t __wrap_write(int fd, const void *data, size_t n);
int __wrap_fsync(int fd);
int __wrap_close(int fd);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_mkdirat(int dir, const char *name, mode_t mode);
int __wrap_symlinkat(const char *target, int dir, const char *name);
int __wrap_unlinkat(int dir, const char *name, int flags);

/* Before each call: true if it has to fail, with errno. */
static bool strikes(bool can_fail)
{
	if (!fault.on)
		return false;
	bool now = --fault.countdown == 0;
	if (now && fault.how == KILL_BEFORE)
		_exit(KILLED);
	fault.struck |= now;
	/* a disk stays full; a broken one gives one error */
	if (can_fail && fault.how == FULL_DISK && fault.struck) {
		errno = ENOSPC;
		return true;
	}
	if (fault.how == BROKEN_DISK && now) {
		errno = EIO;
		return true;
	}
	return false;
}

/* After each call; its result is handed through. */
static int done(int rc)
{
	if (fault.on && fault.how == KILL_AFTER && fault.countdown == 0)
		_exit(KILLED);
	return rc;
}

static void dirt(int fd, bool dirty)
{
	if (fd >= 0 && fd < 1024)
		fault.dirty[fd] = dirty;
}

int __wrap_openat(int dir, const char *name, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!(flags & O_CREAT))
		return __real_openat(dir, name, flags);
	if (strikes(true))
		return -1;
	int fd = __real_openat(dir, name, flags, mode);
	dirt(fd, false);
	dirt(dir, fd >= 0);
	return done(fd);
}

ssize_t __wrap_write(int fd, const void *data, size_t n)
{
	if (strikes(true)) {
		if (n > 1 && __real_write(fd, data, n / 2) < 0)
			return -1;
		errno = ENOSPC;
		return -1;
	}
	dirt(fd, true);
	bool half = fault.on && fault.how == KILL_HALF && fault.countdown == 0;
	ssize_t rc = __real_write(fd, data, half ? n / 2 : n);
	if (half)
		_exit(KILLED);
	return done((int)rc);
}

int __wrap_fsync(int fd)
{
	if (strikes(true))
		return -1;
	dirt(fd, false);
	return done(__real_fsync(fd));
}

int __wrap_close(int fd)
{
	if (fault.on && fd >= 0 && fd < 1024 && fault.dirty[fd])
		fault.lost = true;
	dirt(fd, false);
	return __real_close(fd);
}

int __wrap_renameat(int from, const char *old, int to, const char *new)
{
	if (strikes(false))
		return -1;
	/* what the name will stand for has to be on disk by now: a power cut may keep the name only */
	for (int fd = 0; fault.on && fd < 1024; fd++)
		if ((fault.dirty[fd] && fd != to) || fault.lost)
			_exit(NOT_SYNCED);
	int rc = __real_renameat(from, old, to, new);
	dirt(to, rc == 0);
	return done(rc);
}

int __wrap_mkdirat(int dir, const char *name, mode_t mode)
{
	if (strikes(true))
		return -1;
	int rc = __real_mkdirat(dir, name, mode);
	dirt(dir, rc == 0);
	return done(rc);
}

int __wrap_symlinkat(const char *target, int dir, const char *name)
{
	if (strikes(true))
		return -1;
	return done(__real_symlinkat(target, dir, name));
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
	if (strikes(false))
		return -1;
	return done(__real_unlinkat(dir, name, flags));
}

/* ---- what is cut short ---- */

static struct store_account account(int key, int pending, const char *url)
{
	return (struct store_account){.email = (char *)"a@b",
				      .url = (char *)url,
				      .key_pem = pairs[key].key_pem,
				      .pending_key_pem = pending < 0 ? NULL : pairs[pending].key_pem};
}

static int save(struct store *s, int i)
{
	return store_lock(s) ? -EAGAIN : stored_cert_save(s, pairs[i].chain_pem, pairs[i].key_pem);
}

static int save_account(struct store *s, struct store_account a)
{
	return store_lock(s) ? -EAGAIN : store_account_save(s, &a);
}

static int save_state(struct store *s, uint32_t failures)
{
	struct store_state st = {.failures = failures, .order_key_pem = pairs[0].key_pem};
	return store_lock(s) ? -EAGAIN : store_state_save(s, &st);
}

static int save_new(struct store *s)
{
	return save(s, 1);
}

static void nothing(struct store *s)
{
	(void)s;
}

static void one_saved(struct store *s)
{
	assert_int_equal(save(s, 0), 0);
}

static void three_saved(struct store *s)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(save(s, i), 0);
	assert_int_equal(save(s, 0), 0);
}

static void plain_files(struct store *s)
{
	(void)s;
	put_file("certificate.pem", pairs[0].chain_pem, 0644);
	put_file("certificate.key", pairs[0].key_pem, 0600);
}

static void plain_files_after_others(struct store *s)
{
	assert_int_equal(save(s, 2), 0);
	assert_int_equal(unlink(in_folder("certificate.pem")), 0);
	assert_int_equal(unlink(in_folder("certificate.key")), 0);
	plain_files(s);
}

static void deleted(struct store *s)
{
	assert_int_equal(save(s, 2), 0);
	assert_int_equal(unlink(in_folder("certificate.pem")), 0);
	assert_int_equal(unlink(in_folder("certificate.key")), 0);
	assert_int_equal(unlink(in_folder("current")), 0);
}

static void only_files_deleted(struct store *s)
{
	assert_int_equal(save(s, 2), 0);
	assert_int_equal(unlink(in_folder("certificate.pem")), 0);
	assert_int_equal(unlink(in_folder("certificate.key")), 0);
}

static void broken_files(struct store *s)
{
	(void)s;
	put_file("certificate.pem", pairs[0].chain_pem, 0644);
	put_file("certificate.key", pairs[2].key_pem, 0600);
}

/* old: what is there before; -1 none, -2 broken, see pair_on_disk. */
static void check_pair_now(int old, bool finished, const char *at)
{
	char why[512] = "";
	int now = pair_on_disk(why, sizeof why);
	if (now != 1 && (now != old || finished) && !(old == -2 && now == -1 && !finished))
		fail_msg("%s: pair %d: %s", at, now, why);
	/* and it goes on from there */
	struct store *s = open_store();
	assert_int_equal(save(s, 2), 0);
	store_free(s);
	assert_int_equal(pair_on_disk(why, sizeof why), 2);
	assert_true(count_entries("gen-") <= 2);
}

static void had_account(struct store *s)
{
	assert_int_equal(save_account(s, account(0, -1, "https://ca/1")), 0);
}

static void had_pending(struct store *s)
{
	assert_int_equal(save_account(s, account(0, 1, "https://ca/1")), 0);
}

static int first_account(struct store *s)
{
	return save_account(s, account(1, -1, "https://ca/2"));
}

static int begin_roll_over(struct store *s)
{
	return save_account(s, account(0, 1, "https://ca/1"));
}

static int end_roll_over(struct store *s)
{
	return save_account(s, account(1, -1, "https://ca/1"));
}

/* The key that is there belongs to the registration that is there; the old: key 0 with /1, the new: key 1
 * with /2. */
static void check_account_now(int old, bool finished, const char *at)
{
	struct store_account a = {0};
	struct store *s = open_store();
	int rc = store_account_load(s, &a);
	if (rc && rc != -ENOENT)
		fail_msg("%s: %s", at, store_why(s));
	store_free(s);
	if (rc == -ENOENT) {
		assert_true(old < 0 && !finished);
		return;
	}
	int key = strcmp(a.key_pem, pairs[0].key_pem) == 0   ? 0
		  : strcmp(a.key_pem, pairs[1].key_pem) == 0 ? 1
							     : -1;
	assert_true(key >= 0);
	if (a.url && strcmp(a.url, key ? "https://ca/2" : "https://ca/1") != 0)
		fail_msg("%s: key %d with %s", at, key, a.url);
	if (finished)
		assert_int_equal(key, 1);
	store_account_done(&a);
}

/* Of the two keys of a roll-over none is ever lost, and the registration stays. */
static void check_roll_over_now(int old, bool finished, const char *at)
{
	struct store_account a = {0};
	struct store *s = open_store();
	int rc = store_account_load(s, &a);
	if (rc || !a.url || strcmp(a.url, "https://ca/1") != 0)
		fail_msg("%s: %d %s", at, rc, store_why(s));
	store_free(s);
	bool new_key = strcmp(a.key_pem, pairs[1].key_pem) == 0;
	bool pending = a.pending_key_pem && strcmp(a.pending_key_pem, pairs[1].key_pem) == 0;
	assert_true(new_key || strcmp(a.key_pem, pairs[0].key_pem) == 0);
	if (old == 1) /* it was pending: now it is that or the key */
		assert_true(new_key != pending);
	else
		assert_true(!new_key && (pending || !finished));
	assert_true(!finished || old == 0 || new_key);
	store_account_done(&a);
}

static void had_state(struct store *s)
{
	assert_int_equal(save_state(s, 5), 0);
}

static int new_state(struct store *s)
{
	return save_state(s, 6);
}

static void check_state_now(int old, bool finished, const char *at)
{
	struct store_state st;
	struct store *s = open_store();
	if (store_state_load(s, &st))
		fail_msg("%s: %s", at, store_why(s));
	assert_true(st.failures == 6 || (!finished && (int)st.failures == old));
	store_state_done(&st);
	store_free(s);
}

static const struct scenario {
	const char *name;
	void (*prepare)(struct store *);
	int (*run)(struct store *);
	void (*check)(int old, bool finished, const char *at);
	int old;
} scenarios[] = {
	{"first pair", nothing, save_new, check_pair_now, -1},
	{"second pair", one_saved, save_new, check_pair_now, 0},
	{"fifth pair", three_saved, save_new, check_pair_now, 0},
	{"plain files", plain_files, save_new, check_pair_now, 0},
	{"plain files after others", plain_files_after_others, save_new, check_pair_now, 0},
	{"after rm", deleted, save_new, check_pair_now, -1},
	{"after rm of certificates", only_files_deleted, save_new, check_pair_now, -1},
	{"broken files", broken_files, save_new, check_pair_now, -2},
	{"first account", nothing, first_account, check_account_now, -1},
	{"another account", had_account, first_account, check_account_now, 0},
	{"roll-over begins", had_account, begin_roll_over, check_roll_over_now, 0},
	{"roll-over ends", had_pending, end_roll_over, check_roll_over_now, 1},
	{"first state", nothing, new_state, check_state_now, 0},
	{"next state", had_state, new_state, check_state_now, 5},
};

/* In a process of its own: exit status 0 finished without a fault, 1 failed because of it, KILLED. */
static int run_with_fault(const struct scenario *sc, enum how how, int step)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store *s = open_store();
		fault.how = how;
		fault.countdown = step;
		fault.on = true;
		int rc = sc->run(s);
		fault.on = false;
		_exit(rc ? 1 : fault.struck && how == BROKEN_DISK ? 2 : 0);
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void cut_short(enum how how)
{
	char at[128];
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
		const struct scenario *sc = &scenarios[i];
		int result = -1, step = 0;
		/* until a run ends by itself before its step comes */
		for (int quiet = 0; quiet < 3; quiet = result == 0 ? quiet + 1 : 0) {
			fresh_folder();
			struct store *s = open_store();
			sc->prepare(s);
			store_free(s);
			result = run_with_fault(sc, how, ++step);
			snprintf(at, sizeof at, "%s, %s step %d", sc->name, hows[how], step);
			if (result == NOT_SYNCED)
				fail_msg("%s: renamed before it was on disk", at);
			sc->check(sc->old, result == 0, at);
			if (step > 500)
				fail_msg("%s: no end", at);
		}
		if (step < 5)
			fail_msg("%s: only %d steps, is anything wrapped?", at, step);
	}
}

static void killed_before_each_step(void **state)
{
	(void)state;
	cut_short(KILL_BEFORE);
}

static void killed_after_each_step(void **state)
{
	(void)state;
	cut_short(KILL_AFTER);
}

static void killed_while_writing(void **state)
{
	(void)state;
	for (int step = 1; step < 40; step++)
		for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
			fresh_folder();
			struct store *s = open_store();
			scenarios[i].prepare(s);
			store_free(s);
			int result = run_with_fault(&scenarios[i], KILL_HALF, step);
			scenarios[i].check(scenarios[i].old, result == 0, scenarios[i].name);
		}
}

static void full_disk(void **state)
{
	(void)state;
	cut_short(FULL_DISK);
}

static void failing_disk(void **state)
{
	(void)state;
	cut_short(BROKEN_DISK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_before_each_step),
		cmocka_unit_test(killed_after_each_step),
		cmocka_unit_test(killed_while_writing),
		cmocka_unit_test(full_disk),
		cmocka_unit_test(failing_disk),
	};
	return cmocka_run_group_tests(tests, make_pairs, drop_pairs);
}
