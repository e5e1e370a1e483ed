/* SPDX-License-Identifier: MIT */
/* The module that needs OpenSSL: whatever is found in its place is refused, with the file and what to do. */
#include <sys/resource.h>
#include <gnutls/x509.h>
#include "tests/unit/shared_object.h"
#include "core/tls/tls_trial.h"

static void expect_refusal(const char *file, const char *reason)
{
	char why[512] = "";

	assert_null(tls_trial_open(file, why, sizeof why));
	for (size_t i = 0; i < 2; i++)
		if (!strstr(why, i ? reason : file))
			fail_msg("no '%s' in: %s", i ? reason : file, why);
	assert_non_null(strstr(why, "; "));
	assert_non_null(strstr(why, "install"));
}

static void test_refused(void **state)
{
	char *file = text_of("%s/tls_openssl.so", scratch);
	(void)state;

	expect_refusal(file, "No such file or directory");
	write_file(file, "text", 4, 0755);
	expect_refusal(file, "cannot be loaded (");
	build(scratch, "tls_openssl.so", "", "int nothing;");
	expect_refusal(file, "undefined symbol: semstreams_tls_openssl");
	free(file);
}

/* Nothing is wrong with the module then. */
static void test_no_more_files(void **state)
{
	struct rlimit old, none;
	char why[512] = "";
	(void)state;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	const struct tls_trial *trial = tls_trial_open(TLS_MODULE, why, sizeof why);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_null(trial);
	assert_non_null(strstr(why, TLS_MODULE));
	assert_non_null(strstr(why, "raise the limit RLIMIT_NOFILE"));
	assert_null(strstr(why, "install"));
}

static void expect_other(const char *name, const char *size, const char *version)
{
	char *file = text_of("%s/%s", scratch, name);
	char *source = text_of(
		"#include <stdint.h>\n"
		"struct { uint32_t size; const char *version; void *functions[4]; } "
		"semstreams_tls_openssl __attribute__((visibility(\"default\"))) = {%s, \"%s\", {0}};",
		size, version);

	build(scratch, name, "", source);
	expect_refusal(file, version);
	free(source);
	free(file);
}

static void test_of_another_build(void **state)
{
	(void)state;
	expect_other("older.so", "sizeof semstreams_tls_openssl", "0.0.9");
	expect_other("larger.so", "sizeof semstreams_tls_openssl + 8", PACKAGE_VERSION);
}

static void test_stays(void **state)
{
	char why[512] = "";
	const struct tls_trial *trial = tls_trial_open(TLS_MODULE, why, sizeof why);
	(void)state;

	assert_string_equal(why, "");
	assert_non_null(trial);
	assert_non_null(trial->key);
	assert_non_null(trial->identity);
	assert_non_null(trial->cas);
	assert_ptr_equal(tls_trial_open(NULL, why, sizeof why), trial);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_more_files),
		cmocka_unit_test(test_of_another_build),
		cmocka_unit_test(test_stays),
	};

	return cmocka_run_group_tests_name("tls_trial", tests, make_scratch, remove_scratch);
}
