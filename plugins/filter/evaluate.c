/* SPDX-License-Identifier: MIT */
/* evaluate - run compiled conditions against the fields of one event; see condition.h.  On the instance's
 * loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <semstreams/ext/fields.h>
#include "condition.h"

static bool accepts(const struct test *t, int order)
{
	return t->accept >> (order + 1) & 1;
}

static int string_of(struct conditions *c, const struct ss_field *f, const char **text, size_t *len)
{
	return ss_scratch_text(&c->scratch, &c->fields, f, text, len);
}

static int text_order(const char *a, size_t na, const char *b, size_t nb)
{
	int order = memcmp(a, b, na < nb ? na : nb);

	return order ? (order > 0) - (order < 0) : (na > nb) - (na < nb);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A match somewhere in a string that is not short, for as long as it may take. */
static int regex_search(struct conditions *c, const struct test *t, const char *text, size_t len)
{
	uint64_t begin = cpu_ns();
	int r = PCRE2_ERROR_NOMATCH;
	size_t starts = t->refers ? 4 : 8, next;

	for (size_t at = 0; r == PCRE2_ERROR_NOMATCH && at <= len; at = next) {
		if (at > 0 && cpu_ns() - begin > REGEX_CPU_NS) {
			r = PCRE2_ERROR_MATCHLIMIT;
			break;
		}
		next = at + starts;
		if (!t->refers && starts < REGEX_STARTS)
			starts *= 2;
		while (next < len && ((uint8_t)text[next] & 0xc0) == 0x80)
			next++; /* not within a character */
		pcre2_set_offset_limit(c->context, next - 1);
		r = pcre2_match(t->regex, (PCRE2_SPTR)text, len, at, 0, c->match, c->context);
	}
	pcre2_set_offset_limit(c->context, PCRE2_UNSET);
	return r;
}

/* Does it match, the whole string if so wanted?  1, 0, -E2BIG. */
static int regex_match(struct conditions *c, const struct test *t, const char *text, size_t len, bool whole)
{
	int r;

	if (!t->plain && len > REGEX_SUBJECT_MAX)
		return -E2BIG;
	pcre2_set_match_limit(c->context, t->plain ? REGEX_PLAIN_STEPS : REGEX_STEPS(len));
	if (t->plain || t->anchored || len <= REGEX_SHORT)
		r = pcre2_match(t->regex, (PCRE2_SPTR)text, len, 0,
				whole ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0, c->match, c->context);
	else
		r = regex_search(c, t, text, len);
	if (r >= 0)
		return 1;
	return r == PCRE2_ERROR_NOMATCH ? 0 : -E2BIG;
}

static int test_string(struct conditions *c, const struct test *t, const struct ss_field *f)
{
	const char *text;
	size_t len;

	if (f->type != SS_JSON_STRING)
		return t->other;
	int r = string_of(c, f, &text, &len);
	if (r < 0)
		return r;
	if (t->regex) {
		r = regex_match(c, t, text, len, false);
		return r < 0 ? r : (r != 0) != t->invert;
	}
	const struct text *want = &t->string;
	switch (t->kind) {
	case TEST_CONTAINS:
		return memmem(text, len, want->bytes, want->len) != NULL;
	case TEST_STARTS:
		return len >= want->len && memcmp(text, want->bytes, want->len) == 0;
	case TEST_ENDS:
		return len >= want->len && memcmp(text + len - want->len, want->bytes, want->len) == 0;
	default:
		return accepts(t, text_order(text, len, want->bytes, want->len));
	}
}

static bool list_has_number(const struct value_list *list, const struct ss_number *n)
{
	size_t low = 0, high = list->n_numbers;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = ss_number_compare(n, &list->numbers[mid]);

		if (order == 0)
			return true;
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

static bool list_has_string(const struct value_list *list, const char *text, size_t len)
{
	size_t low = 0, high = list->n_strings;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = text_order(text, len, list->strings[mid].bytes, list->strings[mid].len);

		if (order == 0)
			return true;
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

/* The field's number, parsed at most once per event. */
static const struct ss_number *number_of(struct conditions *c, uint16_t field, const struct ss_field *f)
{
	struct cached *cached = &c->cache[field];

	if (cached->event != c->event) {
		ss_number_read(&c->fields, f, &cached->number);
		cached->event = c->event;
	}
	return &cached->number;
}

static int test_in(struct conditions *c, const struct test *t, const struct ss_field *f)
{
	const char *text;
	size_t len;
	int found = 0;

	if (f->type == SS_JSON_NUMBER) {
		found = list_has_number(t->list, number_of(c, t->field, f));
	} else if (f->type == SS_JSON_STRING) {
		found = string_of(c, f, &text, &len);
		if (found == 0)
			found = t->regex ? regex_match(c, t, text, len, false)
					 : list_has_string(t->list, text, len);
	} else {
		found = t->list->type[f->type];
	}
	return found < 0 ? found : (found != 0) != t->invert;
}

/* From the opening quote of a string to behind its closing one. */
static const char *skip_string(const char *p, const char *end, uint16_t *flags)
{
	for (p++; p < end && *p != '"'; p++) {
		if (*p == '\\') {
			*flags |= SS_FIELD_ESCAPED;
			p++;
		}
	}
	return p < end ? p + 1 : end;
}

/* Skip an array or object from its opening bracket. */
static const char *skip_nested(const char *p, const char *end)
{
	uint16_t flags = 0;
	int depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p, end, &flags);
			continue;
		}
		depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
		p++;
	} while (depth > 0 && p < end);
	return p;
}

/* The next element of an array that the reader has found well-formed; *at moves behind it. */
static bool next_element(const char **at, const char *end, struct ss_field *e)
{
	const char *p = *at;

	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r' || *p == ','))
		p++;
	if (p >= end)
		return false;
	*e = (struct ss_field){.text = p};
	if (*p == '"') {
		p = skip_string(p, end, &e->flags);
		e->type = SS_JSON_STRING;
		e->text++;
		e->len = (uint32_t)(p - 1 - e->text);
	} else if (*p == '[' || *p == '{') {
		e->type = *p == '[' ? SS_JSON_ARRAY : SS_JSON_OBJECT;
		p = skip_nested(p, end);
		e->len = (uint32_t)(p - e->text);
	} else {
		e->flags = SS_FIELD_INTEGER;
		for (; p < end && *p != ',' && *p != ' ' && *p != '\t' && *p != '\n' && *p != '\r'; p++)
			if (*p == '.' || *p == 'e' || *p == 'E')
				e->flags = 0;
		e->len = (uint32_t)(p - e->text);
		e->type = *e->text == 'n'   ? SS_JSON_NULL
			  : *e->text == 't' ? SS_JSON_TRUE
			  : *e->text == 'f' ? SS_JSON_FALSE
					    : SS_JSON_NUMBER;
	}
	*at = p;
	return true;
}

/* Does an element of the array equal the test's value? */
static int array_contains(struct conditions *c, const struct test *t, const struct ss_field *f)
{
	const char *at = f->text + 1, *end = f->text + f->len - 1, *text;
	struct ss_number number;
	struct ss_field e;
	size_t len;

	while (next_element(&at, end, &e)) {
		int r = 0;

		if (e.type != t->type)
			continue;
		if (e.type == SS_JSON_NUMBER) {
			ss_number_read(&c->fields, &e, &number);
			r = ss_number_compare(&number, &t->number) == 0;
		} else if (e.type == SS_JSON_STRING) {
			r = string_of(c, &e, &text, &len);
			if (r == 0 && t->regex)
				r = regex_match(c, t, text, len, true);
			else if (r == 0)
				r = text_order(text, len, t->string.bytes, t->string.len) == 0;
		} else {
			r = 1;
		}
		if (r)
			return r;
	}
	return 0;
}

static int test_length(struct conditions *c, const struct test *t, const struct ss_field *f)
{
	struct ss_number n = {.integer = true};
	const char *text;
	size_t len;

	if (f->type == SS_JSON_STRING) {
		int r = string_of(c, f, &text, &len);
		if (r < 0)
			return r;
		for (size_t i = 0; i < len; i++)
			n.i += ((uint8_t)text[i] & 0xc0) != 0x80;
	} else if (f->type == SS_JSON_ARRAY) {
		const char *at = f->text + 1, *end = f->text + f->len - 1;
		struct ss_field e;
		while (next_element(&at, end, &e))
			n.i++;
	} else {
		return t->other;
	}
	n.d = (double)n.i;
	return accepts(t, ss_number_compare(&n, &t->number));
}

static int run_test(struct conditions *c, const struct test *t, const struct ss_field *f)
{
	if (f->type == SS_JSON_MISSING)
		return t->missing;
	switch (t->kind) {
	case TEST_NUMBER:
		if (f->type != SS_JSON_NUMBER)
			return t->other;
		return accepts(t, ss_number_compare(number_of(c, t->field, f), &t->number));
	case TEST_EXISTS:
		return !t->missing;
	case TEST_TYPE:
		return (f->type == t->type) != t->invert;
	case TEST_IN:
		return test_in(c, t, f);
	case TEST_CONTAINS:
		if (f->type == SS_JSON_ARRAY)
			return array_contains(c, t, f);
		return t->type == SS_JSON_STRING ? test_string(c, t, f) : t->other;
	case TEST_ARRAY_CONTAINS:
		return f->type == SS_JSON_ARRAY ? array_contains(c, t, f) : t->other;
	case TEST_LENGTH:
		return test_length(c, t, f);
	default:
		return test_string(c, t, f);
	}
}

int conditions_eval(struct conditions *c, const struct ss_field *fields)
{
	int at = c->entry;

	c->event++;
	while (at >= 0) {
		const struct test *t = &c->tests[at];
		int r = run_test(c, t, &fields[t->field]);

		if (r < 0)
			return r;
		at = r ? t->yes : t->no;
	}
	return at == CONDITION_TRUE;
}
