/* SPDX-License-Identifier: MIT */
/*
 * standalone - runs a fuzz target over its corpus where there is no fuzzer, as part of "make check"; prints
 * TAP. Arguments are files; without any, all of $srcdir/tests/fuzz/corpus/<noun> for the program fuzz_<noun>.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The file's bytes in a block of exactly their size, so that a sanitizer sees the first byte read beyond. */
static uint8_t *slurp(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rbe");
	if (!f)
		return NULL;
	uint8_t *data = NULL;
	long end;
	if (fseek(f, 0, SEEK_END) == 0 && (end = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
		data = malloc((size_t)end + !end);
		*size = (size_t)end;
		if (data && fread(data, 1, *size, f) != *size) {
			free(data);
			data = NULL;
		}
	}
	fclose(f);
	return data;
}

static int run(unsigned number, const char *path)
{
	size_t size;
	uint8_t *data = slurp(path, &size);
	if (!data) {
		printf("not ok %u - cannot read %s\n", number, path);
		return 1;
	}
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	printf("ok %u - %s\n", number, path);
	fflush(stdout);
	return 0;
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		int failed = 0;
		printf("1..%d\n", argc - 1);
		for (int i = 1; i < argc; i++)
			failed |= run((unsigned)i, argv[i]);
		return failed;
	}

	const char *srcdir = getenv("srcdir"), *slash = strrchr(argv[0], '/'),
		   *name = slash ? slash + 1 : argv[0];
	char dir[1024], path[2048];
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	snprintf(dir, sizeof dir, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", name);

	struct dirent **entries;
	int n = scandir(dir, &entries, visible, alphasort);
	if (n <= 0) {
		printf("1..1\nnot ok 1 - no corpus in %s\n", dir);
		return 1;
	}
	int failed = 0;
	printf("1..%d\n", n);
	fflush(stdout);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
		failed |= run((unsigned)i + 1, path);
		free(entries[i]);
	}
	free(entries);
	return failed;
}
