/* SPDX-License-Identifier: MIT */
/*
 * diag - what is wrong with a configuration: collected, so that all of it is told at once.
 * Used by one thread.
 */
#include "core/config/diag.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <semstreams/base/utf8.h>
#include "core/admin/hidden.h"

void diag_init(struct diag *d)
{
	*d = (struct diag){0};
}

void diag_done(struct diag *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->items[i].file);
		free(d->items[i].pointer);
		free(d->items[i].text);
	}
	free(d->items);
	diag_init(d);
}

/* Copy with control bytes (C1 too) and bad UTF-8 as \xNN, cut at DIAG_MAX_TEXT. */
static char *visible(const char *s)
{
	size_t len = strnlen(s, DIAG_MAX_TEXT + 1);
	char *copy = malloc(4 * len + sizeof "...");
	if (!copy)
		return NULL;

	char *to = copy;
	for (size_t i = 0; i < len;) {
		uint32_t code;
		size_t n = ss_utf8_next(s + i, len - i, &code);
		bool plain = n && code >= 0x20 && (code < 0x7f || code > 0x9f);
		n = n ? n : 1;
		if (i + n > DIAG_MAX_TEXT) {
			to = stpcpy(to, "...");
			break;
		}
		if (plain)
			to = mempcpy(to, s + i, n);
		else
			for (size_t k = 0; k < n; k++)
				to += sprintf(to, "\\x%02x", (unsigned char)s[i + k]);
		i += n;
	}
	*to = '\0';
	return copy;
}

static bool room_for_one_more(struct diag *d)
{
	if (d->n < d->allocated)
		return true;
	if (d->n >= DIAG_MAX_ITEMS)
		return false;
	size_t allocated = d->allocated ? 2 * d->allocated : 16;
	struct diag_item *items = realloc(d->items, allocated * sizeof *items);
	if (!items)
		return false;
	d->items = items;
	d->allocated = allocated;
	return true;
}

void diag_addv(struct diag *d, enum diag_level level, const char *file, struct place place,
	       const char *pointer, const char *fmt, va_list ap)
{
	d->errors += level == DIAG_ERROR;
	d->warnings += level == DIAG_WARN;
	if (d->n >= DIAG_MAX_ITEMS || !room_for_one_more(d)) {
		d->lost++;
		return;
	}

	char text[DIAG_MAX_TEXT + 2]; /* one byte too long is enough for visible() to see that it was cut */
	char shown[sizeof text];
	vsnprintf(text, sizeof text, fmt, ap);
	struct diag_item item = {
		.level = level,
		.file = file ? visible(file) : NULL,
		.place = place,
		.pointer = pointer ? visible(pointer) : NULL,
		.text = visible(hidden_any() ? hidden_text(text, shown, sizeof shown) : text),
	};
	if ((file && !item.file) || (pointer && !item.pointer) || !item.text) {
		free(item.file);
		free(item.pointer);
		free(item.text);
		d->lost++;
		return;
	}
	d->items[d->n++] = item;
}

void diag_add(struct diag *d, enum diag_level level, const char *file, struct place place,
	      const char *pointer, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	diag_addv(d, level, file, place, pointer, fmt, ap);
	va_end(ap);
}

static int by_place(const void *a, const void *b)
{
	const struct diag_item *x = *(const struct diag_item *const *)a;
	const struct diag_item *y = *(const struct diag_item *const *)b;
	int files = strcmp(x->file ? x->file : "", y->file ? y->file : "");
	if (files)
		return files;
	if (x->place.line != y->place.line)
		return x->place.line < y->place.line ? -1 : 1;
	if (x->place.column != y->place.column)
		return x->place.column < y->place.column ? -1 : 1;
	return x < y ? -1 : 1; /* as they were added */
}

static void print_item(const struct diag_item *item, FILE *to)
{
	static const char *const names[] = {[DIAG_ERROR] = "error",
					    [DIAG_WARN] = "warning",
					    [DIAG_SKIP] = "skipped",
					    [DIAG_HINT] = "hint"};
	fputs(names[item->level], to);
	if (item->file)
		fprintf(to, " %s", item->file);
	if (item->file && item->place.line)
		fprintf(to, ":%u:%u", item->place.line, item->place.column);
	if (item->pointer && *item->pointer)
		fprintf(to, " %s", item->pointer);
	fprintf(to, "  %s\n", item->text);
}

void diag_print(const struct diag *d, FILE *to)
{
	const struct diag_item **order = d->n ? malloc(d->n * sizeof(const struct diag_item *)) : NULL;
	if (order) {
		for (size_t i = 0; i < d->n; i++)
			order[i] = &d->items[i];
		qsort(order, d->n, sizeof(const struct diag_item *), by_place);
	}
	for (size_t i = 0; i < d->n; i++)
		print_item(order ? order[i] : &d->items[i], to);
	free(order);
	if (d->lost)
		fprintf(to, "error  %zu more problems are not shown\n", d->lost);
}
