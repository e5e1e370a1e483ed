/* SPDX-License-Identifier: MIT */
/*
 * fanin_check - is every event that was acknowledged in the hub's files, and none of them twice?
 *
 *     fanin_check REPORT FILE...
 *
 * REPORT has a line for each edge: its name, the newest number that was acknowledged, the newest there ever
 * was.  Prints JSON: how many lines, acknowledged events, of those missing, lines that are there twice, and
 * lines that no edge made (beyond its newest, not whole).  Ends with 1 if one of the last three is not 0.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EDGES = 100000, TOLD = 10 };
static const char before[] = "{\"edge\":\"edge-", between[] = "\",\"n\":";

struct edge {
	uint64_t acked, made;
	uint8_t *seen; /* a bit each */
};

struct counts {
	uint64_t lines, acked, missing, twice, foreign;
};

static struct edge edges[EDGES + 1];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "fanin_check: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void tell(uint64_t n, const char *what, const char *line)
{
	if (n < TOLD)
		fprintf(stderr, "fanin_check: %s: %.*s\n", what, (int)strcspn(line, "\n"), line);
}

static void read_report(const char *path, struct counts *c)
{
	FILE *file = fopen(path, "re");
	unsigned number;
	unsigned long long acked, made;

	if (!file)
		die(path);
	while (fscanf(file, "edge-%u %llu %llu\n", &number, &acked, &made) == 3) {
		if (number == 0 || number > EDGES || acked > made) {
			errno = EINVAL;
			die(path);
		}
		edges[number] = (struct edge){acked, made, calloc(1, made / 8 + 1)};
		if (!edges[number].seen)
			die(path);
		c->acked += acked;
	}
	if (!feof(file)) {
		errno = EINVAL;
		die(path);
	}
	fclose(file);
}

static void check_line(const char *line, size_t len, struct counts *c)
{
	char *end;
	uint64_t number = 0, n = 0;

	c->lines++;
	bool good = strncmp(line, before, sizeof before - 1) == 0;
	if (good) {
		number = strtoull(line + sizeof before - 1, &end, 10);
		good = strncmp(end, between, sizeof between - 1) == 0 && number <= EDGES;
	}
	if (good)
		n = strtoull(end + sizeof between - 1, NULL, 10);
	if (!good || n == 0 || n > edges[number].made || len < 3 || strcmp(line + len - 3, "\"}\n") != 0) {
		tell(c->foreign++, "nobody's", line);
		return;
	}
	uint8_t *at = &edges[number].seen[n / 8], bit = (uint8_t)(1u << n % 8);
	if (*at & bit)
		tell(c->twice++, "twice", line);
	*at |= bit;
}

static void read_file(const char *path, struct counts *c)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	if (!file)
		die(path);
	while ((len = getline(&line, &size, file)) > 0)
		check_line(line, (size_t)len, c);
	if (ferror(file))
		die(path);
	free(line);
	fclose(file);
}

static void find_missing(struct counts *c)
{
	char text[64];

	for (unsigned i = 1; i <= EDGES; i++) {
		for (uint64_t n = 1; n <= edges[i].acked; n++) {
			if (edges[i].seen[n / 8] & 1u << n % 8)
				continue;
			snprintf(text, sizeof text, "edge-%05u %llu", i, (unsigned long long)n);
			tell(c->missing++, "missing", text);
		}
	}
}

int main(int argc, char **argv)
{
	struct counts c = {0};

	if (argc < 3)
		return 2;
	read_report(argv[1], &c);
	for (int i = 2; i < argc; i++)
		read_file(argv[i], &c);
	find_missing(&c);
	printf("{\"lines\":%llu,\"acked\":%llu,\"missing\":%llu,\"twice\":%llu,\"foreign\":%llu}\n",
	       (unsigned long long)c.lines, (unsigned long long)c.acked, (unsigned long long)c.missing,
	       (unsigned long long)c.twice, (unsigned long long)c.foreign);
	return c.missing || c.twice || c.foreign;
}
