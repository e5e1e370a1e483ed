/* SPDX-License-Identifier: MIT */
/* Shared objects made while a test runs, in a scratch folder of its own.  Needs a C compiler, $CC or cc, and
 * runs in the top folder of the sources if srcdir does not say where that is. */
#pragma once
#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

static char scratch[128];

__attribute__((format(printf, 1, 2), unused)) static char *text_of(const char *fmt, ...)
{
	char *text;
	va_list ap;
	va_start(ap, fmt);
	assert_true(vasprintf(&text, fmt, ap) >= 0);
	va_end(ap);
	return text;
}

__attribute__((unused)) static void write_file(const char *path, const void *data, size_t size, unsigned mode)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

__attribute__((unused)) static char *read_whole(const char *path, size_t *size)
{
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	struct stat st;
	assert_int_equal(fstat(fileno(f), &st), 0);
	char *data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	*size = fread(data, 1, (size_t)st.st_size, f);
	assert_int_equal(*size, st.st_size);
	fclose(f);
	return data;
}

/* Build dir/name from source text with further compiler flags; mode 0755. */
__attribute__((unused)) static void build(const char *dir, const char *name, const char *flags,
					  const char *source)
{
	const char *cc = getenv("CC"), *srcdir = getenv("srcdir"); /* set by make check */
	char *c_file = text_of("%s/%s.c", scratch, name), *so = text_of("%s/%s", dir, name);
	char *command = text_of(
		"%s -std=gnu11 -shared -fPIC -fvisibility=hidden -g0 -I'%s/sdk/include' -o '%s' '%s' %s",
		cc && *cc ? cc : "cc", srcdir ? srcdir : ".", so, c_file, flags);

	write_file(c_file, source, strlen(source), 0644);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
	assert_int_equal(chmod(so, 0755), 0);
	free(command);
	free(so);
	free(c_file);
}

__attribute__((unused)) static int make_scratch(void **state)
{
	(void)state;
	umask(022);
	const char *tmp = getenv("TMPDIR");
	snprintf(scratch, sizeof scratch, "%s/semstreams-test-XXXXXX",
		 tmp && strlen(tmp) < 64 ? tmp : "/tmp");
	return mkdtemp(scratch) ? 0 : -1;
}

__attribute__((unused)) static int remove_scratch(void **state)
{
	(void)state;
	char command[256];
	snprintf(command, sizeof command, "rm -rf '%s'", scratch);
	return system(command);
}
