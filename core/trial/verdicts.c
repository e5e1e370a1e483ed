/* SPDX-License-Identifier: MIT */
#include "core/trial/verdicts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <semstreams/base/file_atomic.h>
#include <semstreams/base/strbuf.h>

/* ---- text and TAP ---- */

static void print_lines(const char *text, const char *head)
{
	while (text && *text) {
		size_t len = strcspn(text, "\n");
		printf("%s%.*s\n", head, (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void print_tap(const struct verdict *v, size_t number)
{
	printf("%sok %zu - %s: ", v->passed ? "" : "not ", number, v->file);
	for (const char *s = v->name; *s; s++) {
		if (*s == '#' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('\n');
	print_lines(v->text, "# ");
}

static void print_text(const struct verdict *v)
{
	bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	const char *begin = !colour     ? ""
			    : v->passed ? "\033[32m"
					: "\033[31m",
		   *end = colour ? "\033[0m" : "";

	printf("%s%s%s  %s: %s  (%.1f ms)\n", begin, v->passed ? "ok  " : "FAIL", end, v->file, v->name,
	       (double)v->took_ns / 1e6);
	print_lines(v->text, "");
}

int verdicts_add(struct verdicts *all, const char *file, const char *name, bool passed, uint64_t took_ns,
		 char *text)
{
	struct verdict *grown = reallocarray(all->v, all->n + 1, sizeof *grown);
	struct verdict v = {.file = strdup(file),
			    .name = strdup(name),
			    .text = text,
			    .passed = passed,
			    .took_ns = took_ns};

	if (grown)
		all->v = grown;
	if (!grown || !v.file || !v.name) {
		free(v.file);
		free(v.name);
		free(text);
		return -ENOMEM;
	}
	all->v[all->n++] = v;
	all->failed += !passed;
	if (all->form == VERDICTS_TAP)
		print_tap(&v, all->n);
	else
		print_text(&v);
	return 0;
}

void verdicts_end(const struct verdicts *all)
{
	if (all->form == VERDICTS_TAP)
		printf("1..%zu\n", all->n);
	else
		printf("%zu passed, %zu failed\n", all->n - all->failed, all->failed);
}

/* ---- JUnit ---- */

static void add_xml(struct ss_strbuf *to, const char *text)
{
	for (; text && *text; text++) {
		switch (*text) {
		case '<':
			ss_strbuf_text(to, "&lt;");
			break;
		case '>':
			ss_strbuf_text(to, "&gt;");
			break;
		case '&':
			ss_strbuf_text(to, "&amp;");
			break;
		case '"':
			ss_strbuf_text(to, "&quot;");
			break;
		default: /* XML has no other control characters */
			ss_strbuf_char(to, (unsigned char)*text < ' ' && *text != '\n' && *text != '\t'
						   ? '?'
						   : *text);
		}
	}
}

static void add_case(struct ss_strbuf *to, const struct verdict *v)
{
	ss_strbuf_text(to, "    <testcase classname=\"");
	add_xml(to, v->file);
	ss_strbuf_text(to, "\" name=\"");
	add_xml(to, v->name);
	ss_strbuf_printf(to, "\" time=\"%.4f\"", (double)v->took_ns / 1e9);
	if (v->passed) {
		ss_strbuf_text(to, "/>\n");
		return;
	}
	ss_strbuf_text(to, ">\n      <failure message=\"not as expected\">");
	add_xml(to, v->text);
	ss_strbuf_text(to, "</failure>\n    </testcase>\n");
}

/* The cases of one file stand together. */
static void add_suite(struct ss_strbuf *to, const struct verdict *v, size_t n)
{
	size_t failed = 0;
	uint64_t took = 0;

	for (size_t i = 0; i < n; i++) {
		failed += !v[i].passed;
		took += v[i].took_ns;
	}
	ss_strbuf_text(to, "  <testsuite name=\"");
	add_xml(to, v->file);
	ss_strbuf_printf(to, "\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\" time=\"%.4f\">\n",
			 n, failed, (double)took / 1e9);
	for (size_t i = 0; i < n; i++)
		add_case(to, &v[i]);
	ss_strbuf_text(to, "  </testsuite>\n");
}

int verdicts_junit(const struct verdicts *all, const char *file)
{
	struct ss_strbuf xml = {0};
	const char *name;

	ss_strbuf_printf(
		&xml,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"%zu\" failures=\"%zu\">\n",
		all->n, all->failed);
	for (size_t i = 0, n; i < all->n; i += n) {
		for (n = 1; i + n < all->n && strcmp(all->v[i + n].file, all->v[i].file) == 0;)
			n++;
		add_suite(&xml, &all->v[i], n);
	}
	ss_strbuf_text(&xml, "</testsuites>\n");
	int dir = xml.failed ? -ENOMEM : ss_open_folder_of(file, &name);
	int rc = dir < 0 ? dir : ss_file_write(dir, name, xml.bytes, xml.len, 0644);
	if (dir >= 0)
		close(dir);
	ss_strbuf_done(&xml);
	return rc;
}

void verdicts_free(struct verdicts *all)
{
	for (size_t i = 0; i < all->n; i++) {
		free(all->v[i].file);
		free(all->v[i].name);
		free(all->v[i].text);
	}
	free(all->v);
	*all = (struct verdicts){0};
}
