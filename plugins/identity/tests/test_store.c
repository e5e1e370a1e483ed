/* SPDX-License-Identifier: MIT */
/* test_store - storage_path: what is in it, who may read it, what operators do to it, who holds the lock. */
#include "helper_store.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define WHY char why[512] = ""

static mode_t mode_of(const char *name)
{
	struct stat st;
	assert_int_equal(stat(in_folder(name), &st), 0);
	return st.st_mode & 07777;
}

static char *text_of(const char *name)
{
	static char buf[8192];
	FILE *f = fopen(in_folder(name), "r");
	assert_non_null(f);
	buf[fread(buf, 1, sizeof buf - 1, f)] = '\0';
	fclose(f);
	return buf;
}

static void save_pair(struct store *s, int i)
{
	assert_int_equal(store_lock(s), 0);
	if (stored_cert_save(s, pairs[i].chain_pem, pairs[i].key_pem))
		fail_msg("%s", store_why(s));
	store_unlock(s);
}

static void keeps_the_pair(void **state)
{
	(void)state;
	WHY;
	struct store *s = open_store();
	struct stored_cert p;
	assert_int_equal(stored_cert_load(s, NULL, 0, &p), -ENOENT);
	assert_false(stored_cert_changed(s));
	for (int i = 0; i < 7; i++) {
		save_pair(s, i % 3);
		assert_false(stored_cert_changed(s));
		assert_int_equal(pair_on_disk(why, sizeof why), i % 3);
		assert_string_equal(text_of("certificate.pem"), pairs[i % 3].chain_pem);
		assert_string_equal(text_of("certificate.key"), pairs[i % 3].key_pem);
	}
	assert_int_equal(count_entries("gen-"), 2);
	assert_int_equal(count_entries("gen-000007"), 1);
	assert_int_equal(count_entries("gen-000006"), 1);
	assert_int_equal(mode_of("certificate.key"), 0600);
	assert_int_equal(mode_of("certificate.pem"), 0644);
	store_free(s);
}

static void notices_changes(void **state)
{
	(void)state;
	struct store *mine = open_store(), *other = open_store();
	struct stored_cert p;
	save_pair(mine, 0);
	assert_true(stored_cert_changed(other));
	assert_int_equal(stored_cert_load(other, NULL, 0, &p), 0);
	stored_cert_done(&p);
	assert_false(stored_cert_changed(other));
	save_pair(mine, 1);
	assert_true(stored_cert_changed(other));
	assert_false(stored_cert_changed(mine));
	unlink(in_folder("certificate.pem"));
	assert_true(stored_cert_changed(mine));
	assert_int_equal(stored_cert_load(mine, NULL, 0, &p), -ENOENT);
	assert_false(stored_cert_changed(mine));
	store_free(mine);
	store_free(other);
}

/* "rm storage_path/": what lies in folders stays behind and must not come up again. */
static void forgets_what_was_deleted(void **state)
{
	(void)state;
	WHY;
	struct store *s = open_store();
	save_pair(s, 0);
	save_pair(s, 1);
	store_free(s);
	char command[128];
	snprintf(command, sizeof command, "rm %s/* 2>/dev/null", folder);
	assert_int_not_equal(system(command), -1);
	assert_int_equal(count_entries("gen-"), 2);
	assert_int_equal(pair_on_disk(why, sizeof why), -1);
	s = open_store();
	save_pair(s, 2);
	assert_int_equal(pair_on_disk(why, sizeof why), 2);
	assert_int_equal(count_entries("gen-"), 1);
	/* only some of it */
	unlink(in_folder("certificate.pem"));
	unlink(in_folder("certificate.key"));
	assert_int_equal(pair_on_disk(why, sizeof why), -1);
	save_pair(s, 0);
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	unlink(in_folder("certificate.key"));
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	assert_non_null(strstr(why, "certificate.key is missing"));
	save_pair(s, 1);
	assert_int_equal(pair_on_disk(why, sizeof why), 1);
	store_free(s);
}

static void reads_plain_files(void **state)
{
	(void)state;
	WHY;
	put_file("certificate.pem", pairs[0].chain_pem, 0644);
	put_file("certificate.key", pairs[0].key_pem, 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	struct store *s = open_store();
	save_pair(s, 1);
	assert_int_equal(pair_on_disk(why, sizeof why), 1);
	assert_int_equal(count_entries("gen-"), 2); /* the operator's is the one before */
	/* copied over: through the links */
	put_file("certificate.pem", pairs[2].chain_pem, 0644);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	put_file("certificate.key", pairs[2].key_pem, 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), 2);
	/* moved over */
	unlink(in_folder("certificate.pem"));
	unlink(in_folder("certificate.key"));
	put_file("certificate.pem", pairs[1].chain_pem, 0644);
	put_file("certificate.key", pairs[1].key_pem, 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), 1);
	save_pair(s, 0);
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	store_free(s);
}

/* As somebody else does it, a while after our own writing. */
static void put_later(const char *name, const char *text, mode_t mode)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = time(NULL) + 5}};
	put_file(name, text, mode);
	assert_int_equal(utimensat(AT_FDCWD, in_folder(name), times, 0), 0);
}

static void expect_kept(struct store *s, int number, const char *key_pem)
{
	char name[64];
	snprintf(name, sizeof name, "replaced-%06d/certificate.key", number);
	assert_string_equal(text_of(name), key_pem);
	assert_int_equal(mode_of(name), 0600);
	assert_non_null(strstr(store_warning(s), "replaced-00000"));
	assert_int_equal(count_entries("replaced-"), number);
}

/* A key that an operator copies or moves there while a certificate is obtained. */
static void loses_no_key_of_an_operator(void **state)
{
	(void)state;
	WHY;
	struct store *s = open_store();
	save_pair(s, 0);
	save_pair(s, 1);
	assert_int_equal(count_entries("replaced-"), 0); /* our own files are swept */
	assert_null(store_warning(s));
	/* moved there, the certificate not yet */
	unlink(in_folder("certificate.key"));
	put_file("certificate.key", pairs[2].key_pem, 0600);
	save_pair(s, 0);
	expect_kept(s, 1, pairs[2].key_pem);
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	/* copied through the link */
	put_later("certificate.key", pairs[2].key_pem, 0600);
	save_pair(s, 1);
	expect_kept(s, 2, pairs[2].key_pem);
	assert_int_equal(pair_on_disk(why, sizeof why), 1);
	/* both moved there; the pair is good, and lies in no generation two renewals later */
	unlink(in_folder("certificate.pem"));
	unlink(in_folder("certificate.key"));
	put_file("certificate.pem", pairs[2].chain_pem, 0644);
	put_file("certificate.key", pairs[2].key_pem, 0600);
	save_pair(s, 0);
	expect_kept(s, 3, pairs[2].key_pem);
	save_pair(s, 1);
	save_pair(s, 0);
	assert_null(store_warning(s));
	assert_int_equal(count_entries("replaced-"), 3);
	assert_string_equal(text_of("replaced-000003/certificate.pem"), pairs[2].chain_pem);
	store_free(s);
}

static void refuses_what_does_not_fit(void **state)
{
	(void)state;
	WHY;
	put_file("certificate.pem", pairs[0].chain_pem, 0644);
	put_file("certificate.key", pairs[1].key_pem, 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	assert_non_null(strstr(why, "certificate.pem"));
	put_file("certificate.key", pairs[0].key_pem, 0640);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	assert_non_null(strstr(why, "chmod 600"));
	/* the same rule as for key_file: what root hands out to a group */
	chmod(in_folder("certificate.key"), 0440);
	assert_int_equal(pair_on_disk(why, sizeof why), geteuid() == 0 ? 0 : -2);
	chmod(in_folder("certificate.key"), 0444);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	chmod(in_folder("certificate.key"), 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	put_file("certificate.key", "no key at all\n", 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	put_file("certificate.key", "", 0600);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	unlink(in_folder("certificate.key"));
	assert_int_equal(mkdir(in_folder("certificate.key"), 0700), 0);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	rmdir(in_folder("certificate.key"));
	assert_int_equal(mkfifo(in_folder("certificate.key"), 0600), 0);
	assert_int_equal(pair_on_disk(why, sizeof why), -2); /* and does not wait for a writer */
	unlink(in_folder("certificate.key"));
	put_file("certificate.key", pairs[0].key_pem, 0600);
	assert_int_equal(truncate(in_folder("certificate.pem"), 1 << 20), 0);
	assert_int_equal(pair_on_disk(why, sizeof why), -2);
	assert_non_null(strstr(why, "larger than"));
	/* and a new one takes its place */
	struct store *s = open_store();
	save_pair(s, 2);
	assert_int_equal(pair_on_disk(why, sizeof why), 2);
	store_free(s);
}

/* Links that somebody put there are not followed for writing. */
static void writes_inside_only(void **state)
{
	(void)state;
	WHY;
	static const char *const names[] = {"certificate.pem", "certificate.key", "account.json",
					    "account.key",     "state.json",      ".account.key.new",
					    ".state.json.new"};
	put_file("victim", "untouched", 0600);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		assert_int_equal(symlink("victim", in_folder(names[i])), 0);
	struct store *s = open_store();
	struct store_account a = {.email = (char *)"a@b", .key_pem = pairs[0].key_pem};
	struct store_state st = {.failures = 1};
	save_pair(s, 0);
	assert_int_equal(store_lock(s), 0);
	assert_int_equal(store_account_save(s, &a), 0);
	assert_int_equal(store_state_save(s, &st), 0);
	assert_string_equal(text_of("victim"), "untouched");
	assert_int_equal(pair_on_disk(why, sizeof why), 0);
	assert_int_equal(unlink(in_folder("lock")), 0);
	store_unlock(s);
	assert_int_equal(symlink("victim", in_folder("lock")), 0);
	assert_int_equal(store_lock(s), -ELOOP);
	store_free(s);
}

static void keeps_the_account(void **state)
{
	(void)state;
	struct store *s = open_store();
	struct store_account a;
	assert_int_equal(store_account_load(s, &a), -ENOENT);
	struct store_account in = {.email = (char *)"admin@example.com",
				   .key_pem = pairs[0].key_pem,
				   .directory = (char *)"https://ca/dir"};
	assert_int_equal(store_lock(s), 0);
	assert_int_equal(store_account_save(s, &in), 0);
	assert_int_equal(mode_of("account.key"), 0600);
	assert_int_equal(store_account_load(s, &a), 0);
	assert_null(a.url);
	assert_int_equal(json_object_size(a.body), 0);
	store_account_done(&a);
	in.url = (char *)"https://ca/account/1";
	in.body = json_pack("{s:s, s:[s]}", "status", "valid", "contact", "mailto:admin@example.com");
	in.pending_key_pem = pairs[1].key_pem;
	assert_int_equal(store_account_save(s, &in), 0);
	assert_int_equal(store_account_load(s, &a), 0);
	assert_string_equal(a.email, in.email);
	assert_string_equal(a.url, in.url);
	assert_string_equal(a.directory, in.directory);
	assert_true(json_equal(a.body, in.body));
	assert_string_equal(a.key_pem, pairs[0].key_pem);
	assert_string_equal(a.pending_key_pem, pairs[1].key_pem);
	store_account_done(&a);
	assert_int_equal(mode_of("account.key.pending"), 0600);
	/* the new key has taken over */
	in.key_pem = pairs[1].key_pem;
	in.pending_key_pem = NULL;
	assert_int_equal(store_account_save(s, &in), 0);
	assert_int_equal(store_account_load(s, &a), 0);
	assert_string_equal(a.key_pem, pairs[1].key_pem);
	assert_null(a.pending_key_pem);
	assert_string_equal(a.url, in.url);
	store_account_done(&a);
	assert_int_equal(count_entries("account.key.pending"), 0);
	json_decref(in.body);
	store_free(s);
}

static void understands_broken_accounts(void **state)
{
	(void)state;
	struct store *s = open_store();
	struct store_account a;
	put_file("account.key", pairs[0].key_pem, 0600);
	assert_int_equal(store_account_load(s, &a), 0); /* not registered yet */
	assert_null(a.url);
	store_account_done(&a);
	static const char *const broken[] = {"", "{", "[]", "null", "{\"email\":1,\"email\":2}", "\xff\xfe"};
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		put_file("account.json", broken[i], 0600);
		assert_int_equal(store_account_load(s, &a), -EINVAL);
		assert_non_null(strstr(store_why(s), "account.json"));
	}
	static const char *const odd[] = {"{}", "{\"email\":7,\"registration\":[],\"directory\":{}}",
					  "{\"registration\":{\"uri\":null,\"body\":\"x\"}}"};
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		put_file("account.json", odd[i], 0600);
		assert_int_equal(store_account_load(s, &a), 0);
		assert_null(a.url);
		assert_null(a.email);
		assert_int_equal(json_object_size(a.body), 0);
		store_account_done(&a);
	}
	chmod(in_folder("account.key"), 0644);
	assert_int_equal(store_account_load(s, &a), -EINVAL);
	assert_non_null(strstr(store_why(s), "chmod 600"));
	store_free(s);
}

static void keeps_the_state(void **state)
{
	(void)state;
	struct store *s = open_store();
	struct store_state out, in = {.order_url = (char *)"https://ca/order/1",
				      .order_key_pem = pairs[0].key_pem,
				      .failures = 3,
				      .next_try = 1800000001,
				      .ca_try = 1800000002,
				      .last_error = (char *)"no \"answer\"\n",
				      .last_success = 1800000003,
				      .ari_id = (char *)"a.b",
				      .ari_at = 4,
				      .ari_start = 5,
				      .ari_end = 6,
				      .ari_check = 7,
				      .jitter = 8,
				      .revoked = true,
				      .config = (char *)"c"};
	assert_int_equal(store_state_load(s, &out), 0);
	assert_null(out.order_url);
	assert_int_equal(out.failures, 0);
	assert_int_equal(store_state_save(s, &in), 0);
	assert_int_equal(mode_of("state.json"), 0600);
	assert_int_equal(store_state_load(s, &out), 0);
	assert_string_equal(out.order_url, in.order_url);
	assert_string_equal(out.order_key_pem, in.order_key_pem);
	assert_string_equal(out.last_error, in.last_error);
	assert_string_equal(out.ari_id, in.ari_id);
	assert_string_equal(out.config, in.config);
	assert_int_equal(out.failures, 3);
	assert_int_equal(out.next_try, in.next_try);
	assert_int_equal(out.ca_try, in.ca_try);
	assert_int_equal(out.last_success, in.last_success);
	assert_int_equal(out.ari_at + out.ari_start * 10 + out.ari_end * 100 + out.ari_check * 1000, 7654);
	assert_int_equal(out.jitter, 8);
	assert_true(out.revoked);
	store_state_done(&out);
	put_file("state.json",
		 "{\"failures\":-4,\"next_try\":\"x\",\"ari\":[],\"order\":{\"url\":7},\"jitter\":1e300,"
		 "\"revoked\":1}",
		 0600);
	assert_int_equal(store_state_load(s, &out), 0);
	assert_null(out.order_url);
	assert_int_equal(out.failures + out.next_try + out.jitter + out.revoked, 0);
	store_state_done(&out);
	put_file("state.json", "{\"failures\":99999999999}", 0600);
	assert_int_equal(store_state_load(s, &out), 0);
	assert_true(out.failures == UINT32_MAX);
	put_file("state.json", "{\"failures\":", 0600);
	assert_int_equal(store_state_load(s, &out), -EINVAL);
	store_free(s);
}

static void locks_out_others(void **state)
{
	(void)state;
	struct store *a = open_store(), *b = open_store();
	assert_int_equal(store_lock(a), 0);
	assert_int_equal(store_lock(a), 0);
	assert_int_equal(store_lock(b), -EAGAIN);
	store_unlock(a);
	assert_int_equal(store_lock(b), 0);
	/* gone with its holder, however that ends */
	store_unlock(b);
	int ready[2];
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct store *s = NULL;
		char why[256], got = store_open(folder, &s, why, sizeof why) || store_lock(s) ? 'n' : 'y';
		if (write(ready[1], &got, 1) != 1)
			_exit(1);
		pause();
	}
	char got = 0;
	assert_int_equal(read(ready[0], &got, 1), 1);
	assert_int_equal(got, 'y');
	assert_int_equal(store_lock(a), -EAGAIN);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(store_lock(a), 0);
	/* the file deleted under its holder: the next one does not lock what nobody sees */
	assert_int_equal(unlink(in_folder("lock")), 0);
	store_unlock(a);
	assert_int_equal(store_lock(b), 0);
	assert_int_equal(store_lock(a), -EAGAIN);
	close(ready[0]);
	close(ready[1]);
	store_free(a);
	store_free(b);
}

static void opens_folders(void **state)
{
	(void)state;
	WHY;
	char path[128];
	struct stat st;
	struct store *s = NULL;
	snprintf(path, sizeof path, "%s/above/acme", folder);
	assert_int_equal(store_open(path, &s, why, sizeof why), 0);
	assert_null(store_warning(s));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* deleted and made again while it is open */
	remove_all(in_folder("above"));
	assert_int_equal(store_lock(s), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(stored_cert_save(s, pairs[0].chain_pem, pairs[0].key_pem), 0);
	store_free(s);
	chmod(path, 0777);
	assert_int_equal(store_open(path, &s, why, sizeof why), 0);
	assert_non_null(store_warning(s));
	store_free(s);
	chmod(path, 0755);
	assert_int_equal(store_open(path, &s, why, sizeof why), 0);
	assert_null(store_warning(s));
	store_free(s);
	put_file("file", "", 0600);
	assert_int_not_equal(store_open(in_folder("file"), &s, why, sizeof why), 0);
	assert_non_null(strstr(why, "/file"));
	assert_int_not_equal(store_open(in_folder("file/below"), &s, why, sizeof why), 0);
	assert_int_equal(store_open("", &s, why, sizeof why), -EINVAL);
	if (geteuid() != 0) {
		chmod(path, 0500);
		assert_int_not_equal(store_open(path, &s, why, sizeof why), 0);
		assert_non_null(strstr(why, "not writable by user"));
		chmod(path, 0700);
	}
	store_free(NULL);
}

/* As another user, where this runs as root. */
static void says_who_cannot_write(void **state)
{
	(void)state;
	WHY;
	if (geteuid() != 0)
		return;
	chmod(folder, 0755);
	int out[2];
	assert_int_equal(pipe(out), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct store *s = NULL;
		if (setgid(65534) || setuid(65534))
			_exit(1);
		int rc = store_open(folder, &s, why, sizeof why);
		_exit(rc == -EACCES && write(out[1], why, sizeof why) == (ssize_t)sizeof why ? 0 : 1);
	}
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(read(out[0], why, sizeof why), sizeof why);
	assert_non_null(strstr(why, "is not writable by user nobody"));
	close(out[0]);
	close(out[1]);
}

static int before_each(void **state)
{
	(void)state;
	fresh_folder();
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup(fn, before_each)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keeps_the_pair),
		TEST(notices_changes),
		TEST(forgets_what_was_deleted),
		TEST(reads_plain_files),
		TEST(loses_no_key_of_an_operator),
		TEST(refuses_what_does_not_fit),
		TEST(writes_inside_only),
		TEST(keeps_the_account),
		TEST(understands_broken_accounts),
		TEST(keeps_the_state),
		TEST(locks_out_others),
		TEST(opens_folders),
		TEST(says_who_cannot_write),
	};
	return cmocka_run_group_tests(tests, make_pairs, drop_pairs);
}
