/* SPDX-License-Identifier: MIT */
/* table - see table.h. */
#include <stdarg.h>
#include <stdlib.h>
#include "core/cli/table.h"

/* Characters of UTF-8 text, near enough its width. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_add(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	char **cells = reallocarray(t->cells, t->n + 1, sizeof *cells);
	if (!cells)
		return;
	t->cells = cells;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	size_t column = t->n % t->columns, n = text ? width(text) : 0;
	if (n > t->widths[column])
		t->widths[column] = n;
	cells[t->n++] = text;
}

void table_print(const struct table *t, unsigned indent, FILE *to)
{
	for (size_t row = 0; row + t->columns <= t->n; row += t->columns) {
		size_t last = t->columns;
		while (last > 0 && (!t->cells[row + last - 1] || !*t->cells[row + last - 1]))
			last--;
		fprintf(to, "%*s", (int)indent, "");
		for (size_t i = 0; i < last; i++) {
			const char *text = t->cells[row + i] ? t->cells[row + i] : "";
			size_t fill = i + 1 < last ? t->widths[i] - width(text) + 2 : 0;
			fprintf(to, "%s%*s", text, (int)fill, "");
		}
		fputc('\n', to);
	}
}

void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){.columns = t->columns};
}
