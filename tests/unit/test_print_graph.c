/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "core/config/config.h"
#include "core/cli/print_graph.h"

static const char *const outputs[] = {"match", "rest", NULL};
static const struct ss_component two_outputs = {.outputs = outputs};

static char *printed(const struct config *c, enum graph_format format)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	assert_non_null(to);
	assert_int_equal(graph_print(c, format, to), 0);
	assert_int_equal(fclose(to), 0);
	return text;
}

static void expect(const struct config *c, enum graph_format format, const char *wanted)
{
	char *text = printed(c, format);
	assert_string_equal(text, wanted);
	free(text);
}

#define INPUT(index, output, ...)                                                                            \
	{                                                                                                    \
		.from = index, .port = output, .limits = { __VA_ARGS__ }                                     \
	}

/* A diamond with a tail, and a component nobody is wired to. */
static struct config_input b_in[] = {INPUT(0, 0, 65536, 64 << 20, OVERFLOW_BLOCK)};
static struct config_input c_in[] = {INPUT(0, 0, 10, 1000, OVERFLOW_DROP_NEWEST)};
static struct config_input d_in[] = {INPUT(1, 1, 7, 2048, OVERFLOW_DROP_OLDEST),
				     INPUT(2, 0, 7, 2048, OVERFLOW_BLOCK)};
static struct config_component components[] = {
	{.id = "a", .type = "in"},
	{.id = "b", .type = "split", .inputs = b_in, .n_inputs = 1, .desc = &two_outputs},
	{.id = "c", .type = "pass", .inputs = c_in, .n_inputs = 1, .worker = "w"},
	{.id = "d", .type = "out", .inputs = d_in, .n_inputs = 2},
	{.id = "e", .type = "alone"},
};
static const struct config config = {.components = components, .n_components = 5};

static void text(void **state)
{
	(void)state;
	expect(&config, GRAPH_TEXT,
	       "a (in, worker a)\n"
	       "    -> b (split, worker b)    65536 events, 64MiB, block\n"
	       "        -> d (out, worker d)  rest, 7 events, 2KiB, drop_oldest\n"
	       "    -> c (pass, worker w)     10 events, 1kB, drop_newest\n"
	       "        -> d (out, worker d)  7 events, 2KiB, block\n"
	       "e (alone, worker e)           (not connected)\n");
}

/* What hangs below a component that was shown is not shown again. */
static void text_shows_a_branch_once(void **state)
{
	(void)state;
	struct config_input e_in[] = {INPUT(3, 0, 1, 1, OVERFLOW_BLOCK)};
	components[4].inputs = e_in;
	components[4].n_inputs = 1;
	char *out = printed(&config, GRAPH_TEXT);
	components[4].n_inputs = 0;
	char *first = strstr(out, "-> e (alone");
	assert_non_null(first);
	assert_null(strstr(first + 1, "-> e (alone"));
	assert_non_null(strstr(first, "(goes on above)"));
	free(out);
}

/* Fan-out into fan-in, thirty times: two to the power of thirty ways through it. */
static void text_of_many_ways_ends(void **state)
{
	(void)state;
	enum { LAYERS = 30 };
	struct config_component many[2 * LAYERS] = {0};
	struct config_input in[2 * LAYERS][2];
	for (size_t i = 0; i < 2 * LAYERS; i++) {
		many[i] = (struct config_component){.id = "x", .type = "y"};
		for (size_t k = 0; i >= 2 && k < 2; k++)
			in[i][k] = (struct config_input)INPUT(i / 2 * 2 - 2 + k, 0, 1, 1, OVERFLOW_BLOCK);
		many[i].inputs = in[i];
		many[i].n_inputs = i >= 2 ? 2 : 0;
	}
	char *out = printed(&(struct config){.components = many, .n_components = 2 * LAYERS}, GRAPH_TEXT);
	size_t lines = 0;
	for (const char *s = out; (s = strchr(s, '\n')); s++)
		lines++;
	assert_int_equal(lines, 2 + 4 * (LAYERS - 1)); /* two starts, and each edge once */
	free(out);
}

static void dot(void **state)
{
	(void)state;
	expect(&config, GRAPH_DOT,
	       "digraph semstreams {\n  rankdir=LR;\n  node [shape=box];\n"
	       "  n0 [label=\"a\\nin\"];\n  n1 [label=\"b\\nsplit\"];\n  n2 [label=\"c\\npass\"];\n"
	       "  n3 [label=\"d\\nout\"];\n  n4 [label=\"e\\nalone\"];\n"
	       "  n0 -> n1 [label=\"65536 events\\n64MiB\\nblock\"];\n"
	       "  n0 -> n2 [label=\"10 events\\n1kB\\ndrop_newest\"];\n"
	       "  n1 -> n3 [label=\"rest\\n7 events\\n2KiB\\ndrop_oldest\"];\n"
	       "  n2 -> n3 [label=\"7 events\\n2KiB\\nblock\"];\n"
	       "}\n");
}

static void quoting(void **state)
{
	(void)state;
	struct config_component odd[] = {{.id = "a\"b\\N\n<c>#", .type = "t[]"}};
	const struct config c = {.components = odd, .n_components = 1};
	expect(&c, GRAPH_DOT,
	       "digraph semstreams {\n  rankdir=LR;\n  node [shape=box];\n  n0 [label=\"a\\\"b\\\\N "
	       "<c>#\\nt[]\"];\n}\n");
	expect(&c, GRAPH_MERMAID, "flowchart LR\n  n0[\"a#34;b#92;N #60;c#62;#35;<br/>t#91;#93;\"]\n");
}

static void mermaid(void **state)
{
	(void)state;
	char *out = printed(&config, GRAPH_MERMAID);
	assert_int_equal(strncmp(out, "flowchart LR\n  n0[\"a<br/>in\"]\n", 29), 0);
	assert_non_null(strstr(out, "  n1 -->|\"rest<br/>7 events<br/>2KiB<br/>drop_oldest\"| n3\n"));
	free(out);
}

static void formats(void **state)
{
	(void)state;
	assert_int_equal(graph_format_parse("text"), GRAPH_TEXT);
	assert_int_equal(graph_format_parse("dot"), GRAPH_DOT);
	assert_int_equal(graph_format_parse("mermaid"), GRAPH_MERMAID);
	assert_int_equal(graph_format_parse("svg"), -EINVAL);
	assert_int_equal(graph_format_parse(""), -EINVAL);
	expect(&(struct config){0}, GRAPH_TEXT, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text),
		cmocka_unit_test(text_shows_a_branch_once),
		cmocka_unit_test(text_of_many_ways_ends),
		cmocka_unit_test(dot),
		cmocka_unit_test(quoting),
		cmocka_unit_test(mermaid),
		cmocka_unit_test(formats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
