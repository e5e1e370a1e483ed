/* SPDX-License-Identifier: MIT */
/*
 * fields_bench - what it costs to read two fields of a document: the field reader, a plain scan of the whole
 * grammar, and Jansson, taking turns of less than a millisecond.  Prints a table of
 * ns per document, median and best of the rounds.
 *
 * Each kind of document comes in many variants, so that no branch predictor learns one by heart.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <jansson.h>
#include <semstreams/ext/fields.h>
#include "core/fields/fields.h"

enum { VARIANTS = 512, ROUNDS = 200, MAX_TEXT = 4096 };

struct document {
	char *text;
	size_t len;
};

struct kind {
	const char *name;
	void (*make)(char *text, unsigned variant);
	bool varied; /* false: the same document each time */
	struct document documents[VARIANTS];
};

/* ---- the documents
 * --------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static unsigned pick(unsigned n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (unsigned)((random_state * UINT64_C(2685821657736338717) >> 32) * n >> 32);
}

static const char *word(void)
{
	static const char *const words[] = {
		"temperature", "humidity", "pressure",   "vibration", "a",    "north-hall-12",
		"ok",          "warning",  "calibrated", "x",         "pump", "conveyor belt 4"};
	return words[pick(sizeof words / sizeof words[0])];
}

static int members(char *text, unsigned variant)
{
	if (variant == 0)
		return sprintf(text,
			       "\"seq\":123456,\"sensor\":\"temperature\",\"location\":\"a\",\"value\":72.5,"
			       "\"ts\":1763892000123");
	return sprintf(text,
		       "\"seq\":%u,\"sensor\":\"%s\",\"location\":\"%s\",\"value\":%.*f,\"ts\":1763892%06u",
		       pick(10000000), word(), word(), (int)pick(4), pick(100000) / 100.0, pick(1000000));
}

static void make_small(char *text, unsigned variant)
{
	text += sprintf(text, "{");
	text += members(text, variant);
	sprintf(text, "}");
}

static void make_large(char *text, unsigned variant)
{
	char *at = text;
	at += sprintf(at, "{");
	at += members(at, variant);
	at += sprintf(at,
		      ",\"device\":{\"id\":\"%s-%u\",\"firmware\":\"2.%u.%u\",\"uptime\":%u,\"online\":true,"
		      "\"parent\":null,"
		      "\"position\":{\"x\":%.2f,\"y\":%.2f,\"z\":%.1f}}",
		      word(), pick(1000), pick(20), pick(100), pick(1000000), pick(9999) / 100.0,
		      pick(9999) / 100.0, pick(99) / 10.0);
	at += sprintf(
		at,
		",\"description\":\"Measured at the outlet of the second cooling stage, averaged over %u s\"",
		pick(100));
	at += sprintf(at, ",\"operator\":\"shift %u, %s and %s\",\"samples\":[", pick(9), word(), word());
	for (unsigned i = 0; i < 40; i++)
		at += sprintf(at, "%s%.*f", i ? "," : "", (int)pick(3), pick(20000) / 100.0);
	at += sprintf(at, "],\"tags\":[\"%s\",\"%s\",\"%s\"],\"note\":\"", word(), word(), word());
	while (at - text < 990)
		at += sprintf(at, "%s ", word());
	sprintf(at, "\"}");
}

/* The large one as people print it, with blanks and line breaks. */
static void make_pretty(char *text, unsigned variant)
{
	char compact[MAX_TEXT];
	make_large(compact, variant);
	json_t *root = json_loads(compact, 0, NULL);
	char *printed = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	snprintf(text, MAX_TEXT, "%s", printed);
	free(printed);
	json_decref(root);
}

/* Much text that is not ASCII, and escapes. */
static void make_text(char *text, unsigned variant)
{
	text += sprintf(text, "{");
	text += members(text, variant);
	text += sprintf(text, ",\"text\":\"");
	for (unsigned i = 0; i < 60; i++)
		text += sprintf(text, "%s ",
				(const char *[]){"Gr\xc3\xb6\xc3\x9f"
						 "e",
						 "\xe6\xb8\xa9\xe5\xba\xa6", "\\\"ok\\\"", "na\\u00efve",
						 "plain", "\xf0\x9f\x98\x80", "b\xc3\xa4r"}[pick(7)]);
	sprintf(text, "\"}");
}

static struct kind kinds[] = {
	{"90 B, always the same", make_small, false, {{0}}}, {"90 B", make_small, true, {{0}}},
	{"1 KB, always the same", make_large, false, {{0}}}, {"1 KB", make_large, true, {{0}}},
	{"1 KB, pretty-printed", make_pretty, true, {{0}}},  {"text, not ASCII", make_text, true, {{0}}},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void make_documents(struct kind *kind)
{
	static char text[MAX_TEXT];
	random_state = 88172645463325252u;
	for (unsigned i = 0; i < VARIANTS; i++) {
		kind->make(text, kind->varied ? i : 0);
		if (!kind->varied)
			random_state = 88172645463325252u;
		kind->documents[i].len = strlen(text);
		kind->documents[i].text = malloc(strlen(text));
		if (!kind->documents[i].text)
			abort();
		memcpy(kind->documents[i].text, text, strlen(text));
	}
}

/* ---- a plain scan, byte by byte, without looking anything up
 * --------------------------------------------------- */

static const char *plain_value(const char *p, const char *end, unsigned depth);

static const char *plain_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

static const char *plain_string(const char *p, const char *end)
{
	if (p == end || *p++ != '"')
		return NULL;
	while (p < end) {
		const unsigned char c = (unsigned char)*p++;
		if (c == '"')
			return p;
		if (c < 0x20)
			return NULL;
		if (c == '\\') {
			if (p == end || !strchr("\"\\/bfnrtu", *p))
				return NULL;
			p += *p == 'u' ? 5 : 1;
		}
	}
	return NULL;
}

static const char *plain_digits(const char *p, const char *end)
{
	const char *from = p;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p > from ? p : NULL;
}

static const char *plain_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	p = p < end && *p == '0' ? p + 1 : plain_digits(p, end);
	if (p && p < end && *p == '.')
		p = plain_digits(p + 1, end);
	if (p && p < end && (*p == 'e' || *p == 'E')) {
		p++;
		p = plain_digits(p + (p < end && (*p == '+' || *p == '-')), end);
	}
	return p;
}

static const char *plain_container(const char *p, const char *end, unsigned depth)
{
	const char close = *p == '{' ? '}' : ']';
	p = plain_blanks(p + 1, end);
	if (p < end && *p == close)
		return p + 1;
	while (p < end) {
		if (close == '}') {
			p = plain_string(plain_blanks(p, end), end);
			if (!p || (p = plain_blanks(p, end)) == end || *p++ != ':')
				return NULL;
		}
		p = plain_value(plain_blanks(p, end), end, depth);
		if (!p || (p = plain_blanks(p, end)) == end)
			return NULL;
		if (*p == close)
			return p + 1;
		if (*p++ != ',')
			return NULL;
	}
	return NULL;
}

static const char *plain_value(const char *p, const char *end, unsigned depth)
{
	if (p == end || depth > 64)
		return NULL;
	switch (*p) {
	case '{':
	case '[':
		return plain_container(p, end, depth + 1);
	case '"':
		return plain_string(p, end);
	case 't':
	case 'n':
		return end - p >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0) ? p + 4
												: NULL;
	case 'f':
		return end - p >= 5 && memcmp(p, "false", 5) == 0 ? p + 5 : NULL;
	default:
		return plain_number(p, end);
	}
}

/* ---- the candidates
 * -------------------------------------------------------------------------------------------- */

/* Each is: is the sensor "temperature", and what is the value?  Returns something that depends on it. */

static struct ss_reader *reader;

static double with_fields(const struct document *d)
{
	struct ss_field out[2];
	double value = 0;
	if (fields_service.read(NULL, reader, d->text, d->len, out, NULL))
		abort();
	if (out[0].len == 11 && memcmp(out[0].text, "temperature", 11) == 0)
		fields_service.number(NULL, &out[1], &value);
	return value;
}

static double with_fields_only(const struct document *d)
{
	struct ss_field out[2];
	if (fields_service.read(NULL, reader, d->text, d->len, out, NULL))
		abort();
	return out[0].len + out[1].len;
}

static double with_plain_scan(const struct document *d)
{
	const char *end = d->text + d->len;
	const char *p = plain_value(plain_blanks(d->text, end), end, 0);
	if (!p || plain_blanks(p, end) != end)
		abort();
	return 1;
}

static double with_jansson(const struct document *d)
{
	json_t *root = json_loadb(d->text, d->len, JSON_DECODE_ANY, NULL);
	const char *sensor = json_string_value(json_object_get(root, "sensor"));
	double value = 0;
	if (sensor && strcmp(sensor, "temperature") == 0)
		value = json_number_value(json_object_get(root, "value"));
	json_decref(root);
	return value;
}

static const struct candidate {
	const char *name;
	double (*run)(const struct document *);
	unsigned reads; /* of the variants, each round */
} candidates[] = {
	{"fields: read()", with_fields_only, VARIANTS},
	{"fields: read(), compare, number()", with_fields, VARIANTS},
	{"plain scan, finds nothing", with_plain_scan, VARIANTS},
	{"jansson", with_jansson, VARIANTS / 16},
};
enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static volatile double sink;

static double measure(const struct candidate *c, const struct kind *kind)
{
	double sum = 0, from = 0;
	for (unsigned turn = 0; turn < 2; turn++) { /* the first one warms up */
		from = now_ns();
		for (unsigned i = 0; i < c->reads; i++)
			sum += c->run(&kind->documents[i]);
	}
	const double ns = (now_ns() - from) / c->reads;
	sink = sum;
	return ns;
}

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* With an argument: only candidate number argv[1] on kind number argv[2], for counting instructions. */
int main(int argc, char **argv)
{
	static double ns[KINDS][CANDIDATES][ROUNDS];
	if (fields_service.compile(NULL, (const char *[]){"sensor", "value"}, 2, &reader, NULL))
		return 1;
	for (unsigned k = 0; k < KINDS; k++)
		make_documents(&kinds[k]);
	if (argc == 3) {
		for (unsigned round = 0; round < ROUNDS; round++)
			measure(&candidates[(unsigned)atoi(argv[1]) % CANDIDATES],
				&kinds[(unsigned)atoi(argv[2]) % KINDS]);
	} else {
		for (unsigned round = 0; round < ROUNDS; round++)
			for (unsigned k = 0; k < KINDS; k++)
				for (unsigned c = 0; c < CANDIDATES; c++)
					ns[k][c][round] = measure(&candidates[c], &kinds[k]);
		printf("| two fields, ns per document | document | bytes | median | best "
		       "|\n|---|---|---|---|---|\n");
		for (unsigned k = 0; k < KINDS; k++)
			for (unsigned c = 0; c < CANDIDATES; c++) {
				qsort(ns[k][c], ROUNDS, sizeof(double), by_value);
				size_t bytes = 0;
				for (unsigned i = 0; i < VARIANTS; i++)
					bytes += kinds[k].documents[i].len;
				printf("| %s | %s | %zu | %.0f | %.0f |\n", candidates[c].name, kinds[k].name,
				       bytes / VARIANTS, ns[k][c][ROUNDS / 2], ns[k][c][0]);
			}
	}
	for (unsigned k = 0; k < KINDS; k++)
		for (unsigned i = 0; i < VARIANTS; i++)
			free(kinds[k].documents[i].text);
	fields_service.free(NULL, reader);
	return 0;
}
