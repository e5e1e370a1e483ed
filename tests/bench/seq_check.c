/* SPDX-License-Identifier: MIT */
/*
 * seq_check - counts the datagrams of udp_gen in a file of lines.
 *
 *   seq_check FILE OFFSET FIRST COUNT STEP
 *
 * Of the numbers FIRST, FIRST+STEP, ... (COUNT of them) prints how many were found from OFFSET on, how many
 * of them more than once, how many lines were something else, and the offset behind the last whole line.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	struct stat st;

	if (argc != 6) {
		fprintf(stderr, "usage: seq_check FILE OFFSET FIRST COUNT STEP\n");
		return 2;
	}
	FILE *f = fopen(argv[1], "re");
	size_t offset = strtoull(argv[2], NULL, 10);
	uint64_t first = strtoull(argv[3], NULL, 10), count = strtoull(argv[4], NULL, 10);
	uint64_t step = strtoull(argv[5], NULL, 10), found = 0, twice = 0, other = 0;
	uint8_t *seen = calloc(1, count + 1);
	if (!f || fstat(fileno(f), &st) < 0 || !seen) {
		perror("seq_check");
		return 1;
	}
	size_t size = (size_t)st.st_size;
	const char *text = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fileno(f), 0) : "";
	if (text == MAP_FAILED) {
		perror("seq_check: mmap");
		return 1;
	}
	while (offset < size) {
		const char *line = text + offset;
		const char *end = memchr(line, '\n', size - offset);
		if (!end)
			break;
		uint64_t seq = 0;
		bool right = end - line > 17 && memcmp(line, "{\"seq\":", 7) == 0 && end[-1] == '}';
		for (int i = 7; right && i < 17; i++)
			seq = seq * 10 + (uint64_t)(line[i] - '0');
		if (!right || seq < first || (seq - first) % step || (seq - first) / step >= count)
			other++;
		else if (seen[(seq - first) / step]++)
			twice++;
		else
			found++;
		offset = (size_t)(end - text) + 1;
	}
	printf("%llu %llu %llu %zu\n", (unsigned long long)found, (unsigned long long)twice,
	       (unsigned long long)other, offset);
	return 0;
}
